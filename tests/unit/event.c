/* Unit tests of [event]: registration, who is called and when, typed messages taken apart in place. */
#include "../library.h"

#include "../test.h"

typedef struct heap {
    size_t blocks;
    size_t calls;
    size_t fail_at; /* number of the growing call that fails; 0: none */
} heap;

static heap memory;

static void *heap_move(void *context, void *pointer, size_t old_size, size_t new_size) {
    heap *h = (heap *)context;
    (void)old_size;
    if (new_size && ++h->calls == h->fail_at) return NULL;
    if (!new_size) {
        h->blocks--;
        free(pointer);
        return NULL;
    }
    if (!pointer) h->blocks++;
    return realloc(pointer, new_size);
}

static wss_options options;
static wss__mem mem;
static wss__event_table table;

static void begin(void) {
    memset(&options, 0, sizeof options);
    memset(&memory, 0, sizeof memory);
    memset(&table, 0, sizeof table);
    options.allocator = heap_move;
    options.allocator_context = &memory;
    options.memory_budget = WSS_UNLIMITED;
    options.type_member = "__MESSAGE__";
    wss__mem_init(&mem, &options);
    table.mem = &mem;
    pthread_mutex_init(&table.mutex, NULL);
}

static void end(void) {
    wss__event_free(&table);
    CHECK_INT(mem.used, 0);
    CHECK_INT(memory.blocks, 0);
}

static char trace[256];

static void note(const char *text) {
    size_t length = strlen(trace);
    if (length + 1 < sizeof trace) snprintf(trace + length, sizeof trace - length, "%s", text);
}

static void on_note(const wss_event *event) {
    note((const char *)event->context);
}

static void *text(const char *s) {
    return (void *)(uintptr_t)s;
}

static void *nobody;

static void emit(wss__event_list *list) {
    wss_event event;
    memset(&event, 0, sizeof event);
    trace[0] = 0;
    wss__event_emit(list, &event, &nobody, NULL, wss__event_begin(&table));
}

/* ---- registration ---- */

static void in_order(void) {
    begin();
    CHECK(wss__event_is_empty(&table, WSS_EVENT_CONNECT));
    emit(&table.lists[WSS_EVENT_CONNECT]);
    CHECK_TEXT(trace, "");
    static const char *const letters[] = {"a", "b", "c", "d", "e", "f", "g"};
    for (size_t i = 0; i < 7; i++) {
        CHECK_INT(wss__event_register(&table, WSS_EVENT_CONNECT, NULL, on_note, text(letters[i])), WSS_OK);
        CHECK(!wss__event_is_empty(&table, WSS_EVENT_CONNECT));
    }
    CHECK_INT(wss__event_register(&table, WSS_EVENT_CONNECT, NULL, on_note, text("a")), WSS_OK); /* twice is twice */
    emit(&table.lists[WSS_EVENT_CONNECT]);
    CHECK_TEXT(trace, "abcdefga");
    emit(&table.lists[WSS_EVENT_DISCONNECT]); /* the others know nothing of it */
    CHECK_TEXT(trace, "");
    CHECK(wss__event_is_empty(&table, WSS_EVENT_DISCONNECT));
    end();
}

static void bad_arguments(void) {
    begin();
    CHECK_INT(wss__event_register(&table, WSS_EVENT_DATA, NULL, NULL, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss__event_register(&table, WSS_EVENT_MESSAGE, NULL, on_note, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss__event_register(&table, WSS_EVENT_MESSAGE, "type", NULL, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss__event_register(&table, WSS_EVENT_MESSAGE, "\xff", NULL, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss__event_register(&table, WSS_EVENT_MESSAGE, "", on_note, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss__event_register(&table, WSS_EVENT_MESSAGE, "\xff", on_note, NULL), WSS_ERR_UTF8);
    CHECK_INT(wss__event_register(&table, WSS_EVENT_MESSAGE, "a\xc3", on_note, NULL), WSS_ERR_UTF8);
    CHECK_INT(table.failed, 0);
    CHECK_INT(wss__event_type_count(&table), 0);
    end();
}

/* What a handler is given: the event, with its own context. */
static wss_event given[2];
static int given_count;

static void on_given(const wss_event *event) {
    given[given_count++ % 2] = *event;
}

static void each_has_its_context(void) {
    wss_event event;
    int user;
    int context;
    begin();
    memset(&event, 0, sizeof event);
    event.conn.id = 77;
    event.kind = WSS_EVENT_DATA;
    event.opcode = WSS_BINARY;
    event.context = &user;
    event.user = &user;
    event.data = "abc";
    event.size = 3;
    wss__event_register(&table, WSS_EVENT_DATA, NULL, on_given, NULL);
    wss__event_register(&table, WSS_EVENT_DATA, NULL, on_given, &context);
    void *owner = &user;
    wss__event_emit(&table.lists[WSS_EVENT_DATA], &event, &owner, NULL, wss__event_begin(&table));
    CHECK_INT(given_count, 2);
    CHECK(given[0].context == NULL && given[1].context == &context);
    for (int i = 0; i < 2; i++) {
        CHECK(given[i].user == &user);
        CHECK(given[i].conn.id == 77 && given[i].kind == WSS_EVENT_DATA && given[i].opcode == WSS_BINARY);
        CHECK(given[i].size == 3 && memcmp(given[i].data, "abc", 3) == 0);
    }
    end();
}

static void on_register(const wss_event *event) {
    note((const char *)event->context);
    CHECK_INT(wss__event_register(&table, WSS_EVENT_CONNECT, NULL, on_note, text("n")), WSS_OK);
}

/* An event is seen by the handlers that were there when it began. */
static void registered_inside(void) {
    begin();
    wss__event_register(&table, WSS_EVENT_CONNECT, NULL, on_register, text("1"));
    emit(&table.lists[WSS_EVENT_CONNECT]);
    CHECK_TEXT(trace, "1");
    emit(&table.lists[WSS_EVENT_CONNECT]);
    CHECK_TEXT(trace, "1n");
    wss__event_register(&table, WSS_EVENT_CONNECT, NULL, on_register, text("2"));
    emit(&table.lists[WSS_EVENT_CONNECT]);
    CHECK_TEXT(trace, "1nn2");
    emit(&table.lists[WSS_EVENT_CONNECT]);
    CHECK_TEXT(trace, "1nn2nn");
    end();
}

static void on_nest(const wss_event *event) {
    if (strlen(trace) > 20) return;
    note((const char *)event->context);
    wss_event inner = *event;
    if (strlen(trace) < 5) wss__event_emit(&table.lists[WSS_EVENT_CONNECT], &inner, &nobody, NULL, wss__event_begin(&table));
}

static wss__atomic64 word;

static void on_close_it(const wss_event *event) {
    note((const char *)event->context);
    word = (word & ~(uint64_t)WSS__EVENT_STAGE) | WSS__EVENT_SILENT;
}

/* Once the word says that the connection was closed, no further handler begins; where nobody asks it, all do. */
static void closed_inside(void) {
    wss_event event;
    begin();
    memset(&event, 0, sizeof event);
    wss__event_register(&table, WSS_EVENT_DATA, NULL, on_note, text("1"));
    wss__event_register(&table, WSS_EVENT_DATA, NULL, on_close_it, text("2"));
    wss__event_register(&table, WSS_EVENT_DATA, NULL, on_note, text("3"));
    static const struct {
        uint64_t word;
        const char *asked;
    } rows[] = {{4 << 2, "12"}, {((uint64_t)77 << 24) + (5 << 2) + 2, "12"}, {6 << 2, ""}, {(6 << 2) + 3, ""}, {7 << 2, "12"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int asked = 0; asked < 2; asked++) {
            word = rows[i].word;
            trace[0] = 0;
            wss__event_emit(&table.lists[WSS_EVENT_DATA], &event, &nobody, asked ? &word : NULL, wss__event_begin(&table));
            CHECK_TEXT(trace, asked ? rows[i].asked : "123");
        }
    end();
}

/* An event inside an event, of the same list: each runs through on its own. */
static void nested(void) {
    begin();
    wss__event_register(&table, WSS_EVENT_CONNECT, NULL, on_nest, text("a"));
    wss__event_register(&table, WSS_EVENT_CONNECT, NULL, on_note, text("."));
    emit(&table.lists[WSS_EVENT_CONNECT]);
    CHECK_TEXT(trace, "aaaaa.....");
    end();
}

/* A thread knows all that it is inside of, however deep. */
static void knows_where_it_is(void) {
    wss__event_place outer;
    wss__event_place inner;
    int a = 0, b = 0;
    CHECK(!wss__event_is_inside(&a));
    wss__event_enter(&outer, &a, NULL);
    CHECK(wss__event_is_inside(&a) && !wss__event_is_inside(&b));
    wss__event_enter(&inner, &b, &table);
    CHECK(wss__event_is_inside(&a) && wss__event_is_inside(&b));
    wss__event_leave(&inner);
    CHECK(wss__event_is_inside(&a) && !wss__event_is_inside(&b));
    wss__event_leave(&outer);
    CHECK(!wss__event_is_inside(&a) && !wss__event_inside);
}

/* Of these events only the handler registered last is told. */
static void last_one_counts(void) {
    wss_event event;
    begin();
    memset(&event, 0, sizeof event);
    trace[0] = 0;
    wss__event_emit_last(&table.lists[WSS_EVENT_UPGRADE], &event);
    CHECK_TEXT(trace, "");
    wss__event_register(&table, WSS_EVENT_UPGRADE, NULL, on_note, text("a"));
    wss__event_emit_last(&table.lists[WSS_EVENT_UPGRADE], &event);
    wss__event_register(&table, WSS_EVENT_UPGRADE, NULL, on_note, text("b"));
    wss__event_emit_last(&table.lists[WSS_EVENT_UPGRADE], &event);
    CHECK_TEXT(trace, "ab");
    end();
}

static void same_type_twice(void) {
    begin();
    char name[] = "chat";
    CHECK_INT(wss__event_register(&table, WSS_EVENT_MESSAGE, name, on_note, text("1")), WSS_OK);
    memset(name, 'x', 4); /* it was copied */
    CHECK_INT(wss__event_register(&table, WSS_EVENT_MESSAGE, "chat", on_note, text("2")), WSS_OK);
    CHECK_INT(wss__event_register(&table, WSS_EVENT_MESSAGE, "chatter", on_note, text("3")), WSS_OK);
    CHECK_INT(wss__event_register(&table, WSS_EVENT_MESSAGE, "cha", on_note, text("4")), WSS_OK);
    wss__event_type *chat = wss__event_find_type(&table, wss__base_text("chat"));
    CHECK(chat && chat->handlers.first->number == 1);
    CHECK_TEXT(chat->name.data, "chat");
    CHECK(!wss__event_find_type(&table, wss__base_text("chatt")));
    CHECK(!wss__event_find_type(&table, wss__base_text("c")));
    emit(&chat->handlers);
    CHECK_TEXT(trace, "12");
    CHECK(!wss__event_find_type(&table, wss__base_text("")));
    emit(&wss__event_find_type(&table, wss__base_text("chatter"))->handlers);
    CHECK_TEXT(trace, "3");
    emit(&wss__event_find_type(&table, wss__base_text("cha"))->handlers);
    CHECK_TEXT(trace, "4");
    end();
}

/* ---- typed messages ---- */

static char got_args[512];
static char got_type[160];
static int got_count;
static const char *given_from;
static size_t given_size;

/* Args that are sent on as they were given make the same message as a copy of them, which is looked at anew; a part of them is
   looked at too. */
static void check_sent_on(const wss_event *event) {
    wss__message sent_on, judged;
    wss_args args = event->args;
    size_t size = args.length;
    char *copy = guard_copy(args.text, size);
    CHECK_INT(wss__message_init_typed(&sent_on, &options, event->type, args), WSS_OK);
    args.text = copy;
    CHECK_INT(wss__message_init_typed(&judged, &options, event->type, args), WSS_OK);
    CHECK_INT(sent_on.size, judged.size);
    char *one = (char *)malloc(sent_on.size + 1);
    char *other = (char *)malloc(judged.size + 1);
    if (!one || !other) abort();
    wss__message_write(&sent_on, one);
    wss__message_write(&judged, other);
    CHECK(sent_on.size == judged.size && memcmp(one, other, sent_on.size) == 0);
    free(one);
    free(other);
    args.length--;
    int result = wss__message_init_typed(&judged, &options, event->type, args);
    args.text = event->args.text;
    CHECK_INT(wss__message_init_typed(&sent_on, &options, event->type, args), result);
    guard_free(copy, size);
}

static void on_message(const wss_event *event) {
    got_count++;
    CHECK_INT(event->kind, WSS_EVENT_MESSAGE);
    CHECK(!event->data && event->size == 0);
    CHECK(event->args.text == given_from && event->args.length < given_size);
    CHECK_INT(event->args.text[event->args.length], 0); /* NUL, although JSON goes without */
    CHECK_INT(event->args.error, 0);
    snprintf(got_args, sizeof got_args, "%.*s", (int)event->args.length, event->args.text);
    snprintf(got_type, sizeof got_type, "%s", event->type);
    if (event->context) note((const char *)event->context);
    check_sent_on(event);
}

static wss__json_rest rest;

/* Gives a text to the table in memory that ends at an unreadable page: the byte behind belongs to the next message.
   Returns how often a handler was called. */
static int tell_sized(const char *data, size_t size, int opcode) {
    wss_event event;
    char *copy = guard_copy(data, size);
    memset(&event, 0, sizeof event);
    event.kind = WSS_EVENT_DATA;
    event.opcode = opcode;
    event.data = copy;
    event.size = size;
    given_from = copy;
    given_size = size;
    got_count = 0;
    got_args[0] = 0;
    got_type[0] = 0;
    wss__event_emit_message(&table, &options, &event, &nobody, NULL, copy, wss__event_begin(&table), &rest);
    CHECK(!wss__args_handed.text); /* outside a handler nothing passes unseen */
    guard_free(copy, size);
    return got_count;
}

static int tell(const char *data) {
    return tell_sized(data, strlen(data), WSS_TEXT);
}

static void check_told(const char *data, const char *type, const char *args) {
    int count = tell(data);
    if (count != 1 || strcmp(got_args, args) != 0) printf("message %s\n", data);
    CHECK_INT(count, 1);
    CHECK_TEXT(got_type, type);
    CHECK_TEXT(got_args, args);
}

static void type_anywhere(void) {
    begin();
    wss__event_register(&table, WSS_EVENT_MESSAGE, "t", on_message, NULL);
    check_told("{\"__MESSAGE__\":\"t\"}", "t", "{}");
    check_told("{\"__MESSAGE__\":\"t\",\"a\":1}", "t", "{\"a\":1}");
    check_told("{\"a\":1,\"__MESSAGE__\":\"t\",\"b\":2}", "t", "{\"a\":1,\"b\":2}");
    check_told("{\"a\":1,\"__MESSAGE__\":\"t\"}", "t", "{\"a\":1}");
    check_told("{\"long\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"__MESSAGE__\":\"t\",\"b\":2}", "t",
               "{\"long\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"b\":2}");
    check_told("{\"b\":2,\"__MESSAGE__\":\"t\",\"long\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}", "t",
               "{\"b\":2,\"long\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}");
    check_told("{\"__MESSAGE__\":\"t\",\"a\":{\"__MESSAGE__\":\"u\"}}", "t", "{\"a\":{\"__MESSAGE__\":\"u\"}}");
    check_told(" \n{\"__MESSAGE__\":\"t\",\"a\":1} ", "t", " \n{\"a\":1} ");
    end();
}

/* A repeated type: the last one counts, as in every reader of this library, and all of them go. */
static void type_repeated(void) {
    begin();
    wss__event_register(&table, WSS_EVENT_MESSAGE, "t", on_message, NULL);
    wss__event_register(&table, WSS_EVENT_MESSAGE, "u", on_message, NULL);
    check_told("{\"__MESSAGE__\":\"u\",\"__MESSAGE__\":\"t\"}", "t", "{}");
    check_told("{\"__MESSAGE__\":\"t\",\"a\":1,\"__MESSAGE__\":\"u\"}", "u", "{\"a\":1}");
    check_told("{\"a\":1,\"__MESSAGE__\":\"t\",\"b\":2,\"__MESSAGE__\":\"u\",\"c\":3}", "u", "{\"a\":1,\"b\":2,\"c\":3}");
    check_told("{\"__MESSAGE__\":1,\"a\":1,\"__MESSAGE__\":\"u\"}", "u", "{\"a\":1}");
    CHECK_INT(tell("{\"__MESSAGE__\":\"t\",\"__MESSAGE__\":1}"), 0);
    CHECK_INT(tell("{\"__MESSAGE__\":\"t\",\"__MESSAGE__\":\"nobody\"}"), 0);
    end();
}

static void type_escaped(void) {
    begin();
    wss__event_register(&table, WSS_EVENT_MESSAGE, "t\xc3\xa4\"\n", on_message, NULL);
    check_told("{\"\\u005f_MESSAGE__\":\"\\u0074\\u00e4\\\"\\n\",\"a\":1}", "t\xc3\xa4\"\n", "{\"a\":1}");
    check_told("{\"__MESSAGE__\":\"t\xc3\xa4\\u0022\\u000A\",\"\\u0061\":1}", "t\xc3\xa4\"\n", "{\"\\u0061\":1}");
    options.type_member = "a\"b";
    check_told("{\"a\\\"b\":\"t\xc3\xa4\\\"\\n\",\"__MESSAGE__\":1}", "t\xc3\xa4\"\n", "{\"__MESSAGE__\":1}");
    wss__event_register(&table, WSS_EVENT_MESSAGE, "nul", on_message, NULL);
    CHECK_INT(tell("{\"a\\\"b\":\"nul\\u0000\"}"), 0);
    end();
}

static void ignored(void) {
    static const char *const texts[] = {
        "",
        "hello",
        "{}",
        "[]",
        "[{\"__MESSAGE__\":\"t\"}]",
        "\"__MESSAGE__\"",
        "{\"__MESSAGE__\":\"other\"}",
        "{\"__MESSAGE__\":\"T\"}",
        "{\"__MESSAGE__\":\"\"}",
        "{\"__MESSAGE__\":1}",
        "{\"__MESSAGE__\":null}",
        "{\"__MESSAGE__\":true}",
        "{\"__MESSAGE__\":[\"t\"]}",
        "{\"__MESSAGE__\":{\"t\":\"t\"}}",
        "{\"__message__\":\"t\"}",
        "{\"a\":{\"__MESSAGE__\":\"t\"}}",
        "{\"__MESSAGE__\":\"t\"",
        "{\"__MESSAGE__\":\"t\",}",
        "{\"__MESSAGE__\":\"t\"} {}",
        "{\"__MESSAGE__\":\"t\",\"a\":01}",
    };
    char nested[400] = "{\"__MESSAGE__\":\"t\",\"a\":";
    size_t head = strlen(nested);
    begin();
    CHECK_INT(tell("{\"__MESSAGE__\":\"t\"}"), 0); /* nobody registered for anything */
    wss__event_register(&table, WSS_EVENT_MESSAGE, "t", on_message, NULL);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        int count = tell(texts[i]);
        if (count) printf("message %s\n", texts[i]);
        CHECK_INT(count, 0);
    }
    for (size_t levels = 126; levels < 130; levels++) {
        memset(nested + head, '[', levels);
        memset(nested + head + levels, ']', levels);
        nested[head + 2 * levels] = '}';
        CHECK_INT(tell(nested), levels < 128);
    }
    CHECK_INT(tell_sized("{\"__MESSAGE__\":\"t\"}\0", 20, WSS_TEXT), 0);
    end();
}

/* Names of up to 128 bytes match, however the message writes them. */
static void type_sizes(void) {
    for (size_t size = 1; size <= 140; size++) {
        char name[150];
        char data[1000];
        begin();
        memset(name, 'n', size);
        name[size] = 0;
        int result = wss__event_register(&table, WSS_EVENT_MESSAGE, name, on_message, NULL);
        CHECK_INT(result, size <= 128 ? WSS_OK : WSS_ERR_ARGUMENT);
        CHECK_INT(table.failed, 0); /* who asks for what cannot be is told, and the server may run all the same */
        wss__event_register(&table, WSS_EVENT_MESSAGE, "other", on_message, NULL);
        snprintf(data, sizeof data, "{\"a\":1,\"__MESSAGE__\":\"%s\"}", name);
        CHECK_INT(tell(data), size <= 128);
        size_t at = (size_t)snprintf(data, sizeof data, "{\"__MESSAGE__\":\"");
        for (size_t i = 0; i < size; i++) at += (size_t)snprintf(data + at, sizeof data - at, "\\u006e");
        snprintf(data + at, sizeof data - at, "\",\"a\":1}");
        CHECK_INT(tell(data), size <= 128);
        if (size <= 128) CHECK_TEXT(got_args, "{\"a\":1}");
        end();
    }
}

/* However many types there are, each is found, and none that was not registered, also while more are added. */
static void two_thousand_types(void) {
    enum { TYPES = 2000 };
    char name[32];
    char data[80];
    begin();
    table.seed = 0x0123456789abcdefu;
    for (int i = 0; i < TYPES; i++) {
        snprintf(name, sizeof name, "type %d", i);
        snprintf(data, sizeof data, "{\"__MESSAGE__\":\"%s\",\"n\":%d}", name, i);
        CHECK_INT(tell(data), 0);
        CHECK_INT(wss__event_register(&table, WSS_EVENT_MESSAGE, name, on_message, NULL), WSS_OK);
        CHECK_INT(tell(data), 1);
        CHECK_TEXT(got_type, name);
    }
    CHECK_INT(wss__event_type_count(&table), TYPES);
    for (int i = 0; i < TYPES; i++) {
        char args[32];
        snprintf(name, sizeof name, "type %d", i);
        snprintf(data, sizeof data, "{\"__MESSAGE__\":\"%s\",\"n\":%d}", name, i);
        snprintf(args, sizeof args, "{\"n\":%d}", i);
        check_told(data, name, args);
        snprintf(data, sizeof data, "{\"__MESSAGE__\":\"%s \",\"n\":%d}", name, i);
        CHECK_INT(tell(data), 0);
    }
    CHECK_INT(tell("{\"__MESSAGE__\":\"type 2000\"}"), 0);
    CHECK_INT(tell("{\"__MESSAGE__\":\"type\"}"), 0);
    CHECK_INT(wss__event_register(&table, WSS_EVENT_MESSAGE, "type 1000", on_message, NULL), WSS_OK);
    CHECK_INT(tell("{\"__MESSAGE__\":\"type 1000\"}"), 2);
    CHECK_INT(wss__event_type_count(&table), TYPES);
    end();
}

static void prefixes(void) {
    static const char whole[] = "{\"a\":[1,{\"b\":\"\xc3\xa4\"}],\"__MESSAGE__\":\"t\",\"c\":2}";
    begin();
    wss__event_register(&table, WSS_EVENT_MESSAGE, "t", on_message, NULL);
    for (size_t have = 0; have < sizeof whole - 1; have++) CHECK_INT(tell_sized(whole, have, WSS_TEXT), 0);
    CHECK_INT(tell_sized(whole, sizeof whole - 1, WSS_TEXT), 1);
    end();
}

/* Text was checked on its way in. Binary data may be a typed message too, if it is UTF-8. */
static void binary(void) {
    static const char good[] = "{\"__MESSAGE__\":\"t\",\"a\":\"\xc3\xa4\"}";
    static const char bad[] = "{\"__MESSAGE__\":\"t\",\"a\":\"\xc3\"}";
    static const char gone[] = "{\"__MESSAGE__\":\"\xff\",\"__MESSAGE__\":\"t\"}"; /* also where it is taken out */
    begin();
    wss__event_register(&table, WSS_EVENT_MESSAGE, "t", on_message, NULL);
    CHECK_INT(tell_sized(good, sizeof good - 1, WSS_BINARY), 1);
    CHECK_TEXT(got_args, "{\"a\":\"\xc3\xa4\"}");
    CHECK_INT(tell_sized(bad, sizeof bad - 1, WSS_BINARY), 0);
    CHECK_INT(tell_sized(gone, sizeof gone - 1, WSS_BINARY), 0);
    CHECK_INT(tell_sized("\x00\xff\x80", 3, WSS_BINARY), 0);
    end();
}

static void several_handlers(void) {
    begin();
    wss__event_register(&table, WSS_EVENT_MESSAGE, "t", on_message, text("1"));
    wss__event_register(&table, WSS_EVENT_MESSAGE, "u", on_message, text("no"));
    wss__event_register(&table, WSS_EVENT_MESSAGE, "t", on_message, text("2"));
    wss__event_register(&table, WSS_EVENT_MESSAGE, "t", on_message, text("3"));
    trace[0] = 0;
    CHECK_INT(tell("{\"a\":1,\"__MESSAGE__\":\"t\"}"), 3);
    CHECK_TEXT(trace, "123");
    CHECK_TEXT(got_args, "{\"a\":1}"); /* of the last: all of them are given the same */
    end();
}

static void on_register_type(const wss_event *event) {
    on_message(event);
    wss__event_register(&table, WSS_EVENT_MESSAGE, "t", on_message, text("n"));
    wss__event_register(&table, WSS_EVENT_MESSAGE, "new", on_message, text("N"));
}

static void types_registered_inside(void) {
    begin();
    wss__event_register(&table, WSS_EVENT_MESSAGE, "t", on_register_type, text("1"));
    trace[0] = 0;
    CHECK_INT(tell("{\"__MESSAGE__\":\"new\"}"), 0);
    CHECK_INT(tell("{\"__MESSAGE__\":\"t\"}"), 1);
    CHECK_INT(tell("{\"__MESSAGE__\":\"new\"}"), 1);
    CHECK_INT(tell("{\"__MESSAGE__\":\"t\"}"), 2);
    CHECK_INT(tell("{\"__MESSAGE__\":\"new\"}"), 2);
    CHECK_TEXT(trace, "1N1nNN");
    end();
}

/* Objects of up to five members, each the type, a type that is no string, or another, with and without white space. */
static void all_small_objects(void) {
    static const char *const members[6] = {"\"a\":1", "\"__MESSAGE__\":\"t\"", "\"__MESS\\u0041GE__\":\"\\u0074\"",
                                           "\"__MESSAGE__\":2", "\"__MESSAGE_\":\"t\"", "\"b\":\"x,}{\\\"\""};
    static const char *const blanks[2] = {"", " \n"};
    begin();
    wss__event_register(&table, WSS_EVENT_MESSAGE, "t", on_message, NULL);
    for (unsigned count = 0; count <= 5; count++) {
        unsigned patterns = 1;
        for (unsigned i = 0; i < count; i++) patterns *= 6;
        for (unsigned pattern = 0; pattern < patterns * 2; pattern++) {
            const char *blank = blanks[pattern % 2];
            char data[400];
            char want[400];
            int last = 0;
            unsigned left = pattern / 2;
            size_t at = (size_t)snprintf(data, sizeof data, "{%s", blank);
            size_t to = (size_t)snprintf(want, sizeof want, "{");
            for (unsigned i = 0; i < count; i++, left /= 6) {
                unsigned m = left % 6;
                at += (size_t)snprintf(data + at, sizeof data - at, "%s%s%s%s", i ? "," : "", blank, members[m], blank);
                if (m >= 1 && m <= 3) last = m < 3 ? 1 : 0;
                else to += (size_t)snprintf(want + to, sizeof want - to, "%s%s", to > 1 ? "," : "", members[m]);
            }
            snprintf(data + at, sizeof data - at, "}%s", blank);
            snprintf(want + to, sizeof want - to, "}");
            CHECK_INT(tell(data), last);
            if (!last) continue;
            char packed[512]; /* without the white space, of which there is none inside these strings */
            size_t n = 0;
            for (const char *c = got_args; *c; c++)
                if (*c != ' ' && *c != '\n') packed[n++] = *c;
            packed[n] = 0;
            if (strcmp(packed, want) != 0) printf("message %s\n", data);
            CHECK_TEXT(packed, want);
            CHECK(*blank || strcmp(got_args, want) == 0);
        }
    }
    end();
}

/* ---- memory ---- */

/* The first or second allocation of a registration fails: it is told, remembered, and nothing half made is called. */
static void registration_fails(void) {
    for (size_t at = 1; at <= 2; at++) {
        begin();
        memory.fail_at = at;
        CHECK_INT(wss__event_register(&table, WSS_EVENT_MESSAGE, "t", on_message, NULL), WSS_ERR_MEMORY);
        CHECK_INT(table.failed, 1);
        memory.fail_at = 0;
        CHECK_INT(tell("{\"__MESSAGE__\":\"t\"}"), 0);
        CHECK_INT(wss__event_register(&table, WSS_EVENT_MESSAGE, "t", on_message, NULL), WSS_OK);
        CHECK_INT(tell("{\"__MESSAGE__\":\"t\",\"a\":1}"), 1);
        CHECK_TEXT(got_args, "{\"a\":1}");
        CHECK_INT(table.failed, 1);
        end();
    }
    begin();
    wss__event_register(&table, WSS_EVENT_CONNECT, NULL, on_note, text("a"));
    memory.fail_at = memory.calls + 1;
    CHECK_INT(wss__event_register(&table, WSS_EVENT_CONNECT, NULL, on_note, text("b")), WSS_ERR_MEMORY);
    CHECK_INT(wss__event_register(&table, WSS_EVENT_CONNECT, NULL, on_note, text("c")), WSS_OK);
    emit(&table.lists[WSS_EVENT_CONNECT]);
    CHECK_TEXT(trace, "ac");
    CHECK_INT(table.failed, 1);
    end();
}

/* A message is taken apart where it stands: no allocation. */
static void emitting_needs_no_memory(void) {
    begin();
    wss__event_register(&table, WSS_EVENT_MESSAGE, "t", on_message, NULL);
    memory.fail_at = memory.calls + 1;
    size_t calls = memory.calls;
    CHECK_INT(tell("{\"a\":1,\"__MESSAGE__\":\"t\",\"b\":2,\"__MESSAGE__\":\"t\"}"), 1);
    CHECK_INT(memory.calls, calls);
    end();
}

/* ---- threads ---- */

enum { LATE = 500 };

static int late_calls;

static void on_late(const wss_event *event) {
    (void)event;
    __atomic_add_fetch(&late_calls, 1, __ATOMIC_RELAXED);
}

static void *register_late(void *arg) {
    char name[16];
    (void)arg;
    for (int i = 0; i < LATE; i++) {
        snprintf(name, sizeof name, "late%d", i % 20);
        wss__event_register(&table, WSS_EVENT_MESSAGE, name, on_late, NULL);
        wss__event_register(&table, WSS_EVENT_CONNECT, NULL, on_late, NULL);
    }
    return NULL;
}

/* Two threads register while a third emits: lists only ever grow. */
static void registered_by_other_threads(void) {
    pthread_t threads[2];
    wss_event event;
    begin();
    memset(&event, 0, sizeof event);
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, register_late, NULL);
    int before = 0;
    for (int i = 0; i < 200; i++) {
        late_calls = 0;
        wss__event_emit(&table.lists[WSS_EVENT_CONNECT], &event, &nobody, NULL, wss__event_begin(&table));
        CHECK(late_calls >= before);
        before = late_calls;
        char data[] = "{\"__MESSAGE__\":\"late19\"}";
        event.opcode = WSS_TEXT;
        event.size = sizeof data - 1;
        wss__event_emit_message(&table, &options, &event, &nobody, NULL, data, wss__event_begin(&table), &rest);
    }
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    late_calls = 0;
    wss__event_emit(&table.lists[WSS_EVENT_CONNECT], &event, &nobody, NULL, wss__event_begin(&table));
    CHECK_INT(late_calls, 2 * LATE);
    late_calls = 0;
    char data[] = "{\"__MESSAGE__\":\"late7\"}";
    event.size = sizeof data - 1;
    wss__event_emit_message(&table, &options, &event, &nobody, NULL, data, wss__event_begin(&table), &rest);
    CHECK_INT(late_calls, 2 * LATE / 20);
    end();
}

int main(void) {
    alarm(60);
    RUN(in_order);
    RUN(bad_arguments);
    RUN(each_has_its_context);
    RUN(registered_inside);
    RUN(closed_inside);
    RUN(nested);
    RUN(knows_where_it_is);
    RUN(last_one_counts);
    RUN(same_type_twice);
    RUN(type_anywhere);
    RUN(type_repeated);
    RUN(type_escaped);
    RUN(ignored);
    RUN(type_sizes);
    RUN(two_thousand_types);
    RUN(prefixes);
    RUN(binary);
    RUN(several_handlers);
    RUN(types_registered_inside);
    RUN(all_small_objects);
    RUN(registration_fails);
    RUN(emitting_needs_no_memory);
    RUN(registered_by_other_threads);
    return test_end("event");
}
