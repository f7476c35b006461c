/* The peer libwebsockets: echo or broadcast, one thread, no extensions. lws MODE PORT; prints "port N". Its own loop (poll)
   is the faster one up to 1,000 connections; mode idle, which is broadcast for many more, takes libuv (epoll). */
#include <libwebsockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A message that waits for one session, or for all of them in broadcast mode. */
typedef struct message {
    size_t size;
    int references;
    int is_binary;
    unsigned char *space; /* LWS_PRE bytes, then the payload */
} message;

typedef struct node {
    struct node *next;
    message *what;
} node;

typedef struct session {
    struct session *next;
    struct session **to_me;
    struct lws *wsi;
    node *first;
    node **end;
    message *coming;
    size_t capacity;
} session;

static session *sessions;
static int is_broadcast;

static void on_signal(int number) {
    (void)number;
    _exit(0);
}

static void *get(void *old, size_t size) {
    void *memory = realloc(old, size);
    if (!memory) exit(1);
    return memory;
}

static void drop(message *m) {
    if (--m->references > 0) return;
    free(m->space);
    free(m);
}

static void queue_for(session *s, message *m) {
    node *n = get(NULL, sizeof *n);
    n->next = NULL;
    n->what = m;
    m->references++;
    *s->end = n;
    s->end = &n->next;
    lws_callback_on_writable(s->wsi);
}

static void take(session *s, const void *data, size_t size) {
    if (!s->coming) {
        s->coming = get(NULL, sizeof *s->coming);
        memset(s->coming, 0, sizeof *s->coming);
        s->coming->references = 1;
        s->coming->is_binary = lws_frame_is_binary(s->wsi);
        s->capacity = 0;
    }
    message *m = s->coming;
    size_t need = m->size + size;
    if (lws_is_final_fragment(s->wsi)) need += lws_remaining_packet_payload(s->wsi);
    if (need > s->capacity) {
        s->capacity = need > m->size * 2 ? need : m->size * 2;
        m->space = get(m->space, LWS_PRE + s->capacity);
    }
    memcpy(m->space + LWS_PRE + m->size, data, size);
    m->size += size;
    if (!lws_is_final_fragment(s->wsi) || lws_remaining_packet_payload(s->wsi)) return;
    s->coming = NULL;
    if (!is_broadcast) queue_for(s, m);
    else
        for (session *to = sessions; to; to = to->next) queue_for(to, m);
    drop(m);
}

static int put(session *s) {
    while (s->first && !lws_send_pipe_choked(s->wsi)) {
        node *n = s->first;
        message *m = n->what;
        int sent = lws_write(s->wsi, m->space + LWS_PRE, m->size, m->is_binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT);
        if (sent < (int)m->size) return -1;
        s->first = n->next;
        if (!s->first) s->end = &s->first;
        drop(m);
        free(n);
    }
    if (s->first) lws_callback_on_writable(s->wsi);
    return 0;
}

static void begin(session *s, struct lws *wsi) {
    memset(s, 0, sizeof *s);
    s->wsi = wsi;
    s->end = &s->first;
    s->next = sessions;
    s->to_me = &sessions;
    if (sessions) sessions->to_me = &s->next;
    sessions = s;
}

static void end(session *s) {
    *s->to_me = s->next;
    if (s->next) s->next->to_me = s->to_me;
    while (s->first) {
        node *n = s->first;
        s->first = n->next;
        drop(n->what);
        free(n);
    }
    if (s->coming) drop(s->coming);
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t length) {
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED: begin(user, wsi); break;
    case LWS_CALLBACK_RECEIVE: take(user, in, length); break;
    case LWS_CALLBACK_SERVER_WRITEABLE: return put(user);
    case LWS_CALLBACK_CLOSED: end(user); break;
    default: break;
    }
    return 0;
}

int main(int argc, char **argv) {
    static struct lws_protocols protocols[] = {{"bench", on_event, sizeof(session), 0, 0, NULL, 0},
                                               {NULL, NULL, 0, 0, 0, NULL, 0}};
    struct lws_context_creation_info info;
    if (argc != 3) return 2;
    int is_idle = strcmp(argv[1], "idle") == 0;
    is_broadcast = is_idle || strcmp(argv[1], "broadcast") == 0;
    memset(&info, 0, sizeof info);
    info.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_DISABLE_IPV6 |
                   LWS_SERVER_OPTION_VALIDATE_UTF8; /* the others check text too */
#if defined(LWS_WITH_LIBUV)
    if (is_idle) info.options |= LWS_SERVER_OPTION_LIBUV;
#endif
    info.gid = -1;
    info.uid = -1;
    info.port = atoi(argv[2]);
    info.protocols = protocols;
    /* Each session gets a buffer of rx_buffer_size: large where messages are, small where sessions are many. */
    protocols[0].rx_buffer_size = is_broadcast ? 4096 : 65536;
    info.pt_serv_buf_size = 262144;
    lws_set_log_level(LLL_ERR, NULL);
    struct lws_context *context = lws_create_context(&info);
    if (!context) return 1;
    struct lws_vhost *vhost = lws_create_vhost(context, &info);
    if (!vhost) return 1;
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    printf("port %d\n", lws_get_vhost_listen_port(vhost));
    fflush(stdout);
    while (lws_service(context, 0) >= 0) {
    }
    lws_context_destroy(context);
    return 0;
}
