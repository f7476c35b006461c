/* mkdir -p build && cc -O2 -I. examples/chat.c -o build/chat -pthread && build/chat 8080

   A small chat and test server: open the address it prints in a browser. build/chat PORT [ADDRESS].
   The network has a thread of its own. The handlers run on the main thread, which drains a queue. A third thread sends
   each line typed here to every client. The page that is served stands at the end of this file. */
#define WSSERVER_IMPLEMENTATION
#include "wsserver.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20, BUDGET = 512 * MIB, LINE_LIMIT = BUDGET / 2, BEHIND = 8 * MIB };

static void on_http(const wss_event *e); /* below, with its page */

static wss_server *server;
static int ending[2]; /* a pipe: closing its second end ends the keyboard thread */

static void on_signal(int number) {
    signal(number, SIG_DFL); /* a second one ends the program at once */
    wss_stop(server, 2000);
}

static void wait_a_moment(void) {
    struct timespec millisecond = {0, 1000000};
    nanosleep(&millisecond, NULL);
}

/* A client that does not read its replies is told to come back later: no message is lost unawares. */
static void reply(const wss_event *e, const char *type, wss_args args) {
    int result;
    while ((result = wss_send(e->server, e->conn, type, args)) == WSS_ERR_QUEUE_FULL) wait_a_moment();
    if (result != WSS_OK && result != WSS_ERR_GONE)
        wss_close(e->server, e->conn, WSS_CLOSE_TRY_LATER, wss_strerror(result));
}

/* Counted here, not with wss_count: that one is ahead of the events which still wait in the queue. */
static void log_change(const char *what, int change) {
    static int open_connections;
    open_connections += change;
    fprintf(stderr, "%s\nThere are now %d open connections.\n", what, open_connections);
}

static void on_connect(const wss_event *e) {
    wss_args none = {0};
    log_change("Connection opened.", 1);
    reply(e, "hello", none);
}

static void on_disconnect(const wss_event *e) {
    (void)e;
    log_change("Connection closed.", -1);
}

static void on_message(const wss_event *e) {
    reply(e, "message", e->args);
}

static int is_anybody_behind(void) {
    wss_conn conn = {0};
    while ((conn = wss_next(server, conn)).id)
        if (wss_buffered(server, conn) > BEHIND) return 1;
    return 0;
}

/* Waits while clients or the network are behind: that holds up whoever types, and loses nothing. */
static int broadcast(wss_args args) {
    for (;;) {
        int result = is_anybody_behind() ? WSS_ERR_FULL : wss_broadcast(server, "userInput", args);
        if (result != WSS_ERR_FULL && result != WSS_ERR_QUEUE_FULL && result != WSS_ERR_BUDGET) return result;
        wait_a_moment();
    }
}

static int send_line(const char *line, size_t length) {
    int result = WSS_ERR_TOO_BIG;
    wss_writer writer;
    if (length > LINE_LIMIT) return WSS_ERR_TOO_BIG;
    wss_writer_init(&writer, NULL, 0);
    wss_put_bytes(&writer, "input", line, length); /* whatever was typed becomes UTF-8 */
    wss_args args = wss_writer_args(&writer);
    if (args.length <= LINE_LIMIT) result = broadcast(args);
    wss_writer_free(&writer);
    return result;
}

/* Sends the complete lines of input, of which the first known bytes hold no line end. Returns how many bytes of the
   line that follows now stand at its beginning; of one that is too long only so many are kept that this shows. */
static size_t send_lines(char *input, size_t known, size_t length) {
    char *line = input;
    char *end = input + length;
    char *from = input + known;
    for (char *stop; (stop = memchr(from, '\n', (size_t)(end - from))) != NULL; from = line = stop + 1) {
        int result = send_line(line, (size_t)(stop - line));
        if (result != WSS_OK && result != WSS_ERR_STOPPED)
            fprintf(stderr, "A line was not sent: %s.\n", wss_strerror(result));
    }
    size_t left = (size_t)(end - line);
    memmove(input, line, left);
    return left > LINE_LIMIT ? LINE_LIMIT + 1 : left;
}

static void *keyboard(void *unused) {
    struct pollfd wait[2] = {{STDIN_FILENO, POLLIN, 0}, {ending[0], POLLIN, 0}};
    char *input = NULL;
    size_t size = 0;
    size_t length = 0;
    ssize_t got = 1;
    while (got > 0) {
        if (size - length < 65536) {
            char *larger = realloc(input, size * 2 + 65536);
            if (!larger) break;
            input = larger;
            size = size * 2 + 65536;
        }
        if (poll(wait, 2, -1) < 0) continue;
        if (wait[1].revents) break;
        got = read(STDIN_FILENO, input + length, size - length);
        if (got > 0) length = send_lines(input, length, length + (size_t)got);
        else if (got < 0 && (errno == EINTR || errno == EAGAIN)) got = 1;
    }
    if (got <= 0 && length > 0) { /* end of input: the last line may lack its line end */
        input[length] = '\n';
        send_lines(input, length, length + 1);
    }
    free(input);
    return unused;
}

static int serve(wss_queue *queue) {
    pthread_t thread;
    wss_options in_force;
    int result = wss_start(server);
    if (result != WSS_OK) return result;
    if (pipe2(ending, O_CLOEXEC) != 0) return WSS_ERR_SYSTEM;
    if (pthread_create(&thread, NULL, keyboard, NULL) != 0) return WSS_ERR_MEMORY;
    wss_get_options(server, &in_force);
    fprintf(stderr, strchr(in_force.address, ':') ? "listening on http://[%s]:%d/\n" : "listening on http://%s:%d/\n",
            in_force.address, in_force.port);
    result = wss_queue_run(queue); /* until on_signal */
    close(ending[1]);
    pthread_join(thread, NULL);
    close(ending[0]);
    return result;
}

int main(int argc, char **argv) {
    wss_error why;
    wss_options options = {0};
    char *end = NULL;
    long port = argc == 2 || argc == 3 ? strtol(argv[1], &end, 10) : -1;
    if (port < 0 || port > 65535 || end == argv[1] || *end) {
        fprintf(stderr, "usage: chat PORT [ADDRESS]\n");
        return 2;
    }
    if (fcntl(STDIN_FILENO, F_GETFD) < 0) open("/dev/null", O_RDONLY); /* or a socket would take its number */
    options.port = (int)port;
    options.address = argc == 3 ? argv[2] : "localhost";
    options.max_message = 16 * MIB;
    options.max_queued = 32 * MIB;
    options.max_posted_bytes = 16 * MIB; /* with what a client may be behind, less than max_queued */
    options.send_policy = WSS_POLICY_CLOSE;
    options.memory_budget = BUDGET;
    options.stall_ms = 2000; /* who accepts nothing for so long no longer holds up the lines for the others */
    options.queue = wss_queue_create(&options, &why);
    server = options.queue ? wss_create(&options, &why) : NULL;
    if (!server) {
        fprintf(stderr, "%s\n", why.text);
        wss_queue_destroy(options.queue);
        return 1;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    wss_on_connect(server, on_connect, NULL);
    wss_on_disconnect(server, on_disconnect, NULL);
    wss_on_message(server, "message", on_message, NULL);
    wss_on_http(server, on_http, NULL);
    int result = serve(options.queue);
    if (result != WSS_OK) fprintf(stderr, "%s\n", wss_strerror(result));
    signal(SIGINT, SIG_DFL); /* no signal meets a server that is gone */
    signal(SIGTERM, SIG_DFL);
    wss_destroy(server);
    wss_queue_destroy(options.queue);
    return result != WSS_OK;
}

static const char page_style[] =
    "<!doctype html>\n"
    "<html lang='en'>\n"
    "<head>\n"
    "<meta charset='utf-8'>\n"
    "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
    "<meta name='color-scheme' content='light dark'>\n"
    "<title>wsserver.h chat</title>\n"
    "<link rel='icon' href='data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 viewBox=%220 0 16 16%22%3E%3Ccircle cx=%228%22 cy=%228%22 r=%227%22 fill=%22%230b7a75%22/%3E%3C/svg%3E'>\n"
    "<style>\n"
    ":root { --back: #f4f5f2; --card: #fff; --text: #1c2321; --soft: #5c6663; --line: #d9dedb; --main: #0b7a75; --on: #fff; --bad: #b3261e; }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "  :root { --back: #14191a; --card: #1d2425; --text: #e6ebe9; --soft: #9aa6a2; --line: #344042; --main: #4fc9c1; --on: #08211f; --bad: #ff8a80; }\n"
    "}\n"
    "* { box-sizing: border-box; }\n"
    "body { margin: 0 auto; padding: 1rem; max-width: 52rem; height: 100vh; height: 100dvh; display: flex; flex-direction: column; gap: .75rem;\n"
    "  background: var(--back); color: var(--text); font: 16px/1.45 system-ui, sans-serif; }\n"
    "header { display: flex; flex-wrap: wrap; align-items: center; justify-content: space-between; gap: .5rem; }\n"
    "h1 { margin: 0; font-size: 1.25rem; }\n"
    "#state { padding: .15rem .75rem; border: 1px solid var(--line); border-radius: 1rem; background: var(--card); font-size: .875rem; }\n"
    "#state::before { content: ''; display: inline-block; width: .6rem; height: .6rem; margin-right: .5rem; border-radius: 50%; background: var(--bad); }\n"
    "#state.open::before { background: var(--main); }\n"
    "#log { flex: 1; min-height: 6rem; margin: 0; padding: .25rem .75rem; overflow-y: auto; list-style: none;\n"
    "  background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }\n"
    "#log li { display: grid; grid-template-columns: 4.5rem 2rem 6.5rem 1fr; gap: .5rem; padding: .35rem 0; border-bottom: 1px solid var(--line); }\n"
    "#log li:last-child { border-bottom: 0; }\n"
    "#log time, #log .way { color: var(--soft); font-size: .8125rem; line-height: 1.45rem; font-variant-numeric: tabular-nums; }\n"
    "#log b { color: var(--main); overflow-wrap: anywhere; }\n"
    "#log .note { color: var(--soft); grid-column: 3 / -1; }\n"
    "#log pre { margin: 0; font: .875rem/1.65 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }\n"
    "form { display: flex; gap: .65rem; align-items: flex-end; }\n"
    "form > div { flex: 1; min-width: 0; }\n"
    "label, summary { color: var(--soft); font-size: .875rem; }\n"
    "label { display: block; margin-bottom: .4rem; }\n"
    "summary { cursor: pointer; }\n"
    "#any { margin-top: .65rem; align-items: flex-start; }\n"
    "#any button { margin-top: 1.7rem; }\n"
    "input, textarea { display: block; width: 100%; padding: .5rem .65rem; border: 1px solid var(--line); border-radius: .4rem;\n"
    "  background: var(--card); color: inherit; font: inherit; }\n"
    "textarea { resize: vertical; font-family: ui-monospace, monospace; font-size: .875rem; }\n"
    "button { padding: .5rem 1.1rem; border: 1px solid var(--main); border-radius: .4rem; background: var(--main); color: var(--on); font: inherit; cursor: pointer; }\n"
    "button:disabled { opacity: .45; cursor: default; }\n"
    ":focus-visible { outline: 2px solid var(--main); outline-offset: 2px; }\n"
    "#hint { min-height: 1.2rem; margin: .25rem 0 0; color: var(--bad); font-size: .8125rem; }\n"
    "@media (max-width: 34rem) {\n"
    "  #log li { grid-template-columns: 4.5rem 2rem 1fr; gap: .1rem .5rem; }\n"
    "  #log pre, #log .note { grid-column: 1 / -1; }\n"
    "  #any { flex-direction: column; align-items: stretch; gap: 0; }\n"
    "  #any button { margin: 0; align-self: flex-end; }\n"
    "}\n"
    "</style>\n"
    "</head>\n";

static const char page_body[] =
    "<body>\n"
    "<header><h1>wsserver.h chat</h1><span id='state' role='status'>connecting</span></header>\n"
    "<ol id='log' role='log' aria-label='What was sent and received' tabindex='0'></ol>\n"
    "<form id='say'>\n"
    "  <div><label for='text'>Text of a <code>message</code>, sent back to you by the server</label><input id='text' autocomplete='off' autofocus></div>\n"
    "  <button disabled>Send</button>\n"
    "</form>\n"
    "<details>\n"
    "  <summary>Send any text, for example a message of another type</summary>\n"
    "  <form id='any'>\n"
    "    <div><label for='raw'>JSON</label><textarea id='raw' rows='3' spellcheck='false'></textarea>\n"
    "    <p id='hint' role='status'></p></div>\n"
    "    <button disabled>Send as it is</button>\n"
    "  </form>\n"
    "</details>\n";

static const char page_script[] =
    "<script>\n"
    "'use strict';\n"
    "const find = id => document.getElementById(id);\n"
    "const log = find('log'), state = find('state'), buttons = document.querySelectorAll('button');\n"
    "let socket, wait = 500, timer, atEnd = true, seen;\n"
    "\n"
    "function show(way, type, text) {\n"
    "  const line = document.createElement('li');\n"
    "  const add = (name, content, style) => {\n"
    "    const part = document.createElement(name);\n"
    "    part.textContent = content.length < 4000 ? content : content.slice(0, 4000) + ' ... ' + content.length + ' characters';\n"
    "    if (style) part.className = style;\n"
    "    line.append(part);\n"
    "  };\n"
    "  add('time', new Date().toTimeString().slice(0, 8));\n"
    "  add('span', way, 'way');\n"
    "  if (type) add('b', type);\n"
    "  add(type ? 'pre' : 'span', text, type ? '' : 'note');\n"
    "  log.append(line);\n"
    "  if (log.children.length > 500) log.firstChild.remove();\n"
    "  if (atEnd) log.scrollTop = log.scrollHeight;\n"
    "}\n"
    "\n"
    "function showMessage(way, text) {\n"
    "  let message;\n"
    "  try { message = JSON.parse(text); } catch { /* shown as it is */ }\n"
    "  if (!message || typeof message.__MESSAGE__ !== 'string') return show(way, 'text', text);\n"
    "  const { __MESSAGE__: type, ...args } = message;\n"
    "  show(way, type, JSON.stringify(args));\n"
    "}\n"
    "\n"
    "function setState(text, open) {\n"
    "  state.textContent = text;\n"
    "  state.className = open ? 'open' : '';\n"
    "  for (const button of buttons) button.disabled = !open;\n"
    "}\n"
    "\n"
    "function connect() {\n"
    "  clearTimeout(timer);\n"
    "  setState('connecting', false);\n"
    "  const url = new URL(location.href);\n"
    "  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';\n"
    "  url.hash = '';\n"
    "  socket = new WebSocket(url);\n"
    "  socket.onopen = () => { wait = 500; setState('connected', true); show('', '', 'connected to ' + url); };\n"
    "  socket.onmessage = e => typeof e.data === 'string' ? showMessage('in', e.data) : show('in', 'binary', e.data.size + ' bytes');\n"
    "  socket.onclose = e => {\n"
    "    const delay = wait * (0.75 + Math.random() / 2);\n"
    "    if (state.className) show('', '', 'closed with code ' + e.code + (e.reason ? ': ' + e.reason : ''));\n"
    "    setState('not connected, next try in ' + Math.max(1, Math.round(delay / 1000)) + ' s', false);\n"
    "    wait = Math.min(wait * 2, 15000);\n"
    "    timer = setTimeout(connect, delay);\n"
    "  };\n"
    "}\n"
    "\n"
    "function send(text) {\n"
    "  socket.send(text);\n"
    "  showMessage('out', text);\n"
    "}\n"
    "\n"
    "find('say').onsubmit = e => {\n"
    "  e.preventDefault();\n"
    "  send(JSON.stringify({ __MESSAGE__: 'message', text: find('text').value }));\n"
    "  find('text').value = '';\n"
    "};\n"
    "find('any').onsubmit = e => { e.preventDefault(); send(find('raw').value); };\n"
    "find('raw').oninput = () => {\n"
    "  let problem = '';\n"
    "  try {\n"
    "    const value = JSON.parse(find('raw').value);\n"
    "    if (!value || typeof value.__MESSAGE__ !== 'string') problem = 'No object with a string __MESSAGE__: the server will ignore it.';\n"
    "  } catch (e) { problem = 'Not valid JSON, the server will ignore it: ' + e.message; }\n"
    "  find('hint').textContent = problem;\n"
    "};\n"
    "const size = () => log.clientWidth + ' ' + log.clientHeight;\n"
    "log.onscroll = () => { if (size() === seen) atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40; };\n"
    "new ResizeObserver(() => { seen = size(); if (atEnd) log.scrollTop = log.scrollHeight; }).observe(log);\n"
    "addEventListener('online', () => { if (socket.readyState === WebSocket.CLOSED) connect(); });\n"
    "find('raw').value = JSON.stringify({ __MESSAGE__: 'message', text: 'hello', list: [1, 2.5, null] });\n"
    "connect();\n"
    "</script>\n"
    "</body>\n"
    "</html>\n";

/* Whether a request was made on this machine, and not brought by a proxy on it. */
static int is_from_here(const wss_request *request) {
    static const char *const lines[] = {"Forwarded", "X-Forwarded-For", "Via"};
    const char *peer = wss_request_peer(request, NULL);
    for (int i = 0; i < 3; i++)
        if (wss_request_header(request, lines[i])) return 0;
    return strncmp(peer, "127.", 4) == 0 || strcmp(peer, "::1") == 0;
}

static void on_http(const wss_event *e) {
    static const wss_header headers[] = {
        {"Cache-Control", "no-cache"},
        {"Content-Security-Policy", "default-src 'none'; img-src data:; connect-src 'self' ws: wss:; "
                                    "script-src 'unsafe-inline'; style-src 'unsafe-inline'"}};
    char text[sizeof page_style + sizeof page_body + sizeof page_script];
    char path[16];
    wss_answer answer = {0};
    answer.status = 404;
    answer.body = "not found\n";
    answer.size = 10;
    if (wss_request_path(e->request, path, sizeof path, NULL) != WSS_OK) path[0] = 0;
    if (strcmp(path, "/metrics") == 0 && is_from_here(e->request)) {
        answer.status = 200;
        answer.body = text;
        if (wss_stats_text(e->server, text, sizeof text, &answer.size) != WSS_OK) answer.status = 500;
    } else if (strcmp(path, "/") == 0) {
        answer.status = 200;
        answer.content_type = "text/html; charset=utf-8";
        answer.headers = headers;
        answer.header_count = sizeof headers / sizeof *headers;
        answer.body = text;
        answer.size = (size_t)snprintf(text, sizeof text, "%s%s%s", page_style, page_body, page_script);
    }
    wss_reply(e->server, e->conn, &answer);
}
