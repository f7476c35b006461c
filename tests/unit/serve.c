/* Unit tests of [serve]: what is judged when a deadline has passed, and what is not: the kernel is asked first for what it has,
   and what a peer has acknowledged is a sign of life. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "../request.h"

static int left_unacked = -1; /* what the kernel says of it; -1: as it is */

static int fake_ioctl(int fd, TEST_REQUEST request, void *data) {
    if (left_unacked < 0) return ioctl(fd, request, data);
    *(int *)data = left_unacked;
    return 0;
}

static int stuffed;      /* the kernel takes nothing, */
static size_t send_most; /* or so many bytes at a time; 0: all */

static ssize_t fake_send(int fd, const void *data, size_t size, int flags) {
    errno = EAGAIN;
    if (stuffed) return -1;
    return send(fd, data, send_most && size > send_most ? send_most : size, flags);
}

static ssize_t fake_sendmsg(int fd, const struct msghdr *message, int flags) {
    errno = EAGAIN;
    if (!stuffed && !send_most) return sendmsg(fd, message, flags);
    return stuffed ? -1 : fake_send(fd, message->msg_iov[0].iov_base, message->msg_iov[0].iov_len, flags);
}

#include "../step.h"

REPLACE(ioctl, fake_ioctl)
REPLACE(send, fake_send)
REPLACE(sendmsg, fake_sendmsg)

static wss_conn conn;
static int ends;
static int cause;
static int messages;
static int asked;

static void on_connect(const wss_event *e) {
    conn = e->conn;
}

static void on_upgrade(const wss_event *e) {
    conn = e->conn;
    asked++;
}

static void on_data(const wss_event *e) {
    (void)e;
    messages++;
}

static void on_end(const wss_event *e) {
    ends++;
    cause = e->cause;
}

static wss_server *serve(wss_options *options) {
    ends = cause = messages = asked = 0;
    left_unacked = -1;
    stuffed = 0;
    send_most = 0;
    wss_server *server = step_server(options);
    wss_on_connect(server, on_connect, NULL);
    wss_on_data(server, on_data, NULL);
    wss_on_disconnect(server, on_end, NULL);
    return server;
}

static void end(wss_server *server, step_client *client) {
    stuffed = 0;
    send_most = 0;
    left_unacked = -1;
    step_free(client);
    step(server);
    step_end(server);
}

static wss__conn *the(wss_server *server) {
    return wss__conn_find(server, conn);
}

/* ---- pings, and signs of life ---- */

static wss_server *serve_pings(step_client **client) {
    wss_options options = {0};
    options.ping_ms = 5000;
    options.pong_ms = 2000;
    options.stall_ms = WSS_OFF;
    options.least_rate = WSS_OFF;
    wss_server *server = serve(&options);
    *client = step_open(server);
    left_unacked = 0;
    return server;
}

/* Bytes acknowledged beyond the ping itself put the end off; those of the ping alone do not. */
static void acknowledged_bytes_are_a_sign_of_life(void) {
    for (int said = 0; said <= 1; said++) {
        step_client *client;
        wss_server *server = serve_pings(&client);
        step_time(server, 5100);
        CHECK_INT(step_take(server, client, NULL, NULL), 0x89);
        CHECK(the(server)->work & WSS__WORK_AWAITED);
        if (said) CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "x", 1), WSS_OK);
        step_time(server, 1500);
        CHECK_INT(ends, 0);
        step_time(server, 700);
        CHECK_INT(ends, !said);
        if (!said) CHECK_INT(cause, WSS_CAUSE_PONG_TIMEOUT);
        if (said) { /* asked once more; now it says nothing */
            CHECK_INT(step_take(server, client, NULL, NULL), 0x81);
            CHECK_INT(step_take(server, client, NULL, NULL), 0x89);
            CHECK(the(server)->work & WSS__WORK_AWAITED);
            step_time(server, 2200);
            CHECK_INT(ends, 1);
            CHECK_INT(cause, WSS_CAUSE_PONG_TIMEOUT);
        }
        end(server, client);
    }
}

/* Of what is under way when the ping goes out each byte that arrives is a sign of life: 100 of them, and the ping's 10. */
static void bytes_that_were_under_way(void) {
    static const int later[] = {110, 109, 10, 0};
    for (int i = 0; i < 4; i++) {
        step_client *client;
        wss_server *server = serve_pings(&client);
        step_frame(server, client, 0x89, "", 0); /* more has left than that */
        for (int k = 0; k < 10; k++) wss_send_data(server, conn, WSS_TEXT, "twenty bytes or so..", 20);
        step(server);
        left_unacked = 100;
        client->size = 0;
        step_time(server, 5100);
        CHECK(the(server)->work & WSS__WORK_AWAITED);
        left_unacked = later[i];
        step_time(server, 2100);
        CHECK_INT(ends, i == 0);
        end(server, client);
    }
}

/* However many: of two gigabytes and more within pong_ms it was said that they were none. */
static void gigabytes_are_a_sign_of_life(void) {
    static const uint32_t gone[] = {0, 1, 0x7fffffffu, 0x80000000u, 3000000000u, 0xfffffff0u};
    for (int i = 0; i < 6; i++) {
        step_client *client;
        wss_server *server = serve_pings(&client);
        stuffed = 1;
        CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "waits", 5), WSS_OK);
        step(server);
        left_unacked = 50;
        step_time(server, 5100);
        CHECK(the(server)->work & WSS__WORK_AWAITED);
        the(server)->bytes_out += gone[i];
        step_time(server, 2100);
        CHECK_INT(ends, i == 0);
        end(server, client);
    }
}

/* Where bytes wait there is no ping: they ask. The peer lives if it takes some, or acknowledges some. */
static void no_ping_behind_what_waits(void) {
    for (int lives = 0; lives <= 1; lives++) {
        step_client *client;
        wss_server *server = serve_pings(&client);
        stuffed = 1;
        CHECK_INT(wss_send_data(server, conn, WSS_TEXT, "waits", 5), WSS_OK);
        step(server);
        CHECK_INT(the(server)->session.queue->count, 1);
        left_unacked = 50;
        step_time(server, 5100);
        CHECK(the(server)->work & WSS__WORK_AWAITED);
        CHECK_INT(the(server)->session.queue->count, 1);
        left_unacked = lives ? 49 : 50;
        step_time(server, 2100);
        CHECK_INT(ends, !lives);
        if (!lives) CHECK_INT(cause, WSS_CAUSE_PONG_TIMEOUT);
        if (lives) CHECK(the(server)->work & WSS__WORK_AWAITED);
        end(server, client);
    }
}

/* Any byte that comes ends the wait, and the next silence is as long as the first. */
static void what_comes_ends_the_wait(void) {
    step_client *client;
    wss_server *server = serve_pings(&client);
    step_time(server, 5100);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x89);
    step_time(server, 1900);
    step_frame(server, client, 0x82, "x", 1);
    CHECK(!(the(server)->work & WSS__WORK_AWAITED));
    step_time(server, 4900);
    CHECK_INT(ends, 0);
    CHECK_INT(step_take(server, client, NULL, NULL), -1);
    step_time(server, 200);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x89);
    end(server, client);
}

/* What lies in the kernel when the time is over has come in time: the loop was late to look. */
static void what_the_kernel_has_came_in_time(void) {
    step_client *client;
    wss_server *server = serve_pings(&client);
    step_time(server, 5100);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x89);
    the(server)->work &= (uint16_t)~WSS__WORK_READABLE;
    CHECK_INT(send(client->fd, "\x8a\x80\0\0\0\0", 6, MSG_NOSIGNAL), 6);
    wss__conn *c = the(server);
    step_now += 900;
    server->loops[0].now += 5000; /* as if nothing had been told of it */
    server->loops[0].time += 5000;
    wss__timer_remove(&server->loops[0].wheel, c->slot.index);
    wss__serve_on_deadline(&server->loops[0], c);
    wss__loop_run_ready(&server->loops[0]);
    CHECK_INT(ends, 0);
    CHECK(!(c->work & WSS__WORK_AWAITED));
    end(server, client);
}

/* ---- more than is due ---- */

/* Whoever sends without end has a second, no more, by that: the kernel always has more, and the message is never whole. */
static void without_end(void) {
    static char block[4096];
    wss_options options = {0};
    options.message_ms = 3000;
    options.least_rate = WSS_OFF;
    options.max_message = 1 << 30;
    wss_server *server = serve(&options);
    step_client *client = step_open(server);
    wss__loop *loop = &server->loops[0];
    CHECK_INT(send(client->fd, "\x02\xff\0\0\0\0\x10\0\0\0\0\0\0\0", 14, MSG_NOSIGNAL), 14);
    wss_poll(server, 0);
    loop->receive_size = 64;
    long long began = step_now;
    while (!ends && step_now < began + 10000) {
        while (send(client->fd, block, sizeof block, MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {
        }
        step_now += 50;
        wss__loop_turn(loop, 0);
        CHECK(ends || the(server)->work & WSS__WORK_READABLE);
    }
    loop->receive_size = WSS__LOOP_RECEIVE;
    CHECK_INT(ends, 1);
    CHECK_INT(cause, WSS_CAUSE_MESSAGE_TIMEOUT);
    CHECK(step_now - began >= 3900 && step_now - began <= 4200);
    end(server, client);
}

/* ---- peers that are behind ---- */

/* A byte now and then is no stall; less than least_rate over a minute is slow all the same, and as much is not. */
static void too_slow(void) {
    for (int enough = 0; enough <= 1; enough++) {
        static char block[65536];
        wss_options options = {0};
        options.ping_ms = WSS_OFF;
        options.stall_ms = 10000;
        options.least_rate = 100;
        wss_server *server = serve(&options);
        step_client *client = step_open(server);
        stuffed = 1;
        CHECK_INT(wss_send_data(server, conn, WSS_BINARY, block, sizeof block), WSS_OK);
        step(server);
        for (int i = 0; i < 59 && !ends; i++) {
            stuffed = 0;
            send_most = enough ? 102 : 99;
            wss__conn *c = the(server);
            c->work |= WSS__WORK_WRITABLE;
            wss__conn_make_ready(&server->loops[0], c);
            wss_poll(server, 0);
            stuffed = 1;
            step_time(server, 1000);
        }
        CHECK_INT(ends, 0);
        stuffed = 1;
        step_time(server, 1200);
        CHECK_INT(ends, !enough);
        if (!enough) CHECK_INT(cause, WSS_CAUSE_SLOW_READER);
        step_time(server, 10000); /* another minute began, but nothing is taken any more */
        CHECK_INT(ends, 1);
        CHECK_INT(cause, WSS_CAUSE_SLOW_READER);
        end(server, client);
    }
}

/* ---- late handshakes ---- */

static void late_handshakes(void) {
    static const char *const heads[] = {"GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n"};
    for (int whole = 0; whole <= 1; whole++) {
        wss_options options = {0};
        options.handshake_ms = 3000;
        wss_server *server = serve(&options);
        wss_on_upgrade(server, on_upgrade, NULL);
        step_client *client = step_connect(server);
        step_ask(server, client, heads[whole]);
        CHECK_INT(asked, whole);
        step_time(server, 2900);
        while (step_receive(client)) step(server);
        CHECK_INT(client->size, 0);
        step_time(server, 200);
        while (step_receive(client)) step(server);
        CHECK(strncmp(client->data, whole ? "HTTP/1.1 503 " : "HTTP/1.1 408 ", 13) == 0);
        if (whole) CHECK_INT(wss_accept(server, conn, NULL, NULL, 0, NULL), WSS_ERR_GONE);
        end(server, client);
    }
}

/* An answer that is on its way when the time is over has come in time. */
static void answered_in_time(void) {
    wss_options options = {0};
    options.handshake_ms = 3000;
    wss_server *server = serve(&options);
    wss_on_upgrade(server, on_upgrade, NULL);
    step_client *client = step_connect(server);
    step_ask(server, client, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
    CHECK_INT(asked, 1);
    CHECK_INT(wss_accept(server, conn, NULL, NULL, 0, NULL), WSS_OK);
    wss__loop *loop = &server->loops[0];
    loop->now += 3100; /* the timer rings before the order is looked at */
    loop->time += 3100;
    wss__timer_remove(&loop->wheel, the(server)->slot.index);
    wss__serve_check_deadline(loop, the(server));
    CHECK_INT(wss__conn_stage(the(server)), WSS__STAGE_ACCEPTED);
    step(server);
    while (step_receive(client)) step(server);
    CHECK(strncmp(client->data, "HTTP/1.1 101 ", 13) == 0);
    CHECK_INT(ends, 0);
    end(server, client);
}

/* ---- who is read from ---- */

static void who_is_read_from(void) {
    static const struct {
        int state, phase, work, reads;
    } rows[] = {
        {WSS__STATE_HEAD, WSS__SESSION_HEAD, 0, 1},
        {WSS__STATE_ASKED, WSS__SESSION_ASKED, 0, 0},
        {WSS__STATE_OPEN, WSS__SESSION_OPEN, 0, 1},
        {WSS__STATE_OPEN, WSS__SESSION_OPEN, WSS__WORK_UNREAD, 0},
        {WSS__STATE_OPEN, WSS__SESSION_OPEN, WSS__WORK_PAUSED, 1}, /* as long as it is not noted */
        {WSS__STATE_OPEN, WSS__SESSION_CLOSING, WSS__WORK_UNREAD, 1},
        {WSS__STATE_FLUSHING, WSS__SESSION_DONE, 0, 0},
        {WSS__STATE_LINGERING, WSS__SESSION_DONE, 0, 1},
        {WSS__STATE_DEAD, WSS__SESSION_DONE, 0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        wss__conn c;
        memset(&c, 0, sizeof c);
        c.session.phase = (uint8_t)rows[i].phase;
        c.work = (uint16_t)(rows[i].work | rows[i].state << WSS__WORK_STATE_SHIFT);
        CHECK_INT(wss__serve_reads(&c), rows[i].reads);
    }
}

/* A pause is counted while it lasts, also where it ends with the connection, and the kernel looks after the host meanwhile. */
static void pauses(void) {
    for (int gone = 0; gone <= 1; gone++) {
        wss_options options = {0};
        wss_stats stats;
        int alive = -1;
        socklen_t size = sizeof alive;
        wss_server *server = serve(&options);
        step_client *client = step_open(server);
        CHECK_INT(wss_pause(server, conn), WSS_OK);
        step(server);
        wss_get_stats(server, &stats);
        CHECK_INT(stats.paused, 1);
        CHECK_INT(getsockopt(the(server)->fd, SOL_SOCKET, SO_KEEPALIVE, &alive, &size), 0);
        CHECK_INT(alive, 1);
        CHECK_INT(getsockopt(the(server)->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &alive, &size), 0);
        CHECK_INT(alive, 0); /* it ends who has no room, though he answers */
        step_frame(server, client, 0x82, "x", 1);
        step_time(server, 100000);
        CHECK_INT(messages, 0);
        CHECK_INT(ends, 0);
        if (gone) {
            CHECK_INT(wss_close(server, conn, 1000, NULL), WSS_OK);
            step(server);
            wss_get_stats(server, &stats);
            CHECK_INT(stats.paused, 0);
        } else {
            CHECK_INT(wss_resume(server, conn), WSS_OK);
            step(server);
            CHECK_INT(messages, 1);
            CHECK_INT(getsockopt(the(server)->fd, SOL_SOCKET, SO_KEEPALIVE, &alive, &size), 0);
            CHECK_INT(alive, 0);
            CHECK_INT(wss_pause(server, conn), WSS_OK);
            step(server);
        }
        step_free(client);
        step(server);
        step_time(server, 100000);
        wss_get_stats(server, &stats);
        CHECK_INT(stats.paused, gone ? 0 : stats.connections);
        wss_stop(server, 0);
        for (int i = 0; i < 5; i++) step(server);
        wss_get_stats(server, &stats);
        CHECK_INT(stats.paused, 0);
        CHECK_INT(stats.connections, 0);
        step_end(server);
    }
}

/* ---- ends ---- */

/* Our Close has left, and nothing comes: over when close_ms are, counted from then on; while it has not left time stands. */
static void close_that_nobody_answers(void) {
    for (int blocked = 0; blocked <= 1; blocked++) {
        wss_options options = {0};
        options.close_ms = 2000;
        options.stall_ms = 8000;
        wss_server *server = serve(&options);
        step_client *client = step_open(server);
        stuffed = blocked;
        CHECK_INT(wss_close(server, conn, 1000, NULL), WSS_OK);
        step(server);
        CHECK_INT((the(server)->work & WSS__WORK_AWAITED) != 0, !blocked);
        if (blocked) {
            step_time(server, 7000);
            CHECK_INT(ends, 0);
            stuffed = 0;
            the(server)->work |= WSS__WORK_WRITABLE;
            wss__conn_make_ready(&server->loops[0], the(server));
            step(server);
            CHECK(the(server)->work & WSS__WORK_AWAITED);
        }
        step_time(server, 1900);
        CHECK_INT(ends, 0);
        step_time(server, 200);
        CHECK_INT(ends, 1);
        CHECK_INT(cause, WSS_CAUSE_LOCAL_CLOSE);
        step_time(server, 5000);
        CHECK_INT(server->loops[0].connections, 0);
        end(server, client);
    }
}

int main(void) {
    alarm(100);
    RUN(acknowledged_bytes_are_a_sign_of_life);
    RUN(bytes_that_were_under_way);
    RUN(gigabytes_are_a_sign_of_life);
    RUN(no_ping_behind_what_waits);
    RUN(what_comes_ends_the_wait);
    RUN(what_the_kernel_has_came_in_time);
    RUN(without_end);
    RUN(too_slow);
    RUN(late_handshakes);
    RUN(answered_in_time);
    RUN(who_is_read_from);
    RUN(pauses);
    RUN(close_that_nobody_answers);
    return test_end("serve");
}
