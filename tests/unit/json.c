/* json: the scanner against a public test suite and a recursive reference, the cutter against a rule. */
#define _FILE_OFFSET_BITS 64 /* inode numbers of 64 bits, which 32-bit processors do not read otherwise */
#include "../library.h"
#include "../test.h"
#include <dirent.h>

#define SUITE "../shared/json-test-suite/test_parsing"

static int scan(const char *text, size_t size, int max_depth) {
    char *copy = guard_copy(text, size);
    int result = wss__json_scan(wss__base_span(copy, size), max_depth, NULL);
    guard_free(copy, size);
    return result;
}

static int scan_text(const char *text) {
    return scan(text, strlen(text), 128);
}

static char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    char *data = (char *)malloc(1 << 20);
    *size = file && data ? fread(data, 1, 1 << 20, file) : 0;
    if (file) fclose(file);
    return data;
}

static void test_suite(void) {
    DIR *directory = opendir(SUITE);
    struct dirent *entry;
    static const char letters[] = "yni";
    int counts[3] = {0, 0, 0};
    if (!directory) {
        test_skipped++;
        printf("skipped test_suite: %s is missing\n", SUITE);
        return;
    }
    while ((entry = readdir(directory)) != NULL) {
        char path[600];
        size_t size;
        const char *found = strchr(letters, entry->d_name[0]);
        if (!found || !*found || entry->d_name[1] != '_') continue;
        snprintf(path, sizeof path, SUITE "/%s", entry->d_name);
        char *data = read_file(path, &size);
        char *copy = guard_copy(data, size);
        int result = wss_json_check(copy, size, 0);
        int wrong = (*found == 'y' && result != WSS_OK) || (*found == 'n' && result == WSS_OK);
        if (wrong) printf("%s: %d\n", entry->d_name, result);
        CHECK(!wrong);
        counts[found - letters]++;
        guard_free(copy, size);
        free(data);
    }
    closedir(directory);
    printf("test_suite: %d accepted, %d refused, %d either\n", counts[0], counts[1], counts[2]);
    CHECK_INT(counts[0], 95);
    CHECK_INT(counts[1], 188);
}

static void test_scan_table(void) {
    static const char *const valid[] = {
        "0", "-0", "10", "-1.5e+10", "1E5", "0.0e-0", "1e999999999", "true", "false", "null", "\"\"", " 1 ",
        "\t\r\n[]\n",
        "{}", "[[],{}]", "{\"a\":{\"b\":[1,2,{\"c\":null}]},\"d\":\"\"}",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD800\"",
        "\"\\u0000\"", "{\"\":1,\"\":2}", "[1 , 2\n,3 ]", "{ \"a\" : 1 , \"b\" : [ ] }", "\"\x7f\"",
        "\"eight888\"",
        "\"exactly sixteen.\""};
    static const char *const invalid[] = {
        "", " ", "-", "01", "-01", "00", "1.", ".5", "+1", "1e", "1e+", "1.e1", "0x1", "1 2", "tru", "True",
        "nul", "NaN",
        "Infinity", "\"", "\"a", "\"\\\"", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\", "\"\\u", "\"\n\"",
        "\"\x1f\"",
        "'a'", "[", "]", "{", "}", "[1", "[1,", "[1,]", "[,1]", "[,]", "[1 2]", "[1:2]", "[}", "{]",
        "{\"a\"}", "{\"a\":}",
        "{\"a\":1,}", "{,}", "{a:1}", "{1:1}", "{\"a\":1 \"b\":2}", "{\"a\",1}", "{\"a\"::1}", "[]]", "{}}",
        "[] []",
        "{\"a\":1]", "[1}", "\xef\xbb\xbf{}", "[1]\x0c", "\x0b[]", "/**/1", "1//", "\"a\"b", "[\"a\",\n",
        "{\"a\":1,\"a\"",
        "\"12345678\x01\"", "\"1234567\x19 89012345\""};
    for (size_t i = 0; i < sizeof valid / sizeof valid[0]; i++) {
        if (scan_text(valid[i]) != WSS_OK) printf("%s\n", valid[i]);
        CHECK_INT(scan_text(valid[i]), WSS_OK);
    }
    for (size_t i = 0; i < sizeof invalid / sizeof invalid[0]; i++) {
        if (scan_text(invalid[i]) != WSS_ERR_JSON) printf("%s\n", invalid[i]);
        CHECK_INT(scan_text(invalid[i]), WSS_ERR_JSON);
    }
    CHECK_INT(scan("[1]\0", 4, 128), WSS_ERR_JSON);
    CHECK_INT(scan("\"\0\"", 3, 128), WSS_ERR_JSON);
    CHECK_INT(scan("\"\\\0\"", 4, 128), WSS_ERR_JSON);
    CHECK_INT(wss__json_scan(wss__base_span(NULL, 0), 128, NULL), WSS_ERR_JSON);
}

/* Every byte as it is in a string and behind a backslash, at each place of a word. */
static void test_string_bytes(void) {
    for (int c = 0; c < 256; c++)
        for (int place = 0; place < 20; place++) {
            char text[] = "\"zzzzzzzzzzzzzzzzzzzzz\"";
            size_t size = sizeof text - 1;
            text[1 + place] = (char)c;
            CHECK_INT(scan(text, size, 128) == WSS_OK, c >= 0x20 && c != '"' && c != '\\');
            text[1 + place] = '\\';
            text[2 + place] = (char)c;
            CHECK_INT(scan(text, size, 128) == WSS_OK, c != 0 && strchr("\"\\/bfnrt", c) != NULL);
        }
}

static const char *const messages[] = {
    "{\"__MESSAGE__\":\"chat\",\"text\":\"hello \\u00e9\\n\",\"n\":[1,-2.5e+3,true,false,null,{\"x\":{}}]}",
    "{ \"a\" : [ [ ] , [ [ 1 ] ] , \"\\ud83d\\ude00\" ] , \"__MESSAGE__\" : \"x\" }",
    "[\"a string that is long enough for several words\",{\"k\":\"\\\\\\\"\"},0.5]",
    "\"just a string \\/ \\b\\f\\r\\t\""};

static void test_every_prefix(void) {
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        size_t size = strlen(messages[i]);
        CHECK_INT(scan(messages[i], size, 128), WSS_OK);
        for (size_t cut = 0; cut < size; cut++) CHECK_INT(scan(messages[i], cut, 128), WSS_ERR_JSON);
    }
}

/* Independent of the scanner in method: recursive descent. */
typedef struct reader {
    const char *at;
    const char *end;
} reader;

static int see(reader *r, char c) {
    if (r->at == r->end || *r->at != c) return 0;
    r->at++;
    return 1;
}

static void blanks(reader *r) {
    while (see(r, ' ')) {
    }
}

static int read_digits(reader *r) {
    const char *from = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return r->at > from;
}

static int read_number(reader *r) {
    see(r, '-');
    if (!see(r, '0') && !read_digits(r)) return 0;
    if (see(r, '.') && !read_digits(r)) return 0;
    if (!see(r, 'e')) return 1;
    if (!see(r, '-')) see(r, '+');
    return read_digits(r);
}

static int read_string(reader *r) {
    if (!see(r, '"')) return 0;
    while (r->at < r->end && *r->at != '"') {
        if (see(r, '\\')) {
            if (r->at == r->end || (*r->at != '"' && *r->at != '\\')) return 0;
        }
        r->at++;
    }
    return see(r, '"');
}

static int read_value(reader *r);

static int read_items(reader *r, int object) {
    char close = object ? '}' : ']';
    blanks(r);
    if (see(r, close)) return 1;
    do {
        blanks(r);
        if (object) {
            if (!read_string(r)) return 0;
            blanks(r);
            if (!see(r, ':')) return 0;
            blanks(r);
        }
        if (!read_value(r)) return 0;
        blanks(r);
    } while (see(r, ','));
    return see(r, close);
}

static int read_value(reader *r) {
    if (see(r, '[')) return read_items(r, 0);
    if (see(r, '{')) return read_items(r, 1);
    return r->at < r->end && *r->at == '"' ? read_string(r) : read_number(r);
}

static int reference(const char *text, size_t size) {
    reader r = {text, text + size};
    blanks(&r);
    if (!read_value(&r)) return 0;
    blanks(&r);
    return r.at == r.end;
}

/* All texts of up to six of these characters. */
static void test_all_short_texts(void) {
    static const char alphabet[] = "{}[],:\" 10-.e\\";
    size_t letters = sizeof alphabet - 1;
    int accepted = 0;
    for (size_t size = 0; size <= 6; size++) {
        size_t total = 1;
        for (size_t i = 0; i < size; i++) total *= letters;
        for (size_t number = 0; number < total; number++) {
            char text[8];
            size_t rest = number;
            for (size_t i = 0; i < size; i++, rest /= letters) text[i] = alphabet[rest % letters];
            int want = reference(text, size);
            int got = wss__json_scan(wss__base_span(text, size), 128, NULL) == WSS_OK;
            if (got != want) printf("%.*s: %d\n", (int)size, text, got);
            CHECK_INT(got, want);
            accepted += want;
        }
    }
    CHECK(accepted > 1000);
}

static void test_depth(void) {
    for (int depth = 1; depth <= 1100; depth++) {
        char text[4096];
        size_t size = 0;
        for (int i = 0; i < depth; i++) {
            const char *open = i % 3 == 1 ? "{\"\":" : "[";
            memcpy(text + size, open, strlen(open));
            size += strlen(open);
        }
        text[size++] = '1';
        for (int i = depth; i-- > 0;) text[size++] = i % 3 == 1 ? '}' : ']';
        wss__span span = wss__base_span(text, size);
        CHECK_INT(wss__json_scan(span, depth, NULL), depth <= 1024 ? WSS_OK : WSS_ERR_DEPTH);
        CHECK_INT(wss__json_scan(span, depth - 1, NULL), WSS_ERR_DEPTH);
        CHECK_INT(wss__json_scan(span, -1, NULL), depth <= 1024 ? WSS_OK : WSS_ERR_DEPTH);
        CHECK_INT(wss__json_scan(span, INT_MAX, NULL), depth <= 1024 ? WSS_OK : WSS_ERR_DEPTH);
        int wrong = depth <= 1024 ? WSS_ERR_JSON : WSS_ERR_DEPTH;
        CHECK_INT(wss__json_scan(wss__base_span(text, size - 1), -1, NULL), wrong);
        /* the innermost closing bracket of the other kind */
        size_t inner = size - (size_t)depth;
        text[inner] = text[inner] == ']' ? '}' : ']';
        CHECK_INT(wss__json_scan(span, -1, NULL), wrong);
    }
    CHECK_INT(scan_text("[]"), WSS_OK);
    CHECK_INT(scan("[]", 2, 1), WSS_OK);
    CHECK_INT(scan("[]", 2, 0), WSS_ERR_DEPTH);
    CHECK_INT(scan("1", 1, 0), WSS_OK);
}

static void test_a_million(void) {
    static char text[5000002];
    wss__json_rest rest;
    memset(text, '[', 1000000);
    CHECK_INT(wss__json_scan(wss__base_span(text, 1000000), 128, NULL), WSS_ERR_DEPTH);
    CHECK_INT(wss__json_scan(wss__base_span(text, 1000000), -1, NULL), WSS_ERR_DEPTH);
    for (int i = 0; i < 1000000; i++) memcpy(text + i * 5, "{\"a\":", 5);
    CHECK_INT(wss__json_scan(wss__base_span(text, 5000000), -1, NULL), WSS_ERR_DEPTH);
    CHECK_INT(wss__json_without(wss__base_span(text, 5000000), wss__base_text("a"), text, &rest), WSS_ERR_DEPTH);
    memset(text, '9', 5000000);
    CHECK_INT(wss__json_scan(wss__base_span(text, 5000000), 128, NULL), WSS_OK);
    memset(text, ' ', 5000000);
    CHECK_INT(wss__json_scan(wss__base_span(text, 5000000), 128, NULL), WSS_ERR_JSON);
    memset(text, ']', 5000000);
    CHECK_INT(wss__json_scan(wss__base_span(text, 5000000), 128, NULL), WSS_ERR_JSON);
}

static int equals(const char *raw, const char *name) {
    char *copy = guard_copy(raw, strlen(raw));
    int result = wss__json_equals(wss__base_span(copy, strlen(raw)), wss__base_text(name));
    guard_free(copy, strlen(raw));
    return result != 0;
}

static void test_equals(void) {
    CHECK(equals("\"__MESSAGE__\"", "__MESSAGE__"));
    CHECK(equals("\"\\u005f_MESSAGE__\"", "__MESSAGE__"));
    CHECK(equals("\"\\u005F\\u005f\\u004dESSAG\\u0045\\u005f_\"", "__MESSAGE__"));
    CHECK(!equals("\"__MESSAGE_\"", "__MESSAGE__"));
    CHECK(!equals("\"__MESSAGE__ \"", "__MESSAGE__"));
    CHECK(!equals("\"\\u005f_MESSAGE_\"", "__MESSAGE__"));
    CHECK(!equals("\"\\u005f_MESSAGE__x\"", "__MESSAGE__"));
    CHECK(!equals("\"__message__\"", "__MESSAGE__"));
    CHECK(equals("\"\"", ""));
    CHECK(!equals("\"a\"", ""));
    CHECK(!equals("\"\\n\"", ""));
    CHECK(!equals("\"\"", "a"));
    CHECK(!equals("\"a\\u0000\"", "a"));
    CHECK(!equals("\"\\u0000\"", ""));
    CHECK(!wss__json_equals(wss__base_text("\"\\u0000\""), wss__base_span("", 1)));
    CHECK(equals("\"a\\\\nb\"", "a\\nb"));
    CHECK(!equals("\"a\\nb\"", "a\\nb"));
    CHECK(equals("\"a\\nb\"", "a\nb"));
    CHECK(equals("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"));
    CHECK(equals("\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"));
    CHECK(equals("\"\\ud83d\\ude01\"", "\xf0\x9f\x98\x81"));
    CHECK(equals("\"\xf0\x9f\x98\x80\"", "\xf0\x9f\x98\x80"));
    CHECK(equals("\"\\ud83d\"", "\xef\xbf\xbd"));
    CHECK(equals("\"\\ude00\\ud83d\"", "\xef\xbf\xbd\xef\xbf\xbd"));
    CHECK(equals("\"\\ud83d\\ud83d\\ude00\"", "\xef\xbf\xbd\xf0\x9f\x98\x80"));
    CHECK(equals("\"\\ud83d\\n\"", "\xef\xbf\xbd\n"));
    CHECK(equals("\"\\ud83dx\"", "\xef\xbf\xbdx"));
    CHECK(equals("\"\\u00e9\"", "\xc3\xa9"));
}

static void test_unescape_fits(void) {
    wss__span raw = wss__base_text("\"ab\\u00e9\\ud83d\\ude00c\"");
    static const char want[] = "ab\xc3\xa9\xf0\x9f\x98\x80" "c";
    for (size_t size = 0; size <= 12; size++) {
        char *out = guard_copy("------------", size);
        CHECK_INT(wss__json_unescape(raw, out, size), 9);
        if (size >= 9) CHECK(memcmp(out, want, 9) == 0);
        guard_free(out, size);
    }
}

static void check_escape(const char *text, size_t size, const char *want) {
    char *copy = guard_copy(text, size);
    wss__span span = wss__base_span(copy, size);
    size_t need = wss__json_escaped_size(span);
    CHECK_INT(need, strlen(want));
    char *room = (char *)calloc(1, need);
    char *out = guard_copy(room, need);
    CHECK(wss__json_quote(span, out) == out + need);
    CHECK(memcmp(out, want, need) == 0);
    CHECK_INT(wss__json_unescape(wss__base_span(out, need), room, need), size);
    CHECK(memcmp(room, copy, size) == 0);
    guard_free(out, need);
    guard_free(copy, size);
    free(room);
}

static void test_escape(void) {
    check_escape("", 0, "\"\"");
    check_escape("plain", 5, "\"plain\"");
    check_escape("\"\\/", 3, "\"\\\"\\\\/\"");
    check_escape("\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\"");
    check_escape("\0\x01\x1f\x7f", 4, "\"\\u0000\\u0001\\u001f\x7f\"");
    check_escape("\xc3\xa9\xf0\x9f\x98\x80", 6, "\"\xc3\xa9\xf0\x9f\x98\x80\"");
    check_escape("long enough for words\nand again some words\x0b", 43,
                 "\"long enough for words\\nand again some words\\u000b\"");
}

static wss__span type_member(void) {
    return wss__base_text("T");
}

/* Measures, and takes the type out in place, of memory that ends at an unreadable page: both say the same. */
static int without(const char *text, size_t size, wss__json_rest *rest) {
    wss__json_rest measured;
    char *copy = guard_copy(text, size);
    int result = wss__json_without(wss__base_span(copy, size), type_member(), NULL, &measured);
    CHECK(memcmp(copy, text, size) == 0);
    CHECK_INT(wss__json_without(wss__base_span(copy, size), type_member(), copy, rest), result);
    CHECK_INT(rest->size, measured.size);
    CHECK_INT(rest->has_members, measured.has_members);
    CHECK(wss__base_equal(wss__base_span(rest->type, rest->type_size), wss__base_span(measured.type, measured.type_size)));
    guard_free(copy, size);
    return result;
}

static void check_type(const char *text, int has_members, const char *type) {
    wss__json_rest rest;
    CHECK_INT(without(text, strlen(text), &rest), WSS_OK);
    CHECK_INT(rest.has_members, has_members);
    CHECK(wss__base_equal(wss__base_span(rest.type, rest.type_size), wss__base_text(type)));
}

static void test_find_types(void) {
    wss__json_rest rest;
    check_type("{}", 0, "");
    check_type(" { } ", 0, "");
    check_type("{\"T\":\"x\"}", 0, "x");
    check_type("{\"T\":\"x\",\"T\":\"y\"}", 0, "y");
    check_type("{\"T\":\"long\",\"T\":\"y\"}", 0, "y");
    check_type("{\"T\":\"x\",\"T\":1}", 0, "");
    check_type("{\"T\":1,\"T\":\"x\"}", 0, "x");
    check_type("{\"T\":{\"T\":\"x\"}}", 0, "");
    check_type("{\"T\":\"x\",\"T\":\"\"}", 0, "");
    check_type("{\"a\":{\"T\":\"x\"}}", 1, "");
    check_type("{\"a\":{\"T\":\"x\"},\"T\":\"y\",\"T\":\"z\"}", 1, "z");
    check_type("{\"T\":null}", 0, "");
    check_type("{\"t\":\"x\",\"TT\":\"y\",\"\":\"z\"}", 1, "");
    check_type("{\"\\u0054\":\"\\u00e9\\\"\\n\\ud83d\\ude00\\ud83d\"}", 0, "\xc3\xa9\"\n\xf0\x9f\x98\x80\xef\xbf\xbd");
    CHECK_INT(without("{\"a\":[{\"T\":\"x\"}],\"\\u0054\" : \"\\u0000\"}", 37, &rest), WSS_OK);
    CHECK(rest.type_size == 1 && rest.type[0] == 0);
}

/* A type holds up to 128 bytes, however they are written; a longer one is none, and neither is an earlier one then. */
static void test_type_sizes(void) {
    static const char *const units[] = {"x", "\\u0078", "\xc3\xa9", "\\u00e9", "\\ud83d\\ude00", "\xe2\x82\xac"};
    static const char *const values[] = {"x", "x", "\xc3\xa9", "\xc3\xa9", "\xf0\x9f\x98\x80", "\xe2\x82\xac"};
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++)
        for (size_t size = 100; size < 300; size++) {
            char text[4000];
            char want[1200];
            wss__json_rest rest;
            size_t have = 0;
            size_t at = (size_t)sprintf(text, "{\"T\":\"x\",\"T\":\"");
            for (; have + strlen(values[u]) <= size; have += strlen(values[u])) {
                memcpy(want + have, values[u], strlen(values[u]));
                at += (size_t)sprintf(text + at, "%s", units[u]);
            }
            for (; have < size; have++) {
                want[have] = '-';
                text[at++] = '-';
            }
            at += (size_t)sprintf(text + at, "\",\"a\":1}");
            CHECK_INT(without(text, at, &rest), WSS_OK);
            CHECK_INT(rest.type_size, size <= 128 ? size : 0);
            CHECK(size > 128 || memcmp(rest.type, want, size) == 0);
            CHECK_INT(rest.size, strlen("{\"a\":1}"));
        }
}

static void check_nested(int levels, int want) {
    char text[1000];
    wss__json_rest rest;
    size_t size = (size_t)sprintf(text, "{\"T\":\"x\",\"a\":");
    memset(text + size, '[', (size_t)levels);
    size += (size_t)levels;
    memset(text + size, ']', (size_t)levels);
    size += (size_t)levels;
    text[size++] = '}';
    CHECK_INT(without(text, size, &rest), want);
}

static void test_find_errors(void) {
    wss__json_rest rest;
    static const char *const others[] = {"[]", "1", "\"T\"", "null", " [1,2] ", "true", "[{\"T\":\"x\"}]"};
    static const char *const wrong[] = {"", " ", "{", "{\"T\":\"x\"", "{\"T\":\"x\"}}", "{\"T\":\"x\"} x",
                                        "[1", "{\"T\"}", "{\"T\":}",
                                        "{\"T\":\"x\",}", "{,\"T\":\"x\"}", "{\"T\":\"x\" \"a\":1}", "tru",
                                        "{\"a\":[}"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        CHECK_INT(without(others[i], strlen(others[i]), &rest), WSS_ERR_TYPE);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK_INT(without(wrong[i], strlen(wrong[i]), &rest), WSS_ERR_JSON);
    CHECK_INT(wss__json_without(wss__base_span(NULL, 0), type_member(), NULL, &rest), WSS_ERR_JSON);
    check_nested(127, WSS_OK); /* and the object itself */
    check_nested(128, WSS_ERR_DEPTH);
    check_nested(400, WSS_ERR_DEPTH);
    for (size_t i = 0; i < 2; i++)
        for (size_t cut = 0; cut < strlen(messages[i]); cut++) CHECK_INT(without(messages[i], cut, &rest), WSS_ERR_JSON);
}

/* An object as a list of parts, from which members can be taken one after the other, as the rule says. */
enum { SPACE, COMMA, MEMBER, TYPE, BRACE, MAX_PARTS = 32 };

typedef struct parts {
    int kinds[MAX_PARTS];
    const char *texts[MAX_PARTS];
    int count;
} parts;

static void add(parts *p, int kind, const char *text) {
    p->kinds[p->count] = kind;
    p->texts[p->count++] = text;
}

static void take(parts *p, int at) {
    p->count--;
    for (int i = at; i < p->count; i++) {
        p->kinds[i] = p->kinds[i + 1];
        p->texts[i] = p->texts[i + 1];
    }
}

static int neighbour(const parts *p, int at, int step) {
    for (at += step; at >= 0 && at < p->count; at += step)
        if (p->kinds[at] != SPACE) return p->kinds[at] == COMMA ? at : -1;
    return -1;
}

static void take_types(parts *p) {
    for (int i = 0; i < p->count; i++) {
        if (p->kinds[i] != TYPE) continue;
        int behind = neighbour(p, i, 1);
        int before = neighbour(p, i, -1);
        if (behind >= 0 && before < 0) take(p, behind);
        take(p, i);
        if (before >= 0) take(p, before);
        i = -1;
    }
}

static size_t join(const parts *p, char *out) {
    size_t size = 0;
    for (int i = 0; i < p->count; i++) size += (size_t)sprintf(out + size, "%s", p->texts[i]);
    return size;
}

static void check_cut(parts *p, size_t types, size_t others) {
    char text[256];
    char want[256];
    wss__json_rest rest;
    size_t size = join(p, text);
    take_types(p);
    size_t left = join(p, want);
    char *copy = guard_copy(text, size);
    char *out = guard_copy(text, left);
    memset(out, 0, left);
    CHECK_INT(wss__json_without(wss__base_span(copy, size), type_member(), NULL, &rest), WSS_OK);
    CHECK_INT(rest.has_members, others > 0);
    CHECK_INT(rest.size, left);
    CHECK(types ? left < size : left == size);
    CHECK_INT(wss__json_without(wss__base_span(copy, size), type_member(), out, &rest), WSS_OK);
    CHECK_INT(rest.size, left);
    CHECK(memcmp(out, want, left) == 0);
    CHECK(memcmp(copy, text, size) == 0);
    CHECK_INT(wss__json_without(wss__base_span(copy, size), type_member(), copy, &rest), WSS_OK);
    CHECK_INT(rest.size, left);
    if (memcmp(copy, want, left) != 0) printf("%s -> %.*s, not %s\n", text, (int)left, copy, want);
    CHECK(memcmp(copy, want, left) == 0);
    CHECK_INT(wss__json_without(wss__base_span(copy, left), type_member(), NULL, &rest), WSS_OK);
    CHECK(rest.size == left && rest.type_size == 0); /* there is no other */
    guard_free(out, left);
    guard_free(copy, size);
}

/* All objects of up to four members of these, with and without white space at each place. */
static void test_cut_all_small_objects(void) {
    static const char *const members[] = {"\"a\":[1]", "\"T\":\"x\"", "\"\\u0054\" : 2"};
    unsigned kinds = 1;
    for (int count = 0; count <= 4; count++, kinds *= 3) {
        unsigned gaps = 1u << (count ? count * 2 + 1 : 3);
        for (unsigned kind = 0; kind < kinds; kind++)
            for (unsigned gap = 0; gap < gaps; gap += count == 4 ? 3 : 1) {
                parts p;
                unsigned rest = kind;
                unsigned spaces = gap;
                size_t types = 0;
                p.count = 0;
                if (spaces & 1) add(&p, SPACE, "\n ");
                add(&p, BRACE, "{");
                for (int i = 0; i < count; i++, rest /= 3) {
                    if (i) add(&p, COMMA, ",");
                    if ((spaces >>= 1) & 1) add(&p, SPACE, " ");
                    add(&p, rest % 3 ? TYPE : MEMBER, members[rest % 3]);
                    if ((spaces >>= 1) & 1) add(&p, SPACE, "\t");
                    types += rest % 3 > 0;
                }
                if (!count && spaces & 2) add(&p, SPACE, " ");
                add(&p, BRACE, "}");
                check_cut(&p, types, (size_t)count - types);
            }
    }
}

/* The pieces between the types are longer than what is taken out: they overlap where they move to. */
static void test_cut_long(void) {
    static char text[300100];
    static char want[300100];
    wss__json_rest rest;
    for (int places = 0; places < 8; places++) {
        size_t size = 1;
        size_t left = 1;
        text[0] = want[0] = '{';
        for (int i = 0; i < 3; i++) {
            if (places >> i & 1) size += (size_t)sprintf(text + size, "%s\"T\":\"x\"", size > 1 ? "," : "");
            if (size > 1) text[size++] = ',';
            if (left > 1) want[left++] = ',';
            text[size++] = want[left++] = '"';
            for (int k = 0; k < 99000; k++) text[size++] = want[left++] = (char)('0' + (k * 7 + k / 10 + i) % 64 % 10);
            memcpy(text + size, "\":0", 3);
            memcpy(want + left, "\":0", 3);
            size += 3;
            left += 3;
        }
        text[size++] = want[left++] = '}';
        CHECK_INT(wss__json_without(wss__base_span(text, size), type_member(), text, &rest), WSS_OK);
        CHECK(rest.size == left && memcmp(text, want, left) == 0);
        CHECK_INT(rest.type_size, places != 0);
    }
}

int main(void) {
    RUN(test_suite);
    RUN(test_scan_table);
    RUN(test_string_bytes);
    RUN(test_every_prefix);
    RUN(test_all_short_texts);
    RUN(test_depth);
    RUN(test_a_million);
    RUN(test_equals);
    RUN(test_unescape_fits);
    RUN(test_escape);
    RUN(test_find_types);
    RUN(test_type_sizes);
    RUN(test_find_errors);
    RUN(test_cut_all_small_objects);
    RUN(test_cut_long);
    return test_end("json");
}
