/* What threads may rely on: who may end a server while others work for it, in which order their calls take effect, what a
   cancelled timer and an accepted post promise, and which signals meet the threads of the library. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <time.h>

/* The library's clock: the real one, and so many seconds ahead of it. It never goes back. */
static int seconds_ahead;

static int clock_ahead(clockid_t id, struct timespec *now) {
    int result = clock_gettime(id, now);
    now->tv_sec += (time_t)__atomic_load_n(&seconds_ahead, __ATOMIC_SEQ_CST);
    return result;
}

#include "../host.h"

REPLACE(clock_gettime, clock_ahead)

/* ---- what the tests share ---- */

static sem_t inside; /* a handler, or a posted function, has begun */
static sem_t go_on;  /* it may end */
static sem_t done;

static int connects;
static int messages;
static int ends;
static int told; /* lines of the log about a wss_destroy that was refused */
static wss_conn conns[8];
static pthread_t homes[8]; /* whose handlers these are */

static void await(sem_t *what) {
    while (sem_wait(what) != 0) {
    }
}

static void hold(void) {
    sem_post(&inside);
    await(&go_on);
}

static void hold_posted(void *arg) {
    (void)arg;
    hold();
}

static void done_posted(void *arg) {
    (void)arg;
    sem_post(&done);
}

static void done_event(const wss_event *e) {
    (void)e;
    sem_post(&done);
}

static void on_connect(const wss_event *e) {
    int number = host_get(&connects) % 8;
    conns[number] = e->conn;
    homes[number] = pthread_self();
    host_say("connect");
    host_count(&connects);
}

/* Echoes, and before that waits if it is asked to. */
static void on_data(const wss_event *e) {
    if (e->size == 4 && memcmp(e->data, "hold", 4) == 0) hold();
    host_say("data(%.*s)", (int)e->size, e->data);
    CHECK_INT(wss_send_data(e->server, e->conn, WSS_TEXT, e->data, e->size), WSS_OK);
    host_count(&messages);
}

static void on_end(const wss_event *e) {
    (void)e;
    host_say("disconnect");
    host_count(&ends);
}

static void keep_log(void *context, int level, const char *text) {
    (void)context;
    if (level == WSS_LOG_DEBUG && strstr(text, "wss_destroy")) host_count(&told);
}

static wss_queue *make_queue(void) {
    wss_options options = {0};
    options.allocator = host_allocator;
    options.allocator_context = &host_memory;
    wss_queue *queue = wss_queue_create(&options, NULL);
    if (!queue) abort();
    return queue;
}

static wss_server *make(wss_options *options) {
    connects = 0;
    messages = 0;
    ends = 0;
    told = 0;
    sem_init(&inside, 0, 0);
    sem_init(&go_on, 0, 0);
    sem_init(&done, 0, 0);
    host_forget();
    client_turn = NULL;
    if (!options->log) options->log = keep_log;
    options->log_level = WSS_LOG_DEBUG;
    wss_server *server = host_make(options);
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_end, NULL);
    return server;
}

/* Turned by this thread whenever it waits for something. */
static wss_server *drive(wss_options *options) {
    wss_server *server = make(options);
    client_turn = host_turn;
    wss_poll(server, 0);
    return server;
}

static client *open_client(void) {
    int before = host_get(&connects);
    client *c = client_open(host_port);
    CHECK_INT(c->status, 101);
    UNTIL(host_get(&connects) == before + 1);
    return c;
}

/* All that was sent to the server has reached it. */
static void arrived(client *c) {
    CHECK(client_send(c, SCRIPT_PING, "", 0));
    CHECK_INT(client_read(c), SCRIPT_PONG);
}

static pthread_t drainer;

static void *drain_in_one_run(void *arg) {
    CHECK_INT(wss_queue_run((wss_queue *)arg), WSS_OK);
    return NULL;
}

static void *drain_in_steps(void *arg) {
    int result;
    do result = wss_queue_poll((wss_queue *)arg, -1);
    while (result == WSS_OK);
    CHECK_INT(result, WSS_ERR_STOPPED);
    return NULL;
}

static void start_draining(void *(*way)(void *)) {
    CHECK_INT(pthread_create(&drainer, NULL, way, host_queue), 0);
}

/* Ends a server that runs on threads of its own, and whoever drains its queue. */
static void end_started(void) {
    wss_stop(host, 0);
    if (host_queue) pthread_join(drainer, NULL);
    host_end();
}

/* ---- wss_destroy while another thread drains the queue ---- */

/* Refused with a word in the log, and nothing has changed: the server serves, and ends in good order later. */
static void destroy_while(const char *what, void *(*way)(void *)) {
    wss_options options = {0};
    options.queue = host_queue = make_queue();
    wss_server *server = make(&options);
    wss_on_data(server, on_data, NULL);
    CHECK_INT(wss_start(server), WSS_OK);
    start_draining(way);
    client *c = open_client();
    int held = strcmp(what, "between") != 0;
    if (strcmp(what, "handler") == 0) client_text(c, "hold");
    else CHECK_INT(wss_queue_post(host_queue, held ? hold_posted : done_posted, NULL), WSS_OK);
    await(held ? &inside : &done);
    CHECK_INT(wss_destroy(server), WSS_ERR_BUSY);
    CHECK_INT(host_get(&told), 1);
    CHECK_INT(wss_queue_destroy(host_queue), WSS_ERR_BUSY);
    if (held) sem_post(&go_on);
    if (strcmp(what, "handler") == 0) CHECK_TEXT(client_read_text(c), "hold");
    client_text(c, "as before");
    CHECK_TEXT(client_read_text(c), "as before");
    wss_stop(server, 0);
    pthread_join(drainer, NULL);
    host_end();
    client_free(c);
    CHECK_INT(connects, 1);
    CHECK_INT(ends, 1);
}

static void destroy_while_another_thread_is_in_a_handler(void) {
    destroy_while("handler", drain_in_one_run);
    destroy_while("handler", drain_in_steps);
}

static void destroy_while_another_thread_runs_a_post(void) {
    destroy_while("post", drain_in_one_run);
    destroy_while("post", drain_in_steps);
}

static void destroy_while_another_thread_waits_for_work(void) {
    destroy_while("between", drain_in_one_run);
    destroy_while("between", drain_in_steps);
}

static void destroy_posted(void *arg) {
    (void)arg;
    hold();
    CHECK_INT(wss_destroy(host), WSS_OK);
    host_say("destroyed");
}

static void say_posted(void *arg) {
    host_say("%s", (const char *)arg);
}

static char later[] = "later";

static void on_data_silent(const wss_event *e) {
    host_say("data(%.*s)", (int)e->size, e->data);
}

/* The thread that drains may: what is left is delivered first, and other work keeps its place. */
static void destroy_on_the_draining_thread(void) {
    wss_options options = {0};
    options.queue = host_queue = make_queue();
    wss_server *server = make(&options);
    wss_on_data(server, on_data_silent, NULL);
    CHECK_INT(wss_start(server), WSS_OK);
    CHECK_INT(wss_queue_post(host_queue, destroy_posted, NULL), WSS_OK);
    CHECK_INT(wss_queue_post(host_queue, say_posted, later), WSS_OK);
    start_draining(drain_in_one_run);
    await(&inside);
    client *c = client_open(host_port);
    client_text(c, "left");
    arrived(c);
    sem_post(&go_on);
    CHECK_INT(client_read(c), SCRIPT_CLOSE); /* of the stop */
    client_free(c);
    pthread_join(drainer, NULL);
    CHECK_INT(wss_queue_destroy(host_queue), WSS_OK);
    CHECK_TEXT(host_said, "connect data(left) disconnect destroyed later");
    CHECK_INT(host_memory.bytes, 0);
    host_queue = NULL;
    host = NULL;
}

/* ---- a handler inside a handler ---- */

static wss_server *inner;
static int tried;

static void make_inner(wss_handler *handler, void *context) {
    wss_options options = {0};
    options.address = "127.0.0.1";
    options.allocator = host_allocator;
    options.allocator_context = &host_memory;
    tried = 0;
    inner = wss_create(&options, NULL);
    if (!inner) abort();
    CHECK(wss_timer_start(inner, 0, 0, handler, context).id != 0);
}

/* In a handler of the outer server: turns the inner one until its handler has run. */
static void turn_inner(void) {
    while (!host_get(&tried)) CHECK_INT(wss_poll(inner, 1000), WSS_OK);
}

static void try_the_outer_server(const wss_event *e) {
    (void)e;
    CHECK_INT(wss_destroy(host), WSS_ERR_BUSY);
    CHECK_INT(wss_run(host), WSS_ERR_BUSY);
    CHECK_INT(wss_start(host), WSS_ERR_BUSY);
    CHECK_INT(wss_poll(host, 0), WSS_ERR_BUSY);
    CHECK_INT(wss_destroy(inner), WSS_ERR_BUSY);
    if (host_queue) {
        CHECK_INT(wss_queue_destroy(host_queue), WSS_ERR_BUSY);
        CHECK_INT(wss_queue_poll(host_queue, 0), WSS_ERR_BUSY);
        CHECK_INT(wss_queue_run(host_queue), WSS_ERR_BUSY);
    }
    host_count(&tried);
}

static void on_data_turns_inner(const wss_event *e) {
    turn_inner();
    CHECK_INT(wss_destroy(inner), WSS_OK); /* out of its handler again */
    CHECK_INT(wss_destroy(e->server), WSS_ERR_BUSY);
    CHECK_INT(wss_send_data(e->server, e->conn, WSS_TEXT, "still here", 10), WSS_OK);
}

/* Nobody ends or runs a server in a handler that one of its handlers has called. */
static void nested(wss_server *(*begin)(wss_options *options), wss_queue *queue) {
    wss_options options = {0};
    options.queue = host_queue = queue;
    make_inner(try_the_outer_server, NULL);
    wss_server *server = begin(&options);
    wss_on_data(server, on_data_turns_inner, NULL);
    if (!client_turn) CHECK_INT(wss_start(server), WSS_OK);
    if (!client_turn && queue) start_draining(drain_in_one_run);
    client *c = client_open(host_port);
    client_text(c, "x");
    CHECK_TEXT(client_read_text(c), "still here");
    CHECK_INT(host_get(&tried), 1);
    CHECK_INT(host_get(&told), 2);
    client_free(c);
    if (client_turn) host_end();
    else end_started();
}

static void nested_in_a_started_server(void) {
    nested(make, NULL);
}

static void nested_in_a_polled_server(void) {
    nested(drive, NULL);
}

static void nested_in_a_draining_thread(void) {
    nested(make, make_queue());
    nested(drive, make_queue());
}

static void turn_inner_posted(void *arg) {
    (void)arg;
    turn_inner();
}

static void try_the_queue(const wss_event *e) {
    wss_queue *queue = (wss_queue *)e->context;
    CHECK_INT(wss_queue_destroy(queue), WSS_ERR_BUSY);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_ERR_BUSY);
    CHECK_INT(wss_queue_run(queue), WSS_ERR_BUSY);
    host_count(&tried);
}

/* The same for a queue that no server uses, in a function that was posted to it. */
static void nested_in_a_queue(void) {
    wss_queue *queue = make_queue();
    make_inner(try_the_queue, queue);
    CHECK_INT(wss_queue_post(queue, turn_inner_posted, NULL), WSS_OK);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    CHECK_INT(tried, 1);
    CHECK_INT(wss_destroy(inner), WSS_OK);
    CHECK_INT(wss_queue_destroy(queue), WSS_OK);
    CHECK_INT(host_memory.bytes, 0);
}

/* ---- the order of one thread's calls ---- */

static void send_text(const char *text) {
    CHECK_INT(wss_send_data(host, conns[0], WSS_TEXT, text, strlen(text)), WSS_OK);
}

static void broadcast_text(const char *text) {
    CHECK_INT(wss_broadcast_data(host, WSS_TEXT, text, strlen(text)), WSS_OK);
}

static void post_send(void *arg) {
    send_text((const char *)arg);
}

static void post_broadcast(void *arg) {
    broadcast_text((const char *)arg);
}

static void post_close(void *arg) {
    CHECK_INT(wss_close(host, conns[0], 4001, (const char *)arg), WSS_OK);
}

static void post_pause(void *arg) {
    (void)arg;
    CHECK_INT(wss_pause(host, conns[0]), WSS_OK);
}

static void post_resume(void *arg) {
    (void)arg;
    CHECK_INT(wss_resume(host, conns[0]), WSS_OK);
}

static char one[] = "1", two[] = "2", three[] = "3", four[] = "4";

static client *drive_with_one_client(void) {
    wss_options options = {0};
    wss_on_data(drive(&options), on_data, NULL);
    return open_client();
}

static void check_four(client *c) {
    CHECK_TEXT(client_read_text(c), one);
    CHECK_TEXT(client_read_text(c), two);
    CHECK_TEXT(client_read_text(c), three);
    CHECK_TEXT(client_read_text(c), four);
}

/* A posted function sends later than this thread did before it called wss_poll, wherever the post stands between the sends. */
static void a_post_sends_behind_earlier_sends(void) {
    client *c = drive_with_one_client();
    wss_post(host, post_send, two);
    send_text(one);
    wss_post(host, post_broadcast, four);
    CHECK_TEXT(client_read_text(c), one);
    CHECK_TEXT(client_read_text(c), two);
    CHECK_TEXT(client_read_text(c), four);
    send_text(one);
    wss_post(host, post_send, three);
    send_text(two);
    wss_post(host, post_send, four);
    check_four(c);
    wss_post(host, post_broadcast, three);
    broadcast_text(one);
    wss_post(host, post_send, four);
    broadcast_text(two);
    check_four(c);
    wss_post(host, post_send, three);
    broadcast_text(one);
    send_text(two);
    wss_post(host, post_broadcast, four);
    check_four(c);
    client_free(c);
    host_end();
}

static void a_post_closes_behind_earlier_sends(void) {
    client *c = drive_with_one_client();
    wss_post(host, post_close, two);
    send_text(one);
    CHECK_TEXT(client_read_text(c), one);
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    CHECK_INT(c->code, 4001);
    CHECK_TEXT(c->data + 2, two);
    client_free(c);
    host_end();
}

/* Of pauses and resumes the one that was called last counts. */
static void a_post_pauses_behind_earlier_calls(void) {
    client *c = drive_with_one_client();
    CHECK_INT(wss_post(host, post_pause, NULL), WSS_OK);
    CHECK_INT(wss_resume(host, conns[0]), WSS_OK);
    for (int i = 0; i < 3; i++) wss_poll(host, 0);
    client_text(c, "read later");
    host_settle();
    CHECK_INT(messages, 0);
    CHECK_INT(wss_post(host, post_resume, NULL), WSS_OK);
    CHECK_INT(wss_pause(host, conns[0]), WSS_OK);
    CHECK_TEXT(client_read_text(c), "read later");
    client_free(c);
    host_end();
}

static void send_the_second(const wss_event *e) {
    if (e->context) broadcast_text(two);
    else send_text(two);
    host_count(&tried);
}

static void on_data_sends_around(const wss_event *e) {
    (void)e;
    send_text(one);
    turn_inner();
    send_text(three);
    broadcast_text(four);
}

/* A handler sends, turns another server whose handler sends to the same client, and sends again. */
static void sends_of_nested_handlers(void) {
    for (int way = 0; way < 4; way++) {
        wss_options options = {0};
        make_inner(send_the_second, way & 1 ? one : NULL);
        wss_server *server = way & 2 ? make(&options) : drive(&options);
        wss_on_data(server, on_data_sends_around, NULL);
        if (!client_turn) CHECK_INT(wss_start(server), WSS_OK);
        client *c = open_client();
        client_text(c, "x");
        check_four(c);
        client_free(c);
        CHECK_INT(wss_destroy(inner), WSS_OK);
        host_end();
    }
}

enum { ROUNDS = 20 };

static int posts_run;

static void post_count(void *arg) {
    char text[32];
    int number = (int)(intptr_t)arg;
    CHECK_INT(posts_run, number);
    posts_run++;
    snprintf(text, sizeof text, "post %d", number);
    send_text(text);
}

static void *post_and_send(void *arg) {
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        char text[32];
        CHECK_INT(wss_post(host, post_count, (void *)(intptr_t)i), WSS_OK);
        snprintf(text, sizeof text, "send %d", i);
        send_text(text);
    }
    return NULL;
}

static void *send_and_close(void *arg) {
    (void)arg;
    broadcast_text(one);
    CHECK_INT(wss_post(host, done_posted, NULL), WSS_OK);
    send_text(two);
    CHECK_INT(wss_close(host, conns[0], 4001, three), WSS_OK);
    CHECK_INT(wss_send_data(host, conns[0], WSS_TEXT, "x", 1), WSS_ERR_GONE);
    return NULL;
}

/* Runs it on a thread of its own while the networking thread is held. */
static void while_the_loop_is_held(void *(*function)(void *arg)) {
    pthread_t thread;
    CHECK_INT(wss_post(host, hold_posted, NULL), WSS_OK);
    await(&inside);
    CHECK_INT(pthread_create(&thread, NULL, function, NULL), 0);
    pthread_join(thread, NULL);
    sem_post(&go_on);
}

/* Posts, broadcasts, sends and a close of a foreign thread take effect in the order of its calls. */
static void calls_of_a_foreign_thread(void) {
    wss_options options = {0};
    int sent = 0;
    int posted = 0;
    posts_run = 0;
    wss_server *server = make(&options);
    CHECK_INT(wss_start(server), WSS_OK);
    client *c = open_client();
    while_the_loop_is_held(post_and_send);
    for (int i = 0; i < 2 * ROUNDS; i++) {
        int number = -1;
        const char *text = client_read_text(c);
        if (sscanf(text, "send %d", &number) == 1) CHECK_INT(number, sent++);
        else if (sscanf(text, "post %d", &number) == 1) CHECK_INT(number, posted++);
        CHECK(number >= 0);
        CHECK(posted <= sent + 1); /* what a post sends comes behind what was sent before it was posted */
    }
    CHECK_INT(sent, ROUNDS);
    CHECK_INT(posted, ROUNDS);
    while_the_loop_is_held(send_and_close);
    await(&done);
    CHECK_TEXT(client_read_text(c), one);
    CHECK_TEXT(client_read_text(c), two);
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    CHECK_TEXT(c->data + 2, three);
    client_free(c);
    host_end();
}

/* ---- timers that are cancelled while they run ---- */

static wss_timer timer;
static pthread_t runner;
static int rings;
static int cancelled;

/* The first time it waits, so that others meet it. */
static void ring(const wss_event *e) {
    (void)e;
    runner = pthread_self();
    host_count(&rings);
    if (host_get(&rings) == 1) hold();
}

static void cancel_it(void *arg) {
    (void)arg;
    __atomic_store_n(&cancelled, wss_timer_cancel(host, timer), __ATOMIC_SEQ_CST);
    sem_post(&done);
}

static void on_data_cancels(const wss_event *e) {
    (void)e;
    cancel_it(NULL);
}

/* A thread of the library that the timer's handler does not run on: with a queue the networking thread, else the other
   loop, in a handler. */
static void cancel_elsewhere(client *clients[2]) {
    if (host_queue) CHECK_INT(wss_post(host, cancel_it, NULL), WSS_OK);
    else client_text(clients[pthread_equal(homes[0], runner) ? 1 : 0], "x");
    await(&done);
    CHECK_INT(host_get(&cancelled), WSS_ERR_BUSY);
}

static void check_busy_timer(int repeat, int with_queue, int foreign_first) {
    wss_options options = {0};
    client *clients[2];
    if (with_queue) options.queue = host_queue = make_queue();
    options.threads = with_queue ? 1 : 2;
    rings = 0;
    wss_server *server = make(&options);
    wss_on_data(server, on_data_cancels, NULL);
    CHECK_INT(wss_start(server), WSS_OK);
    if (with_queue) start_draining(drain_in_one_run);
    for (int i = 0; i < 2; i++) clients[i] = open_client();
    if (!with_queue) CHECK(!pthread_equal(homes[0], homes[1]));
    timer = wss_timer_start(server, 0, repeat, ring, NULL);
    await(&inside);
    if (!foreign_first) cancel_elsewhere(clients);
    CHECK_INT(wss_timer_cancel(server, timer), WSS_ERR_BUSY);
    cancel_elsewhere(clients);
    sem_post(&go_on);
    /* Once it has returned. */
    if (with_queue) CHECK_INT(wss_queue_post(host_queue, done_posted, NULL), WSS_OK);
    else CHECK_INT(wss_post(server, done_posted, NULL), WSS_OK);
    await(&done);
    CHECK_INT(wss_timer_cancel(server, timer), WSS_ERR_GONE);
    /* It is not due again before this one, which is later. */
    CHECK(wss_timer_start(server, 20, 0, done_event, NULL).id != 0);
    await(&done);
    CHECK_INT(host_get(&rings), 1);
    for (int i = 0; i < 2; i++) client_free(clients[i]);
    end_started();
    CHECK_INT(rings, 1);
}

/* Who cancels a timer while another thread is in its handler is told so, and afterwards that it is gone. */
static void cancelled_while_it_runs(void) {
    for (int i = 0; i < 4; i++) check_busy_timer(i & 1, 0, i & 2);
}

static void cancelled_while_it_runs_on_a_queue(void) {
    for (int i = 0; i < 4; i++) check_busy_timer(i & 1, 1, i & 2);
}

static void cancel_itself(const wss_event *e) {
    hold(); /* until its handle is known */
    CHECK_INT(wss_timer_cancel(e->server, timer), e->context ? WSS_OK : WSS_ERR_GONE);
    CHECK_INT(wss_timer_cancel(e->server, timer), WSS_ERR_GONE);
    rings++;
}

/* In its own handler one that repeats is cancelled for good, and one that rings once is over. */
static void cancelled_by_itself(void) {
    for (int way = 0; way < 4; way++) {
        wss_options options = {0};
        if (way & 2) options.queue = host_queue = make_queue();
        options.threads = 2;
        rings = 0;
        wss_server *server = make(&options);
        CHECK_INT(wss_start(server), WSS_OK);
        if (way & 2) start_draining(drain_in_one_run);
        timer = wss_timer_start(server, 0, way & 1, cancel_itself, way & 1 ? one : NULL);
        await(&inside);
        sem_post(&go_on);
        CHECK(wss_timer_start(server, 20, 0, done_event, NULL).id != 0);
        await(&done);
        CHECK_INT(wss_timer_cancel(server, timer), WSS_ERR_GONE);
        end_started();
        CHECK_INT(rings, 1);
    }
}

/* ---- a worker that answers requests ---- */

static wss_conn asked;
static int freed[2];

static void on_request(const wss_event *e) {
    asked = e->conn;
    sem_post(&inside);
}

static void free_user(void *user) {
    host_count((int *)user);
}

/* Accepted by a thread that is not the loop's, which has not seen that yet when the order comes. */
static void answer_by_a_worker(int closes, int with_queue) {
    wss_options options = {0};
    freed[0] = 0;
    options.user_free = free_user;
    if (with_queue) options.queue = host_queue = make_queue();
    wss_server *server = make(&options);
    wss_on_upgrade(server, on_request, NULL);
    wss_on_data(server, on_data, NULL);
    CHECK_INT(wss_start(server), WSS_OK);
    if (with_queue) start_draining(drain_in_one_run);
    client *c = client_dial(host_port);
    client_say(c, SCRIPT_HANDSHAKE);
    await(&inside);
    CHECK_INT(wss_post(server, hold_posted, NULL), WSS_OK);
    await(&inside);
    CHECK_INT(wss_accept(server, asked, NULL, NULL, 0, &freed[0]), WSS_OK);
    if (closes) CHECK_INT(wss_close(server, asked, 4003, "banned"), WSS_OK);
    CHECK_INT(wss_send_data(server, asked, WSS_TEXT, "welcome", 7), closes ? WSS_ERR_GONE : WSS_OK);
    sem_post(&go_on);
    CHECK_INT(client_read_head(c), 101);
    client_text(c, "is anybody there");
    if (closes) {
        CHECK_INT(client_read(c), SCRIPT_CLOSE);
        CHECK_INT(c->code, 4003);
        CHECK_TEXT(c->data + 2, "banned");
        client_send_close(c, 4003, "");
        CHECK_INT(client_read(c), CLIENT_ENDED);
        client_free(c);
    } else {
        CHECK_TEXT(client_read_text(c), "welcome");
        CHECK_TEXT(client_read_text(c), "is anybody there");
        CHECK(client_leave(c));
    }
    end_started();
    CHECK_INT(freed[0], 1);
    CHECK_TEXT(host_said, closes ? "" : "connect data(is anybody there) disconnect");
}

/* Who is accepted and closed in one go does not stay in, and no handler hears of him. */
static void a_worker_accepts_and_closes(void) {
    answer_by_a_worker(1, 0);
    answer_by_a_worker(1, 1);
}

static void a_worker_accepts_and_sends(void) {
    answer_by_a_worker(0, 0);
    answer_by_a_worker(0, 1);
}

/* ---- signals ---- */

static const int own_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF};
static const int others_signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
enum { OWN_SIGNALS = sizeof own_signals / sizeof own_signals[0], OTHERS = sizeof others_signals / sizeof others_signals[0] };

static int signals_seen;

static void on_signal(int number) {
    (void)number;
    host_count(&signals_seen);
}

/* A handler raises each signal that is about its own thread. */
static void on_data_raises(const wss_event *e) {
    int caught = 0;
    for (int i = 0; i < OWN_SIGNALS; i++) {
        int before = host_get(&signals_seen);
        raise(own_signals[i]);
        caught += host_get(&signals_seen) > before;
    }
    CHECK_INT(caught, OWN_SIGNALS);
    wss_send_data(e->server, e->conn, WSS_TEXT, "raised", 6);
}

/* What a crash raises in a thread of the library, the first or another, reaches the program's handler. */
static void signals_of_a_crash(void) {
    struct sigaction ours, before[OWN_SIGNALS];
    wss_options options = {0};
    memset(&ours, 0, sizeof ours);
    ours.sa_handler = on_signal;
    for (int i = 0; i < OWN_SIGNALS; i++) sigaction(own_signals[i], &ours, &before[i]);
    options.threads = 2;
    wss_server *server = make(&options);
    wss_on_data(server, on_data_raises, NULL);
    CHECK_INT(wss_start(server), WSS_OK);
    client *clients[2];
    for (int i = 0; i < 2; i++) clients[i] = open_client();
    CHECK(!pthread_equal(homes[0], homes[1]));
    for (int i = 0; i < 2; i++) {
        client_text(clients[i], "x");
        CHECK_TEXT(client_read_text(clients[i]), "raised");
        client_free(clients[i]);
    }
    host_end();
    for (int i = 0; i < OWN_SIGNALS; i++) sigaction(own_signals[i], &before[i], NULL);
}

/* What is sent to the process waits for the program's own thread, which has it blocked; threads of the library, which would
   take it at once, do not. */
static void signals_of_the_process(void) {
    struct sigaction ours, before[OTHERS];
    sigset_t all, mask, now;
    wss_options options = {0};
    client *clients[2];
    signals_seen = 0;
    memset(&ours, 0, sizeof ours);
    ours.sa_handler = on_signal;
    sigemptyset(&all);
    for (int i = 0; i < OTHERS; i++) sigaction(others_signals[i], &ours, &before[i]);
    for (int i = 0; i < OTHERS; i++) sigaddset(&all, others_signals[i]);
    options.threads = 2;
    wss_server *server = make(&options);
    wss_on_data(server, on_data, NULL);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    CHECK_INT(wss_start(server), WSS_OK);
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    for (int number = 1; number < 32; number++) CHECK_INT(sigismember(&now, number), sigismember(&mask, number));
    for (int i = 0; i < 2; i++) clients[i] = open_client();
    CHECK(!pthread_equal(homes[0], homes[1]));
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (int i = 0; i < OTHERS; i++) kill(getpid(), others_signals[i]);
    for (int i = 0; i < 2; i++) { /* each thread has been at work since: a signal that waited for it would have come first */
        client_text(clients[i], "x");
        CHECK_TEXT(client_read_text(clients[i]), "x");
        client_free(clients[i]);
    }
    CHECK_INT(host_get(&signals_seen), 0);
    sigpending(&now);
    for (int i = 0; i < OTHERS; i++) CHECK_INT(sigismember(&now, others_signals[i]), 1);
    pthread_sigmask(SIG_SETMASK, &mask, NULL); /* they come here */
    UNTIL(host_get(&signals_seen) == OTHERS);
    host_end();
    for (int i = 0; i < OTHERS; i++) sigaction(others_signals[i], &before[i], NULL);
}

/* ---- what is counted, and what leaves in the same turn ---- */

static int refused;

/* Sends until it was refused some times: the client does not read. */
static void overfill(void) {
    static char block[65536];
    for (int i = 0; i < 10000 && host_get(&refused) < 5; i++) {
        int result = wss_send_data(host, conns[0], WSS_BINARY, block, sizeof block);
        CHECK(result == WSS_OK || result == WSS_ERR_FULL);
        if (result == WSS_ERR_FULL) host_count(&refused);
    }
    CHECK_INT(host_get(&refused), 5);
}

static void on_data_overfills(const wss_event *e) {
    (void)e;
    overfill();
    host_count(&messages);
}

static void *overfill_elsewhere(void *arg) {
    (void)arg;
    overfill();
    return NULL;
}

/* Refused sends are counted, whoever sends: a handler of the loop, one on a queue's thread, or a foreign thread. */
static void refused_sends_are_counted(void) {
    for (int way = 0; way < 3; way++) {
        wss_options options = {0};
        wss_stats stats;
        pthread_t thread;
        refused = 0;
        options.max_queued = 200000;
        if (way == 1) options.queue = host_queue = make_queue();
        wss_on_data(drive(&options), on_data_overfills, NULL);
        client *c = open_client();
        if (way == 2) {
            CHECK_INT(pthread_create(&thread, NULL, overfill_elsewhere, NULL), 0);
            pthread_join(thread, NULL);
        } else {
            client_text(c, "x");
            UNTIL(messages == 1);
        }
        wss_get_stats(host, &stats);
        CHECK_INT(stats.refused_full, refused);
        client_free(c);
        host_end();
    }
}

static void on_data_is_slow(const wss_event *e) {
    (void)e;
    __atomic_add_fetch(&seconds_ahead, 1, __ATOMIC_SEQ_CST);
    messages++;
}

static void broadcast_the_log(void *context, int level, const char *text) {
    (void)context;
    if (level == WSS_LOG_DEBUG && strstr(text, "a turn took")) broadcast_text("slow");
}

/* The log tells of a slow handler at the end of a turn; what its callback broadcasts leaves in that turn all the same. */
static void the_log_broadcasts(void) {
    wss_options options = {0};
    options.log = broadcast_the_log;
    wss_on_data(drive(&options), on_data_is_slow, NULL);
    client *c = open_client();
    client_turn = NULL;
    client_text(c, "x");
    for (int i = 0; i < 100 && !messages; i++) CHECK_INT(wss_poll(host, 1000), WSS_OK);
    CHECK_TEXT(client_read_text(c), "slow");
    client_free(c);
    host_end();
}

/* ---- posts that no turn runs ---- */

static pthread_t here;

static void post_in_destroy(void *arg) {
    CHECK(pthread_equal(pthread_self(), here));
    CHECK_INT(wss_destroy(host), WSS_ERR_BUSY);
    CHECK_INT(wss_run(host), WSS_ERR_BUSY);
    CHECK_INT(wss_poll(host, 0), WSS_ERR_BUSY);
    CHECK_INT(wss_post(host, post_in_destroy, NULL), WSS_ERR_STOPPED);
    CHECK_INT(wss_broadcast_data(host, WSS_TEXT, "x", 1), WSS_ERR_STOPPED);
    CHECK_INT(wss_timer_start(host, 0, 0, done_event, NULL).id != 0, 0);
    host_say("%s", (const char *)arg);
}

/* A server that never ran: what it accepted runs when it is destroyed, here and in order. */
static void posts_of_a_server_that_never_ran(void) {
    wss_options options = {0};
    here = pthread_self();
    wss_server *server = make(&options);
    CHECK_INT(wss_post(server, post_in_destroy, one), WSS_OK);
    CHECK_INT(wss_broadcast_data(server, WSS_TEXT, "x", 1), WSS_OK);
    CHECK_INT(wss_post(server, post_in_destroy, two), WSS_OK);
    host_end();
    CHECK_TEXT(host_said, "1 2");
    CHECK_INT(told, 2);
}

/* It was asked to stop before: what it had accepted until then runs, and there is nothing more to accept. */
static void posts_of_a_server_that_was_stopped_first(void) {
    wss_options options = {0};
    here = pthread_self();
    wss_server *server = make(&options);
    CHECK_INT(wss_post(server, post_in_destroy, one), WSS_OK);
    wss_stop(server, 0);
    CHECK_INT(wss_post(server, post_in_destroy, two), WSS_ERR_STOPPED);
    host_end();
    CHECK_TEXT(host_said, "1");
}

static int starved;

static void *starving_allocator(void *context, void *pointer, size_t old_size, size_t new_size) {
    return starved && new_size ? NULL : host_allocator(context, pointer, old_size, new_size);
}

/* A registration found no memory, so that the server does not run. */
static void posts_of_a_server_that_would_not_run(void) {
    for (int starts = 0; starts < 2; starts++) {
        wss_options options = {0};
        here = pthread_self();
        options.allocator = starving_allocator;
        wss_server *server = make(&options);
        CHECK_INT(wss_post(server, post_in_destroy, one), WSS_OK);
        starved = 1;
        CHECK_INT(wss_on_data(server, on_data, NULL), WSS_ERR_MEMORY);
        starved = 0;
        CHECK_INT(starts ? wss_start(server) : wss_run(server), WSS_ERR_MEMORY);
        CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
        CHECK_TEXT(host_said, "");
        host_end();
        CHECK_TEXT(host_said, "1");
    }
}

static wss_queue *alone;

static void post_in_queue_destroy(void *arg) {
    CHECK(pthread_equal(pthread_self(), here));
    CHECK_INT(wss_queue_destroy(alone), WSS_ERR_BUSY);
    CHECK_INT(wss_queue_run(alone), WSS_ERR_BUSY);
    CHECK_INT(wss_queue_poll(alone, 0), WSS_ERR_BUSY);
    CHECK_INT(wss_queue_post(alone, post_in_queue_destroy, NULL), WSS_ERR_STOPPED);
    host_say("%s", (const char *)arg);
}

static void stop_alone(void *arg) {
    (void)arg;
    wss_queue_stop(alone);
}

/* A queue that nobody drains any more, or nobody ever did. */
static void posts_of_a_queue(void) {
    here = pthread_self();
    for (int drained = 0; drained < 2; drained++) {
        host_forget();
        alone = make_queue();
        if (drained) CHECK_INT(wss_queue_post(alone, stop_alone, NULL), WSS_OK);
        CHECK_INT(wss_queue_post(alone, post_in_queue_destroy, one), WSS_OK);
        CHECK_INT(wss_queue_post(alone, post_in_queue_destroy, two), WSS_OK);
        if (drained) CHECK_INT(wss_queue_run(alone), WSS_OK);
        CHECK_TEXT(host_said, "");
        CHECK_INT(wss_queue_destroy(alone), WSS_OK);
        CHECK_TEXT(host_said, "1 2");
        CHECK_INT(host_memory.bytes, 0);
    }
}

/* ---- several stops ---- */

enum { SOON = 1000 * 1000, LATE = 1000 * SOON }; /* milliseconds; the real ones that pass meanwhile do not count */

/* A client that never answers our Close holds the stop up until its deadline. */
static void stop_twice(int first, int second) {
    wss_options options = {0};
    int result = WSS_OK;
    options.close_ms = WSS_OFF;
    wss_server *server = drive(&options);
    client *c = open_client();
    wss_stop(server, first);
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    CHECK_INT(c->code, 1001);
    wss_stop(server, second);
    for (int i = 0; i < 3; i++) CHECK_INT(wss_poll(server, 0), WSS_OK);
    CHECK_INT(ends, 0);
    __atomic_add_fetch(&seconds_ahead, SOON / 1000 + 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 3 && result == WSS_OK; i++) result = wss_poll(server, 0);
    CHECK_INT(result, WSS_ERR_STOPPED);
    CHECK_INT(ends, 1);
    if (result != WSS_OK) CHECK_INT(client_read(c), CLIENT_RESET);
    __atomic_add_fetch(&seconds_ahead, LATE / 1000, __ATOMIC_SEQ_CST); /* whatever has failed, the test ends */
    client_free(c);
    host_end();
}

static void an_earlier_end_counts(void) {
    stop_twice(LATE, SOON);
}

static void a_later_end_does_not(void) {
    stop_twice(SOON, LATE);
}

/* "Now": as who presses Ctrl-C once more wants it. The loop sleeps, and is woken up. */
static void stopped_again_at_once(void) {
    wss_options options = {0};
    options.threads = 2;
    options.close_ms = WSS_OFF;
    wss_server *server = make(&options);
    CHECK_INT(wss_start(server), WSS_OK);
    client *clients[2];
    for (int i = 0; i < 2; i++) clients[i] = open_client();
    wss_stop(server, LATE);
    for (int i = 0; i < 2; i++) CHECK_INT(client_read(clients[i]), SCRIPT_CLOSE);
    CHECK_INT(host_get(&ends), 0);
    wss_stop(server, 0);
    for (int i = 0; i < 2; i++) CHECK_INT(client_read(clients[i]), CLIENT_RESET);
    for (int i = 0; i < 2; i++) client_free(clients[i]);
    host_end();
    CHECK_INT(ends, 2);
}

/* ---- connections on their way out ---- */

/* What wss_next visits, as text. */
static const char *visited(void) {
    static char text[64];
    wss_conn at = {0};
    text[0] = 0;
    while ((at = wss_next(host, at)).id != 0)
        for (int i = 0; i < 8; i++)
            if (i < connects && conns[i].id == at.id) snprintf(text + strlen(text), 8, "%d", i);
    return text;
}

static void on_data_closes(const wss_event *e) {
    CHECK_INT(wss_close(e->server, e->conn, 1000, NULL), WSS_OK);
    host_say("%s", visited());
    messages++;
}

/* Whose close was called, here or in a handler, and whom a stop closes, is not visited any more. */
static void closing_connections_are_not_visited(void) {
    wss_options options = {0};
    client *clients[4];
    wss_on_data(drive(&options), on_data_closes, NULL);
    for (int i = 0; i < 4; i++) clients[i] = open_client();
    CHECK_TEXT(visited(), "0123");
    CHECK_INT(wss_close(host, conns[1], 1000, NULL), WSS_OK);
    CHECK_TEXT(visited(), "023");
    CHECK_INT(wss_next(host, conns[1]).id == conns[2].id, 1);
    CHECK_INT(client_read(clients[1]), SCRIPT_CLOSE);
    CHECK_TEXT(visited(), "023");
    host_forget();
    client_text(clients[0], "x");
    UNTIL(messages == 1);
    CHECK_TEXT(host_said, "23");
    CHECK_INT(ends, 0);
    wss_stop(host, LATE);
    CHECK_INT(client_read(clients[2]), SCRIPT_CLOSE);
    CHECK_TEXT(visited(), "");
    for (int i = 0; i < 4; i++) client_free(clients[i]);
    host_end();
    CHECK_INT(ends, 4);
}

static int late;

static void free_user_and_set(void *user) {
    host_count((int *)user);
    if (user == (void *)&freed[0]) late = wss_set_user(host, asked, &freed[1]);
}

static void on_request_ends(const wss_event *e) {
    asked = e->conn;
    CHECK_INT(wss_accept(e->server, e->conn, NULL, NULL, 0, &freed[0]), WSS_OK);
    CHECK_INT(wss_close(e->server, e->conn, 4003, NULL), WSS_OK);
    sem_post(&inside);
}

/* A pointer that is set while a connection ends which never connected is refused, or is freed like the one before. */
static void user_of_a_connection_that_never_connects(void) {
    for (int way = 0; way < 2; way++) {
        wss_options options = {0};
        freed[0] = freed[1] = 0;
        late = WSS_ERR_ARGUMENT;
        options.user_free = free_user_and_set;
        if (way) options.queue = host_queue = make_queue();
        wss_on_upgrade(drive(&options), on_request_ends, NULL);
        client *c = client_dial(host_port);
        CHECK_INT(client_ask(c, ""), 101);
        CHECK_INT(client_read(c), SCRIPT_CLOSE);
        client_free(c);
        UNTIL(freed[0] == 1);
        CHECK(late == WSS_OK || late == WSS_ERR_GONE);
        host_end();
        CHECK_INT(freed[0], 1);
        CHECK_INT(freed[1], late == WSS_OK);
        CHECK_INT(connects, 0);
    }
}

enum { LIVES = 50 };

static void *set_until_it_is_gone(void *arg) {
    (void)arg;
    for (int i = 0; i < LIVES; i++) {
        await(&inside);
        wss_conn conn = asked;
        while (wss_set_user(host, conn, &freed[1]) == WSS_OK) sched_yield();
        CHECK_INT(wss_set_user(host, conn, &freed[1]), WSS_ERR_GONE);
        sem_post(&done);
    }
    return NULL;
}

/* The same from another thread, again and again until the end: one pointer is freed for each connection. */
static void user_set_from_another_thread(void) {
    wss_options options = {0};
    pthread_t thread;
    freed[0] = freed[1] = 0;
    options.user_free = free_user;
    wss_server *server = make(&options);
    wss_on_upgrade(server, on_request_ends, NULL);
    CHECK_INT(wss_start(server), WSS_OK);
    CHECK_INT(pthread_create(&thread, NULL, set_until_it_is_gone, NULL), 0);
    for (int i = 0; i < LIVES; i++) {
        client *c = client_dial(host_port);
        CHECK_INT(client_ask(c, ""), 101);
        CHECK_INT(client_read(c), SCRIPT_CLOSE);
        client_free(c);
        await(&done);
    }
    pthread_join(thread, NULL);
    host_end();
    CHECK_INT(freed[0] + freed[1], LIVES);
}

int main(void) {
    alarm(100);
    RUN(destroy_while_another_thread_is_in_a_handler);
    RUN(destroy_while_another_thread_runs_a_post);
    RUN(destroy_while_another_thread_waits_for_work);
    RUN(destroy_on_the_draining_thread);
    RUN(nested_in_a_started_server);
    RUN(nested_in_a_polled_server);
    RUN(nested_in_a_draining_thread);
    RUN(nested_in_a_queue);
    RUN(a_post_sends_behind_earlier_sends);
    RUN(a_post_closes_behind_earlier_sends);
    RUN(a_post_pauses_behind_earlier_calls);
    RUN(sends_of_nested_handlers);
    RUN(calls_of_a_foreign_thread);
    RUN(cancelled_while_it_runs);
    RUN(cancelled_while_it_runs_on_a_queue);
    RUN(cancelled_by_itself);
    RUN(a_worker_accepts_and_closes);
    RUN(a_worker_accepts_and_sends);
    RUN(signals_of_a_crash);
    RUN(signals_of_the_process);
    RUN(refused_sends_are_counted);
    RUN(the_log_broadcasts);
    RUN(posts_of_a_server_that_never_ran);
    RUN(posts_of_a_server_that_was_stopped_first);
    RUN(posts_of_a_server_that_would_not_run);
    RUN(posts_of_a_queue);
    RUN(an_earlier_end_counts);
    RUN(a_later_end_does_not);
    RUN(stopped_again_at_once);
    RUN(closing_connections_are_not_visited);
    RUN(user_of_a_connection_that_never_connects);
    RUN(user_set_from_another_thread);
    return test_end("threads");
}
