/* A server for the checks: echoes every message, and says on stdout how each connection ended. Options are given as
   name=value. Ends on SIGTERM; "stats" on stdin prints the statistics, any other line is broadcast.
   cc -O2 -I. tests/checks/echo_server.c -o build/echo_server -pthread */
#define WSSERVER_IMPLEMENTATION
#include "wsserver.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static wss_server *server;
static int stop_ms = 2000;

static void on_signal(int number) {
    (void)number;
    wss_stop(server, stop_ms);
}

static void on_data(const wss_event *e) {
    wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

static void on_disconnect(const wss_event *e) {
    printf("end %d %s\n", e->code, wss_cause_text(e->cause));
    fflush(stdout);
}

static void print_stats(void) {
    wss_stats stats;
    wss_get_stats(server, &stats);
    printf("stats connections %llu memory %llu peak %llu refused %llu dropped %llu full %llu failures %llu\n",
           (unsigned long long)stats.connections, (unsigned long long)stats.memory,
           (unsigned long long)stats.memory_peak, (unsigned long long)stats.refused,
           (unsigned long long)stats.dropped_policy, (unsigned long long)stats.refused_full,
           (unsigned long long)stats.accept_failures);
    fflush(stdout);
}

static void set(wss_options *options, const char *name, long long value) {
    if (!strcmp(name, "port")) options->port = (int)value;
    else if (!strcmp(name, "threads")) options->threads = (int)value;
    else if (!strcmp(name, "budget")) options->memory_budget = (size_t)value;
    else if (!strcmp(name, "connections")) options->max_connections = (int)value;
    else if (!strcmp(name, "queued")) options->max_queued = (size_t)value;
    else if (!strcmp(name, "policy")) options->send_policy = (int)value;
    else if (!strcmp(name, "handshake")) options->handshake_ms = (int)value;
    else if (!strcmp(name, "message")) options->message_ms = (int)value;
    else if (!strcmp(name, "stall")) options->stall_ms = (int)value;
    else if (!strcmp(name, "ping")) options->ping_ms = (int)value;
    else if (!strcmp(name, "pong")) options->pong_ms = (int)value;
    else if (!strcmp(name, "stop")) stop_ms = (int)value;
    else exit(2);
}

int main(int argc, char **argv) {
    wss_error why;
    wss_options options;
    static char line[1 << 16];
    memset(&options, 0, sizeof options);
    options.address = "127.0.0.1";
    for (int i = 1; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (!equals) return 2;
        *equals = 0;
        set(&options, argv[i], atoll(equals + 1));
    }
    server = wss_create(&options, &why);
    if (!server) {
        fprintf(stderr, "%s\n", why.text);
        return 1;
    }
    signal(SIGTERM, on_signal);
    wss_on_data(server, on_data, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    wss_get_options(server, &options);
    printf("port %d\n", options.port);
    fflush(stdout);
    if (wss_start(server) != WSS_OK) return 1;
    while (fgets(line, sizeof line, stdin)) {
        if (strcmp(line, "stats\n") == 0) print_stats();
        else wss_broadcast_data(server, WSS_BINARY, line, strlen(line));
    }
    wss_destroy(server);
    printf("destroyed\n");
    return 0;
}
