/* Liveness sweep. Honest peers beside attackers, on the kernel in memory; and in each run one disturbance at one point of it:
   the process is stopped, a handler blocks, a wait is interrupted, the clock jumps. Whatever happens: no honest peer is ended
   by the server, all that was accepted for it arrives, in order and whole, and what it has sent is handled. And each attacker
   is ended within its bound, measured in time in which the process ran.

   A point is a scenario, a disturbance, and the place where it strikes: the number of a wait, of a system call, of a call of
   a handler, of a drain of the queue. liveness alone runs one point in STRIDE, the same ones each time; "stride=1" all of them,
   "part=0/2" every second one of these, "scenario=NAME" those of one scenario, "once" none behind the first that fails;
   "verbose" tells what each actor of an undisturbed run came to, and of each failure.

   Bounds of attackers, with default options, in milliseconds since they connected:
     says nothing, or its request a byte at a time   handshake_ms + close_ms
     silent, or gone while it is silent              last byte + ping_ms + pong_ms
     gone while it is broadcast to                   last sign of life + ping_ms + pong_ms
     dribbles a message                              its first byte + message_ms + 1,000 for each least_rate bytes
     never reads, reads nothing of floods' answers   first byte that found no room + stall_ms
     reads a byte now and then                       first byte that found no room + one minute; two, where the first bytes of
                                                     a large message found room
     never answers a Close, or never ends TCP        Close has left + close_ms; twice that, where more than a Close was
                                                     under way then
     sends no message, with idle_ms                  idle_ms, + close_ms where it does not answer the Close
   To each SLACK is added: timers are rounded up, twice where two follow on each other, and what has more to say is heard for a
   second. */
#include "kernel.h"

#include "../test.h"

#ifndef STRIDE
#define STRIDE 71
#endif

enum {
    ALL = 1 << 30, /* reads: whatever is there */
    CAST = 10,
    CHUNKS = 512,
    AIR = 65536, /* bytes that one peer has under way */
    PATTERN = 2200000,
    SLACK = 1300,
    LEAST = 5 /* bytes of a message: its channel and its number */
};

enum { OPENS = 0, ASKS, DRIBBLES, SAYS_NOTHING }; /* role.way */
enum { STAYS = 0, CLOSES, CLOSES_HALF, FINISHES }; /* role.ends: says Close, says it and ends its stream, ends its stream */

/* What an actor does, and what the application does for it. Times in milliseconds; those of the actor since it connected,
   those of the application since the start. */
typedef struct role {
    const char *name;
    int way;
    int connect_ms;
    int step_ms;    /* between two bits of reading or of writing; 0: 250 */
    int latency_ms; /* its bytes are under way for so long */
    int reads;      /* bytes a second; negative: in each step; ALL; 0: none */
    int mute;       /* answers neither pings nor a Close */
    int messages;   /* that it sends */
    int size;       /* of each */
    int writes;     /* bytes a second; negative: in each step */
    int rest_ms;    /* between two messages */
    int waits;      /* for the echo, before it sends the next one */
    int first;      /* first byte of its frames; 0: 0x82 */
    int ends;       /* what it does after its last message */
    size_t in_limit, out_limit; /* of the network; 0: 65,536 */
    /* the application */
    int echo;
    int greet;      /* bytes of a message that it is sent when it has connected, or of the answer to its request */
    int greets;     /* so many of them; 0: 1 */
    int greet_ms;   /* then, not when it connects */
    int answer_ms;  /* from its request to the answer */
    int pause_ms, resume_ms;
    int close_ms;   /* it is closed then, 4001 */
    /* attackers */
    int gone_ms;    /* nothing of it moves from then on */
    int bound_ms;   /* 0: it is honest */
} role;

typedef struct scenario {
    const char *name;
    int queue;
    int broadcast_ms;
    int broadcast_size;
    int broadcast_end;
    size_t max_queued;
    int idle_ms;
    int stop_ms; /* wss_stop then, with a minute's time, */
    int most_ms; /* so that the process may not stand still for longer; 0: no limit */
    role cast[CAST];
} scenario;

/* ---- points ---- */

enum { NOWHERE = 0, AT_WAIT, AT_CALL, AT_HANDLER, AT_DRAIN };
enum {
    BEFORE = 0,  /* stopped before the wait, the call, or what the handler does */
    AFTER,       /* behind it */
    INTERRUPTED, /* the wait ends with EINTR, behind the stop */
    JUMP,        /* the clock jumps, and nobody has had that time; a wait runs out before */
    FEW,         /* stopped before the wait, and those from here on tell of one event each */
    OFTEN,       /* every other wait from here on is interrupted */
    AGAIN        /* stopped before this wait and each one behind it */
};

typedef struct point {
    int where;
    int how;
    int ms;
    long at;
} point;

static point now_struck; /* the disturbance of this run */
static long seen[AT_DRAIN + 1];
static int armed;
/* Of the undisturbed run: whether a wait ran out, and whether a call is the look at the clock that ends a wait. When that
   jumps, the server cannot know but that the wait took all it was to take, and the peers have had that time. */
enum { NOTED = 16384 };
static char ran_out[NOTED], wakes[NOTED];
static int awake;
static uint64_t began;
static uint64_t stood_from, stood_until; /* the process did not run, or its queue's thread, */
static uint64_t stood_before;            /* and so long before that */
static uint64_t drain_at; /* the queue's thread is held up until then */
static int stopped; /* the server has ended, as it was asked to */

/* ---- actors ---- */

typedef struct chunk {
    uint64_t due;
    size_t size;
} chunk;

typedef struct actor {
    const role *role;
    peer *peer;
    wss_conn conn;
    sim_pipe inbox;   /* read, and not used yet */
    sim_pipe air;     /* written, and not arrived yet */
    sim_pipe frame;   /* to be written now */
    sim_pipe answers; /* to be written behind that */
    chunk chunks[CHUNKS];
    unsigned first_chunk, chunk_count;
    uint64_t connect_at, gone_at, read_at, write_at, due_at;
    int index;
    int phase;        /* 0: head, 1: open, 2: said Close, or has nothing to say */
    int finishing;    /* ends its stream when all is written */
    int wrote_all;    /* and that has been */
    int over;         /* its client is done */
    int heard;        /* a Close has come */
    int code;
    int lost;         /* reset with its work undone */
    size_t body_got;
    unsigned written, echoed, arrived; /* numbers of messages: begun by it, that came back, that the application got */
    unsigned greeted, greets_got;      /* accepted for it, that came */
    unsigned told, told_got, told_next; /* with a queue it may be open, and told, before that is known */
    unsigned echoes;  /* accepted */
    uint64_t opened_run, closed_run; /* running time */
    int is_open, cause, ended, to_greet, to_pause, to_close, asked_to_close;
} actor;

static wss_server *server;
static wss_queue *queue;
static const scenario *scene;
static actor actors[CAST];
static int actor_count;
static char pattern[PATTERN];
static unsigned broadcasts;
static char label[200];
static long points_run, failures;
static int verbose, all_failures;


static void fail(const actor *who, const char *text) {
    test_broken++;
    if (failures++ >= 20 && !all_failures) return;
    printf("FAILED: %s%s%s; %s\n", who ? who->role->name : "", who ? ": " : "", text, label);
}

static void violated(const char *text) {
    fail(NULL, text);
}

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t later(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t us(int milliseconds) {
    return (uint64_t)milliseconds * 1000;
}

static uint64_t running(void) {
    uint64_t stood = sim.now > stood_from ? earlier(sim.now, stood_until) - stood_from : 0;
    return sim.now - began - stood_before - stood;
}

static void stand(int milliseconds) {
    stood_before += stood_until - stood_from;
    stood_from = sim.now;
    stood_until = sim.now + us(milliseconds);
}

static int step_of(const actor *a) {
    return a->role->step_ms ? a->role->step_ms : 250;
}

/* Of bytes a second, in one step; negative: so many in each. */
static size_t share(int rate, int step) {
    if (rate < 0) return (size_t)-rate;
    size_t bytes = (size_t)rate * (size_t)step / 1000;
    return bytes ? bytes : 1;
}

/* What a message is filled with. Message number n begins at another place than its neighbours. */
static const char *filling(unsigned number) {
    return pattern + number * 37 % 997;
}

static void head_of(char head[LEAST], char channel, unsigned number) {
    head[0] = channel;
    for (int i = 1; i < LEAST; i++) head[i] = (char)(unsigned char)(number >> (8 * (i - 1)) & 0xff);
}

static unsigned number_of(const char *data) {
    unsigned number = 0;
    for (int i = 1; i < LEAST; i++) number |= (unsigned)(unsigned char)data[i] << (8 * (i - 1));
    return number;
}

static int is_whole(const char *data, size_t size) {
    return size >= LEAST && memcmp(data + LEAST, filling(number_of(data)), size - LEAST) == 0;
}

/* ---- what an actor writes ---- */

/* Bytes leave the client, and arrive later. */
static void set_off(actor *a, sim_pipe *from, size_t size) {
    uint64_t due = sim.now + us(a->role->latency_ms);
    chunk *last = a->chunk_count ? &a->chunks[(a->first_chunk + a->chunk_count - 1) % CHUNKS] : NULL;
    if (size > from->size) size = from->size;
    if (!size) return;
    if (!last || last->due != due) {
        if (a->chunk_count == CHUNKS) abort();
        last = &a->chunks[(a->first_chunk + a->chunk_count++) % CHUNKS];
        last->due = due;
        last->size = 0;
    }
    last->size += size;
    sim_pipe_put(&a->air, from->data + from->head, size);
    sim_pipe_skip(from, size);
}

static void arrive(actor *a) {
    while (a->chunk_count) {
        chunk *first = &a->chunks[a->first_chunk];
        if (first->due > sim.now) return;
        size_t taken = peer_write(a->peer, a->air.data + a->air.head, first->size);
        sim_pipe_skip(&a->air, taken);
        first->size -= taken;
        if (first->size) return;
        a->first_chunk = (a->first_chunk + 1) % CHUNKS;
        a->chunk_count--;
    }
}

/* Masked with zeros: what the mask is makes no difference to time, and this is fast. */
static void put_frame(sim_pipe *out, int first, const void *payload, size_t size) {
    char head[14];
    size_t at = 0;
    head[at++] = (char)(unsigned char)first;
    head[at++] = (char)(unsigned char)(0x80 | (size < 126 ? (int)size : size <= 0xffff ? 126 : 127));
    if (size >= 126)
        for (int i = size <= 0xffff ? 1 : 7; i >= 0; i--) head[at++] = (char)(unsigned char)((uint64_t)size >> (8 * i) & 0xff);
    for (int i = 0; i < 4; i++) head[at++] = 0;
    sim_pipe_put(out, head, at);
    sim_pipe_put(out, payload, size);
}

/* Whether the next message, or the end, is to be written, as far as time allows. */
static int wants_to_write(const actor *a) {
    const role *r = a->role;
    if (a->wrote_all || a->air.size >= AIR) return 0;
    if (a->frame.size || a->answers.size || a->finishing) return 1;
    if (a->phase != 1 || a->heard) return 0;
    if (a->written == (unsigned)r->messages) return r->ends != STAYS && !(r->waits && a->echoed < a->written);
    return !(r->waits && a->echoed < a->written);
}

static void begin_message(actor *a) {
    const role *r = a->role;
    static char *buffer;
    if (!buffer) buffer = (char *)malloc(PATTERN);
    if (!buffer) abort();
    unsigned number = a->written++;
    size_t size = (size_t)r->size;
    if (size >= LEAST) {
        head_of(buffer, 'u', number);
        memcpy(buffer + LEAST, filling(number), size - LEAST);
    }
    put_frame(&a->frame, r->first ? r->first : 0x82, buffer, size);
}

static void begin_end(actor *a) {
    if (a->role->ends != FINISHES) put_frame(&a->frame, 0x88, "\3\350", 2);
    a->finishing = a->role->ends != CLOSES;
    a->phase = 2;
}

/* One step of writing. Floods write as much as there is room for. */
static void write_some(actor *a) {
    const role *r = a->role;
    size_t left = share(r->writes ? r->writes : 1 << 20, step_of(a));
    a->write_at = sim.now + us(step_of(a));
    while (left && a->air.size < AIR && wants_to_write(a)) {
        if (!a->frame.size && a->answers.size) set_off(a, &a->answers, a->answers.size);
        if (!a->frame.size && a->finishing) {
            a->wrote_all = 1;
            break;
        }
        if (!a->frame.size && a->phase == 1 && !a->heard && a->written < (unsigned)r->messages) begin_message(a);
        else if (!a->frame.size && a->phase == 1 && !a->heard && r->ends) begin_end(a);
        size_t size = a->frame.size < left ? a->frame.size : left;
        set_off(a, &a->frame, size);
        left -= size;
        if (a->frame.size || !r->rest_ms) continue;
        a->write_at = sim.now + us(r->rest_ms);
        break;
    }
}

/* ---- what an actor reads ---- */

static void took_message(actor *a, const char *data, size_t size) {
    if (!is_whole(data, size)) {
        fail(a, "a message that is not as it was sent");
        return;
    }
    unsigned number = number_of(data);
    if (data[0] == 'u' && number == a->echoed) a->echoed++;
    else if (data[0] == 'g' && number == a->greets_got) a->greets_got++;
    else if (data[0] == 'b' && (!a->told_got || number == a->told_next)) a->told_got++, a->told_next = number + 1;
    else fail(a, "a message out of order");
    if (data[0] == 'u' && a->role->waits) a->write_at = later(a->write_at, sim.now + us(a->role->rest_ms));
}

static void took_close(actor *a, const char *data, size_t size) {
    a->heard = 1;
    a->code = size >= 2 ? (unsigned char)data[0] << 8 | (unsigned char)data[1] : WSS_CLOSE_NO_CODE;
    if (a->role->mute || a->phase >= 2) return;
    a->phase = 2;
    put_frame(&a->answers, 0x88, data, size < 2 ? size : 2);
    if (!a->frame.size) a->write_at = sim.now;
}

static void took_frame(actor *a, int first, const char *data, size_t size) {
    switch (first & 15) {
    case 8: took_close(a, data, size); break;
    case 9:
        if (a->role->mute) break;
        put_frame(&a->answers, 0x8a, data, size);
        if (!a->frame.size) a->write_at = sim.now; /* at once, but not in the middle of a frame */
        break;
    case 10: break;
    default: took_message(a, data, size); break;
    }
}

/* Uses the whole frames that have come. */
static void take_frames(actor *a) {
    for (;;) {
        const unsigned char *at = (const unsigned char *)a->inbox.data + a->inbox.head;
        size_t have = a->inbox.size, head = 2;
        if (have < 2) return;
        size_t size = at[1];
        if (size >= 126) head = size == 126 ? 4 : 10;
        if (have < head) return;
        if (head > 2) size = 0;
        for (size_t i = 2; i < head; i++) size = size << 8 | at[i];
        if (have - head < size) return;
        took_frame(a, at[0], (const char *)at + head, size);
        sim_pipe_skip(&a->inbox, head + size);
    }
}

static void take_body(actor *a) {
    if (memcmp(a->inbox.data + a->inbox.head, pattern + a->body_got, a->inbox.size) != 0)
        fail(a, "another answer than was given");
    a->body_got += a->inbox.size;
    sim_pipe_skip(&a->inbox, a->inbox.size);
}

static void take_head(actor *a) {
    const char *data = a->inbox.data + a->inbox.head;
    for (size_t i = 4; i <= a->inbox.size; i++) {
        if (memcmp(data + i - 4, "\r\n\r\n", 4) != 0) continue;
        int status = atoi(data + 9);
        if (status != (a->role->way == ASKS ? 200 : 101)) {
            if (!a->role->bound_ms) fail(a, "a request that was refused");
            a->over = 1;
        }
        a->phase = a->role->way == ASKS ? 2 : 1;
        a->write_at = sim.now;
        sim_pipe_skip(&a->inbox, i);
        return;
    }
}

static void read_some(actor *a) {
    const role *r = a->role;
    size_t size = r->reads == ALL ? a->peer->out.size : share(r->reads, step_of(a));
    if (size > a->peer->out.size) size = a->peer->out.size;
    a->read_at = sim.now + (r->reads == ALL ? 1000 : us(step_of(a)));
    sim_pipe_put(&a->inbox, a->peer->out.data + a->peer->out.head, size);
    sim_peer_drain(a->peer, size);
    if (a->phase == 0) take_head(a);
    if (r->way == ASKS && a->phase) {
        if (a->inbox.size) take_body(a);
    } else if (a->phase) {
        take_frames(a);
    }
}

/* ---- when an actor acts ---- */

static void come(actor *a) {
    const role *r = a->role;
    char request[8000];
    a->peer = peer_connect(server->options.port);
    if (!a->peer) abort();
    a->peer->in.limit = r->in_limit ? r->in_limit : 65536;
    a->peer->out.limit = r->out_limit ? r->out_limit : 65536;
    a->opened_run = running();
    a->gone_at = r->gone_ms ? sim.now + us(r->gone_ms) : UINT64_MAX;
    if (r->way == ASKS) snprintf(request, sizeof request, "GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n", a->index);
    else snprintf(request, sizeof request, "GET /%d %s", a->index, strstr(PEER_REQUEST("/") "\r\n", "HTTP/1.1"));
    if (r->way == DRIBBLES) { /* so long that it is not whole when the process has stood for an hour */
        memset(request, 'x', sizeof request);
        memcpy(request, "GET / HTTP/1.1\r\nX: ", 20);
        sim_pipe_put(&a->frame, request, sizeof request);
    } else if (r->way != SAYS_NOTHING) {
        sim_pipe_put(&a->answers, request, strlen(request));
        set_off(a, &a->answers, a->answers.size);
    }
    a->wrote_all = r->way == ASKS && r->ends == FINISHES;
    if (r->bound_ms && !r->reads && r->way == OPENS) a->phase = 1; /* it does not care for answers */
    a->write_at = a->read_at = sim.now;
    arrive(a);
}

static uint64_t next_of(const actor *a) {
    if (a->over) return UINT64_MAX;
    if (!a->peer) return a->connect_at;
    if (a->gone_at <= sim.now) return UINT64_MAX;
    uint64_t next = a->gone_at;
    const peer *p = a->peer;
    if (p->reset || (p->end && !p->out.size)) return sim.now;
    if (a->chunk_count && sim_pipe_space(&p->in)) next = earlier(next, a->chunks[a->first_chunk].due);
    if (a->role->reads && p->out.size) next = earlier(next, a->read_at);
    if (wants_to_write(a)) next = earlier(next, a->write_at);
    if (a->wrote_all && !a->air.size && !p->finished) next = sim.now;
    return next;
}

/* Its client sees the end of the stream, or that it was reset. */
static void see_end(actor *a) {
    if (a->peer->reset && a->peer->out.size == 0 && !a->heard && a->role->way == OPENS) a->lost = 1;
    if (a->role->bound_ms && a->role->mute) { /* it does not end TCP: whether the server does is seen in its descriptor */
        a->over = a->peer->server_gone;
        if (!a->over) a->gone_at = 0;
        return;
    }
    a->over = 1;
    peer_close(a->peer);
}

static void act(actor *a) {
    if (!a->peer) {
        come(a);
        return;
    }
    if (a->gone_at <= sim.now) return;
    arrive(a);
    if (a->role->reads && a->peer->out.size && a->read_at <= sim.now) read_some(a);
    if (wants_to_write(a) && a->write_at <= sim.now) write_some(a);
    arrive(a);
    if (a->wrote_all && !a->air.size) peer_finish(a->peer);
    if (a->peer->reset || (a->peer->end && !a->peer->out.size)) see_end(a);
}

static uint64_t next_act(void) {
    uint64_t next = UINT64_MAX;
    for (int i = 0; i < actor_count; i++) next = earlier(next, next_of(&actors[i]));
    return later(next, sim.now);
}

/* Time passes, and the actors act; the server does not. */
static void pass_until(uint64_t end) {
    for (int rounds = 0;; rounds++) {
        uint64_t next = next_act();
        if (next > end) break;
        if (rounds > 1000000) abort();
        sim.now = next;
        for (int i = 0; i < actor_count; i++)
            if (next_of(&actors[i]) <= sim.now) act(&actors[i]);
    }
    sim.now = end;
    sim.progress++;
}

static void stop_for(int milliseconds) {
    if (!milliseconds) return;
    stand(milliseconds);
    pass_until(sim.now + us(milliseconds));
}

/* The clock shows a later time, and nothing has happened. */
static void jump(int milliseconds) {
    uint64_t step = us(milliseconds);
    stand(milliseconds);
    sim.now += step;
    for (int i = 0; i < actor_count; i++) {
        actor *a = &actors[i];
        a->connect_at += step;
        if (a->gone_at != UINT64_MAX) a->gone_at += step;
        a->read_at += step;
        a->write_at += step;
        for (unsigned k = 0; k < a->chunk_count; k++) a->chunks[(a->first_chunk + k) % CHUNKS].due += step;
    }
}

/* ---- disturbances ---- */

/* Whether the disturbance strikes at this moment. */
static int strikes(int where) {
    if (!armed) return 0;
    long at = ++seen[where];
    return now_struck.where == where && now_struck.at == at;
}

static void disturb(void) {
    if (now_struck.how == JUMP) jump(now_struck.ms);
    else stop_for(now_struck.ms);
}

static void at_call(int call) {
    int struck = strikes(AT_CALL);
    if (seen[AT_CALL] < NOTED && !now_struck.where) wakes[seen[AT_CALL]] = !awake && call == SIM_clock_gettime;
    awake |= call == SIM_clock_gettime;
    if (!struck) return;
    armed = 0; /* once */
    disturb();
    armed = 1;
}

#define MOMENT(result, name, parameters, arguments)   \
    static result live_##name parameters {            \
        at_call(SIM_##name);                          \
        return sim_##name arguments;                  \
    }
MOMENT(ssize_t, recv, (int fd, void *data, size_t size, int flags), (fd, data, size, flags))
MOMENT(ssize_t, send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags))
MOMENT(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
MOMENT(int, accept4, (int fd, struct sockaddr *address, socklen_t *size, int flags), (fd, address, size, flags))
MOMENT(int, clock_gettime, (clockid_t id, struct timespec *now), (id, now))
MOMENT(int, close, (int fd), (fd))
MOMENT(int, epoll_ctl, (int epoll, int what, int fd, struct epoll_event *event), (epoll, what, fd, event))
MOMENT(int, ioctl, (int fd, TEST_REQUEST request, void *data), (fd, request, data))
MOMENT(int, shutdown, (int fd, int how), (fd, how))

static int wait_for(int epoll, struct epoll_event *events, int most, int timeout) {
    uint64_t until = sim.now + us(timeout < 0 ? 3600000 : timeout);
    int count = sim_epoll_wait(epoll, events, most, 0);
    while (!count && sim.now < until) {
        pass_until(earlier(next_act(), until));
        count = sim_epoll_wait(epoll, events, most, 0);
    }
    return count;
}

/* A signal has come, in the middle of the wait where that is long. */
static int interrupted(int epoll, struct epoll_event *events, int most, int timeout) {
    if (wait_for(epoll, events, most, timeout > 1 ? timeout / 2 : 0) > 0) { /* the events wait for the next call */
        for (int i = 0; i < sim.top; i++)
            if (sim.files[i].kind != SIM_NONE && sim.files[i].epoll == epoll) sim_queue_ready(i + SIM_FIRST);
    }
    errno = EINTR;
    return -1;
}

/* What goes on with each wait behind the first that was struck. */
static int goes_on(int how) {
    return armed && now_struck.where == AT_WAIT && now_struck.how == how && seen[AT_WAIT] >= now_struck.at;
}

static int live_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout) {
    int struck = strikes(AT_WAIT);
    int how = struck ? now_struck.how : -1;
    if (how == BEFORE || how == FEW || how == INTERRUPTED || goes_on(AGAIN)) stop_for(now_struck.ms);
    if (how == INTERRUPTED || (goes_on(OFTEN) && seen[AT_WAIT] % 2)) return interrupted(epoll, events, most, timeout);
    int count = wait_for(epoll, events, goes_on(FEW) ? 1 : most, timeout);
    if (how == AFTER || how == JUMP) disturb();
    if (armed && seen[AT_WAIT] < NOTED && !now_struck.where) ran_out[seen[AT_WAIT]] = !count;
    awake = 0;
    return count;
}

/* ---- the application ---- */

static actor *actor_of(const wss_event *e) {
    const char *target = e->request ? wss_request_target(e->request) : "/";
    wss_info info;
    if (!e->request && wss_get_info(e->server, e->conn, &info) == WSS_OK) target = info.path;
    int index = atoi(target + 1);
    return index < actor_count ? &actors[index] : &actors[0];
}

static int block(int how, int struck) {
    if (struck && now_struck.how == how) stop_for(now_struck.ms);
    return struck;
}

static void make_message(char *out, char channel, unsigned number, size_t size) {
    head_of(out, channel, number);
    memcpy(out + LEAST, filling(number), size - LEAST);
}

static char outgoing[PATTERN];

static void greet(actor *a) {
    for (int i = 0; i < (a->role->greets ? a->role->greets : a->role->greet ? 1 : 0); i++) {
        make_message(outgoing, 'g', a->greeted, (size_t)a->role->greet);
        if (wss_send_data(server, a->conn, WSS_BINARY, outgoing, (size_t)a->role->greet) == WSS_OK) a->greeted++;
        else if (!a->role->bound_ms) fail(a, "a greeting that is refused");
    }
}

static void on_greet(const wss_event *e) {
    actor *a = (actor *)e->context;
    a->to_greet = 1;
    if (a->conn.id) greet(a);
}

/* Where the process stood still it may not have connected: then it is closed, or paused, when it has. */
static void close_it(actor *a) {
    a->to_close = 1;
    if (a->conn.id && wss_close(server, a->conn, 4001, "enough") == WSS_OK) a->asked_to_close = 1;
}

static void on_connect(const wss_event *e) {
    actor *a = actor_of(e);
    int struck = block(BEFORE, strikes(AT_HANDLER));
    wss_set_user(e->server, e->conn, a);
    a->conn = e->conn;
    a->is_open = 1;
    if (!a->role->greet_ms || a->to_greet) greet(a);
    if (a->to_pause) wss_pause(e->server, e->conn);
    if (a->to_close) close_it(a);
    block(AFTER, struck);
}

static void on_disconnect(const wss_event *e) {
    actor *a = (actor *)e->user;
    int struck = block(BEFORE, strikes(AT_HANDLER));
    if (a) {
        a->is_open = 0;
        a->ended++;
        a->cause = e->cause;
    }
    block(AFTER, struck);
}

static void on_data(const wss_event *e) {
    actor *a = (actor *)e->user;
    int struck = block(BEFORE, strikes(AT_HANDLER));
    if (!a->role->bound_ms && (!is_whole(e->data, e->size) || number_of(e->data) != a->arrived))
        fail(a, "what it sent did not come whole, or out of order");
    a->arrived++;
    if (a->role->echo) {
        int result = wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
        if (result == WSS_OK) a->echoes++;
        else if (!a->role->bound_ms && result != WSS_ERR_GONE) fail(a, "an echo that is refused");
    }
    block(AFTER, struck);
}

static void answer_it(const actor *a) {
    wss_answer answer;
    memset(&answer, 0, sizeof answer);
    answer.body = pattern;
    answer.size = (size_t)a->role->greet;
    wss_reply(server, a->conn, &answer);
}

static void on_answer(const wss_event *e) {
    answer_it((actor *)e->context);
}

static void on_http(const wss_event *e) {
    actor *a = actor_of(e);
    int struck = block(BEFORE, strikes(AT_HANDLER));
    a->conn = e->conn;
    if (a->role->answer_ms) wss_timer_start(e->server, a->role->answer_ms, 0, on_answer, a);
    else answer_it(a);
    block(AFTER, struck);
}

static void on_broadcast(const wss_event *e) {
    int struck = block(BEFORE, strikes(AT_HANDLER));
    if (running() < us(scene->broadcast_end)) {
        make_message(outgoing, 'b', broadcasts, (size_t)scene->broadcast_size);
        if (wss_broadcast_data(e->server, WSS_BINARY, outgoing, (size_t)scene->broadcast_size) == WSS_OK) {
            broadcasts++;
            for (int i = 0; i < actor_count; i++) actors[i].told += actors[i].is_open && !actors[i].asked_to_close;
        }
    }
    block(AFTER, struck);
}

static void on_pause(const wss_event *e) {
    actor *a = (actor *)e->context;
    a->to_pause = 1;
    wss_pause(e->server, a->conn);
}

static void on_resume(const wss_event *e) {
    actor *a = (actor *)e->context;
    a->to_pause = 0;
    wss_resume(e->server, a->conn);
}

static void on_close(const wss_event *e) {
    actor *a = (actor *)e->context;
    close_it(a);
}

static void on_stop(const wss_event *e) {
    wss_stop(e->server, 60000);
}

/* ---- one run ---- */

static void begin_actor(int index, const role *played) {
    actor *a = &actors[index];
    sim_pipe inbox = a->inbox, air = a->air, frame = a->frame, answers = a->answers;
    memset(a, 0, sizeof *a);
    a->inbox = inbox;
    a->air = air;
    a->frame = frame;
    a->answers = answers;
    a->inbox.head = a->inbox.size = a->air.head = a->air.size = 0;
    a->frame.head = a->frame.size = a->answers.head = a->answers.size = 0;
    a->role = played;
    a->index = index;
    a->connect_at = sim.now + us(played->connect_ms);
    if (played->greet_ms) wss_timer_start(server, played->greet_ms, 0, on_greet, a);
    if (played->pause_ms) wss_timer_start(server, played->pause_ms, 0, on_pause, a);
    if (played->resume_ms) wss_timer_start(server, played->resume_ms, 0, on_resume, a);
    if (played->close_ms) wss_timer_start(server, played->close_ms, 0, on_close, a);
}

static void begin_server(wss_options *options) {
    wss_options own;
    queue = NULL;
    if (scene->queue) {
        sim_queue_options(&own);
        queue = wss_queue_create(&own, NULL);
        options->queue = queue;
    }
    if (scene->max_queued) options->max_queued = scene->max_queued;
    options->idle_ms = scene->idle_ms;
    server = wss_create(options, NULL);
    if (!server) abort();
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    wss_on_data(server, on_data, NULL);
    wss_on_http(server, on_http, NULL);
    if (scene->broadcast_ms) wss_timer_start(server, scene->broadcast_ms, scene->broadcast_ms, on_broadcast, NULL);
    if (scene->stop_ms) wss_timer_start(server, scene->stop_ms, 0, on_stop, NULL);
}

static void drain_queue(void) {
    if (!queue || sim.now < drain_at) return;
    if (strikes(AT_DRAIN)) {
        stand(now_struck.ms);
        drain_at = stood_until;
        return;
    }
    wss_queue_poll(queue, 0);
}

/* All are done, and what they got is known. */
static int all_over(void) {
    int over = 1;
    for (int i = 0; i < actor_count; i++) {
        actor *a = &actors[i];
        if (a->peer && a->peer->server_gone && !a->closed_run) a->closed_run = running() + 1;
        over &= a->role->bound_ms ? a->closed_run != 0 : a->over && a->closed_run != 0;
    }
    return over && !server->open;
}

static void turn(void) {
    int timeout = 60000;
    if (queue && sim.now < drain_at) timeout = (int)((drain_at - sim.now) / 1000 + 1);
    if (stopped) { /* what the kernel has of it still leaves */
        pass_until(sim.now + us(1000));
        return;
    }
    if (wss_poll(server, timeout) != WSS_OK) {
        if (!scene->stop_ms) fail(NULL, "the server has ended");
        stopped = 1;
        return;
    }
    sim_check(server);
    drain_queue();
}

static void verify_attacker(actor *a) {
    char text[100];
    uint64_t took = a->closed_run ? (a->closed_run - a->opened_run) / 1000 : UINT64_MAX;
    if (a->closed_run && took <= (uint64_t)(a->role->bound_ms + SLACK)) return;
    if (!a->closed_run) snprintf(text, sizeof text, "an attacker that is never ended");
    else snprintf(text, sizeof text, "an attacker that is ended after %d ms", (int)took);
    fail(a, text);
}

/* How an honest peer is to end, by what it and the application do. */
static int wanted_cause(const role *r) {
    if (scene->stop_ms) return WSS_CAUSE_STOPPING;
    if (r->close_ms) return WSS_CAUSE_LOCAL_CLOSE;
    return r->ends == FINISHES ? WSS_CAUSE_PEER_VANISHED : WSS_CAUSE_PEER_CLOSED;
}

static int wanted_code(const role *r) {
    if (scene->stop_ms) return WSS_CLOSE_GOING_AWAY;
    return r->close_ms ? 4001 : WSS_CLOSE_NORMAL;
}

static void verify_opened(actor *a) {
    const role *r = a->role;
    int wanted = wanted_cause(r);
    int code = wanted_code(r);
    char text[100];
    if (a->ended != 1 || a->cause != wanted) {
        snprintf(text, sizeof text, "an honest peer that is ended: %s", wss_cause_text(a->cause));
        fail(a, text);
    }
    if (r->ends != FINISHES && (!a->heard || a->code != code)) fail(a, "a Close that did not come, or with another code");
    if (a->greets_got != a->greeted) fail(a, "not all it was greeted with has come");
    if (a->told_got < a->told) fail(a, "not all that was broadcast has come");
    if (a->echoed != a->echoes) fail(a, "not every echo has come");
    if (r->ends && a->arrived != (unsigned)r->messages) fail(a, "not all that it sent has come");
}

static void verify(actor *a) {
    if (a->role->bound_ms) {
        verify_attacker(a);
        return;
    }
    if (!a->over) fail(a, "an honest peer whose end never comes");
    if (a->lost) fail(a, "an honest peer that is reset");
    if (a->role->way == OPENS) verify_opened(a);
    else if (a->body_got != (size_t)a->role->greet) fail(a, "an answer that did not come whole");
}

static void tell(void) {
    for (int i = 0; i < actor_count; i++) {
        actor *a = &actors[i];
        printf("  %-28s %s %7.3f s, %s, code %d, got %u+%u+%u of %u+%u+%u, sent %u arrived %u, body %zu\n", a->role->name,
               a->role->bound_ms ? "attacker" : "honest  ", (double)(a->closed_run - a->opened_run) / 1e6,
               wss_cause_text(a->cause), a->code, a->greets_got, a->told_got, a->echoed, a->greeted, a->told, a->echoes,
               a->written, a->arrived, a->body_got);
    }
}


static void run_scene(const scenario *which) {
    wss_options options;
    int before = test_broken;
    scene = which;
    sim_begin(1);
    sim_on_violation = violated;
    sim_options(&options);
    memset(seen, 0, sizeof seen);
    broadcasts = 0;
    drain_at = 0;
    stopped = 0;
    armed = 0;
    began = stood_from = stood_until = sim.now;
    stood_before = 0;
    begin_server(&options);
    for (actor_count = 0; actor_count < CAST && which->cast[actor_count].name; actor_count++)
        begin_actor(actor_count, &which->cast[actor_count]);
    armed = 1;
    for (int turns = 0; !all_over() && running() < us(600000) && test_broken - before < 3; turns++) {
        if (turns == 50000) fail(NULL, "turns without end");
        turn();
    }
    armed = 0;
    drain_at = 0;
    if (queue) wss_queue_poll(queue, 0);
    for (int i = 0; i < actor_count; i++) verify(&actors[i]);
    if (verbose) tell();
    for (int i = 0; i < actor_count; i++) peer_free(actors[i].peer);
    CHECK_INT(sim_destroy(server), WSS_OK);
    if (queue) CHECK_INT(wss_queue_destroy(queue), WSS_OK);
    sim_finish();
}

/* ---- scenarios ---- */

#define NEVER_SPEAKS {.name = "says nothing", .way = SAYS_NOTHING, .bound_ms = 15000}
#define SLOW_REQUEST {.name = "requests a byte at a time", .way = DRIBBLES, .step_ms = 500, .writes = 2, .bound_ms = 15000}
#define SILENT {.name = "never answers a ping", .reads = ALL, .mute = 1, .bound_ms = 40000}
#define DRIBBLER {.name = "dribbles a message", .reads = ALL, .messages = 1, .size = 1000, .step_ms = 10000, \
    .writes = -1, .bound_ms = 31600}
#define GONE_SILENT {.name = "is gone while silent", .reads = ALL, .gone_ms = 25000, .bound_ms = 65000}

static const scenario scenarios[] = {
    {.name = "talk",
     .cast = {{.name = "echoes from afar", .latency_ms = 5000, .reads = ALL, .messages = 4, .size = 300,
               .rest_ms = 3000, .waits = 1, .echo = 1, .ends = CLOSES},
              {.name = "silent from afar", .latency_ms = 5000, .reads = ALL, .close_ms = 100000},
              {.name = "writes 1 KB a second", .reads = ALL, .messages = 1, .size = 60000, .step_ms = 1000,
               .writes = 1000, .ends = CLOSES},
              {.name = "ends its stream", .reads = ALL, .messages = 3, .size = 2000, .rest_ms = 20000, .echo = 1,
               .ends = FINISHES},
              SILENT, DRIBBLER, GONE_SILENT, SLOW_REQUEST}},
    {.name = "alone", /* so that waits are long */
     .cast = {{.name = "silent from afar", .latency_ms = 5000, .reads = ALL, .close_ms = 130000},
              {.name = "silent", .connect_ms = 7000, .reads = ALL, .close_ms = 150000},
              NEVER_SPEAKS, SILENT, GONE_SILENT}},
    {.name = "crowd", /* all are asked for a sign of life at once */
     .cast = {{.name = "silent 1", .latency_ms = 5000, .reads = ALL, .close_ms = 90000},
              {.name = "silent 2", .latency_ms = 5000, .reads = ALL, .close_ms = 90000},
              {.name = "silent 3", .latency_ms = 5000, .reads = ALL, .close_ms = 90000},
              {.name = "silent 4", .latency_ms = 5000, .reads = ALL, .close_ms = 90000},
              {.name = "never answers a ping", .latency_ms = 5000, .reads = ALL, .mute = 1, .bound_ms = 45000}}},
    {.name = "broadcast", .broadcast_ms = 1000, .broadcast_size = 1000, .broadcast_end = 80000,
     .cast = {{.name = "reads all", .reads = ALL, .close_ms = 85000},
              {.name = "reads all from afar", .latency_ms = 5000, .reads = ALL, .close_ms = 85000},
              {.name = "reads 1.2 KB a second", .reads = 1200, .out_limit = 65536, .close_ms = 85000},
              {.name = "never reads", .out_limit = 10000, .bound_ms = 41000},
              {.name = "is gone", .reads = ALL, .gone_ms = 20000, .bound_ms = 60000},
              {.name = "is gone, network full", .reads = ALL, .gone_ms = 20000, .out_limit = 5000, .bound_ms = 60000},
              {.name = "reads a byte now and then", .reads = -2, .step_ms = 3000, .out_limit = 10000, .bound_ms = 72000},
              NEVER_SPEAKS}},
    {.name = "bursts",
     .cast = {{.name = "reads 80,000", .reads = 80000, .greet = 225000, .greets = 4, .out_limit = 1000000,
               .close_ms = 90000},
              {.name = "reads 20,000", .reads = 20000, .greet = 225000, .greets = 4, .out_limit = 450000,
               .close_ms = 90000},
              {.name = "reads 14,000", .reads = 14000, .greet = 150000, .greets = 3, .out_limit = 400000,
               .close_ms = 90000},
              {.name = "reads 6,000", .reads = 6000, .greet = 225000, .greets = 4, .out_limit = 600000, .close_ms = 90000},
              {.name = "reads 1,000", .reads = 1000, .greet = 30000, .greets = 5, .out_limit = 100000, .close_ms = 90000},
              {.name = "never reads", .greet = 225000, .greets = 4, .bound_ms = 30000},
              {.name = "reads a byte now and then", .reads = -2, .step_ms = 3000, .greet = 200000, .greets = 2,
               .bound_ms = 120000}}},
    {.name = "uploads",
     .cast = {{.name = "writes 1 KB a second from afar", .latency_ms = 5000, .reads = ALL, .messages = 2,
               .size = 30000, .step_ms = 1000, .writes = 1000, .echo = 1, .ends = CLOSES},
              {.name = "writes 10 KB a second", .reads = ALL, .messages = 2, .size = 300000, .step_ms = 500,
               .writes = 10000, .in_limit = 32768, .ends = CLOSES_HALF},
              {.name = "is paused", .reads = ALL, .messages = 2, .size = 20000, .step_ms = 1000, .writes = 1000,
               .in_limit = 8192, .pause_ms = 10000, .resume_ms = 75000, .echo = 1, .ends = CLOSES},
              {.name = "is paused and silent", .reads = ALL, .pause_ms = 5000, .resume_ms = 90000, .close_ms = 120000},
              DRIBBLER, GONE_SILENT}},
    {.name = "full",
     .cast = {{.name = "half a message behind a queue", .reads = 12000, .step_ms = 500, .messages = 1, .size = 40000,
               .writes = 1000, .greet = 225000, .greets = 4, .greet_ms = 5000, .in_limit = 8192, .ends = CLOSES},
              {.name = "reads its echoes slowly", .reads = 20000, .step_ms = 500, .messages = 20, .size = 50000,
               .echo = 1, .in_limit = 65536, .ends = CLOSES},
              {.name = "silent from afar", .latency_ms = 5000, .reads = ALL, .close_ms = 100000},
              {.name = "never reads its echoes", .messages = 1000, .size = 50000, .echo = 1, .bound_ms = 31000}}},
    {.name = "floods", .max_queued = 65536,
     .cast = {{.name = "echoes", .reads = ALL, .messages = 8, .size = 200, .rest_ms = 5000, .waits = 1, .echo = 1,
               .ends = CLOSES},
              {.name = "silent from afar", .latency_ms = 5000, .reads = ALL, .close_ms = 60000},
              {.name = "floods messages", .messages = 1000000, .size = 20, .writes = 60000, .echo = 1,
               .in_limit = 4096, .out_limit = 4096, .bound_ms = 33000},
              {.name = "floods pings", .messages = 1000000, .size = 100, .first = 0x89, .writes = 8000,
               .in_limit = 2048, .out_limit = 4096, .bound_ms = 32000}}},
    {.name = "pages",
     .cast = {{.name = "reads a page", .way = ASKS, .reads = 5000, .greet = 300000, .out_limit = 16384},
              {.name = "reads a page from far away", .way = ASKS, .reads = 60000, .step_ms = 500, .greet = 1000000,
               .latency_ms = 5000, .out_limit = 900000},
              {.name = "half-closes behind its request", .way = ASKS, .reads = 10000, .greet = 300000, .ends = FINISHES},
              {.name = "is answered late", .way = ASKS, .reads = ALL, .greet = 1000, .answer_ms = 8000},
              {.name = "never reads a page", .way = ASKS, .greet = 300000, .bound_ms = 30000},
              {.name = "reads a page a byte at a time", .way = ASKS, .reads = -2, .step_ms = 3000, .greet = 300000,
               .out_limit = 10000, .bound_ms = 60000},
              {.name = "never ends TCP", .way = ASKS, .reads = ALL, .mute = 1, .greet = 1000, .bound_ms = 10000},
              SLOW_REQUEST}},
    {.name = "closes",
     .cast = {{.name = "is closed behind 900,000 bytes", .reads = 60000, .greet = 225000, .greets = 4, .close_ms = 1000},
              {.name = "is closed, network large", .reads = 60000, .greet = 225000, .greets = 4, .out_limit = 800000,
               .close_ms = 1000},
              {.name = "ends its stream behind 600,000", .reads = 60000, .messages = 3, .size = 200000, .echo = 1,
               .ends = FINISHES},
              {.name = "is closed from afar", .latency_ms = 5000, .reads = ALL, .greet = 1000, .close_ms = 20000},
              {.name = "closes behind 900,000 bytes", .reads = 60000, .messages = 1, .size = 100, .greet = 225000,
               .greets = 4, .ends = CLOSES_HALF},
              {.name = "ends its stream and never reads", .messages = 3, .size = 200000, .echo = 1, .ends = FINISHES,
               .bound_ms = 31000},
              {.name = "never answers a Close", .reads = ALL, .mute = 1, .close_ms = 10000, .bound_ms = 15000},
              {.name = "goes on sending", .reads = ALL, .mute = 1, .messages = 100000, .size = 1000, .writes = 20000,
               .close_ms = 10000, .bound_ms = 15000},
              {.name = "reads nothing before a Close", .greet = 225000, .greets = 2, .close_ms = 10000, .bound_ms = 30000},
              {.name = "never ends TCP", .reads = ALL, .mute = 1, .messages = 1, .size = 10, .ends = CLOSES,
               .bound_ms = 5000}}},
    {.name = "idle", .idle_ms = 30000,
     .cast = {{.name = "sends now and then", .reads = ALL, .messages = 5, .size = 100, .rest_ms = 20000, .ends = CLOSES},
              {.name = "sends while it is not read", .reads = ALL, .messages = 6, .size = 100, .rest_ms = 20000,
               .pause_ms = 10000, .resume_ms = 75000, .ends = CLOSES},
              {.name = "is not read, and silent", .reads = ALL, .pause_ms = 10000, .resume_ms = 75000, .close_ms = 85000},
              {.name = "sends nothing but pongs", .reads = ALL, .bound_ms = 30000},
              {.name = "sends nothing", .reads = ALL, .mute = 1, .bound_ms = 35000}}},
    {.name = "stop", .stop_ms = 25000, .most_ms = 10000,
     .cast = {{.name = "reads 60,000", .reads = 60000, .greet = 225000, .greets = 4},
              {.name = "reads 25,000", .reads = 25000, .greet = 225000, .greets = 4, .out_limit = 300000},
              {.name = "silent from afar", .latency_ms = 5000, .reads = ALL},
              {.name = "writes 1 KB a second", .reads = ALL, .messages = 1, .size = 60000, .writes = 1000},
              {.name = "never answers a Close", .reads = ALL, .mute = 1, .bound_ms = 30000},
              {.name = "never reads", .greet = 225000, .greets = 4, .bound_ms = 30000},
              NEVER_SPEAKS, SLOW_REQUEST}},
    {.name = "queue and broadcast", .queue = 1, .broadcast_ms = 1000, .broadcast_size = 1000, .broadcast_end = 50000,
     .cast = {{.name = "reads all", .reads = ALL, .messages = 5, .size = 1000, .rest_ms = 5000, .waits = 1, .echo = 1,
               .close_ms = 60000},
              {.name = "reads 1.2 KB a second", .reads = 1200, .close_ms = 60000},
              {.name = "is paused", .reads = ALL, .pause_ms = 3000, .resume_ms = 50000, .close_ms = 60000},
              {.name = "never reads", .out_limit = 10000, .bound_ms = 41000},
              {.name = "is gone", .reads = ALL, .gone_ms = 20000, .bound_ms = 60000}}},
    {.name = "queue", .queue = 1,
     .cast = {{.name = "echoes from afar", .latency_ms = 5000, .reads = ALL, .messages = 4, .size = 300,
               .rest_ms = 3000, .waits = 1, .echo = 1, .ends = CLOSES},
              {.name = "sends many", .reads = ALL, .messages = 300, .size = 500, .rest_ms = 200, .echo = 1, .ends = CLOSES},
              {.name = "writes 2 KB a second", .reads = ALL, .messages = 3, .size = 30000, .step_ms = 1000,
               .writes = 2000, .echo = 1, .ends = CLOSES},
              {.name = "silent", .reads = ALL, .close_ms = 90000},
              {.name = "never reads its echoes", .messages = 1000, .size = 50000, .echo = 1, .bound_ms = 31000},
              SILENT, DRIBBLER, GONE_SILENT}},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

/* ---- the sweep ---- */

static const char *only;
static int once; /* no more points behind the first that fails */
static long stride = (long)STRIDE * TEST_STRIDE, part, parts = 1;
static long drawn; /* points of the whole set so far */

static const int stops[] = {1000, 10000, 42000, 600000, 3600000};

static void describe(const point *p) {
    static const char *const places[] = {"undisturbed", "wait", "call", "handler", "drain"};
    static const char *const hows[] = {"before", "behind",           "and interrupted", "clock",
                                       "few events", "interrupted often", "again and again"};
    snprintf(label, sizeof label, "scenario %s, %s %ld, %s, %d ms", scene->name, places[p->where], p->at, hows[p->how],
             p->ms);
}

static void try_point(const scenario *which, int where, int how, int milliseconds, long at) {
    if (which->most_ms && milliseconds > which->most_ms) return;
    long number = drawn++;
    if (once && failures) return;
    if (number % stride || number / stride % parts != part) return;
    now_struck.where = where;
    now_struck.how = how;
    now_struck.ms = milliseconds;
    now_struck.at = at;
    scene = which;
    describe(&now_struck);
    run_scene(which);
    points_run++;
}

static void try_wait(const scenario *which, long at) {
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        try_point(which, AT_WAIT, BEFORE, stops[i], at);
        try_point(which, AT_WAIT, AFTER, stops[i], at);
        try_point(which, AT_WAIT, INTERRUPTED, stops[i], at);
    }
    try_point(which, AT_WAIT, INTERRUPTED, 0, at);
    try_point(which, AT_WAIT, FEW, 0, at);
    try_point(which, AT_WAIT, FEW, 42000, at);
    try_point(which, AT_WAIT, OFTEN, 0, at);
    try_point(which, AT_WAIT, AGAIN, 3000, at);
    if (at < NOTED && ran_out[at]) try_point(which, AT_WAIT, JUMP, 42000, at);
    if (at < NOTED && ran_out[at]) try_point(which, AT_WAIT, JUMP, 3600000, at);
}

static void sweep(const scenario *which) {
    long counts[AT_DRAIN + 1];
    static const int blocks[] = {1000, 42000, 300000};
    memset(&now_struck, 0, sizeof now_struck);
    scene = which;
    describe(&now_struck);
    int told = verbose;
    if (verbose) printf("%s\n", which->name);
    run_scene(which);
    verbose = 0;
    memcpy(counts, seen, sizeof counts);
    if (told)
        printf("  %ld waits, %ld calls, %ld handlers, %ld drains\n", counts[AT_WAIT], counts[AT_CALL], counts[AT_HANDLER],
               counts[AT_DRAIN]);
    for (long at = 1; at <= counts[AT_WAIT]; at++) try_wait(which, at);
    for (long at = 1; at <= counts[AT_CALL]; at++) {
        try_point(which, AT_CALL, BEFORE, 42000, at);
        try_point(which, AT_CALL, BEFORE, 3600000, at);
        if (at < NOTED && !wakes[at]) try_point(which, AT_CALL, JUMP, 42000, at);
    }
    for (int i = 0; i < 3; i++) {
        for (long at = 1; at <= counts[AT_HANDLER]; at++) {
            try_point(which, AT_HANDLER, BEFORE, blocks[i], at);
            try_point(which, AT_HANDLER, AFTER, blocks[i], at);
        }
        for (long at = 1; at <= counts[AT_DRAIN]; at++) try_point(which, AT_DRAIN, BEFORE, blocks[i], at);
    }
    verbose = told;
}

static void test_sweep(void) {
    for (int i = 0; i < SCENARIOS; i++)
        if (!only || strcmp(only, scenarios[i].name) == 0) sweep(&scenarios[i]);
}

/* ---- what was found before, each by its name ---- */

static scenario found;

static void run_found(const char *name) {
    memset(&now_struck, 0, sizeof now_struck);
    found.name = name;
    scene = &found;
    describe(&now_struck);
    run_scene(&found);
}

static role *add_reader(int at, const char *name, int rate, int greets, size_t out_limit) {
    role *r = &found.cast[at];
    r->name = name;
    r->reads = rate;
    r->greet = 225000;
    r->greets = greets;
    r->out_limit = out_limit;
    return r;
}

/* A process that was stopped for longer than ping_ms and pong_ms together took its time for that of its clients, and ended
   both. */
static void test_clients_outlive_a_stop_of_42_seconds(void) {
    static const scenario healthy = {.name = "healthy",
        .cast = {{.name = "echoes", .latency_ms = 20, .reads = ALL, .messages = 10, .size = 100, .rest_ms = 5000,
                  .waits = 1, .echo = 1, .ends = CLOSES},
                 {.name = "silent", .latency_ms = 20, .reads = ALL, .close_ms = 100000}}};
    memset(&now_struck, 0, sizeof now_struck);
    scene = &healthy;
    describe(&now_struck);
    run_scene(&healthy);
    long waits = seen[AT_WAIT];
    now_struck.where = AT_WAIT;
    now_struck.ms = 42000;
    for (now_struck.at = 1; now_struck.at <= waits; now_struck.at++)
        for (now_struck.how = BEFORE; now_struck.how <= INTERRUPTED; now_struck.how++) {
            describe(&now_struck);
            run_scene(&healthy);
        }
}

/* The kernel tells of room when a third of what it holds has left: with much in the network that was later than stall_ms. */
static void test_steady_readers_behind_bursts(void) {
    static const int rates[] = {80000, 40000, 20000, 14000, 6000};
    static const char *const names[] = {"reads 80,000", "reads 40,000", "reads 20,000", "reads 14,000", "reads 6,000"};
    static const size_t networks[] = {65536, 450000, 700000, 4000000};
    for (int greets = 2; greets <= 4; greets += 2)
        for (size_t n = 0; n < sizeof networks / sizeof *networks; n++) {
            memset(&found, 0, sizeof found);
            for (int i = 0; i < 5; i++) add_reader(i, names[i], rates[i], greets, networks[n])->close_ms = 90000;
            run_found("bursts, networks of all sizes");
        }
}

/* The time for the closing handshake ran out while what was to leave before the Close was still being read. */
static void test_a_close_behind_much_arrives(void) {
    static const size_t networks[] = {65536, 300000, 1000000};
    for (int stops_too = 0; stops_too < 2; stops_too++) {
        memset(&found, 0, sizeof found);
        for (int i = 0; i < 3; i++) add_reader(i, "reads 60,000", 60000, 4, networks[i])->close_ms = stops_too ? 0 : 1000;
        found.stop_ms = stops_too ? 1000 : 0;
        run_found(stops_too ? "wss_stop behind 900,000 bytes" : "wss_close behind 900,000 bytes");
    }
}

static void test_an_answer_of_a_mebibyte_arrives(void) {
    static const size_t networks[] = {65536, 300000, 1100000};
    memset(&found, 0, sizeof found);
    for (int i = 0; i < 6; i++) {
        role *r = &found.cast[i];
        r->name = i < 3 ? "reads a large page" : "reads a large page, half-closed";
        r->way = ASKS;
        r->reads = 60000;
        r->greet = 1 << 20;
        r->out_limit = networks[i % 3];
        r->ends = i < 3 ? STAYS : FINISHES;
    }
    run_found("an answer of 1 MiB");
}

/* What it had sent of a message came before its connection was full, and its rest could not come: that was its fault. */
static void test_half_a_message_behind_a_full_queue(void) {
    memset(&found, 0, sizeof found);
    for (int i = 0; i < 3; i++) {
        static const int rates[] = {12000, 16000, 20000}; /* full for 53, 40, and 32 seconds */
        role *r = add_reader(i, "half a message in", rates[i], 4, 65536);
        r->greet_ms = 3000;
        r->messages = 1;
        r->size = 40000;
        r->writes = 300;
        r->in_limit = 4096;
        r->ends = CLOSES;
    }
    run_found("half a message, and full");
}

static int ended_cause, ended_code;

static void note_end(const wss_event *e) {
    ended_cause = e->cause;
    ended_code = e->code;
}

/* The socket was closed with unread input, which destroyed the Close on its way. */
static void test_the_code_of_a_message_too_large_arrives_while_it_is_sent(void) {
    static const char head[14] = {(char)0x82, (char)0xff, 0, 0, 0, 0, 1, 0x31, 0x2d, 0, 0, 0, 0, 0}; /* 20,000,000 bytes */
    wss_options options;
    char payload[125];
    size_t left = 0x01312d00, size = 0;
    sim_begin(1);
    sim_on_violation = violated;
    sim_options(&options);
    snprintf(label, sizeof label, "a message of 20 MB");
    server = wss_create(&options, NULL);
    if (!server) abort();
    actor_count = 0;
    wss_on_disconnect(server, note_end, NULL);
    sim_settle(server);
    peer *client = peer_open(server);
    peer_write(client, head, sizeof head);
    while (left) { /* in four seconds */
        size_t sent = peer_write(client, pattern, left < 65536 ? left : 65536);
        if (!sent) break;
        left -= sent;
        sim_pass(server, 13);
    }
    CHECK_INT(left, 0);
    CHECK(!client->reset);
    CHECK_INT(peer_take(client, payload, sizeof payload, &size), 0x88);
    CHECK(size >= 2 && ((unsigned char)payload[0] << 8 | (unsigned char)payload[1]) == WSS_CLOSE_TOO_BIG);
    CHECK_INT(ended_cause, WSS_CAUSE_TOO_BIG);
    CHECK_INT(ended_code, WSS_CLOSE_TOO_BIG);
    peer_free(client);
    CHECK_INT(sim_destroy(server), WSS_OK);
    sim_finish();
}

static void prepare(void) {
    for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = (char)('a' + (i * 7 + i / 26 + i / 1000) % 26);
    test_system.epoll_wait = live_epoll_wait;
    test_system.recv = live_recv;
    test_system.send = live_send;
    test_system.sendmsg = live_sendmsg;
    test_system.accept4 = live_accept4;
    test_system.clock_gettime = live_clock_gettime;
    test_system.close = live_close;
    test_system.epoll_ctl = live_epoll_ctl;
    test_system.ioctl = live_ioctl;
    test_system.shutdown = live_shutdown;
}

static void read_arguments(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "verbose") == 0) verbose = all_failures = 1;
        else if (strcmp(argv[i], "once") == 0) once = 1;
        else if (strncmp(argv[i], "scenario=", 9) == 0) only = argv[i] + 9;
        else if (strncmp(argv[i], "stride=", 7) == 0) stride = atol(argv[i] + 7);
        else if (sscanf(argv[i], "part=%ld/%ld", &part, &parts) != 2) exit(2);
    }
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    read_arguments(argc, argv);
    prepare();
    if (!only && !part) {
        RUN(test_clients_outlive_a_stop_of_42_seconds);
        RUN(test_steady_readers_behind_bursts);
        RUN(test_a_close_behind_much_arrives);
        RUN(test_an_answer_of_a_mebibyte_arrives);
        RUN(test_half_a_message_behind_a_full_queue);
        RUN(test_the_code_of_a_message_too_large_arrives_while_it_is_sent);
    }
    RUN(test_sweep);
    printf("liveness: %ld points, %d scenarios, one in %ld of %ld\n", points_run, SCENARIOS, stride, drawn);
    return test_end("liveness");
}
