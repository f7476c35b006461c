/* Fuzz target of [utf8]: a decoder of another design agrees at every place of a text, however the text is cut and wherever
   it lies in memory; what is decoded encodes to the same bytes. */
#define FUZZ_TARGET "utf8"
#include "work.h"

#include "fuzz.h"
#include "reference.h"

/* verdicts[i]: what the text is after i bytes. */
static void judge(const unsigned char *data, size_t size, unsigned char *verdicts) {
    size_t at = 0;
    verdicts[0] = REFERENCE_WHOLE;
    while (at < size) {
        uint32_t code = 0;
        int taken = 1;
        size_t seen = 1;
        for (; at + seen <= size; seen++) { /* byte by byte: when does the verdict fall */
            taken = reference_decode(data + at, seen, &code);
            if (taken) break;
            verdicts[at + seen] = REFERENCE_INSIDE;
        }
        if (taken == 0) return;
        if (taken < 0) {
            memset(verdicts + at + seen, REFERENCE_REJECTED, size - at - seen + 1);
            return;
        }
        char again[4];
        FUZZ_CHECK(wss__utf8_encode(code, again) == taken && memcmp(again, data + at, (size_t)taken) == 0);
        at += (size_t)taken;
        verdicts[at] = REFERENCE_WHOLE;
    }
}

static int verdict_of(wss__utf8 state) {
    return state == 0 ? REFERENCE_WHOLE : state == WSS__UTF8_REJECT ? REFERENCE_REJECTED : REFERENCE_INSIDE;
}

/* The plain way, one step a byte. */
static wss__utf8 step_through(const char *data, size_t size) {
    wss__utf8 state = 0;
    for (size_t i = 0; i < size; i++) state = wss__utf8_step(state, data[i]);
    return state;
}

static void check_pieces(const char *data, size_t size, unsigned choice, const unsigned char *verdicts) {
    fuzz_cuts cuts = fuzz_cut(choice);
    wss__utf8 state = 0;
    size_t at = 0;
    while (at < size) {
        size_t piece = fuzz_piece(&cuts, size - at);
        char *copy = fuzz_copy(data + at, piece);
        state = wss__utf8_check(state, copy, piece);
        free(copy);
        at += piece;
        FUZZ_CHECK(verdict_of(state) == verdicts[at]);
        FUZZ_CHECK(wss__utf8_check(state, NULL, 0) == state);
    }
    FUZZ_CHECK(state == step_through(data, size));
}

/* The fast part may end early, never inside a character and never behind what is wrong. */
static void check_prefix(const char *data, size_t size, const unsigned char *verdicts) {
    size_t prefix = wss__utf8_prefix(data, size);
    FUZZ_CHECK(prefix <= size && verdicts[prefix] == REFERENCE_WHOLE);
}

static void check(const char *data, size_t size, unsigned choice) {
    unsigned char *verdicts = (unsigned char *)malloc(size + 1);
    if (!verdicts) abort();
    judge((const unsigned char *)data, size, verdicts);
    work_done = 0;
    wss__utf8 whole = wss__utf8_check(0, data, size);
    FUZZ_CHECK(work_done <= 8 * size + 256);
    FUZZ_CHECK(verdict_of(whole) == verdicts[size]);
    FUZZ_CHECK(whole == step_through(data, size));
    check_prefix(data, size, verdicts);
    check_pieces(data, size, 1, verdicts);
    check_pieces(data, size, choice, verdicts);
    free(verdicts);
}

/* The bytes, with letters before and behind them, so that they stand at every place of what is looked at at once. */
static void check_padded(const char *data, size_t size, unsigned before, unsigned behind, unsigned choice) {
    char *padded = (char *)malloc(before + size + behind + 1);
    if (!padded) abort();
    memset(padded, 'a', before);
    if (size) memcpy(padded + before, data, size);
    memset(padded + before + size, 'z', behind);
    char *exact = fuzz_copy(padded, before + size + behind);
    check(exact, before + size + behind, choice);
    free(exact);
    free(padded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_input in = fuzz_begin(data, size);
    unsigned choice = fuzz_byte(&in);
    unsigned before = fuzz_byte(&in);
    unsigned behind = fuzz_byte(&in);
    char *exact = fuzz_copy(in.at, in.left);
    check(exact, in.left, choice);
    check_padded(exact, in.left, before, behind, choice);
    free(exact);
    return 0;
}
