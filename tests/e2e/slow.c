/* Clients that do not read, over real sockets and from other threads: what is accepted arrives, what is not is refused or
   dropped as the policy says, and broadcasts to all lose nothing. */
#include "../host.h"

static wss_conn conns[8];
static int connects;
static int drains;
static int ends;
static int last_code;
static int last_cause;

static void on_connect(const wss_event *e) {
    if (connects < 8) conns[connects] = e->conn;
    host_count(&connects);
}

static void on_drain(const wss_event *e) {
    (void)e;
    host_count(&drains);
}

static void on_end(const wss_event *e) {
    last_code = e->code;
    last_cause = e->cause;
    host_count(&ends);
}

static wss_server *watch(wss_server *server) {
    connects = 0;
    drains = 0;
    ends = 0;
    last_code = 0;
    last_cause = 0;
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_end, NULL);
    wss_on_drain(server, on_drain, NULL);
    return server;
}

enum { BLOCK = 4000, LIMIT = 64 * 1024, NODE = 80 /* what a message costs besides itself, at most */ };

static wss_server *serve(int policy) {
    wss_options options = {0};
    options.max_queued = LIMIT;
    options.send_policy = policy;
    return watch(host_drive(&options));
}

/* A client with little room of its own, so that what it does not read soon waits in the server. */
static client *open_narrow(void) {
    int before = connects;
    client *c = client_dial_with(host_port, 4096);
    CHECK_INT(client_ask(c, ""), 101);
    UNTIL(host_get(&connects) == before + 1);
    return c;
}

static client *open_wide(void) {
    int before = connects;
    client *c = client_open(host_port);
    UNTIL(host_get(&connects) == before + 1);
    return c;
}

/* A message of BLOCK bytes that begins with a number. */
static const char *block(int number) {
    static char text[BLOCK + 16];
    memset(text, '.', BLOCK);
    text[snprintf(text, 16, "%010d", number)] = '.';
    text[BLOCK] = 0;
    return text;
}

static int send_block(wss_server *server, wss_conn conn, int number) {
    return wss_send_data(server, conn, WSS_TEXT, block(number), BLOCK);
}

/* The number of the next block, or what client_read says, far below 0. */
static int read_block(client *c) {
    int result = client_read(c);
    return result == SCRIPT_TEXT && c->length == BLOCK ? atoi(c->data) : -1000 - result;
}

/* Sends blocks until one is refused and nothing moves any more. Returns how many were accepted. */
static int fill(wss_server *server, wss_conn conn, int first) {
    int number = first;
    for (int refused = 0; refused < 20; refused++) {
        int result = send_block(server, conn, number);
        if (result == WSS_OK) number++;
        if (result == WSS_OK) refused = 0;
        else CHECK_INT(result, WSS_ERR_FULL);
        host_turn();
    }
    return number - first;
}

/* Sends blocks until the kernel takes no more and some wait in the server, fewer than the limit. */
static void fill_kernel(wss_server *server, wss_conn conn) {
    int number = 0;
    for (int still = 0; still < 20 && number < 10000; still++) {
        if (wss_buffered(server, conn) == 0) {
            CHECK_INT(send_block(server, conn, number++), WSS_OK);
            still = 0;
        }
        host_turn();
    }
    CHECK(wss_buffered(server, conn) < LIMIT / 2);
}

/* ---- refuse ---- */

static void full_and_drained(void) {
    wss_server *server = serve(WSS_POLICY_REFUSE);
    wss_stats stats;
    wss_info info;
    client *c = open_narrow();
    CHECK_INT(wss_buffered(server, conns[0]), 0);
    int count = fill(server, conns[0], 0);
    CHECK(count > LIMIT / BLOCK);
    size_t buffered = wss_buffered(server, conns[0]);
    CHECK(buffered >= LIMIT && buffered < LIMIT + BLOCK + NODE);
    wss_get_stats(server, &stats);
    CHECK(stats.queued_peak >= LIMIT && stats.queued_peak < LIMIT + BLOCK + NODE);
    CHECK_INT(stats.crowded, 1);
    int told = drains;
    CHECK_INT(wss_get_info(server, conns[0], &info), WSS_OK);
    CHECK_INT(info.buffered, buffered);
    for (int i = 0; i < count; i++) CHECK_INT(read_block(c), i);
    UNTIL(drains == told + 1);
    CHECK_INT(wss_buffered(server, conns[0]), 0);
    int more = fill(server, conns[0], count);
    CHECK(more > 0);
    told = drains;
    for (int i = 0; i < more; i++) CHECK_INT(read_block(c), count + i);
    UNTIL(drains == told + 1);
    CHECK(client_leave(c));
    host_end();
}

/* What a message of this size costs a queue. */
static size_t cost(size_t size) {
    wss__buf_frame frame;
    memset(&frame, 0, sizeof frame);
    frame.size = size + wss__frame_head_size(size);
    return wss__buf_charge(&frame);
}

/* An empty queue takes any message; the overshoot is one message. */
static void one_message_over_the_limit(void) {
    static char large[300000];
    wss_options options = {0};
    options.max_queued = 1000;
    wss_server *server = watch(host_drive(&options));
    client *c = open_wide();
    CHECK_INT(wss_send_data(server, conns[0], WSS_BINARY, large, sizeof large), WSS_OK);
    CHECK_INT(wss_send_data(server, conns[0], WSS_TEXT, "x", 1), WSS_ERR_FULL);
    CHECK_INT(client_read(c), SCRIPT_BINARY);
    CHECK_INT(c->length, sizeof large);
    size_t exact = 0; /* bytes with which a message costs 1,008 */
    while (cost(exact) < options.max_queued) exact++;
    CHECK_INT(wss_send_data(server, conns[0], WSS_BINARY, large, exact), WSS_OK);
    CHECK_INT(wss_buffered(server, conns[0]), cost(exact));
    CHECK_INT(wss_send_data(server, conns[0], WSS_TEXT, "x", 1), WSS_ERR_FULL);
    CHECK_INT(client_read(c), SCRIPT_BINARY);
    CHECK_INT(wss_send_data(server, conns[0], WSS_BINARY, large, exact - 1), WSS_OK);
    CHECK_INT(wss_buffered(server, conns[0]), cost(exact - 1));
    CHECK_INT(wss_send_data(server, conns[0], WSS_TEXT, "x", 1), WSS_OK);
    CHECK_INT(wss_send_data(server, conns[0], WSS_TEXT, "x", 1), WSS_ERR_FULL);
    CHECK_INT(client_read(c), SCRIPT_BINARY);
    CHECK_TEXT(client_read_text(c), "x");
    CHECK(client_leave(c));
    host_end();
}

static int own_count;
static int own_result;

static void fill_here(void *arg) {
    while ((own_result = send_block((wss_server *)arg, conns[0], own_count)) == WSS_OK) own_count++;
}

/* From the loop's own thread, where messages go out at once as far as the kernel takes them. */
static void full_on_the_loop(void) {
    wss_server *server = serve(WSS_POLICY_REFUSE);
    client *c = open_narrow();
    int before;
    own_count = 0;
    do {
        before = own_count;
        CHECK_INT(wss_post(server, fill_here, server), WSS_OK);
        host_settle();
        CHECK_INT(own_result, WSS_ERR_FULL);
    } while (own_count > before);
    size_t buffered = wss_buffered(server, conns[0]);
    CHECK(buffered >= LIMIT && buffered < LIMIT + BLOCK + NODE);
    for (int i = 0; i < own_count; i++) CHECK_INT(read_block(c), i);
    UNTIL(drains >= 1);
    CHECK(client_leave(c));
    host_end();
}

static void broadcast_small(const wss_event *e) {
    CHECK_INT(wss_broadcast_data(e->server, WSS_TEXT, "small", 5), WSS_OK);
}

/* The queue empties and is used again in one turn: the drain is told all the same. */
static void drained_and_used_in_one_turn(void) {
    wss_server *server = serve(WSS_POLICY_REFUSE);
    wss_on_data(server, broadcast_small, NULL);
    client *c = open_narrow();
    int count = fill(server, conns[0], 0);
    int told = drains;
    int taken = 0;
    client_turn = NULL; /* the server stands still while the client reads what the kernel has, and says something */
    for (int result = 1; result != CLIENT_LATE;) {
        result = client_read_within(c, 100);
        if (result == SCRIPT_TEXT) CHECK_INT(atoi(c->data), taken++);
    }
    client_text(c, "x");
    client_turn = host_turn;
    while (taken < count) CHECK_INT(read_block(c), taken++);
    CHECK_TEXT(client_read_text(c), "small");
    UNTIL(drains == told + 1);
    CHECK(client_leave(c));
    host_end();
}

/* ---- close ---- */

static void check_closed_as_slow(client *c, int accepted) {
    int opcode;
    int read = 0;
    while ((opcode = client_read(c)) == SCRIPT_TEXT) CHECK_INT(atoi(c->data), read++);
    CHECK_INT(opcode, SCRIPT_CLOSE);
    CHECK_INT(c->code, 1013);
    CHECK(read < accepted); /* what had begun to leave was finished, the rest dropped */
    client_send_close(c, 1013, "");
    CHECK_INT(client_read(c), CLIENT_ENDED);
    UNTIL(ends == 1);
    CHECK_INT(last_code, 1013);
    CHECK_INT(last_cause, WSS_CAUSE_SLOW_READER);
    client_free(c);
}

static void policy_close_on_the_loop(void) {
    wss_server *server = serve(WSS_POLICY_CLOSE);
    client *c = open_narrow();
    own_count = 0;
    own_result = WSS_OK;
    for (int i = 0; i < 10000 && own_result != WSS_ERR_GONE; i++) {
        CHECK_INT(wss_post(server, fill_here, server), WSS_OK);
        host_turn();
    }
    CHECK_INT(own_result, WSS_ERR_GONE);
    check_closed_as_slow(c, own_count);
    host_end();
}

/* A producer elsewhere is refused what is too much on its way to the loop; that is no fault of a client that reads. */
static void policy_close_spares_who_reads(void) {
    wss_server *server = serve(WSS_POLICY_CLOSE);
    client *c = open_wide();
    int count = 0;
    int read = 0;
    for (int round = 0; round < 20; round++) {
        int result;
        int told = drains;
        while ((result = send_block(server, conns[0], count)) == WSS_OK) count++;
        CHECK_INT(result, WSS_ERR_FULL);
        while (read < count) CHECK_INT(read_block(c), read++);
        UNTIL(drains == told + 1);
    }
    CHECK(count >= 20 * LIMIT / (BLOCK + NODE));
    CHECK_INT(ends, 0);
    CHECK(client_leave(c));
    host_end();
}

/* Who does not read is closed, and what was accepted for it is counted. */
static void policy_close_from_elsewhere(void) {
    wss_server *server = serve(WSS_POLICY_CLOSE);
    wss_stats stats;
    client *c = open_narrow();
    int count = 0;
    int result = WSS_OK;
    for (int i = 0; i < 100000 && result != WSS_ERR_GONE; i++) {
        result = send_block(server, conns[0], count);
        if (result == WSS_OK) count++;
        host_turn();
    }
    CHECK_INT(result, WSS_ERR_GONE);
    CHECK_INT(wss_close(server, conns[0], 1000, NULL), WSS_ERR_GONE);
    wss_get_stats(server, &stats);
    CHECK(stats.dropped_gone > 0 && stats.dropped_gone < (uint64_t)count);
    check_closed_as_slow(c, count);
    host_end();
}

/* ---- keys ---- */

static int send_keyed(wss_server *server, wss_conn conn, const char *key, int number) {
    char text[BLOCK + 100];
    snprintf(text, sizeof text, "{\"key\":\"%s\",\"n\":%d,\"fill\":\"%s\"}", key, number, block(number));
    return wss_send_latest(server, conn, key, "m", wss_json(text));
}

/* Reads until the keyed message of this number has come. Returns how many keyed ones came. */
static int read_keyed(client *c, int wanted) {
    int64_t n = -1;
    int seen = 0;
    while (n != wanted && client_read(c) == SCRIPT_TEXT) {
        wss_args args = {c->data, c->length, 0};
        if (c->data[0] == '{' && wss_get_int(args, "n", &n) == WSS_OK) seen++;
    }
    CHECK_INT(n, wanted);
    return seen;
}

/* A full queue: a keyed message takes the place of the one of its key. The newest arrives, once. */
static void latest_of_a_key(void) {
    wss_server *server = serve(WSS_POLICY_REFUSE);
    client *c = open_narrow();
    fill_kernel(server, conns[0]);
    CHECK_INT(send_keyed(server, conns[0], "a", 0), WSS_OK);
    fill(server, conns[0], 1000000);
    size_t before = wss_buffered(server, conns[0]);
    CHECK(before >= LIMIT);
    for (int i = 1; i <= 1000; i++) {
        CHECK_INT(send_keyed(server, conns[0], "a", i), WSS_OK);
        if (i % 8 == 0) host_turn();
    }
    host_settle();
    CHECK(wss_buffered(server, conns[0]) < before + 16); /* a few digits more */
    CHECK_INT(read_keyed(c, 1000), 1);
    CHECK(client_leave(c));
    host_end();
}

/* Keys of which none waits go up to twice the limit; what was accepted arrives. */
static void keys_have_a_limit(void) {
    wss_server *server = serve(WSS_POLICY_REFUSE);
    wss_stats stats;
    client *c = open_narrow();
    int count = fill(server, conns[0], 0);
    int keys = 0;
    for (int i = 0; i < 200; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        int result = send_keyed(server, conns[0], key, i);
        keys += result == WSS_OK;
        CHECK_INT(result, keys > i ? WSS_OK : WSS_ERR_FULL);
        host_turn();
    }
    size_t buffered = wss_buffered(server, conns[0]);
    CHECK(keys > 10 && keys < 20);
    CHECK(buffered >= 2 * LIMIT && buffered < 2 * LIMIT + BLOCK + 3 * NODE);
    wss_get_stats(server, &stats);
    CHECK_INT(stats.dropped_policy, 0);
    for (int i = 0; i < count; i++) CHECK_INT(read_block(c), i);
    for (int i = 0; i < keys; i++) CHECK_INT(read_keyed(c, i), 1);
    CHECK(client_leave(c));
    host_end();
}

static void latest_to_all(void) {
    wss_server *server = serve(WSS_POLICY_REFUSE);
    client *slow = open_narrow();
    client *quick = open_wide();
    fill_kernel(server, conns[0]);
    for (int i = 0; i <= 100; i++) {
        char text[32];
        snprintf(text, sizeof text, "{\"n\":%d}", i);
        CHECK_INT(wss_broadcast_latest(server, "position", "m", wss_json(text)), WSS_OK);
        CHECK_INT(read_keyed(quick, i), 1);
    }
    CHECK_INT(read_keyed(slow, 100), 1);
    CHECK(client_leave(slow));
    CHECK(client_leave(quick));
    host_end();
}

/* ---- broadcasts that lose nothing ---- */

enum { LINES = 3000 };

static int waited;

static int is_anybody_behind(wss_server *server) {
    wss_conn conn = {0};
    while ((conn = wss_next(server, conn)).id)
        if (wss_buffered(server, conn) > LIMIT / 2) return 1;
    return 0;
}

/* As a keyboard thread does: waits while a client is behind. What is on its way to the loop is bounded too. */
static void *produce_lines(void *arg) {
    wss_server *server = (wss_server *)arg;
    for (int i = 0; i < LINES; i++) {
        char text[BLOCK + 64];
        int result;
        snprintf(text, sizeof text, "{\"n\":%d,\"fill\":\"%.*s\"}", i, i % 10 ? 1000 : BLOCK, block(i));
        while (is_anybody_behind(server) || (result = wss_broadcast(server, "line", wss_json(text))) == WSS_ERR_QUEUE_FULL) {
            host_count(&waited);
            host_rest();
        }
        CHECK_INT(result, WSS_OK);
    }
    return NULL;
}

typedef struct reader {
    client *c;
    int slowly;
    int lines;
    int wrong;
} reader;

static void *read_lines(void *arg) {
    reader *r = (reader *)arg;
    while (r->lines < LINES && client_read(r->c) == SCRIPT_TEXT) {
        int64_t n = -1;
        wss_args args = {r->c->data, r->c->length, 0};
        wss_get_int(args, "n", &n);
        r->wrong += n != r->lines++;
        if (r->slowly && r->lines % 16 == 0) host_rest();
    }
    return NULL;
}

static void each_line_once_to_everybody(void) {
    enum { READERS = 3 };
    wss_options options = {0};
    pthread_t producer, thread[READERS];
    reader readers[READERS];
    options.max_queued = LIMIT;
    options.max_posted_bytes = LIMIT / 4;
    wss_server *server = watch(host_make(&options));
    waited = 0;
    CHECK_INT(wss_start(server), WSS_OK);
    for (int i = 0; i < READERS; i++) {
        memset(&readers[i], 0, sizeof readers[i]);
        readers[i].c = i ? open_wide() : open_narrow();
        readers[i].slowly = i == 0;
    }
    pthread_create(&producer, NULL, produce_lines, server);
    for (int i = 0; i < READERS; i++) pthread_create(&thread[i], NULL, read_lines, &readers[i]);
    pthread_join(producer, NULL);
    for (int i = 0; i < READERS; i++) {
        pthread_join(thread[i], NULL);
        CHECK_INT(readers[i].lines, LINES);
        CHECK_INT(readers[i].wrong, 0);
        CHECK(client_leave(readers[i].c));
    }
    CHECK(waited > 0);
    host_end();
}

/* ---- large messages ---- */

static int echo_errors;

static void echo(const wss_event *e) {
    if (wss_send_data(e->server, e->conn, e->opcode, e->data, e->size) != WSS_OK) echo_errors++;
}

static void large_messages_both_ways(void) {
    wss_options options = {0};
    size_t size = 16 << 20;
    options.max_message = size;
    wss_server *server = watch(host_drive(&options));
    echo_errors = 0;
    wss_on_data(server, echo, NULL);
    char *text = (char *)malloc(size + 1);
    for (size_t i = 0; i < size + 1; i++) text[i] = (char)('a' + (i * 7 + i / 65537) % 26);
    client *c = open_wide();
    CHECK(client_send(c, SCRIPT_TEXT, text, size));
    CHECK_INT(client_read(c), SCRIPT_TEXT);
    CHECK(c->length == size && memcmp(c->data, text, size) == 0);
    /* In pieces, with a ping between them. */
    for (size_t at = 0; at < size; at += size / 4) {
        CHECK(client_frame(c, at ? SCRIPT_CONTINUATION : SCRIPT_BINARY, at + size / 4 == size, text + at, size / 4));
        if (at == 0) CHECK(client_send(c, SCRIPT_PING, "between", 7));
    }
    CHECK_INT(client_read(c), SCRIPT_PONG);
    CHECK_TEXT(c->data, "between");
    CHECK_INT(client_read(c), SCRIPT_BINARY);
    CHECK(c->length == size && memcmp(c->data, text, size) == 0);
    CHECK_INT(echo_errors, 0);
    client_send(c, SCRIPT_TEXT, text, size + 1);
    CHECK_INT(client_read(c), SCRIPT_CLOSE);
    CHECK_INT(c->code, 1009);
    client_free(c);
    free(text);
    host_end();
}

int main(void) {
    alarm(60);
    RUN(full_and_drained);
    RUN(one_message_over_the_limit);
    RUN(full_on_the_loop);
    RUN(drained_and_used_in_one_turn);
    RUN(policy_close_on_the_loop);
    RUN(policy_close_spares_who_reads);
    RUN(policy_close_from_elsewhere);
    RUN(latest_of_a_key);
    RUN(keys_have_a_limit);
    RUN(latest_to_all);
    RUN(each_line_once_to_everybody);
    RUN(large_messages_both_ways);
    return test_end("slow");
}
