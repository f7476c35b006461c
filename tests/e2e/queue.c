/* options.queue: every handler on the thread that drains the queue, in order, with data of its own. */
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"

#include "../test.h"

#include "../client.h"

enum { MESSAGES = 2000, FLOOD = 4000, FLOOD_SIZE = 4000 };

static int connects;
static int messages;
static int disconnects;
static int freed;
static int wrong;
static pthread_t drainer;
static char thing[1];

static void on_connect(const wss_event *e) {
    if (!pthread_equal(pthread_self(), drainer)) wrong++;
    CHECK_INT(wss_set_user(e->server, e->conn, thing), WSS_OK);
    client_count(&connects);
}

static void on_data(const wss_event *e) {
    if (!pthread_equal(pthread_self(), drainer) || e->user != thing) wrong++;
    if (e->size < 4 || atoi(e->data) != messages) wrong++;
    client_count(&messages);
}

static void on_disconnect(const wss_event *e) {
    if (!pthread_equal(pthread_self(), drainer) || e->user != thing || freed != disconnects) wrong++;
    client_count(&disconnects);
}

static void user_free(void *user) {
    if (user != thing || freed + 1 != disconnects) wrong++;
    freed++;
}

static wss_server *serve(wss_queue *queue) {
    wss_options options = {0};
    options.address = "127.0.0.1";
    options.queue = queue;
    options.user_free = user_free;
    wss_server *server = wss_create(&options, NULL);
    if (!server) exit(1);
    connects = messages = disconnects = freed = wrong = 0;
    drainer = pthread_self();
    wss_on_connect(server, on_connect, NULL);
    wss_on_data(server, on_data, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    CHECK_INT(wss_start(server), WSS_OK);
    return server;
}

static void drain_until(wss_queue *queue, const int *counter, int want) {
    for (int i = 0; i < 100000 && client_counted(counter) < want; i++)
        if (wss_queue_poll(queue, CLIENT_SECONDS * 1000) != WSS_OK) break;
    CHECK_INT(client_counted(counter), want);
}

static void send_numbers(client *c, int count, size_t size) {
    char text[FLOOD_SIZE + 1];
    memset(text, 'x', sizeof text);
    for (int i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%d   ", i);
        CHECK(client_frame(c, 0x82, text, size));
    }
}

static void handlers_run_on_the_draining_thread(void) {
    wss_queue *queue = wss_queue_create(NULL, NULL);
    wss_server *server = serve(queue);
    client *c = client_open(server);
    drain_until(queue, &connects, 1);
    send_numbers(c, MESSAGES, 8);
    client_send_close(c, 1000, "");
    drain_until(queue, &disconnects, 1);
    CHECK_INT(messages, MESSAGES);
    CHECK_INT(freed, 1);
    CHECK_INT(wrong, 0);
    CHECK_INT(wss_queue_destroy(queue), WSS_ERR_BUSY);
    wss_stop(server, 1000);
    CHECK_INT(wss_queue_run(queue), WSS_OK); /* returns because the only server has stopped */
    client_free(c);
    CHECK_INT(wss_destroy(server), WSS_OK);
    CHECK_INT(wss_queue_destroy(queue), WSS_OK);
}

static void destroy_delivers_the_rest(void) {
    wss_queue *queue = wss_queue_create(NULL, NULL);
    wss_server *server = serve(queue);
    client *c = client_open(server);
    send_numbers(c, 10, 8);
    CHECK(client_frame(c, 0x89, "", 0));
    CHECK_INT(client_read(c), 0x8a); /* so the server has read all */
    CHECK_INT(client_counted(&connects), 0);
    client_free(c);
    CHECK_INT(wss_destroy(server), WSS_OK);
    CHECK_INT(connects, 1);
    CHECK_INT(messages, 10);
    CHECK_INT(disconnects, 1);
    CHECK_INT(freed, 1);
    CHECK_INT(wrong, 0);
    CHECK_INT(wss_queue_destroy(queue), WSS_OK);
}

static void two_servers_on_one_queue(void) {
    wss_queue *queue = wss_queue_create(NULL, NULL);
    wss_server *one = serve(queue);
    wss_server *two = serve(queue);
    client *first = client_open(one);
    client *second = client_open(two);
    drain_until(queue, &connects, 2);
    CHECK_INT(wss_destroy(one), WSS_OK);
    CHECK_INT(disconnects, 1);
    send_numbers(second, 5, 8);
    drain_until(queue, &messages, 5);
    wss_stop(two, 1);
    CHECK_INT(wss_queue_run(queue), WSS_OK);
    CHECK_INT(disconnects, 2);
    CHECK_INT(wrong, 0);
    client_free(first);
    client_free(second);
    CHECK_INT(wss_destroy(two), WSS_OK);
    CHECK_INT(wss_queue_destroy(queue), WSS_OK);
}

static void *flood(void *arg) {
    send_numbers((client *)arg, FLOOD, FLOOD_SIZE);
    return NULL;
}

/* 16 MB for a handler that does not run yet: reading pauses, and nothing is lost afterwards. */
static void a_flood_pauses_reading(void) {
    pthread_t thread;
    wss_stats stats;
    wss_queue *queue = wss_queue_create(NULL, NULL);
    wss_server *server = serve(queue);
    client *c = client_open(server);
    pthread_create(&thread, NULL, flood, c);
    drain_until(queue, &connects, 1);
    drain_until(queue, &messages, FLOOD);
    pthread_join(thread, NULL);
    wss_get_stats(server, &stats);
    CHECK(stats.memory_peak < 8 * 1024 * 1024);
    CHECK_INT(wrong, 0);
    client_free(c);
    CHECK_INT(wss_destroy(server), WSS_OK);
    CHECK_INT(disconnects, 1);
    CHECK_INT(wss_queue_destroy(queue), WSS_OK);
}

int main(void) {
    alarm(120);
    RUN(handlers_run_on_the_draining_thread);
    RUN(destroy_delivers_the_rest);
    RUN(two_servers_on_one_queue);
    RUN(a_flood_pauses_reading);
    return test_end("e2e/queue");
}
