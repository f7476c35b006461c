/* Unit tests of [slot]: places, handles that never come back, growth, wear. */
#include "../library.h"

#include "../test.h"

typedef struct thing {
    wss__slot slot;
    uint32_t value;
} thing;

typedef struct heap {
    size_t blocks;
    int fail;
} heap;

static heap memory;

static void *heap_move(void *context, void *pointer, size_t old_size, size_t new_size) {
    heap *h = (heap *)context;
    (void)old_size;
    if (new_size && h->fail) return NULL;
    if (!new_size) {
        h->blocks--;
        free(pointer);
        return NULL;
    }
    if (!pointer) h->blocks++;
    return realloc(pointer, new_size);
}

static void make_mem(wss__mem *mem) {
    wss_options options;
    memset(&options, 0, sizeof options);
    memset(&memory, 0, sizeof memory);
    options.allocator = heap_move;
    options.allocator_context = &memory;
    options.memory_budget = WSS_UNLIMITED;
    wss__mem_init(mem, &options);
}

static void make(wss__slot_table *table, wss__mem *mem, uint32_t limit, uint64_t random) {
    make_mem(mem);
    CHECK(wss__slot_init(table, mem, sizeof(thing), limit, random));
}

static void unmake(wss__slot_table *table, wss__mem *mem) {
    wss__slot_destroy(table);
    CHECK_INT(mem->used, 0);
    CHECK_INT(memory.blocks, 0);
}

/* As an owner does when all is filled. */
static void own(wss__slot *slot) {
    wss__slot_set(slot, 0, WSS__SLOT_OWNED);
}

static wss__slot *take_live(wss__slot_table *table) {
    wss__slot *slot = wss__slot_take(table);
    if (slot) own(slot);
    return slot;
}

static uint64_t generation_of(uint64_t id) {
    return id >> WSS__SLOT_INDEX_BITS;
}

/* Places are handed out from the front, and the one that was given back last is used first. */
static void last_in_first_out(void) {
    wss__slot_table table;
    wss__mem mem;
    wss__slot *slots[10];
    static const uint32_t back[10] = {3, 0, 9, 1, 7, 5, 2, 8, 6, 4};
    make(&table, &mem, 10, 0);
    for (uint32_t i = 0; i < 10; i++) {
        slots[i] = take_live(&table);
        CHECK_INT(wss__slot_index(wss__slot_id(slots[i])), i);
        CHECK(slots[i] == wss__slot_at(&table, i));
    }
    CHECK(!wss__slot_take(&table));
    CHECK_INT(table.live, 10);
    for (int i = 0; i < 10; i++) wss__slot_release(&table, slots[back[i]]);
    CHECK_INT(table.live, 0);
    for (int i = 10; i-- > 0;) CHECK(take_live(&table) == slots[back[i]]);
    CHECK(!wss__slot_take(&table));
    unmake(&table, &mem);
}

/* One place used again and again: each handle is new, and all the old ones name nothing. */
static void generations_rise(void) {
    enum { USES = 300 };
    static uint64_t ids[USES];
    wss__slot_table table;
    wss__mem mem;
    make(&table, &mem, 1, 12345);
    for (int use = 0; use < USES; use++) {
        wss__slot *slot = take_live(&table);
        ids[use] = wss__slot_id(slot);
        CHECK(ids[use] != 0);
        CHECK_INT(generation_of(ids[use]), 12346 + use);
        CHECK_INT(wss__slot_index(ids[use]), 0);
        for (int old = 0; old <= use; old++) CHECK(wss__slot_find(&table, ids[old]) == (old == use ? slot : NULL));
        wss__slot_release(&table, slot);
        CHECK(!wss__slot_find(&table, ids[use]));
    }
    unmake(&table, &mem);
}

/* The next handle stands in a free place already; it names nothing until it is published. */
static void next_id_is_not_found(void) {
    wss__slot_table table;
    wss__mem mem;
    make(&table, &mem, 600, 99);
    wss__slot *slot = take_live(&table);
    for (uint32_t i = 1; i < WSS__SLOT_CHUNK; i++) {
        uint64_t next = wss__slot_id(wss__slot_at(&table, i));
        CHECK(next != 0);
        CHECK(!wss__slot_find(&table, next));
    }
    wss__slot_release(&table, slot);
    uint64_t next = wss__slot_id(slot);
    CHECK(!wss__slot_find(&table, next));
    CHECK(wss__slot_take(&table) == slot);
    CHECK_INT(wss__slot_id(slot), next);
    CHECK(!wss__slot_find(&table, next)); /* taken, being filled */
    CHECK_INT(slot->word & WSS__SLOT_LIMIT, WSS__SLOT_OPENING);
    wss__slot_set(slot, 0x40, WSS__SLOT_OWNED);
    CHECK(wss__slot_find(&table, next) == slot);
    CHECK_INT(slot->word & WSS__SLOT_LIMIT, 0x40 | WSS__SLOT_OWNED);
    wss__slot_set(slot, 0x80, WSS__SLOT_CLOSED);
    CHECK(wss__slot_find(&table, next) == slot); /* for those who hold its handle it is there until it is released */
    CHECK_INT(wss__slot_id(slot), next);
    unmake(&table, &mem);
}

static void strange_ids(void) {
    wss__slot_table table;
    wss__mem mem;
    uint64_t seed = 88172645463325252u;
    make(&table, &mem, 1000, 5);
    wss__slot *live[300];
    for (int i = 0; i < 300; i++) live[i] = take_live(&table);
    CHECK(!wss__slot_find(&table, 0));
    CHECK(!wss__slot_find(&table, UINT64_MAX));
    CHECK(!wss__slot_find(&table, 999));
    CHECK(!wss__slot_find(&table, 1000));
    CHECK(!wss__slot_find(&table, WSS__SLOT_LIMIT));
    CHECK(!wss__slot_find(&table, (uint64_t)6 << WSS__SLOT_INDEX_BITS | 700)); /* a place in a chunk that is not there */
    for (uint32_t i = 0; i < 300; i++) {
        CHECK(wss__slot_find(&table, wss__slot_id(live[i])) == live[i]);
        CHECK(!wss__slot_find(&table, wss__slot_id(live[i]) + ((uint64_t)1 << WSS__SLOT_INDEX_BITS)));
        CHECK(!wss__slot_find(&table, wss__slot_id(live[i]) - ((uint64_t)1 << WSS__SLOT_INDEX_BITS)));
        CHECK(!wss__slot_find(&table, i));
        for (int bit = 0; bit < 64; bit++) {
            uint64_t other = wss__slot_id(live[i]) ^ (uint64_t)1 << bit;
            wss__slot *found = wss__slot_find(&table, other);
            CHECK(!found || (found != live[i] && wss__slot_id(found) == other));
        }
    }
    for (int i = 0; i < 200000; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        uint64_t id = i % 2 ? seed : seed % 4096 | (uint64_t)(seed >> 32 & 15) << WSS__SLOT_INDEX_BITS;
        wss__slot *found = wss__slot_find(&table, id);
        CHECK(!found || wss__slot_id(found) == id);
    }
    unmake(&table, &mem);
}

/* Random use against an array of what lives, with every handle ever given out looked up at the end. */
static void random_use(void) {
    enum { LIMIT = 700, ROUNDS = 30000 };
    static uint64_t ever[ROUNDS];
    static wss__slot *live[LIMIT];
    wss__slot_table table;
    wss__mem mem;
    size_t count = 0;
    size_t made = 0;
    uint32_t seed = 5;
    make(&table, &mem, LIMIT, 1000);
    for (int round = 0; round < ROUNDS; round++) {
        seed = seed * 1664525u + 1013904223u;
        int fill = round / 3000 % 2 ? 35 : 60;
        if ((int)(seed >> 8) % 100 < fill) {
            wss__slot *slot = take_live(&table);
            CHECK_INT(slot != NULL, count < LIMIT);
            if (!slot) continue;
            ((thing *)(void *)slot)->value = (uint32_t)wss__slot_id(slot);
            ever[made++] = wss__slot_id(slot);
            live[count++] = slot;
        } else if (count) {
            size_t at = (seed >> 4) % count;
            CHECK_INT(((thing *)(void *)live[at])->value, (uint32_t)wss__slot_id(live[at]));
            wss__slot_release(&table, live[at]);
            live[at] = live[--count];
        }
        CHECK_INT(table.live, count);
    }
    size_t found = 0;
    for (size_t i = 0; i < made; i++) {
        wss__slot *slot = wss__slot_find(&table, ever[i]);
        if (slot) CHECK(wss__slot_id(slot) == ever[i]);
        found += slot != NULL;
        if (i) CHECK(ever[i] != ever[i - 1]);
    }
    CHECK_INT(found, count);
    unmake(&table, &mem);
}

/* The last generation is used, and then the place never again. */
static void retirement(void) {
    wss__slot_table table;
    wss__mem mem;
    make(&table, &mem, 2, 0);
    wss__slot *slot = take_live(&table);
    wss__slot *other = take_live(&table);
    slot->word = (WSS__SLOT_GENERATION_MAX - 1) << WSS__SLOT_INDEX_BITS | WSS__SLOT_OWNED;
    wss__slot_release(&table, slot);
    CHECK(take_live(&table) == slot);
    uint64_t last = wss__slot_id(slot);
    CHECK(generation_of(last) == WSS__SLOT_GENERATION_MAX);
    CHECK(wss__slot_find(&table, last) == slot);
    wss__slot_release(&table, slot);
    CHECK(slot->word == 0);
    CHECK(!wss__slot_find(&table, last));
    CHECK(!wss__slot_find(&table, 0));
    CHECK(!wss__slot_take(&table));
    CHECK_INT(table.live, 1);
    for (int i = 0; i < 5; i++) {
        wss__slot_release(&table, other);
        CHECK(take_live(&table) == other);
        CHECK(!wss__slot_take(&table));
    }
    unmake(&table, &mem);
}

/* The whole list of the free may wear out and be filled again by growth. */
static void retirement_of_all_free(void) {
    wss__slot_table table;
    wss__mem mem;
    make(&table, &mem, WSS__SLOT_CHUNK + 3, 0);
    wss__slot *slots[WSS__SLOT_CHUNK];
    for (int i = 0; i < WSS__SLOT_CHUNK; i++) slots[i] = take_live(&table);
    for (uint64_t i = 0; i < WSS__SLOT_CHUNK; i++) {
        slots[i]->word = WSS__SLOT_GENERATION_MAX << WSS__SLOT_INDEX_BITS | WSS__SLOT_OWNED;
        wss__slot_release(&table, slots[i]);
    }
    CHECK_INT(table.live, 0);
    for (uint32_t i = 0; i < 3; i++) {
        wss__slot *slot = take_live(&table);
        CHECK(slot && wss__slot_index(wss__slot_id(slot)) == WSS__SLOT_CHUNK + i);
    }
    CHECK(!wss__slot_take(&table));
    unmake(&table, &mem);
}

/* Whatever the random number, there are many generations left and no handle is 0. */
static void first_generations(void) {
    static const uint64_t randoms[] = {0, 1, UINT64_MAX, UINT64_MAX >> 1, UINT64_MAX >> 24, UINT64_MAX >> 25,
                                       UINT64_C(0x8000000000), UINT64_C(0x123456789abcdef0)};
    for (size_t i = 0; i < sizeof randoms / sizeof randoms[0]; i++) {
        wss__slot_table table;
        wss__mem mem;
        make(&table, &mem, 3, randoms[i]);
        wss__slot *slot = take_live(&table);
        CHECK(wss__slot_id(slot) != 0);
        CHECK(generation_of(wss__slot_id(slot)) > 0);
        CHECK(WSS__SLOT_GENERATION_MAX - generation_of(wss__slot_id(slot)) >= WSS__SLOT_GENERATION_MAX / 2);
        unmake(&table, &mem);
    }
}

static void limits(void) {
    static const uint32_t counts[] = {1, 2, 255, 256, 257, 511, 512, 513, 1000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        wss__slot_table table;
        wss__mem mem;
        make(&table, &mem, counts[i], 3);
        for (uint32_t n = 0; n < counts[i]; n++) {
            wss__slot *slot = take_live(&table);
            CHECK(slot && wss__slot_index(wss__slot_id(slot)) == n);
            CHECK(wss__slot_find(&table, wss__slot_id(slot)) == slot);
            CHECK(table.made <= counts[i]);
        }
        CHECK(!wss__slot_take(&table));
        CHECK_INT(table.made, counts[i]);
        CHECK(!wss__slot_find(&table, (uint64_t)4 << WSS__SLOT_INDEX_BITS | counts[i]));
        unmake(&table, &mem);
    }
    wss__slot_table table;
    wss__mem mem;
    make(&table, &mem, UINT32_MAX, 3);
    CHECK_INT(table.limit, WSS__SLOT_LIMIT);
    unmake(&table, &mem);
}

/* Places do not move when there come to be more of them. */
static void chunks_stay(void) {
    wss__slot_table table;
    wss__mem mem;
    make(&table, &mem, 2000, 3);
    wss__slot *first = take_live(&table);
    for (int i = 1; i < 2000; i++) CHECK(take_live(&table) != NULL);
    CHECK(wss__slot_at(&table, 0) == first);
    CHECK_INT((uintptr_t)wss__slot_at(&table, 300) % sizeof(void *), 0);
    unmake(&table, &mem);
}

/* Whoever looks for what lives steps over chunks in which nothing does: after a peak of places it costs what it cost before. */
static void empty_chunks_are_skipped(void) {
    enum { CHUNKS = 40, PLACES = CHUNKS * WSS__SLOT_CHUNK - 7 };
    static wss__slot *slots[PLACES];
    wss__slot_table table;
    wss__mem mem;
    make(&table, &mem, PLACES, 3);
    CHECK_INT(wss__slot_skip(&table, 0), 0);
    for (int i = 0; i < PLACES; i++) slots[i] = take_live(&table);
    for (uint32_t i = 0; i < PLACES; i++) CHECK_INT(wss__slot_skip(&table, i), i);
    for (int i = 0; i < PLACES; i++)
        if (i != 1000 && i != 5000) wss__slot_release(&table, slots[i]);
    uint32_t looked_at = 0;
    uint32_t found = 0;
    for (uint32_t at = wss__slot_skip(&table, 0); at < table.made; at = wss__slot_skip(&table, at + 1), looked_at++)
        found += (wss__slot_at(&table, at)->word & WSS__SLOT_STATE) != WSS__SLOT_FREE;
    CHECK_INT(found, 2);
    CHECK_INT(looked_at, 2 * WSS__SLOT_CHUNK);
    wss__slot_release(&table, slots[1000]);
    CHECK_INT(wss__slot_skip(&table, 0), 5000 / WSS__SLOT_CHUNK * WSS__SLOT_CHUNK);
    wss__slot_release(&table, slots[5000]);
    CHECK(wss__slot_skip(&table, 3) >= table.made);
    CHECK(wss__slot_skip(&table, UINT32_MAX - WSS__SLOT_CHUNK) >= table.made);
    unmake(&table, &mem);
}

/* Out of memory: nothing changes, and the next try may succeed. */
static void growth_fails(void) {
    wss__slot_table table;
    wss__mem mem;
    make_mem(&mem);
    memory.fail = 1;
    CHECK(!wss__slot_init(&table, &mem, sizeof(thing), 1000, 1));
    wss__slot_destroy(&table); /* of a table that could not be made is allowed */
    CHECK_INT(mem.used, 0);
    make(&table, &mem, 1000, 1);
    memory.fail = 1;
    CHECK(!wss__slot_take(&table));
    CHECK(!wss__slot_find(&table, (uint64_t)2 << WSS__SLOT_INDEX_BITS));
    CHECK_INT(table.made, 0);
    CHECK_INT(table.live, 0);
    memory.fail = 0;
    for (int i = 0; i < WSS__SLOT_CHUNK; i++) CHECK(take_live(&table) != NULL);
    memory.fail = 1;
    size_t used = mem.used;
    CHECK(!wss__slot_take(&table));
    CHECK(mem.used == used);
    CHECK_INT(table.live, WSS__SLOT_CHUNK);
    wss__slot *slot = wss__slot_at(&table, 17);
    wss__slot_release(&table, slot);
    CHECK(take_live(&table) == slot); /* what is free is found without memory */
    CHECK(!wss__slot_take(&table));
    memory.fail = 0;
    CHECK_INT(wss__slot_index(wss__slot_id(take_live(&table))), WSS__SLOT_CHUNK);
    unmake(&table, &mem);
}

/* Two tables that began at other numbers: no handle of one means anything to the other. */
static void other_tables(void) {
    wss__slot_table a;
    wss__slot_table b;
    wss__mem mem;
    make(&a, &mem, 300, UINT64_C(0x1111111111));
    CHECK(wss__slot_init(&b, &mem, sizeof(thing), 300, UINT64_C(0x2222222222)));
    for (int round = 0; round < 3; round++) {
        wss__slot *in_a[300];
        wss__slot *in_b[300];
        for (int i = 0; i < 300; i++) {
            in_a[i] = take_live(&a);
            in_b[i] = take_live(&b);
        }
        for (int i = 0; i < 300; i++) {
            CHECK(!wss__slot_find(&a, wss__slot_id(in_b[i])));
            CHECK(!wss__slot_find(&b, wss__slot_id(in_a[i])));
        }
        for (int i = 0; i < 300; i++) {
            wss__slot_release(&a, in_a[i]);
            wss__slot_release(&b, in_b[i]);
        }
    }
    wss__slot_destroy(&b);
    unmake(&a, &mem);
}

/* What is read without a lock must not straddle a cache line: on 32-bit x86 a plain uint64_t may. */
static void shared_numbers_are_aligned(void) {
    wss__slot_table table;
    wss__mem mem;
    make(&table, &mem, 4, 0);
    for (int i = 0; i < 4; i++) {
        wss__slot *slot = take_live(&table);
        CHECK(slot != NULL && (uintptr_t)&slot->word % 8 == 0);
    }
    unmake(&table, &mem);
    CHECK_INT(offsetof(wss__conn, slot.word) % 8, 0);
    CHECK_INT(offsetof(wss__conn, bytes_in) % 8, 0);
    CHECK_INT(offsetof(wss__conn, bytes_out) % 8, 0);
    CHECK_INT(sizeof(wss__conn) % 8, 0);
    CHECK_INT(offsetof(wss__loop, shared.stats.frames_in) % 8, 0);
    CHECK_INT(sizeof(wss__loop) % 8, 0);
}

/* An idle connection is its place and nothing else. */
static void a_place_is_small(void) {
    CHECK(sizeof(wss__conn) <= 128);
}

int main(void) {
    alarm(60);
    RUN(last_in_first_out);
    RUN(generations_rise);
    RUN(next_id_is_not_found);
    RUN(strange_ids);
    RUN(random_use);
    RUN(retirement);
    RUN(retirement_of_all_free);
    RUN(first_generations);
    RUN(limits);
    RUN(chunks_stay);
    RUN(empty_chunks_are_skipped);
    RUN(growth_fails);
    RUN(other_tables);
    RUN(shared_numbers_are_aligned);
    RUN(a_place_is_small);
    return test_end("slot");
}
