/* What the kernel does at its worst moments, one test each: no descriptors, a full counter, ends reported alone and together,
   events of one batch that concern a connection closed or replaced within it, more events than one batch holds. */
#include "kernel.h"

#include "../test.h"

enum { CLIENTS = 40 };

static wss_server *server;
static peer *clients[CLIENTS];
static wss_conn conns[CLIENTS];
static int connected, ended, heard;
static int closes_others;

static void note(const char *text) {
    test_broken++;
    if (test_broken <= 10) printf("violation: %s\n", text);
}

static void on_connect(const wss_event *e) {
    if (connected < CLIENTS) conns[connected] = e->conn;
    connected++;
}

static void on_disconnect(const wss_event *e) {
    (void)e;
    ended++;
}

static void on_data(const wss_event *e) {
    heard++;
    if (closes_others)
        for (int i = 0; i < connected; i++)
            if (conns[i].id != e->conn.id) wss_close(e->server, conns[i], 1000, NULL);
    wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

static void begin(wss_options *options, int count) {
    wss_error why;
    sim_on_violation = note;
    connected = ended = heard = closes_others = 0;
    server = wss_create(options, &why);
    if (!server) {
        printf("%s\n", why.text);
        exit(1);
    }
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    wss_on_data(server, on_data, NULL);
    sim_settle(server);
    for (int i = 0; i < count; i++) clients[i] = peer_open(server);
}

static void end(int count) {
    for (int i = 0; i < count; i++) peer_free(clients[i]);
    CHECK_INT(sim_destroy(server), WSS_OK);
    CHECK_INT(connected, ended);
    sim_finish();
}

static void fresh(wss_options *options) {
    sim_begin(1);
    sim_options(options);
}

/* O1: few tries, the others are served, and who waits gets in soon after descriptors are back. */
static void test_want_of_descriptors(void) {
    wss_options options;
    static const int errors[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
    for (int i = 0; i < 4; i++) {
        fresh(&options);
        begin(&options, 1);
        sim_fault *fault = sim_add_fault(SIM_accept4, SIM_ERROR, errors[i], 1, 0);
        peer *late = peer_connect(server->options.port);
        peer_text(late, PEER_REQUEST("/") "\r\n");
        for (uint64_t until = sim.now + 3000000; sim.now < until;) {
            peer_frame(clients[0], 0x81, "x", 1);
            CHECK_INT(wss_poll(server, 200), WSS_OK);
            sim_settle(server);
            CHECK_INT(peer_take(clients[0], NULL, 0, NULL), 0x81);
            sim_pass(server, 20);
        }
        CHECK(fault->struck >= 4 && fault->struck <= 8);
        fault->first = 0;
        for (uint64_t until = sim.now + 1100000; sim.now < until && !late->out.size;) wss_poll(server, 100);
        CHECK_INT(peer_take_head(late), 101);
        peer_free(late);
        end(1);
    }
}

/* T5: the counter of the eventfd is full, or a signal came: what was posted runs. */
static void post_ran(void *arg) {
    ++*(int *)arg;
}

static void test_a_full_counter_is_a_signal(void) {
    wss_options options;
    static const int errors[] = {EAGAIN, EINTR};
    for (int i = 0; i < 2; i++) {
        int ran = 0;
        fresh(&options);
        begin(&options, 1);
        sim_fault *fault = sim_add_fault(SIM_write, SIM_ERROR, errors[i], 1, 1);
        CHECK_INT(wss_post(server, post_ran, &ran), WSS_OK);
        CHECK_INT(fault->struck, 1);
        sim_settle(server);
        CHECK_INT(ran, 1);
        end(1);
    }
}

/* O7: all get their turn, however few events one wait reports. */
static void test_more_events_than_a_batch_holds(void) {
    wss_options options;
    fresh(&options);
    begin(&options, CLIENTS);
    sim.event_most = 3;
    for (int i = 0; i < CLIENTS; i++) peer_frame(clients[i], 0x81, "x", 1);
    for (int i = 0; i < CLIENTS / 3 + 4; i++) wss_poll(server, 0);
    CHECK_INT(heard, CLIENTS);
    for (int i = 0; i < CLIENTS; i++) {
        peer_frame(clients[i], 0x81, "y", 1);
        if (i % 2) peer_frame(clients[0], 0x81, "z", 1); /* who talks most does not keep the others waiting */
    }
    int before = heard;
    for (int i = 0; i < CLIENTS / 3 + 10; i++) {
        peer_frame(clients[0], 0x81, "z", 1);
        wss_poll(server, 0);
    }
    CHECK(heard - before >= CLIENTS);
    for (int i = 1; i < CLIENTS; i++) CHECK_INT(peer_take(clients[i], NULL, 0, NULL), 0x81);
    for (int i = 1; i < CLIENTS; i++) CHECK_INT(peer_take(clients[i], NULL, 0, NULL), 0x81);
    sim.event_most = 0;
    end(CLIENTS);
}

/* O8: end of stream, error and hang-up, alone and together, on TCP and on Unix sockets: each ends its connection in a few
   turns without the clock moving. */
static void test_ends_in_every_combination(void) {
    wss_options options;
    for (int way = 0; way < 16; way++) {
        fresh(&options);
        options.address = "127.0.0.1, unix:/s";
        begin(&options, 0);
        clients[0] = way & 8 ? peer_connect_unix("/s") : peer_connect(server->options.port);
        peer_text(clients[0], PEER_REQUEST("/") "\r\n");
        sim_settle(server);
        CHECK_INT(peer_take_head(clients[0]), 101);
        if (way & 4) wss_pause(server, conns[0]);
        sim_settle(server);
        if (way & 1) peer_finish(clients[0]);
        if (way & 2) peer_reset(clients[0]);
        if (!(way & 3)) peer_close(clients[0]);
        for (int i = 0; i < 6; i++) CHECK_INT(wss_poll(server, 0), WSS_OK);
        if (!(way & 4) || way & 2) { /* one that is not read from learns of an end of stream when it is read again */
            CHECK_INT(ended, 1);
            CHECK(clients[0]->server_gone);
        }
        end(1);
    }
}

/* R2: a handler closes connections whose events stand later in the same batch: no message of them is handled. */
static void test_closed_by_an_earlier_event_of_the_batch(void) {
    wss_options options;
    fresh(&options);
    begin(&options, 6);
    closes_others = 1;
    for (int i = 0; i < 6; i++) peer_frame(clients[i], 0x81, "x", 1);
    sim_settle(server);
    CHECK_INT(heard, 1);
    for (int i = 1; i < 6; i++) CHECK_INT(peer_take(clients[i], NULL, 0, NULL), 0x88);
    end(6);
}

/* R3: sockets are closed at the end of a turn, after all its accepts; and an event of the old one that comes when the number
   has a new owner is told apart by its tag. */
static void test_the_same_number_in_the_same_batch(void) {
    wss_options options;
    struct epoll_event stale;
    fresh(&options);
    begin(&options, 2);
    wss__conn *conn = wss__conn_find(server, conns[0]);
    int number = conn->fd;
    stale.events = EPOLLIN | EPOLLHUP | EPOLLERR;
    stale.data.u64 = sim_file_at(number)->tag;
    peer_reset(clients[0]);
    peer *same = peer_connect(server->options.port);
    sim_settle(server);
    CHECK(same->fd != number);
    peer *late = peer_connect(server->options.port);
    peer_text(late, PEER_REQUEST("/") "\r\n");
    sim_settle(server);
    CHECK_INT(late->fd, number); /* the kernel gives out the lowest */
    CHECK_INT(peer_take_head(late), 101);
    CHECK_INT(ended, 1);
    wss__event_place place;
    wss__event_enter(&place, server, &server->loops[0]);
    wss__loop_on_event(&server->loops[0], stale.data.u64, stale.events);
    wss__event_leave(&place);
    sim_settle(server);
    CHECK_INT(ended, 1);
    peer_frame(late, 0x81, "x", 1);
    sim_settle(server);
    CHECK_INT(peer_take(late, NULL, 0, NULL), 0x81);
    peer_free(late);
    peer_free(same);
    end(2);
}

/* M6: after a burst of large messages a connection holds what it held before. */
static void test_memory_after_a_burst(void) {
    wss_options options;
    static char large[300000];
    fresh(&options);
    sim.out_limit = 50000;
    begin(&options, 3);
    size_t before = sim.account.bytes;
    for (int i = 0; i < 3; i++) peer_frame(clients[i], 0x82, large, sizeof large);
    sim_settle(server);
    CHECK(sim.account.bytes > before);
    for (int i = 0; i < 3; i++)
        while (peer_take(clients[i], NULL, 0, NULL) != 0x82) sim_settle(server);
    sim_settle(server);
    CHECK_INT(sim.account.bytes, before);
    end(3);
}

static void call_that_fails(void *arg) {
    (void)arg;
    errno = ENOENT;
}

/* A wait that fails ends the server; what it says of that is why, whatever was called until then. */
static void test_a_wait_that_fails_says_why(void) {
    for (int way = 0; way < 2; way++) {
        wss_options options;
        int result = WSS_OK;
        fresh(&options);
        begin(&options, way ? 0 : 3);
        if (way) {
            wss_destroy(server);
            server = wss_create(&options, NULL);
        }
        sim_add_fault(SIM_epoll_wait, SIM_ERROR, EINVAL, 1, 1);
        CHECK_INT(wss_post(server, call_that_fails, NULL), WSS_OK); /* it runs behind that wait */
        if (way) result = wss_run(server);
        for (int i = 0; i < 1000 && result == WSS_OK; i++) result = wss_poll(server, 10);
        CHECK_INT(errno, EINVAL);
        CHECK_INT(result, WSS_ERR_SYSTEM);
        end(way ? 0 : 3);
    }
}

int main(void) {
    RUN(test_want_of_descriptors);
    RUN(test_a_full_counter_is_a_signal);
    RUN(test_more_events_than_a_batch_holds);
    RUN(test_ends_in_every_combination);
    RUN(test_closed_by_an_earlier_event_of_the_batch);
    RUN(test_the_same_number_in_the_same_batch);
    RUN(test_memory_after_a_burst);
    RUN(test_a_wait_that_fails_says_why);
    return test_end("kernel_faults");
}
