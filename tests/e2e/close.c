/* How connections end: the closing handshake from either side, peers that vanish or break the rules, and that nothing which
   was sent before is lost. */
#include "../host.h"

static wss_conn conn;
static int connects;
static int messages;
static int ends;
static int last_code;
static int last_cause;
static char last_reason[128];

static void on_connect(const wss_event *e) {
    conn = e->conn;
    host_count(&connects);
}

static void on_data(const wss_event *e) {
    (void)e;
    host_count(&messages);
}

static void on_end(const wss_event *e) {
    last_code = e->code;
    last_cause = e->cause;
    CHECK_INT(strlen(e->reason), e->reason_length);
    snprintf(last_reason, sizeof last_reason, "%s", e->reason);
    host_count(&ends);
}

static wss_server *watch(wss_server *server) {
    connects = 0;
    messages = 0;
    ends = 0;
    conn.id = 0;
    wss_on_connect(server, on_connect, NULL);
    wss_on_data(server, on_data, NULL);
    wss_on_disconnect(server, on_end, NULL);
    return server;
}

static wss_server *serve(void) {
    wss_options options = {0};
    return watch(host_drive(&options));
}

/* The next frame is this Close, and the server ends its stream behind it: it closes TCP first. */
static void check_closed(client *c, int code, const char *reason) {
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    CHECK_INT(c->code, code);
    CHECK_TEXT(code == 1005 ? "" : c->data + 2, reason);
    CHECK_INT(client_read(c), CLIENT_ENDED);
}

static void check_end(int code, int cause, const char *reason) {
    UNTIL(ends == 1);
    CHECK_INT(last_code, code);
    CHECK_INT(last_cause, cause);
    if (last_cause != cause) printf("cause: %s\n", wss_cause_text(last_cause));
    CHECK_TEXT(last_reason, reason);
    ends = 0;
}

static void peer_closes(void) {
    static const struct {
        int code;
        const char *reason;
    } cases[] = {{1000, ""}, {1001, "leaving"}, {1003, ""}, {1007, "J\xc3\xbcrgen"}, {1011, ""}, {1014, ""}, {3000, "x"}, {4999, "y"}};
    wss_server *server = serve();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        client *c = client_open(host_port);
        client_send_close(c, cases[i].code, cases[i].reason);
        check_closed(c, cases[i].code, "");
        check_end(cases[i].code, WSS_CAUSE_PEER_CLOSED, cases[i].reason);
        CHECK_INT(wss_count(server), 0);
        client_free(c);
    }
    client *c = client_open(host_port);
    client_send(c, SCRIPT_CLOSE, "", 0);
    check_closed(c, 1005, "");
    check_end(1005, WSS_CAUSE_PEER_CLOSED, "");
    client_free(c);
    /* The longest reason. */
    char reason[124];
    memset(reason, 'r', sizeof reason - 1);
    reason[123] = 0;
    c = client_open(host_port);
    client_send_close(c, 1000, reason);
    check_closed(c, 1000, "");
    check_end(1000, WSS_CAUSE_PEER_CLOSED, reason);
    client_free(c);
    host_end();
}

static void local_close(void) {
    char reason[124];
    memset(reason, 'r', sizeof reason - 1);
    reason[123] = 0;
    wss_server *server = serve();
    for (int i = 0; i < 4; i++) {
        static const int codes[] = {1000, 1008, 4000, 3999};
        const char *const reasons[] = {NULL, "rude", reason, "\xe2\x82\xac"};
        client *c = client_open(host_port);
        UNTIL(connects == i + 1);
        CHECK_INT(wss_close(server, conn, codes[i], reasons[i]), WSS_OK);
        CHECK_INT(wss_close(server, conn, 1001, "again"), WSS_ERR_GONE);
        CHECK_INT(client_read(c), SCRIPT_CLOSE);
        CHECK_INT(c->code, codes[i]);
        CHECK_TEXT(c->data + 2, reasons[i] ? reasons[i] : "");
        CHECK_INT(ends, 0);                 /* it ends with the peer's answer */
        client_send_close(c, 1002, "mine"); /* whatever that says */
        CHECK_INT(client_read(c), CLIENT_ENDED);
        check_end(codes[i], WSS_CAUSE_LOCAL_CLOSE, reasons[i] ? reasons[i] : "");
        CHECK_INT(wss_close(server, conn, 1000, NULL), WSS_ERR_GONE);
        client_free(c);
    }
    host_end();
}

/* Both say Close before they have seen the other's. */
static void crossing_closes(void) {
    wss_server *server = serve();
    client *c = client_open(host_port);
    UNTIL(connects == 1);
    client_turn = NULL;
    client_send_close(c, 1000, "mine");
    client_turn = host_turn;
    CHECK_INT(wss_close(server, conn, 4001, "ours"), WSS_OK);
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    CHECK(c->code == 4001 || c->code == 1000);
    CHECK_INT(client_read(c), CLIENT_ENDED); /* and only one of the server's */
    UNTIL(ends == 1);
    CHECK(last_cause == WSS_CAUSE_LOCAL_CLOSE ? last_code == 4001 : last_code == 1000);
    client_free(c);
    host_end();
}

/* The peer never answers: our own code all the same, when the close deadline is over. */
static void unanswered_close(void) {
    wss_options options = {0};
    options.close_ms = 50;
    wss_server *server = watch(host_drive(&options));
    client *c = client_open(host_port);
    UNTIL(connects == 1);
    CHECK_INT(wss_close(server, conn, 4002, "now"), WSS_OK);
    check_end(4002, WSS_CAUSE_LOCAL_CLOSE, "now");
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    CHECK(client_read(c) <= 0);
    client_free(c);
    /* It ends its stream instead. */
    c = client_open(host_port);
    UNTIL(connects == 2);
    CHECK_INT(wss_close(server, conn, 4003, NULL), WSS_OK);
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    client_free(c);
    check_end(4003, WSS_CAUSE_LOCAL_CLOSE, "");
    host_end();
}

static void peer_vanishes(void) {
    wss_server *server = serve();
    for (int way = 0; way < 4; way++) {
        client *c = client_open(host_port);
        CHECK_INT(c->status, 101);
        if (way == 1) script_text(&c->out, "\x81"); /* in the middle of a header */
        if (way == 2) {
            script_fill(&c->out, SCRIPT_TEXT, SCRIPT_FINAL, 100); /* in the middle of a message */
            c->out.size -= 50;
        }
        client_flush(c);
        if (way == 3) client_reset(c);
        else client_free(c);
        check_end(1006, WSS_CAUSE_PEER_VANISHED, "");
        CHECK_INT(wss_count(server), 0);
    }
    CHECK_INT(messages, 0);
    wss_stats stats;
    wss_get_stats(server, &stats);
    CHECK_INT(stats.closes[WSS_CAUSE_PEER_VANISHED], 4);
    host_end();
}

/* All that came before the end of the stream is delivered. */
static void messages_before_the_end(void) {
    wss_server *server = serve();
    client *c = client_open(host_port);
    client_turn = NULL;
    for (int i = 0; i < 1000; i++) script_say(&c->out, SCRIPT_TEXT, "hello");
    client_flush(c);
    client_free(c);
    client_turn = host_turn;
    check_end(1006, WSS_CAUSE_PEER_VANISHED, "");
    CHECK_INT(messages, 1000);
    CHECK_INT(wss_count(server), 0);
    host_end();
}

/* What breaks the protocol: the code on the wire, the cause, and no handler but disconnect, although a message follows. */
static void protocol_errors(void) {
    static const struct {
        const char *bytes;
        size_t size;
        int code;
        int cause;
    } cases[] = {
        {"\x81\x01x", 3, 1002, WSS_CAUSE_UNMASKED},
        {"\x88\x00", 2, 1002, WSS_CAUSE_UNMASKED},
        {"\xc1\x80\0\0\0\0", 6, 1002, WSS_CAUSE_RESERVED_BITS},
        {"\xa1\x80\0\0\0\0", 6, 1002, WSS_CAUSE_RESERVED_BITS},
        {"\x99\x80\0\0\0\0", 6, 1002, WSS_CAUSE_RESERVED_BITS},
        {"\x83\x80\0\0\0\0", 6, 1002, WSS_CAUSE_OPCODE},
        {"\x8b\x80\0\0\0\0", 6, 1002, WSS_CAUSE_OPCODE},
        {"\x81\xfe\x00\x7d\0\0\0\0", 8, 1002, WSS_CAUSE_LENGTH},
        {"\x81\xff\0\0\0\0\0\0\xff\xff\0\0\0\0", 14, 1002, WSS_CAUSE_LENGTH},
        {"\x81\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 14, 1002, WSS_CAUSE_LENGTH},
        {"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14, 1009, WSS_CAUSE_TOO_BIG},
        {"\x82\xff\0\0\0\0\0\x10\0\x01\0\0\0\0", 14, 1009, WSS_CAUSE_TOO_BIG},
        {"\x09\x80\0\0\0\0", 6, 1002, WSS_CAUSE_CONTROL},
        {"\x89\xfe\0\x7e\0\0\0\0", 8, 1002, WSS_CAUSE_CONTROL},
        {"\x80\x80\0\0\0\0", 6, 1002, WSS_CAUSE_CONTINUATION},
        {"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 12, 1002, WSS_CAUSE_CONTINUATION},
        {"\x81\x81\0\0\0\0\xff", 7, 1007, WSS_CAUSE_UTF8},
        {"\x81\x82\0\0\0\0\xc3\x28", 8, 1007, WSS_CAUSE_UTF8},
        {"\x01\x81\0\0\0\0\xc3\x80\x80\0\0\0\0", 13, 1007, WSS_CAUSE_UTF8},
        {"\x88\x81\0\0\0\0\x03", 7, 1002, WSS_CAUSE_CLOSE_FRAME},
        {"\x88\x82\0\0\0\0\x03\xed", 8, 1002, WSS_CAUSE_CLOSE_FRAME},
        {"\x88\x82\0\0\0\0\x03\xe7", 8, 1002, WSS_CAUSE_CLOSE_FRAME},
        {"\x88\x82\0\0\0\0\xff\xff", 8, 1002, WSS_CAUSE_CLOSE_FRAME},
        {"\x88\x83\0\0\0\0\x03\xe8\xff", 9, 1007, WSS_CAUSE_UTF8},
    };
    wss_server *server = serve();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int byte_by_byte = 0; byte_by_byte < 2; byte_by_byte++) {
            client *c = client_open(host_port);
            script_bytes(&c->out, cases[i].bytes, cases[i].size);
            script_say(&c->out, SCRIPT_TEXT, "never seen");
            if (byte_by_byte) {
                for (size_t at = 0; at < c->out.size; at++) {
                    client_raw(c, c->out.data + at, 1);
                    host_turn();
                }
                c->out.size = 0;
            } else {
                client_flush(c);
            }
            CHECK_INT(client_read(c), SCRIPT_CLOSE);
            if (c->code != cases[i].code) printf("case %zu:\n", i);
            CHECK_INT(c->code, cases[i].code);
            CHECK_INT(client_read(c), CLIENT_ENDED);
            check_end(cases[i].code, cases[i].cause, "");
            client_free(c);
        }
    }
    CHECK_INT(messages, 0);
    CHECK_INT(wss_count(server), 0);
    host_end();
}

static void too_many_fragments(void) {
    wss_options options = {0};
    options.max_message = 10;
    wss_server *server = watch(host_drive(&options));
    for (int frames = 1023; frames <= 1025; frames++) {
        client *c = client_open(host_port);
        for (int i = 0; i < frames; i++) script_frame(&c->out, i ? SCRIPT_CONTINUATION : SCRIPT_TEXT, i == frames - 1, "", 0);
        client_flush(c);
        if (frames <= 1024) {
            CHECK(client_leave(c));
            check_end(1000, WSS_CAUSE_PEER_CLOSED, "");
            continue;
        }
        check_closed(c, 1008, wss_cause_text(WSS_CAUSE_TOO_MANY_FRAGMENTS));
        check_end(1008, WSS_CAUSE_TOO_MANY_FRAGMENTS, "");
        client_free(c);
    }
    CHECK_INT(messages, 2);
    messages = 0;
    for (size_t size = 9; size <= 11; size++) {
        client *c = client_open(host_port);
        script_fill(&c->out, SCRIPT_TEXT, SCRIPT_MORE, 5);
        script_fill(&c->out, SCRIPT_CONTINUATION, SCRIPT_FINAL, size - 5);
        client_flush(c);
        if (size <= 10) {
            CHECK(client_leave(c));
            check_end(1000, WSS_CAUSE_PEER_CLOSED, "");
            continue;
        }
        check_closed(c, 1009, wss_cause_text(WSS_CAUSE_TOO_BIG));
        check_end(1009, WSS_CAUSE_TOO_BIG, "");
        client_free(c);
    }
    CHECK_INT(messages, 2);
    CHECK_INT(wss_count(server), 0);
    host_end();
}

/* ---- closing inside handlers ---- */

static void close_it(const wss_event *e) {
    int first = wss_close(e->server, e->conn, 4100, "in a handler");
    int second = wss_close(e->server, e->conn, 4101, NULL);
    host_say("%d/%d", first, second);
    CHECK_INT(wss_send(e->server, e->conn, "m", wss_json("{}")), WSS_ERR_GONE);
    CHECK_INT(wss_send_data(e->server, e->conn, WSS_TEXT, "x", 1), WSS_ERR_GONE);
    CHECK_INT(wss_send_latest(e->server, e->conn, "k", "m", wss_json("{}")), WSS_ERR_GONE);
    CHECK_INT(wss_pause(e->server, e->conn), WSS_ERR_GONE);
    CHECK_INT(wss_resume(e->server, e->conn), WSS_ERR_GONE);
    CHECK_INT(wss_broadcast(e->server, "never seen", wss_json("{}")), WSS_OK);
}

static void close_conn(const wss_event *e) {
    wss_event copy = *e;
    copy.conn = conn;
    close_it(&copy);
}

static void close_posted(void *arg) {
    wss_event e;
    memset(&e, 0, sizeof e);
    e.server = (wss_server *)arg;
    e.conn = conn;
    close_it(&e);
}

static void close_in_upgrade(const wss_event *e) {
    CHECK_INT(wss_close(e->server, e->conn, 1000, NULL), WSS_ERR_GONE);
    CHECK_INT(wss_accept(e->server, e->conn, NULL, NULL, 0, NULL), WSS_OK);
}

static void closing_in_handlers(void) {
    enum { IN_CONNECT, IN_DATA, IN_MESSAGE, IN_TIMER, IN_POST, WAYS };
    for (int way = 0; way < WAYS; way++) {
        wss_server *server = serve();
        host_forget();
        wss_on_upgrade(server, close_in_upgrade, NULL);
        if (way == IN_CONNECT) wss_on_connect(server, close_it, NULL);
        if (way == IN_DATA) wss_on_data(server, close_it, NULL);
        if (way == IN_MESSAGE) wss_on_message(server, "m", close_it, NULL);
        client *c = client_open(host_port);
        UNTIL(connects == 1);
        client_text(c, "{\"__MESSAGE__\":\"m\"}");
        if (way == IN_TIMER) wss_timer_start(server, 1, 0, close_conn, NULL);
        if (way == IN_POST) wss_post(server, close_posted, server);
        CHECK_INT(client_read(c), SCRIPT_CLOSE);
        CHECK_INT(c->code, 4100);
        CHECK_TEXT(c->data + 2, "in a handler");
        client_text(c, "{\"__MESSAGE__\":\"m\"}");
        client_send_close(c, 4100, "");
        CHECK_INT(client_read(c), CLIENT_ENDED);
        check_end(4100, WSS_CAUSE_LOCAL_CLOSE, "in a handler");
        CHECK_TEXT(host_said, "0/-4");
        client_free(c);
        host_end();
    }
}

static void close_when_ended(const wss_event *e) {
    host_say("ended: %d", wss_close(e->server, e->conn, 1000, NULL));
    CHECK_INT(wss_send(e->server, e->conn, "m", wss_json("{}")), WSS_ERR_GONE);
}

static void closing_in_disconnect(void) {
    wss_server *server = serve();
    host_forget();
    wss_on_disconnect(server, close_when_ended, NULL);
    client *c = client_open(host_port);
    CHECK(client_leave(c));
    check_end(1000, WSS_CAUSE_PEER_CLOSED, "");
    CHECK_TEXT(host_said, "ended: -4");
    host_end();
}

static void close_all_others(const wss_event *e) {
    wss_conn other = {0};
    while ((other = wss_next(e->server, other)).id)
        if (other.id != e->conn.id) CHECK_INT(wss_close(e->server, other, 4200, NULL), WSS_OK);
}

/* All of them have something to read in the same turn. */
static void closing_others(void) {
    wss_server *server = serve();
    client *c[10];
    wss_on_data(server, close_all_others, NULL);
    for (int i = 0; i < 10; i++) c[i] = client_open(host_port);
    UNTIL(connects == 10);
    client_turn = NULL;
    for (int i = 0; i < 10; i++) client_text(c[i], "x");
    client_turn = host_turn;
    int closed = 0;
    UNTIL(messages == 1);
    for (int i = 0; i < 10; i++) {
        if (client_read_within(c[i], i ? 100 : 1000) == SCRIPT_CLOSE) closed++;
        client_free(c[i]);
    }
    CHECK_INT(closed, 9);
    CHECK_INT(messages, 1);
    UNTIL(ends == 10);
    host_end();
}

/* ---- what is sent before a close arrives, what comes after it does not ---- */

static void close_behind_messages(void) {
    wss_server *server = serve();
    client *c = client_open(host_port);
    UNTIL(connects == 1);
    CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "one", 3), WSS_OK);
    CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "two", 3), WSS_OK);
    CHECK_INT(wss_close(server, conn, 1000, NULL), WSS_OK);
    CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "three", 5), WSS_ERR_GONE);
    CHECK_INT(wss_broadcast_data(server, WSS_TEXT, "four", 4), WSS_OK);
    CHECK_TEXT(client_read_text(c), "one");
    CHECK_TEXT(client_read_text(c), "two");
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    CHECK_INT(client_read_within(c, 20), CLIENT_LATE);
    client_free(c);
    host_end();
}

static void close_at_third(const wss_event *e) {
    if (messages == 3) CHECK_INT(wss_close(e->server, e->conn, 1000, NULL), WSS_OK);
}

static void no_message_after_close(void) {
    wss_server *server = serve();
    wss_on_data(server, close_at_third, NULL);
    wss_on_message(server, "m", on_data, NULL); /* the third is not split any more */
    client *c = client_open(host_port);
    for (int i = 0; i < 2; i++) script_say(&c->out, SCRIPT_TEXT, "x");
    for (int i = 0; i < 8; i++) script_say(&c->out, SCRIPT_TEXT, "{\"__MESSAGE__\":\"m\"}");
    client_flush(c);
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    client_text(c, "late");
    client_send_close(c, 1000, "");
    CHECK_INT(client_read(c), CLIENT_ENDED);
    check_end(1000, WSS_CAUSE_LOCAL_CLOSE, "");
    CHECK_INT(messages, 3);
    client_free(c);
    host_end();
}

/* From another thread, while messages stream in: none is handled after the call has returned. */
static int closed_elsewhere;
static int late_messages;

static void on_data_racing(const wss_event *e) {
    (void)e;
    if (host_get(&closed_elsewhere) == 2) host_count(&late_messages);
    host_count(&messages);
}

static void *close_elsewhere(void *arg) {
    UNTIL(host_get(&messages) > 10);
    CHECK_INT(wss_close((wss_server *)arg, conn, 1000, NULL), WSS_OK);
    return NULL;
}

static void closing_from_a_thread(void) {
    wss_options options = {0};
    pthread_t thread;
    wss_server *server = host_make(&options);
    watch(server);
    wss_on_data(server, on_data_racing, NULL);
    closed_elsewhere = 0;
    late_messages = 0;
    CHECK_INT(wss_start(server), WSS_OK);
    client *c = client_open(host_port);
    UNTIL(host_get(&connects) == 1);
    pthread_create(&thread, NULL, close_elsewhere, server);
    for (int i = 0; i < 100; i++) client_text(c, "x");
    pthread_join(thread, NULL);
    host_count(&closed_elsewhere);
    /* One may be in its handler at this very moment; what the client sends from now on never is. */
    int result = client_read(c);
    CHECK_INT(result, SCRIPT_CLOSE);
    host_count(&closed_elsewhere);
    for (int i = 0; i < 100; i++) client_text(c, "x");
    client_send_close(c, 1000, "");
    CHECK_INT(client_read(c), CLIENT_ENDED);
    UNTIL(host_get(&ends) == 1);
    CHECK_INT(late_messages, 0);
    client_free(c);
    host_end();
}

static void frames_after_the_peers_close(void) {
    wss_server *server = serve();
    client *c = client_open(host_port);
    script_close(&c->out, 1000, "");
    script_say(&c->out, SCRIPT_TEXT, "late");
    script_say(&c->out, SCRIPT_PING, "late");
    client_flush(c);
    check_closed(c, 1000, "");
    check_end(1000, WSS_CAUSE_PEER_CLOSED, "");
    CHECK_INT(messages, 0);
    CHECK_INT(wss_count(server), 0);
    client_free(c);
    host_end();
}

/* ---- the tail ---- */

static char tail[300000];

static void send_tail_and_close(const wss_event *e) {
    if (e->size != 2) return;
    for (int i = 0; i < 3; i++) CHECK_INT(wss_send_data(e->server, e->conn, WSS_BINARY, tail + i * 100000, 100000), WSS_OK);
    CHECK_INT(wss_close(e->server, e->conn, 1000, "that was all"), WSS_OK);
}

/* 300 kB and a Close are queued while the client has sent more than anybody will read: nothing of it may be cut off. */
static void tails_are_not_lost(void) {
    enum { CLIENTS = 200, ROUND = 20 };
    wss_server *server = serve();
    int lost = 0;
    for (size_t i = 0; i < sizeof tail; i++) tail[i] = (char)(i * 7 + i / 251);
    wss_on_data(server, send_tail_and_close, NULL);
    for (int round = 0; round < CLIENTS / ROUND; round++) {
        client *c[ROUND];
        for (int i = 0; i < ROUND; i++) {
            c[i] = client_open(host_port);
            script_say(&c[i]->out, SCRIPT_TEXT, "go");
            script_fill(&c[i]->out, SCRIPT_BINARY, SCRIPT_FINAL, 20000);
            client_flush(c[i]);
        }
        host_turn();
        for (int i = 0; i < ROUND; i++) {
            int good = client_text(c[i], "more that is not read");
            for (int part = 0; part < 3; part++) {
                good = good && client_read(c[i]) == SCRIPT_BINARY && c[i]->length == 100000;
                good = good && memcmp(c[i]->data, tail + part * 100000, 100000) == 0;
            }
            good = good && client_read(c[i]) == SCRIPT_CLOSE && c[i]->code == 1000;
            client_send_close(c[i], 1000, "");
            good = good && client_read(c[i]) == CLIENT_ENDED;
            lost += !good;
            client_free(c[i]);
        }
    }
    CHECK_INT(lost, 0);
    UNTIL(ends == CLIENTS);
    CHECK_INT(wss_count(server), 0);
    host_end();
}

/* The same where the client broke the rules, so that all it sends from then on is unread. */
static void tails_of_the_guilty(void) {
    enum { CLIENTS = 20 };
    wss_server *server = serve();
    int lost = 0;
    for (int i = 0; i < CLIENTS; i++) {
        client *c = client_open(host_port);
        UNTIL(connects == i + 1);
        client_turn = NULL;
        for (int part = 0; part < 3; part++)
            CHECK_INT(wss_send_data(server, conn, WSS_BINARY, tail + part * 100000, 100000), WSS_OK);
        client_say(c, "\x81\x01x");
        script_fill(&c->out, SCRIPT_BINARY, SCRIPT_FINAL, 20000);
        client_flush(c);
        client_turn = host_turn;
        int good = 1;
        for (int part = 0; part < 3; part++) good = good && client_read(c) == SCRIPT_BINARY && c->length == 100000;
        good = good && client_read(c) == SCRIPT_CLOSE && c->code == 1002 && client_read(c) == CLIENT_ENDED;
        lost += !good;
        client_free(c);
    }
    CHECK_INT(lost, 0);
    host_end();
}

/* Our Close is out and half a message is in when the server stops: nothing follows the Close. */
static void stop_behind_a_close(void) {
    wss_server *server = serve();
    client *c = client_open(host_port);
    UNTIL(connects == 1);
    CHECK(client_raw(c, "\x01\x81\0\0\0\0a", 7));
    host_settle();
    CHECK_INT(wss_close(server, conn, 4000, "enough"), WSS_OK);
    host_settle();
    wss_stop(server, 1000);
    host_settle();
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    CHECK_INT(c->code, 4000);
    CHECK(client_send(c, SCRIPT_CLOSE, "\x0f\xa0", 2));
    CHECK_INT(client_read(c), CLIENT_ENDED);
    client_free(c);
    host_end();
    CHECK_INT(ends, 1);
}

int main(void) {
    alarm(60);
    RUN(peer_closes);
    RUN(local_close);
    RUN(crossing_closes);
    RUN(unanswered_close);
    RUN(peer_vanishes);
    RUN(messages_before_the_end);
    RUN(protocol_errors);
    RUN(too_many_fragments);
    RUN(closing_in_handlers);
    RUN(closing_in_disconnect);
    RUN(closing_others);
    RUN(close_behind_messages);
    RUN(no_message_after_close);
    RUN(closing_from_a_thread);
    RUN(frames_after_the_peers_close);
    RUN(tails_are_not_lost);
    RUN(tails_of_the_guilty);
    RUN(stop_behind_a_close);
    return test_end("close");
}
