/* What the programs of the benchmark share: the accept key of RFC 6455, masking, a clock, the CPU time of a process.
   Nothing here comes from wsserver.h, so that a fault there cannot hide behind the same fault here. */
#ifndef WIRE_H
#define WIRE_H

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WIRE_UNUSED __attribute__((unused))

enum { WIRE_KEY = 24, WIRE_ACCEPT = 28 };

static void wire_sha1_block(uint32_t sum[5], const unsigned char *block) {
    static const uint32_t constant[4] = {0x5a827999u, 0x6ed9eba1u, 0x8f1bbcdcu, 0xca62c1d6u};
    uint32_t w[80];
    uint32_t v[5];
    memcpy(v, sum, sizeof v);
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[i * 4] << 24 | (uint32_t)block[i * 4 + 1] << 16 | (uint32_t)block[i * 4 + 2] << 8 |
               block[i * 4 + 3];
    for (int i = 16; i < 80; i++) {
        uint32_t x = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
        w[i] = x << 1 | x >> 31;
    }
    for (int i = 0; i < 80; i++) {
        uint32_t choose = (v[1] & v[2]) | (~v[1] & v[3]);
        uint32_t parity = v[1] ^ v[2] ^ v[3];
        uint32_t majority = (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3]);
        uint32_t mix = i < 20 ? choose : i < 40 || i >= 60 ? parity : majority;
        uint32_t next = (v[0] << 5 | v[0] >> 27) + mix + v[4] + w[i] + constant[i / 20];
        v[4] = v[3];
        v[3] = v[2];
        v[2] = v[1] << 30 | v[1] >> 2;
        v[1] = v[0];
        v[0] = next;
    }
    for (int i = 0; i < 5; i++) sum[i] += v[i];
}

static void wire_base64(const unsigned char *data, size_t size, char *out) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t at = 0; at < size; at += 3) {
        uint32_t bits = (uint32_t)data[at] << 16;
        if (at + 1 < size) bits |= (uint32_t)data[at + 1] << 8;
        if (at + 2 < size) bits |= data[at + 2];
        *out++ = alphabet[bits >> 18];
        *out++ = alphabet[bits >> 12 & 63];
        *out++ = at + 1 < size ? alphabet[bits >> 6 & 63] : '=';
        *out++ = at + 2 < size ? alphabet[bits & 63] : '=';
    }
}

/* The Sec-WebSocket-Accept, not terminated, to a key of WIRE_KEY characters. */
static void wire_accept(const char *key, char out[WIRE_ACCEPT]) {
    static const char suffix[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char text[128] = {0};
    unsigned char digest[20];
    uint32_t sum[5] = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u};
    size_t size = WIRE_KEY + sizeof suffix - 1; /* 60: padding and length fill a second block */
    memcpy(text, key, WIRE_KEY);
    memcpy(text + WIRE_KEY, suffix, sizeof suffix - 1);
    text[size] = 0x80;
    text[126] = (unsigned char)(size * 8 >> 8);
    text[127] = (unsigned char)(size * 8 & 255);
    wire_sha1_block(sum, text);
    wire_sha1_block(sum, text + 64);
    for (int i = 0; i < 20; i++) digest[i] = (unsigned char)(sum[i / 4] >> (24 - i % 4 * 8) & 255);
    wire_base64(digest, sizeof digest, out);
}

/* The mask as it stands before a byte that many bytes further on. */
WIRE_UNUSED static uint32_t wire_turn_mask(uint32_t mask, size_t bytes) {
    unsigned char four[4];
    unsigned char turned[4];
    memcpy(four, &mask, 4);
    for (size_t i = 0; i < 4; i++) turned[i] = four[(i + bytes) & 3];
    memcpy(&mask, turned, 4);
    return mask;
}

typedef uint64_t wire_words __attribute__((vector_size(32)));

/* Unmasks size bytes from one place to another, in wide words. They may overlap where to is not behind from. */
WIRE_UNUSED static void wire_unmask(char *to, const char *from, size_t size, uint32_t mask) {
    uint64_t twice = (uint64_t)mask << 32 | mask;
    wire_words wide = {twice, twice, twice, twice};
    size_t at = 0;
    for (; at + sizeof wide <= size; at += sizeof wide) {
        wire_words words;
        memcpy(&words, from + at, sizeof words);
        words ^= wide;
        memcpy(to + at, &words, sizeof words);
    }
    for (; at + 4 <= size; at += 4) {
        uint32_t word;
        memcpy(&word, from + at, 4);
        word ^= mask;
        memcpy(to + at, &word, 4);
    }
    for (size_t i = 0; at < size; at++, i++) to[at] = (char)(from[at] ^ ((const char *)&mask)[i]);
}

WIRE_UNUSED static uint64_t wire_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

WIRE_UNUSED static uint64_t wire_read_schedstat(const char *path) {
    unsigned long long on_cpu = 0;
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%llu", &on_cpu) != 1) on_cpu = 0;
    fclose(file);
    return on_cpu;
}

/* Nanoseconds that all threads of a process, or one of them (thread > 0), have run. 0 where it cannot be read. */
WIRE_UNUSED static uint64_t wire_cpu(int pid, int thread) {
    char path[300];
    uint64_t sum = 0;
    struct dirent *entry;
    if (pid <= 0) return 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *directory = opendir(path);
    if (!directory) return 0;
    while ((entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.' || (thread > 0 && atoi(entry->d_name) != thread)) continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/schedstat", pid, entry->d_name);
        sum += wire_read_schedstat(path);
    }
    closedir(directory);
    return sum;
}

#endif
