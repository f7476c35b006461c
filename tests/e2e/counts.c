/* Whatever becomes of a connection, each message that was accepted for it is counted once: it has left whole, or was replaced by
   a newer one of its key, or died. Random schedules on a kernel that takes as much as the dice say; what it took is taken apart
   here. And what is accepted is judged by one unit, wherever it waits. */
#define _GNU_SOURCE 1
#include <sys/socket.h>
#include <sys/uio.h>

#include "../step.h"

enum { FDS = 1024, MOST = 8, LARGE = 60000 };

/* What the kernel takes of the server's sends: bytes, -1 all. */
static long room = -1;

/* Of each socket: the stream taken apart, and the messages that have left whole. */
typedef struct stream {
    int open;      /* its 101 has left */
    unsigned char head[14];
    size_t head_size;
    uint64_t left; /* bytes of a frame to come */
    int opcode;
    char tail[4];  /* of the answer */
} stream;

static stream streams[FDS];
static uint64_t whole;

static void take_byte(stream *s, unsigned char byte) {
    if (!s->open) {
        memmove(s->tail, s->tail + 1, 3);
        s->tail[3] = (char)byte;
        s->open = memcmp(s->tail, "\r\n\r\n", 4) == 0;
        return;
    }
    if (s->left) {
        if (--s->left == 0) whole += s->opcode < 8;
        return;
    }
    s->head[s->head_size++] = byte;
    if (s->head_size < 2) return;
    size_t more = s->head[1] == 126 ? 2 : s->head[1] == 127 ? 8 : 0;
    if (s->head_size < 2 + more) return;
    s->opcode = s->head[0] & 15;
    s->left = more ? 0 : s->head[1];
    for (size_t i = 0; i < more; i++) s->left = s->left << 8 | s->head[2 + i];
    s->head_size = 0;
    if (!s->left) whole += s->opcode < 8;
}

static ssize_t fake_sendmsg(int fd, const struct msghdr *message, int flags) {
    static char bytes[1 << 20];
    size_t size = 0;
    for (size_t i = 0; i < (size_t)message->msg_iovlen; i++) {
        size_t part = message->msg_iov[i].iov_len;
        if (part > sizeof bytes - size) part = sizeof bytes - size;
        memcpy(bytes + size, message->msg_iov[i].iov_base, part);
        size += part;
    }
    if (room >= 0 && size > (size_t)room) size = (size_t)room;
    if (!size) {
        errno = EAGAIN;
        return -1;
    }
    ssize_t sent = send(fd, bytes, size, flags);
    for (ssize_t i = 0; i < sent; i++) take_byte(&streams[fd], (unsigned char)bytes[i]);
    if (sent > 0 && room >= 0) room -= sent;
    return sent;
}

static ssize_t fake_send(int fd, const void *data, size_t size, int flags) {
    struct iovec part = {(void *)(uintptr_t)data, size};
    struct msghdr message = {0};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    return fake_sendmsg(fd, &message, flags);
}

static int fake_close(int fd) {
    if (fd >= 0 && fd < FDS) memset(&streams[fd], 0, sizeof streams[fd]);
    return close(fd);
}

REPLACE(send, fake_send)
REPLACE(sendmsg, fake_sendmsg)
REPLACE(close, fake_close)

static uint64_t seed;

static unsigned dice(unsigned sides) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((seed >> 33) % sides);
}

static wss_server *server;
static wss_conn conns[MOST]; /* the newest of each */
static step_client *clients[MOST];
static uint64_t accepted, refused;
static char text[LARGE];

/* All that a broadcast is for now. */
static uint64_t receivers(uint64_t except) {
    uint64_t count = 0;
    wss__conn *conn;
    wss__loop *loop = &server->loops[0];
    for (uint32_t at = loop->lists[WSS__LIST_OPEN].first; (conn = wss__conn_walk(loop, &at)) != NULL;)
        count += wss__session_is_receiver(&conn->session) && wss__conn_handle(conn).id != except;
    return count;
}

static size_t some_size(void) {
    static const unsigned most[] = {4, 200, 3000, 20000, LARGE};
    return dice(most[dice(5)]);
}

static void send_one(wss_conn to) {
    char key[2] = {(char)('a' + dice(6)), 0};
    int result = dice(4) ? wss_send_data(server, to, WSS_BINARY, text, some_size())
                         : wss_send_latest(server, to, key, "t", wss_json("{}"));
    accepted += result == WSS_OK;
    refused += result == WSS_ERR_FULL;
}

static void cast_one(void) {
    char key[2] = {(char)('a' + dice(6)), 0};
    wss_conn except = {0};
    int kind = (int)dice(5);
    if (kind == 1) except = conns[dice(MOST)];
    uint64_t all = receivers(except.id);
    int result = kind == 0 ? wss_broadcast_latest(server, key, "t", wss_json("{}"))
                 : kind == 1 ? wss_broadcast_data_except(server, except, WSS_BINARY, text, some_size())
                             : wss_broadcast_data(server, WSS_BINARY, text, dice(2) ? some_size() : dice(60));
    if (result == WSS_OK) accepted += all;
}

static void act(const wss_event *e) {
    for (unsigned i = dice(3) ? dice(4) : dice(60); i > 0; i--) {
        unsigned what = dice(20);
        if (what < 10) send_one(e->conn);
        else if (what < 14) send_one(conns[dice(MOST)]);
        else if (what < 19) cast_one();
        else if (dice(12) == 0) wss_close(server, conns[dice(MOST)], 4000, "enough");
    }
}

static void on_open(const wss_event *e) {
    for (int i = 0; i < MOST; i++)
        if (!wss__conn_find(server, conns[i])) {
            conns[i] = e->conn;
            break;
        }
    if (dice(3) == 0) act(e);
}

static void on_close(const wss_event *e) {
    if (dice(3) == 0) cast_one();
    (void)e;
}

static void turn(int last) {
    static const long rooms[] = {-1, 0, 0, 3, 500, 5000, 70000};
    room = last ? -1 : rooms[dice(7)];
    if (room > 0) room = (long)dice((unsigned)room) + 1;
    wss__loop_turn(&server->loops[0], 0);
    wss__conn *conn;
    wss__loop *loop = &server->loops[0];
    for (int list = 0; list < WSS__LIST_COUNT; list++)
        for (uint32_t at = loop->lists[list].first; (conn = wss__conn_walk(loop, &at)) != NULL;)
            if (last || dice(3) == 0) wss__serve_on_deadline(loop, conn); /* the kernel has room again */
}

/* It says something, its Close behind that perhaps, or is gone. */
static void peer(int i) {
    static const char close_payload[2] = {3, (char)0xe8};
    step_client *c = clients[i];
    char frames[400];
    size_t size = 0;
    if (!c || c->fd < 0) return;
    for (unsigned n = dice(4); n > 0; n--) size += step_make_frame(frames + size, 0x82, "message", 7);
    unsigned how = dice(24);
    if (how == 0) size += step_make_frame(frames + size, 0x88, close_payload, 2);
    if (size) send(c->fd, frames, size, MSG_NOSIGNAL);
    c->size = 0;
    if (how < 12) step_receive(c);
    c->size = 0;
    struct linger reset = {1, 0};
    if (how == 1) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (how == 2) shutdown(c->fd, SHUT_WR);
    if (how > 1 || (how == 0 && dice(2))) return;
    close(c->fd);
    c->fd = -1;
}

static void a_schedule(int number) {
    wss_options options = {0};
    wss_stats stats;
    seed = (uint64_t)number * 77 + 5;
    static const size_t limits[] = {1000, 20000, 200000, 1 << 20};
    options.max_queued = limits[dice(4)];
    options.send_policy = dice(2) ? WSS_POLICY_CLOSE : WSS_POLICY_REFUSE;
    options.stall_ms = options.least_rate = options.ping_ms = WSS_OFF;
    memset(streams, 0, sizeof streams);
    memset(conns, 0, sizeof conns);
    memset(clients, 0, sizeof clients);
    accepted = refused = whole = 0;
    server = step_server(&options);
    wss_on_connect(server, on_open, NULL);
    wss_on_data(server, act, NULL);
    wss_on_disconnect(server, on_close, NULL);
    for (int step = 0; step < 150; step++) {
        int i = (int)dice(MOST);
        if (clients[i] && clients[i]->fd < 0) {
            step_free(clients[i]);
            clients[i] = NULL;
        }
        if (!clients[i]) {
            static const char request[] = "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n";
            clients[i] = step_connect(server);
            send(clients[i]->fd, request, sizeof request - 1, MSG_NOSIGNAL);
        }
        peer((int)dice(MOST));
        if (dice(4) == 0) send_one(conns[dice(MOST)]); /* as from another thread */
        turn(0);
    }
    for (int i = 0; i < MOST; i++) {
        if (clients[i]) step_free(clients[i]);
        clients[i] = NULL;
    }
    for (int i = 0; i < 100 && (i < 10 || server->loops[0].connections); i++) {
        step_now += 1000;
        turn(1);
    }
    CHECK_INT(server->loops[0].connections, 0);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.connections, 0);
    CHECK_INT(whole + stats.dropped_policy + stats.dropped_gone + stats.refused_full, accepted + refused);
    if (test_broken)
        printf("schedule %d: accepted %llu, whole %llu, replaced %llu, gone %llu, refused %llu of %llu\n", number,
               (unsigned long long)accepted, (unsigned long long)whole, (unsigned long long)stats.dropped_policy,
               (unsigned long long)stats.dropped_gone, (unsigned long long)refused, (unsigned long long)stats.refused_full);
    step_end(server);
}

static void every_message_is_counted_once(void) {
    for (int i = 0; i < 80 && !test_broken; i++) a_schedule(i);
}

/* ---- one unit ---- */

static long sent_ok;
static size_t said;

static void on_flood(const wss_event *e) {
    size_t before = 0;
    while (wss_send_data(e->server, e->conn, WSS_BINARY, "a", 1) == WSS_OK) {
        sent_ok++;
        said = wss_buffered(e->server, e->conn);
        CHECK(said > before && said >= (size_t)sent_ok * 64);
        before = said;
    }
}

/* What a handler sends to its own connection is gathered, and judged as if it were queued: 64 bytes a message at least. */
static void what_is_gathered_is_judged(void) {
    static const size_t limits[] = {1000, 65536, 1 << 20};
    for (size_t i = 0; i < 3; i++) {
        wss_options options = {0};
        wss_stats stats;
        options.max_queued = limits[i];
        server = step_server(&options);
        wss_on_data(server, on_flood, NULL);
        sent_ok = 0;
        room = -1;
        step_client *client = step_open(server);
        room = 0;
        step_frame(server, client, 0x82, "go", 2);
        wss_get_stats(server, &stats);
        CHECK(sent_ok > 0 && sent_ok <= (long)(limits[i] / 64) + 1);
        CHECK(said < limits[i] + 128);
        CHECK_INT(stats.refused_full, 1);
        struct linger reset = {1, 0};
        setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        step_free(client);
        room = -1; /* it is the kernel that says no from now on */
        step(server);
        wss_get_stats(server, &stats);
        CHECK_INT(stats.dropped_gone, sent_ok);
        step_end(server);
    }
}

static void on_cast(const wss_event *e) {
    for (int i = 0; i < 200; i++) CHECK_INT(wss_broadcast_data(e->server, WSS_BINARY, text, 300), WSS_OK);
}

static wss_conn newest;

static void on_newest(const wss_event *e) {
    newest = e->conn;
}

/* The broadcasts of a turn stand together, but are admitted one by one: the limit is passed by one of them at most. */
static void broadcasts_of_a_turn_and_the_limit(void) {
    static const size_t limits[] = {1000, 20000, 100000};
    for (size_t i = 0; i < 3; i++) {
        for (int begun = 0; begun < 2; begun++) {
            wss_options options = {0};
            wss_stats stats;
            options.max_queued = limits[i];
            server = step_server(&options);
            wss_on_data(server, on_cast, NULL);
            wss_on_connect(server, on_newest, NULL);
            room = -1;
            step_client *client = step_open(server);
            memset(streams, 0, sizeof streams);
            wss__conn *conn = wss__conn_find(server, newest);
            streams[conn->fd].open = 1;
            whole = 0;
            room = begun ? 1000 : 0;
            step_frame(server, client, 0x82, "go", 2);
            wss_get_stats(server, &stats);
            CHECK_INT(whole, begun ? 3 : 0);
            CHECK(wss_buffered(server, newest) < limits[i] + 400);
            CHECK_INT(stats.messages_out + stats.refused_full, 200);
            CHECK_INT(stats.refused_full > 0, limits[i] < 100000);
            step_free(client);
            room = -1;
            step(server);
            wss_get_stats(server, &stats);
            CHECK_INT(whole + stats.dropped_gone + stats.refused_full, 200);
            step_end(server);
        }
    }
}

/* What was broadcast before the peer's Close was read comes before the answer to it. */
static void the_answer_to_a_close_is_last(void) {
    static const char close_payload[2] = {3, (char)0xe8};
    wss_options options = {0};
    char frames[100], payload[400];
    size_t size = 0;
    room = -1;
    server = step_server(&options);
    wss_on_data(server, on_cast, NULL);
    step_client *client = step_open(server);
    size += step_make_frame(frames, 0x82, "go", 2);
    size += step_make_frame(frames + size, 0x88, close_payload, 2);
    step_write(server, client, frames, size);
    for (int i = 0; i < 200; i++) {
        size_t got = 0;
        CHECK_INT(step_take(server, client, payload, &got), 0x82);
        CHECK_INT(got, 300);
    }
    CHECK_INT(step_take(server, client, payload, &size), 0x88);
    step_free(client);
    step_end(server);
}

int main(void) {
    alarm(200);
    RUN(every_message_is_counted_once);
    RUN(what_is_gathered_is_judged);
    RUN(broadcasts_of_a_turn_and_the_limit);
    RUN(the_answer_to_a_close_is_last);
    return test_end("counts");
}
