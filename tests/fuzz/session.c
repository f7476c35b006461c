/* Fuzz target of [session], from the request head to the end: the same bytes in any pieces, held, paused, corked, sent in
   parts, give the same events and the same output; memory stays bounded; no allocation that fails
   does more than end the session. */
#define FUZZ_TARGET "session"
#include "driver.h"

enum { MAX_MESSAGE = 70000 };

/* What is done to the session, besides what it is sent. */
typedef struct plan {
    driver_mode how;
    unsigned cutting;
    size_t scale;
    size_t fail_at;
    int fail_after;
    int open;   /* begins past the handshake */
    int ending; /* after the input: 0 nothing, 1 lost, 2 fault, 3 close */
} plan;

/* The bytes of the peer: some as they are, frames of which only the lengths are told. */

static void add_raw(script *s, fuzz_input *in) {
    size_t size;
    const char *data = fuzz_take(in, fuzz_byte(in), &size);
    script_bytes(s, data, size);
}

static void add_frame(script *s, fuzz_input *in) {
    static const int opcodes[8] = {SCRIPT_TEXT, SCRIPT_BINARY, SCRIPT_CONTINUATION, SCRIPT_PING,
                                   SCRIPT_PONG, SCRIPT_CLOSE,  SCRIPT_TEXT,         SCRIPT_CONTINUATION};
    unsigned choice = fuzz_byte(in);
    size_t size;
    const char *data = fuzz_take(in, fuzz_byte(in) & 127, &size);
    script_frame(s, opcodes[choice & 7], !(choice & 8), data, size);
}

static void add_large(script *s, fuzz_input *in) {
    unsigned choice = fuzz_byte(in);
    size_t size = (size_t)fuzz_byte(in) * (choice & 0x80 ? 400 : 7);
    script_fill(s, (int)(choice & 3) % 3, !(choice & 8), size);
}

static void add_pings(script *s, fuzz_input *in) {
    unsigned count = fuzz_below(in, 40);
    for (unsigned i = 0; i < count; i++) {
        char text[16];
        snprintf(text, sizeof text, "%u", i);
        script_say(s, SCRIPT_PING, text);
    }
}

static void add_close(script *s, fuzz_input *in) {
    static const int codes[8] = {1000, 1001, 1005, 2999, 3000, 4999, 1014, 999};
    script_close(s, codes[fuzz_below(in, 8)], "bye");
}

static script write_input(fuzz_input *in, int raw, int open) {
    script s;
    memset(&s, 0, sizeof s);
    if (!open && !raw) script_text(&s, SCRIPT_HANDSHAKE);
    if (raw) {
        script_bytes(&s, in->at, in->left);
        return s;
    }
    for (int i = 0; i < 64 && in->left; i++) {
        switch (fuzz_below(in, 6)) {
        case 0: add_raw(&s, in); break;
        case 1: add_large(&s, in); break;
        case 2: add_pings(&s, in); break;
        case 3: add_close(&s, in); break;
        default: add_frame(&s, in);
        }
    }
    return s;
}

/* What must not depend on how the bytes came. */

/* A pong of the server, and how many other frames left before it. */
typedef struct pong {
    const char *at;
    size_t size;
    size_t others;
} pong;

typedef struct parts {
    script others;
    pong *pongs;
    size_t count;
} parts;

/* Frames that have left: pongs, and all others. From here on the output consists of whole ones. */
static parts take_apart(const script *output, size_t from) {
    parts all;
    memset(&all, 0, sizeof all);
    size_t at = from < output->size ? from : output->size;
    size_t others = 0;
    script_bytes(&all.others, output->data, at);
    all.pongs = (pong *)malloc((output->size / 2 + 1) * sizeof *all.pongs);
    if (!all.pongs) abort();
    while (at < output->size) {
        const unsigned char *b = (const unsigned char *)output->data + at;
        FUZZ_CHECK(output->size - at >= 2 && b[1] < 128);
        size_t width = b[1] == 126 ? 2 : b[1] == 127 ? 8 : 0;
        size_t length = width ? 0 : b[1];
        FUZZ_CHECK(output->size - at >= 2 + width);
        for (size_t i = 0; i < width; i++) length = length * 256 + b[2 + i];
        FUZZ_CHECK(output->size - at - 2 - width >= length);
        length += 2 + width;
        pong one = {output->data + at, length, others};
        if (b[0] == 0x8a) all.pongs[all.count++] = one;
        else script_bytes(&all.others, b, length);
        others += b[0] != 0x8a;
        at += length;
    }
    return all;
}

static void free_parts(parts *all) {
    script_free(&all->others);
    free(all->pongs);
}

static int is_same_pong(const pong *a, const pong *b) {
    return a->size == b->size && memcmp(a->at, b->at, a->size) == 0;
}

/* While output is held up only the newest ping is answered, as RFC 6455 section 5.5.3 allows: the pongs are some of those to all
   pings, in their order, the last one among them, and none has fallen behind a frame that it stood before. */
static void check_pongs(const parts *all, const parts *some) {
    size_t left = all->count;
    FUZZ_CHECK((some->count == 0) == (all->count == 0));
    if (some->count) FUZZ_CHECK(is_same_pong(&all->pongs[left - 1], &some->pongs[some->count - 1]));
    for (size_t i = some->count; i-- > 0;) {
        while (left && !is_same_pong(&all->pongs[left - 1], &some->pongs[i])) left--;
        FUZZ_CHECK(left > 0);
        left--;
        FUZZ_CHECK(some->pongs[i].others <= all->pongs[left].others);
    }
}

static size_t length_of_101(const driver *d) {
    size_t size = sizeof SCRIPT_ACCEPTED - 1;
    if (d->output.size < size || memcmp(d->output.data, "HTTP/1.1 101", 12) != 0) return 0;
    return size;
}

static int is_refusal(const driver *d) {
    return d->output.size > 12 && memcmp(d->output.data, "HTTP/1.1 ", 9) == 0 && !length_of_101(d);
}

/* all: with a cork for all answers, from one piece. exact: nothing was held up in b either. */
static void check_same(const driver *all, const driver *b, int exact) {
    FUZZ_CHECK(script_same(&all->trace, &b->trace));
    if (is_refusal(all) || is_refusal(b) || exact) {
        FUZZ_CHECK(script_same(&all->output, &b->output));
        return;
    }
    parts left = take_apart(&all->output, length_of_101(all));
    parts right = take_apart(&b->output, length_of_101(b));
    FUZZ_CHECK(script_same(&left.others, &right.others));
    if (all->output.size <= DRIVER_CORK_ALL) check_pongs(&left, &right);
    free_parts(&left);
    free_parts(&right);
}

/* One message and one head at most, what one piece left, the replies, and what was sent back. */
static void check_memory(const driver *d) {
    size_t kept = d->how.send ? d->how.cork : 0; /* of what leaves whole nothing is */
    FUZZ_CHECK(d->peak <= 16384 + 2 * MAX_MESSAGE + d->largest + kept + d->echoed);
}

static void run(driver *d, const plan *p, const script *input) {
    driver_begin(d, &p->how, MAX_MESSAGE);
    if (p->open) d->session.phase = WSS__SESSION_OPEN;
    d->fail_at = p->fail_at;
    d->fail_after = p->fail_after;
    work_done = 0;
    driver_feed(d, input->data, input->size, p->cutting, p->scale);
    FUZZ_CHECK(work_done <= 1000000 + 400 * input->size);
    switch (p->ending) {
    case 1: driver_lose(d, WSS_CAUSE_PEER_VANISHED); break;
    case 2: driver_fail(d, WSS_CAUSE_IDLE_TIMEOUT); break;
    case 3: driver_close(d, 1001, "leaving"); break;
    default: break;
    }
    driver_flush(d);
    check_memory(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const size_t corks[8] = {0, 1, 10, 130, 400, 4096, 70000, DRIVER_CORK_MAX};
    static const size_t sends[8] = {0, 1, 2, 7, 100, 1000, 16384, 65536};
    fuzz_input in = fuzz_begin(data, size);
    plan p;
    memset(&p, 0, sizeof p);
    unsigned flags = fuzz_byte(&in);
    unsigned sizes = fuzz_byte(&in);
    unsigned more = fuzz_byte(&in);
    p.cutting = fuzz_byte(&in);
    p.fail_at = fuzz_byte(&in);
    p.open = flags >> 7 & 1;
    p.how.echo = more & 1;
    p.how.close_after = more >> 1 & 3;
    p.ending = (int)(more >> 3 & 3);
    p.fail_after = (int)(more >> 5 & 1);
    p.scale = more & 0x40 ? 300 : 1;
    script input = write_input(&in, (int)(flags >> 6 & 1), p.open);
    plan plain = p;
    plain.how.cork = DRIVER_CORK_ALL;
    plain.cutting = 0;
    plain.fail_at = 0;
    p.how.pause = flags >> 1 & 1;
    p.how.hold = flags >> 2 & 1;
    p.how.late = flags >> 3 & 1;
    p.how.cork = corks[sizes & 7];
    p.how.send = sends[sizes >> 3 & 7];
    if (input.size > 4096) p.scale = 300; /* what is long must not be slow too */
    if (input.size > 4096 && p.cutting == 1) p.cutting = 2;
    if (p.how.send && input.size / p.how.send > 2000) p.how.send = 16384;
    driver first;
    driver second;
    run(&first, &plain, &input);
    run(&second, &p, &input);
    int single = p.cutting == 1 && p.scale == 1; /* bytes: each ping is answered before the next one */
    int fits = !p.how.late && p.how.cork >= first.output.size;
    if (!p.fail_at) check_same(&first, &second, single || fits);
    driver_finish(&first);
    driver_finish(&second);
    script_free(&input);
    return 0;
}
