/* args: the public JSON calls. */
#include "../library.h"
#include "../test.h"
#include <locale.h>
#include <math.h>

static int allocations_left = -1;

static void *test_realloc(void *pointer, size_t size) {
    if (allocations_left == 0) return NULL;
    if (allocations_left > 0) allocations_left--;
    return realloc(pointer, size);
}

REPLACE(realloc, test_realloc)

static void test_make(void) {
    wss_args args = wss_json("{\"a\":1}");
    CHECK_INT(args.length, 7);
    CHECK_INT(args.error, 0);
    args = wss_json(NULL);
    CHECK(args.text == NULL && args.length == 0 && args.error == 0);
}

static void test_check(void) {
    char deep[300];
    CHECK_INT(wss_json_check("1", 1, 0), WSS_OK);
    CHECK_INT(wss_json_check(" [] ", 4, 1), WSS_OK);
    CHECK_INT(wss_json_check("[[]]", 4, 1), WSS_ERR_DEPTH);
    CHECK_INT(wss_json_check("", 0, 0), WSS_ERR_JSON);
    CHECK_INT(wss_json_check(NULL, 0, 0), WSS_ERR_JSON);
    CHECK_INT(wss_json_check(NULL, 1, 0), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_json_check("\"\xff\"", 3, 0), WSS_ERR_UTF8);
    CHECK_INT(wss_json_check("\"\xc3", 2, 0), WSS_ERR_UTF8);
    memset(deep, '[', 129);
    memset(deep + 129, ']', 129);
    CHECK_INT(wss_json_check(deep + 1, 256, 0), WSS_OK);
    CHECK_INT(wss_json_check(deep, 258, 0), WSS_ERR_DEPTH);
    CHECK_INT(wss_json_check(deep, 258, 129), WSS_OK);
    CHECK_INT(wss_json_check(deep, 258, WSS_OFF), WSS_OK);
}

static wss_args object(void) {
    return wss_json(" { \"s\" : \"a\\u00e9\\n\" , \"i\" : 42 , \"d\" : -2.5 , \"t\" : true , \"f\" : false ,"
                    " \"n\" : null , \"o\" : { \"i\" : 7 } , \"a\" : [ 1 , \"x\" ] , \"\" : \"empty\" ,"
                    " \"\\u006bey\" : 1 , \"i\" : 43 } ");
}

static void test_types(void) {
    static const struct {
        const char *key;
        int type;
    } cases[] = {{"s", WSS_JSON_STRING}, {"i", WSS_JSON_NUMBER}, {"d", WSS_JSON_NUMBER}, {"t", WSS_JSON_BOOL},
                 {"f", WSS_JSON_BOOL}, {"n", WSS_JSON_NULL}, {"o", WSS_JSON_OBJECT}, {"a", WSS_JSON_ARRAY},
                 {"", WSS_JSON_STRING}, {"key", WSS_JSON_NUMBER}, {"no", WSS_ERR_MISSING}, {NULL,
                 WSS_JSON_OBJECT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *key = cases[i].key;
        int type = cases[i].type;
        int64_t number = 77;
        double real = 77;
        int truth = 77;
        char text[16] = "before";
        CHECK_INT(wss_json_type(object(), key), type);
        int error = type < 0 ? type : WSS_ERR_TYPE;
        int whole = type != WSS_JSON_NUMBER ? error : key[0] == 'd' ? WSS_ERR_RANGE : WSS_OK;
        CHECK_INT(wss_get_int(object(), key, &number), whole);
        CHECK_INT(wss_get_double(object(), key, &real), type == WSS_JSON_NUMBER ? 0 : error);
        CHECK_INT(wss_get_bool(object(), key, &truth), type == WSS_JSON_BOOL ? 0 : error);
        if (type == WSS_JSON_STRING) error = WSS_OK;
        CHECK_INT(wss_get_string(object(), key, text, sizeof text, NULL), error);
        if (type != WSS_JSON_NUMBER) CHECK(number == 77 && real == 77);
        if (type == WSS_JSON_BOOL) CHECK_INT(truth, key[0] == 't');
        else CHECK_INT(truth, 77);
        if (type != WSS_JSON_STRING) CHECK_TEXT(text, "");
    }
}

static void test_values(void) {
    int64_t number = 0;
    double real = 0;
    char text[16];
    size_t length = 99;
    wss_args raw;
    CHECK_INT(wss_get_int(object(), "i", &number), WSS_OK);
    CHECK_INT(number, 43);
    CHECK_INT(wss_get_double(object(), "d", &real), WSS_OK);
    CHECK(real == -2.5);
    CHECK_INT(wss_get_string(object(), "s", text, sizeof text, &length), WSS_OK);
    CHECK_TEXT(text, "a\xc3\xa9\n");
    CHECK_INT(length, 4);
    CHECK_INT(wss_get_raw(object(), "o", &raw), WSS_OK);
    CHECK(raw.length == 11 && memcmp(raw.text, "{ \"i\" : 7 }", 11) == 0);
    CHECK_INT(wss_get_int(raw, "i", &number), WSS_OK);
    CHECK_INT(number, 7);
    CHECK_INT(wss_get_raw(object(), "s", &raw), WSS_OK);
    CHECK(raw.length == 11 && memcmp(raw.text, "\"a\\u00e9\\n\"", 11) == 0);
    CHECK_INT(wss_get_string(raw, NULL, text, sizeof text, NULL), WSS_OK);
    CHECK_INT(wss_get_raw(object(), "s", &raw), WSS_OK);
    CHECK_INT(wss_get_raw(object(), "gone", &raw), WSS_ERR_MISSING);
    CHECK(raw.length == 11);
    CHECK_INT(wss_get_raw(wss_json(" [1] "), NULL, &raw), WSS_OK);
    CHECK(raw.length == 3 && raw.text[0] == '[');
}

static void test_string_sizes(void) {
    wss_args args = wss_json("{\"s\":\"a\\u0000\\ud83d\\ude00\"}");
    for (size_t size = 0; size <= 8; size++) {
        size_t length = 99;
        char *out = guard_copy("--------", size);
        CHECK_INT(wss_get_string(args, "s", out, size, &length), size < 7 ? WSS_ERR_SPACE : WSS_OK);
        CHECK_INT(length, 6);
        if (size >= 7) CHECK(memcmp(out, "a\0\xf0\x9f\x98\x80", 7) == 0);
        else if (size) CHECK_INT(out[0], 0);
        guard_free(out, size);
    }
    size_t length = 99;
    CHECK_INT(wss_get_string(args, "s", NULL, 0, &length), WSS_ERR_SPACE);
    CHECK_INT(length, 6);
    CHECK_INT(wss_get_string(args, "none", NULL, 0, &length), WSS_ERR_MISSING);
    CHECK_INT(length, 0);
    char out[8];
    CHECK_INT(wss_get_string(wss_json("\"\\ud83d\""), NULL, out, sizeof out, NULL), WSS_OK);
    CHECK_TEXT(out, "\xef\xbf\xbd");
    CHECK_INT(wss_get_string(wss_json("\"\xff\""), NULL, out, sizeof out, NULL), WSS_ERR_UTF8);
    CHECK_TEXT(out, "");
}

static void test_reader_errors(void) {
    wss_args none = wss_json(NULL);
    wss_args failed = wss_json("{\"a\":1}");
    int64_t number = 77;
    failed.error = WSS_ERR_SPACE;
    CHECK_INT(wss_get_int(none, "a", &number), WSS_ERR_MISSING);
    CHECK_INT(wss_get_int(none, NULL, &number), WSS_ERR_MISSING);
    CHECK_INT(wss_get_int(failed, "a", &number), WSS_ERR_SPACE);
    CHECK_INT(wss_json_type(failed, NULL), WSS_ERR_SPACE);
    CHECK_INT(wss_get_int(wss_json("[1]"), "a", &number), WSS_ERR_TYPE);
    CHECK_INT(wss_get_int(wss_json("1"), "a", &number), WSS_ERR_TYPE);
    CHECK_INT(wss_get_int(wss_json(""), "a", &number), WSS_ERR_JSON);
    CHECK_INT(wss_get_int(wss_json("{\"a\":1} x"), "a", &number), WSS_ERR_JSON);
    CHECK_INT(wss_get_int(wss_json("{\"a\":1,\"b\":}"), "a", &number), WSS_ERR_JSON);
    CHECK_INT(wss_get_int(wss_json("1 2"), NULL, &number), WSS_ERR_JSON);
    CHECK_INT(number, 77);
    wss_args cut = wss_json("{\"a\":12}xx");
    cut.length = 8;
    CHECK_INT(wss_get_int(cut, "a", &number), WSS_OK);
    CHECK_INT(number, 12);
    cut = wss_json("123");
    cut.length = 2;
    CHECK_INT(wss_get_int(cut, NULL, &number), WSS_OK);
    CHECK_INT(number, 12);
}

static int read_all(wss_args args, const char *key) {
    char text[8];
    int64_t number;
    double real;
    int truth;
    wss_args raw;
    wss_get_string(args, key, text, sizeof text, NULL);
    wss_get_int(args, key, &number);
    wss_get_double(args, key, &real);
    wss_get_bool(args, key, &truth);
    wss_iterator it = wss_iterate(args);
    int rounds = 0;
    while (wss_iterate_next(&it)) {
        rounds++;
        CHECK(it.value.text >= args.text && it.value.length <= args.length);
    }
    CHECK(rounds <= 20);
    return wss_get_raw(args, key, &raw);
}

/* Each prefix, and each byte replaced by each of these, at the edge of what may be read. */
static void test_garbage(void) {
    static const char bytes[] = "\"\\{}[]:,u0-.e \n\x01\x80\xff";
    wss_args whole = object();
    size_t size = whole.length;
    for (size_t i = 0; i < size; i++) {
        char *prefix = guard_copy(whole.text, i);
        wss_args args = whole;
        args.text = prefix;
        args.length = i;
        int complete = i + 1 >= size; /* only the last blank is missing */
        CHECK_INT(read_all(args, "i"), complete ? WSS_OK : WSS_ERR_JSON);
        CHECK_INT(read_all(args, NULL), complete ? WSS_OK : WSS_ERR_JSON);
        guard_free(prefix, i);
        for (size_t k = 0; k < sizeof bytes; k++) {
            char *copy = guard_copy(whole.text, size);
            copy[i] = bytes[k];
            args.text = copy;
            args.length = size;
            int error = wss__json_scan(wss__base_span(copy, size), -1, NULL);
            CHECK_INT(read_all(args, NULL), error);
            if (error) CHECK_INT(read_all(args, "a"), error);
            guard_free(copy, size);
        }
    }
}

static int get_int(const char *text, int64_t *out) {
    *out = 77;
    size_t size = strlen(text);
    wss_args args = wss_json(text);
    char *copy = guard_copy(text, size);
    args.text = copy;
    int error = wss_get_int(args, NULL, out);
    guard_free(copy, size);
    return error;
}

static void test_int(void) {
    static const struct {
        const char *text;
        int64_t value;
    } valid[] = {{"0", 0}, {"-0", 0}, {"-0.0", 0}, {"0e5", 0}, {"0e999999999", 0},
                 {"0.000e-99999999999999999999", 0},
                 {"1", 1}, {"-1", -1}, {"1e3", 1000}, {"10.0", 10}, {"1E+2", 100}, {"100e-2", 1}, {"1.5e1",
                 15},
                 {"-1.50E1", -15}, {"1000000000000000000000e-21", 1}, {"0.000000000000000000001e21", 1},
                 {"9223372036854775807", INT64_MAX}, {"-9223372036854775808", INT64_MIN},
                 {"-9223372036854775808.0", INT64_MIN}, {"9223372036854775807000e-3", INT64_MAX},
                 {"922337203685477580.7e1", INT64_MAX}, {"-922337203685477580.80e1", INT64_MIN},
                 {"9007199254740993", INT64_C(9007199254740993)}, {"9e18", INT64_C(9000000000000000000)}};
    static const char *const range[] = {
        "1.5", "0.1", "1e-1", "15e-1", "9223372036854775808", "-9223372036854775809", "1e19", "9.3e18",
        "-9.3e18", "1e20",
        "18446744073709551615", "18446744073709551616", "99999999999999999999", "1e999999999", "-1e999999999",
        "1e-999999999", "1e99999999999999999999999", "1e-99999999999999999999999", "9223372036854775807.1",
        "0.00000000000000000000000001", "1234567890123456789012345678901234567890e-20"};
    static const char *const json[] = {"", "-", "01", "1.", "1e", "+1", ".5", "0x1", "1 1"};
    int64_t got;
    for (size_t i = 0; i < sizeof valid / sizeof valid[0]; i++) {
        int error = get_int(valid[i].text, &got);
        if (error || got != valid[i].value) printf("%s\n", valid[i].text);
        CHECK_INT(error, WSS_OK);
        CHECK_INT(got, valid[i].value);
    }
    for (size_t i = 0; i < sizeof range / sizeof range[0]; i++) {
        int error = get_int(range[i], &got);
        if (error != WSS_ERR_RANGE) printf("%s\n", range[i]);
        CHECK_INT(error, WSS_ERR_RANGE);
        CHECK_INT(got, 77);
    }
    for (size_t i = 0; i < sizeof json / sizeof json[0]; i++) CHECK_INT(get_int(json[i], &got), WSS_ERR_JSON);
    CHECK_INT(get_int("\"1\"", &got), WSS_ERR_TYPE);
}

/* Ten million digits: what they mean is found in one pass. */
static void test_long_numbers(void) {
    size_t size = 10000000;
    char *text = (char *)malloc(size + 32);
    wss_args args = wss_json("");
    int64_t number = 77;
    double real = 77;
    args.text = text;
    text[0] = '1';
    memset(text + 1, '0', size);
    args.length = size + (size_t)sprintf(text + size, "e-%zu", size - 3);
    CHECK_INT(wss_get_int(args, NULL, &number), WSS_OK);
    CHECK_INT(number, 100);
    CHECK_INT(wss_get_double(args, NULL, &real), WSS_OK);
    CHECK(real == 100);
    memset(text, '0', size);
    text[1] = '.';
    text[size - 1] = '7';
    args.length = size + (size_t)sprintf(text + size, "e%zu", size);
    CHECK_INT(wss_get_int(args, NULL, &number), WSS_OK);
    CHECK_INT(number, 700);
    CHECK_INT(wss_get_double(args, NULL, &real), WSS_OK);
    CHECK(real == 700);
    memset(text, '9', size);
    args.length = size;
    CHECK_INT(wss_get_int(args, NULL, &number), WSS_ERR_RANGE);
    CHECK_INT(wss_get_double(args, NULL, &real), WSS_ERR_RANGE);
    CHECK(number == 700 && real == 700);
    free(text);
}

static void check_double(const char *text) {
    double got = 77;
    double want = strtod(text, NULL);
    int error = wss_get_double(wss_json(text), NULL, &got);
    if (isinf(want)) {
        CHECK_INT(error, WSS_ERR_RANGE);
        CHECK(got == 77);
        return;
    }
    CHECK_INT(error, WSS_OK);
    if (memcmp(&got, &want, sizeof got) != 0) printf("%.80s: %.17g, not %.17g\n", text, got, want);
    CHECK(memcmp(&got, &want, sizeof got) == 0);
}

static void test_double(void) {
    static const char *const texts[] = {
        "0", "-0", "0.0e5", "1", "-1.5", "0.1", "1e22", "1e23", "123456789012345678901234567890",
        "1.7976931348623157e308",
        "1.7976931348623158e308", "1.7976931348623159e308", "1e309", "-1e309", "1e999999999", "1e-999999999",
        "4.9e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "2.2250738585072011e-308",
        "2.2250738585072014e-308", "9007199254740993", "9007199254740992.999999999999999999",
        "0e999999999999999999999",
        "1e99999999999999999999999", "-1e-99999999999999999999999",
        "0.00000000000000000000000000000000000000001e41"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) check_double(texts[i]);
}

/* Halfway between two doubles, and the same with a digit more at various places far behind. */
static void test_double_halfway(void) {
    static const char *const halves[] = {
        "9007199254740993",
        "1.00000000000000011102230246251565404236316680908203125",
        "0.50000000000000005551115123125782702118158340454101562500",
        "1.7976931348623158079372897140530341507993413271003782693617377898044496829276475094664901"
        "797758720709633028641669288791094655554785194040263065748867150582068190890200070838367627"
        "385484581771153176447573027006985557136695962284291481986083493647529271907416844436551070"
        "4342711559699508093042880177904174497792e308"};
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++)
        for (int zeros = 0; zeros < 1700; zeros += zeros < 700 ? 97 : zeros < 830 ? 1 : 211)
            for (int last = 0; last <= 1; last++) {
                char text[2200];
                const char *exponent = strchr(halves[i], 'e');
                int size = exponent ? (int)(exponent - halves[i]) : (int)strlen(halves[i]);
                const char *point = strchr(halves[i], '.') ? "" : ".";
                size = snprintf(text, sizeof text, "%.*s%s", size, halves[i], point);
                memset(text + size, '0', (size_t)zeros);
                snprintf(text + size + zeros, sizeof text - (size_t)(size + zeros), "%d%s", last,
                         exponent ? exponent : "");
                check_double(text);
            }
}

static uint64_t seed = 1;

static uint64_t next_random(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static wss_args put_one(wss_writer *writer, char *buffer, size_t size, double value) {
    wss_writer_init(writer, buffer, size);
    wss_put_double(writer, "d", value);
    return wss_writer_args(writer);
}

static int significant_digits(const char *text) {
    int count = 0;
    int zeros = 0;
    for (; *text && *text != 'e' && *text != '}'; text++) {
        if (*text == '0' && count) zeros++;
        if (*text >= '1' && *text <= '9') {
            count += zeros + 1;
            zeros = 0;
        }
    }
    return count;
}

static void check_shortest(double value) {
    wss_writer writer;
    char buffer[64];
    char shorter[400];
    double back;
    wss_args args = put_one(&writer, buffer, sizeof buffer, value);
    CHECK_INT(args.error, 0);
    CHECK_INT(wss_json_check(args.text, args.length, 0), WSS_OK);
    CHECK_INT(wss_get_double(args, "d", &back), WSS_OK);
    CHECK(memcmp(&back, &value, sizeof back) == 0);
    int digits = significant_digits(args.text + 5);
    if (digits < 2) return;
    snprintf(shorter, sizeof shorter, "%.*g", digits - 1, value);
    CHECK(strtod(shorter, NULL) != value);
}

static void test_put_double(void) {
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "{\"d\":0}"}, {-0.0, "{\"d\":-0}"}, {0.1, "{\"d\":0.1}"}, {-2.5, "{\"d\":-2.5}"},
                 {100000, "{\"d\":100000}"}, {1e20, "{\"d\":1e+20}"}, {1.0 / 3, "{\"d\":0.3333333333333333}"},
                 {0.30000000000000004, "{\"d\":0.30000000000000004}"}, {5e-324, "{\"d\":5e-324}"},
                 {1.7976931348623157e308, "{\"d\":1.7976931348623157e+308}"}};
    wss_writer writer;
    char buffer[64];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_TEXT(put_one(&writer, buffer, sizeof buffer, cases[i].value).text, cases[i].text);
        check_shortest(cases[i].value);
    }
    CHECK_INT(put_one(&writer, buffer, sizeof buffer, HUGE_VAL).error, WSS_ERR_RANGE);
    CHECK_INT(put_one(&writer, buffer, sizeof buffer, -HUGE_VAL).error, WSS_ERR_RANGE);
    CHECK_INT(put_one(&writer, buffer, sizeof buffer, (double)NAN).error, WSS_ERR_RANGE);
    for (int i = 0; i < 30000; i++) {
        uint64_t bits = next_random();
        double value;
        if (i % 3 == 0) bits &= UINT64_C(0x800fffffffffffff) >> i % 40; /* small ones, few digits */
        memcpy(&value, &bits, sizeof value);
        if (isfinite(value)) check_shortest(value);
        check_shortest((double)(int64_t)(bits >> i % 60) / 1000);
    }
}

/* Where no locale with another decimal point is installed, a point of two bytes stands for it. */
static void test_locale(void) {
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "ps_AF.UTF-8", "de_DE", "fr_FR"};
    char text[] = "-1\xd9\xab" "25e-07";
    const char *set = NULL;
    wss__args_delocalize(text);
    CHECK_TEXT(text, "-1.25e-07");
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !set; i++) set = setlocale(LC_ALL, names[i]);
    if (!set) {
        test_skipped++;
        printf("skipped part of test_locale: no locale with a decimal comma is installed\n");
        return;
    }
    wss_writer writer;
    char buffer[64];
    double back = 0;
    wss_args args = put_one(&writer, buffer, sizeof buffer, -1234.5);
    CHECK_TEXT(args.text, "{\"d\":-1234.5}");
    CHECK_INT(wss_get_double(args, "d", &back), WSS_OK);
    CHECK(back == -1234.5);
    setlocale(LC_ALL, "C");
}

static void test_iterate(void) {
    static const char *const keys[] = {"\"s\"", "\"i\"", "\"d\"", "\"t\"", "\"f\"", "\"n\"", "\"o\"", "\"a\"",
                                       "\"\"", "\"\\u006bey\"", "\"i\""};
    int count = 0;
    wss_iterator it = wss_iterate(object());
    for (; wss_iterate_next(&it); count++) {
        wss__span key = wss__base_span(it.key.text, it.key.length);
        if (count < 11) CHECK(wss__base_equal(key, wss__base_text(keys[count])));
    }
    CHECK_INT(count, 11);
    CHECK_INT(it.value.error, WSS_OK);
    CHECK(it.value.text == NULL);
    CHECK(!wss_iterate_next(&it));
    int64_t sum = 0;
    for (it = wss_iterate(wss_json("[ 1 , 20,300 ]")); wss_iterate_next(&it);) {
        int64_t number = 0;
        CHECK(it.key.text == NULL);
        CHECK_INT(wss_get_int(it.value, NULL, &number), WSS_OK);
        sum += number;
    }
    CHECK_INT(sum, 321);
}

static void check_iteration(const char *text, int rounds, int error) {
    wss_iterator it = wss_iterate(wss_json(text));
    while (wss_iterate_next(&it)) rounds--;
    CHECK_INT(rounds, 0);
    CHECK_INT(it.value.error, error);
    CHECK(!wss_iterate_next(&it));
    CHECK_INT(it.value.error, error);
}

static void test_iterate_ends(void) {
    check_iteration("[]", 0, WSS_OK);
    check_iteration(" { } ", 0, WSS_OK);
    check_iteration("[[1,2],[3]]", 2, WSS_OK);
    check_iteration("1", 0, WSS_ERR_TYPE);
    check_iteration("\"[]\"", 0, WSS_ERR_TYPE);
    check_iteration(NULL, 0, WSS_ERR_MISSING);
    check_iteration("", 0, WSS_ERR_JSON);
    check_iteration("[1,2", 2, WSS_ERR_JSON);
    check_iteration("[1,2,]", 2, WSS_ERR_JSON);
    check_iteration("[,1]", 0, WSS_ERR_JSON);
    check_iteration("[1 2]", 1, WSS_ERR_JSON);
    check_iteration("[1,2]]", 2, WSS_ERR_JSON);
    check_iteration("{\"a\":1,\"b\"}", 1, WSS_ERR_JSON);
    check_iteration("{\"a\":1,2}", 1, WSS_ERR_JSON);
    static char deep[2100];
    memset(deep, '[', 1024);
    memset(deep + 1024, ']', 1024);
    check_iteration(deep, 1, WSS_OK);
    memset(deep, '[', 1025);
    memset(deep + 1025, ']', 1025);
    check_iteration(deep, 0, WSS_ERR_DEPTH);
    wss_args failed = wss_json("[1]");
    failed.error = WSS_ERR_SPACE;
    wss_iterator it = wss_iterate(failed);
    CHECK(!wss_iterate_next(&it));
    CHECK_INT(it.value.error, WSS_ERR_SPACE);
}

/* Everything a writer can do; the same text whether the buffer grows or not. */
static wss_args write_all(wss_writer *writer) {
    wss_args raw = wss_json("[1, {\"x\":null}]");
    wss_put_string(writer, "s", "a\"\\\n\x01\xc3\xa9");
    wss_put_text(writer, "t", "a\0b", 3);
    wss_put_text(writer, "e", NULL, 0);
    wss_put_int(writer, "min", INT64_MIN);
    wss_put_int(writer, "max", INT64_MAX);
    wss_put_double(writer, "d", 0.5);
    wss_put_bool(writer, "yes", 2);
    wss_put_bool(writer, "no", 0);
    wss_put_null(writer, "n\n");
    wss_put_raw(writer, "raw", raw);
    wss_put_raw(writer, "none", wss_json(NULL));
    wss_put_object(writer, "o");
    wss_put_end(writer);
    wss_put_array(writer, "a");
    wss_put_int(writer, NULL, 1);
    wss_put_object(writer, NULL);
    wss_put_int(writer, "k", 2);
    wss_put_end(writer);
    wss_put_array(writer, NULL);
    wss_put_end(writer);
    wss_put_string(writer, NULL, "last");
    wss_put_end(writer);
    wss_put_array(writer, "open");
    wss_put_object(writer, NULL);
    return wss_writer_args(writer);
}

static const char everything[] =
    "{\"s\":\"a\\\"\\\\\\n\\u0001\xc3\xa9\",\"t\":\"a\\u0000b\",\"e\":\"\",\"min\":-9223372036854775808,"
    "\"max\":9223372036854775807,\"d\":0.5,\"yes\":true,\"no\":false,\"n\\n\":null,\"raw\":[1, {\"x\":null}],"
    "\"none\":{},\"o\":{},\"a\":[1,{\"k\":2},[],\"last\"],\"open\":[{}]}";

static void test_write_all(void) {
    wss_writer writer;
    size_t need = sizeof everything;
    for (size_t size = 0; size <= need + 1; size++) {
        char *zeros = (char *)calloc(1, size + 1);
        char *buffer = guard_copy(zeros, size);
        wss_writer_init(&writer, buffer, size);
        wss_args args = write_all(&writer);
        CHECK_INT(args.error, size < need ? WSS_ERR_SPACE : WSS_OK);
        if (size < need) CHECK(args.text == NULL);
        else CHECK_TEXT(args.text, everything);
        if (size >= need) CHECK_INT(args.length, need - 1);
        wss_args again = wss_writer_args(&writer);
        CHECK(again.text == args.text && again.length == args.length && again.error == args.error);
        wss_writer_free(&writer);
        guard_free(buffer, size);
        free(zeros);
    }
    CHECK_INT(wss_json_check(everything, need - 1, 0), WSS_OK);
}

/* The first, second, ... allocation fails, until none does. */
static void test_grow(void) {
    wss_writer writer;
    int failures = 0;
    for (int k = 0; k < 20; k++) {
        allocations_left = k;
        wss_writer_init(&writer, NULL, 0);
        wss_put_text(&writer, "long", everything, 10);
        for (int i = 0; i < 300; i++) wss_put_int(&writer, "n", i);
        wss_args args = wss_writer_args(&writer);
        if (args.error) CHECK_INT(args.error, WSS_ERR_MEMORY);
        else CHECK_INT(wss_json_check(args.text, args.length, 0), WSS_OK);
        failures += args.error != 0;
        wss_writer_free(&writer);
        wss_writer_free(&writer);
    }
    allocations_left = -1;
    CHECK(failures > 2 && failures < 15);
    wss_writer_init(&writer, NULL, 0);
    CHECK_TEXT(write_all(&writer).text, everything);
    wss_writer_free(&writer);
}

static void check_error(const wss_writer *from, int error) {
    wss_writer writer = *from;
    wss_put_int(&writer, "more", 1);
    wss_put_int(&writer, NULL, 1);
    wss_put_end(&writer);
    wss_args args = wss_writer_args(&writer);
    CHECK_INT(args.error, error);
    CHECK(args.text == NULL && args.length == 0);
    int64_t number;
    CHECK_INT(wss_get_int(args, "more", &number), error);
}

/* Each misuse sticks, and what comes later does not hide it. */
static void test_writer_errors(void) {
    char buffer[256];
    wss_writer w;
    for (int kind = 0; kind < 16; kind++) {
        int error = WSS_ERR_ARGUMENT;
        wss_args bad = wss_json("[1,]");
        wss_writer_init(&w, buffer, sizeof buffer);
        if (kind == 0) wss_put_int(&w, NULL, 1);
        if (kind == 1) wss_put_array(&w, "a"), wss_put_int(&w, "key", 1);
        if (kind == 2) wss_put_end(&w);
        if (kind == 3) wss_put_array(&w, "a"), wss_put_end(&w), wss_put_end(&w);
        if (kind == 4) wss_put_string(&w, "s", NULL);
        if (kind == 5) wss_put_text(&w, "s", NULL, 1);
        if (kind == 6) wss_put_string(&w, "s", "\xff"), error = WSS_ERR_UTF8;
        if (kind == 7) wss_put_string(&w, "s", "cut \xc3"), error = WSS_ERR_UTF8;
        if (kind == 8) wss_put_int(&w, "\x80", 1), error = WSS_ERR_UTF8;
        if (kind == 9) wss_put_raw(&w, "r", bad), error = WSS_ERR_JSON;
        if (kind == 10) wss_put_raw(&w, "r", wss_json("\"\xff\"")), error = WSS_ERR_UTF8;
        if (kind == 11) wss_put_raw(&w, "r", wss_json("")), error = WSS_ERR_JSON;
        if (kind == 12) bad.error = WSS_ERR_DEPTH, wss_put_raw(&w, "r", bad), error = WSS_ERR_DEPTH;
        if (kind == 13) wss_put_double(&w, "d", HUGE_VAL), error = WSS_ERR_RANGE;
        if (kind == 14) wss_writer_args(&w), wss_put_int(&w, "late", 1);
        if (kind == 15) memset(&w, 0, sizeof w);
        check_error(&w, error);
    }
}

static void test_writer_depth(void) {
    wss_writer writer;
    static char deep[2100];
    wss_writer_init(&writer, NULL, 0);
    for (int i = 1; i < 256; i++) {
        if (i % 2) wss_put_array(&writer, "a");
        else wss_put_object(&writer, NULL);
    }
    CHECK_INT(writer.error, 0);
    wss_put_null(&writer, NULL);
    wss_args args = wss_writer_args(&writer);
    CHECK_INT(wss_json_check(args.text, args.length, 256), WSS_OK);
    CHECK_INT(wss_json_check(args.text, args.length, 255), WSS_ERR_DEPTH);
    wss_writer_free(&writer);
    wss_writer_init(&writer, NULL, 0);
    for (int i = 1; i < 257; i++) {
        if (i % 2) wss_put_array(&writer, "a");
        else wss_put_object(&writer, NULL);
    }
    CHECK_INT(wss_writer_args(&writer).error, WSS_ERR_DEPTH);
    wss_writer_free(&writer);
    memset(deep, '[', 1024);
    memset(deep + 1024, ']', 1024);
    for (size_t depth = 1022; depth <= 1024; depth++) {
        args.text = deep + 1024 - depth;
        args.length = depth * 2;
        args.error = 0;
        wss_writer_init(&writer, NULL, 0);
        wss_put_raw(&writer, "r", args);
        CHECK_INT(wss_writer_args(&writer).error, depth < 1024 ? WSS_OK : WSS_ERR_DEPTH);
        wss_writer_free(&writer);
    }
}

/* What was written is read back. */
static void test_round_trip(void) {
    for (int i = 0; i < 2000; i++) {
        char text[40];
        char back[40];
        size_t size = 0;
        size_t length = 0;
        size_t want = (size_t)(next_random() % 30);
        while (size < want) {
            uint32_t code = (uint32_t)next_random() >> next_random() % 26;
            size += (size_t)wss__utf8_encode(code % 0x110000, text + size);
        }
        wss_writer writer;
        wss_writer_init(&writer, NULL, 0);
        wss_put_text(&writer, "key", text, size);
        wss_put_int(&writer, "int", (int64_t)next_random());
        wss_args args = wss_writer_args(&writer);
        CHECK_INT(wss_json_check(args.text, args.length, 0), WSS_OK);
        CHECK_INT(wss_get_string(args, "key", back, sizeof back, &length), WSS_OK);
        CHECK(length == size && memcmp(back, text, size) == 0);
        wss_writer_free(&writer);
    }
}

/* ---- what 0.2.0 added ---- */

static void test_uint(void) {
    static const struct {
        const char *text;
        int error;
        uint64_t want;
    } cases[] = {{"0", WSS_OK, 0}, {"-0", WSS_OK, 0}, {"-0.0", WSS_OK, 0}, {"1e3", WSS_OK, 1000},
                 {"18446744073709551615", WSS_OK, UINT64_MAX}, {"1844674407370955161.5e1", WSS_OK, UINT64_MAX},
                 {"18446744073709551616", WSS_ERR_RANGE, 0}, {"18446744073709551620", WSS_ERR_RANGE, 0},
                 {"99999999999999999999", WSS_ERR_RANGE, 0}, {"1e19", WSS_OK, 10000000000000000000u},
                 {"1e20", WSS_ERR_RANGE, 0}, {"100000000000000000000", WSS_ERR_RANGE, 0}, {"-1", WSS_ERR_RANGE, 0},
                 {"0.5", WSS_ERR_RANGE, 0}, {"\"1\"", WSS_ERR_TYPE, 0}, {"", WSS_ERR_JSON, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t got = 77;
        int64_t number = 77;
        CHECK_INT(wss_get_uint(wss_json(cases[i].text), NULL, &got), cases[i].error);
        CHECK(got == (cases[i].error ? 77 : cases[i].want));
        int fits = !cases[i].error && cases[i].want <= INT64_MAX;
        int below = strcmp(cases[i].text, "-1") == 0;
        CHECK_INT(wss_get_int(wss_json(cases[i].text), NULL, &number),
                  fits || below ? WSS_OK : cases[i].error ? cases[i].error : WSS_ERR_RANGE);
    }
    wss_writer writer;
    char buffer[100];
    uint64_t back = 0;
    wss_writer_init(&writer, buffer, sizeof buffer);
    wss_put_uint(&writer, "u", UINT64_MAX);
    wss_put_uint(&writer, "z", 0);
    CHECK_TEXT(wss_writer_args(&writer).text, "{\"u\":18446744073709551615,\"z\":0}");
    CHECK_INT(wss_get_uint(wss_writer_args(&writer), "u", &back), WSS_OK);
    CHECK(back == UINT64_MAX);
}

/* Who reads a string as a C string must not take its beginning for the whole. */
static void test_string_with_nul(void) {
    char out[16];
    size_t length = 0;
    wss_args args = wss_json("{\"s\":\"admin\\u0000x\",\"e\":\"\\u0000\",\"l\":\"0123456789012345\\u0000\"}");
    CHECK_INT(wss_get_string(args, "s", out, sizeof out, NULL), WSS_ERR_TYPE);
    CHECK_TEXT(out, "");
    CHECK_INT(wss_get_string(args, "e", out, sizeof out, NULL), WSS_ERR_TYPE);
    CHECK_INT(wss_get_string(args, "s", out, sizeof out, &length), WSS_OK);
    CHECK_INT(length, 7);
    CHECK_INT(memcmp(out, "admin\0x", 8), 0);
    CHECK_INT(wss_get_string(args, "l", out, sizeof out, NULL), WSS_ERR_SPACE);
}

static void test_put_bytes(void) {
    static const struct {
        const char *bytes;
        const char *want;
    } cases[] = {{"", ""}, {"plain", "plain"}, {"a\"\\\n", "a\\\"\\\\\\n"}, {"\xc3\xa9", "\xc3\xa9"},
                 {"\xff", "\xef\xbf\xbd"}, {"a\xc3", "a\xef\xbf\xbd"}, {"\xc3(", "\xef\xbf\xbd("},
                 {"\xe2\x82", "\xef\xbf\xbd"}, {"\xe2\x82(", "\xef\xbf\xbd("}, {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
                 {"\xf0\x9f\x98", "\xef\xbf\xbd"}, {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
                 {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
                 {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
                 {"\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd"}, {"0123456789012345678901234567890\xff" "1",
                 "0123456789012345678901234567890\xef\xbf\xbd" "1"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        wss_writer writer;
        char want[200];
        snprintf(want, sizeof want, "{\"b\":\"%s\"}", cases[i].want);
        wss_writer_init(&writer, NULL, 0);
        wss_put_bytes(&writer, "b", cases[i].bytes, strlen(cases[i].bytes));
        wss_args args = wss_writer_args(&writer);
        CHECK_INT(args.error, WSS_OK);
        CHECK_TEXT(args.text, want);
        CHECK_INT(wss_json_check(args.text, args.length, 0), WSS_OK);
        wss_writer_free(&writer);
    }
    for (size_t room = 0; room < 16; room++) { /* each place at which a buffer can end */
        char buffer[16];
        wss_writer writer;
        wss_writer_init(&writer, buffer, room);
        wss_put_bytes(&writer, "b", "a\xff" "b", 3);
        CHECK_INT(wss_writer_args(&writer).error, room < 14 ? WSS_ERR_SPACE : WSS_OK);
    }
    wss_writer writer;
    wss_writer_init(&writer, NULL, 0);
    wss_put_bytes(&writer, "b", NULL, 0);
    CHECK_TEXT(wss_writer_args(&writer).text, "{\"b\":\"\"}");
    wss_put_bytes(&writer, "b", NULL, 1);
    CHECK_INT(wss_writer_args(&writer).error, WSS_ERR_ARGUMENT);
    wss_writer_free(&writer);
}

/* Every text of up to four bytes from the edges of UTF-8 becomes valid, keeps what was valid, and loses nothing else. */
static void test_put_bytes_is_valid(void) {
    static const unsigned char edges[] = {0x00, 'a', 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xe0, 0xe1,
                                          0xed, 0xef, 0xf0, 0xf3, 0xf4, 0xf5, 0xff};
    const int count = (int)sizeof edges;
    for (int number = 0; number < count * count * count * count; number++) {
        char bytes[4];
        char buffer[64];
        char out[32];
        size_t length = 0;
        wss_writer writer;
        for (int i = 0, rest = number; i < 4; i++, rest /= count) bytes[i] = (char)edges[rest % count];
        wss_writer_init(&writer, buffer, sizeof buffer);
        wss_put_bytes(&writer, "b", bytes, 4);
        wss_args args = wss_writer_args(&writer);
        int good = args.error == WSS_OK && wss_get_string(args, "b", out, sizeof out, &length) == WSS_OK;
        int valid = wss__utf8_check(0, bytes, 4) == 0;
        if (!good || (valid && (length != 4 || memcmp(out, bytes, 4) != 0)) || (!valid && length < 3)) {
            CHECK(0);
            return;
        }
    }
}

static size_t allocated, own_calls;

static void *own_allocator(void *context, void *pointer, size_t old_size, size_t new_size) {
    CHECK(context == &allocated);
    own_calls++;
    allocated += new_size - old_size;
    if (new_size) return realloc(pointer, new_size);
    free(pointer);
    return NULL;
}

static void test_writer_allocator(void) {
    wss_writer writer;
    wss_writer_init_with(&writer, own_allocator, &allocated);
    for (int i = 0; i < 1000; i++) wss_put_int(&writer, "number", i);
    CHECK_INT(wss_writer_args(&writer).error, WSS_OK);
    CHECK(own_calls > 3 && allocated >= writer.length);
    wss_writer_free(&writer);
    CHECK_INT(allocated, 0);
    wss_writer_init_with(&writer, NULL, NULL);
    CHECK_TEXT(wss_writer_args(&writer).text, "{}");
    wss_writer_free(&writer);
}

/* ---- the index ---- */

enum { MEMBERS = 400 };

static wss__mem memory;

/* Hands args to this thread, as a handler gets them. */
static void hand(wss_args args) {
    wss_options options;
    memset(&options, 0, sizeof options);
    options.memory_budget = WSS_UNLIMITED;
    wss__mem_init(&memory, &options);
    memset(&wss__args_handed, 0, sizeof wss__args_handed);
    wss__args_handed.text = args.text;
    wss__args_handed.length = args.length;
    wss__args_handed.mem = &memory;
    wss__args_handed.seed = 12345;
}

static void take_back(void) {
    wss__args_forget(&wss__args_handed);
    memset(&wss__args_handed, 0, sizeof wss__args_handed);
    CHECK_INT(memory.used, 0);
}

/* Names that repeat, with and without escapes, empty, long, and with U+0000. */
static size_t make_members(char *text, size_t size) {
    size_t at = (size_t)snprintf(text, size, "{");
    for (int i = 0; i < MEMBERS; i++) {
        at += (size_t)snprintf(text + at, size - at, "%s\"%s%d\" : ", i ? ", " : "", i % 3 ? "m" : "\\u006d", i % 250);
        at += (size_t)snprintf(text + at, size - at, i % 5 ? "%d" : "{\"m1\":[%d]}", i);
    }
    at += (size_t)snprintf(text + at, size - at, ",\"\":\"empty\",\"n\\u0000l\":1,\"%0130d\":2,\"%0130d\":3,\"%0131d\":4}", 0, 1, 1);
    return at;
}

/* With an index each read finds what a scan finds. */
static void test_index(void) {
    static char text[20000];
    char name[160];
    wss_args args = {text, make_members(text, sizeof text), WSS_OK};
    CHECK_INT(wss_json_check(text, args.length, 0), WSS_OK);
    hand(args);
    for (int i = -1; i < 255; i++) {
        wss_args raw = {NULL, 0, 0};
        wss_args scanned = {NULL, 0, 0};
        if (i > 251) snprintf(name, sizeof name, "%0*d", 130 + (i == 254), i != 252);
        else if (i < 0 || i == 251) snprintf(name, sizeof name, "%s", i < 0 ? "" : "n");
        else snprintf(name, sizeof name, "m%d", i);
        int found = wss_get_raw(args, name, &raw);
        int read = wss__args_handed.reads;
        wss__args_handed.text = NULL;
        CHECK_INT(wss_get_raw(args, name, &scanned), found);
        wss__args_handed.text = text;
        CHECK(raw.text == scanned.text && raw.length == scanned.length);
        CHECK_INT(read, i + 2);
        CHECK_INT(wss__args_handed.index != NULL, i >= 0);
    }
    wss_args copy = {strdup(text), args.length, WSS_OK};
    int reads = wss__args_handed.reads;
    CHECK_INT(wss_json_type(copy, "m1"), WSS_JSON_NUMBER);
    CHECK_INT(wss__args_handed.reads, reads);
    free((void *)(uintptr_t)copy.text);
    take_back();
}

/* Short args have none; nor have those for which there is no memory: they are scanned. */
static void test_index_is_spared(void) {
    static char text[20000];
    int64_t number = 0;
    wss_args args = wss_json("{\"a\":1}");
    hand(args);
    for (int i = 0; i < 5; i++) CHECK_INT(wss_get_int(args, "a", &number), WSS_OK);
    CHECK(!wss__args_handed.index);
    take_back();
    args.text = text;
    args.length = make_members(text, sizeof text);
    hand(args);
    memory.budget = 100;
    for (int i = 0; i < 5; i++) CHECK_INT(wss_get_int(args, "m1", &number), WSS_OK);
    CHECK_INT(number, 251);
    CHECK(!wss__args_handed.index);
    memory.budget = WSS_UNLIMITED;
    take_back();
    memset(text, ' ', 2000);
    memcpy(text, "{", 1);
    memcpy(text + 1999, "}", 1);
    args.length = 2000;
    hand(args);
    for (int i = 0; i < 3; i++) CHECK_INT(wss_get_int(args, "a", &number), WSS_ERR_MISSING);
    CHECK(wss__args_handed.index != NULL); /* an object of blanks is long to scan, too */
    take_back();
}

int main(void) {
    RUN(test_make);
    RUN(test_check);
    RUN(test_types);
    RUN(test_values);
    RUN(test_string_sizes);
    RUN(test_reader_errors);
    RUN(test_garbage);
    RUN(test_int);
    RUN(test_long_numbers);
    RUN(test_double);
    RUN(test_double_halfway);
    RUN(test_put_double);
    RUN(test_locale);
    RUN(test_iterate);
    RUN(test_iterate_ends);
    RUN(test_write_all);
    RUN(test_grow);
    RUN(test_writer_errors);
    RUN(test_writer_depth);
    RUN(test_round_trip);
    RUN(test_uint);
    RUN(test_string_with_nul);
    RUN(test_put_bytes);
    RUN(test_put_bytes_is_valid);
    RUN(test_writer_allocator);
    RUN(test_index);
    RUN(test_index_is_spared);
    return test_end("args");
}
