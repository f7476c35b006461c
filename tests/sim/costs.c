/* What a message costs while a client does not read, counted on the kernel in memory: system calls, looks at the clock,
   allocations, places in queues, steps of loops and functions, bytes moved. None of them grows with the queue, however long
   that is. And what a client can make the server hold: at most two bytes for each that it sends, beyond 8 KiB.
   All of the library is compiled here, as if this were "../../wsserver.h": counted.h counts while it is read. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#define WSSERVER_TESTED "sim/counted.h"
#include "kernel.h"

#include "../test.h"

enum { LENGTHS = 4, OPERATIONS = 16, WARM = 2, SETTLED = 100 /* longer queues are filled once for all kinds */ };
static const int lengths[LENGTHS] = {1, 100, 10000, 100000};

enum { CALLS, CLOCK, ALLOCATIONS, FRAMES, STEPS, BYTES, COUNTERS };
static const char *const counter_names[COUNTERS] = {"calls", "clock", "allocations", "frames", "steps", "bytes"};

/* How much more a longer queue may cost. Who holds much is in one of 16 lists, whose number is counted out; the places of keys
   are found by hash, so steps vary a little with what was hashed. */
static const long slack[COUNTERS] = {0, 0, 0, 0, 2 * WSS__CONN_HEAVY + 16, 16};

typedef struct cost {
    long of[COUNTERS];
} cost;

static wss_server *server;
static peer *hog, *other; /* the one that does not read, and one that does */
static wss_conn hog_conn, other_conn, newest;
static int filled;        /* frames that wait for the hog */
static int number;        /* of the operation */
static int result;        /* of the last call */
static int doublings;
static void (*act)(void); /* what a handler is to do */

static void on_connect(const wss_event *e) {
    newest = e->conn;
}

static void on_data(const wss_event *e) {
    if (act) act();
    else result = wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

static void in_turn(void (*function)(void)) {
    act = function;
    peer_frame(other, 0x82, "go", 2);
    wss_poll(server, 0);
    act = NULL;
}

static void forget_output(peer *client) {
    size_t size;
    peer_data(client, &size);
    peer_skip(client, size);
}

static void latest(const char *kind, int key) {
    char name[32];
    snprintf(name, sizeof name, "%s %06d", kind, key);
    result = wss_send_latest(server, hog_conn, name, "state", wss_json("{\"v\":1}"));
}

/* ---- what is done ---- */

static void fill(void) {
    static const char text[] = "what nobody reads, line by line";
    for (int i = 0; i < filled && result == WSS_OK; i++) {
        if (i % 2 == 0) latest("key", i);
        else result = wss_send_data(server, hog_conn, WSS_TEXT, text, sizeof text - 1);
    }
}

static void ping(void) {
    peer_frame(hog, 0x89, "are you there", 13);
    wss_poll(server, 0);
}

static void reply(void) {
    peer_frame(hog, 0x81, "a question", 10);
    wss_poll(server, 0);
}

static void send_replacing(void) {
    latest("key", number * 7 * 2 % (filled + filled % 2));
}

static void send_new_key(void) {
    latest("new", number);
}

static void send_small(void) {
    result = wss_send_data(server, hog_conn, WSS_BINARY, "small", 5);
}

static void send_refused(void) {
    size_t most = server->options.max_queued;
    server->options.max_queued = 1;
    send_small();
    server->options.max_queued = most;
    result = result == WSS_ERR_FULL ? WSS_OK : 1;
}

static void cast(void) {
    result = wss_broadcast_data(server, WSS_TEXT, "to all", 6);
}

static void cast_except(void) {
    result = wss_broadcast_data_except(server, other_conn, WSS_TEXT, "to nearly all", 13);
}

static void cast_latest(void) {
    result = wss_broadcast_latest(server, "the only one", "state", wss_json("{\"v\":2}"));
}

static void cast_large(void) {
    static char text[20000];
    result = wss_broadcast_data(server, WSS_BINARY, text, sizeof text);
}

static void pause_it(void) {
    result = wss_pause(server, hog_conn);
}

static void resume_it(void) {
    result = wss_resume(server, hog_conn);
}

static void pause_and_resume(void) {
    pause_it();
    wss_poll(server, 0);
    resume_it();
}

static void ask_buffered(void) {
    result = wss_buffered(server, hog_conn) > 0 ? WSS_OK : 1;
}

static void ask_info(void) {
    wss_info info;
    result = wss_get_info(server, hog_conn, &info);
}

static void ask_stats(void) {
    wss_stats stats;
    wss_get_stats(server, &stats);
    result = wss_count(server) >= 2 ? WSS_OK : 1;
}

static void message_of_other(void) {
    peer_frame(other, 0x81, "an honest question", 18);
    wss_poll(server, 0);
}

static peer *visitor;

static void visit(void) {
    visitor = peer_connect(server->options.port);
    if (!visitor) abort();
    peer_text(visitor, PEER_REQUEST("/") "\r\n");
    wss_poll(server, 0);
    wss_poll(server, 0);
    result = peer_take_head(visitor) == 101 ? WSS_OK : 1;
}

static void a_second(void) {
    sim_move_clock(1100);
    wss_poll(server, 0);
}

static void close_it(void) {
    result = wss_close(server, hog_conn, 1000, "bye");
}

enum { BY_ITSELF, TURN, ELSEWHERE }; /* where: as it says, in a handler, or as another thread would, followed by a turn */

typedef struct kind {
    const char *name;
    void (*function)(void);
    int where;
} kind;

static const kind kinds[] = {
    {"ping of the client", ping, BY_ITSELF},
    {"message of the client, and its reply", reply, BY_ITSELF},
    {"message of another client", message_of_other, BY_ITSELF},
    {"accept of another client", visit, BY_ITSELF},
    {"a second passes", a_second, BY_ITSELF},
    {"send", send_small, TURN},
    {"send that is refused", send_refused, TURN},
    {"send that replaces", send_replacing, TURN},
    {"send with a new key", send_new_key, TURN},
    {"broadcast", cast, TURN},
    {"broadcast that leaves one out", cast_except, TURN},
    {"broadcast with a key", cast_latest, TURN},
    {"large broadcast", cast_large, TURN},
    {"pause", pause_it, TURN},
    {"resume", resume_it, TURN},
    {"send, elsewhere", send_small, ELSEWHERE},
    {"send that is refused, elsewhere", send_refused, ELSEWHERE},
    {"send that replaces, elsewhere", send_replacing, ELSEWHERE},
    {"send with a new key, elsewhere", send_new_key, ELSEWHERE},
    {"broadcast, elsewhere", cast, ELSEWHERE},
    {"broadcast with a key, elsewhere", cast_latest, ELSEWHERE},
    {"pause and resume, elsewhere", pause_and_resume, ELSEWHERE},
    {"wss_buffered", ask_buffered, BY_ITSELF},
    {"wss_get_info", ask_info, BY_ITSELF},
    {"wss_get_stats, wss_count", ask_stats, BY_ITSELF},
    {"close", close_it, TURN}, /* the last: once */
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static cost found[KINDS][LENGTHS];

/* ---- counting ---- */

static cost now(void) {
    cost it = {{0}};
    for (int i = 0; i < SIM_CALL_COUNT; i++) it.of[CALLS] += sim.calls[i];
    it.of[CLOCK] = sim.calls[SIM_clock_gettime];
    it.of[ALLOCATIONS] = sim.grown;
    it.of[FRAMES] = counted.frames;
    it.of[STEPS] = counted.steps;
    it.of[BYTES] = counted.bytes;
    return it;
}

static void do_once(const kind *what) {
    if (what->where == TURN) {
        in_turn(what->function);
    } else {
        what->function();
        if (what->where == ELSEWHERE) wss_poll(server, 0);
    }
}

/* Rooms of the hog's queue. */
static uint64_t rooms(void) {
    const wss__buf_queue *queue = wss__conn_find(server, hog_conn)->session.queue;
    return queue ? (uint64_t)queue->capacity << 32 | queue->key_slots : 0;
}

static void clean_up(void) {
    forget_output(other);
    if (visitor) peer_reset(visitor);
    if (visitor) wss_poll(server, 0);
    if (visitor) peer_free(visitor);
    visitor = NULL;
}

/* The most that one of several costs. A queue, or its table of keys, that doubles costs more: seldom, so it is left out, and
   counted. */
static cost measure(const kind *what) {
    cost most = {{0}};
    int once = what->function == close_it;
    int set_aside = 0;
    for (number = 0; number < (once ? 1 : OPERATIONS); number++) {
        uint64_t before = rooms();
        cost from = now();
        result = WSS_OK;
        do_once(what);
        cost to = now();
        CHECK_INT(result, WSS_OK);
        clean_up();
        if (rooms() != before) set_aside++;
        if (rooms() != before || (number < WARM && !once)) continue;
        for (int i = 0; i < COUNTERS; i++)
            if (to.of[i] - from.of[i] > most.of[i]) most.of[i] = to.of[i] - from.of[i];
    }
    doublings += set_aside;
    CHECK(set_aside <= 4);
    return most;
}

/* ---- a server with a client that does not read ---- */

static peer *come(wss_conn *conn) {
    peer *client = peer_open(server);
    if (!client) abort();
    *conn = newest;
    return client;
}

static void begin(int length) {
    wss_options options;
    sim_begin(1);
    sim_options(&options);
    options.memory_budget = WSS_UNLIMITED;
    options.max_queued = (size_t)1 << 30;
    options.ping_ms = 1000;
    options.pong_ms = WSS_OFF;
    options.stall_ms = WSS_OFF;
    options.least_rate = WSS_OFF;
    options.close_ms = WSS_OFF;
    server = wss_create(&options, NULL);
    if (!server) abort();
    wss_on_connect(server, on_connect, NULL);
    wss_on_data(server, on_data, NULL);
    sim_settle(server);
    hog = come(&hog_conn);
    other = come(&other_conn);
    hog->out.limit = 0;
    filled = length;
    result = WSS_OK;
    in_turn(fill);
    CHECK_INT(result, WSS_OK);
    CHECK_INT(wss__conn_find(server, hog_conn)->session.queue->count, length);
    sim_check(server);
}

static void end(void) {
    sim_check(server);
    const wss__buf_queue *left = wss__conn_find(server, hog_conn)->session.queue;
    long waiting = left ? (long)left->count : 0;
    long from = counted.frames;
    peer_reset(hog);
    wss_poll(server, 0);
    CHECK(counted.frames - from >= waiting); /* what does grow with the queue is seen to */
    peer_reset(other);
    peer_free(hog);
    peer_free(other);
    sim_settle(server);
    CHECK_INT(wss_destroy(server), WSS_OK);
    sim_finish();
}

/* Short queues are filled anew for each kind, or they would be longer by the end. */
static void measure_all(int at) {
    int length = lengths[at];
    for (int i = 0; i < KINDS; i++) {
        if (i == 0 || length <= SETTLED) begin(length);
        found[i][at] = measure(&kinds[i]);
        if (i == KINDS - 1 || length <= SETTLED) end();
    }
}

static void print_kind(int which) {
    printf("costs: %-38s", kinds[which].name);
    for (int i = 0; i < COUNTERS; i++) {
        long least = found[which][0].of[i], most = least;
        for (int at = 1; at < LENGTHS; at++) {
            if (found[which][at].of[i] < least) least = found[which][at].of[i];
            if (found[which][at].of[i] > most) most = found[which][at].of[i];
        }
        printf(" %s %ld", counter_names[i], least);
        if (most != least) printf("..%ld", most);
    }
    printf("\n");
}

static void test_no_message_costs_more_behind_a_longer_queue(void) {
    for (int at = 0; at < LENGTHS; at++) measure_all(at);
    for (int which = 0; which < KINDS; which++) {
        print_kind(which);
        for (int at = 1; at < LENGTHS; at++)
            for (int i = 0; i < COUNTERS; i++)
                CHECK(found[which][at].of[i] <= found[which][0].of[i] + slack[i]);
    }
    printf("costs: %d kinds at %d lengths up to %d, %d doublings left out\n", KINDS, LENGTHS, lengths[LENGTHS - 1], doublings);
}


/* ---- a peer that reads a little at a time ---- */

/* What is offered to the kernel is gathered anew each time, but no more than leaves in a turn, however much waits. */
static void test_a_little_room(void) {
    for (int at = 0; at < LENGTHS; at++) {
        size_t size;
        begin(lengths[at]);
        hog->out.limit = 64;
        hog->nospace = 1;
        peer_data(hog, &size);
        sim_wake(hog->fd, EPOLLOUT);
        cost from = now();
        wss_poll(server, 0);
        cost to = now();
        peer_data(hog, &size);
        CHECK_INT(size, lengths[at] == 1 ? size : 64);
        long frames = to.of[FRAMES] - from.of[FRAMES];
        long bytes = to.of[BYTES] - from.of[BYTES];
        printf("costs: room for 64 bytes, %d waiting: calls %ld frames %ld bytes %ld\n", lengths[at],
               to.of[CALLS] - from.of[CALLS], frames, bytes);
        CHECK(frames <= WSS__WRITE_TURN / 32 + 2); /* of those that wait here none is shorter */
        CHECK(bytes <= WSS__WRITE_TURN + 4096);
        end();
    }
}

/* ---- what a client can make the server hold ---- */

enum { HOLDERS = 4, FREE = 8192, STREAM = 2 << 20 };

typedef struct way {
    const char *name;
    void (*write)(void);  /* what each client sends, into the stream */
    int opens;            /* a handshake comes before it, which does not count; a handler may answer it or not */
    int size;             /* of its messages */
    void (*handler)(const wss_event *);
    int queued;           /* with options.queue, which nobody drains */
    size_t extra;         /* beyond 8 KiB and two bytes for each */
} way;

static char stream[STREAM];
static size_t stream_size;
static const way *tried;
static wss_queue *queue;

static void add(const void *data, size_t size) {
    if (size > STREAM - stream_size) abort();
    memcpy(stream + stream_size, data, size);
    stream_size += size;
}

static void add_text(const char *text) {
    add(text, strlen(text));
}

static void add_frame(int first, size_t size) {
    static char payload[300000];
    if (STREAM - stream_size < size + 14) abort();
    stream_size += peer_encode(stream + stream_size, first, payload, size, 0);
}

static void write_half_a_head(void) {
    add_text("GET / HTTP/1.1\r\nHost: localhost\r\nX: ");
    while (stream_size < 8191) add_text("a");
}

static void write_head_of_many_lines(void) {
    static const char begun[] = PEER_REQUEST("/");
    add_text(begun);
    for (int i = 0; i < 58; i++) add_text("A: b\r\n");
    add_text("\r\n");
}

enum { HEAD = 16384 }; /* options.max_head */

static void write_long_head(void) {
    static const char begun[] = PEER_REQUEST("/");
    add_text(begun);
    add_text("X: ");
    while (stream_size < HEAD - 4) add_text("a");
    add_text("\r\n\r\n");
}

static void write_long_path(void) {
    static const char rest[] = " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    add_text("GET /");
    while (stream_size < HEAD - (sizeof rest - 1)) add_text("a");
    add_text(rest);
}

static void write_messages(void) {
    while (stream_size < 200000) add_frame(0x82, (size_t)tried->size);
}

static void write_head_and_more(void) {
    write_long_head();
    write_messages();
}

static void write_frame_header(void) {
    add("\x82\xff\0\0\0\0\0\x0f\xff\xff\1\2\3\4", 14);
    stream_size -= 1;
}

static void write_half_a_message(void) {
    add("\x82\xff\0\0\0\0\0\x10\0\0\1\2\3\4", 14);
    for (size_t left = ((size_t)1 << 20) - 1; left > 0; left--) add("a", 1);
}

static void write_fragments(void) {
    int most = tried->size < 16 ? 1000 : 65000;
    for (int i = 0; i < most; i++) add_frame(i ? 0x00 : 0x02, (size_t)tried->size);
}

static void write_pings(void) {
    for (int i = 0; i < 2000; i++) add_frame(0x89, (size_t)tried->size);
}

/* The handler pauses at once; half of a large message follows. */
static void write_one_and_half_of_another(void) {
    add_frame(0x82, 1);
    write_half_a_message();
}

static void ignore(const wss_event *e) {
    (void)e;
}

static void pause_conn(const wss_event *e) {
    CHECK_INT(wss_pause(e->server, e->conn), WSS_OK);
}

/* Whoever asks once is told so much that he is not read from any more. */
static void talk(const wss_event *e) {
    static char text[1000];
    if (wss_buffered(e->server, e->conn) > 0) return;
    for (int i = 0; i < 600; i++) CHECK_INT(wss_send_data(e->server, e->conn, WSS_BINARY, text, sizeof text), WSS_OK);
}

/* What the application's own messages hold: its affair, so it is not counted. Pongs are not among them. */
static size_t replies(void) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < server->conns.made && tried->handler == talk; i++) {
        wss__conn *conn = wss__conn_at(server, i);
        wss__buf_queue *waiting = wss__slot_word(&conn->slot) & WSS__SLOT_STATE ? conn->session.queue : NULL;
        if (!waiting || !wss__session_queued(&conn->session)) continue;
        for (uint32_t k = 0; k < waiting->count; k++)
            if (!(*wss__buf_at(waiting, k))->control) bytes += wss__buf_frame_bytes(*wss__buf_at(waiting, k));
        bytes += wss__buf_queue_bytes(waiting->capacity);
    }
    return bytes;
}

static const way ways[] = {
    {"half a request head", write_half_a_head, 0, 0, NULL, 0, 0},
    {"a head of many lines, not answered", write_head_of_many_lines, 0, 0, ignore, 0, 0},
    {"a long head, not answered", write_long_head, 0, 0, ignore, 0, 0},
    {"the same, for a queue", write_long_head, 0, 0, ignore, 1, 0},
    {"the same, and messages behind it", write_head_and_more, 0, 100, ignore, 0, 0},
    {"a long path that was let in", write_long_path, 0, 0, NULL, 0, 0},
    {"a frame header, byte by byte", write_frame_header, 1, 0, NULL, 0, 0},
    {"half a message in one frame", write_half_a_message, 1, 0, NULL, 0, 0},
    {"empty fragments", write_fragments, 1, 0, NULL, 0, 0},
    {"fragments of 1 byte", write_fragments, 1, 1, NULL, 0, 0},
    {"fragments of 16 bytes", write_fragments, 1, 16, NULL, 0, 0},
    {"pings that are never read", write_pings, 1, 125, NULL, 0, 0},
    {"empty pings that are never read", write_pings, 1, 0, NULL, 0, 0},
    {"messages while paused", write_messages, 1, 0, pause_conn, 0, 0},
    {"half a message while paused", write_one_and_half_of_another, 1, 0, pause_conn, 0, 0},
    {"messages while its queue is full", write_messages, 1, 10, talk, 0, 0},
    {"empty messages, undelivered", write_messages, 1, 0, ignore, 1, 0},
    {"messages of 1 byte, undelivered", write_messages, 1, 1, ignore, 1, 0},
    {"messages of 100 bytes, undelivered", write_messages, 1, 100, ignore, 1, 0},
    {"messages of 10,000 bytes, undelivered", write_messages, 1, 10000, ignore, 1, 0},
    {"messages of 200,000 bytes, undelivered", write_messages, 1, 200000, ignore, 1, 0},
    {"half a message, with a queue", write_half_a_message, 1, 0, ignore, 1, 0},
};
enum { WAYS = sizeof ways / sizeof ways[0] };

static void network(void) {
    for (int quiet = 0; quiet < 2; quiet++) {
        uint64_t before = sim.progress;
        wss_poll(server, 0);
        if (sim.progress != before) quiet = -1;
    }
}

static void serve_way(void) {
    wss_options options, own;
    sim_begin(1);
    sim_options(&options);
    sim_queue_options(&own);
    queue = tried->queued ? wss_queue_create(&own, NULL) : NULL;
    options.queue = queue;
    options.handshake_ms = options.ping_ms = WSS_OFF;
    server = wss_create(&options, NULL);
    if (!server) abort();
    if (tried->handler && !tried->opens) wss_on_upgrade(server, tried->handler, NULL);
    if (tried->handler && tried->opens) wss_on_data(server, tried->handler, NULL);
    network();
}

/* All at once, or in steps that grow, so that every size is met on the way to the whole. */
static size_t next_step(size_t sent, int at_once) {
    size_t step = at_once ? stream_size : sent < 64 ? 1 : sent / 16;
    return step < stream_size - sent ? step : stream_size - sent;
}

/* Bytes that have been taken out of the network: what it holds is not the server's. */
static size_t taken(peer **holders, size_t sent) {
    size_t waiting = 0;
    for (int i = 0; i < HOLDERS; i++) waiting += holders[i]->in.size;
    return sent - waiting / HOLDERS;
}

static void open_holders(peer **holders) {
    for (int i = 0; i < HOLDERS; i++) {
        holders[i] = peer_connect(server->options.port);
        if (!holders[i]) abort();
        if (tried->opens) peer_text(holders[i], PEER_REQUEST("/") "\r\n");
        network();
        if (tried->opens) forget_output(holders[i]);
        holders[i]->out.limit = tried->opens ? 0 : holders[i]->out.limit;
    }
}

static void try_way(int at_once) {
    peer *holders[HOLDERS];
    double most = 0;
    size_t highest = 0;
    serve_way();
    open_holders(holders);
    stream_size = 0;
    tried->write();
    size_t before = sim.account.bytes;
    for (size_t sent = 0, step; (step = next_step(sent, at_once)) > 0;) {
        for (int i = 0; i < HOLDERS; i++) CHECK_INT(peer_write(holders[i], stream + sent, step), step);
        sent += step;
        network();
        size_t held = (sim.account.bytes - replies() - before) / HOLDERS;
        size_t got = taken(holders, sent);
        double each = held > FREE ? (double)(held - FREE) / (double)got : 0;
        if (each > most) most = each;
        if (held > highest) highest = held;
        CHECK(held <= FREE + tried->extra + 2 * got);
    }
    for (int i = 0; i < HOLDERS; i++) CHECK(!holders[i]->end && !holders[i]->reset);
    printf("costs: %-38s %s %7zu sent, held at most %7zu: %.2f a byte beyond 8 KiB", tried->name,
           at_once ? "at once" : "slowly ", stream_size, highest, most);
    printf(tried->extra && most > 2 ? ", or none beyond %zu\n" : "\n", FREE + tried->extra);
    for (int i = 0; i < HOLDERS; i++) peer_free(holders[i]);
    CHECK_INT(wss_destroy(server), WSS_OK);
    if (queue) CHECK_INT(wss_queue_destroy(queue), WSS_OK);
    sim_finish();
}

static void test_what_a_client_can_make_the_server_hold(void) {
    for (size_t i = 0; i < WAYS; i++) {
        tried = &ways[i];
        for (int at_once = 0; at_once <= 1; at_once++) try_way(at_once);
    }
    printf("costs: %d ways of holding memory, %zu bytes of one undelivered message beside its own\n", WAYS,
           sizeof(wss__conn_notice) + 1);
}

int main(void) {
    RUN(test_no_message_costs_more_behind_a_longer_queue);
    RUN(test_a_little_room);
    RUN(test_what_a_client_can_make_the_server_hold);
    return test_end("costs");
}
