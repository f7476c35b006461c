/* Threads that send, broadcast, post, close and register at random against clients that come and go. Every message names
   the connection it is meant for, its producer and the producer's count: a client that sees another's message, or counts
   of one producer out of order, fails the run. Build it with -fsanitize=thread.
   usage: stress SECONDS [THREADS [queue]] */
#define WSSERVER_IMPLEMENTATION
#include "wsserver.h"
#include <dirent.h>
#include <stdio.h>

enum { PRODUCERS = 8, CLIENTS = 4, KNOWN = 64, EACH = 8 };

static wss_server *server;
static wss_queue *queue;
static int port;
static int ending;
static pthread_mutex_t known_mutex = PTHREAD_MUTEX_INITIALIZER;
static wss_conn known[KNOWN];
static size_t library_bytes;
static long wrong, disordered, broken, received, sent, refused, opened, connects, disconnects, posts, posts_run, registered;

#define ADD(counter, n) __atomic_add_fetch(&(counter), n, __ATOMIC_RELAXED)

static void *allocator(void *context, void *pointer, size_t old_size, size_t new_size) {
    (void)context;
    if (!new_size) {
        ADD(library_bytes, 0 - old_size);
        free(pointer);
        return NULL;
    }
    void *moved = realloc(pointer, new_size);
    if (moved) ADD(library_bytes, new_size - (pointer ? old_size : 0));
    return moved;
}

static void on_connect(const wss_event *e) {
    char text[64];
    int size = snprintf(text, sizeof text, "hello %llu", (unsigned long long)e->conn.id);
    ADD(connects, 1);
    int result;
    while ((result = wss_send_data(e->server, e->conn, WSS_TEXT, text, (size_t)size)) == WSS_ERR_QUEUE_FULL) usleep(100);
    if (result != WSS_OK && result != WSS_ERR_GONE && result != WSS_ERR_STOPPED && result != WSS_ERR_FULL) abort();
    if (result != WSS_OK) return; /* nobody learns a handle whose client has not learnt it first */
    pthread_mutex_lock(&known_mutex);
    known[(e->conn.id ^ e->conn.id >> 24) % KNOWN] = e->conn;
    pthread_mutex_unlock(&known_mutex);
}

static void on_disconnect(const wss_event *e) {
    ADD(disconnects, 1);
    pthread_mutex_lock(&known_mutex);
    wss_conn *place = &known[(e->conn.id ^ e->conn.id >> 24) % KNOWN];
    if (e->conn.id && place->id == e->conn.id) place->id = 0;
    pthread_mutex_unlock(&known_mutex);
}

static void on_timer(const wss_event *e) {
    (void)e;
}

static void on_data(const wss_event *e) {
    char text[96];
    int size = snprintf(text, sizeof text, "m %llu %d 0", (unsigned long long)e->conn.id, PRODUCERS);
    wss_send_data(e->server, e->conn, WSS_TEXT, text, (size_t)size);
}

static void run_post(void *arg) {
    (void)arg;
    ADD(posts_run, 1);
}

static wss_conn pick(unsigned *seed) {
    pthread_mutex_lock(&known_mutex);
    wss_conn conn = known[(unsigned)rand_r(seed) % KNOWN];
    pthread_mutex_unlock(&known_mutex);
    return conn;
}

static void *produce(void *arg) {
    int self = (int)(intptr_t)arg;
    unsigned seed = (unsigned)self + 1;
    unsigned long count = 0;
    char text[96];
    while (!__atomic_load_n(&ending, __ATOMIC_ACQUIRE)) {
        int choice = rand_r(&seed) % 1000;
        wss_conn conn = pick(&seed);
        int result;
        if (choice < 700) {
            int size = snprintf(text, sizeof text, "m %llu %d %lu", (unsigned long long)conn.id, self, ++count);
            result = wss_send_data(server, conn, WSS_TEXT, text, (size_t)size);
            ADD(*(result ? &refused : &sent), 1);
        } else if (choice < 900) {
            int size = snprintf(text, sizeof text, "m 0 %d %lu", self, ++count);
            if (choice < 850) wss_broadcast_data(server, WSS_TEXT, text, (size_t)size);
            else wss_broadcast_data_except(server, conn, WSS_TEXT, text, (size_t)size);
        } else if (choice < 970) {
            if (wss_post(server, run_post, NULL) == WSS_OK) ADD(posts, 1);
        } else if (choice < 985) {
            wss_close(server, conn, 4000, "stress");
        } else if (choice < 995) {
            wss_info info;
            wss_stats stats;
            wss_get_info(server, conn, &info);
            wss_get_stats(server, &stats);
            wss_pause(server, conn);
            wss_resume(server, conn);
            wss_timer timer = wss_timer_start(server, rand_r(&seed) % 5, 0, on_timer, NULL);
            wss_timer_cancel(server, timer);
        } else if (ADD(registered, 1) < 200) {
            wss_on_message(server, choice & 1 ? "a" : "b", on_data, NULL);
        }
        if (choice % 8 == 0) usleep(200);
    }
    return NULL;
}

static int read_all(int fd, void *to, size_t size) {
    char *at = (char *)to;
    while (size) {
        ssize_t got = recv(fd, at, size, 0);
        if (got <= 0) return 0;
        at += got;
        size -= (size_t)got;
    }
    return 1;
}

/* One frame; its opcode, or -1. */
static int read_frame(int fd, char text[256]) {
    unsigned char head[2];
    if (!read_all(fd, head, 2) || head[1] > 125 || !read_all(fd, text, head[1])) return -1;
    text[head[1]] = 0;
    return head[0] & 15;
}

static int open_client(void) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    struct sockaddr_in address;
    struct timeval patience = {5, 0};
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int good = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
               send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t)sizeof request - 1;
    char last[4] = "";
    while (good && memcmp(last, "\r\n\r\n", 4) != 0) {
        memmove(last, last + 1, 3);
        good = read_all(fd, last + 3, 1);
    }
    if (good) return fd;
    close(fd);
    return -1;
}

static void leave(int fd, unsigned *seed) {
    static const unsigned char close_frame[] = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8};
    struct linger linger = {1, 0};
    int way = rand_r(seed) % 3;
    char rest[4096];
    if (way == 0) setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    if (way == 1 && send(fd, close_frame, sizeof close_frame, MSG_NOSIGNAL) > 0)
        while (recv(fd, rest, sizeof rest, 0) > 0) {
        }
    close(fd);
}

/* One client's life: learns its handle, checks what comes, leaves in one of three ways. */
static void live(unsigned *seed) {
    static const unsigned char ask[] = {0x81, 0x81, 0, 0, 0, 0, 'x'};
    unsigned long last[PRODUCERS + 1] = {0};
    unsigned long long self = 0;
    char text[256];
    int fd = open_client();
    if (fd < 0) return;
    ADD(opened, 1);
    for (int left = rand_r(seed) % 2000; left > 0 && !__atomic_load_n(&ending, __ATOMIC_ACQUIRE); left--) {
        unsigned long long target;
        unsigned long count;
        int producer;
        int opcode = read_frame(fd, text);
        if (opcode != 1) {
            if (opcode != -1 && opcode != 8) ADD(broken, 1);
            break;
        }
        if (sscanf(text, "hello %llu", &self) == 1) continue;
        if (sscanf(text, "m %llu %d %lu", &target, &producer, &count) != 3 || producer < 0 || producer > PRODUCERS) {
            ADD(broken, 1);
            break;
        }
        ADD(received, 1);
        if (target && target != self) ADD(wrong, 1);
        if (producer < PRODUCERS && count <= last[producer]) ADD(disordered, 1);
        last[producer] = count;
        if (left % 16 == 0 && send(fd, ask, sizeof ask, MSG_NOSIGNAL) < 0) break;
    }
    leave(fd, seed);
}

static void *be_clients(void *arg) {
    unsigned seed = 1000 + (unsigned)(intptr_t)arg;
    while (!__atomic_load_n(&ending, __ATOMIC_ACQUIRE)) live(&seed);
    return NULL;
}

static void *drain_queue(void *arg) {
    (void)arg;
    wss_queue_run(queue);
    return NULL;
}

static int count_descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory)) count++;
    if (directory) closedir(directory);
    return count;
}

int main(int argc, char **argv) {
    pthread_t producers[PRODUCERS];
    pthread_t clients[CLIENTS * EACH];
    pthread_t drainer;
    wss_error why;
    wss_options options;
    int seconds = argc > 1 ? atoi(argv[1]) : 10;
    int before = count_descriptors();
    memset(&options, 0, sizeof options);
    options.address = "127.0.0.1";
    options.threads = argc > 2 ? atoi(argv[2]) : 1;
    options.allocator = allocator;
    options.max_queued = 20000;
    options.max_posted = 2000;
    if (argc > 3) queue = options.queue = wss_queue_create(&options, &why);
    server = wss_create(&options, &why);
    if (!server) return 1;
    wss_get_options(server, &options);
    port = options.port;
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    wss_on_data(server, on_data, NULL);
    wss_start(server);
    if (queue) pthread_create(&drainer, NULL, drain_queue, NULL);
    for (intptr_t i = 0; i < CLIENTS * EACH; i++) pthread_create(&clients[i], NULL, be_clients, (void *)i);
    for (intptr_t i = 0; i < PRODUCERS; i++) pthread_create(&producers[i], NULL, produce, (void *)i);
    for (int i = 0; i < seconds * 10; i++) usleep(100000);
    __atomic_store_n(&ending, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < PRODUCERS; i++) pthread_join(producers[i], NULL);
    wss_stop(server, 1000);
    if (queue) pthread_join(drainer, NULL);
    wss_destroy(server);
    for (int i = 0; i < CLIENTS * EACH; i++) pthread_join(clients[i], NULL);
    if (queue) wss_queue_destroy(queue);
    int after = count_descriptors();
    printf("threads %d%s: %ld connections, %ld messages received, %ld sends accepted, %ld refused, posts %ld of %ld, %ld to the "
           "wrong connection, %ld out of order, %ld broken, %zu bytes and %d descriptors left over\n",
           options.threads, queue ? " and a queue" : "", opened, received, sent, refused, posts_run, posts, wrong, disordered, broken,
           library_bytes, after - before);
    int enough = opened >= 50 && sent >= 2000 && received >= 10000 && connects == disconnects;
    return wrong || disordered || broken || posts != posts_run || library_bytes || after != before || !enough;
}
