/* The table of what the server offers, seen from real clients: handlers, typed messages, hostile JSON, sends, posts, the
   ways to run and the ways to stop. */
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"

#include "../test.h"

#include "../client.h"

static int connects;
static int disconnects;
static int messages;
static char trace[256];
static char last_args[4096];
static wss_conn last_conn;

static wss_server *serve(int port) {
    wss_error why;
    wss_options options = {0};
    options.address = "127.0.0.1";
    options.port = port;
    wss_server *server = wss_create(&options, &why);
    if (!server) {
        printf("%s\n", why.text);
        exit(1);
    }
    connects = disconnects = messages = 0;
    trace[0] = 0;
    return server;
}

static void on_trace(const wss_event *e) {
    size_t used = strlen(trace);
    if (used < sizeof trace - 32)
        snprintf(trace + used, sizeof trace - used, "%s%d ", (const char *)e->context, (int)wss_count(e->server));
}

static void on_connect(const wss_event *e) {
    last_conn = e->conn;
    client_count(&connects);
}

static void on_disconnect(const wss_event *e) {
    (void)e;
    client_count(&disconnects);
}

static char text_a[] = "a", text_b[] = "b", text_c[] = "c", text_x[] = "x", text_y[] = "y";

static void pairs_counts_and_order(void) {
    wss_server *server = serve(0);
    wss_on_connect(server, on_trace, text_a);
    wss_on_connect(server, on_trace, text_b);
    wss_on_connect(server, on_trace, text_c);
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_trace, text_x);
    wss_on_disconnect(server, on_trace, text_y);
    wss_on_disconnect(server, on_disconnect, NULL);
    CHECK_INT(wss_start(server), WSS_OK);
    client *one = client_open(server);
    CHECK(client_await(&connects, 1));
    client *two = client_open(server);
    CHECK(client_await(&connects, 2));
    CHECK_INT(wss_count(server), 2);
    client_send_close(one, 1000, "");
    client_read_end(one);
    CHECK(client_await(&disconnects, 1));
    CHECK_INT(wss_count(server), 1);
    client_reset(two);
    CHECK(client_await(&disconnects, 2));
    CHECK_INT(wss_count(server), 0);
    client_free(one);
    wss_destroy(server);
    CHECK_TEXT(trace, "a1 b1 c1 a2 b2 c2 x1 y1 x0 y0 ");
    CHECK_INT(connects, 2);
    CHECK_INT(disconnects, 2);
}

static void on_late(const wss_event *e) {
    (void)e;
    client_count(&messages);
}

static void on_register(const wss_event *e) {
    CHECK_INT(wss_on_message(e->server, "late", on_late, NULL), WSS_OK);
    wss_send(e->server, e->conn, "ready", wss_json("{}"));
}

static void *register_many(void *arg) {
    for (int i = 0; i < 50; i++) CHECK_INT(wss_on_message((wss_server *)arg, "many", on_late, NULL), WSS_OK);
    return NULL;
}

static void registering_at_any_time(void) {
    pthread_t threads[4];
    wss_server *server = serve(0);
    wss_on_connect(server, on_register, NULL);
    wss_start(server);
    client *c = client_open(server);
    CHECK_TEXT(client_read_text(c), "{\"__MESSAGE__\":\"ready\"}");
    CHECK(client_text(c, "{\"__MESSAGE__\":\"late\"}"));
    CHECK(client_await(&messages, 1));
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, register_many, server);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    CHECK(client_text(c, "{\"__MESSAGE__\":\"many\"}"));
    CHECK(client_await(&messages, 201));
    CHECK(client_flush(server));
    CHECK_INT(client_counted(&messages), 201);
    client_free(c);
    wss_destroy(server);
}

static void on_args(const wss_event *e) {
    CHECK(e->args.length < sizeof last_args);
    CHECK_INT(e->args.text[e->args.length], 0);
    memcpy(last_args, e->args.text, e->args.length + 1);
    CHECK_INT(wss_send(e->server, e->conn, e->type, e->args), WSS_OK);
    messages++;
}

static void typed_messages_byte_for_byte(void) {
    static const struct {
        const char *sent;
        const char *args;
        const char *back;
    } cases[] = {
        {"{\"__MESSAGE__\":\"t\"}", "{}", "{\"__MESSAGE__\":\"t\"}"},
        {"{\"__MESSAGE__\":\"t\",\"n\":1.50e+1}", "{\"n\":1.50e+1}", "{\"__MESSAGE__\":\"t\",\"n\":1.50e+1}"},
        {"{\"n\":-0,\"__MESSAGE__\":\"t\"}", "{\"n\":-0}", "{\"__MESSAGE__\":\"t\",\"n\":-0}"},
        {"{\"a\":[1,{\"b\":[]}],\"__MESSAGE__\":\"t\",\"c\":null}", "{\"a\":[1,{\"b\":[]}],\"c\":null}",
         "{\"__MESSAGE__\":\"t\",\"a\":[1,{\"b\":[]}],\"c\":null}"},
        {"{\"\\u005f_MESSAGE__\":\"\\u0074\",\"s\":\"\\ud800\\n\\u00e9\xc3\xa9\"}", "{\"s\":\"\\ud800\\n\\u00e9\xc3\xa9\"}",
         "{\"__MESSAGE__\":\"t\",\"s\":\"\\ud800\\n\\u00e9\xc3\xa9\"}"},
        {"{\"__MESSAGE__\":\"u\",\"q\":{\"__MESSAGE__\":\"inner\"},\"__MESSAGE__\":\"t\"}",
         "{\"q\":{\"__MESSAGE__\":\"inner\"}}", "{\"__MESSAGE__\":\"t\",\"q\":{\"__MESSAGE__\":\"inner\"}}"},
    };
    wss_server *server = serve(0);
    wss_on_message(server, "t", on_args, NULL);
    wss_start(server);
    client *c = client_open(server);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int opcode = 0x81; opcode <= 0x82; opcode++) {
            CHECK(client_frame(c, opcode, cases[i].sent, strlen(cases[i].sent)));
            CHECK_TEXT(client_read_text(c), cases[i].back);
            CHECK_TEXT(last_args, cases[i].args);
        }
    }
    client_free(c);
    wss_destroy(server);
}

/* Sends count opening brackets behind a beginning. */
static void send_brackets(client *c, const char *begin, size_t count) {
    size_t size = strlen(begin);
    char *text = (char *)malloc(size + count);
    if (!text) abort();
    memcpy(text, begin, size);
    memset(text + size, '[', count);
    CHECK(client_frame(c, 0x81, text, size + count));
    free(text);
}

static void hostile_json_is_ignored(void) {
    static const char *const hostile[] = {
        "", " ", "null", "true", "7", "\"t\"", "[]", "[\"__MESSAGE__\",\"t\"]", "{}", "{\"a\":1}",
        "{\"__MESSAGE__\":null}", "{\"__MESSAGE__\":7}", "{\"__MESSAGE__\":true}", "{\"__MESSAGE__\":[\"t\"]}",
        "{\"__MESSAGE__\":{\"t\":\"t\"}}", "{\"__MESSAGE__\":\"unknown\"}", "{\"__MESSAGE__\":\"t\\u0000\"}",
        "{\"__MESSAGE__\":\"t\"", "{\"__MESSAGE__\":\"t", "{\"__MESSAGE__\":\"t\",", "{\"__MESSAGE__\":\"t\",}",
        "{\"__MESSAGE__\":\"t\"} x", "{\"__MESSAGE__\":\"t\"}{}", "{\"__MESSAGE__\":\"t\"}]", "{__MESSAGE__:\"t\"}",
        "{\"__MESSAGE__\":\"t\",\"a\":01}", "{\"__MESSAGE__\":\"t\",\"a\":'x'}", "{\"__MESSAGE__\":\"t\",\"a\":[1,]}",
        "{\"__MESSAGE__\":\"t\",\"a\":\"\\x\"}", "{\"__MESSAGE__\":\"t\"/**/}", "{\"__MESSAGE__\":\"t\",\"a\":NaN}",
        "\xef\xbb\xbf{\"__MESSAGE__\":\"t\"}", "{\"__message__\":\"t\"}", "{\"__MESSAGE__\":\"t\",\"__MESSAGE__\":1}",
    };
    wss_server *server = serve(0);
    wss_on_message(server, "t", on_args, NULL);
    wss_start(server);
    client *c = client_open(server);
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) CHECK(client_text(c, hostile[i]));
    CHECK(client_frame(c, 0x82, "{\"__MESSAGE__\":\"t\",\"a\":\"\xff\"}", 26));
    send_brackets(c, "", 1200);
    send_brackets(c, "", 1000000);
    send_brackets(c, "{\"__MESSAGE__\":\"t\",\"a\":", 1200);
    send_brackets(c, "{\"__MESSAGE__\":\"t\",\"a\":", 1000000);
    for (int i = 0; i < 100; i++) CHECK(client_text(c, "{\"__MESSAGE__\":\"u\",\"a\":{\"b\":[{}]}}"));
    CHECK(client_text(c, "{\"__MESSAGE__\":\"t\",\"a\":{\"b\":[{\"c\":[[]]}]}}"));
    CHECK_TEXT(client_read_text(c), "{\"__MESSAGE__\":\"t\",\"a\":{\"b\":[{\"c\":[[]]}]}}");
    client_free(c);
    wss_destroy(server);
    CHECK_INT(messages, 1);
}

static void on_post(void *arg) {
    client_count((int *)arg);
}

static void calls_before_running(void) {
    int posted = 0;
    wss_conn none = {0};
    wss_server *server = serve(0);
    CHECK_INT(wss_post(server, on_post, &posted), WSS_OK);
    CHECK_INT(wss_post(server, on_post, &posted), WSS_OK);
    CHECK_INT(wss_broadcast(server, "b", wss_json("{\"a\":1}")), WSS_OK);
    CHECK_INT(wss_broadcast_data(server, WSS_TEXT, "b", 1), WSS_OK);
    CHECK_INT(wss_send(server, none, "t", wss_json("{}")), WSS_ERR_GONE);
    CHECK_INT(wss_close(server, none, 1000, NULL), WSS_ERR_GONE);
    CHECK_INT(wss_count(server), 0);
    wss_on_connect(server, on_connect, NULL);
    wss_start(server);
    CHECK(client_await(&posted, 2));
    client *c = client_open(server); /* it came after the broadcasts: none is for it */
    CHECK(client_await(&connects, 1));
    CHECK_INT(wss_broadcast_data(server, WSS_TEXT, "first", 5), WSS_OK);
    CHECK_TEXT(client_read_text(c), "first");
    client_free(c);
    wss_destroy(server);
}

static void sends_while_running(void) {
    char *big = (char *)malloc(200001);
    if (!big) abort();
    memset(big, 'z', 200000);
    big[200000] = 0;
    wss_server *server = serve(0);
    wss_on_connect(server, on_connect, NULL);
    wss_start(server);
    client *one = client_open(server);
    CHECK(client_await(&connects, 1));
    wss_conn first = last_conn;
    client *two = client_open(server);
    CHECK(client_await(&connects, 2));
    wss_conn second = last_conn;
    CHECK(first.id != second.id);
    CHECK_INT(wss_send(server, first, "s", wss_json("{\"a\":1}")), WSS_OK);
    CHECK_INT(wss_send_data(server, first, WSS_TEXT, big, 200000), WSS_OK);
    CHECK_INT(wss_broadcast(server, "all", wss_json("{}")), WSS_OK);
    CHECK_INT(wss_broadcast_except(server, second, "not two", wss_json("{\"b\":2}")), WSS_OK);
    CHECK_INT(wss_broadcast_data(server, WSS_TEXT, "raw", 3), WSS_OK);
    CHECK_INT(wss_broadcast_data_except(server, first, WSS_TEXT, "not one", 7), WSS_OK);
    CHECK_INT(wss_close(server, first, 1000, "bye"), WSS_OK);
    CHECK_INT(wss_send(server, first, "s", wss_json("{}")), WSS_ERR_GONE);
    CHECK_TEXT(client_read_text(one), "{\"__MESSAGE__\":\"s\",\"a\":1}");
    CHECK_TEXT(client_read_text(one), big);
    CHECK_TEXT(client_read_text(one), "{\"__MESSAGE__\":\"all\"}");
    CHECK_TEXT(client_read_text(one), "{\"__MESSAGE__\":\"not two\",\"b\":2}");
    CHECK_TEXT(client_read_text(one), "raw");
    CHECK_INT(client_read_close(one), 1000);
    CHECK_TEXT(client_read_text(two), "{\"__MESSAGE__\":\"all\"}");
    CHECK_TEXT(client_read_text(two), "raw");
    CHECK_TEXT(client_read_text(two), "not one");
    CHECK_INT(wss_send(server, second, "s", wss_json("{\"a\":")), WSS_ERR_JSON);
    CHECK_INT(wss_send(server, second, "s", wss_json("[]")), WSS_ERR_JSON);
    CHECK_INT(wss_send_data(server, second, WSS_TEXT, "\xff", 1), WSS_ERR_UTF8);
    CHECK_INT(wss_send_data(server, second, 3, "x", 1), WSS_ERR_ARGUMENT);
    client_free(one);
    client_free(two);
    wss_destroy(server);
    free(big);
}

static void on_echo(const wss_event *e) {
    wss_send_data(e->server, e->conn, e->opcode, e->data, e->size);
}

/* A loop of the program's own: wss_poll is called only when wss_fd says so. */
static void poll_in_an_outer_loop(void) {
    wss_server *server = serve(0);
    wss_on_data(server, on_echo, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    struct pollfd set[2];
    set[0].fd = wss_fd(server);
    CHECK(set[0].fd >= 0);
    client *c = client_connect(client_port(server), 0);
    const char *request = "GET / HTTP/1.1\r\n" CLIENT_HEADERS "\r\n";
    CHECK(c && client_raw(c, request, strlen(request)));
    set[1].fd = c->fd;
    set[0].events = set[1].events = POLLIN;
    int stage = 0;
    int polls = 0;
    while (stage < 3 && polls < 1000) {
        if (poll(set, 2, CLIENT_SECONDS * 1000) <= 0) break;
        if (set[0].revents) {
            polls++;
            CHECK_INT(wss_poll(server, 0), WSS_OK);
        }
        if (!set[1].revents) continue;
        if (stage == 0) {
            client_request(c, "");
            client_text(c, "hello");
        } else if (stage == 1) {
            CHECK_TEXT(client_read_text(c), "hello");
            client_send_close(c, 1000, "");
        } else {
            CHECK_INT(client_read_close(c), 1000);
        }
        stage++;
    }
    CHECK_INT(stage, 3);
    client_free(c);
    wss_stop(server, 1000);
    int result = WSS_OK;
    for (polls = 0; polls < 1000 && result == WSS_OK; polls++) result = wss_poll(server, -1);
    CHECK_INT(result, WSS_ERR_STOPPED);
    CHECK_INT(wss_poll(server, 0), WSS_ERR_STOPPED);
    CHECK_INT(disconnects, 1);
    CHECK_INT(wss_destroy(server), WSS_OK);
}

static void on_connect_misuse(const wss_event *e) {
    CHECK_INT(wss_run(e->server), WSS_ERR_BUSY);
    CHECK_INT(wss_start(e->server), WSS_ERR_BUSY);
    CHECK_INT(wss_destroy(e->server), WSS_ERR_BUSY);
    wss_stop(e->server, 1);
}

static void *run_it(void *arg) {
    return (void *)(intptr_t)wss_run((wss_server *)arg);
}

static void busy_and_stop_in_a_handler(void) {
    wss_server *server = serve(0);
    wss_on_connect(server, on_connect_misuse, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    client *c = client_connect(client_port(server), 0); /* the kernel takes it in before the server runs */
    const char *request = "GET / HTTP/1.1\r\n" CLIENT_HEADERS "\r\n";
    CHECK(c && client_raw(c, request, strlen(request)));
    CHECK_INT(wss_run(server), WSS_OK);
    CHECK_INT(disconnects, 1);
    CHECK_INT(wss_run(server), WSS_ERR_BUSY);
    CHECK_INT(wss_start(server), WSS_ERR_BUSY);
    CHECK_INT(wss_broadcast(server, "t", wss_json("{}")), WSS_ERR_STOPPED);
    CHECK_INT(wss_post(server, on_post, &messages), WSS_ERR_STOPPED);
    CHECK_INT(wss_destroy(server), WSS_OK);
    client_free(c);
}

static void stop_from_another_thread(void) {
    pthread_t thread;
    void *result = NULL;
    int posted = 0;
    wss_server *server = serve(0);
    wss_post(server, on_post, &posted);
    pthread_create(&thread, NULL, run_it, server);
    CHECK(client_await(&posted, 1));
    CHECK_INT(wss_run(server), WSS_ERR_BUSY);
    CHECK_INT(wss_destroy(server), WSS_ERR_BUSY);
    wss_stop(server, 1000);
    wss_stop(server, 1000);
    pthread_join(thread, &result);
    CHECK_INT((intptr_t)result, WSS_OK);
    CHECK_INT(wss_destroy(server), WSS_OK);
}

static wss_server *signalled;

static void on_signal(int number) {
    (void)number;
    wss_stop(signalled, 1000);
}

static void raise_it(void *arg) {
    (void)arg;
    raise(SIGUSR1);
}

static void stop_from_a_signal_handler(void) {
    signalled = serve(0);
    signal(SIGUSR1, on_signal);
    wss_post(signalled, raise_it, NULL);
    CHECK_INT(wss_run(signalled), WSS_OK);
    CHECK_INT(wss_destroy(signalled), WSS_OK);
    signal(SIGUSR1, SIG_DFL);
}

static void stop_before_run(void) {
    wss_server *server = serve(0);
    wss_post(server, on_post, &messages);
    wss_stop(server, 1000);
    CHECK_INT(wss_run(server), WSS_OK);
    CHECK_INT(messages, 1); /* what was posted before the stop still runs */
    CHECK_INT(wss_destroy(server), WSS_OK);
    CHECK_INT(wss_destroy(NULL), WSS_OK);
    server = serve(0);
    CHECK_INT(wss_destroy(server), WSS_OK); /* never ran */
}

/* The server ends TCP first, so its side is left in TIME_WAIT. */
static void same_port_at_once(void) {
    int port = 0;
    for (int i = 0; i < 5; i++) {
        wss_server *server = serve(port);
        port = client_port(server);
        wss_on_data(server, on_echo, NULL);
        wss_start(server);
        client *c = client_open(server);
        client_text(c, "again");
        CHECK_TEXT(client_read_text(c), "again");
        wss_stop(server, 5000);
        CHECK_INT(client_read_close(c), 1001);
        client_send_close(c, 1001, "");
        CHECK_INT(client_read(c), CLIENT_END);
        client_free(c);
        CHECK_INT(wss_destroy(server), WSS_OK);
    }
}

int main(void) {
    alarm(120);
    RUN(pairs_counts_and_order);
    RUN(registering_at_any_time);
    RUN(typed_messages_byte_for_byte);
    RUN(hostile_json_is_ignored);
    RUN(calls_before_running);
    RUN(sends_while_running);
    RUN(poll_in_an_outer_loop);
    RUN(busy_and_stop_in_a_handler);
    RUN(stop_from_another_thread);
    RUN(stop_from_a_signal_handler);
    RUN(stop_before_run);
    RUN(same_port_at_once);
    return test_end("e2e/api");
}
