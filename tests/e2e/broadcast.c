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
    CHECK_INT(buffered[1], 12 + WSS__BUF_MESSAGE);
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

static size_t waiting[6];

static void on_weigh(const wss_event *e) {
    say(e, "0123456789");
    CHECK_INT(wss_send_data(e->server, conns[0], WSS_TEXT, "abc", 3), WSS_OK);
    waiting[0] = wss_buffered(e->server, conns[0]);
    waiting[1] = wss_buffered(e->server, conns[1]);
    say(e, "01234");
    waiting[2] = wss_buffered(e->server, conns[0]);
    waiting[3] = wss_buffered(e->server, conns[1]);
    CHECK_INT(wss_close(e->server, conns[0], 4000, NULL), WSS_OK);
    say(e, "9");
    waiting[4] = wss_buffered(e->server, conns[0]);
    waiting[5] = wss_buffered(e->server, conns[1]);
}

/* What a frame of this size costs a queue. */
static size_t cost(size_t size) {
    wss__buf_frame frame;
    memset(&frame, 0, sizeof frame);
    frame.size = size;
    return wss__buf_charge(&frame);
}

/* And what so many messages do of which all are given some at the end of the turn. */
static size_t gathered(size_t size, size_t messages) {
    return size + messages * WSS__BUF_MESSAGE;
}

/* Each once, whether it waits in the connection's queue or with what all are given. */
static void what_waits_is_told_once(void) {
    const size_t queued = cost(12) + cost(5); /* in a queue, or to be given */
    const size_t want[6] = {queued, gathered(12, 1), queued + gathered(7, 1), gathered(12 + 7, 2), queued + cost(7),
                            gathered(12 + 7 + 3, 3)};
    wss_options options = {0};
    wss_stats stats;
    wss_server *server = serve(&options, on_weigh);
    step_client *clients[2];
    for (int i = 0; i < 2; i++) clients[i] = step_open(server);
    step_frame(server, clients[1], 0x81, "go", 2);
    for (int i = 0; i < 6; i++) CHECK_INT(waiting[i], want[i]);
    CHECK_TEXT(received(server, clients[0]), "0123456789 abc 01234 4000 ");
    CHECK_TEXT(received(server, clients[1]), "0123456789 01234 9 ");
    wss_get_stats(server, &stats);
    CHECK_INT(stats.messages_out, 6);
    CHECK_INT(stats.frames_out, 7);
    for (int i = 0; i < 2; i++) step_free(clients[i]);
    step_end(server);
}

static void on_send_past(const wss_event *e) {
    for (int i = 0; i < 40; i++) {
        char text[16];
        sprintf(text, "%d", i);
        say(e, text);
        if (i % 3 == 0) CHECK_INT(wss_send_data(e->server, conns[i % 2], WSS_TEXT, "-", 1), WSS_OK);
    }
}

/* Positions count modulo 2^16. */
static void positions_go_round(void) {
    for (uint32_t before = 0; before < 170; before++) {
        wss_options options = {0};
        char want[3][400] = {"", "", ""};
        wss_server *server = serve(&options, on_send_past);
        server->loops[0].shared.broadcasts.end = (uint16_t)(65536 - before);
        step_client *clients[3];
        for (int i = 0; i < 3; i++) clients[i] = step_open(server);
        for (int i = 0; i < 40; i++)
            for (int c = 0; c < 3; c++) sprintf(want[c] + strlen(want[c]), i % 3 == 0 && c == i % 2 ? "%d - " : "%d ", i);
        step_frame(server, clients[2], 0x81, "go", 2);
        for (int c = 0; c < 3; c++) {
            CHECK_TEXT(received(server, clients[c]), want[c]);
            step_free(clients[c]);
        }
        step_end(server);
    }
}

enum { FRAME = 1024, FRAMES = 65536 / FRAME };

static void on_fill_positions(const wss_event *e) {
    static char block[FRAME - 4];
    for (int i = 0; i < FRAMES; i++) {
        block[0] = (char)i;
        CHECK_INT(wss_broadcast_data(e->server, WSS_BINARY, block, sizeof block), WSS_OK);
    }
}

/* As many bytes as there are positions: all of them and none must not look the same. */
static void as_many_as_there_are_positions(void) {
    wss_options options = {0};
    wss_server *server = serve(&options, on_fill_positions);
    step_client *clients[2];
    for (int i = 0; i < 2; i++) clients[i] = step_open(server);
    step_frame(server, clients[0], 0x81, "go", 2);
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < FRAMES; k++) {
            char payload[1 << 12];
            size_t size = 0;
            CHECK_INT(step_take(server, clients[i], payload, &size), 0x82);
            CHECK_INT(payload[0], k);
        }
        step_free(clients[i]);
    }
    step_end(server);
}

static int followed;
static int follows; /* what is sent to who has fallen behind: a message, or a broadcast that is not gathered */

/* The kernel takes nothing for the first meanwhile. */
static void on_fall_behind(const wss_event *e) {
    static char block[1000];
    wss__conn *conn = wss__conn_find(e->server, conns[0]);
    wss__conn_clear_work(conn, WSS__WORK_WRITABLE);
    for (int i = 0; i < 12; i++) {
        block[0] = (char)('a' + i);
        CHECK_INT(wss_broadcast_data(e->server, WSS_BINARY, block, sizeof block), WSS_OK);
    }
    followed = follows ? wss_broadcast_data_except(e->server, conns[1], WSS_BINARY, "last", 4)
                       : wss_send_data(e->server, conns[0], WSS_BINARY, "last", 4);
    conn->work |= WSS__WORK_WRITABLE;
    wss__conn_make_ready(&e->server->loops[0], conn);
}

/* Catching up is judged as every broadcast is, in the order made: what follows finds the queue full, or the connection closed. */
static void limits_hold_while_catching_up(void) {
    for (int round = 0; round < 4; round++) {
        int closing = round % 2;
        wss_options options = {0};
        wss_stats stats;
        char payload[1 << 12];
        size_t size;
        options.max_queued = 5000;
        options.send_policy = closing ? WSS_POLICY_CLOSE : WSS_POLICY_REFUSE;
        follows = round / 2;
        wss_server *server = serve(&options, on_fall_behind);
        step_client *clients[2];
        for (int i = 0; i < 2; i++) clients[i] = step_open(server);
        step_frame(server, clients[1], 0x81, "go", 2);
        CHECK_INT(followed, follows ? WSS_OK : closing ? WSS_ERR_GONE : WSS_ERR_FULL);
        wss_get_stats(server, &stats);
        CHECK_INT(stats.refused_full, closing ? 1 : 8); /* five of 1,004 bytes reach the limit */
        for (int i = 0; i < 5 && !closing; i++) {
            CHECK_INT(step_take(server, clients[0], payload, &size), 0x82);
            CHECK_INT(payload[0], 'a' + i);
        }
        CHECK_INT(step_take(server, clients[0], payload, &size), closing ? 0x88 : -1);
        CHECK_INT(step_take(server, clients[0], payload, &size), -1);
        CHECK_INT(clients[0]->size, 0);
        for (int i = 0; i < 12; i++) {
            CHECK_INT(step_take(server, clients[1], payload, &size), 0x82);
            CHECK_INT(payload[0], 'a' + i);
        }
        for (int i = 0; i < 2; i++) step_free(clients[i]);
        step_end(server);
    }
}

static int filled, heard;

static void on_fill_turn(const wss_event *e) {
    static char block[13000];
    if (e->conn.id != conns[0].id) heard++;
    for (int i = 0; i < 4 && e->conn.id == conns[0].id; i++)
        CHECK_INT(wss_broadcast_data(e->server, WSS_BINARY, block, sizeof block), WSS_OK);
    filled += e->conn.id == conns[0].id;
}

/* Each of his messages fills a turn with broadcasts, and he sends on. He was the first of each turn: nobody else was read, and
   newcomers got 408. */
static void who_fills_each_turn_keeps_nobody_out(void) {
    static const char request[] = "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n";
    static char frames[32 * 1000];
    wss_options options = {0};
    char payload[26] = "";
    wss_server *server = serve(&options, on_fill_turn);
    step_client *clients[3];
    filled = heard = 0;
    for (int i = 0; i < 2; i++) clients[i] = step_open(server);
    clients[2] = step_connect(server);
    step(server);
    for (int i = 0; i < 1000; i++) CHECK_INT(step_make_frame(frames + i * 32, 0x82, payload, sizeof payload), 32);
    CHECK_INT(send(clients[0]->fd, frames, sizeof frames, MSG_NOSIGNAL), sizeof frames);
    wss__loop_turn(&server->loops[0], 0);
    CHECK_INT(filled, 1);
    CHECK_INT(send(clients[1]->fd, frames, 32, MSG_NOSIGNAL), 32);
    CHECK_INT(send(clients[2]->fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    for (int i = 0; i < 3; i++) wss__loop_turn(&server->loops[0], 0);
    CHECK_INT(heard, 1);
    CHECK_INT(connects, 3);
    CHECK_INT(filled, 4); /* and he goes on beside them */
    for (int i = 0; i < 3; i++) step_free(clients[i]);
    step_end(server);
}

/* Nor does he keep the oldest handshake from making room: its turn came when no more broadcasts fitted, so it was not read, and
   nobody knew whether its request had come. */
static void who_fills_each_turn_and_handshakes(void) {
    static const char request[] = "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n";
    static char frames[32 * 1000];
    wss_options options = {0};
    char payload[26] = "";
    options.max_connections = 100;
    wss_server *server = serve(&options, on_fill_turn);
    step_client *clients[66];
    filled = heard = 0;
    clients[0] = step_open(server);
    for (int i = 1; i < 66; i++) {
        clients[i] = step_connect(server);
        step(server);
    }
    CHECK_INT(send(clients[65]->fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    for (int i = 0; i < 1000; i++) CHECK_INT(step_make_frame(frames + i * 32, 0x82, payload, sizeof payload), 32);
    CHECK_INT(send(clients[0]->fd, frames, sizeof frames, MSG_NOSIGNAL), sizeof frames);
    for (int i = 0; i < 20; i++) {
        wss__loop_turn(&server->loops[0], 0);
        CHECK(server->loops[0].full);
        step_now += 100;
    }
    CHECK_INT(connects, 2);
    for (int i = 0; i < 66; i++) step_free(clients[i]);
    step_end(server);
}

/* ---- a turn that is full ---- */

enum { CROWD = 300 };

static int handled[CROWD], handled_in_turn, greets;
static size_t fill_size; /* 0: to all but one, which is handed out to each */

static void fill_some(const wss_event *e) {
    static char block[16000];
    wss_conn nobody = {1};
    handled_in_turn++;
    if (fill_size) CHECK_INT(wss_broadcast_data(e->server, WSS_BINARY, block, fill_size), WSS_OK);
    else CHECK_INT(wss_broadcast_data_except(e->server, nobody, WSS_BINARY, "x", 1), WSS_OK);
}

static void on_crowd(const wss_event *e) {
    handled[(unsigned char)e->data[0] * 256 + (unsigned char)e->data[1]]++;
    fill_some(e);
}

static void on_newcomer(const wss_event *e) {
    if (greets) fill_some(e);
}

static wss_server *serve_crowd(step_client **clients, int count) {
    wss_options options = {0};
    options.max_queued = (size_t)64 << 20;
    options.memory_budget = WSS_UNLIMITED;
    wss_server *server = step_server(&options);
    CHECK_INT(wss_on_data(server, on_crowd, NULL), WSS_OK);
    CHECK_INT(wss_on_connect(server, on_newcomer, NULL), WSS_OK);
    memset(handled, 0, sizeof handled);
    greets = 0;
    for (int i = 0; i < count; i++) clients[i] = step_open(server);
    step(server);
    return server;
}

/* Those who have a message each are let into a full turn no more: it ended after one of each of them, and each was handed
   out to all. None has a second turn before all had their first, and none is forgotten. */
static void a_full_turn_reads_nobody_else(void) {
    static const size_t sizes[] = {0, 16000, 100};
    static const int most[] = {WSS__WRITE_HANDED_OUT / CROWD + 1, 4, WSS__SESSION_BROADCASTS};
    static step_client *clients[CROWD];
    for (int kind = 0; kind < 3; kind++) {
        wss_server *server = serve_crowd(clients, CROWD);
        fill_size = sizes[kind];
        for (int i = 0; i < CROWD; i++) {
            char frame[32], payload[2] = {(char)(i / 256), (char)i};
            size_t size = step_make_frame(frame, 0x82, payload, 2);
            for (int k = 0; k < 2; k++) CHECK_INT(send(clients[i]->fd, frame, size, MSG_NOSIGNAL), (int)size);
        }
        for (int left = 2 * CROWD, turns = 0; left; turns++) {
            wss_stats before, after;
            int least = 2, largest = 0;
            handled_in_turn = 0;
            wss_get_stats(server, &before);
            wss__loop_turn(&server->loops[0], 0);
            wss_get_stats(server, &after);
            CHECK(handled_in_turn > 0 && handled_in_turn <= most[kind]);
            CHECK(after.messages_out - before.messages_out <= (uint64_t)most[kind] * CROWD);
            left -= handled_in_turn;
            for (int i = 0; i < CROWD; i++) {
                if (handled[i] < least) least = handled[i];
                if (handled[i] > largest) largest = handled[i];
                clients[i]->size = 0;
                while (step_receive(clients[i])) clients[i]->size = 0;
            }
            CHECK(largest <= least + 2); /* both came in one receive, and may be handled in one turn */
            CHECK(turns < 2 * CROWD);
            if (turns >= 2 * CROWD) break;
        }
        for (int i = 0; i < CROWD; i++) {
            CHECK_INT(handled[i], 2);
            step_free(clients[i]);
        }
        step_end(server);
    }
}

/* Nor are the connect handlers of newcomers called in it, who may greet all; and what is queued leaves, and deadlines are
   judged, of those who have sent nothing. */
static void a_full_turn_and_the_rest(void) {
    static const char request[] = "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n";
    static step_client *clients[CROWD];
    step_client *newcomers[CROWD];
    wss_server *server = serve_crowd(clients, 2);
    fill_size = 16000;
    greets = 1;
    for (int i = 0; i < CROWD; i++) newcomers[i] = step_connect(server);
    for (int i = 0; i < CROWD; i++)
        CHECK_INT(send(newcomers[i]->fd, request, sizeof request - 1, MSG_NOSIGNAL), (int)sizeof request - 1);
    for (int seen = 0, turns = 0; seen < CROWD && turns < CROWD; turns++) {
        handled_in_turn = 0;
        wss__loop_turn(&server->loops[0], 0);
        CHECK(handled_in_turn <= 4); /* the first turns only accept */
        seen += handled_in_turn;
        for (int i = 0; i < CROWD; i++) {
            newcomers[i]->size = 0;
            while (step_receive(newcomers[i])) newcomers[i]->size = 0;
        }
        for (int i = 0; i < 2; i++) {
            clients[i]->size = 0;
            while (step_receive(clients[i])) clients[i]->size = 0;
        }
    }
    CHECK_INT(wss_count(server), CROWD + 2);
    for (int i = 0; i < CROWD; i++) step_free(newcomers[i]);
    for (int i = 0; i < 2; i++) step_free(clients[i]);
    step_end(server);
}

/* ---- any mix, against a model: what each connection must get, in order ---- */

enum { MEMBERS = 6, LIST = 2000, ROUNDS = 300 };

typedef struct member {
    step_client *client;
    wss_conn conn;
    int listens; /* gets broadcasts: from connect to close */
    int takes;   /* takes sends: from its acceptance on */
    int count;
    int numbers[LIST]; /* of messages; negative: the code of a Close */
    int keys[LIST];
} member;

static member members[MEMBERS];
static int next_number;
static int next_key;
static uint32_t chance_state;
static char number_text[1 << 15];

static int chance(int below) {
    chance_state = chance_state * 1664525u + 1013904223u;
    return (int)((uint64_t)(chance_state >> 8) * (uint64_t)below >> 24);
}

/* Small ones, some that soon fill the list of broadcasts, and some that are not gathered. */
static size_t number_size(int number) {
    return number % 17 == 0 ? 17000 : number % 11 == 0 ? 8000 : 8 + (size_t)number % 300;
}

static const char *number_data(int number) {
    memset(number_text, 'a' + number % 26, number_size(number));
    sprintf(number_text, "%07d", number);
    return number_text;
}

static void must_get(member *m, int number, int key) {
    for (int i = 0; key && i < m->count; i++) {
        if (m->keys[i] != key) continue;
        m->numbers[i] = number;
        return;
    }
    if (m->count == LIST) abort();
    m->keys[m->count] = key;
    m->numbers[m->count++] = number;
}

static void all_must_get(const member *except, int number, int key) {
    for (int i = 0; i < MEMBERS; i++)
        if (members[i].listens && &members[i] != except) must_get(&members[i], number, key);
}

/* One that takes messages; NULL: there is none. */
static member *any_member(void) {
    int first = chance(MEMBERS);
    for (int i = 0; i < MEMBERS; i++)
        if (members[(first + i) % MEMBERS].takes) return &members[(first + i) % MEMBERS];
    return NULL;
}

static void keyed(wss_server *server, member *to, int key, int number) {
    char name[32];
    char text[64];
    sprintf(name, "key %d", key);
    sprintf(text, "{\"n\":%d}", number);
    if (to) CHECK_INT(wss_send_latest(server, to->conn, name, "k", wss_json(text)), WSS_OK);
    else CHECK_INT(wss_broadcast_latest(server, name, "k", wss_json(text)), WSS_OK);
    if (to) must_get(to, number, key);
    else all_must_get(NULL, number, key);
}

static void act(wss_server *server, int key) {
    member *m = any_member();
    int number = next_number++;
    const char *data = number_data(number);
    size_t size = number_size(number);
    int what = chance(100);
    if (what < 40 || !m) {
        CHECK_INT(wss_broadcast_data(server, WSS_BINARY, data, size), WSS_OK);
        all_must_get(NULL, number, 0);
    } else if (what < 70) {
        CHECK_INT(wss_send_data(server, m->conn, WSS_BINARY, data, size), WSS_OK);
        must_get(m, number, 0);
    } else if (what < 80) {
        CHECK_INT(wss_broadcast_data_except(server, m->conn, WSS_BINARY, data, size), WSS_OK);
        all_must_get(m, number, 0);
    } else if (what < 97) {
        keyed(server, what < 90 ? m : NULL, key + chance(2), number);
    } else {
        int code = 4000 + number % 900;
        CHECK_INT(wss_close(server, m->conn, code, NULL), WSS_OK);
        must_get(m, -code, 0);
        m->takes = m->listens = 0;
    }
}

static void act_some(wss_server *server) {
    next_key += 2; /* what an earlier handler has sent may have left, and cannot be replaced */
    for (int i = chance(12); i > 0; i--) act(server, next_key);
}

static void on_member_asks(const wss_event *e) {
    char text[16];
    CHECK_INT(wss_request_query(e->request, "m", text, sizeof text, NULL), WSS_OK);
    member *m = &members[atoi(text)];
    m->conn = e->conn;
    CHECK_INT(wss_accept(e->server, e->conn, NULL, NULL, 0, m), WSS_OK);
    m->takes = 1;
    act_some(e->server);
}

static void on_member(const wss_event *e) {
    member *m = (member *)e->user;
    if (m->conn.id == e->conn.id && m->takes) m->listens = 1;
    act_some(e->server);
}

static void on_member_says(const wss_event *e) {
    member *m = (member *)e->user;
    if (chance(2)) act_some(e->server);
    if (m->conn.id != e->conn.id || !m->takes || chance(2)) return;
    CHECK_INT(wss_send_data(e->server, e->conn, e->opcode, e->data, e->size), WSS_OK);
    must_get(m, atoi(e->data), 0);
    if (chance(2)) act_some(e->server);
}

/* What a member's client does before the next turn: comes, speaks, or leaves without a word. */
static void member_moves(wss_server *server, int index) {
    member *m = &members[index];
    char text[400];
    if (!m->client) {
        memset(m, 0, sizeof *m);
        m->client = step_connect(server);
        int size = sprintf(text, "GET /?m=%d HTTP/1.1\r\n" STEP_UPGRADE "\r\n", index);
        CHECK_INT(send(m->client->fd, text, (size_t)size, MSG_NOSIGNAL), size);
    } else if (m->takes && chance(25) == 0) {
        step_free(m->client);
        memset(m, 0, sizeof *m);
    }
    for (int i = m->takes ? chance(4) : 0; i > 0; i--) {
        int number = next_number += 2 - next_number % 2; /* an even one is not large, but for few */
        if (number_size(number) > 300) continue;
        size_t size = step_make_frame(text, 0x82, number_data(number), number_size(number));
        CHECK_INT(send(m->client->fd, text, size, MSG_NOSIGNAL), size);
    }
}

static int take_number(wss_server *server, step_client *client) {
    static char payload[1 << 16];
    size_t size = 0;
    int first = step_take(server, client, payload, &size);
    if (first == 0x88) return -((unsigned char)payload[0] << 8 | (unsigned char)payload[1]);
    if (first == 0x81) {
        const char *at = strstr(payload, "\"n\":");
        return at ? atoi(at + 4) : 0;
    }
    if (first != 0x82) return 0;
    int number = atoi(payload);
    CHECK_INT(size, number_size(number));
    if (size == number_size(number)) CHECK(memcmp(payload, number_data(number), size) == 0);
    return number;
}

static void skip_answer(step_client *client) {
    char *end = strstr(client->data, "\r\n\r\n");
    if (strncmp(client->data, "HTTP/1.1 101 ", 13) != 0 || !end) return;
    client->size -= (size_t)(end + 4 - client->data);
    memmove(client->data, end + 4, client->size);
    client->data[client->size] = 0;
}

static void check_member(wss_server *server, member *m) {
    if (!m->client) return;
    step_receive(m->client);
    skip_answer(m->client);
    for (int i = 0; i < m->count; i++) CHECK_INT(take_number(server, m->client), m->numbers[i]);
    CHECK_INT(take_number(server, m->client), 0);
    CHECK_INT(m->client->size, 0);
    m->count = 0;
    if (m->takes) return;
    step_free(m->client);
    m->client = NULL;
}

static void any_mix_keeps_the_order(void) {
    for (uint32_t seed = 1; seed <= 4; seed++) {
        wss_options options = {0};
        options.max_connections = MEMBERS + 1; /* places are soon taken again */
        wss_server *server = step_server(&options);
        wss_on_upgrade(server, on_member_asks, NULL);
        wss_on_connect(server, on_member, NULL);
        wss_on_data(server, on_member_says, NULL);
        memset(members, 0, sizeof members);
        chance_state = seed;
        next_number = 1;
        for (int round = 0; round < ROUNDS && !test_broken; round++) {
            for (int i = 0; i < MEMBERS; i++) member_moves(server, i);
            if (chance(2)) act_some(server); /* from outside: before what the handlers of the turn do */
            step(server);
            for (int i = 0; i < MEMBERS; i++) check_member(server, &members[i]);
        }
        for (int i = 0; i < MEMBERS; i++)
            if (members[i].client) step_free(members[i].client);
        step_end(server);
    }
}

int main(void) {
    alarm(120);
    RUN(order_is_kept);
    RUN(nothing_from_before_its_time);
    RUN(what_waits_is_told);
    RUN(many_at_once);
    RUN(what_waits_is_told_once);
    RUN(positions_go_round);
    RUN(as_many_as_there_are_positions);
    RUN(limits_hold_while_catching_up);
    RUN(who_fills_each_turn_keeps_nobody_out);
    RUN(who_fills_each_turn_and_handshakes);
    RUN(a_full_turn_reads_nobody_else);
    RUN(a_full_turn_and_the_rest);
    RUN(any_mix_keeps_the_order);
    return test_end("broadcast");
}
