/* Refusals: each rule is broken, and is told twice: to the client, who reads what to do and nothing of how the server is set up,
   and to the log, which says who asked for what, and which option there is for it. */
#include "../step.h"

#define HOST "Host: localhost\r\n"
#define UPGRADES "Upgrade: websocket\r\n"
#define CONNECTS "Connection: Upgrade\r\n"
#define KEY "Sec-WebSocket-Key: " SCRIPT_KEY "\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define HUNDRED "x123456789x123456789x123456789x123456789x123456789x123456789x123456789x123456789x123456789x123456789"
#define LINES "A:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\n"

static char logged[1024]; /* the last line */
static int logged_level;
static int lines;

static void on_log(void *context, int level, const char *text) {
    (void)context;
    for (const char *at = text; *at; at++) CHECK((unsigned char)*at >= 0x20 && (unsigned char)*at < 0x7f);
    snprintf(logged, sizeof logged, "%s", text);
    logged_level = level;
    lines++;
}

static wss_server *serve(wss_options *options) {
    options->log = on_log;
    options->handshake_ms = 5000;
    step_now += 60000; /* so that no line is left out */
    return step_server(options);
}

/* Which rules have been seen broken, by other methods and by HEAD. */
static int seen[WSS__HTTP_RULE_COUNT][2];

/* The answer and the line of the log, to the byte. path: as the log has it, NULL: not known. names: what the log says besides. */
static void check_refused(wss_server *server, step_client *client, int number, int is_head, const char *path, const char *names) {
    char want[1024];
    char length[64];
    const wss__http_rule *rule = wss__http_rule_of(number);
    size_t size = strlen(rule->text) - 1;
    int before = test_broken;
    const char *answer = client->size ? client->data : step_ask(server, client, "");
    const char *body = strstr(answer, "\r\n\r\n");
    snprintf(want, sizeof want, "HTTP/1.1 %d ", rule->status);
    snprintf(length, sizeof length, "\r\nContent-Length: %zu\r\n", size + 1);
    CHECK(strncmp(answer, want, strlen(want)) == 0 && strstr(answer, length) != NULL && client->ended);
    CHECK_TEXT(body ? body + 4 : "none", is_head ? "" : rule->text);
    CHECK(strstr(answer, "option") == NULL);
    snprintf(want, sizeof want, "request refused: %d, from 127.0.0.1%s%s: %.*s%s%s%s", rule->status, path ? ", " : "",
             path ? path : "", (int)size, rule->text, names, rule->option ? *names ? ". See options." : " See options." : "",
             rule->option ? rule->option : "");
    CHECK_TEXT(logged, want);
    CHECK_INT(logged_level, *names ? WSS_LOG_WARNING : WSS_LOG_INFO);
    CHECK_INT(lines, 1);
    if (test_broken != before) printf("rule: %s", rule->text);
    seen[number][is_head]++;
    logged[0] = 0;
    lines = 0;
}

/* One request, and how it is refused. */
static void check_request(wss_server *server, const char *request, int rule, const char *path, const char *names) {
    step_client *client = step_connect(server);
    step_now += 60000;
    step_ask(server, client, request);
    check_refused(server, client, rule, strncmp(request, "HEAD", 4) == 0, path, names);
    step_free(client);
    step(server);
}

typedef struct sample {
    int rule;
    int heads; /* HEAD in the place of its method breaks the same rule */
    const char *request;
    const char *path;
    const char *names;
} sample;

#define RULE(name) WSS__HTTP_RULE_##name
#define EVIL "http://evil.example"

static const sample samples[] = {
    {RULE(LINE_END), 1, "GET / HTTP/1.1\n\n", NULL, ""},
    {RULE(LINE_END), 1, "GET /a HTTP/1.1\r\nHost: localhost\n\r\n", "/a", ""},
    {RULE(LINE), 1, "GET /\r\n\r\n", NULL, ""},
    {RULE(LINE), 0, "\x81\x85 no HTTP", NULL, ""},
    {RULE(LINE), 0, "\r\n\r\nGET / HTTP/1.1\r\n\r\n", NULL, ""},
    {RULE(TLS), 0, "\x16\x03\x01\x02", NULL, ""},
    {RULE(TARGET), 1, "GET page HTTP/1.1\r\n" HOST "\r\n", NULL, ""},
    {RULE(TARGET), 1, "GET ftp://localhost/ HTTP/1.1\r\n" HOST "\r\n", NULL, ""},
    {RULE(TARGET), 1, "GET ws://me@localhost/a HTTP/1.1\r\n" HOST "\r\n", "/a", ""},
    {RULE(FIELD), 1, "GET /a HTTP/1.1\r\nHost : localhost\r\n\r\n", "/a", ""},
    {RULE(VALUE), 1, "GET /a HTTP/1.1\r\n" HOST "A: \x1b[2J\r\n\r\n", "/a", ""},
    {RULE(HOST_LINE), 1, "GET /a HTTP/1.1\r\n\r\n", "/a", ""},
    {RULE(BODY), 1, "GET /a HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx", "/a", ""},
    {RULE(METHOD), 0, "POST /a HTTP/1.1\r\n" HOST "\r\n", NULL, ""},
    {RULE(LINE_SIZE), 1, "GET /" HUNDRED HUNDRED HUNDRED, NULL, ""},
    {RULE(HEAD_SIZE), 1, "GET /a HTTP/1.1\r\nA: " HUNDRED HUNDRED HUNDRED, NULL, ""},
    {RULE(FIELDS), 1, "GET /a HTTP/1.1\r\n" HOST LINES LINES LINES LINES LINES LINES LINES LINES "\r\n", "/a", ""},
    {RULE(HTTP), 1, "GET /a HTTP/2.0\r\n" HOST "\r\n", NULL, ""},
    {RULE(OLD_HTTP), 1, "GET /a HTTP/1.0\r\n\r\n", "/a", ""},
    {RULE(OLD_HTTP), 0, "GET /a HTTP/1.0\r\n" HOST UPGRADES "\r\n", "/a", ""},
    {RULE(UPGRADE_METHOD), 1, "OPTIONS /a HTTP/1.1\r\n" STEP_UPGRADE "\r\n", "/a", ""},
    {RULE(CONNECTION), 0, "GET /a HTTP/1.1\r\n" HOST UPGRADES KEY VERSION "\r\n", "/a", ""},
    {RULE(VERSION), 0, "GET /a HTTP/1.1\r\n" HOST UPGRADES CONNECTS KEY "\r\n", "/a", ""},
    {RULE(KEY), 0, "GET /a HTTP/1.1\r\n" HOST UPGRADES CONNECTS VERSION "\r\n", "/a", ""},
    {RULE(ORIGINS), 0, "GET /a HTTP/1.1\r\n" STEP_UPGRADE "Origin: null\r\nOrigin: null\r\n\r\n", "/a", ""},
    {RULE(NO_UPGRADE), 1, "GET /a?b=secret HTTP/1.1\r\n" HOST "\r\n", "/a", ""},
    {RULE(NO_UPGRADE), 0, "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "*", ""},
    {RULE(NO_UPGRADE), 1, "GET /\"\\%41 HTTP/1.1\r\n" HOST "\r\n", "/\\x22\\x5c%41", ""},
    {RULE(ORIGIN), 0, "GET /a?b HTTP/1.1\r\n" STEP_UPGRADE "Origin: " EVIL "\r\n\r\n", "/a", " Origin " EVIL ", Host localhost"},
    {RULE(ORIGIN), 0, "GET ws://localhost?b HTTP/1.1\r\n" STEP_UPGRADE "Origin: \xc3\xa4\r\n\r\n", "/",
     " Origin \\xc3\\xa4, Host localhost"},
    {RULE(HOST), 1, "GET /a HTTP/1.1\r\nHost: other:80\r\n\r\n", "/a", " Origin , Host other:80"},
    {RULE(HOST), 0, "GET http://other/a HTTP/1.1\r\n" STEP_UPGRADE "Origin: null\r\n\r\n", "/a", " Origin null, Host other"},
    {RULE(PROXY_UNASKED), 0, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n" HOST "\r\n", NULL, ""},
};

static void rules(void) {
    wss_options options = {0};
    options.max_head = 300;
    options.hosts = "localhost";
    wss_server *server = serve(&options);
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        const sample *s = &samples[i];
        char head[400];
        check_request(server, s->request, s->rule, s->path, s->names);
        snprintf(head, sizeof head, "HEAD%s", strchr(s->request, ' '));
        if (s->heads) check_request(server, head, s->rule, s->path, s->names);
    }
    step_end(server);
}

/* ---- rules that a server breaks ---- */

static void no_answer(const wss_event *e) {
    (void)e;
}

static const char *const methods[] = {"GET", "HEAD"};

static step_client *ask_with(wss_server *server, int is_head, const char *rest) {
    char head[400];
    step_client *client = step_connect(server);
    snprintf(head, sizeof head, "%s%s", methods[is_head], rest);
    CHECK_TEXT(step_ask(server, client, head), "");
    return client;
}

/* A request whose end does not come: of its target nothing is said, for it may be half of one. */
static void timeouts(void) {
    static const char *const parts[] = {" /a", " /a HTTP/1.1\r\n", " /a HTTP/1.1\r\nHost: loc"};
    wss_options options = {0};
    wss_server *server = serve(&options);
    for (int i = 0; i < 6; i++) {
        step_client *client = ask_with(server, i % 2, parts[i / 2]);
        step_time(server, 6000);
        step_now += 60000;
        check_refused(server, client, RULE(TIMEOUT), i % 2, NULL, "");
        step_free(client);
        step(server);
    }
    step_client *silent = step_connect(server);
    step(server);
    step_time(server, 6000);
    check_refused(server, silent, RULE(TIMEOUT), 0, NULL, "");
    step_free(silent);
    step_end(server);
}

/* The application does not answer. */
static void undecided(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    wss_on_upgrade(server, no_answer, NULL);
    wss_on_http(server, no_answer, NULL);
    for (int i = 0; i < 3; i++) {
        const char *rest = i == 2 ? " /a?secret HTTP/1.1\r\n" STEP_UPGRADE "\r\n" : " /a?secret HTTP/1.1\r\n" HOST "\r\n";
        step_client *client = ask_with(server, i == 1, rest);
        step_time(server, 6000);
        step_now += 60000;
        check_refused(server, client, RULE(UNDECIDED), i == 1, "/a", "");
        step_free(client);
        step(server);
    }
    step_end(server);
}

/* As many unfinished requests as there may be: who waits makes the oldest end. */
static void crowded(void) {
    enum { MOST = 64 };
    wss_options options = {0};
    step_client *clients[MOST + 2];
    options.max_connections = 100;
    wss_server *server = serve(&options);
    for (int i = 0; i < MOST; i++) clients[i] = ask_with(server, i % 2, " /a HTTP/1.1\r\n");
    for (int i = 0; i < 2; i++) {
        clients[MOST + i] = step_connect(server);
        step(server);
        CHECK_INT(lines, i); /* a second after they came all of them have had their time */
        if (i == 0) step_time(server, 1200);
        check_refused(server, clients[i], RULE(CROWDED), i, NULL, "");
    }
    for (int i = 0; i < MOST + 2; i++) step_free(clients[i]);
    step(server);
    step_end(server);
}

/* Bytes that are held elsewhere, as far as the account knows. */
static void hold(wss_server *server, size_t bytes) {
    __atomic_add_fetch(&server->mem.used, bytes, __ATOMIC_RELAXED);
}

static void memory(void) {
    wss_options options = {0};
    options.memory_budget = (size_t)64 << 20;
    wss_server *server = serve(&options);
    wss_on_http(server, no_answer, NULL);
    for (int i = 0; i < 3; i++) {
        const char *request = i == 0 ? "GET /a?secret HTTP/1.1\r\n" STEP_UPGRADE "\r\n" : i == 1 ? "GET /a HTTP/1.1\r\n" HOST "\r\n"
                                                                                           : "HEAD /a HTTP/1.1\r\n" HOST "\r\n";
        step_client *client = step_connect(server);
        step(server);
        size_t held = ((size_t)56 << 20) + 1 - server->mem.used;
        hold(server, held);
        step_now += 60000;
        step_ask(server, client, request);
        hold(server, 0 - held);
        check_refused(server, client, RULE(MEMORY), i == 2, "/a", "");
        step_free(client);
        step(server);
    }
    step_end(server);
}

/* No memory for the copy of the request that the application is asked about. */
static void memory_for_the_copy(void) {
    for (int is_head = 0; is_head <= 1; is_head++) {
        wss_options options = {0};
        wss_server *server = serve(&options);
        wss_on_http(server, no_answer, NULL);
        step_client *client = step_connect(server);
        step(server);
        step_fail_in = 1;
        step_fail_on = 1;
        const char *request = is_head ? "HEAD /a HTTP/1.1\r\n" HOST "\r\n" : "GET /a HTTP/1.1\r\n" HOST "\r\n";
        step_write(server, client, request, strlen(request));
        step_fail_in = step_fail_on = 0;
        step_ask(server, client, "");
        check_refused(server, client, RULE(MEMORY), is_head, "/a", "");
        step_free(client);
        step_end(server);
    }
}

static void stopping(void) {
    static const char with_path[] = "request refused: 503, from 127.0.0.1, /a: The server is stopping. Try later.";
    static const char without[] = "request refused: 503, from 127.0.0.1: The server is stopping. Try later.";
    wss_options options = {0};
    step_client *clients[4];
    wss_server *server = serve(&options);
    wss_on_http(server, no_answer, NULL);
    for (int i = 0; i < 4; i++) clients[i] = ask_with(server, i % 2, i < 2 ? " /a HTTP/1.1\r\n" HOST "\r\n" : " /a HTTP/1.1\r\n");
    wss_stop(server, 1000);
    step(server);
    CHECK_INT(lines, 4);
    CHECK(strcmp(logged, with_path) == 0 || strcmp(logged, without) == 0);
    for (int i = 0; i < 4; i++) { /* in which order they end is the server's affair */
        const char *path = i < 2 ? "/a" : NULL;
        step_ask(server, clients[i], "");
        snprintf(logged, sizeof logged, "%s", path ? with_path : without);
        lines = 1;
        check_refused(server, clients[i], RULE(STOPPING), i % 2, path, "");
    }
    for (int i = 0; i < 4; i++) step_free(clients[i]);
    step_end(server);
}

/* A name of somebody else's that leads to this machine: plain requests whatever they carry, upgrades of pages. */
static void rebinding(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    static const char *const requests[] = {
        "GET /a HTTP/1.1\r\nHost: evil.example:80\r\n\r\n", "HEAD /a HTTP/1.1\r\nHost: evil.example:80\r\nVia: x\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: evil.example:80\r\n" UPGRADES CONNECTS KEY VERSION "Origin: " EVIL "\r\n\r\n"};
    for (int i = 0; i < 3; i++)
        check_request(server, requests[i], RULE(REBINDING), "/a",
                      i < 2 ? " Origin , Host evil.example:80" : " Origin " EVIL ", Host evil.example:80");
    step_end(server);
}

/* Who is trusted must say who asks; and each of those may have so many connections. */
static void behind_a_proxy(void) {
    wss_options options = {0};
    options.proxies = "127.0.0.1";
    options.proxy_protocol = 1;
    wss_server *server = serve(&options);
    check_request(server, "GET /a HTTP/1.1\r\n" HOST "\r\n", RULE(PROXY_MISSING), NULL, "");
    check_request(server, "HEAD /a HTTP/1.1\r\n" HOST "\r\n", RULE(PROXY_MISSING), NULL, "");
    step_end(server);
    wss_options few = {0};
    few.proxies = "192.0.2.0/24, 127.0.0.1";
    few.max_per_address = 1;
    server = serve(&few);
    step_client *first = step_connect(server);
    step_ask(server, first, "GET / HTTP/1.1\r\n" STEP_UPGRADE "X-Forwarded-For: 127.0.0.2, 192.0.2.9\r\n\r\n");
    CHECK_INT(wss_count(server), 1);
    for (int i = 0; i < 2; i++) {
        char request[200];
        snprintf(request, sizeof request, "%s /a HTTP/1.1\r\n" HOST "X-Forwarded-For: 127.0.0.2\r\n\r\n", methods[i]);
        step_client *client = step_connect(server);
        step_now += 60000;
        step_ask(server, client, request);
        for (char *at = logged; (at = strstr(at, "127.0.0.2")) != NULL;) at[8] = '1'; /* as check_refused has it */
        check_refused(server, client, RULE(PER_ADDRESS), i, "/a", "");
        step_free(client);
        step(server);
    }
    step_free(first);
    step_end(server);
    lines = 0; /* that of its end */
}

/* ---- lines of the log ---- */

/* However long everything is, the option is there, also behind the longest address. */
static void long_lines(void) {
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *client = step_connect(server);
    step_ask(server, client, "GET /" HUNDRED HUNDRED " HTTP/1.1\r\nHost: " HUNDRED HUNDRED "\r\n" UPGRADES CONNECTS KEY VERSION
             "Origin: https://a." HUNDRED HUNDRED "\r\n\r\n");
    CHECK_INT(lines, 1);
    CHECK(strlen(logged) + INET6_ADDRSTRLEN - strlen("127.0.0.1") < WSS__LOG_LINE);
    CHECK(strstr(logged, "request refused: 403, from 127.0.0.1, /x123456789x") == logged);
    CHECK(strstr(logged, ": Pages of this origin may not connect. Origin https://a.x123456789x") != NULL);
    CHECK(strstr(logged, ", Host x123456789x") != NULL);
    const char *end = strstr(logged, ". See options.origins");
    CHECK(end && strlen(end) == strlen(". See options.origins"));
    lines = 0;
    step_free(client);
    step_end(server);
}

/* The level asks for it, or there is no line; the answer is the same. */
static void levels(void) {
    for (int level = WSS_LOG_ERROR; level <= WSS_LOG_DEBUG; level++) {
        wss_options options = {0};
        options.hosts = "localhost";
        options.log_level = level;
        wss_server *server = serve(&options);
        step_client *clients[2];
        for (int i = 0; i < 2; i++) {
            clients[i] = step_connect(server);
            lines = 0;
            const char *answer = step_ask(server, clients[i], i ? "GET / HTTP/1.1\r\nHost: a\r\n\r\n" : "GET / HTTP/1.1\r\n\r\n");
            CHECK(strncmp(answer, i ? "HTTP/1.1 421 " : "HTTP/1.1 400 ", 13) == 0);
            CHECK_INT(lines, level >= (i ? WSS_LOG_WARNING : WSS_LOG_INFO));
        }
        for (int i = 0; i < 2; i++) step_free(clients[i]);
        lines = 0;
        step_end(server);
    }
}

/* After all others: no rule was left out, and HEAD has met all that it can meet. */
static void every_rule_was_broken(void) {
    static const int no_head[] = {RULE(TLS), RULE(METHOD), RULE(CONNECTION), RULE(VERSION), RULE(KEY), RULE(ORIGINS), RULE(ORIGIN),
                                  RULE(PROXY_UNASKED)};
    for (int rule = 1; rule < WSS__HTTP_RULE_COUNT; rule++) {
        int can = 1;
        for (size_t i = 0; i < sizeof no_head / sizeof no_head[0]; i++) can &= no_head[i] != rule;
        if (!seen[rule][0] || can != (seen[rule][1] > 0)) printf("rule: %s", wss__http_rule_of(rule)->text);
        CHECK(seen[rule][0] > 0);
        CHECK_INT(seen[rule][1] > 0, can);
    }
}

int main(void) {
    alarm(100);
    RUN(rules);
    RUN(timeouts);
    RUN(undecided);
    RUN(crowded);
    RUN(memory);
    RUN(memory_for_the_copy);
    RUN(stopping);
    RUN(rebinding);
    RUN(behind_a_proxy);
    RUN(long_lines);
    RUN(levels);
    RUN(every_rule_was_broken);
    return test_end("refusals");
}
