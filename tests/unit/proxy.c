/* Unit tests of [proxy]: PROXY headers of both versions in any pieces, and the walk through what proxies added to a
   request. */
#include "../library.h"

#include "../test.h"

#define COUNT(samples) (sizeof samples / sizeof samples[0])
#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define V2_SIZE 12

static uint32_t drawn = 1;

static size_t draw(size_t count) {
    drawn = drawn * 1664525u + 1013904223u;
    return (drawn >> 8) % count;
}

static int measure(const char *data, size_t size) {
    char *copy = guard_copy(data, size);
    int result = wss__proxy_measure(copy, size);
    guard_free(copy, size);
    return result;
}

static int recognize(const char *data, size_t size) {
    char *copy = guard_copy(data, size);
    int result = wss__proxy_recognize(copy, size);
    guard_free(copy, size);
    return result;
}

/* Whatever has come of these bytes: first more is needed, then the verdict, which stays. Returns it. */
static int measure_all_cuts(const char *data, size_t size) {
    int verdict = 0;
    for (size_t have = 1; have <= size; have++) {
        int got = measure(data, have);
        if (verdict) CHECK_INT(got, verdict);
        CHECK(got <= (int)have);
        verdict = got;
    }
    return verdict;
}

static int recognize_all_cuts(const char *data, size_t size) {
    int verdict = 0;
    for (size_t have = 1; have <= size; have++) {
        int got = recognize(data, have);
        if (verdict) CHECK_INT(got, verdict);
        verdict = got;
    }
    return verdict;
}

/* What a header, with a request behind it, tells: "ADDRESS PORT", "unknown", "none", "invalid", or "more". */
static const char *told(const char *data, size_t size) {
    static char text[WSS__ADDRESS_TEXT + 8];
    char address[WSS__ADDRESS_TEXT];
    wss__address client = wss__address_of(WSS__ADDRESS_NONE, NULL, 0, 0);
    int length = measure_all_cuts(data, size);
    if (length < 0) return "invalid";
    if (length == 0) return "more";
    CHECK_INT(recognize_all_cuts(data, size), 1); /* what can be measured was known as a header too */
    char *copy = guard_copy(data, (size_t)length);
    int good = wss__proxy_read(copy, (size_t)length, &client);
    guard_free(copy, (size_t)length);
    if (!good) return "invalid";
    if (client.kind == WSS__ADDRESS_NONE) return "none";
    if (client.kind == WSS__ADDRESS_OTHER) return "unknown";
    snprintf(text, sizeof text, "%s %d", wss__address_text(&client, address), client.port);
    return text;
}

/* ---- version 1 ---- */

static void lines(void) {
    static const char longest[] = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                                  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    static const struct {
        const char *line;
        const char *want;
    } samples[] = {
        {"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n", "192.0.2.1 4711"},
        {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255 65535"},
        {"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0 0"},
        {"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n", "2001:db8::1 4711"},
        {"PROXY TCP6 ::ffff:192.0.2.1 ::1 80 80\r\n", "192.0.2.1 80"},
        {longest, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535"},
        {"PROXY UNKNOWN\r\n", "unknown"},
        {"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "unknown"},
        {"PROXY UNKNOWN what ever it may be that stands in the rest\r\n", "unknown"},
        {"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\n", "invalid"},
        {"PROXY \n", "invalid"},
        {"PROXY \r\n", "invalid"},
        {"PROXY\r\n", "invalid"},
        {"PROXY  TCP4 192.0.2.1 10.0.0.1 1 2\r\n", "invalid"},
        {"PROXY TCP4\r\n", "invalid"},
        {"PROXY TCP4 192.0.2.1\r\n", "invalid"},
        {"PROXY TCP4 192.0.2.1 10.0.0.1\r\n", "invalid"},
        {"PROXY TCP4 192.0.2.1 10.0.0.1 4711\r\n", "invalid"},
        {"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443 \r\n", "invalid"},
        {"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443 1\r\n", "invalid"},
        {"PROXY TCP4 192.0.2.1  10.0.0.1 4711 443\r\n", "invalid"},
        {"PROXY TCP4 192.0.2.1 10.0.0.1 65536 443\r\n", "invalid"},
        {"PROXY TCP4 192.0.2.1 10.0.0.1 4711 65536\r\n", "invalid"},
        {"PROXY TCP4 192.0.2.1 10.0.0.1 x 443\r\n", "invalid"},
        {"PROXY TCP4 192.0.2.1 10.0.0.1 4711 x\r\n", "invalid"},
        {"PROXY TCP4 192.0.2.1 10.0.0.1 -1 443\r\n", "invalid"},
        {"PROXY TCP4 192.0.2.1 10.0.0.1  443\r\n", "invalid"},
        {"PROXY TCP4 192.0.2 10.0.0.1 1 2\r\n", "invalid"},
        {"PROXY TCP4 192.0.2.1 10.0.0 1 2\r\n", "invalid"},
        {"PROXY TCP4 192.0.2.1 ::1 1 2\r\n", "invalid"},
        {"PROXY TCP4 2001:db8::1 ::1 1 2\r\n", "invalid"},
        {"PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n", "invalid"},
        {"PROXY TCP6 [2001:db8::1] ::1 1 2\r\n", "invalid"},
        {"PROXY TCP6 fe80::1%lo ::1 1 2\r\n", "invalid"},
        {"PROXY TCP6 x y 1 2\r\n", "invalid"},
        {"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n", "invalid"},
        {"PROXY tcp4 192.0.2.1 10.0.0.1 1 2\r\n", "invalid"},
        {"PROXY unknown\r\n", "invalid"},
        {"PROXY UNKNOWNS\r\n", "invalid"},
        {"PROXY\tUNKNOWN\r\n", "invalid"},
        {"proxy TCP4 192.0.2.1 10.0.0.1 1 2\r\n", "invalid"},
        {"PROXYTCP4 192.0.2.1 10.0.0.1 1 2\r\n", "invalid"},
        {" PROXY UNKNOWN\r\n", "invalid"},
        {"GET / HTTP/1.1\r\n\r\n", "invalid"},
        {"POST / HTTP/1.1\r\n\r\n", "invalid"},
        {"PROXY", "more"},
        {"PROXY UNKNOWN\r", "more"},
        {"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443", "more"},
    };
    char text[256];
    for (size_t i = 0; i < COUNT(samples); i++) {
        int whole = strcmp(samples[i].want, "more") != 0;
        snprintf(text, sizeof text, "%s%s", samples[i].line, whole ? "GET / HTTP/1.1\r\nHost: a\r\n\r\n" : "");
        const char *got = told(text, strlen(text));
        if (strcmp(got, samples[i].want) != 0) printf("line: %s", samples[i].line);
        CHECK_TEXT(got, samples[i].want);
    }
    CHECK_INT(measure(longest, sizeof longest - 1), sizeof longest - 1);
    char nul[] = "PROXY TCP4 192.0.2.1? 10.0.0.1 1 2\r\n";
    *strchr(nul, '?') = 0;
    CHECK_TEXT(told(nul, sizeof nul - 1), "invalid");
}

/* A line has at most 107 bytes with its end: known as soon as there are so many. */
static void longest_line(void) {
    for (size_t size = 100; size <= 115; size++) {
        char line[120] = "PROXY UNKNOWN ";
        memset(line + 14, 'x', sizeof line - 14);
        memcpy(line + size - 2, "\r\n", 2);
        int want = size <= 107 ? (int)size : -1;
        CHECK_INT(measure_all_cuts(line, size), want);
        CHECK_INT(measure(line, 106), want > 0 && want <= 106 ? want : 0);
        CHECK_INT(measure(line, 107), want);
        CHECK_INT(measure(line, sizeof line), want);
    }
}

/* ---- version 2 ---- */

/* Makes a header; returns its size. length: as it says, 0: as it is. */
static size_t make(char *out, int command, int family, const void *body, size_t size, size_t length) {
    if (!length) length = size;
    memcpy(out, V2, V2_SIZE);
    out[12] = (char)(unsigned char)command;
    out[13] = (char)(unsigned char)family;
    out[14] = (char)(unsigned char)(length >> 8);
    out[15] = (char)(unsigned char)(length & 0xff);
    if (size) memcpy(out + 16, body, size);
    return 16 + size;
}

static const char four[] = "\xc0\x00\x02\x01\x0a\x00\x00\x01\x12\x67\x01\xbb"; /* 192.0.2.1, 10.0.0.1, 4711, 443 */
static const char six[] = "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\xff\xff\x01\xbb";
static const char mapped[] = "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50\x01\xbb";

static void binary(void) {
    static const char tlv[] = "\x20\x00\x05\x01\0\0\0\0\x04\x00\x02xx";
    static const char local[216] = "/run/client.sock";
    static const struct {
        int command;
        int family;
        const char *body;
        size_t size;
        const char *want;
    } samples[] = {
        {0x21, 0x11, four, 12, "192.0.2.1 4711"},
        {0x21, 0x21, six, 36, "2001:db8::1 65535"},
        {0x21, 0x21, mapped, 36, "192.0.2.7 80"},
        {0x21, 0x31, local, 216, "unknown"},
        {0x21, 0x32, local, 216, "unknown"},
        {0x21, 0x00, "", 0, "unknown"},
        {0x21, 0x00, "\x01\x02", 2, "unknown"},
        {0x21, 0x12, four, 12, "unknown"}, /* UDP */
        {0x21, 0x22, six, 36, "unknown"},
        {0x21, 0x10, four, 12, "unknown"},
        {0x21, 0x41, four, 12, "unknown"}, /* a kind to come */
        {0x21, 0xff, four, 12, "unknown"},
        {0x20, 0x11, four, 12, "none"}, /* the proxy's own check */
        {0x20, 0x21, six, 36, "none"},
        {0x20, 0x00, "", 0, "none"},
        {0x20, 0x11, "", 0, "none"},
        {0x21, 0x11, four, 11, "invalid"},
        {0x21, 0x11, "", 0, "invalid"},
        {0x21, 0x21, six, 35, "invalid"},
        {0x21, 0x21, four, 12, "invalid"},
        {0x22, 0x11, four, 12, "invalid"}, /* a command to come */
        {0x2f, 0x11, four, 12, "invalid"},
        {0x11, 0x11, four, 12, "invalid"}, /* versions that are not */
        {0x31, 0x11, four, 12, "invalid"},
        {0x01, 0x11, four, 12, "invalid"},
        {0xa1, 0x11, four, 12, "invalid"},
        {0xf1, 0x11, four, 12, "invalid"},
    };
    static const char request[] = "GET / HTTP/1.1\r\n\r\n";
    char data[512];
    for (size_t i = 0; i < COUNT(samples); i++)
        for (int with = 0; with < 2; with++) { /* what else a header may say makes no difference */
            char body[300];
            if (samples[i].size) memcpy(body, samples[i].body, samples[i].size);
            memcpy(body + samples[i].size, tlv, sizeof tlv);
            if (with && strcmp(samples[i].want, "invalid") == 0) continue; /* it would fill up what lacks */
            size_t more = with ? sizeof tlv - 1 : 0;
            size_t size = make(data, samples[i].command, samples[i].family, body, samples[i].size + more, 0);
            memcpy(data + size, request, sizeof request);
            const char *got = told(data, size + sizeof request);
            if (strcmp(got, samples[i].want) != 0) printf("binary: %x %x\n", samples[i].command, samples[i].family);
            CHECK_TEXT(got, samples[i].want);
            if (strcmp(got, "invalid") != 0) CHECK_INT(measure(data, size + 5), (int)size);
        }
}

/* All commands and families, of any length that the header can say. */
static void all_of_the_second(void) {
    char data[600];
    memset(data, 1, sizeof data);
    for (int command = 0; command < 256; command++)
        for (int family = 0; family < 256; family += command >> 4 == 2 ? 1 : 17) {
            make(data, command, family, six, 36, 0);
            int good = command == 0x20 || command == 0x21;
            CHECK_INT(measure(data, 15), 0);
            CHECK_INT(measure(data, 16), good ? 0 : -1);
            CHECK_INT(measure(data, 52), good ? 52 : -1);
        }
    char *large = (char *)calloc(1, 70000);
    if (!large) abort();
    for (size_t length = 0; length <= 0xffff; length += length < 600 ? 1 : 4096 - 255) {
        make(large, 0x20, 0, NULL, 0, length);
        if (length) CHECK_INT(measure(large, 16 + length - 1), 0);
        CHECK_INT(measure(large, 16 + length), (int)(16 + length));
        CHECK_INT(measure(large, 16 + length + 1), (int)(16 + length));
    }
    free(large);
}

/* ---- what was not asked for ---- */

static void recognizing(void) {
    static const struct {
        const char *data;
        size_t size;
        int want;
    } samples[] = {
        {"PROXY ", 6, 1}, {"PROXY TCP4", 10, 1}, {V2, 12, 1}, {V2 "\x21", 13, 1},
        {"P", 1, 0}, {"PROXY", 5, 0}, {"\r", 1, 0}, {"\r\n", 2, 0}, {"\r\n\r", 3, 0}, {V2, 11, 0},
        {"G", 1, -1}, {"GET / HTTP/1.1", 14, -1}, {"PUT", 3, -1}, {"PROPFIND /", 10, -1}, {"PROXYX", 6, -1},
        {"PROXY\r", 6, -1}, {"p", 1, -1}, {"\r\nG", 3, -1}, {"\n", 1, -1}, {"\r\n\r\n\r", 5, -1},
        {"\r\n\r\n\0\r\nQUIT\r", 12, -1}, {"\x16\x03\x01", 3, -1}, {" ", 1, -1},
    };
    for (size_t i = 0; i < COUNT(samples); i++) {
        CHECK_INT(recognize(samples[i].data, samples[i].size), samples[i].want);
        CHECK_INT(recognize_all_cuts(samples[i].data, samples[i].size), samples[i].want);
    }
    /* each byte of the beginnings counts */
    for (size_t at = 0; at < 18; at++) {
        char data[12];
        size_t size = at < 6 ? 6 : 12;
        memcpy(data, at < 6 ? "PROXY " : V2, size);
        data[at < 6 ? at : at - 6] ^= 0x20;
        CHECK_INT(recognize(data, size), -1);
        CHECK_INT(measure_all_cuts(data, size), -1);
    }
}

/* Headers with a few bytes changed: the verdict does not depend on pieces, and nothing is read past the end. */
static void damaged(void) {
    int counts[2] = {0, 0};
    for (int round = 0; round < 3000; round++) {
        char data[160];
        size_t size;
        wss__address client;
        if (round & 1) {
            size = make(data, 0x20 + (int)draw(3), draw(2) ? 0x11 : 0x21, six, 36, 0);
        } else {
            size = (size_t)snprintf(data, sizeof data, "PROXY %s %s %s %d %d\r\n", draw(2) ? "TCP4" : "TCP6",
                                    draw(2) ? "192.0.2.1" : "2001:db8::1", draw(2) ? "10.0.0.1" : "::1", (int)draw(70000),
                                    (int)draw(70000));
        }
        for (size_t changes = draw(3); changes > 0; changes--) data[draw(size)] = (char)draw(128);
        int length = measure_all_cuts(data, size);
        if (length <= 0) continue;
        char *copy = guard_copy(data, (size_t)length);
        counts[wss__proxy_read(copy, (size_t)length, &client)]++;
        guard_free(copy, (size_t)length);
    }
    CHECK(counts[0] > 100 && counts[1] > 100);
}

/* ---- who asks ---- */

/* Who the client is by these header lines. */
static const char *client_by(const char *lines, const char *header, const char *proxies) {
    static char text[WSS__ADDRESS_TEXT + 8];
    static char head[8192];
    wss_request request;
    char address[WSS__ADDRESS_TEXT];
    size_t size = (size_t)snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", lines);
    if (size >= sizeof head) abort();
    char *copy = guard_copy(head, size);
    CHECK_INT(wss__http_parse(copy, size, &request), WSS__HTTP_GOOD);
    wss__address client = wss__proxy_client(&request, header, proxies);
    guard_free(copy, size);
    wss__address_text(&client, address);
    if (client.port) snprintf(text, sizeof text, "%s %d", address, client.port);
    else snprintf(text, sizeof text, "%s", address);
    return text;
}

typedef struct walk_sample {
    const char *lines;
    const char *want;
} walk_sample;

#define PROXIES "10.0.0.0/8, 192.168.0.1, fd00::/8, unix:"

static void forwarded_for(void) {
    static const walk_sample samples[] = {
        {"", ""},
        {"X-Forwarded-For:\r\n", ""},
        {"X-Forwarded-For: ,, ,\r\n", ""},
        {"X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"},
        {"x-forwarded-for: 2001:db8::1\r\n", "2001:db8::1"},
        {"X-Forwarded-For: 192.0.2.1:4711\r\n", "192.0.2.1 4711"},
        {"X-Forwarded-For: [2001:db8::1]:4711\r\n", "2001:db8::1 4711"},
        {"X-Forwarded-For: 192.0.2.1, 10.0.0.1\r\n", "192.0.2.1"},
        {"X-Forwarded-For: 192.0.2.1, 10.0.0.1, 192.168.0.1, fd00::1\r\n", "192.0.2.1"},
        {"X-Forwarded-For: 192.0.2.1 ,10.0.0.1\t,\r\n", "192.0.2.1"},
        /* what the client sent itself */
        {"X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n", "192.0.2.1"},
        {"X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.0.0.1\r\n", "192.0.2.1"},
        {"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"},
        {"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.0.0.1\r\n", "192.0.2.1"},
        {"X-Forwarded-For: 6.6.6.6, 7.7.7.7\r\nA: b\r\nx-forwarded-for: 8.8.8.8, 192.0.2.1, 10.0.0.1\r\n", "192.0.2.1"},
        {"X-Forwarded-For: unknown, 192.0.2.1\r\n", "192.0.2.1"},
        {"X-Forwarded-For: <script>, 192.0.2.1, 10.0.0.1\r\n", "192.0.2.1"},
        {"X-Forwarded-For: 10.0.0.66, 192.0.2.1, 10.0.0.1\r\n", "192.0.2.1"},
        /* the walk ends at what is none, with the last good one */
        {"X-Forwarded-For: unknown\r\n", ""},
        {"X-Forwarded-For: 192.0.2.1, unknown\r\n", ""},
        {"X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.1\r\n", "10.0.0.1"},
        {"X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.2, 10.0.0.1\r\n", "10.0.0.2"},
        {"X-Forwarded-For: 192.0.2.1, 10.0.0.3, 192.0.2, 10.0.0.2, 10.0.0.1\r\n", "10.0.0.2"},
        {"X-Forwarded-For: 192.0.2.1, 192.0.2.2 10.0.0.2\r\n", ""},
        {"X-Forwarded-For: 192.0.2.1;10.0.0.2\r\n", ""},
        {"X-Forwarded-For: \"192.0.2.1\"\r\n", ""},
        {"X-Forwarded-For: for=192.0.2.1\r\n", ""},
        {"X-Forwarded-For: unix:\r\n", ""},
        /* nobody but proxies: the first of them */
        {"X-Forwarded-For: 10.0.0.1\r\n", "10.0.0.1"},
        {"X-Forwarded-For: 10.0.0.3, 10.0.0.2, 10.0.0.1\r\n", "10.0.0.3"},
        {"X-Forwarded-For: fd00::3:1\r\nX-Forwarded-For: 10.0.0.2, 10.0.0.1\r\n", "fd00::3:1"},
        /* of another header nothing is believed */
        {"Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"},
        {"Forwarded: for=6.6.6.6\r\n", ""},
        {"X-Forwarded-For2: 6.6.6.6\r\nX-Forwarded: 6.6.6.6\r\n", ""},
    };
    for (size_t i = 0; i < COUNT(samples); i++) {
        const char *got = client_by(samples[i].lines, "X-Forwarded-For", PROXIES);
        if (strcmp(got, samples[i].want) != 0) printf("walk: %s", samples[i].lines);
        CHECK_TEXT(got, samples[i].want);
    }
    /* Which header it is, is the operator's choice. */
    CHECK_TEXT(client_by("X-Real-IP: 192.0.2.1\r\nX-Forwarded-For: 6.6.6.6\r\n", "x-real-ip", PROXIES), "192.0.2.1");
    CHECK_TEXT(client_by("X-Real-IP: for=192.0.2.1\r\n", "X-Real-IP", PROXIES), "");
    CHECK_TEXT(client_by("X-Forwarded-For: 192.0.2.1, 10.0.0.1\r\n", "X-Forwarded-For", NULL), "10.0.0.1");
}

static void forwarded(void) {
    static const walk_sample samples[] = {
        {"", ""},
        {"Forwarded: for=192.0.2.1\r\n", "192.0.2.1"},
        {"forwarded: For=192.0.2.1\r\n", "192.0.2.1"},
        {"Forwarded: for=\"192.0.2.1\"\r\n", "192.0.2.1"},
        {"Forwarded: for=\"192.0.2.1:4711\"\r\n", "192.0.2.1 4711"},
        {"Forwarded: for=\"[2001:db8::1]\"\r\n", "2001:db8::1"},
        {"Forwarded: for=\"[2001:db8::1]:4711\"\r\n", "2001:db8::1 4711"},
        {"Forwarded: for=\"192.0.2.1:_obf\"\r\n", "192.0.2.1"}, /* a port that is kept secret */
        {"Forwarded: for=\"[2001:db8::1]:_a.b-c\"\r\n", "2001:db8::1"},
        {"Forwarded: for=\"192.0.2.1:_\"\r\n", ""},
        {"Forwarded: for=\"192.0.2.1:_a b\"\r\n", ""},
        {"Forwarded: proto=https;for=192.0.2.1;by=10.0.0.1\r\n", "192.0.2.1"},
        {"Forwarded: proto=https ; FOR=192.0.2.1 ; host=\"a.com\"\r\n", "192.0.2.1"},
        {"Forwarded: for=6.6.6.6, for=192.0.2.1;proto=https, for=10.0.0.1\r\n", "192.0.2.1"},
        {"Forwarded: for=6.6.6.6\r\nForwarded: for=192.0.2.1\r\nForwarded: for=\"[fd00::1]\"\r\n", "192.0.2.1"},
        {"Forwarded: for=192.0.2.1, for=unknown\r\n", ""},
        {"Forwarded: for=192.0.2.1, for=_hidden, for=10.0.0.1\r\n", "10.0.0.1"},
        {"Forwarded: for=192.0.2.1, proto=https, for=10.0.0.1\r\n", "10.0.0.1"},
        {"Forwarded: for=192.0.2.1, ;;, for=10.0.0.1\r\n", "10.0.0.1"},
        {"Forwarded: for=\r\n", ""},
        {"Forwarded: for=\"\r\n", ""},
        {"Forwarded: for=\"\"\r\n", ""},
        {"Forwarded: for=\"192.0.2.1\r\n", ""},
        {"Forwarded: for=192.0.2.1\"\r\n", ""},
        {"Forwarded: for =192.0.2.1\r\n", ""},
        {"Forwarded: xfor=192.0.2.1\r\n", ""},
        {"Forwarded: 192.0.2.1\r\n", ""},
        {"Forwarded: for=unix:\r\n", ""},
        {"Forwarded: for=10.0.0.2, for=10.0.0.1\r\n", "10.0.0.2"},
        /* quotes that the client opened do not swallow what the proxy added */
        {"Forwarded: for=\"x, for=192.0.2.1\r\n", "192.0.2.1"},
        {"Forwarded: for=6.6.6.6;host=\", for=192.0.2.1\r\n", "192.0.2.1"},
        {"Forwarded: for=6.6.6.6;host=\"\r\nForwarded: for=192.0.2.1, for=10.0.0.1\r\n", "192.0.2.1"},
        {"Forwarded: for=\"x\r\n", ""},
        {"Forwarded: for=6.6.6.6;host=\"\\\", for=192.0.2.1\r\n", "192.0.2.1"},
        /* and what a proxy quotes for a client is no entry */
        {"Forwarded: for=192.0.2.1;host=\"a;for=6.6.6.6;b\"\r\n", "192.0.2.1"},
        {"Forwarded: for=192.0.2.1;host=\"a,for=6.6.6.6;b=\"\r\n", "192.0.2.1"},
        {"Forwarded: for=192.0.2.1;host=\"a\\\",for=6.6.6.6;b=\"\r\n", "192.0.2.1"},
        {"Forwarded: for=192.0.2.1;host=\"a\\\\\"\r\n", "192.0.2.1"},
        {"Forwarded: for=6.6.6.6;for=192.0.2.1\r\n", ""}, /* who that is nobody knows */
        {"X-Forwarded-For: 6.6.6.6\r\nForwarded: for=192.0.2.1\r\n", "192.0.2.1"},
        {"X-Forwarded-For: 6.6.6.6\r\n", ""},
    };
    for (size_t i = 0; i < COUNT(samples); i++)
        for (int spelling = 0; spelling < 2; spelling++) {
            const char *got = client_by(samples[i].lines, spelling ? "forwarded" : "Forwarded", PROXIES);
            if (strcmp(got, samples[i].want) != 0) printf("walk: %s", samples[i].lines);
            CHECK_TEXT(got, samples[i].want);
        }
}

enum { WALK_MOST = 9 };

/* As the contract says it: from the right, the first that is no trusted proxy; what is no address ends the walk at the last
   good one. */
static const char *walk_back(const char *const *entries, const int *kinds, size_t count) {
    const char *good = "";
    for (size_t i = count; i-- > 0;) {
        if (kinds[i] == 2) return good;
        good = entries[i];
        if (kinds[i] == 0) return good;
    }
    return good;
}

static void against_a_walk_back(void) {
    static const char *const pool[] = {"192.0.2.1", "2001:db8::1", "6.6.6.6", "11.0.0.0", "::1", "10.0.0.1", "10.255.0.2",
                                       "192.168.0.1", "fd00::77", "unknown", "1.2.3", "10.0.0.0/8", "unix", "\"", "fd00::g"};
    int told_of[3] = {0, 0, 0};
    for (int round = 0; round < 20000; round++) {
        const char *entries[WALK_MOST];
        int kinds[WALK_MOST];
        char lines[1024] = "";
        size_t count = draw(WALK_MOST + 1);
        int is_forwarded = (int)draw(2);
        const char *name = is_forwarded ? "Forwarded" : "X-Forwarded-For";
        for (size_t i = 0; i < count; i++) {
            size_t pick = draw(3) ? 5 + draw(4) : draw(COUNT(pool));
            entries[i] = pool[pick];
            kinds[i] = pick < 5 ? 0 : pick < 9 ? 1 : 2; /* a client's, a proxy's, no address */
            size_t at = strlen(lines);
            int begins = i == 0 || draw(3) == 0;
            int quoted = strchr(entries[i], ':') != NULL;
            snprintf(lines + at, sizeof lines - at, "%s%s%s%s%s%s%s", begins ? i ? "\r\n" : "" : draw(2) ? ", " : ",",
                     begins ? name : "", begins ? ":" : "", !is_forwarded ? "" : draw(2) ? "for=" : "proto=http;For=",
                     is_forwarded && quoted ? "\"[" : "", entries[i], is_forwarded && quoted ? "]\"" : "");
        }
        if (count) strcat(lines, "\r\n");
        const char *want = walk_back(entries, kinds, count);
        const char *got = client_by(lines, name, PROXIES);
        if (strcmp(got, want) != 0) printf("walk: %s", lines);
        CHECK_TEXT(got, want);
        told_of[!*want ? 0 : strncmp(want, "10.", 3) == 0 ? 1 : 2]++;
    }
    CHECK(told_of[0] > 500 && told_of[1] > 500 && told_of[2] > 500);
}

int main(void) {
    alarm(100);
    RUN(lines);
    RUN(longest_line);
    RUN(binary);
    RUN(all_of_the_second);
    RUN(recognizing);
    RUN(damaged);
    RUN(forwarded_for);
    RUN(forwarded);
    RUN(against_a_walk_back);
    return test_end("proxy");
}
