/* The inner loops of wsserver.h by themselves, to count their instructions: kernels NAME TIMES. Prints how many bytes one
   time takes; instructions.sh runs each twice under callgrind and divides the difference. */
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"

enum { LARGE = 65536, TYPED = 200 };

static char data[LARGE + 64];
static char work[LARGE + 64];
static uint64_t sum; /* keeps the compiler from leaving out what nobody reads */

static void fill_ascii(size_t size) {
    for (size_t i = 0; i < size; i++) data[i] = (char)(' ' + i * 7 % 95);
}

static void fill_utf8(size_t size) {
    static const char some[] = "\xd0\x96\xc3\xa9\xe6\xbc\xa2\xe2\x82\xac\xf0\x9f\x98\x80\xd7\xa9\xe3\x81\x82 ";
    size_t whole = sizeof some - 1;
    for (size_t at = 0; at < size; at += whole) memcpy(data + at, some, size - at < whole ? size - at : whole);
    for (size_t at = size - size % whole; at < size; at++) data[at] = '.';
}

static size_t fill_json(void) {
    static const char text[] = "{\"__MESSAGE__\":\"echo\",\"room\":712,\"user\":\"someone\",\"at\":1234567.125,\"tags\":[\"a\","
                               "\"b\",42],\"deep\":{\"yes\":true,\"none\":null},\"text\":\"";
    memset(data, 'x', TYPED);
    memcpy(data, text, sizeof text - 1);
    memcpy(data + TYPED - 2, "\"}", 2);
    return TYPED;
}

static size_t unmask(long times, size_t size) {
    static const unsigned char mask[4] = {0x12, 0x34, 0x56, 0x78};
    for (long i = 0; i < times; i++) {
        wss__frame_unmask(data, data, size, mask, 0);
        sum += (unsigned char)data[0];
    }
    return size;
}

/* From here on the compiler knows nothing of what memory holds. */
static void hide(char *memory) {
    __asm__ volatile("" : : "r"(memory) : "memory");
}

static size_t decode(long times) {
    wss__frame_head head = {0};
    char frame[8] = {(char)-126, (char)-2, 2, 0, 1, 2, 3, 4}; /* binary, 512 bytes, masked */
    for (long i = 0; i < times; i++) {
        hide(frame);
        sum += (uint64_t)wss__frame_decode(frame, sizeof frame, &head) + head.size + head.mask[3];
    }
    return sizeof frame;
}

static size_t encode(long times) {
    char out[WSS__FRAME_HEAD_MAX_OUT];
    for (long i = 0; i < times; i++) {
        sum += wss__frame_encode(out, WSS_BINARY, (size_t)512 + (size_t)(i & 1));
        hide(out);
    }
    return 4;
}

static size_t check(long times, size_t size) {
    for (long i = 0; i < times; i++) sum += wss__utf8_check(0, data, size);
    return size;
}

static size_t split(long times) {
    wss__json_rest rest;
    size_t size = fill_json();
    for (long i = 0; i < times; i++) {
        memcpy(work, data, size);
        if (wss__json_without(wss__base_span(work, size), wss__base_text("__MESSAGE__"), work, &rest) != WSS_OK) exit(1);
        sum += rest.size;
    }
    return size;
}

static size_t copy(long times) {
    size_t size = fill_json();
    for (long i = 0; i < times; i++) {
        memcpy(work, data, size);
        sum += (unsigned char)work[i % TYPED];
    }
    return size;
}

static size_t writer(long times) {
    wss_args args = {0};
    for (long i = 0; i < times; i++) {
        wss_writer out;
        wss_writer_init(&out, work, sizeof work);
        wss_put_int(&out, "room", 712);
        wss_put_string(&out, "user", "someone");
        wss_put_bool(&out, "yes", 1);
        wss_put_text(&out, "text", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 70);
        args = wss_writer_args(&out);
        sum += args.length;
    }
    return args.length;
}

static size_t number(long times) {
    wss_args args = {0};
    for (long i = 0; i < times; i++) {
        wss_writer out;
        wss_writer_init(&out, work, sizeof work);
        wss_put_double(&out, "at", 1234567.125);
        args = wss_writer_args(&out);
        sum += args.length;
    }
    return args.length;
}

static size_t run(const char *name, long times) {
    if (strcmp(name, "decode") == 0) return decode(times);
    if (strcmp(name, "encode") == 0) return encode(times);
    if (strcmp(name, "unmask-20") == 0) return unmask(times, 20);
    if (strcmp(name, "unmask-512") == 0) return unmask(times, 512);
    if (strcmp(name, "unmask-64k") == 0) return unmask(times, LARGE);
    if (strcmp(name, "split") == 0) return split(times);
    if (strcmp(name, "copy") == 0) return copy(times);
    if (strcmp(name, "writer") == 0) return writer(times);
    if (strcmp(name, "double") == 0) return number(times);
    if (strncmp(name, "ascii", 5) == 0) fill_ascii(LARGE);
    else if (strncmp(name, "utf8", 4) == 0) fill_utf8(strcmp(name, "utf8-200") == 0 ? TYPED : LARGE);
    else exit(2);
    return check(times, strstr(name, "-200") ? TYPED : LARGE);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    size_t bytes = run(argv[1], atol(argv[2]));
    printf("%zu %llu\n", bytes, (unsigned long long)(sum & 1));
    return 0;
}
