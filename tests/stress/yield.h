/* yield.h: wsserver.h, in which a thread may lose its processor, or sleep for a moment, wherever the order of threads matters:
   at each lock and unlock, and at each call that reads, writes or waits for a descriptor that wakes another thread. Whether it
   does is drawn from a seed per thread. Include this instead of wsserver.h. */
#ifndef YIELD_H
#define YIELD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static unsigned yield_seed = 1;     /* of the run; set it before the first thread */
static unsigned yield_threads;      /* atomic */
static unsigned long yield_count;   /* atomic: processors given away */
static __thread unsigned yield_own;

static void yield_perhaps(void) {
    if (!yield_own) yield_own = (yield_seed + __atomic_add_fetch(&yield_threads, 1, __ATOMIC_RELAXED)) * 2654435761u | 1u;
    yield_own ^= yield_own << 13;
    yield_own ^= yield_own >> 17;
    yield_own ^= yield_own << 5;
    unsigned choice = yield_own >> 8 & 127;
    struct timespec moment = {0, (long)(yield_own >> 16 & 0x7fff)};
    if (choice >= 8) return;
    int number = errno;
    __atomic_add_fetch(&yield_count, 1, __ATOMIC_RELAXED);
    if (choice == 0) nanosleep(&moment, NULL);
    else sched_yield();
    errno = number;
}

static int yield_lock(pthread_mutex_t *mutex) {
    yield_perhaps();
    int result = pthread_mutex_lock(mutex);
    yield_perhaps();
    return result;
}

static int yield_unlock(pthread_mutex_t *mutex) {
    yield_perhaps();
    int result = pthread_mutex_unlock(mutex);
    yield_perhaps();
    return result;
}

static ssize_t yield_write(int fd, const void *data, size_t size) {
    yield_perhaps();
    ssize_t result = write(fd, data, size);
    yield_perhaps();
    return result;
}

static ssize_t yield_read(int fd, void *data, size_t size) {
    yield_perhaps();
    ssize_t result = read(fd, data, size);
    yield_perhaps();
    return result;
}

static int yield_poll(struct pollfd *all, nfds_t count, int milliseconds) {
    yield_perhaps();
    int result = poll(all, count, milliseconds);
    yield_perhaps();
    return result;
}

static int yield_epoll_wait(int epoll, struct epoll_event *events, int most, int milliseconds) {
    yield_perhaps();
    int result = epoll_wait(epoll, events, most, milliseconds);
    yield_perhaps();
    return result;
}

#define pthread_mutex_lock yield_lock
#define pthread_mutex_unlock yield_unlock
#define write yield_write
#define read yield_read
#define poll yield_poll
#define epoll_wait yield_epoll_wait
#define WSS__BASE_ASSERT(truth) ((truth) ? (void)0 : abort())
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"
#undef pthread_mutex_lock
#undef pthread_mutex_unlock
#undef write
#undef read
#undef poll
#undef epoll_wait

#endif
