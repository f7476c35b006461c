/* Unit tests of [metrics]: the table names every number of wss_stats once, and the text holds what the table says. */
#include "../library.h"

#include "../test.h"

static wss_server *server;

static void begin(void) {
    wss_options options;
    memset(&options, 0, sizeof options);
    options.address = "127.0.0.1";
    server = wss_create(&options, NULL);
    if (!server) abort();
}

/* Which of the numbers of wss_stats have no row, or two. */
static void every_number_has_a_row(void) {
    int rows[sizeof(wss_stats) / sizeof(uint64_t)] = {0};
    for (size_t i = 0; i < wss__metrics_count; i++)
        for (int k = 0; k < wss__metrics_rows[i].count; k++) rows[wss__metrics_rows[i].offset / sizeof(uint64_t) + (size_t)k]++;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int spare = i * sizeof(uint64_t) >= offsetof(wss_stats, refused_cause) + 13 * sizeof(uint64_t) &&
                    i * sizeof(uint64_t) < offsetof(wss_stats, undelivered_dropped);
        if (rows[i] != !spare) printf("number %zu has %d rows\n", i, rows[i]);
        CHECK_INT(rows[i], !spare);
    }
}

static void names_follow_the_rules(void) {
    for (size_t i = 0; i < wss__metrics_count; i++) {
        const wss__metrics_row *row = &wss__metrics_rows[i];
        size_t size = strlen(row->name);
        int total = size > 6 && strcmp(row->name + size - 6, "_total") == 0;
        CHECK_INT(total, row->kind == WSS__METRICS_COUNTER);
        CHECK(row->help[strlen(row->help) - 1] == '.');
        for (size_t k = 0; k < size; k++) CHECK(strchr("abcdefghijklmnopqrstuvwxyz_", row->name[k]) != NULL);
        for (size_t k = 0; k < i; k++) CHECK(strcmp(row->name, wss__metrics_rows[k].name) != 0);
    }
}

/* Whether a line stands in the text. */
static int has(const char *text, const char *line) {
    const char *at = strstr(text, line);
    return at && (at == text || at[-1] == '\n') && at[strlen(line)] == '\n';
}

static void what_is_counted_is_told(void) {
    static char text[20000];
    begin();
    wss__session_stats *stats = &server->loops[0].shared.stats;
    stats->bytes_in = 123456789012345u;
    stats->closes[WSS_CAUSE_PRESSURE] = 7;
    stats->refused_status[4] = 8;
    stats->refused_cause[WSS_REFUSED_PER_ADDRESS] = 9;
    stats->loop_lag_ms = 61005;
    stats->turns[5] = 10;
    server->mem.budget = WSS_UNLIMITED;
    CHECK_INT(wss_stats_text(server, text, sizeof text, NULL), WSS_OK);
    CHECK(has(text, "wsserver_received_bytes_total 123456789012345"));
    CHECK(has(text, "wsserver_connections_ended_total{cause=\"memory pressure\"} 7"));
    CHECK(has(text, "wsserver_requests_refused_by_status_total{status=\"4xx\"} 8"));
    CHECK(has(text, "wsserver_requests_refused_by_rule_total{rule=\"per address\"} 9"));
    CHECK(has(text, "wsserver_turn_peak_seconds 61.005"));
    CHECK(has(text, "wsserver_turns_total{length=\"longer\"} 10"));
    CHECK(has(text, "wsserver_memory_budget_bytes +Inf"));
    CHECK(has(text, "# TYPE wsserver_connections gauge"));
    CHECK(!strstr(text, "1xx") && !strstr(text, "cause=\"none\"") && !strstr(text, "cause=\"unknown\""));
    wss_destroy(server);
}

/* Every cause has a line, by its text. */
static void causes(void) {
    static char text[20000];
    char line[200];
    begin();
    CHECK_INT(wss_stats_text(server, text, sizeof text, NULL), WSS_OK);
    for (int cause = 1; cause < 32; cause++) {
        int known = strcmp(wss_cause_text(cause), wss_cause_text(INT_MAX)) != 0;
        snprintf(line, sizeof line, "wsserver_connections_ended_total{cause=\"%s\"} 0", wss_cause_text(cause));
        CHECK_INT(has(text, line), known);
    }
    wss_destroy(server);
}

/* Every size of the buffer: the length is told, and there is the whole text or none. */
static void sizes(void) {
    static char text[20000];
    size_t whole = 0;
    begin();
    CHECK_INT(wss_stats_text(server, NULL, 0, &whole), WSS_ERR_SPACE);
    for (size_t size = 1; size < whole + 3; size += size < whole - 5 && size > 5 ? 97 : 1) {
        size_t length = 0;
        memset(text, 'x', sizeof text);
        CHECK_INT(wss_stats_text(server, text, size, &length), size > whole ? WSS_OK : WSS_ERR_SPACE);
        CHECK_INT(length, whole);
        CHECK_INT(strlen(text), size > whole ? whole : 0);
        CHECK(text[size] == 'x');
    }
    CHECK_INT(wss_stats_text(NULL, text, sizeof text, NULL), WSS_ERR_ARGUMENT);
    CHECK_TEXT(text, "");
    wss_destroy(server);
}

int main(void) {
    RUN(every_number_has_a_row);
    RUN(names_follow_the_rules);
    RUN(what_is_counted_is_told);
    RUN(causes);
    RUN(sizes);
    return test_end("metrics");
}
