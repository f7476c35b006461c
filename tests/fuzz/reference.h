/* reference.h: UTF-8 by the text of RFC 3629, written apart from the header: the fuzz targets compare the two. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <stddef.h>
#include <stdint.h>

enum { REFERENCE_WHOLE = 0, REFERENCE_INSIDE, REFERENCE_REJECTED };

/* The length of the character at at, 0 where it is cut off by the end, -1 where there is none. */
static inline int reference_decode(const unsigned char *at, size_t left, uint32_t *code) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    int count = at[0] < 0x80 ? 1 : at[0] < 0xc0 ? -1 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf8 ? 4 : -1;
    if (count < 0) return -1;
    uint32_t low = count == 1 ? at[0] : at[0] & (0x7fu >> count); /* with all that may follow zero */
    uint32_t high = low;                                          /* and all one */
    int here = 1;
    while (here < count && (size_t)here < left) {
        if ((at[here] & 0xc0) != 0x80) return -1;
        low = low << 6 | (at[here] & 0x3fu);
        high = high << 6 | (at[here] & 0x3fu);
        here++;
    }
    for (int i = here; i < count; i++) {
        low = low << 6;
        high = high << 6 | 0x3f;
    }
    if (high < least[count] || low > 0x10ffff || (low >= 0xd800 && high <= 0xdfff)) return -1;
    *code = low;
    return here < count ? 0 : count;
}

/* What a text is at its end: between characters, inside one, or rejected. */
static inline int reference_verdict(const void *data, size_t size) {
    const unsigned char *bytes = (const unsigned char *)data;
    uint32_t code;
    for (size_t at = 0; at < size;) {
        int taken = reference_decode(bytes + at, size - at, &code);
        if (taken <= 0) return taken < 0 ? REFERENCE_REJECTED : REFERENCE_INSIDE;
        at += (size_t)taken;
    }
    return REFERENCE_WHOLE;
}

#endif
