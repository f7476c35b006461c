/* Timers of the application, on the real clock: from any thread, in order, cancelled at any moment, with and without a queue.
   Their moments are tested on a made-up clock in deadlines.c. */
#include "../host.h"

static wss_server *serve(int with_queue) {
    wss_options options = {0};
    if (with_queue) {
        host_queue = wss_queue_create(NULL, NULL);
        options.queue = host_queue;
    }
    host_forget();
    return host_drive(&options);
}

static char name_a[] = "a";
static char name_b[] = "b";
static char name_c[] = "c";
static char name_d[] = "d";

static void say(const wss_event *e) {
    CHECK_INT(e->kind, WSS_EVENT_TIMER);
    CHECK_INT((long long)e->conn.id, 0);
    CHECK(e->user == NULL);
    host_say("%s", (const char *)e->context);
}

static void in_order_of_time(int with_queue) {
    wss_server *server = serve(with_queue);
    CHECK(wss_timer_start(server, 60, 0, say, name_c).id != 0);
    CHECK(wss_timer_start(server, 20, 0, say, name_a).id != 0);
    CHECK(wss_timer_start(server, 150, 0, say, name_d).id != 0);
    CHECK(wss_timer_start(server, 40, 0, say, name_b).id != 0);
    wss_timer never = wss_timer_start(server, 10, 0, say, name_a);
    CHECK(never.id != 0);
    CHECK_INT(wss_timer_cancel(server, never), WSS_OK);
    CHECK_INT(wss_timer_cancel(server, never), WSS_ERR_GONE);
    UNTIL(host_has_said("d"));
    CHECK_TEXT(host_said, "a b c d");
    host_end();
}

static int ticks;
static wss_timer own;

static void tick(const wss_event *e) {
    (void)e;
    ticks++;
}

static void cancel_self(const wss_event *e) {
    if (++ticks < 3) return;
    CHECK_INT(wss_timer_cancel(e->server, own), WSS_OK);
    CHECK_INT(wss_timer_cancel(e->server, own), WSS_ERR_GONE);
}

static void repeating(int with_queue) {
    wss_server *server = serve(with_queue);
    ticks = 0;
    own = wss_timer_start(server, 1, 2, cancel_self, NULL);
    UNTIL(ticks == 3);
    for (int i = 0; i < 30; i++) host_turn();
    CHECK_INT(ticks, 3);
    /* Late, it does not make up for what it missed. */
    own = wss_timer_start(server, 1, 1, tick, NULL);
    UNTIL(ticks > 3);
    long long until = client_clock() + 50;
    while (client_clock() < until) {
    }
    int before = ticks;
    wss_poll(server, 0);
    if (with_queue) wss_queue_poll(host_queue, 0);
    CHECK(ticks <= before + 2);
    CHECK_INT(wss_timer_cancel(server, own), WSS_OK);
    host_end();
}

static void gone_in_own_handler(const wss_event *e) {
    host_say("own:%d", wss_timer_cancel(e->server, own)); /* one that rings once is over */
}

static void start_another(const wss_event *e) {
    say(e);
    own = wss_timer_start(e->server, 0, 0, gone_in_own_handler, NULL);
    CHECK(own.id != 0);
}

static void inside_handlers(int with_queue) {
    wss_server *server = serve(with_queue);
    wss_timer_start(server, 0, 0, start_another, name_a);
    UNTIL(host_has_said("own"));
    CHECK_TEXT(host_said, "a own:-4");
    host_end();
}

static wss_timer victims[2];

static void cancel_the_other(const wss_event *e) {
    int me = e->context == name_b;
    host_say("%s:%d", (const char *)e->context, wss_timer_cancel(e->server, victims[!me]));
}

/* Both are due in the same turn: the first to run cancels the second, which then does not. */
static void cancelled_while_due(int with_queue) {
    wss_server *server = serve(with_queue);
    for (int round = 0; round < 10; round++) {
        host_forget();
        victims[0] = wss_timer_start(server, 2, 0, cancel_the_other, name_a);
        victims[1] = wss_timer_start(server, 2, 0, cancel_the_other, name_b);
        long long until = client_clock() + 5;
        while (client_clock() < until) {
        }
        for (int i = 0; i < 5; i++) host_turn();
        CHECK(strcmp(host_said, "a:0") == 0 || strcmp(host_said, "b:0") == 0);
    }
    host_end();
}

static void on_the_loop(void) {
    in_order_of_time(0);
    repeating(0);
    inside_handlers(0);
    cancelled_while_due(0);
}

static void with_a_queue(void) {
    in_order_of_time(1);
    repeating(1);
    inside_handlers(1);
    cancelled_while_due(1);
}

/* ---- threads ---- */

enum { THREADS = 3, EACH = 300 };

static int rung;

static void ring(const wss_event *e) {
    host_count((int *)e->context);
    host_count(&rung);
}

typedef struct worker {
    pthread_t thread;
    int counts[EACH];
    int cancelled[EACH];
} worker;

/* Starts many, cancels some of them while they ring. */
static void *start_and_cancel(void *arg) {
    worker *w = (worker *)arg;
    wss_timer timers[EACH];
    for (int i = 0; i < EACH; i++) {
        timers[i] = wss_timer_start(host, i % 5, i % 3 == 2 ? 1 : 0, ring, &w->counts[i]);
        CHECK(timers[i].id != 0);
    }
    for (int i = 0; i < EACH; i++) {
        if (i % 3 == 0) continue;
        int result = wss_timer_cancel(host, timers[i]); /* busy: it runs at this moment; one that repeats, for the last time */
        w->cancelled[i] = result == WSS_OK || (result == WSS_ERR_BUSY && i % 3 == 2);
        CHECK(wss_timer_cancel(host, timers[i]) != WSS_OK);
    }
    return NULL;
}

static void *run_queue(void *arg) {
    CHECK_INT(wss_queue_run((wss_queue *)arg), WSS_OK);
    return NULL;
}

static void threads_start_and_cancel(int with_queue) {
    static worker workers[THREADS];
    wss_options options = {0};
    pthread_t drainer;
    memset(workers, 0, sizeof workers);
    rung = 0;
    if (with_queue) options.queue = host_queue = wss_queue_create(NULL, NULL);
    wss_server *server = host_make(&options);
    CHECK_INT(wss_start(server), WSS_OK);
    if (with_queue) pthread_create(&drainer, NULL, run_queue, host_queue);
    for (int i = 0; i < THREADS; i++) pthread_create(&workers[i].thread, NULL, start_and_cancel, &workers[i]);
    for (int i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
    for (int i = 0; i < THREADS; i++)
        for (int n = 0; n < EACH; n += 3) UNTIL(host_get(&workers[i].counts[n]) == 1);
    wss_stop(server, 0);
    if (with_queue) pthread_join(drainer, NULL);
    int before = host_get(&rung);
    for (int i = 0; i < THREADS; i++) {
        for (int n = 0; n < EACH; n++) {
            if (n % 3 == 0) CHECK_INT(workers[i].counts[n], 1);
            if (n % 3 == 1) CHECK(workers[i].counts[n] <= 1);
            if (n % 3 == 1 && !workers[i].cancelled[n]) CHECK_INT(workers[i].counts[n], 1);
            if (n % 3 == 2) CHECK(workers[i].cancelled[n]);
        }
    }
    host_end();
    CHECK_INT(rung, before);
}

static void from_threads(void) {
    threads_start_and_cancel(0);
}

static void from_threads_with_a_queue(void) {
    threads_start_and_cancel(1);
}

static int fail_all;

static void *failing_allocator(void *context, void *pointer, size_t old_size, size_t new_size) {
    return fail_all && new_size ? NULL : host_allocator(context, pointer, old_size, new_size);
}

/* The word to the loop is lost for want of memory: it does not ring all the same, and stops waking the loop. */
static void cancelled_without_memory(void) {
    wss_options options = {0};
    options.allocator = failing_allocator;
    wss_server *server = host_drive(&options);
    ticks = 0;
    own = wss_timer_start(server, 1, 1, tick, NULL);
    UNTIL(ticks > 0);
    fail_all = 1;
    CHECK_INT(wss_timer_cancel(server, own), WSS_OK);
    fail_all = 0;
    int rung_before = ticks;
    for (int i = 0; i < 5; i++) wss_poll(server, 5);
    long long start = client_clock();
    CHECK_INT(wss_poll(server, 50), WSS_OK);
    CHECK(client_clock() - start >= 40); /* nothing wakes it */
    CHECK_INT(ticks, rung_before);
    host_end();
}

/* Those that have not rung when the server ends are forgotten, and leave nothing behind. */
static void left_over(void) {
    wss_server *server = serve(0);
    for (int i = 0; i < 1000; i++) CHECK(wss_timer_start(server, 1000 * i + 1000, i % 2, say, name_a).id != 0);
    wss_poll(server, 0);
    wss_stop(server, 0);
    CHECK_INT((long long)wss_timer_start(server, 0, 0, say, name_a).id, 0);
    host_end();
    CHECK_TEXT(host_said, "");
}

int main(void) {
    alarm(60);
    RUN(on_the_loop);
    RUN(with_a_queue);
    RUN(from_threads);
    RUN(from_threads_with_a_queue);
    RUN(cancelled_without_memory);
    RUN(left_over);
    return test_end("timers");
}
