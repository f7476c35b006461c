/* Many at once, with real threads, while one of them is held up in a handler: the others are served, limits hold exactly, and who
   has to wait waits. */
#include "../host.h"

static pthread_mutex_t gate_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_change = PTHREAD_COND_INITIALIZER;
static int gate_shut, gate_waits; /* who comes to the gate waits while it is shut */

static void shut_gate(void) {
    pthread_mutex_lock(&gate_mutex);
    gate_shut = 1;
    pthread_mutex_unlock(&gate_mutex);
}

static void open_gate(void) {
    pthread_mutex_lock(&gate_mutex);
    gate_shut = 0;
    pthread_cond_broadcast(&gate_change);
    pthread_mutex_unlock(&gate_mutex);
}

static void pass_gate(void) {
    pthread_mutex_lock(&gate_mutex);
    __atomic_add_fetch(&gate_waits, 1, __ATOMIC_SEQ_CST);
    while (gate_shut) pthread_cond_wait(&gate_change, &gate_mutex);
    __atomic_sub_fetch(&gate_waits, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&gate_mutex);
}

static int connects, ends, accepted, refused_with;

static void on_connect(const wss_event *e) {
    (void)e;
    host_count(&connects);
}

static void on_end(const wss_event *e) {
    (void)e;
    host_count(&ends);
}

static int broadcast_until_refused(wss_server *server) {
    int count = 0;
    int result;
    while ((result = wss_broadcast_data(server, WSS_BINARY, "x", 1)) == WSS_OK && count < 100000) count++;
    __atomic_store_n(&refused_with, result, __ATOMIC_SEQ_CST);
    return count;
}

static void on_data(const wss_event *e) {
    if (e->size == 4 && memcmp(e->data, "wait", 4) == 0) pass_gate();
    else if (e->size == 3 && memcmp(e->data, "all", 3) == 0)
        __atomic_store_n(&accepted, broadcast_until_refused(e->server), __ATOMIC_SEQ_CST);
    else wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

static wss_server *make(wss_options *options) {
    connects = ends = 0;
    gate_waits = 0;
    gate_shut = 0;
    accepted = -1;
    wss_server *server = host_make(options);
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_end, NULL);
    wss_on_data(server, on_data, NULL);
    client_turn = NULL;
    return server;
}

static wss_server *start(wss_options *options) {
    wss_server *server = make(options);
    CHECK_INT(wss_start(server), WSS_OK);
    return server;
}

static uint64_t opened(wss_server *server) {
    wss_stats stats;
    wss_get_stats(server, &stats);
    return stats.opened;
}

static uint64_t posted(wss_server *server) {
    wss_stats stats;
    wss_get_stats(server, &stats);
    return stats.posted;
}

static int echoes(client *c, const char *text) {
    return client_text(c, text) && strcmp(client_read_text(c), text) == 0;
}

/* One client of each of two loops, and the second loop waits at the gate. */
static void hold_up_second(client **c) {
    for (int i = 0; i < 2; i++) {
        c[i] = client_open(host_port);
        CHECK(echoes(c[i], "here"));
    }
    shut_gate();
    client_text(c[1], "wait");
    UNTIL(host_get(&gate_waits) == 1);
}

/* One loop is held up: it is left what was dealt to it before that was seen, all others are served meanwhile. */
static void held_up_gets_no_more(void) {
    enum { CLIENTS = 200 };
    client *first[2];
    client *c[CLIENTS];
    wss_options options = {0};
    wss_stats stats;
    options.threads = 2;
    wss_server *server = start(&options);
    hold_up_second(first);
    for (int i = 0; i < CLIENTS; i++) {
        c[i] = client_dial(host_port);
        client_say(c[i], SCRIPT_HANDSHAKE);
    }
    UNTIL((wss_get_stats(server, &stats), stats.accepted == CLIENTS + 2));
    size_t left = __atomic_load_n(&server->loops[1].dealt, __ATOMIC_SEQ_CST);
    CHECK(left > 0 && left < CLIENTS / 4);
    UNTIL(opened(server) == CLIENTS - left + 2);
    CHECK(echoes(first[0], "still served"));
    open_gate();
    for (int i = 0; i < CLIENTS; i++) {
        CHECK_INT(client_read_head(c[i]), 101);
        CHECK(echoes(c[i], "served"));
    }
    CHECK_INT(opened(server), CLIENTS + 2);
    for (int i = 0; i < CLIENTS; i++) client_free(c[i]);
    for (int i = 0; i < 2; i++) CHECK(client_leave(first[i]));
    host_end();
}

/* Places are limited too: nobody is closed, who is over the limit waits and is served when others leave. */
static void who_is_over_the_limit_waits(void) {
    enum { CLIENTS = 200, MOST = 50 };
    client *first[2];
    client *c[CLIENTS];
    wss_options options = {0};
    wss_stats stats;
    options.threads = 2;
    options.max_connections = MOST;
    options.handshake_ms = WSS_OFF;
    options.ping_ms = WSS_OFF;
    wss_server *server = start(&options);
    hold_up_second(first);
    for (int i = 0; i < CLIENTS; i++) {
        c[i] = client_dial(host_port);
        client_say(c[i], SCRIPT_HANDSHAKE);
    }
    UNTIL((wss_get_stats(server, &stats), stats.accepted == MOST));
    size_t left = __atomic_load_n(&server->loops[1].dealt, __ATOMIC_SEQ_CST);
    CHECK(left > 0 && left <= MOST / 2);
    UNTIL(opened(server) == MOST - left); /* all but what was dealt to the other before that was seen */
    CHECK(echoes(first[0], "still served"));
    open_gate();
    for (int i = 0; i < CLIENTS; i++) { /* in the order in which they came */
        CHECK_INT(client_read_head(c[i]), 101);
        CHECK(client_leave(c[i]));
    }
    wss_get_stats(server, &stats);
    CHECK_INT(stats.accepted, CLIENTS + 2);
    CHECK_INT(stats.accept_failures, 0);
    for (int i = 0; i < 2; i++) CHECK(client_leave(first[i]));
    host_end();
    CHECK_INT(connects, CLIENTS + 2);
}

/* With a queue places are taken until the end of their connection was told: while the thread that drains it is held up the next
   client waits, and is served when it goes on. No deadline wakes anybody. */
static void *run_queue(void *arg) {
    CHECK_INT(wss_queue_run((wss_queue *)arg), WSS_OK);
    return NULL;
}

static void who_finds_no_place_waits(void) {
    enum { PLACES = 10 };
    pthread_t drainer;
    wss_options options = {0};
    wss_stats stats;
    host_queue = wss_queue_create(NULL, NULL);
    options.queue = host_queue;
    options.max_connections = PLACES;
    options.handshake_ms = WSS_OFF;
    options.ping_ms = WSS_OFF;
    wss_server *server = make(&options);
    CHECK_INT(wss_start(server), WSS_OK);
    pthread_create(&drainer, NULL, run_queue, host_queue);
    for (int round = 0; round < 5; round++) {
        client *c[PLACES];
        for (int i = 0; i < PLACES; i++) c[i] = client_open(host_port);
        UNTIL(host_get(&connects) == (PLACES + 1) * round + PLACES);
        shut_gate();
        client_text(c[0], "wait");
        UNTIL(host_get(&gate_waits) == 1);
        for (int i = 0; i < PLACES; i++) client_reset(c[i]);
        UNTIL(wss_count(server) == 0);
        client *next = client_dial(host_port);
        client_say(next, SCRIPT_HANDSHAKE);
        wss_get_stats(server, &stats);
        CHECK_INT(stats.accepted, (PLACES + 1) * round + PLACES);
        open_gate();
        CHECK_INT(client_read_head(next), 101);
        CHECK(echoes(next, "served"));
        CHECK(client_leave(next));
        UNTIL(host_get(&ends) == (PLACES + 1) * (round + 1));
    }
    wss_get_stats(server, &stats);
    CHECK_INT(stats.accept_failures, 0);
    wss_stop(server, 1000);
    pthread_join(drainer, NULL);
    host_end();
}

/* A burst from one address, with several loops that all work: as many as it may have stay, no more and no fewer. */
static void burst_of_one_address(void) {
    enum { BURST = 60, LIMIT = 10 };
    wss_options options = {0};
    options.threads = 4;
    options.max_per_address = LIMIT;
    wss_server *server = start(&options);
    for (int round = 0; round < 10; round++) {
        client *c[BURST];
        int served = 0;
        for (int i = 0; i < BURST; i++) {
            c[i] = client_dial(host_port);
            client_say(c[i], SCRIPT_HANDSHAKE);
        }
        for (int i = 0; i < BURST; i++) served += client_read_head(c[i]) == 101;
        CHECK_INT(served, LIMIT);
        CHECK_INT(wss_count(server), LIMIT);
        for (int i = 0; i < BURST; i++) client_free(c[i]);
        UNTIL(wss_count(server) == 0);
        /* the sockets are closed a moment after that, and only then count no more */
        for (int left = 1; left;) {
            left = 0;
            for (int i = 0; i < 4; i++) left += __atomic_load_n(&server->loops[i].connections, __ATOMIC_ACQUIRE) != 0;
            host_rest();
        }
    }
    host_end();
}

/* A loop is held up. Broadcasts of another thread, then those of a handler of the other loop, are refused when so many wait there
   as may; what was accepted reaches all, what was refused reaches nobody. A close goes through all the same. */
static void broadcasts_to_a_loop_held_up(void) {
    enum { MOST = 1000 };
    for (int handler = 0; handler < 2; handler++) {
        client *c[2];
        wss_options options = {0};
        wss_conn none = {0};
        options.threads = 2;
        options.max_posted = MOST;
        wss_server *server = start(&options);
        hold_up_second(c);
        if (handler) client_text(c[0], "all");
        else accepted = broadcast_until_refused(server);
        UNTIL(host_get(&accepted) >= 0);
        CHECK_INT(host_get(&refused_with), WSS_ERR_QUEUE_FULL);
        if (handler) CHECK_INT(host_get(&accepted), MOST);
        CHECK(host_get(&accepted) <= MOST && host_get(&accepted) > 0); /* from outside the other loop may be full first */
        int count = host_get(&accepted);
        for (int i = 0; i < count; i++) CHECK_INT(client_read(c[0]), SCRIPT_BINARY);
        UNTIL(posted(server) == (uint64_t)count);
        CHECK(echoes(c[0], "and nothing more"));
        wss_conn held = wss_next(server, wss_next(server, none));
        while (wss_pause(server, held) == WSS_OK && posted(server) <= MOST) {
        }
        CHECK_INT(posted(server), MOST);
        CHECK_INT(wss_pause(server, held), WSS_ERR_QUEUE_FULL);
        CHECK_INT(wss_close(server, held, 4000, "enough"), WSS_OK);
        open_gate();
        for (int i = 0; i < count; i++) CHECK_INT(client_read(c[1]), SCRIPT_BINARY);
        CHECK_INT(client_read(c[1]), SCRIPT_CLOSE);
        CHECK_INT(c[1]->code, 4000);
        client_free(c[1]);
        CHECK(client_leave(c[0]));
        UNTIL(posted(server) == 0);
        host_end();
    }
}

/* One thread asks for far too much, again and again, and is refused; what another posts meanwhile is small and fits: none of it
   is refused for want of memory. */
static int greed_ends;

static void *ask_for_too_much(void *arg) {
    wss_server *server = (wss_server *)arg;
    wss_conn none = {0};
    wss_conn conn = wss_next(server, none);
    size_t size = ((size_t)7 << 20) - 4096; /* with what is held already more than there is */
    char *block = (char *)calloc(1, size);
    while (!host_get(&greed_ends)) CHECK_INT(wss_send_data(server, conn, WSS_BINARY, block, size), WSS_ERR_BUDGET);
    free(block);
    return NULL;
}

static void nothing(void *arg) {
    (void)arg;
}

static void small_beside_too_large(void) {
    pthread_t greedy;
    wss_options options = {0};
    options.memory_budget = (size_t)8 << 20;
    options.max_posted_bytes = (size_t)1 << 20;
    wss_server *server = start(&options);
    client *c = client_open(host_port);
    CHECK(echoes(c, "here"));
    greed_ends = 0;
    int results[3] = {0};
    pthread_create(&greedy, NULL, ask_for_too_much, server);
    for (int i = 0; i < 100000; i++) {
        int result = wss_post(server, nothing, NULL);
        results[result == WSS_OK ? 0 : result == WSS_ERR_QUEUE_FULL ? 1 : 2]++;
        if (result == WSS_ERR_QUEUE_FULL) sched_yield();
    }
    host_count(&greed_ends);
    pthread_join(greedy, NULL);
    CHECK(results[0] > 0);
    CHECK_INT(results[2], 0);
    CHECK(echoes(c, "still here"));
    CHECK(client_leave(c));
    host_end();
}

int main(void) {
    alarm(100);
    RUN(held_up_gets_no_more);
    RUN(who_is_over_the_limit_waits);
    RUN(who_finds_no_place_waits);
    RUN(burst_of_one_address);
    RUN(broadcasts_to_a_loop_held_up);
    RUN(small_beside_too_large);
    return test_end("crowds");
}
