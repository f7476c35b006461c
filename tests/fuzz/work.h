/* work.h: the implementation, with its work counted: one for each turn of a loop, and one for each byte that it copies,
   compares or searches. So "linear" is a number and needs no clock. The Makefile compiles this once for all fuzzers (work.c)
   and says TEST_LINKED, see ../library.h. */
#ifndef WORK_H
#define WORK_H

#define WSSERVER_IMPLEMENTATION
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
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
#endif

#if defined(TEST_LINKED)

extern size_t work_done;
#include <declared.h>

#else

size_t work_done;

static inline int work_step(void) {
    work_done++;
    return 1;
}

static inline void *work_copy(void *to, const void *from, size_t size) {
    work_done += size;
    return memcpy(to, from, size);
}

static inline void *work_move(void *to, const void *from, size_t size) {
    work_done += size;
    return memmove(to, from, size);
}

static inline int work_compare(const void *a, const void *b, size_t size) {
    work_done += size;
    return memcmp(a, b, size);
}

static inline void *work_find(const void *data, int byte, size_t size) {
    const char *found = (const char *)memchr(data, byte, size);
    work_done += found ? (size_t)(found - (const char *)data) + 1 : size;
    return (void *)(uintptr_t)found;
}

static inline size_t work_length(const char *text) {
    size_t size = strlen(text);
    work_done += size + 1;
    return size;
}

#pragma GCC diagnostic push
#if defined(__clang__)
#pragma GCC diagnostic ignored "-Wkeyword-macro"
#endif
#pragma GCC diagnostic ignored "-Wparentheses"
#define while(...) while (work_step() && (__VA_ARGS__))
#define for(...) for (__VA_ARGS__) if (!work_step()) {} else
#define memcpy(to, from, size) work_copy(to, from, size)
#define memmove(to, from, size) work_move(to, from, size)
#define memcmp(a, b, size) work_compare(a, b, size)
#define memchr(data, byte, size) work_find(data, byte, size)
#define strlen(text) work_length(text)
#if defined(TEST_EXPORTED)
#include <exported.h>
#else
#define WSSERVER_STATIC
#include "../../wsserver.h"
#endif
#undef while
#undef for
#undef memcpy
#undef memmove
#undef memcmp
#undef memchr
#undef strlen
#pragma GCC diagnostic pop

#endif
#endif
