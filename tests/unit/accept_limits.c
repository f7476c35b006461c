/* Unit tests of [accept]: bursts, the limits of handshakes and addresses, listeners that fail, sockets that cannot be taken. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <sys/socket.h>

static int accept_fails; /* what accept4 says; 0: it works */
static int accept_calls;
static int accept_makes; /* as many are given sockets of their own before any that wait */

static int fake_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    accept_calls++;
    if (accept_makes > 0 && accept_makes--) return socket(AF_INET, SOCK_STREAM | flags, 0);
    if (accept_fails) errno = accept_fails;
    return accept_fails ? -1 : accept4(fd, address, size, flags);
}

#include "../step.h"

REPLACE(accept4, fake_accept4)

static char logged[16384];

static void keep_log(void *context, int level, const char *text) {
    size_t used = strlen(logged);
    (void)context;
    snprintf(logged + used, sizeof logged - used, "%d %s\n", level, text);
}

static wss_server *serve(wss_options *options) {
    logged[0] = 0;
    options->log = keep_log;
    accept_calls = 0;
    return step_server(options);
}

/* A client with an address of its own, 127.0.0.HOST. */
static int dial_from(wss_server *server, int host) {
    struct sockaddr_in from;
    struct sockaddr_in to;
    wss_options options;
    wss_get_options(server, &options);
    memset(&from, 0, sizeof from);
    from.sin_family = AF_INET;
    from.sin_addr.s_addr = htonl(0x7f000000u + (uint32_t)host);
    to = from;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)options.port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(fd, (struct sockaddr *)(void *)&from, sizeof from), 0);
    CHECK_INT(connect(fd, (struct sockaddr *)(void *)&to, sizeof to), 0);
    return fd;
}

/* 1 if the server still holds this connection, 0 if it ended or reset it. */
static int is_held(int fd) {
    char byte;
    ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);
    return got < 0 && errno == EAGAIN;
}

/* A turn takes a bounded number of new connections, so that those who are here get their turn too; the rest follows. */
static void a_burst(void) {
    enum { BURST = WSS__ACCEPT_TURN + 10 };
    int fds[BURST];
    wss_options options = {0};
    wss_server *server = serve(&options);
    for (int i = 0; i < BURST; i++) fds[i] = dial_from(server, 1);
    wss_poll(server, 0);
    CHECK_INT(server->loops[0].shared.stats.accepted, WSS__ACCEPT_TURN);
    wss_poll(server, 0);
    CHECK_INT(server->loops[0].shared.stats.accepted, BURST);
    for (int i = 0; i < BURST; i++) close(fds[i]);
    step(server);
    step_end(server);
}

/* In the middle of a burst the limit is reached: accepting stops there, and goes on when there is room. */
static void a_burst_over_the_limit(void) {
    int fds[12];
    wss_options options = {0};
    options.max_connections = 5;
    wss_server *server = serve(&options);
    for (int i = 0; i < 12; i++) fds[i] = dial_from(server, 1);
    step(server);
    CHECK_INT(server->loops[0].connections, 5);
    CHECK_INT(server->loops[0].accepting, 0);
    for (int i = 0; i < 5; i++) close(fds[i]);
    step(server);
    CHECK_INT(server->loops[0].connections, 5);
    for (int i = 5; i < 12; i++) close(fds[i]);
    step(server);
    CHECK_INT(server->loops[0].connections, 0);
    CHECK_INT(server->loops[0].shared.stats.accepted, 12);
    step_end(server);
}

/* An eighth of the connections, but 64 at least. */
static void unfinished_handshakes(void) {
    static const int connections[] = {10, 64, 70, 512, 519, 520, 640};
    static const size_t most[] = {10, 64, 64, 64, 64, 65, 80};
    int fds[90];
    for (int c = 0; c < 7; c++) {
        wss_options options = {0};
        options.max_connections = connections[c];
        wss_server *server = serve(&options);
        for (int i = 0; i < 90; i++) fds[i] = dial_from(server, 1);
        step(server);
        CHECK_INT(wss__conn_handshakes(server), most[c]);
        for (int i = 0; i < 90; i++) close(fds[i]);
        step(server);
        CHECK_INT(wss__conn_handshakes(server), 0);
        step_end(server);
    }
}

/* Addresses are counted apart. */
static void limit_of_an_address(void) {
    int fds[3][4];
    wss_options options = {0};
    options.max_per_address = 2;
    wss_server *server = serve(&options);
    for (int i = 0; i < 4; i++)
        for (int host = 0; host < 3; host++) fds[host][i] = dial_from(server, host + 1);
    step(server);
    CHECK_INT(server->loops[0].connections, 6);
    for (int host = 0; host < 3; host++)
        for (int i = 0; i < 4; i++) CHECK_INT(is_held(fds[host][i]), i < 2);
    close(fds[1][0]);
    step(server);
    int again = dial_from(server, 2);
    int other = dial_from(server, 3);
    step(server);
    CHECK_INT(is_held(again), 1);
    CHECK_INT(is_held(other), 0);
    close(again);
    close(other);
    for (int host = 0; host < 3; host++)
        for (int i = 0; i < 4; i++)
            if (host != 1 || i != 0) close(fds[host][i]);
    step(server);
    CHECK_INT(server->loops[0].connections, 0);
    step_end(server);
}

/* Unix sockets have no address that could be counted. */
static void limit_of_an_address_without_one(void) {
    char address[64];
    struct sockaddr_un to;
    int fds[4];
    wss_options options = {0};
    snprintf(address, sizeof address, "unix:/tmp/wsserver-test-%d", (int)getpid());
    options.address = address;
    options.max_per_address = 1;
    wss_server *server = serve(&options);
    memset(&to, 0, sizeof to);
    to.sun_family = AF_UNIX;
    snprintf(to.sun_path, sizeof to.sun_path, "%s", address + 5);
    for (int i = 0; i < 4; i++) {
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK_INT(connect(fds[i], (struct sockaddr *)(void *)&to, sizeof to), 0);
    }
    step(server);
    CHECK_INT(server->loops[0].connections, 4);
    for (int i = 0; i < 4; i++) CHECK_INT(is_held(fds[i]), 1);
    for (int i = 0; i < 4; i++) close(fds[i]);
    step(server);
    step_end(server);
}

/* With a queue a connection's place outlives its socket until its end was told. Such a place counts for no address. */
static void ended_places_count_for_nobody(void) {
    wss_options options = {0};
    wss_options own = {0};
    wss_error why;
    own.allocator = step_allocator;
    wss_queue *queue = wss_queue_create(&own, &why);
    options.queue = queue;
    options.max_per_address = 1;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    step_free(client);
    step(server);
    CHECK(queue->inbox.waiting.first != NULL); /* connect and disconnect wait there */
    CHECK_INT(server->conns.made > 0, 1);
    int fd = dial_from(server, 1);
    step(server);
    CHECK_INT(is_held(fd), 1);
    int more = dial_from(server, 1);
    step(server);
    CHECK_INT(is_held(more), 0);
    close(more);
    close(fd);
    step(server);
    wss_queue_poll(queue, 0);
    CHECK_INT(wss_destroy(server), WSS_OK);
    CHECK_INT(wss_queue_destroy(queue), WSS_OK);
    CHECK_INT(step_bytes, 0);
}

/* A stop takes as many as can have waited, and no more: whoever goes on connecting cannot hold it. */
static void a_stop_takes_the_backlog(void) {
    wss_options options = {0};
    wss_stats stats;
    options.max_connections = 10000;
    wss_server *server = serve(&options);
    accept_makes = WSS__SOCKET_BACKLOG + 100;
    wss_stop(server, 0);
    step(server);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.accepted, WSS__SOCKET_BACKLOG + 1);
    CHECK_INT(accept_makes, 99);
    accept_makes = 0;
    step_end(server);
}

/* ---- failures ---- */

/* The peer's doing: the next one is taken. */
static void errors_of_one_connection(void) {
    static const int errors[] = {EINTR, ECONNABORTED, EPROTO, EPERM, ENETDOWN, ENETUNREACH, EHOSTDOWN, EHOSTUNREACH,
                                 ENOPROTOOPT, ENONET, ETIMEDOUT};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        wss_options options = {0};
        wss_server *server = serve(&options);
        int fd = dial_from(server, 1);
        accept_fails = errors[i];
        wss_poll(server, 0);
        accept_fails = 0;
        CHECK_INT(accept_calls, WSS__ACCEPT_TURN); /* bounded even if it never ends */
        CHECK_INT(server->loops[0].accepting, 1);
        CHECK_TEXT(logged, "");
        step(server);
        CHECK_INT(server->loops[0].connections, 1);
        close(fd);
        step(server);
        step_end(server);
    }
}

/* The kernel has no more: accepting rests, longer each time, at most a second, and connections that are here go on. */
static void errors_of_the_machine(void) {
    static const int errors[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
    static const int rests[] = {100, 200, 400, 800, 1000, 1000};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        wss_options options = {0};
        wss_server *server = serve(&options);
        step_client *client = step_open(server);
        int fd = dial_from(server, 1);
        accept_fails = errors[i];
        accept_calls = 0;
        step(server);
        for (size_t rest = 0; rest < sizeof rests / sizeof rests[0]; rest++) {
            CHECK_INT(accept_calls, rest + 1);
            CHECK_INT(server->loops[0].accepting, 0);
            CHECK_INT(server->loops[0].accept_backoff, rests[rest]);
            step_time(server, rests[rest] - 1);
            CHECK_INT(accept_calls, rest + 1);
            step_frame(server, client, 0x89, "p", 1);
            CHECK_INT(step_take(server, client, NULL, NULL), 0x8a);
            step_time(server, 1);
        }
        CHECK_INT(server->loops[0].shared.stats.accept_failures, sizeof rests / sizeof rests[0] + 1);
        CHECK(strstr(logged, "2 cannot accept: error ") != NULL);
        accept_fails = 0;
        step_time(server, 1000);
        CHECK_INT(server->loops[0].connections, 2);
        CHECK_INT(server->loops[0].accept_backoff, 0);
        close(fd);
        step_free(client);
        step(server);
        step_end(server);
    }
}

/* The listener itself is broken: it is given up, said once, and the other one serves on. */
static void errors_of_a_listener(void) {
    static const int errors[] = {EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        wss_options options = {0};
        options.address = "127.0.0.1,127.0.0.1:0";
        options.max_connections = 2;
        wss_server *server = serve(&options);
        CHECK_INT(server->listeners.count, 2);
        int lost = server->listeners.list[0].fd;
        int fd = dial_from(server, 1);
        accept_fails = errors[i];
        wss_poll(server, 0);
        accept_fails = 0;
        CHECK_INT(server->listeners.list[0].fd, -1);
        CHECK(fcntl(lost, F_GETFD) < 0 && errno == EBADF);
        CHECK(strncmp(logged, "1 a listener failed for good: error ", 36) == 0);
        for (int turn = 0; turn < 5; turn++) step(server);
        CHECK(strchr(logged, '\n') == strrchr(logged, '\n'));
        close(fd);
        struct sockaddr_in to;
        socklen_t size = sizeof to;
        int fds[3];
        CHECK_INT(getsockname(server->listeners.list[1].fd, (struct sockaddr *)(void *)&to, &size), 0);
        for (int c = 0; c < 3; c++) { /* to the limit and back, so that the listeners are watched anew */
            fds[c] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            CHECK_INT(connect(fds[c], (struct sockaddr *)(void *)&to, sizeof to), 0);
        }
        step(server);
        CHECK_INT(server->loops[0].connections, 2);
        close(fds[0]);
        step(server);
        CHECK_INT(server->loops[0].connections, 2);
        CHECK_INT(is_held(fds[2]), 1);
        close(fds[1]);
        close(fds[2]);
        step(server);
        step_end(server);
    }
}

/* Two listeners in one batch: the first finds no descriptor, the second is not even tried. */
static void listeners_rest_together(void) {
    struct sockaddr_in to;
    socklen_t size = sizeof to;
    wss_options options = {0};
    options.address = "127.0.0.1,127.0.0.1:0";
    wss_server *server = serve(&options);
    int first = dial_from(server, 1);
    CHECK_INT(getsockname(server->listeners.list[1].fd, (struct sockaddr *)(void *)&to, &size), 0);
    int second = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(connect(second, (struct sockaddr *)(void *)&to, sizeof to), 0);
    accept_fails = EMFILE;
    accept_calls = 0;
    wss_poll(server, 0);
    accept_fails = 0;
    CHECK_INT(accept_calls, 1);
    step_time(server, WSS__CONN_RETRY);
    CHECK_INT(server->loops[0].connections, 2);
    close(first);
    close(second);
    step(server);
    step_end(server);
}

int main(void) {
    alarm(100);
    RUN(a_burst);
    RUN(a_burst_over_the_limit);
    RUN(unfinished_handshakes);
    RUN(limit_of_an_address);
    RUN(limit_of_an_address_without_one);
    RUN(ended_places_count_for_nobody);
    RUN(a_stop_takes_the_backlog);
    RUN(errors_of_one_connection);
    RUN(errors_of_the_machine);
    RUN(errors_of_a_listener);
    RUN(listeners_rest_together);
    return test_end("accept_limits");
}
