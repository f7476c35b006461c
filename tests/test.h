/* test.h: what the test programs share. A program defines tests as functions, runs them with RUN and returns
   test_end(). Its last line is "NAME: N passed, M failed", where N and M count tests. */
#ifndef TEST_H
#define TEST_H

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

/* Copies bytes so that they end at an unreadable page: one byte too far is a crash. Give it back with guard_free. */
static inline char *guard_copy(const void *data, size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t whole = (size / page + 2) * page;
    char *map = (char *)mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == (char *)MAP_FAILED || mprotect(map + whole - page, page, PROT_NONE) != 0) abort();
    char *copy = map + whole - page - size;
    if (size) memcpy(copy, data, size);
    return copy;
}

static inline void guard_free(char *copy, size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t whole = (size / page + 2) * page;
    munmap(copy + size + page - whole, whole);
}

#endif
