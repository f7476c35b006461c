/* Starts and stops with threads that post, send and broadcast until they are told that the server has stopped: what was accepted
   has run, once, what was refused never runs, and nothing is left. Servers are started, run, polled or left alone, with one loop
   or two, with a queue or without; they are stopped from outside and from inside, and destroyed on whatever thread. Before all
   that, two servers are first used at the same moment. Build it with -fsanitize=thread.
   usage: destroy CYCLES */
#include "yield.h"

#include <dirent.h>
#include <stdio.h>

enum { POSTERS = 3 };

enum { STARTED, RUN, POLLED, ALONE, WAYS }; /* how a server is driven */

static wss_server *server;
static wss_queue *queue;
static int cycle;
static int last_cycle;
static pthread_barrier_t begins;
static pthread_barrier_t ends;

static size_t library_bytes;
static long accepted, ran, twice, refused, misused, unexpected, busy_answers, queued, queued_ran, cycles_run;

#define ADD(counter, n) __atomic_add_fetch(&(counter), n, __ATOMIC_RELAXED)
#define EXPECT(condition) ((condition) ? (void)0 : odd_at(__LINE__))

static void odd_at(int line) {
    if (ADD(unexpected, 1) <= 10) printf("destroy.c:%d: not as agreed in cycle %d\n", line, cycle);
}

static void *allocator(void *context, void *pointer, size_t old_size, size_t new_size) {
    (void)context;
    ADD(library_bytes, new_size - (pointer ? old_size : 0));
    if (new_size) return realloc(pointer, new_size);
    free(pointer);
    return NULL;
}

/* ---- posters ---- */

/* A job belongs to its poster and cycle; it must run in that cycle, and once. */
typedef struct job {
    int cycle;
    int accepted;
    int runs;
} job;

enum { JOBS = 400 };

static job jobs[POSTERS][JOBS];
static job queue_jobs[POSTERS][JOBS];

static void run_job(void *arg) {
    job *j = (job *)arg;
    if (j->cycle != cycle) ADD(misused, 1);
    if (ADD(j->runs, 1) > 1) ADD(twice, 1);
}

/* Until the server says that it has stopped; what it says then it says for ever. */
static void post_until_stopped(int self) {
    int count = 0;
    int results[3] = {0, 0, 0};
    while (results[0] != WSS_ERR_STOPPED) {
        job *j = &jobs[self][count % JOBS];
        if (count < JOBS) {
            j->cycle = cycle;
            results[0] = wss_post(server, run_job, j);
            if (results[0] == WSS_OK) j->accepted = 1;
            if (queue && wss_queue_post(queue, run_job, &queue_jobs[self][count]) == WSS_OK) queue_jobs[self][count].accepted = 1;
            count++;
        } else {
            results[0] = wss_broadcast_data(server, WSS_TEXT, "x", 1);
            sched_yield();
        }
        results[1] = wss_send_data(server, wss_next(server, wss__send_none()), WSS_TEXT, "x", 1);
        EXPECT(results[1] == WSS_OK || results[1] == WSS_ERR_GONE || results[1] == WSS_ERR_STOPPED);
        EXPECT(results[0] == WSS_OK || results[0] == WSS_ERR_STOPPED || results[0] == WSS_ERR_QUEUE_FULL);
    }
    ADD(refused, 1);
    results[0] = wss_post(server, run_job, NULL);
    results[1] = wss_send_data(server, wss__send_none(), WSS_TEXT, "x", 1);
    results[2] = wss_broadcast_data(server, WSS_TEXT, "x", 1);
    for (int i = 0; i < 3; i++) EXPECT(results[i] == WSS_ERR_STOPPED);
}

static void *be_poster(void *arg) {
    int self = (int)(intptr_t)arg;
    for (;;) {
        pthread_barrier_wait(&begins);
        if (last_cycle) return NULL;
        post_until_stopped(self);
        pthread_barrier_wait(&ends);
    }
}

/* ---- servers ---- */

static int make_server(int threads, int with_queue) {
    wss_options options;
    memset(&options, 0, sizeof options);
    options.address = "127.0.0.1";
    options.allocator = allocator;
    options.threads = threads;
    options.max_posted = 300;
    options.close_ms = 1;
    queue = with_queue ? wss_queue_create(&options, NULL) : NULL;
    options.queue = queue;
    server = wss_create(&options, NULL);
    return server != NULL && !with_queue == !queue;
}

static void *run_server(void *arg) {
    EXPECT(wss_run(server) == WSS_OK);
    return arg;
}

static void *poll_server(void *arg) {
    int result;
    while ((result = wss_poll(server, 5)) == WSS_OK) {
    }
    EXPECT(result == WSS_ERR_STOPPED);
    return arg;
}

static void *drain_queue(void *arg) {
    EXPECT(wss_queue_run(queue) == WSS_OK);
    return arg;
}

static void stop_inside(void *arg) {
    EXPECT(wss_destroy(server) == WSS_ERR_BUSY);
    wss_stop(server, 0);
    (void)arg;
}

/* Destroys on a thread that neither made nor ran it. While another one runs it, that is refused and changes nothing. */
static void *destroy_elsewhere(void *arg) {
    EXPECT(wss_destroy(server) == WSS_OK);
    return arg;
}

static void attempt_while_running(void) {
    int result = wss_destroy(server);
    EXPECT(result == WSS_ERR_BUSY);
    if (result == WSS_ERR_BUSY) ADD(busy_answers, 1);
}

/* All that was accepted has run once: where nobody ever ran the server, when it was destroyed. */
static void check_jobs(void) {
    for (int p = 0; p < POSTERS; p++) {
        for (int i = 0; i < JOBS; i++) {
            EXPECT(jobs[p][i].runs == jobs[p][i].accepted);
            accepted += jobs[p][i].accepted;
            ran += jobs[p][i].runs;
            queued += queue_jobs[p][i].accepted;
            queued_ran += queue_jobs[p][i].runs;
        }
    }
}

static void prepare_jobs(void) {
    memset(jobs, 0, sizeof jobs);
    memset(queue_jobs, 0, sizeof queue_jobs);
    for (int p = 0; p < POSTERS; p++)
        for (int i = 0; i < JOBS; i++) queue_jobs[p][i].cycle = cycle;
}

static void live_once(void) {
    pthread_t runner;
    pthread_t drainer;
    pthread_t destroyer;
    int way = cycle % WAYS;
    int with_queue = cycle / 4 % 4 == 3;
    int threads = way == POLLED ? 1 : 1 + cycle / 16 % 2;
    prepare_jobs();
    if (!make_server(threads, with_queue)) exit(2);
    pthread_barrier_wait(&begins); /* posts before it runs are accepted too */
    if (way == STARTED) EXPECT(wss_start(server) == WSS_OK);
    if (way == RUN) pthread_create(&runner, NULL, run_server, NULL);
    if (way == POLLED) pthread_create(&runner, NULL, poll_server, NULL);
    if (queue && way != ALONE) pthread_create(&drainer, NULL, drain_queue, NULL);
    if (way == RUN && cycle / 8 % 2) {
        while (!__atomic_load_n(&server->entered, __ATOMIC_ACQUIRE)) sched_yield();
        attempt_while_running();
    }
    for (int i = 0; i < cycle % 7; i++) sched_yield();
    if (cycle % 3 != 0 || way == ALONE || wss_post(server, stop_inside, NULL) != WSS_OK) wss_stop(server, 0);
    pthread_barrier_wait(&ends); /* as the contract asks: who posts has ended before the server is destroyed */
    if (way == RUN || way == POLLED) pthread_join(runner, NULL);
    if (queue && way != ALONE) pthread_join(drainer, NULL);
    if (cycle / 2 % 2) {
        pthread_create(&destroyer, NULL, destroy_elsewhere, NULL);
        pthread_join(destroyer, NULL);
    } else {
        destroy_elsewhere(NULL);
    }
    EXPECT(wss_queue_destroy(queue) == WSS_OK);
    check_jobs();
    cycles_run++;
}

/* ---- two servers at once ---- */

static pthread_barrier_t both;

static void count_message(const wss_event *e) {
    ADD(*(int *)e->context, 1);
    wss_send(e->server, e->conn, "echo", e->args);
}

static int dial(int port) {
    static const char text[] =
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        "\x81\xa5\0\0\0\0{\"__MESSAGE__\":\"ask\",\"text\":\"\xc3\xa4\xf0\x9f\x99\x82\"}";
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) EXPECT(0);
    EXPECT(send(fd, text, sizeof text - 1, MSG_NOSIGNAL) == (ssize_t)sizeof text - 1);
    return fd;
}

/* Everything that could be made at first use is used: hash, JSON, UTF-8, timers, handles. */
static void *use_one(void *arg) {
    wss_options options;
    char answer[1024];
    size_t size = 0;
    int asked = 0;
    memset(&options, 0, sizeof options);
    options.address = "127.0.0.1";
    options.allocator = allocator;
    pthread_barrier_wait(&both);
    wss_server *own = wss_create(&options, NULL);
    wss_get_options(own, &options);
    wss_on_message(own, "ask", count_message, &asked);
    EXPECT(wss_start(own) == WSS_OK);
    int fd = dial(options.port);
    answer[0] = 0;
    while (size < sizeof answer - 1 && !strstr(answer, "\"echo\"")) {
        ssize_t got = recv(fd, answer + size, sizeof answer - 1 - size, 0);
        if (got <= 0) break;
        size += (size_t)got;
        answer[size] = 0;
    }
    EXPECT(strstr(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") != NULL);
    EXPECT(strstr(answer, "{\"__MESSAGE__\":\"echo\",\"text\":\"\xc3\xa4\xf0\x9f\x99\x82\"}") != NULL);
    close(fd);
    EXPECT(wss_destroy(own) == WSS_OK);
    EXPECT(asked == 1);
    return arg;
}

static void use_two_at_once(void) {
    pthread_t threads[2];
    pthread_barrier_init(&both, NULL, 2);
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, use_one, NULL);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&both);
}

/* ---- the run ---- */

static int count_descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory)) count++;
    if (directory) closedir(directory);
    return count;
}

int main(int argc, char **argv) {
    pthread_t posters[POSTERS];
    int cycles = argc > 1 ? atoi(argv[1]) : 10000;
    int before = count_descriptors();
    alarm(300);
    use_two_at_once(); /* the first use of all */
    pthread_barrier_init(&begins, NULL, POSTERS + 1);
    pthread_barrier_init(&ends, NULL, POSTERS + 1);
    for (int i = 0; i < POSTERS; i++) pthread_create(&posters[i], NULL, be_poster, (void *)(intptr_t)i);
    for (cycle = 0; cycle < cycles; cycle++) live_once();
    last_cycle = 1;
    pthread_barrier_wait(&begins);
    for (int i = 0; i < POSTERS; i++) pthread_join(posters[i], NULL);
    int descriptors = count_descriptors() - before;
    printf("destroy: %ld servers with threads that post until the stop: %ld posts accepted, %ld run, %ld told of the stop, "
           "%ld of %ld posts to queues run, %ld destroys refused while running\n",
           cycles_run, accepted, ran, refused, queued_ran, queued, busy_answers);
    printf("  run twice %ld, in another life %ld, not as agreed %ld, left over: %zu bytes, %d descriptors\n", twice, misused,
           unexpected, library_bytes, descriptors);
    int busy = ran > cycles && refused == (long)cycles * POSTERS && (cycles < 100 || busy_answers > 0);
    if (!busy) printf("  too little happened to tell\n");
    return twice || misused || unexpected || library_bytes || descriptors || !busy;
}
