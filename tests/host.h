/* host.h: a server in the test's own process, on a port of its own. Include this instead of wsserver.h.
   host_make makes it; then it runs on a thread (host_start), or in turns while the test waits for something (host_drive):
   then everything happens in one thread, in an order that is the same each time. */
#ifndef HOST_H
#define HOST_H

#include "library.h"

#include "client.h"
#include "test.h"

/* ---- an allocator that counts, checks sizes, and may fail ---- */

typedef struct host_heap {
    size_t bytes;
    size_t blocks;
    size_t peak;
} host_heap;

static host_heap host_memory;

/* Each block has its size in front, so that a caller who gives another one back is found out. */
static void *host_allocator(void *context, void *pointer, size_t old_size, size_t new_size) {
    host_heap *heap = (host_heap *)context;
    char *block = pointer ? (char *)pointer - 16 : NULL;
    size_t size = 0;
    if (block) memcpy(&size, block, sizeof size);
    if (size != (pointer ? old_size : 0)) {
        printf("a block of %zu bytes was given back as one of %zu\n", size, old_size);
        abort();
    }
    if (!new_size) {
        if (block) __atomic_sub_fetch(&heap->blocks, 1, __ATOMIC_RELAXED);
        __atomic_sub_fetch(&heap->bytes, size, __ATOMIC_RELAXED);
        free(block);
        return NULL;
    }
    if (new_size > SIZE_MAX / 2) return NULL;
    char *moved = (char *)realloc(block, new_size + 16);
    if (!moved) return NULL;
    if (!block) __atomic_add_fetch(&heap->blocks, 1, __ATOMIC_RELAXED);
    size_t bytes = __atomic_add_fetch(&heap->bytes, new_size - size, __ATOMIC_RELAXED);
    size_t peak = __atomic_load_n(&heap->peak, __ATOMIC_RELAXED);
    while (bytes > peak &&
           !__atomic_compare_exchange_n(&heap->peak, &peak, bytes, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    memcpy(moved, &new_size, sizeof new_size);
    return moved + 16;
}

/* ---- the server ---- */

static wss_server *host;
static int host_port;
static wss_queue *host_queue; /* drained in the same turns, where a test sets it */

static inline wss_server *host_make(wss_options *options) {
    wss_error why;
    wss_options resolved;
    if (!options->address) options->address = "127.0.0.1";
    if (!options->allocator) options->allocator = host_allocator;
    if (!options->allocator_context) options->allocator_context = &host_memory;
    host = wss_create(options, &why);
    if (!host) {
        printf("no server: %s\n", why.text);
        exit(1);
    }
    wss_get_options(host, &resolved);
    host_port = resolved.port;
    return host;
}

static inline void host_turn(void) {
    wss_poll(host, host_queue ? 0 : 1);
    if (host_queue) wss_queue_poll(host_queue, 1);
}

/* The server works whenever a client, or UNTIL, waits. */
static inline wss_server *host_drive(wss_options *options) {
    host_make(options);
    client_turn = host_turn;
    wss_poll(host, 0);
    return host;
}

static inline wss_server *host_start(wss_options *options) {
    host_make(options);
    client_turn = NULL;
    CHECK_INT(wss_start(host), WSS_OK);
    return host;
}

/* Ends the server; all its memory must have come back. */
static inline void host_end(void) {
    CHECK_INT(wss_destroy(host), WSS_OK);
    if (host_queue) CHECK_INT(wss_queue_destroy(host_queue), WSS_OK);
    CHECK_INT(host_memory.bytes, 0);
    CHECK_INT(host_memory.blocks, 0);
    host = NULL;
    host_queue = NULL;
    client_turn = NULL;
}

static inline void host_rest(void) {
    struct timespec brief = {0, 200000};
    if (client_turn) client_turn();
    else nanosleep(&brief, NULL);
}

/* Waits for a condition, turning the server meanwhile, or yielding to its thread. Not for ever: then the check fails. */
#define UNTIL(condition)                                                                       \
    do {                                                                                       \
        long long host_until = client_clock() + CLIENT_WAIT;                                   \
        while (!(condition) && client_clock() < host_until) host_rest();                       \
        CHECK(condition);                                                                      \
    } while (0)

/* Turns the driven server until nothing has happened for some turns: what was under way on loopback has arrived. */
static inline void host_settle(void) {
    for (int quiet = 0; quiet < 10; quiet++) {
        wss_stats before, after;
        wss_get_stats(host, &before);
        host_rest();
        wss_get_stats(host, &after);
        if (before.bytes_in != after.bytes_in || before.bytes_out != after.bytes_out || before.accepted != after.accepted)
            quiet = 0;
    }
}

/* Counters that another thread sets. */
static inline int host_get(const int *counter) {
    return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

static inline void host_count(int *counter) {
    __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
}

/* ---- what happened, as text: "connect(1) message(hello)" ---- */

static char host_said[1 << 16];
static pthread_mutex_t host_said_mutex = PTHREAD_MUTEX_INITIALIZER;

static inline void host_forget(void) {
    pthread_mutex_lock(&host_said_mutex);
    host_said[0] = 0;
    pthread_mutex_unlock(&host_said_mutex);
}

__attribute__((format(printf, 1, 2))) static inline void host_say(const char *format, ...) {
    va_list values;
    pthread_mutex_lock(&host_said_mutex);
    size_t length = strlen(host_said);
    if (length && length + 1 < sizeof host_said) host_said[length++] = ' ';
    va_start(values, format);
    vsnprintf(host_said + length, sizeof host_said - length, format, values);
    va_end(values);
    pthread_mutex_unlock(&host_said_mutex);
}

static inline int host_has_said(const char *text) {
    pthread_mutex_lock(&host_said_mutex);
    int has = strstr(host_said, text) != NULL;
    pthread_mutex_unlock(&host_said_mutex);
    return has;
}

static inline int host_descriptors(void) {
    int count = 0;
    for (int fd = 0; fd < 4096; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

#endif
