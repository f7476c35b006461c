/* A server to stand behind proxies: tells who asks, and sends messages back. Usage: door PORT [NAME=VALUE...]
   NAME: address (127.0.0.1 where it is not given), origins, hosts, proxies, proxy_header, proxy_protocol, max_per_address.
   Plain HTTP gets "METHOD TARGET from ADDRESS", the message "who" the address of wss_get_info, all others their echo.
   What the server logs goes to stderr. */
#define WSSERVER_IMPLEMENTATION
#include "wsserver.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static wss_server *server;

static void on_signal(int number) {
    signal(number, SIG_DFL);
    wss_stop(server, 2000);
}

static void on_log(void *context, int level, const char *text) {
    (void)context;
    fprintf(stderr, "log %d: %s\n", level, text);
}

static void on_data(const wss_event *e) {
    wss_info info;
    int who = e->size == 3 && memcmp(e->data, "who", 3) == 0 && wss_get_info(e->server, e->conn, &info) == WSS_OK;
    if (who) wss_send_data(e->server, e->conn, WSS_TEXT, info.address, strlen(info.address));
    else wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

static void on_http(const wss_event *e) {
    char line[512];
    wss_answer answer = {0};
    snprintf(line, sizeof line, "%s %.300s from %s\n", wss_request_method(e->request), wss_request_target(e->request),
             wss_request_peer(e->request, NULL));
    answer.body = line;
    answer.size = strlen(line);
    wss_reply(e->server, e->conn, &answer);
}

static int set_option(wss_options *options, const char *argument) {
    const struct { const char *name; const char **text; int *number; } known[] = {
        {"address=", &options->address, NULL}, {"origins=", &options->origins, NULL}, {"hosts=", &options->hosts, NULL},
        {"proxies=", &options->proxies, NULL}, {"proxy_header=", &options->proxy_header, NULL},
        {"proxy_protocol=", NULL, &options->proxy_protocol}, {"max_per_address=", NULL, &options->max_per_address}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        size_t size = strlen(known[i].name);
        if (strncmp(argument, known[i].name, size) != 0) continue;
        if (known[i].text) *known[i].text = argument + size;
        else *known[i].number = atoi(argument + size);
        return 1;
    }
    fprintf(stderr, "door: there is no option %s\n", argument);
    return 0;
}

int main(int argc, char **argv) {
    wss_error why;
    wss_options options = {0};
    if (argc < 2) return 2;
    options.port = atoi(argv[1]);
    options.address = "127.0.0.1";
    options.log = on_log;
    for (int i = 2; i < argc; i++)
        if (!set_option(&options, argv[i])) return 2;
    server = wss_create(&options, &why);
    if (!server) {
        fprintf(stderr, "%s\n", why.text);
        return 1;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    wss_on_data(server, on_data, NULL);
    wss_on_http(server, on_http, NULL);
    wss_get_options(server, &options);
    fprintf(stderr, "listening on ws://127.0.0.1:%d/\n", options.port);
    int result = wss_run(server);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    wss_destroy(server);
    return result != WSS_OK;
}
