/* Unit tests of [queue] and of the public calls on queues: order, limits, wake-ups, threads. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* System calls that fail on demand and are counted. */
static int write_calls;
static int write_failures; /* how many of the next writes fail, with this errno */
static int write_errno;
static int read_calls;
static int read_failures; /* with EINTR */
static int eventfd_fails;

static ssize_t fake_write(int fd, const void *data, size_t size) {
    __atomic_add_fetch(&write_calls, 1, __ATOMIC_RELAXED);
    if (write_failures && write_failures--) {
        errno = write_errno;
        return -1;
    }
    return write(fd, data, size);
}

static ssize_t fake_read(int fd, void *data, size_t size) {
    __atomic_add_fetch(&read_calls, 1, __ATOMIC_RELAXED);
    if (read_failures && read_failures--) {
        errno = EINTR;
        return -1;
    }
    return read(fd, data, size);
}

static int fake_eventfd(unsigned value, int flags) {
    if (!eventfd_fails) return eventfd(value, flags);
    errno = EMFILE;
    return -1;
}

#include "../library.h"

REPLACE(write, fake_write)
REPLACE(read, fake_read)
REPLACE(eventfd, fake_eventfd)

#include "../test.h"

typedef struct heap {
    size_t blocks;
    size_t live;
    int fail;
} heap;

static heap memory;

static void *heap_move(void *context, void *pointer, size_t old_size, size_t new_size) {
    heap *h = (heap *)context;
    if (new_size && h->fail) return NULL;
    __atomic_add_fetch(&h->live, new_size - old_size, __ATOMIC_RELAXED);
    if (!new_size) {
        __atomic_sub_fetch(&h->blocks, 1, __ATOMIC_RELAXED);
        free(pointer);
        return NULL;
    }
    if (!pointer) __atomic_add_fetch(&h->blocks, 1, __ATOMIC_RELAXED);
    return realloc(pointer, new_size);
}

static int is_readable(int fd) {
    struct pollfd ready;
    ready.fd = fd;
    ready.events = POLLIN;
    ready.revents = 0;
    return poll(&ready, 1, 0) == 1;
}

/* ---- the list under the mutex ---- */

static void make_inbox(wss__queue_inbox *inbox, int max_count, size_t max_bytes) {
    wss_options options;
    memset(&options, 0, sizeof options);
    options.max_posted = max_count;
    options.max_posted_bytes = max_bytes;
    CHECK(wss__queue_init(inbox, &options));
    write_calls = 0;
    read_calls = 0;
}

static void make_jobs(wss__queue_job *jobs, int count, size_t cost) {
    memset(jobs, 0, (size_t)count * sizeof *jobs);
    for (int i = 0; i < count; i++) jobs[i].cost = cost;
}

/* What was taken is these jobs, in this order; then it has run. */
static void check_batch(wss__queue_inbox *inbox, const wss__queue_job *jobs, const char *order) {
    for (; *order; order++) {
        const wss__queue_job *job = wss__queue_next(inbox);
        CHECK(job == &jobs[*order - '0']);
        if (!job) return;
    }
    CHECK(!wss__queue_next(inbox));
}

static void take(wss__queue_inbox *inbox, const wss__queue_job *jobs, const char *order) {
    wss__queue_take(inbox, 0);
    check_batch(inbox, jobs, order);
}

/* What those inside the limits cost. */
static size_t bytes_in(const wss__queue_inbox *inbox) {
    return inbox->came.bytes - inbox->begun.bytes;
}

static void order(void) {
    wss__queue_inbox inbox;
    wss__queue_job jobs[5];
    make_inbox(&inbox, WSS_OFF, WSS_UNLIMITED);
    make_jobs(jobs, 5, 1);
    take(&inbox, NULL, "");
    for (int i = 0; i < 5; i++) {
        jobs[i].next[WSS__QUEUE_ALL] = &jobs[0]; /* what a caller left there does not matter */
        CHECK_INT(wss__queue_push(&inbox, &jobs[i]), WSS_OK);
        CHECK_INT(wss__queue_posted(&inbox), i + 1);
    }
    take(&inbox, jobs, "01234");
    CHECK_INT(wss__queue_posted(&inbox), 0);
    CHECK_INT(bytes_in(&inbox), 0);
    take(&inbox, NULL, "");
    wss__queue_destroy(&inbox);
    CHECK_INT(inbox.fd, -1);
    wss__queue_destroy(&inbox);
}

static void limit_by_count(void) {
    wss__queue_inbox inbox;
    wss__queue_job jobs[6];
    make_inbox(&inbox, 3, WSS_UNLIMITED);
    make_jobs(jobs, 6, 1000);
    for (int i = 0; i < 3; i++) CHECK_INT(wss__queue_push(&inbox, &jobs[i]), WSS_OK);
    jobs[3].next[WSS__QUEUE_ALL] = &jobs[5];
    CHECK_INT(wss__queue_push(&inbox, &jobs[3]), WSS_ERR_QUEUE_FULL);
    CHECK(jobs[3].next[WSS__QUEUE_ALL] == &jobs[5]); /* it stays with the caller, untouched */
    jobs[4].cost = 0;
    CHECK_INT(wss__queue_push(&inbox, &jobs[4]), WSS_OK); /* outside the limits */
    CHECK_INT(wss__queue_posted(&inbox), 3);
    take(&inbox, jobs, "0124");
    CHECK_INT(wss__queue_push(&inbox, &jobs[3]), WSS_OK);
    take(&inbox, jobs, "3");
    wss__queue_destroy(&inbox);
}

/* Up to L bytes fit, L + 1 do not; a queue that has none takes one of any size. */
static void limit_by_bytes(void) {
    wss__queue_inbox inbox;
    wss__queue_job jobs[4];
    for (size_t second = 38; second <= 42; second++) {
        make_inbox(&inbox, WSS_OFF, 100);
        make_jobs(jobs, 4, 60);
        jobs[1].cost = second;
        CHECK_INT(wss__queue_push(&inbox, &jobs[0]), WSS_OK);
        int fits = 60 + second <= 100;
        CHECK_INT(wss__queue_push(&inbox, &jobs[1]), fits ? WSS_OK : WSS_ERR_QUEUE_FULL);
        CHECK_INT(bytes_in(&inbox), fits ? 60 + second : 60);
        take(&inbox, jobs, fits ? "01" : "0");
        CHECK_INT(bytes_in(&inbox), 0);
        wss__queue_destroy(&inbox);
    }
    make_inbox(&inbox, WSS_OFF, 100);
    make_jobs(jobs, 4, SIZE_MAX / 2);
    jobs[3].cost = 0;
    jobs[2].cost = 1;
    CHECK_INT(wss__queue_push(&inbox, &jobs[3]), WSS_OK);
    CHECK_INT(wss__queue_push(&inbox, &jobs[0]), WSS_OK); /* what is outside the limits leaves it empty */
    CHECK_INT(wss__queue_push(&inbox, &jobs[1]), WSS_ERR_QUEUE_FULL);
    CHECK_INT(wss__queue_push(&inbox, &jobs[2]), WSS_ERR_QUEUE_FULL);
    take(&inbox, jobs, "30");
    CHECK_INT(wss__queue_push(&inbox, &jobs[1]), WSS_OK);
    wss__queue_destroy(&inbox);
}

static void closed(void) {
    wss__queue_inbox inbox;
    wss__queue_job jobs[3];
    make_inbox(&inbox, 1, 1);
    make_jobs(jobs, 3, 5);
    CHECK_INT(wss__queue_push(&inbox, &jobs[0]), WSS_OK);
    wss__queue_take(&inbox, 1);
    check_batch(&inbox, jobs, "0");
    write_calls = 0;
    jobs[2].cost = 0;
    CHECK_INT(wss__queue_push(&inbox, &jobs[1]), WSS_ERR_STOPPED);
    CHECK_INT(wss__queue_push(&inbox, &jobs[2]), WSS_ERR_STOPPED);
    take(&inbox, NULL, "");
    CHECK_INT(wss__queue_push(&inbox, &jobs[1]), WSS_ERR_STOPPED);
    CHECK_INT(write_calls, 0);
    wss__queue_destroy(&inbox);
}

/* What was taken and has not begun to run counts, and keeps its place. */
static void put_back(void) {
    wss__queue_inbox inbox;
    wss__queue_job jobs[6];
    make_inbox(&inbox, 4, 100);
    make_jobs(jobs, 6, 10);
    for (int i = 0; i < 4; i++) CHECK_INT(wss__queue_push(&inbox, &jobs[i]), WSS_OK);
    CHECK_INT(wss__queue_take_some(&inbox, 3), 3);
    CHECK_INT(wss__queue_push(&inbox, &jobs[4]), WSS_ERR_QUEUE_FULL);
    CHECK(wss__queue_next(&inbox) == &jobs[0]);
    CHECK_INT(wss__queue_posted(&inbox), 3);
    CHECK_INT(bytes_in(&inbox), 30);
    CHECK_INT(wss__queue_push(&inbox, &jobs[4]), WSS_OK);
    wss__queue_put_back(&inbox); /* 1, 2 come before 3 and 4, which are newer */
    CHECK_INT(wss__queue_posted(&inbox), 4);
    CHECK_INT(bytes_in(&inbox), 40);
    CHECK_INT(wss__queue_push(&inbox, &jobs[5]), WSS_ERR_QUEUE_FULL);
    take(&inbox, jobs, "1234");
    CHECK_INT(wss__queue_push(&inbox, &jobs[1]), WSS_OK);
    wss__queue_take_some(&inbox, 10);
    wss__queue_put_back(&inbox); /* into an empty queue: more is appended behind */
    jobs[5].cost = 0;
    CHECK_INT(wss__queue_push(&inbox, &jobs[5]), WSS_OK);
    take(&inbox, jobs, "15");
    write_calls = 0;
    wss__queue_put_back(&inbox);
    CHECK_INT(write_calls, 0);
    take(&inbox, jobs, "");
    wss__queue_destroy(&inbox);
}

static int put_own(wss__queue_inbox *inbox, wss__queue_job *job) {
    int result = wss__queue_put(&inbox, job, 1, inbox, NULL, 0);
    wss__queue_finish(&inbox, 1);
    return result;
}

/* What the taker orders while orders of the batch in hand are left goes behind these, whatever came in meanwhile, and does
   not wake it; and once they have run nothing of its own is on the way. */
static void orders_of_the_taker(void) {
    wss__queue_inbox inbox;
    wss__queue_job jobs[8];
    make_inbox(&inbox, 4, 1000);
    make_jobs(jobs, 8, 1);
    for (int i = 1; i < 8; i++) jobs[i].kind = i == 2 ? WSS__QUEUE_POST : 1;
    for (int i = 0; i < 3; i++) CHECK_INT(wss__queue_push(&inbox, &jobs[i]), WSS_OK);
    wss__queue_take(&inbox, 0);
    CHECK_INT(inbox.left, 1);
    CHECK_INT(wss__queue_push(&inbox, &jobs[7]), WSS_OK);
    CHECK(wss__queue_next(&inbox) == &jobs[0]);
    write_calls = 0;
    CHECK_INT(put_own(&inbox, &jobs[3]), WSS_OK);
    CHECK_INT(inbox.left, 2);
    CHECK_INT(wss__queue_posted(&inbox), 4);
    CHECK_INT(put_own(&inbox, &jobs[4]), WSS_ERR_QUEUE_FULL); /* the limits are for all */
    jobs[4].cost = 0;
    CHECK_INT(put_own(&inbox, &jobs[4]), WSS_OK);
    CHECK_INT(write_calls, 0);
    check_batch(&inbox, jobs, "1234");
    CHECK_INT(inbox.left, 0);
    CHECK_INT(put_own(&inbox, &jobs[5]), WSS_OK); /* nobody should: it comes in as from others */
    take(&inbox, jobs, "75");
    CHECK_INT(inbox.left, 0);
    CHECK_INT(wss__queue_posted(&inbox), 0);
    CHECK_INT(wss__queue_push(&inbox, &jobs[1]), WSS_OK);
    wss__queue_take(&inbox, 1);
    CHECK_INT(put_own(&inbox, &jobs[6]), WSS_OK); /* the last batch is closed for others only */
    CHECK_INT(wss__queue_push(&inbox, &jobs[0]), WSS_ERR_STOPPED);
    check_batch(&inbox, jobs, "16");
    wss__queue_destroy(&inbox);
}

/* Jobs of a group are called back, the oldest first, as long as nobody has taken them. */
static void called_back(void) {
    wss__queue_inbox inbox;
    wss__queue_job jobs[8];
    wss__queue_list groups[3];
    make_inbox(&inbox, WSS_OFF, WSS_UNLIMITED);
    make_jobs(jobs, 8, 0);
    memset(groups, 0, sizeof groups);
    CHECK(!wss__queue_recall(&inbox, &groups[0]));
    for (int i = 0; i < 8; i++) {
        jobs[i].kind = 1;
        jobs[i].group = i % 4 == 3 ? NULL : &groups[i % 2]; /* 3 and 7 are of none */
        CHECK_INT(wss__queue_push(&inbox, &jobs[i]), WSS_OK);
    }
    CHECK(wss__queue_recall(&inbox, &groups[0]) == &jobs[0]);
    CHECK_INT(wss__queue_take_some(&inbox, 2), 2); /* 1 and 2 */
    wss__queue_put_back(&inbox);                   /* who had them once keeps them */
    CHECK(wss__queue_recall(&inbox, &groups[0]) == &jobs[4]);
    wss__queue_regroup(&inbox, &groups[0], &groups[2]);
    CHECK(!wss__queue_recall(&inbox, &groups[0]));
    wss__queue_regroup(&inbox, &groups[1], &groups[2]);
    CHECK(!wss__queue_recall(&inbox, &groups[1]));
    CHECK(wss__queue_recall(&inbox, &groups[2]) == &jobs[6]); /* in the order in which they came to the group */
    take(&inbox, jobs, "12357");
    wss__queue_destroy(&inbox);
}

/* The descriptor is written once when the queue stops being empty, and not again until it has been emptied. */
static void wakes_once(void) {
    wss__queue_inbox inbox;
    wss__queue_job jobs[9];
    make_inbox(&inbox, WSS_OFF, WSS_UNLIMITED);
    for (int round = 0; round < 4; round++) {
        make_jobs(jobs, 9, round % 2 ? 8 : 0);
        CHECK(!is_readable(inbox.fd));
        for (int i = 0; i < 9; i++) {
            CHECK_INT(wss__queue_push(&inbox, &jobs[i]), WSS_OK);
            CHECK_INT(write_calls, round + 1);
            CHECK(is_readable(inbox.fd));
        }
        wss__queue_clear(&inbox);
        CHECK(!is_readable(inbox.fd));
        take(&inbox, jobs, "012345678");
    }
    write_calls = 0;
    make_jobs(jobs, 9, 1);
    CHECK_INT(wss__queue_push(&inbox, &jobs[0]), WSS_OK);
    wss__queue_clear(&inbox);
    wss__queue_take_some(&inbox, 1);
    wss__queue_put_back(&inbox);
    CHECK_INT(write_calls, 2);
    CHECK(is_readable(inbox.fd)); /* what is put back is announced */
    CHECK_INT(wss__queue_push(&inbox, &jobs[1]), WSS_OK);
    CHECK_INT(write_calls, 2);
    inbox.max_count = 1;
    CHECK_INT(wss__queue_push(&inbox, &jobs[2]), WSS_ERR_QUEUE_FULL);
    CHECK_INT(write_calls, 2); /* what is refused is not */
    wss__queue_destroy(&inbox);
}

static void interrupted_calls(void) {
    wss__queue_inbox inbox;
    wss__queue_job jobs[2];
    uint64_t most = UINT64_MAX - 1;
    make_inbox(&inbox, WSS_OFF, WSS_UNLIMITED);
    make_jobs(jobs, 2, 1);
    write_failures = 3;
    write_errno = EINTR;
    CHECK_INT(wss__queue_push(&inbox, &jobs[0]), WSS_OK);
    CHECK_INT(write_calls, 4); /* until it is through */
    CHECK(is_readable(inbox.fd));
    read_failures = 3;
    wss__queue_clear(&inbox);
    CHECK_INT(read_calls, 4);
    CHECK(!is_readable(inbox.fd));
    read_calls = 0;
    wss__queue_clear(&inbox); /* nothing there: one try, and no waiting */
    CHECK_INT(read_calls, 1);
    take(&inbox, jobs, "0");

    write_calls = 0;
    write_failures = 1;
    write_errno = EAGAIN;
    CHECK_INT(wss__queue_push(&inbox, &jobs[1]), WSS_OK);
    CHECK_INT(write_calls, 1); /* not tried again */
    wss__queue_take(&inbox, 0);
    CHECK_INT(write(inbox.fd, &most, sizeof most), sizeof most); /* a counter that is full */
    CHECK_INT(wss__queue_push(&inbox, &jobs[0]), WSS_OK);
    CHECK(is_readable(inbox.fd));
    wss__queue_clear(&inbox);
    CHECK(!is_readable(inbox.fd));
    wss__queue_destroy(&inbox);
}

static void descriptor_flags(void) {
    wss__queue_inbox inbox;
    make_inbox(&inbox, WSS_OFF, WSS_UNLIMITED);
    CHECK(fcntl(inbox.fd, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(inbox.fd, F_GETFL) & O_NONBLOCK);
    wss__queue_destroy(&inbox);
    wss_options options;
    memset(&options, 0, sizeof options);
    eventfd_fails = 1;
    CHECK(!wss__queue_init(&inbox, &options));
    eventfd_fails = 0;
    CHECK(inbox.fd < 0);
    wss__queue_destroy(&inbox); /* of what could not be made is allowed */
}

/* ---- threads ---- */

enum { PRODUCERS = 4, ITEMS = 20000 };

typedef struct item {
    wss__queue_job job;
    int producer;
    int number;
} item;

typedef struct producer {
    wss__queue_inbox *inbox;
    item *items;
    int refused;
} producer;

static void *produce(void *arg) {
    producer *p = (producer *)arg;
    for (int i = 0; i < ITEMS; i++) {
        while (wss__queue_push(p->inbox, &p->items[i].job) != WSS_OK) {
            p->refused++;
            sched_yield();
        }
    }
    return NULL;
}

/* The consumer sleeps on the descriptor: one lost wake-up and this test never ends. */
static void run_producers(int max_count) {
    static item items[PRODUCERS][ITEMS];
    wss__queue_inbox inbox;
    producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    int next[PRODUCERS] = {0};
    int total = 0;
    make_inbox(&inbox, max_count, WSS_UNLIMITED);
    memset(items, 0, sizeof items);
    for (int p = 0; p < PRODUCERS; p++) {
        for (int i = 0; i < ITEMS; i++) {
            items[p][i].producer = p;
            items[p][i].number = i;
            items[p][i].job.cost = 1;
        }
        producers[p].inbox = &inbox;
        producers[p].items = items[p];
        producers[p].refused = 0;
        CHECK_INT(pthread_create(&threads[p], NULL, produce, &producers[p]), 0);
    }
    while (total < PRODUCERS * ITEMS) {
        struct pollfd ready;
        ready.fd = inbox.fd;
        ready.events = POLLIN;
        if (poll(&ready, 1, -1) != 1) continue;
        wss__queue_clear(&inbox);
        int batch = 0;
        wss__queue_take(&inbox, 0);
        for (wss__queue_job *job; (job = wss__queue_next(&inbox)) != NULL;) {
            item *it = (item *)(void *)job;
            CHECK_INT(it->number, next[it->producer]);
            next[it->producer] = it->number + 1;
            total++;
            batch++;
        }
        if (max_count != WSS_OFF) CHECK(batch <= max_count);
    }
    for (int p = 0; p < PRODUCERS; p++) {
        pthread_join(threads[p], NULL);
        CHECK_INT(next[p], ITEMS);
        if (max_count == WSS_OFF) CHECK_INT(producers[p].refused, 0);
    }
    take(&inbox, NULL, "");
    CHECK(write_calls <= PRODUCERS * ITEMS);
    wss__queue_destroy(&inbox);
}

static void producers_and_a_sleeper(void) {
    run_producers(WSS_OFF);
}

static void producers_against_a_limit(void) {
    run_producers(8);
}

/* ---- the public calls ---- */

static char trace[256];
static wss_queue *current;

static void note(void *arg) {
    size_t length = strlen(trace);
    if (length + 1 < sizeof trace) snprintf(trace + length, sizeof trace - length, "%s", (const char *)arg);
}

static void *text(const char *s) {
    return (void *)(uintptr_t)s;
}

static wss_queue *make_queue(int max_posted, size_t max_bytes) {
    wss_options options;
    wss_error why;
    memset(&options, 0, sizeof options);
    memset(&memory, 0, sizeof memory);
    options.allocator = heap_move;
    options.allocator_context = &memory;
    options.max_posted = max_posted;
    options.max_posted_bytes = max_bytes;
    wss_queue *queue = wss_queue_create(&options, &why);
    CHECK(queue != NULL);
    CHECK_INT(why.code, 0);
    CHECK_TEXT(why.text, "");
    trace[0] = 0;
    current = queue;
    return queue;
}

static void end_queue(wss_queue *queue) {
    CHECK_INT(wss_queue_destroy(queue), WSS_OK);
    CHECK_INT(memory.live, 0);
    CHECK_INT(memory.blocks, 0);
}

static void arguments(void) {
    wss_queue *queue = wss_queue_create(NULL, NULL);
    CHECK(queue != NULL);
    CHECK_INT(wss_queue_post(NULL, note, text("x")), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_queue_post(queue, NULL, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_queue_run(NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_queue_poll(NULL, 0), WSS_ERR_ARGUMENT);
    CHECK(wss_queue_fd(NULL) < 0);
    wss_queue_stop(NULL);
    CHECK_INT(wss_queue_destroy(NULL), WSS_OK);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    CHECK_INT(wss_queue_destroy(queue), WSS_OK);
}

static void poll_runs_what_is_there(void) {
    wss_queue *queue = make_queue(0, 0);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    CHECK(!is_readable(wss_queue_fd(queue)));
    CHECK_INT(wss_queue_post(queue, note, text("a")), WSS_OK);
    CHECK(is_readable(wss_queue_fd(queue)));
    CHECK_INT(wss_queue_post(queue, note, text("b")), WSS_OK);
    CHECK_INT(wss_queue_poll(queue, -1), WSS_OK);
    CHECK_TEXT(trace, "ab");
    CHECK(!is_readable(wss_queue_fd(queue)));
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    CHECK_INT(wss_queue_poll(queue, 1), WSS_OK);
    CHECK_TEXT(trace, "ab");
    end_queue(queue);
}

static void post_again(void *arg) {
    note(arg);
    wss_queue_post(current, note, text("later "));
}

/* What the work posts is for the next time. */
static void posts_inside(void) {
    wss_queue *queue = make_queue(0, 0);
    CHECK_INT(wss_queue_post(queue, post_again, text("1 ")), WSS_OK);
    CHECK_INT(wss_queue_post(queue, note, text("2 ")), WSS_OK);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    CHECK_TEXT(trace, "1 2 ");
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    CHECK_TEXT(trace, "1 2 later ");
    end_queue(queue);
}

static int counted;

static void count_it(void *arg) {
    (void)arg;
    counted++;
}

/* A batch is 256 of what is there; the rest is announced, and counts as what waits. */
static void batches(void) {
    wss_queue *queue = make_queue(600, 0);
    counted = 0;
    for (int i = 0; i < 600; i++) CHECK_INT(wss_queue_post(queue, count_it, NULL), WSS_OK);
    for (int run = 256; run <= 512; run += 256) {
        CHECK_INT(wss_queue_post(queue, count_it, NULL), run == 256 ? WSS_ERR_QUEUE_FULL : WSS_OK);
        CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
        CHECK_INT(counted, run);
        CHECK(is_readable(wss_queue_fd(queue)));
        CHECK_INT(wss__queue_posted(&queue->inbox), run == 256 ? 600 - 256 : 601 - 512);
    }
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    CHECK_INT(counted, 601);
    CHECK_INT(wss__queue_posted(&queue->inbox), 0);
    CHECK_INT(bytes_in(&queue->inbox), 0);
    CHECK(!is_readable(wss_queue_fd(queue)));
    end_queue(queue);
}

static void stop_here(void *arg) {
    note(arg);
    wss_queue_stop(current);
}

/* The work in hand ends; the rest keeps its place before what comes later, and is announced. */
static void stop_inside(void) {
    wss_queue *queue = make_queue(0, 0);
    wss_queue_post(queue, note, text("1"));
    wss_queue_post(queue, stop_here, text("2"));
    wss_queue_post(queue, note, text("3"));
    wss_queue_post(queue, note, text("4"));
    CHECK_INT(wss_queue_run(queue), WSS_OK);
    CHECK_TEXT(trace, "12");
    wss_queue_post(queue, note, text("5"));
    CHECK(is_readable(wss_queue_fd(queue)));
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    CHECK_TEXT(trace, "12345");
    wss_queue_post(queue, stop_here, text("6"));
    CHECK_INT(wss_queue_poll(queue, 0), WSS_ERR_STOPPED);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK); /* a stop ends one run, not all */
    CHECK_TEXT(trace, "123456");
    end_queue(queue);
}

static void stop_before(void) {
    wss_queue *queue = make_queue(0, 0);
    wss_queue_post(queue, note, text("x"));
    wss_queue_stop(queue);
    wss_queue_stop(queue);
    CHECK_INT(wss_queue_run(queue), WSS_OK);
    CHECK_TEXT(trace, "");
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    CHECK_TEXT(trace, "x");
    wss_queue_stop(queue);
    CHECK_INT(wss_queue_poll(queue, -1), WSS_ERR_STOPPED);
    end_queue(queue);
}

static void on_signal(int number) {
    (void)number;
    wss_queue_stop(current);
}

/* In a signal handler, which must find errno as it was. */
static void stop_in_a_signal(void) {
    wss_queue *queue = make_queue(0, 0);
    void (*before)(int) = signal(SIGUSR1, on_signal);
    write_failures = 1;
    write_errno = EAGAIN;
    errno = 4242;
    raise(SIGUSR1);
    CHECK_INT(errno, 4242);
    CHECK_INT(wss_queue_run(queue), WSS_OK);
    signal(SIGUSR1, before);
    end_queue(queue);
}

static int inner_results[3];

static void call_inside(void *arg) {
    wss_queue *queue = (wss_queue *)arg;
    inner_results[0] = wss_queue_poll(queue, 0);
    inner_results[1] = wss_queue_run(queue);
    inner_results[2] = wss_queue_destroy(queue);
}

static void busy_inside(void) {
    wss_queue *queue = make_queue(0, 0);
    wss_queue_post(queue, call_inside, queue);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    for (int i = 0; i < 3; i++) CHECK_INT(inner_results[i], WSS_ERR_BUSY);
    end_queue(queue);
}

static sem_t entered;
static sem_t leave;

static void hold(void *arg) {
    (void)arg;
    sem_post(&entered);
    while (sem_wait(&leave) != 0) {
    }
}

static void *run_queue(void *arg) {
    return (void *)(intptr_t)wss_queue_run((wss_queue *)arg);
}

static void busy_elsewhere(void) {
    wss_queue *queue = make_queue(0, 0);
    pthread_t thread;
    void *result = NULL;
    sem_init(&entered, 0, 0);
    sem_init(&leave, 0, 0);
    wss_queue_post(queue, hold, NULL);
    CHECK_INT(pthread_create(&thread, NULL, run_queue, queue), 0);
    while (sem_wait(&entered) != 0) {
    }
    CHECK_INT(wss_queue_poll(queue, 0), WSS_ERR_BUSY);
    CHECK_INT(wss_queue_run(queue), WSS_ERR_BUSY);
    CHECK_INT(wss_queue_destroy(queue), WSS_ERR_BUSY);
    CHECK_INT(wss_queue_post(queue, note, text("not run")), WSS_OK);
    wss_queue_stop(queue);
    sem_post(&leave);
    pthread_join(thread, &result);
    CHECK_INT((intptr_t)result, WSS_OK);
    CHECK_TEXT(trace, "");
    end_queue(queue); /* drops what was posted and not run */
}

/* A stop wakes a thread that sleeps in wss_queue_run, again and again. */
static void stop_from_elsewhere(void) {
    wss_queue *queue = make_queue(0, 0);
    for (int i = 0; i < 50; i++) {
        pthread_t thread;
        void *result = NULL;
        CHECK_INT(pthread_create(&thread, NULL, run_queue, queue), 0);
        if (i % 2) sched_yield();
        wss_queue_stop(queue);
        pthread_join(thread, &result);
        CHECK_INT((intptr_t)result, WSS_OK);
    }
    end_queue(queue);
}

static void limits_of_posts(void) {
    wss_queue *queue = make_queue(3, 0);
    for (int i = 0; i < 3; i++) CHECK_INT(wss_queue_post(queue, note, text("a")), WSS_OK);
    size_t blocks = memory.blocks;
    CHECK_INT(wss_queue_post(queue, note, text("b")), WSS_ERR_QUEUE_FULL);
    CHECK_INT(memory.blocks, blocks); /* what is refused is given back */
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    CHECK_TEXT(trace, "aaa");
    CHECK_INT(wss_queue_post(queue, note, text("b")), WSS_OK);
    end_queue(queue);
    queue = make_queue(0, 1);
    CHECK_INT(wss_queue_post(queue, note, text("a")), WSS_OK); /* an empty queue always takes one */
    CHECK_INT(wss_queue_post(queue, note, text("b")), WSS_ERR_QUEUE_FULL);
    end_queue(queue);
    queue = make_queue(WSS_OFF, WSS_UNLIMITED);
    for (int i = 0; i < 70000; i++) CHECK_INT(wss_queue_post(queue, note, text("")), WSS_OK);
    end_queue(queue);
    queue = make_queue(0, 0);
    for (int i = 0; i < 65536; i++) CHECK_INT(wss_queue_post(queue, note, text("")), WSS_OK);
    CHECK_INT(wss_queue_post(queue, note, text("")), WSS_ERR_QUEUE_FULL);
    end_queue(queue);
}

/* Of the options a queue uses the allocator and its own limits: a budget is the server's. */
static void budget_is_not_for_queues(void) {
    wss_options options;
    memset(&options, 0, sizeof options);
    memset(&memory, 0, sizeof memory);
    options.allocator = heap_move;
    options.allocator_context = &memory;
    options.memory_budget = 1;
    wss_queue *queue = wss_queue_create(&options, NULL);
    CHECK(queue != NULL);
    if (!queue) return;
    CHECK_INT(wss_queue_post(queue, note, text("")), WSS_OK);
    end_queue(queue);
}

static void failures(void) {
    wss_options options;
    wss_error why;
    memset(&options, 0, sizeof options);
    memset(&memory, 0, sizeof memory);
    options.allocator = heap_move;
    options.allocator_context = &memory;
    memory.fail = 1;
    CHECK(!wss_queue_create(&options, &why));
    CHECK_INT(why.code, WSS_ERR_MEMORY);
    CHECK_TEXT(why.text, "cannot make queue: out of memory");
    memory.fail = 0;
    eventfd_fails = 1;
    CHECK(!wss_queue_create(&options, &why));
    CHECK_INT(why.code, WSS_ERR_SYSTEM);
    CHECK_INT(why.system_errno, EMFILE);
    CHECK(strncmp(why.text, "cannot make queue: ", 19) == 0);
    CHECK_TEXT(why.text + 19, strerror(EMFILE));
    CHECK(!wss_queue_create(&options, NULL));
    eventfd_fails = 0;
    CHECK_INT(memory.live, 0);
    CHECK_INT(memory.blocks, 0);
    wss_queue *queue = make_queue(0, 0);
    memory.fail = 1;
    CHECK_INT(wss_queue_post(queue, note, text("a")), WSS_ERR_MEMORY);
    memory.fail = 0;
    CHECK(!is_readable(wss_queue_fd(queue)));
    CHECK_INT(wss_queue_post(queue, note, text("b")), WSS_OK);
    memory.fail = 1;
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK); /* running needs no memory */
    CHECK_TEXT(trace, "b");
    end_queue(queue);
}

static int posts_run;

static void count_up(void *arg) {
    (void)arg;
    posts_run++;
}

static void *post_many(void *arg) {
    for (int i = 0; i < 20000; i++)
        while (wss_queue_post((wss_queue *)arg, count_up, NULL) == WSS_ERR_QUEUE_FULL) sched_yield();
    return NULL;
}

static void *post_and_stop(void *arg) {
    pthread_t threads[PRODUCERS];
    for (int i = 0; i < PRODUCERS; i++) pthread_create(&threads[i], NULL, post_many, arg);
    for (int i = 0; i < PRODUCERS; i++) pthread_join(threads[i], NULL);
    while (wss_queue_post((wss_queue *)arg, stop_here, text("end")) != WSS_OK) sched_yield();
    return NULL;
}

static void public_threads(void) {
    wss_queue *queue = make_queue(100, 0);
    pthread_t thread;
    posts_run = 0;
    CHECK_INT(pthread_create(&thread, NULL, post_and_stop, queue), 0);
    CHECK_INT(wss_queue_run(queue), WSS_OK);
    pthread_join(thread, NULL);
    CHECK_INT(posts_run, PRODUCERS * 20000);
    CHECK_TEXT(trace, "end");
    end_queue(queue);
}

/* A server holds its queue; its end ends the run. */
static void with_a_server(void) {
    wss_queue *queue = make_queue(0, 0);
    for (int round = 0; round < 2; round++) {
        wss_options options;
        memset(&options, 0, sizeof options);
        options.address = "127.0.0.1";
        options.queue = queue;
        wss_server *server = wss_create(&options, NULL);
        CHECK(server != NULL);
        if (!server) break;
        CHECK_INT(wss_queue_destroy(queue), WSS_ERR_BUSY);
        CHECK_INT(wss_start(server), WSS_OK);
        wss_queue_post(queue, note, text("w"));
        wss_stop(server, 0);
        CHECK_INT(wss_queue_run(queue), WSS_OK);
        CHECK_TEXT(trace, round ? "ww" : "w");
        CHECK_INT(wss_queue_destroy(queue), WSS_ERR_BUSY);
        CHECK_INT(wss_destroy(server), WSS_OK);
        CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    }
    end_queue(queue);
}

static wss_server *server_that_ended(wss_queue *queue) {
    wss_options options;
    memset(&options, 0, sizeof options);
    options.address = "127.0.0.1";
    options.queue = queue;
    wss_server *server = wss_create(&options, NULL);
    CHECK(server != NULL);
    wss_stop(server, 0);
    CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
    return server;
}

static void post_for_ever(void *arg) {
    note(arg);
    wss_queue_post(current, post_for_ever, arg);
}

static wss_server *started_inside;

static void start_inside(void *arg) {
    (void)arg;
    started_inside = server_that_ended(current);
    wss_queue_post(current, note, text("under the second"));
}

static void post_start(void *arg) {
    note(arg);
    wss_queue_post(current, start_inside, NULL);
}

/* What was posted before the end was seen runs; what that posts is for the next time. */
static void posted_behind_the_end(void) {
    wss_queue *queue = make_queue(0, 0);
    wss_server *server = server_that_ended(queue);
    wss_queue_post(queue, post_again, text("behind "));
    CHECK_INT(wss_queue_run(queue), WSS_OK);
    CHECK_TEXT(trace, "behind later ");
    wss_queue_post(queue, note, text("after"));
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK); /* one end ends one run */
    CHECK_TEXT(trace, "behind later after");
    CHECK_INT(wss_destroy(server), WSS_OK);

    trace[0] = 0;
    server = server_that_ended(queue);
    wss_queue_post(queue, post_for_ever, text("x"));
    CHECK_INT(wss_queue_run(queue), WSS_OK);
    CHECK_TEXT(trace, "xx");
    CHECK_INT(wss_destroy(server), WSS_OK);
    end_queue(queue);

    queue = make_queue(0, 0); /* a stop comes before the rest, and is used up by it */
    server = server_that_ended(queue);
    wss_queue_post(queue, stop_here, text("1"));
    wss_queue_post(queue, note, text("2"));
    CHECK_INT(wss_queue_run(queue), WSS_OK);
    CHECK_TEXT(trace, "1");
    CHECK_INT(wss_queue_run(queue), WSS_OK);
    CHECK_TEXT(trace, "12");
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    CHECK_INT(wss_destroy(server), WSS_OK);

    trace[0] = 0; /* a server that is made in the last work keeps the thread until its own end */
    server = server_that_ended(queue);
    CHECK_INT(wss_queue_post(queue, post_start, text("behind ")), WSS_OK);
    CHECK_INT(wss_queue_run(queue), WSS_OK);
    CHECK_TEXT(trace, "behind under the second");
    CHECK_INT(wss_destroy(server), WSS_OK);
    CHECK_INT(wss_destroy(started_inside), WSS_OK);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    end_queue(queue);
}

static wss_server *to_destroy;

static void destroy_it(void *arg) {
    note(arg);
    CHECK_INT(wss_destroy(to_destroy), WSS_OK);
}

/* However much was posted before the last server's end was seen, all of it runs before wss_queue_run returns, also behind
   a function that destroys the server; and wss_queue_poll runs no more than a batch of it at a time. */
static void much_behind_the_end(void) {
    for (int fill = 0; fill <= 1000; fill += 250) {
        wss_queue *queue = make_queue(0, 0);
        to_destroy = server_that_ended(queue);
        counted = 0;
        for (int i = 0; i < fill; i++) CHECK_INT(wss_queue_post(queue, count_it, NULL), WSS_OK);
        wss_queue_post(queue, destroy_it, text("d"));
        wss_queue_post(queue, post_again, text("p"));
        CHECK_INT(wss_queue_run(queue), WSS_OK);
        CHECK_INT(counted, fill);
        CHECK(strncmp(trace, "dp", 2) == 0);
        end_queue(queue);
    }
    wss_queue *queue = make_queue(0, 0);
    to_destroy = server_that_ended(queue);
    counted = 0;
    for (int i = 0; i < 1000; i++) CHECK_INT(wss_queue_post(queue, count_it, NULL), WSS_OK);
    int polls = 0;
    int result;
    do {
        int before = counted;
        result = wss_queue_poll(queue, 0);
        CHECK(counted - before <= 256);
    } while (++polls < 10 && result == WSS_OK);
    CHECK_INT(result, WSS_ERR_STOPPED);
    CHECK_INT(polls, 4);
    CHECK_INT(counted, 1000);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    CHECK_INT(wss_destroy(to_destroy), WSS_OK);
    end_queue(queue);
}

static wss_queue *stopped_queue;

static void stop_and_note(void *arg) {
    note(arg);
    wss_queue_stop(stopped_queue);
}

/* A stop comes between the end and what was posted before it: the next run goes on there. Then a second server takes the
   place of the first, and its end is waited for. */
static void stopped_behind_the_end(void) {
    wss_queue *queue = make_queue(0, 0);
    stopped_queue = queue;
    wss_server *server = server_that_ended(queue);
    for (int i = 0; i < 300; i++) CHECK_INT(wss_queue_post(queue, i == 280 ? stop_and_note : note, text(i < 280 ? "" : "s")), WSS_OK);
    CHECK_INT(wss_queue_run(queue), WSS_OK);
    CHECK_TEXT(trace, "s");
    CHECK(is_readable(wss_queue_fd(queue)));
    wss_server *second = server_that_ended(queue);
    wss_queue_post(queue, note, text("2"));
    CHECK_INT(wss_queue_run(queue), WSS_OK);
    CHECK_TEXT(trace, "ssssssssssssssssssss2");
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    CHECK_INT(wss_destroy(server), WSS_OK);
    CHECK_INT(wss_destroy(second), WSS_OK);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    server = server_that_ended(queue);
    CHECK_INT(wss_queue_post(queue, stop_and_note, text("3")), WSS_OK);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_ERR_STOPPED); /* by the stop: the mark may be left, and is no post */
    CHECK_INT(wss_destroy(server), WSS_OK);
    end_queue(queue);
}

/* What was taken and waits behind the function that runs is posted still: it counts. */
static void see_posted(void *arg) {
    (void)arg;
    int more = 0;
    while (wss_queue_post(current, count_it, NULL) == WSS_OK) more++;
    CHECK_INT(more, 1); /* in the place of this one */
}

static void the_batch_counts(void) {
    wss_queue *queue = make_queue(4, 0);
    counted = 0;
    wss_queue_post(queue, see_posted, NULL);
    for (int i = 0; i < 3; i++) CHECK_INT(wss_queue_post(queue, count_it, NULL), WSS_OK);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    CHECK_INT(counted, 3);
    CHECK_INT(wss__queue_posted(&queue->inbox), 1);
    end_queue(queue);
    CHECK_INT(counted, 4);
}

/* The end of one server of two ends nothing. */
static void with_two_servers(void) {
    wss_queue *queue = make_queue(0, 0);
    wss_server *servers[2];
    for (int i = 0; i < 2; i++) {
        wss_options options;
        memset(&options, 0, sizeof options);
        options.address = "127.0.0.1";
        options.queue = queue;
        servers[i] = wss_create(&options, NULL);
        CHECK_INT(wss_start(servers[i]), WSS_OK);
    }
    wss_stop(servers[0], 0);
    CHECK_INT(wss_queue_poll(queue, -1), WSS_OK);
    CHECK_INT(wss_destroy(servers[0]), WSS_OK);
    CHECK_INT(wss_queue_poll(queue, 0), WSS_OK);
    wss_stop(servers[1], 0);
    CHECK_INT(wss_queue_run(queue), WSS_OK);
    CHECK_INT(wss_destroy(servers[1]), WSS_OK);
    end_queue(queue);
}

int main(void) {
    alarm(120);
    RUN(order);
    RUN(limit_by_count);
    RUN(limit_by_bytes);
    RUN(closed);
    RUN(put_back);
    RUN(orders_of_the_taker);
    RUN(called_back);
    RUN(wakes_once);
    RUN(interrupted_calls);
    RUN(descriptor_flags);
    RUN(producers_and_a_sleeper);
    RUN(producers_against_a_limit);
    RUN(arguments);
    RUN(poll_runs_what_is_there);
    RUN(posts_inside);
    RUN(batches);
    RUN(stop_inside);
    RUN(stop_before);
    RUN(stop_in_a_signal);
    RUN(busy_inside);
    RUN(busy_elsewhere);
    RUN(stop_from_elsewhere);
    RUN(limits_of_posts);
    RUN(budget_is_not_for_queues);
    RUN(failures);
    RUN(public_threads);
    RUN(with_a_server);
    RUN(posted_behind_the_end);
    RUN(much_behind_the_end);
    RUN(stopped_behind_the_end);
    RUN(the_batch_counts);
    RUN(with_two_servers);
    return test_end("queue");
}
