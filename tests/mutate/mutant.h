/* mutant.h: what the tests are built with for a mutation check, before anything else. The header they include carries all
   drawn mutants, each behind WSS__MUTANT(number); the environment says which one is alive and which tests run:
       WSS_MUTANT        number of the mutant; none: the header as it is
       WSS_MUTANT_TESTS  names of tests, each with a blank before and behind; none: all
       WSS_MUTANT_SEEN   file that gets a line for each test: name, milliseconds of a processor, milliseconds, mutants it
                         came across */
#ifndef MUTANT_H
#define MUTANT_H

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* One for the library and the test, which are compiled apart. */
#define WSS__MUTANT_SHARED __attribute__((weak))
WSS__MUTANT_SHARED int wss__mutant_chosen = -1;
WSS__MUTANT_SHARED char wss__mutant_unused[WSS__MUTANTS];
WSS__MUTANT_SHARED char *wss__mutant_seen = wss__mutant_unused;
static long wss__mutant_begun[2];

#define WSS__MUTANT(number) (wss__mutant_seen[number] = 1, wss__mutant_chosen == (number))

static long wss__mutant_clock(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A mutant that spins or takes ever more memory ends by itself. */
static void wss__mutant_limit(int what, const char *name) {
    const char *value = getenv(name);
    struct rlimit limit;
    if (!value) return;
    limit.rlim_cur = limit.rlim_max = (rlim_t)strtoul(value, NULL, 10);
    setrlimit(what, &limit);
}

__attribute__((constructor)) WSS__MUTANT_SHARED void wss__mutant_begin(void) {
    const char *number = getenv("WSS_MUTANT");
    if (wss__mutant_seen != wss__mutant_unused) return; /* it is called for each of the two */
    if (number) wss__mutant_chosen = atoi(number);
    wss__mutant_limit(RLIMIT_CPU, "WSS_MUTANT_CPU");
    wss__mutant_limit(RLIMIT_AS, "WSS_MUTANT_SPACE");
    wss__mutant_limit(RLIMIT_CORE, "WSS_MUTANT_CORE");
    if (!getenv("WSS_MUTANT_SEEN")) return;
    /* Shared, so that what a forked child comes across counts. */
    wss__mutant_seen = (char *)mmap(NULL, WSS__MUTANTS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (wss__mutant_seen == (char *)MAP_FAILED) abort();
}

/* True if this test shall run now. */
static inline int wss__mutant_wants(const char *test) {
    const char *tests = getenv("WSS_MUTANT_TESTS");
    char name[200];
    snprintf(name, sizeof name, " %s ", test);
    if (tests && !strstr(tests, name)) return 0;
    if (wss__mutant_seen != wss__mutant_unused) memset(wss__mutant_seen, 0, WSS__MUTANTS);
    wss__mutant_begun[0] = wss__mutant_clock(CLOCK_PROCESS_CPUTIME_ID);
    wss__mutant_begun[1] = wss__mutant_clock(CLOCK_MONOTONIC);
    return 1;
}

static inline void wss__mutant_done(const char *test) {
    const char *path = getenv("WSS_MUTANT_SEEN");
    if (!path) return;
    FILE *file = fopen(path, "a");
    if (!file) abort();
    fprintf(file, "%s %ld %ld", test, wss__mutant_clock(CLOCK_PROCESS_CPUTIME_ID) - wss__mutant_begun[0],
            wss__mutant_clock(CLOCK_MONOTONIC) - wss__mutant_begun[1]);
    for (int i = 0; i < WSS__MUTANTS; i++)
        if (wss__mutant_seen[i]) fprintf(file, " %d", i);
    fprintf(file, "\n");
    fclose(file);
}

/* Locks that notice misuse, as ThreadSanitizer does in "make tsan": giving back what is not held, taking it twice. */

static inline int wss__mutant_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *given) {
    pthread_mutexattr_t checking;
    if (given) return pthread_mutex_init(mutex, given);
    pthread_mutexattr_init(&checking);
    pthread_mutexattr_settype(&checking, PTHREAD_MUTEX_ERRORCHECK);
    int result = pthread_mutex_init(mutex, &checking);
    pthread_mutexattr_destroy(&checking);
    return result;
}

static inline int wss__mutant_mutex_lock(pthread_mutex_t *mutex) {
    if (pthread_mutex_lock(mutex) != 0) abort();
    return 0;
}

static inline int wss__mutant_mutex_unlock(pthread_mutex_t *mutex) {
    if (pthread_mutex_unlock(mutex) != 0) abort();
    return 0;
}

static inline int wss__mutant_mutex_destroy(pthread_mutex_t *mutex) {
    if (pthread_mutex_destroy(mutex) != 0) abort();
    return 0;
}

#define pthread_mutex_init wss__mutant_mutex_init
#define pthread_mutex_lock wss__mutant_mutex_lock
#define pthread_mutex_unlock wss__mutant_mutex_unlock
#define pthread_mutex_destroy wss__mutant_mutex_destroy

#endif
