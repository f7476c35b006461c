/* driver.h: one session, driven as the loop drives it but without a socket, with all that happens noted. Every allocation
   is checked and counted, and one of them, or all from it on, can fail. */
#ifndef DRIVER_H
#define DRIVER_H

#include "work.h"

#include "../script.h"
#include "fuzz.h"

enum { DRIVER_FRONT = 16 };         /* bytes before each block, where its size is noted */
enum { DRIVER_CORK_MAX = 1 << 17 }; /* the largest cork that is like a server's, */
enum { DRIVER_CORK_ALL = 1 << 23 }; /* and one that has room for every answer: what leaves is in the order in which it came */

/* A cork is the end of this, so that one byte too far is seen. */
static char driver_cork[DRIVER_CORK_ALL];

/* How the driver serves. All zero: no cork, everything is sent at once, input is never held. */
typedef struct driver_mode {
    size_t cork;        /* bytes of the cork; 0: none */
    size_t send;        /* bytes that one send takes; 0: all */
    int echo;           /* sends each message back */
    int pause;          /* stops after each event and goes on after the turn */
    int hold;           /* holds all that comes, once, before it is looked at */
    int late;           /* answers the request after the turn */
    size_t close_after; /* messages after which our Close goes out; 0: never */
} driver_mode;

typedef struct driver {
    wss__mem mem;
    wss_options options;
    wss__session_shared host;
    wss__session session;
    driver_mode how;
    script trace;   /* the events, a line each */
    script output;  /* what has been sent */
    size_t largest; /* piece received */
    size_t echoed;  /* bytes sent back */
    size_t messages;
    char key[WSS__HASH_KEY];
    int asked;
    int paused;
    int broken; /* what was sent in part could not be kept */
    int ended;
    int closed;  /* our Close came before the end */
    size_t live; /* bytes allocated now */
    size_t peak;
    size_t calls;   /* of the allocator, to get memory */
    size_t fail_at; /* 0: never */
    int fail_after; /* all calls after fail_at fail too */
} driver;

static inline void *driver_give(void *context, void *pointer, size_t old_size, size_t new_size) {
    driver *d = (driver *)context;
    char *old = pointer ? (char *)pointer - DRIVER_FRONT : NULL;
    char *block = NULL;
    size_t noted = 0;
    if (old) memcpy(&noted, old, sizeof noted);
    FUZZ_CHECK(old_size == noted);
    if (new_size) {
        d->calls++;
        if (d->fail_at && (d->calls == d->fail_at || (d->fail_after && d->calls > d->fail_at))) return NULL;
        block = (char *)malloc(DRIVER_FRONT + new_size);
        if (!block) abort();
        memset(block, 0x8a, DRIVER_FRONT + new_size);
        memcpy(block, &new_size, sizeof new_size);
        if (old) memcpy(block + DRIVER_FRONT, old + DRIVER_FRONT, noted < new_size ? noted : new_size);
    }
    free(old);
    d->live += new_size - noted;
    if (d->live > d->peak) d->peak = d->live;
    return block ? block + DRIVER_FRONT : NULL;
}

static inline void driver_begin(driver *d, const driver_mode *how, size_t max_message) {
    memset(d, 0, sizeof *d);
    d->how = *how;
    d->options.max_message = max_message;
    d->options.max_head = 1024;
    d->options.max_queued = WSS_UNLIMITED;
    d->options.memory_budget = WSS_UNLIMITED;
    d->options.allocator = driver_give;
    d->options.allocator_context = d;
    wss__mem_init(&d->mem, &d->options);
    d->host.mem = &d->mem;
    d->host.options = &d->options;
    d->host.cork = d->how.cork ? driver_cork + DRIVER_CORK_ALL - d->how.cork : NULL;
    d->host.cork_capacity = d->how.cork;
}

static inline void driver_finish(driver *d) {
    wss__input_free_session(&d->host, &d->session);
    FUZZ_CHECK(d->live == 0 && d->mem.used == 0 && d->session.queued == 0 && d->session.coming == 0);
    script_free(&d->trace);
    script_free(&d->output);
}

/* The account is what stands in the queue, control frames not counted, and a queue holds something. Of what may still be
   overtaken at most one pong waits, however many pings came, and nothing stands ahead of it. */
static inline void driver_check(const driver *d) {
    wss__buf_queue *queue = d->session.queue;
    size_t bytes = 0;
    if (queue) FUZZ_CHECK(queue->count > 0);
    for (uint32_t i = 0; queue && i < queue->count; i++) {
        wss__buf_frame *frame = *wss__buf_at(queue, i);
        uint32_t border = queue->sent || (*wss__buf_at(queue, 0))->fixed ? 1 : 0;
        int is_pong = frame->control && !frame->fixed && (unsigned char)*wss__buf_frame_data(frame) == 0x8a;
        FUZZ_CHECK(!is_pong || i <= border);
        if (frame->control) continue;
        bytes += wss__mem_charge(sizeof *frame + frame->size) + 16;
        if (frame->messages > 1) bytes += 64 * (frame->messages - 1); /* each of those that stand together */
    }
    FUZZ_CHECK(wss__session_queued(&d->session) == bytes);
}

/* Output. */

static inline int driver_has_output(const driver *d) {
    return d->session.queue != NULL || (d->host.corked == &d->session && d->host.cork_size > 0);
}

/* One send that takes at most this much: the cork, then the queue. */
static inline void driver_send(driver *d, size_t most) {
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
    driver_check(d);
}

static inline void driver_flush(driver *d) {
    while (!d->broken && driver_has_output(d)) driver_send(d, d->how.send ? d->how.send : SIZE_MAX);
    d->host.corked = NULL;
    d->host.cork_size = 0;
}

/* Events. */

static inline void driver_note(driver *d, const char *line, const char *data, size_t size) {
    FUZZ_CHECK(!d->ended);
    script_text(&d->trace, line);
    if (size) script_bytes(&d->trace, data, size);
    script_text(&d->trace, "\n");
}

static inline void driver_on_end(driver *d, const wss__session_event *event) {
    char line[96];
    snprintf(line, sizeof line, "end %d %d %zu ", event->code, event->cause, event->size);
    driver_note(d, line, event->size ? event->data : "", event->size);
    FUZZ_CHECK(d->session.phase == WSS__SESSION_DONE);
    FUZZ_CHECK(event->ours == d->closed);
    d->ended = 1;
}

static inline void driver_fail(driver *d, int cause) {
    wss__session_event end;
    memset(&end, 0, sizeof end);
    if (wss__session_fail(&d->host, &d->session, cause, &end) == WSS__SESSION_END) driver_on_end(d, &end);
}

static inline void driver_lose(driver *d, int cause) {
    wss__session_event end;
    memset(&end, 0, sizeof end);
    if (wss__session_end(&d->host, &d->session, cause, 0, &end) == WSS__SESSION_END) driver_on_end(d, &end);
}

static inline void driver_close(driver *d, int code, const char *reason) {
    if (d->session.phase == WSS__SESSION_OPEN) d->closed = 1;
    wss__session_close(&d->host, &d->session, code, wss__base_text(reason), WSS_CAUSE_LOCAL_CLOSE);
}

static inline void driver_accept(driver *d) {
    d->asked = 0;
    if (wss__input_accept(&d->host, &d->session, wss__base_span(d->key, sizeof d->key))) return;
    FUZZ_CHECK(d->fail_at);
    d->session.phase = WSS__SESSION_ASKED;
    driver_lose(d, WSS_CAUSE_MEMORY);
}

/* With the cork, if it has room, else with the queue. */
static inline void driver_echo(driver *d, const wss__session_event *event) {
    char *place = NULL;
    if (d->session.phase == WSS__SESSION_OPEN)
        place = wss__session_cork(&d->host, &d->session, event->size + wss__frame_head_size(event->size), 1);
    if (place) {
        place += wss__frame_encode(place, event->opcode, event->size);
        if (event->size) memcpy(place, event->data, event->size);
        wss__session_count_messages(&d->host, 1);
        return;
    }
    wss__buf_frame *frame = wss__buf_new(&d->mem, event->opcode, event->size, wss__base_text(NULL), &place);
    FUZZ_CHECK(frame || d->fail_at);
    if (!frame) return;
    if (event->size) memcpy(place, event->data, event->size);
    d->echoed += event->size + sizeof *frame + 64;
    wss__session_push(&d->host, &d->session, frame, 1);
}

static inline void driver_on_message(driver *d, const wss__session_event *event) {
    char line[64];
    snprintf(line, sizeof line, "message %d %zu ", event->opcode, event->size);
    FUZZ_CHECK(d->session.phase == WSS__SESSION_OPEN);
    FUZZ_CHECK(event->size <= d->options.max_message);
    driver_note(d, line, event->data, event->size);
    d->messages++;
    if (d->how.echo) driver_echo(d, event);
    if (d->how.close_after == d->messages) driver_close(d, 4000, "enough");
}

static inline void driver_on_request(driver *d, int kind, const wss__session_event *event) {
    const wss_request *request = &event->request;
    const char *target = wss_request_target(request);
    driver_note(d, kind == WSS__SESSION_UPGRADE ? "upgrade " : "http ", target, strlen(target));
    FUZZ_CHECK(d->session.phase == WSS__SESSION_ASKED);
    if (kind == WSS__SESSION_HTTP) {
        wss__session_event end;
        int rule = request->minor ? WSS__HTTP_RULE_NO_UPGRADE : WSS__HTTP_RULE_OLD_HTTP;
        int is_head = request->method == WSS__HTTP_HEAD;
        FUZZ_CHECK(wss__input_reject(&d->host, &d->session, rule, is_head, &end) == WSS__SESSION_END);
        driver_on_end(d, &end);
        return;
    }
    wss__span key = wss__http_key(request);
    FUZZ_CHECK(key.size == sizeof d->key);
    memcpy(d->key, key.data, sizeof d->key);
    d->asked = 1;
    if (!d->how.late) driver_accept(d);
}

static inline void driver_handle(driver *d, int kind, const wss__session_event *event) {
    d->paused = d->how.pause;
    switch (kind) {
    case WSS__SESSION_MESSAGE: driver_on_message(d, event); break;
    case WSS__SESSION_PONG: driver_note(d, "pong ", event->data, event->size); break;
    case WSS__SESSION_UPGRADE:
    case WSS__SESSION_HTTP: driver_on_request(d, kind, event); break;
    default: FUZZ_CHECK(kind == WSS__SESSION_END); driver_on_end(d, event);
    }
}

/* After the end nothing may follow, whatever comes. */
static inline void driver_check_silence(driver *d, wss__session_bytes *bytes) {
    wss__session_event event;
    FUZZ_CHECK(wss__input_next(&d->host, &d->session, bytes, &event) == WSS__SESSION_NEED);
    FUZZ_CHECK(bytes->size == 0);
}

static inline void driver_dispatch(driver *d, wss__session_bytes *bytes) {
    wss__session_event event;
    while (!d->ended && !d->paused) {
        memset(&event, 0x77, sizeof event);
        int kind = wss__input_next(&d->host, &d->session, bytes, &event);
        if (kind == WSS__SESSION_NEED) {
            FUZZ_CHECK(bytes->size == 0 || d->session.phase == WSS__SESSION_ASKED);
            break;
        }
        driver_handle(d, kind, &event);
        wss__input_event_done(&d->host, &d->session);
        driver_check(d);
    }
    if (d->ended) driver_check_silence(d, bytes);
    if (d->ended) wss__input_free_input(&d->host, &d->session);
    else if (!wss__input_hold(&d->host, &d->session, bytes)) driver_fail(d, WSS_CAUSE_MEMORY);
    wss__input_event_done(&d->host, &d->session);
}

static inline void driver_turn(driver *d, wss__session_bytes *bytes) {
    d->host.corked = d->how.cork ? &d->session : NULL;
    d->host.cork_size = 0;
    driver_dispatch(d, bytes);
    driver_flush(d);
    if (d->broken && !d->ended) driver_lose(d, WSS_CAUSE_PEER_VANISHED);
}

/* What waits is answered and looked at, until nothing does. */
static inline void driver_go_on(driver *d) {
    wss__session_bytes bytes;
    d->paused = 0;
    while (!d->ended && (d->asked || wss__input_take_held(&d->session, &bytes))) {
        if (d->asked) {
            driver_accept(d);
            continue;
        }
        driver_turn(d, &bytes);
        d->paused = 0;
    }
    driver_flush(d);
}

/* One receive. Nothing may be read or written behind the block. */
static inline void driver_receive(driver *d, const char *data, size_t size) {
    wss__session_bytes bytes;
    char *block = (char *)malloc(size);
    if (!block) abort();
    memcpy(block, data, size);
    bytes.data = block;
    bytes.size = size;
    if (size > d->largest) d->largest = size;
    d->paused = d->how.hold;
    driver_turn(d, &bytes);
    free(block); /* nothing may refer to it now */
    driver_go_on(d);
}

static inline void driver_feed(driver *d, const char *data, size_t size, unsigned cutting, size_t scale) {
    fuzz_cuts cuts = fuzz_cut(cutting);
    size_t piece;
    for (size_t at = 0; at < size; at += piece) {
        piece = fuzz_piece(&cuts, size - at);
        if (piece > 1 && piece < (size - at) / scale) piece *= scale;
        driver_receive(d, data + at, piece);
    }
}

#endif
