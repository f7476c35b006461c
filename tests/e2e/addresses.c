/* Where a server listens, who is at the other end, and what the log says. */
#include "../step.h"

static wss_conn last;

static void on_open(const wss_event *e) {
    last = e->conn;
    wss_send_data(e->server, e->conn, WSS_TEXT, "hi", 2);
}

static int reach(const void *address, socklen_t size) {
    int fd = socket(((const struct sockaddr *)address)->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)address, size) == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

/* True if a client there is let in; *info tells about it. */
static int served(wss_server *server, const void *address, socklen_t size, wss_info *info) {
    static const char request[] = "GET /ws HTTP/1.1\r\n" STEP_UPGRADE "\r\n";
    char answer[1024];
    int fd = reach(address, size);
    if (fd < 0) return 0;
    last.id = 0;
    if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0) return 0;
    step(server);
    ssize_t got = recv(fd, answer, sizeof answer - 1, 0);
    int good = got > 4 && memcmp(answer + got - 2, "hi", 2) == 0 && last.id && wss_get_info(server, last, info) == WSS_OK;
    close(fd);
    step(server);
    return good;
}

static int is_v6_here(void) {
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 address;
    memset(&address, 0, sizeof address);
    address.sin6_family = AF_INET6;
    address.sin6_addr.s6_addr[15] = 1;
    int good = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0) close(fd);
    return good;
}

static char asked_peer[64];
static int asked_port;

static void on_page(const wss_event *e) {
    wss_answer answer = {0};
    snprintf(asked_peer, sizeof asked_peer, "%s", wss_request_peer(e->request, &asked_port));
    answer.status = 200;
    CHECK_INT(wss_reply(e->server, e->conn, &answer), WSS_OK);
}

/* Who asks over a Unix socket has no address. */
static void peer_of_a_request(void) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char path[80];
    wss_options options = {0};
    struct sockaddr_un local;
    memset(&local, 0, sizeof local);
    local.sun_family = AF_UNIX;
    snprintf(local.sun_path, sizeof local.sun_path, "build/test-%d.sock", (int)getpid());
    snprintf(path, sizeof path, "127.0.0.1, unix:build/test-%d.sock", (int)getpid());
    options.address = path;
    wss_server *server = step_server(&options);
    wss_on_http(server, on_page, NULL);
    snprintf(asked_peer, sizeof asked_peer, "?");
    asked_port = -1;
    int fd = reach(&local, sizeof local);
    CHECK(fd >= 0 && send(fd, request, sizeof request - 1, MSG_NOSIGNAL) > 0);
    step(server);
    CHECK_TEXT(asked_peer, "");
    CHECK_INT(asked_port, 0);
    close(fd);
    step_client *client = step_connect(server);
    CHECK(strncmp(step_ask(server, client, request), "HTTP/1.1 200 ", 13) == 0);
    CHECK_TEXT(asked_peer, "127.0.0.1");
    CHECK(asked_port > 0);
    step_free(client);
    step_end(server);
}

/* What is told of a client that asked for the root. */
static void client_of_the_root(void) {
    wss_options options = {0};
    wss_conn none = {0};
    wss_info info;
    wss_server *server = step_server(&options);
    step_client *client = step_open(server);
    memset(&info, 0x5a, sizeof info);
    CHECK_INT(wss_get_info(server, wss_next(server, none), &info), WSS_OK);
    CHECK_TEXT(info.path, "/");
    CHECK_TEXT(info.protocol, "");
    CHECK_TEXT(info.address, "127.0.0.1");
    step_free(client);
    step_end(server);
}

static void several_addresses(void) {
    char path[64];
    char list[128];
    wss_info info;
    wss_options options = {0};
    struct sockaddr_un local;
    struct sockaddr_in v4;
    memset(&local, 0, sizeof local);
    memset(&v4, 0, sizeof v4);
    snprintf(path, sizeof path, "build/test-%d.sock", (int)getpid());
    snprintf(list, sizeof list, "127.0.0.1, unix:%s", path);
    options.address = list;
    options.unix_mode = 0600;
    wss_server *server = step_server(&options);
    wss_on_connect(server, on_open, NULL);
    wss_get_options(server, &options);
    CHECK(options.port > 0);
    v4.sin_family = AF_INET;
    v4.sin_port = htons((uint16_t)options.port);
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(served(server, &v4, sizeof v4, &info));
    CHECK_TEXT(info.address, "127.0.0.1");
    CHECK_TEXT(info.path, "/ws");
    CHECK_INT(info.uid, -1);
    local.sun_family = AF_UNIX;
    memcpy(local.sun_path, path, strlen(path) + 1);
    struct stat status;
    CHECK_INT(stat(path, &status), 0);
    CHECK_INT(status.st_mode & 0777, 0600);
    CHECK(served(server, &local, sizeof local, &info));
    CHECK_TEXT(info.address, "unix");
    CHECK_INT(info.uid, getuid());
    CHECK_INT(info.gid, getgid());
    CHECK_INT(info.pid, getpid());
    step_end(server);
    CHECK(access(path, F_OK) != 0); /* it takes its socket away */
}

static void dual_stack(void) {
    wss_info info;
    wss_error why;
    wss_options options = {0};
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    options.allocator = step_allocator;
    wss_server *server = wss_create(&options, &why);
    CHECK(server != NULL);
    wss_poll(server, 0);
    wss_on_connect(server, on_open, NULL);
    wss_get_options(server, &options);
    memset(&v4, 0, sizeof v4);
    v4.sin_family = AF_INET;
    v4.sin_port = htons((uint16_t)options.port);
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(served(server, &v4, sizeof v4, &info));
    CHECK_TEXT(info.address, "127.0.0.1");
    memset(&v6, 0, sizeof v6);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons((uint16_t)options.port);
    v6.sin6_addr.s6_addr[15] = 1;
    if (!is_v6_here()) {
        printf("skipped part of dual_stack: no IPv6 here\n");
    } else {
        CHECK(served(server, &v6, sizeof v6, &info));
        CHECK_TEXT(info.address, "::1");
    }
    step_end(server);
}

static void adopted(void) {
    char text[32];
    wss_info info;
    wss_options options = {0};
    struct sockaddr_in v4;
    socklen_t size = sizeof v4;
    memset(&v4, 0, sizeof v4);
    v4.sin_family = AF_INET;
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(fd, (struct sockaddr *)&v4, sizeof v4) == 0 && listen(fd, 5) == 0);
    getsockname(fd, (struct sockaddr *)&v4, &size);
    snprintf(text, sizeof text, "fd:%d", fd);
    options.address = text;
    wss_server *server = step_server(&options);
    wss_on_connect(server, on_open, NULL);
    wss_get_options(server, &options);
    CHECK_INT(options.port, ntohs(v4.sin_port));
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK(served(server, &v4, sizeof v4, &info));
    step_end(server);
}

static char logged[8192];
static int lines;

static void on_log(void *context, int level, const char *text) {
    size_t used = strlen(logged);
    CHECK(context == (void *)&lines);
    CHECK(level >= WSS_LOG_ERROR && level <= WSS_LOG_DEBUG);
    for (const char *at = text; *at; at++) CHECK((unsigned char)*at >= 0x20 && (unsigned char)*at < 0x7f);
    snprintf(logged + used, sizeof logged - used, "%s\n", text);
    lines++;
}

static void log_lines(void) {
    wss_options options = {0};
    char want[80];
    options.log = on_log;
    options.log_context = &lines;
    options.log_level = WSS_LOG_DEBUG;
    logged[0] = 0;
    wss_server *server = step_server(&options);
    wss_on_connect(server, on_open, NULL);
    /* A hostile reason is shown without its control characters, and %n is only text. */
    step_client *client = step_open(server);
    step_frame(server, client, 0x88, "\x0f\xa0%n%s\x1b[2J\r\n\xc2\x9b", 14);
    CHECK(strstr(logged, "%n%s\\x1b[2J\\x0d\\x0a\\xc2\\x9b") != NULL);
    CHECK(strstr(logged, "connection ended: 127.0.0.1, /, after 0.0") != NULL);
    CHECK(strstr(logged, " s: peer closed, code 4000, ") != NULL && strstr(logged, " bytes in, ") != NULL);
    step_free(client);
    step(server);
    logged[0] = 0;
    CHECK_INT(wss_send_data(server, last, WSS_TEXT, "x", 1), WSS_ERR_GONE);
    CHECK(strstr(logged, "send to a dead handle") != NULL);
    logged[0] = 0;
    lines = 0;
    for (int i = 0; i < 1000; i++) wss_close(server, last, 1000, NULL);
    CHECK(lines <= 20); /* a flood is cut, */
    snprintf(want, sizeof want, "%d lines of this level were left out", 1000 - lines);
    step(server);
    CHECK(strstr(logged, "were left out") == NULL);
    step_now += 1000;
    step(server);
    CHECK(strstr(logged, want) != NULL); /* and told when it is over */
    step_end(server);
}

static void handler_that_is_slow(const wss_event *e) {
    (void)e;
    step_now += 250;
}

static void slow_handlers(void) {
    wss_options options = {0};
    wss_stats stats;
    options.log = on_log;
    options.log_context = &lines;
    options.log_level = WSS_LOG_DEBUG;
    logged[0] = 0;
    wss_server *server = step_server(&options);
    wss_on_data(server, handler_that_is_slow, NULL);
    step_client *client = step_open(server);
    step_frame(server, client, 0x81, "x", 1);
    CHECK(strstr(logged, "a turn took 250 ms") != NULL);
    CHECK(strstr(logged, "on another thread") == NULL); /* it is always this one */
    wss_get_stats(server, &stats);
    CHECK_INT(stats.loop_lag_ms, 250);
    step_free(client);
    step(server);
    step_end(server);
}

static void statistics(void) {
    wss_options options = {0};
    wss_stats stats;
    wss_server *server = step_server(&options);
    wss_on_connect(server, on_open, NULL);
    step_client *client = step_open(server);
    step_frame(server, client, 0x81, "abc", 3);
    step_frame(server, client, 0x01, "abc", 3);
    step_frame(server, client, 0x89, "p", 1);
    step_frame(server, client, 0x80, "def", 3);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.connections, 1);
    CHECK_INT(stats.accepted, 1);
    CHECK_INT(stats.opened, 1);
    CHECK_INT(stats.frames_in, 4);
    CHECK_INT(stats.messages_in, 2);
    CHECK_INT(stats.messages_out, 1);
    CHECK_INT(stats.frames_out, 2); /* the greeting and a pong */
    CHECK_INT(stats.memory, server->mem.used);
    CHECK(stats.memory_peak >= stats.memory && stats.memory_budget == 256 * 1024 * 1024);
    wss_info info;
    CHECK_INT(wss_get_info(server, last, &info), WSS_OK);
    CHECK_INT(info.bytes_in, stats.bytes_in);
    CHECK_INT(info.bytes_out, stats.bytes_out);
    step_now += 5000;
    CHECK_INT(wss_get_info(server, last, &info), WSS_OK);
    CHECK_INT(info.silent_ms, 5000);
    CHECK(info.age_ms >= 5000 && info.age_ms <= 5000 + WSS__CONN_STEP);
    step_frame(server, client, 0x88, "", 0);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.connections, 0);
    CHECK_INT(stats.closes[WSS_CAUSE_PEER_CLOSED], 1);
    step_free(client);
    step(server);
    step_end(server);
}

/* A program may have closed its input: then the first descriptor that the server gets has number 0, and is as good as any. */
static void with_descriptor_zero(void) {
    if (fcntl(0, F_GETFD) < 0) CHECK_INT(open("/dev/null", O_RDONLY), 0);
    int saved = dup(0);
    CHECK(saved > 0);
    for (int early = 0; early < 2; early++) {
        wss_options options = {0};
        if (early) close(0);
        wss_server *server = step_server(&options);
        if (!early) close(0);
        CHECK(wss_fd(server) >= 0);
        CHECK(fcntl(0, F_GETFD) >= 0);
        step_client *client = step_open(server);
        CHECK_INT(wss_count(server), 1);
        step_free(client);
        step(server);
        CHECK_INT(wss_count(server), 0);
        step_end(server);
        CHECK(fcntl(0, F_GETFD) < 0); /* closed again */
        CHECK_INT(dup2(saved, 0), 0);
    }
    close(saved);
}

/* ---- messages that nobody gets ---- */

static char ignored[400];

static void on_ignored(void *context, int level, const char *text) {
    (void)context;
    if (level == WSS_LOG_DEBUG) snprintf(ignored, sizeof ignored, "%s", text);
}

static int typed_calls;

static void on_typed_call(const wss_event *e) {
    (void)e;
    typed_calls++;
}

/* Each leaves a line that says why. */
static void ignored_messages(void) {
    static const struct {
        int first;
        const char *text;
        const char *want;
    } samples[] = {
        {0x81, "hello", "a message was ignored: it is no object of JSON in UTF-8"},
        {0x81, "", "a message was ignored: it is no object of JSON in UTF-8"},
        {0x82, "{\"__MESSAGE__\":\"known\",\"a\":\"\xff\"}", "a message was ignored: it is no object of JSON in UTF-8"},
        {0x81, "{\"__MESSAGE__\":\"known\",}", "a message was ignored: no JSON from byte 22 on, or too deep"},
        {0x81, "{\"a\":01}", "a message was ignored: no JSON from byte 0 on, or too deep"},
        {0x81, "{\"a\":1}", "a message was ignored: it has no string in its member __MESSAGE__"},
        {0x81, "{\"__MESSAGE__\":7}", "a message was ignored: it has no string in its member __MESSAGE__"},
        {0x81, "{\"__MESSAGE__\":\"other\\n\"}", "a message was ignored: nobody handles its type other\\x0a"},
        {0x81, "{\"__MESSAGE__\":\"known\"}", ""},
    };
    wss_options options = {0};
    options.log = on_ignored;
    options.log_level = WSS_LOG_DEBUG;
    wss_server *server = step_server(&options);
    typed_calls = 0;
    wss_on_message(server, "known", on_typed_call, NULL);
    step_client *client = step_open(server);
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        ignored[0] = 0;
        step_now += 1000;
        step_frame(server, client, samples[i].first, samples[i].text, strlen(samples[i].text));
        CHECK_TEXT(ignored, samples[i].want);
    }
    CHECK_INT(typed_calls, 1);
    step_free(client);
    step_end(server);
}

int main(void) {
    alarm(100);
    mkdir("build", 0777);
    RUN(client_of_the_root);
    RUN(several_addresses);
    RUN(peer_of_a_request);
    RUN(dual_stack);
    RUN(adopted);
    RUN(log_lines);
    RUN(slow_handlers);
    RUN(statistics);
    RUN(with_descriptor_zero);
    RUN(ignored_messages);
    return test_end("addresses");
}
