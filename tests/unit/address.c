/* Unit tests of [address]: addresses as text, what is the same, loopback, networks of every size, lists. */
#include "../library.h"

#include "../test.h"

enum { OTHER = 64 }; /* random samples of each network */

static uint32_t drawn = 1;

static unsigned draw(void) {
    drawn = drawn * 1664525u + 1013904223u;
    return drawn >> 8;
}

/* Reads text that ends at an unreadable page. */
static int parse(const char *text, size_t size, wss__address *address) {
    char *copy = guard_copy(text, size);
    int good = wss__address_parse(wss__base_span(copy, size), address);
    guard_free(copy, size);
    return good;
}

static wss__address read_address(const char *text) {
    wss__address address;
    if (parse(text, strlen(text), &address)) return address;
    printf("no address: %s\n", text);
    test_broken++;
    return wss__address_of(WSS__ADDRESS_NONE, NULL, 0, 0);
}

typedef struct sample {
    const char *text;
    const char *want; /* as it is written; NULL: it is no address */
    int port;
} sample;

static void parsing(void) {
    static const sample samples[] = {
        {"192.0.2.1", "192.0.2.1", 0},
        {"192.0.2.1:80", "192.0.2.1", 80},
        {"192.0.2.1:0", "192.0.2.1", 0},
        {"192.0.2.1:65535", "192.0.2.1", 65535},
        {"[192.0.2.1]", "192.0.2.1", 0},
        {"0.0.0.0", "0.0.0.0", 0},
        {"255.255.255.255", "255.255.255.255", 0},
        {"::", "::", 0},
        {"::1", "::1", 0},
        {"[::1]", "::1", 0},
        {"[::1]:443", "::1", 443},
        {"2001:db8::1", "2001:db8::1", 0},
        {"2001:DB8:0:0::1", "2001:db8::1", 0},
        {"[2001:db8::1]:4711", "2001:db8::1", 4711},
        {"2001:db8::1:80", "2001:db8::1:80", 0}, /* no port: without brackets nobody could tell */
        {"::ffff:192.0.2.1", "192.0.2.1", 0},
        {"[::ffff:c000:201]:9", "192.0.2.1", 9},
        {"::ffff:0:0", "0.0.0.0", 0},
        {"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0},
        {"", NULL, 0},
        {":", NULL, 0},
        {":80", NULL, 0},
        {"[", NULL, 0},
        {"[]", NULL, 0},
        {"[]:80", NULL, 0},
        {"[::1", NULL, 0},
        {"::1]", NULL, 0},
        {"[::1:80", NULL, 0},
        {"[::1]80", NULL, 0},
        {"[::1]x:80", NULL, 0},
        {"[::1]:", NULL, 0},
        {"[::1]:x", NULL, 0},
        {"[::1]:65536", NULL, 0},
        {"[::1]:-1", NULL, 0},
        {"[::1]:80:80", NULL, 0},
        {"[[::1]]", NULL, 0},
        {"192.0.2.1:", NULL, 0},
        {"192.0.2.1:65536", NULL, 0},
        {"192.0.2.1:8o", NULL, 0},
        {"192.0.2.1:80:80", NULL, 0},
        {"192.0.2.1 ", NULL, 0},
        {" 192.0.2.1", NULL, 0},
        {"192.0.2", NULL, 0},
        {"192.0.2.1.1", NULL, 0},
        {"192.0.2.256", NULL, 0},
        {"0300.0.2.1", NULL, 0},
        {"3221225985", NULL, 0},
        {"127.1", NULL, 0},
        {"fe80::1%lo", NULL, 0},
        {":::", NULL, 0},
        {"1:2:3:4:5:6:7:8:9", NULL, 0},
        {"localhost", NULL, 0},
        {"unknown", NULL, 0},
        {"_hidden", NULL, 0},
        {"unix:", NULL, 0},
        {"192.0.2.1/24", NULL, 0},
        {"1111111111111111111111111111111111111111111111", NULL, 0},
    };
    char text[WSS__ADDRESS_TEXT];
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        const sample *s = &samples[i];
        wss__address address;
        int good = parse(s->text, strlen(s->text), &address);
        if (good != (s->want != NULL)) printf("address: %s\n", s->text);
        CHECK_INT(good, s->want != NULL);
        if (!good || !s->want) continue;
        CHECK_TEXT(wss__address_text(&address, text), s->want);
        CHECK_INT(address.port, s->port);
        CHECK_INT(address.kind, WSS__ADDRESS_IP);
    }
    wss__address other; /* how it is written is the C library's choice; it is not the address of IPv4 */
    wss__address same;
    CHECK(parse("::192.0.2.1", 11, &same) && parse("::c000:201", 10, &other));
    CHECK_TEXT(wss__address_text(&same, text), wss__address_text(&other, text));
    CHECK(strcmp(text, "192.0.2.1") != 0);
}

/* What ends in NUL for the system's reader does not end there for us. */
static void parsing_stops_at_no_nul(void) {
    wss__address address;
    CHECK_INT(parse("192.0.2.1\0", 10, &address), 0);
    CHECK_INT(parse("192.0.2.1\0x", 11, &address), 0);
    CHECK_INT(parse("::1\0.5", 6, &address), 0);
    CHECK_INT(parse("[::1\0]", 6, &address), 0);
    CHECK_INT(parse("\0", 1, &address), 0);
    CHECK_INT(parse("192.0.2.1", 9, &address), 1);
}

static void texts(void) {
    char text[WSS__ADDRESS_TEXT];
    static const unsigned char bytes[16] = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7};
    wss__address none = wss__address_of(WSS__ADDRESS_NONE, NULL, 0, 0);
    wss__address local = wss__address_of(WSS__ADDRESS_UNIX, NULL, 0, 0);
    wss__address v4 = wss__address_of(WSS__ADDRESS_IP, bytes, 4, 80);
    wss__address v6 = wss__address_of(WSS__ADDRESS_IP, bytes, 16, 65535);
    CHECK_TEXT(wss__address_text(&none, text), "");
    CHECK_TEXT(wss__address_text(&local, text), "unix");
    CHECK_TEXT(wss__address_text(&v4, text), "254.128.0.0");
    CHECK_TEXT(wss__address_text(&v6, text), "fe80::7");
    CHECK_INT(v4.port, 80);
    CHECK_INT(v6.port, 65535);
    CHECK_INT(wss__address_is_v4(&v4), 1);
    CHECK_INT(wss__address_is_v4(&v6), 0);
    CHECK_INT(wss__address_is_v4(&local), 0);
    CHECK_INT(wss__address_is_v4(&none), 0);
    /* A kind that has no bytes is no address, whatever they are. */
    v4.kind = WSS__ADDRESS_UNIX;
    CHECK_INT(wss__address_is_v4(&v4), 0);
    CHECK_TEXT(wss__address_text(&v4, text), "unix");
}

/* Text and back, for addresses in which runs of zeros and of ones stand at all places. */
static void there_and_back(void) {
    for (int round = 0; round < 4000; round++) {
        unsigned char bytes[16];
        char text[WSS__ADDRESS_TEXT];
        wss__address again;
        int size = round & 1 ? 16 : 4;
        for (int i = 0; i < size; i++) bytes[i] = (unsigned char)(draw() & 1 ? 0 : draw() & 1 ? 0xff : draw() & 0xff);
        if (size == 16 && round % 8 == 1) memset(bytes, 0, 10);
        wss__address made = wss__address_of(WSS__ADDRESS_IP, bytes, (size_t)size, 0);
        wss__address_text(&made, text);
        CHECK_INT(parse(text, strlen(text), &again), 1);
        CHECK(memcmp(&made, &again, sizeof made) == 0);
    }
}

typedef struct pair {
    const char *a;
    const char *b; /* NULL: has no key */
    int want;
} pair;

/* Who shares one count: an IPv4 address, or a /64. */
static void keys(void) {
    static const pair pairs[] = {
        {"192.0.2.1", "192.0.2.1", 1},
        {"192.0.2.1:80", "192.0.2.1:81", 1},
        {"192.0.2.1", "::ffff:192.0.2.1", 1},
        {"192.0.2.1", "192.0.2.2", 0},
        {"2001:db8::1", "2001:db8::2", 1},
        {"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", 1},
        {"2001:db8:0:1::1", "2001:db8:0:2::1", 0},
        {"2001:db8::1", "2001:db8:0:1::1", 0},
        {"::1", "::ffff:127.0.0.1", 0},
        {"::1", "127.0.0.1", 0},
    };
    char a[8], b[8];
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        wss__address one = read_address(pairs[i].a);
        wss__address two = read_address(pairs[i].b);
        CHECK_INT(wss__address_key(&one, a), 1);
        CHECK_INT(wss__address_key(&two, b), 1);
        CHECK_INT(memcmp(a, b, 8) == 0, pairs[i].want);
    }
    wss__address v4 = read_address("192.0.2.1");
    wss__address v6 = read_address("2001:db8:1:2:3:4:5:6");
    memset(a, 0x5a, sizeof a);
    CHECK(wss__address_key(&v4, a) && memcmp(a, "\0\0\0\0\xc0\0\x02\x01", 8) == 0);
    CHECK(wss__address_key(&v6, a) && memcmp(a, "\x20\x01\x0d\xb8\0\x01\0\x02", 8) == 0);
    wss__address none = wss__address_of(WSS__ADDRESS_NONE, NULL, 0, 0);
    wss__address local = wss__address_of(WSS__ADDRESS_UNIX, NULL, 0, 0);
    CHECK_INT(wss__address_key(&none, a), 0);
    CHECK_INT(wss__address_key(&local, a), 0);
}

static void loopback(void) {
    static const sample samples[] = {
        {"127.0.0.1", "", 1}, {"127.255.255.255", "", 1}, {"127.0.0.0", "", 1}, {"::1", "", 1},
        {"::ffff:127.0.0.1", "", 1}, {"[::1]:80", "", 1}, {"126.255.255.255", "", 0}, {"128.0.0.1", "", 0},
        {"0.0.0.0", "", 0}, {"::", "", 0}, {"::2", "", 0}, {"1::1", "", 0}, {"::127.0.0.1", "", 0},
        {"10.127.0.0", "", 0}, {"fe80::1", "", 0},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        wss__address address = read_address(samples[i].text);
        if (wss__address_is_loopback(&address) != samples[i].port) printf("loopback: %s\n", samples[i].text);
        CHECK_INT(wss__address_is_loopback(&address), samples[i].port);
    }
    wss__address none = wss__address_of(WSS__ADDRESS_NONE, NULL, 0, 0);
    wss__address local = wss__address_of(WSS__ADDRESS_UNIX, NULL, 0, 0);
    none.bytes[15] = local.bytes[15] = 1;
    CHECK_INT(wss__address_is_loopback(&none), 0);
    CHECK_INT(wss__address_is_loopback(&local), 0);
}

static void networks(void) {
    static const sample samples[] = {
        {"10.0.0.0/8", "10.0.0.0", 104}, {"10.0.0.1", "10.0.0.1", 128}, {"10.0.0.1/32", "10.0.0.1", 128},
        {"0.0.0.0/0", "0.0.0.0", 96}, {"::/0", "::", 0}, {"fd00::/8", "fd00::", 8}, {"::1/128", "::1", 128},
        {"::ffff:10.0.0.0/104", "10.0.0.0", 104}, {"unix:", "unix", 0},
        {"10.0.0.0/33", NULL, 0}, {"fd00::/129", NULL, 0}, {"10.0.0.0/", NULL, 0}, {"10.0.0.0/x", NULL, 0},
        {"10.0.0.0/-1", NULL, 0}, {"10.0.0.0/8/8", NULL, 0}, {"/8", NULL, 0}, {"", NULL, 0}, {"/", NULL, 0},
        {"10.0.0/8", NULL, 0}, {"10.0.0.0:80", NULL, 0}, {"[fd00::]/8", NULL, 0}, {"fd00::/ 8", NULL, 0},
        {"unix", NULL, 0}, {"unix:/", NULL, 0}, {"unix:/run/x", NULL, 0}, {"UNIX:", NULL, 0}, {"unix:/8", NULL, 0},
        {"localhost", NULL, 0}, {"*", NULL, 0},
    };
    char text[WSS__ADDRESS_TEXT];
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        const sample *s = &samples[i];
        size_t size = strlen(s->text);
        wss__address network;
        int bits = -1;
        char *copy = guard_copy(s->text, size);
        int good = wss__address_parse_network(wss__base_span(copy, size), &network, &bits);
        if (good != (s->want != NULL)) printf("network: %s\n", s->text);
        CHECK_INT(good, s->want != NULL);
        if (good) CHECK_INT(bits, s->port);
        if (good && s->want) CHECK_TEXT(wss__address_text(&network, text), s->want);
        guard_free(copy, size);
    }
}

static int bit(const wss__address *address, int index) {
    return address->bytes[index / 8] >> (7 - index % 8) & 1;
}

/* A network of every size takes what has its bits, and nothing that differs in the last of them. */
static void every_prefix(void) {
    char text[WSS__ADDRESS_TEXT];
    char list[WSS__ADDRESS_TEXT + 8];
    for (int v6 = 0; v6 < 2; v6++) {
        int all = v6 ? 128 : 32;
        for (int some = 0; some <= all; some++) {
            unsigned char bytes[16];
            for (int i = 0; i < 16; i++) bytes[i] = (unsigned char)(draw() & 0xff);
            wss__address network = wss__address_of(WSS__ADDRESS_IP, bytes, (size_t)all / 8, 0);
            snprintf(list, sizeof list, "%s/%d", wss__address_text(&network, text), some);
            CHECK_INT(wss__address_in(&network, list), 1);
            int must = 128 - all + some;
            for (int index = 0; index < 128; index++) { /* one bit is another one */
                wss__address other = network;
                other.bytes[index / 8] = (unsigned char)(other.bytes[index / 8] ^ 0x80 >> index % 8);
                CHECK_INT(wss__address_in(&other, list), index >= must);
            }
            for (int round = 0; round < OTHER; round++) { /* and many are */
                wss__address other = network;
                int same = 1;
                int from = (int)(draw() % 128);
                for (int i = from / 8; i < 16; i++) other.bytes[i] = (unsigned char)(draw() & 0xff);
                for (int i = 0; i < must; i++) same = same && bit(&network, i) == bit(&other, i);
                CHECK_INT(wss__address_in(&other, list), same);
            }
            network.port = 4711; /* a port is nothing to it */
            CHECK_INT(wss__address_in(&network, list), 1);
            network.kind = WSS__ADDRESS_NONE;
            CHECK_INT(wss__address_in(&network, list), 0);
        }
    }
}

static void lists(void) {
    static const struct {
        const char *list;
        const char *address; /* "" none, "unix" */
        int want;
    } samples[] = {
        {NULL, "192.0.2.1", 0},
        {"", "192.0.2.1", 0},
        {",", "192.0.2.1", 0},
        {"192.0.2.1", "192.0.2.1", 1},
        {"192.0.2.1", "::ffff:192.0.2.1", 1},
        {"::ffff:192.0.2.1", "192.0.2.1", 1},
        {"192.0.2.1", "192.0.2.2", 0},
        {"192.0.2.2, 192.0.2.1", "192.0.2.1", 1},
        {" 192.0.2.2 ,\t192.0.2.1 ,", "192.0.2.1", 1},
        {"x,192.0.2.1", "192.0.2.1", 1},
        {"192.0.2.1/33,x", "192.0.2.1", 0},
        {"unix:,fd00::/8", "192.0.2.1", 0},
        {"unix:,fd00::/8", "fdff::1", 1},
        {"fd00::/8, unix:", "unix", 1},
        {"fd00::/8,0.0.0.0/0,::/0", "unix", 0},
        {"unix:", "", 0},
        {"::/0", "", 0},
        {"::/0", "192.0.2.1", 1}, /* an IPv4 address stands in IPv6 */
        {"0.0.0.0/0", "::1", 0},
        {"0.0.0.0/0", "192.0.2.1", 1},
        {"127.0.0.0/9", "127.127.255.255", 1},
        {"127.0.0.0/9", "127.128.0.0", 0},
        {"127.0.0.77/9", "127.1.2.3", 1}, /* what stands behind its bits is nothing */
        {"::1", "127.0.0.1", 0},
        {"127.0.0.1", "::1", 0},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        const char *text = samples[i].address;
        int kind = strcmp(text, "unix") == 0 ? WSS__ADDRESS_UNIX : WSS__ADDRESS_NONE;
        wss__address address = kind || !*text ? wss__address_of(kind, NULL, 0, 0) : read_address(text);
        int got = wss__address_in(&address, samples[i].list);
        if (got != samples[i].want) printf("list: %s in %s\n", text, samples[i].list ? samples[i].list : "(null)");
        CHECK_INT(got, samples[i].want);
    }
}

int main(void) {
    alarm(100);
    RUN(parsing);
    RUN(parsing_stops_at_no_nul);
    RUN(texts);
    RUN(there_and_back);
    RUN(keys);
    RUN(loopback);
    RUN(networks);
    RUN(every_prefix);
    RUN(lists);
    return test_end("address");
}
