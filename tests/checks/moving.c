/* Servers that are replaced while clients come and stay: real processes, the real kernel, and HAProxy. moving HOW [once], where
   HOW is
       handover   20,000 connects while the listener is handed on five times: no reset, no refusal, no end without an answer; a
                  503 from a server that stops alone. Again over a Unix path, handed on once
       rolling    900 clients behind HAProxy and three nodes, which are stopped and replaced one after the other: no failed try,
                  and the most reconnects in 100 ms are at most 1.5 times the even share. Where a busy machine kept the clients
                  waiting this is missed; then that node has its turn again, three in all
   once: over TCP alone, and one node alone, for the controls. Processes are forked before there are clients; a listener goes from
   one to the next as SCM_RIGHTS. Nodes have addresses from which nobody dials, so that their ports stay free.
   Prints what it found, and fails where a bound is passed. rolling writes build/moving.cfg. */
#define _GNU_SOURCE 1
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#if !defined(WSSERVER_TESTED)
#define WSSERVER_TESTED "../../wsserver.h"
#endif
#include WSSERVER_TESTED

#include "../script.h"

#include <arpa/inet.h>
#include <math.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { SERVERS = 16, PLACES = 4096, TIMES = 4096, WINDOW = 100 };

static int failures;
static int once;

static void expect(int truth, const char *what) {
    if (!truth) printf("FAILED: %s\n", what);
    failures += !truth;
}

static double now(void) { /* in milliseconds, the same in all processes */
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1000 + (double)time.tv_nsec / 1e6;
}

static void give_up(const char *what) {
    printf("FAILED: %s: error %d\n", what, errno);
    exit(1);
}

/* ---- moments ---- */

typedef struct moments {
    int count;
    double at[TIMES];
} moments;

static void note(moments *m) {
    if (m->count < TIMES) m->at[m->count++] = now();
}

static int compare(const void *a, const void *b) {
    const double *left = (const double *)a;
    const double *right = (const double *)b;
    return (*left > *right) - (*left < *right);
}

/* The most of them in any time as long as the window. */
static int most_in_window(moments *m) {
    int first = 0;
    int most = 0;
    qsort(m->at, (size_t)m->count, sizeof *m->at, compare);
    for (int i = 0; i < m->count; i++) {
        while (m->at[i] - m->at[first] >= WINDOW) first++;
        if (i - first + 1 > most) most = i - first + 1;
    }
    return most;
}

/* ---- servers, each a process of its own ---- */

/* What a server tells; it writes, the clients read. */
typedef struct told {
    int port;
    int open;
    int checks;             /* requests of the balancer answered */
    uint64_t refused_early; /* before it was asked to stop */
    uint64_t refused;       /* with 5xx, at its end */
    moments closes;         /* when Close frames left */
} told;

typedef struct process {
    pid_t pid;
    int control;
    told *told; /* shared */
} process;

/* One order, or one answer. */
typedef struct order {
    char what; /* 'G' go, 'R' running, 'L' give the listener, 'S' stop */
    char address[120];
    int port;
    int spread;
    int milliseconds; /* of the stop */
} order;

static process servers[SERVERS];
static int forked;
static told *own; /* in a server */

static int tell(int control, const order *o, int fd) {
    struct iovec part = {(void *)(uintptr_t)o, sizeof *o};
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } extra;
    struct msghdr message;
    memset(&message, 0, sizeof message);
    memset(&extra, 0, sizeof extra);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (fd >= 0) {
        message.msg_control = &extra;
        message.msg_controllen = sizeof extra;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &fd, sizeof fd);
    }
    return sendmsg(control, &message, MSG_NOSIGNAL) == sizeof *o;
}

/* 1 where one came; *fd: with a descriptor, else -1. */
static int hear(int control, order *o, int *fd, int flags) {
    struct iovec part = {o, sizeof *o};
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } extra;
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = &extra;
    message.msg_controllen = sizeof extra;
    *fd = -1;
    if (recvmsg(control, &message, flags) != sizeof *o) return 0;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head) memcpy(fd, CMSG_DATA(head), sizeof *fd);
    return 1;
}

ssize_t __real_send(int fd, const void *data, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t size, int flags);

ssize_t __wrap_send(int fd, const void *data, size_t size, int flags) {
    if (own && size && *(const unsigned char *)data == (0x80 | SCRIPT_CLOSE)) note(&own->closes);
    return __real_send(fd, data, size, flags);
}

static void on_open(const wss_event *e) {
    (void)e;
    __atomic_add_fetch(&own->open, 1, __ATOMIC_RELAXED);
}

static void on_end(const wss_event *e) {
    (void)e;
    __atomic_sub_fetch(&own->open, 1, __ATOMIC_RELAXED);
}

static void on_data(const wss_event *e) {
    wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

static void on_http(const wss_event *e) {
    if (wss_reply(e->server, e->conn, NULL) == WSS_OK) __atomic_add_fetch(&own->checks, 1, __ATOMIC_RELAXED);
}

typedef struct control {
    wss_server *server;
    int fd;
} control;

static void *obey(void *arg) {
    const control *c = (const control *)arg;
    order o;
    wss_stats stats;
    int fd;
    while (hear(c->fd, &o, &fd, 0)) {
        if (o.what == 'L') {
            fd = wss_listener(c->server, 0);
            if (fd < 0 || !tell(c->fd, &o, fd)) _exit(3); /* what was sent is a duplicate */
        }
        if (o.what == 'S') {
            wss_get_stats(c->server, &stats);
            own->refused_early = stats.refused;
            wss_stop(c->server, o.milliseconds);
            return NULL;
        }
    }
    _exit(4); /* the clients are gone */
}

/* The life of a server process. Returns its exit status. */
static int serve(int fd) {
    wss_options options = {0};
    wss_error why;
    wss_stats stats;
    pthread_t thread;
    order o;
    int listener;
    char adopted[24];
    if (!hear(fd, &o, &listener, 0)) return 0; /* it was not needed */
    snprintf(adopted, sizeof adopted, "fd:%d", listener);
    options.address = listener >= 0 ? adopted : o.address;
    options.port = o.port;
    options.stop_spread_ms = o.spread;
    options.stop_code = WSS_CLOSE_RESTART;
    options.proxies = "127.0.0.1";
    wss_server *server = wss_create(&options, &why);
    if (!server) {
        printf("%s\n", why.text);
        fflush(stdout);
        return 5;
    }
    control c = {server, fd};
    wss_get_options(server, &options);
    own->port = options.port;
    wss_on_connect(server, on_open, NULL);
    wss_on_disconnect(server, on_end, NULL);
    wss_on_data(server, on_data, NULL);
    wss_on_http(server, on_http, NULL);
    o.what = 'R';
    if (!tell(fd, &o, -1) || pthread_create(&thread, NULL, obey, &c)) return 6;
    int result = wss_run(server);
    pthread_join(thread, NULL);
    wss_get_stats(server, &stats);
    own->refused = stats.refused_status[5];
    return result != WSS_OK || wss_destroy(server) != WSS_OK;
}

/* Before there is any client, or their sockets would live on in the new process. */
static void fork_server(void) {
    int pair[2];
    process *p = &servers[forked];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) give_up("socketpair");
    p->told = (told *)mmap(NULL, sizeof *p->told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p->told == MAP_FAILED) give_up("mmap");
    fflush(stdout);
    p->pid = fork();
    if (p->pid < 0) give_up("fork");
    if (p->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int i = 0; i < forked; i++) close(servers[i].control);
        close(pair[0]);
        own = p->told;
        _exit(serve(pair[1]));
    }
    close(pair[1]);
    p->control = pair[0];
    forked++;
}

static void go(const process *p, const char *address, int port, int spread, int listener) {
    order o = {'G', "", 0, 0, 0};
    snprintf(o.address, sizeof o.address, "%s", address);
    o.port = port;
    o.spread = spread;
    if (!tell(p->control, &o, listener)) give_up("a server cannot be told to go");
}

static void stop(const process *p, int milliseconds) {
    order o = {'S', "", 0, 0, 0};
    o.milliseconds = milliseconds;
    if (!tell(p->control, &o, -1)) give_up("a server cannot be told to stop");
}

static void await_running(const process *p) {
    order o;
    int fd;
    if (!hear(p->control, &o, &fd, 0) || o.what != 'R') give_up("a server does not run");
}

static void await_exit(process *p) {
    int status = -1;
    if (p->pid && (waitpid(p->pid, &status, 0) != p->pid || status != 0)) {
        printf("FAILED: a server ended with status %d\n", status);
        failures++;
    }
    p->pid = 0;
}

static int has_ended(process *p) {
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == p->pid;
}

static void forget_servers(void) {
    for (int i = 0; i < forked; i++) {
        close(servers[i].control); /* who was not needed ends */
        await_exit(&servers[i]);
        munmap(servers[i].told, sizeof *servers[i].told);
    }
    forked = 0;
}

/* ---- clients, all in one loop ---- */

enum { GET, TALK, STAY, SIT }; /* asks; echoes once and closes; echoes until it is closed; is there until it is closed */
enum { FREE, DIALS, RESTS, ASKS, TALKS, CLOSES, ENDS };

typedef struct visitor {
    int fd;
    int kind;
    int state;
    int later;     /* before it asks, or talks again, in milliseconds */
    int closed;    /* it has sent its Close */
    double rested; /* until when it rests */
    size_t size;
    char in[1000];
} visitor;

static struct {
    long dialled, answered, upgraded, refused_503, echoes, left, moved; /* moved: Close 1012 */
    long refused, resets, unanswered, lost, wrong, failed_tries;
} counts;
static visitor places[PLACES];
static int used;      /* places that were ever taken */
static int present;   /* of them, with a socket */
static int passers;   /* of these, GET and TALK */
static int in_house;  /* STAY and SIT, let in and not closed */
static int over;      /* who stays leaves, and does not come again */
static int poller;
static int port_there;
static const char *host_there;
static const char *path_there; /* a Unix path; NULL: TCP */
static moments closes_seen, tries, let_in;

static void arrive(int kind, int later);

static void watch(visitor *v, int how, uint32_t events) {
    struct epoll_event event;
    event.events = events;
    event.data.ptr = v;
    if (epoll_ctl(poller, how, v->fd, &event) != 0) give_up("epoll_ctl");
}

static void leave(visitor *v) {
    close(v->fd);
    v->state = FREE;
    present--;
    passers -= v->kind <= TALK;
}

/* What must not happen. Who belongs here tries again. */
static void fail(visitor *v, long *count) {
    ++*count;
    if (v->kind >= STAY && v->state >= TALKS && !v->closed) in_house--;
    int again = v->kind >= STAY && v->state != ENDS && !over && counts.failed_tries < 5000;
    counts.failed_tries += v->kind == SIT && v->state < TALKS;
    int kind = v->kind;
    leave(v);
    if (again) arrive(kind, 0);
}

static void say(visitor *v, const void *data, size_t size) {
    if (send(v->fd, data, size, MSG_NOSIGNAL) == (ssize_t)size) return;
    fail(v, errno == EPIPE || errno == ECONNRESET ? &counts.resets : &counts.wrong);
}

static void say_frame(visitor *v, int opcode, const char *payload, size_t size) {
    static script s;
    s.size = 0;
    script_frame(&s, opcode, SCRIPT_FINAL, payload, size);
    say(v, s.data, s.size);
}

static void ask(visitor *v) {
    static const char plain[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static const char upgrade[] = "GET / HTTP/1.1\r\nHost: localhost\r\n" SCRIPT_ASKS "\r\n";
    v->state = ASKS;
    if (v->kind == GET) say(v, plain, sizeof plain - 1);
    else say(v, upgrade, sizeof upgrade - 1);
}

static void talk(visitor *v) {
    v->state = TALKS;
    if (v->kind != SIT) say_frame(v, SCRIPT_TEXT, "hello", 5);
}

static void rest(visitor *v) {
    v->state = RESTS;
    v->rested = now() + v->later;
}

static void say_close(visitor *v, const char *code) {
    v->closed = 1;
    v->state = CLOSES;
    say_frame(v, SCRIPT_CLOSE, code, 2);
}

static int dial(int source) {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_un un;
    } to, from;
    socklen_t size = sizeof to.in;
    int one = 1;
    memset(&to, 0, sizeof to);
    memset(&from, 0, sizeof from);
    int fd = socket(path_there ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) give_up("socket");
    if (path_there) {
        size = sizeof to.un;
        to.un.sun_family = AF_UNIX;
        snprintf(to.un.sun_path, sizeof to.un.sun_path, "%s", path_there);
    } else {
        to.in.sin_family = from.in.sin_family = AF_INET;
        to.in.sin_port = htons((uint16_t)port_there);
        inet_pton(AF_INET, host_there, &to.in.sin_addr);
        from.in.sin_addr.s_addr = htonl(0x7f000002u + (unsigned)source % 8); /* ports enough */
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (bind(fd, &from.any, sizeof from.in) != 0) give_up("bind");
    }
    while (connect(fd, &to.any, size) != 0 && errno != EINPROGRESS) {
        if (errno == EAGAIN) { /* a Unix socket's queue is full */
            usleep(500);
            continue;
        }
        close(fd);
        return -1;
    }
    return fd;
}

static void arrive(int kind, int later) {
    visitor *v = places;
    while (v < places + used && v->state != FREE) v++;
    if (v == places + PLACES) give_up("too many clients");
    if (v == places + used) used++;
    memset(v, 0, offsetof(visitor, in));
    v->kind = kind;
    v->later = later;
    v->state = DIALS;
    counts.dialled++;
    if (kind == SIT) note(&tries);
    v->fd = dial((int)counts.dialled);
    if (v->fd < 0) {
        counts.refused++;
        v->state = FREE;
        return;
    }
    present++;
    passers += kind <= TALK;
    watch(v, EPOLL_CTL_ADD, EPOLLOUT);
}

static void connected(visitor *v) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(v->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        fail(v, error == ECONNREFUSED ? &counts.refused : &counts.resets);
        return;
    }
    watch(v, EPOLL_CTL_MOD, EPOLLIN);
    if (v->later && v->kind <= TALK) rest(v);
    else ask(v);
}

/* Takes a whole head off the input. Returns its status; 0: there is none yet. */
static int take_head(visitor *v) {
    char *end = (char *)memmem(v->in, v->size, "\r\n\r\n", 4);
    if (!end) return 0;
    int status = memcmp(v->in, "HTTP/1.1 ", 9) == 0 ? atoi(v->in + 9) : -1;
    v->size -= (size_t)(end + 4 - v->in);
    memmove(v->in, end + 4, v->size);
    return status;
}

static void on_head(visitor *v, int status) {
    if (status == 503 && v->kind != SIT) {
        counts.refused_503++;
        v->state = ENDS;
        if (v->kind == STAY && !over) arrive(STAY, v->later);
    } else if (status == 200 && v->kind == GET) {
        counts.answered++;
        v->state = ENDS;
    } else if (status == 101 && v->kind != GET) {
        counts.upgraded++;
        in_house += v->kind >= STAY;
        if (v->kind == SIT) note(&let_in);
        talk(v);
    } else {
        if (counts.wrong < 5) printf("an answer that nobody expects: %d\n", status);
        fail(v, &counts.wrong);
    }
}

static void on_close(visitor *v, int code) {
    if (v->kind >= STAY) in_house--;
    if (code == WSS_CLOSE_RESTART) counts.moved++;
    else if (code == WSS_CLOSE_NORMAL && v->closed) counts.left++;
    else counts.wrong++;
    if (v->kind == SIT && !v->closed) note(&closes_seen);
    int again = v->kind >= STAY && !over;
    int kind = v->kind;
    if (!v->closed) say_close(v, "\x03\xf4"); /* 1012 */
    if (v->state != FREE) v->state = ENDS;
    if (again) arrive(kind, v->later);
}

/* Takes what the server said in frames; all of them are short. */
static void on_frames(visitor *v) {
    while (v->state != FREE && v->state != ENDS && v->size >= 2 && v->size >= 2u + (unsigned char)v->in[1]) {
        size_t size = (unsigned char)v->in[1];
        int opcode = v->in[0] & 15;
        char payload[128];
        memcpy(payload, v->in + 2, size);
        v->size -= 2 + size;
        memmove(v->in, v->in + 2 + size, v->size);
        if (opcode == SCRIPT_CLOSE) {
            on_close(v, size < 2 ? 1005 : (unsigned char)payload[0] << 8 | (unsigned char)payload[1]);
        } else if (opcode == SCRIPT_TEXT && size == 5 && !memcmp(payload, "hello", 5) && v->state != RESTS) {
            counts.echoes++;
            if (v->kind == TALK) say_close(v, "\x03\xe8");
            else if (v->state == TALKS) rest(v);
        } else {
            fail(v, &counts.wrong);
        }
    }
}

static void on_nothing(visitor *v, ssize_t got) {
    if (got < 0) fail(v, &counts.resets);
    else if (v->state == ENDS) leave(v);
    else if (v->state == ASKS || (v->state == RESTS && v->kind <= TALK)) fail(v, &counts.unanswered);
    else fail(v, &counts.lost);
}

static void on_bytes(visitor *v) {
    ssize_t got = recv(v->fd, v->in + v->size, sizeof v->in - v->size, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        on_nothing(v, got);
        return;
    }
    v->size += (size_t)got;
    if (v->state == ASKS) {
        int status = take_head(v);
        if (!status) return;
        on_head(v, status);
    }
    if (v->state == ENDS) v->size = 0;
    else if (v->state != FREE && v->kind != GET) on_frames(v);
}

/* Who has rested goes on. */
static void wake(void) {
    double time = now();
    for (visitor *v = places; v < places + used; v++) {
        if (v->state != RESTS || v->rested > time) continue;
        if (v->kind <= TALK) ask(v);
        else if (over) say_close(v, "\x03\xe8");
        else talk(v);
    }
}

static void turn(void) {
    struct epoll_event events[256];
    int count = epoll_wait(poller, events, 256, 1);
    for (int i = 0; i < count; i++) {
        visitor *v = (visitor *)events[i].data.ptr;
        if (v->state == DIALS) connected(v);
        else if (v->state != FREE) on_bytes(v);
    }
    wake();
}

static void begin(const char *host, const char *path) {
    memset(&counts, 0, sizeof counts);
    over = 0;
    host_there = host;
    path_there = path;
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) give_up("epoll_create1");
}

/* ---- handover ---- */

enum { CROWD = 64, STAYERS = 60, STAYERS_FROM = 3, SPREAD = 400 };

/* Hands the listener on, one step at a time, while clients go on. */
typedef struct move {
    int from; /* the server that has it */
    int step; /* 0: nothing is under way, 1: the listener was asked for, 2: the successor starts */
} move;

static void go_on(move *m) {
    order o = {'L', "", 0, 0, 0};
    int fd;
    process *old = &servers[m->from];
    process *next = &servers[m->from + 1];
    if (m->step == 0) {
        if (!tell(old->control, &o, -1)) give_up("a server cannot be asked for its listener");
        m->step = 1;
    } else if (m->step == 1 && hear(old->control, &o, &fd, MSG_DONTWAIT)) {
        if (fd < 0) give_up("no listener came");
        go(next, "", 0, SPREAD, fd);
        close(fd);
        m->step = 2;
    } else if (m->step == 2 && hear(next->control, &o, &fd, MSG_DONTWAIT)) {
        stop(old, 4000);
        m->step = 0;
        m->from++;
    }
}

static void print_handover(const char *what, int moves, double took) {
    uint64_t refused = 0;
    uint64_t early = 0;
    for (int i = 0; i <= moves; i++) refused += servers[i].told->refused;
    for (int i = 0; i <= moves; i++) early += servers[i].told->refused_early;
    printf("hand-over, %s: %ld connects in %.1f s, the listener handed on %d times: %ld answers 200, %ld answers 101 with %ld "
           "echoes, %ld left, %ld Closes 1012; %ld answers 503, all of servers that stopped\n",
           what, counts.dialled, took / 1000, moves, counts.answered, counts.upgraded, counts.echoes, counts.left,
           counts.moved, counts.refused_503);
    printf("hand-over, %s: %ld resets, %ld refused connects, %ld ends without an answer, %ld without a Close, %ld other faults\n",
           what, counts.resets, counts.refused, counts.unanswered, counts.lost, counts.wrong);
    expect(!counts.resets, "a reset");
    expect(!counts.refused, "a refused connect");
    expect(!counts.unanswered, "an end without an answer");
    expect(!counts.lost, "an end without a Close");
    expect(!counts.wrong, "something else came");
    expect(early == 0 && (uint64_t)counts.refused_503 == refused, "a 503 that is not of a server that stops");
    expect(counts.left + counts.moved == counts.upgraded, "not every WebSocket has had its Close");
}

/* One wave of clients: so many connects, the listener handed on so many times. */
static void hand_over(const char *path, long connects, int moves) {
    static const char host[] = "127.0.1.1";
    char address[120];
    struct stat info;
    move m = {0, 0};
    long asked = 0;
    double began = now();
    for (int i = 0; i <= moves; i++) fork_server();
    begin(host, path);
    if (path) unlink(path);
    snprintf(address, sizeof address, path ? "unix:%s" : "%s", path ? path : host);
    go(&servers[0], address, 0, SPREAD, -1);
    await_running(&servers[0]);
    port_there = servers[0].told->port;
    while (asked < connects || passers) {
        for (; asked < connects && passers < CROWD; asked++)
            arrive(asked % 2 ? TALK : GET, asked / 2 % 4 ? 0 : 1 + (int)(asked % 20));
        turn();
        if (m.step || asked >= connects / (moves + 1) * (m.from + 1)) {
            if (m.from < moves) go_on(&m);
            if (m.step == 1 && (m.from == STAYERS_FROM - 1 || moves == 1))
                for (int i = present - passers; i < STAYERS; i++) arrive(STAY, 5);
        }
    }
    over = 1;
    while (present) turn();
    stop(&servers[m.from], 1000);
    for (int i = 0; i <= moves; i++) await_exit(&servers[i]);
    expect(m.from == moves, "the listener was not handed on so often");
    expect(!path || (stat(path, &info) == 0 && S_ISSOCK(info.st_mode)), "the Unix path is gone");
    print_handover(path ? "Unix path" : "TCP", moves, now() - began);
    if (path) unlink(path);
    forget_servers();
    close(poller);
}

/* ---- rolling ---- */

enum { NODES = 3, CLIENTS = 900, ROUNDS = 3, ROLL_SPREAD = 3000 };

static const char *const node_hosts[NODES] = {"127.0.1.1", "127.0.1.2", "127.0.1.3"};
static process *nodes[NODES];

static int free_port(const char *host) { /* of an address from which nobody dials: it stays free */
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    inet_pton(AF_INET, host, &address.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) give_up("bind");
    getsockname(fd, (struct sockaddr *)&address, &size);
    close(fd);
    return ntohs(address.sin_port);
}

static void write_config(void) {
    FILE *file = fopen("build/moving.cfg", "w");
    if (!file) give_up("build/moving.cfg");
    fprintf(file,
            "global\n    maxconn 4000\n    nbthread 1\n"
            "defaults\n    mode http\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n"
            "    timeout check 5s\n"
            "frontend front\n    bind %s:%d\n    default_backend nodes\n"
            "backend nodes\n    balance leastconn\n    option forwardfor\n    option httpchk GET /healthz\n"
            "    option redispatch 1\n    retry-on 503 conn-failure empty-response\n    retries 3\n    timeout tunnel 60s\n"
            "    default-server check inter 100ms fall 1 rise 1\n",
            host_there, port_there);
    for (int i = 0; i < NODES; i++) fprintf(file, "    server node%d %s:%d\n", i, node_hosts[i], nodes[i]->told->port);
    fclose(file);
}

static pid_t run_haproxy(void) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!freopen("build/moving-haproxy.log", "w", stdout)) _exit(1);
    dup2(1, 2);
    execlp("haproxy", "haproxy", "-db", "-f", "build/moving.cfg", (char *)NULL);
    _exit(127);
}

/* Goes on for milliseconds, or until it holds. */
static int turn_until(int (*holds)(void), int milliseconds) {
    double end = now() + milliseconds;
    while (!holds() && now() < end) turn();
    return holds();
}

static int all_checked(void) {
    for (int i = 0; i < NODES; i++)
        if (__atomic_load_n(&nodes[i]->told->checks, __ATOMIC_RELAXED) < 3) return 0;
    return 1;
}

static int all_in_house(void) {
    return in_house == CLIENTS;
}

static int all_settled(void) {
    int open = 0;
    for (int i = 0; i < NODES; i++) open += __atomic_load_n(&nodes[i]->told->open, __ATOMIC_RELAXED);
    return in_house == CLIENTS && open == CLIENTS;
}

static process *stopping;

static int node_has_ended(void) {
    return has_ended(stopping);
}

/* Stops a node and replaces it. 1 where those who came back came evenly. */
static int roll(int round, int number) {
    int members = nodes[number]->told->open;
    int port = nodes[number]->told->port;
    double share = (double)members * WINDOW / ROLL_SPREAD;
    stopping = nodes[number];
    closes_seen.count = tries.count = let_in.count = 0;
    double began = now();
    stop(stopping, 8000);
    expect(turn_until(node_has_ended, 10000), "a node does not end");
    expect(turn_until(all_in_house, 2000), "not all are back");
    double took = now() - began;
    await_exit(stopping);
    int sent = most_in_window(&stopping->told->closes);
    int seen = most_in_window(&closes_seen);
    int tried = most_in_window(&tries);
    int in = most_in_window(&let_in);
    int even = sent <= share * 1.5 && seen <= share * 1.5 && tried <= share * 1.5;
    printf("rolling, round %d, node %d: %d clients closed in %.2f s, even share %.1f in %d ms; most in any %d ms: %d Closes sent, "
           "%d seen, %d tries, %d let in: %.2f times%s\n",
           round, number, members, took / 1000, share, WINDOW, WINDOW, sent, seen, tried, in, tried / share, even ? "" : ", UNEVEN");
    expect(members > 0 && closes_seen.count == members && tries.count == members && let_in.count == members,
           "not each of them was closed once and came back at the first try");
    nodes[number] = &servers[NODES + (round - 1) * NODES + number];
    go(nodes[number], node_hosts[number], port, ROLL_SPREAD, -1);
    await_running(nodes[number]);
    expect(turn_until(all_checked, 10000), "the balancer does not find the new node");
    return even;
}

static void rolling(void) {
    int even = 0; /* nodes that were left evenly in one of the rounds */
    int wanted = once ? 1 : NODES;
    int was_even[NODES] = {0};
    for (int i = 0; i < NODES * (ROUNDS + 1); i++) fork_server();
    begin("127.0.1.9", NULL);
    port_there = free_port(host_there);
    for (int i = 0; i < NODES; i++) {
        nodes[i] = &servers[i];
        go(nodes[i], node_hosts[i], 0, ROLL_SPREAD, -1);
        await_running(nodes[i]);
    }
    write_config();
    pid_t haproxy = run_haproxy();
    expect(turn_until(all_checked, 10000), "HAProxy does not check");
    for (int i = 0; i < CLIENTS; i++) {
        arrive(SIT, 0);
        if (i % 20 == 0) turn();
    }
    expect(turn_until(all_settled, 10000), "not all clients are in");
    for (int round = 1; round <= (once ? 1 : ROUNDS); round++)
        for (int i = 0; i < wanted && !failures; i++)
            if (!was_even[i]) even += was_even[i] = roll(round, i);
    int settled = turn_until(all_settled, 2000);
    printf("rolling: %d of %d nodes left evenly, %d of %d clients connected at the end, %ld failed tries, %ld Closes 1012; %ld resets, %ld ends "
           "without a Close, %ld other faults\n",
           even, wanted, in_house, CLIENTS, counts.failed_tries + counts.refused, counts.moved, counts.resets, counts.lost, counts.wrong);
    expect(even == wanted, "the reconnects were bunched in each round");
    expect(settled, "not all are connected at the end");
    expect(!counts.failed_tries && !counts.refused && !counts.unanswered, "a failed try");
    expect(!counts.resets && !counts.lost && !counts.wrong, "a connection that ended otherwise");
    over = 1;
    kill(haproxy, SIGTERM);
    waitpid(haproxy, NULL, 0);
    for (int i = 0; i < NODES; i++) stop(nodes[i], 100);
    forget_servers();
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    once = argc > 2;
    alarm(60);
    if (!strcmp(how, "handover")) {
        hand_over(NULL, 20000, 5);
        if (!once) hand_over("build/moving.sock", 2000, 1);
    } else if (!strcmp(how, "rolling")) {
        rolling();
    } else {
        printf("usage: moving handover|rolling [once]\n");
        return 2;
    }
    printf("%s: %s\n", how, failures ? "FAILED" : "passed");
    return failures != 0;
}
