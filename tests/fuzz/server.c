/* Fuzz target of the whole server, on the kernel in memory: the input says what clients do, what handlers call, what time
   passes and what fails. After each turn the invariants hold; each connect has one disconnect; what was given is given
   back once; what arrives at a client is in order and whole; at the end no byte and no descriptor is left. */
#define FUZZ_TARGET "server"
#include "../sim/kernel.h"

#include "fuzz.h"

enum { PEERS = 6, CONNS = 64, TIMERS = 16, USERS = 64, BACKS = 256, OPERATIONS = 120, TURNS = 10000, LEAST = 200, LARGE = 70000 };

/* A connection as its handlers saw it. */
typedef struct known {
    wss_conn conn;
    int asked;        /* its upgrade or HTTP event came */
    int connected;
    int disconnected;
    int closed;       /* wss_close was accepted */
    int user;         /* the user pointer it owns; 0: none */
} known;

/* A client. */
typedef struct client {
    peer *peer;
    int status;      /* of the answer; 0: not yet */
    int closed;      /* a Close frame came */
    unsigned number; /* of the last numbered message */
    int raw;         /* it may have written half a frame */
    int pings;       /* written */
    int answered;    /* of these, up to which */
    unsigned char ping_sizes[OPERATIONS];
    char ping_data[OPERATIONS][16];
} client;

typedef struct timer {
    wss_timer handle;
    uint64_t due; /* microseconds */
    int repeats;
    int fired;
    int cancelled;
} timer;

typedef struct world {
    fuzz_input in;
    wss_options options;
    wss_server *server;
    wss_queue *queue;
    known conns[CONNS];
    int conn_count;
    client clients[PEERS];
    timer timers[TIMERS];
    int timer_count;
    int users;               /* made so far */
    int user_state[USERS];   /* 1: owned by the server, 2: freed, 3: taken back */
    unsigned numbers;        /* of messages */
    size_t written;          /* bytes of large messages of clients */
    unsigned posted, ran;             /* on the server */
    unsigned queue_posted, queue_ran; /* on the queue */
    uint64_t connects;
    uint64_t backs[BACKS];   /* hashes of what was sent back */
    int back_count;
    const wss_event *data;   /* in its handler */
    int depth;   /* handlers now running */
    int in_post; /* of the server: it runs among the sends of the program that polls, so its own have no place */
    int stopped; /* sim_turn said so */
} world;

static world w;
static char large[LARGE];

static void violated(const char *text) {
    fprintf(stderr, "violation: %s\n", text);
    fuzz_name_file();
    abort();
}

/* ---- what the application does ---- */

static known *find_known(wss_conn conn) {
    for (int i = 0; i < w.conn_count; i++)
        if (w.conns[i].conn.id == conn.id) return &w.conns[i];
    return NULL;
}

/* A connection that exists or did, or one that never was. */
static wss_conn pick(void) {
    wss_conn none = {0};
    unsigned choice = fuzz_byte(&w.in);
    if (choice == 255) none.id = 0x1234567890abcdefu;
    if (choice >= 254 || !w.conn_count) return none;
    return w.conns[w.conn_count - 1 - (int)choice % w.conn_count].conn;
}

static int new_user(void) {
    return w.users < USERS - 1 ? ++w.users : 0;
}

static void *user_pointer(int user) {
    return user ? &w.user_state[user] : NULL;
}

static void own(known *k, int user) {
    if (k->user) w.user_state[k->user] = 3;
    k->user = user;
    if (user) w.user_state[user] = 1;
}

static void free_user(void *user) {
    int *state = (int *)user;
    FUZZ_CHECK(sim.locks == 0 && *state == 1);
    *state = 2;
}

/* A numbered text: its letters follow from its number. */
static size_t number_text(char *out, size_t room, unsigned number, size_t fill) {
    size_t size = (size_t)snprintf(out, room, "n:%u:", number);
    for (size_t i = 0; i < fill && size + 1 < room; i++) out[size++] = (char)('a' + (number + i) % 26);
    out[size] = 0;
    return size;
}

static int is_send_result(int result) {
    return result == WSS_OK || result == WSS_ERR_GONE || result == WSS_ERR_FULL || result == WSS_ERR_QUEUE_FULL ||
           result == WSS_ERR_BUDGET || result == WSS_ERR_MEMORY || result == WSS_ERR_STOPPED;
}

static void check_send(wss_conn conn, int result) {
    const known *k = find_known(conn);
    FUZZ_CHECK(is_send_result(result));
    if (k && k->disconnected) FUZZ_CHECK(result != WSS_OK);
}

static void send_numbered(void) {
    unsigned how = fuzz_byte(&w.in);
    size_t fill = (size_t)(how >> 3) * (how & 4 ? 40 : 1);
    size_t size = number_text(large, LARGE, ++w.numbers, fill);
    wss_conn conn = pick();
    int other_thread = w.depth && w.options.threads > 1; /* it would be, but for this kernel */
    if (w.in_post || other_thread) large[0] = 'u';
    switch (how & 3) {
    case 0: check_send(conn, wss_send_data(w.server, conn, WSS_BINARY, large, size)); break;
    case 1: check_send(conn, wss_send_data(w.server, conn, WSS_TEXT, large, size)); break;
    case 2: FUZZ_CHECK(is_send_result(wss_broadcast_data(w.server, WSS_TEXT, large, size))); break;
    default: FUZZ_CHECK(is_send_result(wss_broadcast_data_except(w.server, conn, WSS_BINARY, large, size)));
    }
}

static uint64_t hash(const char *data, size_t size) {
    uint64_t sum = 0xcbf29ce484222325u ^ size;
    for (size_t i = 0; i < size; i++) sum = (sum ^ (unsigned char)data[i]) * 0x100000001b3u;
    return sum;
}

/* What the server sends of its own begins with one of these. */
static int is_ours(const char *data, size_t size) {
    return size && strchr("nu{", data[0]) && data[0];
}

/* The message in hand goes back, or to another: from where it lies, if nothing is in the way. */
static void send_back(void) {
    const wss_event *e = w.data;
    unsigned how = fuzz_byte(&w.in);
    if (!e || is_ours(e->data, e->size) || w.back_count == BACKS) return;
    w.backs[w.back_count++] = hash(e->data, e->size);
    wss_conn to = how & 3 ? e->conn : pick();
    check_send(to, wss_send_data(w.server, to, how & 4 ? WSS_BINARY : e->opcode, e->data, e->size));
}

/* What does not begin like ours was sent back by a handler, and no byte of it is another's. */
static void check_back(const char *data, size_t size) {
    uint64_t sum = hash(data, size);
    int i = 0;
    if (is_ours(data, size)) return;
    while (i < w.back_count && w.backs[i] != sum) i++;
    FUZZ_CHECK(i < w.back_count);
}

static void send_typed(void) {
    static const char *const texts[4] = {"{\"a\":1}", "{}", "{\"b\":[1,2,{\"c\":\"\\u00e4\"}]}", "{"};
    unsigned how = fuzz_byte(&w.in);
    wss_args args = wss_json(texts[how >> 3 & 3]);
    wss_conn conn = pick();
    const char *key = how & 0x20 ? "k1" : "k2";
    int result = WSS_OK;
    switch (how & 7) {
    case 0: result = wss_send(w.server, conn, "t", args); break;
    case 1: result = wss_send_latest(w.server, conn, key, "t", args); break;
    case 2: result = wss_broadcast(w.server, "t", args); break;
    case 3: result = wss_broadcast_latest(w.server, key, "t", args); break;
    case 4: result = wss_broadcast_data(w.server, WSS_TEXT, args.text, args.length); break;
    case 5: result = wss_broadcast_except(w.server, conn, "t", args); break;
    case 6: result = wss_send(w.server, conn, "\xff", args); break;
    default: result = wss_send_data(w.server, conn, WSS_TEXT, "\xc3", 1);
    }
    if ((how & 7) >= 6 || ((how & 7) != 4 && (how >> 3 & 3) == 3)) FUZZ_CHECK(result != WSS_OK);
    else FUZZ_CHECK(is_send_result(result));
}

static void close_conn(void) {
    static const int codes[8] = {1000, 1001, 1005, 3000, 4999, 0, 1006, 5000};
    wss_conn conn = pick();
    known *k = find_known(conn);
    int code = codes[fuzz_below(&w.in, 8)];
    int result = wss_close(w.server, conn, code, code & 1 ? "reason" : NULL);
    FUZZ_CHECK(result <= WSS_OK);
    if (result != WSS_OK) return;
    FUZZ_CHECK(k && !k->closed && !k->disconnected);
    FUZZ_CHECK(code != 1005 && code != 1006 && code != 0 && code != 5000);
    k->closed = 1;
}

static void answer(void) {
    static const wss_header extra = {"X-Extra", "yes"};
    wss_answer reply;
    wss_conn conn = pick();
    known *k = find_known(conn);
    unsigned how = fuzz_byte(&w.in);
    memset(&reply, 0, sizeof reply);
    reply.body = "body";
    reply.size = how & 8 ? 4 : 0;
    reply.headers = how & 16 ? &extra : NULL;
    reply.header_count = how & 16 ? 1 : 0;
    reply.status = how & 1 ? 404 : 200;
    int user = (how & 3) == 0 ? new_user() : 0;
    if (how & 4) {
        FUZZ_CHECK(wss_reply(w.server, conn, &reply) <= WSS_OK);
    } else if (how & 3) {
        int result = wss_refuse(w.server, conn, &reply);
        if (reply.status < 300) FUZZ_CHECK(result != WSS_OK);
    } else {
        if (user) w.user_state[user] = 1; /* it may be freed before the call returns */
        int result = wss_accept(w.server, conn, how & 32 ? "chat" : NULL, reply.headers, reply.header_count, user_pointer(user));
        FUZZ_CHECK(result <= WSS_OK);
        if (result == WSS_OK && k && k->user) w.user_state[k->user] = 3; /* set before, and replaced */
        if (result == WSS_OK && k) k->user = user;
        if (result != WSS_OK && user) w.user_state[user] = 0;
        if (result == WSS_OK) FUZZ_CHECK(k && k->asked);
    }
}

static void on_timer(const wss_event *e);

static void start_timer(void) {
    static const int delays[8] = {0, 1, 5, 50, 1000, 7000, 100000, -5};
    unsigned how = fuzz_byte(&w.in);
    int64_t delay = delays[how & 7];
    int64_t repeat = how & 8 ? 30 + delays[how >> 4 & 7] : 0;
    if (w.timer_count == TIMERS) return;
    timer *t = &w.timers[w.timer_count++];
    t->due = sim.now + (uint64_t)(delay > 0 ? delay : 0) * 1000;
    t->repeats = repeat > 0;
    t->handle = wss_timer_start(w.server, delay, repeat, on_timer, t);
    if (!t->handle.id) t->cancelled = 1;
}

static void cancel_timer(void) {
    wss_timer none = {0};
    unsigned which = fuzz_byte(&w.in);
    if (!w.timer_count) {
        FUZZ_CHECK(wss_timer_cancel(w.server, none) != WSS_OK);
        return;
    }
    timer *t = &w.timers[which % (unsigned)w.timer_count];
    int result = wss_timer_cancel(w.server, t->handle);
    FUZZ_CHECK(result == WSS_OK || result == WSS_ERR_GONE);
    if (result == WSS_OK) FUZZ_CHECK(!t->cancelled && (t->repeats || !t->fired));
    t->cancelled = 1;
}

static void act(void);

/* Work runs in the order of posting. */
static void on_post(void *arg) {
    FUZZ_CHECK(sim.locks == 0 && (unsigned)(uintptr_t)arg == w.ran + 1);
    w.ran++;
    w.depth++;
    w.in_post++;
    act();
    w.in_post--;
    w.depth--;
}

static void on_queue_post(void *arg) {
    FUZZ_CHECK(sim.locks == 0 && (unsigned)(uintptr_t)arg == w.queue_ran + 1);
    w.queue_ran++;
    FUZZ_CHECK(wss_queue_destroy(w.queue) == WSS_ERR_BUSY && wss_queue_poll(w.queue, 0) == WSS_ERR_BUSY);
    if (w.server) act(); /* the queue outlives it */
}

static void post(void) {
    if (wss_post(w.server, on_post, (void *)(uintptr_t)(w.posted + 1)) == WSS_OK) w.posted++;
    if (w.queue && wss_queue_post(w.queue, on_queue_post, (void *)(uintptr_t)(w.queue_posted + 1)) == WSS_OK)
        w.queue_posted++;
}

static void set_user(void) {
    wss_conn conn = pick();
    known *k = find_known(conn);
    int user = fuzz_byte(&w.in) & 1 ? new_user() : 0;
    if (wss_set_user(w.server, conn, user_pointer(user)) != WSS_OK) return;
    FUZZ_CHECK(k != NULL);
    own(k, user);
}

static void look(void) {
    wss_conn conn = pick();
    wss_conn at = {0};
    wss_info info;
    wss_stats stats;
    wss_options options;
    size_t count = 0;
    memset(&info, 0x5a, sizeof info);
    int result = wss_get_info(w.server, conn, &info);
    FUZZ_CHECK(result == WSS_OK || result == WSS_ERR_GONE);
    if (result == WSS_OK) FUZZ_CHECK(info.conn.id == conn.id && strlen(info.path) < sizeof info.path);
    wss_get_stats(w.server, &stats);
    wss_get_options(w.server, &options);
    FUZZ_CHECK(stats.memory <= stats.memory_budget && stats.memory <= stats.memory_peak);
    FUZZ_CHECK(stats.connections == wss_count(w.server));
    for (at = wss_next(w.server, at); at.id; at = wss_next(w.server, at)) {
        count++;
        FUZZ_CHECK(count <= 1000);
    }
    FUZZ_CHECK(count <= wss_count(w.server)); /* those that are closing are counted, and not visited */
    wss_buffered(w.server, conn);
}

static void on_data(const wss_event *e);

/* What a handler may not do. */
static void try_what_is_forbidden(void) {
    if (!w.depth) return;
    FUZZ_CHECK(wss_destroy(w.server) == WSS_ERR_BUSY);
    FUZZ_CHECK(wss_poll(w.server, 0) != WSS_OK);
    FUZZ_CHECK(wss_run(w.server) != WSS_OK);
    if (w.queue) FUZZ_CHECK(wss_queue_destroy(w.queue) == WSS_ERR_BUSY);
}

/* One call, as the input says. */
static void call(void) {
    switch (fuzz_below(&w.in, 16)) {
    case 0:
    case 1:
    case 2: send_numbered(); break;
    case 3:
    case 4: send_typed(); break;
    case 5:
    case 6: close_conn(); break;
    case 7:
    case 8: answer(); break;
    case 9: start_timer(); break;
    case 10: cancel_timer(); break;
    case 11: post(); break;
    case 12: set_user(); break;
    case 13: look(); break;
    case 14:
        if (fuzz_byte(&w.in) & 1) wss_pause(w.server, pick());
        else wss_resume(w.server, pick());
        break;
    default:
        switch (fuzz_below(&w.in, 6)) {
        case 0: wss_stop(w.server, fuzz_byte(&w.in) & 1 ? 1000 : 0); break;
        case 1: try_what_is_forbidden(); break;
        case 2: wss_on_data(w.server, on_data, NULL); break;
        case 3:
            if (w.queue) wss_queue_stop(w.queue);
            break;
        case 4: send_back(); break;
        default: try_what_is_forbidden();
        }
    }
}

/* In a handler: up to three calls. */
static void act(void) {
    for (unsigned count = fuzz_byte(&w.in) & 3; count > 0; count--) call();
}

/* ---- handlers ---- */

static void enter(const wss_event *e) {
    FUZZ_CHECK(sim.locks == 0 && e->server == w.server);
    w.depth++;
}

static known *note_asked(const wss_event *e) {
    known *k = find_known(e->conn);
    if (!k && w.conn_count < CONNS) {
        k = &w.conns[w.conn_count++];
        memset(k, 0, sizeof *k);
        k->conn = e->conn;
    }
    return k;
}

static void on_upgrade(const wss_event *e) {
    enter(e);
    known *k = note_asked(e);
    if (k) FUZZ_CHECK(!k->asked && !k->connected);
    if (k) k->asked = 1;
    char out[32];
    size_t length;
    wss_request_path(e->request, out, sizeof out, &length);
    if (!(fuzz_byte(&w.in) & 1) && wss_accept(e->server, e->conn, NULL, NULL, 0, NULL) == WSS_OK && k) own(k, 0);
    act();
    w.depth--;
}

static void on_http(const wss_event *e) {
    wss_answer reply;
    enter(e);
    known *k = note_asked(e);
    if (k) k->asked = 1;
    memset(&reply, 0, sizeof reply);
    if (!(fuzz_byte(&w.in) & 1)) wss_reply(e->server, e->conn, &reply);
    act();
    w.depth--;
}

static void on_connect(const wss_event *e) {
    enter(e);
    known *k = note_asked(e);
    w.connects++;
    if (k) FUZZ_CHECK(!k->connected && !k->disconnected);
    if (k) k->connected = 1;
    act();
    w.depth--;
}

static void check_open(const wss_event *e) {
    const known *k = find_known(e->conn);
    if (!k) FUZZ_CHECK(w.conn_count == CONNS);
    if (k) FUZZ_CHECK(k->connected && !k->disconnected);
    if (k) FUZZ_CHECK(e->user == user_pointer(k->user));
}

static void on_data(const wss_event *e) {
    enter(e);
    check_open(e);
    const known *k = find_known(e->conn);
    if (k) FUZZ_CHECK(!k->closed || e->kind != WSS_EVENT_DATA || w.depth > 1 || wss_send_data(e->server, e->conn, WSS_TEXT, "x", 1) != WSS_OK);
    FUZZ_CHECK(e->opcode == WSS_TEXT || e->opcode == WSS_BINARY);
    FUZZ_CHECK(e->size <= w.options.max_message);
    w.data = e;
    act();
    w.data = NULL;
    w.depth--;
}

static void on_message(const wss_event *e) {
    enter(e);
    check_open(e);
    FUZZ_CHECK(strcmp(e->type, "go") == 0 && e->args.text[e->args.length] == 0);
    FUZZ_CHECK(wss_json_check(e->args.text, e->args.length, -1) == WSS_OK);
    FUZZ_CHECK(wss_json_type(e->args, w.options.type_member) == WSS_ERR_MISSING);
    act();
    w.depth--;
}

static void on_drain(const wss_event *e) {
    enter(e);
    check_open(e);
    act();
    w.depth--;
}

static void on_disconnect(const wss_event *e) {
    enter(e);
    known *k = find_known(e->conn);
    check_open(e);
    FUZZ_CHECK(e->cause > 0 && e->reason && e->reason[e->reason_length] == 0); /* U+0000 may stand in it */
    FUZZ_CHECK(wss_send_data(e->server, e->conn, WSS_TEXT, "late", 4) != WSS_OK);
    act();
    if (k) k->disconnected = 1;
    w.depth--;
}

static void on_timer(const wss_event *e) {
    enter(e);
    timer *t = (timer *)e->context;
    FUZZ_CHECK(!t->cancelled && (t->repeats || !t->fired));
    FUZZ_CHECK(sim.now + 1000 > t->due);
    t->fired = 1;
    act();
    w.depth--;
}

static void on_log(void *context, int level, const char *text) {
    (void)context;
    FUZZ_CHECK(level >= WSS_LOG_ERROR && level <= WSS_LOG_DEBUG && sim.locks == 0);
    for (; *text; text++) FUZZ_CHECK((unsigned char)*text >= 32 && (unsigned char)*text < 127);
}

/* ---- what clients do ---- */

/* A message of ours is whole, and later than those before it. */
static void check_number(client *c, const char *data, size_t size) {
    char want[LARGE > 64 ? 1400 : 64];
    char digits[12];
    if (size < 4 || data[0] != 'n' || data[1] != ':') return;
    snprintf(digits, sizeof digits, "%.*s", (int)(size - 2 < 11 ? size - 2 : 11), data + 2);
    unsigned number = (unsigned)strtoul(digits, NULL, 10);
    FUZZ_CHECK(number > c->number && number <= w.numbers);
    c->number = number;
    size_t head = number_text(want, sizeof want, number, 0);
    FUZZ_CHECK(size >= head && size < sizeof want);
    FUZZ_CHECK(number_text(want, sizeof want, number, size - head) == size && memcmp(want, data, size) == 0);
}

/* A pong answers a ping, later than those before it. */
static void check_pong(client *c, const char *data, size_t size) {
    while (c->answered < c->pings) {
        int i = c->answered++;
        if (c->ping_sizes[i] == size && (!size || memcmp(c->ping_data[i], data, size) == 0)) return;
    }
    FUZZ_CHECK(c->raw);
}

/* Reads all that came: an answer, then frames, then nothing after a Close. */
static void read_client(client *c) {
    const char *data;
    size_t size, whole;
    int first;
    if (!c->peer) return;
    peer_data(c->peer, &size);
    if (!size) return;
    if (!c->status) {
        c->status = peer_take_head(c->peer);
        if (!c->status) return;
        FUZZ_CHECK(c->status >= 101 && c->status < 600);
    }
    if (c->status != 101) {
        peer_data(c->peer, &size);
        peer_skip(c->peer, size);
        return;
    }
    while ((first = peer_peek(c->peer, &data, &size, &whole)) >= 0) {
        FUZZ_CHECK(!c->closed && (first & 0xf0) == 0x80);
        FUZZ_CHECK(first == 0x81 || first == 0x82 || (size <= 125 && first >= 0x88 && first <= 0x8a));
        if (first == 0x88) c->closed = 1;
        if (first < 0x88) check_number(c, data, size);
        if (first < 0x88) check_back(data, size);
        if (first == 0x8a) check_pong(c, data, size);
        if (first == 0x89) FUZZ_CHECK(size == 8);
        peer_skip(c->peer, whole);
    }
    if (c->closed) FUZZ_CHECK(c->peer->got.size == 0);
}

static client *pick_client(void) {
    return &w.clients[fuzz_below(&w.in, PEERS)];
}

static void dial(void) {
    static const char *const heads[8] = {
        PEER_REQUEST("/") "\r\n",
        PEER_REQUEST("/a?b=c") "Origin: http://localhost\r\n\r\n",
        PEER_REQUEST("/") "Sec-WebSocket-Protocol: chat\r\n\r\n",
        "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "HEAD /page HTTP/1.1\r\nHost: localhost\r\n\r\n",
        PEER_REQUEST("/") "Origin: http://other\r\n\r\n",
        "GET / HTTP/1.1\r\nHost",
        "",
    };
    client *c = pick_client();
    unsigned how = fuzz_byte(&w.in);
    read_client(c);
    peer_free(c->peer);
    memset(c, 0, sizeof *c);
    c->peer = peer_connect(w.options.port);
    if (!c->peer) return;
    snprintf(c->peer->address, sizeof c->peer->address, how & 0x40 ? "2001:db8::%u" : "192.0.2.%u", 1 + (how >> 3 & 3));
    if (how & 0x80) c->peer->out.limit = 300;
    peer_text(c->peer, heads[how & 7]);
}

static void write_raw(void) {
    client *c = pick_client();
    size_t size;
    const char *data = fuzz_take(&w.in, fuzz_byte(&w.in) & 63, &size);
    if (c->peer) peer_write(c->peer, data, size);
    c->raw = 1;
}

static void write_frame(void) {
    static const int firsts[16] = {0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8a, 0x81, 0x81, 0x82, 0x89, 0x00, 0x80, 0xc1};
    client *c = pick_client();
    unsigned how = fuzz_byte(&w.in);
    size_t size;
    const char *data = fuzz_take(&w.in, how >> 4, &size);
    if (!c->peer) return;
    peer_frame(c->peer, firsts[how & 15], data, size);
    if (firsts[how & 15] != 0x89) return;
    c->ping_sizes[c->pings] = (unsigned char)size;
    memcpy(c->ping_data[c->pings++], data, size);
}

static void write_typed(void) {
    static const char *const texts[4] = {"{\"__MESSAGE__\":\"go\",\"a\":1}", "{\"__MESSAGE__\":\"go\"}",
                                         "{\"a\":[],\"__MESSAGE__\":\"go\",\"b\":{}}", "{\"__MESSAGE__\":7}"};
    client *c = pick_client();
    const char *text = texts[fuzz_below(&w.in, 4)];
    if (c->peer) peer_frame(c->peer, 0x81, text, strlen(text));
}

static void write_large(void) {
    client *c = pick_client();
    unsigned how = fuzz_byte(&w.in);
    memset(large, 'L', LARGE);
    if (c->peer) peer_frame(c->peer, how & 1 ? 0x82 : 0x01, large, (size_t)how * 270);
    w.written += (size_t)how * 270;
}

static void leave(void) {
    client *c = pick_client();
    unsigned how = fuzz_byte(&w.in);
    if (!c->peer) return;
    if (how & 4) read_client(c);
    if ((how & 3) == 0) peer_close(c->peer);
    else if ((how & 3) == 1) peer_reset(c->peer);
    else peer_finish(c->peer);
}

/* ---- what the kernel does ---- */

typedef struct trouble {
    int call;
    int kind;
    int value;
} trouble;

static const trouble troubles[] = {
    {SIM_recv, SIM_ERROR, ECONNRESET},    {SIM_recv, SIM_ERROR, EINTR},       {SIM_recv, SIM_ERROR, ETIMEDOUT},
    {SIM_recv, SIM_SHORT, 1},             {SIM_send, SIM_ERROR, EPIPE},       {SIM_send, SIM_ERROR, EAGAIN},
    {SIM_send, SIM_ERROR, ENOBUFS},       {SIM_send, SIM_SHORT, 1},           {SIM_send, SIM_SHORT, 0},
    {SIM_sendmsg, SIM_ERROR, ECONNRESET}, {SIM_sendmsg, SIM_ERROR, EAGAIN},   {SIM_sendmsg, SIM_SHORT, 3},
    {SIM_sendmsg, SIM_ERROR, EINTR},      {SIM_accept4, SIM_ERROR, EMFILE},   {SIM_accept4, SIM_ERROR, ECONNABORTED},
    {SIM_accept4, SIM_ERROR, EINTR},      {SIM_accept4, SIM_ERROR, ENOMEM},   {SIM_accept4, SIM_ERROR, EPERM},
    {SIM_epoll_ctl, SIM_ERROR, ENOMEM},   {SIM_epoll_ctl, SIM_ERROR, ENOSPC}, {SIM_epoll_wait, SIM_ERROR, EINTR},
    {SIM_epoll_wait, SIM_EMPTY, 0},       {SIM_epoll_wait, SIM_SPURIOUS, 0},  {SIM_setsockopt, SIM_ERROR, EINVAL},
    {SIM_getpeername, SIM_ERROR, ENOTCONN}, {SIM_shutdown, SIM_ERROR, ENOTCONN}, {SIM_close, SIM_ERROR, EINTR},
    {SIM_close, SIM_ERROR, EIO},
};

static void make_trouble(void) {
    unsigned how = fuzz_byte(&w.in);
    const trouble *t = &troubles[how % (sizeof troubles / sizeof troubles[0])];
    unsigned when = fuzz_byte(&w.in);
    if (t->kind == SIM_SHORT && t->value == 0) return;
    sim_add_fault(t->call, t->kind, t->value, 1 + (long)(when & 31), 1 + (long)(when >> 5 & 3));
}

static void change_kernel(void) {
    unsigned how = fuzz_byte(&w.in);
    unsigned much = fuzz_byte(&w.in);
    switch (how & 7) {
    case 0: sim.recv_most = LEAST + 20 * much; break; /* so that a large message takes no thousands of turns */
    case 1: sim.send_most = 200 + 20 * much; break;
    case 2: sim.again_percent = (int)much % 60; break;
    case 3: sim.event_most = (int)much & 7; break;
    case 4:
        sim.fail_at = sim.grown + 1 + (long)much;
        sim.fail_on = how >> 7 & 1;
        break;
    case 5:
        sim.fail_at = 0;
        sim.fail_above = 0;
        break;
    case 6: sim.max_open = sim.open + (int)(much & 7); break;
    default: make_trouble();
    }
}

/* ---- turns ---- */

/* A server that sleeps does not spin, whatever wakes it. That it is not woken for nothing is in the count of turns. */
static int sleeps(void) {
    sim.idle_turns = 0;
    return 0;
}

static void settle(void) {
    if (!w.stopped && sim_settle(w.server) != WSS_OK) w.stopped = 1;
}

static void pass(void) {
    static const int times[8] = {1, 10, 100, 1100, 2100, 5100, 10100, 21000};
    int milliseconds = times[fuzz_below(&w.in, 8)];
    if (!w.stopped && sim_pass(w.server, milliseconds) != WSS_OK) w.stopped = 1;
}

/* Sleeps as the server wants to. */
static void rest(void) {
    if (!w.stopped && sim_turn(w.server, (int)fuzz_byte(&w.in) * 20) != WSS_OK) w.stopped = 1;
    if (!w.stopped) sim_check(w.server);
}

static void operate(void) {
    switch (fuzz_below(&w.in, 20)) {
    case 0:
    case 1: dial(); break;
    case 2: write_raw(); break;
    case 3:
    case 4: write_frame(); break;
    case 5: write_typed(); break;
    case 6: write_large(); break;
    case 7: leave(); break;
    case 8:
    case 9: read_client(pick_client()); break;
    case 10:
    case 11: pass(); break;
    case 12: rest(); break;
    case 13: change_kernel(); break;
    case 14:
    case 15:
    case 16: call(); break;
    default: settle();
    }
}

/* ---- a life ---- */

static void choose_options(void) {
    static const size_t budgets[4] = {0, 900000, 500000, 250000};
    static const size_t queued[4] = {0, 400, 3000, WSS_UNLIMITED};
    unsigned a = fuzz_byte(&w.in);
    unsigned b = fuzz_byte(&w.in);
    unsigned c = fuzz_byte(&w.in);
    wss_options queue_options;
    wss_error why;
    sim_options(&w.options);
    w.options.user_free = free_user;
    w.options.log = on_log;
    w.options.log_level = a >> 3 & 1 ? WSS_LOG_DEBUG : WSS_LOG_INFO;
    w.options.send_policy = (int)(a & 1);
    w.options.threads = a & 4 ? 2 : 1;
    w.options.max_queued = queued[a >> 4 & 3];
    w.options.memory_budget = budgets[a >> 6];
    w.options.max_connections = b & 1 ? 3 : 20;
    w.options.max_per_address = b & 4 ? 2 : 0;
    w.options.max_posted = b & 8 ? 3 : 0;
    w.options.max_posted_bytes = b & 16 ? 300 : 0;
    w.options.idle_ms = b & 32 ? 3000 : 0;
    w.options.max_message = b & 64 ? 300 : 60000;
    w.options.max_head = 512;
    w.options.stall_ms = c & 1 ? 900 : 0;
    w.options.ping_ms = c & 2 ? 700 : 0;
    w.options.close_ms = c & 8 ? WSS_OFF : c & 4 ? 1 : 0;
    w.options.least_rate = c & 64 ? 1000 : 0;
    w.options.pong_ms = c & 128 ? 300 : 0;
    if (!(c & 16)) return;
    sim_queue_options(&queue_options);
    queue_options.max_posted = c & 32 ? 4 : 0;
    w.queue = wss_queue_create(&queue_options, &why);
    w.options.queue = w.queue;
}

/* Registers what the choices ask for; false where the server must not run. */
static int register_handlers(unsigned choice) {
    int result = wss_on_connect(w.server, on_connect, NULL);
    result |= wss_on_disconnect(w.server, on_disconnect, NULL);
    result |= wss_on_data(w.server, on_data, NULL);
    result |= wss_on_message(w.server, "go", on_message, NULL);
    result |= wss_on_drain(w.server, on_drain, NULL);
    if (choice & 1) result |= wss_on_upgrade(w.server, on_upgrade, NULL);
    if (choice & 2) result |= wss_on_http(w.server, on_http, NULL);
    return result == WSS_OK;
}

static void check_end(void) {
    for (int i = 0; i < w.conn_count; i++) FUZZ_CHECK(w.conns[i].connected == w.conns[i].disconnected);
    for (int i = 0; i < USERS; i++) FUZZ_CHECK(w.user_state[i] != 1);
    FUZZ_CHECK(w.ran <= w.posted && w.queue_ran <= w.queue_posted);
    FUZZ_CHECK((size_t)sim.calls[SIM_epoll_wait] <= TURNS + 2 * w.written / LEAST); /* two for each receive */
    for (int i = 0; i < PEERS; i++) {
        if (w.clients[i].peer) FUZZ_CHECK(w.clients[i].peer->server_gone || w.clients[i].peer->fd < 0);
        read_client(&w.clients[i]);
        peer_free(w.clients[i].peer);
    }
    sim_finish();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    wss_error why;
    memset(&w, 0, sizeof w);
    w.in = fuzz_begin(data, size);
    sim_begin(1 + fuzz_byte(&w.in));
    sim_on_violation = violated;
    sim.idle = sleeps;
    unsigned choice = fuzz_byte(&w.in);
    if (choice & 0x80) {
        sim.fail_at = 1 + (long)fuzz_byte(&w.in);
        sim.fail_on = choice >> 6 & 1;
    }
    choose_options();
    w.server = w.queue || !w.options.queue ? wss_create(&w.options, &why) : NULL;
    if (!w.server) {
        FUZZ_CHECK(why.code < 0 && why.text[0]);
        FUZZ_CHECK(wss_queue_destroy(w.queue) == WSS_OK);
        sim_finish();
        return 0;
    }
    wss_get_options(w.server, &w.options);
    w.stopped = !register_handlers(choice);
    for (int i = 0; i < OPERATIONS && w.in.left; i++) operate();
    for (int i = 0; i < PEERS; i++) read_client(&w.clients[i]);
    settle();
    sim.fail_at = 0;
    FUZZ_CHECK(sim_destroy(w.server) == WSS_OK);
    w.server = NULL;
    FUZZ_CHECK(wss_queue_destroy(w.queue) == WSS_OK);
    check_end();
    return 0;
}
