/* Unit tests of [mem]: the account, the budget and its last eighth, which error a failure is, an allocator that fails. */
#include "../library.h"

#include "../test.h"

/* An allocator that checks the sizes it is told and fails when asked to. */
typedef struct heap {
    size_t live;
    size_t blocks;
    size_t calls;
    size_t fail_at; /* number of the growing call that fails; 0: none */
} heap;

static void *heap_move(void *context, void *pointer, size_t old_size, size_t new_size) {
    heap *h = (heap *)context;
    if (new_size && h->fail_at && ++h->calls == h->fail_at) return NULL;
    CHECK(pointer || old_size == 0);
    CHECK(!pointer || old_size > 0);
    if (pointer) CHECK(h->live >= old_size && h->blocks > 0);
    if (!new_size) {
        free(pointer);
        h->live -= old_size;
        h->blocks--;
        return NULL;
    }
    void *moved = realloc(pointer, new_size);
    if (!moved) return NULL;
    if (!pointer) h->blocks++;
    h->live += new_size - old_size;
    return moved;
}

static void make(wss__mem *mem, heap *h, size_t budget) {
    wss_options options;
    memset(&options, 0, sizeof options);
    memset(h, 0, sizeof *h);
    options.allocator = heap_move;
    options.allocator_context = h;
    options.memory_budget = budget;
    wss__mem_init(mem, &options);
}

/* The charge, said in another way: 16 bytes on top, then up to the next multiple of 16. */
static size_t charge_of(size_t size) {
    size_t whole = size + 16;
    while (whole % 16) whole++;
    return size ? whole : 0;
}

static void charges(void) {
    for (size_t size = 0; size < 5000; size++) CHECK_INT(wss__mem_charge(size), charge_of(size));
    CHECK(wss__mem_charge(SIZE_MAX) > SIZE_MAX - 64);
    CHECK(wss__mem_charge(SIZE_MAX - 40) > SIZE_MAX - 64);
}

static void account_is_exact(void) {
    wss__mem mem;
    heap h;
    void *blocks[64];
    size_t sizes[64];
    size_t want = 0;
    size_t peak = 0;
    uint32_t seed = 7;
    make(&mem, &h, WSS_UNLIMITED);
    memset(blocks, 0, sizeof blocks);
    for (int round = 0; round < 20000; round++) {
        seed = seed * 1664525u + 1013904223u;
        size_t i = (seed >> 8) % 64;
        size_t size = 1 + (seed >> 16) % 9000;
        if (!blocks[i]) {
            blocks[i] = seed >> 31 ? wss__mem_get(&mem, size) : wss__mem_get_zeroed(&mem, size);
            want += charge_of(size);
            if (!(seed >> 31)) CHECK_INT(*(char *)blocks[i] | ((char *)blocks[i])[size - 1], 0);
            memset(blocks[i], (int)i, size);
        } else if (seed >> 30) {
            blocks[i] = wss__mem_resize(&mem, blocks[i], sizes[i], size);
            want += charge_of(size);
            want -= charge_of(sizes[i]);
            CHECK_INT(*(char *)blocks[i], i);
            memset(blocks[i], (int)i, size);
        } else {
            wss__mem_free(&mem, blocks[i], sizes[i]);
            want -= charge_of(sizes[i]);
            blocks[i] = NULL;
            size = 0;
        }
        sizes[i] = size;
        if (want > peak) peak = want;
        CHECK_INT(mem.used, want);
        CHECK_INT(mem.peak, peak);
    }
    for (size_t i = 0; i < 64; i++) wss__mem_free(&mem, blocks[i], sizes[i]);
    CHECK_INT(mem.used, 0);
    CHECK_INT(h.live, 0);
    CHECK_INT(h.blocks, 0);
}

static void freeing_nothing(void) {
    wss__mem mem;
    heap h;
    make(&mem, &h, 1000);
    wss__mem_free(&mem, NULL, 0);
    wss__mem_free(&mem, NULL, 50);
    CHECK_INT(mem.used, 0);
}

/* A budget of L bytes: a charge of L - 16 and of L fits, one of L + 16 does not and leaves no trace. */
static void budget_bounds(void) {
    wss__mem mem;
    heap h;
    const size_t limit = 1024;
    for (size_t size = limit - 100; size < limit + 100; size++) {
        make(&mem, &h, limit);
        void *p = wss__mem_get(&mem, size);
        int fits = charge_of(size) <= limit;
        CHECK_INT(p != NULL, fits);
        CHECK_INT(mem.used, fits ? charge_of(size) : 0);
        CHECK_INT(mem.peak, mem.used);
        CHECK_INT(h.live, fits ? size : 0);
        if (!p) CHECK_INT(wss__mem_error(&mem, size), WSS_ERR_BUDGET);
        wss__mem_free(&mem, p, size);
        CHECK_INT(mem.used, 0);
    }
}

/* The same to the byte, where the account is reserved without an allocation. */
static void reserve_bounds(void) {
    wss__mem mem;
    heap h;
    for (size_t limit = 0; limit < 200; limit++) {
        for (size_t used = 0; used <= limit; used++) {
            make(&mem, &h, limit);
            mem.used = used;
            size_t left = limit - used;
            if (left) CHECK(wss__mem_reserve(&mem, left - 1));
            mem.used = used;
            CHECK(wss__mem_reserve(&mem, left));
            CHECK_INT(mem.used, limit);
            CHECK_INT(mem.peak, limit);
            mem.used = used;
            CHECK(!wss__mem_reserve(&mem, left + 1));
            CHECK_INT(mem.used, used);
        }
    }
    make(&mem, &h, WSS_UNLIMITED);
    mem.used = 1000;
    CHECK(!wss__mem_reserve(&mem, SIZE_MAX - 500)); /* would go round */
    CHECK_INT(mem.used, 1000);
    CHECK(wss__mem_reserve(&mem, SIZE_MAX - 1000));
    CHECK(mem.used == SIZE_MAX);
}

/* Large things stop at seven eighths, small ones go on to the end. */
static void last_eighth(void) {
    wss__mem mem;
    heap h;
    const size_t budget = 80000;
    const size_t large = 70000;
    make(&mem, &h, budget);
    CHECK(!wss__mem_reserve(&mem, large + 1));
    CHECK(wss__mem_reserve(&mem, large));
    CHECK(!wss__mem_reserve(&mem, WSS__MEM_SMALL + 1));
    CHECK(wss__mem_reserve(&mem, WSS__MEM_SMALL));
    CHECK_INT(mem.used, large + WSS__MEM_SMALL);
    while (wss__mem_reserve(&mem, 16)) {
    }
    CHECK(mem.used <= budget && mem.used > budget - 16);
    CHECK_INT(mem.peak, mem.used);

    make(&mem, &h, WSS_UNLIMITED); /* no limit, no eighth */
    CHECK(wss__mem_reserve(&mem, SIZE_MAX - 1));
}

/* The largest size that counts as small, and the smallest that does not: the judgement is on the charge in both
   functions, so an allocation that the budget refuses is never said to be one that the system refused. */
static void error_agrees_with_refusal(void) {
    wss__mem mem;
    heap h;
    const size_t budget = 80000;
    for (size_t size = WSS__MEM_SMALL - 64; size < WSS__MEM_SMALL + 64; size++) {
        for (size_t used = 69000 - WSS__MEM_SMALL; used <= budget; used += 16) {
            make(&mem, &h, budget);
            mem.used = used;
            void *p = wss__mem_get(&mem, size);
            if (!p) CHECK_INT(wss__mem_error(&mem, size), WSS_ERR_BUDGET);
            wss__mem_free(&mem, p, size);
            mem.used = used;
            h.fail_at = 1;
            if (!p) continue;
            CHECK(!wss__mem_get(&mem, size));
            CHECK_INT(wss__mem_error(&mem, size), WSS_ERR_MEMORY);
            CHECK_INT(mem.used, used);
        }
    }
}

static void error_without_budget(void) {
    wss__mem mem;
    heap h;
    make(&mem, &h, WSS_UNLIMITED);
    h.fail_at = 1;
    CHECK(!wss__mem_get(&mem, 100));
    CHECK_INT(wss__mem_error(&mem, 100), WSS_ERR_MEMORY);
    CHECK_INT(wss__mem_error(&mem, 100000), WSS_ERR_MEMORY);
    CHECK_INT(wss__mem_error(&mem, SIZE_MAX - 4096), WSS_ERR_MEMORY);
    CHECK_INT(wss__mem_error(&mem, SIZE_MAX), WSS_ERR_MEMORY);
    make(&mem, &h, 1 << 20);
    CHECK_INT(wss__mem_error(&mem, SIZE_MAX), WSS_ERR_BUDGET);
}

/* A size that saturated fails cleanly and charges nothing. */
static void saturated_size(void) {
    wss__mem mem;
    heap h;
    make(&mem, &h, 1 << 20);
    CHECK(!wss__mem_get(&mem, SIZE_MAX));
    CHECK(!wss__mem_get_zeroed(&mem, SIZE_MAX));
    CHECK(!wss__mem_get(&mem, wss__base_multiply(SIZE_MAX / 2, 3)));
    CHECK_INT(mem.used, 0);
    CHECK_INT(h.blocks, 0);
}

static void failing_allocator(void) {
    wss__mem mem;
    heap h;
    make(&mem, &h, WSS_UNLIMITED);
    char *p = (char *)wss__mem_get(&mem, 100);
    memset(p, 'x', 100);
    for (size_t size = 1; size < 400; size += 7) {
        size_t used = mem.used;
        h.calls = 0;
        h.fail_at = 1;
        CHECK(!wss__mem_resize(&mem, p, 100, size)); /* larger or smaller: the block is as it was */
        CHECK_INT(mem.used, used);
        CHECK_INT(p[99], 'x');
        h.calls = 0;
        CHECK(!wss__mem_get(&mem, size));
        h.calls = 0;
        CHECK(!wss__mem_get_zeroed(&mem, size));
        CHECK_INT(mem.used, used);
        h.fail_at = 0;
    }
    CHECK_INT(h.live, 100);
    wss__mem_free(&mem, p, 100);
    CHECK_INT(mem.used, 0);
}

/* What a refused growth leaves behind. Shrinking is never refused. */
static void resize_at_the_limit(void) {
    wss__mem mem;
    heap h;
    make(&mem, &h, 1024);
    char *p = (char *)wss__mem_get(&mem, 1000);
    CHECK_INT(mem.used, 1024);
    memset(p, 'y', 1000);
    CHECK(!wss__mem_resize(&mem, p, 1000, 1009));
    CHECK_INT(p[999], 'y');
    CHECK_INT(mem.used, charge_of(1000));
    p = (char *)wss__mem_resize(&mem, p, 1000, 1000);
    CHECK(p != NULL);
    p = (char *)wss__mem_resize(&mem, p, 1000, 10);
    CHECK_INT(mem.used, charge_of(10));
    CHECK_INT(p[9], 'y');
    mem.budget = 0;
    p = (char *)wss__mem_resize(&mem, p, 10, 1);
    CHECK(p != NULL);
    wss__mem_free(&mem, p, 1);
    CHECK_INT(mem.used, 0);
}

static void default_allocator(void) {
    wss_options options;
    wss__mem mem;
    memset(&options, 0, sizeof options);
    options.memory_budget = 1 << 20;
    wss__mem_init(&mem, &options);
    char *p = (char *)wss__mem_get_zeroed(&mem, 33);
    CHECK_INT(p[0] | p[32], 0);
    p = (char *)wss__mem_resize(&mem, p, 33, 5000);
    p[4999] = 1;
    CHECK_INT(mem.used, charge_of(5000));
    wss__mem_free(&mem, p, 5000);
    CHECK_INT(mem.used, 0);
    CHECK_INT(mem.peak, charge_of(5000));
}

/* Four threads at one account: nothing is lost, and the peak is never above the budget. */
static void *take_and_give(void *arg) {
    wss__mem *mem = (wss__mem *)arg;
    for (int i = 0; i < 20000; i++) {
        size_t size = 100 + (size_t)(i % 300);
        void *p = wss__mem_get(mem, size);
        if (p) memset(p, 1, size);
        wss__mem_free(mem, p, size);
    }
    return NULL;
}

static void threads(void) {
    wss_options options;
    wss__mem mem;
    pthread_t workers[4];
    memset(&options, 0, sizeof options);
    options.memory_budget = 1000;
    wss__mem_init(&mem, &options);
    for (int i = 0; i < 4; i++) pthread_create(&workers[i], NULL, take_and_give, &mem);
    for (int i = 0; i < 4; i++) pthread_join(workers[i], NULL);
    CHECK_INT(mem.used, 0);
    CHECK(mem.peak > 0 && mem.peak <= 1000);
}

static int large_ends;

static void *take_too_much(void *arg) {
    wss__mem *mem = (wss__mem *)arg;
    while (!__atomic_load_n(&large_ends, __ATOMIC_RELAXED)) CHECK(wss__mem_get(mem, (size_t)14 << 20) == NULL);
    return NULL;
}

/* A thread asks for too much and is refused, again and again. What another one asks for meanwhile fits, and is granted each
   time. */
static void small_beside_too_large(void) {
    wss_options options;
    wss__mem mem;
    pthread_t greedy;
    int refused = 0;
    memset(&options, 0, sizeof options);
    options.memory_budget = (size_t)16 << 20;
    wss__mem_init(&mem, &options);
    void *held = wss__mem_get(&mem, (size_t)4 << 20);
    large_ends = 0;
    pthread_create(&greedy, NULL, take_too_much, &mem);
    for (int i = 0; i < 100000; i++) {
        void *p = wss__mem_get(&mem, 64);
        refused += p == NULL;
        wss__mem_free(&mem, p, 64);
        if (i % 1000 == 0) sched_yield();
    }
    __atomic_store_n(&large_ends, 1, __ATOMIC_RELAXED);
    pthread_join(greedy, NULL);
    CHECK_INT(refused, 0);
    CHECK_INT(mem.used, wss__mem_charge((size_t)4 << 20));
    CHECK_INT(mem.peak, mem.used + wss__mem_charge(64)); /* nor did it ever look like more */
    wss__mem_free(&mem, held, (size_t)4 << 20);
}

int main(void) {
    alarm(60);
    RUN(charges);
    RUN(account_is_exact);
    RUN(freeing_nothing);
    RUN(budget_bounds);
    RUN(reserve_bounds);
    RUN(last_eighth);
    RUN(error_agrees_with_refusal);
    RUN(error_without_budget);
    RUN(saturated_size);
    RUN(failing_allocator);
    RUN(resize_at_the_limit);
    RUN(default_allocator);
    RUN(threads);
    RUN(small_beside_too_large);
    return test_end("mem");
}
