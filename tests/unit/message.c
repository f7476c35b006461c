/* Unit tests of [message]: what a send is given becomes exactly these bytes, of exactly the size that was measured. */
#include "../library.h"

#include "../test.h"

static wss_options options;

static void reset_options(void) {
    memset(&options, 0, sizeof options);
    options.type_member = "__MESSAGE__";
    options.memory_budget = WSS_UNLIMITED;
}

/* Writes into room of exactly the measured size that ends at an unreadable page. args end at one too. */
static void check_sized(const char *type, const char *text, size_t length, const char *want) {
    wss__message message;
    wss_args args;
    memset(&args, 0, sizeof args);
    char *copy = guard_copy(text, length);
    args.text = copy;
    args.length = length;
    int result = wss__message_init_typed(&message, &options, type, args);
    CHECK_INT(result, WSS_OK);
    if (result == WSS_OK) {
        size_t size = strlen(want);
        if (message.size != size) printf("type %s, args %.*s: %zu bytes\n", type, (int)length, text, message.size);
        CHECK_INT(message.size, size);
        CHECK_INT(message.opcode, WSS_TEXT);
        char *filler = (char *)calloc(1, message.size + 1);
        char *out = guard_copy(filler, message.size);
        wss__message_write(&message, out);
        if (message.size == size && memcmp(out, want, size) != 0)
            printf("got %.*s, not %s\n", (int)size, out, want);
        CHECK(message.size == size && memcmp(out, want, size) == 0);
        guard_free(out, message.size);
        free(filler);
    }
    CHECK(memcmp(copy, text, length) == 0); /* the caller's text is as it was */
    guard_free(copy, length);
}

static void check(const char *type, const char *text, const char *want) {
    check_sized(type, text, strlen(text), want);
}

static void typed_bytes(void) {
    reset_options();
    check("chat", "{\"a\":1}", "{\"__MESSAGE__\":\"chat\",\"a\":1}");
    check("chat", "{}", "{\"__MESSAGE__\":\"chat\"}");
    check("chat", "{ \t\r\n }", "{\"__MESSAGE__\":\"chat\"}");
    check("chat", "{\"a\":1,\"b\":[{},2]}", "{\"__MESSAGE__\":\"chat\",\"a\":1,\"b\":[{},2]}");
    check("t", "{ \"a\" : 1 }", "{\"__MESSAGE__\":\"t\", \"a\" : 1 }");
    check("t", "{\"a\":\"}\"}", "{\"__MESSAGE__\":\"t\",\"a\":\"}\"}");
    check("t", "{\"\":\"\"}", "{\"__MESSAGE__\":\"t\",\"\":\"\"}");
    check("\xc3\xa4\xe2\x82\xac", "{\"\xc3\xa4\":1}", "{\"__MESSAGE__\":\"\xc3\xa4\xe2\x82\xac\",\"\xc3\xa4\":1}");
}

/* No args at all stand for an empty object. */
static void no_args(void) {
    wss__message message;
    wss_args none;
    char out[32];
    reset_options();
    memset(&none, 0, sizeof none);
    CHECK_INT(wss__message_init_typed(&message, &options, "go", none), WSS_OK);
    CHECK_INT(message.size, strlen("{\"__MESSAGE__\":\"go\"}"));
    wss__message_write(&message, out);
    CHECK(memcmp(out, "{\"__MESSAGE__\":\"go\"}", message.size) == 0);
}

/* White space before the brace goes, white space behind it stays: both are valid JSON. */
static void white_space_around(void) {
    reset_options();
    check("t", "  \r\n\t {\"a\":1}", "{\"__MESSAGE__\":\"t\",\"a\":1}");
    check("t", " {}", "{\"__MESSAGE__\":\"t\"}");
    check("t", "\n{ }\n", "{\"__MESSAGE__\":\"t\"}");
    check("t", "{\"a\":1} \n", "{\"__MESSAGE__\":\"t\",\"a\":1} \n");
    check("t", " {\"__MESSAGE__\":1} ", "{\"__MESSAGE__\":\"t\"}");
    check("t", "\t{ \"__MESSAGE__\" : 1 , \"a\" : 2 }\t", "{\"__MESSAGE__\":\"t\",   \"a\" : 2 }\t");
    check("t", " { \"a\" : 2 ,\n\"__MESSAGE__\" : 1 } ", "{\"__MESSAGE__\":\"t\", \"a\" : 2 \n } ");
}

/* Members that carry the type's name are taken out: a message has one type, the caller's. */
static void type_members_removed(void) {
    reset_options();
    check("t", "{\"__MESSAGE__\":\"x\"}", "{\"__MESSAGE__\":\"t\"}");
    check("t", "{\"__MESSAGE__\":\"x\",\"a\":1}", "{\"__MESSAGE__\":\"t\",\"a\":1}");
    check("t", "{\"a\":1,\"__MESSAGE__\":\"x\"}", "{\"__MESSAGE__\":\"t\",\"a\":1}");
    check("t", "{\"a\":1,\"__MESSAGE__\":\"x\",\"b\":2}", "{\"__MESSAGE__\":\"t\",\"a\":1,\"b\":2}");
    check("t", "{\"__MESSAGE__\":1,\"__MESSAGE__\":2}", "{\"__MESSAGE__\":\"t\"}");
    check("t", "{\"__MESSAGE__\":1,\"a\":1,\"__MESSAGE__\":2}", "{\"__MESSAGE__\":\"t\",\"a\":1}");
    check("t", "{\"a\":1,\"__MESSAGE__\":1,\"__MESSAGE__\":2}", "{\"__MESSAGE__\":\"t\",\"a\":1}");
    check("t", "{\"a\":1,\"__MESSAGE__\":1,\"b\":2,\"__MESSAGE__\":2,\"c\":3}",
          "{\"__MESSAGE__\":\"t\",\"a\":1,\"b\":2,\"c\":3}");
    check("t", "{\"__MESSAGE__\":{\"__MESSAGE__\":[]},\"a\":{\"__MESSAGE__\":1}}",
          "{\"__MESSAGE__\":\"t\",\"a\":{\"__MESSAGE__\":1}}"); /* below the first level it is a name like any other */
    check("t", "{\"__MESSAG\\u0045__\":null,\"a\":1}", "{\"__MESSAGE__\":\"t\",\"a\":1}");
    check("t", "{\"__MESSAGE_\":1,\"__MESSAGE___\":2,\"__message__\":3}",
          "{\"__MESSAGE__\":\"t\",\"__MESSAGE_\":1,\"__MESSAGE___\":2,\"__message__\":3}");
}

static void escapes(void) {
    reset_options();
    check("a\"b\\c/d", "{}", "{\"__MESSAGE__\":\"a\\\"b\\\\c/d\"}");
    check("\b\f\n\r\t\x01\x1f\x7f", "{}", "{\"__MESSAGE__\":\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"}");
    options.type_member = "ty\"pe\n";
    check("t", "{\"a\":1}", "{\"ty\\\"pe\\n\":\"t\",\"a\":1}");
    check("t", "{\"ty\\\"pe\\n\":1,\"a\":1}", "{\"ty\\\"pe\\n\":\"t\",\"a\":1}");
    check("t", "{\"a\":1,\"\\u0074y\\u0022pe\\u000a\":1}", "{\"ty\\\"pe\\n\":\"t\",\"a\":1}");
    options.type_member = "";
    check("t", "{\"a\":1,\"\":2}", "{\"\":\"t\",\"a\":1}");
    options.type_member = "type";
    check("t", "{\"__MESSAGE__\":1,\"type\":2}", "{\"type\":\"t\",\"__MESSAGE__\":1}");
}

/* Objects of up to five members, each a type member or not, with and without white space, against what one says who
   writes the others down one after the other. */
static void all_small_objects(void) {
    static const char *const keys[4] = {"\"a\"", "\"__MESSAGE__\"", "\"__MESS\\u0041GE__\"", "\"__MESSAGE\""};
    static const char *const values[4] = {"1", "\"x,}\"", "[{},1]", "null"};
    static const char *const blanks[3] = {"", " ", "\n\t"};
    reset_options();
    for (unsigned count = 0; count <= 5; count++) {
        for (unsigned pattern = 0; pattern < 1u << (2 * count); pattern++) {
            for (unsigned b = 0; b < 3; b++) {
                char text[512];
                wss__message message;
                wss_args args;
                int kept = 0;
                size_t at = (size_t)snprintf(text, sizeof text, "%s{%s", blanks[b], blanks[b]);
                for (unsigned i = 0; i < count; i++)
                    at += (size_t)snprintf(text + at, sizeof text - at, "%s%s%s:%s%s%s", i ? "," : "", blanks[b],
                                           keys[pattern >> (2 * i) & 3], blanks[b], values[i % 4], blanks[b]);
                at += (size_t)snprintf(text + at, sizeof text - at, "}%s", blanks[b]);
                args.text = text;
                args.length = at;
                args.error = 0;
                CHECK_INT(wss__message_init_typed(&message, &options, "t", args), WSS_OK);
                char filler[600] = {0};
                char *out = guard_copy(filler, message.size);
                wss__message_write(&message, out);
                wss_args whole;
                whole.text = out;
                whole.length = message.size;
                whole.error = 0;
                wss_iterator it = wss_iterate(whole);
                CHECK(wss_json_check(out, message.size, 0) == WSS_OK);
                CHECK(wss_iterate_next(&it));
                CHECK(it.key.length == 13 && memcmp(it.key.text, "\"__MESSAGE__\"", 13) == 0);
                CHECK(it.value.length == 3 && memcmp(it.value.text, "\"t\"", 3) == 0);
                for (unsigned i = 0; i < count; i++) {
                    unsigned k = pattern >> (2 * i) & 3;
                    if (k == 1 || k == 2) continue;
                    CHECK(wss_iterate_next(&it));
                    CHECK(it.key.length == strlen(keys[k]) && memcmp(it.key.text, keys[k], it.key.length) == 0);
                    CHECK(it.value.length == strlen(values[i % 4]) &&
                          memcmp(it.value.text, values[i % 4], it.value.length) == 0);
                    kept++;
                }
                CHECK(!wss_iterate_next(&it));
                if (!b && !kept) CHECK_INT(message.size, strlen("{\"__MESSAGE__\":\"t\"}"));
                guard_free(out, message.size);
            }
        }
    }
}

static int typed_error(const char *type, const char *text, size_t length) {
    wss__message message;
    wss_args args;
    memset(&args, 0, sizeof args);
    char *copy = guard_copy(text, length);
    args.text = copy;
    args.length = length;
    int result = wss__message_init_typed(&message, &options, type, args);
    guard_free(copy, length);
    return result;
}

static void typed_errors(void) {
    static const struct {
        const char *text;
        int want;
    } samples[] = {
        {"", WSS_ERR_JSON},
        {" ", WSS_ERR_JSON},
        {"[]", WSS_ERR_JSON}, /* valid, but no object */
        {"1", WSS_ERR_JSON},
        {"\"a\"", WSS_ERR_JSON},
        {"null", WSS_ERR_JSON},
        {"{", WSS_ERR_JSON},
        {"{\"a\":1", WSS_ERR_JSON},
        {"{\"a\":1,}", WSS_ERR_JSON},
        {"{,}", WSS_ERR_JSON},
        {"{\"a\"}", WSS_ERR_JSON},
        {"{a:1}", WSS_ERR_JSON},
        {"{}{}", WSS_ERR_JSON},
        {"{} x", WSS_ERR_JSON},
        {"{\"a\":01}", WSS_ERR_JSON},
        {"\xef\xbb\xbf{}", WSS_ERR_JSON},
        {"\f{}", WSS_ERR_JSON},
        {"{\"a\":\"\xff\"}", WSS_ERR_UTF8},
        {"{\"a\xc3\":1}", WSS_ERR_UTF8},
        {"{\"a\":\"\xed\xa0\x80\"}", WSS_ERR_UTF8},
    };
    reset_options();
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        int got = typed_error("t", samples[i].text, strlen(samples[i].text));
        if (got != samples[i].want) printf("args %s\n", samples[i].text);
        CHECK_INT(got, samples[i].want);
    }
    CHECK_INT(typed_error("t", "{}\0", 3), WSS_ERR_JSON);
    CHECK_INT(typed_error("t", "\0{}", 3), WSS_ERR_JSON);
    CHECK_INT(typed_error("\xff", "{}", 2), WSS_ERR_UTF8);
    CHECK_INT(typed_error("a\xc3", "{}", 2), WSS_ERR_UTF8);
    CHECK_INT(typed_error(NULL, "{}", 2), WSS_ERR_ARGUMENT);
    for (size_t levels = 126; levels < 130; levels++) {
        char text[300] = "{\"a\":";
        memset(text + 5, '[', levels);
        memset(text + 5 + levels, ']', levels);
        text[5 + 2 * levels] = '}';
        CHECK_INT(typed_error("t", text, 6 + 2 * levels), levels < 128 ? WSS_OK : WSS_ERR_DEPTH);
    }
}

/* A type is 1 to 128 bytes of UTF-8, before anything is said of args. */
static void types_bounded(void) {
    char type[200];
    char want[300];
    reset_options();
    for (size_t size = 1; size < sizeof type; size++) {
        memset(type, 'x', size);
        type[size] = 0;
        CHECK_INT(typed_error(type, "{}", 2), size <= 128 ? WSS_OK : WSS_ERR_ARGUMENT);
        snprintf(want, sizeof want, "{\"__MESSAGE__\":\"%s\",\"a\":1}", type);
        if (size <= 128) check(type, "{\"a\":1}", want);
        type[size - 1] = '\xc3'; /* a character that is not whole */
        CHECK_INT(typed_error(type, "{", 1), size <= 128 ? WSS_ERR_UTF8 : WSS_ERR_ARGUMENT);
        type[size - 1] = '\n'; /* escaped it takes more: the bytes of the type count */
        CHECK_INT(typed_error(type, "{}", 2), size <= 128 ? WSS_OK : WSS_ERR_ARGUMENT);
    }
    CHECK_INT(typed_error("", "{}", 2), WSS_ERR_ARGUMENT);
    CHECK_INT(typed_error("", "{", 1), WSS_ERR_ARGUMENT);
}

/* Every prefix of an object is refused; nothing behind it is looked at. */
static void prefixes(void) {
    static const char text[] = " {\"a\":[1,\"\xc3\xa4\"],\"__MESSAGE__\":\"x\",\"b\":{\"c\":-1.5e3}}";
    reset_options();
    for (size_t have = 0; have < sizeof text - 1; have++) CHECK(typed_error("t", text, have) < 0);
    CHECK_INT(typed_error("t", text, sizeof text - 1), WSS_OK);
}

/* Args of a writer that failed carry its error. */
static void error_of_a_writer(void) {
    wss__message message;
    wss_writer writer;
    char small[8];
    reset_options();
    wss_writer_init(&writer, small, sizeof small);
    wss_put_string(&writer, "key", "a text that has no room");
    wss_args args = wss_writer_args(&writer);
    CHECK_INT(args.error, WSS_ERR_SPACE);
    CHECK_INT(wss__message_init_typed(&message, &options, "t", args), WSS_ERR_SPACE);
    CHECK_INT(wss__message_init_typed(&message, &options, NULL, args), WSS_ERR_SPACE);
    memset(&args, 0, sizeof args);
    args.error = WSS_ERR_MEMORY;
    CHECK_INT(wss__message_init_typed(&message, &options, "t", args), WSS_ERR_MEMORY);
}

static void too_big(void) {
    wss__message message;
    wss_args args;
    reset_options();
    memset(&args, 0, sizeof args);
    args.text = "{}";
    args.length = SIZE_MAX / 4 + 1;
    CHECK_INT(wss__message_init_typed(&message, &options, "t", args), WSS_ERR_TOO_BIG);
    CHECK_INT(wss__message_init_data(&message, WSS_BINARY, "x", SIZE_MAX / 4 + 1, 0), WSS_ERR_TOO_BIG);
    CHECK_INT(wss__message_init_data(&message, WSS_BINARY, "x", SIZE_MAX, 0), WSS_ERR_TOO_BIG);
}

static void plain_data(void) {
    static const char bytes[] = "\x00\xff\xfe{}\x80";
    wss__message message;
    char *copy = guard_copy(bytes, 6);
    CHECK_INT(wss__message_init_data(&message, WSS_BINARY, copy, 6, 0), WSS_OK);
    CHECK_INT(message.size, 6);
    CHECK_INT(message.opcode, WSS_BINARY);
    char *out = guard_copy("......", 6);
    wss__message_write(&message, out);
    CHECK(memcmp(out, bytes, 6) == 0);
    guard_free(out, 6);
    CHECK_INT(wss__message_init_data(&message, WSS_TEXT, copy, 6, 0), WSS_ERR_UTF8);
    guard_free(copy, 6);
    CHECK_INT(wss__message_init_data(&message, WSS_TEXT, "h\xc3\xa4", 3, 0), WSS_OK);
    CHECK_INT(wss__message_init_data(&message, WSS_TEXT, "h\xc3\xa4", 2, 0), WSS_ERR_UTF8);
    CHECK_INT(wss__message_init_data(&message, WSS_TEXT, NULL, 0, 0), WSS_OK);
    CHECK_INT(message.size, 0);
    wss__message_write(&message, NULL);
    CHECK_INT(wss__message_init_data(&message, WSS_BINARY, NULL, 0, 0), WSS_OK);
    CHECK_INT(wss__message_init_data(&message, WSS_BINARY, NULL, 1, 0), WSS_ERR_ARGUMENT);
    static const int opcodes[] = {-1, 0, 3, 7, 8, 9, 10, 15, 0x81, INT_MAX};
    for (size_t i = 0; i < sizeof opcodes / sizeof opcodes[0]; i++)
        CHECK_INT(wss__message_init_data(&message, opcodes[i], "x", 1, 0), WSS_ERR_ARGUMENT);
}

static int refuse_all;

static void *failing(void *context, void *pointer, size_t old_size, size_t new_size) {
    (void)context;
    (void)old_size;
    if (refuse_all && new_size) return NULL;
    if (new_size) return realloc(pointer, new_size);
    free(pointer);
    return NULL;
}

/* As a frame: header, payload, key. */
static void frames(void) {
    static const size_t sizes[] = {0, 1, 90, 91, 92, 125, 126, 127, 65500, 65535, 65536};
    wss__mem mem;
    reset_options();
    options.allocator = failing;
    wss__mem_init(&mem, &options);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        wss__message message;
        char *text = (char *)malloc(sizes[i] + 32);
        size_t length = (size_t)snprintf(text, 16, "{\"a\":\"");
        memset(text + length, 'x', sizes[i]);
        memcpy(text + length + sizes[i], "\"}", 3);
        CHECK_INT(wss__message_init_typed(&message, &options, "t", wss_json(text)), WSS_OK);
        CHECK_INT(message.key.size, 0); /* none, until one is given */
        message.key = wss__base_text("key");
        message.key_hash = 0x12345678;
        wss__buf_frame *frame = wss__message_frame(&mem, &message);
        size_t payload = strlen("{\"__MESSAGE__\":\"t\",\"a\":\"\"}") + sizes[i];
        size_t head = wss__frame_head_size(payload);
        char want[10];
        wss__frame_encode(want, WSS_TEXT, payload);
        CHECK_INT(frame->size, head + payload);
        CHECK_INT(frame->key_size, 3);
        CHECK_INT(frame->hash, 0x12345678);
        CHECK(memcmp(wss__buf_frame_data(frame), want, head) == 0);
        CHECK(memcmp(wss__buf_frame_data(frame) + head, "{\"__MESSAGE__\":\"t\",\"a\":\"", 24) == 0);
        CHECK(memcmp(wss__buf_frame_data(frame) + head + 24 + sizes[i], "\"}key", 5) == 0);
        wss__buf_release(&mem, frame);
        CHECK_INT(mem.used, 0);
        refuse_all = 1;
        CHECK(!wss__message_frame(&mem, &message));
        refuse_all = 0;
        CHECK_INT(mem.used, 0);
        free(text);
    }
}

/* A length that no text has: refused before anything is read of it or added to it. */
static void impossible_length(void) {
    wss__message message;
    wss_args args;
    memset(&args, 0, sizeof args);
    args.text = "{}";
    args.length = SIZE_MAX / 4 + 1;
    CHECK_INT(wss__message_init_typed(&message, &options, "m", args), WSS_ERR_TOO_BIG);
}

int main(void) {
    alarm(60);
    RUN(typed_bytes);
    RUN(no_args);
    RUN(white_space_around);
    RUN(type_members_removed);
    RUN(escapes);
    RUN(all_small_objects);
    RUN(typed_errors);
    RUN(types_bounded);
    RUN(prefixes);
    RUN(error_of_a_writer);
    RUN(too_big);
    RUN(plain_data);
    RUN(frames);
    RUN(impossible_length);
    return test_end("message");
}
