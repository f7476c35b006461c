/* counted.h: wsserver.h with its work counted: each step of a loop, each return from a function, each byte that is copied,
   cleared or compared. Counts say how work grows and do not depend on the machine. Nothing in the header is changed: while it
   is read the words for, while and return count beside what they do. To be named as WSSERVER_TESTED. */
#ifndef SIM_COUNTED_H
#define SIM_COUNTED_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

typedef struct counted_work {
    long steps;  /* of loops, and returns from functions */
    long frames; /* places in queues that were looked at */
    long bytes;  /* copied, cleared, compared */
} counted_work;

static counted_work counted;

static inline void *counted_memcpy(void *to, const void *from, size_t size) {
    counted.bytes += (long)size;
    return memcpy(to, from, size);
}

static inline void *counted_memmove(void *to, const void *from, size_t size) {
    counted.bytes += (long)size;
    return memmove(to, from, size);
}

static inline void *counted_memset(void *to, int byte, size_t size) {
    counted.bytes += (long)size;
    return memset(to, byte, size);
}

static inline int counted_memcmp(const void *a, const void *b, size_t size) {
    counted.bytes += (long)size;
    return memcmp(a, b, size);
}

/* Whether what returns is the one function through which all frames in queues are reached. */
static inline int counted_is_frame(const char *name, size_t size) {
    static const char wanted[] = "wss__buf_at";
    return size == sizeof wanted && memcmp(name, wanted, size) == 0;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdangling-else"
#if defined(__clang__)
#pragma GCC diagnostic ignored "-Wkeyword-macro"
#endif
#undef memcpy
#undef memmove
#undef memset
#undef memcmp
#define memcpy counted_memcpy
#define memmove counted_memmove
#define memset counted_memset
#define memcmp counted_memcmp
#define while(...) while (counted.steps++, (__VA_ARGS__))
#define for(...) for (__VA_ARGS__) if (counted.steps++, 0) {} else
#define return for (counted.frames += counted_is_frame(__func__, sizeof __func__);;) return

#include "../../wsserver.h"

#undef return
#undef for
#undef while
#undef memcmp
#undef memset
#undef memmove
#undef memcpy
#pragma GCC diagnostic pop

#endif
