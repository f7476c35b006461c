/* utf8: the validator against a decoder made from the definition, and the encoder. */
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"
#include "../test.h"

enum { COMPLETE, INSIDE, WRONG };

/* By RFC 3629 section 3: which code points can begin like this? WRONG where none of them is a character. */
static int reference_one(const unsigned char *data, size_t size, size_t *used) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t lead = data[0];
    size_t need = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
    size_t have = size < need ? size : need;
    if (!need) return WRONG;
    uint32_t low = need == 1 ? lead : lead & ((1u << (7 - need)) - 1);
    uint32_t high = low;
    for (size_t i = 1; i < need; i++) {
        if (i < have && data[i] >> 6 != 2) return WRONG;
        low = low << 6 | (i < have ? data[i] & 63u : 0);
        high = high << 6 | (i < have ? data[i] & 63u : 63);
    }
    if (low < least[need]) low = least[need];
    if (high > 0x10ffff) high = 0x10ffff;
    if (low > high || (low >= 0xd800 && high <= 0xdfff)) return WRONG;
    *used = have;
    return have == need ? COMPLETE : INSIDE;
}

static int reference(const unsigned char *data, size_t size) {
    size_t at = 0;
    int result = COMPLETE;
    while (at < size && result == COMPLETE) {
        size_t used = 0;
        result = reference_one(data + at, size - at, &used);
        at += used;
    }
    return result;
}

static int verdict(wss__utf8 state) {
    return state == WSS__UTF8_REJECT ? WRONG : state ? INSIDE : COMPLETE;
}

static int check(const unsigned char *data, size_t size) {
    return verdict(wss__utf8_check(0, (const char *)data, size));
}

static int check_bytewise(const unsigned char *data, size_t size) {
    wss__utf8 state = 0;
    for (size_t i = 0; i < size; i++) state = wss__utf8_check(state, (const char *)data + i, 1);
    return verdict(state);
}

static unsigned char pairs[65536];

static void test_all_of_1_and_2(void) {
    CHECK_INT(wss__utf8_check(0, NULL, 0), 0);
    for (unsigned i = 0; i < 65536; i++) {
        unsigned char two[2] = {(unsigned char)(i >> 8), (unsigned char)i};
        pairs[i] = (unsigned char)reference(two, 2);
        CHECK_INT(check(two, 2), pairs[i]);
        CHECK_INT(check_bytewise(two, 2), pairs[i]);
        CHECK_INT(check(two, 1), reference(two, 1));
    }
}

/* All 16.8 million. The reference is asked anew only where the first two bytes do not decide how to go on. */
static void test_all_of_3(void) {
    for (unsigned i = 0; i < 65536; i++) {
        unsigned char three[3] = {(unsigned char)(i >> 8), (unsigned char)i, 0};
        for (unsigned c = 0; c < 256; c++) {
            three[2] = (unsigned char)c;
            int want = WRONG;
            if (i < 0x8000) want = pairs[(i << 8 | c) & 0xffff];
            else if (pairs[i] != WRONG) want = reference(three, 3);
            if (check(three, 3) != want) CHECK_INT(i << 8 | c, -1);
        }
    }
}

/* All leads of four bytes and their neighbours, every second byte, borders behind. */
static void test_borders_of_4(void) {
    static const unsigned char border[] = {0,    0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f,
                                           0xa0, 0xbf, 0xc0, 0xed, 0xf4, 0xff};
    size_t count = sizeof border;
    for (unsigned lead = 0xee; lead <= 0xf8; lead++)
        for (unsigned second = 0; second < 256; second++)
            for (size_t k = 0; k < count * count; k++) {
                unsigned char four[4] = {(unsigned char)lead, (unsigned char)second, border[k / count],
                                         border[k % count]};
                int want = reference(four, 4);
                CHECK_INT(check(four, 4), want);
                CHECK_INT(check_bytewise(four, 4), want);
            }
}

static void test_every_code_point(void) {
    for (uint32_t code = 0; code <= 0x110002; code++) {
        int invalid = code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff);
        uint32_t want = invalid ? 0xfffd : code;
        uint32_t got;
        unsigned char out[4];
        int size = wss__utf8_encode(code, (char *)out);
        CHECK_INT(check(out, (size_t)size), COMPLETE);
        CHECK_INT(size, want < 0x80 ? 1 : want < 0x800 ? 2 : want < 0x10000 ? 3 : 4);
        got = size == 1 ? out[0] : out[0] & (0x7fu >> size);
        for (int i = 1; i < size; i++) got = got << 6 | (out[i] & 63u);
        CHECK_INT(got, want);
    }
    char out[4];
    CHECK_INT(wss__utf8_encode(0xffffffffu, out), 3);
    CHECK(memcmp(out, "\xef\xbf\xbd", 3) == 0);
}

static const char *const samples[] = {
    "",
    "a",
    "plain text, long enough for several steps of the fast way, and then a bit more of it",
    "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5",
    "\xf0\x9f\x98\x80\xf0\x9f\x98\x81 and \xe4\xbd\xa0\xe5\xa5\xbd and \xc3\xa9\xc3\xa8 and all that follows",
    "\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbd\xf4\x8f\xbf\xbf\xc2\x80\xe0\xa0\x80\xf0\x90\x80\x80",
};

static void test_every_split(void) {
    for (size_t s = 0; s < sizeof samples / sizeof samples[0]; s++) {
        size_t size = strlen(samples[s]);
        char *text = guard_copy(samples[s], size);
        CHECK_INT(wss__utf8_check(0, text, size), 0);
        for (size_t a = 0; a <= size; a++) {
            wss__utf8 first = wss__utf8_check(0, text, a);
            CHECK_INT(verdict(first), reference((const unsigned char *)text, a));
            for (size_t b = a; b <= size; b++) {
                wss__utf8 state = wss__utf8_check(first, text + a, b - a);
                CHECK_INT(wss__utf8_check(state, text + b, size - b), 0);
            }
        }
        guard_free(text, size);
    }
}

/* A wrong byte at each place, and a split at each place: rejected from that byte on, whatever follows. */
static void test_wrong_byte_anywhere(void) {
    for (size_t s = 0; s < sizeof samples / sizeof samples[0]; s++) {
        size_t size = strlen(samples[s]);
        for (size_t bad = 0; bad < size; bad++) {
            char *text = guard_copy(samples[s], size);
            text[bad] = (char)0xff;
            for (size_t cut = 0; cut <= size; cut++) {
                wss__utf8 state = wss__utf8_check(0, text, cut);
                CHECK_INT(state == WSS__UTF8_REJECT, cut > bad);
                CHECK_INT(wss__utf8_check(state, text + cut, size - cut), WSS__UTF8_REJECT);
            }
            guard_free(text, size);
        }
    }
}

static void test_rejected_for_ever(void) {
    static const char more[] = "text that is fine, long enough for the fast way as well";
    CHECK_INT(wss__utf8_check(WSS__UTF8_REJECT, more, strlen(more)), WSS__UTF8_REJECT);
    CHECK_INT(wss__utf8_check(WSS__UTF8_REJECT, more, 1), WSS__UTF8_REJECT);
    CHECK_INT(wss__utf8_check(WSS__UTF8_REJECT, more, 0), WSS__UTF8_REJECT);
    for (unsigned c = 0; c < 256; c++) {
        char byte = (char)c;
        CHECK_INT(wss__utf8_check(WSS__UTF8_REJECT, &byte, 1), WSS__UTF8_REJECT);
    }
}

static uint32_t seed = 1;

static uint32_t next_random(uint32_t below) {
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

static size_t random_text(unsigned char *out, size_t size) {
    static const char *const pieces[] = {"a", "a longer run of ASCII in between", "\xc3\xa9", "\xe4\xbd\xa0",
                                         "\xf0\x9f\x98\x80", "\xd0\x9f\xd1\x80\xd0\xb8"};
    size_t used = 0;
    while (used + 40 < size) {
        const char *piece = pieces[next_random(6)];
        memcpy(out + used, piece, strlen(piece));
        used += strlen(piece);
    }
    if (next_random(2)) out[next_random((uint32_t)used)] = (unsigned char)next_random(256);
    return used;
}

static void test_random_texts(void) {
    int wrong = 0;
    for (int i = 0; i < 40000; i++) {
        unsigned char text[400];
        size_t size = random_text(text, 60 + next_random(340));
        size_t cut = next_random((uint32_t)size + 1);
        int want = reference(text, size);
        wss__utf8 state = wss__utf8_check(0, (char *)text, cut);
        CHECK_INT(verdict(state), reference(text, cut));
        CHECK_INT(verdict(wss__utf8_check(state, (char *)text + cut, size - cut)), want);
        CHECK_INT(check(text, size), want);
        wrong += want == WRONG;
    }
    CHECK(wrong > 1000 && wrong < 39000);
}

#ifdef WSS__CONFIG_SIMD
/* Each way to look at many bytes at once; the processor may lack one. */
static const struct {
    const char *name;
    size_t (*prefix)(const char *data, size_t size);
    size_t width;
} wide_ways[] = {
#if defined(__x86_64__)
    {"ssse3", wss__utf8_ssse3, 16},
    {"avx2", wss__utf8_avx2, 32},
#else
    {"neon", wss__utf8_wide, 16},
#endif
};

static int is_supported(size_t way) {
#if defined(__x86_64__)
    return way == 0 ? __builtin_cpu_supports("ssse3") : __builtin_cpu_supports("avx2");
#else
    return way == 0;
#endif
}

/* The prefix must be whole valid characters, and must reach into the last block that is all valid. */
static void check_wide(size_t way, const unsigned char *text, size_t size) {
    size_t valid = 0, used = 0;
    while (valid < size && reference_one(text + valid, size - valid, &used) == COMPLETE) valid += used;
    size_t got = wide_ways[way].prefix((const char *)text, size);
    CHECK(got <= valid);
    CHECK_INT(reference(text, got), COMPLETE);
    CHECK(got + 3 >= valid / wide_ways[way].width * wide_ways[way].width);
}

/* Every lead and the next byte, then borders, at every place around the seams of the blocks. */
static void wide_short_strings(size_t way) {
    static const unsigned char border[] = {0x41, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc2, 0xe1, 0xf4};
    size_t width = wide_ways[way].width;
    for (unsigned i = 0x8000; i < 65536; i++)
        for (size_t k = 0; k < sizeof border; k++) {
            unsigned char text[100];
            size_t at = width - 4 + i % 6;
            memset(text, 'a', sizeof text);
            text[at] = (unsigned char)(i >> 8);
            text[at + 1] = (unsigned char)i;
            text[at + 2] = border[k];
            text[at + 3] = border[(k + i) % sizeof border];
            check_wide(way, text, 3 * width < sizeof text ? 3 * width : sizeof text);
        }
}

static void wide_random_texts(size_t way) {
    unsigned char text[400];
    for (int i = 0; i < 20000; i++) {
        size_t size = random_text(text, 60 + next_random(340));
        char *copy = guard_copy(text, size);
        check_wide(way, (unsigned char *)copy, size);
        guard_free(copy, size);
    }
}

static void test_wide(void) {
    for (size_t way = 0; way < sizeof wide_ways / sizeof wide_ways[0]; way++) {
        if (!is_supported(way)) {
            printf("utf8: %s is not here\n", wide_ways[way].name);
            continue;
        }
        wide_short_strings(way);
        wide_random_texts(way);
    }
}
#endif

/* Less than a vector is left to the others, and nothing of it is read. */
static void test_less_than_a_vector(void) {
#if defined(__x86_64__)
    for (size_t size = 0; size < 32; size++) {
        char *text = guard_copy("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", size);
        if (size < 16 && __builtin_cpu_supports("ssse3")) CHECK_INT(wss__utf8_ssse3(text, size), 0);
        if (__builtin_cpu_supports("avx2")) CHECK_INT(wss__utf8_avx2(text, size), 0);
        guard_free(text, size);
    }
#endif
}

int main(void) {
    RUN(test_all_of_1_and_2);
    RUN(test_all_of_3);
    RUN(test_borders_of_4);
    RUN(test_every_code_point);
    RUN(test_every_split);
    RUN(test_wrong_byte_anywhere);
    RUN(test_rejected_for_ever);
    RUN(test_random_texts);
#ifdef WSS__CONFIG_SIMD
    RUN(test_wide);
#endif
    RUN(test_less_than_a_vector);
    return test_end("utf8");
}
