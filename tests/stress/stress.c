/* Eight threads that send, broadcast, post, close and register at random against clients that come and go, while a ninth reads
   all there is to read. What they promise each other travels in the messages, so that every client can check what it gets:
   - the hello names the token that the client put into its path, and the connection's id;
   - a message for one connection names that id, its producer, the producer's count of all messages (which must grow), and how
     many for this connection were accepted from it before (all of which must have arrived);
   - a Close by a producer names how many had been accepted before it.
   Posts are made under a lock that the posted function and handlers take too. Threads give their processor away at locks and
   wake-ups: see yield.h. At the end every producer is told that the server stopped, and memory, descriptors, posts and events
   must add up. Build it with -fsanitize=thread.
   usage: stress SECONDS [THREADS [queue|loop|queue-close|loop-close [SEED]]], -close: slow readers are closed */
#include "yield.h"

#include <dirent.h>
#include <stdio.h>

enum {
    PRODUCERS = 8,
    HANDLERS = PRODUCERS,     /* the number under which replies of the server's handlers are counted */
    CLIENT_THREADS = 4,
    CLIENTS = 10,             /* of each such thread */
    SLOTS = 44,               /* connections that the server lets in: few, so that places are used again soon */
    KNOWN = 128,              /* the latest connections, most of which are gone and their places taken by others */
    PADDING = 70000,          /* most bytes of filler in a message, enough for the longest form of a length */
    REGISTRATIONS = 12,       /* of each producer */
    PATIENCE = 60             /* seconds beyond those asked for, until enough has happened */
};

static wss_server *server;
static wss_queue *queue;
static int port;
static int clients_end;
static pthread_mutex_t known_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t application_mutex = PTHREAD_MUTEX_INITIALIZER; /* held while posting, and taken by handlers */
static wss_conn known[KNOWN];
static unsigned known_count;
static char padding[PADDING];

static size_t library_bytes;
static long opened, connects, disconnects, users, users_freed;       /* lives */
static long sent, refused, gone, broadcasts, closes, received;       /* traffic */
static long posts[PRODUCERS], posts_run[PRODUCERS], posts_disordered;
static long wrong, disordered, lost, revived, unexpected, nonsense;  /* mistakes */
static long checked_closes, handled;
static long looks, shrunk, mixed_up;                                 /* what the reader found */

#define ADD(counter, n) __atomic_add_fetch(&(counter), n, __ATOMIC_RELAXED)

/* Something that was not agreed. */
static void odd_at(int line, long value) {
    if (ADD(unexpected, 1) <= 10) printf("stress.c:%d: not as agreed: %ld\n", line, value);
}

#define ODD(value) odd_at(__LINE__, (long)(value))

static void *allocator(void *context, void *pointer, size_t old_size, size_t new_size) {
    (void)context;
    if (!new_size) {
        ADD(library_bytes, 0 - old_size);
        free(pointer);
        return NULL;
    }
    void *moved = realloc(pointer, new_size);
    if (moved) ADD(library_bytes, new_size - (pointer ? old_size : 0));
    return moved;
}

static unsigned next_random(unsigned *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

/* Mostly short, sometimes past each border of a frame's length and of the direct write. */
static unsigned filler(unsigned *seed) {
    unsigned choice = next_random(seed) % 256;
    return choice == 0 ? PADDING : choice < 4 ? 20000 : choice < 24 ? 300 : choice % 90;
}

/* ---- handlers ---- */

/* Of one connection: how many replies were accepted. */
typedef struct life {
    unsigned long replies;
} life;

static void free_user(void *user) {
    ADD(users_freed, 1);
    free(user);
}

static void on_connect(const wss_event *e) {
    char text[320];
    wss_info info;
    life *user = (life *)calloc(1, sizeof *user);
    int result = WSS_ERR_GONE;
    ADD(connects, 1);
    if (wss_set_user(e->server, e->conn, user) == WSS_OK) ADD(users, 1);
    else free(user);
    if (wss_get_info(e->server, e->conn, &info) == WSS_OK) {
        snprintf(text, sizeof text, "{\"id\":\"%llu\",\"token\":\"%s\"}", (unsigned long long)e->conn.id, info.path + 1);
        while ((result = wss_send(e->server, e->conn, "hello", wss_json(text))) == WSS_ERR_QUEUE_FULL) usleep(100);
    }
    if (result != WSS_OK && result != WSS_ERR_GONE && result != WSS_ERR_FULL && result != WSS_ERR_STOPPED) ODD(result);
    if (result != WSS_OK) return;
    pthread_mutex_lock(&known_mutex);
    known[known_count++ % KNOWN] = e->conn;
    pthread_mutex_unlock(&known_mutex);
}

static void on_disconnect(const wss_event *e) {
    (void)e;
    pthread_mutex_lock(&application_mutex);
    disconnects++;
    pthread_mutex_unlock(&application_mutex);
}

static void on_ask(const wss_event *e) {
    char text[160];
    life *user = (life *)e->user;
    ADD(handled, 1);
    if (!user) return;
    snprintf(text, sizeof text, "{\"to\":\"%llu\",\"by\":%d,\"n\":%lu,\"before\":%lu,\"filler\":\"\"}", (unsigned long long)e->conn.id,
             HANDLERS, user->replies + 1, user->replies);
    if (wss_send(e->server, e->conn, "m", wss_json(text)) == WSS_OK) user->replies++;
}

static void on_anything(const wss_event *e) {
    (void)e;
    ADD(handled, 1);
}

/* Posts of one producer run in order, all those that were accepted. */
static void run_post(void *arg) {
    intptr_t value = (intptr_t)arg;
    long by = (long)(value % PRODUCERS);
    pthread_mutex_lock(&application_mutex);
    pthread_mutex_unlock(&application_mutex);
    if (posts_run[by]++ != (long)(value / PRODUCERS)) ADD(posts_disordered, 1);
}

/* ---- producers ---- */

/* What a producer remembers of a connection that it knows. */
typedef struct memory {
    uint64_t id;
    unsigned long accepted;
    int gone; /* it was told so, or closed it: every further call must say so too */
} memory;

typedef struct producer {
    int self;
    unsigned seed;
    unsigned long count;
    int registrations;
    int stopped;
    memory memories[KNOWN];
    char text[PADDING + 200];
} producer;

static memory *pick(producer *p) {
    unsigned at = next_random(&p->seed) % KNOWN;
    pthread_mutex_lock(&known_mutex);
    uint64_t id = known[at].id;
    pthread_mutex_unlock(&known_mutex);
    if (p->memories[at].id != id) memset(&p->memories[at], 0, sizeof p->memories[at]);
    p->memories[at].id = id;
    return &p->memories[at];
}

static wss_conn conn_of(const memory *m) {
    wss_conn conn;
    conn.id = m->id;
    return conn;
}

/* Books the result of a call for one connection. True if it was accepted. */
static int book(producer *p, memory *m, int result) {
    if (result == WSS_ERR_STOPPED) p->stopped = 1;
    if (m->gone && result != WSS_ERR_GONE && result != WSS_ERR_STOPPED) ADD(revived, 1);
    if (result == WSS_ERR_GONE) m->gone = 1;
    if (result == WSS_ERR_GONE) ADD(gone, 1);
    else if (result == WSS_ERR_FULL || result == WSS_ERR_QUEUE_FULL || result == WSS_ERR_BUDGET) ADD(refused, 1);
    else if (result != WSS_OK && result != WSS_ERR_STOPPED) ODD(result);
    return result == WSS_OK;
}

static void do_send(producer *p, memory *m) {
    int raw = next_random(&p->seed) & 1;
    int size = snprintf(p->text, sizeof p->text, "{%s\"to\":\"%llu\",\"by\":%d,\"n\":%lu,\"before\":%lu,\"filler\":\"%.*s\"}",
                        raw ? "\"__MESSAGE__\":\"m\"," : "", (unsigned long long)m->id, p->self, ++p->count, m->accepted,
                        (int)filler(&p->seed), padding);
    int result = raw ? wss_send_data(server, conn_of(m), WSS_TEXT, p->text, (size_t)size)
                     : wss_send(server, conn_of(m), "m", wss_json(p->text));
    if (!book(p, m, result)) return;
    m->accepted++;
    ADD(sent, 1);
}

/* A keyed message may be replaced by a later one and keeps its place then: it has no number. */
static void do_latest(producer *p, memory *m) {
    char key[16];
    int all = next_random(&p->seed) % 4 == 0;
    snprintf(key, sizeof key, "%s %d", all ? "all" : "one", p->self); /* or one for a client could come before its hello */
    snprintf(p->text, sizeof p->text, "{\"to\":\"%llu\"}", all ? 0ULL : (unsigned long long)m->id);
    if (all) wss_broadcast_latest(server, key, "latest", wss_json(p->text));
    else book(p, m, wss_send_latest(server, conn_of(m), key, "latest", wss_json(p->text)));
}

static void do_broadcast(producer *p, memory *m) {
    unsigned kind = next_random(&p->seed) % 3;
    int result;
    int size = snprintf(p->text, sizeof p->text, "{\"__MESSAGE__\":\"b\",\"not\":\"%llu\",\"by\":%d,\"n\":%lu,\"filler\":\"%.*s\"}",
                        kind == 1 ? (unsigned long long)m->id : 0, p->self, ++p->count, (int)(filler(&p->seed) % 1000), padding);
    if (kind == 0) result = wss_broadcast_data(server, WSS_TEXT, p->text, (size_t)size);
    else if (kind == 1) result = wss_broadcast_except(server, conn_of(m), "b", wss_json(p->text));
    else result = wss_broadcast(server, "b", wss_json(p->text));
    if (result == WSS_ERR_STOPPED) p->stopped = 1;
    if (result == WSS_OK) ADD(broadcasts, 1);
    else if (result == WSS_ERR_FULL) ODD(result);
}

static void do_post(producer *p) {
    intptr_t value = (intptr_t)posts[p->self] * PRODUCERS + p->self;
    pthread_mutex_lock(&application_mutex);
    int result = wss_post(server, run_post, (void *)value);
    pthread_mutex_unlock(&application_mutex);
    if (result == WSS_OK) posts[p->self]++;
    else if (result == WSS_ERR_STOPPED) p->stopped = 1;
    else if (result != WSS_ERR_QUEUE_FULL) ODD(result);
}

static void do_close(producer *p, memory *m) {
    char reason[32];
    snprintf(reason, sizeof reason, "%lu", m->accepted);
    pthread_mutex_lock(&application_mutex);
    int result = wss_close(server, conn_of(m), 4000 + p->self, reason);
    pthread_mutex_unlock(&application_mutex);
    if (!book(p, m, result)) return;
    m->gone = 1;
    ADD(closes, 1);
}

static void do_look(producer *p, memory *m) {
    wss_info info;
    wss_stats stats;
    wss_conn conn = {0};
    size_t steps = 0;
    if (wss_get_info(server, conn_of(m), &info) == WSS_OK && info.conn.id != m->id) ADD(wrong, 1);
    wss_get_stats(server, &stats);
    while ((conn = wss_next(server, conn)).id && steps < 10000) steps++;
    if (steps == 10000) ODD(steps);
    wss_buffered(server, conn_of(m));
    wss_pause(server, conn_of(m));
    wss_resume(server, conn_of(m));
    wss_timer timer = wss_timer_start(server, (int64_t)(next_random(&p->seed) % 5), 1, on_anything, NULL);
    if (timer.id) wss_timer_cancel(server, timer);
}

static void do_register(producer *p) {
    char type[16];
    if (p->registrations == REGISTRATIONS) return;
    snprintf(type, sizeof type, "type %d", p->registrations);
    int result = wss_on_message(server, p->registrations % 3 ? "ask" : type, on_anything, NULL);
    if (result == WSS_OK && p->registrations % 4 == 0) result = wss_on_data(server, on_anything, NULL);
    if (result == WSS_OK && p->registrations % 4 == 1) result = wss_on_connect(server, on_anything, NULL);
    if (result == WSS_OK && p->registrations % 4 == 2) result = wss_on_disconnect(server, on_anything, NULL);
    if (result == WSS_OK && p->registrations % 4 == 3) result = wss_on_drain(server, on_anything, NULL);
    if (result != WSS_OK && result != WSS_ERR_STOPPED) ODD(result);
    p->registrations++;
}

/* Until the server says that it stopped. */
static void *produce(void *arg) {
    producer *p = (producer *)arg;
    while (!p->stopped) {
        unsigned choice = next_random(&p->seed) % 1000;
        memory *m = pick(p);
        for (int tries = 0; m->gone && tries < 12; tries++) m = pick(p); /* some calls go to those who are gone */
        if (choice < 780) do_send(p, m);
        else if (choice < 820) do_latest(p, m);
        else if (choice < 850) do_broadcast(p, m);
        else if (choice < 960) do_post(p);
        else if (choice < 980) do_close(p, m);
        else if (choice < 995) do_look(p, m);
        else do_register(p);
        if (choice % 16 == 0) usleep(200);
    }
    return NULL;
}

/* ---- the reader ---- */

/* Counters that only grow never shrink, from wherever they are added up. */
static void check_growth(const wss_stats *before, const wss_stats *now) {
    static const size_t counters[] = {
        offsetof(wss_stats, accepted), offsetof(wss_stats, opened), offsetof(wss_stats, refused),
        offsetof(wss_stats, frames_in), offsetof(wss_stats, frames_out), offsetof(wss_stats, messages_in),
        offsetof(wss_stats, messages_out), offsetof(wss_stats, bytes_in), offsetof(wss_stats, bytes_out),
        offsetof(wss_stats, dropped_gone), offsetof(wss_stats, refused_full), offsetof(wss_stats, queued_peak),
        offsetof(wss_stats, memory_peak), offsetof(wss_stats, wakeups), offsetof(wss_stats, loop_lag_ms)};
    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++) {
        uint64_t old;
        uint64_t new;
        memcpy(&old, (const char *)before + counters[i], sizeof old);
        memcpy(&new, (const char *)now + counters[i], sizeof new);
        if (new < old) ADD(shrunk, 1);
    }
}

/* One handle names one client for ever: what is told about it always has the same path. */
static void check_info(wss_conn conn) {
    static uint64_t ids[4096];
    static unsigned tokens[4096];
    wss_info info;
    unsigned token = 0;
    if (wss_get_info(server, conn, &info) != WSS_OK) return;
    size_t place = conn.id % 4096;
    int known_peer = strcmp(info.address, "127.0.0.1") == 0 || !info.address[0]; /* none once the peer has reset */
    if (info.conn.id != conn.id || !known_peer || sscanf(info.path, "/%u", &token) != 1) ADD(mixed_up, 1);
    if (ids[place] == conn.id && tokens[place] != token) ADD(mixed_up, 1);
    ids[place] = conn.id;
    tokens[place] = token;
}

static int reader_end;

static void *look(void *arg) {
    wss_stats before;
    wss_stats now;
    wss_options options;
    memset(&options, 0, sizeof options);
    wss_get_stats(server, &before);
    while (!__atomic_load_n(&reader_end, __ATOMIC_ACQUIRE)) {
        wss_get_stats(server, &now);
        check_growth(&before, &now);
        before = now;
        if (now.connections > SLOTS) ODD(now.connections);
        if (now.memory > now.memory_budget) ODD(now.memory);
        if (wss_count(server) > SLOTS) ODD(wss_count(server));
        for (wss_conn conn = wss_next(server, wss__send_none()); conn.id; conn = wss_next(server, conn)) {
            check_info(conn);
            size_t buffered = wss_buffered(server, conn);
            if (buffered > 400000) ODD(buffered);
        }
        wss_get_options(server, &options);
        if (options.port != port) ODD(0);
        ADD(looks, 1);
        usleep(100);
    }
    return arg;
}

/* ---- clients ---- */

typedef struct client {
    int fd; /* -1: none */
    unsigned token;
    int upgraded;
    int lazy;   /* reads nothing after the handshake */
    int left;   /* frames until it leaves */
    int leaving;
    uint64_t id;
    unsigned long numbers[PRODUCERS + 1];
    unsigned long got[PRODUCERS + 1];
    char *data;
    size_t size;
} client;

enum { ROOM = 1 << 18 };

static void drop(client *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

/* Sends without waiting; a client that cannot is one that the server does not read from now. */
static void say(client *c, const void *bytes, size_t size) {
    ssize_t done = send(c->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (done >= 0 && (size_t)done < size) drop(c);
}

/* By a reset, by the end of the stream, in the middle of a frame, or as it should be. */
static void leave(client *c, unsigned *seed) {
    static const unsigned char close_frame[] = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8};
    static const unsigned char half_a_frame[] = {0x81, 0xfe, 0x03, 0xe8, 1, 2, 3, 4, 'h', 'a', 'l', 'f'};
    struct linger linger = {1, 0};
    unsigned way = next_random(seed) % 4;
    if (way == 3) say(c, half_a_frame, 1 + next_random(seed) % sizeof half_a_frame);
    if (way == 3) way = next_random(seed) % 2;
    if (c->fd < 0) way = 1;
    if (way == 0) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    if (way < 2) drop(c);
    else say(c, close_frame, sizeof close_frame);
    c->leaving = 1;
}

static void begin(client *c, unsigned *seed) {
    static unsigned tokens;
    static const int small = 4096;
    char request[256];
    char *data = c->data;
    struct sockaddr_in address;
    memset(c, 0, sizeof *c);
    c->data = data;
    c->token = ADD(tokens, 1);
    c->left = (int)(next_random(seed) % 150);
    c->lazy = next_random(seed) % 32 == 0;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->lazy) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int size = snprintf(request, sizeof request,
                        "GET /%u HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", c->token);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        drop(c);
        usleep(1000);
        return;
    }
    int part = next_random(seed) % 12 == 0; /* one that goes away in the middle of its handshake */
    say(c, request, part ? (size_t)size / 2 : (size_t)size);
    if (part && c->fd >= 0) leave(c, seed);
    if (part) drop(c);
}

/* Asks, pings, and sends in fragments, as browsers and worse do. */
static void talk(client *c, unsigned *seed) {
    static const unsigned char ask[] = "\x81\x95\0\0\0\0{\"__MESSAGE__\":\"ask\"}";
    static const unsigned char parts[] = "\x01\x86\0\0\0\0{\"__ME\x89\x81\0\0\0\0p\x80\x8f\0\0\0\0SSAGE__\":\"ask\"}";
    static const unsigned char binary[] = "\x82\x83\0\0\0\0abc";
    unsigned choice = next_random(seed) % 8;
    if (choice < 4) say(c, ask, sizeof ask - 1);
    else if (choice < 6) say(c, parts, sizeof parts - 1);
    else say(c, binary, sizeof binary - 1);
}

static void check_message(client *c, const char *text) {
    unsigned long long to = 0;
    unsigned token;
    unsigned by;
    unsigned long n;
    unsigned long before;
    ADD(received, 1);
    if (sscanf(text, "{\"__MESSAGE__\":\"hello\",\"id\":\"%llu\",\"token\":\"%u\"}", &to, &token) == 2) {
        if (token != c->token || c->id) ADD(wrong, 1);
        c->id = to;
    } else if (sscanf(text, "{\"__MESSAGE__\":\"latest\",\"to\":\"%llu\"}", &to) == 1) {
        if (to && to != c->id) ADD(wrong, 1);
    } else if (sscanf(text, "{\"__MESSAGE__\":\"m\",\"to\":\"%llu\",\"by\":%u,\"n\":%lu,\"before\":%lu,", &to, &by, &n, &before) == 4 &&
               by <= HANDLERS) {
        if (to != c->id) ADD(wrong, 1);
        if (n <= c->numbers[by]) ADD(disordered, 1);
        if (before != c->got[by]) ADD(lost, 1);
        c->numbers[by] = n;
        c->got[by]++;
    } else if (sscanf(text, "{\"__MESSAGE__\":\"b\",\"not\":\"%llu\",\"by\":%u,\"n\":%lu,", &to, &by, &n) == 3 && by < PRODUCERS) {
        if (to && to == c->id) ADD(wrong, 1);
        if (n <= c->numbers[by]) ADD(disordered, 1);
        c->numbers[by] = n;
    } else {
        ADD(nonsense, 1);
    }
}

static void check_close(client *c, const char *data, size_t size) {
    char reason[126] = "";
    if (size < 2) {
        ADD(nonsense, 1);
        return;
    }
    unsigned code = (unsigned)(unsigned char)data[0] << 8 | (unsigned char)data[1];
    memcpy(reason, data + 2, size - 2);
    if (code >= 4000 && code < 4000 + PRODUCERS) {
        ADD(checked_closes, 1);
        if (strtoul(reason, NULL, 10) != c->got[code - 4000]) ADD(lost, 1);
    } else if (code != 1000 && code != 1001 && code != 1013) {
        ODD(code);
    }
}

/* Takes one frame out of the client's bytes; how many it has, or 0 while it is not there whole. */
static size_t take_frame(client *c, char *data, size_t size) {
    size_t head = 2;
    if (size < 2) return 0;
    size_t length = (unsigned char)data[1];
    if (length >= 126) head = length == 126 ? 4 : 10;
    if (size < head) return 0;
    if (head > 2) length = (size_t)wss__base_load_be(data + 2, (int)head - 2);
    if (length > size - head) return 0;
    int opcode = data[0] & 15;
    char kept = data[head + length]; /* there is room for one more byte */
    data[head + length] = 0;
    if (((unsigned char)data[0] & 0xf0) != 0x80) ADD(nonsense, 1);
    if (opcode == 1) check_message(c, data + head);
    else if (opcode == 8) check_close(c, data + head, length);
    else if (opcode != 10) ADD(nonsense, 1);
    data[head + length] = kept;
    if (opcode == 8) c->leaving = 2;
    c->left--;
    return head + length;
}

static size_t take_head(client *c) {
    char *end = (char *)memmem(c->data, c->size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (memcmp(c->data, "HTTP/1.1 101 ", 13) != 0) {
        if (memcmp(c->data, "HTTP/1.1 503 ", 13) != 0) ODD(strtol(c->data + 9, NULL, 10));
        drop(c);
        return 0;
    }
    c->upgraded = 1;
    ADD(opened, 1);
    return (size_t)(end - c->data) + 4;
}

static void take_bytes(client *c, unsigned *seed) {
    ssize_t got = recv(c->fd, c->data + c->size, ROOM - 1 - c->size, MSG_DONTWAIT);
    if (got <= 0) {
        drop(c);
        return;
    }
    c->size += (size_t)got;
    size_t at = c->upgraded ? 0 : take_head(c);
    if (c->fd < 0 || !c->upgraded) return;
    for (size_t step = 1; step && c->fd >= 0 && c->leaving != 2; at += step) {
        step = take_frame(c, c->data + at, c->size - at);
        if (step && c->left % 16 == 0 && !c->leaving) talk(c, seed);
    }
    memmove(c->data, c->data + at, c->size - at);
    c->size -= at;
    if (c->fd >= 0 && c->leaving == 2) leave(c, seed);
    else if (c->fd >= 0 && c->left <= 0 && !c->leaving) leave(c, seed);
}

static void *be_clients(void *arg) {
    static const short hang_up = POLLHUP | POLLERR;
    client all[CLIENTS];
    struct pollfd wait[CLIENTS];
    unsigned seed = 0x9e3779b9u * (1 + (unsigned)(intptr_t)arg);
    for (int i = 0; i < CLIENTS; i++) {
        memset(&all[i], 0, sizeof all[i]);
        all[i].fd = -1;
        all[i].data = (char *)malloc(ROOM);
    }
    while (!__atomic_load_n(&clients_end, __ATOMIC_ACQUIRE)) {
        for (int i = 0; i < CLIENTS; i++) {
            if (all[i].fd < 0) begin(&all[i], &seed);
            wait[i].fd = all[i].fd;
            wait[i].events = all[i].lazy && all[i].upgraded ? 0 : POLLIN;
            wait[i].revents = 0;
        }
        poll(wait, CLIENTS, 100);
        for (int i = 0; i < CLIENTS; i++) {
            if (all[i].fd >= 0 && wait[i].revents & POLLIN) take_bytes(&all[i], &seed);
            else if (all[i].fd >= 0 && wait[i].revents & hang_up) drop(&all[i]);
        }
    }
    for (int i = 0; i < CLIENTS; i++) {
        drop(&all[i]);
        free(all[i].data);
    }
    return NULL;
}

/* ---- the run ---- */

static void *drain_queue(void *arg) {
    (void)arg;
    if (wss_queue_run(queue) != WSS_OK) ODD(0);
    return NULL;
}

static int count_descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory)) count++;
    if (directory) closedir(directory);
    return count;
}

static int make_server(int threads, int with_queue, int policy) {
    wss_error why;
    wss_options options;
    memset(&options, 0, sizeof options);
    options.address = "127.0.0.1";
    options.threads = threads;
    options.allocator = allocator;
    options.user_free = free_user;
    options.max_connections = SLOTS;
    options.max_queued = policy == WSS_POLICY_CLOSE ? 20000 : 100000;
    options.max_posted = 2000;
    options.stall_ms = 1500;
    options.close_ms = 500;
    options.send_policy = policy;
    if (with_queue) queue = options.queue = wss_queue_create(&options, &why);
    server = wss_create(&options, &why);
    if (!server) return 0;
    wss_get_options(server, &options);
    port = options.port;
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    wss_on_message(server, "ask", on_ask, NULL);
    return 1;
}

#define GET(counter) __atomic_load_n(&(counter), __ATOMIC_RELAXED)

/* Enough happened to tell. */
static int is_busy(void) {
    return GET(opened) > 100 && GET(received) > 5000 && GET(sent) > 1000 && GET(gone) > 0 && GET(checked_closes) > 10 &&
           GET(handled) > 100 && GET(looks) > 20;
}

/* Everything but the traffic must be as it was before. */
static int report(int threads, int descriptors, const wss_stats *stats) {
    long accepted_posts = 0;
    long run_posts = 0;
    for (int i = 0; i < PRODUCERS; i++) accepted_posts += posts[i];
    for (int i = 0; i < PRODUCERS; i++) run_posts += posts_run[i];
    long lives = labs(connects - disconnects) + labs(users - users_freed) + (long)stats->connections;
    printf("threads %d%s: %ld connections, %ld messages received, %ld sends accepted, %ld refused, %ld gone, %ld broadcasts, "
           "%ld closes (%ld checked), posts %ld of %ld, %ld events\n",
           threads, queue ? " and a queue" : "", opened, received, sent, refused, gone, broadcasts, closes, checked_closes,
           run_posts, accepted_posts, handled);
    printf("  read %ld times: %ld counters shrank, %ld connections mixed up; a processor was given away %lu times\n", looks,
           shrunk, mixed_up, yield_count);
    printf("  to the wrong connection %ld, out of order %ld, lost %ld, came back to life %ld, posts out of order %ld, not as "
           "agreed %ld and %ld, left over: %ld lives, %zu bytes, %d descriptors\n",
           wrong, disordered, lost, revived, posts_disordered, unexpected, nonsense, lives, library_bytes, descriptors);
    if (!is_busy()) printf("  too little happened to tell\n");
    return shrunk || mixed_up || wrong || disordered || lost || revived || posts_disordered || unexpected || nonsense || lives || library_bytes ||
           descriptors || accepted_posts != run_posts || !is_busy();
}

int main(int argc, char **argv) {
    static producer producers[PRODUCERS];
    pthread_t producer_threads[PRODUCERS];
    pthread_t client_threads[CLIENT_THREADS];
    pthread_t drainer;
    pthread_t reader;
    wss_stats stats;
    int seconds = argc > 1 ? atoi(argv[1]) : 10;
    int threads = argc > 2 ? atoi(argv[2]) : 1;
    int before = count_descriptors();
    yield_seed = argc > 4 ? (unsigned)atoi(argv[4]) : 1;
    alarm((unsigned)seconds + PATIENCE + 60);
    memset(padding, 'x', sizeof padding);
    int with_queue = argc > 3 && strncmp(argv[3], "queue", 5) == 0;
    int policy = argc > 3 && strstr(argv[3], "-close") ? WSS_POLICY_CLOSE : WSS_POLICY_REFUSE;
    if (!make_server(threads, with_queue, policy) || wss_start(server) != WSS_OK) return 1;
    if (queue) pthread_create(&drainer, NULL, drain_queue, NULL);
    for (intptr_t i = 0; i < CLIENT_THREADS; i++) pthread_create(&client_threads[i], NULL, be_clients, (void *)i);
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i].self = i;
        producers[i].seed = 12345u + 7919u * (unsigned)i + 104729u * yield_seed;
        pthread_create(&producer_threads[i], NULL, produce, &producers[i]);
    }
    pthread_create(&reader, NULL, look, NULL);
    sleep((unsigned)seconds);
    for (int i = 0; i < PATIENCE && !is_busy(); i++) sleep(1); /* on a machine that has other things to do */
    wss_stop(server, 1000); /* while everybody goes on */
    for (int i = 0; i < PRODUCERS; i++) pthread_join(producer_threads[i], NULL);
    if (queue) pthread_join(drainer, NULL);
    __atomic_store_n(&clients_end, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < CLIENT_THREADS; i++) pthread_join(client_threads[i], NULL);
    while (wss_get_stats(server, &stats), stats.connections) usleep(1000);
    __atomic_store_n(&reader_end, 1, __ATOMIC_RELEASE);
    pthread_join(reader, NULL);
    wss_destroy(server);
    if (queue && wss_queue_destroy(queue) != WSS_OK) ODD(0);
    return report(threads, count_descriptors() - before, &stats);
}
