/* Requests: who is let in, what plain HTTP is answered, and what becomes of requests that are answered late. */
#include "../step.h"

#define UPGRADE "GET /room%20one?name=J%C3%BCrgen+X&empty HTTP/1.1\r\n" STEP_UPGRADE

static wss_conn asked;
static int opened;
static int ended;
static int freed;
static void *user_seen;

static void on_open(const wss_event *e) {
    opened++;
    user_seen = e->user;
    wss_send_data(e->server, e->conn, WSS_TEXT, "first", 5);
}

static void on_end(const wss_event *e) {
    (void)e;
    ended++;
}

static void free_user(void *user) {
    freed++;
    free(user);
}

static wss_server *serve(wss_options *options) {
    options->user_free = free_user;
    wss_server *server = step_server(options);
    opened = 0;
    ended = 0;
    freed = 0;
    asked.id = 0;
    wss_on_connect(server, on_open, NULL);
    wss_on_disconnect(server, on_end, NULL);
    return server;
}

static int begins(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

static void on_upgrade(const wss_event *e) {
    char text[64];
    size_t length;
    const wss_request *request = e->request;
    const wss_header header = {"X-Room", "one"};
    const wss_header bad = {"X-Room", "one\r\nSet-Cookie: a=b"};
    const wss_header reserved = {"Connection", "close"};
    CHECK_INT(e->kind, WSS_EVENT_UPGRADE);
    CHECK_TEXT(wss_request_method(request), "GET");
    CHECK_TEXT(wss_request_header(request, "hOsT"), "localhost");
    CHECK(wss_request_header(request, "X-None") == NULL);
    CHECK_INT(wss_request_path(request, text, sizeof text, &length), WSS_OK);
    CHECK_TEXT(text, "/room one");
    CHECK_INT(wss_request_query(request, "name", text, sizeof text, NULL), WSS_OK);
    CHECK_TEXT(text, "J\xc3\xbcrgen X");
    CHECK_INT(wss_request_query(request, "other", text, sizeof text, NULL), WSS_ERR_MISSING);
    CHECK_INT(wss_request_cookie(request, "id", text, sizeof text, NULL), WSS_OK);
    CHECK_TEXT(text, "42");
    CHECK_INT(wss_request_protocol(request, 1, text, sizeof text, NULL), WSS_OK);
    CHECK_TEXT(text, "chat.v2");
    int port = 0;
    CHECK_TEXT(wss_request_peer(request, &port), "127.0.0.1");
    CHECK(port > 0);
    CHECK_INT(wss_accept(e->server, e->conn, "other", NULL, 0, NULL), WSS_ERR_PROTOCOL);
    CHECK_INT(wss_accept(e->server, e->conn, NULL, &bad, 1, NULL), WSS_ERR_HEADER);
    CHECK_INT(wss_accept(e->server, e->conn, NULL, &reserved, 1, NULL), WSS_ERR_HEADER);
    CHECK_INT(wss_reply(e->server, e->conn, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_accept(e->server, e->conn, "chat.v2", &header, 1, malloc(8)), WSS_OK);
    CHECK_INT(opened, 0); /* no handler runs inside the call */
    CHECK_INT(wss_accept(e->server, e->conn, NULL, NULL, 0, NULL), WSS_ERR_ANSWERED);
    CHECK_INT(wss_refuse(e->server, e->conn, NULL), WSS_ERR_ANSWERED);
}

static void accepts(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss_on_upgrade(server, on_upgrade, NULL);
    step_client *client = step_connect(server);
    const char *answer = step_ask(server, client, UPGRADE "Cookie: a=1; id=42\r\nSec-WebSocket-Protocol: chat.v1, chat.v2\r\n\r\n");
    CHECK(begins(answer, "HTTP/1.1 101 "));
    CHECK(strstr(answer, "\r\nX-Room: one\r\n") != NULL);
    CHECK(strstr(answer, "\r\nSec-WebSocket-Protocol: chat.v2\r\n") != NULL);
    CHECK(strstr(answer, "\r\n\r\n\x81\x05" "first") != NULL);
    CHECK(user_seen != NULL);
    CHECK_INT(opened, 1);
    CHECK(wss__conn_cold_of(wss__conn_at(server, 0))->request == NULL); /* an answered request is not kept */
    wss_info info;
    wss_conn none = {0};
    CHECK_INT(wss_get_info(server, wss_next(server, none), &info), WSS_OK);
    CHECK_TEXT(info.path, "/room%20one");
    CHECK_TEXT(info.protocol, "chat.v2");
    CHECK_TEXT(info.address, "127.0.0.1");
    CHECK_INT(freed, 0);
    step_free(client);
    step(server);
    CHECK_INT(ended, 1);
    CHECK_INT(freed, 1);
    step_end(server);
}

static void on_upgrade_refuse(const wss_event *e) {
    const wss_header header = {"X-Why", "full"};
    wss_answer answer;
    memset(&answer, 0, sizeof answer);
    answer.status = 503;
    answer.headers = &header;
    answer.header_count = 1;
    answer.body = "come later";
    answer.size = 10;
    answer.status = 200;
    CHECK_INT(wss_refuse(e->server, e->conn, &answer), WSS_ERR_ARGUMENT);
    answer.status = 503;
    CHECK_INT(wss_refuse(e->server, e->conn, &answer), WSS_OK);
}

static void refuses(void) {
    wss_options options = {0};
    char text[2048];
    wss_server *server = serve(&options);
    wss_on_upgrade(server, on_upgrade_refuse, NULL);
    step_client *client = step_connect(server);
    /* A frame in the same segment is dropped, a second request never looked at. */
    size_t size = (size_t)snprintf(text, sizeof text, "%s\r\n", UPGRADE);
    size += step_make_frame(text + size, 0x81, "hello", 5);
    size += (size_t)snprintf(text + size, sizeof text - size, "%s\r\n", UPGRADE);
    step_write(server, client, text, size);
    const char *answer = step_ask(server, client, "");
    CHECK(begins(answer, "HTTP/1.1 503 "));
    CHECK(strstr(answer, "\r\nConnection: close\r\n") != NULL);
    CHECK(strstr(answer, "\r\nX-Why: full\r\n") != NULL);
    CHECK(strstr(answer, "\r\n\r\ncome later") == client->data + client->size - 14);
    CHECK(client->ended);
    CHECK_INT(opened + ended, 0);
    wss_stats stats;
    wss_get_stats(server, &stats);
    CHECK_INT(stats.refused, 1);
    CHECK_INT(stats.refused_cause[WSS_REFUSED_APPLICATION], 1);
    step_free(client);
    step_end(server);
}

static void on_upgrade_later(const wss_event *e) {
    asked = e->conn;
}

static void *accept_elsewhere(void *server) {
    return (void *)(intptr_t)wss_accept((wss_server *)server, asked, NULL, NULL, 0, malloc(8));
}

static void answered_later(void) {
    wss_options options = {0};
    char text[2048];
    pthread_t thread;
    void *result;
    wss_server *server = serve(&options);
    wss_on_upgrade(server, on_upgrade_later, NULL);
    step_client *client = step_connect(server);
    size_t size = (size_t)snprintf(text, sizeof text, "%s\r\n", UPGRADE);
    size += step_make_frame(text + size, 0x89, "held", 4);
    step_write(server, client, text, size);
    CHECK_TEXT(step_ask(server, client, ""), "");
    CHECK(asked.id != 0);
    CHECK_INT(wss_send_data(server, asked, WSS_TEXT, "x", 1), WSS_ERR_GONE);
    pthread_create(&thread, NULL, accept_elsewhere, server);
    pthread_join(thread, &result);
    CHECK_INT((intptr_t)result, WSS_OK);
    const char *answer = step_ask(server, client, "");
    CHECK(begins(answer, "HTTP/1.1 101 "));
    CHECK(strstr(answer, "\r\n\r\n\x81\x05" "first\x8a\x04held") != NULL);
    CHECK_INT(opened, 1);
    step_free(client);
    step(server);
    CHECK_INT(freed, 1);
    /* The peer leaves before the answer: the handle is dead, and the caller keeps its pointer. */
    client = step_connect(server);
    step_ask(server, client, UPGRADE "\r\n");
    struct linger linger = {1, 0};
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    step_free(client);
    step(server);
    CHECK_INT(wss_accept(server, asked, NULL, NULL, 0, NULL), WSS_ERR_GONE);
    /* Accepted, and gone before the word arrives: the library frees what it was given. */
    client = step_connect(server);
    step_ask(server, client, UPGRADE "\r\n");
    pthread_create(&thread, NULL, accept_elsewhere, server);
    pthread_join(thread, &result);
    CHECK_INT((intptr_t)result, WSS_OK);
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    step_free(client);
    step(server);
    CHECK_INT(freed, 2);
    CHECK_INT(opened, ended);
    step_end(server);
}

static void on_http(const wss_event *e) {
    char path[32];
    wss_answer answer;
    memset(&answer, 0, sizeof answer);
    CHECK_INT(e->kind, WSS_EVENT_HTTP);
    wss_request_path(e->request, path, sizeof path, NULL);
    if (strcmp(path, "/") != 0) {
        answer.status = 404;
    } else {
        answer.content_type = "text/html";
        answer.body = "<p>hello";
        answer.size = 8;
    }
    CHECK_INT(wss_accept(e->server, e->conn, NULL, NULL, 0, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_reply(e->server, e->conn, &answer), WSS_OK);
    CHECK_INT(wss_reply(e->server, e->conn, &answer), WSS_ERR_ANSWERED);
}

static const char *request_once(wss_server *server, const char *text) {
    static char answer[1 << 16];
    step_client *client = step_connect(server);
    strcpy(answer, step_ask(server, client, text));
    CHECK(client->ended);
    step_free(client);
    step(server);
    return answer;
}

static void plain_http(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    const char *answer = request_once(server, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(begins(answer, "HTTP/1.1 426 "));
    CHECK(strstr(answer, "\r\nSec-WebSocket-Version: 13\r\n") != NULL);
    CHECK(strstr(answer, "nginx") == NULL);
    wss_on_http(server, on_http, NULL);
    answer = request_once(server, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(begins(answer, "HTTP/1.1 200 OK\r\n"));
    CHECK(strstr(answer, "\r\nContent-Type: text/html\r\n") != NULL);
    CHECK(strstr(answer, "\r\nContent-Length: 8\r\n") != NULL);
    CHECK(strstr(answer, "\r\n\r\n<p>hello") != NULL);
    answer = request_once(server, "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(strstr(answer, "\r\nContent-Length: 8\r\n") != NULL);
    CHECK(strstr(answer, "<p>") == NULL);
    CHECK(begins(request_once(server, "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"), "HTTP/1.1 404 "));
    CHECK(begins(request_once(server, "POST / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "HTTP/1.1 405 "));
    CHECK(begins(request_once(server, "GET / HTTP/2.0\r\nHost: localhost\r\n\r\n"), "HTTP/1.1 505 "));
    CHECK(begins(request_once(server, "GET / HTTP/1.1\n\n"), "HTTP/1.1 400 "));
    CHECK(begins(request_once(server, "\x16\x03\x01"), "HTTP/1.1 400 "));
    wss_stats stats;
    wss_get_stats(server, &stats);
    CHECK_INT(stats.refused_status[4], 4);
    CHECK_INT(stats.refused_status[5], 1);
    CHECK_INT(stats.http_answers, 3);
    CHECK_INT(stats.refused_cause[WSS_REFUSED_MALFORMED], 2);
    CHECK_INT(stats.refused_cause[WSS_REFUSED_METHOD], 1);
    CHECK_INT(stats.refused_cause[WSS_REFUSED_NO_UPGRADE], 1);
    CHECK_INT(stats.refused_cause[WSS_REFUSED_HTTP], 1);
    step_end(server);
}

/* HTTP/1.0 is answered like 1.1, but no WebSocket comes of it: what a proxy must do about that is said. */
static void old_http(void) {
    static const char advice[] = "proxy_http_version 1.1";
    static const char plain[] = "GET / HTTP/1.0\r\n\r\n";
    static const char upgrade[] = "GET / HTTP/1.0\r\n" STEP_UPGRADE "\r\n";
    wss_options options = {0};
    wss_server *server = serve(&options);
    for (int handled = 0; handled < 2; handled++) {
        const char *answer = request_once(server, upgrade);
        CHECK(begins(answer, "HTTP/1.1 426 ") && strstr(answer, advice));
        answer = request_once(server, plain);
        CHECK(begins(answer, handled ? "HTTP/1.1 200 OK\r\n" : "HTTP/1.1 426 "));
        CHECK(strstr(answer, handled ? "\r\n\r\n<p>hello" : advice) != NULL);
        answer = request_once(server, "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n");
        CHECK(begins(answer, handled ? "HTTP/1.1 200 OK\r\n" : "HTTP/1.1 426 "));
        answer = request_once(server, "HEAD / HTTP/1.0\r\n\r\n");
        CHECK(begins(answer, handled ? "HTTP/1.1 200 OK\r\n" : "HTTP/1.1 426 "));
        CHECK(strcmp(strstr(answer, "\r\n\r\n"), "\r\n\r\n") == 0);
        wss_on_http(server, on_http, NULL);
    }
    step_end(server);
}

static char method_seen[16], target_seen[64];

static void on_http_seen(const wss_event *e) {
    static const wss_header allow = {"Allow", "GET"};
    wss_answer answer;
    memset(&answer, 0, sizeof answer);
    snprintf(method_seen, sizeof method_seen, "%s", wss_request_method(e->request));
    snprintf(target_seen, sizeof target_seen, "%s", wss_request_target(e->request));
    answer.body = "body";
    answer.size = 4;
    answer.headers = &allow;
    answer.header_count = 1;
    CHECK_INT(wss_reply(e->server, e->conn, &answer), WSS_OK);
}

/* What plain requests there are for the application: OPTIONS too, and of targets what stands behind their host. */
static void methods_and_targets(void) {
    static const char *const requests[][3] = {
        {"GET /a?b", "GET", "/a?b"},       {"HEAD /a?b", "HEAD", "/a?b"},           {"OPTIONS /a", "OPTIONS", "/a"},
        {"OPTIONS *", "OPTIONS", "*"},     {"GET http://h/a?b", "GET", "/a?b"},     {"HEAD https://h", "HEAD", "/"},
        {"GET ws://h:80?b", "GET", "/?b"}, {"OPTIONS wss://h/a", "OPTIONS", "/a"}, {"\r\nGET /a", "GET", "/a"},
        {"\r\nOPTIONS *", "OPTIONS", "*"},
    };
    wss_options options = {0};
    options.hosts = "localhost, h";
    wss_server *server = serve(&options);
    wss_on_http(server, on_http_seen, NULL);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0] * 2; i++) {
        const char *const *r = requests[i / 2];
        char text[200];
        method_seen[0] = target_seen[0] = 0;
        snprintf(text, sizeof text, "%s HTTP/1.%zu\r\nHost: localhost\r\n\r\n", r[0], i % 2);
        const char *answer = request_once(server, text);
        CHECK(begins(answer, "HTTP/1.1 200 OK\r\n") && strstr(answer, "\r\nAllow: GET\r\n"));
        CHECK_TEXT(strstr(answer, "\r\n\r\n"), strcmp(r[1], "HEAD") == 0 ? "\r\n\r\n" : "\r\n\r\nbody");
        CHECK_TEXT(method_seen, r[1]);
        CHECK_TEXT(target_seen, r[2]);
    }
    const char *answer = request_once(server, "PUT / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(begins(answer, "HTTP/1.1 405 ") && strstr(answer, "\r\nAllow: GET, HEAD, OPTIONS\r\n"));
    step_end(server);
}

/* Upgrades that other servers take or refuse, and this one takes. */
static void upgrades(void) {
    static const char accept[] = "\r\nSec-WebSocket-Accept: OfS0wDaT5NoxF2gqm7Zj2YtetzM=\r\n";
    static const char rest[] = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                               "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n\r\n"; /* with a stray bit */
    static const char *const begun[] = {
        "GET / HTTP/1.1\r\nHost: a\r\n",       "GET / HTTP/1.9\r\nHost: a\r\n",         "\r\nGET / HTTP/1.1\r\nHost: a\r\n",
        "GET ws://a/ HTTP/1.1\r\nHost: b\r\n", "GET wss://a:443?b HTTP/1.1\r\nHost: b\r\n", "GET http://a HTTP/1.1\r\nHost: b\r\n",
        "\r\nGET https://a HTTP/1.1\r\nHost: b\r\nOrigin: https://a\r\n",
    };
    wss_options options = {0};
    options.hosts = "a";
    for (size_t i = 0; i < sizeof begun / sizeof begun[0]; i++) {
        char text[400];
        wss_server *server = serve(&options);
        step_client *client = step_connect(server);
        snprintf(text, sizeof text, "%s%s", begun[i], rest);
        const char *answer = step_ask(server, client, text);
        CHECK(begins(answer, "HTTP/1.1 101 ") && strstr(answer, accept));
        CHECK_INT(opened, 1);
        step_free(client);
        step_end(server);
    }
}

/* A first line of nearly max_head is for the application, whether it comes at once or in pieces. */
static void long_lines(void) {
    static char text[20000];
    static const size_t sizes[] = {4095, 4096, 4097, 8192, 16300, 16365, 16366, 16384, 16385};
    static const char tail[] = "Host: localhost\r\n\r\n";
    wss_options options = {0};
    options.hosts = "localhost, h";
    wss_server *server = serve(&options);
    wss_on_http(server, on_http_seen, NULL);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] * 2; i++) {
        size_t line = sizes[i / 2]; /* with its line end */
        size_t size = line + sizeof tail - 1;
        memset(text, 'x', sizeof text);
        memcpy(text, "GET /", 5);
        memcpy(text + line - 11, " HTTP/1.1\r\n", 11);
        memcpy(text + line, tail, sizeof tail);
        step_client *client = step_connect(server);
        if (i % 2) step_write(server, client, text, 1000);
        const char *answer = step_ask(server, client, text + (i % 2 ? 1000 : 0));
        CHECK(begins(answer, size <= 16384 ? "HTTP/1.1 200 " : line <= 16384 ? "HTTP/1.1 431 " : "HTTP/1.1 414 "));
        step_free(client);
        step(server);
    }
    step_end(server);
}

static char logged[1024];

static void on_log(void *context, int level, const char *text) {
    (void)context;
    (void)level;
    snprintf(logged, sizeof logged, "%s", text);
}

static void origins(void) {
    static const struct {
        const char *allowed;
        const char *lines;
        const char *status;
    } cases[] = {
        {NULL, "", "101"},
        {NULL, "Origin: http://localhost\r\n", "101"},
        {NULL, "Origin: HTTP://LocalHost:80\r\n", "101"},
        {NULL, "Origin: http://localhost:81\r\n", "403"},
        {NULL, "Origin: http://evil.example\x1b[1m\r\n", "400"},
        {NULL, "Origin: http://evil.example\r\n", "403"},
        {NULL, "Origin: null\r\n", "403"},
        {NULL, "Origin: http://localhost\r\nOrigin: http://localhost\r\n", "400"},
        {"null", "Origin: null\r\n", "101"},
        {"https://a.example, https://b.example", "Origin: https://b.example\r\n", "101"},
        {"https://a.example, https://b.example", "Origin: https://c.example\r\n", "403"},
        {"*", "Origin: http://evil.example\r\n", "101"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        wss_options options = {0};
        options.origins = cases[i].allowed;
        options.log = on_log;
        logged[0] = 0;
        wss_server *server = serve(&options);
        step_client *client = step_connect(server);
        snprintf(text, sizeof text, "GET / HTTP/1.1\r\n" STEP_UPGRADE "%s\r\n", cases[i].lines);
        const char *answer = step_ask(server, client, text);
        if (strncmp(answer + 9, cases[i].status, 3) != 0) printf("case %zu: %.20s\n", i, answer);
        CHECK(strncmp(answer + 9, cases[i].status, 3) == 0);
        CHECK(strstr(answer, "option") == NULL); /* the log is for the owner, the answer is for anybody */
        CHECK_INT(strstr(logged, "See options.origins") != NULL, strcmp(cases[i].status, "403") == 0);
        step_free(client);
        step_end(server);
    }
}

static void hosts(void) {
    wss_options options = {0};
    options.hosts = "localhost, chat.example";
    options.log = on_log;
    wss_server *server = serve(&options);
    wss_on_http(server, on_http, NULL);
    CHECK(begins(request_once(server, "GET / HTTP/1.1\r\nHost: chat.example:8080\r\n\r\n"), "HTTP/1.1 200 "));
    const char *answer = request_once(server, "GET / HTTP/1.1\r\nHost: rebound.example\r\n\r\n");
    CHECK(begins(answer, "HTTP/1.1 421 "));
    CHECK(strstr(answer, "option") == NULL);
    CHECK(strstr(logged, "Host rebound.example. See options.hosts") != NULL);
    answer = request_once(server, "GET http://rebound.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(begins(answer, "HTTP/1.1 421 "));
    CHECK(begins(request_once(server, "GET http://localhost/ HTTP/1.1\r\nHost: rebound.example\r\n\r\n"), "HTTP/1.1 200 "));
    CHECK(begins(request_once(server, "GET / HTTP/1.0\r\n\r\n"), "HTTP/1.1 200 "));
    step_end(server);
}

static void big_body(const wss_event *e) {
    wss_answer answer;
    static char body[300000];
    memset(&answer, 0, sizeof answer);
    memset(body, 'b', sizeof body);
    answer.body = body;
    answer.size = sizeof body;
    CHECK_INT(wss_reply(e->server, e->conn, &answer), WSS_OK);
}

/* The tail arrives although the client has sent more than anybody reads. */
static void tail_is_not_lost(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss_on_http(server, big_body, NULL);
    for (int i = 0; i < 20; i++) {
        step_client *client = step_connect(server);
        size_t got = 0;
        step_write(server, client, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\nunread bytes behind the request", 66);
        for (int turns = 0; turns < 10000 && !client->ended; turns++) {
            client->size = 0;
            if (step_receive(client)) got += client->size;
            step(server);
        }
        CHECK(got > 300000);
        step_free(client);
        step(server);
    }
    step_end(server);
}

/* A refused client may still be sending: its connection is read to its end, so that the refusal is not lost in a reset. */
static void refused_and_read_to_the_end(void) {
    wss_options options = {0};
    wss_server *server = step_server(&options);
    step_client *client = step_connect(server);
    CHECK(strncmp(step_ask(server, client, "GET / HTTP/1.1\r\n\r\nand more"), "HTTP/1.1 400 ", 13) == 0);
    CHECK(client->ended);
    CHECK_INT(server->loops[0].connections, 1);
    step_write(server, client, "and more", 8);
    CHECK_INT(server->loops[0].connections, 1);
    step_free(client);
    step(server);
    CHECK_INT(server->loops[0].connections, 0);
    step_end(server);
}

int main(void) {
    alarm(100);
    RUN(accepts);
    RUN(refuses);
    RUN(answered_later);
    RUN(plain_http);
    RUN(old_http);
    RUN(methods_and_targets);
    RUN(upgrades);
    RUN(long_lines);
    RUN(origins);
    RUN(hosts);
    RUN(tail_is_not_lost);
    RUN(refused_and_read_to_the_end);
    return test_end("http");
}
