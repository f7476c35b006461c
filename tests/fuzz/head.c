/* Fuzz target of [http], driven as a connection drives it: a request head in any pieces has the same outcome, the work is
   linear, and what was accepted is accepted again, with the same meaning, when it is written out anew. */
#define FUZZ_TARGET "head"
#include "work.h"

#include "../script.h"
#include "fuzz.h"

#define ORIGINS "https://friend.example, null,http://a:80"
#define HOSTS "example.com, [::1]:8080,a:80"

/* What became of a head. */
typedef struct outcome {
    int kind;        /* WSS__SESSION_UPGRADE, _HTTP, _END; _NEED: it is not whole */
    int rule;        /* of the refusal */
    int is_head;     /* refused: it was HEAD, as far as could be known */
    size_t consumed; /* bytes taken as the head */
    size_t fields;
    script text; /* the request, written out anew */
    script reply;
} outcome;

typedef struct setting {
    wss_options options;
    wss__mem mem;
    wss__session_shared host;
} setting;

static void begin(setting *s, fuzz_input *in) {
    static const int heads[8] = {16384, 64, 100, 300, 1024, 4098, 8192, 65536};
    memset(s, 0, sizeof *s);
    unsigned choice = fuzz_byte(in);
    s->options.max_head = heads[choice >> 3 & 7];
    s->options.hosts = choice & 0x40 ? HOSTS : NULL;
    s->options.origins = choice & 0x80 ? ORIGINS : NULL;
    s->options.max_message = 4096;
    s->options.max_queued = 4096;
    s->options.memory_budget = WSS_UNLIMITED;
    wss__mem_init(&s->mem, &s->options);
    s->host.mem = &s->mem;
    s->host.options = &s->options;
}

/* With the host in the target where it is not that of the Host line. */
static void write_again(const wss_request *request, script *text) {
    const char *name;
    const char *value;
    wss__span host = wss__http_span(request, request->host);
    script_text(text, wss_request_method(request));
    script_text(text, " ");
    if (!wss__base_equal(host, wss__base_text(wss_request_header(request, "Host")))) {
        script_text(text, "ws://");
        script_bytes(text, host.data, host.size);
    }
    script_text(text, wss_request_target(request));
    script_text(text, request->minor ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n");
    for (size_t i = 0; (name = wss_request_header_at(request, i, &value)) != NULL; i++) {
        script_text(text, name);
        script_text(text, ": ");
        script_text(text, value);
        script_text(text, "\r\n");
    }
    script_text(text, "\r\n");
}

/* The readers: what they give fits what they say, for buffers of all small sizes. */

typedef int reader(const wss_request *request, const char *name, size_t index, char *out, size_t size, size_t *length);

static int read_path(const wss_request *request, const char *name, size_t index, char *out, size_t size, size_t *length) {
    (void)name;
    (void)index;
    return wss_request_path(request, out, size, length);
}

static int read_query(const wss_request *request, const char *name, size_t index, char *out, size_t size, size_t *length) {
    (void)index;
    return wss_request_query(request, name, out, size, length);
}

static int read_cookie(const wss_request *request, const char *name, size_t index, char *out, size_t size, size_t *length) {
    (void)index;
    return wss_request_cookie(request, name, out, size, length);
}

static int read_protocol(const wss_request *request, const char *name, size_t index, char *out, size_t size,
                         size_t *length) {
    (void)name;
    return wss_request_protocol(request, index, out, size, length);
}

static void check_reader(const wss_request *request, reader *read, const char *name, size_t index, int is_text) {
    static char whole[70000];
    size_t length = 77;
    int result = read(request, name, index, whole, sizeof whole, &length);
    FUZZ_CHECK(result == WSS_OK || result == WSS_ERR_MISSING || result == WSS_ERR_ARGUMENT || result == WSS_ERR_UTF8);
    FUZZ_CHECK(length < sizeof whole && strlen(whole) == length);
    if (result) FUZZ_CHECK(length == 0);
    if (is_text) FUZZ_CHECK(wss__utf8_check(0, whole, length) == 0);
    for (size_t size = 0; size <= 9; size++) {
        char *small = (char *)malloc(size ? size : 1);
        if (!small) abort();
        size_t again = 99;
        int other = read(request, name, index, size ? small : NULL, size, &again);
        FUZZ_CHECK(again == length);
        FUZZ_CHECK(other == (result == WSS_OK && length >= size ? WSS_ERR_SPACE : result));
        if (size) FUZZ_CHECK(strcmp(small, other == WSS_OK ? whole : "") == 0);
        free(small);
    }
}

static void check_readers(const wss_request *request) {
    check_reader(request, read_path, NULL, 0, 1);
    check_reader(request, read_query, "a", 0, 1);
    check_reader(request, read_query, "room", 0, 1);
    check_reader(request, read_cookie, "a", 0, 0);
    for (size_t i = 0; i < 3; i++) check_reader(request, read_protocol, NULL, i, 1);
    const char *name;
    const char *value;
    for (size_t i = 0; (name = wss_request_header_at(request, i, &value)) != NULL; i++) {
        const char *first = wss_request_header(request, name);
        FUZZ_CHECK(first && strlen(name) == request->fields[i].name.size && strlen(value) == request->fields[i].value.size);
        FUZZ_CHECK(!strpbrk(name, " \t\r\n:") && !strpbrk(value, "\r\n"));
    }
    FUZZ_CHECK(wss_request_header_at(request, request->count, &value) == NULL && value == NULL);
}

/* How many lines end in CRLF; no other CR or LF may be there. */
static size_t count_lines(const char *data, size_t size) {
    size_t lines = 0;
    for (size_t i = 0; i < size; i++) {
        if (data[i] != '\r' && data[i] != '\n') continue;
        FUZZ_CHECK(data[i] == '\r' && i + 1 < size && data[i + 1] == '\n');
        lines++;
        i++;
    }
    return lines;
}

/* What a client sent, sent back as header lines of an answer, can neither add lines nor end the head. */
static void check_answers(const wss_request *request) {
    static char out[140000];
    static const int statuses[4] = {200, 404, 426, 405};
    wss_header headers[WSS__HTTP_FIELDS_MAX];
    size_t count = 0;
    size_t lines;
    for (size_t i = 0; i < request->count; i++) {
        headers[count].name = wss_request_header_at(request, i, &headers[count].value);
        if (wss__answer_check_headers(&headers[count], 1) == WSS_OK) count++;
    }
    wss__answer_reply reply;
    memset(&reply, 0, sizeof reply);
    wss__answer_welcome(&reply, wss__base_text(SCRIPT_KEY));
    reply.protocol = "chat";
    reply.answer.headers = headers;
    reply.answer.header_count = count;
    size_t size = wss__answer_write(out, sizeof out, &reply);
    FUZZ_CHECK(size <= sizeof out);
    FUZZ_CHECK(count_lines(out, size) == 5 + count + 1);
    for (size_t i = 0; i < 4; i++) {
        reply.answer.status = statuses[i];
        FUZZ_CHECK(wss__answer_check(&reply.answer, 200) == WSS_OK);
        size = wss__answer_write(out, sizeof out, &reply);
        FUZZ_CHECK(size <= sizeof out);
        lines = count_lines(out, size);
        FUZZ_CHECK(lines >= 5 + count && lines <= 7 + count);
        FUZZ_CHECK(memcmp(out + size - 4, "\r\n\r\n", 4) == 0);
        FUZZ_CHECK(wss__answer_write(out, size - 1, &reply) == size);
    }
}

/* Runs. */

static void note(outcome *o, int kind, const wss__session_event *event) {
    o->kind = kind;
    if (kind == WSS__SESSION_END) {
        o->rule = event->rule;
        o->is_head = event->request.method == WSS__HTTP_HEAD;
        return;
    }
    o->fields = event->request.count;
    write_again(&event->request, &o->text);
    check_readers(&event->request);
    check_answers(&event->request);
}

static void take_reply(setting *s, wss__session *session, script *reply) {
    for (uint32_t i = 0; session->queue && i < session->queue->count; i++) {
        size_t size;
        const char *data = wss__buf_peek(session->queue, i, &size);
        script_bytes(reply, data, size);
    }
    wss__input_free_session(&s->host, session);
    FUZZ_CHECK(s->mem.used == 0);
}

/* The outcome of these bytes when they come in pieces. */
static outcome run(setting *s, const char *data, size_t size, unsigned cutting) {
    outcome o;
    wss__session session;
    fuzz_cuts cuts = fuzz_cut(cutting);
    size_t at = 0;
    size_t calls = 0;
    size_t work = 0;
    memset(&o, 0, sizeof o);
    memset(&session, 0, sizeof session);
    while (at < size && o.kind == WSS__SESSION_NEED) {
        wss__session_event event;
        wss__session_bytes bytes;
        size_t piece = fuzz_piece(&cuts, size - at);
        char *copy = fuzz_copy(data + at, piece);
        bytes.data = copy;
        bytes.size = piece;
        memset(&event, 0x5a, sizeof event);
        work_done = 0;
        int kind = wss__input_next(&s->host, &session, &bytes, &event);
        work += work_done;
        FUZZ_CHECK(work <= 4000 + 64 * (at + piece) + 200 * ++calls);
        FUZZ_CHECK(kind == WSS__SESSION_NEED || kind == WSS__SESSION_UPGRADE || kind == WSS__SESSION_HTTP ||
                   kind == WSS__SESSION_END);
        if (kind == WSS__SESSION_NEED) FUZZ_CHECK(bytes.size == 0);
        at += piece - bytes.size;
        FUZZ_CHECK(s->mem.used <= 4096 + 4 * (size_t)s->options.max_head);
        if (kind != WSS__SESSION_NEED) note(&o, kind, &event);
        wss__input_event_done(&s->host, &session);
        free(copy);
    }
    o.consumed = at;
    take_reply(s, &session, &o.reply);
    return o;
}

static void forget(outcome *o) {
    script_free(&o->text);
    script_free(&o->reply);
}

/* Where a refused head ends depends on when it was seen to be wrong, so that is not compared. */
static void check_same(const outcome *a, const outcome *b) {
    FUZZ_CHECK(a->kind == b->kind && a->rule == b->rule && a->is_head == b->is_head && a->fields == b->fields);
    FUZZ_CHECK(a->kind == WSS__SESSION_END || a->consumed == b->consumed);
    FUZZ_CHECK(script_same(&a->text, &b->text));
    FUZZ_CHECK(script_same(&a->reply, &b->reply));
}

static void check_refused(const outcome *o) {
    /* All rules that heads can break stand before those for which it takes a server. */
    int named = o->rule == WSS__HTTP_RULE_ORIGIN || o->rule == WSS__HTTP_RULE_HOST || o->rule == WSS__HTTP_RULE_PROXY_UNASKED;
    int known = named || (o->rule > 0 && o->rule < WSS__HTTP_RULE_NO_UPGRADE);
    const wss__http_rule *rule = wss__http_rule_of(known ? o->rule : 0);
    size_t size = o->is_head ? 0 : strlen(rule->text);
    FUZZ_CHECK(known && o->reply.size > size + 12 && memcmp(o->reply.data, "HTTP/1.1 ", 9) == 0);
    FUZZ_CHECK(atoi(o->reply.data + 9) == rule->status);
    const char *body = o->reply.data + o->reply.size - size;
    FUZZ_CHECK(memcmp(body - 4, "\r\n\r\n", 4) == 0 && (!size || memcmp(body, rule->text, size) == 0));
}

/* Nothing was dropped or made up: one field for each line between the first, before which an empty one may stand, and the
   empty one. */
static void check_accepted(setting *s, const char *data, const outcome *o) {
    FUZZ_CHECK(o->reply.size == 0);
    FUZZ_CHECK(count_lines(data, o->consumed) == o->fields + 2 + (*data == '\r'));
    setting wide = *s;
    wide.options.max_head = 1 << 20; /* blanks that were not there may have been added */
    wide.host.options = &wide.options;
    wide.host.mem = &wide.mem;
    outcome again = run(&wide, o->text.data, o->text.size, 0);
    FUZZ_CHECK(again.kind == o->kind && again.fields == o->fields && again.consumed == o->text.size);
    FUZZ_CHECK(script_same(&again.text, &o->text));
    forget(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_input in = fuzz_begin(data, size);
    setting s;
    begin(&s, &in);
    unsigned cutting = fuzz_byte(&in);
    const char *head = (const char *)in.at;
    outcome whole = run(&s, head, in.left, 0);
    outcome bytewise = run(&s, head, in.left, 1);
    outcome cut = run(&s, head, in.left, cutting);
    check_same(&whole, &bytewise);
    check_same(&whole, &cut);
    if (whole.kind == WSS__SESSION_END) check_refused(&whole);
    if (whole.kind == WSS__SESSION_UPGRADE || whole.kind == WSS__SESSION_HTTP) check_accepted(&s, head, &whole);
    forget(&whole);
    forget(&bytewise);
    forget(&cut);
    return 0;
}
