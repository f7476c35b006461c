/* Limits and deadlines on the real clock and with real threads: places, descriptors, silence; and that clients which come and
   go leave nothing behind. */
#include "../host.h"

#include <sys/resource.h>

static int connects;
static int ends;
static int last_code;
static int last_cause;

static void on_connect(const wss_event *e) {
    (void)e;
    host_count(&connects);
}

static void on_end(const wss_event *e) {
    last_code = e->code;
    last_cause = e->cause;
    host_count(&ends);
}

static void echo(const wss_event *e) {
    wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

static wss_server *watch(wss_server *server) {
    connects = 0;
    ends = 0;
    last_code = 0;
    last_cause = 0;
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_end, NULL);
    wss_on_data(server, echo, NULL);
    return server;
}

static int echoes(client *c, const char *text) {
    return client_text(c, text) && strcmp(client_read_text(c), text) == 0;
}

/* ---- places ---- */

/* Who finds no place waits in the listener's queue, and is served when one is free: with several loops also where the place
   was another loop's than the one that accepts. */
static void waiting_for_a_place(int threads) {
    wss_options options = {0};
    options.max_connections = 2;
    options.threads = threads;
    options.handshake_ms = WSS_OFF; /* so that no deadline wakes the loop that accepts */
    options.ping_ms = WSS_OFF;
    wss_server *server = watch(host_make(&options));
    CHECK_INT(wss_start(server), WSS_OK);
    client *c[2];
    for (int i = 0; i < 2; i++) c[i] = client_open(host_port);
    for (int round = 0; round < 6; round++) {
        client *third = client_dial(host_port);
        client_say(third, SCRIPT_HANDSHAKE);
        CHECK(echoes(c[0], "all places are taken"));
        CHECK(echoes(c[1], "all places are taken"));
        CHECK_INT(wss_count(server), 2);
        CHECK(client_leave(c[round % 2]));
        CHECK_INT(client_read_head(third), 101);
        CHECK(echoes(third, "now there is one"));
        c[round % 2] = third;
    }
    for (int i = 0; i < 2; i++) CHECK(client_leave(c[i]));
    host_end();
}

static void a_place_of_the_same_loop(void) {
    waiting_for_a_place(1);
}

static void a_place_of_another_loop(void) {
    waiting_for_a_place(2);
}

static void unfinished_handshakes(void) {
    wss_options options = {0};
    enum { MOST = 64 };
    options.max_connections = 100;
    options.handshake_ms = 200;
    options.close_ms = 60000; /* what was refused does not count, although it is still there */
    watch(host_drive(&options));
    client *slow[MOST];
    for (int i = 0; i < MOST; i++) {
        slow[i] = client_dial(host_port);
        client_say(slow[i], "GET / HTTP/1.1\r\n");
    }
    host_settle();
    client *next = client_open(host_port); /* is served when the deadline has removed the others */
    CHECK_INT(next->status, 101);
    for (int i = 0; i < MOST; i++) {
        CHECK_INT(client_read_head(slow[i]), 408);
        CHECK_INT(client_read_rest(slow[i]), CLIENT_ENDED);
        client_free(slow[i]);
    }
    CHECK_INT(connects, 1);
    CHECK(client_leave(next));
    host_end();
}

/* ---- silence, on a thread that sleeps in the kernel meanwhile ---- */

static void check_end(int code, int cause) {
    UNTIL(host_get(&ends) == 1);
    CHECK_INT(last_code, code);
    CHECK_INT(last_cause, cause);
    if (last_cause != cause) printf("cause: %s\n", wss_cause_text(last_cause));
}

static wss_server *start(wss_options *options) {
    wss_server *server = watch(host_make(options));
    CHECK_INT(wss_start(server), WSS_OK);
    return server;
}

static void silent_handshake(void) {
    wss_options options = {0};
    options.handshake_ms = 100;
    start(&options);
    client *c = client_dial(host_port);
    CHECK_INT(client_read_head(c), 408);
    CHECK_INT(client_read_rest(c), CLIENT_ENDED);
    client_free(c);
    host_end();
    CHECK_INT(connects + ends, 0);
}

static void no_pong(void) {
    wss_options options = {0};
    options.ping_ms = 100;
    options.pong_ms = 100;
    start(&options);
    client *c = client_open(host_port);
    CHECK_INT(client_read(c), SCRIPT_PING);
    check_end(1006, WSS_CAUSE_PONG_TIMEOUT);
    CHECK_INT(client_read(c), CLIENT_RESET);
    client_free(c);
    host_end();
}

static void pongs(void) {
    wss_options options = {0};
    wss_conn none = {0};
    wss_info info;
    options.ping_ms = 70;
    options.pong_ms = 5000;
    wss_server *server = start(&options);
    client *c = client_open(host_port);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(client_read(c), SCRIPT_PING);
        CHECK(client_send(c, SCRIPT_PONG, c->data, c->length));
    }
    CHECK(echoes(c, "still here"));
    CHECK_INT(wss_get_info(server, wss_next(server, none), &info), WSS_OK);
    CHECK(info.round_trip_ms >= 0 && info.round_trip_ms < 5000);
    CHECK_INT(ends, 0);
    CHECK(client_leave(c));
    host_end();
}

static void idle(void) {
    wss_options options = {0};
    options.idle_ms = 150;
    start(&options);
    client *c = client_open(host_port);
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    CHECK_INT(c->code, 1008);
    check_end(1008, WSS_CAUSE_IDLE_TIMEOUT);
    client_free(c);
    host_end();
}

static void unfinished_message(void) {
    wss_options options = {0};
    options.message_ms = 100;
    start(&options);
    client *c = client_open(host_port);
    client_frame(c, SCRIPT_TEXT, SCRIPT_MORE, "begun", 5);
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    CHECK_INT(c->code, 1008);
    check_end(1008, WSS_CAUSE_MESSAGE_TIMEOUT);
    client_free(c);
    host_end();
}

/* A server with nothing to do sleeps. */
static void idle_server_sleeps(void) {
    wss_options options = {0};
    wss_stats before, after;
    wss_server *server = start(&options);
    client *c = client_open(host_port);
    CHECK(echoes(c, "x"));
    wss_get_stats(server, &before);
    CHECK_INT(client_read_within(c, 300), CLIENT_LATE);
    wss_get_stats(server, &after);
    CHECK(after.wakeups - before.wakeups <= 10);
    CHECK(client_leave(c));
    host_end();
}

/* ---- descriptors ---- */

static void limit_descriptors(rlim_t count) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = count;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* No more descriptors: those who are there are served, the server does not spin, and accepts again when some come back. */
static void without_descriptors(void) {
    wss_options options = {0};
    wss_stats before, now;
    struct rlimit old;
    getrlimit(RLIMIT_NOFILE, &old);
    wss_server *server = start(&options);
    client *old_client = client_open(host_port);
    CHECK(echoes(old_client, "before"));
    client *waiting[3];
    /* The sockets of both sides count, so the client's are made first. */
    int fds[3];
    struct sockaddr_in address;
    client_address(&address, host_port);
    for (int i = 0; i < 3; i++) fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int lowest = dup(0); /* the lowest free descriptor */
    close(lowest);
    wss_get_stats(server, &before);
    limit_descriptors((rlim_t)lowest);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(connect(fds[i], (struct sockaddr *)&address, sizeof address), 0);
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
        waiting[i] = (client *)calloc(1, sizeof **waiting);
        waiting[i]->fd = fds[i];
        client_say(waiting[i], SCRIPT_HANDSHAKE);
    }
    do wss_get_stats(server, &now);
    while (now.accept_failures - before.accept_failures < 2 && (host_rest(), 1)); /* tries again after 100 ms */
    CHECK(echoes(old_client, "meanwhile"));
    wss_get_stats(server, &now);
    CHECK(now.wakeups - before.wakeups < 100);
    CHECK(now.accept_failures - before.accept_failures < 10);
    CHECK_INT(now.accepted, before.accepted);
    setrlimit(RLIMIT_NOFILE, &old);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(client_read_head(waiting[i]), 101);
        CHECK(echoes(waiting[i], "after"));
        CHECK(client_leave(waiting[i]));
    }
    CHECK(client_leave(old_client));
    host_end();
}

/* ---- nothing is left behind ---- */

static void come_and_reset(void) {
    enum { ROUNDS = 10000, WARM = 500 };
    wss_options options = {0};
    wss_stats stats;
    wss_server *server = watch(host_drive(&options));
    int descriptors = 0;
    size_t bytes = 0, blocks = 0;
    for (int i = 0; i <= ROUNDS + WARM; i++) {
        if (i == WARM || i == ROUNDS + WARM) {
            host_settle();
            UNTIL(wss_count(server) == 0);
        }
        if (i == WARM) {
            descriptors = host_descriptors();
            bytes = host_memory.bytes;
            blocks = host_memory.blocks;
        }
        int fd = client_socket(host_port, 0);
        if (fd < 0) break;
        if (i % 4 == 1) CHECK(send(fd, SCRIPT_HANDSHAKE, strlen(SCRIPT_HANDSHAKE), MSG_NOSIGNAL) > 0);
        if (i % 4 == 2) CHECK(send(fd, SCRIPT_HANDSHAKE, 100, MSG_NOSIGNAL) > 0);
        if (i % 4 == 3) CHECK(send(fd, SCRIPT_HANDSHAKE "\x81\xff", strlen(SCRIPT_HANDSHAKE) + 2, MSG_NOSIGNAL) > 0);
        if (i % 2) wss_poll(server, 0);
        client_reset_fd(fd);
        if (i % 3) wss_poll(server, 0);
    }
    host_settle();
    UNTIL(wss_count(server) == 0);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.accepted, ROUNDS + WARM + 1);
    CHECK_INT(host_descriptors(), descriptors);
    CHECK_INT(host_memory.bytes, bytes);
    CHECK_INT(host_memory.blocks, blocks);
    CHECK_INT(host_get(&connects), host_get(&ends));
    CHECK(connects > 0);
    client *c = client_open(host_port);
    CHECK(echoes(c, "still serving"));
    CHECK(client_leave(c));
    host_end();
}

int main(void) {
    alarm(60);
    RUN(a_place_of_the_same_loop);
    RUN(a_place_of_another_loop);
    RUN(unfinished_handshakes);
    RUN(silent_handshake);
    RUN(no_pong);
    RUN(pongs);
    RUN(idle);
    RUN(unfinished_message);
    RUN(idle_server_sleeps);
    RUN(without_descriptors);
    RUN(come_and_reset);
    return test_end("limits");
}
