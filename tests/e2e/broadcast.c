/* Broadcasts of one turn leave together, and nobody can tell: order with sends and closes, newcomers, what is buffered, more
   of them than fit, and a client whose socket takes only a part. */
#include "../step.h"

static wss_conn conns[8];
static int connects;

static void on_connect(const wss_event *e) {
    conns[connects++] = e->conn;
}

static void say(const wss_event *e, const char *text) {
    CHECK_INT(wss_broadcast_data(e->server, WSS_TEXT, text, strlen(text)), WSS_OK);
}

static wss_server *serve(wss_options *options, wss_handler *on_data) {
    wss_server *server = step_server(options);
    connects = 0;
    wss_on_connect(server, on_connect, NULL);
    wss_on_data(server, on_data, NULL);
    return server;
}

/* What has come, payloads joined by blanks; a Close shows as its code. */
static const char *received(wss_server *server, step_client *client) {
    static char text[1 << 16];
    char payload[1 << 12];
    size_t size;
    int first;
    size_t at = 0;
    text[0] = 0;
    while ((first = step_take(server, client, payload, &size)) >= 0) {
        if (first == 0x88) at += (size_t)sprintf(text + at, "%d ", (unsigned char)payload[0] << 8 | (unsigned char)payload[1]);
        else at += (size_t)sprintf(text + at, "%.*s ", (int)size, payload);
    }
    return text;
}

static void on_mixed(const wss_event *e) {
    say(e, "1");
    CHECK_INT(wss_send_data(e->server, conns[0], WSS_TEXT, "2", 1), WSS_OK);
    say(e, "3");
    CHECK_INT(wss_send_data(e->server, e->conn, WSS_TEXT, "4", 1), WSS_OK);
    CHECK_INT(wss_broadcast_data_except(e->server, conns[0], WSS_TEXT, "5", 1), WSS_OK);
    say(e, "6");
    CHECK_INT(wss_close(e->server, conns[1], 4000, NULL), WSS_OK);
    say(e, "7");
}

static void order_is_kept(void) {
    wss_options options = {0};
    wss_server *server = serve(&options, on_mixed);
    step_client *clients[3];
    for (int i = 0; i < 3; i++) clients[i] = step_open(server);
    step_frame(server, clients[2], 0x81, "go", 2);
    CHECK_TEXT(received(server, clients[0]), "1 2 3 6 7 ");
    CHECK_TEXT(received(server, clients[1]), "1 3 5 6 4000 ");
    CHECK_TEXT(received(server, clients[2]), "1 3 4 5 6 7 ");
    for (int i = 0; i < 3; i++) step_free(clients[i]);
    step_end(server);
}

static void on_greet(const wss_event *e) {
    say(e, connects == 1 ? "first" : "second");
}

static void nothing_from_before_its_time(void) {
    static const char request[] = "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n";
    wss_options options = {0};
    wss_server *server = serve(&options, on_connect);
    wss_on_connect(server, on_greet, NULL);
    step_client *clients[2];
    for (int i = 0; i < 2; i++) clients[i] = step_connect(server);
    step(server);
    for (int i = 0; i < 2; i++) CHECK(send(clients[i]->fd, request, sizeof request - 1, 0) > 0);
    step(server);
    int early = 0;
    int both = 0;
    for (int i = 0; i < 2; i++) {
        while (step_receive(clients[i])) continue;
        char *head = strstr(clients[i]->data, "\r\n\r\n");
        CHECK(head != NULL);
        clients[i]->size -= (size_t)(head + 4 - clients[i]->data);
        memmove(clients[i]->data, head + 4, clients[i]->size + 1);
        const char *got = received(server, clients[i]);
        early += strcmp(got, "second ") == 0;
        both += strcmp(got, "first second ") == 0;
        step_free(clients[i]);
    }
    CHECK_INT(early, 1);
    CHECK_INT(both, 1);
    step_end(server);
}

static size_t buffered[2];

static void on_measure(const wss_event *e) {
    buffered[0] = wss_buffered(e->server, conns[0]);
    say(e, "0123456789");
    buffered[1] = wss_buffered(e->server, conns[0]);
}

static void what_waits_is_told(void) {
    wss_options options = {0};
    wss_stats stats;
    wss_server *server = serve(&options, on_measure);
    step_client *client = step_open(server);
    step_client *other = step_open(server);
    step_frame(server, other, 0x81, "go", 2);
    CHECK_INT(buffered[0], 0);
    CHECK_INT(buffered[1], 12);
    CHECK_INT(wss_buffered(server, conns[0]), 0);
    CHECK_TEXT(received(server, client), "0123456789 ");
    wss_get_stats(server, &stats);
    CHECK_INT(stats.messages_out, 2);
    CHECK_INT(stats.bytes_out - 2 * 129, 24);
    step_free(client);
    step_free(other);
    step_end(server);
}

enum { MANY = 700, LONG = 200 };

static void on_many(const wss_event *e) {
    char text[LONG];
    for (int i = 0; i < MANY; i++) {
        memset(text, 'x', sizeof text);
        sprintf(text, "%d", i);
        CHECK_INT(wss_broadcast_data(e->server, WSS_BINARY, text, sizeof text), WSS_OK);
    }
}

/* More than leave together, and more than the socket of a client that does not read takes at once. */
static void many_at_once(void) {
    wss_options options = {0};
    wss_server *server = serve(&options, on_many);
    step_client *clients[2];
    for (int i = 0; i < 2; i++) clients[i] = step_open(server);
    int small = 4096;
    wss__conn *conn = wss__conn_find(server, conns[1]);
    setsockopt(conn->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    step_frame(server, clients[0], 0x81, "go", 2);
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < MANY; k++) {
            char payload[1 << 12];
            size_t size = 0;
            CHECK_INT(step_take(server, clients[i], payload, &size), 0x82);
            CHECK_INT(size, LONG);
            CHECK_INT(atoi(payload), k);
        }
    for (int i = 0; i < 2; i++) step_free(clients[i]);
    step_end(server);
}

int main(void) {
    alarm(120);
    RUN(order_is_kept);
    RUN(nothing_from_before_its_time);
    RUN(what_waits_is_told);
    RUN(many_at_once);
    return test_end("broadcast");
}
