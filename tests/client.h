/* client.h: a small blocking WebSocket client for the end-to-end tests, and a way to wait for what handlers do.
   Include it after wsserver.h and test.h. Every wait is bounded: a test that waits too long fails. */
#ifndef CLIENT_H
#define CLIENT_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

enum { CLIENT_SECONDS = 20, CLIENT_END = -1, CLIENT_RESET = -2, CLIENT_TIMEOUT = -3 };

#define CLIENT_HEADERS                                                                                     \
    "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                                    \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
#define CLIENT_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

typedef struct client {
    int fd;
    char *data; /* received and not taken yet */
    size_t size;
    size_t capacity;
    char *payload; /* of the last frame, with a NUL behind it */
    size_t payload_size;
} client;

/* ---- waiting for handlers ---- */

static pthread_mutex_t client_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t client_changed = PTHREAD_COND_INITIALIZER;

static inline void client_count(int *counter) {
    pthread_mutex_lock(&client_mutex);
    ++*counter;
    pthread_cond_broadcast(&client_changed);
    pthread_mutex_unlock(&client_mutex);
}

static inline int client_counted(const int *counter) {
    pthread_mutex_lock(&client_mutex);
    int value = *counter;
    pthread_mutex_unlock(&client_mutex);
    return value;
}

/* Waits until a counter has come to want; false where that takes too long. */
static inline int client_await(const int *counter, int want) {
    struct timespec until;
    int failed = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CLIENT_SECONDS;
    pthread_mutex_lock(&client_mutex);
    while (*counter < want && !failed) failed = pthread_cond_timedwait(&client_changed, &client_mutex, &until);
    int reached = *counter >= want;
    pthread_mutex_unlock(&client_mutex);
    return reached;
}

static inline void client_count_post(void *counter) {
    client_count((int *)counter);
}

/* Waits until the networking thread has run what was posted before this. */
static inline int client_flush(wss_server *server) {
    int done = 0;
    if (wss_post(server, client_count_post, &done) != WSS_OK) return 0;
    if (client_await(&done, 1)) return 1;
    abort(); /* done must not go away while it may be written */
}

/* ---- connections ---- */

static inline int client_port(wss_server *server) {
    wss_options options;
    wss_get_options(server, &options);
    return options.port;
}

/* A TCP connection; receive_buffer 0: the system's default. NULL where it is refused. */
static inline client *client_connect(int port, int receive_buffer) {
    struct sockaddr_in address;
    struct timeval limit = {CLIENT_SECONDS, 0};
    int on = 1;
    client *c = (client *)calloc(1, sizeof *c);
    if (!c) abort();
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd >= 0) {
        setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (receive_buffer) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        if (connect(c->fd, (struct sockaddr *)&address, sizeof address) == 0) return c;
        close(c->fd);
    }
    free(c);
    return NULL;
}

static inline void client_free(client *c) {
    if (!c) return;
    if (c->fd >= 0) close(c->fd);
    free(c->data);
    free(c->payload);
    free(c);
}

/* Ends the connection with a reset. */
static inline void client_reset(client *c) {
    struct linger linger = {1, 0};
    if (!c) return;
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    client_free(c);
}

static inline int client_raw(client *c, const void *data, size_t size) {
    const char *at = (const char *)data;
    while (size) {
        ssize_t sent = send(c->fd, at, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return 0;
        at += sent;
        size -= (size_t)sent;
    }
    return 1;
}

/* Receives some more bytes: above 0, or CLIENT_END, CLIENT_RESET, CLIENT_TIMEOUT. */
static inline int client_receive(client *c) {
    if (c->capacity - c->size < 65536) {
        c->capacity = c->capacity * 2 + 65536;
        c->data = (char *)realloc(c->data, c->capacity + 1);
        if (!c->data) abort();
    }
    for (;;) {
        ssize_t got = recv(c->fd, c->data + c->size, c->capacity - c->size, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? CLIENT_TIMEOUT : CLIENT_RESET;
        if (got == 0) return CLIENT_END;
        c->size += (size_t)got;
        c->data[c->size] = 0;
        return 1;
    }
}

static inline void client_drop(client *c, size_t size) {
    c->size -= size;
    memmove(c->data, c->data + size, c->size);
}

/* Sends a request and reads the head of the answer; its status, or below 0. */
static inline int client_request(client *c, const char *request) {
    if (!c || !client_raw(c, request, strlen(request))) return CLIENT_RESET;
    for (;;) {
        char *end = c->size ? strstr(c->data, "\r\n\r\n") : NULL;
        if (end) {
            int status = c->size > 12 ? atoi(c->data + 9) : 0;
            if (status == 101 && !strstr(c->data, "Sec-WebSocket-Accept: " CLIENT_ACCEPT "\r\n")) status = 0;
            client_drop(c, (size_t)(end - c->data) + 4);
            return status;
        }
        int got = client_receive(c);
        if (got < 0) return got;
    }
}

static inline client *client_open_small(int port, int receive_buffer) {
    client *c = client_connect(port, receive_buffer);
    if (client_request(c, "GET / HTTP/1.1\r\n" CLIENT_HEADERS "\r\n") == 101) return c;
    client_free(c);
    return NULL;
}

static inline client *client_open(wss_server *server) {
    client *c = client_open_small(client_port(server), 0);
    if (!c) {
        printf("a client could not connect\n");
        exit(1);
    }
    return c;
}

/* ---- frames ---- */

/* Writes a masked frame into out, which has room for size + 14 bytes; how long it is. first: FIN, RSV, opcode. */
static inline size_t client_make(char *out, int first, const void *payload, size_t size) {
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    const unsigned char *from = (const unsigned char *)payload;
    size_t at = 2;
    out[0] = (char)(unsigned char)first;
    int bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
    out[1] = (char)(unsigned char)(0x80 | (bytes == 0 ? (int)size : bytes == 2 ? 126 : 127));
    for (int i = bytes; i-- > 0;) out[at++] = (char)(unsigned char)((uint64_t)size >> (i * 8) & 255);
    memcpy(out + at, mask, 4);
    at += 4;
    for (size_t i = 0; i < size; i++) out[at + i] = (char)(from[i] ^ mask[i & 3]);
    return at + size;
}

static inline int client_frame(client *c, int first, const void *payload, size_t size) {
    char *frame = (char *)malloc(size + 14);
    if (!frame) abort();
    int good = client_raw(c, frame, client_make(frame, first, payload, size));
    free(frame);
    return good;
}

static inline int client_text(client *c, const char *text) {
    return client_frame(c, 0x81, text, strlen(text));
}

/* True while there is no whole frame among the received bytes; else its head and payload sizes. */
static inline int client_is_short(const client *c, size_t *head, size_t *payload) {
    const unsigned char *data = (const unsigned char *)c->data;
    if (c->size < 2) return 1;
    size_t length = data[1] & 127;
    int bytes = length < 126 ? 0 : length == 126 ? 2 : 8;
    *head = 2 + (size_t)bytes;
    if (c->size < *head) return 1;
    for (int i = 0; i < bytes; i++) length = (i ? length << 8 : 0) | data[2 + i];
    *payload = length;
    return c->size - *head < length;
}

/* The next frame: its first byte, with the payload in c->payload; or CLIENT_END, CLIENT_RESET, CLIENT_TIMEOUT. */
static inline int client_read(client *c) {
    size_t head = 0;
    size_t size = 0;
    while (client_is_short(c, &head, &size)) {
        int got = client_receive(c);
        if (got < 0) return got;
    }
    int first = (unsigned char)c->data[0];
    c->payload = (char *)realloc(c->payload, size + 1);
    if (!c->payload) abort();
    memcpy(c->payload, c->data + head, size);
    c->payload[size] = 0;
    c->payload_size = size;
    client_drop(c, head + size);
    return first;
}

/* The text of the next message, or what happened instead. */
static inline const char *client_read_text(client *c) {
    int first = client_read(c);
    if (first == 0x81) return c->payload;
    return first == CLIENT_END ? "(end)" : first == CLIENT_RESET ? "(reset)" : first == CLIENT_TIMEOUT ? "(timeout)" : "(frame)";
}

/* Reads up to the Close frame: its code, 1005 without one; below 0 where none came. The reason is c->payload + 2. */
static inline int client_read_close(client *c) {
    for (;;) {
        int first = client_read(c);
        if (first < 0) return first;
        if (first != 0x88) continue;
        if (c->payload_size < 2) return 1005;
        return (unsigned char)c->payload[0] << 8 | (unsigned char)c->payload[1];
    }
}

static inline int client_send_close(client *c, int code, const char *reason) {
    char payload[125];
    size_t size = strlen(reason);
    payload[0] = (char)(unsigned char)(code >> 8);
    payload[1] = (char)(unsigned char)(code & 255);
    memcpy(payload + 2, reason, size);
    return client_frame(c, 0x88, payload, size + 2);
}

/* Reads to the end of the stream: CLIENT_END, CLIENT_RESET or CLIENT_TIMEOUT. */
static inline int client_read_end(client *c) {
    for (;;) {
        int got = client_receive(c);
        if (got < 0) return got;
        c->size = 0;
    }
}

#endif
