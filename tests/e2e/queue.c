/* options.queue: every handler on the thread that drains the queue, in order, with events it owns; and the queue by itself. */
#include "../host.h"

static pthread_t drainer;
static int elsewhere; /* handlers that ran on another thread */
static int connects;
static int messages;
static int ends;
static int freed;
static wss_conn conn;

static void here(void) {
    if (!pthread_equal(pthread_self(), drainer)) host_count(&elsewhere);
}

static void on_connect(const wss_event *e) {
    here();
    conn = e->conn;
    host_say("connect(%zu)", wss_count(e->server));
    host_count(&connects);
}

static void on_data(const wss_event *e) {
    here();
    if (e->size < 100) host_say("data(%.*s)", (int)e->size, e->data);
    host_count(&messages);
}

static void on_message(const wss_event *e) {
    here();
    host_say("%s%s", e->type, e->args.text);
    CHECK_INT(strlen(e->args.text), e->args.length);
}

static void on_disconnect(const wss_event *e) {
    here();
    host_say("disconnect(%zu,%d,%s)", wss_count(e->server), e->code, e->reason);
    host_count(&ends);
}

static void free_user(void *user) {
    here();
    host_say("free(%s)", (char *)user);
    host_count(&freed);
}

static wss_server *watch(wss_server *server) {
    connects = 0;
    messages = 0;
    ends = 0;
    freed = 0;
    elsewhere = 0;
    conn.id = 0;
    drainer = pthread_self();
    host_forget();
    wss_on_connect(server, on_connect, NULL);
    wss_on_data(server, on_data, NULL);
    wss_on_message(server, "m", on_message, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    return server;
}

static wss_queue *make_queue(void) {
    wss_options options = {0};
    wss_error why;
    options.allocator = host_allocator;
    options.allocator_context = &host_memory;
    wss_queue *queue = wss_queue_create(&options, &why);
    CHECK(queue != NULL);
    return queue;
}

/* A server whose network is turned while clients wait; the queue only where the test drains it. */
static void turn_network(void) {
    wss_poll(host, 1);
}

static wss_server *serve(wss_options *options) {
    wss_queue *queue = make_queue();
    options->queue = queue;
    options->user_free = free_user;
    host_drive(options);
    client_turn = turn_network;
    watch(host);
    host_queue = queue;
    return host;
}

static void drain(void) {
    while (poll(&(struct pollfd){wss_queue_fd(host_queue), POLLIN, 0}, 1, 0) > 0)
        if (wss_queue_poll(host_queue, 0) != WSS_OK) break;
}

/* ---- the queue by itself ---- */

static wss_queue *alone;

static void say(void *arg) {
    host_say("%s", (char *)arg);
}

static char name_a[] = "a";
static char name_b[] = "b";
static char name_c[] = "c";

static void say_and_post(void *arg) {
    say(arg);
    CHECK_INT(wss_queue_post(alone, say, name_c), WSS_OK);
}

static void say_and_stop(void *arg) {
    say(arg);
    wss_queue_stop(alone);
}

static void try_inside(void *arg) {
    say(arg);
    CHECK_INT(wss_queue_poll(alone, 0), WSS_ERR_BUSY);
    CHECK_INT(wss_queue_run(alone), WSS_ERR_BUSY);
    CHECK_INT(wss_queue_destroy(alone), WSS_ERR_BUSY);
}

static void a_queue_alone(void) {
    host_forget();
    alone = make_queue();
    struct pollfd ready = {wss_queue_fd(alone), POLLIN, 0};
    CHECK(ready.fd >= 0);
    CHECK_INT(poll(&ready, 1, 0), 0);
    CHECK_INT(wss_queue_poll(alone, 0), WSS_OK);
    CHECK_INT(wss_queue_post(alone, say_and_post, name_a), WSS_OK);
    CHECK_INT(wss_queue_post(alone, try_inside, name_b), WSS_OK);
    CHECK_INT(poll(&ready, 1, 0), 1);
    CHECK_INT(wss_queue_poll(alone, -1), WSS_OK); /* one batch: what a job posts waits */
    CHECK_TEXT(host_said, "a b");
    CHECK_INT(poll(&ready, 1, 0), 1);
    CHECK_INT(wss_queue_poll(alone, 0), WSS_OK);
    CHECK_TEXT(host_said, "a b c");
    CHECK_INT(poll(&ready, 1, 0), 0);
    /* A stop ends the run behind the job in hand; the rest keeps its place. */
    host_forget();
    CHECK_INT(wss_queue_post(alone, say, name_a), WSS_OK);
    CHECK_INT(wss_queue_post(alone, say_and_stop, name_b), WSS_OK);
    CHECK_INT(wss_queue_post(alone, say_and_stop, name_c), WSS_OK);
    CHECK_INT(wss_queue_run(alone), WSS_OK);
    CHECK_TEXT(host_said, "a b");
    CHECK_INT(wss_queue_poll(alone, 0), WSS_ERR_STOPPED);
    CHECK_TEXT(host_said, "a b c");
    wss_queue_stop(alone);
    CHECK_INT(wss_queue_run(alone), WSS_OK);
    CHECK_INT(wss_queue_post(alone, say, name_a), WSS_OK);
    CHECK_INT(wss_queue_destroy(alone), WSS_OK); /* what was posted runs, here */
    CHECK_TEXT(host_said, "a b c a");
    CHECK_INT(host_memory.bytes, 0);
}

static void errors_of_queues(void) {
    wss_options options = {0};
    options.max_posted = 2;
    alone = wss_queue_create(&options, NULL);
    CHECK(alone != NULL);
    CHECK_INT(wss_queue_post(alone, say, name_a), WSS_OK);
    CHECK_INT(wss_queue_post(alone, say, name_a), WSS_OK);
    CHECK_INT(wss_queue_post(alone, say, name_a), WSS_ERR_QUEUE_FULL);
    CHECK_INT(wss_queue_poll(alone, 0), WSS_OK);
    CHECK_INT(wss_queue_post(alone, say, name_a), WSS_OK);
    CHECK_INT(wss_queue_post(alone, NULL, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_queue_post(NULL, say, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_queue_poll(NULL, 0), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_queue_run(NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_queue_fd(NULL), WSS_ERR_ARGUMENT);
    wss_queue_stop(NULL);
    CHECK_INT(wss_queue_destroy(NULL), WSS_OK);
    CHECK_INT(wss_queue_destroy(alone), WSS_OK);
}

static int posted_runs;

static void count_run(void *arg) {
    int *next = (int *)arg;
    (*next)++;
    posted_runs++;
}

static void *post_many(void *arg) {
    for (int i = 0; i < 20000; i++) CHECK_INT(wss_queue_post(alone, count_run, arg), WSS_OK);
    return NULL;
}

static void posts_from_threads(void) {
    pthread_t threads[4];
    int counts[4] = {0, 0, 0, 0};
    wss_options options = {0};
    options.max_posted = WSS_OFF;
    alone = wss_queue_create(&options, NULL);
    posted_runs = 0;
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, post_many, &counts[i]);
    while (posted_runs < 80000) CHECK_INT(wss_queue_poll(alone, 5000), WSS_OK); /* a lost wake-up would wait for ever */
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++) CHECK_INT(counts[i], 20000);
    CHECK_INT(wss_queue_destroy(alone), WSS_OK);
}

/* ---- handlers on the draining thread ---- */

static void on_timer(const wss_event *e) {
    here();
    CHECK_INT(e->kind, WSS_EVENT_TIMER);
    host_say("timer");
}

static void on_upgrade(const wss_event *e) {
    here();
    host_say("upgrade(%s)", wss_request_target(e->request));
    CHECK_INT(wss_accept(e->server, e->conn, NULL, NULL, 0, name_a), WSS_OK);
}

static void on_http(const wss_event *e) {
    wss_answer answer;
    memset(&answer, 0, sizeof answer);
    answer.body = "page";
    answer.size = 4;
    here();
    host_say("http(%s)", wss_request_target(e->request));
    CHECK_INT(wss_reply(e->server, e->conn, &answer), WSS_OK);
}

static int drains;

static void on_drain(const wss_event *e) {
    (void)e;
    here();
    host_count(&drains);
}

static int filled;

static void on_fill(const wss_event *e) {
    static char block[100000];
    int count = 0;
    int result;
    here();
    while ((result = wss_send_data(e->server, e->conn, WSS_BINARY, block, sizeof block)) == WSS_OK) count++;
    CHECK_INT(result, WSS_ERR_FULL);
    __atomic_store_n(&filled, count, __ATOMIC_SEQ_CST);
}

static void posted_on_loop(void *arg) {
    host_say("posted");
    __atomic_store_n((int *)arg, pthread_equal(pthread_self(), drainer) ? 2 : 1, __ATOMIC_SEQ_CST);
}

static int posted_where;

/* The client's side, on a thread of its own; at the end it stops the server. */
static void *visit(void *arg) {
    (void)arg;
    client *page = client_dial(host_port);
    client_say(page, "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK_INT(client_read_rest(page), CLIENT_ENDED);
    CHECK(strstr(page->data, "\r\n\r\npage") != NULL);
    client_free(page);
    client *c = client_open(host_port);
    CHECK_INT(c->status, 101);
    client_text(c, "{\"__MESSAGE__\":\"m\",\"a\":1}");
    client_text(c, "{\"__MESSAGE__\":\"fill\"}");
    UNTIL(host_get(&filled) > 0);
    for (int i = 0; i < host_get(&filled); i++) CHECK_INT(client_read(c), SCRIPT_BINARY);
    UNTIL(host_get(&drains) >= 1);
    wss_timer_start(host, 1, 0, on_timer, NULL);
    UNTIL(host_has_said("timer"));
    CHECK_INT(wss_post(host, posted_on_loop, &posted_where), WSS_OK);
    UNTIL(host_get(&posted_where) != 0);
    wss_stop(host, 5000);
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    client_send_close(c, 1001, "");
    CHECK_INT(client_read(c), CLIENT_ENDED);
    client_free(c);
    return NULL;
}

/* A program whose logic is on its main thread: the run of the queue ends when the server has stopped and all is delivered. */
static void handlers_on_the_draining_thread(void) {
    wss_options options = {0};
    pthread_t thread;
    host_queue = make_queue();
    options.queue = host_queue;
    options.user_free = free_user;
    options.max_queued = 1 << 20;
    wss_server *server = host_make(&options);
    watch(server);
    drains = 0;
    filled = 0;
    posted_where = 0;
    wss_on_upgrade(server, on_upgrade, NULL);
    wss_on_http(server, on_http, NULL);
    wss_on_drain(server, on_drain, NULL);
    wss_on_message(server, "fill", on_fill, NULL);
    CHECK_INT(wss_start(server), WSS_OK);
    pthread_create(&thread, NULL, visit, NULL);
    CHECK_INT(wss_queue_run(host_queue), WSS_OK);
    pthread_join(thread, NULL);
    CHECK_INT(elsewhere, 0);
    CHECK_INT(posted_where, 1);
    CHECK_TEXT(host_said, "http(/page) upgrade(/chat?room=1) connect(1) data({\"__MESSAGE__\":\"m\",\"a\":1}) m{\"a\":1} "
                          "data({\"__MESSAGE__\":\"fill\"}) timer posted disconnect(0,1001,) free(a)");
    host_end();
}

/* The events own their data: later input does not touch what waits. */
static void events_own_their_data(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    client *c = client_open(host_port);
    client *noise = client_open(host_port);
    char filler[5000];
    memset(filler, 'z', sizeof filler);
    client_text(c, "{\"a\":[1,2],\"__MESSAGE__\":\"m\"}");
    client_frame(c, SCRIPT_TEXT, SCRIPT_MORE, "frag", 4);
    client_frame(c, SCRIPT_CONTINUATION, SCRIPT_FINAL, "ments", 5);
    host_settle();
    for (int i = 0; i < 20; i++) client_send(noise, SCRIPT_BINARY, filler, sizeof filler);
    client_send_close(c, 4000, "bye");
    host_forget();
    for (int i = 0; i < 50; i++) turn_network();
    client_free(c);
    for (int i = 0; i < 50; i++) turn_network();
    CHECK_TEXT(host_said, "");
    CHECK_INT(wss_count(server), 1); /* the array knows at once, the handler later */
    drain();
    CHECK_TEXT(host_said, "connect(1) connect(1) data({\"a\":[1,2],\"__MESSAGE__\":\"m\"}) m{\"a\":[1,2]} data(fragments) disconnect(1,4000,bye)");
    client_reset(noise);
    host_end();
    CHECK_INT(elsewhere, 0);
}

static void set_user_late(const wss_event *e) {
    host_say("set:%d send:%d", wss_set_user(e->server, e->conn, name_b), wss_send(e->server, e->conn, "m", wss_json("{}")));
}

static void see_user(const wss_event *e) {
    host_say("user(%s)", e->user ? (char *)e->user : "none");
    wss_info info;
    CHECK_INT(wss_get_info(e->server, e->conn, &info), WSS_OK);
}

static void check_dead(const wss_event *e) {
    wss_info info;
    (void)e;
    host_say("after: %d %d", wss_set_user(host, conn, name_c), wss_get_info(host, conn, &info));
}

/* The connection is long gone when its connect handler runs. Its place and pointer live until disconnect has returned. */
static void a_connection_outlived_by_its_events(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss_on_connect(server, set_user_late, NULL);
    wss_on_disconnect(server, see_user, NULL);
    client *c = client_open(host_port);
    client_reset(c);
    UNTIL(wss_count(server) == 0);
    for (int i = 0; i < 20; i++) turn_network();
    /* Others come and go meanwhile, none in its place. */
    for (int i = 0; i < 3; i++) client_reset(client_open(host_port));
    UNTIL(wss_count(server) == 0);
    for (int i = 0; i < 20; i++) turn_network();
    host_forget();
    CHECK_INT(freed, 0);
    wss_conn past = wss__conn_handle(wss__conn_at(server, 0));
    CHECK(wss__conn_find(server, past));
    CHECK(!wss__conn_find_own(&server->loops[0], past)); /* the draining thread may free it at any moment */
    CHECK_INT(wss_queue_poll(host_queue, 0), WSS_OK);
    const char *life = "connect(0) set:0 send:-4 disconnect(0,1006,) user(b) free(b)";
    CHECK(strncmp(host_said, life, strlen(life)) == 0);
    CHECK_INT(freed, 4);
    wss_timer_start(server, 1, 0, check_dead, NULL);
    client_turn = host_turn;
    UNTIL(host_has_said("after: -4 -4"));
    host_end();
    CHECK_INT(freed, 4);
}

static void close_first(const wss_event *e) {
    if (messages == 1) CHECK_INT(wss_close(e->server, e->conn, 1000, NULL), WSS_OK);
}

/* Messages that wait behind a handler which closes are not delivered. */
static void no_message_after_close(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss_on_data(server, close_first, NULL);
    client *c = client_open(host_port);
    for (int i = 0; i < 5; i++) client_text(c, "{\"__MESSAGE__\":\"m\"}");
    host_settle();
    for (int i = 0; i < 20; i++) turn_network();
    drain();
    CHECK_INT(messages, 1);
    CHECK(!host_has_said(" m{}")); /* not even the typed part of the first */
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    client_send_close(c, 1000, "");
    CHECK_INT(client_read(c), CLIENT_ENDED);
    drain();
    CHECK_INT(ends, 1);
    client_free(c);
    host_end();
}

/* ---- ends ---- */

/* Nobody drains any more: destroying delivers what is left, on the caller. */
static void destroy_delivers_the_rest(void) {
    wss_options options = {0};
    host_queue = make_queue();
    options.queue = host_queue;
    options.user_free = free_user;
    wss_server *server = host_make(&options);
    watch(server);
    wss_on_upgrade(server, on_upgrade, NULL);
    CHECK_INT(wss_start(server), WSS_OK);
    client *c = client_dial(host_port);
    client_say(c, SCRIPT_HANDSHAKE);
    while (connects == 0) CHECK_INT(wss_queue_poll(host_queue, 5000), WSS_OK);
    CHECK_INT(client_read_head(c), 101);
    client_text(c, "last");
    CHECK_INT(client_send(c, SCRIPT_PING, "", 0), 1);
    CHECK_INT(client_read(c), SCRIPT_PONG); /* so it has arrived */
    client_send_close(c, 1000, "");
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    client_free(c);
    CHECK_INT(wss_queue_destroy(host_queue), WSS_ERR_BUSY);
    CHECK_TEXT(host_said, "upgrade(/chat?room=1) connect(1)");
    host_end();
    CHECK_TEXT(host_said, "upgrade(/chat?room=1) connect(1) data(last) disconnect(0,1000,) free(a)");
    CHECK_INT(elsewhere, 0);
}

static wss_server *doomed;

static void destroy_doomed(void *arg) {
    host_say("destroy");
    CHECK_INT(wss_destroy(doomed), WSS_OK);
    doomed = NULL;
    if (arg) wss_queue_stop((wss_queue *)arg);
}

/* From a job of the queue, with events behind it in the same batch: they are delivered at once, not later to freed memory. */
static void destroyed_in_a_job_of_its_queue(void) {
    wss_options options = {0};
    options.close_ms = 100;
    wss_server *server = serve(&options);
    doomed = server;
    client *c = client_open(host_port);
    client *other = client_open(host_port);
    CHECK_INT(wss_queue_post(host_queue, destroy_doomed, NULL), WSS_OK);
    CHECK_INT(wss_queue_post(host_queue, say, name_a), WSS_OK);
    client_text(c, "behind");
    host_settle();
    client_reset(c);
    UNTIL(wss_count(server) == 1);
    CHECK_INT(wss_queue_post(host_queue, say, name_b), WSS_OK);
    client_turn = NULL;
    CHECK_INT(wss_queue_run(host_queue), WSS_OK); /* and its last server is gone */
    CHECK_TEXT(host_said, "connect(1) connect(1) destroy data(behind) disconnect(0,1006,) disconnect(0,1001,) a b");
    host_forget();
    CHECK_INT(wss_queue_poll(host_queue, 0), WSS_OK); /* other work has kept its place, and was not left behind */
    CHECK_TEXT(host_said, "");
    CHECK_INT(wss_queue_destroy(host_queue), WSS_OK);
    host_queue = NULL;
    CHECK_INT(host_memory.bytes, 0);
    client_free(other);
}

static void destroy_other(const wss_event *e) {
    if (doomed) destroy_doomed(NULL);
    CHECK_INT(wss_destroy(e->server), WSS_ERR_BUSY);
}

/* A handler that runs while its server is being destroyed destroys another one, of the same queue. */
static void destroyed_while_another_is(void) {
    wss_options options = {0};
    wss_options second = {0};
    wss_server *server = serve(&options);
    wss_on_disconnect(server, destroy_other, NULL);
    int port = host_port;
    second.queue = host_queue;
    doomed = host_make(&second);
    wss_on_connect(doomed, on_connect, NULL);
    wss_on_disconnect(doomed, on_disconnect, NULL);
    client *other = client_open(host_port);
    CHECK_INT(other->status, 101);
    host = server;
    client *c = client_open(port);
    client_reset(c);
    client_reset(other);
    UNTIL(wss_count(server) == 0);
    host = doomed;
    UNTIL(wss_count(doomed) == 0);
    host = server;
    host_end();
    CHECK_INT(ends, 2);
    CHECK(doomed == NULL);
}

static void *run_queue(void *arg) {
    return (void *)(intptr_t)wss_queue_run((wss_queue *)arg);
}

static void two_servers_on_one_queue(void) {
    wss_options options = {0};
    pthread_t thread;
    void *result;
    wss_queue *queue = make_queue();
    options.queue = queue;
    wss_server *first = host_make(&options);
    int first_port = host_port;
    watch(first);
    wss_server *second = host_make(&options);
    int second_port = host_port;
    wss_on_connect(second, on_connect, NULL);
    wss_on_disconnect(second, on_disconnect, NULL);
    CHECK_INT(wss_start(first), WSS_OK);
    CHECK_INT(wss_start(second), WSS_OK);
    pthread_create(&thread, NULL, run_queue, queue);
    drainer = thread;
    client *a = client_open(first_port);
    client *b = client_open(second_port);
    UNTIL(host_get(&connects) == 2);
    CHECK_INT(wss_queue_run(queue), WSS_ERR_BUSY);
    wss_stop(first, 0);
    UNTIL(host_get(&ends) == 1);
    /* The run goes on for the second. */
    client_free(b);
    UNTIL(host_get(&ends) == 2);
    b = client_open(second_port);
    UNTIL(host_get(&connects) == 3);
    wss_stop(second, 0);
    pthread_join(thread, &result);
    CHECK_INT((intptr_t)result, WSS_OK);
    CHECK_INT(ends, 3);
    CHECK_INT(elsewhere, 0);
    CHECK_INT(wss_destroy(first), WSS_OK);
    CHECK_INT(wss_queue_destroy(queue), WSS_ERR_BUSY);
    CHECK_INT(wss_destroy(second), WSS_OK);
    CHECK_INT(wss_queue_destroy(queue), WSS_OK);
    CHECK_INT(host_memory.bytes, 0);
    client_free(a);
    client_free(b);
}

/* ---- throttling ---- */

enum { FLOOD = 20000 };

static int out_of_order;

static void on_number(const wss_event *e) {
    static int number;
    if (!messages) number = 0;
    if (e->size != 500 || atoi(e->data) != number) out_of_order++;
    number++;
    messages++;
}

/* 10 MB arrive while nobody drains: reading pauses, so that memory stays bounded; afterwards nothing is missing. */
static void flood_while_nobody_drains(void) {
    wss_options options = {0};
    options.max_queued = 128 * 1024;
    host_queue = make_queue();
    options.queue = host_queue;
    wss_server *server = host_drive(&options);
    client_turn = turn_network;
    messages = 0;
    out_of_order = 0;
    wss_stats before, now;
    wss_on_data(server, on_number, NULL);
    client *c = client_open(host_port);
    client *honest = client_open(host_port);
    host_settle();
    wss_get_stats(server, &before);
    script flood = {0};
    for (int i = 0; i < FLOOD; i++) {
        char text[500];
        memset(text, ' ', sizeof text);
        int length = snprintf(text, sizeof text, "%d", i);
        text[length] = ' ';
        script_frame(&flood, SCRIPT_TEXT, SCRIPT_FINAL, text, sizeof text);
    }
    /* As much as the server takes: until nothing has moved for a while. */
    size_t sent = 0;
    for (int idle = 0; idle < 50; idle++) {
        ssize_t more = send(c->fd, flood.data + sent, flood.size - sent, MSG_NOSIGNAL);
        if (more > 0) sent += (size_t)more;
        if (more > 0) idle = 0;
        turn_network();
    }
    CHECK(sent < flood.size);
    wss_get_stats(server, &now);
    CHECK(now.memory - before.memory < 128 * 1024 + WSS__LOOP_RECEIVE + 65536);
    CHECK_INT(messages, 0);
    CHECK(client_send(honest, SCRIPT_PING, "", 0) && client_read(honest) == SCRIPT_PONG);
    /* Now somebody does. */
    client_turn = host_turn;
    CHECK(client_raw(c, flood.data + sent, flood.size - sent));
    UNTIL(messages == FLOOD);
    CHECK_INT(out_of_order, 0);
    wss_get_stats(server, &now);
    CHECK(now.memory_peak - before.memory < 128 * 1024 + WSS__LOOP_RECEIVE + 65536);
    CHECK(client_leave(c));
    CHECK(client_leave(honest));
    script_free(&flood);
    host_end();
}

/* With real threads on both sides. */
static void *flood_from_thread(void *arg) {
    client *c = (client *)arg;
    for (int i = 0; i < FLOOD; i++) {
        char text[500];
        memset(text, ' ', sizeof text);
        int length = snprintf(text, sizeof text, "%d", i);
        text[length] = ' ';
        if (!client_send(c, SCRIPT_TEXT, text, sizeof text)) break;
    }
    client_send_close(c, 1000, "");
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    wss_stop(host, 1000);
    return NULL;
}

static void flood_and_drain_at_once(void) {
    wss_options options = {0};
    pthread_t thread;
    options.max_queued = 16 * 1024;
    host_queue = make_queue();
    options.queue = host_queue;
    wss_server *server = host_make(&options);
    messages = 0;
    out_of_order = 0;
    wss_on_data(server, on_number, NULL);
    CHECK_INT(wss_start(server), WSS_OK);
    client *c = client_open(host_port);
    pthread_create(&thread, NULL, flood_from_thread, c);
    CHECK_INT(wss_queue_run(host_queue), WSS_OK);
    pthread_join(thread, NULL);
    CHECK_INT(messages, FLOOD);
    CHECK_INT(out_of_order, 0);
    client_free(c);
    host_end();
}

/* ---- requests ---- */

static wss_conn asked;

static void keep_request(const wss_event *e) {
    here();
    asked = e->conn;
    host_say("asked(%s)", wss_request_target(e->request));
}

static void requests_are_owned(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss_on_upgrade(server, keep_request, NULL);
    asked.id = 0;
    client *c = client_dial(host_port);
    script_text(&c->out, SCRIPT_HANDSHAKE);
    script_say(&c->out, SCRIPT_TEXT, "early");
    client_flush(c);
    host_settle();
    for (int i = 0; i < 20; i++) turn_network();
    client *gone = client_dial(host_port);
    client_say(gone, "GET /gone HTTP/1.1\r\n" SCRIPT_HOST SCRIPT_ASKS "\r\n");
    for (int i = 0; i < 20; i++) turn_network();
    client_reset(gone);
    for (int i = 0; i < 20; i++) turn_network();
    CHECK_INT((long long)asked.id, 0);
    CHECK_INT(wss_queue_poll(host_queue, 0), WSS_OK);
    CHECK_TEXT(host_said, "asked(/chat?room=1)"); /* of a client that has gone nobody is asked */
    host_forget();
    client_text(c, "more");
    client_free(c);
    for (int i = 0; i < 20; i++) turn_network();
    drain();
    CHECK_TEXT(host_said, "");
    host_end();
    CHECK_INT(elsewhere, 0);
}

int main(void) {
    alarm(60);
    RUN(a_queue_alone);
    RUN(errors_of_queues);
    RUN(posts_from_threads);
    RUN(handlers_on_the_draining_thread);
    RUN(events_own_their_data);
    RUN(a_connection_outlived_by_its_events);
    RUN(no_message_after_close);
    RUN(destroy_delivers_the_rest);
    RUN(destroyed_in_a_job_of_its_queue);
    RUN(destroyed_while_another_is);
    RUN(two_servers_on_one_queue);
    RUN(flood_while_nobody_drains);
    RUN(flood_and_drain_at_once);
    RUN(requests_are_owned);
    return test_end("queue");
}
