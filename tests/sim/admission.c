/* What may come in, with several loops of which one is held up: sockets, handshakes, work for a loop, and what one address may
   have. All of it is counted where it is let in, not where it arrives. */
#include "kernel.h"

#include "../test.h"

static wss_server *server;
static wss_conn newest, asked;
static long connects, ends;

static void on_connect(const wss_event *e) {
    newest = e->conn;
    connects++;
}

static void on_end(const wss_event *e) {
    (void)e;
    ends++;
}

static void keep_asked(const wss_event *e) {
    asked = e->conn;
}

static void prepare(wss_options *options, int threads) {
    sim_begin(1);
    sim_options(options);
    options->threads = threads;
    options->ping_ms = WSS_OFF;
    connects = ends = 0;
}

static void begin(wss_options *options) {
    server = wss_create(options, NULL);
    if (!server) abort();
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_end, NULL);
    sim_settle(server);
}

static void finish(void) {
    CHECK_INT(sim_destroy(server), WSS_OK);
    CHECK_INT(connects, ends);
    sim_finish();
}

/* Turns all loops but this one, which is held up. Never waits. */
static void without_loop(int index) {
    for (int quiet = 0; quiet < 2; quiet++) {
        uint64_t before = sim.progress;
        for (int i = 0; i < server->loop_count; i++)
            if (i != index) wss__loop_turn(&server->loops[i], 0);
        if (sim.progress != before) quiet = -1;
    }
}

/* A client of the last loop: others before it are of the loops before that one. All stay. */
static wss_conn open_one_each(peer **clients) {
    for (int i = 0; i < server->loop_count; i++) {
        clients[i] = peer_open(server);
        if (!clients[i]) abort();
    }
    return newest;
}

static peer *dial(const char *address) {
    peer *client = peer_connect(server->options.port);
    if (!client) abort();
    if (address) snprintf(client->address, sizeof client->address, "%s", address);
    return client;
}

static int frames_of(peer *client) {
    int count = 0;
    while (peer_take(client, NULL, 0, NULL) > 0) count++;
    return count;
}

/* ---- sockets ---- */

/* Clients are dealt evenly; but where a loop is held up, it is left those that were dealt to it before that was seen: all
   others are served meanwhile, and these when it goes on. */
static void test_dealt_evenly(void) {
    enum { CLIENTS = 200 };
    peer *clients[CLIENTS];
    for (int held_up = 0; held_up < 2; held_up++) {
        wss_options options;
        int served = 0;
        prepare(&options, 2);
        begin(&options);
        for (int i = 0; i < CLIENTS; i++) {
            clients[i] = dial(NULL);
            peer_text(clients[i], PEER_REQUEST("/") "\r\n");
        }
        if (held_up) without_loop(1);
        else sim_settle(server);
        int left = (int)server->loops[1].dealt;
        for (int i = 0; i < CLIENTS; i++) served += peer_take_head(clients[i]) == 101;
        CHECK_INT(left, held_up ? WSS__ACCEPT_TURN / 2 : 0);
        CHECK_INT(served, CLIENTS - left);
        if (!held_up) CHECK_INT(server->loops[1].connections, CLIENTS / 2);
        sim_settle(server);
        for (int i = 0; i < CLIENTS; i++) served += peer_take_head(clients[i]) == 101;
        CHECK_INT(served, CLIENTS);
        for (int i = 0; i < CLIENTS; i++) peer_free(clients[i]);
        sim_settle(server);
        finish();
    }
}

/* The limit holds for what was dealt: further ones are not closed, they wait, and are served as others leave. */
static void test_the_limit_counts_what_was_dealt(void) {
    enum { CLIENTS = 200, MOST = 50 };
    peer *clients[CLIENTS];
    wss_options options;
    wss_stats stats;
    prepare(&options, 2);
    options.max_connections = MOST;
    options.handshake_ms = WSS_OFF;
    begin(&options);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = dial(NULL);
        peer_text(clients[i], PEER_REQUEST("/") "\r\n");
    }
    without_loop(1);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.accepted, MOST);
    int served = 0;
    int done[CLIENTS] = {0};
    for (int round = 0; round < 100 && served < CLIENTS; round++) {
        for (int i = 0; i < CLIENTS; i++) {
            CHECK(done[i] || !clients[i]->server_gone); /* nobody was closed */
            if (done[i] || peer_take_head(clients[i]) != 101) continue;
            done[i] = 1;
            served++;
            peer_reset(clients[i]); /* and makes room */
        }
        CHECK(round || served == MOST / 2);
        if (round < 5) without_loop(1);
        else sim_settle(server);
    }
    CHECK_INT(served, CLIENTS);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.accepted, CLIENTS);
    CHECK_INT(stats.accept_failures, 0);
    for (int i = 0; i < CLIENTS; i++) peer_free(clients[i]);
    sim_settle(server);
    finish();
}

/* ---- handshakes ---- */

enum { SILENT = 64 }; /* handshakes at a time, of so few connections */

/* The first ones come two steps of the deadlines apart, all within a second. */
static void silent_sockets(peer **clients) {
    for (int i = 0; i < SILENT; i++) {
        clients[i] = dial(NULL);
        sim_settle(server);
        if (i < 6) sim_pass(server, 2 * WSS__CONN_STEP);
    }
}

static void begin_handshakes(int threads) {
    wss_options options;
    prepare(&options, threads);
    options.max_connections = 100;
    options.handshake_ms = WSS_OFF; /* nothing else ends them */
    begin(&options);
}

/* Silent sockets hold all handshakes. Somebody who waits is served when the oldest had its second: that one gets 408, then the
   next oldest, on whatever loop they are. Without anybody who waits none of them ends. One goes for one that comes. */
static void oldest_first(int threads, int first) {
    enum { HONEST = 4 };
    peer *silent[SILENT];
    peer *honest[HONEST];
    int gone = 0;
    begin_handshakes(threads);
    peer *older = first ? peer_open(server) : NULL; /* the first loop's, so that the oldest is another one's */
    silent_sockets(silent);
    sim_pass(server, 2000);
    for (int i = 0; i < SILENT; i++) CHECK(!silent[i]->server_gone && !silent[i]->out.size);
    for (int i = 0; i < HONEST; i++) {
        honest[i] = dial(NULL); /* and says nothing yet */
        sim_settle(server);
        for (int waits = 0; waits < 4 && honest[i]->listener >= 0; waits++) sim_pass(server, WSS__CONN_RETRY);
        CHECK(honest[i]->listener < 0);
        while (gone < SILENT && silent[gone]->out.size) CHECK_INT(peer_take_head(silent[gone++]), 408);
        CHECK_INT(gone, i + 1);
        for (int k = gone; k < SILENT; k++) CHECK(!silent[k]->server_gone && !silent[k]->out.size);
    }
    for (int i = 0; i < HONEST; i++) peer_text(honest[i], PEER_REQUEST("/") "\r\n");
    sim_settle(server);
    for (int i = 0; i < HONEST; i++) CHECK_INT(peer_take_head(honest[i]), 101);
    for (int i = 0; i < HONEST; i++) peer_free(honest[i]);
    for (int i = 0; i < SILENT; i++) peer_free(silent[i]);
    peer_free(older);
    sim_settle(server);
    finish();
}

static void test_the_oldest_handshake_makes_room(void) {
    for (int threads = 1; threads <= 3; threads++)
        for (int first = 0; first < 2; first++) oldest_first(threads, first);
}

/* All handshakes are silent, the oldest of them on the second loop, and somebody waits. */
static peer *begin_waiting(peer **silent, peer **older) {
    begin_handshakes(2);
    *older = peer_open(server); /* the first loop's */
    silent_sockets(silent);     /* the first of them is the other's */
    sim_pass(server, 2000);
    return dial(NULL);
}

/* Who waited is in, and just one of the silent had to go for it. */
static void end_waiting(peer **silent, peer *older, peer *late) {
    int gone = 0;
    CHECK(late->listener < 0);
    for (int i = 0; i < SILENT; i++) gone += silent[i]->out.size > 0;
    CHECK_INT(gone, 1);
    for (int i = 0; i < SILENT; i++) peer_free(silent[i]);
    peer_free(late);
    peer_free(older);
    sim_settle(server);
    finish();
}

/* The oldest is on a loop that is held up, and one client waits: another loop's oldest makes room for it; when the first goes on
   it ends none, however long it took and however often it was asked. */
static void test_a_loop_held_up_makes_room_for_one(void) {
    peer *silent[SILENT];
    peer *older;
    peer *late = begin_waiting(silent, &older);
    for (int i = 0; i < 10; i++) {
        without_loop(1);
        sim_move_clock(WSS__CONN_RETRY);
    }
    CHECK(late->listener < 0);
    sim_settle(server);
    sim_pass(server, WSS__CONN_RETRY);
    CHECK(late->listener < 0);
    end_waiting(silent, older, late);
}

/* The loop that is asked to make room looks at that at once, while the first loop is still asking: it finds that somebody
   waits, and nobody has to ask again. */
static int at_signal;

static void *turn_second(void *unused) {
    wss__loop_turn(&server->loops[1], 0);
    return unused;
}

static ssize_t struck_write(int fd, const void *data, size_t size) {
    ssize_t result = sim_write(fd, data, size);
    pthread_t thread;
    if (!at_signal || fd != server->loops[1].inbox.fd) return result;
    at_signal = 0;
    if (pthread_create(&thread, NULL, turn_second, NULL) != 0) abort();
    pthread_join(thread, NULL);
    return result;
}

static void test_who_is_asked_looks_at_once(void) {
    peer *silent[SILENT];
    peer *older;
    peer *late = begin_waiting(silent, &older);
    at_signal = 1;
    test_system.write = struck_write;
    for (int i = 0; i < 5; i++) wss__loop_turn(&server->loops[0], 0);
    test_system.write = sim_write;
    CHECK(!at_signal);
    CHECK(late->listener < 0);
    at_signal = 0;
    end_waiting(silent, older, late);
}

/* Room is made without memory, too: the oldest is told, and who waits is let in. */
static void test_room_without_memory(void) {
    peer *silent[SILENT];
    peer *older;
    peer *late = begin_waiting(silent, &older);
    sim.fail_at = sim.grown + 1;
    sim.fail_on = 1;
    sim_settle(server);
    for (int waits = 0; waits < 4 && late->listener >= 0; waits++) sim_pass(server, WSS__CONN_RETRY);
    CHECK(late->listener < 0);
    sim.fail_at = 0;
    sim.fail_on = 0;
    end_waiting(silent, older, late);
}

/* Not before it had its second: the one that waits waits until then. */
static void not_before_a_second(int threads, int offset) {
    peer *silent[SILENT];
    begin_handshakes(threads);
    sim_move_clock((uint64_t)offset);
    uint64_t began = sim.now / 1000;
    for (int i = 0; i < SILENT; i++) silent[i] = dial(NULL);
    sim_settle(server);
    peer *honest = dial(NULL);
    peer_text(honest, PEER_REQUEST("/") "\r\n");
    sim_settle(server);
    while (!silent[0]->out.size && sim.now / 1000 - began < 3000) sim_pass(server, 1);
    uint64_t waited = sim.now / 1000 - began;
    CHECK(waited >= 1000);
    CHECK(waited <= 1000 + 2 * WSS__CONN_STEP);
    CHECK_INT(peer_take_head(silent[0]), 408);
    sim_pass(server, WSS__CONN_RETRY);
    CHECK_INT(peer_take_head(honest), 101);
    peer_free(honest);
    for (int i = 0; i < SILENT; i++) peer_free(silent[i]);
    sim_settle(server);
    finish();
}

static void test_not_before_a_second(void) {
    for (int offset = 0; offset < WSS__CONN_STEP; offset += 21)
        for (int threads = 1; threads <= 2; threads++) not_before_a_second(threads, offset);
}

/* The loop was held up for longer than a request may take, and meanwhile all have sent theirs: what the kernel has is read before
   anybody is taken for silent. */
static void test_nobody_is_silent_who_has_spoken(void) {
    for (int threads = 1; threads <= 2; threads++) {
        peer *clients[SILENT];
        begin_handshakes(threads);
        for (int i = 0; i < SILENT; i++) clients[i] = dial(NULL);
        sim_settle(server);
        sim_move_clock(1300);
        peer *late = dial(NULL);
        peer_text(late, PEER_REQUEST("/") "\r\n");
        for (int i = 0; i < SILENT; i++) peer_text(clients[i], PEER_REQUEST("/") "\r\n");
        sim_settle(server);
        sim_pass(server, WSS__CONN_RETRY);
        for (int i = 0; i < SILENT; i++) CHECK_INT(peer_take_head(clients[i]), 101);
        CHECK_INT(peer_take_head(late), 101);
        for (int i = 0; i < SILENT; i++) peer_free(clients[i]);
        peer_free(late);
        sim_settle(server);
        finish();
    }
}

static long requests_told;

static void count_request(const wss_event *e) {
    asked = e->conn;
    requests_told++;
}

/* One client after another asks and resets, and nobody drains the queue: the requests of the dead do not wait there, and hold
   no handshake back. When the queue's thread gets to it, it is asked for the living alone. */
static void test_requests_of_the_dead_are_bounded(void) {
    enum { MANY = 300 };
    static peer *clients[MANY];
    wss_options options;
    wss_options own;
    prepare(&options, 1);
    sim_queue_options(&own);
    options.queue = wss_queue_create(&own, NULL);
    options.max_connections = 100;
    options.handshake_ms = WSS_OFF;
    begin(&options);
    wss_on_upgrade(server, count_request, NULL);
    requests_told = 0;
    for (int i = 0; i < MANY; i++) {
        clients[i] = dial(NULL);
        peer_text(clients[i], PEER_REQUEST("/") "\r\n");
        for (int turns = 0; turns < 4; turns++) sim_turn(server, 0);
        if (i < MANY - 1) peer_reset(clients[i]);
        for (int turns = 0; turns < 4; turns++) sim_turn(server, 0);
        CHECK_INT(wss__conn_handshakes(server), i == MANY - 1);
    }
    CHECK(options.queue->inbox.waiting.first && options.queue->inbox.waiting.first == options.queue->inbox.waiting.last);
    for (int rounds = 0; rounds < 20; rounds++) sim_settle(server);
    CHECK_INT(requests_told, 1);
    CHECK_INT(wss__conn_handshakes(server), 1);
    CHECK_INT(wss_accept(server, asked, NULL, NULL, 0, NULL), WSS_OK);
    sim_settle(server);
    CHECK_INT(peer_take_head(clients[MANY - 1]), 101);
    for (int i = 0; i < MANY; i++) peer_free(clients[i]);
    sim_settle(server);
    CHECK_INT(sim_destroy(server), WSS_OK);
    CHECK_INT(wss_queue_destroy(options.queue), WSS_OK);
    sim_finish();
}

static void pause_reading(const wss_event *e) {
    CHECK_INT(wss_pause(e->server, e->conn), WSS_OK);
}

/* A request, or a message whose handler pauses, comes together with the reset: epoll tells that once, and nobody reads any more.
   The connection ends all the same. */
static void test_an_error_told_once_is_not_forgotten(void) {
    begin_handshakes(1);
    wss_on_upgrade(server, keep_asked, NULL);
    for (int i = 0; i < 5; i++) {
        peer *client = dial(NULL);
        sim_settle(server);
        peer_text(client, PEER_REQUEST("/") "\r\n");
        peer_reset(client);
        sim_settle(server);
        CHECK_INT(wss__conn_handshakes(server), 0);
        CHECK_INT(server->conns.live, 0);
        CHECK_INT(wss_accept(server, asked, NULL, NULL, 0, NULL), WSS_ERR_GONE);
        peer_free(client);
    }
    finish();
    begin_handshakes(1);
    wss_on_data(server, pause_reading, NULL);
    peer *client = peer_open(server);
    peer_frame(client, 0x81, "x", 1);
    peer_reset(client);
    sim_settle(server);
    CHECK_INT(ends, 1);
    CHECK_INT(server->conns.live, 0);
    peer_free(client);
    finish();
}

/* wss_destroy waits for a stop that has begun, and begins one of five seconds where close_ms is off. */
static void test_destroy_does_not_shorten_a_stop(void) {
    for (int stopped = 0; stopped < 2; stopped++) {
        wss_options options;
        prepare(&options, 1);
        options.close_ms = WSS_OFF;
        begin(&options);
        peer *client = peer_open(server); /* which does not answer the Close */
        uint64_t began = sim.now / 1000;
        if (stopped) wss_stop(server, 30000);
        CHECK_INT(wss_destroy(server), WSS_OK);
        uint64_t took = sim.now / 1000 - began;
        CHECK_INT(took, stopped ? 30000 : WSS__CONN_LINGER);
        peer_free(client);
        sim_finish();
    }
}

/* A request that is whole and waits for the application is nobody's fault: it is never ended for this. */
static void test_who_has_asked_is_left_alone(void) {
    peer *patient[SILENT];
    begin_handshakes(1);
    wss_on_upgrade(server, keep_asked, NULL);
    for (int i = 0; i < SILENT; i++) {
        patient[i] = dial(NULL);
        peer_text(patient[i], PEER_REQUEST("/") "\r\n");
        sim_settle(server);
    }
    peer *next = dial(NULL);
    peer_text(next, PEER_REQUEST("/") "\r\n");
    for (int i = 0; i < 30; i++) sim_pass(server, 500);
    for (int i = 0; i < SILENT; i++) CHECK(!patient[i]->out.size && !patient[i]->server_gone);
    CHECK(next->listener >= 0);
    CHECK_INT(wss_accept(server, asked, NULL, NULL, 0, NULL), WSS_OK); /* the last one's */
    sim_settle(server);
    CHECK_INT(peer_take_head(patient[SILENT - 1]), 101);
    CHECK(next->listener < 0); /* at once: one handshake has ended */
    CHECK(asked.id != newest.id);
    for (int i = 0; i < SILENT; i++) peer_free(patient[i]);
    peer_free(next);
    sim_settle(server);
    finish();
}

/* Requests that were refused, in time or for want of it, are no handshakes, although their clients keep TCP open: newcomers
   are let in at once. */
static void test_who_was_refused_is_no_handshake(void) {
    for (int by_time = 0; by_time < 2; by_time++) {
        peer *refused[SILENT];
        wss_options options;
        prepare(&options, 1);
        options.max_connections = 200;
        options.handshake_ms = 1000;
        options.close_ms = 60000;
        begin(&options);
        wss_on_upgrade(server, keep_asked, NULL);
        for (int i = 0; i < SILENT; i++) {
            refused[i] = dial(NULL);
            peer_text(refused[i], PEER_REQUEST("/") "\r\n");
            sim_settle(server);
            if (!by_time) CHECK_INT(wss_refuse(server, asked, NULL), WSS_OK);
            sim_settle(server);
        }
        CHECK_INT(wss__conn_handshakes(server), by_time ? SILENT : 0);
        peer *next = dial(NULL);
        peer_text(next, PEER_REQUEST("/") "\r\n");
        if (by_time) sim_pass(server, 1100);
        sim_settle(server);
        for (int i = 0; i < SILENT; i++) CHECK_INT(peer_take_head(refused[i]), by_time ? 503 : 403);
        CHECK_INT(wss__conn_handshakes(server), 1);
        CHECK_INT(wss_accept(server, asked, NULL, NULL, 0, NULL), WSS_OK);
        sim_settle(server);
        CHECK_INT(peer_take_head(next), 101);
        for (int i = 0; i < SILENT; i++) peer_free(refused[i]);
        peer_free(next);
        sim_settle(server);
        finish();
    }
}

/* A loop that is held up is dealt no more than its share, and none when it is seen that it does not look: the others go on to
   serve who comes. */
static void test_a_loop_held_up_shuts_nobody_out(void) {
    enum { CLIENTS = 300 };
    static peer *clients[CLIENTS];
    for (int threads = 2; threads <= 4; threads++) {
        for (int burst = 0; burst < 2; burst++) {
            wss_options options;
            int served = 0;
            prepare(&options, threads);
            options.max_connections = 500; /* 64 handshakes */
            options.handshake_ms = WSS_OFF;
            begin(&options);
            for (int i = 0; i < CLIENTS; i++) {
                clients[i] = dial(NULL);
                peer_text(clients[i], PEER_REQUEST("/") "\r\n");
                if (!burst) without_loop(1);
            }
            for (int i = 0; i < 20; i++) without_loop(1);
            for (int i = 0; i < CLIENTS; i++) served += clients[i]->out.size > 0;
            int left = (int)server->loops[1].dealt;
            CHECK(left >= 1 && left <= (burst ? (64 + threads - 1) / threads : 1));
            CHECK_INT(served, CLIENTS - left);
            CHECK_INT(wss__conn_handshakes(server), left);
            sim_settle(server);
            for (int i = 0; i < CLIENTS; i++) CHECK_INT(peer_take_head(clients[i]), 101);
            CHECK_INT(server->loops[1].dealt, 0);
            for (int i = 0; i < CLIENTS; i++) peer_free(clients[i]);
            sim_settle(server);
            finish();
        }
    }
}

/* ---- work for a loop that is held up ---- */

enum { POSTED = 1000 };

static int accepted, refused_with;
static size_t message_size;

static void broadcast_until_refused(void) {
    static char text[4096];
    accepted = 0;
    do refused_with = wss_broadcast_data(server, WSS_BINARY, text, message_size);
    while (refused_with == WSS_OK && ++accepted < 20 * POSTED);
}

static void broadcast_in_a_handler(const wss_event *e) {
    (void)e;
    broadcast_until_refused();
}

static void begin_work(peer **clients, wss_options *options, int threads) {
    prepare(options, threads);
    options->max_queued = 8 << 20;
    if (!options->max_posted) options->max_posted = POSTED;
    begin(options);
    open_one_each(clients);
}

static uint64_t posted(void) {
    wss_stats stats;
    wss_get_stats(server, &stats);
    return stats.posted;
}

static void end_work(peer **clients) {
    for (int i = 0; i < server->loop_count; i++) peer_free(clients[i]);
    sim_settle(server);
    CHECK_INT(posted(), 0);
    finish();
}

/* Turns all loops but one, and lets the first clients read, until nothing more comes. */
static void read_all(peer **clients, int *got, int count, int without) {
    int come;
    do {
        come = 0;
        without_loop(without);
        for (int i = 0; i < count; i++) {
            int more = frames_of(clients[i]);
            got[i] += more;
            come += more;
        }
    } while (come);
}

/* Broadcasts of another thread, and of a handler of a loop that is idle, are refused when the one that is held up has its fill.
   What was accepted reaches everybody, what was refused reaches nobody. */
static void broadcasts(int threads, int handler, size_t size) {
    peer *clients[4];
    wss_options options;
    begin_work(clients, &options, threads);
    int last = threads - 1;
    int got[4] = {0};
    message_size = size;
    if (handler) {
        wss_on_data(server, broadcast_in_a_handler, NULL);
        peer_frame(clients[0], 0x82, "go", 2);
        without_loop(last);
    } else {
        /* the other loops keep up */
        accepted = 0;
        do {
            static char text[4096];
            refused_with = wss_broadcast_data(server, WSS_BINARY, text, size);
            accepted += refused_with == WSS_OK;
            without_loop(last);
            for (int i = 0; i < last; i++) got[i] += frames_of(clients[i]);
        } while (refused_with == WSS_OK && accepted < 20 * POSTED);
    }
    CHECK_INT(refused_with, WSS_ERR_QUEUE_FULL);
    CHECK_INT(accepted, POSTED);
    read_all(clients, got, last, last);
    CHECK_INT(posted(), POSTED);
    for (int i = 0; i < last; i++) CHECK_INT(got[i], accepted);
    CHECK_INT(frames_of(clients[last]), 0);
    read_all(clients, got, threads, -1);
    for (int i = 0; i < threads; i++) CHECK_INT(got[i], accepted);
    CHECK_INT(wss_broadcast_data(server, WSS_BINARY, "x", 1), WSS_OK);
    sim_settle(server);
    for (int i = 0; i < threads; i++) CHECK_INT(frames_of(clients[i]), 1);
    end_work(clients);
}

static void test_broadcasts_are_bounded_for_every_loop(void) {
    for (int threads = 2; threads <= 4; threads++) {
        broadcasts(threads, 0, 1);
        broadcasts(threads, 1, 1);
    }
}

/* Their bytes likewise. */
static void test_bytes_are_bounded_for_every_loop(void) {
    enum { BYTES = 256 * 1024, SIZE = 4000 };
    for (int handler = 0; handler < 2; handler++) {
        peer *clients[2];
        int got[2] = {0};
        wss_options options;
        prepare(&options, 2);
        options.max_queued = 8 << 20;
        options.max_posted_bytes = BYTES;
        begin(&options);
        open_one_each(clients);
        message_size = SIZE;
        if (handler) {
            wss_on_data(server, broadcast_in_a_handler, NULL);
            peer_frame(clients[0], 0x82, "go", 2);
            without_loop(1);
        } else {
            accepted = 0;
            do {
                static char text[SIZE];
                refused_with = wss_broadcast_data(server, WSS_BINARY, text, SIZE);
                accepted += refused_with == WSS_OK;
                without_loop(1);
                frames_of(clients[0]);
            } while (refused_with == WSS_OK && accepted < 20 * POSTED);
        }
        CHECK_INT(refused_with, WSS_ERR_QUEUE_FULL);
        CHECK(accepted <= BYTES / SIZE && accepted > BYTES / (SIZE + 512) - 1);
        read_all(clients, got, 2, -1);
        end_work(clients);
    }
}

/* Sends, pauses and timers count too, and a timer that was refused takes no place. What ends something never waits for room. */
static void test_other_work_is_bounded_too(void) {
    peer *clients[2];
    wss_options options;
    wss_timer first = {0};
    prepare(&options, 2);
    options.max_posted = POSTED;
    begin(&options);
    wss_conn conn = open_one_each(clients);
    int count = 0;
    int result;
    do result = count % 3 == 0 ? wss_pause(server, conn) : count % 3 == 1 ? wss_resume(server, conn)
                                                                           : wss_send_data(server, conn, WSS_TEXT, "x", 1);
    while (result == WSS_OK && ++count < 20 * POSTED);
    CHECK_INT(result, WSS_ERR_QUEUE_FULL);
    CHECK_INT(count, POSTED);
    CHECK_INT(posted(), POSTED);
    CHECK_INT(wss_pause(server, conn), WSS_ERR_QUEUE_FULL);
    CHECK_INT(wss_broadcast_data(server, WSS_TEXT, "x", 1), WSS_ERR_QUEUE_FULL);
    CHECK_INT(posted(), POSTED);
    /* the first loop is held up: timers are its */
    for (count = 0; count < 20 * POSTED; count++) {
        wss_timer timer = wss_timer_start(server, 1000, 0, keep_asked, NULL);
        if (!timer.id) break;
        if (!first.id) first = timer;
    }
    CHECK_INT(count, POSTED);
    CHECK_INT(posted(), 2 * POSTED);
    CHECK_INT(server->timers.live, POSTED);
    CHECK_INT(wss_timer_cancel(server, first), WSS_OK);
    CHECK_INT(wss_close(server, conn, 4000, "enough"), WSS_OK);
    CHECK_INT(wss_close(server, conn, 4000, "enough"), WSS_ERR_GONE);
    sim_settle(server);
    CHECK_INT(posted(), 0);
    CHECK_INT(server->timers.live, POSTED - 1);
    CHECK_INT(frames_of(clients[1]), POSTED / 3 + 1); /* and the Close */
    CHECK_INT(frames_of(clients[0]), 0);
    for (int i = 0; i < 2; i++) peer_free(clients[i]);
    sim_settle(server);
    finish();
}

static const wss__conn *watched;
static size_t watched_coming;
static long looks;

static void look(void) {
    if (!watched) return;
    looks++;
    CHECK_INT(wss__session_coming(&watched->session), watched_coming);
    CHECK_INT(wss__session_queued(&watched->session), 0);
}

static int looking_lock(pthread_mutex_t *mutex) {
    look();
    return sim_mutex_lock(mutex);
}

static int looking_unlock(pthread_mutex_t *mutex) {
    look();
    return sim_mutex_unlock(mutex);
}

/* A send that the inbox refuses is never in the account of the connection, not for a moment: its loop would stop reading for
   it, and nobody would say when to go on. */
static void test_a_refused_send_leaves_no_trace(void) {
    static char block[3000];
    peer *clients[1];
    wss_options options;
    prepare(&options, 1);
    options.max_posted = 4;
    options.max_queued = 4096;
    begin(&options);
    wss_conn conn = open_one_each(clients);
    for (int i = 0; i < 4; i++) CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "x", 1), WSS_OK);
    test_system.lock = looking_lock;
    test_system.unlock = looking_unlock;
    looks = 0;
    watched_coming = wss_buffered(server, conn);
    watched = wss__conn_find(server, conn);
    CHECK_INT(watched_coming, 4 * 64);
    CHECK_INT(wss_send_data(server, conn, WSS_BINARY, block, sizeof block), WSS_ERR_QUEUE_FULL);
    CHECK(looks > 2);
    watched = NULL;
    test_system.lock = sim_mutex_lock;
    test_system.unlock = sim_mutex_unlock;
    CHECK_INT(wss_buffered(server, conn), watched_coming);
    sim_settle(server);
    CHECK_INT(frames_of(clients[0]), 4);
    CHECK_INT(wss_buffered(server, conn), 0);
    peer_frame(clients[0], 0x89, "p", 1);
    sim_settle(server);
    CHECK_INT(peer_take(clients[0], NULL, 0, NULL), 0x8a);
    peer_free(clients[0]);
    sim_settle(server);
    finish();
}

/* ---- addresses ---- */

enum { LIMIT = 10, BURST = 60 };

static int held(peer **clients, int count) {
    int kept = 0;
    for (int i = 0; i < count; i++) kept += !clients[i]->server_gone && clients[i]->listener < 0;
    return kept;
}

/* A burst of one address: exactly as many as it may have stay, whichever loops they were dealt to and however long those
   take. */
static void burst_of_one_address(int threads) {
    peer *clients[BURST];
    wss_options options;
    prepare(&options, threads);
    options.max_per_address = LIMIT;
    begin(&options);
    for (int i = 0; i < BURST; i++) {
        clients[i] = dial(NULL);
        peer_text(clients[i], PEER_REQUEST("/") "\r\n");
    }
    for (int i = 0; i < 3; i++) wss__loop_turn(&server->loops[0], 0); /* nobody else gets to work */
    sim_settle(server);
    CHECK_INT(held(clients, BURST), LIMIT);
    CHECK_INT(connects, LIMIT);
    for (int i = 0; i < BURST; i++) { /* one leaves, one may come */
        if (clients[i]->server_gone) continue;
        peer_reset(clients[i]);
        break;
    }
    sim_settle(server);
    peer *more[2];
    for (int i = 0; i < 2; i++) more[i] = dial(NULL);
    sim_settle(server);
    CHECK_INT(held(more, 2), 1);
    for (int i = 0; i < 2; i++) peer_free(more[i]);
    for (int i = 0; i < BURST; i++) peer_free(clients[i]);
    sim_settle(server);
    finish();
}

static void test_a_burst_of_one_address(void) {
    for (int threads = 1; threads <= 4; threads++) burst_of_one_address(threads);
}

static long unlocks_left; /* 0: nothing happens */
static int unlocks_struck;

static void *turn_first_loop(void *arg) {
    for (int i = 0; i < 2; i++) wss__loop_turn(&server->loops[0], 0);
    return arg;
}

/* Another thread turns the first loop at one moment of another loop's turn. */
static int striking_unlock(pthread_mutex_t *mutex) {
    pthread_t thread;
    int result = sim_mutex_unlock(mutex);
    if (sim.locks || !unlocks_left || --unlocks_left) return result;
    unlocks_struck = 1;
    if (pthread_create(&thread, NULL, turn_first_loop, NULL) != 0) abort();
    pthread_join(thread, NULL);
    return result;
}

/* Two of one address, which may have one, dealt to two loops: the second comes at each moment of the other one's turn. */
static void test_two_at_once(void) {
    int last = 0;
    test_system.unlock = striking_unlock;
    for (int moment = 1; !last; moment++) {
        peer *clients[2];
        wss_options options;
        prepare(&options, 2);
        options.max_per_address = 1;
        begin(&options);
        peer *other = dial("192.0.2.99");
        sim_settle(server); /* the first loop has one, so the next is not its */
        clients[0] = dial(NULL);
        wss__loop_turn(&server->loops[0], 0);
        peer_free(other);
        without_loop(1);
        clients[1] = dial(NULL);
        unlocks_left = moment;
        unlocks_struck = 0;
        wss__loop_turn(&server->loops[1], 0);
        unlocks_left = 0;
        last = !unlocks_struck;
        sim_settle(server);
        CHECK_INT(held(clients, 2), 1);
        for (int i = 0; i < 2; i++) peer_free(clients[i]);
        sim_settle(server);
        finish();
        CHECK(moment < 100);
        if (moment == 100) break;
    }
    test_system.unlock = sim_mutex_unlock;
}

/* An IPv6 client has a network of addresses: they count together. Other networks, and IPv4 in its own clothes or in IPv6's,
   count apart. */
static void test_a_network_counts_as_one(void) {
    static const char *const addresses[] = {"2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::2"};
    static const char *const others[] = {"2001:db8:1:3::1", "2001:db8:0:2::1", "192.0.2.1", "192.0.2.2", "::ffff:192.0.2.3"};
    peer *clients[3];
    peer *apart[5];
    wss_options options;
    prepare(&options, 1);
    options.max_per_address = 2;
    options.address = NULL;
    begin(&options);
    for (int i = 0; i < 3; i++) {
        clients[i] = dial(addresses[i]);
        sim_settle(server);
    }
    CHECK_INT(held(clients, 3), 2);
    for (int i = 0; i < 5; i++) apart[i] = dial(others[i]);
    sim_settle(server);
    CHECK_INT(held(apart, 5), 5);
    peer *mapped[2]; /* the same as one without the mapping */
    mapped[0] = dial("::ffff:192.0.2.1");
    mapped[1] = dial("192.0.2.3");
    sim_settle(server);
    CHECK_INT(held(mapped, 2), 2);
    peer *over[2];
    over[0] = dial("192.0.2.1");
    over[1] = dial("::ffff:192.0.2.3");
    sim_settle(server);
    CHECK_INT(held(over, 2), 0);
    for (int i = 0; i < 3; i++) peer_free(clients[i]);
    for (int i = 0; i < 5; i++) peer_free(apart[i]);
    for (int i = 0; i < 2; i++) peer_free(mapped[i]);
    for (int i = 0; i < 2; i++) peer_free(over[i]);
    sim_settle(server);
    finish();
}

/* What counts is the open socket: it ends with it, although a queue still has the events. A Unix socket has no address. */
static void test_an_address_is_free_when_its_socket_closes(void) {
    peer *clients[3];
    wss_options options;
    wss_options own;
    prepare(&options, 2);
    sim_queue_options(&own);
    wss_queue *queue = wss_queue_create(&own, NULL);
    options.queue = queue;
    options.max_per_address = 1;
    options.address = "127.0.0.1,unix:/tmp/socket";
    begin(&options);
    for (int i = 0; i < 5; i++) { /* nobody drains the queue */
        clients[0] = dial(NULL);
        peer_text(clients[0], PEER_REQUEST("/") "\r\n");
        clients[1] = dial(NULL);
        for (int turns = 0; turns < 5; turns++) sim_turn(server, 0);
        CHECK_INT(held(clients, 2), 1);
        CHECK_INT(peer_take_head(clients[0]), 101);
        for (int k = 0; k < 2; k++) peer_free(clients[k]);
        for (int turns = 0; turns < 5; turns++) sim_turn(server, 0);
    }
    CHECK_INT(connects, 0);
    for (int i = 0; i < 3; i++) clients[i] = peer_connect_unix("/tmp/socket");
    sim_settle(server);
    CHECK_INT(connects, 5);
    CHECK_INT(held(clients, 3), 3);
    for (int i = 0; i < 3; i++) peer_free(clients[i]);
    sim_settle(server);
    CHECK_INT(sim_destroy(server), WSS_OK);
    CHECK_INT(wss_queue_destroy(queue), WSS_OK);
    CHECK_INT(connects, ends);
    sim_finish();
}

int main(void) {
    alarm(100);
    RUN(test_dealt_evenly);
    RUN(test_the_limit_counts_what_was_dealt);
    RUN(test_the_oldest_handshake_makes_room);
    RUN(test_a_loop_held_up_makes_room_for_one);
    RUN(test_who_is_asked_looks_at_once);
    RUN(test_room_without_memory);
    RUN(test_not_before_a_second);
    RUN(test_nobody_is_silent_who_has_spoken);
    RUN(test_requests_of_the_dead_are_bounded);
    RUN(test_an_error_told_once_is_not_forgotten);
    RUN(test_destroy_does_not_shorten_a_stop);
    RUN(test_who_has_asked_is_left_alone);
    RUN(test_who_was_refused_is_no_handshake);
    RUN(test_a_loop_held_up_shuts_nobody_out);
    RUN(test_broadcasts_are_bounded_for_every_loop);
    RUN(test_bytes_are_bounded_for_every_loop);
    RUN(test_other_work_is_bounded_too);
    RUN(test_a_refused_send_leaves_no_trace);
    RUN(test_a_burst_of_one_address);
    RUN(test_two_at_once);
    RUN(test_a_network_counts_as_one);
    RUN(test_an_address_is_free_when_its_socket_closes);
    return test_end("admission");
}
