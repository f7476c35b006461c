/* Unit tests of [write]: what handlers send in one turn, small and large, typed and keyed, to themselves and to others: it
   arrives whole and in order, however it was gathered, whatever the kernel takes at once. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <sys/socket.h>

/* How the kernel takes what is sent in several parts: as it does, or once as a test wants. */
enum { SEND_AS_IS, SEND_FAILS, SEND_SOME };
static int send_mode;
static int send_error;
static size_t send_most;
static int sends; /* calls, however many parts */

static ssize_t fake_sendmsg(int fd, const struct msghdr *message, int flags) {
    int mode = send_mode;
    sends++;
    send_mode = SEND_AS_IS;
    if (mode == SEND_AS_IS) return sendmsg(fd, message, flags);
    errno = send_error;
    if (mode == SEND_FAILS) return -1;
    size_t done = 0;
    for (size_t i = 0; i < (size_t)message->msg_iovlen && done < send_most; i++) {
        size_t part = message->msg_iov[i].iov_len;
        if (part > send_most - done) part = send_most - done;
        if (part && send(fd, message->msg_iov[i].iov_base, part, flags) != (ssize_t)part) return -1;
        done += part;
    }
    return (ssize_t)done;
}

/* One part: like several. */
static ssize_t fake_send(int fd, const void *data, size_t size, int flags) {
    int mode = send_mode;
    sends++;
    send_mode = SEND_AS_IS;
    errno = send_error;
    if (mode == SEND_FAILS) return -1;
    return send(fd, data, mode == SEND_SOME && size > send_most ? send_most : size, flags);
}

#include "../step.h"

REPLACE(sendmsg, fake_sendmsg)
REPLACE(send, fake_send)

#include "../script.h"

enum { CONNS = 4 };

static wss_conn conns[CONNS];
static int connects;
static int drains;

static void on_connect(const wss_event *e) {
    if (connects < CONNS) conns[connects] = e->conn;
    connects++;
}

static void on_drain(const wss_event *e) {
    (void)e;
    drains++;
}

/* ---- a client that takes frames of any size ---- */

typedef struct reader {
    step_client *client;
    script bytes;
    size_t at;
    int next; /* number that the next numbered message should have */
} reader;

static reader open_reader(wss_server *server) {
    reader r;
    memset(&r, 0, sizeof r);
    r.client = step_open(server);
    return r;
}

static void close_reader(reader *r) {
    step_free(r->client);
    script_free(&r->bytes);
}

/* Reads until nothing comes any more. */
static void read_all(wss_server *server, reader *r) {
    static char block[1 << 16];
    script_bytes(&r->bytes, r->client->data, r->client->size);
    r->client->size = 0;
    for (int quiet = 0; quiet < 3; quiet++) {
        ssize_t got;
        while ((got = recv(r->client->fd, block, sizeof block, 0)) > 0) {
            script_bytes(&r->bytes, block, (size_t)got);
            quiet = 0;
        }
        step(server);
    }
}

/* The next frame's first byte; -1 where there is none. */
static int next_frame(reader *r, const char **payload, size_t *size) {
    const unsigned char *head = (const unsigned char *)r->bytes.data + r->at;
    size_t have = r->bytes.size - r->at;
    if (have < 2) return -1;
    size_t extra = head[1] < 126 ? 0 : head[1] == 126 ? 2 : 8;
    if (have < 2 + extra) return -1;
    uint64_t length = extra ? 0 : head[1];
    for (size_t i = 0; i < extra; i++) length = length << 8 | head[2 + i];
    if (have - 2 - extra < length) return -1;
    *payload = (const char *)head + 2 + extra;
    *size = (size_t)length;
    r->at += 2 + extra + (size_t)length;
    return head[0];
}

/* ---- numbered messages: 8 digits, then the digits' sum over and over ---- */

static const char *message_of(int number, size_t size) {
    static char text[1 << 20];
    char digits[16];
    snprintf(digits, sizeof digits, "%08d", number);
    memset(text, 'a' + number % 26, size);
    memcpy(text, digits, size < 8 ? size : 8);
    return text;
}

static void check_message(reader *r, size_t size) {
    const char *payload = "";
    size_t got = 0;
    CHECK_INT(next_frame(r, &payload, &got), 0x82);
    CHECK_INT(got, size);
    if (got == size) CHECK(memcmp(payload, message_of(r->next, size), size) == 0);
    r->next++;
}

/* What the handler sends when a message comes. */
typedef struct plan {
    const size_t *sizes;
    int count;
    int rounds;   /* over the sizes */
    int others;   /* each message goes to every connection instead of the one that asked */
    int accepted; /* sends that returned WSS_OK */
    int refused;
} plan;

static plan todo;

static void on_data(const wss_event *e) {
    for (int i = 0; i < todo.count * todo.rounds; i++) {
        size_t size = todo.sizes[i % todo.count];
        for (int c = 0; c < (todo.others ? connects : 1); c++) {
            wss_conn to = todo.others ? conns[c] : e->conn;
            int result = wss_send_data(e->server, to, WSS_BINARY, message_of(i, size), size);
            if (result == WSS_OK) todo.accepted++;
            else todo.refused++;
        }
    }
}

static wss_server *serve(wss_options *options) {
    connects = 0;
    drains = 0;
    wss_server *server = step_server(options);
    wss_on_connect(server, on_connect, NULL);
    wss_on_drain(server, on_drain, NULL);
    return server;
}

static void plan_sizes(const size_t *sizes, int count, int rounds) {
    memset(&todo, 0, sizeof todo);
    todo.sizes = sizes;
    todo.count = count;
    todo.rounds = rounds;
}

/* One message in, the planned ones out. */
static void check_plan(wss_options *options, const size_t *sizes, int count, int rounds) {
    wss_server *server = serve(options);
    wss_on_data(server, on_data, NULL);
    reader r = open_reader(server);
    plan_sizes(sizes, count, rounds);
    step_frame(server, r.client, 0x81, "go", 2);
    CHECK_INT(todo.accepted, count * rounds);
    read_all(server, &r);
    for (int i = 0; i < count * rounds; i++) check_message(&r, sizes[i % count]);
    CHECK_INT(r.at, r.bytes.size);
    CHECK_INT(wss_buffered(server, conns[0]), 0);
    close_reader(&r);
    step(server);
    step_end(server);
}

/* ---- one handler's sends ---- */

/* A large message may overtake nothing that was sent before it. */
static void large_behind_small(void) {
    static const size_t sizes[] = {1, 100, WSS__WRITE_DIRECT, 0, WSS__WRITE_DIRECT - 1, 65535, 65536, 125, 126, 300000, 3};
    wss_options options = {0};
    options.max_queued = 64 << 20;
    for (int rounds = 1; rounds <= 5; rounds++) check_plan(&options, sizes, sizeof sizes / sizeof sizes[0], rounds);
}

/* More than the cork can hold in one call of a handler. */
static void more_than_a_cork(void) {
    static const size_t sizes[] = {4000, 16000, 1, 9999};
    wss_options options = {0};
    options.max_queued = 64 << 20;
    check_plan(&options, sizes, 4, 100);
}

/* The cork counts against the limit: it is offered to the kernel when it is reached, and nothing is lost. */
static void cork_at_the_limit(void) {
    static const size_t sizes[] = {500};
    wss_options options = {0};
    options.max_queued = 1000;
    check_plan(&options, sizes, 1, 300);
}

/* Many questions in one receive, long answers: what is corked leaves while the rest is looked at. */
static void long_answers_to_many(void) {
    static const size_t sizes[] = {8000};
    for (int limited = 0; limited < 2; limited++) {
        wss_options options = {0};
        char frames[7 * 100];
        options.max_queued = limited ? 200000 : 8 << 20;
        wss_server *server = serve(&options);
        wss_on_data(server, on_data, NULL);
        reader r = open_reader(server);
        plan_sizes(sizes, 1, 1);
        for (int i = 0; i < 100; i++) memcpy(frames + 7 * i, "\x81\x81\0\0\0\0x", 7);
        step_write(server, r.client, frames, sizeof frames);
        CHECK_INT(todo.accepted, 100);
        read_all(server, &r);
        for (int i = 0; i < 100; i++) {
            r.next = 0; /* each answer is the first of its plan */
            check_message(&r, 8000);
        }
        CHECK_INT(r.at, r.bytes.size);
        close_reader(&r);
        step(server);
        step_end(server);
    }
}

/* Frames of all sizes wait in one queue: more parts than one call to the kernel can name. */
static void more_parts_than_one_call_takes(void) {
    static const size_t sizes[] = {WSS__WRITE_GATHER + 1, 1, WSS__WRITE_GATHER - 4, 0, WSS__WRITE_GATHER - 3};
    wss_options options = {0};
    options.max_queued = 64 << 20;
    for (int count = 1; count <= 5; count++) {
        wss_server *server = serve(&options);
        reader r = open_reader(server);
        for (int i = 0; i < 400; i++)
            CHECK_INT(wss_send_data(server, conns[0], WSS_BINARY, message_of(i, sizes[i % count]), sizes[i % count]), WSS_OK);
        read_all(server, &r);
        for (int i = 0; i < 400; i++) check_message(&r, sizes[i % count]);
        CHECK_INT(r.at, r.bytes.size);
        close_reader(&r);
        step(server);
        step_end(server);
    }
}

/* While one connection's cork fills, others' queues are flushed through the same memory: nobody sees another's bytes. */
static void queues_beside_a_full_cork(void) {
    static const size_t sizes[] = {4000, 3999, 100};
    wss_options options = {0};
    options.max_queued = 20000;
    wss_server *server = serve(&options);
    wss_on_data(server, on_data, NULL);
    reader readers[3];
    for (int i = 0; i < 3; i++) readers[i] = open_reader(server);
    plan_sizes(sizes, 3, 120);
    todo.others = 1;
    step_frame(server, readers[1].client, 0x81, "go", 2);
    CHECK_INT(todo.accepted + todo.refused, 3 * 360);
    int total = 0;
    for (int i = 0; i < 3; i++) {
        const char *payload;
        size_t size;
        int last = -1;
        read_all(server, &readers[i]);
        while (next_frame(&readers[i], &payload, &size) == 0x82) {
            int number = atoi(payload);
            CHECK(number > last);
            CHECK_INT(size, sizes[number % 3]);
            CHECK(memcmp(payload, message_of(number, size), size) == 0);
            last = number;
            total++;
        }
        CHECK_INT(readers[i].at, readers[i].bytes.size);
    }
    CHECK_INT(total, todo.accepted); /* what was accepted arrived, what was refused did not */
    for (int i = 0; i < 3; i++) close_reader(&readers[i]);
    step(server);
    step_end(server);
}

/* A typed message is built before it leaves, however large. */
static void on_data_typed(const wss_event *e) {
    static char text[60000];
    wss_writer writer;
    wss_writer_init(&writer, text, sizeof text);
    wss_put_text(&writer, "text", message_of(7, 40000), 40000);
    CHECK_INT(wss_send(e->server, e->conn, "small", wss_json("{}")), WSS_OK);
    CHECK_INT(wss_send(e->server, e->conn, "large", wss_writer_args(&writer)), WSS_OK);
    CHECK_INT(wss_send(e->server, e->conn, "small", wss_json("{}")), WSS_OK);
}

static void large_and_typed(void) {
    static const char *const begins[] = {"{\"__MESSAGE__\":\"small\"}", "{\"__MESSAGE__\":\"large\",\"text\":\"00000007hhh",
                                         "{\"__MESSAGE__\":\"small\"}"};
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss_on_data(server, on_data_typed, NULL);
    reader r = open_reader(server);
    step_frame(server, r.client, 0x81, "go", 2);
    read_all(server, &r);
    for (int i = 0; i < 3; i++) {
        const char *payload = "";
        size_t size = 0;
        CHECK_INT(next_frame(&r, &payload, &size), 0x81);
        CHECK(size >= strlen(begins[i]) && memcmp(payload, begins[i], strlen(begins[i])) == 0);
        CHECK_INT(size, i == 1 ? strlen("{\"__MESSAGE__\":\"large\",\"text\":\"\"}") + 40000 : strlen(begins[i]));
    }
    CHECK_INT(r.at, r.bytes.size);
    close_reader(&r);
    step(server);
    step_end(server);
}

/* Keyed messages of one handler: none has begun to leave, so the last of each key is what arrives. */
static void on_data_keyed(const wss_event *e) {
    char text[64];
    for (int i = 0; i < 10; i++) {
        snprintf(text, sizeof text, "{\"n\":%d}", i);
        CHECK_INT(wss_send_latest(e->server, e->conn, i % 2 ? "odd" : "even", "t", wss_json(text)), WSS_OK);
    }
}

static void keyed_on_the_loop(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss_on_data(server, on_data_keyed, NULL);
    reader r = open_reader(server);
    step_frame(server, r.client, 0x81, "go", 2);
    read_all(server, &r);
    const char *payload = "";
    size_t size = 0;
    CHECK_INT(next_frame(&r, &payload, &size), 0x81);
    CHECK(size == 25 && memcmp(payload, "{\"__MESSAGE__\":\"t\",\"n\":8}", 25) == 0);
    CHECK_INT(next_frame(&r, &payload, &size), 0x81);
    CHECK(size == 25 && memcmp(payload, "{\"__MESSAGE__\":\"t\",\"n\":9}", 25) == 0);
    CHECK_INT(r.at, r.bytes.size);
    close_reader(&r);
    step(server);
    step_end(server);
}

/* A peer that does not read: small and large messages from the handler until the queue is full; then it reads, and all that
   was accepted is there. */
static void kernel_fills_up(void) {
    static const size_t sizes[] = {100, 200000, 30, 16384, 17000};
    wss_options options = {0};
    options.max_queued = 1 << 20;
    wss_server *server = serve(&options);
    wss_on_data(server, on_data, NULL);
    reader r = open_reader(server);
    plan_sizes(sizes, 5, 60);
    step_frame(server, r.client, 0x81, "go", 2);
    CHECK(todo.refused > 0);
    CHECK(todo.accepted > 5);
    read_all(server, &r);
    while (wss_buffered(server, conns[0])) { /* the kernel may take its time to tell that there is room again */
        struct pollfd ready = {r.client->fd, POLLIN, 0};
        poll(&ready, 1, 1000);
        read_all(server, &r);
    }
    const char *payload;
    size_t size;
    int count = 0;
    int last = -1;
    while (next_frame(&r, &payload, &size) == 0x82) {
        int number = atoi(payload);
        CHECK(number > last);
        CHECK_INT(size, sizes[number % 5]);
        CHECK(memcmp(payload, message_of(number, size), size) == 0);
        last = number;
        count++;
    }
    CHECK_INT(count, todo.accepted);
    CHECK_INT(r.at, r.bytes.size);
    CHECK_INT(drains, 1);
    close_reader(&r);
    step(server);
    step_end(server);
}

/* What a frame of so many bytes costs its queue. */
static size_t cost_of(size_t size) {
    return wss__mem_charge(sizeof(wss__buf_frame) + size) + 16;
}

/* ---- what the kernel takes of a large message ---- */

static int ends;
static int last_cause;
static int send_result;
static int without_memory;
static int large_mode; /* how the kernel takes the large message */

static void on_end(const wss_event *e) {
    ends++;
    last_cause = e->cause;
}

static void on_data_large(const wss_event *e) {
    send_mode = large_mode;
    send_error = EAGAIN;
    step_fail_in = without_memory;
    send_result = wss_send_data(e->server, e->conn, WSS_BINARY, message_of(0, 20000), 20000);
    step_fail_in = 0;
    send_mode = SEND_AS_IS;
}

static wss_server *serve_large(wss_options *options, reader *r) {
    wss_server *server = serve(options);
    ends = 0;
    last_cause = 0;
    send_result = 1;
    without_memory = 0;
    large_mode = SEND_AS_IS;
    wss_on_data(server, on_data_large, NULL);
    wss_on_disconnect(server, on_end, NULL);
    *r = open_reader(server);
    return server;
}

/* The kernel tells that there is room again only where it was full: a test that made that up tells it by a frame. */
static void large_in_any_part(void) {
    static const size_t parts[] = {0, 1, 2, 3, 4, 5, 100, 19999, 20003};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        wss_options options = {0};
        reader r;
        wss_server *server = serve_large(&options, &r);
        large_mode = parts[i] ? SEND_SOME : SEND_FAILS;
        send_most = parts[i];
        step_frame(server, r.client, 0x81, "go", 2);
        CHECK_INT(send_result, WSS_OK);
        CHECK_INT(wss_buffered(server, conns[0]), cost_of(20004 - parts[i]));
        wss__conn *conn = wss__conn_find(server, conns[0]);
        conn->work |= WSS__WORK_WRITABLE;
        wss__conn_make_ready(&server->loops[0], conn);
        step(server);
        read_all(server, &r);
        check_message(&r, 20000);
        CHECK_INT(r.at, r.bytes.size);
        CHECK_INT(wss_buffered(server, conns[0]), 0);
        close_reader(&r);
        step(server);
        step_end(server);
    }
}

/* The rest cannot be kept. Nothing has left: the call fails and the connection lives. A part has: it cannot be taken back,
   so the connection ends, and nothing follows the gap. */
static void large_without_memory_for_the_rest(void) {
    for (int some = 0; some <= 1; some++) {
        for (int allocation = 1; allocation <= 2; allocation++) { /* the frame, the queue */
            wss_options options = {0};
            reader r;
            wss_server *server = serve_large(&options, &r);
            large_mode = some ? SEND_SOME : SEND_FAILS;
            send_most = 5;
            without_memory = allocation;
            step_frame(server, r.client, 0x81, "go", 2);
            CHECK_INT(send_result, WSS_ERR_MEMORY);
            CHECK_INT(ends, some);
            if (some) CHECK_INT(last_cause, WSS_CAUSE_MEMORY);
            if (!some) CHECK_INT(wss_send_data(server, conns[0], WSS_TEXT, "alive", 5), WSS_OK);
            CHECK_INT(wss_buffered(server, conns[0]) > 0, !some);
            close_reader(&r);
            step(server);
            CHECK_INT(ends, 1);
            step_end(server);
        }
    }
}

static void on_data_broken(const wss_event *e) {
    send_mode = SEND_FAILS;
    send_error = EPIPE;
    wss_send_data(e->server, e->conn, WSS_BINARY, message_of(0, 20000), 20000);
    CHECK_INT(wss_send_data(e->server, e->conn, WSS_BINARY, "x", 1), WSS_ERR_GONE);
    send_mode = SEND_AS_IS;
}

static void large_to_a_peer_that_is_gone(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    ends = 0;
    wss_on_data(server, on_data_broken, NULL);
    wss_on_disconnect(server, on_end, NULL);
    reader r = open_reader(server);
    step_frame(server, r.client, 0x81, "go", 2);
    step(server);
    CHECK_INT(ends, 1);
    CHECK_INT(last_cause, WSS_CAUSE_PEER_VANISHED);
    CHECK_INT(server->loops[0].connections, 0);
    close_reader(&r);
    step_end(server);
}

/* A part of what was corked has left and the rest cannot be kept: the large message behind it must not follow the gap. */
static void on_data_gap(const wss_event *e) {
    CHECK_INT(wss_send_data(e->server, e->conn, WSS_BINARY, "0123456789", 10), WSS_OK);
    send_mode = SEND_SOME;
    send_most = 3;
    step_fail_in = 1;
    wss_send_data(e->server, e->conn, WSS_BINARY, message_of(0, 20000), 20000);
    CHECK_INT(step_fail_in, 0);
    CHECK_INT(wss_send_data(e->server, e->conn, WSS_BINARY, "x", 1), WSS_ERR_GONE);
}

static void large_behind_a_lost_cork(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    ends = 0;
    wss_on_data(server, on_data_gap, NULL);
    wss_on_disconnect(server, on_end, NULL);
    reader r = open_reader(server);
    step_frame(server, r.client, 0x81, "go", 2);
    step(server);
    CHECK_INT(ends, 1);
    read_all(server, &r);
    CHECK(r.bytes.size <= 3); /* the reset may have taken them too */
    CHECK_INT(server->loops[0].connections, 0);
    close_reader(&r);
    step_end(server);
}

/* The kernel takes a part of a broadcast and there is no memory for the rest: the connection ends, without a Close inside
   a frame. */
static void on_data_cast(const wss_event *e) {
    CHECK_INT(wss_broadcast_data(e->server, WSS_BINARY, "0123456789", 10), WSS_OK);
    send_mode = SEND_SOME;
    send_most = 3;
    step_fail_in = 1;
}

static void broadcast_without_memory_for_the_rest(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    ends = 0;
    wss_on_data(server, on_data_cast, NULL);
    wss_on_disconnect(server, on_end, NULL);
    reader r = open_reader(server);
    send(r.client->fd, "\x81\x81\0\0\0\0x", 7, MSG_NOSIGNAL);
    wss_poll(server, 0);
    CHECK_INT(step_fail_in, 0);
    step(server);
    CHECK_INT(ends, 1);
    CHECK_INT(server->loops[0].connections, 0);
    close_reader(&r);
    step_end(server);
}

/* A broadcast meets a peer that has gone: only that connection ends. */
static void on_data_cast_to_nobody(const wss_event *e) {
    CHECK_INT(wss_broadcast_data(e->server, WSS_BINARY, "0123456789", 10), WSS_OK);
    send_mode = SEND_FAILS;
    send_error = ECONNRESET;
}

static void broadcast_to_a_peer_that_is_gone(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    ends = 0;
    wss_on_data(server, on_data_cast_to_nobody, NULL);
    wss_on_disconnect(server, on_end, NULL);
    reader gone = open_reader(server);
    reader stays = open_reader(server);
    step_frame(server, stays.client, 0x81, "go", 2);
    CHECK_INT(ends, 1);
    CHECK_INT(server->loops[0].connections, 1);
    read_all(server, &stays);
    CHECK(script_is(&stays.bytes, "\x82\12" "0123456789", 12));
    close_reader(&gone);
    close_reader(&stays);
    step(server);
    step_end(server);
}

/* The kernel does not take the 101 and the application goes on until the connection is closed as slow: what it sent is
   dropped, the 101 is not. */
static void on_upgrade_flood(const wss_event *e) {
    CHECK_INT(wss_accept(e->server, e->conn, NULL, NULL, 0, NULL), WSS_OK);
    send_mode = SEND_FAILS;
    send_error = EAGAIN;
    int result = WSS_OK;
    for (int i = 0; i < 10 && result == WSS_OK; i++) result = wss_send_data(e->server, e->conn, WSS_BINARY, message_of(i, 500), 500);
    CHECK_INT(result, WSS_ERR_FULL);
}

static void slow_before_its_answer_has_left(void) {
    wss_options options = {0};
    options.max_queued = 1000;
    options.send_policy = WSS_POLICY_CLOSE;
    wss_server *server = serve(&options);
    wss_on_upgrade(server, on_upgrade_flood, NULL);
    reader r;
    memset(&r, 0, sizeof r);
    r.client = step_connect(server);
    step_write(server, r.client, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n", sizeof "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n" - 1);
    wss__conn_at(server, 0)->work |= WSS__WORK_WRITABLE; /* the socket has room after all, without an edge that says so */
    wss__conn_make_ready(&server->loops[0], wss__conn_at(server, 0));
    read_all(server, &r);
    CHECK(r.bytes.size > 13 && memcmp(r.bytes.data, "HTTP/1.1 101 ", 13) == 0);
    const char *end = (const char *)memmem(r.bytes.data, r.bytes.size, "\r\n\r\n", 4);
    CHECK(end && memcmp(end + 4, "\x88\x0d\x03\xf5slow reader", 15) == 0);
    close_reader(&r);
    step(server);
    step_end(server);
}

static void on_data_chat(const wss_event *e) {
    CHECK_INT(wss_broadcast_data(e->server, WSS_BINARY, e->data, e->size), WSS_OK);
    CHECK_INT(wss_send_data(e->server, e->conn, WSS_BINARY, e->data, e->size), WSS_OK);
}

/* A broadcast and a reply: one send for each receiver, and the turn's end has nothing more for whom was given all. */
static void broadcast_and_reply_in_one_send(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss_on_data(server, on_data_chat, NULL);
    reader readers[CONNS];
    for (int i = 0; i < CONNS; i++) readers[i] = open_reader(server);
    sends = 0;
    step_frame(server, readers[1].client, 0x82, "hello", 5);
    CHECK_INT(sends, CONNS);
    for (int i = 0; i < CONNS; i++) {
        read_all(server, &readers[i]);
        CHECK(script_is(&readers[i].bytes, "\x82\5hello\x82\5hello", i == 1 ? 14 : 7));
        close_reader(&readers[i]);
    }
    step(server);
    step_end(server);
}

/* More than the kernel takes at once; keeping the rest then finds no memory. */
static void on_data_without_memory(const wss_event *e) {
    static char text[1000];
    int small = 4096;
    setsockopt(wss__conn_find(e->server, e->conn)->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    for (int i = 0; i < 250; i++) CHECK_INT(wss_send_data(e->server, e->conn, WSS_BINARY, text, sizeof text), WSS_OK);
    step_fail_in = 1;
    step_fail_on = 1;
}

/* What was accepted and cannot be kept ends the connection: nobody gets messages with a gap. */
static void rest_without_memory(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    ends = 0;
    wss_on_data(server, on_data_without_memory, NULL);
    wss_on_disconnect(server, on_end, NULL);
    reader r = open_reader(server);
    step_failed = 0;
    step_frame(server, r.client, 0x81, "go", 2);
    step_fail_in = 0;
    step_fail_on = 0;
    CHECK(step_failed > 0);
    CHECK_INT(ends, 1);
    CHECK_INT(server->loops[0].connections, 0);
    close_reader(&r);
    step_end(server);
}

/* Corks fill side by side: what others have queued is gathered in what room the cork leaves. */
static void queues_in_the_rest_of_a_cork(void) {
    static const size_t sizes[] = {4000};
    wss_options options = {0};
    options.max_queued = 300000;
    wss_server *server = serve(&options);
    wss_on_data(server, on_data, NULL);
    reader readers[3];
    for (int i = 0; i < 3; i++) readers[i] = open_reader(server);
    plan_sizes(sizes, 1, 120);
    todo.others = 1;
    step_frame(server, readers[0].client, 0x81, "go", 2);
    CHECK_INT(todo.accepted, 3 * 120);
    for (int i = 0; i < 3; i++) {
        read_all(server, &readers[i]);
        for (int k = 0; k < 120; k++) check_message(&readers[i], 4000);
        CHECK_INT(readers[i].at, readers[i].bytes.size);
        close_reader(&readers[i]);
    }
    step(server);
    step_end(server);
}

/* ---- messages sent back ---- */

/* A turn of questions: what the handler does with each, letter by letter. e: sends it back; x: as binary; p: all but its first
   byte; o: sends something else; t: sends it to the other connection; b: to both. */
enum { QUESTIONS = 60, QUESTION_MAX = 4000 };
static const char *question_plans[QUESTIONS];
static int question; /* the next one */
static int in_place; /* sent back without a copy */
static int question_casts; /* whether plans broadcast */
static unsigned question_largest = QUESTION_MAX - 90;

static void on_question(const wss_event *e) {
    const wss__session_shared *shared = &e->server->loops[0].shared;
    for (const char *step = question_plans[question++]; *step; step++) {
        size_t skip = *step == 'p' && e->size ? 1 : 0;
        int other = *step == 'o';
        if (*step == 'b') {
            CHECK_INT(wss_broadcast_data(e->server, e->opcode, e->data, e->size), WSS_OK);
            continue;
        }
        CHECK_INT(wss_send_data(e->server, *step == 't' ? conns[1] : e->conn, *step == 'x' || skip ? WSS_BINARY : e->opcode,
                                other ? "something else" : e->data + skip, other ? 14 : e->size - skip), WSS_OK);
        in_place += shared->in_place.replies && shared->in_place.replies + shared->cork_size == e->data + e->size;
    }
}

/* What both connections must get for one message. */
static void expect(script expected[2], const char *steps, int opcode, const char *payload, size_t size) {
    for (; *steps; steps++) {
        size_t skip = *steps == 'p' && size ? 1 : 0;
        if (*steps == 'b') script_reply(&expected[1], opcode, payload, size);
        if (*steps == 'o') script_reply(&expected[0], opcode, "something else", 14);
        else script_reply(&expected[*steps == 't'], *steps == 'x' || skip ? SCRIPT_BINARY : opcode, payload + skip, size - skip);
    }
}

static unsigned question_seed;

static unsigned question_random(unsigned below) {
    question_seed = question_seed * 1103515245u + 12345u;
    return (question_seed >> 8) % below;
}

/* Frames of all sizes, some with pings before them, and what must come back. steps NULL: a plan for each by chance. */
static void make_questions(script *questions, script expected[2], const char *steps) {
    static const char *const plans[] = {"e", "e", "e", "e", "", "ee", "oe", "eo", "x", "pe", "te", "et", "xe", "ep",
                                        "b", "be", "eb", "ebe"};
    static char payload[QUESTION_MAX];
    for (size_t i = 0; i < sizeof payload; i++) payload[i] = (char)(' ' + i % 90);
    question = 0;
    in_place = 0;
    for (int i = 0; i < QUESTIONS; i++) {
        int opcode = question_random(2) ? WSS_TEXT : WSS_BINARY;
        size_t size = question_random(question_random(3) ? 140 : question_largest);
        const char *data = payload + question_random(90);
        question_plans[i] = steps ? steps : plans[question_random(question_casts ? 18 : 14)];
        if (!steps && !question_casts && question_random(8) == 0) { /* a pong may overtake a broadcast */
            script_frame(questions, SCRIPT_PING, SCRIPT_FINAL, data, size % 126);
            script_reply(&expected[0], SCRIPT_PONG, data, size % 126);
        }
        script_frame(questions, opcode, SCRIPT_FINAL, data, size);
        expect(expected, question_plans[i], opcode, data, size);
    }
}

/* Asks, in pieces of this many bytes, while the kernel takes only so much of the first answer; 0: all of it. */
static void ask_questions(unsigned seed, const char *steps, size_t piece, size_t most, size_t max_queued) {
    wss_options options = {0};
    script questions = {0};
    script expected[2] = {{0}, {0}};
    options.max_queued = max_queued;
    wss_server *server = serve(&options);
    wss_on_data(server, on_question, NULL);
    reader readers[2];
    for (int i = 0; i < 2; i++) readers[i] = open_reader(server);
    question_seed = seed;
    make_questions(&questions, expected, steps);
    send_mode = most ? SEND_SOME : SEND_AS_IS;
    send_most = most;
    for (size_t at = 0; at < questions.size; at += piece)
        step_write(server, readers[0].client, questions.data + at, piece < questions.size - at ? piece : questions.size - at);
    send_mode = SEND_AS_IS;
    step_frame(server, readers[0].client, 0x8a, "", 0); /* a kernel that was full would tell of its room: this makes it */
    CHECK_INT(question, QUESTIONS);
    for (int i = 0; i < 2; i++) {
        read_all(server, &readers[i]);
        CHECK(script_same(&readers[i].bytes, &expected[i]));
        close_reader(&readers[i]);
        script_free(&expected[i]);
    }
    script_free(&questions);
    step(server);
    step_end(server);
}

/* Messages that go back as they came are not copied: all come with one receive here. */
static void sent_back_in_place(void) {
    question_largest = 300;
    ask_questions(1, "e", SIZE_MAX / 2, 0, 64 << 20);
    CHECK_INT(in_place, QUESTIONS);
    ask_questions(2, "x", SIZE_MAX / 2, 0, 64 << 20);
    CHECK_INT(in_place, QUESTIONS);
    ask_questions(3, "ee", SIZE_MAX / 2, 0, 64 << 20);
    CHECK_INT(in_place, 1); /* from the first copy on all is gathered in the cork */
    ask_questions(4, "o", SIZE_MAX / 2, 0, 64 << 20);
    CHECK_INT(in_place, 0);
    question_largest = QUESTION_MAX - 90;
}

/* Whatever handlers send between messages that they send back, in whatever pieces it comes and leaves: the same answer. */
static void sent_back_among_others(void) {
    static const size_t pieces[] = {SIZE_MAX / 2, 5000, 700, 33};
    static const size_t most[] = {0, 1, 3, 200, 4000};
    for (unsigned seed = 1; seed <= 20; seed++, question_casts = !question_casts) {
        int all_wait = seed % 4 == 0 && most[seed % 5]; /* behind the first answer */
        ask_questions(seed, NULL, pieces[seed % 4], most[seed % 5], seed % 3 || all_wait ? 64 << 20 : 20000);
    }
}

static int send_back_result;

static void on_data_closes(const wss_event *e) {
    CHECK_INT(wss_send_data(e->server, e->conn, e->opcode, e->data, e->size), WSS_OK);
    CHECK_INT(wss_close(e->server, e->conn, 1000, NULL), WSS_OK);
    send_back_result = wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

/* A handler that closes and then sends back is told so; this is all that the client gets. */
static void check_closed(wss_handler *handler, const char *want, size_t size) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss_on_data(server, handler, NULL);
    reader r = open_reader(server);
    step_frame(server, r.client, 0x81, "last", 4);
    CHECK_INT(send_back_result, WSS_ERR_GONE);
    read_all(server, &r);
    CHECK(script_is(&r.bytes, want, size));
    close_reader(&r);
    step(server);
    step_end(server);
}

/* What was sent back before the close leaves before it; nothing is sent back after it. */
static void sent_back_and_closed(void) {
    check_closed(on_data_closes, "\x81\4last\x88\2\3\xe8", 10);
}

static void *close_elsewhere(void *event) {
    const wss_event *e = (const wss_event *)event;
    CHECK_INT(wss_close(e->server, e->conn, 1000, NULL), WSS_OK);
    return NULL;
}

static void on_data_closed_elsewhere(const wss_event *e) {
    pthread_t thread;
    wss_event copy = *e;
    if (pthread_create(&thread, NULL, close_elsewhere, &copy) != 0) abort();
    pthread_join(thread, NULL);
    send_back_result = wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

/* Another thread has closed the connection, and its loop does not know yet: nothing is sent back all the same. */
static void sent_back_and_closed_elsewhere(void) {
    check_closed(on_data_closed_elsewhere, "\x88\2\3\xe8", 4);
}

static int typed_calls;
static int registered;

static void on_typed_text(const wss_event *e) {
    CHECK_TEXT(e->args.text, "{\"a\":1}");
    typed_calls++;
}

static void on_data_registers(const wss_event *e) {
    CHECK_INT(wss_send_data(e->server, e->conn, e->opcode, e->data, e->size), WSS_OK);
    if (!registered++) CHECK_INT(wss_on_message(e->server, "t", on_typed_text, NULL), WSS_OK);
}

/* The cutter changes messages in place, from the one behind that which brought the type on: what was sent
   back of them before that stays as it was. */
static void sent_back_and_then_cut(void) {
    static const char text[] = "{\"__MESSAGE__\":\"t\",\"a\":1}";
    wss_options options = {0};
    script questions = {0};
    wss_server *server = serve(&options);
    wss_on_data(server, on_data_registers, NULL);
    reader r = open_reader(server);
    typed_calls = registered = 0;
    for (int i = 0; i < 3; i++) script_frame(&questions, SCRIPT_TEXT, SCRIPT_FINAL, text, sizeof text - 1);
    step_write(server, r.client, questions.data, questions.size);
    CHECK_INT(typed_calls, 2);
    read_all(server, &r);
    for (int i = 0; i < 3; i++) {
        const char *payload = "";
        size_t size = 0;
        CHECK_INT(next_frame(&r, &payload, &size), 0x81);
        CHECK(size == sizeof text - 1 && memcmp(payload, text, size) == 0);
    }
    CHECK_INT(r.at, r.bytes.size);
    script_free(&questions);
    close_reader(&r);
    step(server);
    step_end(server);
}

/* Whose request was answered, or ended without an answer, has none that could be applied again. */
static void no_answer_twice(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    reader r = open_reader(server);
    wss__loop *loop = &server->loops[0];
    wss__conn *conn = wss__conn_find(server, conns[0]);
    CHECK(conn != NULL);
    for (int i = 0; conn && i < 2; i++) wss__write_answer(loop, conn);
    CHECK_INT(conn && conn->session.phase == WSS__SESSION_OPEN, 1);
    CHECK(conn && !conn->session.queue);
    close_reader(&r);
    step_end(server);
}

/* Broadcasts that leave together, too many for one send, meet a queue at its limit that nobody has tried to send yet: the others
   get the broadcasts, in order, and no byte of that queue. */
static void broadcasts_beside_a_full_queue(void) {
    static const char secret[] = "only for the first";
    wss_options options = {0};
    options.max_queued = 400;
    wss_server *server = serve(&options);
    reader readers[CONNS];
    for (int i = 0; i < CONNS; i++) readers[i] = open_reader(server);
    while (wss_send_data(server, conns[0], WSS_TEXT, secret, sizeof secret - 1) == WSS_OK) {
    }
    for (int i = 0; i < 300; i++) CHECK_INT(wss_broadcast_data(server, WSS_BINARY, message_of(i, 250), 250), WSS_OK);
    for (int i = 0; i < CONNS; i++) {
        read_all(server, &readers[i]);
        while (i == 0 && readers[0].at < readers[0].bytes.size && readers[0].bytes.data[readers[0].at] == (char)-127) {
            const char *payload = "";
            size_t size = 0;
            CHECK_INT(next_frame(&readers[0], &payload, &size), 0x81);
            CHECK(size == sizeof secret - 1 && memcmp(payload, secret, size) == 0);
        }
        for (int k = 0; k < 300; k++) check_message(&readers[i], 250);
        CHECK_INT(readers[i].at, readers[i].bytes.size);
        close_reader(&readers[i]);
    }
    step(server);
    step_end(server);
}

static void on_data_without_memory_from_here(const wss_event *e) {
    CHECK_INT(wss_broadcast_data(e->server, WSS_BINARY, "to all", 6), WSS_OK);
    e->server->mem.budget = 0;
}

/* Who leaves behind a broadcast is given it before its Close; where there is no memory for that it is not, which is counted. */
static void broadcast_without_memory_at_a_close(void) {
    static const char both[] = "\x82\x83\0\0\0\0now\x88\x82\0\0\0\0\3\350";
    wss_options options = {0};
    wss_stats stats;
    wss_server *server = serve(&options);
    size_t budget = server->mem.budget;
    reader readers[CONNS];
    for (int i = 0; i < CONNS; i++) readers[i] = open_reader(server);
    wss_on_data(server, on_data_without_memory_from_here, NULL);
    step_write(server, readers[0].client, both, sizeof both - 1);
    server->mem.budget = budget;
    wss_get_stats(server, &stats);
    CHECK_INT(stats.refused_full, 1);
    for (int i = 0; i < CONNS; i++) close_reader(&readers[i]);
    step(server);
    step_end(server);
}

static int plan_next; /* number of the next broadcast */

/* ---- what other threads have sent ---- */

static wss__buf_frame *frame_of(wss_server *server, size_t size) {
    char *payload = NULL;
    wss__buf_frame *frame = wss__buf_new(&server->mem, WSS_BINARY, size, wss__base_span(NULL, 0), &payload);
    if (!frame) abort();
    memset(payload, 'a', size);
    return frame;
}

/* An open connection whose kernel is full: what it is sent waits. */
static wss__conn *blocked_conn(wss_server *server) {
    wss__conn *conn = wss__conn_find(server, conns[0]);
    conn->work &= (uint16_t)~WSS__WORK_WRITABLE;
    return conn;
}

/* What was accepted elsewhere is judged once: there where a full queue refuses, here where it closes the connection, since only here
   the kernel can be asked. A queue that empties meanwhile closes nobody. */
static void accepted_elsewhere(void) {
    for (int policy = WSS_POLICY_REFUSE; policy <= WSS_POLICY_CLOSE; policy++) {
        for (int writable = 0; writable <= 1; writable++) {
            wss_options options = {0};
            options.send_policy = policy;
            options.max_queued = 500;
            wss_server *server = serve(&options);
            ends = 0;
            wss_on_disconnect(server, on_end, NULL);
            reader r = open_reader(server);
            wss__loop *loop = &server->loops[0];
            wss__conn *conn = blocked_conn(server);
            int closes = policy == WSS_POLICY_CLOSE && !writable;
            wss__write_accepted(loop, conn, frame_of(server, 600)); /* an empty queue takes it */
            CHECK_INT(wss__session_queued(&conn->session), cost_of(604));
            CHECK(conn->work & WSS__WORK_CROWDED);
            if (writable) conn->work |= WSS__WORK_WRITABLE;
            wss__write_accepted(loop, conn, frame_of(server, 100));
            CHECK_INT(conn->session.phase, closes ? WSS__SESSION_CLOSING : WSS__SESSION_OPEN);
            CHECK_INT(loop->shared.stats.dropped_gone, closes ? 2 : 0); /* with what waited already */
            CHECK_INT(loop->shared.stats.refused_full, 0); /* it was accepted: it is counted once */
            conn->work |= WSS__WORK_WRITABLE;
            wss__conn_make_ready(loop, conn);
            step(server);
            read_all(server, &r);
            CHECK_INT(r.bytes.size, closes ? 4 + strlen("slow reader") : 604 + 102);
            if (closes) CHECK_INT((unsigned char)r.bytes.data[0], 0x88);
            close_reader(&r);
            step(server);
            CHECK_INT(ends, 1);
            step_end(server);
        }
    }
}

/* What was accepted and cannot be kept: a gap would go unnoticed, so the connection ends, and the message is counted. */
static void accepted_without_memory(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    ends = 0;
    wss_on_disconnect(server, on_end, NULL);
    reader r = open_reader(server);
    wss__loop *loop = &server->loops[0];
    wss__conn *conn = blocked_conn(server);
    wss__buf_frame *frame = frame_of(server, 100);
    step_fail_in = 1;
    wss__write_accepted(loop, conn, frame);
    step_fail_in = 0;
    CHECK_INT(conn->session.phase, WSS__SESSION_CLOSING);
    CHECK_INT(conn->session.cause, WSS_CAUSE_MEMORY);
    CHECK_INT(loop->shared.stats.dropped_gone, 1);
    CHECK_INT(loop->shared.stats.refused_full, 0);
    close_reader(&r);
    step(server);
    CHECK_INT(ends, 1);
    CHECK_INT(last_cause, WSS_CAUSE_MEMORY);
    step_end(server);
}

/* What comes is in the account of what comes until the loop takes it, and then in that of the queue; where the connection closes,
   or is gone, in none. */
static void accounts_of_what_comes(void) {
    for (int closing = 0; closing <= 1; closing++) {
        wss_options options = {0};
        wss_server *server = serve(&options);
        reader r = open_reader(server);
        wss__loop *loop = &server->loops[0];
        wss__conn *conn = blocked_conn(server);
        wss__conn_order order;
        memset(&order, 0, sizeof order);
        CHECK_INT(wss_send_data(server, conns[0], WSS_BINARY, message_of(0, 100), 100), WSS_OK);
        CHECK_INT(wss_send_data(server, conns[0], WSS_BINARY, message_of(1, 200), 200), WSS_OK);
        CHECK_INT(wss__session_coming(&conn->session), cost_of(102) + cost_of(204));
        CHECK_INT(wss__session_queued(&conn->session), 0);
        CHECK_INT(wss_buffered(server, conns[0]), cost_of(102) + cost_of(204));
        if (closing) wss__session_close(&loop->shared, &conn->session, 1000, wss__base_text(""), WSS_CAUSE_LOCAL_CLOSE);
        wss_poll(server, 0);
        CHECK_INT(wss__session_coming(&conn->session), 0);
        CHECK_INT(wss__session_queued(&conn->session), closing ? 0 : cost_of(102) + cost_of(204));
        CHECK_INT(loop->shared.stats.dropped_gone, closing ? 2 : 0);
        order.frame = frame_of(server, 10);
        wss__loop_run_send(loop, NULL, &order); /* it went before the order was looked at */
        CHECK_INT(loop->shared.stats.dropped_gone, closing ? 3 : 1);
        conn->work |= WSS__WORK_WRITABLE;
        wss__conn_make_ready(loop, conn);
        step(server);
        if (!closing) read_all(server, &r);
        if (!closing) check_message(&r, 100);
        if (!closing) check_message(&r, 200);
        close_reader(&r);
        step(server);
        step_end(server);
    }
}

/* ---- broadcasts of a turn ---- */

/* Gathers broadcasts of these sizes: whether there are as many as leave in a turn after the last, and not before. */
static void fill_a_turn(wss_server *server, int count, size_t size, size_t last) {
    wss__loop *loop = &server->loops[0];
    loop->full = 0;
    for (int i = 0; i < count; i++) {
        CHECK(!loop->full);
        char *payload;
        wss__buf_frame *frame = wss__buf_new(&server->mem, WSS_BINARY, i == count - 1 ? last : size, wss__base_text(NULL),
                                             &payload);
        memset(payload, 0, i == count - 1 ? last : size);
        wss__write_gather_broadcast(loop, frame);
    }
    CHECK_INT(loop->full, 1);
    wss__write_give_broadcasts(loop);
}

static void broadcasts_that_fill_a_turn(void) {
    wss_options options = {0};
    wss_server *server = step_server(&options);
    fill_a_turn(server, WSS__SESSION_BROADCASTS, 10, 10);
    fill_a_turn(server, 3, 16380, 16380); /* 49,152 bytes: one more of the largest might not go with them */
    fill_a_turn(server, 4, 16379, 10);
    step_end(server);
}

static void on_data_casts(const wss_event *e) {
    CHECK_INT(wss_broadcast_data(e->server, WSS_BINARY, message_of(plan_next++, 300), 300), WSS_OK);
}

/* Messages that each make a broadcast wait for the next turn when so many leave together; all get all of them, in order. */
static void broadcasts_of_many_messages(void) {
    enum { ALL = 700 };
    static char frames[ALL * 7];
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss_on_data(server, on_data_casts, NULL);
    reader readers[CONNS];
    for (int i = 0; i < CONNS; i++) readers[i] = open_reader(server);
    plan_next = 0;
    for (int i = 0; i < ALL; i++) memcpy(frames + 7 * i, "\x82\x81\0\0\0\0x", 7);
    step_write(server, readers[0].client, frames, sizeof frames);
    CHECK_INT(plan_next, ALL);
    for (int i = 0; i < CONNS; i++) {
        read_all(server, &readers[i]);
        for (int k = 0; k < ALL; k++) check_message(&readers[i], 300);
        CHECK_INT(readers[i].at, readers[i].bytes.size);
        close_reader(&readers[i]);
    }
    step(server);
    step_end(server);
}

int main(void) {
    alarm(100);
    RUN(no_answer_twice);
    RUN(large_behind_small);
    RUN(more_than_a_cork);
    RUN(cork_at_the_limit);
    RUN(long_answers_to_many);
    RUN(more_parts_than_one_call_takes);
    RUN(queues_beside_a_full_cork);
    RUN(large_and_typed);
    RUN(keyed_on_the_loop);
    RUN(kernel_fills_up);
    RUN(large_in_any_part);
    RUN(large_without_memory_for_the_rest);
    RUN(large_to_a_peer_that_is_gone);
    RUN(large_behind_a_lost_cork);
    RUN(broadcast_without_memory_for_the_rest);
    RUN(broadcast_to_a_peer_that_is_gone);
    RUN(slow_before_its_answer_has_left);
    RUN(broadcast_and_reply_in_one_send);
    RUN(queues_in_the_rest_of_a_cork);
    RUN(broadcasts_beside_a_full_queue);
    RUN(broadcast_without_memory_at_a_close);
    RUN(sent_back_in_place);
    RUN(sent_back_among_others);
    RUN(sent_back_and_then_cut);
    RUN(sent_back_and_closed);
    RUN(sent_back_and_closed_elsewhere);
    RUN(rest_without_memory);
    RUN(accepted_elsewhere);
    RUN(accepted_without_memory);
    RUN(accounts_of_what_comes);
    RUN(broadcasts_that_fill_a_turn);
    RUN(broadcasts_of_many_messages);
    return test_end("write");
}
