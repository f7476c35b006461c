/* Memory pressure on the kernel in memory: those who hold much by themselves go, one a turn and loop, and nobody else: clients
   who are honest come in and are served all the while, and what all share is held against none. */
#define SIM_FILES 2048
#define SIM_PEERS 2048
#include "kernel.h"

#include "../test.h"

enum { HOGS = 40, TINY = 20, BIG = 300000, RECEIVERS = 1000 };

static wss_server *server;
static wss_conn newest;
static long ends, pressed_ends, other_ends;
static int connects;

static void on_connect(const wss_event *e) {
    newest = e->conn;
    connects++;
}

static void on_end(const wss_event *e) {
    ends++;
    if (e->cause == WSS_CAUSE_PRESSURE) pressed_ends++;
    else if (e->cause != WSS_CAUSE_PEER_VANISHED) other_ends++;
    if (e->cause == WSS_CAUSE_PRESSURE) CHECK_INT(e->code, WSS_CLOSE_TRY_LATER);
}

static void echo(const wss_event *e) {
    wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

static void prepare(wss_options *options) {
    sim_begin(1);
    sim_options(options);
    options->ping_ms = WSS_OFF;
    options->stall_ms = WSS_OFF;
    options->least_rate = WSS_OFF;
}

static void begin(const wss_options *options) {
    server = wss_create(options, NULL);
    if (!server) abort();
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_end, NULL);
    wss_on_data(server, echo, NULL);
    sim_turn(server, 0);
    ends = pressed_ends = other_ends = 0;
    connects = 0;
}

static void end(void) {
    CHECK_INT(sim_destroy(server), WSS_OK);
    sim_finish();
}

/* Turns until nothing moves. The invariants are looked at elsewhere: that takes long where queues are. */
static void network(void) {
    for (int quiet = 0; quiet < 2; quiet++) {
        uint64_t before = sim.progress;
        if (sim_turn(server, 0) != WSS_OK) return;
        if (sim.progress != before) quiet = -1;
    }
}

static peer *open_one(void) {
    peer *client = peer_connect(server->options.port);
    if (!client) abort();
    peer_text(client, PEER_REQUEST("/") "\r\n");
    network();
    return client;
}

static void leave(peer *client) {
    if (!client) return;
    peer_reset(client);
    peer_free(client);
}

/* ---- many who send little and never read ---- */

static peer *hogs[HOGS];
static char tiny[(TINY + 6) * 1000];
static long turned_away, refused, served;

static void write_tiny(peer *client, int number) {
    for (int left = number; left > 0; left -= 1000)
        peer_write(client, tiny, (TINY + 6) * (size_t)(left < 1000 ? left : 1000));
}

/* They come again as often as they are ended. */
static void hogs_send(int number) {
    for (int i = 0; i < HOGS; i++) {
        if (hogs[i] && !hogs[i]->end && !hogs[i]->reset) {
            write_tiny(hogs[i], number);
            continue;
        }
        leave(hogs[i]);
        hogs[i] = open_one();
        turned_away += peer_take_head(hogs[i]) != 101;
        hogs[i]->out.limit = 0;
    }
    network();
}

/* What it sends comes back whole. */
static int is_served(peer *client, size_t size) {
    static char message[BIG];
    const char *data;
    size_t got, whole;
    CHECK(peer_frame(client, 0x82, message, size));
    for (int i = 0; i < 100; i++) {
        network();
        if (peer_peek(client, &data, &got, &whole) != 0x82) continue;
        peer_skip(client, whole);
        return got == size;
    }
    return 0;
}

static void honest(peer *resident) {
    peer *fresh = open_one();
    int in = peer_take_head(fresh) == 101;
    refused += !in;
    served += in && is_served(fresh, 5);
    leave(fresh);
    served += is_served(resident, BIG);
}

/* Each sends so much in a tenth of a second, until half of its queue is full and it is not read from any more: all of them
   together then hold more than three quarters of the budget, and not seven eighths. Who is still goes. */
static void beside_hogs(int number) {
    enum { ROUNDS = 60 };
    wss_options options;
    prepare(&options);
    options.memory_budget = (size_t)27 << 20;
    begin(&options);
    for (int i = 0; i < 1000; i++) peer_encode(tiny + i * (TINY + 6), 0x82, tiny, TINY, 0);
    peer *resident = open_one();
    CHECK_INT(peer_take_head(resident), 101);
    memset(hogs, 0, sizeof hogs);
    turned_away = refused = served = 0;
    size_t highest = 0;
    for (int round = 0; round < ROUNDS; round++) {
        hogs_send(number);
        honest(resident);
        sim_move_clock(100);
        network();
        if (server->mem.used > highest) highest = server->mem.used;
    }
    printf("pressure: 40 who never read, %4d messages in 100 ms: %ld of %d served, %ld ended for it, "
           "at most %zu of %zu bytes held\n", number, served, 2 * ROUNDS, pressed_ends, highest, server->mem.budget);
    CHECK_INT(served, 2 * ROUNDS);
    CHECK_INT(refused + turned_away, 0);
    CHECK_INT(other_ends, 0);
    CHECK(highest < server->mem.budget - server->mem.budget / 8);
    if (sizeof(void *) == 8) CHECK_INT(pressed_ends > 0, number >= 200); /* with smaller ones they hold less */
    for (int i = 0; i < HOGS; i++) leave(hogs[i]);
    leave(resident);
    network();
    sim_check(server);
    end();
}

static void test_beside_those_who_never_read(void) {
    static const int rates[] = {50, 200, 1000, 3000, 7000};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) beside_hogs(rates[i]);
}

/* ---- what all share ---- */

/* None of them reads, and all of the budget but a fifth is used: it is nobody's. Who holds something alone goes, alone. */
static void test_a_large_broadcast_that_nobody_reads(void) {
    static char text[1 << 20];
    static peer *receivers[RECEIVERS];
    wss_options options;
    prepare(&options);
    options.max_queued = (size_t)4 << 20;
    begin(&options);
    for (int i = 0; i < RECEIVERS; i++) {
        receivers[i] = open_one();
        CHECK_INT(peer_take_head(receivers[i]), 101);
        receivers[i]->out.limit = 0;
    }
    size_t before = sim.account.bytes;
    CHECK_INT(wss_broadcast_data(server, WSS_BINARY, text, sizeof text), WSS_OK);
    network();
    size_t held = sim.account.bytes - before;
    CHECK(held < sizeof text + RECEIVERS * 256); /* once, and a queue for each */
    CHECK_INT(wss_buffered(server, newest) > sizeof text, 1);
    server->mem.budget = server->mem.used + server->mem.used / 4;
    CHECK(wss__mem_is_pressed(&server->mem));
    for (int i = 0; i < 30; i++) {
        sim_move_clock(500);
        network();
    }
    CHECK_INT(ends, 0);
    sim_check(server);
    CHECK_INT(wss_send_data(server, newest, WSS_BINARY, text, 70000), WSS_OK);
    network();
    server->mem.budget = server->mem.used + server->mem.used / 4;
    sim_move_clock(999);
    network();
    CHECK_INT(ends, 0);
    sim_move_clock(1);
    network();
    CHECK_INT(ends, 1);
    CHECK_INT(pressed_ends, 1);
    server->mem.budget = server->mem.used + server->mem.used / 4;
    for (int i = 0; i < 10; i++) {
        sim_move_clock(500);
        network();
    }
    CHECK_INT(ends, 1);
    printf("pressure: %d receivers of a frame of 1 MiB of whom none reads: %zu bytes held beside it, %ld ended for that\n",
           RECEIVERS, held - sizeof text, pressed_ends - 1);
    server->mem.budget = (size_t)256 << 20;
    for (int i = 0; i < RECEIVERS; i++) leave(receivers[i]);
    network();
    CHECK_INT(wss_count(server), 0);
    end();
}

/* ---- one a turn ---- */

enum { HOLDERS = 100 };

/* Each loop ends one of its own a turn, those of the heaviest list first, until a quarter of the budget is free. */
static void one_a_turn(int threads) {
    static char text[400000];
    static peer *holders[HOLDERS];
    static size_t sizes[HOLDERS];
    static uint64_t ids[HOLDERS];
    wss_options options;
    prepare(&options);
    options.threads = threads;
    begin(&options);
    for (int i = 0; i < HOLDERS; i++) {
        holders[i] = open_one();
        CHECK_INT(peer_take_head(holders[i]), 101);
        holders[i]->out.limit = 0;
        ids[i] = newest.id;
        sizes[i] = (size_t)70000 << i / 6 % 3 /* some of each for each loop */;
        CHECK_INT(wss_send_data(server, newest, WSS_BINARY, text, sizes[i]), WSS_OK);
    }
    network();
    sim_move_clock(1500);
    server->mem.budget = server->mem.used + server->mem.used / 4;
    int turns = 0;
    while (wss__mem_is_pressed(&server->mem) && turns < HOLDERS) {
        long before = pressed_ends;
        for (int loop = 0; loop < threads; loop++) wss__loop_turn(&server->loops[loop], 0);
        sim_check(server);
        turns++;
        CHECK(pressed_ends - before <= threads);
        CHECK(pressed_ends - before > 0);
    }
    long gone = pressed_ends;
    for (int i = 0; i < HOLDERS; i++) {
        wss_conn conn = {ids[i]};
        if (wss_buffered(server, conn) == 0) CHECK_INT(sizes[i], 280000); /* none of the lighter ones had to go */
    }
    network();
    CHECK_INT(pressed_ends, gone);
    CHECK_INT(other_ends, 0);
    printf("pressure: %d loops, %d who hold 70,000 bytes or more: %ld ended in %d turns\n", threads, HOLDERS, gone, turns);
    server->mem.budget = (size_t)256 << 20;
    for (int i = 0; i < HOLDERS; i++) leave(holders[i]);
    network();
    end();
}

static void test_one_a_turn(void) {
    for (int threads = 1; threads <= 3; threads++) one_a_turn(threads);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(test_beside_those_who_never_read);
    RUN(test_a_large_broadcast_that_nobody_reads);
    RUN(test_one_a_turn);
    return test_end("pressure");
}
