/* Handles that are dead, made up, or of another server: an error code, and nobody else's connection. */
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"

#include "../test.h"

#include "../client.h"

enum { ROUNDS = 200 };

static int connects;
static int disconnects;
static wss_conn last_conn;

static void on_connect(const wss_event *e) {
    last_conn = e->conn;
    client_count(&connects);
}

static void on_disconnect(const wss_event *e) {
    CHECK_INT(wss_send_data(e->server, e->conn, WSS_TEXT, "x", 1), WSS_ERR_GONE);
    client_count(&disconnects);
}

static wss_server *serve(void) {
    wss_options options = {0};
    options.address = "127.0.0.1";
    wss_server *server = wss_create(&options, NULL);
    if (!server) exit(1);
    connects = disconnects = 0;
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    wss_start(server);
    return server;
}

static void expect_gone(wss_server *server, uint64_t id) {
    wss_answer answer = {0};
    wss_info info;
    wss_conn conn;
    conn.id = id;
    CHECK_INT(wss_send(server, conn, "t", wss_json("{}")), WSS_ERR_GONE);
    CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "wrong", 5), WSS_ERR_GONE);
    CHECK_INT(wss_send_latest(server, conn, "k", "t", wss_json("{}")), WSS_ERR_GONE);
    CHECK_INT(wss_close(server, conn, 1000, "wrong"), WSS_ERR_GONE);
    CHECK_INT(wss_buffered(server, conn), 0);
    CHECK_INT(wss_set_user(server, conn, NULL), WSS_ERR_GONE);
    CHECK_INT(wss_pause(server, conn), WSS_ERR_GONE);
    CHECK_INT(wss_resume(server, conn), WSS_ERR_GONE);
    CHECK_INT(wss_get_info(server, conn, &info), WSS_ERR_GONE);
    CHECK_INT(wss_accept(server, conn, NULL, NULL, 0, NULL), WSS_ERR_GONE);
    answer.status = 404;
    CHECK_INT(wss_refuse(server, conn, &answer), WSS_ERR_GONE);
    CHECK_INT(wss_reply(server, conn, &answer), WSS_ERR_GONE);
}

static void closed_connections_and_reused_slots(void) {
    static uint64_t seen[ROUNDS];
    wss_server *server = serve();
    client *bystander = client_open(server);
    CHECK(client_await(&connects, 1));
    for (int i = 0; i < ROUNDS; i++) {
        client *c = client_open(server);
        CHECK(client_await(&connects, i + 2));
        seen[i] = last_conn.id;
        for (int j = 0; j < i; j++) CHECK(seen[j] != seen[i]);
        if (i) expect_gone(server, seen[i - 1]);
        CHECK_INT(wss_send_data(server, last_conn, WSS_TEXT, "right", 5), WSS_OK);
        CHECK_TEXT(client_read_text(c), "right");
        if (i % 2) client_send_close(c, 1000, "");
        client_reset(c);
        CHECK(client_await(&disconnects, i + 1));
    }
    for (int i = 0; i < ROUNDS; i++) expect_gone(server, seen[i]);
    CHECK_INT(wss_broadcast_data(server, WSS_TEXT, "only this", 9), WSS_OK);
    CHECK_TEXT(client_read_text(bystander), "only this");
    client_free(bystander);
    wss_destroy(server);
}

static void made_up_handles(void) {
    uint64_t random = 88172645463325252u;
    wss_server *server = serve();
    client *c = client_open(server);
    CHECK(client_await(&connects, 1));
    uint64_t real = last_conn.id;
    expect_gone(server, 0);
    expect_gone(server, UINT64_MAX);
    for (int bit = 0; bit < 64; bit++) expect_gone(server, real ^ (uint64_t)1 << bit);
    for (int i = 0; i < 1000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if (random != real) expect_gone(server, random);
    }
    CHECK_INT(wss_send_data(server, last_conn, WSS_TEXT, "right", 5), WSS_OK);
    CHECK_TEXT(client_read_text(c), "right");
    client_free(c);
    wss_destroy(server);
}

static void handles_of_another_server(void) {
    wss_server *one = serve();
    client *first = client_open(one);
    CHECK(client_await(&connects, 1));
    wss_conn of_one = last_conn;
    wss_server *two = serve();
    client *second = client_open(two);
    CHECK(client_await(&connects, 1));
    wss_conn of_two = last_conn;
    expect_gone(two, of_one.id);
    expect_gone(one, of_two.id);
    CHECK_INT(wss_send_data(one, of_one, WSS_TEXT, "one", 3), WSS_OK);
    CHECK_INT(wss_send_data(two, of_two, WSS_TEXT, "two", 3), WSS_OK);
    CHECK_TEXT(client_read_text(first), "one");
    CHECK_TEXT(client_read_text(second), "two");
    client_free(first);
    client_free(second);
    wss_destroy(one);
    wss_destroy(two);
}

int main(void) {
    alarm(120);
    RUN(closed_connections_and_reused_slots);
    RUN(made_up_handles);
    RUN(handles_of_another_server);
    return test_end("e2e/stale");
}
