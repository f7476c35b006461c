/* Under the mutex of the connections nothing is allocated, no system call is made, nothing of the application's runs, and
   nothing large is copied: whoever needs it never waits for more than a few steps. One thread goes through a life of everything,
   and each of these looks whether the mutex is held. */
#define _GNU_SOURCE 1
#include <string.h>

#define WSSERVER_STATIC
#include "../../wsserver.h" /* the declarations: below the whole of it is compiled, in such a way that it can be watched */

static void watch(const char *what);
static void *watched_copy(void *to, const void *from, size_t size);

#undef memcpy
#define memcpy(to, from, size) watched_copy(to, from, size)
#define WSSERVER_SYSTEM(name) (watch(#name), test_system.name)
#include "../step.h"
#undef memcpy

enum { BODY = 1 << 20, COPY_MOST = 256 };

static wss_server *server; /* NULL: it is not watched */
static long looks, breaches, large_copies;
static long clocks; /* of the clock alone, which most systems read without the kernel */
static const char *breach;
static char body[BODY];
static wss_conn newest, asked;
static int told[WSS_EVENT_TIMER + 1];

static int is_held(void) {
    if (!server) return 0;
    if (pthread_mutex_trylock(&server->conns.mutex) != 0) return 1;
    pthread_mutex_unlock(&server->conns.mutex);
    return 0;
}

static void watch(const char *what) {
    looks++;
    if (!is_held()) return;
    if (strcmp(what, "clock_gettime") == 0) clocks++;
    else breaches++;
    breach = what;
}

static void *watched_copy(void *to, const void *from, size_t size) {
    if (size > COPY_MOST && is_held()) large_copies++;
    return memmove(to, from, size);
}

static void *watched_allocator(void *context, void *pointer, size_t old_size, size_t new_size) {
    watch("the allocator");
    return step_allocator(context, pointer, old_size, new_size);
}

static void watched_log(void *context, int level, const char *text) {
    (void)context;
    (void)level;
    (void)text;
    watch("log");
}

static void watched_free(void *user) {
    (void)user;
    watch("user_free");
}

static void everything_about(wss_conn conn) {
    wss_info info;
    wss_stats stats;
    wss_conn none = {0};
    wss_get_info(server, conn, &info);
    wss_get_stats(server, &stats);
    wss_buffered(server, conn);
    wss_set_user(server, conn, &newest);
    for (wss_conn at = wss_next(server, none); at.id; at = wss_next(server, at)) wss_get_info(server, at, &info);
}

static void send_to(wss_conn conn) {
    wss_send(server, conn, "typed", wss_json("{\"a\":[1,2,3]}"));
    wss_send_data(server, conn, WSS_BINARY, body, 3000);
    wss_send_data(server, conn, WSS_BINARY, body, 40000);
    wss_send_latest(server, conn, "key", "typed", wss_json("{\"a\":1}"));
    wss_send_latest(server, conn, "key", "typed", wss_json("{\"a\":2}"));
    wss_broadcast(server, "typed", wss_json("{\"all\":true}"));
    wss_broadcast_data(server, WSS_BINARY, body, 5000);
    wss_broadcast_data_except(server, conn, WSS_BINARY, body, 500);
    wss_broadcast_latest(server, "key", "typed", wss_json("{}"));
    wss_pause(server, conn);
    wss_resume(server, conn);
}

static void on_any(const wss_event *e) {
    watch("a handler");
    told[e->kind]++;
    if (e->kind == WSS_EVENT_CONNECT) newest = e->conn;
    if (e->conn.id) everything_about(e->conn);
}

static void on_data(const wss_event *e) {
    on_any(e);
    send_to(e->conn);
    if (e->size == 3) wss_close(server, e->conn, 4000, "a reason of some length, as an application may have one to give");
}

static void posted(void *arg) {
    (void)arg;
    watch("a posted function");
    wss_broadcast_data(server, WSS_TEXT, "posted", 6);
}

static void answer(wss_conn conn, int how) {
    const wss_header header = {"X-Header", "a value"};
    wss_answer large;
    memset(&large, 0, sizeof large);
    large.body = body;
    large.size = sizeof body;
    if (how == 0) CHECK_INT(wss_accept(server, conn, "chat", &header, 1, &newest), WSS_OK);
    if (how == 1) CHECK_INT(wss_refuse(server, conn, &large), WSS_OK);
    if (how == 2) CHECK_INT(wss_reply(server, conn, &large), WSS_OK);
}

/* What is wanted stands in the path; /later... is answered from outside. */
static void on_request(const wss_event *e) {
    const char *target = wss_request_target(e->request);
    on_any(e);
    asked = e->conn;
    if (strncmp(target, "/later", 6) != 0)
        answer(e->conn, e->kind == WSS_EVENT_HTTP ? 2 : strncmp(target, "/refuse", 7) == 0);
}

static void turn(void) {
    for (int i = 0; i < 3; i++) {
        step(server);
        if (server->options.queue) wss_queue_poll(server->options.queue, 0);
    }
    step(server);
}

/* Reads all that comes and forgets it. Returns how much. */
static size_t swallow(step_client *client) {
    size_t all = 0;
    do {
        all += client->size;
        client->size = 0;
        turn();
    } while (step_receive(client));
    return all;
}

static step_client *request(const char *path, const char *lines, size_t *got) {
    char text[1000];
    step_client *client = step_connect(server);
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\n%s\r\n", path, lines);
    step_write(server, client, text, strlen(text));
    size_t size = swallow(client);
    if (got) *got = size;
    return client;
}

#define UPGRADE STEP_UPGRADE "Sec-WebSocket-Protocol: chat\r\n"

static void live(wss_queue *queue) {
    wss_options options = {0};
    size_t got;
    char path[64];
    snprintf(path, sizeof path, "/tmp/wsserver-mutex-%d", (int)getpid());
    char address[128];
    snprintf(address, sizeof address, "127.0.0.1,unix:%s", path);
    options.address = address;
    options.queue = queue;
    options.allocator = watched_allocator;
    options.log = watched_log;
    options.log_level = WSS_LOG_DEBUG;
    options.user_free = watched_free;
    options.max_per_address = 100;
    options.max_queued = 200000;
    server = NULL;
    server = wss_create(&options, NULL);
    if (!server) abort();
    memset(told, 0, sizeof told);
    wss_on_connect(server, on_any, NULL);
    wss_on_disconnect(server, on_any, NULL);
    wss_on_drain(server, on_any, NULL);
    wss_on_data(server, on_data, NULL);
    wss_on_message(server, "typed", on_any, NULL);
    wss_on_upgrade(server, on_request, NULL);
    wss_on_http(server, on_request, NULL);
    turn();
    step_client *first = request("/accept/a/path", UPGRADE, NULL);
    wss_conn conn = newest;
    step_client *second = request("/accept", UPGRADE, NULL);
    CHECK_INT(told[WSS_EVENT_CONNECT], 2);
    step_free(request("/refuse", UPGRADE, &got));
    CHECK(got > BODY);
    step_free(request("/page", "Host: localhost\r\n", &got));
    CHECK(got > BODY);
    for (int how = 0; how < 3; how++) { /* answered by another thread, as far as the server can tell */
        step_client *later = request("/later", how == 2 ? "Host: localhost\r\n" : UPGRADE, NULL);
        answer(asked, how);
        CHECK(swallow(later) > (how ? BODY : 0));
        step_free(later);
        turn();
    }
    step_frame(server, first, 0x81, "hello", 5);
    step_frame(server, first, 0x81, "{\"__MESSAGE__\":\"typed\",\"a\":1}", 30);
    step_frame(server, first, 0x01, body, 3000);
    step_frame(server, first, 0x89, "ping", 4);
    step_frame(server, first, 0x80, body, 30000);
    turn();
    everything_about(conn);
    send_to(conn);
    wss_post(server, posted, NULL);
    wss_timer once = wss_timer_start(server, 10, 0, on_any, NULL);
    wss_timer_start(server, 5, 5, on_any, NULL);
    wss_timer_cancel(server, once);
    wss_timer_start(server, 5, 0, on_any, NULL);
    turn();
    step_time(server, 20);
    turn();
    CHECK(told[WSS_EVENT_TIMER] >= 2);
    for (int i = 0; i < 100 && wss_buffered(server, newest) < 150000; i++) wss_send_data(server, newest, WSS_BINARY, body, 10000);
    while (swallow(first)) {}
    while (swallow(second)) {}
    step_frame(server, second, 0x81, "bye", 3);
    turn();
    CHECK_INT(wss_close(server, conn, 1000, "and from outside"), WSS_OK);
    turn();
    step_free(second);
    wss_options given;
    wss_get_options(server, &given);
    struct sockaddr_un to;
    memset(&to, 0, sizeof to);
    to.sun_family = AF_UNIX;
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    step_client local = {0};
    local.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK_INT(connect(local.fd, (struct sockaddr *)(void *)&to, sizeof to), 0);
    CHECK(strncmp(step_ask(server, &local, "GET /later HTTP/1.1\r\n" UPGRADE "\r\n"), "HTTP", 4) != 0);
    turn();
    answer(asked, 0);
    turn();
    CHECK(swallow(&local) > 100);
    everything_about(newest);
    struct linger linger = {1, 0};
    setsockopt(first->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    step_free(first); /* a reset */
    turn();
    wss_stop(server, 0);
    for (int i = 0; i < 100 && wss_poll(server, 0) == WSS_OK; i++)
        if (queue) wss_queue_poll(queue, 0);
    if (queue) wss_queue_poll(queue, 0);
    CHECK_INT(told[WSS_EVENT_CONNECT], told[WSS_EVENT_DISCONNECT]);
    CHECK_INT(told[WSS_EVENT_CONNECT], 4);
    close(local.fd);
    wss_server *ended = server;
    server = NULL; /* its mutex goes with it */
    CHECK_INT(wss_destroy(ended), WSS_OK);
}

static void nothing_under_the_mutex(void) {
    looks = breaches = large_copies = clocks = 0;
    live(NULL);
    wss_queue *queue = wss_queue_create(NULL, NULL);
    live(queue);
    CHECK_INT(wss_queue_destroy(queue), WSS_OK);
    CHECK(looks > 1000);
    if (breaches) printf("under the mutex, the last: %s\n", breach);
    CHECK_INT(breaches, 0);
    CHECK_INT(large_copies, 0);
    CHECK_INT(step_bytes, 0);
}

__attribute__((unused)) static void not_even_the_clock(void) {
    nothing_under_the_mutex();
    CHECK_INT(clocks, 0);
}

/* Each of them is noticed where it is. */
static void it_would_be_noticed(void) {
    wss_options options = {0};
    options.address = "127.0.0.1";
    server = wss_create(&options, NULL);
    if (!server) abort();
    breaches = large_copies = clocks = 0;
    pthread_mutex_lock(&server->conns.mutex);
    free(watched_allocator(NULL, NULL, 0, 10));
    step_bytes -= 10;
    CHECK_INT(breaches, 1);
    wss__socket_close(dup(0));
    CHECK_INT(breaches, 2);
    CHECK_TEXT(breach, "close");
    wss__socket_clock();
    CHECK_INT(clocks, 1);
    watched_log(NULL, 1, "");
    CHECK_INT(breaches, 3);
    size_t size;
    char *copy = wss__conn_copy(server, wss__base_span(body, COPY_MOST), &size);
    CHECK_INT(large_copies, 0);
    wss__mem_free(&server->mem, copy, size);
    copy = wss__conn_copy(server, wss__base_span(body, COPY_MOST + 1), &size);
    CHECK_INT(large_copies, 1);
    wss__mem_free(&server->mem, copy, size);
    pthread_mutex_unlock(&server->conns.mutex);
    watch("nothing");
    CHECK_INT(breaches, 3);
    wss_server *ended = server;
    server = NULL;
    wss_destroy(ended);
}

int main(void) {
    alarm(100);
    RUN(nothing_under_the_mutex);
    RUN(not_even_the_clock);
    RUN(it_would_be_noticed);
    return test_end("mutex");
}
