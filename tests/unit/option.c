/* Unit tests of [option]: the table is whole and true, what cannot be is refused with its name and an advice, what is named as
   the least memory is enough, and no values at all crash. */
#define _GNU_SOURCE 1
#include <sys/resource.h>

static int limit_fails;
static rlim_t limit_is = 1 << 20; /* of descriptors */

static int fake_getrlimit(int what, struct rlimit *limit) {
    (void)what;
    limit->rlim_cur = limit->rlim_max = limit_is;
    return limit_fails ? -1 : 0;
}

#include "../step.h"

REPLACE(getrlimit, fake_getrlimit)

#define COUNT(samples) (sizeof samples / sizeof samples[0])

/* ---- the table, as the header's comments tell it ---- */

typedef struct field {
    const char *name;
    size_t offset;
    size_t size;
    int kind;
    int off; /* WSS_OFF may stand there */
    long long least;
    long long most;
    long long preset;
    const char *text;
} field;

#define NUMBER(name, least, most, preset) \
    {#name, offsetof(wss_options, name), sizeof(int), WSS__OPTION_INT, 0, least, most, preset, NULL}
#define LIMIT(name, preset) {#name, offsetof(wss_options, name), sizeof(int), WSS__OPTION_INT, 1, 1, INT_MAX, preset, NULL}
#define BYTES(name, preset) {#name, offsetof(wss_options, name), sizeof(size_t), WSS__OPTION_SIZE, 1, 0, 0, preset, NULL}
#define STRING(name, text) {#name, offsetof(wss_options, name), sizeof(char *), WSS__OPTION_TEXT, 0, 0, 0, 0, text}
#define OTHER(name, type) {#name, offsetof(wss_options, name), sizeof(type), -1, 0, 0, 0, 0, NULL}

/* All of wss_options, in its order. */
static const field fields[] = {
    NUMBER(port, 0, 65535, 0),
    NUMBER(threads, 1, 64, 1),
    STRING(address, NULL),
    OTHER(queue, wss_queue *),
    STRING(type_member, "__MESSAGE__"),
    STRING(origins, NULL),
    STRING(hosts, NULL),
    OTHER(user_free, void (*)(void)),
    OTHER(allocator, void (*)(void)),
    OTHER(allocator_context, void *),
    OTHER(log, void (*)(void)),
    OTHER(log_context, void *),
    NUMBER(log_level, WSS_LOG_ERROR, WSS_LOG_DEBUG, WSS_LOG_INFO),
    NUMBER(send_policy, WSS_POLICY_REFUSE, WSS_POLICY_CLOSE, WSS_POLICY_REFUSE),
    BYTES(max_message, 1 << 20),
    NUMBER(max_head, 64, 1 << 20, 16384),
    LIMIT(max_connections, 10000),
    LIMIT(max_per_address, WSS_OFF),
    BYTES(max_queued, 1 << 20),
    BYTES(memory_budget, 256 << 20),
    LIMIT(max_posted, 65536),
    BYTES(max_posted_bytes, 16 << 20),
    LIMIT(handshake_ms, 10000),
    LIMIT(ping_ms, 20000),
    LIMIT(pong_ms, 20000),
    LIMIT(idle_ms, WSS_OFF),
    LIMIT(message_ms, 30000),
    LIMIT(stall_ms, 30000),
    LIMIT(close_ms, 5000),
    NUMBER(spin_us, 0, 1000000, 0),
    NUMBER(unix_mode, 0, 0777, 0660),
    NUMBER(reuse_port, 0, 1, 0),
    LIMIT(least_rate, 256),
    STRING(proxies, NULL),
    STRING(proxy_header, "X-Forwarded-For"),
    NUMBER(proxy_protocol, 0, 1, 0),
    NUMBER(stop_code, 1000, 4999, 1001),
    LIMIT(stop_spread_ms, WSS_OFF),
    LIMIT(lifetime_ms, WSS_OFF),
    LIMIT(max_message_rate, WSS_OFF),
};

static const wss__option *row_of(const field *f) {
    for (size_t i = 0; i < wss__option_count(); i++)
        if (strcmp(wss__option_rows[i].name, f->name) == 0) return &wss__option_rows[i];
    return NULL;
}

static void table_is_whole(void) {
    size_t end = 0;
    size_t rows = 0;
    /* The list above leaves nothing out: each field begins where the one before ends, but for what alignment needs. */
    for (size_t i = 0; i < COUNT(fields); i++) {
        const field *f = &fields[i];
        size_t aligned = (end + f->size - 1) / f->size * f->size;
        if (f->offset != aligned) printf("before %s stands what is not in the list\n", f->name);
        CHECK_INT(f->offset, aligned);
        end = f->offset + f->size;
        if (f->kind < 0) CHECK(row_of(f) == NULL);
        else rows++;
    }
    CHECK_INT(sizeof(wss_options), (end + sizeof(void *) - 1) / sizeof(void *) * sizeof(void *));
    CHECK_INT(wss__option_count(), rows);
    for (size_t i = 0; i < wss__option_count(); i++)
        for (size_t j = 0; j < i; j++) {
            CHECK(wss__option_rows[i].offset != wss__option_rows[j].offset);
            CHECK(strcmp(wss__option_rows[i].name, wss__option_rows[j].name) != 0);
        }
}

static void table_is_true(void) {
    for (size_t i = 0; i < COUNT(fields); i++) {
        const field *f = &fields[i];
        const wss__option *row = row_of(f);
        if (f->kind < 0) continue;
        if (!row) printf("no row: %s\n", f->name);
        CHECK(row != NULL);
        if (!row) continue;
        CHECK_INT(row->offset, f->offset);
        CHECK_INT(row->kind, f->kind);
        if (f->kind == WSS__OPTION_INT) CHECK_INT(row->may_be_off, f->off);
        if (f->kind == WSS__OPTION_INT) CHECK_INT(row->least, f->least);
        if (f->kind == WSS__OPTION_INT) CHECK_INT(row->most, f->most);
        if (f->kind != WSS__OPTION_TEXT) CHECK_INT(row->preset, f->preset);
        if (f->text) CHECK_TEXT(row->text, f->text);
        else CHECK(row->text == NULL);
        /* What stands in the place of 0 can be. */
        if (f->kind == WSS__OPTION_INT) CHECK((f->off && f->preset == WSS_OFF) || (f->preset >= f->least && f->preset <= f->most));
    }
}

static void defaults(void) {
    wss_options options;
    wss_error why;
    wss_server *server = wss_create(NULL, &why);
    CHECK(server != NULL);
    CHECK_INT(why.code, WSS_OK);
    if (!server) return;
    wss_get_options(server, &options);
    for (size_t i = 0; i < COUNT(fields); i++) {
        const field *f = &fields[i];
        const char *at = (const char *)&options + f->offset;
        int number = 0;
        size_t size = 0;
        const char *text = NULL;
        if (f->kind == WSS__OPTION_INT) memcpy(&number, at, sizeof number);
        if (f->kind == WSS__OPTION_SIZE) memcpy(&size, at, sizeof size);
        if (f->kind == WSS__OPTION_TEXT) memcpy(&text, at, sizeof text);
        if (f->kind == WSS__OPTION_INT && strcmp(f->name, "port") == 0) CHECK(number > 0);
        else if (f->kind == WSS__OPTION_INT) CHECK_INT(number, f->preset);
        if (f->kind == WSS__OPTION_SIZE) CHECK_INT(size, f->preset);
        if (f->kind == WSS__OPTION_TEXT && f->text) CHECK_TEXT(text, f->text);
        if (f->kind == WSS__OPTION_TEXT && !f->text) CHECK(text == NULL);
    }
    CHECK_INT(wss_destroy(server), WSS_OK);
}

/* ---- numbers ---- */

static void set_number(wss_options *options, const field *f, int value) {
    memcpy((char *)options + f->offset, &value, sizeof value);
}

static int get_number(const wss_options *options, const field *f) {
    int value;
    memcpy(&value, (const char *)options + f->offset, sizeof value);
    return value;
}

static void expect_refusal(const wss_options *options, const char *name, const char *value, int code) {
    char want[64];
    wss_error why;
    memset(&why, 0x5a, sizeof why);
    wss_server *server = wss_create(options, &why);
    snprintf(want, sizeof want, "options.%s: \"", name);
    int good = !server && why.code == code && strncmp(why.text, want, strlen(want)) == 0 && strstr(why.text, value) &&
               strstr(why.text, "\" cannot be: ");
    if (!good) printf("options.%s %s: %s\n", name, value, server ? "taken" : why.text);
    CHECK(good);
    CHECK_INT(why.system_errno, 0);
    CHECK(strlen(why.text) < sizeof why.text);
    CHECK(wss_create(options, NULL) == NULL);
    wss_destroy(server);
}

static void numbers(void) {
    for (size_t i = 0; i < COUNT(fields); i++) {
        const field *f = &fields[i];
        if (f->kind != WSS__OPTION_INT) continue;
        const long long values[] = {f->least - 1, f->least, f->least + 1, f->most - 1, f->most, f->most + 1, 0, -1, -2, -3,
                                    INT_MIN, INT_MIN + 1, INT_MAX};
        for (size_t v = 0; v < COUNT(values); v++) {
            wss_options options = {0};
            wss_error why = {0};
            char given[24];
            if (values[v] > INT_MAX) continue;
            int value = (int)values[v];
            int want = value == 0 || (value == WSS_OFF && f->off) || (value >= f->least && value <= f->most);
            set_number(&options, f, value);
            int result = wss__option_resolve_all(&options, "", &why);
            CHECK_INT(result, want ? WSS_OK : WSS_ERR_ARGUMENT);
            if (want) CHECK_INT(get_number(&options, f), value ? value : f->preset);
            if (want) CHECK_INT(why.code, 0);
            if (want) continue;
            snprintf(given, sizeof given, "\"%d\"", value);
            memset(&options, 0, sizeof options);
            set_number(&options, f, value);
            expect_refusal(&options, f->name, given, WSS_ERR_ARGUMENT);
            wss_create(&options, &why);
            snprintf(given, sizeof given, " %lld ", f->least); /* it says what may stand there */
            CHECK(strstr(why.text, given) != NULL);
            snprintf(given, sizeof given, " %lld", f->most);
            CHECK(strstr(why.text, given) != NULL);
            CHECK_INT(strstr(why.text, "WSS_OFF") != NULL, f->off);
        }
    }
}

/* Servers are made with the least and the most of each. */
static void extremes(void) {
    for (size_t i = 0; i < COUNT(fields); i++) {
        const field *f = &fields[i];
        if (f->kind != WSS__OPTION_INT || strcmp(f->name, "port") == 0) continue;
        const int values[] = {(int)f->least, (int)f->most, WSS_OFF};
        for (int v = 0; v < (f->off ? 3 : 2); v++) {
            wss_options options = {0};
            wss_options got;
            wss_error why;
            options.address = "127.0.0.1";
            options.allocator = step_allocator;
            if (strcmp(f->name, "proxy_protocol") == 0) options.proxies = "127.0.0.1";
            set_number(&options, f, values[v]);
            wss_server *server = wss_create(&options, &why);
            if (!server) printf("options.%s %d: %s\n", f->name, values[v], why.text);
            CHECK(server != NULL);
            wss_get_options(server, &got);
            if (strcmp(f->name, "max_connections") != 0) CHECK_INT(get_number(&got, f), values[v] ? values[v] : f->preset);
            CHECK_INT(wss_destroy(server), WSS_OK);
            CHECK_INT(step_bytes, 0);
        }
    }
}

/* A header that nobody may send is a mistake: it is said, not ignored. */
static void proxy_protocol_of_nobody(void) {
    static const char *const nobody[] = {NULL, "", ","};
    for (size_t i = 0; i < COUNT(nobody); i++) {
        wss_options options = {0};
        wss_error why;
        options.address = "127.0.0.1";
        options.proxies = nobody[i];
        options.proxy_protocol = 1;
        CHECK(wss_create(&options, &why) == NULL);
        CHECK_INT(why.code, WSS_ERR_ARGUMENT);
        CHECK(strstr(why.text, "proxy_protocol") != NULL);
    }
}

static void sizes(void) {
    static const size_t values[] = {0, 1, 1 << 20, SIZE_MAX / 2, WSS_UNLIMITED};
    for (size_t i = 0; i < COUNT(fields); i++) {
        const field *f = &fields[i];
        if (f->kind != WSS__OPTION_SIZE) continue;
        for (size_t v = 0; v < COUNT(values); v++) { /* all can be */
            wss_options options = {0};
            wss_error why;
            size_t got;
            memcpy((char *)&options + f->offset, &values[v], sizeof values[v]);
            CHECK_INT(wss__option_resolve_all(&options, "", &why), WSS_OK);
            memcpy(&got, (char *)&options + f->offset, sizeof got);
            CHECK(got == (values[v] ? values[v] : (size_t)f->preset));
        }
    }
}

/* The first that is wrong is told, others stay as they were given; only rows of the given beginning are looked at. */
static void order_and_choice(void) {
    wss_options options = {0};
    wss_error why = {0};
    options.threads = -7;
    options.max_posted = -7;
    CHECK_INT(wss__option_resolve_all(&options, "", &why), WSS_ERR_ARGUMENT);
    CHECK(strstr(why.text, "options.threads: ") == why.text);
    CHECK_INT(wss__option_resolve_all(&options, "max_posted", &why), WSS_ERR_ARGUMENT);
    CHECK(strstr(why.text, "options.max_posted: ") == why.text);
    options.max_posted = 0;
    CHECK_INT(wss__option_resolve_all(&options, "max_posted", &why), WSS_OK);
    CHECK_INT(options.max_posted, 65536);
    CHECK_INT(options.max_posted_bytes, 16 << 20);
    CHECK_INT(options.threads, -7);
    CHECK_INT(options.ping_ms, 0);
    CHECK(options.type_member == NULL);
}

/* ---- texts ---- */

static void texts(void) {
    static const struct {
        size_t offset;
        const char *name;
        const char *value;
        const char *told; /* the entry; NULL: it can be */
    } samples[] = {
#define TEXT(name, value, told) {offsetof(wss_options, name), #name, value, told}
        TEXT(type_member, "", NULL), TEXT(type_member, "t\"\\\n", NULL), TEXT(type_member, "\xc3\xbc", NULL),
        TEXT(origins, "", NULL), TEXT(origins, " , ", NULL), TEXT(origins, "*", NULL),
        TEXT(origins, "https://a, https://*.b, null, app://*", NULL),
        TEXT(origins, "https://example.org/", "\"https://example.org/\""), TEXT(origins, "example.org", "\"example.org\""),
        TEXT(origins, "*.example.org", "\"*.example.org\""), TEXT(origins, "https://a https://b", "\"https://a https://b\""),
        TEXT(origins, "https://a;https://b", "\"https://a;https://b\""),
        TEXT(origins, "https://example.org:*", "\"https://example.org:*\""),
        TEXT(origins, "https://a, b ,c", "\"b\""), TEXT(origins, "https://*example.org", "\"https://*example.org\""),
        TEXT(hosts, "a.com", NULL), TEXT(hosts, "a.com, [::1]:80,", NULL),
        TEXT(hosts, "", "names no host"), TEXT(hosts, " ", "names no host"), TEXT(hosts, ", ,", "names no host"),
        TEXT(hosts, "*", "\"*\""), TEXT(hosts, "*.x", "\"*.x\""), TEXT(hosts, "::1", "\"::1\""),
        TEXT(hosts, "a, https://api.x", "\"https://api.x\""), TEXT(hosts, "api.x/", "\"api.x/\""),
        TEXT(proxies, "", NULL), TEXT(proxies, "10.0.0.0/8, unix:, fd00::/8, ::1", NULL), TEXT(proxies, "0.0.0.0/0,::/0", NULL),
        TEXT(proxies, "10.0.0.0/33", "\"10.0.0.0/33\""), TEXT(proxies, "10.0.0.1, proxy.local", "\"proxy.local\""),
        TEXT(proxies, "10.0.0.1:80", "\"10.0.0.1:80\""), TEXT(proxies, "unix:/run/x", "\"unix:/run/x\""),
        TEXT(proxies, "10.0.0.1 10.0.0.2", "\"10.0.0.1 10.0.0.2\""), TEXT(proxies, "*", "\"*\""),
        TEXT(proxy_header, "Forwarded", NULL), TEXT(proxy_header, "X-Real-IP", NULL),
        TEXT(proxy_header, "", "\"\""), TEXT(proxy_header, "X Real", "\"X Real\""), TEXT(proxy_header, "A:", "\"A:\""),
        TEXT(proxy_header, "A\r\nB", "\"A\r\nB\""),
#undef TEXT
    };
    for (size_t i = 0; i < COUNT(samples); i++) {
        wss_options options = {0};
        wss_error why;
        options.address = "127.0.0.1";
        options.allocator = step_allocator;
        memcpy((char *)&options + samples[i].offset, &samples[i].value, sizeof samples[i].value);
        if (samples[i].told) {
            expect_refusal(&options, samples[i].name, samples[i].told, WSS_ERR_ARGUMENT);
            continue;
        }
        wss_server *server = wss_create(&options, &why);
        if (!server) printf("options.%s %s: %s\n", samples[i].name, samples[i].value, why.text);
        CHECK(server != NULL);
        wss_destroy(server);
    }
    CHECK_INT(step_bytes, 0);
    wss_options options = {0};
    options.type_member = "a\xff";
    expect_refusal(&options, "type_member", "UTF-8", WSS_ERR_UTF8);
    options.type_member = "a\xc3"; /* cut off */
    expect_refusal(&options, "type_member", "UTF-8", WSS_ERR_UTF8);
}

/* A text of any length leaves room for what is said about it. */
static void long_texts(void) {
    char text[400];
    for (size_t size = 1; size < sizeof text; size += 7) {
        wss_error why;
        memset(text, 'x', sizeof text);
        text[size] = 0;
        wss_options options = {0};
        options.origins = text;
        CHECK(wss_create(&options, &why) == NULL);
        CHECK(strstr(why.text, "https://example.org") != NULL);
        CHECK(strlen(why.text) < 160);
        CHECK_INT(strspn(strchr(why.text, '"') + 1, "x"), size < 50 ? size : 50);
    }
}

/* All strings are copied. */
static void strings_are_copied(void) {
    static const size_t offsets[] = {offsetof(wss_options, address), offsetof(wss_options, type_member),
                                     offsetof(wss_options, origins), offsetof(wss_options, hosts),
                                     offsetof(wss_options, proxies), offsetof(wss_options, proxy_header)};
    static const char *const texts[] = {"127.0.0.1", "type", "https://a.com", "a.com", "10.0.0.1", "X-Real-IP"};
    char given[COUNT(offsets)][32];
    wss_options options = {0};
    wss_error why;
    options.allocator = step_allocator;
    for (size_t i = 0; i < COUNT(offsets); i++) {
        const char *at = given[i];
        snprintf(given[i], sizeof given[i], "%s", texts[i]);
        memcpy((char *)&options + offsets[i], &at, sizeof at);
    }
    wss_server *server = wss_create(&options, &why);
    CHECK(server != NULL);
    memset(given, 'x', sizeof given);
    wss_get_options(server, &options);
    for (size_t i = 0; i < COUNT(offsets); i++) {
        const char *at;
        memcpy(&at, (char *)&options + offsets[i], sizeof at);
        CHECK_TEXT(at, texts[i]);
    }
    CHECK_INT(wss_destroy(server), WSS_OK);
    CHECK_INT(step_bytes, 0);
}

/* ---- memory ---- */

static void least_budget(void) {
    static const char *const told = "with these options the least is ";
    for (int variant = 0; variant < 5; variant++) {
        wss_options options = {0};
        wss_error why;
        options.address = "127.0.0.1";
        options.allocator = step_allocator;
        options.memory_budget = 1;
        if (variant == 1) options.threads = 8;
        if (variant == 2) options.max_per_address = 3;
        if (variant == 3) options.max_connections = 1;
        if (variant == 4) options.origins = "https://a.example, https://b.example";
        expect_refusal(&options, "memory_budget", "\"1\"", WSS_ERR_BUDGET);
        CHECK(wss_create(&options, &why) == NULL);
        const char *at = strstr(why.text, told);
        CHECK(at != NULL);
        if (!at) continue;
        size_t least = strtoul(at + strlen(told), NULL, 10);
        CHECK(least > 1000);
        options.memory_budget = least - 1;
        CHECK(wss_create(&options, &why) == NULL);
        CHECK_INT(why.code, WSS_ERR_BUDGET);
        CHECK_INT(step_bytes, 0);
        options.memory_budget = least;
        wss_server *server = wss_create(&options, &why);
        if (!server) printf("%zu: %s\n", least, why.text);
        CHECK(server != NULL);
        if (server && variant != 1) { /* and a client is served */
            CHECK_INT(wss_poll(server, 0), WSS_OK);
            step_client *client = step_open(server);
            CHECK_INT(wss_count(server), 1);
            step_free(client);
            step(server);
        }
        CHECK_INT(wss_destroy(server), WSS_OK);
        CHECK_INT(step_bytes, 0);
    }
}

/* ---- descriptors ---- */

static char logged[4096];

static void on_log(void *context, int level, const char *text) {
    size_t used = strlen(logged);
    (void)context;
    CHECK(level >= WSS_LOG_ERROR && level <= WSS_LOG_DEBUG);
    snprintf(logged + used, sizeof logged - used, "%s\n", text);
}

static void connections_and_descriptors(void) {
    static const struct {
        rlim_t limit;
        int asked;
        int got;
        int told;
    } samples[] = {
        {1024, 0, 992, 1},       {1024, 992, 992, 0},   {1024, 993, 992, 1},   {1024, 100, 100, 0},
        {1024, WSS_OFF, 992, 0}, {64, 100, 64, 1},      {65, 100, 33, 1},      {20, 10, 10, 0},
        {1, 0, 1, 1},           {63, 0, 63, 1},       {5000, 0, 4968, 1},   {10031, 0, 9999, 1},
        {10032, 0, 10000, 0},    {(rlim_t)INT_MAX - 1, 0, 10000, 0}, {(rlim_t)INT_MAX, 0, 10000, 0},
        {RLIM_INFINITY, 0, 10000, 0}, {1 << 20, 0, 10000, 0}, {1 << 20, INT_MAX, (1 << 20) - 32, 1},
    };
    for (size_t i = 0; i < COUNT(samples); i++) {
        wss_options options = {0};
        wss_error why;
        char want[64];
        options.address = "127.0.0.1";
        options.log = on_log;
        options.max_connections = samples[i].asked;
        limit_is = samples[i].limit;
        logged[0] = 0;
        wss_server *server = wss_create(&options, &why);
        CHECK(server != NULL);
        wss_get_options(server, &options);
        CHECK_INT(options.max_connections, samples[i].got);
        snprintf(want, sizeof want, "options.max_connections is %d, not ", samples[i].got);
        CHECK_INT(strstr(logged, want) != NULL, samples[i].told);
        CHECK_INT(logged[0] != 0, samples[i].told);
        CHECK_INT(wss_destroy(server), WSS_OK);
    }
    limit_fails = 1; /* then only what places can be counts */
    wss_options options = {0};
    options.address = "127.0.0.1";
    options.max_connections = WSS_OFF;
    wss_server *server = wss_create(&options, NULL);
    CHECK(server != NULL);
    wss_get_options(server, &options);
    CHECK_INT(options.max_connections, (int)WSS__SLOT_LIMIT);
    CHECK_INT(wss_destroy(server), WSS_OK);
    limit_fails = 0;
    limit_is = 1 << 20;
}

/* ---- queues ---- */

/* Of a queue's options only its own are looked at. */
static void options_of_queues(void) {
    wss_options options = {0};
    wss_error why;
    wss_queue *queue = wss_queue_create(NULL, &why);
    CHECK(queue != NULL);
    CHECK_INT(why.code, WSS_OK);
    CHECK_INT(wss_queue_destroy(queue), WSS_OK);
    options.threads = -7;
    options.max_head = 1;
    options.origins = "x";
    options.hosts = "";
    options.memory_budget = 1;
    options.allocator = step_allocator;
    for (int value = -3; value < 3; value++) {
        options.max_posted = value;
        memset(&why, 0x5a, sizeof why);
        queue = wss_queue_create(&options, &why);
        CHECK_INT(queue != NULL, value >= -1);
        CHECK_INT(why.code, queue ? WSS_OK : WSS_ERR_ARGUMENT);
        if (!queue) CHECK(strstr(why.text, "options.max_posted: \"-") == why.text);
        CHECK_INT(wss_queue_destroy(queue), WSS_OK);
    }
    options.max_posted = -2;
    CHECK(wss_queue_create(&options, NULL) == NULL);
    CHECK_INT(step_bytes, 0);
}

/* ---- anything ---- */

enum { ROUNDS = 3000, MADE_MOST = 400 };

static uint32_t drawn = 1;

static size_t draw(size_t count) {
    drawn = drawn * 1664525u + 1013904223u;
    return (drawn >> 8) % count;
}

static int random_number(const field *f) {
    static const int values[] = {-1, -2, INT_MIN, INT_MAX, 1, 2, 63, 64, 65, 0777, 01000, 65536, 1 << 20, (1 << 20) + 1};
    switch (draw(12)) {
    case 0: return values[draw(COUNT(values))];
    case 1: return (int)f->least;
    case 2: return f->most > 100 ? (int)(f->most - (long long)draw(2)) : (int)f->least; /* not 64 loops each time */
    case 3: return draw(8) ? 0 : (int)(draw(1 << 20) << 12 ^ draw(1 << 20));
    default: return 0;
    }
}

static const char *random_text(const field *f, char *room, size_t size) {
    static const char *const good[] = {"https://a.com", "a.com", "10.0.0.1", "X-Real-IP", "", "127.0.0.1", "unix:", "*", "null",
                                       "127.0.0.1:0", "https://*.a.com", "a.com:80,b.com", "::1/64, unix:"};
    if (strcmp(f->name, "address") == 0 && draw(4)) return "127.0.0.1";
    switch (draw(6)) {
    case 0: return good[draw(COUNT(good))];
    case 1:
        if (draw(6)) return NULL;
        for (size_t i = 0; i + 1 < size; i++) room[i] = (char)(draw(255) + 1);
        room[draw(size)] = 0;
        room[size - 1] = 0;
        return room;
    default: return NULL;
    }
}

static size_t random_size(void) {
    static const size_t values[] = {1, 64, 4096, 1 << 20, 4 << 20, SIZE_MAX / 2, SIZE_MAX - 1, SIZE_MAX};
    return draw(3) ? 0 : values[draw(COUNT(values))];
}

/* Either there is a server, or it is said why not. */
static void any_values(void) {
    static char rooms[COUNT(fields)][40];
    int made = 0;
    int refused = 0;
    for (int round = 0; round < ROUNDS && made < MADE_MOST; round++) {
        wss_options options = {0};
        wss_error why;
        size_t least_of_all = draw(6); /* how much of it is left as it is */
        for (size_t i = 0; i < COUNT(fields); i++) {
            const field *f = &fields[i];
            if (draw(6) < least_of_all) continue;
            int number = f->kind == WSS__OPTION_INT ? random_number(f) : 0;
            size_t size = f->kind == WSS__OPTION_SIZE ? random_size() : 0;
            const char *text = f->kind == WSS__OPTION_TEXT ? random_text(f, rooms[i], sizeof rooms[i]) : NULL;
            if (strcmp(f->name, "port") == 0 && number > 0 && number <= 65535) number = 0;
            if (f->kind == WSS__OPTION_INT) set_number(&options, f, number);
            if (f->kind == WSS__OPTION_SIZE) memcpy((char *)&options + f->offset, &size, sizeof size);
            if (f->kind == WSS__OPTION_TEXT) memcpy((char *)&options + f->offset, &text, sizeof text);
        }
        if (!options.address) options.address = "127.0.0.1";
        options.allocator = step_allocator;
        memset(&why, 0x5a, sizeof why);
        wss_server *server = wss_create(&options, &why);
        CHECK(server ? why.code == WSS_OK && !why.text[0] : why.code < 0 && why.text[0]);
        CHECK(memchr(why.text, 0, sizeof why.text) != NULL);
        if (server) made++;
        else refused++;
        if (server && options.threads < 2) CHECK_INT(wss_poll(server, 0), WSS_OK);
        CHECK_INT(wss_destroy(server), WSS_OK);
        CHECK_INT(step_bytes, 0);
        if (test_broken) break;
    }
    CHECK(made > 100 && refused > 300);
}

int main(void) {
    alarm(100);
    RUN(table_is_whole);
    RUN(table_is_true);
    RUN(defaults);
    RUN(numbers);
    RUN(extremes);
    RUN(proxy_protocol_of_nobody);
    RUN(sizes);
    RUN(order_and_choice);
    RUN(texts);
    RUN(long_texts);
    RUN(strings_are_copied);
    RUN(least_budget);
    RUN(connections_and_descriptors);
    RUN(options_of_queues);
    RUN(any_values);
    return test_end("option");
}
