/* client.h: a small blocking WebSocket client for tests. Nothing waits longer than CLIENT_WAIT. Where the server lives in the
   same thread, client_turn is called while the client waits, so that the server can work. */
#ifndef CLIENT_H
#define CLIENT_H

#include "script.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CLIENT_WAIT = 20000 }; /* milliseconds */

/* What client_read returns beside an opcode, which is above 0. */
enum { CLIENT_ENDED = 0, CLIENT_LATE = -1, CLIENT_RESET = -2, CLIENT_BROKEN = -3 };

typedef struct client {
    int fd;
    script out;    /* frames are built here */
    char *in;      /* received and not taken yet, from at on */
    size_t at;
    size_t size;
    size_t capacity;
    char *data;    /* payload of the last frame, or the last head; ends in NUL */
    size_t length;
    int status;    /* of the answer to the request */
    int code;      /* of the last Close frame; 1005: none */
    int ended;     /* CLIENT_ENDED is 0, so: the stream has ended */
} client;

static void (*client_turn)(void) __attribute__((unused));

static inline long long client_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until the socket is ready, or for milliseconds. */
static inline int client_wait_for(int fd, short events, int milliseconds) {
    long long until = client_clock() + milliseconds;
    for (;;) {
        long long left = until - client_clock();
        struct pollfd ready = {fd, events, 0};
        int count = poll(&ready, 1, client_turn || left < 0 ? 0 : (int)left);
        if (count > 0) return 1;
        if (left <= 0) return 0;
        if (client_turn) client_turn();
    }
}

static inline void client_address(struct sockaddr_in *address, int port) {
    memset(address, 0, sizeof *address);
    address->sin_family = AF_INET;
    address->sin_port = htons((uint16_t)port);
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

/* A connected socket; receive_buffer in bytes, 0: the system's choice. Negative where that fails. */
static inline int client_socket(int port, int receive_buffer) {
    struct sockaddr_in address;
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    client_address(&address, port);
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (receive_buffer) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    int failed = connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS;
    int error = 0;
    socklen_t size = sizeof error;
    if (!failed && client_wait_for(fd, POLLOUT, CLIENT_WAIT) &&
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && !error)
        return fd;
    close(fd);
    return -1;
}

/* Sends raw bytes, waiting for room; false where the peer is gone or does not read. */
static inline int client_raw(client *c, const void *data, size_t size) {
    const char *at = (const char *)data;
    while (size) {
        ssize_t sent = send(c->fd, at, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && (errno != EAGAIN || !client_wait_for(c->fd, POLLOUT, CLIENT_WAIT))) return 0;
        if (sent < 0) continue;
        at += sent;
        size -= (size_t)sent;
    }
    return 1;
}

static inline int client_say(client *c, const char *text) {
    return client_raw(c, text, strlen(text));
}

/* Receives once. 1, or what client_read returns. */
static inline int client_fill(client *c, int milliseconds) {
    if (c->at == c->size) c->at = c->size = 0;
    if (c->capacity - c->size < 65536) {
        c->capacity = c->capacity * 2 + 131072;
        c->in = (char *)realloc(c->in, c->capacity);
        if (!c->in) abort();
    }
    for (;;) {
        ssize_t got = recv(c->fd, c->in + c->size, c->capacity - c->size, 0);
        if (got > 0) c->size += (size_t)got;
        if (got > 0) return 1;
        if (got == 0) c->ended = 1;
        if (got == 0) return CLIENT_ENDED;
        if (errno == EINTR) continue;
        if (errno != EAGAIN) return CLIENT_RESET;
        if (!client_wait_for(c->fd, POLLIN, milliseconds)) return CLIENT_LATE;
    }
}

static inline void client_keep(client *c, const char *data, size_t size) {
    c->data = (char *)realloc(c->data, size + 1);
    if (!c->data) abort();
    if (size) memcpy(c->data, data, size);
    c->data[size] = 0;
    c->length = size;
}

/* Reads the next frame, within milliseconds. Returns its opcode; the payload stands in data and length. */
static inline int client_read_within(client *c, int milliseconds) {
    for (;;) {
        size_t have = c->size - c->at;
        unsigned char *head = (unsigned char *)c->in + c->at;
        size_t extra = have < 2 || (head[1] & 127) < 126 ? 0 : (head[1] & 127) == 126 ? 2 : 8;
        if (have >= 2 + extra) {
            uint64_t size = extra ? 0 : head[1] & 127u;
            for (size_t i = 0; i < extra; i++) size = size << 8 | head[2 + i];
            if ((head[0] & 0xf0) != 0x80 || head[1] & 128) return CLIENT_BROKEN;
            if (have - 2 - extra >= size) {
                int opcode = head[0] & 15;
                client_keep(c, (char *)head + 2 + extra, (size_t)size);
                c->at += 2 + extra + (size_t)size;
                if (opcode == 8) c->code = size < 2 ? 1005 : (unsigned char)c->data[0] << 8 | (unsigned char)c->data[1];
                return opcode ? opcode : CLIENT_BROKEN;
            }
        }
        int result = client_fill(c, milliseconds);
        if (result == CLIENT_ENDED && c->size != c->at) return CLIENT_BROKEN;
        if (result != 1) return result;
    }
}

static inline int client_read(client *c) {
    return client_read_within(c, CLIENT_WAIT);
}

/* Reads the answer to a request: its status, or as client_read. The head stands in data. */
static inline int client_read_head(client *c) {
    for (;;) {
        size_t have = c->size - c->at;
        char *end = have ? (char *)memmem(c->in + c->at, have, "\r\n\r\n", 4) : NULL;
        if (end) {
            client_keep(c, c->in + c->at, (size_t)(end - c->in) + 4 - c->at);
            c->at += c->length;
            c->status = c->length > 12 && memcmp(c->data, "HTTP/1.1 ", 9) == 0 ? atoi(c->data + 9) : CLIENT_BROKEN;
            return c->status;
        }
        int result = client_fill(c, CLIENT_WAIT);
        if (result != 1) return c->status = result;
    }
}

/* Reads until the stream ends; all of it stands in data. CLIENT_ENDED, or why not. */
static inline int client_read_rest(client *c) {
    int result;
    do result = client_fill(c, CLIENT_WAIT);
    while (result == 1);
    client_keep(c, c->in + c->at, c->size - c->at);
    c->at = c->size;
    return result;
}

/* A client on a new socket, before the handshake. Its fd is negative where nobody listens. */
static inline client *client_dial_with(int port, int receive_buffer) {
    client *c = (client *)calloc(1, sizeof *c);
    if (!c) abort();
    c->fd = client_socket(port, receive_buffer);
    return c;
}

static inline client *client_dial(int port) {
    return client_dial_with(port, 0);
}

/* Asks for an upgrade, with these header lines more. Returns the status. */
static inline int client_ask(client *c, const char *lines) {
    if (!client_say(c, SCRIPT_REQUEST) || !client_say(c, lines) || !client_say(c, "\r\n")) return CLIENT_RESET;
    return client_read_head(c);
}

/* Dials and upgrades; status 101 tells that it did. */
static inline client *client_open(int port) {
    client *c = client_dial(port);
    if (c->fd >= 0) client_ask(c, "");
    if (c->status == 101 && !strstr(c->data, SCRIPT_ACCEPT)) c->status = CLIENT_BROKEN;
    return c;
}

static inline int client_flush(client *c) {
    int sent = client_raw(c, c->out.data, c->out.size);
    c->out.size = 0;
    return sent;
}

static inline int client_frame(client *c, int opcode, int final, const void *data, size_t size) {
    script_frame(&c->out, opcode, final, data, size);
    return client_flush(c);
}

static inline int client_send(client *c, int opcode, const void *data, size_t size) {
    return client_frame(c, opcode, SCRIPT_FINAL, data, size);
}

static inline int client_text(client *c, const char *text) {
    return client_send(c, SCRIPT_TEXT, text, strlen(text));
}

static inline int client_send_close(client *c, int code, const char *reason) {
    script_close(&c->out, code, reason);
    return client_flush(c);
}

/* Reads one text message; "" with an explanation in place of it where something else comes. */
static inline const char *client_read_text(client *c) {
    static char other[32];
    int result = client_read(c);
    if (result == SCRIPT_TEXT) return c->data;
    snprintf(other, sizeof other, "(read: %d)", result);
    return other;
}

static inline void client_free(client *c) {
    if (c->fd >= 0) close(c->fd);
    script_free(&c->out);
    free(c->in);
    free(c->data);
    free(c);
}

/* Makes close() send a reset. */
static inline void client_reset_fd(int fd) {
    struct linger linger = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

static inline void client_reset(client *c) {
    client_reset_fd(c->fd);
    c->fd = -1;
    client_free(c);
}

/* The closing handshake from the client's side: true if the server answered it and then ended the stream. */
static inline int client_leave(client *c) {
    int result;
    client_send_close(c, 1000, "");
    do result = client_read(c);
    while (result > 0 && result != SCRIPT_CLOSE);
    int good = result == SCRIPT_CLOSE && c->code == 1000 && client_read(c) == CLIENT_ENDED;
    client_free(c);
    return good;
}

#endif
