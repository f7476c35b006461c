/* Unit tests of [read]: how much is received at once, and large messages, which are looked at where they were received. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <sys/socket.h>

/* What the kernel has for the connection whose descriptor this is, and how it ends; others are asked themselves. */
static int fed_fd = -1;
static const char *fed;
static size_t fed_size;
static int fed_end; /* an errno, 0: the end of the stream */
static size_t sizes_asked[8];
static int receives;

static ssize_t fake_recv(int fd, void *data, size_t size, int flags) {
    if (fd != fed_fd) return recv(fd, data, size, flags);
    if (receives < 8) sizes_asked[receives] = size;
    receives++;
    errno = fed_end;
    if (!fed_size && fed_end == ECONNRESET) fed_end = 0; /* told once, as the kernel does; then it is an end */
    if (!fed_size) return errno ? -1 : 0;
    size_t some = size < fed_size ? size : fed_size;
    for (size_t i = 0; i < some; i++) ((char *)data)[i] = fed[i];
    fed += some;
    fed_size -= some;
    return (ssize_t)some;
}

#include "../step.h"

REPLACE(recv, fake_recv)

enum { MOST = 3 << 20 };

static char frames[MOST + 200000];
static char payload[MOST];
static wss_conn last_conn;
static const char *first_at; /* where the first message lay */
static size_t sizes[8];
static int messages;
static int ends;

static void on_connect(const wss_event *e) {
    last_conn = e->conn;
}

static void on_data(const wss_event *e) {
    if (!messages) first_at = e->data;
    if (messages < 8) sizes[messages] = e->size;
    messages++;
    CHECK(e->size <= sizeof payload && memcmp(e->data, payload, e->size) == 0);
}

static void on_end(const wss_event *e) {
    (void)e;
    ends++;
}

static wss_server *serve(wss_options *options) {
    options->max_message = MOST;
    wss_server *server = step_server(options);
    wss_on_connect(server, on_connect, NULL);
    wss_on_data(server, on_data, NULL);
    wss_on_disconnect(server, on_end, NULL);
    messages = 0;
    ends = 0;
    return server;
}

static wss__conn *conn_of(wss_server *server) {
    return wss__conn_find_own(&server->loops[0], last_conn);
}

/* The kernel has these bytes; the connection has a turn. Returns how many receives that took. */
static int feed(wss_server *server, const char *data, size_t size, int end) {
    wss__conn *conn = conn_of(server);
    fed_fd = conn->fd;
    fed = data;
    fed_size = size;
    fed_end = end;
    receives = 0;
    conn->work |= WSS__WORK_READABLE;
    wss__conn_make_ready(&server->loops[0], conn);
    CHECK_INT(wss_poll(server, 0), WSS_OK);
    return receives;
}

static void unplug(wss_server *server, step_client *client) {
    fed_fd = -1;
    step_free(client);
    step(server);
    CHECK_INT(ends, 1);
    step_end(server);
}

static int lies_where_it_was_received(const wss_server *server) {
    const wss__loop *loop = &server->loops[0];
    return first_at > loop->receive && first_at < loop->receive + loop->receive_size;
}

/* A receive takes what a turn can deal with, and before that the rest of a large frame. */
static void size_of_a_receive(void) {
    enum { ROOM = 1088 << 10, SIZE = WSS__READ_SIZE };
    CHECK(SIZE > 65536 + WSS__FRAME_HEAD_MAX);
    CHECK_INT(wss__read_size(ROOM, 0), SIZE);
    CHECK_INT(wss__read_size(ROOM, 1), SIZE + 1);
    CHECK_INT(wss__read_size(ROOM, ROOM - SIZE - 1), ROOM - 1);
    CHECK_INT(wss__read_size(ROOM, ROOM - SIZE), ROOM);
    CHECK_INT(wss__read_size(ROOM, ROOM), ROOM);
    CHECK_INT(wss__read_size(ROOM, UINT64_MAX), ROOM);
    CHECK_INT(wss__read_size(1000, 0), 1000);
    CHECK_INT(wss__read_size(SIZE, 0), SIZE);
    CHECK_INT(wss__read_size(SIZE + 1, 0), SIZE);
}

/* Messages of these sizes that the kernel has whole: as many receives as they need, no memory, and the bytes stay where they
   are. What follows a message is received with it. */
static void whole_messages(void) {
    static const struct {
        size_t size;
        int receives;
    } samples[] = {{20, 1}, {65535, 1}, {65536, 1}, {WSS__READ_SIZE - 15, 1}, {WSS__READ_SIZE - 13, 2}, {200000, 2},
                   {1 << 20, 2}, {(1088 << 10) - 14, 3}}; /* the last one fills all there is */
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        for (int more = 0; more <= 1; more++) {
            wss_options options = {0};
            wss_server *server = serve(&options);
            step_client *client = step_open(server);
            size_t size = step_make_frame(frames, 0x82, payload, samples[i].size);
            int splits = size <= WSS__READ_SIZE && size + 26 > WSS__READ_SIZE;
            int fits = size + 26 <= server->loops[0].receive_size && !splits;
            if (more) size += step_make_frame(frames + size, 0x82, payload, 20);
            if (!more || fits) {
                step_failed = 0;
                step_fail_in = 1;
                step_fail_on = 1;
                CHECK_INT(feed(server, frames, size, EAGAIN), samples[i].receives);
                step_fail_in = 0;
                step_fail_on = 0;
                CHECK_INT(step_failed, 0);
                CHECK_INT(messages, 1 + more);
                CHECK_INT(sizes[0], samples[i].size);
                CHECK_INT(lies_where_it_was_received(server), 1);
                CHECK_INT(fed_size, 0);
            }
            unplug(server, client);
        }
    }
}

/* What does not fit where it is received is not asked for with the beginning. */
static void larger_messages(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    size_t size = step_make_frame(frames, 0x82, payload, (1088 << 10) - 13);
    feed(server, frames, size, EAGAIN);
    step(server);
    CHECK_INT(sizes_asked[0], WSS__READ_SIZE);
    CHECK_INT(messages, 1);
    CHECK_INT(lies_where_it_was_received(server), 0);
    size = step_make_frame(frames, 0x82, payload, MOST);
    feed(server, frames, size, EAGAIN);
    step(server);
    CHECK_INT(messages, 2);
    CHECK_INT(sizes[1], MOST);
    unplug(server, client);
}

/* The kernel has a part of the rest, or none of it; it comes later, or never. */
static void rests(void) {
    static const size_t parts[] = {WSS__READ_SIZE, WSS__READ_SIZE + 1, 300000, 500013};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        for (int end = 0; end <= 2; end++) { /* the end of the stream, a reset, none yet */
            int error = end == 0 ? 0 : end == 1 ? ECONNRESET : EAGAIN;
            wss_options options = {0};
            wss_server *server = serve(&options);
            step_client *client = step_open(server);
            size_t size = step_make_frame(frames, 0x82, payload, 500000);
            CHECK_INT(size, 500014);
            CHECK_INT(feed(server, frames, parts[i], error), 2);
            CHECK_INT(sizes_asked[1], 500014 - WSS__READ_SIZE + WSS__READ_SIZE);
            CHECK_INT(messages, 0);
            CHECK_INT(ends, 0);
            CHECK_INT(conn_of(server)->work & WSS__WORK_READABLE, 0); /* epoll tells more, and ends */
            feed(server, frames + parts[i], end == 2 ? size - parts[i] : 0, error);
            step(server);
            CHECK_INT(messages, end == 2);
            CHECK_INT(ends, end != 2);
            unplug(server, client);
        }
    }
}

/* A reset that the second receive is told, and nobody else is: what the client sent before may be dropped. */
static void reset_behind_a_beginning(void) {
    for (int end = 0; end <= 2; end++) {
        wss_options options = {0};
        options.queue = wss_queue_create(NULL, NULL);
        wss_server *server = serve(&options);
        step_client *client = step_open(server);
        step(server);
        wss_queue_poll(options.queue, 0);
        step_make_frame(frames, 0x82, payload, 500000);
        wss__conn_delivery *delivery = wss__conn_delivery_of(conn_of(server));
        CHECK_INT(feed(server, frames, WSS__READ_SIZE, end == 0 ? ECONNRESET : end == 1 ? EAGAIN : 0), 2);
        CHECK_INT(delivery->reset, end == 0);
        fed_fd = -1;
        step_free(client);
        step(server);
        wss_queue_poll(options.queue, 0);
        CHECK_INT(messages, 0);
        CHECK_INT(ends, 1);
        CHECK_INT(wss_destroy(server), WSS_OK);
        CHECK_INT(wss_queue_destroy(options.queue), WSS_OK);
        CHECK_INT(step_bytes, 0);
    }
}

/* Only of a message that begins there, in one frame that is none but whole and good. */
static void no_rests(void) {
    size_t half = 100000;
    for (int what = 0; what < 4; what++) {
        wss_options options = {0};
        wss_server *server = serve(&options);
        step_client *client = step_open(server);
        size_t size = 0;
        if (what == 0) size += step_make_frame(frames, 0x02, payload, 10); /* a frame before it */
        if (what == 1) size += step_make_frame(frames, 0x02, payload, 10);
        if (what == 1) feed(server, frames, size, EAGAIN); /* a message has begun */
        if (what == 1) size = 0;
        size += step_make_frame(frames + size, what == 0 || what == 1 ? 0x80 : 0x82, payload, 2 * half);
        if (what == 2) frames[0] = (char)0xf2; /* bits that nobody agreed on */
        if (what == 3) frames[1] &= 0x7f;      /* not masked */
        feed(server, frames, size, EAGAIN);
        step(server);
        if (what >= 2) CHECK_INT(sizes_asked[1], server->loops[0].receive_size); /* all that comes is dropped */
        CHECK_INT(messages, what < 2);
        CHECK_INT(ends, what >= 2);
        fed_fd = -1;
        step_free(client);
        step(server);
        step_end(server);
    }
}

int main(void) {
    alarm(100);
    memset(payload, 'x', sizeof payload);
    RUN(size_of_a_receive);
    RUN(whole_messages);
    RUN(larger_messages);
    RUN(rests);
    RUN(reset_behind_a_beginning);
    RUN(no_rests);
    return test_end("read");
}
