/* mkdir -p build && cc -O2 -I. examples/echo.c -o build/echo -pthread && build/echo 8080

   Sends every message back to its sender, text as text and binary as binary, up to 64 MiB.
   build/echo PORT [ADDRESS]; port 0 lets the kernel choose. */
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

/* A client whose echo cannot be queued must not wait for it: it is told to come back later. */
static void on_data(const wss_event *e) {
    int result = wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
    int later = result == WSS_ERR_FULL || result == WSS_ERR_BUDGET || result == WSS_ERR_MEMORY;
    if (result != WSS_OK && result != WSS_ERR_GONE)
        wss_close(e->server, e->conn, later ? WSS_CLOSE_TRY_LATER : WSS_CLOSE_INTERNAL, wss_strerror(result));
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
        fprintf(stderr, "usage: echo PORT [ADDRESS]\n");
        return 2;
    }
    options.port = (int)port;
    options.address = argc == 3 ? argv[2] : "localhost";
    options.max_message = (size_t)64 << 20;
    options.message_ms = 300000;
    options.memory_budget = (size_t)1 << 30;  /* a large message is held twice: coming in and going out */
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
