/* The limit of what an epoll program can do: answers the handshake and flips frames, checking nothing.
   raw MODE PORT, MODE echo, broadcast, or chat (to all, and back to the sender); prints "port N". Level-triggered, one shared receive buffer of 512 KiB, one recv
   and one send per readable event; no buffer per connection but for what the kernel did not take. SIGUSR1 prints the
   calls per message since the last time, SIGTERM prints them and ends. */
#define _GNU_SOURCE 1
#include "wire.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 512 * 1024, HEADROOM = 128 * 1024, EVENTS = 1024, MOST = 1 << 20, LONGEST_HEADER = 14 };

enum { REQUEST, OPEN, CLOSING }; /* what a connection is at; zero before its request */

/* Indexed by descriptor. Output that the kernel did not take stands on the heap. */
typedef struct conn {
    uint64_t left;  /* bytes of the frame's payload still to come */
    char *unsent;
    uint32_t unsent_size;
    uint32_t mask;  /* turned to the next byte */
    unsigned char state;
    unsigned char kept; /* bytes in head */
    char head[LONGEST_HEADER];
} conn;

typedef struct header {
    size_t size;
    uint64_t length;
    uint32_t mask;
    int opcode;
} header;

static conn *conns;
static int highest; /* descriptor */
static int poller;
static int listener;
static int is_broadcast;
static int is_chat;
static char memory[HEADROOM + BUFFER + 1];
static char *const buffer = memory + HEADROOM;
static struct { char data[HEADROOM]; size_t size; int fd; } carry; /* broadcast: the part of a frame that a read ended in */
static uint64_t messages, recvs, sends;
static volatile sig_atomic_t wanted; /* the signal that came */
static sigset_t waiting_mask;        /* signals come only while it waits */

static void on_signal(int number) {
    wanted = number;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int fd, int how, uint32_t events) {
    struct epoll_event event = {0};
    event.events = events;
    event.data.fd = fd;
    if (epoll_ctl(poller, how, fd, &event) != 0) die("epoll_ctl");
}

static void end(int fd) {
    free(conns[fd].unsent);
    memset(&conns[fd], 0, sizeof conns[fd]);
    close(fd);
}

static void keep_unsent(int fd, const char *data, size_t size) {
    conn *c = &conns[fd];
    char *larger = realloc(c->unsent, c->unsent_size + size);
    if (!larger) die("realloc");
    memcpy(larger + c->unsent_size, data, size);
    c->unsent = larger;
    if (!c->unsent_size) watch(fd, EPOLL_CTL_MOD, is_broadcast ? EPOLLIN | EPOLLOUT : EPOLLOUT);
    c->unsent_size += (uint32_t)size;
}

static void put(int fd, const char *data, size_t size) {
    ssize_t sent = 0;
    if (!conns[fd].unsent_size) {
        sent = send(fd, data, size, MSG_NOSIGNAL);
        sends++;
        if (sent < 0 && errno != EAGAIN) return; /* its end is told by the next read */
        if (sent < 0) sent = 0;
    }
    if ((size_t)sent < size) keep_unsent(fd, data + sent, size - (size_t)sent);
}

static void put_unsent(int fd) {
    conn *c = &conns[fd];
    ssize_t sent = send(fd, c->unsent, c->unsent_size, MSG_NOSIGNAL);
    sends++;
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) sent = (ssize_t)c->unsent_size;
    c->unsent_size -= (uint32_t)sent;
    memmove(c->unsent, c->unsent + sent, c->unsent_size);
    if (c->unsent_size) return;
    free(c->unsent);
    c->unsent = NULL;
    watch(fd, EPOLL_CTL_MOD, EPOLLIN);
}

static void answer(int fd, size_t got) {
    static const char name[] = "Sec-WebSocket-Key: ";
    char reply[256] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Accept: ";
    buffer[got] = 0;
    char *key = strstr(buffer, name);
    size_t size = strlen(reply);
    if (!key || !strstr(key, "\r\n\r\n")) {
        end(fd);
        return;
    }
    wire_accept(key + sizeof name - 1, reply + size);
    memcpy(reply + size + WIRE_ACCEPT, "\r\n\r\n", 5);
    conns[fd].state = OPEN;
    put(fd, reply, size + WIRE_ACCEPT + 4);
    sends--; /* only those of messages are counted */
}

/* False if more bytes are needed. */
static int parse(const char *at, size_t size, header *h) {
    const unsigned char *byte = (const unsigned char *)at;
    if (size < 2) return 0;
    int more = (byte[1] & 127) == 127 ? 8 : (byte[1] & 127) == 126 ? 2 : 0;
    h->size = 2 + (size_t)more + 4;
    if (size < h->size) return 0;
    h->opcode = byte[0] & 15;
    h->length = more ? 0 : byte[1] & 127;
    for (int i = 0; i < more; i++) h->length = h->length << 8 | byte[2 + i];
    memcpy(&h->mask, at + h->size - 4, 4);
    return 1;
}

/* Writes the server's header for the frame whose own stands at from, which may overlap. Returns its size. */
static size_t put_header(char *to, const char *from, const header *h) {
    memmove(to, from, h->size - 4);
    if (h->opcode == 9) to[0] = (char)-118; /* ping: pong */
    to[1] = (char)(to[1] & 127);
    return h->size - 4;
}

/* What was received, after what was kept of a header before it: turns it into replies in its place, which are sent. */
static void flip(int fd, char *at, const char *stop) {
    conn *c = &conns[fd];
    char *from = at + (c->left ? 0 : 4); /* a server's header is four bytes shorter: the first frame need not move */
    char *out = from;
    header h;
    while (at < stop) {
        if (!c->left) {
            if (!parse(at, (size_t)(stop - at), &h)) {
                c->kept = (unsigned char)(stop - at);
                memcpy(c->head, at, c->kept);
                break;
            }
            out += put_header(out, at, &h);
            at += h.size;
            c->mask = h.mask;
            c->left = h.length;
            if (h.opcode == 8) c->state = CLOSING;
            messages++;
        }
        size_t part = c->left < (uint64_t)(stop - at) ? (size_t)c->left : (size_t)(stop - at);
        wire_unmask(out, at, part, c->mask);
        c->left -= part;
        if (c->left) c->mask = wire_turn_mask(c->mask, part);
        at += part;
        out += part;
    }
    if (out > from) put(fd, from, (size_t)(out - from));
}

/* One send for each receiver and read, of all frames that came. */
static void spread(int fd, char *at, const char *stop) {
    char *from = at + 4;
    char *out = from;
    header h;
    while (parse(at, (size_t)(stop - at), &h) && h.size + h.length <= (size_t)(stop - at)) {
        if (h.opcode == 8) {
            flip(fd, at, at + h.size + h.length);
            return;
        }
        out += put_header(out, at, &h);
        wire_unmask(out, at + h.size, h.length, h.mask);
        out += h.length;
        at += h.size + h.length;
        messages++;
    }
    carry.size = (size_t)(stop - at);
    carry.fd = fd;
    if (carry.size > sizeof carry.data) die("raw: a frame too large to broadcast");
    memcpy(carry.data, at, carry.size);
    for (int to = 0; to <= highest; to++)
        if (conns[to].state == OPEN) put(to, from, (size_t)(out - from));
    if (is_chat) put(fd, from, (size_t)(out - from));
}

/* Puts the part of a frame that came before in front of what came now: only one connection sends. */
static char *take_carried(int fd) {
    if (carry.size && carry.fd != fd) die("raw: two connections broadcast");
    memcpy(buffer - carry.size, carry.data, carry.size);
    return buffer - carry.size;
}

static void readable(int fd) {
    conn *c = &conns[fd];
    char *at = buffer - c->kept;
    memcpy(at, c->head, c->kept);
    c->kept = 0;
    ssize_t got = recv(fd, buffer, BUFFER, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        end(fd);
        return;
    }
    if (c->state == REQUEST) {
        answer(fd, (size_t)got);
        return;
    }
    recvs++;
    if (is_broadcast) at = take_carried(fd);
    if (is_broadcast) spread(fd, at, buffer + got);
    else flip(fd, at, buffer + got);
}

static void accept_all(void) {
    int one = 1;
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (fd > highest) highest = fd;
        watch(fd, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static void start(int port) {
    struct sockaddr_in address = {0};
    socklen_t size = sizeof address;
    int one = 1;
    conns = calloc(MOST, sizeof *conns);
    poller = epoll_create1(EPOLL_CLOEXEC);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (!conns || poller < 0 || listener < 0) die("raw");
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 4096) != 0) die("bind");
    getsockname(listener, (struct sockaddr *)&address, &size);
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
}

static void report(void) {
    double by = messages ? (double)messages : 1;
    printf("{\"messages\":%llu,\"recv\":%.4f,\"send\":%.4f}\n", (unsigned long long)messages, (double)recvs / by,
           (double)sends / by);
    fflush(stdout);
    messages = recvs = sends = 0;
}

static void turn(void) {
    static struct epoll_event events[EVENTS];
    int count = epoll_pwait(poller, events, EVENTS, -1, &waiting_mask);
    for (int i = 0; i < count; i++) {
        int fd = events[i].data.fd;
        if (fd == listener) accept_all();
        else if (events[i].events & EPOLLOUT && conns[fd].unsent_size) put_unsent(fd);
        else readable(fd);
    }
}

int main(int argc, char **argv) {
    struct sigaction action = {0};
    sigset_t all;
    if (argc != 3) {
        fprintf(stderr, "usage: raw echo|broadcast|chat PORT\n");
        return 2;
    }
    is_chat = strcmp(argv[1], "chat") == 0;
    is_broadcast = is_chat || strcmp(argv[1], "broadcast") == 0;
    action.sa_handler = on_signal;
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &waiting_mask);
    start(atoi(argv[2]));
    for (;;) {
        turn();
        if (!wanted) continue;
        report();
        if (wanted != SIGUSR1) return 0;
        wanted = 0;
    }
}
