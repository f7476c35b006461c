/* scenarios.h: what a server goes through, as scripts on the kernel in memory. Each runs beside two bystanders that must
   keep echoing exactly whatever fails elsewhere; afterwards a newcomer must get in, every connect has had its disconnect,
   and nothing is left. scene_run runs one with what is to fail set in stage.faults and stage.fail_at. */
#ifndef SIM_SCENARIOS_H
#define SIM_SCENARIOS_H

#include "kernel.h"

#include "../test.h"

enum { STAGE_PEERS = 24, STAGE_CONNS = 256, STAGE_TEXT = 512, STAGE_BIG = 65536 };

/* A connection as its handlers saw it. */
typedef struct stage_conn {
    uint64_t id;
    int state; /* 1: connected, 2: disconnected */
    int cause;
} stage_conn;

typedef struct stage_bystander {
    peer *peer;
    uint64_t id;
    unsigned sent;
    unsigned echoed;
    unsigned refused; /* echoes that wss_send_data refused, and said so */
    int closed;
} stage_bystander;

typedef struct stage_state {
    const struct scene *scene;
    wss_server *server;
    wss_queue *queue;
    wss_options options;
    int perfect;  /* nothing fails: then the script must succeed in every detail */
    int stopped;
    int armed;
    int lasting;  /* the faults do not end while they are armed: bystanders need not echo meanwhile */
    int random;   /* the kernel is busy at random, or moves one byte at a time */
    sim_fault faults[SIM_FAULTS];
    int fault_count;
    long fail_at;
    int fail_on;
    size_t fail_above;
    long calls[SIM_CALL_COUNT]; /* made while armed */
    long grown;                 /* allocations while armed */
    long failed;
    stage_conn conns[STAGE_CONNS];
    int conn_count;
    stage_bystander by[2];
    peer *peers[STAGE_PEERS];
    int peer_count;
    wss_conn asked[4];
    int asked_count;
    wss_conn last; /* the newest connection */
    wss_timer timer;
    long events[16];
    long posts;
    long freed;
    long given;    /* user pointers handed to the server */
    long drained;
    char text[STAGE_TEXT];
    size_t text_size;
} stage_state;

typedef struct scene {
    const char *name;
    void (*options)(wss_options *options); /* may be NULL */
    void (*prepare)(void);                 /* further handlers; may be NULL */
    void (*run)(void);
    int from_start; /* faults strike while the server is made, too */
    int to_all;     /* the bystanders are sent something, too, for the rest of which memory may be wanting */
} scene;

static stage_state stage;
static char stage_big[STAGE_BIG + 1];
static char stage_label[160];

/* True in every run without faults. */
#define STAGE_TRUE(condition)                                                                  \
    do {                                                                                       \
        int stage_true = (condition); /* always looked at: it may make calls that count */     \
        if (stage.perfect && !stage_true) {                                                    \
            test_broken++;                                                                     \
            if (test_broken <= 10)                                                             \
                printf("%s:%d: not true in %s: %s\n", __FILE__, __LINE__, stage_label, #condition); \
        }                                                                                      \
    } while (0)

static void stage_violated(const char *text) {
    test_broken++;
    if (test_broken <= 10 || getenv("SIM_ALL")) printf("violation: %s, in %s\n", text, stage_label);
}

/* ---- handlers ---- */

static void stage_in_handler(const wss_event *e) {
    SIM_TRUE(sim.locks == 0, "a mutex is held while a handler runs");
    SIM_TRUE(e->server == stage.server, "an event of another server");
    SIM_TRUE(wss_destroy(e->server) == WSS_ERR_BUSY, "destroyed inside a handler");
    stage.events[e->kind]++;
}

static stage_conn *stage_find(uint64_t id) {
    for (int i = 0; i < stage.conn_count; i++)
        if (stage.conns[i].id == id) return &stage.conns[i];
    return NULL;
}

static stage_bystander *stage_bystander_of(uint64_t id) {
    for (int i = 0; i < 2; i++)
        if (stage.by[i].id == id) return &stage.by[i];
    return NULL;
}

static void stage_on_connect(const wss_event *e) {
    stage_in_handler(e);
    SIM_TRUE(stage_find(e->conn.id) == NULL, "connect came twice");
    stage.last = e->conn;
    if (stage.conn_count == STAGE_CONNS) return;
    stage.conns[stage.conn_count].id = e->conn.id;
    stage.conns[stage.conn_count].cause = 0;
    stage.conns[stage.conn_count++].state = 1;
}

static void stage_on_disconnect(const wss_event *e) {
    stage_conn *conn = stage_find(e->conn.id);
    stage_in_handler(e);
    SIM_TRUE(conn && conn->state == 1, "disconnect without connect, or twice");
    SIM_TRUE(e->reason && strlen(e->reason) == e->reason_length, "the reason of a disconnect");
    SIM_TRUE(wss_send(e->server, e->conn, "late", wss_json("{}")) != WSS_OK, "sent to a connection that has ended");
    if (!conn) return;
    conn->state = 2;
    conn->cause = e->cause;
}

static void stage_is_connected(const wss_event *e) {
    const stage_conn *conn = stage_find(e->conn.id);
    stage_in_handler(e);
    SIM_TRUE(conn && conn->state == 1, "an event of a connection that is not open");
}

/* Echoes; what begins with '!' is for the scene's own handler. */
static void stage_on_data(const wss_event *e) {
    stage_is_connected(e);
    if (e->size && e->data[0] == '!') return;
    int result = wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
    stage_bystander *by = stage_bystander_of(e->conn.id);
    if (by && result != WSS_OK) by->refused++;
}

static void stage_free_user(void *user) {
    SIM_TRUE(sim.locks == 0, "a mutex is held while a user pointer is freed");
    stage.freed++;
    free(user);
}

static void stage_posted(void *arg) {
    SIM_TRUE(sim.locks == 0, "a mutex is held while a posted function runs");
    stage.posts += (long)(intptr_t)arg;
}

static void stage_log(void *context, int level, const char *text) {
    (void)context;
    SIM_TRUE(level >= WSS_LOG_ERROR && level <= WSS_LOG_DEBUG, "a level that is none");
    for (const char *at = text; *at; at++) SIM_TRUE((unsigned char)*at >= 32 && (unsigned char)*at < 127, "a raw byte in the log");
}

/* ---- moving ---- */

static void settle(void) {
    if (stage.server && sim_settle(stage.server) != WSS_OK) stage.stopped = 1;
}

static void pass(int milliseconds) {
    if (stage.server && sim_pass(stage.server, milliseconds) != WSS_OK) stage.stopped = 1;
}

/* Lets the server sleep as it wants to, until so much time has passed. */
static void rest(int milliseconds) {
    uint64_t until = sim.now + (uint64_t)milliseconds * 1000;
    while (stage.server && !stage.stopped && sim.now < until) {
        if (sim_turn(stage.server, (int)((until - sim.now + 999) / 1000)) != WSS_OK) stage.stopped = 1;
        sim_check(stage.server);
        if (stage.queue) wss_queue_poll(stage.queue, 0);
    }
}

/* ---- the scene's own clients; NULL stands for one that was not let in ---- */

static peer *keep(peer *client) {
    if (client && stage.peer_count < STAGE_PEERS) stage.peers[stage.peer_count++] = client;
    return client;
}

static peer *dial(void) {
    return stage.server ? keep(peer_connect(stage.options.port)) : NULL;
}

static void write_text(peer *client, const char *text) {
    if (client) peer_text(client, text);
}

/* Connects and sends this request; the client if the answer has this status. */
static peer *ask(const char *request, int status) {
    peer *client = dial();
    stage.last.id = 0; /* so that a script never takes somebody else's connection for this one */
    if (!client) return NULL;
    peer_text(client, request);
    settle();
    int got = peer_take_head(client);
    STAGE_TRUE(got == status);
    return got == status ? client : NULL;
}

static peer *join(void) {
    return ask(PEER_REQUEST("/") "\r\n", 101);
}

/* Status of the answer that has come, 0 if none has. */
static int answered(peer *client) {
    return client ? peer_take_head(client) : 0;
}

static void frame(peer *client, int first, const void *payload, size_t size) {
    if (client) peer_frame(client, first, payload, size);
}

static void say(peer *client, const char *text) {
    frame(client, 0x81, text, strlen(text));
}

static void hang_up(peer *client) {
    if (client) peer_close(client);
}

/* Every frame a server sends: whole, unmasked, known; numbered ones only rise; nothing follows a Close. */
static void judge_frame(peer *client, int first, const char *data, size_t size) {
    int opcode = first & 15;
    SIM_TRUE((first & 0xf0) == 0x80, "a frame that is fragmented or has reserved bits");
    SIM_TRUE(opcode == 1 || opcode == 2 || (opcode >= 8 && opcode <= 10), "a frame of an unknown opcode");
    SIM_TRUE(opcode < 8 || size <= 125, "a control frame that is too long");
    if (opcode >= 8 || size < 3 || data[0] != 'n' || data[1] != ':') return;
    char digits[16];
    snprintf(digits, sizeof digits, "%.*s", (int)(size - 2 < 15 ? size - 2 : 15), data + 2);
    uintptr_t number = (uintptr_t)strtoul(digits, NULL, 10);
    SIM_TRUE(number > (uintptr_t)client->user, "messages out of order");
    client->user = (void *)number;
}

/* Takes what has come; the last data message stays in stage.text. Returns how many there were; -1 after a Close. */
static int gather(peer *client) {
    const char *data;
    size_t size, whole;
    int first, count = 0;
    if (!client) return 0;
    while ((first = peer_peek(client, &data, &size, &whole)) >= 0) {
        judge_frame(client, first, data, size);
        if ((first & 15) < 8) {
            stage.text_size = size;
            size_t kept = size < STAGE_TEXT - 1 ? size : STAGE_TEXT - 1;
            memcpy(stage.text, data, kept);
            stage.text[kept] = 0;
            count++;
        }
        peer_skip(client, whole);
        if ((first & 15) != 8) continue;
        SIM_TRUE(client->out.size + client->got.size == 0, "bytes after a Close");
        return -1;
    }
    return count;
}

/* Reads as fast as the server writes, until nothing more comes. */
static int gather_all(peer *client) {
    int count = 0, got = 0;
    for (int quiet = 0; client && got >= 0 && quiet < 2;) {
        size_t before = client->got.size;
        settle();
        quiet = client->out.size ? 0 : quiet + 1;
        got = gather(client);
        if (client->got.size != before) quiet = 0;
        count += got > 0 ? got : 0;
    }
    return count;
}

static int expect(peer *client, const char *text) {
    settle();
    int count = gather(client);
    return client && count >= 1 && strcmp(stage.text, text) == 0;
}

/* ---- bystanders ---- */

static int is_passing(int call, int kind, int value) {
    if (kind != SIM_ERROR || value == EINTR) return 1;
    switch (call) {
    case SIM_accept4: return value != EBADF && value != EINVAL && value != ENOTSOCK && value != EOPNOTSUPP && value != ECONNABORTED;
    case SIM_recv: return value == EAGAIN;
    case SIM_send:
    case SIM_sendmsg: return value == EAGAIN || value == ENOBUFS || value == ENOMEM;
    case SIM_epoll_ctl:
    case SIM_epoll_wait: return 0;
    default: return 1;
    }
}

/* Whether a fault that struck was one that a connection, or the server, may die of. */
static int fault_kills(int call) {
    for (int i = 0; i < sim.fault_count; i++)
        if (sim.faults[i].call == call && sim.faults[i].struck && !is_passing(call, sim.faults[i].kind, sim.faults[i].value))
            return 1;
    return 0;
}

/* A bystander may end in three ways: a fault that kills hit a system call on its own descriptor (the kernel marks whom);
   epoll_wait itself failed for good, which ends the server; or memory was short for its own event on a queue, or for a
   message that was accepted for it, which the disconnect says by its cause. In each it must end as promised: its socket closed, its disconnect delivered. */
static int may_have_ended(const stage_bystander *by) {
    const stage_conn *conn = stage_find(by->id);
    if (stage.stopped && fault_kills(SIM_epoll_wait)) return 1;
    if (by->peer->struck && (fault_kills(SIM_recv) || fault_kills(SIM_send) || fault_kills(SIM_sendmsg) || fault_kills(SIM_epoll_ctl)))
        return 1;
    return stage.failed + sim.failed && conn && conn->state == 2 && conn->cause == WSS_CAUSE_MEMORY &&
           (stage.queue || stage.scene->to_all);
}

static void read_bystander(stage_bystander *by, int number) {
    const char *data;
    size_t size, whole;
    int first;
    while ((first = peer_peek(by->peer, &data, &size, &whole)) >= 0) {
        char want[32];
        char pong[125];
        size_t length = size < sizeof pong ? size : sizeof pong;
        judge_frame(by->peer, first, data, size);
        memcpy(pong, data, length);
        if (first == 0x81 && size && data[0] == '#') {
            snprintf(want, sizeof want, "#%d:%u", number, ++by->echoed + by->refused);
            SIM_TRUE(size == strlen(want) && memcmp(data, want, size) == 0, "a bystander's echo is not what it sent");
        }
        peer_skip(by->peer, whole);
        if (first == 0x88) peer_frame(by->peer, 0x88, pong, length < 2 ? length : 2);
        if (first == 0x88) by->closed = 1;
        if (first == 0x89) peer_frame(by->peer, 0x8a, pong, length);
    }
}

/* Both bystanders say something and hear it. */
static void tend(void) {
    char text[32];
    if (!stage.server || stage.stopped || (stage.lasting && stage.armed)) return;
    for (int i = 0; i < 2; i++) {
        stage_bystander *by = &stage.by[i];
        if (!by->peer || by->closed) continue;
        settle();
        read_bystander(by, i);
        snprintf(text, sizeof text, "#%d:%u", i, ++by->sent);
        peer_frame(by->peer, 0x81, text, strlen(text));
        for (int tries = 0; tries < 20 && by->echoed + by->refused < by->sent && !peer_ended(by->peer) && !stage.stopped; tries++) {
            if (tries) pass(100);
            else settle();
            read_bystander(by, i);
        }
        if (by->closed) settle();
        if (peer_ended(by->peer) || stage.stopped) by->closed = 1;
        if (by->closed && stage.lasting) continue; /* a deadline may have passed meanwhile */
        if (!by->closed) SIM_TRUE(by->echoed + by->refused == by->sent, "a bystander does not echo");
        if (by->closed) SIM_TRUE(may_have_ended(by), "a bystander was closed");
    }
}

/* Time passes, and the bystanders go on talking. */
static void watch_over(int milliseconds) {
    for (int passed = 0; passed < milliseconds; passed += 600) {
        rest(600);
        tend();
    }
}

static void open_bystander(stage_bystander *by) {
    by->peer = peer_connect(stage.options.port);
    if (!by->peer) return;
    peer_text(by->peer, PEER_REQUEST("/bystander") "\r\n");
    settle();
    if (peer_take_head(by->peer) == 101) {
        by->id = stage.last.id;
        return;
    }
    SIM_TRUE(0, "a bystander was not let in");
    peer_free(by->peer);
    by->peer = NULL;
}

/* ---- a run ---- */

static void arm(int on) {
    if (on && !stage.armed) {
        memset(sim.calls, 0, sizeof sim.calls);
        memcpy(sim.faults, stage.faults, sizeof sim.faults);
        sim.fault_count = stage.fault_count;
        sim.grown = 0;
        sim.failed = 0;
        sim.fail_at = stage.fail_at;
        sim.fail_on = stage.fail_on;
        sim.fail_above = stage.fail_above;
    } else if (!on && stage.armed) {
        memcpy(stage.calls, sim.calls, sizeof stage.calls);
        memcpy(stage.faults, sim.faults, sizeof stage.faults);
        stage.grown = sim.grown;
        stage.failed = sim.failed;
        for (int i = 0; i < sim.fault_count; i++) sim.faults[i].first = 0; /* strikes no more, but is remembered */
        sim.fail_at = 0;
        sim.fail_above = 0;
    }
    stage.armed = on;
}

static void make_server(void) {
    wss_options queue_options;
    wss_error why;
    sim_options(&stage.options);
    stage.options.user_free = stage_free_user;
    stage.options.log = stage_log;
    stage.options.log_level = WSS_LOG_DEBUG;
    if (stage.scene->options) stage.scene->options(&stage.options);
    if (stage.options.queue) { /* asked for by any pointer */
        sim_queue_options(&queue_options);
        stage.queue = wss_queue_create(&queue_options, &why);
        SIM_TRUE(stage.queue || why.code != 0, "no queue and no reason");
        stage.options.queue = stage.queue;
        if (!stage.queue) return;
    }
    stage.server = wss_create(&stage.options, &why);
    SIM_TRUE(stage.server || (why.code < 0 && why.text[0]), "no server and no reason");
    if (!stage.server) return;
    wss_get_options(stage.server, &stage.options);
    int result = wss_on_connect(stage.server, stage_on_connect, NULL);
    result |= wss_on_disconnect(stage.server, stage_on_disconnect, NULL);
    result |= wss_on_data(stage.server, stage_on_data, NULL);
    if (stage.scene->prepare) stage.scene->prepare();
    if (!stage.server->handlers.failed && !result) return;
    SIM_TRUE(wss_poll(stage.server, 0) == WSS_ERR_MEMORY || stage.server->loop_count > 1, "serves although a handler is missing");
    stage.stopped = 1;
}

/* After the faults: who comes now is served as ever. */
static void check_newcomer(void) {
    if (!stage.server || stage.stopped) return;
    if (!stage.options.port) return; /* the kernel did not tell which one it picked */
    if (fault_kills(SIM_accept4)) return; /* the kernel said that the listener is none: it was closed for good */
    watch_over(2100);
    if (stage.stopped) return;
    peer *client = peer_connect(stage.options.port);
    SIM_TRUE(client != NULL, "a newcomer is refused");
    if (!client) return;
    peer_text(client, PEER_REQUEST("/") "\r\n");
    settle();
    SIM_TRUE(peer_take_head(client) == 101, "a newcomer is not let in");
    peer_frame(client, 0x82, "newcomer", 8);
    settle();
    char text[16];
    size_t size = 0;
    SIM_TRUE(peer_take(client, text, sizeof text, &size) == 0x82 && size == 8, "a newcomer gets no echo");
    peer_free(client);
    settle();
}

static void end_run(void) {
    for (int i = 0; i < stage.peer_count; i++) peer_free(stage.peers[i]);
    if (stage.server && !stage.stopped) settle();
    tend();
    check_newcomer();
    tend();
    if (stage.server) {
        int result = sim_destroy(stage.server);
        SIM_TRUE(result == WSS_OK, "not destroyed");
    }
    if (stage.queue) SIM_TRUE(wss_queue_destroy(stage.queue) == WSS_OK, "queue not destroyed");
    for (int i = 0; i < 2; i++) {
        peer *client = stage.by[i].peer;
        if (!client) continue;
        SIM_TRUE(client->server_gone || client->fd < 0, "a bystander's socket is left");
        peer_free(client);
    }
    for (int i = 0; i < stage.conn_count; i++) SIM_TRUE(stage.conns[i].state == 2, "connect without disconnect");
    SIM_TRUE(stage.freed == stage.given, "user pointers given and freed differ");
    sim_finish();
}

/* Runs a scene. What fails is in stage.faults and the fields beside it, set between scene_begin and this. */
static void scene_begin(const scene *it, uint64_t seed) {
    memset(&stage, 0, sizeof stage);
    stage.scene = it;
    sim_begin(seed);
    sim_on_violation = stage_violated;
    sim.label = stage_label;
}

static void scene_run(void) {
    stage.perfect = !stage.fault_count && !stage.fail_at && !stage.random;
    if (stage.scene->from_start) arm(1);
    make_server();
    if (stage.scene->from_start) {
        settle();
        stage.scene->run();
        arm(0);
        if (stage.server && !stage.stopped) rest(1100);
    }
    if (stage.server && !stage.stopped && stage.options.port && !fault_kills(SIM_accept4))
        for (int i = 0; i < 2; i++) open_bystander(&stage.by[i]);
    tend();
    if (!stage.scene->from_start) {
        arm(1);
        stage.scene->run();
        settle();
        tend();
        arm(0);
    }
    end_run();
}

/* ---- scene: create and listen ---- */

static void create_options(wss_options *options) {
    int fd = sim_file_new(SIM_LISTENER); /* what another program has made */
    if (fd >= 0) sim_file_at(fd)->family = AF_INET;
    if (fd >= 0) sim_file_at(fd)->port = 7100;
    if (fd >= 0) sim_file_at(fd)->backlog = 5;
    sim_path_add("/dead", -1);
    options->address = "127.0.0.1:7001, [::1]:7002, unix:/alive, unix:/dead, fd:3";
    options->port = 7001;
    options->reuse_port = 1;
    options->origins = "https://a.example, https://b.example";
    options->hosts = "localhost, a.example";
    options->queue = (wss_queue *)(void *)options;
}

static void create_run(void) {
    if (!stage.server) {
        if (sim_file_at(SIM_FIRST)) sim_close(SIM_FIRST); /* the application's own, never adopted */
        return;
    }
    SIM_TRUE(wss_start(stage.server) != WSS_OK, "started without a thread");
    int fd = stage.stopped ? -1 : wss_fd(stage.server);
    STAGE_TRUE(fd >= 0 && wss_fd(stage.server) == fd);
    settle();
    peer *local = peer_connect_unix("/alive");
    if (local) {
        keep(local);
        peer_text(local, PEER_REQUEST("/") "\r\n");
        settle();
        STAGE_TRUE(peer_take_head(local) == 101);
    }
    STAGE_TRUE(local != NULL && peer_connect_unix("/none") == NULL && stage.options.port == 7001);
}

/* ---- scene: default addresses ---- */

static void any_options(wss_options *options) {
    sim.no_ipv6 = 1;
    options->address = NULL;
    options->spin_us = 20;
    sim.tick = 7;
}

static int is_refused(const char *address, int port, int code, int number) {
    wss_error why;
    wss_options options;
    sim_options(&options);
    options.address = address;
    options.port = port;
    wss_server *server = wss_create(&options, &why);
    if (server) wss_destroy(server);
    return !server && why.code == code && why.system_errno == number;
}

static void any_run(void) {
    STAGE_TRUE(is_refused("unix:", 0, WSS_ERR_ADDRESS, 0));
    STAGE_TRUE(is_refused("fd:99", 0, WSS_ERR_SYSTEM, EBADF));
    STAGE_TRUE(is_refused("127.0.0.1:77777", 0, WSS_ERR_ADDRESS, 0));
    if (!stage.server) return;
    STAGE_TRUE(is_refused("127.0.0.1", stage.options.port, WSS_ERR_SYSTEM, EADDRINUSE));
    settle();
    peer *client = join();
    say(client, "hello");
    STAGE_TRUE(expect(client, "hello"));
    rest(300);
}

/* ---- scene: handshakes ---- */

static void handshake_options(wss_options *options) {
    options->origins = "https://a.example";
    options->hosts = "localhost,localhost:7000";
    options->idle_ms = 60000;
    options->max_head = 700;
}

static void handshake_run(void) {
    const char *request = PEER_REQUEST("/room?x=1") "\r\n";
    peer *slow = dial();
    peer *pieces = dial();
    for (const char *at = request; *at && slow; at++) {
        peer_write(slow, at, 1);
        if ((at - request) % 32 == 0) settle();
    }
    write_text(pieces, PEER_REQUEST("/") "Origin: https://a.example\r\n");
    settle();
    write_text(pieces, "\r\n\x81\x83\1\2\3\4" "cmo"); /* its first message in the same packet: "bol" */
    settle();
    STAGE_TRUE(answered(slow) == 101);
    STAGE_TRUE(answered(pieces) == 101 && gather(pieces) == 1 && strcmp(stage.text, "bol") == 0);
    ask("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405);
    ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 426);
    ask("GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", 426);
    ask("GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505);
    ask("\r\nOPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 426);
    ask("GET ws://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 421);
    ask("\x16\x03\x01\x02", 400);
    ask("GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400);
    ask("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421);
    tend();
    ask(PEER_REQUEST("/") "Origin: https://evil.example\r\n\r\n", 403);
    peer *large = dial();
    for (int i = 0; i < 20; i++) write_text(large, "GET /0123456789/0123456789/0123456789/0123456789");
    settle();
    STAGE_TRUE(answered(large) == 414);
    peer *late = dial();
    write_text(late, "GET / HTTP/1.1\r\n");
    peer *gone = dial();
    peer *ended = dial();
    write_text(gone, "GET /");
    settle();
    if (gone) peer_reset(gone);
    if (ended) peer_finish(ended);
    settle();
    rest(10200);
    STAGE_TRUE(answered(late) == 408);
}

/* ---- scene: subprotocols and upgrade handlers ---- */

static void on_upgrade(const wss_event *e) {
    stage_in_handler(e);
    char text[32];
    wss_header header = {"X-Room", "7"};
    int port;
    if (wss_request_query(e->request, "how", text, sizeof text, NULL) != WSS_OK) {
        wss_accept(e->server, e->conn, NULL, NULL, 0, NULL);
        return;
    }
    SIM_TRUE(wss_request_peer(e->request, &port) != NULL, "a request without a peer");
    if (strcmp(text, "later") == 0 && stage.asked_count < 4) {
        stage.asked[stage.asked_count++] = e->conn;
    } else if (strcmp(text, "refuse") == 0) {
        wss_answer answer = {0};
        answer.status = 401;
        answer.body = "who are you";
        answer.size = 11;
        answer.headers = &header;
        answer.header_count = 1;
        if (wss_refuse(e->server, e->conn, &answer) == WSS_OK)
            SIM_TRUE(wss_accept(e->server, e->conn, NULL, NULL, 0, NULL) != WSS_OK, "answered twice");
    } else {
        char *user = (char *)malloc(8);
        int result = wss_accept(e->server, e->conn, strcmp(text, "chat") == 0 ? "chat" : NULL, &header, 1, user);
        if (result == WSS_OK) stage.given++;
        else free(user);
    }
}

static void protocol_prepare(void) {
    wss_on_upgrade(stage.server, on_upgrade, NULL);
}

#define OFFER "Sec-WebSocket-Protocol: chat, other\r\n\r\n"

static void protocol_run(void) {
    wss_info info;
    peer *chat = ask(PEER_REQUEST("/p?how=chat") OFFER, 101);
    if (chat && wss_get_info(stage.server, stage.last, &info) == WSS_OK) STAGE_TRUE(strcmp(info.protocol, "chat") == 0);
    peer *plain = ask(PEER_REQUEST("/a/rather/long/path?how=user") "\r\n", 101);
    ask(PEER_REQUEST("/?how=refuse") OFFER, 401);
    say(chat, "one");
    say(plain, "two");
    STAGE_TRUE(expect(chat, "one") && expect(plain, "two"));
    tend();
    frame(chat, 0x88, "\3\350bye", 5);
    settle();
    STAGE_TRUE(gather(chat) == -1);
    STAGE_TRUE(stage.given == 2);
    wss_conn first = {stage.by[0].id}; /* was let in without one */
    char *user = (char *)malloc(4);
    if (stage.server && wss_set_user(stage.server, first, user) == WSS_OK) stage.given++;
    else free(user);
}

/* ---- scene: answers that come later ---- */

static void later_options(wss_options *options) {
    options->handshake_ms = 3000;
}

static void answer_later(void *arg) {
    SIM_TRUE(sim.locks == 0, "a mutex is held while a posted function runs");
    stage.posts++;
    wss_accept(stage.server, stage.asked[(size_t)(intptr_t)arg], NULL, NULL, 0, NULL);
}

static void later_run(void) {
    const char *request = PEER_REQUEST("/?how=later") "\r\n";
    peer *clients[4];
    for (int i = 0; i < 4; i++) {
        clients[i] = dial();
        write_text(clients[i], request);
        say(clients[i], "early"); /* held until the answer */
        settle();
    }
    STAGE_TRUE(stage.asked_count == 4);
    if (!stage.server) return;
    if (stage.asked_count > 0) wss_post(stage.server, answer_later, (void *)(intptr_t)0); /* on the loop */
    if (stage.asked_count > 1) wss_accept(stage.server, stage.asked[1], NULL, NULL, 0, NULL); /* from elsewhere */
    tend();
    STAGE_TRUE(answered(clients[0]) == 101 && gather(clients[0]) == 1);
    STAGE_TRUE(answered(clients[1]) == 101 && gather(clients[1]) == 1);
    hang_up(clients[2]); /* leaves before the answer */
    settle();
    if (stage.asked_count > 2) wss_refuse(stage.server, stage.asked[2], NULL);
    settle();
    rest(3200);
    STAGE_TRUE(answered(clients[3]) == 503);
    if (stage.asked_count > 3) SIM_TRUE(wss_accept(stage.server, stage.asked[3], NULL, NULL, 0, NULL) != WSS_OK, "accepted too late");
}

/* ---- scene: plain HTTP ---- */

static void on_http(const wss_event *e) {
    char path[64];
    wss_answer answer = {0};
    stage_in_handler(e);
    if (wss_request_path(e->request, path, sizeof path, NULL) != WSS_OK) path[0] = 0;
    if (strcmp(path, "/later") == 0 && stage.asked_count < 4) {
        stage.asked[stage.asked_count++] = e->conn;
        return;
    }
    answer.status = strcmp(path, "/none") == 0 ? 404 : 200;
    answer.body = stage_big;
    answer.size = strcmp(path, "/big") == 0 ? STAGE_BIG : 5;
    wss_reply(e->server, e->conn, &answer);
}

static void http_prepare(void) {
    wss_on_http(stage.server, on_http, NULL);
}

static void http_options(wss_options *options) {
    sim.out_limit = 20000;
    options->close_ms = 500;
    options->stall_ms = 3000;
}

static void http_run(void) {
    ask("GET /small HTTP/1.1\r\nHost: localhost\r\n\r\nGET /next HTTP/1.1\r\n\r\n", 200);
    ask("HEAD /big HTTP/1.1\r\nHost: localhost\r\n\r\n", 200);
    ask("GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n", 404);
    peer *big = ask("GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n", 200);
    size_t total = 0;
    char part[4096];
    for (int i = 0; i < 40 && big; i++) {
        size_t got = peer_read(big, part, sizeof part);
        total += got;
        settle();
    }
    STAGE_TRUE(total == STAGE_BIG && peer_ended(big));
    peer *later = dial();
    write_text(later, "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n");
    settle();
    tend();
    wss_answer answer = {0};
    answer.body = "late";
    answer.size = 4;
    if (stage.server && stage.asked_count) wss_reply(stage.server, stage.asked[0], &answer);
    settle();
    STAGE_TRUE(answered(later) == 200);
    peer *stuck = dial(); /* never reads, never leaves */
    write_text(stuck, "GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n");
    peer *rude = dial(); /* goes on talking after the answer */
    write_text(rude, "GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for (int i = 0; i < 8 && rude; i++) {
        peer_write(rude, stage_big, 16384);
        settle();
    }
    rest(7000);
    STAGE_TRUE(stuck && peer_ended(stuck) && rude && rude->server_gone);
}

/* ---- scene: small echoes ---- */

static void on_typed(const wss_event *e) {
    int64_t number = 0;
    char name[32];
    wss_writer writer;
    stage_is_connected(e);
    wss_get_int(e->args, "n", &number);
    wss_get_string(e->args, "name", name, sizeof name, NULL);
    wss_writer_init(&writer, NULL, 0);
    wss_put_int(&writer, "n", number + 1);
    wss_put_string(&writer, "name", name);
    wss_send(e->server, e->conn, "answer", wss_writer_args(&writer));
    wss_writer_free(&writer);
}

static void echo_prepare(void) {
    wss_on_message(stage.server, "ask", on_typed, NULL);
    wss_on_message(stage.server, "other", on_typed, NULL);
}

static void echo_run(void) {
    peer *client = join();
    say(client, "first");
    say(client, "");
    frame(client, 0x82, "\0\1\2", 3);
    settle();
    STAGE_TRUE(gather(client) == 3 && stage.text_size == 3);
    say(client, "{\"__MESSAGE__\":\"ask\",\"n\":41,\"name\":\"\\u00e9\"}");
    settle();
    gather(client);
    STAGE_TRUE(strcmp(stage.text, "{\"__MESSAGE__\":\"answer\",\"n\":42,\"name\":\"\303\251\"}") == 0);
    say(client, "{\"__MESSAGE__\":\"unknown\"}");
    say(client, "{\"__MESSAGE__\":");
    frame(client, 0x82, "{\"__MESSAGE__\":\"ask\",\"x\":\"\xff\"}", 29);
    STAGE_TRUE(gather_all(client) == 3);
    tend();
    for (int i = 0; i < 40; i++) {
        char text[40];
        snprintf(text, sizeof text, "n:%d", i + 1);
        say(client, text);
        if (i % 5 == 0) settle();
    }
    STAGE_TRUE(gather_all(client) >= 32);
    peer *bad = join();
    frame(bad, 0x81, "\xc3\x28", 2);
    settle();
    STAGE_TRUE(gather(bad) == -1);
    hang_up(client);
    settle();
}

/* ---- scene: large and fragmented ---- */

static void large_options(wss_options *options) {
    options->max_message = 100000;
    sim.out_limit = 30000;
}

static void large_run(void) {
    peer *client = join();
    for (int i = 0; i < 16; i++) {
        frame(client, (i ? 0 : 2) | (i == 15 ? 0x80 : 0), stage_big + i * (STAGE_BIG / 16), STAGE_BIG / 16);
        if (i % 4 == 1) frame(client, 0x89, "ping", 4);
        if (i % 3 == 0) settle();
    }
    STAGE_TRUE(gather_all(client) == 1 && stage.text_size == STAGE_BIG);
    tend();
    char *whole = (char *)malloc(STAGE_BIG + 14);
    size_t size = peer_encode(whole, 0x82, stage_big, STAGE_BIG, 0x12345678);
    for (size_t at = 0; at < size && client; at += 9000) { /* one frame in pieces: received where it belongs */
        peer_write(client, whole + at, size - at < 9000 ? size - at : 9000);
        settle();
    }
    free(whole);
    STAGE_TRUE(gather_all(client) == 1 && stage.text_size == STAGE_BIG);
    frame(client, 0x82, stage_big, 20000); /* sent from the handler's memory */
    frame(client, 0x82, stage_big, 40000);
    STAGE_TRUE(gather_all(client) == 2);
    peer *many = join();
    for (int i = 0; i < 1025; i++) frame(many, i ? 0 : 1, "", 0);
    settle();
    STAGE_TRUE(gather(many) == -1);
    peer *huge = join();
    frame(huge, 0x82, stage_big, STAGE_BIG);
    frame(huge, 0x02, stage_big, STAGE_BIG);
    frame(huge, 0x80, stage_big, STAGE_BIG);
    for (int i = 0; i < 6; i++) {
        settle();
        gather(huge);
    }
    STAGE_TRUE(huge && peer_ended(huge));
    peer *cut = join();
    frame(cut, 0x01, "\xe2\x82", 2);
    settle();
    hang_up(cut);
    settle();
}

/* ---- scene: pings ---- */

static void ping_options(wss_options *options) {
    options->ping_ms = 1000;
    options->pong_ms = 1000;
    sim.out_limit = 600;
}

static void ping_run(void) {
    peer *client = join();
    for (int i = 0; i < 10; i++) frame(client, 0x89, stage_big, (size_t)i * 12);
    settle();
    const char *data;
    size_t size, whole;
    int pongs = 0;
    for (int tries = 0; tries < 4; tries++) {
        while (client && peer_peek(client, &data, &size, &whole) == 0x8a) {
            pongs++;
            peer_skip(client, whole);
        }
        settle();
    }
    STAGE_TRUE(pongs == 10);
    for (int i = 0; i < 60; i++) { /* nobody reads the pongs */
        frame(client, 0x89, stage_big, (size_t)(60 + i % 50));
        if (i % 6 == 0) settle();
    }
    settle();
    tend();
    for (int i = 0; i < 30; i++) {
        settle();
        gather(client);
    }
    peer *quiet = join();
    rest(1100);
    if (quiet && peer_peek(quiet, &data, &size, &whole) == 0x89) { /* answers, then falls silent */
        char echo[8];
        memcpy(echo, data, size < 8 ? size : 8);
        peer_skip(quiet, whole);
        pass(30);
        frame(quiet, 0x8a, echo, size);
        frame(quiet, 0x8a, "unasked", 7);
        settle();
        wss_info info;
        STAGE_TRUE(size == 8);
        if (wss_get_info(stage.server, stage.last, &info) == WSS_OK) STAGE_TRUE(info.round_trip_ms >= 30);
    }
    watch_over(2400);
    STAGE_TRUE(quiet && quiet->server_gone);
}

/* ---- scene: ends from either side ---- */

static void on_close_command(const wss_event *e) {
    if (!e->size || e->data[0] != '!') return;
    if (e->data[1] == 'c') {
        wss_send_data(e->server, e->conn, WSS_TEXT, "n:1", 3);
        wss_close(e->server, e->conn, 4001, "as you wish");
        wss_send_data(e->server, e->conn, WSS_TEXT, "never", 5);
    } else if (e->data[1] == 'b') {
        wss_close(e->server, e->conn, 1000, NULL);
    }
}

static void close_prepare(void) {
    wss_on_data(stage.server, on_close_command, NULL);
}

static void close_options(wss_options *options) {
    options->close_ms = 700;
}

static void close_run(void) {
    static const char *const wrong[] = {"\x81\x01x", "\xf1\x80\0\0\0\0", "\x83\x80\0\0\0\0", "\x09\x80\0\0\0\0", "\x80\x80\0\0\0\0",
                                        "\x88\x81\0\0\0\0x", "\x88\x82\0\0\0\0\x03\xed", "\x81\xfe\0\x01\0\0\0\0x"};
    static const size_t wrong_size[] = {3, 6, 6, 6, 6, 7, 8, 9};
    peer *codes = join();
    frame(codes, 0x88, "\x0f\xa0see you", 9);
    settle();
    STAGE_TRUE(gather(codes) == -1);
    hang_up(codes);
    settle();
    peer *empty = join();
    frame(empty, 0x88, "", 0);
    settle();
    STAGE_TRUE(gather(empty) == -1 && peer_ended(empty));
    peer *ours = join();
    say(ours, "!c");
    settle();
    STAGE_TRUE(gather(ours) == -1 && strcmp(stage.text, "n:1") == 0);
    frame(ours, 0x88, "\x0f\xa1", 2);
    settle();
    peer *mute = join(); /* never answers our Close */
    say(mute, "!b");
    tend();
    for (size_t i = 0; i < sizeof wrong_size / sizeof *wrong_size; i++) {
        peer *client = join();
        if (client) peer_write(client, wrong[i], wrong_size[i]);
        settle();
        STAGE_TRUE(gather(client) == -1);
        if (i % 2) hang_up(client);
    }
    peer *fin = join();
    peer *rst = join();
    peer *both = join();
    frame(fin, 0x01, "half", 4);
    settle();
    if (fin) peer_finish(fin);
    if (rst) peer_reset(rst);
    say(both, "!b");
    hang_up(both);
    settle();
    peer *elsewhere = join();
    if (stage.server && elsewhere) wss_close(stage.server, stage.last, 1011, "from outside");
    settle();
    STAGE_TRUE(gather(elsewhere) == -1);
    hang_up(elsewhere);
    rest(1200);
    STAGE_TRUE(mute && mute->server_gone && wss_count(stage.server) == 2);
}

/* ---- scene: broadcasts ---- */

static void on_broadcast_command(const wss_event *e) {
    if (e->size && e->data[0] == '!') {
        wss_broadcast(e->server, "note", wss_json("{\"a\":1}"));
        wss_broadcast_except(e->server, e->conn, "note", wss_json("{\"a\":2}"));
        wss_broadcast_data(e->server, WSS_BINARY, stage_big, 3000);
    }
}

static void broadcast_prepare(void) {
    wss_on_data(stage.server, on_broadcast_command, NULL);
}

static void broadcast_options(wss_options *options) {
    options->max_queued = 20000;
    sim.out_limit = 9000;
}

static void broadcast_run(void) {
    peer *clients[8];
    for (int i = 0; i < 8; i++) clients[i] = join();
    settle();
    if (!stage.server) return;
    wss_broadcast(stage.server, "all", wss_json("{\"text\":\"hello\"}"));
    wss_broadcast_data_except(stage.server, stage.last, WSS_TEXT, "n:1", 3);
    wss_broadcast(stage.server, "all", wss_json("{}"));
    settle();
    for (int i = 0; i < 8; i++) STAGE_TRUE(gather(clients[i]) == (i == 7 ? 2 : 3));
    say(clients[0], "!");
    settle();
    STAGE_TRUE(gather_all(clients[0]) == 2 && gather_all(clients[1]) == 3);
    tend();
    for (int i = 0; i < 9; i++) { /* nobody of the eight reads: their queues fill */
        wss_broadcast_data(stage.server, WSS_BINARY, stage_big, 3000);
        settle();
        for (int b = 0; b < 2; b++)
            if (stage.by[b].peer) read_bystander(&stage.by[b], b);
    }
    for (int i = 0; i < 10; i++) wss_broadcast_latest(stage.server, "key", "state", wss_json("{\"n\":1}"));
    settle();
    for (int b = 0; b < 2; b++)
        if (stage.by[b].peer) read_bystander(&stage.by[b], b);
    for (int i = 0; i < 4; i++) gather_all(clients[i]);
    hang_up(clients[5]);
    if (clients[6]) peer_reset(clients[6]);
    settle();
    for (int i = 0; i < 8; i++) gather_all(clients[i]);
    settle();
}

/* ---- scene: work from elsewhere ---- */

static void post_again(void *arg) {
    stage_posted(arg);
    if (stage.posts < 20) wss_post(stage.server, post_again, (void *)(intptr_t)1);
}

static void post_options(wss_options *options) {
    options->max_posted = 40;
    options->max_posted_bytes = 60000;
}

static void post_run(void) {
    peer *client = join();
    wss_conn conn = stage.last;
    wss_info info;
    wss_stats stats;
    char text[32];
    if (!stage.server) return;
    wss_post(stage.server, post_again, (void *)(intptr_t)1);
    settle();
    STAGE_TRUE(stage.posts == 20);
    for (int i = 0; i < 12; i++) {
        snprintf(text, sizeof text, "n:%d", i + 1);
        wss_send_data(stage.server, conn, WSS_TEXT, text, strlen(text));
    }
    wss_send(stage.server, conn, "typed", wss_json("{\"x\":[1,2]}"));
    wss_send_latest(stage.server, conn, "k", "typed", wss_json("{}"));
    wss_send_latest(stage.server, conn, "k", "typed", wss_json("{}"));
    settle();
    STAGE_TRUE(gather(client) == 14 || gather(client) == 0);
    STAGE_TRUE(wss_send_data(stage.server, conn, WSS_TEXT, "\xff", 1) == WSS_ERR_UTF8);
    STAGE_TRUE(wss_send(stage.server, conn, "t", wss_json("[1]")) == WSS_ERR_JSON);
    int full = 0;
    for (int i = 0; i < 60; i++) full += wss_post(stage.server, stage_posted, (void *)(intptr_t)1) == WSS_ERR_QUEUE_FULL;
    STAGE_TRUE(full == 20);
    settle();
    for (int i = 0; i < 6; i++) wss_send_data(stage.server, conn, WSS_BINARY, stage_big, 15000);
    settle();
    gather_all(client);
    tend();
    wss_pause(stage.server, conn);
    settle();
    say(client, "held");
    settle();
    STAGE_TRUE(gather(client) == 0);
    wss_resume(stage.server, conn);
    STAGE_TRUE(expect(client, "held"));
    int seen = 0;
    for (wss_conn at = wss_next(stage.server, (wss_conn){0}); at.id; at = wss_next(stage.server, at)) seen++;
    STAGE_TRUE(seen == 3);
    wss_get_info(stage.server, conn, &info);
    wss_get_stats(stage.server, &stats);
    STAGE_TRUE(stats.connections == 3 && stats.memory == sim.account.charged);
    STAGE_TRUE(wss_buffered(stage.server, conn) == 0);
    hang_up(client);
    settle();
    STAGE_TRUE(wss_send_data(stage.server, conn, WSS_TEXT, "x", 1) == WSS_ERR_GONE);
    STAGE_TRUE(wss_pause(stage.server, conn) == WSS_ERR_GONE && wss_close(stage.server, conn, 1000, NULL) == WSS_ERR_GONE);
}

/* ---- scene: full queues, keys ---- */

static void full_options(wss_options *options) {
    options->max_queued = 4000;
    options->stall_ms = 60000;
    sim.out_limit = 1500;
}

static void on_burst(const wss_event *e) {
    char text[400];
    if (!e->size || e->data[0] != '!') return;
    memset(text, 'x', sizeof text);
    for (int i = 0; i < 30; i++) {
        int length = snprintf(text, sizeof text, "n:%d ", i + 1);
        text[length] = 'x';
        wss_send_data(e->server, e->conn, WSS_TEXT, text, sizeof text);
    }
    for (int i = 0; i < 3; i++) wss_send_latest(e->server, e->conn, i == 1 ? "a" : "b", "state", wss_json("{\"v\":1}"));
}

static void burst_prepare(void) {
    wss_on_data(stage.server, on_burst, NULL);
}

static void full_run(void) {
    peer *client = join();
    wss_conn conn = stage.last;
    wss_stats stats;
    say(client, "!");
    settle();
    if (!stage.server) return;
    wss_get_stats(stage.server, &stats);
    STAGE_TRUE(stats.refused_full > 10 && wss_buffered(stage.server, conn) < 4000 + 470 + 2 * 160);
    tend();
    int got = gather_all(client);
    STAGE_TRUE(got >= 10 && got < 30);
    for (int i = 0; i < 20; i++) {
        wss_send_data(stage.server, conn, WSS_BINARY, stage_big, 500);
        wss_send_latest(stage.server, conn, "key", "state", wss_json("{\"v\":2}"));
    }
    settle();
    gather_all(client);
    for (int i = 0; i < 12; i++) wss_broadcast_latest(stage.server, "key", "state", wss_json("{\"v\":3}"));
    wss_broadcast_data(stage.server, WSS_BINARY, stage_big, 3000);
    settle();
    for (int b = 0; b < 2; b++)
        if (stage.by[b].peer) read_bystander(&stage.by[b], b);
    tend();
    gather_all(client);
    hang_up(client);
    settle();
}

static void on_drain(const wss_event *e) {
    stage_is_connected(e);
    stage.drained++;
    wss_send_data(e->server, e->conn, WSS_TEXT, "drained", 7);
}

static void slow_options(wss_options *options) {
    options->max_queued = 3000;
    options->stall_ms = 900;
    sim.out_limit = 1000;
}

static void slow_prepare(void) {
    wss_on_drain(stage.server, on_drain, NULL);
    wss_on_data(stage.server, on_burst, NULL);
}

static void slow_run(void) {
    peer *client = join();
    wss_conn conn = stage.last;
    say(client, "!");
    settle();
    say(client, "more"); /* not read while the queue is above half */
    settle();
    tend();
    if (!stage.server) return;
    int full = 0;
    for (int i = 0; i < 10; i++) full += wss_send_data(stage.server, conn, WSS_BINARY, stage_big, 700) == WSS_ERR_FULL;
    STAGE_TRUE(full > 0);
    gather_all(client);
    STAGE_TRUE(stage.drained >= 1);
    wss_send_data(stage.server, conn, WSS_BINARY, stage_big, 2900);
    settle();
    rest(500);
    STAGE_TRUE(client && !client->server_gone);
    rest(700);
    STAGE_TRUE(client && client->server_gone);
    tend();
}

static void policy_options(wss_options *options) {
    options->send_policy = WSS_POLICY_CLOSE;
    options->max_queued = 3000;
    options->close_ms = 800;
    options->stall_ms = 900;
    sim.out_limit = 1000;
}

static void policy_run(void) {
    peer *inside = join();
    say(inside, "!");
    settle();
    peer *outside = join();
    wss_conn conn = stage.last;
    if (!stage.server) return;
    for (int i = 0; i < 8; i++) wss_send_data(stage.server, conn, WSS_BINARY, stage_big, 800);
    settle();
    for (int i = 0; i < 8; i++) {
        wss_send_data(stage.server, conn, WSS_BINARY, stage_big, 800);
        settle();
    }
    tend();
    gather_all(outside);
    for (int i = 0; i < 17; i++) { /* the time in which who takes nothing is cut, too */
        if (i < 7) wss_broadcast_data(stage.server, WSS_BINARY, stage_big, 700);
        pass(110); /* so that a send that found no memory is tried again */
        for (int b = 0; b < 2; b++)
            if (stage.by[b].peer) read_bystander(&stage.by[b], b);
    }
    STAGE_TRUE(inside && inside->server_gone && outside && outside->server_gone);
}

/* ---- scene: handlers on a queue ---- */

static void queue_options(wss_options *options) {
    options->queue = (wss_queue *)(void *)options; /* made by make_server */
    options->max_queued = 4000;
    sim.out_limit = 2000;
}

static void on_ring(const wss_event *e) {
    stage_in_handler(e);
    stage.drained += 100;
}

static void queue_prepare(void) {
    wss_on_upgrade(stage.server, on_upgrade, NULL);
    wss_on_http(stage.server, on_http, NULL);
    wss_on_drain(stage.server, on_drain, NULL);
    wss_on_message(stage.server, "ask", on_typed, NULL);
    wss_on_data(stage.server, on_burst, NULL);
}

static void queue_run(void) {
    if (!stage.server) return;
    wss_timer once = wss_timer_start(stage.server, 5, 0, on_ring, NULL);
    wss_timer again = wss_timer_start(stage.server, 10, 10, on_ring, NULL);
    peer *client = ask(PEER_REQUEST("/?how=chat") OFFER, 101);
    wss_conn conn = stage.last;
    for (int i = 0; i < 6; i++) say(client, "{\"__MESSAGE__\":\"ask\",\"n\":1}");
    settle();
    STAGE_TRUE(gather_all(client) == 12);
    ask("GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n", 200);
    tend();
    say(client, "!");
    settle();
    for (int i = 0; i < 4; i++) frame(client, 0x82, stage_big, 1500); /* events that wait for their thread */
    settle();
    gather_all(client);
    STAGE_TRUE(stage.drained % 100 >= 1);
    pass(12);
    pass(25);
    STAGE_TRUE(stage.drained >= 300);
    STAGE_TRUE(wss_timer_cancel(stage.server, again) == WSS_OK && wss_timer_cancel(stage.server, once) == WSS_ERR_GONE);
    wss_timer_cancel(stage.server, again);
    wss_queue_post(stage.queue, stage_posted, (void *)(intptr_t)1);
    settle();
    STAGE_TRUE(stage.posts == 1);
    wss_queue_stop(stage.queue);
    wss_queue_post(stage.queue, stage_posted, (void *)(intptr_t)1);
    wss_queue_poll(stage.queue, 0);
    wss_queue_poll(stage.queue, 0);
    peer *other = ask(PEER_REQUEST("/?how=refuse") "\r\n", 401);
    (void)other;
    wss_close(stage.server, conn, 4000, "done");
    settle();
    gather_all(client);
    peer *leaves = ask(PEER_REQUEST("/?how=user") "\r\n", 101);
    frame(leaves, 0x82, stage_big, 3000);
    hang_up(leaves);
    settle();
}

/* ---- scene: timers and deadlines ---- */

static void on_timer(const wss_event *e) {
    stage_in_handler(e);
    stage.drained++;
    if (e->context == &stage && stage.drained < 5)
        stage.timer = wss_timer_start(e->server, 40, 0, on_timer, &stage);
    if (stage.drained == 6) wss_timer_cancel(e->server, stage.timer);
}

static void deadline_options(wss_options *options) {
    options->handshake_ms = 900;
    options->idle_ms = 2500;
    options->message_ms = 1000;
    options->ping_ms = WSS_OFF;
    options->log_level = WSS_LOG_INFO;
}

static void deadline_run(void) {
    if (!stage.server) return;
    wss_timer_start(stage.server, 30, 0, on_timer, &stage);
    wss_timer every = wss_timer_start(stage.server, 0, 50, on_timer, NULL);
    wss_timer never = wss_timer_start(stage.server, 100000, 0, on_timer, NULL);
    wss_timer far = wss_timer_start(stage.server, (int64_t)3 << 30, 0, on_timer, NULL);
    peer *silent = dial();
    peer *half = join();
    peer *idle = join();
    frame(half, 0x01, "begun", 5);
    settle();
    pass(35);
    pass(45);
    pass(60);
    pass(300);
    tend();
    STAGE_TRUE(stage.drained >= 6);
    wss_timer_cancel(stage.server, every);
    wss_timer_cancel(stage.server, never);
    rest(700);
    STAGE_TRUE(answered(silent) == 408);
    rest(300);
    STAGE_TRUE(gather(half) == -1);
    tend();
    rest(1000);
    tend();
    STAGE_TRUE(idle && !peer_ended(idle));
    rest(600);
    STAGE_TRUE(gather(idle) == -1);
    tend();
    wss_timer_cancel(stage.server, far);
    settle();
}

/* ---- scene: limits of connections ---- */

static void limit_options(wss_options *options) {
    options->max_connections = 5;
    options->max_per_address = 4;
    options->ping_ms = WSS_OFF;
}

static void limit_run(void) {
    peer *waiting[5];
    for (int i = 0; i < 5; i++) {
        waiting[i] = dial();
        if (waiting[i]) snprintf(waiting[i]->address, sizeof waiting[i]->address, "2001:db8::%d", i);
    }
    settle();
    STAGE_TRUE(stage.server && stage.server->loops[0].connections == 5);
    for (int i = 0; i < 3; i++) hang_up(waiting[i]);
    settle();
    STAGE_TRUE(stage.server && stage.server->loops[0].connections == 4);
    for (int i = 0; i < 5; i++) hang_up(waiting[i]);
    settle();
    tend();
    peer *same[3];
    for (int i = 0; i < 3; i++) {
        same[i] = dial();
        write_text(same[i], PEER_REQUEST("/") "\r\n");
        settle();
    }
    STAGE_TRUE(answered(same[0]) == 101 && answered(same[1]) == 101 && same[2] && peer_ended(same[2]));
    if (!stage.server) return;
    int before = sim.max_open;
    sim.max_open = sim.open; /* no descriptor is left: the client waits in the backlog */
    peer *late = dial();
    if (late) snprintf(late->address, sizeof late->address, "::ffff:192.0.2.9");
    write_text(late, PEER_REQUEST("/") "\r\n");
    settle();
    rest(150);
    tend();
    STAGE_TRUE(late && late->fd < 0);
    sim.max_open = before;
    rest(1050);
    STAGE_TRUE(answered(late) == 101);
    wss_stats stats;
    wss_get_stats(stage.server, &stats);
    STAGE_TRUE(stats.accept_failures >= 1 && stats.accept_failures <= 4);
}

/* ---- scene: stop ---- */

static void stop_options(wss_options *options) {
    options->close_ms = 400;
    options->max_queued = 3000;
    sim.out_limit = 1200;
}

static void stop_prepare(void) {
    wss_on_upgrade(stage.server, on_upgrade, NULL);
    wss_on_data(stage.server, on_burst, NULL);
}

static void stop_run(void) {
    peer *open = join();
    peer *slow = join();
    peer *half = dial();
    peer *fresh = dial();
    peer *later = dial();
    peer *ending = join();
    say(slow, "!");
    write_text(half, "GET / HT");
    write_text(later, PEER_REQUEST("/?how=later") "\r\n");
    settle();
    tend();
    if (!stage.server || stage.stopped) return;
    wss_timer_start(stage.server, 10, 10, on_ring, NULL);
    wss_close(stage.server, stage.last, 1000, NULL);
    wss_post(stage.server, stage_posted, (void *)(intptr_t)1);
    wss_stop(stage.server, 1000);
    wss_stop(stage.server, 5);
    SIM_TRUE(wss_post(stage.server, stage_posted, (void *)(intptr_t)1) != WSS_OK, "posted after a stop");
    SIM_TRUE(wss_send(stage.server, stage.last, "t", wss_json("{}")) != WSS_OK, "sent after a stop");
    for (int i = 0; i < 2; i++)
        if (stage.by[i].peer) stage.by[i].closed = 1;
    settle();
    STAGE_TRUE(gather(open) == -1 && stage.posts == 1);
    STAGE_TRUE(answered(half) == 503 && answered(later) == 503);
    STAGE_TRUE(fresh && answered(fresh) == 503 && peer_connect(stage.options.port) == NULL);
    hang_up(ending);
    frame(open, 0x88, "\3\351", 2);
    settle();
    for (int i = 0; i < 40 && !stage.stopped; i++) rest(50);
    SIM_TRUE(stage.stopped, "a stop does not end");
}

/* ---- scene: two loops ---- */

static void loops_options(wss_options *options) {
    options->threads = 2;
    options->max_queued = 8000;
    sim.out_limit = 4000;
}

static void loops_run(void) {
    peer *clients[6];
    for (int i = 0; i < 6; i++) clients[i] = join();
    if (!stage.server) return;
    STAGE_TRUE(stage.server && stage.server->loops[0].connections == 4 && stage.server->loops[1].connections == 4);
    for (int i = 0; i < 6; i++) say(clients[i], "echo");
    settle();
    for (int i = 0; i < 6; i++) STAGE_TRUE(gather(clients[i]) == 1);
    say(clients[0], "!"); /* a broadcast from one loop to the other */
    settle();
    for (int i = 1; i < 6; i++) STAGE_TRUE(gather_all(clients[i]) == 3);
    tend();
    wss_broadcast(stage.server, "all", wss_json("{}"));
    wss_conn conn = stage.last;
    for (int i = 0; i < 12; i++) wss_send_data(stage.server, conn, WSS_BINARY, stage_big, 900);
    wss_pause(stage.server, conn);
    settle();
    wss_resume(stage.server, conn);
    wss_close(stage.server, conn, 1000, "enough");
    settle();
    for (int i = 0; i < 6; i++) gather_all(clients[i]);
    for (int i = 0; i < 3; i++) hang_up(clients[i]);
    settle();
    tend();
}

static const scene scenes[] = {
    {"create and listen", create_options, NULL, create_run, 1, 0},
    {"default addresses", any_options, NULL, any_run, 1, 0},
    {"handshakes", handshake_options, NULL, handshake_run, 0, 0},
    {"subprotocols", NULL, protocol_prepare, protocol_run, 0, 0},
    {"answers later", later_options, protocol_prepare, later_run, 0, 0},
    {"http", http_options, http_prepare, http_run, 0, 0},
    {"small echoes", NULL, echo_prepare, echo_run, 0, 0},
    {"large echoes", large_options, NULL, large_run, 0, 0},
    {"pings", ping_options, NULL, ping_run, 0, 0},
    {"ends", close_options, close_prepare, close_run, 0, 0},
    {"broadcasts", broadcast_options, broadcast_prepare, broadcast_run, 0, 1},
    {"posts", post_options, NULL, post_run, 0, 0},
    {"full queue, keys", full_options, burst_prepare, full_run, 0, 1},
    {"slow reader", slow_options, slow_prepare, slow_run, 0, 0},
    {"close the slow", policy_options, burst_prepare, policy_run, 0, 0},
    {"queue", queue_options, queue_prepare, queue_run, 0, 0},
    {"deadlines", deadline_options, NULL, deadline_run, 0, 0},
    {"limits", limit_options, NULL, limit_run, 0, 0},
    {"stop", stop_options, stop_prepare, stop_run, 0, 0},
    {"two loops", loops_options, broadcast_prepare, loops_run, 0, 1},
};

enum { SCENES = sizeof scenes / sizeof *scenes };

#endif
