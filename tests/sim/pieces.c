/* The same bytes in any pieces give the same events and the same answer, to the byte: ten conversations, cut at each place,
   at each pair of places, into single bytes and at random. First the protocol of one connection by itself, then the whole
   server on the kernel in memory. */
#include "kernel.h"

#include "../test.h"

enum { INPUT_MAX = 24000, TRACE_MAX = 65536, PIECES_MAX = 64 };

typedef struct trace {
    size_t size;
    char data[TRACE_MAX];
} trace;

typedef struct conversation {
    const char *name;
    void (*write)(void);
    const char *outcome; /* last event of the whole: its kind, cause and code */
    int triples;         /* short enough to be cut at each pair of places */
} conversation;

static char input[INPUT_MAX];
static size_t input_size;
static trace events, output, events_wanted, output_wanted;
static char last_event[64];
static long schedules;
static uint64_t bytes_fed;

static void add(trace *to, const void *data, size_t size) {
    if (size > TRACE_MAX - to->size) size = TRACE_MAX - to->size;
    if (size) memcpy(to->data + to->size, data, size);
    to->size += size;
}

static void add_event(const char *kind, int a, int b, const char *data, size_t size) {
    char line[64];
    snprintf(line, sizeof line, "%s %d %d", kind, a, b);
    memcpy(last_event, line, sizeof last_event);
    add(&events, line, strlen(line) + 1);
    add(&events, &size, sizeof size);
    add(&events, data, size);
}

/* ---- the conversations ---- */

static void put(const char *text) {
    size_t size = strlen(text);
    memcpy(input + input_size, text, size);
    input_size += size;
}

static void put_frame(int first, const void *payload, size_t size) {
    input_size += peer_encode(input + input_size, first, payload, size, 0x9a3c5e71);
}

static void put_request(void) {
    put("GET /a?b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
        "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
}

static void write_small(void) {
    put_request();
    put_frame(0x81, "one", 3);
    put_frame(0x81, "", 0);
    put_frame(0x82, "\0\377\1", 3);
    put_frame(0x81, "\303\251\342\202\254\360\237\230\200", 9);
}

static void write_fragments(void) {
    put_request();
    put_frame(0x01, "sp\342", 3);
    put_frame(0x89, "ping", 4);
    put_frame(0x00, "\202\254", 2);
    put_frame(0x00, "", 0);
    put_frame(0x8a, "pong", 4);
    put_frame(0x80, "\360", 1);
}

static void write_whole_fragments(void) {
    put_request();
    put_frame(0x02, "abc", 3);
    put_frame(0x89, "", 0);
    put_frame(0x80, "def", 3);
    put_frame(0x01, "\360\237", 2);
    put_frame(0x80, "\230\200", 2);
    put_frame(0x81, "end", 3);
}

static void write_close(void) {
    put_request();
    put_frame(0x81, "before", 6);
    put_frame(0x88, "\003\350done \303\251", 9);
    put_frame(0x81, "after", 5);
}

static void write_unmasked(void) {
    put_request();
    put_frame(0x82, "good", 4);
    put("\x81\x03");
    put("bad");
    put_frame(0x81, "never", 5);
}

static void write_bad_text(void) {
    put_request();
    put_frame(0x01, "fine ", 5);
    put_frame(0x00, "\355\240\200 and on", 10);
    put_frame(0x80, "never", 5);
}

static void write_too_big(void) {
    static char big[300];
    memset(big, 'b', sizeof big);
    put_request();
    put_frame(0x82, big, 256);
    put_frame(0x01, big, 200);
    put_frame(0x80, big, 101);
}

static void write_plain_http(void) {
    put("GET /index.html HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
    put("GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

static void write_bad_head(void) {
    put("GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nBad Name : x\r\nConnection: Upgrade\r\n\r\nrest");
}

static void write_large(void) {
    static char large[21000];
    for (size_t i = 0; i < sizeof large; i++) large[i] = (char)(i * 31 % 127);
    put_request();
    put_frame(0x82, large, 20700);
    put_frame(0x81, large, 126);
    put_frame(0x88, "", 0);
}

static const conversation conversations[] = {
    {"small messages", write_small, "message 1 0", 1},
    {"fragments, the last cuts a character", write_fragments, "end 21 1007", 1},
    {"fragments", write_whole_fragments, "message 1 0", 1},
    {"a close", write_close, "end 1 1000", 1},
    {"an unmasked frame", write_unmasked, "end 15 1002", 1},
    {"text that is none", write_bad_text, "end 21 1007", 1},
    {"too big", write_too_big, "end 9 1009", 0},
    {"plain HTTP", write_plain_http, "refused 13 426", 1},
    {"a bad head", write_bad_head, "refused 13 400", 1},
    {"large", write_large, "end 1 1005", 0},
};

enum { CONVERSATIONS = sizeof conversations / sizeof *conversations };

static void limits(wss_options *options) {
    options->max_message = 300;
}

/* ---- the protocol by itself ---- */

static wss__session_shared host;
static wss_options session_options;
static wss__mem session_mem;

static void collect(wss__session *session) {
    size_t size;
    while (session->queue) {
        const char *data = wss__buf_peek(session->queue, 0, &size);
        add(&output, data, size);
        wss__session_sent(&host, session, size);
    }
}

static void handle(wss__session *session, int kind, wss__session_event *event) {
    wss__session_event refused;
    char *payload;
    switch (kind) {
    case WSS__SESSION_UPGRADE:
        add_event("upgrade", 0, 0, wss_request_target(&event->request), strlen(wss_request_target(&event->request)));
        CHECK(wss__input_accept(&host, session, wss__http_key(&event->request)));
        break;
    case WSS__SESSION_HTTP:
        wss__input_reject(&host, session, WSS__HTTP_RULE_NO_UPGRADE, event->request.method == WSS__HTTP_HEAD, &refused);
        add_event("refused", refused.cause, wss__http_rule_of(refused.rule)->status, NULL, 0);
        break;
    case WSS__SESSION_MESSAGE: {
        add_event("message", event->opcode, 0, event->data, event->size);
        wss__buf_frame *frame = wss__buf_new(&session_mem, event->opcode, event->size, wss__base_span(NULL, 0), &payload);
        if (!frame) abort();
        if (event->size) memcpy(payload, event->data, event->size);
        CHECK_INT(wss__session_push(&host, session, frame, 1), WSS_OK);
        break;
    }
    case WSS__SESSION_PONG: add_event("pong", 0, 0, event->data, event->size); break;
    default:
        if (event->cause == WSS_CAUSE_HANDSHAKE)
            add_event("refused", event->cause, wss__http_rule_of(event->rule)->status, NULL, 0);
        else add_event("end", event->cause, event->code, event->data, event->size);
        break;
    }
}

/* One receive, of memory that ends with it. */
static void feed(wss__session *session, const char *data, size_t size) {
    wss__session_event event;
    wss__session_bytes bytes;
    static char receive[INPUT_MAX];
    bytes.data = size <= 64 ? (char *)malloc(size) : receive; /* so that one byte too far is seen */
    if (!bytes.data) abort();
    char *copy = bytes.data;
    memcpy(bytes.data, data, size);
    bytes.size = size;
    for (int kind; (kind = wss__input_next(&host, session, &bytes, &event)) != WSS__SESSION_NEED;) {
        handle(session, kind, &event);
        wss__input_event_done(&host, session);
    }
    if (session->phase == WSS__SESSION_DONE) wss__input_free_input(&host, session);
    else CHECK(wss__input_hold(&host, session, &bytes));
    wss__input_event_done(&host, session);
    if (copy != receive) free(copy);
    collect(session);
}

static void session_run(const size_t *cuts, int count) {
    wss__session session;
    memset(&session, 0, sizeof session);
    events.size = 0;
    output.size = 0;
    size_t at = 0;
    for (int i = 0; i <= count; i++) {
        size_t end = i < count ? cuts[i] : input_size;
        if (at < end) feed(&session, input + at, end - at);
        at = end;
    }
    wss__input_free_session(&host, &session);
    if (sim.account.bytes) CHECK_INT(sim.account.bytes, 0);
}

static void session_begin(void) {
    wss_error why;
    sim_begin(1);
    sim_options(&session_options);
    CHECK_INT(wss__option_resolve_all(&session_options, "", &why), WSS_OK);
    limits(&session_options);
    wss__mem_init(&session_mem, &session_options);
    memset(&host, 0, sizeof host);
    host.mem = &session_mem;
    host.options = &session_options;
}

/* ---- the whole server ---- */

static wss_server *server;

static void on_connect(const wss_event *e) {
    (void)e;
    add_event("upgrade", 0, 0, NULL, 0);
}

static void on_data(const wss_event *e) {
    add_event("message", e->opcode, 0, e->data, e->size);
    wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

static void on_disconnect(const wss_event *e) {
    add_event("end", e->cause, e->code, e->reason, e->reason_length);
}

static void server_begin(void) {
    wss_options options;
    wss_error why;
    sim_begin(1);
    sim_options(&options);
    limits(&options);
    server = wss_create(&options, &why);
    if (!server) abort();
    wss_on_connect(server, on_connect, NULL);
    wss_on_data(server, on_data, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    sim_settle(server);
}

static void turn(void) {
    wss_poll(server, 0);
    if (server->loops[0].first_ready != WSS__SLOT_NONE) sim_settle(server);
}

static void server_run(const size_t *cuts, int count) {
    events.size = 0;
    output.size = 0;
    peer *client = peer_connect(server->options.port);
    turn();
    size_t at = 0;
    for (int i = 0; i <= count; i++) {
        size_t end = i < count ? cuts[i] : input_size;
        if (end > at) at += peer_write(client, input + at, end - at);
        turn();
        if (peer_ended(client)) break;
    }
    size_t size;
    const char *data = peer_data(client, &size);
    add(&output, data, size);
    peer_finish(client);
    sim_settle(server);
    sim_pass(server, 3000);
    peer_free(client);
    sim_settle(server);
}

/* ---- schedules ---- */

static void (*run)(const size_t *cuts, int count);
static const conversation *current;

static void compare(const size_t *cuts, int count) {
    run(cuts, count);
    schedules++;
    bytes_fed += input_size;
    int same = events.size == events_wanted.size && memcmp(events.data, events_wanted.data, events.size) == 0 &&
               output.size == output_wanted.size && memcmp(output.data, output_wanted.data, output.size) == 0;
    if (same) return;
    test_broken++;
    if (test_broken > 10) return;
    printf("%s, cut at", current->name);
    for (int i = 0; i < count && i < 8; i++) printf(" %zu", cuts[i]);
    printf(": other events (%zu, not %zu bytes) or answers (%zu, not %zu)\n", events.size, events_wanted.size, output.size,
           output_wanted.size);
}

static void begin_conversation(const conversation *it, int by_session) {
    current = it;
    input_size = 0;
    it->write();
    session_options.max_message = input_size > 10000 ? 30000 : 300;
    if (server) server->options.max_message = session_options.max_message;
    run(NULL, 0);
    if (by_session) CHECK_TEXT(last_event, it->outcome);
    memcpy(&events_wanted, &events, sizeof events);
    memcpy(&output_wanted, &output, sizeof output);
    CHECK(output.size > 0);
}

static void cut_in_two(size_t step) {
    for (size_t i = 1; i < input_size; i += step) compare(&i, 1);
}

static void cut_in_three(size_t step) {
    size_t cuts[2];
    for (cuts[0] = 1; cuts[0] < input_size; cuts[0] += step)
        for (cuts[1] = cuts[0] + 1; cuts[1] < input_size; cuts[1] += step) compare(cuts, 2);
}

static void cut_everywhere(void) {
    static size_t cuts[INPUT_MAX];
    for (size_t i = 0; i + 1 < input_size; i++) cuts[i] = i + 1;
    compare(cuts, (int)input_size - 1);
}

static void cut_at_random(int times) {
    size_t cuts[PIECES_MAX];
    for (int i = 0; i < times; i++) {
        int count = 1 + (int)sim_below(PIECES_MAX - 1);
        size_t at = 0;
        for (int k = 0; k < count; k++) {
            at += 1 + sim_below(1 + sim_below(2 * input_size / (size_t)count + 1));
            cuts[k] = at < input_size ? at : input_size;
        }
        compare(cuts, count);
    }
}

static void test_the_protocol_in_pieces(void) {
    session_begin();
    run = session_run;
    for (int i = 0; i < CONVERSATIONS; i++) {
        begin_conversation(&conversations[i], 1);
        cut_in_two(input_size > 10000 ? 11 : 1);
        if (conversations[i].triples) cut_in_three(input_size > 230 ? 2 : 1);
        cut_everywhere();
        cut_at_random(input_size > 10000 ? 200 : 1500);
    }
}

static void test_the_server_in_pieces(void) {
    server_begin();
    run = server_run;
    for (int i = 0; i < CONVERSATIONS; i++) {
        begin_conversation(&conversations[i], 0);
        cut_in_two(input_size > 10000 ? 211 : 1);
        if (input_size < 1000) cut_everywhere();
        cut_at_random(50);
    }
    CHECK_INT(wss_destroy(server), WSS_OK);
    sim_finish();
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(test_the_protocol_in_pieces);
    RUN(test_the_server_in_pieces);
    printf("pieces: %d conversations, %ld schedules, %llu bytes\n", CONVERSATIONS, schedules, (unsigned long long)bytes_fed);
    if (schedules < 100000) test_failed++;
    return test_end("pieces");
}
