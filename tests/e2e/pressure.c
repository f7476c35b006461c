/* Limits and pressure: each limit one below, at, and one above; what happens to slow readers under each policy. */
#include "../step.h"
#include <dirent.h>

static int opened;
static int ended;
static int last_cause;
static int drained;

static void on_open(const wss_event *e) {
    (void)e;
    opened++;
}

static void on_end(const wss_event *e) {
    ended++;
    last_cause = e->cause;
}

static void on_drain(const wss_event *e) {
    (void)e;
    drained++;
}

static void on_echo(const wss_event *e) {
    CHECK_INT(wss_send_data(e->server, e->conn, e->opcode, e->data, e->size), WSS_OK);
}

static wss_server *serve(wss_options *options) {
    opened = 0;
    ended = 0;
    drained = 0;
    wss_server *server = step_server(options);
    wss_on_connect(server, on_open, NULL);
    wss_on_disconnect(server, on_end, NULL);
    wss_on_drain(server, on_drain, NULL);
    return server;
}

static int count_descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory)) count++;
    if (directory) closedir(directory);
    return count;
}

static const char handshake[] = "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n";

static void connections(void) {
    wss_options options = {0};
    step_client *clients[6];
    options.max_connections = 4;
    wss_server *server = serve(&options);
    for (int i = 0; i < 6; i++) {
        clients[i] = step_connect(server);
        step_write(server, clients[i], handshake, sizeof handshake - 1);
    }
    CHECK_INT(opened, 4);
    CHECK_INT(server->loops[0].connections, 4);
    step_free(clients[0]); /* whoever waits in the backlog gets the place */
    step(server);
    CHECK_INT(opened, 5);
    for (int i = 1; i < 6; i++) step_free(clients[i]);
    step(server);
    CHECK_INT(ended, opened);
    step_end(server);
}

static void handshakes(void) {
    wss_options options = {0};
    step_client *clients[65];
    options.max_connections = 100; /* an eighth is less than 64 */
    wss_server *server = serve(&options);
    for (int i = 0; i < 65; i++) {
        clients[i] = step_connect(server);
        step(server);
    }
    CHECK_INT(server->loops[0].connections, 64);
    step_write(server, clients[0], handshake, sizeof handshake - 1);
    CHECK_INT(opened, 1);
    CHECK_INT(server->loops[0].connections, 65);
    for (int i = 0; i < 65; i++) step_free(clients[i]);
    step(server);
    step_end(server);
}

static void per_address(void) {
    wss_options options = {0};
    step_client *clients[4];
    options.max_per_address = 2;
    wss_server *server = serve(&options);
    for (int i = 0; i < 4; i++) {
        clients[i] = step_connect(server);
        step_write(server, clients[i], handshake, sizeof handshake - 1);
        step_receive(clients[i]);
    }
    CHECK_INT(opened, 2);
    CHECK(clients[2]->ended && clients[3]->ended);
    step_free(clients[0]);
    step(server);
    clients[0] = step_open(server);
    CHECK_INT(opened, 3);
    for (int i = 0; i < 4; i++) step_free(clients[i]);
    step(server);
    step_end(server);
}

static char big[50000];

/* Fills the connection until its queue refuses; returns the messages that were accepted. */
static int fill(wss_server *server, wss_conn conn, int *result) {
    int count = 0;
    memset(big, 'f', sizeof big);
    for (int i = 0; i < 1000; i++) {
        *result = wss_send_data(server, conn, WSS_BINARY, big, sizeof big);
        step(server);
        if (*result) return count;
        count++;
        if (wss_buffered(server, conn) >= server->options.max_queued) break;
    }
    return count;
}

static size_t drain(wss_server *server, step_client *client) {
    size_t got = 0;
    for (int quiet = 0; quiet < 5; quiet++) {
        while (step_receive(client)) {
            got += client->size;
            client->size = 0;
            quiet = 0;
            step(server);
        }
        step(server);
    }
    return got;
}

static void refuse_and_drain(void) {
    wss_options options = {0};
    wss_conn none = {0};
    int result;
    options.max_queued = 200000;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    step_client *other = step_open(server);
    wss_conn conn = wss_next(server, none);
    int accepted = fill(server, conn, &result);
    CHECK(wss_buffered(server, conn) >= 200000 && wss_buffered(server, conn) < 200000 + sizeof big + 100);
    CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "x", 1), WSS_ERR_FULL);
    CHECK_INT(wss_broadcast(server, "t", wss_json("{}")), WSS_OK);
    CHECK_INT(step_take(server, other, NULL, NULL), 0x81);
    CHECK_INT(drained, 0);
    CHECK_INT(drain(server, client), (size_t)accepted * (sizeof big + 4));
    CHECK_INT(drained, 1);
    CHECK_INT(wss_buffered(server, conn), 0);
    CHECK_INT(wss_broadcast(server, "t", wss_json("{}")), WSS_OK);
    CHECK_INT(step_take(server, other, NULL, NULL), 0x81);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x81);
    step_free(client);
    step_free(other);
    step(server);
    step_end(server);
}

static void close_slow(void) {
    wss_options options = {0};
    wss_conn none = {0};
    int result;
    options.max_queued = 200000;
    options.send_policy = WSS_POLICY_CLOSE;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    wss_conn conn = wss_next(server, none);
    fill(server, conn, &result);
    CHECK_INT(result, WSS_OK);
    CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "x", 1), WSS_OK); /* judged when the kernel was offered what waits */
    step(server);
    CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "x", 1), WSS_ERR_GONE);
    CHECK(wss_buffered(server, conn) < sizeof big + 100); /* only the frame that has begun */
    char last[4] = "";
    for (int i = 0; i < 100000 && memcmp(last, "\x88", 1) != 0; i++) {
        client->size = 0;
        if (step_receive(client) && client->size >= 15) memcpy(last, client->data + client->size - 15, 1);
        step(server);
    }
    CHECK(memcmp(last, "\x88", 1) == 0); /* Close 1013 "slow reader" */
    step_frame(server, client, 0x88, "\x03\xf5", 2);
    CHECK_INT(ended, 1);
    CHECK_INT(last_cause, WSS_CAUSE_SLOW_READER);
    step_free(client);
    step_end(server);
}

/* A slow reader that is closed has to take what has begun to leave, however long it has been silent before. */
static void close_slow_after_silence(void) {
    wss_options options = {0};
    wss_conn none = {0};
    int result;
    options.max_queued = 200000;
    options.send_policy = WSS_POLICY_CLOSE;
    options.ping_ms = WSS_OFF;
    options.close_ms = 5000;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    wss_conn conn = wss_next(server, none);
    step_time(server, 30000);
    fill(server, conn, &result);
    CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "x", 1), WSS_OK);
    step(server);
    CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "x", 1), WSS_ERR_GONE);
    step_time(server, 29999);
    CHECK_INT(ended, 0);
    step_time(server, 1 + WSS__CONN_STEP);
    CHECK_INT(ended, 1);
    CHECK_INT(last_cause, WSS_CAUSE_SLOW_READER);
    step_free(client);
    step(server);
    step_end(server);
}

static void keep_latest(void) {
    wss_options options = {0};
    wss_conn none = {0};
    wss_stats stats;
    char args[32];
    int result;
    options.max_queued = 200000;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    wss_conn conn = wss_next(server, none);
    CHECK(fill(server, conn, &result) > 0);
    CHECK_INT(wss_buffered(server, conn) >= 200000, 1);
    size_t before = wss_buffered(server, conn);
    for (int i = 0; i < 50; i++) {
        snprintf(args, sizeof args, "{\"n\":%d}", i);
        result = wss_send_latest(server, conn, "position", "at", wss_json(args));
        CHECK_INT(result, WSS_OK);
        step(server);
    }
    wss_get_stats(server, &stats);
    CHECK_INT(stats.dropped_policy + (wss_buffered(server, conn) > before ? 1 : 0), 50);
    step_free(client);
    step(server);
    step_end(server);
}

/* A client that sends much before it reads: reading stops in time, every message comes back, in order. */
static void echo_flood(void) {
    wss_options options = {0};
    enum { MESSAGES = 4000, SIZE = 1000 };
    static char frames[MESSAGES * (SIZE + 8)];
    char payload[SIZE];
    size_t size = 0;
    size_t sent = 0;
    options.max_queued = 100000;
    wss_server *server = serve(&options);
    wss_on_data(server, on_echo, NULL);
    step_client *client = step_open(server);
    memset(payload, 'p', sizeof payload);
    for (int i = 0; i < MESSAGES; i++) {
        memcpy(payload, &i, sizeof i);
        size += step_make_frame(frames + size, 0x82, payload, SIZE);
    }
    int next = 0;
    size_t most = 0;
    for (int turns = 0; turns < 200000 && next < MESSAGES; turns++) {
        ssize_t got = sent < size ? send(client->fd, frames + sent, size - sent, MSG_NOSIGNAL) : 0;
        if (got > 0) sent += (size_t)got;
        step(server);
        if (step_bytes > most) most = step_bytes;
        if (got > 0 && sent < size) continue;
        static char text[1 << 16];
        size_t length;
        while (step_take(server, client, text, &length) >= 0) {
            int number;
            memcpy(&number, text, sizeof number);
            CHECK_INT(number, next);
            CHECK_INT(length, SIZE);
            next++;
        }
    }
    CHECK_INT(next, MESSAGES);
    CHECK(most < 3 * 1024 * 1024);
    step_free(client);
    step(server);
    step_end(server);
}

/* Pings by a client that does not read: some pongs wait, the rest coalesce, memory stays flat. */
static void ping_flood(void) {
    wss_options options = {0};
    wss_conn none = {0};
    char frame[256];
    char payload[125];
    int result;
    options.max_queued = 100000;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    fill(server, wss_next(server, none), &result);
    size_t before = step_bytes;
    memset(payload, 'p', sizeof payload);
    size_t size = step_make_frame(frame, 0x89, payload, sizeof payload);
    wss_conn conn = wss_next(server, none);
    drain(server, client);
    fill(server, conn, &result);
    for (int i = 0; i < 3000; i++) send(client->fd, frame, size, MSG_NOSIGNAL);
    step(server);
    CHECK(step_bytes < before + 600000);
    drain(server, client);
    CHECK_INT(ended, 0);
    step_free(client);
    step(server);
    step_end(server);
}

/* Want of descriptors: those who are here are served, nothing spins, and accepting goes on when there are some again. */
static void descriptors(void) {
    wss_options options = {0};
    struct rlimit limit;
    struct rlimit low;
    wss_stats stats;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    step_client *waiting = step_connect(server);
    getrlimit(RLIMIT_NOFILE, &limit);
    low = limit;
    low.rlim_cur = (rlim_t)(waiting->fd + 1);
    setrlimit(RLIMIT_NOFILE, &low);
    for (int i = 0; i < 500; i++) wss_poll(server, 0);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.accept_failures, 1);
    CHECK_INT(server->loops[0].connections, 1);
    for (int i = 0; i < 50; i++) step_time(server, 100);
    wss_get_stats(server, &stats);
    CHECK(stats.accept_failures >= 4 && stats.accept_failures <= 9); /* after 0.1, 0.2, 0.4, 0.8, 1, 1 ... s */
    step_frame(server, client, 0x89, "x", 1);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x8a);
    setrlimit(RLIMIT_NOFILE, &limit);
    step_time(server, 1000);
    step_write(server, waiting, handshake, sizeof handshake - 1);
    CHECK_INT(opened, 2);
    step_free(client);
    step_free(waiting);
    step(server);
    step_end(server);
}

static wss_server *reserving;
static wss_conn reserved;

static void *reserve(void *arg) {
    CHECK_INT(wss_send_data(reserving, reserved, WSS_TEXT, "late", 4), WSS_OK);
    return arg;
}

static void reserve_elsewhere(void *arg) {
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, reserve, arg), 0);
    pthread_join(thread, NULL);
}

/* Another thread's message is accepted in the very turn in which the connection ends. While its place is kept for the
   undelivered disconnect nothing counts as queued, before and after the message has come to nothing. */
static void reserved_when_it_ends(void) {
    wss_options options = {0};
    wss_conn none = {0};
    options.queue = wss_queue_create(NULL, NULL);
    options.stall_ms = 1000;
    wss_server *server = step_server(&options);
    step_client *client = step_open(server);
    reserving = server;
    reserved = wss_next(server, none);
    while (wss_buffered(server, reserved) < 200000) {
        CHECK_INT(wss_send_data(server, reserved, WSS_BINARY, big, sizeof big), WSS_OK);
        step(server);
    }
    step_time(server, 500);
    CHECK_INT(wss_post(server, reserve_elsewhere, NULL), WSS_OK);
    step_now += options.stall_ms;
    CHECK_INT(wss_poll(server, 0), WSS_OK);
    CHECK_INT(wss_count(server), 0);
    CHECK_INT(wss_buffered(server, reserved), 0);
    for (int turn = 0; turn < 3; turn++) {
        CHECK_INT(wss_poll(server, 0), WSS_OK);
        CHECK_INT(wss_buffered(server, reserved), 0);
    }
    CHECK_INT(wss_queue_poll(options.queue, 0), WSS_OK);
    CHECK_INT(wss_send_data(server, reserved, WSS_TEXT, "gone", 4), WSS_ERR_GONE);
    step_free(client);
    step_end(server);
    CHECK_INT(wss_queue_destroy(options.queue), WSS_OK);
}

static void lives_of_servers(void) {
    int before = count_descriptors();
    for (int i = 0; i < 300; i++) {
        wss_options options = {0};
        options.threads = 1 + i % 3;
        options.address = "127.0.0.1";
        options.allocator = step_allocator;
        wss_server *server = wss_create(&options, NULL);
        wss_on_connect(server, on_open, NULL);
        if (i % 4) CHECK_INT(wss_start(server), WSS_OK);
        step_client *client = step_connect(server);
        CHECK(send(client->fd, handshake, sizeof handshake - 1, MSG_NOSIGNAL) > 0);
        wss_stop(server, 0); /* the clock stands still: no later deadline would ever come */
        CHECK_INT(wss_destroy(server), WSS_OK);
        step_free(client);
        CHECK_INT(step_bytes, 0);
    }
    CHECK_INT(count_descriptors(), before);
}

/* Bytes that are held elsewhere, as far as the account knows. */
static void hold(wss_server *server, size_t bytes) {
    __atomic_add_fetch(&server->mem.used, bytes, __ATOMIC_RELAXED);
}

/* From the last eighth of the budget on new requests get 503, and not a byte before. A bad one is told what is wrong with it. */
static void last_eighth_of_the_budget(void) {
    wss_options options = {0};
    options.memory_budget = (size_t)64 << 20;
    wss_server *server = serve(&options);
    wss__session_shared *shared = &server->loops[0].shared;
    for (int tight = 0; tight < 2; tight++) {
        for (int bad = 0; bad < 2; bad++) {
            step_client *client = step_connect(server);
            step(server);
            size_t held = ((size_t)56 << 20) + (size_t)tight - server->mem.used;
            hold(server, held);
            const char *answer = step_ask(server, client, bad ? "GET / HTTP/1.1\r\n\r\n" : handshake);
            const char *want = bad ? "HTTP/1.1 400 " : tight ? "HTTP/1.1 503 " : "HTTP/1.1 101 ";
            CHECK(strncmp(answer, want, 13) == 0);
            hold(server, 0 - held);
            step_free(client);
            step(server);
        }
    }
    CHECK_INT(shared->stats.refused_status[5], 1);
    CHECK_INT(shared->stats.refused_status[4], 2);
    step_end(server);
}

/* What could never be sent is told from what cannot be sent now. */
static void broadcast_as_large_as_can_be(void) {
    wss_options options = {0};
    options.memory_budget = (size_t)8 << 20;
    wss_server *server = serve(&options);
    size_t most = (size_t)7 << 20;
    char *data = (char *)calloc(1, most + 1);
    if (!data) abort();
    CHECK_INT(wss_broadcast_data(server, WSS_BINARY, data, most), WSS_ERR_BUDGET);
    CHECK_INT(wss_broadcast_data(server, WSS_BINARY, data, most + 1), WSS_ERR_TOO_BIG);
    free(data);
    step_end(server);
}

int main(void) {
    alarm(100);
    RUN(connections);
    RUN(handshakes);
    RUN(per_address);
    RUN(refuse_and_drain);
    RUN(close_slow);
    RUN(close_slow_after_silence);
    RUN(keep_latest);
    RUN(echo_flood);
    RUN(ping_flood);
    RUN(descriptors);
    RUN(reserved_when_it_ends);
    RUN(lives_of_servers);
    RUN(last_eighth_of_the_budget);
    RUN(broadcast_as_large_as_can_be);
    return test_end("pressure");
}
