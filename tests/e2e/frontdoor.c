/* Who is at the door: clients behind proxies and before them, PROXY headers, how many of one address may come, and pages that
   reach this machine by a name of their own. */
#include "../step.h"

#define COUNT(samples) (sizeof samples / sizeof samples[0])
#define ASKS(host) "GET /room HTTP/1.1\r\nHost: " host "\r\n" SCRIPT_ASKS
#define ASK ASKS("localhost")
#define PLAIN(host) "GET /page HTTP/1.1\r\nHost: " host "\r\n"

static const char line_v1[] = "PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n";
static const char bytes_v2[] = "\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07"
                               "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\xff\xff\x01\xbb";
static const char local_v2[] = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/* ---- a server that notes who came ---- */

enum { UPGRADE, CONNECT, DISCONNECT, PAGE, STAGES };

typedef struct visit {
    char address[64];
    int port;
    int uid;
    int times;
} visit;

static visit visits[STAGES];
static wss_queue *queue; /* drained in the same turns, where there is one */
static char logged[16384];

static void on_log(void *context, int level, const char *text) {
    size_t used = strlen(logged);
    (void)context;
    (void)level;
    snprintf(logged + used, sizeof logged - used, "%s\n", text);
}

static void note_info(const wss_event *e, int stage) {
    wss_info info;
    CHECK_INT(wss_get_info(e->server, e->conn, &info), WSS_OK);
    snprintf(visits[stage].address, sizeof visits[stage].address, "%s", info.address);
    visits[stage].port = info.port;
    visits[stage].uid = info.uid;
    visits[stage].times++;
}

static void note_request(const wss_event *e, int stage) {
    int port = -1;
    note_info(e, stage);
    const char *peer = wss_request_peer(e->request, &port);
    /* The request tells the same as the connection, but for a Unix socket's "unix". */
    CHECK_TEXT(peer, strcmp(visits[stage].address, "unix") == 0 ? "" : visits[stage].address);
    CHECK_INT(port, visits[stage].port);
    CHECK_INT(wss_request_peer(e->request, NULL) == peer, 1);
}

static int unanswered; /* for want of memory */

static void on_upgrade(const wss_event *e) {
    note_request(e, UPGRADE);
    int result = wss_accept(e->server, e->conn, NULL, NULL, 0, NULL);
    unanswered = result == WSS_ERR_MEMORY && step_failed;
    CHECK_INT(result, unanswered ? WSS_ERR_MEMORY : WSS_OK);
}

static void on_page(const wss_event *e) {
    wss_answer answer = {0};
    note_request(e, PAGE);
    CHECK_INT(wss_reply(e->server, e->conn, &answer), WSS_OK);
}

static void on_connect(const wss_event *e) {
    note_info(e, CONNECT);
}

static void on_disconnect(const wss_event *e) {
    note_info(e, DISCONNECT);
}

static wss_server *serve(wss_options *options) {
    options->log = on_log;
    logged[0] = 0;
    memset(visits, 0, sizeof visits);
    wss_server *server = step_server(options);
    wss_on_upgrade(server, on_upgrade, NULL);
    wss_on_http(server, on_page, NULL);
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    return server;
}

static void settle(wss_server *server) {
    for (int i = 0; i < (queue ? 6 : 1); i++) {
        step(server);
        if (queue) wss_queue_poll(queue, 0);
    }
}

/* ---- clients ---- */

/* From an address of this machine, all of which 127.0.0.0/8 are. */
static step_client *come_from(wss_server *server, const char *source) {
    wss_options options;
    struct sockaddr_in address;
    step_client *client = (step_client *)calloc(1, sizeof *client);
    if (!client) abort();
    memset(&options, 0, sizeof options);
    wss_get_options(server, &options);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    if (inet_pton(AF_INET, source, &address.sin_addr) != 1) abort();
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || bind(client->fd, (struct sockaddr *)&address, sizeof address) != 0) abort();
    address.sin_port = htons((uint16_t)options.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0) abort();
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    wss__socket_set(client->fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return client;
}

static step_client *come_by_path(const char *path) {
    struct sockaddr_un local;
    step_client *client = (step_client *)calloc(1, sizeof *client);
    if (!client) abort();
    memset(&local, 0, sizeof local);
    local.sun_family = AF_UNIX;
    snprintf(local.sun_path, sizeof local.sun_path, "%s", path);
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&local, sizeof local) != 0) abort();
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    return client;
}

static int own_port(const step_client *client) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    if (getsockname(client->fd, (struct sockaddr *)&address, &size) != 0) return -1;
    return ntohs(address.sin_port);
}

static void say(wss_server *server, step_client *client, const char *data, size_t size) {
    step_write(server, client, data, size);
    settle(server);
    while (step_receive(client)) settle(server);
}

/* The status of what has come; 0: nothing yet, -1: nothing, and it has ended. */
static int status_of(const step_client *client) {
    if (client->size < 13) return client->ended ? -1 : 0;
    return strncmp(client->data, "HTTP/1.1 ", 9) == 0 ? atoi(client->data + 9) : -2;
}

/* Asks with these lines in the head. */
static int ask(wss_server *server, step_client *client, const char *before, size_t size, const char *request, const char *lines) {
    char text[4096];
    if (size) memcpy(text, before, size);
    int more = snprintf(text + size, sizeof text - size, "%s%s\r\n", request, lines);
    client->size = 0;
    say(server, client, text, size + (size_t)more);
    return status_of(client);
}

static int ask_plainly(wss_server *server, const char *source, const char *request, const char *lines) {
    step_client *client = come_from(server, source);
    int status = ask(server, client, "", 0, request, lines);
    step_free(client);
    settle(server);
    return status;
}

static step_client *enter(wss_server *server, const char *source, const char *lines, int want) {
    step_client *client = come_from(server, source);
    int status = ask(server, client, "", 0, ASK, lines);
    if (status != want) printf("%d, not %d: from %s, %s\n", status, want, source, lines);
    CHECK_INT(status, want);
    return client;
}

static void leave(wss_server *server, step_client *client, int reset) {
    struct linger linger = {1, 0};
    if (reset) setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    step_free(client);
    settle(server);
}

static uint64_t refused_for(wss_server *server, int cause) {
    wss_stats stats;
    wss_get_stats(server, &stats);
    return stats.refused_cause[cause];
}

static void expect_visit(int stage, const char *address, int port, int times) {
    CHECK_TEXT(visits[stage].address, address);
    CHECK_INT(visits[stage].port, port);
    CHECK_INT(visits[stage].times, times);
}

/* ---- addresses ---- */

typedef struct arrival {
    const char *source;
    const char *lines;
    const char *want;
    int port; /* 0: that of the socket, where it is the socket's address */
} arrival;

/* The same in the request, in connect and in disconnect, however it ends, with a queue and without. */
static void who_it_is(void) {
    static const arrival arrivals[] = {
        {"127.0.0.1", "", "127.0.0.1", 0}, /* the proxy itself */
        {"127.0.0.1", "X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1", 0},
        {"127.0.0.1", "X-Forwarded-For: 192.0.2.1:4711\r\n", "192.0.2.1", 4711},
        {"127.0.0.1", "X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1", 0},
        {"127.0.0.1", "X-Forwarded-For: [2001:db8::1]:65535\r\n", "2001:db8::1", 65535},
        {"127.0.0.1", "X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n", "192.0.2.1", 0},
        {"127.0.0.1", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1, 10.0.0.1\r\n", "192.0.2.1", 0},
        {"127.0.0.1", "Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n", "127.0.0.1", 0},
        {"127.0.0.1", "X-Forwarded-For: unknown\r\n", "127.0.0.1", 0},
        {"127.0.0.1", "X-Forwarded-For: 10.0.0.2, 10.0.0.1\r\n", "10.0.0.2", 0},
        {"127.0.0.2", "", "127.0.0.2", 0}, /* no proxy */
        {"127.0.0.2", "X-Forwarded-For: 6.6.6.6\r\n", "127.0.0.2", 0},
    };
    for (int variant = 0; variant < 4; variant++) {
        wss_options options = {0};
        queue = variant & 1 ? wss_queue_create(NULL, NULL) : NULL;
        options.queue = queue;
        options.proxies = "127.0.0.1, 10.0.0.0/8";
        wss_server *server = serve(&options);
        for (size_t i = 0; i < COUNT(arrivals); i++) {
            const arrival *a = &arrivals[i];
            memset(visits, 0, sizeof visits);
            step_client *client = enter(server, a->source, a->lines, 101);
            int port = strcmp(a->want, a->source) == 0 ? own_port(client) : a->port;
            leave(server, client, variant >> 1);
            expect_visit(UPGRADE, a->want, port, 1);
            expect_visit(CONNECT, a->want, port, 1);
            expect_visit(DISCONNECT, a->want, port, 1);
            CHECK_INT(visits[DISCONNECT].uid, -1);
            step_client *other = come_from(server, a->source);
            CHECK_INT(ask(server, other, "", 0, PLAIN("localhost"), a->lines), 200);
            expect_visit(PAGE, a->want, strcmp(a->want, a->source) == 0 ? own_port(other) : a->port, 1);
            leave(server, other, 0);
        }
        CHECK(strstr(logged, "6.6.6.6") == NULL);
        step_end(server);
        if (queue) CHECK_INT(wss_queue_destroy(queue), WSS_OK);
        queue = NULL;
    }
}

/* Which line is believed is the operator's choice; others are not looked at. */
static void other_lines(void) {
    static const char lines[] = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=7.7.7.7, for=\"[2001:db8::2]:80\";proto=http\r\n"
                                "X-Real-IP: 192.0.2.9\r\n";
    static const struct {
        const char *header;
        const char *want;
        int port;
    } samples[] = {{"Forwarded", "2001:db8::2", 80}, {"x-real-ip", "192.0.2.9", 0}, {NULL, "6.6.6.6", 0}};
    for (size_t i = 0; i < COUNT(samples); i++) {
        wss_options options = {0};
        options.proxies = "127.0.0.1";
        options.proxy_header = samples[i].header;
        wss_server *server = serve(&options);
        leave(server, enter(server, "127.0.0.1", lines, 101), 0);
        expect_visit(UPGRADE, samples[i].want, samples[i].port, 1);
        expect_visit(DISCONNECT, samples[i].want, samples[i].port, 1);
        step_end(server);
    }
}

/* Lines of the log name the client, not the proxy, and nothing that the client made up. */
static void log_names_the_client(void) {
    static const struct {
        const char *source;
        const char *request;
        const char *lines;
        int status;
        const char *want;
    } samples[] = {
        {"127.0.0.1", ASK, "Origin: http://evil.example\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n", 403,
         "request refused: 403, from 192.0.2.1, /room: "},
        {"127.0.0.1", ASK, "Origin: https://evil.example\r\n", 403, "request refused: 403, from 127.0.0.1, /room: "},
        {"127.0.0.2", ASK, "Origin: http://evil.example\r\nX-Forwarded-For: 6.6.6.6\r\n", 403,
         "request refused: 403, from 127.0.0.2, /room: "},
        {"127.0.0.1", "GET /room HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
         "X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n", 426, "request refused: 426, from 192.0.2.1, /room: "},
        {"127.0.0.2", PLAIN("6.6.6.example"), "X-Forwarded-For: 6.6.6.6\r\n", 421,
         "request refused: 421, from 127.0.0.2, /page: "},
        {"127.0.0.1", "GET /room HTTP/1.1\r\n", "X-Forwarded-For: 6.6.6.6\r\n", 400, "request refused: 400, from 127.0.0.1"},
        {"127.0.0.1", ASK, "Bad Name: 6.6.6.6\r\n", 400, "request refused: 400, from 127.0.0.1"},
    };
    wss_options options = {0};
    options.proxies = "127.0.0.1";
    wss_server *server = serve(&options);
    for (size_t i = 0; i < COUNT(samples); i++) {
        logged[0] = 0;
        CHECK_INT(ask_plainly(server, samples[i].source, samples[i].request, samples[i].lines), samples[i].status);
        if (!strstr(logged, samples[i].want)) printf("%s, in place of %s\n", logged, samples[i].want);
        CHECK(strstr(logged, samples[i].want) != NULL);
        CHECK(strstr(logged, "6.6.6.6") == NULL);
    }
    step_end(server);
}

/* ---- how many of one address ---- */

static void limit_of_direct_clients(void) {
    wss_options options = {0};
    wss_stats stats;
    options.max_per_address = 2;
    wss_server *server = serve(&options);
    step_client *one = enter(server, "127.0.0.3", "", 101);
    step_client *two = enter(server, "127.0.0.3", "X-Forwarded-For: 192.0.2.1\r\n", 101); /* that helps nobody */
    step_client *three = enter(server, "127.0.0.3", "X-Forwarded-For: 192.0.2.2\r\n", -1); /* unanswered */
    CHECK(strstr(logged, "a client was closed unanswered, from 127.0.0.3: its address has options.max_per_address") != NULL);
    CHECK_INT(refused_for(server, WSS_REFUSED_PER_ADDRESS), 1);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.refused, 1);
    CHECK_INT(stats.refused_status[5], 0); /* nothing was said */
    CHECK_INT(stats.connections, 2);
    step_client *other = enter(server, "127.0.0.4", "", 101);
    leave(server, three, 0);
    leave(server, one, 0);
    one = enter(server, "127.0.0.3", "", 101); /* given back */
    leave(server, two, 1);
    two = enter(server, "127.0.0.3", "", 101); /* also after a reset */
    leave(server, enter(server, "127.0.0.3", "", -1), 0);
    CHECK_INT(refused_for(server, WSS_REFUSED_PER_ADDRESS), 2);
    leave(server, one, 0);
    leave(server, two, 0);
    leave(server, other, 0);
    step_end(server);
}

static void limit_of_proxied_clients(void) {
    static const char a[] = "X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n";
    static const char b[] = "X-Forwarded-For: 192.0.2.2\r\n";
    for (int variant = 0; variant < 2; variant++) {
        wss_options options = {0};
        step_client *clients[12];
        wss_stats stats;
        queue = variant ? wss_queue_create(NULL, NULL) : NULL;
        options.queue = queue;
        options.proxies = "127.0.0.1";
        options.max_per_address = 2;
        wss_server *server = serve(&options);
        clients[0] = enter(server, "127.0.0.1", a, 101);
        clients[1] = enter(server, "127.0.0.1", a, 101);
        leave(server, enter(server, "127.0.0.1", a, 503), 0);
        CHECK(strstr(logged, "request refused: 503, from 192.0.2.1, /room: ") != NULL);
        CHECK(strstr(logged, "options.max_per_address") != NULL);
        CHECK(strstr(logged, "6.6.6.6") == NULL);
        CHECK_INT(refused_for(server, WSS_REFUSED_PER_ADDRESS), 1);
        wss_get_stats(server, &stats);
        CHECK_INT(stats.refused_status[5], 1);
        CHECK_INT(ask_plainly(server, "127.0.0.1", PLAIN("localhost"), a), 503); /* pages likewise */
        CHECK_INT(refused_for(server, WSS_REFUSED_PER_ADDRESS), 2);
        clients[2] = enter(server, "127.0.0.1", b, 101); /* others */
        leave(server, clients[0], 0);
        clients[0] = enter(server, "127.0.0.1", a, 101); /* given back */
        leave(server, clients[1], 1);
        clients[1] = enter(server, "127.0.0.1", a, 101);
        leave(server, enter(server, "127.0.0.1", a, 503), 0); /* who was refused counted for nothing */
        leave(server, enter(server, "127.0.0.1", a, 503), 0);
        /* a network of IPv6 */
        clients[3] = enter(server, "127.0.0.1", "X-Forwarded-For: 2001:db8::1\r\n", 101);
        clients[4] = enter(server, "127.0.0.1", "X-Forwarded-For: 2001:db8::2\r\n", 101);
        leave(server, enter(server, "127.0.0.1", "X-Forwarded-For: 2001:db8::ffff:3\r\n", 503), 0);
        clients[5] = enter(server, "127.0.0.1", "X-Forwarded-For: 2001:db8:0:1::3\r\n", 101);
        /* the proxy's own, as many as it likes, also where it names itself */
        for (int i = 6; i < 10; i++) clients[i] = enter(server, "127.0.0.1", i & 1 ? "X-Forwarded-For: 127.0.0.1\r\n" : "", 101);
        /* who comes by himself and behind the proxy is the same */
        clients[10] = enter(server, "127.0.0.9", "", 101);
        clients[11] = enter(server, "127.0.0.1", "X-Forwarded-For: 127.0.0.9\r\n", 101);
        leave(server, enter(server, "127.0.0.1", "X-Forwarded-For: 127.0.0.9\r\n", 503), 0);
        leave(server, enter(server, "127.0.0.9", "", -1), 0);
        for (size_t i = 0; i < COUNT(clients); i++) leave(server, clients[i], (int)(i & 1));
        wss_get_stats(server, &stats);
        CHECK_INT(stats.connections, 0);
        CHECK_INT(stats.closed_places, 0);
        for (uint32_t i = 0; i < server->address_lists; i++) CHECK(server->addresses[i] == NULL);
        step_end(server);
        if (queue) CHECK_INT(wss_queue_destroy(queue), WSS_OK);
        queue = NULL;
    }
}

/* Every allocation of a client's arrival behind a proxy fails in turn: it is told, or closed, and nothing is left. */
static void no_memory_for_a_proxied_client(void) {
    static const char *const lines[] = {"X-Forwarded-For: 192.0.2.1\r\n", "X-Forwarded-For: 2001:db8::1\r\n"};
    int told = 0;
    for (size_t i = 0; i < COUNT(lines); i++)
        for (int on = 0; on < 2; on++)
            for (long at = 1;; at++) {
                wss_options options = {0};
                options.proxies = "127.0.0.1";
                options.max_per_address = 2;
                wss_server *server = serve(&options);
                step_client *client = come_from(server, "127.0.0.1");
                step_fail_in = at;
                step_fail_on = on;
                step_failed = 0;
                unanswered = 0;
                int status = ask(server, client, "", 0, ASK, lines[i]);
                step_fail_in = 0;
                step_fail_on = 0;
                if (status == 0 && unanswered) { /* the handler could not, so the server does when it is time */
                    step_time(server, 10100);
                    while (step_receive(client)) settle(server);
                    status = status_of(client);
                    CHECK_INT(status, 503);
                }
                if (status != 101 && status != 503 && status != -1) printf("allocation %ld: %d\n", at, status);
                CHECK(status == 101 || status == 503 || status == -1);
                if (status == 101 && visits[CONNECT].times) CHECK(strstr(lines[i], visits[CONNECT].address) != NULL);
                told += status == 503;
                leave(server, client, 0);
                if (status == 101) leave(server, enter(server, "127.0.0.1", lines[i], 101), 0);
                for (uint32_t list = 0; list < server->address_lists; list++) CHECK(server->addresses[list] == NULL);
                step_end(server);
                CHECK(at < 100);
                if (!step_failed || at >= 100) break;
            }
    CHECK(told >= 4);
}

/* ---- PROXY headers ---- */

static wss_server *serve_with_headers(wss_options *options) {
    options->proxy_protocol = 1;
    if (!options->proxies) options->proxies = "127.0.0.1, 10.0.0.0/8";
    return serve(options);
}

static void proxy_headers(void) {
    static const char mapped[] = "PROXY TCP6 ::ffff:192.0.2.1 ::1 4711 443\r\n";
    static const char unknown[] = "PROXY UNKNOWN\r\n";
    static const char udp[] = "\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\xc0\0\x02\x01\x0a\0\0\x01\x12\x67\x01\xbb";
    static const char local_client[] = "\r\n\r\n\0\r\nQUIT\n\x21\x31\0\x04/run";
    static const char short_v2[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\xc0\0\x02\x01";
    static const char wrong_version[] = "\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0";
    static const char trusted[] = "PROXY TCP4 10.0.0.7 10.0.0.1 4711 443\r\n";
    static const char bad[] = "PROXY TCP4 192.0.2.1 10.0.0.1 4711 443 1\r\n";
    static const char forged[] = "X-Forwarded-For: 6.6.6.6\r\n";
    static const char told[] = "X-Forwarded-For: 6.6.6.6, 192.0.2.5\r\n";
#define HEADER(text) text, sizeof text - 1
    static const struct {
        const char *source;
        const char *header;
        size_t size;
        const char *lines;
        int status;
        const char *want; /* NULL: the socket's */
        int port;
    } samples[] = {
        {"127.0.0.1", HEADER(line_v1), "", 101, "192.0.2.1", 4711},
        {"127.0.0.1", HEADER(line_v1), forged, 101, "192.0.2.1", 4711}, /* a client's own line */
        {"127.0.0.1", HEADER(mapped), "", 101, "192.0.2.1", 4711},
        {"127.0.0.1", HEADER(bytes_v2), "", 101, "2001:db8::7", 65535},
        {"127.0.0.1", HEADER(local_v2), "", 101, NULL, 0},
        {"127.0.0.1", HEADER(local_v2), told, 101, "192.0.2.5", 0}, /* then it is the proxy that asks */
        {"127.0.0.1", HEADER(unknown), "", 101, NULL, 0},
        {"127.0.0.1", HEADER(unknown), forged, 101, NULL, 0}, /* its client's line, whoever that is */
        {"127.0.0.1", HEADER(unknown), told, 101, NULL, 0},
        {"127.0.0.1", HEADER(udp), "", 101, NULL, 0},
        {"127.0.0.1", HEADER(udp), told, 101, NULL, 0},
        {"127.0.0.1", HEADER(local_client), told, 101, NULL, 0},
        {"127.0.0.1", HEADER(trusted), "", 101, "10.0.0.7", 4711}, /* a proxy behind a proxy */
        {"127.0.0.1", HEADER(trusted), told, 101, "192.0.2.5", 0},
        {"127.0.0.1", "", 0, "", 400, NULL, 0},
        {"127.0.0.1", "", 0, told, 400, NULL, 0},
        {"127.0.0.1", HEADER(bad), "", 400, NULL, 0},
        {"127.0.0.1", HEADER(short_v2), "", 400, NULL, 0},
        {"127.0.0.1", HEADER(wrong_version), "", 400, NULL, 0},
        {"127.0.0.1", "PROXY UNKNOWN\n", 14, "", 400, NULL, 0},
        {"127.0.0.1", "\r\n", 2, "", 400, NULL, 0},
        {"127.0.0.2", "", 0, "", 101, NULL, 0}, /* not a proxy */
        {"127.0.0.2", "\r\n", 2, forged, 101, NULL, 0},
        {"127.0.0.2", HEADER(line_v1), "", 400, NULL, 0},
        {"127.0.0.2", HEADER(bytes_v2), "", 400, NULL, 0},
        {"127.0.0.2", HEADER(local_v2), "", 400, NULL, 0},
        {"127.0.0.2", HEADER(unknown), "", 400, NULL, 0},
    };
    wss_options options = {0};
    wss_server *server = serve_with_headers(&options);
    for (size_t i = 0; i < COUNT(samples); i++) {
        memset(visits, 0, sizeof visits);
        char line[100];
        logged[0] = 0;
        step_now += 1000; /* so that no line is left out */
        step_client *client = come_from(server, samples[i].source);
        int status = ask(server, client, samples[i].header, samples[i].size, ASK, samples[i].lines);
        const char *want = samples[i].want ? samples[i].want : samples[i].source;
        int port = samples[i].want ? samples[i].port : own_port(client);
        if (status != samples[i].status) printf("header %zu: %d\n", i, status);
        CHECK_INT(status, samples[i].status);
        leave(server, client, (int)(i & 1));
        CHECK(strstr(logged, "6.6.6.6") == NULL);
        if (status == 101) expect_visit(UPGRADE, want, port, 1);
        if (status == 101) expect_visit(CONNECT, want, port, 1);
        if (status == 101) expect_visit(DISCONNECT, want, port, 1);
        snprintf(line, sizeof line, "connection ended: %s, /", want);
        CHECK_INT(strstr(logged, line) != NULL, status == 101);
        if (status == 101) continue;
        snprintf(line, sizeof line, "request refused: 400, from %s: ", samples[i].source);
        if (!strstr(logged, line)) printf("header %zu: %s", i, logged);
        CHECK(strstr(logged, line) != NULL);
        CHECK(strstr(logged, "options.proxy_protocol") != NULL);
        CHECK_INT(visits[UPGRADE].times, 0);
    }
    step_end(server);
    /* Where nobody asked for headers a trusted proxy's is refused too. */
    wss_options without = {0};
    without.proxies = "127.0.0.1";
    server = serve(&without);
    step_client *client = come_from(server, "127.0.0.1");
    CHECK_INT(ask(server, client, line_v1, sizeof line_v1 - 1, ASK, ""), 400);
    leave(server, client, 0);
    step_end(server);
}

/* One verdict, however it is cut: in two at every place, and byte by byte. */
static void proxy_headers_in_pieces(void) {
    static const struct {
        const char *source;
        const char *header;
        size_t size;
        int status;
    } samples[] = {
        {"127.0.0.1", HEADER(line_v1), 101}, {"127.0.0.1", HEADER(bytes_v2), 101}, {"127.0.0.1", HEADER(local_v2), 101},
        {"127.0.0.2", HEADER(line_v1), 400}, {"127.0.0.2", HEADER(bytes_v2), 400}, {"127.0.0.1", "", 0, 400},
        {"127.0.0.2", "\r\n", 2, 101},       {"127.0.0.1", "PROXY TCP4 x\r\n", 14, 400},
        {"127.0.0.1", "PROXY UNKNOWN\r\n\r\n", 17, 101}, /* and an empty line before the request */
    };
    wss_options options = {0};
    wss_server *server = serve_with_headers(&options);
    for (size_t i = 0; i < COUNT(samples); i++) {
        char text[512];
        size_t size = samples[i].size;
        memcpy(text, samples[i].header, size);
        size += (size_t)snprintf(text + size, sizeof text - size, "%s\r\n", ASK);
        for (size_t cut = 0; cut < size; cut++) { /* 0: each byte by itself */
            step_client *client = come_from(server, samples[i].source);
            memset(visits, 0, sizeof visits);
            for (size_t at = 0; at < size; at += cut ? at ? size - cut : cut : 1)
                say(server, client, text + at, cut ? at ? size - cut : cut : 1);
            if (status_of(client) != samples[i].status) printf("piece %zu of header %zu: %d\n", cut, i, status_of(client));
            CHECK_INT(status_of(client), samples[i].status);
            if (i == 0) expect_visit(CONNECT, "192.0.2.1", 4711, 1);
            if (i == 1) expect_visit(CONNECT, "2001:db8::7", 65535, 1);
            leave(server, client, 0);
        }
    }
    step_end(server);
}

/* A header counts as part of the head, is waited for no longer, and its client stands in the log whatever comes behind it. */
static void bounds_of_proxy_headers(void) {
    static const char huge[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff\xc0\0\x02\x01\x0a\0\0\x01\x12\x67\x01\xbb";
    static const char endless[] = "PROXY UNKNOWN and so on, and so on, and so on, and so on, and so on, and so on, and so on, and on";
    char more[1024];
    wss_options options = {0};
    options.max_head = 600;
    options.handshake_ms = 5000;
    wss_server *server = serve_with_headers(&options);
    memset(more, 'x', sizeof more);
    step_client *client = come_from(server, "127.0.0.1");
    say(server, client, huge, sizeof huge - 1);
    say(server, client, more, 600 - (sizeof huge - 1));
    CHECK_INT(status_of(client), 0);
    say(server, client, more, 1);
    CHECK_INT(status_of(client), 431);
    leave(server, client, 0);
    client = come_from(server, "127.0.0.1");
    say(server, client, endless, sizeof endless - 1);
    say(server, client, more, 107 - sizeof endless);
    CHECK_INT(status_of(client), 0);
    say(server, client, more, 1);
    CHECK_INT(status_of(client), 400);
    leave(server, client, 0);
    logged[0] = 0;
    client = come_from(server, "127.0.0.1");
    say(server, client, line_v1, sizeof line_v1 - 1);
    say(server, client, "GET / HTTP/1.1\r\nA: ", 19);
    say(server, client, more, 600);
    CHECK_INT(status_of(client), 431);
    CHECK(strstr(logged, "request refused: 431, from 192.0.2.1") != NULL);
    leave(server, client, 0);
    client = come_from(server, "127.0.0.1");
    say(server, client, line_v1, 20);
    step_time(server, 4900);
    CHECK_INT(status_of(client), 0);
    step_time(server, 200);
    while (step_receive(client)) settle(server);
    CHECK_INT(status_of(client), 408);
    leave(server, client, 0);
    step_end(server);
}

/* One that leaves no place for a request is refused as it comes, and costs no further look. */
static void proxy_headers_that_fill_the_head(void) {
    enum { MOST = 600, BEGIN = 28 };
    static const char begin[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\0\xc0\0\x02\x01\x0a\0\0\x01\x12\x67\x01\xbb";
    wss_options options = {0};
    options.max_head = MOST;
    wss_server *server = serve_with_headers(&options);
    for (int size = MOST - 1; size <= MOST + 1; size++) {
        char header[MOST + 1] = {0};
        memcpy(header, begin, BEGIN);
        header[14] = (char)((size - 16) >> 8);
        header[15] = (char)((size - 16) & 255);
        step_client *client = come_from(server, "127.0.0.1");
        say(server, client, header, (size_t)size);
        CHECK_INT(status_of(client), size < MOST ? 0 : 431);
        if (size < MOST) say(server, client, "GE", 2);
        CHECK_INT(status_of(client), size < MOST ? 414 : 431);
        leave(server, client, 0);
    }
    step_end(server);
}

/* max_per_address counts whom the header names. */
static void limit_behind_headers(void) {
    wss_options options = {0};
    step_client *clients[2];
    options.max_per_address = 2;
    wss_server *server = serve_with_headers(&options);
    for (int i = 0; i < 2; i++) {
        clients[i] = come_from(server, "127.0.0.1");
        CHECK_INT(ask(server, clients[i], line_v1, sizeof line_v1 - 1, ASK, ""), 101);
    }
    step_client *client = come_from(server, "127.0.0.1");
    CHECK_INT(ask(server, client, line_v1, sizeof line_v1 - 1, ASK, ""), 503);
    leave(server, client, 0);
    client = come_from(server, "127.0.0.1");
    CHECK_INT(ask(server, client, bytes_v2, sizeof bytes_v2 - 1, ASK, ""), 101);
    leave(server, client, 0);
    leave(server, clients[0], 1);
    client = come_from(server, "127.0.0.1");
    CHECK_INT(ask(server, client, line_v1, sizeof line_v1 - 1, ASK, ""), 101);
    leave(server, client, 0);
    leave(server, clients[1], 0);
    for (int i = 0; i < 5; i++) { /* the proxy's own checks */
        clients[i & 1] = come_from(server, "127.0.0.1");
        CHECK_INT(ask(server, clients[i & 1], local_v2, sizeof local_v2 - 1, PLAIN("localhost"), ""), 200);
        leave(server, clients[i & 1], 0);
    }
    step_end(server);
}

/* ---- rebinding ---- */

static void rebinding(void) {
    static const struct {
        const char *source;
        const char *request;
        const char *lines;
        int status;
    } samples[] = {
        /* a page of attacker.example, whose name now leads to this machine */
        {"127.0.0.1", ASKS("attacker.example:9201"), "Origin: http://attacker.example:9201\r\n", 421},
        {"127.0.0.2", ASKS("attacker.example"), "Origin: http://attacker.example\r\n", 421},
        {"127.0.0.1", ASKS("localhost.attacker.example"), "Origin: http://localhost.attacker.example\r\n", 421},
        {"127.0.0.1", PLAIN("attacker.example:9201"), "", 421},
        {"127.0.0.1", PLAIN("attacker.example"), "X-Forwarded-For: 192.0.2.1\r\n", 421}, /* a page can add that to a fetch */
        {"127.0.0.1", "GET http://attacker.example/page HTTP/1.1\r\nHost: localhost\r\n", "", 421},
        /* pages of this machine */
        {"127.0.0.1", ASKS("localhost:9201"), "Origin: http://localhost:9201\r\n", 101},
        {"127.0.0.1", ASKS("app.localhost"), "Origin: http://app.localhost\r\n", 101},
        {"127.0.0.1", ASKS("127.0.0.1:9201"), "Origin: http://127.0.0.1:9201\r\n", 101},
        {"127.0.0.1", ASKS("[::1]"), "Origin: http://[::1]\r\n", 101},
        {"127.0.0.1", PLAIN("localhost"), "", 200},
        {"127.0.0.1", PLAIN("localhost."), "", 200},
        {"127.0.0.1", "GET /page HTTP/1.0\r\n", "", 200}, /* no browser leaves the host out */
        /* proxies, and programs that are no browsers */
        {"127.0.0.1", ASKS("a.example"), "Origin: http://a.example\r\nX-Forwarded-For: 192.0.2.1\r\n", 101},
        {"127.0.0.1", ASKS("a.example"), "Origin: http://a.example\r\nForwarded: for=192.0.2.1\r\n", 101},
        {"127.0.0.1", ASKS("a.example"), "Origin: http://a.example\r\nVia: 1.1 x\r\n", 101},
        {"127.0.0.1", ASKS("a.example"), "Origin: https://a.example\r\n", 101},
        {"127.0.0.1", ASKS("a.example"), "", 101},
        /* whose pages are foreign is another question */
        {"127.0.0.1", ASKS("localhost"), "Origin: http://attacker.example\r\n", 403},
        {"127.0.0.1", ASKS("a.example"), "Origin: null\r\n", 403},
    };
    wss_options options = {0};
    wss_server *server = serve(&options);
    for (size_t i = 0; i < COUNT(samples); i++) {
        logged[0] = 0;
        int status = ask_plainly(server, samples[i].source, samples[i].request, samples[i].lines);
        if (status != samples[i].status) printf("%d: %s%s\n", status, samples[i].request, samples[i].lines);
        CHECK_INT(status, samples[i].status);
        CHECK_INT(strstr(logged, "See options.hosts") != NULL, samples[i].status == 421);
        CHECK_INT(strstr(logged, "See options.origins") != NULL, samples[i].status == 403);
    }
    CHECK_INT(refused_for(server, WSS_REFUSED_HOST), 6);
    CHECK_INT(refused_for(server, WSS_REFUSED_ORIGIN), 2);
    step_end(server);
}

/* options.hosts takes the place of what is known of this machine; a trusted proxy brings pages of any host. */
static void rebinding_with_options(void) {
    static const char page[] = "Origin: http://tool.example\r\n";
    wss_options hosts = {0};
    hosts.hosts = "tool.example, other.example:8080";
    wss_server *server = serve(&hosts);
    CHECK_INT(ask_plainly(server, "127.0.0.1", ASKS("tool.example"), page), 101);
    CHECK_INT(ask_plainly(server, "127.0.0.1", PLAIN("other.example:8080"), ""), 200);
    CHECK_INT(ask_plainly(server, "127.0.0.1", PLAIN("other.example"), ""), 421);
    CHECK_INT(ask_plainly(server, "127.0.0.1", ASKS("localhost"), ""), 421);
    CHECK_INT(ask_plainly(server, "127.0.0.1", "GET /page HTTP/1.0\r\n", ""), 200);
    CHECK_INT(ask_plainly(server, "127.0.0.1", ASKS("attacker.example"), "Via: 1.1 x\r\n"), 421);
    step_end(server);
    wss_options proxied = {0};
    proxied.proxies = "127.0.0.1";
    server = serve(&proxied);
    CHECK_INT(ask_plainly(server, "127.0.0.1", PLAIN("tool.example"), ""), 200);
    CHECK_INT(ask_plainly(server, "127.0.0.2", PLAIN("tool.example"), "X-Forwarded-For: 192.0.2.1\r\n"), 421);
    /* what it says of host and scheme counts for origins */
    CHECK_INT(ask_plainly(server, "127.0.0.1", ASKS("10.0.0.1:9000"), "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: "
              "tool.example\r\nX-Forwarded-Proto: https\r\nOrigin: https://tool.example\r\n"), 101);
    CHECK_INT(ask_plainly(server, "127.0.0.1", ASKS("10.0.0.1:9000"), "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: "
              "tool.example\r\nX-Forwarded-Proto: https\r\nOrigin: http://tool.example\r\n"), 403);
    CHECK_INT(ask_plainly(server, "127.0.0.2", ASKS("10.0.0.1:9000"), "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: "
              "tool.example\r\nX-Forwarded-Proto: https\r\nOrigin: https://tool.example\r\n"), 403);
    step_end(server);
    /* A PROXY header says whether it comes from this machine. */
    static const char here[] = "PROXY TCP4 127.0.0.1 127.0.0.1 4711 443\r\n";
    wss_options headers = {0};
    server = serve_with_headers(&headers);
    step_client *client = come_from(server, "127.0.0.1");
    CHECK_INT(ask(server, client, line_v1, sizeof line_v1 - 1, ASKS("tool.example"), page), 101);
    leave(server, client, 0);
    client = come_from(server, "127.0.0.1");
    CHECK_INT(ask(server, client, here, sizeof here - 1, ASKS("tool.example"), page), 421);
    leave(server, client, 0);
    client = come_from(server, "127.0.0.1");
    CHECK_INT(ask(server, client, local_v2, sizeof local_v2 - 1, ASKS("tool.example"), page), 421);
    leave(server, client, 0);
    step_end(server);
}

/* ---- Unix sockets ---- */

static int ask_by_path(wss_server *server, const char *path, const char *before, size_t size, const char *request,
                       const char *lines) {
    step_client *client = come_by_path(path);
    memset(visits, 0, sizeof visits);
    int status = ask(server, client, before, size, request, lines);
    leave(server, client, 0);
    return status;
}

static void unix_sockets(void) {
    char path[64];
    char address[96];
    static const char lines[] = "X-Forwarded-For: 6.6.6.6, 2001:db8::5\r\n";
    snprintf(path, sizeof path, "build/test-%d.sock", (int)getpid());
    snprintf(address, sizeof address, "unix:%s", path);
    for (int trusted = 0; trusted < 2; trusted++) {
        wss_options options = {0};
        options.address = address;
        options.max_per_address = 1;
        if (trusted) options.proxies = "127.0.0.1, unix:";
        wss_server *server = serve(&options);
        CHECK_INT(ask_by_path(server, path, "", 0, ASK, ""), 101);
        expect_visit(UPGRADE, "unix", 0, 1);
        expect_visit(CONNECT, "unix", 0, 1);
        expect_visit(DISCONNECT, "unix", 0, 1);
        CHECK_INT(visits[DISCONNECT].uid, getuid());
        CHECK_INT(ask_by_path(server, path, "", 0, ASK, lines), 101);
        expect_visit(CONNECT, trusted ? "2001:db8::5" : "unix", 0, 1);
        expect_visit(DISCONNECT, trusted ? "2001:db8::5" : "unix", 0, 1);
        CHECK_INT(visits[DISCONNECT].uid, trusted ? -1 : (int)getuid()); /* the proxy's is not the client's */
        /* no page comes by a path: any host may be asked for */
        CHECK_INT(ask_by_path(server, path, "", 0, ASKS("a.example"), "Origin: http://a.example\r\n"), 101);
        CHECK_INT(ask_by_path(server, path, "", 0, PLAIN("a.example"), ""), 200);
        /* as many as they like, but of a client that the proxy names */
        step_client *one = come_by_path(path);
        step_client *two = come_by_path(path);
        CHECK_INT(ask(server, one, "", 0, ASK, lines), 101);
        CHECK_INT(ask(server, two, "", 0, ASK, lines), trusted ? 503 : 101);
        CHECK_INT(ask_by_path(server, path, "", 0, ASK, ""), 101);
        CHECK_INT(ask_by_path(server, path, "", 0, ASK, ""), 101);
        leave(server, one, 0);
        leave(server, two, 0);
        CHECK_INT(ask_by_path(server, path, line_v1, sizeof line_v1 - 1, ASK, ""), 400);
        CHECK(strstr(logged, "request refused: 400, from unix: ") != NULL);
        step_end(server);
    }
    wss_options options = {0};
    options.address = address;
    options.proxies = "unix:";
    wss_server *server = serve_with_headers(&options);
    CHECK_INT(ask_by_path(server, path, line_v1, sizeof line_v1 - 1, ASK, ""), 101);
    expect_visit(DISCONNECT, "192.0.2.1", 4711, 1);
    CHECK_INT(ask_by_path(server, path, local_v2, sizeof local_v2 - 1, ASK, ""), 101);
    expect_visit(DISCONNECT, "unix", 0, 1);
    CHECK_INT(ask_by_path(server, path, "", 0, ASK, ""), 400);
    step_end(server);
}

int main(void) {
    alarm(100);
    mkdir("build", 0777);
    RUN(who_it_is);
    RUN(other_lines);
    RUN(log_names_the_client);
    RUN(limit_of_direct_clients);
    RUN(limit_of_proxied_clients);
    RUN(no_memory_for_a_proxied_client);
    RUN(proxy_headers);
    RUN(proxy_headers_in_pieces);
    RUN(bounds_of_proxy_headers);
    RUN(proxy_headers_that_fill_the_head);
    RUN(limit_behind_headers);
    RUN(rebinding);
    RUN(rebinding_with_options);
    RUN(unix_sockets);
    return test_end("frontdoor");
}
