/* mkdir -p build && cc -O2 -I. examples/broadcast.c -o build/broadcast -pthread && build/broadcast 8080

   Sends every message it receives to every connection, the sender's included.
   build/broadcast PORT [ADDRESS]; port 0 lets the kernel choose. */
#define WSSERVER_IMPLEMENTATION
#include "wsserver.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static wss_server *server;

static void on_signal(int number) {
    signal(number, SIG_DFL); /* a second one ends the program at once */
    wss_stop(server, 2000);
}

static void on_data(const wss_event *e) {
    int result = wss_broadcast_data(e->server, e->opcode, e->data, e->size);
    if (result != WSS_OK) wss_close(e->server, e->conn, WSS_CLOSE_TRY_LATER, wss_strerror(result));
}

static void print_address(void) {
    wss_options in_force;
    wss_get_options(server, &in_force);
    fprintf(stderr, strchr(in_force.address, ':') ? "listening on ws://[%s]:%d/\n" : "listening on ws://%s:%d/\n",
            in_force.address, in_force.port);
}

int main(int argc, char **argv) {
    wss_error why;
    wss_options options = {0};
    char *end = NULL;
    long port = argc == 2 || argc == 3 ? strtol(argv[1], &end, 10) : -1;
    if (port < 0 || port > 65535 || end == argv[1] || *end) {
        fprintf(stderr, "usage: broadcast PORT [ADDRESS]\n");
        return 2;
    }
    options.port = (int)port;
    options.address = argc == 3 ? argv[2] : "localhost";
    options.max_queued = (size_t)16 << 20;
    options.send_policy = WSS_POLICY_CLOSE; /* of those who fall that far behind: none misses a message unawares */
    server = wss_create(&options, &why);
    if (!server) {
        fprintf(stderr, "%s\n", why.text);
        return 1;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    wss_on_data(server, on_data, NULL);
    print_address();
    int result = wss_run(server);
    signal(SIGINT, SIG_DFL); /* no signal meets a server that is gone */
    signal(SIGTERM, SIG_DFL);
    wss_destroy(server);
    return result != WSS_OK;
}
