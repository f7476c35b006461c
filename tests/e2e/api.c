/* What the workshop's server did, over real sockets: handlers, typed messages, sends from anywhere, running and stopping. */
#include "../host.h"

/* ---- handlers ---- */

static void say_connect(const wss_event *e) {
    CHECK_INT(e->kind, WSS_EVENT_CONNECT);
    host_say("connect%s(%zu)", e->context ? (const char *)e->context : "", wss_count(e->server));
}

static void say_disconnect(const wss_event *e) {
    CHECK_INT(e->kind, WSS_EVENT_DISCONNECT);
    host_say("disconnect%s(%zu)", e->context ? (const char *)e->context : "", wss_count(e->server));
}

static void say_message(const wss_event *e) {
    CHECK_INT(e->kind, WSS_EVENT_MESSAGE);
    CHECK_INT(strlen(e->args.text), e->args.length);
    CHECK_INT(e->args.error, 0);
    host_say("%s%s%s", e->type, e->context ? (const char *)e->context : "", e->args.text);
}

static void say_data(const wss_event *e) {
    CHECK_INT(e->kind, WSS_EVENT_DATA);
    host_say("data%s(%d,%.*s)", e->context ? (const char *)e->context : "", e->opcode, (int)e->size, e->data);
}

static char name_a[] = ".a";
static char name_b[] = ".b";
static char name_c[] = ".c";

static wss_server *serve(void) {
    wss_options options = {0};
    host_forget();
    return host_drive(&options);
}

/* True when all that this client sent has been handled: its ping has been answered. */
static int handled(client *c) {
    client_send(c, SCRIPT_PING, "?", 1);
    int result = client_read(c);
    return result == SCRIPT_PONG;
}

static void pairs_and_counts(void) {
    wss_server *server = serve();
    wss_on_connect(server, say_connect, NULL);
    wss_on_disconnect(server, say_disconnect, NULL);
    CHECK_INT(wss_count(server), 0);
    client *one = client_open(host_port);
    client *two = client_open(host_port);
    CHECK_INT(one->status, 101);
    CHECK_INT(two->status, 101);
    UNTIL(wss_count(server) == 2);
    CHECK(client_leave(one));
    CHECK_INT(wss_count(server), 1);
    client *three = client_open(host_port);
    client_reset(two);
    UNTIL(wss_count(server) == 1);
    CHECK(client_leave(three));
    CHECK_TEXT(host_said, "connect(1) connect(2) disconnect(1) connect(2) disconnect(1) disconnect(0)");
    host_end();
    CHECK_TEXT(host_said, "connect(1) connect(2) disconnect(1) connect(2) disconnect(1) disconnect(0)");
}

/* What never became a WebSocket gives neither event. */
static void no_pair_without_handshake(void) {
    wss_server *server = serve();
    wss_on_connect(server, say_connect, NULL);
    wss_on_disconnect(server, say_disconnect, NULL);
    client *silent = client_dial(host_port);
    client *half = client_dial(host_port);
    client *wrong = client_dial(host_port);
    client_say(half, "GET / HTTP/1.1\r\nHost:");
    client_say(wrong, "DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK_INT(client_read_head(wrong), 405);
    client_reset(silent);
    client_free(half);
    client_free(wrong);
    host_settle();
    CHECK_TEXT(host_said, "");
    host_end();
    CHECK_TEXT(host_said, "");
}

static void handlers_run_in_order(void) {
    wss_server *server = serve();
    void (*const none)(const wss_event *) = NULL;
    CHECK_INT(wss_on_connect(server, say_connect, name_a), WSS_OK);
    CHECK_INT(wss_on_connect(server, say_connect, name_b), WSS_OK);
    CHECK_INT(wss_on_connect(server, say_connect, name_a), WSS_OK);
    CHECK_INT(wss_on_message(server, "m", say_message, name_b), WSS_OK);
    CHECK_INT(wss_on_data(server, say_data, name_a), WSS_OK);
    CHECK_INT(wss_on_message(server, "n", say_message, name_c), WSS_OK);
    CHECK_INT(wss_on_message(server, "m", say_message, name_a), WSS_OK);
    CHECK_INT(wss_on_data(server, say_data, name_b), WSS_OK);
    CHECK_INT(wss_on_disconnect(server, say_disconnect, name_c), WSS_OK);
    CHECK_INT(wss_on_disconnect(server, say_disconnect, name_b), WSS_OK);
    CHECK_INT(wss_on_connect(server, none, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_message(server, NULL, say_message, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_message(server, "", say_message, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_message(server, "\xff", say_message, NULL), WSS_ERR_UTF8);
    client *c = client_open(host_port);
    client_text(c, "{\"__MESSAGE__\":\"m\"}");
    CHECK(client_leave(c));
    CHECK_TEXT(host_said, "connect.a(1) connect.b(1) connect.a(1) "
                          "data.a(1,{\"__MESSAGE__\":\"m\"}) data.b(1,{\"__MESSAGE__\":\"m\"}) m.b{} m.a{} "
                          "disconnect.c(0) disconnect.b(0)");
    host_end();
}

static void register_more(const wss_event *e) {
    say_connect(e);
    CHECK_INT(wss_on_connect(e->server, say_connect, name_b), WSS_OK);
    CHECK_INT(wss_on_message(e->server, "m", say_message, name_b), WSS_OK);
}

static void register_for_message(const wss_event *e) {
    say_message(e);
    CHECK_INT(wss_on_message(e->server, "m", say_message, name_c), WSS_OK);
}

/* An event sees the handlers that were there when it began; the next one sees those that came meanwhile. */
static void registering_inside_handlers(void) {
    wss_server *server = serve();
    wss_on_connect(server, register_more, name_a);
    wss_on_message(server, "m", register_for_message, name_a);
    client *one = client_open(host_port);
    CHECK(handled(one));
    CHECK_TEXT(host_said, "connect.a(1)");
    client_text(one, "{\"__MESSAGE__\":\"m\"}");
    CHECK(handled(one));
    CHECK_TEXT(host_said, "connect.a(1) m.a{} m.b{}");
    host_forget();
    client_text(one, "{\"__MESSAGE__\":\"m\"}");
    CHECK(handled(one));
    CHECK_TEXT(host_said, "m.a{} m.b{} m.c{}");
    host_forget();
    client *two = client_open(host_port);
    CHECK(handled(two));
    CHECK_TEXT(host_said, "connect.a(2) connect.b(2)");
    CHECK(client_leave(one));
    CHECK(client_leave(two));
    host_end();
}

static int calls;

static void count_call(const wss_event *e) {
    (void)e;
    host_count(&calls);
}

static void *register_many(void *arg) {
    for (int i = 0; i < 50; i++) {
        CHECK_INT(wss_on_message((wss_server *)arg, "many", count_call, NULL), WSS_OK);
        CHECK_INT(wss_on_message((wss_server *)arg, i % 2 ? "odd" : "even", count_call, NULL), WSS_OK);
    }
    return NULL;
}

/* While messages of the same type are being handled. */
static void registering_from_threads(void) {
    wss_options options = {0};
    pthread_t threads[4];
    wss_server *server = host_start(&options);
    client *c = client_open(host_port);
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, register_many, server);
    for (int i = 0; i < 100; i++) client_text(c, "{\"__MESSAGE__\":\"many\"}");
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    CHECK(handled(c));
    calls = 0;
    client_text(c, "{\"__MESSAGE__\":\"many\"}");
    client_text(c, "{\"__MESSAGE__\":\"odd\"}");
    client_text(c, "{\"__MESSAGE__\":\"even\"}");
    CHECK(handled(c));
    CHECK_INT(host_get(&calls), 200 + 100 + 100);
    CHECK(client_leave(c));
    host_end();
}

/* ---- typed messages ---- */

static void echo_args(const wss_event *e) {
    say_message(e);
    CHECK_INT(wss_send(e->server, e->conn, "echo", e->args), WSS_OK);
}

/* Every byte of the args but the type member reaches the handler, and comes back. */
static void typed_messages_both_ways(void) {
    static const struct {
        const char *sent;
        const char *seen;
        const char *back;
    } cases[] = {
        {"{\"__MESSAGE__\":\"m\"}", "m{}", "{\"__MESSAGE__\":\"echo\"}"},
        {"{\"__MESSAGE__\":\"m\",\"a\":1}", "m{\"a\":1}", "{\"__MESSAGE__\":\"echo\",\"a\":1}"},
        {"{\"a\":[1,2,{\"b\":null}],\"__MESSAGE__\":\"m\",\"c\":1.50e+2}", "m{\"a\":[1,2,{\"b\":null}],\"c\":1.50e+2}",
         "{\"__MESSAGE__\":\"echo\",\"a\":[1,2,{\"b\":null}],\"c\":1.50e+2}"},
        {"{\"text\":\"\\u00fc\\n\\\"\xc3\xbc\\ud800\",\"__MESSAGE__\":\"\\u006d\"}", "m{\"text\":\"\\u00fc\\n\\\"\xc3\xbc\\ud800\"}",
         "{\"__MESSAGE__\":\"echo\",\"text\":\"\\u00fc\\n\\\"\xc3\xbc\\ud800\"}"},
        {"{\"__MESSAGE__\":\"x\",\"n\":123456789012345678901234567890,\"__MESSAGE__\":\"m\"}", "m{\"n\":123456789012345678901234567890}",
         "{\"__MESSAGE__\":\"echo\",\"n\":123456789012345678901234567890}"},
        {"{\"\\u005f_MESSAGE__\":\"m\",\"inner\":{\"__MESSAGE__\":\"kept\"}}", "m{\"inner\":{\"__MESSAGE__\":\"kept\"}}",
         "{\"__MESSAGE__\":\"echo\",\"inner\":{\"__MESSAGE__\":\"kept\"}}"},
    };
    wss_server *server = serve();
    wss_on_message(server, "m", echo_args, NULL);
    client *c = client_open(host_port);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        host_forget();
        client_text(c, cases[i].sent);
        CHECK_TEXT(client_read_text(c), cases[i].back);
        CHECK_TEXT(host_said, cases[i].seen);
    }
    CHECK(client_leave(c));
    host_end();
}

static void another_type_member(void) {
    wss_options options = {0};
    char member[] = "type";
    options.type_member = member;
    host_forget();
    wss_server *server = host_drive(&options);
    memset(member, 'x', sizeof member - 1); /* the option was copied */
    wss_get_options(server, &options);
    CHECK_TEXT(options.type_member, "type");
    wss_on_message(server, "m", echo_args, NULL);
    client *c = client_open(host_port);
    client_text(c, "{\"__MESSAGE__\":\"m\"}");
    client_text(c, "{\"type\":\"m\",\"__MESSAGE__\":\"m\"}");
    CHECK_TEXT(client_read_text(c), "{\"type\":\"echo\",\"__MESSAGE__\":\"m\"}");
    CHECK(client_leave(c));
    host_end();
}

/* Binary frames are split too, if they hold what a text frame might hold. Data handlers see all, first. */
static void binary_and_raw(void) {
    wss_server *server = serve();
    wss_on_message(server, "m", say_message, NULL);
    wss_on_data(server, say_data, NULL);
    client *c = client_open(host_port);
    client_send(c, SCRIPT_BINARY, "{\"__MESSAGE__\":\"m\"}", 19);
    CHECK(handled(c));
    CHECK_TEXT(host_said, "data(2,{\"__MESSAGE__\":\"m\"}) m{}");
    host_forget();
    client_send(c, SCRIPT_BINARY, "{\"__MESSAGE__\":\"m\",\"a\":\"\xff\"}", 27);
    client_send(c, SCRIPT_BINARY, "\0\1", 2);
    client_send(c, SCRIPT_TEXT, "", 0);
    CHECK(handled(c));
    CHECK_TEXT(host_said, "data(2,{\"__MESSAGE__\":\"m\",\"a\":\"\xff\"}) data(2,) data(1,)");
    CHECK(client_leave(c));
    host_end();
}

/* None of this calls a handler, and the connection stays as usable as it was. */
static void hostile_json_is_ignored(void) {
    static const char *const texts[] = {
        "", " ", "[]", "[{\"__MESSAGE__\":\"m\"}]", "\"__MESSAGE__\"", "1", "-1e9", "true", "null", "nul", "{", "}", "{}", "[", "]", ",",
        "{\"__MESSAGE__\"", "{\"__MESSAGE__\":", "{\"__MESSAGE__\":\"m", "{\"__MESSAGE__\":\"m\"", "{\"__MESSAGE__\":\"m\",",
        "{\"__MESSAGE__\":\"m\",}", "{\"__MESSAGE__\":\"m\"}x", "{\"__MESSAGE__\":\"m\"}{}", "{\"__MESSAGE__\":\"m\"},",
        "{\"__MESSAGE__\":1}", "{\"__MESSAGE__\":null}", "{\"__MESSAGE__\":true}", "{\"__MESSAGE__\":{}}", "{\"__MESSAGE__\":[]}",
        "{\"__MESSAGE__\":[\"m\"]}", "{\"__MESSAGE__\":{\"m\":1}}", "{\"__MESSAGE__\":\"m\",\"__MESSAGE__\":1}",
        "{\"__MESSAGE__\":\"m\\u0000\"}", "{\"__MESSAGE__\":\"\"}", "{\"__MESSAGE__\":\"M\"}", "{\"__MESSAGE__\":\"m \"}",
        "{\"__message__\":\"m\"}", "{'__MESSAGE__':'m'}", "{__MESSAGE__:\"m\"}", "{\"__MESSAGE__\":\"m\",\"a\":01}",
        "{\"__MESSAGE__\":\"m\",\"a\":NaN}", "{\"__MESSAGE__\":\"m\",\"a\":\"\\x\"}", "{\"__MESSAGE__\":\"m\",\"a\":\"\n\"}",
        "{\"__MESSAGE__\":\"m\" \"a\":1}", "\xef\xbb\xbf{\"__MESSAGE__\":\"m\"}", "{\"__MESSAGE__\":\"unknown\",\"a\":[1]}",
        "{\"a\":{\"__MESSAGE__\":\"m\"}}"};
    wss_server *server = serve();
    wss_on_message(server, "m", echo_args, NULL);
    client *c = client_open(host_port);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        client_text(c, texts[i]);
        if (!handled(c)) printf("connection lost after: %s\n", texts[i]);
    }
    CHECK_TEXT(host_said, "");
    client_text(c, "{\"__MESSAGE__\":\"m\"}");
    CHECK_TEXT(client_read_text(c), "{\"__MESSAGE__\":\"echo\"}");
    CHECK(client_leave(c));
    host_end();
}

static void many_brackets(client *c, const char *front, const char *open, size_t count) {
    script text = {0};
    script_text(&text, front);
    for (size_t i = 0; i < count; i++) script_text(&text, open);
    client_send(c, SCRIPT_TEXT, text.data, text.size);
    CHECK(handled(c));
    script_free(&text);
}

static void deep_json_is_ignored(void) {
    wss_options options = {0};
    options.max_message = 8 << 20;
    host_forget();
    wss_server *server = host_drive(&options);
    wss_on_message(server, "m", echo_args, NULL);
    client *c = client_open(host_port);
    many_brackets(c, "", "[", 1200);
    many_brackets(c, "", "[", 1000000);
    many_brackets(c, "", "{\"a\":", 1000000);
    many_brackets(c, "{\"__MESSAGE__\":\"m\",\"a\":", "[", 1200);
    many_brackets(c, "{\"__MESSAGE__\":\"m\",\"a\":", "{\"a\":", 1000000);
    CHECK_TEXT(host_said, "");
    client_text(c, "{\"__MESSAGE__\":\"m\",\"a\":{\"b\":[{\"c\":[]}]}}");
    CHECK_TEXT(client_read_text(c), "{\"__MESSAGE__\":\"echo\",\"a\":{\"b\":[{\"c\":[]}]}}");
    CHECK(client_leave(c));
    host_end();
}

/* ---- sends ---- */

static void say_posted(void *arg) {
    host_say("posted(%s)", (char *)arg);
}

static void calls_before_running(void) {
    wss_options options = {0};
    wss_conn none = {0};
    wss_info info;
    wss_stats stats;
    host_forget();
    wss_server *server = host_make(&options);
    CHECK_INT(wss_post(server, say_posted, name_a), WSS_OK);
    CHECK_INT(wss_post(server, say_posted, name_b), WSS_OK);
    CHECK_INT(wss_send(server, none, "m", wss_json("{}")), WSS_ERR_GONE);
    CHECK_INT(wss_send_data(server, none, WSS_TEXT, "x", 1), WSS_ERR_GONE);
    CHECK_INT(wss_broadcast(server, "m", wss_json("{}")), WSS_OK);
    CHECK_INT(wss_broadcast_data(server, WSS_BINARY, "x", 1), WSS_OK);
    CHECK_INT(wss_close(server, none, 1000, NULL), WSS_ERR_GONE);
    CHECK_INT(wss_get_info(server, none, &info), WSS_ERR_GONE);
    CHECK_INT(wss_count(server), 0);
    CHECK_INT((long long)wss_next(server, none).id, 0);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.connections, 0);
    CHECK_TEXT(host_said, "");
    wss_on_connect(server, say_connect, NULL);
    client_turn = host_turn;
    client *c = client_open(host_port);
    CHECK(handled(c)); /* and it got none of the broadcasts */
    CHECK_TEXT(host_said, "posted(.a) posted(.b) connect(1)");
    CHECK(client_leave(c));
    host_end();
}

static wss_conn conns[3];
static int conn_count;

static void note_conn(const wss_event *e) {
    if (conn_count < 3) conns[conn_count++] = e->conn;
}

static void sends_and_broadcasts(void) {
    wss_server *server = serve();
    client *c[3];
    conn_count = 0;
    wss_on_connect(server, note_conn, NULL);
    for (int i = 0; i < 3; i++) {
        c[i] = client_open(host_port);
        UNTIL(conn_count == i + 1);
    }
    CHECK_INT(wss_send(server, conns[0], "one", wss_json("{\"a\":1}")), WSS_OK);
    CHECK_INT(wss_broadcast(server, "all", wss_json("{}")), WSS_OK);
    CHECK_INT(wss_broadcast_except(server, conns[1], "but", wss_json("  {\"b\":2}")), WSS_OK);
    CHECK_INT(wss_broadcast_data(server, WSS_BINARY, "\0\xff", 2), WSS_OK);
    CHECK_INT(wss_broadcast_data_except(server, conns[2], WSS_TEXT, "raw", 3), WSS_OK);
    CHECK_INT(wss_broadcast_latest(server, "key", "latest", wss_json("{}")), WSS_OK);
    CHECK_INT(wss_send_data(server, conns[1], WSS_TEXT, NULL, 0), WSS_OK);
    CHECK_INT(wss_send_latest(server, conns[2], "key", "new", wss_json("{}")), WSS_OK);
    wss_args none = {0};
    CHECK_INT(wss_broadcast(server, "\"\\\n", none), WSS_OK);
    CHECK_TEXT(client_read_text(c[0]), "{\"__MESSAGE__\":\"one\",\"a\":1}");
    for (int i = 0; i < 3; i++) {
        CHECK_TEXT(client_read_text(c[i]), "{\"__MESSAGE__\":\"all\"}");
        if (i != 1) CHECK_TEXT(client_read_text(c[i]), "{\"__MESSAGE__\":\"but\",\"b\":2}");
        CHECK_INT(client_read(c[i]), SCRIPT_BINARY);
        CHECK(c[i]->length == 2 && memcmp(c[i]->data, "\0\xff", 2) == 0);
        if (i != 2) CHECK_TEXT(client_read_text(c[i]), "raw");
        /* The last one's first message of this key still waited, so the second took its place. */
        CHECK_TEXT(client_read_text(c[i]), i == 2 ? "{\"__MESSAGE__\":\"new\"}" : "{\"__MESSAGE__\":\"latest\"}");
        if (i == 1) CHECK_TEXT(client_read_text(c[i]), "");
        CHECK_TEXT(client_read_text(c[i]), "{\"__MESSAGE__\":\"\\\"\\\\\\n\"}");
    }
    for (int i = 0; i < 3; i++) CHECK(client_leave(c[i]));
    host_end();
}

static void *send_numbers(void *arg) {
    char text[32];
    for (int i = 0; i < 200; i++) {
        snprintf(text, sizeof text, "{\"n\":%d}", i);
        CHECK_INT(wss_send(host, conns[0], (const char *)arg, wss_json(text)), WSS_OK);
    }
    return NULL;
}

/* What one thread sends arrives in its order, whatever others send. */
static void sends_from_threads_keep_their_order(void) {
    static char names[3][2] = {"0", "1", "2"};
    wss_options options = {0};
    pthread_t threads[3];
    int next[3] = {0, 0, 0};
    wss_server *server = host_make(&options);
    conn_count = 0;
    calls = 0;
    wss_on_connect(server, note_conn, NULL);
    wss_on_connect(server, count_call, NULL);
    CHECK_INT(wss_start(server), WSS_OK);
    client *c = client_open(host_port);
    UNTIL(host_get(&calls) == 1);
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, send_numbers, names[i]);
    for (int i = 0; i < 600; i++) {
        int thread = 0, n = -1;
        CHECK(sscanf(client_read_text(c), "{\"__MESSAGE__\":\"%d\",\"n\":%d}", &thread, &n) == 2);
        CHECK_INT(n, next[thread % 3]++);
    }
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    CHECK(client_leave(c));
    host_end();
}

static void post_again(void *arg) {
    say_posted(arg);
    CHECK_INT(wss_post(host, say_posted, name_c), WSS_OK);
}

static void posts_run_in_order(void) {
    wss_server *server = serve();
    CHECK_INT(wss_post(server, post_again, name_a), WSS_OK);
    CHECK_INT(wss_post(server, say_posted, name_b), WSS_OK);
    CHECK_INT(wss_poll(server, 0), WSS_OK);
    CHECK_TEXT(host_said, "posted(.a) posted(.b)"); /* what a job posts waits for the next turn */
    CHECK_INT(wss_poll(server, 0), WSS_OK);
    CHECK_TEXT(host_said, "posted(.a) posted(.b) posted(.c)");
    host_end();
    CHECK_TEXT(host_said, "posted(.a) posted(.b) posted(.c)");
}

static void post_in_vain(void *arg) {
    say_posted(arg);
    CHECK_INT(wss_post(host, say_posted, name_c), WSS_ERR_STOPPED);
}

/* What was posted before a stop runs, what is posted later is refused, also to jobs. */
static void posts_and_stop(void) {
    wss_server *server = serve();
    CHECK_INT(wss_post(server, post_in_vain, name_a), WSS_OK);
    wss_stop(server, 1000);
    CHECK_INT(wss_post(server, say_posted, name_b), WSS_ERR_STOPPED);
    CHECK_TEXT(host_said, "");
    CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
    CHECK_TEXT(host_said, "posted(.a)");
    host_end();
    CHECK_TEXT(host_said, "posted(.a)");
}

static int freed;

static void free_user(void *user) {
    host_say("free(%s)", (char *)user);
    freed++;
}

static void take_user(const wss_event *e) {
    CHECK(e->user == NULL);
    CHECK_INT(wss_set_user(e->server, e->conn, name_a), WSS_OK);
}

static void say_user(const wss_event *e) {
    host_say("user(%s)", e->user ? (char *)e->user : "none");
}

static void user_pointer(void) {
    wss_options options = {0};
    options.user_free = free_user;
    freed = 0;
    host_forget();
    wss_server *server = host_drive(&options);
    wss_on_connect(server, take_user, NULL);
    wss_on_data(server, say_user, NULL);
    wss_on_disconnect(server, say_user, NULL);
    client *c = client_open(host_port);
    client_text(c, "x");
    CHECK(handled(c));
    CHECK(client_leave(c));
    UNTIL(freed == 1);
    CHECK_TEXT(host_said, "user(.a) user(.a) free(.a)");
    c = client_open(host_port);
    UNTIL(wss_count(server) == 1);
    wss_destroy(NULL);
    client_free(c);
    host_end();
    CHECK_INT(freed, 2);
}

static void walking_the_connections(void) {
    wss_server *server = serve();
    wss_conn conn = {0};
    wss_info info;
    client *c[3];
    conn_count = 0;
    wss_on_connect(server, note_conn, NULL);
    for (int i = 0; i < 3; i++) c[i] = client_open(host_port);
    UNTIL(wss_count(server) == 3);
    for (int i = 0; i < 3; i++) {
        conn = wss_next(server, conn);
        CHECK_INT((long long)conn.id, (long long)conns[i].id);
        CHECK_INT(wss_get_info(server, conn, &info), WSS_OK);
        CHECK_INT((long long)info.conn.id, (long long)conn.id);
        CHECK_TEXT(info.address, "127.0.0.1");
        CHECK_TEXT(info.path, "/chat");
        CHECK_TEXT(info.protocol, "");
        CHECK(info.bytes_in > 100 && info.bytes_out > 100);
        CHECK_INT(info.round_trip_ms, -1);
        CHECK_INT(info.uid, -1);
    }
    CHECK_INT((long long)wss_next(server, conn).id, 0);
    CHECK(client_leave(c[1]));
    UNTIL(wss_count(server) == 2);
    conn = wss_next(server, conns[0]);
    CHECK_INT((long long)conn.id, (long long)conns[2].id);
    CHECK(client_leave(c[0]));
    CHECK(client_leave(c[2]));
    host_end();
}

static void echo_data(const wss_event *e) {
    CHECK_INT(wss_send_data(e->server, e->conn, e->opcode, e->data, e->size), WSS_OK);
}

/* While paused nothing is read; everything waits, and comes in order afterwards. */
static void pause_and_resume(void) {
    wss_server *server = serve();
    conn_count = 0;
    wss_on_connect(server, note_conn, NULL);
    wss_on_data(server, echo_data, NULL);
    client *c = client_open(host_port);
    UNTIL(conn_count == 1);
    CHECK_INT(wss_pause(server, conns[0]), WSS_OK);
    host_settle();
    client_text(c, "one");
    client_text(c, "two");
    CHECK_INT(client_read_within(c, 50), CLIENT_LATE);
    CHECK_INT(wss_send_data(server, conns[0], WSS_TEXT, "sent", 4), WSS_OK);
    CHECK_TEXT(client_read_text(c), "sent");
    CHECK_INT(wss_resume(server, conns[0]), WSS_OK);
    CHECK_TEXT(client_read_text(c), "one");
    CHECK_TEXT(client_read_text(c), "two");
    CHECK(client_leave(c));
    host_end();
}

/* ---- running and stopping ---- */

static void on_tick(const wss_event *e) {
    CHECK_INT(e->kind, WSS_EVENT_TIMER);
    host_say("tick");
}

/* A program with a loop of its own: the descriptor is readable whenever there is work, and only then a step is made. */
static void outer_loop(void) {
    wss_options options = {0};
    wss_stats before, after;
    host_forget();
    wss_server *server = host_make(&options);
    struct pollfd ready = {wss_fd(server), POLLIN, 0};
    CHECK(ready.fd >= 0);
    CHECK_INT(wss_fd(server), ready.fd);
    wss_on_connect(server, say_connect, NULL);
    wss_on_data(server, echo_data, NULL);
    CHECK_INT(poll(&ready, 1, 0), 0);
    wss_get_stats(server, &before);
    client *c = client_dial(host_port); /* accepted by the kernel */
    CHECK_INT(poll(&ready, 1, 5000), 1);
    CHECK_INT(wss_poll(server, 0), WSS_OK);
    client_say(c, SCRIPT_HANDSHAKE);
    for (int i = 0; i < 100 && !host_has_said("connect"); i++) {
        CHECK_INT(poll(&ready, 1, 5000), 1);
        CHECK_INT(wss_poll(server, 0), WSS_OK);
    }
    while (poll(&ready, 1, 0) > 0) wss_poll(server, 0);
    CHECK_INT(client_read_head(c), 101);
    client_text(c, "hello");
    CHECK_INT(poll(&ready, 1, 5000), 1);
    CHECK_INT(wss_poll(server, 0), WSS_OK);
    CHECK_TEXT(client_read_text(c), "hello");
    while (poll(&ready, 1, 0) > 0) wss_poll(server, 0);
    CHECK_INT(wss_post(server, say_posted, name_a), WSS_OK);
    CHECK_INT(poll(&ready, 1, 5000), 1);
    CHECK_INT(wss_poll(server, 0), WSS_OK);
    CHECK(host_has_said("posted(.a)"));
    while (poll(&ready, 1, 0) > 0) wss_poll(server, 0);
    CHECK(wss_timer_start(server, 30, 0, on_tick, NULL).id != 0);
    for (int i = 0; i < 100 && !host_has_said("tick"); i++) {
        CHECK_INT(poll(&ready, 1, 5000), 1);
        CHECK_INT(wss_poll(server, 0), WSS_OK);
    }
    CHECK(host_has_said("tick"));
    wss_get_stats(server, &after);
    CHECK(after.wakeups - before.wakeups < 200);
    client_free(c);
    for (int i = 0; i < 100 && wss_count(server); i++) {
        CHECK_INT(poll(&ready, 1, 5000), 1);
        CHECK_INT(wss_poll(server, 0), WSS_OK);
    }
    wss_stop(server, 0);
    CHECK_INT(poll(&ready, 1, 5000), 1);
    while (wss_poll(server, 0) == WSS_OK) CHECK_INT(poll(&ready, 1, 5000), 1);
    CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
    CHECK_INT(wss_run(server), WSS_ERR_BUSY);
    host_end();
}

static void *run_server(void *arg) {
    return (void *)(intptr_t)wss_run((wss_server *)arg);
}

static void a_server_runs_once(void) {
    wss_options options = {0};
    pthread_t thread;
    void *result;
    wss_server *server = host_make(&options);
    calls = 0;
    wss_on_connect(server, count_call, NULL);
    pthread_create(&thread, NULL, run_server, server);
    client *c = client_open(host_port);
    UNTIL(host_get(&calls) == 1);
    CHECK_INT(wss_run(server), WSS_ERR_BUSY);
    CHECK_INT(wss_start(server), WSS_ERR_BUSY);
    CHECK_INT(wss_poll(server, 0), WSS_ERR_BUSY);
    CHECK_INT(wss_destroy(server), WSS_ERR_BUSY);
    CHECK(handled(c));
    wss_stop(server, 5000);
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    CHECK_INT(c->code, 1001);
    client_send_close(c, 1001, "");
    client_free(c);
    pthread_join(thread, &result);
    CHECK_INT((intptr_t)result, WSS_OK);
    CHECK_INT(wss_run(server), WSS_ERR_BUSY);
    CHECK_INT(wss_start(server), WSS_ERR_BUSY);
    CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
    host_end();
    /* One that runs on a thread of its own. */
    server = host_start(&options);
    CHECK_INT(wss_start(server), WSS_ERR_BUSY);
    CHECK_INT(wss_run(server), WSS_ERR_BUSY);
    CHECK_INT(wss_poll(server, 0), WSS_ERR_BUSY);
    host_end();
    /* With several threads there is no single step. */
    options.threads = 2;
    server = host_make(&options);
    CHECK_INT(wss_poll(server, 0), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_fd(server), WSS_ERR_ARGUMENT);
    host_end();
}

static void try_destroy(const wss_event *e) {
    CHECK_INT(wss_destroy(e->server), WSS_ERR_BUSY);
    CHECK_INT(wss_run(e->server), WSS_ERR_BUSY);
    CHECK_INT(wss_poll(e->server, 0), WSS_ERR_BUSY);
    host_count(&calls);
}

static void try_destroy_posted(void *arg) {
    CHECK_INT(wss_destroy((wss_server *)arg), WSS_ERR_BUSY);
    host_count(&calls);
}

static void destroy_inside_callbacks(void) {
    wss_server *server = serve();
    calls = 0;
    wss_on_connect(server, try_destroy, NULL);
    wss_on_message(server, "m", try_destroy, NULL);
    wss_on_data(server, try_destroy, NULL);
    wss_on_disconnect(server, try_destroy, NULL);
    wss_timer_start(server, 0, 0, try_destroy, NULL);
    wss_post(server, try_destroy_posted, server);
    client *c = client_open(host_port);
    client_text(c, "{\"__MESSAGE__\":\"m\"}");
    CHECK(handled(c));
    CHECK(client_leave(c));
    UNTIL(calls == 6);
    host_end();
}

static void stop_now(const wss_event *e) {
    wss_stop(e->server, 5000);
    wss_stop(e->server, 1); /* the first call counts */
}

static void *stop_elsewhere(void *arg) {
    wss_stop((wss_server *)arg, 5000);
    return NULL;
}

static void on_signal(int number) {
    (void)number;
    wss_stop(host, 5000);
}

enum { STOP_IN_HANDLER, STOP_ELSEWHERE, STOP_IN_SIGNAL, STOP_POSTED, STOP_WAYS };

static void stop_posted(void *arg) {
    wss_stop((wss_server *)arg, 5000);
}

typedef struct guest {
    pthread_t runner;
    int way;
    int code;
    int ended;
} guest;

/* A client on a thread of its own: makes the server stop, and sees how it is told. */
static void *guest_run(void *arg) {
    guest *g = (guest *)arg;
    pthread_t thread;
    client *c = client_open(host_port);
    client_text(c, g->way == STOP_IN_HANDLER ? "{\"__MESSAGE__\":\"stop\"}" : "x");
    if (g->way == STOP_ELSEWHERE) {
        pthread_create(&thread, NULL, stop_elsewhere, host);
        pthread_join(thread, NULL);
    } else if (g->way == STOP_IN_SIGNAL) {
        pthread_kill(g->runner, SIGUSR1);
    } else if (g->way == STOP_POSTED) {
        CHECK_INT(wss_post(host, stop_posted, host), WSS_OK);
    }
    if (client_read(c) == SCRIPT_CLOSE) g->code = c->code;
    client_send_close(c, 1001, "");
    g->ended = client_read(c) == CLIENT_ENDED;
    client_free(c);
    return NULL;
}

static void stopping(void) {
    signal(SIGUSR1, on_signal);
    for (int way = 0; way < STOP_WAYS; way++) {
        wss_options options = {0};
        pthread_t thread;
        guest g = {pthread_self(), way, 0, 0};
        wss_server *server = host_make(&options);
        host_forget();
        wss_on_connect(server, say_connect, NULL);
        wss_on_disconnect(server, say_disconnect, NULL);
        wss_on_message(server, "stop", stop_now, NULL);
        pthread_create(&thread, NULL, guest_run, &g);
        CHECK_INT(wss_run(server), WSS_OK);
        pthread_join(thread, NULL);
        CHECK_INT(g.code, 1001);
        CHECK_INT(g.ended, 1);
        CHECK_TEXT(host_said, "connect(1) disconnect(0)");
        host_end();
    }
    signal(SIGUSR1, SIG_DFL);
}

static void stop_before_running(void) {
    wss_options options = {0};
    wss_server *server = host_make(&options);
    wss_stop(server, 0);
    wss_stop(NULL, 0);
    CHECK_INT(wss_run(server), WSS_OK);
    host_end();
    server = host_make(&options);
    wss_stop(server, 0);
    CHECK_INT(wss_start(server), WSS_OK);
    host_end();
    host_make(&options);
    host_end();
}

/* Although connections that the server ended first are still in TIME_WAIT, and others are open. */
static void same_port_at_once(void) {
    wss_options options = {0};
    client *open = NULL;
    for (int i = 0; i < 5; i++) {
        host_drive(&options);
        options.port = host_port;
        client *c = client_open(host_port);
        CHECK_INT(c->status, 101);
        CHECK(client_leave(c));
        if (open) client_free(open);
        open = client_open(host_port);
        CHECK_INT(open->status, 101);
        wss_stop(host, 1);
        while (wss_poll(host, -1) == WSS_OK) {
        }
        host_end();
    }
    client_free(open);
}

static void taken_port(void) {
    wss_options options = {0};
    wss_error why;
    int before = host_descriptors();
    wss_server *server = host_make(&options);
    options.port = host_port;
    memset(&why, 0x7f, sizeof why);
    CHECK(wss_create(&options, &why) == NULL);
    CHECK_INT(why.code, WSS_ERR_SYSTEM);
    CHECK_INT(why.system_errno, EADDRINUSE);
    CHECK(strstr(why.text, "127.0.0.1") != NULL);
    CHECK(strstr(why.text, "in use") != NULL);
    CHECK(strchr(why.text, '\n') == NULL);
    CHECK(wss_create(&options, NULL) == NULL);
    host = server;
    host_end();
    CHECK_INT(host_descriptors(), before);
}

/* ---- errors ---- */

static int fail_all;

static void *failing_allocator(void *context, void *pointer, size_t old_size, size_t new_size) {
    if (fail_all && new_size) return NULL;
    return host_allocator(context, pointer, old_size, new_size);
}

static int nothing_ran;

static void run_nothing(void *arg) {
    (void)arg;
    nothing_ran++;
}

static void errors_of_arguments(void) {
    wss_server *server = serve();
    wss_conn none = {0};
    wss_args args = {0};
    wss_info info;
    char long_text[130];
    char long_type[130];
    memset(long_text, 'r', sizeof long_text);
    memset(long_type, 't', sizeof long_type);
    long_type[129] = 0;
    long_text[124] = 0;
    client *c = client_open(host_port);
    UNTIL(wss_count(server) == 1);
    wss_conn conn = wss_next(server, none);
    CHECK_INT(wss_send(NULL, conn, "m", args), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_send(server, conn, NULL, args), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_send(server, conn, "", args), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_send(server, conn, long_type, args), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_broadcast(server, long_type, args), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_message(server, long_type, say_message, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_send(server, conn, "\xff", args), WSS_ERR_UTF8);
    CHECK_INT(wss_send(server, conn, "m", wss_json("[]")), WSS_ERR_JSON);
    CHECK_INT(wss_send(server, conn, "m", wss_json("1")), WSS_ERR_JSON);
    CHECK_INT(wss_send(server, conn, "m", wss_json("")), WSS_ERR_JSON);
    CHECK_INT(wss_send(server, conn, "m", wss_json("{\"a\"}")), WSS_ERR_JSON);
    CHECK_INT(wss_send(server, conn, "m", wss_json("{} x")), WSS_ERR_JSON);
    CHECK_INT(wss_send(server, conn, "m", wss_json("{\"a\":\"\xff\"}")), WSS_ERR_UTF8);
    args.error = WSS_ERR_SPACE;
    CHECK_INT(wss_send(server, conn, "m", args), WSS_ERR_SPACE);
    CHECK_INT(wss_broadcast(server, "m", args), WSS_ERR_SPACE);
    CHECK_INT(wss_broadcast(server, NULL, wss_json("{}")), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_broadcast(NULL, "m", wss_json("{}")), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_broadcast_data(server, 0, "x", 1), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_broadcast_data(server, 8, "x", 1), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_broadcast_data(server, WSS_TEXT, "\xc3", 1), WSS_ERR_UTF8);
    CHECK_INT(wss_send_data(server, conn, WSS_TEXT, NULL, 1), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "\xed\xa0\x80", 3), WSS_ERR_UTF8);
    CHECK_INT(wss_send_data(server, conn, WSS_BINARY, "x", SIZE_MAX), WSS_ERR_TOO_BIG);
    CHECK_INT(wss_send_data(server, conn, WSS_BINARY, "x", (size_t)300 << 20), WSS_ERR_TOO_BIG);
    CHECK_INT(wss_send_latest(server, conn, NULL, "m", wss_json("{}")), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_send_latest(server, conn, "", "m", wss_json("{}")), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_send_latest(server, conn, long_text, "m", wss_json("{}")), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_broadcast_latest(server, "", "m", wss_json("{}")), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_close(server, conn, 999, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_close(server, conn, 1004, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_close(server, conn, 1005, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_close(server, conn, 1006, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_close(server, conn, 1015, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_close(server, conn, 2999, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_close(server, conn, 5000, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_close(server, conn, 1000, long_text), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_close(server, conn, 1000, "\xff"), WSS_ERR_UTF8);
    CHECK_INT(wss_post(server, NULL, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_post(NULL, run_nothing, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT((long long)wss_timer_start(server, 1, 0, NULL, NULL).id, 0);
    CHECK(wss_timer_start(server, -1, 0, on_tick, NULL).id != 0); /* what is due less what is now: at once */
    CHECK_INT(wss_get_info(server, conn, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_get_info(NULL, conn, &info), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_run(NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_start(NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_poll(NULL, 0), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_fd(NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_destroy(NULL), WSS_OK);
    CHECK_INT(wss_count(NULL), 0);
    CHECK_INT(wss_buffered(NULL, conn), 0);
    CHECK(handled(c)); /* nothing of all this reached it */
    wss_timer never = {0};
    CHECK_INT(wss_timer_cancel(server, never), WSS_ERR_GONE);
    CHECK(client_leave(c));
    host_end();
}

static void errors_of_nesting(void) {
    wss_options options = {0};
    char good[400] = "{\"__MESSAGE__\":\"m\",\"a\":"; /* 128 levels, with the object itself */
    char deep[400] = "{\"a\":";
    memset(good + strlen(good), '[', 127);
    memset(good + strlen(good), ']', 127);
    strcat(good, "}");
    memset(deep + strlen(deep), '[', 128);
    memset(deep + strlen(deep), ']', 128);
    strcat(deep, "}");
    wss_server *server = host_drive(&options);
    client *c = client_open(host_port);
    UNTIL(wss_count(server) == 1);
    CHECK_INT(wss_broadcast(server, "m", wss_json(good)), WSS_OK);
    CHECK_INT(wss_broadcast(server, "m", wss_json(deep)), WSS_ERR_DEPTH);
    CHECK_TEXT(client_read_text(c), good);
    CHECK(client_leave(c));
    host_end();
}

static void errors_of_memory_and_bounds(void) {
    static char block[60000];
    wss_options options = {0};
    wss_conn none = {0};
    wss_error why;
    options.allocator = failing_allocator;
    options.memory_budget = 8 << 20;
    options.max_queued = 16 << 20;
    options.max_posted = 3;
    wss_server *server = host_drive(&options);
    client *c = client_open(host_port);
    UNTIL(wss_count(server) == 1);
    wss_conn conn = wss_next(server, none);
    fail_all = 1;
    CHECK_INT(wss_send(server, conn, "m", wss_json("{}")), WSS_ERR_MEMORY);
    CHECK_INT(wss_broadcast(server, "m", wss_json("{}")), WSS_ERR_MEMORY);
    CHECK_INT(wss_close(server, conn, 1000, NULL), WSS_ERR_MEMORY);
    CHECK_INT(wss_post(server, run_nothing, NULL), WSS_ERR_MEMORY);
    CHECK_INT((long long)wss_timer_start(server, 1, 0, on_tick, NULL).id, 0);
    CHECK(wss_create(&options, &why) == NULL);
    CHECK_INT(why.code, WSS_ERR_MEMORY);
    fail_all = 0;
    /* Posted work: three items, or 16 MiB. */
    nothing_ran = 0;
    for (int i = 0; i < 3; i++) CHECK_INT(wss_post(server, run_nothing, NULL), WSS_OK);
    CHECK_INT(wss_post(server, run_nothing, NULL), WSS_ERR_QUEUE_FULL);
    CHECK_INT(wss_send(server, conn, "m", wss_json("{}")), WSS_ERR_QUEUE_FULL);
    CHECK_INT(wss_broadcast(server, "m", wss_json("{}")), WSS_ERR_QUEUE_FULL);
    wss_poll(server, 0);
    CHECK_INT(nothing_ran, 3);
    /* The budget: what a client does not read adds up until it is used. */
    int result = WSS_OK;
    for (int i = 0; i < 1000 && result == WSS_OK; i++) {
        result = wss_send_data(server, conn, WSS_BINARY, block, sizeof block);
        wss_poll(server, 0);
    }
    CHECK_INT(result, WSS_ERR_BUDGET);
    wss_stats stats;
    wss_get_stats(server, &stats);
    CHECK(stats.memory <= stats.memory_budget);
    CHECK_INT(stats.memory_budget, 8 << 20);
    wss_stop(server, 100);
    CHECK_INT(wss_send(server, conn, "m", wss_json("{}")), WSS_ERR_STOPPED);
    CHECK_INT(wss_broadcast(server, "m", wss_json("{}")), WSS_ERR_STOPPED);
    CHECK_INT(wss_post(server, run_nothing, NULL), WSS_ERR_STOPPED);
    client_reset(c);
    host_end();
}

static void errors_of_addresses(void) {
    static const char *const wrong[] = {"nowhere.example", "127.0.0.1:99999", "1.2.3", "[::1", "", "127.0.0.1,", "[127.0.0.1]x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        wss_options options = {0};
        wss_error why;
        options.address = wrong[i];
        wss_server *server = wss_create(&options, &why);
        if (server) printf("created on %s\n", wrong[i]);
        CHECK(server == NULL);
        CHECK_INT(why.code, WSS_ERR_ADDRESS);
        CHECK(strstr(why.text, "cannot listen on") != NULL);
        wss_destroy(server);
    }
    wss_options options = {0};
    wss_error why;
    options.port = 65536;
    CHECK(wss_create(&options, &why) == NULL);
    CHECK_INT(why.code, WSS_ERR_ARGUMENT);
}

int main(void) {
    alarm(60);
    RUN(pairs_and_counts);
    RUN(no_pair_without_handshake);
    RUN(handlers_run_in_order);
    RUN(registering_inside_handlers);
    RUN(registering_from_threads);
    RUN(typed_messages_both_ways);
    RUN(another_type_member);
    RUN(binary_and_raw);
    RUN(hostile_json_is_ignored);
    RUN(deep_json_is_ignored);
    RUN(calls_before_running);
    RUN(sends_and_broadcasts);
    RUN(sends_from_threads_keep_their_order);
    RUN(posts_run_in_order);
    RUN(posts_and_stop);
    RUN(user_pointer);
    RUN(walking_the_connections);
    RUN(pause_and_resume);
    RUN(outer_loop);
    RUN(a_server_runs_once);
    RUN(destroy_inside_callbacks);
    RUN(stopping);
    RUN(stop_before_running);
    RUN(same_port_at_once);
    RUN(taken_port);
    RUN(errors_of_arguments);
    RUN(errors_of_nesting);
    RUN(errors_of_memory_and_bounds);
    RUN(errors_of_addresses);
    return test_end("api");
}
