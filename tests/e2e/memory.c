/* Every allocation fails once, and from some moment on: the call or the connection that needed it fails, the server lives,
   a bystander keeps its echo, and everything is given back. */
#include "../step.h"

static wss_queue *queue;
static int ended;
static wss_conn bystander_conn;

static void on_data(const wss_event *e) {
    wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

static void on_typed(const wss_event *e) {
    wss_send(e->server, e->conn, "reply", e->args);
}

static void on_end(const wss_event *e) {
    (void)e;
    ended++;
}

static void on_timer(const wss_event *e) {
    (void)e;
}

static void on_upgrade(const wss_event *e) {
    const wss_header header = {"X-Long", "value value value value value value value value value value value value"};
    char protocol[32];
    const char *chosen = wss_request_protocol(e->request, 0, protocol, sizeof protocol, NULL) == WSS_OK ? protocol : NULL;
    if (wss_accept(e->server, e->conn, chosen, &header, 1, NULL) != WSS_OK) wss_refuse(e->server, e->conn, NULL);
}

static void on_http(const wss_event *e) {
    static const char body[3000] = "body";
    wss_answer answer;
    memset(&answer, 0, sizeof answer);
    answer.body = body;
    answer.size = sizeof body;
    wss_reply(e->server, e->conn, &answer);
}

static void posted(void *arg) {
    (void)arg;
}

static void turn(wss_server *server) {
    for (int i = 0; i < 2; i++) {
        step(server);
        if (queue) wss_queue_poll(queue, 0);
        step(server);
    }
}

static void use(wss_server *server, step_client *client, const char *text) {
    step_write(server, client, text, strlen(text));
    turn(server);
    client->size = 0;
    while (step_receive(client)) {
        client->size = 0;
        turn(server);
    }
}

static char big[40000];

static void use_frame(wss_server *server, step_client *client, int first, const char *payload, size_t size) {
    step_frame(server, client, first, payload, size);
    use(server, client, "");
}

/* A bit of everything that allocates. */
static void scenario(wss_server *server) {
    wss_conn none = {0};
    step_client *web = step_connect(server);
    step_client *slow = step_connect(server);
    use(server, web, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    step_client *client = step_connect(server);
    use(server, slow, "GET /path HTTP/1.1\r\nHost: a");
    use(server, client, "GET /some/path HTTP/1.1\r\nSec-WebSocket-Protocol: chat\r\n" STEP_UPGRADE "\r\n");
    use_frame(server, client, 0x81, "hello", 5);
    use_frame(server, client, 0x81, "{\"__MESSAGE__\":\"typed\",\"a\":[1,2,3]}", 35);
    use_frame(server, client, 0x01, big, 3000);
    use_frame(server, client, 0x89, "ping", 4);
    use_frame(server, client, 0x80, big, 30000);
    wss_on_message(server, "late", on_typed, NULL);
    wss_broadcast(server, "all", wss_json("{\"a\":1}"));
    for (int i = 0; i < 12; i++) wss_broadcast_data(server, WSS_BINARY, big, sizeof big);
    wss_broadcast_latest(server, "key", "all", wss_json("{}"));
    wss_post(server, posted, NULL);
    wss_timer timer = wss_timer_start(server, 10, 0, on_timer, NULL);
    wss_timer_start(server, 5, 0, on_timer, NULL);
    wss_conn last = {0};
    for (wss_conn conn = wss_next(server, none); conn.id; conn = wss_next(server, conn))
        if (conn.id != bystander_conn.id) last = conn;
    wss_send_data(server, last, WSS_TEXT, big, sizeof big);
    wss_pause(server, last);
    wss_resume(server, last);
    turn(server);
    step_time(server, 20);
    turn(server);
    wss_timer_cancel(server, timer);
    wss_close(server, last, 1000, "enough of this");
    turn(server);
    step_free(web);
    step_free(slow);
    step_free(client);
    turn(server);
}

/* Runs the scenario with the n-th allocation failing; false once there are fewer than n. */
static int run(long n, int on, int with_queue) {
    wss_options options = {0};
    queue = with_queue ? wss_queue_create(NULL, NULL) : NULL;
    options.queue = queue;
    wss_server *server = step_server(&options);
    wss_on_data(server, on_data, NULL);
    wss_on_message(server, "typed", on_typed, NULL);
    wss_on_disconnect(server, on_end, NULL);
    wss_on_upgrade(server, on_upgrade, NULL);
    wss_on_http(server, on_http, NULL);
    step_client *bystander = step_connect(server);
    use(server, bystander, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
    CHECK_INT(wss_count(server), 1);
    wss_conn none = {0};
    bystander_conn = wss_next(server, none);
    step_failed = 0;
    step_fail_in = n;
    step_fail_on = on;
    scenario(server);
    step_fail_in = 0;
    int hit = step_failed != 0;
    for (wss_conn conn = wss_next(server, none); conn.id; conn = wss_next(server, conn)) wss_resume(server, conn);
    bystander->size = 0;
    use(server, bystander, "");
    if (!bystander->ended) {
        step_frame(server, bystander, 0x81, "alive", 5);
        turn(server);
        step_receive(bystander);
        CHECK(bystander->size == 7 && memcmp(bystander->data, "\x81\x05" "alive", 7) == 0);
    }
    /* It may have been closed only if what it was owed could not be kept. */
    CHECK(!bystander->ended || on || hit);
    CHECK_INT(wss_count(server), bystander->ended ? 0 : 1);
    step_free(bystander);
    turn(server);
    step_end(server);
    if (queue) wss_queue_destroy(queue);
    return hit;
}

static void sweep(int on, int with_queue) {
    long n = 1;
    memset(big, 'b', sizeof big);
    while (test_broken < 5 && run(n, on, with_queue)) n++;
    printf("%ld points, failing %s%s\n", n - 1, on ? "from then on" : "once", with_queue ? ", with a queue" : "");
    CHECK(n > 30);
}

static void fails_once(void) { sweep(0, 0); }
static void fails_from_then_on(void) { sweep(1, 0); }
static void fails_once_with_a_queue(void) { sweep(0, 1); }
static void fails_from_then_on_with_a_queue(void) { sweep(1, 1); }

/* wss_create and wss_queue_create: nothing is left behind, and the error says what it was. */
static void creation(void) {
    long n = 1;
    for (;; n++) {
        wss_options options = {0};
        wss_error why;
        options.address = "127.0.0.1";
        options.allocator = step_allocator;
        options.threads = 2;
        step_failed = 0;
        step_fail_in = n;
        wss_server *server = wss_create(&options, &why);
        step_fail_in = 0;
        wss_destroy(server);
        CHECK_INT(step_bytes, 0);
        if (!step_failed) break;
        CHECK(server == NULL);
        CHECK_INT(why.code, WSS_ERR_MEMORY);
        CHECK(strlen(why.text) > 0);
    }
    CHECK(n > 5);
    wss_options options = {0};
    options.allocator = step_allocator;
    step_fail_in = 1;
    CHECK(wss_queue_create(&options, NULL) == NULL);
    step_fail_in = 0;
    CHECK_INT(step_bytes, 0);
}

static void failed_registration(void) {
    wss_options options = {0};
    options.address = "127.0.0.1";
    options.allocator = step_allocator;
    wss_server *server = wss_create(&options, NULL);
    step_fail_in = 1;
    CHECK_INT(wss_on_connect(server, on_data, NULL), WSS_ERR_MEMORY);
    step_fail_in = 0;
    CHECK_INT(wss_run(server), WSS_ERR_MEMORY);
    step_end(server);
}

static void never_asked(const wss_event *e) {
    (void)e;
    CHECK(0);
}

/* A request that cannot be kept for the application is refused with 503. */
static void request_that_finds_no_memory(void) {
    wss_options options = {0};
    wss_server *server = step_server(&options);
    wss_on_upgrade(server, never_asked, NULL);
    wss_on_http(server, never_asked, NULL);
    for (int upgrade = 0; upgrade < 2; upgrade++) {
        step_client *client = step_connect(server);
        step(server);
        step_fail_in = 1;
        step_fail_on = 1;
        const char *answer = step_ask(server, client, upgrade ? "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n"
                                                              : "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        CHECK(strncmp(answer, "HTTP/1.1 503 ", 13) == 0);
        step_fail_in = 0;
        step_fail_on = 0;
        step_free(client);
        step(server);
    }
    step_end(server);
}

static long accept_fails_in;
static int accepted_at_last;

static void accept_while_it_fails(const wss_event *e) {
    wss_info info;
    step_fail_in = accept_fails_in;
    int result = wss_accept(e->server, e->conn, "chat", NULL, 0, NULL);
    accepted_at_last = step_fail_in != 0;
    step_fail_in = 0;
    CHECK(result == WSS_OK || result == WSS_ERR_MEMORY);
    CHECK_INT(wss_get_info(e->server, e->conn, &info), WSS_OK);
    CHECK(!info.protocol[0] || strcmp(info.protocol, "chat") == 0);
    CHECK(!accepted_at_last || info.protocol[0]);
}

/* Each allocation of an acceptance fails in turn: it is refused, or only what wss_get_info says is not kept. */
static void acceptance_that_finds_no_memory(void) {
    wss_options options = {0};
    wss_server *server = step_server(&options);
    wss_on_upgrade(server, accept_while_it_fails, NULL);
    accepted_at_last = 0;
    for (accept_fails_in = 1; accept_fails_in < 10 && !accepted_at_last; accept_fails_in++) {
        step_client *client = step_connect(server);
        step_ask(server, client, "GET / HTTP/1.1\r\n" STEP_UPGRADE "Sec-WebSocket-Protocol: chat\r\n\r\n");
        step_free(client);
        step(server);
    }
    CHECK(accepted_at_last && accept_fails_in > 2);
    step_end(server);
}

static void ring(const wss_event *e) {
    (void)e;
}

/* A timer that cannot be started takes no place. */
static void timer_that_finds_no_memory(void) {
    wss_options options = {0};
    wss_server *server = step_server(&options);
    wss_timer timer = wss_timer_start(server, 1000, 0, ring, NULL);
    CHECK(timer.id != 0);
    CHECK_INT(server->timers.live, 1);
    for (int i = 0; i < 3; i++) {
        step_fail_in = 1;
        timer = wss_timer_start(server, 1000, 0, ring, NULL);
        CHECK_INT((long long)timer.id, 0);
        CHECK_INT(server->timers.live, 1);
    }
    step_fail_in = 0;
    step_end(server);
}

int main(void) {
    alarm(100);
    RUN(creation);
    RUN(failed_registration);
    RUN(fails_once);
    RUN(fails_from_then_on);
    RUN(fails_once_with_a_queue);
    RUN(fails_from_then_on_with_a_queue);
    RUN(request_that_finds_no_memory);
    RUN(acceptance_that_finds_no_memory);
    RUN(timer_that_finds_no_memory);
    return test_end("memory");
}
