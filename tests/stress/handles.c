/* Handles that nobody was given: a thousand million random ones name nothing, and a place that is used a million times never
   has a handle again that it had before.
   usage: handles */
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"

enum { LIVE = 256 };

static const long tries = 1000000000;
static const long uses = 1000000;

int main(void) {
    static wss__slot_table table;
    wss__mem mem;
    wss_options options;
    uint64_t random = 88172645463325252u;
    long hits = 0;
    long back = 0;
    memset(&options, 0, sizeof options);
    options.memory_budget = WSS_UNLIMITED;
    wss__mem_init(&mem, &options);
    /* One of 2^40 generations: of this many tries some would meet it in one run of two thousand, were it drawn anew in each. */
    if (!wss__slot_init(&table, &mem, sizeof(wss__slot), LIVE, 0x2545f4914f6cdd1du)) return 2;
    for (int i = 0; i < LIVE; i++) wss__slot_set(wss__slot_take(&table), 0, WSS__SLOT_OWNED);
    for (long i = 0; i < tries; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint64_t id = i % 2 ? random : (random & ~(uint64_t)(WSS__SLOT_LIMIT)) | (random & (LIVE - 1)); /* a place that exists */
        hits += wss__slot_find(&table, id) != NULL;
    }
    wss__slot *slot = wss__slot_at(&table, 7);
    uint64_t first = wss__slot_id(slot);
    uint64_t before = first;
    for (long i = 0; i < uses; i++) {
        wss__slot_release(&table, slot);
        back += wss__slot_find(&table, wss__slot_id(slot)) != NULL; /* what comes next is not there yet */
        if (wss__slot_take(&table) != slot) return 2;
        wss__slot_set(slot, 0, WSS__SLOT_OWNED);
        back += wss__slot_id(slot) <= before || wss__slot_find(&table, before) || wss__slot_find(&table, first);
        before = wss__slot_id(slot);
    }
    printf("handles: %ld random ones, %ld of them named something; one place used %ld times, %ld old handles came back\n", tries,
           hits, uses, back);
    wss__slot_destroy(&table);
    return hits || back || mem.used;
}
