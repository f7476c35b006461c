/* How connections end: both closing handshakes, codes, reasons, causes, lost peers, and the tail of what was sent. */
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"

#include "../test.h"

#include "../client.h"

enum { TAIL_CONNECTIONS = 100, TAIL = 300000 };

static int ends;
static int last_code;
static int last_cause;
static char last_reason[128];
static wss_conn last_conn;
static int messages;
static int after_close;
static char tail[TAIL];

static void on_end(const wss_event *e) {
    last_code = e->code;
    last_cause = e->cause;
    memcpy(last_reason, e->reason, e->reason_length + 1);
    client_count(&ends);
}

static void on_connect(const wss_event *e) {
    last_conn = e->conn;
}

static wss_server *serve(void) {
    wss_options options = {0};
    options.address = "127.0.0.1";
    wss_server *server = wss_create(&options, NULL);
    if (!server) exit(1);
    ends = messages = after_close = 0;
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_end, NULL);
    return server;
}

static void expect_end(int code, int cause, const char *reason) {
    CHECK(client_await(&ends, 1));
    CHECK_INT(last_code, code);
    CHECK_INT(last_cause, cause);
    CHECK_TEXT(last_reason, reason);
    pthread_mutex_lock(&client_mutex);
    ends = 0;
    pthread_mutex_unlock(&client_mutex);
}

static void peer_closes(void) {
    static const int codes[] = {1000, 1001, 1003, 1011, 3000, 4999};
    wss_server *server = serve();
    wss_start(server);
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        client *c = client_open(server);
        CHECK(client_send_close(c, codes[i], "so long"));
        CHECK_INT(client_read_close(c), codes[i]);
        CHECK_INT(client_read(c), CLIENT_END); /* the server ends TCP first */
        client_free(c);
        expect_end(codes[i], WSS_CAUSE_PEER_CLOSED, "so long");
    }
    client *c = client_open(server);
    CHECK(client_frame(c, 0x88, "", 0));
    CHECK_INT(client_read_close(c), 1005);
    CHECK_INT(client_read(c), CLIENT_END);
    client_free(c);
    expect_end(WSS_CLOSE_NO_CODE, WSS_CAUSE_PEER_CLOSED, "");
    wss_destroy(server);
}

static void server_closes(void) {
    wss_server *server = serve();
    wss_start(server);
    client *c = client_open(server);
    CHECK(client_flush(server));
    CHECK_INT(wss_close(server, last_conn, 4001, "enough"), WSS_OK);
    CHECK_INT(client_read_close(c), 4001);
    CHECK_TEXT(c->payload + 2, "enough");
    CHECK(client_send_close(c, 4001, ""));
    CHECK_INT(client_read(c), CLIENT_END);
    client_free(c);
    expect_end(4001, WSS_CAUSE_LOCAL_CLOSE, "enough");
    CHECK_INT(wss_close(server, last_conn, 4001, "enough"), WSS_ERR_GONE);
    wss_destroy(server);
}

static void close_codes_are_checked(void) {
    static const int bad[] = {0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, -1, 65536 + 1000};
    char reason[125];
    wss_server *server = serve();
    wss_start(server);
    client *c = client_open(server);
    CHECK(client_flush(server));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_INT(wss_close(server, last_conn, bad[i], NULL), WSS_ERR_ARGUMENT);
    memset(reason, 'r', sizeof reason);
    reason[124] = 0;
    CHECK(wss_close(server, last_conn, 1000, reason) != WSS_OK);
    CHECK(wss_close(server, last_conn, 1000, "\xff") != WSS_OK);
    reason[123] = 0;
    CHECK_INT(wss_close(server, last_conn, 1000, reason), WSS_OK);
    CHECK_INT(client_read_close(c), 1000);
    CHECK_INT(c->payload_size, 125);
    client_send_close(c, 1000, "");
    client_read_end(c);
    client_free(c);
    expect_end(1000, WSS_CAUSE_LOCAL_CLOSE, reason);
    wss_destroy(server);
}

static void peer_vanishes(void) {
    wss_server *server = serve();
    wss_start(server);
    client *c = client_open(server);
    client_free(c); /* FIN without Close */
    expect_end(WSS_CLOSE_LOST, WSS_CAUSE_PEER_VANISHED, "");
    client_reset(client_open(server));
    expect_end(WSS_CLOSE_LOST, WSS_CAUSE_PEER_VANISHED, "");
    c = client_open(server);
    CHECK(client_frame(c, 0x01, "half a mess", 11));
    client_reset(c);
    expect_end(WSS_CLOSE_LOST, WSS_CAUSE_PEER_VANISHED, "");
    wss_destroy(server);
}

static void protocol_errors(void) {
    static const struct {
        const char *bytes;
        size_t size;
        int code;
        int cause;
    } cases[] = {
        {"\x81\x02hi", 4, 1002, WSS_CAUSE_UNMASKED},
        {"\xc1\x80\0\0\0\0", 6, 1002, WSS_CAUSE_RESERVED_BITS},
        {"\x83\x80\0\0\0\0", 6, 1002, WSS_CAUSE_OPCODE},
        {"\x8b\x80\0\0\0\0", 6, 1002, WSS_CAUSE_OPCODE},
        {"\x81\xfe\0\x7d\0\0\0\0", 8, 1002, WSS_CAUSE_LENGTH},
        {"\x81\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 14, 1002, WSS_CAUSE_LENGTH},
        {"\x09\x80\0\0\0\0", 6, 1002, WSS_CAUSE_CONTROL},
        {"\x89\xfe\0\x7e\0\0\0\0", 8, 1002, WSS_CAUSE_CONTROL},
        {"\x80\x80\0\0\0\0", 6, 1002, WSS_CAUSE_CONTINUATION},
        {"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 12, 1002, WSS_CAUSE_CONTINUATION},
        {"\x81\x81\0\0\0\0\xff", 7, 1007, WSS_CAUSE_UTF8},
        {"\x88\x81\0\0\0\0\x03", 7, 1002, WSS_CAUSE_CLOSE_FRAME},
        {"\x88\x82\0\0\0\0\x03\xed", 8, 1002, WSS_CAUSE_CLOSE_FRAME},
        {"\x88\x83\0\0\0\0\x03\xe8\xff", 9, 1007, WSS_CAUSE_UTF8},
        {"\x82\xff\0\0\0\0\0\x20\0\0\0\0\0\0", 14, 1009, WSS_CAUSE_TOO_BIG},
    };
    wss_server *server = serve();
    wss_start(server);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        client *c = client_open(server);
        CHECK(client_raw(c, cases[i].bytes, cases[i].size));
        CHECK_INT(client_read_close(c), cases[i].code);
        client_read_end(c);
        client_free(c);
        CHECK(client_await(&ends, 1));
        CHECK_INT(last_code, cases[i].code);
        if (cases[i].cause != WSS_CAUSE_UTF8 || cases[i].bytes[0] == '\x81') CHECK_INT(last_cause, cases[i].cause);
        pthread_mutex_lock(&client_mutex);
        ends = 0;
        pthread_mutex_unlock(&client_mutex);
    }
    wss_destroy(server);
}

static void on_data_close(const wss_event *e) {
    messages++;
    if (messages > 1) after_close++;
    CHECK_INT(wss_send_data(e->server, e->conn, WSS_TEXT, "last", 4), WSS_OK);
    CHECK_INT(wss_close(e->server, e->conn, 1000, "done"), WSS_OK);
    CHECK_INT(wss_close(e->server, e->conn, 1000, "done"), WSS_ERR_GONE);
    CHECK_INT(wss_send_data(e->server, e->conn, WSS_TEXT, "late", 4), WSS_ERR_GONE);
    CHECK_INT(wss_send(e->server, e->conn, "late", wss_json("{}")), WSS_ERR_GONE);
}

static void on_typed(const wss_event *e) {
    (void)e;
    after_close++;
}

/* Three messages in one segment: the first one's handler closes, so nobody sees the others, nor its own typed form. */
static void nothing_after_close(void) {
    char both[256];
    const char *text = "{\"__MESSAGE__\":\"t\"}";
    wss_server *server = serve();
    wss_on_data(server, on_data_close, NULL);
    wss_on_message(server, "t", on_typed, NULL);
    wss_start(server);
    client *c = client_open(server);
    size_t size = 0;
    for (int i = 0; i < 3; i++) size += client_make(both + size, 0x81, text, strlen(text));
    CHECK(client_raw(c, both, size));
    CHECK_TEXT(client_read_text(c), "last");
    CHECK_INT(client_read_close(c), 1000);
    client_text(c, text);
    client_send_close(c, 1000, "");
    CHECK_INT(client_read(c), CLIENT_END);
    client_free(c);
    expect_end(1000, WSS_CAUSE_LOCAL_CLOSE, "done");
    wss_destroy(server);
    CHECK_INT(messages, 1);
    CHECK_INT(after_close, 0);
}

static void on_data_tail(const wss_event *e) {
    CHECK_INT(wss_send_data(e->server, e->conn, WSS_BINARY, tail, sizeof tail), WSS_OK);
    CHECK_INT(wss_close(e->server, e->conn, 1000, NULL), WSS_OK);
}

/* The client goes on sending while its answer is on the way: closing a socket with unread input would reset it. */
static void tails_are_not_lost(void) {
    static client *clients[TAIL_CONNECTIONS];
    static char noise[2000];
    int lost = 0;
    wss_server *server = serve();
    for (size_t i = 0; i < sizeof tail; i++) tail[i] = (char)(i * 7 % 251);
    wss_on_data(server, on_data_tail, NULL);
    wss_start(server);
    for (int i = 0; i < TAIL_CONNECTIONS; i++) {
        clients[i] = client_open(server);
        CHECK(client_text(clients[i], "go"));
        CHECK(client_frame(clients[i], 0x82, noise, sizeof noise));
    }
    for (int i = 0; i < TAIL_CONNECTIONS; i++) {
        client *c = clients[i];
        client_frame(c, 0x82, noise, sizeof noise);
        int good = client_read(c) == 0x82 && c->payload_size == sizeof tail && memcmp(c->payload, tail, sizeof tail) == 0;
        if (!good || client_read_close(c) != 1000) lost++;
        client_send_close(c, 1000, "");
        if (client_read(c) != CLIENT_END) lost++;
        client_free(c);
    }
    CHECK_INT(lost, 0);
    CHECK(client_await(&ends, TAIL_CONNECTIONS));
    wss_destroy(server);
}

static void stop_says_going_away(void) {
    wss_server *server = serve();
    wss_start(server);
    client *c = client_open(server);
    wss_stop(server, 10000);
    CHECK_INT(client_read_close(c), 1001);
    client_send_close(c, 1001, "");
    CHECK_INT(client_read(c), CLIENT_END);
    client_free(c);
    expect_end(1001, WSS_CAUSE_STOPPING, "");
    wss_destroy(server);
}

int main(void) {
    alarm(120);
    RUN(peer_closes);
    RUN(server_closes);
    RUN(close_codes_are_checked);
    RUN(peer_vanishes);
    RUN(protocol_errors);
    RUN(nothing_after_close);
    RUN(tails_are_not_lost);
    RUN(stop_says_going_away);
    return test_end("e2e/close");
}
