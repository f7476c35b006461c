/* Two things in one turn of the loop: what comes first counts, what comes second finds that out, nothing is done twice. */
#include "../step.h"

enum { STEP = WSS__CONN_STEP };

static wss_conn conns[16];
static int connects;
static int ends;
static int last_code;
static int last_cause;
static char last_reason[128];
static int freed;
static wss_conn asked[8];
static int requests;

static void on_connect(const wss_event *e) {
    conns[connects++ & 15] = e->conn;
}

static void on_end(const wss_event *e) {
    ends++;
    last_code = e->code;
    last_cause = e->cause;
    snprintf(last_reason, sizeof last_reason, "%s", e->reason);
    CHECK_INT(strlen(e->reason), e->reason_length);
}

static void on_request(const wss_event *e) {
    asked[requests++ & 7] = e->conn;
}

static void free_user(void *user) {
    CHECK(user == (void *)&freed);
    freed++;
}

static wss_server *serve(wss_options *options) {
    connects = 0;
    ends = 0;
    last_code = 0;
    last_cause = 0;
    last_reason[0] = 0;
    freed = 0;
    requests = 0;
    wss_server *server = step_server(options);
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_end, NULL);
    return server;
}

/* Bytes that arrive, without a turn of the server. */
static void arrive(step_client *client, const void *data, size_t size) {
    CHECK_INT(send(client->fd, data, size, MSG_NOSIGNAL), size);
}

static void reset(step_client *client) {
    struct linger linger = {1, 0};
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(client->fd);
    client->fd = -1;
}

/* What another thread does while a handler waits for it: it comes too late for this turn's jobs. */
static wss_server *elsewhere_server;
static void (*elsewhere)(wss_server *server);

static void *run_elsewhere(void *unused) {
    elsewhere(elsewhere_server);
    return unused;
}

static void on_data_wait(const wss_event *e) {
    pthread_t thread;
    elsewhere_server = e->server;
    if (pthread_create(&thread, NULL, run_elsewhere, NULL) != 0) abort();
    pthread_join(thread, NULL);
}

#define TEXT_FRAME "\x81\x81\0\0\0\0x"

/* ---- stopping ---- */

/* Our Close is out, half a frame has come, and the server stops: the client speaks WebSocket, no HTTP may follow. */
static void stopping_while_closing_with_half_a_frame(void) {
    wss_options options = {0};
    wss_stats stats;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    CHECK_INT(wss_close(server, conns[0], 4000, "bye"), WSS_OK);
    step(server);
    step_write(server, client, "\x81\x85\0\0", 4);
    wss_stop(server, 1000);
    step(server);
    char payload[128];
    size_t size;
    CHECK_INT(step_take(server, client, payload, &size), 0x88);
    CHECK_INT(client->size, 0);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.refused, 0);
    step_time(server, 1001);
    while (step_receive(client)) {
    }
    CHECK_INT(client->size, 0);
    CHECK(client->ended);
    CHECK_INT(ends, 1);
    CHECK_INT(last_code, 4000);
    CHECK_INT(last_cause, WSS_CAUSE_LOCAL_CLOSE);
    CHECK_TEXT(last_reason, "bye");
    step_free(client);
    step_end(server);
}

/* Each kind of connection that is there when the server stops is told what its protocol has for it. */
static void stopping_in_every_phase(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *open = step_open(server);
    step_client *half = step_open(server);
    step_frame(server, half, 0x01, "half", 4);
    wss_on_upgrade(server, on_request, NULL);
    step_client *silent = step_connect(server);
    step_client *head = step_connect(server);
    step_client *waiting = step_connect(server);
    step(server);
    step_write(server, head, "GET / HT", 8);
    step_ask(server, waiting, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
    CHECK_INT(requests, 1);
    wss_stop(server, 1000);
    step(server);
    CHECK_INT(step_take(server, open, NULL, NULL), 0x88);
    CHECK_INT(step_take(server, half, NULL, NULL), 0x88);
    while (step_receive(silent)) {
    }
    CHECK(strncmp(silent->data, "HTTP/1.1 503 ", 13) == 0);
    CHECK(strncmp(step_ask(server, head, ""), "HTTP/1.1 503 ", 13) == 0);
    while (step_receive(waiting)) {
    }
    CHECK(strncmp(waiting->data, "HTTP/1.1 503 ", 13) == 0);
    CHECK_INT(wss_accept(server, asked[0], NULL, NULL, 0, NULL), WSS_ERR_GONE);
    step_time(server, 1001);
    CHECK_INT(ends, 2);
    step_free(open);
    step_free(half);
    step_free(silent);
    step_free(head);
    step_free(waiting);
    step_end(server);
}

/* ---- answers ---- */

/* The application's answer comes in the very turn of the handshake's deadline: it counts, for it was accepted. */
static void accept_elsewhere(wss_server *server) {
    CHECK_INT(wss_accept(server, asked[0], NULL, NULL, 0, &freed), WSS_OK);
}

static void answer_behind_the_deadline(void) {
    wss_options options = {0};
    options.handshake_ms = 5000;
    options.user_free = free_user;
    wss_server *server = serve(&options);
    step_client *worker = step_open(server);
    wss_on_upgrade(server, on_request, NULL);
    wss_on_data(server, on_data_wait, NULL);
    step_client *waiting = step_connect(server);
    step_ask(server, waiting, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
    CHECK_INT(requests, 1);
    elsewhere = accept_elsewhere;
    step_time(server, 4900);
    arrive(worker, TEXT_FRAME, 7);
    step_now += 100 + STEP;
    wss_poll(server, 0);
    step(server);
    CHECK(strncmp(step_ask(server, waiting, ""), "HTTP/1.1 101 ", 13) == 0);
    CHECK(!waiting->ended);
    CHECK_INT(connects, 2);
    CHECK_INT(ends, 0);
    CHECK_INT(freed, 0);
    CHECK_INT(wss_accept(server, asked[0], NULL, NULL, 0, NULL), WSS_ERR_ANSWERED);
    step_free(worker);
    step_free(waiting);
    step(server);
    CHECK_INT(freed, 1);
    step_end(server);
}

static void answer_before_the_deadline(void) {
    wss_options options = {0};
    options.handshake_ms = 5000;
    wss_server *server = serve(&options);
    wss_on_upgrade(server, on_request, NULL);
    step_client *waiting = step_connect(server);
    step_ask(server, waiting, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
    CHECK_INT(wss_accept(server, asked[0], NULL, NULL, 0, NULL), WSS_OK);
    CHECK_INT(wss_accept(server, asked[0], NULL, NULL, 0, NULL), WSS_ERR_ANSWERED);
    step_now += 5000 + STEP;
    wss_poll(server, 0);
    CHECK_INT(connects, 1);
    step(server);
    CHECK(strncmp(step_ask(server, waiting, ""), "HTTP/1.1 101 ", 13) == 0);
    CHECK_INT(connects, 1);
    CHECK(!waiting->ended);
    step_free(waiting);
    step(server);
    CHECK_INT(ends, 1);
    step_end(server);
}

/* The client goes, and the application answers before the loop has seen that: it connects and ends, each once. */
static void answer_behind_the_end(void) {
    wss_options options = {0};
    options.user_free = free_user;
    wss_server *server = serve(&options);
    wss_on_upgrade(server, on_request, NULL);
    step_client *waiting = step_connect(server);
    step_ask(server, waiting, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
    reset(waiting);
    CHECK_INT(wss_accept(server, asked[0], NULL, NULL, 0, &freed), WSS_OK);
    wss_poll(server, 0);
    step(server);
    CHECK_INT(connects, ends);
    CHECK_INT(freed, 1);
    CHECK_INT(server->loops[0].connections, 0);
    step_free(waiting);
    step_end(server);
}

/* ---- what comes behind the end of a connection ---- */

/* The peer's Close is handled first; what another thread handed to the loop meanwhile finds the connection ended. */
static void work_for_the_second(wss_server *server) {
    CHECK_INT(wss_send_data(server, conns[1], WSS_TEXT, "late", 4), WSS_OK);
    CHECK(wss_buffered(server, conns[1]) > 0);
    CHECK_INT(wss_pause(server, conns[1]), WSS_OK);
    CHECK_INT(wss_close(server, conns[1], 4000, "late"), WSS_OK);
}

static void work_behind_the_peers_close(void) {
    wss_options options = {0};
    wss_stats stats;
    wss_server *server = serve(&options);
    wss_on_data(server, on_data_wait, NULL);
    step_client *worker = step_open(server);
    step_client *client = step_open(server);
    elsewhere = work_for_the_second;
    arrive(worker, TEXT_FRAME, 7);
    arrive(client, "\x88\x82\0\0\0\0\x03\xe8", 8);
    wss_poll(server, 0);
    CHECK_INT(ends, 1);
    CHECK_INT(last_code, 1000);
    CHECK_INT(last_cause, WSS_CAUSE_PEER_CLOSED);
    step(server);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.dropped_gone, 1);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x88); /* the echo of its Close and nothing else */
    CHECK_INT(client->size, 0);
    step_free(worker);
    step_free(client);
    step(server);
    step_end(server);
}

static int sent_results[8];

static void work_for_all(wss_server *server) {
    static char block[4096];
    sent_results[0] = wss_send_data(server, conns[1], WSS_TEXT, "late", 4);
    sent_results[1] = wss_pause(server, conns[2]);
    sent_results[2] = wss_close(server, conns[3], 4000, "late");
    sent_results[3] = wss_accept(server, asked[0], NULL, NULL, 0, &freed);
    sent_results[4] = wss_refuse(server, asked[1], NULL);
    sent_results[5] = wss_send_data(server, conns[4], WSS_BINARY, block, sizeof block);
}

/* Sends to a client that does not read, until the server's queue for it is at its limit. */
static void fill(wss_server *server, wss_conn conn) {
    static char block[65536];
    for (int i = 0; i < 10000 && wss_buffered(server, conn) < 100000; i++) {
        wss_send_data(server, conn, WSS_BINARY, block, sizeof block);
        wss_poll(server, 0);
    }
    CHECK(wss_buffered(server, conn) >= 100000);
}

/* Connections end and are freed in the turn in which another thread hands the loop work for them. */
static void work_behind_the_freeing(void) {
    wss_options options = {0};
    wss_stats stats;
    step_client *clients[7];
    options.max_queued = 100000;
    options.send_policy = WSS_POLICY_CLOSE;
    options.user_free = free_user;
    wss_server *server = serve(&options);
    for (int i = 0; i < 5; i++) clients[i] = step_open(server);
    fill(server, conns[4]);
    wss_on_upgrade(server, on_request, NULL);
    wss_on_data(server, on_data_wait, NULL);
    for (int i = 5; i < 7; i++) {
        clients[i] = step_connect(server);
        step_ask(server, clients[i], "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
    }
    CHECK_INT(requests, 2);
    elsewhere = work_for_all;
    arrive(clients[0], TEXT_FRAME, 7);
    for (int i = 1; i < 7; i++) reset(clients[i]);
    wss_poll(server, 0);
    for (int i = 0; i < 5; i++) CHECK_INT(sent_results[i], WSS_OK);
    CHECK_INT(sent_results[5], WSS_OK); /* the loop would judge it */
    CHECK_INT(server->loops[0].connections, 1);
    step(server);
    CHECK_INT(ends, 4);
    CHECK_INT(freed, 1);
    wss_get_stats(server, &stats);
    CHECK(stats.dropped_gone >= 1);
    CHECK_INT(stats.connections, 1);
    CHECK_INT(wss_count(server), 1);
    for (int i = 0; i < 7; i++) step_free(clients[i]);
    step(server);
    step_end(server);
}

/* A connection that is dead already has no deadlines any more. */
static void deadline_behind_the_end(void) {
    wss_options options = {0};
    options.ping_ms = 5000;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    step_time(server, 4900);
    reset(client);
    step_now += 100 + 2 * STEP;
    wss_poll(server, 0);
    CHECK_INT(ends, 1);
    CHECK_INT(last_code, WSS_CLOSE_LOST);
    CHECK_INT(last_cause, WSS_CAUSE_PEER_VANISHED);
    CHECK_INT(server->loops[0].connections, 0);
    CHECK_INT(server->loops[0].shared.stats.frames_out, 0);
    step_free(client);
    step_end(server);
}

/* A message from elsewhere comes in the turn in which the connection's timer rings, as it does at least once in each
   options.ping_ms: nothing of it has been offered to the peer yet, so the peer is not slow. */
static void send_in_the_turn_of_a_deadline(void) {
    wss_options options = {0};
    char payload[128];
    size_t size;
    options.ping_ms = 20000;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    for (int i = 0; i < 5; i++) {
        step_time(server, 19900);
        step_now += 100 + 2 * STEP;
        CHECK_INT(wss_broadcast_data(server, WSS_TEXT, "news", 4), WSS_OK);
        wss_poll(server, 0);
        step(server);
        CHECK_INT(ends, 0);
        int pinged = 0;
        int got = 0;
        for (int first; (first = step_take(server, client, payload, &size)) >= 0;) {
            if (first == 0x89) pinged++;
            if (first == 0x89) step_frame(server, client, 0x8a, payload, size);
            if (first == 0x81) CHECK_TEXT(payload, "news");
            if (first == 0x81) got++;
        }
        CHECK_INT(pinged, 1);
        CHECK_INT(got, 1);
    }
    step_free(client);
    step(server);
    CHECK_INT(ends, 1);
    CHECK_INT(last_cause, WSS_CAUSE_PEER_VANISHED);
    step_end(server);
}

/* ---- an answer that is not read ---- */

enum { BODY = 24 << 20 };

static wss_server *reply_big(wss_options *options, step_client **client) {
    static char *body;
    wss_answer answer = {0};
    wss_server *server = serve(options);
    wss_on_http(server, on_request, NULL);
    *client = step_connect(server);
    arrive(*client, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 35);
    step(server);
    CHECK_INT(requests, 1);
    body = (char *)calloc(1, BODY);
    answer.body = body;
    answer.size = BODY;
    CHECK_INT(wss_reply(server, asked[0], &answer), WSS_OK);
    free(body);
    step(server);
    CHECK_INT(server->loops[0].connections, 1);
    return server;
}

static void unread_answer_ends_in_time(void) {
    wss_options options = {0};
    step_client *client;
    options.stall_ms = 3000;
    wss_server *server = reply_big(&options, &client);
    step_time(server, 2900);
    CHECK_INT(server->loops[0].connections, 1);
    step_time(server, 100 + STEP);
    CHECK_INT(server->loops[0].connections, 0);
    while (recv(client->fd, client->data, sizeof client->data, 0) > 0) {
    }
    CHECK_INT(errno, ECONNRESET); /* not as if this had been all of the answer */
    step_free(client);
    step_end(server);
}

static void unread_answer_and_reset(void) {
    wss_options options = {0};
    step_client *client;
    wss_server *server = reply_big(&options, &client);
    reset(client);
    step(server);
    CHECK_INT(server->loops[0].connections, 0);
    CHECK_INT(ends, 0);
    step_free(client);
    step_end(server);
}

/* ---- small print ---- */

static void user_without_user_free(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    CHECK_INT(wss_set_user(server, conns[0], &freed), WSS_OK);
    step_free(client);
    step(server);
    CHECK_INT(ends, 1);
    CHECK_INT(freed, 0);
    step_end(server);
}

/* A path is remembered; that does not make a reason of our own. */
static void close_without_reason_on_a_path(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *client = step_connect(server);
    step_ask(server, client, "GET /chat HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
    CHECK_INT(wss_close(server, conns[0], 4001, NULL), WSS_OK);
    step(server);
    step_frame(server, client, 0x88, "\x0f\xa1their words", 13);
    CHECK_INT(ends, 1);
    CHECK_INT(last_code, 4001);
    CHECK_INT(last_cause, WSS_CAUSE_LOCAL_CLOSE);
    CHECK_TEXT(last_reason, "");
    step_free(client);
    step(server);
    step_end(server);
}

/* In a handler of one server another server's connections are reached like from any thread. */
static wss_server *other_server;
static wss_conn other_conn;

static void on_data_other(const wss_event *e) {
    wss_stats stats;
    (void)e;
    CHECK_INT(wss_send_data(other_server, other_conn, WSS_TEXT, "from one to the other", 21), WSS_OK);
    wss_get_stats(other_server, &stats);
    CHECK_INT(stats.posted, 1); /* it waits for its own loop */
}

static void two_servers_in_one_thread(void) {
    wss_options options = {0};
    wss_options others = {0};
    char payload[64];
    size_t size;
    other_server = serve(&others);
    step_client *there = step_open(other_server);
    other_conn = conns[0];
    wss_server *server = serve(&options);
    wss_on_data(server, on_data_other, NULL);
    step_client *here = step_open(server);
    step_frame(server, here, 0x81, "x", 1);
    CHECK_INT(step_take(server, here, payload, &size), -1);
    CHECK_INT(step_take(other_server, there, payload, &size), 0x81);
    CHECK_TEXT(payload, "from one to the other");
    step_free(here);
    step_free(there);
    step(server);
    step(other_server);
    CHECK_INT(wss_destroy(server), WSS_OK);
    step_end(other_server);
}

/* Pongs that answer none of our pings change nothing, whatever they carry. */
static void round_trip_of_foreign_pongs(void) {
    wss_options options = {0};
    wss_info info;
    char eight[8];
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    step_frame(server, client, 0x8a, "", 0);
    step_frame(server, client, 0x8a, "1234567", 7);
    step_frame(server, client, 0x8a, "123456789", 9);
    wss__base_store_be(eight, (uint64_t)step_now + 1, 8); /* not sent yet */
    step_frame(server, client, 0x8a, eight, 8);
    wss__base_store_be(eight, (uint64_t)step_now, 8);
    step_now += 3600000; /* too long ago to be of this life */
    step_frame(server, client, 0x8a, eight, 8);
    CHECK_INT(wss_get_info(server, conns[0], &info), WSS_OK);
    CHECK_INT(info.round_trip_ms, -1);
    wss__base_store_be(eight, (uint64_t)step_now - 40, 8);
    step_frame(server, client, 0x8a, eight, 8);
    CHECK_INT(wss_get_info(server, conns[0], &info), WSS_OK);
    CHECK_INT(info.round_trip_ms, 40);
    step_free(client);
    step(server);
    step_end(server);
}

static int drains_before_connect;
static int drains;

static void on_drain(const wss_event *e) {
    (void)e;
    drains++;
    drains_before_connect += connects == 0;
}

static void accept_and_send(void *arg) {
    wss_server *server = (wss_server *)arg;
    char text[300];
    memset(text, 't', sizeof text);
    CHECK_INT(wss_accept(server, asked[0], NULL, NULL, 0, NULL), WSS_OK);
    CHECK_INT(wss_send_data(server, asked[0], WSS_TEXT, text, sizeof text), WSS_OK);
}

/* Accepted, sent to and drained in the turn in which its deadline strikes: connect comes before drain all the same. */
static void drain_waits_for_connect(void) {
    wss_options options = {0};
    options.max_queued = 400;
    options.handshake_ms = 1000;
    wss_server *server = serve(&options);
    drains = drains_before_connect = 0;
    wss_on_upgrade(server, on_request, NULL);
    wss_on_drain(server, on_drain, NULL);
    step_client *client = step_connect(server);
    step_ask(server, client, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
    CHECK_INT(requests, 1);
    step_now += 1000 + STEP;
    CHECK_INT(wss_post(server, accept_and_send, server), WSS_OK);
    step(server);
    CHECK_INT(connects, 1);
    CHECK_INT(drains, 1);
    CHECK_INT(drains_before_connect, 0);
    step_free(client);
    step(server);
    step_end(server);
}

static int pointers[4];

static void on_data_replaces(const wss_event *e) {
    int *next = e->user ? (int *)e->user + 1 : pointers;
    CHECK_INT(wss_set_user(e->server, e->conn, next), WSS_OK);
}

static void check_pointer(const wss_event *e) {
    CHECK(e->user == (void *)&pointers[1]); /* the handler before this one has put it there */
    requests++;
}

/* Handlers of one event that replace the connection's pointer: the next one never sees one that may be freed. */
static void pointer_replaced_between_handlers(void) {
    static const char text[] = "{\"__MESSAGE__\":\"t\"}";
    for (int queued = 0; queued < 2; queued++) {
        wss_options options = {0};
        options.queue = queued ? wss_queue_create(NULL, NULL) : NULL;
        wss_server *server = serve(&options);
        wss_on_data(server, on_data_replaces, NULL);
        wss_on_data(server, on_data_replaces, NULL);
        wss_on_data(server, check_pointer, NULL);
        wss_on_message(server, "t", check_pointer, NULL);
        step_client *client = step_open(server);
        step_frame(server, client, 0x81, text, sizeof text - 1);
        if (options.queue) CHECK_INT(wss_queue_poll(options.queue, 0), WSS_OK);
        CHECK_INT(requests, 2);
        step_free(client);
        step(server);
        step_end(server);
        wss_queue_destroy(options.queue);
    }
}

/* ---- what a close, a type or an end changes for the message in hand ---- */

static int heard[2];

static void close_the_second(wss_server *server) {
    CHECK_INT(wss_close(server, conns[1], 1000, NULL), WSS_OK);
}

static void on_data_heard(const wss_event *e) {
    heard[e->conn.id == conns[1].id]++;
    if (e->conn.id == conns[0].id) on_data_wait(e);
}

/* Another thread's close comes while a message of that connection is waiting to be read: no handler sees it
   any more. */
static void no_message_behind_a_close(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    elsewhere = close_the_second;
    heard[0] = heard[1] = 0;
    wss_on_data(server, on_data_heard, NULL);
    step_client *first = step_open(server);
    step_client *second = step_open(server);
    arrive(first, TEXT_FRAME, 7);
    arrive(second, TEXT_FRAME, 7);
    step(server);
    CHECK_INT(heard[0], 1);
    CHECK_INT(heard[1], 0);
    CHECK_INT(step_take(server, second, NULL, NULL), 0x88);
    step_free(first);
    step_free(second);
    step(server);
    CHECK_INT(ends, 2);
    step_end(server);
}

static void on_data_close(const wss_event *e) {
    step_fail_in = 1;
    CHECK_INT(wss_close(e->server, e->conn, 4000, "bye"), WSS_OK);
    CHECK_INT(step_fail_in, 0);
}

/* No memory to keep our reason: the peer is told it, the disconnect handlers get none. */
static void reason_without_memory(void) {
    wss_options options = {0};
    char text[16];
    size_t size;
    options.idle_ms = 60000; /* so that each connection has its cold part */
    wss_server *server = serve(&options);
    wss_on_data(server, on_data_close, NULL);
    step_client *client = step_open(server);
    step_frame(server, client, 0x81, "x", 1);
    CHECK_INT(step_take(server, client, text, &size), 0x88);
    CHECK_INT(size, 5);
    CHECK(memcmp(text, "\x0f\xa0" "bye", 5) == 0);
    step_frame(server, client, 0x88, "\x0f\xa0", 2);
    CHECK_INT(last_code, 4000);
    CHECK_TEXT(last_reason, "");
    step_free(client);
    step(server);
    step_end(server);
}

/* Whose stream has ended is closed without a word more, and without ending ours first. */
static int shutdowns;

static int count_shutdown(int fd, int how) {
    shutdowns++;
    return shutdown(fd, how);
}

REPLACE(shutdown, count_shutdown)

static void a_peer_that_left_is_closed_at_once(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    shutdowns = 0;
    step_free(client);
    step(server);
    CHECK_INT(ends, 1);
    CHECK_INT(last_cause, WSS_CAUSE_PEER_VANISHED);
    CHECK_INT(server->loops[0].connections, 0);
    CHECK_INT(shutdowns, 0);
    step_end(server);
}

static int typed_heard;

static void on_typed(const wss_event *e) {
    CHECK_TEXT(e->args.text, "{\"n\":2}");
    typed_heard++;
}

static void on_data_registers(const wss_event *e) {
    if (!heard[0]++) CHECK_INT(wss_on_message(e->server, "t", on_typed, NULL), WSS_OK);
    CHECK_INT(wss_send_data(e->server, e->conn, e->opcode, e->data, e->size), WSS_OK);
}

/* A type that a handler of raw messages registers counts from the next message on, with and without a queue, and
   whether or not there were others.
   What had been sent back from where it was received by then, and what is sent back now, is as it came,
   although the cutter works there. */
static void type_counts_from_the_next_message(void) {
    static const char *const texts[2] = {"{\"__MESSAGE__\":\"t\",\"n\":1}", "{\"n\":2,\"__MESSAGE__\":\"t\"}"};
    for (int way = 0; way < 4; way++) {
        char frames[128];
        char back[128];
        wss_options options = {0};
        options.queue = way & 1 ? wss_queue_create(NULL, NULL) : NULL;
        wss_server *server = serve(&options);
        wss_on_data(server, on_data_registers, NULL);
        if (way & 2) CHECK_INT(wss_on_message(server, "other", on_typed, NULL), WSS_OK);
        heard[0] = typed_heard = 0;
        step_client *client = step_open(server);
        size_t size = step_make_frame(frames, 0x81, texts[0], strlen(texts[0]));
        size += step_make_frame(frames + size, 0x81, texts[1], strlen(texts[1]));
        step_write(server, client, frames, size);
        if (options.queue) CHECK_INT(wss_queue_poll(options.queue, 0), WSS_OK);
        CHECK_INT(heard[0], 2);
        CHECK_INT(typed_heard, 1);
        for (int i = 0; i < 2; i++) {
            CHECK_INT(step_take(server, client, back, &size), 0x81);
            CHECK_TEXT(back, texts[i]);
        }
        step_free(client);
        step(server);
        step_end(server);
        wss_queue_destroy(options.queue);
    }
}

static void on_typed_too(const wss_event *e) {
    (void)e;
    heard[1]++;
}

static void on_data_adds(const wss_event *e) {
    if (heard[0]++) return;
    CHECK_INT(wss_on_message(e->server, "t", on_typed_too, NULL), WSS_OK);
    CHECK_INT(wss_on_message(e->server, "new", on_typed_too, NULL), WSS_OK);
}

/* Likewise what it adds to a type that is there: an event is seen by the handlers that were there when its dispatch began,
   by all of them and no others. */
static void handlers_count_from_the_next_message(void) {
    for (int way = 0; way < 2; way++) {
        wss_options options = {0};
        options.queue = way ? wss_queue_create(NULL, NULL) : NULL;
        wss_server *server = serve(&options);
        wss_on_message(server, "t", on_typed, NULL);
        wss_on_data(server, on_data_adds, NULL);
        heard[0] = heard[1] = typed_heard = 0;
        step_client *client = step_open(server);
        for (int i = 1; i <= 3; i++) {
            const char *text = i < 3 ? "{\"__MESSAGE__\":\"t\",\"n\":2}" : "{\"__MESSAGE__\":\"new\"}";
            step_frame(server, client, 0x81, text, strlen(text));
            if (way) CHECK_INT(wss_queue_poll(options.queue, 0), WSS_OK);
            CHECK_INT(heard[0], i);
            CHECK_INT(typed_heard, i < 3 ? i : 2);
            CHECK_INT(heard[1], i - 1);
        }
        step_free(client);
        step(server);
        step_end(server);
        wss_queue_destroy(options.queue);
    }
}

static step_client *asking;

static void turn_elsewhere(wss_server *server) {
    step(server);
}

static void on_request_that_ends(const wss_event *e) {
    requests++;
    CHECK_INT(wss_set_user(e->server, e->conn, &freed), WSS_ERR_GONE); /* wss_accept gives it one */
    reset(asking);
    elsewhere = turn_elsewhere;
    on_data_wait(e);
    CHECK_INT(e->server->loops[0].connections, 0);
    CHECK_TEXT(wss_request_target(e->request), "/");
    CHECK_INT(wss_accept(e->server, e->conn, NULL, NULL, 0, NULL), WSS_ERR_GONE);
}

/* The client of a request vanishes while a queue's thread is in its handler: the request lives until it returns, the
   connection's place does not wait for that. */
static void request_outlives_its_client(void) {
    wss_options options = {0};
    options.user_free = free_user;
    options.queue = wss_queue_create(NULL, NULL);
    wss_server *server = serve(&options);
    wss_on_upgrade(server, on_request_that_ends, NULL);
    asking = step_connect(server);
    step_ask(server, asking, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
    CHECK_INT(requests, 0);
    CHECK_INT(wss_queue_poll(options.queue, 0), WSS_OK);
    CHECK_INT(requests, 1);
    CHECK_INT(freed, 0);
    CHECK_INT(server->conns.live, 0);
    step_free(asking);
    step_end(server);
    wss_queue_destroy(options.queue);
}

/* Who asks and vanishes takes up no place, no handshake and no memory until the application gets to it: the request is called
   back, and nobody is asked what to do with it. */
static void dead_requests_hold_no_place(void) {
    wss_options options = {0};
    options.queue = wss_queue_create(NULL, NULL);
    options.max_connections = 1;
    wss_server *server = serve(&options);
    wss_on_upgrade(server, on_request, NULL);
    for (int i = 0; i < 3; i++) {
        step_client *client = step_connect(server);
        step_ask(server, client, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
        CHECK_INT(server->conns.live, 1);
        reset(client);
        step(server);
        CHECK_INT(server->conns.live, 0);
        CHECK_INT(wss__conn_handshakes(server), 0);
        step_free(client);
    }
    CHECK(!options.queue->inbox.waiting.first);
    CHECK_INT(wss_queue_poll(options.queue, 0), WSS_OK);
    CHECK_INT(requests, 0);
    CHECK_INT(wss__conn_handshakes(server), 0);
    step_end(server);
    wss_queue_destroy(options.queue);
}

/* ---- orders to a connection that has just been accepted ---- */

static char after_accept; /* what the handler does then: send, close, pause */

static void on_request_ordered(const wss_event *e) {
    asked[0] = e->conn;
    CHECK_INT(wss_send_data(e->server, e->conn, WSS_TEXT, "early", 5), WSS_ERR_GONE);
    CHECK_INT(wss_close(e->server, e->conn, 4003, "early"), WSS_ERR_GONE);
    CHECK_INT(wss_pause(e->server, e->conn), WSS_ERR_GONE);
    CHECK_INT(wss_accept(e->server, e->conn, NULL, NULL, 0, &freed), WSS_OK);
    CHECK_INT(wss_accept(e->server, e->conn, NULL, NULL, 0, NULL), WSS_ERR_ANSWERED);
    if (after_accept == 's') CHECK_INT(wss_send_data(e->server, e->conn, WSS_TEXT, "welcome", 7), WSS_OK);
    if (after_accept == 'c') CHECK_INT(wss_close(e->server, e->conn, 4003, "banned"), WSS_OK);
    if (after_accept == 'c') CHECK_INT(wss_send_data(e->server, e->conn, WSS_TEXT, "late", 4), WSS_ERR_GONE);
    if (after_accept == 'p') CHECK_INT(wss_pause(e->server, e->conn), WSS_OK);
}

static void settle(wss_server *server, wss_queue *queue) {
    for (int i = 0; i < 4; i++) {
        step(server);
        if (queue) CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    }
}

static void on_data_counted(const wss_event *e) {
    (void)e;
    heard[0]++;
}

/* Takes the answer that lets a client in; false where it is none. */
static int take_101(step_client *client) {
    const char *end = strstr(client->data, "\r\n\r\n");
    CHECK(strncmp(client->data, "HTTP/1.1 101 ", 13) == 0 && end);
    if (!end) return 0;
    client->size -= (size_t)(end + 4 - client->data);
    memmove(client->data, end + 4, client->size);
    return 1;
}

static void check_orders(wss_server *server, wss_queue *queue, step_client *client) {
    char payload[128];
    size_t size = 0;
    if (!take_101(client)) return;
    CHECK_INT(connects, after_accept != 'c');
    if (after_accept == 'p') {
        CHECK_INT(heard[0], 0);
        CHECK_INT(wss_resume(server, asked[0]), WSS_OK);
        settle(server, queue);
        CHECK_INT(heard[0], 1);
        return;
    }
    CHECK_INT(step_take(server, client, payload, &size), after_accept == 's' ? 0x81 : 0x88);
    CHECK_TEXT(payload + 2 * (after_accept == 'c'), after_accept == 's' ? "welcome" : "banned");
    CHECK_INT(heard[0], after_accept == 's');
}

static void take_text(wss_server *server, step_client *client, const char *text) {
    char payload[128];
    size_t size = 0;
    CHECK_INT(step_take(server, client, payload, &size), 0x81);
    CHECK_TEXT(payload, text);
}

static void cast_own(void *arg) {
    CHECK_INT(wss_broadcast_data((wss_server *)arg, WSS_TEXT, "own", 3), WSS_OK);
    CHECK_INT(wss_broadcast_data((wss_server *)arg, WSS_TEXT, "more", 4), WSS_OK);
}

static void on_data_pauses(const wss_event *e) {
    heard[0]++;
    CHECK_INT(wss_pause(e->server, e->conn), WSS_OK);
    for (int i = 0; i < 5; i++) CHECK_INT(wss_send_data(e->server, e->conn, WSS_TEXT, "reply", 5), WSS_OK);
    CHECK_INT(wss__queue_posted(&e->server->loops[0].inbox), 0); /* none of that is on its way: it was done at once */
    CHECK_INT(wss_close(e->server, e->conn, 4000, NULL), WSS_OK);
    CHECK_INT(wss_send_data(e->server, e->conn, WSS_TEXT, "late", 4), WSS_ERR_GONE);
}

/* A posted function sends while another thread's order stands behind it: that goes behind it, in the same turn; and what the
   handlers of that turn order is done at once again, whatever may wait in the inbox at a time. */
static void handlers_behind_a_batch(void) {
    wss_options options = {0};
    options.max_posted = 4;
    wss_server *server = serve(&options);
    heard[0] = 0;
    wss_on_data(server, on_data_pauses, NULL);
    step_client *client = step_open(server);
    arrive(client, TEXT_FRAME TEXT_FRAME TEXT_FRAME, 21);
    CHECK_INT(wss_post(server, cast_own, server), WSS_OK);
    CHECK_INT(wss_broadcast_data(server, WSS_TEXT, "other", 5), WSS_OK);
    CHECK_INT(wss_poll(server, 0), WSS_OK);
    CHECK_INT(heard[0], 1);
    take_text(server, client, "other");
    take_text(server, client, "own");
    take_text(server, client, "more");
    for (int i = 0; i < 5; i++) take_text(server, client, "reply");
    CHECK_INT(step_take(server, client, NULL, NULL), 0x88);
    step_free(client);
    step(server);
    step_end(server);
}

static void send_first(void *arg) {
    CHECK_INT(wss_send_data((wss_server *)arg, asked[0], WSS_TEXT, "first", 5), WSS_OK);
}

static void send_second(void *arg) {
    CHECK_INT(wss_send_data((wss_server *)arg, asked[0], WSS_TEXT, "second", 6), WSS_OK);
}

static void accept_and_send_theirs(wss_server *server) {
    CHECK_INT(wss_accept(server, asked[0], NULL, NULL, 0, NULL), WSS_OK);
    CHECK_INT(wss_send_data(server, asked[0], WSS_TEXT, "theirs", 6), WSS_OK);
}

static void on_data_sends_on(const wss_event *e) {
    on_data_wait(e);
    send_first(e->server);
    send_second(e->server);
}

/* Another thread accepts, and its answer waits in the inbox or stands in the batch, before, between or behind what the loop
   sends: that goes behind the answer, in its order. */
static void sent_around_an_answer(void) {
    for (int way = 0; way < 4; way++) {
        wss_options options = {0};
        wss_server *server = serve(&options);
        wss_on_data(server, on_data_sends_on, NULL);
        step_client *other = step_open(server);
        wss_on_upgrade(server, on_request, NULL);
        step_client *client = step_connect(server);
        step_ask(server, client, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
        CHECK_INT(requests, 1);
        elsewhere = accept_and_send_theirs;
        if (way == 3) {
            step_frame(server, other, 0x81, "x", 1);
        } else {
            if (way > 0) wss_post(server, send_first, server);
            if (way > 1) wss_post(server, send_second, server);
            CHECK_INT(wss_accept(server, asked[0], NULL, NULL, 0, NULL), WSS_OK);
            if (way < 1) wss_post(server, send_first, server);
            if (way < 2) wss_post(server, send_second, server);
        }
        step(server);
        while (step_receive(client)) step(server);
        if (take_101(client)) {
            take_text(server, client, "first");
            take_text(server, client, "second");
            if (way == 3) take_text(server, client, "theirs");
        }
        step_free(client);
        step_free(other);
        step(server);
        step_end(server);
    }
}

/* Who was accepted takes sends, a close and a pause at once, from whichever thread: they go behind the
   answer. */
static void orders_behind_the_answer(void) {
    static const char orders[] = "scp";
    for (int i = 0; i < 6; i++) {
        wss_options options = {0};
        wss_queue *queue = i & 1 ? wss_queue_create(NULL, NULL) : NULL;
        options.queue = queue;
        options.user_free = free_user;
        after_accept = orders[i / 2];
        wss_server *server = serve(&options);
        heard[0] = 0;
        wss_on_upgrade(server, on_request_ordered, NULL);
        wss_on_data(server, on_data_counted, NULL);
        step_client *client = step_connect(server);
        step_ask(server, client, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
        arrive(client, TEXT_FRAME, 7);
        settle(server, queue);
        step_receive(client);
        check_orders(server, queue, client);
        step_free(client);
        settle(server, queue);
        CHECK_INT(ends, after_accept != 'c');
        CHECK_INT(freed, 1);
        CHECK_INT(server->conns.live, 0);
        step_end(server);
        wss_queue_destroy(queue);
    }
}

static void accept_as_chat(wss_server *server) {
    CHECK_INT(wss_accept(server, asked[0], "chat", NULL, 0, &freed), WSS_OK);
}

static void on_data_orders(const wss_event *e) {
    wss_info info;
    elsewhere = accept_as_chat;
    on_data_wait(e);
    CHECK_INT(wss_get_info(e->server, asked[0], &info), WSS_OK);
    CHECK_TEXT(info.protocol, "chat");
    CHECK_INT(wss_send_data(e->server, asked[0], WSS_TEXT, "welcome", 7), WSS_OK);
    CHECK_INT(wss_close(e->server, asked[0], 4003, "banned"), WSS_OK);
}

/* What the loop itself orders goes behind an acceptance by another thread that it has not seen yet. */
static void orders_of_the_loop_behind_the_answer(void) {
    char payload[128];
    size_t size = 0;
    wss_options options = {0};
    options.user_free = free_user;
    wss_server *server = serve(&options);
    step_client *worker = step_open(server);
    wss_on_upgrade(server, on_request, NULL);
    wss_on_data(server, on_data_orders, NULL);
    step_client *waiting = step_connect(server);
    step_ask(server, waiting, "GET / HTTP/1.1\r\nSec-WebSocket-Protocol: chat\r\n" STEP_UPGRADE "\r\n");
    arrive(worker, TEXT_FRAME, 7);
    settle(server, NULL);
    step_receive(waiting);
    if (take_101(waiting)) {
        CHECK_INT(step_take(server, waiting, payload, &size), 0x81);
        CHECK_TEXT(payload, "welcome");
        CHECK_INT(step_take(server, waiting, payload, &size), 0x88);
        CHECK_TEXT(payload + 2, "banned");
    }
    step_free(waiting);
    step_free(worker);
    settle(server, NULL);
    CHECK_INT(connects, ends);
    CHECK_INT(freed, 1);
    step_end(server);
}

/* ---- accounts of what is queued here and what is on its way ---- */

static void send_large(void *arg) {
    static char large[4 << 20];
    wss_server *server = (wss_server *)arg;
    CHECK_INT(wss_send_data(server, conns[0], WSS_BINARY, large, sizeof large), WSS_OK);
    CHECK(wss__conn_find(server, conns[0])->work & WSS__WORK_CROWDED);
}

/* What the kernel did not take of a large message counts at once: who is refused meanwhile is told when there is room. */
static void rest_of_a_large_message_crowds(void) {
    wss_options options = {0};
    options.max_queued = 65536;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    CHECK_INT(wss_post(server, send_large, server), WSS_OK);
    step(server);
    step_free(client);
    step_end(server);
}

static void on_request_overfilled(const wss_event *e) {
    static char large[700000];
    asked[0] = e->conn;
    CHECK_INT(wss_accept(e->server, e->conn, NULL, NULL, 0, NULL), WSS_OK);
    CHECK_INT(wss_send_data(e->server, e->conn, WSS_BINARY, large, sizeof large), WSS_OK);
    CHECK_INT(wss_close(e->server, e->conn, 4003, "banned"), WSS_OK);
}

/* A connection that closes before its connect handlers has no drain event due, for which a timer would ring all the time. */
static void no_drain_without_connect(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss_on_upgrade(server, on_request_overfilled, NULL);
    step_client *client = step_connect(server);
    step_ask(server, client, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
    size_t all = 0;
    for (int i = 0; i < 10000 && all < 700000; i++) {
        all += client->size;
        client->size = 0;
        if (!step_receive(client)) step(server);
    }
    CHECK(all > 700000);
    settle(server, NULL);
    wss__conn *conn = wss__conn_find(server, asked[0]);
    CHECK(conn && !(conn->work & WSS__WORK_CROWDED));
    CHECK_INT(connects, 0);
    step_free(client);
    settle(server, NULL);
    step_end(server);
}

static char half[508]; /* a frame of 512 bytes */

static void fill_from_elsewhere(wss_server *server) {
    for (int i = 0; i < 2; i++) CHECK_INT(wss_send_data(server, conns[1], WSS_BINARY, half, sizeof half), WSS_OK);
    CHECK_INT(wss_send_data(server, conns[1], WSS_BINARY, half, sizeof half), WSS_ERR_FULL);
}

/* As much as may be is on its way from another thread, a further send is refused: the drain event comes, although the
   queue was never seen full. */
static void drain_after_a_refusal_on_the_way(void) {
    wss_options options = {0};
    options.max_queued = 1024;
    wss_server *server = serve(&options);
    elsewhere = fill_from_elsewhere;
    drains = 0;
    wss_on_drain(server, on_drain, NULL);
    wss_on_data(server, on_data_wait, NULL);
    step_client *first = step_open(server);
    step_client *second = step_open(server);
    step_write(server, first, TEXT_FRAME, 7);
    CHECK_INT(wss_buffered(server, conns[1]), 0);
    CHECK_INT(drains, 1);
    step_free(first);
    step_free(second);
    step(server);
    step_end(server);
}

static void on_data_asks_what_waits(const wss_event *e) {
    wss_info info;
    for (size_t i = 1; i <= 10; i++) {
        CHECK_INT(wss_send_data(e->server, e->conn, WSS_BINARY, half, sizeof half), WSS_OK);
        CHECK_INT(wss_buffered(e->server, e->conn), i * (512 + WSS__BUF_MESSAGE));
        CHECK_INT(wss_get_info(e->server, e->conn, &info), WSS_OK);
        CHECK_INT(info.buffered, i * (512 + WSS__BUF_MESSAGE));
    }
    CHECK_INT(wss_buffered(e->server, conns[1]), 0);
}

/* What a handler has sent counts as waiting until it has left, wherever it is kept meanwhile. */
static void what_a_handler_sent_waits(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss_on_data(server, on_data_asks_what_waits, NULL);
    step_client *client = step_open(server);
    step_client *other = step_open(server);
    step_write(server, client, TEXT_FRAME, 7);
    CHECK_INT(wss_buffered(server, conns[0]), 0);
    step_free(client);
    step_free(other);
    step(server);
    step_end(server);
}

static void overfill(wss_server *server) {
    int result;
    do result = wss_send_data(server, conns[0], WSS_BINARY, half, sizeof half);
    while (result == WSS_OK);
    CHECK_INT(result, WSS_ERR_FULL);
}

static void overfill_elsewhere(void *arg) {
    wss_event event;
    memset(&event, 0, sizeof event);
    event.server = (wss_server *)arg;
    elsewhere = overfill;
    on_data_wait(&event);
}

/* Another thread's send has it closed as slow in the turn in which the client resets: the order finds a
   connection that has ended, whose place waits for the queue's thread, and leaves it alone. */
static void closed_as_slow_behind_the_end(void) {
    wss_options options = {0};
    options.max_queued = 1024;
    options.send_policy = WSS_POLICY_CLOSE;
    options.queue = wss_queue_create(NULL, NULL);
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    CHECK_INT(wss_queue_poll(options.queue, 0), WSS_OK);
    reset(client);
    CHECK_INT(wss_post(server, overfill_elsewhere, server), WSS_OK);
    step(server);
    CHECK_INT(server->loops[0].connections, 0);
    CHECK_INT(server->conns.live, 1); /* until it is told */
    CHECK_INT(wss_queue_poll(options.queue, 0), WSS_OK);
    CHECK_INT(ends, 1);
    CHECK_INT(server->conns.live, 0);
    step_free(client);
    step_end(server);
    wss_queue_destroy(options.queue);
}

int main(void) {
    alarm(100);
    RUN(stopping_while_closing_with_half_a_frame);
    RUN(stopping_in_every_phase);
    RUN(answer_behind_the_deadline);
    RUN(answer_before_the_deadline);
    RUN(answer_behind_the_end);
    RUN(work_behind_the_peers_close);
    RUN(work_behind_the_freeing);
    RUN(deadline_behind_the_end);
    RUN(send_in_the_turn_of_a_deadline);
    RUN(unread_answer_ends_in_time);
    RUN(unread_answer_and_reset);
    RUN(user_without_user_free);
    RUN(close_without_reason_on_a_path);
    RUN(two_servers_in_one_thread);
    RUN(round_trip_of_foreign_pongs);
    RUN(drain_waits_for_connect);
    RUN(pointer_replaced_between_handlers);
    RUN(no_message_behind_a_close);
    RUN(reason_without_memory);
    RUN(a_peer_that_left_is_closed_at_once);
    RUN(type_counts_from_the_next_message);
    RUN(handlers_count_from_the_next_message);
    RUN(request_outlives_its_client);
    RUN(dead_requests_hold_no_place);
    RUN(handlers_behind_a_batch);
    RUN(sent_around_an_answer);
    RUN(orders_behind_the_answer);
    RUN(orders_of_the_loop_behind_the_answer);
    RUN(rest_of_a_large_message_crowds);
    RUN(no_drain_without_connect);
    RUN(drain_after_a_refusal_on_the_way);
    RUN(what_a_handler_sent_waits);
    RUN(closed_as_slow_behind_the_end);
    return test_end("moments");
}
