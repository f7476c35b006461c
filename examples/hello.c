/* mkdir -p build && cc -O2 -I. examples/hello.c -o build/hello -pthread && build/hello */
#define WSSERVER_IMPLEMENTATION
#include "wsserver.h"
#include <signal.h>
#include <stdio.h>

static wss_server *server;
static void on_signal(int s) { signal(s, SIG_DFL); wss_stop(server, 2000); }
static void on_chat(const wss_event *e) { wss_broadcast(e->server, "chat", e->args); }

int main(void) {
    wss_error why;
    wss_options options = {0};
    options.port = 8080;
    server = wss_create(&options, &why);
    if (!server) { fprintf(stderr, "%s\n", why.text); return 1; }
    signal(SIGINT, on_signal);
    wss_on_message(server, "chat", on_chat, NULL);
    int result = wss_run(server);
    signal(SIGINT, SIG_DFL);
    wss_destroy(server);
    return result != WSS_OK;
}
