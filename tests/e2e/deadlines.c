/* Every deadline on a clock that the test moves: not a moment before, and not long after. */
#include "../step.h"

enum { STEP = WSS__CONN_STEP }; /* deadlines are rounded up to this */

static int ends;
static int last_code;
static int last_cause;

static void on_end(const wss_event *e) {
    ends++;
    last_code = e->code;
    last_cause = e->cause;
}

static wss_server *serve(wss_options *options) {
    wss_server *server = step_server(options);
    ends = 0;
    last_code = 0;
    last_cause = 0;
    wss_on_disconnect(server, on_end, NULL);
    return server;
}

static void handshake_deadline(void) {
    wss_options options = {0};
    options.handshake_ms = 5000;
    wss_server *server = serve(&options);
    step_client *silent = step_connect(server);
    step_client *slow = step_connect(server);
    const char *request = "GET / HTTP/1.1\r\n" STEP_UPGRADE;
    step(server);
    for (int i = 0; i < 49; i++) {
        step_now += 100;
        step_write(server, slow, request + i, 1);
    }
    CHECK_INT(server->loops[0].connections, 2);
    step_time(server, 99);
    CHECK_INT(server->loops[0].connections, 2);
    step_time(server, 1 + STEP);
    CHECK(strncmp(step_ask(server, slow, ""), "HTTP/1.1 408 ", 13) == 0);
    CHECK(strncmp(step_ask(server, silent, ""), "HTTP/1.1 408 ", 13) == 0);
    CHECK(slow->ended && silent->ended);
    CHECK_INT(ends, 0);
    step_free(silent);
    step_free(slow);
    step_end(server);
}

static void no_answer(const wss_event *e) {
    (void)e;
}

static void unanswered_request(void) {
    wss_options options = {0};
    options.handshake_ms = 5000;
    wss_server *server = serve(&options);
    wss_on_upgrade(server, no_answer, NULL);
    step_client *client = step_connect(server);
    CHECK_TEXT(step_ask(server, client, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n"), "");
    step_time(server, 4999);
    CHECK_TEXT(step_ask(server, client, ""), "");
    step_time(server, 1 + STEP);
    CHECK(strncmp(step_ask(server, client, ""), "HTTP/1.1 503 ", 13) == 0);
    step_free(client);
    step_end(server);
}

static wss_conn asked;

static void keep_asked(const wss_event *e) {
    asked = e->conn;
}

/* The silence of a client that was made to wait for its answer begins with the answer. */
static void answered_late(void) {
    wss_options options = {0};
    options.ping_ms = 20000;
    wss_server *server = serve(&options);
    wss_on_upgrade(server, keep_asked, NULL);
    step_client *client = step_connect(server);
    CHECK_TEXT(step_ask(server, client, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n"), "");
    step_time(server, 4000);
    CHECK_INT(wss_accept(server, asked, NULL, NULL, 0, NULL), WSS_OK);
    CHECK(strncmp(step_ask(server, client, ""), "HTTP/1.1 101 ", 13) == 0);
    client->size = 0;
    step_time(server, 19999);
    CHECK_INT(step_take(server, client, NULL, NULL), -1);
    step_time(server, 1 + STEP);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x89);
    step_free(client);
    step(server);
    step_end(server);
}

static void ping_and_pong(void) {
    wss_options options = {0};
    char payload[128];
    size_t size;
    options.ping_ms = 20000;
    options.pong_ms = 7000;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    step_time(server, 19999);
    CHECK_INT(step_take(server, client, payload, &size), -1);
    step_time(server, 1 + STEP);
    CHECK_INT(step_take(server, client, payload, &size), 0x89);
    CHECK_INT(size, 8);
    step_now += 35;
    step_frame(server, client, 0x8a, payload, size);
    wss_info info;
    wss_conn none = {0};
    CHECK_INT(wss_get_info(server, wss_next(server, none), &info), WSS_OK);
    CHECK_INT(info.round_trip_ms, 35);
    step_time(server, 20000 + STEP);
    CHECK_INT(step_take(server, client, payload, &size), 0x89);
    step_time(server, 6000);
    step_frame(server, client, 0x81, "x", 1); /* any byte is a sign of life */
    step_time(server, 7000);
    CHECK_INT(ends, 0);
    step_time(server, 13000 + STEP);
    CHECK_INT(step_take(server, client, payload, &size), 0x89);
    step_time(server, 7000 - 2 * STEP);
    CHECK_INT(ends, 0);
    step_time(server, 3 * STEP);
    CHECK_INT(ends, 1);
    CHECK_INT(last_cause, WSS_CAUSE_PONG_TIMEOUT);
    CHECK_INT(last_code, WSS_CLOSE_LOST);
    step_free(client);
    step_end(server);
}

static void on_spread(const wss_event *e) {
    wss_broadcast_data(e->server, e->opcode, e->data, e->size);
}

/* A deadline that is due in the turn in which something was queued: nobody has tried to send that yet. */
static void queued_when_a_deadline_is_due(void) {
    wss_options options = {0};
    char frame[32];
    char payload[128];
    size_t size;
    wss_server *server = serve(&options);
    wss_on_data(server, on_spread, NULL);
    step_client *speaker = step_open(server);
    step_client *listener = step_open(server);
    step_now += 20000 + STEP;
    step_write(server, speaker, frame, step_make_frame(frame, 0x81, "hi", 2));
    CHECK_INT(ends, 0);
    int first = step_take(server, listener, payload, &size);
    if (first == 0x89) first = step_take(server, listener, payload, &size); /* silent long enough for a ping, too */
    CHECK_INT(first, 0x81);
    CHECK_INT(size, 2);
    CHECK(!listener->ended);
    step_free(speaker);
    step_free(listener);
    step_end(server);
}

static void message_deadline(void) {
    wss_options options = {0};
    options.message_ms = 30000;
    options.ping_ms = WSS_OFF;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    step_frame(server, client, 0x01, "a", 1);
    for (int i = 0; i < 29; i++) {
        step_now += 1000;
        step_frame(server, client, 0x00, "b", 1);
    }
    CHECK_INT(ends, 0);
    step_time(server, 999 + 30 * 1000 / 256); /* 30 bytes have come, at the least rate */
    CHECK_INT(ends, 0);
    step_time(server, 1 + STEP);
    CHECK_INT(ends, 1);
    CHECK_INT(last_cause, WSS_CAUSE_MESSAGE_TIMEOUT);
    CHECK_INT(last_code, WSS_CLOSE_POLICY);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x88);
    step_free(client);
    step_end(server);
}

/* A pause by the application is not held against the peer. */
static void message_deadline_after_a_pause(void) {
    wss_options options = {0};
    wss_conn none = {0};
    options.message_ms = 30000;
    options.ping_ms = WSS_OFF;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    step_frame(server, client, 0x01, "a", 1);
    CHECK_INT(wss_pause(server, wss_next(server, none)), WSS_OK);
    step(server);
    step_time(server, 100000);
    CHECK_INT(ends, 0);
    CHECK_INT(wss_resume(server, wss_next(server, none)), WSS_OK);
    step(server);
    step_time(server, 29999);
    CHECK_INT(ends, 0);
    step_time(server, 1 + STEP);
    CHECK_INT(ends, 1);
    CHECK_INT(last_cause, WSS_CAUSE_MESSAGE_TIMEOUT);
    step_free(client);
    step_end(server);
}

/* Who is not read from cannot show that it lives: a pause counts neither as silence nor as a missing pong. */
static void silence_during_a_pause(void) {
    wss_options options = {0};
    wss_conn none = {0};
    wss_info info;
    options.ping_ms = 20000;
    options.pong_ms = 7000;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    wss_conn conn = wss_next(server, none);
    CHECK_INT(wss_pause(server, conn), WSS_OK);
    step(server);
    for (int i = 0; i < 10; i++) step_time(server, 10000);
    CHECK_INT(step_take(server, client, NULL, NULL), -1);
    CHECK_INT(ends, 0);
    CHECK_INT(wss_get_info(server, conn, &info), WSS_OK);
    CHECK_INT(info.silent_ms, 100000);
    CHECK_INT(wss_resume(server, conn), WSS_OK);
    step(server);
    CHECK_INT(wss_get_info(server, conn, &info), WSS_OK);
    CHECK_INT(info.silent_ms, 0);
    step_time(server, 19999);
    CHECK_INT(step_take(server, client, NULL, NULL), -1);
    step_time(server, 1 + STEP);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x89);
    CHECK_INT(wss_pause(server, conn), WSS_OK);
    step(server);
    for (int i = 0; i < 10; i++) step_time(server, 10000);
    CHECK_INT(ends, 0);
    CHECK_INT(step_take(server, client, NULL, NULL), -1);
    step_free(client);
    step_end(server);
}

static void message_deadline_starts_anew(void) {
    wss_options options = {0};
    options.message_ms = 30000;
    options.ping_ms = WSS_OFF;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    step_frame(server, client, 0x01, "a", 1);
    step_time(server, 29000);
    char both[64];
    size_t size = step_make_frame(both, 0x80, "b", 1); /* ends the message, and another begins in the same bytes */
    size += step_make_frame(both + size, 0x01, "c", 1);
    step_write(server, client, both, size);
    step_time(server, 29000);
    CHECK_INT(ends, 0);
    step_time(server, 1000 + STEP);
    CHECK_INT(ends, 1);
    step_free(client);
    step_end(server);
}

static void idle_deadline(void) {
    wss_options options = {0};
    options.idle_ms = 60000;
    options.ping_ms = WSS_OFF;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    step_time(server, 59999);
    step_frame(server, client, 0x81, "x", 1);
    step_time(server, 59999);
    step_frame(server, client, 0x89, "x", 1); /* a ping is no message */
    CHECK_INT(ends, 0);
    step_time(server, 1 + STEP);
    CHECK_INT(ends, 1);
    CHECK_INT(last_cause, WSS_CAUSE_IDLE_TIMEOUT);
    step_free(client);
    step_end(server);
}

static wss_conn asked_conn;

static void on_ask(const wss_event *e) {
    asked_conn = e->conn;
}

/* Before it is open a client can send no message: who was let in late was told at once that it had been idle. */
static void idle_begins_when_it_opens(void) {
    for (int asks = 0; asks < 2; asks++) {
        wss_options options = {0};
        options.idle_ms = 5000;
        wss_server *server = serve(&options);
        if (asks) wss_on_upgrade(server, on_ask, NULL);
        step_client *client = step_connect(server);
        const char *request = "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n";
        if (asks) CHECK_TEXT(step_ask(server, client, request), "");
        step_time(server, 8000);
        if (asks) CHECK_INT(wss_accept(server, asked_conn, NULL, NULL, 0, NULL), WSS_OK);
        CHECK(strncmp(step_ask(server, client, asks ? "" : request), "HTTP/1.1 101 ", 13) == 0);
        step_time(server, 4999);
        CHECK_INT(ends, 0);
        CHECK_INT(wss_count(server), 1);
        step_time(server, 1 + STEP);
        CHECK_INT(ends, 1);
        CHECK_INT(last_cause, WSS_CAUSE_IDLE_TIMEOUT);
        step_free(client);
        step_end(server);
    }
}

static void stall_deadline(void) {
    wss_options options = {0};
    static char block[60000];
    options.stall_ms = 10000;
    options.ping_ms = WSS_OFF;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    wss_conn none = {0};
    wss_conn conn = wss_next(server, none);
    int result = WSS_OK;
    memset(block, 'x', sizeof block);
    while (result == WSS_OK) {
        result = wss_send_data(server, conn, WSS_TEXT, block, sizeof block);
        step(server);
    }
    CHECK_INT(result, WSS_ERR_FULL);
    CHECK(wss_buffered(server, conn) >= 1024 * 1024);
    step_time(server, 9000);
    client->size = 0;
    while (step_receive(client)) client->size = 0; /* it reads, if only some */
    step(server);
    step_time(server, 9000);
    CHECK_INT(ends, 0);
    int full = 0;
    for (int i = 0; i < 1000 && full < 10; i++) {
        result = wss_send_data(server, conn, WSS_TEXT, block, sizeof block);
        step(server);
        full += result == WSS_ERR_FULL;
    }
    step_time(server, 10000 - 1);
    CHECK_INT(ends, 0);
    step_time(server, 1 + STEP);
    CHECK_INT(ends, 1);
    CHECK_INT(last_cause, WSS_CAUSE_SLOW_READER);
    CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "x", 1), WSS_ERR_GONE);
    step_free(client);
    step_end(server);
}

static void close_deadline(void) {
    wss_options options = {0};
    options.close_ms = 5000;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    wss_conn none = {0};
    wss_conn conn = wss_next(server, none);
    CHECK_INT(wss_close(server, conn, 4000, "enough"), WSS_OK);
    CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "x", 1), WSS_ERR_GONE);
    CHECK_INT(wss_close(server, conn, 4000, "enough"), WSS_ERR_GONE);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x88);
    for (int i = 0; i < 4; i++) {
        step_now += 1000;
        step_frame(server, client, 0x81, "still talking", 13); /* does not put it off */
    }
    step_time(server, 999);
    CHECK_INT(ends, 0);
    step_time(server, 1 + STEP);
    CHECK_INT(ends, 1);
    CHECK_INT(last_code, 4000);
    CHECK_INT(last_cause, WSS_CAUSE_LOCAL_CLOSE);
    CHECK_INT(server->loops[0].connections, 0);
    step_free(client);
    step_end(server);
}

/* The peer's Close is its last word: there is nothing to wait for. */
static void closed_at_once_when_answered(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    step_frame(server, client, 0x88, "\x03\xe8", 2);
    CHECK_INT(ends, 1);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x88);
    CHECK(client->ended);
    CHECK_INT(server->loops[0].connections, 0);
    step_free(client);
    step_end(server);
}

/* A peer that broke the rules may be sending still: closing at once would reset the connection and lose our Close. */
static void linger_deadline(void) {
    wss_options options = {0};
    options.close_ms = 2000;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    step_frame(server, client, 0x83, "", 0);
    CHECK_INT(ends, 1);
    CHECK_INT(last_code, WSS_CLOSE_PROTOCOL_ERROR);
    CHECK_INT(last_cause, WSS_CAUSE_OPCODE);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x88);
    CHECK(client->ended); /* the server ends TCP first */
    CHECK_INT(server->loops[0].connections, 1);
    step_time(server, 1999);
    CHECK_INT(server->loops[0].connections, 1);
    step_time(server, 1 + STEP);
    CHECK_INT(server->loops[0].connections, 0);
    step_free(client);
    step_end(server);
}

/* What is queued leaves as long as the peer takes it; from then on it has its time, and once more where it was seen to have
   taken something in that. Where it is off, five seconds. */
static void linger_after_what_was_queued(void) {
    static char large[1 << 20];
    for (int off = 0; off < 2; off++) {
        wss_options options = {0};
        wss_conn none = {0};
        options.close_ms = off ? WSS_OFF : 8000;
        options.max_queued = 64 << 20;
        options.max_posted_bytes = WSS_UNLIMITED;
        wss_server *server = serve(&options);
        step_client *client = step_open(server);
        wss_conn handle = wss_next(server, none);
        wss__conn *conn = wss__conn_find(server, handle);
        for (int i = 0; i < 24; i++) CHECK_INT(wss_send_data(server, handle, WSS_BINARY, large, sizeof large), WSS_OK);
        step(server);
        step_frame(server, client, 0x83, "", 0);
        CHECK_INT(ends, 1);
        CHECK_INT(wss__conn_state(conn), WSS__STATE_FLUSHING);
        step_time(server, 6000);
        for (int quiet = 0; quiet < 5; quiet++) {
            while (step_receive(client)) {
                client->size = 0;
                quiet = 0;
            }
            step(server);
        }
        CHECK_INT(wss__conn_state(conn), WSS__STATE_LINGERING);
        CHECK(client->ended);
        step_time(server, (off ? 5000 : 8000) + STEP);
        CHECK_INT(server->loops[0].connections, 1);
        step_time(server, (off ? 5000 : 8000) - 1 - STEP);
        CHECK_INT(server->loops[0].connections, 1);
        step_time(server, 1 + 2 * STEP);
        CHECK_INT(server->loops[0].connections, 0);
        step_free(client);
        step_end(server);
    }
}

/* A client that has room for little: what it is sent waits in our own socket. */
static step_client *connect_narrow(wss_server *server) {
    wss_options options;
    struct sockaddr_in address = {0};
    step_client *client = (step_client *)calloc(1, sizeof *client);
    wss_get_options(server, &options);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)options.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!client) abort();
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    wss__socket_set(client->fd, SOL_SOCKET, SO_RCVBUF, 8192);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0) abort();
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    wss__socket_set(client->fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return client;
}

/* Reads so many bytes a second until the stream ends, and says a word each second; returns how many there were, minus 1
   where it was reset. */
static long long read_slowly(wss_server *server, step_client *client, size_t rate, const char *word, size_t size) {
    long long all = 0;
    for (int second = 0; second < 600; second++) {
        for (size_t left = rate; left;) {
            ssize_t got = recv(client->fd, client->data, left < sizeof client->data ? left : sizeof client->data, 0);
            if (got == 0) return all;
            if (got < 0 && errno != EAGAIN) return -1;
            if (got < 0) break;
            all += got;
            left -= (size_t)got;
        }
        if (word) step_write(server, client, word, size);
        step_time(server, 1000);
    }
    return all;
}

static char much[500000];

static void answer_much(const wss_event *e) {
    wss_answer answer = {0};
    answer.body = much;
    answer.size = sizeof much;
    CHECK_INT(wss_reply(e->server, e->conn, &answer), WSS_OK);
}

/* Our last word has left, and most of what stands before it is in our own socket still: a client that reads all of that,
   slowly, gets it whole, whatever it says meanwhile; one that takes too little is waited for no longer than any other. */
static void close_behind_what_the_kernel_took(void) {
    enum { CLOSES, STOPS, ANSWERS, HOW };
    static const char word[] = "\x82\x81\0\0\0\0m";
    static const char page[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (int how = 0; how < HOW; how++) {
        for (int fast = 0; fast <= 1; fast++) {
            wss_options options = {0};
            wss_conn none = {0};
            options.close_ms = 2000;
            options.max_queued = 4 << 20;
            wss_server *server = serve(&options);
            wss_on_http(server, answer_much, NULL);
            step_client *client = connect_narrow(server);
            wss__conn *conn = NULL;
            if (how == ANSWERS) {
                step_write(server, client, page, sizeof page - 1);
            } else {
                step_ask(server, client, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
                wss_conn handle = wss_next(server, none);
                conn = wss__conn_find(server, handle);
                CHECK_INT(wss_send_data(server, handle, WSS_BINARY, much, sizeof much), WSS_OK);
                if (how == CLOSES) CHECK_INT(wss_close(server, handle, 1000, "bye"), WSS_OK);
                else wss_stop(server, 1000000);
                step(server);
                CHECK(!conn->session.queue); /* the kernel has all of it */
            }
            long long began = step_now;
            long long got = read_slowly(server, client, fast ? 20000 : 100, how == ANSWERS ? NULL : word, 7);
            if (fast) CHECK(got >= (long long)sizeof much);
            if (fast) CHECK(step_now - began > 10 * options.close_ms);
            else CHECK(got < (long long)sizeof much);
            step_time(server, 2 * options.close_ms + STEP);
            CHECK_INT(server->loops[0].connections, 0);
            if (how != ANSWERS) CHECK_INT(last_cause, how == CLOSES ? WSS_CAUSE_LOCAL_CLOSE : WSS_CAUSE_STOPPING);
            step_free(client);
            step_end(server);
        }
    }
}

static void stop_deadline(void) {
    wss_options options = {0};
    options.close_ms = 60000;
    wss_server *server = serve(&options);
    step_client *silent = step_open(server);
    step_client *polite = step_open(server);
    step_client *early = step_connect(server);
    step_ask(server, early, "GET / HT");
    wss_stop(server, 3000);
    CHECK_INT(wss_post(server, (void (*)(void *))free, NULL), WSS_ERR_STOPPED);
    step(server);
    CHECK_INT(step_take(server, polite, NULL, NULL), 0x88);
    step_frame(server, polite, 0x88, "\x03\xe9", 2);
    CHECK_INT(ends, 1);
    CHECK_INT(last_code, WSS_CLOSE_GOING_AWAY);
    CHECK_INT(last_cause, WSS_CAUSE_STOPPING);
    CHECK(strncmp(step_ask(server, early, ""), "HTTP/1.1 503 ", 13) == 0);
    step_now += 2999;
    CHECK_INT(wss_poll(server, 0), WSS_OK);
    CHECK_INT(ends, 1);
    step_now += 1;
    CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
    CHECK_INT(ends, 2);
    CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
    step_free(silent);
    step_free(polite);
    step_free(early);
    step_end(server);
}

static char fired[64];

static void on_timer(const wss_event *e) {
    size_t used = strlen(fired);
    CHECK_INT(e->kind, WSS_EVENT_TIMER);
    if (used < sizeof fired - 1) fired[used] = *(const char *)e->context;
}

static wss_timer own_timer;

static void on_cancel_self(const wss_event *e) {
    on_timer(e);
    CHECK_INT(wss_timer_cancel(e->server, own_timer), *(const char *)e->context == 'O' ? WSS_ERR_GONE : WSS_OK);
}

static void timers(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    memset(fired, 0, sizeof fired);
    wss_timer cancelled = wss_timer_start(server, 30, 0, on_timer, (void *)(uintptr_t)"X");
    wss_timer repeating = wss_timer_start(server, 10, 10, on_timer, (void *)(uintptr_t)"r");
    wss_timer_start(server, 25, 0, on_timer, (void *)(uintptr_t)"b");
    wss_timer_start(server, 5, 0, on_timer, (void *)(uintptr_t)"a");
    CHECK(cancelled.id && repeating.id && cancelled.id != repeating.id);
    step(server);
    step_time(server, 4);
    CHECK_TEXT(fired, "");
    step_time(server, 1);
    CHECK_TEXT(fired, "a");
    step_time(server, 5);
    CHECK_TEXT(fired, "ar");
    CHECK_INT(wss_timer_cancel(server, cancelled), WSS_OK);
    CHECK_INT(wss_timer_cancel(server, cancelled), WSS_ERR_GONE);
    step_time(server, 10);
    step_time(server, 5);
    CHECK_TEXT(fired, "arrb");
    step_time(server, 100); /* what was missed is not made up for */
    CHECK_TEXT(fired, "arrbr");
    step_time(server, 5);
    CHECK_TEXT(fired, "arrbrr");
    CHECK_INT(wss_timer_cancel(server, repeating), WSS_OK);
    step_time(server, 100);
    CHECK_TEXT(fired, "arrbrr");
    own_timer = wss_timer_start(server, 1, 1, on_cancel_self, (void *)(uintptr_t)"S");
    step(server);
    step_time(server, 1);
    step_time(server, 10);
    CHECK_TEXT(fired, "arrbrrS");
    own_timer = wss_timer_start(server, 1, 0, on_cancel_self, (void *)(uintptr_t)"O");
    step(server);
    step_time(server, 1);
    CHECK_TEXT(fired, "arrbrrSO");
    wss_timer far_away = wss_timer_start(server, (int64_t)40 * 24 * 3600 * 1000, 0, on_timer, (void *)(uintptr_t)"f");
    CHECK(far_away.id != 0);
    step(server);
    step_time(server, (long long)39 * 24 * 3600 * 1000);
    CHECK_TEXT(fired, "arrbrrSO");
    step_time(server, (long long)24 * 3600 * 1000);
    CHECK_TEXT(fired, "arrbrrSOf");
    step_end(server);
}

enum { DAY = 24 * 3600 * 1000 };

/* Days pass for a program that waits as long as the server lets it, and no longer. */
static void pass_days(wss_server *server, int days) {
    long long left = (long long)days * DAY;
    while (left > 0) {
        int most = wss__loop_left(&server->loops[0], (uint64_t)step_now);
        long long some = most < 0 || most > left ? left : most ? most : 1;
        step_now += some;
        left -= some;
        step(server);
    }
}

static wss_conn last_conn;

static void on_open(const wss_event *e) {
    last_conn = e->conn;
}

/* An application that pauses now and then, for a moment, is told of a peer that has gone like any other. */
static void silence_between_pauses(void) {
    for (int pauses = 0; pauses <= 1; pauses++) {
        wss_options options = {0};
        options.ping_ms = 2000;
        options.pong_ms = 2000;
        wss_server *server = serve(&options);
        wss_on_connect(server, on_open, NULL);
        step_client *client = step_open(server);
        int rounds = 0;
        for (; rounds < 50 && !ends; rounds++) {
            if (pauses) wss_pause(server, last_conn);
            step(server);
            step_time(server, 10);
            if (pauses) wss_resume(server, last_conn);
            step(server);
            step_time(server, 490);
        }
        CHECK(rounds == 9 || rounds == 10);
        CHECK_INT(last_cause, WSS_CAUSE_PONG_TIMEOUT);
        step_free(client);
        step_end(server);
    }
}

/* A pause of any length is left out, and what was said before it goes on. */
static void pause_of_months(void) {
    for (int days = 6; days <= 102; days += 6) {
        wss_options options = {0};
        options.ping_ms = WSS_OFF;
        options.idle_ms = 3600 * 1000;
        wss_server *server = serve(&options);
        CHECK(wss_fd(server) >= 0); /* who watches it waits: it does not stand still */
        wss_on_connect(server, on_open, NULL);
        step_client *client = step_open(server);
        step_time(server, 1000);
        CHECK_INT(wss_pause(server, last_conn), WSS_OK);
        step(server);
        pass_days(server, days);
        CHECK_INT(wss_resume(server, last_conn), WSS_OK);
        step(server);
        step_time(server, 3598 * 1000);
        CHECK_INT(ends, 0);
        step_time(server, 2000);
        CHECK_INT(ends, 1);
        CHECK_INT(last_cause, WSS_CAUSE_IDLE_TIMEOUT);
        step_free(client);
        step_end(server);
    }
}

/* Silence is told for 24 days, and never less when it is longer; a ping that is due after 24 days comes. */
static void silence_of_months(void) {
    for (int ping = 0; ping <= 1; ping++) {
        wss_options options = {0};
        wss_info info;
        options.ping_ms = ping ? INT_MAX : WSS_OFF;
        wss_server *server = serve(&options);
        CHECK(wss_fd(server) >= 0); /* who watches it waits: it does not stand still */
        wss_on_connect(server, on_open, NULL);
        step_client *client = step_open(server);
        client->size = 0;
        for (int days = 6; days <= 120; days += 6) {
            pass_days(server, 6);
            if (ping && days > 24) break;
            CHECK_INT(wss_get_info(server, last_conn, &info), WSS_OK);
            uint64_t silent = (uint64_t)days * DAY;
            CHECK_INT(info.silent_ms, silent < 1u << 31 ? silent : 1u << 31);
            CHECK(!step_receive(client));
        }
        CHECK_INT(step_receive(client), ping);
        step_free(client);
        step_end(server);
    }
}

/* Every few days each is looked at, all in one turn. */
static void idle_costs_nothing(void) {
    wss_options options = {0};
    options.ping_ms = WSS_OFF;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    step_time(server, 60000);
    CHECK(wss__timer_next(&server->loops[0].wheel) > (uint64_t)step_now + 3 * DAY);
    CHECK(client->size == 0);
    step_free(client);
    step_end(server);
}

/* A program that watches wss_fd waits there, and calls wss_poll when something is due: what it waited for has passed. It was
   taken for a process that had stood still, and each wait counted as a second. */
static void waiting_elsewhere(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    CHECK(wss_fd(server) >= 0);
    step_client *client = step_open(server);
    step_client *silent = step_connect(server);
    step(server);
    long long began = step_now;
    long long refused = 0;
    while (!ends && step_now - began < 100000) {
        step_now = (long long)wss__loop_due(&server->loops[0]);
        step(server);
        if (!refused && server->loops[0].shared.stats.refused) refused = step_now - began;
    }
    CHECK(refused >= 10000 && refused <= 10000 + STEP);
    CHECK(step_now - began >= 40000 && step_now - began <= 40000 + 2 * STEP);
    CHECK_INT(last_cause, WSS_CAUSE_PONG_TIMEOUT);
    step_time(server, 1000);
    step_free(client);
    client = step_open(server);
    step_now += 60000; /* beyond what was due first: then it was busy, or stood still */
    step(server);
    step(server);
    CHECK_INT(ends, 1);
    CHECK(server->loops[0].skipped >= 39000 - STEP);
    step_free(silent);
    step_free(client);
    step(server);
    step_end(server);
}

static int rated;

static void on_rated(const wss_event *e) {
    (void)e;
    rated++;
}

/* A second's worth at once, then one each time that it is due; nothing is lost, control frames are free, others are not
   held up, and who sends no more than it may is never held up. */
static void message_rate(void) {
    wss_options options = {0};
    wss_stats stats;
    options.max_message_rate = 10;
    options.pong_ms = 500; /* does not run meanwhile */
    options.ping_ms = 500;
    wss_server *server = step_server(&options);
    wss_on_data(server, on_rated, NULL);
    step_client *client = step_open(server);
    rated = 0;
    for (int i = 0; i < 30; i++) step_frame(server, client, 0x81, "m", 1);
    CHECK_INT(rated, 10);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.rate_pauses, 1);
    CHECK_INT(stats.paused, 1);
    step_client *other = step_open(server);
    for (int i = 0; i < 5; i++) step_frame(server, other, 0x81, "m", 1);
    CHECK_INT(rated, 15);
    step_free(other);
    for (int tenth = 1; tenth <= 20; tenth++) {
        step_time(server, 100);
        CHECK(rated >= 15 + tenth - 1 && rated <= 15 + tenth); /* deadlines have steps of 64 ms */
    }
    step_time(server, 100);
    CHECK_INT(rated, 35);
    step_time(server, 1000);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.paused, 0);
    uint64_t before = stats.rate_pauses;
    for (int i = 0; i < 50; i++) {
        step_frame(server, client, 0x89, "ping", 4);
        step_frame(server, client, 0x81, "m", 1);
        step_time(server, 100);
        CHECK_INT(rated, 36 + i);
    }
    wss_get_stats(server, &stats);
    CHECK_INT(stats.rate_pauses, before);
    CHECK_INT(stats.closes[WSS_CAUSE_PONG_TIMEOUT], 0);
    step_free(client);
    step_end(server);
}

static wss_conn rated_conn;
static int rated_ends;

static void on_rated_open(const wss_event *e) {
    rated_conn = e->conn;
}

static void on_rated_end(const wss_event *e) {
    rated_ends += e->cause == WSS_CAUSE_LOCAL_CLOSE ? 1 : 100;
}

/* Who has sent too much is still heard when it answers our Close; and who breaks off does not keep its place until all that
   it sent would have had its turn. */
static void message_rate_and_ends(void) {
    static const struct linger reset = {1, 0};
    wss_options options = {0};
    options.max_message_rate = 1;
    wss_server *server = step_server(&options);
    wss_on_connect(server, on_rated_open, NULL);
    wss_on_data(server, on_rated, NULL);
    wss_on_disconnect(server, on_rated_end, NULL);
    rated_ends = 0;
    step_client *client = step_open(server);
    for (int i = 0; i < 2; i++) step_frame(server, client, 0x81, "m", 1);
    CHECK_INT(wss_close(server, rated_conn, 1000, NULL), WSS_OK);
    step(server);
    step_frame(server, client, 0x88, "\x03\xe8", 2);
    CHECK_INT(rated_ends, 1);
    step_free(client);
    client = step_open(server);
    for (int i = 0; i < 1000; i++) step_frame(server, client, 0x81, "m", 1);
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    step_free(client);
    step_time(server, 10000);
    CHECK_INT(rated_ends, 101);
    step_end(server);
}

int main(void) {
    alarm(100);
    RUN(handshake_deadline);
    RUN(unanswered_request);
    RUN(answered_late);
    RUN(ping_and_pong);
    RUN(queued_when_a_deadline_is_due);
    RUN(message_deadline);
    RUN(message_deadline_after_a_pause);
    RUN(silence_during_a_pause);
    RUN(message_deadline_starts_anew);
    RUN(idle_deadline);
    RUN(idle_begins_when_it_opens);
    RUN(stall_deadline);
    RUN(close_deadline);
    RUN(closed_at_once_when_answered);
    RUN(linger_deadline);
    RUN(linger_after_what_was_queued);
    RUN(close_behind_what_the_kernel_took);
    RUN(stop_deadline);
    RUN(timers);
    RUN(waiting_elsewhere);
    RUN(silence_between_pauses);
    RUN(pause_of_months);
    RUN(silence_of_months);
    RUN(idle_costs_nothing);
    RUN(message_rate);
    RUN(message_rate_and_ends);
    return test_end("deadlines");
}
