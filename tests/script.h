/* script.h: what a client puts on the wire, built in memory: request heads and masked frames. A script that is all zero
   is empty; it grows as things are added. Masks are made up, the same in every run. */
#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCRIPT_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define SCRIPT_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define SCRIPT_HOST "Host: example.com\r\n"
#define SCRIPT_ASKS                                                                                        \
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " SCRIPT_KEY "\r\nSec-WebSocket-Version: 13\r\n"
/* An upgrade request without the empty line at its end, so that more header lines can follow. */
#define SCRIPT_REQUEST "GET /chat?room=1 HTTP/1.1\r\n" SCRIPT_HOST SCRIPT_ASKS
#define SCRIPT_HANDSHAKE SCRIPT_REQUEST "\r\n"
/* What a server answers to it. */
#define SCRIPT_ACCEPTED                                                                                    \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                    \
    "Sec-WebSocket-Accept: " SCRIPT_ACCEPT "\r\n\r\n"

enum { SCRIPT_CONTINUATION = 0, SCRIPT_TEXT = 1, SCRIPT_BINARY = 2, SCRIPT_CLOSE = 8, SCRIPT_PING = 9, SCRIPT_PONG = 10 };
enum { SCRIPT_MORE = 0, SCRIPT_FINAL = 1 };

typedef struct script {
    char *data;
    size_t size;
    size_t capacity;
    uint32_t masks; /* made so far */
} script;

static inline void script_free(script *s) {
    free(s->data);
    memset(s, 0, sizeof *s);
}

static inline void script_bytes(script *s, const void *data, size_t size) {
    if (size > s->capacity - s->size) {
        s->capacity = (s->size + size) / 4 * 5 + 64; /* doubled, the usual large message would be a new map of its own */
        s->data = (char *)realloc(s->data, s->capacity);
        if (!s->data) abort();
    }
    if (size) memcpy(s->data + s->size, data, size);
    s->size += size;
}

static inline void script_text(script *s, const char *text) {
    script_bytes(s, text, strlen(text));
}

static inline int script_is(const script *s, const void *data, size_t size) {
    return s->size == size && (size == 0 || memcmp(s->data, data, size) == 0);
}

static inline int script_same(const script *a, const script *b) {
    return script_is(a, b->data, b->size);
}

/* A frame's first bytes, as small as its length allows: FIN and opcode, length. No mask. Returns how many; out has 10. */
static inline size_t script_lengths(unsigned char *out, int opcode, int final, uint64_t size, int masked) {
    int extra = size < 126 ? 0 : size <= 0xffff ? 2 : 8;
    out[0] = (unsigned char)(opcode | (final ? 0x80 : 0));
    out[1] = (unsigned char)((extra == 0 ? (unsigned)size : extra == 2 ? 126u : 127u) | (masked ? 0x80u : 0u));
    for (int i = 0; i < extra; i++) out[2 + i] = (unsigned char)(size >> 8 * (extra - 1 - i) & 0xff);
    return (size_t)extra + 2;
}

/* Header of a client's frame whose payload has this size; writes the mask that the payload needs. */
static inline void script_head(script *s, int opcode, int final, uint64_t size, unsigned char mask[4]) {
    unsigned char head[10];
    uint32_t next = (s->masks++ + 1) * 2654435761u;
    size_t length = script_lengths(head, opcode, final, size, 1);
    for (int i = 0; i < 4; i++) mask[i] = (unsigned char)(next >> 8 * i & 0xff);
    script_bytes(s, head, length);
    script_bytes(s, mask, 4);
}

static inline void script_frame(script *s, int opcode, int final, const void *payload, size_t size) {
    unsigned char mask[4];
    script_head(s, opcode, final, size, mask);
    size_t at = s->size;
    script_bytes(s, payload, size);
    for (size_t i = 0; i < size; i++) s->data[at + i] = (char)((unsigned char)s->data[at + i] ^ mask[i & 3]);
}

/* A whole message or control frame. */
static inline void script_say(script *s, int opcode, const char *text) {
    script_frame(s, opcode, SCRIPT_FINAL, text, strlen(text));
}

/* A message of size bytes, letters in turn. */
static inline void script_fill(script *s, int opcode, int final, size_t size) {
    char *payload = (char *)malloc(size + 1);
    if (!payload) abort();
    for (size_t i = 0; i < size; i++) payload[i] = (char)('a' + i % 26);
    script_frame(s, opcode, final, payload, size);
    free(payload);
}

static inline void script_close(script *s, int code, const char *reason) {
    char payload[2 + 4096];
    size_t size = strlen(reason);
    if (size > sizeof payload - 2) abort();
    payload[0] = (char)(unsigned char)(code >> 8 & 0xff);
    payload[1] = (char)(unsigned char)(code & 0xff);
    memcpy(payload + 2, reason, size);
    script_frame(s, SCRIPT_CLOSE, SCRIPT_FINAL, payload, size + 2);
}

/* What a server sends: frames without a mask. */

static inline void script_reply(script *s, int opcode, const void *payload, size_t size) {
    unsigned char head[10];
    script_bytes(s, head, script_lengths(head, opcode, SCRIPT_FINAL, size, 0));
    script_bytes(s, payload, size);
}

/* A Close frame; code 0: without one. */
static inline void script_reply_close(script *s, int code, const char *reason) {
    char payload[125];
    size_t size = strlen(reason);
    if (size > sizeof payload - 2) abort();
    payload[0] = (char)(unsigned char)(code >> 8 & 0xff);
    payload[1] = (char)(unsigned char)(code & 0xff);
    memcpy(payload + 2, reason, size);
    script_reply(s, SCRIPT_CLOSE, payload, code ? size + 2 : 0);
}

#endif
