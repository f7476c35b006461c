/* Unit tests of [base]: spans, case folding, byte order, sizes that saturate, lists, numbers, copying out. */
#include "../library.h"

#include "../test.h"

static void spans(void) {
    static const char text[] = "abc\0def";
    wss__span none = wss__base_text(NULL);
    CHECK(!none.data && none.size == 0);
    CHECK_INT(wss__base_text("").size, 0);
    CHECK(wss__base_text("").data != NULL);
    CHECK_INT(wss__base_text(text).size, 3);
    CHECK_INT(wss__base_span(text, 7).size, 7);
    CHECK(wss__base_span(text, 7).data == text);
}

static void equal(void) {
    CHECK(wss__base_equal(wss__base_text(NULL), wss__base_text("")));
    CHECK(wss__base_equal(wss__base_text("abc"), wss__base_text("abc")));
    CHECK(!wss__base_equal(wss__base_text("abc"), wss__base_text("abC")));
    CHECK(!wss__base_equal(wss__base_text("abc"), wss__base_text("ab")));
    CHECK(!wss__base_equal(wss__base_text("ab"), wss__base_text("abc")));
    CHECK(!wss__base_equal(wss__base_span("a\0b", 3), wss__base_span("a\0c", 3)));
    CHECK(wss__base_equal(wss__base_span("a\0b", 3), wss__base_span("a\0b", 3)));
}

/* Folds the 26 letters of ASCII and nothing else. */
static void fold(void) {
    for (int a = 0; a < 256; a++) {
        char c = (char)(unsigned char)a;
        int want = a >= 0x41 && a <= 0x5a ? a + 0x20 : a;
        CHECK_INT((unsigned char)wss__base_lower(c), want);
        for (int b = 0; b < 256; b++) {
            char d = (char)(unsigned char)b;
            int want_d = b >= 0x41 && b <= 0x5a ? b + 0x20 : b;
            CHECK_INT(wss__base_equal_fold(wss__base_span(&c, 1), wss__base_span(&d, 1)), want == want_d);
        }
    }
    CHECK(wss__base_equal_fold(wss__base_text(NULL), wss__base_text("")));
    CHECK(wss__base_equal_fold(wss__base_text("UpGrade"), wss__base_text("uPgRADE")));
    CHECK(!wss__base_equal_fold(wss__base_text("upgrade"), wss__base_text("upgrad")));
    CHECK(!wss__base_equal_fold(wss__base_text("upgrad"), wss__base_text("upgrade")));
    CHECK(!wss__base_equal_fold(wss__base_text("upgrade"), wss__base_text("upgradf")));
}

static void big_endian(void) {
    static const unsigned char bytes[8] = {0x81, 0x02, 0xf3, 0x04, 0x95, 0x06, 0x07, 0xff};
    static const uint64_t wants[9] = {0,          0x81,           0x8102,           0x8102f3,          0x8102f304,
                                      UINT64_C(0x8102f30495), UINT64_C(0x8102f3049506), UINT64_C(0x8102f304950607),
                                      UINT64_C(0x8102f304950607ff)};
    for (int count = 0; count <= 8; count++) {
        char *copy = guard_copy(bytes, (size_t)count);
        char *room = guard_copy(bytes, (size_t)count);
        CHECK(wss__base_load_be(copy, count) == wants[count]);
        memset(room, 0x5a, (size_t)count);
        wss__base_store_be(room, wants[count], count);
        CHECK(memcmp(room, bytes, (size_t)count) == 0);
        guard_free(room, (size_t)count);
        guard_free(copy, (size_t)count);
    }
    char out[10];
    memset(out, 0x5a, sizeof out);
    wss__base_store_be(out + 1, UINT64_C(0x1122334455667788), 2); /* the low bytes, and no neighbour */
    CHECK(memcmp(out, "\x5a\x77\x88\x5a", 4) == 0);
    for (int bit = 0; bit < 64; bit++) {
        wss__base_store_be(out, (uint64_t)1 << bit, 8);
        CHECK(wss__base_load_be(out, 8) == (uint64_t)1 << bit);
        CHECK_INT((unsigned char)out[7 - bit / 8], 1 << bit % 8);
    }
}

static void smaller_and_larger(void) {
    CHECK(wss__base_min(0, SIZE_MAX) == 0 && wss__base_min(SIZE_MAX, 0) == 0 && wss__base_min(7, 7) == 7);
    CHECK(wss__base_max(0, SIZE_MAX) == SIZE_MAX && wss__base_max(SIZE_MAX, 0) == SIZE_MAX && wss__base_max(7, 7) == 7);
}

/* Both against a reference in numbers twice as wide, made of halves: on 64 bits there is no wider standard type. */
static void saturating(void) {
    const size_t half = sizeof(size_t) * 4;
    const size_t values[] = {0, 1, 2, 3, 15, 16, 17, ((size_t)1 << half) - 1, (size_t)1 << half, ((size_t)1 << half) + 1,
                             SIZE_MAX / 3, SIZE_MAX / 2, SIZE_MAX / 2 + 1, SIZE_MAX - 2, SIZE_MAX - 1, SIZE_MAX};
    const size_t count = sizeof values / sizeof values[0];
    const size_t mask = ((size_t)1 << half) - 1;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            size_t a = values[i];
            size_t b = values[j];
            size_t sum_low = (a & mask) + (b & mask);
            size_t sum_high = (a >> half) + (b >> half) + (sum_low >> half);
            size_t sum = sum_high >> half ? SIZE_MAX : sum_high << half | (sum_low & mask);
            CHECK(wss__base_add(a, b) == sum);
            size_t low = (a & mask) * (b & mask);
            size_t one = (a >> half) * (b & mask) + (low >> half);
            size_t two = (a & mask) * (b >> half) + (one & mask);
            size_t over = (a >> half) * (b >> half) + (one >> half) + (two >> half);
            size_t product = over ? SIZE_MAX : two << half | (low & mask);
            CHECK(wss__base_multiply(a, b) == product);
        }
    }
}

static void check_items(const char *list, char separator, const char *want) {
    char got[256];
    size_t size = strlen(list);
    char *copy = guard_copy(list, size);
    wss__span rest = wss__base_span(copy, size);
    wss__span item;
    size_t at = 0;
    while (wss__base_next_item(&rest, separator, &item)) {
        CHECK(item.data >= copy && item.data <= copy + size && item.size <= (size_t)(copy + size - item.data));
        at += (size_t)snprintf(got + at, sizeof got - at, "[%.*s]", (int)item.size, item.data);
    }
    got[at] = 0;
    CHECK_TEXT(got, want);
    CHECK(!rest.data && rest.size == 0);
    CHECK(!wss__base_next_item(&rest, separator, &item));
    guard_free(copy, size);
}

static void items(void) {
    check_items("", ',', "[]");
    check_items(",", ',', "[][]");
    check_items("a", ',', "[a]");
    check_items("a,b", ',', "[a][b]");
    check_items(" \ta\t ,\t b c \t", ',', "[a][b c]");
    check_items("a,,b,", ',', "[a][][b][]");
    check_items(" , ", ',', "[][]");
    check_items("a;b,c", ';', "[a][b,c]");
    check_items("a\r\n,\vb", ',', "[a\r\n][\vb]");
    check_items("   ", ',', "[]");
    wss__span none = wss__base_text(NULL);
    wss__span item;
    CHECK(!wss__base_next_item(&none, ',', &item));
}

/* A prefix is taken in the way it is compared, and nothing of the text where it is not there. */
static void prefixes(void) {
    char *copy = guard_copy("FD:7", 4);
    wss__span rest = wss__base_span(copy, 4);
    CHECK(!wss__base_take_prefix(&rest, "fd:", wss__base_equal));
    CHECK(!wss__base_take_prefix(&rest, "fd:77", wss__base_equal_fold)); /* more than there is */
    CHECK(rest.data == copy && rest.size == 4);
    CHECK(wss__base_take_prefix(&rest, "fd:", wss__base_equal_fold));
    CHECK(rest.data == copy + 3 && rest.size == 1);
    CHECK(wss__base_take_prefix(&rest, "7", wss__base_equal));
    CHECK(rest.data == copy + 4 && rest.size == 0);
    guard_free(copy, 4);
}

static void ends(void) {
    char *copy = guard_copy("a.B", 3);
    wss__span text = wss__base_span(copy, 3);
    CHECK(wss__base_ends_fold(text, wss__base_text(".b")));
    CHECK(!wss__base_ends_fold(text, wss__base_text(".c")));
    CHECK(!wss__base_ends_fold(text, wss__base_text("a.b"))); /* nothing stands before it */
    CHECK(!wss__base_ends_fold(text, wss__base_text("xa.b")));
    guard_free(copy, 3);
}

static void inside(void) {
    static const char *const samples[][2] = {{"[::1]", "::1"}, {"[]", ""}, {"[", "["}, {"", ""}, {"[a", "[a"}, {"a]", "a]"},
                                             {"[[a]]", "[a]"}, {"a", "a"}};
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        size_t size = strlen(samples[i][0]);
        char *copy = guard_copy(samples[i][0], size);
        CHECK(wss__base_equal(wss__base_inside(wss__base_span(copy, size), '[', ']'), wss__base_text(samples[i][1])));
        guard_free(copy, size);
    }
}

static void lists_that_name_something(void) {
    CHECK(!wss__base_has_item(wss__base_text(NULL)));
    CHECK(!wss__base_has_item(wss__base_text("")));
    CHECK(!wss__base_has_item(wss__base_text(" ,\t,, ")));
    CHECK(wss__base_has_item(wss__base_text(",,a")));
    CHECK(wss__base_has_item(wss__base_text("a")));
}

/* port: NULL where the text has none. */
static void check_host(const char *text, const char *name, const char *port) {
    size_t size = strlen(text);
    char *copy = guard_copy(text, size);
    wss__span found;
    CHECK(wss__base_equal(wss__base_host(wss__base_span(copy, size), &found), wss__base_text(name)));
    CHECK(!found.data == !port && wss__base_equal(found, wss__base_text(port)));
    guard_free(copy, size);
}

static void hosts(void) {
    check_host("", "", NULL);
    check_host("a", "a", NULL);
    check_host("a:", "a", "");
    check_host(":80", "", "80");
    check_host("a:80", "a", "80");
    check_host("a:80:90", "a", "80:90");
    check_host("[::1]", "[::1]", NULL);
    check_host("[::1]:80", "[::1]", "80");
    check_host("[::1]x:80", "[::1]x", "80");
    check_host("[::1", "[::1", NULL);
    check_host("[", "[", NULL);
    check_host("::1", "", ":1");
}

static void hex(void) {
    static const char digits[] = "0123456789abcdef";
    static const char upper[] = "0123456789ABCDEF";
    for (int c = 0; c < 256; c++) {
        const char *low = c ? strchr(digits, c) : NULL;
        const char *high = c ? strchr(upper, c) : NULL;
        int want = low ? (int)(low - digits) : high ? (int)(high - upper) : -1;
        CHECK_INT(wss__base_hex((char)(unsigned char)c), want);
    }
}

static void numbers(void) {
    static const struct {
        const char *text;
        int most;
        int want;
    } samples[] = {
        {"", 65535, -1},        {"0", 65535, 0},          {"00", 65535, 0},        {"65535", 65535, 65535},
        {"65536", 65535, -1},   {"0000065535", 65535, 65535}, {"-1", 65535, -1},   {"+1", 65535, -1},
        {" 1", 65535, -1},      {"1 ", 65535, -1},        {"1x", 65535, -1},       {"x", 65535, -1},
        {"0x10", 65535, -1},    {"9", 8, -1},             {"8", 8, 8},             {"0", 0, 0},
        {"1", 0, -1},           {"214748363", INT_MAX / 10 - 1, 214748363},        {"214748364", INT_MAX / 10 - 1, -1},
        {"2147483648", INT_MAX / 10 - 1, -1}, {"99999999999999999999999999", INT_MAX / 10 - 1, -1},
        {"4294967296", 65535, -1}, {"18446744073709551616", 65535, -1},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        size_t size = strlen(samples[i].text);
        char *copy = guard_copy(samples[i].text, size);
        CHECK_INT(wss__base_number(wss__base_span(copy, size), samples[i].most), samples[i].want);
        guard_free(copy, size);
    }
}

static void made_of(void) {
    for (int c = 0; c < 256; c++) {
        char text[3] = {'a', (char)(unsigned char)c, '9'};
        int plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        CHECK_INT(wss__base_is_made_of(wss__base_span(text, 3), ""), plain);
        CHECK_INT(wss__base_is_made_of(wss__base_span(text, 3), "-@"), plain || c == '-' || c == '@');
        CHECK_INT(wss__base_is_made_of(wss__base_span(text + 1, 1), "-@"), plain || c == '-' || c == '@');
    }
    CHECK(!wss__base_is_made_of(wss__base_text(""), "-"));
    CHECK(!wss__base_is_made_of(wss__base_text(NULL), "-"));
}

/* size from nothing to plenty: never a byte beyond it, always NUL where there is room for one. */
static void copy_out(void) {
    static const char text[] = "hello";
    for (size_t have = 0; have <= 5; have++) {
        for (size_t size = 0; size <= 8; size++) {
            char filler[8];
            memset(filler, 0x5a, sizeof filler);
            char *out = guard_copy(filler, size);
            char *from = guard_copy(text, have);
            size_t length = 99;
            int result = wss__base_copy_out(wss__base_span(from, have), out, size, &length);
            CHECK_INT(result, have < size ? WSS_OK : WSS_ERR_SPACE);
            CHECK_INT(length, have);
            if (size) CHECK_INT(strlen(out), result == WSS_OK ? have : 0);
            if (result == WSS_OK) CHECK(memcmp(out, text, have) == 0);
            CHECK_INT(wss__base_copy_out(wss__base_span(from, have), out, size, NULL), result);
            guard_free(from, have);
            guard_free(out, size);
        }
    }
    char one[1] = {'x'};
    CHECK_INT(wss__base_copy_out(wss__base_text(NULL), one, 1, NULL), WSS_OK);
    CHECK_INT(one[0], 0);
    CHECK_INT(wss__base_copy_out(wss__base_text(NULL), NULL, 0, NULL), WSS_ERR_SPACE);
}

/* Every code has a text of its own; what is none has one too. */
static void texts(void) {
    for (int i = 0; i > -22; i--) {
        CHECK(strcmp(wss_strerror(i), "unknown error") != 0);
        for (int j = 0; j > i; j--) CHECK(strcmp(wss_strerror(i), wss_strerror(j)) != 0);
    }
    for (int i = 0; i < 25; i++) {
        CHECK(strcmp(wss_cause_text(i), "unknown cause") != 0);
        for (int j = 0; j < i; j++) CHECK(strcmp(wss_cause_text(i), wss_cause_text(j)) != 0);
    }
    CHECK_TEXT(wss_strerror(WSS_OK), "no error");
    CHECK_TEXT(wss_strerror(WSS_ERR_PROTOCOL), "the client did not offer that subprotocol");
    CHECK_TEXT(wss_cause_text(WSS_CAUSE_CLOSE_FRAME), "protocol error: bad close frame");
    CHECK_TEXT(wss_strerror(1), "unknown error");
    CHECK_TEXT(wss_strerror(-22), "unknown error");
    CHECK_TEXT(wss_strerror(INT_MIN), "unknown error");
    CHECK_TEXT(wss_cause_text(-1), "unknown cause");
    CHECK_TEXT(wss_cause_text(25), "unknown cause");
    CHECK_TEXT(wss_cause_text(INT_MAX), "unknown cause");
}

int main(void) {
    RUN(spans);
    RUN(equal);
    RUN(fold);
    RUN(big_endian);
    RUN(smaller_and_larger);
    RUN(saturating);
    RUN(items);
    RUN(prefixes);
    RUN(ends);
    RUN(inside);
    RUN(lists_that_name_something);
    RUN(hosts);
    RUN(hex);
    RUN(numbers);
    RUN(made_of);
    RUN(copy_out);
    RUN(texts);
    return test_end("base");
}
