/* baton.h: the server on the kernel of kernel.h with all the threads it makes, of which one runs at a time: the one that has
   the baton. It may have to hand it on at each point: a lock, an unlock, an atomic operation, a system call. Who runs then is
   decided by an order of choices, so that a schedule can be repeated, and all of them can be gone through. What a thread does
   between two points nobody sees, and every operation is seen at once by all: this shows interleavings, not reordering.

   baton_begin()              the thread that calls is the first actor, the one that looks on
   baton_play(name, f, arg)   one more, from a pool of threads; those that the library makes are actors too
   baton_rest(explore)        lets the others run until none of them can; explore: by the choices, else always the first
   baton_next(...)            the next order of choices, see below
   baton_moment()             a point in what is not the library: anybody may go on first
   baton_fail(text)           says what happened and in which schedule, and ends the program */
#ifndef BATON_H
#define BATON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATON_ACTORS = 8,
    BATON_DEPTH = 8192,  /* choices in one schedule */
    BATON_POINTS = 60000, /* in one schedule: more are a spin */
    BATON_NAMES = 4096,  /* objects; a power of two */
    BATON_BLOCKS = 256,  /* allocations that are known by their number */
    BATON_LOCKS = 16,
    BATON_TRACE = 256    /* changes of threads that a failure tells */
};

enum { /* what an actor waits for */
    BATON_RUNS = 0,
    BATON_LOCK,
    BATON_EPOLL,
    BATON_POLL,
    BATON_JOIN,
    BATON_FLAG,
    BATON_REST, /* until nobody else can run */
    BATON_DONE, /* to be joined */
    BATON_FREE  /* in the pool */
};

typedef struct baton_actor {
    pthread_t thread;
    sem_t turn;
    const char *name;
    void *(*function)(void *);
    void *arg;
    int waits;
    const void *what; /* mutex, flag, or actor */
    int fd;
    int held; /* it could have gone on */
    uint64_t until;   /* in microseconds of the kernel's clock */
} baton_actor;

/* An object that threads meet at, by a name that is the same in each schedule: addresses are not. */
typedef struct baton_object {
    uint64_t name;
    unsigned actors; /* that touched it, a bit each */
    int written;
    int shared;      /* by two, and written by one: as far as was known when this round of schedules began */
} baton_object;

enum { BATON_READS, BATON_WRITES };

static struct {
    baton_actor actors[BATON_ACTORS];
    int actor_count;
    int current;
    int exploring;
    int time_passes; /* where nobody can run, the clock moves to what they wait for */
    struct {
        const void *mutex;
        int owner;
    } locks[BATON_LOCKS];
    /* objects */
    baton_object objects[BATON_NAMES];
    int object_count;
    struct {
        const char *start;
        size_t size;
        uint64_t number;
    } blocks[BATON_BLOCKS];
    int block_count;
    uint64_t block_number;
    /* choices: of so many actors that could run this one did, the first being the one that needs no change */
    uint8_t chosen[BATON_DEPTH];
    uint8_t possible[BATON_DEPTH];
    int depth;
    int given;   /* choices that are prescribed */
    int bound;   /* detours, at most; -1: drawn */
    int detours; /* choices that were not the first: a thread was held up, or one ran out of turn */
    long points;   /* of this schedule */
    long meetings; /* of them, at what is shared */
    uint64_t random;
    unsigned chance; /* of a change at a point, of 65536 */
    int all_points;  /* also at what is not shared, as far as is known */
    int by_rank;     /* who runs is not drawn at each point: the highest rank that can, and sometimes it loses it */
    int rank[BATON_ACTORS];
    int lowest_rank;
    struct {
        int from;
        int to;
        int was_forced;
        const char *where;
        int line;
    } trace[BATON_TRACE];
    long changes;
    const char *scene;
    long schedule;
} baton;

static __thread int baton_self = -1; /* number of the actor; -1: none */
static __thread const char *baton_where = "";
static __thread int baton_line;

static void baton_touch(int how, const volatile void *object, const char *where, int line);
static int baton_join(pthread_t thread, void **result);

/* Not for what kernel.h and tests do: the names go when the library has been read. */
#define __atomic_load_n(object, order) \
    (baton_touch(BATON_READS, (object), __func__, __LINE__), __atomic_load_n(object, order))
#define __atomic_store_n(object, value, order) \
    (baton_touch(BATON_WRITES, (object), __func__, __LINE__), __atomic_store_n(object, value, order))
#define __atomic_exchange_n(object, value, order) \
    (baton_touch(BATON_WRITES, (object), __func__, __LINE__), __atomic_exchange_n(object, value, order))
#define __atomic_add_fetch(object, value, order) \
    (baton_touch(BATON_WRITES, (object), __func__, __LINE__), __atomic_add_fetch(object, value, order))
#define __atomic_sub_fetch(object, value, order) \
    (baton_touch(BATON_WRITES, (object), __func__, __LINE__), __atomic_sub_fetch(object, value, order))
#define __atomic_or_fetch(object, value, order) \
    (baton_touch(BATON_WRITES, (object), __func__, __LINE__), __atomic_or_fetch(object, value, order))
#define __atomic_and_fetch(object, value, order) \
    (baton_touch(BATON_WRITES, (object), __func__, __LINE__), __atomic_and_fetch(object, value, order))
#define __atomic_fetch_add(object, value, order) \
    (baton_touch(BATON_WRITES, (object), __func__, __LINE__), __atomic_fetch_add(object, value, order))
#define __atomic_fetch_sub(object, value, order) \
    (baton_touch(BATON_WRITES, (object), __func__, __LINE__), __atomic_fetch_sub(object, value, order))
#define __atomic_fetch_or(object, value, order) \
    (baton_touch(BATON_WRITES, (object), __func__, __LINE__), __atomic_fetch_or(object, value, order))
#define __atomic_fetch_and(object, value, order) \
    (baton_touch(BATON_WRITES, (object), __func__, __LINE__), __atomic_fetch_and(object, value, order))
#define __atomic_compare_exchange_n(object, expected, value, weak, success, failure) \
    (baton_touch(BATON_WRITES, (object), __func__, __LINE__), \
     __atomic_compare_exchange_n(object, expected, value, weak, success, failure))
#define pthread_join(thread, result) baton_join(thread, result)

#define SIM_FILES 64 /* few are needed, and each schedule clears them all */
#define SIM_PEERS 32
#include "kernel.h"

#undef __atomic_load_n
#undef __atomic_store_n
#undef __atomic_exchange_n
#undef __atomic_add_fetch
#undef __atomic_sub_fetch
#undef __atomic_or_fetch
#undef __atomic_and_fetch
#undef __atomic_fetch_add
#undef __atomic_fetch_sub
#undef __atomic_fetch_or
#undef __atomic_fetch_and
#undef __atomic_compare_exchange_n
#undef pthread_join

/* ---- failures ---- */

static void baton_tell(void) {
    static const char *const waits[] = {"runs", "waits for a mutex", "in epoll_wait", "in poll", "joins", "waits for a flag",
                                        "looks on", "is done", "is free"};
    printf("  scene \"%s\", schedule %ld, %s, detours: %d\n", baton.scene ? baton.scene : "", baton.schedule,
           baton.bound < 0 ? "drawn" : "in order", baton.detours);
    long first = baton.changes > BATON_TRACE ? baton.changes - BATON_TRACE : 0;
    for (long i = first; i < baton.changes; i++) {
        int at = (int)(i % BATON_TRACE);
        printf("  %s %s %s line %d, %s goes on\n", baton.actors[baton.trace[at].from].name,
               baton.trace[at].was_forced ? "is held up before" : "waits or ends in", baton.trace[at].where,
               baton.trace[at].line, baton.actors[baton.trace[at].to].name);
    }
    for (int i = 0; i < baton.actor_count; i++)
        if (baton.actors[i].waits < BATON_DONE)
            printf("  %s %s%s\n", baton.actors[i].name, waits[baton.actors[i].waits], i == baton_self ? ", here" : "");
    fflush(stdout);
}

__attribute__((noreturn)) static void baton_fail(const char *text) {
    printf("FAILED: %s\n", text);
    baton_tell();
    fflush(stdout);
    _Exit(1); /* the others hold what the leak checker would complain of */
}

static void baton_violation(const char *text) {
    baton_fail(text);
}

#if defined(POISON_WORKS)
void __sanitizer_set_death_callback(void (*callback)(void));
#endif

/* ---- who can run ---- */

static int baton_owner(const void *mutex) {
    for (int i = 0; i < BATON_LOCKS; i++)
        if (baton.locks[i].mutex == mutex) return baton.locks[i].owner;
    return -1;
}

static void baton_set_owner(const void *mutex, int owner) {
    const void *from = owner >= 0 ? NULL : mutex;
    for (int i = 0; i < BATON_LOCKS; i++) {
        if (baton.locks[i].mutex != from) continue;
        baton.locks[i].mutex = owner >= 0 ? mutex : NULL;
        baton.locks[i].owner = owner;
        return;
    }
    baton_fail("more mutexes are held than there can be");
}

static int baton_can_run(const baton_actor *actor) {
    switch (actor->waits) {
    case BATON_RUNS: return 1;
    case BATON_LOCK: return baton_owner(actor->what) < 0;
    case BATON_EPOLL:
    case BATON_POLL: return sim_readable(actor->fd) || sim.now >= actor->until;
    case BATON_JOIN: return ((const baton_actor *)actor->what)->waits == BATON_DONE;
    case BATON_FLAG: return *(const int *)actor->what != 0;
    default: return 0;
    }
}

/* Nobody can run: time passes up to the first deadline. False where there is none. */
static int baton_pass_time(void) {
    uint64_t first = UINT64_MAX;
    for (int i = 0; i < baton.actor_count; i++) {
        const baton_actor *actor = &baton.actors[i];
        if ((actor->waits == BATON_EPOLL || actor->waits == BATON_POLL) && actor->until < first) first = actor->until;
    }
    if (first == UINT64_MAX) return 0;
    sim.now = first > sim.now ? first : sim.now;
    return 1;
}

static unsigned baton_draw(unsigned below) {
    baton.random ^= baton.random << 13;
    baton.random ^= baton.random >> 7;
    baton.random ^= baton.random << 17;
    return (unsigned)(baton.random * 0x2545f4914f6cdd1du >> 33) % below;
}

/* One of count, the first of which is the one that needs no change. */
static int baton_choose(int count, int may_stay) {
    if (!baton.exploring || count == 1) return 0;
    if (baton.depth == BATON_DEPTH) baton_fail("a schedule without an end");
    int choice = 0;
    if (baton.bound < 0 && baton.by_rank) {
        return -1;
    } else if (baton.bound < 0) {
        if (!may_stay) choice = (int)baton_draw((unsigned)count);
        else if (baton_draw(65536) < baton.chance) choice = 1 + (int)baton_draw((unsigned)count - 1);
    } else if (baton.detours >= baton.bound) {
        return 0;
    } else {
        if (baton.depth < baton.given) choice = baton.chosen[baton.depth];
        baton.chosen[baton.depth] = (uint8_t)choice;
        baton.possible[baton.depth] = (uint8_t)count;
        baton.depth++;
        if (choice >= count) baton_fail("a schedule that cannot be repeated"); /* something differs from run to run */
    }
    if (choice) baton.detours++;
    return choice;
}

static int baton_highest(const int *list, int count, int may_stay) {
    int best = list[0];
    if (may_stay && baton_draw(65536) < baton.chance) baton.rank[baton_self] = --baton.lowest_rank;
    for (int i = 1; i < count; i++)
        if (baton.rank[list[i]] > baton.rank[best]) best = list[i];
    baton.detours += best != list[0];
    return best;
}

/* Who has the baton next; may_stay: the one who has it can go on. */
static int baton_pick(int may_stay) {
    int list[BATON_ACTORS];
    int count = 0;
    for (;;) {
        for (int held = 0; held < 2; held++) { /* one detour holds up until the others have done all they can */
            for (int i = 0; i < baton.actor_count; i++) {
                int actor = (baton_self + i) % baton.actor_count;
                if (baton.actors[actor].held == held && baton_can_run(&baton.actors[actor])) list[count++] = actor;
            }
        }
        int choice = count ? baton_choose(count, may_stay) : 0;
        if (choice < 0) return baton_highest(list, count, may_stay);
        if (count) return list[choice];
        if (baton.actors[0].waits == BATON_REST) return 0;
        if (!baton.time_passes || !baton_pass_time()) baton_fail("nobody can go on");
    }
}

static void baton_give(int next, int forced) {
    int at = (int)(baton.changes++ % BATON_TRACE);
    baton.trace[at].from = baton_self;
    baton.trace[at].to = next;
    baton.trace[at].was_forced = forced;
    baton.trace[at].where = baton_where;
    baton.trace[at].line = baton_line;
    baton.current = next;
    sem_post(&baton.actors[next].turn);
}

static void baton_await(void) {
    while (sem_wait(&baton.actors[baton_self].turn) != 0) {
    }
}

static void baton_hand_on(int next, int forced) {
    int number = errno;
    if (next == baton_self) return;
    baton.actors[baton_self].held = forced;
    baton_give(next, forced);
    baton_await();
    baton.actors[baton_self].held = 0;
    errno = number;
}

/* Waits, and gives the baton to somebody else meanwhile. */
static void baton_wait(int waits, const void *what, int fd, uint64_t until) {
    baton_actor *actor = &baton.actors[baton_self];
    actor->waits = waits;
    actor->what = what;
    actor->fd = fd;
    actor->until = until;
    baton_hand_on(baton_pick(0), 0);
    actor->waits = BATON_RUNS;
}

/* ---- points ---- */

/* Blocks that are allocated while nobody explores come in the same order each time. */
static uint64_t baton_name(const volatile void *object, int line) {
    const char *at = (const char *)(uintptr_t)object;
    for (int i = 0; i < baton.block_count; i++)
        if (at >= baton.blocks[i].start && at < baton.blocks[i].start + baton.blocks[i].size)
            return baton.blocks[i].number << 32 | (uint64_t)(at - baton.blocks[i].start);
    return (uint64_t)1 << 63 | (uint64_t)(unsigned)line; /* what else is touched there */
}

static baton_object *baton_object_of(uint64_t name) {
    unsigned at = (unsigned)(name * 0x9e3779b97f4a7c15u >> 52) % BATON_NAMES;
    while (baton.objects[at].name && baton.objects[at].name != name) at = (at + 1) % BATON_NAMES;
    if (!baton.objects[at].name && ++baton.object_count > BATON_NAMES / 2) baton_fail("more objects than there is room for");
    baton.objects[at].name = name;
    return &baton.objects[at];
}

/* A change before an operation on what no other thread touches could as well come after it. So only what is shared needs one;
   what is, the schedules before have shown. */
static void baton_point(int how, uint64_t name, const char *where, int line) {
    if (!baton.exploring || baton_self <= 0) return;
    baton_where = where;
    baton_line = line;
    baton_object *object = baton_object_of(name);
    object->actors |= 1u << baton_self;
    if (how == BATON_WRITES) object->written = 1;
    if (++baton.points > BATON_POINTS) baton_fail("the threads spin");
    baton.meetings += object->shared;
    if (object->shared || baton.all_points) baton_hand_on(baton_pick(1), 1);
}

/* The account of memory is touched with every allocation; as long as there is enough nothing depends on who was first. */
static void baton_touch(int how, const volatile void *object, const char *where, int line) {
    if (!baton.exploring || baton_self <= 0) return;
    if (!baton.all_points && strncmp(where, "wss__mem_", 9) == 0) return;
    baton_point(how, baton_name(object, line), where, line);
}

static void baton_call(const char *where, int fd) {
    baton_point(BATON_WRITES, (uint64_t)1 << 62 | (uint64_t)(unsigned)(fd + 1), where, 0);
}

/* A point in what is not the library. */
static inline void baton_moment(void) {
    if (baton.exploring && baton_self > 0) baton_hand_on(baton_pick(1), 1);
}

static int baton_lock(pthread_mutex_t *mutex) {
    if (baton_self < 0) return pthread_mutex_lock(mutex);
    baton_point(BATON_WRITES, baton_name(mutex, 0), "pthread_mutex_lock", 0);
    int owner = baton_owner(mutex);
    if (owner == baton_self) baton_fail("a mutex is locked twice by one thread");
    while (baton_owner(mutex) >= 0) baton_wait(BATON_LOCK, mutex, -1, UINT64_MAX);
    baton_set_owner(mutex, baton_self);
    sim.locks++;
    return 0;
}

/* A change right before it is the same as one before what comes next, for all but those who wait for the mutex; and they
   would wait on. So this is a point only where all are. */
static int baton_unlock(pthread_mutex_t *mutex) {
    if (baton_self < 0) return pthread_mutex_unlock(mutex);
    if (baton.all_points) baton_point(BATON_WRITES, baton_name(mutex, 0), "pthread_mutex_unlock", 0);
    if (baton_owner(mutex) != baton_self) baton_fail("a mutex is unlocked by one who does not hold it");
    baton_set_owner(mutex, -1);
    sim.locks--;
    return 0;
}

/* ---- threads ---- */

static void *baton_thread(void *arg) {
    baton_self = (int)(intptr_t)arg;
    baton_actor *actor = &baton.actors[baton_self];
    for (;;) {
        baton_await();
        if (!actor->function) return NULL;
        actor->function(actor->arg);
        actor->waits = BATON_DONE;
        baton_where = "its end";
        baton_line = 0;
        baton_give(baton_pick(0), 0);
    }
}

static int baton_start(const char *name, void *(*function)(void *), void *arg) {
    int i = 1;
    while (i < baton.actor_count && baton.actors[i].waits != BATON_FREE) i++;
    if (i == BATON_ACTORS) baton_fail("more threads than there are actors");
    baton_actor *actor = &baton.actors[i];
    if (i == baton.actor_count) {
        baton.actor_count++;
        if (sem_init(&actor->turn, 0, 0) != 0 ||
            pthread_create(&actor->thread, NULL, baton_thread, (void *)(intptr_t)i) != 0)
            baton_fail("no threads");
    }
    actor->name = name;
    actor->function = function;
    actor->arg = arg;
    actor->waits = BATON_RUNS;
    return i;
}

static inline int baton_play(const char *name, void *(*function)(void *), void *arg) {
    return baton_start(name, function, arg);
}

static int baton_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *arg) {
    static const char *const names[] = {"loop 0", "loop 1", "loop 2", "loop 3"};
    int loops = 0;
    (void)attributes;
    for (int i = 1; i < baton.actor_count; i++)
        loops += strncmp(baton.actors[i].name, "loop", 4) == 0 && baton.actors[i].waits != BATON_FREE;
    baton_call("pthread_create", -2);
    *thread = baton.actors[baton_start(names[loops & 3], function, arg)].thread;
    return 0;
}

static void baton_leave(baton_actor *actor) {
    if (actor->waits != BATON_DONE) baton_wait(BATON_JOIN, actor, -1, UINT64_MAX);
    actor->waits = BATON_FREE;
}

static int baton_join(pthread_t thread, void **result) {
    (void)result;
    baton_call("pthread_join", -2);
    for (int i = 1; i < baton.actor_count; i++) {
        if (!pthread_equal(baton.actors[i].thread, thread)) continue;
        if (baton.actors[i].waits == BATON_FREE) baton_fail("a thread is joined twice");
        baton_leave(&baton.actors[i]);
        return 0;
    }
    baton_fail("a thread is joined that is none");
}

/* The calling thread waits until the flag is set. */
static inline void baton_wait_for(const int *flag) {
    if (!*flag) baton_wait(BATON_FLAG, flag, -1, UINT64_MAX);
}

/* ---- system calls: those that wait, and those that say who has a socket ---- */

static int baton_has[SIM_FILES + SIM_FIRST]; /* the actor that watches a socket, plus 1; 0: nobody yet */

static void baton_check_holder(int fd, const char *what) {
    if (fd < 0 || fd >= SIM_FILES + SIM_FIRST || !baton_has[fd] || baton_has[fd] == baton_self + 1) return;
    printf("  %s of socket %d, which is %s's\n", what, fd, baton.actors[baton_has[fd] - 1].name);
    baton_fail("a loop uses another loop's socket");
}

static uint64_t baton_deadline(int timeout) {
    return timeout < 0 ? UINT64_MAX : sim.now + (uint64_t)timeout * 1000;
}

static int baton_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout) {
    uint64_t until = baton_deadline(timeout);
    baton_call("epoll_wait", epoll);
    sim.calls[SIM_epoll_wait]++;
    for (;;) {
        sim_file *set = sim_file_at(epoll);
        if (!set || set->kind != SIM_EPOLL) return sim_bad("epoll_wait on no epoll set");
        int count = sim_collect(epoll, events, most);
        if (count || timeout == 0 || sim.now >= until) return count;
        baton_wait(BATON_EPOLL, NULL, epoll, until);
    }
}

static int baton_poll(struct pollfd *list, nfds_t count, int timeout) {
    uint64_t until = baton_deadline(timeout);
    baton_call("poll", list[0].fd);
    sim.calls[SIM_poll]++;
    for (;;) {
        sim_file *file = count == 1 ? sim_file_at(list[0].fd) : NULL;
        if (!file) return sim_bad("poll of no descriptor");
        list[0].revents = sim_mask(file) & EPOLLIN ? POLLIN : 0;
        if (list[0].revents) return 1;
        if (timeout == 0 || sim.now >= until) return 0;
        baton_wait(BATON_POLL, NULL, list[0].fd, until);
    }
}

/* Waking somebody is a meeting at what he waits with. */
static ssize_t baton_write(int fd, const void *data, size_t size) {
    sim_file *file = sim_file_at(fd);
    baton_call("write", file && file->epoll >= 0 ? file->epoll : fd);
    return sim_write(fd, data, size);
}

static ssize_t baton_read(int fd, void *data, size_t size) {
    baton_call("read", fd);
    return sim_read(fd, data, size);
}

static int baton_epoll_ctl(int epoll, int what, int fd, struct epoll_event *event) {
    baton_call("epoll_ctl", fd);
    sim_file *file = sim_file_at(fd);
    if (file && file->kind == SIM_STREAM) {
        baton_check_holder(fd, "epoll_ctl");
        baton_has[fd] = baton_self + 1;
    }
    return sim_epoll_ctl(epoll, what, fd, event);
}

/* The numbers of descriptors are shared by all. */
static int baton_close(int fd) {
    baton_call("close", -1);
    baton_check_holder(fd, "close");
    if (fd >= 0 && fd < SIM_FILES + SIM_FIRST) baton_has[fd] = 0;
    return sim_close(fd);
}

static void (*baton_on_accept)(int fd);

static int baton_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    baton_call("accept4", -1);
    int made = sim_accept4(fd, address, size, flags);
    if (made >= 0) baton_has[made] = 0;
    if (made >= 0 && baton_on_accept) baton_on_accept(made);
    return made;
}

static void (*baton_on_call)(int call, int fd); /* on a socket, while schedules are played */

#define BATON_ON_SOCKET(result, name, parameters, arguments)                        \
    static result baton_##name parameters {                                         \
        baton_call(#name, fd);                                                      \
        if (baton.exploring && baton_on_call) baton_on_call(SIM_##name, fd); \
        baton_check_holder(fd, #name);                                              \
        return sim_##name arguments;                                                \
    }
BATON_ON_SOCKET(ssize_t, recv, (int fd, void *data, size_t size, int flags), (fd, data, size, flags))
BATON_ON_SOCKET(ssize_t, send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags))
BATON_ON_SOCKET(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
BATON_ON_SOCKET(int, shutdown, (int fd, int how), (fd, how))
BATON_ON_SOCKET(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t size),
                (fd, level, name, value, size))

/* Time stands still while threads run. */
static int baton_sched_yield(void) {
    baton_call("sched_yield", -3 - baton_self);
    return 0;
}

/* ---- memory ---- */

/* sim_allocator, and the numbers of what is allocated before a schedule begins. The largest blocks are not hidden while they
   are kept: that alone would cost more than a schedule. */
static void *baton_allocator(void *context, void *pointer, size_t old_size, size_t new_size) {
    for (int i = 0; pointer && i < baton.block_count; i++)
        if (baton.blocks[i].start == (const char *)pointer) baton.blocks[i] = baton.blocks[--baton.block_count];
    void *block = sim_allocator(context, pointer, old_size, new_size);
    if (block && !baton.exploring && baton.block_count < BATON_BLOCKS) {
        baton.blocks[baton.block_count].start = (const char *)block;
        baton.blocks[baton.block_count].size = new_size;
        baton.blocks[baton.block_count++].number = ++baton.block_number;
    }
    return block;
}

/* ---- schedules ---- */

static inline void baton_begin(void) {
    baton_self = 0;
    baton.actor_count = 1;
    baton.actors[0].name = "the director";
    if (sem_init(&baton.actors[0].turn, 0, 0) != 0) abort();
    sim_on_violation = baton_violation;
#if defined(POISON_WORKS)
    __sanitizer_set_death_callback(baton_tell);
#endif
    test_system.lock = baton_lock;
    test_system.unlock = baton_unlock;
    test_system.pthread_create = baton_create;
    test_system.epoll_wait = baton_epoll_wait;
    test_system.epoll_ctl = baton_epoll_ctl;
    test_system.poll = baton_poll;
    test_system.write = baton_write;
    test_system.read = baton_read;
    test_system.close = baton_close;
    test_system.accept4 = baton_accept4;
    test_system.recv = baton_recv;
    test_system.send = baton_send;
    test_system.sendmsg = baton_sendmsg;
    test_system.shutdown = baton_shutdown;
    test_system.setsockopt = baton_setsockopt;
    test_system.sched_yield = baton_sched_yield;
}

/* Before each schedule, with an empty kernel. */
static inline void baton_reset(void) {
    memset(baton.locks, 0, sizeof baton.locks);
    memset(baton_has, 0, sizeof baton_has);
    baton.block_count = 0;
    baton.block_number = 0;
    baton.depth = 0;
    baton.detours = 0;
    baton.points = 0;
    baton.meetings = 0;
    baton.changes = 0;
    baton.time_passes = 0;
    baton.schedule++;
}

/* The director looks on until the others are all done or wait. */
static inline void baton_rest(int explore) {
    baton.exploring = explore;
    baton_wait(BATON_REST, NULL, -1, UINT64_MAX);
    baton.exploring = 0;
    for (int i = 1; i < baton.actor_count; i++)
        if (baton.actors[i].waits == BATON_LOCK) baton_fail("a mutex is waited for and never unlocked");
}

/* Another scene: nothing is known of it. */
static inline void baton_forget(const char *scene) {
    memset(baton.objects, 0, sizeof baton.objects);
    baton.object_count = 0;
    baton.scene = scene;
    baton.schedule = 0;
}

/* What is known to be shared is taken for it from here on. Returns how many objects that adds. */
static inline int baton_learn(void) {
    int count = 0;
    for (int i = 0; i < BATON_NAMES; i++) {
        baton_object *object = &baton.objects[i];
        int shared = object->written && object->actors & (object->actors - 1);
        count += shared && !object->shared;
        object->shared = shared != 0;
    }
    return count;
}

/* The next order of choices that has not been played: the last choice that can be another one is. False: there is none. */
static inline int baton_next(void) {
    while (baton.depth > 0) {
        baton.depth--;
        if (++baton.chosen[baton.depth] < baton.possible[baton.depth]) {
            baton.given = baton.depth + 1;
            return 1;
        }
    }
    return 0;
}

#endif
