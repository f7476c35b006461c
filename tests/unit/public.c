/* Unit tests of [public]: arguments of every call, servers that never run or cannot start,
   and loops whose inbox has closed already. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

/* Calls that fail on demand. */
static int thread_fails; /* number of the call of pthread_create that fails; 0: none */

static int fake_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *arg) {
    if (thread_fails && --thread_fails == 0) return EPERM;
    return pthread_create(thread, attributes, function, arg);
}

/* Calls that make a server: the call with this number fails, whichever it is. */
static int making_fails;
static int making_calls;

static int refuse_making(void) {
    making_calls++;
    if (!making_fails || --making_fails) return 0;
    errno = EMFILE;
    return 1;
}

static int fake_epoll_create1(int flags) {
    return refuse_making() ? -1 : epoll_create1(flags);
}

static int fake_eventfd(unsigned value, int flags) {
    return refuse_making() ? -1 : eventfd(value, flags);
}

static int fake_timerfd_create(int clock, int flags) {
    return refuse_making() ? -1 : timerfd_create(clock, flags);
}

static int fake_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event) {
    return operation == EPOLL_CTL_ADD && refuse_making() ? -1 : epoll_ctl(epoll, operation, fd, event);
}

#include "../step.h"

REPLACE(pthread_create, fake_pthread_create)
REPLACE(epoll_create1, fake_epoll_create1)
REPLACE(eventfd, fake_eventfd)
REPLACE(timerfd_create, fake_timerfd_create)
REPLACE(epoll_ctl, fake_epoll_ctl)

static void nothing(const wss_event *e) {
    (void)e;
}

static void nothing_posted(void *arg) {
    (void)arg;
}

/* ---- arguments ---- */

static void no_server(void) {
    wss_conn conn = {0};
    wss_timer timer = {0};
    wss_stats stats;
    wss_options options = {0};
    wss_answer answer = {0};
    wss_args args = {0};
    wss_error why;
    options.port = 77;
    CHECK_INT(wss_on_connect(NULL, nothing, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_disconnect(NULL, nothing, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_message(NULL, "m", nothing, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_data(NULL, nothing, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_drain(NULL, nothing, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_upgrade(NULL, nothing, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_on_http(NULL, nothing, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_send(NULL, conn, "m", args), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_send_data(NULL, conn, WSS_TEXT, "x", 1), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_send_latest(NULL, conn, "k", "m", args), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_broadcast(NULL, "m", args), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_broadcast_except(NULL, conn, "m", args), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_broadcast_data(NULL, WSS_TEXT, "x", 1), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_broadcast_data_except(NULL, conn, WSS_TEXT, "x", 1), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_broadcast_latest(NULL, "k", "m", args), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_close(NULL, conn, 1000, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_count(NULL), 0);
    CHECK_INT(wss_buffered(NULL, conn), 0);
    CHECK_INT(wss_set_user(NULL, conn, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_pause(NULL, conn), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_resume(NULL, conn), WSS_ERR_ARGUMENT);
    CHECK_INT((long long)wss_next(NULL, conn).id, 0);
    memset(&stats, 0x55, sizeof stats);
    wss_get_stats(NULL, &stats);
    for (size_t i = 0; i < sizeof stats; i++) CHECK_INT(((const char *)&stats)[i], 0);
    options.address = "unset";
    wss_get_options(NULL, &options);
    for (size_t i = 0; i < sizeof options; i++) CHECK_INT(((const char *)&options)[i], 0);
    CHECK_INT(wss_accept(NULL, conn, NULL, NULL, 0, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_refuse(NULL, conn, &answer), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_reply(NULL, conn, &answer), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_post(NULL, nothing_posted, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT((long long)wss_timer_start(NULL, 0, 0, nothing, NULL).id, 0);
    CHECK_INT(wss_timer_cancel(NULL, timer), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_run(NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_start(NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_poll(NULL, 0), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_fd(NULL), WSS_ERR_ARGUMENT);
    wss_stop(NULL, 0);
    CHECK_INT(wss_destroy(NULL), WSS_OK);
    options.port = 65536;
    CHECK(wss_create(&options, NULL) == NULL);
    options.port = -1;
    CHECK(wss_create(&options, &why) == NULL);
    CHECK_INT(why.code, WSS_ERR_ARGUMENT);
    CHECK_INT(why.system_errno, 0);
    CHECK_TEXT(why.text, "options.port: \"-1\" cannot be: it is a number from 0 to 65535");
}

static void bad_arguments(void) {
    wss_options options = {0};
    wss_conn conn = {0};
    wss_answer answer = {0};
    wss_server *server = step_server(&options);
    answer.size = 1;
    CHECK_INT(wss_accept(server, conn, NULL, NULL, 1, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_refuse(server, conn, &answer), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_reply(server, conn, &answer), WSS_ERR_ARGUMENT);
    answer.size = 0;
    answer.status = 299;
    CHECK_INT(wss_refuse(server, conn, &answer), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_reply(server, conn, &answer), WSS_ERR_GONE);
    answer.status = 600;
    CHECK_INT(wss_reply(server, conn, &answer), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_refuse(server, conn, NULL), WSS_ERR_GONE);
    CHECK_INT(wss_reply(server, conn, NULL), WSS_ERR_GONE);
    CHECK_INT(wss_accept(server, conn, NULL, NULL, 0, NULL), WSS_ERR_GONE);
    CHECK_INT(wss_close(server, conn, 1005, NULL), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_broadcast_data(server, WSS_BINARY, "x", (size_t)300 << 20), WSS_ERR_TOO_BIG);
    CHECK_INT(wss_broadcast_data(server, WSS_BINARY, "x", SIZE_MAX), WSS_ERR_TOO_BIG);
    CHECK_INT((long long)wss_timer_start(server, 0, 0, NULL, NULL).id, 0);
    wss_get_stats(server, NULL);
    wss_get_options(server, NULL);
    step_end(server);
}

/* ---- options: the table of them is looked at in option.c ---- */

/* All defaults, also for why: every address, a port of the kernel's choice. */
static void no_options(void) {
    wss_options options;
    wss_server *server = wss_create(NULL, NULL);
    CHECK(server != NULL);
    if (!server) return;
    wss_get_options(server, &options);
    CHECK(options.port > 0 && options.port < 65536);
    CHECK(options.address == NULL);
    CHECK_INT(wss_destroy(server), WSS_OK);
}

/* Without TCP there is no port to report. */
static void no_port(void) {
    wss_options options = {0};
    char address[64];
    snprintf(address, sizeof address, "unix:/tmp/wsserver-test-%d", (int)getpid());
    options.address = address;
    wss_server *server = step_server(&options);
    memset(address, 'x', sizeof address - 1); /* the server has copies of its own */
    wss_get_options(server, &options);
    CHECK_INT(options.port, 0);
    CHECK(strncmp(options.address, "unix:/tmp/", 10) == 0);
    CHECK(access(options.address + 5, F_OK) == 0);
    step_end(server);
}

static void all_strings(void) {
    wss_options options = {0};
    char origins[] = "http://a.example";
    char hosts[] = "b.example,c.example";
    char member[] = "kind";
    options.origins = origins;
    options.hosts = hosts;
    options.type_member = member;
    wss_server *server = step_server(&options);
    memset(origins, 'x', sizeof origins - 1);
    memset(hosts, 'x', sizeof hosts - 1);
    memset(member, 'x', sizeof member - 1);
    wss_get_options(server, &options);
    CHECK_TEXT(options.origins, "http://a.example");
    CHECK_TEXT(options.hosts, "b.example,c.example");
    CHECK_TEXT(options.type_member, "kind");
    step_end(server);
}

/* ---- servers that do not run ---- */

static wss_server *make(wss_options *options) {
    options->address = "127.0.0.1";
    options->allocator = step_allocator;
    wss_server *server = wss_create(options, NULL);
    if (!server) abort();
    return server;
}

static int posted_runs;

static void count_post(void *arg) {
    (void)arg;
    posted_runs++;
}

/* What was posted to a server that never runs is run when it is destroyed; all else is dropped with it, and nothing leaks. */
static void never_run(void) {
    wss_options options = {0};
    wss_conn none = {0};
    posted_runs = 0;
    options.threads = 3;
    wss_server *server = make(&options);
    CHECK_INT(wss_post(server, count_post, NULL), WSS_OK);
    CHECK_INT(wss_broadcast(server, "m", wss_json("{\"a\":1}")), WSS_OK);
    CHECK_INT(wss_broadcast_data_except(server, none, WSS_BINARY, "abc", 3), WSS_OK);
    CHECK(wss_timer_start(server, 5, 0, nothing, NULL).id != 0);
    CHECK_INT((int)wss_count(server), 0);
    step_end(server);
    CHECK_INT(posted_runs, 1);
}

static const wss__conn_peer no_peer = {{{0}, 0, WSS__ADDRESS_NONE}, -1, -1, -1};

/* A socket on its way to another loop is closed when that loop never runs. */
static void never_adopted(void) {
    wss_options options = {0};
    int ends[2];
    char byte;
    options.threads = 2;
    wss_server *server = make(&options);
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    __atomic_add_fetch(&server->loops[0].connections, 1, __ATOMIC_RELAXED);
    wss__accept_deal(&server->loops[0], ends[0], &no_peer); /* the second loop has fewer */
    __atomic_sub_fetch(&server->loops[0].connections, 1, __ATOMIC_RELAXED);
    CHECK(server->loops[1].inbox.waiting.first != NULL);
    step_end(server);
    CHECK_INT(recv(ends[1], &byte, 1, MSG_DONTWAIT), 0);
    close(ends[1]);
}

/* A loop that stops first takes nothing any more; the socket is closed at once. */
static void dealt_to_a_closed_loop(void) {
    wss_options options = {0};
    int ends[2];
    char byte;
    options.threads = 2;
    wss_server *server = make(&options);
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    __atomic_add_fetch(&server->loops[0].connections, 1, __ATOMIC_RELAXED);
    wss__queue_take(&server->loops[1].inbox, 1);
    CHECK(!wss__queue_next(&server->loops[1].inbox));
    wss__accept_deal(&server->loops[0], ends[0], &no_peer);
    CHECK_INT(recv(ends[1], &byte, 1, MSG_DONTWAIT), 0);
    __atomic_sub_fetch(&server->loops[0].connections, 1, __ATOMIC_RELAXED);
    close(ends[1]);
    step_end(server);
}

/* Handlers that could not be registered would be missed: such a server does not run, whichever way it is asked to. */
static void failed_registration(void) {
    for (int way = 0; way < 3; way++) {
        wss_options options = {0};
        wss_server *server = make(&options);
        step_fail_in = 1;
        CHECK_INT(wss_on_data(server, nothing, NULL), WSS_ERR_MEMORY);
        step_fail_in = 0;
        CHECK_INT(way == 0 ? wss_run(server) : way == 1 ? wss_start(server) : wss_poll(server, 0), WSS_ERR_MEMORY);
        CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
        step_end(server);
    }
}

/* ---- threads that cannot be made ---- */

static void no_thread_to_start(void) {
    wss_options options = {0};
    wss_server *server = make(&options);
    thread_fails = 1;
    errno = 0;
    CHECK_INT(wss_start(server), WSS_ERR_SYSTEM);
    CHECK_INT(errno, EPERM);
    thread_fails = 0;
    CHECK_INT(wss_start(server), WSS_ERR_BUSY);
    step_end(server);
}

/* A loop has no thread: none runs, and wss_run says why. */
static void no_thread_for_a_loop(void) {
    for (int failing = 1; failing <= 2; failing++) {
        wss_options options = {0};
        options.threads = 3;
        wss_server *server = make(&options);
        thread_fails = failing;
        errno = 0;
        CHECK_INT(wss_run(server), WSS_ERR_SYSTEM);
        CHECK_INT(errno, EPERM); /* whatever else was called until its return */
        CHECK_INT(thread_fails, 0);
        CHECK_INT(wss_run(server), WSS_ERR_BUSY);
        step_end(server);
    }
}

/* ---- an inbox that has closed before the server is known to stop ---- */

static wss_conn last;
static wss_conn asked;

static void on_connect(const wss_event *e) {
    last = e->conn;
}

static void on_request(const wss_event *e) {
    asked = e->conn;
}

static void closed_inbox(void) {
    wss_options options = {0};
    wss_answer answer = {0};
    wss_server *server = step_server(&options);
    wss_on_connect(server, on_connect, NULL);
    step_client *client = step_open(server);
    wss_on_upgrade(server, on_request, NULL);
    step_client *waiting = step_connect(server);
    step_ask(server, waiting, "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n");
    CHECK(wss_timer_start(server, 3600000, 0, nothing, NULL).id != 0); /* the table of timers is made by now */
    step(server);
    server->loops[0].inbox.closed = 1;
    size_t bytes = step_bytes;
    CHECK_INT(wss_send_data(server, last, WSS_TEXT, "x", 1), WSS_ERR_STOPPED);
    CHECK_INT(wss_buffered(server, last), 0);
    CHECK_INT(wss_send_latest(server, last, "k", "m", wss_json("{}")), WSS_ERR_STOPPED);
    CHECK_INT(wss_buffered(server, last), 0);
    CHECK_INT(wss_broadcast_data(server, WSS_TEXT, "x", 1), WSS_ERR_STOPPED);
    CHECK_INT(wss_broadcast(server, "m", wss_json("{}")), WSS_ERR_STOPPED);
    CHECK_INT(wss_close(server, last, 1000, "x"), WSS_ERR_STOPPED);
    CHECK_INT(wss_pause(server, last), WSS_ERR_STOPPED);
    CHECK_INT(wss_accept(server, asked, NULL, NULL, 0, NULL), WSS_ERR_STOPPED);
    CHECK_INT(wss_refuse(server, asked, &answer), WSS_ERR_STOPPED);
    CHECK_INT(wss_post(server, count_post, NULL), WSS_ERR_STOPPED);
    CHECK_INT((long long)wss_timer_start(server, 5, 0, nothing, NULL).id, 0);
    CHECK_INT(step_bytes, bytes);
    server->loops[0].inbox.closed = 0;
    CHECK_INT(wss_accept(server, asked, NULL, NULL, 0, NULL), WSS_OK); /* it is still to be answered */
    CHECK_INT(wss_close(server, last, 1000, "x"), WSS_OK);             /* and this one still open */
    step(server);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x88);
    step_free(client);
    step_free(waiting);
    step(server);
    step_end(server);
}

/* What of a frame's size its queue is charged. */
static size_t cost_of(size_t size) {
    return wss__mem_charge(sizeof(wss__buf_frame) + size) + 16;
}

/* A message that does not get through leaves nothing behind, in neither account, whatever waits already. */
static void closed_inbox_beside_a_queue(void) {
    static char block[1000];
    for (int policy = WSS_POLICY_REFUSE; policy <= WSS_POLICY_CLOSE; policy++) {
        wss_options options = {0};
        options.send_policy = policy;
        options.max_queued = 5000;
        wss_server *server = step_server(&options);
        wss_on_connect(server, on_connect, NULL);
        step_client *client = step_open(server);
        CHECK_INT(wss_send_data(server, last, WSS_BINARY, block, sizeof block), WSS_OK); /* not sent before the next turn */
        server->loops[0].inbox.closed = 1;
        size_t bytes = step_bytes;
        CHECK_INT(wss_send_data(server, last, WSS_BINARY, block, sizeof block), WSS_ERR_STOPPED);
        CHECK_INT(step_bytes, bytes);
        CHECK_INT(wss_buffered(server, last), cost_of(1004));
        server->loops[0].inbox.closed = 0;
        step_free(client);
        step(server);
        step_end(server);
    }
}

/* ---- the limit, judged by other threads ---- */

/* Of what is on its way at most as much as may wait, with either policy; what waits is judged here where it is to be refused,
   together with what comes where a key may find its like in either. */
static void full_for_other_threads(void) {
    static const struct {
        int policy;
        int keyed;
        size_t most;
        uint32_t queued; /* units */
        uint32_t coming;
        int full;
    } rows[] = {
        {WSS_POLICY_REFUSE, 0, 1600, 0, 0, 0},     {WSS_POLICY_REFUSE, 0, 1600, 99, 0, 0},
        {WSS_POLICY_REFUSE, 0, 1600, 100, 0, 1},   {WSS_POLICY_REFUSE, 0, 1601, 100, 0, 0},
        {WSS_POLICY_REFUSE, 0, 1600, 0, 99, 0},    {WSS_POLICY_REFUSE, 0, 1600, 0, 100, 1},
        {WSS_POLICY_REFUSE, 0, 1601, 0, 100, 0},   {WSS_POLICY_REFUSE, 0, 1600, 99, 99, 0},
        {WSS_POLICY_REFUSE, 0, 1600, 100, 1, 1},   {WSS_POLICY_REFUSE, 0, 1, 0, 0, 0},
        {WSS_POLICY_REFUSE, 0, 1, 4, 0, 1},        {WSS_POLICY_REFUSE, 0, 1, 0, 4, 1},
        {WSS_POLICY_REFUSE, 1, 1600, 199, 0, 0},   {WSS_POLICY_REFUSE, 1, 1600, 200, 0, 1},
        {WSS_POLICY_REFUSE, 1, 1601, 200, 0, 0},   {WSS_POLICY_REFUSE, 1, 1600, 100, 99, 0},
        {WSS_POLICY_REFUSE, 1, 1600, 101, 99, 1},  {WSS_POLICY_REFUSE, 1, 1600, 0, 100, 1},
        {WSS_POLICY_REFUSE, 1, 1, 0, 0, 0},        {WSS_POLICY_REFUSE, 1, 1, 4, 0, 1},
        {WSS_POLICY_CLOSE, 0, 1600, 500, 99, 0},   {WSS_POLICY_CLOSE, 0, 1600, 0, 100, 1},
        {WSS_POLICY_CLOSE, 1, 1600, 500, 99, 0},   {WSS_POLICY_CLOSE, 1, 1600, 0, 100, 1},
        {WSS_POLICY_CLOSE, 0, 1, 4, 0, 0},         {WSS_POLICY_CLOSE, 0, 1, 0, 4, 1},
        {WSS_POLICY_REFUSE, 0, WSS_UNLIMITED, UINT32_MAX, 0x7fffffff, 0},
        {WSS_POLICY_REFUSE, 1, WSS_UNLIMITED, UINT32_MAX, 0x7fffffff, 0},
    };
    static wss_server server;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        wss__conn conn;
        memset(&conn, 0, sizeof conn);
        server.options.send_policy = rows[i].policy;
        server.options.max_queued = rows[i].most;
        conn.session.queued = rows[i].queued;
        conn.session.coming = rows[i].coming;
        CHECK_INT(wss__send_is_full(&server, &conn, rows[i].keyed), rows[i].full);
        CHECK_INT(wss__send_refuses(&server, &conn, rows[i].keyed), rows[i].full);
        /* only who was refused is told when to try again, and the mark counts for nothing */
        CHECK_INT(conn.session.coming, rows[i].coming | (rows[i].full ? WSS__SESSION_OWED : 0));
        CHECK_INT(wss__send_is_full(&server, &conn, rows[i].keyed), rows[i].full);
        if (test_broken) {
            printf("row %zu\n", i);
            break;
        }
    }
}

static int drains;

static void on_drain(const wss_event *e) {
    (void)e;
    drains++;
}

/* Refused for what is on its way, although nothing waits yet: told when that has left, once, and may send again. */
static void refused_and_told(void) {
    static char block[1000];
    for (int policy = WSS_POLICY_REFUSE; policy <= WSS_POLICY_CLOSE; policy++) {
        wss_options options = {0};
        wss_stats stats;
        options.send_policy = policy;
        options.max_queued = 500;
        wss_server *server = step_server(&options);
        wss_on_connect(server, on_connect, NULL);
        wss_on_drain(server, on_drain, NULL);
        step_client *client = step_open(server);
        drains = 0;
        CHECK_INT(wss_send_data(server, last, WSS_BINARY, block, sizeof block), WSS_OK);
        CHECK_INT(wss_buffered(server, last), cost_of(1004));
        size_t bytes = step_bytes;
        CHECK_INT(wss_send_data(server, last, WSS_BINARY, block, sizeof block), WSS_ERR_FULL);
        CHECK_INT(wss_send_latest(server, last, "k", "t", wss_json("{}")), WSS_ERR_FULL);
        CHECK_INT(step_bytes, bytes);
        CHECK_INT(wss_buffered(server, last), cost_of(1004));
        CHECK_INT(drains, 0);
        step(server);
        CHECK_INT(drains, 1);
        CHECK_INT(wss_buffered(server, last), 0);
        CHECK_INT(wss__conn_find(server, last)->session.coming, 0);
        wss_get_stats(server, &stats);
        CHECK_INT(stats.refused_full, 2);
        CHECK_INT(stats.crowded, 0);
        CHECK_INT(stats.closes[WSS_CAUSE_SLOW_READER], 0);
        CHECK_INT(wss_send_data(server, last, WSS_BINARY, block, sizeof block), WSS_OK);
        step(server);
        CHECK_INT(drains, 2); /* more than half of the limit waited again */
        step_free(client);
        step(server);
        step_end(server);
    }
}

/* ---- wss_poll ---- */

static char logged[4096];

static void keep_log(void *context, int level, const char *text) {
    (void)context;
    (void)level;
    snprintf(logged, sizeof logged, "%s", text);
}

static void *poll_once(void *arg) {
    CHECK_INT(wss_poll((wss_server *)arg, 0), WSS_OK);
    return NULL;
}

/* The log names a thread that should not be here, to who asks for so much. */
static void polled_on_another_thread(void) {
    for (int debug = 0; debug < 2; debug++) {
        wss_options options = {0};
        pthread_t thread;
        if (debug) options.log_level = WSS_LOG_DEBUG;
        options.log = keep_log;
        logged[0] = 0;
        wss_server *server = step_server(&options);
        CHECK_INT(pthread_create(&thread, NULL, poll_once, server), 0);
        pthread_join(thread, NULL);
        CHECK_INT(strstr(logged, "wss_poll on another thread than before") != NULL, debug);
        step_end(server);
    }
}

static void answer_twice(const wss_event *e) {
    CHECK_INT(wss_accept(e->server, e->conn, NULL, NULL, 0, NULL), WSS_OK);
    CHECK_TEXT(logged, "");
    CHECK_INT(wss_refuse(e->server, e->conn, NULL), WSS_ERR_ANSWERED);
    CHECK(strstr(logged, "second answer to request") != NULL);
}

static void answered_twice(void) {
    wss_options options = {0};
    options.log_level = WSS_LOG_DEBUG;
    options.log = keep_log;
    wss_server *server = step_server(&options);
    wss_on_upgrade(server, answer_twice, NULL);
    logged[0] = 0;
    step_client *client = step_open(server);
    step_free(client);
    step(server);
    step_end(server);
}

static void poll_needs_one_loop(void) {
    wss_options options = {0};
    options.threads = 2;
    wss_server *server = make(&options);
    CHECK_INT(wss_poll(server, 0), WSS_ERR_ARGUMENT);
    CHECK_INT(wss_fd(server), WSS_ERR_ARGUMENT);
    step_end(server);
}

/* ---- making fails ---- */

static int count_descriptors(void) {
    int count = 0;
    for (int fd = 0; fd < 1024; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Each call that a new server needs fails in turn: a reason, no descriptor, no memory stays behind. */
static void making_without_descriptors(void) {
    int before = count_descriptors();
    for (int threads = 1; threads <= 3; threads++) {
        for (int call = 1; call <= 3 * threads; call++) {
            wss_options options = {0};
            wss_error why;
            options.address = "127.0.0.1";
            options.allocator = step_allocator;
            options.threads = threads;
            making_fails = call;
            CHECK(wss_create(&options, &why) == NULL);
            CHECK_INT(making_fails, 0);
            CHECK_INT(why.code, WSS_ERR_SYSTEM);
            CHECK_INT(why.system_errno, EMFILE);
            CHECK(strncmp(why.text, "cannot make server: ", 20) == 0);
            CHECK_INT(count_descriptors(), before);
            CHECK_INT(step_bytes, 0);
        }
    }
}

/* wss_fd may fail for want of a descriptor and be asked again. */
static void descriptor_of_the_loop(void) {
    wss_options options = {0};
    wss_server *server = step_server(&options);
    int before = count_descriptors();
    for (int call = 1; call <= 2; call++) {
        making_fails = call;
        CHECK_INT(wss_fd(server), WSS_ERR_SYSTEM);
        CHECK_INT(making_fails, 0);
        CHECK_INT(count_descriptors(), before);
    }
    int fd = wss_fd(server);
    CHECK(fd >= 0);
    CHECK_INT(wss_fd(server), fd);
    CHECK_INT(count_descriptors(), before + 1);
    step_end(server);
}

/* ---- answers ---- */

static void answers_that_are_not_allowed(void) {
    static const wss_header bad = {"Upgrade", "x"};
    static const wss_header good = {"X-Name", "x"};
    wss_options options = {0};
    wss_info info;
    wss_server *server = step_server(&options);
    wss_on_connect(server, on_connect, NULL);
    wss_on_upgrade(server, on_request, NULL);
    step_client *waiting = step_connect(server);
    step_ask(server, waiting, "GET / HTTP/1.1\r\nSec-WebSocket-Protocol: chat, v2\r\n" STEP_UPGRADE "\r\n");
    CHECK_INT(wss_accept(server, asked, NULL, &bad, 1, NULL), WSS_ERR_HEADER);
    CHECK_INT(wss_accept(server, asked, "v3", &good, 1, NULL), WSS_ERR_PROTOCOL);
    CHECK_INT(wss_reply(server, asked, NULL), WSS_ERR_ARGUMENT); /* it is an upgrade */
    step(server);
    CHECK_TEXT(step_ask(server, waiting, ""), "");
    CHECK_INT(wss_accept(server, asked, "v2", &good, 1, NULL), WSS_OK);
    step(server);
    CHECK(strstr(step_ask(server, waiting, ""), "Sec-WebSocket-Protocol: v2\r\nX-Name: x\r\n") != NULL);
    CHECK_INT(wss_get_info(server, last, &info), WSS_OK);
    CHECK_TEXT(info.protocol, "v2");
    step_free(waiting);
    step(server);
    step_end(server);
}

/* After disconnect was told, and while the user's pointer is freed, the connection is gone for everybody. */
static int freed;
static int info_when_freed;
static wss_server *freeing;

static void free_user(void *user) {
    wss_info info;
    CHECK(user == (void *)&freed);
    freed++;
    info_when_freed = wss_get_info(freeing, last, &info);
    CHECK_INT(wss_set_user(freeing, last, &freed), WSS_ERR_GONE);
    CHECK_INT(wss_buffered(freeing, last), 0);
}

static void gone_when_it_is_freed(void) {
    wss_options options = {0};
    options.user_free = free_user;
    freed = 0;
    freeing = step_server(&options);
    wss_on_connect(freeing, on_connect, NULL);
    step_client *client = step_open(freeing);
    CHECK_INT(wss_set_user(freeing, last, &freed), WSS_OK);
    step_free(client);
    step(freeing);
    CHECK_INT(freed, 1);
    CHECK_INT(info_when_freed, WSS_ERR_GONE);
    step_end(freeing);
}

/* ---- several loops, played by one thread ---- */

static size_t tasks_of(wss__loop *loop) {
    size_t count = 0;
    for (wss__queue_job *job = loop->inbox.waiting.first; job; job = job->next[WSS__QUEUE_ALL]) count++;
    return count;
}

static const wss_conn nobody = {1};

/* A broadcast goes to all loops or, where memory is short, to none. */
static void broadcast_to_loops(void) {
    for (int inside = -1; inside < 3; inside++) { /* the loop whose turn it is; -1: none */
        for (int failing = 0; failing <= 4; failing++) {
            wss_options options = {0};
            options.threads = 3;
            wss_server *server = make(&options);
            size_t wanted = inside < 0 ? 3 : 2; /* its own gets it at once */
            wss__event_place place;
            wss__event_enter(&place, server, inside < 0 ? NULL : &server->loops[inside]);
            step_fail_in = failing;
            int result = wss_broadcast_except(server, nobody, "m", wss_json("{}")); /* not gathered: handed on at once */
            int failed = failing && step_fail_in == 0;
            step_fail_in = 0;
            wss__event_leave(&place);
            CHECK_INT(result, failed ? WSS_ERR_MEMORY : WSS_OK);
            CHECK_INT(failed, failing > 0 && failing <= 1 + (int)wanted); /* the frame, and a task for each other loop */
            size_t tasks = 0;
            for (int i = 0; i < 3; i++) tasks += tasks_of(&server->loops[i]);
            CHECK_INT(tasks, failed ? 0 : wanted);
            step_end(server);
        }
    }
}

/* All loops or none: where one has closed already, nobody gets it. */
static void broadcast_to_closed_loops(void) {
    for (int inside = -1; inside < 2; inside++) {
        for (int closed = 0; closed < 3; closed++) {
            wss_options options = {0};
            options.threads = 3;
            wss_server *server = make(&options);
            server->loops[closed].inbox.closed = 1;
            wss__event_place place;
            wss__event_enter(&place, server, inside < 0 ? NULL : &server->loops[inside]);
            int result = wss_broadcast_except(server, nobody, "m", wss_json("{}")); /* not gathered: handed on at once */
            wss__event_leave(&place);
            CHECK_INT(result, inside == closed ? WSS_OK : WSS_ERR_STOPPED);
            for (int i = 0; i < 3; i++) CHECK_INT(tasks_of(&server->loops[i]), inside == closed && i != closed);
            step_end(server);
        }
    }
}

/* Timers belong to the first loop: others write to it. */
static void timers_of_other_loops(void) {
    for (int inside = 0; inside < 2; inside++) {
        wss_options options = {0};
        options.threads = 2;
        wss_server *server = make(&options);
        wss__event_place place;
        wss__event_enter(&place, server, &server->loops[inside]);
        wss_timer timer = wss_timer_start(server, 60000, 0, nothing, NULL);
        CHECK(timer.id != 0);
        CHECK_INT(tasks_of(&server->loops[0]), inside);
        CHECK_INT(wss_timer_cancel(server, timer), WSS_OK);
        CHECK_INT(tasks_of(&server->loops[0]), 2 * inside);
        CHECK_INT(wss_timer_cancel(server, timer), WSS_ERR_GONE);
        wss__event_leave(&place);
        step_end(server);
    }
}

/* In the turn of another loop a connection is reached through its own loop's inbox. */
static void connections_of_other_loops(void) {
    wss_options options = {0};
    wss__loop elsewhere;
    wss_server *server = step_server(&options);
    wss_on_connect(server, on_connect, NULL);
    step_client *client = step_open(server);
    memset(&elsewhere, 0, sizeof elsewhere);
    elsewhere.server = server;
    elsewhere.index = 1;
    wss__event_place place;
    wss__event_enter(&place, server, &elsewhere);
    CHECK_INT(wss_send_data(server, last, WSS_TEXT, "x", 1), WSS_OK);
    CHECK_INT(wss_close(server, last, 4000, NULL), WSS_OK);
    wss__event_leave(&place);
    CHECK_INT(tasks_of(&server->loops[0]), 2);
    step(server);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x81);
    CHECK_INT(step_take(server, client, NULL, NULL), 0x88);
    step_free(client);
    step(server);
    step_end(server);
}

/* Who asks over a Unix socket has no address; a request tells that by an empty text. */
static int asked_without_address;

static void on_request_unix(const wss_event *e) {
    int port = 7;
    asked_without_address += strcmp(wss_request_peer(e->request, &port), "") == 0 && port == 0;
    CHECK_INT(wss_accept(e->server, e->conn, NULL, NULL, 0, NULL), WSS_OK);
}

static void asked_over_a_unix_socket(void) {
    static const char request[] = "GET / HTTP/1.1\r\n" STEP_UPGRADE "\r\n";
    char address[64];
    char answer[512] = "";
    struct sockaddr_un to;
    wss_options options = {0};
    snprintf(address, sizeof address, "unix:/tmp/wsserver-test-%d", (int)getpid());
    options.address = address;
    wss_server *server = step_server(&options);
    wss_on_upgrade(server, on_request_unix, NULL);
    asked_without_address = 0;
    memset(&to, 0, sizeof to);
    to.sun_family = AF_UNIX;
    snprintf(to.sun_path, sizeof to.sun_path, "%s", address + 5);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(connect(fd, (struct sockaddr *)(void *)&to, sizeof to), 0);
    CHECK_INT(send(fd, request, sizeof request - 1, 0), sizeof request - 1);
    step(server);
    CHECK_INT(asked_without_address, 1);
    CHECK(recv(fd, answer, sizeof answer - 1, MSG_DONTWAIT) > 12);
    CHECK(strncmp(answer, "HTTP/1.1 101 ", 13) == 0);
    close(fd);
    step(server);
    step_end(server);
}

int main(void) {
    alarm(100);
    RUN(no_server);
    RUN(bad_arguments);
    RUN(no_options);
    RUN(no_port);
    RUN(all_strings);
    RUN(never_run);
    RUN(never_adopted);
    RUN(dealt_to_a_closed_loop);
    RUN(failed_registration);
    RUN(no_thread_to_start);
    RUN(no_thread_for_a_loop);
    RUN(closed_inbox);
    RUN(closed_inbox_beside_a_queue);
    RUN(full_for_other_threads);
    RUN(refused_and_told);
    RUN(polled_on_another_thread);
    RUN(answered_twice);
    RUN(poll_needs_one_loop);
    RUN(making_without_descriptors);
    RUN(descriptor_of_the_loop);
    RUN(answers_that_are_not_allowed);
    RUN(gone_when_it_is_freed);
    RUN(broadcast_to_loops);
    RUN(broadcast_to_closed_loops);
    RUN(timers_of_other_loops);
    RUN(connections_of_other_loops);
    RUN(asked_over_a_unix_socket);
    return test_end("public");
}
