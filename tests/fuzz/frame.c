/* Fuzz target of [frame] and of the messages that [session] makes of frames, under small limits: a decoder of another
   design, which sees all bytes at once, tells the same events and the same replies. */
#define FUZZ_TARGET "frame"
#include "driver.h"
#include "reference.h"

enum { MAX_MESSAGE = 300 };

/* The decoder to compare with: what RFC 6455 says of a whole stream. */
typedef struct reference {
    const unsigned char *data;
    size_t size;
    size_t at;
    int closing; /* our Close was sent before the stream began */
    int in_message;
    int opcode;
    size_t fragments;
    script message;
    script trace;
    script output;
} reference;

typedef struct piece {
    int first;
    size_t length;
    const unsigned char *mask;
} piece;

static void stop(reference *r, int code, int cause, const char *reason, size_t size) {
    char line[96];
    if (r->closing) snprintf(line, sizeof line, "end 4000 %d 0 \n", WSS_CAUSE_LOCAL_CLOSE);
    else snprintf(line, sizeof line, "end %d %d %zu ", code, cause, size);
    script_text(&r->trace, line);
    if (r->closing) return;
    script_bytes(&r->trace, reason, size);
    script_text(&r->trace, "\n");
}

static int refuse(reference *r, int cause) {
    int code = cause == WSS_CAUSE_UTF8 ? 1007 : cause == WSS_CAUSE_TOO_BIG ? 1009 : 1002;
    if (cause == WSS_CAUSE_TOO_MANY_FRAGMENTS) code = 1008;
    if (!r->closing) script_reply_close(&r->output, code, wss_cause_text(cause));
    stop(r, code, cause, "", 0);
    return 0;
}

/* The header of the next frame. 1: it is whole and may come; 0: the stream ends here, or was refused. */
static int take_head(reference *r, piece *p) {
    const unsigned char *b = r->data + r->at;
    size_t left = r->size - r->at;
    size_t width;
    uint64_t length;
    if (left < 1) return 0;
    p->first = b[0];
    int opcode = b[0] % 16;
    int control = opcode > 7;
    if (b[0] / 16 % 8) return refuse(r, WSS_CAUSE_RESERVED_BITS);
    if (opcode > 10 || (opcode > 2 && opcode < 8)) return refuse(r, WSS_CAUSE_OPCODE);
    if (control && b[0] < 128) return refuse(r, WSS_CAUSE_CONTROL);
    if (left < 2) return 0;
    length = b[1] % 128;
    if (b[1] < 128) return refuse(r, WSS_CAUSE_UNMASKED);
    if (control && length > 125) return refuse(r, WSS_CAUSE_CONTROL);
    width = length == 126 ? 2 : length == 127 ? 8 : 0;
    if (left < 2 + width) return 0;
    if (width) length = 0;
    for (size_t i = 0; i < width; i++) length = length * 256 + b[2 + i];
    if (width == 2 && length <= 125) return refuse(r, WSS_CAUSE_LENGTH);
    if (width == 8 && (length <= 65535 || length > INT64_MAX)) return refuse(r, WSS_CAUSE_LENGTH);
    if (left < 6 + width) return 0;
    if (!control && r->in_message != (opcode == 0)) return refuse(r, WSS_CAUSE_CONTINUATION);
    if (!control && r->in_message && r->fragments >= 1024 + r->message.size / 16) return refuse(r, WSS_CAUSE_TOO_MANY_FRAGMENTS);
    if (!control && length + r->message.size > MAX_MESSAGE) return refuse(r, WSS_CAUSE_TOO_BIG);
    p->mask = b + 2 + width;
    p->length = (size_t)length;
    r->at += 6 + width;
    return 1;
}

static int take_close(reference *r, const unsigned char *payload, size_t size) {
    if (size == 1) return refuse(r, WSS_CAUSE_CLOSE_FRAME);
    int code = size ? payload[0] * 256 + payload[1] : 1005;
    int known = (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
                (code >= 3000 && code <= 4999);
    if (size && !known) return refuse(r, WSS_CAUSE_CLOSE_FRAME);
    size_t reason = size ? size - 2 : 0;
    if (reason && reference_verdict(payload + 2, reason) != REFERENCE_WHOLE) return refuse(r, WSS_CAUSE_UTF8);
    if (!r->closing) script_reply_close(&r->output, size ? code : 0, "");
    stop(r, code, WSS_CAUSE_PEER_CLOSED, size ? (const char *)payload + 2 : "", reason);
    return 0;
}

static int take_control(reference *r, int opcode, const unsigned char *payload, size_t size) {
    if (opcode == 8) return take_close(r, payload, size);
    if (r->closing) return 1;
    if (opcode == 9) {
        script_reply(&r->output, 10, payload, size);
        return 1;
    }
    script_text(&r->trace, "pong ");
    script_bytes(&r->trace, payload, size);
    script_text(&r->trace, "\n");
    return 1;
}

static int take_payload(reference *r, const piece *p) {
    unsigned char control[125];
    size_t there = r->size - r->at < p->length ? r->size - r->at : p->length;
    int is_control = p->first % 16 > 7;
    if (!is_control && !r->in_message) {
        r->in_message = 1;
        r->opcode = p->first % 16;
        r->fragments = 0;
    }
    if (!is_control) r->fragments++;
    for (size_t i = 0; i < there; i++) {
        unsigned char byte = (unsigned char)(r->data[r->at + i] ^ p->mask[i % 4]);
        if (is_control) control[i] = byte;
        else script_bytes(&r->message, &byte, 1);
    }
    r->at += there;
    if (is_control) return there == p->length ? take_control(r, p->first % 16, control, there) : 0;
    int verdict = r->opcode == 1 ? reference_verdict(r->message.data, r->message.size) : REFERENCE_WHOLE;
    if (verdict == REFERENCE_REJECTED) return refuse(r, WSS_CAUSE_UTF8);
    if (there < p->length) return 0;
    if (p->first < 128) return 1;
    if (verdict != REFERENCE_WHOLE) return refuse(r, WSS_CAUSE_UTF8);
    char line[64];
    snprintf(line, sizeof line, "message %d %zu ", r->opcode, r->message.size);
    if (!r->closing) {
        script_text(&r->trace, line);
        script_bytes(&r->trace, r->message.data, r->message.size);
        script_text(&r->trace, "\n");
    }
    r->message.size = 0;
    r->in_message = 0;
    return 1;
}

static void check_session(const reference *r, unsigned cutting) {
    driver_mode how;
    driver d;
    memset(&how, 0, sizeof how);
    how.cork = DRIVER_CORK_ALL; /* so no pong has to give way to another */
    driver_begin(&d, &how, MAX_MESSAGE);
    d.session.phase = WSS__SESSION_OPEN;
    if (r->closing) driver_close(&d, 4000, "enough");
    work_done = 0;
    driver_feed(&d, (const char *)r->data, r->size, cutting, 1);
    FUZZ_CHECK(work_done <= 100000 + 200 * r->size);
    FUZZ_CHECK(d.peak <= 4096 + MAX_MESSAGE);
    driver_flush(&d);
    FUZZ_CHECK(script_same(&d.trace, &r->trace));
    FUZZ_CHECK(script_same(&d.output, &r->output));
    driver_finish(&d);
}

/* One header by itself: every prefix wants more until the verdict falls, and then it stays. */
static void check_head(const uint8_t *data, size_t size) {
    wss__frame_head head;
    wss__frame_head again;
    int verdict = 0;
    memset(&head, 0, sizeof head);
    for (size_t i = 0; i <= size && i <= 20; i++) {
        char *exact = fuzz_copy(data, i);
        int result = wss__frame_decode(exact, i, verdict ? &again : &head);
        free(exact);
        if (verdict) FUZZ_CHECK(result == verdict);
        else verdict = result;
        if (result > 0) FUZZ_CHECK((size_t)result <= i);
    }
    if (verdict <= 0 || !head.final || head.size > SIZE_MAX / 2) return;
    char out[WSS__FRAME_HEAD_MAX_OUT];
    size_t length = wss__frame_encode(out, head.opcode, (size_t)head.size);
    FUZZ_CHECK(length == (size_t)verdict - 4 && length == wss__frame_head_size((size_t)head.size));
    out[1] = (char)(unsigned char)((unsigned char)out[1] | 0x80);
    FUZZ_CHECK(memcmp(out, data, length) == 0);
}

/* Against the rule of RFC 6455 section 5.3, one byte at a time. */
static void check_unmask(const uint8_t *data, size_t size, unsigned choice) {
    static const unsigned char masks[2][4] = {{1, 2, 4, 8}, {0xff, 0, 0x80, 0x55}};
    const unsigned char *mask = masks[choice & 1];
    uint64_t offset = choice >> 1;
    size_t shift = choice & 7;
    char *from = (char *)malloc(size + shift + 1);
    char *to = (char *)malloc(size + 1);
    if (!from || !to) abort();
    if (size) memcpy(from + shift, data, size);
    wss__frame_unmask(to, from + shift, size, mask, offset);
    wss__frame_unmask(from + shift, from + shift, size, mask, offset);
    for (size_t i = 0; i < size; i++) FUZZ_CHECK((unsigned char)to[i] == (data[i] ^ mask[(offset + i) % 4]));
    FUZZ_CHECK(size == 0 || memcmp(to, from + shift, size) == 0);
    free(from);
    free(to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_input in = fuzz_begin(data, size);
    unsigned choice = fuzz_byte(&in);
    reference r;
    piece p;
    memset(&r, 0, sizeof r);
    r.data = in.at;
    r.size = in.left;
    r.closing = choice & 1;
    if (r.closing) script_reply_close(&r.output, 4000, "enough");
    check_head(in.at, in.left);
    check_unmask(in.at, in.left, choice);
    while (take_head(&r, &p) && take_payload(&r, &p)) {
    }
    check_session(&r, 0);
    check_session(&r, 1);
    check_session(&r, choice >> 1);
    script_free(&r.message);
    script_free(&r.trace);
    script_free(&r.output);
    return 0;
}
