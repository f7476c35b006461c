/* The load generator of the benchmark: one thread, epoll, prebuilt masked frames, a closed loop. It checks the accept key,
   opcode, length and (with --verify) every byte that comes back, and prints one line of JSON whose per_cpu is messages per
   CPU second of the server. load MODE PORT [OPTION VALUE ...]; usage() names the modes and options. */
#define _GNU_SOURCE 1
#include "wire.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BUFFER = 1 << 20,
    EVENTS = 1024,
    HEAD = 4096,       /* longest head of a handshake's answer */
    KEYS = 64,         /* different keys */
    OPENING = 128,     /* handshakes under way at one time */
    SAMPLES = 1 << 22, /* round trips that are remembered */
    WARM = 100         /* connections that are open before memory is measured */
};

enum { OFF, CONNECTING, REQUESTED, OPEN, CLOSING };

enum { MODE_ECHO, MODE_BROADCAST, MODE_CHAT, MODE_CHURN, MODE_IDLE, MODE_POSTS };

static struct {
    const char *mode_name;
    const char *kind;
    int mode, port, pid, thread, conns, addresses, depth, burst, verify, spin, reset, steps, touch;
    size_t size;
    double seconds, warmup;
} set = {"", "binary", 0, 0, 0, 0, 64, 1, 1, 1, 0, 0, 0, 0, 0, 20, 1.0, 0.2};

/* The messages that are sent, one after the other, again and again: as frames, twice in a row so that a run of them is
   contiguous wherever it begins, and as the payloads that must come back. */
static struct {
    int count;
    int opcode;
    size_t frame; /* bytes of one */
    size_t ring;  /* bytes of all */
    char *frames;
    char *payloads;
} texts;

typedef struct conn {
    size_t send_at; /* in the ring of frames */
    size_t owed;    /* bytes to send from there */
    uint64_t got;   /* messages */
    uint64_t left;  /* bytes of the current frame still to come */
    size_t at;      /* bytes of the current message that came */
    char *head;     /* of the handshake's answer, while that comes */
    uint64_t sent_at;
    int fd;
    unsigned short head_size;
    unsigned char kept; /* bytes of a frame's header in part */
    unsigned char state;
    unsigned char opcode; /* of the current frame */
    unsigned char is_last;
    unsigned char is_blocked;
    unsigned char key;
    char part[14];
} conn;

static conn *conns;
static int poller;
static char *buffer;
static char keys[KEYS][WIRE_KEY];
static char accepts[KEYS][WIRE_ACCEPT];
static char requests[KEYS][256];
static int opened, opening, asked; /* connections: open now, on the way, begun */
static int is_sending;             /* echo and broadcast go on with the next message */
static int is_churning;
static uint64_t messages, cycles, pongs;
static uint64_t in_flight; /* messages that must still come */
static uint32_t *samples;
static size_t sample_count;

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fprintf(stderr, "load: ");
    vfprintf(stderr, format, values);
    fprintf(stderr, "\n");
    va_end(values);
    exit(1);
}

static void *get(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) fail("no memory");
    return memory;
}

static uint32_t chance(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

/* ---- messages */

static void fill_utf8(char *out, size_t size) {
    static const char *const some[] = {"\xd0\x96", "\xc3\xa9", "\xe6\xbc\xa2", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
                                       "\xd7\xa9", "\xe3\x81\x82", " "};
    size_t at = 0;
    while (at + 4 <= size) {
        const char *one = some[chance() % 8];
        memcpy(out + at, one, strlen(one));
        at += strlen(one);
    }
    while (at < size) out[at++] = '.';
}

/* An object of a fixed shape, as long as asked. */
static void fill_json(char *out, size_t size) {
    char text[4096];
    int length = snprintf(text, sizeof text,
                          "{\"__MESSAGE__\":\"echo\",\"room\":%u,\"user\":\"someone\",\"at\":%u.%03u,\"tags\":[\"a\",\"b\",%u],"
                          "\"deep\":{\"yes\":true,\"none\":null},\"text\":\"",
                          100 + chance() % 900, 1000000 + chance() % 1000000, chance() % 1000, 10 + chance() % 90);
    if (length < 0 || (size_t)length + 2 > size) fail("typed messages have at least %d bytes", length + 2);
    memcpy(out, text, (size_t)length);
    for (size_t at = (size_t)length; at < size - 2; at++) out[at] = (char)('a' + chance() % 26);
    memcpy(out + size - 2, "\"}", 2);
}

static void fill(char *out, size_t size) {
    if (strcmp(set.kind, "utf8") == 0) fill_utf8(out, size);
    else if (strcmp(set.kind, "json") == 0) fill_json(out, size);
    else if (strcmp(set.kind, "ascii") == 0)
        for (size_t i = 0; i < size; i++) out[i] = (char)(' ' + chance() % 95);
    else if (strcmp(set.kind, "binary") == 0)
        for (size_t i = 0; i < size; i++) out[i] = (char)(unsigned char)(chance() & 255);
    else fail("no kind of message is called %s", set.kind);
}

/* Writes a masked frame; returns its size. */
static size_t put_frame(char *out, int opcode, const char *payload, size_t size) {
    uint32_t mask = chance() | 1;
    size_t at = 2;
    int more = size < 126 ? 0 : size < 65536 ? 2 : 8;
    out[0] = (char)(unsigned char)(0x80 | opcode);
    out[1] = (char)(unsigned char)(0x80 | (more == 0 ? (int)size : more == 2 ? 126 : 127));
    for (int i = more; i-- > 0;) out[at++] = (char)(unsigned char)((uint64_t)size >> (8 * i) & 255);
    memcpy(out + at, &mask, 4);
    wire_unmask(out + at + 4, payload, size, mask);
    return at + 4 + size;
}

static void make_texts(void) {
    int least = set.depth > set.burst ? set.depth : set.burst;
    texts.count = set.size >= 65536 ? 2 : 64;
    if (texts.count < least) texts.count = least;
    if (set.mode == MODE_IDLE) texts.count = 1; /* connections opened later must expect what the first one sends */
    texts.opcode = strcmp(set.kind, "binary") == 0 && set.mode != MODE_IDLE ? 2 : 1;
    if (set.mode == MODE_IDLE) set.kind = "ascii";
    texts.frame = 2 + (size_t)(set.size < 126 ? 0 : set.size < 65536 ? 2 : 8) + 4 + set.size;
    texts.ring = texts.frame * (size_t)texts.count;
    texts.frames = get(2, texts.ring);
    texts.payloads = get((size_t)texts.count, set.size + 1);
    for (int i = 0; i < texts.count; i++) {
        char *payload = texts.payloads + (size_t)i * set.size;
        fill(payload, set.size);
        put_frame(texts.frames + (size_t)i * texts.frame, texts.opcode, payload, set.size);
    }
    memcpy(texts.frames + texts.ring, texts.frames, texts.ring);
}

static void make_requests(void) {
    for (int i = 0; i < KEYS; i++) {
        unsigned char bytes[16];
        for (int j = 0; j < 16; j++) bytes[j] = (unsigned char)(chance() & 255);
        wire_base64(bytes, sizeof bytes, keys[i]);
        wire_accept(keys[i], accepts[i]);
        snprintf(requests[i], sizeof requests[i],
                 "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Key: %.24s\r\nSec-WebSocket-Version: 13\r\n\r\n", set.port, keys[i]);
    }
}

/* ---- sending */

static void put(conn *c, const char *data, size_t size) {
    if (send(c->fd, data, size, MSG_NOSIGNAL) != (ssize_t)size) fail("a small frame could not be sent: %s", strerror(errno));
}

static void flush(conn *c) {
    while (c->owed && !c->is_blocked) {
        size_t run = c->owed < texts.ring ? c->owed : texts.ring;
        ssize_t sent = send(c->fd, texts.frames + c->send_at, run, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) fail("send: %s", strerror(errno));
        if (sent < (ssize_t)run) c->is_blocked = 1;
        if (sent < 0) return;
        c->owed -= (size_t)sent;
        c->send_at = (c->send_at + (size_t)sent) % texts.ring;
    }
}

static void owe(conn *c, int count) {
    c->owed += (size_t)count * texts.frame;
    if (samples) c->sent_at = wire_now();
    flush(c);
}

static void send_close(conn *c) {
    char frame[8];
    put(c, frame, put_frame(frame, 8, "\x03\xe8", 2));
    c->state = CLOSING;
}

static void send_pong(conn *c, const char *payload, size_t size) {
    char frame[140];
    put(c, frame, put_frame(frame, 10, payload, size));
    pongs++;
}

/* ---- opening and ending */

static void begin(conn *c) {
    struct sockaddr_in address = {0};
    struct epoll_event event = {0};
    int one = 1;
    uint32_t number = (uint32_t)asked++;
    memset(c, 0, sizeof *c);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)set.port);
    address.sin_addr.s_addr = htonl(0x7f000001u + number % (uint32_t)set.addresses);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    c->state = CONNECTING;
    c->key = (unsigned char)(number % KEYS);
    opening++;
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = c;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) != 0) fail("epoll_ctl: %s", strerror(errno));
}

static void request(conn *c) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) fail("connect: %s", strerror(error));
    put(c, requests[c->key], strlen(requests[c->key]));
    c->state = REQUESTED;
}

static void end(conn *c) {
    if (c->state == OPEN || c->state == CLOSING) opened--;
    close(c->fd);
    free(c->head);
    c->head = NULL;
    c->state = OFF;
    if (set.mode != MODE_CHURN) return;
    cycles++;
    if (is_churning) begin(c);
}

static void reset(conn *c) {
    struct linger at_once = {1, 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    end(c);
}

static void is_open(conn *c) {
    c->state = OPEN;
    opening--;
    opened++;
    if (set.mode != MODE_CHURN) return;
    if (set.reset) reset(c);
    else send_close(c);
}

/* Takes the answer to the handshake. Returns how many bytes of what came belonged to it. */
static size_t read_head(conn *c, const char *data, size_t size) {
    static const char name[] = "sec-websocket-accept:";
    if (!c->head) c->head = get(1, HEAD + 1);
    size_t part = size < (size_t)(HEAD - c->head_size) ? size : (size_t)(HEAD - c->head_size);
    size_t before = c->head_size;
    memcpy(c->head + before, data, part);
    c->head_size = (unsigned short)(before + part);
    c->head[c->head_size] = 0;
    char *stop = strstr(c->head, "\r\n\r\n");
    if (!stop && c->head_size == HEAD) fail("the answer to the handshake has no end");
    if (!stop) return size;
    stop[2] = 0;
    if (strncmp(c->head, "HTTP/1.1 101 ", 13) != 0) fail("the handshake was refused: %.60s", c->head);
    char *value = strcasestr(c->head, name);
    if (!value) fail("no Sec-WebSocket-Accept");
    value += sizeof name - 1;
    while (*value == ' ') value++;
    if (strncmp(value, accepts[c->key], WIRE_ACCEPT) != 0 || value[WIRE_ACCEPT] != '\r') fail("wrong Sec-WebSocket-Accept");
    size_t used = (size_t)(stop - c->head) + 4 - before;
    free(c->head);
    c->head = NULL;
    is_open(c);
    return used;
}

/* ---- receiving */

static void take_sample(const conn *c) {
    uint64_t spent = wire_now() - c->sent_at;
    if (sample_count < SAMPLES) samples[sample_count++] = spent > UINT32_MAX ? UINT32_MAX : (uint32_t)spent;
}

/* A message has come whole. Returns how many the connection sends now. */
static int on_message(conn *c) {
    if (c->at != set.size) fail("a message of %zu bytes came back, not %zu", c->at, set.size);
    c->at = 0;
    c->got++;
    messages++;
    if (set.mode == MODE_POSTS) return 0;
    if (!in_flight) fail("a message came that nobody sent");
    in_flight--;
    if (samples) take_sample(c);
    if (set.mode != MODE_ECHO || !is_sending) return 0;
    in_flight++;
    return 1;
}

static void check_payload(const conn *c, const char *data, size_t size) {
    if (c->at + size > set.size) fail("a message longer than what was sent");
    if (!set.verify || set.mode == MODE_POSTS) return;
    uint64_t number = set.mode == MODE_CHAT && c == conns ? c->got / 2 : c->got; /* to all, and once more to its sender */
    const char *sent = texts.payloads + number % (uint64_t)texts.count * set.size;
    if (memcmp(sent + c->at, data, size) != 0) fail("message %llu came back changed", (unsigned long long)c->got);
}

static void on_control(conn *c, const char *payload, size_t size) {
    if (c->opcode == 9) send_pong(c, payload, size);
    if (c->opcode != 8) return;
    if (c->state != CLOSING) fail("the server closed a connection, code %d",
                                  size < 2 ? 1005 : (unsigned char)payload[0] << 8 | (unsigned char)payload[1]);
    if (size != 2 || memcmp(payload, "\x03\xe8", 2) != 0) fail("another Close came back than was sent");
    end(c);
}

/* Takes a header, which may be in parts. Returns the bytes used; the header is whole when *is_whole. */
static size_t read_header(conn *c, const char *data, size_t size, int *is_whole) {
    size_t used = 0;
    size_t need = 2;
    const unsigned char *part = (const unsigned char *)c->part;
    *is_whole = 0;
    for (;;) {
        while (c->kept < need && used < size) c->part[c->kept++] = data[used++];
        if (c->kept < need) return used;
        size_t whole = (part[1] & 127) == 127 ? 10 : (part[1] & 127) == 126 ? 4 : 2;
        if (need == whole) break;
        need = whole;
    }
    c->left = need == 2 ? part[1] : 0;
    for (size_t i = 2; i < need; i++) c->left = c->left << 8 | part[i];
    if (part[0] & 0x70 || part[1] & 0x80) fail("reserved bit or masked frame");
    c->opcode = part[0] & 15;
    c->is_last = part[0] >> 7;
    c->kept = 0;
    if (c->opcode < 8 && c->opcode != (c->at ? 0 : texts.opcode)) fail("opcode %d instead of %d", c->opcode, texts.opcode);
    if (c->opcode >= 8 && c->left > 125) fail("a control frame too long");
    *is_whole = 1;
    return used;
}

/* Control frames are small: they are taken only when whole, so data must go on behind the header. Returns 0 if not. */
static size_t read_control(conn *c, const char *data, size_t size) {
    static char collected[128];
    static size_t have;
    static conn *whose;
    if (whose != c) {
        if (have) fail("two control frames in parts");
        whose = c;
    }
    size_t part = c->left < size ? (size_t)c->left : size;
    memcpy(collected + have, data, part);
    have += part;
    c->left -= part;
    if (c->left) return part;
    size_t whole = have;
    have = 0;
    whose = NULL;
    on_control(c, collected, whole);
    return part;
}

/* Frames that came. Returns how many messages the connection sends now. */
static int read_frames(conn *c, const char *data, size_t size) {
    int next = 0;
    size_t at = 0;
    while (at < size && c->state != OFF && c->state >= OPEN) {
        int is_whole = 1;
        if (!c->left) at += read_header(c, data + at, size - at, &is_whole);
        if (!is_whole) return next;
        if (c->opcode >= 8) {
            at += read_control(c, data + at, size - at);
            continue;
        }
        size_t part = c->left < size - at ? (size_t)c->left : size - at;
        check_payload(c, data + at, part);
        c->left -= part;
        c->at += part;
        at += part;
        if (!c->left && c->is_last) next += on_message(c);
    }
    return next;
}

static void on_end(conn *c, ssize_t got) {
    if (c->state == CLOSING) fail("the server ended TCP without a Close frame");
    fail("the server ended a connection %s, after %llu messages, %d open: %s",
         c->state == REQUESTED ? "before its handshake" : "that was open", (unsigned long long)c->got, opened,
         got == 0 ? "end of stream" : strerror(errno));
}

/* One read per event: the rest is announced again, or the buffer was full. */
static void readable(conn *c) {
    ssize_t got;
    do {
        got = recv(c->fd, buffer, BUFFER, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) on_end(c, got);
        size_t used = c->state == REQUESTED ? read_head(c, buffer, (size_t)got) : 0;
        int next = read_frames(c, buffer + used, (size_t)got - used);
        if (next) owe(c, next);
    } while (got == BUFFER && c->state != OFF);
}

static void turn(int milliseconds) {
    static struct epoll_event events[EVENTS];
    int count = epoll_wait(poller, events, EVENTS, set.spin ? 0 : milliseconds);
    for (int i = 0; i < count; i++) {
        conn *c = events[i].data.ptr;
        uint32_t what = events[i].events;
        if (c->state == CONNECTING && what & (EPOLLOUT | EPOLLERR)) request(c);
        if (c->state >= OPEN && what & EPOLLOUT && c->is_blocked) {
            c->is_blocked = 0;
            flush(c);
        }
        if (c->state >= REQUESTED && what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) readable(c);
    }
}

/* ---- what the modes share */

static void turn_for(double seconds) {
    uint64_t now = wire_now();
    uint64_t until = now + (uint64_t)(seconds * 1e9);
    for (; now < until; now = wire_now()) turn(until - now > 50000000 ? 50 : 1);
}

/* True once what is left has not changed for a minute. */
static int is_stuck(uint64_t left) {
    static uint64_t last;
    static uint64_t since;
    uint64_t now = wire_now();
    if (left != last || !since) since = now;
    last = left;
    return now - since > 60000000000u;
}

static void open_to(int count) {
    int begun = opened;
    while (opened < count) {
        while (begun < count && opening < OPENING) begin(&conns[begun++]);
        turn(10);
        if (is_stuck((uint64_t)(count - opened))) fail("only %d of %d connections opened", opened, count);
    }
}

static void drain(void) {
    is_sending = 0;
    while (in_flight) {
        turn(10);
        if (is_stuck(in_flight)) fail("%llu messages did not come", (unsigned long long)in_flight);
    }
    is_stuck(0); /* the next wait counts anew */
}

/* Of the server, once it sleeps: a running thread's time is behind. */
static double server_cpu(void) {
    uint64_t last = 0;
    uint64_t now = wire_cpu(set.pid, set.thread);
    for (int i = 0; i < 100 && now != last; i++) {
        last = now;
        usleep(1000);
        now = wire_cpu(set.pid, set.thread);
    }
    return (double)now / 1e9;
}

static double own_cpu(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void close_all(void) {
    int count = opened;
    for (int i = 0; i < count; i++) {
        send_close(&conns[i]);
        if (i % 256 == 255) turn(0);
    }
    while (opened) {
        turn(10);
        if (is_stuck((uint64_t)opened)) fail("%d connections did not close", opened);
    }
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double microseconds(double share) {
    size_t at = (size_t)(share * (double)(sample_count - 1));
    return (double)samples[at] / 1000;
}

static void report(uint64_t count, double seconds, double cpu, double client) {
    printf("{\"mode\":\"%s\",\"conns\":%d,\"size\":%zu,\"depth\":%d,\"burst\":%d,\"kind\":\"%s\",\"verify\":%d,"
           "\"messages\":%llu,\"seconds\":%.4f,\"rate\":%.1f,\"cpu\":%.6f,\"per_cpu\":%.1f,\"client_cpu\":%.4f",
           set.mode_name, set.conns, set.size, set.depth, set.burst, set.kind, set.verify, (unsigned long long)count,
           seconds, (double)count / seconds, cpu, cpu > 0 ? (double)count / cpu : 0, client);
    if (sample_count) {
        qsort(samples, sample_count, sizeof *samples, by_size);
        printf(",\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f", microseconds(0.5), microseconds(0.9),
               microseconds(0.99), microseconds(0.999));
    }
    printf("}\n");
    fflush(stdout);
}

/* ---- modes */

static void send_first(void) {
    is_sending = 1;
    for (int i = 0; i < set.conns; i++) {
        in_flight += (uint64_t)set.depth;
        owe(&conns[i], set.depth);
    }
}

static void echo_for(double seconds) {
    send_first();
    turn_for(seconds);
    drain();
}

static void burst_for(double seconds) {
    uint64_t until = wire_now() + (uint64_t)(seconds * 1e9);
    do {
        in_flight += (uint64_t)set.burst * ((uint64_t)set.conns + (set.mode == MODE_CHAT));
        owe(&conns[0], set.burst);
        drain();
    } while (wire_now() < until);
}

static void churn_for(double seconds) {
    is_churning = 1;
    for (int i = 0; i < set.conns; i++) begin(&conns[i]);
    turn_for(seconds);
    is_churning = 0;
    while (opened || opening) turn(10);
}

/* The server sends on its own from the first message to the second. */
static void posts_for(double seconds) {
    uint64_t quiet = 0;
    uint64_t before;
    owe(&conns[0], 1);
    turn_for(seconds);
    owe(&conns[0], 1);
    do {
        before = messages;
        turn_for(0.05);
        quiet = messages == before ? quiet + 1 : 0;
    } while (quiet < 4);
}

static void measure(void (*work)(double seconds)) {
    if (set.mode != MODE_CHURN) open_to(set.conns);
    if (set.warmup > 0 && set.mode != MODE_POSTS) work(set.warmup);
    sample_count = 0;
    double cpu = server_cpu();
    double client = own_cpu();
    uint64_t start = wire_now();
    uint64_t before = set.mode == MODE_CHURN ? cycles : messages;
    work(set.seconds);
    double seconds = (double)(wire_now() - start) / 1e9;
    client = own_cpu() - client;
    cpu = server_cpu() - cpu;
    report((set.mode == MODE_CHURN ? cycles : messages) - before, seconds, cpu, client);
    if (set.mode != MODE_CHURN) close_all();
}

/* ---- idle */

/* Kilobytes after a name at the beginning of a line. */
static long kilobytes(const char *path, const char *name) {
    char line[256];
    long value = 0;
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0) value = atol(line + strlen(name));
    fclose(file);
    return value;
}

static long resident(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", set.pid);
    return kilobytes(path, "Rss:");
}

static void next_step(const char *name) {
    char line[16];
    ssize_t got;
    if (!set.steps) return;
    printf("{\"step\":\"%s\",\"opened\":%d}\n", name, opened);
    fflush(stdout);
    for (;;) {
        struct timeval none = {0, 0};
        fd_set input;
        FD_ZERO(&input);
        FD_SET(0, &input);
        if (select(1, &input, NULL, NULL, &none) > 0) break;
        turn(10);
    }
    got = read(0, line, sizeof line);
    if (got <= 0) fail("nobody steps on");
}

/* Text is broadcast by the server; binary messages come back to their sender. */
static void set_opcode(int opcode) {
    texts.opcode = opcode;
    texts.frames[0] = texts.frames[texts.ring] = (char)(unsigned char)(0x80 | opcode);
}

static double time_broadcast(void) {
    uint64_t start = wire_now();
    set_opcode(1);
    in_flight += (uint64_t)opened;
    owe(&conns[0], 1);
    drain();
    return (double)(wire_now() - start) / 1e9;
}

static void touch_all(void) {
    set_opcode(2);
    in_flight += (uint64_t)opened;
    for (int i = 0; i < opened; i++) {
        owe(&conns[i], 1);
        if (i % 256 == 255) turn(0);
    }
    drain();
}

static void idle(void) {
    int warm = set.conns < WARM ? set.conns : WARM;
    open_to(warm);
    if (set.touch) touch_all();
    time_broadcast();
    long slab_before = kilobytes("/proc/meminfo", "Slab:");
    long before = resident();
    uint64_t start = wire_now();
    open_to(set.conns);
    double opening_took = (double)(wire_now() - start) / 1e9;
    if (set.touch) touch_all();
    turn_for(0.2);
    long after = resident();
    long slab_after = kilobytes("/proc/meminfo", "Slab:");
    int added = set.conns > warm ? set.conns - warm : 1;
    next_step("open");
    double cpu = server_cpu();
    start = wire_now();
    uint64_t pongs_before = pongs;
    turn_for(set.seconds);
    cpu = server_cpu() - cpu;
    double held = (double)(wire_now() - start) / 1e9;
    uint64_t answered = pongs - pongs_before;
    long after_held = resident();
    next_step("held");
    double spread = time_broadcast();
    next_step("broadcast");
    close_all();
    usleep(200000);
    printf("{\"mode\":\"idle\",\"conns\":%d,\"bytes\":%.1f,\"bytes_held\":%.1f,\"bytes_whole\":%.1f,\"slab\":%.0f,\"open_s\":%.3f,"
           "\"held_s\":%.1f,\"cpu_percent\":%.4f,\"cpu_percent_10000\":%.4f,\"pongs\":%llu,\"broadcast_s\":%.4f,"
           "\"rss_kb\":%ld,\"rss_closed_kb\":%ld}\n",
           set.conns, (double)(after - before) * 1024 / added, (double)(after_held - before) * 1024 / added, (double)after * 1024 / set.conns,
           (double)(slab_after - slab_before) * 1024 / added, opening_took, held, cpu / held * 100,
           cpu / held * 100 * 10000 / set.conns, (unsigned long long)answered, spread, after, resident());
    fflush(stdout);
}

/* ---- arguments */

static void usage(void) {
    fprintf(stderr,
            "usage: load echo|broadcast|chat|churn|idle|posts PORT [OPTION VALUE ...] [FLAG ...]\n"
            "  --pid N       the server, whose CPU time and memory are read (--thread N: of that thread only)\n"
            "  --conns N     connections (64)          --addresses N  spread over 127.0.0.1 and the next (1)\n"
            "  --size N      bytes of a message (20)   --kind binary|ascii|utf8|json\n"
            "  --depth N     echo: in flight each (1)  --burst N      broadcast: messages at once (1)\n"
            "  --seconds X   measured (1)              --warmup X     before that (0.2)\n"
            "  --verify      compare every byte        --spin         poll instead of sleeping\n"
            "  --latency     echo: percentiles         --reset        churn: reset after the handshake\n"
            "  --touch       idle: an echo of a binary message on each connection first (the server broadcasts text)\n"
            "  --steps       idle: a line on standard output and one on standard input after each phase\n");
    exit(2);
}

static int take_flag(const char *name) {
    if (strcmp(name, "--verify") == 0) set.verify = 1;
    else if (strcmp(name, "--spin") == 0) set.spin = 1;
    else if (strcmp(name, "--reset") == 0) set.reset = 1;
    else if (strcmp(name, "--steps") == 0) set.steps = 1;
    else if (strcmp(name, "--touch") == 0) set.touch = 1;
    else if (strcmp(name, "--latency") == 0) samples = get(SAMPLES, sizeof *samples);
    else return 0;
    return 1;
}

static void take_option(const char *name, const char *value) {
    if (!value) usage();
    if (strcmp(name, "--pid") == 0) set.pid = atoi(value);
    else if (strcmp(name, "--thread") == 0) set.thread = atoi(value);
    else if (strcmp(name, "--conns") == 0) set.conns = atoi(value);
    else if (strcmp(name, "--addresses") == 0) set.addresses = atoi(value);
    else if (strcmp(name, "--size") == 0) set.size = (size_t)atol(value);
    else if (strcmp(name, "--kind") == 0) set.kind = value;
    else if (strcmp(name, "--depth") == 0) set.depth = atoi(value);
    else if (strcmp(name, "--burst") == 0) set.burst = atoi(value);
    else if (strcmp(name, "--seconds") == 0) set.seconds = atof(value);
    else if (strcmp(name, "--warmup") == 0) set.warmup = atof(value);
    else usage();
}

static void take_arguments(int argc, char **argv) {
    static const char *const modes[] = {"echo", "broadcast", "chat", "churn", "idle", "posts"};
    if (argc < 3) usage();
    set.mode = -1;
    for (int i = 0; i < 6; i++)
        if (strcmp(argv[1], modes[i]) == 0) set.mode = i;
    if (set.mode < 0) usage();
    set.mode_name = argv[1];
    set.port = atoi(argv[2]);
    for (int i = 3; i < argc; i++)
        if (!take_flag(argv[i])) {
            take_option(argv[i], i + 1 < argc ? argv[i + 1] : NULL);
            i++;
        }
    if (set.conns < 1 || set.depth < 1 || set.burst < 1 || set.addresses < 1) usage();
}

int main(int argc, char **argv) {
    take_arguments(argc, argv);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    conns = get((size_t)set.conns, sizeof *conns);
    buffer = get(1, BUFFER);
    poller = epoll_create1(EPOLL_CLOEXEC);
    make_texts();
    make_requests();
    switch (set.mode) {
    case MODE_ECHO: measure(echo_for); break;
    case MODE_BROADCAST:
    case MODE_CHAT: measure(burst_for); break;
    case MODE_CHURN: measure(churn_for); break;
    case MODE_POSTS: measure(posts_for); break;
    default: idle();
    }
    return 0;
}
