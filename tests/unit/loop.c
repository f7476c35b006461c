/* Unit tests of [loop]: events for nobody, events in one batch for a connection that another one's handler ends, descriptors
   that are used again, waiting that spins, the wait itself failing. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <sys/epoll.h>

/* What epoll_wait gives: that of the kernel, or what a test made up. */
static int wait_fails;
static struct epoll_event made_up[8];
static int made_up_count;
static int waits;
static int last_timeout;
static int spinning; /* each wait takes a millisecond of the test's clock, and none of the world's */
static long long step_now;

static int fake_epoll_wait(int fd, struct epoll_event *events, int most, int timeout) {
    waits++;
    last_timeout = timeout;
    if (wait_fails) {
        errno = wait_fails;
        return -1;
    }
    if (spinning) step_now++;
    if (!made_up_count) return epoll_wait(fd, events, most, spinning ? 0 : timeout);
    int count = made_up_count;
    for (int i = 0; i < count; i++) events[i] = made_up[i];
    made_up_count = 0;
    return count;
}

#include "../step.h"

REPLACE(epoll_wait, fake_epoll_wait)

static wss_conn conns[8];
static int connects;
static int messages;
static int ends;
static int closes_other; /* the connection that each message's handler closes */

static void on_connect(const wss_event *e) {
    conns[connects++ & 7] = e->conn;
}

static void on_data(const wss_event *e) {
    messages++;
    if (closes_other) CHECK_INT(wss_close(e->server, conns[closes_other], 4000, NULL), WSS_OK);
    closes_other = 0;
}

static void on_end(const wss_event *e) {
    (void)e;
    ends++;
}

static wss_server *serve(wss_options *options) {
    connects = 0;
    messages = 0;
    ends = 0;
    closes_other = 0;
    waits = 0;
    wss_server *server = step_server(options);
    wss_on_connect(server, on_connect, NULL);
    wss_on_data(server, on_data, NULL);
    wss_on_disconnect(server, on_end, NULL);
    return server;
}

static void arrive(step_client *client, const void *data, size_t size) {
    CHECK_INT(send(client->fd, data, size, MSG_NOSIGNAL), size);
}

static void make_up(uint64_t tag, uint32_t events) {
    made_up[made_up_count].data.u64 = tag;
    made_up[made_up_count++].events = events;
}

/* Tags of places that are free, were used before, or never were: the event is dropped. */
static void events_for_nobody(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *gone = step_open(server);
    wss_conn old = conns[0];
    step_free(gone);
    step(server);
    step_client *client = step_open(server);
    CHECK_INT(ends, 1);
    uint32_t all = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
    make_up(old.id, all);
    make_up(conns[1].id + ((uint64_t)1 << WSS__SLOT_INDEX_BITS), all);
    make_up(conns[1].id - ((uint64_t)1 << WSS__SLOT_INDEX_BITS), all);
    make_up(UINT64_MAX, all);
    make_up(WSS__LOOP_TAG_TIMER, EPOLLIN);
    wss_poll(server, 0);
    CHECK_INT(made_up_count, 0);
    step(server);
    CHECK_INT(ends, 1);
    CHECK_INT(server->loops[0].connections, 1);
    step_frame(server, client, 0x89, "x", 1);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x8a);
    step_free(client);
    step(server);
    step_end(server);
}

/* Two messages in one batch; the handler of the first closes the other connection: its message is not handled any more. */
static void closed_by_another_in_the_batch(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *first = step_open(server);
    step_client *second = step_open(server);
    arrive(first, "\x81\x81\0\0\0\0x", 7);
    arrive(second, "\x81\x81\0\0\0\0x", 7);
    closes_other = 1;
    wss_poll(server, 0);
    CHECK_INT(messages, 1);
    step(server);
    CHECK_INT(messages, 1);
    CHECK_INT(step_take(server, second, NULL, NULL), 0x88);
    step_free(first);
    step_free(second);
    step(server);
    CHECK_INT(ends, 2);
    step_end(server);
}

/* A connection ends and its descriptor is given to a new one in the same batch: the rest of the old one's events, told by its
   tag, do not reach the new one. */
static void descriptor_used_again_in_the_batch(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *old = step_open(server);
    wss_conn tag = conns[0];
    int fd = wss__conn_find(server, tag)->fd;
    step_free(old);
    step(server);
    CHECK(fcntl(fd, F_GETFD) < 0);
    step_client *next = step_open(server);
    wss__conn *conn = wss__conn_find(server, conns[1]);
    for (int i = 0; conn->fd != fd && i < 10; i++) { /* the client's own socket may have taken it first */
        step_free(next);
        step(server);
        next = step_open(server);
        conn = wss__conn_find(server, conns[connects - 1]);
    }
    CHECK_INT(conn->fd, fd);
    int before = ends;
    make_up(tag.id, EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    make_up(tag.id, EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    wss_poll(server, 0);
    step(server);
    CHECK_INT(ends, before);
    CHECK(!(conn->work & WSS__WORK_HANGUP));
    step_frame(server, next, 0x89, "x", 1);
    CHECK_INT(step_take(server, next, NULL, NULL), 0x8a);
    step_free(next);
    step(server);
    step_end(server);
}

/* The end of a stream, told in every way the kernel has, alone and together: the connection ends, once. */
static void hang_ups(void) {
    static const uint32_t kinds[] = {EPOLLHUP, EPOLLERR, EPOLLRDHUP, EPOLLIN};
    for (unsigned mask = 1; mask < 16; mask++) {
        wss_options options = {0};
        uint32_t events = 0;
        wss_server *server = serve(&options);
        step_client *client = step_open(server);
        for (int i = 0; i < 4; i++) events |= mask >> i & 1 ? kinds[i] : 0;
        shutdown(client->fd, SHUT_WR);
        make_up(conns[0].id, events);
        wss_poll(server, 0);
        step(server);
        CHECK_INT(ends, 1);
        CHECK_INT(server->loops[0].connections, 0);
        step_free(client);
        step_end(server);
    }
}

/* Interrupted waits go on; any other failure ends the server, and says so. */
static void interrupted_wait(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    wait_fails = EINTR;
    for (int i = 0; i < 5; i++) CHECK_INT(wss_poll(server, 0), WSS_OK);
    wait_fails = 0;
    step_client *client = step_open(server);
    CHECK_INT(connects, 1);
    step_free(client);
    step(server);
    step_end(server);
}

static void failing_wait(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    wait_fails = EBADF;
    int result = WSS_OK;
    for (int i = 0; i < 10 && result == WSS_OK; i++) result = wss_poll(server, 0);
    wait_fails = 0;
    CHECK_INT(result, WSS_ERR_SYSTEM);
    CHECK_INT(ends, 1); /* the application is told of every end */
    CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
    step_free(client);
    step_end(server);
}

static void failing_wait_of_a_running_server(void) {
    wss_options options = {0};
    options.address = "127.0.0.1";
    options.allocator = step_allocator;
    wss_server *server = wss_create(&options, NULL);
    wait_fails = EINVAL;
    CHECK_INT(wss_run(server), WSS_ERR_SYSTEM);
    wait_fails = 0;
    step_end(server);
}

/* A wake-up without anything to read changes nothing, in any state; one that also tells of the end is believed. */
static void spurious_events(void) {
    for (int hangup = 0; hangup <= 1; hangup++) {
        uint32_t events = hangup ? EPOLLIN | EPOLLRDHUP : EPOLLIN;
        wss_options options = {0};
        wss_server *server = serve(&options);
        step_client *client = step_open(server);
        make_up(conns[0].id, events);
        wss_poll(server, 0);
        step(server);
        CHECK_INT(ends, hangup);
        CHECK_INT(server->loops[0].connections, 1 - hangup);
        step_free(client);
        step(server);

        step_client *refused = step_connect(server);
        step_ask(server, refused, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        CHECK(refused->ended); /* our stream has ended, its has not */
        CHECK_INT(server->loops[0].connections, 1);
        uint64_t tag = 0;
        for (uint32_t i = 0; i < server->conns.made; i++)
            if (wss__conn_at(server, i)->slot.word & WSS__SLOT_STATE) tag = wss__slot_id(&wss__conn_at(server, i)->slot);
        CHECK_INT(wss__conn_state(wss__conn_find(server, (wss_conn){tag})), WSS__STATE_LINGERING);
        make_up(tag, events);
        wss_poll(server, 0);
        step(server);
        CHECK_INT(server->loops[0].connections, 1 - hangup);
        step_free(refused);
        step(server);
        CHECK_INT(server->loops[0].connections, 0);
        step_end(server);
    }
}

/* What still comes from a peer that lingers is dropped, and its end, known already, is read behind it at once. */
static void last_words_of_a_lingering_peer(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *refused = step_connect(server);
    step_ask(server, refused, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK_INT(server->loops[0].connections, 1);
    arrive(refused, "and more", 8);
    wss_poll(server, 0);
    CHECK_INT(server->loops[0].connections, 1);
    arrive(refused, "and the end", 11);
    shutdown(refused->fd, SHUT_WR);
    wss_poll(server, 0);
    step(server);
    CHECK_INT(server->loops[0].connections, 0);
    step_free(refused);
    step_end(server);
}

/* What came fills exactly the room there was for it: whether more is there shows only the next receive. */
static void receive_that_fits_exactly(void) {
    enum { SIZE = 16384 };
    static char frame[8 + SIZE];
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    frame[0] = (char)(unsigned char)0x82;
    frame[1] = (char)(unsigned char)0xfe;
    frame[2] = (char)(SIZE >> 8);
    frame[3] = (char)(unsigned char)(SIZE & 255);
    arrive(client, frame, sizeof frame);
    arrive(client, "\x81\x81\0\0\0\0x", 7);
    server->loops[0].receive_size = sizeof frame;
    wss_poll(server, 0);
    wss_poll(server, 0);
    server->loops[0].receive_size = WSS__LOOP_RECEIVE;
    CHECK_INT(messages, 2);
    step(server);
    CHECK_INT(ends, 0);
    CHECK(!(wss__conn_find(server, conns[0])->work & WSS__WORK_READABLE));
    step_free(client);
    step(server);
    step_end(server);
}

/* The ping that is due finds no memory: the connection ends for that, it is not left without a deadline. */
static void ping_without_memory(void) {
    static char block[65536];
    wss_options options = {0};
    options.ping_ms = 5000;
    options.stall_ms = WSS_OFF;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    for (int i = 0; i < 10000 && wss_buffered(server, conns[0]) == 0; i++) {
        CHECK_INT(wss_send_data(server, conns[0], WSS_BINARY, block, sizeof block), WSS_OK);
        step(server);
    }
    step_now += 5000 + 2 * WSS__CONN_STEP;
    step_fail_in = 1;
    step_fail_on = 1;
    wss_poll(server, 0);
    step_fail_in = 0;
    step_fail_on = 0;
    step(server);
    CHECK_INT(ends, 1);
    CHECK_INT(server->loops[0].shared.stats.closes[WSS_CAUSE_MEMORY], 1);
    step_free(client);
    step(server);
    step_end(server);
}

/* ---- options.spin_us ---- */

static void spins_before_it_sleeps(void) {
    wss_options options = {0};
    options.spin_us = 3000;
    options.ping_ms = WSS_OFF;
    wss_server *server = serve(&options);
    waits = 0;
    wss_poll(server, 0); /* nobody waits: no reason to spin */
    CHECK_INT(waits, 1);
    CHECK_INT(last_timeout, 0);
    wss_timer_start(server, 50, 0, on_end, NULL);
    wss_poll(server, 0);
    spinning = 1;
    waits = 0;
    wss_poll(server, 40);
    CHECK_INT(waits, 4);         /* asks without waiting for three milliseconds of the clock, */
    CHECK_INT(last_timeout, 40); /* then sleeps */
    waits = 0;
    make_up(WSS__LOOP_TAG_TIMER, EPOLLIN);
    wss_poll(server, 40);
    CHECK_INT(waits, 1); /* what comes at once ends it */
    CHECK_INT(last_timeout, 0);
    spinning = 0;
    step_end(server);
}

int main(void) {
    alarm(100);
    RUN(events_for_nobody);
    RUN(closed_by_another_in_the_batch);
    RUN(descriptor_used_again_in_the_batch);
    RUN(hang_ups);
    RUN(interrupted_wait);
    RUN(failing_wait);
    RUN(failing_wait_of_a_running_server);
    RUN(spurious_events);
    RUN(last_words_of_a_lingering_peer);
    RUN(receive_that_fits_exactly);
    RUN(ping_without_memory);
    RUN(spins_before_it_sleeps);
    return test_end("loop");
}
