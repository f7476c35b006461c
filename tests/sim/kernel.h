/* kernel.h: wsserver.h on a kernel that is all in memory: sockets, epoll, eventfd, timers, clock, allocator. One thread,
   nothing sleeps, the same calls give the same run. Any call can be made to fail at any occurrence, and what the server
   must keep true is checked after each turn. Include this instead of wsserver.h.

   sim_begin(seed)              an empty kernel
   sim_options(&options)        the allocator that counts; sim_queue_options for a queue
   sim_settle(server)           turns the server, and its queue, until nothing moves; checks the invariants each turn
   sim_pass(server, ms)         moves the clock and settles
   sim_finish()                 says what was left open or allocated
   peer_...                     the clients: they read and write at once, without a thread of their own
   sim.faults                   what fails, and when; each says how often it has struck */
#ifndef SIM_KERNEL_H
#define SIM_KERNEL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../poison.h"
#include "../request.h"

#if !defined(SIM_FILES)
#define SIM_FILES 1024 /* descriptors a process may have */
#endif
#if !defined(SIM_PEERS)
#define SIM_PEERS 1024 /* clients at one time */
#endif
enum {
    SIM_FIRST = 3, /* number of the first descriptor */
    SIM_PATHS = 8, /* socket files */
    SIM_FAULTS = 8,
    SIM_SPIN = 500 /* turns without any progress that are a spin */
};

#define SIM_CALLS(X)                                                                                            \
    X(accept4) X(bind) X(chmod) X(clock_gettime) X(close) X(connect) X(epoll_create1) X(epoll_ctl) X(epoll_wait) \
    X(eventfd) X(fchmod) X(fcntl) X(flock) X(fstat) X(getpeername) X(getrandom) X(getrlimit) X(getsockname) X(getsockopt) X(ioctl) X(listen) X(lstat) \
    X(open) X(poll) X(pthread_create) X(read) X(recv) X(sched_yield) X(send) X(sendmsg) X(setsockopt) X(shutdown) X(socket) \
    X(timerfd_create) X(timerfd_settime) X(unlink) X(write)
#define SIM_ENUM(name) SIM_##name,
#define SIM_NAME(name) #name,
enum { SIM_CALLS(SIM_ENUM) SIM_CALL_COUNT };
static const char *const sim_call_names[] = {SIM_CALLS(SIM_NAME)};

/* ---- state ---- */

enum { /* kinds of faults */
    SIM_ERROR = 1, /* the call fails with this errno */
    SIM_SHORT,     /* at most this many bytes are moved */
    SIM_EMPTY,     /* epoll_wait, poll: returns 0 at once */
    SIM_SPURIOUS   /* epoll_wait: tells of reading and writing for all it watches, whether there is any or not */
};

typedef struct sim_fault {
    int call;     /* SIM_recv, ... */
    int kind;
    int value;    /* errno, or bytes */
    long first;   /* occurrence of the call, from 1 */
    long count;   /* how many times; 0: from then on */
    long seen;    /* times the call was made */
    long struck;  /* times it failed */
} sim_fault;

typedef struct sim_pipe {
    char *data;
    size_t head;
    size_t size;
    size_t room;  /* of data */
    size_t limit; /* bytes that fit; may change */
} sim_pipe;

/* One connection, as its client sees it. */
typedef struct peer {
    sim_pipe in;  /* to the server */
    sim_pipe out; /* from the server, in the network */
    sim_pipe got; /* from the server, taken out of the network and not used yet */
    struct peer *next;
    void *user;
    int fd;       /* the server's descriptor; -1: none */
    int listener; /* in whose backlog it waits; -1: in none */
    int port;
    int error;    /* errno of the server's next call */
    char address[46];
    uint8_t held;         /* by its client */
    uint8_t finished;     /* the client ended its stream */
    uint8_t closed;       /* the client is gone: what comes now is answered with a reset */
    uint8_t broken;       /* reset by the client */
    uint8_t nospace;      /* the server was told that the kernel is full */
    uint8_t end;          /* the server ended its stream */
    uint8_t server_gone;  /* the server closed its descriptor */
    uint8_t reset;        /* the client was reset */
    uint8_t struck;       /* a fault hit a call on this connection */
} peer;

enum { SIM_NONE = 0, SIM_SOCKET, SIM_LISTENER, SIM_STREAM, SIM_EPOLL, SIM_EVENTFD, SIM_TIMERFD, SIM_PLAIN };

typedef struct sim_file {
    uint8_t kind;
    uint8_t resets;     /* closing resets the connection */
    uint8_t queued;     /* in its epoll's ready list */
    uint8_t unwatching; /* the server asked epoll to forget it */
    uint8_t more;       /* what was sent last may wait in the kernel for what follows */
    int family;
    int epoll;          /* the descriptor that watches it; -1: none */
    int next;           /* in the ready list */
    int first;          /* epoll: the ready list */
    int last;
    int port;
    int path;           /* number of its socket file, or -1 */
    int backlog;
    int waiting;        /* connections in the backlog */
    uint32_t events;
    uint64_t tag;
    uint64_t count;     /* eventfd: counter. timerfd: when it expires, in microseconds; 0: never */
    peer *peer;         /* stream: its client. listener: the first that waits */
    peer *last_peer;
} sim_file;

typedef struct sim_path {
    char name[108];
    int exists;
    int fd; /* its listener, or -1: left behind by a dead server */
} sim_path;

typedef struct sim_account {
    size_t bytes;
    size_t charged; /* as the server counts them */
    size_t blocks;
} sim_account;

typedef struct sim_kernel {
    uint64_t now;      /* microseconds */
    uint64_t tick;     /* microseconds that pass at each look at the clock */
    uint64_t random;
    uint64_t progress; /* grows with everything that moves */
    uint64_t last_progress;
    long idle_turns;
    long calls[SIM_CALL_COUNT];
    sim_fault faults[SIM_FAULTS];
    int fault_count;
    sim_file files[SIM_FILES];
    int top;           /* descriptors ever in use */
    int open;          /* descriptors */
    int max_open;
    int lowest;        /* no free descriptor below this one */
    int next_port;
    int timers;        /* timer descriptors */
    int no_ipv6;
    int event_most;    /* events that one epoll_wait may report; 0: as many as asked for */
    int again_percent; /* of receives, sends and accepts that find the kernel busy */
    size_t recv_most;  /* bytes; 0: no limit */
    size_t send_most;
    size_t out_limit;  /* for new connections: what the network holds for a client that does not read */
    sim_path paths[SIM_PATHS];
    peer *free_peers;
    int peers_made;
    int peers_used;
    long locks;        /* mutexes held */
    uint32_t taken;    /* places of connections that were ever seen taken: those below this one */
    long checks;       /* of the invariants */
    int (*idle)(void); /* asked before time passes in a wait; true: look again */
    /* allocations */
    sim_account account;       /* of the server */
    sim_account queue_account; /* of its queue */
    long grown;        /* allocations that made something larger */
    long fail_at;      /* number of the one that fails, from 1; 0: none */
    int fail_on;       /* and all behind it */
    size_t fail_above; /* only those of more bytes count */
    long failed;
    /* violations */
    int violations;
    const char *label; /* printed with each */
} sim_kernel;

static sim_kernel sim;
static peer sim_peers[SIM_PEERS];

/* What must never happen. Whoever includes this may put another function here. */
static void sim_abort(const char *text) {
    printf("violation: %s%s%s\n", text, sim.label ? ", in " : "", sim.label ? sim.label : "");
    fflush(stdout);
    abort();
}

static void (*sim_on_violation)(const char *text) = sim_abort;

static void sim_violation(const char *text) {
    sim.violations++;
    sim_on_violation(text);
}

#define SIM_TRUE(condition, text) ((condition) ? (void)0 : sim_violation(text))

static inline uint64_t sim_random(void) {
    sim.random ^= sim.random << 13;
    sim.random ^= sim.random >> 7;
    sim.random ^= sim.random << 17;
    return sim.random * 0x2545f4914f6cdd1du >> 11;
}

static inline size_t sim_below(size_t limit) {
    return limit ? (size_t)(sim_random() % limit) : 0;
}

/* ---- pipes and peers ---- */

static void sim_pipe_put(sim_pipe *pipe, const void *data, size_t size) {
    if (!size) return;
    if (pipe->head && pipe->head + pipe->size + size > pipe->room) {
        memmove(pipe->data, pipe->data + pipe->head, pipe->size);
        pipe->head = 0;
    }
    if (pipe->size + size > pipe->room) {
        pipe->room = (pipe->size + size) * 2;
        pipe->data = (char *)realloc(pipe->data, pipe->room);
        if (!pipe->data) abort();
    }
    memcpy(pipe->data + pipe->head + pipe->size, data, size);
    pipe->size += size;
}

static void sim_pipe_skip(sim_pipe *pipe, size_t size) {
    pipe->head += size;
    pipe->size -= size;
    if (!pipe->size) pipe->head = 0;
}

static size_t sim_pipe_space(const sim_pipe *pipe) {
    return pipe->size < pipe->limit ? pipe->limit - pipe->size : 0;
}

static void sim_pipe_clear(sim_pipe *pipe) {
    if (pipe->room > 65536) { /* a large one is not kept for ever */
        free(pipe->data);
        pipe->data = NULL;
        pipe->room = 0;
    }
    pipe->head = 0;
    pipe->size = 0;
}

/* Both ends have forgotten it. */
static void sim_peer_release(peer *client) {
    if (client->held || client->fd >= 0 || client->listener >= 0) return;
    sim_pipe_clear(&client->in);
    sim_pipe_clear(&client->out);
    sim_pipe_clear(&client->got);
    client->next = sim.free_peers;
    sim.free_peers = client;
    sim.peers_used--;
}

static peer *sim_peer_new(void) {
    peer *client = sim.free_peers;
    if (client) sim.free_peers = client->next;
    else if (sim.peers_made < SIM_PEERS) client = &sim_peers[sim.peers_made++];
    if (!client) return NULL;
    sim_pipe in = client->in;
    sim_pipe out = client->out;
    sim_pipe got = client->got;
    memset(client, 0, sizeof *client);
    client->in = in;
    client->out = out;
    client->got = got;
    client->in.limit = (size_t)1 << 22;
    client->out.limit = sim.out_limit;
    client->fd = -1;
    client->listener = -1;
    client->held = 1;
    sim.peers_used++;
    return client;
}

/* ---- descriptors ---- */

static sim_file *sim_file_at(int fd) {
    if (fd < SIM_FIRST || fd >= SIM_FIRST + SIM_FILES || sim.files[fd - SIM_FIRST].kind == SIM_NONE) return NULL;
    return &sim.files[fd - SIM_FIRST];
}

/* The lowest free number, as the kernel gives them out: a closed one comes back at once. */
static int sim_file_new(int kind) {
    if (sim.open >= sim.max_open) {
        errno = EMFILE;
        return -1;
    }
    int index = sim.lowest;
    while (sim.files[index].kind != SIM_NONE) index++;
    sim_file *file = &sim.files[index];
    memset(file, 0, sizeof *file);
    file->kind = (uint8_t)kind;
    file->epoll = -1;
    file->next = -1;
    file->first = -1;
    file->last = -1;
    file->path = -1;
    sim.lowest = index + 1;
    if (index >= sim.top) sim.top = index + 1;
    sim.open++;
    sim.progress++;
    return index + SIM_FIRST;
}

static void sim_queue_ready(int fd) {
    sim_file *file = sim_file_at(fd);
    sim_file *epoll = file ? sim_file_at(file->epoll) : NULL;
    if (!epoll || file->queued) return;
    file->queued = 1;
    file->next = -1;
    if (epoll->last < 0) epoll->first = fd;
    else sim_file_at(epoll->last)->next = fd;
    epoll->last = fd;
}

static int sim_take_ready(sim_file *epoll) {
    int fd = epoll->first;
    if (fd < 0) return -1;
    sim_file *file = sim_file_at(fd);
    epoll->first = file->next;
    if (epoll->first < 0) epoll->last = -1;
    file->queued = 0;
    return fd;
}

static void sim_unwatch(int fd) {
    sim_file *file = sim_file_at(fd);
    sim_file *epoll = sim_file_at(file->epoll);
    if (epoll && file->queued) {
        int before = -1;
        for (int at = epoll->first; at != fd; at = sim_file_at(at)->next) before = at;
        if (before < 0) epoll->first = file->next;
        else sim_file_at(before)->next = file->next;
        if (epoll->last == fd) epoll->last = before;
    }
    file->queued = 0;
    file->epoll = -1;
}

/* Something has happened to a descriptor. */
static void sim_wake(int fd, uint32_t events) {
    sim_file *file = sim_file_at(fd);
    sim.progress++;
    if (file && file->epoll >= 0 && events & (file->events | EPOLLERR | EPOLLHUP)) sim_queue_ready(fd);
}

static uint32_t sim_stream_mask(const peer *client) {
    uint32_t mask = 0;
    if (client->in.size || client->finished || client->broken) mask |= EPOLLIN;
    if (client->finished || client->broken) mask |= EPOLLRDHUP;
    if (client->end || client->broken || sim_pipe_space(&client->out) * 3 > client->out.limit) mask |= EPOLLOUT;
    if (client->broken) mask |= EPOLLHUP;
    if (client->error) mask |= EPOLLERR;
    if (client->finished && client->end) mask |= EPOLLHUP;
    return mask;
}

static uint32_t sim_mask(const sim_file *file) {
    switch (file->kind) {
    case SIM_STREAM: return sim_stream_mask(file->peer);
    case SIM_LISTENER: return file->waiting ? EPOLLIN : 0;
    case SIM_EVENTFD: return (file->count ? (uint32_t)EPOLLIN : 0) | EPOLLOUT;
    case SIM_TIMERFD: return file->count && sim.now >= file->count ? EPOLLIN : 0;
    case SIM_EPOLL: return file->first >= 0 ? EPOLLIN : 0;
    default: return EPOLLHUP;
    }
}

/* What a program that waits for this descriptor in a loop of its own would see. */
static inline int sim_readable(int fd) {
    sim_file *file = sim_file_at(fd);
    if (!file) return 0;
    if (file->kind != SIM_EPOLL) return (sim_mask(file) & EPOLLIN) != 0;
    for (int at = file->first; at >= 0; at = sim_file_at(at)->next)
        if (sim_mask(sim_file_at(at)) & (sim_file_at(at)->events | EPOLLERR | EPOLLHUP)) return 1;
    return 0;
}

static void sim_ring_timers(void) {
    for (int i = 0; sim.timers && i < sim.top; i++)
        if (sim.files[i].kind == SIM_TIMERFD && sim.files[i].count && sim.now >= sim.files[i].count)
            sim_queue_ready(i + SIM_FIRST);
}

static void sim_move_clock(uint64_t milliseconds) {
    sim.now += milliseconds * 1000;
    sim.progress++;
    sim_ring_timers();
}

/* ---- faults ---- */

/* Counts a call, and says which fault strikes it. fd: the descriptor it is about, or -1. */
static sim_fault *sim_strike(int call, int fd) {
    sim_fault *hit = NULL;
    sim.calls[call]++;
    for (int i = 0; i < sim.fault_count; i++) {
        sim_fault *fault = &sim.faults[i];
        if (fault->call != call || fault->first == 0) continue;
        fault->seen++;
        if (fault->seen < fault->first || (fault->count && fault->seen >= fault->first + fault->count)) continue;
        fault->struck++;
        hit = fault;
    }
    sim_file *file = sim_file_at(fd);
    if (hit && file && (file->kind == SIM_STREAM || file->kind == SIM_LISTENER) && file->peer) file->peer->struck = 1;
    return hit;
}

static int sim_failed(sim_fault *fault) {
    if (!fault || fault->kind != SIM_ERROR) return 0;
    errno = fault->value;
    return 1;
}

static inline sim_fault *sim_add_fault(int call, int kind, int value, long first, long count) {
    if (sim.fault_count == SIM_FAULTS) return NULL;
    sim_fault *fault = &sim.faults[sim.fault_count++];
    memset(fault, 0, sizeof *fault);
    fault->call = call;
    fault->kind = kind;
    fault->value = value;
    fault->first = first;
    fault->count = count;
    return fault;
}

/* A number that is none: the server has closed it, or never had it. */
static int sim_bad(const char *what) {
    sim_violation(what);
    errno = EBADF;
    return -1;
}

static int sim_is_busy(void) {
    if (!sim.again_percent || (int)sim_below(100) >= sim.again_percent) return 0;
    sim.progress++; /* it is the kernel that spins */
    errno = EAGAIN;
    return 1;
}

/* ---- system calls: making and ending descriptors ---- */

static inline int sim_socket(int family, int type, int protocol) {
    (void)protocol;
    SIM_TRUE((type & SOCK_CLOEXEC) && (type & SOCK_NONBLOCK), "a socket that is not close-on-exec and non-blocking");
    if (sim_failed(sim_strike(SIM_socket, -1))) return -1;
    if (family == AF_INET6 && sim.no_ipv6) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    int fd = sim_file_new(SIM_SOCKET);
    if (fd >= 0) sim_file_at(fd)->family = family;
    return fd;
}

static int sim_path_find(const char *name) {
    for (int i = 0; i < SIM_PATHS; i++)
        if (sim.paths[i].exists && strcmp(sim.paths[i].name, name) == 0) return i;
    return -1;
}

/* A socket file; fd -1: of a server that is dead. */
static inline int sim_path_add(const char *name, int fd) {
    for (int i = 0; i < SIM_PATHS; i++) {
        if (sim.paths[i].exists) continue;
        snprintf(sim.paths[i].name, sizeof sim.paths[i].name, "%s", name);
        sim.paths[i].exists = 1;
        sim.paths[i].fd = fd;
        return i;
    }
    return -1;
}

static inline int sim_paths_left(void) {
    int count = 0;
    for (int i = 0; i < SIM_PATHS; i++) count += sim.paths[i].exists;
    return count;
}

static int sim_port_taken(int port) {
    for (int i = 0; i < sim.top; i++)
        if (sim.files[i].kind != SIM_NONE && sim.files[i].kind != SIM_STREAM && sim.files[i].port == port) return 1;
    return 0;
}

static inline int sim_bind(int fd, const struct sockaddr *address, socklen_t size) {
    sim_file *file = sim_file_at(fd);
    if (!file) return sim_bad("bind of no descriptor");
    if (sim_failed(sim_strike(SIM_bind, fd))) return -1;
    if (address->sa_family == AF_UNIX) {
        const char *name = ((const struct sockaddr_un *)(const void *)address)->sun_path;
        if (sim_path_find(name) >= 0) {
            errno = EADDRINUSE;
            return -1;
        }
        file->path = sim_path_add(name, fd);
        return 0;
    }
    int port = address->sa_family == AF_INET ? ntohs(((const struct sockaddr_in *)(const void *)address)->sin_port)
                                             : ntohs(((const struct sockaddr_in6 *)(const void *)address)->sin6_port);
    if (size < sizeof(struct sockaddr_in) || (port && sim_port_taken(port))) {
        errno = port ? EADDRINUSE : EINVAL;
        return -1;
    }
    file->port = port ? port : sim.next_port++;
    return 0;
}

/* A socket file of this number, or -1: a lock. Its mode lacks what the umask took. */
static inline void sim_path_stat(int path, struct stat *info) {
    memset(info, 0, sizeof *info);
    info->st_mode = path < 0 ? S_IFREG | 0600 : S_IFSOCK | 0600;
    info->st_nlink = 1;
    info->st_dev = 1;
    info->st_ino = (ino_t)(path + 2);
}

/* By the descriptor of a path, and of no other. */
static inline int sim_chmod(const char *name, mode_t mode) {
    int fd = -1;
    SIM_TRUE((mode & ~(mode_t)0777) == 0, "a mode with other bits than permissions");
    SIM_TRUE(sscanf(name, "/proc/self/fd/%d", &fd) == 1 && sim_file_at(fd) && sim_file_at(fd)->kind == SIM_PLAIN,
             "the mode of a name that may be somebody else's");
    return sim_failed(sim_strike(SIM_chmod, -1)) ? -1 : 0;
}

static inline int sim_fchmod(int fd, mode_t mode) {
    (void)mode;
    sim_file *file = sim_file_at(fd);
    if (!file) return sim_bad("fchmod of no descriptor");
    SIM_TRUE(file->path < 0, "a mode for a socket that has a name already");
    return sim_failed(sim_strike(SIM_fchmod, fd)) ? -1 : 0;
}

/* Locks, which are there always and nobody else has, and the paths of sockets. */
static inline int sim_open(const char *name, int flags, mode_t mode) {
    int path = sim_path_find(name);
    (void)mode;
    SIM_TRUE((flags & O_CLOEXEC) && (flags & O_NOFOLLOW), "a file opened without close-on-exec, or through a link");
    if (sim_failed(sim_strike(SIM_open, -1))) return -1;
    if (path < 0 && !(flags & O_CREAT)) {
        errno = ENOENT;
        return -1;
    }
    int fd = sim_file_new(SIM_PLAIN);
    if (fd >= 0) sim_file_at(fd)->backlog = path;
    return fd;
}

static inline int sim_flock(int fd, int how) {
    (void)how;
    if (!sim_file_at(fd) || sim_file_at(fd)->kind != SIM_PLAIN) return sim_bad("flock of no file");
    return sim_failed(sim_strike(SIM_flock, fd)) ? -1 : 0;
}

static inline int sim_fstat(int fd, struct stat *info) {
    if (!sim_file_at(fd) || sim_file_at(fd)->kind != SIM_PLAIN) return sim_bad("fstat of no file");
    if (sim_failed(sim_strike(SIM_fstat, fd))) return -1;
    sim_path_stat(sim_file_at(fd)->backlog, info);
    return 0;
}

static inline int sim_lstat(const char *name, struct stat *info) {
    int path = sim_path_find(name);
    if (sim_failed(sim_strike(SIM_lstat, -1))) return -1;
    sim_path_stat(path, info);
    if (path >= 0) return 0;
    errno = ENOENT;
    return -1;
}

static inline int sim_unlink(const char *name) {
    int path = sim_path_find(name);
    if (sim_failed(sim_strike(SIM_unlink, -1))) return -1;
    if (path >= 0) sim.paths[path].exists = 0;
    errno = ENOENT;
    return path >= 0 ? 0 : -1;
}

static inline int sim_listen(int fd, int backlog) {
    sim_file *file = sim_file_at(fd);
    if (!file || file->kind != SIM_SOCKET) return sim_bad("listen on no socket");
    if (sim_failed(sim_strike(SIM_listen, fd))) return -1;
    file->kind = SIM_LISTENER;
    file->backlog = backlog;
    return 0;
}

/* Used by the server only to see whether a socket file is alive. */
static inline int sim_connect(int fd, const struct sockaddr *address, socklen_t size) {
    (void)size;
    if (!sim_file_at(fd)) return sim_bad("connect of no descriptor");
    if (sim_failed(sim_strike(SIM_connect, fd))) return -1;
    int path = sim_path_find(((const struct sockaddr_un *)(const void *)address)->sun_path);
    errno = path < 0 ? ENOENT : ECONNREFUSED;
    return path >= 0 && sim.paths[path].fd >= 0 ? 0 : -1;
}

static inline int sim_epoll_create1(int flags) {
    SIM_TRUE(flags & EPOLL_CLOEXEC, "an epoll set that is not close-on-exec");
    return sim_failed(sim_strike(SIM_epoll_create1, -1)) ? -1 : sim_file_new(SIM_EPOLL);
}

static inline int sim_eventfd(unsigned count, int flags) {
    SIM_TRUE((flags & EFD_CLOEXEC) && (flags & EFD_NONBLOCK), "an eventfd that is not close-on-exec and non-blocking");
    if (sim_failed(sim_strike(SIM_eventfd, -1))) return -1;
    int fd = sim_file_new(SIM_EVENTFD);
    if (fd >= 0) sim_file_at(fd)->count = count;
    return fd;
}

static inline int sim_timerfd_create(int clock, int flags) {
    SIM_TRUE(clock == CLOCK_MONOTONIC && (flags & TFD_CLOEXEC) && (flags & TFD_NONBLOCK), "a timerfd with other flags");
    if (sim_failed(sim_strike(SIM_timerfd_create, -1))) return -1;
    int fd = sim_file_new(SIM_TIMERFD);
    if (fd >= 0) sim.timers++;
    return fd;
}

static void sim_close_stream(sim_file *file) {
    peer *client = file->peer;
    int unread = client->in.size != 0; /* closing with unread input destroys what is on its way out */
    client->fd = -1;
    client->server_gone = 1;
    if (file->resets || unread || client->broken) {
        client->reset = 1;
        sim_pipe_clear(&client->out);
    }
    client->end = 1;
    sim_pipe_clear(&client->in);
    sim_peer_release(client);
}

static void sim_close_listener(sim_file *file) {
    peer *client = file->peer;
    while (client) {
        peer *next = client->next;
        client->listener = -1;
        client->server_gone = 1;
        client->reset = 1;
        client->end = 1;
        sim_peer_release(client);
        client = next;
    }
    for (int i = 0; i < SIM_PATHS; i++)
        if (file->path == i) sim.paths[i].fd = -1;
}

/* The descriptor is gone even where this fails. */
static inline int sim_close(int fd) {
    sim_file *file = sim_file_at(fd);
    if (!file) return sim_bad("close of a descriptor that is not open");
    sim_fault *fault = sim_strike(SIM_close, fd);
    SIM_TRUE(file->epoll < 0 || file->unwatching || file->kind == SIM_EVENTFD || file->kind == SIM_TIMERFD,
             "closed while epoll still watches it");
    if (file->epoll >= 0) sim_unwatch(fd);
    if (file->kind == SIM_STREAM) sim_close_stream(file);
    if (file->kind == SIM_LISTENER || file->kind == SIM_SOCKET) sim_close_listener(file);
    if (file->kind == SIM_TIMERFD) sim.timers--;
    if (file->kind == SIM_EPOLL)
        for (int i = 0; i < sim.top; i++)
            if (sim.files[i].kind != SIM_NONE && sim.files[i].epoll == fd) sim.files[i].epoll = -1, sim.files[i].queued = 0;
    file->kind = SIM_NONE;
    sim.open--;
    sim.progress++;
    if (fd - SIM_FIRST < sim.lowest) sim.lowest = fd - SIM_FIRST;
    return sim_failed(fault) ? -1 : 0;
}

/* ---- system calls: sockets ---- */

/* The address at the other end. */
static void sim_far(const sim_file *file, struct sockaddr *address, socklen_t *size) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } far;
    memset(&far, 0, sizeof far);
    far.any.sa_family = AF_UNIX;
    if (file->family != AF_UNIX && inet_pton(AF_INET, file->peer->address, &far.v4.sin_addr) == 1) {
        far.any.sa_family = AF_INET;
        far.v4.sin_port = htons((uint16_t)file->peer->port);
    } else if (file->family != AF_UNIX && inet_pton(AF_INET6, file->peer->address, &far.v6.sin6_addr) == 1) {
        far.any.sa_family = AF_INET6;
        far.v6.sin6_port = htons((uint16_t)file->peer->port);
    }
    memcpy(address, &far, *size < sizeof far ? *size : sizeof far);
}

static inline int sim_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    sim_file *file = sim_file_at(fd);
    SIM_TRUE((flags & SOCK_CLOEXEC) && (flags & SOCK_NONBLOCK), "accepted without close-on-exec and non-blocking");
    if (!file || file->kind != SIM_LISTENER) return sim_bad("accept on no listener");
    peer *client = file->peer;
    sim_fault *fault = sim_strike(SIM_accept4, fd);
    int dropped = sim_failed(fault) && errno == ECONNABORTED && client; /* this one is gone */
    if (sim_failed(fault) && !dropped) return -1;
    if (!dropped && sim_is_busy()) return -1;
    if (!client) {
        errno = EAGAIN;
        return -1;
    }
    int made = dropped ? -1 : sim_file_new(SIM_STREAM);
    if (!dropped && made < 0) return -1;
    file->peer = client->next;
    if (!file->peer) file->last_peer = NULL;
    file->waiting--;
    client->listener = -1;
    client->next = NULL;
    if (dropped) {
        client->reset = 1;
        client->end = 1;
        client->server_gone = 1;
        sim_peer_release(client);
        errno = ECONNABORTED;
        return -1;
    }
    client->fd = made;
    sim_file_at(made)->peer = client;
    sim_file_at(made)->family = file->family;
    sim_far(sim_file_at(made), address, size);
    return made;
}

static sim_file *sim_stream(int fd) {
    sim_file *file = sim_file_at(fd);
    return file && file->kind == SIM_STREAM ? file : NULL;
}

static inline ssize_t sim_recv(int fd, void *data, size_t size, int flags) {
    sim_file *file = sim_stream(fd);
    if (!file) return sim_bad("recv on no connection");
    peer *client = file->peer;
    sim_fault *fault = sim_strike(SIM_recv, fd);
    size_t most = size;
    if (sim_failed(fault) || sim_is_busy()) {
        sim_queue_ready(fd); /* what was there is still there: the kernel would tell */
        return -1;
    }
    if (sim.recv_most && most > sim.recv_most) most = sim.recv_most;
    if (fault && fault->kind == SIM_SHORT && most > (size_t)fault->value) most = (size_t)fault->value;
    if (client->in.size) {
        if (most > client->in.size) most = client->in.size;
        memcpy(data, client->in.data + client->in.head, most);
        if (flags & MSG_PEEK) return (ssize_t)most;
        sim_pipe_skip(&client->in, most);
        sim.progress++;
        if (client->in.size && most < size) sim_queue_ready(fd);
        return (ssize_t)most;
    }
    if (client->error) {
        errno = client->error;
        client->error = 0;
        return -1;
    }
    if (client->finished || client->broken) return 0;
    errno = EAGAIN;
    return -1;
}

/* Nobody else runs here. */
static inline int sim_sched_yield(void) {
    return 0;
}

/* What the server sends, in one piece or in several. */
static ssize_t sim_transmit(int fd, const struct iovec *parts, size_t count, int flags, int call) {
    sim_file *file = sim_stream(fd);
    SIM_TRUE(flags & MSG_NOSIGNAL, "sent without MSG_NOSIGNAL");
    if (!file) return sim_bad("send on no connection");
    peer *client = file->peer;
    sim_fault *fault = sim_strike(call, fd);
    if (sim_failed(fault) || sim_is_busy()) {
        if (errno == EAGAIN) sim_queue_ready(fd);
        return -1;
    }
    if (client->end || client->broken) {
        errno = client->error ? client->error : EPIPE;
        client->error = 0;
        return -1;
    }
    size_t wanted = 0;
    for (size_t i = 0; i < count; i++) wanted += parts[i].iov_len;
    if (client->closed) {
        client->broken = 1;
        client->error = EPIPE;
        sim_wake(fd, EPOLLIN | EPOLLERR | EPOLLHUP);
        return (ssize_t)wanted;
    }
    size_t space = sim_pipe_space(&client->out);
    size_t most = space < wanted ? space : wanted;
    if (sim.send_most && most > sim.send_most) most = sim.send_most;
    if (fault && fault->kind == SIM_SHORT && most > (size_t)fault->value) most = (size_t)fault->value;
    if (most < wanted) client->nospace = 1;
    if (wanted && !space) {
        errno = EAGAIN;
        return -1;
    }
    size_t left = most;
    for (size_t i = 0; i < count && left; i++) {
        size_t step = parts[i].iov_len < left ? parts[i].iov_len : left;
        sim_pipe_put(&client->out, parts[i].iov_base, step);
        left -= step;
    }
    file->more = flags & MSG_MORE && most == wanted;
    if (most < wanted && most < space) sim_queue_ready(fd); /* there is more space, and the kernel will say so */
    sim.progress++;
    return (ssize_t)most;
}

static inline ssize_t sim_send(int fd, const void *data, size_t size, int flags) {
    struct iovec part;
    part.iov_base = (void *)(uintptr_t)data;
    part.iov_len = size;
    return sim_transmit(fd, &part, 1, flags, SIM_send);
}

static inline ssize_t sim_sendmsg(int fd, const struct msghdr *message, int flags) {
    return sim_transmit(fd, message->msg_iov, (size_t)message->msg_iovlen, flags, SIM_sendmsg);
}

static inline int sim_shutdown(int fd, int how) {
    sim_file *file = sim_stream(fd);
    if (!file || how != SHUT_WR) return sim_bad("shutdown of no connection");
    if (sim_failed(sim_strike(SIM_shutdown, fd))) return -1;
    if (file->peer->broken) {
        errno = ENOTCONN;
        return -1;
    }
    file->peer->end = 1;
    file->more = 0;
    sim_wake(fd, EPOLLOUT | (file->peer->finished ? (uint32_t)EPOLLHUP : 0));
    return 0;
}

static inline int sim_setsockopt(int fd, int level, int name, const void *value, socklen_t size) {
    sim_file *file = sim_file_at(fd);
    if (!file) return sim_bad("setsockopt of no descriptor");
    if (sim_failed(sim_strike(SIM_setsockopt, fd))) return -1;
    if (level == SOL_SOCKET && name == SO_LINGER && size == sizeof(struct linger))
        file->resets = ((const struct linger *)value)->l_onoff && !((const struct linger *)value)->l_linger;
    return 0;
}

static inline int sim_getsockopt(int fd, int level, int name, void *value, socklen_t *size) {
    sim_file *file = sim_file_at(fd);
    int number = 0;
    if (sim_failed(sim_strike(SIM_getsockopt, fd))) return -1;
    if (!file) { /* an application may name any descriptor as a listener */
        errno = EBADF;
        return -1;
    }
    if (level == SOL_SOCKET && name == SO_PEERCRED) {
        int credentials[3] = {77, 88, 99};
        if (file->family != AF_UNIX) memset(credentials, 0xff, sizeof credentials);
        memcpy(value, credentials, *size < sizeof credentials ? *size : sizeof credentials);
        return 0;
    }
    if (level == SOL_SOCKET && name == SO_ACCEPTCONN) number = file->kind == SIM_LISTENER;
    if (level == SOL_SOCKET && name == SO_DOMAIN) number = file->family;
    memcpy(value, &number, *size < sizeof number ? *size : sizeof number);
    return 0;
}

/* What the client has not read, it has not acknowledged. */
static inline int sim_ioctl(int fd, TEST_REQUEST request, void *data) {
    sim_file *file = sim_stream(fd);
    if (!file || request != TIOCOUTQ) return sim_bad("ioctl of no connection");
    if (sim_failed(sim_strike(SIM_ioctl, fd))) return -1;
    int unacked = (int)file->peer->out.size;
    memcpy(data, &unacked, sizeof unacked);
    return 0;
}

static inline int sim_fcntl(int fd, int command, int value) {
    (void)value;
    if (!sim_file_at(fd)) {
        errno = EBADF;
        return -1;
    }
    if (sim_failed(sim_strike(SIM_fcntl, fd))) return -1;
    return command == F_GETFL ? O_RDWR : 0;
}

static inline int sim_getsockname(int fd, struct sockaddr *address, socklen_t *size) {
    sim_file *file = sim_file_at(fd);
    if (!file) return sim_bad("getsockname of no descriptor");
    if (sim_failed(sim_strike(SIM_getsockname, fd))) return -1;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } own;
    memset(&own, 0, sizeof own);
    own.any.sa_family = (sa_family_t)file->family;
    if (file->family == AF_INET) own.v4.sin_port = htons((uint16_t)file->port);
    if (file->family == AF_INET6) own.v6.sin6_port = htons((uint16_t)file->port);
    memcpy(address, &own, *size < sizeof own ? *size : sizeof own);
    return 0;
}

static inline int sim_getpeername(int fd, struct sockaddr *address, socklen_t *size) {
    sim_file *file = sim_stream(fd);
    if (!file) return sim_bad("getpeername of no connection");
    if (sim_failed(sim_strike(SIM_getpeername, fd))) return -1;
    sim_far(file, address, size);
    return 0;
}

/* ---- system calls: waiting ---- */

static inline int sim_epoll_ctl(int epoll, int what, int fd, struct epoll_event *event) {
    sim_file *set = sim_file_at(epoll);
    sim_file *file = sim_file_at(fd);
    if (!set || set->kind != SIM_EPOLL || !file) return sim_bad("epoll_ctl of no descriptor");
    if (what == EPOLL_CTL_DEL) file->unwatching = 1; /* needs no memory: never fails on what is watched */
    else if (sim_failed(sim_strike(SIM_epoll_ctl, fd))) return -1;
    if (what == EPOLL_CTL_ADD && file->epoll >= 0) {
        sim_violation("a descriptor added to epoll twice");
        errno = EEXIST;
        return -1;
    }
    if (what != EPOLL_CTL_ADD && file->epoll != epoll) {
        errno = ENOENT;
        return -1;
    }
    sim.progress++;
    if (what == EPOLL_CTL_DEL) {
        sim_unwatch(fd);
        return 0;
    }
    file->epoll = epoll;
    file->events = event->events;
    file->tag = event->data.u64;
    file->unwatching = 0;
    if (sim_mask(file) & (file->events | EPOLLERR | EPOLLHUP)) sim_queue_ready(fd);
    return 0;
}

/* Level-triggered ones go to the end of the list, so that all get their turn. */
static int sim_collect(int epoll, struct epoll_event *events, int most) {
    sim_file *set = sim_file_at(epoll);
    int count = 0;
    int last = set->last;
    while (count < most && set->first >= 0) {
        int fd = sim_take_ready(set);
        sim_file *file = sim_file_at(fd);
        uint32_t mask = sim_mask(file) & (file->events | EPOLLERR | EPOLLHUP);
        if (mask) {
            events[count].events = mask;
            events[count++].data.u64 = file->tag;
            if (!(file->events & (uint32_t)EPOLLET)) sim_queue_ready(fd);
        }
        if (fd == last) break;
    }
    return count;
}

static int sim_collect_spurious(int epoll, struct epoll_event *events, int most) {
    int count = 0;
    for (int i = 0; i < sim.top && count < most; i++) {
        if (sim.files[i].kind == SIM_NONE || sim.files[i].epoll != epoll) continue;
        events[count].events = (EPOLLIN | EPOLLOUT) & sim.files[i].events;
        events[count++].data.u64 = sim.files[i].tag;
    }
    return count;
}

/* Ends a wait that would never end: the violation is reported once, the server is told that the call failed, and time goes
   on so that a deadline may save the run. */
static int sim_hang(const char *text) {
    if (sim.idle_turns <= SIM_SPIN + 1) sim_violation(text);
    if (sim.idle_turns > SIM_SPIN * 100) abort();
    sim.now += 1000;
    errno = EBADF;
    return -1;
}

static inline int sim_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout) {
    sim_file *set = sim_file_at(epoll);
    if (!set || set->kind != SIM_EPOLL) return sim_bad("epoll_wait on no epoll set");
    sim_fault *fault = sim_strike(SIM_epoll_wait, -1);
    if (sim_failed(fault)) {
        if (timeout > 0) sim_move_clock((uint64_t)timeout);
        return -1;
    }
    if (fault && fault->kind == SIM_EMPTY) return 0;
    if (fault && fault->kind == SIM_SPURIOUS) return sim_collect_spurious(epoll, events, most);
    sim.idle_turns = sim.progress == sim.last_progress ? sim.idle_turns + 1 : 0;
    if (sim.idle_turns > SIM_SPIN) return sim_hang("the server spins: its turns make no progress");
    if (sim.event_most && most > sim.event_most) most = sim.event_most;
    int count = sim_collect(epoll, events, most);
    while (!count && timeout && sim.idle && sim.idle()) count = sim_collect(epoll, events, most);
    if (!count && timeout < 0) return sim_hang("the server waits for ever");
    if (!count && timeout > 0) {
        sim_move_clock((uint64_t)timeout);
        count = sim_collect(epoll, events, most);
    }
    sim.last_progress = sim.progress;
    return count;
}

static inline int sim_poll(struct pollfd *list, nfds_t count, int timeout) {
    sim_file *file = count == 1 ? sim_file_at(list[0].fd) : NULL;
    if (!file) return sim_bad("poll of no descriptor");
    sim_fault *fault = sim_strike(SIM_poll, -1);
    if (sim_failed(fault)) return -1;
    if (fault && fault->kind == SIM_EMPTY) return 0;
    while (!(sim_mask(file) & EPOLLIN) && timeout && sim.idle && sim.idle()) {
    }
    list[0].revents = sim_mask(file) & EPOLLIN ? POLLIN : 0;
    if (list[0].revents) return 1;
    if (timeout < 0) return sim_hang("a queue waits for ever");
    if (timeout > 0) sim_move_clock((uint64_t)timeout);
    return 0;
}

static inline ssize_t sim_write(int fd, const void *data, size_t size) {
    sim_file *file = sim_file_at(fd);
    uint64_t value = 0;
    if (!file || file->kind != SIM_EVENTFD || size != sizeof value) return sim_bad("write to no eventfd");
    if (sim_failed(sim_strike(SIM_write, fd))) {
        if (errno == EAGAIN) { /* the counter is full: whoever waits has been told, or will be */
            if (!file->count) file->count = 1;
            sim_queue_ready(fd);
        }
        return -1;
    }
    memcpy(&value, data, sizeof value);
    file->count += value;
    sim_wake(fd, EPOLLIN);
    return (ssize_t)size;
}

static inline ssize_t sim_read(int fd, void *data, size_t size) {
    sim_file *file = sim_file_at(fd);
    if (!file || file->kind != SIM_EVENTFD || size != sizeof file->count) return sim_bad("read of no eventfd");
    if (sim_failed(sim_strike(SIM_read, fd))) return -1;
    if (!file->count) {
        errno = EAGAIN;
        return -1;
    }
    memcpy(data, &file->count, sizeof file->count);
    file->count = 0;
    sim.progress++;
    return (ssize_t)size;
}

static inline int sim_timerfd_settime(int fd, int flags, const struct itimerspec *when, struct itimerspec *old) {
    sim_file *file = sim_file_at(fd);
    (void)flags;
    (void)old;
    if (!file || file->kind != SIM_TIMERFD) return sim_bad("timerfd_settime of no timer");
    if (sim_failed(sim_strike(SIM_timerfd_settime, fd))) return -1;
    uint64_t left = (uint64_t)when->it_value.tv_sec * 1000000 + ((uint64_t)when->it_value.tv_nsec + 999) / 1000;
    file->count = left ? sim.now + left : 0;
    return 0;
}

static inline int sim_clock_gettime(clockid_t id, struct timespec *now) {
    SIM_TRUE(id == CLOCK_MONOTONIC, "a clock that can be set");
    sim.calls[SIM_clock_gettime]++;
    sim.now += sim.tick;
    now->tv_sec = (time_t)(sim.now / 1000000);
    now->tv_nsec = (long)(sim.now % 1000000) * 1000;
    return 0;
}

static inline ssize_t sim_getrandom(void *data, size_t size, unsigned flags) {
    (void)flags;
    uint64_t value = sim_random();
    if (sim_failed(sim_strike(SIM_getrandom, -1))) return -1;
    memcpy(data, &value, size < sizeof value ? size : sizeof value);
    return (ssize_t)size;
}

static inline int sim_getrlimit(int what, struct rlimit *limit) {
    (void)what;
    if (sim_failed(sim_strike(SIM_getrlimit, -1))) return -1;
    limit->rlim_cur = (rlim_t)sim.max_open;
    limit->rlim_max = (rlim_t)sim.max_open;
    return 0;
}

/* There is one thread. */
static inline int sim_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *arg) {
    (void)thread;
    (void)attributes;
    (void)function;
    (void)arg;
    sim.calls[SIM_pthread_create]++;
    return EAGAIN;
}

/* ---- mutexes and memory ---- */

static inline int sim_mutex_lock(pthread_mutex_t *mutex) {
    SIM_TRUE(pthread_mutex_trylock(mutex) == 0, "a mutex locked twice");
    sim.locks++;
    return 0;
}

static inline int sim_mutex_unlock(pthread_mutex_t *mutex) {
    SIM_TRUE(sim.locks > 0, "a mutex unlocked twice");
    sim.locks--;
    return pthread_mutex_unlock(mutex);
}

/* Large blocks are kept for the next server: fresh pages cost more than all else. */
enum { SIM_KEPT = 6, SIM_KEPT_MIN = 131072 };
static struct {
    void *block;
    size_t size;
} sim_kept[SIM_KEPT];

static void *sim_get_block(size_t size) {
    for (int i = 0; i < SIM_KEPT && size >= SIM_KEPT_MIN; i++) {
        if (!sim_kept[i].block || sim_kept[i].size != size) continue;
        void *block = sim_kept[i].block;
        sim_kept[i].block = NULL;
        UNPOISON(block, size);
        return block;
    }
    return malloc(size);
}

static void sim_free_block(void *block, size_t size) {
    for (int i = 0; i < SIM_KEPT && size >= SIM_KEPT_MIN; i++) {
        if (sim_kept[i].block) continue;
        sim_kept[i].block = block;
        sim_kept[i].size = size;
        POISON(block, size);
        return;
    }
    free(block);
}

static int sim_refuse(size_t size) {
    if (size <= sim.fail_above) return 0;
    sim.grown++;
    if (!sim.fail_at || (sim.fail_on ? sim.grown < sim.fail_at : sim.grown != sim.fail_at)) return 0;
    sim.failed++;
    return 1;
}

static size_t sim_charge(size_t size) {
    return size ? (size + 31) & ~(size_t)15 : 0;
}

/* context: the account. Every block moves when it is resized, so that an old pointer to it is noticed. */
static inline void *sim_allocator(void *context, void *pointer, size_t old_size, size_t new_size) {
    sim_account *account = context ? (sim_account *)context : &sim.account;
    size_t before = pointer ? old_size : 0;
#if defined(POISON_WORKS)
    if (pointer && old_size < SIM_KEPT_MIN)
        SIM_TRUE(malloc_usable_size(pointer) == old_size, "memory given back with another size than it has");
#endif
    if (new_size > before && sim_refuse(new_size)) return NULL;
    void *block = NULL;
    if (new_size) {
        block = sim_get_block(new_size);
        if (!block) abort();
        if (pointer) memcpy(block, pointer, before < new_size ? before : new_size);
    }
    if (pointer) sim_free_block(pointer, old_size);
    account->blocks = account->blocks + (new_size != 0) - (pointer != NULL);
    account->bytes = account->bytes + new_size - before;
    account->charged = account->charged + sim_charge(new_size) - sim_charge(before);
    return block;
}

/* ---- the library ---- */

/* Its parameters may be named like our type of clients. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include "../library.h"
#pragma GCC diagnostic pop

#define SIM_REPLACE(name) REPLACE(name, sim_##name)
SIM_CALLS(SIM_REPLACE)
REPLACE(lock, sim_mutex_lock)
REPLACE(unlock, sim_mutex_unlock)

static inline void sim_options(wss_options *options) {
    memset(options, 0, sizeof *options);
    options->address = "127.0.0.1";
    options->allocator = sim_allocator;
    options->allocator_context = &sim.account;
}

/* For wss_queue_create. */
static inline void sim_queue_options(wss_options *options) {
    sim_options(options);
    options->allocator_context = &sim.queue_account;
}

/* An empty kernel. What an earlier run left is forgotten, so ask sim_finish first. */
static inline void sim_begin(uint64_t seed) {
    int made = sim.peers_made;
    memset(&sim, 0, sizeof sim);
    sim.random = seed * 0x9e3779b97f4a7c15u + 0x1234567;
    if (!sim.random) sim.random = 1;
    for (int i = 0; i < 8; i++) sim_random();
    sim.now = 1000000000;
    sim.max_open = SIM_FILES;
    sim.out_limit = 65536;
    sim.next_port = 40000;
    sim.peers_made = made;
    for (int i = made; i-- > 0;) {
        sim_pipe_clear(&sim_peers[i].in);
        sim_pipe_clear(&sim_peers[i].out);
        sim_pipe_clear(&sim_peers[i].got);
        sim_peers[i].next = sim.free_peers;
        sim.free_peers = &sim_peers[i];
    }
}

/* After all servers and queues are destroyed. */
static inline void sim_finish(void) {
    SIM_TRUE(sim.account.bytes == 0 && sim.account.blocks == 0 && sim.account.charged == 0, "memory is left");
    SIM_TRUE(sim.queue_account.bytes == 0 && sim.queue_account.blocks == 0, "memory of a queue is left");
    SIM_TRUE(sim.open == 0, "descriptors are left");
    SIM_TRUE(sim.locks == 0, "a mutex is left locked");
}

/* ---- invariants ---- */

/* What the queue of a connection costs. */
static size_t sim_queue_charge(wss__conn *conn) {
    wss__buf_queue *queue = conn->session.queue;
    size_t charge = 0;
    for (uint32_t i = 0; queue && i < queue->count; i++) charge += wss__buf_charge(*wss__buf_at(queue, i));
    return charge;
}

/* What it holds by itself, whatever the limits say of it. */
static size_t sim_queue_own(wss__conn *conn) {
    wss__buf_queue *queue = conn->session.queue;
    size_t own = 0;
    for (uint32_t i = 0; queue && i < queue->count; i++) {
        const wss__buf_frame *frame = *wss__buf_at(queue, i);
        if (!frame->shared) own += wss__mem_charge(wss__buf_frame_bytes(frame));
    }
    return own;
}

/* And what is on its way there. */
static size_t sim_coming(const wss__loop *loop, uint64_t id) {
    size_t coming = 0;
    for (const wss__queue_job *job = loop->inbox.waiting.first; job; job = job->next[WSS__QUEUE_ALL]) {
        if (job->kind != WSS__ORDER_SEND) continue;
        const wss__conn_order *order = (const wss__conn_order *)(const void *)job;
        if (order->conn.id == id) coming += wss__buf_charge(order->frame);
    }
    return coming;
}

/* One live connection, between two turns. */
static void sim_check_conn(wss_server *server, wss__conn *conn) {
    wss__loop *loop = wss__conn_loop_of(server, conn);
    int stage = wss__conn_stage(conn);
    int owned = (wss__slot_word(&conn->slot) & WSS__SLOT_STATE) == WSS__SLOT_OWNED;
    const uint32_t mask = EPOLLIN | EPOLLOUT | EPOLLRDHUP | (uint32_t)EPOLLET;
    SIM_TRUE(owned == (conn->fd >= 0), "a place whose state and socket differ");
    if (conn->fd < 0) { /* its disconnect waits for the queue's thread */
        SIM_TRUE(wss__conn_delivery_of(conn) && stage >= WSS__STAGE_CLOSING, "a live connection without a socket");
        return;
    }
    sim_file *file = sim_stream(conn->fd);
    SIM_TRUE(file != NULL, "a live connection with a closed socket");
    if (!file) return;
    SIM_TRUE(file->epoll == loop->epoll && file->tag == wss__slot_id(&conn->slot) && file->events == mask, "epoll mask or tag");
    SIM_TRUE(wss__session_queued(&conn->session) == sim_queue_charge(conn), "what is queued and its account differ");
    SIM_TRUE(!conn->session.queue || conn->session.queue->own == sim_queue_own(conn), "what it holds alone and its account differ");
    SIM_TRUE(wss__session_coming(&conn->session) == sim_coming(loop, wss__slot_id(&conn->slot)),
             "what is on its way and its account differ");
    SIM_TRUE(!conn->session.queue || conn->session.queue->count, "an empty queue that takes memory");
    /* What waits is known to epoll (the kernel is full), to the ready list, or to a timer. */
    SIM_TRUE(!conn->session.queue || conn->work & (WSS__WORK_READY | WSS__WORK_STARVED) || !(conn->work & WSS__WORK_WRITABLE),
             "data that waits for nothing");
    SIM_TRUE(!(conn->work & WSS__WORK_STARVED) || conn->work & WSS__WORK_READY || wss__timer_pending(&conn->timer), "a starved connection without a timer");
    SIM_TRUE(stage != WSS__STAGE_OPEN || wss__conn_state(conn) == WSS__STATE_OPEN, "open for others, and not for its loop");
    SIM_TRUE(!wss__session_is_receiver(&conn->session) || !wss__session_missing(&loop->shared, &conn->session), "a broadcast that was not given");
    SIM_TRUE(wss__conn_state(conn) != WSS__STATE_DEAD || conn->work & WSS__WORK_READY, "dead and not to be freed");
    SIM_TRUE(!file->more || wss__conn_state(conn) == WSS__STATE_DEAD, "bytes that wait for an end of the stream which does not come");
}

static int sim_watched(int epoll, uint64_t tag) {
    for (int i = 0; i < sim.top; i++)
        if (sim.files[i].kind != SIM_NONE && sim.files[i].epoll == epoll && sim.files[i].tag == tag) return 1;
    return 0;
}

typedef struct sim_totals {
    size_t live;
    size_t open;
    size_t sockets;
} sim_totals;

static void sim_check_places(wss_server *server, uint32_t first, uint32_t end, sim_totals *totals) {
    for (uint32_t i = first; i < end; i++) {
        wss__conn *conn = wss__conn_at(server, i);
        uint64_t details = wss__slot_word(&conn->slot) & WSS__SLOT_LIMIT;
        if (!(details & WSS__SLOT_STATE)) {
            SIM_TRUE(details == 0, "a free place with details");
            continue;
        }
        totals->live++;
        if ((details & WSS__SLOT_STATE) == WSS__SLOT_OPENING) continue; /* its order waits */
        sim_check_conn(server, conn);
        totals->open += wss__conn_state(conn) == WSS__STATE_OPEN;
        totals->sockets += conn->fd >= 0;
        if (i >= sim.taken) sim.taken = i + 1;
    }
}

/* How many connections the lists of a loop hold: each where its state belongs. */
static size_t sim_check_lists(wss__loop *loop) {
    size_t count = 0;
    for (int list = 0; list < WSS__LIST_COUNT; list++) {
        uint32_t before = WSS__SLOT_NONE;
        wss__conn *conn;
        for (uint32_t at = loop->lists[list].first; (conn = wss__conn_walk(loop, &at)) != NULL; count++) {
            SIM_TRUE(conn->before == before, "a list that is torn");
            SIM_TRUE(wss__conn_list_of(loop, conn) == &loop->lists[list], "a connection in a list where it does not belong");
            before = conn->slot.index;
        }
        SIM_TRUE(loop->lists[list].last == before, "a list that ends elsewhere");
    }
    return count;
}

/* Invariants I2, I3, I4 and I8 of one server, between two turns. Most places are never taken: those are looked at where the
   others do not make up the count, and from time to time. */
static inline void sim_check(wss_server *server) {
    size_t streams = 0, held = 0;
    sim_totals now = {0, 0, 0};
    uint32_t made = server->conns.made;
    uint32_t taken = sim.taken < made ? sim.taken : made;
    SIM_TRUE(sim.locks == 0, "a mutex is held between two turns");
    sim_check_places(server, 0, taken, &now);
    if (now.live != server->conns.live || sim.checks++ % 64 == 0) sim_check_places(server, taken, made, &now);
    for (int i = 0; i < server->loop_count; i++) held += sim_check_lists(&server->loops[i]);
    for (int i = 0; i < sim.top; i++) {
        if (sim.files[i].kind != SIM_STREAM) continue;
        for (int loop = 0; loop < server->loop_count; loop++) streams += sim.files[i].epoll == server->loops[loop].epoll;
    }
    SIM_TRUE(now.open == wss_count(server), "wss_count and the open connections differ");
    SIM_TRUE(now.live == server->conns.live, "live places and their count differ");
    SIM_TRUE(now.sockets == held && streams == held, "sockets, epoll and the loops' counts differ");
    SIM_TRUE(server->mem.context != &sim.account || server->mem.used == sim.account.charged,
             "memory used and its account differ");
    SIM_TRUE(server->mem.used <= server->mem.budget, "more memory than the budget");
    wss__loop *loop = &server->loops[0];
    int listening = 0;
    for (int i = 0; i < server->listeners.count; i++)
        listening += server->listeners.list[i].fd >= 0 && sim_watched(loop->epoll, (uint64_t)(WSS__ACCEPT_TAG + i));
    SIM_TRUE(loop->accepting || !listening, "a listener is watched while nobody accepts");
}

/* ---- turns ---- */

/* One turn of all loops. With several, this thread plays them all. WSS_OK, or what wss_poll returns. */
static inline int sim_turn(wss_server *server, int milliseconds) {
    if (server->loop_count == 1) return wss_poll(server, milliseconds);
    int finished = 1;
    if (__atomic_load_n(&server->ended, __ATOMIC_ACQUIRE)) return WSS_ERR_STOPPED;
    if (!__atomic_exchange_n(&server->running, 1, __ATOMIC_ACQ_REL)) wss__server_begin(server);
    for (int i = 0; i < server->loop_count; i++) {
        int waits = finished ? milliseconds : 0; /* the first that still runs */
        if (!server->loops[i].finished) wss__loop_turn(&server->loops[i], waits);
        finished &= server->loops[i].finished;
    }
    if (finished) wss__server_end(server);
    return finished ? WSS_ERR_STOPPED : WSS_OK;
}

/* Turns the server, and the queue it uses, until nothing moves. The last result of sim_turn. */
static inline int sim_settle(wss_server *server) {
    int result = WSS_OK;
    for (int turns = 0, quiet = 0; quiet < 1 && result == WSS_OK; turns++) {
        uint64_t before = sim.progress;
        result = sim_turn(server, 0);
        sim_check(server);
        if (server->options.queue) wss_queue_poll(server->options.queue, 0);
        int busy = sim.progress != before || (server->options.queue && sim_readable(wss_queue_fd(server->options.queue)));
        for (int i = 0; i < server->loop_count; i++) busy |= server->loops[i].first_ready != WSS__SLOT_NONE;
        quiet = busy ? 0 : quiet + 1;
        if (turns > 100000) {
            sim_violation("no rest after 100,000 turns");
            break;
        }
    }
    return result;
}

/* Time passes, in steps in which nobody can seem to have stood still. */
static inline int sim_pass(wss_server *server, int milliseconds) {
    int result = WSS_OK;
    do {
        int step = milliseconds < 1000 ? milliseconds : 1000;
        sim_move_clock((uint64_t)step);
        result = sim_settle(server);
        milliseconds -= step;
    } while (milliseconds > 0 && result == WSS_OK);
    return result;
}

/* As wss_destroy, for servers of several loops too. */
static inline int sim_destroy(wss_server *server) {
    if (server && server->loop_count > 1 && server->running) {
        wss_stop(server, server->options.close_ms);
        while (sim_turn(server, 50) == WSS_OK) {
        }
    }
    return wss_destroy(server);
}

/* ---- clients ---- */

static peer *sim_peer_join(int fd) {
    sim_file *file = &sim.files[fd - SIM_FIRST];
    if (file->waiting >= file->backlog) return NULL;
    peer *client = sim_peer_new();
    if (!client) return NULL;
    client->listener = fd;
    if (file->last_peer) file->last_peer->next = client;
    else file->peer = client;
    file->last_peer = client;
    file->waiting++;
    sim_wake(fd, EPOLLIN);
    return client;
}

/* Connects to a port; NULL: refused. Give it back with peer_free. */
static inline peer *peer_connect(int port) {
    for (int i = 0; i < sim.top; i++) {
        if (sim.files[i].kind != SIM_LISTENER || sim.files[i].port != port || sim.files[i].family == AF_UNIX) continue;
        peer *client = sim_peer_join(i + SIM_FIRST);
        if (!client) return NULL;
        snprintf(client->address, sizeof client->address, "192.0.2.1");
        client->port = 20000 + (int)(client - sim_peers);
        return client;
    }
    return NULL;
}

static inline peer *peer_connect_unix(const char *name) {
    int path = sim_path_find(name);
    return path >= 0 && sim.paths[path].fd >= 0 ? sim_peer_join(sim.paths[path].fd) : NULL;
}

/* Bytes that were taken: the network holds only so many, and none after the end. */
static inline size_t peer_write(peer *client, const void *data, size_t size) {
    if (client->server_gone) client->reset = 1;
    if (client->finished || client->broken || client->reset) return 0;
    size_t space = sim_pipe_space(&client->in);
    if (size > space) size = space;
    sim_pipe_put(&client->in, data, size);
    if (client->fd >= 0 && size) sim_wake(client->fd, EPOLLIN);
    sim.progress++;
    return size;
}

static inline size_t peer_text(peer *client, const char *text) {
    return peer_write(client, text, strlen(text));
}

/* Takes size bytes out of the network, which makes room for more. */
static void sim_peer_drain(peer *client, size_t size) {
    sim_pipe_skip(&client->out, size);
    sim.progress++;
    if (client->fd < 0 || !client->nospace || sim_pipe_space(&client->out) * 3 <= client->out.limit) return;
    client->nospace = 0;
    sim_wake(client->fd, EPOLLOUT);
}

/* All that has come and was not used, taken out of the network. */
static inline const char *peer_data(peer *client, size_t *size) {
    if (client->out.size) {
        sim_pipe_put(&client->got, client->out.data + client->out.head, client->out.size);
        sim_peer_drain(client, client->out.size);
    }
    *size = client->got.size;
    return client->got.size ? client->got.data + client->got.head : "";
}

/* Uses up bytes of peer_data. */
static inline void peer_skip(peer *client, size_t size) {
    sim_pipe_skip(&client->got, size);
}

/* Reads slowly: no more than this leaves the network. */
static inline size_t peer_read(peer *client, void *data, size_t size) {
    sim_pipe *from = client->got.size ? &client->got : &client->out;
    if (size > from->size) size = from->size;
    if (size) memcpy(data, from->data + from->head, size);
    if (from == &client->got) peer_skip(client, size);
    else sim_peer_drain(client, size);
    return size;
}

/* Ends the stream to the server; what the server sends still comes. */
static inline void peer_finish(peer *client) {
    if (client->finished || client->broken) return;
    client->finished = 1;
    if (client->fd >= 0) sim_wake(client->fd, EPOLLIN | EPOLLRDHUP | (client->end ? (uint32_t)EPOLLHUP : 0));
}

static inline void peer_reset(peer *client) {
    if (client->broken || client->server_gone) return;
    client->broken = 1;
    client->error = ECONNRESET;
    sim_pipe_clear(&client->out);
    if (client->fd >= 0) sim_wake(client->fd, EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP);
}

/* As close(): unread bytes make it a reset. */
static inline void peer_close(peer *client) {
    if (client->closed) return;
    if (client->out.size) peer_reset(client);
    else peer_finish(client);
    client->closed = 1;
}

static inline void peer_free(peer *client) {
    if (!client) return;
    peer_close(client);
    client->held = 0;
    sim_peer_release(client);
}

/* Nothing more will come, and all was used. */
static inline int peer_ended(const peer *client) {
    return client->reset || (client->end && !client->out.size && !client->got.size);
}

#define PEER_REQUEST(target)                                                                             \
    "GET " target " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"       \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

/* Takes a whole HTTP head; its status, or 0 where none is there. */
static inline int peer_take_head(peer *client) {
    size_t size;
    const char *data = peer_data(client, &size);
    for (size_t i = 4; i <= size; i++) {
        if (memcmp(data + i - 4, "\r\n\r\n", 4) != 0) continue;
        int status = size > 12 && memcmp(data, "HTTP/1.1 ", 9) == 0 ? atoi(data + 9) : -1;
        peer_skip(client, i);
        return status;
    }
    return 0;
}

/* The bytes of a masked frame; first: its first byte, such as 0x81. Returns their number, up to size + 14. */
static inline size_t peer_encode(char *out, int first, const void *payload, size_t size, uint32_t mask) {
    size_t at = 0;
    out[at++] = (char)(unsigned char)first;
    out[at++] = (char)(unsigned char)(0x80 | (size < 126 ? (int)size : size <= 0xffff ? 126 : 127));
    if (size >= 126)
        for (int i = size <= 0xffff ? 1 : 7; i >= 0; i--) out[at++] = (char)(unsigned char)((uint64_t)size >> (8 * i) & 0xff);
    for (int i = 0; i < 4; i++) out[at + (size_t)i] = (char)(unsigned char)(mask >> (8 * i) & 0xff);
    const char *key = out + at;
    at += 4;
    for (size_t i = 0; i < size; i++) out[at + i] = (char)(((const char *)payload)[i] ^ key[i & 3]);
    return at + size;
}

/* Sends a masked frame; false where not all of it went. */
static inline int peer_frame(peer *client, int first, const void *payload, size_t size) {
    char small[512];
    char *frame = size + 14 <= sizeof small ? small : (char *)malloc(size + 14);
    if (!frame) abort();
    size_t whole = peer_encode(frame, first, payload, size, (uint32_t)sim_random());
    size_t sent = peer_write(client, frame, whole);
    if (frame != small) free(frame);
    return sent == whole;
}

/* The next whole frame that has come: its first byte, or -1. *data lies in the client until the next call about it. */
static inline int peer_peek(peer *client, const char **data, size_t *size, size_t *whole) {
    size_t have;
    const char *at = peer_data(client, &have);
    if (have < 2) return -1;
    size_t head = 2;
    *size = (unsigned char)at[1] & 0x7f;
    if (*size >= 126) head = *size == 126 ? 4 : 10;
    if (have < head) return -1;
    if (head > 2) {
        uint64_t length = 0;
        for (size_t i = 2; i < head; i++) length = length << 8 | (unsigned char)at[i];
        *size = (size_t)length;
    }
    if (have - head < *size) return -1;
    *data = at + head;
    *whole = head + *size;
    return (unsigned char)at[0];
}

/* Takes the next frame out: its first byte, or -1. payload gets at most room bytes and a NUL; may be NULL. */
static inline int peer_take(peer *client, char *payload, size_t room, size_t *size) {
    const char *data;
    size_t length, whole;
    int first = peer_peek(client, &data, &length, &whole);
    if (first < 0) return -1;
    if (size) *size = length;
    if (payload && room) {
        size_t copied = length < room - 1 ? length : room - 1;
        memcpy(payload, data, copied);
        payload[copied] = 0;
    }
    peer_skip(client, whole);
    return first;
}

/* Connects and opens; NULL where it was not let in. */
static inline peer *peer_open(wss_server *server) {
    peer *client = peer_connect(server->options.port);
    if (!client) return NULL;
    peer_text(client, PEER_REQUEST("/") "\r\n");
    sim_settle(server);
    if (peer_take_head(client) == 101) return client;
    peer_free(client);
    return NULL;
}

#endif
