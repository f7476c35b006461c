/* Unit tests of [http]: heads taken and refused, upgrade rules, what an application reads, replies. */
#include "../library.h"

#include "../test.h"

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define LINE "GET / HTTP/1.1\r\n"
#define HOST "Host: example.com\r\n"
#define ASKS "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define WITH_KEY "Sec-WebSocket-Key: " KEY "\r\n"
#define WITH_VERSION "Sec-WebSocket-Version: 13\r\n"
#define UPGRADE LINE HOST ASKS WITH_KEY WITH_VERSION

enum { MAX_HEAD = 16384 };

/* A parsed head in memory of its own that ends at an unreadable page. */
typedef struct parsed {
    char *data;
    size_t size;
    int rule;
    int status; /* of that rule */
    wss_request request;
} parsed;

static int status_of_rule(int rule) {
    return wss__http_rule_of(rule)->status;
}

static void parse_bytes(parsed *p, const char *data, size_t size) {
    memset(&p->request, 0x5a, sizeof p->request);
    p->data = guard_copy(data, size);
    p->size = size;
    p->rule = wss__http_parse(p->data, size, &p->request);
    p->status = status_of_rule(p->rule);
}

static void parse_text(parsed *p, const char *head) {
    parse_bytes(p, head, strlen(head));
}

static void forget(parsed *p) {
    guard_free(p->data, p->size);
}

/* What parsing says to a whole head. */
static int status_of(const char *head) {
    parsed p;
    parse_text(&p, head);
    forget(&p);
    return p.status;
}

/* What becomes of a parsed head: 101, 200 for plain HTTP, or the status of the refusal. */
static int outcome_of_parsed(const parsed *p) {
    if (p->rule) return p->status;
    int rule = -1;
    int upgrade = wss__http_upgrade(&p->request, &rule);
    CHECK(rule == WSS__HTTP_GOOD || (upgrade && rule > 0));
    return rule ? status_of_rule(rule) : upgrade ? 101 : 200;
}

static int outcome_of(const char *head) {
    parsed p;
    parse_text(&p, head);
    int result = outcome_of_parsed(&p);
    forget(&p);
    return result;
}

/* By which a whole head is refused, as a server without options would. */
static int rule_of(const char *head) {
    parsed p;
    parse_text(&p, head);
    int rule = p.rule;
    if (!rule) wss__http_upgrade(&p.request, &rule);
    forget(&p);
    return rule;
}

/* With what a head of which this much is there is refused; 0: not yet. */
static int early_status(const char *data, size_t size, int max_head) {
    return status_of_rule(wss__http_check_prefix(data, size, max_head));
}

typedef struct sample {
    const char *text;
    int want;
} sample;

static void check_samples(const char *before, const sample *samples, size_t count, const char *after) {
    char head[4096];
    for (size_t i = 0; i < count; i++) {
        snprintf(head, sizeof head, "%s%s%s", before, samples[i].text, after);
        int got = outcome_of(head);
        if (got != samples[i].want) printf("sample: %s\n", samples[i].text);
        CHECK_INT(got, samples[i].want);
    }
}

#define CHECK_SAMPLES(before, samples, after) \
    check_samples(before, samples, sizeof samples / sizeof samples[0], after)

/* Where a head ends. */

/* The shortest beginning whose last line is empty, its line end and that of the line before being LF or CRLF. */
static size_t reference_end(const char *data, size_t size) {
    for (size_t n = 2; n <= size; n++) {
        if (data[n - 1] != '\n') continue;
        if (data[n - 2] == '\n') return n;
        if (n > 2 && data[n - 2] == '\r' && data[n - 3] == '\n') return n;
    }
    return 0;
}

static void find_end(void) {
    static const sample samples[] = {
        {"", 0},
        {"\n", 0},
        {"\r\n", 0},
        {"\n\r", 0},
        {"\n\r\n", 3},
        {"a\n\n", 3},
        {"a\nb\n\n\n", 5},
        {"a\r\n\n", 4},
        {"a\n\r\r\n", 0},
        {"\r\n\r", 0},
        {"\r\n\r\n", 4},
        {"a\r\n\r\n", 5},
        {"\r\n\n\r\n", 3},
        {"\n\n", 2},
        {"\r\r\n\n", 4},
        {"a\r\n\r\n\r\n", 5},
        {"a\r\n\r\nGET / HTTP/1.1\r\n\r\n", 5},
        {"a\r\nb\r\r\n\r\n", 9},
        {"a\n\r\n\r\n", 4},
        {"\r\n\r\r\n\r\n", 7},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        size_t size = strlen(samples[i].text);
        char *copy = guard_copy(samples[i].text, size);
        CHECK_INT(wss__http_find_end(copy, size, 0), samples[i].want);
        CHECK_INT(reference_end(copy, size), samples[i].want);
        guard_free(copy, size);
    }
}

/* A head that trickles in: each call is told what the last one has seen, and looks at no more than 3 bytes of
   that. */
static void find_end_resumes(void) {
    char text[600];
    memset(text, 'a', sizeof text);
    memcpy(text + 100, "\r\n\r\n", 4);
    for (size_t from = 0; from < 104; from++) CHECK_INT(wss__http_find_end(text, sizeof text, from), 104);
    for (size_t from = 104; from <= sizeof text; from++)
        CHECK_INT(wss__http_find_end(text, sizeof text, from), 0);

    size_t looked = 0;
    size_t size = strlen(UPGRADE "\r\n");
    for (size_t have = 1; have <= size; have++) {
        char *copy = guard_copy(UPGRADE "\r\n", have);
        size_t found = wss__http_find_end(copy, have, have - 1);
        looked += 1;
        CHECK_INT(found, have == size ? size : 0);
        guard_free(copy, have);
    }
    CHECK(looked <= 2 * size);
}

/* All ways to cut a head into two or three segments find the same end. */
static void find_end_any_cut(void) {
    static const char head[] = LINE HOST "A: b\r\n\r\n";
    size_t size = sizeof head - 1;
    for (size_t a = 0; a < size; a++) {
        CHECK_INT(wss__http_find_end(head, a, 0), 0);
        for (size_t b = a; b < size; b++) CHECK_INT(wss__http_find_end(head, b, a), 0);
        CHECK_INT(wss__http_find_end(head, size, a), size);
    }
}

/* Short heads at the beginning of a page that follows an unreadable one: nobody looks at what stands before. */
static void nothing_before_is_read(void) {
    static const char *const heads[] = {"\n", "\r\n", "\n\n", "\n\r\n", "\r\n\r\n", " \r\n\r\n", "G\n\n", ":\r\n\r\n"};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *map = (char *)mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == (char *)MAP_FAILED || mprotect(map, page, PROT_NONE) != 0) abort();
    char *first = map + page;
    for (size_t h = 0; h < sizeof heads / sizeof heads[0]; h++) {
        size_t size = strlen(heads[h]);
        wss_request request;
        for (size_t from = 0; from <= size; from++) {
            memcpy(first, heads[h], size);
            size_t end = wss__http_find_end(first, size, from);
            CHECK(end == 0 || end == reference_end(first, size));
        }
        CHECK_INT(status_of_rule(wss__http_parse(first, size, &request)), 400);
    }
    munmap(map, 2 * page);
}

/* An absolute target without a path asks for the root, and keeps its query. */
static void absolute_target_without_a_path(void) {
    static const char *const targets[] = {"http://example.com", "http://example.com/", "http://example.com?q=1"};
    for (int i = 0; i < 3; i++) {
        char head[200];
        char out[64];
        size_t length = 99;
        parsed p;
        snprintf(head, sizeof head, "GET %s HTTP/1.1\r\n" HOST "\r\n", targets[i]);
        parse_text(&p, head);
        CHECK_INT(p.status, 0);
        CHECK_TEXT(wss_request_target(&p.request), i == 2 ? "/?q=1" : "/");
        CHECK_INT(wss_request_path(&p.request, out, sizeof out, &length), WSS_OK);
        CHECK_TEXT(out, "/");
        CHECK_INT(length, 1);
        CHECK_INT(wss_request_query(&p.request, "q", out, sizeof out, &length), i == 2 ? WSS_OK : WSS_ERR_MISSING);
        CHECK_TEXT(out, i == 2 ? "1" : "");
        forget(&p);
    }
}

/* A head that ends its lines in bare LF, all of them or one, is refused as soon as it is there: nobody waits for a
   line end that does not come. Every cut finds the same end. */
static void bare_line_feeds(void) {
    static const char *const heads[] = {
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\nC: d\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Key: " KEY
        "\nSec-WebSocket-Version: 13\n\n",
    };
    for (size_t h = 0; h < sizeof heads / sizeof heads[0]; h++) {
        size_t size = strlen(heads[h]);
        for (size_t have = 0; have <= size; have++) {
            char *copy = guard_copy(heads[h], have);
            CHECK_INT(wss__http_find_end(copy, have, 0), have == size ? size : 0);
            for (size_t from = 0; from < have; from++)
                CHECK_INT(wss__http_find_end(copy, have, from), have == size ? size : 0);
            guard_free(copy, have);
        }
        CHECK_INT(status_of(heads[h]), 400);
    }
}

static void prefixes_are_unfinished(void) {
    static const char *const heads[] = {UPGRADE "\r\n", "HEAD /a?b HTTP/1.1\r\n" HOST "\r\n", "\r\n" UPGRADE "\r\n",
                                        "POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\n",
                                        "VERSION-CONTROL / HTTP/1.1\r\n\r\n"};
    for (size_t h = 0; h < sizeof heads / sizeof heads[0]; h++) {
        size_t size = strlen(heads[h]);
        for (size_t have = 0; have <= size; have++) {
            char *copy = guard_copy(heads[h], have);
            CHECK_INT(wss__http_find_end(copy, have, 0), have == size ? size : 0);
            CHECK_INT(early_status(copy, have, MAX_HEAD), 0);
            CHECK_INT(early_status(copy, have, (int)size), 0);
            CHECK_INT(early_status(copy, have, WSS_OFF), 0);
            guard_free(copy, have);
        }
    }
}

/* Parsing half a head is not asked for, but must do no harm. */
static void parsing_a_prefix_fails(void) {
    static const char head[] = UPGRADE "\r\n";
    for (size_t have = 0; have < sizeof head - 1; have++) {
        parsed p;
        parse_bytes(&p, head, have);
        CHECK(p.status != 0);
        forget(&p);
    }
    CHECK_INT(status_of(UPGRADE "\r\nGET / HTTP/1.1\r\n\r\n"), 400);
}

static int is_token(int c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* What can be no HTTP is refused at its first bytes. */
static void prefix_garbage(void) {
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;
        char *copy = guard_copy(&byte, 1);
        CHECK_INT(early_status(copy, 1, MAX_HEAD), is_token(c) || c == '\r' ? 0 : 400);
        guard_free(copy, 1);
    }
    CHECK_INT(early_status("\x16\x03\x01\x02\x00\x01", 6, MAX_HEAD), 400);
    CHECK_INT(early_status("\x81\x85", 2, MAX_HEAD), 400);
    CHECK_INT(early_status("GET\r\n", 5, MAX_HEAD), 400);
    CHECK_INT(early_status(" GET", 4, MAX_HEAD), 400);
    CHECK_INT(early_status("G:T", 3, MAX_HEAD), 400);
    CHECK_INT(early_status("", 0, MAX_HEAD), 0);
}

/* The hello of a TLS client is known by its first byte, however much of it is there. */
static void prefix_of_tls(void) {
    static const char hello[] = "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 and so on\n\n";
    for (size_t have = 1; have < sizeof hello; have++) {
        char *copy = guard_copy(hello, have);
        CHECK_INT(wss__http_check_prefix(copy, have, MAX_HEAD), WSS__HTTP_RULE_TLS);
        CHECK_INT(wss__http_check_prefix(copy, have, 4), WSS__HTTP_RULE_TLS);
        guard_free(copy, have);
    }
    CHECK_INT(wss__http_check_prefix("G\x16", 2, MAX_HEAD), WSS__HTTP_RULE_LINE);
    CHECK_INT(wss__http_check_prefix("\x15\x03", 2, MAX_HEAD), WSS__HTTP_RULE_LINE);
}

/* One empty line before a request is skipped: not two, and none that ends in bare LF. However it is cut. */
static void empty_line_before(void) {
    static const sample samples[] = {
        {"", 101}, {"\r\n", 101}, {"\r\n\r\n", 400}, {"\n", 400}, {"\n\n", 400}, {"\r", 400}, {"\r\r\n", 400}, {" \r\n", 400},
        {"\r\n\n", 400}, {"\n\r\n", 400}, {"\r\n ", 400}, {"\r\n\r", 400}, {"\0\r\n", 101},
    };
    CHECK_SAMPLES("", samples, UPGRADE "\r\n");
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        char head[sizeof UPGRADE + 20];
        size_t size = (size_t)snprintf(head, sizeof head, "%s%s\r\n", samples[i].text, UPGRADE);
        int first = WSS__HTTP_GOOD;
        for (size_t have = 0; have <= size; have++) {
            char *copy = guard_copy(head, have);
            int rule = wss__http_check_prefix(copy, have, MAX_HEAD);
            if (samples[i].want == 101) CHECK_INT(wss__http_find_end(copy, have, 0), have == size ? size : 0);
            if (!first) first = rule;
            CHECK_INT(rule, first);
            guard_free(copy, have);
        }
        CHECK_INT(first, samples[i].want == 101 ? WSS__HTTP_GOOD : WSS__HTTP_RULE_LINE);
    }
    parsed p;
    parse_text(&p, "\r\nGET ws://a?b HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(p.rule, WSS__HTTP_GOOD);
    CHECK_TEXT(wss_request_target(&p.request), "/?b");
    forget(&p);
}

/* Every byte at every place of a head. */

static int is_text(int c) {
    return c == '\t' || (c >= 0x20 && c <= 0x7e) || c >= 0x80;
}

static int is_target(int c) {
    return c >= 0x21 && c <= 0x7e && c != '#';
}

static int is_host(int c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != 0 && strchr("-._~!$&'()*+,;=", c) != NULL);
}

static int is_base64(int c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' || c == '/';
}

/* The expected outcome (as outcome_of) of byte c at each place. */
static int want_method(int c, int was) {
    return c == was ? 101 : is_token(c) ? 405 : 400;
}
static int want_same(int c, int was) {
    return c == was ? 101 : 400;
}
static int want_target(int c, int was) {
    (void)was;
    return is_target(c) ? 101 : 400;
}
static int want_major(int c, int was) {
    return c == was ? 101 : c >= '0' && c <= '9' ? 505 : 400;
}
static int want_minor(int c, int was) {
    (void)was;
    return c == '0' ? 426 : c >= '1' && c <= '9' ? 101 : 400;
}
static int want_name(int c, int was) {
    (void)was;
    return is_token(c) ? 101 : 400;
}
static int want_name_or_colon(int c, int was) {
    (void)was;
    return is_token(c) || c == ':' ? 101 : 400;
}
static int want_text(int c, int was) {
    (void)was;
    return is_text(c) ? 101 : 400;
}
static int want_host(int c, int was) {
    (void)was;
    return is_host(c) ? 101 : 400;
}
static int want_host_end(int c, int was) {
    (void)was;
    return is_host(c) || c == ' ' || c == '\t' ? 101 : 400;
}
static int want_port_end(int c, int was) {
    (void)was;
    return (c >= '0' && c <= '9') || c == ' ' || c == '\t' ? 101 : 400;
}
static int want_upgrade(int c, int was) {
    return !is_text(c) ? 400 : c == was || c == (was & ~0x20) ? 101 : 200;
}
static int want_connection(int c, int was) {
    return c == was || c == (was | 0x20) ? 101 : 400;
}
static int want_version(int c, int was) {
    return !is_text(c) ? 400 : c == was ? 101 : 426;
}
static int want_key(int c, int was) {
    (void)was;
    return is_base64(c) ? 101 : 400;
}
/* LF makes an empty line that ends in bare LF. */
static int want_no_end(int c, int was) {
    return c == was ? 101 : c == '\n' ? 400 : 0;
}

typedef struct place {
    const char *mark; /* the first place of this text in the head */
    size_t offset;    /* from there */
    int (*want)(int c, int was);
} place;

static const char sweep_head[] =
    "GET /path?q=1 HTTP/1.1\r\n"
    "Host: www.example.com\r\n"
    "X-Name: value\r\n"
    "Content-Length: 0\r\n"
    "X-Empty:\r\n"
    "Upgrade: websocket\r\n"
    "Connection: keep-alive, Upgrade\r\n"
    "Sec-WebSocket-Key: " KEY "\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n";

static const place places[] = {
    {"GET", 0, want_method},
    {"GET", 1, want_method},
    {"GET", 2, want_method},
    {"GET", 3, want_same},
    {"/path", 0, want_same},
    {"/path", 1, want_target},
    {"?q=1", 0, want_target},
    {"?q=1", 3, want_target},
    {" HTTP/", 0, want_same},
    {"HTTP/1.1", 0, want_same},
    {"HTTP/1.1", 3, want_same},
    {"HTTP/1.1", 4, want_same},
    {"HTTP/1.1", 5, want_major},
    {"HTTP/1.1", 6, want_same},
    {"HTTP/1.1", 7, want_minor},
    {"HTTP/1.1", 8, want_same},
    {"HTTP/1.1", 9, want_same},
    {"Host", 4, want_same},
    {"Host", 5, want_host_end},
    {"www", 0, want_host_end},
    {"www", 1, want_host},
    {"e.com", 0, want_host},
    {"e.com", 4, want_host_end},
    {"X-Name", 0, want_name},
    {"X-Name", 2, want_name_or_colon},
    {"X-Name", 5, want_name_or_colon},
    {"X-Name", 6, want_same},
    {"X-Name", 7, want_text},
    {"value", 0, want_text},
    {"value", 2, want_text},
    {"value", 4, want_text},
    {"value", 5, want_same},
    {"value", 6, want_same},
    {"th: 0", 0, want_name_or_colon},
    {"th: 0", 4, want_same},
    {"X-Empty:", 7, want_same},
    {"X-Empty:", 8, want_same},
    {"websocket", 3, want_upgrade},
    {"websocket", 8, want_upgrade},
    {"Upgrade\r", 0, want_connection},
    {KEY, 0, want_key},
    {KEY, 20, want_key},
    {KEY, 21, want_key},
    {KEY, 22, want_same},
    {KEY, 23, want_same},
    {"13\r", 0, want_version},
    {"13\r", 1, want_version},
    {"13\r", 2, want_same},
    {"13\r", 3, want_no_end},
    {"13\r", 4, want_no_end},
    {"13\r", 5, want_no_end},
};

/* Refused early is refused alike when whole, whatever prefix was there: with the same status, and once by a rule, by
   that rule from there on. */
static void check_prefix_agrees(const char *head, size_t size, int status) {
    int first = WSS__HTTP_GOOD;
    for (size_t have = 0; have <= size; have++) {
        int rule = wss__http_check_prefix(head, have, MAX_HEAD);
        if (!first) first = rule;
        CHECK_INT(rule, first);
        if (rule) CHECK_INT(status_of_rule(rule), status);
    }
}

static void check_byte(const place *where, int c) {
    char head[sizeof sweep_head];
    size_t size = sizeof sweep_head - 1;
    memcpy(head, sweep_head, sizeof head);
    size_t at = (size_t)(strstr(head, where->mark) - head) + where->offset;
    int want = where->want(c, (unsigned char)sweep_head[at]);
    head[at] = (char)c;

    parsed p;
    size_t end = wss__http_find_end(head, size, 0);
    size_t whole = end ? end : size;
    CHECK_INT(end, reference_end(head, size));
    parse_bytes(&p, head, whole);
    int got = outcome_of_parsed(&p);
    check_prefix_agrees(head, whole, p.status);
    forget(&p);
    if (want) {
        if (got != want) printf("byte %d at '%s' + %zu\n", c, where->mark, where->offset);
        CHECK(end == size || (end && c == '\n' && want == 400));
        CHECK_INT(got, want);
    } else {
        CHECK_INT(end, 0);
        CHECK(got != 101);
    }
}

static void every_byte_everywhere(void) {
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        for (int c = 0; c < 256; c++) check_byte(&places[i], c);
}

/* The same in a port and in a Content-Length. */
static void every_byte_in_numbers(void) {
    for (int c = 1; c < 256; c++) {
        char head[256];
        snprintf(head, sizeof head, "%sHost: a:8%c\r\n%s\r\n", LINE, c, ASKS WITH_KEY WITH_VERSION);
        CHECK_INT(outcome_of(head), want_port_end(c, 0));
        snprintf(head, sizeof head, "%sContent-Length: %c\r\n\r\n", UPGRADE, c);
        CHECK_INT(outcome_of(head), c == '0' ? 101 : 400);
    }
}

/* Request line. */

static void methods(void) {
    static const sample samples[] = {
        {"GET", 101},   {"HEAD", 405},   {"POST", 405},  {"get", 405},    {"Get", 405},    {"GETT", 405},
        {"GE", 405},    {"PUT", 405},    {"TRACE", 405}, {"CONNECT", 405}, {"G@T", 400},   {"G T", 400},
        {"", 400},      {" GET", 400},   {"GET ", 400},  {"GET\t", 400},  {"\tGET", 400}, {"(GET)", 400},
        {"GET,", 400},  {"OPTIONS", 405}, {"head", 405}, {"Head", 405},   {"HEADS", 405},
    };
    CHECK_SAMPLES("", samples, " / HTTP/1.1\r\n" HOST ASKS WITH_KEY WITH_VERSION "\r\n");
    CHECK_INT(outcome_of("HEAD / HTTP/1.1\r\n" HOST "\r\n"), 200);
    CHECK_INT(outcome_of("CONNECT example.com:80 HTTP/1.1\r\n" HOST "\r\n"), 405);
    CHECK_INT(outcome_of("PRI * HTTP/2.0\r\n\r\n"), 505);
    CHECK_INT(outcome_of("\r\n\r\n"), 400);
    CHECK_INT(outcome_of("GET\r\n\r\n"), 400);
    CHECK_INT(outcome_of("GET /\r\n\r\n"), 400);
}

static void versions(void) {
    static const sample samples[] = {
        {"HTTP/1.1", 101},  {"HTTP/1.0", 426},  {"HTTP/1.2", 101},   {"HTTP/2.0", 505},  {"HTTP/0.9", 505},
        {"http/1.1", 400},  {"HTTP/1.1 ", 400}, {" HTTP/1.1", 400},  {"HTTP/11", 400},   {"HTTP/1.10", 400},
        {"HTTP/01.1", 400}, {"HTTP/1,1", 400},  {"HTTP/+1.1", 400},  {"HTTP 1.1", 400},  {"", 400},
        {"HTTP", 400},      {"HTTP/", 400},     {"HTTP/1.", 400},    {"HTTPS/1.1", 400}, {"HTTP/1.1\t", 400},
        {"HTTP/2", 400},    {"xHTTP/1.1", 400}, {"HTTP/1.1\r", 400}, {"HTTP/a.b", 400},  {"HTTP/1.9", 101},
        {"HTTP/0.0", 505},  {"HTTP/9.1", 505},  {"HTTP/3.1", 505},   {"HTTP/1.", 400},   {"HTTP/1.-", 400},
    };
    CHECK_SAMPLES("GET / ", samples, "\r\n" HOST ASKS WITH_KEY WITH_VERSION "\r\n");
}

static void targets(void) {
    static const sample samples[] = {
        {"/", 101},
        {"//", 101},
        {"/a/b;c=d?e=f&g", 101},
        {"/?", 101},
        {"/%zz", 101},
        {"/[]{}|\\^`\"<>", 101},
        {"*", 400},
        {"", 400},
        {"a", 400},
        {"?a", 400},
        {"/#", 400},
        {"/a#b", 400},
        {"/\x7f", 400},
        {"/\xc3\xa9", 400},
        {"/\xff", 400},
        {"/a b", 400},
        {"/\t", 400},
        {"example.com:80", 400},
        {"http://example.com/", 101},
        {"HTTP://EXAMPLE.com/a", 101},
        {"https://example.com", 101},
        {"http://example.com?a=b", 101},
        {"http://example.com:80/", 101},
        {"http://other.com/", 101},
        {"ws://example.com/a", 101},
        {"WSS://example.com", 101},
        {"wss://other.com:8443/a?b", 101},
        {"ws://[::1]:80?a", 101},
        {"http://user@example.com/", 400},
        {"ws://user:word@example.com/", 400},
        {"wss://@example.com", 400},
        {"http://example.com:port/", 400},
        {"http://example.com:65536/", 400},
        {"http://[::1/", 400},
        {"http://:80/", 400},
        {"ws://?a", 400},
        {"wss:///a", 400},
        {"wsss://example.com/", 400},
        {"ws:example.com", 400},
        {"http:///", 400},
        {"http://", 400},
        {"http:/example.com/", 400},
        {"ftp://example.com/", 400},
        {"http//example.com/", 400},
    };
    CHECK_SAMPLES("GET ", samples, " HTTP/1.1\r\n" HOST ASKS WITH_KEY WITH_VERSION "\r\n");
}

/* Whether the host of a request is this one, for the rules of hosts and for those of origins. */
static int has_host(const wss_request *request, const char *host) {
    wss__span found = wss__http_span(request, request->host);
    return wss__base_equal(found, wss__base_text(host));
}

/* The host of an absolute target counts, whatever the Host line says, which stays to be read. */
static void absolute_target(void) {
    static const struct {
        const char *sent;
        const char *target;
        const char *host;
    } samples[] = {
        {"/", "/", "line.example"}, {"/a?b", "/a?b", "line.example"}, {"/http://a", "/http://a", "line.example"},
        {"://a/", "/", "a"}, {"://a", "/", "a"}, {"://a?b=/", "/?b=/", "a"}, {"://a/?b", "/?b", "a"}, {"://a:80?", "/?", "a:80"},
        {"://a.example:8080/b/c?d?e", "/b/c?d?e", "a.example:8080"}, {"://[::1]:9?x", "/?x", "[::1]:9"},
        {"://[::1]", "/", "[::1]"}, {"://a//b", "//b", "a"}, {"://line.example/c", "/c", "line.example"},
    };
    static const char *const schemes[] = {"http", "https", "ws", "wss", "HTTP", "wSs"};
    for (size_t i = 0; i < sizeof samples / sizeof samples[0] * 6; i++) {
        const char *sent = samples[i / 6].sent;
        char head[200];
        parsed p;
        snprintf(head, sizeof head, "GET %s%s HTTP/1.1\r\nHost: line.example\r\nA: b\r\n\r\n",
                 *sent == ':' ? schemes[i % 6] : "", sent);
        parse_text(&p, head);
        CHECK_INT(p.rule, WSS__HTTP_GOOD);
        CHECK_TEXT(wss_request_target(&p.request), samples[i / 6].target);
        CHECK(has_host(&p.request, samples[i / 6].host));
        CHECK_TEXT(wss_request_header(&p.request, "host"), "line.example");
        CHECK_TEXT(wss_request_header(&p.request, "a"), "b");
        forget(&p);
    }
}

/* Of these hosts the target's is the one that counts. */
static void absolute_target_decides(void) {
    static const struct {
        const char *hosts;
        const char *origin;
        int host_allowed;
        int origin_allowed;
    } samples[] = {
        {"target.example", "http://target.example", 1, 1},
        {"target.example:80", "https://target.example", 1, 1},
        {"line.example", "http://line.example", 0, 0},
        {"target.example, line.example", "http://line.example:80", 1, 0},
        {NULL, "http://target.example:81", 1, 0},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0] * 2; i++) {
        char head[300];
        parsed p;
        snprintf(head, sizeof head, "GET ws://target.example%s HTTP/1.1\r\nHost: line.example\r\nOrigin: %s\r\n\r\n",
                 i % 2 ? "" : "/path", samples[i / 2].origin);
        parse_text(&p, head);
        CHECK_INT(p.rule, WSS__HTTP_GOOD);
        CHECK_INT((wss__origin_judge_host(&p.request, samples[i / 2].hosts, 1, 0, 0) == WSS__HTTP_GOOD), samples[i / 2].host_allowed);
        CHECK_INT(wss__origin_allowed(&p.request, NULL, 0), samples[i / 2].origin_allowed);
        forget(&p);
    }
}

/* The Host line must be as good as if it counted. */
static void absolute_target_needs_a_host_line(void) {
    static const struct {
        const char *lines;
        int rule;
    } samples[] = {
        {"Host: other\r\n", WSS__HTTP_GOOD},
        {"", WSS__HTTP_RULE_HOST_LINE},
        {"Host:\r\n", WSS__HTTP_RULE_HOST_LINE},
        {"Host: a/b\r\n", WSS__HTTP_RULE_HOST_LINE},
        {"Host: a@b\r\n", WSS__HTTP_RULE_HOST_LINE},
        {"Host: a\r\nHost: a\r\n", WSS__HTTP_RULE_HOST_LINE},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        char head[200];
        snprintf(head, sizeof head, "GET http://a/ HTTP/1.1\r\n%s\r\n", samples[i].lines);
        CHECK_INT(rule_of(head), samples[i].rule);
        snprintf(head, sizeof head, "GET http://a/ HTTP/1.0\r\n%s\r\n", samples[i].lines);
        CHECK_INT(rule_of(head), *samples[i].lines ? samples[i].rule : WSS__HTTP_GOOD);
    }
}

/* HTTP/1.0, whose clients may leave the Host line out; a later minor version than 1 is as 1. */
static void minor_versions(void) {
    static const char *const methods[] = {"GET", "HEAD", "OPTIONS"};
    for (int minor = 0; minor <= 9; minor++) {
        for (int m = 0; m < 3; m++) {
            char head[200];
            parsed p;
            snprintf(head, sizeof head, "%s /a?b HTTP/1.%d\r\nA: b\r\n\r\n", methods[m], minor);
            CHECK_INT(rule_of(head), minor ? WSS__HTTP_RULE_HOST_LINE : WSS__HTTP_GOOD);
            snprintf(head, sizeof head, "%s /a?b HTTP/1.%d\r\n%s%s\r\n", methods[m], minor, HOST, HOST);
            CHECK_INT(rule_of(head), WSS__HTTP_RULE_HOST_LINE);
            snprintf(head, sizeof head, "%s /a?b HTTP/1.%d\r\nHost: a b\r\n\r\n", methods[m], minor);
            CHECK_INT(rule_of(head), WSS__HTTP_RULE_HOST_LINE);
            snprintf(head, sizeof head, "%s /a?b HTTP/1.%d\r\n%s\r\n", methods[m], minor, HOST);
            CHECK_INT(outcome_of(head), 200);
            parse_text(&p, head);
            CHECK_INT(p.request.minor, minor > 0);
            CHECK_TEXT(wss_request_method(&p.request), methods[m]);
            CHECK_TEXT(wss_request_target(&p.request), "/a?b");
            CHECK(has_host(&p.request, "example.com"));
            forget(&p);
        }
    }
}

/* A request without a host is let in whatever the hosts: no browser sends one, so no page can have made it. */
static void no_host_at_all(void) {
    parsed p;
    parse_text(&p, "GET / HTTP/1.0\r\n\r\n");
    CHECK_INT(p.rule, WSS__HTTP_GOOD);
    CHECK(has_host(&p.request, ""));
    CHECK_INT((wss__origin_judge_host(&p.request, "a.com", 1, 0, 0) == WSS__HTTP_GOOD), 1);
    CHECK_INT((wss__origin_judge_host(&p.request, NULL, 1, 0, 0) == WSS__HTTP_GOOD), 1);
    forget(&p);
    parse_text(&p, "GET / HTTP/1.0\r\nHost: b.com\r\n\r\n");
    CHECK_INT((wss__origin_judge_host(&p.request, "a.com", 1, 0, 0) == WSS__HTTP_GOOD), 0);
    forget(&p);
    parse_text(&p, "GET http://b.com HTTP/1.0\r\n\r\n");
    CHECK_INT((wss__origin_judge_host(&p.request, "a.com", 1, 0, 0) == WSS__HTTP_GOOD), 0);
    CHECK_INT((wss__origin_judge_host(&p.request, "b.com", 1, 0, 0) == WSS__HTTP_GOOD), 1);
    forget(&p);
}

/* OPTIONS asks about a target, or with "*", which no other method may have, about the server. */
static void options_method(void) {
    static const sample samples[] = {
        {"OPTIONS *", 200},   {"OPTIONS /", 200},    {"OPTIONS /a?b", 200}, {"OPTIONS http://a/", 200}, {"OPTIONS ws://a", 200},
        {"OPTIONS **", 400},  {"OPTIONS *?a", 400},  {"OPTIONS /*", 200},   {"OPTIONS a", 400},         {"OPTIONS ", 400},
        {"GET *", 400},       {"HEAD *", 400},       {"HEAD /*", 200},      {"options *", 405},         {"OPTION *", 405},
        {"OPTIONSS *", 405},  {"POST *", 405},
    };
    CHECK_SAMPLES("", samples, " HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(outcome_of("OPTIONS * HTTP/1.0\r\n\r\n"), 200);
    CHECK_INT(outcome_of("OPTIONS * HTTP/1.1\r\n\r\n"), 400);
    CHECK_INT(outcome_of("OPTIONS * HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n"), 400);
    CHECK_INT(rule_of("OPTIONS * HTTP/1.1\r\n" HOST ASKS WITH_KEY WITH_VERSION "\r\n"), WSS__HTTP_RULE_UPGRADE_METHOD);
    char path[8];
    size_t length = 9;
    parsed p;
    parse_text(&p, "OPTIONS * HTTP/1.1\r\n" HOST "\r\n");
    CHECK_TEXT(wss_request_method(&p.request), "OPTIONS");
    CHECK_TEXT(wss_request_target(&p.request), "*");
    CHECK_INT(wss_request_path(&p.request, path, sizeof path, &length), WSS_OK);
    CHECK_TEXT(path, "*");
    CHECK_INT(length, 1);
    CHECK_INT(wss_request_query(&p.request, "a", path, sizeof path, NULL), WSS_ERR_MISSING);
    forget(&p);
}

/* Field lines. */

static void hosts_valid(void) {
    static const sample samples[] = {
        {"Host: a\r\n", 101},
        {"hOST:a\r\n", 101},
        {"Host: \t a \t \r\n", 101},
        {"Host: a:0\r\n", 101},
        {"Host: a:65535\r\n", 101},
        {"Host: a:00080\r\n", 101},
        {"Host: 127.0.0.1:8080\r\n", 101},
        {"Host: [::1]\r\n", 101},
        {"Host: [::1]:8080\r\n", 101},
        {"Host: [2001:db8::192.0.2.1]\r\n", 101},
        {"Host: [::]\r\n", 101},
        {"Host: a%41b\r\n", 101},
        {"Host: a%04%40\r\n", 101},
        {"Host: a_b.example\r\n", 101},
        {"", 400},
        {"Host:\r\n", 400},
        {"Host: \t\r\n", 400},
        {"Host: a\r\nHost: a\r\n", 400},
        {"Host: a\r\nhost: b\r\n", 400},
        {"Host: a, b\r\n", 400},
        {"Host: a b\r\n", 400},
        {"Host: user@a\r\n", 400},
        {"Host: a/b\r\n", 400},
        {"Host: http://a\r\n", 400},
        {"Host: a?\r\n", 400},
        {"Host: a#\r\n", 400},
        {"Host: a\\b\r\n", 400},
        {"Host: :80\r\n", 400},
        {"Host: a:\r\n", 400},
        {"Host: a:65536\r\n", 400},
        {"Host: a:99999999999999999999\r\n", 400},
        {"Host: a:-1\r\n", 400},
        {"Host: a:+80\r\n", 400},
        {"Host: a:8o\r\n", 400},
        {"Host: a:80:80\r\n", 400},
        {"Host: a: 80\r\n", 400},
        {"Host: ::1\r\n", 400},
        {"Host: [::1\r\n", 400},
        {"Host: [::1]80\r\n", 400},
        {"Host: [::1]:\r\n", 400},
        {"Host: []\r\n", 400},
        {"Host: [:::]\r\n", 400},
        {"Host: [a.b]\r\n", 400},
        {"Host: [fe80::1%25eth0]\r\n", 400},
        {"Host: [127.0.0.1]\r\n", 400},
        {"Host: [1:2:3:4:5:6:7:8:9:a:b:c:d:e:f:1:2:3:4:5:6:7:8:9:a]\r\n", 400},
        {"Host: [000001:2:3:4:5:6:7:8:9:a:b:c:d:e:f:1:2:3:4:5:6]\r\n", 400},
        {"Host: ::1]\r\n", 400},
        {"Host: a%4\r\n", 400},
        {"Host: a%\r\n", 400},
        {"Host: a%g0\r\n", 400},
        {"Host: \xc3\xa9\r\n", 400},
        {"Host: a\x01\r\n", 400},
        {"Host: a\x7f\r\n", 400},
    };
    CHECK_SAMPLES(LINE, samples, ASKS WITH_KEY WITH_VERSION "\r\n");
}

static void bodies(void) {
    static const sample samples[] = {
        {"Content-Length: 0\r\n", 101},
        {"content-length:0\r\n", 101},
        {"Content-Length: 1\r\n", 400},
        {"Content-Length: 00\r\n", 400},
        {"Content-Length: +0\r\n", 400},
        {"Content-Length: -0\r\n", 400},
        {"Content-Length: +5\r\n", 400},
        {"Content-Length: -1\r\n", 400},
        {"Content-Length: 5,5\r\n", 400},
        {"Content-Length: 0,0\r\n", 400},
        {"Content-Length: 0 0\r\n", 400},
        {"Content-Length: 0x0\r\n", 400},
        {"Content-Length:\r\n", 400},
        {"Content-Length: 00000000000000000000\r\n", 400},
        {"Content-Length: 18446744073709551616\r\n", 400},
        {"Content-Length: 0\r\nContent-Length: 0\r\n", 400},
        {"Content-Length: 0\r\nContent-Length: 5\r\n", 400},
        {"Transfer-Encoding: chunked\r\n", 400},
        {"Transfer-Encoding: identity\r\n", 400},
        {"Transfer-Encoding:\r\n", 400},
        {"transfer-encoding: CHUNKED\r\n", 400},
        {"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", 400},
        {"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", 400},
        {"Transfer-Encoding : chunked\r\n", 400},
        {"X-Content-Length: 5\r\n", 101},
    };
    CHECK_SAMPLES(UPGRADE, samples, "\r\n");
    CHECK_INT(outcome_of(LINE HOST "Content-Length: 5\r\n\r\n"), 400);
    CHECK_INT(outcome_of(LINE HOST "Content-Length: 0\r\n\r\n"), 200);
}

static void field_lines(void) {
    static const sample samples[] = {
        {"A: b\r\n", 101},     {"A:b\r\n", 101},          {"A:\r\n", 101},       {"A: \t\r\n", 101},
        {"A:\tb\tc\t\r\n", 101}, {"A: \x80\xff\r\n", 101}, {"!#$%&'*+-.^_`|~9aZ: b\r\n", 101},
        {"A : b\r\n", 400},    {"A\t: b\r\n", 400},       {" A: b\r\n", 400},    {"\tA: b\r\n", 400},
        {": b\r\n", 400},      {"A\r\n", 400},            {"A b: c\r\n", 400},   {"A(: c\r\n", 400},
        {"A: b\r\n c\r\n", 400}, {"A: b\r\n\tc\r\n", 400}, {"A: b\r\n \r\n", 400}, {"A: b\n", 400},
        {"A: b\nC: d\r\n", 400}, {"A: b\rC: d\r\n", 400}, {"A: b\r\r\n", 400},   {"\rA: b\r\n", 400},
        {"\nA: b\r\n", 400},   {"A: \x01\r\n", 400},      {"A: \x1f\r\n", 400},  {"A: \x7f\r\n", 400},
        {"A: \x0b\r\n", 400},  {"\xc3\xa9: b\r\n", 400},  {"A\x7f: b\r\n", 400},
    };
    CHECK_SAMPLES(UPGRADE, samples, "\r\n");
    CHECK_INT(outcome_of("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), 400);
    CHECK_INT(outcome_of("GET / HTTP/1.1\nHost: a\r\n\r\n"), 400);
    CHECK_INT(outcome_of("GET / HTTP/1.1\r\n\r\n"), 400);
}

/* Limits. */

static void head_limit(void) {
    static char head[MAX_HEAD + 2];
    for (size_t size = MAX_HEAD - 1; size <= MAX_HEAD + 1; size++) {
        size_t begin = strlen(UPGRADE "A: ");
        memcpy(head, UPGRADE "A: ", begin);
        memset(head + begin, 'x', size - begin - 4);
        memcpy(head + size - 4, "\r\n\r\n", 4);
        CHECK_INT(wss__http_find_end(head, size, 0), size);
        CHECK_INT(early_status(head, size, MAX_HEAD), size <= MAX_HEAD ? 0 : 431);
        parsed p;
        parse_bytes(&p, head, size);
        CHECK_INT(p.status, 0);
        CHECK_INT(strlen(wss_request_header(&p.request, "a")), size - begin - 4);
        forget(&p);
    }
}

static void head_without_end(void) {
    static char line[MAX_HEAD + 1];
    static char fields[MAX_HEAD + 1];
    memset(line, 'x', sizeof line);
    memset(fields, 'x', sizeof fields);
    memcpy(line, "GET /", 5);
    memcpy(fields, LINE "A: ", strlen(LINE "A: "));
    for (size_t have = 0; have <= sizeof line; have++) {
        CHECK_INT(early_status(line, have, MAX_HEAD), have <= MAX_HEAD ? 0 : 414);
        CHECK_INT(early_status(fields, have, MAX_HEAD), have <= MAX_HEAD ? 0 : 431);
    }
    CHECK_INT(early_status(fields, 101, 100), 431);
    CHECK_INT(early_status(line, 101, 100), 414);
    CHECK_INT(early_status(line, sizeof line, WSS_OFF), 0);
    CHECK_INT(early_status("GET / HTTP/1.1\r\nHost", 20, 10), 414);
}

/* A head whose first line has this size, its line end included; the rest is as short as it can be. */
static size_t make_line(char *head, size_t size) {
    static const char tail[] = " HTTP/1.1\r\n" HOST "\r\n";
    size_t begin = size - strlen(" HTTP/1.1\r\n");
    memset(head, 'x', begin);
    memcpy(head, "GET /", 5);
    memcpy(head + begin, tail, sizeof tail - 1);
    return begin + sizeof tail - 1;
}

/* No line is too long by itself: only the limit of the head counts, and the line is to blame where it alone is past
   it. */
static void line_limit(void) {
    static const size_t sizes[] = {17, 4095, 4096, 4097, 4098, 8191, 8192, 8193, 16360, 16361, 16362, 16363, 16382, 16383,
                                   16384, 16385, 16386, 20000};
    static char head[20100];
    const size_t rest = strlen(HOST "\r\n");
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t line = sizes[i];
        size_t size = make_line(head, line);
        CHECK_INT(size, line + rest);
        parsed p;
        parse_bytes(&p, head, size);
        CHECK_INT(p.rule, WSS__HTTP_GOOD);
        CHECK_INT(strlen(wss_request_target(&p.request)), line - strlen("GET  HTTP/1.1\r\n"));
        forget(&p);
        int want = size <= MAX_HEAD ? WSS__HTTP_GOOD : line <= MAX_HEAD ? WSS__HTTP_RULE_HEAD_SIZE : WSS__HTTP_RULE_LINE_SIZE;
        CHECK_INT(wss__http_check_prefix(head, size, MAX_HEAD), want);
        for (size_t have = MAX_HEAD + 1; have < size; have++) CHECK_INT(wss__http_check_prefix(head, have, MAX_HEAD), want);
        for (size_t have = 0; have <= MAX_HEAD && have < size; have += 101)
            CHECK_INT(wss__http_check_prefix(head, have, MAX_HEAD), WSS__HTTP_GOOD);
    }
}

/* The empty line that is skipped counts in the head, and is no first line. */
static void line_limit_after_an_empty_line(void) {
    static char head[MAX_HEAD + 100];
    memcpy(head, "\r\n", 2);
    for (size_t line = MAX_HEAD - 3; line <= MAX_HEAD + 1; line++) {
        size_t size = 2 + make_line(head + 2, line);
        int want = line + 2 <= MAX_HEAD ? WSS__HTTP_RULE_HEAD_SIZE : WSS__HTTP_RULE_LINE_SIZE;
        CHECK_INT(wss__http_check_prefix(head, MAX_HEAD, MAX_HEAD), WSS__HTTP_GOOD);
        for (size_t have = MAX_HEAD + 1; have <= size; have++)
            CHECK_INT(wss__http_check_prefix(head, have, MAX_HEAD), want);
    }
    CHECK_INT(wss__http_check_prefix("\r\nG", 3, 1), WSS__HTTP_RULE_LINE_SIZE);
    CHECK_INT(wss__http_check_prefix("\r\nG", 3, 2), WSS__HTTP_RULE_LINE_SIZE);
}

/* A head with this many field lines. */
static size_t make_fields(char *head, size_t room, int count) {
    size_t size = (size_t)snprintf(head, room, "%s%s", LINE, count ? HOST : "");
    for (int i = 1; i < count; i++) size += (size_t)snprintf(head + size, room - size, "A%d: %d\r\n", i, i);
    return size + (size_t)snprintf(head + size, room - size, "\r\n");
}

static void check_fields(int count, int want) {
    static char head[4096];
    char name[16];
    parsed p;
    parse_bytes(&p, head, make_fields(head, sizeof head, count));
    CHECK_INT(p.status, want);
    if (!p.status) {
        snprintf(name, sizeof name, "a%d", count - 1);
        CHECK(wss_request_header_at(&p.request, (size_t)count - 1, NULL) != NULL);
        CHECK(wss_request_header_at(&p.request, (size_t)count, NULL) == NULL);
        if (count > 1) CHECK_TEXT(wss_request_header(&p.request, name), name + 1);
    }
    forget(&p);
}

static void field_limit(void) {
    check_fields(0, 400);
    for (int count = 1; count <= 64; count++) check_fields(count, 0);
    check_fields(65, 431);
    check_fields(200, 431);
}

/* Upgrade rules. */

static void upgrade_tokens(void) {
    static const sample samples[] = {
        {"Upgrade: websocket\r\nConnection: Upgrade\r\n", 101},
        {"UPGRADE: WebSocket\r\nCONNECTION: uPGRADE\r\n", 101},
        {"Upgrade: h2c, websocket\r\nConnection: keep-alive, Upgrade\r\n", 101},
        {"Upgrade: ,, websocket ,\r\nConnection: , ,\tupgrade\t,\r\n", 101},
        {"Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n", 101},
        {"Upgrade:\r\nUpgrade: websocket\r\nConnection:\r\nConnection: Upgrade\r\n", 101},
        {"Connection: Upgrade\r\nUpgrade: websocket\r\n", 101},
        {"Upgrade: websocket\r\n", 400},
        {"Upgrade: websocket\r\nConnection:\r\n", 400},
        {"Upgrade: websocket\r\nConnection: close\r\n", 400},
        {"Upgrade: websocket\r\nConnection: upgrades\r\n", 400},
        {"Upgrade: websocket\r\nConnection: keep-alive Upgrade\r\n", 400},
        {"Upgrade: websocket\r\nConnection: \"Upgrade\"\r\n", 400},
        {"Connection: Upgrade\r\n", 200},
        {"", 200},
        {"Upgrade: websocket2\r\nConnection: Upgrade\r\n", 200},
        {"Upgrade: websocket/13\r\nConnection: Upgrade\r\n", 200},
        {"Upgrade: web socket\r\nConnection: Upgrade\r\n", 200},
        {"Upgrade: h2c\r\nConnection: Upgrade\r\n", 200},
        {"Upgrade:\r\nConnection: Upgrade\r\n", 200},
        {"X-Upgrade: websocket\r\nConnection: Upgrade\r\n", 200},
    };
    CHECK_SAMPLES(LINE HOST, samples, WITH_KEY WITH_VERSION "\r\n");
}

static void upgrade_versions(void) {
    static const sample samples[] = {
        {WITH_VERSION, 101},
        {"sec-websocket-version:13\r\n", 101},
        {"", 426},
        {"Sec-WebSocket-Version:\r\n", 426},
        {WITH_VERSION WITH_VERSION, 426},
        {"Sec-WebSocket-Version: 13, 8\r\n", 426},
        {"Sec-WebSocket-Version: 8\r\n" WITH_VERSION, 426},
        {"Sec-WebSocket-Version: 013\r\n", 426},
        {"Sec-WebSocket-Version: +13\r\n", 426},
        {"Sec-WebSocket-Version: 130\r\n", 426},
        {"Sec-WebSocket-Version: 1 3\r\n", 426},
        {"Sec-WebSocket-Version: 8\r\n", 426},
        {"Sec-WebSocket-Version: 0\r\n", 426},
    };
    CHECK_SAMPLES(LINE HOST ASKS WITH_KEY, samples, "\r\n");
}

static void upgrade_keys(void) {
    static const sample samples[] = {
        {WITH_KEY, 101},
        {"sec-websocket-key:\t" KEY "\t\r\n", 101},
        {"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", 101},
        {"Sec-WebSocket-Key: ////////////////////+w==\r\n", 101},
        {"", 400},
        {"Sec-WebSocket-Key:\r\n", 400},
        {WITH_KEY WITH_KEY, 400},
        {WITH_KEY "Sec-WebSocket-Key:\r\n", 400},
        {"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n", 400},
        {"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n", 400},
        {"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ===\r\n", 400},
        {"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n", 101},
        {"Sec-WebSocket-Key: //////////////////////==\r\n", 101},
        {"Sec-WebSocket-Key: dGhlIHNhbXBs SBub25jZQ==\r\n", 400},
        {"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, x\r\n", 400},
        {"Sec-WebSocket-Key: dGhlIHNhbXBs-SBub25jZQ==\r\n", 400},
        {"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWUh\r\n", 400},
        {"Sec-WebSocket-Key: ========================\r\n", 400},
    };
    CHECK_SAMPLES(LINE HOST ASKS WITH_VERSION, samples, "\r\n");
    CHECK_INT(outcome_of("HEAD / HTTP/1.1\r\n" HOST ASKS WITH_KEY WITH_VERSION "\r\n"), 405);
    parsed p;
    parse_text(&p, UPGRADE "\r\n");
    wss__span key = wss__http_key(&p.request);
    CHECK(wss__base_equal(key, wss__base_text(KEY)));
    forget(&p);
}

/* The head may move: only base changes, as for a request that is copied to be answered later. */
static void relocation(void) {
    parsed p;
    int rule = -1;
    parse_text(&p, UPGRADE "Origin: http://example.com\r\n\r\n");
    wss_request copy;
    memcpy(&copy, &p.request, offsetof(wss_request, fields) + p.request.count * sizeof p.request.fields[0]);
    char *moved = guard_copy(p.data, p.size);
    memset(p.data, 'x', p.size);
    copy.base = moved;
    CHECK_INT(wss__http_upgrade(&copy, &rule), 1);
    CHECK_INT(rule, WSS__HTTP_GOOD);
    CHECK((wss__origin_judge_host(&copy, "example.com", 1, 0, 0) == WSS__HTTP_GOOD) && !(wss__origin_judge_host(&copy, "x", 1, 0, 0) == WSS__HTTP_GOOD));
    CHECK_TEXT(wss_request_header(&copy, "sec-websocket-version"), "13");
    CHECK_TEXT(wss_request_target(&copy), "/");
    CHECK(wss__origin_allowed(&copy, NULL, 0));
    guard_free(moved, p.size);
    forget(&p);
}

/* Origins and hosts. */

typedef struct origin_sample {
    const char *host;
    const char *origin; /* NULL: none */
    const char *list;
    int want;
} origin_sample;

static void origins(void) {
    static const origin_sample samples[] = {
        {"a.com", NULL, NULL, 1},
        {"a.com", NULL, "https://b.com", 1},
        {"a.com", "http://a.com", NULL, 1},
        {"a.com", "https://a.com", NULL, 1},
        {"A.com", "HTTP://a.COM", NULL, 1},
        {"a.com:8080", "http://a.com:8080", NULL, 1},
        {"a.com:80", "http://a.com", NULL, 1},
        {"a.com", "http://a.com:80", NULL, 1},
        {"a.com:443", "https://a.com", NULL, 1},
        {"a.com", "https://a.com:443", NULL, 1},
        {"[::1]:80", "http://[::1]", NULL, 1},
        {"[::1]:9000", "http://[::1]:9000", NULL, 1},
        {"localhost:8080", "http://localhost:8080", NULL, 1},
        {"a.com:443", "http://a.com", NULL, 0},
        {"a.com:80", "https://a.com", NULL, 0},
        {"a.com", "http://a.com:8080", NULL, 0},
        {"a.com:8080", "http://a.com", NULL, 0},
        {"a.com:8080", "http://a.com:80800", NULL, 0},
        {"a.com", "http://b.com", NULL, 0},
        {"a.com", "http://a.com.b.com", NULL, 0},
        {"a.com", "http://xa.com", NULL, 0},
        {"a.com", "http://a.co", NULL, 0},
        {"a.com", "http://a.com/", NULL, 1},
        {"a.com", "http://user@a.com", NULL, 0},
        {"a.com", "a.com", NULL, 1},
        {"a.com", "file://a.com", NULL, 0},
        {"a.com", "null", NULL, 0},
        {"a.com", "", NULL, 1},
        {"a.com", "http://", NULL, 0},
        {"a.com", "http://a.com http://b.com", NULL, 0},
        {"[::1]", "http://[::1]x80", NULL, 0},
        {"[::1]", "http://[::1", NULL, 0},
        {"localhost:8080", "http://127.0.0.1:8080", NULL, 0},
        {"a.com", "http://b.com", "", 0},
        {"a.com", "", "", 1},
        {"a.com", "", ",", 1},
        {"a.com", "http://b.com", "http://b.com", 1},
        {"a.com", "http://b.com", "HTTP://B.com", 1},
        {"a.com", "http://b.com:80", "http://b.com", 1},
        {"a.com", "https://b.com", "https://b.com:443", 1},
        {"a.com", "http://b.com", " https://c.com , http://b.com ", 1},
        {"a.com", "http://b.com", "https://c.com,,http://b.com,", 1},
        {"a.com", "http://b.com", "*", 1},
        {"a.com", "http://b.com", "https://c.com, *", 1},
        {"a.com", "null", "null", 1},
        {"a.com", "null", "http://b.com,null", 1},
        {"a.com", "null", "*", 1},
        {"a.com", "chrome-extension://abc", "chrome-extension://abc", 1},
        {"a.com", "Capacitor://localhost", "capacitor://LOCALHOST", 1},
        {"a.com", "http://b.com", "https://b.com", 0},
        {"a.com", "http://b.com:8080", "http://b.com", 0},
        {"a.com", "https://b.com:80", "https://b.com", 0},
        {"a.com", "http://b.com", "b.com", 0},
        {"a.com", "http://x.b.com", "http://b.com", 0},
        {"a.com", "http://b.com", "null", 0},
        {"a.com", "http://b.com", "http://b.comx", 0},
        {"a.com", "http://a.com", "http://b.com", 1},
        {"a.com", "ws://b.com", NULL, 0},
        {"a.com", "wss://b.com:443", "wss://b.com", 1},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        const origin_sample *s = &samples[i];
        char head[300];
        parsed p;
        snprintf(head, sizeof head, "%sHost: %s\r\n%s%s%s\r\n", LINE, s->host, s->origin ? "Origin: " : "",
                 s->origin ? s->origin : "", s->origin ? "\r\n" : "");
        parse_text(&p, head);
        CHECK_INT(p.status, 0);
        int got = wss__origin_allowed(&p.request, s->list, 0);
        if (got != s->want) printf("origin: %s at %s\n", s->origin ? s->origin : "(none)", s->host);
        CHECK_INT(got, s->want);
        forget(&p);
    }
}

static void origin_twice(void) {
    parsed p;
    CHECK_INT(outcome_of(UPGRADE "Origin: http://example.com\r\n\r\n"), 101);
    CHECK_INT(outcome_of(UPGRADE "Origin: http://example.com\r\nOrigin: http://example.com\r\n\r\n"), 400);
    parse_text(&p, UPGRADE "Origin: http://example.com\r\norigin: http://evil.com\r\n\r\n");
    CHECK_INT(wss__origin_allowed(&p.request, "*", 0), 0);
    forget(&p);
}

static void host_list(void) {
    static const origin_sample samples[] = {
        {"a.com", NULL, NULL, 1},          {"a.com", NULL, "a.com", 1},
        {"A.com", NULL, "a.COM", 1},       {"a.com:8080", NULL, "a.com", 1},
        {"a.com:8080", NULL, "a.com:8080", 1}, {"a.com", NULL, "a.com:80", 1},
        {"a.com", NULL, "a.com:443", 1},   {"[::1]:9", NULL, "[::1]", 1},
        {"[::1]", NULL, "b, [::1]:80", 1}, {"a.com", NULL, "b.com, a.com", 1},
        {"a.com", NULL, "", 0},            {"a.com", NULL, ",", 0},
        {"a.com", NULL, "b.com", 0},       {"a.com:8080", NULL, "a.com:80", 0},
        {"a.com", NULL, "a.com:8080", 0},  {"x.a.com", NULL, "a.com", 0},
        {"a.com:8080", NULL, ":8080", 0},  {"a.com", NULL, "a.co", 0},
        {"127.0.0.1", NULL, "localhost", 0}, {"[::1]", NULL, "[", 0},
        {"A.com:8080", NULL, "a.com", 1},  {"A.com:8080", NULL, "a.COM:8080", 1},
        {"A.com", NULL, "a.com:80", 1},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        char head[200];
        parsed p;
        snprintf(head, sizeof head, "%sHost: %s\r\n\r\n", LINE, samples[i].host);
        parse_text(&p, head);
        CHECK_INT((wss__origin_judge_host(&p.request, samples[i].list, 1, 0, 0) == WSS__HTTP_GOOD), samples[i].want);
        forget(&p);
    }
}

/* What an application reads. */

static void readers(void) {
    parsed p;
    const char *value = "unset";
    parse_text(&p, "HEAD /a%20b?c=d HTTP/1.1\r\nHost: h\r\nA:  one \r\nB:\r\na: two\r\n\r\n");
    CHECK_INT(p.status, 0);
    CHECK_TEXT(wss_request_method(&p.request), "HEAD");
    CHECK_TEXT(wss_request_target(&p.request), "/a%20b?c=d");
    CHECK_TEXT(wss_request_header(&p.request, "a"), "one");
    CHECK(wss_request_header(&p.request, "aa") == NULL);
    CHECK_TEXT(wss_request_header(&p.request, "B"), "");
    CHECK(wss_request_header(&p.request, "C") == NULL);
    CHECK(wss_request_header(&p.request, "") == NULL);
    CHECK_TEXT(wss_request_header_at(&p.request, 3, &value), "a");
    CHECK_TEXT(value, "two");
    CHECK_TEXT(wss_request_header_at(&p.request, 0, NULL), "Host");
    CHECK(wss_request_header_at(&p.request, 4, &value) == NULL);
    CHECK(value == NULL);
    CHECK(wss_request_header_at(&p.request, (size_t)-1, NULL) == NULL);
    forget(&p);
}

static void peer(void) {
    parsed p;
    int port = 1;
    parse_text(&p, LINE HOST "\r\n");
    CHECK_TEXT(wss_request_method(&p.request), "GET");
    snprintf(p.request.peer, sizeof p.request.peer, "2001:db8::1");
    p.request.port = 4711;
    CHECK_TEXT(wss_request_peer(&p.request, &port), "2001:db8::1");
    CHECK_INT(port, 4711);
    CHECK_TEXT(wss_request_peer(&p.request, NULL), "2001:db8::1");
    forget(&p);
}

static void nulls(void) {
    char out[8] = "unset";
    size_t length = 9;
    int port = 9;
    const char *value = "unset";
    parsed p;
    CHECK_TEXT(wss_request_method(NULL), "");
    CHECK_TEXT(wss_request_target(NULL), "");
    CHECK_TEXT(wss_request_peer(NULL, &port), "");
    CHECK_INT(port, 0);
    CHECK(wss_request_header(NULL, "a") == NULL);
    CHECK(wss_request_header_at(NULL, 0, &value) == NULL);
    CHECK(value == NULL);
    CHECK_INT(wss_request_path(NULL, out, sizeof out, &length), WSS_ERR_ARGUMENT);
    CHECK_TEXT(out, "");
    CHECK_INT(length, 0);
    parse_text(&p, "GET /abc?d=e HTTP/1.1\r\n" HOST "Cookie: a=b\r\nSec-WebSocket-Protocol: p\r\n\r\n");
    CHECK(wss_request_header(&p.request, NULL) == NULL);
    CHECK_INT(wss_request_path(&p.request, NULL, 9, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_request_query(&p.request, NULL, out, sizeof out, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_request_query(NULL, "d", out, sizeof out, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_request_cookie(&p.request, NULL, out, sizeof out, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_request_cookie(NULL, "a", out, sizeof out, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_request_protocol(NULL, 0, out, sizeof out, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_request_path(&p.request, NULL, 0, &length), WSS_ERR_SPACE);
    CHECK_INT(length, 4);
    CHECK_INT(wss_request_cookie(&p.request, "a", NULL, 0, &length), WSS_ERR_SPACE);
    CHECK_INT(length, 1);
    CHECK_INT(wss_request_protocol(&p.request, 0, NULL, 0, &length), WSS_ERR_SPACE);
    CHECK_INT(length, 1);
    CHECK_INT(wss_request_query(&p.request, "d", NULL, 0, &length), WSS_ERR_SPACE);
    CHECK_INT(length, 1);
    forget(&p);
}

typedef struct text_sample {
    const char *sent;
    const char *name;
    int result;
    const char *want;
} text_sample;

enum { READ_PATH, READ_QUERY, READ_COOKIE };

static int read_text(const wss_request *request, int what, const char *name, char *out, size_t size,
                     size_t *length) {
    if (what == READ_PATH) return wss_request_path(request, out, size, length);
    if (what == READ_QUERY) return wss_request_query(request, name, out, size, length);
    return wss_request_cookie(request, name, out, size, length);
}

/* Each sample with every size of the caller's buffer. */
static void check_texts(int what, const char *format, const text_sample *samples, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const text_sample *s = &samples[i];
        char head[400];
        parsed p;
        size_t want = strlen(s->want);
        int printed = snprintf(head, sizeof head, format, s->sent);
        CHECK(printed > 0 && (size_t)printed < sizeof head);
        parse_text(&p, head);
        CHECK_INT(p.status, 0);
        for (size_t size = 0; size <= want + 2; size++) {
            char *out = guard_copy("????????????????????????????????????????", size);
            size_t length = 99;
            int result = read_text(&p.request, what, s->name, out, size, &length);
            int space = s->result == WSS_OK && size <= want;
            CHECK_INT(result, space ? WSS_ERR_SPACE : s->result);
            CHECK_INT(length, want);
            if (size) CHECK_TEXT(out, space ? "" : s->want);
            CHECK_INT(read_text(&p.request, what, s->name, out, size, NULL), result);
            guard_free(out, size);
        }
        forget(&p);
    }
}

#define CHECK_TEXTS(what, format, samples) \
    check_texts(what, format, samples, sizeof samples / sizeof samples[0])

static void paths(void) {
    static const text_sample samples[] = {
        {"/", NULL, WSS_OK, "/"},
        {"/a/b", NULL, WSS_OK, "/a/b"},
        {"/a?b", NULL, WSS_OK, "/a"},
        {"/?", NULL, WSS_OK, "/"},
        {"/a%3Fb?c", NULL, WSS_OK, "/a?b"},
        {"/%41%62%2f", NULL, WSS_OK, "/Ab/"},
        {"/a+b", NULL, WSS_OK, "/a+b"},
        {"/%C3%A9%F0%9f%98%80", NULL, WSS_OK, "/\xc3\xa9\xf0\x9f\x98\x80"},
        {"/%2525", NULL, WSS_OK, "/%25"},
        {"/%00", NULL, WSS_ERR_UTF8, ""},
        {"/%ff", NULL, WSS_ERR_UTF8, ""},
        {"/%c3", NULL, WSS_ERR_UTF8, ""},
        {"/%c0%af", NULL, WSS_ERR_UTF8, ""},
        {"/%ed%a0%80", NULL, WSS_ERR_UTF8, ""},
        {"/%", NULL, WSS_ERR_ARGUMENT, ""},
        {"/%4", NULL, WSS_ERR_ARGUMENT, ""},
        {"/%4g", NULL, WSS_ERR_ARGUMENT, ""},
        {"/%?41", NULL, WSS_ERR_ARGUMENT, ""},
        {"/%%41", NULL, WSS_ERR_ARGUMENT, ""},
    };
    CHECK_TEXTS(READ_PATH, "GET %s HTTP/1.1\r\n" HOST "\r\n", samples);
}

static void queries(void) {
    static const text_sample samples[] = {
        {"a=1", "a", WSS_OK, "1"},
        {"a=1&a=2", "a", WSS_OK, "1"},
        {"b=1&a=2", "a", WSS_OK, "2"},
        {"aa=1&a=2", "a", WSS_OK, "2"},
        {"a", "a", WSS_OK, ""},
        {"a=", "a", WSS_OK, ""},
        {"a&b", "b", WSS_OK, ""},
        {"&&a=1&", "a", WSS_OK, "1"},
        {"a=1=2", "a", WSS_OK, "1=2"},
        {"a=b+c%2B%20", "a", WSS_OK, "b c+ "},
        {"%61+%62=x", "a b", WSS_OK, "x"},
        {"a=?b=c", "a", WSS_OK, "?b=c"},
        {"?a=1", "?a", WSS_OK, "1"},
        {"a=%26", "a", WSS_OK, "&"},
        {"a%3Db=c", "a=b", WSS_OK, "c"},
        {"%zz=1&a=2", "a", WSS_OK, "2"},
        {"=1", "", WSS_OK, "1"},
        {"a=%C3%A9", "a", WSS_OK, "\xc3\xa9"},
        {"A=1", "a", WSS_ERR_MISSING, ""},
        {"", "a", WSS_ERR_MISSING, ""},
        {"", "", WSS_ERR_MISSING, ""},
        {"&", "", WSS_ERR_MISSING, ""},
        {"ab=1", "a", WSS_ERR_MISSING, ""},
        {"a=1", "ab", WSS_ERR_MISSING, ""},
        {"a=1", "aa", WSS_ERR_MISSING, ""},
        {"a;b=1", "b", WSS_ERR_MISSING, ""},
        {"a%00=1", "a", WSS_ERR_MISSING, ""},
        {"a=%00", "a", WSS_ERR_UTF8, ""},
        {"a=%80", "a", WSS_ERR_UTF8, ""},
        {"a=%", "a", WSS_ERR_ARGUMENT, ""},
        {"a=100%", "a", WSS_ERR_ARGUMENT, ""},
        {"a=%4", "a", WSS_ERR_ARGUMENT, ""},
        {"a=%4&b", "a", WSS_ERR_ARGUMENT, ""},
    };
    static const text_sample none[] = {{"/", "a", WSS_ERR_MISSING, ""}, {"/a=1", "a", WSS_ERR_MISSING, ""}};
    CHECK_TEXTS(READ_QUERY, "GET /p?%s HTTP/1.1\r\n" HOST "\r\n", samples);
    CHECK_TEXTS(READ_QUERY, "GET %s HTTP/1.1\r\n" HOST "\r\n", none);
}

static void cookies(void) {
    static const text_sample samples[] = {
        {"Cookie: a=1", "a", WSS_OK, "1"},
        {"cookie: b=1; a=2", "a", WSS_OK, "2"},
        {"Cookie: a=1; a=2", "a", WSS_OK, "1"},
        {"Cookie: b=1\r\nCookie: a=2", "a", WSS_OK, "2"},
        {"Cookie: a=\"x y\"", "a", WSS_OK, "\"x y\""},
        {"Cookie: a=b=c==", "a", WSS_OK, "b=c=="},
        {"Cookie: a=", "a", WSS_OK, ""},
        {"Cookie: ;; ; a=1;", "a", WSS_OK, "1"},
        {"Cookie: b=1;a=2", "a", WSS_OK, "2"},
        {"Cookie: a; a=2", "a", WSS_OK, "2"},
        {"Cookie: a=%41", "a", WSS_OK, "%41"},
        {"Cookie: A=1", "a", WSS_ERR_MISSING, ""},
        {"Cookie: aa=1", "a", WSS_ERR_MISSING, ""},
        {"Cookie: a", "a", WSS_ERR_MISSING, ""},
        {"Cookie:", "a", WSS_ERR_MISSING, ""},
        {"X: a=1", "a", WSS_ERR_MISSING, ""},
        {"Cookie: b=a=1", "a", WSS_ERR_MISSING, ""},
    };
    CHECK_TEXTS(READ_COOKIE, LINE HOST "%s\r\n\r\n", samples);
}

static void protocols(void) {
    static const char *const want[] = {"chat", "Chat", "chat", "v1.b~x", "last"};
    parsed p;
    char out[16];
    size_t length = 0;
    parse_text(&p, UPGRADE "Sec-WebSocket-Protocol: chat,Chat ,, chat, a b, \"q\", v1.b~x\r\n"
                           "Sec-WebSocket-Protocol:\r\n"
                           "sec-websocket-protocol: x/y, last\r\n\r\n");
    for (size_t i = 0; i < 5; i++) {
        CHECK_INT(wss_request_protocol(&p.request, i, out, sizeof out, &length), WSS_OK);
        CHECK_TEXT(out, want[i]);
        CHECK_INT(length, strlen(want[i]));
        CHECK(wss__http_offers(&p.request, wss__base_text(want[i])));
    }
    CHECK_INT(wss_request_protocol(&p.request, 5, out, sizeof out, &length), WSS_ERR_MISSING);
    CHECK_TEXT(out, "");
    CHECK_INT(length, 0);
    CHECK_INT(wss_request_protocol(&p.request, 0, out, 4, &length), WSS_ERR_SPACE);
    CHECK_INT(length, 4);
    CHECK(!wss__http_offers(&p.request, wss__base_text("CHAT")));
    CHECK(!wss__http_offers(&p.request, wss__base_text("cha")));
    CHECK(!wss__http_offers(&p.request, wss__base_text("chat2")));
    CHECK(!wss__http_offers(&p.request, wss__base_text("a b")));
    CHECK(!wss__http_offers(&p.request, wss__base_text("\"q\"")));
    CHECK(!wss__http_offers(&p.request, wss__base_text("")));
    CHECK(!wss__http_offers(&p.request, wss__base_text("chat,Chat")));
    CHECK(!wss__http_offers(&p.request, wss__base_text(NULL)));
    forget(&p);
}

static void many_protocols(void) {
    static char head[8000];
    size_t size = (size_t)snprintf(head, sizeof head, UPGRADE "Sec-WebSocket-Protocol: ");
    for (int i = 0; i < 1000; i++) size += (size_t)snprintf(head + size, sizeof head - size, "p%d,,", i);
    snprintf(head + size, sizeof head - size, "\r\n\r\n");
    parsed p;
    char out[8];
    parse_text(&p, head);
    CHECK_INT(p.status, 0);
    CHECK_INT(wss_request_protocol(&p.request, 63, out, sizeof out, NULL), WSS_OK);
    CHECK_TEXT(out, "p63");
    /* Whoever asks for each of a thousand in turn would walk the list a thousand times. */
    CHECK_INT(wss_request_protocol(&p.request, 64, out, sizeof out, NULL), WSS_ERR_MISSING);
    CHECK(wss__http_offers(&p.request, wss__base_text("p500")));
    forget(&p);
}

/* Replies. */

static void headers_allowed(void) {
    static const struct {
        wss_header header;
        int want;
    } samples[] = {
        {{"X-A", "b"}, WSS_OK},
        {{"x", ""}, WSS_OK},
        {{"Set-Cookie", "a=b; Path=/\tx"}, WSS_OK},
        {{"X-A", "\xc3\xa9"}, WSS_OK},
        {{"Date", "now"}, WSS_OK},
        {{"Location", "/"}, WSS_OK},
        {{"Sec-WebSocket", "x"}, WSS_OK},
        {{"Connection2", "x"}, WSS_OK},
        {{NULL, "b"}, WSS_ERR_HEADER},
        {{"X-A", NULL}, WSS_ERR_HEADER},
        {{"", "b"}, WSS_ERR_HEADER},
        {{"X A", "b"}, WSS_ERR_HEADER},
        {{"X-A:", "b"}, WSS_ERR_HEADER},
        {{"X-A\r\nB", "b"}, WSS_ERR_HEADER},
        {{"X-\xc3\xa9", "b"}, WSS_ERR_HEADER},
        {{"X-A", "b\r\nC: d"}, WSS_ERR_HEADER},
        {{"X-A", "b\r"}, WSS_ERR_HEADER},
        {{"X-A", "\nb"}, WSS_ERR_HEADER},
        {{"X-A", "\x01"}, WSS_ERR_HEADER},
        {{"X-A", "\x7f"}, WSS_ERR_HEADER},
        {{"X-A", "\x1b[0m"}, WSS_ERR_HEADER},
        {{"Connection", "close"}, WSS_ERR_HEADER},
        {{"connection", "close"}, WSS_ERR_HEADER},
        {{"UPGRADE", "x"}, WSS_ERR_HEADER},
        {{"Content-Length", "0"}, WSS_ERR_HEADER},
        {{"content-type", "text/html"}, WSS_ERR_HEADER},
        {{"Transfer-Encoding", "chunked"}, WSS_ERR_HEADER},
        {{"Sec-WebSocket-Accept", "x"}, WSS_ERR_HEADER},
        {{"sec-websocket-protocol", "x"}, WSS_ERR_HEADER},
        {{"Sec-WebSocket-Extensions", "x"}, WSS_ERR_HEADER},
        {{"Sec-WebSocket-Version", "13"}, WSS_ERR_HEADER},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        wss_header pair[2];
        pair[0] = samples[0].header;
        pair[1] = samples[i].header;
        CHECK_INT(wss__answer_check_headers(&samples[i].header, 1), samples[i].want);
        CHECK_INT(wss__answer_check_headers(pair, 2), samples[i].want);
    }
    CHECK_INT(wss__answer_check_headers(NULL, 0), WSS_OK);
    CHECK_INT(wss__answer_check_headers(NULL, 1), WSS_ERR_ARGUMENT);
    for (int c = 1; c < 256; c++) {
        char text[4] = {'a', (char)c, 'b', 0};
        wss_header name = {text, "x"};
        wss_header value = {"x", text};
        CHECK_INT(wss__answer_check_headers(&name, 1), is_token(c) ? WSS_OK : WSS_ERR_HEADER);
        CHECK_INT(wss__answer_check_headers(&value, 1), is_text(c) ? WSS_OK : WSS_ERR_HEADER);
    }
}

static void answer_allowed(void) {
    static const int statuses[] = {0, 100, 101, 199, 200, 299, 300, 404, 599, 600, -1};
    wss_answer answer = {0};
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        int s = statuses[i];
        answer.status = s;
        int any = s >= 200 && s <= 599;
        int refusal = s >= 300 && s <= 599;
        CHECK_INT(wss__answer_check(&answer, 200), any ? WSS_OK : WSS_ERR_ARGUMENT);
        CHECK_INT(wss__answer_check(&answer, 300), refusal ? WSS_OK : WSS_ERR_ARGUMENT);
    }
    memset(&answer, 0, sizeof answer);
    answer.status = 200;
    answer.size = 1;
    CHECK_INT(wss__answer_check(&answer, 200), WSS_ERR_ARGUMENT);
    answer.body = "x";
    CHECK_INT(wss__answer_check(&answer, 200), WSS_OK);
    answer.content_type = "text/html\r\nX: y";
    CHECK_INT(wss__answer_check(&answer, 200), WSS_ERR_HEADER);
    answer.content_type = "text/html";
    answer.header_count = 1;
    CHECK_INT(wss__answer_check(&answer, 200), WSS_ERR_ARGUMENT);
}

/* Every capacity gives the same length; the text is there when it fits; nothing past the capacity
   is written. */
static void check_written(const char *want, const wss__answer_reply *reply) {
    size_t full = strlen(want);
    for (size_t capacity = 0; capacity <= full + 1; capacity++) {
        char *out = guard_copy(want, capacity <= full ? capacity : full);
        size_t room = capacity <= full ? capacity : full;
        memset(out, 0, room);
        size_t size = wss__answer_write(room ? out : NULL, room, reply);
        CHECK_INT(size, full);
        if (size == room && memcmp(out, want, full) != 0) printf("got: %.*s\n", (int)full, out);
        if (size == room) CHECK(memcmp(out, want, full) == 0);
        guard_free(out, room);
    }
}

static void write_accept(void) {
    static const wss_header headers[] = {{"Set-Cookie", "a=b"}, {"X-Empty", ""}};
    wss__answer_reply reply;
    memset(&reply, 0, sizeof reply);
    wss__answer_welcome(&reply, wss__base_text(KEY));
    check_written("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
                  &reply);
    reply.protocol = "chat";
    reply.answer.headers = headers;
    reply.answer.header_count = 2;
    check_written("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n"
                  "Set-Cookie: a=b\r\nX-Empty: \r\n\r\n",
                  &reply);
}

#define CLOSE "Connection: close\r\n"
#define TYPE "Content-Type: text/plain; charset=utf-8\r\n"
#define REFUSED "HTTP/1.1 405 Method Not Allowed\r\n"
#define EMPTY TYPE "Content-Length: 0\r\n"

/* want: with the body; to HEAD the same without it. */
static void check_answer(const char *want, int status, const char *type, const char *body) {
    wss__answer_reply reply;
    char head[400];
    snprintf(head, sizeof head, "%.*s", (int)(strstr(want, "\r\n\r\n") + 4 - want), want);
    memset(&reply, 0, sizeof reply);
    reply.answer.status = status;
    reply.answer.content_type = type;
    reply.answer.body = body;
    reply.answer.size = strlen(body);
    check_written(want, &reply);
    reply.is_head = 1;
    check_written(head, &reply);
}

static void write_answer(void) {
    check_answer("HTTP/1.1 200 OK\r\n" CLOSE EMPTY "\r\n", 200, NULL, "");
    check_answer("HTTP/1.1 200 OK\r\n" CLOSE "Content-Type: text/html\r\nContent-Length: 11\r\n\r\nhello world", 200,
                 "text/html", "hello world");
    check_answer("HTTP/1.1 426 Upgrade Required\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n"
                 "Sec-WebSocket-Version: 13\r\n" TYPE "Content-Length: 1\r\n\r\nx",
                 426, NULL, "x");
    check_answer(REFUSED CLOSE "Allow: GET, HEAD, OPTIONS\r\n" EMPTY "\r\n", 405, NULL, "");
    check_answer("HTTP/1.1 204 No Content\r\n" CLOSE "\r\n", 204, NULL, "gone");
    check_answer("HTTP/1.1 304 Not Modified\r\n" CLOSE "\r\n", 304, NULL, "");
    check_answer("HTTP/1.1 205 Reset Content\r\n" CLOSE EMPTY "\r\n", 205, NULL, "gone");
    check_answer("HTTP/1.1 299 Successful\r\n" CLOSE EMPTY "\r\n", 299, NULL, "");
    check_answer("HTTP/1.1 418 Client Error\r\n" CLOSE EMPTY "\r\n", 418, NULL, "");
}

/* An application's own Allow takes the place of the usual one. */
static void write_answer_headers(void) {
    static const wss_header headers[] = {{"Location", "/"}, {"aLLOW", "GET"}};
    wss__answer_reply reply;
    memset(&reply, 0, sizeof reply);
    reply.answer.headers = headers;
    reply.answer.header_count = 1;
    reply.answer.status = 302;
    check_written("HTTP/1.1 302 Found\r\n" CLOSE EMPTY "Location: /\r\n\r\n", &reply);
    reply.answer.header_count = 2;
    reply.answer.status = 405;
    check_written(REFUSED CLOSE EMPTY "Location: /\r\naLLOW: GET\r\n\r\n", &reply);
    reply.answer.header_count = 1;
    check_written(REFUSED CLOSE "Allow: GET, HEAD, OPTIONS\r\n" EMPTY "Location: /\r\n\r\n", &reply);
}

/* A body whose size is nonsense is counted, not copied: no memory is ever found for it. */
static void write_impossible_body(void) {
    wss__answer_reply reply;
    char out[300];
    memset(&reply, 0, sizeof reply);
    reply.answer.status = 200;
    reply.answer.body = "x";
    reply.answer.size = SIZE_MAX;
    CHECK(wss__answer_write(out, sizeof out, &reply) == SIZE_MAX);
}

static const char *phrase_of(int status) {
    return wss__answer_find_status(status)->phrase;
}

/* Statuses have phrases; the texts of refusals are the rules'. */
static void statuses(void) {
    for (int status = 200; status < 600; status++) CHECK(strlen(phrase_of(status)) > 1);
    for (int rule = 1; rule < WSS__HTTP_RULE_COUNT; rule++) {
        const wss__answer_status *row = wss__answer_find_status(status_of_rule(rule));
        CHECK_INT(row->status, status_of_rule(rule));
    }
    CHECK_TEXT(phrase_of(399), "Redirection");
    CHECK_TEXT(phrase_of(418), "Client Error");
    CHECK_TEXT(phrase_of(505), "HTTP Version Not Supported");
    CHECK_TEXT(phrase_of(599), "Server Error");
    CHECK_TEXT(phrase_of(0), "Unknown");
}

/* The rules of refusals. */

static void rules_have_counters(void) {
    static const int own[][2] = {
        {400, WSS_REFUSED_MALFORMED}, {403, WSS_REFUSED_ORIGIN}, {405, WSS_REFUSED_METHOD},  {408, WSS_REFUSED_TIMEOUT},
        {414, WSS_REFUSED_TARGET},    {421, WSS_REFUSED_HOST},   {426, WSS_REFUSED_NO_UPGRADE},
        {431, WSS_REFUSED_HEADERS},   {503, WSS_REFUSED_UNAVAILABLE}, {505, WSS_REFUSED_HTTP},
    };
    int counters[WSS_REFUSED_PER_ADDRESS + 1] = {0};
    for (int number = 1; number < WSS__HTTP_RULE_COUNT; number++) {
        const wss__http_rule *rule = wss__http_rule_of(number);
        size_t row = 0;
        while (row < sizeof own / sizeof own[0] && own[row][0] != rule->status) row++;
        CHECK(row < sizeof own / sizeof own[0]);
        CHECK_INT(rule->counter, number == WSS__HTTP_RULE_PER_ADDRESS ? WSS_REFUSED_PER_ADDRESS : own[row][1]);
        counters[rule->counter]++;
    }
    for (int i = WSS_REFUSED_MALFORMED; i <= WSS_REFUSED_PER_ADDRESS; i++)
        CHECK_INT(counters[i] > 0, i != WSS_REFUSED_APPLICATION);
    CHECK_INT(wss__http_rule_of(WSS__HTTP_GOOD)->status, 0);
}

/* Which option may be at fault is for the log, which the owner of the server reads. */
static void rules_have_options(void) {
    static const struct {
        int rule;
        const char *option;
    } named[] = {
        {WSS__HTTP_RULE_LINE_SIZE, "max_head"},      {WSS__HTTP_RULE_HEAD_SIZE, "max_head"},
        {WSS__HTTP_RULE_ORIGIN, "origins"},          {WSS__HTTP_RULE_HOST, "hosts"},
        {WSS__HTTP_RULE_TIMEOUT, "handshake_ms"},    {WSS__HTTP_RULE_UNDECIDED, "handshake_ms"},
        {WSS__HTTP_RULE_CROWDED, "max_connections"}, {WSS__HTTP_RULE_MEMORY, "memory_budget"},
        {WSS__HTTP_RULE_REBINDING, "hosts"},         {WSS__HTTP_RULE_PROXY_MISSING, "proxy_protocol"},
        {WSS__HTTP_RULE_PROXY_UNASKED, "proxy_protocol"}, {WSS__HTTP_RULE_PER_ADDRESS, "max_per_address"},
    };
    const size_t count = sizeof named / sizeof named[0];
    for (int number = 1; number < WSS__HTTP_RULE_COUNT; number++) {
        const wss__http_rule *rule = wss__http_rule_of(number);
        size_t row = 0;
        while (row < count && named[row].rule != number) row++;
        CHECK_INT(rule->option != NULL, row < count);
        if (rule->option && row < count) CHECK_TEXT(rule->option, named[row].option);
        for (size_t i = 0; i < count; i++) CHECK(strstr(rule->text, named[i].option) == NULL);
    }
}

/* Every body tells something of its own to whoever asked, in one line, and nothing of how the server is set up: no option
   (they all have an underscore or are looked for above) and not that there are any. */
static void rules_have_texts(void) {
    static const char nginx[] = "proxy_http_version 1.1";
    for (int number = 1; number < WSS__HTTP_RULE_COUNT; number++) {
        const char *text = wss__http_rule_of(number)->text;
        const char *low = strchr(text, '_');
        size_t size = strlen(text);
        CHECK(size > 20 && size < 200);
        CHECK(strchr(text, '\n') == text + size - 1 && text[size - 2] == '.');
        CHECK(strstr(text, "option") == NULL);
        CHECK(!low || (low - text > 5 && strncmp(low - 5, nginx, sizeof nginx - 1) == 0 && !strchr(low + 8, '_')));
        CHECK_INT(low != NULL, number == WSS__HTTP_RULE_OLD_HTTP);
        for (int other = 1; other < number; other++) CHECK(strcmp(text, wss__http_rule_of(other)->text) != 0);
    }
    CHECK(strstr(wss__http_rule_of(WSS__HTTP_RULE_TLS)->text, "TLS") != NULL);
    CHECK_TEXT(wss__http_rule_of(WSS__HTTP_GOOD)->text, "");
}

/* A rule is named for what is wrong with the head, and where several things are, for the first of them. */
static void rules_of_heads(void) {
    static const struct {
        const char *head;
        int rule;
    } samples[] = {
        {UPGRADE "\r\n", WSS__HTTP_GOOD},
        {"GET / HTTP/1.1\n" HOST "\r\n", WSS__HTTP_RULE_LINE_END},
        {LINE "Host: example.com\n\r\n", WSS__HTTP_RULE_LINE_END},
        {LINE HOST "\n", WSS__HTTP_RULE_LINE_END},
        {"GET /\r\n" HOST "\r\n", WSS__HTTP_RULE_LINE},
        {"GET / HTTP/1.1 \r\n" HOST "\r\n", WSS__HTTP_RULE_LINE},
        {"G\"T / HTTP/1.1\r\n" HOST "\r\n", WSS__HTTP_RULE_LINE},
        {"POST # HTTP/1.x\r\n" HOST "\r\n", WSS__HTTP_RULE_LINE},
        {"POST # HTTP/2.0\r\n" HOST "\r\n", WSS__HTTP_RULE_HTTP},
        {"POST # HTTP/1.1\r\n" HOST "\r\n", WSS__HTTP_RULE_METHOD},
        {"GET # HTTP/1.1\r\n" HOST "\r\n", WSS__HTTP_RULE_TARGET},
        {"GET  HTTP/1.1\r\n" HOST "\r\n", WSS__HTTP_RULE_TARGET},
        {"GET ftp://a/ HTTP/1.1\r\n" HOST "\r\n", WSS__HTTP_RULE_TARGET},
        {"GET ws://a@b/ HTTP/1.1\r\n" HOST "\r\n", WSS__HTTP_RULE_TARGET},
        {LINE HOST "no colon\r\n\r\n", WSS__HTTP_RULE_FIELD},
        {LINE HOST " A: b\r\n\r\n", WSS__HTTP_RULE_FIELD},
        {LINE HOST "A: \x01\r\n\r\n", WSS__HTTP_RULE_VALUE},
        {LINE HOST "A: b\rc\r\n\r\n", WSS__HTTP_RULE_VALUE},
        {LINE "\r\n", WSS__HTTP_RULE_HOST_LINE},
        {LINE HOST HOST "\r\n", WSS__HTTP_RULE_HOST_LINE},
        {LINE "Host: a/b\r\n\r\n", WSS__HTTP_RULE_HOST_LINE},
        {LINE HOST "Content-Length: 1\r\n\r\n", WSS__HTTP_RULE_BODY},
        {LINE HOST "Transfer-Encoding: chunked\r\n\r\n", WSS__HTTP_RULE_BODY},
        {"HEAD / HTTP/1.1\r\n" HOST ASKS WITH_KEY WITH_VERSION "\r\n", WSS__HTTP_RULE_UPGRADE_METHOD},
        {"HEAD / HTTP/1.0\r\n" HOST ASKS WITH_KEY WITH_VERSION "\r\n", WSS__HTTP_RULE_UPGRADE_METHOD},
        {"GET / HTTP/1.0\r\n" HOST ASKS WITH_KEY WITH_VERSION "\r\n", WSS__HTTP_RULE_OLD_HTTP},
        {"GET / HTTP/1.0\r\n" HOST "Upgrade: websocket\r\n\r\n", WSS__HTTP_RULE_OLD_HTTP},
        {LINE HOST "Upgrade: websocket\r\n\r\n", WSS__HTTP_RULE_CONNECTION},
        {LINE HOST ASKS "\r\n", WSS__HTTP_RULE_VERSION},
        {LINE HOST ASKS WITH_VERSION "\r\n", WSS__HTTP_RULE_KEY},
        {UPGRADE WITH_KEY "\r\n", WSS__HTTP_RULE_KEY},
        {UPGRADE "Origin: null\r\nOrigin: null\r\n\r\n", WSS__HTTP_RULE_ORIGINS},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        int got = rule_of(samples[i].head);
        if (got != samples[i].rule) printf("head: %s\n", samples[i].head);
        CHECK_INT(got, samples[i].rule);
    }
}

/* That a request is HEAD is known however it is refused, so that its answer has no body; and nothing else is. */
static void head_is_known(void) {
    static const char *const heads[] = {
        "HEAD / HTTP/1.1\n\n",           "HEAD / HTTP/1.1\nHost: a\r\n\r\n",   "HEAD \r\n\r\n",
        "HEAD / \r\n\r\n",              "HEAD / HTTP/2.0\r\n\r\n",            "HEAD # HTTP/1.1\r\n\r\n",
        "HEAD  / HTTP/1.1\r\n\r\n",     "HEAD / HTTP/1.1\r\n\r\n",            "HEAD / HTTP/1.1\r\nA\r\n\r\n",
        "\r\nHEAD / HTTP/1.1\r\n\r\n", "HEAD / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", "\r\nHEAD / HTTP/1.1\n\n",
    };
    static const char *const others[] = {
        "HEADS / HTTP/1.1\r\n\r\n",  "head / HTTP/1.1\r\n\r\n",   "HEAD\t/ HTTP/1.1\r\n\r\n",
        "GET HEAD HTTP/1.1\r\n\r\n", "\nHEAD / HTTP/1.1\r\n\r\n", "\r\n\r\nHEAD / HTTP/1.1\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0] + sizeof others / sizeof others[0]; i++) {
        int is_head = i < sizeof heads / sizeof heads[0];
        const char *head = is_head ? heads[i] : others[i - sizeof heads / sizeof heads[0]];
        parsed p;
        parse_text(&p, head);
        CHECK(p.rule != WSS__HTTP_GOOD);
        if ((p.request.method == WSS__HTTP_HEAD) != is_head) printf("head: %s\n", head);
        CHECK_INT(p.request.method == WSS__HTTP_HEAD, is_head);
        CHECK_INT(wss__http_begins_head(head, strlen(head)), is_head);
        forget(&p);
    }
    for (size_t have = 0; have < 12; have++) {
        char *copy = guard_copy("\r\nHEAD / HTTP", have);
        CHECK_INT(wss__http_begins_head(copy, have), have >= 7);
        if (have > 1) CHECK_INT(wss__http_begins_head(copy + 2, have - 2), have >= 7);
        guard_free(copy, have);
    }
    CHECK(!wss__http_begins_head(NULL, 0));
}

/* A second request behind the first is no part of it. */
static void pipelined(void) {
    static const char two[] = "GET / HTTP/1.1\r\nHost: a@b\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n";
    size_t end = wss__http_find_end(two, sizeof two - 1, 0);
    CHECK_INT(end, strlen("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"));
    parsed p;
    parse_bytes(&p, two, end);
    CHECK_INT(p.status, 400);
    forget(&p);
}

/* Random damage: nothing is read past the end, early refusals agree with late ones, and what is taken has
   only whole parts. */
static void random_damage(void) {
    uint32_t seed = 12345;
    static const char letters[] = "\r\n\r\n :,;=%/?.[]@\t\x00\x7f\x80" "aA0";
    for (int round = 0; round < 40000; round++) {
        char head[sizeof sweep_head];
        size_t size = sizeof sweep_head - 1;
        memcpy(head, sweep_head, sizeof head);
        seed = seed * 1664525u + 1013904223u;
        for (uint32_t changes = 1 + (seed >> 28) % 4; changes > 0; changes--) {
            seed = seed * 1664525u + 1013904223u;
            size_t at = (seed >> 8) % size;
            seed = seed * 1664525u + 1013904223u;
            head[at] = letters[(seed >> 8) % (sizeof letters - 1)];
        }
        size_t end = wss__http_find_end(head, size, 0);
        if (end) size = end;
        parsed p;
        parse_bytes(&p, head, size);
        check_prefix_agrees(head, size, p.status);
        CHECK(end || p.status);
        for (size_t i = 0; !p.status && i < p.request.count; i++) {
            const char *value;
            const char *name = wss_request_header_at(&p.request, i, &value);
            CHECK_INT(strlen(name), p.request.fields[i].name.size);
            CHECK_INT(strlen(value), p.request.fields[i].value.size);
        }
        if (!p.status) CHECK_INT(strlen(wss_request_target(&p.request)), p.request.target.size);
        if (!p.status) CHECK(wss__http_is_host(wss__http_span(&p.request, p.request.host)) || !p.request.minor);
        forget(&p);
    }
}

/* Outside what a caller may give. */

static void outputs_without_a_place(void) {
    size_t length = 9;
    parsed p;
    parse_text(&p, "GET /abc?d=e HTTP/1.1\r\n" HOST "Cookie: a=b\r\nSec-WebSocket-Protocol: p\r\n\r\n");
    CHECK_INT(wss_request_query(&p.request, "d", NULL, 1, &length), WSS_ERR_ARGUMENT);
    CHECK_INT(length, 0);
    length = 9;
    CHECK_INT(wss_request_cookie(&p.request, "a", NULL, 1, &length), WSS_ERR_ARGUMENT);
    CHECK_INT(length, 0);
    length = 9;
    CHECK_INT(wss_request_protocol(&p.request, 0, NULL, 1, &length), WSS_ERR_ARGUMENT);
    CHECK_INT(length, 0);
    length = 9;
    CHECK_INT(wss_request_path(&p.request, NULL, 1, &length), WSS_ERR_ARGUMENT);
    CHECK_INT(length, 0);
    forget(&p);
}

/* Offsets are 32 bits wide: what could not be measured with them is not looked at. */
static void impossible_head_size(void) {
    wss_request request;
    CHECK_INT(wss__http_parse(NULL, (size_t)INT_MAX + 1, &request), WSS__HTTP_RULE_HEAD_SIZE);
    CHECK_INT(request.count, 0);
}

static void phrases_of_no_status(void) {
    static const int none[] = {-1, 0, 1, 199, 600, 601, 999, 1 << 30};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) CHECK_TEXT(phrase_of(none[i]), "Unknown");
}

int main(void) {
    RUN(find_end);
    RUN(find_end_resumes);
    RUN(find_end_any_cut);
    RUN(nothing_before_is_read);
    RUN(absolute_target_without_a_path);
    RUN(bare_line_feeds);
    RUN(prefixes_are_unfinished);
    RUN(parsing_a_prefix_fails);
    RUN(prefix_garbage);
    RUN(prefix_of_tls);
    RUN(empty_line_before);
    RUN(every_byte_everywhere);
    RUN(every_byte_in_numbers);
    RUN(methods);
    RUN(versions);
    RUN(targets);
    RUN(absolute_target);
    RUN(absolute_target_decides);
    RUN(absolute_target_needs_a_host_line);
    RUN(minor_versions);
    RUN(no_host_at_all);
    RUN(options_method);
    RUN(hosts_valid);
    RUN(bodies);
    RUN(field_lines);
    RUN(head_limit);
    RUN(head_without_end);
    RUN(line_limit);
    RUN(line_limit_after_an_empty_line);
    RUN(field_limit);
    RUN(upgrade_tokens);
    RUN(upgrade_versions);
    RUN(upgrade_keys);
    RUN(relocation);
    RUN(origins);
    RUN(origin_twice);
    RUN(host_list);
    RUN(readers);
    RUN(peer);
    RUN(nulls);
    RUN(paths);
    RUN(queries);
    RUN(cookies);
    RUN(protocols);
    RUN(many_protocols);
    RUN(headers_allowed);
    RUN(answer_allowed);
    RUN(write_accept);
    RUN(write_answer);
    RUN(write_answer_headers);
    RUN(write_impossible_body);
    RUN(statuses);
    RUN(rules_have_counters);
    RUN(rules_have_options);
    RUN(rules_have_texts);
    RUN(rules_of_heads);
    RUN(head_is_known);
    RUN(pipelined);
    RUN(random_damage);
    RUN(outputs_without_a_place);
    RUN(impossible_head_size);
    RUN(phrases_of_no_status);
    return test_end("http");
}
