/* Interleavings: two loops, a thread that drains a queue and callers meet in short scenes, on real threads of which one runs
   at a time (baton.h). Each scene is played in all schedules with up to three detours, or with fewer where that would be too
   many: in a detour a thread is held up where it could have gone on, or one goes on out of turn. Others are drawn from a seed.
   It shows what orders of operations lead to. It does not show reordering by compiler or processor: for that there is
   tests/stress under ThreadSanitizer.
   usage: interleavings [each=SCHEDULES] [least=SCHEDULES in all] [seed=N] [part=K/N] [scenes=BEGINNING] */
/* All of the library is compiled here, as if this were "../../wsserver.h": the points are put into it while it is read. */
#include "baton.h"

#include "../test.h"

static void expect(int condition, const char *text) {
    if (!condition) baton_fail(text);
}

/* ---- the world of one schedule ---- */

enum { CLIENTS = 8, NOTES = 16, SENDERS = 8, CALLERS = 3 };
enum { BY_HANDLER, BY_MAIN, BY_A, BY_B, BY_C }; /* senders; casts are counted apart */

typedef struct client {
    peer *peer;
    wss_conn conn;     /* as it was told by the hello */
    long sent[SENDERS]; /* accepted with WSS_OK */
    long got[SENDERS];
    long cast[SENDERS];
    int status;        /* of the answer to its request */
    int code;          /* of the Close that came; 0: none */
    int unread;        /* it does not read */
} client;

/* What handlers were told of a connection. */
typedef struct note {
    uint64_t id;
    int connects;
    int disconnects;
    int messages;
    int code;
    int cause;
    int actor; /* who ran its connect handler */
    long said; /* by handlers */
} note;

typedef struct scene {
    const char *name;
    void (*set_options)(wss_options *options);
    void (*set_up)(void);
    void (*callers[CALLERS])(void);
    void (*at_rest)(void);
    int queue;  /* handlers run on a thread that drains a queue */
    int defers; /* requests are not answered by the handler */
} scene;

static const scene *played;
static wss_server *server;
static wss_queue *queue;
static client clients[CLIENTS];
static note notes[NOTES];
static int note_count;
static long casts[SENDERS];   /* broadcasts that were accepted */
static int handlers_running;
static int gate;              /* a handler that is told "b" waits for it */
static int queue_over;        /* wss_queue_run has returned */
static int destroying;        /* wss_destroy may be draining the queue itself */
static wss_conn asked;        /* whose request waits for an answer */
static int results[16];       /* of calls, for at_rest */
static int posts_run;
static int posts_accepted;
static wss_timer timer;
static int told_dead[2];      /* disconnect of clients 0 and 1 */
static int timer_runs, timer_running, timer_cancelled;

static note *note_of(wss_conn conn) {
    for (int i = 0; i < note_count; i++)
        if (notes[i].id == conn.id) return &notes[i];
    expect(note_count < NOTES, "more connections than there were clients");
    memset(&notes[note_count], 0, sizeof notes[0]);
    notes[note_count].id = conn.id;
    return &notes[note_count++];
}

static void write_text(char *text, size_t size, wss_conn conn, int sender, long number) {
    static const char digits[] = "0123456789abcdef";
    memset(text, '.', size);
    for (int i = 0; i < 16; i++) text[i] = digits[conn.id >> (60 - 4 * i) & 15];
    text[16] = (char)('0' + sender);
    text[17] = (char)('0' + number / 10);
    text[18] = (char)('0' + number % 10);
}

enum { TEXT = 20, TEXT_MAX = 1024 };

/* Sends a text that tells for whom it is, from whom, and which number it has. */
static int say(wss_conn conn, int sender, long *count, size_t size) {
    char text[TEXT_MAX];
    write_text(text, size, conn, sender, *count + 1);
    int result = wss_send_data(server, conn, WSS_TEXT, text, size);
    if (result == WSS_OK) ++*count;
    return result;
}

static int say_to(int number, int sender, size_t size) {
    return say(clients[number].conn, sender, &clients[number].sent[sender], size);
}

static int cast(int sender) {
    char text[TEXT];
    wss_conn none = {0};
    write_text(text, sizeof text, none, sender, casts[sender] + 1);
    int result = wss_broadcast_data(server, WSS_TEXT, text, sizeof text);
    if (result == WSS_OK) casts[sender]++;
    return result;
}

static void run_post(void *arg) {
    (void)arg;
    posts_run++;
}

static int post(void) {
    int result = wss_post(server, run_post, NULL);
    if (result == WSS_OK) posts_accepted++;
    return result;
}

/* ---- handlers ---- */

static void enter(const wss_event *e) {
    expect(server != NULL, "a handler runs after wss_destroy has returned");
    expect(e->server == server, "an event of another server");
    handlers_running++;
    expect(!played->queue || handlers_running == 1, "two handlers run at a time, with a queue");
}

static void leave(void) {
    baton_moment();
    handlers_running--;
}

static void on_connect(const wss_event *e) {
    note *n = note_of(e->conn);
    enter(e);
    expect(n->connects == 0, "connect told twice");
    n->connects++;
    n->actor = baton_self;
    int result = say(e->conn, BY_HANDLER, &n->said, TEXT);
    expect(result == WSS_OK || result == WSS_ERR_GONE || result == WSS_ERR_STOPPED, "a send in a connect handler");
    leave();
}

static void on_timer(const wss_event *e) {
    baton_moment(); /* it has been called and not done anything */
    enter(e);
    timer_runs++;
    timer_running++;
    expect(!timer_cancelled, "a timer runs after a handler has cancelled it");
    baton_moment();
    timer_running--;
    leave();
}

static void on_data(const wss_event *e) {
    note *n = note_of(e->conn);
    enter(e);
    expect(n->connects == 1, "a message before connect");
    expect(n->disconnects == 0, "a message after disconnect");
    expect(played->queue || n->actor == baton_self, "a message told by another loop");
    n->messages++;
    if (*e->data == 'e') say(e->conn, BY_HANDLER, &n->said, TEXT);
    if (*e->data == 'b') baton_wait_for(&gate);
    if (*e->data == 'c') {
        results[0] = wss_timer_cancel(server, timer);
        if (results[0] == WSS_OK) {
            timer_cancelled = 1;
            expect(!timer_running, "a timer is cancelled that is running");
        }
    }
    leave();
}

static void on_disconnect(const wss_event *e) {
    note *n = note_of(e->conn);
    enter(e);
    expect(n->connects == 1, "disconnect without connect");
    expect(n->disconnects == 0, "disconnect told twice");
    n->disconnects++;
    n->code = e->code;
    n->cause = e->cause;
    for (int i = 0; i < 2; i++)
        if (e->conn.id == clients[i].conn.id) told_dead[i] = 1;
    leave();
}

static void on_upgrade(const wss_event *e) {
    enter(e);
    asked = e->conn;
    leave();
}

/* ---- clients ---- */

static wss_options options_of(void) {
    wss_options options;
    memset(&options, 0, sizeof options);
    wss_get_options(server, &options);
    return options;
}

/* Comes and asks; whoever runs decides when that is seen. */
static void arrive(int number) {
    client *c = &clients[number];
    c->peer = peer_connect(options_of().port);
    expect(c->peer != NULL, "nobody listens");
    peer_text(c->peer, PEER_REQUEST("/") "\r\n");
}

static uint64_t read_id(const char *text) {
    uint64_t id = 0;
    for (int i = 0; i < 16; i++) id = id << 4 | (uint64_t)(text[i] <= '9' ? text[i] - '0' : text[i] - 'a' + 10);
    return id;
}

static void take_text(client *c, const char *text) {
    uint64_t id = read_id(text);
    int sender = text[16] - '0';
    long number = (text[17] - '0') * 10 + text[18] - '0';
    expect(sender >= 0 && sender < SENDERS, "a message that nobody has sent");
    if (!id) {
        expect(number > c->cast[sender], "a broadcast comes twice, or in another order");
        expect(!c->cast[sender] || number == c->cast[sender] + 1, "a broadcast is missing");
        c->cast[sender] = number;
        return;
    }
    if (!c->conn.id) c->conn.id = id;
    expect(c->conn.id == id, "a message for another connection");
    expect(number == ++c->got[sender], "a message is missing, comes twice, or in another order");
}

/* Reads what has come. */
static void read_all(client *c) {
    char text[TEXT_MAX + 1];
    size_t size;
    int first;
    if (!c->peer || c->unread) return;
    if (!c->status) c->status = peer_take_head(c->peer);
    if (c->status != 101) return;
    while ((first = peer_take(c->peer, text, sizeof text, &size)) >= 0) {
        expect(!c->code, "something follows a Close");
        expect(first == 0x88 || (first == 0x81 && size >= TEXT), "another frame than was sent");
        if (first == 0x81) take_text(c, text);
        else c->code = size < 2 ? WSS_CLOSE_NO_CODE : (unsigned char)text[0] << 8 | (unsigned char)text[1];
    }
}

static void read_clients(void) {
    for (int i = 0; i < CLIENTS; i++) read_all(&clients[i]);
}

/* Answers the Close that has come. */
static void answer_close(int number) {
    client *c = &clients[number];
    if (c->code && !c->peer->finished) {
        peer_frame(c->peer, 0x88, "\3\350", 2);
        peer_finish(c->peer);
    }
}

static void ask(int number, const char *what) {
    peer_frame(clients[number].peer, 0x81, what, strlen(what));
}

/* Comes, and is open. */
static void join(int number) {
    arrive(number);
    baton_rest(0);
    read_all(&clients[number]);
    expect(clients[number].status == 101 && clients[number].conn.id, "a client is not let in");
}

/* ---- what is true whenever nobody can go on ---- */

static int is_alive(const client *c) {
    const peer *p = c->peer;
    return p && c->status == 101 && c->conn.id && !c->code && !p->server_gone && !p->end && !p->broken && !p->finished;
}

static void check_clients(void) {
    for (int i = 0; i < CLIENTS; i++) {
        client *c = &clients[i];
        if (!is_alive(c)) continue;
        const note *n = note_of(c->conn);
        expect(n->connects == 1 && n->disconnects == 0, "an open connection that was not told, or told off");
        if (c->unread) continue;
        c->sent[BY_HANDLER] = n->said;
        for (int by = 0; by < SENDERS; by++) {
            expect(c->got[by] <= c->sent[by], "a message comes whose send was refused");
            expect(c->got[by] == c->sent[by], "a message is lost that was accepted");
        }
        expect(wss_buffered(server, c->conn) == 0, "bytes wait for a client that reads");
    }
}

static void check_notes(void) {
    size_t open = 0;
    for (int i = 0; i < note_count; i++) open += (size_t)(notes[i].connects - notes[i].disconnects);
    expect(wss_count(server) == open, "wss_count and the events differ");
}

/* Nothing is under way. */
static void check_rest(void) {
    wss_stats stats;
    read_clients();
    baton_rest(0); /* what was read makes room */
    read_clients();
    sim_check(server);
    check_clients();
    check_notes();
    wss_get_stats(server, &stats);
    expect(stats.posted == 0, "posted work waits, and everybody sleeps");
    expect(stats.memory == sim.account.charged, "the account of memory");
    expect(posts_run == posts_accepted, "posted functions that did not run, or twice");
}

/* ---- one schedule ---- */

static void *drain(void *arg) {
    (void)arg;
    int result = wss_queue_run(queue);
    queue_over = 1;
    expect(result == WSS_OK || (result == WSS_ERR_BUSY && destroying), "wss_queue_run");
    return NULL;
}

static void *call(void *arg) {
    (*(void (*const *)(void))arg)();
    return NULL;
}

static int drainer;
static int callers[CALLERS];

static void begin(void) {
    wss_options options;
    sim_begin(1);
    sim_on_violation = baton_violation;
    memset(clients, 0, sizeof clients);
    memset(casts, 0, sizeof casts);
    memset(results, 0, sizeof results);
    note_count = handlers_running = gate = queue_over = destroying = posts_run = posts_accepted = 0;
    told_dead[0] = told_dead[1] = 0;
    timer_runs = timer_running = timer_cancelled = 0;
    asked.id = timer.id = 0;
    queue = NULL;
    sim_queue_options(&options);
    options.allocator = baton_allocator;
    if (played->queue) queue = wss_queue_create(&options, NULL);
    sim_options(&options);
    options.allocator = baton_allocator;
    options.threads = 2;
    options.max_connections = 8;
    options.ping_ms = WSS_OFF; /* nothing is mended by a deadline */
    options.queue = queue;
    if (played->set_options) played->set_options(&options);
    server = wss_create(&options, NULL);
    expect(server && (queue || !played->queue), "no server");
    wss_on_connect(server, on_connect, NULL);
    wss_on_data(server, on_data, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    if (played->defers) wss_on_upgrade(server, on_upgrade, NULL);
    expect(wss_start(server) == WSS_OK, "wss_start");
    if (queue) drainer = baton_play("the drainer", drain, NULL);
    baton_rest(0);
}

/* All clients go; what was taken is given back. */
static void end(void) {
    gate = 1;
    for (int i = 0; i < CLIENTS; i++) {
        peer_free(clients[i].peer);
        clients[i].peer = NULL;
    }
    baton_rest(0);
    if (server) {
        check_rest();
        wss_stop(server, 0);
        baton_rest(0);
    }
    if (queue) {
        expect(queue_over, "wss_queue_run goes on after the end of its server");
        baton_leave(&baton.actors[drainer]);
    }
    baton.time_passes = 1;
    if (server) expect(wss_destroy(server) == WSS_OK, "wss_destroy");
    server = NULL;
    for (int i = 0; i < note_count; i++)
        expect(notes[i].connects == notes[i].disconnects, "connected, and never told that it is gone");
    if (queue) expect(wss_queue_destroy(queue) == WSS_OK, "wss_queue_destroy");
    for (int i = 1; i < baton.actor_count; i++)
        expect(baton.actors[i].waits == BATON_FREE, "a thread goes on after the end");
    sim_finish();
    expect(sim.peers_used == 0, "a socket is left");
}

static void play(void) {
    int count = 0;
    baton_reset();
    begin();
    played->set_up();
    for (int i = 0; i < CALLERS && played->callers[i]; i++, count++) {
        static const char *const names[CALLERS] = {"caller A", "caller B", "caller C"};
        callers[i] = baton_play(names[i], call, (void *)(uintptr_t)&played->callers[i]);
    }
    baton_rest(1);
    played->at_rest();
    for (int i = 0; i < count; i++) baton_leave(&baton.actors[callers[i]]);
    end();
}

/* ---- scenes ---- */

static void join_two(void) {
    join(0);
    join(1);
    expect(note_of(clients[0].conn)->actor != note_of(clients[1].conn)->actor || played->queue, "two clients on one loop");
}

static void two_talk(void) {
    join_two();
    ask(0, "e");
    ask(1, "e");
}

static void check_casts(void) {
    for (int i = 0; i < 2; i++)
        for (int by = 0; by < SENDERS; by++) expect(clients[i].cast[by] == casts[by], "a broadcast is lost");
}

/* Sends and broadcasts from two threads, beside those of handlers. */
static void send_a(void) {
    expect(say_to(0, BY_A, TEXT) == WSS_OK && say_to(1, BY_A, TEXT) == WSS_OK, "a send");
}

static void send_b(void) {
    expect(say_to(1, BY_B, TEXT) == WSS_OK && say_to(0, BY_B, TEXT) == WSS_OK, "a send");
}

static void cast_a(void) {
    expect(cast(BY_A) == WSS_OK && cast(BY_A) == WSS_OK, "a broadcast");
}

static void cast_b(void) {
    expect(cast(BY_B) == WSS_OK && say_to(1, BY_B, TEXT) == WSS_OK, "a broadcast, or a send behind it");
}

static void check_broadcast(void) {
    check_rest();
    check_casts();
}

/* New clients: four come at once, and are dealt to two loops evenly. */
static void four_come(void) {
    for (int i = 0; i < 4; i++) arrive(i);
}

static void cast_once(void) {
    expect(cast(BY_A) == WSS_OK, "a broadcast");
}

static void walk(void) {
    wss_conn conn = {0};
    wss_info info;
    int count = 0;
    while ((conn = wss_next(server, conn)).id) {
        int result = wss_get_info(server, conn, &info);
        expect(result == WSS_OK || result == WSS_ERR_GONE, "wss_get_info");
        expect(result != WSS_OK || info.conn.id == conn.id, "wss_get_info tells of another connection");
        count++;
    }
    expect(count <= 4, "wss_next visits one twice");
}

static void check_deal(void) {
    int on_first = 0;
    check_rest();
    for (int i = 0; i < 4; i++) {
        expect(clients[i].status == 101, "a client is not let in");
        on_first += note_of(clients[i].conn)->actor == note_of(clients[0].conn)->actor;
    }
    expect(played->queue || on_first == 2, "four clients are not dealt evenly to two loops");
}

/* One loop is held up in a handler while more come than there are places. */
static void four_places(wss_options *options) {
    options->max_connections = 4;
}

static int streams(void) {
    int count = 0;
    for (int i = 0; i < sim.top; i++) count += sim.files[i].kind == SIM_STREAM;
    return count;
}

static void check_accepted(int fd) {
    (void)fd;
    expect(streams() <= options_of().max_connections, "more sockets are accepted than connections may be");
}

static void one_is_busy(void) {
    join_two();
    ask(1, "b");
    baton_rest(0);
    baton_on_accept = check_accepted;
    for (int i = 2; i < 5; i++) arrive(i);
}

static void open_gate(void) {
    gate = 1;
}

static void send_once(void) {
    expect(say_to(0, BY_B, TEXT) == WSS_OK, "a send");
}

static void nobody_is_dropped(int first, int end_of) {
    for (int i = first; i < end_of; i++)
        expect(clients[i].status || !clients[i].peer->server_gone, "a client is closed without an answer");
}

static void check_busy(void) {
    read_clients();
    nobody_is_dropped(2, 5);
    peer_close(clients[0].peer); /* now there is a place for the last */
    baton_rest(0);
    sim_move_clock(200);
    baton_rest(0);
    read_clients();
    nobody_is_dropped(2, 5);
    for (int i = 2; i < 5; i++) expect(clients[i].status == 101, "a client waits although there is a place");
    check_rest();
    baton_on_accept = NULL;
}

/* A client that does not read: its queue is full. */
static void small_queue(wss_options *options) {
    options->max_queued = 400;
    options->max_connections = 4;
}

static void small_queue_closes(wss_options *options) {
    small_queue(options);
    options->send_policy = WSS_POLICY_CLOSE;
}

static void block(int number) {
    clients[number].unread = 1;
    clients[number].peer->out.limit = 64;
}

static void unblock(int number) {
    clients[number].unread = 0;
    clients[number].peer->out.limit = 65536;
}

static void one_does_not_read(void) {
    join_two();
    block(0);
    ask(0, "e");
}

static void push_a(void) {
    for (int i = 0; i < 3; i++) results[i] = say_to(0, BY_A, 200);
}

static void push_b(void) {
    for (int i = 3; i < 5; i++) results[i] = say_to(0, BY_B, 200);
}

static int count_results(int count, int value) {
    int found = 0;
    for (int i = 0; i < count; i++) found += results[i] == value;
    return found;
}

static void check_refused(void) {
    expect(count_results(5, WSS_OK) + count_results(5, WSS_ERR_FULL) == 5, "a send to a full queue");
    expect(count_results(5, WSS_ERR_FULL) > 0, "a queue holds more than its limit");
    unblock(0);
    check_rest();
}

static void check_closed_for_slowness(void) {
    int gone = count_results(5, WSS_ERR_GONE);
    int accepted = count_results(5, WSS_OK);
    expect(accepted + count_results(5, WSS_ERR_FULL) + gone == 5, "a send to a full queue");
    unblock(0);
    read_clients();
    baton_rest(0);
    read_clients();
    if (!clients[0].code) { /* the loop saw no more than it may keep, others were too many on their way */
        expect(accepted > 0 && accepted <= 2 && !gone, "a slow reader is not told");
        check_rest();
        return;
    }
    expect(clients[0].code == WSS_CLOSE_TRY_LATER, "a slow reader is not told");
    answer_close(0);
    baton_rest(0);
    const note *n = note_of(clients[0].conn);
    expect(n->disconnects == 1 && n->cause == WSS_CAUSE_SLOW_READER, "a slow reader stays");
    check_rest();
}

/* Two close, one of them sends before. */
static void close_a(void) {
    results[0] = wss_close(server, clients[0].conn, 4001, "one");
    expect(say_to(0, BY_A, TEXT) == WSS_ERR_GONE, "a send after wss_close");
}

static void close_b(void) {
    int result = say_to(0, BY_B, TEXT);
    expect(result == WSS_OK || result == WSS_ERR_GONE, "a send before wss_close");
    results[1] = wss_close(server, clients[0].conn, 4002, NULL);
}

static void check_close(void) {
    expect(count_results(2, WSS_OK) == 1 && count_results(2, WSS_ERR_GONE) == 1, "two close, and not just one does it");
    int code = results[0] == WSS_OK ? 4001 : 4002;
    read_clients();
    expect(clients[0].code == code, "another Close than was asked for, or none");
    expect(clients[0].got[BY_B] == clients[0].sent[BY_B], "a message is lost that was accepted before the Close");
    answer_close(0);
    baton_rest(0);
    expect(note_of(clients[0].conn)->disconnects == 1, "closed, and disconnect is not told");
    check_rest();
}

/* A stop, beside a send, a post and a new client. */
static void two_talk_one_comes(void) {
    two_talk();
    arrive(2);
}

static void stop_a(void) {
    wss_stop(server, 50);
}

static void send_and_post(void) {
    for (int i = 0; i < 2; i++) {
        int result = say_to(i, BY_B, TEXT);
        expect(result == WSS_OK || result == WSS_ERR_GONE || result == WSS_ERR_STOPPED, "a send while the server stops");
    }
    int result = post();
    expect(result == WSS_OK || result == WSS_ERR_STOPPED, "a post while the server stops");
}

static int loops_left(void) {
    int count = 0;
    for (int i = 1; i < baton.actor_count; i++)
        count += strncmp(baton.actors[i].name, "loop", 4) == 0 && baton.actors[i].waits < BATON_DONE;
    return count;
}

static void check_stop(void) {
    read_clients();
    expect(loops_left() == 0 || (clients[0].code && clients[1].code), "a stop that nobody is told");
    for (int i = 0; i < 2; i++)
        expect(clients[i].got[BY_B] == clients[i].sent[BY_B], "a message is lost that was accepted before the stop");
    answer_close(0);
    baton_rest(0);
    sim_move_clock(60);
    baton_rest(0);
    expect(loops_left() == 0, "a stop without an end");
    expect(posts_run == posts_accepted, "a posted function is lost in a stop");
    for (int i = 0; i < note_count; i++) expect(notes[i].disconnects == 1, "a stop without disconnect");
}

/* The end of a server that runs, has clients and, with a queue, handlers under way. */
static void destroy_a(void) {
    if (played->queue) wss_stop(server, 20);
    destroying = 1;
    int result = wss_destroy(server);
    if (result == WSS_ERR_BUSY && played->queue) {
        baton_wait_for(&queue_over);
        result = wss_destroy(server);
    }
    expect(result == WSS_OK, "wss_destroy");
    expect(handlers_running == 0, "wss_destroy returns while a handler runs");
    server = NULL;
}

static void reset_b(void) {
    peer_reset(clients[0].peer);
}

static void check_destroy(void) {
    while (server) {
        read_clients();
        answer_close(1);
        if (!baton_pass_time()) baton_fail("wss_destroy never returns");
        baton_rest(1);
    }
}

/* With a queue: two are reset while somebody sends to one of them; two others come and are given their places. */
static void all_places_taken(void) {
    for (int i = 0; i < 4; i++) join(i);
}

static void two_are_reset(void) {
    all_places_taken();
    peer_reset(clients[0].peer);
    peer_reset(clients[1].peer);
}

static void full_one_is_reset(void) {
    all_places_taken();
    block(1);
    for (int i = 0; i < 3; i++) {
        expect(say_to(1, BY_MAIN, 200) == WSS_OK, "a send");
        baton_rest(0);
    }
    peer_reset(clients[0].peer);
    peer_reset(clients[1].peer);
}

static void send_to_dead(void) {
    say_to(1, BY_A, 200);
    say_to(1, BY_A, 200);
}

static void send_to_both(void) {
    say_to(0, BY_B, TEXT);
    expect(say_to(3, BY_B, TEXT) == WSS_OK, "a send");
}

static void two_come(void) {
    arrive(4);
    arrive(5);
}

static void check_reused(void) {
    for (int i = 0; i < 3; i++) { /* places that other loops free are looked for by time */
        read_clients();
        sim_move_clock(100);
        baton_rest(0);
    }
    read_clients();
    nobody_is_dropped(4, 6);
    for (int i = 4; i < 6; i++) expect(clients[i].status == 101, "a client waits although there is a place");
    for (int i = 0; i < 2; i++) expect(note_of(clients[i].conn)->disconnects == 1, "reset, and disconnect is not told");
    check_rest();
}

/* The send falls into the turn in which the loop sees the reset: it is accepted, and comes to a connection that was freed. */
static int dying, said;

static void on_call(int call, int fd) {
    if (call != SIM_recv || dying || fd != clients[1].peer->fd) return;
    dying = 1;
    baton_wait_for(&said);
}

static void one_dies(void) {
    all_places_taken();
    dying = said = 0;
    baton_on_call = on_call;
    peer_reset(clients[1].peer);
}

static void send_to_dying(void) {
    baton_wait_for(&dying);
    say_to(1, BY_A, 200);
    said = 1;
}

static void one_resets_one_comes(void) {
    baton_wait_for(&told_dead[1]); /* then its place is the first to be given away, */
    peer_reset(clients[0].peer);
    baton_wait_for(&told_dead[0]); /* and then the first loop has the fewest */
    arrive(4);
}

static void check_dead(void) {
    baton_on_call = NULL;
    arrive(5);
    baton_rest(0);
    check_reused();
}

/* Timers that are due: one is cancelled in a handler of the other loop, others by threads. */
static int once_runs, repeat_runs, short_runs;
static wss_timer once, repeat;

static void on_other_timer(const wss_event *e) {
    enter(e);
    ++*(int *)e->context;
    leave();
}

static void timers_are_due(void) {
    join_two();
    once_runs = repeat_runs = short_runs = 0;
    timer = wss_timer_start(server, 10, 1000, on_timer, NULL);
    once = wss_timer_start(server, 10, 0, on_other_timer, &once_runs);
    repeat = wss_timer_start(server, 10, 10, on_other_timer, &repeat_runs);
    expect(timer.id && once.id && repeat.id, "a timer is not made");
    baton_rest(0);
    ask(1, "c");
    sim_move_clock(10);
}

static void cancel_a(void) {
    results[1] = wss_timer_cancel(server, once);
}

static void cancel_b(void) {
    results[2] = wss_timer_cancel(server, repeat);
    wss_timer own = wss_timer_start(server, 0, 0, on_other_timer, &short_runs);
    expect(own.id != 0, "a timer is not made");
    results[3] = wss_timer_cancel(server, own);
}

static void check_timers(void) {
    int busy = results[0] == WSS_ERR_BUSY && timer_runs == 1;
    expect(busy || results[0] == WSS_OK, "a repeating timer cannot be cancelled");
    if (busy) expect(wss_timer_cancel(server, timer) != WSS_ERR_BUSY, "a timer is said to run, and does not");
    expect(once_runs == 1 || (!once_runs && results[1] == WSS_OK), "a timer that was not cancelled has not run once");
    expect(short_runs == 1 || (!short_runs && results[3] == WSS_OK), "a timer that was not cancelled has not run once");
    expect(results[2] != WSS_ERR_GONE, "a repeating timer has gone");
    if (results[2] != WSS_OK) wss_timer_cancel(server, repeat);
    int before = repeat_runs + timer_runs;
    sim_move_clock(2000);
    baton_rest(0);
    expect(repeat_runs + timer_runs == before, "a timer repeats that was cancelled");
    check_rest();
}

/* A request that another thread answers, and then goes on with the handle. */
static int let_in;

static void one_asks(void) {
    let_in = 0;
    arrive(0);
    baton_rest(0);
    expect(asked.id != 0, "a request that nobody was asked about");
    clients[0].conn = asked;
}

static void accept_a(void) {
    expect(wss_accept(server, asked, NULL, NULL, 0, NULL) == WSS_OK, "wss_accept");
    let_in = 1;
    expect(say_to(0, BY_A, TEXT) == WSS_OK, "a send to one that was accepted");
    expect(say_to(0, BY_A, TEXT) == WSS_OK, "a send to one that was accepted");
}

static void send_when_let_in(void) {
    baton_wait_for(&let_in);
    expect(say_to(0, BY_B, TEXT) == WSS_OK, "a send to one that was accepted");
}

static void check_let_in(void) {
    check_rest();
    expect(clients[0].status == 101, "accepted, and not let in");
    expect(note_of(asked)->connects == 1, "accepted, and connect is not told");
}

static void ban_a(void) {
    expect(wss_accept(server, asked, NULL, NULL, 0, NULL) == WSS_OK, "wss_accept");
    let_in = 1;
    expect(say_to(0, BY_A, TEXT) == WSS_OK, "a send to one that was accepted");
    expect(wss_close(server, asked, 4003, "banned") == WSS_OK, "wss_close of one that was accepted");
}

static void send_to_banned(void) {
    baton_wait_for(&let_in);
    int result = say_to(0, BY_B, TEXT);
    expect(result == WSS_OK || result == WSS_ERR_GONE, "a send to one that is closed");
}

static void check_banned(void) {
    read_clients();
    expect(clients[0].status == 101 && clients[0].code == 4003, "accepted and closed, and not told");
    for (int by = BY_A; by <= BY_B; by++)
        expect(clients[0].got[by] == clients[0].sent[by], "a message is lost that was accepted before the Close");
    answer_close(0);
    baton_rest(0);
    check_rest();
}

/* Work that waits is bounded, on each loop. */
static void two_posts(wss_options *options) {
    options->max_posted = 2;
}

static void first_is_busy(void) {
    join(0);
    ask(0, "b");
    baton_rest(0);
}

static void second_is_busy(void) {
    join_two();
    ask(1, "b");
    baton_rest(0);
}

static void post_a(void) {
    for (int i = 0; i < 3; i++) results[i] = post();
}

static void post_b(void) {
    for (int i = 3; i < 6; i++) results[i] = i == 4 ? post() : say_to(0, BY_B, TEXT);
}

static void cast_three_a(void) {
    for (int i = 0; i < 3; i++) results[i] = cast(BY_A);
}

static void cast_three_b(void) {
    for (int i = 3; i < 6; i++) results[i] = cast(BY_B);
}

static void check_posted(void) {
    expect(count_results(6, WSS_OK) == 2 && count_results(6, WSS_ERR_QUEUE_FULL) == 4, "max_posted");
    gate = 1;
    baton_rest(0);
    check_rest();
}

static void check_posted_casts(void) {
    expect(count_results(6, WSS_OK) + count_results(6, WSS_ERR_QUEUE_FULL) == 6, "a broadcast");
    expect(count_results(6, WSS_OK) == 2, "max_posted, of a loop that is not the first");
    gate = 1;
    baton_rest(0);
    check_rest();
    check_casts();
}

/* A send finds no room in the inbox just when the loop looks how much is queued. */
static void one_post(wss_options *options) {
    options->threads = 1;
    options->max_posted = 1;
    options->max_queued = 1000;
}

static void one_talks(void) {
    join(0);
    ask(0, "e");
}

static void post_once(void) {
    post();
}

static void send_much(void) {
    say_to(0, BY_B, 700);
    say_to(0, BY_B, 700);
}

static void check_read(void) {
    expect(note_of(clients[0].conn)->messages == 1, "a message is not read although nothing is in the way");
    if (note_of(clients[0].conn)->messages == 1) check_rest();
}

/* Reading is paused and resumed. */
static void pause_a(void) {
    expect(wss_pause(server, clients[0].conn) == WSS_OK, "wss_pause");
    expect(wss_resume(server, clients[0].conn) == WSS_OK, "wss_resume");
}

static void pause_b(void) {
    expect(wss_pause(server, clients[0].conn) == WSS_OK && say_to(0, BY_B, TEXT) == WSS_OK, "wss_pause, and a send");
}

static void check_paused(void) {
    check_rest();
    expect(wss_resume(server, clients[0].conn) == WSS_OK, "wss_resume");
    baton_rest(0);
    expect(note_of(clients[0].conn)->messages == 1, "a message is not read although reading has gone on");
    check_rest();
}

/* Of one message there is already too much undelivered, so the other client of the two is held back until that was told. */
static void one_at_a_time(void) {
    join_two();
    server->options.memory_budget = 1600;
}

static void say_long(int number) {
    char text[600];
    memset(text, 'x', sizeof text);
    peer_frame(clients[number].peer, 0x81, text, sizeof text);
}

static void talk_a(void) {
    say_long(0);
}

static void talk_b(void) {
    say_long(1);
}

static void check_told(void) {
    for (int i = 0; i < 2; i++) expect(note_of(clients[i].conn)->messages == 1, "a message is not told, and nobody is waited for");
    check_rest();
}

/* As little as there can be: of these the schedules with three detours are gone through too. */
static void one_loop(wss_options *options) {
    options->threads = 1;
}

static void join_one(void) {
    join(0);
}

static void close_once(void) {
    results[0] = wss_close(server, clients[0].conn, 4001, "one");
}

static void try_send(void) {
    int result = say_to(0, BY_B, TEXT);
    expect(result == WSS_OK || result == WSS_ERR_GONE, "a send before wss_close");
}

static void check_one_close(void) {
    read_clients();
    expect(results[0] == WSS_OK && clients[0].code == 4001, "another Close than was asked for, or none");
    expect(clients[0].got[BY_B] == clients[0].sent[BY_B], "a message is lost that was accepted before the Close");
    answer_close(0);
    baton_rest(0);
    expect(note_of(clients[0].conn)->disconnects == 1, "closed, and disconnect is not told");
    check_rest();
}

static void one_timer(void) {
    short_runs = 0;
    wss_timer own = wss_timer_start(server, 0, 0, on_other_timer, &short_runs);
    results[0] = wss_timer_cancel(server, own);
}

static void check_one_timer(void) {
    expect(short_runs == 1 || (!short_runs && results[0] == WSS_OK), "a timer that was not cancelled has not run once");
    check_rest();
}

static void post_a_stop(void) {
    results[0] = post();
    expect(results[0] == WSS_OK || results[0] == WSS_ERR_STOPPED, "a post while the server stops");
}

static void check_one_stop(void) {
    read_clients();
    expect(clients[0].code == WSS_CLOSE_GOING_AWAY, "a stop that nobody is told");
    answer_close(0);
    baton_rest(0);
    expect(loops_left() == 0, "a stop without an end");
    expect(posts_run == posts_accepted, "a posted function is lost in a stop");
}

static const scene scenes[] = {
    {"one send", one_loop, join_one, {send_once, NULL, NULL}, check_rest, 0, 0},
    {"one send, queue", one_loop, join_one, {send_once, NULL, NULL}, check_rest, 1, 0},
    {"one message, one send", one_loop, one_talks, {send_once, NULL, NULL}, check_rest, 0, 0},
    {"one close", one_loop, join_one, {close_once, NULL, NULL}, check_one_close, 0, 0},
    {"one close, a send", one_loop, join_one, {close_once, try_send, NULL}, check_one_close, 0, 0},
    {"one timer", one_loop, join_one, {one_timer, NULL, NULL}, check_one_timer, 0, 0},
    {"one post, a stop", one_loop, join_one, {post_a_stop, stop_a, NULL}, check_one_stop, 0, 0},
    {"one destroy", one_loop, join_one, {destroy_a, NULL, NULL}, check_destroy, 0, 0},
    {"send", NULL, two_talk, {send_a, send_b, NULL}, check_rest, 0, 0},
    {"send, queue", NULL, two_talk, {send_a, send_b, NULL}, check_rest, 1, 0},
    {"broadcast", NULL, two_talk, {cast_a, cast_b, NULL}, check_broadcast, 0, 0},
    {"deal", NULL, four_come, {cast_once, walk, NULL}, check_deal, 0, 0},
    {"deal, queue", NULL, four_come, {cast_once, walk, NULL}, check_deal, 1, 0},
    {"deal, a loop is busy", four_places, one_is_busy, {open_gate, send_once, NULL}, check_busy, 0, 0},
    {"full queue, refuse", small_queue, one_does_not_read, {push_a, push_b, NULL}, check_refused, 0, 0},
    {"full queue, close", small_queue_closes, one_does_not_read, {push_a, push_b, NULL}, check_closed_for_slowness, 0, 0},
    {"full queue, close, queue", small_queue_closes, one_does_not_read, {push_a, push_b, NULL}, check_closed_for_slowness, 1,
     0},
    {"close", NULL, two_talk, {close_a, close_b, NULL}, check_close, 0, 0},
    {"close, queue", NULL, two_talk, {close_a, close_b, NULL}, check_close, 1, 0},
    {"stop", NULL, two_talk_one_comes, {stop_a, send_and_post, NULL}, check_stop, 0, 0},
    {"stop, queue", NULL, two_talk_one_comes, {stop_a, send_and_post, NULL}, check_stop, 1, 0},
    {"destroy", NULL, two_talk_one_comes, {destroy_a, reset_b, NULL}, check_destroy, 0, 0},
    {"destroy, queue", NULL, two_talk_one_comes, {destroy_a, reset_b, NULL}, check_destroy, 1, 0},
    {"places used again", four_places, two_are_reset, {send_to_dead, send_to_both, two_come}, check_reused, 0, 0},
    {"places used again, queue", four_places, two_are_reset, {send_to_dead, send_to_both, two_come}, check_reused, 1, 0},
    {"places used again, full", small_queue_closes, full_one_is_reset, {send_to_dead, send_to_both, two_come}, check_reused,
     1, 0},
    {"places, a late send", four_places, one_dies, {send_to_dying, one_resets_one_comes, NULL}, check_dead, 0, 0},
    {"places, a late send, queue", four_places, one_dies, {send_to_dying, one_resets_one_comes, NULL}, check_dead, 1, 0},
    {"timers", NULL, timers_are_due, {cancel_a, cancel_b, NULL}, check_timers, 0, 0},
    {"timers, queue", NULL, timers_are_due, {cancel_a, cancel_b, NULL}, check_timers, 1, 0},
    {"accept", NULL, one_asks, {accept_a, send_when_let_in, NULL}, check_let_in, 0, 1},
    {"accept, queue", NULL, one_asks, {accept_a, send_when_let_in, NULL}, check_let_in, 1, 1},
    {"accept and close", NULL, one_asks, {ban_a, send_to_banned, NULL}, check_banned, 0, 1},
    {"accept and close, queue", NULL, one_asks, {ban_a, send_to_banned, NULL}, check_banned, 1, 1},
    {"max_posted", two_posts, first_is_busy, {post_a, post_b, NULL}, check_posted, 0, 0},
    {"max_posted, broadcasts", two_posts, second_is_busy, {cast_three_a, cast_three_b, NULL}, check_posted_casts, 0, 0},
    {"refused send", one_post, one_talks, {post_once, send_much, NULL}, check_read, 0, 0},
    {"pause", NULL, one_talks, {pause_a, pause_b, NULL}, check_paused, 0, 0},
    {"less, queue", NULL, one_at_a_time, {talk_a, talk_b, NULL}, check_told, 1, 0},
};

/* ---- schedules ---- */

static long played_in_order, played_drawn;

/* All schedules with just so many detours, as long as there are not more than most. True: these are all. */
static int play_in_order(int bound, long most, long *count) {
    *count = 0;
    baton.bound = bound;
    baton.given = 0;
    do {
        play();
        *count += baton.detours == bound; /* the others came with an earlier bound */
    } while (baton_next() && *count < most);
    played_in_order += *count;
    return baton.depth == 0;
}

static void play_drawn(long number, uint64_t seed) {
    baton.bound = -1;
    baton.random = (seed * 0x9e3779b97f4a7c15u) ^ ((uint64_t)number + 1) * 0xbf58476d1ce4e5b9u;
    if (!baton.random) baton.random = 1;
    for (int i = 0; i < 4; i++) baton_draw(2);
    baton.all_points = number % 4 == 0;
    baton.by_rank = number % 4 == 1;
    for (int i = 0; i < BATON_ACTORS; i++) baton.rank[i] = (int)baton_draw(65536);
    baton.lowest_rank = 0;
    long points = baton.all_points ? baton.points : baton.meetings; /* of the schedule before */
    baton.chance = (unsigned)(65536 * (1 + number % 5) / (points > 8 ? points : 8));
    play();
    baton.all_points = baton.by_rank = 0;
    played_drawn++;
}

enum { DETOURS = 3, LEARNING = 40 };

/* In order as far as two thirds of the number allow, then drawn. What would be cut off early is not begun: all that were played
   would differ near their end alone. */
static void play_scene(const scene *s, long most, uint64_t seed) {
    long total = LEARNING;
    long counts[DETOURS + 1] = {0};
    int bound = 0;
    int whole = 1;
    played = s;
    baton_forget(s->name);
    for (int i = 0; i < LEARNING; i++) play_drawn(i, seed); /* to learn what is shared */
    while (whole && bound <= DETOURS) {
        long left = most * 2 / 3 - total;
        long expected = bound < 2 ? 0 : counts[bound - 1] * counts[1] / bound;
        if (left < 1 || expected > 2 * left) break;
        baton_learn();
        whole = play_in_order(bound, left, &counts[bound]);
        total += counts[bound];
        bound += whole;
    }
    long last = bound > DETOURS && total + most / 10 < most ? total + most / 10 : most; /* where all is known few are drawn */
    for (long i = LEARNING; total < last; i++, total++) play_drawn(i, seed);
    printf("  %-28s %6ld schedules, all with up to %d detours\n", s->name, total, bound ? bound - 1 : 0);
    fflush(stdout);
}

static const char *value_of(const char *argument, const char *key) {
    size_t size = strlen(key);
    return strncmp(argument, key, size) == 0 && argument[size] == '=' ? argument + size + 1 : NULL;
}

int main(int argc, char **argv) {
    long each = 130;
    long least = 0;
    uint64_t seed = 1;
    int part = 0, parts = 1, number = 0, count = 0;
    const char *beginning = "";
    for (int i = 1; i < argc; i++) {
        const char *value;
        if ((value = value_of(argv[i], "each")) != NULL) each = strtol(value, NULL, 10);
        if ((value = value_of(argv[i], "least")) != NULL) least = strtol(value, NULL, 10);
        if ((value = value_of(argv[i], "seed")) != NULL) seed = strtoull(value, NULL, 10);
        if ((value = value_of(argv[i], "part")) != NULL && sscanf(value, "%d/%d", &part, &parts) != 2) return 2;
        if ((value = value_of(argv[i], "scenes")) != NULL) beginning = value;
    }
    baton_begin();
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        if (strncmp(scenes[i].name, beginning, strlen(beginning)) != 0 || number++ % parts != part) continue;
        play_scene(&scenes[i], each, seed);
        count++;
    }
    long total = played_in_order + played_drawn;
    if (argc == 1) least = 3000;
    expect(count > 0 && total >= least, "fewer schedules than were asked for");
    printf("interleavings: %ld schedules, %ld in order, %ld drawn, %d scenes\n", total, played_in_order, played_drawn,
           count);
    printf("interleavings: %d passed, 0 failed\n", count);
    return 0;
}
