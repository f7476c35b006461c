/* Every public call inside every kind of callback, on the loop's thread and on a queue's: each has a defined result, none
   runs another handler before it returns, and the server lives and gives everything back. */
#include "../step.h"

enum { CONNECT, DATA, MESSAGE, DISCONNECT, DRAIN, UPGRADE, HTTP, TIMER, POSTED, CONTEXTS };

static const char *const context_names[] = {"connect", "data", "message", "disconnect", "drain",
                                            "upgrade", "http", "timer",   "posted"};

static wss_server *server;
static wss_queue *queue;
static wss_conn own;   /* the connection of the callback, if any */
static wss_conn other; /* one that is open all the time */
static wss_timer timer;
static int inside;
static int nested;
static int ran;
static int wanted_context;
static int user_free_calls;

static void on_extra(const wss_event *e) {
    (void)e;
    nested += inside;
}

static void posted(void *arg) {
    (void)arg;
    nested += inside;
}

static void free_user(void *user) {
    user_free_calls++;
    free(user);
}

static char big[100000];

/* True if the result is WSS_OK or one of these errors. */

static int may(int result, const char *errors) {
    const char *name = "WSS_OK";
    switch (result) {
#define NAME(code, value, text) \
    case value: name = #code; break;
        WSS_ERROR_TABLE(NAME)
#undef NAME
    default: break;
    }
    if (result == WSS_OK || strstr(errors, name)) return 1;
    printf("%s: unexpected %s\n", context_names[wanted_context], name);
    return 0;
}

static void a_send(void) { CHECK(may(wss_send(server, own, "t", wss_json("{\"a\":1}")), "WSS_ERR_GONE WSS_ERR_FULL")); }
static void a_send_other(void) { CHECK(may(wss_send(server, other, "t", wss_json("{}")), "")); }
static void a_send_big(void) {
    for (int i = 0; i < 20; i++)
        CHECK(may(wss_send_data(server, own, WSS_BINARY, big, sizeof big), "WSS_ERR_GONE WSS_ERR_FULL"));
}
static void a_send_latest(void) { CHECK(may(wss_send_latest(server, own, "k", "t", wss_json("{}")), "WSS_ERR_GONE WSS_ERR_FULL")); }
static void a_broadcast(void) { CHECK(may(wss_broadcast(server, "t", wss_json("{}")), "")); }
static void a_broadcast_big(void) { CHECK(may(wss_broadcast_data(server, WSS_BINARY, big, sizeof big), "")); }
static void a_broadcast_except(void) { CHECK(may(wss_broadcast_except(server, own, "t", wss_json("{}")), "")); }
static void a_close(void) {
    CHECK(may(wss_close(server, own, 1000, "done"), "WSS_ERR_GONE"));
    if (own.id) CHECK_INT(wss_send(server, own, "t", wss_json("{}")), WSS_ERR_GONE);
}
static void a_close_other(void) { CHECK(may(wss_close(server, other, 1000, NULL), "")); }
static void a_close_all(void) {
    wss_conn conn = {0};
    while ((conn = wss_next(server, conn)).id) wss_close(server, conn, 4000, NULL);
}
static void a_post(void) { CHECK(may(wss_post(server, posted, NULL), "")); }
static void a_register(void) {
    CHECK(may(wss_on_data(server, on_extra, NULL), ""));
    CHECK(may(wss_on_message(server, "t", on_extra, NULL), ""));
    CHECK(may(wss_on_disconnect(server, on_extra, NULL), ""));
}
static void a_timer(void) {
    wss_timer made = wss_timer_start(server, 1, 0, on_extra, NULL);
    CHECK(made.id != 0);
    CHECK(may(wss_timer_cancel(server, made), ""));
    CHECK(may(wss_timer_cancel(server, timer), "WSS_ERR_GONE"));
}
static void a_user(void) {
    void *user = malloc(4);
    if (wanted_context == UPGRADE) CHECK_INT(wss_set_user(server, own, user), WSS_ERR_GONE); /* accepting sets it */
    if (wss_set_user(server, own, user) != WSS_OK) free(user);
}
static void a_pause(void) {
    CHECK(may(wss_pause(server, own), "WSS_ERR_GONE"));
    CHECK(may(wss_resume(server, own), "WSS_ERR_GONE"));
}
static void a_look(void) {
    wss_info info;
    wss_stats stats;
    wss_options options;
    wss_get_stats(server, &stats);
    wss_get_options(server, &options);
    CHECK(may(wss_get_info(server, own, &info), "WSS_ERR_GONE"));
    CHECK_INT(stats.connections, wss_count(server));
    wss_buffered(server, own);
}
static void a_accept(void) { CHECK(may(wss_accept(server, own, NULL, NULL, 0, NULL), "WSS_ERR_GONE WSS_ERR_ANSWERED WSS_ERR_ARGUMENT")); }
static void a_refuse(void) { CHECK(may(wss_refuse(server, own, NULL), "WSS_ERR_GONE WSS_ERR_ANSWERED WSS_ERR_ARGUMENT")); }
static void a_reply(void) { CHECK(may(wss_reply(server, own, NULL), "WSS_ERR_GONE WSS_ERR_ANSWERED WSS_ERR_ARGUMENT")); }
static void a_busy(void) {
    CHECK_INT(wss_destroy(server), WSS_ERR_BUSY);
    CHECK_INT(wss_poll(server, 0), WSS_ERR_BUSY);
    CHECK_INT(wss_run(server), WSS_ERR_BUSY);
    CHECK_INT(wss_start(server), WSS_ERR_BUSY);
    if (queue) CHECK_INT(wss_queue_poll(queue, 0), WSS_ERR_BUSY);
    if (queue) CHECK_INT(wss_queue_destroy(queue), WSS_ERR_BUSY);
}
static void a_stop(void) {
    wss_stop(server, 100);
    CHECK_INT(wss_send(server, other, "t", wss_json("{}")), WSS_ERR_STOPPED);
    CHECK_INT(wss_broadcast(server, "t", wss_json("{}")), WSS_ERR_STOPPED);
    CHECK_INT(wss_post(server, posted, NULL), WSS_ERR_STOPPED);
    CHECK_INT((long long)wss_timer_start(server, 1, 0, on_extra, NULL).id, 0);
}

static void (*const actions[])(void) = {
    a_send,  a_send_other, a_send_big, a_send_latest, a_broadcast, a_broadcast_big, a_broadcast_except,
    a_close, a_close_other, a_close_all, a_post, a_register, a_timer, a_user, a_pause, a_look, a_accept,
    a_refuse, a_reply, a_busy, a_stop};

static void (*action)(void);

static void callback(int context, wss_conn conn) {
    nested += inside;
    if (context != wanted_context || ran) return;
    ran = 1;
    own = conn;
    inside = 1;
    action();
    inside = 0;
}

static void on_connect(const wss_event *e) {
    if (other.id) callback(CONNECT, e->conn);
    else other = e->conn;
}
static void on_data(const wss_event *e) { callback(DATA, e->conn); }
static void on_message(const wss_event *e) { callback(MESSAGE, e->conn); }
static void on_disconnect(const wss_event *e) { callback(DISCONNECT, e->conn); }
static void on_drain(const wss_event *e) { callback(DRAIN, e->conn); }
static void on_http(const wss_event *e) { callback(HTTP, e->conn); }
static void on_timer(const wss_event *e) { callback(TIMER, e->conn); }
static void on_posted(void *arg) {
    wss_conn none = {0};
    (void)arg;
    callback(POSTED, none);
}
static void on_upgrade(const wss_event *e) {
    if (other.id) callback(UPGRADE, e->conn);
    wss_accept(e->server, e->conn, NULL, NULL, 0, NULL);
}

static void turn(void) {
    for (int i = 0; i < 3; i++) {
        step(server);
        if (queue) wss_queue_poll(queue, 0);
    }
}

/* Opens a client, by hand where handlers run on the queue. */
static step_client *open_client(void) {
    step_client *client = step_connect(server);
    const char *request = "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n";
    step_write(server, client, request, strlen(request));
    turn();
    step_receive(client);
    client->size = 0;
    return client;
}

static void fill(wss_conn conn, step_client *client) {
    for (int i = 0; i < 200 && wss_send_data(server, conn, WSS_BINARY, big, sizeof big) == WSS_OK; i++) turn();
    for (int quiet = 0; quiet < 20; quiet++) {
        client->size = 0;
        if (step_receive(client)) quiet = 0;
        turn();
    }
}

static void provoke(int context, step_client *client, wss_conn last) {
    static const char typed[] = "{\"__MESSAGE__\":\"t\",\"a\":1}";
    const char *request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    step_client *extra = NULL;
    switch (context) {
    case DATA:
    case MESSAGE: step_frame(server, client, 0x81, typed, sizeof typed - 1); break;
    case DISCONNECT: step_frame(server, client, 0x88, "\x03\xe8", 2); break;
    case DRAIN: fill(last, client); break;
    case HTTP:
        extra = step_connect(server);
        step_write(server, extra, request, strlen(request));
        break;
    case TIMER: step_time(server, 50); break;
    case POSTED: wss_post(server, on_posted, NULL); break;
    default: break;
    }
    turn();
    turn();
    if (extra) step_free(extra);
}

static wss_conn last_conn(void) {
    wss_conn conn = {0};
    wss_conn last = {0};
    while ((conn = wss_next(server, conn)).id)
        if (conn.id != other.id) last = conn;
    return last;
}

static void cell(int context, size_t number, int with_queue) {
    wss_options options = {0};
    ran = 0;
    other.id = 0;
    wanted_context = context;
    action = actions[number];
    options.user_free = free_user;
    options.max_queued = 300000;
    queue = with_queue ? wss_queue_create(NULL, NULL) : NULL;
    options.queue = queue;
    server = step_server(&options);
    wss_on_connect(server, on_connect, NULL);
    wss_on_data(server, on_data, NULL);
    wss_on_message(server, "t", on_message, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    wss_on_drain(server, on_drain, NULL);
    wss_on_http(server, on_http, NULL);
    wss_on_upgrade(server, on_upgrade, NULL);
    timer = wss_timer_start(server, 50, 0, on_timer, NULL);
    step_client *first = open_client();
    step_client *second = open_client();
    provoke(context, second, last_conn());
    if (!ran) printf("%s %zu %s queue: the callback did not run\n", context_names[context], number, with_queue ? "with" : "without");
    CHECK(ran);
    step_free(first);
    step_free(second);
    turn();
    step_end(server);
    if (queue) CHECK_INT(wss_queue_destroy(queue), WSS_OK);
}

static void on_the_loop(void) {
    for (int context = 0; context < CONTEXTS; context++)
        for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) cell(context, i, 0);
    CHECK_INT(nested, 0);
}

static void on_the_queue(void) {
    for (int context = 0; context < CONTEXTS; context++)
        for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
            if (context != POSTED) cell(context, i, 1);
    CHECK_INT(nested, 0);
}

int main(void) {
    alarm(100);
    RUN(on_the_loop);
    RUN(on_the_queue);
    return test_end("reentrancy");
}
