/* Unit tests of [log]: what a peer sent cannot break a line, become a format or flood the log, and lost lines are told. */
#include "../library.h"

#include "../test.h"

enum { KEPT = 64 };

typedef struct lines {
    int count;
    int levels[KEPT];
    char text[KEPT][WSS__LOG_LINE + 64];
} lines;

static lines seen;
static wss_options options;

static void keep(void *context, int level, const char *text) {
    lines *to = (lines *)context;
    CHECK(strlen(text) < WSS__LOG_LINE);
    if (to->count < KEPT) {
        to->levels[to->count] = level;
        snprintf(to->text[to->count], sizeof to->text[0], "%s", text);
    }
    to->count++;
}

static void begin(wss__log *log, int level) {
    memset(&options, 0, sizeof options);
    memset(&seen, 0, sizeof seen);
    memset(log, 0, sizeof *log);
    options.log = keep;
    options.log_context = &seen;
    options.log_level = level;
    wss__log_init(log, &options);
}

static void end(wss__log *log) {
    pthread_mutex_destroy(&log->mutex);
}

/* Each byte as the log may show it, by a rule of its own. */
static size_t shown(int byte, char out[5]) {
    if (byte >= ' ' && byte <= '~' && byte != '\\' && byte != '"') return (size_t)snprintf(out, 5, "%c", byte);
    return (size_t)snprintf(out, 5, "\\x%02x", (unsigned)byte);
}

static void every_byte(void) {
    for (int byte = 0; byte < 256; byte++) {
        char out[WSS__LOG_PEER * 4 + 4];
        char want[5];
        char one = (char)byte;
        shown(byte, want);
        char *copy = guard_copy(&one, 1);
        CHECK(wss__log_escape(wss__base_span(copy, 1), out) == out);
        CHECK_TEXT(out, want);
        guard_free(copy, 1);
    }
    char out[WSS__LOG_PEER * 4 + 4];
    CHECK_TEXT(wss__log_escape(wss__base_span(NULL, 0), out), "");
    CHECK_TEXT(wss__log_escape(wss__base_text("a\r\nb\x1b[2J\x9b\\\"\xc3\xa4"), out), "a\\x0d\\x0ab\\x1b[2J\\x9b\\x5c\\x22\\xc3\\xa4");
}

/* Of a long text the first bytes are shown, and that there were more; the longest result fits its buffer exactly. */
static void long_texts_are_cut(void) {
    static const size_t sizes[] = {0, 1, WSS__LOG_PEER - 1, WSS__LOG_PEER, WSS__LOG_PEER + 1, 8192};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int byte = 'a'; byte >= 0; byte -= 'a') {
            size_t size = sizes[i];
            size_t kept = size < WSS__LOG_PEER ? size : WSS__LOG_PEER;
            size_t each = byte ? 1 : 4;
            char *text = (char *)malloc(size + 1);
            if (!text) abort();
            memset(text, byte, size);
            char *copy = guard_copy(text, size);
            char whole[WSS__LOG_PEER * 4 + 4];
            char *out = guard_copy(whole, sizeof whole);
            wss__log_escape(wss__base_span(copy, size), out);
            CHECK_INT(strlen(out), kept * each + (size > kept ? 3 : 0));
            CHECK(strncmp(out, byte ? "aaaa" : "\\x00", size ? each : 0) == 0);
            CHECK(size <= kept || strcmp(out + kept * each, "...") == 0);
            guard_free(out, sizeof whole);
            guard_free(copy, size);
            free(text);
        }
    }
}

static void levels(void) {
    wss__log log;
    for (int level = 0; level <= WSS_LOG_DEBUG; level++) {
        begin(&log, level);
        for (int line = WSS_LOG_ERROR; line <= WSS_LOG_DEBUG; line++) {
            CHECK_INT(wss__log_wants(&log, line), line <= level);
            wss__log_line(&log, line, 5, "line %d", line);
        }
        CHECK_INT(seen.count, level);
        for (int i = 0; i < level; i++) CHECK_INT(seen.levels[i], i + 1);
        end(&log);
    }
}

static void nobody_listens(void) {
    wss__log log;
    begin(&log, WSS_LOG_DEBUG);
    options.log = NULL;
    CHECK_INT(wss__log_wants(&log, WSS_LOG_ERROR), 0);
    wss__log_line(&log, WSS_LOG_ERROR, 5, "nobody");
    CHECK_INT(seen.count, 0);
    CHECK_INT(log.classes[WSS_LOG_ERROR].full_at, 0); /* what nobody hears is not counted either */
    end(&log);
}

/* A peer's text is an argument, never the format. */
static void percent_signs(void) {
    wss__log log;
    char out[WSS__LOG_PEER * 4 + 4];
    begin(&log, WSS_LOG_INFO);
    wss__log_line(&log, WSS_LOG_INFO, 5, "reason \"%s\"", wss__log_escape(wss__base_text("%n%s%100000d"), out));
    CHECK_TEXT(seen.text[0], "reason \"%n%s%100000d\"");
    end(&log);
}

/* However much is written, a line is cut before its buffer ends. */
static void longest_line(void) {
    wss__log log;
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    begin(&log, WSS_LOG_INFO);
    wss__log_line(&log, WSS_LOG_INFO, 5, "%s", text);
    CHECK_INT(seen.count, 1);
    CHECK_INT(strlen(seen.text[0]), WSS__LOG_LINE - 1);
    end(&log);
}

/* A burst, then one line each WSS__LOG_REFILL milliseconds; the next line that is written tells how many were not. */
static void floods_are_cut(void) {
    wss__log log;
    uint64_t now = 1000000;
    begin(&log, WSS_LOG_INFO);
    for (int i = 0; i < WSS__LOG_BURST + 7; i++) wss__log_line(&log, WSS_LOG_INFO, now, "line %d", i);
    CHECK_INT(seen.count, WSS__LOG_BURST);
    CHECK_TEXT(seen.text[WSS__LOG_BURST - 1], "line 19");
    wss__log_line(&log, WSS_LOG_INFO, now + WSS__LOG_REFILL - 1, "too early");
    CHECK_INT(seen.count, WSS__LOG_BURST);
    wss__log_line(&log, WSS_LOG_INFO, now + WSS__LOG_REFILL, "again");
    CHECK_INT(seen.count, WSS__LOG_BURST + 2);
    CHECK_TEXT(seen.text[WSS__LOG_BURST], "8 lines of this level were left out");
    CHECK_TEXT(seen.text[WSS__LOG_BURST + 1], "again");
    wss__log_line(&log, WSS_LOG_INFO, now + WSS__LOG_REFILL, "one too many");
    CHECK_INT(seen.count, WSS__LOG_BURST + 2);

    /* Each level has a burst of its own, and a silence gives all of it back, no more. */
    wss__log_line(&log, WSS_LOG_ERROR, now + WSS__LOG_REFILL, "an error");
    CHECK_INT(seen.count, WSS__LOG_BURST + 3);
    now += 3600000;
    seen.count = 0;
    for (int i = 0; i < 2 * WSS__LOG_BURST; i++) wss__log_line(&log, WSS_LOG_INFO, now, "line %d", i);
    CHECK_INT(seen.count, WSS__LOG_BURST + 1);
    CHECK_TEXT(seen.text[0], "1 lines of this level were left out");
    end(&log);
}

/* A flood that ends is accounted for although no further line comes, once for each level. */
static void the_end_of_a_flood_is_told(void) {
    wss__log log;
    uint64_t now = 1000000;
    begin(&log, WSS_LOG_DEBUG);
    wss__log_settle(&log, now);
    for (int i = 0; i < WSS__LOG_BURST + 7; i++) wss__log_line(&log, WSS_LOG_INFO, now, "line %d", i);
    for (int i = 0; i < WSS__LOG_BURST + 1; i++) wss__log_line(&log, WSS_LOG_DEBUG, now + 500, "line %d", i);
    seen.count = 0;
    wss__log_settle(&log, now + 500 + WSS__LOG_QUIET - 1);
    CHECK_INT(seen.count, 0);
    CHECK_INT(log.tell_at, now + 500 + WSS__LOG_QUIET);
    wss__log_settle(&log, now + 500 + WSS__LOG_QUIET);
    CHECK_INT(seen.count, 2);
    CHECK_TEXT(seen.text[0], "7 lines of this level were left out");
    CHECK_INT(seen.levels[0], WSS_LOG_INFO);
    CHECK_TEXT(seen.text[1], "1 lines of this level were left out");
    CHECK_INT(seen.levels[1], WSS_LOG_DEBUG);
    wss__log_settle(&log, now + 3600000);
    CHECK_INT(seen.count, 2);
    CHECK_INT(log.tell_at, 0);
    end(&log);
}

/* The rate holds for any pattern of calls: never more than the burst and what the time has refilled. */
static void rate_is_bounded(void) {
    wss__log log;
    uint32_t random = 1;
    for (int round = 0; round < 50; round++) {
        uint64_t start = 5000;
        uint64_t now = start;
        int told = 0;
        begin(&log, WSS_LOG_INFO);
        for (int i = 0; i < 2000; i++) {
            random = random * 1103515245u + 12345u;
            if ((random >> 16 & 7) == 0) now += random >> 20 & 255;
            seen.count = 0;
            wss__log_line(&log, WSS_LOG_INFO, now, "x");
            if (seen.count) told++; /* a line, perhaps after the one that tells of others */
            CHECK(told <= WSS__LOG_BURST + (int)((now - start) / WSS__LOG_REFILL));
        }
        CHECK(told >= WSS__LOG_BURST);
        end(&log);
    }
}

int main(void) {
    RUN(every_byte);
    RUN(long_texts_are_cut);
    RUN(levels);
    RUN(nobody_listens);
    RUN(percent_signs);
    RUN(longest_line);
    RUN(floods_are_cut);
    RUN(the_end_of_a_flood_is_told);
    RUN(rate_is_bounded);
    return test_end("log");
}
