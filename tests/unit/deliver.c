/* Unit tests of [deliver]: events and timers on their way to a queue's thread while something happens to what they are about:
   a cancelled timer does not ring, a connection that has gone gets nothing more, and each place is given back once. */
#include "../step.h"

static wss_queue *queue;
static wss_conn conn;
static int messages;
static int drains;
static int ends;
static int rings;
static size_t last_size;

static void on_connect(const wss_event *e) {
    conn = e->conn;
}

static void on_data(const wss_event *e) {
    CHECK_INT(e->data[e->size], 0);
    last_size = e->size;
    messages++;
}

static void on_drain(const wss_event *e) {
    (void)e;
    drains++;
}

static void on_end(const wss_event *e) {
    (void)e;
    ends++;
}

static void on_ring(const wss_event *e) {
    CHECK(e->context == (void *)&rings);
    rings++;
}

static int posted;

static void count_post(void *arg) {
    (void)arg;
    posted++;
}

static wss_server *serve(wss_options *options) {
    wss_error why;
    wss_options own;
    memset(&own, 0, sizeof own);
    own.allocator = step_allocator;
    messages = 0;
    drains = 0;
    ends = 0;
    rings = 0;
    queue = wss_queue_create(&own, &why);
    if (!queue) abort();
    options->queue = queue;
    wss_server *server = step_server(options);
    wss_on_connect(server, on_connect, NULL);
    wss_on_data(server, on_data, NULL);
    wss_on_drain(server, on_drain, NULL);
    wss_on_disconnect(server, on_end, NULL);
    return server;
}

static void drain_queue(void) {
    while (queue->inbox.waiting.first) {
        int result = wss_queue_poll(queue, 0);
        CHECK(result == WSS_OK || result == WSS_ERR_STOPPED); /* stopped: a server's end was among them */
    }
}

static step_client *open_client(wss_server *server) {
    step_client *client = step_open(server);
    drain_queue();
    return client;
}

static void end(wss_server *server) {
    int result = wss_destroy(server);
    CHECK_INT(result, WSS_OK);
    CHECK_INT(wss_queue_destroy(queue), WSS_OK);
    CHECK_INT(step_bytes, 0);
}

static size_t timers_in_use(const wss_server *server) {
    size_t count = 0;
    for (uint32_t i = 0; i < server->timers.made; i++)
        count += (wss__slot_at(&server->timers, i)->word & WSS__SLOT_STATE) != WSS__SLOT_FREE;
    return count;
}

/* ---- timers ---- */

/* The queue is not drained: of a repeating timer one event is under way, not one for each time it was due. */
static void one_event_of_a_timer_at_once(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    CHECK(wss_timer_start(server, 10, 10, on_ring, &rings).id != 0);
    step(server);
    for (int i = 0; i < 20; i++) step_time(server, 10);
    CHECK_INT(rings, 0);
    drain_queue();
    CHECK_INT(rings, 1);
    step_time(server, 10);
    drain_queue();
    CHECK_INT(rings, 2);
    end(server);
}

/* Cancelled while its event is under way: it does not ring, and its place is free afterwards. */
static void cancelled_on_its_way(void) {
    for (int repeat = 0; repeat <= 10; repeat += 10) {
        for (int told = 0; told <= 1; told++) { /* whether the loop hears of it before the event is delivered */
            wss_options options = {0};
            wss_server *server = serve(&options);
            wss_timer timer = wss_timer_start(server, 10, repeat, on_ring, &rings);
            CHECK(timer.id != 0);
            step(server);
            step_time(server, 10);
            CHECK(queue->inbox.waiting.first != NULL);
            CHECK_INT(wss_timer_cancel(server, timer), WSS_OK);
            CHECK_INT(wss_timer_cancel(server, timer), WSS_ERR_GONE);
            if (told) step(server);
            drain_queue();
            step(server);
            CHECK_INT(rings, 0);
            CHECK_INT(timers_in_use(server), 0);
            step_time(server, 1000);
            drain_queue();
            CHECK_INT(rings, 0);
            end(server);
        }
    }
}

/* The same, and there is no memory to tell the loop: it finds out when the timer is due again. */
static void cancelled_without_memory_on_its_way(void) {
    for (int drained = 0; drained <= 1; drained++) { /* whether the event is delivered before the timer is due again */
        wss_options options = {0};
        wss_server *server = serve(&options);
        wss_timer timer = wss_timer_start(server, 10, 10, on_ring, &rings);
        step(server);
        step_time(server, 10);
        step_fail_in = 1;
        CHECK_INT(wss_timer_cancel(server, timer), WSS_OK);
        step_fail_in = 0;
        if (drained) drain_queue();
        step_time(server, 10);
        drain_queue();
        CHECK_INT(rings, 0);
        CHECK_INT(timers_in_use(server), 0);
        step_time(server, 1000);
        drain_queue();
        CHECK_INT(rings, 0);
        end(server);
    }
}

/* Cancelled before the loop has heard that it was started. */
static void cancelled_before_it_began(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss_timer timer = wss_timer_start(server, 10, 0, on_ring, &rings);
    CHECK_INT(wss_timer_cancel(server, timer), WSS_OK);
    step(server);
    CHECK_INT(timers_in_use(server), 0);
    step_time(server, 1000);
    drain_queue();
    CHECK_INT(rings, 0);
    end(server);
}

/* ---- messages ---- */

static void empty_messages(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *client = open_client(server);
    last_size = 99;
    step_frame(server, client, 0x82, "", 0);
    step_frame(server, client, 0x81, "", 0);
    drain_queue();
    CHECK_INT(messages, 2);
    CHECK_INT(last_size, 0);
    step_free(client);
    step(server);
    drain_queue();
    end(server);
}

/* Events wait, the connection is paused for it, and the server stops: the word that they were delivered finds no loop. */
static void delivered_behind_the_stop(void) {
    static char block[2000];
    wss_options options = {0};
    options.max_queued = 10000;
    wss_server *server = serve(&options);
    step_client *client = open_client(server);
    for (int i = 0; i < 20; i++) step_frame(server, client, 0x82, block, sizeof block);
    wss__conn *c = wss__conn_find(server, conn);
    CHECK(c->work & WSS__WORK_FULL);
    wss_stop(server, 0);
    step(server);
    CHECK_INT(server->loops[0].inbox.closed, 1);
    drain_queue();
    CHECK(messages > 0);
    CHECK_INT(ends, 1);
    step_free(client);
    end(server);
}

/* What was paused because its events waited is read again when they have been handled. */
static void resumed_when_delivered(void) {
    static char block[2000];
    wss_options options = {0};
    options.max_queued = 10000;
    wss_server *server = serve(&options);
    step_client *client = open_client(server);
    for (int i = 0; i < 40; i++) step_frame(server, client, 0x82, block, sizeof block);
    CHECK(wss__conn_find(server, conn)->work & WSS__WORK_FULL);
    for (int i = 0; i < 100 && messages < 40; i++) {
        drain_queue();
        step(server);
    }
    CHECK_INT(messages, 40);
    CHECK(!(wss__conn_find(server, conn)->work & WSS__WORK_FULL));
    step_free(client);
    step(server);
    drain_queue();
    CHECK_INT(ends, 1);
    end(server);
}

static char rung[64];

static void on_ring_noted(const wss_event *e) {
    snprintf(rung + strlen(rung), sizeof rung - strlen(rung), "%s", (const char *)e->context);
}

static char name_a[] = "A";
static char name_b[] = "B";

/* Those due in the same millisecond ring in the order in which they were started, also when that was weeks ago. One that
   repeats is started anew each time it rings. */
static void order_of_timers(void) {
    const long long day = 86400000;
    wss_options options = {0};
    wss_server *server = step_server(&options);
    rung[0] = 0;
    CHECK(wss_timer_start(server, 20, 20, on_ring_noted, name_a).id != 0);
    CHECK(wss_timer_start(server, 40, 40, on_ring_noted, name_b).id != 0);
    for (int i = 0; i < 80; i++) step_time(server, 1);
    CHECK_TEXT(rung, "ABAABA");
    step_end(server);
    for (int days = 13; days <= 60; days += 47) {
        server = step_server(&options);
        rung[0] = 0;
        CHECK(wss_timer_start(server, days * day, 0, on_ring_noted, name_a).id != 0);
        step(server);
        step_time(server, day);
        CHECK(wss_timer_start(server, (days - 1) * day, 0, on_ring_noted, name_b).id != 0);
        for (int i = 0; i < 24 * (days - 1); i++) step_time(server, 3600000);
        CHECK_TEXT(rung, "AB");
        step_end(server);
    }
}

/* ---- drain ---- */

/* Fills the connection's queue beyond its half, lets the client read all of it, and leaves the drain event under way. */
static void make_drain_event(wss_server *server, step_client *client) {
    static char block[65536];
    for (int i = 0; i < 10000 && wss_buffered(server, conn) < 3 * server->options.max_queued / 4; i++) {
        wss_send_data(server, conn, WSS_BINARY, block, sizeof block);
        wss_poll(server, 0);
    }
    CHECK(wss_buffered(server, conn) >= 3 * server->options.max_queued / 4);
    for (int i = 0; i < 1000 && !queue->inbox.waiting.first; i++) {
        struct pollfd ready = {client->fd, POLLIN, 0};
        poll(&ready, 1, 100);
        client->size = 0;
        while (step_receive(client)) client->size = 0;
        step(server);
    }
    CHECK(queue->inbox.waiting.first != NULL);
}

static void drained(void) {
    wss_options options = {0};
    options.max_queued = 400000;
    wss_server *server = serve(&options);
    step_client *client = open_client(server);
    make_drain_event(server, client);
    drain_queue();
    CHECK_INT(drains, 1);
    step_free(client);
    step(server);
    drain_queue();
    end(server);
}

/* Nobody is asked to send more to a connection that was closed meanwhile. */
static void drained_and_closed(void) {
    wss_options options = {0};
    options.max_queued = 400000;
    wss_server *server = serve(&options);
    step_client *client = open_client(server);
    make_drain_event(server, client);
    CHECK_INT(wss_close(server, conn, 1000, NULL), WSS_OK);
    drain_queue();
    CHECK_INT(drains, 0);
    step_free(client);
    step(server);
    drain_queue();
    CHECK_INT(ends, 1);
    end(server);
}

/* The event finds no memory: it stays due and comes when there is some again, although nothing else happens. */
static void drained_without_memory(void) {
    wss_options options = {0};
    options.max_queued = 400000;
    wss_server *server = serve(&options);
    step_client *client = open_client(server);
    wss__conn *c = wss__conn_find(server, conn);
    wss__pause_set_crowded(&server->loops[0], c);
    wss__conn_make_ready(&server->loops[0], c);
    step_fail_in = 1;
    step_fail_on = 1;
    step(server);
    CHECK(step_failed > 0);
    CHECK(queue->inbox.waiting.first == NULL);
    CHECK(c->work & WSS__WORK_CROWDED);
    CHECK_INT(server->loops[0].shared.stats.crowded, 1);
    step_fail_in = 0;
    step_fail_on = 0;
    step_time(server, WSS__CONN_RETRY + WSS__CONN_STEP);
    CHECK(!(c->work & WSS__WORK_CROWDED));
    CHECK_INT(server->loops[0].shared.stats.crowded, 0);
    drain_queue();
    CHECK_INT(drains, 1);
    step_time(server, 1000);
    drain_queue();
    CHECK_INT(drains, 1);
    step_free(client);
    step(server);
    drain_queue();
    end(server);
}

/* ---- servers of one queue ---- */

/* One server is destroyed while events, and the end, of another wait in the queue: those stay there, in their order. */
static void destroyed_beside_another(void) {
    wss_options options = {0};
    wss_options others = {0};
    wss_server *server = serve(&options);
    others.queue = queue;
    wss_server *other = step_server(&others);
    wss_on_data(other, on_data, NULL);
    step_client *client = step_open(other);
    step_frame(other, client, 0x82, "first", 5);
    wss_stop(other, 0);
    for (int i = 0; i < 3; i++) step(other);
    CHECK_INT(other->ended, 1);
    CHECK_INT(wss_queue_post(queue, count_post, NULL), WSS_OK);
    CHECK_INT(messages, 0);
    CHECK_INT(wss_destroy(server), WSS_OK);
    CHECK_INT(messages, 0);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_ERR_STOPPED);
    CHECK_INT(messages, 1);
    CHECK_INT(posted, 1);
    step_free(client);
    end(other);
}

int main(void) {
    alarm(100);
    RUN(order_of_timers);
    RUN(one_event_of_a_timer_at_once);
    RUN(cancelled_on_its_way);
    RUN(cancelled_without_memory_on_its_way);
    RUN(cancelled_before_it_began);
    RUN(empty_messages);
    RUN(delivered_behind_the_stop);
    RUN(resumed_when_delivered);
    RUN(drained);
    RUN(drained_and_closed);
    RUN(drained_without_memory);
    RUN(destroyed_beside_another);
    return test_end("deliver");
}
