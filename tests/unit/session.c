/* Unit tests of [session]: one connection's protocol, driven as the loop drives it, but with plain arrays. */
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#define _GNU_SOURCE 1
#include <stdint.h>
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

enum { MAX_MESSAGE = 100000, MAX_HEAD = 1024, MAX_QUEUED = 1000000 };
enum { FRONT = 16 }; /* bytes before each block, where its size is noted */

/* How a driver serves. All zero: no cork, everything is sent at once, input is never held. */
typedef struct mode {
    size_t cork;        /* bytes of the cork; 0: none */
    size_t send;        /* bytes that one send takes; 0: all */
    int echo;           /* sends each message back */
    int pause;          /* stops after each event and goes on after the turn */
    int hold;           /* holds all that comes, once, before it is looked at */
    int late;           /* answers the request after the turn */
    size_t close_after; /* messages after which our Close goes out; 0: never */
} mode;

typedef struct driver {
    wss__mem mem;
    wss_options options;
    wss__session_shared host;
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
    int rule;    /* by which the request was refused */
    int closed;  /* our Close went out before the end */
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
        work_done += noted;
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
    d->options.max_head = MAX_HEAD;
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
    wss__input_free_session(&d->host, &d->session);
    CHECK_INT(d->live, 0);
    CHECK_INT(d->mem.used, 0);
    CHECK_INT(d->session.queued, 0);
    script_free(&d->trace);
    script_free(&d->output);
    free(d->cork);
}

/* What a frame of so many bytes costs its queue, as max_queued counts it. */
static size_t cost_of(size_t size, size_t key_size) {
    return wss__mem_charge(sizeof(wss__buf_frame) + size + key_size) + 16 + (key_size ? 64 : 0);
}

/* Of a ping and a pong at most one each waits, and neither behind anything else that may still be overtaken. */
static void check_interjected(wss__buf_queue *queue) {
    int seen[2] = {0, 0};
    int behind = 0;
    for (uint32_t i = queue->sent || (*wss__buf_at(queue, 0))->fixed; i < queue->count; i++) {
        wss__buf_frame *frame = *wss__buf_at(queue, i);
        int first = (unsigned char)wss__buf_frame_data(frame)[0];
        int kind = frame->control ? first - 0x89 : -1;
        if (kind == 0 || kind == 1) CHECK(!seen[kind]++ && !behind);
        else behind = 1;
    }
}

/* The account is what the frames in the queue cost, control frames nothing; as long as any of them is there. */
static void check_account(driver *d) {
    wss__buf_queue *queue = d->session.queue;
    size_t bytes = 0;
    for (uint32_t i = 0; queue && i < queue->count; i++) {
        wss__buf_frame *frame = *wss__buf_at(queue, i);
        if (frame->control) continue;
        bytes += cost_of(frame->size, frame->key_size);
        if (frame->messages > 1) bytes += (frame->messages - 1) * (size_t)WSS__BUF_MESSAGE;
    }
    CHECK_INT(wss__session_queued(&d->session), bytes);
    CHECK_INT(d->session.coming, 0);
    if (queue) CHECK(queue->count > 0);
    if (queue && queue->count) check_interjected(queue);
}

/* Output. */

static int has_output(const driver *d) {
    return d->session.queue != NULL || (d->host.corked == &d->session && d->host.cork_size > 0);
}

/* One send that takes at most this much: the cork, then the queue. */
static void send_some(driver *d, size_t most) {
    wss__session_shared *shared = &d->host;
    size_t corked = shared->corked == &d->session ? shared->cork_size : 0;
    size_t from_cork = corked < most ? corked : most;
    size_t taken = 0;
    script_bytes(&d->output, shared->cork, from_cork);
    if (corked && !wss__session_uncork(shared, &d->session, from_cork)) d->broken = 1;
    most -= from_cork;
    if (d->broken) return;
    for (uint32_t i = 0; d->session.queue && i < d->session.queue->count && taken < most; i++) {
        size_t size;
        const char *data = wss__buf_peek(d->session.queue, i, &size);
        if (size > most - taken) size = most - taken;
        script_bytes(&d->output, data, size);
        taken += size;
    }
    wss__session_sent(shared, &d->session, taken);
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
    if (frame && key) frame->hash = 1 + (uint32_t)strlen(key) % 3; /* equal keys have equal ones */
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
    CHECK_INT(event->ours, d->closed);
    d->ended = 1;
    if (event->cause == WSS_CAUSE_HANDSHAKE) d->rule = event->rule;
}

static void fail(driver *d, int cause) {
    wss__session_event end;
    memset(&end, 0, sizeof end);
    if (wss__session_fail(&d->host, &d->session, cause, &end) == WSS__SESSION_END) on_end(d, &end);
}

static void lose(driver *d, int cause) {
    wss__session_event end;
    memset(&end, 0, sizeof end);
    if (wss__session_end(&d->host, &d->session, cause, 0, &end) == WSS__SESSION_END) on_end(d, &end);
}

static void close_it(driver *d, int code, const char *reason) {
    d->closed |= d->session.phase == WSS__SESSION_OPEN;
    wss__session_close(&d->host, &d->session, code, wss__base_text(reason), WSS_CAUSE_LOCAL_CLOSE);
}

static void accept_it(driver *d) {
    d->asked = 0;
    if (wss__input_accept(&d->host, &d->session, wss__base_span(d->key, sizeof d->key))) return;
    d->session.phase = WSS__SESSION_ASKED;
    lose(d, WSS_CAUSE_MEMORY);
}

/* With the cork, if it has room, else with the queue. */
static void echo(driver *d, const wss__session_event *event) {
    char *place = wss__session_cork(&d->host, &d->session, event->size + wss__frame_head_size(event->size), 1);
    if (place) {
        place += wss__frame_encode(place, event->opcode, event->size);
        if (event->size) memcpy(place, event->data, event->size);
        wss__session_count_messages(&d->host, 1);
        return;
    }
    wss__buf_frame *frame = frame_of(d, event->opcode, event->data, event->size, NULL);
    if (frame) wss__session_push(&d->host, &d->session, frame, 1);
}

static void on_message(driver *d, const wss__session_event *event) {
    char line[64];
    snprintf(line, sizeof line, "message %d %zu ", event->opcode, event->size);
    note(d, line, event->data, event->size);
    d->messages++;
    if (d->how.echo && d->session.phase == WSS__SESSION_OPEN) echo(d, event);
    if (d->how.close_after == d->messages) close_it(d, 4000, "enough");
}

static void on_request(driver *d, int kind, const wss__session_event *event) {
    const wss_request *request = &event->request;
    const char *target = wss_request_target(request);
    note(d, kind == WSS__SESSION_UPGRADE ? "upgrade " : "http ", target, strlen(target));
    CHECK_INT(d->session.phase, WSS__SESSION_ASKED);
    if (kind == WSS__SESSION_HTTP) {
        wss__session_event end;
        int rule = request->minor ? WSS__HTTP_RULE_NO_UPGRADE : WSS__HTTP_RULE_OLD_HTTP;
        int is_head = request->method == WSS__HTTP_HEAD;
        CHECK_INT(wss__input_reject(&d->host, &d->session, rule, is_head, &end), WSS__SESSION_END);
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
    default: CHECK_INT(kind, WSS__SESSION_END);
    }
}

/* After the end nothing may follow, whatever comes. */
static void check_silence(driver *d, wss__session_bytes *bytes) {
    wss__session_event event;
    CHECK_INT(wss__input_next(&d->host, &d->session, bytes, &event), WSS__SESSION_NEED);
    CHECK_INT(bytes->size, 0);
}

static void dispatch(driver *d, wss__session_bytes *bytes) {
    wss__session_event event;
    while (!d->ended && !d->paused) {
        memset(&event, 0x77, sizeof event);
        int kind = wss__input_next(&d->host, &d->session, bytes, &event);
        if (kind == WSS__SESSION_NEED) {
            CHECK(bytes->size == 0 || d->session.phase == WSS__SESSION_ASKED);
            break;
        }
        handle(d, kind, &event);
        wss__input_event_done(&d->host, &d->session);
        check_account(d);
    }
    if (d->ended) check_silence(d, bytes);
    if (d->ended) wss__input_free_input(&d->host, &d->session);
    else if (!wss__input_hold(&d->host, &d->session, bytes)) fail(d, WSS_CAUSE_MEMORY);
    wss__input_event_done(&d->host, &d->session);
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
    while (!d->ended && (d->asked || wss__input_take_held(&d->session, &bytes))) {
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

/* One receive. Nothing may be read or written behind the block. */
static void feed(driver *d, const void *data, size_t size) {
    wss__session_bytes bytes;
    char *block = (char *)malloc(size);
    if (!block) abort();
    memcpy(block, data, size);
    bytes.data = block;
    bytes.size = size;
    d->paused = d->how.hold;
    turn(d, &bytes);
    free(block); /* nothing may refer to it now */
    go_on(d);
}

static void feed_text(driver *d, const char *text) {
    feed(d, text, strlen(text));
}

static void feed_script(driver *d, script *s) {
    feed(d, s->data, s->size);
    script_free(s);
}

static void check_trace(const driver *d, const char *want) {
    int as_wanted = script_is(&d->trace, want, strlen(want));
    CHECK(as_wanted);
    if (as_wanted || test_broken > 10) return;
    printf("trace:\n%.*s--- and not:\n%s---\n", (int)d->trace.size, d->trace.data, want);
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
    int as_wanted = script_same(&d->output, want);
    CHECK(as_wanted);
    if (!as_wanted && test_broken <= 10) {
        print_bytes("got", &d->output);
        print_bytes("want", want);
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
    {"close of one byte before what looks like the other", BYTES("\x88\x81" Z4 "\x03\xe8"), BAD_FRAME,
     WSS_CAUSE_CLOSE_FRAME},
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
        script_reply_close(&want, f->code, wss_cause_text(f->cause));
        check_output(&d, &want);
        check_idle(&d);
        finish(&d);
        if (test_broken != before) printf("fault: %s\n", f->name);
    }
}

static void continuation_after_the_last(void) {
    driver d;
    begin_open(&d, NULL);
    feed(&d, "\x01\x80" Z4 "\x80\x80" Z4 "\x80\x80" Z4, 18);
    check_trace(&d, "message 1 0 \nend 1002 20 0 \n");
    finish(&d);
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
            begin_open(&d, NULL);
            if (in_message) feed(&d, "\x02\x81" Z4 "a", 7);
            memcpy(head + 2, lengths[wide], extra);
            feed(&d, head, 2 + extra + 4);
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

    char longer[201]; /* is cut */
    memset(longer, 'r', 200);
    longer[200] = 0;
    begin_open(&d, NULL);
    close_it(&d, 4999, longer);
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

/* What is said to whoever is refused by a rule, word for word. */
typedef struct refusal {
    int rule;
    const char *status;
    const char *body;
} refusal;

static const refusal refusals[] = {
    {WSS__HTTP_RULE_LINE_END, "400 Bad Request", "A line of the request does not end in CRLF.\n"},
    {WSS__HTTP_RULE_LINE, "400 Bad Request", "The first line of the request is not METHOD TARGET HTTP/1.1.\n"},
    {WSS__HTTP_RULE_TLS, "400 Bad Request",
     "No TLS is spoken here: use ws:// or http://, or a proxy that ends TLS.\n"},
    {WSS__HTTP_RULE_TARGET, "400 Bad Request",
     "The target must begin with a slash, http://, https://, ws:// or wss://, and be printable ASCII without #.\n"},
    {WSS__HTTP_RULE_FIELD, "400 Bad Request", "A header line has no valid name before its colon.\n"},
    {WSS__HTTP_RULE_VALUE, "400 Bad Request", "A header line holds a control character.\n"},
    {WSS__HTTP_RULE_HOST_LINE, "400 Bad Request", "The Host line is missing, or there are two, or it names no host.\n"},
    {WSS__HTTP_RULE_BODY, "400 Bad Request", "A request with a body is not taken here.\n"},
    {WSS__HTTP_RULE_METHOD, "405 Method Not Allowed",
     "Only GET, and HEAD and OPTIONS of plain HTTP, are answered here.\n"},
    {WSS__HTTP_RULE_LINE_SIZE, "414 URI Too Long", "The first line of the request is too long.\n"},
    {WSS__HTTP_RULE_HEAD_SIZE, "431 Request Header Fields Too Large", "The header lines of the request are too long.\n"},
    {WSS__HTTP_RULE_FIELDS, "431 Request Header Fields Too Large", "The request has more than 64 header lines.\n"},
    {WSS__HTTP_RULE_HTTP, "505 HTTP Version Not Supported", "Only HTTP/1.1 is spoken here.\n"},
    {WSS__HTTP_RULE_OLD_HTTP, "426 Upgrade Required",
     "A WebSocket needs HTTP/1.1, and this came as HTTP/1.0. A proxy must pass it on: nginx needs proxy_http_version 1.1, "
     "and the lines Upgrade and Connection.\n"},
    {WSS__HTTP_RULE_UPGRADE_METHOD, "405 Method Not Allowed", "A WebSocket request must use GET.\n"},
    {WSS__HTTP_RULE_CONNECTION, "400 Bad Request",
     "A WebSocket request needs the line Connection: Upgrade; a proxy may drop it.\n"},
    {WSS__HTTP_RULE_VERSION, "426 Upgrade Required",
     "The line Sec-WebSocket-Version: 13 is missing: no other version is spoken here.\n"},
    {WSS__HTTP_RULE_KEY, "400 Bad Request", "Sec-WebSocket-Key must be there once, with 16 bytes in base64.\n"},
    {WSS__HTTP_RULE_ORIGINS, "400 Bad Request", "The request has more than one Origin line.\n"},
    {WSS__HTTP_RULE_NO_UPGRADE, "426 Upgrade Required",
     "This is a WebSocket server: connect with new WebSocket(\"ws://...\").\n"},
    {WSS__HTTP_RULE_ORIGIN, "403 Forbidden", "Pages of this origin may not connect.\n"},
    {WSS__HTTP_RULE_HOST, "421 Misdirected Request", "This host is not served here.\n"},
    {WSS__HTTP_RULE_REBINDING, "421 Misdirected Request",
     "This came from this very machine, and asks for a host that is not known to be it. Ask for localhost.\n"},
    {WSS__HTTP_RULE_PROXY_MISSING, "400 Bad Request", "A proxy's PROXY header must come first, and did not.\n"},
    {WSS__HTTP_RULE_PROXY_UNASKED, "400 Bad Request", "A PROXY header is not taken from here.\n"},
    {WSS__HTTP_RULE_PER_ADDRESS, "503 Service Unavailable", "This address has as many connections as it may have.\n"},
    {WSS__HTTP_RULE_TIMEOUT, "408 Request Timeout", "The request did not arrive in time.\n"},
    {WSS__HTTP_RULE_CROWDED, "408 Request Timeout", "The request did not arrive within a second, and others wait.\n"},
    {WSS__HTTP_RULE_MEMORY, "503 Service Unavailable", "The server is short of memory. Try later.\n"},
    {WSS__HTTP_RULE_STOPPING, "503 Service Unavailable", "The server is stopping. Try later.\n"},
    {WSS__HTTP_RULE_UNDECIDED, "503 Service Unavailable", "The server did not decide in time. Try later.\n"},
};

enum { REFUSALS = sizeof refusals / sizeof refusals[0] };

/* The answer to a request that is refused, byte for byte; to HEAD the same without its body. */
static void script_refusal(script *s, int rule, int is_head) {
    char head[400];
    int row = 0;
    while (row < REFUSALS - 1 && refusals[row].rule != rule) row++;
    const refusal *r = &refusals[row];
    CHECK_INT(r->rule, rule);
    int status = atoi(r->status);
    snprintf(head, sizeof head, "HTTP/1.1 %s\r\nConnection: close%s%s\r\nContent-Type: text/plain; charset=utf-8\r\n"
             "Content-Length: %zu\r\n\r\n", r->status,
             status == 426 ? ", Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13" : "",
             status == 405 ? "\r\nAllow: GET, HEAD, OPTIONS" : "", strlen(r->body));
    script_text(s, head);
    if (!is_head) script_text(s, r->body);
}

/* A request, and what comes of it: the rule by which it is refused; 0: it is let in. */
typedef struct greeting {
    const char *name;
    const char *head;
    int rule;
    const char *trace;
} greeting;

#define REFUSED "end 1006 13 0 \n"
#define UPGRADED "upgrade /chat?room=1\n"
#define RULE(name) WSS__HTTP_RULE_##name
#define PART_KEY "Sec-WebSocket-Key: " SCRIPT_KEY "\r\n"
#define PART_VERSION "Sec-WebSocket-Version: 13\r\n"
#define PART_UPGRADE "Upgrade: websocket\r\n"
#define PART_ASKS PART_UPGRADE "Connection: Upgrade\r\n"
#define TEN "x123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
#define THOUSAND HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED
#define LINES "A: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n"

static const greeting greetings[] = {
    {"good", SCRIPT_HANDSHAKE, 0, UPGRADED},
    {"same origin", SCRIPT_REQUEST "Origin: http://example.com\r\n\r\n", 0, UPGRADED},
    {"listed origin", SCRIPT_REQUEST "Origin: https://friend.example\r\n\r\n", 0, UPGRADED},
    {"after an empty line", "\r\n" SCRIPT_HANDSHAKE, 0, UPGRADED},
    {"HTTP/1.2", "GET /chat?room=1 HTTP/1.2\r\n" SCRIPT_HOST SCRIPT_ASKS "\r\n", 0, UPGRADED},
    {"absolute", "GET ws://example.com/chat?room=1 HTTP/1.1\r\nHost: other\r\n" SCRIPT_ASKS "Origin: http://example.com\r\n\r\n",
     0, UPGRADED},
    {"absolute, other host", "GET ws://other/ HTTP/1.1\r\n" SCRIPT_HOST SCRIPT_ASKS "\r\n", RULE(HOST), REFUSED},
    {"absolute, origin of the Host line",
     "GET ws://example.com/ HTTP/1.1\r\nHost: other\r\n" SCRIPT_ASKS "Origin: http://other\r\n\r\n", RULE(ORIGIN), REFUSED},
    {"other origin", SCRIPT_REQUEST "Origin: http://evil.example\r\n\r\n", RULE(ORIGIN), REFUSED},
    {"null origin", SCRIPT_REQUEST "Origin: null\r\n\r\n", RULE(ORIGIN), REFUSED},
    {"two origins", SCRIPT_REQUEST "Origin: null\r\nOrigin: null\r\n\r\n", RULE(ORIGINS), REFUSED},
    {"other host", "GET / HTTP/1.1\r\nHost: other.example\r\n" SCRIPT_ASKS "\r\n", RULE(HOST), REFUSED},
    {"no host", "GET / HTTP/1.1\r\n" SCRIPT_ASKS "\r\n", RULE(HOST_LINE), REFUSED},
    {"bare line feeds", "GET / HTTP/1.1\nHost: example.com\n\n", RULE(LINE_END), REFUSED},
    {"two empty lines", "\r\n\r\n" SCRIPT_HANDSHAKE, RULE(LINE), REFUSED},
    {"no HTTP", "\x81\x85", RULE(LINE), REFUSED},
    {"a line of two words", "GET /\r\n\r\n", RULE(LINE), REFUSED},
    {"TLS", "\x16\x03\x01\x02", RULE(TLS), REFUSED},
    {"PROXY", "PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n", RULE(PROXY_UNASKED), REFUSED},
    {"no target", "GET page HTTP/1.1\r\n" SCRIPT_HOST "\r\n", RULE(TARGET), REFUSED},
    {"userinfo", "GET http://a@example.com/ HTTP/1.1\r\n" SCRIPT_HOST "\r\n", RULE(TARGET), REFUSED},
    {"continued line", "GET / HTTP/1.1\r\n" SCRIPT_HOST " continued\r\n\r\n", RULE(FIELD), REFUSED},
    {"control character", "GET / HTTP/1.1\r\n" SCRIPT_HOST "A: \x1b\r\n\r\n", RULE(VALUE), REFUSED},
    {"a body", SCRIPT_REQUEST "Content-Length: 5\r\n\r\n", RULE(BODY), REFUSED},
    {"chunks", SCRIPT_REQUEST "Transfer-Encoding: chunked\r\n\r\n", RULE(BODY), REFUSED},
    {"no connection", "GET / HTTP/1.1\r\n" SCRIPT_HOST PART_UPGRADE PART_KEY PART_VERSION "\r\n", RULE(CONNECTION), REFUSED},
    {"bad key", "GET / HTTP/1.1\r\n" SCRIPT_HOST PART_ASKS "Sec-WebSocket-Key: abc\r\n" PART_VERSION "\r\n", RULE(KEY), REFUSED},
    {"post", "POST / HTTP/1.1\r\n" SCRIPT_HOST SCRIPT_ASKS "\r\n", RULE(METHOD), REFUSED},
    {"upgrade of OPTIONS", "OPTIONS / HTTP/1.1\r\n" SCRIPT_HOST SCRIPT_ASKS "\r\n", RULE(UPGRADE_METHOD), REFUSED},
    {"HTTP/2", "GET / HTTP/2.0\r\n" SCRIPT_HOST SCRIPT_ASKS "\r\n", RULE(HTTP), REFUSED},
    {"HTTP/1.0", "GET / HTTP/1.0\r\n" SCRIPT_HOST SCRIPT_ASKS "\r\n", RULE(OLD_HTTP), REFUSED},
    {"plain HTTP/1.0", "GET /page HTTP/1.0\r\n\r\n", RULE(OLD_HTTP), "http /page\n" REFUSED},
    {"version 8", "GET / HTTP/1.1\r\n" SCRIPT_HOST PART_ASKS PART_KEY "Sec-WebSocket-Version: 8\r\n\r\n", RULE(VERSION), REFUSED},
    {"plain", "GET /page HTTP/1.1\r\n" SCRIPT_HOST "\r\n", RULE(NO_UPGRADE), "http /page\n" REFUSED},
    {"plain head", "HEAD /page HTTP/1.1\r\n" SCRIPT_HOST "\r\n", RULE(NO_UPGRADE), "http /page\n" REFUSED},
    {"options", "OPTIONS * HTTP/1.1\r\n" SCRIPT_HOST "\r\n", RULE(NO_UPGRADE), "http *\n" REFUSED},
    {"two requests", "GET /a HTTP/1.1\r\n" SCRIPT_HOST "\r\nGET /b HTTP/1.1\r\n" SCRIPT_HOST "\r\n", RULE(NO_UPGRADE),
     "http /a\n" REFUSED},
    {"long line", "GET /" THOUSAND TEN TEN, RULE(LINE_SIZE), REFUSED},
    {"long head", "GET / HTTP/1.1\r\nX: " THOUSAND TEN, RULE(HEAD_SIZE), REFUSED},
    {"many lines", "GET / HTTP/1.1\r\n" SCRIPT_HOST LINES LINES LINES LINES LINES LINES LINES LINES "\r\n", RULE(FIELDS), REFUSED},
};

enum { GREETINGS = sizeof greetings / sizeof greetings[0] };

static void set_hosts(driver *d) {
    d->options.hosts = "example.com";
    d->options.origins = "https://friend.example";
}

/* Byte for byte. */
static void replies_to_requests(void) {
    for (size_t i = 0; i < GREETINGS; i++) {
        const greeting *g = &greetings[i];
        int status = wss__http_rule_of(g->rule)->status;
        driver d;
        script want = {0};
        int before = test_broken;
        begin(&d, NULL);
        set_hosts(&d);
        feed_text(&d, g->head);
        check_trace(&d, g->trace);
        if (g->rule) script_refusal(&want, g->rule, strncmp(g->head, "HEAD ", 5) == 0);
        else script_text(&want, SCRIPT_ACCEPTED);
        check_output(&d, &want);
        CHECK_INT(d.rule, g->rule);
        CHECK_INT(d.ended, g->rule != 0);
        CHECK_INT(d.host.stats.refused, g->rule != 0);
        CHECK_INT(d.host.stats.refused_status[4], status / 100 == 4);
        CHECK_INT(d.host.stats.refused_status[5], status / 100 == 5);
        CHECK_INT(d.host.stats.refused_cause[wss__http_rule_of(g->rule)->counter], g->rule != 0);
        check_idle(&d);
        finish(&d);
        if (test_broken != before) printf("greeting: %s\n", g->name);
    }
}

/* Whatever is wrong with it: HEAD in the place of GET is answered without a body, also where the head is cut. */
static void no_body_for_head(void) {
    int seen = 0;
    for (size_t i = 0; i < GREETINGS * 3; i++) {
        const greeting *g = &greetings[i / 3];
        static const size_t pieces[] = {SIZE_MAX, 1, 7};
        const char *get = strstr(g->head, "GET ");
        driver d;
        script input = {0};
        script want = {0};
        if (!get || get - g->head > 2) continue;
        begin(&d, NULL);
        set_hosts(&d);
        script_bytes(&input, g->head, (size_t)(get - g->head));
        script_text(&input, "HEAD ");
        script_text(&input, get + 4);
        for (size_t at = 0, size; at < input.size; at += size) {
            size = wss__base_min(pieces[i % 3], input.size - at);
            feed(&d, input.data + at, size);
        }
        CHECK(d.ended && d.rule > 0);
        script_refusal(&want, d.rule, 1);
        check_output(&d, &want);
        seen++;
        script_free(&input);
        finish(&d);
    }
    CHECK(seen > 80);
}

/* Every rule is in the table of answers, and every one but those that only a server can apply, which tests/e2e has, in
   that of requests. */
static void tables_are_complete(void) {
    static const int elsewhere[] = {RULE(TIMEOUT), RULE(CROWDED), RULE(MEMORY), RULE(STOPPING), RULE(UNDECIDED),
                                    RULE(REBINDING), RULE(PROXY_MISSING), RULE(PER_ADDRESS)};
    int answered[WSS__HTTP_RULE_COUNT] = {0};
    int asked[WSS__HTTP_RULE_COUNT] = {0};
    for (size_t i = 0; i < REFUSALS; i++) answered[refusals[i].rule]++;
    for (size_t i = 0; i < GREETINGS; i++) asked[greetings[i].rule]++;
    for (size_t i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++) asked[elsewhere[i]] += 1000;
    for (int rule = 1; rule < WSS__HTTP_RULE_COUNT; rule++) {
        CHECK_INT(answered[rule], 1);
        if (!asked[rule]) printf("no request breaks rule %d\n", rule);
        CHECK(asked[rule] > 0 && asked[rule] <= 1000);
    }
}

/* Whatever the loop refuses for: the same words, and no body to HEAD. */
static void refused_by_the_loop(void) {
    for (int rule = 1; rule < WSS__HTTP_RULE_COUNT; rule++) {
        for (int is_head = 0; is_head <= 1; is_head++) {
            driver d;
            script want = {0};
            wss__session_event end;
            begin(&d, NULL);
            CHECK_INT(wss__input_reject(&d.host, &d.session, rule, is_head, &end), WSS__SESSION_END);
            on_end(&d, &end);
            flush(&d);
            CHECK_INT(d.rule, rule);
            script_refusal(&want, rule, is_head);
            check_output(&d, &want);
            finish(&d);
        }
    }
}

/* Refused by the loop at the deadline, with a head that has begun. */
static void late_request(void) {
    driver d;
    script want = {0};
    wss__session_event end;
    begin(&d, NULL);
    feed_text(&d, "GET / HTTP/1.1\r\nHost: exam");
    CHECK_INT(wss__input_reject(&d.host, &d.session, WSS__HTTP_RULE_TIMEOUT, 0, &end), WSS__SESSION_END);
    on_end(&d, &end);
    flush(&d);
    check_trace(&d, REFUSED);
    script_refusal(&want, WSS__HTTP_RULE_TIMEOUT, 0);
    check_output(&d, &want);
    wss__input_event_done(&d.host, &d.session);
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
            if (size <= MAX_HEAD) script_text(&want, SCRIPT_ACCEPTED);
            else script_refusal(&want, WSS__HTTP_RULE_HEAD_SIZE, 0);
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
        script_refusal(&want, lines ? WSS__HTTP_RULE_HEAD_SIZE : WSS__HTTP_RULE_LINE_SIZE, 0);
        check_output(&d, &want);
        finish(&d);
    }
}

/* A first line may be as long as the head: of what is too long the line is to blame only where it alone is. size: with its
   line end. */
static void long_request_line(void) {
    static const size_t sizes[] = {4095, 4096, 4097, 4098, 8192, 8193, 16000, 16240, 16241, 16242, 16383, 16384, 16385, 16386};
    const size_t rest = strlen(SCRIPT_HOST SCRIPT_ASKS "\r\n");
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] * 2; i++) {
        size_t size = sizes[i / 2];
        driver d;
        script input = {0};
        script want = {0};
        begin(&d, NULL);
        d.options.max_head = 16384;
        script_text(&input, "GET /");
        while (input.size < size - 11) script_text(&input, "x");
        script_text(&input, " HTTP/1.1\r\n" SCRIPT_HOST SCRIPT_ASKS "\r\n");
        CHECK_INT(input.size, size + rest);
        for (size_t at = 0, piece; at < input.size; at += piece) {
            piece = wss__base_min(i % 2 ? 1000 : input.size, input.size - at);
            feed(&d, input.data + at, piece);
        }
        if (size + rest <= 16384) script_text(&want, SCRIPT_ACCEPTED);
        else script_refusal(&want, size <= 16384 ? WSS__HTTP_RULE_HEAD_SIZE : WSS__HTTP_RULE_LINE_SIZE, 0);
        check_output(&d, &want);
        script_free(&input);
        finish(&d);
    }
}

static void limit_of_header_lines(void) {
    for (int lines = 63; lines <= 65; lines++) {
        driver d;
        script input = {0};
        script want = {0};
        begin(&d, NULL);
        script_text(&input, SCRIPT_REQUEST); /* five of them */
        for (int i = 5; i < lines; i++) script_text(&input, "X: y\r\n");
        script_text(&input, "\r\n");
        feed_script(&d, &input);
        if (lines <= 64) script_text(&want, SCRIPT_ACCEPTED);
        else script_refusal(&want, WSS__HTTP_RULE_FIELDS, 0);
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

/* Limits of messages. -------------------------------------------------------------------------------------------- */

/* Ends the session, or not, when the message is one byte below, at, or one above the limit; in one frame or in two. */
static void limit_of_a_message(void) {
    static const size_t limits[] = {1, 125, 126, 300, 65535, 65536};
    for (size_t l = 0; l < sizeof limits / sizeof limits[0]; l++) {
        for (size_t size = limits[l] - 1; size <= limits[l] + 1; size++) {
            for (size_t first = 0; first <= size; first += 1 + size / 3) {
                driver d;
                script input = {0};
                begin_open(&d, NULL);
                d.options.max_message = limits[l];
                if (first) script_fill(&input, SCRIPT_TEXT, SCRIPT_MORE, first);
                script_fill(&input, first ? SCRIPT_CONTINUATION : SCRIPT_TEXT, SCRIPT_FINAL, size - first);
                feed_script(&d, &input);
                CHECK_INT(d.messages, size <= limits[l]);
                CHECK_INT(d.ended, size > limits[l]);
                if (d.ended) check_trace(&d, "end 1009 9 0 \n");
                check_idle(&d);
                finish(&d);
            }
        }
    }
}

/* Judged at the header: nothing is allocated for what is too big. */
static void too_big_costs_nothing(void) {
    mode how = {0};
    driver d;
    script want = {0};
    how.cork = 256;
    begin_open(&d, &how);
    d.options.max_message = 300;
    feed(&d, "\x82\xfe\x01\x2d" Z4, 8);
    check_trace(&d, "end 1009 9 0 \n");
    CHECK_INT(d.calls, 0);
    script_reply_close(&want, 1009, "message too big");
    check_output(&d, &want);
    finish(&d);
}

/* 1,024, and one more for each 16 bytes that have come before: frames that carry as much are never too many. */
static void limit_of_fragments(void) {
    static const struct {
        size_t size;
        int most;
    } cases[] = {{0, 1024}, {1, 1092}, {8, 2047}, {15, 16369}, {16, 0}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        int most = cases[c].most ? cases[c].most : 20000;
        for (int frames = most - 1; frames <= most + 1; frames++) {
            int admitted = frames <= most || !cases[c].most;
            driver d;
            script input = {0};
            begin_open(&d, NULL);
            d.options.max_message = WSS_UNLIMITED;
            for (int i = 0; i < frames; i++) {
                script_frame(&input, i ? SCRIPT_CONTINUATION : SCRIPT_BINARY, i == frames - 1, "0123456789abcdef", cases[c].size);
                if (i % 500 == 499) script_say(&input, SCRIPT_PING, ""); /* is none of them */
            }
            feed_script(&d, &input);
            CHECK_INT(d.messages, admitted);
            if (!admitted) check_trace(&d, "end 1008 10 0 \n");
            check_idle(&d);
            finish(&d);
        }
    }
}

/* As every fault: one Close goes out, ours or that of the cause, and nothing is looked at behind it. */
static void too_many_fragments(void) {
    for (int ours = 0; ours < 2; ours++) {
        driver d;
        script input = {0};
        script want = {0};
        begin_open(&d, NULL);
        if (ours) close_it(&d, 4001, "mine");
        for (int i = 0; i < 1025; i++) script_frame(&input, i ? SCRIPT_CONTINUATION : SCRIPT_TEXT, i == 1024, "", 0);
        script_say(&input, SCRIPT_TEXT, "after");
        feed_script(&d, &input);
        check_trace(&d, ours ? "end 4001 7 0 \n" : "end 1008 10 0 \n");
        script_reply_close(&want, ours ? 4001 : 1008, ours ? "mine" : wss_cause_text(WSS_CAUSE_TOO_MANY_FRAGMENTS));
        check_output(&d, &want);
        check_idle(&d);
        finish(&d);
    }
}

/* The count begins anew with each message. */
static void fragments_of_two_messages(void) {
    driver d;
    script input = {0};
    begin_open(&d, NULL);
    for (int i = 0; i < 2048; i++)
        script_frame(&input, i % 1024 ? SCRIPT_CONTINUATION : SCRIPT_TEXT, i % 1024 == 1023, "", 0);
    feed_script(&d, &input);
    CHECK_INT(d.messages, 2);
    finish(&d);
}

static void limits_switched_off(void) {
    driver d;
    script input = {0};
    begin_open(&d, NULL);
    d.options.max_message = WSS_UNLIMITED;
    for (int i = 0; i < 5000; i++)
        script_frame(&input, i ? SCRIPT_CONTINUATION : SCRIPT_TEXT, i == 4999, "0123456789abcdef", 16);
    script_fill(&input, SCRIPT_BINARY, SCRIPT_FINAL, 300000);
    feed_script(&d, &input);
    CHECK_INT(d.messages, 2);
    feed(&d, "\x82\xff\x80\0\0\0\0\0\0\0" Z4, 14);
    CHECK_INT(d.ended, 1);
    finish(&d);
}

/* Conversations, cut in every way. ------------------------------------------------------------------------------- */

static void talk_small(script *s) {
    script_text(s, SCRIPT_HANDSHAKE);
    script_say(s, SCRIPT_TEXT, "hello");
    script_say(s, SCRIPT_PING, "are you there");
    script_say(s, SCRIPT_BINARY, "\x80\xff\xfe");
    script_say(s, SCRIPT_PONG, "12345678");
    script_close(s, 1000, "bye");
    script_say(s, SCRIPT_TEXT, "never");
    script_bytes(s, "\xff\xff\xff", 3);
}

static void talk_fragments(script *s) {
    script_text(s, SCRIPT_HANDSHAKE);
    script_frame(s, SCRIPT_TEXT, SCRIPT_MORE, "one ", 4);
    script_say(s, SCRIPT_PING, "a");
    script_frame(s, SCRIPT_CONTINUATION, SCRIPT_MORE, "", 0);
    script_say(s, SCRIPT_PING, "");
    script_say(s, SCRIPT_PONG, "b");
    script_frame(s, SCRIPT_CONTINUATION, SCRIPT_MORE, "two ", 4);
    script_fill(s, SCRIPT_PING, SCRIPT_FINAL, 125);
    script_frame(s, SCRIPT_CONTINUATION, SCRIPT_FINAL, "three", 5);
    script_frame(s, SCRIPT_BINARY, SCRIPT_MORE, "\xff\x00", 2);
    script_frame(s, SCRIPT_CONTINUATION, SCRIPT_FINAL, "\xfe", 1);
    script_frame(s, SCRIPT_TEXT, SCRIPT_MORE, "", 0);
    script_frame(s, SCRIPT_CONTINUATION, SCRIPT_FINAL, "", 0);
    script_fill(s, SCRIPT_TEXT, SCRIPT_MORE, 126);
    script_fill(s, SCRIPT_CONTINUATION, SCRIPT_FINAL, 200);
    script_say(s, SCRIPT_CLOSE, "");
}

/* Characters of one to four bytes, cut after each byte. */
static void talk_utf8(script *s) {
    static const char text[] = "\xce\xba\xe2\x82\xac\xf0\x9f\x98\x80!\xed\x9f\xbf\xf4\x8f\xbf\xbf";
    script_text(s, SCRIPT_HANDSHAKE);
    for (size_t at = 0; at < sizeof text; at++) {
        script_frame(s, SCRIPT_TEXT, SCRIPT_MORE, text, at);
        script_say(s, SCRIPT_PONG, "");
        script_frame(s, SCRIPT_CONTINUATION, SCRIPT_FINAL, text + at, sizeof text - 1 - at);
    }
    for (size_t at = 0; at + 6 < sizeof text; at += 6) {
        for (size_t i = 0; i < 6; i++)
            script_frame(s, i ? SCRIPT_CONTINUATION : SCRIPT_TEXT, i == 5, text + at + i, 1);
    }
}

static void talk_empty(script *s) {
    script_text(s, SCRIPT_HANDSHAKE);
    script_say(s, SCRIPT_TEXT, "");
    script_say(s, SCRIPT_BINARY, "");
    script_say(s, SCRIPT_PING, "");
    script_say(s, SCRIPT_PONG, "");
    script_say(s, SCRIPT_TEXT, "");
    script_close(s, 1001, "");
}

static void talk_sizes(script *s) {
    static const size_t sizes[] = {1, 124, 125, 126, 127, 65535, 65536};
    script_text(s, SCRIPT_HANDSHAKE);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        script_fill(s, i % 2 ? SCRIPT_TEXT : SCRIPT_BINARY, SCRIPT_FINAL, sizes[i]);
        script_say(s, SCRIPT_PING, "between");
    }
    script_close(s, 4999, "done");
}

static void talk_large_fragments(script *s) {
    script_text(s, SCRIPT_HANDSHAKE);
    script_fill(s, SCRIPT_TEXT, SCRIPT_MORE, 30000);
    script_say(s, SCRIPT_PING, "1");
    script_fill(s, SCRIPT_CONTINUATION, SCRIPT_MORE, 40000);
    script_say(s, SCRIPT_PING, "2");
    script_fill(s, SCRIPT_CONTINUATION, SCRIPT_FINAL, 30000);
    script_fill(s, SCRIPT_BINARY, SCRIPT_FINAL, 20000);
}

static void talk_too_big(script *s) {
    script_text(s, SCRIPT_HANDSHAKE);
    script_fill(s, SCRIPT_BINARY, SCRIPT_MORE, 300);
    script_say(s, SCRIPT_PING, "last");
    script_fill(s, SCRIPT_CONTINUATION, SCRIPT_MORE, MAX_MESSAGE - 299);
}

static void talk_too_many(script *s) {
    script_text(s, SCRIPT_HANDSHAKE);
    for (int i = 0; i < 1030; i++) script_frame(s, i ? SCRIPT_CONTINUATION : SCRIPT_TEXT, SCRIPT_MORE, "ab", i % 500 == 1);
    script_say(s, SCRIPT_PING, "never");
}

/* It stops in the middle of a frame: the end is that of the stream. */
static void talk_unfinished(script *s) {
    script_text(s, SCRIPT_HANDSHAKE);
    script_say(s, SCRIPT_TEXT, "whole");
    script_frame(s, SCRIPT_TEXT, SCRIPT_MORE, "half", 4);
    script_say(s, SCRIPT_BINARY + 7, "ping"); /* 9 */
    script_frame(s, SCRIPT_CONTINUATION, SCRIPT_FINAL, "the rest of it", 14);
    s->size -= 5;
}

static void talk_unfinished_head(script *s) {
    script_text(s, SCRIPT_REQUEST "Cookie: a=b\r\n");
}

static void talk_unfinished_frame_head(script *s) {
    script_text(s, SCRIPT_HANDSHAKE);
    script_say(s, SCRIPT_TEXT, "x");
    script_bytes(s, "\x82\xff\0\0\0\0\0\1\0", 9);
}

static void talk_unfinished_control(script *s) {
    script_text(s, SCRIPT_HANDSHAKE);
    script_say(s, SCRIPT_PING, "0123456789");
    s->size -= 3;
}

static void talk_many(script *s) {
    script_text(s, SCRIPT_HANDSHAKE);
    for (int i = 0; i < 12; i++) {
        char text[32];
        snprintf(text, sizeof text, "number %d", i);
        script_say(s, i % 3 ? SCRIPT_TEXT : SCRIPT_PING, text);
    }
}

static void talk_long_head(script *s) {
    script_request_of(s, MAX_HEAD);
    script_say(s, SCRIPT_TEXT, "first");
}

static void talk_head_too_long(script *s) {
    script_request_of(s, MAX_HEAD + 1);
    script_say(s, SCRIPT_TEXT, "first");
}

typedef struct conversation {
    const char *name;
    void (*talk)(script *s);
    size_t close_after; /* our Close goes out after so many messages */
} conversation;

static const conversation conversations[] = {
    {"small", talk_small, 0},
    {"fragments", talk_fragments, 0},
    {"utf8", talk_utf8, 0},
    {"empty", talk_empty, 0},
    {"sizes", talk_sizes, 0},
    {"large fragments", talk_large_fragments, 0},
    {"too big", talk_too_big, 0},
    {"too many", talk_too_many, 0},
    {"unfinished", talk_unfinished, 0},
    {"unfinished head", talk_unfinished_head, 0},
    {"unfinished frame head", talk_unfinished_frame_head, 0},
    {"unfinished control frame", talk_unfinished_control, 0},
    {"many", talk_many, 0},
    {"long head", talk_long_head, 0},
    {"head too long", talk_head_too_long, 0},
    {"small, closed by us", talk_small, 1},
    {"fragments, closed by us", talk_fragments, 1},
    {"many, closed by us", talk_many, 3},
    {"too many, closed by us", talk_too_many, 1},
    {"sizes, closed by us", talk_sizes, 2},
};

enum { CONVERSATIONS = sizeof conversations / sizeof conversations[0] };
enum { TALKS = CONVERSATIONS + FAULTS + GREETINGS };

/* Conversations, then faults, then greetings, each followed by frames. */
static const char *make_talk(size_t index, script *s, size_t *close_after) {
    *close_after = 0;
    if (index < CONVERSATIONS) {
        conversations[index].talk(s);
        *close_after = conversations[index].close_after;
        return conversations[index].name;
    }
    index -= CONVERSATIONS;
    if (index < FAULTS) {
        script_text(s, SCRIPT_HANDSHAKE);
        script_say(s, SCRIPT_TEXT, "before");
        script_bytes(s, faults[index].bytes, faults[index].size);
        script_say(s, SCRIPT_TEXT, "after");
        return faults[index].name;
    }
    index -= FAULTS;
    script_text(s, greetings[index].head);
    script_say(s, SCRIPT_TEXT, "early");
    script_say(s, SCRIPT_PING, "early");
    return greetings[index].name;
}

/* Hears the script in pieces that end at these places, then the end of the stream; adds the counters to the trace. */
static void hear(driver *d, const mode *how, const script *s, size_t close_after, const size_t *cuts, size_t count) {
    char line[128];
    size_t at = 0;
    begin(d, how);
    set_hosts(d);
    d->how.close_after = close_after;
    for (size_t i = 0; i <= count; i++) {
        size_t to = i < count ? cuts[i] : s->size;
        feed(d, s->data + at, to - at);
        at = to;
    }
    if (!wss__input_is_partial(&d->session) && d->session.phase != WSS__SESSION_HEAD) check_idle(d);
    if (!d->ended) lose(d, WSS_CAUSE_PEER_VANISHED);
    const wss_stats *stats = &d->host.stats;
    snprintf(line, sizeof line, "frames %d %d messages %d %d", (int)stats->frames_in, (int)(stats->frames_out + stats->messages_out),
             (int)stats->messages_in, (int)stats->messages_out);
    note(d, line, "", 0);
}

/* A frame of what a server has sent, and how many others than pongs stand before it. */
typedef struct heard {
    const char *at;
    size_t size;
    size_t others;
} heard;

enum { HEARD_MAX = 12000 };

/* The frames of what was sent, behind the answer to the request, pongs apart from the others: how many of them. */
static size_t take_apart(const script *output, script *others, heard *pongs) {
    size_t at = output->size >= sizeof SCRIPT_ACCEPTED - 1 ? sizeof SCRIPT_ACCEPTED - 1 : output->size;
    size_t before = 0;
    size_t count = 0;
    if (memcmp(output->data ? output->data : "", SCRIPT_ACCEPTED, at) != 0) at = output->size; /* a refusal */
    script_bytes(others, output->data, at);
    while (at < output->size) {
        const unsigned char *frame = (const unsigned char *)output->data + at;
        size_t width = frame[1] == 126 ? 2 : frame[1] == 127 ? 8 : 0;
        size_t size = width ? 0 : frame[1];
        for (size_t i = 0; i < width; i++) size = size * 256 + frame[2 + i];
        size += 2 + width;
        CHECK(size <= output->size - at && count < HEARD_MAX);
        if (size > output->size - at || count == HEARD_MAX) break;
        if (frame[0] == 0x8a) pongs[count++] = (heard){output->data + at, size, before};
        else script_bytes(others, frame, size);
        before += frame[0] != 0x8a;
        at += size;
    }
    return count;
}

/* That all has left which has left in the other, in its order, but for pongs: these are some of the other's, in their order,
   with the last one of them, and none has fallen behind what it stood before. */
static int same_but_for_pongs(const script *got, const script *whole) {
    static heard all[HEARD_MAX];
    static heard some[HEARD_MAX];
    script others[2] = {{0}, {0}};
    size_t left = take_apart(whole, &others[0], all);
    size_t count = take_apart(got, &others[1], some);
    int same = script_same(&others[0], &others[1]) && (count > 0) == (left > 0);
    for (size_t i = count; same && i-- > 0;) {
        size_t was = left;
        while (left && (all[left - 1].size != some[i].size || memcmp(all[left - 1].at, some[i].at, some[i].size) != 0)) left--;
        same = left > 0 && (i + 1 < count || left == was) && some[i].others <= all[left - 1].others;
        if (same) left--;
    }
    script_free(&others[0]);
    script_free(&others[1]);
    return same;
}

/* In pieces of a byte each ping is answered at once, and so it is where the cork has room for all; it has none while the 101 waits. */
static void hear_like(const driver *whole, const mode *how, const script *s, size_t close_after, const size_t *cuts,
                      size_t count) {
    driver d;
    int exact = count + 1 >= s->size || (how && !how->late && how->cork >= whole->output.size);
    hear(&d, how, s, close_after, cuts, count);
    int same_trace = script_same(&d.trace, &whole->trace);
    int same_output = exact ? script_same(&d.output, &whole->output) : same_but_for_pongs(&d.output, &whole->output);
    CHECK(same_trace);
    CHECK(same_output);
    if (!same_trace && test_broken <= 3) {
        print_bytes("trace", &d.trace);
        print_bytes("and not", &whole->trace);
    }
    if (!same_output && test_broken <= 3) {
        print_bytes("output", &d.output);
        print_bytes("and not", &whole->output);
    }
    finish(&d);
}

/* All at once, with a cork that has room for each answer: what all others must be like. */
static void hear_whole(driver *d, const script *s, size_t close_after, int echo) {
    mode how = {0};
    how.cork = 1 << 20;
    how.echo = echo;
    hear(d, &how, s, close_after, NULL, 0);
}

static uint32_t random_state = 1;

static uint32_t random_below(uint32_t limit) {
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)(random_state >> 4) * limit) >> 28);
}

static int compare_cuts(const void *a, const void *b) {
    size_t x = *(const size_t *)a;
    size_t y = *(const size_t *)b;
    return x < y ? -1 : x > y;
}

enum { CUTS_MAX = 12 };

static size_t random_cuts(size_t *cuts, size_t size) {
    size_t count = 2 + random_below(CUTS_MAX - 1);
    for (size_t i = 0; i < count; i++) cuts[i] = random_below((uint32_t)size + 1);
    qsort(cuts, count, sizeof *cuts, compare_cuts);
    return count;
}

/* Long scripts are cut at every byte only near their ends and where a large payload begins or ends. */
static size_t next_cut(const script *s, size_t cut) {
    if (s->size < 4096 || cut < 1100 || s->size - cut < 100 || cut % 4096 < 8) return cut + TEST_STRIDE;
    return cut + TEST_STRIDE * (7 + random_below(700));
}

static void cut_in_two(void) {
    for (size_t t = 0; t < TALKS; t++) {
        script s = {0};
        driver whole;
        size_t close_after;
        int before = test_broken;
        const char *name = make_talk(t, &s, &close_after);
        hear_whole(&whole, &s, close_after, 0);
        for (size_t cut = 1; cut < s.size; cut = next_cut(&s, cut)) {
            hear_like(&whole, NULL, &s, close_after, &cut, 1);
            if (test_broken != before) {
                printf("%s, cut at %zu\n", name, cut);
                break;
            }
        }
        finish(&whole);
        script_free(&s);
    }
}

/* The shapes in which input and output are held up; each must look the same from outside. */
static const mode modes[] = {
    {0, 0, 0, 0, 0, 0, 0},
    {65536, 0, 0, 0, 0, 0, 0},  /* cork */
    {24, 0, 0, 0, 0, 0, 0},     /* cork that is soon full */
    {65536, 7, 0, 0, 0, 0, 0},  /* small sends */
    {24, 1, 0, 0, 0, 0, 0},
    {0, 0, 0, 1, 0, 0, 0},      /* pause after each event */
    {65536, 0, 0, 1, 0, 0, 0},
    {0, 0, 0, 0, 1, 0, 0},      /* hold everything once */
    {0, 0, 0, 0, 0, 1, 0},      /* late answer */
    {4096, 100, 0, 1, 1, 1, 0}, /* all of it */
};

enum { MODES = sizeof modes / sizeof modes[0] };

static void talk_in_a_mode(const script *s, size_t close_after, const mode *how, const driver *whole) {
    size_t cuts[CUTS_MAX];
    hear_like(whole, how, s, close_after, NULL, 0);
    for (int i = 0; i < (s->size < 4096 ? 30 : 6); i += TEST_STRIDE) {
        size_t count = random_cuts(cuts, s->size);
        hear_like(whole, how, s, close_after, cuts, count);
    }
}

static void hear_byte_by_byte(const script *s, size_t close_after, const mode *how, const driver *whole) {
    size_t *cuts = (size_t *)malloc(s->size * sizeof *cuts);
    if (!cuts) abort();
    for (size_t i = 0; i + 1 < s->size; i++) cuts[i] = i + 1;
    hear_like(whole, how, s, close_after, cuts, s->size - 1);
    free(cuts);
}

/* Many random cuts and every byte by itself, in every mode, without echo and with it: one trace, one output. */
static void cut_in_many(void) {
    for (size_t t = 0; t < TALKS; t++) {
        script s = {0};
        size_t close_after;
        const char *name = make_talk(t, &s, &close_after);
        for (int echo = 0; echo < 2; echo++) {
            driver whole;
            hear_whole(&whole, &s, close_after, echo);
            for (size_t m = 0; m < MODES; m++) {
                int before = test_broken;
                mode how = modes[m];
                how.echo = echo;
                talk_in_a_mode(&s, close_after, &how, &whole);
                if (s.size < 4096 || (!echo && m == 0)) hear_byte_by_byte(&s, close_after, &how, &whole);
                if (test_broken != before) printf("%s in mode %zu, echo %d\n", name, m, echo);
            }
            finish(&whole);
        }
        script_free(&s);
    }
}

/* All ways to cut one conversation in three. */
static void cut_in_three(void) {
    script s = {0};
    driver whole;
    talk_fragments(&s);
    s.size = 600;
    hear_whole(&whole, &s, 0, 0);
    for (size_t a = 150; a < s.size; a++) {
        for (size_t b = a + 1; b < s.size; b += TEST_STRIDE * (1 + a % 3)) {
            size_t cuts[2] = {a, b};
            hear_like(&whole, NULL, &s, 0, cuts, 2);
        }
        if (test_broken) break;
    }
    finish(&whole);
    script_free(&s);
}

/* What the oracle itself says, written down once. */
static void what_is_heard(void) {
    script s = {0};
    script want = {0};
    driver d;
    mode how = {0};
    how.cork = 4096;
    talk_fragments(&s);
    begin(&d, &how);
    feed_script(&d, &s);
    note(&d, "", "", 0);
    script_text(&want, "upgrade /chat?room=1\npong b\nmessage 1 13 one two three\n");
    script_bytes(&want, "message 2 3 \xff\0\xfe\n", 16);
    script_text(&want, "message 1 0 \nmessage 1 326 ");
    for (int i = 0; i < 326; i++) script_bytes(&want, &"abcdefghijklmnopqrstuvwxyz"[(i < 126 ? i : i - 126) % 26], 1);
    script_text(&want, "\nend 1005 1 0 \n\n");
    CHECK(script_same(&d.trace, &want));
    script_free(&want);
    script_text(&want, SCRIPT_ACCEPTED "\x8a\x01" "a\x8a");
    script_bytes(&want, "\x00\x8a\x7d", 3);
    for (int i = 0; i < 125; i++) script_bytes(&want, &"abcdefghijklmnopqrstuvwxyz"[i % 26], 1);
    script_bytes(&want, "\x88\x00", 2);
    check_output(&d, &want);
    CHECK_INT(d.host.stats.messages_in, 4);
    CHECK_INT(d.host.stats.frames_in, 15);
    CHECK_INT(d.host.stats.frames_out + d.host.stats.messages_out, 4);
    finish(&d);
}

/* Pings and pongs. ----------------------------------------------------------------------------------------------- */

static void ping_of_every_size(void) {
    for (size_t size = 0; size <= 125; size++) {
        driver d;
        script input = {0};
        script want = {0};
        char payload[125];
        for (size_t i = 0; i < size; i++) payload[i] = (char)(i * 7);
        begin_open(&d, NULL);
        script_frame(&input, SCRIPT_PING, SCRIPT_FINAL, payload, size);
        feed_script(&d, &input);
        script_reply(&want, SCRIPT_PONG, payload, size);
        CHECK_INT(d.host.stats.frames_out + d.host.stats.messages_out, 1);
        check_output(&d, &want);
        check_trace(&d, "");
        check_idle(&d);
        finish(&d);
    }
}

static void say_pings(script *s, int first, int last) {
    for (int i = first; i <= last; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        script_say(s, SCRIPT_PING, text);
    }
}

static void want_pongs(script *s, int first, int last) {
    for (int i = first; i <= last; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        script_reply(s, SCRIPT_PONG, text, strlen(text));
    }
}

/* Of pings that come together all are answered while their answers have room in a cork, and else the newest. */
static void ten_pings_ten_pongs(void) {
    for (size_t cork = 0; cork <= 40; cork++) {
        mode how = {0};
        driver d;
        script input = {0};
        script want = {0};
        how.cork = cork;
        begin_open(&d, &how);
        say_pings(&input, 1, 10);
        feed_script(&d, &input);
        int fit = cork >= 31 ? 10 : (int)cork / 3; /* 9 pongs of 3 bytes, one of 4 */
        want_pongs(&want, 1, fit);
        want_pongs(&want, fit < 10 ? 10 : 11, 10);
        CHECK_INT(d.host.stats.frames_out + d.host.stats.messages_out, 10);
        check_output(&d, &want);
        check_idle(&d);
        finish(&d);
    }
}

static void many_pings_while_writable(void) {
    mode how = {0};
    driver d;
    script input = {0};
    script want = {0};
    how.cork = 4096;
    begin_open(&d, &how);
    say_pings(&input, 1, 500);
    feed_script(&d, &input);
    want_pongs(&want, 1, 500);
    check_output(&d, &want);
    finish(&d);
}

/* Puts something in front that the peer does not take: from then on the queue is blocked. */
static void block(driver *d, script *sent) {
    wss__buf_frame *frame = frame_of(d, SCRIPT_TEXT, "in the way", 10, NULL);
    CHECK_INT(wss__session_push(&d->host, &d->session, frame, 1), WSS_OK);
    send_some(d, 3);
    script_reply(sent, SCRIPT_TEXT, "in the way", 10);
}

/* Hears frames without sending anything. */
static void hear_blocked(driver *d, script *s) {
    wss__session_bytes bytes;
    bytes.data = s->data;
    bytes.size = s->size;
    dispatch(d, &bytes);
    CHECK_INT(bytes.size, 0);
    check_account(d);
    script_free(s);
}

/* Only the newest ping is answered, at the next border between frames, however many there were. */
static void pongs_while_blocked(void) {
    driver d;
    script input = {0};
    script want = {0};
    begin_open(&d, NULL);
    block(&d, &want);
    say_pings(&input, 1, 1);
    hear_blocked(&d, &input);
    CHECK_INT(d.session.queue->count, 2);
    size_t live = d.live;
    size_t queued = wss__session_queued(&d.session);
    say_pings(&input, 2, 1000);
    hear_blocked(&d, &input);
    CHECK_INT(d.session.queue->count, 2);
    CHECK_INT(d.live, live + 3); /* the digits */
    CHECK_INT(wss__session_queued(&d.session), queued);
    size_t peak = d.live_peak = d.live;
    say_pings(&input, 1001, 2000);
    say_pings(&input, 1001, 1001);
    hear_blocked(&d, &input);
    CHECK_INT(d.session.queue->count, 2);
    CHECK_INT(d.live_peak, peak); /* a pong of the same size is written over the one that waits */
    /* It has begun to leave: it stays, and the next ones are answered behind it. */
    send_some(&d, 9 + 1);
    say_pings(&input, 1002, 1005);
    hear_blocked(&d, &input);
    CHECK_INT(d.session.queue->count, 2);
    flush(&d);
    want_pongs(&want, 1001, 1001);
    want_pongs(&want, 1005, 1005);
    check_output(&d, &want);
    check_idle(&d);
    finish(&d);
}

/* A ping of ours, a pong and a Close take each other's places not, whatever was in the memory before. */
static void controls_of_each_kind(void) {
    driver d;
    script input = {0};
    script want = {0};
    char text[16];
    begin_open(&d, NULL);
    for (int i = 0; i < 30; i++) {
        snprintf(text, sizeof text, "%08d", i);
        CHECK(wss__session_put_control(&d.host, &d.session, WSS__FRAME_PING, wss__base_text(text)));
        check_account(&d);
        say_pings(&input, i, i);
        hear_blocked(&d, &input);
    }
    close_it(&d, 1000, "");
    check_account(&d);
    CHECK_INT(d.session.queue->count, 3);
    CHECK_INT(wss__session_queued(&d.session), 0);
    flush(&d);
    want_pongs(&want, 29, 29);
    script_reply(&want, SCRIPT_PING, text, 8);
    script_reply_close(&want, 1000, "");
    check_output(&d, &want);
    finish(&d);
}

/* A pong that has begun to leave is not replaced. */
static void started_pong_stays(void) {
    driver d;
    script input = {0};
    script want = {0};
    begin_open(&d, NULL);
    say_pings(&input, 1, 16);
    hear_blocked(&d, &input);
    send_some(&d, 1);
    say_pings(&input, 17, 40);
    hear_blocked(&d, &input);
    CHECK_INT(d.session.queue->count, 2);
    flush(&d);
    want_pongs(&want, 16, 16);
    want_pongs(&want, 40, 40);
    check_output(&d, &want);
    finish(&d);
}

/* Pings and pongs get ahead of data that waits, of what has begun to leave they do not; the Close goes last. */
static void pongs_ahead_of_data(void) {
    driver d;
    script input = {0};
    script want = {0};
    begin_open(&d, NULL);
    block(&d, &want);
    say_pings(&input, 1, 16);
    hear_blocked(&d, &input);
    for (int i = 0; i < 20; i++)
        CHECK_INT(wss__session_push(&d.host, &d.session, frame_of(&d, SCRIPT_TEXT, "behind", 6, NULL), 1), WSS_OK);
    CHECK(wss__session_put_control(&d.host, &d.session, WSS__FRAME_PING, wss__base_text("ours")));
    say_pings(&input, 17, 18);
    hear_blocked(&d, &input);
    close_it(&d, 1000, "");
    flush(&d);
    script_reply(&want, SCRIPT_PING, "ours", 4);
    want_pongs(&want, 18, 18);
    for (int i = 0; i < 20; i++) script_reply(&want, SCRIPT_TEXT, "behind", 6);
    script_reply_close(&want, 1000, "");
    check_output(&d, &want);
    finish(&d);
}

/* Before the upgrade's answer has left nothing is a frame: a ping goes behind it. */
static void pongs_behind_the_101(void) {
    driver d;
    script want = {0};
    begin(&d, NULL);
    d.session.phase = WSS__SESSION_ASKED;
    CHECK(wss__input_accept(&d.host, &d.session, wss__base_text(SCRIPT_KEY)));
    CHECK_INT(wss__session_push(&d.host, &d.session, frame_of(&d, SCRIPT_TEXT, "x", 1, NULL), 1), WSS_OK);
    for (int i = 0; i < 2; i++)
        CHECK(wss__session_put_control(&d.host, &d.session, WSS__FRAME_PONG, wss__base_text(i ? "b" : "a")));
    flush(&d);
    script_text(&want, SCRIPT_ACCEPTED);
    script_reply(&want, SCRIPT_PONG, "b", 1);
    script_reply(&want, SCRIPT_TEXT, "x", 1);
    check_output(&d, &want);
    finish(&d);
}

static void unsolicited_pongs(void) {
    driver d;
    script input = {0};
    begin_open(&d, NULL);
    for (int i = 0; i < 2000; i++) script_say(&input, SCRIPT_PONG, "");
    feed_script(&d, &input);
    CHECK_INT(d.output.size, 0);
    CHECK_INT(d.calls, 0);
    CHECK(!d.ended);
    check_idle(&d);
    finish(&d);
}

/* Send policies. ------------------------------------------------------------------------------------------------- */

static int push(driver *d, const char *text, const char *key, int judge) {
    wss__buf_frame *frame = frame_of(d, SCRIPT_TEXT, text, strlen(text), key);
    int result = wss__session_push(&d->host, &d->session, frame, judge);
    check_account(d);
    return result;
}

/* Frames here have 10 bytes: 2 and these 8. */
static const char *text_of(int number) {
    static char texts[4][16];
    char *text = texts[number % 4];
    snprintf(text, sizeof texts[0], "%08d", number);
    return text;
}

static void want_text(script *s, int number) {
    script_reply(s, SCRIPT_TEXT, text_of(number), 8);
}

static void begin_policy(driver *d, int policy, size_t max_queued) {
    begin_open(d, NULL);
    d->options.send_policy = policy;
    d->options.max_queued = max_queued;
}

/* A frame with a key, of which none waits, is let in up to twice the limit. */
static void policy_of_keys(void) {
    for (int off = -1; off <= 1; off++) {
        driver d;
        size_t each = cost_of(10, 2);
        int admitted = off > 0 ? 7 : 6;
        begin_policy(&d, WSS_POLICY_REFUSE, each * 3 + (size_t)off);
        if (off < 0) admitted = 6; /* twice the limit is 2 below what six cost */
        for (int i = 0; i < 9; i++) {
            char key[3] = {'k', (char)('0' + i), 0};
            CHECK_INT(push(&d, text_of(i), key, 1), i < admitted ? WSS_OK : WSS_ERR_FULL);
            if (i >= 3 + (off > 0)) CHECK_INT(push(&d, text_of(i), NULL, 1), WSS_ERR_FULL);
        }
        CHECK_INT(wss__session_queued(&d.session), (size_t)admitted * each);
        CHECK_INT(d.host.stats.queued_peak, (size_t)admitted * each);
        CHECK_INT(d.host.stats.dropped_policy, 0);
        CHECK_INT(push(&d, text_of(1), "k0", 1), WSS_OK); /* one that waits is replaced in any queue */
        CHECK_INT(d.host.stats.dropped_policy, 1);
        CHECK_INT(d.host.stats.messages_out, admitted);
        finish(&d);
    }
}

/* A limit that no queue reaches, and its double, are none. */
static void unlimited_queue(void) {
    driver d;
    if (sizeof(size_t) == 4) return; /* so much cannot be held there */
    begin_policy(&d, WSS_POLICY_REFUSE, WSS_UNLIMITED);
    CHECK_INT(push(&d, text_of(0), NULL, 1), WSS_OK);
    d.session.queued = 1u << 29;
    CHECK_INT(wss__session_queued(&d.session) >> 30, 8);
    CHECK(wss__session_has_room(&d.host, &d.session, 0));
    CHECK(wss__session_has_room(&d.host, &d.session, 1));
    d.session.queued = UINT32_MAX; /* before its count would go round there is no room */
    CHECK(!wss__session_has_room(&d.host, &d.session, 0));
    CHECK(!wss__session_has_room(&d.host, &d.session, 1));
    d.session.queued = (uint32_t)(cost_of(10, 0) / 16);
    finish(&d);
}

/* What is on its way from other threads is counted apart from the mark that one of them was refused. */
static void coming_and_owed(void) {
    wss__session session;
    memset(&session, 0, sizeof session);
    CHECK_INT(wss__session_coming(&session), 0);
    session.coming = WSS__SESSION_OWED;
    CHECK_INT(wss__session_coming(&session), 0);
    session.coming = WSS__SESSION_OWED | 5;
    CHECK_INT(wss__session_coming(&session), 80);
    session.coming = 5;
    CHECK_INT(wss__session_coming(&session), 80);
    CHECK_INT(wss__session_queued(&session), 0);
}

/* Accepted while what is queued is below the limit; then refused until a frame has left whole. */
static void policy_refuse(void) {
    size_t each = cost_of(10, 0);
    for (size_t limit = each * 3 - 1; limit <= each * 3 + 1; limit++) {
        driver d;
        script want = {0};
        int admitted = limit <= each * 3 ? 3 : 4;
        begin_policy(&d, WSS_POLICY_REFUSE, limit);
        for (int i = 0; i < 6; i++) {
            CHECK_INT(push(&d, text_of(i), NULL, 1), i < admitted ? WSS_OK : WSS_ERR_FULL);
            if (i < admitted) want_text(&want, i);
        }
        CHECK_INT(wss__session_queued(&d.session), (size_t)admitted * each);
        CHECK_INT(d.host.stats.messages_out, admitted);
        CHECK_INT(d.host.stats.frames_out + d.host.stats.messages_out, admitted);
        send_some(&d, 9);
        CHECK_INT(wss__session_queued(&d.session), (size_t)admitted * each);
        CHECK_INT(push(&d, text_of(7), NULL, 1), WSS_ERR_FULL);
        send_some(&d, 3); /* one and a bit */
        CHECK_INT(wss__session_queued(&d.session), (size_t)(admitted - 1) * each);
        CHECK_INT(push(&d, text_of(7), NULL, 1), WSS_OK);
        want_text(&want, 7);
        flush(&d);
        check_output(&d, &want);
        check_idle(&d);
        finish(&d);
    }
}

static void empty_queue_always_admits_one(void) {
    for (int policy = WSS_POLICY_REFUSE; policy <= WSS_POLICY_CLOSE; policy++) {
        driver d;
        begin_policy(&d, policy, 1);
        CHECK_INT(push(&d, "larger than the limit", NULL, 1), WSS_OK);
        send_some(&d, 1);
        CHECK_INT(push(&d, "another", NULL, 1), WSS_ERR_FULL);
        flush(&d);
        CHECK_INT(push(&d, "larger than the limit", NULL, 1), WSS_OK);
        finish(&d);
    }
}

/* The new one stands where the old one stood, also in a full queue; one that has begun to leave does not count. */
static void keys_replace_in_place(void) {
    for (int policy = WSS_POLICY_REFUSE; policy <= WSS_POLICY_CLOSE; policy++) {
        driver d;
        script want = {0};
        begin_policy(&d, policy, 10000);
        CHECK_INT(push(&d, text_of(0), "a", 1), WSS_OK);
        send_some(&d, 1);
        CHECK_INT(push(&d, text_of(1), "a", 1), WSS_OK);
        CHECK_INT(push(&d, text_of(2), NULL, 1), WSS_OK);
        CHECK_INT(push(&d, text_of(3), "b", 1), WSS_OK);
        CHECK_INT(wss__session_queued(&d.session), 3 * cost_of(10, 1) + cost_of(10, 0));
        d.options.max_queued = 1; /* full, also for keys */
        CHECK_INT(push(&d, text_of(4), "c", 1), WSS_ERR_FULL);
        CHECK_INT(push(&d, text_of(4), NULL, 1), WSS_ERR_FULL);
        CHECK_INT(push(&d, "a longer text than before", "a", 1), WSS_OK);
        CHECK_INT(wss__session_queued(&d.session), 2 * cost_of(10, 1) + cost_of(27, 1) + cost_of(10, 0));
        CHECK_INT(push(&d, "b", "b", 0), WSS_OK);
        CHECK_INT(push(&d, text_of(4), "a", 0), WSS_OK);
        CHECK_INT(push(&d, text_of(5), "a", 1), WSS_OK);
        CHECK_INT(wss__session_queued(&d.session), 2 * cost_of(10, 1) + cost_of(3, 1) + cost_of(10, 0));
        CHECK_INT(d.host.stats.dropped_policy, 4);
        CHECK_INT(d.host.stats.messages_out, 4);
        flush(&d);
        want_text(&want, 0);
        want_text(&want, 5);
        want_text(&want, 2);
        script_reply(&want, SCRIPT_TEXT, "b", 1);
        check_output(&d, &want);
        finish(&d);
    }
}

static void other_keys_do_not_replace(void) {
    driver d;
    script want = {0};
    char longest[65];
    memset(longest, 'k', 64);
    longest[64] = 0;
    begin_policy(&d, WSS_POLICY_REFUSE, 1000);
    CHECK_INT(push(&d, "1", longest, 1), WSS_OK);
    CHECK_INT(push(&d, "2", longest + 1, 1), WSS_OK);
    CHECK_INT(push(&d, "3", "k", 1), WSS_OK);
    CHECK_INT(push(&d, "4", NULL, 1), WSS_OK);
    CHECK_INT(push(&d, "5", NULL, 1), WSS_OK);
    CHECK_INT(push(&d, "6", longest, 1), WSS_OK);
    flush(&d);
    for (int i = 0; i < 5; i++) script_reply(&want, SCRIPT_TEXT, &"62345"[i], 1);
    check_output(&d, &want);
    finish(&d);
}

/* What was judged elsewhere gets in where another does not. */
static void judged_elsewhere(void) {
    driver d;
    size_t each = cost_of(10, 0);
    begin_policy(&d, WSS_POLICY_REFUSE, each + 1);
    CHECK_INT(push(&d, text_of(0), NULL, 1), WSS_OK);
    CHECK_INT(push(&d, text_of(1), NULL, 1), WSS_OK);
    CHECK_INT(push(&d, text_of(2), NULL, 1), WSS_ERR_FULL);
    CHECK_INT(push(&d, text_of(3), NULL, 0), WSS_OK);
    CHECK_INT(wss__session_queued(&d.session), 3 * each);
    CHECK_INT(d.host.stats.queued_peak, 3 * each);
    flush(&d);
    CHECK_INT(d.output.size, 30);
    finish(&d);
}

/* Where memory is short, for the ring or for the table of keys, the account is as before and nothing is left. */
static void push_without_memory(void) {
    for (int judge = 0; judge <= 1; judge++) {
        for (int failing = 1; failing <= 3; failing++) {
            driver d;
            begin_policy(&d, WSS_POLICY_REFUSE, 1000);
            wss__buf_frame *frame = frame_of(&d, SCRIPT_TEXT, "12345678", 8, failing > 1 ? "key" : NULL);
            d.fail_at = d.calls + (size_t)(failing == 3 ? 2 : 1);
            CHECK_INT(wss__session_push(&d.host, &d.session, frame, judge), WSS_ERR_MEMORY);
            CHECK_INT(d.host.stats.messages_out, 0);
            check_account(&d);
            check_idle(&d);
            CHECK(wss__session_put_control(&d.host, &d.session, WSS__FRAME_PONG, wss__base_text("p")));
            check_account(&d);
            finish(&d);
        }
    }
}

/* Many pushes and sends at random. What leaves is whole frames in the order of their numbers: all that were accepted. */
static void random_pushes(void) {
    for (int round = 0; round < 60; round++) {
        driver d;
        int accepted = 0;
        int number = 0;
        begin_policy(&d, round % 2, 300 + random_below(3000));
        for (int step = 0; step < 400; step++) {
            char text[64];
            uint32_t what = random_below(10);
            size_t size = 8 + random_below(50);
            memset(text, '.', sizeof text);
            snprintf(text, sizeof text, "%07d", number);
            text[7] = ' ';
            text[size] = 0;
            if (what < 5) accepted += push(&d, text, NULL, (int)random_below(2)) == WSS_OK;
            else if (what < 6) wss__session_put_control(&d.host, &d.session, WSS__FRAME_PING, wss__base_text("!"));
            else send_some(&d, random_below(80));
            number++;
            check_account(&d);
        }
        flush(&d);
        int left = 0;
        int last = -1;
        for (size_t at = 0; at < d.output.size;) {
            const unsigned char *frame = (const unsigned char *)d.output.data + at;
            size_t size = frame[1];
            CHECK(frame[0] == 0x81 || frame[0] == 0x89);
            CHECK(size < 126 && size + 2 <= d.output.size - at);
            if (frame[0] == 0x81) {
                int now = atoi((const char *)frame + 2);
                CHECK(now > last);
                last = now;
                left++;
            }
            at += size + 2;
            if (test_broken) break;
        }
        CHECK_INT(accepted, left);
        CHECK_INT(accepted, d.host.stats.messages_out);
        finish(&d);
    }
}

/* The cork, and what is dropped. --------------------------------------------------------------------------------- */

static void cork_text(driver *d, int number) {
    char *place = wss__session_cork(&d->host, &d->session, 10, 1);
    CHECK(place != NULL);
    if (!place) return;
    wss__frame_encode(place, SCRIPT_TEXT, 8);
    memcpy(place + 2, text_of(number), 8);
}

/* However much of the cork the first send takes, all leaves in order: the cork, a pong, then what was queued behind it. */
static void uncork_after_a_partial_send(void) {
    for (size_t sent = 0; sent <= 43; sent++) {
        mode how = {0};
        driver d;
        script want = {0};
        how.cork = 30;
        begin_open(&d, &how);
        d.host.corked = &d.session;
        for (int i = 0; i < 3; i++) cork_text(&d, i);
        CHECK(wss__session_cork(&d.host, &d.session, 1, 1) == NULL);
        CHECK_INT(push(&d, text_of(3), NULL, 1), WSS_OK);
        CHECK(wss__session_cork(&d.host, &d.session, 0, 1) == NULL);
        CHECK(wss__session_put_control(&d.host, &d.session, WSS__FRAME_PONG, wss__base_text("p")));
        CHECK_INT(wss__session_queued(&d.session), cost_of(10, 0));
        send_some(&d, sent);
        size_t rest = sent < 30 ? cost_of(30 - sent, 0) + (2 - sent / 10) * WSS__BUF_MESSAGE : 0;
        CHECK_INT(wss__session_queued(&d.session), rest + (sent < 43 ? cost_of(10, 0) : 0));
        CHECK_INT(push(&d, text_of(4), NULL, 1), WSS_OK);
        flush(&d);
        for (int i = 0; i < 3; i++) want_text(&want, i);
        script_reply(&want, SCRIPT_PONG, "p", 1);
        want_text(&want, 3);
        want_text(&want, 4);
        check_output(&d, &want);
        check_idle(&d);
        finish(&d);
    }
}

/* Nothing gets into the frame of which the cork has sent a part. */
static void pong_behind_the_rest_of_a_cork(void) {
    for (size_t sent = 0; sent <= 30; sent++) {
        mode how = {0};
        driver d;
        script want = {0};
        how.cork = 30;
        begin_open(&d, &how);
        d.host.corked = &d.session;
        for (int i = 0; i < 3; i++) cork_text(&d, i);
        send_some(&d, sent);
        for (int i = 0; i < 2; i++)
            CHECK(wss__session_put_control(&d.host, &d.session, WSS__FRAME_PONG, wss__base_text(i ? "b" : "a")));
        CHECK_INT(push(&d, text_of(3), NULL, 1), WSS_OK);
        int all = sent == 30; /* then the cork has room for both */
        flush(&d);
        for (int i = 0; i < 3; i++) want_text(&want, i);
        if (all) script_reply(&want, SCRIPT_PONG, "a", 1);
        script_reply(&want, SCRIPT_PONG, "b", 1);
        want_text(&want, 3);
        check_output(&d, &want);
        check_idle(&d);
        finish(&d);
    }
}

/* What is left of a head and what follows it, from any point on: never dropped, and the same bytes. */
static void rest_of_two_pieces(void) {
    static const char all[] = "headbody";
    for (size_t border = 0; border <= 8; border++) {
        for (size_t sent = 0; sent < 8; sent++) {
            driver d;
            begin(&d, NULL);
            wss__span head = wss__base_span(border ? all : NULL, border);
            wss__span rest = wss__base_span(border < 8 ? all + border : NULL, 8 - border);
            wss__buf_frame *frame = wss__session_rest(&d.mem, head, rest, sent);
            CHECK(frame != NULL);
            if (!frame) continue;
            CHECK_INT(frame->size, 8 - sent);
            CHECK(memcmp(wss__buf_frame_data(frame), all + sent, 8 - sent) == 0);
            CHECK(frame->fixed && !frame->control && !frame->key_size);
            wss__buf_release(&d.mem, frame);
            d.fail_at = d.calls + 1;
            CHECK(!wss__session_rest(&d.mem, head, rest, sent));
            finish(&d);
        }
    }
}

/* Another session's cork is not this one's. */
static void cork_of_another(void) {
    mode how = {0};
    driver d;
    wss__session other;
    memset(&other, 0, sizeof other);
    how.cork = 30;
    begin_open(&d, &how);
    d.host.corked = &other;
    CHECK(wss__session_cork(&d.host, &d.session, 1, 1) == NULL);
    CHECK(wss__session_put_control(&d.host, &d.session, WSS__FRAME_PONG, wss__base_text("p")));
    CHECK_INT(d.host.cork_size, 0);
    CHECK(d.session.queue != NULL);
    finish(&d);
}

static void uncork_without_memory(void) {
    for (size_t failing = 1; failing <= 2; failing++) {
        mode how = {0};
        driver d;
        how.cork = 30;
        begin_open(&d, &how);
        d.host.corked = &d.session;
        cork_text(&d, 0);
        d.fail_at = failing;
        send_some(&d, 5);
        CHECK_INT(d.broken, 1);
        CHECK_INT(d.session.queued, 0);
        check_idle(&d);
        finish(&d);
    }
}

/* What has begun to leave is finished, the rest is gone; the Close that follows is the next frame. */
static void drop_unsent_keeps_what_has_begun(void) {
    for (size_t sent = 0; sent <= 24; sent++) {
        driver d;
        script want = {0};
        size_t data = sent > 3 ? sent - 3 : 0; /* the pong is ahead */
        begin_open(&d, NULL);
        for (int i = 0; i < 3; i++) CHECK_INT(push(&d, text_of(i), NULL, 1), WSS_OK);
        CHECK(wss__session_put_control(&d.host, &d.session, WSS__FRAME_PONG, wss__base_text("p")));
        send_some(&d, sent);
        wss__session_drop_unsent(&d.host, &d.session);
        check_account(&d);
        CHECK_INT(wss__session_queued(&d.session), data % 10 ? cost_of(10, 0) : 0);
        CHECK_INT(d.host.stats.dropped_gone, 3 - (data + 9) / 10);
        wss__session_close(&d.host, &d.session, 1013, wss__base_text("slow reader"), WSS_CAUSE_SLOW_READER);
        flush(&d);
        if (sent) script_reply(&want, SCRIPT_PONG, "p", 1);
        for (int i = 0; i < (int)(data + 9) / 10; i++) want_text(&want, i);
        script_reply_close(&want, 1013, "slow reader");
        check_output(&d, &want);
        finish(&d);
    }
}

/* The rest of a cork begins inside a frame: drop_unsent may not take it away. */
static void rest_of_the_cork_is_never_dropped(void) {
    mode how = {0};
    driver d;
    script want = {0};
    how.cork = 30;
    begin_open(&d, &how);
    d.host.corked = &d.session;
    for (int i = 0; i < 3; i++) cork_text(&d, i);
    CHECK(wss__session_uncork(&d.host, &d.session, 4));
    script_bytes(&d.output, d.cork, 4);
    d.host.corked = NULL;
    for (int i = 3; i < 8; i++) CHECK_INT(push(&d, text_of(i), NULL, 1), WSS_OK);
    size_t rest = cost_of(26, 0) + 2 * (size_t)WSS__BUF_MESSAGE; /* three messages, of which the first has begun */
    CHECK_INT(wss__session_queued(&d.session), rest + 5 * cost_of(10, 0));
    wss__session_drop_unsent(&d.host, &d.session);
    check_account(&d);
    CHECK_INT(wss__session_queued(&d.session), rest);
    flush(&d);
    for (int i = 0; i < 3; i++) want_text(&want, i);
    check_output(&d, &want);
    finish(&d);
}

/* The 101 and what was sent behind it in the same turn, a pong among it, leave in pieces, and the connection dies: each
   message that has not left whole is counted, and no other. */
static void what_dies_of_a_cork_is_counted(void) {
    static const int sizes[] = {3, 200, 0, 70000, 1};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    size_t ends[COUNT];
    for (size_t first = 0; first < 71000; first = first < 600 ? first + 1 : first + 6999) {
        for (size_t second = 0; second < 71000; second = second < 8 ? second + 1 : second * 9) {
            mode how = {0};
            driver d;
            uint64_t left = 0;
            how.cork = 80000;
            begin(&d, &how);
            d.host.corked = &d.session;
            d.session.phase = WSS__SESSION_ASKED;
            CHECK(wss__input_accept(&d.host, &d.session, wss__base_text(SCRIPT_KEY)));
            for (int i = 0; i < COUNT; i++) {
                if (i == 2) CHECK(wss__session_put_control(&d.host, &d.session, WSS__FRAME_PONG, wss__base_text("pong")));
                size_t size = (size_t)sizes[i];
                char *place = wss__session_cork(&d.host, &d.session, size + wss__frame_head_size(size), 1);
                CHECK(place != NULL);
                if (!place) return;
                memset(place + wss__frame_encode(place, SCRIPT_TEXT, size), 'x', size);
                ends[i] = d.host.cork_size;
            }
            send_some(&d, first);
            d.host.corked = NULL;
            if (second) send_some(&d, second);
            for (int i = 0; i < COUNT; i++) left += ends[i] <= first + second;
            wss__input_free_session(&d.host, &d.session);
            CHECK_INT(d.host.stats.dropped_gone, COUNT - left);
            finish(&d);
            if (test_broken) return;
        }
    }
}

/* A slow reader may be closed before its 101 has left; without that, the Close would be no HTTP. */
static void the_101_is_never_dropped(void) {
    driver d;
    script want = {0};
    begin(&d, NULL);
    d.session.phase = WSS__SESSION_ASKED;
    CHECK(wss__input_accept(&d.host, &d.session, wss__base_text(SCRIPT_KEY)));
    for (int i = 0; i < 3; i++) CHECK_INT(push(&d, text_of(i), NULL, 1), WSS_OK);
    wss__session_drop_unsent(&d.host, &d.session);
    check_account(&d);
    close_it(&d, 1013, "");
    flush(&d);
    script_text(&want, SCRIPT_ACCEPTED);
    script_reply_close(&want, 1013, "");
    check_output(&d, &want);
    finish(&d);
}

/* What is queued is given back with the session, also what is shared with others. */
static void freed_with_a_full_queue(void) {
    driver d;
    script input = {0};
    begin_open(&d, NULL);
    wss__buf_frame *shared = frame_of(&d, SCRIPT_TEXT, "shared", 6, NULL);
    wss__buf_retain(shared);
    CHECK_INT(wss__session_push(&d.host, &d.session, shared, 1), WSS_OK);
    CHECK_INT(push(&d, text_of(1), NULL, 1), WSS_OK);
    send_some(&d, 3);
    script_frame(&input, SCRIPT_TEXT, SCRIPT_MORE, "half", 4);
    hear_blocked(&d, &input);
    wss__input_free_session(&d.host, &d.session);
    CHECK_INT(d.session.queued, 0);
    CHECK_INT(d.host.stats.dropped_gone, 2); /* the one that had begun died too */
    CHECK(memcmp(wss__buf_frame_data(shared), "\x81\x06shared", 8) == 0);
    wss__buf_release(&d.mem, shared);
    check_idle(&d);
    finish(&d);
}

/* Input that is held. --------------------------------------------------------------------------------------------- */

/* Stops after every message, and shows one message at a time; the block is given back with the last. */
static void pause_after_every_message(void) {
    mode how = {0};
    driver d;
    wss__session_bytes bytes;
    script input = {0};
    size_t turns = 0;
    how.pause = 1;
    begin_open(&d, &how);
    for (int i = 0; i < 20; i++) script_say(&input, SCRIPT_TEXT, text_of(i));
    script_bytes(&input, "\x81\x88" Z4 "half", 10);
    bytes.data = input.data;
    bytes.size = input.size;
    dispatch(&d, &bytes);
    script_free(&input);
    CHECK_INT(d.messages, 1);
    size_t live = d.live;
    while (wss__input_take_held(&d.session, &bytes)) {
        d.paused = 0;
        dispatch(&d, &bytes);
        turns++;
        CHECK(d.messages == 20 || d.messages == turns + 1);
        if (d.session.input && d.session.input->held) CHECK_INT(d.live, live);
    }
    CHECK_INT(d.messages, 20);
    CHECK_INT(turns, 20);
    CHECK(d.session.input->held == NULL);
    CHECK(d.live < live);
    CHECK(wss__input_is_partial(&d.session));
    CHECK_INT(d.calls, 3); /* the block for input, what was held, half a message */
    d.paused = 0;
    feed_text(&d, "rest");
    CHECK_INT(d.messages, 21);
    check_idle(&d);
    finish(&d);
}

/* A deadline for messages must not count the time in which whole ones were held: the owner's mark goes when nothing is
   partial. */
static void mark_of_a_message_is_its_own(void) {
    driver d;
    wss__session_bytes bytes;
    char held[24];
    begin_open(&d, NULL);
    memcpy(held, "\x81\x81" Z4 "a\x82\x85" Z4 "b", 14);
    bytes.data = held;
    bytes.size = 14;
    d.paused = 1;
    dispatch(&d, &bytes);
    CHECK(!wss__input_is_partial(&d.session));
    d.session.input->since = 77; /* as the loop does to input that it finds */
    d.paused = 0;
    CHECK(wss__input_take_held(&d.session, &bytes));
    dispatch(&d, &bytes);
    check_trace(&d, "message 1 1 a\n");
    CHECK(wss__input_is_partial(&d.session));
    CHECK_INT(d.session.input->since, 0);
    d.session.input->since = 78;
    feed(&d, "cd", 2);
    CHECK_INT(d.session.input->since, 78);
    feed(&d, "ef\x82", 3);
    CHECK_INT(d.messages, 2);
    CHECK_INT(d.session.input->since, 0);
    finish(&d);

    begin_open(&d, NULL);
    feed(&d, "\x01\x81" Z4 "a\x89\x82" Z4, 13);
    d.session.input->since = 79;
    feed(&d, "pp\x80", 3);
    CHECK_INT(d.session.input->since, 79); /* pings do not make it younger */
    feed(&d, "\x81" Z4 "b\x81", 7);
    CHECK_INT(d.messages, 1);
    CHECK_INT(d.session.input->since, 0);
    d.session.input->since = 80;
    feed(&d, "\x80" Z4 "\x82", 6);
    CHECK_INT(d.messages, 2);
    CHECK_INT(d.session.input->since, 0);
    finish(&d);
}

static void hold_without_memory(void) {
    for (size_t failing = 1; failing <= 2; failing++) {
        driver d;
        wss__session_bytes bytes;
        char frame[7];
        begin_open(&d, NULL);
        memcpy(frame, "\x81\x81" Z4 "a", 7);
        bytes.data = frame;
        bytes.size = 7;
        d.fail_at = failing;
        d.paused = 1;
        dispatch(&d, &bytes);
        check_trace(&d, "end 1013 11 0 \n");
        finish(&d);
    }
}

/* A head in two pieces, and each allocation for it fails in turn. That it is HEAD is known wherever it was cut. */
static void head_without_memory(void) {
    static const char *const texts[] = {"GET / HTTP/1.1\r\nHost: a\r\nX: 0123456789012345678901234567890123456789\r\n",
                                        "HEAD / HTTP/1.1\r\nHost: a\r\nX: 0123456789012345678901234567890123456789\r\n",
                                        "\r\nHEAD / HTTP/1.1\r\nHost: a\r\nX: 01234567890123456789012345678901234567\r\n"};
    for (size_t i = 0; i < 3 * 3 * 20; i++) {
        const char *text = texts[i % 3];
        size_t first = 1 + i / 9;
        driver d;
        script want = {0};
        begin(&d, NULL);
        d.fail_at = 1 + i / 3 % 3;
        feed(&d, text, first);
        int is_head = i % 3 > 0 && (!d.ended || first > (i % 3 == 1 ? 4 : 6)); /* as far as it has come */
        if (!d.ended) feed(&d, text + first, strlen(text + first));
        for (int more = 0; more < 20 && !d.ended; more++) feed_text(&d, "X: 0123456789012345678901234567890123456789\r\n");
        check_trace(&d, "end 1006 13 0 \n");
        script_refusal(&want, WSS__HTTP_RULE_MEMORY, is_head);
        check_output(&d, &want);
        finish(&d);
    }
}

/* Memory while a message comes. ----------------------------------------------------------------------------------- */

/* What a megabyte that was announced costs before it comes. */
static void announced_is_not_allocated(void) {
    driver d;
    begin_open(&d, NULL);
    d.options.max_message = 1 << 20;
    feed(&d, "\x82\xff\0\0\0\0\0\x10\0\0" Z4 "0123456789", 24);
    CHECK(!d.ended);
    CHECK(d.live_peak < 8192);
    finish(&d);
}

/* Memory follows what has come: at most twice that, and one step. */
static void capacity_follows_what_has_come(void) {
    driver d;
    static char piece[1000];
    begin_open(&d, NULL);
    d.options.max_message = 1 << 20;
    feed(&d, "\x82\xff\0\0\0\0\0\x10\0\0" Z4, 14);
    for (size_t have = 0; have + sizeof piece < 1 << 20; have += sizeof piece) {
        feed(&d, piece, sizeof piece);
        CHECK(d.live <= 2 * (have + sizeof piece) + 2 * WSS__SESSION_STEP);
        CHECK(d.live <= (1 << 20) + 8192);
    }
    CHECK(d.calls < 20);
    size_t calls = d.calls;
    feed(&d, piece, (1 << 20) % sizeof piece);
    CHECK_INT(d.messages, 1);
    CHECK_INT(d.calls, calls); /* the room was for all of it, the NUL included */
    CHECK(!d.ended);
    finish(&d);
}

/* Memory that is short. ------------------------------------------------------------------------------------------ */

/* The events are those of the whole, or the first of them and then an end for want of memory. */
static void check_cut_short(const driver *d, const driver *whole) {
    char ends[3][48];
    size_t kept = d->trace.size;
    if (script_same(&d->trace, &whole->trace)) return;
    snprintf(ends[0], sizeof ends[0], "end 1013 %d 0 \n", WSS_CAUSE_MEMORY);
    snprintf(ends[1], sizeof ends[1], "end 1006 %d 0 \n", WSS_CAUSE_MEMORY);    /* no memory for the 101 */
    snprintf(ends[2], sizeof ends[2], "end 1006 %d 0 \n", WSS_CAUSE_HANDSHAKE); /* no memory for the head */
    for (int i = 0; i < 3; i++) {
        size_t size = strlen(ends[i]);
        if (d->trace.size == d->last + size && memcmp(d->trace.data + d->last, ends[i], size) == 0) kept = d->last;
    }
    if (d->broken && d->ended) kept = d->last;
    CHECK(kept < d->trace.size);
    CHECK(kept <= whole->trace.size && memcmp(d->trace.data, whole->trace.data, kept) == 0);
    if (!d->broken) CHECK(d->fail_at <= d->calls);
}

/* Feeds it in pieces of this size, as hear does, but may end early. */
static void hear_starved(driver *d, const mode *how, const script *s, size_t close_after, size_t piece, size_t fail_at,
                         int fail_after) {
    begin(d, how);
    set_hosts(d);
    d->how.close_after = close_after;
    d->fail_at = fail_at;
    d->fail_after = fail_after;
    for (size_t at = 0; at < s->size && !d->ended; at += piece)
        feed(d, s->data + at, piece < s->size - at ? piece : s->size - at);
    if (!d->ended) lose(d, WSS_CAUSE_PEER_VANISHED);
}

static void every_allocation_fails_once_or_for_good(void) {
    static const size_t pieces[] = {SIZE_MAX / 2, 1, 5, 40000};
    size_t points = 0;
    for (size_t t = 0; t < TALKS; t++) {
        script s = {0};
        size_t close_after;
        const char *name = make_talk(t, &s, &close_after);
        for (size_t shape = 0; shape < 4 * MODES; shape++) {
            mode how = modes[shape / 4];
            size_t piece = pieces[shape % 4];
            int before = test_broken;
            driver whole;
            how.echo = shape % 3 == 0;
            if ((s.size > 4096 && piece < 40000) || (s.size < 40000 && piece == 40000)) continue;
            if (t >= CONVERSATIONS && shape % 5) continue;
            hear_starved(&whole, &how, &s, close_after, piece, 0, 0);
            size_t limit = whole.calls;
            for (size_t k = 1; k <= 2 * limit; k += TEST_STRIDE) {
                driver d;
                hear_starved(&d, &how, &s, close_after, piece, (k + 1) / 2, (int)(k % 2));
                check_cut_short(&d, &whole);
                finish(&d);
                points++;
                k += limit > 200 ? 6 : 0;
            }
            finish(&whole);
            if (test_broken != before) printf("%s, pieces of %zu, shape %zu\n", name, piece, shape);
        }
        script_free(&s);
    }
    CHECK(points > 2000);
}

/* No Close can be queued: the session still ends, once, with its own cause. */
static void fault_without_memory_for_the_close(void) {
    driver d;
    begin_open(&d, NULL);
    d.fail_at = 1;
    d.fail_after = 1;
    feed(&d, "\x83\x80", 2);
    check_trace(&d, "end 1002 17 0 \n");
    CHECK_INT(d.output.size, 0);
    finish(&d);
}

/* Work is linear. ------------------------------------------------------------------------------------------------ */

static void head_byte_by_byte_is_linear(void) {
    size_t work[2];
    for (size_t i = 0; i < 2; i++) {
        driver d;
        script input = {0};
        size_t size = i ? 8192 : 4096;
        begin(&d, NULL);
        d.options.max_head = 8192;
        script_request_of(&input, size);
        work_done = 0;
        for (size_t at = 0; at < input.size; at++) feed(&d, input.data + at, 1);
        work[i] = work_done;
        check_trace(&d, "upgrade /chat?room=1\n");
        CHECK(work_done < 8 * size);
        CHECK(d.calls < 20);
        CHECK(d.live_peak < 2 * 8192 + 1024);
        check_idle(&d);
        script_free(&input);
        finish(&d);
    }
    CHECK(work[1] < work[0] * 5 / 2);
}

/* 64 KiB of the smallest frames in one read, also where reading pauses after each: no allocation, nothing moved. */
static void small_frames_are_linear(void) {
    for (int pause = 0; pause < 2; pause++) {
        mode how = {0};
        driver d;
        script input = {0};
        how.pause = pause;
        begin_open(&d, &how);
        while (input.size + 6 <= 65536) script_frame(&input, SCRIPT_BINARY, SCRIPT_FINAL, "", 0);
        work_done = 0;
        feed(&d, input.data, input.size);
        CHECK_INT(d.messages, 65536 / 6);
        CHECK(work_done <= input.size * 4);
        CHECK_INT(d.calls, pause ? 2 : 0);
        check_idle(&d);
        script_free(&input);
        finish(&d);
    }
}

static void small_pieces_are_linear(void) {
    driver d;
    script input = {0};
    begin_open(&d, NULL);
    for (int i = 0; i < 6000; i++)
        script_frame(&input, i ? SCRIPT_CONTINUATION : SCRIPT_TEXT, i == 5999, "0123456789abcdef", 16);
    work_done = 0;
    for (size_t at = 0; at < input.size; at++) feed(&d, input.data + at, 1);
    CHECK_INT(d.messages, 1);
    CHECK(work_done < input.size * 16);
    CHECK(d.calls < 25);
    CHECK(d.live_peak < 2 * 96000 + 1024 + 16384);
    check_idle(&d);
    script_free(&input);
    finish(&d);
}

/* Borders of single steps. ---------------------------------------------------------------------------------------- */

static void raw_bytes_in_two_parts(void) {
    static const char *const parts[] = {"", "a", "bcd"};
    for (int kind = 0; kind < 18; kind++) {
        const char *head = parts[kind % 3];
        const char *rest = parts[kind / 3 % 3];
        uint32_t first = kind >= 9;
        driver d;
        script want = {0};
        if (!*head && !*rest) continue; /* nothing at all is never queued */
        begin_open(&d, NULL);
        CHECK_INT(push(&d, "x", NULL, 1), WSS_OK);
        CHECK(wss__session_put_raw(&d.host, &d.session, wss__base_text(head), wss__base_text(rest), (int)first));
        CHECK_INT(d.session.queue->count, 2);
        script_text(&want, head);
        script_text(&want, rest);
        size_t size;
        const char *data = wss__buf_peek(d.session.queue, 1 - first, &size);
        CHECK(script_is(&want, data, size));
        CHECK_INT(*wss__buf_peek(d.session.queue, first, &size), (char)0x81);
        CHECK_INT(wss__session_queued(&d.session), cost_of(3, 0)); /* outside the account */
        script_free(&want);
        finish(&d);
    }
}

/* The newest of several pings is answered even if it is empty, and one that finds no memory leaves the one before it. */
static void last_pong_empty_or_without_memory(void) {
    for (int failing = 0; failing <= 1; failing++) {
        driver d;
        script input = {0};
        script want = {0};
        begin_open(&d, NULL);
        block(&d, &want);
        say_pings(&input, 1, 3);
        hear_blocked(&d, &input);
        script_say(&input, SCRIPT_PING, "");
        if (failing) d.fail_at = d.calls + 1;
        hear_blocked(&d, &input);
        CHECK_INT(d.session.queue->count, failing ? 3 : 2);
        flush(&d);
        if (failing) want_pongs(&want, 3, 3);
        else script_reply(&want, SCRIPT_PONG, "", 0);
        if (failing) script_reply_close(&want, WSS_CLOSE_TRY_LATER, "out of memory");
        check_trace(&d, failing ? "end 1013 11 0 \n" : "");
        check_output(&d, &want);
        finish(&d);
    }
}

static void nothing_to_hold(void) {
    driver d;
    wss__session_bytes bytes;
    char block_of_bytes[1] = {0};
    begin_open(&d, NULL);
    bytes.data = block_of_bytes;
    bytes.size = 0;
    CHECK_INT(wss__input_hold(&d.host, &d.session, &bytes), 1);
    CHECK(d.session.input == NULL);
    CHECK_INT(wss__input_take_held(&d.session, &bytes), 0);
    finish(&d);
}

static void accept_without_memory(void) {
    for (size_t failing = 1; failing <= 2; failing++) { /* the frame, the queue */
        driver d;
        begin(&d, NULL);
        d.session.phase = WSS__SESSION_ASKED;
        d.fail_at = failing;
        CHECK_INT(wss__input_accept(&d.host, &d.session, wss__base_text(SCRIPT_KEY)), 0);
        CHECK_INT(d.session.phase, WSS__SESSION_DONE);
        CHECK(d.session.queue == NULL);
        check_idle(&d);
        finish(&d);
    }
}

/* The last eighth of the budget is kept for those who are connected. */
static void requests_when_memory_is_tight(void) {
    static const char *const requests[] = {SCRIPT_HANDSHAKE, "GET / HTTP/1.1\r\n" SCRIPT_HOST "\r\n",
                                           "HEAD / HTTP/1.1\r\n" SCRIPT_HOST "\r\n"};
    for (int i = 0; i < 3; i++) {
        for (int tight = 0; tight <= 1; tight++) {
            driver d;
            begin(&d, NULL);
            d.mem.budget = 800000;
            d.mem.used = tight ? 700001 : 690000;
            size_t used = d.mem.used;
            feed_text(&d, requests[i]);
            if (tight) {
                check_trace(&d, "end 1006 13 0 \n");
                CHECK_INT(d.host.stats.refused_status[5], 1);
                CHECK_INT(d.host.stats.refused_cause[WSS_REFUSED_UNAVAILABLE], 1);
                script want = {0};
                script_refusal(&want, WSS__HTTP_RULE_MEMORY, i == 2);
                check_output(&d, &want);
            } else {
                CHECK_INT(d.host.stats.refused_cause[WSS_REFUSED_UNAVAILABLE], 0);
            }
            d.mem.used -= used;
            finish(&d);
        }
    }
}

static void nothing_of_a_head(void) {
    driver d;
    wss__session_bytes bytes;
    wss__session_event event;
    char byte = 'G';
    begin(&d, NULL);
    bytes.data = &byte;
    bytes.size = 0;
    CHECK_INT(wss__input_next(&d.host, &d.session, &bytes, &event), WSS__SESSION_NEED);
    CHECK(d.session.input == NULL);
    CHECK_INT(d.session.phase, WSS__SESSION_HEAD);
    finish(&d);
}

/* Each status that the library refuses with is counted under its own cause, any other under none. */
int main(void) {
    alarm(240);
    RUN(faults_end_the_session);
    RUN(continuation_after_the_last);
    RUN(faults_after_our_close);
    RUN(every_start_of_a_frame);
    RUN(every_close_code);
    RUN(close_without_code);
    RUN(close_with_the_longest_reason);
    RUN(our_close);
    RUN(our_close_twice);
    RUN(closes_before_the_session_is_open);
    RUN(ends_for_a_cause);
    RUN(replies_to_requests);
    RUN(no_body_for_head);
    RUN(tables_are_complete);
    RUN(refused_by_the_loop);
    RUN(late_request);
    RUN(limit_of_the_head);
    RUN(head_without_end);
    RUN(long_request_line);
    RUN(limit_of_header_lines);
    RUN(head_in_two_pieces_survives_release);
    RUN(input_waits_for_the_answer);
    RUN(limit_of_a_message);
    RUN(too_big_costs_nothing);
    RUN(limit_of_fragments);
    RUN(too_many_fragments);
    RUN(fragments_of_two_messages);
    RUN(limits_switched_off);
    RUN(what_is_heard);
    RUN(cut_in_two);
    RUN(cut_in_three);
    RUN(cut_in_many);
    RUN(ping_of_every_size);
    RUN(ten_pings_ten_pongs);
    RUN(many_pings_while_writable);
    RUN(pongs_while_blocked);
    RUN(controls_of_each_kind);
    RUN(started_pong_stays);
    RUN(pongs_ahead_of_data);
    RUN(pongs_behind_the_101);
    RUN(unsolicited_pongs);
    RUN(policy_of_keys);
    RUN(unlimited_queue);
    RUN(coming_and_owed);
    RUN(policy_refuse);
    RUN(empty_queue_always_admits_one);
    RUN(keys_replace_in_place);
    RUN(other_keys_do_not_replace);
    RUN(judged_elsewhere);
    RUN(push_without_memory);
    RUN(random_pushes);
    RUN(uncork_after_a_partial_send);
    RUN(pong_behind_the_rest_of_a_cork);
    RUN(rest_of_two_pieces);
    RUN(cork_of_another);
    RUN(uncork_without_memory);
    RUN(drop_unsent_keeps_what_has_begun);
    RUN(rest_of_the_cork_is_never_dropped);
    RUN(what_dies_of_a_cork_is_counted);
    RUN(the_101_is_never_dropped);
    RUN(freed_with_a_full_queue);
    RUN(pause_after_every_message);
    RUN(mark_of_a_message_is_its_own);
    RUN(hold_without_memory);
    RUN(head_without_memory);
    RUN(announced_is_not_allocated);
    RUN(capacity_follows_what_has_come);
    RUN(every_allocation_fails_once_or_for_good);
    RUN(fault_without_memory_for_the_close);
    RUN(head_byte_by_byte_is_linear);
    RUN(small_frames_are_linear);
    RUN(small_pieces_are_linear);
    RUN(raw_bytes_in_two_parts);
    RUN(last_pong_empty_or_without_memory);
    RUN(nothing_to_hold);
    RUN(accept_without_memory);
    RUN(requests_when_memory_is_tight);
    RUN(nothing_of_a_head);
    return test_end("session");
}
