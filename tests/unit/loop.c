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

static int loop_has_work(const wss_server *server) {
    return server->loops[0].first_ready != WSS__SLOT_NONE;
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

/* ---- pings ---- */

/* The ping that is due finds no memory: the connection ends for that, it is not left without a deadline. */
static void ping_without_memory(void) {
    wss_options options = {0};
    options.ping_ms = 500;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    wss__session_shared *shared = &server->loops[0].shared;
    size_t capacity = shared->cork_capacity;
    shared->cork_capacity = 0; /* others have taken all of it for what they broadcast */
    step_now += 500 + 2 * WSS__CONN_STEP;
    step_failed = 0;
    step_fail_in = 1;
    step_fail_on = 1;
    step(server);
    step_fail_in = 0;
    step_fail_on = 0;
    shared->cork_capacity = capacity;
    CHECK(step_failed > 0);
    step(server);
    CHECK_INT(ends, 1);
    CHECK_INT(shared->stats.closes[WSS_CAUSE_MEMORY], 1);
    step_free(client);
    step(server);
    step_end(server);
}

/* ---- time ---- */

/* What a wait, or a turn, took beyond what it could is left out, but for the second that anything may take. */
static void time_that_is_skipped(void) {
    static const struct {
        uint64_t took, expected, skipped;
    } rows[] = {{0, 0, 0},          {1000, 0, 0},       {1001, 0, 1},           {5000, 0, 4000},       {5000, 4000, 0},
                {5001, 4000, 1},    {5000, 6000, 0},    {3600000, 0, 3599000},  {60000, 60000, 0},     {0, 60000, 0},
                {61001, 60000, 1}};
    static wss__loop loop;
    uint64_t all = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        wss__loop_skip(&loop, rows[i].took, rows[i].expected);
        all += rows[i].skipped;
        CHECK_INT(loop.skipped, all);
    }
}

/* The loop's time is the clock's less what was skipped: in a wait without end nothing is, in another one what it was late. */
static void time_of_the_loop(void) {
    static wss__loop loop;
    loop.turned = (uint64_t)step_now;
    step_now += 100000;
    wss__loop_read_clock(&loop, -1);
    CHECK_INT(loop.now, step_now);
    CHECK_INT(loop.time, step_now);
    loop.turned = loop.now;
    step_now += 7000;
    wss__loop_read_clock(&loop, 6000);
    CHECK_INT(loop.time, step_now);
    loop.turned = loop.now;
    step_now += 7000;
    wss__loop_read_clock(&loop, 5999);
    CHECK_INT(loop.now, step_now);
    CHECK_INT(loop.time, step_now - 1);
    loop.turned = loop.now;
    step_now += 50000;
    wss__loop_read_clock(&loop, 0);
    CHECK_INT(loop.skipped, 1 + 49000);
    CHECK_INT(loop.time, step_now - 49001);
    uint64_t before = loop.time;
    loop.turned = loop.now;
    step_now += 1000;
    wss__loop_read_clock(&loop, 0);
    CHECK_INT(loop.time, before + 1000);
}

/* The process stands still for an hour: nobody is pinged or ended for that, and what is due afterwards is due as late. A timer
   of the application goes by the clock. */
static void stands_still(void) {
    wss_options options = {0};
    options.ping_ms = 5000;
    options.pong_ms = 5000;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    CHECK(wss_timer_start(server, 1800000, 0, on_end, NULL).id != 0);
    step(server);
    step_now += 3600000;
    step(server);
    CHECK_INT(ends, 1); /* the timer */
    CHECK_INT(server->loops[0].skipped, 3600000 - WSS__LOOP_STILL);
    CHECK_INT(step_receive(client), 0);
    step_time(server, 5000);
    step_receive(client);
    CHECK_INT(client->size, 10); /* the ping */
    CHECK_INT(ends, 1);
    step_time(server, 4900);
    CHECK_INT(ends, 1);
    step_time(server, 200);
    CHECK_INT(ends, 2);
    CHECK_INT(server->loops[0].shared.stats.closes[WSS_CAUSE_PONG_TIMEOUT], 1);
    step_free(client);
    step(server);
    step_end(server);
}

static int turn_takes; /* milliseconds of the next message's handler */

static void on_data_slow(const wss_event *e) {
    (void)e;
    step_now += turn_takes;
}

/* Turns are counted by how long they took; one of more than a second is skipped beyond that. */
static void turns_by_length(void) {
    static const struct {
        int takes, kind;
    } rows[] = {{0, 0},  {1, 0},   {2, 1},   {4, 1},   {5, 2},   {16, 2},   {17, 3},
                {64, 3}, {65, 4},  {256, 4}, {257, 5}, {999, 5}, {1000, 5}, {5000, 5}};
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    wss__loop *loop = &server->loops[0];
    wss_on_data(server, on_data_slow, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t turns[6];
        uint64_t skipped = loop->skipped;
        memcpy(turns, loop->shared.stats.turns, sizeof turns);
        turn_takes = rows[i].takes;
        arrive(client, "\x81\x81\0\0\0\0x", 7);
        wss_poll(server, 0);
        for (int k = 0; k < 6; k++) CHECK_INT(loop->shared.stats.turns[k], turns[k] + (k == rows[i].kind));
        CHECK_INT(loop->skipped, skipped + (rows[i].takes > 1000 ? (uint64_t)rows[i].takes - 1000 : 0));
        CHECK_INT(loop->turned, step_now);
    }
    step_free(client);
    step(server);
    step_end(server);
}

/* ---- shares of a turn ---- */

/* The time that handlers of one connection may take: less, the more have work, between two bounds. */
static void share_of_a_turn(void) {
    static const struct {
        uint32_t ready;
        uint64_t share;
    } rows[] = {{0, 50}, {1, 1000}, {8, 1000}, {9, 888}, {80, 100}, {160, 50}, {161, 50}, {100000, 50}};
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss__loop *loop = &server->loops[0];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        loop->ready_count = rows[i].ready;
        loop->handed_out = 7;
        wss__loop_run_ready(loop);
        CHECK_INT(loop->share_us, rows[i].share);
        CHECK_INT(loop->ready_count, 0);
        CHECK_INT(loop->handed_out, 0);
    }
    step_end(server);
}

/* Each place on the ready list is counted once. */
static void ready_are_counted(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *clients[3];
    for (int i = 0; i < 3; i++) clients[i] = step_open(server);
    wss__loop *loop = &server->loops[0];
    CHECK_INT(loop->ready_count, 0);
    for (int i = 0; i < 6; i++) wss__conn_make_ready(loop, wss__conn_find(server, conns[i / 2]));
    CHECK_INT(loop->ready_count, 3);
    wss__loop_run_ready(loop);
    CHECK_INT(loop->ready_count, 0);
    CHECK_INT(loop->share_us, 1000);
    for (int i = 0; i < 3; i++) step_free(clients[i]);
    step(server);
    step_end(server);
}

/* Of messages that come together 128 at most are handled in a turn, the rest in the next ones, in which others have theirs. */
static void messages_of_a_turn(void) {
    static char frames[7 * 300];
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *many = step_open(server);
    step_client *one = step_open(server);
    for (int i = 0; i < 300; i++) memcpy(frames + 7 * i, "\x82\x81\0\0\0\0x", 7);
    arrive(many, frames, sizeof frames);
    wss__loop_turn(&server->loops[0], 0);
    CHECK_INT(messages, 128);
    CHECK(loop_has_work(server));
    arrive(one, "\x82\x81\0\0\0\0x", 7);
    wss__loop_turn(&server->loops[0], 0);
    CHECK_INT(messages, 257);
    wss__loop_turn(&server->loops[0], 0);
    CHECK_INT(messages, 301);
    CHECK(!loop_has_work(server));
    for (int i = 0; i < 3; i++) arrive(many, frames, sizeof frames);
    wss_poll(server, 0); /* goes on until nobody has work, or for 4 ms */
    CHECK_INT(messages, 301 + 900);
    CHECK(!loop_has_work(server));
    step_free(many);
    step_free(one);
    step(server);
    step_end(server);
}

/* By the time that handlers take: looked at after each sixteenth message, from the first on. */
static void time_of_a_share(void) {
    static wss__loop loop;
    loop.share_us = 1000;
    uint64_t began = 0;
    CHECK_INT(wss__read_is_over(&loop, 1, &began), 0);
    CHECK_INT(began, step_now * 1000);
    step_now += 1;
    CHECK_INT(wss__read_is_over(&loop, 16, &began), 0); /* not more than its share */
    CHECK_INT(began, (step_now - 1) * 1000);
    step_now += 1;
    CHECK_INT(wss__read_is_over(&loop, 32, &began), 1);
    CHECK_INT(wss__read_is_over(&loop, 128, &began), 1);
    CHECK_INT(wss__read_is_over(&loop, 129, &began), 1);
    began = (uint64_t)step_now * 1000;
    CHECK_INT(wss__read_is_over(&loop, 112, &began), 0);
    CHECK_INT(wss__read_is_over(&loop, 128, &began), 1);
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

/* ---- a stop, and who answers meanwhile ---- */

enum { ASKING = 6 };

static wss_conn asking[ASKING];
static int asking_count, answered_at, answered_one;
static wss_server *answering;

static void on_asked(const wss_event *e) {
    asking[asking_count++] = e->conn;
}

/* When so many have been told of the stop, one of the others is answered: it goes to the end of its list. */
static void answer_another(void *context, int level, const char *text) {
    (void)context;
    (void)level;
    if (strstr(text, "refused: 503") && answered_at-- == 0) wss_refuse(answering, asking[answered_one], NULL);
}

/* Each is told of the stop, or was answered before: whoever is answered while all are told, and wherever the walk stands. */
static void a_stop_tells_all(void) {
    static const char request[] = "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n";
    for (int at = 0; at < ASKING; at++) {
        for (int one = 0; one < ASKING; one++) {
            wss_options options = {0};
            step_client *clients[ASKING];
            options.log = answer_another;
            answering = step_server(&options);
            wss_on_upgrade(answering, on_asked, NULL);
            asking_count = 0;
            answered_at = at;
            answered_one = one;
            for (int i = 0; i < ASKING; i++) {
                clients[i] = step_connect(answering);
                CHECK_TEXT(step_ask(answering, clients[i], request), "");
            }
            CHECK_INT(asking_count, ASKING);
            wss_stop(answering, 60000);
            for (int i = 0; i < 5; i++) wss_poll(answering, 0);
            for (int i = 0; i < ASKING; i++) {
                step_receive(clients[i]);
                int refused = i == one && at < one; /* before its turn came */
                CHECK(clients[i]->size > 13);
                if (clients[i]->size > 13)
                    CHECK(strncmp(clients[i]->data, refused ? "HTTP/1.1 403 " : "HTTP/1.1 503 ", 13) == 0);
                step_free(clients[i]);
            }
            step_end(answering);
        }
    }
}

int main(void) {
    alarm(100);
    RUN(a_stop_tells_all);
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
    RUN(time_that_is_skipped);
    RUN(time_of_the_loop);
    RUN(stands_still);
    RUN(turns_by_length);
    RUN(share_of_a_turn);
    RUN(ready_are_counted);
    RUN(messages_of_a_turn);
    RUN(time_of_a_share);
    RUN(spins_before_it_sleeps);
    return test_end("loop");
}
