/* Ends of connections: who closes, with what code and cause, in what order, and what may not be lost. */
#include "../step.h"

static int ends;
static int last_code;
static int last_cause;
static char last_reason[128];
static int messages;
static size_t sends_refused;

static void on_end(const wss_event *e) {
    ends++;
    last_code = e->code;
    last_cause = e->cause;
    snprintf(last_reason, sizeof last_reason, "%s", e->reason);
    CHECK_INT(strlen(e->reason), e->reason_length);
    if (wss_send_data(e->server, e->conn, WSS_TEXT, "x", 1) == WSS_ERR_GONE) sends_refused++;
}

static void on_data(const wss_event *e) {
    messages++;
    if (e->size == 5 && memcmp(e->data, "close", 5) == 0) CHECK_INT(wss_close(e->server, e->conn, 4001, "asked"), WSS_OK);
}

static wss_server *serve(wss_options *options) {
    wss_server *server = step_server(options);
    ends = 0;
    messages = 0;
    sends_refused = 0;
    wss_on_disconnect(server, on_end, NULL);
    wss_on_data(server, on_data, NULL);
    return server;
}

static void by_the_peer(void) {
    static const struct {
        const char *payload;
        size_t size;
        int code;
        const char *reason;
        int cause;
        int answer;
    } cases[] = {
        {"", 0, WSS_CLOSE_NO_CODE, "", WSS_CAUSE_PEER_CLOSED, 0},
        {"\x03\xe8", 2, 1000, "", WSS_CAUSE_PEER_CLOSED, 1000},
        {"\x0f\xa0" "gr\xc3\xbc\xc3\x9f", 8, 4000, "gr\xc3\xbc\xc3\x9f", WSS_CAUSE_PEER_CLOSED, 4000},
        {"\x03", 1, 1002, "", WSS_CAUSE_CLOSE_FRAME, 1002},
        {"\x03\xed", 2, 1002, "", WSS_CAUSE_CLOSE_FRAME, 1002},
        {"\x03\xe8\xff", 3, 1007, "", WSS_CAUSE_UTF8, 1007},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        wss_options options = {0};
        char answer[128];
        size_t size = 0;
        wss_server *server = serve(&options);
        step_client *client = step_open(server);
        step_frame(server, client, 0x88, cases[i].payload, cases[i].size);
        step_frame(server, client, 0x81, "after the end", 13);
        CHECK_INT(ends, 1);
        CHECK_INT(messages, 0);
        CHECK_INT(last_code, cases[i].code);
        CHECK_INT(last_cause, cases[i].cause);
        CHECK_TEXT(last_reason, cases[i].reason);
        CHECK_INT(sends_refused, 1);
        CHECK_INT(step_take(server, client, answer, &size), 0x88);
        CHECK_INT(size < 2 ? 0 : (unsigned char)answer[0] << 8 | (unsigned char)answer[1], cases[i].answer);
        CHECK_INT(step_take(server, client, NULL, NULL), -1);
        CHECK(client->ended); /* the server ends TCP first */
        step_free(client);
        step(server);
        CHECK_INT(server->loops[0].connections, 0);
        step_end(server);
    }
}

static void by_us(void) {
    wss_options options = {0};
    char both[64];
    char answer[128];
    size_t size;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    size = step_make_frame(both, 0x81, "close", 5);
    size += step_make_frame(both + size, 0x81, "more", 4); /* in the same bytes: no handler sees it */
    step_write(server, client, both, size);
    CHECK_INT(messages, 1);
    CHECK_INT(ends, 0);
    CHECK_INT(step_take(server, client, answer, &size), 0x88);
    CHECK_INT(size, 7);
    CHECK_TEXT(answer + 2, "asked");
    step_frame(server, client, 0x89, "ping", 4); /* nothing but Close after Close: no pong */
    step_frame(server, client, 0x88, "\x0f\xa1", 2);
    CHECK_INT(ends, 1);
    CHECK_INT(last_code, 4001);
    CHECK_INT(last_cause, WSS_CAUSE_LOCAL_CLOSE);
    CHECK_TEXT(last_reason, "asked");
    CHECK_INT(step_take(server, client, NULL, NULL), -1);
    CHECK(client->ended);
    step_free(client);
    step_end(server);
}

static void peer_leaves(int reset, int in_a_message) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    struct linger linger = {1, 0};
    if (in_a_message) step_write(server, client, "\x81\x85\0\0\0\0he", 8);
    if (reset) setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    step_free(client);
    step(server);
    CHECK_INT(ends, 1);
    CHECK_INT(last_code, WSS_CLOSE_LOST);
    CHECK_INT(last_cause, WSS_CAUSE_PEER_VANISHED);
    CHECK_INT(server->loops[0].connections, 0);
    step_end(server);
}

static void vanishing(void) {
    for (int i = 0; i < 4; i++) peer_leaves(i & 1, i >> 1);
}

/* Messages that came before the peer's reset or end are not lost with it. */
static void last_words(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    char frame[32];
    size_t size = step_make_frame(frame, 0x81, "words", 5);
    CHECK_INT(send(client->fd, frame, size, MSG_NOSIGNAL), size);
    step_free(client);
    step(server);
    CHECK_INT(messages, 1);
    CHECK_INT(ends, 1);
    step_end(server);
}

static char big[300000];

/* Closing with unread input would reset the connection and destroy what is on its way. */
static void tail_is_not_lost(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss_conn none = {0};
    int whole = 0;
    memset(big, 't', sizeof big);
    for (int i = 0; i < 100; i++) {
        step_client *client = step_open(server);
        wss_conn conn = wss_next(server, none);
        size_t got = 0;
        char last[4] = "";
        CHECK_INT(wss_send_data(server, conn, WSS_BINARY, big, sizeof big), WSS_OK);
        CHECK_INT(wss_close(server, conn, 1000, NULL), WSS_OK);
        step_frame(server, client, 0x81, big, 20000);
        step_frame(server, client, 0x88, "\x03\xe8", 2);
        step_write(server, client, big, 20000);
        for (int turns = 0; turns < 100000 && !client->ended; turns++) {
            client->size = 0;
            if (step_receive(client) && client->size >= 4) memcpy(last, client->data + client->size - 4, 4);
            got += client->size;
            step(server);
        }
        whole += got == sizeof big + 10 + 4 && memcmp(last, "\x88\x02\x03\xe8", 4) == 0;
        step_free(client);
        step(server);
    }
    CHECK_INT(whole, 100);
    CHECK_INT(ends, 100);
    step_end(server);
}

static void protocol_errors(void) {
    static const struct {
        const char *bytes;
        size_t size;
        int cause;
    } cases[] = {
        {"\x81\x01x", 3, WSS_CAUSE_UNMASKED},           {"\xc1\x80\0\0\0\0", 6, WSS_CAUSE_RESERVED_BITS},
        {"\x83\x80\0\0\0\0", 6, WSS_CAUSE_OPCODE},      {"\x81\xfe\0\x05\0\0\0\0", 8, WSS_CAUSE_LENGTH},
        {"\x09\x80\0\0\0\0", 6, WSS_CAUSE_CONTROL},     {"\x80\x80\0\0\0\0", 6, WSS_CAUSE_CONTINUATION},
        {"\x81\x81\0\0\0\0\xff", 7, WSS_CAUSE_UTF8},    {"\x82\xff\0\0\0\0\0\x10\0\x01\0\0\0\0", 14, WSS_CAUSE_TOO_BIG},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        wss_options options = {0};
        char answer[128];
        size_t size = 0;
        wss_server *server = serve(&options);
        step_client *client = step_open(server);
        step_client *other = step_open(server);
        step_write(server, client, cases[i].bytes, cases[i].size);
        step_frame(server, client, 0x81, "buffered behind the error", 25);
        int code = cases[i].cause == WSS_CAUSE_UTF8 ? 1007 : cases[i].cause == WSS_CAUSE_TOO_BIG ? 1009 : 1002;
        CHECK_INT(messages, 0);
        CHECK_INT(last_cause, cases[i].cause);
        CHECK_INT(last_code, code);
        CHECK_INT(step_take(server, client, answer, &size), 0x88);
        CHECK_INT(size < 2 ? 0 : (unsigned char)answer[0] << 8 | (unsigned char)answer[1], code);
        step_frame(server, other, 0x89, "x", 1);
        CHECK_INT(step_take(server, other, NULL, NULL), 0x8a);
        step_free(client);
        step_free(other);
        step_end(server);
    }
}

static wss_conn aimed_at;

static void *broadcast_and_close(void *server) {
    int first = wss_broadcast_data((wss_server *)server, WSS_TEXT, "before the end", 14);
    int second = wss_close((wss_server *)server, aimed_at, 1000, NULL);
    return (void *)(intptr_t)(first == WSS_OK && second == WSS_OK);
}

/* Sends and closes of one thread take effect in the order made: broadcasts too. */
static void broadcast_before_close(void) {
    wss_options options = {0};
    wss_conn none = {0};
    pthread_t thread;
    void *good;
    char text[64];
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    aimed_at = wss_next(server, none);
    pthread_create(&thread, NULL, broadcast_and_close, server);
    pthread_join(thread, &good);
    CHECK(good != NULL);
    CHECK_INT(step_take(server, client, text, NULL), 0x81);
    CHECK_TEXT(text, "before the end");
    CHECK_INT(step_take(server, client, NULL, NULL), 0x88);
    step_free(client);
    step(server);
    step_end(server);
}

static size_t allocated_after;

/* Clients that connect and reset, at every stage of a connection: everything comes back. */
static void resets(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    struct linger linger = {1, 0};
    const char *request = "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n\x81\x85\0\0\0\0he";
    for (int i = 0; i < 3000; i++) {
        step_client *client = step_connect(server);
        size_t size = strlen("GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n") + 8;
        setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        step_write(server, client, request, size * (size_t)(i % 10) / 9);
        step_free(client);
        step(server);
        if (i == 300) allocated_after = step_bytes;
    }
    CHECK_INT(step_bytes, allocated_after);
    CHECK_INT(server->loops[0].connections, 0);
    CHECK_INT(server->loops[0].handshakes, 0);
    step_end(server);
}

int main(void) {
    alarm(100);
    RUN(by_the_peer);
    RUN(by_us);
    RUN(vanishing);
    RUN(last_words);
    RUN(tail_is_not_lost);
    RUN(protocol_errors);
    RUN(broadcast_before_close);
    RUN(resets);
    return test_end("close");
}
