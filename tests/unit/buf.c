/* Unit tests of [buf]: frames made once and shared, and the queue of what waits, against a simple model. */
#include "../library.h"

#include "../test.h"

typedef struct heap {
    size_t blocks;
    size_t live;
    size_t calls;
    size_t fail_at; /* number of the growing call that fails; 0: none */
    int failed;
} heap;

static void *heap_move(void *context, void *pointer, size_t old_size, size_t new_size) {
    heap *h = (heap *)context;
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

/* A frame whose payload is this many times this character. */
static wss__buf_frame *frame_of(wss__mem *mem, int opcode, char c, size_t size, const char *key) {
    char *payload = NULL;
    wss__buf_frame *frame = wss__buf_new(mem, opcode, size, wss__base_text(key), &payload);
    if (frame && size) memset(payload, c, size);
    return frame;
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
            wss__buf_release(&mem, frame);
            check_all_free(&mem);
        }
    }
    static const int opcodes[] = {0, WSS_TEXT, WSS_BINARY, WSS__FRAME_CLOSE, WSS__FRAME_PING, WSS__FRAME_PONG};
    for (size_t i = 0; i < 6; i++) {
        wss__buf_frame *frame = frame_of(&mem, opcodes[i], 'c', 3, NULL);
        CHECK_INT(frame->control, opcodes[i] >= 8);
        CHECK_INT(wss__buf_is_pong(frame), opcodes[i] == WSS__FRAME_PONG);
        wss__buf_release(&mem, frame);
    }
    wss__buf_frame *raw = wss__buf_new_raw(&mem, 5, wss__base_text(NULL));
    memcpy(wss__buf_frame_data(raw), "\x8a\x03" "abc", 5); /* raw bytes that look like a pong are none */
    CHECK(!wss__buf_is_pong(raw));
    CHECK_INT(raw->size, 5);
    wss__buf_release(&mem, raw);
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
    int pong;
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
    e.pong = e.control && (e.bytes[0] & 15) == 10;
    return e;
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

static void check_queue(const wss__mem *mem, wss__buf_queue *queue, size_t extra) {
    size_t pongs = 0;
    size_t held = extra;
    CHECK_INT(queue ? queue->count : 0, model_count);
    if (!queue) return;
    CHECK_INT(queue->sent, model_sent);
    CHECK_INT(wss__buf_unstarted(queue), unstarted());
    CHECK(queue->capacity >= queue->count && (queue->capacity & (queue->capacity - 1)) == 0);
    held += wss__mem_charge(wss__buf_queue_bytes(queue->capacity));
    for (uint32_t i = 0; i < queue->count; i++) {
        size_t size;
        size_t skip = i ? 0 : model_sent;
        const char *bytes = wss__buf_peek(queue, i, &size);
        CHECK_INT(size, model[i].size - skip);
        CHECK(memcmp(bytes, model[i].bytes + skip, size) == 0);
        pongs += (size_t)model[i].pong;
        held += wss__mem_charge(sizeof(wss__buf_frame) + model[i].size + (model[i].key ? 1 : 0));
    }
    CHECK_INT(queue->pongs, pongs);
    CHECK_INT(mem->used, held);
    size_t size = 9;
    CHECK(!wss__buf_peek(queue, queue->count, &size) && size == 0);
}

static uint32_t seed = 4711;

static uint32_t dice(uint32_t sides) {
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(seed >> 4) * sides >> 28);
}

static wss__buf_frame *random_frame(wss__mem *mem) {
    static const char *const keys[] = {NULL, NULL, NULL, "a", "b", "c", "d"};
    static char next = 'A';
    uint32_t kind = dice(10);
    int opcode = kind == 0 ? WSS__FRAME_PONG : kind == 1 ? WSS__FRAME_PING : dice(2) ? WSS_TEXT : WSS_BINARY;
    next = next == 'z' ? 'A' : (char)(next + 1);
    return frame_of(mem, opcode, next, dice(opcode >= 8 ? 100 : 200), opcode >= 8 ? NULL : keys[dice(7)]);
}

static void step_append(wss__mem *mem, wss__buf_queue **queue) {
    wss__buf_frame *frame = random_frame(mem);
    model_insert(model_count, frame);
    CHECK(wss__buf_append(mem, queue, frame));
}

static void step_prepend(wss__mem *mem, wss__buf_queue **queue) {
    if (model_sent) return;
    wss__buf_frame *frame = wss__buf_new_raw(mem, 1 + dice(50), wss__base_text(NULL));
    memset(wss__buf_frame_data(frame), 0x8a, frame->size);
    frame->fixed = 1;
    model_insert(0, frame);
    CHECK(wss__buf_prepend(mem, queue, frame));
}

static void step_replace(wss__mem *mem, wss__buf_queue *queue, wss__buf_frame *frame) {
    entry e = entry_of(frame);
    size_t at = model_count;
    size_t old = 12345;
    while (at > unstarted() && !(e.pong ? model[at - 1].pong : e.key && model[at - 1].key == e.key)) at--;
    int found = at > unstarted();
    CHECK_INT(wss__buf_replace(mem, queue, frame, &old), found);
    CHECK_INT(old, found ? model[at - 1].size : 12345);
    if (found) model[at - 1] = e;
    else wss__buf_release(mem, frame);
}

static void step_drop_all(wss__mem *mem, wss__buf_queue *queue) {
    uint64_t messages = 5;
    uint64_t want = 5;
    size_t bytes = 0;
    if (!queue) return;
    while (model_count > unstarted() && !(model_count == 1 && model[0].fixed)) {
        if (!model[model_count - 1].control) {
            want++;
            bytes += model[model_count - 1].size;
        }
        model_count--;
    }
    CHECK_INT(wss__buf_drop_all(mem, queue, &messages), bytes);
    CHECK_INT(messages, want);
}

static void step_consume(wss__mem *mem, wss__buf_queue *queue) {
    size_t total = 0;
    size_t data = 0;
    if (!queue) return;
    for (size_t i = 0; i < model_count; i++) total += model[i].size;
    total -= model_sent;
    size_t most = dice(20) == 0 ? total : dice(3) ? wss__base_min(total, 30) : wss__base_min(total, 2000);
    size_t size = most ? dice((uint32_t)most + 1) : 0;
    size_t left = size;
    while (left) {
        size_t part = wss__base_min(left, model[0].size - model_sent);
        if (!model[0].control) data += part;
        left -= part;
        model_sent += part;
        if (model_sent < model[0].size) break;
        model_sent = 0;
        model_remove(0);
    }
    CHECK_INT(wss__buf_consume(mem, queue, size), data);
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
        if (op < 40 && model_count < target * 2) step_append(&mem, &queue);
        else if (op < 45) step_prepend(&mem, &queue);
        else if (op < 55 && queue) step_replace(&mem, queue, random_frame(&mem));
        else if (op < 65 && queue) step_replace(&mem, queue, frame_of(&mem, WSS__FRAME_PONG, '!', dice(100), NULL));
        else if (op < 67 && dice(8) == 0) step_drop_all(&mem, queue);
        else if (model_count > target / 2) step_consume(&mem, queue);
        check_queue(&mem, queue, 0);
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
            CHECK_INT(wss__buf_consume(&mem, queue, 3), 3);
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
    CHECK_INT(wss__buf_consume(&mem, queue, 3), 3);
    queue->first = UINT32_MAX - 2;
    for (int i = 0; i < 7; i++)
        CHECK(wss__buf_append(&mem, &queue, frame_of(&mem, WSS_TEXT, (char)('a' + i), 1, NULL)));
    CHECK(wss__buf_prepend(&mem, &queue, frame_of(&mem, WSS_TEXT, 'P', 1, NULL)));
    char order[9] = "";
    for (uint32_t i = 0; i < 8; i++) {
        size_t size;
        order[i] = wss__buf_peek(queue, i, &size)[2];
    }
    CHECK_TEXT(order, "Pabcdefg");
    CHECK_INT(wss__buf_consume(&mem, queue, 3 * 8), 3 * 8);
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
    CHECK_INT(wss__buf_consume(&mem, queue, 1), 1);
    wss__buf_frame *other = frame_of(&mem, WSS_TEXT, 'b', 20, "key");
    CHECK(!wss__buf_replace(&mem, queue, other, &old));
    CHECK_INT(wss__buf_drop_all(&mem, queue, &messages), 0);
    CHECK_INT(messages, 0);
    CHECK(wss__buf_append(&mem, &queue, other));
    wss__buf_frame *third = frame_of(&mem, WSS_TEXT, 'c', 30, "key");
    CHECK(wss__buf_replace(&mem, queue, third, &old));
    CHECK_INT(old, 22);
    CHECK_INT(wss__buf_drop_all(&mem, queue, &messages), 32);
    CHECK_INT(messages, 1);
    CHECK_INT(queue->count, 1);
    CHECK_INT(wss__buf_consume(&mem, queue, 11), 11);

    CHECK(wss__buf_append(&mem, &queue, frame_of(&mem, WSS__FRAME_PONG, 'p', 4, NULL)));
    CHECK_INT(wss__buf_consume(&mem, queue, 2), 0);
    wss__buf_frame *pong = frame_of(&mem, WSS__FRAME_PONG, 'q', 5, NULL);
    CHECK(!wss__buf_replace(&mem, queue, pong, &old)); /* the only one is under way */
    CHECK(wss__buf_append(&mem, &queue, pong));
    CHECK_INT(queue->pongs, 2);
    CHECK_INT(wss__buf_consume(&mem, queue, 4), 0);
    CHECK_INT(queue->pongs, 1);
    wss__buf_free_queue(&mem, &queue);
    check_all_free(&mem);
}

/* A key is its bytes: a longer one, a shorter one and one with NUL in it are others. */
static void keys_are_bytes(void) {
    wss__mem mem;
    wss__buf_queue *queue = NULL;
    size_t old = 0;
    char *payload;
    make(&mem);
    wss__buf_frame *frame = wss__buf_new(&mem, WSS_TEXT, 1, wss__base_span("a\0b", 3), &payload);
    *payload = '1';
    CHECK(wss__buf_append(&mem, &queue, frame));
    static const struct {
        const char *key;
        size_t size;
        int same;
    } samples[] = {{"a", 1, 0}, {"a\0", 2, 0}, {"a\0c", 3, 0}, {"a\0b\0", 4, 0}, {"", 0, 0}, {"a\0b", 3, 1}};
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        frame = wss__buf_new(&mem, WSS_TEXT, 1, wss__base_span(samples[i].key, samples[i].size), &payload);
        *payload = '2';
        int same = wss__buf_replace(&mem, queue, frame, &old);
        CHECK_INT(same, samples[i].same);
        if (!same) wss__buf_release(&mem, frame);
    }
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
    CHECK_INT(wss__buf_consume(&mem, queues[0], 52), 52);
    CHECK_INT(frame->references, 5);
    CHECK_INT(wss__buf_drop_all(&mem, queues[1], &messages), 52);
    CHECK_INT(frame->references, 4);
    CHECK_INT(wss__buf_drop_all(&mem, queues[2], &messages), 52);
    CHECK_INT(frame->references, 3);
    CHECK(wss__buf_replace(&mem, queues[3], frame_of(&mem, WSS_TEXT, 't', 1, "k"), &old));
    CHECK_INT(frame->references, 2);
    wss__buf_free_queue(&mem, &queues[4]);
    CHECK_INT(frame->references, 1);
    CHECK_INT(wss__buf_consume(&mem, queues[5], 20), 20); /* half sent here: the others saw it whole */
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
        wss__buf_frame *frame = frame_of(mem, WSS_TEXT, (char)('a' + i), 10, i % 3 ? NULL : "k");
        if (!frame) continue;
        size_t count = *queue ? (*queue)->count : 0;
        int front = i % 5 == 4;
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
        size_t held = wss__mem_charge(wss__buf_queue_bytes(queue->capacity));
        for (uint32_t i = 0; i < queue->count; i++) held += wss__mem_charge(wss__buf_frame_bytes(*wss__buf_at(queue, i)));
        CHECK_INT(mem.used, held);
        wss__buf_free_queue(&mem, &queue);
        check_all_free(&mem);
    }
    CHECK(calls >= 23);
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
    CHECK_INT(memory.calls, 0);
}

int main(void) {
    alarm(60);
    RUN(new_frames);
    RUN(impossible_sizes);
    RUN(random_operations);
    RUN(grows_at_every_turn);
    RUN(first_goes_round);
    RUN(begun_stays);
    RUN(keys_are_bytes);
    RUN(shared_frames);
    RUN(every_allocation_fails);
    RUN(failed_append_releases);
    RUN(ring_does_not_wrap);
    return test_end("buf");
}
