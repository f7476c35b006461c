/* Lives of connections drawn from a seed: clients that come, talk, fall silent, are cut off or never read, a server that
   sends, broadcasts, pauses, closes and stops, a kernel and an allocator that fail now and then. After each turn the
   invariants hold, numbered messages arrive in order, and at the end all is given back. lives SEED COUNT runs others. */
#include "kernel.h"

#include "../test.h"

enum { CROWD = 40, ROUNDS = 120, STATES = 4096 };

typedef struct life {
    peer *peer;
    int phase; /* 0: none, 1: head under way, 2: open as far as the client knows */
    size_t asked; /* bytes of the request that were written */
    unsigned long last[8]; /* number of the newest message, by the thread that sent it */
    int reads;
} life;

static wss_server *server;
static wss_queue *queue;
static life lives[CROWD];
static struct {
    uint64_t id;
    int state;
} states[STATES]; /* by the order of their connect */
static int state_count;
static long total_lives, total_messages, connects, disconnects, given, freed;
static unsigned long number;
static char noise[20000];
static unsigned long seed;

static void violated(const char *text) {
    test_broken++;
    if (test_broken <= 10) printf("violation: %s, seed %lu\n", text, seed);
}

static int find_state(uint64_t id) {
    for (int i = state_count; i-- > 0;)
        if (states[i].id == id) return i;
    return -1;
}

static void free_user(void *user) {
    freed++;
    free(user);
}

static int in_posted;

/* Which thread this would be. One that polls a single loop is one thread; loops have threads of their own. A posted function
   is taken for a thread too: what was sent behind the post may have been sent before it ran. */
static int sending_thread(void) {
    if (in_posted) return 7;
    const wss__loop *loop = wss__conn_own_loop(server);
    return server->loop_count == 1 || !loop ? 0 : loop->index + 1;
}

/* What an application may do anywhere, handlers included. */
static void meddle(wss_conn conn) {
    wss_info info;
    char text[600];
    size_t size = sim_below(4) ? 20 : sizeof text;
    memset(text, '.', sizeof text);
    switch (sim_below(14)) {
    case 0: wss_close(server, conn, 1000 + (int)sim_below(4), "bye"); break;
    case 1: wss_broadcast(server, "note", wss_json("{\"n\":1}")); break;
    case 2: wss_broadcast_data_except(server, conn, WSS_BINARY, noise, sim_below(3000)); break;
    case 3: wss_broadcast_latest(server, "key", "note", wss_json("{}")); break;
    case 4: wss_send_latest(server, conn, "key", "state", wss_json("{\"v\":2}")); break;
    case 5: wss_pause(server, conn); break;
    case 6: wss_resume(server, conn); break;
    case 7: wss_get_info(server, conn, &info); break;
    case 8: wss_send_data(server, conn, WSS_BINARY, noise, sim_below(sizeof noise)); break;
    default:
        text[snprintf(text, sizeof text, "n:%d:%lu ", sending_thread(), ++number)] = '.';
        wss_send_data(server, conn, WSS_TEXT, text, size);
        break;
    }
}

static void on_connect(const wss_event *e) {
    SIM_TRUE(sim.locks == 0, "a mutex is held while a handler runs");
    SIM_TRUE(find_state(e->conn.id) < 0, "connect came twice");
    connects++;
    if (state_count < STATES) {
        states[state_count].id = e->conn.id;
        states[state_count++].state = 1;
    }
    if (sim_below(3) == 0) meddle(e->conn);
}

static void on_disconnect(const wss_event *e) {
    int at = find_state(e->conn.id);
    SIM_TRUE(sim.locks == 0, "a mutex is held while a handler runs");
    SIM_TRUE(state_count == STATES || (at >= 0 && states[at].state == 1), "disconnect without connect, or twice");
    if (at >= 0) states[at].state = 2;
    disconnects++;
    if (sim_below(4) == 0) meddle(e->conn);
}

static void on_data(const wss_event *e) {
    int at = find_state(e->conn.id);
    SIM_TRUE(state_count == STATES || (at >= 0 && states[at].state == 1), "a message of a connection that is not open");
    total_messages++;
    if (sim_below(2)) wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
    if (sim_below(4) == 0) meddle(e->conn);
}

static void on_message(const wss_event *e) {
    wss_send(e->server, e->conn, e->type, e->args);
}

static void on_drain(const wss_event *e) {
    if (sim_below(2)) meddle(e->conn);
}

static void on_upgrade(const wss_event *e) {
    if (sim_below(8) == 0) {
        wss_refuse(e->server, e->conn, NULL);
        return;
    }
    if (sim_below(10) == 0) return; /* never answered */
    void *user = malloc(1);
    if (wss_accept(e->server, e->conn, NULL, NULL, 0, user) == WSS_OK) given++;
    else free(user);
}

static void on_timer(const wss_event *e) {
    meddle(wss_next(e->server, (wss_conn){0}));
}

static void on_posted(void *arg) {
    (void)arg;
    in_posted = 1;
    meddle(wss_next(server, (wss_conn){0}));
    in_posted = 0;
}

/* ---- clients ---- */

static void look_at(life *it, int first, const char *data, size_t size) {
    int opcode = first & 15;
    SIM_TRUE((first & 0xf0) == 0x80 && (opcode == 1 || opcode == 2 || (opcode >= 8 && opcode <= 10)), "a frame that is none");
    if (first != 0x81 || size < 5 || data[0] != 'n' || data[1] != ':') return;
    unsigned long got = strtoul(data + 4, NULL, 10);
    unsigned thread = (unsigned)(data[2] - '0') & 7;
    SIM_TRUE(got > it->last[thread], "messages out of order");
    it->last[thread] = got;
}

static void read_all(life *it) {
    const char *data;
    size_t size, whole;
    int first;
    if (it->phase == 1 && peer_take_head(it->peer) == 101) it->phase = 2;
    while (it->phase == 2 && (first = peer_peek(it->peer, &data, &size, &whole)) >= 0) {
        char text[125];
        look_at(it, first, data, size);
        size_t length = size < sizeof text ? size : sizeof text;
        memcpy(text, data, length);
        peer_skip(it->peer, whole);
        if (first == 0x89) peer_frame(it->peer, 0x8a, text, length);
        if (first == 0x88) peer_frame(it->peer, 0x88, text, length < 2 ? length : 2);
    }
}

static void leave(life *it) {
    if (!it->peer) return;
    if (sim_below(4) == 0) peer_reset(it->peer);
    peer_free(it->peer);
    memset(it, 0, sizeof *it);
}

static void come(life *it) {
    it->peer = peer_connect(server->options.port);
    if (!it->peer) return;
    total_lives++;
    it->phase = 1;
    it->reads = sim_below(6) != 0;
    if (sim_below(3) == 0) it->peer->out.limit = 200 + sim_below(5000);
}

static void knock(life *it) {
    const char *request = sim_below(20) ? PEER_REQUEST("/") "\r\n" : "GET / HTTP/1.1\r\nHost: a b\r\n\r\n";
    size_t left = strlen(request) - (it->asked < strlen(request) ? it->asked : strlen(request));
    size_t step = sim_below(3) ? left : sim_below(left + 1);
    peer_write(it->peer, request + strlen(request) - left, step);
    it->asked += step;
}

static void talk(life *it) {
    static const int kinds[] = {0x81, 0x81, 0x82, 0x82, 0x89, 0x8a, 0x01, 0x80, 0x00};
    if (sim_below(60) == 0) {
        peer_write(it->peer, noise, 1 + sim_below(40)); /* not a frame */
    } else if (sim_below(6) == 0) {
        peer_frame(it->peer, 0x81, "{\"__MESSAGE__\":\"t\",\"a\":[1]}", 27);
    } else if (sim_below(40) == 0) {
        peer_frame(it->peer, 0x88, "\3\350", sim_below(2) * 2);
    } else {
        int first = kinds[sim_below(sim_below(10) ? 6 : 9)];
        peer_frame(it->peer, first, noise + 10000, first >= 0x88 ? sim_below(126) : sim_below(sim_below(10) ? 100 : 9000));
    }
}

static void live(life *it) {
    if (!it->peer) {
        come(it);
    } else if (peer_ended(it->peer) || sim_below(50) == 0) {
        leave(it);
    } else if (it->phase == 1) {
        knock(it);
    } else {
        talk(it);
    }
    if (it->peer && it->reads) read_all(it);
    if (it->peer && sim_below(100) == 0) peer_finish(it->peer);
}

/* ---- one server's life ---- */

static void choose(wss_options *options) {
    wss_options queue_options;
    sim_options(options);
    options->send_policy = sim_below(2) ? WSS_POLICY_CLOSE : WSS_POLICY_REFUSE;
    options->max_queued = 1000 + sim_below(20000);
    options->max_message = 5000 + sim_below(20000);
    options->max_connections = 10 + (int)sim_below(40);
    options->user_free = free_user;
    options->handshake_ms = 2000;
    options->message_ms = 3000;
    options->stall_ms = 2000;
    options->ping_ms = 1500;
    options->pong_ms = 1500;
    options->close_ms = 1000;
    if (sim_below(3) == 0) options->idle_ms = 4000;
    options->threads = sim_below(4) ? 1 : 2 + (int)sim_below(2);
    if (sim_below(4) == 0) options->memory_budget = (size_t)options->threads * 2300000 + 300000 + sim_below(400000);
    sim_queue_options(&queue_options);
    queue = sim_below(3) ? NULL : wss_queue_create(&queue_options, NULL);
    options->queue = queue;
}

static void upset(void) {
    static const int calls[] = {SIM_recv, SIM_send, SIM_sendmsg, SIM_accept4, SIM_epoll_wait, SIM_epoll_ctl, SIM_shutdown};
    static const int errors[] = {EAGAIN, EINTR, ENOMEM, ENOBUFS, ECONNRESET};
    sim.fault_count = 0;
    int call = calls[sim_below(7)];
    int error = call == SIM_epoll_wait ? EINTR : call == SIM_epoll_ctl ? ENOMEM : errors[sim_below(5)];
    if (call == SIM_accept4 && error == ECONNRESET) error = EMFILE;
    if (sim_below(2)) sim_add_fault(call, SIM_ERROR, error, 1 + (long)sim_below(20), 1 + (long)sim_below(2));
    sim.fail_at = sim_below(3) ? 0 : sim.grown + 1 + (long)sim_below(30);
}

static void settle(void) {
    if (sim_below(3)) sim_settle(server);
    else sim_turn(server, 0);
    sim_check(server);
}

static void one_server(void) {
    wss_options options;
    sim_begin(seed);
    sim_on_violation = violated;
    choose(&options);
    wss_error why;
    server = wss_create(&options, &why);
    if (!server) {
        printf("%s, seed %lu\n", why.text, seed);
        exit(1);
    }
    state_count = 0;
    number = 0;
    connects = disconnects = given = freed = 0;
    int registered = wss_on_connect(server, on_connect, NULL) | wss_on_disconnect(server, on_disconnect, NULL);
    registered |= wss_on_data(server, on_data, NULL) | wss_on_message(server, "t", on_message, NULL);
    registered |= wss_on_drain(server, on_drain, NULL);
    if (sim_below(2)) registered |= wss_on_upgrade(server, on_upgrade, NULL);
    CHECK_INT(registered, WSS_OK);
    wss_timer_start(server, 100, 70, on_timer, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < 10; i++) live(&lives[sim_below(CROWD)]);
        if (sim_below(4) == 0) wss_post(server, on_posted, NULL);
        if (sim_below(6) == 0) meddle(wss_next(server, (wss_conn){0}));
        if (sim_below(5) == 0) upset();
        if (sim_below(3) == 0) sim_move_clock(sim_below(sim_below(10) ? 50 : 2500));
        if (sim_below(ROUNDS * 2) == 0) wss_stop(server, (int)sim_below(3000));
        settle();
    }
    for (int i = 0; i < CROWD; i++) leave(&lives[i]);
    CHECK_INT(sim_destroy(server), WSS_OK);
    CHECK_INT(connects, disconnects);
    CHECK_INT(given, freed);
    if (queue) CHECK_INT(wss_queue_destroy(queue), WSS_OK);
    sim_finish();
}

static unsigned long first_seed = 1, seeds = 60;

static void test_random_lives(void) {
    for (seed = first_seed; seed < first_seed + seeds && test_broken < 10; seed++) one_server();
}

int main(int argc, char **argv) {
    struct timespec from, to;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1) first_seed = strtoul(argv[1], NULL, 10);
    if (argc > 2) seeds = strtoul(argv[2], NULL, 10);
    for (size_t i = 0; i < sizeof noise; i++) noise[i] = (char)('a' + i * 7 % 26);
    clock_gettime(CLOCK_MONOTONIC, &from);
    RUN(test_random_lives);
    clock_gettime(CLOCK_MONOTONIC, &to);
    double seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    printf("lives: %lu servers, %ld connections, %ld messages, %.0f connections a second\n", seeds, total_lives, total_messages,
           (double)total_lives / seconds);
    return test_end("lives");
}
