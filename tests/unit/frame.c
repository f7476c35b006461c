/* Unit tests of [frame]: headers taken, refused and written, masking, close codes. */
#include "../library.h"

#include "../test.h"

static const unsigned char some_mask[4] = {0x9a, 0x01, 0x00, 0xff};

/* What RFC 6455 sections 5.1, 5.2 and 5.5 say of the first two bytes of a client's frame: 0 or a cause, the earliest. */
static int oracle(unsigned first, unsigned second, int have) {
    unsigned opcode = first & 0xf;
    int control = opcode == 8 || opcode == 9 || opcode == 10;
    if (have > 0) {
        if (first & 0x40 || first & 0x20 || first & 0x10) return WSS_CAUSE_RESERVED_BITS;
        if (!control && opcode != 0 && opcode != 1 && opcode != 2) return WSS_CAUSE_OPCODE;
        if (control && first < 0x80) return WSS_CAUSE_CONTROL;
    }
    if (have > 1) {
        if (second < 0x80) return WSS_CAUSE_UNMASKED;
        if (control && second - 0x80 >= 126) return WSS_CAUSE_CONTROL;
    }
    return 0;
}

/* Judges bytes that end at an unreadable page. */
static int decode(const char *data, size_t size, wss__frame_head *head) {
    char *copy = guard_copy(data, size);
    memset(head, 0x5a, sizeof *head);
    int result = wss__frame_decode(copy, size, head);
    guard_free(copy, size);
    return result;
}

/* A frame's header with this length field, width 0, 2 or 8 bytes. Returns its length. */
static size_t build(char *out, unsigned first, int width, uint64_t length) {
    out[0] = (char)(unsigned char)first;
    out[1] = (char)(unsigned char)(0x80 | (width == 8 ? 127 : width == 2 ? 126 : (unsigned)length));
    for (int i = 0; i < width; i++) out[2 + i] = (char)(unsigned char)(length >> (8 * (width - 1 - i)) & 0xff);
    memcpy(out + 2 + width, some_mask, 4);
    return (size_t)width + 6;
}

static void all_starts(void) {
    wss__frame_head head;
    static const char page[4096];
    char *map = guard_copy(page, sizeof page);
    char *end = map + sizeof page;
    for (unsigned first = 0; first < 256; first++) {
        for (unsigned second = 0; second < 256; second++) {
            unsigned length = second & 0x7f;
            int width = length == 127 ? 8 : length == 126 ? 2 : 0;
            char bytes[14];
            size_t size = build(bytes, first, width, width == 8 ? 0x10000 : width == 2 ? 126 : length);
            bytes[1] = (char)(unsigned char)second;
            for (size_t have = 0; have <= size; have++) {
                memcpy(end - have, bytes, have);
                int bad = oracle(first, second, have < 2 ? (int)have : 2);
                int got = wss__frame_decode(end - have, have, &head);
                CHECK_INT(got, bad ? -bad : have == size ? (int)size : 0);
            }
            if (oracle(first, second, 2)) continue;
            CHECK_INT(head.opcode, first & 15);
            CHECK_INT(head.final, first >= 128);
            CHECK_INT(head.size, width == 8 ? 0x10000 : width == 2 ? 126 : length);
            CHECK(memcmp(head.mask, some_mask, 4) == 0);
        }
    }
    guard_free(map, sizeof page);
}

/* The same in other words, for whom the loops above are too many: one example of each. */
static void examples(void) {
    static const struct {
        const char *bytes;
        size_t size;
        int want;
    } samples[] = {
        {"\x81\x85\x37\xfa\x21\x3d", 6, 6},           /* RFC 6455 section 5.7 */
        {"\x81\x05Hello", 7, -WSS_CAUSE_UNMASKED},    /* the same, not masked */
        {"\xc1\x85\x37\xfa\x21\x3d", 6, -WSS_CAUSE_RESERVED_BITS},
        {"\xa1", 1, -WSS_CAUSE_RESERVED_BITS},
        {"\x91", 1, -WSS_CAUSE_RESERVED_BITS},
        {"\x83", 1, -WSS_CAUSE_OPCODE},
        {"\x87", 1, -WSS_CAUSE_OPCODE},
        {"\x8b", 1, -WSS_CAUSE_OPCODE},
        {"\x8f", 1, -WSS_CAUSE_OPCODE},
        {"\x09", 1, -WSS_CAUSE_CONTROL},
        {"\x89\xfd\1\2\3\4", 6, 6},                   /* a ping of 125 bytes */
        {"\x89\xfe", 2, -WSS_CAUSE_CONTROL},          /* of 126 */
        {"\x88\xff", 2, -WSS_CAUSE_CONTROL},
        {"\x80\x80\0\0\0\0", 6, 6},
        {"\x00\x80\0\0\0\0", 6, 6},
        {"\x82\xfe\x00\x7d", 4, -WSS_CAUSE_LENGTH},
        {"\x82\xfe\x00\x7e", 4, 0},
        {"", 0, 0},
        {"\xff\x00", 2, -WSS_CAUSE_RESERVED_BITS},    /* the earliest fault is the one that is reported */
        {"\xc3", 1, -WSS_CAUSE_RESERVED_BITS},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        wss__frame_head head;
        CHECK_INT(decode(samples[i].bytes, samples[i].size, &head), samples[i].want);
    }
}

/* Lengths at every boundary in all three forms: only the shortest is taken, nothing from 2^63 on. */
static void lengths(void) {
    static const uint64_t sizes[] = {0,
                                     1,
                                     124,
                                     125,
                                     126,
                                     127,
                                     128,
                                     65534,
                                     65535,
                                     65536,
                                     65537,
                                     UINT64_C(0x7fffffff),
                                     UINT64_C(0x80000000),
                                     UINT64_C(0x80000001),
                                     UINT64_C(0xffffffff),
                                     UINT64_C(0x100000000),
                                     UINT64_C(0x100000001),
                                     UINT64_C(0x7ffffffffffffffe),
                                     UINT64_C(0x7fffffffffffffff),
                                     UINT64_C(0x8000000000000000),
                                     UINT64_C(0x8000000000000001),
                                     UINT64_C(0xffffffffffffffff)};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int width = 0; width <= 8; width += width ? 6 : 2) {
            uint64_t size = sizes[i];
            if ((width == 0 && size > 125) || (width == 2 && size > 65535)) continue;
            int right = size <= 125 ? width == 0 : size <= 65535 ? width == 2 : size < UINT64_C(1) << 63 && width == 8;
            char bytes[14];
            wss__frame_head head;
            size_t whole = build(bytes, 0x82, width, size);
            for (size_t have = 0; have <= whole; have++) {
                int judged = have >= 2 + (size_t)width;
                int want = judged && !right ? -WSS_CAUSE_LENGTH : have == whole ? (int)whole : 0;
                CHECK_INT(decode(bytes, have, &head), want);
            }
            if (right) CHECK(head.size == size);
        }
    }
}

/* What follows the header changes nothing, and a header cut anywhere is unfinished or judged as the whole. */
static void random_prefixes(void) {
    uint32_t seed = 99;
    for (int round = 0; round < 20000; round++) {
        char bytes[24];
        wss__frame_head head;
        wss__frame_head whole_head;
        for (size_t i = 0; i < sizeof bytes; i++) {
            seed = seed * 1664525u + 1013904223u;
            bytes[i] = (char)(unsigned char)(seed >> 24);
        }
        if (round % 2) bytes[0] = (char)(unsigned char)(0x80 | (seed >> 16) % 3);
        if (round % 2) bytes[1] = (char)(unsigned char)(0x80 | (seed >> 20 & 1 ? 126 : 127));
        if (round % 4 == 1) memset(bytes + 2, 0, 5);
        memset(&whole_head, 0x5a, sizeof whole_head);
        int whole = wss__frame_decode(bytes, sizeof bytes, &whole_head);
        CHECK(whole != 0);
        int decided = 0;
        for (size_t have = 0; have <= WSS__FRAME_HEAD_MAX; have++) {
            int got = decode(bytes, have, &head);
            CHECK(got == 0 || got == whole);
            CHECK(!decided || got == whole);
            decided = got != 0;
            if (got > 0) CHECK(have >= (size_t)got);
            if (whole > 0) CHECK_INT(decided, have >= (size_t)whole);
        }
        CHECK(decided);
        if (whole > 0) CHECK(memcmp(&head.size, &whole_head.size, sizeof head.size) == 0);
    }
}

static void encoded_heads(void) {
    static const struct {
        size_t payload;
        const char *bytes;
        size_t size;
    } samples[] = {
        {0, "\x81\x00", 2},
        {5, "\x81\x05", 2},
        {125, "\x81\x7d", 2},
        {126, "\x81\x7e\x00\x7e", 4},
        {127, "\x81\x7e\x00\x7f", 4},
        {65535, "\x81\x7e\xff\xff", 4},
        {65536, "\x81\x7f\0\0\0\0\0\1\0\0", 10},
        {0x7fffffff, "\x81\x7f\0\0\0\0\x7f\xff\xff\xff", 10},
        {(size_t)0x80000000u, "\x81\x7f\0\0\0\0\x80\0\0\0", 10},
#if SIZE_MAX > 0xffffffffu
        {(size_t)0x123456789aull, "\x81\x7f\0\0\0\x12\x34\x56\x78\x9a", 10},
#endif
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        char filler[10] = {0};
        char *out = guard_copy(filler, samples[i].size);
        CHECK_INT(wss__frame_head_size(samples[i].payload), samples[i].size);
        CHECK_INT(wss__frame_encode(out, WSS_TEXT, samples[i].payload), samples[i].size);
        CHECK(memcmp(out, samples[i].bytes, samples[i].size) == 0);
        guard_free(out, samples[i].size);
    }
}

/* What we write, with the mask bit and a mask put in, is what we read. */
static void round_trip(void) {
    static const int opcodes[] = {1, 2, 8, 9, 10};
    static const size_t sizes[] = {0, 1, 124, 125, 126, 127, 128, 200, 65534, 65535, 65536, 65537, 0x7fffffff};
    for (size_t o = 0; o < sizeof opcodes / sizeof opcodes[0]; o++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            char bytes[14];
            wss__frame_head head;
            if (opcodes[o] >= 8 && sizes[i] > 125) continue;
            size_t size = wss__frame_encode(bytes, opcodes[o], sizes[i]);
            CHECK_INT(decode(bytes, size, &head), -WSS_CAUSE_UNMASKED); /* a server's frame is none of a client */
            bytes[1] = (char)(unsigned char)((unsigned char)bytes[1] | 0x80);
            memcpy(bytes + size, some_mask, 4);
            CHECK_INT(decode(bytes, size + 4, &head), size + 4);
            CHECK_INT(head.opcode, opcodes[o]);
            CHECK_INT(head.final, 1);
            CHECK(head.size == sizes[i]);
        }
    }
}

/* Every alignment, length and place in the payload, in place and copying, against one byte after the other. */
static void unmask(void) {
    enum { MOST = 300, AROUND = 16 };
    static unsigned char from[MOST + 2 * AROUND];
    static unsigned char to[MOST + 2 * AROUND];
    static unsigned char want[MOST];
    char *flush = guard_copy(from, sizeof from);
    for (size_t i = 0; i < sizeof from; i++) from[i] = (unsigned char)(i * 7 + 3);
    for (size_t offset = 0; offset < 4; offset++) {
        for (size_t size = 0; size <= MOST; size++) {
            for (size_t at = 0; at < 16; at++) {
                for (size_t i = 0; i < size; i++) want[i] = from[at + i] ^ some_mask[(i + offset) % 4];
                memset(to, 0x5a, sizeof to);
                size_t other = (at * 5 + size) % 16; /* the other side stands at another alignment */
                wss__frame_unmask((char *)to + other, (const char *)from + at, size, some_mask, offset);
                CHECK(memcmp(to + other, want, size) == 0);
                CHECK(to[other + size] == 0x5a && (!other || to[other - 1] == 0x5a));
                memcpy(to, from, sizeof to);
                wss__frame_unmask((char *)to + at, (const char *)to + at, size, some_mask, offset);
                CHECK(memcmp(to + at, want, size) == 0);
                CHECK(memcmp(to, from, at) == 0);
                CHECK(memcmp(to + at + size, from + at + size, sizeof to - at - size) == 0);
            }
            char *end = flush + sizeof from;
            memcpy(end - size, from, size);
            wss__frame_unmask(end - size, end - size, size, some_mask, offset);
            for (size_t i = 0; i < size; i++) want[i] = from[i] ^ some_mask[(i + offset) % 4];
            CHECK(memcmp(end - size, want, size) == 0);
        }
    }
    guard_free(flush, sizeof from);
}

/* A payload unmasked in two or three pieces is the payload unmasked at once; offsets of any size count. */
static void unmask_in_pieces(void) {
    enum { SIZE = 100 };
    static const uint64_t bases[] = {0, UINT64_C(0xffffffff), UINT64_C(0x7fffffffffffff00) + 1};
    unsigned char from[SIZE];
    unsigned char want[SIZE];
    unsigned char got[SIZE];
    for (size_t i = 0; i < SIZE; i++) from[i] = (unsigned char)(i * 31 + 5);
    for (size_t b = 0; b < 3; b++) {
        for (size_t i = 0; i < SIZE; i++) want[i] = from[i] ^ some_mask[(bases[b] + i) % 4];
        for (size_t one = 0; one <= SIZE; one++) {
            for (size_t two = one; two <= SIZE; two += 3) {
                memcpy(got, from, SIZE);
                wss__frame_unmask((char *)got, (char *)got, one, some_mask, bases[b]);
                wss__frame_unmask((char *)got + one, (char *)got + one, two - one, some_mask, bases[b] + one);
                wss__frame_unmask((char *)got + two, (char *)got + two, SIZE - two, some_mask, bases[b] + two);
                CHECK(memcmp(got, want, SIZE) == 0);
            }
        }
    }
    char hello[5];
    wss__frame_unmask(hello, "\x7f\x9f\x4d\x51\x58", 5, (const unsigned char *)"\x37\xfa\x21\x3d", 0);
    CHECK(memcmp(hello, "Hello", 5) == 0); /* RFC 6455 section 5.7 */
}

/* A copy to a lower address that overlaps its source, as when a payload moves over its header. */
static void unmask_downwards(void) {
    unsigned char bytes[200];
    unsigned char want[200];
    for (size_t shift = 0; shift < 40; shift++) {
        for (size_t size = 0; size + shift <= sizeof bytes; size += 7) {
            for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * 13 + 1);
            for (size_t i = 0; i < size; i++) want[i] = bytes[shift + i] ^ some_mask[i % 4];
            wss__frame_unmask((char *)bytes, (char *)bytes + shift, size, some_mask, 0);
            CHECK(memcmp(bytes, want, size) == 0);
        }
    }
}

/* RFC 6455 section 7.4 and IANA's registry of close codes, one by one: 1004 is reserved, 1005, 1006 and 1015 are never
   sent, 1012 to 1014 were added, 1016 to 2999 are not given out, 3000 to 4999 are free to use. */
static void close_codes(void) {
    for (int code = 0; code < 65536; code++) {
        int want = 0;
        switch (code) {
        case 1000: case 1001: case 1002: case 1003: case 1007: case 1008: case 1009: case 1010: case 1011: case 1012:
        case 1013: case 1014:
            want = 1;
            break;
        default: want = code / 1000 == 3 || code / 1000 == 4;
        }
        CHECK_INT(wss__frame_code_valid(code), want);
    }
    CHECK(!wss__frame_code_valid(-1) && !wss__frame_code_valid(INT_MIN) && !wss__frame_code_valid(INT_MAX));
}

static void control_opcodes(void) {
    for (int opcode = 0; opcode < 16; opcode++) CHECK_INT(wss__frame_is_control(opcode) != 0, opcode >= 8);
}

int main(void) {
    alarm(120);
    RUN(all_starts);
    RUN(examples);
    RUN(lengths);
    RUN(random_prefixes);
    RUN(encoded_heads);
    RUN(round_trip);
    RUN(unmask);
    RUN(unmask_in_pieces);
    RUN(unmask_downwards);
    RUN(close_codes);
    RUN(control_opcodes);
    return test_end("frame");
}
