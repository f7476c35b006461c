/* Unit tests of [deadline]: which deadline of a connection is the next, and when, in every phase and state; what stops time for
   it, and what it asks of a peer that is behind. */
#include "../library.h"

#include "../test.h"

enum { START = 10000000, SKIPPED = 7777, DAY = 86400000 };

static wss_server server;
static wss__loop loop;
static wss__conn conn;
static wss__conn_cold cold;
static wss__session_input input;
static wss__buf_queue queue;

static wss__timer_node *node_at(void *owner, uint32_t number) {
    CHECK(owner == (void *)&server && number == 5);
    return &conn.timer;
}

/* The loop's time moves by so much, and the clock with it. */
static void pass(uint64_t milliseconds) {
    loop.time += milliseconds;
    loop.now = loop.time + loop.skipped;
}

static void set_state(int state) {
    conn.work = (uint16_t)((conn.work & ((1 << WSS__WORK_STATE_SHIFT) - 1)) | state << WSS__WORK_STATE_SHIFT);
}

/* Everything off; an open connection that is read from and has nothing to do. Its last byte came when it was adopted. */
static void begin(void) {
    wss_options *options = &server.options;
    memset(&server, 0, sizeof server);
    memset(&loop, 0, sizeof loop);
    memset(&conn, 0, sizeof conn);
    memset(&cold, 0, sizeof cold);
    memset(&input, 0, sizeof input);
    memset(&queue, 0, sizeof queue);
    options->handshake_ms = options->ping_ms = options->pong_ms = options->idle_ms = WSS_OFF;
    options->message_ms = options->stall_ms = options->close_ms = options->least_rate = WSS_OFF;
    options->max_message_rate = options->lifetime_ms = WSS_OFF;
    options->max_queued = 4096;
    loop.server = &server;
    loop.time = START;
    loop.skipped = SKIPPED;
    pass(0);
    wss__timer_init(&loop.wheel, node_at, &server, loop.now);
    conn.slot.index = 5;
    conn.since = START;
    conn.session.seen = START;
    conn.session.phase = WSS__SESSION_OPEN;
    set_state(WSS__STATE_OPEN);
}

/* The next deadline is this, so long after the start. */
static int is_due(int what, uint64_t after) {
    wss__deadline due = wss__deadline_of(&loop, &conn);
    uint64_t want = what == WSS__DEADLINE_NONE ? UINT64_MAX : START + after + loop.skipped;
    if (due.what != what || due.at != want)
        printf("deadline %d, %lld after the start\n", due.what, (long long)(due.at - START - loop.skipped));
    return due.what == what && due.at == want;
}

/* ---- moments ---- */

static void moments(void) {
    begin();
    static const uint64_t times[] = {START, (uint64_t)1 << 32, ((uint64_t)1 << 32) + 5, ((uint64_t)3 << 32) - 1, 3000000000u};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        loop.time = times[i];
        for (uint64_t ago = 0; ago < START; ago = ago * 3 + 1)
            CHECK_INT(wss__deadline_moment(&loop, (uint32_t)(times[i] - ago)), times[i] - ago);
        for (uint64_t ahead = 1; ahead < START; ahead = ahead * 3 + 1)
            CHECK_INT(wss__deadline_moment(&loop, (uint32_t)(times[i] + ahead)), times[i]);
    }
    loop.time = (uint64_t)9 << 32; /* longer ago than any time of the options: as long ago as that stays */
    const uint64_t most = (uint64_t)INT_MAX + 1;
    for (uint64_t ago = most - 2; ago < most + 2 * WSS__DEADLINE_LOOK; ago += WSS__DEADLINE_LOOK / 2 + 1)
        CHECK_INT(wss__deadline_moment(&loop, (uint32_t)(loop.time - ago)), loop.time - (ago < most ? ago : most));
    CHECK_INT(wss__deadline_moment(&loop, (uint32_t)(loop.time + WSS__DEADLINE_LOOK - 1)), loop.time);
}

/* However long nothing comes, looked at as often as its timer rings: it is as long ago as can be, never now. */
static void moments_stay(void) {
    begin();
    server.options.ping_ms = server.options.pong_ms = INT_MAX;
    for (int i = 1; i < 30; i++) {
        pass(WSS__DEADLINE_LOOK);
        uint64_t ago = (uint64_t)i * WSS__DEADLINE_LOOK;
        CHECK_INT(wss__deadline_ago(loop.time, conn.session.seen), ago < 1u << 31 ? ago : 1u << 31);
        CHECK(is_due(WSS__DEADLINE_PING, (ago < 1u << 31 ? 0 : ago - (1u << 31)) + INT_MAX));
        wss__deadline_renew(&loop, &conn);
    }
    begin();
    server.options.ping_ms = server.options.pong_ms = INT_MAX;
    wss__deadline_begin(&loop, &conn, WSS__WORK_AWAITED);
    for (int i = 1; i < 30; i++) {
        pass(WSS__DEADLINE_LOOK);
        uint64_t ago = (uint64_t)i * WSS__DEADLINE_LOOK;
        CHECK(is_due(WSS__DEADLINE_PONG, (ago < 1u << 31 ? 0 : ago - (1u << 31)) + INT_MAX));
        wss__deadline_renew(&loop, &conn);
    }
}

static void earlier(void) {
    CHECK_INT(wss__deadline_earlier(1, 2), 1);
    CHECK_INT(wss__deadline_earlier(2, 1), 1);
    CHECK(wss__deadline_earlier(UINT64_MAX, UINT64_MAX) == UINT64_MAX);
    CHECK_INT(wss__deadline_earlier(0, UINT64_MAX), 0);
}

/* The earliest stays, of two at once the one that was offered first; what is off is no deadline. */
static void offers(void) {
    wss__deadline first = {UINT64_MAX, WSS__DEADLINE_NONE};
    wss__deadline_offer(&first, WSS__DEADLINE_PING, 100, WSS_OFF);
    CHECK(first.at == UINT64_MAX && first.what == WSS__DEADLINE_NONE);
    wss__deadline_offer(&first, WSS__DEADLINE_PING, 100, 50);
    CHECK(first.at == 150 && first.what == WSS__DEADLINE_PING);
    wss__deadline_offer(&first, WSS__DEADLINE_STALL, 100, 50);
    CHECK(first.at == 150 && first.what == WSS__DEADLINE_PING);
    wss__deadline_offer(&first, WSS__DEADLINE_STALL, 100, 51);
    CHECK(first.at == 150 && first.what == WSS__DEADLINE_PING);
    wss__deadline_offer(&first, WSS__DEADLINE_IDLE, 0, WSS_OFF);
    CHECK(first.at == 150 && first.what == WSS__DEADLINE_PING);
    wss__deadline_offer(&first, WSS__DEADLINE_STALL, 100, 49);
    CHECK(first.at == 149 && first.what == WSS__DEADLINE_STALL);
    wss__deadline_offer(&first, WSS__DEADLINE_CLOSE, 0, 0);
    CHECK(first.at == 0 && first.what == WSS__DEADLINE_CLOSE);
    first.at = UINT64_MAX;
    wss__deadline_offer(&first, WSS__DEADLINE_RATE, (uint64_t)1 << 40, INT_MAX);
    CHECK(first.at == ((uint64_t)1 << 40) + INT_MAX && first.what == WSS__DEADLINE_RATE);
}

/* ---- which one ---- */

static void nothing_is_due(void) {
    begin();
    for (int phase = WSS__SESSION_HEAD; phase <= WSS__SESSION_DONE; phase++) {
        conn.session.phase = (uint8_t)phase;
        CHECK(is_due(WSS__DEADLINE_NONE, 0));
    }
}

/* From when it was adopted on, whether the head is awaited or the application's answer. */
static void handshake(void) {
    begin();
    server.options.handshake_ms = 10000;
    server.options.ping_ms = server.options.close_ms = server.options.idle_ms = 1; /* not yet */
    conn.session.input = &input;
    for (int phase = WSS__SESSION_HEAD; phase < WSS__SESSION_OPEN; phase++) {
        conn.session.phase = (uint8_t)phase;
        CHECK(is_due(WSS__DEADLINE_HANDSHAKE, 10000));
        pass(3000);
        conn.session.seen = (uint32_t)loop.time; /* what comes meanwhile is no reason to wait longer */
        CHECK(is_due(WSS__DEADLINE_HANDSHAKE, 10000));
    }
    conn.session.phase = WSS__SESSION_OPEN;
    server.options.ping_ms = server.options.idle_ms = WSS_OFF;
    CHECK(is_due(WSS__DEADLINE_NONE, 0));
}

/* Silence, and from the ping on its answer. */
static void ping_and_pong(void) {
    begin();
    server.options.ping_ms = 20000;
    server.options.pong_ms = 5000;
    CHECK(is_due(WSS__DEADLINE_PING, 20000));
    pass(7000);
    CHECK(is_due(WSS__DEADLINE_PING, 20000));
    wss__deadline_touch(&loop, &conn);
    CHECK(is_due(WSS__DEADLINE_PING, 27000));
    pass(21000);
    wss__deadline_begin(&loop, &conn, WSS__WORK_AWAITED);
    CHECK(is_due(WSS__DEADLINE_PONG, 33000));
    pass(100);
    CHECK(is_due(WSS__DEADLINE_PONG, 33000));
    server.options.ping_ms = WSS_OFF; /* of no meaning now */
    CHECK(is_due(WSS__DEADLINE_PONG, 33000));
    server.options.pong_ms = WSS_OFF;
    server.options.ping_ms = 20000;
    CHECK(is_due(WSS__DEADLINE_NONE, 0));
    conn.work = (uint16_t)(conn.work & ~WSS__WORK_AWAITED);
    CHECK(is_due(WSS__DEADLINE_PING, 27000));
}

/* Half a message, in each of the forms that it has; each least_rate bytes of it give a second more. */
static void half_a_message(void) {
    begin();
    server.options.message_ms = 30000;
    CHECK(is_due(WSS__DEADLINE_NONE, 0));
    conn.session.input = &input;
    input.since = START - 1000;
    CHECK(is_due(WSS__DEADLINE_NONE, 0)); /* between two messages */
    input.head_size = 1;
    CHECK(is_due(WSS__DEADLINE_MESSAGE, 29000));
    input.head_size = 0;
    input.in_frame = 1;
    CHECK(is_due(WSS__DEADLINE_MESSAGE, 29000));
    input.in_frame = 0;
    input.in_message = 1;
    CHECK(is_due(WSS__DEADLINE_MESSAGE, 29000));
    input.size = 25600;
    CHECK(is_due(WSS__DEADLINE_MESSAGE, 29000)); /* no rate, no more time */
    server.options.least_rate = 256;
    CHECK(is_due(WSS__DEADLINE_MESSAGE, 29000 + 100000));
    input.size = 255;
    CHECK(is_due(WSS__DEADLINE_MESSAGE, 29000 + 996));
    server.options.least_rate = 1;
    input.size = 5000000; /* a thousand times as much has more than 32 bits */
    CHECK(is_due(WSS__DEADLINE_MESSAGE, 29000 + 5000000000));
    server.options.least_rate = INT_MAX;
    CHECK(is_due(WSS__DEADLINE_MESSAGE, 29000 + 2));
    pass(1000);
    wss__deadline_touch(&loop, &conn); /* more of it is no reason in itself */
    CHECK(is_due(WSS__DEADLINE_MESSAGE, 29002));
    server.options.message_ms = WSS_OFF;
    CHECK(is_due(WSS__DEADLINE_NONE, 0));
}

static void idle(void) {
    begin();
    conn.more = (uint64_t)(uintptr_t)&cold;
    cold.last_message = START - 500;
    CHECK(is_due(WSS__DEADLINE_NONE, 0));
    server.options.idle_ms = 60000;
    CHECK(is_due(WSS__DEADLINE_IDLE, 59500));
    pass(100);
    wss__deadline_touch(&loop, &conn); /* a pong is no message */
    CHECK(is_due(WSS__DEADLINE_IDLE, 59500));
    server.options.idle_ms = WSS_OFF;
    conn.more = 0;
    CHECK(is_due(WSS__DEADLINE_NONE, 0));
}

/* In any phase, as long as something waits that was offered. */
static void behind(void) {
    begin();
    server.options.stall_ms = 30000;
    server.options.least_rate = 256;
    conn.session.queue = &queue;
    CHECK(is_due(WSS__DEADLINE_NONE, 0)); /* nobody has tried to send it */
    queue.since = START + 100;
    queue.window = START + 50;
    for (int phase = WSS__SESSION_HEAD; phase <= WSS__SESSION_DONE; phase++) {
        for (int unread = 0; unread <= 1; unread++) {
            conn.session.phase = (uint8_t)phase;
            conn.work = (uint16_t)(unread ? conn.work | WSS__WORK_UNREAD : conn.work & ~WSS__WORK_UNREAD);
            queue.since = START + 100;
            CHECK(is_due(WSS__DEADLINE_STALL, 30100));
            queue.since = START + 40000; /* bytes leave, and the minute is not over */
            CHECK(is_due(WSS__DEADLINE_RATE, 60050));
            queue.since = START + 30051;
            CHECK(is_due(WSS__DEADLINE_RATE, 60050));
            queue.since = START + 30049;
            CHECK(is_due(WSS__DEADLINE_STALL, 60049));
        }
    }
    server.options.stall_ms = WSS_OFF;
    CHECK(is_due(WSS__DEADLINE_RATE, 60050));
    server.options.least_rate = WSS_OFF;
    CHECK(is_due(WSS__DEADLINE_NONE, 0));
    server.options.stall_ms = 1;
    CHECK(is_due(WSS__DEADLINE_STALL, 30050));
}

/* The peer's last word, once ours has left. */
static void closing(void) {
    static const int phases[] = {WSS__SESSION_CLOSING, WSS__SESSION_DONE, WSS__SESSION_DONE};
    static const int states[] = {WSS__STATE_OPEN, WSS__STATE_FLUSHING, WSS__STATE_LINGERING};
    for (int i = 0; i < 3; i++) {
        begin();
        server.options.close_ms = 4000;
        server.options.ping_ms = server.options.pong_ms = server.options.handshake_ms = server.options.idle_ms = 1;
        conn.session.phase = (uint8_t)phases[i];
        set_state(states[i]);
        CHECK(is_due(WSS__DEADLINE_NONE, 0)); /* something of ours has not left */
        pass(300);
        wss__deadline_begin(&loop, &conn, WSS__WORK_AWAITED);
        CHECK(is_due(WSS__DEADLINE_CLOSE, 4300));
        pass(300);
        wss__deadline_touch(&loop, &conn);
        CHECK(is_due(WSS__DEADLINE_CLOSE, 4300));
        server.options.close_ms = WSS_OFF; /* only the end of TCP has a time of its own then */
        CHECK(is_due(i == 2 ? WSS__DEADLINE_CLOSE : WSS__DEADLINE_NONE, 300 + WSS__CONN_LINGER));
        server.options.close_ms = INT_MAX;
        CHECK(is_due(WSS__DEADLINE_CLOSE, 300 + (uint64_t)INT_MAX));
    }
}

/* What lacked memory is tried again, ever from now on: whatever else is due comes first. */
static void retry(void) {
    begin();
    conn.work |= WSS__WORK_STARVED;
    CHECK(is_due(WSS__DEADLINE_RETRY, 100));
    pass(5000);
    CHECK(is_due(WSS__DEADLINE_RETRY, 5100));
    server.options.ping_ms = 5000;
    CHECK(is_due(WSS__DEADLINE_PING, 5000));
    server.options.ping_ms = 5100;
    CHECK(is_due(WSS__DEADLINE_RETRY, 5100));
    conn.work = (uint16_t)(conn.work & ~WSS__WORK_STARVED);
    server.options.ping_ms = WSS_OFF;
    conn.work |= WSS__WORK_CROWDED; /* a drain event that found no memory */
    CHECK(is_due(WSS__DEADLINE_RETRY, 5100));
    conn.session.queued = 1024 / WSS__SESSION_UNIT; /* a quarter of the limit */
    CHECK(is_due(WSS__DEADLINE_RETRY, 5100));
    conn.session.queued++;
    CHECK(is_due(WSS__DEADLINE_NONE, 0)); /* it is crowded still */
    conn.work = (uint16_t)(conn.work & ~WSS__WORK_CROWDED);
    conn.session.queued = 0;
    CHECK(is_due(WSS__DEADLINE_NONE, 0));
}

/* Of a connection that is not read from nothing is asked; only what waits for it counts. */
static void not_read_from(void) {
    begin();
    server.options.ping_ms = server.options.pong_ms = server.options.idle_ms = server.options.message_ms = 100;
    conn.more = (uint64_t)(uintptr_t)&cold;
    cold.last_message = START;
    conn.session.input = &input;
    input.in_message = 1;
    input.since = START;
    CHECK(is_due(WSS__DEADLINE_PING, 100));
    conn.work |= WSS__WORK_UNREAD;
    CHECK(is_due(WSS__DEADLINE_NONE, 0));
    conn.work |= WSS__WORK_AWAITED;
    CHECK(is_due(WSS__DEADLINE_NONE, 0));
}

/* Each of all that may run for an open connection is the next one, if it is the earliest. */
static void the_earliest(void) {
    static const int kinds[] = {WSS__DEADLINE_STALL, WSS__DEADLINE_RATE, WSS__DEADLINE_PING, WSS__DEADLINE_MESSAGE,
                                WSS__DEADLINE_IDLE};
    for (int first = 0; first < 5; first++) {
        begin();
        conn.more = (uint64_t)(uintptr_t)&cold;
        conn.session.input = &input;
        conn.session.queue = &queue;
        input.in_message = 1;
        server.options.least_rate = 256;
        server.options.stall_ms = server.options.ping_ms = server.options.message_ms = server.options.idle_ms = 60000;
        queue.since = START + (first == 0 ? 10u : 20u);
        queue.window = START + (first == 1 ? 10u : 20u);
        conn.session.seen = START + (first == 2 ? 10u : 20u);
        input.since = START + (first == 3 ? 10u : 20u);
        cold.last_message = START + (first == 4 ? 10u : 20u);
        loop.time += 30;
        CHECK(is_due(kinds[first], 60010));
    }
}

/* Time that was skipped puts every deadline off, and none comes out of nothing. */
static void skipped_time(void) {
    begin();
    server.options.ping_ms = 1000;
    loop.skipped = 0;
    CHECK(is_due(WSS__DEADLINE_PING, 1000));
    loop.skipped = (uint64_t)1 << 33;
    CHECK_INT(wss__deadline_of(&loop, &conn).at, START + 1000 + ((uint64_t)1 << 33));
    server.options.ping_ms = WSS_OFF;
    CHECK(wss__deadline_of(&loop, &conn).at == UINT64_MAX);
}

/* ---- reading, and not ---- */

/* It is counted while it is not read from, once, however often that is noted. */
static void pauses_are_counted(void) {
    begin();
    for (int i = 0; i < 2; i++) wss__deadline_note_reading(&loop, &conn, 1);
    CHECK_INT(loop.shared.stats.paused, 0);
    CHECK(!(conn.work & WSS__WORK_UNREAD));
    for (int i = 0; i < 2; i++) wss__deadline_note_reading(&loop, &conn, 0);
    CHECK_INT(loop.shared.stats.paused, 1);
    CHECK(conn.work & WSS__WORK_UNREAD);
    pass(5);
    wss__deadline_note_reading(&loop, &conn, 0);
    CHECK_INT(conn.since, START); /* since the first time */
    for (int i = 0; i < 2; i++) wss__deadline_note_reading(&loop, &conn, 1);
    CHECK_INT(loop.shared.stats.paused, 0);
    CHECK(!(conn.work & WSS__WORK_UNREAD));
    CHECK_INT(wss__conn_state(&conn), WSS__STATE_OPEN);
}

/* The time for a message, for the next one and for a pong goes on where it stopped. */
static void time_stands_while_paused(void) {
    begin();
    server.options.ping_ms = 20000;
    server.options.pong_ms = 5000;
    server.options.message_ms = 10000;
    server.options.idle_ms = 50000;
    conn.more = (uint64_t)(uintptr_t)&cold;
    cold.last_message = START;
    conn.session.input = &input;
    input.in_message = 1;
    pass(1000);
    input.since = loop.time;
    pass(3000);
    wss__deadline_begin(&loop, &conn, WSS__WORK_AWAITED);
    pass(1000);
    wss__deadline_note_reading(&loop, &conn, 0);
    CHECK(is_due(WSS__DEADLINE_NONE, 0));
    pass(100000);
    CHECK(is_due(WSS__DEADLINE_NONE, 0));
    wss__deadline_note_reading(&loop, &conn, 1);
    CHECK_INT(input.since, START + 1000 + 100000);
    CHECK_INT(cold.last_message, START + 100000);
    CHECK(is_due(WSS__DEADLINE_PONG, 4000 + 100000 + 5000)); /* of which one second had passed */
    CHECK_INT(conn.session.seen, conn.since - 20000);
    wss__deadline_answered(&loop, &conn);
    wss__deadline_touch(&loop, &conn);
    CHECK(is_due(WSS__DEADLINE_MESSAGE, 111000));
    input.in_message = 0;
    CHECK(is_due(WSS__DEADLINE_PING, 125000));
    server.options.ping_ms = WSS_OFF;
    CHECK(is_due(WSS__DEADLINE_IDLE, 150000));
}

/* However often it is paused meanwhile: silence adds up, and so does the time for a pong. */
static void many_pauses(void) {
    begin();
    server.options.ping_ms = 20000;
    server.options.pong_ms = 5000;
    for (uint64_t i = 1; i <= 30; i++) {
        wss__deadline_note_reading(&loop, &conn, 0);
        pass(70);
        wss__deadline_note_reading(&loop, &conn, 1);
        pass(500);
        CHECK(is_due(WSS__DEADLINE_PING, i * 70 + 20000));
    }
    wss__deadline_begin(&loop, &conn, WSS__WORK_AWAITED);
    for (uint64_t i = 1; i <= 8; i++) {
        wss__deadline_note_reading(&loop, &conn, 0);
        pass(70);
        wss__deadline_note_reading(&loop, &conn, 1);
        pass(500);
        CHECK(is_due(WSS__DEADLINE_PONG, 30 * 570 + i * 70 + 5000));
    }
}

/* Pauses that are longer than 32 bits can tell: they are looked at meanwhile. */
static void pause_of_years(void) {
    const uint64_t years = 100 * (uint64_t)WSS__DEADLINE_LOOK;
    for (int awaited = 0; awaited <= 1; awaited++) {
        begin();
        server.options.ping_ms = 20000;
        server.options.pong_ms = 5000;
        server.options.message_ms = 30000;
        server.options.idle_ms = 30000;
        conn.more = (uint64_t)(uintptr_t)&cold;
        cold.last_message = START;
        conn.session.input = &input;
        input.in_message = 1;
        input.since = START;
        if (awaited) wss__deadline_begin(&loop, &conn, WSS__WORK_AWAITED);
        pass(1000);
        wss__deadline_note_reading(&loop, &conn, 0);
        for (int i = 0; i < 100; i++) {
            pass(WSS__DEADLINE_LOOK);
            wss__deadline_renew(&loop, &conn);
        }
        wss__deadline_note_reading(&loop, &conn, 1);
        if (awaited) CHECK(is_due(WSS__DEADLINE_PONG, years + 5000));
        else CHECK(is_due(WSS__DEADLINE_PING, years + 20000));
        CHECK_INT(input.since, START + years);
        CHECK_INT(cold.last_message, START + years);
    }
}

/* What begins during the pause, of bytes that were held, does not lie ahead afterwards. */
static void began_while_paused(void) {
    begin();
    conn.more = (uint64_t)(uintptr_t)&cold;
    conn.session.input = &input;
    wss__deadline_note_reading(&loop, &conn, 0);
    pass(1000);
    input.since = loop.time;
    cold.last_message = loop.time - 1;
    pass(1500);
    wss__deadline_note_reading(&loop, &conn, 1);
    CHECK_INT(input.since, loop.time);
    CHECK_INT(cold.last_message, loop.time);
}

/* Neither half a message nor a cold part is needed; the moments may have gone round. */
static void pause_of_a_bare_connection(void) {
    begin();
    loop.time = ((uint64_t)1 << 32) - 10;
    wss__deadline_touch(&loop, &conn);
    wss__deadline_note_reading(&loop, &conn, 0);
    pass(500);
    wss__deadline_note_reading(&loop, &conn, 1);
    CHECK_INT(conn.session.seen, 490);
    CHECK_INT(loop.shared.stats.paused, 0);
    conn.session.input = &input;
    input.since = loop.time - 100;
    wss__deadline_note_reading(&loop, &conn, 0);
    pass(20 * (uint64_t)DAY);
    wss__deadline_note_reading(&loop, &conn, 1);
    CHECK_INT(input.since, loop.time - 100);
}

/* ---- sending ---- */

static void what_was_sent(void) {
    begin();
    wss__deadline_note_sent(&loop, &conn, 5); /* nothing waits: nothing to note */
    conn.session.queue = &queue;
    wss__deadline_note_sent(&loop, &conn, 0); /* tried, and nothing was taken */
    CHECK_INT(queue.since, START);
    CHECK_INT(queue.window, START);
    CHECK_INT(queue.taken, 0);
    pass(400);
    wss__deadline_note_sent(&loop, &conn, 1000);
    pass(400);
    wss__deadline_note_sent(&loop, &conn, 24);
    CHECK_INT(queue.since, START + 800);
    CHECK_INT(queue.window, START);
    CHECK_INT(queue.taken, 1024);
    uint32_t before = 0;
    for (int i = 0; i < 100; i++) { /* the count never goes round */
        wss__deadline_note_sent(&loop, &conn, i % 2 ? SIZE_MAX : UINT32_MAX / 3);
        CHECK(queue.taken >= before);
        before = queue.taken;
    }
    CHECK(queue.taken >= UINT32_MAX / 60 * 59);
}

/* So many bytes a second, averaged over the minute; then another one begins. */
static void takes_enough(void) {
    static const struct {
        int rate;
        uint32_t taken;
        int enough;
    } rows[] = {{256, 0, 0},   {256, 256 * 60 - 1, 0}, {256, 256 * 60, 1}, {256, UINT32_MAX, 1}, {1, 59, 0},
                {1, 60, 1},    {100000, 6000000, 1},   {100000, 5999999, 0}, {INT_MAX, UINT32_MAX, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin();
        server.options.least_rate = rows[i].rate;
        server.options.stall_ms = 70000;
        conn.session.queue = &queue;
        wss__deadline_note_sent(&loop, &conn, 0);
        CHECK(is_due(WSS__DEADLINE_RATE, 60000));
        queue.taken = rows[i].taken;
        pass(60010);
        queue.since = loop.time;
        CHECK_INT(wss__deadline_takes_enough(&loop, &conn), rows[i].enough);
        CHECK_INT(queue.taken, 0);
        CHECK_INT(queue.since, loop.time);
        CHECK(is_due(WSS__DEADLINE_RATE, 120010));
    }
}

/* ---- the timer ---- */

static uint32_t rounded(uint64_t due) {
    return (uint32_t)((due + 63) / 64 * 64);
}

/* Rounded up, and never moved back: what rings too early is looked at again. */
static void only_forward(void) {
    begin();
    wss__deadline_schedule(&loop, &conn, UINT64_MAX); /* it is looked at some day all the same */
    CHECK_INT(conn.timer.due, rounded(loop.now + WSS__DEADLINE_LOOK));
    wss__deadline_schedule(&loop, &conn, loop.now + 3 * (uint64_t)UINT32_MAX);
    CHECK_INT(conn.timer.due, rounded(loop.now + WSS__DEADLINE_LOOK));
    uint64_t due = loop.now + 1000;
    wss__deadline_schedule(&loop, &conn, due);
    CHECK(wss__timer_pending(&conn.timer));
    CHECK_INT(conn.timer.due, rounded(due));
    CHECK(conn.timer.due >= (uint32_t)due);
    wss__deadline_schedule(&loop, &conn, due + 5000);
    CHECK_INT(conn.timer.due, rounded(due));
    wss__deadline_schedule(&loop, &conn, UINT64_MAX);
    CHECK_INT(conn.timer.due, rounded(due));
    wss__deadline_schedule(&loop, &conn, due - 500);
    CHECK_INT(conn.timer.due, rounded(due - 500));
    wss__timer_remove(&loop.wheel, 5);
    for (uint64_t at = 6400; at <= 6464; at++) { /* one wake-up for all that are due within a step */
        loop.wheel.now = 0;
        wss__deadline_schedule(&loop, &conn, at);
        CHECK_INT(conn.timer.due, at == 6400 ? 6400 : 6464);
        wss__timer_remove(&loop.wheel, 5);
    }
}

/* What is due before the clock's lower 32 bits go round comes before what is due after it. */
static void timer_around_the_wrap(void) {
    begin();
    loop.time = ((uint64_t)1 << 32) - 1000;
    loop.skipped = 0;
    pass(0);
    wss__timer_init(&loop.wheel, node_at, &server, loop.now);
    uint64_t late = ((uint64_t)1 << 32) + 640;
    uint64_t soon = ((uint64_t)1 << 32) - 640;
    wss__deadline_schedule(&loop, &conn, late);
    CHECK_INT(conn.timer.due, 640);
    wss__deadline_schedule(&loop, &conn, soon);
    CHECK_INT(conn.timer.due, (uint32_t)soon);
    wss__deadline_schedule(&loop, &conn, late);
    CHECK_INT(conn.timer.due, (uint32_t)soon);
    wss__timer_remove(&loop.wheel, 5);
}

/* ---- pressure, which makes a deadline of its own ---- */

static void crowded(void) {
    begin();
    static const struct {
        uint32_t units; /* of 256 that make the limit */
        int crowded;    /* afterwards */
        int drained;
    } rows[] = {{0, 0, 0}, {127, 0, 0}, {128, 1, 0}, {65, 1, 0}, {64, 1, 1}, {0, 1, 1}, {128, 1, 0}, {300, 1, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        conn.session.queued = rows[i].units;
        wss__pause_mark_pressure(&loop, &conn);
        CHECK_INT((conn.work & WSS__WORK_CROWDED) != 0, rows[i].crowded);
        CHECK_INT(loop.shared.stats.crowded, rows[i].crowded);
        CHECK_INT(wss__pause_is_drained(&server, &conn), rows[i].drained);
    }
    for (int i = 0; i < 2; i++) wss__pause_set_crowded(&loop, &conn);
    CHECK_INT(loop.shared.stats.crowded, 1);
    for (int i = 0; i < 2; i++) wss__pause_clear_crowded(&loop, &conn);
    CHECK_INT(loop.shared.stats.crowded, 0);
    CHECK(!(conn.work & WSS__WORK_CROWDED));
    conn.session.queued = 0;
    CHECK(!wss__pause_is_drained(&server, &conn));
    server.options.max_queued = 1; /* half of it is nothing: an empty queue is not crowded all the same */
    wss__pause_mark_pressure(&loop, &conn);
    CHECK_INT(loop.shared.stats.crowded, 0);
    conn.session.queued = 4;
    wss__pause_mark_pressure(&loop, &conn);
    CHECK_INT(loop.shared.stats.crowded, 1);
    CHECK(!wss__pause_is_drained(&server, &conn));
    conn.session.queued = 0;
    CHECK(wss__pause_is_drained(&server, &conn));
    conn.session.coming = 1; /* what is on its way counts, too: of it a send may have been refused */
    CHECK(!wss__pause_is_drained(&server, &conn));
    conn.session.coming = WSS__SESSION_OWED;
    CHECK(wss__pause_is_drained(&server, &conn));
    conn.session.coming = 0;
}

int main(void) {
    alarm(60);
    RUN(moments);
    RUN(moments_stay);
    RUN(earlier);
    RUN(offers);
    RUN(nothing_is_due);
    RUN(handshake);
    RUN(ping_and_pong);
    RUN(half_a_message);
    RUN(idle);
    RUN(behind);
    RUN(closing);
    RUN(retry);
    RUN(not_read_from);
    RUN(the_earliest);
    RUN(skipped_time);
    RUN(pauses_are_counted);
    RUN(time_stands_while_paused);
    RUN(many_pauses);
    RUN(pause_of_years);
    RUN(began_while_paused);
    RUN(pause_of_a_bare_connection);
    RUN(what_was_sent);
    RUN(takes_enough);
    RUN(only_forward);
    RUN(timer_around_the_wrap);
    RUN(crowded);
    return test_end("deadline");
}
