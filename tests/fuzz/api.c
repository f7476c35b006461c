/* Fuzz target of the calls: any sequence of them, on the kernel in memory, gives what a small model of connections, user
   pointers, queued bytes, posts and timers says. */
#define FUZZ_TARGET "api"
#include "../sim/kernel.h"

#include "fuzz.h"

enum { CONNS = 24, TIMERS = 8, MOST = 5, QUEUED = 3000, POSTED = 6, OPERATIONS = 100, SEEN = 32 };

/* A connection, as the model has it. */
typedef struct model {
    peer *peer;
    wss_conn conn;
    int open;       /* connect was told, and neither end has begun to close */
    int told;       /* its disconnect was told */
    int full;       /* the kernel takes no more for it: what is sent waits */
    size_t waiting; /* what the messages that wait cost */
    size_t wire;    /* and their bytes */
    void *user;
} model;

typedef struct model_timer {
    wss_timer timer;
    uint64_t due; /* milliseconds; 0: not running */
    int repeat;
} model_timer;

typedef struct world {
    fuzz_input in;
    wss_server *server;
    wss_options options;
    model conns[CONNS];
    int made;
    wss_conn newest;
    int ghosts;      /* clients that went before there was a place for them */
    int ghosts_seen; /* of them, let in and out again */
    model_timer timers[TIMERS];
    int timer_count;
    unsigned posted, ran;
    size_t in_post; /* posts that wait */
    int stopping;
    int stopped;
    int marks[SEEN];
} world;

static world w;
static char filler[4096];

static void violated(const char *text) {
    fprintf(stderr, "violation: %s\n", text);
    fuzz_name_file();
    abort();
}

static uint64_t now(void) {
    return sim.now / 1000;
}

static model *find(wss_conn conn) {
    for (int i = 0; i < w.made; i++)
        if (w.conns[i].conn.id == conn.id) return &w.conns[i];
    return NULL;
}

static void on_connect(const wss_event *e) {
    FUZZ_CHECK(!find(e->conn) && e->conn.id != 0 && e->user == NULL);
    w.newest = e->conn;
}

static void on_disconnect(const wss_event *e) {
    model *m = find(e->conn);
    if (!m) {
        FUZZ_CHECK(w.ghosts > 0);
        w.ghosts--;
        w.ghosts_seen++;
        return;
    }
    FUZZ_CHECK(!m->told && e->user == m->user);
    m->told = 1;
    m->open = 0;
}

static void on_timer(const wss_event *e) {
    model_timer *t = (model_timer *)e->context;
    FUZZ_CHECK(t->due && t->due <= now());
    if (!t->repeat) t->due = 0;
    while (t->due && t->due <= now()) t->due += (uint64_t)t->repeat; /* what was missed is left out */
}

static void on_post(void *arg) {
    FUZZ_CHECK((unsigned)(uintptr_t)arg == w.ran + 1 && w.in_post > 0);
    w.ran++;
    w.in_post--;
}

/* Clients that read take all that has come. */
static void read_all(void) {
    size_t size;
    for (int i = 0; i < w.made; i++) {
        model *m = &w.conns[i];
        if (!m->peer || m->full) continue;
        peer_data(m->peer, &size);
        peer_skip(m->peer, size);
    }
}

/* All that was told to the server has been done. */
static void settle(void) {
    if (w.stopped) return;
    read_all();
    if (sim_settle(w.server) != WSS_OK) w.stopped = 1;
    FUZZ_CHECK(w.in_post == 0 && w.ran == w.posted);
    for (int i = 0; i < w.timer_count; i++) FUZZ_CHECK(!w.timers[i].due || w.timers[i].due >= now() || w.stopping);
}

/* Those that are closing are counted until their disconnect. */
static size_t count_open(void) {
    size_t count = 0;
    for (int i = 0; i < w.made; i++) count += w.conns[i].told ? 0 : 1;
    return count;
}

static model *pick(void) {
    unsigned choice = fuzz_byte(&w.in);
    return w.made ? &w.conns[choice % (unsigned)w.made] : NULL;
}

/* What the server says of all connections is what the model says. */
static void check(void) {
    wss_conn at = {0};
    wss_stats stats;
    size_t visited = 0;
    size_t left = 0;
    settle();
    wss_get_stats(w.server, &stats);
    FUZZ_CHECK(wss_count(w.server) == count_open() && stats.connections == count_open());
    FUZZ_CHECK(stats.opened == (uint64_t)(w.made + w.ghosts_seen) && stats.posted == 0);
    for (at = wss_next(w.server, at); at.id; at = wss_next(w.server, at)) {
        model *m = find(at);
        FUZZ_CHECK(m && !m->told);
        visited++;
        FUZZ_CHECK(visited <= CONNS);
    }
    for (int i = 0; i < w.made; i++) left += w.conns[i].open ? 1 : 0;
    FUZZ_CHECK(visited >= left && visited <= count_open());
    for (int i = 0; i < w.made; i++) {
        wss_info info;
        model *m = &w.conns[i];
        int result = wss_get_info(w.server, m->conn, &info);
        FUZZ_CHECK(result == (m->told ? WSS_ERR_GONE : WSS_OK));
        FUZZ_CHECK(!m->told || wss_buffered(w.server, m->conn) == 0);
        if (m->open && m->full) FUZZ_CHECK(wss_buffered(w.server, m->conn) == m->waiting && info.buffered == m->waiting);
        if (m->open && !m->full) FUZZ_CHECK(wss_buffered(w.server, m->conn) == 0);
    }
}

/* A client that reads, or one that does not: then the network between is full from the start. */
static void join(void) {
    unsigned how = fuzz_byte(&w.in);
    if (w.made == CONNS || w.stopping) return;
    w.newest.id = 0;
    peer *client = peer_connect(w.options.port);
    if (!client) return;
    peer_text(client, PEER_REQUEST("/") "\r\n");
    settle();
    int status = peer_take_head(client);
    if (status != 101) { /* it waits until somebody leaves; it has gone by then */
        FUZZ_CHECK(status == 0);
        w.ghosts++;
        peer_free(client);
        settle();
        return;
    }
    model *m = &w.conns[w.made++];
    memset(m, 0, sizeof *m);
    m->peer = client;
    m->conn = w.newest;
    m->open = 1;
    m->full = how & 1;
    if (m->full) client->out.limit = 0;
    FUZZ_CHECK(m->conn.id != 0);
}

static void leave(void) {
    model *m = pick();
    if (!m || !m->peer) return;
    peer_reset(m->peer);
    peer_free(m->peer);
    m->peer = NULL;
    settle();
    FUZZ_CHECK(m->told && !m->open);
}

static void wait_in_queue(model *m, size_t payload) {
    size_t wire = payload + (payload < 126 ? 2 : payload < 65536 ? 4 : 10);
    m->wire += wire;
    m->waiting += wss__mem_charge(sizeof(wss__buf_frame) + wire) + 16;
}

/* One message: refused by a connection that is gone or whose queue is full, and else in its account. */
static void send_one(void) {
    model *m = pick();
    size_t size = (size_t)fuzz_byte(&w.in) * 6;
    if (!m) return;
    settle();
    int result = wss_send_data(w.server, m->conn, WSS_BINARY, filler, size);
    if (w.stopping) {
        FUZZ_CHECK(result == WSS_ERR_STOPPED);
    } else if (!m->open) {
        FUZZ_CHECK(result == WSS_ERR_GONE);
    } else if (m->waiting >= QUEUED) {
        FUZZ_CHECK(result == WSS_ERR_FULL);
    } else {
        FUZZ_CHECK(result == WSS_OK);
        if (m->full) wait_in_queue(m, size);
        FUZZ_CHECK(!m->full || wss_buffered(w.server, m->conn) == m->waiting);
    }
}

static void broadcast(void) {
    size_t size = (size_t)fuzz_byte(&w.in) * 3;
    model *except = fuzz_byte(&w.in) & 1 ? pick() : NULL;
    wss_conn none = {0};
    settle();
    int result = wss_broadcast_data_except(w.server, except ? except->conn : none, WSS_BINARY, filler, size);
    FUZZ_CHECK(result == (w.stopping ? WSS_ERR_STOPPED : WSS_OK));
    for (int i = 0; i < w.made && result == WSS_OK; i++) {
        model *m = &w.conns[i];
        if (m != except && m->open && m->full && m->waiting < QUEUED) wait_in_queue(m, size);
    }
    settle();
}

/* The client begins to read: all that waits leaves. */
static void drain(void) {
    size_t size;
    model *m = pick();
    if (!m || !m->peer || !m->open) return;
    m->peer->out.limit = 65536;
    m->peer->nospace = 1;
    sim_peer_drain(m->peer, 0);
    settle();
    peer_data(m->peer, &size);
    if (m->full) FUZZ_CHECK(size == m->wire);
    peer_skip(m->peer, size);
    m->full = 0;
    m->waiting = 0;
    m->wire = 0;
    settle();
}

static void close_one(void) {
    static const int codes[8] = {1000, 1003, 1007, 1014, 3000, 999, 1005, 1015};
    model *m = pick();
    unsigned which = fuzz_below(&w.in, 8);
    if (!m) return;
    settle();
    int result = wss_close(w.server, m->conn, codes[which], which & 1 ? "why" : NULL);
    if (which >= 5) FUZZ_CHECK(result == WSS_ERR_ARGUMENT);
    else if (!m->open) FUZZ_CHECK(result == WSS_ERR_GONE || result == WSS_ERR_STOPPED);
    else FUZZ_CHECK(result == WSS_OK);
    if (result == WSS_OK) m->open = 0;
}

static void set_user(void) {
    model *m = pick();
    void *user = &w.marks[fuzz_below(&w.in, SEEN)];
    if (!m) return;
    settle();
    int result = wss_set_user(w.server, m->conn, user);
    FUZZ_CHECK(result == (m->told ? WSS_ERR_GONE : WSS_OK));
    if (result == WSS_OK) m->user = user;
}

static void post(void) {
    int result = wss_post(w.server, on_post, (void *)(uintptr_t)(w.posted + 1));
    if (w.stopping) FUZZ_CHECK(result == WSS_ERR_STOPPED || result == WSS_OK);
    else FUZZ_CHECK(result == (w.in_post < POSTED ? WSS_OK : WSS_ERR_QUEUE_FULL));
    if (result != WSS_OK) return;
    w.posted++;
    w.in_post++;
}

static void start_timer(void) {
    unsigned how = fuzz_byte(&w.in);
    if (w.timer_count == TIMERS || w.stopping) return;
    model_timer *t = &w.timers[w.timer_count++];
    int delay = (int)(how & 15) * 10;
    t->repeat = how & 16 ? 50 + (int)(how >> 5) * 40 : 0;
    t->due = now() + (uint64_t)delay;
    t->timer = wss_timer_start(w.server, delay, t->repeat, on_timer, t);
    FUZZ_CHECK(t->timer.id != 0);
}

static void cancel_timer(void) {
    unsigned which = fuzz_byte(&w.in);
    if (!w.timer_count || w.stopping) return;
    model_timer *t = &w.timers[which % (unsigned)w.timer_count];
    settle();
    FUZZ_CHECK(wss_timer_cancel(w.server, t->timer) == (t->due ? WSS_OK : WSS_ERR_GONE));
    t->due = 0;
}

/* Calls with what is no argument, or names nothing. */
static void misuse(void) {
    wss_conn never = {0x7fffffff12345678u};
    wss_conn none = {0};
    wss_timer no_timer = {0x7fffffff12345678u};
    wss_info info;
    FUZZ_CHECK(wss_send_data(w.server, none, WSS_TEXT, "x", 1) != WSS_OK);
    FUZZ_CHECK(wss_send_data(w.server, never, WSS_TEXT, "x", 1) != WSS_OK);
    FUZZ_CHECK(wss_send_data(w.server, never, 7, "x", 1) == WSS_ERR_ARGUMENT);
    FUZZ_CHECK(wss_send_data(w.server, never, WSS_TEXT, "\xff", 1) == WSS_ERR_UTF8);
    FUZZ_CHECK(wss_send_data(NULL, never, WSS_TEXT, "x", 1) == WSS_ERR_ARGUMENT);
    FUZZ_CHECK(wss_close(w.server, never, 1000, NULL) != WSS_OK && wss_close(NULL, none, 1000, NULL) == WSS_ERR_ARGUMENT);
    FUZZ_CHECK(wss_get_info(w.server, never, &info) == WSS_ERR_GONE);
    FUZZ_CHECK(wss_set_user(w.server, none, NULL) == WSS_ERR_GONE);
    FUZZ_CHECK(wss_pause(w.server, never) == WSS_ERR_GONE && wss_resume(w.server, none) == WSS_ERR_GONE);
    FUZZ_CHECK(wss_timer_cancel(w.server, no_timer) == WSS_ERR_GONE);
    FUZZ_CHECK(wss_accept(w.server, never, NULL, NULL, 0, NULL) == WSS_ERR_GONE);
    FUZZ_CHECK(wss_buffered(w.server, never) == 0 && wss_count(NULL) == 0);
    FUZZ_CHECK(wss_run(w.server) == WSS_ERR_BUSY);
}

static void stop(void) {
    settle();
    wss_stop(w.server, fuzz_byte(&w.in) & 1 ? 100 : 0);
    w.stopping = 1;
    while (!w.stopped) {
        if (sim_turn(w.server, 50) != WSS_OK) w.stopped = 1;
        FUZZ_CHECK(sim.calls[SIM_epoll_wait] <= 10000);
    }
    for (int i = 0; i < w.made; i++) FUZZ_CHECK(w.conns[i].told && !w.conns[i].open);
    for (int i = 0; i < w.timer_count; i++) w.timers[i].due = 0;
    FUZZ_CHECK(w.in_post == 0 && wss_poll(w.server, 0) == WSS_ERR_STOPPED);
}

static void operate(void) {
    switch (fuzz_below(&w.in, 18)) {
    case 0:
    case 1: join(); break;
    case 2: leave(); break;
    case 3:
    case 4:
    case 5: send_one(); break;
    case 6:
    case 7: broadcast(); break;
    case 8: drain(); break;
    case 9: close_one(); break;
    case 10: set_user(); break;
    case 11:
        for (unsigned count = fuzz_below(&w.in, 10); count > 0; count--) post();
        break;
    case 12: start_timer(); break;
    case 13: cancel_timer(); break;
    case 14: misuse(); break;
    case 15:
        sim_move_clock(fuzz_byte(&w.in));
        settle();
        break;
    case 16: check(); break;
    default:
        if (fuzz_byte(&w.in) == 255 && !w.stopping) stop();
    }
    settle();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    wss_error why;
    memset(&w, 0, sizeof w);
    w.in = fuzz_begin(data, size);
    sim_begin(1);
    sim_on_violation = violated;
    sim_options(&w.options);
    w.options.max_connections = MOST;
    w.options.max_queued = QUEUED;
    w.options.max_posted = POSTED;
    w.options.ping_ms = WSS_OFF;
    w.options.stall_ms = WSS_OFF;
    w.server = wss_create(&w.options, &why);
    FUZZ_CHECK(w.server);
    wss_get_options(w.server, &w.options);
    FUZZ_CHECK(wss_on_connect(w.server, on_connect, NULL) == WSS_OK);
    FUZZ_CHECK(wss_on_disconnect(w.server, on_disconnect, NULL) == WSS_OK);
    FUZZ_CHECK(wss_poll(w.server, 0) == WSS_OK);
    for (int i = 0; i < OPERATIONS && w.in.left; i++) operate();
    if (!w.stopped) check();
    if (!w.stopped) stop();
    FUZZ_CHECK(wss_destroy(w.server) == WSS_OK);
    for (int i = 0; i < w.made; i++) peer_free(w.conns[i].peer);
    sim_finish();
    return 0;
}
