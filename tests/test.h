/* test.h: what the test programs share. A program defines tests as functions, runs them with RUN and returns
   test_end(). Its last line is "NAME: N passed, M failed", where N and M count tests. It begins with one of
       #include "../library.h"      the library, private functions too, on system calls that the test may replace
       #include "../step.h"         the same, a server and clients in one thread, on a clock that the test moves
       #include "../host.h"         the same, a server on a thread of its own, or driven while the test's client waits
       #include "kernel.h"          tests/sim: the same, on a kernel in memory */
#ifndef TEST_H
#define TEST_H

#include "poison.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int test_passed, test_failed, test_broken;
static __attribute__((unused)) int test_skipped;

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            test_broken++;                                                                 \
            if (test_broken <= 10) printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
        }                                                                                  \
    } while (0)

#define CHECK_INT(got, want)                                                               \
    do {                                                                                   \
        long long test_got = (long long)(got), test_want = (long long)(want);              \
        if (test_got != test_want) {                                                       \
            test_broken++;                                                                 \
            if (test_broken <= 10)                                                         \
                printf("%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #got, test_got, test_want); \
        }                                                                                  \
    } while (0)

#define CHECK_TEXT(got, want)                                                              \
    do {                                                                                   \
        const char *test_got = (got), *test_want = (want);                                 \
        if (!test_got || strcmp(test_got, test_want) != 0) {                               \
            test_broken++;                                                                 \
            if (test_broken <= 10)                                                         \
                printf("%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #got,      \
                       test_got ? test_got : "(null)", test_want);                         \
        }                                                                                  \
    } while (0)

/* Sweeps that are the same on every processor take one point in so many. More than one only where a processor is emulated,
   which is slow. */
#ifndef TEST_STRIDE
#define TEST_STRIDE 1
#endif

#define RUN(test) (test_broken = 0, test(), test_count(#test))

static inline void test_count(const char *name) {
    if (test_broken) {
        test_failed++;
        printf("FAILED %s (%d checks)\n", name, test_broken);
    } else {
        test_passed++;
    }
    fflush(stdout);
}

static inline int test_end(const char *program) {
    printf("%s: %d passed, %d failed\n", program, test_passed, test_failed);
    return test_failed != 0;
}

/* Maps that await the next copy of their size; no two new maps for each, since that costs more than most of what is tested. */
static struct {
    char *map;
    size_t size; /* of what may be used; the page behind it may not */
} guard_kept[8];

static inline size_t guard_size(size_t size, size_t page) {
    return (size / page + 1) * page;
}

static inline char *guard_map(size_t size, size_t page) {
    for (size_t i = 0; i < sizeof guard_kept / sizeof *guard_kept; i++) {
        char *map = guard_kept[i].map;
        if (!map || guard_kept[i].size != size) continue;
        guard_kept[i].map = NULL;
        return map;
    }
    char *map = (char *)mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == (char *)MAP_FAILED || mprotect(map + size, page, PROT_NONE) != 0) abort();
    POISON(map, size);
    return map;
}

/* Copies bytes so that they end at an unreadable page: one byte too far is a crash. Give it back with guard_free. */
static inline char *guard_copy(const void *data, size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t whole = guard_size(size, page);
    char *copy = guard_map(whole, page) + whole - size;
    UNPOISON(copy, size);
    if (size) memcpy(copy, data, size);
    return copy;
}

static inline void guard_free(char *copy, size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t whole = guard_size(size, page);
    char *map = copy + size - whole;
    POISON(map, whole);
    for (size_t i = 0; i < sizeof guard_kept / sizeof *guard_kept; i++) {
        if (guard_kept[i].map) continue;
        guard_kept[i].map = map;
        guard_kept[i].size = whole;
        return;
    }
    UNPOISON(map, whole);
    munmap(map, whole + page);
}

#endif
