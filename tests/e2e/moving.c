/* Moving on without losing anybody: closes of a stop that are spread, with the code that was asked for; requests meanwhile; a
   listener that is handed on; connections that have lived long enough. */
#include "../step.h"

#include <sys/stat.h>
#include <sys/un.h>

enum { CLIENTS = 20 };

static int ends;
static int codes[16];
static int last_cause;
static wss_conn asked;

static void on_data(const wss_event *e) {
    if (e->size == 3 && memcmp(e->data, "bye", 3) == 0) wss_close(e->server, e->conn, 4000, NULL);
    else wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

static void on_end(const wss_event *e) {
    ends++;
    codes[e->code % 16]++;
    last_cause = e->cause;
}

static void on_http(const wss_event *e) {
    wss_reply(e->server, e->conn, NULL);
}

static void on_http_later(const wss_event *e) {
    asked = e->conn;
}

static wss_server *serve(wss_options *options) {
    ends = 0;
    last_cause = 0;
    memset(codes, 0, sizeof codes);
    wss_server *server = step_server(options);
    wss_on_data(server, on_data, NULL);
    wss_on_disconnect(server, on_end, NULL);
    wss_on_http(server, on_http, NULL);
    return server;
}

/* How many of these have been sent a Close with this code, which they answer. */
static int closed(wss_server *server, step_client *clients[CLIENTS], int code) {
    char payload[200];
    int count = 0;
    for (int i = 0; i < CLIENTS; i++) {
        size_t size = 0;
        if (!clients[i]) {
            count++;
            continue;
        }
        if (step_take(server, clients[i], payload, &size) != 0x88) continue;
        CHECK_INT(size, 2);
        CHECK_INT((unsigned char)payload[0] << 8 | (unsigned char)payload[1], code);
        step_frame(server, clients[i], 0x88, payload, size);
        step_free(clients[i]);
        clients[i] = NULL;
        count++;
    }
    return count;
}

static void open_all(wss_server *server, step_client *clients[CLIENTS]) {
    for (int i = 0; i < CLIENTS; i++) clients[i] = step_open(server);
}

static void free_all(step_client *clients[CLIENTS]) {
    for (int i = 0; i < CLIENTS; i++)
        if (clients[i]) step_free(clients[i]);
}

static const char *ask_once(wss_server *server, const char *request) {
    static char answer[2000];
    step_client *client = step_connect(server);
    snprintf(answer, sizeof answer, "%s", step_ask(server, client, request));
    step_free(client);
    return answer;
}

#define PLAIN "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

/* Evenly over the time; meanwhile everything works for those who are there, and newcomers get 503. */
static void spread(void) {
    step_client *clients[CLIENTS];
    wss_options options = {0};
    options.stop_spread_ms = 2100;
    options.stop_code = WSS_CLOSE_RESTART;
    wss_server *server = serve(&options);
    open_all(server, clients);
    wss_stop(server, 10000);
    step(server);
    CHECK_INT(closed(server, clients, 1012), 0);
    for (int tenth = 1; tenth <= 20; tenth++) {
        step_time(server, 100);
        int gone = closed(server, clients, 1012);
        CHECK(gone >= tenth - 1 && gone <= tenth + 1);
        if (tenth == 10) {
            char payload[200];
            size_t size = 0;
            CHECK(strncmp(ask_once(server, PLAIN), "HTTP/1.1 503 ", 13) == 0);
            CHECK(strncmp(ask_once(server, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n"), "HTTP/1.1 503 ", 13) == 0);
            step_frame(server, clients[CLIENTS - 1], 0x81, "still there", 11);
            CHECK_INT(step_take(server, clients[CLIENTS - 1], payload, &size), 0x81);
            CHECK_INT(size, 11);
            CHECK_INT(wss_broadcast_data(server, WSS_TEXT, "to all", 6), WSS_OK);
            step(server);
            CHECK_INT(step_take(server, clients[CLIENTS - 1], payload, &size), 0x81);
            for (int i = 0; i < CLIENTS - 1; i++)
                if (clients[i]) CHECK_INT(step_take(server, clients[i], payload, &size), 0x81);
        }
    }
    step_time(server, 200);
    CHECK_INT(closed(server, clients, 1012), CLIENTS);
    CHECK_INT(ends, CLIENTS);
    CHECK_INT(codes[1012 % 16], CLIENTS);
    CHECK_INT(last_cause, WSS_CAUSE_STOPPING);
    step(server);
    CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
    CHECK_INT(wss_broadcast_data(server, WSS_TEXT, "late", 4), WSS_ERR_STOPPED);
    free_all(clients);
    step_end(server);
}

/* Who was closed before has had his Close. */
static void spread_passes_by(void) {
    char payload[200];
    size_t size = 0;
    step_client *clients[3];
    wss_options options = {0};
    options.stop_spread_ms = 1000;
    wss_server *server = serve(&options);
    for (int i = 0; i < 3; i++) clients[i] = step_open(server);
    step_frame(server, clients[1], 0x81, "bye", 3);
    CHECK_INT(step_take(server, clients[1], payload, &size), 0x88);
    wss_stop(server, 10000);
    step(server);
    step_time(server, 1100);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(step_take(server, clients[i], payload, &size), i == 1 ? -1 : 0x88);
        step_frame(server, clients[i], 0x88, i == 1 ? "\x0f\xa0" : "\3\351", 2);
    }
    CHECK_INT(ends, 3);
    CHECK_INT(codes[4000 % 16], 1);
    CHECK_INT(codes[1001 % 16], 2);
    for (int i = 0; i < 3; i++) step_free(clients[i]);
    step_end(server);
}

/* At most half of the stop's own time; a stop of 0 ends it; and it is over when nobody is left. */
static void spread_ends(void) {
    for (int how = 0; how < 4; how++) {
        step_client *clients[CLIENTS];
        wss_options options = {0};
        options.stop_spread_ms = 60000;
        wss_server *server = serve(&options);
        open_all(server, clients);
        wss_stop(server, how == 0 ? 2000 : 100000);
        step(server);
        step_time(server, 900);
        int gone = closed(server, clients, 1001);
        CHECK_INT(gone, how == 0 ? 18 : 0);
        CHECK_INT(wss_send_data(server, asked, WSS_TEXT, "x", 1), WSS_ERR_GONE); /* not stopped */
        if (how == 0) step_time(server, 100);
        if (how == 1) wss_stop(server, 0);
        if (how == 2) wss_stop(server, 10);
        if (how == 3) free_all(clients);
        step_time(server, how == 2 ? 5 : 1);
        step(server);
        if (how == 3) memset(clients, 0, sizeof clients);
        if (how != 1) CHECK_INT(closed(server, clients, 1001), CLIENTS);
        CHECK_INT(wss_broadcast_data(server, WSS_TEXT, "late", 4), WSS_ERR_STOPPED);
        CHECK_INT(ends, CLIENTS);
        free_all(clients);
        step_end(server);
    }
}

/* A request that was there before is answered in its time, by its handler. */
static void asked_before(void) {
    wss_options options = {0};
    options.stop_spread_ms = 1000;
    wss_server *server = serve(&options);
    wss_on_http(server, on_http_later, NULL);
    step_client *stays = step_open(server);
    step_client *client = step_connect(server);
    step_ask(server, client, PLAIN);
    wss_stop(server, 10000);
    step_time(server, 200);
    CHECK_INT(wss_reply(server, asked, NULL), WSS_OK);
    CHECK(strncmp(step_ask(server, client, ""), "HTTP/1.1 200 ", 13) == 0);
    step_free(client);
    step_free(stays);
    step_end(server);
}

/* Without anybody a stop does not wait. */
static void nobody_is_there(void) {
    wss_options options = {0};
    options.stop_spread_ms = 5000;
    wss_server *server = serve(&options);
    wss_stop(server, 20000);
    step(server);
    CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
    step_end(server);
}

/* Who has connected before the stop may ask until the closes have been spread, also where nobody is in. */
static void asks_late(void) {
    for (int how = 0; how < 3; how++) {
        wss_options options = {0};
        options.stop_spread_ms = 1000;
        wss_server *server = serve(&options);
        CHECK(wss_listener(server, 0) >= 0);
        step_client *client = step_connect(server);
        step(server);
        wss_stop(server, 10000);
        step(server);
        step_time(server, 300);
        CHECK_INT(wss_poll(server, 0), WSS_OK);
        if (how == 0) CHECK(strncmp(step_ask(server, client, PLAIN), "HTTP/1.1 503 ", 13) == 0);
        if (how < 2) step_free(client);
        step(server);
        if (how == 2) step_time(server, 650);
        if (how == 2) CHECK_INT(wss_poll(server, 0), WSS_OK);
        if (how == 2) step_time(server, 60);
        step(server);
        if (how == 2) step_free(client);
        step(server);
        CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
        step_end(server);
    }
}

/* The last one leaves long before the time is over: the stop goes on in that moment. */
static void the_last_one_leaves(void) {
    wss_options options = {0};
    options.stop_spread_ms = 10000;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    wss_stop(server, 40000);
    step_time(server, 200);
    CHECK_INT(wss_poll(server, 0), WSS_OK);
    step_frame(server, client, 0x88, "\x03\xe8", 2);
    step_free(client);
    step(server);
    CHECK_INT(ends, 1);
    CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
    step_end(server);
}

static void fill_the_turn(void *arg) {
    wss_server *server = (wss_server *)arg;
    for (int i = 0; i < 256; i++) wss_broadcast_data(server, WSS_TEXT, "x", 1);
    wss_stop(server, 1000);
}

/* A turn that is full of broadcasts stops; who had asked meanwhile is answered, not reset. */
static void stop_in_a_full_turn(void) {
    static const char request[] = "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n";
    wss_options options = {0};
    wss_server *server = serve(&options);
    step_client *client = step_connect(server);
    step(server);
    CHECK_INT(send(client->fd, request, sizeof request - 1, 0), sizeof request - 1);
    CHECK_INT(wss_post(server, fill_the_turn, server), WSS_OK);
    step(server);
    CHECK(strncmp(step_ask(server, client, ""), "HTTP/1.1 503 ", 13) == 0);
    step_free(client);
    step_end(server);
}

/* From the stop on who connects waits for the successor, spread or not; a Unix path stays. */
static void handed_on(void) {
    for (int how = 0; how < 4; how++) {
        char address[48];
        snprintf(address, sizeof address, "unix:/tmp/wsserver-moving-%d", (int)getpid());
        const char *path = address + 5;
        struct stat info;
        wss_options options = {0};
        int is_unix = how & 2;
        if (is_unix) options.address = address;
        if (how & 1) options.stop_spread_ms = 1000;
        wss_server *server = serve(&options);
        CHECK_INT(wss_listener(server, 1), WSS_ERR_MISSING);
        CHECK_INT(wss_listener(server, -1), WSS_ERR_MISSING);
        CHECK_INT(wss_listener(NULL, 0), WSS_ERR_ARGUMENT);
        int kept = dup(wss_listener(server, 0));
        CHECK(kept >= 0);
        int port = options.port;
        step_client *there = is_unix ? NULL : step_open(server);
        wss_stop(server, 4000);
        CHECK_INT(wss_listener(server, 0), WSS_ERR_STOPPED);
        step(server);
        step_client *waits = is_unix ? NULL : step_connect(server);
        step_time(server, 5000);
        CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
        if (there) step_free(there);
        step_end(server);
        if (is_unix) CHECK(stat(path, &info) == 0 && S_ISSOCK(info.st_mode));

        char inherited[24];
        wss_options next = {0};
        snprintf(inherited, sizeof inherited, "fd:%d", kept);
        next.address = inherited;
        server = serve(&next);
        if (!is_unix) CHECK_INT(next.port, port);
        if (waits) CHECK(strncmp(step_ask(server, waits, PLAIN), "HTTP/1.1 200 ", 13) == 0);
        if (waits) step_free(waits);
        step_end(server);
        unlink(path);
    }
}

/* Each lives for its time, a quarter more or less, not all as long; also who is paused. */
static void lifetime(void) {
    step_client *clients[CLIENTS];
    wss_options options = {0};
    options.lifetime_ms = 100000;
    options.ping_ms = WSS_OFF;
    options.stop_code = 4000;
    wss_server *server = serve(&options);
    open_all(server, clients);
    int moments = 0;
    int before = 0;
    step_time(server, 74900);
    CHECK_INT(closed(server, clients, 4000), 0);
    for (int i = 0; i < 510; i++) {
        step_time(server, 100);
        int now = closed(server, clients, 4000);
        moments += now > before;
        before = now;
    }
    CHECK_INT(before, CLIENTS);
    CHECK(moments > CLIENTS / 2);
    CHECK_INT(last_cause, WSS_CAUSE_LIFETIME);
    CHECK_INT(codes[4000 % 16], CLIENTS);
    free_all(clients);
    step_end(server);
}

static wss_conn opened;

static void on_open(const wss_event *e) {
    opened = e->conn;
    wss_pause(e->server, e->conn);
}

static void lifetime_of_who_is_paused(void) {
    char payload[200];
    size_t size = 0;
    wss_options options = {0};
    options.lifetime_ms = 1000;
    wss_server *server = serve(&options);
    wss_on_connect(server, on_open, NULL);
    step_client *client = step_open(server);
    step_time(server, 1400);
    CHECK_INT(step_take(server, client, payload, &size), 0x88);
    step_free(client);
    step_end(server);
}

static void code_must_be_one(void) {
    static const int codes_tried[] = {999, 1004, 1005, 1006, 1015, 2999, 5000, -1, 1000, 1001, 1012, 1014, 3000, 4999};
    for (size_t i = 0; i < sizeof codes_tried / sizeof codes_tried[0]; i++) {
        wss_error why;
        wss_options options = {0};
        options.address = "127.0.0.1";
        options.stop_code = codes_tried[i];
        wss_server *server = wss_create(&options, &why);
        CHECK_INT(server != NULL, i >= 8);
        if (!server) CHECK(why.code == WSS_ERR_ARGUMENT && strstr(why.text, "stop_code") != NULL);
        CHECK_INT(wss_destroy(server), WSS_OK);
    }
}

int main(void) {
    alarm(100);
    RUN(spread);
    RUN(spread_passes_by);
    RUN(spread_ends);
    RUN(asked_before);
    RUN(nobody_is_there);
    RUN(asks_late);
    RUN(the_last_one_leaves);
    RUN(stop_in_a_full_turn);
    RUN(handed_on);
    RUN(lifetime);
    RUN(lifetime_of_who_is_paused);
    RUN(code_must_be_one);
    return test_end("moving");
}
