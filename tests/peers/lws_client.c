/* libwebsockets as a client of the echo and chat examples: each script below is one connection's life.
   lws_client ECHO CHAT; cc -I. tests/peers/lws_client.c -o build/peers/lws_client -lwebsockets */
#define _GNU_SOURCE
#include <libwebsockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MIB = 1 << 20, ECHO_LIMIT = 64 * MIB, PIECE = 65536, SECONDS = 30 };

enum kind {
    END,     /* of a script */
    TEXT,    /* send it in frames of .piece bytes, or in one, and expect it back; without .data it is made up */
    BINARY,  /* the same */
    PUSH,    /* send text, expect nothing */
    EXPECT,  /* text from the server */
    PING,    /* expect its pong */
    CLOSE,   /* with .code and the reason .data; the server must end the connection */
    CLOSED,  /* the server must close with .code */
    STOP     /* end the server, which closes with 1001 */
};

struct step {
    enum kind kind;
    const char *data;
    size_t size;
    size_t piece;
    int code;
};

struct life {
    const char *name;
    const struct step *step;
    struct lws *wsi;
    unsigned char *out; /* LWS_PRE bytes, then what step sends */
    size_t out_size;
    size_t sent;
    unsigned char *in;
    size_t in_size;
    size_t in_room;
    int binary;
    int pinged;    /* a ping waits for its pong */
    int peer_code; /* of the server's Close; 0: none yet */
    int over;
};

static int made;
static int failed;
static pid_t server;
static int asked; /* to stop */
static int port;
static struct lws_context *context;

static void check(const char *name, const char *what, int good) {
    made++;
    if (good) return;
    failed++;
    printf("FAILED libwebsockets: %s: %s\n", name, what);
}

static size_t step_size(const struct step *step) {
    return step->data && !step->size ? strlen(step->data) : step->size;
}

static unsigned char made_up(enum kind kind, size_t i) {
    return (unsigned char)(kind == BINARY ? i * 7 + i / 251 : 'a' + i % 26);
}

static void prepare(struct life *life) {
    const struct step *step = life->step;
    life->out_size = step_size(step);
    life->sent = 0;
    life->out = realloc(life->out, LWS_PRE + life->out_size + 1);
    if (!life->out) abort();
    for (size_t i = 0; i < life->out_size; i++)
        life->out[LWS_PRE + i] = step->data ? (unsigned char)step->data[i] : made_up(step->kind, i);
    lws_callback_on_writable(life->wsi);
}

static void next(struct life *life) {
    life->step++;
    prepare(life);
}

/* The library masks in place: it gets a copy, since the answer is compared with what was sent. */
static int write_copy(struct lws *wsi, const unsigned char *from, size_t size, int how) {
    unsigned char *copy = malloc(LWS_PRE + size + 1);
    if (!copy) abort();
    memcpy(copy + LWS_PRE, from, size);
    int written = lws_write(wsi, copy + LWS_PRE, size, (enum lws_write_protocol)how);
    free(copy);
    return written < 0 ? -1 : 0;
}

static int send_piece(struct life *life) {
    const struct step *step = life->step;
    size_t left = life->out_size - life->sent;
    size_t piece = step->piece && step->piece < left ? step->piece : left;
    int kind = step->kind == BINARY ? LWS_WRITE_BINARY : LWS_WRITE_TEXT;
    int flags = lws_write_ws_flags(kind, life->sent == 0, piece == left);
    if (write_copy(life->wsi, life->out + LWS_PRE + life->sent, piece, flags) != 0) return -1;
    life->sent += piece;
    if (piece < left) lws_callback_on_writable(life->wsi);
    else if (step->kind == PUSH) next(life);
    else life->sent = life->out_size + 1; /* all frames are out, an empty one too */
    return 0;
}

/* Once: a second request would kill it. */
static void ask_to_stop(void) {
    if (!asked) kill(server, SIGTERM);
    asked = 1;
}

static int writable(struct life *life) {
    const struct step *step = life->step;
    switch (step->kind) {
        case TEXT:
        case BINARY:
        case PUSH: return life->sent > life->out_size ? 0 : send_piece(life);
        case PING:
            if (life->pinged) return 0;
            life->pinged = 1;
            return write_copy(life->wsi, life->out + LWS_PRE, life->out_size, LWS_WRITE_PING);
        case CLOSE:
            lws_close_reason(life->wsi, (enum lws_close_status)step->code, life->out + LWS_PRE, life->out_size);
            return -1;
        case STOP:
            ask_to_stop();
            life->step++;
            return 0;
        case END:
            lws_close_reason(life->wsi, LWS_CLOSE_STATUS_NORMAL, NULL, 0);
            return -1;
        case EXPECT:
        case CLOSED: return 0;
    }
    return -1;
}

static void collect(struct life *life, const void *data, size_t size) {
    if (life->in_size + size > life->in_room) {
        life->in_room = (life->in_size + size) * 2;
        life->in = realloc(life->in, life->in_room);
        if (!life->in) abort();
    }
    if (size) memcpy(life->in + life->in_size, data, size);
    life->in_size += size;
}

static void message(struct life *life) {
    const struct step *step = life->step;
    int kind_fits = step->kind == EXPECT || step->kind == TEXT ? !life->binary : step->kind == BINARY && life->binary;
    int same = life->in_size == life->out_size &&
               (life->in_size == 0 || memcmp(life->in, life->out + LWS_PRE, life->in_size) == 0);
    char what[100];
    snprintf(what, sizeof what, "%zu bytes, %.60s", life->out_size, step->data ? step->data : "binary");
    check(life->name, what, kind_fits && same);
    life->in_size = 0;
    next(life);
}

static int peer_closes(struct life *life, const unsigned char *data, size_t size) {
    life->peer_code = size >= 2 ? data[0] << 8 | data[1] : 1005;
    return 0;
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size) {
    struct life *life = user;
    switch ((int)reason) {
        case LWS_CALLBACK_CLIENT_ESTABLISHED:
            life->wsi = wsi;
            prepare(life);
            return 0;
        case LWS_CALLBACK_CLIENT_WRITEABLE: return writable(life);
        case LWS_CALLBACK_CLIENT_RECEIVE:
            life->binary = lws_frame_is_binary(wsi);
            collect(life, in, size);
            if (lws_is_final_fragment(wsi) && lws_remaining_packet_payload(wsi) == 0) message(life);
            return 0;
        case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
            check(life->name, "pong", size == life->out_size && (size == 0 || memcmp(in, life->out + LWS_PRE, size) == 0));
            life->pinged = 0;
            next(life);
            return 0;
        case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE: return peer_closes(life, in, size);
        case LWS_CALLBACK_CLIENT_CONNECTION_ERROR: printf("%s: %.*s\n", life->name, (int)size, in ? (char *)in : ""); /* fall through */
        case LWS_CALLBACK_CLIENT_CLOSED:
            life->over = 1;
            lws_cancel_service(context);
            return 0;
        default: return 0;
    }
}

static void dial(struct life *life) {
    struct lws_client_connect_info info;
    memset(&info, 0, sizeof info);
    info.context = context;
    info.address = "127.0.0.1";
    info.port = port;
    info.path = "/";
    info.host = info.address;
    info.userdata = life;
    info.pwsi = &life->wsi;
    info.local_protocol_name = "peer";
    if (!lws_client_connect_via_info(&info)) abort();
}

/* The life must get to the end of its script, or to the Close that its last step asks for. */
static void judge(struct life *life) {
    const struct step *step = life->step;
    char what[100];
    snprintf(what, sizeof what, "ended at a step of kind %d, with the server's Close %d", (int)step->kind, life->peer_code);
    int refused = step->kind == CLOSED || (step[0].kind != END && step[1].kind == CLOSED); /* or refused while it was sending */
    int wanted = step->kind == CLOSED ? step->code : step[0].kind != END ? step[1].code : 0;
    check(life->name, what, step->kind == END || step->kind == CLOSE || (refused && life->peer_code == wanted));
    free(life->out);
    free(life->in);
}

static void run(const char *name, const struct step *script) {
    struct life life = {0};
    life.name = name;
    life.step = script;
    alarm(SECONDS); /* no wait is longer */
    dial(&life);
    while (!life.over) lws_service(context, 0);
    judge(&life);
}

static void crowd(const char *name, const struct step *script) {
    static struct life lives[100];
    size_t count = sizeof lives / sizeof *lives;
    alarm(SECONDS);
    for (size_t i = 0; i < count; i++) {
        lives[i].name = name;
        lives[i].step = script;
        dial(&lives[i]);
    }
    for (size_t i = 0; i < count; i++) {
        while (!lives[i].over) lws_service(context, 0);
        judge(&lives[i]);
    }
}

static void start(const char *program, int wanted_port) {
    int out[2];
    char line[200];
    char number[12];
    snprintf(number, sizeof number, "%d", wanted_port);
    if (pipe(out) != 0) abort();
    asked = 0;
    server = fork();
    if (server < 0) abort();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out[1], 2);
        close(out[0]);
        close(out[1]);
        execl(program, program, number, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    alarm(SECONDS);
    FILE *said = fdopen(out[0], "r"); /* stays open: the server may write to it until it ends */
    port = 0;
    while (said && port == 0 && fgets(line, sizeof line, said)) {
        char *at = strstr(line, "://");
        char *colon = at ? strchr(at + 3, ':') : NULL;
        if (colon) port = atoi(colon + 1);
    }
    check(program, "says where it listens", port != 0);
}

static void stopped(const char *program) {
    int status = -1;
    alarm(SECONDS);
    ask_to_stop();
    waitpid(server, &status, 0);
    check(program, "exit status", status == 0);
}

static const struct step typed[] = {
    {TEXT, "hello", 0, 0, 0}, {TEXT, "gr\xc3\xbc\xc3\x9f" "e \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf", 0, 0, 0}, {TEXT, "a\0b", 3, 0, 0},
    {BINARY, NULL, 1, 0, 0}, {BINARY, NULL, 125, 0, 0}, {BINARY, NULL, 126, 0, 0}, {BINARY, NULL, 127, 0, 0}, {BINARY, NULL, 65535, 0, 0},
    {BINARY, NULL, 65536, 0, 0}, {BINARY, NULL, 65537, 0, 0}, {BINARY, NULL, MIB, 0, 0}, {BINARY, NULL, 16 * MIB, 0, 0}, {END, NULL, 0, 0, 0}};
static const struct step fragments[] = {
    {TEXT, "\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80 one byte in each frame", 0, 1, 0}, {BINARY, NULL, MIB, PIECE, 0}, {BINARY, NULL, 100000, 1000, 0},
    {BINARY, NULL, ECHO_LIMIT, MIB, 0}, {END, NULL, 0, 0, 0}};
static const struct step pings[] = {
    {PING, "between", 0, 0, 0}, {PING, "", 0, 0, 0}, {PING, NULL, 125, 0, 0}, {TEXT, "still here", 0, 0, 0}, {END, NULL, 0, 0, 0}};
static const struct step overlong[] = {{PUSH, "\xc0\x80", 0, 0, 0}, {CLOSED, NULL, 0, 0, 1007}};
static const struct step surrogate[] = {{PUSH, "a\xed\xa0\x80", 0, 0, 0}, {CLOSED, NULL, 0, 0, 1007}};
static const struct step cut[] = {{PUSH, "abc\xf0\x9f\x98", 0, 1, 0}, {CLOSED, NULL, 0, 0, 1007}};
static const struct step too_big[] = {{PUSH, NULL, (size_t)ECHO_LIMIT + 1, MIB, 0}, {CLOSED, NULL, 0, 0, 1009}};
static const struct step normal[] = {{TEXT, "x", 0, 0, 0}, {CLOSE, "done", 0, 0, 1000}};
static const struct step registered[] = {{TEXT, "x", 0, 0, 0}, {CLOSE, "registered", 0, 0, 3000}};
static const struct step own[] = {{TEXT, "x", 0, 0, 0}, {CLOSE, "gr\xc3\xbc\xc3\x9f" "e", 0, 0, 4999}};
static const struct step one_message[] = {{TEXT, "one of a hundred", 0, 0, 0}, {TEXT, "again", 0, 0, 0}, {BINARY, NULL, 5000, 0, 0}, {END, NULL, 0, 0, 0}};
static const struct step until_stopped[] = {{TEXT, "x", 0, 0, 0}, {STOP, NULL, 0, 0, 0}, {CLOSED, NULL, 0, 0, 1001}};
static const struct step again[] = {{TEXT, "again", 0, 0, 0}, {END, NULL, 0, 0, 0}};
static const struct step chat[] = {
    {EXPECT, "{\"__MESSAGE__\":\"hello\"}", 0, 0, 0},
    {TEXT, "{\"__MESSAGE__\":\"message\",\"text\":\"gr\xc3\xbc\xc3\x9f" "e\",\"list\":[1,-2.5,null,{}]}", 0, 0, 0},
    {PUSH, "{\"__MESSAGE__\":\"nobody\"}", 0, 0, 0}, {PUSH, "[1]", 0, 0, 0}, {PUSH, "{", 0, 0, 0},
    {TEXT, "{\"__MESSAGE__\":\"message\",\"after\":\"what is ignored\"}", 0, 9, 0}, {END, NULL, 0, 0, 0}};
static const struct step chat_too_big[] = {
    {EXPECT, "{\"__MESSAGE__\":\"hello\"}", 0, 0, 0}, {PUSH, NULL, 16 * MIB + 1, MIB, 0}, {CLOSED, NULL, 0, 0, 1009}};

int main(int argc, char **argv) {
    static const struct lws_protocols protocols[] = {{"peer", on_event, 0, 65536, 0, NULL, 0}, {NULL, NULL, 0, 0, 0, NULL, 0}};
    struct lws_context_creation_info info;
    if (argc != 3) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    lws_set_log_level(0, NULL);
    memset(&info, 0, sizeof info);
    info.port = CONTEXT_PORT_NO_LISTEN;
    info.protocols = protocols;
    context = lws_create_context(&info);
    if (!context) return 1;
    start(argv[1], 0);
    run("typed messages", typed);
    run("fragments", fragments);
    run("pings", pings);
    run("overlong UTF-8", overlong);
    run("surrogate in UTF-8", surrogate);
    run("UTF-8 cut off", cut);
    run("beyond 64 MiB in fragments", too_big);
    run("close 1000", normal);
    run("close 3000", registered);
    run("close 4999", own);
    crowd("a hundred connections", one_message);
    run("the server stops", until_stopped);
    stopped(argv[1]);
    int same_port = port;
    start(argv[1], same_port);
    check(argv[1], "starts again on its port", port == same_port);
    run("after a restart", again);
    stopped(argv[1]);
    start(argv[2], 0);
    run("chat", chat);
    run("beyond 16 MiB in chat", chat_too_big);
    stopped(argv[2]);
    lws_context_destroy(context);
    printf("libwebsockets %.5s: %d checks, %d passed\n", LWS_LIBRARY_VERSION, made, made - failed);
    return failed || !made;
}
