/* Clients that come, send and vanish, as fast as they can, against a server whose handlers run on a queue's thread. Beside them
   honest clients, whose messages of 20 KB must all pass. floods HOW SECONDS, where HOW is
       resets    two at a time send 30 messages, each of which is answered with 100 KB, read nothing, and reset within 1.5 ms;
                 who is slow is closed
       empties   one after another sends 16 KB of empty messages and resets; a message takes the application 30 us
   At the end all has come back: places, descriptors, memory. */
#define _GNU_SOURCE 1
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#if !defined(WSSERVER_TESTED)
#define WSSERVER_TESTED "../../wsserver.h"
#endif
#include WSSERVER_TESTED

#include "../client.h"

#include <dirent.h>

enum { ANSWER = 100000, HONEST = 20000, EMPTIES = 2700, PATIENCE = 60000 };

static int empties_mode, port, ends;
static size_t library_bytes;
static long attacks, told, honest_messages, visits, failures;
static char block[ANSWER];

static void *allocator(void *context, void *pointer, size_t old_size, size_t new_size) {
    (void)context;
    __atomic_add_fetch(&library_bytes, new_size - (pointer ? old_size : 0), __ATOMIC_RELAXED);
    if (new_size) return realloc(pointer, new_size);
    free(pointer);
    return NULL;
}

static int count_descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory)) count++;
    if (directory) closedir(directory);
    return count;
}

static void fail(const char *what, int value) {
    if (__atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED) <= 10) printf("%s: %d\n", what, value);
}

static int is_over(void) {
    return __atomic_load_n(&ends, __ATOMIC_RELAXED);
}

static void rest(long microseconds) {
    struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
    if (microseconds) nanosleep(&time, NULL);
}

static void on_data(const wss_event *e) {
    __atomic_add_fetch(&told, 1, __ATOMIC_RELAXED);
    if (e->size >= HONEST) wss_send_data(e->server, e->conn, WSS_BINARY, e->data, e->size);
    else if (!empties_mode) wss_send_data(e->server, e->conn, WSS_BINARY, block, ANSWER);
    else if (!is_over()) rest(30); /* what is left then is worked off without */
}

static void *run_queue(void *arg) {
    wss_queue_run((wss_queue *)arg);
    return NULL;
}

/* ---- who attacks ---- */

static void *attack(void *arg) {
    unsigned random = *(unsigned *)arg;
    script handshake = {0};
    script messages = {0};
    script_text(&handshake, SCRIPT_HANDSHAKE);
    for (int i = 0; i < (empties_mode ? EMPTIES : 30); i++)
        script_frame(&messages, SCRIPT_BINARY, SCRIPT_FINAL, "m", empties_mode ? 0 : 1);
    while (!is_over()) {
        client *c = client_dial(port);
        random = random * 1103515245u + 12345u;
        if (c->fd < 0) { /* all places are taken by the dead, or the kernel's list is full */
            client_free(c);
            rest(1000);
            continue;
        }
        client_raw(c, handshake.data, handshake.size);
        /* where the server lets nobody in there is nothing to attack: then the honest ones have to say so */
        if (client_read_head(c) == 101) {
            client_raw(c, messages.data, messages.size);
            rest((random >> 16) % 1500);
            __atomic_add_fetch(&attacks, 1, __ATOMIC_RELAXED);
        }
        client_reset(c);
    }
    script_free(&handshake);
    script_free(&messages);
    return NULL;
}

/* ---- who is honest ---- */

static int exchange(client *c) {
    int result = client_send(c, SCRIPT_BINARY, block, HONEST) ? client_read_within(c, PATIENCE) : CLIENT_RESET;
    if (result != SCRIPT_BINARY || c->length != HONEST) {
        fail("an honest message was not answered", result == SCRIPT_CLOSE ? c->code : result);
        return 0;
    }
    __atomic_add_fetch(&honest_messages, 1, __ATOMIC_RELAXED);
    return 1;
}

/* One that stays. It answers pings. */
static void *stay(void *arg) {
    client *c = client_open(port);
    (void)arg;
    if (c->status != 101) fail("an honest client was not let in", c->status);
    while (!is_over() && c->status == 101 && exchange(c)) {
    }
    if (c->status == 101 && !client_leave(c)) fail("an honest client did not end well", 0);
    return NULL;
}

/* Others that come anew. */
static void *visit(void *arg) {
    (void)arg;
    while (!is_over()) {
        client *c = client_open(port);
        if (c->status != 101) fail("a visitor was not let in", c->status);
        int good = c->status == 101 && exchange(c);
        if (good) __atomic_add_fetch(&visits, 1, __ATOMIC_RELAXED);
        if (good && !client_leave(c)) fail("a visitor did not end well", 0);
        if (!good) client_free(c);
        if (!good) rest(100000);
    }
    return NULL;
}

/* ---- all of them ---- */

static uint64_t memory_without_places(wss_server *server) {
    wss_stats stats;
    wss_get_stats(server, &stats);
    size_t chunks = (server->conns.made + WSS__SLOT_CHUNK - 1) / WSS__SLOT_CHUNK;
    return stats.memory - chunks * wss__mem_charge(server->conns.entry_size * WSS__SLOT_CHUNK);
}

static int is_quiet(const wss_server *server) {
    if (__atomic_load_n(&server->conns.live, __ATOMIC_SEQ_CST)) return 0;
    for (int i = 0; i < server->loop_count; i++)
        if (__atomic_load_n(&server->loops[i].connections, __ATOMIC_SEQ_CST)) return 0;
    return 1;
}

int main(int argc, char **argv) {
    wss_options options;
    wss_error why;
    wss_stats stats;
    pthread_t threads[5];
    unsigned seeds[2] = {1, 2};
    int count = 0;
    int seconds = argc > 2 ? atoi(argv[2]) : 10;
    if (argc < 2) return 2;
    empties_mode = strcmp(argv[1], "empties") == 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    int before = count_descriptors();
    wss_queue *queue = wss_queue_create(NULL, NULL);
    memset(&options, 0, sizeof options);
    options.address = "127.0.0.1";
    options.queue = queue;
    options.allocator = allocator;
    options.send_policy = WSS_POLICY_CLOSE;
    options.ping_ms = WSS_OFF; /* honest ones wait behind a flood for as long as that takes */
    if (empties_mode) options.memory_budget = (size_t)64 << 20;
    wss_server *server = wss_create(&options, &why);
    if (!queue || !server) {
        printf("%s\n", why.text);
        return 1;
    }
    wss_get_options(server, &options);
    port = options.port;
    wss_on_data(server, on_data, NULL);
    uint64_t start = memory_without_places(server);
    int descriptors = count_descriptors();
    if (wss_start(server) != WSS_OK) return 1;
    pthread_create(&threads[count++], NULL, run_queue, queue);
    pthread_create(&threads[count++], NULL, stay, NULL);
    pthread_create(&threads[count++], NULL, visit, NULL);
    for (int i = 0; i < (empties_mode ? 1 : 2); i++) pthread_create(&threads[count++], NULL, attack, &seeds[i]);
    rest(seconds * 1000000L);
    __atomic_store_n(&ends, 1, __ATOMIC_RELAXED);
    for (int i = 1; i < count; i++) pthread_join(threads[i], NULL);
    for (long long until = client_clock() + PATIENCE; client_clock() < until && !is_quiet(server);) rest(10000);
    wss_get_stats(server, &stats);
    if (server->conns.live) fail("places are left", (int)server->conns.live);
    if (stats.connections) fail("connections are left", (int)stats.connections);
    if (memory_without_places(server) != start) fail("memory is left", (int)(memory_without_places(server) - start));
    if (count_descriptors() != descriptors) fail("descriptors are left", count_descriptors() - descriptors);
    if (stats.memory_peak > stats.memory_budget) fail("more memory than the budget", (int)stats.memory_peak);
    wss_stop(server, 1000);
    pthread_join(threads[0], NULL);
    if (wss_destroy(server) != WSS_OK || wss_queue_destroy(queue) != WSS_OK) fail("not destroyed", 0);
    if (library_bytes) fail("bytes are left", (int)library_bytes);
    if (count_descriptors() != before) fail("descriptors are left at the end", count_descriptors() - before);
    if (attacks < 10 || honest_messages < 2 || visits < 1) fail("next to nothing has happened", (int)attacks);
    printf("%s: %d s, %ld attacks, %ld messages told, %llu dropped, %ld honest ones passed in %ld visits, memory at most %llu KiB,"
           " %ld failures\n", argv[1], seconds, attacks, told, (unsigned long long)stats.undelivered_dropped, honest_messages,
           visits, (unsigned long long)stats.memory_peak / 1024, failures);
    return failures != 0;
}
