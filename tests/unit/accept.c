/* Unit tests of [accept]: listeners that the kernel will not watch just now are tried again, and meanwhile the loop sleeps. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <sys/epoll.h>

static int adds;         /* listeners that were to be watched */
static unsigned refused; /* a bit for each of them that fails; the last bit stands for all that follow */

/* Connections are watched with more than EPOLLIN. */
static int fake_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event) {
    if (operation != EPOLL_CTL_ADD || event->events != EPOLLIN) return epoll_ctl(epoll, operation, fd, event);
    unsigned bit = adds < 31 ? (unsigned)adds : 31u;
    adds++;
    if (!(refused >> bit & 1u)) return epoll_ctl(epoll, operation, fd, event);
    errno = ENOMEM;
    return -1;
}

#include "../step.h"

REPLACE(epoll_ctl, fake_epoll_ctl)

static uint64_t accepted(wss_server *server) {
    wss_stats stats;
    wss_get_stats(server, &stats);
    return stats.accepted;
}

static int dial(wss_server *server, uint32_t host) {
    wss_options options = {0};
    struct sockaddr_in address;
    wss_get_options(server, &options);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)options.port);
    address.sin_addr.s_addr = htonl(host);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) abort();
    return fd;
}

/* Two listeners, each with a client that waits. failures: the tries in which one of them cannot be watched. */
static void try_listeners(unsigned pattern, int failures) {
    wss_options options;
    memset(&options, 0, sizeof options);
    options.address = "127.0.0.1,127.0.0.2";
    adds = 0;
    refused = pattern;
    wss_server *server = step_server(&options);
    int clients[2] = {dial(server, INADDR_LOOPBACK), dial(server, INADDR_LOOPBACK + 1)};
    for (int round = 0; round < failures; round++) {
        CHECK_INT(accepted(server), 0);
        CHECK_INT(adds, 2 * (round + 1));
        CHECK_INT(server->loops[0].accepting, 0);
        CHECK_INT(wss__loop_timeout(&server->loops[0], -1), WSS__CONN_RETRY); /* neither at once nor never */
        step_time(server, WSS__CONN_RETRY - 1);
        CHECK_INT(adds, 2 * (round + 1));
        step_time(server, 1);
    }
    step(server);
    CHECK_INT(accepted(server), 2);
    CHECK_INT(server->loops[0].accepting, 1);
    refused = 0;
    close(clients[0]);
    close(clients[1]);
    step(server);
    step_end(server);
}

static void listeners_are_tried_again(void) {
    try_listeners(0, 0);
    try_listeners(1, 1);
    try_listeners(2, 1);
    try_listeners(3, 1);
    try_listeners(2 | 4, 2);
    try_listeners(1 | 8 | 16, 3);
}

/* The same when all places were taken and one becomes free. */
static void after_a_pause(void) {
    wss_options options;
    memset(&options, 0, sizeof options);
    options.max_connections = 1;
    adds = 0;
    refused = 2;
    wss_server *server = step_server(&options);
    int first = dial(server, INADDR_LOOPBACK);
    step(server);
    int second = dial(server, INADDR_LOOPBACK);
    step(server);
    CHECK_INT(accepted(server), 1);
    close(first);
    step(server);
    CHECK_INT(accepted(server), 1);
    CHECK_INT(adds, 2);
    step_time(server, WSS__CONN_RETRY);
    CHECK_INT(accepted(server), 2);
    CHECK_INT(adds, 3);
    close(second);
    step(server);
    step_end(server);
}

/* A server that stops has no use for them. */
static void stopping_meanwhile(void) {
    wss_options options;
    memset(&options, 0, sizeof options);
    adds = 0;
    refused = ~0u;
    wss_server *server = step_server(&options);
    step_time(server, 10 * WSS__CONN_RETRY);
    int before = adds;
    wss_stop(server, 0);
    CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
    CHECK_INT(adds, before);
    refused = 0;
    step_end(server);
}

/* A crowd at the door: one turn lets in so many that those who are inside are not kept waiting. */
static void so_many_in_a_turn(void) {
    wss_options options;
    int clients[WSS__ACCEPT_TURN + 3];
    memset(&options, 0, sizeof options);
    wss_server *server = step_server(&options);
    for (int i = 0; i < WSS__ACCEPT_TURN + 3; i++) clients[i] = dial(server, INADDR_LOOPBACK);
    CHECK_INT(wss_poll(server, 0), WSS_OK);
    CHECK_INT(accepted(server), WSS__ACCEPT_TURN);
    CHECK_INT(wss_poll(server, 0), WSS_OK);
    CHECK_INT(accepted(server), WSS__ACCEPT_TURN + 3);
    for (int i = 0; i < WSS__ACCEPT_TURN + 3; i++) close(clients[i]);
    step(server);
    step_end(server);
}

int main(void) {
    alarm(60);
    RUN(listeners_are_tried_again);
    RUN(after_a_pause);
    RUN(stopping_meanwhile);
    RUN(so_many_in_a_turn);
    return test_end("accept");
}
