/* fuzz.h: what the fuzz targets share. A target defines FUZZ_TARGET, its name, and LLVMFuzzerTestOneInput. Built plainly
   it replays files: those given, or its corpus. With FUZZING_ENGINE defined the engine brings main. */
#ifndef FUZZ_H
#define FUZZ_H

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *fuzz_file = "input of the engine"; /* in hand, for the message */

static inline void fuzz_name_file(void) {
    fprintf(stderr, "%s: %s\n", FUZZ_TARGET, fuzz_file);
}

/* What must hold for every input. A false one ends the program, which the engine takes for a finding. */
#define FUZZ_CHECK(condition)                                                                \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);        \
            fuzz_name_file();                                                                \
            abort();                                                                         \
        }                                                                                    \
    } while (0)

/* The rest of an input. Bytes taken from it are choices; at its end all choices are 0. */
typedef struct fuzz_input {
    const uint8_t *at;
    size_t left;
} fuzz_input;

static inline fuzz_input fuzz_begin(const uint8_t *data, size_t size) {
    fuzz_input in;
    in.at = data;
    in.left = size;
    return in;
}

static inline unsigned fuzz_byte(fuzz_input *in) {
    if (!in->left) return 0;
    in->left--;
    return *in->at++;
}

/* A choice below count, which is at most 256. */
static inline unsigned fuzz_below(fuzz_input *in, unsigned count) {
    return fuzz_byte(in) % count;
}

/* Takes at most size bytes; returns where they lie and how many in *taken. */
static inline const char *fuzz_take(fuzz_input *in, size_t size, size_t *taken) {
    const char *from = (const char *)in->at;
    *taken = size < in->left ? size : in->left;
    if (*taken) in->at += *taken;
    in->left -= *taken;
    return *taken ? from : "";
}

/* Memory of exactly this size, so that the sanitizer sees one byte too far. */
static inline char *fuzz_copy(const void *data, size_t size) {
    char *copy = (char *)malloc(size ? size : 1);
    if (!copy) abort();
    if (size) memcpy(copy, data, size);
    return copy;
}

/* Sizes of pieces into which the same bytes are cut. All zero: one piece. */
typedef struct fuzz_cuts {
    uint32_t state; /* of the numbers drawn; 0: not cut, 1: one byte each */
} fuzz_cuts;

static inline fuzz_cuts fuzz_cut(unsigned choice) {
    fuzz_cuts cuts;
    cuts.state = choice;
    return cuts;
}

static inline size_t fuzz_piece(fuzz_cuts *cuts, size_t left) {
    if (cuts->state == 0) return left;
    if (cuts->state == 1) return left ? 1 : 0;
    cuts->state = cuts->state * 1103515245u + 12345u;
    if (cuts->state < 2) cuts->state = 2;
    uint32_t drawn = cuts->state >> 16;
    size_t size = 1 + (drawn & 8 ? drawn >> 4 & 7 : drawn >> 4 & 127);
    return size < left ? size : left;
}

#ifndef FUZZING_ENGINE

static size_t fuzz_replayed;

static inline void fuzz_replay_file(const char *path) {
    FILE *file = fopen(path, "rb");
    char *data = NULL;
    size_t size = 0;
    size_t capacity = 0;
    if (!file) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    for (;;) {
        if (size == capacity) data = (char *)realloc(data, capacity = capacity * 2 + 4096);
        if (!data) abort();
        size_t got = fread(data + size, 1, capacity - size, file);
        size += got;
        if (!got) break;
    }
    fclose(file);
    char *exact = fuzz_copy(data, size);
    free(data);
    fuzz_file = path;
    LLVMFuzzerTestOneInput((const uint8_t *)exact, size);
    fuzz_replayed++;
    free(exact);
}

static inline int fuzz_is_shown(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

/* A file, or the files of a folder in the order of their names. */
static inline void fuzz_replay(const char *path) {
    struct stat about;
    struct dirent **entries;
    if (stat(path, &about) != 0 || !S_ISDIR(about.st_mode)) {
        fuzz_replay_file(path);
        return;
    }
    int count = scandir(path, &entries, fuzz_is_shown, alphasort);
    if (count < 0) abort();
    for (int i = 0; i < count; i++) {
        char inner[1024];
        snprintf(inner, sizeof inner, "%s/%s", path, entries[i]->d_name);
        fuzz_replay_file(inner);
        free(entries[i]);
    }
    free(entries);
}

/* Of the sanitizers, where the program is built with them: called before they end it. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

int main(int argc, char **argv) {
    if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(fuzz_name_file);
    for (int i = 1; i < argc; i++) fuzz_replay(argv[i]);
    if (argc == 1) fuzz_replay("tests/fuzz/corpus/" FUZZ_TARGET);
    printf("fuzz/%s: %zu passed, 0 failed\n", FUZZ_TARGET, fuzz_replayed);
    return 0;
}

#endif
#endif
