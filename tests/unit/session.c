/* Unit tests of [session]: one connection's protocol, driven as the loop drives it, but with plain arrays. */
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#define _GNU_SOURCE 1
#include <string.h>

/* Counts the bytes that the implementation copies and searches: how much work it does, without a clock. */
static size_t work_done;

static inline void *work_copy(void *to, const void *from, size_t size) {
    work_done += size;
    return memcpy(to, from, size);
}

static inline void *work_find(const void *data, int byte, size_t size) {
    const char *found = (const char *)memchr(data, byte, size);
    work_done += found ? (size_t)(found - (const char *)data) + 1 : size;
    return (void *)(uintptr_t)found;
}

#define memcpy(to, from, size) work_copy(to, from, size)
#define memchr(data, byte, size) work_find(data, byte, size)
#include "../../wsserver.h"
#undef memcpy
#undef memchr

#include "../script.h"
#include "../test.h"

enum { MAX_MESSAGE = 100000, MAX_FRAGMENTS = 8, MAX_HEAD = 1024, MAX_HEADERS = 16, MAX_QUEUED = 1000000 };
enum { FRONT = 16 }; /* bytes before each block, where its size is noted */

/* How a driver serves. All zero: no cork, everything is sent at once, input is never held. */
typedef struct mode {
    size_t cork;        /* bytes of the cork; 0: none */
    size_t send;        /* bytes that one send takes; 0: all */
    int echo;           /* sends each message back */
    int direct;         /* receives into wss__session_direct where offered */
    int pause;          /* stops after each event and goes on after the turn */
    int hold;           /* holds all that comes, once, before it is looked at */
    int late;           /* answers the request after the turn */
    size_t close_after; /* messages after which our Close goes out; 0: never */
} mode;

typedef struct driver {
    wss__mem mem;
    wss_options options;
    wss__session_host host;
    wss__session session;
    mode how;
    char *cork;
    script trace;  /* the events, a line each */
    script output; /* what has been sent */
    size_t last;   /* where the last line of the trace begins */
    size_t messages;
    char key[WSS__HASH_KEY];
    int asked;
    int paused;
    int broken; /* what was sent in part could not be kept */
    int ended;
    size_t live; /* bytes allocated now */
    size_t live_peak;
    size_t calls; /* of the allocator, to get memory */
    size_t fail_at;
    int fail_after; /* all calls after fail_at fail too */
} driver;

/* Checks sizes, moves what grows, and fills what it gives with bytes that look like the first of a pong. */
static void *give(void *context, void *pointer, size_t old_size, size_t new_size) {
    driver *d = (driver *)context;
    char *old = pointer ? (char *)pointer - FRONT : NULL;
    char *block = NULL;
    size_t noted = 0;
    if (old) {
        memcpy(&noted, old, sizeof noted);
        CHECK_INT(old_size, noted);
    }
    if (new_size) {
        d->calls++;
        if (d->fail_at && (d->calls == d->fail_at || (d->fail_after && d->calls > d->fail_at))) return NULL;
        block = (char *)malloc(FRONT + new_size);
        if (!block) abort();
        memset(block, 0x8a, FRONT + new_size);
        memcpy(block, &new_size, sizeof new_size);
        if (old) memcpy(block + FRONT, old + FRONT, noted < new_size ? noted : new_size);
    }
    free(old);
    d->live += new_size - noted;
    if (d->live > d->live_peak) d->live_peak = d->live;
    return block ? block + FRONT : NULL;
}

static void begin(driver *d, const mode *how) {
    memset(d, 0, sizeof *d);
    if (how) d->how = *how;
    d->options.max_message = MAX_MESSAGE;
    d->options.max_fragments = MAX_FRAGMENTS;
    d->options.max_head = MAX_HEAD;
    d->options.max_headers = MAX_HEADERS;
    d->options.max_queued = MAX_QUEUED;
    d->options.memory_budget = WSS_UNLIMITED;
    d->options.allocator = give;
    d->options.allocator_context = d;
    wss__mem_init(&d->mem, &d->options);
    d->host.mem = &d->mem;
    d->host.options = &d->options;
    if (!d->how.cork) return;
    d->cork = (char *)malloc(d->how.cork);
    if (!d->cork) abort();
    d->host.cork = d->cork;
    d->host.cork_capacity = d->how.cork;
}

/* A session that is past its handshake. */
static void begin_open(driver *d, const mode *how) {
    begin(d, how);
    d->session.phase = WSS__SESSION_OPEN;
}

static void finish(driver *d) {
    wss__session_free(&d->host, &d->session);
    CHECK_INT(d->live, 0);
    CHECK_INT(d->mem.used, 0);
    CHECK_INT(d->session.queued, 0);
    script_free(&d->trace);
    script_free(&d->output);
    free(d->cork);
}

/* The account is what stands in the queue, not counting control frames; pongs are those in the queue. */
static void check_account(driver *d) {
    wss__buf_queue *queue = d->session.queue;
    size_t bytes = 0;
    uint32_t pongs = 0;
    for (uint32_t i = 0; queue && i < queue->count; i++) {
        size_t size;
        wss__buf_frame *frame = *wss__buf_at(queue, i);
        wss__buf_peek(queue, i, &size);
        if (!frame->control) bytes += size;
        pongs += frame->control && ((unsigned char)wss__buf_frame_data(frame)[0] & 15) == WSS__FRAME_PONG;
    }
    CHECK_INT(d->session.queued, bytes);
    if (queue) CHECK_INT(queue->pongs, pongs);
    if (queue) CHECK(queue->count > 0);
}

/* Output. */

static int has_output(const driver *d) {
    return d->session.queue != NULL || (d->host.corked == &d->session && d->host.cork_size > 0);
}

/* One send that takes at most this much: the cork, then the queue. */
static void send_some(driver *d, size_t most) {
    wss__session_host *host = &d->host;
    size_t corked = host->corked == &d->session ? host->cork_size : 0;
    size_t from_cork = corked < most ? corked : most;
    size_t taken = 0;
    script_bytes(&d->output, host->cork, from_cork);
    if (corked && !wss__session_uncork(host, &d->session, from_cork)) d->broken = 1;
    most -= from_cork;
    if (d->broken) return;
    for (uint32_t i = 0; d->session.queue && i < d->session.queue->count && taken < most; i++) {
        size_t size;
        const char *data = wss__buf_peek(d->session.queue, i, &size);
        if (size > most - taken) size = most - taken;
        script_bytes(&d->output, data, size);
        taken += size;
    }
    wss__session_sent(host, &d->session, taken);
    check_account(d);
}

static void flush(driver *d) {
    while (!d->broken && has_output(d)) send_some(d, d->how.send ? d->how.send : SIZE_MAX);
    d->host.corked = NULL;
    d->host.cork_size = 0;
}

static wss__buf_frame *frame_of(driver *d, int opcode, const void *data, size_t size, const char *key) {
    char *place = NULL;
    wss__buf_frame *frame = wss__buf_new(&d->mem, opcode, size, wss__base_text(key), &place);
    if (frame && size) memcpy(place, data, size);
    return frame;
}

/* Input. */

static void note(driver *d, const char *line, const char *data, size_t size) {
    d->last = d->trace.size;
    script_text(&d->trace, line);
    script_bytes(&d->trace, data, size);
    script_text(&d->trace, "\n");
}

static void on_end(driver *d, const wss__session_event *event) {
    char line[96];
    snprintf(line, sizeof line, "end %d %d %zu ", event->code, event->cause, event->size);
    note(d, line, event->size ? event->data : "", event->size);
    CHECK(!d->ended);
    CHECK_INT(d->session.phase, WSS__SESSION_DONE);
    d->ended = 1;
}

static void fail(driver *d, int cause) {
    wss__session_event end;
    memset(&end, 0, sizeof end);
    if (wss__session_fail(&d->host, &d->session, cause, &end) == WSS__SESSION_END) on_end(d, &end);
}

static void lose(driver *d, int cause) {
    wss__session_event end;
    memset(&end, 0, sizeof end);
    if (wss__session_lost(&d->session, cause, &end) == WSS__SESSION_END) on_end(d, &end);
}

static void close_it(driver *d, int code, const char *reason) {
    wss__session_close(&d->host, &d->session, code, wss__base_text(reason), WSS_CAUSE_LOCAL_CLOSE);
}

static void accept_it(driver *d) {
    d->asked = 0;
    if (wss__session_accept(&d->host, &d->session, wss__base_span(d->key, sizeof d->key), NULL, NULL, 0)) return;
    d->session.phase = WSS__SESSION_ASKED;
    lose(d, WSS_CAUSE_MEMORY);
}

static void on_message(driver *d, const wss__session_event *event) {
    char line[64];
    snprintf(line, sizeof line, "message %d %zu ", event->opcode, event->size);
    note(d, line, event->data, event->size);
    char behind = event->data[event->size]; /* whoever reads the message may end it with NUL for the while */
    event->data[event->size] = 0;
    event->data[event->size] = behind;
    d->messages++;
    if (d->how.echo && d->session.phase == WSS__SESSION_OPEN) {
        wss__buf_frame *frame = frame_of(d, event->opcode, event->data, event->size, NULL);
        if (frame) wss__session_push(&d->host, &d->session, frame, WSS__SESSION_CHECK);
    }
    if (d->how.close_after == d->messages) close_it(d, 4000, "enough");
}

static void on_request(driver *d, int kind, const wss__session_event *event) {
    const wss_request *request = &event->request;
    const char *target = wss_request_target(request);
    note(d, kind == WSS__SESSION_UPGRADE ? "upgrade " : "http ", target, strlen(target));
    CHECK_INT(d->session.phase, WSS__SESSION_ASKED);
    if (kind == WSS__SESSION_HTTP) {
        wss__session_event end;
        CHECK_INT(wss__session_reject(&d->host, &d->session, 426, !request->is_head, &end), WSS__SESSION_END);
        on_end(d, &end);
        return;
    }
    wss__span key = wss__http_key(request);
    CHECK_INT(key.size, sizeof d->key);
    memcpy(d->key, key.data, sizeof d->key);
    d->asked = 1;
    if (!d->how.late) accept_it(d);
}

static void handle(driver *d, int kind, const wss__session_event *event) {
    d->paused = d->how.pause;
    switch (kind) {
    case WSS__SESSION_MESSAGE: on_message(d, event); break;
    case WSS__SESSION_PONG: note(d, "pong ", event->data, event->size); break;
    case WSS__SESSION_UPGRADE:
    case WSS__SESSION_HTTP: on_request(d, kind, event); break;
    case WSS__SESSION_END: on_end(d, event); break;
    default: CHECK(!"a known event");
    }
}

/* After the end nothing may follow, whatever comes. */
static void check_silence(driver *d, wss__session_bytes *bytes) {
    wss__session_event event;
    CHECK_INT(wss__session_next(&d->host, &d->session, bytes, &event), WSS__SESSION_NEED);
    CHECK_INT(bytes->size, 0);
}

static void dispatch(driver *d, wss__session_bytes *bytes) {
    wss__session_event event;
    while (!d->ended && !d->paused) {
        memset(&event, 0x77, sizeof event);
        int kind = wss__session_next(&d->host, &d->session, bytes, &event);
        if (kind == WSS__SESSION_NEED) {
            CHECK(bytes->size == 0 || d->session.phase == WSS__SESSION_ASKED);
            break;
        }
        handle(d, kind, &event);
        wss__session_release(&d->host, &d->session);
        check_account(d);
    }
    if (d->ended) check_silence(d, bytes);
    if (d->ended) wss__session_free_input(&d->host, &d->session);
    else if (!wss__session_hold(&d->host, &d->session, bytes)) fail(d, WSS_CAUSE_MEMORY);
    wss__session_release(&d->host, &d->session);
}

static void turn(driver *d, wss__session_bytes *bytes) {
    d->host.corked = d->how.cork ? &d->session : NULL;
    d->host.cork_size = 0;
    dispatch(d, bytes);
    flush(d);
    if (d->broken && !d->ended) lose(d, WSS_CAUSE_PEER_VANISHED);
}

/* What waits is answered and looked at, until nothing does. */
static void go_on(driver *d) {
    wss__session_bytes bytes;
    d->paused = 0;
    while (!d->ended && (d->asked || wss__session_take_held(&d->session, &bytes))) {
        if (d->asked) {
            CHECK_INT(d->session.phase, WSS__SESSION_ASKED);
            accept_it(d);
            continue;
        }
        turn(d, &bytes);
        d->paused = 0;
    }
    flush(d);
}

/* One receive of at most this much; returns how much. The block has one byte behind, as the loop's has. */
static size_t receive(driver *d, const char *data, size_t size) {
    wss__session_bytes bytes;
    size_t room = 0;
    char *block = NULL;
    bytes.data = d->how.direct ? wss__session_direct(&d->host, &d->session, &room) : NULL;
    bytes.size = bytes.data && room < size ? room : size;
    if (bytes.data) CHECK(room > 0);
    if (!bytes.data) {
        block = (char *)malloc(bytes.size + 1);
        if (!block) abort();
        block[bytes.size] = 0x5a;
        bytes.data = block;
    }
    size_t taken = bytes.size;
    memcpy(bytes.data, data, taken);
    d->paused = d->how.hold;
    turn(d, &bytes);
    if (block) CHECK_INT(block[taken], 0x5a);
    free(block); /* nothing may refer to it now */
    go_on(d);
    return taken;
}

static void feed(driver *d, const void *data, size_t size) {
    const char *at = (const char *)data;
    while (size) {
        size_t taken = receive(d, at, size);
        at += taken;
        size -= taken;
    }
}

static void feed_text(driver *d, const char *text) {
    feed(d, text, strlen(text));
}

static void feed_script(driver *d, script *s) {
    feed(d, s->data, s->size);
    script_free(s);
}

static void check_trace(const driver *d, const char *want) {
    if (script_is(&d->trace, want, strlen(want))) return;
    CHECK(!"the trace is as it should be");
    if (test_broken <= 10) printf("trace:\n%.*s--- and not:\n%s---\n", (int)d->trace.size, d->trace.data, want);
}

static void print_bytes(const char *label, const script *s) {
    printf("%s:", label);
    for (size_t i = 0; i < s->size && i < 400; i++) {
        unsigned char c = (unsigned char)s->data[i];
        if (c >= 0x20 && c < 0x7f) putchar(c);
        else printf("\\x%02x", c);
    }
    printf("\n");
}

/* Frees what was wanted. */
static void check_output(const driver *d, script *want) {
    if (!script_same(&d->output, want)) {
        CHECK(!"the output is as it should be");
        if (test_broken <= 10) print_bytes("got", &d->output);
        if (test_broken <= 10) print_bytes("want", want);
    }
    script_free(want);
}

/* An idle connection holds no memory. */
static void check_idle(const driver *d) {
    CHECK(d->session.input == NULL);
    CHECK(d->session.queue == NULL);
    CHECK_INT(d->live, 0);
    CHECK_INT(d->mem.used, 0);
}

/* Faults: each is said in an open session, after one message. ---------------------------------------------------- */

typedef struct fault {
    const char *name;
    const char *bytes;
    size_t size;
    int code; /* 0: none, all is well */
    int cause;
} fault;

#define BYTES(text) text, sizeof(text) - 1
#define Z4 "\0\0\0\0"
#define BAD_FRAME WSS_CLOSE_PROTOCOL_ERROR
#define BAD_TEXT WSS_CLOSE_BAD_DATA, WSS_CAUSE_UTF8

static const fault faults[] = {
    {"unmasked text", BYTES("\x81\x02hi"), BAD_FRAME, WSS_CAUSE_UNMASKED},
    {"unmasked empty ping", BYTES("\x89\x00"), BAD_FRAME, WSS_CAUSE_UNMASKED},
    {"unmasked close", BYTES("\x88\x02\x03\xe8"), BAD_FRAME, WSS_CAUSE_UNMASKED},
    {"RSV1", BYTES("\xc1\x80" Z4), BAD_FRAME, WSS_CAUSE_RESERVED_BITS},
    {"RSV2", BYTES("\xa2\x80" Z4), BAD_FRAME, WSS_CAUSE_RESERVED_BITS},
    {"RSV3", BYTES("\x91\x80" Z4), BAD_FRAME, WSS_CAUSE_RESERVED_BITS},
    {"RSV1 on a ping", BYTES("\xc9\x80" Z4), BAD_FRAME, WSS_CAUSE_RESERVED_BITS},
    {"RSV1 on a continuation", BYTES("\x01\x81" Z4 "a\xc0\x80" Z4), BAD_FRAME, WSS_CAUSE_RESERVED_BITS},
    {"opcode 3", BYTES("\x83\x80" Z4), BAD_FRAME, WSS_CAUSE_OPCODE},
    {"opcode 7", BYTES("\x87\x80" Z4), BAD_FRAME, WSS_CAUSE_OPCODE},
    {"opcode 11", BYTES("\x8b\x80" Z4), BAD_FRAME, WSS_CAUSE_OPCODE},
    {"opcode 15", BYTES("\x8f\x80" Z4), BAD_FRAME, WSS_CAUSE_OPCODE},
    {"fragmented ping", BYTES("\x09\x80" Z4), BAD_FRAME, WSS_CAUSE_CONTROL},
    {"fragmented pong", BYTES("\x0a\x80" Z4), BAD_FRAME, WSS_CAUSE_CONTROL},
    {"fragmented close", BYTES("\x08\x80" Z4), BAD_FRAME, WSS_CAUSE_CONTROL},
    {"ping of 126 bytes", BYTES("\x89\xfe\x00\x7e" Z4), BAD_FRAME, WSS_CAUSE_CONTROL},
    {"close of 64 KiB", BYTES("\x88\xff\0\0\0\0\0\1\0\0" Z4), BAD_FRAME, WSS_CAUSE_CONTROL},
    {"continuation of nothing", BYTES("\x80\x81" Z4 "a"), BAD_FRAME, WSS_CAUSE_CONTINUATION},
    {"first of continuations of nothing", BYTES("\x00\x81" Z4 "a"), BAD_FRAME, WSS_CAUSE_CONTINUATION},
    {"text inside a message", BYTES("\x01\x81" Z4 "a\x81\x81" Z4 "b"), BAD_FRAME, WSS_CAUSE_CONTINUATION},
    {"binary inside a message", BYTES("\x01\x80" Z4 "\x02\x80" Z4), BAD_FRAME, WSS_CAUSE_CONTINUATION},
    {"continuation after the last", BYTES("\x01\x80" Z4 "\x80\x80" Z4 "\x80\x80" Z4), BAD_FRAME, WSS_CAUSE_CONTINUATION},
    {"16 bits for 125", BYTES("\x82\xfe\x00\x7d" Z4), BAD_FRAME, WSS_CAUSE_LENGTH},
    {"16 bits for 0", BYTES("\x82\xfe\x00\x00" Z4), BAD_FRAME, WSS_CAUSE_LENGTH},
    {"64 bits for 65535", BYTES("\x82\xff\0\0\0\0\0\0\xff\xff" Z4), BAD_FRAME, WSS_CAUSE_LENGTH},
    {"64 bits for 125", BYTES("\x82\xff\0\0\0\0\0\0\0\x7d" Z4), BAD_FRAME, WSS_CAUSE_LENGTH},
    {"length 2^63", BYTES("\x82\xff\x80\0\0\0\0\0\0\0" Z4), BAD_FRAME, WSS_CAUSE_LENGTH},
    {"length 2^64 - 1", BYTES("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff" Z4), BAD_FRAME, WSS_CAUSE_LENGTH},
    {"length 2^64 - 4", BYTES("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xfc" Z4), BAD_FRAME, WSS_CAUSE_LENGTH},
    {"length 2^63 - 1", BYTES("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" Z4), WSS_CLOSE_TOO_BIG, WSS_CAUSE_TOO_BIG},
    {"length 2^32", BYTES("\x82\xff\0\0\0\1\0\0\0\0" Z4), WSS_CLOSE_TOO_BIG, WSS_CAUSE_TOO_BIG},
    {"length 2^32 + 2", BYTES("\x82\xff\0\0\0\1\0\0\0\2" Z4 "ab"), WSS_CLOSE_TOO_BIG, WSS_CAUSE_TOO_BIG},
    {"length 100001", BYTES("\x82\xff\0\0\0\0\0\1\x86\xa1" Z4), WSS_CLOSE_TOO_BIG, WSS_CAUSE_TOO_BIG},
    {"1 and 100000", BYTES("\x02\x81" Z4 "a\x80\xff\0\0\0\0\0\1\x86\xa0" Z4), WSS_CLOSE_TOO_BIG, WSS_CAUSE_TOO_BIG},
    {"1 and 2^63 - 1", BYTES("\x02\x81" Z4 "a\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff" Z4), WSS_CLOSE_TOO_BIG,
     WSS_CAUSE_TOO_BIG},
    {"9 empty fragments",
     BYTES("\x01\x80" Z4 "\0\x80" Z4 "\0\x80" Z4 "\0\x80" Z4 "\0\x80" Z4 "\0\x80" Z4 "\0\x80" Z4 "\0\x80" Z4
           "\x80\x80" Z4), WSS_CLOSE_POLICY, WSS_CAUSE_TOO_MANY_FRAGMENTS},
    {"9 fragments with a ping",
     BYTES("\x02\x81" Z4 "a\0\x81" Z4 "b\0\x81" Z4 "c\0\x81" Z4 "d\0\x81" Z4 "e\0\x81" Z4 "f\x89\x81" Z4 "p\0\x81" Z4
           "g\0\x81" Z4 "h\0\x81" Z4 "i"), WSS_CLOSE_POLICY, WSS_CAUSE_TOO_MANY_FRAGMENTS},
    {"overlong slash", BYTES("\x81\x82" Z4 "\xc0\xaf"), BAD_TEXT},
    {"overlong in three", BYTES("\x81\x83" Z4 "\xe0\x80\xaf"), BAD_TEXT},
    {"overlong in four", BYTES("\x81\x84" Z4 "\xf0\x80\x80\xaf"), BAD_TEXT},
    {"surrogate", BYTES("\x81\x83" Z4 "\xed\xa0\x80"), BAD_TEXT},
    {"U+110000", BYTES("\x81\x84" Z4 "\xf4\x90\x80\x80"), BAD_TEXT},
    {"byte ff", BYTES("\x81\x81" Z4 "\xff"), BAD_TEXT},
    {"lone trail", BYTES("\x81\x83" Z4 "ab\x80"), BAD_TEXT},
    {"cut at the end", BYTES("\x81\x83" Z4 "a\xe2\x82"), BAD_TEXT},
    {"cut at the end of fragments", BYTES("\x01\x82" Z4 "a\xe2\x80\x81" Z4 "\x82"), BAD_TEXT},
    {"cut and not continued", BYTES("\x01\x82" Z4 "a\xe2\x80\x81" Z4 "b"), BAD_TEXT},
    {"cut and an empty end", BYTES("\x01\x82" Z4 "a\xe2\x80\x80" Z4), BAD_TEXT},
    {"bad in the first fragment", BYTES("\x01\x82" Z4 "\xff\xff"), BAD_TEXT},
    {"close of one byte", BYTES("\x88\x81" Z4 "\x03"), BAD_FRAME, WSS_CAUSE_CLOSE_FRAME},
    {"close 999", BYTES("\x88\x82" Z4 "\x03\xe7"), BAD_FRAME, WSS_CAUSE_CLOSE_FRAME},
    {"close 1005", BYTES("\x88\x82" Z4 "\x03\xed"), BAD_FRAME, WSS_CAUSE_CLOSE_FRAME},
    {"close with bad reason", BYTES("\x88\x83" Z4 "\x03\xe8\xff"), BAD_TEXT},
    {"close with cut reason", BYTES("\x88\x85" Z4 "\x03\xe8 \xe2\x82"), BAD_TEXT},
};

enum { FAULTS = sizeof faults / sizeof faults[0] };

/* The Close and the end that answer a fault; what came before stays, what came after is not seen. */
static void faults_end_the_session(void) {
    for (size_t i = 0; i < FAULTS; i++) {
        const fault *f = &faults[i];
        driver d;
        script input = {0};
        script want = {0};
        char line[64];
        int before = test_broken;
        begin_open(&d, NULL);
        script_say(&input, SCRIPT_TEXT, "before");
        script_bytes(&input, f->bytes, f->size);
        script_say(&input, SCRIPT_TEXT, "after");
        script_say(&input, SCRIPT_PING, "after");
        script_close(&input, 1000, "");
        feed_script(&d, &input);
        snprintf(line, sizeof line, "message 1 6 before\nend %d %d 0 \n", f->code, f->cause);
        check_trace(&d, line);
        if (strstr(f->name, "with a ping")) script_reply(&want, SCRIPT_PONG, "p", 1);
        script_reply_close(&want, f->code, wss_cause_text(f->cause));
        check_output(&d, &want);
        check_idle(&d);
        finish(&d);
        if (test_broken != before) printf("fault: %s\n", f->name);
    }
}

/* After our Close is out, a fault of the peer ends the session as we closed it, and no second Close goes out. */
static void faults_after_our_close(void) {
    for (size_t i = 0; i < FAULTS; i++) {
        driver d;
        script want = {0};
        begin_open(&d, NULL);
        close_it(&d, 4001, "mine");
        feed(&d, faults[i].bytes, faults[i].size);
        CHECK_INT(d.ended, 1);
        check_trace(&d, "end 4001 7 0 \n");
        script_reply_close(&want, 4001, "mine");
        check_output(&d, &want);
        check_idle(&d);
        finish(&d);
    }
}

/* Every start of a frame. ---------------------------------------------------------------------------------------- */

/* What RFC 6455 section 5 says of these two bytes and of the length, in the order in which they come. */
static int verdict(int first, int second, int in_message) {
    int opcode = first & 15;
    int known = opcode <= 2 || (opcode >= 8 && opcode <= 10);
    if (first & 0x70) return WSS_CAUSE_RESERVED_BITS;
    if (!known) return WSS_CAUSE_OPCODE;
    if (opcode >= 8 && !(first & 0x80)) return WSS_CAUSE_CONTROL;
    if (!(second & 0x80)) return WSS_CAUSE_UNMASKED;
    if (opcode >= 8) return (second & 0x7f) > 125 ? WSS_CAUSE_CONTROL : 0;
    return (opcode == 0) != in_message ? WSS_CAUSE_CONTINUATION : 0;
}

static void every_start_of_a_frame(void) {
    for (int in_message = 0; in_message < 2; in_message++) {
        for (int start = 0; start < 65536; start++) {
            static const char lengths[3][9] = {"", "\x00\x7e", "\0\0\0\0\0\1\0\0"};
            int first = start >> 8;
            int second = start & 255;
            int wide = (second & 127) == 127 ? 2 : (second & 127) == 126 ? 1 : 0;
            char head[14] = {(char)first, (char)second};
            size_t extra = wide == 2 ? 8 : wide == 1 ? 2 : 0;
            driver d;
            wss__session_event event;
            begin_open(&d, NULL);
            if (in_message) feed(&d, "\x02\x81" Z4 "a", 7);
            memcpy(head + 2, lengths[wide], extra);
            feed(&d, head, 2 + extra + 4);
            memset(&event, 0, sizeof event);
            int want = verdict(first, second, in_message);
            char line[64] = "";
            snprintf(line, sizeof line, "end 1002 %d 0 \n", want);
            if (want) check_trace(&d, line);
            else if ((first & 15) == 8 && (second & 127) == 0) check_trace(&d, "end 1005 1 0 \n");
            else CHECK(!d.ended);
            finish(&d);
            if (test_broken > 10) return;
        }
    }
}

/* Close. --------------------------------------------------------------------------------------------------------- */

/* RFC 6455 section 7.4 and the registry: 1012 to 1014 were added later. */
static int is_close_code(int code) {
    if (code == 1004 || code == 1005 || code == 1006) return 0;
    return (code >= 1000 && code <= 1014) || (code >= 3000 && code <= 4999);
}

static void every_close_code(void) {
    for (int code = 0; code < 65536; code++) {
        driver d;
        script input = {0};
        script want = {0};
        char line[64];
        int good = is_close_code(code);
        begin_open(&d, NULL);
        script_close(&input, code, "bye");
        script_say(&input, SCRIPT_TEXT, "ignored");
        feed_script(&d, &input);
        snprintf(line, sizeof line, "end %d %d %s\n", good ? code : 1002,
                 good ? WSS_CAUSE_PEER_CLOSED : WSS_CAUSE_CLOSE_FRAME, good ? "3 bye" : "0 ");
        check_trace(&d, line);
        script_reply_close(&want, good ? code : 1002, good ? "" : wss_cause_text(WSS_CAUSE_CLOSE_FRAME));
        check_output(&d, &want);
        finish(&d);
        if (test_broken > 10) return;
    }
}

static void close_without_code(void) {
    driver d;
    script input = {0};
    script want = {0};
    begin_open(&d, NULL);
    script_say(&input, SCRIPT_CLOSE, "");
    feed_script(&d, &input);
    check_trace(&d, "end 1005 1 0 \n");
    script_reply_close(&want, 0, "");
    check_output(&d, &want);
    check_idle(&d);
    finish(&d);
}

static void close_with_the_longest_reason(void) {
    driver d;
    script input = {0};
    script want = {0};
    char reason[124];
    char line[160];
    memset(reason, 'r', 123);
    reason[123] = 0;
    begin_open(&d, NULL);
    script_close(&input, 3000, reason);
    feed_script(&d, &input);
    snprintf(line, sizeof line, "end 3000 1 123 %s\n", reason);
    check_trace(&d, line);
    script_reply_close(&want, 3000, "");
    check_output(&d, &want);
    finish(&d);

    begin_open(&d, NULL);
    close_it(&d, 4999, reason);
    flush(&d);
    script_reply_close(&want, 4999, reason);
    check_output(&d, &want);
    finish(&d);
}

/* Messages in flight are swallowed; the peer's Close ends the session with what we said. */
static void our_close(void) {
    driver d;
    script input = {0};
    script want = {0};
    begin_open(&d, NULL);
    script_frame(&input, SCRIPT_TEXT, SCRIPT_MORE, "hal", 3);
    feed_script(&d, &input);
    close_it(&d, 1001, "leaving");
    CHECK_INT(d.session.phase, WSS__SESSION_CLOSING);
    script_frame(&input, SCRIPT_CONTINUATION, SCRIPT_FINAL, "f", 1);
    script_say(&input, SCRIPT_TEXT, "whole");
    script_say(&input, SCRIPT_PING, "ping");
    script_say(&input, SCRIPT_PONG, "pong");
    script_fill(&input, SCRIPT_BINARY, SCRIPT_FINAL, 3000);
    feed_script(&d, &input);
    check_trace(&d, "");
    check_idle(&d);
    script_close(&input, 1000, "whatever");
    feed_script(&d, &input);
    check_trace(&d, "end 1001 7 0 \n");
    script_reply_close(&want, 1001, "leaving");
    check_output(&d, &want);
    check_idle(&d);
    finish(&d);
}

static void our_close_twice(void) {
    driver d;
    script want = {0};
    begin_open(&d, NULL);
    close_it(&d, 1000, "one");
    close_it(&d, 1001, "two");
    flush(&d);
    lose(&d, WSS_CAUSE_PEER_VANISHED);
    check_trace(&d, "end 1000 7 0 \n");
    lose(&d, WSS_CAUSE_PEER_VANISHED);
    fail(&d, WSS_CAUSE_IDLE_TIMEOUT);
    close_it(&d, 1001, "three");
    feed(&d, "\x89\x80" Z4, 6);
    flush(&d);
    check_trace(&d, "end 1000 7 0 \n");
    script_reply_close(&want, 1000, "one");
    check_output(&d, &want);
    finish(&d);
}

static void closes_before_the_session_is_open(void) {
    driver d;
    begin(&d, NULL);
    close_it(&d, 1000, "");
    CHECK_INT(d.session.phase, WSS__SESSION_HEAD);
    CHECK(!has_output(&d));
    feed_text(&d, "GET / HT");
    lose(&d, WSS_CAUSE_PEER_VANISHED);
    check_trace(&d, "end 1006 2 0 \n");
    CHECK_INT(d.output.size, 0);
    finish(&d);
}

/* Each cause for which the loop ends a session, with the code that the peer is told; 1006 is told to nobody. */
static void ends_for_a_cause(void) {
    static const int causes[][2] = {
        {WSS_CAUSE_MESSAGE_TIMEOUT, 1008}, {WSS_CAUSE_IDLE_TIMEOUT, 1008}, {WSS_CAUSE_MEMORY, 1013},
        {WSS_CAUSE_SLOW_READER, 1013},     {WSS_CAUSE_PONG_TIMEOUT, 1006}, {WSS_CAUSE_PEER_VANISHED, 1006},
        {WSS_CAUSE_SYSTEM, 1006},          {WSS_CAUSE_UTF8, 1007},         {WSS_CAUSE_TOO_BIG, 1009},
    };
    for (size_t i = 0; i < sizeof causes / sizeof causes[0]; i++) {
        driver d;
        script want = {0};
        char line[64];
        begin_open(&d, NULL);
        fail(&d, causes[i][0]);
        flush(&d);
        snprintf(line, sizeof line, "end %d %d 0 \n", causes[i][1], causes[i][0]);
        check_trace(&d, line);
        if (causes[i][1] != 1006) script_reply_close(&want, causes[i][1], wss_cause_text(causes[i][0]));
        check_output(&d, &want);
        finish(&d);
    }
}

/* The handshake. ------------------------------------------------------------------------------------------------- */

#define REPLY(status, more, length, body)                                                                      \
    "HTTP/1.1 " status "\r\nConnection: close" more "\r\nContent-Type: text/plain; charset=utf-8\r\n"          \
    "Content-Length: " length "\r\n\r\n" body
#define REPLY_400                                                                                              \
    REPLY("400 Bad Request", "", "76", "This request is not valid HTTP/1.1, or not a valid WebSocket handshake.\n")
#define REPLY_403                                                                                              \
    REPLY("403 Forbidden", "", "101",                                                                          \
          "Pages of this origin may not connect. options.origins lists those that may (null: pages in files).\n")
#define TEXT_405 "Only GET, and HEAD for plain HTTP, are answered here.\n"
#define REPLY_405 REPLY("405 Method Not Allowed", "\r\nAllow: GET, HEAD", "54", TEXT_405)
#define REPLY_408                                                                                              \
    REPLY("408 Request Timeout", "", "65", "The request did not arrive in time (options.handshake_ms).\n")
#define REPLY_414 REPLY("414 URI Too Long", "", "30", "The request line is too long.\n")
#define REPLY_421                                                                                              \
    REPLY("421 Misdirected Request", "", "78",                                                                 \
          "This host is not served here. options.hosts lists the hosts that are.\n")
#define REPLY_426_HEAD                                                                                         \
    "HTTP/1.1 426 Upgrade Required\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n"                    \
    "Sec-WebSocket-Version: 13\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 79\r\n\r\n"
#define REPLY_426                                                                                              \
    REPLY_426_HEAD "This is a WebSocket server, version 13. Connect with new WebSocket(\"ws://...\").\n"
#define REPLY_431                                                                                              \
    REPLY("431 Request Header Fields Too Large", "", "91",                                                     \
          "The request has too many or too long header lines (options.max_head, options.max_headers).\n")
#define REPLY_505 REPLY("505 HTTP Version Not Supported", "", "31", "Only HTTP/1.1 is spoken here.\n")

typedef struct greeting {
    const char *name;
    const char *head;
    const char *reply;
    const char *trace;
    int status;
} greeting;

#define REFUSED "end 1006 13 0 \n"

static const greeting greetings[] = {
    {"good", SCRIPT_HANDSHAKE, SCRIPT_ACCEPTED, "upgrade /chat?room=1\n", 101},
    {"same origin", SCRIPT_REQUEST "Origin: http://example.com\r\n\r\n", SCRIPT_ACCEPTED, "upgrade /chat?room=1\n", 101},
    {"listed origin", SCRIPT_REQUEST "Origin: https://friend.example\r\n\r\n", SCRIPT_ACCEPTED,
     "upgrade /chat?room=1\n", 101},
    {"other origin", SCRIPT_REQUEST "Origin: http://evil.example\r\n\r\n", REPLY_403, REFUSED, 403},
    {"null origin", SCRIPT_REQUEST "Origin: null\r\n\r\n", REPLY_403, REFUSED, 403},
    {"two origins", SCRIPT_REQUEST "Origin: null\r\nOrigin: null\r\n\r\n", REPLY_400, REFUSED, 400},
    {"other host", "GET / HTTP/1.1\r\nHost: other.example\r\n" SCRIPT_ASKS "\r\n", REPLY_421, REFUSED, 421},
    {"no host", "GET / HTTP/1.1\r\n" SCRIPT_ASKS "\r\n", REPLY_400, REFUSED, 400},
    {"bare line feeds", "GET / HTTP/1.1\nHost: example.com\n\n", REPLY_400, REFUSED, 400},
    {"no HTTP", "\x16\x03\x01\x02", REPLY_400, REFUSED, 400},
    {"a body", SCRIPT_REQUEST "Content-Length: 5\r\n\r\n", REPLY_400, REFUSED, 400},
    {"chunks", SCRIPT_REQUEST "Transfer-Encoding: chunked\r\n\r\n", REPLY_400, REFUSED, 400},
    {"bad key", "GET / HTTP/1.1\r\n" SCRIPT_HOST "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: abc\r\nSec-WebSocket-Version: 13\r\n\r\n", REPLY_400, REFUSED, 400},
    {"post", "POST / HTTP/1.1\r\n" SCRIPT_HOST SCRIPT_ASKS "\r\n", REPLY_405, REFUSED, 405},
    {"HTTP/1.0", "GET / HTTP/1.0\r\n" SCRIPT_HOST SCRIPT_ASKS "\r\n", REPLY_505, REFUSED, 505},
    {"version 8", "GET / HTTP/1.1\r\n" SCRIPT_HOST "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                  "Sec-WebSocket-Key: " SCRIPT_KEY "\r\nSec-WebSocket-Version: 8\r\n\r\n", REPLY_426, REFUSED, 426},
    {"plain", "GET /page HTTP/1.1\r\n" SCRIPT_HOST "\r\n", REPLY_426, "http /page\n" REFUSED, 426},
    {"plain head", "HEAD /page HTTP/1.1\r\n" SCRIPT_HOST "\r\n", REPLY_426_HEAD, "http /page\n" REFUSED, 426},
    {"two requests", "GET /a HTTP/1.1\r\n" SCRIPT_HOST "\r\nGET /b HTTP/1.1\r\n" SCRIPT_HOST "\r\n", REPLY_426,
     "http /a\n" REFUSED, 426},
};

enum { GREETINGS = sizeof greetings / sizeof greetings[0] };

static void set_hosts(driver *d) {
    d->options.hosts = "example.com";
    d->options.origins = "https://friend.example";
}

/* The lengths above are right if the library's are: this compares whole replies. */
static void replies_to_requests(void) {
    for (size_t i = 0; i < GREETINGS; i++) {
        const greeting *g = &greetings[i];
        driver d;
        script want = {0};
        int before = test_broken;
        begin(&d, NULL);
        set_hosts(&d);
        feed_text(&d, g->head);
        check_trace(&d, g->trace);
        script_text(&want, g->reply);
        check_output(&d, &want);
        CHECK_INT(d.ended, g->status != 101);
        CHECK_INT(d.host.stats.refused, g->status != 101);
        CHECK_INT(d.host.stats.refused_status[4], g->status / 100 == 4);
        check_idle(&d);
        finish(&d);
        if (test_broken != before) printf("greeting: %s\n", g->name);
    }
}

/* Refused by the loop at the deadline, with a head that has begun. */
static void late_request(void) {
    driver d;
    script want = {0};
    wss__session_event end;
    begin(&d, NULL);
    feed_text(&d, "GET / HTTP/1.1\r\nHost: exam");
    CHECK_INT(wss__session_reject(&d.host, &d.session, 408, 1, &end), WSS__SESSION_END);
    on_end(&d, &end);
    flush(&d);
    check_trace(&d, REFUSED);
    script_text(&want, REPLY_408);
    check_output(&d, &want);
    wss__session_release(&d.host, &d.session);
    check_idle(&d);
    finish(&d);
}

/* What an application adds to a 101, also where that takes more than the small buffer. */
static void accept_with_extras(void) {
    static char value[2001];
    wss_header headers[2] = {{"Set-Cookie", "a=b"}, {"X-Long", value}};
    memset(value, 'v', sizeof value - 1);
    for (size_t count = 0; count <= 2; count++) {
        driver d;
        script want = {0};
        begin(&d, NULL);
        d.session.phase = WSS__SESSION_ASKED;
        CHECK(wss__session_accept(&d.host, &d.session, wss__base_text(SCRIPT_KEY), "chat.v1", headers, count));
        CHECK_INT(d.session.phase, WSS__SESSION_OPEN);
        flush(&d);
        script_text(&want, SCRIPT_ACCEPTED);
        want.size -= 2;
        script_text(&want, "Sec-WebSocket-Protocol: chat.v1\r\n");
        if (count > 0) script_text(&want, "Set-Cookie: a=b\r\n");
        if (count > 1) script_text(&want, "X-Long: ");
        if (count > 1) script_text(&want, value);
        if (count > 1) script_text(&want, "\r\n");
        script_text(&want, "\r\n");
        check_output(&d, &want);
        check_idle(&d);
        finish(&d);
    }
}

static void answer_with_a_long_head(void) {
    static char value[2001];
    wss_header header = {"X-Long", value};
    wss_answer answer = {0};
    driver d;
    script want = {0};
    memset(value, 'v', sizeof value - 1);
    answer.headers = &header;
    answer.header_count = 1;
    answer.body = "hello";
    answer.size = 5;
    begin(&d, NULL);
    d.session.phase = WSS__SESSION_ASKED;
    wss__session_answer(&d.host, &d.session, &answer, 1);
    CHECK_INT(d.session.phase, WSS__SESSION_DONE);
    flush(&d);
    script_text(&want, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
                       "Content-Length: 5\r\nX-Long: ");
    script_text(&want, value);
    script_text(&want, "\r\n\r\nhello");
    check_output(&d, &want);
    check_idle(&d);
    finish(&d);
}

/* An upgrade request of exactly this many bytes. */
static void script_request_of(script *s, size_t size) {
    script_text(s, SCRIPT_REQUEST "X: ");
    while (s->size < size - 4) script_text(s, "x");
    script_text(s, "\r\n\r\n");
    CHECK_INT(s->size, size);
}

static void limit_of_the_head(void) {
    for (size_t size = MAX_HEAD - 2; size <= MAX_HEAD + 2; size++) {
        for (size_t piece = 1; piece <= size + 6; piece += piece < 8 ? 1 : 101) {
            driver d;
            script input = {0};
            script want = {0};
            begin(&d, NULL);
            script_request_of(&input, size);
            script_bytes(&input, "\x89\x80" Z4, 6);
            for (size_t at = 0; at < input.size; at += piece)
                feed(&d, input.data + at, piece < input.size - at ? piece : input.size - at);
            script_text(&want, size <= MAX_HEAD ? SCRIPT_ACCEPTED : REPLY_431);
            if (size <= MAX_HEAD) script_reply(&want, SCRIPT_PONG, "", 0);
            check_output(&d, &want);
            check_trace(&d, size <= MAX_HEAD ? "upgrade /chat?room=1\n" : REFUSED);
            check_idle(&d);
            script_free(&input);
            finish(&d);
        }
    }
}

/* A head without end: the line is to blame where it is the line that has none. */
static void head_without_end(void) {
    for (int lines = 0; lines < 2; lines++) {
        driver d;
        script want = {0};
        begin(&d, NULL);
        feed_text(&d, lines ? "GET / HTTP/1.1\r\nX: " : "GET /");
        while (!d.ended && d.host.stats.refused == 0 && d.calls < 100) feed_text(&d, "xxxxxxxxxxxxxxxxx");
        check_trace(&d, REFUSED);
        script_text(&want, lines ? REPLY_431 : REPLY_414);
        check_output(&d, &want);
        finish(&d);
    }
}

static void long_request_line(void) {
    for (size_t size = WSS__HTTP_LINE_MAX - 1; size <= WSS__HTTP_LINE_MAX + 1; size++) {
        driver d;
        script input = {0};
        script want = {0};
        begin(&d, NULL);
        d.options.max_head = 8192;
        script_text(&input, "GET /");
        while (input.size < size - 9) script_text(&input, "x");
        script_text(&input, " HTTP/1.1\r\n" SCRIPT_HOST SCRIPT_ASKS "\r\n");
        feed_script(&d, &input);
        script_text(&want, size <= WSS__HTTP_LINE_MAX ? SCRIPT_ACCEPTED : REPLY_414);
        check_output(&d, &want);
        finish(&d);
    }
}

static void limit_of_header_lines(void) {
    for (int lines = MAX_HEADERS - 1; lines <= MAX_HEADERS + 1; lines++) {
        driver d;
        script input = {0};
        script want = {0};
        begin(&d, NULL);
        script_text(&input, SCRIPT_REQUEST); /* five of them */
        for (int i = 5; i < lines; i++) script_text(&input, "X: y\r\n");
        script_text(&input, "\r\n");
        feed_script(&d, &input);
        script_text(&want, lines <= MAX_HEADERS ? SCRIPT_ACCEPTED : REPLY_431);
        check_output(&d, &want);
        check_idle(&d);
        finish(&d);
    }
}

/* The loop releases after every turn, and the head so far must survive that. */
static void head_in_two_pieces_survives_release(void) {
    driver d;
    script want = {0};
    begin(&d, NULL);
    feed_text(&d, "GET /chat?room=1 HTTP/1.1\r\nHost: exam");
    CHECK(d.session.input != NULL);
    feed_text(&d, "ple.com\r\n" SCRIPT_ASKS "\r\n");
    check_trace(&d, "upgrade /chat?room=1\n");
    script_text(&want, SCRIPT_ACCEPTED);
    check_output(&d, &want);
    check_idle(&d);
    finish(&d);
}

/* While the request waits nothing is looked at; what came with it is held and then used. */
static void input_waits_for_the_answer(void) {
    mode how = {0};
    driver d;
    wss__session_bytes bytes;
    script input = {0};
    script want = {0};
    how.late = 1;
    begin(&d, &how);
    script_text(&input, SCRIPT_HANDSHAKE);
    script_say(&input, SCRIPT_TEXT, "early");
    script_say(&input, SCRIPT_PING, "p");
    bytes.data = input.data;
    bytes.size = input.size;
    turn(&d, &bytes);
    CHECK_INT(d.session.phase, WSS__SESSION_ASKED);
    check_trace(&d, "upgrade /chat?room=1\n");
    CHECK_INT(d.output.size, 0);
    CHECK_INT(bytes.size, input.size - strlen(SCRIPT_HANDSHAKE));
    CHECK_INT(d.session.input->held_size, bytes.size);
    CHECK(d.session.input->data == NULL);
    script_free(&input);
    go_on(&d);
    check_trace(&d, "upgrade /chat?room=1\nmessage 1 5 early\n");
    script_text(&want, SCRIPT_ACCEPTED);
    script_reply(&want, SCRIPT_PONG, "p", 1);
    check_output(&d, &want);
    check_idle(&d);
    finish(&d);
}
