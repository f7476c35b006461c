/* Time and fairness on the real kernel: who is beside whom, and for how long. time HOW, where HOW is
       fair       how long an echo takes alone, beside one client that floods, and beside fifty; and the processor time of a
                  turn while one client floods a server that broadcasts to 2,000: five rounds
       pings      60,000 pings behind 120,000 replies that wait, and before an empty queue: processor time of each
       pressure   40 clients send small messages and never read: new clients, and messages of 300 KB, beside them
       still      a process that is stopped for 42 s, default options: two clients live, one has said something meanwhile
       slow       readers of 80,000, 40,000, 14,000 and 6,000 bytes a second behind as much as the server can queue, for 50 s;
                  and a client in the midst of sending 20 MB learns that its message is too large
   Prints what it found, and fails where a bound is passed. */
#define _GNU_SOURCE 1
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#if !defined(WSSERVER_TESTED)
#define WSSERVER_TESTED "../../wsserver.h"
#endif
#include WSSERVER_TESTED

#include "../client.h"

#include <sys/wait.h>

enum { READERS = 2000, FLOODERS = 50, ROUNDS = 5, EMPTY = 6 };

static wss_server *server;
static int port, failures, over;

static void expect(int truth, const char *what) {
    if (!truth) printf("FAILED: %s\n", what);
    failures += !truth;
}

static int is_over(void) {
    return __atomic_load_n(&over, __ATOMIC_RELAXED);
}

static void set_over(int value) {
    __atomic_store_n(&over, value, __ATOMIC_RELAXED);
}

static void rest(long milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static double seconds_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b) {
    const double *left = (const double *)a;
    const double *right = (const double *)b;
    return (*left > *right) - (*left < *right);
}

static double at_share(double *values, int count, double share) {
    qsort(values, (size_t)count, sizeof *values, compare);
    return count ? values[(int)((double)(count - 1) * share)] : 0;
}

/* ---- the processor time of a turn: the linker puts this in the place of the call ---- */

enum { TURNS = 1 << 20 };
static double turns[TURNS], own[TURNS], turn_began, sending, loop_used;
static int turn_count, sends, most_sends;

int __real_epoll_wait(int fd, struct epoll_event *events, int most, int timeout);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int most, int timeout);

int __wrap_epoll_wait(int fd, struct epoll_event *events, int most, int timeout) {
    double now = seconds_of(CLOCK_THREAD_CPUTIME_ID);
    if (turn_began > 0 && turn_count < TURNS) {
        own[turn_count] = now - turn_began - sending;
        turns[turn_count++] = now - turn_began;
        if (sends > most_sends) most_sends = sends;
    }
    __atomic_store(&loop_used, &now, __ATOMIC_RELAXED);
    int count = __real_epoll_wait(fd, events, most, timeout);
    turn_began = seconds_of(CLOCK_THREAD_CPUTIME_ID);
    sending = 0;
    sends = 0;
    return count;
}

ssize_t __real_send(int fd, const void *data, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t size, int flags);

/* What the kernel takes of a turn. */
ssize_t __wrap_send(int fd, const void *data, size_t size, int flags) {
    if (!wss__event_inside) return __real_send(fd, data, size, flags); /* a client's */
    double began = seconds_of(CLOCK_THREAD_CPUTIME_ID);
    ssize_t sent = __real_send(fd, data, size, flags);
    sending += seconds_of(CLOCK_THREAD_CPUTIME_ID) - began;
    sends++;
    return sent;
}

/* ---- servers ---- */

static void echo(const wss_event *e) {
    wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

static void spread(const wss_event *e) {
    if (e->size == 1) wss_broadcast_data(e->server, e->opcode, e->data, e->size);
    else echo(e);
}

static void begin(wss_options *options, wss_handler *handler) {
    wss_error why;
    options->address = "127.0.0.1";
    server = wss_create(options, &why);
    if (!server) {
        printf("%s\n", why.text);
        exit(1);
    }
    wss_on_data(server, handler, NULL);
    wss_get_options(server, options);
    port = options->port;
    turn_began = 0;
    turn_count = 0;
    most_sends = 0;
    if (wss_start(server) != WSS_OK) exit(1);
}

static void end(void) {
    wss_stop(server, 100);
    expect(wss_destroy(server) == WSS_OK, "the server is not destroyed");
}

/* ---- who floods ---- */

typedef struct flood {
    int clients;
    size_t payload;
} flood;

/* Sends small messages on all of its connections as fast as they go, and reads what comes. */
static void *run_flood(void *arg) {
    const flood *how = (const flood *)arg;
    static char dropped[1 << 16];
    script messages = {0};
    client *clients[FLOODERS];
    while (messages.size < 60000) script_frame(&messages, SCRIPT_BINARY, SCRIPT_FINAL, "x", how->payload);
    for (int i = 0; i < how->clients; i++) clients[i] = client_open(port);
    for (int i = 0; i < how->clients; i++) fcntl(clients[i]->fd, F_SETFL, O_NONBLOCK);
    size_t at[FLOODERS] = {0};
    while (!is_over()) {
        for (int i = 0; i < how->clients; i++) {
            ssize_t sent = send(clients[i]->fd, messages.data + at[i], messages.size - at[i], MSG_NOSIGNAL);
            if (sent > 0) at[i] = (at[i] + (size_t)sent) % messages.size;
            while (recv(clients[i]->fd, dropped, sizeof dropped, 0) > 0) {
            }
        }
    }
    for (int i = 0; i < how->clients; i++) client_reset(clients[i]);
    script_free(&messages);
    return NULL;
}

/* How long an echo takes, in milliseconds: the median of those of two seconds. */
static double time_of_an_echo(void) {
    static double found[20000];
    int count = 0;
    client *c = client_open(port);
    double until = seconds_of(CLOCK_MONOTONIC) + 2;
    while (seconds_of(CLOCK_MONOTONIC) < until && count < 20000) {
        double began = seconds_of(CLOCK_MONOTONIC);
        if (!client_send(c, SCRIPT_BINARY, "victim", 6) || client_read(c) != SCRIPT_BINARY) {
            expect(0, "the client beside a flood lost its connection");
            break;
        }
        found[count++] = (seconds_of(CLOCK_MONOTONIC) - began) * 1000;
        rest(1);
    }
    client_free(c);
    return at_share(found, count, 0.5);
}

static double beside(int clients) {
    wss_options options = {0};
    pthread_t thread;
    flood how = {clients, 0};
    begin(&options, echo);
    set_over(0);
    if (clients) pthread_create(&thread, NULL, run_flood, &how);
    if (clients) rest(300);
    double found = time_of_an_echo();
    set_over(1);
    if (clients) pthread_join(thread, NULL);
    end();
    return found;
}

/* Opens readers and reads what comes for them. */
static void *run_readers(void *arg) {
    static char dropped[1 << 16];
    static client *readers[READERS];
    struct epoll_event events[64];
    int set = epoll_create1(0);
    for (int i = 0; i < READERS; i++) {
        readers[i] = client_open(port);
        struct epoll_event event = {EPOLLIN, {.fd = readers[i]->fd}};
        if (readers[i]->status != 101) expect(0, "a reader was not let in");
        epoll_ctl(set, EPOLL_CTL_ADD, readers[i]->fd, &event);
    }
    __atomic_store_n((int *)arg, 1, __ATOMIC_RELEASE);
    while (!is_over()) {
        int count = epoll_pwait(set, events, 64, 100, NULL);
        for (int i = 0; i < count; i++) recv(events[i].data.fd, dropped, sizeof dropped, 0);
    }
    for (int i = 0; i < READERS; i++) client_reset(readers[i]);
    close(set);
    return NULL;
}

/* Processor time of the longest turn beside one client whose messages all go to 2,000, in milliseconds; what of it is not in
   the kernel's send, of which there is one for each. */
static double turn_of_a_broadcast(double *without_sends) {
    wss_options options = {0};
    pthread_t threads[2];
    flood how = {1, 1};
    int ready = 0;
    begin(&options, spread);
    set_over(0);
    pthread_create(&threads[0], NULL, run_readers, &ready);
    while (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE)) rest(10);
    pthread_create(&threads[1], NULL, run_flood, &how);
    rest(2000);
    set_over(1);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    end();
    expect(most_sends <= READERS + 2, "a turn has more than one send for a receiver");
    *without_sends = at_share(own, turn_count, 1) * 1000;
    return at_share(turns, turn_count, 1) * 1000;
}

static void fair(void) {
    double idle[ROUNDS], one[ROUNDS], fifty[ROUNDS], turn[ROUNDS], rest_of[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        idle[i] = beside(0);
        one[i] = beside(1);
        fifty[i] = beside(FLOODERS);
        turn[i] = turn_of_a_broadcast(&rest_of[i]);
        printf("round %d: echo alone %.3f ms, beside one that floods %.3f ms, beside %d %.3f ms; longest turn with %d readers"
               " %.1f ms of the processor, without the kernel's sends %.1f ms\n", i + 1, idle[i], one[i], FLOODERS, fifty[i],
               READERS, turn[i], rest_of[i]);
    }
    double alone = at_share(idle, ROUNDS, 0.5);
    expect(at_share(one, ROUNDS, 0.5) <= 2 + 3 * alone, "an echo beside one client that floods takes more than 2 ms + 3 x alone");
    expect(at_share(fifty, ROUNDS, 0.5) <= 10 + 3 * alone, "an echo beside 50 that flood takes more than 10 ms + 3 x alone");
    expect(at_share(rest_of, ROUNDS, 0.5) <= 10, "a turn beside one that floods a broadcast takes more than 10 ms by itself");
    expect(at_share(turn, ROUNDS, 0.5) <= 100, "a turn beside one that floods a broadcast takes more than 100 ms");
}

/* ---- pings ---- */

static uint64_t frames_in(void) {
    wss_stats stats;
    wss_get_stats(server, &stats);
    return stats.frames_in;
}

/* Processor time of the loop for this many pings. */
static double cost_of_pings_once(client *c, int count) {
    double before, after;
    script pings = {0};
    uint64_t wanted = frames_in() + (uint64_t)count;
    for (int i = 0; i < count; i++) script_frame(&pings, SCRIPT_PING, SCRIPT_FINAL, "p", 1);
    rest(100);
    __atomic_load(&loop_used, &before, __ATOMIC_RELAXED);
    client_raw(c, pings.data, pings.size);
    while (frames_in() < wanted) rest(1);
    rest(100);
    __atomic_load(&loop_used, &after, __ATOMIC_RELAXED);
    script_free(&pings);
    return after - before;
}

/* The least of a few: what else the machine does only adds, and a walk of the queue would cost more in each of them. */
static double cost_of_pings(client *c, int count) {
    double least = cost_of_pings_once(c, count);
    for (int i = 1; i < 5; i++) {
        double once = cost_of_pings_once(c, count);
        if (once < least) least = once;
    }
    return least;
}

static void *read_all(void *arg) {
    static char dropped[1 << 16];
    while (recv(((client *)arg)->fd, dropped, sizeof dropped, 0) > 0) {
    }
    return NULL;
}

static void pings(void) {
    enum { PINGS = 60000, REPLIES = 120000 };
    wss_options options = {0};
    pthread_t thread;
    options.max_queued = (size_t)64 << 20;
    options.stall_ms = WSS_OFF;
    options.least_rate = WSS_OFF;
    begin(&options, echo);
    client *reads = client_open(port);
    pthread_create(&thread, NULL, read_all, reads);
    double empty = cost_of_pings(reads, PINGS);
    client *blocked = client_dial_with(port, 4096);
    script messages = {0};
    client_ask(blocked, "");
    static char block[1 << 20];
    for (int i = 0; i < 8; i++) client_send(blocked, SCRIPT_BINARY, block, sizeof block); /* what the kernel takes is full */
    uint64_t wanted = frames_in() + REPLIES;
    for (int i = 0; i < REPLIES; i++) script_frame(&messages, SCRIPT_BINARY, SCRIPT_FINAL, "", 0);
    client_raw(blocked, messages.data, messages.size);
    while (frames_in() < wanted) rest(1);
    double full = cost_of_pings(blocked, PINGS);
    printf("%d pings: %.1f ms of the processor with an empty queue, %.1f ms behind %d replies\n", PINGS, empty * 1000,
           full * 1000, REPLIES);
    expect(full <= 3 * empty, "pings behind a queue cost more than three times as much");
    shutdown(reads->fd, SHUT_RDWR);
    pthread_join(thread, NULL);
    client_free(reads);
    client_free(blocked);
    script_free(&messages);
    end();
}

/* ---- pressure ---- */

/* Sends small messages, of which each is answered, and never reads. */
static void *never_read(void *arg) {
    enum { CLIENTS = 40 };
    client *clients[CLIENTS];
    script messages = {0};
    (void)arg;
    while (messages.size < 60000) script_frame(&messages, SCRIPT_BINARY, SCRIPT_FINAL, "", 0);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = client_dial_with(port, 4096);
        client_ask(clients[i], "");
        fcntl(clients[i]->fd, F_SETFL, O_NONBLOCK);
    }
    while (!is_over()) {
        for (int i = 0; i < CLIENTS; i++) send(clients[i]->fd, messages.data, messages.size / EMPTY * EMPTY, MSG_NOSIGNAL);
        rest(1);
    }
    for (int i = 0; i < CLIENTS; i++) client_reset(clients[i]);
    script_free(&messages);
    return NULL;
}

static void pressure(void) {
    static char large[300000];
    wss_options options = {0};
    wss_stats stats;
    pthread_t thread;
    int passed = 0;
    begin(&options, echo);
    set_over(0);
    pthread_create(&thread, NULL, never_read, NULL);
    for (long long until = client_clock() + 10000; client_clock() < until && !failures;) {
        client *c = client_open(port);
        expect(c->status == 101, "a new client was not let in");
        int good = client_send(c, SCRIPT_BINARY, large, sizeof large) && client_read(c) == SCRIPT_BINARY &&
                   c->length == sizeof large;
        expect(good, "an honest message of 300 KB was not answered");
        passed += good;
        client_free(c);
    }
    set_over(1);
    pthread_join(thread, NULL);
    wss_get_stats(server, &stats);
    printf("40 clients that never read: %d new clients with a message of 300 KB passed, memory at most %llu MiB of %llu\n",
           passed, (unsigned long long)stats.memory_peak >> 20, (unsigned long long)stats.memory_budget >> 20);
    expect(passed > 10, "next to nothing has passed");
    end();
}

/* ---- a process that stands still ---- */

static int pipe_of_port[2];

static void serve_apart(void) {
    wss_options options = {0};
    begin(&options, echo);
    if (write(pipe_of_port[1], &port, sizeof port) != sizeof port) _exit(1);
    for (;;) pause();
}

typedef struct lives {
    client *c;
    int messages;
    int ended;
} lives;

static void live_for(lives *one, int milliseconds) {
    int result = client_read_within(one->c, milliseconds);
    if (result == SCRIPT_PING) client_frame(one->c, SCRIPT_PONG, 1, one->c->data, one->c->length);
    else if (result > 0 && result != SCRIPT_CLOSE) one->messages++;
    else if (result != CLIENT_LATE) one->ended = 1;
}

/* Both answer their pings for so long: who does not look for longer than pong_ms is cut with good reason. */
static void live(lives *silent, lives *talks, int milliseconds) {
    for (long long until = client_clock() + milliseconds; client_clock() < until;) {
        if (!silent->ended) live_for(silent, 50);
        if (!talks->ended) live_for(talks, 50);
    }
}

static void still(void) {
    enum { STILL = 42000 };
    if (pipe(pipe_of_port) != 0) exit(1);
    pid_t child = fork();
    if (child == 0) serve_apart();
    if (read(pipe_of_port[0], &port, sizeof port) != sizeof port) exit(1);
    lives silent = {client_open(port), 0, 0};
    lives talks = {client_open(port), 0, 0};
    live(&silent, &talks, 500);
    kill(child, SIGSTOP);
    rest(100);
    client_text(talks.c, "sent meanwhile");
    live(&silent, &talks, STILL);
    kill(child, SIGCONT);
    live(&silent, &talks, 2000);
    printf("stopped for %d ms: the silent client %s, the other got %d answers\n", STILL, silent.ended ? "was cut" : "lives",
           talks.messages);
    expect(!silent.ended && !talks.ended && talks.messages == 1, "a process that stood still has cut a client");
    live(&silent, &talks, 45000);
    expect(!silent.ended && !talks.ended, "a client was cut afterwards");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    client_free(silent.c);
    client_free(talks.c);
}

/* ---- slow readers ---- */

enum { SLOW = 50000 }; /* milliseconds */

typedef struct reader {
    int rate; /* bytes a second */
    int buffer;
    int ended;
    long long got;
} reader;

static void *read_slowly(void *arg) {
    reader *r = (reader *)arg;
    static __thread char part[65536];
    client *c = client_dial_with(port, r->buffer);
    client_ask(c, "");
    long long began = client_clock();
    while (client_clock() - began < SLOW && !r->ended) {
        long long due = (client_clock() - began) * r->rate / 1000 - r->got;
        ssize_t got = due > 0 ? recv(c->fd, part, due < (long long)sizeof part ? (size_t)due : sizeof part, MSG_DONTWAIT) : 0;
        if (due > 0 && (got == 0 || (got < 0 && errno != EAGAIN))) r->ended = 1;
        if (got > 0) r->got += got;
        rest(50);
    }
    client_free(c);
    return NULL;
}

static void keep_full(const wss_event *e) {
    static char block[65536];
    wss_conn none = {0};
    for (wss_conn c = wss_next(e->server, none); c.id; c = wss_next(e->server, c))
        while (wss_send_data(e->server, c, WSS_BINARY, block, sizeof block) == WSS_OK) {
        }
}

/* The close code comes, however much its client is still sending. */
static void too_large(void) {
    static char part[1 << 16];
    script head = {0};
    unsigned char mask[4];
    client *c = client_open(port);
    script_head(&head, SCRIPT_BINARY, SCRIPT_FINAL, 20 << 20, mask);
    client_raw(c, head.data, head.size);
    for (int i = 0; i < (20 << 20) / (int)sizeof part; i++)
        if (!client_raw(c, part, sizeof part)) break;
    int result;
    while ((result = client_read(c)) == SCRIPT_BINARY) {
    }
    printf("a message of 20 MB: %s %d\n", result == SCRIPT_CLOSE ? "Close" : "no Close, but", result == SCRIPT_CLOSE ? c->code : result);
    expect(result == SCRIPT_CLOSE && c->code == 1009, "a client in the midst of a large message is not told why it ends");
    script_free(&head);
    client_free(c);
}

static void slow(void) {
    reader readers[] = {{80000, 0, 0, 0}, {40000, 0, 0, 0}, {14000, 0, 0, 0}, {6000, 0, 0, 0}, {6000, 4096, 0, 0}};
    enum { COUNT = sizeof readers / sizeof readers[0] };
    pthread_t threads[COUNT];
    wss_options options = {0};
    begin(&options, echo);
    too_large();
    wss_timer_start(server, 10, 10, keep_full, NULL);
    for (int i = 0; i < COUNT; i++) pthread_create(&threads[i], NULL, read_slowly, &readers[i]);
    for (int i = 0; i < COUNT; i++) {
        pthread_join(threads[i], NULL);
        printf("reader of %d bytes a second, buffer %d: %lld bytes in %d s, %s\n", readers[i].rate, readers[i].buffer,
               readers[i].got, SLOW / 1000, readers[i].ended ? "was cut" : "lives");
        expect(!readers[i].ended, "a steady reader was cut");
    }
    end();
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"fair", fair}, {"pings", pings}, {"pressure", pressure}, {"still", still}, {"slow", slow}};
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; argc > 1 && i < sizeof parts / sizeof parts[0]; i++) {
        if (strcmp(argv[1], parts[i].name) != 0) continue;
        parts[i].run();
        return failures != 0;
    }
    return 2;
}
