/* Handles of connections that are gone, of other servers, and made up: every call says so, and nothing reaches anybody else. */
#include "../host.h"

static wss_conn conns[64];
static int connects;
static int ends;

static void on_connect(const wss_event *e) {
    if (connects < 64) conns[connects] = e->conn;
    connects++;
}

static void on_end(const wss_event *e) {
    (void)e;
    ends++;
}

static wss_server *serve(void) {
    wss_options options = {0};
    connects = 0;
    ends = 0;
    wss_server *server = host_drive(&options);
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_end, NULL);
    return server;
}

static int freed;

static void never_kept(void *user) {
    (void)user;
    freed++;
}

/* Every call that takes a handle. */
static void check_gone(wss_server *server, wss_conn conn) {
    wss_info info;
    memset(&info, 0x55, sizeof info);
    CHECK_INT(wss_send(server, conn, "m", wss_json("{}")), WSS_ERR_GONE);
    CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "x", 1), WSS_ERR_GONE);
    CHECK_INT(wss_send_latest(server, conn, "k", "m", wss_json("{}")), WSS_ERR_GONE);
    CHECK_INT(wss_close(server, conn, 1000, "x"), WSS_ERR_GONE);
    CHECK_INT(wss_buffered(server, conn), 0);
    CHECK_INT(wss_set_user(server, conn, &info), WSS_ERR_GONE);
    CHECK_INT(wss_pause(server, conn), WSS_ERR_GONE);
    CHECK_INT(wss_resume(server, conn), WSS_ERR_GONE);
    CHECK_INT(wss_get_info(server, conn, &info), WSS_ERR_GONE);
    CHECK_INT(wss_accept(server, conn, NULL, NULL, 0, &info), WSS_ERR_GONE);
    CHECK_INT(wss_refuse(server, conn, NULL), WSS_ERR_GONE);
    CHECK_INT(wss_reply(server, conn, NULL), WSS_ERR_GONE);
}

static void check_gone_on_loop(void *arg) {
    check_gone((wss_server *)arg, conns[0]);
    connects++;
}

/* From the moment when its disconnect handler has returned, while the socket may still be lingering. */
static void closed_connections(void) {
    wss_options options = {0};
    options.user_free = never_kept;
    freed = 0;
    connects = 0;
    ends = 0;
    wss_server *server = host_drive(&options);
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_end, NULL);
    client *c = client_open(host_port);
    UNTIL(connects == 1);
    CHECK_INT(wss_set_user(server, conns[0], &connects), WSS_OK);
    client_send_close(c, 1000, "");
    UNTIL(ends == 1);
    CHECK_INT(freed, 1); /* at once, not when the peer ends its stream */
    check_gone(server, conns[0]);
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    CHECK_INT(client_read(c), CLIENT_ENDED);
    check_gone(server, conns[0]);
    client_free(c);
    host_settle();
    check_gone(server, conns[0]);
    CHECK_INT(wss_post(server, check_gone_on_loop, server), WSS_OK);
    UNTIL(connects == 2);
    host_end();
    CHECK_INT(freed, 1);
}

static void made_up_handles(void) {
    wss_server *server = serve();
    wss_conn conn = {0};
    uint64_t random = 88172645463325252u;
    client *c = client_open(host_port);
    UNTIL(connects == 1);
    check_gone(server, conn);
    for (int bit = 0; bit < 64; bit++) {
        conn.id = conns[0].id ^ (uint64_t)1 << bit; /* all its neighbours */
        check_gone(server, conn);
        conn.id = (uint64_t)1 << bit;
        check_gone(server, conn);
    }
    conn.id = UINT64_MAX;
    check_gone(server, conn);
    int hits = 0;
    for (int i = 0; i < 200000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        conn.id = i % 2 ? random : (random & ~(uint64_t)0xffffff); /* place 0, which exists */
        hits += wss_send_data(server, conn, WSS_TEXT, "x", 1) != WSS_ERR_GONE;
    }
    CHECK_INT(hits, 0);
    client_send(c, SCRIPT_PING, "", 0);
    CHECK_INT(client_read(c), SCRIPT_PONG); /* and nothing before it */
    CHECK(client_leave(c));
    host_end();
}

/* A place is used again and again; what is sent to those who had it before reaches nobody. */
static void places_used_again(void) {
    enum { ROUNDS = 60 };
    wss_options options = {0};
    options.max_connections = 2; /* two places, so each is used thirty times */
    connects = 0;
    ends = 0;
    wss_server *server = host_drive(&options);
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_end, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        char mine[32];
        client *c = client_open(host_port);
        UNTIL(connects == i + 1);
        for (int old = 0; old < i; old++) {
            CHECK(conns[old].id != conns[i].id);
            CHECK_INT(wss_send_data(server, conns[old], WSS_TEXT, "not for you", 11), WSS_ERR_GONE);
            CHECK_INT(wss_close(server, conns[old], 4000, NULL), WSS_ERR_GONE);
        }
        snprintf(mine, sizeof mine, "for %d", i);
        CHECK_INT(wss_send_data(server, conns[i], WSS_TEXT, mine, strlen(mine)), WSS_OK);
        CHECK_TEXT(client_read_text(c), mine);
        CHECK(client_leave(c));
        UNTIL(ends == i + 1);
    }
    host_end();
}

static void *send_late(void *arg) {
    (void)arg;
    CHECK_INT(wss_send_data(host, conns[0], WSS_TEXT, "late", 4), WSS_OK);
    return NULL;
}

/* Another thread sends, and before the loop looks at that it closes. */
static void close_in_post(void *arg) {
    pthread_t other;
    (void)arg;
    pthread_create(&other, NULL, send_late, NULL);
    pthread_join(other, NULL);
    CHECK_INT(wss_close(host, conns[0], 1000, NULL), WSS_OK);
}

/* Sent while it was open, applied when another one has its place. */
static void sends_that_come_too_late(void) {
    wss_options options = {0};
    wss_stats stats;
    options.max_connections = 1;
    connects = 0;
    ends = 0;
    wss_server *server = host_drive(&options);
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_end, NULL);
    client *c = client_open(host_port);
    UNTIL(connects == 1);
    wss_post(server, close_in_post, NULL);
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    client_free(c);
    UNTIL(ends == 1);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.dropped_gone, 1);
    c = client_open(host_port);
    UNTIL(connects == 2);
    client_send(c, SCRIPT_PING, "", 0);
    CHECK_INT(client_read(c), SCRIPT_PONG);
    CHECK(client_leave(c));
    host_end();
}

static void handles_of_another_server(void) {
    wss_options options = {0};
    wss_server *first = serve();
    int port = host_port;
    wss_server *second = host_make(&options);
    wss_on_connect(second, on_connect, NULL);
    client *b = client_open(host_port);
    UNTIL(connects == 1);
    host = first;
    client *a = client_open(port);
    UNTIL(connects == 2);
    check_gone(first, conns[0]);
    check_gone(second, conns[1]);
    CHECK_INT(wss_send_data(second, conns[0], WSS_TEXT, "b", 1), WSS_OK);
    CHECK_INT(wss_send_data(first, conns[1], WSS_TEXT, "a", 1), WSS_OK);
    CHECK_TEXT(client_read_text(a), "a");
    host = second;
    CHECK_TEXT(client_read_text(b), "b");
    CHECK_INT((long long)wss_next(second, conns[1]).id, 0);
    client_reset(b);
    CHECK_INT(wss_destroy(second), WSS_OK);
    host = first;
    client_reset(a);
    host_end();
}

/* One connection closes and another takes its place while events of both are in the same batch. */
static void descriptors_used_again(void) {
    wss_server *server = serve();
    client *c[20];
    for (int round = 0; round < 10; round++) {
        connects = 0;
        ends = 0;
        for (int i = 0; i < 20; i++) c[i] = client_open(host_port);
        UNTIL(connects == 20);
        for (int i = 0; i < 20; i++) CHECK_INT(wss_send_data(server, conns[i], WSS_TEXT, &"0123456789abcdefghij"[i], 1), WSS_OK);
        client_turn = NULL;
        for (int i = 0; i < 10; i++) {
            client_text(c[i], "last words");
            client_reset(c[i]);
            c[i] = client_dial(host_port);
            client_say(c[i], SCRIPT_HANDSHAKE);
        }
        client_turn = host_turn;
        for (int i = 0; i < 20; i++) {
            if (i < 10) CHECK_INT(client_read_head(c[i]), 101);
            else CHECK(client_read_text(c[i])[0] == "0123456789abcdefghij"[i]);
            client_send(c[i], SCRIPT_PING, "", 0);
            CHECK_INT(client_read(c[i]), SCRIPT_PONG);
        }
        UNTIL(ends == 10);
        CHECK_INT(wss_count(server), 20);
        for (int i = 0; i < 20; i++) client_reset(c[i]);
        UNTIL(ends == 30);
    }
    host_end();
}

static void timers_that_are_gone(void) {
    wss_server *server = serve();
    wss_timer never = {0};
    CHECK_INT(wss_timer_cancel(server, never), WSS_ERR_GONE);
    wss_timer timer = wss_timer_start(server, 100000, 0, on_end, NULL);
    CHECK_INT(wss_timer_cancel(server, timer), WSS_OK);
    CHECK_INT(wss_timer_cancel(server, timer), WSS_ERR_GONE);
    wss_timer next = wss_timer_start(server, 1, 0, on_end, NULL);
    CHECK(next.id != timer.id);
    CHECK_INT(wss_timer_cancel(server, timer), WSS_ERR_GONE);
    UNTIL(ends == 1);
    CHECK_INT(wss_timer_cancel(server, next), WSS_ERR_GONE);
    for (int bit = 0; bit < 64; bit++) {
        wss_timer other = {next.id ^ (uint64_t)1 << bit};
        CHECK_INT(wss_timer_cancel(server, other), WSS_ERR_GONE);
    }
    host_end();
}

/* A loop finds what it owns and nothing else: not what is on its way to it, nor what it has closed, which the queue's thread
   frees when its events were delivered, nor what another loop owns. */
static void a_loop_finds_its_own(void) {
    wss_options options = {0};
    wss_conn handle;
    options.threads = 2;
    options.address = "127.0.0.1";
    wss_server *server = wss_create(&options, NULL);
    CHECK(server != NULL);
    for (int loop = 0; loop < 2; loop++) {
        wss__slot *slot = wss__slot_take(&server->conns);
        for (int state = WSS__SLOT_OPENING; state <= WSS__SLOT_CLOSED; state++) {
            uint64_t details = (uint64_t)loop << WSS__STAGE_LOOP_SHIFT | WSS__STAGE_OPEN << WSS__STAGE_SHIFT;
            if (state > WSS__SLOT_OPENING) wss__slot_set(slot, details, state);
            handle.id = wss__slot_id(slot);
            CHECK_INT(wss__conn_find(server, handle) != NULL, state != WSS__SLOT_OPENING);
            for (int own = 0; own < 2; own++) {
                int found = wss__conn_find_own(&server->loops[own], handle) != NULL;
                CHECK_INT(found, state == WSS__SLOT_OWNED && own == loop);
            }
        }
        wss__slot_release(&server->conns, slot);
        CHECK(!wss__conn_find(server, handle) && !wss__conn_find_own(&server->loops[loop], handle));
        handle.id = wss__slot_id(slot); /* of what comes next */
        CHECK(!wss__conn_find(server, handle) && !wss__conn_find_own(&server->loops[loop], handle));
    }
    CHECK_INT(wss_destroy(server), WSS_OK);
}

int main(void) {
    alarm(60);
    RUN(a_loop_finds_its_own);
    RUN(closed_connections);
    RUN(made_up_handles);
    RUN(places_used_again);
    RUN(sends_that_come_too_late);
    RUN(handles_of_another_server);
    RUN(descriptors_used_again);
    RUN(timers_that_are_gone);
    return test_end("stale");
}
