/* What the sweeps on the kernel in memory have found, each by its name, so that it stays found; and the checks of the kernel
   itself that a sweep would not notice: it must see what it is there to see. */
#include "kernel.h"

#include "../test.h"

static wss_server *server;
static long ended;
static int ended_cause, ended_code;
static wss_conn newest;

static void note(const char *text) {
    test_broken++;
    if (test_broken <= 10) printf("violation: %s\n", text);
}

static void on_connect(const wss_event *e) {
    newest = e->conn;
}

static void on_disconnect(const wss_event *e) {
    ended++;
    ended_cause = e->cause;
    ended_code = e->code;
}

static void on_data(const wss_event *e) {
    wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

static void begin(wss_options *options) {
    wss_error why;
    server = wss_create(options, &why);
    if (!server) {
        printf("%s\n", why.text);
        exit(1);
    }
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    wss_on_data(server, on_data, NULL);
    ended = 0;
}

static void reset(wss_options *options) {
    sim_begin(1);
    sim_on_violation = note;
    sim_options(options);
}

static void end(peer *client) {
    peer_free(client);
    CHECK_INT(sim_destroy(server), WSS_OK);
    sim_finish();
}

/* Epoll had no room for a listener: it was taken for watched, and nobody was let in any more. */
static void test_a_listener_that_epoll_has_no_room_for_is_tried_again(void) {
    wss_options options;
    reset(&options);
    options.address = "127.0.0.1:7001, 127.0.0.1:7002";
    options.port = 7001;
    begin(&options);
    sim_add_fault(SIM_epoll_ctl, SIM_ERROR, ENOSPC, 2, 1); /* the second listener */
    sim_settle(server);
    peer *client = peer_connect(7002);
    CHECK(client != NULL);
    peer_text(client, PEER_REQUEST("/") "\r\n");
    sim_settle(server);
    CHECK_INT(peer_take_head(client), 0);
    sim_pass(server, 100);
    CHECK_INT(peer_take_head(client), 101);
    end(client);
}

/* The time at which accepting was to be tried again had passed, but a server that stops does not accept: it turned and turned
   until the last connection had left. */
static void test_a_stop_after_a_failed_accept_does_not_spin(void) {
    wss_options options;
    reset(&options);
    begin(&options);
    sim_settle(server);
    peer *client = peer_open(server);
    sim_add_fault(SIM_accept4, SIM_ERROR, EMFILE, 1, 0);
    peer *late = peer_connect(server->options.port);
    sim_settle(server);
    wss_stop(server, 3000);
    long before = sim.calls[SIM_epoll_wait];
    while (wss_poll(server, -1) == WSS_OK) {
    }
    CHECK(sim.calls[SIM_epoll_wait] - before < 10);
    CHECK_INT(sim.violations, 0);
    peer_free(late);
    end(client);
}

/* A send from another thread was accepted, then its frame found no place in the queue, and it was dropped without a word. */
static void test_an_accepted_message_that_finds_no_memory_ends_the_connection(void) {
    wss_options options;
    reset(&options);
    begin(&options);
    sim_settle(server);
    peer *client = peer_open(server);
    CHECK_INT(wss_send_data(server, newest, WSS_TEXT, "one", 3), WSS_OK);
    sim.fail_at = sim.grown + 1;
    sim_settle(server);
    CHECK_INT(peer_take(client, NULL, 0, NULL), 0x88); /* it is told, and not left with a gap */
    peer_frame(client, 0x88, "\3\365", 2);
    sim_settle(server);
    CHECK_INT(ended, 1);
    CHECK_INT(ended_cause, WSS_CAUSE_MEMORY);
    CHECK_INT(ended_code, WSS_CLOSE_TRY_LATER);
    end(client);
}

/* The share that was lost is counted. */
static void test_a_broadcast_that_finds_no_memory(void) {
    wss_options options;
    wss_stats stats;
    reset(&options);
    begin(&options);
    sim_settle(server);
    peer *client = peer_open(server);
    wss_conn nobody = {1}; /* a broadcast that leaves somebody out goes through the queues */
    CHECK_INT(wss_broadcast_data_except(server, nobody, WSS_TEXT, "one", 3), WSS_OK);
    sim.fail_at = sim.grown + 1;
    sim_settle(server);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.refused_full, 1);
    CHECK_INT(ended, 0);
    end(client);
}

/* There was no memory for our Close: the connection lingered until the deadline of a closing handshake that had not begun. */
static void test_a_close_that_finds_no_memory_ends_the_connection_at_once(void) {
    wss_options options;
    reset(&options);
    begin(&options);
    sim_settle(server);
    peer *client = peer_open(server);
    CHECK_INT(wss_close(server, newest, 4000, NULL), WSS_OK);
    sim.fail_at = sim.grown + 1;
    sim.fail_on = 1;
    sim_settle(server);
    CHECK_INT(ended, 1);
    CHECK_INT(ended_cause, WSS_CAUSE_LOCAL_CLOSE);
    CHECK(client->reset);
    sim.fail_at = 0;
    end(client);
}

/* A program that polls sent a message and then polled: the handler that ran first in that turn sent before it. */
static void test_what_was_sent_before_a_poll_arrives_before_what_its_handlers_send(void) {
    wss_options options;
    char text[8];
    reset(&options);
    begin(&options);
    sim_settle(server);
    peer *client = peer_open(server);
    peer_frame(client, 0x81, "second", 6); /* its event comes before that of the inbox */
    CHECK_INT(wss_send_data(server, newest, WSS_TEXT, "first", 5), WSS_OK);
    sim_settle(server);
    CHECK_INT(peer_take(client, text, sizeof text, NULL), 0x81);
    CHECK_TEXT(text, "first");
    CHECK_INT(peer_take(client, text, sizeof text, NULL), 0x81);
    CHECK_TEXT(text, "second");
    CHECK_INT(wss_send_data(server, newest, WSS_TEXT, "first", 5), WSS_OK);
    peer_frame(client, 0x81, "second", 6);
    sim_settle(server);
    peer_take(client, text, sizeof text, NULL);
    CHECK_TEXT(text, "first");
    end(client);
}

/* A connection that waited for the answer to our Close, with half a message come, got a page of HTTP when the server stopped. */
static void test_a_stop_sends_no_http_to_one_that_is_closing(void) {
    wss_options options;
    size_t size;
    reset(&options);
    begin(&options);
    sim_settle(server);
    peer *client = peer_open(server);
    CHECK_INT(wss_close(server, newest, 1000, NULL), WSS_OK);
    sim_settle(server);
    peer_frame(client, 0x01, "half", 4);
    sim_settle(server);
    wss_stop(server, 500);
    sim_settle(server);
    CHECK_INT(peer_take(client, NULL, 0, NULL), 0x88);
    peer_data(client, &size);
    CHECK_INT(size, 0);
    end(client);
    CHECK_INT(ended_cause, WSS_CAUSE_LOCAL_CLOSE);
}

/* ---- the kernel sees what it should ---- */

static int seen;

static void count_violation(const char *text) {
    (void)text;
    seen++;
}

static int always_busy(void) {
    return 0;
}

static void test_the_kernel_notices(void) {
    wss_options options;
    struct epoll_event event;
    reset(&options);
    sim_on_violation = count_violation;
    seen = 0;
    int fd = sim_socket(AF_INET, SOCK_STREAM, 0);
    CHECK_INT(seen, 1); /* not close-on-exec */
    CHECK_INT(sim_close(fd), 0);
    CHECK_INT(sim_close(fd), -1);
    CHECK_INT(seen, 2); /* closed twice */
    fd = sim_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sim_finish();
    CHECK_INT(seen, 3); /* a descriptor is left */
    int epoll = sim_epoll_create1(EPOLL_CLOEXEC);
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    sim_epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    sim_epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    CHECK_INT(seen, 4); /* added twice */
    sim_close(fd);
    CHECK_INT(seen, 5); /* closed while watched */
    sim.idle = always_busy;
    CHECK_INT(sim_epoll_wait(epoll, &event, 1, -1), -1);
    CHECK_INT(seen, 6); /* waits for ever */
    for (int i = 0; i < SIM_SPIN + 5 && seen == 6; i++) sim_epoll_wait(epoll, &event, 1, 0);
    CHECK_INT(seen, 7); /* spins */
    sim_close(epoll);
    void *block = sim_allocator(NULL, NULL, 0, 10);
    sim_finish();
    CHECK_INT(seen, 8); /* memory is left */
    sim_allocator(NULL, block, 10, 0);
    sim_finish();
    CHECK_INT(seen, 8);
}

/* The invariants are not always true: each of these breaks one. */
static void test_the_invariants_notice(void) {
    wss_options options;
    reset(&options);
    begin(&options);
    sim_settle(server);
    peer *client = peer_open(server);
    sim_on_violation = count_violation;
    wss__conn *conn = wss__conn_find(server, newest);
    seen = 0;
    conn->session.queued = 5;
    sim_check(server);
    CHECK_INT(seen, 1);
    conn->session.queued = 0;
    server->mem.used += 16;
    sim_check(server);
    CHECK_INT(seen, 2);
    server->mem.used -= 16;
    sim_file_at(conn->fd)->events = EPOLLIN;
    sim_check(server);
    CHECK_INT(seen, 3);
    sim_file_at(conn->fd)->events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | (uint32_t)EPOLLET;
    server->open++;
    sim_check(server);
    CHECK_INT(seen, 4);
    server->open--;
    sim.locks = 1;
    sim_check(server);
    CHECK_INT(seen, 5);
    sim.locks = 0;
    conn->session.given++;
    sim_check(server);
    CHECK_INT(seen, 6);
    conn->session.given--;
    sim_check(server);
    CHECK_INT(seen, 6);
    sim_on_violation = note;
    end(client);
}

/* Its timer is rounded up, and had not rung; a byte of the client took it back, and then was judged what the kernel had not been
   asked about: a slow reader was cut that had taken enough for a send, and too little for EPOLLOUT. */
static void test_nothing_is_judged_before_the_kernel_was_asked(void) {
    static char much[100000];
    wss_options options;
    reset(&options);
    begin(&options);
    sim_settle(server);
    peer *client = peer_open(server);
    for (int i = 0; i < 5; i++) CHECK_INT(wss_send_data(server, newest, WSS_BINARY, much, sizeof much), WSS_OK);
    sim_settle(server);
    CHECK(wss_buffered(server, newest) > sizeof much);
    sim_pass(server, 29000);
    sim_peer_drain(client, 1000);
    sim_pass(server, 1000);
    CHECK(server->loops[0].now % WSS__CONN_STEP != 0); /* it is due, and its timer rings later */
    peer_frame(client, 0x8a, "", 0);
    sim_settle(server);
    CHECK_INT(ended, 0);
    sim_pass(server, WSS__CONN_STEP);
    CHECK_INT(ended, 0);
    sim_pass(server, 29000);
    CHECK_INT(ended, 0);
    sim_pass(server, 1000 + WSS__CONN_STEP); /* and it is cut when nothing more was taken */
    CHECK_INT(ended, 1);
    CHECK_INT(ended_cause, WSS_CAUSE_SLOW_READER);
    end(client);
}

static void on_page(const wss_event *e) {
    static char page[300000];
    wss_answer answer;
    memset(&answer, 0, sizeof answer);
    answer.body = page;
    answer.size = sizeof page;
    wss_reply(e->server, e->conn, &answer);
}

/* An answer weighed nothing, as the control frames do that have no limit: clients that asked for a page and did not read it kept
   the memory, however little was left of it for the others. */
static void test_who_does_not_read_an_answer_goes_under_pressure(void) {
    wss_options options;
    wss_stats stats;
    peer *clients[18];
    reset(&options);
    options.memory_budget = 6 << 20;
    options.stall_ms = options.least_rate = WSS_OFF;
    begin(&options);
    wss_on_http(server, on_page, NULL);
    sim_settle(server);
    for (int i = 0; i < 18; i++) {
        clients[i] = peer_connect(server->options.port);
        peer_text(clients[i], "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        sim_settle(server);
    }
    wss_get_stats(server, &stats);
    CHECK(stats.memory > stats.memory_budget / 4 * 3);
    sim_pass(server, 5000);
    wss_get_stats(server, &stats);
    CHECK(stats.memory <= stats.memory_budget / 4 * 3);
    CHECK(server->loops[0].connections > 9); /* and no more than need be */
    for (int i = 1; i < 18; i++) peer_free(clients[i]);
    end(clients[0]);
}

/* Everybody had moved when memory became short, and then nothing came: the loop slept until somebody was to be pinged, while other
   threads were refused memory. */
static void test_a_loop_looks_again_while_memory_is_short(void) {
    static char much[200000];
    wss_options options;
    wss_stats stats;
    peer *clients[10];
    reset(&options);
    options.memory_budget = 4 << 20;
    begin(&options);
    sim_settle(server);
    for (int i = 0; i < 10; i++) {
        clients[i] = peer_open(server);
        for (int k = 0; k < 3; k++) wss_send_data(server, newest, WSS_BINARY, much, sizeof much);
        sim_settle(server);
    }
    wss_get_stats(server, &stats);
    CHECK(stats.memory > stats.memory_budget / 4 * 3);
    uint64_t began = server->loops[0].now;
    for (int i = 0; i < 100 && stats.memory > stats.memory_budget / 4 * 3; i++) {
        sim_move_clock((uint64_t)wss__loop_timeout(&server->loops[0], -1)); /* it sleeps as long as it wants */
        sim_turn(server, 0);
        wss_get_stats(server, &stats);
    }
    CHECK(stats.memory <= stats.memory_budget / 4 * 3);
    CHECK(server->loops[0].now - began <= 2000);
    for (int i = 1; i < 10; i++) peer_free(clients[i]);
    end(clients[0]);
}

static uint64_t rang[8];
static int rings;

static void on_ring(const wss_event *e) {
    rang[rings++] = sim.now / 1000;
    sim_move_clock(90);
    if (rings == 4) wss_stop(e->server, 0);
}

/* The wait was counted from where the last turn had begun: what it took, and what the program did after it, made timers late. */
static void test_timers_ring_in_time_after_long_work(void) {
    wss_options options;
    reset(&options);
    begin(&options);
    sim_settle(server);
    uint64_t began = sim.now / 1000;
    rings = 0;
    CHECK(wss_timer_start(server, 300, 0, on_ring, NULL).id != 0);
    sim_settle(server);
    sim_move_clock(250);
    while (!rings) CHECK_INT(wss_poll(server, 1000), WSS_OK);
    CHECK_INT(rang[0] - began, 300);
    began = sim.now / 1000;
    CHECK(wss_timer_start(server, 100, 100, on_ring, NULL).id != 0);
    while (wss__server_turn(server, -1) == WSS_OK) { /* as wss_run does, one turn after the other */
    }
    for (int i = 1; i < 4; i++) CHECK_INT(rang[i] - began, (uint64_t)i * 100);
    CHECK_INT(sim_destroy(server), WSS_OK);
    reset(&options);
    begin(&options);
    rings = 0;
    began = sim.now / 1000;
    CHECK(wss_timer_start(server, 100, 100, on_ring, NULL).id != 0);
    CHECK(wss_timer_start(server, 350, 0, on_ring, NULL).id != 0);
    CHECK_INT(wss_run(server), WSS_OK);
    for (int i = 0; i < 3; i++) CHECK_INT(rang[i] - began, (uint64_t)(i + 1) * 100);
    CHECK_INT(sim_destroy(server), WSS_OK);
    sim_finish();
}

/* Who reads steadily, but less at a time than the kernel tells, seemed not to move, and had to go before those who do not read. */
static void test_who_reads_a_little_at_a_time_is_spared_under_pressure(void) {
    static char much[700000];
    wss_options options;
    wss_stats stats;
    wss_info info;
    peer *clients[20];
    int count = 0;
    reset(&options);
    options.memory_budget = 6 << 20;
    begin(&options);
    sim_settle(server);
    wss_conn first = {0};
    do {
        clients[count] = peer_open(server);
        if (!count) first = newest; /* it holds most */
        CHECK_INT(wss_send_data(server, newest, WSS_BINARY, much, count++ ? 300000 : sizeof much), WSS_OK);
        sim_settle(server);
        wss_get_stats(server, &stats);
    } while (stats.memory <= stats.memory_budget / 4 * 3 && count < 20);
    for (int i = 0; i < 8; i++) {
        sim_pass(server, 500);
        sim_peer_drain(clients[0], 2000);
        sim_settle(server);
    }
    wss_get_stats(server, &stats);
    CHECK_INT(stats.closes[WSS_CAUSE_PRESSURE], 1);
    CHECK(stats.memory <= stats.memory_budget / 4 * 3);
    CHECK_INT(wss_get_info(server, first, &info), WSS_OK);
    for (int i = 1; i < count; i++) peer_free(clients[i]);
    end(clients[0]);
}

int main(void) {
    RUN(test_a_listener_that_epoll_has_no_room_for_is_tried_again);
    RUN(test_a_stop_after_a_failed_accept_does_not_spin);
    RUN(test_an_accepted_message_that_finds_no_memory_ends_the_connection);
    RUN(test_a_broadcast_that_finds_no_memory);
    RUN(test_a_close_that_finds_no_memory_ends_the_connection_at_once);
    RUN(test_what_was_sent_before_a_poll_arrives_before_what_its_handlers_send);
    RUN(test_a_stop_sends_no_http_to_one_that_is_closing);
    RUN(test_the_kernel_notices);
    RUN(test_the_invariants_notice);
    RUN(test_nothing_is_judged_before_the_kernel_was_asked);
    RUN(test_who_does_not_read_an_answer_goes_under_pressure);
    RUN(test_a_loop_looks_again_while_memory_is_short);
    RUN(test_timers_ring_in_time_after_long_work);
    RUN(test_who_reads_a_little_at_a_time_is_spared_under_pressure);
    return test_end("found");
}
