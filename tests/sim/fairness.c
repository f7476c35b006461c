/* Whatever the others do: between the message of one client and its reply at most 128 messages of each other client are
   handled, and each receiver of broadcasts is sent to so many times as is said below. Counted on the kernel in memory, no time
   is measured; handlers are slow by moving the clock. And in the midst of it wss_stats tells the truth. */
#define SIM_FILES 4096
#define SIM_PEERS 4096
#include "kernel.h"

#include "../test.h"

enum { CLIENTS = 2100, SHARE = 128, CHECKED = 16 /* messages between two looks at the clock */, ASKS = 4, KINDS_OF_TURNS = 6 };

typedef struct client {
    peer *peer;
    wss_conn conn;
    long messages;     /* handled since the victim has asked, */
    long sends;        /* and sends to it */
    uint64_t received; /* the last turn in which it was received from, */
    uint64_t visited;  /* and in which messages of it were handled */
    long visit;        /* how many were */
} client;

static wss_server *server;
static wss_queue *queue;
static client clients[CLIENTS]; /* the first is the victim, the next ones flood, the others read */
static int count, flooders;
static int of_fd[SIM_FIRST + SIM_FILES]; /* whose descriptor it is, plus 1 */
static wss_conn newest;
static char text[20000];
static char poured[120000]; /* messages of who floods */
static size_t poured_size;

/* ---- what is counted ---- */

enum { QUIET, ASKED, HANDLED }; /* QUIET: or the reply has left */

static int asking;
static int midst;          /* in how many messages the victim asks */
static uint64_t turn_number;
static int visiting;       /* who was served last in this turn */
static long most_messages, most_sends, most_visit, waited_turns, turns_now;
static uint64_t handler_us;

static long counted_turns[KINDS_OF_TURNS]; /* as wss_stats should have them */
static uint64_t longest;

static ssize_t noted_recv(int fd, void *data, size_t size, int flags) {
    client *c = of_fd[fd] ? &clients[of_fd[fd] - 1] : NULL;
    if (c) CHECK(c->received != turn_number); /* nobody is served twice in a turn */
    if (c) c->received = turn_number;
    return sim_recv(fd, data, size, flags);
}

static void note_send(int fd) {
    int who = of_fd[fd] - 1;
    if (who == 0 && asking == HANDLED) {
        for (int i = 1; i < count; i++) {
            if (clients[i].messages > most_messages) most_messages = clients[i].messages;
            if (clients[i].sends > most_sends) most_sends = clients[i].sends;
        }
        asking = QUIET;
    }
    if (who > 0 && asking) clients[who].sends++;
}

static ssize_t noted_send(int fd, const void *data, size_t size, int flags) {
    note_send(fd);
    return sim_send(fd, data, size, flags);
}

static ssize_t noted_sendmsg(int fd, const struct msghdr *message, int flags) {
    note_send(fd);
    return sim_sendmsg(fd, message, flags);
}

static void ask(void) {
    for (int i = 0; i < count; i++) clients[i].messages = clients[i].sends = 0;
    asking = ASKED;
    turns_now = 0;
    peer_frame(clients[0].peer, 0x82, "?", 1);
}

/* Without a queue those of one client come in one go. */
static void count_message(int who) {
    client *c = &clients[who];
    if (!queue && visiting != who) {
        CHECK(c->visited != turn_number);
        c->visit = 0;
    }
    visiting = who;
    c->visited = turn_number;
    c->messages++;
    if (!queue && ++c->visit > most_visit) most_visit = c->visit;
    if (who > 0 && midst && --midst == 0) ask();
}

/* ---- the server ---- */

static void (*reply)(const wss_event *e);

static void ignore(const wss_event *e) {
    (void)e;
}

static void on_connect(const wss_event *e) {
    newest = e->conn;
}

static void on_data(const wss_event *e) {
    int who = (int)(intptr_t)e->user - 1;
    sim.now += handler_us;
    if (who < 0 || !count) return;
    count_message(who);
    if (who > 0 || reply == ignore) {
        if (!queue) CHECK(asking != HANDLED); /* a reply leaves before the next client is served */
        reply(e);
        return;
    }
    asking = HANDLED;
    CHECK_INT(wss_send_data(e->server, e->conn, e->opcode, e->data, e->size), WSS_OK);
}

static void echo(const wss_event *e) {
    wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

static void cast(const wss_event *e) {
    wss_broadcast_data(e->server, e->opcode, e->data, e->size);
}

static void cast_except(const wss_event *e) {
    wss_broadcast_data_except(e->server, e->conn, e->opcode, e->data, e->size);
}

static void cast_keyed(const wss_event *e) {
    char key[32];
    static int number;
    snprintf(key, sizeof key, "key %d", ++number % 10);
    wss_broadcast_latest(e->server, key, "state", wss_json("{}"));
}

/* Counts the turn as wss_stats should. */
static void turn(void) {
    static const uint64_t most[] = {1, 4, 16, 64, 256};
    uint64_t before = sim.now / 1000;
    size_t kind = 0;
    turn_number++;
    turns_now++;
    visiting = -1;
    wss__loop_turn(&server->loops[0], 0);
    uint64_t took = sim.now / 1000 - before;
    while (kind < KINDS_OF_TURNS - 1 && took > most[kind]) kind++;
    counted_turns[kind]++;
    if (took > longest) longest = took;
}

static void prepare(wss_options *options, int with_queue) {
    wss_options own;
    sim_begin(1);
    sim_options(options);
    sim_queue_options(&own);
    queue = with_queue ? wss_queue_create(&own, NULL) : NULL;
    options->queue = queue;
    options->ping_ms = WSS_OFF;
    memset(of_fd, 0, sizeof of_fd);
    memset(counted_turns, 0, sizeof counted_turns);
    turn_number = longest = 0;
    most_messages = most_sends = most_visit = waited_turns = 0;
    asking = QUIET;
    midst = 0;
    handler_us = 0;
    count = 0;
}

static void begin(const wss_options *options) {
    server = wss_create(options, NULL);
    if (!server) abort();
    wss_on_connect(server, on_connect, NULL);
    wss_on_data(server, on_data, NULL);
    wss__server_begin(server);
    server->running = 1;
}

static void drain(void) {
    while (queue && sim_readable(wss_queue_fd(queue))) wss_queue_poll(queue, 0);
}

static void come(int who) {
    client *c = &clients[who];
    memset(c, 0, sizeof *c);
    c->peer = peer_connect(server->options.port);
    if (!c->peer) abort();
    peer_text(c->peer, PEER_REQUEST("/") "\r\n");
    for (int i = 0; i < 3; i++) turn();
    drain();
    CHECK_INT(peer_take_head(c->peer), 101);
    c->conn = newest;
    of_fd[c->peer->fd] = who + 1;
    CHECK_INT(wss_set_user(server, newest, (void *)(intptr_t)(who + 1)), WSS_OK);
}

static void check_turns(void) {
    wss_stats stats;
    wss_get_stats(server, &stats);
    for (int i = 0; i < KINDS_OF_TURNS; i++) CHECK_INT(stats.turns[i], counted_turns[i]);
    CHECK_INT(stats.loop_lag_ms, longest);
}

static void end(void) {
    check_turns();
    for (int i = 0; i < count; i++) peer_free(clients[i].peer);
    memset(of_fd, 0, sizeof of_fd);
    count = 0;
    sim_settle(server);
    CHECK_INT(wss_destroy(server), WSS_OK);
    if (queue) CHECK_INT(wss_queue_destroy(queue), WSS_OK);
    queue = NULL;
    sim_finish();
}

/* ---- a victim beside floods ---- */

typedef struct flood {
    const char *name;
    void (*reply)(const wss_event *e);
    int flooders;
    int readers;
    int size;       /* of the messages of a flood */
    int handler_us;
    int queued;
    long visit;     /* messages of one client in a turn, at most */
    long sends;     /* to one receiver until the reply leaves, at most, asked between two turns */
} flood;

/* A turn that is full of broadcasts ends early, and those who were not served come first in the next: so what floods by
   broadcasts has as many turns as there are others that do, and each of them sends once to each receiver. */
static const flood floods[] = {
    {"50 echo clients", echo, 50, 0, 20, 0, 0, SHARE, 1},
    {"50 echo clients, larger messages", echo, 50, 0, 3000, 0, 0, SHARE, 2},
    {"50 echo clients, handlers of 100 us", echo, 50, 0, 20, 100, 0, CHECKED, 1},
    {"50 echo clients, handlers of 20 ms", echo, 50, 0, 20, 20000, 0, CHECKED, 1},
    {"1 echo client, handlers of 100 us", echo, 1, 0, 20, 100, 0, CHECKED, 1},
    {"a broadcast to 2,000", cast, 1, 2000, 20, 0, 0, SHARE, 1},
    {"a broadcast to 200, 600 bytes", cast, 1, 200, 600, 0, 0, SHARE, 1},
    {"a broadcast to 100, 20,000 bytes", cast, 1, 100, 20000, 0, 0, SHARE, 2},
    {"20 broadcasts to 100, 600 bytes", cast, 20, 100, 600, 0, 0, SHARE, 20},
    {"a broadcast to 2,000 but one", cast_except, 1, 2000, 20, 0, 0, SHARE, 2},
    {"8 broadcasts to 2,000 but one", cast_except, 8, 2000, 20, 0, 0, SHARE, 9},
    {"a broadcast with a key to 2,000", cast_keyed, 1, 2000, 20, 0, 0, SHARE, 2},
    {"50 echo clients, with a queue", echo, 50, 0, 20, 0, 1, SHARE, 3},
    {"5 broadcasts to 100, with a queue", cast, 5, 100, 20, 0, 1, SHARE, 3},
};
enum { FLOODS = sizeof floods / sizeof floods[0] };

/* The flooders come first, so that they are ahead of the victim in each turn. */
static void gather(const flood *f) {
    wss_options options;
    prepare(&options, f->queued);
    options.memory_budget = WSS_UNLIMITED;
    sim.out_limit = (size_t)1 << 20; /* all read what is sent to them */
    begin(&options);
    count = 1 + f->flooders + f->readers;
    flooders = f->flooders;
    for (int i = 1; i < count; i++) come(i);
    come(0);
    reply = f->reply;
    handler_us = (uint64_t)f->handler_us;
    poured_size = 0;
    while (poured_size < sizeof poured / 2)
        poured_size += peer_encode(poured + poured_size, 0x82, text, (size_t)f->size, (uint32_t)sim_random());
    most_messages = most_sends = most_visit = 0;
}

/* More than is received at a time, always. */
static void pour(void) {
    for (int i = 1; i <= flooders; i++)
        while (clients[i].peer->in.size <= WSS__READ_SIZE) peer_write(clients[i].peer, poured, poured_size);
}

static void read_all(void) {
    for (int i = 0; i < count; i++) sim_peer_drain(clients[i].peer, clients[i].peer->out.size);
}

static void one_turn(void) {
    pour();
    turn();
    if (queue) wss_queue_poll(queue, 0);
    read_all();
}

/* Asks between two turns, or in the middle of one, while another's handler runs. */
static void ask_some_times(int in_a_turn) {
    for (int k = 0; k < ASKS; k++) {
        for (int i = 0; i < 2 + k; i++) one_turn();
        if (in_a_turn) midst = 1 + k * 37;
        else ask();
        for (int i = 0; i < 200 && (asking || midst); i++) one_turn();
        CHECK(!asking && !midst);
        if (turns_now > waited_turns) waited_turns = turns_now;
    }
}

static void beside(const flood *f) {
    gather(f);
    ask_some_times(0);
    CHECK(most_messages <= SHARE);
    CHECK(most_visit <= f->visit);
    CHECK(most_sends <= f->sends);
    long between = most_messages, sends = most_sends;
    ask_some_times(1); /* what is left of that turn, and one share of the next */
    CHECK(most_messages > 0 && most_messages <= 2 * SHARE);
    CHECK(most_visit <= f->visit);
    CHECK(most_sends <= f->sends + 1);
    printf("fairness: %-37s until the reply %3ld messages of one other (asked in a turn %3ld), %2ld sends to one (%2ld), "
           "turns %ld\n", f->name, between, most_messages, sends, most_sends, waited_turns);
    end();
}

static void test_a_victim_beside_floods(void) {
    for (int i = 0; i < FLOODS; i++) beside(&floods[i]);
}

/* ---- the statistics, in the midst of it ---- */

static wss_stats stats(void) {
    wss_stats all;
    turn();
    wss_get_stats(server, &all);
    return all;
}

static void serve(wss_options *options, int clients_here) {
    begin(options);
    reply = ignore;
    for (int i = 0; i < clients_here; i++) come(i);
    count = clients_here;
}

/* Nobody is counted twice: by wss_pause, by what is queued for him, or by both; nor when he has gone. */
static void test_who_is_paused_or_crowded(void) {
    wss_options options;
    prepare(&options, 0);
    options.max_queued = 10000;
    serve(&options, 10);
    for (int i = 0; i < 4; i++) CHECK_INT(wss_pause(server, clients[i].conn), WSS_OK);
    CHECK_INT(stats().paused, 4);
    for (int i = 2; i < 6; i++) { /* two of them are paused already */
        clients[i].peer->out.limit = 0;
        for (int k = 0; k < 6; k++) CHECK_INT(wss_send_data(server, clients[i].conn, WSS_BINARY, text, 1000), WSS_OK);
    }
    CHECK_INT(stats().paused, 6);
    CHECK_INT(stats().crowded, 4);
    CHECK_INT(wss_resume(server, clients[2].conn), WSS_OK); /* its queue is as long as it was */
    CHECK_INT(wss_resume(server, clients[0].conn), WSS_OK);
    CHECK_INT(stats().paused, 5);
    for (int i = 2; i < 4; i++) { /* these read again */
        clients[i].peer->out.limit = 1 << 20;
        sim_wake(clients[i].peer->fd, EPOLLOUT);
    }
    CHECK_INT(stats().crowded, 2);
    CHECK_INT(stats().paused, 4); /* 1, 3, and 4 and 5 whose queues are long */
    peer_reset(clients[4].peer);
    peer_reset(clients[1].peer);
    turn();
    CHECK_INT(stats().crowded, 1);
    CHECK_INT(stats().paused, 2);
    CHECK_INT(stats().connections, 8);
    peer_reset(clients[3].peer);
    peer_reset(clients[5].peer);
    turn();
    CHECK_INT(stats().paused, 0);
    CHECK_INT(stats().crowded, 0);
    end();
}

static wss_conn asked[4];
static int asked_count;

static void on_upgrade(const wss_event *e) {
    if (asked_count < 4) asked[asked_count++] = e->conn;
}

/* Those that have asked and were not answered are under way too, until they are answered or have gone. */
static void test_handshakes_under_way(void) {
    wss_options options;
    peer *guests[8];
    prepare(&options, 0);
    options.handshake_ms = 5000;
    begin(&options);
    wss_on_upgrade(server, on_upgrade, NULL);
    asked_count = 0;
    for (int i = 0; i < 8; i++) guests[i] = peer_connect(server->options.port);
    CHECK_INT(stats().handshakes, 8);
    CHECK_INT(stats().connections, 0);
    for (int i = 0; i < 3; i++) peer_text(guests[i], PEER_REQUEST("/") "\r\n");
    peer_text(guests[3], "GET / HTTP/1.1\r\nHo");
    CHECK_INT(stats().handshakes, 8);
    CHECK_INT(asked_count, 3);
    CHECK_INT(wss_accept(server, asked[0], NULL, NULL, 0, NULL), WSS_OK);
    turn();
    CHECK_INT(stats().handshakes, 7);
    CHECK_INT(stats().connections, 1);
    CHECK_INT(wss_refuse(server, asked[1], NULL), WSS_OK);
    turn();
    CHECK_INT(stats().handshakes, 6);
    peer_reset(guests[7]);
    turn();
    CHECK_INT(stats().handshakes, 5);
    for (int i = 0; i < 6; i++) {
        sim_move_clock(999);
        turn();
    }
    CHECK_INT(stats().handshakes, 0); /* their time is over, and each has been told so */
    CHECK_INT(stats().connections, 1);
    peer_finish(guests[2]);
    turn();
    CHECK_INT(stats().handshakes, 0);
    for (int i = 0; i < 8; i++) peer_free(guests[i]);
    end();
}

/* Bytes of messages on their way, with what each needs beside its own; and places of who has gone and was not told. */
static void test_undelivered_messages_and_places(void) {
    enum { CLIENTS_HERE = 6, MESSAGES = 7, SIZE = 100 };
    const size_t each = sizeof(wss__conn_notice) + 1 + SIZE;
    wss_options options;
    prepare(&options, 1);
    serve(&options, CLIENTS_HERE);
    CHECK_INT(stats().undelivered, 0);
    for (int i = 0; i < CLIENTS_HERE; i++)
        for (int k = 0; k < MESSAGES; k++) peer_frame(clients[i].peer, 0x82, text, SIZE);
    CHECK_INT(stats().undelivered, CLIENTS_HERE * MESSAGES * each);
    CHECK_INT(stats().closed_places, 0);
    for (int i = 0; i < 4; i++) peer_reset(clients[i].peer);
    turn();
    turn();
    CHECK_INT(stats().closed_places, 4);
    CHECK_INT(stats().connections, 2);
    CHECK_INT(stats().undelivered, CLIENTS_HERE * MESSAGES * each);
    drain();
    CHECK_INT(stats().undelivered, 0);
    CHECK_INT(stats().closed_places, 0);
    CHECK_INT(stats().connections, 2);
    end();
}

/* One handler, and what it takes: each turn is of one kind, at its border of the shorter one. */
static void test_turns_by_their_length(void) {
    static const uint64_t lengths[] = {0, 1, 2, 4, 5, 16, 17, 64, 65, 256, 257, 900};
    wss_options options;
    prepare(&options, 0);
    serve(&options, 1);
    count = 1;
    of_fd[clients[0].peer->fd] = 0;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        handler_us = lengths[i] * 1000;
        peer_frame(clients[0].peer, 0x82, "?", 1);
        turn();
        CHECK(longest == lengths[i]);
        check_turns();
    }
    end();
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    test_system.recv = noted_recv;
    test_system.send = noted_send;
    test_system.sendmsg = noted_sendmsg;
    RUN(test_a_victim_beside_floods);
    RUN(test_who_is_paused_or_crowded);
    RUN(test_handshakes_under_way);
    RUN(test_undelivered_messages_and_places);
    RUN(test_turns_by_their_length);
    return test_end("fairness");
}
