/* All schedules: threads that post, stop and take work from the real functions run one step at a time, in every order that is
   possible. A step begins with each lock and with each call that reads, writes or waits for an eventfd; what else is done in
   it is nobody else's business. Those calls are played by a model that knows levels and edges. A schedule in which nobody can go on, or in which an accepted job
   has not run exactly once, is an error.
   usage: schedule */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { ACTORS_MAX = 3, DEPTH = 200 };

/* What an actor waits for before it goes on. */
enum { FREE, LOCK, READABLE, EDGE };

typedef struct actor {
    pthread_t thread;
    void (*play)(void);
    int waits_for;
    const void *what; /* the mutex */
    int done;
} actor;

static actor actors[ACTORS_MAX];
static int actor_count;
static int current = -1; /* whose step it is; -1: the director's */
static pthread_mutex_t stage_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cues[ACTORS_MAX + 1] = {PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER,
                                              PTHREAD_COND_INITIALIZER};
static __thread int self = -1; /* outside of a play nothing waits */

/* The model of the one eventfd and of what is locked. */
static int modelled = -1;
static uint64_t counter;
static int edge;
static const void *locked[8];

static int is_locked(const void *mutex) {
    for (int i = 0; i < 8; i++)
        if (locked[i] == mutex) return 1;
    return 0;
}

static void set_locked(const void *from, const void *to) {
    for (int i = 0; i < 8; i++) {
        if (locked[i] != from) continue;
        locked[i] = to;
        return;
    }
    abort();
}

static int can_go_on(const actor *a) {
    if (a->done) return 0;
    switch (a->waits_for) {
    case LOCK: return !is_locked(a->what);
    case READABLE: return counter > 0;
    case EDGE: return edge;
    default: return 1;
    }
}

/* Ends this actor's step and waits for its next. */
static void step(int waits_for, const void *what) {
    if (self < 0) return;
    pthread_mutex_lock(&stage_mutex);
    actors[self].waits_for = waits_for;
    actors[self].what = what;
    current = -1;
    pthread_cond_signal(&cues[ACTORS_MAX]);
    while (current != self) pthread_cond_wait(&cues[self], &stage_mutex);
    pthread_mutex_unlock(&stage_mutex);
}

static int model_lock(pthread_mutex_t *mutex) {
    step(LOCK, mutex);
    if (self >= 0) set_locked(NULL, mutex);
    return 0;
}

static int model_unlock(pthread_mutex_t *mutex) {
    if (self >= 0) set_locked(mutex, NULL);
    return 0;
}

static ssize_t model_write(int fd, const void *data, size_t size) {
    if (fd != modelled) return write(fd, data, size);
    step(FREE, NULL);
    counter++;
    edge = 1;
    return (ssize_t)size;
}

static ssize_t model_read(int fd, void *data, size_t size) {
    if (fd != modelled) return read(fd, data, size);
    step(FREE, NULL);
    if (!counter) {
        errno = EAGAIN;
        return -1;
    }
    memcpy(data, &counter, sizeof counter);
    counter = 0;
    return (ssize_t)size;
}

static int model_poll(struct pollfd *all, nfds_t count, int milliseconds) {
    (void)milliseconds;
    (void)count;
    step(READABLE, NULL);
    all[0].revents = POLLIN;
    return 1;
}

/* The loop's inbox is the only thing that it watches here. */
static int model_epoll_wait(int epoll, struct epoll_event *events, int most, int milliseconds) {
    (void)epoll;
    (void)most;
    if (self < 0 || milliseconds == 0) return 0;
    step(EDGE, NULL);
    edge = 0;
    events[0].events = EPOLLIN;
    events[0].data.u64 = 0; /* the inbox */
    return 1;
}

#define pthread_mutex_lock model_lock
#define pthread_mutex_unlock model_unlock
#define write model_write
#define read model_read
#define poll model_poll
#define epoll_wait model_epoll_wait
#ifndef WSSERVER_TESTED
#define WSSERVER_TESTED "../../wsserver.h"
#endif
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#include WSSERVER_TESTED
#undef pthread_mutex_lock
#undef pthread_mutex_unlock
#undef write
#undef read
#undef poll
#undef epoll_wait

/* ---- plays ---- */

static wss_queue *queue;
static wss_server *server;
static int accepted; /* jobs */
static int ran;
static int disordered;

/* A job's number says how many of its producer's came before. */
static int next_of[ACTORS_MAX];

static void job(void *arg) {
    intptr_t value = (intptr_t)arg;
    ran++;
    if (next_of[value / 16]++ != value % 16) disordered++;
}

static void post_twice_to_queue(void) {
    for (intptr_t n = 0; n < 2; n++)
        if (wss_queue_post(queue, job, (void *)(self * 16 + n)) == WSS_OK) accepted++;
}

static void post_once_to_queue(void) {
    if (wss_queue_post(queue, job, (void *)(intptr_t)(self * 16)) == WSS_OK) accepted++;
}

static void stop_queue(void) {
    wss_queue_stop(queue);
}

static void take_two(void) {
    while (ran < 2) wss_queue_poll(queue, -1);
}

static void take_three(void) {
    while (ran < 3) wss_queue_poll(queue, -1);
}

static void drain_queue(void) {
    wss_queue_run(queue);
}

static void post_twice_to_server(void) {
    for (intptr_t n = 0; n < 2; n++)
        if (wss_post(server, job, (void *)(self * 16 + n)) == WSS_OK) accepted++;
}

static void post_once_to_server(void) {
    if (wss_post(server, job, (void *)(intptr_t)(self * 16)) == WSS_OK) accepted++;
}

static void stop_server(void) {
    wss_stop(server, 0);
}

static void turn_for_two(void) {
    while (ran < 2) wss_poll(server, -1);
}

static void turn_for_three(void) {
    while (ran < 3) wss_poll(server, -1);
}

static void turn_until_stopped(void) {
    while (wss_poll(server, -1) == WSS_OK) {
    }
}

typedef struct play {
    const char *name;
    int on_server;
    int rest_runs; /* what is accepted need not have run when the play ends, but must not be lost then */
    void (*parts[ACTORS_MAX])(void);
} play;

static const play plays[] = {
    {"one posts twice, a queue is drained", 0, 0, {post_twice_to_queue, take_two, NULL}},
    {"two post, a queue is drained", 0, 0, {post_once_to_queue, post_once_to_queue, take_two}},
    {"one posts twice, one once, a queue is drained", 0, 0, {post_twice_to_queue, post_once_to_queue, take_three}},
    {"one posts, one stops, a queue is drained", 0, 1, {post_once_to_queue, stop_queue, drain_queue}},
    {"one posts twice, a loop turns", 1, 0, {post_twice_to_server, turn_for_two, NULL}},
    {"two post, a loop turns", 1, 0, {post_once_to_server, post_once_to_server, turn_for_two}},
    {"one posts twice, one once, a loop turns", 1, 0, {post_twice_to_server, post_once_to_server, turn_for_three}},
    {"one posts, one stops, a loop turns", 1, 0, {post_once_to_server, stop_server, turn_until_stopped}},
    {"one posts twice, one stops, a loop turns", 1, 0, {post_twice_to_server, stop_server, turn_until_stopped}},
};

static void *act(void *arg) {
    self = (int)(intptr_t)arg;
    pthread_mutex_lock(&stage_mutex);
    while (current != self) pthread_cond_wait(&cues[self], &stage_mutex);
    pthread_mutex_unlock(&stage_mutex);
    actors[self].play();
    pthread_mutex_lock(&stage_mutex);
    actors[self].done = 1;
    current = -1;
    pthread_cond_signal(&cues[ACTORS_MAX]);
    pthread_mutex_unlock(&stage_mutex);
    return NULL;
}

/* ---- the director ---- */

/* The choices of this schedule: of so many that could go on, this one went. */
static int chosen[DEPTH];
static int possible[DEPTH];
static int depth;

static void set_stage(const play *p) {
    wss_options options;
    memset(&options, 0, sizeof options);
    memset(actors, 0, sizeof actors);
    memset(next_of, 0, sizeof next_of);
    memset(locked, 0, sizeof locked);
    options.address = "127.0.0.1";
    accepted = ran = disordered = edge = 0;
    counter = 0;
    modelled = -1;
    if (p->on_server) server = wss_create(&options, NULL);
    else queue = wss_queue_create(&options, NULL);
    if (p->on_server ? !server : !queue) exit(2);
    if (p->on_server) wss_poll(server, 0);
    modelled = p->on_server ? server->loops[0].inbox.fd : queue->inbox.fd;
    actor_count = 0;
    for (int i = 0; i < ACTORS_MAX && p->parts[i]; i++, actor_count++) {
        actors[i].play = p->parts[i];
        if (pthread_create(&actors[i].thread, NULL, act, (void *)(intptr_t)i) != 0) exit(2);
    }
}

/* Plays one schedule: the choices that are given, then always the first. False if at its end nobody could go on. */
static int play_schedule(void) {
    for (depth = 0;; depth++) {
        int ready[ACTORS_MAX];
        int count = 0;
        int left = 0;
        for (int i = 0; i < actor_count; i++) {
            if (can_go_on(&actors[i])) ready[count++] = i;
            if (!actors[i].done) left++;
        }
        if (!count || depth == DEPTH) return left == 0;
        possible[depth] = count;
        pthread_mutex_lock(&stage_mutex);
        current = ready[chosen[depth]];
        pthread_cond_signal(&cues[current]);
        while (current >= 0) pthread_cond_wait(&cues[ACTORS_MAX], &stage_mutex);
        pthread_mutex_unlock(&stage_mutex);
    }
}

/* The next schedule that was not played yet: the last choice that can be another one is. */
static int next_schedule(void) {
    while (depth > 0) {
        depth--;
        if (++chosen[depth] < possible[depth]) {
            memset(chosen + depth + 1, 0, sizeof chosen - (size_t)(depth + 1) * sizeof chosen[0]);
            return 1;
        }
    }
    return 0;
}

static void print_schedule(const play *p, const char *what) {
    printf("  %s: %s in the schedule ", p->name, what);
    for (int i = 0; i < depth; i++) printf("%d", chosen[i]);
    printf("\n");
}

/* Tears the stage_mutex down and says whether the schedule ended well. */
static int check_end(const play *p, int ended) {
    int good = 1;
    if (!ended) {
        print_schedule(p, "nobody can go on");
        return 0; /* the actors that wait for ever are left behind: the process ends soon */
    }
    for (int i = 0; i < actor_count; i++) pthread_join(actors[i].thread, NULL);
    if (p->on_server && wss_destroy(server) != WSS_OK) good = 0;
    if (!p->on_server && p->rest_runs) wss_queue_stop(queue); /* wakes the model: one last look at what is left */
    if (!p->on_server && p->rest_runs)
        while (ran < accepted && wss_queue_poll(queue, 0) != WSS_ERR_BUSY && counter) {
        }
    if (!p->on_server && wss_queue_destroy(queue) != WSS_OK) good = 0;
    if (!good) print_schedule(p, "not ended");
    if (ran == accepted && !disordered) return good;
    print_schedule(p, disordered ? "jobs in another order" : ran < accepted ? "a job that never ran" : "a job that ran twice");
    return 0;
}

int main(void) {
    long total = 0;
    alarm(300);
    for (size_t i = 0; i < sizeof plays / sizeof plays[0]; i++) {
        const play *p = &plays[i];
        long schedules = 0;
        memset(chosen, 0, sizeof chosen);
        do {
            set_stage(p);
            schedules++;
            if (!check_end(p, play_schedule())) {
                printf("schedules: %s: failed after %ld\n", p->name, schedules);
                return 1;
            }
        } while (next_schedule());
        printf("schedules: %s: %ld\n", p->name, schedules);
        fflush(stdout);
        total += schedules;
    }
    printf("schedules: %ld in all, each job run once and in order in all of them\n", total);
    return 0;
}
