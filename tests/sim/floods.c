/* With options.queue a connection's place outlives its socket until its end was told. What reaches its loop in between finds
   nobody, and what others leave behind is bounded: memory for the messages, places for the connections. */
#include "kernel.h"

#include "../test.h"

/* What a message holds grows with the size of a pointer: so that as many of them are a flood everywhere. */
enum { BUDGET = (2 << 20) * (int)sizeof(void *), EMPTIES = 2700 * (int)sizeof(void *) / 8, EMPTY = 6 };

static wss_server *server;
static wss_queue *queue;
static wss_conn newest, asked;
static long connects, ends, freed, messages;
static int stops; /* the queue stops behind the disconnect of this one */
static uint64_t stops_behind;
static int order_kind, order_result;
static int mute; /* nothing is answered */

static void on_connect(const wss_event *e) {
    newest = e->conn;
    connects++;
}

static void on_end(const wss_event *e) {
    ends++;
    if (stops && e->conn.id == stops_behind) wss_queue_stop(queue);
}

/* Who asks for /wait is answered later. */
static void on_upgrade(const wss_event *e) {
    asked = e->conn;
    if (strcmp(wss_request_target(e->request), "/wait") != 0) wss_accept(e->server, e->conn, NULL, NULL, 0, NULL);
}

static void echo(const wss_event *e) {
    messages++;
    if (e->size && !mute) wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

static void count_free(void *user) {
    if (user == &freed) freed++;
}

/* ---- another thread, at one moment of a turn ---- */

static void *run(void *arg) {
    void (**function)(void) = (void (**)(void))arg;
    (*function)();
    return NULL;
}

/* This thread waits meanwhile, in the middle of what it does. */
static void elsewhere(void (*function)(void)) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, &function) != 0) abort();
    pthread_join(thread, NULL);
}

static void (*at_receive)(void);
static void (*at_send)(void);
static void (*at_allocation)(void);
static int receive_fd;

static void strike(void (**moment)(void)) {
    void (*function)(void) = *moment;
    *moment = NULL;
    if (function) elsewhere(function);
}

static void *struck_allocator(void *context, void *pointer, size_t old_size, size_t new_size) {
    if (new_size) strike(&at_allocation);
    return sim_allocator(context, pointer, old_size, new_size);
}

static ssize_t struck_recv(int fd, void *data, size_t size, int flags) {
    if (fd == receive_fd) strike(&at_receive);
    return sim_recv(fd, data, size, flags);
}

static ssize_t struck_send(int fd, const void *data, size_t size, int flags) {
    strike(&at_send);
    return sim_send(fd, data, size, flags);
}

static ssize_t struck_sendmsg(int fd, const struct msghdr *message, int flags) {
    strike(&at_send);
    return sim_sendmsg(fd, message, flags);
}

/* ---- a server and its queue ---- */

static void prepare(wss_options *options) {
    wss_options own;
    sim_begin(1);
    sim_options(options);
    options->allocator = struck_allocator;
    sim_queue_options(&own);
    queue = wss_queue_create(&own, NULL);
    options->queue = queue;
    options->user_free = count_free;
    options->ping_ms = WSS_OFF; /* so that no deadline wakes anybody */
    options->handshake_ms = WSS_OFF;
    connects = ends = freed = messages = 0;
    stops = 0;
    mute = 0;
}

static void begin(wss_options *options) {
    server = wss_create(options, NULL);
    if (!server) abort();
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_end, NULL);
    wss_on_data(server, echo, NULL);
    sim_settle(server);
}

static void finish(void) {
    CHECK_INT(sim_destroy(server), WSS_OK);
    CHECK_INT(wss_queue_destroy(queue), WSS_OK);
    CHECK_INT(connects, ends);
    sim_finish();
}

/* Turns the loops while nobody drains the queue, until nothing moves. */
static void network(void) {
    for (int quiet = 0; quiet < 2; quiet++) {
        uint64_t before = sim.progress;
        if (sim_turn(server, 0) != WSS_OK) return;
        sim_check(server);
        if (sim.progress != before) quiet = -1;
    }
}

static void turn_loop(int index) {
    wss__loop_turn(&server->loops[index], 0);
}

/* Opened while nobody drains. */
static peer *open_undrained(void) {
    peer *client = peer_connect(server->options.port);
    if (!client) abort();
    peer_text(client, PEER_REQUEST("/") "\r\n");
    network();
    CHECK_INT(peer_take_head(client), 101);
    return client;
}

static uint64_t memory(void) {
    wss_stats stats;
    wss_get_stats(server, &stats);
    return stats.memory;
}

/* ---- orders for who has gone ---- */

enum { ORDER_SEND, ORDER_TO_FULL, ORDER_CLOSE, ORDER_PAUSE, ORDER_RESUME, ORDER_ACCEPT, ORDER_REFUSE, ORDERS };

static wss_conn victim;

static void order(void) {
    switch (order_kind) {
    case ORDER_SEND:
    case ORDER_TO_FULL: order_result = wss_send_data(server, victim, WSS_TEXT, "for the dead", 12); break;
    case ORDER_CLOSE: order_result = wss_close(server, victim, 4000, "for the dead"); break;
    case ORDER_PAUSE: order_result = wss_pause(server, victim); break;
    case ORDER_RESUME: order_result = wss_resume(server, victim); break;
    case ORDER_ACCEPT: order_result = wss_accept(server, victim, NULL, NULL, 0, &freed); break;
    default: order_result = wss_refuse(server, victim, NULL); break;
    }
}

static void broadcast_and_order(void) {
    CHECK_INT(wss_broadcast_data(server, WSS_TEXT, "for all", 7), WSS_OK);
    order();
}

/* The client that the order is about, in the state in which it is accepted. */
static peer *make_victim(void) {
    static char block[1000];
    if (order_kind != ORDER_ACCEPT && order_kind != ORDER_REFUSE) {
        peer *client = peer_open(server);
        victim = newest;
        for (int i = 0; order_kind == ORDER_TO_FULL && wss_buffered(server, victim) < 4096; i++) {
            if (wss_send_data(server, victim, WSS_BINARY, block, sizeof block) != WSS_OK || i > 1000) abort();
            network();
        }
        return client;
    }
    peer *client = peer_connect(server->options.port);
    if (!client) abort();
    peer_text(client, PEER_REQUEST("/wait") "\r\n");
    sim_settle(server);
    victim = asked;
    return client;
}

static void check_order(void) {
    CHECK_INT(order_result, WSS_OK);
}

/* The order comes in behind the jobs of the turn in which the loop frees the connection: it is carried out in the next one,
   before or after the disconnect was told. The connection is freed once, the accounts are right, others are served. */
static void an_order_behind_the_end(int kind, int told) {
    wss_options options;
    prepare(&options);
    options.send_policy = WSS_POLICY_CLOSE;
    options.max_queued = 4096;
    begin(&options);
    wss_on_upgrade(server, on_upgrade, NULL);
    order_kind = kind;
    peer *helper = peer_open(server);
    wss_conn helper_conn = newest;
    peer *client = make_victim();
    long before = connects - 1;
    receive_fd = helper->fd;
    at_receive = order;
    order_result = 1;
    peer_frame(helper, 0x81, "x", 1); /* its event comes first */
    peer_reset(client);
    sim_turn(server, 0);
    check_order();
    CHECK(client->server_gone);
    if (told) while (sim_readable(wss_queue_fd(queue))) wss_queue_poll(queue, 0);
    for (int i = 0; i < 3; i++) {
        sim_turn(server, 0);
        sim_check(server);
    }
    sim_settle(server);
    CHECK_INT(ends, before);
    CHECK_INT(wss_count(server), 1);
    CHECK_INT(freed, kind == ORDER_ACCEPT);
    CHECK_INT(wss_buffered(server, victim), 0);
    CHECK_INT(wss_buffered(server, helper_conn), 0);
    CHECK_INT(wss_close(server, victim, 1000, NULL), WSS_ERR_GONE);
    CHECK_INT(peer_take(helper, NULL, 0, NULL), 0x81);
    peer *fresh = peer_open(server);
    CHECK(fresh != NULL);
    if (fresh) CHECK(peer_frame(fresh, 0x81, "hello", 5));
    sim_settle(server);
    if (fresh) CHECK_INT(peer_take(fresh, NULL, 0, NULL), 0x81);
    peer_free(fresh);
    peer_free(client);
    peer_free(helper);
    wss_stop(server, 100);
    for (int turns = 0; turns < 100 && sim_turn(server, 50) == WSS_OK; turns++) wss_queue_poll(queue, 0);
    CHECK_INT(sim_turn(server, 0), WSS_ERR_STOPPED);
    finish();
}

static void test_orders_behind_the_end(void) {
    for (int kind = 0; kind < ORDERS; kind++)
        for (int told = 0; told < 2; told++) an_order_behind_the_end(kind, told);
}

static peer *heir;

/* The disconnect is told, and the place, the only one that is free, becomes another loop's. */
static void reuse(void) {
    wss_queue_poll(queue, 0);
    for (int i = 0; i < 4; i++) turn_loop(0);
}

/* As above, and the place has a new connection of another loop: before the order is carried out (moment 0), or from the first
   memory (1) or the first bytes on that its loop then asks for or sends (2). Nothing of the old one reaches it. */
static void an_order_for_a_place_that_was_reused(int kind, int moment) {
    wss_options options;
    size_t size;
    prepare(&options);
    options.threads = 2;
    options.max_connections = 4;
    options.send_policy = WSS_POLICY_CLOSE;
    options.max_queued = 4096;
    begin(&options);
    order_kind = kind;
    peer *first[2];
    first[0] = peer_open(server); /* the other loop's, as every second one */
    peer *client = make_victim();
    uint32_t place = wss__slot_index(victim.id);
    first[1] = peer_open(server);
    peer *helper = peer_open(server);
    receive_fd = helper->fd;
    at_receive = broadcast_and_order;
    order_result = 1;
    peer_frame(helper, 0x81, "x", 1);
    peer_reset(client);
    turn_loop(1);
    check_order();
    CHECK(client->server_gone);
    for (int i = 0; i < 2; i++) peer_reset(first[i]);
    for (int i = 0; i < 3; i++) turn_loop(0);
    heir = peer_connect(server->options.port);
    if (!heir) abort();
    peer_text(heir, PEER_REQUEST("/") "\r\n");
    stops = 1; /* or the places of those two would be free as well */
    stops_behind = victim.id;
    if (moment == 1) at_allocation = reuse;
    else if (moment == 2) at_send = reuse;
    else reuse();
    for (int i = 0; i < 3; i++) turn_loop(1);
    CHECK(at_send == NULL);
    if (at_allocation) { /* none was needed */
        at_allocation = NULL;
        reuse();
    }
    sim_settle(server);
    CHECK_INT(connects, 5);
    CHECK_INT(wss__slot_index(newest.id), place);
    CHECK(newest.id != victim.id);
    CHECK_INT(peer_take_head(heir), 101);
    peer_data(heir, &size);
    CHECK_INT(size, 0);
    CHECK_INT(wss_buffered(server, newest), 0);
    CHECK(!heir->end && !heir->reset);
    CHECK(peer_frame(heir, 0x81, "hello", 5)); /* nor is it paused */
    sim_settle(server);
    CHECK_INT(peer_take(heir, NULL, 0, NULL), 0x81);
    peer_free(heir);
    peer_free(client);
    peer_free(helper);
    for (int i = 0; i < 2; i++) peer_free(first[i]);
    sim_settle(server);
    CHECK_INT(wss_count(server), 0);
    finish();
}

static void test_orders_for_a_place_that_was_reused(void) {
    for (int kind = 0; kind <= ORDER_RESUME; kind++)
        for (int moment = 0; moment < 3; moment++) an_order_for_a_place_that_was_reused(kind, moment);
}

/* ---- messages that nobody takes ---- */

static long told[3]; /* messages of a flood, of who left in order, of the bystander */
static size_t answered;

static void on_flood(const wss_event *e) {
    told[e->size == 0 ? 0 : e->size < 100 ? 1 : 2]++;
    if (e->size > 100) answered = e->size;
}

static void drain(void) {
    for (int i = 0; i < 100000 && sim_readable(wss_queue_fd(queue)); i++) {
        wss_queue_poll(queue, 0);
        network();
    }
}

static void begin_flood(wss_options *options) {
    prepare(options);
    options->memory_budget = BUDGET;
    begin(options);
    wss_on_data(server, on_flood, NULL);
    memset(told, 0, sizeof told);
    answered = 0;
}

/* Writes that many empty messages, turning the server meanwhile. */
static void write_empties(peer *client, int count) {
    char *frames = (char *)malloc((size_t)count * EMPTY);
    if (!frames) abort();
    for (int i = 0; i < count; i++) peer_encode(frames + i * EMPTY, 0x82, NULL, 0, (uint32_t)sim_random());
    peer_write(client, frames, (size_t)count * EMPTY);
    free(frames);
    network();
}

/* One client after another connects, sends small messages and resets, and nobody drains the queue. What they leave behind
   stays below a quarter of the budget; who was there is heard, who comes is let in, and what was dropped was theirs. */
static void test_one_after_another(void) {
    enum { ROUNDS = 600, ORDERLY = 5 };
    static char text[20000];
    wss_options options;
    wss_stats stats;
    begin_flood(&options);
    peer *bystander = peer_open(server);
    peer *orderly[ORDERLY];
    size_t size = 0;
    uint64_t before = memory();
    uint64_t highest = 0;
    for (int i = 0; i < ROUNDS; i++) {
        peer *client = open_undrained();
        write_empties(client, EMPTIES);
        peer_reset(client);
        network();
        peer_free(client);
        if (i % 100 == 50 && i / 100 < ORDERLY) { /* in the midst of it somebody says something and leaves */
            peer *c = orderly[i / 100] = open_undrained();
            for (int k = 0; k < 10; k++) CHECK(peer_frame(c, 0x81, "orderly", 7));
            if (i / 100 % 2) CHECK(peer_frame(c, 0x88, "\3\350", 2));
            else peer_finish(c);
            network();
        }
        if (memory() > highest) highest = memory();
        CHECK(server->undelivered <= BUDGET / 4 + 2 * (sizeof(wss__conn_notice) + 8));
    }
    /* the messages' share of the allocator is an eighth; a place, what belongs to it, and one message take less than 2 KiB */
    CHECK(highest - before < BUDGET * 5 / 8 + (ROUNDS + ORDERLY) * 2048); /* with what was received and not looked at */
    CHECK_INT(told[0] + told[1], 0);
    CHECK(peer_frame(bystander, 0x82, text, sizeof text));
    network();
    peer *late = open_undrained();
    CHECK(!bystander->end && !bystander->out.size);
    wss_get_stats(server, &stats);
    CHECK(stats.undelivered_dropped > 0);
    drain();
    wss_get_stats(server, &stats);
    CHECK_INT(answered, sizeof text);
    CHECK_INT(told[1], ORDERLY * 10); /* all of them */
    CHECK_INT(told[2], 1);
    CHECK(stats.undelivered_dropped > 0);
    CHECK_INT(told[0] + told[1] + told[2] + (long)stats.undelivered_dropped, (long)stats.messages_in);
    /* dropped only while there was too much: what was told of them alone held nearly a quarter of the budget */
    CHECK((size_t)told[0] * (sizeof(wss__conn_notice) + 1) > BUDGET / 4 - 65536);
    CHECK_INT(ends, ROUNDS + ORDERLY);
    CHECK_INT(peer_take(bystander, NULL, 0, &size), 0x82);
    CHECK_INT(size, sizeof text);
    CHECK(!bystander->end);
    /* now that it has caught up nobody is held back, and nothing is dropped any more */
    uint64_t dropped = stats.undelivered_dropped;
    long empties = told[0];
    write_empties(late, EMPTIES);
    peer_reset(late);
    network();
    drain();
    wss_get_stats(server, &stats);
    CHECK_INT(stats.undelivered_dropped, dropped);
    CHECK(told[0] > empties);
    for (int i = 0; i < ORDERLY; i++) peer_free(orderly[i]);
    peer_free(late);
    peer_free(bystander);
    sim_settle(server);
    CHECK_INT(wss_count(server), 0);
    CHECK_INT(server->undelivered, 0);
    finish();
}

/* The same, and each reset arrives together with what was sent before it. What was received is kept to be delivered; but once
   there is too much of all, who has gone holds no place, no socket and no input back. */
static void test_reset_together_with_the_messages(void) {
    enum { ROUNDS = 600 };
    char frames[EMPTY];
    wss_options options;
    begin_flood(&options);
    peer *bystander = peer_open(server);
    uint64_t before = memory();
    uint64_t highest = 0;
    int gone = 0;
    for (int i = 0; i < ROUNDS; i++) {
        peer *client = open_undrained();
        for (int k = 0; k < EMPTIES; k++) peer_write(client, frames, peer_encode(frames, 0x82, NULL, 0, (uint32_t)k));
        peer_reset(client);
        network();
        gone += client->server_gone;
        CHECK(server->undelivered <= BUDGET / 4 + 2 * (sizeof(wss__conn_notice) + 8));
        peer_free(client);
        if (memory() > highest) highest = memory();
    }
    CHECK(gone > ROUNDS / 4 && gone < ROUNDS);
    CHECK(highest - before < BUDGET / 2 + ROUNDS * 2048);
    CHECK((int)wss_count(server) <= 1 + ROUNDS - gone);
    peer_free(open_undrained());
    CHECK(!bystander->end);
    drain();
    CHECK_INT(ends, ROUNDS + 1);
    peer_free(bystander);
    sim_settle(server);
    finish();
}

/* Of one connection 64 messages are under way, however small. The rest waits in the network, and comes in order when those
   were told: nothing else has to happen for it. */
static void test_few_under_way(void) {
    enum { CLIENTS = 3, SENT = 500 };
    peer *clients[CLIENTS];
    wss_options options;
    wss_stats stats;
    begin_flood(&options);
    for (int i = 0; i < CLIENTS; i++) clients[i] = open_undrained();
    for (int i = 0; i < CLIENTS; i++) {
        write_empties(clients[i], SENT);
        CHECK(peer_frame(clients[i], 0x81, "behind them", 11));
        network();
        wss_get_stats(server, &stats);
        CHECK_INT(stats.messages_in, (i + 1) * WSS__CONN_UNDELIVERED);
    }
    for (int batches = 0; batches < 1000 && told[1] < CLIENTS; batches++) {
        long before = told[0];
        wss_queue_poll(queue, 0);
        CHECK(told[0] - before <= CLIENTS * WSS__CONN_UNDELIVERED);
        CHECK(told[0] > before || told[1] == CLIENTS);
        network();
    }
    CHECK_INT(told[0], CLIENTS * SENT);
    CHECK_INT(told[1], CLIENTS);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.undelivered_dropped, 0);
    for (int i = 0; i < CLIENTS; i++) {
        CHECK_INT(peer_take(clients[i], NULL, 0, NULL), 0x81);
        peer_free(clients[i]);
    }
    sim_settle(server);
    finish();
}

/* There is too much of all together: each has one message under way and no more, whoever ends in good order loses none, and
   when it was told all are read again, whatever the others still hold. */
static void test_one_each_while_flooded(void) {
    enum { HOGS = 6, CLIENTS = 20, SENT = 30 };
    static char block[65536];
    peer *hogs[HOGS];
    peer *clients[CLIENTS];
    wss_options options;
    wss_stats stats;
    prepare(&options);
    options.memory_budget = BUDGET;
    options.max_queued = 4 << 20;
    begin(&options);
    mute = 1;
    wss_on_data(server, on_flood, NULL);
    memset(told, 0, sizeof told);
    for (int i = 0; i < HOGS; i++) hogs[i] = open_undrained();
    for (int i = 0; i < CLIENTS; i++) clients[i] = open_undrained();
    for (int i = 0; i < HOGS; i++)
        for (int k = 0; k < 30; k++) {
            CHECK(peer_frame(hogs[i], 0x82, block, sizeof block));
            network();
        }
    wss_get_stats(server, &stats);
    uint64_t large = stats.messages_in;
    CHECK(large * sizeof block > BUDGET / 4 - sizeof block); /* a quarter, and one of each that came later */
    CHECK(large * sizeof block < BUDGET / 4 + HOGS * sizeof block + sizeof block);
    for (int i = 0; i < CLIENTS; i++) {
        for (int k = 0; k < SENT; k++) CHECK(peer_frame(clients[i], 0x81, "orderly", 7));
        if (i % 2) CHECK(peer_frame(clients[i], 0x88, "\3\350", 2));
        peer_finish(clients[i]);
        network();
        wss_get_stats(server, &stats);
        CHECK_INT(stats.messages_in, large + (uint64_t)i + 1);
    }
    drain();
    CHECK_INT(told[1], CLIENTS * SENT);
    CHECK_INT(told[2], HOGS * 30);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.undelivered_dropped, 0);
    CHECK_INT(ends, CLIENTS);
    for (int i = 0; i < CLIENTS; i++) peer_free(clients[i]);
    for (int i = 0; i < HOGS; i++) peer_free(hogs[i]);
    sim_settle(server);
    CHECK_INT(server->undelivered, 0);
    finish();
}

/* Clients send large messages and reset, or leave in good order, and the queue's thread takes nothing, or has taken a batch and
   is held up in its first event. The sum stays below its limit and a message, whatever else: who comes is let in, who was there
   stays, and is heard in the end. What was left in good order is delivered. */
static int drain_inside; /* the next message's handler lets all this happen */
static void (*meanwhile)(void);

static void on_large(const wss_event *e) {
    told[e->size > 100000 ? 0 : 2]++;
    if (!drain_inside) return;
    drain_inside = 0;
    elsewhere(meanwhile); /* it is another thread that turns the network */
}

/* Messages are as large on each system, and so is what is kept for them. */
enum { LARGE = 300000, STRANGERS = 120, LARGE_BUDGET = 16 << 20 };

static peer *large_bystander;
static int large_resets;

static void strangers_come_and_go(void) {
    static char block[LARGE];
    static char text[5000];
    uint64_t limit = LARGE_BUDGET / 4 + LARGE_BUDGET / 16 + LARGE + 4096;
    peer *leaving[STRANGERS];
    int count = 0;
    for (int i = 0; i < STRANGERS; i++) {
        peer *c = open_undrained();
        CHECK(peer_frame(c, 0x82, block, sizeof block));
        network();
        if (large_resets) peer_reset(c);
        else peer_finish(c);
        network();
        CHECK(server->undelivered <= (large_resets ? LARGE_BUDGET / 4 + LARGE + 4096 : limit));
        CHECK(memory() < LARGE_BUDGET * 3 / 4);
        leaving[count++] = c;
    }
    CHECK(peer_frame(large_bystander, 0x82, text, sizeof text));
    network();
    peer_free(open_undrained());
    CHECK(!large_bystander->end && !large_bystander->reset);
    for (int i = 0; i < count; i++) peer_free(leaving[i]);
}

static void test_large_messages_left_behind(void) {
    for (int way = 0; way < 8; way++) {
        wss_options options;
        wss_stats stats;
        int inside = way & 2;
        prepare(&options);
        options.memory_budget = LARGE_BUDGET;
        options.threads = way & 4 ? 2 : 1;
        options.max_connections = STRANGERS * 2;
        begin(&options);
        mute = 1;
        wss_on_data(server, on_large, NULL);
        memset(told, 0, sizeof told);
        large_resets = way & 1;
        large_bystander = peer_open(server);
        meanwhile = strangers_come_and_go;
        drain_inside = inside;
        if (inside) {
            static char first[10];
            CHECK(peer_frame(large_bystander, 0x82, first, sizeof first));
            network();
            wss_queue_poll(queue, 0);
        } else {
            strangers_come_and_go();
        }
        drain();
        wss_get_stats(server, &stats);
        CHECK_INT(stats.undelivered, 0);
        CHECK_INT(told[2], inside ? 2 : 1);
        if (large_resets) CHECK(stats.undelivered_dropped > 0);
        if (!large_resets) CHECK_INT(stats.undelivered_dropped, 0);
        if (!large_resets) CHECK_INT(told[0], STRANGERS);
        CHECK_INT(told[0] + told[2] + (long)stats.undelivered_dropped, (long)stats.messages_in);
        CHECK_INT(stats.closes[WSS_CAUSE_PRESSURE] + stats.closes[WSS_CAUSE_MEMORY], 0);
        CHECK_INT(wss_count(server), 1);
        peer_free(large_bystander);
        sim_settle(server);
        finish();
    }
}

static peer *leaver;

static void much_waits_when_one_resets(void) {
    static char block[LARGE];
    peer *c[STRANGERS];
    int count = 0;
    while (server->undelivered <= LARGE_BUDGET / 4 && count < STRANGERS) {
        c[count] = open_undrained();
        CHECK(peer_frame(c[count++], 0x82, block, sizeof block));
        network();
    }
    CHECK(server->undelivered > LARGE_BUDGET / 4);
    peer_reset(leaver);
    network();
    for (int i = 0; i < count; i++) peer_finish(c[i]);
    for (int i = 0; i < count; i++) peer_free(c[i]);
}

/* What was taken with a batch cannot be called back any more: it is dropped when its turn comes, and counted. */
static void test_reset_behind_a_batch(void) {
    static char block[LARGE];
    wss_options options;
    wss_stats stats;
    prepare(&options);
    options.memory_budget = LARGE_BUDGET;
    begin(&options);
    mute = 1;
    wss_on_data(server, on_large, NULL);
    memset(told, 0, sizeof told);
    peer *first = peer_open(server);
    leaver = open_undrained();
    drain();
    CHECK(peer_frame(first, 0x82, block, 10));
    CHECK(peer_frame(leaver, 0x82, block, sizeof block));
    network();
    meanwhile = much_waits_when_one_resets;
    drain_inside = 1;
    wss_queue_poll(queue, 0);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.undelivered_dropped, 1);
    drain();
    wss_get_stats(server, &stats);
    CHECK_INT(told[0] + told[2] + 1, (long)stats.messages_in);
    CHECK_INT(stats.undelivered, 0);
    peer_free(leaver);
    peer_free(first);
    sim_settle(server);
    finish();
}

/* Who has nothing under way waits where too much is, on each loop, and all go on when less is: nothing else has to happen. */
static void test_held_until_less_is_undelivered(void) {
    enum { CLIENTS = 60 };
    static char block[LARGE];
    peer *clients[CLIENTS];
    for (int threads = 1; threads <= 3; threads++) {
        wss_options options;
        wss_stats stats;
        prepare(&options);
        options.memory_budget = LARGE_BUDGET;
        options.threads = threads;
        begin(&options);
        mute = 1;
        wss_on_data(server, on_large, NULL);
        memset(told, 0, sizeof told);
        for (int i = 0; i < CLIENTS; i++) clients[i] = open_undrained();
        for (int i = 0; i < CLIENTS; i++) {
            CHECK(peer_frame(clients[i], 0x82, block, sizeof block));
            network();
        }
        wss_get_stats(server, &stats);
        uint64_t taken = stats.messages_in;
        CHECK(taken * LARGE > LARGE_BUDGET / 4 + LARGE_BUDGET / 16 - LARGE && taken * LARGE < LARGE_BUDGET / 4 + LARGE_BUDGET / 16 + LARGE * 2);
        CHECK(stats.paused >= CLIENTS - taken);
        CHECK(taken < CLIENTS / 2);
        for (int i = 0; i < 10; i++) network();
        wss_get_stats(server, &stats);
        CHECK_INT(stats.messages_in, taken);
        drain();
        CHECK_INT(told[0], CLIENTS);
        wss_get_stats(server, &stats);
        CHECK_INT(stats.paused, 0);
        for (int i = 0; i < CLIENTS; i++) peer_free(clients[i]);
        sim_settle(server);
        finish();
    }
}

/* ---- places ---- */

/* Everybody has left, but nobody was told: whoever comes now waits, closed by no one, and is served when the first place is
   free. No deadline is needed for it, the loop is woken. */
static void waits_for_a_place(int threads) {
    enum { PLACES = 10 };
    wss_options options;
    wss_stats stats;
    prepare(&options);
    options.max_connections = PLACES;
    options.threads = threads;
    begin(&options);
    for (int i = 0; i < PLACES; i++) {
        peer *client = open_undrained();
        peer_reset(client);
        network();
        peer_free(client);
    }
    peer *late = peer_connect(server->options.port);
    if (!late) abort();
    peer_text(late, PEER_REQUEST("/") "\r\n");
    network();
    CHECK(late->listener >= 0 && !late->server_gone); /* it waits to be accepted */
    wss_get_stats(server, &stats);
    CHECK_INT(stats.accepted, PLACES);
    CHECK_INT(stats.accept_failures, 0);
    stops = 1;
    stops_behind = 0;
    for (int i = 0; i < 100 && ends == 0; i++) wss_queue_poll(queue, 0);
    CHECK_INT(ends, PLACES);
    CHECK(sim_readable(server->loops[0].epoll)); /* whoever sleeps there wakes up */
    turn_loop(0);
    for (int i = 0; i < 3 && sim_readable(server->loops[0].epoll); i++) turn_loop(0);
    CHECK(late->listener < 0);
    network();
    CHECK_INT(peer_take_head(late), 101);
    CHECK(peer_frame(late, 0x81, "hello", 5));
    network();
    wss_queue_poll(queue, 0);
    network();
    CHECK_INT(peer_take(late, NULL, 0, NULL), 0x81);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.accept_failures, 0);
    peer_free(late);
    sim_settle(server);
    finish();
}

static void test_waits_for_a_place(void) {
    for (int threads = 1; threads <= 3; threads++) waits_for_a_place(threads);
}

int main(void) {
    alarm(100);
    test_system.recv = struck_recv;
    test_system.send = struck_send;
    test_system.sendmsg = struck_sendmsg;
    RUN(test_orders_behind_the_end);
    RUN(test_orders_for_a_place_that_was_reused);
    RUN(test_one_after_another);
    RUN(test_reset_together_with_the_messages);
    RUN(test_few_under_way);
    RUN(test_one_each_while_flooded);
    RUN(test_large_messages_left_behind);
    RUN(test_reset_behind_a_batch);
    RUN(test_held_until_less_is_undelivered);
    RUN(test_waits_for_a_place);
    return test_end("floods");
}
