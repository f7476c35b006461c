/* Unit tests of [buf]: frames made once and shared, and the queue of what waits, against a simple model. */
#include "../library.h"

#include "../test.h"

typedef struct heap {
    size_t blocks;
    size_t live;
    size_t asked; /* for memory, also for more than there is */
    size_t calls;
    size_t fail_at; /* number of the growing call that fails; 0: none */
    int failed;
} heap;

static void *heap_move(void *context, void *pointer, size_t old_size, size_t new_size) {
    heap *h = (heap *)context;
    h->asked += new_size != 0;
    if (new_size > (size_t)1 << 30) return NULL;
    if (new_size && ++h->calls == h->fail_at) {
        h->failed = 1;
        return NULL;
    }
    h->live -= old_size;
    h->live += new_size;
    if (!new_size) {
        h->blocks--;
        free(pointer);
        return NULL;
    }
    if (!pointer) h->blocks++;
    return realloc(pointer, new_size);
}

static heap memory;

static void make(wss__mem *mem) {
    wss_options options;
    memset(&options, 0, sizeof options);
    memset(&memory, 0, sizeof memory);
    options.allocator = heap_move;
    options.allocator_context = &memory;
    options.memory_budget = WSS_UNLIMITED;
    wss__mem_init(mem, &options);
}

static void check_all_free(const wss__mem *mem) {
    CHECK_INT(mem->used, 0);
    CHECK_INT(memory.live, 0);
    CHECK_INT(memory.blocks, 0);
}

/* Equal keys have equal hashes; of different ones some have the same, and some share a place in a small table only. */
static uint32_t hash_of(const char *key, size_t size) {
    return size ? 15u + 16u * ((unsigned char)*key / 2u) : 0;
}

static wss__buf_frame *keyed_frame(wss__mem *mem, int opcode, char c, size_t size, wss__span key) {
    char *payload = NULL;
    wss__buf_frame *frame = wss__buf_new(mem, opcode, size, key, &payload);
    if (!frame) return NULL;
    frame->hash = hash_of(key.data, key.size);
    if (size) memset(payload, c, size);
    return frame;
}

/* A frame whose payload is this many times this character. */
static wss__buf_frame *frame_of(wss__mem *mem, int opcode, char c, size_t size, const char *key) {
    return keyed_frame(mem, opcode, c, size, wss__base_text(key));
}

/* A text whose key is a letter. */
static wss__buf_frame *lettered(wss__mem *mem, char key, char c, size_t size) {
    return keyed_frame(mem, WSS_TEXT, c, size, wss__base_span(&key, 1));
}

/* What a frame costs its queue, as max_queued counts it. */
static size_t cost_of(size_t size, size_t key_size) {
    return wss__mem_charge(sizeof(wss__buf_frame) + size + key_size) + 16 + (key_size ? 64 : 0);
}

static void new_frames(void) {
    static const size_t sizes[] = {0, 1, 125, 126, 65535, 65536, 70000};
    wss__mem mem;
    make(&mem);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int keyed = 0; keyed < 2; keyed++) {
            const char *key = keyed ? "position of 7" : NULL;
            size_t key_size = keyed ? strlen(key) : 0;
            wss__buf_frame *frame = frame_of(&mem, WSS_BINARY, 'p', sizes[i], key);
            size_t head = wss__frame_head_size(sizes[i]);
            char want[10];
            wss__frame_encode(want, WSS_BINARY, sizes[i]);
            CHECK_INT(frame->size, sizes[i] + head);
            CHECK_INT(frame->references, 1);
            CHECK_INT(frame->key_size, key_size);
            CHECK(!frame->control && !frame->fixed);
            CHECK(memcmp(wss__buf_frame_data(frame), want, head) == 0);
            if (keyed) CHECK(memcmp(wss__buf_frame_data(frame) + frame->size, key, key_size) == 0);
            CHECK_INT(wss__buf_frame_bytes(frame), sizeof *frame + frame->size + key_size);
            CHECK_INT(memory.live, wss__buf_frame_bytes(frame));
            CHECK_INT(mem.used, wss__mem_charge(wss__buf_frame_bytes(frame)));
            CHECK_INT(wss__buf_charge(frame), mem.used + 16 + (keyed ? 64 : 0));
            CHECK_INT(wss__buf_charge(frame) % 16, 0);
            CHECK(wss__buf_charge(frame) >= 64);
            wss__buf_release(&mem, frame);
            check_all_free(&mem);
        }
    }
    static const int opcodes[] = {0, WSS_TEXT, WSS_BINARY, WSS__FRAME_CLOSE, WSS__FRAME_PING, WSS__FRAME_PONG};
    for (size_t i = 0; i < 6; i++) {
        wss__buf_frame *frame = frame_of(&mem, opcodes[i], 'c', 3, NULL);
        CHECK_INT(frame->control, opcodes[i] >= 8);
        CHECK_INT(wss__buf_charge(frame), opcodes[i] >= 8 ? 0 : cost_of(5, 0));
        wss__buf_queue *queue = NULL;
        CHECK(wss__buf_append(&mem, &queue, frame));
        for (size_t k = 0; k < 6; k++) {
            wss__buf_frame *other = frame_of(&mem, opcodes[k], 'd', 4, NULL);
            wss__buf_frame **place = wss__buf_waiting(queue, *wss__buf_frame_data(other));
            CHECK(place == (k == i && opcodes[i] >= 8 ? wss__buf_at(queue, 0) : NULL));
            wss__buf_release(&mem, other);
        }
        wss__buf_free_queue(&mem, &queue);
    }
    wss__buf_frame *raw = wss__buf_new_raw(&mem, 5, wss__base_text(NULL));
    wss__buf_queue *queue = NULL;
    memcpy(wss__buf_frame_data(raw), "\x8a\x03" "abc", 5); /* raw bytes that look like a pong are none */
    CHECK(!wss__buf_waiting(queue, '\x8a'));
    CHECK(wss__buf_append(&mem, &queue, raw));
    CHECK(!wss__buf_waiting(queue, '\x8a'));
    CHECK_INT(raw->size, 5);
    CHECK_INT(wss__buf_charge(raw), cost_of(5, 0));
    CHECK_INT(raw->hash, 0);
    wss__buf_free_queue(&mem, &queue);
    wss__buf_release(&mem, NULL);
    check_all_free(&mem);
}

static void impossible_sizes(void) {
    wss__mem mem;
    char *payload = NULL;
    make(&mem);
    CHECK(!wss__buf_new_raw(&mem, SIZE_MAX, wss__base_text(NULL)));
    CHECK(!wss__buf_new_raw(&mem, SIZE_MAX - sizeof(wss__buf_frame), wss__base_text("key")));
    CHECK(!wss__buf_new(&mem, WSS_TEXT, SIZE_MAX - 5, wss__base_text(NULL), &payload));
    check_all_free(&mem);
}

/* ---- the model: a plain array of what waits ---- */

enum { MODEL_MAX = 4096 };

typedef struct entry {
    char bytes[400];
    size_t size;
    char key;
    int control;
    int fixed;
} entry;

static entry model[MODEL_MAX];
static size_t model_count;
static size_t model_sent;

static entry entry_of(wss__buf_frame *frame) {
    entry e;
    memset(&e, 0, sizeof e);
    e.size = frame->size;
    memcpy(e.bytes, wss__buf_frame_data(frame), frame->size);
    e.key = frame->key_size ? wss__buf_frame_data(frame)[frame->size] : 0;
    e.control = frame->control;
    e.fixed = frame->fixed;
    return e;
}

static size_t cost_of_entry(const entry *e) {
    return e->control ? 0 : cost_of(e->size, e->key ? 1 : 0);
}

static int is_kind(const entry *e, char first) {
    return e->control && e->bytes[0] == first;
}

static void model_insert(size_t at, wss__buf_frame *frame) {
    memmove(&model[at + 1], &model[at], (model_count - at) * sizeof model[0]);
    model[at] = entry_of(frame);
    model_count++;
}

static void model_remove(size_t at) {
    model_count--;
    memmove(&model[at], &model[at + 1], (model_count - at) * sizeof model[0]);
}

static size_t unstarted(void) {
    return model_sent > 0;
}

/* The table names each frame with a key that waits and nothing else, and at most half of its places are used. */
static size_t check_keys(wss__buf_queue *queue) {
    uint32_t used = 0, waiting = 0;
    CHECK((queue->key_slots & (queue->key_slots - 1)) == 0);
    for (uint32_t i = 0; i < queue->key_slots; i++) used += queue->keys[i].hash != 0;
    CHECK_INT(queue->key_count, used);
    CHECK(used <= queue->key_slots / 2);
    for (uint32_t i = 0; i < queue->count; i++) {
        wss__buf_frame *frame = *wss__buf_at(queue, i);
        int named = 0;
        for (uint32_t k = 0; k < queue->key_slots && frame->key_size; k++)
            named += queue->keys[k].hash == frame->hash && queue->keys[k].position == queue->first + i;
        CHECK_INT(named, frame->key_size && i >= unstarted());
        waiting += (uint32_t)named;
    }
    CHECK_INT(used, waiting);
    return queue->keys ? wss__mem_charge(queue->key_slots * sizeof(wss__buf_key)) : 0;
}

/* However many were asked for: at most a ping and a pong wait, and neither behind data. */
static void check_interjected(void) {
    int border = model_count && (model_sent || model[0].fixed);
    int kinds[2] = {0, 0};
    int behind = 0; /* something else */
    for (size_t i = (size_t)border; i < model_count; i++) {
        int ping = is_kind(&model[i], (char)0x89);
        int pong = is_kind(&model[i], (char)0x8a);
        kinds[0] += ping;
        kinds[1] += pong;
        CHECK(!behind || !(ping || pong));
        behind |= !ping && !pong;
    }
    CHECK(kinds[0] <= 1 && kinds[1] <= 1);
}

static void check_queue(const wss__mem *mem, wss__buf_queue *queue) {
    size_t held = 0;
    CHECK_INT(queue ? queue->count : 0, model_count);
    if (!queue) {
        CHECK_INT(mem->used, 0);
        return;
    }
    CHECK_INT(queue->sent, model_sent);
    CHECK_INT(wss__buf_unstarted(queue), unstarted());
    CHECK(queue->capacity >= queue->count && (queue->capacity & (queue->capacity - 1)) == 0);
    held += wss__mem_charge(wss__buf_queue_bytes(queue->capacity));
    held += check_keys(queue);
    for (uint32_t i = 0; i < queue->count; i++) {
        size_t size;
        size_t skip = i ? 0 : model_sent;
        const char *bytes = wss__buf_peek(queue, i, &size);
        CHECK_INT(size, model[i].size - skip);
        CHECK(memcmp(bytes, model[i].bytes + skip, size) == 0);
        held += wss__mem_charge(sizeof(wss__buf_frame) + model[i].size + (model[i].key ? 1 : 0));
    }
    check_interjected();
    CHECK_INT(mem->used, held);
    size_t size = 9;
    CHECK(!wss__buf_peek(queue, queue->count, &size) && size == 0);
}

static uint32_t seed = 4711;

static uint32_t dice(uint32_t sides) {
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(seed >> 4) * sides >> 28);
}

/* Of data, or now and then a Close. */
static wss__buf_frame *random_frame(wss__mem *mem) {
    static const char *const keys[] = {NULL, NULL, NULL, NULL, "a", "b", "c", "d", "e", "f"};
    static char next = 'A';
    int opcode = dice(20) == 0 ? WSS__FRAME_CLOSE : dice(2) ? WSS_TEXT : WSS_BINARY;
    next = next == 'z' ? 'A' : (char)(next + 1);
    return frame_of(mem, opcode, next, dice(opcode >= 8 ? 100 : 200), opcode >= 8 ? NULL : keys[dice(10)]);
}

/* As its owner does it. */
static void free_if_empty(wss__mem *mem, wss__buf_queue **queue) {
    if (*queue && !(*queue)->count) wss__buf_free_queue(mem, queue);
}

static void step_prepend(wss__mem *mem, wss__buf_queue **queue) {
    if (model_sent || (model_count && model[0].fixed)) return;
    wss__buf_frame *frame = wss__buf_new_raw(mem, 1 + dice(50), wss__base_text(NULL));
    memset(wss__buf_frame_data(frame), 0x8a, frame->size);
    frame->fixed = 1;
    model_insert(0, frame);
    CHECK(wss__buf_prepend(mem, queue, frame));
}

/* A ping or a pong. The one of its kind that waits, wherever the model has it, gives way. */
static void step_interject(wss__mem *mem, wss__buf_queue **queue) {
    wss__buf_frame *frame = frame_of(mem, dice(3) ? WSS__FRAME_PONG : WSS__FRAME_PING, (char)('0' + dice(10)), dice(100), NULL);
    size_t border = model_count && (model_sent || model[0].fixed) ? 1 : 0;
    size_t at = border;
    while (at < model_count && !is_kind(&model[at], wss__buf_frame_data(frame)[0])) at++;
    if (at < model_count) model[at] = entry_of(frame);
    else model_insert(border, frame);
    CHECK(wss__buf_interject(mem, queue, frame));
}

/* As a sender does it: in the place of the one of its key that waits, or behind all others. */
static void step_send(wss__mem *mem, wss__buf_queue **queue) {
    wss__buf_frame *frame = random_frame(mem);
    entry e = entry_of(frame);
    size_t at = unstarted();
    size_t old = 12345;
    while (at < model_count && !(e.key && model[at].key == e.key)) at++;
    if (*queue) CHECK_INT(wss__buf_replace(mem, *queue, frame, &old), at < model_count);
    CHECK_INT(old, at < model_count ? cost_of_entry(&model[at]) : 12345);
    if (at < model_count) {
        model[at] = e;
        return;
    }
    model_insert(model_count, frame);
    CHECK(wss__buf_append(mem, queue, frame));
}

static void step_drop_all(wss__mem *mem, wss__buf_queue **queue) {
    uint64_t messages = 5;
    uint64_t want = 5;
    size_t charge = 0;
    if (!*queue) return;
    while (model_count > unstarted() && !(model_count == 1 && model[0].fixed)) {
        want += !model[model_count - 1].control;
        charge += cost_of_entry(&model[model_count - 1]);
        model_count--;
    }
    CHECK_INT(wss__buf_drop_all(mem, *queue, &messages), charge);
    CHECK_INT(messages, want);
    free_if_empty(mem, queue);
}

static void step_consume(wss__mem *mem, wss__buf_queue **queue) {
    size_t total = 0;
    size_t charge = 0;
    if (!*queue) return;
    for (size_t i = 0; i < model_count; i++) total += model[i].size;
    total -= model_sent;
    size_t most = dice(20) == 0 ? total : dice(3) ? wss__base_min(total, 30) : wss__base_min(total, 2000);
    size_t size = most ? dice((uint32_t)most + 1) : 0;
    size_t left = size;
    while (left) {
        size_t part = wss__base_min(left, model[0].size - model_sent);
        left -= part;
        model_sent += part;
        if (model_sent < model[0].size) break;
        charge += cost_of_entry(&model[0]);
        model_sent = 0;
        model_remove(0);
    }
    CHECK_INT(wss__buf_consume(mem, *queue, size), charge);
    free_if_empty(mem, queue);
}

/* The queue is kept short for a while, then grows, then shrinks: the ring turns many times at each size. */
static void random_operations(void) {
    wss__mem mem;
    wss__buf_queue *queue = NULL;
    make(&mem);
    model_count = 0;
    model_sent = 0;
    for (int round = 0; round < 60000; round++) {
        size_t target = round / 500 % 4 == 3 ? 60 : round / 500 % 2 ? 6 : 14;
        uint32_t op = dice(100);
        if (op < 50 && model_count < target * 2) step_send(&mem, &queue);
        else if (op < 55) step_prepend(&mem, &queue);
        else if (op < 65) step_interject(&mem, &queue);
        else if (op < 67 && dice(8) == 0) step_drop_all(&mem, &queue);
        else if (model_count > target / 2) step_consume(&mem, &queue);
        check_queue(&mem, queue);
    }
    wss__buf_free_queue(&mem, &queue);
    CHECK(!queue);
    wss__buf_free_queue(&mem, &queue);
    check_all_free(&mem);
}

/* ---- single cases ---- */

/* The ring is full with its beginning at each of its places when it grows. */
static void grows_at_every_turn(void) {
    wss__mem mem;
    for (uint32_t turn = 0; turn < 3 * WSS__BUF_RING_MIN; turn++) {
        wss__buf_queue *queue = NULL;
        make(&mem);
        for (uint32_t i = 0; i < turn; i++) {
            CHECK(wss__buf_append(&mem, &queue, frame_of(&mem, WSS_TEXT, '-', 1, NULL)));
            CHECK_INT(wss__buf_consume(&mem, queue, 3), cost_of(3, 0));
        }
        if (queue) queue->since = 77;
        for (int i = 0; i < 40; i++)
            CHECK(wss__buf_append(&mem, &queue, frame_of(&mem, WSS_TEXT, (char)('0' + i), 1, NULL)));
        CHECK_INT(queue->capacity, 64);
        CHECK_INT(queue->since, turn ? 77 : 0);
        for (int i = 0; i < 40; i++) {
            size_t size;
            CHECK_INT(wss__buf_peek(queue, (uint32_t)i, &size)[2], '0' + i);
        }
        wss__buf_free_queue(&mem, &queue);
        check_all_free(&mem);
    }
}

/* first counts on for ever: the numbers that go round must not matter. */
static void first_goes_round(void) {
    wss__mem mem;
    wss__buf_queue *queue = NULL;
    make(&mem);
    CHECK(wss__buf_append(&mem, &queue, frame_of(&mem, WSS_TEXT, 'a', 1, NULL)));
    CHECK_INT(wss__buf_consume(&mem, queue, 3), cost_of(3, 0));
    queue->first = UINT32_MAX - 2;
    for (int i = 0; i < 7; i++)
        CHECK(wss__buf_append(&mem, &queue, lettered(&mem, (char)('a' + i), (char)('a' + i), 1)));
    CHECK(wss__buf_prepend(&mem, &queue, frame_of(&mem, WSS_TEXT, 'P', 1, NULL)));
    char order[9] = "";
    for (uint32_t i = 0; i < 8; i++) {
        size_t size;
        order[i] = wss__buf_peek(queue, i, &size)[2];
    }
    CHECK_TEXT(order, "Pabcdefg");
    for (int i = 0; i < 7; i++) { /* each is found, wherever its number has gone round */
        size_t old = 0;
        CHECK(wss__buf_replace(&mem, queue, lettered(&mem, (char)('a' + i), (char)('A' + i), 1), &old));
        CHECK_INT(old, cost_of(3, 1));
    }
    for (uint32_t i = 0; i < 8; i++) {
        size_t size;
        order[i] = wss__buf_peek(queue, i, &size)[2];
    }
    CHECK_TEXT(order, "PABCDEFG");
    CHECK_INT(wss__buf_consume(&mem, queue, 3 * 8), cost_of(3, 0) + 7 * cost_of(3, 1));
    CHECK_INT(queue->count, 0);
    wss__buf_free_queue(&mem, &queue);
    check_all_free(&mem);
}

/* What has begun to leave is never dropped or replaced. */
static void begun_stays(void) {
    wss__mem mem;
    wss__buf_queue *queue = NULL;
    uint64_t messages = 0;
    size_t old = 0;
    make(&mem);
    CHECK(wss__buf_append(&mem, &queue, frame_of(&mem, WSS_TEXT, 'a', 10, "key")));
    CHECK_INT(wss__buf_consume(&mem, queue, 1), 0); /* it costs as long as any of it is there */
    wss__buf_frame *other = frame_of(&mem, WSS_TEXT, 'b', 20, "key");
    CHECK(!wss__buf_replace(&mem, queue, other, &old));
    CHECK_INT(wss__buf_drop_all(&mem, queue, &messages), 0);
    CHECK_INT(messages, 0);
    CHECK(wss__buf_append(&mem, &queue, other));
    wss__buf_frame *third = frame_of(&mem, WSS_TEXT, 'c', 30, "key");
    CHECK(wss__buf_replace(&mem, queue, third, &old));
    CHECK_INT(old, cost_of(22, 3));
    CHECK_INT(wss__buf_drop_all(&mem, queue, &messages), cost_of(32, 3));
    CHECK_INT(messages, 1);
    CHECK_INT(queue->count, 1);
    CHECK_INT(wss__buf_consume(&mem, queue, 10), 0);
    CHECK_INT(wss__buf_consume(&mem, queue, 1), cost_of(12, 3));
    free_if_empty(&mem, &queue);
    CHECK(!queue);
    check_all_free(&mem);
}

/* ---- pings and pongs ---- */

/* The letters of what waits: of data and pongs the payload's first, of pings in capitals. */
static const char *letters(wss__buf_queue *queue) {
    static char all[64];
    uint32_t count = queue ? queue->count : 0;
    for (uint32_t i = 0; i < count; i++) {
        wss__buf_frame *frame = *wss__buf_at(queue, i);
        all[i] = wss__buf_frame_data(frame)[frame->fixed ? 0 : 2];
    }
    all[count] = 0;
    return all;
}

static void interject(wss__mem *mem, wss__buf_queue **queue, char letter, size_t size) {
    int ping = letter >= 'A' && letter <= 'Z';
    CHECK(wss__buf_interject(mem, queue, frame_of(mem, ping ? WSS__FRAME_PING : WSS__FRAME_PONG, letter, size, NULL)));
}

static void append_text(wss__mem *mem, wss__buf_queue **queue, char letter) {
    CHECK(wss__buf_append(mem, queue, frame_of(mem, WSS_TEXT, letter, 4, NULL)));
}

/* Ahead of what waits, and of several of a kind the newest in the place of the one before it. */
static void interjected_at_the_border(void) {
    wss__mem mem;
    wss__buf_queue *queue = NULL;
    make(&mem);
    interject(&mem, &queue, 'p', 1);
    CHECK_TEXT(letters(queue), "p");
    interject(&mem, &queue, 'q', 2);
    CHECK_TEXT(letters(queue), "q");
    append_text(&mem, &queue, 'x');
    append_text(&mem, &queue, 'y');
    interject(&mem, &queue, 'P', 1);
    CHECK_TEXT(letters(queue), "Pqxy");
    interject(&mem, &queue, 'r', 125); /* stands behind the ping */
    CHECK_TEXT(letters(queue), "Prxy");
    interject(&mem, &queue, 'Q', 3);
    CHECK_TEXT(letters(queue), "Qrxy");
    CHECK_INT(wss__buf_consume(&mem, queue, 2), 0); /* the ping has begun: it stays, another is one more */
    interject(&mem, &queue, 'R', 1);
    CHECK_TEXT(letters(queue), "QRrxy");
    interject(&mem, &queue, 's', 1);
    interject(&mem, &queue, 'S', 1);
    CHECK_TEXT(letters(queue), "QSsxy");
    CHECK_INT(wss__buf_consume(&mem, queue, 3 + 3 + 3), 0);
    CHECK_TEXT(letters(queue), "xy");
    CHECK_INT(queue->sent, 0);
    CHECK_INT(wss__buf_consume(&mem, queue, 5), 0);
    interject(&mem, &queue, 't', 1); /* never inside a frame */
    CHECK_TEXT(letters(queue), "xty");
    CHECK_INT(queue->sent, 5);
    interject(&mem, &queue, 'T', 1);
    interject(&mem, &queue, 'u', 1);
    CHECK_TEXT(letters(queue), "xTuy");
    CHECK_INT(wss__buf_consume(&mem, queue, 1 + 3 + 2), cost_of(6, 0));
    CHECK_TEXT(letters(queue), "uy");
    interject(&mem, &queue, 'v', 1); /* one under way is not replaced */
    CHECK_TEXT(letters(queue), "uvy");
    wss__buf_free_queue(&mem, &queue);
    check_all_free(&mem);
}

/* What is left of a send begins inside a frame, although the queue has sent nothing of it. */
static void interjected_behind_a_rest(void) {
    wss__mem mem;
    wss__buf_queue *queue = NULL;
    make(&mem);
    interject(&mem, &queue, 'p', 1);
    append_text(&mem, &queue, 'x');
    wss__buf_frame *rest = wss__buf_new_raw(&mem, 5, wss__base_text(NULL));
    memset(wss__buf_frame_data(rest), '-', 5);
    rest->fixed = 1;
    CHECK(wss__buf_prepend(&mem, &queue, rest));
    CHECK_TEXT(letters(queue), "-px");
    interject(&mem, &queue, 'q', 1);
    CHECK_TEXT(letters(queue), "-qx");
    interject(&mem, &queue, 'P', 1);
    interject(&mem, &queue, 'r', 1);
    CHECK_TEXT(letters(queue), "-Prx");
    CHECK_INT(wss__buf_consume(&mem, queue, 5), cost_of(5, 0));
    CHECK_TEXT(letters(queue), "Prx");
    wss__buf_free_queue(&mem, &queue);

    rest = wss__buf_new_raw(&mem, 5, wss__base_text(NULL)); /* alone */
    memset(wss__buf_frame_data(rest), '-', 5);
    rest->fixed = 1;
    CHECK(wss__buf_append(&mem, &queue, rest));
    interject(&mem, &queue, 'p', 1);
    CHECK_TEXT(letters(queue), "-p");
    wss__buf_free_queue(&mem, &queue);
    check_all_free(&mem);
}

/* A Close, and data that looks like a pong, are no pongs and keep their places. */
static void interjected_beside_others(void) {
    wss__mem mem;
    wss__buf_queue *queue = NULL;
    make(&mem);
    CHECK(wss__buf_append(&mem, &queue, frame_of(&mem, WSS__FRAME_CLOSE, 'c', 2, NULL)));
    wss__buf_frame *raw = wss__buf_new_raw(&mem, 3, wss__base_text(NULL));
    memcpy(wss__buf_frame_data(raw), "\x8a\1d", 3);
    CHECK(wss__buf_append(&mem, &queue, raw));
    interject(&mem, &queue, 'p', 1);
    interject(&mem, &queue, 'q', 1);
    CHECK_TEXT(letters(queue), "qcd");
    /* It is looked for where it can stand, beside another one at the border, and not through all that waits. */
    CHECK(wss__buf_append(&mem, &queue, frame_of(&mem, WSS__FRAME_PING, 'P', 1, NULL)));
    interject(&mem, &queue, 'Q', 1);
    CHECK_TEXT(letters(queue), "QqcdP");
    wss__buf_free_queue(&mem, &queue);
    check_all_free(&mem);
}

/* The ring is full, with its beginning at each of its places, when a pong gets ahead of a frame with a key. */
static void interjected_at_every_turn(void) {
    wss__mem mem;
    for (uint32_t turn = 0; turn < 3 * WSS__BUF_RING_MIN; turn++) {
        wss__buf_queue *queue = NULL;
        size_t old = 0;
        make(&mem);
        for (uint32_t i = 0; i < turn; i++) {
            append_text(&mem, &queue, '-');
            CHECK_INT(wss__buf_consume(&mem, queue, 6), cost_of(6, 0));
        }
        for (int i = 0; i < WSS__BUF_RING_MIN; i++)
            CHECK(wss__buf_append(&mem, &queue, lettered(&mem, (char)('a' + i), (char)('a' + i), 4)));
        if (turn % 2) CHECK_INT(wss__buf_consume(&mem, queue, 1), 0);
        interject(&mem, &queue, 'p', 1);
        interject(&mem, &queue, 'P', 1);
        CHECK_TEXT(letters(queue), turn % 2 ? "aPpbcdefgh" : "Ppabcdefgh");
        for (int i = 0; i < WSS__BUF_RING_MIN; i++) { /* their keys still name them */
            wss__buf_frame *frame = lettered(&mem, (char)('a' + i), (char)('s' + i), 4);
            int waits = i || turn % 2 == 0;
            CHECK_INT(wss__buf_replace(&mem, queue, frame, &old), waits);
            if (!waits) wss__buf_release(&mem, frame);
        }
        CHECK_TEXT(letters(queue), turn % 2 ? "aPptuvwxyz" : "Ppstuvwxyz");
        wss__buf_free_queue(&mem, &queue);
        check_all_free(&mem);
    }
}

/* Neither the place in the ring nor anything else changes where there is no memory; the frame is given back. */
static void interjected_without_memory(void) {
    wss__mem mem;
    wss__buf_queue *queue = NULL;
    make(&mem);
    wss__buf_frame *pong = frame_of(&mem, WSS__FRAME_PONG, 'p', 1, NULL);
    memory.fail_at = memory.calls + 1;
    CHECK(!wss__buf_interject(&mem, &queue, pong));
    CHECK(!queue);
    check_all_free(&mem);
    for (int i = 0; i < WSS__BUF_RING_MIN; i++) append_text(&mem, &queue, (char)('a' + i));
    CHECK_INT(wss__buf_consume(&mem, queue, 1), 0);
    size_t live = memory.live;
    pong = frame_of(&mem, WSS__FRAME_PONG, 'p', 1, NULL);
    memory.fail_at = memory.calls + 1;
    CHECK(!wss__buf_interject(&mem, &queue, pong));
    CHECK_INT(memory.live, live);
    CHECK_TEXT(letters(queue), "abcdefgh");
    CHECK_INT(queue->sent, 1);
    wss__buf_free_queue(&mem, &queue);
    check_all_free(&mem);
}

/* ---- keys ---- */

/* A key is its bytes: a longer one, a shorter one and one with NUL in it are others. */
static void keys_are_bytes(void) {
    wss__mem mem;
    wss__buf_queue *queue = NULL;
    size_t old = 0;
    char *payload;
    make(&mem);
    wss__buf_frame *frame = wss__buf_new(&mem, WSS_TEXT, 1, wss__base_span("a\0b", 3), &payload);
    *payload = '1';
    frame->hash = 77;
    CHECK(wss__buf_append(&mem, &queue, frame));
    static const struct {
        const char *key;
        size_t size;
        int same;
    } samples[] = {{"a", 1, 0}, {"a\0", 2, 0}, {"a\0c", 3, 0}, {"a\0b\0", 4, 0}, {"", 0, 0}, {"a\0b", 3, 1}};
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        frame = wss__buf_new(&mem, WSS_TEXT, 1, wss__base_span(samples[i].key, samples[i].size), &payload);
        frame->hash = samples[i].size ? 77 : 0; /* the worst that can be: all the same */
        *payload = '2';
        int same = wss__buf_replace(&mem, queue, frame, &old);
        CHECK_INT(same, samples[i].same);
        if (!same) wss__buf_release(&mem, frame);
    }
    wss__buf_free_queue(&mem, &queue);
    check_all_free(&mem);
}

/* So many keys, of which each stands for one frame. */
enum { KEYS = 3000 };

static wss__buf_frame *numbered(wss__mem *mem, int number, uint32_t hash, char letter) {
    char key[16];
    snprintf(key, sizeof key, "%d", number);
    wss__buf_frame *frame = frame_of(mem, WSS_BINARY, letter, 1, key);
    frame->hash = hash;
    return frame;
}

/* Hashes that are spread, that are few, that all begin at one place, that go round at the end of the table. */
static uint32_t numbered_hash(int kind, int number) {
    switch (kind) {
    case 0: return (uint32_t)number * 2654435761u | 1;
    case 1: return 1 + (uint32_t)number % 40;
    case 2: return 1 + ((uint32_t)number << 16);
    default: return UINT32_MAX - (uint32_t)number % 3;
    }
}

/* In a long queue each key finds its own frame, after any number of others, and after the table was built anew. */
static void keys_in_long_queues(void) {
    wss__mem mem;
    for (int kind = 0; kind < 4; kind++) {
        wss__buf_queue *queue = NULL;
        size_t old;
        int keys = kind ? KEYS / 10 : KEYS;
        make(&mem);
        for (int i = 0; i < keys; i++) {
            CHECK(wss__buf_append(&mem, &queue, numbered(&mem, i, numbered_hash(kind, i), 'a')));
            if (i % 3 == 0) append_text(&mem, &queue, '-');
            if (i % 7 == 0) interject(&mem, &queue, 'p', 1);
        }
        CHECK(queue->key_slots >= 2 * (uint32_t)keys && queue->key_slots <= 8 * (uint32_t)keys);
        for (int i = keys; i-- > 0;)
            CHECK(wss__buf_replace(&mem, queue, numbered(&mem, i, numbered_hash(kind, i), 'b'), &old));
        uint32_t at = 1;
        for (int i = 0; i < keys; i++, at++) {
            wss__buf_frame *frame = *wss__buf_at(queue, at);
            char key[16];
            snprintf(key, sizeof key, "%d", i);
            CHECK(wss__base_equal(wss__buf_key_of(frame), wss__base_text(key)));
            CHECK_INT(wss__buf_frame_data(frame)[2], 'b');
            if (i % 3 == 0) at++;
        }
        CHECK_INT(at, queue->count);
        wss__buf_frame *unknown = numbered(&mem, keys, numbered_hash(kind, keys), 'c');
        CHECK(!wss__buf_replace(&mem, queue, unknown, &old));
        wss__buf_release(&mem, unknown);
        wss__buf_free_queue(&mem, &queue);
        check_all_free(&mem);
    }
}

/* Keys come and leave for ever, while few wait: the table stays as small as these, and names what has left no more. */
static void keys_that_have_left(void) {
    enum { WAIT = 20 };
    wss__mem mem;
    wss__buf_queue *queue = NULL;
    size_t old;
    make(&mem);
    for (int i = 0; i < 20000; i++) {
        wss__buf_frame *frame = numbered(&mem, i % 57, numbered_hash(0, i % 57), 'a');
        if (queue) CHECK(!wss__buf_replace(&mem, queue, frame, &old));
        CHECK(wss__buf_append(&mem, &queue, frame));
        if (i >= WAIT) wss__buf_consume(&mem, queue, 3);
        CHECK(queue->key_slots <= 4 * 2 * WAIT);
        if (test_broken) break;
    }
    CHECK_INT(queue->count, WAIT);
    for (int i = 20000 - WAIT; i < 20000; i++)
        CHECK(wss__buf_replace(&mem, queue, numbered(&mem, i % 57, numbered_hash(0, i % 57), 'b'), &old));
    wss__buf_free_queue(&mem, &queue);
    check_all_free(&mem);
}

/* What has left is not looked at: of however many keys a burst had, and however often one was sent since; and what those
   needed is given back, the ring too, when a quarter of it is used. */
static void what_a_burst_leaves_behind(void) {
    for (int burst = 1; burst <= 4096; burst *= 4) {
        wss__mem mem;
        wss__buf_queue *queue = NULL;
        size_t old;
        make(&mem);
        for (int i = 0; i < burst; i++) CHECK(wss__buf_append(&mem, &queue, numbered(&mem, i, numbered_hash(0, i), 'a')));
        append_text(&mem, &queue, '-');
        while (queue->count > 1) {
            wss__buf_consume(&mem, queue, 3);
            wss__buf_trim(&mem, &queue);
            CHECK(queue->capacity == WSS__BUF_RING_MIN || queue->capacity < 4 * queue->count);
            CHECK(queue->key_slots <= WSS__BUF_KEYS_MIN || queue->key_slots < 8 * queue->key_count);
            CHECK_INT(queue->key_count, queue->count - 1);
        }
        for (int i = 0; i < 1000; i++) {
            uint32_t step = 0;
            wss__buf_frame *frame = numbered(&mem, 7, 7, 'h');
            CHECK(!wss__buf_replace(&mem, queue, frame, &old));
            while (wss__buf_key_place(queue, frame->hash, &step)->hash) {
            }
            CHECK_INT(step, 1); /* the first place is free */
            CHECK(wss__buf_append(&mem, &queue, frame));
            wss__buf_consume(&mem, queue, i ? 3 : 6 + 1); /* what waited, and the beginning of this one */
        }
        CHECK_INT(queue->key_slots, WSS__BUF_KEYS_MIN);
        CHECK_INT(wss__buf_own(queue), wss__mem_charge(sizeof(wss__buf_frame) + 3 + 1) + wss__buf_queue_bytes(queue->capacity) +
                                           queue->key_slots * sizeof(wss__buf_key));
        wss__buf_free_queue(&mem, &queue);
        check_all_free(&mem);
    }
}

/* A ring or a table that cannot be made smaller for want of memory stays as it is, and works. */
static void no_memory_to_shrink(void) {
    wss__mem mem;
    wss__buf_queue *queue = NULL;
    make(&mem);
    for (int i = 0; i < 100; i++) CHECK(wss__buf_append(&mem, &queue, numbered(&mem, i, numbered_hash(0, i), 'a')));
    wss__buf_consume(&mem, queue, 3 * 98);
    CHECK_INT(queue->capacity, 128);
    CHECK_INT(queue->key_slots, 256);
    memory.fail_at = memory.calls + 1;
    wss__buf_trim(&mem, &queue);
    CHECK_INT(queue->capacity, 128);
    CHECK_INT(queue->key_slots, WSS__BUF_KEYS_MIN);
    for (int i = 100; i < 198; i++) CHECK(wss__buf_append(&mem, &queue, numbered(&mem, i, numbered_hash(0, i), 'a')));
    wss__buf_consume(&mem, queue, 3 * 98);
    memory.fail_at = memory.calls + 2;
    wss__buf_trim(&mem, &queue);
    CHECK_INT(queue->capacity, WSS__BUF_RING_MIN);
    CHECK_INT(queue->key_slots, 256);
    size_t old;
    for (int i = 196; i < 198; i++) CHECK(wss__buf_replace(&mem, queue, numbered(&mem, i, numbered_hash(0, i), 'b'), &old));
    wss__buf_free_queue(&mem, &queue);
    check_all_free(&mem);
}

/* A frame that has begun is found by nobody, also when the table is built anew meanwhile; the next of its key is. */
static void keys_of_what_has_begun(void) {
    wss__mem mem;
    wss__buf_queue *queue = NULL;
    size_t old = 0;
    make(&mem);
    for (int i = 0; i < WSS__BUF_KEYS_MIN / 2; i++) CHECK(wss__buf_append(&mem, &queue, numbered(&mem, i, 9, 'a')));
    CHECK_INT(queue->key_slots, WSS__BUF_KEYS_MIN);
    CHECK_INT(wss__buf_consume(&mem, queue, 1), 0);
    wss__buf_frame *frame = numbered(&mem, 0, 9, 'b');
    CHECK(!wss__buf_replace(&mem, queue, frame, &old));
    CHECK(wss__buf_append(&mem, &queue, frame));
    CHECK_INT(queue->key_count, WSS__BUF_KEYS_MIN / 2); /* without the one that has begun */
    CHECK(wss__buf_replace(&mem, queue, numbered(&mem, 0, 9, 'c'), &old));
    CHECK_INT(wss__buf_frame_data(*wss__buf_at(queue, 0))[2], 'a');
    CHECK_INT(wss__buf_frame_data(*wss__buf_at(queue, WSS__BUF_KEYS_MIN / 2))[2], 'c');
    wss__buf_free_queue(&mem, &queue);
    check_all_free(&mem);
}

/* Neither a frame in front nor a pong there moves the keys of what waits. */
static void keys_behind_a_rest(void) {
    wss__mem mem;
    wss__buf_queue *queue = NULL;
    size_t old = 0;
    make(&mem);
    CHECK(wss__buf_append(&mem, &queue, numbered(&mem, 1, 5, 'a')));
    CHECK(wss__buf_append(&mem, &queue, numbered(&mem, 2, 5, 'b')));
    wss__buf_frame *rest = wss__buf_new_raw(&mem, 5, wss__base_text(NULL));
    memset(wss__buf_frame_data(rest), '-', 5);
    rest->fixed = 1;
    CHECK(wss__buf_prepend(&mem, &queue, rest));
    interject(&mem, &queue, 'p', 1);
    CHECK(wss__buf_replace(&mem, queue, numbered(&mem, 2, 5, 'd'), &old));
    CHECK(wss__buf_replace(&mem, queue, numbered(&mem, 1, 5, 'c'), &old));
    CHECK_TEXT(letters(queue), "-pcd");
    wss__buf_free_queue(&mem, &queue);
    check_all_free(&mem);
}

/* The first table, and the next one, find no memory: the frame is given back, and all that waits is as it was. */
static void keys_without_memory(void) {
    wss__mem mem;
    wss__buf_queue *queue = NULL;
    size_t old = 0;
    make(&mem);
    wss__buf_frame *frame = numbered(&mem, 1, 5, 'a');
    wss__buf_retain(frame);
    memory.fail_at = memory.calls + 2; /* behind the ring */
    CHECK(!wss__buf_append(&mem, &queue, frame));
    CHECK(memory.failed);
    CHECK(!queue); /* none that holds nothing */
    CHECK_INT(frame->references, 1);
    wss__buf_release(&mem, frame);
    check_all_free(&mem);

    append_text(&mem, &queue, 'x');
    frame = numbered(&mem, 1, 5, 'a');
    memory.fail_at = memory.calls + 1;
    CHECK(!wss__buf_append(&mem, &queue, frame));
    CHECK_TEXT(letters(queue), "x");
    CHECK(!queue->keys && queue->key_slots == 0);
    CHECK(!wss__buf_replace(&mem, queue, frame = numbered(&mem, 1, 5, 'a'), &old));
    wss__buf_release(&mem, frame);

    for (int i = 0; i < WSS__BUF_KEYS_MIN / 2; i++)
        CHECK(wss__buf_append(&mem, &queue, numbered(&mem, i, 5, (char)('a' + i))));
    frame = numbered(&mem, 99, 5, 'z');
    memory.fail_at = memory.calls + 1;
    CHECK(!wss__buf_append(&mem, &queue, frame));
    CHECK_TEXT(letters(queue), "xabcdefgh");
    CHECK_INT(queue->key_slots, WSS__BUF_KEYS_MIN);
    CHECK_INT(queue->key_count, WSS__BUF_KEYS_MIN / 2);
    for (int i = 0; i < WSS__BUF_KEYS_MIN / 2; i++)
        CHECK(wss__buf_replace(&mem, queue, numbered(&mem, i, 5, (char)('A' + i)), &old));
    CHECK_TEXT(letters(queue), "xABCDEFGH");
    CHECK(wss__buf_append(&mem, &queue, numbered(&mem, 99, 5, 'z')));
    CHECK_INT(queue->key_slots, 2 * WSS__BUF_KEYS_MIN);
    CHECK(wss__buf_replace(&mem, queue, numbered(&mem, 99, 5, 'Z'), &old));
    CHECK_TEXT(letters(queue), "xABCDEFGHZ");
    wss__buf_free_queue(&mem, &queue);
    check_all_free(&mem);
}

/* One frame in many queues dies with the last of them, whichever way it leaves. */
static void shared_frames(void) {
    enum { QUEUES = 6 };
    wss__mem mem;
    wss__buf_queue *queues[QUEUES];
    uint64_t messages = 0;
    size_t old = 0;
    make(&mem);
    memset(queues, 0, sizeof queues);
    wss__buf_frame *frame = frame_of(&mem, WSS_TEXT, 's', 50, "k");
    for (int i = 0; i < QUEUES; i++) {
        wss__buf_retain(frame);
        CHECK(wss__buf_append(&mem, &queues[i], frame));
    }
    CHECK_INT(frame->references, QUEUES + 1);
    wss__buf_release(&mem, frame);
    CHECK_INT(wss__buf_consume(&mem, queues[0], 52), cost_of(52, 1));
    CHECK_INT(frame->references, 5);
    CHECK_INT(wss__buf_drop_all(&mem, queues[1], &messages), cost_of(52, 1));
    CHECK_INT(frame->references, 4);
    CHECK_INT(wss__buf_drop_all(&mem, queues[2], &messages), cost_of(52, 1));
    CHECK_INT(frame->references, 3);
    CHECK(wss__buf_replace(&mem, queues[3], frame_of(&mem, WSS_TEXT, 't', 1, "k"), &old));
    CHECK_INT(frame->references, 2);
    wss__buf_free_queue(&mem, &queues[4]);
    CHECK_INT(frame->references, 1);
    CHECK_INT(wss__buf_consume(&mem, queues[5], 20), 0); /* half sent here: the others saw it whole */
    size_t size;
    CHECK_INT(*wss__buf_peek(queues[5], 0, &size), 's');
    CHECK_INT(size, 32);
    for (int i = 0; i < QUEUES; i++) wss__buf_free_queue(&mem, &queues[i]);
    check_all_free(&mem);
}

/* ---- memory ---- */

/* Each allocation of a scene fails in turn: no leak, the account exact, the queue as it was. */
static int scene(wss__mem *mem, wss__buf_queue **queue) {
    int done = 0;
    for (int i = 0; i < 20; i++) {
        int front = i % 5 == 4;
        char letter = (char)('a' + i);
        wss__buf_frame *frame = front ? frame_of(mem, WSS_TEXT, letter, 10, NULL) : lettered(mem, letter, letter, 10);
        if (!frame) continue;
        size_t count = *queue ? (*queue)->count : 0;
        int in = front ? wss__buf_prepend(mem, queue, frame) : wss__buf_append(mem, queue, frame);
        CHECK_INT(*queue ? (*queue)->count : 0, count + (in ? 1 : 0));
        done += in;
    }
    return done;
}

static void every_allocation_fails(void) {
    wss__mem mem;
    size_t calls = 1;
    for (size_t at = 0; at <= calls; at++) {
        wss__buf_queue *queue = NULL;
        make(&mem);
        memory.fail_at = at;
        int done = scene(&mem, &queue);
        if (at == 0) calls = memory.calls;
        CHECK_INT(memory.failed, at != 0);
        CHECK_INT(done, at ? 19 : 20);
        size_t held = wss__mem_charge(wss__buf_queue_bytes(queue->capacity)) +
                      wss__mem_charge(queue->key_slots * sizeof(wss__buf_key));
        for (uint32_t i = 0; i < queue->count; i++) held += wss__mem_charge(wss__buf_frame_bytes(*wss__buf_at(queue, i)));
        CHECK_INT(mem.used, held);
        wss__buf_free_queue(&mem, &queue);
        check_all_free(&mem);
    }
    CHECK_INT(calls, 20 + 3 + 2); /* frames, rings of 8 to 32, tables of 16 and 32 */
}

/* A refused append takes the caller's reference and no other. */
static void failed_append_releases(void) {
    wss__mem mem;
    wss__buf_queue *queue = NULL;
    make(&mem);
    wss__buf_frame *frame = frame_of(&mem, WSS_TEXT, 'a', 1, NULL);
    wss__buf_retain(frame);
    wss__buf_retain(frame);
    memory.fail_at = memory.calls + 1;
    CHECK(!wss__buf_append(&mem, &queue, frame));
    CHECK_INT(frame->references, 2);
    memory.fail_at = memory.calls + 1;
    CHECK(!wss__buf_prepend(&mem, &queue, frame));
    CHECK_INT(frame->references, 1);
    CHECK(!queue);
    wss__buf_release(&mem, frame);
    check_all_free(&mem);
}

/* A ring has fewer places than a 32-bit number has values, at any size of memory. */
static void ring_does_not_wrap(void) {
    wss__mem mem;
    wss__buf_queue full;
    wss__buf_queue *queue = &full;
    make(&mem);
    memset(&full, 0, sizeof full);
    full.capacity = (uint32_t)1 << 30;
    full.count = full.capacity;
    CHECK_INT(wss__buf_make_room(&mem, &queue), 0);
    CHECK(queue == &full);
    CHECK_INT(memory.asked, 0);
}

int main(void) {
    alarm(60);
    RUN(new_frames);
    RUN(impossible_sizes);
    RUN(random_operations);
    RUN(grows_at_every_turn);
    RUN(first_goes_round);
    RUN(begun_stays);
    RUN(interjected_at_the_border);
    RUN(interjected_behind_a_rest);
    RUN(interjected_beside_others);
    RUN(interjected_at_every_turn);
    RUN(interjected_without_memory);
    RUN(keys_in_long_queues);
    RUN(keys_that_have_left);
    RUN(what_a_burst_leaves_behind);
    RUN(no_memory_to_shrink);
    RUN(keys_of_what_has_begun);
    RUN(keys_behind_a_rest);
    RUN(keys_without_memory);
    RUN(keys_are_bytes);
    RUN(shared_frames);
    RUN(every_allocation_fails);
    RUN(failed_append_releases);
    RUN(ring_does_not_wrap);
    return test_end("buf");
}
