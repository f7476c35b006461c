/* Beginnings and ends: which thread may run, poll and destroy a server while another does; stops from everywhere at once; what is
   left when a server is never run, never destroyed, or its process forks; and places whose handles are all used up. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <pthread.h>

/* What happens while the library makes a thread. */
static void (*while_starting)(void);
static int thread_fails;

static int fake_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*function)(void *), void *arg) {
    if (while_starting) while_starting();
    return thread_fails ? thread_fails : pthread_create(thread, how, function, arg);
}

#include "../host.h"

REPLACE(pthread_create, fake_pthread_create)

#include <sys/wait.h>

static int connects;
static int ends;

static void on_connect(const wss_event *e) {
    (void)e;
    host_count(&connects);
}

static void on_end(const wss_event *e) {
    (void)e;
    host_count(&ends);
}

static wss_server *make(wss_options *options) {
    connects = 0;
    ends = 0;
    wss_server *server = host_make(options);
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_end, NULL);
    return server;
}

/* ---- one thread at a time ---- */

static int attempts;

static void *attempt_all(void *arg) {
    wss_server *server = (wss_server *)arg;
    CHECK_INT(wss_destroy(server), WSS_ERR_BUSY);
    CHECK_INT(wss_run(server), WSS_ERR_BUSY);
    CHECK_INT(wss_start(server), WSS_ERR_BUSY);
    if (server->loop_count == 1) CHECK_INT(wss_poll(server, 0), WSS_ERR_BUSY);
    attempts++;
    return NULL;
}

static void attempt_elsewhere(void) {
    pthread_t thread;
    while_starting = NULL;
    CHECK_INT(pthread_create(&thread, NULL, attempt_all, host), 0);
    pthread_join(thread, NULL);
}

static void *run_host(void *arg) {
    (void)arg;
    return (void *)(intptr_t)wss_run(host);
}

/* From inside wss_start, before its thread is there, and from inside wss_run, before its other loops are. */
static void nobody_gets_in_between(void) {
    wss_options options = {0};
    attempts = 0;
    make(&options);
    while_starting = attempt_elsewhere;
    CHECK_INT(wss_start(host), WSS_OK);
    CHECK_INT(attempts, 1);
    client *c = client_open(host_port);
    UNTIL(host_get(&connects) == 1);
    client_free(c);
    host_end();
    CHECK_INT(ends, 1);

    pthread_t thread;
    void *result;
    options.threads = 2;
    options.port = 0;
    make(&options);
    while_starting = attempt_elsewhere;
    CHECK_INT(pthread_create(&thread, NULL, run_host, NULL), 0);
    c = client_open(host_port);
    UNTIL(host_get(&connects) == 1);
    wss_stop(host, 0);
    pthread_join(thread, &result);
    CHECK_INT((intptr_t)result, WSS_OK);
    CHECK_INT(attempts, 2);
    client_free(c);
    host_end();
}

/* A thread that could not be made leaves a server that has ended: it can be destroyed, and not run. */
static void no_thread(void) {
    wss_options options = {0};
    make(&options);
    thread_fails = EAGAIN;
    CHECK_INT(wss_start(host), WSS_ERR_SYSTEM);
    thread_fails = 0;
    CHECK_INT(wss_run(host), WSS_ERR_BUSY);
    CHECK_INT(wss_poll(host, 0), WSS_ERR_STOPPED);
    host_end();
}

enum { RUNNERS = 8, RACES = 60 };

static pthread_barrier_t gate;

static void *try_to_run(void *arg) {
    intptr_t number = (intptr_t)arg;
    pthread_barrier_wait(&gate);
    int result = number % 2 ? wss_run(host) : wss_start(host);
    return (void *)(intptr_t)result;
}

/* Of those who run or start a server at the same moment, one does; the others are told at once. */
static void one_of_many_runs(void) {
    CHECK_INT(pthread_barrier_init(&gate, NULL, RUNNERS + 1), 0);
    for (int race = 0; race < RACES; race++) {
        wss_options options = {0};
        pthread_t threads[RUNNERS];
        int ran = 0;
        make(&options);
        for (intptr_t i = 0; i < RUNNERS; i++) CHECK_INT(pthread_create(&threads[i], NULL, try_to_run, (void *)i), 0);
        pthread_barrier_wait(&gate);
        client *c = client_open(host_port);
        wss_stop(host, 0);
        for (int i = 0; i < RUNNERS; i++) {
            void *result;
            pthread_join(threads[i], &result);
            if ((intptr_t)result == WSS_OK) ran++;
            else CHECK_INT((intptr_t)result, WSS_ERR_BUSY);
        }
        CHECK_INT(ran, 1);
        client_free(c);
        host_end();
        CHECK_INT(connects, ends);
    }
    pthread_barrier_destroy(&gate);
}

/* ---- stops ---- */

static void count_post(void *arg) {
    host_count((int *)arg);
}

static int posts_run;

static void *stop_now(void *arg) {
    wss_conn conn = wss_next(host, wss__send_none());
    (void)arg;
    pthread_barrier_wait(&gate);
    wss_stop(host, 300);
    CHECK_INT(wss_post(host, count_post, &posts_run), WSS_ERR_STOPPED); /* also for those who were not the first to stop */
    CHECK_INT(wss_send_data(host, conn, WSS_TEXT, "x", 1), WSS_ERR_STOPPED);
    CHECK_INT(wss_broadcast_data(host, WSS_TEXT, "x", 1), WSS_ERR_STOPPED);
    wss_stop(host, 5000); /* later than the first: that one counts */
    return NULL;
}

/* Eight threads stop at once, others have said so before, and so does every handler: it is one stop. */
static void stopped_from_everywhere(void) {
    CHECK_INT(pthread_barrier_init(&gate, NULL, RUNNERS + 1), 0);
    posts_run = 0;
    for (int race = 0; race < RACES; race++) {
        wss_options options = {0};
        pthread_t threads[RUNNERS];
        options.threads = 1 + race % 3;
        make(&options);
        CHECK_INT(wss_start(host), WSS_OK);
        client *c[3];
        for (int i = 0; i < 3; i++) c[i] = client_open(host_port);
        UNTIL(host_get(&connects) == 3);
        for (intptr_t i = 0; i < RUNNERS; i++) CHECK_INT(pthread_create(&threads[i], NULL, stop_now, NULL), 0);
        pthread_barrier_wait(&gate);
        for (int i = 0; i < RUNNERS; i++) pthread_join(threads[i], NULL);
        for (int i = 0; i < 3; i++) {
            CHECK_INT(client_read(c[i]), SCRIPT_CLOSE);
            CHECK_INT(c[i]->code, 1001);
            client_send_close(c[i], 1001, "");
            CHECK_INT(client_read(c[i]), CLIENT_ENDED); /* one Close frame, and the end */
            client_free(c[i]);
        }
        host_end();
        CHECK_INT(connects, 3);
        CHECK_INT(ends, 3);
    }
    CHECK_INT(posts_run, 0);
    pthread_barrier_destroy(&gate);
}

/* ---- lives ---- */

/* Made and destroyed without a run, with one, and where the port is taken: nothing is left. */
static void thousands_of_servers(void) {
    wss_options options = {0};
    wss_error why;
    int before = host_descriptors();
    make(&options);
    int inside = host_descriptors();
    for (int i = 0; i < 3000; i++) {
        wss_options other = {0};
        other.address = i % 3 == 0 ? "127.0.0.1,no such address" : "127.0.0.1";
        other.port = i % 3 == 1 ? host_port : 0;
        other.threads = 1 + i % 4;
        other.allocator = host_allocator;
        other.allocator_context = &host_memory;
        size_t bytes = host_memory.bytes;
        wss_server *server = wss_create(&other, &why);
        CHECK_INT(server != NULL, i % 3 == 2);
        CHECK_INT(why.code, i % 3 == 2 ? WSS_OK : i % 3 == 1 ? WSS_ERR_SYSTEM : WSS_ERR_ADDRESS);
        if (server && i % 10 == 2) CHECK_INT(wss_start(server), WSS_OK);
        if (server && i % 4 == 2) CHECK_INT(wss_post(server, count_post, &posts_run), WSS_OK);
        CHECK_INT(wss_destroy(server), WSS_OK);
        CHECK(host_memory.bytes == bytes);
        if (i % 500 == 0) CHECK_INT(host_descriptors(), inside);
    }
    CHECK_INT(host_descriptors(), inside);
    host_end();
    CHECK_INT(host_descriptors(), before);
}

static void nothing_is_nobody(void) {
    CHECK_INT(wss_destroy(NULL), WSS_OK);
    wss_stop(NULL, 0);
    CHECK_INT(wss_run(NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_start(NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_poll(NULL, 0), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_post(NULL, count_post, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_queue_destroy(NULL), WSS_OK);
}

/* A process that ends while its server runs ends at once, with its own status. */
static void exit_without_destroy(void) {
    pid_t child = fork();
    if (child == 0) {
        wss_options options = {0};
        alarm(20);
        make(&options);
        if (wss_start(host) != WSS_OK) _exit(1);
        client *c = client_open(host_port);
        if (!client_text(c, "half of a life")) _exit(2);
        client_free(c);
        exit(7);
    }
    int status = 0;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), 7);
}

/* How many descriptors such as a server has another program inherits. */
static int inherited(void) {
    static const char list[] = "for f in /proc/$$/fd/*; do readlink $f; done | grep -c -e eventpoll -e eventfd -e socket";
    char count[16];
    int both[2];
    CHECK_INT(pipe2(both, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(both[1], 1);
        execl("/bin/sh", "sh", "-c", list, (char *)NULL);
        _exit(127);
    }
    close(both[1]);
    ssize_t got = read(both[0], count, sizeof count - 1);
    close(both[0]);
    CHECK_INT(waitpid(child, NULL, 0), child);
    count[got > 0 ? got : 0] = 0;
    CHECK(got > 0);
    return atoi(count);
}

/* What a child of a busy server may do: it executes another program, which inherits none of the server's descriptors. */
static void fork_and_execute(void) {
    wss_options options = {0};
    int before = inherited();
    make(&options);
    CHECK_INT(wss_start(host), WSS_OK);
    client *c = client_open(host_port);
    UNTIL(host_get(&connects) == 1);
    for (int i = 0; i < 5; i++) {
        wss_post(host, count_post, &posts_run);
        CHECK_INT(inherited(), before);
    }
    CHECK_INT(wss_send_data(host, wss_next(host, wss__send_none()), WSS_TEXT, "still here", 10), WSS_OK);
    CHECK_TEXT(client_read_text(c), "still here");
    client_free(c);
    host_end();
}

/* ---- handles ---- */

/* Every handle of every place has been used: whoever comes now is turned away, and those who are in stay in. */
static void places_wear_out(void) {
    enum { PLACES = 3, USES = 4 };
    wss_options options = {0};
    wss_stats stats;
    uint64_t seen[PLACES * USES];
    options.max_connections = PLACES + 1;
    make(&options);
    host->conns.generation = WSS__SLOT_GENERATION_MAX - (USES - 1);
    client_turn = host_turn;
    client *stays = client_open(host_port);
    UNTIL(connects == 1);
    wss_conn first = wss_next(host, wss__send_none());
    for (int i = 0; i < PLACES * USES; i++) {
        client *c = client_open(host_port);
        UNTIL(connects == i + 2);
        wss_conn conn = wss_next(host, first);
        CHECK(conn.id != 0 && conn.id != first.id);
        seen[i] = conn.id;
        for (int old = 0; old < i; old++) CHECK(seen[old] != conn.id);
        CHECK(client_leave(c));
        UNTIL(ends == i + 1);
        for (int old = 0; old <= i; old++) {
            conn.id = seen[old];
            CHECK_INT(wss_send_data(host, conn, WSS_TEXT, "x", 1), WSS_ERR_GONE);
        }
    }
    for (int i = 0; i < 3; i++) {
        client *c = client_dial(host_port);
        client_say(c, SCRIPT_HANDSHAKE);
        CHECK(client_fill(c, CLIENT_WAIT) <= 0);
        client_free(c);
    }
    CHECK_INT(connects, PLACES * USES + 1);
    CHECK_INT(wss_send_data(host, first, WSS_TEXT, "to the last", 11), WSS_OK);
    CHECK_TEXT(client_read_text(stays), "to the last");
    wss_get_stats(host, &stats);
    CHECK_INT(stats.connections, 1);
    CHECK(client_leave(stays));
    host_end();
}

int main(void) {
    alarm(120);
    RUN(exit_without_destroy); /* while there is one thread */
    RUN(nobody_gets_in_between);
    RUN(no_thread);
    RUN(one_of_many_runs);
    RUN(stopped_from_everywhere);
    RUN(thousands_of_servers);
    RUN(nothing_is_nobody);
    RUN(fork_and_execute);
    RUN(places_wear_out);
    return test_end("ends");
}
