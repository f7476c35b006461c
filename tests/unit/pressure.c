/* Unit tests of [pressure]: who stands in which list, and where in it, at every border; who has to go; and what becomes of him. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <sys/socket.h>

static int stuffed;      /* the kernel takes nothing, */
static size_t send_most; /* or so many bytes at a time; 0: all */

static ssize_t fake_send(int fd, const void *data, size_t size, int flags) {
    errno = EAGAIN;
    return stuffed ? -1 : send(fd, data, send_most && size > send_most ? send_most : size, flags);
}

static ssize_t fake_sendmsg(int fd, const struct msghdr *message, int flags) {
    errno = EAGAIN;
    if (!stuffed && !send_most) return sendmsg(fd, message, flags);
    return stuffed ? -1 : fake_send(fd, message->msg_iov[0].iov_base, message->msg_iov[0].iov_len, flags);
}

#include "../step.h"

REPLACE(send, fake_send)
REPLACE(sendmsg, fake_sendmsg)

enum { MANY = 60, STEPS = 20000 };

static wss_server *server;
static wss__loop *loop;
static step_client *clients[MANY];
static wss_conn handles[MANY];
static wss__conn *conns[MANY];
static wss__session_input inputs[MANY]; /* what some seem to have received */
static int count;
static wss_conn newest;
static int ends, last_cause, last_code;
static uint64_t ended_id;

static void on_connect(const wss_event *e) {
    newest = e->conn;
}

static void on_upgrade(const wss_event *e) {
    newest = e->conn;
}

static void on_end(const wss_event *e) {
    ends++;
    last_cause = e->cause;
    last_code = e->code;
    ended_id = e->conn.id;
}

static void serve(wss_options *options, int number) {
    stuffed = 0;
    send_most = 0;
    ends = last_cause = last_code = 0;
    options->ping_ms = WSS_OFF;
    options->stall_ms = WSS_OFF;
    options->least_rate = WSS_OFF;
    server = step_server(options);
    loop = &server->loops[0];
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_end, NULL);
    memset(inputs, 0, sizeof inputs);
    for (count = 0; count < number; count++) {
        clients[count] = step_open(server);
        handles[count] = newest;
        conns[count] = wss__conn_find(server, newest);
    }
}

static void end(void) {
    stuffed = 0;
    send_most = 0;
    for (int i = 0; i < count; i++) {
        wss__conn *conn = wss__conn_find(server, handles[i]);
        if (conn && conn->session.input == &inputs[i]) conn->session.input = NULL;
        step_free(clients[i]);
    }
    step(server);
    step_end(server);
}

/* It seems to hold so much. */
static void hold(int i, size_t bytes) {
    inputs[i].capacity = bytes;
    conns[i]->session.input = bytes ? &inputs[i] : NULL;
}

static void note(int i, size_t bytes) {
    hold(i, bytes);
    wss__pressure_note(loop, conns[i]);
}

/* It has sent something, or taken. */
static void move(int i) {
    conns[i]->bytes_in++;
}

static int class_of(int i) {
    return wss__conn_cold_of(conns[i]) ? wss__conn_cold_of(conns[i])->heavy : 0;
}

/* Which list is meant for so much: 0 none. */
static int class_for(size_t bytes) {
    int number = 0;
    for (size_t least = 65536; number < WSS__CONN_HEAVY && least <= bytes; least *= 2) number++;
    return number;
}

/* Each list is whole in both directions, holds who belongs there and nobody else; and behind one who is spared stands
   nobody who has not moved for a second longer than he. */
static void check_lists(void) {
    int listed = 0, wanted = 0;
    for (int number = 1; number <= WSS__CONN_HEAVY; number++) {
        const wss__conn_list *list = &loop->heavy[number - 1];
        uint32_t before = WSS__SLOT_NONE;
        uint64_t spared_at = 0;
        for (uint32_t at = list->first; at != WSS__SLOT_NONE; at = wss__conn_cold_of(wss__conn_at(server, at))->heavy_after) {
            const wss__conn *conn = wss__conn_at(server, at);
            CHECK_INT(wss__conn_cold_of(conn)->heavy, number);
            CHECK_INT(wss__conn_cold_of(conn)->heavy_before, before);
            CHECK(wss__conn_cold_of(conn)->moved_at + WSS__PRESSURE_STILL >= spared_at);
            CHECK_INT(class_for(wss__pressure_holds(conn)), number);
            if (wss__conn_cold_of(conn)->moved_at + WSS__PRESSURE_STILL > loop->time) spared_at = wss__conn_cold_of(conn)->moved_at;
            before = at;
            if (++listed > count) break;
        }
        CHECK_INT(list->last, before);
    }
    for (int i = 0; i < count; i++) {
        wanted += class_of(i) != 0;
        CHECK(class_of(i) || !wss__conn_cold_of(conns[i]));
    }
    CHECK_INT(listed, wanted);
}

/* ---- who stands where ---- */

/* One byte below each power of two, on it, and above it; beyond the last list everything is in that. */
static void the_list_at_every_border(void) {
    wss_options options = {0};
    serve(&options, 1);
    for (int power = 10; power < 40 && power < (int)sizeof(size_t) * 8; power++) {
        for (int off = -1; off <= 1; off++) {
            size_t bytes = ((size_t)1 << power) + (size_t)off;
            note(0, bytes);
            CHECK_INT(class_of(0), class_for(bytes));
            check_lists();
        }
    }
    note(0, 65535);
    CHECK_INT(class_of(0), 0);
    note(0, 65536);
    CHECK_INT(class_of(0), 1);
    note(0, 131071);
    CHECK_INT(class_of(0), 1);
    note(0, 131072);
    CHECK_INT(class_of(0), 2);
    note(0, SIZE_MAX);
    CHECK_INT(class_of(0), WSS__CONN_HEAVY);
    note(0, 0);
    CHECK_INT(class_of(0), 0);
    end();
}

/* The message so far, what is held unread, and the queue count together; not what is shared, or outside the account. */
static void what_counts(void) {
    static char text[200000];
    wss_options options = {0};
    serve(&options, 2);
    stuffed = 1;
    inputs[0].capacity = 30000;
    inputs[0].held_size = 35000;
    conns[0]->session.input = &inputs[0];
    CHECK_INT(wss__pressure_holds(conns[0]), 65000);
    conns[0]->session.input = NULL;
    CHECK_INT(wss_broadcast_data(server, WSS_BINARY, text, sizeof text), WSS_OK);
    step(server);
    size_t places = wss__buf_queue_bytes(WSS__BUF_RING_MIN);
    CHECK_INT(wss__pressure_holds(conns[0]), places); /* all have it, and each its place for it */
    CHECK_INT(wss__pressure_holds(conns[1]), places);
    CHECK(wss_buffered(server, handles[0]) > sizeof text);
    CHECK_INT(wss_send_data(server, handles[0], WSS_BINARY, text, 40000), WSS_OK);
    step(server);
    size_t own = wss__pressure_holds(conns[0]);
    CHECK(own >= 40000 && own < 40200);
    CHECK_INT(class_of(0), 0);
    conns[0]->session.input = &inputs[0];
    CHECK_INT(wss__pressure_holds(conns[0]), own + 65000);
    wss__pressure_note(loop, conns[0]);
    CHECK_INT(class_of(0), 1);
    conns[0]->session.input = NULL;
    wss__pressure_note(loop, conns[0]);
    CHECK(!wss__conn_cold_of(conns[0])); /* what was needed for a while is given back */
    CHECK_INT(class_of(1), 0);
    end();
}

/* Whatever is kept of it besides, and whenever: it is known who a connection's peer is. */
static void peers_are_known_throughout(void) {
    const unsigned char v4[] = {192, 0, 2, 1};
    const unsigned char v6[] = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7};
    wss_options options = {0};
    wss_info info;
    serve(&options, 1);
    wss__conn_peer peers[] = {wss__conn_peer_at(wss__address_of(WSS__ADDRESS_IP, v4, 4, 4711)),
                              wss__conn_peer_at(wss__address_of(WSS__ADDRESS_IP, v6, 16, 65535)),
                              wss__conn_peer_at(wss__address_of(WSS__ADDRESS_UNIX, NULL, 0, 0))};
    const char *addresses[] = {"192.0.2.1", "2001:db8::7", "unix"};
    const int ports[] = {4711, 65535, 0};
    peers[2].uid = 33;
    size_t before = step_bytes;
    for (int set = 0; set < 3; set++) { /* before it has anything else; meanwhile; not at all */
        for (int i = 0; i < 3; i++) {
            if (set == 0) CHECK_INT(wss__conn_set_peer(server, conns[0], &peers[i]), 1);
            for (int cold = 0; cold <= 2; cold++) {
                if (cold == 1) CHECK(wss__conn_need_cold(server, conns[0]) != NULL);
                if (cold == 1 && set == 1) CHECK_INT(wss__conn_set_peer(server, conns[0], &peers[i]), 1);
                if (cold == 2) wss__conn_free_empty_cold(server, conns[0]);
                CHECK_INT(wss__conn_cold_of(conns[0]) != NULL, cold == 1);
                int now = set == 0 || (set == 1 && cold > 0) ? i : set == 1 && i > 0 ? i - 1 : 2;
                CHECK_INT(wss_get_info(server, handles[0], &info), WSS_OK);
                CHECK_TEXT(info.address, addresses[now]);
                CHECK_INT(info.port, ports[now]);
                CHECK_INT(info.uid, now == 2 ? 33 : -1);
            }
        }
    }
    step_fail_in = 1; /* it stays who it is */
    CHECK_INT(wss__conn_set_peer(server, conns[0], &peers[1]), 0);
    step_fail_in = 1;
    CHECK(wss__conn_need_cold(server, conns[0]) == NULL);
    CHECK_INT(wss_get_info(server, handles[0], &info), WSS_OK);
    CHECK_INT(info.uid, 33);
    CHECK_INT(step_bytes, before + sizeof(wss__conn_peer));
    CHECK_INT(wss__conn_set_peer(server, conns[0], &peers[0]), 1);
    CHECK_INT(step_bytes, before);
    CHECK(sizeof(void *) != 8 || sizeof(wss__conn) == 120); /* what an idle connection takes */
    end();
}

/* At the end of its list whoever has moved; who has not keeps his place, and his time. */
static void the_order_in_a_list(void) {
    wss_options options = {0};
    serve(&options, 4);
    uint64_t began = loop->time;
    for (int i = 0; i < 4; i++) {
        loop->time = began + (uint64_t)i * 10;
        note(i, 70000);
    }
    CHECK_INT(loop->heavy[0].first, conns[0]->slot.index);
    CHECK_INT(loop->heavy[0].last, conns[3]->slot.index);
    loop->time = began + 100;
    note(0, 80000); /* as much, as far as that goes, and it has not moved */
    CHECK_INT(loop->heavy[0].first, conns[0]->slot.index);
    CHECK_INT(wss__conn_cold_of(conns[0])->moved_at, began);
    move(0);
    note(0, 80000);
    CHECK_INT(loop->heavy[0].first, conns[1]->slot.index);
    CHECK_INT(loop->heavy[0].last, conns[0]->slot.index);
    CHECK_INT(wss__conn_cold_of(conns[0])->moved_at, began + 100);
    note(2, 1000); /* out of the middle, the front, the end, and the last */
    check_lists();
    note(1, 1000);
    check_lists();
    note(0, 1000);
    check_lists();
    CHECK_INT(loop->heavy[0].first, conns[3]->slot.index);
    note(3, 65535);
    CHECK_INT(loop->heavy[0].first, WSS__SLOT_NONE);
    CHECK_INT(loop->heavy[0].last, WSS__SLOT_NONE);
    end();
}

/* Who grows into the list of others without having moved stands before those that have: they are spared, he is not. */
static void growing_is_no_move(void) {
    wss_options options = {0};
    serve(&options, 4);
    uint64_t began = loop->time;
    note(0, 65536);
    loop->time = began + 500;
    note(1, 131072);
    loop->time = began + 1000;
    note(2, 131072);
    note(3, 65536);
    note(0, 140000); /* what was sent to it, not taken */
    check_lists();
    CHECK(wss__pressure_heaviest(loop) == conns[0]);
    note(0, 300000);
    CHECK(wss__pressure_heaviest(loop) == conns[0]);
    note(0, 70000);
    loop->time = began + 1500;
    CHECK(wss__pressure_heaviest(loop) == conns[1]);
    note(1, 1000);
    CHECK(wss__pressure_heaviest(loop) == conns[0]);
    end();
}

/* As the lists should say, found by looking at all; of those that have not moved for so long. */
static int heaviest_of_all(uint64_t still) {
    for (int number = WSS__CONN_HEAVY; number > 0; number--) {
        int best = -1;
        for (int i = 0; i < count; i++)
            if (class_of(i) == number && (best < 0 || wss__conn_cold_of(conns[i])->moved_at < wss__conn_cold_of(conns[best])->moved_at)) best = i;
        if (best >= 0 && wss__conn_cold_of(conns[best])->moved_at + still <= loop->time) return best;
    }
    return -1;
}

/* Whatever is held, by whom, and whoever moves: the lists are whole, and name the one who has to go. */
static void many_that_come_and_go(void) {
    wss_options options = {0};
    uint64_t random = 88172645463325252u;
    int found = 0;
    serve(&options, MANY);
    for (int k = 0; k < STEPS; k++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        int who = (int)(random % MANY);
        size_t bytes = ((size_t)1 << (14 + (random >> 8) % 8)) + (size_t)((random >> 16) % 3) - 1;
        if ((random >> 24) % 3 == 0) move(who);
        loop->time += (random >> 32) % 40;
        note(who, (random >> 40) % 8 ? bytes : 0);
        if (k % 16 == 0) check_lists();
        int best = heaviest_of_all(WSS__PRESSURE_STILL);
        int sure = heaviest_of_all(2 * WSS__PRESSURE_STILL);
        const wss__conn *first = wss__pressure_heaviest(loop);
        CHECK(!first || wss__conn_cold_of(first)->moved_at + WSS__PRESSURE_STILL <= loop->time);
        CHECK(!first || wss__conn_cold_of(first)->heavy <= class_of(best));
        CHECK(sure < 0 || (first && wss__conn_cold_of(first)->heavy >= class_of(sure)));
        found += first != NULL;
    }
    CHECK(found > STEPS / 2);
    end();
}

/* Nobody is looked at but those at the ends of a list, however many stand in it: who changes lists without having moved goes
   to the front, or, while he is spared, to the end. */
static void no_search_for_a_place(void) {
    wss_options options = {0};
    serve(&options, 4);
    uint64_t began = loop->time;
    for (int i = 0; i < 3; i++) note(i, 70000);
    note(3, 140000);
    loop->time = began + 900;
    for (int i = 0; i < 3; i++) {
        move(i);
        note(i, 70000);
    }
    note(3, 70000); /* it has moved before all of them */
    CHECK_INT(loop->heavy[0].last, conns[3]->slot.index);
    check_lists();
    loop->time = began + 1000;
    CHECK(wss__pressure_heaviest(loop) == NULL); /* hidden, for a second at most */
    note(3, 140000);
    CHECK(wss__pressure_heaviest(loop) == conns[3]);
    note(3, 70000);
    CHECK_INT(loop->heavy[0].first, conns[3]->slot.index);
    CHECK(wss__pressure_heaviest(loop) == conns[3]);
    check_lists();
    end();
}

/* Who sends, or takes, least_rate bytes a second moves, in whatever pieces; who drips does not, whatever for. */
static void who_drips_does_not_move(void) {
    static const int steps[] = {1, 10, 100, 900, 999};
    for (int takes = 0; takes < 2; takes++) {
        for (size_t k = 0; k < sizeof steps / sizeof steps[0]; k++) {
            wss_options options = {0};
            serve(&options, 2);
            server->options.least_rate = 1000;
            if (takes) {
                stuffed = 1;
                for (int i = 0; i < 2; i++) {
                    static char text[80000];
                    CHECK_INT(wss_send_data(server, handles[i], WSS_BINARY, text, sizeof text), WSS_OK);
                    step(server);
                }
            }
            for (int i = 0; i < 2; i++) note(i, takes ? 0 : 80000);
            for (int t = 0; t < 5000; t += steps[k]) {
                loop->time += (uint64_t)steps[k];
                for (int i = 0; i < 2; i++) {
                    uint64_t bytes = (uint64_t)(i ? steps[k] - 1 : steps[k]);
                    if (takes) conns[i]->bytes_out += bytes;
                    else conns[i]->bytes_in += bytes;
                    wss__pressure_note(loop, conns[i]);
                }
                CHECK(wss__pressure_heaviest(loop) != conns[0]);
            }
            if (steps[k] <= 10) CHECK(wss__pressure_heaviest(loop) == conns[1]);
            for (int i = 0; i < 2; i++) { /* a byte now and then is none, nor are many when the other counter is looked at */
                conns[i]->bytes_in++;
                conns[i]->bytes_out++;
            }
            loop->time += WSS__PRESSURE_STILL;
            for (int i = 0; i < 2; i++) wss__pressure_note(loop, conns[i]);
            CHECK(wss__pressure_heaviest(loop) != NULL);
            end();
        }
    }
}

/* A second, to the millisecond; then the next lighter ones are looked at. */
static void who_has_moved_is_spared(void) {
    wss_options options = {0};
    serve(&options, 3);
    uint64_t began = loop->time;
    CHECK(wss__pressure_heaviest(loop) == NULL);
    note(0, 65536);
    note(1, 1 << 20);
    loop->time = began + 999;
    CHECK(wss__pressure_heaviest(loop) == NULL);
    loop->time = began + 1000;
    CHECK(wss__pressure_heaviest(loop) == conns[1]);
    move(1);
    note(1, 1 << 20);
    CHECK(wss__pressure_heaviest(loop) == conns[0]);
    note(2, 1 << 20);
    loop->time = began + 1999;
    CHECK(wss__pressure_heaviest(loop) == conns[0]);
    loop->time = began + 2000;
    CHECK(wss__pressure_heaviest(loop) == conns[1]);
    end();
}

/* It is not in a list then, and the next turn tries again. */
static void no_memory_to_remember_it(void) {
    wss_options options = {0};
    serve(&options, 2);
    step_fail_in = 1;
    note(0, 100000);
    CHECK_INT(step_fail_in, 0);
    CHECK(!wss__conn_cold_of(conns[0]));
    check_lists();
    note(0, 100000);
    CHECK_INT(class_of(0), 1);
    step_fail_in = 1;
    note(0, 200000); /* what it has is enough */
    CHECK_INT(class_of(0), 2);
    CHECK_INT(step_fail_in, 1);
    step_fail_in = 0;
    check_lists();
    end();
}

/* Whoever leaves takes himself out of his list: first, last, or in the middle. */
static void released_while_listed(void) {
    for (int leaver = 0; leaver < 3; leaver++) {
        static char text[100000];
        wss_options options = {0};
        serve(&options, 3);
        stuffed = 1;
        for (int i = 0; i < 3; i++) {
            CHECK_INT(wss_send_data(server, handles[i], WSS_BINARY, text, sizeof text), WSS_OK);
            step(server);
            CHECK_INT(class_of(i), 1);
        }
        struct linger reset = {1, 0};
        setsockopt(clients[leaver]->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(clients[leaver]->fd);
        clients[leaver]->fd = -1;
        step(server);
        CHECK_INT(ends, 1);
        CHECK(ended_id == handles[leaver].id);
        int listed = 0;
        for (uint32_t at = loop->heavy[0].first; at != WSS__SLOT_NONE; at = wss__conn_cold_of(wss__conn_at(server, at))->heavy_after) {
            CHECK(at != wss__slot_index(handles[leaver].id));
            listed++;
        }
        CHECK_INT(listed, 2);
        CHECK_INT(loop->heavy[0].last, conns[leaver == 2 ? 1 : 2]->slot.index);
        end();
    }
}

/* ---- who has to go ---- */

/* Four fifths of the budget are used from now on. */
static void press(void) {
    server->mem.budget = server->mem.used + server->mem.used / 4;
}

static void relax(void) {
    server->mem.budget = (size_t)256 << 20;
}

/* Lets it hold so much that was sent to it; begun: the first bytes have left. */
static void burden(int i, size_t size, int begun) {
    static char text[400000];
    stuffed = !begun;
    send_most = begun ? 100 : 0;
    CHECK_INT(wss_send_data(server, handles[i], WSS_BINARY, text, size), WSS_OK);
    wss__loop_turn(loop, 0);
    stuffed = 1;
    send_most = 0;
    CHECK(class_of(i) > 0);
}

static void a_turn(void) {
    wss__loop_turn(loop, 0);
}

/* From three quarters on and not before, the heaviest first, one a turn. */
static void one_a_turn(void) {
    wss_options options = {0};
    serve(&options, 5);
    burden(0, 70000, 0);
    burden(1, 150000, 0);
    burden(2, 300000, 0);
    burden(3, 300000, 0);
    step_now += 1100;
    server->mem.budget = server->mem.used / 3 * 4 + 8; /* three quarters of it are a little more than is used */
    CHECK(!wss__mem_is_pressed(&server->mem));
    a_turn();
    CHECK_INT(ends, 0);
    press();
    static const int order[] = {2, 3, 1, 0};
    for (int i = 0; i < 4; i++) {
        press();
        a_turn();
        CHECK_INT(ends, i + 1);
        CHECK(ended_id == handles[order[i]].id);
        CHECK_INT(last_cause, WSS_CAUSE_PRESSURE);
        CHECK_INT(last_code, WSS_CLOSE_TRY_LATER);
        CHECK_INT(class_of(order[i]), 0);
    }
    press();
    a_turn();
    CHECK_INT(ends, 4); /* the fifth holds nothing */
    CHECK_INT(server->loops[0].shared.stats.closes[WSS_CAUSE_PRESSURE], 4);
    relax();
    stuffed = 0;
    for (int i = 0; i < 4; i++) {
        char payload[200];
        size_t size = 0;
        wss__serve_on_deadline(loop, conns[i]); /* the kernel has room again, and has told nobody */
        CHECK_INT(step_take(server, clients[i], payload, &size), 0x88);
        CHECK_INT((unsigned char)payload[0] << 8 | (unsigned char)payload[1], WSS_CLOSE_TRY_LATER);
        CHECK_TEXT(payload + 2, "memory pressure");
        CHECK_INT(size, 2 + 15);
    }
    end();
}

/* Part of a message has left: its rest stays, and the Close behind it. Still too much: reset. */
static void the_second_time_it_is_reset(void) {
    wss_options options = {0};
    serve(&options, 2);
    burden(0, 200000, 1);
    step_now += 1100;
    press();
    a_turn();
    CHECK_INT(ends, 1);
    CHECK_INT(last_cause, WSS_CAUSE_PRESSURE);
    CHECK_INT(class_of(0), 2); /* its rest cannot be dropped */
    CHECK_INT(wss__conn_state(conns[0]), WSS__STATE_FLUSHING);
    CHECK_INT(conns[0]->session.queue->count, 2);
    a_turn();
    CHECK_INT(ends, 1);
    CHECK(!wss__conn_find(server, handles[0]) || wss__conn_state(conns[0]) == WSS__STATE_DEAD);
    a_turn();
    CHECK(!wss__conn_find(server, handles[0]));
    CHECK_INT(loop->heavy[1].first, WSS__SLOT_NONE);
    relax();
    stuffed = 0;
    while (step_receive(clients[0])) clients[0]->size = 0;
    CHECK(clients[0]->ended);
    end();
}

/* Where the pressure ends in time, it may take the rest, and the Close comes behind it. */
static void what_has_begun_may_be_taken(void) {
    wss_options options = {0};
    serve(&options, 1);
    burden(0, 100000, 1);
    step_now += 1100;
    press();
    a_turn();
    CHECK_INT(ends, 1);
    relax();
    stuffed = 0;
    size_t got = 0;
    wss__serve_on_deadline(loop, conns[0]);
    for (int i = 0; i < 10; i++) {
        step(server);
        while (step_receive(clients[0])) {
            got += clients[0]->size;
            clients[0]->size = 0;
            step(server);
        }
    }
    CHECK_INT(got, 100000 + 10 + 2 + 2 + 15);
    end();
}

/* Input of a message that is under way is given back at once. */
static void half_a_message(void) {
    static char half[300000];
    static const char head[] = "\x82\xff\0\0\0\0\0\x06\0\0\0\0\0\0";
    wss_options options = {0};
    serve(&options, 1);
    step_write(server, clients[0], head, sizeof head - 1);
    step_write(server, clients[0], half, sizeof half);
    step(server);
    CHECK(class_of(0) >= 3);
    size_t before = step_bytes;
    step_now += 1100;
    press();
    a_turn();
    CHECK_INT(last_cause, WSS_CAUSE_PRESSURE);
    CHECK(before - step_bytes >= sizeof half);
    CHECK(conns[0]->session.input == NULL);
    CHECK_INT(class_of(0), 0);
    relax();
    CHECK_INT(step_take(server, clients[0], NULL, NULL), 0x88);
    end();
}

/* A request that waits for an answer, with much behind it, gets 503; one whose head is not whole hears nothing. */
static void requests(void) {
    wss_options options = {0};
    options.max_head = 200000;
    serve(&options, 0);
    wss_on_upgrade(server, on_upgrade, NULL);
    step_client *asking = step_connect(server);
    step_write(server, asking, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n", strlen("GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n"));
    step_write(server, asking, "more", 4);
    wss__conn *conn = wss__conn_find(server, newest);
    CHECK_INT(conn->session.phase, WSS__SESSION_ASKED);
    wss__session_bytes bytes = {(char *)calloc(1, 70000), 70000};
    CHECK(wss__input_hold(&loop->shared, &conn->session, &bytes));
    free(bytes.data);
    wss__pressure_note(loop, conn);
    CHECK_INT(wss__conn_cold_of(conn)->heavy, 1);
    step_now += 1100;
    press();
    a_turn();
    relax();
    step(server);
    step_receive(asking);
    CHECK(strncmp(asking->data, "HTTP/1.1 503 ", 13) == 0);
    step_free(asking);
    step_client *begins = step_connect(server);
    step_write(server, begins, "GET / HTTP/1.1\r\nHost: localhost\r\nX: ", 37);
    static char rest[100000];
    memset(rest, 'a', sizeof rest);
    step_write(server, begins, rest, sizeof rest);
    step_now += 1100;
    press();
    a_turn();
    relax();
    step(server);
    step_receive(begins);
    CHECK_INT(begins->size, 0);
    CHECK(begins->ended);
    CHECK_INT(ends, 0); /* neither was told of by a connect */
    CHECK_INT(loop->shared.stats.closes[WSS_CAUSE_PRESSURE], 1);
    step_free(begins);
    end();
}

int main(void) {
    RUN(the_list_at_every_border);
    RUN(what_counts);
    RUN(peers_are_known_throughout);
    RUN(the_order_in_a_list);
    RUN(growing_is_no_move);
    RUN(many_that_come_and_go);
    RUN(no_search_for_a_place);
    RUN(who_drips_does_not_move);
    RUN(who_has_moved_is_spared);
    RUN(no_memory_to_remember_it);
    RUN(released_while_listed);
    RUN(one_a_turn);
    RUN(the_second_time_it_is_reset);
    RUN(what_has_begun_may_be_taken);
    RUN(half_a_message);
    RUN(requests);
    return test_end("pressure");
}
