/* What a peer said before it went: messages that wait in the kernel, or are held, reach the application whatever becomes of
   sends to that peer; and the end that is told is the one that the peer told. */
#include "../step.h"

#include <sys/un.h>

enum { MESSAGES = 10000, FEW = 5 }; /* the former are more than one receive takes */

static char path[48]; /* one of its own for each run */
static int got;
static int pause_at;
static int ends;
static int last_code;
static int last_cause;
static uint64_t last_bytes_in;
static wss_conn last_conn;

static void on_connect(const wss_event *e) {
    last_conn = e->conn;
}

static void on_data(const wss_event *e) {
    if (++got == pause_at) CHECK_INT(wss_pause(e->server, e->conn), WSS_OK);
    if (e->context) wss_send_data(e->server, e->conn, WSS_BINARY, "ok", 2);
}

static void on_end(const wss_event *e) {
    wss_info info;
    ends++;
    last_code = e->code;
    last_cause = e->cause;
    CHECK_INT(wss_get_info(e->server, e->conn, &info), WSS_OK);
    last_bytes_in = info.bytes_in;
}

static wss_server *serve(wss_options *options, int is_unix, int replies) {
    static int yes;
    options->address = is_unix ? path : NULL;
    wss_server *server = step_server(options);
    got = 0;
    pause_at = 0;
    ends = 0;
    last_code = 0;
    last_cause = 0;
    wss_on_connect(server, on_connect, NULL);
    wss_on_data(server, on_data, replies ? &yes : NULL);
    wss_on_disconnect(server, on_end, NULL);
    return server;
}

static step_client *dial(wss_server *server, int is_unix) {
    struct sockaddr_un address = {0};
    if (!is_unix) return step_connect(server);
    step_client *client = (step_client *)calloc(1, sizeof *client);
    if (!client) abort();
    address.sun_family = AF_UNIX;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path + 5);
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0) abort();
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    return client;
}

static step_client *open_client(wss_server *server, int is_unix) {
    step_client *client = dial(server, is_unix);
    CHECK(strncmp(step_ask(server, client, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n"), "HTTP/1.1 101 ", 13) == 0);
    return client;
}

enum { LEAVES = 0, SAYS_CLOSE, RESETS };

/* Its last words, without a turn of the server. Returns their bytes. */
static size_t say_and_go(step_client *client, int messages, int how) {
    static char all[MESSAGES * 7 + 8];
    static const struct linger reset = {1, 0};
    size_t size = 0;
    for (int i = 0; i < messages; i++) size += step_make_frame(all + size, 0x82, "m", 1);
    if (how == SAYS_CLOSE) size += step_make_frame(all + size, 0x88, "\x03\xe8", 2);
    CHECK_INT(send(client->fd, all, size, MSG_NOSIGNAL), size);
    if (how == RESETS) setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(client->fd);
    client->fd = -1;
    return size;
}

static void turn(wss_server *server, wss_queue *queue, int casts) {
    for (int i = 0; i < 400; i++) {
        if (casts) wss_broadcast_data(server, WSS_BINARY, "tick", 4);
        CHECK_INT(wss_poll(server, 0), WSS_OK);
        if (queue) wss_queue_poll(queue, 0);
    }
}

static void end(wss_server *server, step_client *client, wss_queue *queue) {
    step_free(client);
    step_end(server);
    if (queue) CHECK_INT(wss_queue_destroy(queue), WSS_OK);
}

static void check_end(int how) {
    CHECK_INT(ends, 1);
    CHECK_INT(last_code, how == SAYS_CLOSE ? 1000 : WSS_CLOSE_LOST);
    CHECK_INT(last_cause, how == SAYS_CLOSE ? WSS_CAUSE_PEER_CLOSED : WSS_CAUSE_PEER_VANISHED);
}

/* Replies and broadcasts to one that has gone fail: what it said before is handled all the same. */
static void sends_fail(void) {
    for (int way = 0; way < 1 << 4; way++) {
        int is_unix = way & 1;
        int replies = way & 2;
        int casts = way & 4;
        wss_options options = {0};
        options.queue = way & 8 ? wss_queue_create(NULL, NULL) : NULL;
        for (int how = LEAVES; how <= SAYS_CLOSE; how++) {
            wss_server *server = serve(&options, is_unix, replies);
            step_client *client = open_client(server, is_unix);
            turn(server, options.queue, 0);
            say_and_go(client, MESSAGES, how);
            turn(server, options.queue, casts);
            CHECK_INT(got, MESSAGES);
            check_end(how);
            CHECK_INT(server->loops[0].connections, 0);
            end(server, client, NULL);
        }
        if (options.queue) CHECK_INT(wss_queue_destroy(options.queue), WSS_OK);
    }
}

/* A connection that the application does not read: what waits there waits, whatever epoll says of its socket, and so does
   what had been read already. Where nothing waits the end is told at once, if the kernel knows it. */
static void paused(void) {
    for (int is_unix = 0; is_unix <= 1; is_unix++) {
        for (int how = LEAVES; how <= RESETS; how++) {
            for (int before = 0; before <= FEW; before += 2) {
                wss_options options = {0};
                wss_server *server = serve(&options, is_unix, 0);
                step_client *client = open_client(server, is_unix);
                pause_at = before; /* the rest is held then */
                if (!before) CHECK_INT(wss_pause(server, last_conn), WSS_OK);
                step(server);
                say_and_go(client, FEW, how);
                turn(server, NULL, 1); /* which fails */
                CHECK_INT(got, before);
                CHECK_INT(ends, 0);
                CHECK_INT(wss_resume(server, last_conn), WSS_OK);
                turn(server, NULL, 0);
                CHECK_INT(got, FEW);
                check_end(how);
                end(server, client, NULL);
            }
        }
    }
}

static void paused_with_nothing_to_say(void) {
    for (int is_unix = 0; is_unix <= 1; is_unix++) {
        wss_options options = {0};
        wss_server *server = serve(&options, is_unix, 0);
        step_client *client = open_client(server, is_unix);
        CHECK_INT(wss_pause(server, last_conn), WSS_OK);
        step(server);
        say_and_go(client, 0, RESETS);
        turn(server, NULL, 0);
        check_end(RESETS);
        end(server, client, NULL);
    }
}

/* What waited for it, and what is sent to it from then on, is counted. */
static void what_was_for_it(void) {
    static char large[100000];
    wss_options options = {0};
    wss_stats stats;
    options.max_queued = 64 << 20;
    wss_server *server = serve(&options, 0, 0);
    step_client *client = open_client(server, 0);
    int accepted = 0;
    while (accepted < 400 && !wss_buffered(server, last_conn)) {
        accepted += wss_send_data(server, last_conn, WSS_BINARY, large, sizeof large) == WSS_OK;
        CHECK_INT(wss_poll(server, 0), WSS_OK);
    }
    for (int i = 0; i < 10; i++)
        accepted += wss_send_data(server, last_conn, WSS_BINARY, large, sizeof large) == WSS_OK;
    CHECK_INT(wss_pause(server, last_conn), WSS_OK);
    step(server);
    say_and_go(client, FEW, RESETS);
    turn(server, NULL, 0);
    CHECK_INT(wss_buffered(server, last_conn), 0);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.dropped_gone, 11);
    for (int i = 0; i < 3; i++) CHECK_INT(wss_send_data(server, last_conn, WSS_BINARY, "late", 4), WSS_OK);
    turn(server, NULL, 0);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.dropped_gone, 14);
    CHECK_INT(wss_resume(server, last_conn), WSS_OK);
    turn(server, NULL, 0);
    CHECK_INT(got, FEW);
    check_end(RESETS);
    end(server, client, NULL);
}

/* A counter that all may read means one thing, on whichever thread and however late: the bytes that came. */
static void bytes_that_came(void) {
    for (int queued = 0; queued <= 1; queued++) {
        wss_options options = {0};
        wss_stats stats;
        options.queue = queued ? wss_queue_create(NULL, NULL) : NULL;
        options.idle_ms = 2000;
        options.close_ms = 1000;
        wss_server *server = serve(&options, 0, 0);
        step_client *client = open_client(server, 0);
        step_frame(server, client, 0x82, "0123456789", 10);
        step_time(server, 4000); /* our Close, then the end of our stream */
        if (queued) wss_queue_poll(options.queue, 0);
        CHECK_INT(ends, 1);
        CHECK_INT(last_cause, WSS_CAUSE_IDLE_TIMEOUT);
        wss_get_stats(server, &stats);
        CHECK(last_bytes_in > 100);
        CHECK_INT(stats.bytes_in, last_bytes_in);
        end(server, client, options.queue);
    }
}

/* ---- a stop ---- */

static int asked;

static void on_request(const wss_event *e) {
    (void)e;
    asked++;
}

/* All that comes back until the stream ends: 0 where that was an end, else the error. */
static int read_out(wss_server *server, step_client *client) {
    for (int i = 0; i < 100; i++) {
        ssize_t size = recv(client->fd, client->data + client->size, sizeof client->data - 1 - client->size, 0);
        if (size == 0) return 0;
        if (size < 0 && errno != EAGAIN) return errno;
        if (size > 0) client->size += (size_t)size;
        client->data[client->size] = 0;
        wss_poll(server, 0);
    }
    return EAGAIN;
}

/* Who has connected when the server stops is told that it stops, whatever he said and however little of that the server
   had looked at; and nobody is asked any more. */
static void stop_with_handshakes_under_way(void) {
    static const char whole[] = "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n";
    static const char plain[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    const char *texts[] = {whole, plain, "GET / HT", ""};
    for (int is_unix = 0; is_unix <= 1; is_unix++) {
        for (int known = 0; known <= 2; known++) { /* waits at the listener; accepted; its first byte read */
            for (int handlers = 0; handlers <= 1; handlers++) {
                wss_options options = {0};
                wss_server *server = serve(&options, is_unix, 0);
                step_client *clients[4];
                asked = 0;
                if (handlers) wss_on_upgrade(server, on_request, NULL);
                if (handlers) wss_on_http(server, on_request, NULL);
                for (int i = 0; i < 4; i++) clients[i] = dial(server, is_unix);
                if (known) step(server);
                if (known == 2) for (int i = 0; i < 3; i++) step_write(server, clients[i], texts[i], 1);
                for (int i = 0; i < 4; i++) {
                    const char *rest = texts[i] + (known == 2 && i < 3);
                    CHECK_INT(send(clients[i]->fd, rest, strlen(rest), MSG_NOSIGNAL), strlen(rest));
                }
                wss_stop(server, 10000);
                CHECK_INT(wss_poll(server, 0), WSS_OK);
                for (int i = 0; i < 3; i++) send(clients[i]->fd, "more", 4, MSG_NOSIGNAL);
                for (int i = 0; i < 4; i++) {
                    CHECK_INT(read_out(server, clients[i]), 0);
                    CHECK(strncmp(clients[i]->data, "HTTP/1.1 503 ", 13) == 0);
                    close(clients[i]->fd);
                    clients[i]->fd = -1;
                }
                CHECK_INT(asked, 0);
                CHECK_INT(ends, 0);
                wss_poll(server, 0);
                CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
                for (int i = 0; i < 4; i++) step_free(clients[i]);
                step_end(server);
            }
        }
    }
}

/* There is no place for all of them: as many are answered as there are places. */
static void stop_with_more_than_places(void) {
    wss_options options = {0};
    options.max_connections = 2;
    wss_server *server = serve(&options, 0, 0);
    step_client *clients[4];
    int answered = 0;
    for (int i = 0; i < 4; i++) {
        clients[i] = dial(server, 0);
        CHECK_INT(send(clients[i]->fd, "GET", 3, MSG_NOSIGNAL), 3);
    }
    wss_stop(server, 10000);
    for (int i = 0; i < 4; i++) {
        read_out(server, clients[i]);
        answered += strncmp(clients[i]->data, "HTTP/1.1 503 ", 13) == 0;
    }
    CHECK_INT(answered, 2);
    for (int i = 0; i < 4; i++) step_free(clients[i]);
    step_end(server);
}

/* For what a stop says there is always memory: who is silent, is half through a head, waits for an answer or is open. */
static void stop_without_memory(void) {
    enum { SILENT, HALF, ASKED, OPEN, CLIENTS };
    for (int spread = 0; spread <= 1; spread++) {
        static const char plain[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        wss_options options = {0};
        options.stop_spread_ms = spread ? 50 : 0;
        wss_server *server = serve(&options, 0, 0);
        step_client *clients[CLIENTS];
        asked = 0;
        wss_on_http(server, on_request, NULL);
        for (int i = 0; i < OPEN; i++) clients[i] = dial(server, 0);
        clients[OPEN] = open_client(server, 0);
        clients[OPEN]->size = 0;
        step_write(server, clients[HALF], "GET / HT", 8);
        step_write(server, clients[ASKED], plain, sizeof plain - 1);
        CHECK_INT(asked, 1);
        step_failed = 0;
        step_fail_in = 1;
        step_fail_on = 1;
        wss_stop(server, 2000);
        step_time(server, 50);
        for (int i = 0; i < CLIENTS; i++) step_receive(clients[i]);
        step_fail_in = 0;
        step_fail_on = 0;
        CHECK_INT(step_failed, 0);
        for (int i = 0; i < OPEN; i++) CHECK(strncmp(clients[i]->data, "HTTP/1.1 503 ", 13) == 0);
        CHECK_INT(clients[OPEN]->size, 4);
        CHECK(memcmp(clients[OPEN]->data, "\x88\x02\x03\xe9", 4) == 0);
        for (int i = 0; i < CLIENTS; i++) step_free(clients[i]);
        step(server);
        CHECK_INT(ends, 1);
        step_end(server);
    }
}

/* Sends a large message, or the beginning of one, as far as it is taken. */
static void send_large(wss_server *server, step_client *client, int first, size_t size) {
    static char payload[1000000];
    static char frame[1000100];
    size_t left = step_make_frame(frame, first, payload, size);
    for (const char *at = frame; left;) {
        ssize_t sent = send(client->fd, at, left, MSG_NOSIGNAL);
        if (sent > 0) at += sent, left -= (size_t)sent;
        wss_poll(server, 0);
    }
}

/* Clients of a Unix socket close in the midst of messages while the application is behind: nobody may drop what they sent, so
   it must not count against the others, who would wait for ever. */
static void beginnings_hold_nobody_back(void) {
    enum { BROKEN = 9, WELL = 14 };
    step_client *broken[BROKEN];
    step_client *well[WELL];
    wss_options options = {0};
    options.queue = wss_queue_create(NULL, NULL);
    options.memory_budget = 24 << 20;
    wss_server *server = serve(&options, 1, 0);
    for (int i = 0; i < BROKEN; i++) {
        broken[i] = open_client(server, 1);
        step_frame(server, broken[i], 0x81, "hi", 2);
        send_large(server, broken[i], 0x01, 980000);
    }
    for (int i = 0; i < WELL; i++) {
        well[i] = open_client(server, 1);
        send_large(server, well[i], 0x82, 500000);
    }
    for (int i = 0; i < BROKEN; i++) step_free(broken[i]);
    step(server);
    for (int i = 0; i < 1000; i++) turn(server, options.queue, 0);
    CHECK_INT(ends, BROKEN);
    got = 0;
    for (int i = 0; i < WELL; i++) step_frame(server, well[i], 0x81, "hello", 5);
    for (int i = 0; i < 1000; i++) turn(server, options.queue, 0);
    CHECK_INT(got, WELL);
    for (int i = 0; i < WELL; i++) step_free(well[i]);
    CHECK_INT(wss_destroy(server), WSS_OK);
    CHECK_INT(wss_queue_destroy(options.queue), WSS_OK);
    CHECK_INT(step_bytes, 0);
}

int main(void) {
    alarm(120);
    snprintf(path, sizeof path, "unix:/tmp/wsserver-words-%d", (int)getpid());
    RUN(sends_fail);
    RUN(paused);
    RUN(paused_with_nothing_to_say);
    RUN(what_was_for_it);
    RUN(bytes_that_came);
    RUN(stop_with_handshakes_under_way);
    RUN(stop_with_more_than_places);
    RUN(stop_without_memory);
    RUN(beginnings_hold_nobody_back);
    return test_end("last_words");
}
