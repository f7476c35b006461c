/* step.h: a server and its clients in one thread, on a clock that the test moves. Nothing sleeps: the test alternates
   between wss_poll and non-blocking sockets until both are at rest. Include this instead of wsserver.h. */
#ifndef STEP_H
#define STEP_H

#include "library.h"
#include "script.h"
#include "test.h"

static long long step_now = 1000000; /* milliseconds */

static int step_clock(clockid_t id, struct timespec *now) {
    (void)id;
    now->tv_sec = (time_t)(step_now / 1000);
    now->tv_nsec = (long)(step_now % 1000) * 1000000;
    return 0;
}

REPLACE(clock_gettime, step_clock)

#define STEP_UPGRADE "Host: localhost\r\n" SCRIPT_ASKS

/* Bytes the library holds. */
static size_t step_bytes;

/* Allocations still to be granted before one fails, and whether all fail from then on; 0: none fails. */
static long step_fail_in;
static int step_fail_on;
static long step_failed;

static int step_refuse(void) {
    if (step_fail_in == 0 || --step_fail_in > 0) return 0;
    if (step_fail_on) step_fail_in = 1;
    step_failed++;
    return 1;
}

static inline void *step_allocator(void *context, void *pointer, size_t old_size, size_t new_size) {
    (void)context;
    if (new_size > old_size && step_refuse()) return NULL;
    void *moved = new_size ? realloc(pointer, new_size) : (free(pointer), (void *)NULL);
    if (moved || !new_size) step_bytes += new_size - (pointer ? old_size : 0);
    return moved;
}

static inline wss_server *step_server(wss_options *options) {
    wss_error why;
    if (!options->address) options->address = "127.0.0.1";
    options->allocator = step_allocator;
    wss_server *server = wss_create(options, &why);
    if (!server) {
        printf("%s\n", why.text);
        exit(1);
    }
    wss_poll(server, 0);
    return server;
}

/* A client: what it has received and not taken yet. */
typedef struct step_client {
    int fd;
    int ended; /* the server ended its stream, or reset */
    size_t size;
    char data[1 << 16];
} step_client;

static inline step_client *step_connect(wss_server *server) {
    wss_options options;
    struct sockaddr_in address;
    step_client *client = (step_client *)calloc(1, sizeof *client);
    memset(&options, 0, sizeof options);
    wss_get_options(server, &options);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)options.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!client) abort();
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0) abort();
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    wss__socket_set_flag(client->fd, IPPROTO_TCP, TCP_NODELAY, 1); /* what is written is there at the next turn */
    return client;
}

static inline void step_free(step_client *client) {
    if (client->fd >= 0) close(client->fd);
    free(client);
}

static inline int step_receive(step_client *client) {
    size_t room = sizeof client->data - client->size - 1;
    if (client->ended || room == 0) return 0;
    ssize_t got = recv(client->fd, client->data + client->size, room, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) client->ended = 1;
    if (got > 0) client->size += (size_t)got;
    client->data[client->size] = 0;
    return got > 0;
}

/* Turns the server until nothing moves any more. */
static inline void step(wss_server *server) {
    for (int quiet = 0; quiet < 3; quiet++) {
        uint64_t before = server->loops[0].shared.stats.bytes_in + server->loops[0].shared.stats.bytes_out +
                          server->loops[0].shared.stats.accepted;
        if (wss_poll(server, 0) != WSS_OK) return;
        uint64_t after = server->loops[0].shared.stats.bytes_in + server->loops[0].shared.stats.bytes_out +
                         server->loops[0].shared.stats.accepted;
        if (before != after || server->loops[0].first_ready != WSS__SLOT_NONE) quiet = -1;
    }
}

static inline void step_time(wss_server *server, long long milliseconds) {
    step_now += milliseconds;
    step(server);
}

static inline void step_write(wss_server *server, step_client *client, const void *data, size_t size) {
    const char *at = (const char *)data;
    while (size) {
        ssize_t sent = send(client->fd, at, size, MSG_NOSIGNAL);
        if (sent < 0) break;
        at += sent;
        size -= (size_t)sent;
    }
    step(server);
}

/* Sends text, turns the server, and returns all that has come back; it stays in the client until the next call. */
static inline const char *step_ask(wss_server *server, step_client *client, const char *text) {
    client->size = 0;
    step_write(server, client, text, strlen(text));
    while (step_receive(client)) step(server);
    return client->data;
}

/* Its mask is zero, so that the payload stands there as it is. */
static inline size_t step_make_frame(char *out, int first, const void *payload, size_t size) {
    size_t at = script_lengths((unsigned char *)out, first, SCRIPT_MORE, size, 1);
    memset(out + at, 0, 4);
    at += 4;
    if (size) memcpy(out + at, payload, size);
    return at + size;
}

/* Sends a masked frame; first is its first byte, such as 0x81. */
static inline void step_frame(wss_server *server, step_client *client, int first, const void *payload, size_t size) {
    char *frame = (char *)malloc(size + 14);
    if (!frame) abort();
    step_write(server, client, frame, step_make_frame(frame, first, payload, size));
    free(frame);
}

static inline step_client *step_open(wss_server *server) {
    step_client *client = step_connect(server);
    const char *answer = step_ask(server, client, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
    if (strncmp(answer, "HTTP/1.1 101 ", 13) != 0) printf("not opened: %s\n", answer);
    const char *end = strstr(client->data, "\r\n\r\n");
    size_t head = end ? (size_t)(end - client->data) + 4 : client->size;
    memmove(client->data, client->data + head, client->size - head);
    client->size -= head;
    return client;
}

/* Takes the next frame out of what has come: its first byte, or -1 if none is there. Payloads up to 65,535 bytes. */
static inline int step_take(wss_server *server, step_client *client, char *payload, size_t *size) {
    static char unused[1 << 16];
    size_t ignored;
    if (!payload) payload = unused;
    if (!size) size = &ignored;
    step(server);
    while (step_receive(client)) step(server);
    if (client->size < 2) return -1;
    size_t head = (client->data[1] & 0x7f) == 126 ? 4 : 2;
    *size = head == 4 ? (size_t)(unsigned char)client->data[2] << 8 | (unsigned char)client->data[3]
                      : (size_t)(client->data[1] & 0x7f);
    if (client->size < head + *size) return -1;
    int first = (unsigned char)client->data[0];
    memcpy(payload, client->data + head, *size);
    payload[*size] = 0;
    client->size -= head + *size;
    memmove(client->data, client->data + head + *size, client->size);
    return first;
}

/* Ends a server and says whether it gave all its memory back. */
static inline void step_end(wss_server *server) {
    int result = wss_destroy(server);
    CHECK_INT(result, WSS_OK);
    CHECK_INT(step_bytes, 0);
}

#endif
