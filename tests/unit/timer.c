/* Unit tests of [timer]: the wheel against a list that is searched from end to end. */
#include "../library.h"

#include "../test.h"

enum { NODES = 48 };

static wss__timer_node nodes[1024];
static uint64_t calls;

static wss__timer_node *node_at(void *owner, uint32_t number) {
    CHECK(owner == (void *)nodes);
    CHECK(number < sizeof nodes / sizeof nodes[0]);
    calls++;
    return &nodes[number];
}

static void begin(wss__timer_wheel *wheel, uint64_t now) {
    memset(nodes, 0, sizeof nodes);
    wss__timer_init(wheel, node_at, nodes, now);
    CHECK(wss__timer_next(wheel) == UINT64_MAX);
}

static uint32_t seed = 31337;

static uint32_t dice(uint32_t sides) {
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(seed >> 4) * sides >> 28);
}

/* ---- the model ---- */

static uint64_t due_of[NODES]; /* 0: not set */
static uint64_t turn_of[NODES]; /* of two, the one set later has the higher */
static uint64_t turns;

static uint64_t model_first(void) {
    uint64_t first = UINT64_MAX;
    for (int i = 0; i < NODES; i++)
        if (due_of[i] && due_of[i] < first) first = due_of[i];
    return first;
}

static void check_wheel(const wss__timer_wheel *wheel) {
    uint64_t first = model_first();
    uint64_t next = wss__timer_next(wheel);
    CHECK(first == UINT64_MAX ? next == UINT64_MAX : next <= first && next > wheel->now);
    for (int i = 0; i < NODES; i++) {
        CHECK_INT(wss__timer_pending(&nodes[i]), due_of[i] != 0);
        if (due_of[i]) CHECK_INT(nodes[i].due, (uint32_t)due_of[i]);
    }
}

/* Delays of every magnitude, also none, past ones and ones beyond the horizon. */
static uint64_t random_due(uint64_t now) {
    uint32_t kind = dice(40);
    if (kind == 0) return now - wss__base_min((size_t)now, dice(1000));
    if (kind == 1) return now + WSS__TIMER_HORIZON - 3 + dice(6);
    if (kind == 2) return now + ((uint64_t)1 << 31) + dice(1000);
    if (kind == 3) return UINT64_MAX - dice(2);
    return now + dice((uint32_t)1 << (1 + dice(27)));
}

static void set_random(wss__timer_wheel *wheel) {
    uint32_t i = dice(NODES);
    uint64_t due = random_due(wheel->now);
    wss__timer_set(wheel, i, due);
    if (due <= wheel->now) due = wheel->now + 1;
    uint64_t beyond = (due - wheel->now - 1) / (WSS__TIMER_HORIZON - 1); /* horizons: it rings before each of them */
    due -= beyond * (WSS__TIMER_HORIZON - 1);
    due_of[i] = due;
    turn_of[i] = ++turns;
}

static void set_at(wss__timer_wheel *wheel, uint32_t i, uint64_t due) {
    wss__timer_set(wheel, i, due);
    due_of[i] = due;
    turn_of[i] = ++turns;
}

/* Of those due at the same time the one that was set first comes first. */
static void check_turn(uint32_t number) {
    for (int i = 0; i < NODES; i++)
        if (due_of[i] == due_of[number]) CHECK(turn_of[i] >= turn_of[number]);
}

static void remove_random(wss__timer_wheel *wheel) {
    uint32_t i = dice(NODES);
    wss__timer_remove(wheel, i);
    due_of[i] = 0;
}

/* Lets time pass. While timers fire, others are set, moved and removed, also ones that are due at the same moment. */
static void advance(wss__timer_wheel *wheel, uint64_t now) {
    uint32_t number;
    while ((number = wss__timer_pop(wheel, now)) != WSS__TIMER_NONE) {
        CHECK(number < NODES);
        CHECK(wheel->now == due_of[number]); /* on its millisecond, */
        CHECK(model_first() == due_of[number]); /* and none before it was passed over */
        check_turn(number);
        CHECK(!wss__timer_pending(&nodes[number]));
        CHECK(wheel->now <= now);
        due_of[number] = 0;
        uint32_t act = dice(8);
        if (act < 3) set_random(wheel);
        if (act == 3) remove_random(wheel);
        if (act == 4) {
            for (uint32_t i = 0; i < NODES; i++) { /* take one that fires now out of the expired list, or move it */
                if (due_of[i] != wheel->now) continue;
                wss__timer_remove(wheel, i);
                due_of[i] = 0;
                if (dice(2)) set_at(wheel, i, wheel->now + 5);
                break;
            }
        }
    }
    CHECK(wheel->now == now);
    CHECK(model_first() > now);
}

static uint64_t due_of_any(const wss__timer_wheel *wheel) {
    uint64_t due = 0;
    for (uint32_t i = dice(NODES), tries = 0; !due && tries < NODES; tries++) due = due_of[(i + tries) % NODES];
    return due ? due : wheel->now + 1;
}

static void random_from(uint64_t start, int rounds) {
    wss__timer_wheel wheel;
    begin(&wheel, start);
    memset(due_of, 0, sizeof due_of);
    for (int round = 0; round < rounds; round++) {
        uint32_t act = dice(10);
        if (act < 5) set_random(&wheel);
        else if (act < 6) remove_random(&wheel);
        else if (act < 9) advance(&wheel, wheel.now + dice((uint32_t)1 << (1 + dice(18))));
        else if (dice(50) == 0) advance(&wheel, wheel.now + dice((uint32_t)1 << 27));
        else if (model_first() != UINT64_MAX && dice(3) == 0) advance(&wheel, model_first() - dice(2));
        if (dice(20) == 0) /* several at one moment */
            for (uint32_t i = 0; i < 5; i++) set_at(&wheel, i, wheel.now + 40);
        if (dice(10) == 0 && model_first() != UINT64_MAX) /* one more at a moment that another was set to long ago */
            set_at(&wheel, dice(NODES), due_of_any(&wheel));
        check_wheel(&wheel);
    }
    for (uint32_t i = 0; i < NODES; i++) wss__timer_remove(&wheel, i);
    memset(due_of, 0, sizeof due_of);
    check_wheel(&wheel);
}

static void random_operations(void) {
    random_from(0, 20000);
    random_from(1, 5000);
    random_from(63, 5000);
    random_from(123456789, 20000);
}

/* dues are kept modulo 2^32: about 50 days after boot, and ever again, they go round. */
static void around_wraps(void) {
    for (int i = 0; i < 40; i++) {
        random_from(UINT64_C(0x100000000) - 1 - dice(1000), 600);
        random_from(UINT64_C(0x100000000) - 2000000, 600);
        random_from(UINT64_C(0x80000000) - dice(1000), 600);
        random_from(UINT64_C(0x700000000) - dice(70000), 600);
    }
}

/* ---- single timers ---- */

/* Fires at its millisecond and not one before, whether time jumps or stops at every moment that the wheel names. */
static void check_single(uint64_t start, uint64_t delay) {
    wss__timer_wheel wheel;
    begin(&wheel, start);
    wss__timer_set(&wheel, 0, start + delay);
    CHECK(wss__timer_pop(&wheel, start + delay - 1) == WSS__TIMER_NONE);
    CHECK(wss__timer_pop(&wheel, start + delay) == 0);
    CHECK(wss__timer_pop(&wheel, start + delay) == WSS__TIMER_NONE);
    CHECK(wss__timer_next(&wheel) == UINT64_MAX);

    begin(&wheel, start);
    wss__timer_set(&wheel, 0, start + delay);
    CHECK(wss__timer_pop(&wheel, start + delay + 1000000) == 0); /* late, but told when it was due */
    CHECK(wheel.now == start + delay);
    CHECK(wss__timer_pop(&wheel, start + delay + 1000000) == WSS__TIMER_NONE);
    CHECK(wheel.now == start + delay + 1000000);

    begin(&wheel, start);
    wss__timer_set(&wheel, 0, start + delay);
    int steps = 0;
    uint32_t number = WSS__TIMER_NONE;
    while (number == WSS__TIMER_NONE && steps < 20) {
        uint64_t next = wss__timer_next(&wheel);
        CHECK(next > wheel.now && next <= start + delay);
        number = wss__timer_pop(&wheel, next);
        steps++;
    }
    CHECK(number == 0 && wheel.now == start + delay);
    CHECK(steps <= WSS__TIMER_LEVELS);
}

static void boundaries(void) {
    for (int a = 0; a <= 36; a += 6) {
        for (int b = 0; b <= 30; b += 6) {
            for (int i = -2; i <= 2; i++) {
                for (int j = -2; j <= 2; j++) {
                    int64_t start = ((int64_t)1 << a) + i;
                    int64_t delay = ((int64_t)1 << b) + j;
                    if (start < 0 || delay < 1 || delay >= WSS__TIMER_HORIZON) continue;
                    check_single((uint64_t)start, (uint64_t)delay);
                    check_single(UINT64_C(0x100000000) - (uint64_t)delay + (uint64_t)(i + 2), (uint64_t)delay);
                }
            }
        }
    }
}

/* Every delay up to beyond the second level, from places all over the first. */
static void all_short_delays(void) {
    static const uint64_t starts[] = {0, 1, 31, 62, 63, 64, 4095, 4096};
    for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++)
        for (uint64_t delay = 1; delay < 4300; delay++) check_single(starts[s], delay);
}

static void past_and_beyond(void) {
    wss__timer_wheel wheel;
    begin(&wheel, 5000);
    wss__timer_set(&wheel, 0, 0);
    wss__timer_set(&wheel, 1, 5000);
    wss__timer_set(&wheel, 2, 4999);
    CHECK(wss__timer_next(&wheel) == 5001);
    CHECK(wss__timer_pop(&wheel, 5000) == WSS__TIMER_NONE); /* not at once: a handler that sets one comes to an end */
    int fired = 0;
    while (wss__timer_pop(&wheel, 5001) != WSS__TIMER_NONE) fired++;
    CHECK_INT(fired, 3);
    static const uint64_t far[] = {WSS__TIMER_HORIZON, (uint64_t)WSS__TIMER_HORIZON + 1, UINT64_C(0xffffffff),
                                   UINT64_C(0x100000000), UINT64_C(0x100000001), UINT64_MAX - 5001};
    for (size_t i = 0; i < sizeof far / sizeof far[0]; i++) {
        begin(&wheel, 5001);
        wss__timer_set(&wheel, 0, 5001 + far[i]);
        uint64_t want = 5002 + (far[i] - 1) % (WSS__TIMER_HORIZON - 1);
        CHECK_INT(nodes[0].due, (uint32_t)want);
        CHECK(wss__timer_pop(&wheel, want - 1) == WSS__TIMER_NONE);
        CHECK(wss__timer_pop(&wheel, want) == 0);
    }
}

/* Beyond the horizon a timer rings early, and its owner sets it again. Of those due in the same millisecond the one that was
   set first rings first all the same: whatever lies between, and whether the others were beyond the horizon when they were set. */
static void order_beyond_the_horizon(void) {
    static const uint64_t spans[] = {1, 2, 63, 5000, 1 << 20, WSS__TIMER_HORIZON - 2, WSS__TIMER_HORIZON - 1, WSS__TIMER_HORIZON,
                                     (uint64_t)WSS__TIMER_HORIZON * 2 - 2, (uint64_t)WSS__TIMER_HORIZON * 2 - 1};
    enum { SPANS = sizeof spans / sizeof spans[0], MOST = 6 };
    for (int round = 0; round < 400; round++) {
        wss__timer_wheel wheel;
        uint64_t when[MOST];
        uint32_t count = 2 + dice(MOST - 1);
        uint32_t set = 0;
        uint32_t rung = 0;
        uint64_t due = (uint64_t)WSS__TIMER_HORIZON * 5 + dice(100);
        begin(&wheel, 1);
        for (uint32_t i = 0; i < count; i++) when[i] = due - spans[dice(SPANS)];
        for (uint32_t i = 1; i < count; i++) /* in the order of time */
            for (uint32_t k = i; k && when[k] < when[k - 1]; k--) {
                uint64_t other = when[k];
                when[k] = when[k - 1];
                when[k - 1] = other;
            }
        for (;;) {
            uint32_t number = wss__timer_pop(&wheel, set < count ? when[set] : due);
            if (number == WSS__TIMER_NONE && set == count) break;
            if (number == WSS__TIMER_NONE) wss__timer_set(&wheel, set++, due);
            else if (wheel.now < due) wss__timer_set(&wheel, number, due); /* early */
            else CHECK_INT(number, rung++);
        }
        CHECK_INT(rung, count);
    }
}

/* Timers that fell due together: each may be removed or moved while the others are taken. */
static void expired_list(void) {
    for (uint32_t gone = 0; gone < 10; gone++) {
        wss__timer_wheel wheel;
        int seen[10] = {0};
        uint32_t number;
        begin(&wheel, 100);
        for (uint32_t i = 0; i < 10; i++) wss__timer_set(&wheel, i, 200);
        uint32_t first = wss__timer_pop(&wheel, 300);
        CHECK(first < 10 && wheel.now == 200);
        seen[first]++;
        for (uint32_t i = 0; i < 10; i++) CHECK_INT(wss__timer_pending(&nodes[i]), i != first);
        if (gone != first) {
            wss__timer_remove(&wheel, gone);
            wss__timer_remove(&wheel, gone);
            CHECK(!wss__timer_pending(&nodes[gone]));
            wss__timer_set(&wheel, gone, 250);
        }
        wss__timer_set(&wheel, first, 200); /* has passed: the next millisecond, not this one again */
        while ((number = wss__timer_pop(&wheel, 300)) != WSS__TIMER_NONE) {
            seen[number]++;
            CHECK(wheel.now == (number == first ? 201 : number == gone ? 250 : 200));
        }
        for (uint32_t i = 0; i < 10; i++) CHECK_INT(seen[i], i == first ? 2 : 1);
        CHECK(wheel.now == 300);
    }
}

/* Timers for one moment, set at every distance from it, fire in the order in which they were set. */
static void first_set_first_fired(void) {
    static const uint64_t before[] = {1 << 29, 1 << 24, 300000, 262144, 262143, 5000, 4097, 4096, 4095, 100, 65, 64, 63, 2, 1};
    enum { COUNT = sizeof before / sizeof before[0] };
    for (uint64_t due = UINT64_C(1) << 30; due < (UINT64_C(1) << 30) + 200; due++) {
        wss__timer_wheel wheel;
        begin(&wheel, due - before[0]);
        for (uint32_t i = 0; i < COUNT; i++) {
            CHECK(wss__timer_pop(&wheel, due - before[i]) == WSS__TIMER_NONE);
            wss__timer_set(&wheel, 2 * i, due);
            wss__timer_set(&wheel, 2 * i + 1, due);
        }
        for (uint32_t i = 0; i < 2 * COUNT; i++) CHECK_INT(wss__timer_pop(&wheel, due), i);
        CHECK(wss__timer_pop(&wheel, due) == WSS__TIMER_NONE);
    }
}

/* A timer that is set anew whenever it fires rings once each period, however time jumps. */
static void periodic(void) {
    wss__timer_wheel wheel;
    begin(&wheel, 1000);
    wss__timer_set(&wheel, 3, 1007);
    int rings = 0;
    for (uint64_t now = 1000; now < 100000; now += 977) {
        while (wss__timer_pop(&wheel, now) == 3) {
            rings++;
            CHECK(wheel.now == 1000 + 7 * (uint64_t)rings);
            wss__timer_set(&wheel, 3, wheel.now + 7);
        }
        CHECK_INT(rings, (int)((now - 1000) / 7));
    }
}

static void time_does_not_go_back(void) {
    wss__timer_wheel wheel;
    begin(&wheel, 1000);
    wss__timer_set(&wheel, 0, 1500);
    CHECK(wss__timer_pop(&wheel, 900) == WSS__TIMER_NONE);
    CHECK(wheel.now == 1000);
    CHECK(wss__timer_pop(&wheel, 1500) == 0);
}

/* ---- cost ---- */

/* A million milliseconds in which nothing is due touch no timer, in one step or in a million. */
static void passing_time_is_free(void) {
    wss__timer_wheel wheel;
    begin(&wheel, 0);
    calls = 0;
    CHECK(wss__timer_pop(&wheel, 1000000) == WSS__TIMER_NONE);
    CHECK_INT(calls, 0);
    for (uint32_t i = 0; i < 1000; i++) wss__timer_set(&wheel, i, 20000000 + i * 100);
    calls = 0;
    CHECK(wss__timer_pop(&wheel, 2000000) == WSS__TIMER_NONE);
    CHECK_INT(calls, 0);
    for (uint64_t now = 2000000; now < 3000000; now++) CHECK(wss__timer_pop(&wheel, now) == WSS__TIMER_NONE);
    CHECK_INT(calls, 0);
    CHECK(wheel.now == 2999999);
}

/* What a timer costs does not depend on how many there are. */
static void cost_of_a_timer(void) {
    wss__timer_wheel wheel;
    for (uint32_t count = 10; count <= 1000; count *= 10) {
        uint64_t fired = 0;
        uint64_t most = 0;
        begin(&wheel, 77);
        for (uint32_t i = 0; i < count; i++) {
            uint64_t before = calls;
            wss__timer_set(&wheel, i, 77 + 1 + dice(1 << 24));
            wss__timer_set(&wheel, i, 77 + 1 + dice(1 << 24));
            if (calls - before > most) most = calls - before;
        }
        CHECK(most <= 24);
        uint64_t before = calls;
        while (wss__timer_pop(&wheel, (uint64_t)1 << 25) != WSS__TIMER_NONE) fired++;
        CHECK(fired == count);
        CHECK((calls - before) / count <= 5 * WSS__TIMER_LEVELS);
    }
}

/* A node placed late, at its moment or after it, is due at once, also across the wrap of its 32 bits. */
static void placed_late(void) {
    static const uint64_t starts[] = {0, 1000, 0xffffffffu, (uint64_t)1 << 32, ((uint64_t)1 << 40) + 5};
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        for (uint32_t late = 0; late <= 64 * 64; late = late * 2 + 1) {
            wss__timer_wheel wheel;
            begin(&wheel, starts[i]);
            nodes[3].due = (uint32_t)starts[i] - late;
            wss__timer_place(&wheel, 3, 0);
            CHECK_INT(wheel.lists[WSS__TIMER_EXPIRED], 3);
            CHECK_INT(wss__timer_pending(&nodes[3]), 1);
            CHECK(wss__timer_next(&wheel) == UINT64_MAX);
            CHECK_INT(wss__timer_pop(&wheel, starts[i]), 3);
            CHECK(wss__timer_pop(&wheel, starts[i]) == WSS__TIMER_NONE);
            CHECK_INT(wss__timer_pending(&nodes[3]), 0);
        }
    }
}

int main(void) {
    alarm(120);
    RUN(random_operations);
    RUN(around_wraps);
    RUN(boundaries);
    RUN(all_short_delays);
    RUN(past_and_beyond);
    RUN(order_beyond_the_horizon);
    RUN(expired_list);
    RUN(first_set_first_fired);
    RUN(periodic);
    RUN(time_does_not_go_back);
    RUN(passing_time_is_free);
    RUN(cost_of_a_timer);
    RUN(placed_late);
    return test_end("timer");
}
