/* hash: SHA-1, base64, Sec-WebSocket-Key and Sec-WebSocket-Accept. */
#include "../library.h"
#include "../test.h"

static void to_hex(const unsigned char *digest, char *out) {
    for (int i = 0; i < 20; i++) sprintf(out + i * 2, "%02x", (unsigned)digest[i]);
}

static void check_sha1(const char *data, size_t size, const char *want) {
    unsigned char digest[20];
    char hex[41];
    char *copy = guard_copy(data, size);
    wss__hash_sha1(copy, size, digest);
    to_hex(digest, hex);
    CHECK_TEXT(hex, want);
    guard_free(copy, size);
}

static void test_sha1_vectors(void) {
    static char many[1000000];
    memset(many, 'a', sizeof many);
    check_sha1("", 0, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    check_sha1("abc", 3, "a9993e364706816aba3e25717850c26c9cd0d89d");
    check_sha1("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
               "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    check_sha1(many, 1000000, "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    check_sha1(many, 55, "c1c8bbdc22796e28c0e15163d20899b65621d65a");
    check_sha1(many, 56, "c2db330f6083854c99d4b5bfb6e8f29f201be699");
    check_sha1(many, 63, "03f09f5b158a7a8cdad920bddc29b81c18a551f5");
    check_sha1(many, 64, "0098ba824b5c16427bd7a1122a5a442a25ec644d");
    check_sha1(many, 119, "ee971065aaa017e0632a8ca6c77bb3bf8b1dfc56");
    check_sha1(many, 120, "f34c1488385346a55709ba056ddd08280dd4c6d6");
}

/* The digests of all lengths up to 200, digested: the constant comes from another program. */
static void test_sha1_lengths(void) {
    static char digests[201 * 20];
    for (int size = 0; size <= 200; size++) {
        char data[200];
        for (int i = 0; i < size; i++) data[i] = (char)(i * 7 + size);
        wss__hash_sha1(data, (size_t)size, (unsigned char *)digests + size * 20);
    }
    check_sha1(digests, sizeof digests, "d0de06f4c5cb01efe13d538b17bbc0bd8144a1c2");
}

static void test_base64_vectors(void) {
    static const char *cases[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"},
                                     {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"},
                                     {"\xff\xff\xff", "////"}, {"\xfb\xef\xbe", "++++"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[16];
        size_t size = strlen(cases[i][0]);
        char *copy = guard_copy(cases[i][0], size);
        size_t length = wss__hash_base64((const unsigned char *)copy, size, out);
        CHECK_TEXT(out, cases[i][1]);
        CHECK_INT(length, strlen(cases[i][1]));
        guard_free(copy, size);
    }
}

static int value_of(int c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Every byte at every place of a key: 22 characters of base64, whatever the unused bits of the last, and "==". */
static void test_key_bytes(void) {
    for (int at = 0; at < 24; at++) {
        int accepted = 0;
        for (int c = 0; c < 256; c++) {
            char key[24];
            memcpy(key, "dGhlIHNhbXBsZSBub25jZQ==", 24);
            key[at] = (char)c;
            int valid = at >= 22 ? c == '=' : value_of(c) >= 0;
            char *copy = guard_copy(key, 24);
            CHECK_INT(wss__hash_is_key(wss__base_span(copy, 24)) != 0, valid);
            guard_free(copy, 24);
            accepted += valid;
        }
        CHECK_INT(accepted, at >= 22 ? 1 : 64);
    }
}

static void test_key_encoded(void) {
    unsigned char nonce[16];
    char key[25];
    for (unsigned i = 0; i < 1024; i++) {
        for (unsigned k = 0; k < 16; k++) nonce[k] = (unsigned char)(i * 31 + k * k * i);
        nonce[15] = (unsigned char)(i & 255);
        CHECK_INT(wss__hash_base64(nonce, 16, key), 24);
        CHECK(wss__hash_is_key(wss__base_text(key)));
    }
}

static void test_key_lengths(void) {
    for (size_t size = 0; size <= 48; size++) {
        char *text = guard_copy("dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ==", size);
        CHECK_INT(wss__hash_is_key(wss__base_span(text, size)) != 0, size == 24);
        guard_free(text, size);
    }
    CHECK(!wss__hash_is_key(wss__base_text("dGhlIHNhbXBsZSBub25jZSE=")));
    CHECK(!wss__hash_is_key(wss__base_text("dGhlIHNhbXBsZSBub25jZSEh")));
    CHECK(!wss__hash_is_key(wss__base_text(" dGhlIHNhbXBsZSBub25jZQ=")));
    CHECK(!wss__hash_is_key(wss__base_text("dGhlIHNhbXBsZS=ub25jZQ==")));
    CHECK(!wss__hash_is_key(wss__base_span(NULL, 0)));
}

/* A key is answered as it was sent: the two encode the same bytes, and the second, of RFC 6455 section 4.1, has a stray
   bit. */
static void test_stray_bits(void) {
    static const char *const keys[][2] = {
        {"AQIDBAUGBwgJCgsMDQ4PEA==", "C/0nmHhBztSRGR1CwL6Tf4ZjwpY="},
        {"AQIDBAUGBwgJCgsMDQ4PEC==", "OfS0wDaT5NoxF2gqm7Zj2YtetzM="},
    };
    for (size_t i = 0; i < 2; i++) {
        char out[29];
        CHECK(wss__hash_is_key(wss__base_text(keys[i][0])));
        wss__hash_accept(wss__base_text(keys[i][0]), out);
        CHECK_TEXT(out, keys[i][1]);
    }
}

/* The example of RFC 6455 section 1.3. */
static void test_accept(void) {
    char out[29];
    char *key = guard_copy("dGhlIHNhbXBsZSBub25jZQ==", 24);
    wss__hash_accept(wss__base_span(key, 24), out);
    CHECK_TEXT(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    guard_free(key, 24);
}

int main(void) {
    RUN(test_sha1_vectors);
    RUN(test_sha1_lengths);
    RUN(test_base64_vectors);
    RUN(test_key_bytes);
    RUN(test_key_encoded);
    RUN(test_key_lengths);
    RUN(test_stray_bits);
    RUN(test_accept);
    return test_end("hash");
}
