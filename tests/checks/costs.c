/* Work that must not grow with what else is there, on the kernel of tests/sim, so that nothing but the server counts:
       costs accept LIMIT    500 clients come, open and go beside 9,500; LIMIT: max_per_address, 0: off
       costs types COUNT     2,000 messages, where so many types are registered
       costs members READS   a handler of a message of 1 MiB with 50 members reads so many of them; 0: walks over all
       costs broadcast USED  200 broadcasts to 10 clients, after so many others were there at one time
   Only what is done inside measured() is to be counted. Prints how much of it was done, or fails. */
#define SIM_FILES 110000
#define SIM_PEERS 110000
#include "../sim/kernel.h"

enum { BATCH = 4000, CROWD = 9500, COMERS = 500, MESSAGES = 2000, MEMBERS = 10, CASTS = 200 };

static wss_server *server;
static int count; /* the argument */
static long done;
static peer *crowd[SIM_PEERS];
static peer *members[MEMBERS];

static void turn(void) {
    for (int i = 0; i < 3; i++) wss_poll(server, 0);
}

/* Sockets that say nothing. */
static void come(int number) {
    uint64_t quiet;
    for (int i = 0; i < number; i++) {
        crowd[i] = peer_connect(server->options.port);
        if (!crowd[i]) abort();
        if (i % BATCH == BATCH - 1 || i == number - 1)
            do {
                quiet = sim.progress;
                wss_poll(server, 0);
            } while (sim.progress != quiet);
    }
}

static void leave(int number) {
    for (int i = 0; i < number; i++) {
        peer_reset(crowd[i]);
        if (i % BATCH == BATCH - 1 || i == number - 1) while (sim_readable(server->loops[0].epoll)) turn();
    }
    for (int i = 0; i < number; i++) peer_free(crowd[i]);
}

static peer *open_one(void) {
    peer *client = peer_connect(server->options.port);
    if (!client) abort();
    peer_text(client, PEER_REQUEST("/") "\r\n");
    turn();
    if (peer_take_head(client) != 101) abort();
    return client;
}

static void on_typed(const wss_event *e) {
    done += e->args.length == 2;
}

/* ---- what is measured ---- */

static wss_args given;

/* Reads members from the first to the last, or walks over all of them. */
static void read_members(void) {
    char name[16];
    int64_t number;
    wss_iterator it = wss_iterate(given);
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "number %02d", i);
        done += wss_get_int(given, name, &number) == WSS_OK && number == i;
    }
    while (count == 0 && wss_iterate_next(&it)) done++;
}

static void accept_all(void) {
    for (int i = 0; i < COMERS; i++) {
        peer *client = open_one();
        done += client->fd >= 0;
        peer_reset(client);
        turn();
        peer_free(client);
    }
}

static void tell_all(void) {
    char text[64];
    for (int i = 0; i < MESSAGES; i++) {
        int size = snprintf(text, sizeof text, "{\"__MESSAGE__\":\"type %04d\"}", i % count);
        peer_frame(members[0], 0x81, text, (size_t)size);
        wss_poll(server, 0);
    }
}

static void broadcast_all(void) {
    for (int i = 0; i < CASTS; i++) {
        wss_broadcast_data(server, WSS_TEXT, "hello", 5);
        turn();
        for (int k = 0; k < MEMBERS; k++) done += peer_take(members[k], NULL, 0, NULL) == 0x81;
    }
}

/* The one function whose instructions are counted, by its name. */
__attribute__((noinline)) void measured(void (*function)(void));
void measured(void (*function)(void)) {
    function();
    __asm__ volatile("" ::: "memory"); /* so that it is left only afterwards */
}

static void on_members(const wss_event *e) {
    given = e->args;
    measured(read_members);
}

/* One message of 1 MB that has 100 members. */
static void send_members(void) {
    static char text[1 << 20];
    size_t at = (size_t)snprintf(text, sizeof text, "{\"__MESSAGE__\":\"members\"");
    for (int i = 0; i < 50; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, ",\"text %02d\":\"%020000d\",\"number %02d\":%d", i, i, i, i);
    text[at++] = '}';
    peer_frame(members[0], 0x81, text, at);
    for (int i = 0; i < 100 && !done; i++) turn();
}

int main(int argc, char **argv) {
    wss_options options;
    if (argc < 3) return 2;
    count = atoi(argv[2]);
    sim_begin(1);
    sim.max_open = 1 << 20; /* as many as are asked for exist */
    sim_options(&options);
    options.memory_budget = WSS_UNLIMITED;
    options.handshake_ms = WSS_OFF;
    options.ping_ms = WSS_OFF;
    options.max_connections = 880000; /* an eighth of them may be handshakes */
    if (strcmp(argv[1], "accept") == 0) {
        options.max_connections = 100000;
        options.max_per_address = count;
    }
    server = wss_create(&options, NULL);
    if (!server) return 1;
    turn();
    if (strcmp(argv[1], "accept") == 0) {
        come(CROWD);
        measured(accept_all);
        printf("%ld of %d\n", done, COMERS);
        return done != COMERS;
    }
    if (strcmp(argv[1], "types") == 0) {
        for (int i = 0; i < count; i++) {
            char name[32];
            snprintf(name, sizeof name, "type %04d", i);
            if (wss_on_message(server, name, on_typed, NULL) != WSS_OK) return 1;
        }
        members[0] = open_one();
        measured(tell_all);
        printf("%ld of %d\n", done, MESSAGES);
        return done != MESSAGES;
    }
    if (strcmp(argv[1], "members") == 0) {
        if (wss_on_message(server, "members", on_members, NULL) != WSS_OK) return 1;
        members[0] = open_one();
        send_members();
        printf("%ld of %d\n", done, count ? count : 100);
        return done != (count ? count : 100);
    }
    come(count);
    if (count && server->conns.made < (uint32_t)count) return 1;
    leave(count);
    for (int i = 0; i < MEMBERS; i++) members[i] = open_one();
    measured(broadcast_all);
    printf("%ld of %d\n", done, CASTS * MEMBERS);
    return done != CASTS * MEMBERS;
}
