/* The contract of the calls: each with each argument that is not valid, and what it returns. Nothing of it reaches a client,
   and nothing leaks. What works is told elsewhere. */
#include "../step.h"

enum { LONG = 200 };

static wss_server *server;
static step_client *client; /* open, */
static wss_conn conn;       /* and its connection */
static wss_conn dead;       /* one that was */
static wss_conn upgrade, plain; /* requests that wait for an answer */
static char long_text[LONG + 1];
static int fired;

static void on_connect(const wss_event *e) {
    conn = e->conn;
}

static void on_upgrade(const wss_event *e) {
    if (conn.id) upgrade = e->conn;
    else wss_accept(e->server, e->conn, NULL, NULL, 0, NULL);
}

static void on_http(const wss_event *e) {
    plain = e->conn;
}

static void on_timer(const wss_event *e) {
    (void)e;
    fired++;
}

static void nothing(const wss_event *e) {
    (void)e;
}

static void nothing_posted(void *arg) {
    (void)arg;
}

/* A server with one open client, one that has gone, and with two requests to be answered. */
static step_client *asking[2];

static void begin(void) {
    wss_options options = {0};
    memset(long_text, 'x', LONG);
    conn.id = 0;
    server = step_server(&options);
    wss_on_connect(server, on_connect, NULL);
    client = step_open(server);
    dead = conn;
    step_free(client);
    step(server);
    conn.id = 0;
    wss_on_upgrade(server, on_upgrade, NULL);
    wss_on_http(server, on_http, NULL);
    client = step_open(server);
    asking[0] = step_connect(server);
    step_ask(server, asking[0], "GET / HTTP/1.1\r\n" STEP_UPGRADE "Sec-WebSocket-Protocol: chat\r\n\r\n");
    asking[1] = step_connect(server);
    step_ask(server, asking[1], "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(conn.id && dead.id && upgrade.id && plain.id);
}

static void end(void) {
    wss_stats stats;
    step(server);
    CHECK_INT(step_take(server, client, NULL, NULL), -1); /* nothing reached it */
    wss_get_stats(server, &stats);
    CHECK_INT(stats.messages_out, 0);
    CHECK_INT(wss_count(server), 1);
    CHECK_INT(stats.posted, 0);
    for (int i = 0; i < 2; i++) {
        while (step_receive(asking[i])) {
        }
        CHECK_INT(asking[i]->size, 0);
        step_free(asking[i]);
    }
    step_free(client);
    step(server);
    step_end(server);
}

/* ---- sends ---- */

static void typed(void) {
    static const struct {
        const char *type;
        const char *args;
        int error; /* of a writer */
        int want;
    } rows[] = {
        {NULL, "{}", 0, WSS_ERR_ARGUMENT},
        {"", "{}", 0, WSS_ERR_ARGUMENT},
        {long_text, "{}", 0, WSS_ERR_ARGUMENT},
        {"\xff", "{}", 0, WSS_ERR_UTF8},
        {"a\xc3", "{}", 0, WSS_ERR_UTF8},
        {"\xed\xa0\x80", "{}", 0, WSS_ERR_UTF8},
        {"m", "", 0, WSS_ERR_JSON},
        {"m", "[]", 0, WSS_ERR_JSON},
        {"m", "1", 0, WSS_ERR_JSON},
        {"m", "null", 0, WSS_ERR_JSON},
        {"m", "\"text\"", 0, WSS_ERR_JSON},
        {"m", "{", 0, WSS_ERR_JSON},
        {"m", "{} {}", 0, WSS_ERR_JSON},
        {"m", "{\"a\"}", 0, WSS_ERR_JSON},
        {"m", "{\"a\":1,}", 0, WSS_ERR_JSON},
        {"m", "{\"a\":\"\xff\"}", 0, WSS_ERR_UTF8},
        {"m", "{}", WSS_ERR_SPACE, WSS_ERR_SPACE},
        {"m", "{}", WSS_ERR_RANGE, WSS_ERR_RANGE},
        {"m", "nonsense", WSS_ERR_MEMORY, WSS_ERR_MEMORY},
    };
    begin();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        wss_args args = wss_json(rows[i].args);
        args.error = rows[i].error;
        CHECK_INT(wss_send(server, conn, rows[i].type, args), rows[i].want);
        CHECK_INT(wss_send_latest(server, conn, "k", rows[i].type, args), rows[i].want);
        CHECK_INT(wss_broadcast(server, rows[i].type, args), rows[i].want);
        CHECK_INT(wss_broadcast_except(server, dead, rows[i].type, args), rows[i].want);
        CHECK_INT(wss_broadcast_latest(server, "k", rows[i].type, args), rows[i].want);
        CHECK_INT(wss_send(server, dead, rows[i].type, args), rows[i].want); /* the message is looked at first */
    }
    static char deep[2][300] = {"{\"a\":", "{\"a\":"};
    for (int i = 0; i < 2; i++) { /* 128 and 129 levels, the object among them */
        memset(deep[i] + 5, '[', (size_t)(127 + i));
        memset(deep[i] + 5 + 127 + i, ']', (size_t)(127 + i));
        strcat(deep[i], "}");
    }
    CHECK_INT(wss_send(server, conn, "m", wss_json(deep[1])), WSS_ERR_DEPTH);
    CHECK_INT(wss_broadcast(server, "m", wss_json(deep[1])), WSS_ERR_DEPTH);
    CHECK_INT(wss_send(server, dead, "m", wss_json(deep[0])), WSS_ERR_GONE); /* that is not too deep */
    end();
}

static void keys(void) {
    begin();
    const char *const bad[] = {NULL, "", long_text, long_text + LONG - 65};
    for (int i = 0; i < 4; i++) {
        CHECK_INT(wss_send_latest(server, conn, bad[i], "m", wss_json("{}")), WSS_ERR_ARGUMENT);
        CHECK_INT(wss_broadcast_latest(server, bad[i], "m", wss_json("{}")), WSS_ERR_ARGUMENT);
    }
    CHECK_INT(wss_send_latest(server, dead, long_text + LONG - 64, "m", wss_json("{}")), WSS_ERR_GONE);
    end();
}

static void data(void) {
    static const struct {
        int opcode;
        const char *data;
        size_t size;
        int want;
    } rows[] = {
        {0, "x", 1, WSS_ERR_ARGUMENT},
        {3, "x", 1, WSS_ERR_ARGUMENT},
        {8, "x", 1, WSS_ERR_ARGUMENT},
        {9, "x", 1, WSS_ERR_ARGUMENT},
        {-1, "x", 1, WSS_ERR_ARGUMENT},
        {0x81, "x", 1, WSS_ERR_ARGUMENT},
        {WSS_TEXT, NULL, 1, WSS_ERR_ARGUMENT},
        {WSS_BINARY, NULL, 1, WSS_ERR_ARGUMENT},
        {WSS_TEXT, "\xc3", 1, WSS_ERR_UTF8},
        {WSS_TEXT, "ab\xed\xa0\x80", 5, WSS_ERR_UTF8},
        {WSS_TEXT, "\xf4\x90\x80\x80", 4, WSS_ERR_UTF8},
        {WSS_BINARY, "x", (size_t)300 << 20, WSS_ERR_TOO_BIG},
        {WSS_BINARY, "x", SIZE_MAX, WSS_ERR_TOO_BIG},
    };
    begin();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CHECK_INT(wss_send_data(server, conn, rows[i].opcode, rows[i].data, rows[i].size), rows[i].want);
        CHECK_INT(wss_broadcast_data(server, rows[i].opcode, rows[i].data, rows[i].size), rows[i].want);
        CHECK_INT(wss_broadcast_data_except(server, dead, rows[i].opcode, rows[i].data, rows[i].size), rows[i].want);
    }
    end();
}

/* ---- connections ---- */

/* Handles that name nobody: none, one that has ended, one of a place that never was, those that are not open yet. */
static void dead_handles(void) {
    wss_info info;
    begin();
    const wss_conn handles[] = {{0}, dead, {UINT64_MAX}, {1}, {conn.id + ((uint64_t)1 << 40)}, upgrade, plain};
    for (int i = 0; i < 7; i++) {
        int asks = i >= 5; /* known, but takes nothing before its answer */
        CHECK_INT(wss_send(server, handles[i], "m", wss_json("{}")), WSS_ERR_GONE);
        CHECK_INT(wss_send_data(server, handles[i], WSS_TEXT, "x", 1), WSS_ERR_GONE);
        CHECK_INT(wss_send_latest(server, handles[i], "k", "m", wss_json("{}")), WSS_ERR_GONE);
        CHECK_INT(wss_close(server, handles[i], 1000, NULL), WSS_ERR_GONE);
        CHECK_INT(wss_pause(server, handles[i]), WSS_ERR_GONE);
        CHECK_INT(wss_resume(server, handles[i]), WSS_ERR_GONE);
        CHECK_INT(wss_buffered(server, handles[i]), 0);
        memset(&info, 0x55, sizeof info);
        CHECK_INT(wss_get_info(server, handles[i], &info), asks ? WSS_OK : WSS_ERR_GONE);
        if (!asks) CHECK(info.conn.id == 0 && info.address[0] == 0);
        if (asks) continue;
        CHECK_INT(wss_set_user(server, handles[i], &info), WSS_ERR_GONE);
        CHECK_INT(wss_accept(server, handles[i], NULL, NULL, 0, NULL), WSS_ERR_GONE);
        CHECK_INT(wss_refuse(server, handles[i], NULL), WSS_ERR_GONE);
        CHECK_INT(wss_reply(server, handles[i], NULL), WSS_ERR_GONE);
    }
    end();
}

static void closes(void) {
    static const int bad[] = {INT_MIN, -1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, INT_MAX};
    static const int good[] = {1000, 1003, 1007, 1014, 3000, 4999};
    begin();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_INT(wss_close(server, conn, bad[i], NULL), WSS_ERR_ARGUMENT);
        CHECK_INT(wss_close(server, dead, bad[i], NULL), WSS_ERR_ARGUMENT);
    }
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) CHECK_INT(wss_close(server, dead, good[i], NULL), WSS_ERR_GONE);
    CHECK_INT(wss_close(server, conn, 1000, long_text + LONG - 124), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_close(server, dead, 1000, long_text + LONG - 123), WSS_ERR_GONE);
    CHECK_INT(wss_close(server, conn, 1000, "\xff"), WSS_ERR_UTF8);
    CHECK_INT(wss_close(server, conn, 1000, "half \xe2\x82"), WSS_ERR_UTF8);
    CHECK_INT(wss_get_info(server, conn, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_get_info(server, dead, NULL), WSS_ERR_ARGUMENT);
    end();
}

/* ---- answers ---- */

static void bad_headers(void) {
    static const wss_header headers[] = {
        {NULL, "v"}, {"", "v"}, {"a b", "v"}, {"a:", "v"}, {"a\r\nB", "v"}, {"\xc3\xa4", "v"}, {"A", NULL},
        {"A", "v\r\nB: w"}, {"A", "v\nB"}, {"A", "\x01"}, {"A", "v\x7f"}, {"Content-Length", "0"},
        {"connection", "close"}, {"Transfer-Encoding", "chunked"}, {"Upgrade", "x"},
    };
    wss_answer answer = {0};
    begin();
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        const wss_header two[] = {{"Good", "value"}, headers[i]};
        answer.headers = two;
        answer.header_count = 2;
        CHECK_INT(wss_accept(server, upgrade, NULL, two, 2, NULL), WSS_ERR_HEADER);
        CHECK_INT(wss_refuse(server, upgrade, &answer), WSS_ERR_HEADER);
        CHECK_INT(wss_reply(server, plain, &answer), WSS_ERR_HEADER);
    }
    memset(&answer, 0, sizeof answer);
    static const char *const types[] = {"a\r\nB: c", "\n", "\x1f"};
    for (int i = 0; i < 3; i++) {
        answer.content_type = types[i];
        CHECK_INT(wss_refuse(server, upgrade, &answer), WSS_ERR_HEADER);
        CHECK_INT(wss_reply(server, plain, &answer), WSS_ERR_HEADER);
    }
    end();
}

static void bad_answers(void) {
    static const int statuses[] = {INT_MIN, -1, 1, 100, 101, 199, 600, INT_MAX};
    wss_answer answer = {0};
    begin();
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        answer.status = statuses[i];
        CHECK_INT(wss_refuse(server, upgrade, &answer), WSS_ERR_ARGUMENT);
        CHECK_INT(wss_reply(server, plain, &answer), WSS_ERR_ARGUMENT);
    }
    for (int status = 200; status < 300; status += 33) {
        answer.status = status;
        CHECK_INT(wss_refuse(server, upgrade, &answer), WSS_ERR_ARGUMENT);
    }
    memset(&answer, 0, sizeof answer);
    answer.size = 1; /* of no body */
    CHECK_INT(wss_refuse(server, upgrade, &answer), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_reply(server, plain, &answer), WSS_ERR_ARGUMENT);
    answer.size = 0;
    answer.header_count = 1; /* of no headers */
    CHECK_INT(wss_refuse(server, upgrade, &answer), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_reply(server, plain, &answer), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_accept(server, upgrade, NULL, NULL, 1, NULL), WSS_ERR_ARGUMENT);
    /* Each call for its own kind of request. */
    CHECK_INT(wss_accept(server, plain, NULL, NULL, 0, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_refuse(server, plain, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_reply(server, upgrade, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_accept(server, upgrade, "other", NULL, 0, NULL), WSS_ERR_PROTOCOL);
    CHECK_INT(wss_accept(server, upgrade, "", NULL, 0, NULL), WSS_ERR_PROTOCOL);
    CHECK_INT(wss_accept(server, upgrade, "Chat", NULL, 0, NULL), WSS_ERR_PROTOCOL);
    CHECK_INT(wss_accept(server, conn, NULL, NULL, 0, NULL), WSS_ERR_ANSWERED);
    CHECK_INT(wss_refuse(server, conn, NULL), WSS_ERR_ANSWERED);
    CHECK_INT(wss_reply(server, conn, NULL), WSS_ERR_ANSWERED);
    end();
}

/* ---- requests ---- */

static int requests_read;

static void on_read(const wss_event *e) {
    char out[32];
    size_t length;
    const wss_request *r = e->request;
    const char *value = "unset";
    int port = 5;
    requests_read++;
    struct {
        const char *what;
        int got;
        int want;
    } rows[] = {
        {"path", wss_request_path(r, NULL, 1, NULL), WSS_ERR_ARGUMENT},
        {"path of none", wss_request_path(NULL, out, sizeof out, &length), WSS_ERR_ARGUMENT},
        {"path, no room", wss_request_path(r, out, 3, &length), WSS_ERR_UTF8},
        {"query", wss_request_query(r, "a", NULL, 1, NULL), WSS_ERR_ARGUMENT},
        {"query without a name", wss_request_query(r, NULL, out, sizeof out, &length), WSS_ERR_ARGUMENT},
        {"query of none", wss_request_query(NULL, "a", out, sizeof out, &length), WSS_ERR_ARGUMENT},
        {"query, missing", wss_request_query(r, "c", out, sizeof out, &length), WSS_ERR_MISSING},
        {"query, no room", wss_request_query(r, "a", out, 3, &length), WSS_ERR_SPACE},
        {"query, not UTF-8", wss_request_query(r, "b", out, sizeof out, &length), WSS_ERR_UTF8},
        {"cookie", wss_request_cookie(r, "k", NULL, 1, NULL), WSS_ERR_ARGUMENT},
        {"cookie without a name", wss_request_cookie(r, NULL, out, sizeof out, NULL), WSS_ERR_ARGUMENT},
        {"cookie of none", wss_request_cookie(NULL, "k", out, sizeof out, NULL), WSS_ERR_ARGUMENT},
        {"cookie, missing", wss_request_cookie(r, "l", out, sizeof out, NULL), WSS_ERR_MISSING},
        {"cookie, no room", wss_request_cookie(r, "k", out, 5, NULL), WSS_ERR_SPACE},
        {"protocol", wss_request_protocol(r, 0, NULL, 1, NULL), WSS_ERR_ARGUMENT},
        {"protocol of none", wss_request_protocol(NULL, 0, out, sizeof out, NULL), WSS_ERR_ARGUMENT},
        {"protocol, missing", wss_request_protocol(r, 1, out, sizeof out, NULL), WSS_ERR_MISSING},
        {"protocol, far", wss_request_protocol(r, SIZE_MAX, out, sizeof out, NULL), WSS_ERR_MISSING},
        {"protocol, no room", wss_request_protocol(r, 0, out, 4, NULL), WSS_ERR_SPACE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].got != rows[i].want) printf("%s\n", rows[i].what);
        CHECK_INT(rows[i].got, rows[i].want);
    }
    memset(out, 'x', sizeof out);
    CHECK_INT(wss_request_query(r, "c", out, sizeof out, &length), WSS_ERR_MISSING);
    CHECK_TEXT(out, ""); /* on error */
    CHECK_TEXT(wss_request_method(NULL), "");
    CHECK_TEXT(wss_request_target(NULL), "");
    CHECK(wss_request_header(NULL, "Host") == NULL && wss_request_header(r, NULL) == NULL);
    CHECK(wss_request_header(r, "Absent") == NULL && wss_request_header(r, "") == NULL);
    CHECK(wss_request_header_at(NULL, 0, &value) == NULL && value == NULL);
    value = "unset";
    CHECK(wss_request_header_at(r, SIZE_MAX, &value) == NULL && value == NULL);
    CHECK(wss_request_header_at(r, 64, NULL) == NULL);
    CHECK_TEXT(wss_request_peer(NULL, &port), "");
    CHECK_INT(port, 0);
    CHECK_TEXT(wss_request_peer(NULL, NULL), "");
}

static void requests(void) {
    wss_options options = {0};
    server = step_server(&options);
    wss_on_upgrade(server, on_read, NULL);
    requests_read = 0;
    step_client *c = step_connect(server);
    step_ask(server, c, "GET /a%ff?a=%41bc&b=%ff HTTP/1.1\r\n" STEP_UPGRADE "Cookie: k=value\r\nSec-WebSocket-Protocol: chat\r\n\r\n");
    CHECK_INT(requests_read, 1);
    step_free(c);
    step(server);
    step_end(server);
}

/* ---- handlers, work, numbers ---- */

static void registrations(void) {
    begin();
    wss_handler *const none = NULL;
    CHECK_INT(wss_on_connect(server, none, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_disconnect(server, none, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_data(server, none, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_drain(server, none, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_upgrade(server, none, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_http(server, none, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_message(server, "m", none, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_message(server, NULL, nothing, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_message(server, "", nothing, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_message(server, long_text + LONG - 129, nothing, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_message(server, "\x80", nothing, NULL), WSS_ERR_UTF8);
    CHECK_INT(wss_on_message(server, long_text + LONG - 128, nothing, NULL), WSS_OK);
    end();
}

static void work(void) {
    wss_timer none = {0};
    wss_timer never = {UINT64_MAX};
    begin();
    CHECK_INT(wss_post(server, NULL, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT((long long)wss_timer_start(server, 1, 0, NULL, NULL).id, 0);
    CHECK_INT(wss_timer_cancel(server, none), WSS_ERR_GONE);
    CHECK_INT(wss_timer_cancel(server, never), WSS_ERR_GONE);
    wss_timer timer = wss_timer_start(server, 1000, 0, on_timer, NULL);
    CHECK_INT(wss_timer_cancel(server, timer), WSS_OK);
    CHECK_INT(wss_timer_cancel(server, timer), WSS_ERR_GONE);
    wss_stop(server, 100000);
    CHECK_INT(wss_post(server, nothing_posted, NULL), WSS_ERR_STOPPED);
    CHECK_INT((long long)wss_timer_start(server, 1, 0, on_timer, NULL).id, 0);
    CHECK_INT(wss_send(server, conn, "m", wss_json("{}")), WSS_ERR_STOPPED);
    CHECK_INT(wss_broadcast(server, "m", wss_json("{}")), WSS_ERR_STOPPED);
    CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "x", 1), WSS_ERR_STOPPED);
    for (int i = 0; i < 2; i++) step_free(asking[i]);
    step_free(client);
    step(server);
    step_end(server);
}

/* What is due less what is now: a time that has passed is now. */
static void timers_of_the_past(void) {
    static const int64_t delays[] = {-1, -1000, INT64_MIN, INT64_MIN + 1, 0};
    wss_options options = {0};
    server = step_server(&options);
    for (size_t i = 0; i < sizeof delays / sizeof delays[0]; i++) {
        fired = 0;
        CHECK(wss_timer_start(server, delays[i], 0, on_timer, NULL).id != 0);
        step_time(server, 1);
        CHECK_INT(fired, 1);
        step_time(server, 5000);
        CHECK_INT(fired, 1); /* once */
    }
    fired = 0;
    wss_timer timer = wss_timer_start(server, -5, -5, on_timer, NULL); /* repeated in no time is not repeated */
    CHECK(timer.id != 0);
    step_time(server, 1000);
    CHECK_INT(fired, 1);
    fired = 0;
    timer = wss_timer_start(server, -5, 100, on_timer, NULL);
    step_time(server, 1);
    CHECK_INT(fired, 1);
    for (int i = 0; i < 10; i++) step_time(server, 100);
    CHECK_INT(fired, 11);
    CHECK_INT(wss_timer_cancel(server, timer), WSS_OK);
    step_end(server);
}

static void numbers(void) {
    char text[16];
    size_t length = 0;
    wss_options options;
    wss_stats stats;
    memset(&options, 0x55, sizeof options);
    wss_get_options(NULL, &options); /* all zero, for whoever reads on */
    for (size_t i = 0; i < sizeof options; i++) CHECK_INT(((const char *)&options)[i], 0);
    memset(&stats, 0x55, sizeof stats);
    wss_get_stats(NULL, &stats);
    for (size_t i = 0; i < sizeof stats; i++) CHECK_INT(((const char *)&stats)[i], 0);
    wss_get_options(NULL, NULL);
    wss_get_stats(NULL, NULL);
    CHECK_INT(wss_stats_text(NULL, text, sizeof text, &length), WSS_ERR_ARGUMENT);
    CHECK_TEXT(text, "");
    begin();
    wss_get_options(server, NULL);
    wss_get_stats(server, NULL);
    CHECK_INT(wss_stats_text(server, NULL, 1, &length), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_stats_text(server, NULL, 0, &length), WSS_ERR_SPACE);
    CHECK(length > 1000);
    memset(text, 'x', sizeof text);
    CHECK_INT(wss_stats_text(server, text, sizeof text, NULL), WSS_ERR_SPACE);
    CHECK_TEXT(text, "");
    CHECK_TEXT(wss_strerror(-1000), "unknown error");
    CHECK_TEXT(wss_strerror(1), "unknown error");
    CHECK_TEXT(wss_cause_text(-1), "unknown cause");
    CHECK_TEXT(wss_cause_text(1000), "unknown cause");
    end();
}

/* ---- servers and queues ---- */

static void call_inside(const wss_event *e) {
    CHECK_INT(wss_run(e->server), WSS_ERR_BUSY);
    CHECK_INT(wss_start(e->server), WSS_ERR_BUSY);
    CHECK_INT(wss_poll(e->server, 0), WSS_ERR_BUSY);
    CHECK_INT(wss_destroy(e->server), WSS_ERR_BUSY);
    fired++;
}

static void servers(void) {
    wss_options options = {0};
    begin();
    CHECK_INT(wss_run(server), WSS_ERR_BUSY); /* it is polled */
    CHECK_INT(wss_start(server), WSS_ERR_BUSY);
    fired = 0;
    CHECK(wss_timer_start(server, 0, 0, call_inside, NULL).id != 0);
    step_time(server, 1);
    CHECK_INT(fired, 1);
    end();
    options.address = "127.0.0.1";
    options.allocator = step_allocator;
    options.threads = 2;
    server = wss_create(&options, NULL);
    CHECK(server != NULL);
    CHECK_INT(wss_poll(server, 0), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_fd(server), WSS_ERR_ARGUMENT);
    step_end(server);
}

static wss_queue *queue;

static void drain_inside(void *arg) {
    CHECK_INT(wss_queue_run(queue), WSS_ERR_BUSY);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_ERR_BUSY);
    CHECK_INT(wss_queue_destroy(queue), WSS_ERR_BUSY);
    ++*(int *)arg;
}

static void queues(void) {
    wss_options options = {0};
    wss_error why;
    int ran = 0;
    CHECK_INT(wss_queue_post(NULL, nothing_posted, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_queue_run(NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_queue_poll(NULL, 0), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_queue_fd(NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_queue_destroy(NULL), WSS_OK);
    wss_queue_stop(NULL);
    options.max_posted = -2;
    CHECK(wss_queue_create(&options, &why) == NULL);
    CHECK_INT(why.code, WSS_ERR_ARGUMENT);
    CHECK(wss_queue_create(&options, NULL) == NULL);
    options.max_posted = 2;
    options.allocator = step_allocator;
    queue = wss_queue_create(&options, &why);
    CHECK(queue != NULL);
    CHECK_INT(wss_queue_post(queue, NULL, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_queue_post(queue, drain_inside, &ran), WSS_OK);
    CHECK_INT(wss_queue_post(queue, nothing_posted, NULL), WSS_OK);
    CHECK_INT(wss_queue_post(queue, nothing_posted, NULL), WSS_ERR_QUEUE_FULL);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    CHECK_INT(ran, 1);
    step_fail_in = 1;
    CHECK_INT(wss_queue_post(queue, nothing_posted, NULL), WSS_ERR_MEMORY);
    step_fail_in = 0;
    options.queue = queue;
    server = step_server(&options);
    CHECK_INT(wss_queue_destroy(queue), WSS_ERR_BUSY); /* a server uses it */
    CHECK_INT(wss_destroy(server), WSS_OK);
    CHECK_INT(wss_queue_destroy(queue), WSS_OK);
    CHECK_INT(step_bytes, 0);
}

/* ---- JSON ---- */

static void readers(void) {
    static const char text[] = "{\"s\":\"text\",\"n\":1.5,\"i\":-3,\"big\":1e30,\"b\":true,\"u\":\"\\u0000x\"}";
    wss_args args = wss_json(text);
    wss_args none = {0};
    wss_args failed = {text, sizeof text - 1, WSS_ERR_SPACE};
    wss_args raw;
    char out[8];
    size_t length;
    int64_t i = 7;
    uint64_t u = 7;
    double d = 7;
    int b = 7;
    const struct {
        const char *what;
        int got;
        int want;
    } rows[] = {
        {"no out", wss_get_int(args, "i", NULL), WSS_ERR_ARGUMENT},
        {"no out", wss_get_uint(args, "i", NULL), WSS_ERR_ARGUMENT},
        {"no out", wss_get_double(args, "n", NULL), WSS_ERR_ARGUMENT},
        {"no out", wss_get_bool(args, "b", NULL), WSS_ERR_ARGUMENT},
        {"no out", wss_get_raw(args, "s", NULL), WSS_ERR_ARGUMENT},
        {"no out", wss_get_string(args, "s", NULL, 1, NULL), WSS_ERR_ARGUMENT},
        {"no out, no size", wss_get_string(args, "s", NULL, 0, &length), WSS_ERR_SPACE},
        {"missing", wss_get_int(args, "x", &i), WSS_ERR_MISSING},
        {"missing", wss_get_string(args, "x", out, sizeof out, &length), WSS_ERR_MISSING},
        {"missing", wss_json_type(args, "x"), WSS_ERR_MISSING},
        {"none", wss_get_int(none, "i", &i), WSS_ERR_MISSING},
        {"none", wss_get_raw(none, NULL, &raw), WSS_ERR_MISSING},
        {"none", wss_json_type(none, NULL), WSS_ERR_MISSING},
        {"writer", wss_get_int(failed, "i", &i), WSS_ERR_SPACE},
        {"writer", wss_json_type(failed, "i"), WSS_ERR_SPACE},
        {"type", wss_get_int(args, "s", &i), WSS_ERR_TYPE},
        {"type", wss_get_uint(args, "b", &u), WSS_ERR_TYPE},
        {"type", wss_get_double(args, "s", &d), WSS_ERR_TYPE},
        {"type", wss_get_bool(args, "n", &b), WSS_ERR_TYPE},
        {"type", wss_get_string(args, "n", out, sizeof out, NULL), WSS_ERR_TYPE},
        {"NUL", wss_get_string(args, "u", out, sizeof out, NULL), WSS_ERR_TYPE},
        {"range", wss_get_int(args, "n", &i), WSS_ERR_RANGE},
        {"range", wss_get_int(args, "big", &i), WSS_ERR_RANGE},
        {"range", wss_get_uint(args, "i", &u), WSS_ERR_RANGE},
        {"range", wss_get_double(wss_json("1e999"), NULL, &d), WSS_ERR_RANGE},
        {"space", wss_get_string(args, "s", out, 4, &length), WSS_ERR_SPACE},
        {"JSON", wss_get_int(wss_json("{\"i\":1"), "i", &i), WSS_ERR_JSON},
        {"JSON", wss_json_type(wss_json("nul"), NULL), WSS_ERR_JSON},
        {"UTF-8", wss_get_string(wss_json("\"\xff\""), NULL, out, sizeof out, NULL), WSS_ERR_UTF8},
        {"check", wss_json_check(NULL, 1, 0), WSS_ERR_ARGUMENT},
        {"check", wss_json_check(NULL, 0, 0), WSS_ERR_JSON},
        {"check", wss_json_check("", 0, 0), WSS_ERR_JSON},
        {"check", wss_json_check("[[1]]", 5, 1), WSS_ERR_DEPTH},
        {"check", wss_json_check("\"\xc0\"", 3, 0), WSS_ERR_UTF8},
        {"check", wss_json_check("[1,]", 4, 0), WSS_ERR_JSON},
    };
    for (size_t n = 0; n < sizeof rows / sizeof rows[0]; n++) {
        if (rows[n].got != rows[n].want) printf("row %zu: %s\n", n, rows[n].what);
        CHECK_INT(rows[n].got, rows[n].want);
    }
    CHECK(i == 7 && u == 7 && d == 7 && b == 7); /* unchanged on error */
    memset(out, 'x', sizeof out);
    CHECK_INT(wss_get_string(args, "x", out, sizeof out, NULL), WSS_ERR_MISSING);
    CHECK_TEXT(out, "");
    wss_iterator walk = wss_iterate(none);
    CHECK(!wss_iterate_next(&walk));
}

static void writers(void) {
    for (int row = 0; row < 12; row++) {
        static const int want[] = {WSS_ERR_ARGUMENT, WSS_ERR_ARGUMENT, WSS_ERR_ARGUMENT, WSS_ERR_UTF8, WSS_ERR_UTF8, WSS_ERR_SPACE,
                                   WSS_ERR_RANGE, WSS_ERR_JSON, WSS_ERR_DEPTH, WSS_ERR_ARGUMENT, WSS_ERR_MEMORY, WSS_ERR_UTF8};
        static char small[16];
        wss_writer writer;
        step_fail_in = row == 10;
        if (row == 10) wss_writer_init_with(&writer, step_allocator, NULL);
        else wss_writer_init(&writer, row == 5 ? small : NULL, sizeof small);
        step_fail_in = 0;
        switch (row) {
        case 0: wss_put_int(&writer, NULL, 1); break; /* no key in an object */
        case 1:
            wss_put_array(&writer, "a");
            wss_put_int(&writer, "key", 1);
            break;
        case 2: wss_put_end(&writer); break; /* of what is not open */
        case 3: wss_put_string(&writer, "s", "\xff"); break;
        case 4: wss_put_string(&writer, "\xff", "s"); break;
        case 5: wss_put_string(&writer, "s", "longer than that"); break;
        case 6: wss_put_double(&writer, "d", strtod("inf", NULL)); break;
        case 7: wss_put_raw(&writer, "r", wss_json("{")); break;
        case 8:
            for (int i = 0; i < 256; i++) wss_put_object(&writer, "o");
            break;
        case 9: wss_put_text(&writer, "t", NULL, 1); break;
        case 11: wss_put_raw(&writer, "r", wss_json("\"\xff\"")); break;
        default: break;
        }
        wss_put_int(&writer, "more", 1); /* changes nothing any more */
        wss_args args = wss_writer_args(&writer);
        CHECK_INT(args.error, want[row]);
        CHECK(args.text == NULL && args.length == 0);
        wss_writer_free(&writer);
    }
}

int main(void) {
    alarm(100);
    RUN(typed);
    RUN(keys);
    RUN(data);
    RUN(dead_handles);
    RUN(closes);
    RUN(bad_headers);
    RUN(bad_answers);
    RUN(requests);
    RUN(registrations);
    RUN(work);
    RUN(timers_of_the_past);
    RUN(numbers);
    RUN(servers);
    RUN(queues);
    RUN(readers);
    RUN(writers);
    return test_end("contract");
}
