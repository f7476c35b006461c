/* The server under test: does on wsserver.h what each peer does on its library. ours MODE PORT [OPTION VALUE ...]; prints
   "port N". Modes: echo (raw), broadcast (each message to all), chat (to all, then an answer to its sender), either (text
   to all, binary back), typed (typed JSON sent on), built (typed JSON read member by member and written anew), posts (from
   the first message to the second another thread sends 64 bytes at a time to random connections; then prints what that
   cost the loop). */
#define WSSERVER_IMPLEMENTATION
#include "wsserver.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { POST_SIZE = 64 };

static wss_server *server;

static void on_signal(int number) {
    (void)number;
    wss_stop(server, 2000);
}

static void check(int result) {
    if (result == WSS_OK || result == WSS_ERR_GONE) return;
    fprintf(stderr, "ours: %s\n", wss_strerror(result));
    exit(1);
}

static void on_echo(const wss_event *e) {
    check(wss_send_data(e->server, e->conn, e->opcode, e->data, e->size));
}

static void on_broadcast(const wss_event *e) {
    check(wss_broadcast_data(e->server, e->opcode, e->data, e->size));
}

static void on_chat(const wss_event *e) {
    on_broadcast(e);
    on_echo(e);
}

static void on_either(const wss_event *e) {
    if (e->opcode == WSS_TEXT) on_broadcast(e);
    else on_echo(e);
}

static void on_typed(const wss_event *e) {
    check(wss_send(e->server, e->conn, e->type, e->args));
}

static void on_built(const wss_event *e) {
    char text[4096];
    char key[64];
    wss_writer writer;
    wss_writer_init(&writer, text, sizeof text);
    for (wss_iterator it = wss_iterate(e->args); wss_iterate_next(&it);) {
        check(wss_get_string(it.key, NULL, key, sizeof key, NULL));
        wss_put_raw(&writer, key, it.value);
    }
    check(wss_send(e->server, e->conn, e->type, wss_writer_args(&writer)));
}

/* ---- posts */

static struct {
    wss_conn *conns;
    size_t count;
    int running; /* atomic: the producer goes on */
    int began;
    pthread_t thread;
    uint64_t sent, refused;
    uint64_t cpu, wakeups;
} posts;

/* Of the thread that calls. */
static uint64_t thread_cpu(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void on_connect(const wss_event *e) {
    wss_conn *larger = realloc(posts.conns, (posts.count + 1) * sizeof *larger);
    if (!larger) exit(1);
    posts.conns = larger;
    posts.conns[posts.count++] = e->conn;
}

static void print_posts(void) {
    wss_stats stats;
    wss_get_stats(server, &stats);
    double cpu = (double)(thread_cpu() - posts.cpu) / 1e9;
    printf("{\"posts\":%llu,\"refused\":%llu,\"loop_cpu\":%.6f,\"per_cpu\":%.1f,\"wakeups\":%llu}\n",
           (unsigned long long)posts.sent, (unsigned long long)posts.refused, cpu, (double)posts.sent / cpu,
           (unsigned long long)(stats.wakeups - posts.wakeups));
    fflush(stdout);
}

static void finish_posts(void *unused) {
    (void)unused;
    pthread_join(posts.thread, NULL);
    print_posts();
    posts.count = 0;
    posts.sent = posts.refused = 0;
}

static void *produce(void *unused) {
    char message[POST_SIZE];
    uint32_t state = 2463534242u;
    struct timespec moment = {0, 50000};
    memset(message, 'x', sizeof message);
    while (__atomic_load_n(&posts.running, __ATOMIC_ACQUIRE)) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        int result = wss_send_data(server, posts.conns[state % posts.count], WSS_BINARY, message, sizeof message);
        if (result == WSS_OK) posts.sent++;
        else posts.refused++;
        if (result != WSS_OK) nanosleep(&moment, NULL);
    }
    while (wss_post(server, finish_posts, NULL) != WSS_OK) nanosleep(&moment, NULL); /* behind all that was sent */
    return unused;
}

static void on_posts(const wss_event *e) {
    wss_stats stats;
    if (posts.began) {
        __atomic_store_n(&posts.running, 0, __ATOMIC_RELEASE);
        posts.began = 0;
        return;
    }
    wss_get_stats(e->server, &stats);
    posts.wakeups = stats.wakeups;
    posts.cpu = thread_cpu();
    posts.running = posts.began = 1;
    if (pthread_create(&posts.thread, NULL, produce, NULL) != 0) exit(1);
}

/* ---- */

static void register_handlers(const char *mode) {
    int result = WSS_ERR_ARGUMENT;
    if (strcmp(mode, "echo") == 0) result = wss_on_data(server, on_echo, NULL);
    if (strcmp(mode, "broadcast") == 0) result = wss_on_data(server, on_broadcast, NULL);
    if (strcmp(mode, "chat") == 0) result = wss_on_data(server, on_chat, NULL);
    if (strcmp(mode, "either") == 0) result = wss_on_data(server, on_either, NULL);
    if (strcmp(mode, "typed") == 0) result = wss_on_message(server, "echo", on_typed, NULL);
    if (strcmp(mode, "built") == 0) result = wss_on_message(server, "echo", on_built, NULL);
    if (strcmp(mode, "posts") == 0) result = wss_on_data(server, on_posts, NULL);
    if (strcmp(mode, "posts") == 0) check(wss_on_connect(server, on_connect, NULL));
    check(result);
}

static void print_line(void *unused, int level, const char *text) {
    (void)unused;
    fprintf(stderr, "ours: level %d: %s\n", level, text);
}

static void take_option(wss_options *options, const char *name, const char *value) {
    if (strcmp(name, "--threads") == 0) options->threads = atoi(value);
    else if (strcmp(name, "--spin") == 0) options->spin_us = atoi(value);
    else if (strcmp(name, "--log") == 0) options->log_level = atoi(value);
    else if (strcmp(name, "--pings") == 0) options->ping_ms = atoi(value) > 0 ? atoi(value) : WSS_OFF;
    else exit(2);
}

int main(int argc, char **argv) {
    wss_error why;
    wss_options options = {0};
    if (argc < 3 || argc % 2 == 0) {
        fprintf(stderr, "usage: ours echo|broadcast|chat|either|typed|built|posts PORT [--threads N] [--spin US]"
                        " [--pings MS, 0: off] [--log LEVEL]\n");
        return 2;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    options.port = atoi(argv[2]);
    options.address = "0.0.0.0";
    options.max_connections = 1000000; /* less where the process may open fewer descriptors */
    options.max_message = (size_t)16 << 20;
    options.max_queued = (size_t)32 << 20;
    options.memory_budget = WSS_UNLIMITED;
    for (int i = 3; i < argc; i += 2) take_option(&options, argv[i], argv[i + 1]);
    if (options.log_level) options.log = print_line;
    server = wss_create(&options, &why);
    if (!server) {
        fprintf(stderr, "ours: %s\n", why.text);
        return 1;
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGUSR1, SIG_IGN);
    register_handlers(argv[1]);
    wss_get_options(server, &options);
    printf("port %d\n", options.port);
    fflush(stdout);
    int result = wss_run(server);
    wss_destroy(server);
    free(posts.conns);
    return result != WSS_OK;
}
