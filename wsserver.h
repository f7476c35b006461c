/* wsserver.h - v0.2.0 - a WebSocket server for C programs on Linux, in one file - MIT or public domain

   Browsers talk to your program fifteen lines from now. Copy this file into your project; in ONE source file write

       #define WSSERVER_IMPLEMENTATION
       #include "wsserver.h"

   and include it plainly everywhere else. It needs libc and pthreads, nothing more. This is a complete program,
   examples/hello.c:

       #define WSSERVER_IMPLEMENTATION
       #include "wsserver.h"
       #include <signal.h>
       #include <stdio.h>

       static wss_server *server;
       static void on_signal(int s) { signal(s, SIG_DFL); wss_stop(server, 2000); }
       static void on_chat(const wss_event *e) { wss_broadcast(e->server, "chat", e->args); }

       int main(void) {
           wss_error why;
           wss_options options = {0};
           options.port = 8080;
           server = wss_create(&options, &why);
           if (!server) { fprintf(stderr, "%s\n", why.text); return 1; }
           signal(SIGINT, on_signal);
           wss_on_message(server, "chat", on_chat, NULL);
           int result = wss_run(server);
           signal(SIGINT, SIG_DFL);
           wss_destroy(server);
           return result != WSS_OK;
       }

   Build it with: cc -O2 hello.c -o hello -pthread
   Ctrl-C stops it in good order; a second one ends it at once, and no signal meets a server that is gone.

   A page connects with new WebSocket("ws://localhost:8080") and sends {"__MESSAGE__":"chat","text":"hi"}.
   The member named __MESSAGE__ (options.type_member) is the type: it selects the handler and is taken out of the
   arguments the handler sees. Messages that are no JSON object or have no registered type are ignored by
   wss_on_message; wss_on_data sees every message raw.

   Speaks: RFC 6455 (WebSocket), RFC 8259 (JSON), as much HTTP/1.1 as an upgrade and a small page need.
   Not here: TLS and compression (put a proxy in front), files, a client, other systems than Linux.

   [docs] WHAT YOU NEED TO KNOW

   Nouns.  server      listens, runs, owns everything below.
           connection  one client, named by a wss_conn: a number that is safe to keep for ever. Calls on a
                       connection that is gone return WSS_ERR_GONE and do nothing.
           event       what a handler receives: who, what, and your own pointers.
           queue       a list of work for one thread. With options.queue every handler runs on the thread that
                       drains that queue, in order.
           args        the text of a JSON object: what a typed message carries besides its type.

   Life of a connection. Its handlers run in this order and never at the same time:

       accept -> [upgrade handler] -> connect, once -> messages -> disconnect, once -> user_free
                      |
                      +-> refused: no connect, no disconnect

       it is      from                           calls that work on its handle
       asked      its request is whole           wss_accept and wss_refuse, or wss_reply where it is plain HTTP;
                                                 wss_get_info
       accepted   wss_accept returned WSS_OK     sends, wss_close, wss_pause, wss_resume: they go behind the answer;
                                                 wss_get_info, wss_buffered, wss_set_user
       open       its connect handlers           all but the three answers
       closing    wss_close, a fault, a stop     wss_get_info, wss_buffered, wss_set_user
       gone       its disconnect handlers ended  none: WSS_ERR_GONE

   Threads. Each declaration names who may call it: any (any thread, at any time between wss_create and wss_destroy),
   loop (the thread that runs the server: wss_run, wss_poll, or the one wss_start made; or inside a handler), signal
   (also inside a signal handler).

       calls                                                   other threads  handlers  signal handlers
       wss_stop, wss_queue_stop                                yes            yes       yes
       send, broadcast, close, pause, post, timers, answers,   yes            yes       no
           wss_on_..., wss_get_..., JSON
       wss_run, wss_start, wss_poll, wss_destroy               one at a time  no        no
       wss_queue_run, wss_queue_poll                           one at a time  no        no
       wss_request_...                                         no             its own   no

   Handlers run on the networking thread, or with options.queue on the thread that drains the queue. No lock is
   held while they run; they may send, close, post, register and stop. What one thread sends to one connection
   arrives in that order. A server belongs to the copy of this file that made it (WSSERVER_STATIC makes several). After
   fork() the child may only exec or _exit.

   Memory. Incoming data dies when the handler returns. Outgoing data is copied before the call returns. WSS_OK from a
   send means accepted, not delivered. Every allocation may fail: then that call or that connection fails, never
   the server. Bad input ends one connection, with a close code and a cause, and nothing else.

   MAP. Search for the tag in brackets; it stands here and at the room itself. A room uses only rooms above it.

       surface     [types]   constants, structs            [calls]   the functions: the rest is how they work
       bytes       [config]  switches, system headers      [base]    bytes and numbers
                   [mem]     the one way to allocate       [log]     lines for the application's log
                   [hash]    SHA-1 and base64              [utf8]    validator
                   [address] of peers
       protocol    [http]    request head              [origin]   who may connect
                   [proxy]   who asks behind one       [answer]   what is said to a request
                   [frame]   RFC 6455 frames           [json]     scanner and cutter
                   [args]    JSON readers and writer   [buf]      frames waiting to be sent
                   [timer]   wheel of deadlines        [slot]     handles
                   [session] protocol of a connection: out, ends  [input]  in
       connection  [queue]   work between threads      [socket]   system calls
                   [event]   handlers, who calls them  [message]  what a send is given
                   [conn]    connection, loop, server  [pause]    when it is not read
                   [deadline] when something is due    [notify]   events, ends
                   [write]   bytes out                 [pressure] who has to go
                   [read]    bytes in                  [serve]    one connection's turn
                   [deliver] a queue's thread          [accept]   new sockets
                   [loop]    turns of an epoll set
       surface     [send]    orders and messages       [public]   connections, requests, work
                   [metrics] text for monitors         [option]   one table of them
                   [server]  making, running, ending   [tail]     versions, license

   A message's way:      wss__loop_turn > wss__serve_turn > wss__read_some > wss__input_next > wss__notify_tell >
                         your handler > wss_send > wss__write_message > wss__write_flush
   Another thread's way: wss_send > wss__queue_push > wss__loop_run_jobs > wss__loop_run_order > wss__write_push
*/
#if defined(WSSERVER_IMPLEMENTATION) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE 1 /* before the first system header, or glibc hides what the implementation needs */
#endif

#ifndef WSSERVER_H
#define WSSERVER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- [types] constants and structs ------------------------------------------------------------------------ */

#define WSS_VERSION "0.2.0"
#define WSS_VERSION_NUMBER 200 /* major * 10000 + minor * 100 + patch */

#if defined(WSSERVER_STATIC) || defined(WSSERVER_API)
#define WSS__CONFIG_LINKAGE 1
#endif
#if !defined(WSSERVER_API)
#if defined(WSSERVER_STATIC)
#define WSSERVER_API static __attribute__((__unused__))
#else
#define WSSERVER_API extern
#endif
#endif

/* Results. Every call that can fail returns WSS_OK or one of these. */
#define WSS_ERROR_TABLE(X)                                                                \
    X(WSS_OK, 0, "no error")                                                              \
    X(WSS_ERR_ARGUMENT, -1, "an argument is not valid")                                   \
    X(WSS_ERR_MEMORY, -2, "out of memory")                                                \
    X(WSS_ERR_SYSTEM, -3, "a system call failed, errno says why")                         \
    X(WSS_ERR_GONE, -4, "the connection is closed or closing")                            \
    X(WSS_ERR_FULL, -5, "the connection's send queue is full")                            \
    X(WSS_ERR_QUEUE_FULL, -6, "too much posted work is waiting")                          \
    X(WSS_ERR_BUDGET, -7, "the server's memory budget is used up")                        \
    X(WSS_ERR_STOPPED, -8, "the server or queue is stopping or has stopped")              \
    X(WSS_ERR_BUSY, -9, "not possible here or twice: it is running already")              \
    X(WSS_ERR_TOO_BIG, -10, "the data is larger than this call allows")                   \
    X(WSS_ERR_UTF8, -11, "text is not valid UTF-8")                                       \
    X(WSS_ERR_JSON, -12, "the text is not valid JSON")                                    \
    X(WSS_ERR_DEPTH, -13, "JSON is nested too deeply")                                    \
    X(WSS_ERR_MISSING, -14, "there is no such member, header or item")                    \
    X(WSS_ERR_TYPE, -15, "the JSON value has another type")                               \
    X(WSS_ERR_RANGE, -16, "the number does not fit")                                      \
    X(WSS_ERR_SPACE, -17, "the buffer is too small")                                      \
    X(WSS_ERR_ADDRESS, -18, "the address to listen on is not valid")                      \
    X(WSS_ERR_ANSWERED, -19, "the request has been answered already")                     \
    X(WSS_ERR_HEADER, -20, "a header name or value is not allowed")                       \
    X(WSS_ERR_PROTOCOL, -21, "the client did not offer that subprotocol")

/* Why a connection ended, and with which close code the library then tells the peer, where it still can;
   WSS_CLOSE_LOST: it is told nothing, or something else (the code of wss_close, an HTTP status). */
#define WSS_CAUSE_TABLE(X) \
    X(WSS_CAUSE_NONE, 0, WSS_CLOSE_LOST, "none")                                                               \
    X(WSS_CAUSE_PEER_CLOSED, 1, WSS_CLOSE_LOST, "peer closed")                                                 \
    X(WSS_CAUSE_PEER_VANISHED, 2, WSS_CLOSE_LOST, "peer vanished")                                             \
    X(WSS_CAUSE_PONG_TIMEOUT, 3, WSS_CLOSE_LOST, "pong timeout")                                               \
    X(WSS_CAUSE_IDLE_TIMEOUT, 4, WSS_CLOSE_POLICY, "idle timeout")                                             \
    X(WSS_CAUSE_MESSAGE_TIMEOUT, 5, WSS_CLOSE_POLICY, "message timeout")                                       \
    X(WSS_CAUSE_SLOW_READER, 6, WSS_CLOSE_TRY_LATER, "slow reader")                                            \
    X(WSS_CAUSE_LOCAL_CLOSE, 7, WSS_CLOSE_LOST, "local close")                                                 \
    X(WSS_CAUSE_STOPPING, 8, WSS_CLOSE_GOING_AWAY, "server stopping")                                          \
    X(WSS_CAUSE_TOO_BIG, 9, WSS_CLOSE_TOO_BIG, "message too big")                                              \
    X(WSS_CAUSE_TOO_MANY_FRAGMENTS, 10, WSS_CLOSE_POLICY, "too many fragments")                                \
    X(WSS_CAUSE_MEMORY, 11, WSS_CLOSE_TRY_LATER, "out of memory")                                              \
    X(WSS_CAUSE_SYSTEM, 12, WSS_CLOSE_LOST, "socket error")                                                    \
    X(WSS_CAUSE_HANDSHAKE, 13, WSS_CLOSE_LOST, "handshake refused")                                            \
    X(WSS_CAUSE_HANDSHAKE_TIMEOUT, 14, WSS_CLOSE_LOST, "handshake timeout")                                    \
    X(WSS_CAUSE_UNMASKED, 15, WSS_CLOSE_PROTOCOL_ERROR, "protocol error: frame is not masked")                 \
    X(WSS_CAUSE_RESERVED_BITS, 16, WSS_CLOSE_PROTOCOL_ERROR, "protocol error: reserved bit set")               \
    X(WSS_CAUSE_OPCODE, 17, WSS_CLOSE_PROTOCOL_ERROR, "protocol error: unknown opcode")                        \
    X(WSS_CAUSE_LENGTH, 18, WSS_CLOSE_PROTOCOL_ERROR, "protocol error: length not minimal or too large")       \
    X(WSS_CAUSE_CONTROL, 19, WSS_CLOSE_PROTOCOL_ERROR, "protocol error: control frame fragmented or too long") \
    X(WSS_CAUSE_CONTINUATION, 20, WSS_CLOSE_PROTOCOL_ERROR, "protocol error: frame out of sequence")           \
    X(WSS_CAUSE_UTF8, 21, WSS_CLOSE_BAD_DATA, "protocol error: text is not UTF-8")                             \
    X(WSS_CAUSE_CLOSE_FRAME, 22, WSS_CLOSE_PROTOCOL_ERROR, "protocol error: bad close frame")                 \
    X(WSS_CAUSE_PRESSURE, 23, WSS_CLOSE_TRY_LATER, "memory pressure")                                          \
    X(WSS_CAUSE_LIFETIME, 24, WSS_CLOSE_LOST, "lifetime is over")

#define WSS_ENUMERATE(name, value, ...) name = (value),
enum { WSS_ERROR_TABLE(WSS_ENUMERATE) WSS_ERROR_TABLE_END = 1 };
enum { WSS_CAUSE_TABLE(WSS_ENUMERATE) WSS_CAUSE_TABLE_END = 1000 };
#undef WSS_ENUMERATE

enum { /* opcodes of data messages, RFC 6455 section 11.8 */
    WSS_TEXT = 1,
    WSS_BINARY = 2
};

enum { /* close codes, RFC 6455 section 7.4.1 */
    WSS_CLOSE_NORMAL = 1000,
    WSS_CLOSE_GOING_AWAY = 1001,
    WSS_CLOSE_PROTOCOL_ERROR = 1002,
    WSS_CLOSE_UNSUPPORTED = 1003,
    WSS_CLOSE_NO_CODE = 1005,  /* reported only: the peer's Close frame had no code */
    WSS_CLOSE_LOST = 1006,     /* reported only: the connection ended without a Close frame */
    WSS_CLOSE_BAD_DATA = 1007,
    WSS_CLOSE_POLICY = 1008,
    WSS_CLOSE_TOO_BIG = 1009,
    WSS_CLOSE_INTERNAL = 1011,
    WSS_CLOSE_RESTART = 1012,
    WSS_CLOSE_TRY_LATER = 1013
};

enum { /* wss_event.kind */
    WSS_EVENT_CONNECT = 1,
    WSS_EVENT_MESSAGE,
    WSS_EVENT_DATA,
    WSS_EVENT_DISCONNECT,
    WSS_EVENT_DRAIN,
    WSS_EVENT_UPGRADE,
    WSS_EVENT_HTTP,
    WSS_EVENT_TIMER
};

enum { /* options.send_policy: what a send to a full queue does */
    WSS_POLICY_REFUSE = 0, /* the call returns WSS_ERR_FULL */
    WSS_POLICY_CLOSE = 1   /* the connection is closed with 1013, cause slow reader */
};

enum { /* JSON types, as wss_json_type returns them */
    WSS_JSON_NULL = 1,
    WSS_JSON_BOOL,
    WSS_JSON_NUMBER,
    WSS_JSON_STRING,
    WSS_JSON_ARRAY,
    WSS_JSON_OBJECT
};

enum { /* levels given to options.log */
    WSS_LOG_ERROR = 1,
    WSS_LOG_WARNING,
    WSS_LOG_INFO,
    WSS_LOG_DEBUG
};

enum { /* why requests were refused: places in wss_stats.refused_cause */
    WSS_REFUSED_OTHER = 0,
    WSS_REFUSED_MALFORMED,   /* 400 */
    WSS_REFUSED_ORIGIN,      /* 403: options.origins */
    WSS_REFUSED_METHOD,      /* 405 */
    WSS_REFUSED_TIMEOUT,     /* 408: options.handshake_ms */
    WSS_REFUSED_TARGET,      /* 414: the first line alone is longer than options.max_head */
    WSS_REFUSED_HOST,        /* 421: options.hosts */
    WSS_REFUSED_NO_UPGRADE,  /* 426: no WebSocket request, or another version */
    WSS_REFUSED_HEADERS,     /* 431: more than 64 header lines, or longer than options.max_head */
    WSS_REFUSED_UNAVAILABLE, /* 503: memory, stopping, or no answer in time */
    WSS_REFUSED_HTTP,        /* 505: HTTP, but not version 1 */
    WSS_REFUSED_APPLICATION, /* by wss_refuse */
    WSS_REFUSED_PER_ADDRESS  /* closed unanswered, or behind a proxy 503: options.max_per_address */
};

#define WSS_OFF (-1)                   /* for a time or count in wss_options: never, or no limit */
#define WSS_UNLIMITED ((size_t)-1)     /* for a size in wss_options: no limit */

typedef struct wss_server wss_server;
typedef struct wss_queue wss_queue;
typedef struct wss_request wss_request;

/* A connection. Copy it, store it, compare .id; .id 0 names none. Never refers to another connection later. */
typedef struct wss_conn {
    uint64_t id;
} wss_conn;

/* A timer. .id 0 names none. */
typedef struct wss_timer {
    uint64_t id;
} wss_timer;

/* Why wss_create or wss_queue_create failed. text is one line, always terminated. */
typedef struct wss_error {
    int code;
    int system_errno;
    char text[160];
} wss_error;

/* The text of a JSON object (or, from the readers, of any JSON value). All zero: none. In an event text ends in NUL.
   error is set by a wss_writer that failed: a send that is given such args returns it. */
typedef struct wss_args {
    const char *text;
    size_t length;
    int error;
} wss_args;

/* What a handler receives. Everything it points to dies when the handler returns. */
typedef struct wss_event {
    wss_server *server;
    wss_conn conn;
    int kind;                   /* WSS_EVENT_... */
    int opcode;                 /* data, message: WSS_TEXT or WSS_BINARY */
    void *context;              /* what was given at registration */
    void *user;                 /* the connection's own pointer, as the handler before this one left it */
    const char *type;           /* message: its type */
    wss_args args;              /* message: its other members, a JSON object */
    const char *data;           /* data: the payload, any bytes */
    size_t size;                /* data: bytes in data */
    int code;                   /* disconnect: close code, the peer's, or ours where we closed */
    int cause;                  /* disconnect: WSS_CAUSE_... */
    const char *reason;         /* disconnect: text of the Close frame, ends in NUL */
    size_t reason_length;
    const wss_request *request; /* upgrade, http */
} wss_event;

typedef void wss_handler(const wss_event *event);

/* How a server behaves. All zero is valid: zero means the default. Copied by wss_create, strings too. Times are in
   milliseconds. WSS_OFF or WSS_UNLIMITED switches a limit off. wss_get_options returns the values in force.

   Pressure. memory_budget bounds everything the server holds. When three quarters of it are used, clients end (1013,
   WSS_CAUSE_PRESSURE), one a turn: who holds most by himself, 64 KiB or more of what waits for him and what he has
   sent, and of these who has not moved for longest; who has moved in the last second, by least_rate bytes a second, is
   spared. When seven eighths are used: new requests get 503; large things (over 4 KiB) find no memory, which ends the
   connection that asked (1013) or fails the call (WSS_ERR_BUDGET); small messages and control frames go on in the last
   eighth. Each connection's queue is bounded by max_queued and send_policy; while the replies to a client fill half of
   its queue it is not read from.
   With queue the same goes for messages on their way to its thread, and for more than 64 of them. Those of all clients
   together, also of clients that have gone, hold a quarter of the budget: above it each client has one under way, and
   what those left behind that have reset is dropped and counted; a sixteenth more, and nobody is read until it is a
   quarter again. Nobody is closed for that, and who comes is let in. */
typedef struct wss_options {
    int port;                  /* default 0: the kernel picks one; read it back with wss_get_options */
    int threads;               /* networking threads; default 1 */
    const char *address;       /* default NULL: all interfaces, IPv6 and IPv4. Else a list, by commas, of: an IPv4 or
                                  IPv6 address or localhost (both), each with :PORT (IPv6 in brackets), unix:PATH,
                                  unix:@NAME (no file), fd:NUMBER (a listening descriptor, adopted where wss_create
                                  succeeds), systemd (the descriptors in LISTEN_FDS) */
    wss_queue *queue;          /* default NULL: handlers run on the networking thread */
    const char *type_member;   /* member that names a message's type; default "__MESSAGE__" */
    const char *origins;       /* allowed Origin values besides none and same host: a list by commas. A "*" stands for
                                  any origin, behind a scheme for any host of it, before a dot for any name; "null" for
                                  pages opened from a file; default NULL */
    const char *hosts;         /* allowed Host values, a list by commas; default NULL: any, but from this very machine
                                  only names that are its own, unless a proxy brings it */
    void (*user_free)(void *user); /* frees a connection's user pointer, once, after its disconnect
                                     handler (of one that was accepted and never connected: by its loop, and there is
                                     none); default NULL: none */
    void *(*allocator)(void *context, void *pointer, size_t old_size, size_t new_size);
                               /* realloc with sizes: new_size 0 frees. any thread, and no call of this library in it;
                                  default NULL: realloc, free */
    void *allocator_context;
    void (*log)(void *context, int level, const char *text); /* one line; default NULL: silent. any thread */
    void *log_context;
    int log_level;             /* default 0: WSS_LOG_INFO; WSS_LOG_DEBUG tells misuse and slow handlers too */
    int send_policy;           /* default 0: WSS_POLICY_REFUSE */
    size_t max_message;        /* bytes of one message, its frames together (of these there may be 1,024, and one more
                                  for each 16 bytes that have come); default 1 MiB */
    int max_head;              /* bytes of a request's head, its first line among them; default 16384 */
    int max_connections;       /* default 10000, less where the process may open fewer descriptors. Further ones wait.
                                  An eighth of them, but at least 64, may be unfinished handshakes at one time, shared
                                  out between the threads: then the oldest without a whole request ends once it had a
                                  second, if another waits. A handshake ends with the answer */
    int max_per_address;       /* connections of one IPv4 address or IPv6 network (/64); default 0: WSS_OFF */
    size_t max_queued;         /* bytes that what waits to be sent on one connection may hold: of each message its size
                                  and what its place in the queue costs, at least 64, also of those that a turn still
                                  gathers; and as much again on its way there from other threads; default 1 MiB */
    size_t memory_budget;      /* bytes of everything the server holds; default 256 MiB */
    int max_posted;            /* posts and sends that wait for a networking thread; default 65536 */
    size_t max_posted_bytes;   /* their bytes; default 16 MiB */
    int handshake_ms;          /* from accept to the whole request, and from that to the answer; default 10000 */
    int ping_ms;               /* silence after which the peer is pinged; default 20000 */
    int pong_ms;               /* silence after the ping that ends the connection; default 20000 */
    int idle_ms;               /* time without a data message that ends the connection; default 0: WSS_OFF */
    int message_ms;            /* from a message's first byte to its last, and a second more for each least_rate bytes
                                  of it that have come; default 30000 */
    int stall_ms;              /* time in which a peer that is behind takes no byte; default 30000 */
    int close_ms;              /* from the moment our Close, or answer, has left: for the peer's answer to it and to end
                                  TCP (which where this is off has 5 s); default 5000 */
    int spin_us;               /* microseconds to poll before sleeping: latency for CPU; default 0 */
    int unix_mode;             /* permissions of a unix: path; default 0: 0660 */
    int reuse_port;            /* set SO_REUSEPORT; default 0: no */
    int least_rate;            /* bytes a second that a peer that is behind must take, averaged over a minute, that a
                                  message may take longer for, and by which who holds much must move while memory is
                                  short; default 256 */
    const char *proxies;       /* addresses of proxies that may tell who the client is: a list by commas of addresses,
                                  networks as 10.0.0.0/8, and "unix:" for all Unix sockets; default NULL: none */
    const char *proxy_header;  /* the line in which they tell it; what clients send in it is never believed; default
                                  NULL: X-Forwarded-For. Forwarded: RFC 7239 */
    int proxy_protocol;        /* 1: connections of proxies begin with a PROXY header, version 1 or 2, others must not;
                                  default 0: no */
    int stop_code;             /* close code of a stop and of lifetime_ms, as wss_close takes it; default 1001. 1012,
                                  WSS_CLOSE_RESTART, says that the server comes again */
    int stop_spread_ms;        /* time over which a stop spreads its closes, at most half of its own; meanwhile all goes
                                  on, but new requests get 503; default 0: WSS_OFF */
    int lifetime_ms;           /* age at which a connection is closed, a quarter more or less; default 0: WSS_OFF */
    int max_message_rate;      /* messages a second that are read of one connection, a second's worth at once; then it
                                  waits. Control frames do not count; default 0: WSS_OFF */
} wss_options;

typedef struct wss_header {
    const char *name;
    const char *value;
} wss_header;

/* An answer to a request. NULL is as all zero: the default status, an empty body. Everything is copied by the call. */
typedef struct wss_answer {
    int status;                /* wss_reply: 200 to 599, default 200. wss_refuse: 300 to 599, default 403 */
    const char *content_type;  /* default NULL: "text/plain; charset=utf-8" */
    const wss_header *headers; /* further header lines */
    size_t header_count;
    const void *body;
    size_t size;               /* bytes in body */
} wss_answer;

/* One connection at one moment. Strings are cut to fit and end in NUL. */
typedef struct wss_info {
    wss_conn conn;
    char address[64];          /* "192.0.2.1", "2001:db8::1", or "unix" */
    int port;
    char path[128];            /* as sent, undecoded */
    char protocol[64];         /* subprotocol, "" if none */
    uint64_t age_ms;           /* since accept */
    uint64_t silent_ms;        /* since the last byte from the peer; the time for which it is not read from is left out
                                  once that goes on; 24 days stand for all that is longer */
    uint64_t bytes_in;
    uint64_t bytes_out;
    size_t buffered;           /* as wss_buffered */
    int round_trip_ms;         /* of the last ping, 65,534 if it was longer; -1 before */
    int uid;                   /* Unix sockets: credentials of the peer, else -1 */
    int gid;
    int pid;
} wss_info;

/* The server at one moment. Counters only grow. */
typedef struct wss_stats {
    uint64_t connections;      /* open now: connected, not disconnected */
    uint64_t accepted;         /* sockets accepted, ever */
    uint64_t opened;           /* handshakes completed, ever */
    uint64_t refused;          /* requests refused, ever */
    uint64_t refused_status[6];/* of these, by hundreds: [4] counts 4xx */
    uint64_t http_answers;     /* plain HTTP requests answered by wss_on_http, ever */
    uint64_t frames_in;
    uint64_t frames_out;
    uint64_t messages_in;
    uint64_t messages_out;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t dropped_gone;     /* accepted messages that died with their connection before the kernel had taken all
                                  of them */
    uint64_t dropped_policy;   /* messages with a key: replaced by a newer one, or dropped by a full queue */
    uint64_t refused_full;     /* sends and shares of broadcasts refused by a full queue */
    uint64_t closes[32];       /* by WSS_CAUSE_... */
    uint64_t queued_peak;      /* most that ever waited on one connection, as max_queued counts */
    uint64_t posted;           /* posts and sends waiting now */
    uint64_t memory;           /* bytes held now */
    uint64_t memory_peak;
    uint64_t memory_budget;
    uint64_t wakeups;          /* returns of epoll_wait, ever */
    uint64_t accept_failures;  /* accepts that failed for want of descriptors or memory */
    uint64_t loop_lag_ms;      /* longest turn of a loop, ever */
    uint64_t refused_cause[16];/* requests refused, by WSS_REFUSED_... */
    uint64_t undelivered_dropped; /* with options.queue: messages that clients left behind which reset, dropped */
    uint64_t turns[6];         /* turns of loops, ever: of up to 1, 4, 16, 64, 256 ms, and longer ones */
    uint64_t paused;           /* connections that are not read from now: by wss_pause, or by what they queued */
    uint64_t crowded;          /* connections now that were above half of max_queued and have not fallen to a quarter */
    uint64_t undelivered;      /* with options.queue: bytes of messages on their way to its thread now, and of what was
                                  received from clients that have reset and not looked at */
    uint64_t handshakes;       /* under way now */
    uint64_t closed_places;    /* with options.queue: ended connections now whose events were not delivered yet */
    uint64_t rate_pauses;      /* times that a connection was above max_message_rate */
} wss_stats;

/* Builds args. Fields are private. The first error sticks and comes out of wss_writer_args and of the send. */
typedef struct wss_writer {
    char *text;
    size_t length;
    size_t capacity;
    int growing;
    int error;
    int depth;
    int empty;                 /* nothing written yet at this level */
    uint8_t kinds[32];         /* one bit a level: set is an array */
    void *(*allocator)(void *context, void *pointer, size_t old_size, size_t new_size);
    void *allocator_context;
} wss_writer;

/* Walks the members of an object or the elements of an array. */
typedef struct wss_iterator {
    wss_args key;              /* of the current member, raw, with quotes; none in an array */
    wss_args value;            /* the current value, raw */
    const char *next;          /* these are private */
    const char *end;
    int kind;
    int max_depth;
} wss_iterator;

/* ---- [calls] ---------------------------------------------------------------------------------------------- */

/* What each call may return stands with it. Beside that all return WSS_ERR_ARGUMENT, those without a result do nothing,
   where a server, queue, handler or place for a result is NULL that may not be. */

/* Lifecycle. */

/* Makes a server and binds its addresses, so that port 0 reads back at once; it serves from wss_run on. options may be
   NULL. NULL on failure, with *why filled (why may be NULL): WSS_ERR_ARGUMENT, _UTF8, _ADDRESS, _SYSTEM, _MEMORY,
   _BUDGET. any. Give it back with wss_destroy. */
WSSERVER_API wss_server *wss_create(const wss_options *options, wss_error *why);
/* Serves on the calling thread until wss_stop. A server runs once. WSS_OK after a stop; WSS_ERR_BUSY if it runs or ran
   already or inside a handler; WSS_ERR_MEMORY if a registration had failed; WSS_ERR_SYSTEM. any. */
WSSERVER_API int wss_run(wss_server *server);
/* The same on a thread that the server makes; returns at once. wss_destroy joins it. any. */
WSSERVER_API int wss_start(wss_server *server);
/* One step for programs with a loop of their own: waits up to milliseconds (-1: until something happens), handles what
   is there, for some 4 ms if there is so much, returns WSS_OK, or WSS_ERR_STOPPED once a stop has finished. Always on
   the same thread. WSS_ERR_ARGUMENT with several threads; WSS_ERR_BUSY, _MEMORY, _SYSTEM as wss_run. */
WSSERVER_API int wss_poll(wss_server *server, int milliseconds);
/* A descriptor that is readable whenever wss_poll has work: put it into your poll set. Owned by the server. Negative:
   WSS_ERR_ARGUMENT with several threads, WSS_ERR_SYSTEM. loop. */
WSSERVER_API int wss_fd(wss_server *server);
/* Begins an orderly stop: no new clients, 503 to those who have connected and are not in yet, as far as
   options.max_connections has room for those who wait at listeners of our own; Close to all others (options.stop_code,
   over options.stop_spread_ms); what is queued is flushed, the rest cut off after that many milliseconds; wss_run
   returns when all disconnect handlers ran. Of several calls the earliest end counts, and one with 0 ends a spread. Not
   once wss_destroy has begun. any, signal. */
WSSERVER_API void wss_stop(wss_server *server, int milliseconds);
/* The descriptor of listener number index, from 0 on, to be given to a successor (dup it: this one stays the server's).
   From then on a stop leaves the listener's backlog, and its Unix path, to that. WSS_ERR_MISSING past the last,
   WSS_ERR_STOPPED from the stop on. any. */
WSSERVER_API int wss_listener(wss_server *server, int index);
/* Stops if need be, joins the thread of wss_start, runs what handlers are left on the caller, frees everything.
   WSS_ERR_BUSY inside a handler, also of another server that this one's called, and while another thread is in wss_run
   or drains options.queue: wss_stop first, and let that end. Posts that were accepted run: of a server that never
   ran, here. Threads that send or post must have been joined. NULL is ignored. */
WSSERVER_API int wss_destroy(wss_server *server);
/* The options in force, defaults and port resolved; all zero for NULL. Strings belong to the server. any. */
WSSERVER_API void wss_get_options(const wss_server *server, wss_options *options);
/* Text of a WSS_ERR_* or of a WSS_CAUSE_*. Static storage, never NULL. any. */
WSSERVER_API const char *wss_strerror(int error);
WSSERVER_API const char *wss_cause_text(int cause);

/* Handlers. Each call adds one; they run in the order of registration and are never removed. Those registered
   before the server runs see the first client. WSS_ERR_ARGUMENT; WSS_ERR_MEMORY also makes wss_run fail. any. */

WSSERVER_API int wss_on_connect(wss_server *server, wss_handler *handler, void *context);
WSSERVER_API int wss_on_disconnect(wss_server *server, wss_handler *handler, void *context);
/* Typed messages: JSON objects, nested at most 128 deep, whose type member is this string. type is copied: 1 to
   128 bytes of UTF-8, else WSS_ERR_ARGUMENT or WSS_ERR_UTF8. */
WSSERVER_API int wss_on_message(wss_server *server, const char *type, wss_handler *handler, void *context);
/* Every data message, raw, before the typed handlers. */
WSSERVER_API int wss_on_data(wss_server *server, wss_handler *handler, void *context);
/* The connection's queue had reached half its limit and has fallen to a quarter: send again. */
WSSERVER_API int wss_on_drain(wss_server *server, wss_handler *handler, void *context);
/* Decides who may connect: the handler answers with wss_accept or wss_refuse, at once or later; unanswered
   requests end at the handshake deadline with 503. One handler: a second call replaces the first. Without one
   everybody may. */
WSSERVER_API int wss_on_upgrade(wss_server *server, wss_handler *handler, void *context);
/* Answers plain GET, HEAD and OPTIONS requests with wss_reply, at once or later. One handler. Without one: 426. */
WSSERVER_API int wss_on_http(wss_server *server, wss_handler *handler, void *context);

/* Requests, for upgrade and http handlers. Returned strings end in NUL and die with the event. The copying
   readers write at most size bytes, NUL included, into out, and the full length into *length (may be NULL); on
   error out becomes "". WSS_ERR_MISSING, WSS_ERR_SPACE, WSS_ERR_ARGUMENT. */

WSSERVER_API const char *wss_request_method(const wss_request *request);
WSSERVER_API const char *wss_request_target(const wss_request *request); /* path and query as sent */
/* Value of a header line, name without regard to case; NULL where missing. The first where there are several. */
WSSERVER_API const char *wss_request_header(const wss_request *request, const char *name);
/* Header line number index, as sent, repeated names included. *value may be NULL. NULL past the end. */
WSSERVER_API const char *wss_request_header_at(const wss_request *request, size_t index, const char **value);
/* Path with %XX decoded; WSS_ERR_UTF8 where the result is not UTF-8 or holds NUL. RFC 3986 section 2.1. */
WSSERVER_API int wss_request_path(const wss_request *request, char *out, size_t size, size_t *length);
/* First query parameter of that name, %XX and + decoded; WSS_ERR_UTF8 likewise. */
WSSERVER_API int wss_request_query(const wss_request *request, const char *name, char *out, size_t size,
                                   size_t *length);
WSSERVER_API int wss_request_cookie(const wss_request *request, const char *name, char *out, size_t size,
                                    size_t *length);
/* Offered subprotocol number index; of more than 64 the first. */
WSSERVER_API int wss_request_protocol(const wss_request *request, size_t index, char *out, size_t size,
                                      size_t *length);
/* Address of the peer, "" for Unix sockets; *port may be NULL. */
WSSERVER_API const char *wss_request_peer(const wss_request *request, int *port);

/* Answers an upgrade request: lets the client in. protocol: one it offered, or NULL. headers: further lines of the 101.
   user: becomes the connection's pointer, owned by the server on WSS_OK only. From then on the connection takes
   sends, wss_close and wss_pause; they go behind the answer. WSS_ERR_PROTOCOL; and like the other two WSS_ERR_GONE,
   _ANSWERED, _HEADER, _ARGUMENT (a plain request too), _MEMORY, _BUDGET, _QUEUE_FULL, _STOPPED. any. */
WSSERVER_API int wss_accept(wss_server *server, wss_conn conn, const char *protocol, const wss_header *headers,
                            size_t header_count, void *user);
/* Answers an upgrade request with an HTTP status and a body. any. */
WSSERVER_API int wss_refuse(wss_server *server, wss_conn conn, const wss_answer *answer);
/* Answers a plain HTTP request; HEAD requests get no body. The connection closes after it. any. */
WSSERVER_API int wss_reply(wss_server *server, wss_conn conn, const wss_answer *answer);

/* Sending. any. WSS_OK: accepted. WSS_ERR_GONE, WSS_ERR_FULL (that connection's queue), WSS_ERR_QUEUE_FULL
   (work for the networking thread), WSS_ERR_BUDGET, WSS_ERR_MEMORY, WSS_ERR_STOPPED, WSS_ERR_ARGUMENT,
   WSS_ERR_TOO_BIG, WSS_ERR_JSON, WSS_ERR_DEPTH, WSS_ERR_UTF8, and what a writer left in args. On error nothing was
   queued. A typed message is {"__MESSAGE__":type, members of args}: type is 1 to 128 bytes of UTF-8, args nest at most
   128 deep. */

WSSERVER_API int wss_send(wss_server *server, wss_conn conn, const char *type, wss_args args);
/* opcode: WSS_TEXT (must be UTF-8) or WSS_BINARY. */
WSSERVER_API int wss_send_data(wss_server *server, wss_conn conn, int opcode, const void *data, size_t size);
/* As wss_send; takes the place of a message of the same key (up to 64 bytes) that still waits in the queue. Where none
   does, the queue may grow to twice its limit. */
WSSERVER_API int wss_send_latest(wss_server *server, wss_conn conn, const char *key, const char *type,
                                 wss_args args);
/* To every open connection, made once and shared. A connection whose queue is full is treated by the send policy and
   counted in wss_stats.refused_full: it does not fail the call. */
WSSERVER_API int wss_broadcast(wss_server *server, const char *type, wss_args args);
WSSERVER_API int wss_broadcast_data(wss_server *server, int opcode, const void *data, size_t size);
/* Leaves one connection out. */
WSSERVER_API int wss_broadcast_except(wss_server *server, wss_conn except, const char *type, wss_args args);
WSSERVER_API int wss_broadcast_data_except(wss_server *server, wss_conn except, int opcode, const void *data,
                                           size_t size);
/* Takes the place of a message of the same key that still waits in a queue. */
WSSERVER_API int wss_broadcast_latest(wss_server *server, const char *key, const char *type, wss_args args);

/* Connections. any. WSS_ERR_GONE for those that are closed or closing; WSS_ERR_ARGUMENT; of a reason that is not UTF-8
   WSS_ERR_UTF8. From other threads, and in a posted function, wss_close, wss_pause and wss_resume may also fail with
   WSS_ERR_MEMORY, WSS_ERR_BUDGET or WSS_ERR_STOPPED, the latter two with WSS_ERR_QUEUE_FULL. */

/* Sends what is queued, then Close with this code (1000 to 1003, 1007 to 1014, 3000 to 4999) and reason (UTF-8, up to
   123 bytes, may be NULL). No further handler of this connection begins, but for disconnect, and for connect if that is
   due; one that runs on another thread may finish. RFC 6455 section 7.1.2. */
WSSERVER_API int wss_close(wss_server *server, wss_conn conn, int code, const char *reason);
/* Open connections: counted from before connect until before disconnect handlers. */
WSSERVER_API size_t wss_count(const wss_server *server);
/* What was accepted for this connection and not yet taken by the kernel, in bytes of memory, as max_queued counts them;
   0 where it is gone. */
WSSERVER_API size_t wss_buffered(const wss_server *server, wss_conn conn);
/* The connection's own pointer, from wss_accept on (which sets it), or connect, until the disconnect handlers have run.
   Replacing one does not free it. */
WSSERVER_API int wss_set_user(wss_server *server, wss_conn conn, void *user);
/* Stops reading from a connection, and goes on. Messages wait in the network meanwhile, also those of a client that
   has gone since: its end is told behind them. */
WSSERVER_API int wss_pause(wss_server *server, wss_conn conn);
WSSERVER_API int wss_resume(wss_server *server, wss_conn conn);
/* Open connection after this one ({0} begins), id 0 at the end. Visits each that stays open once, none that is closing
   already. */
WSSERVER_API wss_conn wss_next(const wss_server *server, wss_conn conn);
WSSERVER_API int wss_get_info(wss_server *server, wss_conn conn, wss_info *info);
WSSERVER_API void wss_get_stats(wss_server *server, wss_stats *stats);
/* The same as text for monitors (Prometheus, version 0.0.4), with NUL; *length (may be NULL) without it, also on
   WSS_ERR_SPACE: then there is none. Some 8 KiB. WSS_ERR_ARGUMENT. */
WSSERVER_API int wss_stats_text(wss_server *server, char *out, size_t size, size_t *length);

/* Work. */

/* Runs function(arg) on the networking thread, in the order of posting, also if posted before that runs; where it
   never does, in wss_destroy. any. WSS_ERR_QUEUE_FULL, _MEMORY, _BUDGET, _STOPPED, _ARGUMENT: then it never runs. */
WSSERVER_API int wss_post(wss_server *server, void (*function)(void *arg), void *arg);
/* Calls handler once after delay_ms (negative: at once), or every repeat_ms from then on where that is above 0.
   e->context is context. Those due in the same millisecond run in the order in which they were started; one that
   repeats is started anew each time it is due. any. .id 0: out of memory, stopping, or more posted than may wait. */
WSSERVER_API wss_timer wss_timer_start(wss_server *server, int64_t delay_ms, int64_t repeat_ms, wss_handler *handler,
                                       void *context);
/* WSS_OK: its handler does not run after this. WSS_ERR_BUSY: nor does it, but another thread is in it at this moment.
   WSS_ERR_GONE: it had fired, or was cancelled already, or is none. WSS_ERR_ARGUMENT. any. */
WSSERVER_API int wss_timer_cancel(wss_server *server, wss_timer timer);

/* Queues: work for a thread of yours. */

/* options: allocator, max_posted and max_posted_bytes are used; may be NULL. NULL on failure, with *why filled (why may
   be NULL): WSS_ERR_ARGUMENT, _MEMORY, _SYSTEM. */
WSSERVER_API wss_queue *wss_queue_create(const wss_options *options, wss_error *why);
/* any. WSS_ERR_QUEUE_FULL, WSS_ERR_MEMORY, WSS_ERR_ARGUMENT, WSS_ERR_STOPPED while it is destroyed. */
WSSERVER_API int wss_queue_post(wss_queue *queue, void (*function)(void *arg), void *arg);
/* Runs work until wss_queue_stop, or until the last server that uses this queue has stopped, its events were
   delivered, and what had been posted by then has run. WSS_OK; WSS_ERR_BUSY if another thread drains it, or from inside
   of that. */
WSSERVER_API int wss_queue_run(wss_queue *queue);
/* Waits up to milliseconds (-1: for ever) for work, runs what is there, at most 256 posts and events, returns WSS_OK;
   WSS_ERR_STOPPED where wss_queue_run would return; WSS_ERR_BUSY. */
WSSERVER_API int wss_queue_poll(wss_queue *queue, int milliseconds);
/* Makes wss_queue_run return after the work in hand. any, signal. */
WSSERVER_API void wss_queue_stop(wss_queue *queue);
/* Readable while there is work. Owned by the queue. any. */
WSSERVER_API int wss_queue_fd(const wss_queue *queue);
/* Runs here what was posted and not run. WSS_ERR_BUSY while a server uses it or a thread drains it. NULL is ignored. */
WSSERVER_API int wss_queue_destroy(wss_queue *queue);

/* JSON. These work without a server, on any thread. */

/* Args from text that ends in NUL. Not copied, not checked: the send checks. */
WSSERVER_API wss_args wss_json(const char *text);
/* WSS_OK if text is one valid JSON value (RFC 8259) nested at most max_depth deep (0: 128); WSS_ERR_JSON,
   _DEPTH, _UTF8, _ARGUMENT. */
WSSERVER_API int wss_json_check(const char *text, size_t length, int max_depth);

/* Readers. key: name of a member of the object args, its last where repeated; NULL: args itself is the value. *out is
   unchanged on error, but strings become "". WSS_ERR_MISSING, _TYPE, _RANGE, _JSON, _UTF8, _DEPTH, _SPACE, _ARGUMENT,
   and what a writer left in args. Each call reads the text from its beginning to its end; but the second read of long
   args that a handler was given makes an index, until the handlers have returned. */

/* Unescaped, with NUL; *length (may be NULL) without it, also on WSS_ERR_SPACE. Lone surrogates become U+FFFD. A string
   that holds U+0000 is WSS_ERR_TYPE without length: read as a C string it would be another one. */
WSSERVER_API int wss_get_string(wss_args args, const char *key, char *out, size_t size, size_t *length);
/* Any JSON number that is a whole number and fits, such as 1e3. */
WSSERVER_API int wss_get_int(wss_args args, const char *key, int64_t *out);
/* From 0 to 2^64 - 1. */
WSSERVER_API int wss_get_uint(wss_args args, const char *key, uint64_t *out);
WSSERVER_API int wss_get_double(wss_args args, const char *key, double *out);
WSSERVER_API int wss_get_bool(wss_args args, const char *key, int *out);
/* The value as it stands in the text, quotes included. Points into args. */
WSSERVER_API int wss_get_raw(wss_args args, const char *key, wss_args *out);
/* WSS_JSON_..., or a negative error. */
WSSERVER_API int wss_json_type(wss_args args, const char *key);
/* Walks an object or array: for (it = wss_iterate(v); wss_iterate_next(&it);). False at the end. */
WSSERVER_API wss_iterator wss_iterate(wss_args value);
WSSERVER_API int wss_iterate_next(wss_iterator *iterator);

/* Writer. Begins as an open object. key: UTF-8, NULL inside an array. Strings must be UTF-8. What fails first is told
   by wss_writer_args and the send: WSS_ERR_ARGUMENT (no key where one belongs, a key where none does, an end too many),
   _UTF8, _SPACE (of your buffer), _MEMORY, _DEPTH (256 levels), _RANGE, and of raw values _JSON. */

/* Writes into buffer; with buffer NULL into memory of its own that grows, to be freed with wss_writer_free. */
WSSERVER_API void wss_writer_init(wss_writer *writer, char *buffer, size_t size);
/* As with buffer NULL, by an allocator of your own, or that of a server (wss_get_options); NULL: realloc and free. */
WSSERVER_API void wss_writer_init_with(wss_writer *writer,
                                       void *(*allocator)(void *context, void *pointer, size_t old_size,
                                                          size_t new_size), void *context);
WSSERVER_API void wss_writer_free(wss_writer *writer);
/* Closes what is open and returns the object. It points into the writer's buffer. */
WSSERVER_API wss_args wss_writer_args(wss_writer *writer);
WSSERVER_API void wss_put_string(wss_writer *writer, const char *key, const char *text);
WSSERVER_API void wss_put_text(wss_writer *writer, const char *key, const char *text, size_t length);
/* Any bytes, as text: what is not UTF-8 becomes U+FFFD. */
WSSERVER_API void wss_put_bytes(wss_writer *writer, const char *key, const void *data, size_t size);
WSSERVER_API void wss_put_int(wss_writer *writer, const char *key, int64_t value);
WSSERVER_API void wss_put_uint(wss_writer *writer, const char *key, uint64_t value);
/* Shortest text that reads back as the same number. Infinities and NaN: WSS_ERR_RANGE. */
WSSERVER_API void wss_put_double(wss_writer *writer, const char *key, double value);
WSSERVER_API void wss_put_bool(wss_writer *writer, const char *key, int value);
WSSERVER_API void wss_put_null(wss_writer *writer, const char *key);
/* Any JSON value, checked. */
WSSERVER_API void wss_put_raw(wss_writer *writer, const char *key, wss_args value);
WSSERVER_API void wss_put_object(wss_writer *writer, const char *key); /* until wss_put_end */
WSSERVER_API void wss_put_array(wss_writer *writer, const char *key);  /* until wss_put_end */
WSSERVER_API void wss_put_end(wss_writer *writer);

#ifdef __cplusplus
}
#endif
#endif /* WSSERVER_H */

/* Everything below is the implementation. */
#if defined(WSSERVER_IMPLEMENTATION) && !defined(WSSERVER_IMPLEMENTATION_INCLUDED)
#define WSSERVER_IMPLEMENTATION_INCLUDED

/* ---- [config] ----------------------------------------------------------------------------------------------
   purpose  switches, system headers, fixed bounds
   knows    nothing */

/* Macros you may define before the implementation (none changes a public type):
       WSSERVER_IMPLEMENTATION  compile the implementation in this file
       WSSERVER_STATIC          make every function static (declarations and implementation in one file)
       WSSERVER_API             linkage of the public functions (default: extern)
       WSSERVER_REALLOC(p, n)   default allocator, with WSSERVER_FREE(p)
       WSSERVER_FREE(p)         default: free
       WSSERVER_SYSTEM(name)    the name behind which each system call is made (default: the call itself)
       WSSERVER_NO_SIMD         no vector instructions: text beyond ASCII is checked ten to thirty times slower */

#if !defined(__linux__)
#error "wsserver.h: Linux only (epoll, eventfd)"
#endif
#include <errno.h>
#if defined(__GLIBC__) && !defined(__USE_MISC)
#error "wsserver.h: include it before system headers, or compile with -D_GNU_SOURCE or -std=gnu11"
#endif
#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Vectors: on x86-64 chosen at run time, on 64-bit ARM always there. Everything works without, but
   checking text and unmasking are slower. */
#if !defined(WSSERVER_NO_SIMD) && defined(__x86_64__)
#include <immintrin.h>
#define WSS__CONFIG_SIMD 1
#elif !defined(WSSERVER_NO_SIMD) && defined(__AARCH64EL__)
#include <arm_neon.h>
#define WSS__CONFIG_SIMD 1
#endif

#if !defined(WSSERVER_SYSTEM)
#define WSSERVER_SYSTEM(name) name
#endif
#if defined(WSSERVER_REALLOC) != defined(WSSERVER_FREE)
#error "wsserver.h: define both WSSERVER_REALLOC and WSSERVER_FREE, or neither"
#endif
#if defined(WSSERVER_STATIC) && !defined(WSS__CONFIG_LINKAGE)
#error "wsserver.h: it was included before without WSSERVER_STATIC: define that before the first include"
#endif
#if !defined(WSSERVER_REALLOC)
#define WSSERVER_REALLOC(pointer, size) realloc(pointer, size)
#define WSSERVER_FREE(pointer) free(pointer)
#endif

/* ---- [base] ------------------------------------------------------------------------------------------------
   purpose  byte order, case folding, spans, sizes
   knows    nothing
   owns     no state; size arithmetic that could overflow stands here */

/* What is always true of states; the tests define this, so that it ends the program where it is not. */
#if !defined(WSS__BASE_ASSERT)
#define WSS__BASE_ASSERT(truth) ((void)0)
#endif

/* Bytes that belong to somebody else, not terminated. */
typedef struct wss__span {
    const char *data;
    size_t size;
} wss__span;

/* 64 bits that several threads reach. On 32-bit x86 a struct aligns them to 4 only: then they can straddle a
   cache line, and are no longer read in one piece. */
typedef uint64_t wss__atomic64 __attribute__((__aligned__(8)));

static wss__span wss__base_span(const char *data, size_t size) {
    wss__span span = {data, size};
    return span;
}

static wss__span wss__base_text(const char *text) {
    return wss__base_span(text, text ? strlen(text) : 0);
}

static int wss__base_equal(wss__span a, wss__span b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Not tolower(): that depends on the process's locale. */
static char wss__base_lower(char c) {
    return (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

static int wss__base_equal_fold(wss__span a, wss__span b) {
    if (a.size != b.size) return 0;
    if (wss__base_equal(a, b)) return 1; /* how nearly everybody writes it */
    for (size_t i = 0; i < a.size; i++)
        if (wss__base_lower(a.data[i]) != wss__base_lower(b.data[i])) return 0;
    return 1;
}

static uint64_t wss__base_load_be(const char *bytes, int count) {
    uint64_t value = 0;
    for (int i = 0; i < count; i++) value = value << 8 | (unsigned char)bytes[i];
    return value;
}

static void wss__base_store_be(char *bytes, uint64_t value, int count) {
    for (int i = count; i-- > 0; value >>= 8) bytes[i] = (char)(unsigned char)(value & 0xff);
}

static size_t wss__base_min(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t wss__base_max(size_t a, size_t b) {
    return a > b ? a : b;
}

/* a + b, or SIZE_MAX where that does not fit: an allocation of it then fails cleanly. */
static size_t wss__base_add(size_t a, size_t b) {
    return b > SIZE_MAX - a ? SIZE_MAX : a + b;
}

/* a * b, saturating likewise. */
static size_t wss__base_multiply(size_t a, size_t b) {
    return b != 0 && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}

/* Takes what stands before separator, or all where there is none: rest->data is NULL then. */
static wss__span wss__base_take(wss__span *rest, char separator) {
    wss__span part = *rest;
    const char *at = rest->size ? (const char *)memchr(rest->data, separator, rest->size) : NULL;
    if (at) part.size = (size_t)(at - part.data);
    *rest = at ? wss__base_span(at + 1, rest->size - part.size - 1) : wss__base_span(NULL, 0);
    return part;
}

/* Takes a prefix, compared by equal. False, and nothing taken, where another one stands there. */
static int wss__base_take_prefix(wss__span *rest, const char *prefix, int (*equal)(wss__span, wss__span)) {
    size_t size = strlen(prefix);
    if (rest->size < size || !equal(wss__base_span(rest->data, size), wss__base_span(prefix, size))) return 0;
    *rest = wss__base_span(rest->data + size, rest->size - size);
    return 1;
}

/* What stands between these two, if it begins and ends with them; else all. */
static wss__span wss__base_inside(wss__span text, char open, char close) {
    int wrapped = text.size > 1 && text.data[0] == open && text.data[text.size - 1] == close;
    return wrapped ? wss__base_span(text.data + 1, text.size - 2) : text;
}

/* Whether something stands before this end. */
static int wss__base_ends_fold(wss__span text, wss__span end) {
    if (text.size <= end.size) return 0;
    return wss__base_equal_fold(wss__base_span(text.data + (text.size - end.size), end.size), end);
}

/* What stands before the port. The colons of an IPv6 address are inside its brackets. No port: its data is NULL. */
static wss__span wss__base_host(wss__span text, wss__span *port) {
    *port = text;
    if (text.size && text.data[0] == '[') wss__base_take(port, ']');
    wss__base_take(port, ':');
    return port->data ? wss__base_span(text.data, (size_t)(port->data - text.data) - 1) : text;
}

/* Takes the next item of a list whose items are parted by separator, blanks around it stripped. False at the end. */
static int wss__base_next_item(wss__span *rest, char separator, wss__span *item) {
    if (!rest->data) return 0;
    wss__span part = wss__base_take(rest, separator);
    const char *at = part.data;
    const char *stop = at + part.size;
    while (at < stop && (*at == ' ' || *at == '\t')) at++;
    while (stop > at && (stop[-1] == ' ' || stop[-1] == '\t')) stop--;
    *item = wss__base_span(at, (size_t)(stop - at));
    return 1;
}

/* Whether a list by commas, which may be NULL, has an entry. */
static int wss__base_has_item(wss__span list) {
    wss__span item = wss__base_span(NULL, 0);
    while (!item.size && wss__base_next_item(&list, ',', &item)) {
    }
    return item.size > 0;
}

/* At least one byte, and none but letters, digits and the others. */
static int wss__base_is_made_of(wss__span text, const char *others) {
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (c >= 'a' && c <= 'z') continue; /* as nearly all are */
        if ((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) continue;
        if (!c || !strchr(others, c)) return 0;
    }
    return text.size > 0;
}

/* Whether any of these characters stands in it. */
static int wss__base_holds(wss__span text, const char *any) {
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] && strchr(any, text.data[i])) return 1;
    return 0;
}

/* A whole decimal number from 0 to most, which is below INT_MAX / 10; or -1. */
static int wss__base_number(wss__span text, int most) {
    int value = text.size ? 0 : -1;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return -1;
        value = value * 10 + (text.data[i] - '0');
        if (value > most) return -1;
    }
    return value;
}

static int wss__base_hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = wss__base_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* For tables that strangers can fill: they must not know the seed. The topmost bits are the best. */
static uint64_t wss__base_hash(wss__span text, uint64_t seed) {
    for (size_t i = 0; i < text.size; i++) seed = (seed ^ (unsigned char)text.data[i]) * 0x9e3779b97f4a7c15u;
    return seed;
}

/* What the public readers promise of the caller's buffer: its text, of total bytes, ends in NUL, and where it does not
   fit there is none. */
static int wss__base_end_text(size_t total, char *out, size_t size, size_t *length) {
    if (length) *length = total;
    if (size) out[total < size ? total : 0] = 0;
    return total < size ? WSS_OK : WSS_ERR_SPACE;
}

static int wss__base_copy_out(wss__span from, char *out, size_t size, size_t *length) {
    if (from.size && from.size < size) memcpy(out, from.data, from.size);
    return wss__base_end_text(from.size, out, size, length);
}

#define WSS__BASE_ERROR(name, value, text) case value: return text;
#define WSS__BASE_CAUSE(name, value, code, text) case value: return text;
#define WSS__BASE_CODE(name, value, code, text) case value: return code;

WSSERVER_API const char *wss_strerror(int error) {
    switch (error) {
        WSS_ERROR_TABLE(WSS__BASE_ERROR)
    default: return "unknown error";
    }
}

WSSERVER_API const char *wss_cause_text(int cause) {
    switch (cause) {
        WSS_CAUSE_TABLE(WSS__BASE_CAUSE)
    default: return "unknown cause";
    }
}

/* The close code that goes with a cause. */
static int wss__base_code_of(int cause) {
    switch (cause) {
        WSS_CAUSE_TABLE(WSS__BASE_CODE)
    default: return WSS_CLOSE_LOST; /* never: there are no other causes */
    }
}
#undef WSS__BASE_ERROR
#undef WSS__BASE_CAUSE
#undef WSS__BASE_CODE

/* ---- [mem] -------------------------------------------------------------------------------------------------
   purpose  the one way to allocate, and the account of what is held
   knows    base
   owns     the byte account: reserve first, then allocate, undo on failure
   threads  any; the account is atomic */

enum { WSS__MEM_OVERHEAD = 16, WSS__MEM_SMALL = 4096 };
enum { WSS__MEM_LINE = 64 }; /* bytes of a cache line: what several threads write shares none with what all read */

typedef struct wss__mem {
    void *(*allocator)(void *context, void *pointer, size_t old_size, size_t new_size);
    void *context;
    size_t budget;
    char apart[WSS__MEM_LINE];
    size_t used; /* all threads write this and the next */
    size_t peak;
    char apart_too[WSS__MEM_LINE];
} wss__mem;

static void *wss__mem_default(void *context, void *pointer, size_t old_size, size_t new_size) {
    (void)context;
    (void)old_size;
    if (new_size) return WSSERVER_REALLOC(pointer, new_size);
    WSSERVER_FREE(pointer);
    return NULL;
}

static void wss__mem_init(wss__mem *mem, const wss_options *options) {
    memset(mem, 0, sizeof *mem);
    mem->allocator = options->allocator ? options->allocator : wss__mem_default;
    mem->context = options->allocator_context;
    mem->budget = options->memory_budget;
}

/* What an allocation costs: its size, the allocator's header, rounding. */
static inline size_t wss__mem_charge(size_t size) {
    return size ? wss__base_add(size, WSS__MEM_OVERHEAD + 15) & ~(size_t)15 : 0;
}

/* The last eighth of the budget is for small things, so that large ones cannot starve the replies of others. */
static size_t wss__mem_largest(const wss__mem *mem) {
    return mem->budget == WSS_UNLIMITED ? mem->budget : mem->budget - mem->budget / 8;
}

/* True while new clients should be turned away, so that those who are here can be served. */
static int wss__mem_is_tight(const wss__mem *mem) {
    return __atomic_load_n(&mem->used, __ATOMIC_RELAXED) > wss__mem_largest(mem);
}

/* True while those who are here have to be made fewer. */
static int wss__mem_is_pressed(const wss__mem *mem) {
    if (mem->budget == WSS_UNLIMITED) return 0;
    return __atomic_load_n(&mem->used, __ATOMIC_RELAXED) > mem->budget - mem->budget / 4;
}

static int wss__mem_reserve(wss__mem *mem, size_t charge) {
    size_t limit = charge > WSS__MEM_SMALL ? wss__mem_largest(mem) : mem->budget;
    size_t used = __atomic_load_n(&mem->used, __ATOMIC_RELAXED);
    do /* only what fits is added: a large request that fails must not make small ones fail meanwhile */
        if (used > limit || charge > limit - used) return 0;
    while (!__atomic_compare_exchange_n(&mem->used, &used, used + charge, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    used += charge;
    size_t peak = __atomic_load_n(&mem->peak, __ATOMIC_RELAXED);
    while (used > peak &&
           !__atomic_compare_exchange_n(&mem->peak, &peak, used, 1, /* always: good at once but in a race */
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return 1;
}

static void wss__mem_free(wss__mem *mem, void *pointer, size_t size) {
    if (!pointer) return;
    mem->allocator(mem->context, pointer, size, 0);
    __atomic_sub_fetch(&mem->used, wss__mem_charge(size), __ATOMIC_RELAXED);
}

/* Grows or shrinks to new_size > 0; NULL leaves the old block as it was. */
static void *wss__mem_resize(wss__mem *mem, void *pointer, size_t old_size, size_t new_size) {
    size_t before = pointer ? wss__mem_charge(old_size) : 0;
    size_t after = wss__mem_charge(new_size);
    if (after > before && !wss__mem_reserve(mem, after - before)) return NULL;
    void *moved = mem->allocator(mem->context, pointer, old_size, new_size);
    if (!moved && after > before) __atomic_sub_fetch(&mem->used, after - before, __ATOMIC_RELAXED);
    if (moved && after < before) __atomic_sub_fetch(&mem->used, before - after, __ATOMIC_RELAXED);
    return moved;
}

static void *wss__mem_get(wss__mem *mem, size_t size) {
    return wss__mem_resize(mem, NULL, 0, size);
}

static void *wss__mem_get_zeroed(wss__mem *mem, size_t size) {
    void *pointer = wss__mem_get(mem, size);
    if (pointer) memset(pointer, 0, size);
    return pointer;
}

/* Which error an allocation of this size that failed is. */
static int wss__mem_error(const wss__mem *mem, size_t size) {
    size_t used = __atomic_load_n(&mem->used, __ATOMIC_RELAXED);
    size_t limit = wss__mem_charge(size) > WSS__MEM_SMALL ? wss__mem_largest(mem) : mem->budget;
    return used > limit || wss__mem_charge(size) > limit - used ? WSS_ERR_BUDGET : WSS_ERR_MEMORY;
}
/* ---- [log] -------------------------------------------------------------------------------------------------
   purpose  lines for the application's log: levels, peers' text made harmless, floods cut
   knows    base
   owns     a line has no control characters; text of a peer is cut; a level that floods is silenced for a while and the
            number of lines lost is told; no lock is held while the callback runs
   threads  any */

enum {
    WSS__LOG_LINE = 400,
    WSS__LOG_PEER = 128,  /* bytes of a peer's text that are shown */
    WSS__LOG_BURST = 20,  /* lines of one level at once */
    WSS__LOG_REFILL = 100, /* milliseconds for one more */
    WSS__LOG_QUIET = 1000  /* without a line left out: the flood has ended */
};

typedef struct wss__log {
    const wss_options *options;
    pthread_mutex_t mutex;
    wss__atomic64 tell_at; /* lines were left out: when to say so though no other comes; atomic; 0: none were */
    struct {
        uint64_t full_at; /* when the burst would be whole again */
        uint64_t lost;
    } classes[WSS_LOG_DEBUG + 1];
} wss__log;

/* The options must stay where they are. */
static void wss__log_init(wss__log *log, const wss_options *options) {
    log->options = options;
    pthread_mutex_init(&log->mutex, NULL);
}

/* True if a line of this level may be written now; *lost is how many were not since the last one. */
static int wss__log_admit(wss__log *log, int level, uint64_t now, uint64_t *lost) {
    pthread_mutex_lock(&log->mutex);
    uint64_t *full_at = &log->classes[level].full_at;
    uint64_t next = (*full_at < now ? now : *full_at) + WSS__LOG_REFILL;
    int admitted = next <= now + (uint64_t)WSS__LOG_BURST * WSS__LOG_REFILL;
    if (admitted) *full_at = next;
    *lost = log->classes[level].lost;
    log->classes[level].lost = admitted ? 0 : *lost + 1;
    if (!admitted) __atomic_store_n(&log->tell_at, now + WSS__LOG_QUIET, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&log->mutex);
    return admitted;
}

static int wss__log_wants(const wss__log *log, int level) {
    return log->options->log && level <= log->options->log_level;
}

static void wss__log_tell_lost(const wss__log *log, int level, uint64_t lost) {
    char line[64];
    snprintf(line, sizeof line, "%llu lines of this level were left out", (unsigned long long)lost);
    log->options->log(log->options->log_context, level, line);
}

/* Says, once a flood has ended, how many lines were left out. */
static void wss__log_settle(wss__log *log, uint64_t now) {
    uint64_t at = __atomic_load_n(&log->tell_at, __ATOMIC_RELAXED);
    if (!at || at > now) return;
    __atomic_store_n(&log->tell_at, 0, __ATOMIC_RELAXED);
    for (int level = WSS_LOG_ERROR; level <= WSS_LOG_DEBUG; level++) {
        pthread_mutex_lock(&log->mutex);
        uint64_t lost = log->classes[level].lost;
        log->classes[level].lost = 0;
        pthread_mutex_unlock(&log->mutex);
        if (lost) wss__log_tell_lost(log, level, lost);
    }
}

__attribute__((__format__(__printf__, 4, 5))) static void wss__log_line(wss__log *log, int level, uint64_t now,
                                                                const char *format, ...) {
    char line[WSS__LOG_LINE];
    uint64_t lost = 0;
    if (!wss__log_wants(log, level) || !wss__log_admit(log, level, now, &lost)) return;
    if (lost) wss__log_tell_lost(log, level, lost);
    va_list values;
    va_start(values, format);
    vsnprintf(line, sizeof line, format, values);
    va_end(values);
    log->options->log(log->options->log_context, level, line);
}

/* A peer's text as it may stand in a log: printable ASCII, the rest as \xNN, cut. */
static const char *wss__log_escape(wss__span text, char out[WSS__LOG_PEER * 4 + 4]) {
    size_t size = wss__base_min(text.size, WSS__LOG_PEER);
    char *at = out;
    for (size_t i = 0; i < size; i++) {
        unsigned char octet = (unsigned char)text.data[i];
        if (octet >= 0x20 && octet < 0x7f && octet != '\\' && octet != '"') *at++ = (char)octet;
        else at += snprintf(at, 5, "\\x%02x", octet);
    }
    *at = 0;
    if (size < text.size) memcpy(at, "...", sizeof "...");
    return out;
}

/* ---- [hash] ------------------------------------------------------------------------------------------------
   purpose  SHA-1 and base64, as far as the opening handshake needs them
   knows    base
   owns     no state
   threads  any
   spec     RFC 3174, RFC 4648 section 4, RFC 6455 section 4.2.2 */

enum {
    WSS__HASH_BLOCK = 64,
    WSS__HASH_KEY = 24,   /* characters of a Sec-WebSocket-Key */
    WSS__HASH_ACCEPT = 29 /* characters of a Sec-WebSocket-Accept, NUL included */
};

static uint32_t wss__hash_rotate(uint32_t value, int bits) {
    return value << bits | value >> (32 - bits);
}

/* The functions f of RFC 3174 section 5. */
static uint32_t wss__hash_choose(uint32_t b, uint32_t c, uint32_t d) {
    return d ^ (b & (c ^ d));
}

static uint32_t wss__hash_parity(uint32_t b, uint32_t c, uint32_t d) {
    return b ^ c ^ d;
}

static uint32_t wss__hash_majority(uint32_t b, uint32_t c, uint32_t d) {
    return (b & c) | (d & (b | c));
}

/* One round, in which e becomes what the next one calls a. Five of them move no value at all: only the names change. */
#define WSS__HASH_ROUND(a, b, c, d, e, f, constant, word)               \
    (e) += wss__hash_rotate(a, 5) + f(b, c, d) + (constant) + (word);   \
    (b) = wss__hash_rotate(b, 30);
#define WSS__HASH_ROUNDS(from, f, constant)                             \
    for (size_t i = (from); i < (from) + 20; i += 5) {                  \
        WSS__HASH_ROUND(a, b, c, d, e, f, constant, w[i])               \
        WSS__HASH_ROUND(e, a, b, c, d, f, constant, w[i + 1])           \
        WSS__HASH_ROUND(d, e, a, b, c, f, constant, w[i + 2])           \
        WSS__HASH_ROUND(c, d, e, a, b, f, constant, w[i + 3])           \
        WSS__HASH_ROUND(b, c, d, e, a, f, constant, w[i + 4])           \
    }

static void wss__hash_block(uint32_t sum[5], const char *block) {
    uint32_t w[80];
    uint32_t a = sum[0];
    uint32_t b = sum[1];
    uint32_t c = sum[2];
    uint32_t d = sum[3];
    uint32_t e = sum[4];
    memcpy(w, block, WSS__HASH_BLOCK);
    for (size_t i = 0; i < 16; i++) w[i] = ntohl(w[i]);
    for (size_t i = 16; i < 80; i++) w[i] = wss__hash_rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    WSS__HASH_ROUNDS(0, wss__hash_choose, 0x5a827999u)
    WSS__HASH_ROUNDS(20, wss__hash_parity, 0x6ed9eba1u)
    WSS__HASH_ROUNDS(40, wss__hash_majority, 0x8f1bbcdcu)
    WSS__HASH_ROUNDS(60, wss__hash_parity, 0xca62c1d6u)
    sum[0] += a;
    sum[1] += b;
    sum[2] += c;
    sum[3] += d;
    sum[4] += e;
}

#undef WSS__HASH_ROUND
#undef WSS__HASH_ROUNDS

static void wss__hash_sha1(const char *data, size_t size, unsigned char digest[20]) {
    uint32_t sum[5] = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u};
    char last[WSS__HASH_BLOCK * 2] = {0};
    size_t rest = size % WSS__HASH_BLOCK;
    size_t whole = size - rest;
    for (size_t at = 0; at < whole; at += WSS__HASH_BLOCK) wss__hash_block(sum, data + at);
    /* What is left, one bit, zeros, and the length in bits fill one block or two. */
    size_t padded = rest < WSS__HASH_BLOCK - 8 ? WSS__HASH_BLOCK : WSS__HASH_BLOCK * 2;
    if (rest) memcpy(last, data + whole, rest);
    last[rest] = (char)-128;
    wss__base_store_be(last + padded - 8, (uint64_t)size * 8, 8);
    for (size_t at = 0; at < padded; at += WSS__HASH_BLOCK) wss__hash_block(sum, last + at);
    for (int i = 0; i < 5; i++) sum[i] = htonl(sum[i]);
    memcpy(digest, sum, sizeof sum);
}

static const char wss__hash_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Writes (size + 2) / 3 * 4 characters and NUL. */
static size_t wss__hash_base64(const unsigned char *data, size_t size, char *out) {
    char *to = out;
    for (size_t at = 0; at < size; at += 3) {
        size_t left = size - at;
        uint32_t bits = (uint32_t)data[at] << 16;
        if (left > 1) bits |= (uint32_t)data[at + 1] << 8;
        if (left > 2) bits |= data[at + 2];
        *to++ = wss__hash_alphabet[bits >> 18];
        *to++ = wss__hash_alphabet[bits >> 12 & 63];
        *to++ = (char)(left > 1 ? wss__hash_alphabet[bits >> 6 & 63] : '=');
        *to++ = (char)(left > 2 ? wss__hash_alphabet[bits & 63] : '=');
    }
    *to = 0;
    return (size_t)(to - out);
}

/* Base64 of 16 bytes. Bits of the last character that mean nothing may be set: they are in the example of RFC 6455
   section 4.1, and in keys that are made of 22 random characters. */
static int wss__hash_is_key(wss__span text) {
    if (text.size != WSS__HASH_KEY || memcmp(text.data + WSS__HASH_KEY - 2, "==", 2) != 0) return 0;
    return wss__base_is_made_of(wss__base_span(text.data, WSS__HASH_KEY - 2), "+/");
}

/* key must have passed wss__hash_is_key. */
static void wss__hash_accept(wss__span key, char out[WSS__HASH_ACCEPT]) {
    static const char suffix[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char joined[WSS__HASH_KEY + sizeof suffix - 1];
    unsigned char digest[20];
    memcpy(joined, key.data, WSS__HASH_KEY);
    memcpy(joined + WSS__HASH_KEY, suffix, sizeof suffix - 1);
    wss__hash_sha1(joined, sizeof joined, digest);
    wss__hash_base64(digest, sizeof digest, out);
}
/* ---- [utf8] ------------------------------------------------------------------------------------------------
   purpose  validator that can stop and go on at any byte, many bytes at once where the processor can; encoder of one
            character; rule for names
   knows    config, base
   owns     the state of a stream fits in a word; a rejected stream stays rejected
   threads  any
   spec     RFC 3629 section 4 */

/* What a stream waits for: how many bytes of a character are missing, and from where to where the next of them
   may be, 8 bits each. 0: between characters. */
typedef uint32_t wss__utf8;

enum { WSS__UTF8_BLOCK = 16, WSS__UTF8_NAME_MAX = 128 };

#define WSS__UTF8_REJECT ((wss__utf8)0x1ff00) /* one is missing, from ff to 00: no byte is that, for ever */

static wss__utf8 wss__utf8_want(uint32_t missing, uint32_t from, uint32_t to) {
    return missing << 16 | from << 8 | to;
}

/* RFC 3629: the byte behind a lead tells overlong forms, surrogates and what is above U+10FFFF. */
static wss__utf8 wss__utf8_step(wss__utf8 state, char next) {
    uint32_t octet = (unsigned char)next;
    if (state) {
        if (octet < (state >> 8 & 0xff) || octet > (state & 0xff)) return WSS__UTF8_REJECT;
        return state >> 16 == 1 ? 0 : wss__utf8_want((state >> 16) - 1, 0x80, 0xbf);
    }
    if (octet < 0x80) return 0;
    if (octet < 0xc2 || octet > 0xf4) return WSS__UTF8_REJECT;
    if (octet < 0xe0) return wss__utf8_want(1, 0x80, 0xbf);
    if (octet < 0xf0) return wss__utf8_want(2, octet == 0xe0 ? 0xa0 : 0x80, octet == 0xed ? 0x9f : 0xbf);
    return wss__utf8_want(3, octet == 0xf0 ? 0x90 : 0x80, octet == 0xf4 ? 0x8f : 0xbf);
}

/* Length of a prefix that is ASCII. It may end early. */
static size_t wss__utf8_ascii(const char *data, size_t size) {
    const uint64_t high = UINT64_C(0x8080808080808080);
    uint64_t words[4];
    size_t at = 0;
    for (; size - at >= sizeof words; at += sizeof words) {
        memcpy(words, data + at, sizeof words);
        if ((words[0] | words[1] | words[2] | words[3]) & high) break;
    }
    for (; size - at >= sizeof words[0]; at += sizeof words[0]) {
        memcpy(words, data + at, sizeof words[0]);
        if (words[0] & high) break;
    }
    return at;
}

#ifdef WSS__CONFIG_SIMD

/* Many bytes at a time. Each byte is judged with the one before it: three tables, looked up by half a byte
   each, hold one bit per kind of error, and a bit that is set in all three is an error of that kind. A second
   continuation byte in a row (PAIR) is one, unless a lead of three or four bytes stands two or three places
   before. */
enum {
    WSS__UTF8_SHORT = 1,    /* a lead without its continuation */
    WSS__UTF8_STRAY = 2,    /* a continuation without a lead */
    WSS__UTF8_OVER3 = 4,    /* e0 80-9f: overlong */
    WSS__UTF8_HIGH = 8,     /* f4 90-bf, f5-ff 90-bf: above U+10FFFF */
    WSS__UTF8_SURROGATE = 16, /* ed a0-bf */
    WSS__UTF8_OVER2 = 32,   /* c0, c1: overlong */
    WSS__UTF8_EDGE = 64,    /* f0 80-8f: overlong; f5-ff 80-8f: above U+10FFFF */
    WSS__UTF8_PAIR = 128,   /* a continuation after a continuation */
    WSS__UTF8_ANY = WSS__UTF8_SHORT | WSS__UTF8_STRAY | WSS__UTF8_PAIR,
    WSS__UTF8_LAST = WSS__UTF8_ANY | WSS__UTF8_HIGH | WSS__UTF8_EDGE,
    WSS__UTF8_NEXT = WSS__UTF8_STRAY | WSS__UTF8_OVER2 | WSS__UTF8_PAIR
};

/* Twice, as the widest vectors look up in two halves. */
#define WSS__UTF8_TABLE(...) {__VA_ARGS__, __VA_ARGS__}

/* By the upper half of the byte before, its lower half, and the upper half of the byte itself. */
static const unsigned char wss__utf8_judges[3][32] = {
    WSS__UTF8_TABLE(
        WSS__UTF8_STRAY, WSS__UTF8_STRAY, WSS__UTF8_STRAY, WSS__UTF8_STRAY, WSS__UTF8_STRAY, WSS__UTF8_STRAY,
        WSS__UTF8_STRAY, WSS__UTF8_STRAY, WSS__UTF8_PAIR, WSS__UTF8_PAIR, WSS__UTF8_PAIR, WSS__UTF8_PAIR,
        WSS__UTF8_SHORT | WSS__UTF8_OVER2, WSS__UTF8_SHORT, WSS__UTF8_SHORT | WSS__UTF8_OVER3 | WSS__UTF8_SURROGATE,
        WSS__UTF8_SHORT | WSS__UTF8_HIGH | WSS__UTF8_EDGE),
    WSS__UTF8_TABLE(
        WSS__UTF8_ANY | WSS__UTF8_OVER3 | WSS__UTF8_OVER2 | WSS__UTF8_EDGE, WSS__UTF8_ANY | WSS__UTF8_OVER2,
        WSS__UTF8_ANY, WSS__UTF8_ANY, WSS__UTF8_ANY | WSS__UTF8_HIGH, WSS__UTF8_LAST, WSS__UTF8_LAST, WSS__UTF8_LAST,
        WSS__UTF8_LAST, WSS__UTF8_LAST, WSS__UTF8_LAST, WSS__UTF8_LAST, WSS__UTF8_LAST,
        WSS__UTF8_LAST | WSS__UTF8_SURROGATE, WSS__UTF8_LAST, WSS__UTF8_LAST),
    WSS__UTF8_TABLE(
        WSS__UTF8_SHORT, WSS__UTF8_SHORT, WSS__UTF8_SHORT, WSS__UTF8_SHORT, WSS__UTF8_SHORT, WSS__UTF8_SHORT,
        WSS__UTF8_SHORT, WSS__UTF8_SHORT, WSS__UTF8_NEXT | WSS__UTF8_OVER3 | WSS__UTF8_EDGE,
        WSS__UTF8_NEXT | WSS__UTF8_OVER3 | WSS__UTF8_HIGH, WSS__UTF8_NEXT | WSS__UTF8_SURROGATE | WSS__UTF8_HIGH,
        WSS__UTF8_NEXT | WSS__UTF8_SURROGATE | WSS__UTF8_HIGH, WSS__UTF8_SHORT, WSS__UTF8_SHORT, WSS__UTF8_SHORT,
        WSS__UTF8_SHORT)
};

#undef WSS__UTF8_TABLE

/* Bytes of an unfinished character at the end of data, whose bytes so far are right. */
static size_t wss__utf8_unfinished(const char *data, size_t size) {
    for (size_t i = 1; i <= 3 && i <= size; i++) {
        unsigned char octet = (unsigned char)data[size - i];
        if (octet < 0x80) return 0;
        if (octet >= 0xc0) return i < (octet >= 0xf0 ? 4u : octet >= 0xe0 ? 3u : 2u) ? i : 0;
    }
    return 0;
}

/* Defines a function like wss__utf8_prefix for one kind of vector: lookup(table, index) replaces every byte of
   index by the table's byte of that place, minus(v, n) subtracts n but not below 0, any(v) is true where a bit
   is set. data begins a character. What stands before the first block is taken to be ASCII, so that block is
   judged in a copy. */
#define WSS__UTF8_DEFINE(name, attributes, vector, lookup, minus, any)                                        \
    attributes static size_t name(const char *data, size_t size) {                                            \
        char first[3 + sizeof(vector)] = {0};                                                                 \
        const char *block = first + 3;                                                                        \
        size_t at = 0;                                                                                        \
        vector judges[3], v, one, two, three; /* the block, and from so many bytes before on */               \
        for (int i = 0; i < 3; i++) memcpy(&judges[i], wss__utf8_judges[i], sizeof v);                        \
        if (size >= sizeof v) memcpy(first + 3, data, sizeof v);                                              \
        for (; size - at >= sizeof v; block = data + at) {                                                    \
            memcpy(&v, block, sizeof v);                                                                      \
            memcpy(&one, block - 1, sizeof v);                                                                \
            memcpy(&two, block - 2, sizeof v);                                                                \
            memcpy(&three, block - 3, sizeof v);                                                              \
            vector pair = (minus(two, 0xe0 - 0x80) | minus(three, 0xf0 - 0x80)) & 0x80;                       \
            vector error = lookup(judges[0], one / 16) & lookup(judges[1], one & 15) & lookup(judges[2], v / 16);\
            if (any(error ^ pair)) break;                                                                     \
            at += sizeof v;                                                                                   \
        }                                                                                                     \
        return at - wss__utf8_unfinished(data, at);                                                           \
    }

#if defined(__x86_64__)
typedef unsigned char wss__utf8_v16 __attribute__((vector_size(16)));
typedef unsigned char wss__utf8_v32 __attribute__((vector_size(32)));
#define WSS__UTF8_LOOKUP16(table, index) ((wss__utf8_v16)_mm_shuffle_epi8((__m128i)(table), (__m128i)(index)))
#define WSS__UTF8_LOOKUP32(table, index) ((wss__utf8_v32)_mm256_shuffle_epi8((__m256i)(table), (__m256i)(index)))
#define WSS__UTF8_MINUS16(v, n) ((wss__utf8_v16)_mm_subs_epu8((__m128i)(v), _mm_set1_epi8(n)))
#define WSS__UTF8_MINUS32(v, n) ((wss__utf8_v32)_mm256_subs_epu8((__m256i)(v), _mm256_set1_epi8(n)))
#define WSS__UTF8_ANY16(v) (_mm_movemask_epi8((__m128i)((v) == 0)) != 0xffff)
#define WSS__UTF8_ANY32(v) (!_mm256_testz_si256((__m256i)(v), (__m256i)(v)))
WSS__UTF8_DEFINE(wss__utf8_ssse3, __attribute__((__target__("ssse3"))), wss__utf8_v16, WSS__UTF8_LOOKUP16,
                 WSS__UTF8_MINUS16, WSS__UTF8_ANY16)
WSS__UTF8_DEFINE(wss__utf8_avx2, __attribute__((__target__("avx2"))), wss__utf8_v32, WSS__UTF8_LOOKUP32,
                 WSS__UTF8_MINUS32, WSS__UTF8_ANY32)
#undef WSS__UTF8_LOOKUP16
#undef WSS__UTF8_LOOKUP32
#undef WSS__UTF8_MINUS16
#undef WSS__UTF8_MINUS32
#undef WSS__UTF8_ANY16
#undef WSS__UTF8_ANY32

static size_t wss__utf8_wide(const char *data, size_t size) {
    if (__builtin_cpu_supports("avx2")) return wss__utf8_avx2(data, size);    /* elsewhere: older processors go on */
    return __builtin_cpu_supports("ssse3") ? wss__utf8_ssse3(data, size) : 0; /* elsewhere: older ones come here */
}
#else
#define WSS__UTF8_MINUS16(v, n) vqsubq_u8(v, vdupq_n_u8(n))
#define WSS__UTF8_ANY16(v) (vmaxvq_u8(v) != 0)
WSS__UTF8_DEFINE(wss__utf8_wide, , uint8x16_t, vqtbl1q_u8, WSS__UTF8_MINUS16, WSS__UTF8_ANY16)
#undef WSS__UTF8_MINUS16
#undef WSS__UTF8_ANY16
#endif
#undef WSS__UTF8_DEFINE
#endif

/* Length of a prefix that is whole valid characters. It may end early: what follows is looked at byte by byte. */
static size_t wss__utf8_prefix(const char *data, size_t size) {
    size_t at = wss__utf8_ascii(data, size);
#ifdef WSS__CONFIG_SIMD
    if (size - at >= (size_t)4 * WSS__UTF8_BLOCK) at += wss__utf8_wide(data + at, size - at);
#endif
    return at;
}

/* Goes on from state, 0 at the start. A text is complete and valid where the result is 0. A character that has begun
   is ended first, so that what follows it can go the quick way. */
static wss__utf8 wss__utf8_check(wss__utf8 state, const char *data, size_t size) {
    size_t at = 0;
    while (at < size && state != WSS__UTF8_REJECT) {
        for (int begun = 3; begun && state && at < size; begun--) state = wss__utf8_step(state, data[at++]);
        if (!state) at += wss__utf8_prefix(data + at, size - at);
        size_t stop = at + wss__base_min(size - at, WSS__UTF8_BLOCK);
        for (; at < stop; at++) state = wss__utf8_step(state, data[at]);
    }
    return state;
}

/* How many bytes at the beginning are whole characters; *wrong: how many behind them are to be replaced by one (the
   longest beginning of a character, or a byte: Unicode section 3.9); 0 at the end. */
static size_t wss__utf8_good(const char *data, size_t size, size_t *wrong) {
    size_t good = 0;
    size_t at = 0;
    wss__utf8 state = 0;
    while (at < size) {
        if (!state) at += wss__utf8_prefix(data + at, size - at);
        if (!state) good = at;
        if (at == size) break;
        state = wss__utf8_step(state, data[at]);
        if (state == WSS__UTF8_REJECT) break;
        at++;
    }
    if (!state) good = at;
    *wrong = at - good;
    if (state == WSS__UTF8_REJECT && !*wrong) *wrong = 1;
    return good;
}

/* Writes 1 to 4 bytes. What is no character becomes U+FFFD. */
static int wss__utf8_encode(uint32_t code, char *out) {
    static const unsigned char lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) code = 0xfffd;
    int count = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = count - 1; i > 0; i--, code >>= 6) out[i] = (char)(unsigned char)(0x80 | (code & 0x3f));
    out[0] = (char)(unsigned char)(lead[count] | code);
    return count;
}

/* Whether a text may be a message's type: WSS_OK, WSS_ERR_ARGUMENT or WSS_ERR_UTF8. */
static int wss__utf8_name(const char *text, wss__span *name) {
    *name = wss__base_text(text);
    if (!name->size || name->size > WSS__UTF8_NAME_MAX) return WSS_ERR_ARGUMENT;
    return wss__utf8_check(0, name->data, name->size) != 0 ? WSS_ERR_UTF8 : WSS_OK;
}

/* ---- [address] ---------------------------------------------------------------------------------------------
   purpose  addresses of peers: read from text, compared, written
   knows    base
   owns     no state; an IPv4 address is kept as the IPv6 one that stands for it, so that there is one of each
   threads  any
   spec     RFC 4291 sections 2.2 and 2.5.5.2 */

enum { WSS__ADDRESS_NONE = 0, WSS__ADDRESS_IP, WSS__ADDRESS_UNIX, WSS__ADDRESS_OTHER }; /* the last: somebody has one */

enum { WSS__ADDRESS_TEXT = 64 }; /* bytes of any address as text */

typedef struct wss__address {
    unsigned char bytes[16];
    uint16_t port;
    uint8_t kind;
} wss__address;

static wss__address wss__address_of(int kind, const unsigned char *bytes, size_t size, int port) {
    wss__address address;
    memset(&address, 0, sizeof address);
    address.kind = (uint8_t)kind;
    address.port = (uint16_t)port;
    if (size == 4) memset(address.bytes + 10, 0xff, 2);
    if (size) memcpy(address.bytes + 16 - size, bytes, size);
    return address;
}

static int wss__address_is_v4(const wss__address *address) {
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return address->kind == WSS__ADDRESS_IP && memcmp(address->bytes, mapped, sizeof mapped) == 0;
}

/* "" where there is none, "unix" for Unix sockets. */
static const char *wss__address_text(const wss__address *address, char out[WSS__ADDRESS_TEXT]) {
    int v4 = wss__address_is_v4(address);
    memcpy(out, address->kind == WSS__ADDRESS_UNIX ? "unix" : "\0\0\0\0", 5);
    if (address->kind == WSS__ADDRESS_IP)
        inet_ntop(v4 ? AF_INET : AF_INET6, address->bytes + (v4 ? 12 : 0), out, WSS__ADDRESS_TEXT);
    return out;
}

/* What connections of one address have in common: an IPv4 address, or the network (/64) of an IPv6 one. False: none. */
static int wss__address_key(const wss__address *address, char key[8]) {
    int v4 = wss__address_is_v4(address);
    memset(key, 0, 8);
    memcpy(key + (v4 ? 4 : 0), address->bytes + (v4 ? 12 : 0), v4 ? 4 : 8);
    return address->kind == WSS__ADDRESS_IP;
}

/* This machine: 127.0.0.0/8 or ::1. */
static int wss__address_is_loopback(const wss__address *address) {
    static const unsigned char one[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    if (wss__address_is_v4(address)) return address->bytes[12] == 127;
    return address->kind == WSS__ADDRESS_IP && memcmp(address->bytes, one, sizeof one) == 0;
}

/* An IPv4 or IPv6 address without brackets, port or zone. Returns its bits, 0 where it is none. */
static int wss__address_parse_plain(wss__span text, wss__address *address) {
    char name[INET6_ADDRSTRLEN];
    unsigned char bytes[16];
    if (wss__base_copy_out(text, name, sizeof name, NULL) != WSS_OK || strlen(name) != text.size) return 0;
    int bits = inet_pton(AF_INET, name, bytes) == 1 ? 32 : inet_pton(AF_INET6, name, bytes) == 1 ? 128 : 0;
    if (bits) *address = wss__address_of(WSS__ADDRESS_IP, bytes, (size_t)bits / 8, 0);
    return bits;
}

/* The same, also with a port behind it: an IPv6 address then stands in brackets. */
static int wss__address_parse(wss__span text, wss__address *address) {
    wss__span port;
    wss__span name = wss__base_host(text, &port);
    if (wss__address_parse_plain(text, address)) return 1;
    wss__span inside = wss__base_inside(name, '[', ']');
    if (inside.size == name.size && !port.data) return 0;
    int number = port.data ? wss__base_number(port, 65535) : 0;
    if (number < 0 || !wss__address_parse_plain(inside, address)) return 0;
    address->port = (uint16_t)number;
    return 1;
}

/* An address or a network, as 10.0.0.0/8 or fd00::/8, or "unix:" for all Unix sockets. *bits: how many of the 128 of an
   address must be the same. */
static int wss__address_parse_network(wss__span text, wss__address *network, int *bits) {
    *bits = 0;
    *network = wss__address_of(WSS__ADDRESS_UNIX, NULL, 0, 0);
    if (wss__base_equal(text, wss__base_text("unix:"))) return 1;
    wss__span name = wss__base_take(&text, '/');
    int all = wss__address_parse_plain(name, network);
    int some = text.data ? wss__base_number(text, all) : all;
    *bits = 128 - all + some;
    return all > 0 && some >= 0;
}

/* Whether an address is one of a list by commas, whose items wss__address_parse_network takes. */
static int wss__address_in(const wss__address *address, const char *list) {
    wss__span rest = wss__base_text(list);
    wss__span item;
    wss__address network;
    int bits;
    while (wss__base_next_item(&rest, ',', &item)) {
        if (!wss__address_parse_network(item, &network, &bits) || network.kind != address->kind) continue;
        int whole = bits / 8;
        int mask = 0xff00 >> bits % 8 & 0xff;
        if (memcmp(network.bytes, address->bytes, (size_t)whole) != 0) continue;
        if (!mask || !((network.bytes[whole] ^ address->bytes[whole]) & mask)) return 1;
    }
    return 0;
}

/* ---- [http] ------------------------------------------------------------------------------------------------
   purpose  request head to fields, upgrade rules, what an application reads of a request, replies
   knows    base, hash, utf8, address
   owns     a request's parts are offsets into base, so that the head may move; each ends in NUL; nothing
            is read past the given size; a field line too many refuses the request, none is ever dropped
   threads  any: no state
   spec     RFC 9110, RFC 9112, RFC 6455 section 4, RFC 3986, RFC 6265 section 4.2 */

enum {
    WSS__HTTP_FIELDS_MAX = 64, /* header lines; one more refuses the request */
    WSS__HTTP_METHOD_PEEK = 8  /* bytes of an unfinished head that are looked at before the rest is there */
};

enum { WSS__HTTP_GET = 1, WSS__HTTP_HEAD, WSS__HTTP_OPTIONS }; /* methods; 0: not known yet, or another */

/* The rules by which requests are refused: status, counter, the option that the log names, and the body, which says
   what to do to whoever connects for the first time and fails. */
#define WSS__HTTP_RULES(X)                                                                                            \
    X(WSS__HTTP_RULE_LINE_END, 400, WSS_REFUSED_MALFORMED, NULL,                                                      \
      "A line of the request does not end in CRLF.")                                                                  \
    X(WSS__HTTP_RULE_LINE, 400, WSS_REFUSED_MALFORMED, NULL,                                                          \
      "The first line of the request is not METHOD TARGET HTTP/1.1.")                                                 \
    X(WSS__HTTP_RULE_TLS, 400, WSS_REFUSED_MALFORMED, NULL,                                                           \
      "No TLS is spoken here: use ws:// or http://, or a proxy that ends TLS.")                                       \
    X(WSS__HTTP_RULE_TARGET, 400, WSS_REFUSED_MALFORMED, NULL,                                                        \
      "The target must begin with a slash, http://, https://, ws:// or wss://, and be printable ASCII without #.")    \
    X(WSS__HTTP_RULE_FIELD, 400, WSS_REFUSED_MALFORMED, NULL,                                                         \
      "A header line has no valid name before its colon.")                                                            \
    X(WSS__HTTP_RULE_VALUE, 400, WSS_REFUSED_MALFORMED, NULL,                                                         \
      "A header line holds a control character.")                                                                     \
    X(WSS__HTTP_RULE_HOST_LINE, 400, WSS_REFUSED_MALFORMED, NULL,                                                     \
      "The Host line is missing, or there are two, or it names no host.")                                             \
    X(WSS__HTTP_RULE_BODY, 400, WSS_REFUSED_MALFORMED, NULL,                                                          \
      "A request with a body is not taken here.")                                                                     \
    X(WSS__HTTP_RULE_METHOD, 405, WSS_REFUSED_METHOD, NULL,                                                           \
      "Only GET, and HEAD and OPTIONS of plain HTTP, are answered here.")                                             \
    X(WSS__HTTP_RULE_LINE_SIZE, 414, WSS_REFUSED_TARGET, "max_head",                                                  \
      "The first line of the request is too long.")                                                                   \
    X(WSS__HTTP_RULE_HEAD_SIZE, 431, WSS_REFUSED_HEADERS, "max_head",                                                 \
      "The header lines of the request are too long.")                                                                \
    X(WSS__HTTP_RULE_FIELDS, 431, WSS_REFUSED_HEADERS, NULL,                                                          \
      "The request has more than 64 header lines.")                                                                   \
    X(WSS__HTTP_RULE_HTTP, 505, WSS_REFUSED_HTTP, NULL,                                                               \
      "Only HTTP/1.1 is spoken here.")                                                                                \
    X(WSS__HTTP_RULE_OLD_HTTP, 426, WSS_REFUSED_NO_UPGRADE, NULL,                                                     \
      "A WebSocket needs HTTP/1.1, and this came as HTTP/1.0. A proxy must pass it on: nginx needs "                  \
      "proxy_http_version 1.1, and the lines Upgrade and Connection.")                                                \
    X(WSS__HTTP_RULE_UPGRADE_METHOD, 405, WSS_REFUSED_METHOD, NULL,                                                   \
      "A WebSocket request must use GET.")                                                                            \
    X(WSS__HTTP_RULE_CONNECTION, 400, WSS_REFUSED_MALFORMED, NULL,                                                    \
      "A WebSocket request needs the line Connection: Upgrade; a proxy may drop it.")                                 \
    X(WSS__HTTP_RULE_VERSION, 426, WSS_REFUSED_NO_UPGRADE, NULL,                                                      \
      "The line Sec-WebSocket-Version: 13 is missing: no other version is spoken here.")                              \
    X(WSS__HTTP_RULE_KEY, 400, WSS_REFUSED_MALFORMED, NULL,                                                           \
      "Sec-WebSocket-Key must be there once, with 16 bytes in base64.")                                               \
    X(WSS__HTTP_RULE_ORIGINS, 400, WSS_REFUSED_MALFORMED, NULL,                                                       \
      "The request has more than one Origin line.")                                                                   \
    X(WSS__HTTP_RULE_NO_UPGRADE, 426, WSS_REFUSED_NO_UPGRADE, NULL,                                                   \
      "This is a WebSocket server: connect with new WebSocket(\"ws://...\").")                                        \
    X(WSS__HTTP_RULE_ORIGIN, 403, WSS_REFUSED_ORIGIN, "origins",                                                      \
      "Pages of this origin may not connect.")                                                                        \
    X(WSS__HTTP_RULE_HOST, 421, WSS_REFUSED_HOST, "hosts",                                                            \
      "This host is not served here.")                                                                                \
    X(WSS__HTTP_RULE_REBINDING, 421, WSS_REFUSED_HOST, "hosts",                                                       \
      "This came from this very machine, and asks for a host that is not known to be it. Ask for localhost.")         \
    X(WSS__HTTP_RULE_PROXY_MISSING, 400, WSS_REFUSED_MALFORMED, "proxy_protocol",                                     \
      "A proxy's PROXY header must come first, and did not.")                                                         \
    X(WSS__HTTP_RULE_PROXY_UNASKED, 400, WSS_REFUSED_MALFORMED, "proxy_protocol",                                     \
      "A PROXY header is not taken from here.")                                                                       \
    X(WSS__HTTP_RULE_PER_ADDRESS, 503, WSS_REFUSED_PER_ADDRESS, "max_per_address",                                    \
      "This address has as many connections as it may have.")                                                         \
    X(WSS__HTTP_RULE_TIMEOUT, 408, WSS_REFUSED_TIMEOUT, "handshake_ms",                                               \
      "The request did not arrive in time.")                                                                          \
    X(WSS__HTTP_RULE_CROWDED, 408, WSS_REFUSED_TIMEOUT, "max_connections",                                            \
      "The request did not arrive within a second, and others wait.")                                                 \
    X(WSS__HTTP_RULE_MEMORY, 503, WSS_REFUSED_UNAVAILABLE, "memory_budget",                                           \
      "The server is short of memory. Try later.")                                                                    \
    X(WSS__HTTP_RULE_STOPPING, 503, WSS_REFUSED_UNAVAILABLE, NULL,                                                    \
      "The server is stopping. Try later.")                                                                           \
    X(WSS__HTTP_RULE_UNDECIDED, 503, WSS_REFUSED_UNAVAILABLE, "handshake_ms",                                         \
      "The server did not decide in time. Try later.")

#define WSS__HTTP_RULE_NAME(name, status, counter, option, text) name,
enum { WSS__HTTP_GOOD = 0, WSS__HTTP_RULES(WSS__HTTP_RULE_NAME) WSS__HTTP_RULE_COUNT };
#undef WSS__HTTP_RULE_NAME

typedef struct wss__http_rule {
    int status;
    int counter; /* WSS_REFUSED_* */
    const char *option;
    const char *text;
} wss__http_rule;

static const wss__http_rule *wss__http_rule_of(int number) {
#define WSS__HTTP_RULE_ROW(name, status, counter, option, text) {status, counter, option, text "\n"},
    static const wss__http_rule rules[] = {{0, 0, NULL, ""}, WSS__HTTP_RULES(WSS__HTTP_RULE_ROW)};
#undef WSS__HTTP_RULE_ROW
    return &rules[number];
}

/* Where a part of a request stands, counted from its base. */
typedef struct wss__http_part {
    uint32_t at;
    uint32_t size;
} wss__http_part;

typedef struct wss__http_field {
    wss__http_part name;
    wss__http_part value;
} wss__http_field;

/* The fields stand last: a copy needs the first count of them only. */
struct wss_request {
    char *base; /* the head; belongs to the caller, who sets this again when it moves */
    size_t size;
    int method;
    int minor;   /* of HTTP/1.x: 0, or 1 for all later ones */
    wss__http_part target;
    wss__http_part host; /* that of an absolute target, or of the Host line; size 0: none */
    wss__address client; /* told by a trusted proxy; else none */
    char peer[WSS__ADDRESS_TEXT]; /* address of the client, written by the owner of the socket */
    int port;
    size_t count;
    wss__http_field fields[WSS__HTTP_FIELDS_MAX];
};

/* Characters and small grammars. */

static int wss__http_is_token(wss__span text) {
    return wss__base_is_made_of(text, "-_!#$%&'*+.^`|~");
}

/* A field value. One CR or LF let through here would let its author write header lines. */
static int wss__http_is_value(wss__span text) {
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) return 0;
    }
    return 1;
}

/* Every printable character of ASCII but '#'. */
static int wss__http_is_target(wss__span text) {
    return wss__base_is_made_of(text, "!\"$%&'()*+,-./:;<=>?@[\\]^_`{|}~");
}

/* WSS__HTTP_GOOD, RULE_LINE or RULE_HTTP. A higher minor version is to be taken for the highest that is known: RFC 9110
   section 2.5. */
static int wss__http_check_version(wss__span text, int *minor) {
    if (text.size != 8 || memcmp(text.data, "HTTP/", 5) != 0 || text.data[6] != '.') return WSS__HTTP_RULE_LINE;
    int major = wss__base_number(wss__base_span(text.data + 5, 1), 9);
    *minor = wss__base_number(wss__base_span(text.data + 7, 1), 9);
    if (major < 0 || *minor < 0) return WSS__HTTP_RULE_LINE;
    if (*minor > 1) *minor = 1;
    return major == 1 ? WSS__HTTP_GOOD : WSS__HTTP_RULE_HTTP;
}

/* Takes the next byte of percent-encoded text. 0 at the end, -1 where a % has no two hex digits after it. */
static int wss__http_next_byte(wss__span *rest, int plus_is_space, char *octet) {
    size_t taken = 1;
    if (rest->size == 0) return 0;
    *octet = rest->data[0];
    if (*octet == '+' && plus_is_space) *octet = ' ';
    if (*octet == '%') {
        int high = rest->size > 2 ? wss__base_hex(rest->data[1]) : -1;
        int low = rest->size > 2 ? wss__base_hex(rest->data[2]) : -1;
        if (high < 0 || low < 0) return -1;
        *octet = (char)(unsigned char)(high * 16 + low);
        taken = 3;
    }
    *rest = wss__base_span(rest->data + taken, rest->size - taken);
    return 1;
}

/* RFC 3986 section 3.2.2: escapes may stand in it, and hardly ever do. */
static int wss__http_is_registered_name(wss__span name) {
    static const char others[] = "%.-_~!$&'()*+,;=";
    char octet;
    if (wss__base_is_made_of(name, others + 1)) return 1;
    int more = wss__base_is_made_of(name, others) ? 1 : -1;
    while (more > 0) more = wss__http_next_byte(&name, 0, &octet);
    return more == 0;
}

static int wss__http_is_ip6_literal(wss__span name) {
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (name.size < 4 || name.data[name.size - 1] != ']') return 0;
    int result = wss__base_copy_out(wss__base_span(name.data + 1, name.size - 2), text, sizeof text, NULL);
    return result == WSS_OK && inet_pton(AF_INET6, text, &address) == 1;
}

static int wss__http_is_host(wss__span host) {
    wss__span port;
    wss__span name = wss__base_host(host, &port);
    if (name.size == 0 || (port.data && wss__base_number(port, 65535) < 0)) return 0;
    return name.data[0] == '[' ? wss__http_is_ip6_literal(name) : wss__http_is_registered_name(name);
}

/* Parsing. */

/* Length of the head with its empty line, 0 while that is missing. Lines that end in a bare LF count here, so that the
   parser refuses them at once and nobody waits for more. from: bytes that earlier calls have looked at, so that a head
   which trickles in is scanned once and not once per byte. */
static size_t wss__http_find_end(const char *data, size_t size, size_t from) {
    size_t at = wss__base_max(from, 1);
    while (at < size) {
        const char *feed = (const char *)memchr(data + at, '\n', size - at);
        if (!feed) return 0;
        at = (size_t)(feed - data) + 1;
        if (feed[-1] == '\n' || (at > 2 && feed[-1] == '\r' && feed[-2] == '\n')) return at;
    }
    return 0;
}

/* An empty line before the request is skipped, one and no more: RFC 9112 section 2.2. */
static size_t wss__http_skip_line(const char *data, size_t size) {
    return size > 1 && data[0] == '\r' && data[1] == '\n' ? 2 : 0;
}

static int wss__http_begins_head(const char *data, size_t size) {
    size_t skip = wss__http_skip_line(data, size);
    return size - skip > 4 && memcmp(data + skip, "HEAD ", 5) == 0;
}

/* The rule by which to refuse a head of which this much is there, whole or not. Refuses nothing that parsing would not
   refuse alike, so the answer does not depend on how the bytes were cut into segments; but for the hello of a TLS
   client, which is known by its first byte. */
static int wss__http_check_prefix(const char *data, size_t size, int max_head) {
    size_t limit = max_head > 0 ? (size_t)max_head : (size_t)INT_MAX;
    size_t skip = wss__http_skip_line(data, size);
    size_t peek = wss__base_min(size - skip, WSS__HTTP_METHOD_PEEK);
    size_t method = 0;
    if (peek && data[skip] == 0x16) return WSS__HTTP_RULE_TLS;
    if (size == 1 && data[0] == '\r') return WSS__HTTP_GOOD;
    while (method < peek && data[skip + method] != ' ') method++;
    if (peek && !wss__http_is_token(wss__base_span(data + skip, method))) return WSS__HTTP_RULE_LINE;
    if (size <= limit) return WSS__HTTP_GOOD;
    int has_line = limit > skip && memchr(data + skip, '\n', limit - skip) != NULL;
    return has_line ? WSS__HTTP_RULE_HEAD_SIZE : WSS__HTTP_RULE_LINE_SIZE;
}

/* Takes a line that ends in CRLF. False for a bare LF: what one server takes for a line end and the next does
   not is how requests are smuggled. */
static int wss__http_take_line(wss__span *rest, wss__span *line) {
    *line = wss__base_take(rest, '\n');
    if (!rest->data || line->size == 0 || line->data[line->size - 1] != '\r') return 0;
    line->size--;
    return 1;
}

/* Notes where a part stands, and ends it with NUL: what follows it has been read. */
static wss__http_part wss__http_note(wss_request *request, wss__span text) {
    wss__http_part part = {(uint32_t)(text.data - request->base), (uint32_t)text.size};
    request->base[part.at + part.size] = 0;
    return part;
}

static wss__span wss__http_span(const wss_request *request, wss__http_part part) {
    return wss__base_span(request->base + part.at, part.size);
}

static wss__span wss__http_value(const wss_request *request, size_t index) {
    return wss__http_span(request, request->fields[index].value);
}

static int wss__http_is_named(const wss_request *request, size_t index, wss__span name) {
    return wss__base_equal_fold(wss__http_span(request, request->fields[index].name), name);
}

/* How many field lines have this name. *first is the value of the first of them. */
static size_t wss__http_lines(const wss_request *request, const char *name, wss__span *first) {
    wss__span wanted = wss__base_text(name);
    size_t lines = 0;
    *first = wss__base_span(NULL, 0);
    for (size_t i = 0; i < request->count; i++)
        if (wss__http_is_named(request, i, wanted) && lines++ == 0) *first = wss__http_value(request, i);
    return lines;
}

/* The value of the one field line of this name; no data where there is none, or more. */
static wss__span wss__http_only(const wss_request *request, const char *name) {
    wss__span value;
    return wss__http_lines(request, name, &value) == 1 ? value : wss__base_span(NULL, 0);
}

/* Takes the scheme off a URI and returns its default port; NULL for any that is not ours. */
static const char *wss__http_take_scheme(wss__span *uri) {
    static const char *const schemes[] = {"http://", "ws://", "https://", "wss://"};
    for (int i = 0; i < 4; i++)
        if (wss__base_take_prefix(uri, schemes[i], wss__base_equal_fold)) return i < 2 ? "80" : "443";
    return NULL;
}

/* An absolute target: its authority is the host. An empty path becomes "/" (RFC 9112 section 3.2.2), for which the
   authority moves over the second slash of its scheme. */
static int wss__http_parse_absolute(wss_request *request, wss__span target) {
    if (!wss__http_take_scheme(&target)) return WSS__HTTP_RULE_TARGET;
    size_t size = 0;
    while (size < target.size && target.data[size] != '/' && target.data[size] != '?') size++;
    size_t at = (size_t)(target.data - request->base);
    wss__span path = wss__base_span(target.data + size, target.size - size);
    if (!size) return WSS__HTTP_RULE_TARGET;
    request->host.size = (uint32_t)size;
    if (path.size && path.data[0] == '/') {
        request->host.at = (uint32_t)at;
    } else {
        request->host.at = (uint32_t)at - 1;
        memmove(request->base + at - 1, request->base + at, size);
        request->base[at + size - 1] = '/';
        path = wss__base_span(request->base + at + size - 1, path.size + 1);
    }
    request->target = wss__http_note(request, path);
    return WSS__HTTP_GOOD;
}

/* Notes where path and query stand. "*" stands for the server as a whole: RFC 9112 section 3.2.4. */
static int wss__http_parse_target(wss_request *request, wss__span target) {
    if (!wss__http_is_target(target)) return WSS__HTTP_RULE_TARGET;
    int whole = request->method == WSS__HTTP_OPTIONS && wss__base_equal(target, wss__base_text("*"));
    if (target.data[0] != '/' && !whole) return wss__http_parse_absolute(request, target);
    request->target = wss__http_note(request, target);
    return WSS__HTTP_GOOD;
}

static int wss__http_parse_line(wss_request *request, wss__span line) {
    static const char *const methods[] = {"GET", "HEAD", "OPTIONS"};
    wss__span method = wss__base_take(&line, ' ');
    wss__span target = wss__base_take(&line, ' ');
    if (!wss__http_is_token(method)) return WSS__HTTP_RULE_LINE;
    for (int i = 0; i < 3; i++)
        if (wss__base_equal(method, wss__base_text(methods[i]))) request->method = i + 1;
    int rule = wss__http_check_version(line, &request->minor);
    if (!rule && !request->method) rule = WSS__HTTP_RULE_METHOD;
    return rule ? rule : wss__http_parse_target(request, target);
}

/* A continued line of old begins with a blank and so has no name: refused like any line without one. */
static int wss__http_parse_field(wss_request *request, wss__span line) {
    wss__span name = wss__base_take(&line, ':');
    wss__span value;
    if (!line.data || !wss__http_is_token(name)) return WSS__HTTP_RULE_FIELD;
    wss__base_next_item(&line, '\n', &value); /* no LF inside a line: this only strips the blanks */
    if (!wss__http_is_value(value)) return WSS__HTTP_RULE_VALUE;
    wss__http_field *field = &request->fields[request->count++];
    field->name = wss__http_note(request, name);
    field->value = wss__http_note(request, value);
    return WSS__HTTP_GOOD;
}

/* RFC 9112 section 3.2: one Host line, which clients of HTTP/1.0 may leave out. It is looked at, and not used, where
   the target has a host. */
static int wss__http_check_host(wss_request *request) {
    wss__span value;
    size_t lines = wss__http_lines(request, "Host", &value);
    if (lines > 1 || (!lines && request->minor > 0)) return WSS__HTTP_RULE_HOST_LINE;
    if (lines && !wss__http_is_host(value)) return WSS__HTTP_RULE_HOST_LINE;
    if (request->host.size && !wss__http_is_host(wss__http_span(request, request->host))) return WSS__HTTP_RULE_TARGET;
    if (request->host.size) return WSS__HTTP_GOOD;
    request->host.at = lines ? (uint32_t)(value.data - request->base) : 0;
    request->host.size = (uint32_t)value.size;
    return WSS__HTTP_GOOD;
}

/* No body is ever read, so none may be announced: its bytes would pass for frames or for a second request. */
static int wss__http_check_fields(wss_request *request) {
    wss__span value;
    int rule = wss__http_check_host(request);
    if (rule) return rule;
    if (wss__http_lines(request, "Transfer-Encoding", &value) != 0) return WSS__HTTP_RULE_BODY;
    size_t lengths = wss__http_lines(request, "Content-Length", &value);
    if (lengths == 0 || (lengths == 1 && wss__base_equal(value, wss__base_text("0")))) return WSS__HTTP_GOOD;
    return WSS__HTTP_RULE_BODY;
}

/* Parses exactly one head, as wss__http_find_end measured it, and puts a NUL behind target, names and values. Returns
   WSS__HTTP_GOOD or the rule by which to refuse it; then only method and target are to be read, as far as they are
   known. */
static int wss__http_parse(char *data, size_t size, wss_request *request) {
    wss__span line;
    memset(request, 0, offsetof(wss_request, fields));
    request->base = data;
    request->size = size;
    if (size > (size_t)INT_MAX) return WSS__HTTP_RULE_HEAD_SIZE;
    size_t skip = wss__http_skip_line(data, size);
    wss__span rest = wss__base_span(data + skip, size - skip);
    if (wss__http_begins_head(data, size)) request->method = WSS__HTTP_HEAD; /* whatever is wrong with the line */
    int rule = wss__http_take_line(&rest, &line) ? wss__http_parse_line(request, line) : WSS__HTTP_RULE_LINE_END;
    while (!rule) {
        if (!wss__http_take_line(&rest, &line)) return WSS__HTTP_RULE_LINE_END;
        if (line.size == 0) break;
        rule = request->count < WSS__HTTP_FIELDS_MAX ? wss__http_parse_field(request, line) : WSS__HTTP_RULE_FIELDS;
    }
    if (rule) return rule;
    return rest.size ? WSS__HTTP_RULE_LINE_END : wss__http_check_fields(request);
}

/* Lists. */

/* Walks the items of a list that may be spread over several field lines of one name. Empty items are left
   out. */
typedef struct wss__http_list {
    const wss_request *request;
    wss__span name;
    wss__span rest;
    size_t next;
    char separator;
} wss__http_list;

static wss__http_list wss__http_list_begin(const wss_request *request, const char *name, char separator) {
    wss__http_list list = {request, wss__base_text(name), {NULL, 0}, 0, separator};
    return list;
}

static int wss__http_list_next(wss__http_list *list, wss__span *item) {
    for (;;) {
        while (wss__base_next_item(&list->rest, list->separator, item))
            if (item->size) return 1;
        if (list->next == list->request->count) return 0;
        if (wss__http_is_named(list->request, list->next, list->name))
            list->rest = wss__http_value(list->request, list->next);
        list->next++;
    }
}

static int wss__http_has(const wss_request *request, const char *name, wss__span wanted,
                         int (*equal)(wss__span, wss__span)) {
    wss__http_list list = wss__http_list_begin(request, name, ',');
    wss__span item;
    while (wss__http_list_next(&list, &item))
        if (equal(item, wanted)) return 1;
    return 0;
}

/* An offered subprotocol that is no token must not be sent back. */
static int wss__http_offers(const wss_request *request, wss__span protocol) {
    return wss__http_is_token(protocol) && wss__http_has(request, "Sec-WebSocket-Protocol", protocol, wss__base_equal);
}

/* Upgrade rules. */

static wss__span wss__http_key(const wss_request *request) {
    return wss__http_only(request, "Sec-WebSocket-Key");
}

/* Whether a request is one to upgrade to WebSocket, else plain HTTP; *rule: by which a wrong upgrade is to be refused.
   RFC 6455 section 4.2.1. Without the check of Connection a proxy might still believe that it carries HTTP. */
static int wss__http_upgrade(const wss_request *request, int *rule) {
    wss__span value;
    *rule = WSS__HTTP_GOOD;
    if (!wss__http_has(request, "Upgrade", wss__base_text("websocket"), wss__base_equal_fold)) return 0;
    if (request->method != WSS__HTTP_GET) *rule = WSS__HTTP_RULE_UPGRADE_METHOD;
    else if (request->minor == 0) *rule = WSS__HTTP_RULE_OLD_HTTP;
    else if (!wss__http_has(request, "Connection", wss__base_text("upgrade"), wss__base_equal_fold))
        *rule = WSS__HTTP_RULE_CONNECTION;
    else if (!wss__base_equal(wss__http_only(request, "Sec-WebSocket-Version"), wss__base_text("13")))
        *rule = WSS__HTTP_RULE_VERSION;
    else if (!wss__hash_is_key(wss__http_key(request))) *rule = WSS__HTTP_RULE_KEY;
    else if (wss__http_lines(request, "Origin", &value) > 1) *rule = WSS__HTTP_RULE_ORIGINS;
    return 1;
}

/* What an application reads. */

/* A reader gives nothing until it has found something. True if it has what it needs. */
static int wss__http_may_read(int complete, char *out, size_t size, size_t *length) {
    wss__base_end_text(0, out, out ? size : 0, length);
    return complete && (out || !size);
}

static int wss__http_decode(wss__span text, int plus_is_space, char *out, size_t size, size_t *length) {
    size_t total = 0;
    wss__utf8 state = 0;
    int more;
    char octet;
    while ((more = wss__http_next_byte(&text, plus_is_space, &octet)) > 0) {
        state = octet ? wss__utf8_check(state, &octet, 1) : WSS__UTF8_REJECT;
        if (total < size) out[total] = octet;
        total++;
    }
    int error = more < 0 ? WSS_ERR_ARGUMENT : state != 0 ? WSS_ERR_UTF8 : WSS_OK;
    int result = wss__base_end_text(error ? 0 : total, out, size, length);
    return error ? error : result;
}

/* True where text decodes to name. */
static int wss__http_decodes_to(wss__span text, wss__span name) {
    char octet;
    for (size_t i = 0; i < name.size; i++)
        if (wss__http_next_byte(&text, 1, &octet) <= 0 || octet != name.data[i]) return 0;
    return text.size == 0;
}

WSSERVER_API const char *wss_request_method(const wss_request *request) {
    if (!request) return "";
    return request->method == WSS__HTTP_GET ? "GET" : request->method == WSS__HTTP_HEAD ? "HEAD" : "OPTIONS";
}

WSSERVER_API const char *wss_request_target(const wss_request *request) {
    return request ? request->base + request->target.at : "";
}

WSSERVER_API const char *wss_request_header(const wss_request *request, const char *name) {
    wss__span value;
    return request && name && wss__http_lines(request, name, &value) ? value.data : NULL;
}

WSSERVER_API const char *wss_request_header_at(const wss_request *request, size_t index, const char **value) {
    int found = request && index < request->count;
    if (value) *value = found ? request->base + request->fields[index].value.at : NULL;
    return found ? request->base + request->fields[index].name.at : NULL;
}

WSSERVER_API int wss_request_path(const wss_request *request, char *out, size_t size, size_t *length) {
    if (!wss__http_may_read(request != NULL, out, size, length)) return WSS_ERR_ARGUMENT;
    wss__span target = wss__http_span(request, request->target);
    return wss__http_decode(wss__base_take(&target, '?'), 0, out, size, length);
}

WSSERVER_API int wss_request_query(const wss_request *request, const char *name, char *out, size_t size,
                                   size_t *length) {
    wss__span value;
    if (!wss__http_may_read(request && name, out, size, length)) return WSS_ERR_ARGUMENT;
    wss__span query = wss__http_span(request, request->target);
    wss__base_take(&query, '?');
    while (wss__base_next_item(&query, '&', &value))
        if (value.size && wss__http_decodes_to(wss__base_take(&value, '='), wss__base_text(name)))
            return wss__http_decode(value, 1, out, size, length);
    return WSS_ERR_MISSING;
}

WSSERVER_API int wss_request_cookie(const wss_request *request, const char *name, char *out, size_t size,
                                    size_t *length) {
    wss__span value;
    if (!wss__http_may_read(request && name, out, size, length)) return WSS_ERR_ARGUMENT;
    wss__http_list list = wss__http_list_begin(request, "Cookie", ';');
    while (wss__http_list_next(&list, &value))
        if (wss__base_equal(wss__base_take(&value, '='), wss__base_text(name)) && value.data)
            return wss__base_copy_out(value, out, size, length);
    return WSS_ERR_MISSING;
}

WSSERVER_API int wss_request_protocol(const wss_request *request, size_t index, char *out, size_t size,
                                      size_t *length) {
    wss__span protocol;
    if (!wss__http_may_read(request != NULL, out, size, length)) return WSS_ERR_ARGUMENT;
    if (index >= WSS__HTTP_FIELDS_MAX) return WSS_ERR_MISSING; /* who asks for all of them reads the list each time */
    wss__http_list list = wss__http_list_begin(request, "Sec-WebSocket-Protocol", ',');
    while (wss__http_list_next(&list, &protocol))
        if (wss__http_is_token(protocol) && index-- == 0) return wss__base_copy_out(protocol, out, size, length);
    return WSS_ERR_MISSING;
}

WSSERVER_API const char *wss_request_peer(const wss_request *request, int *port) {
    if (port) *port = request ? request->port : 0;
    return request ? request->peer : "";
}

/* Replies. */

/* ---- [origin] ----------------------------------------------------------------------------------------------
   purpose  who may connect: origins of pages, hosts that are asked for, names of this machine
   knows    base, address, http
   owns     no state
   threads  any
   spec     RFC 6454, RFC 6455 section 10.2, RFC 6761 section 6.3 */

/* scheme://host:port, whatever of it is there: no data stands for what is missing. */
typedef struct wss__origin_place {
    wss__span scheme;
    wss__span host;
    wss__span port;  /* the scheme's own where none is written */
    wss__span usual; /* the scheme's own */
} wss__origin_place;

static wss__origin_place wss__origin_place_of(wss__span text) {
    wss__origin_place place;
    wss__span uri = text;
    const char *port = wss__http_take_scheme(&uri);
    wss__span name = uri;
    wss__span scheme = wss__base_take(&name, ':');
    int other = !port && name.size > 1 && name.data[0] == '/' && name.data[1] == '/';
    if (other) uri = wss__base_span(name.data + 2, name.size - 2);
    place.scheme = port ? wss__base_span(text.data, (size_t)(uri.data - text.data) - 3) : wss__base_span(NULL, 0);
    if (other) place.scheme = scheme;
    place.host = wss__base_host(uri, &place.port);
    place.usual = wss__base_text(port);
    if (!place.port.data) place.port = place.usual;
    return place;
}

/* Whether a host with its port, if it has one, is that of a place: where none is written it is the scheme's. */
static int wss__origin_same_host(const wss__origin_place *place, wss__span host, wss__span scheme_port) {
    wss__span port;
    wss__span name = wss__base_host(host, &port);
    if (!port.data) port = scheme_port.data ? scheme_port : place->usual;
    if (!place->scheme.data && !place->port.data) port = place->port;
    return host.size && wss__base_equal_fold(place->host, name) && wss__base_equal(place->port, port);
}

/* The last item of a list that a proxy may have added to; no data where there is none. */
static wss__span wss__origin_last(const wss_request *request, const char *name) {
    wss__http_list list = wss__http_list_begin(request, name, ',');
    wss__span item;
    wss__span last = wss__base_span(NULL, 0);
    while (wss__http_list_next(&list, &item)) last = item;
    return last;
}

/* An origin that names this server: a page's of this host, or what programs that are no browsers make up. A trusted
   proxy says which host and scheme the client asked for. */
static int wss__origin_is_own(const wss_request *request, wss__span origin, int trusted) {
    wss__span host = trusted ? wss__origin_last(request, "X-Forwarded-Host") : wss__base_span(NULL, 0);
    wss__span scheme = trusted ? wss__origin_last(request, "X-Forwarded-Proto") : wss__base_span(NULL, 0);
    if (!origin.size) return 1;
    if (wss__base_equal(origin, wss__base_text("null"))) return 0;
    if (origin.data[origin.size - 1] == '/') origin.size--;
    wss__origin_place page = wss__origin_place_of(origin);
    int secure = wss__base_equal_fold(scheme, wss__base_text("https")) ||
                 wss__base_equal_fold(scheme, wss__base_text("wss")); /* some proxies name what it will be */
    wss__span port = wss__base_text(!scheme.size || !page.scheme.size ? NULL : secure ? "443" : "80");
    if (page.scheme.data && !page.usual.data) return 0; /* a scheme of which nothing is known */
    return wss__origin_same_host(&page, host.size ? host : wss__http_span(request, request->host), port);
}

/* Whether an origin is one that an entry of the list names: itself, with or without its scheme's port; or a star stands
   in the entry, for any origin, any host of that scheme, or any host below that domain. */
static int wss__origin_is(wss__span origin, wss__span entry) {
    wss__origin_place page = wss__origin_place_of(origin);
    wss__origin_place wanted = wss__origin_place_of(entry);
    if (wss__base_equal(entry, wss__base_text("*"))) return 1;
    if (!wss__base_equal_fold(page.scheme, wanted.scheme)) return 0;
    if (wss__base_equal(wanted.host, wss__base_text("*"))) return 1;
    if (!wss__base_equal(page.port, wanted.port)) return 0;
    wss__span domain = wanted.host;
    if (!wss__base_take_prefix(&domain, "*.", wss__base_equal)) return wss__base_equal_fold(page.host, wanted.host);
    domain = wss__base_span(domain.data - 1, domain.size + 1); /* with its dot */
    return wss__base_ends_fold(page.host, domain);
}

/* A browser tells the origin of the page that connects, and sends the user's cookies along whatever page that
   is. So others than this host's own pages need to be listed. Other programs send no Origin, or any they
   like. */
static int wss__origin_allowed(const wss_request *request, const char *origins, int trusted) {
    wss__span origin;
    wss__span entry;
    wss__span list = wss__base_text(origins);
    size_t lines = wss__http_lines(request, "Origin", &origin);
    if (lines != 1) return lines == 0;
    if (wss__origin_is_own(request, origin, trusted)) return 1;
    while (wss__base_next_item(&list, ',', &entry))
        if (wss__origin_is(origin, entry)) return 1;
    return 0;
}

/* A list of this server's own names. Clients leave default ports out, whatever the entry says. */
static int wss__origin_is_listed_host(wss__span host, const char *hosts) {
    wss__span entry;
    wss__span list = wss__base_text(hosts);
    wss__span port;
    wss__span wanted;
    wss__span name = wss__base_host(host, &port);
    while (wss__base_next_item(&list, ',', &entry)) {
        wss__span entry_name = wss__base_host(entry, &wanted);
        if (!wss__base_equal_fold(entry_name, name)) continue;
        if (!wanted.data || wss__base_equal(wanted, port)) return 1;
        int usual = wss__base_equal(wanted, wss__base_text("80")) || wss__base_equal(wanted, wss__base_text("443"));
        if (!port.data && usual) return 1;
    }
    return 0;
}

/* A name or address that no attacker's name server can give: localhost, what ends in .localhost, 127.0.0.0/8, [::1]. */
static int wss__origin_is_local_host(wss__span host) {
    wss__span port;
    wss__address address;
    wss__span name = wss__base_host(host, &port);
    if (name.size && name.data[name.size - 1] == '.') name.size--;
    if (wss__address_parse(name, &address)) return wss__address_is_loopback(&address);
    return wss__base_equal_fold(name, wss__base_text("localhost")) ||
           wss__base_ends_fold(name, wss__base_text(".localhost"));
}

/* DNS rebinding: a page's own name, resolved to this machine, would pass for the same host. So who comes from this
   machine must name it as this machine is named, unless what it sends shows that no page sent it straight here: an
   upgrade without an Origin of http (a page of https may not), or with the lines of a proxy, which pages cannot add.
   Pages can add them to plain requests, so these are believed of a trusted proxy only. */
static int wss__origin_is_rebound(const wss_request *request, int upgrade, int trusted) {
    static const char *const lines[] = {"Forwarded", "X-Forwarded-For", "Via"};
    wss__span value;
    if (upgrade && !wss__http_lines(request, "Origin", &value)) return 0;
    if (upgrade && !wss__base_take_prefix(&value, "http://", wss__base_equal_fold)) return 0;
    for (size_t i = 0; upgrade && i < sizeof lines / sizeof lines[0]; i++)
        if (wss__http_lines(request, lines[i], &value)) return 0;
    if (!upgrade && trusted) return 0;
    return request->host.size && !wss__origin_is_local_host(wss__http_span(request, request->host));
}

/* The rule by which the host of a request is refused; local: its peer is on this machine. */
static int wss__origin_judge_host(const wss_request *request, const char *hosts, int upgrade, int local, int trusted) {
    wss__span host = wss__http_span(request, request->host);
    if (hosts) return !host.size || wss__origin_is_listed_host(host, hosts) ? WSS__HTTP_GOOD : WSS__HTTP_RULE_HOST;
    return local && wss__origin_is_rebound(request, upgrade, trusted) ? WSS__HTTP_RULE_REBINDING : WSS__HTTP_GOOD;
}

/* What is wrong with an entry of options.origins or hosts that no request can match: what to write. NULL: nothing. */

static const char *wss__origin_host_fault(wss__span host) {
    if (wss__base_holds(host, "/")) return "a host alone, without scheme and slash";
    if (wss__base_holds(host, "*")) return "each host by its name, without *";
    if (wss__base_holds(host, " ;")) return "commas between the entries";
    return wss__http_is_host(host) ? NULL : "HOST or HOST:PORT, an IPv6 address in brackets";
}

static const char *wss__origin_fault(wss__span origin) {
    wss__origin_place place = wss__origin_place_of(origin);
    int is_star = wss__base_equal(place.host, wss__base_text("*"));
    wss__span port;
    wss__span authority = origin;
    if (wss__base_equal(origin, wss__base_text("*")) || wss__base_equal(origin, wss__base_text("null"))) return NULL;
    if (wss__base_holds(origin, " ;")) return "commas between the entries";
    if (!wss__base_is_made_of(place.scheme, "+-.")) return "SCHEME://HOST, as https://example.org";
    if (wss__base_equal_fold(origin, wss__base_text("file://"))) return NULL;
    authority = wss__base_span(origin.data + place.scheme.size + 3, origin.size - place.scheme.size - 3);
    if (wss__base_holds(authority, "/")) return "it without path, and without a slash at its end";
    wss__base_take_prefix(&authority, "*.", wss__base_equal);
    wss__base_host(authority, &port);
    if (is_star && port.data) return "it without a port: the star stands for host and port";
    if (port.data && wss__base_number(port, 65535) < 0) return "the port as a number";
    if (is_star || (!memchr(authority.data, '*', authority.size) && wss__http_is_host(authority))) return NULL;
    return "a valid host; a star stands for all of it, or for its first names";
}

static const char *wss__origin_list_fault(const char *text, const char *(*fault)(wss__span), wss__span *entry) {
    wss__span list = wss__base_text(text);
    const char *found = NULL;
    while (!found && wss__base_next_item(&list, ',', entry)) found = entry->size ? fault(*entry) : NULL;
    return found;
}

/* ---- [proxy] -----------------------------------------------------------------------------------------------
   purpose  who the client is behind proxies that are trusted: PROXY headers, Forwarded and its like
   knows    base, address, http
   owns     no state; what a client sends itself is never believed: lists are read from their end
   threads  any
   spec     the PROXY protocol, versions 1 and 2; RFC 7239 sections 4 and 6 */

enum {
    WSS__PROXY_LINE = 107, /* bytes of the longest header of version 1 */
    WSS__PROXY_FIXED = 16  /* of version 2, before its addresses */
};

static const char wss__proxy_signature[] = "\r\n\r\n\0\r\nQUIT\n";

/* Whether these bytes are, as far as they go, the beginning of a header. */
static int wss__proxy_begins(const char *data, size_t size, const char *with, size_t most) {
    return size && memcmp(data, with, wss__base_min(size, most)) == 0;
}

/* Length of the PROXY header at the beginning; 0: more is needed; -1: there is none, or it is not valid. */
static int wss__proxy_measure(const char *data, size_t size) {
    if (wss__proxy_begins(data, size, wss__proxy_signature, 12)) {
        if (size < WSS__PROXY_FIXED) return 0;
        size_t whole = WSS__PROXY_FIXED + (size_t)wss__base_load_be(data + 14, 2);
        if ((data[12] & 0xf0) != 0x20 || (data[12] & 15) > 1) return -1;
        return size < whole ? 0 : (int)whole;
    }
    if (!wss__proxy_begins(data, size, "PROXY ", 6)) return -1;
    const char *end = (const char *)memchr(data, '\n', wss__base_min(size, WSS__PROXY_LINE));
    if (!end) return size < WSS__PROXY_LINE ? 0 : -1;
    return end[-1] == '\r' ? (int)(end - data) + 1 : -1;
}

/* 1: these bytes begin with a PROXY header; -1: they do not; 0: more is needed to know. */
static int wss__proxy_recognize(const char *data, size_t size) {
    if (wss__proxy_begins(data, size, "PROXY ", 6)) return size >= 6;
    if (wss__proxy_begins(data, size, wss__proxy_signature, 12)) return size >= 12;
    return -1;
}

/* Version 1: PROXY TCP4 source destination port port. */
static int wss__proxy_read_line(wss__span line, wss__address *client) {
    wss__span words[6];
    wss__address there;
    wss__address here;
    size_t count = 0;
    while (count < 6 && line.data) words[count++] = wss__base_take(&line, ' ');
    if (count > 1 && wss__base_equal(words[1], wss__base_text("UNKNOWN"))) {
        *client = wss__address_of(WSS__ADDRESS_OTHER, NULL, 0, 0);
        return 1;
    }
    int bits = count == 6 && !line.data ? wss__address_parse_plain(words[2], &there) : 0;
    int port = bits ? wss__base_number(words[4], 65535) : -1;
    if (port < 0 || !wss__base_equal(words[1], wss__base_text(bits == 32 ? "TCP4" : "TCP6"))) return 0;
    if (wss__address_parse_plain(words[3], &here) != bits || wss__base_number(words[5], 65535) < 0) return 0;
    there.port = (uint16_t)port;
    *client = there;
    return 1;
}

/* Reads a header that was measured. *client stays as it is where there is none: a check of the proxy's own. One whose
   address is of a kind that is not known here has another: what it sends is not the proxy's. False: it is not valid. */
static int wss__proxy_read(const char *data, size_t size, wss__address *client) {
    if (data[0] == 'P') return wss__proxy_read_line(wss__base_span(data, size - 2), client);
    const char *at = data + WSS__PROXY_FIXED;
    int v4 = data[13] == 0x11;
    size_t bytes = v4 ? 4 : 16;
    if ((data[12] & 15) == 0) return 1;
    *client = wss__address_of(WSS__ADDRESS_OTHER, NULL, 0, 0);
    if (!v4 && data[13] != 0x21) return 1;
    if (size < WSS__PROXY_FIXED + 2 * bytes + 4) return 0;
    *client = wss__address_of(WSS__ADDRESS_IP, (const unsigned char *)at, bytes,
                              (int)wss__base_load_be(at + 2 * bytes, 2));
    return 1;
}

/* Takes the last item of a list, blanks around it stripped; false where there is none. From the end, so that a quote
   which a client left open cannot swallow what the proxy wrote behind it. quoted: separators inside quotes are none. */
static int wss__proxy_last(wss__span *rest, char separator, int quoted, wss__span *item) {
    size_t at = rest->size;
    int inside = 0;
    if (!rest->data) return 0;
    for (; at && (inside || rest->data[at - 1] != separator); at--) {
        size_t slashes = 0;
        if (!quoted || rest->data[at - 1] != '"') continue;
        while (inside && slashes < at - 1 && rest->data[at - 2 - slashes] == '\\') slashes++;
        if (slashes % 2 == 0) inside = !inside;
    }
    wss__span part = wss__base_span(rest->data + at, rest->size - at);
    *rest = at ? wss__base_span(rest->data, at - 1) : wss__base_span(NULL, 0);
    wss__base_next_item(&part, '\n', item); /* no LF in a line: this only strips the blanks */
    return 1;
}

/* The value of "for" in an element of Forwarded, without its quotes and a port that is kept secret; no data where there
   is none, or more. */
static wss__span wss__proxy_for(wss__span element) {
    wss__span pair;
    wss__span value = wss__base_span(NULL, 0);
    int found = 0;
    while (wss__proxy_last(&element, ';', 1, &pair))
        if (wss__base_take_prefix(&pair, "for=", wss__base_equal_fold) && ++found) value = pair;
    if (found > 1) return wss__base_span(NULL, 0);
    value = wss__base_inside(value, '"', '"');
    wss__span port;
    wss__span host = wss__base_host(value, &port);
    int is_secret = port.size > 1 && port.data[0] == '_' && wss__base_is_made_of(port, "._-");
    return is_secret ? host : value;
}

/* Who asks, as trusted proxies tell it: from the end of the header's list the first address that is none of theirs. An
   entry that is no address ends the walk at the one behind it. What stands before is not even looked at. */
static wss__address wss__proxy_client(const wss_request *request, const char *header, const char *proxies) {
    wss__span name = wss__base_text(header);
    int forwarded = wss__base_equal_fold(name, wss__base_text("Forwarded"));
    wss__address found = wss__address_of(WSS__ADDRESS_NONE, NULL, 0, 0);
    wss__address entry;
    wss__span item;
    for (size_t i = request->count; i > 0; i--) {
        if (!wss__http_is_named(request, i - 1, name)) continue;
        wss__span rest = wss__http_value(request, i - 1);
        while (wss__proxy_last(&rest, ',', forwarded, &item)) {
            if (!item.size) continue;
            if (!wss__address_parse(forwarded ? wss__proxy_for(item) : item, &entry)) return found;
            found = entry;
            if (!wss__address_in(&entry, proxies)) return found;
        }
    }
    return found;
}

/* ---- [answer] ----------------------------------------------------------------------------------------------
   purpose  what is said to a request: the statuses, and one writer of answers
   knows    base, hash, http
   owns     no state; whatever is written was checked before: no header line can be broken
   threads  any
   spec     RFC 9110 section 15, RFC 9112 section 4, RFC 6455 section 4.2.2 */

typedef struct wss__answer_status {
    int status;
    const char *phrase;
} wss__answer_status;

static const wss__answer_status wss__answer_statuses[] = {
    {200, "OK"}, {201, "Created"}, {202, "Accepted"}, {204, "No Content"}, {205, "Reset Content"},
    {301, "Moved Permanently"}, {302, "Found"}, {303, "See Other"}, {304, "Not Modified"},
    {307, "Temporary Redirect"}, {308, "Permanent Redirect"}, {400, "Bad Request"}, {401, "Unauthorized"},
    {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"}, {408, "Request Timeout"}, {409, "Conflict"},
    {410, "Gone"}, {413, "Content Too Large"}, {414, "URI Too Long"}, {415, "Unsupported Media Type"},
    {421, "Misdirected Request"}, {426, "Upgrade Required"}, {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"}, {501, "Not Implemented"},
    {502, "Bad Gateway"}, {503, "Service Unavailable"}, {504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"},
    /* All others: by their first digit, and what is none. */
    {2, "Successful"}, {3, "Redirection"}, {4, "Client Error"}, {5, "Server Error"}, {0, "Unknown"}
};

/* Never NULL. */
static const wss__answer_status *wss__answer_find_status(int status) {
    const size_t count = sizeof wss__answer_statuses / sizeof wss__answer_statuses[0];
    const wss__answer_status *last = wss__answer_statuses + count - 1;
    for (; status > 0; status /= 100)
        for (const wss__answer_status *row = wss__answer_statuses; row < last; row++)
            if (row->status == status) return row;
    return last;
}

/* Lines that frame the reply or decide the handshake are the server's own. */
static int wss__answer_is_reserved(wss__span name) {
    static const char *const names[] = {"Connection", "Upgrade", "Content-Length", "Content-Type", "Transfer-Encoding"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (wss__base_equal_fold(name, wss__base_text(names[i]))) return 1;
    return wss__base_take_prefix(&name, "Sec-WebSocket-", wss__base_equal_fold);
}

static int wss__answer_check_headers(const wss_header *headers, size_t count) {
    if (!headers && count) return WSS_ERR_ARGUMENT;
    for (size_t i = 0; i < count; i++) {
        wss__span name = wss__base_text(headers[i].name);
        if (!wss__http_is_token(name) || wss__answer_is_reserved(name)) return WSS_ERR_HEADER;
        if (!headers[i].value || !wss__http_is_value(wss__base_text(headers[i].value))) return WSS_ERR_HEADER;
    }
    return WSS_OK;
}

/* lowest: 200, or 300 where the answer must be a refusal. */
static int wss__answer_check(const wss_answer *answer, int lowest) {
    if (answer->status < lowest || answer->status > 599 || (!answer->body && answer->size)) return WSS_ERR_ARGUMENT;
    if (!wss__http_is_value(wss__base_text(answer->content_type))) return WSS_ERR_HEADER;
    return wss__answer_check_headers(answer->headers, answer->header_count);
}

/* An answer as it is written. */
typedef struct wss__answer_reply {
    wss_answer answer;             /* status 101: the client is let in */
    const char *protocol;          /* of a 101; NULL: none */
    int is_head;                   /* the request's method is HEAD: no body may follow */
    char accept[WSS__HASH_ACCEPT]; /* of a 101 */
} wss__answer_reply;

/* Makes a reply that is all zero, but for what is added, a 101. key must have passed wss__hash_is_key. */
static void wss__answer_welcome(wss__answer_reply *reply, wss__span key) {
    reply->answer.status = 101;
    wss__hash_accept(key, reply->accept);
}

/* Writes while there is room and counts in any case. */
typedef struct wss__answer_out {
    char *data;
    size_t capacity;
    size_t size;
} wss__answer_out;

static void wss__answer_put(wss__answer_out *out, wss__span text) {
    if (text.size && out->size <= out->capacity && text.size <= out->capacity - out->size)
        memcpy(out->data + out->size, text.data, text.size);
    out->size = wss__base_add(out->size, text.size);
}

static void wss__answer_put_text(wss__answer_out *out, const char *text) {
    wss__answer_put(out, wss__base_text(text));
}

static void wss__answer_put_line(wss__answer_out *out, const char *name, const char *value) {
    wss__answer_put_text(out, name);
    wss__answer_put_text(out, ": ");
    wss__answer_put_text(out, value);
    wss__answer_put_text(out, "\r\n");
}

static void wss__answer_put_upgrade(wss__answer_out *out, const wss__answer_reply *reply) {
    wss__answer_put_text(out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    wss__answer_put_line(out, "Sec-WebSocket-Accept", reply->accept);
    if (reply->protocol) wss__answer_put_line(out, "Sec-WebSocket-Protocol", reply->protocol);
}

/* Any other status, and what it demands. An Upgrade line must be named in Connection: RFC 9110 section 7.8. */
static void wss__answer_put_demands(wss__answer_out *out, const wss_answer *answer) {
    char line[64]; /* more than the longest of them */
    char length[24];
    int own_allow = 0;
    snprintf(line, sizeof line, "HTTP/1.1 %d %s\r\n", answer->status, wss__answer_find_status(answer->status)->phrase);
    snprintf(length, sizeof length, "%zu", answer->status == 205 ? 0 : answer->size);
    for (size_t i = 0; i < answer->header_count; i++)
        if (wss__base_equal_fold(wss__base_text(answer->headers[i].name), wss__base_text("Allow"))) own_allow = 1;
    wss__answer_put_text(out, line);
    wss__answer_put_line(out, "Connection", answer->status == 426 ? "close, Upgrade" : "close");
    if (answer->status == 426) wss__answer_put_text(out, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
    if (answer->status == 405 && !own_allow) wss__answer_put_line(out, "Allow", "GET, HEAD, OPTIONS");
    if (answer->status == 204 || answer->status == 304) return;
    const char *type = answer->content_type ? answer->content_type : "text/plain; charset=utf-8";
    wss__answer_put_line(out, "Content-Type", type);
    wss__answer_put_line(out, "Content-Length", length);
}

/* The one writer of answers, the body included where one may follow (RFC 9110 section 6.4.1). Returns the
   length; out holds the answer only where that is not above capacity. No Date: there is no clock here, and an
   application may add one. */
static size_t wss__answer_write(char *out, size_t capacity, const wss__answer_reply *reply) {
    wss__answer_out to = {out, capacity, 0};
    const wss_answer *answer = &reply->answer;
    int status = answer->status;
    if (status == 101) wss__answer_put_upgrade(&to, reply);
    else wss__answer_put_demands(&to, answer);
    for (size_t i = 0; i < answer->header_count; i++)
        wss__answer_put_line(&to, answer->headers[i].name, answer->headers[i].value);
    wss__answer_put_text(&to, "\r\n");
    if (status != 204 && status != 205 && status != 304 && !reply->is_head)
        wss__answer_put(&to, wss__base_span((const char *)answer->body, answer->size));
    return to.size;
}

/* ---- [frame] -----------------------------------------------------------------------------------------------
   purpose  RFC 6455 frame headers, decoded and encoded, and masking
   knows    config, base
   owns     no state; a header is judged byte by byte in order, so any split gives the same verdict
   spec     RFC 6455 sections 5.2 and 5.3 */

enum {
    WSS__FRAME_CONTINUATION = 0, WSS__FRAME_CLOSE = 8, WSS__FRAME_PING = 9, WSS__FRAME_PONG = 10,
    WSS__FRAME_HEAD_MAX = 14,     /* of a client's frame */
    WSS__FRAME_HEAD_MAX_OUT = 10, /* of ours: no mask */
    WSS__FRAME_CONTROL_MAX = 125,
    WSS__FRAME_OPCODES = 0x707    /* one bit for each opcode that there is */
};

typedef struct wss__frame_head {
    uint64_t size; /* of the payload */
    int opcode;
    int final;
    unsigned char mask[4];
} wss__frame_head;

static int wss__frame_is_control(int opcode) {
    return opcode >= WSS__FRAME_CLOSE;
}

/* Length of the header if it is whole, 0 if more is needed, or minus a WSS_CAUSE_*. */
static inline int wss__frame_decode(const char *data, size_t size, wss__frame_head *head) {
    if (size < 1) return 0;
    unsigned char first = (unsigned char)data[0];
    int is_control = wss__frame_is_control(first & 15);
    if (first & 0x70) return -WSS_CAUSE_RESERVED_BITS;
    if (!(WSS__FRAME_OPCODES >> (first & 15) & 1)) return -WSS_CAUSE_OPCODE;
    if (is_control && !(first & 0x80)) return -WSS_CAUSE_CONTROL;
    if (size < 2) return 0;
    unsigned char second = (unsigned char)data[1];
    if (!(second & 0x80)) return -WSS_CAUSE_UNMASKED;
    if (is_control && (second & 0x7f) > WSS__FRAME_CONTROL_MAX) return -WSS_CAUSE_CONTROL;
    int extra = (second & 0x7f) == 127 ? 8 : (second & 0x7f) == 126 ? 2 : 0;
    if (size < (size_t)extra + 2) return 0;
    head->size = extra == 2 ? wss__base_load_be(data + 2, 2) : extra ? wss__base_load_be(data + 2, 8) : second & 0x7fu;
    if ((extra == 2 && head->size < 126) || (extra == 8 && (head->size <= 0xffff || head->size >> 63)))
        return -WSS_CAUSE_LENGTH;
    if (size < (size_t)extra + 6) return 0;
    memcpy(head->mask, data + 2 + extra, 4);
    head->opcode = first & 15;
    head->final = first >> 7;
    return extra + 6;
}

/* Bytes that the header of an outgoing frame takes. */
static inline size_t wss__frame_head_size(size_t payload) {
    return payload < 126 ? 2 : payload <= 0xffff ? 4 : 10;
}

/* Writes the header of a whole, unmasked message or control frame; returns its length. */
static inline size_t wss__frame_encode(char *out, int opcode, size_t payload) {
    size_t size = wss__frame_head_size(payload);
    out[0] = (char)(unsigned char)(0x80 | opcode);
    out[1] = (char)(unsigned char)(size == 2 ? payload : size == 4 ? 126 : 127);
    if (size == 4) wss__base_store_be(out + 2, payload, 2); /* a constant length becomes one store */
    if (size == 10) wss__base_store_be(out + 2, payload, 8);
    return size;
}

/* Bytes of the frame of ours that begins here. */
static size_t wss__frame_measure(const char *data) {
    size_t size = (unsigned char)data[1];
    if (size < 126) return 2 + size;
    return size == 126 ? 4 + (size_t)wss__base_load_be(data + 2, 2) : 10 + (size_t)wss__base_load_be(data + 2, 8);
}

/* Whether that is a message: what we send is never in parts. */
static int wss__frame_is_message(const char *data) {
    return !wss__frame_is_control((unsigned char)*data & 15);
}

/* Defines the part of wss__frame_unmask that comes in whole blocks, for one kind of vector. Returns how much
   that was. Both halves of a block are read before one is written, so that to may lie a little below from. */
#define WSS__FRAME_DEFINE(name, attributes, vector)                                                 \
    attributes static size_t name(char *to, const char *from, size_t size, uint64_t key) {          \
        size_t done = 0;                                                                            \
        vector wide = {0};                                                                          \
        wide += key;                                                                                \
        for (; size - done >= 2 * sizeof wide; done += 2 * sizeof wide) {                           \
            vector a, b;                                                                            \
            memcpy(&a, from + done, sizeof a);                                                      \
            memcpy(&b, from + done + sizeof a, sizeof b);                                           \
            a ^= wide;                                                                              \
            b ^= wide;                                                                              \
            memcpy(to + done, &a, sizeof a);                                                        \
            memcpy(to + done + sizeof a, &b, sizeof b);                                             \
        }                                                                                           \
        return done;                                                                                \
    }

typedef uint64_t wss__frame_v16 __attribute__((vector_size(16)));
WSS__FRAME_DEFINE(wss__frame_unmask_16, , wss__frame_v16)
#if defined(WSS__CONFIG_SIMD) && defined(__x86_64__)
typedef uint64_t wss__frame_v32 __attribute__((vector_size(32)));
WSS__FRAME_DEFINE(wss__frame_unmask_32, __attribute__((__target__("avx2"))), wss__frame_v32)
#endif
#undef WSS__FRAME_DEFINE

/* In the widest way that this processor has. */
static size_t wss__frame_unmask_blocks(char *to, const char *from, size_t size, uint64_t key) {
#if defined(WSS__CONFIG_SIMD) && defined(__x86_64__)
    if (size >= 128 && __builtin_cpu_supports("avx2")) return wss__frame_unmask_32(to, from, size, key);
#endif
    return wss__frame_unmask_16(to, from, size, key);
}

/* XORs from with the mask into to; they may overlap where to is not above from. offset: of from[0] in the
   frame's payload. */
static void wss__frame_unmask(char *to, const char *from, size_t size, const unsigned char mask[4], uint64_t offset) {
    unsigned char twice[8];
    uint32_t four;
    if (!size) return;
    memcpy(twice, mask, 4);
    memcpy(twice + 4, mask, 4);
    memcpy(&four, twice + (offset & 3), 4);
    const uint64_t key = (uint64_t)four << 32 | four;
    size_t done = wss__frame_unmask_blocks(to, from, size, key);
    for (; size - done >= 8; done += 8) {
        uint64_t word;
        memcpy(&word, from + done, 8);
        word ^= key;
        memcpy(to + done, &word, 8);
    }
    memcpy(twice, &key, 8);
    for (; done < size; done++) to[done] = (char)((unsigned char)from[done] ^ twice[done & 7]);
}

/* Codes that an endpoint may put into a Close frame, RFC 6455 section 7.4 and the registry it set up. */
static int wss__frame_code_valid(int code) {
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}
/* ---- [json] ------------------------------------------------------------------------------------------------
   purpose  strict scanner; cutter that finds a message's type and takes it out; escaping of strings
   knows    base, utf8
   owns     no state, no allocation, no recursion: nesting is one bit a level on the stack. Each byte is
            looked at a bounded number of times. What is found are spans of the input; only a message's type
            is unescaped into room of its own. Whether the input is UTF-8 is for the caller to check
   threads  any
   spec     RFC 8259 */

enum {
    WSS__JSON_DEPTH = 128,     /* of a message, and where a caller does not say */
    WSS__JSON_DEPTH_MAX = 1024 /* of any text */
};

/* What may stand behind a backslash, and which character it is. */
static const char wss__json_names[] = "\"\\/bfnrt";
static const char wss__json_values[] = "\"\\/\b\f\n\r\t";

static const char *wss__json_space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) at++;
    return at;
}

/* Marks bytes that are '"', '\\' or below 0x20 with their top bit. Borrows can wrongly mark a byte above a
   true mark, never one below: the lowest mark is right. */
static uint64_t wss__json_marks(uint64_t bytes) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t quote = bytes ^ ones * '"';
    uint64_t slash = bytes ^ ones * '\\';
    uint64_t marks = ((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((bytes - ones * 0x20) & ~bytes);
    return marks & ones * 0x80;
}

/* Skips what a string may hold as it is: stops at a quote, a backslash, a control byte, or the end. */
static const char *wss__json_plain(const char *at, const char *end) {
    while ((size_t)(end - at) >= sizeof(uint64_t)) {
        uint64_t bytes;
        memcpy(&bytes, at, sizeof bytes);
        if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) bytes = __builtin_bswap64(bytes);
        uint64_t marks = wss__json_marks(bytes);
        if (marks) return at + __builtin_ctzll(marks) / 8;
        at += sizeof bytes;
    }
    while (at < end && *at != '"' && *at != '\\' && (unsigned char)*at >= 0x20) at++;
    return at;
}

/* The following take the start of a token, and return what follows it, or NULL where it is not valid. */

static const char *wss__json_escape_end(const char *at, const char *end) {
    size_t left = (size_t)(end - at);
    if (left < 2) return NULL;
    if (at[1] != 'u') return at[1] && strchr(wss__json_names, at[1]) ? at + 2 : NULL;
    if (left < 6) return NULL;
    for (int i = 2; i < 6; i++)
        if (wss__base_hex(at[i]) < 0) return NULL;
    return at + 6;
}

static const char *wss__json_string(const char *at, const char *end) {
    if (at == end || *at != '"') return NULL;
    at = wss__json_plain(at + 1, end);
    while (at && at < end && *at == '\\') {
        at = wss__json_escape_end(at, end);
        if (at) at = wss__json_plain(at, end);
    }
    return at && at < end && *at == '"' ? at + 1 : NULL;
}

static const char *wss__json_digits(const char *at, const char *end) {
    const char *begin = at;
    while (at < end && *at >= '0' && *at <= '9') at++;
    return at > begin ? at : NULL;
}

/* at < end. */
static const char *wss__json_number(const char *at, const char *end) {
    const char *first = *at == '-' ? at + 1 : at;
    at = wss__json_digits(first, end);
    if (at && *first == '0' && at - first > 1) return NULL;
    if (at && at < end && *at == '.') at = wss__json_digits(at + 1, end);
    if (!at || at == end || (*at != 'e' && *at != 'E')) return at;
    at++;
    if (at < end && (*at == '+' || *at == '-')) at++;
    return wss__json_digits(at, end);
}

static const char *wss__json_word(const char *at, const char *end, const char *word) {
    size_t size = strlen(word);
    return (size_t)(end - at) >= size && memcmp(at, word, size) == 0 ? at + size : NULL;
}

/* Any value but objects and arrays. */
static const char *wss__json_scalar(const char *at, const char *end) {
    if (at == end) return NULL;
    switch (*at) {
    case '"': return wss__json_string(at, end);
    case 't': return wss__json_word(at, end, "true");
    case 'f': return wss__json_word(at, end, "false");
    case 'n': return wss__json_word(at, end, "null");
    default: return wss__json_number(at, end);
    }
}

/* A member's name with its colon; returns where its value must begin. */
static const char *wss__json_key(const char *at, const char *end, wss_args *key) {
    const char *stop = wss__json_string(at, end);
    if (!stop) return NULL;
    key->text = at;
    key->length = (size_t)(stop - at);
    at = wss__json_space(stop, end);
    return at < end && *at == ':' ? wss__json_space(at + 1, end) : NULL;
}

/* The brackets open at one point of a text. */
typedef struct wss__json_nest {
    int depth;
    uint8_t kinds[WSS__JSON_DEPTH_MAX / 8]; /* one bit a level, set for an array */
} wss__json_nest;

/* Whether the innermost of so many brackets is one of an array. */
static int wss__json_in_array(const uint8_t *kinds, int depth) {
    unsigned level = (unsigned)depth - 1;
    return kinds[level / 8] >> level % 8 & 1;
}

static void wss__json_set_kind(uint8_t *kinds, unsigned level, char bracket) {
    unsigned bit = 1u << level % 8;
    kinds[level / 8] = (uint8_t)(bracket == '[' ? kinds[level / 8] | bit : kinds[level / 8] & ~bit);
}

/* Where the next item of the innermost bracket has its value. */
static const char *wss__json_item(const wss__json_nest *nest, const char *at, const char *end) {
    wss_args key;
    return wss__json_in_array(nest->kinds, nest->depth) ? at : wss__json_key(at, end, &key);
}

/* At an opening bracket, with room for one more level. *more: a value must follow. */
static const char *wss__json_open(wss__json_nest *nest, const char *at, const char *end, int *more) {
    char close = (char)(*at + 2); /* in ASCII both kinds of bracket lie two apart */
    wss__json_set_kind(nest->kinds, (unsigned)nest->depth++, *at);
    at = wss__json_space(at + 1, end);
    *more = at == end || *at != close;
    if (*more) return wss__json_item(nest, at, end);
    nest->depth--;
    return at + 1;
}

/* After a value inside a bracket, white space skipped: a comma or the closing bracket. */
static const char *wss__json_follow(wss__json_nest *nest, const char *at, const char *end, int *more) {
    if (at == end) return NULL;
    *more = *at == ',';
    if (*more) return wss__json_item(nest, wss__json_space(at + 1, end), end);
    if (*at != (wss__json_in_array(nest->kinds, nest->depth) ? ']' : '}')) return NULL;
    nest->depth--;
    return at + 1;
}

/* An object or array. *error is set where the result is NULL for its depth. */
static const char *wss__json_nested(const char *at, const char *end, int max_depth, int *error) {
    wss__json_nest nest;
    int more = 1;
    memset(&nest, 0, sizeof nest);
    do {
        int is_value = more; /* else a comma or a closing bracket */
        int opens = more && at < end && (*at == '{' || *at == '[');
        if (opens && nest.depth == max_depth) {
            *error = WSS_ERR_DEPTH;
            return NULL;
        }
        more = 0;
        if (opens) at = wss__json_open(&nest, at, end, &more);
        else if (is_value) at = wss__json_scalar(at, end);
        else at = wss__json_follow(&nest, at, end, &more);
        if (at && !more && nest.depth) at = wss__json_space(at, end);
    } while (at && (more || nest.depth));
    return at;
}

static const char *wss__json_value(const char *at, const char *end, int max_depth, int *error) {
    int nested = at < end && (*at == '{' || *at == '[');
    return nested ? wss__json_nested(at, end, max_depth, error) : wss__json_scalar(at, end);
}

/* One value of any type, white space around it allowed. *value, unless value is NULL: without that white space.
   A maximum that is negative means none but the scanner's own. */
static int wss__json_scan(wss__span text, int max_depth, wss__span *value) {
    if (!text.size) return WSS_ERR_JSON;
    if (max_depth < 0 || max_depth > WSS__JSON_DEPTH_MAX) max_depth = WSS__JSON_DEPTH_MAX;
    int error = WSS_ERR_JSON;
    const char *end = text.data + text.size;
    const char *at = wss__json_space(text.data, end);
    const char *stop = wss__json_value(at, end, max_depth, &error);
    if (!stop) return error;
    if (value) *value = wss__base_span(at, (size_t)(stop - at));
    return wss__json_space(stop, end) == end ? WSS_OK : WSS_ERR_JSON;
}

/* A walk over the items of one object or array, which must be all there is in the text. It is the public iterator. */

static int wss__json_walk_stop(wss_iterator *walk, int error) {
    memset(walk, 0, sizeof *walk);
    walk->value.error = error;
    return 0;
}

/* Where the text is no object, and no array either if one is allowed, there are no items, and walk->value.error
   says why. 0 < max_depth <= WSS__JSON_DEPTH_MAX. */
static void wss__json_walk_begin(wss_iterator *walk, wss__span text, int allow_array, int max_depth) {
    const char *end = text.size ? text.data + text.size : text.data; /* no arithmetic on NULL */
    const char *at = wss__json_space(text.data, end);
    memset(walk, 0, sizeof *walk);
    if (at == end || !(*at == '{' || (allow_array && *at == '['))) {
        int error = wss__json_scan(text, max_depth, NULL);
        walk->value.error = error ? error : WSS_ERR_TYPE;
        return;
    }
    walk->max_depth = max_depth - 1;
    walk->kind = (unsigned char)*at;
    walk->next = at + 1;
    walk->end = end;
}

/* False at the end of the text, which is valid if walk->value.error is WSS_OK. */
WSSERVER_API int wss_iterate_next(wss_iterator *walk) {
    if (!walk->kind) return 0;
    int error = WSS_ERR_JSON;
    const char *end = walk->end;
    const char *at = wss__json_space(walk->next, end);
    if (at == end) return wss__json_walk_stop(walk, error);
    if (*at == walk->kind + 2) return wss__json_walk_stop(walk, wss__json_space(at + 1, end) == end ? WSS_OK : error);
    if (walk->value.text) at = *at == ',' ? wss__json_space(at + 1, end) : end; /* where no value can begin */
    if (walk->kind == '{') at = wss__json_key(at, end, &walk->key);
    const char *stop = at ? wss__json_value(at, end, walk->max_depth, &error) : NULL;
    if (!stop) return wss__json_walk_stop(walk, error);
    walk->value.text = at;
    walk->value.length = (size_t)(stop - at);
    walk->next = stop;
    return 1;
}

static uint32_t wss__json_hex4(const char *at) {
    uint32_t code = 0;
    for (int i = 0; i < 4; i++) code = code << 4 | (uint32_t)wss__base_hex(at[i]);
    return code;
}

/* Reads a valid escape inside a valid string, a pair of surrogates as one. A lone one stays what it is. */
static const char *wss__json_unescape_one(const char *at, uint32_t *code) {
    if (at[1] != 'u') {
        *code = (unsigned char)wss__json_values[strchr(wss__json_names, at[1]) - wss__json_names];
        return at + 2;
    }
    *code = wss__json_hex4(at + 2);
    at += 6;
    if (*code >> 10 != 0xd800 >> 10 || at[0] != '\\' || at[1] != 'u') return at;
    uint32_t low = wss__json_hex4(at + 2);
    if (low >> 10 != 0xdc00 >> 10) return at;
    *code = 0x10000 + ((*code & 0x3ff) << 10) + (low & 0x3ff);
    return at + 6;
}

/* Unescapes a first piece of what stands between the quotes of a valid string; returns what follows it. */
static const char *wss__json_piece(const char *at, const char *end, char bytes[4], wss__span *piece) {
    if (*at == '\\') {
        uint32_t code;
        at = wss__json_unescape_one(at, &code);
        *piece = wss__base_span(bytes, (size_t)wss__utf8_encode(code, bytes));
        return at;
    }
    const char *stop = (const char *)memchr(at, '\\', (size_t)(end - at));
    if (!stop) stop = end;
    *piece = wss__base_span(at, (size_t)(stop - at));
    return stop;
}

/* Returns the unescaped size of a valid raw string; writes it to out as far as whole pieces fit. */
static size_t wss__json_unescape(wss__span raw, char *out, size_t size) {
    const char *at = raw.data + 1;
    const char *end = raw.data + raw.size - 1;
    size_t total = 0;
    while (at < end) {
        char bytes[4];
        wss__span piece;
        at = wss__json_piece(at, end, bytes, &piece);
        if (total <= size && piece.size <= size - total) memcpy(out + total, piece.data, piece.size);
        total += piece.size;
    }
    return total;
}

/* True if a valid raw string, quotes included, has this value. One that holds NUL equals nothing. */
static int wss__json_equals(wss__span raw, wss__span name) {
    const char *at = raw.data + 1;
    const char *end = raw.data + raw.size - 1;
    size_t matched = 0;
    if (raw.size - 2 < name.size) return 0; /* unescaping never makes longer */
    while (at < end) {
        char bytes[4];
        wss__span piece;
        at = wss__json_piece(at, end, bytes, &piece);
        if (piece.size > name.size - matched || !piece.data[0]) return 0;
        if (memcmp(name.data + matched, piece.data, piece.size) != 0) return 0;
        matched += piece.size;
    }
    return matched == name.size;
}

/* Moves the bytes from up to to; the places may overlap, out is never behind from. */
static char *wss__json_move(char *out, const char *from, const char *to) {
    size_t size = (size_t)(to - from);
    if (size && out != from) memmove(out, from, size);
    return out + size;
}

/* A text on its way to a place without its type members, and what is known of it then. */
typedef struct wss__json_rest {
    char *out;        /* where what is kept goes next; NULL: it is only measured */
    const char *from; /* what is written next */
    size_t size;
    size_t type_size; /* of the last type member's value; 0: no string, or none that a type can be */
    int has_members;  /* others than type members */
    int types;        /* type members */
    const char *good; /* what follows the last member that was read */
    char type[WSS__UTF8_NAME_MAX]; /* unescaped */
} wss__json_rest;

/* Writes what stands before at, and leaves out size bytes from there. */
static void wss__json_leave_out(wss__json_rest *rest, const char *at, size_t size) {
    if (rest->out) rest->out = wss__json_move(rest->out, rest->from, at);
    rest->from = at + size;
    rest->size -= size;
}

static void wss__json_take_type(wss__json_rest *rest, const wss_iterator *walk) {
    rest->types++;
    wss__span raw = wss__base_span(walk->value.text, walk->value.length);
    size_t size = *raw.data == '"' ? wss__json_unescape(raw, rest->type, sizeof rest->type) : 0;
    rest->type_size = size <= sizeof rest->type ? size : 0;
    wss__json_leave_out(rest, walk->key.text, (size_t)(walk->next - walk->key.text));
}

/* Writes an object without its type members to out, which may be the text itself: writing never overtakes the walk. out
   NULL: only measures. With a type member goes the comma before it, or, where no other member stands before it, the one
   behind it. An error may show when part has been written. */
static int wss__json_without(wss__span text, wss__span member, char *out, wss__json_rest *rest) {
    wss_iterator walk;
    const char *before = NULL; /* end of the member before */
    rest->out = out;
    rest->from = text.data;
    rest->size = text.size;
    rest->type_size = 0;
    rest->has_members = 0;
    rest->types = 0;
    rest->good = text.data;
    wss__json_walk_begin(&walk, text, 0, WSS__JSON_DEPTH);
    while (wss_iterate_next(&walk)) {
        int is_type = wss__json_equals(wss__base_span(walk.key.text, walk.key.length), member);
        if (before && (is_type || !rest->has_members)) wss__json_leave_out(rest, wss__json_space(before, walk.end), 1);
        if (is_type) wss__json_take_type(rest, &walk);
        else rest->has_members = 1;
        before = walk.next;
        rest->good = before;
    }
    if (!walk.value.error) wss__json_leave_out(rest, text.data + text.size, 0);
    return walk.value.error;
}

/* Writes the escape of a byte that may not stand in a string as it is; returns its size. */
static size_t wss__json_escape_one(char octet, char out[6]) {
    const char *value = octet ? strchr(wss__json_values, octet) : NULL;
    out[0] = '\\';
    if (value) {
        out[1] = wss__json_names[value - wss__json_values];
        return 2;
    }
    out[1] = 'u';
    memset(out + 2, '0', 2);
    out[4] = (char)('0' + (octet >> 4)); /* it is below 0x20 */
    out[5] = "0123456789abcdef"[octet & 15];
    return 6;
}

/* Size of the JSON string, quotes included, that stands for this text. */
static size_t wss__json_escaped_size(wss__span text) {
    const char *end = text.data + text.size;
    size_t size = wss__base_add(text.size, 2);
    char escape[6];
    for (const char *at = wss__json_plain(text.data, end); at < end; at = wss__json_plain(at + 1, end))
        size = wss__base_add(size, wss__json_escape_one(*at, escape) - 1);
    return size;
}

/* Writes what stands between the quotes of that string, for valid UTF-8; returns its end. */
static char *wss__json_escape(wss__span text, char *out) {
    const char *at = text.data;
    const char *end = at + text.size;
    while (at < end) {
        const char *stop = wss__json_plain(at, end);
        out = wss__json_move(out, at, stop);
        at = stop;
        if (at < end) out += wss__json_escape_one(*at++, out);
    }
    return out;
}

/* Writes the whole string. */
static char *wss__json_quote(wss__span text, char *out) {
    *out = '"';
    out = wss__json_escape(text, out + 1);
    *out = '"';
    return out + 1;
}

/* ---- [args] ------------------------------------------------------------------------------------------------
   purpose  the public JSON calls: readers, iteration, writer
   knows    base, mem, utf8, json
   owns     a reader trusts nothing: each call scans the text it is given, or the index of one that was, and reads
            nothing outside it. A writer's text is the valid beginning of an object until its first error, with room
            for NUL
   threads  any; a writer belongs to one thread at a time
   spec     RFC 8259 */

enum {
    WSS__ARGS_DIGITS = 800,      /* 767 digits decide how a double is rounded; more count as "a bit more" */
    WSS__ARGS_SCALE = 100000,    /* a power of ten that makes 800 digits overflow or vanish */
    WSS__ARGS_LEVELS = 256,      /* of a writer: bits in wss_writer.kinds */
    WSS__ARGS_FIRST_SIZE = 256,  /* of a buffer that grows */
    WSS__ARGS_INDEXED = 1024     /* bytes of a text of which an index pays */
};

static wss_args wss__args_raw(wss__span raw) {
    wss_args args = {raw.data, raw.size, WSS_OK};
    return args;
}

WSSERVER_API wss_args wss_json(const char *text) {
    return wss__args_raw(wss__base_text(text));
}

WSSERVER_API int wss_json_check(const char *text, size_t length, int max_depth) {
    if (!text) return length ? WSS_ERR_ARGUMENT : WSS_ERR_JSON;
    if (wss__utf8_check(0, text, length) != 0) return WSS_ERR_UTF8;
    return wss__json_scan(wss__base_span(text, length), max_depth ? max_depth : WSS__JSON_DEPTH, NULL);
}

/* ---- an index of members ---- */

typedef struct wss__args_entry {
    uint32_t key; /* where it stands in the text, quotes included */
    uint32_t key_size;
    uint32_t value;
    uint32_t value_size;
    uint32_t next; /* of its bucket, plus 1; an older one */
} wss__args_entry;

/* In one block of memory with its buckets and entries. */
typedef struct wss__args_index {
    size_t bytes;
    size_t mask;
    uint32_t *buckets; /* an entry plus 1 */
    wss__args_entry *entries;
} wss__args_index;

/* The args that the handler on this thread was given. Where several members are read from a long text, the second read
   makes an index, which is given back when the handlers have returned. */
typedef struct wss__args_given {
    const wss_options *options; /* of the server that made them: they are what its sends need */
    const char *text;           /* NULL: none */
    size_t length;
    int has_members;
    int reads;
    wss__mem *mem;
    uint64_t seed;
    wss__args_index *index;
} wss__args_given;

static __thread wss__args_given wss__args_handed;

/* Equal names have the same, however they are escaped. Of long ones only the size counts: nobody reads many of them. */
static uint64_t wss__args_hash(wss__span raw, uint64_t seed) {
    char name[WSS__UTF8_NAME_MAX];
    size_t size = wss__json_unescape(raw, name, sizeof name);
    return size <= sizeof name ? wss__base_hash(wss__base_span(name, size), seed) : seed ^ size;
}

static uint32_t *wss__args_bucket(const wss__args_index *index, uint64_t hash) {
    return &index->buckets[(hash >> 32) & index->mask];
}

static wss__args_index *wss__args_new_index(wss__mem *mem, size_t members) {
    size_t buckets = 1;
    while (buckets < members) buckets *= 2;
    size_t bytes = sizeof(wss__args_index) + members * sizeof(wss__args_entry) + buckets * sizeof(uint32_t);
    wss__args_index *index = (wss__args_index *)wss__mem_get_zeroed(mem, bytes);
    if (!index) return NULL;
    index->bytes = bytes;
    index->mask = buckets - 1;
    index->entries = (wss__args_entry *)(void *)(index + 1);
    index->buckets = (uint32_t *)(void *)(index->entries + members);
    return index;
}

/* The text is valid. Without memory there is none, and each read scans as before. */
static void wss__args_make_index(wss__args_given *given) {
    wss__span text = wss__base_span(given->text, given->length);
    wss_iterator walk;
    uint32_t count = 0;
    wss__json_walk_begin(&walk, text, 0, WSS__JSON_DEPTH_MAX);
    while (wss_iterate_next(&walk)) count++;
    wss__args_index *index = wss__args_new_index(given->mem, count);
    if (!index) return;
    count = 0;
    wss__json_walk_begin(&walk, text, 0, WSS__JSON_DEPTH_MAX);
    while (wss_iterate_next(&walk)) {
        wss__args_entry *entry = &index->entries[count++];
        wss__span key = wss__base_span(walk.key.text, walk.key.length);
        uint32_t *bucket = wss__args_bucket(index, wss__args_hash(key, given->seed));
        entry->key = (uint32_t)(key.data - given->text);
        entry->key_size = (uint32_t)key.size;
        entry->value = (uint32_t)(walk.value.text - given->text);
        entry->value_size = (uint32_t)walk.value.length;
        entry->next = *bucket;
        *bucket = count;
    }
    given->index = index;
}

static void wss__args_forget(wss__args_given *given) {
    if (given->index) wss__mem_free(given->mem, given->index, given->index->bytes);
    given->index = NULL;
}

/* The newest entry of a bucket comes first: of repeated names the last counts. */
static int wss__args_look_up(const wss__args_given *given, wss__span name, wss__span *value) {
    uint64_t hash = name.size <= WSS__UTF8_NAME_MAX ? wss__base_hash(name, given->seed) : given->seed ^ name.size;
    uint32_t at = *wss__args_bucket(given->index, hash);
    while (at) {
        const wss__args_entry *entry = &given->index->entries[at - 1];
        *value = wss__base_span(given->text + entry->value, entry->value_size);
        if (wss__json_equals(wss__base_span(given->text + entry->key, entry->key_size), name)) return WSS_OK;
        at = entry->next;
    }
    return WSS_ERR_MISSING;
}

/* Whether the text has an index by now. */
static int wss__args_indexed(wss__span text) {
    wss__args_given *given = &wss__args_handed;
    if (text.size < WSS__ARGS_INDEXED || text.data != given->text || text.size != given->length) return 0;
    if (++given->reads == 2 && text.size < UINT32_MAX) wss__args_make_index(given);
    return given->index != NULL;
}

/* Reads on behind the member that matches: the last one counts, and the rest must be valid. */
static int wss__args_member(wss__span text, wss__span key, wss__span *value) {
    if (wss__args_indexed(text)) return wss__args_look_up(&wss__args_handed, key, value);
    wss_iterator walk;
    *value = wss__base_span(NULL, 0);
    wss__json_walk_begin(&walk, text, 0, WSS__JSON_DEPTH_MAX);
    while (wss_iterate_next(&walk))
        if (wss__json_equals(wss__base_span(walk.key.text, walk.key.length), key))
            *value = wss__base_span(walk.value.text, walk.value.length);
    if (walk.value.error) return walk.value.error;
    return value->data ? WSS_OK : WSS_ERR_MISSING;
}

/* Type of a valid value. */
static int wss__args_type(wss__span value) {
    switch (*value.data) {
    case '{': return WSS_JSON_OBJECT;
    case '[': return WSS_JSON_ARRAY;
    case '"': return WSS_JSON_STRING;
    case 'n': return WSS_JSON_NULL;
    case 't':
    case 'f': return WSS_JSON_BOOL;
    default: return WSS_JSON_NUMBER;
    }
}

/* type: which it must have; 0: any. */
static int wss__args_find(wss_args args, const char *key, int type, wss__span *value) {
    wss__span text = wss__base_span(args.text, args.length);
    if (args.error) return args.error;
    if (!args.text) return WSS_ERR_MISSING;
    int error = key ? wss__args_member(text, wss__base_text(key), value)
                    : wss__json_scan(text, WSS__JSON_DEPTH_MAX, value);
    if (error || !type) return error;
    return wss__args_type(*value) == type ? WSS_OK : WSS_ERR_TYPE;
}

WSSERVER_API int wss_get_string(wss_args args, const char *key, char *out, size_t size, size_t *length) {
    wss__span value;
    if (!out && size) return WSS_ERR_ARGUMENT;
    wss__base_end_text(0, out, size, length);
    int error = wss__args_find(args, key, WSS_JSON_STRING, &value);
    if (error) return error;
    if (wss__utf8_check(0, value.data, value.size) != 0) return WSS_ERR_UTF8;
    size_t total = wss__json_unescape(value, out, size);
    int cut = !length && total < size && memchr(out, 0, total); /* the caller would take a part for the whole */
    error = wss__base_end_text(cut ? 0 : total, out, size, length);
    return cut ? WSS_ERR_TYPE : error;
}

/* A number as a row of digits times a power of ten. */
typedef struct wss__args_number {
    char digits[WSS__ARGS_DIGITS + 1]; /* without leading zeros; none: the number is zero */
    size_t count;
    int64_t scale;
    int negative;
    int more; /* digits that are not zero did not find room */
} wss__args_number;

static int64_t wss__args_exponent(const char *at, const char *end) {
    const int64_t most = INT64_C(100000000000000000);
    int negative = *at == '-';
    int64_t value = 0;
    if (*at == '-' || *at == '+') at++;
    for (; at < end && value < most; at++) value = value * 10 + (*at - '0');
    return negative ? -value : value;
}

static void wss__args_digit(wss__args_number *number, char digit, int fraction) {
    number->scale -= fraction;
    if (digit == '0' && !number->count) return;
    if (number->count < WSS__ARGS_DIGITS) {
        number->digits[number->count++] = digit;
        return;
    }
    number->scale++;
    if (digit != '0') number->more = 1;
}

static void wss__args_parse(wss__span text, wss__args_number *number) {
    const char *at = text.data;
    const char *end = at + text.size;
    int fraction = 0;
    number->count = 0;
    number->scale = 0;
    number->more = 0;
    number->negative = *at == '-';
    if (number->negative) at++;
    for (; at < end && *at != 'e' && *at != 'E'; at++) {
        if (*at == '.') fraction = 1;
        else wss__args_digit(number, *at, fraction);
    }
    if (at < end) number->scale += wss__args_exponent(at + 1, end);
}

/* A whole number of any size below 2^64, without its sign. */
static int wss__args_to_magnitude(wss__span text, int *negative, uint64_t *value) {
    wss__args_number number;
    wss__args_parse(text, &number);
    while (number.count && number.digits[number.count - 1] == '0') {
        number.count--;
        number.scale++;
    }
    if (!number.count) number.scale = 0;
    if (number.more || number.scale < 0 || number.scale > 20 - (int64_t)number.count) return WSS_ERR_RANGE;
    size_t digits = number.count + (size_t)number.scale;
    *value = 0;
    *negative = number.negative;
    for (size_t i = 0; i < digits; i++) {
        uint64_t digit = i < number.count ? (uint64_t)(number.digits[i] - '0') : 0;
        if (*value > (UINT64_MAX - digit) / 10) return WSS_ERR_RANGE;
        *value = *value * 10 + digit;
    }
    return WSS_OK;
}

/* strtod gets an integer and an exponent, so that the locale's decimal point does not matter. A digit 1 for
   all those left out puts the number on the right side of a halfway case. */
static int wss__args_to_double(wss__span from, double *out) {
    wss__args_number number;
    char text[WSS__ARGS_DIGITS + 32];
    wss__args_parse(from, &number);
    if (!number.count) number.digits[number.count++] = '0';
    if (number.more) {
        number.digits[number.count++] = '1';
        number.scale--;
    }
    if (number.scale > WSS__ARGS_SCALE) number.scale = WSS__ARGS_SCALE;
    if (number.scale < -WSS__ARGS_SCALE) number.scale = -WSS__ARGS_SCALE;
    snprintf(text, sizeof text, "%s%.*se%d", number.negative ? "-" : "", (int)number.count, number.digits,
             (int)number.scale);
    int saved = errno;
    errno = 0;
    double value = strtod(text, NULL);
    int overflow = errno == ERANGE && (value > 1 || value < -1);
    errno = saved;
    if (!overflow) *out = value;
    return overflow ? WSS_ERR_RANGE : WSS_OK;
}

WSSERVER_API int wss_get_int(wss_args args, const char *key, int64_t *out) {
    wss__span value;
    uint64_t magnitude;
    int negative;
    int error = out ? wss__args_find(args, key, WSS_JSON_NUMBER, &value) : WSS_ERR_ARGUMENT;
    if (!error) error = wss__args_to_magnitude(value, &negative, &magnitude);
    if (!error && magnitude > (uint64_t)INT64_MAX + (uint64_t)negative) error = WSS_ERR_RANGE;
    /* INT64_MIN has no positive counterpart */
    if (!error) *out = negative && magnitude ? -(int64_t)(magnitude - 1) - 1 : (int64_t)magnitude;
    return error;
}

WSSERVER_API int wss_get_uint(wss_args args, const char *key, uint64_t *out) {
    wss__span value;
    uint64_t magnitude;
    int negative;
    int error = out ? wss__args_find(args, key, WSS_JSON_NUMBER, &value) : WSS_ERR_ARGUMENT;
    if (!error) error = wss__args_to_magnitude(value, &negative, &magnitude);
    if (!error && negative && magnitude) error = WSS_ERR_RANGE;
    if (!error) *out = magnitude;
    return error;
}

WSSERVER_API int wss_get_double(wss_args args, const char *key, double *out) {
    wss__span value;
    int error = out ? wss__args_find(args, key, WSS_JSON_NUMBER, &value) : WSS_ERR_ARGUMENT;
    return error ? error : wss__args_to_double(value, out);
}

WSSERVER_API int wss_get_bool(wss_args args, const char *key, int *out) {
    wss__span value;
    int error = out ? wss__args_find(args, key, WSS_JSON_BOOL, &value) : WSS_ERR_ARGUMENT;
    if (!error) *out = *value.data == 't';
    return error;
}

WSSERVER_API int wss_get_raw(wss_args args, const char *key, wss_args *out) {
    wss__span value;
    int error = out ? wss__args_find(args, key, 0, &value) : WSS_ERR_ARGUMENT;
    if (!error) *out = wss__args_raw(value);
    return error;
}

WSSERVER_API int wss_json_type(wss_args args, const char *key) {
    wss__span value;
    int error = wss__args_find(args, key, 0, &value);
    return error ? error : wss__args_type(value);
}

/* At the end, and where the text is not valid, value has no text; its error tells these two apart. */
WSSERVER_API wss_iterator wss_iterate(wss_args value) {
    wss_iterator iterator;
    int error = value.error ? value.error : value.text ? WSS_OK : WSS_ERR_MISSING;
    if (error) wss__json_walk_stop(&iterator, error);
    else wss__json_walk_begin(&iterator, wss__base_span(value.text, value.length), 1, WSS__JSON_DEPTH_MAX);
    return iterator;
}

static void wss__args_fail(wss_writer *writer, int error) {
    if (!writer->error) writer->error = error;
}

static void *wss__args_allocate(const wss_writer *writer, size_t size) {
    if (!writer->allocator) return wss__mem_default(NULL, writer->text, writer->capacity, size);
    return writer->allocator(writer->allocator_context, writer->text, writer->capacity, size);
}

/* Makes room for so many bytes more, and NUL behind them. */
static int wss__args_grow(wss_writer *writer, size_t size) {
    size_t need = wss__base_add(wss__base_add(writer->length, size), 1);
    size_t capacity = wss__base_max(writer->capacity, WSS__ARGS_FIRST_SIZE);
    while (capacity < need) capacity = wss__base_multiply(capacity, 2);
    char *text = NULL;
    if (writer->growing) text = (char *)wss__args_allocate(writer, capacity);
    if (!text) wss__args_fail(writer, writer->growing ? WSS_ERR_MEMORY : WSS_ERR_SPACE);
    if (!text) return 0;
    writer->text = text;
    writer->capacity = capacity;
    return 1;
}

/* Takes size bytes at the end of the text; NUL still fits behind them. NULL after an error. */
static char *wss__args_take(wss_writer *writer, size_t size) {
    if (writer->error) return NULL;
    if (size >= writer->capacity - writer->length && !wss__args_grow(writer, size)) return NULL;
    char *to = writer->text + writer->length;
    writer->length += size;
    return to;
}

static void wss__args_append(wss_writer *writer, const char *data, size_t size) {
    char *to = wss__args_take(writer, size);
    if (to) memcpy(to, data, size);
}

static void wss__args_append_string(wss_writer *writer, wss__span text) {
    if (wss__utf8_check(0, text.data, text.size) != 0) wss__args_fail(writer, WSS_ERR_UTF8);
    char *to = wss__args_take(writer, wss__json_escaped_size(text));
    if (to) wss__json_quote(text, to);
}

/* What stands before a value. False after an error, this call's or an earlier one. */
static int wss__args_begin(wss_writer *writer, const char *key) {
    if (writer->depth == 0 || wss__json_in_array(writer->kinds, writer->depth) != !key)
        wss__args_fail(writer, WSS_ERR_ARGUMENT);
    if (writer->error) return 0;
    if (!writer->empty) wss__args_append(writer, ",", 1);
    writer->empty = 0;
    if (key) {
        wss__args_append_string(writer, wss__base_text(key));
        wss__args_append(writer, ":", 1);
    }
    return !writer->error;
}

static void wss__args_open(wss_writer *writer, const char *bracket) {
    if (writer->depth == WSS__ARGS_LEVELS) wss__args_fail(writer, WSS_ERR_DEPTH);
    wss__args_append(writer, bracket, 1);
    if (writer->error) return;
    wss__json_set_kind(writer->kinds, (unsigned)writer->depth++, *bracket);
    writer->empty = 1;
}

static void wss__args_close(wss_writer *writer) {
    wss__args_append(writer, wss__json_in_array(writer->kinds, writer->depth) ? "]" : "}", 1);
    writer->depth--;
    writer->empty = 0;
}

WSSERVER_API void wss_writer_init(wss_writer *writer, char *buffer, size_t size) {
    memset(writer, 0, sizeof *writer);
    writer->text = buffer;
    writer->capacity = buffer ? size : 0;
    writer->growing = !buffer;
    wss__args_open(writer, "{");
}

WSSERVER_API void wss_writer_init_with(wss_writer *writer,
                                       void *(*allocator)(void *context, void *pointer, size_t old_size,
                                                          size_t new_size), void *context) {
    memset(writer, 0, sizeof *writer);
    writer->growing = 1;
    writer->allocator = allocator;
    writer->allocator_context = context;
    wss__args_open(writer, "{");
}

WSSERVER_API void wss_writer_free(wss_writer *writer) {
    if (writer->growing && writer->text) writer->text = (char *)wss__args_allocate(writer, 0);
    memset(writer, 0, sizeof *writer);
}

WSSERVER_API wss_args wss_writer_args(wss_writer *writer) {
    if (!writer->text) wss__args_fail(writer, WSS_ERR_ARGUMENT);
    while (!writer->error && writer->depth > 0) wss__args_close(writer);
    wss_args args = {NULL, 0, writer->error};
    if (writer->error) return args;
    writer->text[writer->length] = 0;
    return wss__args_raw(wss__base_span(writer->text, writer->length));
}

WSSERVER_API void wss_put_text(wss_writer *writer, const char *key, const char *text, size_t length) {
    if (!text && length) wss__args_fail(writer, WSS_ERR_ARGUMENT);
    if (!text) text = "";
    if (wss__args_begin(writer, key)) wss__args_append_string(writer, wss__base_span(text, length));
}

WSSERVER_API void wss_put_bytes(wss_writer *writer, const char *key, const void *data, size_t size) {
    wss__span rest = wss__base_span((const char *)data, size);
    if (!data && size) wss__args_fail(writer, WSS_ERR_ARGUMENT);
    if (!wss__args_begin(writer, key)) return;
    wss__args_append(writer, "\"", 1);
    while (rest.size && !writer->error) {
        size_t wrong;
        size_t good = wss__utf8_good(rest.data, rest.size, &wrong);
        wss__span part = wss__base_span(rest.data, good);
        char *to = wss__args_take(writer, wss__json_escaped_size(part) - 2);
        if (to) wss__json_escape(part, to);
        if (wrong) wss__args_append(writer, "\xef\xbf\xbd", 3);
        rest = wss__base_span(rest.data + good + wrong, rest.size - good - wrong);
    }
    wss__args_append(writer, "\"", 1);
}

WSSERVER_API void wss_put_string(wss_writer *writer, const char *key, const char *text) {
    wss_put_text(writer, key, text, text ? strlen(text) : 1); /* so that NULL is refused there */
}

/* Appends a value that needs no check. */
static void wss__args_put(wss_writer *writer, const char *key, const char *text) {
    if (wss__args_begin(writer, key)) wss__args_append(writer, text, strlen(text));
}

WSSERVER_API void wss_put_int(wss_writer *writer, const char *key, int64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    wss__args_put(writer, key, text);
}

/* Whatever the locale has for a decimal point, of one byte or several, becomes a point. */
static void wss__args_delocalize(char *text) {
    char *to = text;
    int point = 0;
    for (const char *at = text; *at; at++) {
        int belongs = (*at >= '0' && *at <= '9') || *at == '-' || *at == '+' || *at == 'e';
        if (belongs) *to++ = *at;
        else if (!point++) *to++ = '.';
    }
    *to = 0;
}

static uint64_t wss__args_bits(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* 15 digits are always kept by a double and 17 always tell it; the smallest ones hold fewer. Bits are compared: where
   small numbers count as 0 (-ffast-math) they would seem equal. */
static void wss__args_print(double value, int digits, char *text, size_t size) {
    double back = 0;
    for (; digits <= 17; digits++) { /* always: 17 digits are enough */
        snprintf(text, size, "%.*g", digits, value);
        wss__args_delocalize(text);
        if (wss__args_to_double(wss__base_text(text), &back) != WSS_OK) continue;
        if (wss__args_bits(back) == wss__args_bits(value)) return;
    }
}

WSSERVER_API void wss_put_uint(wss_writer *writer, const char *key, uint64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    wss__args_put(writer, key, text);
}

WSSERVER_API void wss_put_double(wss_writer *writer, const char *key, double value) {
    char text[64];
    uint64_t exponent = wss__args_bits(value) >> 52 & 0x7ff; /* tests of bits hold under -ffast-math too */
    if (exponent == 0x7ff) wss__args_fail(writer, WSS_ERR_RANGE);
    if (writer->error) return;
    wss__args_print(value, exponent ? 15 : 1, text, sizeof text);
    wss__args_put(writer, key, text);
}

WSSERVER_API void wss_put_bool(wss_writer *writer, const char *key, int value) {
    wss__args_put(writer, key, value ? "true" : "false");
}

WSSERVER_API void wss_put_null(wss_writer *writer, const char *key) {
    wss__args_put(writer, key, "null");
}

WSSERVER_API void wss_put_raw(wss_writer *writer, const char *key, wss_args value) {
    wss__span raw = value.text ? wss__base_span(value.text, value.length) : wss__base_text("{}");
    int error = value.error;
    if (!error && wss__utf8_check(0, raw.data, raw.size) != 0) error = WSS_ERR_UTF8;
    if (!error) error = wss__json_scan(raw, WSS__JSON_DEPTH_MAX - writer->depth, NULL);
    if (error) wss__args_fail(writer, error);
    if (wss__args_begin(writer, key)) wss__args_append(writer, raw.data, raw.size);
}

WSSERVER_API void wss_put_object(wss_writer *writer, const char *key) {
    if (wss__args_begin(writer, key)) wss__args_open(writer, "{");
}

WSSERVER_API void wss_put_array(wss_writer *writer, const char *key) {
    if (wss__args_begin(writer, key)) wss__args_open(writer, "[");
}

WSSERVER_API void wss_put_end(wss_writer *writer) {
    if (writer->depth <= 1) wss__args_fail(writer, WSS_ERR_ARGUMENT);
    if (!writer->error) wss__args_close(writer);
}

/* ---- [buf] -------------------------------------------------------------------------------------------------
   purpose  frames that wait to be sent: made once, shared by every queue they stand in
   knows    base, mem, frame
   owns     a frame's bytes never change once it is queued; a queue's frames leave in order, whole or from where the
            last send ended; what a frame costs is in the queue's account as long as it stands there, control frames
            never; a key is known as long as its frame may be replaced; nothing here takes longer for a longer queue, or
            for what has left it, and what that needed is given back
   threads  the reference count is atomic; a queue belongs to one thread */

enum {
    WSS__BUF_RING_MIN = 8,
    WSS__BUF_KEYS_MIN = 16,
    WSS__BUF_NODE = 16,     /* bytes that a frame in a queue is charged with for its place, */
    WSS__BUF_KEY_NODE = 64, /* and further ones for the key of one */
    WSS__BUF_MESSAGE = 64   /* what a message costs at least, also where it stands together with others */
};
#define WSS__BUF_BEGUN 0xffffffffu /* the end of one message is all there is */

typedef struct wss__buf_frame {
    size_t size;         /* header and payload */
    union {
        uint32_t hash;   /* of the key */
        uint32_t begun;  /* without one: bytes at its front that are the end of something whose beginning has left */
    };
    uint32_t references; /* atomic */
    uint32_t messages;   /* in it, one that has begun included: of a turn's cork or broadcasts there may be many */
    uint8_t key_size;    /* the key's bytes follow the payload; 0: none */
    uint8_t control;     /* outside the limits and the account */
    uint8_t shared;      /* made for all: who has it in his queue does not hold it alone */
    uint8_t fixed;       /* several frames, or the rest of one: at the head of a queue it is never dropped */
} wss__buf_frame;

static size_t wss__buf_frame_bytes(const wss__buf_frame *frame) {
    return sizeof *frame + frame->size + frame->key_size;
}

static char *wss__buf_frame_data(wss__buf_frame *frame) {
    return (char *)(frame + 1);
}

/* What messages cost that stand together in so many bytes. */
static size_t wss__buf_gathered(size_t size, size_t messages) {
    return size + messages * WSS__BUF_MESSAGE;
}

/* What a frame costs each queue that it stands in, however many share it: what is held with it, and where several
   messages stand in it, about what they would alone; or nothing. A multiple of 16, at least 64. */
static inline size_t wss__buf_charge(const wss__buf_frame *frame) {
    size_t held = wss__mem_charge(wss__buf_frame_bytes(frame)) + WSS__BUF_NODE;
    if (frame->key_size) held += WSS__BUF_KEY_NODE;
    if (frame->messages > 1) held = wss__buf_gathered(held, frame->messages - 1);
    return frame->control ? 0 : held;
}

static void wss__buf_release(wss__mem *mem, wss__buf_frame *frame) {
    if (frame && __atomic_sub_fetch(&frame->references, 1, __ATOMIC_ACQ_REL) == 0)
        wss__mem_free(mem, frame, wss__buf_frame_bytes(frame));
}

static void wss__buf_retain(wss__buf_frame *frame) {
    __atomic_add_fetch(&frame->references, 1, __ATOMIC_RELAXED);
}

/* Room for size bytes as they go onto the wire. */
static wss__buf_frame *wss__buf_new_raw(wss__mem *mem, size_t size, wss__span key) {
    size_t whole = wss__base_add(wss__base_add(sizeof(wss__buf_frame), size), key.size);
    wss__buf_frame *frame = (wss__buf_frame *)wss__mem_get(mem, whole);
    if (!frame) return NULL;
    memset(frame, 0, sizeof *frame);
    frame->size = size;
    frame->references = 1;
    frame->messages = 1;
    frame->key_size = (uint8_t)key.size;
    if (key.size) memcpy(wss__buf_frame_data(frame) + size, key.data, key.size);
    return frame;
}

/* A frame with its header written; *payload is where the caller puts the payload. */
static wss__buf_frame *wss__buf_new(wss__mem *mem, int opcode, size_t payload_size, wss__span key, char **payload) {
    size_t size = wss__base_add(payload_size, wss__frame_head_size(payload_size));
    wss__buf_frame *frame = wss__buf_new_raw(mem, size, key);
    if (!frame) return NULL;
    frame->control = (uint8_t)wss__frame_is_control(opcode);
    *payload = wss__buf_frame_data(frame) + wss__frame_encode(wss__buf_frame_data(frame), opcode, payload_size);
    return frame;
}

/* How many of its messages have not left whole when so many bytes of it have. Takes a step for each. */
static uint32_t wss__buf_unsent(wss__buf_frame *frame, size_t sent) {
    const char *data = wss__buf_frame_data(frame);
    uint32_t all = 0;
    uint32_t unsent = 0;
    if (frame->control) return 0;
    if (!sent || (frame->messages == 1 && !frame->fixed)) return frame->messages;
    size_t begun = frame->begun == WSS__BUF_BEGUN ? frame->size : frame->begun;
    for (size_t at = begun; at < frame->size;) {
        uint32_t message = wss__frame_is_message(data + at) ? 1 : 0;
        at += wss__frame_measure(data + at);
        all += message;
        unsent += at > sent ? message : 0;
    }
    return sent < begun ? unsent + (frame->messages - all) : unsent;
}

/* Where the frame of a key waits in a queue. */
typedef struct wss__buf_key {
    uint32_t hash;     /* 0: nowhere */
    uint32_t position; /* of the frame: the queue's first is at position first */
} wss__buf_key;

typedef struct wss__buf_queue {
    wss__buf_key *keys; /* open addressing, of what may be replaced and nothing else; NULL: no key yet */
    uint32_t key_slots; /* a power of two */
    uint32_t key_count; /* of these, used: half of them at most */
    uint32_t first;
    uint32_t count;
    uint32_t capacity; /* of the ring of frame pointers that follows this struct; a power of two */
    uint32_t taken;    /* bytes that have left since window; this and the next two are the owner's */
    uint64_t window;   /* when counting them began */
    uint64_t since;    /* when bytes last left; 0: nobody has tried yet */
    size_t sent;       /* bytes of the first frame that have left */
    size_t own;        /* what the frames hold that are not shared, control frames and answers included */
} wss__buf_queue;

static wss__buf_frame **wss__buf_at(wss__buf_queue *queue, uint32_t index) {
    return (wss__buf_frame **)(void *)(queue + 1) + ((queue->first + index) & (queue->capacity - 1));
}

static size_t wss__buf_queue_bytes(uint32_t capacity) {
    return sizeof(wss__buf_queue) + capacity * sizeof(wss__buf_frame *);
}

static void wss__buf_free_queue(wss__mem *mem, wss__buf_queue **queue) {
    if (!*queue) return;
    for (uint32_t i = 0; i < (*queue)->count; i++) wss__buf_release(mem, *wss__buf_at(*queue, i));
    wss__mem_free(mem, (*queue)->keys, (*queue)->key_slots * sizeof(wss__buf_key));
    wss__mem_free(mem, *queue, wss__buf_queue_bytes((*queue)->capacity));
    *queue = NULL;
}

/* Gives the ring another size; false where memory is short, the queue is then as it was. */
static int wss__buf_resize(wss__mem *mem, wss__buf_queue **queue, uint32_t capacity) {
    wss__buf_queue *old = *queue;
    wss__buf_queue *made = (wss__buf_queue *)wss__mem_get(mem, wss__buf_queue_bytes(capacity));
    if (!made) return 0;
    if (old) *made = *old;
    else memset(made, 0, sizeof *made);
    made->capacity = capacity;
    for (uint32_t i = 0; i < made->count; i++) *wss__buf_at(made, i) = *wss__buf_at(old, i);
    if (old) wss__mem_free(mem, old, wss__buf_queue_bytes(old->capacity));
    *queue = made;
    return 1;
}

/* Makes room for one more frame. */
static int wss__buf_make_room(wss__mem *mem, wss__buf_queue **queue) {
    uint32_t capacity = *queue ? (*queue)->capacity * 2 : (uint32_t)WSS__BUF_RING_MIN;
    if (*queue && (*queue)->count < (*queue)->capacity) return 1;
    return capacity <= UINT32_MAX / 2 && wss__buf_resize(mem, queue, capacity);
}

/* What a queue holds that nobody shares. */
static size_t wss__buf_own(const wss__buf_queue *queue) {
    return queue->own + wss__buf_queue_bytes(queue->capacity) + queue->key_slots * sizeof(wss__buf_key);
}

/* Index of the first frame that may still be dropped or replaced. */
static uint32_t wss__buf_unstarted(const wss__buf_queue *queue) {
    return queue->sent ? 1 : 0;
}

static wss__span wss__buf_key_of(wss__buf_frame *frame) {
    return wss__base_span(wss__buf_frame_data(frame) + frame->size, frame->key_size);
}

/* A frame has come into the queue, or has gone from it: what it costs. */
static inline size_t wss__buf_weigh(wss__buf_queue *queue, const wss__buf_frame *frame, int come) {
    size_t bytes = frame->shared ? 0 : wss__mem_charge(wss__buf_frame_bytes(frame));
    queue->own = come ? queue->own + bytes : queue->own - bytes;
    return wss__buf_charge(frame);
}

/* The place of this hash that is to be looked at after *step others. There always is an unused one. */
static wss__buf_key *wss__buf_key_place(const wss__buf_queue *queue, uint32_t hash, uint32_t *step) {
    return &queue->keys[(hash + (*step)++) & (queue->key_slots - 1)];
}

static void wss__buf_put_key(wss__buf_queue *queue, wss__buf_key new_key) {
    uint32_t step = 0;
    wss__buf_key *key = wss__buf_key_place(queue, new_key.hash, &step);
    while (key->hash) key = wss__buf_key_place(queue, new_key.hash, &step);
    *key = new_key;
    queue->key_count++;
}

/* This frame cannot be replaced any more. What stands behind its key's place moves up, so nothing is left of it. */
static void wss__buf_forget_key(wss__buf_queue *queue, const wss__buf_frame *frame, uint32_t index) {
    uint32_t step = 0;
    if (!frame->key_size) return;
    wss__buf_key *hole = wss__buf_key_place(queue, frame->hash, &step);
    while (hole->hash && hole->position != queue->first + index) hole = wss__buf_key_place(queue, frame->hash, &step);
    if (!hole->hash) return; /* never: it had been put there */
    step = (uint32_t)(hole - queue->keys) + 1;
    for (wss__buf_key *next; (next = wss__buf_key_place(queue, 0, &step))->hash != 0;) {
        uint32_t from_home = (uint32_t)(next - queue->keys) - next->hash;
        uint32_t from_hole = (uint32_t)(next - hole);
        if ((from_home & (queue->key_slots - 1)) < (from_hole & (queue->key_slots - 1))) continue;
        *hole = *next;
        hole = next;
    }
    hole->hash = 0;
    queue->key_count--;
}

/* Gives the table as many places as its keys need and one more; false where memory is short, it is then as it was. */
static int wss__buf_fit_keys(wss__mem *mem, wss__buf_queue *queue) {
    wss__buf_queue old = *queue;
    uint32_t slots = WSS__BUF_KEYS_MIN;
    while (slots < old.key_count * 4) slots *= 2;
    wss__buf_key *keys = (wss__buf_key *)wss__mem_get_zeroed(mem, slots * sizeof *keys);
    if (!keys) return 0;
    queue->keys = keys;
    queue->key_slots = slots;
    queue->key_count = 0;
    for (uint32_t i = 0; i < old.key_slots; i++)
        if (old.keys[i].hash) wss__buf_put_key(queue, old.keys[i]);
    wss__mem_free(mem, old.keys, old.key_slots * sizeof *old.keys);
    return 1;
}

/* Frames have left: gives back what three quarters of are not used any more, and all of an empty queue. */
static void wss__buf_trim(wss__mem *mem, wss__buf_queue **queue) {
    uint32_t capacity = (*queue)->capacity;
    if (!(*queue)->count) {
        wss__buf_free_queue(mem, queue);
        return;
    }
    while (capacity > WSS__BUF_RING_MIN && (*queue)->count <= capacity / 4) capacity /= 2;
    if (capacity < (*queue)->capacity) wss__buf_resize(mem, queue, capacity);
    if ((*queue)->key_slots > WSS__BUF_KEYS_MIN && (*queue)->key_count <= (*queue)->key_slots / 8)
        wss__buf_fit_keys(mem, *queue);
}

/* Takes over the caller's reference, also on failure. */
static int wss__buf_append(wss__mem *mem, wss__buf_queue **queue, wss__buf_frame *frame) {
    int room = wss__buf_make_room(mem, queue);
    if (room && frame->key_size && (*queue)->key_count >= (*queue)->key_slots / 2)
        room = wss__buf_fit_keys(mem, *queue);
    if (!room) {
        wss__buf_release(mem, frame);
        if (*queue && !(*queue)->count) wss__buf_free_queue(mem, queue); /* an empty one would seem to hold something */
        return 0;
    }
    wss__buf_key key = {frame->hash, (*queue)->first + (*queue)->count};
    if (frame->key_size) wss__buf_put_key(*queue, key);
    *wss__buf_at(*queue, (*queue)->count++) = frame;
    wss__buf_weigh(*queue, frame, 1);
    return 1;
}

/* Puts a frame ahead of all: the ring turns back by one place. */
static int wss__buf_prepend(wss__mem *mem, wss__buf_queue **queue, wss__buf_frame *frame) {
    if (!wss__buf_append(mem, queue, frame)) return 0;
    (*queue)->first--;
    *wss__buf_at(*queue, 0) = frame;
    return 1;
}

/* How many frames stand at the head that nothing may go ahead of. */
static uint32_t wss__buf_border(wss__buf_queue *queue) {
    return queue && (queue->sent || (*wss__buf_at(queue, 0))->fixed) ? 1 : 0;
}

/* Where a ping or a pong waits whose first byte is this one, so that the next of its kind takes its place: of several
   pings only the last needs an answer, RFC 6455 section 5.5.3. NULL: nowhere. */
static wss__buf_frame **wss__buf_waiting(wss__buf_queue *queue, char first) {
    uint32_t border = wss__buf_border(queue);
    for (uint32_t i = border; queue && i < border + 2 && i < queue->count; i++) {
        wss__buf_frame **place = wss__buf_at(queue, i);
        if ((*place)->control && *wss__buf_frame_data(*place) == first) return place;
    }
    return NULL;
}

/* Puts a control frame where the next frame begins, section 5.4, or in the place of one of its kind. So at most a ping
   and a pong wait, and neither behind data. Takes over the caller's reference, also on failure. */
static int wss__buf_interject(wss__mem *mem, wss__buf_queue **queue, wss__buf_frame *frame) {
    uint32_t border = wss__buf_border(*queue);
    wss__buf_frame **place = wss__buf_waiting(*queue, *wss__buf_frame_data(frame));
    if (place) {
        wss__buf_weigh(*queue, *place, 0);
        wss__buf_weigh(*queue, frame, 1);
        wss__buf_release(mem, *place);
        *place = frame;
        return 1;
    }
    if (!wss__buf_prepend(mem, queue, frame)) return 0;
    *wss__buf_at(*queue, 0) = *wss__buf_at(*queue, border);
    *wss__buf_at(*queue, border) = frame;
    return 1;
}

/* Drops everything that has not begun to leave. *messages counts the data messages. Returns what they cost. */
static size_t wss__buf_drop_all(wss__mem *mem, wss__buf_queue *queue, uint64_t *messages) {
    size_t bytes = 0;
    while (queue->count > wss__buf_unstarted(queue)) {
        wss__buf_frame *frame = *wss__buf_at(queue, queue->count - 1);
        if (queue->count == 1 && frame->fixed) break;
        if (!frame->control) *messages += frame->messages;
        bytes += wss__buf_weigh(queue, frame, 0);
        wss__buf_forget_key(queue, frame, queue->count - 1);
        wss__buf_release(mem, frame);
        queue->count--;
    }
    return bytes;
}

/* Puts frame in the place of a waiting one of the same key: true, with what the old one cost, if there is one. The
   caller keeps its reference otherwise. */
static int wss__buf_replace(wss__mem *mem, wss__buf_queue *queue, wss__buf_frame *frame, size_t *old_charge) {
    uint32_t step = 0;
    if (!frame->key_size || !queue->keys) return 0;
    for (wss__buf_key *key; (key = wss__buf_key_place(queue, frame->hash, &step))->hash != 0;) {
        if (key->hash != frame->hash) continue;
        wss__buf_frame **place = wss__buf_at(queue, key->position - queue->first);
        if (!wss__base_equal(wss__buf_key_of(*place), wss__buf_key_of(frame))) continue;
        *old_charge = wss__buf_weigh(queue, *place, 0);
        wss__buf_weigh(queue, frame, 1);
        wss__buf_release(mem, *place);
        *place = frame;
        return 1;
    }
    return 0;
}

/* Bytes that wait, from frame number index on; *size 0 past the end. */
static const char *wss__buf_peek(wss__buf_queue *queue, uint32_t index, size_t *size) {
    *size = 0;
    if (index >= queue->count) return NULL;
    wss__buf_frame *frame = *wss__buf_at(queue, index);
    size_t skip = index ? 0 : queue->sent;
    *size = frame->size - skip;
    return wss__buf_frame_data(frame) + skip;
}

/* Takes size sent bytes off the front; returns what the frames cost that have left whole. */
static size_t wss__buf_consume(wss__mem *mem, wss__buf_queue *queue, size_t size) {
    size_t charge = 0;
    while (size) {
        wss__buf_frame *frame = *wss__buf_at(queue, 0);
        size_t step = wss__base_min(size, frame->size - queue->sent);
        if (!queue->sent) wss__buf_forget_key(queue, frame, 0);
        size -= step;
        queue->sent += step;
        if (queue->sent < frame->size) break;
        queue->sent = 0;
        charge += wss__buf_weigh(queue, frame, 0);
        wss__buf_release(mem, frame);
        queue->first++;
        queue->count--;
    }
    return charge;
}

/* ---- [timer] -----------------------------------------------------------------------------------------------
   purpose  a wheel of deadlines: adding and removing cost the same however many there are, and time passes at
            the price of the deadlines that are due
   knows    base
   owns     level L holds what is due in less than 64^(L+1) milliseconds, one slot per 64^L; a timer is moved
            down when its slot begins, so it fires on its millisecond; of those due in the same millisecond the
            one set first fires first; an expired timer is out of the wheel before it is reported
   threads  one */

enum {
    WSS__TIMER_LEVELS = 5, WSS__TIMER_SLOTS = 64,
    WSS__TIMER_HORIZON = 1 << 30 /* milliseconds; what is due later rings before, and its owner sets it again */
};
#define WSS__TIMER_NONE 0xffffffffu
/* list of what is due and not yet taken */
#define WSS__TIMER_EXPIRED ((uint32_t)(WSS__TIMER_LEVELS * WSS__TIMER_SLOTS))

/* Links are numbers, not pointers, so that a timer costs its owner 12 bytes. */
typedef struct wss__timer_node {
    uint32_t next;
    uint32_t previous; /* plus 1; of the first of its list: the last. 0: in no list */
    uint32_t due;      /* milliseconds, modulo 2^32 */
} wss__timer_node;

typedef struct wss__timer_wheel {
    wss__timer_node *(*at)(void *owner, uint32_t number); /* finds the node of a number */
    void *owner;
    uint64_t now;
    uint64_t occupied[WSS__TIMER_LEVELS + 1]; /* a bit for each list; the last word is of the one that has expired */
    uint32_t lists[WSS__TIMER_LEVELS * WSS__TIMER_SLOTS + 1];
} wss__timer_wheel;

static void wss__timer_init(wss__timer_wheel *wheel, wss__timer_node *(*at)(void *, uint32_t), void *owner,
                            uint64_t now) {
    memset(wheel, 0, sizeof *wheel);
    wheel->at = at;
    wheel->owner = owner;
    wheel->now = now;
    memset(wheel->lists, 0xff, sizeof wheel->lists);
}

static void wss__timer_set_first(wss__timer_wheel *wheel, uint32_t list, uint32_t number) {
    uint64_t *occupied = &wheel->occupied[list / WSS__TIMER_SLOTS];
    uint64_t bit = (uint64_t)1 << (list % WSS__TIMER_SLOTS);
    wheel->lists[list] = number;
    *occupied = number == WSS__TIMER_NONE ? *occupied & ~bit : *occupied | bit;
}

static void wss__timer_link(wss__timer_wheel *wheel, uint32_t number, uint32_t list, int in_front) {
    wss__timer_node *node = wheel->at(wheel->owner, number);
    uint32_t first = wheel->lists[list];
    node->next = in_front ? first : WSS__TIMER_NONE;
    node->previous = number + 1;
    if (first != WSS__TIMER_NONE) {
        wss__timer_node *head = wheel->at(wheel->owner, first);
        node->previous = head->previous;
        if (!in_front) wheel->at(wheel->owner, head->previous - 1)->next = number;
        head->previous = number + 1;
    }
    if (in_front || first == WSS__TIMER_NONE) wss__timer_set_first(wheel, list, number);
}

/* Puts a node whose due is set where it belongs; what is due already goes to the expired list. in_front: before
   what stands there. Of timers due at the same time those from a higher level were set earlier, so they go in
   front. */
static void wss__timer_place(wss__timer_wheel *wheel, uint32_t number, int in_front) {
    uint32_t left = wheel->at(wheel->owner, number)->due - (uint32_t)wheel->now;
    uint32_t level = 0;
    while (level < WSS__TIMER_LEVELS - 1 && left >> (6 * (level + 1))) level++;
    uint32_t slot = (uint32_t)((wheel->now + left) >> (6 * level)) & 63;
    int is_due = left == 0 || left > WSS__TIMER_HORIZON;
    wss__timer_link(wheel, number, is_due ? WSS__TIMER_EXPIRED : level * WSS__TIMER_SLOTS + slot, in_front);
}

static int wss__timer_pending(const wss__timer_node *node) {
    return node->previous != 0;
}

/* The list of which number is the first or the last. When it is due tells where to look. */
static uint32_t wss__timer_list_of(const wss__timer_wheel *wheel, uint32_t number) {
    uint32_t due = wheel->at(wheel->owner, number)->due;
    for (uint32_t level = 0; level < WSS__TIMER_LEVELS; level++) {
        uint32_t list = level * WSS__TIMER_SLOTS + (due >> (6 * level) & 63);
        uint32_t first = wheel->lists[list];
        if (first == WSS__TIMER_NONE) continue;
        if (first == number || wheel->at(wheel->owner, first)->previous == number + 1) return list;
    }
    return WSS__TIMER_EXPIRED;
}

static void wss__timer_remove(wss__timer_wheel *wheel, uint32_t number) {
    wss__timer_node *node = wheel->at(wheel->owner, number);
    if (!node->previous) return;
    wss__timer_node *before = wheel->at(wheel->owner, node->previous - 1);
    int is_first = before->next == WSS__TIMER_NONE; /* then before is the last of its list */
    uint32_t list = is_first || node->next == WSS__TIMER_NONE ? wss__timer_list_of(wheel, number) : WSS__TIMER_NONE;
    uint32_t after = node->next != WSS__TIMER_NONE ? node->next : wheel->lists[list];
    wheel->at(wheel->owner, after)->previous = node->previous;
    if (is_first) wss__timer_set_first(wheel, list, node->next);
    else before->next = node->next;
    node->previous = 0;
}

/* Sets or moves a timer. A time that has passed becomes the next millisecond. One past the horizon becomes the moment
   from which on it is not, or one as far before that: the owner sees that it is early and sets it again, before
   anything that is set later and due with it. */
static void wss__timer_set(wss__timer_wheel *wheel, uint32_t number, uint64_t due) {
    wss__timer_remove(wheel, number);
    if (due <= wheel->now) due = wheel->now + 1;
    due = wheel->now + 1 + (due - wheel->now - 1) % (WSS__TIMER_HORIZON - 1);
    wheel->at(wheel->owner, number)->due = (uint32_t)due;
    wss__timer_place(wheel, number, 0);
}

/* When the next slot that holds something begins; UINT64_MAX if the wheel is empty. Never later than a due timer. */
static uint64_t wss__timer_next(const wss__timer_wheel *wheel) {
    uint64_t next = UINT64_MAX;
    for (int level = 0; level < WSS__TIMER_LEVELS; level++) {
        uint64_t bits = wheel->occupied[level];
        if (!bits) continue;
        uint64_t here = wheel->now >> (6 * level);
        unsigned turn = (unsigned)(here + 1) & 63;
        uint64_t turned = turn ? bits >> turn | bits << (64 - turn) : bits;
        uint64_t begins = (here + 1 + (uint64_t)__builtin_ctzll(turned)) << (6 * level);
        if (begins < next) next = begins;
    }
    return next;
}

/* Empties one list, from its end: its timers go down a level, or to the expired list. */
static void wss__timer_cascade(wss__timer_wheel *wheel, uint32_t level) {
    uint32_t slot = (uint32_t)(wheel->now >> (6 * level)) & 63;
    uint32_t first = wheel->lists[level * WSS__TIMER_SLOTS + slot];
    if (first == WSS__TIMER_NONE) return;
    wss__timer_set_first(wheel, level * WSS__TIMER_SLOTS + slot, WSS__TIMER_NONE);
    uint32_t number;
    uint32_t before = wheel->at(wheel->owner, first)->previous - 1;
    do {
        number = before;
        before = wheel->at(wheel->owner, number)->previous - 1;
        wss__timer_place(wheel, number, 1);
    } while (number != first);
}

/* Number of a timer that is due at now, out of the wheel; WSS__TIMER_NONE when there are no more. Time stands still at
   each due moment until all of it has been taken. */
static uint32_t wss__timer_pop(wss__timer_wheel *wheel, uint64_t now) {
    uint32_t *expired = &wheel->lists[WSS__TIMER_EXPIRED];
    while (*expired == WSS__TIMER_NONE && wheel->now < now) {
        uint64_t next = wss__timer_next(wheel);
        wheel->now = next < now ? next : now;
        if (next > now) break;
        for (uint32_t level = 0; level < WSS__TIMER_LEVELS; level++)
            if ((next & (((uint64_t)1 << (6 * level)) - 1)) == 0) wss__timer_cascade(wheel, level);
    }
    uint32_t number = *expired;
    if (number != WSS__TIMER_NONE) wss__timer_remove(wheel, number);
    return number;
}

/* ---- [slot] ------------------------------------------------------------------------------------------------
   purpose  numbered places whose numbers never come back: the connection array and the timers
   knows    base, mem
   owns     entries stand in chunks that never move; a handle is generation * 2^24 + index; the generation rises
            on release, a place that has used all of them is retired; handle 0 is never issued; what is allocated is
            allocated outside the mutex
   threads  any, under the table's mutex; a place's word is read without it, in one piece

   A place is              from                                         by                       a handle finds it
   FREE                    the release of what stood there, or growth   who held it last         no
   OPENING                 wss__slot_take                               connections: first loop  no
   OWNED, its loop's       wss__slot_set, when all of it is filled      its loop                 yes
   CLOSED, queue's         wss__slot_set, before its socket is closed   its loop                 yes
   retired                 a release that has used the last generation  who held it last         no */

enum { WSS__SLOT_CHUNK = 256, WSS__SLOT_INDEX_BITS = 24 };
#define WSS__SLOT_NONE 0xffffffffu
#define WSS__SLOT_LIMIT (((uint32_t)1 << WSS__SLOT_INDEX_BITS) - 1)
#define WSS__SLOT_GENERATION_MAX (((uint64_t)1 << (64 - WSS__SLOT_INDEX_BITS)) - 1)

enum { WSS__SLOT_FREE = 0, WSS__SLOT_OPENING, WSS__SLOT_OWNED, WSS__SLOT_CLOSED }; /* the lowest two bits of a word */
enum { WSS__SLOT_STATE = 3 };                                                      /* these bits */

/* Every entry begins with this. */
typedef struct wss__slot {
    wss__atomic64 word; /* generation * 2^24 + what the owner says of it + state */
    uint32_t next;      /* free: next free place. else: for the owner's lists */
    uint32_t index;
} wss__slot;

typedef struct wss__slot_chunk {
    char *entries; /* atomic */
    size_t live;   /* of them */
} wss__slot_chunk;

typedef struct wss__slot_table {
    wss__mem *mem;
    wss__slot_chunk *chunks;
    size_t entry_size;
    uint32_t limit;
    uint32_t made; /* places that exist; atomic */
    uint64_t generation; /* of the first use of a place: a random number, so that handles of one server mean nothing
                            to another */
    char apart[WSS__MEM_LINE];
    pthread_mutex_t mutex;
    uint32_t first_free;
    uint32_t live; /* not free; atomic */
    char apart_too[WSS__MEM_LINE];
} wss__slot_table;

static size_t wss__slot_chunk_count(const wss__slot_table *table) {
    return (table->limit + WSS__SLOT_CHUNK - 1) / WSS__SLOT_CHUNK;
}

static int wss__slot_init(wss__slot_table *table, wss__mem *mem, size_t entry_size, uint32_t limit, uint64_t random) {
    memset(table, 0, sizeof *table);
    table->mem = mem;
    table->entry_size = entry_size;
    table->limit = limit < WSS__SLOT_LIMIT ? limit : WSS__SLOT_LIMIT;
    table->first_free = WSS__SLOT_NONE;
    table->generation = (random & (WSS__SLOT_GENERATION_MAX >> 1)) + 1;
    table->chunks = (wss__slot_chunk *)wss__mem_get_zeroed(mem, wss__slot_chunk_count(table) * sizeof *table->chunks);
    if (!table->chunks) return 0;
    pthread_mutex_init(&table->mutex, NULL);
    return 1;
}

static void wss__slot_destroy(wss__slot_table *table) {
    if (!table->chunks) return;
    for (size_t i = 0; i < wss__slot_chunk_count(table); i++)
        wss__mem_free(table->mem, table->chunks[i].entries, table->entry_size * WSS__SLOT_CHUNK);
    wss__mem_free(table->mem, table->chunks, wss__slot_chunk_count(table) * sizeof *table->chunks);
    pthread_mutex_destroy(&table->mutex);
}

static uint32_t wss__slot_index(uint64_t id) {
    return (uint32_t)(id & WSS__SLOT_LIMIT);
}

/* The place with this number, which must exist. */
static wss__slot *wss__slot_at(const wss__slot_table *table, uint32_t index) {
    char *chunk = __atomic_load_n(&table->chunks[index / WSS__SLOT_CHUNK].entries, __ATOMIC_ACQUIRE);
    return (wss__slot *)(void *)(chunk + table->entry_size * (index % WSS__SLOT_CHUNK));
}

static uint64_t wss__slot_word(const wss__slot *slot) {
    return __atomic_load_n(&slot->word, __ATOMIC_ACQUIRE);
}

/* The handle of what stands there. */
static uint64_t wss__slot_id(const wss__slot *slot) {
    return (wss__slot_word(slot) & ~(uint64_t)WSS__SLOT_LIMIT) | slot->index;
}

/* What a handle names, or NULL. Without the mutex that holds only for what the calling loop owns. */
static wss__slot *wss__slot_find(const wss__slot_table *table, uint64_t id) {
    uint32_t index = wss__slot_index(id);
    if (index >= table->limit) return NULL;
    if (!__atomic_load_n(&table->chunks[index / WSS__SLOT_CHUNK].entries, __ATOMIC_ACQUIRE)) return NULL;
    wss__slot *slot = wss__slot_at(table, index);
    uint64_t word = wss__slot_word(slot);
    if ((word ^ id) >> WSS__SLOT_INDEX_BITS) return NULL;
    return word & WSS__SLOT_OWNED ? slot : NULL; /* also CLOSED has this bit */
}

/* What is behind the generation: details, which the owner knows, and state. Under the mutex. */
static void wss__slot_set(wss__slot *slot, uint64_t details, int state) {
    uint64_t generation = slot->word & ~(uint64_t)WSS__SLOT_LIMIT;
    WSS__BASE_ASSERT((unsigned)state > (slot->word & WSS__SLOT_STATE));
    __atomic_store_n(&slot->word, generation | details | (unsigned)state, __ATOMIC_RELEASE);
}

/* The last that was freed is used first: the live ones stay together. */
static void wss__slot_add_free(wss__slot_table *table, wss__slot *slot) {
    slot->next = table->first_free;
    table->first_free = slot->index;
}

/* The first place from this one on whose chunk is not free as a whole; at least what is made, where there is none.
   Under the mutex. */
static uint32_t wss__slot_skip(const wss__slot_table *table, uint32_t index) {
    while (index < table->made && !table->chunks[index / WSS__SLOT_CHUNK].live)
        index = (index / WSS__SLOT_CHUNK + 1) * WSS__SLOT_CHUNK;
    return index;
}

/* Under the mutex. Takes the chunk over. */
static void wss__slot_grow(wss__slot_table *table, char *chunk) {
    uint32_t first = table->made;
    uint32_t made = (uint32_t)wss__base_min((size_t)first + WSS__SLOT_CHUNK, table->limit);
    __atomic_store_n(&table->chunks[first / WSS__SLOT_CHUNK].entries, chunk, __ATOMIC_RELEASE);
    for (uint32_t index = made; index > first; index--) {
        wss__slot *slot = wss__slot_at(table, index - 1);
        slot->index = index - 1;
        __atomic_store_n(&slot->word, table->generation << WSS__SLOT_INDEX_BITS, __ATOMIC_RELEASE);
        wss__slot_add_free(table, slot);
    }
    __atomic_store_n(&table->made, made, __ATOMIC_RELEASE);
}

/* A free place, to be filled, then set to OWNED, or released. NULL: no memory, or all are taken. Takes the mutex. */
static wss__slot *wss__slot_take(wss__slot_table *table) {
    char *chunk = NULL;
    pthread_mutex_lock(&table->mutex);
    if (table->first_free == WSS__SLOT_NONE && table->made < table->limit) {
        pthread_mutex_unlock(&table->mutex);
        chunk = (char *)wss__mem_get_zeroed(table->mem, table->entry_size * WSS__SLOT_CHUNK);
        pthread_mutex_lock(&table->mutex);
    }
    if (chunk && table->made < table->limit) {
        wss__slot_grow(table, chunk);
        chunk = NULL;
    }
    wss__slot *slot = table->first_free == WSS__SLOT_NONE ? NULL : wss__slot_at(table, table->first_free);
    if (slot) {
        table->first_free = slot->next;
        slot->next = WSS__SLOT_NONE;
        wss__slot_set(slot, 0, WSS__SLOT_OPENING);
        table->chunks[slot->index / WSS__SLOT_CHUNK].live++;
        __atomic_add_fetch(&table->live, 1, __ATOMIC_SEQ_CST);
    }
    pthread_mutex_unlock(&table->mutex);
    wss__mem_free(table->mem, chunk, table->entry_size * WSS__SLOT_CHUNK); /* others had made the last */
    return slot;
}

/* Makes the handle dead and the place free, or retires it. Under the mutex. */
static void wss__slot_release(wss__slot_table *table, wss__slot *slot) {
    uint64_t generation = slot->word >> WSS__SLOT_INDEX_BITS;
    WSS__BASE_ASSERT((slot->word & WSS__SLOT_STATE) != WSS__SLOT_FREE);
    int retired = generation >= WSS__SLOT_GENERATION_MAX;
    __atomic_store_n(&slot->word, retired ? 0 : (generation + 1) << WSS__SLOT_INDEX_BITS, __ATOMIC_RELEASE);
    if (!retired) wss__slot_add_free(table, slot);
    table->chunks[slot->index / WSS__SLOT_CHUNK].live--;
    __atomic_sub_fetch(&table->live, 1, __ATOMIC_SEQ_CST);
}


/* ---- [session] ---------------------------------------------------------------------------------------------
   purpose  the protocol of one connection: bytes go in, events come out when asked for, bytes to send are queued
   knows    base, mem, utf8, http, frame, buf
   owns     after the end event nothing follows; at most one Close frame goes out and no data after it; input that is
            not used up at once is kept in one block that exists only meanwhile; no socket, clock or callback is seen
   threads  the loop's; queued is read, and coming changed, by others
   spec     RFC 6455 sections 4 to 7 */

enum { /* phases */
    WSS__SESSION_HEAD = 0, /* request head */
    WSS__SESSION_ASKED,    /* the request waits for an answer, input is held */
    WSS__SESSION_OPEN,
    WSS__SESSION_CLOSING,  /* our Close is out, the peer's is awaited */
    WSS__SESSION_DONE      /* input is ignored; what is queued may still leave */
};

enum { WSS__SESSION_UNIT = 16 }; /* bytes; what frames cost is a multiple of it */
#define WSS__SESSION_OWED 0x80000000u /* another thread was refused, and shall be told when to try again */

enum { /* events; NEED: input is used up */
    WSS__SESSION_AGAIN = -1, WSS__SESSION_NEED = 0,
    WSS__SESSION_UPGRADE, WSS__SESSION_HTTP, WSS__SESSION_MESSAGE, WSS__SESSION_PONG, WSS__SESSION_END
};

enum {
    WSS__SESSION_FRAMES = 1024,     /* of a message; and one more for each so many bytes of it: */
    WSS__SESSION_FRAME_BYTES = 16,
    WSS__SESSION_STEP = 16384,      /* a rest of a large message below this is worth no step of its own */
    WSS__SESSION_BROADCASTS = 256,        /* that leave together, */
    WSS__SESSION_BROADCAST_BYTES = 65535  /* and bytes of them: positions have 16 bits */
};

/* Adds to a counter that one thread writes and any thread reads. */
#define WSS__COUNT(counter, n) \
    __atomic_store_n(&(counter), __atomic_load_n(&(counter), __ATOMIC_RELAXED) + (uint64_t)(n), __ATOMIC_RELAXED)
#define WSS__COUNT_DOWN(counter) \
    __atomic_store_n(&(counter), __atomic_load_n(&(counter), __ATOMIC_RELAXED) - 1, __ATOMIC_RELAXED)

/* Counters that one thread writes and any thread reads. */
typedef wss_stats wss__session_stats __attribute__((__aligned__(8)));

/* Input that could not be used up at once. */
typedef struct wss__session_input {
    wss__frame_head frame;  /* being received */
    size_t frame_left;      /* payload bytes of it still to come */
    char *data;             /* the request head, or the message so far */
    size_t size;
    size_t capacity;
    char *held;             /* received but not looked at: reading is paused */
    size_t held_size;
    size_t held_at;
    uint64_t since;         /* when the message began, kept by the owner; 0: not set */
    wss__utf8 utf8;
    uint32_t fragments;
    uint8_t in_frame;
    uint8_t in_message;
    uint8_t opcode;         /* of the message */
    uint8_t head_size;      /* bytes of a frame header that is not whole yet */
    char head[WSS__FRAME_HEAD_MAX];
    char control[WSS__FRAME_CONTROL_MAX];
} wss__session_input;

enum { /* where a peer is */
    WSS__SESSION_LOCAL = 1,  /* on this machine */
    WSS__SESSION_TRUSTED = 2 /* in options.proxies */
};

typedef struct wss__session {
    wss__session_input *input; /* NULL: nothing is pending */
    wss__buf_queue *queue;     /* NULL: nothing waits */
    uint32_t queued;           /* what the frames in the queue cost, in units; the loop's, atomic */
    uint32_t coming;           /* what those cost that other threads have sent and the loop has not seen yet, in
                                  units; and OWED; atomic */
    uint32_t seen;             /* milliseconds, modulo 2^32: when bytes last came; the owner's; atomic */
    union {                    /* no two bytes are left, and no message follows our Close */
        uint16_t from;         /* until it is open: WSS__SESSION_LOCAL, WSS__SESSION_TRUSTED */
        uint16_t given;        /* while it receives: up to where it has the broadcasts */
        uint16_t code;         /* from then on: of our Close */
        uint16_t drained;      /* once it is done, the owner's: KiB that were read of its stream and dropped */
    };
    union {                    /* likewise */
        uint8_t receives;      /* while open: broadcasts are for it, its connect handlers were called */
        uint8_t cause;         /* from then on: of our Close */
    };
    uint8_t phase;
} wss__session;

typedef struct wss__session_bytes {
    char *data;
    size_t size;
} wss__session_bytes;

/* Messages that are sent back as they came stay where they were received: there a reply, whose header is
   shorter, always fits in front of what has not been looked at. */
typedef struct wss__session_in_place {
    char *replies;              /* where they lie among the received bytes; NULL: in the cork */
    char *head;                 /* where the header goes with which the message in hand is sent back; NULL: nowhere */
    wss__session_bytes message; /* the one in hand, which the handlers see; data NULL: none */
    int opcode;                 /* of it */
} wss__session_in_place;

/* Broadcasts of a turn, which leave together when it ends: what not every receiver has been given yet. Each knows up to
   which position it has them; whatever else it is sent goes behind. */
typedef struct wss__session_broadcasts {
    size_t size;    /* bytes in them; atomic */
    uint32_t count; /* atomic */
    uint16_t end;   /* position behind the last: bytes of all broadcasts so far, modulo 2^16 */
    wss__buf_frame *frames[WSS__SESSION_BROADCASTS];
} wss__session_broadcasts;

/* What the sessions of one loop share. The cork gathers what the session in hand sends, to leave in one call. */
typedef struct wss__session_shared {
    wss__mem *mem;
    const wss_options *options;
    wss__session *corked;
    char *cork;
    size_t cork_size;         /* bytes gathered */
    size_t cork_cost;         /* what they would cost in a queue: see wss__buf_gathered */
    size_t cork_capacity;
    wss__session_in_place in_place; /* where what is gathered lies as long as it is only that */
    wss__session_stats stats; /* written by the loop alone */
    wss__session_broadcasts broadcasts;
} wss__session_shared;

typedef struct wss__session_event {
    char *data; /* message, pong: payload. end: reason */
    size_t size;
    int opcode;
    int code;
    int cause;
    int rule;   /* end before the upgrade: by which the request was refused, which is what is known of it */
    int final;  /* end: the peer's Close has come, it may send nothing more */
    int ours;   /* end: it was begun by a Close of ours */
    wss_request request;
} wss__session_event;

static void wss__session_skip(wss__session_bytes *bytes, size_t size) {
    bytes->data += size;
    bytes->size -= size;
}

/* Each is a frame as well; wss_get_stats adds them to the other ones. */
static void wss__session_count_messages(wss__session_shared *shared, uint32_t count) {
    WSS__COUNT(shared->stats.messages_out, count);
}

/* Bytes that the queue holds. */
static size_t wss__session_queued(const wss__session *session) {
    return (size_t)__atomic_load_n(&session->queued, __ATOMIC_SEQ_CST) * WSS__SESSION_UNIT;
}

/* Bytes that are on their way to the loop. */
static size_t wss__session_coming(const wss__session *session) {
    uint32_t units = __atomic_load_n(&session->coming, __ATOMIC_SEQ_CST) & ~WSS__SESSION_OWED;
    return (size_t)units * WSS__SESSION_UNIT;
}

static void wss__session_account(wss__session_shared *shared, wss__session *session, size_t add, size_t subtract) {
    uint32_t units = session->queued + (uint32_t)(add / WSS__SESSION_UNIT) - (uint32_t)(subtract / WSS__SESSION_UNIT);
    __atomic_store_n(&session->queued, units, __ATOMIC_SEQ_CST);
    size_t queued = (size_t)units * WSS__SESSION_UNIT;
    if (queued > shared->stats.queued_peak) __atomic_store_n(&shared->stats.queued_peak, queued, __ATOMIC_RELAXED);
}

/* ---- output ---- */

/* From now on the cork gathers what this session sends; NULL: nobody's. */
static void wss__session_take_cork(wss__session_shared *shared, wss__session *session) {
    shared->corked = session;
    shared->cork_size = 0;
    shared->cork_cost = 0;
    shared->in_place.replies = NULL;
}

static size_t wss__session_cork_room(const wss__session_shared *shared) {
    return shared->cork_size < shared->cork_capacity ? shared->cork_capacity - shared->cork_size : 0;
}

/* What is sent back is kept in the cork from now on, no longer where it was received. */
static void wss__session_leave_reply(wss__session_shared *shared) {
    if (shared->in_place.replies && shared->cork_size)
        memcpy(shared->cork, shared->in_place.replies, shared->cork_size);
    shared->in_place.replies = NULL;
    shared->in_place.head = NULL;
}

/* Where size bytes for this session, so many messages, may be written to leave with this turn's send; NULL: they must
   be queued. */
static char *wss__session_cork(wss__session_shared *shared, wss__session *session, size_t size, size_t messages) {
    if (shared->corked != session || session->queue || size > wss__session_cork_room(shared)) return NULL;
    wss__session_leave_reply(shared);
    char *place = shared->cork + shared->cork_size;
    shared->cork_size += size;
    shared->cork_cost += wss__buf_gathered(size, messages);
    return place;
}

/* Where a message that lies whole among the received bytes is unmasked to: behind the replies so far and room
   for a header, so that sending it back needs no copy. */
static char *wss__session_place(wss__session_shared *shared, const wss__session *session, char *data, size_t size) {
    size_t head = wss__frame_head_size(size);
    if (shared->corked != session || !shared->in_place.replies || session->queue) return data;
    if (!shared->cork_size && (size_t)(data - shared->in_place.replies) >= head) shared->in_place.replies = data - head;
    char *place = shared->in_place.replies + shared->cork_size + head;
    if (place > data) return data; /* its own header came with an earlier receive */
    shared->in_place.head = place - head;
    return place;
}

static int wss__session_is_in_hand(const wss__session_shared *shared, const void *data, size_t size) {
    const wss__session_bytes *message = &shared->in_place.message;
    return message->data && data == message->data && size == message->size;
}

/* Whether this is the text that the handler was given: that has been checked. */
static int wss__session_is_checked(const wss__session_shared *shared, const void *data, size_t size) {
    return shared->in_place.opcode == WSS_TEXT && wss__session_is_in_hand(shared, data, size);
}

/* Sends back the message in hand by writing a header in front of it. False where that cannot be: then it must
   be copied. */
static int wss__session_send_back(wss__session_shared *shared, const wss__session *session, int opcode) {
    if (!shared->in_place.head || session->queue || session->phase != WSS__SESSION_OPEN) return 0;
    size_t size = shared->in_place.message.size;
    size += wss__frame_encode(shared->in_place.head, opcode, size);
    shared->cork_size += size;
    shared->cork_cost += wss__buf_gathered(size, 1);
    shared->in_place.head = NULL;
    return 1;
}

/* Queues bytes outside the limits and the account: control frames and HTTP answers. first: what waits may be
   overtaken. */
static int wss__session_put_raw(wss__session_shared *shared, wss__session *session, wss__span head, wss__span rest,
                                int first) {
    size_t size = wss__base_add(head.size, rest.size);
    char *place = wss__session_cork(shared, session, size, 0);
    wss__buf_frame *frame = NULL;
    wss__buf_frame **like = place || !first ? NULL : wss__buf_waiting(session->queue, *head.data);
    if (like && (*like)->size == size) place = wss__buf_frame_data(*like); /* a flood of pings needs no memory */
    if (!place) {
        frame = wss__buf_new_raw(shared->mem, size, wss__base_span(NULL, 0));
        if (!frame) return 0;
        frame->control = 1;
        frame->fixed = session->phase != WSS__SESSION_OPEN; /* without its 101 nothing that follows makes sense */
        place = wss__buf_frame_data(frame);
    }
    if (head.size) memcpy(place, head.data, head.size);
    if (rest.size) memcpy(place + head.size, rest.data, rest.size);
    if (!frame) return 1;
    return first ? wss__buf_interject(shared->mem, &session->queue, frame)
                 : wss__buf_append(shared->mem, &session->queue, frame);
}

/* A ping or a pong goes ahead of what waits, a Close behind it. */
static int wss__session_put_control(wss__session_shared *shared, wss__session *session, int opcode, wss__span payload) {
    char head[WSS__FRAME_HEAD_MAX_OUT];
    size_t size = wss__frame_encode(head, opcode, payload.size);
    WSS__COUNT(shared->stats.frames_out, 1);
    return wss__session_put_raw(shared, session, wss__base_span(head, size), payload, opcode != WSS__FRAME_CLOSE);
}

/* True while the queue may take one more message; an empty one always may. One with a key, of which none waits, goes up
   to twice the limit. */
static int wss__session_has_room(const wss__session_shared *shared, const wss__session *session, int keyed) {
    size_t queued = wss__session_queued(session);
    size_t limit = wss__base_min(shared->options->max_queued, (size_t)UINT32_MAX * (WSS__SESSION_UNIT / 4));
    return queued == 0 || (keyed ? queued / 2 : queued) < limit;
}

/* Puts a frame into the queue, or in front of it, and into the account; takes over the caller's reference. */
static int wss__session_append(wss__session_shared *shared, wss__session *session, wss__buf_frame *frame, int first) {
    size_t charge = wss__buf_charge(frame);
    int put = first ? wss__buf_prepend(shared->mem, &session->queue, frame)
                    : wss__buf_append(shared->mem, &session->queue, frame);
    if (put) wss__session_account(shared, session, charge, 0);
    return put;
}

/* Queues a data frame; takes over the caller's reference. judge: only if there is room for it, or it takes the place of
   one of its key. WSS_OK, WSS_ERR_FULL or WSS_ERR_MEMORY. */
static int wss__session_push(wss__session_shared *shared, wss__session *session, wss__buf_frame *frame, int judge) {
    size_t old = 0;
    if (session->queue && wss__buf_replace(shared->mem, session->queue, frame, &old)) {
        wss__session_account(shared, session, wss__buf_charge(frame), old);
        WSS__COUNT(shared->stats.dropped_policy, 1);
        return WSS_OK;
    }
    if (judge && !wss__session_has_room(shared, session, frame->key_size)) {
        wss__buf_release(shared->mem, frame);
        return WSS_ERR_FULL;
    }
    if (!wss__session_append(shared, session, frame, 0)) return WSS_ERR_MEMORY;
    wss__session_count_messages(shared, frame->messages);
    return WSS_OK;
}

/* A frame of what is left of two pieces, one after the other, of which so much has been sent: the end of one message,
   so nothing of it is ever dropped. NULL: no memory. */
static wss__buf_frame *wss__session_rest(wss__mem *mem, wss__span head, wss__span rest, size_t sent) {
    wss__buf_frame *frame = wss__buf_new_raw(mem, head.size + rest.size - sent, wss__base_span(NULL, 0));
    if (!frame) return NULL;
    size_t head_sent = wss__base_min(sent, head.size);
    char *at = wss__buf_frame_data(frame);
    size_t head_left = head.size - head_sent;
    frame->fixed = 1;
    frame->begun = WSS__BUF_BEGUN;
    if (head_left) memcpy(at, head.data + head_sent, head_left);
    if (frame->size > head_left) memcpy(at + head_left, rest.data + (sent - head_sent), frame->size - head_left);
    return frame;
}

/* Where what was gathered goes on behind its first sent bytes with something whose beginning has not left; *messages
   loses those that have left whole. The answer to the upgrade, which may stand at the front, counts as begun. */
static size_t wss__session_border(wss__span all, size_t sent, uint32_t *messages) {
    size_t at = (unsigned char)all.data[0] < 0x80 ? wss__http_find_end(all.data, all.size, 0) : 0;
    while (at < sent) {
        uint32_t message = wss__frame_is_message(all.data + at) ? 1 : 0;
        at += wss__frame_measure(all.data + at);
        if (at <= sent) *messages -= message;
    }
    return at;
}

/* Keeps what is left of what was gathered as the head of the queue. It may begin inside a frame, so nothing of it is
   ever dropped. False: no memory, it is lost. */
__attribute__((__noinline__)) static int wss__session_keep(wss__session_shared *shared, wss__session *session,
                                                           wss__span all, uint32_t messages, size_t sent) {
    size_t border = messages ? wss__session_border(all, sent, &messages) : all.size;
    wss__buf_frame *frame = wss__session_rest(shared->mem, all, wss__base_span(NULL, 0), sent);
    if (frame) frame->messages = messages;
    if (frame) frame->begun = (uint32_t)(border - sent);
    if (frame && wss__session_append(shared, session, frame, 1)) return 1;
    WSS__COUNT(shared->stats.dropped_gone, messages);
    return 0;
}

/* So much of the cork has left. */
static int wss__session_uncork(wss__session_shared *shared, wss__session *session, size_t sent) {
    char *gathered = shared->in_place.replies ? shared->in_place.replies : shared->cork;
    wss__span all = wss__base_span(gathered, shared->cork_size);
    size_t messages = (shared->cork_cost - shared->cork_size) / WSS__BUF_MESSAGE;
    shared->cork_size = 0;
    shared->cork_cost = 0;
    shared->in_place.head = NULL;
    return sent == all.size || wss__session_keep(shared, session, all, (uint32_t)messages, sent);
}

/* Bytes of the queue left; the account follows. */
static void wss__session_sent(wss__session_shared *shared, wss__session *session, size_t size) {
    if (!session->queue) return;
    wss__session_account(shared, session, 0, wss__buf_consume(shared->mem, session->queue, size));
    wss__buf_trim(shared->mem, &session->queue);
}

/* ---- broadcasts ---- */

/* Broadcasts are for it: not before its connect handlers, nor after a Close. */
static int wss__session_is_receiver(const wss__session *session) {
    return session->phase == WSS__SESSION_OPEN && session->receives;
}

/* Bytes of the broadcasts that wait which this receiver has not been given: the last ones. */
static size_t wss__session_missing(const wss__session_shared *shared, const wss__session *session) {
    return (uint16_t)(shared->broadcasts.end - session->given);
}

/* The number of the first of them. Nearly always it is all or none; else it takes a step for each. */
static uint32_t wss__session_first_missing(const wss__session_shared *shared, const wss__session *session) {
    size_t missing = wss__session_missing(shared, session);
    uint32_t first = missing == shared->broadcasts.size ? 0 : shared->broadcasts.count;
    while (first && missing) missing -= shared->broadcasts.frames[--first]->size;
    return first;
}

/* Gives a receiver that is about to be none what it has not been given: that comes before whatever ends it. */
static void wss__session_catch_up(wss__session_shared *shared, wss__session *session) {
    if (!wss__session_is_receiver(session)) return;
    uint32_t at = wss__session_first_missing(shared, session);
    session->given = shared->broadcasts.end;
    for (; at < shared->broadcasts.count; at++) {
        wss__buf_retain(shared->broadcasts.frames[at]);
        if (wss__session_push(shared, session, shared->broadcasts.frames[at], 1))
            WSS__COUNT(shared->stats.refused_full, 1);
    }
}

/* Drops what has not begun to leave, and broadcasts that it has not been given. */
static void wss__session_drop_unsent(wss__session_shared *shared, wss__session *session) {
    uint64_t messages = 0;
    if (wss__session_is_receiver(session)) {
        messages = shared->broadcasts.count - wss__session_first_missing(shared, session);
        session->given = shared->broadcasts.end;
    }
    if (session->queue) {
        wss__session_account(shared, session, 0, wss__buf_drop_all(shared->mem, session->queue, &messages));
        wss__buf_trim(shared->mem, &session->queue);
    }
    WSS__COUNT(shared->stats.dropped_gone, messages);
}

/* Drops all: no more of it will leave. */
static void wss__session_drop(wss__session_shared *shared, wss__session *session) {
    size_t rest;
    wss__session_drop_unsent(shared, session);
    if (!session->queue) return;
    wss__buf_frame *begun = *wss__buf_at(session->queue, 0);
    WSS__COUNT(shared->stats.dropped_gone, wss__buf_unsent(begun, session->queue->sent));
    wss__buf_peek(session->queue, 0, &rest);
    wss__session_sent(shared, session, rest);
}

/* ---- ends ---- */

static int wss__session_put_close(wss__session_shared *shared, wss__session *session, int code, wss__span reason) {
    char payload[WSS__FRAME_CONTROL_MAX];
    wss__base_store_be(payload, (uint64_t)code, 2);
    size_t size = wss__base_min(reason.size, sizeof payload - 2);
    wss__session_catch_up(shared, session);
    if (size) memcpy(payload + 2, reason.data, size);
    wss__span all = wss__base_span(payload, code == WSS_CLOSE_NO_CODE ? 0 : size + 2);
    return wss__session_put_control(shared, session, WSS__FRAME_CLOSE, all);
}

static int wss__session_done(wss__session_shared *shared, wss__session *session, wss__session_event *event, int code,
                             int cause, wss__span reason) {
    if (session->phase == WSS__SESSION_DONE) return WSS__SESSION_NEED;
    wss__session_catch_up(shared, session);
    int ours = session->phase == WSS__SESSION_CLOSING;
    event->code = ours ? session->code : code;
    event->cause = ours ? session->cause : cause;
    event->data = (char *)(uintptr_t)reason.data;
    event->size = ours ? 0 : reason.size;
    event->final = 0;
    event->ours = ours;
    session->phase = WSS__SESSION_DONE;
    return WSS__SESSION_END;
}

/* Ends a session. say: an open one with a Close that tells the cause, unless that is that nobody listens. */
static int wss__session_end(wss__session_shared *shared, wss__session *session, int cause, int say,
                            wss__session_event *event) {
    int code = say ? wss__base_code_of(cause) : WSS_CLOSE_LOST;
    if (session->phase == WSS__SESSION_OPEN && code != WSS_CLOSE_LOST)
        wss__session_put_close(shared, session, code, wss__base_text(wss_cause_text(cause)));
    return wss__session_done(shared, session, event, code, cause, wss__base_span(NULL, 0));
}

static int wss__session_fail(wss__session_shared *shared, wss__session *session, int cause, wss__session_event *event) {
    return wss__session_end(shared, session, cause, 1, event);
}

/* Begins the closing handshake from our side; the end comes with the peer's Close, its end of stream, or a
   deadline. code WSS_CLOSE_LOST: nothing more can be said, the end will tell the cause. False where there is no
   memory for the Close: then there is no answer to wait for. */
static int wss__session_close(wss__session_shared *shared, wss__session *session, int code, wss__span reason,
                              int cause) {
    if (session->phase != WSS__SESSION_OPEN) return 1;
    wss__session_catch_up(shared, session);
    int put = code == WSS_CLOSE_LOST || wss__session_put_close(shared, session, code, reason);
    session->phase = WSS__SESSION_CLOSING;
    session->code = (uint16_t)code;
    session->cause = (uint8_t)cause;
    return put;
}

/* ---- [input] -----------------------------------------------------------------------------------------------
   purpose  the protocol of one connection, inwards: bytes are taken apart, events come out when asked for
   knows    base, mem, utf8, address, http, origin, proxy, answer, frame, buf, session
   owns     input that is not used up at once is kept in one block that exists only meanwhile; after the end event
            nothing follows
   threads  the loop's
   spec     RFC 6455 sections 4 to 7 */

static wss__session_input *wss__input_need_input(wss__session_shared *shared, wss__session *session) {
    if (!session->input)
        session->input = (wss__session_input *)wss__mem_get_zeroed(shared->mem, sizeof *session->input);
    return session->input;
}

static void wss__input_free_data(wss__session_shared *shared, wss__session_input *input) {
    wss__mem_free(shared->mem, input->data, input->capacity);
    input->data = NULL;
    input->size = 0;
    input->capacity = 0;
}

static void wss__input_free_held(wss__session_shared *shared, wss__session_input *input) {
    wss__mem_free(shared->mem, input->held, input->held_size);
    input->held = NULL;
    input->held_size = 0;
    input->held_at = 0;
}

static void wss__input_free_input(wss__session_shared *shared, wss__session *session) {
    wss__session_input *input = session->input;
    if (!input) return;
    wss__input_free_data(shared, input);
    wss__input_free_held(shared, input);
    wss__mem_free(shared->mem, input, sizeof *input);
    session->input = NULL;
}

/* After an event has been handled: gives back what held it. */
static inline void wss__input_event_done(wss__session_shared *shared, wss__session *session) {
    wss__session_input *input = session->input;
    shared->in_place.message.data = NULL;
    shared->in_place.head = NULL;
    if (!input || session->phase == WSS__SESSION_HEAD) return; /* the head so far is in it */
    if (!input->in_message) wss__input_free_data(shared, input);
    if (!input->in_message && !input->in_frame && !input->head_size && !input->held)
        wss__input_free_input(shared, session);
}

/* Part of a head or message has come and the rest has not. */
static int wss__input_is_partial(const wss__session *session) {
    const wss__session_input *input = session->input;
    return input && (input->in_message || input->in_frame || input->head_size);
}

/* Keeps input that may not be looked at now; false where memory is short. */
static int wss__input_hold(wss__session_shared *shared, wss__session *session, wss__session_bytes *bytes) {
    wss__session_input *input = session->input;
    if (input && input->held) { /* nothing else is looked at before it: the bytes are its rest */
        input->held_at = (size_t)(bytes->data - input->held);
        if (!bytes->size) wss__input_free_held(shared, input);
        return 1;
    }
    if (!bytes->size) return 1;
    input = wss__input_need_input(shared, session);
    if (!input) return 0;
    input->held = (char *)wss__mem_get(shared->mem, bytes->size);
    if (!input->held) return 0;
    memcpy(input->held, bytes->data, bytes->size);
    input->held_size = bytes->size;
    return 1;
}

/* The held input, to be looked at now and given to wss__input_hold again afterwards. False: there is none. */
static int wss__input_take_held(wss__session *session, wss__session_bytes *bytes) {
    wss__session_input *input = session->input;
    if (!input || !input->held) return 0;
    bytes->data = input->held + input->held_at;
    bytes->size = input->held_size - input->held_at;
    return 1;
}

/* Capacity for more bytes and a NUL, and ahead of them for as many as have come. Grows with what has come,
   never with what was announced; only a small rest of a large message is not left to another step. */
static int wss__input_grow(wss__session_shared *shared, wss__session_input *input, size_t more, size_t ahead,
                             size_t most) {
    if (more < input->capacity - input->size) return 1;
    size_t least = wss__base_add(wss__base_add(input->size, more), 1);
    size_t wanted = wss__base_max(wss__base_multiply(input->capacity, 2), wss__base_add(least, ahead));
    if (wanted > WSS__SESSION_STEP && wss__base_add(wanted, WSS__SESSION_STEP) > most) wanted = wss__base_add(most, 1);
    size_t capacity = wss__base_max(least, wss__base_min(wanted, wss__base_add(most, 1)));
    char *data = (char *)wss__mem_resize(shared->mem, input->data, input->capacity, capacity);
    if (!data) return 0;
    input->data = data;
    input->capacity = capacity;
    return 1;
}

static int wss__input_deliver(wss__session_shared *shared, wss__session *session, int opcode, char *data, size_t size,
                                wss__session_event *event) {
    WSS__COUNT(shared->stats.messages_in, 1);
    if (session->phase == WSS__SESSION_CLOSING) {
        wss__input_event_done(shared, session);
        return WSS__SESSION_AGAIN;
    }
    event->opcode = opcode;
    event->data = data;
    event->size = size;
    shared->in_place.message.data = data;
    shared->in_place.message.size = size;
    shared->in_place.opcode = opcode;
    return WSS__SESSION_MESSAGE;
}

/* RFC 6455 section 5.5.1. */
static int wss__input_on_close(wss__session_shared *shared, wss__session *session, wss__span payload,
                                 wss__session_event *event) {
    int code = payload.size > 1 ? (int)wss__base_load_be(payload.data, 2) : WSS_CLOSE_NO_CODE;
    if (payload.size && !wss__frame_code_valid(code)) /* one byte is no code either */
        return wss__session_fail(shared, session, WSS_CAUSE_CLOSE_FRAME, event);
    wss__span reason = payload.size ? wss__base_span(payload.data + 2, payload.size - 2) : payload;
    if (wss__utf8_check(0, reason.data, reason.size) != 0)
        return wss__session_fail(shared, session, WSS_CAUSE_UTF8, event);
    if (session->phase == WSS__SESSION_OPEN) wss__session_put_close(shared, session, code, wss__base_span(NULL, 0));
    int kind = wss__session_done(shared, session, event, code, WSS_CAUSE_PEER_CLOSED, reason);
    event->final = 1;
    return kind;
}

static int wss__input_control(wss__session_shared *shared, wss__session *session, int opcode, char *data, size_t size,
                                wss__session_event *event) {
    wss__span payload = wss__base_span(data, size);
    if (opcode == WSS__FRAME_CLOSE) return wss__input_on_close(shared, session, payload, event);
    if (session->phase != WSS__SESSION_OPEN) return WSS__SESSION_AGAIN;
    if (opcode == WSS__FRAME_PING && wss__session_put_control(shared, session, WSS__FRAME_PONG, payload))
        return WSS__SESSION_AGAIN;
    if (opcode == WSS__FRAME_PING) return wss__session_fail(shared, session, WSS_CAUSE_MEMORY, event);
    event->data = data;
    event->size = size;
    return WSS__SESSION_PONG;
}

/* The next frame's header: its length, 0 where input ended, or minus a cause. */
static int wss__input_take_head(wss__session_shared *shared, wss__session *session, wss__session_bytes *bytes,
                                  wss__frame_head *head) {
    wss__session_input *input = session->input;
    if (!input || !input->head_size) {
        int length = wss__frame_decode(bytes->data, bytes->size, head);
        if (length > 0) wss__session_skip(bytes, (size_t)length);
        if (length != 0 || !bytes->size) return length;
        input = wss__input_need_input(shared, session);
        if (!input) return -WSS_CAUSE_MEMORY;
        memcpy(input->head, bytes->data, bytes->size);
        input->head_size = (uint8_t)bytes->size;
        wss__session_skip(bytes, bytes->size);
        return 0;
    }
    while (bytes->size) {
        input->head[input->head_size++] = *bytes->data;
        wss__session_skip(bytes, 1);
        int length = wss__frame_decode(input->head, input->head_size, head);
        if (length == 0) continue;
        input->head_size = 0;
        return length;
    }
    return 0;
}

/* Whether a data frame may come now, and this large. 0 or the cause. */
static int wss__input_check_frame(const wss__session_shared *shared, const wss__session *session,
                                    const wss__frame_head *head) {
    const wss__session_input *input = session->input;
    int in_message = input && input->in_message;
    size_t before = in_message ? input->size : 0;
    if ((head->opcode == WSS__FRAME_CONTINUATION) != in_message) return WSS_CAUSE_CONTINUATION;
    if (in_message && input->fragments >= WSS__SESSION_FRAMES + before / WSS__SESSION_FRAME_BYTES)
        return WSS_CAUSE_TOO_MANY_FRAGMENTS;
    if (head->size > shared->options->max_message - before) return WSS_CAUSE_TOO_BIG;
    return 0;
}

/* Takes what has come of the payload of the frame in hand. */
static int wss__input_payload(wss__session_shared *shared, wss__session *session, wss__session_bytes *bytes,
                                wss__session_event *event) {
    wss__session_input *input = session->input;
    size_t size = wss__base_min(bytes->size, input->frame_left);
    size_t offset = (size_t)input->frame.size - input->frame_left;
    int control = wss__frame_is_control(input->frame.opcode);
    /* How large the message in hand can still become. Room for the frame in hand alone would be used up by each
       small fragment, and the message copied for each. */
    size_t most = input->frame.final ? input->size + input->frame_left : shared->options->max_message;
    if (!control && !wss__input_grow(shared, input, size, input->size + size, most))
        return wss__session_fail(shared, session, WSS_CAUSE_MEMORY, event);
    char *place = control ? input->control + offset : input->data + input->size;
    wss__frame_unmask(place, bytes->data, size, input->frame.mask, offset);
    wss__session_skip(bytes, size);
    input->frame_left -= size;
    if (!control) input->size += size;
    if (!control && input->opcode == WSS_TEXT) input->utf8 = wss__utf8_check(input->utf8, place, size);
    if (input->utf8 == WSS__UTF8_REJECT) return wss__session_fail(shared, session, WSS_CAUSE_UTF8, event);
    if (input->frame_left) return WSS__SESSION_NEED;
    input->in_frame = 0;
    if (control)
        return wss__input_control(shared, session, input->frame.opcode, input->control, (size_t)input->frame.size,
                                    event);
    if (!input->frame.final) return WSS__SESSION_AGAIN;
    if (input->utf8 != 0) return wss__session_fail(shared, session, WSS_CAUSE_UTF8, event);
    input->in_message = 0;
    return wss__input_deliver(shared, session, input->opcode, input->data, input->size, event);
}

/* A frame that has come whole and is a message or control frame by itself: unmasked and used where it lies. */
static int wss__input_whole(wss__session_shared *shared, wss__session *session, const wss__frame_head *head,
                              wss__session_bytes *bytes, wss__session_event *event) {
    char *from = bytes->data;
    size_t size = (size_t)head->size;
    int control = wss__frame_is_control(head->opcode);
    char *data = control ? from : wss__session_place(shared, session, from, size);
    wss__session_skip(bytes, size);
    wss__frame_unmask(data, from, size, head->mask, 0);
    if (control) return wss__input_control(shared, session, head->opcode, data, size, event);
    if (head->opcode == WSS_TEXT && wss__utf8_check(0, data, size) != 0)
        return wss__session_fail(shared, session, WSS_CAUSE_UTF8, event);
    return wss__input_deliver(shared, session, head->opcode, data, size, event);
}

static int wss__input_frame(wss__session_shared *shared, wss__session *session, wss__session_bytes *bytes,
                              wss__session_event *event) {
    if (session->input && session->input->in_frame) return wss__input_payload(shared, session, bytes, event);
    if (session->input && !wss__input_is_partial(session)) session->input->since = 0;
    wss__frame_head head;
    int taken = wss__input_take_head(shared, session, bytes, &head);
    if (taken == 0) return WSS__SESSION_NEED;
    int control = taken > 0 && wss__frame_is_control(head.opcode);
    int cause = taken < 0 ? -taken : control ? 0 : wss__input_check_frame(shared, session, &head);
    if (cause) return wss__session_fail(shared, session, cause, event);
    WSS__COUNT(shared->stats.frames_in, 1);
    int alone = control || (head.final && head.opcode != WSS__FRAME_CONTINUATION);
    if (alone && head.size <= bytes->size) return wss__input_whole(shared, session, &head, bytes, event);
    wss__session_input *input = wss__input_need_input(shared, session);
    if (!input) return wss__session_fail(shared, session, WSS_CAUSE_MEMORY, event);
    if (!control && !input->in_message) {
        input->in_message = 1;
        input->opcode = (uint8_t)head.opcode;
        input->fragments = 0;
        input->utf8 = 0;
        input->size = 0;
    }
    if (!control) input->fragments++;
    input->frame = head;
    input->frame_left = (size_t)head.size;
    input->in_frame = 1;
    return wss__input_payload(shared, session, bytes, event);
}

/* ---- handshake ---- */

/* Answers a request in the library's own words, which need no memory where the cork is at hand. False where
   memory is short: the session is then done, as it is after any answer but 101. */
static int wss__input_answer(wss__session_shared *shared, wss__session *session, const wss__answer_reply *reply) {
    char text[1024]; /* more than the longest of them */
    size_t size = wss__answer_write(text, sizeof text, reply);
    int put = wss__session_put_raw(shared, session, wss__base_span(text, size), wss__base_span(NULL, 0), 0);
    session->phase = put && reply->answer.status == 101 ? WSS__SESSION_OPEN : WSS__SESSION_DONE;
    return put;
}

static void wss__input_count_refusal(wss__session_shared *shared, int status, int cause) {
    WSS__COUNT(shared->stats.refused, 1);
    WSS__COUNT(shared->stats.refused_status[status / 100], 1);
    WSS__COUNT(shared->stats.refused_cause[cause], 1);
}

/* Refuses a request by a rule. is_head: no body may follow. */
static int wss__input_reject(wss__session_shared *shared, wss__session *session, int number, int is_head,
                             wss__session_event *event) {
    const wss__http_rule *rule = wss__http_rule_of(number);
    wss__answer_reply reply;
    memset(&reply, 0, sizeof reply);
    reply.answer.status = rule->status;
    reply.answer.body = rule->text;
    reply.answer.size = strlen(rule->text);
    reply.is_head = is_head;
    int kind = wss__session_end(shared, session, WSS_CAUSE_HANDSHAKE, 0, event);
    wss__input_answer(shared, session, &reply);
    wss__input_count_refusal(shared, rule->status, rule->counter);
    event->rule = number;
    return kind;
}

/* Lets the client in. False where memory is short: the session is then done. */
static int wss__input_accept(wss__session_shared *shared, wss__session *session, wss__span key) {
    wss__answer_reply reply;
    memset(&reply, 0, sizeof reply);
    wss__answer_welcome(&reply, key);
    return wss__input_answer(shared, session, &reply);
}

/* A whole head. client: as a PROXY header told it, or none; then the peer is asked no more whether it is local. */
static int wss__input_request(wss__session_shared *shared, wss__session *session, wss__span head,
                              const wss__address *client, wss__session_event *event) {
    const wss_options *options = shared->options;
    wss_request *request = &event->request;
    int trusted = session->from & WSS__SESSION_TRUSTED;
    int local = session->from & WSS__SESSION_LOCAL;
    int rule = wss__http_parse((char *)(uintptr_t)head.data, head.size, request);
    int parsed = !rule;
    int upgrade = parsed ? wss__http_upgrade(request, &rule) : 0;
    request->client = wss__address_of(WSS__ADDRESS_NONE, NULL, 0, 0);
    if (client->kind == WSS__ADDRESS_IP) local = wss__address_is_loopback(client);
    if (trusted && parsed && (!client->kind || wss__address_in(client, options->proxies)))
        request->client = wss__proxy_client(request, options->proxy_header, options->proxies);
    if (!request->client.kind && client->kind == WSS__ADDRESS_IP) request->client = *client;
    if (!rule) rule = wss__origin_judge_host(request, options->hosts, upgrade, local, trusted);
    if (!rule && upgrade && !wss__origin_allowed(request, options->origins, trusted)) rule = WSS__HTTP_RULE_ORIGIN;
    if (!rule && wss__mem_is_tight(shared->mem)) rule = WSS__HTTP_RULE_MEMORY;
    if (rule) return wss__input_reject(shared, session, rule, request->method == WSS__HTTP_HEAD, event);
    session->phase = WSS__SESSION_ASKED;
    return upgrade ? WSS__SESSION_UPGRADE : WSS__SESSION_HTTP;
}

/* Keeps bytes of a request head; false where memory is short. */
static int wss__input_keep_head(wss__session_shared *shared, wss__session *session, const char *data, size_t size) {
    wss__session_input *input = wss__input_need_input(shared, session);
    if (!input || !wss__input_grow(shared, input, size, 0, (size_t)shared->options->max_head)) return 0;
    memcpy(input->data + input->size, data, size);
    input->size += size;
    return 1;
}

/* A request that is not whole: nothing of it is known but whether it begins as HEAD. more: what of it could not be
   kept. */
static void wss__input_forget_request(wss__session_event *event, wss__span kept, wss__span more) {
    char begin[WSS__HTTP_METHOD_PEEK];
    size_t size = wss__base_min(kept.size, sizeof begin);
    if (size) memcpy(begin, kept.data, size);
    more.size = wss__base_min(more.size, sizeof begin - size);
    if (more.size) memcpy(begin + size, more.data, more.size);
    memset(&event->request, 0, offsetof(wss_request, fields));
    if (wss__http_begins_head(begin, size + more.size)) event->request.method = WSS__HTTP_HEAD;
}

/* Looks at what comes before the request: nothing, or the header of a proxy that must send one. *before: its size, once
   it is whole; -1 until then. Returns a rule. A header that nobody asked for is known by its first bytes, however they
   were cut; its beginning may also be an empty line. */
static int wss__input_proxy(const wss__session_shared *shared, const wss__session *session, wss__span head, int *before,
                            wss__address *client) {
    int wanted = session->from & WSS__SESSION_TRUSTED && shared->options->proxy_protocol;
    int size = wanted ? wss__proxy_measure(head.data, head.size) : wss__proxy_recognize(head.data, head.size);
    *before = size ? 0 : -1;
    *client = wss__address_of(WSS__ADDRESS_NONE, NULL, 0, 0);
    if (!wanted) return size > 0 ? WSS__HTTP_RULE_PROXY_UNASKED : WSS__HTTP_GOOD;
    if (size < 0) return WSS__HTTP_RULE_PROXY_MISSING;
    if (size == 0) return head.size > (size_t)shared->options->max_head ? WSS__HTTP_RULE_HEAD_SIZE : WSS__HTTP_GOOD;
    *before = size;
    if (!wss__proxy_read(head.data, (size_t)size, client)) return WSS__HTTP_RULE_PROXY_MISSING;
    return size < shared->options->max_head ? WSS__HTTP_GOOD : WSS__HTTP_RULE_HEAD_SIZE; /* no room for a request */
}

/* Gathers the request head. It is looked for once per byte, however it trickles in. */
static int wss__input_head(wss__session_shared *shared, wss__session *session, wss__session_bytes *bytes,
                             wss__session_event *event) {
    int begun = session->input != NULL;
    size_t before = begun ? session->input->size : 0;
    size_t size = wss__base_min(bytes->size, (size_t)shared->options->max_head + 1 - before);
    size_t end = 0;
    wss__address client;
    int proxy;
    if (!bytes->size) return WSS__SESSION_NEED;
    int kept = !begun || wss__input_keep_head(shared, session, bytes->data, size);
    char *data = begun ? session->input->data : bytes->data;
    size_t have = kept ? before + size : 0;
    int rule = kept ? wss__input_proxy(shared, session, wss__base_span(data, have), &proxy, &client)
                    : WSS__HTTP_RULE_MEMORY;
    if (!rule && proxy >= 0) {
        size_t skip = (size_t)proxy;
        end = wss__http_find_end(data + skip, have - skip, before > skip ? before - skip : 0);
        rule = wss__http_check_prefix(data + skip, end ? end : have - skip, shared->options->max_head - proxy);
        if (end) end += skip;
    }
    if (!rule) wss__session_skip(bytes, end ? end - before : size);
    if (!rule && end)
        return wss__input_request(shared, session, wss__base_span(data + proxy, end - (size_t)proxy), &client, event);
    if (!rule && !begun && !wss__input_keep_head(shared, session, data, size)) rule = WSS__HTTP_RULE_MEMORY;
    if (!rule) return WSS__SESSION_NEED;
    wss__input_forget_request(event, wss__base_span(data, kept ? have : before),
                              wss__base_span(bytes->data, kept ? 0 : size));
    if (kept && client.kind == WSS__ADDRESS_IP) event->request.client = client; /* a PROXY header has told already */
    return wss__input_reject(shared, session, rule, event->request.method == WSS__HTTP_HEAD, event);
}

/* The next event in the input, which is modified and used up step by step. After NEED nothing is left of it, unless the
   request waits for an answer: then the rest must be held. After any event call wss__input_event_done. */
static int wss__input_next(wss__session_shared *shared, wss__session *session, wss__session_bytes *bytes,
                             wss__session_event *event) {
    int kind = WSS__SESSION_AGAIN;
    while (kind == WSS__SESSION_AGAIN) {
        if (session->phase == WSS__SESSION_ASKED) return WSS__SESSION_NEED;
        if (session->phase == WSS__SESSION_DONE) wss__session_skip(bytes, bytes->size);
        if (session->phase == WSS__SESSION_DONE) return WSS__SESSION_NEED;
        if (session->phase == WSS__SESSION_HEAD) kind = wss__input_head(shared, session, bytes, event);
        else kind = wss__input_frame(shared, session, bytes, event);
    }
    return kind;
}

static void wss__input_free_session(wss__session_shared *shared, wss__session *session) {
    wss__session_drop(shared, session);
    wss__input_free_input(shared, session);
}

/* ---- [queue] -----------------------------------------------------------------------------------------------
   purpose  work handed from any thread to one: a list under a mutex, and an eventfd that says it is no longer
            empty
   knows    base, mem
   owns     jobs leave in the order of their arrival; the wake-up is decided and written under the mutex: none is lost
            and none comes after the descriptor has closed; jobs come in to all of several inboxes or to none, and a
            refused one leaves no trace: it stays with the caller; what has not begun to run counts in the limits; a
            job of a group can be called back as long as it was not taken; posted functions are called in one function
   threads  any may push; one takes */

enum { WSS__QUEUE_POST = 0 }; /* a job that calls function(arg); others, orders, belong to a loop or the queue */
enum { WSS__QUEUE_INBOXES = 64 }; /* of the loops of a server, at most */
enum { WSS__QUEUE_ALL = 0, WSS__QUEUE_GROUP, WSS__QUEUE_LISTS }; /* in which lists a job stands */

struct wss__queue_job;

typedef struct wss__queue_list {
    struct wss__queue_job *first;
    struct wss__queue_job *last;
} wss__queue_list;

typedef struct wss__queue_job {
    struct wss__queue_job *next[WSS__QUEUE_LISTS];
    struct wss__queue_job *previous[WSS__QUEUE_LISTS];
    union {
        void (*function)(void *arg); /* post */
        wss__queue_list *group;      /* order: with which it can be called back, under the mutex; NULL: it cannot */
    };
    void *arg;
    size_t size; /* of the job's allocation; 0: it is part of something else */
    size_t cost; /* bytes it counts for in the limit; 0: outside the limits */
    int kind;
} wss__queue_job;

typedef struct wss__queue_account { /* of jobs inside the limits */
    size_t count; /* atomic */
    size_t bytes;
} wss__queue_account;

/* What those write who put something in and what the taker writes lie on cache lines apart, and neither looks at the
   other's for each job. */
typedef struct wss__queue_inbox {
    char apart[WSS__MEM_LINE];
    pthread_mutex_t mutex;
    wss__queue_list waiting;
    int fd;
    int closed;
    wss__queue_account came;
    wss__queue_account gone; /* that have begun to run, when it was last looked */
    size_t max_count;
    size_t max_bytes;
    size_t orders; /* of the jobs that wait, those that are no posts */
    int wake;      /* what was put in while it was empty has not been signalled */
    char apart_too[WSS__MEM_LINE];
    wss__queue_account begun; /* the taker's, as all from here on */
    wss__queue_list batch;    /* was taken and has not run */
    size_t left;              /* of it, those that are no posts */
} wss__queue_inbox;

static int wss__queue_init(wss__queue_inbox *inbox, const wss_options *options) {
    memset(inbox, 0, sizeof *inbox);
    inbox->max_count = options->max_posted == WSS_OFF ? SIZE_MAX : (size_t)options->max_posted;
    inbox->max_bytes = options->max_posted_bytes;
    inbox->fd = WSSERVER_SYSTEM(eventfd)(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (inbox->fd < 0) return 0;
    pthread_mutex_init(&inbox->mutex, NULL);
    return 1;
}

static void wss__queue_destroy(wss__queue_inbox *inbox) {
    if (inbox->fd < 0) return;
    WSSERVER_SYSTEM(close)(inbox->fd);
    inbox->fd = -1;
    pthread_mutex_destroy(&inbox->mutex);
}

/* A full counter (EAGAIN) is as good as a write: the descriptor is readable. Async-signal-safe. */
static void wss__queue_signal(int fd) {
    uint64_t one = 1;
    while (WSSERVER_SYSTEM(write)(fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

/* which: by which of its links the job stands in this list. */
static void wss__queue_append(wss__queue_list *list, int which, wss__queue_job *job) {
    job->next[which] = NULL;
    job->previous[which] = list->last;
    *(list->last ? &list->last->next[which] : &list->first) = job;
    list->last = job;
}

static void wss__queue_unlink(wss__queue_list *list, int which, wss__queue_job *job) {
    wss__queue_job *next = job->next[which];
    wss__queue_job *previous = job->previous[which];
    *(previous ? &previous->next[which] : &list->first) = next;
    *(next ? &next->previous[which] : &list->last) = previous;
}

/* One job more, of so many bytes. One thread at a time. */
static void wss__queue_count(wss__queue_account *account, size_t bytes) {
    __atomic_store_n(&account->bytes, account->bytes + bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&account->count, account->count + 1, __ATOMIC_RELEASE);
}

static wss__queue_account wss__queue_read(const wss__queue_account *account) {
    wss__queue_account now;
    now.count = __atomic_load_n(&account->count, __ATOMIC_ACQUIRE);
    now.bytes = __atomic_load_n(&account->bytes, __ATOMIC_RELAXED);
    return now;
}

/* How many jobs inside the limits have not begun to run. */
static size_t wss__queue_posted(const wss__queue_inbox *inbox) {
    size_t begun = wss__queue_read(&inbox->begun).count; /* first: what has begun had come */
    return wss__queue_read(&inbox->came).count - begun;
}

/* Whether a job of so many bytes fits in beside what had come and not begun to run when it was last looked. An empty
   inbox takes any. */
static int wss__queue_fits(const wss__queue_inbox *inbox, size_t cost) {
    size_t count = inbox->came.count - inbox->gone.count;
    size_t bytes = inbox->came.bytes - inbox->gone.bytes;
    return !count || (count < inbox->max_count && bytes <= inbox->max_bytes && cost <= inbox->max_bytes - bytes);
}

/* Whether one more job comes in. own: behind the batch in hand, which has no end. Under the mutex. */
static int wss__queue_check(wss__queue_inbox *inbox, size_t cost, int own) {
    if (inbox->closed && !own) return WSS_ERR_STOPPED;
    if (!cost || wss__queue_fits(inbox, cost)) return WSS_OK;
    inbox->gone = wss__queue_read(&inbox->begun);
    return wss__queue_fits(inbox, cost) ? WSS_OK : WSS_ERR_QUEUE_FULL;
}

/* One job, which is accepted. own: behind the batch in hand. Under the mutex. */
static void wss__queue_enter(wss__queue_inbox *inbox, wss__queue_job *job, int own) {
    int is_order = job->kind != WSS__QUEUE_POST;
    wss__queue_append(own ? &inbox->batch : &inbox->waiting, WSS__QUEUE_ALL, job);
    if (is_order && job->group) wss__queue_append(job->group, WSS__QUEUE_GROUP, job);
    if (is_order) (*(own ? &inbox->left : &inbox->orders))++;
    if (job->cost) wss__queue_count(&inbox->came, job->cost);
}

/* Each job of a list to its inbox, or none to any: WSS_OK, or WSS_ERR_STOPPED or WSS_ERR_QUEUE_FULL. own: the inbox
   that this thread takes from, if any: while orders of the batch in hand are left, it orders behind these, so that
   when they have run nothing of its own is on the way. account, may be NULL, grows by size before anybody can take a
   job, and only if it came in. Leaves the inboxes locked, for wss__queue_finish; they must be in the same order for
   everybody. */
static int wss__queue_put(wss__queue_inbox **inboxes, wss__queue_job *jobs, int count, const wss__queue_inbox *own,
                          uint32_t *account, uint32_t size) {
    int result = WSS_OK;
    wss__queue_job *job = jobs;
    if (own && !own->left) own = NULL;
    for (int i = 0; i < count; i++) pthread_mutex_lock(&inboxes[i]->mutex);
    for (int i = 0; i < count && !result; i++, job = job->next[WSS__QUEUE_ALL])
        result = wss__queue_check(inboxes[i], job->cost, inboxes[i] == own);
    if (result) return result;
    if (account) __atomic_add_fetch(account, size, __ATOMIC_SEQ_CST);
    for (int i = 0; i < count; i++) {
        job = jobs;
        jobs = job->next[WSS__QUEUE_ALL];
        inboxes[i]->wake = inboxes[i] != own && !inboxes[i]->waiting.last;
        wss__queue_enter(inboxes[i], job, inboxes[i] == own);
    }
    return WSS_OK;
}

static void wss__queue_finish(wss__queue_inbox **inboxes, int count) {
    for (int i = 0; i < count; i++) {
        if (inboxes[i]->wake) wss__queue_signal(inboxes[i]->fd);
        inboxes[i]->wake = 0;
        pthread_mutex_unlock(&inboxes[i]->mutex);
    }
}

static int wss__queue_push(wss__queue_inbox *inbox, wss__queue_job *job) {
    int result = wss__queue_put(&inbox, job, 1, NULL, NULL, 0);
    wss__queue_finish(&inbox, 1);
    return result;
}

/* Makes all that waits the batch; none may be in hand, and nothing in it be of a group. close_it: nothing gets in after
   this. */
static void wss__queue_take(wss__queue_inbox *inbox, int close_it) {
    pthread_mutex_lock(&inbox->mutex);
    inbox->batch = inbox->waiting;
    memset(&inbox->waiting, 0, sizeof inbox->waiting);
    inbox->left = inbox->orders;
    inbox->orders = 0;
    if (close_it) inbox->closed = 1;
    pthread_mutex_unlock(&inbox->mutex);
}

/* Makes so many of what waits the batch, and nothing of it can be called back; the rest is announced again. How many
   there were. */
static int wss__queue_take_some(wss__queue_inbox *inbox, int most) {
    int taken = 0;
    wss__queue_job *job;
    pthread_mutex_lock(&inbox->mutex);
    for (; taken < most && (job = inbox->waiting.first) != NULL; taken++) {
        int is_order = job->kind != WSS__QUEUE_POST;
        wss__queue_unlink(&inbox->waiting, WSS__QUEUE_ALL, job);
        if (is_order && job->group) wss__queue_unlink(job->group, WSS__QUEUE_GROUP, job);
        if (is_order) job->group = NULL;
        wss__queue_append(&inbox->batch, WSS__QUEUE_ALL, job);
    }
    if (inbox->waiting.first) wss__queue_signal(inbox->fd);
    pthread_mutex_unlock(&inbox->mutex);
    return taken;
}

/* Takes the next job of the batch out of the account and the list; NULL: all have begun to run. */
static wss__queue_job *wss__queue_next(wss__queue_inbox *inbox) {
    wss__queue_job *job = inbox->batch.first;
    if (!job) return NULL;
    wss__queue_unlink(&inbox->batch, WSS__QUEUE_ALL, job);
    if (job->kind != WSS__QUEUE_POST && inbox->left) inbox->left--;
    if (job->cost) wss__queue_count(&inbox->begun, job->cost);
    return job;
}

/* Puts what is left of the batch back in front. */
static void wss__queue_put_back(wss__queue_inbox *inbox) {
    wss__queue_list *batch = &inbox->batch;
    wss__queue_list *waiting = &inbox->waiting;
    if (!batch->first) return;
    pthread_mutex_lock(&inbox->mutex);
    batch->last->next[WSS__QUEUE_ALL] = waiting->first;
    *(waiting->first ? &waiting->first->previous[WSS__QUEUE_ALL] : &waiting->last) = batch->last;
    waiting->first = batch->first;
    memset(batch, 0, sizeof *batch);
    wss__queue_signal(inbox->fd);
    pthread_mutex_unlock(&inbox->mutex);
}

/* Calls back the oldest job of a group, NULL where none waits any more. Of such jobs none may be inside the limits. */
static wss__queue_job *wss__queue_recall(wss__queue_inbox *inbox, wss__queue_list *group) {
    pthread_mutex_lock(&inbox->mutex);
    wss__queue_job *job = group->first;
    if (job) wss__queue_unlink(group, WSS__QUEUE_GROUP, job);
    if (job) wss__queue_unlink(&inbox->waiting, WSS__QUEUE_ALL, job);
    pthread_mutex_unlock(&inbox->mutex);
    return job;
}

/* All jobs of a group become those of another one. */
static void wss__queue_regroup(wss__queue_inbox *inbox, wss__queue_list *from, wss__queue_list *to) {
    wss__queue_job *job;
    pthread_mutex_lock(&inbox->mutex);
    while ((job = from->first) != NULL) {
        wss__queue_unlink(from, WSS__QUEUE_GROUP, job);
        wss__queue_append(to, WSS__QUEUE_GROUP, job);
        job->group = to;
    }
    pthread_mutex_unlock(&inbox->mutex);
}

/* Makes the descriptor unreadable. Before taking, never after: what comes in between is then signalled again. */
static void wss__queue_clear(wss__queue_inbox *inbox) {
    uint64_t count;
    while (WSSERVER_SYSTEM(read)(inbox->fd, &count, sizeof count) < 0 && errno == EINTR) {
    }
}

static wss__queue_job *wss__queue_new_post(wss__mem *mem, void (*function)(void *arg), void *arg) {
    wss__queue_job *job = (wss__queue_job *)wss__mem_get_zeroed(mem, sizeof *job);
    if (!job) return NULL;
    job->kind = WSS__QUEUE_POST;
    job->function = function;
    job->arg = arg;
    job->size = sizeof *job;
    job->cost = sizeof *job;
    return job;
}

/* The one place that calls what users posted. */
static void wss__queue_call(wss__mem *mem, wss__queue_job *job) {
    void (*function)(void *) = job->function;
    void *arg = job->arg;
    wss__mem_free(mem, job, job->size);
    function(arg);
}

struct wss_queue {
    wss__mem mem;
    wss__queue_inbox inbox;
    wss__queue_job mark; /* behind what was there when the end of the last server was seen */
    int marked;    /* it is in the inbox */
    int attached;  /* servers that were made with it and not destroyed; atomic */
    int serving;   /* of these, the ones whose end has not been seen; atomic */
    int ended;     /* a server's end was seen, and nothing was marked since */
    int stopping;  /* atomic */
    int draining;  /* a thread is in run or poll; atomic */
};

/* ---- [socket] ----------------------------------------------------------------------------------------------
   purpose  system calls on sockets, epoll and the clock, each at one place
   knows    base, address
   owns     every descriptor is made close-on-exec and non-blocking; every send carries MSG_NOSIGNAL */

enum {
    WSS__SOCKET_LISTENERS_MAX = 16,
    WSS__SOCKET_PROBES = 4,      /* of keep-alive, until a host is taken for lost */
    WSS__SOCKET_TRIES = 16,      /* for a port of the kernel's choice that is free at all addresses */
    WSS__SOCKET_BACKLOG = 4096   /* the kernel cuts it to what it allows */
};

#if defined(O_PATH)
enum { WSS__SOCKET_PATH = O_PATH };
#else
enum { WSS__SOCKET_PATH = 010000000 }; /* glibc hides it in GNU mode if our header was not the first */
#endif

typedef struct wss__socket_listener {
    int fd;
    int adopted;  /* somebody else made it */
    int handed;   /* to a successor; atomic */
    dev_t device; /* of the path, */
    ino_t inode;  /* to know whether what stands there is still ours */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* of a Unix socket that we made, to be unlinked; "" else */
} wss__socket_listener;

typedef struct wss__socket_listeners {
    wss__socket_listener list[WSS__SOCKET_LISTENERS_MAX];
    int count;
    int port;           /* of the first TCP listener */
    int picked;         /* the kernel has chosen that */
    const char *advice; /* what is wrong with an address that is refused with WSS_ERR_ADDRESS */
} wss__socket_listeners;

typedef union wss__socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
    struct sockaddr_storage storage;
} wss__socket_address;

/* Microseconds that only grow. */
static uint64_t wss__socket_clock_us(void) {
    struct timespec now;
    WSSERVER_SYSTEM(clock_gettime)(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint64_t wss__socket_clock(void) {
    return wss__socket_clock_us() / 1000;
}

/* An unpredictable number; handles only need it to differ between servers, so a clock will do where there is none. */
static uint64_t wss__socket_random(void) {
    uint64_t random = 0;
    if (WSSERVER_SYSTEM(getrandom)(&random, sizeof random, GRND_NONBLOCK) == (ssize_t)sizeof random) return random;
    return wss__socket_clock_us() * 0x9e3779b97f4a7c15u;
}

/* *from: of whom, as far as the kernel says it. glibc hides accept4 from programs compiled in GNU mode whose first
   header was not ours. */
static int wss__socket_accept(int listener, wss__socket_address *from) {
    socklen_t size = sizeof *from;
    memset(from, 0, sizeof *from);
#if defined(__GLIBC__) && !defined(__USE_GNU)
    return (int)WSSERVER_SYSTEM(syscall)(SYS_accept4, listener, &from->any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    return WSSERVER_SYSTEM(accept4)(listener, &from->any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
#endif
}

static ssize_t wss__socket_receive(int fd, char *data, size_t size) {
    ssize_t got;
    do got = WSSERVER_SYSTEM(recv)(fd, data, size, 0);
    while (got < 0 && errno == EINTR);
    return got;
}

/* Nothing is left to be received, and nothing more will come. */
static int wss__socket_has_ended(int fd) {
    char octet;
    ssize_t got;
    do got = WSSERVER_SYSTEM(recv)(fd, &octet, 1, MSG_PEEK);
    while (got < 0 && errno == EINTR);
    return got == 0 || (got < 0 && errno != EAGAIN);
}

/* last: the stream is ended right after it. The kernel then waits for that and sends both in one packet. */
static ssize_t wss__socket_send(int fd, struct iovec *parts, size_t count, int last) {
    int flags = MSG_NOSIGNAL | (last ? MSG_MORE : 0);
    ssize_t sent;
    if (count == 1) {
        do sent = WSSERVER_SYSTEM(send)(fd, parts[0].iov_base, parts[0].iov_len, flags);
        while (sent < 0 && errno == EINTR);
        return sent;
    }
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = parts;
    message.msg_iovlen = (__typeof__(message.msg_iovlen))count; /* an int in musl */
    do sent = WSSERVER_SYSTEM(sendmsg)(fd, &message, flags);
    while (sent < 0 && errno == EINTR);
    return sent;
}

static int wss__socket_watch(int epoll, int fd, uint32_t events, uint64_t tag) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = events;
    event.data.u64 = tag;
    return WSSERVER_SYSTEM(epoll_ctl)(epoll, EPOLL_CTL_ADD, fd, &event);
}

/* Taken out of epoll before it is closed: a child that inherited it would keep its registration alive. */
static void wss__socket_unwatch(int epoll, int fd) {
    WSSERVER_SYSTEM(epoll_ctl)(epoll, EPOLL_CTL_DEL, fd, NULL);
}

/* Never repeated: after EINTR the descriptor is gone all the same. */
static void wss__socket_close(int fd) {
    if (fd >= 0) WSSERVER_SYSTEM(close)(fd);
}

/* So that close() resets the connection instead of leaving it to the kernel. */
static void wss__socket_set_reset(int fd) {
    struct linger linger = {1, 0};
    WSSERVER_SYSTEM(setsockopt)(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

static void wss__socket_set(int fd, int level, int name, int value) {
    WSSERVER_SYSTEM(setsockopt)(fd, level, name, &value, sizeof value);
}

/* Whole seconds, as many as the kernel takes of them for keep-alive. */
static int wss__socket_seconds(int milliseconds) {
    int seconds = milliseconds / 1000;
    return seconds < 1 ? 1 : seconds > 32767 ? 32767 : seconds;
}

/* Lets the kernel notice, or no longer, that the host at the other end is lost, while nobody reads from it: asked after
   idle_ms of silence, given up limit_ms after that. While bytes of ours are not acknowledged it does not ask: it sends
   them again, and gives up after net.ipv4.tcp_retries2 tries, some 15 minutes. TCP_USER_TIMEOUT would end that sooner,
   and would end a peer too that answers but has no room, be it that it cannot read before we do. */
static void wss__socket_keep_alive(int fd, int on, int idle_ms, int limit_ms) {
    wss__socket_set(fd, SOL_SOCKET, SO_KEEPALIVE, on);
    if (!on) return;
    wss__socket_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, wss__socket_seconds(idle_ms));
    wss__socket_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, wss__socket_seconds(limit_ms / WSS__SOCKET_PROBES));
    wss__socket_set(fd, IPPROTO_TCP, TCP_KEEPCNT, WSS__SOCKET_PROBES);
}

/* Bytes that the kernel was given and the peer has not acknowledged. None on Unix sockets: there what was given has
   arrived. */
static uint32_t wss__socket_unacked(int fd) {
    int domain = AF_UNIX;
    int bytes = 0;
    socklen_t size = sizeof domain;
    if (WSSERVER_SYSTEM(getsockopt)(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 || domain == AF_UNIX) return 0;
    return WSSERVER_SYSTEM(ioctl)(fd, TIOCOUTQ, &bytes) == 0 ? (uint32_t)bytes : 0;
}

static int wss__socket_port_of(const wss__socket_address *address) {
    if (address->any.sa_family == AF_INET) return ntohs(address->v4.sin_port);
    return address->any.sa_family == AF_INET6 ? ntohs(address->v6.sin6_port) : 0;
}

static wss__address wss__socket_address_of(const wss__socket_address *address) {
    int family = address->any.sa_family;
    int port = wss__socket_port_of(address);
    const unsigned char *v4 = (const unsigned char *)&address->v4.sin_addr;
    if (family == AF_INET) return wss__address_of(WSS__ADDRESS_IP, v4, 4, port);
    if (family == AF_INET6) return wss__address_of(WSS__ADDRESS_IP, address->v6.sin6_addr.s6_addr, 16, port);
    return wss__address_of(family == AF_UNIX ? WSS__ADDRESS_UNIX : WSS__ADDRESS_NONE, NULL, 0, 0);
}

/* Who is at the other end of a Unix socket. The layout is the kernel's struct ucred, which glibc hides in GNU mode. */
static int wss__socket_credentials(int fd, int *pid, int *uid, int *gid) {
    int credentials[3];
    socklen_t size = sizeof credentials;
    if (WSSERVER_SYSTEM(getsockopt)(fd, SOL_SOCKET, SO_PEERCRED, credentials, &size) != 0) return 0;
    *pid = credentials[0];
    *uid = credentials[1];
    *gid = credentials[2];
    return 1;
}

/* ---- listening ---- */

/* reason: NULL where the code says it. */
static int wss__socket_explain(wss_error *why, int code, const char *what, wss__span address, const char *reason) {
    char text[64];
    why->code = code;
    why->system_errno = code == WSS_ERR_SYSTEM ? errno : 0;
    /* each Linux C library has this one; POSIX's come in two kinds */
    __extension__ snprintf(text, sizeof text, "%m");
    if (!reason) reason = code == WSS_ERR_SYSTEM ? text : wss_strerror(code);
    int size = (int)wss__base_min(address.size, 60);
    snprintf(why->text, sizeof why->text, "%s %.*s: %s", what, size, size ? address.data : "", reason);
    return code;
}

/* ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT into a socket address; 0 where it is neither IPv4 nor IPv6. */
static socklen_t wss__socket_parse(wss__span text, int port, wss__socket_address *address) {
    char host[64];
    wss__span digits;
    wss__span name = wss__base_host(text, &digits);
    memset(address, 0, sizeof *address);
    if (digits.size && memchr(digits.data, ':', digits.size)) name = text; /* IPv6 without brackets, so without port */
    else if (digits.data) port = wss__base_number(digits, 65535);
    name = wss__base_inside(name, '[', ']');
    if (port < 0 || wss__base_copy_out(name, host, sizeof host, NULL) != WSS_OK) return 0;
    if (inet_pton(AF_INET, host, &address->v4.sin_addr) == 1) {
        address->v4.sin_family = AF_INET;
        address->v4.sin_port = htons((uint16_t)port);
        return sizeof address->v4;
    }
    if (inet_pton(AF_INET6, host, &address->v6.sin6_addr) != 1) return 0;
    address->v6.sin6_family = AF_INET6;
    address->v6.sin6_port = htons((uint16_t)port);
    return sizeof address->v6;
}

/* ---- paths of Unix sockets: one server at a time looks after them ---- */

/* Locks a path, by a file beside it that is removed again: who made a lock of a file that has gone since tries again.
   wait: until others have done. Negative where that fails. */
static int wss__socket_lock(const char *path, int wait) {
    char name[sizeof(((wss__socket_listener *)0)->path) + 8];
    struct stat info;
    snprintf(name, sizeof name, "%s.lock", path);
    for (;;) {
        int result;
        int fd = WSSERVER_SYSTEM(open)(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) return -1;
        do result = WSSERVER_SYSTEM(flock)(fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB);
        while (result != 0 && errno == EINTR);
        if (result == 0) result = WSSERVER_SYSTEM(fstat)(fd, &info);
        if (result == 0 && info.st_nlink > 0) return fd;
        int failed = result != 0 ? errno : 0;
        wss__socket_close(fd);
        errno = failed;
        if (failed) return -1;
    }
}

static void wss__socket_unlock(const char *path, int lock) {
    char name[sizeof(((wss__socket_listener *)0)->path) + 8];
    snprintf(name, sizeof name, "%s.lock", path);
    WSSERVER_SYSTEM(unlink)(name);
    wss__socket_close(lock);
}

/* Removes the socket that a dead server left behind; one that answers is in use. */
static void wss__socket_remove_stale(const wss__socket_address *address, socklen_t size) {
    struct stat info;
    if (WSSERVER_SYSTEM(lstat)(address->local.sun_path, &info) != 0 || !S_ISSOCK(info.st_mode)) return;
    int fd = WSSERVER_SYSTEM(socket)(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return;
    if (WSSERVER_SYSTEM(connect)(fd, &address->any, size) != 0 && errno == ECONNREFUSED)
        WSSERVER_SYSTEM(unlink)(address->local.sun_path);
    wss__socket_close(fd);
}

/* Remembers what stands at a path that was just bound, so that it is removed whatever comes; and gives it its mode
   where the umask took some of it: by a descriptor, for the name may already be somebody else's. */
static int wss__socket_own_path(wss__socket_listener *listener, const char *path, mode_t mode) {
    char name[40];
    struct stat info;
    if (WSSERVER_SYSTEM(lstat)(path, &info) != 0) return errno;
    if (!S_ISSOCK(info.st_mode)) return EEXIST; /* somebody put something else there */
    listener->device = info.st_dev;
    listener->inode = info.st_ino;
    snprintf(listener->path, sizeof listener->path, "%s", path);
    if ((info.st_mode & 07777) == mode) return 0;
    int at = WSSERVER_SYSTEM(open)(path, WSS__SOCKET_PATH | O_CLOEXEC | O_NOFOLLOW, 0);
    if (at < 0) return errno;
    int number = WSSERVER_SYSTEM(fstat)(at, &info) != 0 ? errno : 0;
    if (!number && info.st_ino != listener->inode) number = ENOENT;
    snprintf(name, sizeof name, "/proc/self/fd/%d", at);
    if (!number && WSSERVER_SYSTEM(chmod)(name, mode) != 0) number = errno == ENOENT ? ENOSYS : errno; /* no /proc */
    wss__socket_close(at);
    return number;
}

/* Removes the path of a listener if it is still its own: before that is closed, for then its inode's number may be that
   of a successor's socket. Where somebody holds the lock he is about to take it over. */
static void wss__socket_leave_path(const wss__socket_listener *listener) {
    struct stat info;
    int ours = listener->path[0] && !__atomic_load_n(&listener->handed, __ATOMIC_ACQUIRE);
    int lock = ours ? wss__socket_lock(listener->path, 0) : -1;
    if (lock < 0) return;
    if (WSSERVER_SYSTEM(lstat)(listener->path, &info) == 0 && info.st_dev == listener->device &&
        info.st_ino == listener->inode)
        WSSERVER_SYSTEM(unlink)(listener->path);
    wss__socket_unlock(listener->path, lock);
}

/* ---- sockets ---- */

/* Looks where a socket listens; returns the family. The first port goes to addresses behind it that name none. */
static int wss__socket_note_port(wss__socket_listeners *all, int fd) {
    wss__socket_address address;
    socklen_t size = sizeof address;
    memset(&address, 0, sizeof address);
    WSSERVER_SYSTEM(getsockname)(fd, &address.any, &size);
    if (!all->port) all->port = wss__socket_port_of(&address);
    return address.any.sa_family;
}

/* Socket, options, bind, listen. both: an IPv6 socket that takes IPv4 too. What it makes is in the list at once: who
   gives up closes that. Like the functions below it returns 0, the number of the error, or WSS_ERR_ADDRESS. */
static int wss__socket_bind(wss__socket_listeners *all, const wss__socket_address *address, socklen_t size,
                            const wss_options *options, int both) {
    int family = address->any.sa_family;
    const char *path = family == AF_UNIX ? address->local.sun_path : "";
    int fd = WSSERVER_SYSTEM(socket)(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return errno;
    wss__socket_listener *listener = &all->list[all->count++];
    listener->fd = fd;
    if (family != AF_UNIX) {
        wss__socket_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        wss__socket_set(fd, IPPROTO_TCP, TCP_NODELAY, 1); /* what it accepts inherits this */
    }
    if (options->reuse_port) wss__socket_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (family == AF_INET6) wss__socket_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !both);
    /* before it has a name, so that at no moment more may connect than shall */
    if (path[0] && WSSERVER_SYSTEM(fchmod)(fd, (mode_t)options->unix_mode) != 0) return errno;
    if (WSSERVER_SYSTEM(bind)(fd, &address->any, size) != 0) return errno;
    int number = path[0] ? wss__socket_own_path(listener, path, (mode_t)options->unix_mode) : 0;
    if (number) return number;
    if (WSSERVER_SYSTEM(listen)(fd, WSS__SOCKET_BACKLOG) != 0) return errno;
    if (family != AF_UNIX && !all->port && !wss__socket_port_of(address)) all->picked = 1;
    wss__socket_note_port(all, fd);
    return 0;
}

static int wss__socket_advise(wss__socket_listeners *all, const char *advice) {
    all->advice = advice;
    return WSS_ERR_ADDRESS;
}

/* A path, or with @ a name that is no file's. */
static int wss__socket_listen_unix(wss__socket_listeners *all, wss__span path, const wss_options *options) {
    wss__socket_address address;
    memset(&address, 0, sizeof address);
    if (!path.size || wss__base_equal(path, wss__base_text("@"))) return wss__socket_advise(all, "the path is empty");
    if (path.size >= sizeof address.local.sun_path) return wss__socket_advise(all, "a path has at most 107 bytes");
    address.local.sun_family = AF_UNIX;
    memcpy(address.local.sun_path, path.data, path.size);
    if (path.data[0] == '@') {
        address.local.sun_path[0] = 0;
        socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.size);
        return wss__socket_bind(all, &address, size, options, 0);
    }
    int lock = wss__socket_lock(address.local.sun_path, 1);
    if (lock < 0) return errno;
    wss__socket_remove_stale(&address, sizeof address.local);
    int number = wss__socket_bind(all, &address, sizeof address.local, options, 0);
    wss__socket_unlock(address.local.sun_path, lock);
    return number;
}

/* A listening descriptor that somebody else made. */
static int wss__socket_adopt(wss__socket_listeners *all, int fd) {
    int listening = 0;
    socklen_t size = sizeof listening;
    if (WSSERVER_SYSTEM(getsockopt)(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0) return errno;
    for (int i = 0; i < all->count; i++)
        if (all->list[i].fd == fd) listening = 0; /* named twice it would be closed twice */
    if (!listening) return EINVAL;
    int flags = WSSERVER_SYSTEM(fcntl)(fd, F_GETFL, 0);
    if (flags < 0 || WSSERVER_SYSTEM(fcntl)(fd, F_SETFL, flags | O_NONBLOCK) < 0) return errno;
    if (WSSERVER_SYSTEM(fcntl)(fd, F_SETFD, FD_CLOEXEC) < 0) return errno;
    all->list[all->count].adopted = 1;
    all->list[all->count++].fd = fd;
    if (wss__socket_note_port(all, fd) != AF_UNIX) wss__socket_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return 0;
}

/* The descriptors that a service manager passes from number 3 on, if they are meant for this process. */
static int wss__socket_adopt_inherited(wss__socket_listeners *all) {
    const char *pid = getenv("LISTEN_PID"); /* NOLINT(concurrency-mt-unsafe): it is, unless others call setenv */
    const char *fds = getenv("LISTEN_FDS"); /* NOLINT(concurrency-mt-unsafe): likewise */
    int count = fds ? wss__base_number(wss__base_text(fds), WSS__SOCKET_LISTENERS_MAX - all->count) : -1;
    if (!pid || count < 1 || wss__base_number(wss__base_text(pid), INT_MAX / 10 - 1) != (int)getpid())
        return wss__socket_advise(all, "LISTEN_PID and LISTEN_FDS do not name this process and at most 16 descriptors");
    int number = 0;
    for (int i = 0; i < count && !number; i++) number = wss__socket_adopt(all, 3 + i);
    return number;
}

static int wss__socket_port(const wss__socket_listeners *all, const wss_options *options) {
    return options->port ? options->port : all->port;
}

static const char wss__socket_no_port[] = "the port is no number from 0 to 65535";

/* Why an address cannot be read, and what to write. */
static const char *wss__socket_fault(wss__span text) {
    wss__span port;
    wss__span name = wss__base_host(text, &port);
    wss__address address;
    if (!text.size) return "an entry of the list is empty";
    if (wss__base_holds(text, "%")) return "an address with a zone is not taken: adopt a socket of your own with fd:";
    if ((!name.size && !wss__base_holds(port, ":")) || wss__base_equal(name, wss__base_text("*")))
        return "all interfaces are 0.0.0.0 and [::]";
    if (port.data && wss__base_number(port, 65535) < 0 && wss__address_parse(name, &address))
        return wss__socket_no_port;
    return "names are not looked up: write an IPv4 or IPv6 address, or localhost";
}

static int wss__socket_listen_tcp(wss__socket_listeners *all, wss__span text, const wss_options *options, int both) {
    wss__socket_address address;
    socklen_t size = wss__socket_parse(text, wss__socket_port(all, options), &address);
    if (!size) return wss__socket_advise(all, wss__socket_fault(text));
    return wss__socket_bind(all, &address, size, options, both);
}

/* Machines without the one or the other family do without it. */
static int wss__socket_is_lacking(int number) {
    return number == EAFNOSUPPORT || number == EADDRNOTAVAIL;
}

/* Both addresses that the name has, with one port where that can be read back. port: as written, or no data. */
static int wss__socket_listen_localhost(wss__socket_listeners *all, wss__span port, const wss_options *options) {
    static const char *const names[] = {"127.0.0.1", "::1"};
    wss__socket_address address;
    int number = 0;
    int made = 0;
    int first = !all->port;
    for (int i = 0; i < 2; i++) {
        int before = all->count;
        int wanted = port.data ? wss__base_number(port, 65535) : wss__socket_port(all, options);
        if (wanted < 0) return wss__socket_advise(all, wss__socket_no_port);
        if (!wanted && first) wanted = all->port;
        if (before == WSS__SOCKET_LISTENERS_MAX) return wss__socket_advise(all, "there can be at most 16");
        socklen_t size = wss__socket_parse(wss__base_text(names[i]), wanted, &address);
        number = wss__socket_bind(all, &address, size, options, 0);
        if (number && !wss__socket_is_lacking(number)) return number;
        made += !number;
        if (number && all->count > before) wss__socket_close(all->list[--all->count].fd);
    }
    return made ? 0 : number;
}

static int wss__socket_listen_one(wss__socket_listeners *all, wss__span text, const wss_options *options) {
    wss__span rest = text;
    wss__span port;
    if (all->count == WSS__SOCKET_LISTENERS_MAX) return wss__socket_advise(all, "there can be at most 16");
    if (wss__base_take_prefix(&rest, "unix:", wss__base_equal)) return wss__socket_listen_unix(all, rest, options);
    if (wss__base_take_prefix(&rest, "fd:", wss__base_equal))
        return wss__socket_adopt(all, wss__base_number(rest, INT_MAX / 10 - 1));
    if (wss__base_equal(text, wss__base_text("systemd"))) return wss__socket_adopt_inherited(all);
    if (wss__base_equal_fold(wss__base_host(text, &port), wss__base_text("localhost")))
        return wss__socket_listen_localhost(all, port, options);
    return wss__socket_listen_tcp(all, text, options, 0);
}

/* adopted: those too that somebody else made. */
static void wss__socket_close_listeners(wss__socket_listeners *all, int adopted) {
    for (int i = 0; i < all->count; i++) {
        wss__socket_leave_path(&all->list[i]);
        if (adopted || !all->list[i].adopted) wss__socket_close(all->list[i].fd);
    }
    memset(all, 0, sizeof *all);
}

/* All interfaces: IPv6 that takes IPv4 too, or IPv4 alone on machines without IPv6. */
static int wss__socket_listen_any(wss__socket_listeners *all, const wss_options *options) {
    int number = wss__socket_listen_tcp(all, wss__base_text("::"), options, 1);
    if (!wss__socket_is_lacking(number)) return number;
    wss__socket_close_listeners(all, 1);
    return wss__socket_listen_tcp(all, wss__base_text("0.0.0.0"), options, 0);
}

/* Which of the addresses failed, and with which port where it takes the server's: then it does not parse
   without one. */
static int wss__socket_explain_listen(wss_error *why, int number, wss__span text, int port, const char *advice) {
    char label[96];
    wss__socket_address found;
    int takes_port = !text.data || (wss__socket_parse(text, 0, &found) && !wss__socket_parse(text, -1, &found));
    if (!text.data) text = wss__base_text("all addresses");
    snprintf(label, sizeof label, "%.*s, port %d", (int)wss__base_min(text.size, 64), text.data, port);
    errno = number;
    return wss__socket_explain(why, number > 0 ? WSS_ERR_SYSTEM : number, "cannot listen on",
                               takes_port ? wss__base_text(label) : text, number > 0 ? NULL : advice);
}

/* item: where it fails, the one that did. */
static int wss__socket_listen_all(wss__socket_listeners *all, const wss_options *options, wss__span *item) {
    wss__span rest = wss__base_text(options->address);
    int number = options->address ? 0 : wss__socket_listen_any(all, options);
    *item = rest;
    while (!number && wss__base_next_item(&rest, ',', item)) number = wss__socket_listen_one(all, *item, options);
    return number;
}

/* A port that the kernel has chosen at the first address may be taken at another one: then it chooses again. */
static int wss__socket_listen(wss__socket_listeners *all, const wss_options *options, wss_error *why) {
    wss__span item;
    int number = wss__socket_listen_all(all, options, &item);
    for (int tries = 1; number == EADDRINUSE && all->picked && tries < WSS__SOCKET_TRIES; tries++) {
        wss__socket_close_listeners(all, 0);
        number = wss__socket_listen_all(all, options, &item);
    }
    if (!number) return WSS_OK;
    int result = wss__socket_explain_listen(why, number, item, wss__socket_port(all, options), all->advice);
    wss__socket_close_listeners(all, 0);
    return result;
}

/* ---- [event] -----------------------------------------------------------------------------------------------
   purpose  the registered handlers, and the one place that calls them
   knows    base, mem, utf8, json, args
   owns     lists only grow: published with release, read with acquire; registrations are numbered, and an event is seen
            by those that were made when its dispatch began, in whatever list; no lock is held while a handler runs
   threads  any registers; the loop, or the thread that drains the queue, emits */

typedef struct wss__event_handler {
    struct wss__event_handler *next; /* atomic */
    wss_handler *handler;
    void *context;
    size_t number; /* of its registration */
} wss__event_handler;

typedef struct wss__event_list {
    wss__event_handler *first; /* atomic */
    wss__event_handler *last;  /* atomic */
} wss__event_list;

/* Types stand in a tree: which child, say two bits of the hash at each step. */
typedef struct wss__event_type {
    struct wss__event_type *children[4]; /* atomic */
    struct wss__event_type *older;
    wss__span name; /* its bytes and a NUL follow */
    wss__event_list handlers;
} wss__event_type;

typedef struct wss__event_table {
    pthread_mutex_t mutex; /* between registrations */
    wss__mem *mem;
    int failed; /* a registration found no memory; atomic */
    wss__event_list lists[WSS_EVENT_TIMER]; /* by the kind of event; of upgrade and http the last one counts */
    uint64_t seed;
    wss__event_type *types; /* atomic */
    wss__event_type *newest;
    size_t type_count; /* atomic */
    size_t made;       /* registrations; atomic */
} wss__event_table;

/* What this thread is inside of, the innermost first: turns of loops, handlers of servers, queues that it drains. */
typedef struct wss__event_place {
    struct wss__event_place *outside;
    const void *what; /* a server or a queue */
    void *loop;       /* whose turn it is; NULL: none's */
} wss__event_place;

static __thread wss__event_place *wss__event_inside;

static void wss__event_enter(wss__event_place *place, const void *what, void *loop) {
    place->outside = wss__event_inside;
    place->what = what;
    place->loop = loop;
    wss__event_inside = place;
}

static void wss__event_leave(const wss__event_place *place) {
    wss__event_inside = place->outside;
}

static int wss__event_is_inside(const void *what) {
    const wss__event_place *place = wss__event_inside;
    while (place && place->what != what) place = place->outside;
    return place != NULL;
}

/* 0: no message is typed, as far as anybody here cares. */
static size_t wss__event_type_count(const wss__event_table *table) {
    return __atomic_load_n(&table->type_count, __ATOMIC_ACQUIRE);
}

/* What an event sees whose dispatch begins now: the registrations up to this one. */
static size_t wss__event_begin(const wss__event_table *table) {
    return __atomic_load_n(&table->made, __ATOMIC_ACQUIRE);
}

/* Where the type of this name is named in the tree, or would be. */
static wss__event_type **wss__event_type_at(wss__event_table *table, wss__span name) {
    uint64_t hash = wss__base_hash(name, table->seed);
    wss__event_type **at = &table->types;
    for (wss__event_type *type; (type = __atomic_load_n(at, __ATOMIC_ACQUIRE)) != NULL; hash <<= 2) {
        if (wss__base_equal(type->name, name)) break;
        at = &type->children[hash >> 62];
    }
    return at;
}

static wss__event_type *wss__event_find_type(wss__event_table *table, wss__span name) {
    return __atomic_load_n(wss__event_type_at(table, name), __ATOMIC_ACQUIRE);
}

static wss__event_type *wss__event_add_type(wss__event_table *table, wss__span name) {
    wss__event_type **at = wss__event_type_at(table, name);
    wss__event_type *type = *at;
    if (type) return type;
    type = (wss__event_type *)wss__mem_get_zeroed(table->mem, wss__base_add(sizeof *type + 1, name.size));
    if (!type) return NULL;
    type->name = wss__base_span((const char *)(type + 1), name.size);
    type->older = table->newest;
    table->newest = type;
    memcpy(type + 1, name.data, name.size);
    __atomic_store_n(at, type, __ATOMIC_RELEASE);
    __atomic_store_n(&table->type_count, table->type_count + 1, __ATOMIC_RELEASE);
    return type;
}

static int wss__event_append(wss__event_table *table, wss__event_list *list, wss_handler *handler, void *context) {
    wss__event_handler *entry = (wss__event_handler *)wss__mem_get_zeroed(table->mem, sizeof *entry);
    if (!entry) return 0;
    entry->handler = handler;
    entry->context = context;
    entry->number = table->made + 1;
    if (list->last) __atomic_store_n(&list->last->next, entry, __ATOMIC_RELEASE);
    else __atomic_store_n(&list->first, entry, __ATOMIC_RELEASE);
    __atomic_store_n(&list->last, entry, __ATOMIC_RELEASE);
    __atomic_store_n(&table->made, entry->number, __ATOMIC_RELEASE);
    return 1;
}

/* Registers for a kind of events; for WSS_EVENT_MESSAGE, for those of this type. */
static int wss__event_register(wss__event_table *table, int kind, const char *type_name, wss_handler *handler,
                               void *context) {
    wss__span name = wss__base_span(NULL, 0);
    int typed = kind == WSS_EVENT_MESSAGE;
    int result = typed ? wss__utf8_name(type_name, &name) : WSS_OK;
    if (!handler) result = WSS_ERR_ARGUMENT;
    if (result) return result;
    pthread_mutex_lock(&table->mutex);
    wss__event_type *type = typed ? wss__event_add_type(table, name) : NULL;
    wss__event_list *list = type ? &type->handlers : &table->lists[kind];
    int added = (type || !typed) && wss__event_append(table, list, handler, context);
    pthread_mutex_unlock(&table->mutex);
    if (added) return WSS_OK;
    __atomic_store_n(&table->failed, 1, __ATOMIC_RELEASE);
    return WSS_ERR_MEMORY;
}

static void wss__event_free_list(wss__event_table *table, wss__event_list *list) {
    while (list->first) {
        wss__event_handler *next = list->first->next;
        wss__mem_free(table->mem, list->first, sizeof *list->first);
        list->first = next;
    }
}

static void wss__event_free(wss__event_table *table) {
    for (int kind = 0; kind < WSS_EVENT_TIMER; kind++) wss__event_free_list(table, &table->lists[kind]);
    while (table->newest) {
        wss__event_type *type = table->newest;
        table->newest = type->older;
        wss__event_free_list(table, &type->handlers);
        wss__mem_free(table->mem, type, sizeof *type + 1 + type->name.size);
    }
    pthread_mutex_destroy(&table->mutex);
}

/* The last is what a request goes to. */
static int wss__event_is_empty(const wss__event_table *table, int kind) {
    return __atomic_load_n(&table->lists[kind].last, __ATOMIC_ACQUIRE) == NULL;
}

/* The one place that calls handlers. */
static void wss__event_call(wss_handler *handler, void *context, wss_event *event) {
    event->context = context;
    handler(event);
}

/* In the word that says how far a connection has come, these bits are so once the application has closed it. */
enum { WSS__EVENT_STAGE = 7 << 2, WSS__EVENT_SILENT = 6 << 2 };

/* user: where the connection's pointer stands. Each handler sees it as the one before has left it: that one may have
   freed the pointer that the event began with. word: when that says that it was closed, no further handler begins;
   NULL: all do. seen: as wss__event_begin said. Costs a call for each handler. */
static void wss__event_emit(wss__event_list *list, wss_event *event, void **user, const wss__atomic64 *word,
                            size_t seen) {
    wss__event_handler *entry = __atomic_load_n(&list->first, __ATOMIC_ACQUIRE);
    while (entry && entry->number <= seen) {
        if (word && (__atomic_load_n(word, __ATOMIC_ACQUIRE) & WSS__EVENT_STAGE) == WSS__EVENT_SILENT) break;
        event->user = __atomic_load_n(user, __ATOMIC_ACQUIRE);
        wss__event_call(entry->handler, entry->context, event);
        entry = __atomic_load_n(&entry->next, __ATOMIC_ACQUIRE);
    }
}

static void wss__event_emit_last(wss__event_list *list, wss_event *event) {
    wss__event_handler *last = __atomic_load_n(&list->last, __ATOMIC_ACQUIRE);
    if (last) wss__event_call(last->handler, last->context, event);
}

enum { /* why a message is not typed, as far as anybody here cares */
    WSS__EVENT_TAKEN = 0, WSS__EVENT_NO_OBJECT, WSS__EVENT_NO_JSON, WSS__EVENT_NO_TYPE, WSS__EVENT_NO_HANDLER
};

/* If data is a typed message that somebody handles, calls them; else says why not. Takes the type out, in place: data
   is used up. *rest: what was found, as far as it was read. */
static int wss__event_emit_message(wss__event_table *table, const wss_options *options, wss_event *event, void **user,
                                   const wss__atomic64 *word, char *data, size_t seen, wss__json_rest *rest) {
    size_t size = event->size;
    const char *object = wss__json_space(data, data + size);
    if (object == data + size || *object != '{') return WSS__EVENT_NO_OBJECT; /* not even read */
    if (event->opcode == WSS_BINARY && wss__utf8_check(0, data, size) != 0) return WSS__EVENT_NO_OBJECT;
    int result = wss__json_without(wss__base_span(data, size), wss__base_text(options->type_member), data, rest);
    wss__event_type *type = wss__event_find_type(table, wss__base_span(rest->type, rest->type_size));
    if (result) return WSS__EVENT_NO_JSON;
    if (!type) return rest->type_size ? WSS__EVENT_NO_HANDLER : WSS__EVENT_NO_TYPE;
    wss_event typed = *event;
    wss__args_given outside = wss__args_handed;
    wss__args_given given = {options, data, rest->size, rest->has_members, 0, table->mem, table->seed, NULL};
    data[rest->size] = 0; /* where the type stood there is room for it */
    wss__args_handed = given;
    typed.kind = WSS_EVENT_MESSAGE;
    typed.type = type->name.data;
    typed.args.text = data;
    typed.args.length = rest->size;
    typed.data = NULL;
    typed.size = 0;
    wss__event_emit(&type->handlers, &typed, user, word, seen);
    wss__args_forget(&wss__args_handed);
    wss__args_handed = outside;
    return WSS__EVENT_TAKEN;
}

/* ---- [message] ---------------------------------------------------------------------------------------------
   purpose  what a send is given, checked and measured before any byte of it is written
   knows    base, mem, utf8, json, args, buf, event
   owns     size is exact: whoever makes room for it writes no byte more or less */

typedef struct wss__message {
    int opcode;
    size_t size;           /* of the payload */
    wss__span data;        /* the payload, or for typed messages the args */
    wss__span type;        /* typed messages; data NULL: this is plain data */
    wss__span member;
    size_t left;           /* of args, without members that carry the type's name */
    int has_members;       /* others than these */
    wss__span key;         /* size 0: none */
    uint32_t key_hash;     /* not 0 */
} wss__message;

/* checked: the data is known to be UTF-8. */
static int wss__message_init_data(wss__message *message, int opcode, const void *data, size_t size, int checked) {
    message->type = wss__base_span(NULL, 0); /* the rest describes typed messages */
    message->key = message->type;
    if ((opcode != WSS_TEXT && opcode != WSS_BINARY) || (!data && size)) return WSS_ERR_ARGUMENT;
    if (opcode == WSS_TEXT && !checked && wss__utf8_check(0, (const char *)data, size) != 0) return WSS_ERR_UTF8;
    if (size > SIZE_MAX / 4) return WSS_ERR_TOO_BIG;
    message->opcode = opcode;
    message->size = size;
    message->data = wss__base_span((const char *)data, size);
    return WSS_OK;
}

/* Finds what args are made of, and whether they are valid. Those that a handler was given and sends on are not
   looked at again. */
static int wss__message_check_args(wss__message *message, const wss_options *options, wss_args args) {
    const wss__args_given *given = &wss__args_handed;
    if (args.text && args.text == given->text && args.length == given->length && options == given->options) {
        message->left = message->data.size;
        message->has_members = given->has_members;
        return WSS_OK;
    }
    wss__json_rest rest;
    int result = wss__json_without(message->data, message->member, NULL, &rest);
    message->left = rest.size;
    message->has_members = rest.has_members;
    if (result) return result == WSS_ERR_TYPE ? WSS_ERR_JSON : result;
    return wss__utf8_check(0, message->data.data, message->data.size) != 0 ? WSS_ERR_UTF8 : WSS_OK;
}

/* {"MEMBER":"TYPE"} and, behind a comma, what args has inside its braces. */
static int wss__message_init_typed(wss__message *message, const wss_options *options, const char *type, wss_args args) {
    if (args.error) return args.error;
    int result = wss__utf8_name(type, &message->type);
    if (result) return result;
    message->opcode = WSS_TEXT;
    message->key = wss__base_span(NULL, 0);
    message->member = wss__base_text(options->type_member);
    message->data = args.text ? wss__base_span(args.text, args.length) : wss__base_text("{}");
    while (message->data.size && strchr(" \t\r\n", *message->data.data) && *message->data.data)
        message->data = wss__base_span(message->data.data + 1, message->data.size - 1);
    if (message->data.size > SIZE_MAX / 4) return WSS_ERR_TOO_BIG;
    result = wss__message_check_args(message, options, args);
    if (result) return result;
    message->size = wss__json_escaped_size(message->member) + wss__json_escaped_size(message->type) + 2;
    message->size += message->has_members ? message->left : 1;
    return WSS_OK;
}

static void wss__message_write(const wss__message *message, char *out) {
    if (!message->type.data) {
        if (message->size) memcpy(out, message->data.data, message->size);
        return;
    }
    char *at = out;
    *at++ = '{';
    at = wss__json_quote(message->member, at);
    *at++ = ':';
    at = wss__json_quote(message->type, at);
    wss__json_rest rest;
    wss__span args = message->data;
    if (message->has_members && message->left < args.size) wss__json_without(args, message->member, at, &rest);
    else if (message->has_members) memcpy(at, args.data, args.size);
    *at = message->has_members ? ',' : '}'; /* where the brace of args stood */
}

/* The message as a frame of its own. */
static wss__buf_frame *wss__message_frame(wss__mem *mem, const wss__message *message) {
    char *payload = NULL;
    wss__buf_frame *frame = wss__buf_new(mem, message->opcode, message->size, message->key, &payload);
    if (!frame) return NULL;
    frame->hash = message->key_hash;
    wss__message_write(message, payload);
    return frame;
}

/* ---- [conn] ------------------------------------------------------------------------------------------------
   purpose  what a connection, a loop and a server are to each other: the structs, their lists and deadlines
   knows    base, mem, log, address, http, frame, buf, timer, slot, session, queue, socket, event
   owns     a connection belongs to one loop; only that loop touches it, except for what its slot's word, the
            account of queued bytes and the fields marked atomic or "mutex" tell others
   enums    STAGE, WORK, STATE, LIST, ORDER
   threads  as marked

   Two words say how far a connection has come; both only rise. Its stage is for all to see: it stands in the slot's
   word, beside the number of its loop, and rises under the array's mutex (wss__conn_raise). Its state is its loop's
   (wss__conn_set_state), and says in which of the loop's lists it is.

   stage      set by                                  calls that work     state and list
   HEAD       its loop, with the place                none                HEAD, heads: the oldest first
   ASKED      its loop                                the three answers   ASKED, others
   ANSWERED   who refused or replied                  none                ASKED, others
   ACCEPTED   who accepted                            sends, close, pause ASKED, others
   OPEN       its loop, before its connect handlers   sends, close, pause OPEN, open
   CLOSING    its loop, or who found its queue full   none                as it was; then FLUSHING (its Close leaves),
   SILENT     who closed it: no more messages to it   none                LINGERING (the peer's stream is read out),
   TOLD       after its disconnect handlers           none, it is gone    DEAD (freed at its turn): all three others */

enum {
    WSS__STAGE_HEAD = 0, WSS__STAGE_ASKED, WSS__STAGE_ANSWERED, WSS__STAGE_ACCEPTED, WSS__STAGE_OPEN,
    WSS__STAGE_CLOSING, WSS__STAGE_SILENT, WSS__STAGE_TOLD,
    WSS__STAGE_SHIFT = 2,  /* where it stands in the slot's word, above the state of the place; as [event] knows */
    WSS__STAGE_MASK = 7,
    WSS__STAGE_LOOP_SHIFT = 8 /* and where the number of the loop does */
};

enum { /* work of a connection, for its loop alone */
    WSS__WORK_READABLE = 1,
    WSS__WORK_WRITABLE = 2,
    WSS__WORK_HANGUP = 4,         /* end of stream or an error is known: read until it shows */
    WSS__WORK_READY = 8,          /* on the ready list */
    WSS__WORK_PAUSED = 16,        /* by the application */
    WSS__WORK_FULL = 32,          /* by its own send queue, or by events that were not delivered */
    WSS__WORK_UNREAD = 64,        /* while open: is not read from, whatever for; since says since when */
    WSS__WORK_AWAITED = 128,      /* a ping, or all that was to be said before the end, has left; since says when */
    WSS__WORK_CROWDED = 256,      /* was above half its limit, and no drain event has been told since */
    WSS__WORK_BROKEN = 512,       /* nothing leaves any more: a send failed, or memory for the rest of what had begun */
    WSS__WORK_ENDED_INPUT = 1024, /* the peer ended its stream, or has sent its Close */
    WSS__WORK_STARVED = 2048,     /* the kernel lacked memory to send: try again by time */
    WSS__WORK_LOST = 4096,        /* epoll told an error, and tells it once */
    WSS__WORK_STATE_SHIFT = 13    /* the state stands in the bits from here on */
};

enum {
    WSS__STATE_HEAD = 0, WSS__STATE_ASKED, /* handshakes under way */
    WSS__STATE_OPEN,                       /* its connect handlers were called, and its end is not known yet */
    WSS__STATE_FLUSHING, WSS__STATE_LINGERING, WSS__STATE_DEAD
};

enum { WSS__LIST_HEADS = 0, WSS__LIST_OPEN, WSS__LIST_OTHERS, WSS__LIST_COUNT }; /* of a loop */

enum {
    WSS__CONN_STEP = 64,          /* milliseconds to which deadlines are rounded up, so that many share a wake-up */
    WSS__CONN_LINGER = 5000,      /* milliseconds for the peer to end TCP where options.close_ms is off */
    WSS__CONN_LINGER_MAX = 32 << 10, /* KiB read from a peer that does not end: it may be sending a large message */
    WSS__CONN_MORE = 1000,        /* milliseconds for which what is due waits while the kernel has more of the peer */
    WSS__CONN_RETRY = 100,        /* milliseconds until what lacked memory or descriptors is tried again */
    WSS__CONN_HEAVY = 16,         /* lists of those that hold much */
    WSS__CONN_UNDELIVERED = 64    /* messages of one connection on their way to a queue's thread */
};

enum { /* what a word is that tells of a peer, in its lowest bits */
    WSS__CONN_IS_V4 = 1,   /* an IPv4 address and a port */
    WSS__CONN_IS_BLOCK = 2, /* a pointer to a wss__conn_peer, plus this */
    WSS__CONN_IS_PEER = 3
};

struct wss__conn;

/* An event on its way to the queue's thread: what of it is known nowhere else. */
typedef struct wss__conn_notice {
    wss__queue_job job;         /* arg: the server. size 0: part of what it is about; else the data and a NUL follow */
    union {
        struct wss__conn *conn; /* whose place it holds; NULL: nobody's */
        wss_conn handle;        /* of that, once it was told */
    };
    uint16_t code;              /* disconnect, as the next two */
    uint8_t cause;
    uint8_t reason_size;
    uint8_t kind;               /* WSS_EVENT_... */
    uint8_t opcode;             /* data */
} wss__conn_notice;

/* A request that the application has to answer, with its head. Shared with the event that shows it. */
typedef struct wss__conn_request {
    uint32_t references;   /* atomic */
    size_t bytes;          /* of this allocation; the head follows */
    int upgrade;           /* else plain HTTP */
    wss_conn conn;
    wss__conn_notice job;
    wss__queue_list group; /* the job, while nobody has taken it */
    wss__buf_frame *answer; /* given, and not applied by the loop yet; mutex, until the stage says so */
    int status;            /* of that: of HTTP, 101 lets in */
    wss_request request;
} wss__conn_request;

/* With options.queue: the events that may never be lost, and the account of what is under way. */
typedef struct wss__conn_delivery {
    wss__conn_notice connect;
    wss__conn_notice disconnect;
    char reason[WSS__FRAME_CONTROL_MAX];
    wss__queue_list group; /* what can be called back once the peer has broken it off */
    size_t undelivered; /* bytes; atomic */
    size_t unread;      /* of one that was reset: received, not looked at, and counted in the sum of all; the loop's */
    int messages;       /* of which these are made; atomic */
    int reset;          /* the peer has broken it off; atomic */
    int waiting;        /* the loop waits for it to fall; atomic */
    int holders;        /* the loop, and each event under way; atomic */
    int held;           /* the loop's, as the next two: it is in the loop's list of those */
    uint32_t before;
    uint32_t after;
} wss__conn_delivery;

/* A peer that is not on IPv4: see wss__conn_peer_of. */
typedef struct wss__conn_peer {
    wss__address address;
    int pid; /* Unix sockets; else -1 */
    int uid;
    int gid;
} wss__conn_peer;

/* For max_per_address. In a list for each value of some bits of the key's hash; under the mutex. */
typedef struct wss__conn_address {
    struct wss__conn_address *next;
    char key[8];
    int count; /* of open sockets, at least 1 */
} wss__conn_address;

/* What most connections never have. */
typedef struct wss__conn_cold {
    uint64_t peer;           /* mutex: see wss__conn_peer_of */
    wss__conn_delivery *delivery; /* with options.queue, from accept to release */
    wss__conn_request *request;  /* mutex */
    char *path;              /* mutex; NULL: "/" */
    size_t path_size;
    char *protocol;          /* mutex; NULL: none */
    size_t protocol_size;
    char *reason;            /* of our Close */
    size_t reason_size;
    uint64_t last_message;   /* for the idle timeout */
    uint64_t rated;          /* for max_message_rate: when the next message may come, had all so far come evenly: in
                                nanoseconds of its loop's time */
    uint64_t moved_at;       /* [pressure]: when it last moved, */
    uint64_t moved;          /* how many bytes it had sent or taken then, */
    uint32_t heavy_before;   /* and the list in which it stands */
    uint32_t heavy_after;
    uint8_t heavy;           /* plus 1; 0: in none */
    uint8_t takes;           /* moved is what it had taken */
    wss__conn_address *address; /* with max_per_address, while its socket is open; mutex */
} wss__conn_cold;

typedef struct wss__conn {
    wss__slot slot;
    wss__session session;
    wss__atomic64 bytes_out; /* beside the session: a broadcast writes both */
    wss__atomic64 bytes_in;
    wss__timer_node timer;
    int fd;                  /* mutex */
    void *user;              /* atomic */
    uint64_t more;           /* mutex: see wss__conn_cold_of and wss__conn_peer_of */
    uint32_t opened;         /* when it was accepted, in steps of WSS__CONN_STEP */
    uint32_t since;          /* milliseconds of its loop's time, modulo 2^32: see UNREAD and AWAITED; else when it was
                                adopted */
    uint32_t acked;          /* AWAITED: what its bytes_out less what is on the way has to pass to be a sign of life, or
                                of coming nearer to our last word, modulo 2^32 */
    uint16_t round_trip;     /* of the last ping in milliseconds, plus 1; the longest that fits stands for all longer;
                                atomic */
    uint16_t work;           /* the bits above, and in the topmost three its state */
    uint32_t before;         /* in its list of the loop's */
    uint32_t after;
} wss__conn;

typedef struct wss__conn_list {
    uint32_t first;
    uint32_t last;
} wss__conn_list;

enum { /* whether a loop holds connections back because too much is undelivered */
    WSS__CONN_HELD = 1, /* it does, and is to be told when it is less */
    WSS__CONN_COMING    /* and that is on its way */
};

enum { /* kinds of jobs for a loop, or for a queue, beside WSS__QUEUE_POST */
    WSS__ORDER_SEND = 1,
    WSS__ORDER_BROADCAST,
    WSS__ORDER_CLOSE,
    WSS__ORDER_ANSWER,
    WSS__ORDER_ADOPT, /* a place that was dealt */
    WSS__ORDER_READ,  /* pause, resume */
    WSS__ORDER_TIMER,
    WSS__ORDER_EVENT, /* for a queue; a wss__conn_notice */
    WSS__ORDER_ENDED, /* for a queue: a server has ended */
    WSS__ORDER_MARK,  /* for a queue: it was told that its last server has ended, and runs what came before this */
    WSS__ORDER_TOLD,  /* an event that was told, on its way back: its connection may be read again */
    WSS__ORDER_LESS   /* less is undelivered: all may be */
};

/* The answer to a request. */
typedef struct wss__conn_reply {
    void *user;            /* the connection's pointer */
    wss__span protocol;    /* the subprotocol, in memory for the connection to keep */
    wss__buf_frame *frame; /* for the request to keep */
    int status;            /* as it is kept */
    int upgrade;           /* to one */
} wss__conn_reply;

/* An order to a loop. It is made on the stack; where another thread has to carry it out, a copy goes there: with 120
   bytes on 64 bits, the most that glibc frees without the lock that both threads need. */
typedef struct wss__conn_order {
    wss__queue_job job;
    wss_conn conn;         /* broadcast: left out. timer: the timer */
    wss__buf_frame *frame; /* send, broadcast; else NULL */
    union {
        wss__conn *place;  /* adopt */
        const wss__conn_reply *reply; /* answer: until it is handed in */
    };
    wss__span text;        /* close: the reason. Behind a copy stands what this points to */
    union {
        int code;          /* close */
        int bits;          /* read: of the work, to set or to clear */
    };
    int set;               /* read. timer: start, not cancel */
} wss__conn_order;

typedef struct wss__loop {
    wss_server *server;
    wss__queue_inbox inbox;
    wss__session_shared shared;
    wss__timer_wheel wheel;
    char *receive;
    size_t receive_size;
    uint64_t now;              /* milliseconds, read once a turn */
    uint64_t time;             /* the same, less what was skipped: by this deadlines are judged */
    wss__atomic64 skipped;     /* milliseconds in which the process stood still or a turn took too long: they pass for
                                  no deadline but a stop's; atomic */
    uint64_t turned;           /* since when it waits: when the last turn ended, or wss_poll was called after that */
    uint32_t first_ready;
    uint32_t last_ready;
    uint32_t ready_count;
    uint64_t share_us;         /* what a connection's handlers may take of this turn */
    wss__conn_list lists[WSS__LIST_COUNT]; /* all connections that it owns */
    uint32_t walk;             /* the next one, where all are gone through and any may move meanwhile */
    wss__conn_list heavy[WSS__CONN_HEAVY]; /* those that hold much by themselves, by how much: see [pressure] */
    uint32_t oldest;           /* when the oldest was accepted whose request is not whole; UINT32_MAX: none; atomic */
    int room;                  /* it has been asked to end a handshake, and has not looked at that; atomic */
    size_t connections;        /* sockets that were dealt to it and not closed; atomic */
    size_t handshakes;         /* of these, those whose requests were not answered; atomic */
    size_t dealt;              /* and those that it has not looked at; atomic */
    wss__atomic64 dealt_in;    /* the last of them, in this turn of the first loop; atomic */
    wss__conn_list held_back;  /* who waits until less is undelivered, though nothing of his own is: the first first */
    int held;                  /* WSS__CONN_HELD, and _COMING; atomic */
    wss__queue_job less;       /* tells it that less is undelivered */
    size_t handed_out;              /* in this turn, of broadcasts that do not leave together: one for each receiver */
    int full;                       /* there are as many as leave in a turn: what makes more waits for the next one */
    int epoll;
    int index;
    int stopping;
    int spreading;             /* a stop was asked for, and its closes are spread */
    uint64_t spread_from;      /* since when, */
    size_t spread_count;       /* over how many connections, */
    size_t spread_done;        /* and of how many the turn has come */
    int finished;
    int accepting;             /* its listeners are in epoll; the first loop's alone ever are */
    int accept_backoff;        /* milliseconds until accepting is tried again after a failure; 0: when there is room */
    uint64_t accept_at;        /* when else; UINT64_MAX: never */
    int timer_fd;              /* -1 until wss_fd asks for it */
    pthread_t thread;
    int has_thread;
    int failed;                /* errno of a wait that failed; 0: none */
} wss__loop;

struct wss_server {
    wss__mem mem;
    wss__log log;
    wss_options options;
    char *strings;             /* copies of the options' strings */
    size_t strings_size;
    wss__slot_table conns;
    wss__slot_table timers;
    wss__event_table handlers;
    wss__socket_listeners listeners;
    wss__loop *loops;
    int loop_count;
    int loops_made;
    int running;               /* atomic: wss_run, wss_start or wss_poll has begun */
    int entered;               /* atomic: a thread is inside wss_run, wss_start, wss_poll or wss_destroy */
    int ended;                 /* atomic: it has stopped */
    int stopping;              /* atomic */
    int full;                  /* atomic: the first loop waits for a place, or for a handshake to end */
    wss__atomic64 stop_at;     /* atomic: the earliest end of a stop; 0: none was asked for */
    wss__atomic64 spread_end;  /* atomic: until when a stop spreads its closes; 0: it does not, or none was asked for */
    size_t open;               /* atomic: connections that are counted */
    size_t undelivered;        /* atomic: bytes on their way to the queue's thread, of all connections */
    wss__queue_list left;      /* of that, what clients sent that have reset; under the mutex of the queue's inbox */
    int held;                  /* atomic: a loop waits for it to fall */
    size_t closed;             /* atomic: places whose sockets are closed, and that the queue's thread still needs */
    wss__atomic64 refused_full;        /* atomic: of sends that no loop has seen */
    wss__atomic64 undelivered_dropped; /* atomic */
    wss__conn_address **addresses;     /* with max_per_address; mutex */
    size_t address_lists;      /* a power of two */
    uint64_t seed;             /* for what strangers can fill */
    wss__queue_job ended_job;  /* tells the queue that this server has ended */
    pthread_t thread;          /* of wss_start */
    int has_thread;
};

static int wss__conn_stage(const wss__conn *conn) {
    return (int)(wss__slot_word(&conn->slot) >> WSS__STAGE_SHIFT) & WSS__STAGE_MASK;
}

static wss__loop *wss__conn_loop_of(const wss_server *server, const wss__conn *conn) {
    return &server->loops[wss__slot_word(&conn->slot) >> WSS__STAGE_LOOP_SHIFT & (WSS__QUEUE_INBOXES - 1)];
}

/* Under the mutex. Nothing, where it is further. Returns the stage before. */
static int wss__conn_raise(wss__conn *conn, int stage) {
    uint64_t word = wss__slot_word(&conn->slot);
    int before = wss__conn_stage(conn);
    if (stage <= before) return before;
    word += (uint64_t)(stage - before) << WSS__STAGE_SHIFT;
    __atomic_store_n(&conn->slot.word, word, __ATOMIC_RELEASE);
    return before;
}

static void wss__conn_lock(const wss_server *server) {
    pthread_mutex_lock((pthread_mutex_t *)(uintptr_t)&server->conns.mutex);
}

static void wss__conn_unlock(const wss_server *server) {
    pthread_mutex_unlock((pthread_mutex_t *)(uintptr_t)&server->conns.mutex);
}

/* The same, for who does not hold the mutex. */
static int wss__conn_set_stage(const wss_server *server, wss__conn *conn, int stage) {
    wss__conn_lock(server);
    int before = wss__conn_raise(conn, stage);
    wss__conn_unlock(server);
    return before;
}

/* Under the mutex. */
static wss__conn *wss__conn_find(const wss_server *server, wss_conn handle) {
    return (wss__conn *)(void *)wss__slot_find(&server->conns, handle.id);
}

static wss__conn *wss__conn_at(const wss_server *server, uint32_t index) {
    return (wss__conn *)(void *)wss__slot_at(&server->conns, index);
}

static wss_conn wss__conn_handle(const wss__conn *conn) {
    wss_conn handle;
    handle.id = wss__slot_id(&conn->slot);
    return handle;
}

/* The loop of this server whose turn the calling thread is in, however deep, or NULL. */
static wss__loop *wss__conn_own_loop(const wss_server *server) {
    const wss__event_place *place = wss__event_inside;
    while (place && !(place->what == server && place->loop)) place = place->outside;
    return place ? (wss__loop *)place->loop : NULL;
}

/* The connection, if the calling thread is its loop: then it can be used without the mutex. All of that is read in one
   piece: another loop may free what it owns at any moment, and the place may be anybody's then. */
static wss__conn *wss__conn_find_own(wss__loop *loop, wss_conn handle) {
    wss__slot *slot = loop ? wss__slot_find(&loop->server->conns, handle.id) : NULL;
    if (!slot) return NULL;
    uint64_t others = (uint64_t)WSS__STAGE_MASK << WSS__STAGE_SHIFT;
    uint64_t own = (uint64_t)loop->index << WSS__STAGE_LOOP_SHIFT | WSS__SLOT_OWNED;
    uint64_t wanted = (handle.id & ~(uint64_t)WSS__SLOT_LIMIT) | own;
    return (wss__slot_word(slot) & ~others) == wanted ? (wss__conn *)(void *)slot : NULL;
}

/* Hands an order to a loop, as wss__queue_put does; the array's mutex is given back before wss__queue_finish wakes it.
   account, may be NULL, grows by what its frame costs. */
static int wss__conn_put(wss__loop *loop, wss__conn_order *order, uint32_t *account) {
    wss__queue_inbox *inbox = &loop->inbox;
    wss__queue_inbox *own = wss__conn_own_loop(loop->server) == loop ? inbox : NULL;
    uint32_t units = account ? (uint32_t)(wss__buf_charge(order->frame) / WSS__SESSION_UNIT) : 0;
    return wss__queue_put(&inbox, &order->job, 1, own, account, units);
}

/* What a connection has besides is told by one word: a pointer to its cold part or, where it has none, who its peer
   is. The latter is in none of two bits that are clear in every pointer. */
static wss__conn_cold *wss__conn_cold_of(const wss__conn *conn) {
    return conn->more & WSS__CONN_IS_PEER ? NULL : (wss__conn_cold *)(uintptr_t)conn->more;
}

/* NULL without options.queue. */
static wss__conn_delivery *wss__conn_delivery_of(const wss__conn *conn) {
    const wss__conn_cold *cold = wss__conn_cold_of(conn);
    return cold ? cold->delivery : NULL;
}

static wss__conn_cold *wss__conn_need_cold(wss_server *server, wss__conn *conn) {
    wss__conn_cold *cold = wss__conn_cold_of(conn);
    if (cold) return cold;
    cold = (wss__conn_cold *)wss__mem_get_zeroed(&server->mem, sizeof *cold);
    if (!cold) return NULL;
    wss__conn_lock(server);
    cold->peer = conn->more;
    conn->more = (uint64_t)(uintptr_t)cold;
    wss__conn_unlock(server);
    return cold;
}

/* A place has become free, or a handshake has ended: the first loop may wait for that. */
static void wss__conn_tell_acceptor(wss_server *server) {
    if (__atomic_load_n(&server->full, __ATOMIC_SEQ_CST) && __atomic_exchange_n(&server->full, 0, __ATOMIC_SEQ_CST))
        wss__queue_signal(server->loops[0].inbox.fd);
}

static void wss__conn_end_handshake(wss__loop *loop) {
    __atomic_sub_fetch(&loop->handshakes, 1, __ATOMIC_SEQ_CST);
    wss__conn_tell_acceptor(loop->server);
}

static size_t wss__conn_handshakes(const wss_server *server) {
    size_t sum = 0;
    for (int i = 0; i < server->loop_count; i++)
        sum += __atomic_load_n(&server->loops[i].handshakes, __ATOMIC_SEQ_CST);
    return sum;
}

static void wss__conn_release_request(wss_server *server, wss__conn_request *kept) {
    if (!kept || __atomic_sub_fetch(&kept->references, 1, __ATOMIC_ACQ_REL) > 0) return;
    wss__buf_release(&server->mem, kept->answer);
    wss__mem_free(&server->mem, kept, kept->bytes);
}

/* Whether its request still waits for an answer. Any thread. */
static int wss__conn_is_asking(const wss_server *server, wss_conn handle) {
    wss__conn_lock(server);
    wss__conn *conn = wss__conn_find(server, handle);
    int asking = conn && wss__conn_stage(conn) == WSS__STAGE_ASKED;
    wss__conn_unlock(server);
    return asking;
}

static wss__conn_request *wss__conn_request_of(const wss_request *request) {
    return (wss__conn_request *)(void *)((char *)(uintptr_t)request - offsetof(wss__conn_request, request));
}

/* Nobody needs the request any more, if there is one, but the event that may be showing it: where that still waits
   nobody will be shown it. So no more requests wait than handshakes are under way. */
static void wss__conn_forget_request(wss_server *server, wss__conn *conn) {
    wss__conn_cold *cold = wss__conn_cold_of(conn);
    wss__conn_request *kept = cold ? cold->request : NULL;
    wss_queue *queue = server->options.queue;
    if (!kept) return;
    wss__conn_lock(server);
    cold->request = NULL;
    wss__conn_unlock(server);
    if (queue && wss__queue_recall(&queue->inbox, &kept->group)) wss__conn_release_request(server, kept);
    wss__conn_release_request(server, kept);
}

/* A copy of a text that is not empty. */
static char *wss__conn_copy(wss_server *server, wss__span text, size_t *size) {
    char *copy = (char *)wss__mem_get(&server->mem, text.size);
    if (copy) memcpy(copy, text.data, text.size);
    *size = copy ? text.size : 0;
    return copy;
}

static void wss__conn_free_cold(wss_server *server, wss__conn_cold *cold) {
    if (!cold) return;
    wss__conn_release_request(server, cold->request);
    wss__mem_free(&server->mem, cold->path, cold->path_size);
    wss__mem_free(&server->mem, cold->protocol, cold->protocol_size);
    wss__mem_free(&server->mem, cold->reason, cold->reason_size);
    wss__mem_free(&server->mem, cold->delivery, sizeof *cold->delivery);
    wss__mem_free(&server->mem, cold, sizeof *cold);
}

/* Gives back what was needed for a while. */
static void wss__conn_free_empty_cold(wss_server *server, wss__conn *conn) {
    wss__conn_cold *cold = wss__conn_cold_of(conn);
    wss__conn_lock(server);
    int empty = !cold->delivery && !cold->request && !cold->path && !cold->protocol && !cold->reason && !cold->address;
    empty = empty && server->options.idle_ms == WSS_OFF && server->options.max_message_rate == WSS_OFF;
    if (empty) conn->more = cold->peer;
    wss__conn_unlock(server);
    if (empty) wss__mem_free(&server->mem, cold, sizeof *cold);
}

/* The pointer that nobody can reach any more is freed as in a handler: the server cannot be destroyed from here. */
static void wss__conn_free_user(wss_server *server, void *user) {
    wss__event_place place;
    if (!user || !server->options.user_free) return;
    wss__event_enter(&place, server, NULL);
    server->options.user_free(user);
    wss__event_leave(&place);
}

/* ---- peers ---- */

static wss__conn_peer wss__conn_peer_at(wss__address address) {
    wss__conn_peer peer;
    peer.address = address;
    peer.pid = peer.uid = peer.gid = -1;
    return peer;
}

/* Known from accept until the place is free: an IPv4 address, which most have, is told by the word itself, another one
   by a block of memory. */
static wss__conn_peer wss__conn_peer_of(const wss__conn *conn) {
    char bytes[4];
    const wss__conn_cold *cold = wss__conn_cold_of(conn);
    uint64_t word = cold ? cold->peer : conn->more;
    if (word & WSS__CONN_IS_BLOCK) return *(const wss__conn_peer *)(uintptr_t)(word & ~(uint64_t)WSS__CONN_IS_PEER);
    wss__base_store_be(bytes, word >> 32, 4);
    int kind = word ? WSS__ADDRESS_IP : WSS__ADDRESS_NONE;
    int port = (int)(word >> 16 & 0xffff);
    return wss__conn_peer_at(wss__address_of(kind, (const unsigned char *)bytes, 4, port));
}

static void wss__conn_free_peer(wss_server *server, uint64_t word) {
    void *block = (void *)(uintptr_t)(word & ~(uint64_t)WSS__CONN_IS_PEER);
    if (word & WSS__CONN_IS_BLOCK) wss__mem_free(&server->mem, block, sizeof(wss__conn_peer));
}

/* False: no memory, and it is as it was. */
static int wss__conn_set_peer(wss_server *server, wss__conn *conn, const wss__conn_peer *peer) {
    uint64_t v4 = wss__base_load_be((const char *)peer->address.bytes + 12, 4);
    uint64_t made = v4 << 32 | (uint64_t)peer->address.port << 16 | WSS__CONN_IS_V4;
    if (!wss__address_is_v4(&peer->address)) {
        wss__conn_peer *block = (wss__conn_peer *)wss__mem_get(&server->mem, sizeof *block);
        if (!block) return 0;
        *block = *peer;
        made = (uint64_t)(uintptr_t)block | WSS__CONN_IS_BLOCK;
    }
    wss__conn_cold *cold = wss__conn_cold_of(conn);
    uint64_t *word = cold ? &cold->peer : &conn->more;
    wss__conn_lock(server);
    uint64_t before = *word;
    *word = made;
    wss__conn_unlock(server);
    wss__conn_free_peer(server, before);
    return 1;
}

/* The list in which an address with this key stands. */
static wss__conn_address **wss__conn_address_list(wss_server *server, const char key[8]) {
    uint64_t hash = wss__base_hash(wss__base_span(key, 8), server->seed);
    return &server->addresses[hash >> 32 & (server->address_lists - 1)];
}

/* One socket less of its address. Under the mutex; what it returns, may be NULL, is to be freed outside. */
static wss__conn_address *wss__conn_leave_address(wss_server *server, wss__conn *conn) {
    wss__conn_cold *cold = wss__conn_cold_of(conn);
    wss__conn_address *address = cold ? cold->address : NULL;
    if (!address) return NULL;
    cold->address = NULL;
    if (--address->count) return NULL;
    wss__conn_address **at = wss__conn_address_list(server, address->key);
    while (*at != address) at = &(*at)->next;
    *at = address->next;
    return address;
}

/* One socket more of this address. WSS_ERR_FULL where it has as many as it may, or WSS_ERR_MEMORY. */
static int wss__conn_count_address(wss_server *server, const char key[8], wss__conn_address **taken) {
    wss__conn_address **list = wss__conn_address_list(server, key);
    wss__conn_address *made = (wss__conn_address *)wss__mem_get_zeroed(&server->mem, sizeof *made);
    if (!made) return WSS_ERR_MEMORY;
    memcpy(made->key, key, 8);
    wss__conn_lock(server);
    wss__conn_address *address = *list;
    while (address && memcmp(address->key, key, 8) != 0) address = address->next;
    if (!address) {
        address = made;
        made->next = *list;
        *list = made;
        made = NULL;
    }
    int full = address->count >= server->options.max_per_address;
    if (!full) address->count++;
    if (!full) *taken = address;
    wss__conn_unlock(server);
    wss__mem_free(&server->mem, made, sizeof *made);
    return full ? WSS_ERR_FULL : WSS_OK;
}

/* Counts a client for max_per_address. WSS_OK, WSS_ERR_FULL or WSS_ERR_MEMORY. */
static int wss__conn_limit(wss_server *server, wss__conn *conn, const wss__address *address) {
    char key[8];
    if (server->options.max_per_address == WSS_OFF || !wss__address_key(address, key)) return WSS_OK;
    wss__conn_cold *cold = wss__conn_need_cold(server, conn);
    return cold ? wss__conn_count_address(server, key, &cold->address) : WSS_ERR_MEMORY;
}

/* The last holder gives the place back: the loop when the socket is closed, the queue's thread when the last
   event was delivered. Nothing of the connection is used after this. */
static void wss__conn_release(wss_server *server, wss__conn *conn) {
    wss__conn_cold *cold = wss__conn_cold_of(conn);
    if (cold && cold->delivery && __atomic_sub_fetch(&cold->delivery->holders, 1, __ATOMIC_ACQ_REL) > 0) return;
    wss__conn_lock(server);
    if ((conn->slot.word & WSS__SLOT_STATE) == WSS__SLOT_CLOSED)
        __atomic_sub_fetch(&server->closed, 1, __ATOMIC_RELAXED);
    void *user = __atomic_exchange_n(&conn->user, NULL, __ATOMIC_ACQ_REL);
    uint64_t peer = cold ? cold->peer : conn->more;
    conn->more = 0;
    wss__slot_release(&server->conns, &conn->slot);
    wss__conn_unlock(server);
    wss__conn_free_cold(server, cold);
    wss__conn_free_peer(server, peer);
    wss__conn_free_user(server, user);
    wss__conn_tell_acceptor(server);
}

/* Names a call that has no effect because it comes too late, or that comes from the wrong place. */
static void wss__conn_misused(wss_server *server, const char *what, uint64_t id) {
    if (wss__log_wants(&server->log, WSS_LOG_DEBUG))
        wss__log_line(&server->log, WSS_LOG_DEBUG, wss__socket_clock(), "%s (%llx)", what, (unsigned long long)id);
}

/* Sets a moment of which 0 is none, unless an earlier one is set. */
static void wss__conn_set_earlier(wss__atomic64 *at, uint64_t moment) {
    uint64_t before = __atomic_load_n(at, __ATOMIC_ACQUIRE);
    while ((!before || moment < before) &&
           !__atomic_compare_exchange_n(at, &before, moment, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    }
}

static void wss__conn_wake_all(wss_server *server) {
    for (int i = 0; i < server->loop_count; i++) wss__queue_signal(server->loops[i].inbox.fd);
}

/* Asks all loops to stop; the earliest end counts. Async-signal-safe. */
static void wss__conn_stop(wss_server *server, int milliseconds) {
    int number = errno;
    int spread = server->options.stop_spread_ms;
    uint64_t now = wss__socket_clock();
    uint64_t time = (uint64_t)(milliseconds > 0 ? milliseconds : 0);
    wss__conn_set_earlier(&server->stop_at, now + time);
    if (spread != WSS_OFF && time > 0)
        wss__conn_set_earlier(&server->spread_end, now + ((uint64_t)spread < time / 2 ? (uint64_t)spread : time / 2));
    else __atomic_store_n(&server->stopping, 1, __ATOMIC_RELEASE);
    wss__conn_wake_all(server);
    errno = number;
}

/* ---- states and lists ---- */

static int wss__conn_state(const wss__conn *conn) {
    return conn->work >> WSS__WORK_STATE_SHIFT;
}

static wss__conn_list *wss__conn_list_of(wss__loop *loop, const wss__conn *conn) {
    switch (wss__conn_state(conn)) {
    case WSS__STATE_HEAD: return &loop->lists[WSS__LIST_HEADS];
    case WSS__STATE_OPEN: return &loop->lists[WSS__LIST_OPEN];
    default: return &loop->lists[WSS__LIST_OTHERS];
    }
}

/* Another loop reads it. */
static void wss__conn_note_oldest(wss__loop *loop) {
    uint32_t first = loop->lists[WSS__LIST_HEADS].first;
    uint32_t oldest = first == WSS__SLOT_NONE ? UINT32_MAX : wss__conn_at(loop->server, first)->opened;
    __atomic_store_n(&loop->oldest, oldest, __ATOMIC_RELAXED);
}

/* At the end of the list where its state belongs. */
static void wss__conn_link(wss__loop *loop, wss__conn *conn) {
    wss__conn_list *list = wss__conn_list_of(loop, conn);
    uint32_t *before = list->last == WSS__SLOT_NONE ? &list->first : &wss__conn_at(loop->server, list->last)->after;
    conn->before = list->last;
    conn->after = WSS__SLOT_NONE;
    *before = conn->slot.index;
    list->last = conn->slot.index;
    if (list == &loop->lists[WSS__LIST_HEADS]) wss__conn_note_oldest(loop);
}

static void wss__conn_unlink(wss__loop *loop, wss__conn *conn) {
    wss__conn_list *list = wss__conn_list_of(loop, conn);
    if (loop->walk == conn->slot.index) loop->walk = conn->after;
    *(conn->before == WSS__SLOT_NONE ? &list->first : &wss__conn_at(loop->server, conn->before)->after) = conn->after;
    *(conn->after == WSS__SLOT_NONE ? &list->last : &wss__conn_at(loop->server, conn->after)->before) = conn->before;
    if (list == &loop->lists[WSS__LIST_HEADS]) wss__conn_note_oldest(loop);
}

/* The connection at *index, which then names the one after it in its list; NULL at the end. */
static wss__conn *wss__conn_walk(const wss__loop *loop, uint32_t *index) {
    if (*index == WSS__SLOT_NONE) return NULL;
    wss__conn *conn = wss__conn_at(loop->server, *index);
    *index = conn->after;
    return conn;
}

/* The one way from state to state. */
static void wss__conn_set_state(wss__loop *loop, wss__conn *conn, int state) {
    int before = wss__conn_state(conn);
    WSS__BASE_ASSERT(state > before);
    wss__conn_unlink(loop, conn);
    conn->work = (uint16_t)(conn->work + ((state - before) << WSS__WORK_STATE_SHIFT));
    wss__conn_link(loop, conn);
    if (before <= WSS__STATE_ASKED && state > WSS__STATE_ASKED) wss__conn_end_handshake(loop);
}

/* Its session has not ended. */
static int wss__conn_is_serving(const wss__conn *conn) {
    return wss__conn_state(conn) <= WSS__STATE_OPEN;
}

/* Open, and its connect handlers have not been called. */
static int wss__conn_is_new(const wss__conn *conn) {
    return conn->session.phase == WSS__SESSION_OPEN && wss__conn_state(conn) < WSS__STATE_OPEN;
}

static void wss__conn_clear_work(wss__conn *conn, int bits) {
    conn->work = (uint16_t)(conn->work & ~bits);
}

/* ---- ready list ---- */

static void wss__conn_make_ready(wss__loop *loop, wss__conn *conn) {
    if (conn->work & WSS__WORK_READY) return;
    uint32_t index = conn->slot.index;
    conn->work |= WSS__WORK_READY;
    conn->slot.next = WSS__SLOT_NONE;
    if (loop->last_ready == WSS__SLOT_NONE) loop->first_ready = index;
    else wss__conn_at(loop->server, loop->last_ready)->slot.next = index;
    loop->last_ready = index;
    loop->ready_count++;
}

static wss__conn *wss__conn_take_ready(wss__loop *loop, uint32_t *first) {
    if (*first == WSS__SLOT_NONE) return NULL;
    wss__conn *conn = wss__conn_at(loop->server, *first);
    *first = conn->slot.next;
    conn->slot.next = WSS__SLOT_NONE;
    wss__conn_clear_work(conn, WSS__WORK_READY);
    return conn;
}

/* Puts those behind this one, which must be on the list, ahead of all others. */
static void wss__conn_prefer_behind(wss__loop *loop, uint32_t index) {
    wss__conn *last = wss__conn_at(loop->server, index);
    if (loop->last_ready == index) return;
    wss__conn_at(loop->server, loop->last_ready)->slot.next = loop->first_ready;
    loop->first_ready = last->slot.next;
    loop->last_ready = index;
    last->slot.next = WSS__SLOT_NONE;
}

/* ---- [pause] -----------------------------------------------------------------------------------------------
   purpose  what keeps a connection from being read: its own queue, events that were not delivered, its rate
   knows    base, session, queue, slot, conn
   owns     reading pauses at half of a limit and goes on at a quarter; who waits for others is told by the loop
   threads  the loop's own, except where a function says otherwise */

/* ---- pressure ---- */

static size_t wss__pause_half(const wss_server *server) {
    return server->options.max_queued / 2;
}

static void wss__pause_set_crowded(wss__loop *loop, wss__conn *conn) {
    if (!(conn->work & WSS__WORK_CROWDED)) WSS__COUNT(loop->shared.stats.crowded, 1);
    conn->work |= WSS__WORK_CROWDED;
}

/* Notes that much is queued. Half of the limit is enough: of what was refused for want of room it may have seen no more
   than that at a time, where the rest was on its way to the loop. */
static void wss__pause_mark_pressure(wss__loop *loop, wss__conn *conn) {
    size_t queued = wss__session_queued(&conn->session);
    if (queued && queued >= wss__pause_half(loop->server)) wss__pause_set_crowded(loop, conn);
}

/* It was crowded, and has fallen to a quarter of its limit, with what is on its way: the drain event is due. */
static int wss__pause_is_drained(const wss_server *server, const wss__conn *conn) {
    if (!(conn->work & WSS__WORK_CROWDED)) return 0;
    return wss__session_queued(&conn->session) + wss__session_coming(&conn->session) <= wss__pause_half(server) / 2;
}

static void wss__pause_clear_crowded(wss__loop *loop, wss__conn *conn) {
    if (conn->work & WSS__WORK_CROWDED) WSS__COUNT_DOWN(loop->shared.stats.crowded);
    wss__conn_clear_work(conn, WSS__WORK_CROWDED);
}

/* ---- undelivered ---- */

/* All connections together have more undelivered than they may, a quarter of the budget: each then has one message
   under way. A sixteenth more is left for those: beyond that nobody is read, or many who have one each would fill the
   budget. */
static int wss__pause_is_flooded(const wss_server *server) {
    return __atomic_load_n(&server->undelivered, __ATOMIC_SEQ_CST) > server->options.memory_budget / 4;
}

static int wss__pause_is_drowned(const wss_server *server) {
    size_t most = server->options.memory_budget / 4 + server->options.memory_budget / 16;
    return __atomic_load_n(&server->undelivered, __ATOMIC_SEQ_CST) > most;
}

/* So many bytes less are undelivered. Where it is no longer too much, the loops that hold connections back are told. */
static void wss__pause_note_less(wss_server *server, size_t size) {
    __atomic_sub_fetch(&server->undelivered, size, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&server->held, __ATOMIC_SEQ_CST) || wss__pause_is_flooded(server)) return;
    __atomic_store_n(&server->held, 0, __ATOMIC_SEQ_CST);
    for (int i = 0; i < server->loop_count; i++) {
        int held = WSS__CONN_HELD;
        wss__loop *loop = &server->loops[i];
        if (!__atomic_compare_exchange_n(&loop->held, &held, WSS__CONN_COMING, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            continue;
        loop->less.kind = WSS__ORDER_LESS;
        wss__queue_push(&loop->inbox, &loop->less);
    }
}

/* What was received from a peer that has reset it and was not looked at yet counts, too: such connections cost nobody
   anything, so without end there could be many. */
static void wss__pause_count_unread(wss_server *server, wss__conn *conn, size_t size) {
    wss__conn_delivery *delivery = wss__conn_delivery_of(conn);
    if (!delivery || size == delivery->unread) return;
    __atomic_add_fetch(&server->undelivered, size, __ATOMIC_SEQ_CST);
    wss__pause_note_less(server, delivery->unread);
    delivery->unread = size;
}

/* Whether what its peer has sent may be dropped: that has reset it, and there is too much of all. */
static int wss__pause_may_drop(const wss_server *server, const wss__conn *conn) {
    const wss__conn_delivery *delivery = wss__conn_delivery_of(conn);
    return delivery && __atomic_load_n(&delivery->reset, __ATOMIC_ACQUIRE) && wss__pause_is_flooded(server);
}

/* What the pause rules weigh: bytes queued, and with a queue those of events not yet handled. What is above half by
   another account weighs as much as nothing may. */
__attribute__((__always_inline__)) static inline size_t wss__pause_load(const wss_server *server,
                                                                       const wss__conn *conn) {
    const wss__conn_delivery *delivery = wss__conn_delivery_of(conn);
    size_t load = wss__session_queued(&conn->session);
    if (!delivery) return load;
    size_t undelivered = __atomic_load_n(&delivery->undelivered, __ATOMIC_SEQ_CST);
    int many = __atomic_load_n(&delivery->messages, __ATOMIC_SEQ_CST) >= WSS__CONN_UNDELIVERED;
    int open = conn->session.phase == WSS__SESSION_OPEN; /* whoever comes may say what it wants */
    int held = undelivered ? wss__pause_is_flooded(server) : open && wss__pause_is_drowned(server);
    return many || held ? SIZE_MAX : wss__base_add(load, undelivered);
}

static wss__conn_delivery *wss__pause_delivery_at(const wss__loop *loop, uint32_t index) {
    return wss__conn_delivery_of(wss__conn_at(loop->server, index));
}

/* At the end of its loop's list of those that are held back. */
static void wss__pause_hold(wss__loop *loop, wss__conn *conn) {
    wss__conn_delivery *delivery = wss__conn_delivery_of(conn);
    wss__conn_list *list = &loop->held_back;
    if (delivery->held) return;
    delivery->held = 1;
    delivery->before = list->last;
    delivery->after = WSS__SLOT_NONE;
    uint32_t *before = list->last == WSS__SLOT_NONE ? &list->first : &wss__pause_delivery_at(loop, list->last)->after;
    *before = conn->slot.index;
    list->last = conn->slot.index;
}

static void wss__pause_unhold(wss__loop *loop, wss__conn *conn) {
    wss__conn_delivery *delivery = wss__conn_delivery_of(conn);
    wss__conn_list *list = &loop->held_back;
    if (!delivery || !delivery->held) return;
    uint32_t before = delivery->before;
    uint32_t after = delivery->after;
    delivery->held = 0;
    *(before == WSS__SLOT_NONE ? &list->first : &wss__pause_delivery_at(loop, before)->after) = after;
    *(after == WSS__SLOT_NONE ? &list->last : &wss__pause_delivery_at(loop, after)->before) = before;
}

/* A loop that holds some back is to be told when less is undelivered. Who calls this looks at the sum afterwards. */
static void wss__pause_await_less(wss__loop *loop, int before) {
    if (__atomic_compare_exchange_n(&loop->held, &before, WSS__CONN_HELD, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        __atomic_store_n(&loop->server->held, 1, __ATOMIC_SEQ_CST);
}

/* Asks the thread that drains the queue to say when it has caught up: with this connection; or, where it has nothing
   under way that could be told, with all of them. load: what it was held back for. */
static void wss__pause_ask_for_less(wss_server *server, wss__conn *conn, size_t load) {
    wss__conn_delivery *delivery = wss__conn_delivery_of(conn);
    wss__loop *loop = wss__conn_loop_of(server, conn);
    __atomic_store_n(&delivery->waiting, 1, __ATOMIC_SEQ_CST);
    if (load < SIZE_MAX || __atomic_load_n(&delivery->undelivered, __ATOMIC_SEQ_CST)) return;
    wss__pause_hold(loop, conn);
    wss__pause_await_less(loop, 0);
}

/* Moment until which a connection is not read from, since it has sent a second's messages at once; 0: it is. */
static uint64_t wss__pause_rate_end(const wss_server *server, const wss__conn *conn) {
    const uint64_t second = 1000000000;
    uint64_t now = wss__conn_loop_of(server, conn)->time * 1000000;
    const wss__conn_cold *cold = wss__conn_cold_of(conn);
    uint64_t next = (cold ? cold->rated : 0) + second / (unsigned)server->options.max_message_rate;
    return next > now + second ? (next - second + 999999) / 1000000 : 0;
}

/* Counts a message of a connection. True: it is the last for a while. */
static int wss__pause_rate(const wss_server *server, wss__conn *conn) {
    uint64_t now = wss__conn_loop_of(server, conn)->time * 1000000;
    wss__conn_cold *cold = wss__conn_cold_of(conn);
    uint64_t from = cold->rated > now ? cold->rated : now;
    cold->rated = from + 1000000000 / (unsigned)server->options.max_message_rate;
    return wss__pause_rate_end(server, conn) > 0;
}

/* Reading stops while the replies to what was read fill the queue. Decided again after each message. With a
   queue the thread that drains it is asked to say when it has caught up; asking comes before looking again, so
   that its answer cannot fall in between. */
__attribute__((__always_inline__)) static inline int wss__pause_update(wss_server *server, wss__conn *conn) {
    size_t half = wss__pause_half(server);
    size_t load = wss__pause_load(server, conn);
    if (conn->work & WSS__WORK_FULL && load <= half / 2) wss__conn_clear_work(conn, WSS__WORK_FULL);
    if (load > half) conn->work |= WSS__WORK_FULL;
    if (conn->work & WSS__WORK_FULL && wss__conn_delivery_of(conn)) {
        wss__pause_ask_for_less(server, conn, load);
        if (wss__pause_load(server, conn) <= half / 2) /* always: true in a race only */
            wss__conn_clear_work(conn, WSS__WORK_FULL); /* never: in a race only */
    }
    if (conn->session.phase == WSS__SESSION_CLOSING) return 0; /* its Close is awaited, messages are not looked at */
    if (conn->work & (WSS__WORK_FULL | WSS__WORK_PAUSED)) return 1;
    return server->options.max_message_rate != WSS_OFF && wss__pause_rate_end(server, conn) > 0;
}

/* ---- [deadline] --------------------------------------------------------------------------------------------
   purpose  when something is due for a connection although nothing comes, and what
   knows    base, timer, buf, session, input, conn, pause
   owns     one function says when a deadline is, and which; each begins at the event that it is about, in its loop's
            time; what is due is judged where a turn ends, when the kernel was asked for what it has; every connection
            is looked at each few days, so that moments of which it keeps 32 bits are never mistaken for others
   threads  the loop's own */

enum { /* what a deadline is about */
    WSS__DEADLINE_NONE = 0,
    WSS__DEADLINE_RETRY,     /* what lacked memory is tried again, who sent too much read again */
    WSS__DEADLINE_HANDSHAKE,
    WSS__DEADLINE_PING,      /* it has been silent */
    WSS__DEADLINE_PONG,      /* and has given no sign of life since */
    WSS__DEADLINE_MESSAGE,
    WSS__DEADLINE_IDLE,
    WSS__DEADLINE_STALL,     /* no byte was taken */
    WSS__DEADLINE_RATE,      /* a minute has passed: were they enough? */
    WSS__DEADLINE_CLOSE,     /* all was said, and no answer came */
    WSS__DEADLINE_LIFETIME
};

enum {
    WSS__DEADLINE_MINUTE = 60000,
    WSS__DEADLINE_LOOK = 1 << 29 /* milliseconds until a connection is looked at, if nothing is due before */
};

/* As long ago is any moment that is longer ago: more than a time of the options' can be. */
#define WSS__DEADLINE_LONG 0x80000000u

typedef struct wss__deadline {
    uint64_t at; /* as loop->now; UINT64_MAX: never */
    int what;
} wss__deadline;

static uint64_t wss__deadline_earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* How long before a time a moment was of which 32 bits were kept. What lies ahead, as another thread may see it, is
   now. */
static uint32_t wss__deadline_ago(uint64_t time, uint32_t moment) {
    uint32_t ago = (uint32_t)time - moment;
    if (ago > UINT32_MAX - WSS__DEADLINE_LOOK) return 0;
    return ago < WSS__DEADLINE_LONG ? ago : WSS__DEADLINE_LONG;
}

static uint64_t wss__deadline_moment(const wss__loop *loop, uint32_t moment) {
    return loop->time - wss__deadline_ago(loop->time, moment);
}

static void wss__deadline_offer(wss__deadline *first, int what, uint64_t began, int milliseconds) {
    if (milliseconds == WSS_OFF || began + (uint64_t)milliseconds >= first->at) return;
    first->at = began + (uint64_t)milliseconds;
    first->what = what;
}

/* Of a peer that is open and read from: what it must send, or answer. */
static void wss__deadline_offer_open(const wss__loop *loop, const wss__conn *conn, wss__deadline *first) {
    const wss_options *options = &loop->server->options;
    const wss__session_input *input = conn->session.input;
    uint64_t since = wss__deadline_moment(loop, conn->since);
    uint64_t seen = wss__deadline_moment(loop, conn->session.seen);
    if (conn->work & WSS__WORK_AWAITED) wss__deadline_offer(first, WSS__DEADLINE_PONG, since, options->pong_ms);
    else wss__deadline_offer(first, WSS__DEADLINE_PING, seen, options->ping_ms);
    if (wss__input_is_partial(&conn->session)) {
        int rate = options->least_rate;
        uint64_t more = rate == WSS_OFF ? 0 : (uint64_t)input->size * 1000 / (unsigned)rate;
        wss__deadline_offer(first, WSS__DEADLINE_MESSAGE, input->since + more, options->message_ms);
    }
    if (options->idle_ms != WSS_OFF)
        wss__deadline_offer(first, WSS__DEADLINE_IDLE, wss__conn_cold_of(conn)->last_message, options->idle_ms);
}

/* When a connection has lived long enough, by the clock: a quarter more or less, so that those who came together do not
   all go, and come again, at one time. */
static void wss__deadline_offer_lifetime(const wss__loop *loop, const wss__conn *conn, wss__deadline *first) {
    uint64_t lifetime = (uint64_t)loop->server->options.lifetime_ms;
    uint64_t random = (conn->slot.index + loop->server->seed) * 0x9e3779b97f4a7c15u >> 32;
    uint64_t end = (uint64_t)conn->opened * WSS__CONN_STEP + lifetime * 3 / 4 + random % (lifetime / 2 + 1);
    wss__deadline_offer(first, WSS__DEADLINE_LIFETIME, end > loop->skipped ? end - loop->skipped : 0, 0);
}

/* The next deadline of a connection. Those about its reading run whenever something waits for it that was offered,
   those about its sending only while it is read from. */
static wss__deadline wss__deadline_of(const wss__loop *loop, const wss__conn *conn) {
    const wss_options *options = &loop->server->options;
    const wss__buf_queue *queue = conn->session.queue;
    int phase = conn->session.phase;
    uint64_t since = wss__deadline_moment(loop, conn->since);
    wss__deadline first = {UINT64_MAX, WSS__DEADLINE_NONE};
    if (conn->work & WSS__WORK_STARVED || wss__pause_is_drained(loop->server, conn))
        wss__deadline_offer(&first, WSS__DEADLINE_RETRY, loop->time, WSS__CONN_RETRY);
    if (options->max_message_rate != WSS_OFF) {
        uint64_t end = wss__pause_rate_end(loop->server, conn);
        if (end) wss__deadline_offer(&first, WSS__DEADLINE_RETRY, end, 0);
    }
    if (queue && queue->since) {
        int minute = options->least_rate == WSS_OFF ? WSS_OFF : WSS__DEADLINE_MINUTE;
        wss__deadline_offer(&first, WSS__DEADLINE_STALL, queue->since, options->stall_ms);
        wss__deadline_offer(&first, WSS__DEADLINE_RATE, queue->window, minute);
    }
    if (phase < WSS__SESSION_OPEN) {
        wss__deadline_offer(&first, WSS__DEADLINE_HANDSHAKE, since, options->handshake_ms);
    } else if (phase == WSS__SESSION_OPEN) {
        if (!(conn->work & WSS__WORK_UNREAD)) wss__deadline_offer_open(loop, conn, &first);
        if (options->lifetime_ms != WSS_OFF) wss__deadline_offer_lifetime(loop, conn, &first);
    } else if (conn->work & WSS__WORK_AWAITED) {
        int lingers = options->close_ms == WSS_OFF && wss__conn_state(conn) == WSS__STATE_LINGERING;
        wss__deadline_offer(&first, WSS__DEADLINE_CLOSE, since, lingers ? WSS__CONN_LINGER : options->close_ms);
    }
    if (first.what) first.at += loop->skipped;
    return first;
}

/* When the timer rings for it. Nothing is due before: it makes the kernel be asked. */
static uint64_t wss__deadline_rings(uint64_t due) {
    return due == UINT64_MAX ? due : (due + WSS__CONN_STEP - 1) / WSS__CONN_STEP * WSS__CONN_STEP;
}

/* A timer that rings too early is cheap, moving it at every byte is not: it is only ever moved forward. */
static void wss__deadline_schedule(wss__loop *loop, wss__conn *conn, uint64_t due) {
    due = wss__deadline_rings(wss__deadline_earlier(due, loop->now + WSS__DEADLINE_LOOK));
    if (wss__timer_pending(&conn->timer) && (int32_t)(conn->timer.due - (uint32_t)due) <= 0) return;
    wss__timer_set(&loop->wheel, conn->slot.index, due);
}

/* The peer has given a sign of life. */
static void wss__deadline_set_seen(wss__conn *conn, uint64_t moment) {
    __atomic_store_n(&conn->session.seen, (uint32_t)moment, __ATOMIC_RELAXED);
}

static void wss__deadline_touch(wss__loop *loop, wss__conn *conn) {
    wss__deadline_set_seen(conn, loop->time);
}

static void wss__deadline_begin(wss__loop *loop, wss__conn *conn, int what) {
    conn->work = (uint16_t)(conn->work | what);
    conn->since = (uint32_t)loop->time;
}

/* What was awaited has come. The next deadline may be nearer than that was. */
static void wss__deadline_answered(wss__loop *loop, wss__conn *conn) {
    wss__conn_clear_work(conn, WSS__WORK_AWAITED);
    wss__timer_remove(&loop->wheel, conn->slot.index);
}

/* For the idle timeout: a message has come or is sent, or it has opened. */
static void wss__deadline_note_message(const wss__loop *loop, wss__conn *conn) {
    wss__conn_cold *cold = wss__conn_cold_of(conn);
    if (cold) cold->last_message = loop->time;
}

/* Puts off what was to be heard of a peer, by the time for which it was not read from: that has not passed for it. */
static void wss__deadline_put_off(wss__loop *loop, wss__conn *conn) {
    uint32_t gone = wss__deadline_ago(loop->time, conn->since);
    wss__session_input *input = conn->session.input;
    uint64_t seen = wss__deadline_moment(loop, conn->session.seen) + gone;
    wss__deadline_set_seen(conn, wss__deadline_earlier(seen, loop->time));
    conn->since = (uint32_t)loop->time;
    if (input) input->since = wss__deadline_earlier(input->since + gone, loop->time);
    wss__conn_cold *cold = wss__conn_cold_of(conn);
    if (cold) cold->last_message = wss__deadline_earlier(cold->last_message + gone, loop->time);
}

/* Whether a connection is read from, while it is open: what it sends meanwhile waits, so the time does not run, and
   goes on afterwards. There is one moment for two: that of a ping which is not answered stands meanwhile where that
   of the last byte does, which came ping_ms before. */
static void wss__deadline_note_reading(wss__loop *loop, wss__conn *conn, int reads) {
    if (!reads == !!(conn->work & WSS__WORK_UNREAD)) return;
    int awaited = conn->work & WSS__WORK_AWAITED;
    if (reads) WSS__COUNT_DOWN(loop->shared.stats.paused);
    else WSS__COUNT(loop->shared.stats.paused, 1);
    wss__timer_remove(&loop->wheel, conn->slot.index); /* the next deadline may be nearer than it rings */
    if (!reads) {
        if (awaited) wss__deadline_set_seen(conn, conn->since);
        wss__deadline_begin(loop, conn, WSS__WORK_UNREAD);
        return;
    }
    wss__deadline_put_off(loop, conn);
    wss__conn_clear_work(conn, WSS__WORK_UNREAD);
    if (!awaited) return;
    conn->since = conn->session.seen;
    wss__deadline_set_seen(conn, conn->since - (uint32_t)loop->server->options.ping_ms);
}

/* Its timer has rung: moments that are long past are kept from seeming to lie ahead some day. */
static void wss__deadline_renew(wss__loop *loop, wss__conn *conn) {
    if (conn->work & WSS__WORK_UNREAD) wss__deadline_put_off(loop, conn);
    conn->since = (uint32_t)wss__deadline_moment(loop, conn->since);
    wss__deadline_set_seen(conn, wss__deadline_moment(loop, conn->session.seen));
}

/* Bytes of the queue have left. */
static void wss__deadline_note_sent(wss__loop *loop, wss__conn *conn, size_t size) {
    wss__buf_queue *queue = conn->session.queue;
    if (!queue) return;
    queue->since = loop->time;
    if (!queue->window) queue->window = loop->time;
    queue->taken += (uint32_t)wss__base_min(size, UINT32_MAX / 2 - queue->taken / 2);
}

/* A minute has passed in which something waited. Whether the peer took enough of it; then another one begins. */
static int wss__deadline_takes_enough(wss__loop *loop, wss__conn *conn) {
    wss__buf_queue *queue = conn->session.queue;
    int enough = queue->taken / (WSS__DEADLINE_MINUTE / 1000) >= (uint32_t)loop->server->options.least_rate;
    queue->window = loop->time;
    queue->taken = 0;
    return enough;
}

/* ---- [notify] ----------------------------------------------------------------------------------------------
   purpose  what befalls a connection, told to the application: here on the loop, or handed to the queue
   knows    base, mem, log, address, http, json, timer, slot, frame, session, input, queue, socket, event, conn, pause,
            deadline
   owns     connect before all else, disconnect once, nothing after it; the ends of connections all pass here
   threads  the loop's own, except where a function says otherwise */

static void wss__notify_init(wss_server *server, wss__conn *conn, int kind, wss_event *event) {
    memset(event, 0, sizeof *event);
    event->server = server;
    event->conn = wss__conn_handle(conn);
    event->kind = kind;
    event->user = __atomic_load_n(&conn->user, __ATOMIC_ACQUIRE);
}

/* ---- one way to tell ---- */

/* Who wonders why a handler is not called finds out here. */
static void wss__notify_log_ignored(wss_server *server, int why, const wss__json_rest *rest, const char *data) {
    static const char *const texts[] = {"", "it is no object of JSON in UTF-8", "", "it has no string in its member",
                                        "nobody handles its type"};
    char name[WSS__LOG_PEER * 4 + 4];
    uint64_t now = wss__socket_clock();
    wss__span text = why == WSS__EVENT_NO_HANDLER ? wss__base_span(rest->type, rest->type_size)
                                                  : wss__base_text(server->options.type_member);
    wss__log_escape(why == WSS__EVENT_NO_OBJECT ? wss__base_text(NULL) : text, name);
    if (why == WSS__EVENT_NO_JSON)
        wss__log_line(&server->log, WSS_LOG_DEBUG, now, "a message was ignored: no JSON from byte %zu on, or too deep",
                      (size_t)(rest->good - data));
    else
        wss__log_line(&server->log, WSS_LOG_DEBUG, now, "a message was ignored: %s%s%s", texts[why], *name ? " " : "",
                      name);
}

/* A message where types are registered: raw, then typed. Apart, so that a message without pays nothing for
   what this needs. */
__attribute__((__noinline__)) static void wss__notify_run_typed(wss__conn *conn, wss_event *event) {
    wss_server *server = event->server;
    wss__json_rest rest;
    char *data = (char *)(uintptr_t)event->data;
    wss__loop *loop = wss__conn_own_loop(server);
    if (loop) wss__session_leave_reply(&loop->shared); /* the cutter works in place, where replies may still lie */
    size_t seen = wss__event_begin(&server->handlers);
    wss__event_emit(&server->handlers.lists[WSS_EVENT_DATA], event, &conn->user, &conn->slot.word, seen);
    if (wss__conn_stage(conn) == WSS__STAGE_SILENT) return;
    if (loop) loop->shared.in_place.message.data = NULL; /* the cutter changes it */
    int why = wss__event_emit_message(&server->handlers, &server->options, event, &conn->user, &conn->slot.word, data,
                                      seen, &rest);
    if (why && wss__log_wants(&server->log, WSS_LOG_DEBUG)) wss__notify_log_ignored(server, why, &rest, data);
}

/* A type that a raw handler registers counts from the next message on. */
static inline void wss__notify_run_message(wss__conn *conn, wss_event *event) {
    wss__event_table *handlers = &event->server->handlers;
    wss__event_list *raw = &handlers->lists[WSS_EVENT_DATA];
    if (wss__event_type_count(handlers)) wss__notify_run_typed(conn, event);
    else wss__event_emit(raw, event, &conn->user, &conn->slot.word, wss__event_begin(handlers));
}

__attribute__((__noinline__)) static void wss__notify_run_other(wss__conn *conn, wss_event *event) {
    wss_server *server = event->server;
    wss__event_list *list = &server->handlers.lists[event->kind];
    if (event->request) {
        if (wss__conn_is_asking(server, event->conn)) wss__event_emit_last(list, event);
        wss__conn_release_request(server, wss__conn_request_of(event->request));
        return;
    }
    if (event->kind == WSS_EVENT_DRAIN && wss__conn_stage(conn) != WSS__STAGE_OPEN) return;
    int paired = event->kind == WSS_EVENT_CONNECT || event->kind == WSS_EVENT_DISCONNECT; /* whoever closes */
    wss__event_emit(list, event, &conn->user, paired ? NULL : &conn->slot.word, wss__event_begin(&server->handlers));
    if (event->kind != WSS_EVENT_DISCONNECT) return;
    wss__conn_set_stage(server, conn, WSS__STAGE_TOLD);
    /* here, so that it is never used on two threads */
    wss__conn_free_user(server, __atomic_exchange_n(&conn->user, NULL, __ATOMIC_ACQ_REL));
}

/* Calls the handlers of an event, of whatever kind: on the loop, or with a queue on the thread that drains
   it. Messages are asked for first, they are by far the most. */
static inline void wss__notify_run(wss__conn *conn, wss_event *event) {
    if (event->kind == WSS_EVENT_DATA) wss__notify_run_message(conn, event);
    else wss__notify_run_other(conn, event);
}

/* To the queue's thread, which gives the place's hold back. Outside the queue's limits: what may be under way
   is bounded where it comes from. */
static void wss__notify_hand_over(wss_server *server, wss__conn *conn, wss__conn_notice *notice,
                                  const wss_event *event) {
    wss__queue_list *group = event->request ? &wss__conn_request_of(event->request)->group : NULL;
    wss__conn_delivery *delivery = conn && !event->request ? wss__conn_delivery_of(conn) : NULL;
    notice->kind = (uint8_t)event->kind;
    notice->opcode = (uint8_t)event->opcode;
    notice->code = (uint16_t)event->code;
    notice->cause = (uint8_t)event->cause;
    notice->reason_size = (uint8_t)event->reason_length;
    notice->conn = delivery ? conn : NULL;
    if (delivery) __atomic_add_fetch(&delivery->holders, 1, __ATOMIC_RELAXED);
    if (notice->job.size) group = delivery->reset ? &server->left : &delivery->group;
    notice->job.kind = WSS__ORDER_EVENT;
    notice->job.group = group;
    notice->job.arg = server;
    wss__queue_push(&server->options.queue->inbox, &notice->job);
}

/* A job for an event that has none, with a copy of its data; it counts as undelivered. NULL: no memory. */
static wss__conn_notice *wss__notify_new_notice(wss__conn *conn, const wss_event *event) {
    size_t size = wss__base_add(sizeof(wss__conn_notice) + 1, event->size);
    wss__conn_notice *notice = (wss__conn_notice *)wss__mem_get(&event->server->mem, size);
    if (!notice) return NULL;
    char *copy = (char *)(notice + 1);
    memset(notice, 0, sizeof *notice);
    notice->job.size = size;
    if (event->size) memcpy(copy, event->data, event->size);
    copy[event->size] = 0;
    wss__conn_delivery *delivery = wss__conn_delivery_of(conn);
    __atomic_add_fetch(&delivery->undelivered, size, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&delivery->messages, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&event->server->undelivered, size, __ATOMIC_SEQ_CST);
    return notice;
}

/* Settles the account of an event that was told, or will not be, and frees it; or, where its connection waits for that,
   sends it to its loop. Any thread. */
static void wss__notify_settle(wss_server *server, wss__conn *conn, wss__conn_notice *notice) {
    size_t size = notice->job.size;
    wss__conn_delivery *delivery = wss__conn_delivery_of(conn);
    wss__queue_inbox *inbox = &wss__conn_loop_of(server, conn)->inbox;
    size_t left = __atomic_sub_fetch(&delivery->undelivered, size, __ATOMIC_SEQ_CST);
    int messages = __atomic_sub_fetch(&delivery->messages, 1, __ATOMIC_SEQ_CST);
    wss__pause_note_less(server, size);
    int few = left <= wss__pause_half(server) / 2 && messages <= WSS__CONN_UNDELIVERED / 2;
    int go_on = !left || (few && !wss__pause_is_flooded(server));
    int report = go_on && __atomic_exchange_n(&delivery->waiting, 0, __ATOMIC_SEQ_CST);
    memset(&notice->job, 0, sizeof notice->job);
    notice->handle = wss__conn_handle(conn);
    notice->job.size = size;
    notice->job.kind = WSS__ORDER_TOLD;
    if (!report || wss__queue_push(inbox, &notice->job) != WSS_OK) wss__mem_free(&server->mem, notice, size);
}

/* As long as there is too much of all, what clients left behind that have reset is dropped, the oldest first; but for
   what the queue's thread has taken: it looks itself. */
static void wss__notify_drop_left(wss_server *server) {
    wss__queue_job *job;
    while (wss__pause_is_flooded(server) &&
           (job = wss__queue_recall(&server->options.queue->inbox, &server->left)) != NULL) {
        wss__conn_notice *notice = (wss__conn_notice *)(void *)job;
        wss__conn *conn = notice->conn;
        if (notice->kind == WSS_EVENT_DATA) __atomic_add_fetch(&server->undelivered_dropped, 1, __ATOMIC_RELAXED);
        wss__notify_settle(server, conn, notice);
        wss__conn_release(server, conn);
    }
}

/* Tells the application: at once, or with a queue by a job for its thread. job: what the event brings for
   that; NULL: one is made. False where there is no memory for it: then nobody was told. */
__attribute__((__always_inline__)) static inline int wss__notify_tell(wss__conn *conn, wss_event *event,
                                                                  wss__conn_notice *notice) {
    if (!wss__conn_delivery_of(conn)) {
        wss__notify_run(conn, event);
        return 1;
    }
    if (!notice) notice = wss__notify_new_notice(conn, event);
    if (notice) wss__notify_hand_over(event->server, conn, notice, event);
    if (notice) wss__notify_drop_left(event->server);
    return notice != NULL;
}

static void wss__notify_connect(wss__loop *loop, wss__conn *conn) {
    wss_server *server = loop->server;
    wss__conn_delivery *delivery = wss__conn_delivery_of(conn);
    wss_event event;
    wss__conn_set_state(loop, conn, WSS__STATE_OPEN);
    wss__conn_lock(server);
    wss__conn_raise(conn, WSS__STAGE_OPEN);
    __atomic_add_fetch(&server->open, 1, __ATOMIC_ACQ_REL);
    wss__conn_unlock(server);
    WSS__COUNT(loop->shared.stats.opened, 1);
    wss__notify_init(server, conn, WSS_EVENT_CONNECT, &event);
    wss__notify_tell(conn, &event, delivery ? &delivery->connect : NULL);
}

/* connected: its connect handlers were called. */
static void wss__notify_disconnect(wss__loop *loop, wss__conn *conn, const wss__session_event *end, int connected) {
    wss_server *server = loop->server;
    char reason[WSS__FRAME_CONTROL_MAX];
    wss_event event;
    wss__conn_lock(server);
    if (connected) __atomic_sub_fetch(&server->open, 1, __ATOMIC_ACQ_REL);
    if (wss__conn_stage(conn) != WSS__STAGE_ANSWERED) /* which is told to who answers again */
        wss__conn_raise(conn, WSS__STAGE_CLOSING);
    wss__conn_unlock(server);
    if (!connected) return;
    const wss__conn_cold *cold = wss__conn_cold_of(conn);
    int ours = end->cause == WSS_CAUSE_LOCAL_CLOSE && cold && cold->reason;
    wss__span text = ours ? wss__base_span(cold->reason, cold->reason_size)
                          : wss__base_span(end->data, end->size);
    wss__conn_delivery *delivery = wss__conn_delivery_of(conn);
    char *copy = delivery ? delivery->reason : reason;
    if (text.size) memcpy(copy, text.data, wss__base_min(text.size, sizeof reason - 1));
    copy[wss__base_min(text.size, sizeof reason - 1)] = 0;
    wss__notify_init(server, conn, WSS_EVENT_DISCONNECT, &event);
    event.code = end->code;
    event.cause = end->cause;
    event.reason = copy;
    event.reason_length = text.size;
    wss__notify_tell(conn, &event, delivery ? &delivery->disconnect : NULL);
}

/* The socket is done with, or of no use; the connection is freed when its turn comes. */
static void wss__notify_mark_dead(wss__loop *loop, wss__conn *conn, int reset) {
    if (wss__conn_state(conn) == WSS__STATE_DEAD) return;
    if (reset) wss__socket_set_reset(conn->fd);
    wss__conn_set_state(loop, conn, WSS__STATE_DEAD);
    wss__conn_make_ready(loop, conn);
}

/* Who was refused, where, by which rule, and which option there is for it. */
static void wss__notify_log_refusal(wss__loop *loop, const wss__conn *conn, const wss__session_event *end) {
    char origin[WSS__LOG_PEER * 4 + 4];
    char host[WSS__LOG_PEER * 4 + 4];
    char path[WSS__LOG_PEER * 4 + 4];
    char address[WSS__ADDRESS_TEXT];
    const wss__http_rule *rule = wss__http_rule_of(end->rule);
    const wss_request *request = &end->request;
    wss__conn_peer peer = wss__conn_peer_of(conn);
    if (request->client.kind) peer.address = request->client;
    int by_name = rule->status == 403 || rule->status == 421;
    int level = by_name ? WSS_LOG_WARNING : WSS_LOG_INFO;
    if (!wss__log_wants(&loop->server->log, level)) return;
    wss__log_escape(wss__base_text(by_name ? wss_request_header(request, "Origin") : NULL), origin);
    wss__log_escape(by_name ? wss__http_span(request, request->host) : wss__base_text(NULL), host);
    wss__span target = request->target.size ? wss__http_span(request, request->target) : wss__base_text(NULL);
    wss__log_escape(wss__base_take(&target, '?'), path); /* a query may hold what nobody is to read */
    wss__address_text(&peer.address, address);
    wss__log_line(&loop->server->log, level, loop->now, "request refused: %d, from %s%s%.80s: %.*s%s%.60s%s%.60s%s%s",
                  rule->status, address, *path ? ", " : "", path, (int)strlen(rule->text) - 1, rule->text,
                  by_name ? " Origin " : "", origin, by_name ? ", Host " : "", host,
                  rule->option ? by_name ? ". See options." : " See options." : "", rule->option ? rule->option : "");
}

/* Who has gone, from where, after how long, and why. */
static void wss__notify_log_gone(wss__loop *loop, const wss__conn *conn, const wss__session_event *end) {
    char reason[WSS__LOG_PEER * 4 + 4];
    char path[WSS__LOG_PEER * 4 + 4];
    char address[WSS__ADDRESS_TEXT];
    wss__conn_peer peer = wss__conn_peer_of(conn);
    const wss__conn_cold *cold = wss__conn_cold_of(conn);
    uint64_t age = loop->now - (uint64_t)conn->opened * WSS__CONN_STEP;
    wss__log_escape(cold && cold->path ? wss__base_span(cold->path, cold->path_size) : wss__base_text("/"), path);
    wss__log_escape(wss__base_span(end->data, end->size), reason);
    wss__log_line(&loop->server->log, WSS_LOG_INFO, loop->now,
                  "connection ended: %s, %.80s, after %llu.%03llu s: %s, code %d, %llu bytes in, %llu out%s%.100s",
                  wss__address_text(&peer.address, address), path, (unsigned long long)(age / 1000),
                  (unsigned long long)(age % 1000), wss_cause_text(end->cause), end->code,
                  (unsigned long long)conn->bytes_in, (unsigned long long)conn->bytes_out, *reason ? ", reason " : "",
                  reason);
}

static void wss__notify_log_end(wss__loop *loop, const wss__conn *conn, const wss__session_event *end, int connected) {
    wss__log *log = &loop->server->log;
    if (!wss__log_wants(log, WSS_LOG_WARNING)) return;
    if (end->cause == WSS_CAUSE_HANDSHAKE) wss__notify_log_refusal(loop, conn, end);
    else if (connected && wss__log_wants(log, WSS_LOG_INFO)) wss__notify_log_gone(loop, conn, end);
    else if (!connected)
        wss__log_line(log, WSS_LOG_DEBUG, loop->now, "a client left without a request: %s", wss_cause_text(end->cause));
}

/* The session has ended: tell, then let what is queued leave. */
static void wss__notify_ended(wss__loop *loop, wss__conn *conn, const wss__session_event *end) {
    int connected = wss__conn_state(conn) == WSS__STATE_OPEN;
    if (!wss__conn_is_serving(conn)) return; /* always: a session ends once */
    wss__conn_set_state(loop, conn, WSS__STATE_FLUSHING);
    if (!end->ours) wss__conn_clear_work(conn, WSS__WORK_AWAITED);
    if (end->final) conn->work |= WSS__WORK_ENDED_INPUT;
    WSS__COUNT(loop->shared.stats.closes[end->cause], 1);
    wss__notify_log_end(loop, conn, end, connected);
    wss__notify_disconnect(loop, conn, end, connected);
    wss__conn_forget_request(loop->server, conn);
    wss__conn_make_ready(loop, conn);
}

enum { /* what the peer of a connection that ends is told, and what becomes of the socket */
    WSS__NOTIFY_SAY = 0, /* the cause, in a Close, if there is a code for it; what is queued leaves */
    WSS__NOTIFY_LEAVE,   /* nothing: it has gone */
    WSS__NOTIFY_RESET    /* nothing, and the kernel resets the connection */
};

/* The peer has reset it: what it sent before may be dropped. */
static void wss__notify_reset(wss_server *server, wss__conn *conn) {
    wss__conn_delivery *delivery = wss__conn_delivery_of(conn);
    if (!delivery || delivery->reset) return;
    __atomic_store_n(&delivery->reset, 1, __ATOMIC_RELEASE);
    wss__queue_regroup(&server->options.queue->inbox, &delivery->group, &server->left);
    wss__notify_drop_left(server);
}

/* Ends a connection for a cause of the loop's. */
static void wss__notify_end(wss__loop *loop, wss__conn *conn, int cause, int how) {
    wss__session_event end;
    if (wss__session_end(&loop->shared, &conn->session, cause, how == WSS__NOTIFY_SAY, &end) == WSS__SESSION_END)
        wss__notify_ended(loop, conn, &end);
    if (how != WSS__NOTIFY_SAY) wss__notify_mark_dead(loop, conn, how == WSS__NOTIFY_RESET);
}

/* Refuses a request by a rule. request: NULL where it is not at hand. */
static void wss__notify_reject(wss__loop *loop, wss__conn *conn, int rule, const wss_request *request) {
    wss__session_event end;
    wss__session_input *head = conn->session.input;
    const wss__conn_cold *cold = wss__conn_cold_of(conn);
    if (!request && cold && cold->request) request = &cold->request->request;
    if (request) end.request = *request;
    else wss__input_forget_request(&end, wss__base_span(head ? head->data : NULL, head ? head->size : 0),
                                   wss__base_text(NULL));
    wss__input_reject(&loop->shared, &conn->session, rule, end.request.method == WSS__HTTP_HEAD, &end);
    wss__notify_ended(loop, conn, &end);
}

/* ---- [write] -----------------------------------------------------------------------------------------------
   purpose  bytes out: the cork, the queue, and what is sent from the caller's memory
   knows    base, mem, frame, buf, slot, session, input, socket, event, message, conn, pause, deadline
   owns     what was begun is finished or the connection dies; nothing here calls a handler
   threads  the loop's own, except where a function says otherwise */

enum {
    WSS__WRITE_CORK = 512 * 1024,
    WSS__WRITE_TURN = 256 * 1024, /* bytes written to one connection in a turn, at most one frame more */
    WSS__WRITE_DIRECT = 16384,     /* payload that is sent from the caller's memory */
    WSS__WRITE_GATHER = 4096,      /* frame that is cheaper to copy than to name to the kernel */
    WSS__WRITE_PARTS = 64,
    WSS__WRITE_HANDED_OUT = 8192   /* broadcasts of a turn that are queued for one connection at a time */
};

/* Bytes at the start of the cork's memory that are in use, by this connection or another one whose turn it is.
   What lies behind them may be used for a moment. */
static size_t wss__write_used(const wss__loop *loop) {
    return loop->shared.in_place.replies ? 0 : loop->shared.cork_size;
}

/* Names to the kernel what is to be sent: what was corked, then frames. Small frames are copied behind the
   cork, so that they leave as one part. *all: this is all that waits. */
static size_t wss__write_gather(wss__loop *loop, wss__conn *conn, size_t corked, struct iovec *parts, size_t *total,
                                int *all) {
    char *scratch = loop->shared.cork;
    size_t used = wss__write_used(loop);
    size_t count = corked ? 1 : 0;
    int open = count != 0 && !loop->shared.in_place.replies;
    uint32_t i;
    parts[0].iov_base = loop->shared.in_place.replies ? loop->shared.in_place.replies : scratch;
    parts[0].iov_len = corked;
    *total = corked;
    for (i = 0; conn->session.queue && i < conn->session.queue->count && *total < WSS__WRITE_TURN; i++) {
        size_t size;
        char *data = (char *)(uintptr_t)wss__buf_peek(conn->session.queue, i, &size);
        int is_small = size <= WSS__WRITE_GATHER && size <= loop->shared.cork_capacity - used;
        int joins = is_small && open; /* goes on where the part before it ends */
        if (!joins && count == WSS__WRITE_PARTS) break;
        if (is_small) data = (char *)memcpy(scratch + used, data, size);
        if (is_small) used += size;
        struct iovec part = {data, 0};
        if (!joins) parts[count++] = part;
        parts[count - 1].iov_len += size;
        open = is_small;
        *total += size;
    }
    *all = !conn->session.queue || i == conn->session.queue->count;
    return count;
}

/* Sends; returns how much has left. A send that takes less than it was given means that the kernel is full: EPOLLOUT
   will come. */
static inline size_t wss__write_send(wss__loop *loop, wss__conn *conn, struct iovec *parts, size_t count,
                                     size_t total, int last) {
    ssize_t sent = wss__socket_send(conn->fd, parts, count, last);
    if (sent < (ssize_t)total) wss__conn_clear_work(conn, WSS__WORK_WRITABLE);
    if (sent < 0) {
        if (errno == ENOBUFS || errno == ENOMEM) conn->work |= WSS__WORK_STARVED;
        else if (errno != EAGAIN) conn->work |= WSS__WORK_BROKEN;
        return 0;
    }
    WSS__COUNT(conn->bytes_out, sent);
    WSS__COUNT(loop->shared.stats.bytes_out, sent);
    return (size_t)sent;
}

/* There was no memory to keep the rest of what had begun to leave: not even a Close may follow it. */
static void wss__write_break(wss__loop *loop, wss__conn *conn) {
    conn->work |= WSS__WORK_BROKEN;
    wss__session_close(&loop->shared, &conn->session, WSS_CLOSE_LOST, wss__base_span(NULL, 0), WSS_CAUSE_MEMORY);
}

/* Sends the cork, if it is this connection's, and the queue, as far as the kernel and fairness allow. What can never
   leave is dropped. */
static void wss__write_flush(wss__loop *loop, wss__conn *conn) {
    wss__session_shared *shared = &loop->shared;
    struct iovec parts[WSS__WRITE_PARTS];
    size_t corked = shared->corked == &conn->session ? shared->cork_size : 0;
    size_t written = 0;
    while ((corked || conn->session.queue) && written < WSS__WRITE_TURN &&
           (conn->work & (WSS__WORK_WRITABLE | WSS__WORK_BROKEN)) == WSS__WORK_WRITABLE) {
        size_t total;
        int all;
        size_t count = wss__write_gather(loop, conn, corked, parts, &total, &all);
        int last = all && wss__conn_state(conn) == WSS__STATE_FLUSHING;
        size_t left = wss__write_send(loop, conn, parts, count, total, last);
        if (!left) break;
        written += left;
        size_t from_cork = wss__base_min(left, corked);
        if (corked && !wss__session_uncork(shared, &conn->session, from_cork)) wss__write_break(loop, conn);
        corked = 0;
        wss__session_sent(shared, &conn->session, left - from_cork);
        wss__deadline_note_sent(loop, conn, left);
    }
    if (corked && !wss__session_uncork(shared, &conn->session, 0)) wss__write_break(loop, conn);
    if (!(conn->work & WSS__WORK_BROKEN)) return;
    wss__session_drop(shared, &conn->session);
    if (conn->session.phase == WSS__SESSION_OPEN) conn->session.receives = 0;
}

/* Sends a large message from the caller's memory; what the kernel does not take is copied. */
static int wss__write_direct(wss__loop *loop, wss__conn *conn, const wss__message *message) {
    char head[WSS__FRAME_HEAD_MAX_OUT];
    wss__span first = wss__base_span(head, wss__frame_encode(head, message->opcode, message->size));
    struct iovec parts[2] = {{head, first.size}, {(char *)(uintptr_t)message->data.data, message->size}};
    size_t done = wss__write_send(loop, conn, parts, 2, first.size + message->size, 0);
    wss__conn_make_ready(loop, conn);
    if (conn->work & WSS__WORK_BROKEN) return WSS_ERR_GONE;
    if (done < first.size + message->size) {
        wss__buf_frame *frame = wss__session_rest(&loop->server->mem, first, message->data, done);
        if (frame) frame->fixed = done != 0;
        if (!frame || !wss__session_append(&loop->shared, &conn->session, frame, 0)) {
            if (done) wss__write_break(loop, conn);
            return WSS_ERR_MEMORY;
        }
        wss__pause_mark_pressure(loop, conn);
    }
    wss__session_count_messages(&loop->shared, 1);
    if (conn->work & WSS__WORK_BROKEN) WSS__COUNT(loop->shared.stats.dropped_gone, 1);
    return WSS_OK;
}

/* Begins the closing handshake; where there is no memory for the Close the connection is lost. */
static void wss__write_begin_close(wss__loop *loop, wss__conn *conn, int code, wss__span reason, int cause) {
    if (!wss__session_close(&loop->shared, &conn->session, code, reason, cause)) conn->work |= WSS__WORK_BROKEN;
    wss__conn_clear_work(conn, WSS__WORK_AWAITED);
    wss__conn_make_ready(loop, conn);
}

/* Closes for the peer's slowness, or for want of memory: the frame that has begun is finished, the rest dropped. */
static void wss__write_give_up(wss__loop *loop, wss__conn *conn, int cause) {
    if (conn->session.phase != WSS__SESSION_OPEN) return; /* its Close must not be dropped */
    wss__conn_set_stage(loop->server, conn, WSS__STAGE_CLOSING);
    wss__session_drop_unsent(&loop->shared, &conn->session);
    wss__write_begin_close(loop, conn, wss__base_code_of(cause), wss__base_text(wss_cause_text(cause)), cause);
}

/* Queues a frame. judge: a queue at its limit is offered to the kernel before anything is refused, or a slow reader
   closed: only what the peer does not take counts. */
static int wss__write_push(wss__loop *loop, wss__conn *conn, wss__buf_frame *frame, int judge) {
    if (judge && conn->session.queue && !wss__session_has_room(&loop->shared, &conn->session, 0))
        wss__write_flush(loop, conn);
    int result = wss__session_push(&loop->shared, &conn->session, frame, judge);
    wss__pause_mark_pressure(loop, conn);
    if (result == WSS_ERR_FULL && loop->server->options.send_policy == WSS_POLICY_CLOSE)
        wss__write_give_up(loop, conn, WSS_CAUSE_SLOW_READER);
    wss__conn_make_ready(loop, conn);
    return result;
}

/* Queues a frame whose sender was told that it is accepted: where memory is short the connection ends, for a gap in
   what it receives would go unnoticed. With the policy to close, its queue is judged here, and by nobody before. */
static void wss__write_accepted(wss__loop *loop, wss__conn *conn, wss__buf_frame *frame) {
    int result = wss__write_push(loop, conn, frame, loop->server->options.send_policy == WSS_POLICY_CLOSE);
    if (result == WSS_ERR_MEMORY) wss__write_give_up(loop, conn, WSS_CAUSE_MEMORY);
    if (result) WSS__COUNT(loop->shared.stats.dropped_gone, 1);
}

/* Queues a broadcast for one connection. Takes over the caller's reference. */
static void wss__write_share(wss__loop *loop, wss__conn *conn, wss__buf_frame *frame) {
    uint32_t messages = frame->messages;
    if (wss__write_push(loop, conn, frame, 1)) WSS__COUNT(loop->shared.stats.refused_full, messages);
}

/* Queues the rest of a broadcast that has begun to leave, whatever else is on its way. Takes over the caller's
   reference, which is not the last. */
static void wss__write_begun(wss__loop *loop, wss__conn *conn, wss__buf_frame *frame, size_t begun) {
    if (wss__write_push(loop, conn, frame, 0) != WSS_OK) {
        wss__session_count_messages(&loop->shared, frame->messages);
        WSS__COUNT(loop->shared.stats.dropped_gone, wss__buf_unsent(frame, begun));
        wss__write_break(loop, conn);
        return;
    }
    wss__session_sent(&loop->shared, &conn->session, begun);
    wss__deadline_note_sent(loop, conn, begun);
}

/* Writes what was broadcast, one after the other. */
static void wss__write_copy_broadcasts(const wss__session_broadcasts *broadcasts, char *at) {
    for (uint32_t i = 0; i < broadcasts->count; i++) {
        memcpy(at, wss__buf_frame_data(broadcasts->frames[i]), broadcasts->frames[i]->size);
        at += broadcasts->frames[i]->size;
    }
}

/* What was broadcast, at the end of the cork's memory; NULL: no room. The cork is smaller until all have been sent it:
   queues that are flushed meanwhile must not write over it. */
static char *wss__write_join_broadcasts(wss__loop *loop) {
    wss__session_shared *shared = &loop->shared;
    if (shared->broadcasts.size > shared->cork_capacity - wss__write_used(loop)) return NULL;
    shared->cork_capacity -= shared->broadcasts.size;
    wss__write_copy_broadcasts(&shared->broadcasts, shared->cork + shared->cork_capacity);
    return shared->cork + shared->cork_capacity;
}

/* The same as one frame, for those who cannot be sent it at once: they share that, and none costs a step for each
   broadcast. NULL: no memory, or it is one already. */
static wss__buf_frame *wss__write_frame_broadcasts(wss__loop *loop) {
    const wss__session_broadcasts *broadcasts = &loop->shared.broadcasts;
    if (broadcasts->count == 1) return NULL;
    wss__buf_frame *frame = wss__buf_new_raw(&loop->server->mem, broadcasts->size, wss__base_span(NULL, 0));
    if (!frame) return NULL;
    frame->shared = 1;
    frame->messages = broadcasts->count;
    wss__write_copy_broadcasts(broadcasts, wss__buf_frame_data(frame));
    return frame;
}

/* Sends the last missing bytes of the joined broadcasts if nothing else waits for this connection: how many of them
   have left. */
static size_t wss__write_send_broadcasts(wss__loop *loop, wss__conn *conn, char *joined, size_t missing) {
    if (!joined || conn->session.queue || loop->shared.corked == &conn->session || !(conn->work & WSS__WORK_WRITABLE))
        return 0;
    struct iovec part = {joined + (loop->shared.broadcasts.size - missing), missing};
    return wss__write_send(loop, conn, &part, 1, missing, 0);
}

/* Gives a connection the broadcasts that it has not been given, of which so many bytes have left: queues the rest, as
   much as there is room for. One may close it: the others die with it. Costs a step for each. */
static void wss__write_queue_broadcasts(wss__loop *loop, wss__conn *conn, size_t sent) {
    const wss__session_broadcasts *broadcasts = &loop->shared.broadcasts;
    uint32_t at = wss__session_first_missing(&loop->shared, &conn->session);
    conn->session.given = broadcasts->end;
    for (; at < broadcasts->count && conn->session.phase == WSS__SESSION_OPEN; at++) {
        wss__buf_frame *frame = broadcasts->frames[at];
        size_t begun = wss__base_min(sent, frame->size);
        sent -= begun;
        if (begun == frame->size) {
            wss__session_count_messages(&loop->shared, 1);
            continue;
        }
        wss__buf_retain(frame);
        if (begun) wss__write_begun(loop, conn, frame, begun);
        else wss__write_share(loop, conn, frame);
    }
    WSS__COUNT(loop->shared.stats.dropped_gone, broadcasts->count - at);
}

/* Gives a connection the broadcasts that wait, ahead of what is about to follow. May close it. */
static void wss__write_catch_up(wss__loop *loop, wss__conn *conn) {
    if (!wss__session_is_receiver(&conn->session)) return;
    if (wss__session_missing(&loop->shared, &conn->session)) wss__write_queue_broadcasts(loop, conn, 0);
}

/* Whether a queue takes all of a frame's messages, or none of them. As in wss__write_push the kernel is asked before
   that is denied. */
static int wss__write_takes_whole(wss__loop *loop, wss__conn *conn, const wss__buf_frame *frame) {
    size_t limit = loop->server->options.max_queued;
    size_t more = wss__buf_charge(frame);
    if (conn->session.queue && wss__base_add(wss__session_queued(&conn->session), more) > limit)
        wss__write_flush(loop, conn);
    return wss__base_add(wss__session_queued(&conn->session), more) <= limit ||
           !wss__session_has_room(&loop->shared, &conn->session, 0);
}

/* Gives a receiver what it has not been given, in one send where nothing else waits. True: all of that is all there
   was, and has left. *frame: the broadcasts as one frame, made where it is needed; NULL: not yet. */
static int wss__write_give(wss__loop *loop, wss__conn *conn, char *joined, wss__buf_frame **frame) {
    size_t size = loop->shared.broadcasts.size;
    size_t missing = wss__session_missing(&loop->shared, &conn->session);
    size_t sent = wss__write_send_broadcasts(loop, conn, joined, missing);
    if (sent == size) {
        conn->session.given = loop->shared.broadcasts.end;
        return 1;
    }
    if (missing == size && !*frame) *frame = wss__write_frame_broadcasts(loop);
    if (missing != size || !*frame || !wss__write_takes_whole(loop, conn, *frame)) {
        wss__write_queue_broadcasts(loop, conn, sent);
        return 0;
    }
    conn->session.given = loop->shared.broadcasts.end;
    wss__buf_retain(*frame);
    if (sent) wss__write_begun(loop, conn, *frame, sent);
    else wss__write_share(loop, conn, *frame);
    return 0;
}

/* Gives every connection of this loop what it has not been given of the broadcasts. */
static void wss__write_give_broadcasts(wss__loop *loop) {
    wss__session_broadcasts *broadcasts = &loop->shared.broadcasts;
    uint32_t whole = 0;
    wss__buf_frame *frame = NULL;
    wss__conn *conn;
    if (!broadcasts->count) return;
    char *joined = wss__write_join_broadcasts(loop);
    for (uint32_t at = loop->lists[WSS__LIST_OPEN].first; (conn = wss__conn_walk(loop, &at)) != NULL;) {
        if (!wss__session_is_receiver(&conn->session) || !wss__session_missing(&loop->shared, &conn->session)) continue;
        if (wss__write_give(loop, conn, joined, &frame)) whole++;
    }
    wss__buf_release(&loop->server->mem, frame);
    wss__session_count_messages(&loop->shared, whole * broadcasts->count);
    for (uint32_t i = 0; i < broadcasts->count; i++) wss__buf_release(&loop->server->mem, broadcasts->frames[i]);
    if (joined) loop->shared.cork_capacity += broadcasts->size;
    __atomic_store_n(&broadcasts->count, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&broadcasts->size, 0, __ATOMIC_RELAXED);
}

/* Broadcasts of a turn are gathered and leave together when it ends. Each connection knows up to which position
   it has been given them; whoever sends it anything else lets it catch up first. Takes over the caller's
   reference. */
static void wss__write_gather_broadcast(wss__loop *loop, wss__buf_frame *frame) {
    wss__session_broadcasts *broadcasts = &loop->shared.broadcasts;
    if (broadcasts->count == WSS__SESSION_BROADCASTS || broadcasts->size + frame->size > WSS__SESSION_BROADCAST_BYTES)
        wss__write_give_broadcasts(loop);
    broadcasts->frames[broadcasts->count] = frame;
    broadcasts->end = (uint16_t)(broadcasts->end + frame->size);
    __atomic_store_n(&broadcasts->count, broadcasts->count + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&broadcasts->size, broadcasts->size + frame->size, __ATOMIC_RELAXED);
    if (broadcasts->count == WSS__SESSION_BROADCASTS ||
        broadcasts->size > WSS__SESSION_BROADCAST_BYTES - WSS__WRITE_DIRECT)
        loop->full = 1;
}

/* Gives every connection of this loop its share. Takes over the caller's reference. */
static void wss__write_broadcast(wss__loop *loop, wss__buf_frame *frame, uint64_t except) {
    wss__conn *conn;
    if (!except && !frame->key_size && frame->size <= WSS__WRITE_DIRECT) {
        wss__write_gather_broadcast(loop, frame);
        return;
    }
    for (uint32_t at = loop->lists[WSS__LIST_OPEN].first; (conn = wss__conn_walk(loop, &at)) != NULL;) {
        if (!wss__session_is_receiver(&conn->session) || wss__conn_handle(conn).id == except) continue;
        wss__write_catch_up(loop, conn);
        if (conn->session.phase != WSS__SESSION_OPEN) { /* what it was given first has closed it */
            WSS__COUNT(loop->shared.stats.dropped_gone, 1);
            continue;
        }
        wss__buf_retain(frame);
        wss__write_share(loop, conn, frame);
        loop->handed_out++;
    }
    if (loop->handed_out >= WSS__WRITE_HANDED_OUT) loop->full = 1;
    wss__buf_release(&loop->server->mem, frame);
}

/* Sends back the message that the handler was given, from where it lies; by far the most frequent send. False
   where it is not that, or anything is in the way: then it goes as all others do. */
static int wss__write_back(wss__loop *loop, wss_conn handle, int opcode, const void *data, size_t size) {
    wss__session_shared *shared = &loop->shared;
    if (!wss__session_is_in_hand(shared, data, size) || !shared->corked ||
        (opcode != shared->in_place.opcode && opcode != WSS_BINARY))
        return 0;
    wss__conn *conn = (wss__conn *)(void *)((char *)shared->corked - offsetof(wss__conn, session));
    if (wss__conn_handle(conn).id != handle.id || wss__conn_stage(conn) != WSS__STAGE_OPEN ||
        conn->work & WSS__WORK_BROKEN)
        return 0;
    if (wss__session_missing(shared, &conn->session)) return 0;
    if (shared->cork_cost >= shared->options->max_queued) return 0;
    if (!wss__session_send_back(shared, &conn->session, opcode)) return 0;
    wss__session_count_messages(shared, 1);
    return 1;
}

/* A send by the connection's own loop. Nothing queued: a large message goes out at once, a small one with the
   cork. The cork counts against the limit like the queue, so it is offered to the kernel before a message is
   refused. */
static int wss__write_message(wss__loop *loop, wss__conn *conn, const wss__message *message) {
    wss__session_shared *shared = &loop->shared;
    size_t whole = message->size + wss__frame_head_size(message->size);
    int corked = shared->corked == &conn->session;
    int direct = message->size >= WSS__WRITE_DIRECT && !message->type.data && conn->work & WSS__WORK_WRITABLE;
    wss__write_catch_up(loop, conn);
    if (conn->session.phase != WSS__SESSION_OPEN || conn->work & WSS__WORK_BROKEN) return WSS_ERR_GONE;
    if (corked && !conn->session.queue && shared->cork_size &&
        (direct || shared->cork_cost >= shared->options->max_queued ||
         whole > wss__session_cork_room(shared)))
        wss__write_flush(loop, conn);
    int keyed = message->key.size != 0;
    if (!keyed && !conn->session.queue && direct && conn->work & WSS__WORK_WRITABLE)
        return wss__write_direct(loop, conn, message);
    char *place = !keyed ? wss__session_cork(shared, &conn->session, whole, 1) : NULL;
    if (place) {
        wss__message_write(message, place + wss__frame_encode(place, message->opcode, message->size));
        wss__session_count_messages(shared, 1);
        return WSS_OK;
    }
    wss__buf_frame *frame = wss__message_frame(&loop->server->mem, message);
    if (!frame) return WSS_ERR_MEMORY;
    int result = wss__write_push(loop, conn, frame, 1);
    if (result == WSS_ERR_FULL) WSS__COUNT(shared->stats.refused_full, 1);
    return result;
}

/* Closes on the application's behalf. Its stage has risen. */
static void wss__write_close(wss__loop *loop, wss__conn *conn, int code, wss__span reason, int cause) {
    wss__write_catch_up(loop, conn);
    if (conn->session.phase != WSS__SESSION_OPEN) return;
    wss__conn_cold *cold = reason.size ? wss__conn_need_cold(loop->server, conn) : NULL;
    if (cold) cold->reason = wss__conn_copy(loop->server, reason, &cold->reason_size);
    wss__write_begin_close(loop, conn, code, reason, cause);
}

/* Applies the answer to its request that the application has given, if it has: before anything else happens to the
   connection, whoever comes first, an order behind the answer or this loop itself. */
static void wss__write_answer(wss__loop *loop, wss__conn *conn) {
    wss_server *server = loop->server;
    if (conn->session.phase != WSS__SESSION_ASKED || wss__conn_stage(conn) <= WSS__STAGE_ASKED) return;
    wss__conn_request *kept = wss__conn_cold_of(conn)->request;
    wss__buf_frame *frame = kept->answer;
    if (!frame) return;
    kept->answer = NULL;
    conn->session.phase = kept->status == 101 ? WSS__SESSION_OPEN : WSS__SESSION_DONE;
    wss__deadline_touch(loop, conn);
    frame->fixed = 1; /* nothing makes sense to the client before it */
    if (!wss__buf_append(&server->mem, &conn->session.queue, frame)) wss__write_break(loop, conn);
    if (kept->status != 101) {
        if (!kept->upgrade) WSS__COUNT(loop->shared.stats.http_answers, 1);
        else wss__input_count_refusal(&loop->shared, kept->status, WSS_REFUSED_APPLICATION);
        wss__conn_set_state(loop, conn, WSS__STATE_FLUSHING);
    }
    wss__conn_forget_request(server, conn);
    wss__conn_make_ready(loop, conn);
}

/* ---- [pressure] --------------------------------------------------------------------------------------------
   purpose  who holds much memory by himself, and who has to go when nearly all of the server's is used
   knows    base, mem, http, buf, slot, session, input, conn, deadline, notify, write
   owns     who holds 64 KiB or more of queue and input that nobody shares stands in a list of his loop, one for each
            power of two: who moves goes to its end, so who has to go is found at a front, without a search
   threads  the loop's own */

enum {
    WSS__PRESSURE_LEAST = 65536, /* bytes of those in the first list */
    WSS__PRESSURE_STILL = 1000   /* milliseconds; who has moved since is spared */
};

/* What it holds by itself. */
static size_t wss__pressure_holds(const wss__conn *conn) {
    const wss__session_input *input = conn->session.input;
    size_t held = conn->session.queue ? wss__buf_own(conn->session.queue) : 0;
    return input ? held + input->capacity + input->held_size : held;
}

static wss__conn_cold *wss__pressure_at(const wss__loop *loop, uint32_t index) {
    return wss__conn_cold_of(wss__conn_at(loop->server, index));
}

/* Makes these two neighbours in a list; NONE: its end. */
static void wss__pressure_join(const wss__loop *loop, wss__conn_list *list, uint32_t before, uint32_t after) {
    *(before == WSS__SLOT_NONE ? &list->first : &wss__pressure_at(loop, before)->heavy_after) = after;
    *(after == WSS__SLOT_NONE ? &list->last : &wss__pressure_at(loop, after)->heavy_before) = before;
}

static void wss__pressure_unlink(wss__loop *loop, wss__conn *conn) {
    wss__conn_cold *cold = wss__conn_cold_of(conn);
    if (!cold || !cold->heavy) return;
    wss__pressure_join(loop, &loop->heavy[cold->heavy - 1], cold->heavy_before, cold->heavy_after);
    cold->heavy = 0;
}

/* Whether it has moved in the last second. */
static int wss__pressure_is_spared(const wss__loop *loop, const wss__conn_cold *cold) {
    return cold->moved_at + WSS__PRESSURE_STILL > loop->time;
}

/* At the end, for who has moved; and for who comes from another list without that, and is to be spared: those before
   him have moved a second after him at most. Others in front. */
static void wss__pressure_link(wss__loop *loop, wss__conn *conn, int number) {
    wss__conn_list *list = &loop->heavy[number - 1];
    wss__conn_cold *cold = wss__conn_cold_of(conn);
    int last = wss__pressure_is_spared(loop, cold);
    uint32_t before = last ? list->last : WSS__SLOT_NONE;
    uint32_t after = last ? WSS__SLOT_NONE : list->first;
    cold->heavy = (uint8_t)number;
    wss__pressure_join(loop, list, before, conn->slot.index);
    wss__pressure_join(loop, list, conn->slot.index, after);
}

/* Whether it has moved since it last had: it has taken, if most of what it holds waits to be sent to it, else sent, as
   many bytes as least_rate asks for the time in between. Who sends and never reads does not move, nor who drips. */
static int wss__pressure_has_moved(const wss__loop *loop, const wss__conn *conn, size_t holds) {
    wss__conn_cold *cold = wss__conn_cold_of(conn);
    int rate = loop->server->options.least_rate;
    size_t waiting = conn->session.queue ? wss__buf_own(conn->session.queue) : 0;
    int takes = waiting >= holds - waiting;
    uint64_t bytes = takes ? conn->bytes_out : conn->bytes_in;
    uint64_t least = rate == WSS_OFF ? 0 : (uint64_t)rate * (loop->time - cold->moved_at) / 1000;
    int moved = cold->takes == takes && bytes > cold->moved && bytes - cold->moved >= least;
    if (cold->takes == takes && cold->heavy && !moved) return 0;
    cold->takes = (uint8_t)takes;
    cold->moved = bytes;
    return moved || !cold->heavy;
}

/* Keeps a connection in the list where it belongs, at its end if it has moved. Where there is no memory to remember it,
   the next turn tries again. */
static void wss__pressure_note(wss__loop *loop, wss__conn *conn) {
    wss__conn_cold *cold = wss__conn_cold_of(conn);
    size_t holds = wss__pressure_holds(conn);
    int number = 0;
    if (holds < WSS__PRESSURE_LEAST) {
        if (!cold || !cold->heavy) return;
        wss__pressure_unlink(loop, conn);
        wss__conn_free_empty_cold(loop->server, conn);
        return;
    }
    while (number < WSS__CONN_HEAVY && holds >> number >= WSS__PRESSURE_LEAST) number++;
    cold = wss__conn_need_cold(loop->server, conn);
    if (!cold) return;
    int moved = wss__pressure_has_moved(loop, conn, holds);
    if (cold->heavy == number && !moved) return;
    if (moved) cold->moved_at = loop->time;
    wss__pressure_unlink(loop, conn);
    wss__pressure_link(loop, conn, number);
}

/* The connection that has to go first; NULL: none should. Looks at one of each list. */
static wss__conn *wss__pressure_heaviest(const wss__loop *loop) {
    for (int number = WSS__CONN_HEAVY; number > 0; number--) {
        uint32_t first = loop->heavy[number - 1].first;
        wss__conn *conn = first == WSS__SLOT_NONE ? NULL : wss__conn_at(loop->server, first);
        if (conn && !wss__pressure_is_spared(loop, wss__conn_cold_of(conn))) return conn;
    }
    return NULL;
}

/* Offers it what waits: who takes enough has moved, and of little the kernel does not tell. Whether it is spared. */
static int wss__pressure_moves(wss__loop *loop, wss__conn *conn) {
    conn->work |= WSS__WORK_WRITABLE;
    wss__write_flush(loop, conn);
    wss__pressure_note(loop, conn);
    wss__conn_make_ready(loop, conn);
    const wss__conn_cold *cold = wss__conn_cold_of(conn);
    return !cold || !cold->heavy || wss__pressure_is_spared(loop, cold);
}

/* From three quarters of the budget on, one connection of the loop ends a turn: it is told so where it can be, and else
   reset, as is one that has been told and still holds as much. */
static void wss__pressure_relieve(wss__loop *loop) {
    wss__mem *mem = &loop->server->mem;
    wss__conn *conn = wss__mem_is_pressed(mem) ? wss__pressure_heaviest(loop) : NULL;
    if (!conn || wss__pressure_moves(loop, conn)) return;
    int open = conn->session.phase == WSS__SESSION_OPEN;
    if (open) wss__session_drop_unsent(&loop->shared, &conn->session);
    if (conn->session.phase == WSS__SESSION_ASKED) wss__notify_reject(loop, conn, WSS__HTTP_RULE_MEMORY, NULL);
    else wss__notify_end(loop, conn, WSS_CAUSE_PRESSURE, open ? WSS__NOTIFY_SAY : WSS__NOTIFY_RESET);
    wss__input_free_input(&loop->shared, &conn->session);
    wss__pressure_note(loop, conn);
}

/* When to look again although nothing comes: memory may become short elsewhere. UINT64_MAX: nobody holds much. */
static uint64_t wss__pressure_due(const wss__loop *loop) {
    for (int number = 0; number < WSS__CONN_HEAVY; number++)
        if (loop->heavy[number].first != WSS__SLOT_NONE) return loop->now + WSS__PRESSURE_STILL;
    return UINT64_MAX;
}

/* ---- [read] ------------------------------------------------------------------------------------------------
   purpose  bytes in: received, taken apart by the session, and handed to the application
   knows    base, mem, address, http, frame, timer, session, input, queue, socket, event, conn, pause, deadline, notify,
            write
   owns     after every call of user code the state is looked at again; input that may not be looked at is held
   threads  the loop's own, except where a function says otherwise */

enum {
    WSS__READ_SHARE = 128,    /* messages of one connection in a turn */
    WSS__READ_SIZE = 65 << 10 /* bytes of a receive: 64 KiB, and frames' heads */
};

static void wss__read_message(wss__loop *loop, wss__conn *conn, const wss__session_event *message) {
    wss_event event;
    wss__notify_init(loop->server, conn, WSS_EVENT_DATA, &event);
    event.opcode = message->opcode;
    event.size = message->size;
    event.data = message->data;
    wss__deadline_note_message(loop, conn);
    if (loop->server->options.max_message_rate != WSS_OFF && wss__pause_rate(loop->server, conn))
        WSS__COUNT(loop->shared.stats.rate_pauses, 1);
    if (!wss__notify_tell(conn, &event, NULL)) wss__notify_end(loop, conn, WSS_CAUSE_MEMORY, WSS__NOTIFY_SAY);
}

static void wss__read_pong(wss__loop *loop, wss__conn *conn, const wss__session_event *pong) {
    uint64_t sent = pong->size == 8 ? wss__base_load_be(pong->data, 8) : UINT64_MAX;
    if (sent > loop->now || loop->now - sent >= 3600000) return; /* not one of ours */
    uint64_t round_trip = loop->now - sent < UINT16_MAX ? loop->now - sent + 1 : UINT16_MAX;
    __atomic_store_n(&conn->round_trip, (uint16_t)round_trip, __ATOMIC_RELAXED);
}

/* Remembers what wss_get_info tells; it is no fault of the client if memory is too short for it. */
static void wss__read_keep_path(wss__loop *loop, wss__conn *conn, const wss_request *request) {
    const char *target = wss_request_target(request);
    wss__span path = wss__base_span(target, strcspn(target, "?"));
    if (path.size == 1) return;
    wss__conn_cold *cold = wss__conn_need_cold(loop->server, conn);
    char *copy = cold ? wss__conn_copy(loop->server, path, &path.size) : NULL;
    if (!copy) return;
    wss__conn_lock(loop->server);
    cold->path = copy;
    cold->path_size = path.size;
    wss__conn_unlock(loop->server);
}

/* Keeps the request, with a copy of its head, until it is answered. */
static wss__conn_request *wss__read_keep_request(wss__loop *loop, wss__conn *conn, const wss_request *request,
                                                 int upgrade) {
    wss_server *server = loop->server;
    size_t bytes = wss__base_add(sizeof(wss__conn_request), request->size);
    wss__conn_cold *cold = wss__conn_need_cold(server, conn);
    wss__conn_request *kept = cold ? (wss__conn_request *)wss__mem_get(&server->mem, bytes) : NULL;
    if (!kept) return NULL;
    kept->references = 2; /* the connection, and the event */
    kept->bytes = bytes;
    kept->upgrade = upgrade;
    kept->conn = wss__conn_handle(conn);
    kept->answer = NULL;
    memset(&kept->job, 0, sizeof kept->job);
    memset(&kept->group, 0, sizeof kept->group);
    kept->request = *request;
    kept->request.base = (char *)(kept + 1);
    memcpy(kept->request.base, request->base, request->size);
    wss__conn_peer peer = wss__conn_peer_of(conn);
    if (peer.address.kind == WSS__ADDRESS_IP) wss__address_text(&peer.address, kept->request.peer);
    kept->request.port = peer.address.port;
    return kept;
}

/* A trusted proxy says who the client is: from now on it counts as that. A rule where it may not connect. */
static int wss__read_client(wss__loop *loop, wss__conn *conn, const wss_request *request) {
    wss__conn_peer peer;
    if (!(conn->session.from & WSS__SESSION_TRUSTED)) return WSS__HTTP_GOOD;
    peer = wss__conn_peer_of(conn);
    if (request->client.kind) {
        peer = wss__conn_peer_at(request->client);
        if (!wss__conn_set_peer(loop->server, conn, &peer)) return WSS__HTTP_RULE_MEMORY;
    }
    if (wss__address_in(&peer.address, loop->server->options.proxies)) return WSS__HTTP_GOOD; /* it asks for itself */
    int result = wss__conn_limit(loop->server, conn, &peer.address);
    return !result ? WSS__HTTP_GOOD : result == WSS_ERR_FULL ? WSS__HTTP_RULE_PER_ADDRESS : WSS__HTTP_RULE_MEMORY;
}

/* Asks the application what to do with a request. */
static void wss__read_ask(wss__loop *loop, wss__conn *conn, const wss_request *request, int upgrade) {
    wss_server *server = loop->server;
    wss_event event;
    wss__conn_request *kept = wss__read_keep_request(loop, conn, request, upgrade);
    if (!kept) {
        wss__notify_reject(loop, conn, WSS__HTTP_RULE_MEMORY, request);
        return;
    }
    wss__conn_set_state(loop, conn, WSS__STATE_ASKED);
    conn->since = (uint32_t)loop->time; /* the application has its time, whenever the request came */
    wss__conn_lock(server);
    wss__conn_cold_of(conn)->request = kept;
    wss__conn_raise(conn, WSS__STAGE_ASKED);
    wss__conn_unlock(server);
    wss__notify_init(server, conn, upgrade ? WSS_EVENT_UPGRADE : WSS_EVENT_HTTP, &event);
    event.request = &kept->request;
    wss__notify_tell(conn, &event, &kept->job);
}

static void wss__read_upgrade(wss__loop *loop, wss__conn *conn, const wss_request *request) {
    wss__read_keep_path(loop, conn, request);
    if (!wss__event_is_empty(&loop->server->handlers, WSS_EVENT_UPGRADE)) {
        wss__read_ask(loop, conn, request, 1);
    } else if (!wss__input_accept(&loop->shared, &conn->session, wss__http_key(request))) { /* always: good */
        conn->session.phase = WSS__SESSION_ASKED;          /* never: the cork is empty and takes it */
        wss__notify_end(loop, conn, WSS_CAUSE_MEMORY, WSS__NOTIFY_RESET); /* never: likewise */
    }
}

/* A proxy that speaks HTTP/1.0 drops the lines of an upgrade: what comes is plain, and its answer says why. */
static void wss__read_http(wss__loop *loop, wss__conn *conn, const wss_request *request) {
    int rule = request->minor == 0 ? WSS__HTTP_RULE_OLD_HTTP : WSS__HTTP_RULE_NO_UPGRADE;
    if (wss__event_is_empty(&loop->server->handlers, WSS_EVENT_HTTP)) wss__notify_reject(loop, conn, rule, request);
    else wss__read_ask(loop, conn, request, 0);
}

static void wss__read_request(wss__loop *loop, wss__conn *conn, const wss_request *request, int upgrade) {
    int rule = loop->stopping || loop->spreading ? WSS__HTTP_RULE_STOPPING : wss__read_client(loop, conn, request);
    if (rule) wss__notify_reject(loop, conn, rule, request);
    else if (upgrade) wss__read_upgrade(loop, conn, request);
    else wss__read_http(loop, conn, request);
}

static void wss__read_handle(wss__loop *loop, wss__conn *conn, int kind, const wss__session_event *event) {
    switch (kind) {
    case WSS__SESSION_MESSAGE: wss__read_message(loop, conn, event); break;
    case WSS__SESSION_PONG: wss__read_pong(loop, conn, event); break;
    case WSS__SESSION_UPGRADE: wss__read_request(loop, conn, &event->request, 1); break;
    case WSS__SESSION_HTTP: wss__read_request(loop, conn, &event->request, 0); break;
    default: wss__notify_ended(loop, conn, event); break;
    }
}

/* What was broadcast before is not for this one; and before it was open it could send nothing. */
static void wss__read_connect(wss__loop *loop, wss__conn *conn) {
    conn->session.given = loop->shared.broadcasts.end;
    conn->session.receives = 1;
    wss__deadline_note_message(loop, conn);
    wss__timer_remove(&loop->wheel, conn->slot.index); /* that of the handshake may be far */
    wss__notify_connect(loop, conn);
}

/* Whether a connection has had its share of the turn, after one message, and more to come, or each sixteenth: by their
   number, or by the time that handlers took. */
static int wss__read_is_over(const wss__loop *loop, int messages, uint64_t *began) {
    uint64_t now = wss__socket_clock_us();
    if (messages == 1) *began = now;
    return messages >= WSS__READ_SHARE || now - *began > loop->share_us;
}

/* Hands out what the bytes hold, until they are used up, reading must pause, its share of the turn is over, or the turn
   is full; the rest is held. */
static void wss__read_dispatch(wss__loop *loop, wss__conn *conn, wss__session_bytes *bytes) {
    wss__session_shared *shared = &loop->shared;
    wss__session_event event;
    uint64_t began = 0;
    int messages = 0;
    while (wss__conn_is_serving(conn) && !loop->full) {
        if (wss__conn_is_new(conn)) wss__read_connect(loop, conn);
        if (shared->cork_cost >= WSS__WRITE_CORK / 2 || shared->cork_cost > wss__pause_half(loop->server))
            wss__write_flush(loop, conn);
        if (wss__pause_update(loop->server, conn)) break;
        int kind = wss__input_next(shared, &conn->session, bytes, &event);
        if (kind == WSS__SESSION_NEED) break;
        if (bytes->size) event.final = 0; /* it goes on behind its Close, against the rules */
        wss__read_handle(loop, conn, kind, &event);
        wss__input_event_done(shared, &conn->session);
        if (kind != WSS__SESSION_MESSAGE || !bytes->size || ++messages % 16 > 1) continue;
        if (wss__read_is_over(loop, messages, &began)) break;
    }
    if (!wss__conn_is_serving(conn)) wss__input_free_input(shared, &conn->session);
    else if (!wss__input_hold(shared, &conn->session, bytes))
        wss__notify_end(loop, conn, WSS_CAUSE_MEMORY, WSS__NOTIFY_SAY);
    wss__input_event_done(shared, &conn->session);
    wss__session_input *input = conn->session.input;
    if (input && !input->since) input->since = loop->time;
}

/* End of stream, or an error. Who has ended its stream may have ended but that: what is queued for it leaves. */
static void wss__read_ended(wss__loop *loop, wss__conn *conn, ssize_t got) {
    if (got < 0 && errno == EAGAIN && !(conn->work & WSS__WORK_HANGUP)) {
        wss__conn_clear_work(conn, WSS__WORK_READABLE);
        return;
    }
    if (got < 0) {
        wss__notify_reset(loop->server, conn);
        wss__notify_end(loop, conn, WSS_CAUSE_PEER_VANISHED, WSS__NOTIFY_LEAVE); /* nothing is left to reset */
        return;
    }
    wss__conn_clear_work(conn, WSS__WORK_READABLE);
    conn->work |= WSS__WORK_ENDED_INPUT;
    wss__notify_end(loop, conn, WSS_CAUSE_PEER_VANISHED, WSS__NOTIFY_SAY); /* no Close, for who may still read */
}

/* How much is received at once: what can be dealt with in this turn or held, behind the rest of a large message. */
static size_t wss__read_size(size_t room, uint64_t rest) {
    return rest < room - wss__base_min(room, WSS__READ_SIZE) ? (size_t)rest + WSS__READ_SIZE : room;
}

/* Receives the rest of a message that these bytes begin, where there is room for the whole: in one piece it is looked
   at where it lies. Returns for how much more there was room. */
static size_t wss__read_whole(wss__loop *loop, wss__conn *conn, wss__session_bytes *bytes) {
    wss__frame_head frame;
    size_t room = loop->receive_size - bytes->size;
    if (conn->session.phase != WSS__SESSION_OPEN || conn->session.input) return 0;
    int head = wss__frame_decode(bytes->data, bytes->size, &frame);
    if (head <= 0) return 0;
    size_t come = bytes->size - (size_t)head;
    if (frame.size <= come || frame.size - come > room) return 0;
    room = wss__read_size(room, frame.size - come);
    ssize_t got = wss__socket_receive(conn->fd, bytes->data + bytes->size, room);
    if (got > 0) bytes->size += (size_t)got; /* an end is told again at the next receive, an error is not */
    else if (got < 0 && errno != EAGAIN) wss__notify_reset(loop->server, conn);
    return room;
}

static inline void wss__read_count(wss__loop *loop, wss__conn *conn, size_t size) {
    WSS__COUNT(conn->bytes_in, size);
    WSS__COUNT(loop->shared.stats.bytes_in, size);
}

/* One receive. Fewer bytes than there was room for mean that the kernel has no more, unless the end is known to
   follow. What is behind an urgent byte of TCP, which no honest peer sends, is received when more comes, or when its
   timer rings. */
static void wss__read_some(wss__loop *loop, wss__conn *conn) {
    wss__session_bytes bytes;
    const wss__session_input *input = conn->session.input;
    size_t room = wss__read_size(loop->receive_size, input && input->in_frame ? input->frame_left : 0);
    bytes.data = loop->receive;
    if (!loop->shared.cork_size && !wss__event_type_count(&loop->server->handlers))
        loop->shared.in_place.replies = loop->receive;
    ssize_t got = wss__socket_receive(conn->fd, bytes.data, room);
    if (got <= 0) {
        wss__read_ended(loop, conn, got);
        return;
    }
    bytes.size = (size_t)got;
    if (bytes.size == room) room += wss__read_whole(loop, conn, &bytes);
    wss__deadline_touch(loop, conn);
    if (conn->work & WSS__WORK_AWAITED && conn->session.phase != WSS__SESSION_CLOSING)
        wss__deadline_answered(loop, conn);
    wss__read_count(loop, conn, bytes.size);
    if (bytes.size < room && !(conn->work & WSS__WORK_HANGUP))
        wss__conn_clear_work(conn, WSS__WORK_READABLE);
    wss__read_dispatch(loop, conn, &bytes);
}

/* Our stream has ended; the peer's is read and dropped until it ends too, or is too long: closing with unread
   input would reset the connection and destroy the tail of what we sent. */
static void wss__read_linger(wss__loop *loop, wss__conn *conn) {
    ssize_t got = wss__socket_receive(conn->fd, loop->receive, loop->receive_size);
    if (got < 0 && errno == EAGAIN && !(conn->work & WSS__WORK_HANGUP)) {
        wss__conn_clear_work(conn, WSS__WORK_READABLE);
        return;
    }
    if (got > 0) wss__read_count(loop, conn, (size_t)got);
    if (got > 0) conn->session.drained = (uint16_t)(conn->session.drained + (got >> 10)); /* less has close_ms */
    if (got <= 0 || conn->session.drained > WSS__CONN_LINGER_MAX) wss__notify_mark_dead(loop, conn, 0);
    else if ((size_t)got < loop->receive_size && !(conn->work & WSS__WORK_HANGUP))
        wss__conn_clear_work(conn, WSS__WORK_READABLE);
}

/* ---- [serve] -----------------------------------------------------------------------------------------------
   purpose  one connection's turn, its deadlines, and its end
   knows    base, mem, http, timer, slot, frame, buf, session, input, socket, event, conn, pause, deadline, notify,
            write, pressure, read
   owns     a connection is freed in one function, at its turn on the ready list; after each turn its deadline is set
   threads  the loop's own, except where a function says otherwise */

/* The one place that frees a connection. With a queue its place lives on until its events were delivered. */
static void wss__serve_free(wss__loop *loop, wss__conn *conn) {
    wss_server *server = loop->server;
    int fd = conn->fd;
    wss__timer_remove(&loop->wheel, conn->slot.index);
    wss__deadline_note_reading(loop, conn, 1);
    wss__pause_clear_crowded(loop, conn);
    wss__pressure_unlink(loop, conn);
    wss__conn_unlink(loop, conn);
    wss__socket_unwatch(loop->epoll, fd);
    wss__input_free_session(&loop->shared, &conn->session);
    wss__pause_count_unread(server, conn, 0);
    wss__pause_unhold(loop, conn);
    wss__conn_lock(server);
    conn->fd = -1;
    wss__conn_address *address = wss__conn_leave_address(server, conn);
    wss__slot_set(&conn->slot, conn->slot.word & WSS__SLOT_LIMIT & ~(uint64_t)WSS__SLOT_STATE, WSS__SLOT_CLOSED);
    __atomic_add_fetch(&server->closed, 1, __ATOMIC_RELAXED);
    wss__conn_unlock(server);
    wss__socket_close(fd); /* not before: who reads its number sees in time that it is nobody's */
    wss__mem_free(&server->mem, address, sizeof *address);
    __atomic_sub_fetch(&loop->connections, 1, __ATOMIC_ACQ_REL);
    wss__conn_release(server, conn);
}

/* Where there is no memory for the event it stays due, and the deadline tries again. */
static void wss__serve_drained(wss__loop *loop, wss__conn *conn) {
    wss_event event;
    wss_server *server = loop->server;
    if (wss__conn_is_new(conn)) return; /* accepted and sent to in one go: connect comes before this */
    int told = wss__session_is_receiver(&conn->session) && !wss__event_is_empty(&server->handlers, WSS_EVENT_DRAIN);
    wss__notify_init(server, conn, WSS_EVENT_DRAIN, &event);
    wss__pause_clear_crowded(loop, conn);
    if (told && !wss__notify_tell(conn, &event, NULL)) wss__pause_set_crowded(loop, conn);
}

/* How far the peer has acknowledged what it was sent, modulo 2^32. */
static uint32_t wss__serve_acked(const wss__conn *conn, uint32_t unacked) {
    return (uint32_t)conn->bytes_out - unacked;
}

/* All was said, and much of it may not have arrived yet: the time for the peer's last word begins, or begins anew. */
static void wss__serve_await_end(wss__loop *loop, wss__conn *conn) {
    wss__deadline_begin(loop, conn, WSS__WORK_AWAITED);
    conn->acked = wss__serve_acked(conn, wss__socket_unacked(conn->fd));
}

/* The last byte has left: ends our stream first, as RFC 6455 section 7.1.1 asks of the server. Where the peer
   has nothing more to say the socket is closed at once, unless bytes that it should not have sent still wait
   there. */
static void wss__serve_end_stream(wss__loop *loop, wss__conn *conn) {
    int quiet = conn->work & WSS__WORK_ENDED_INPUT && !(conn->work & WSS__WORK_READABLE);
    if (quiet || WSSERVER_SYSTEM(shutdown)(conn->fd, SHUT_WR) != 0) {
        wss__notify_mark_dead(loop, conn, 0);
        return;
    }
    wss__conn_set_state(loop, conn, WSS__STATE_LINGERING);
    conn->session.drained = 0;
    /* else its time has begun when our last word had left */
    if (loop->server->options.close_ms == WSS_OFF) wss__serve_await_end(loop, conn);
}

/* Whether it is read from now. */
static int wss__serve_reads(const wss__conn *conn) {
    if (!wss__conn_is_serving(conn)) return wss__conn_state(conn) == WSS__STATE_LINGERING;
    if (conn->session.phase == WSS__SESSION_OPEN) return !(conn->work & WSS__WORK_UNREAD);
    return conn->session.phase != WSS__SESSION_ASKED;
}

/* Something that it has sent waits to be looked at, or its connect handlers do. */
__attribute__((__noinline__)) static int wss__serve_has_input(const wss__loop *loop, wss__conn *conn) {
    if (!wss__conn_is_serving(conn) || conn->session.phase == WSS__SESSION_ASKED) return 0;
    if (wss__conn_is_new(conn)) return 1;
    int held = conn->session.input && conn->session.input->held;
    return (held || conn->work & WSS__WORK_READABLE) && !wss__pause_update(loop->server, conn);
}

/* Decides whether reading pauses, where that matters. True: there is more to do. */
static int wss__serve_decide(wss__loop *loop, wss__conn *conn) {
    if (conn->session.queue && conn->work & WSS__WORK_WRITABLE) return 1;
    if (wss__conn_state(conn) == WSS__STATE_LINGERING) return conn->work & WSS__WORK_READABLE;
    return wss__serve_has_input(loop, conn);
}

/* The socket has failed or ended, and nobody reads from it who would see that: whether nothing of the peer waits before
   that end. Not where reading goes on by itself, when what came before was delivered. */
static int wss__serve_is_over(wss__loop *loop, wss__conn *conn) {
    const wss__session_input *input = conn->session.input;
    if (conn->session.phase == WSS__SESSION_ASKED) return 1;
    if (!wss__pause_update(loop->server, conn)) return 0;
    if (conn->work & WSS__WORK_PAUSED) return !(input && input->held) && wss__socket_has_ended(conn->fd);
    /* what it sent beyond its rate nobody waits for: else it would keep its place for hours */
    if (loop->server->options.max_message_rate != WSS_OFF && wss__pause_rate_end(loop->server, conn) > 0) return 1;
    const wss__conn_delivery *delivery = wss__conn_delivery_of(conn);
    if (!delivery || !__atomic_load_n(&delivery->reset, __ATOMIC_ACQUIRE)) return 0; /* it must not hold back others */
    wss__pause_count_unread(loop->server, conn, input ? input->capacity + input->held_size : 0);
    return wss__pause_may_drop(loop->server, conn);
}

/* Nothing leaves any more. What the peer has sent before is read to its end, and tells what that is, unless the session
   has ended without it. */
static void wss__serve_broken(wss__loop *loop, wss__conn *conn) {
    if (conn->session.phase != WSS__SESSION_OPEN)
        wss__notify_end(loop, conn, WSS_CAUSE_PEER_VANISHED, WSS__NOTIFY_RESET);
    else conn->work |= WSS__WORK_READABLE | WSS__WORK_HANGUP | WSS__WORK_LOST;
}

/* ---- deadlines ---- */

enum {
    WSS__SERVE_PING = 2 + 8,      /* bytes of a ping */
    WSS__SERVE_CLOSE = 4 + 123 + 1 /* of the longest Close, and what the end of our stream counts */
};

/* Asks a silent peer for a sign of life: a pong, or that it acknowledges bytes; those of the ping alone are none. Where
   other bytes wait for it there is no ping: they ask as well. */
static void wss__serve_ping(wss__loop *loop, wss__conn *conn) {
    char payload[8];
    uint32_t unacked = wss__socket_unacked(conn->fd);
    wss__base_store_be(payload, loop->now, 8);
    wss__deadline_begin(loop, conn, WSS__WORK_AWAITED);
    conn->acked = wss__serve_acked(conn, unacked);
    if (conn->session.queue) return;
    if (!unacked) conn->acked += WSS__SERVE_PING;
    if (!wss__session_put_control(&loop->shared, &conn->session, WSS__FRAME_PING, wss__base_span(payload, 8)))
        wss__notify_end(loop, conn, WSS_CAUSE_MEMORY, WSS__NOTIFY_SAY);
}

/* No byte has come since the ping: it lives if it has acknowledged some, gigabytes perhaps. Else it is as far as it
   was, or short of that by the ping. */
static void wss__serve_no_pong(wss__loop *loop, wss__conn *conn) {
    uint32_t acked = wss__serve_acked(conn, wss__socket_unacked(conn->fd));
    if (conn->acked - acked > WSS__SERVE_PING) wss__serve_ping(loop, conn);
    else wss__notify_end(loop, conn, WSS_CAUSE_PONG_TIMEOUT, WSS__NOTIFY_RESET);
}

/* The handshake took too long: the client's doing, or the application's. An answer that is on its way comes in time. */
static void wss__serve_handshake_late(wss__loop *loop, wss__conn *conn) {
    int asked = conn->session.phase == WSS__SESSION_ASKED;
    wss__conn_lock(loop->server);
    int answered = wss__conn_stage(conn) > WSS__STAGE_ASKED;
    if (!answered) wss__conn_raise(conn, WSS__STAGE_CLOSING);
    wss__conn_unlock(loop->server);
    if (!answered) wss__notify_reject(loop, conn, asked ? WSS__HTTP_RULE_UNDECIDED : WSS__HTTP_RULE_TIMEOUT, NULL);
}

/* Whether the peer has come nearer to our last word in the time that it had for its own: has taken, of what stood
   before that, as many bytes as who is behind must take, or all. The Close alone is no reason to wait again. */
static int wss__serve_comes_nearer(const wss__loop *loop, const wss__conn *conn) {
    const wss_options *options = &loop->server->options;
    uint32_t unacked = wss__socket_unacked(conn->fd);
    int32_t taken = (int32_t)(wss__serve_acked(conn, unacked) - conn->acked);
    int64_t rate = options->least_rate == WSS_OFF ? 0 : options->least_rate;
    int time = options->close_ms == WSS_OFF ? WSS__CONN_LINGER : options->close_ms;
    return taken > WSS__SERVE_CLOSE && (!unacked || taken >= rate * time / 1000);
}

/* The time for the peer's last word is over. */
static void wss__serve_close_late(wss__loop *loop, wss__conn *conn) {
    if (wss__serve_comes_nearer(loop, conn)) wss__serve_await_end(loop, conn);
    else if (wss__conn_is_serving(conn)) wss__notify_end(loop, conn, WSS_CAUSE_LOCAL_CLOSE, WSS__NOTIFY_LEAVE);
    else wss__notify_mark_dead(loop, conn, 0);
}

/* Sends the client elsewhere, or away for a while. */
static void wss__serve_leave(wss__loop *loop, wss__conn *conn, int cause) {
    wss__conn_set_stage(loop->server, conn, WSS__STAGE_CLOSING);
    wss__write_close(loop, conn, loop->server->options.stop_code, wss__base_span(NULL, 0), cause);
}

/* A deadline has passed, and the kernel has nothing that would change it. */
static void wss__serve_judge(wss__loop *loop, wss__conn *conn, int what) {
    switch (what) {
    case WSS__DEADLINE_HANDSHAKE: wss__serve_handshake_late(loop, conn); break;
    case WSS__DEADLINE_PING: wss__serve_ping(loop, conn); break;
    case WSS__DEADLINE_PONG: wss__serve_no_pong(loop, conn); break;
    case WSS__DEADLINE_MESSAGE: wss__notify_end(loop, conn, WSS_CAUSE_MESSAGE_TIMEOUT, WSS__NOTIFY_SAY); break;
    case WSS__DEADLINE_IDLE: wss__notify_end(loop, conn, WSS_CAUSE_IDLE_TIMEOUT, WSS__NOTIFY_SAY); break;
    case WSS__DEADLINE_CLOSE: wss__serve_close_late(loop, conn); break;
    case WSS__DEADLINE_LIFETIME: wss__serve_leave(loop, conn, WSS_CAUSE_LIFETIME); break;
    case WSS__DEADLINE_STALL: wss__notify_end(loop, conn, WSS_CAUSE_SLOW_READER, WSS__NOTIFY_RESET); break;
    case WSS__DEADLINE_RATE:
        if (!wss__deadline_takes_enough(loop, conn))
            wss__notify_end(loop, conn, WSS_CAUSE_SLOW_READER, WSS__NOTIFY_RESET);
        break;
    default: break; /* never: when something is tried again, is always ahead */
    }
}

/* Its timer has rung: the kernel is asked for what it has, and offered what waits, before anything is judged. */
static void wss__serve_on_deadline(wss__loop *loop, wss__conn *conn) {
    if (wss__conn_state(conn) == WSS__STATE_DEAD) return;
    conn->work = (uint16_t)((conn->work & ~WSS__WORK_STARVED) | WSS__WORK_READABLE | WSS__WORK_WRITABLE);
    wss__conn_make_ready(loop, conn);
}

/* ---- a turn ---- */

/* Another thread was refused: it shall be told when to try again. */
static void wss__serve_owed(wss__loop *loop, wss__conn *conn) {
    if (!(__atomic_load_n(&conn->session.coming, __ATOMIC_SEQ_CST) & WSS__SESSION_OWED)) return;
    __atomic_and_fetch(&conn->session.coming, ~WSS__SESSION_OWED, __ATOMIC_SEQ_CST);
    wss__pause_set_crowded(loop, conn);
}

/* Notes what begins or ends with this turn, for the deadlines. */
static void wss__serve_note(wss__loop *loop, wss__conn *conn) {
    int open = conn->session.phase == WSS__SESSION_OPEN;
    wss__buf_queue *queue = conn->session.queue;
    wss__deadline_note_reading(loop, conn, !open || !wss__pause_update(loop->server, conn));
    if (queue && !queue->since) wss__deadline_note_sent(loop, conn, 0);
    if (conn->session.phase > WSS__SESSION_OPEN && !queue && !(conn->work & WSS__WORK_AWAITED))
        wss__serve_await_end(loop, conn);
}

/* Judges what is due, if it is: its timer has rung, which made the kernel be asked, and no more has come. Whoever sends
   without end has no more than a second by that. */
static void wss__serve_check_deadline(wss__loop *loop, wss__conn *conn) {
    wss__serve_note(loop, conn);
    wss__deadline_renew(loop, conn);
    int more = conn->work & WSS__WORK_READABLE && wss__serve_reads(conn);
    wss__deadline due = wss__deadline_of(loop, conn);
    if (wss__deadline_rings(due.at) > loop->now || (more && due.at + WSS__CONN_MORE > loop->now)) return;
    wss__serve_judge(loop, conn, due.what);
    wss__write_flush(loop, conn);
}

/* Open, with nothing queued, kept or marked, and its timer set: as nearly all turns end. Its next deadline can only
   have moved away, for whatever brings a nearer one is seen here, or has taken the timer back. */
static int wss__serve_is_calm(const wss__conn *conn) {
    const int usual = WSS__WORK_READABLE | WSS__WORK_WRITABLE | WSS__WORK_READY;
    return (conn->work & ~usual) == WSS__STATE_OPEN << WSS__WORK_STATE_SHIFT && !conn->session.queue &&
           !conn->session.input && conn->session.phase == WSS__SESSION_OPEN && !wss__conn_cold_of(conn) &&
           !__atomic_load_n(&conn->session.coming, __ATOMIC_SEQ_CST) && wss__timer_pending(&conn->timer);
}

/* Brings a connection to rest: what can leave leaves, what can be decided is decided, the deadline is set. */
static void wss__serve_end_turn(wss__loop *loop, wss__conn *conn) {
    wss__write_flush(loop, conn);
    if (wss__serve_is_calm(conn)) {
        wss__session_take_cork(&loop->shared, NULL);
        if (conn->work & WSS__WORK_READABLE) wss__conn_make_ready(loop, conn);
        return;
    }
    if (!wss__timer_pending(&conn->timer)) wss__serve_check_deadline(loop, conn);
    wss__session_take_cork(&loop->shared, NULL);
    if (conn->work & WSS__WORK_BROKEN && wss__conn_state(conn) != WSS__STATE_DEAD) wss__serve_broken(loop, conn);
    if (conn->work & WSS__WORK_LOST && wss__conn_is_serving(conn) && wss__serve_is_over(loop, conn))
        wss__notify_end(loop, conn, WSS_CAUSE_PEER_VANISHED, WSS__NOTIFY_RESET);
    if (wss__conn_state(conn) == WSS__STATE_FLUSHING && !conn->session.queue) wss__serve_end_stream(loop, conn);
    wss__pause_mark_pressure(loop, conn);
    wss__serve_owed(loop, conn);
    wss__pressure_note(loop, conn);
    if (wss__pause_is_drained(loop->server, conn)) wss__serve_drained(loop, conn);
    if (wss__conn_state(conn) == WSS__STATE_DEAD) return; /* it is on the ready list, to be freed */
    wss__serve_note(loop, conn);
    if (wss__serve_decide(loop, conn)) wss__conn_make_ready(loop, conn);
    wss__deadline_schedule(loop, conn, wss__deadline_of(loop, conn).at);
}

/* In a full turn nothing of a connection is looked at, not even received, or one of all who have something to say would
   be let into it, each with a message that goes to all. Nor is it judged: what it has sent comes before that. */
static void wss__serve_turn(wss__loop *loop, wss__conn *conn) {
    wss__session_bytes bytes;
    wss__session_take_cork(&loop->shared, &conn->session);
    if (conn->session.queue) wss__write_flush(loop, conn);
    if (loop->full && wss__serve_has_input(loop, conn)) {
        wss__session_take_cork(&loop->shared, NULL);
        wss__conn_make_ready(loop, conn);
        return;
    }
    if (wss__conn_state(conn) == WSS__STATE_LINGERING) {
        if (conn->work & WSS__WORK_READABLE) wss__read_linger(loop, conn);
    } else if (wss__conn_is_serving(conn) && conn->session.phase != WSS__SESSION_ASKED) {
        if (wss__conn_is_new(conn)) wss__read_connect(loop, conn);
        if (!wss__pause_update(loop->server, conn)) {
            if (wss__input_take_held(&conn->session, &bytes)) wss__read_dispatch(loop, conn, &bytes);
            else if (conn->work & WSS__WORK_READABLE) wss__read_some(loop, conn);
        }
    }
    wss__serve_end_turn(loop, conn);
}

/* The same, for who is read before he is judged: also in a full turn, or others that fill each would prevent that. */
static void wss__serve_now(wss__loop *loop, wss__conn *conn) {
    int full = loop->full;
    conn->work |= WSS__WORK_READABLE;
    loop->full = 0;
    wss__serve_turn(loop, conn);
    loop->full |= full;
}

/* What epoll says of a connection, for its turn: each has one. */
static void wss__serve_on_socket(wss__loop *loop, wss__conn *conn, uint32_t events) {
    if (wss__conn_state(conn) == WSS__STATE_DEAD) return;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) conn->work |= WSS__WORK_READABLE;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) conn->work |= WSS__WORK_HANGUP;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) conn->work |= WSS__WORK_WRITABLE;
    if (events & (EPOLLHUP | EPOLLERR)) conn->work |= WSS__WORK_LOST;
    if (events & EPOLLERR) wss__notify_reset(loop->server, conn);
    wss__conn_make_ready(loop, conn);
}

/* ---- [deliver] ---------------------------------------------------------------------------------------------
   purpose  handlers on the thread that drains a queue, and the application's timers
   knows    base, mem, timer, slot, queue, event, conn, pause, notify
   owns     a connection's place lives until its events were delivered; one event of a timer is under way at most; its
            place lives until neither the wheel nor an event holds it
   threads  as each function says

   A timer is   until                                then                       wss_timer_cancel makes of it
   WAITING      it rings                             DUE with a queue, or runs  CANCELLED, WSS_OK
   DUE          the queue's thread takes its event   it runs                    CANCELLED, WSS_OK
   RUNNING      its handler returns                  WAITING                    LAST, WSS_ERR_BUSY (its own thread: _OK)
   LAST         likewise, but will not ring again    CANCELLED                  nothing, WSS_ERR_BUSY (_GONE)
   CANCELLED    the last holder gives it back                                   nothing, WSS_ERR_GONE */

#define WSS__DELIVER_TIMER_BIT 0x40000000u

/* A timer of the application. */
typedef struct wss__deliver_timer {
    wss__slot slot;
    wss__timer_node node;
    uint64_t due;
    uint64_t repeat; /* 0: once */
    wss_handler *handler;
    void *context;
    wss__conn_notice job;
    int state;        /* as are the next two: under the mutex of the timers' table */
    int holders;      /* the loop, until it will not ring again, and its event */
    pthread_t runner; /* while it runs */
} wss__deliver_timer;

enum {
    WSS__DELIVER_WAITING = 0, WSS__DELIVER_DUE, WSS__DELIVER_RUNNING, WSS__DELIVER_LAST, WSS__DELIVER_CANCELLED
};

static wss__timer_node *wss__deliver_timer_at(void *owner, uint32_t number) {
    wss_server *server = (wss_server *)owner;
    if (!(number & WSS__DELIVER_TIMER_BIT)) return &wss__conn_at(server, number)->timer;
    return &((wss__deliver_timer *)(void *)wss__slot_at(&server->timers, number & ~WSS__DELIVER_TIMER_BIT))->node;
}

/* Begins to run a timer's handler; false where it was cancelled. Under the mutex. */
static int wss__deliver_begin(wss__deliver_timer *timer) {
    if (timer->state == WSS__DELIVER_CANCELLED) return 0;
    timer->state = timer->repeat ? WSS__DELIVER_RUNNING : WSS__DELIVER_LAST;
    timer->runner = pthread_self();
    return 1;
}

/* One holder less. Under the mutex. */
static void wss__deliver_give_back(wss__slot_table *table, wss__deliver_timer *timer) {
    if (--timer->holders == 0) wss__slot_release(table, &timer->slot);
}

/* Its event has been told, if run. */
static void wss__deliver_end(wss__slot_table *table, wss__deliver_timer *timer, int run) {
    pthread_mutex_lock(&table->mutex);
    if (run) timer->state = timer->state == WSS__DELIVER_RUNNING ? WSS__DELIVER_WAITING : WSS__DELIVER_CANCELLED;
    wss__deliver_give_back(table, timer);
    pthread_mutex_unlock(&table->mutex);
}

static wss__deliver_timer *wss__deliver_timer_of(const wss__conn_notice *notice) {
    return (wss__deliver_timer *)(void *)((char *)(uintptr_t)notice - offsetof(wss__deliver_timer, job));
}

static void wss__deliver_timer_event(wss__deliver_timer *timer, wss_event *event) {
    wss__slot_table *table = &event->server->timers;
    pthread_mutex_lock(&table->mutex);
    int run = wss__deliver_begin(timer);
    pthread_mutex_unlock(&table->mutex);
    if (run) wss__event_call(timer->handler, timer->context, event);
    wss__deliver_end(table, timer, run);
}

/* The event as it was before it was handed over. */
static void wss__deliver_restore(const wss__conn_notice *notice, wss_event *event) {
    wss_server *server = (wss_server *)notice->job.arg;
    memset(event, 0, sizeof *event);
    if (notice->conn) wss__notify_init(server, notice->conn, notice->kind, event);
    event->server = server;
    event->kind = notice->kind;
    event->opcode = notice->opcode;
    event->code = notice->code;
    event->cause = notice->cause;
    event->reason_length = notice->reason_size;
    if (notice->kind == WSS_EVENT_DISCONNECT) event->reason = wss__conn_delivery_of(notice->conn)->reason;
    if (notice->kind == WSS_EVENT_DATA) event->data = (const char *)(notice + 1);
    if (notice->kind == WSS_EVENT_DATA) event->size = notice->job.size - sizeof *notice - 1;
    if (notice->kind != WSS_EVENT_UPGRADE && notice->kind != WSS_EVENT_HTTP) return;
    const wss__conn_request *kept =
        (const wss__conn_request *)(const void *)((const char *)notice - offsetof(wss__conn_request, job));
    event->conn = kept->conn;
    event->request = &kept->request;
}

/* Runs the handlers of an event that was handed over, and gives its hold of the place back. */
static void wss__deliver_event(wss__conn_notice *notice) {
    wss_server *server = (wss_server *)notice->job.arg;
    wss__conn *conn = notice->conn;
    int counts = notice->job.size != 0;
    wss__event_place place;
    wss_event event;
    wss__deliver_restore(notice, &event);
    wss__event_enter(&place, server, NULL);
    if (event.kind == WSS_EVENT_TIMER) wss__deliver_timer_event(wss__deliver_timer_of(notice), &event);
    else if (event.kind == WSS_EVENT_DATA && wss__pause_may_drop(server, conn))
        __atomic_add_fetch(&server->undelivered_dropped, 1, __ATOMIC_RELAXED);
    else wss__notify_run(conn, &event);
    if (counts) wss__notify_settle(server, conn, notice);
    if (conn) wss__conn_release(server, conn);
    wss__event_leave(&place);
}

/* A timer of the application is due. */
static void wss__deliver_on_timer(wss__loop *loop, uint32_t index) {
    wss_server *server = loop->server;
    wss__slot_table *table = &server->timers;
    wss__deliver_timer *timer = (wss__deliver_timer *)(void *)wss__slot_at(table, index);
    wss_event event;
    memset(&event, 0, sizeof event);
    event.server = server;
    event.kind = WSS_EVENT_TIMER;
    event.context = timer->context;
    pthread_mutex_lock(&table->mutex);
    int early = timer->due > loop->now;
    int run = !early && timer->state == WSS__DELIVER_WAITING;
    int again = early || (timer->repeat && timer->state < WSS__DELIVER_LAST);
    if (!early && timer->repeat) timer->due += ((loop->now - timer->due) / timer->repeat + 1) * timer->repeat;
    if (run) timer->holders++;
    if (run && server->options.queue) timer->state = WSS__DELIVER_DUE;
    else if (run) wss__deliver_begin(timer);
    if (!again) wss__deliver_give_back(table, timer);
    pthread_mutex_unlock(&table->mutex);
    if (again) wss__timer_set(&loop->wheel, index | WSS__DELIVER_TIMER_BIT, timer->due);
    if (!run) return;
    if (server->options.queue) {
        wss__notify_hand_over(server, NULL, &timer->job, &event);
    } else {
        wss__event_call(timer->handler, event.context, &event);
        wss__deliver_end(table, timer, 1);
    }
}

/* Starts a timer that was made, or takes one out of the wheel that was cancelled. */
static void wss__deliver_change_timer(wss__loop *loop, uint64_t id, int start) {
    wss__slot_table *table = &loop->server->timers;
    uint32_t number = wss__slot_index(id) | WSS__DELIVER_TIMER_BIT;
    pthread_mutex_lock(&table->mutex);
    wss__deliver_timer *timer = (wss__deliver_timer *)(void *)wss__slot_find(table, id);
    int held = timer && (start || wss__timer_pending(&timer->node));
    int begin = held && start && timer->state == WSS__DELIVER_WAITING;
    uint64_t due = begin ? timer->due : 0;
    if (held && !begin) wss__timer_remove(&loop->wheel, number);
    if (held && !begin) wss__deliver_give_back(table, timer);
    pthread_mutex_unlock(&table->mutex);
    if (begin) wss__timer_set(&loop->wheel, number, due);
}


/* ---- [accept] ----------------------------------------------------------------------------------------------
   purpose  new sockets: accepted by the first loop, dealt to the loop with the fewest
   knows    base, mem, log, address, http, slot, session, queue, socket, conn, deadline, notify, serve
   owns     a socket becomes a connection or is closed; want of descriptors pauses accepting, it never spins
   threads  the loop's own, except where a function says otherwise */

enum {
    WSS__ACCEPT_TURN = 64,
    WSS__ACCEPT_RETRY_MAX = 1000,
    WSS__ACCEPT_HEAD = 1000,    /* milliseconds that a client has for its request, however many others wait */
    WSS__ACCEPT_HANDSHAKES = 64 /* unfinished ones, or an eighth of the connections where that is more */
};

/* Tag of the first listener in epoll. What is no connection has a tag without a generation, so no handle equals it. */
enum { WSS__ACCEPT_TAG = 2 };

/* All listeners or none: where the kernel lacks memory for one of them, all are tried again later. */
static void wss__accept_watch_listeners(wss__loop *loop, int on) {
    wss__socket_listeners *all = &loop->server->listeners;
    int failed = 0;
    if (loop->accepting == on) return;
    for (int i = 0; i < all->count; i++) {
        if (all->list[i].fd < 0) continue;
        if (on && loop->spreading && __atomic_load_n(&all->list[i].handed, __ATOMIC_ACQUIRE)) continue;
        if (!on) wss__socket_unwatch(loop->epoll, all->list[i].fd);
        else failed |= wss__socket_watch(loop->epoll, all->list[i].fd, EPOLLIN, WSS__ACCEPT_TAG + (uint64_t)i) != 0;
    }
    loop->accepting = on;
    if (on) __atomic_store_n(&loop->server->full, 0, __ATOMIC_SEQ_CST); /* whether somebody waits is seen anew */
    if (!failed) return;
    wss__accept_watch_listeners(loop, 0);
    loop->accept_backoff = WSS__CONN_RETRY;
    loop->accept_at = loop->now + WSS__CONN_RETRY;
}

/* ---- limits ---- */

static int wss__accept_places(const wss_server *server) {
    return __atomic_load_n(&server->conns.live, __ATOMIC_SEQ_CST) < (uint32_t)server->options.max_connections;
}

static size_t wss__accept_most(const wss_server *server) {
    return wss__base_max((size_t)server->options.max_connections / 8, WSS__ACCEPT_HANDSHAKES);
}

/* Whether a loop is dealt another socket: not beyond its share of the handshakes, nor while it has left alone what was
   dealt to it in an earlier turn of the first loop. So one that is held up is left a few, and takes nothing from the
   others. */
static int wss__accept_takes(const wss_server *server, const wss__loop *loop) {
    size_t loops = (size_t)server->loop_count;
    uint64_t turn = __atomic_load_n(&server->loops[0].shared.stats.wakeups, __ATOMIC_RELAXED);
    int held_up = __atomic_load_n(&loop->dealt, __ATOMIC_SEQ_CST) &&
                  __atomic_load_n(&loop->dealt_in, __ATOMIC_RELAXED) != turn;
    size_t share = (wss__accept_most(server) + loops - 1) / loops;
    return !held_up && __atomic_load_n(&loop->handshakes, __ATOMIC_SEQ_CST) < share;
}

/* Room for one more: a place, and a handshake of some loop. */
static int wss__accept_has_room(const wss_server *server) {
    int takes = 0;
    if (!wss__accept_places(server) || wss__conn_handshakes(server) >= wss__accept_most(server)) return 0;
    for (int i = 0; i < server->loop_count && !takes; i++) takes = wss__accept_takes(server, &server->loops[i]);
    return takes;
}

/* The same; and where there is none, who makes it will say so. Said once, so it is asked for again and again. */
static int wss__accept_ask_for_room(wss_server *server) {
    if (wss__accept_has_room(server)) return 1;
    __atomic_store_n(&server->full, 1, __ATOMIC_SEQ_CST);
    return wss__accept_has_room(server); /* it may have been made before anybody could know */
}

/* When a client has had its time for a request, the step in which it was accepted left out. */
static uint64_t wss__accept_head_end(uint32_t opened) {
    return ((uint64_t)opened + 1) * WSS__CONN_STEP + WSS__ACCEPT_HEAD;
}

/* Ends the oldest handshake of this loop whose request is not whole, if that was asked for, it had its time, no room
   has come without it, and the kernel has no more of it. */
static void wss__accept_end_oldest(wss__loop *loop) {
    uint32_t oldest = loop->lists[WSS__LIST_HEADS].first;
    if (!__atomic_load_n(&loop->room, __ATOMIC_ACQUIRE)) return;
    __atomic_store_n(&loop->room, 0, __ATOMIC_RELEASE);
    if (oldest == WSS__SLOT_NONE || !__atomic_load_n(&loop->server->full, __ATOMIC_SEQ_CST)) return;
    wss__conn *conn = wss__conn_at(loop->server, oldest);
    uint64_t end = wss__deadline_moment(loop, conn->since) + WSS__ACCEPT_HEAD;
    if (wss__accept_has_room(loop->server) || end > loop->time) return;
    wss__serve_now(loop, conn);
    if (conn->session.phase != WSS__SESSION_HEAD || conn->work & WSS__WORK_READABLE) return;
    wss__session_take_cork(&loop->shared, &conn->session);
    wss__notify_reject(loop, conn, WSS__HTTP_RULE_CROWDED, NULL);
    wss__serve_end_turn(loop, conn);
}

/* Somebody waits, and too many handshakes are under way: the oldest on all loops shall end, if it is old enough; of
   loops that have been asked and are held up, none. When to look again: what ends by itself is told. */
static uint64_t wss__accept_make_room(wss__loop *loop) {
    wss_server *server = loop->server;
    wss__loop *best = NULL;
    uint32_t oldest = UINT32_MAX;
    for (int i = 0; i < server->loop_count; i++) {
        uint32_t opened = __atomic_load_n(&server->loops[i].oldest, __ATOMIC_RELAXED);
        if (opened >= oldest || __atomic_load_n(&server->loops[i].room, __ATOMIC_ACQUIRE)) continue;
        best = &server->loops[i];
        oldest = opened;
    }
    if (!best) return loop->now + WSS__ACCEPT_HEAD;
    if (wss__accept_head_end(oldest) > loop->now) return wss__accept_head_end(oldest);
    __atomic_store_n(&best->room, 1, __ATOMIC_RELEASE);
    if (best != loop) wss__queue_signal(best->inbox.fd);
    return loop->now + WSS__CONN_RETRY;
}

/* Whether one more socket may be accepted. Else, where somebody waits, accepting rests until who makes room says so, or
   until accept_at. */
static int wss__accept_allowed(wss__loop *loop, int somebody) {
    wss_server *server = loop->server;
    if (wss__accept_has_room(server)) return 1;
    if (!somebody) return 0;
    if (wss__accept_ask_for_room(server)) return 1; /* first: whom it asks may look at once whether that is so */
    loop->accept_at = wss__accept_places(server) ? wss__accept_make_room(loop) : UINT64_MAX;
    loop->accept_backoff = 0;
    wss__accept_watch_listeners(loop, 0);
    return 0;
}

/* ---- dealing ---- */

/* Fills a place that was taken. WSS_OK, or why nobody shall have it. */
static int wss__accept_prepare(wss__loop *loop, wss__conn *conn, int fd, const wss__conn_peer *peer) {
    wss_server *server = loop->server;
    const wss_options *options = &server->options;
    memset((char *)conn + sizeof conn->slot, 0, sizeof *conn - sizeof conn->slot);
    conn->fd = fd;
    conn->opened = (uint32_t)(loop->now / WSS__CONN_STEP);
    conn->work = WSS__WORK_WRITABLE;
    if (wss__address_is_loopback(&peer->address)) conn->session.from |= WSS__SESSION_LOCAL;
    int trusted = wss__address_in(&peer->address, options->proxies);
    if (trusted) conn->session.from |= WSS__SESSION_TRUSTED;
    if (!wss__conn_set_peer(server, conn, peer)) return WSS_ERR_MEMORY;
    int result = trusted ? WSS_OK : wss__conn_limit(server, conn, &peer->address); /* whose it is, the request tells */
    int plain = !options->queue && options->idle_ms == WSS_OFF && options->max_message_rate == WSS_OFF;
    if (result || plain) return result;
    wss__conn_cold *cold = wss__conn_need_cold(server, conn);
    if (!cold) return WSS_ERR_MEMORY;
    if (!options->queue) return WSS_OK;
    cold->delivery = (wss__conn_delivery *)wss__mem_get_zeroed(&server->mem, sizeof *cold->delivery);
    if (!cold->delivery) return WSS_ERR_MEMORY;
    cold->delivery->holders = 1;
    return WSS_OK;
}

/* What was dealt goes nowhere. */
static void wss__accept_undo(wss__loop *loop, wss__conn *conn) {
    wss_server *server = loop->server;
    wss__conn_lock(server);
    wss__conn_address *address = wss__conn_leave_address(server, conn);
    wss__conn_unlock(server);
    wss__mem_free(&server->mem, address, sizeof *address);
    wss__socket_close(conn->fd);
    __atomic_sub_fetch(&loop->connections, 1, __ATOMIC_ACQ_REL);
    wss__conn_end_handshake(loop);
    wss__conn_release(server, conn);
}

/* Makes a place that was dealt to this loop a connection. */
static void wss__accept_adopt(wss__loop *loop, wss__conn *conn) {
    uint32_t events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | (uint32_t)EPOLLET;
    if (wss__socket_watch(loop->epoll, conn->fd, events, wss__conn_handle(conn).id) != 0) {
        wss__accept_undo(loop, conn);
        return;
    }
    conn->since = (uint32_t)loop->time;
    wss__deadline_touch(loop, conn);
    wss__deadline_note_message(loop, conn);
    wss__conn_lock(loop->server);
    wss__slot_set(&conn->slot, (uint64_t)loop->index << WSS__STAGE_LOOP_SHIFT, WSS__SLOT_OWNED);
    wss__conn_unlock(loop->server);
    wss__conn_link(loop, conn);
    wss__deadline_schedule(loop, conn, wss__deadline_of(loop, conn).at);
}

/* The same, for a place that another loop was told of. */
static void wss__accept_take_over(wss__loop *loop, wss__conn *conn) {
    wss__accept_adopt(loop, conn);
    if (__atomic_sub_fetch(&loop->dealt, 1, __ATOMIC_SEQ_CST) == 0) wss__conn_tell_acceptor(loop->server);
}

/* Tells another loop of its new place; false where there is no memory for that, or the loop stops. */
static int wss__accept_hand_over(wss__loop *loop, wss__conn *conn) {
    wss__mem *mem = &loop->server->mem;
    wss__conn_order *order = (wss__conn_order *)wss__mem_get_zeroed(mem, sizeof *order);
    if (!order) return 0;
    order->job.size = sizeof *order;
    order->job.kind = WSS__ORDER_ADOPT;
    order->place = conn;
    __atomic_store_n(&loop->dealt_in, loop->server->loops[0].shared.stats.wakeups, __ATOMIC_RELAXED);
    __atomic_add_fetch(&loop->dealt, 1, __ATOMIC_SEQ_CST);
    if (wss__queue_push(&loop->inbox, &order->job) == WSS_OK) return 1;
    __atomic_sub_fetch(&loop->dealt, 1, __ATOMIC_SEQ_CST);
    wss__mem_free(mem, order, sizeof *order);
    return 0;
}

/* The loop that was to have it cannot be told, or has begun to stop: it stays with this one, which can answer it. */
static void wss__accept_keep(wss__loop *loop, wss__loop *other, wss__conn *conn) {
    __atomic_sub_fetch(&other->connections, 1, __ATOMIC_ACQ_REL);
    __atomic_add_fetch(&loop->connections, 1, __ATOMIC_ACQ_REL);
    __atomic_sub_fetch(&other->handshakes, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&loop->handshakes, 1, __ATOMIC_SEQ_CST);
    wss__accept_adopt(loop, conn);
}

/* Of the loops that take another socket, the one with the fewest. There is one: room was seen, and only this thread
   takes it. */
static wss__loop *wss__accept_best(wss_server *server) {
    wss__loop *best = NULL;
    for (int i = 0; i < server->loop_count; i++) {
        wss__loop *other = &server->loops[i];
        if (!wss__accept_takes(server, other)) continue;
        if (!best || __atomic_load_n(&other->connections, __ATOMIC_ACQUIRE) <
                         __atomic_load_n(&best->connections, __ATOMIC_ACQUIRE))
            best = other;
    }
    return best ? best : &server->loops[0];
}

/* Gives a new socket a place, and that to a loop. Counted here, not where it arrives: a loop that is held up does not
   look idle. */
static void wss__accept_deal(wss__loop *loop, int fd, const wss__conn_peer *peer) {
    wss_server *server = loop->server;
    char address[WSS__ADDRESS_TEXT];
    wss__loop *best = wss__accept_best(server);
    wss__conn *conn = (wss__conn *)(void *)wss__slot_take(&server->conns);
    if (!conn) {
        WSS__COUNT(loop->shared.stats.accept_failures, 1);
        wss__socket_close(fd);
        return;
    }
    __atomic_add_fetch(&best->connections, 1, __ATOMIC_ACQ_REL);
    __atomic_add_fetch(&best->handshakes, 1, __ATOMIC_SEQ_CST);
    int result = wss__accept_prepare(loop, conn, fd, peer);
    if (result == WSS_ERR_FULL) {
        WSS__COUNT(loop->shared.stats.refused, 1);
        WSS__COUNT(loop->shared.stats.refused_cause[WSS_REFUSED_PER_ADDRESS], 1);
    }
    if (result)
        wss__log_line(&server->log, WSS_LOG_INFO, loop->now, "a client was closed unanswered, from %s: %s",
                      wss__address_text(&peer->address, address),
                      result == WSS_ERR_FULL ? "its address has options.max_per_address" : wss_strerror(result));
    if (result) wss__accept_undo(best, conn);
    else if (best == loop) wss__accept_adopt(loop, conn);
    else if (!wss__accept_hand_over(best, conn)) wss__accept_keep(loop, best, conn);
}

/* What a failed accept means: go on, wait for the next event, wait for the kernel, or never again. */
static int wss__accept_failed(wss__loop *loop, wss__socket_listener *listener) {
    if (errno == EAGAIN) return 0;
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        WSS__COUNT(loop->shared.stats.accept_failures, 1);
        loop->accept_backoff = loop->accept_backoff ? loop->accept_backoff * 2 : WSS__CONN_RETRY;
        if (loop->accept_backoff > WSS__ACCEPT_RETRY_MAX) loop->accept_backoff = WSS__ACCEPT_RETRY_MAX;
        loop->accept_at = loop->now + (uint64_t)loop->accept_backoff;
        wss__log_line(&loop->server->log, WSS_LOG_WARNING, loop->now, "cannot accept: error %d, next try in %d ms",
                      errno, loop->accept_backoff);
        wss__accept_watch_listeners(loop, 0);
        return 0;
    }
    if (errno != EBADF && errno != EINVAL && errno != ENOTSOCK && errno != EOPNOTSUPP) return 1;
    wss__log_line(&loop->server->log, WSS_LOG_ERROR, loop->now, "a listener failed for good: error %d", errno);
    wss__socket_unwatch(loop->epoll, listener->fd);
    wss__socket_close(listener->fd);
    listener->fd = -1;
    return 0;
}

/* One socket; false where no more are to be accepted now. */
static int wss__accept_one(wss__loop *loop, wss__socket_listener *listener) {
    wss__socket_address from;
    int fd = wss__socket_accept(listener->fd, &from);
    if (fd < 0) return wss__accept_failed(loop, listener);
    loop->accept_backoff = 0;
    WSS__COUNT(loop->shared.stats.accepted, 1);
    wss__conn_peer peer = wss__conn_peer_at(wss__socket_address_of(&from));
    if (peer.address.kind == WSS__ADDRESS_UNIX) wss__socket_credentials(fd, &peer.pid, &peer.uid, &peer.gid);
    wss__accept_deal(loop, fd, &peer);
    return 1;
}

static void wss__accept_all(wss__loop *loop, wss__socket_listener *listener) {
    int stopping = __atomic_load_n(&loop->server->stopping, __ATOMIC_ACQUIRE);
    for (int i = 0; i < WSS__ACCEPT_TURN && loop->accepting && !stopping; i++) {
        if (!wss__accept_allowed(loop, i == 0)) return; /* whether another waits, the next event tells */
        if (!wss__accept_one(loop, listener)) return;
    }
}

/* Who has connected already is answered: accepts what waits at the listeners (one more than the backlog: so the system
   counts), as far as there are places, and closes them. One that somebody else made may be his, and so is who waits
   there. */
static void wss__accept_last(wss__loop *loop) {
    wss__socket_listeners *all = &loop->server->listeners;
    for (int i = 0; i < all->count; i++) {
        int more = !all->list[i].adopted && !all->list[i].handed && all->list[i].fd >= 0;
        for (int n = 0; n <= WSS__SOCKET_BACKLOG && more && wss__accept_places(loop->server); n++)
            more = wss__accept_one(loop, &all->list[i]);
    }
    wss__accept_watch_listeners(loop, 0);
    wss__socket_close_listeners(all, 1);
}

/* ---- [loop] ------------------------------------------------------------------------------------------------
   purpose  one epoll set: turns, jobs from other threads, and the stop
   knows    base, mem, log, http, buf, timer, slot, session, queue, socket, event, conn, pause, deadline, notify,
            write, pressure, read, serve, deliver, accept
   owns     sockets are registered once, edge-triggered; a turn waits once and handles what came, what was
            posted, what is due and what was left over
   threads  the loop's own, except where a function says otherwise */

enum {
    WSS__LOOP_RECEIVE = (1024 + 64) * 1024,
    WSS__LOOP_EVENTS = 256,
    WSS__LOOP_SHARES = 8000,      /* microseconds that the handlers of all connections with work may take of a turn, */
    WSS__LOOP_SHARE_LEAST = 50,   /* and those of one */
    WSS__LOOP_SHARE_MOST = 1000,
    WSS__LOOP_STILL = 1000,       /* milliseconds by which a turn may be late, or long, before they are skipped */
    WSS__LOOP_RELEASE = 4,        /* connections that were held back and are read again in a turn */
    WSS__LOOP_SLOW = 100 /* milliseconds of a turn that are worth a line */
};

/* Tags in epoll, beside handles and listeners. */
enum { WSS__LOOP_TAG_INBOX = 0, WSS__LOOP_TAG_TIMER = 1 };

/* ---- jobs ---- */
static void wss__loop_run_timers(wss__loop *loop) {
    uint32_t number;
    while ((number = wss__timer_pop(&loop->wheel, loop->now)) != WSS__TIMER_NONE) {
        if (number & WSS__DELIVER_TIMER_BIT) wss__deliver_on_timer(loop, number & ~WSS__DELIVER_TIMER_BIT);
        else wss__serve_on_deadline(loop, wss__conn_at(loop->server, number));
    }
}

static void wss__loop_run_send(wss__loop *loop, wss__conn *conn, const wss__conn_order *order) {
    uint32_t units = (uint32_t)(wss__buf_charge(order->frame) / WSS__SESSION_UNIT);
    if (conn) __atomic_sub_fetch(&conn->session.coming, units, __ATOMIC_SEQ_CST);
    if (conn) wss__write_catch_up(loop, conn);
    if (conn && conn->session.phase == WSS__SESSION_OPEN) {
        wss__write_accepted(loop, conn, order->frame);
        return;
    }
    WSS__COUNT(loop->shared.stats.dropped_gone, 1);
    wss__buf_release(&loop->server->mem, order->frame);
}

/* Sets or clears what keeps a connection from being read. Meanwhile the kernel looks whether its host is there. */
static void wss__loop_set_reading(wss__loop *loop, wss__conn *conn, int bits, int set) {
    if (conn->session.phase == WSS__SESSION_CLOSING || !wss__conn_is_serving(conn)) return;
    if (set) conn->work = (uint16_t)(conn->work | bits);
    else wss__conn_clear_work(conn, bits);
    const wss_options *options = &loop->server->options;
    if (bits && options->ping_ms != WSS_OFF && options->pong_ms != WSS_OFF)
        wss__socket_keep_alive(conn->fd, set, options->ping_ms, options->pong_ms);
    wss__conn_make_ready(loop, conn);
}

/* Carries out an order. Its frame is taken over. */
static void wss__loop_run_order(wss__loop *loop, const wss__conn_order *order) {
    wss__conn *conn = wss__conn_find_own(loop, order->conn); /* NULL: it has gone, or the order is for none */
    if (conn) wss__write_answer(loop, conn);
    switch (order->job.kind) {
    case WSS__ORDER_SEND: wss__loop_run_send(loop, conn, order); break;
    case WSS__ORDER_BROADCAST: wss__write_broadcast(loop, order->frame, order->conn.id); break;
    case WSS__ORDER_CLOSE:
        if (!conn || !wss__conn_is_serving(conn)) break;
        wss__write_close(loop, conn, order->code, order->text, WSS_CAUSE_LOCAL_CLOSE);
        break;
    case WSS__ORDER_ANSWER: break; /* it was applied */
    case WSS__ORDER_ADOPT: wss__accept_take_over(loop, order->place); break;
    case WSS__ORDER_READ:
        if (conn) wss__loop_set_reading(loop, conn, order->bits, order->set);
        break;
    default: wss__deliver_change_timer(loop, order->conn.id, order->set); break;
    }
}

/* Less is undelivered: some of those that were held back are looked at again, and in the next turn others, as long as
   it is not too much. All at once would take the memory for all that they have to say. */
static void wss__loop_release_held(wss__loop *loop) {
    uint32_t first;
    for (int i = 0; i < WSS__LOOP_RELEASE && (first = loop->held_back.first) != WSS__SLOT_NONE; i++) {
        wss__conn *conn = wss__conn_at(loop->server, first);
        wss__pause_unhold(loop, conn);
        wss__conn_make_ready(loop, conn);
    }
    int some = loop->held_back.first != WSS__SLOT_NONE;
    if (some) wss__pause_await_less(loop, WSS__CONN_COMING);
    else __atomic_store_n(&loop->held, 0, __ATOMIC_SEQ_CST);
    if (some) wss__pause_note_less(loop->server, 0); /* it may be little enough already */
}

static void wss__loop_run_job(wss__loop *loop, wss__queue_job *job) {
    wss__conn *conn = NULL;
    switch (job->kind) {
    case WSS__QUEUE_POST: wss__queue_call(&loop->server->mem, job); return;
    case WSS__ORDER_LESS: wss__loop_release_held(loop); return;
    case WSS__ORDER_TOLD:
        conn = wss__conn_find_own(loop, ((wss__conn_notice *)(void *)job)->handle);
        if (conn && wss__conn_is_serving(conn)) wss__conn_make_ready(loop, conn);
        break;
    default: wss__loop_run_order(loop, (wss__conn_order *)(void *)job); break;
    }
    wss__mem_free(&loop->server->mem, job, job->size);
}

/* What the next job needs has been written by another processor: it is fetched while this one runs. */
static void wss__loop_expect(const wss__queue_job *job) {
    if (job && job->kind == WSS__ORDER_SEND) __builtin_prefetch(((const wss__conn_order *)(const void *)job)->frame, 1);
}

/* Runs what was there when it was asked, and what the loop has ordered behind it meanwhile: when this returns nothing
   of its own is on the way. What the jobs post waits for the next turn. */
static void wss__loop_run_jobs(wss__loop *loop, int close_it) {
    wss__queue_job *job;
    wss__queue_take(&loop->inbox, close_it);
    while ((job = wss__queue_next(&loop->inbox)) != NULL) {
        wss__loop_expect(loop->inbox.batch.first);
        wss__loop_run_job(loop, job);
    }
}

/* ---- stopping ---- */

/* The last words. A handshake is read once before, so that no byte that is left unread resets its answer; who has said
   nothing has one too. Where nothing waits before them they are written into the cork, and need no memory. */
static void wss__loop_stop_conn(wss__loop *loop, wss__conn *conn) {
    if (wss__conn_is_serving(conn) && conn->session.phase == WSS__SESSION_HEAD) wss__serve_now(loop, conn);
    if (!wss__conn_is_serving(conn)) return;
    wss__session_take_cork(&loop->shared, &conn->session);
    wss__conn_set_stage(loop->server, conn, WSS__STAGE_CLOSING);
    if (conn->session.phase == WSS__SESSION_OPEN) wss__serve_leave(loop, conn, WSS_CAUSE_STOPPING);
    if (conn->session.phase < WSS__SESSION_OPEN) wss__notify_reject(loop, conn, WSS__HTTP_RULE_STOPPING, NULL);
    wss__serve_end_turn(loop, conn);
}

/* The log's callback may answer requests meanwhile, and so move others to the end of the last list: who leaves his list
   takes the walk one further. Whoever is met twice has been dealt with. */
static void wss__loop_for_all(wss__loop *loop, void (*function)(wss__loop *loop, wss__conn *conn)) {
    wss__conn *conn;
    for (int list = 0; list < WSS__LIST_COUNT; list++) {
        loop->walk = loop->lists[list].first;
        while ((conn = wss__conn_walk(loop, &loop->walk)) != NULL) function(loop, conn);
    }
}

static void wss__loop_begin_stop(wss__loop *loop) {
    if (loop->index == 0) wss__accept_last(loop);
    wss__loop_run_jobs(loop, 1);
    loop->stopping = 1;
    wss__loop_for_all(loop, wss__loop_stop_conn);
}

/* Begins to spread a stop: who waits at a listener that was handed on is its new owner's. */
static void wss__loop_begin_spread(wss__loop *loop) {
    wss__conn *conn;
    loop->spreading = 1;
    loop->spread_from = loop->now;
    uint32_t at = loop->lists[WSS__LIST_OPEN].first;
    while ((conn = wss__conn_walk(loop, &at)) != NULL) loop->spread_count++;
    if (loop->index != 0 || !loop->accepting) return;
    wss__accept_watch_listeners(loop, 0);
    wss__accept_watch_listeners(loop, 1);
}

/* Nobody is in, and nobody has connected whose request is still to come or to be answered. */
static int wss__loop_is_left(const wss_server *server) {
    return !__atomic_load_n(&server->open, __ATOMIC_ACQUIRE) && !wss__conn_handshakes(server);
}

/* When the next of those whose closes are spread has its turn; at once, where nobody is left. */
static uint64_t wss__loop_spread_due(const wss__loop *loop) {
    uint64_t end = loop->stopping ? 0 : __atomic_load_n(&loop->server->spread_end, __ATOMIC_ACQUIRE);
    if (!end) return UINT64_MAX;
    if (loop->spreading && wss__loop_is_left(loop->server)) return loop->now;
    if (!loop->spreading || loop->spread_done >= loop->spread_count || end <= loop->spread_from) return end;
    return loop->spread_from + (end - loop->spread_from) * (loop->spread_done + 1) / (loop->spread_count + 1);
}

/* Closes those whose turn has come, the oldest first; then, or when nobody is left, the stop goes on. */
static void wss__loop_spread(wss__loop *loop) {
    uint64_t end = __atomic_load_n(&loop->server->spread_end, __ATOMIC_ACQUIRE);
    if (!end || loop->stopping) return;
    if (!loop->spreading) wss__loop_begin_spread(loop);
    uint32_t at = loop->lists[WSS__LIST_OPEN].first;
    while (loop->spread_done < loop->spread_count && wss__loop_spread_due(loop) <= loop->now) {
        wss__conn *conn = wss__conn_walk(loop, &at);
        if (!conn) loop->spread_done = loop->spread_count;
        else if (conn->session.phase == WSS__SESSION_OPEN) wss__loop_stop_conn(loop, conn);
        else continue;
        loop->spread_done++;
    }
    if (end > loop->now && !wss__loop_is_left(loop->server)) return;
    __atomic_store_n(&loop->server->stopping, 1, __ATOMIC_RELEASE);
    wss__conn_wake_all(loop->server);
}

static void wss__loop_cut_conn(wss__loop *loop, wss__conn *conn) {
    wss__notify_end(loop, conn, WSS_CAUSE_STOPPING, WSS__NOTIFY_RESET);
}

static uint64_t wss__loop_stop_at(const wss__loop *loop) {
    return loop->stopping ? __atomic_load_n(&loop->server->stop_at, __ATOMIC_ACQUIRE) : UINT64_MAX;
}

/* ---- turns ---- */

/* Gives each connection that has work its share of the turn; who has more, goes on in the next. When the turn is full
   the others are not read from, though what waits for them leaves: they come first in the next one, or who fills it
   each time would be the only one. */
static void wss__loop_run_ready(wss__loop *loop) {
    uint32_t first = loop->first_ready;
    uint32_t last_read = WSS__SLOT_NONE;
    wss__conn *conn;
    size_t share = loop->ready_count ? WSS__LOOP_SHARES / loop->ready_count : 0;
    loop->share_us = wss__base_min(wss__base_max(share, WSS__LOOP_SHARE_LEAST), WSS__LOOP_SHARE_MOST);
    loop->handed_out = 0;
    loop->full = 0;
    loop->ready_count = 0;
    loop->first_ready = WSS__SLOT_NONE;
    loop->last_ready = WSS__SLOT_NONE;
    while ((conn = wss__conn_take_ready(loop, &first)) != NULL) {
        int was_full = loop->full;
        if (wss__conn_state(conn) == WSS__STATE_DEAD) wss__serve_free(loop, conn);
        else wss__serve_turn(loop, conn);
        if (loop->full && !was_full) last_read = loop->last_ready;
    }
    if (last_read != WSS__SLOT_NONE) wss__conn_prefer_behind(loop, last_read);
}

/* Frees what has died in this turn: nobody waits for the next to see a socket closed. */
static void wss__loop_free_dead(wss__loop *loop) {
    uint32_t first = loop->first_ready;
    wss__conn *conn;
    loop->ready_count = 0;
    loop->first_ready = WSS__SLOT_NONE;
    loop->last_ready = WSS__SLOT_NONE;
    while ((conn = wss__conn_take_ready(loop, &first)) != NULL) {
        if (wss__conn_state(conn) == WSS__STATE_DEAD) wss__serve_free(loop, conn);
        else wss__conn_make_ready(loop, conn);
    }
}

/* Begins to accept again: when its time has come, or there is room and no failure to wait for. */
static void wss__loop_rearm(wss__loop *loop) {
    if (loop->index != 0 || loop->accepting || loop->stopping) return;
    int room = wss__accept_ask_for_room(loop->server); /* a place alone lets whoever waits make room for itself */
    if (loop->accept_at == UINT64_MAX) room |= wss__accept_places(loop->server);
    if (loop->accept_at > loop->now && (loop->accept_backoff || !room)) return;
    wss__accept_watch_listeners(loop, 1);
}

/* Moment at which something must be done although nothing comes. */
static uint64_t wss__loop_due(const wss__loop *loop) {
    uint64_t due = wss__deadline_earlier(wss__timer_next(&loop->wheel), wss__loop_stop_at(loop));
    due = wss__deadline_earlier(due, wss__loop_spread_due(loop));
    due = wss__deadline_earlier(due, wss__pressure_due(loop));
    if (loop->index == 0 && !loop->accepting && !loop->stopping) due = wss__deadline_earlier(due, loop->accept_at);
    uint64_t tell_at = __atomic_load_n(&loop->server->log.tell_at, __ATOMIC_RELAXED);
    if (tell_at) due = wss__deadline_earlier(due, tell_at);
    return loop->first_ready != WSS__SLOT_NONE ? loop->now : due;
}

/* Milliseconds from a moment until then; -1: never. */
static int wss__loop_left(const wss__loop *loop, uint64_t from) {
    uint64_t due = wss__loop_due(loop);
    if (due == UINT64_MAX) return -1;
    return due <= from ? 0 : (int)wss__deadline_earlier(due - from, INT_MAX);
}

static int wss__loop_timeout(const wss__loop *loop, int milliseconds) {
    int left = wss__loop_left(loop, loop->turned);
    return left >= 0 && (milliseconds < 0 || left < milliseconds) ? left : milliseconds;
}

/* Keeps the descriptor of wss_fd readable while there is work that no socket announces. */
static void wss__loop_arm_timer(wss__loop *loop) {
    struct itimerspec when;
    if (loop->timer_fd < 0) return;
    memset(&when, 0, sizeof when);
    int left = wss__loop_left(loop, wss__socket_clock());
    if (left > 0) when.it_value.tv_sec = left / 1000;
    if (left >= 0) when.it_value.tv_nsec = left ? (long)(left % 1000) * 1000000 : 1;
    WSSERVER_SYSTEM(timerfd_settime)(loop->timer_fd, 0, &when, NULL);
}

/* The inbox needs nothing: its jobs have run at the beginning of the turn. */
static void wss__loop_on_event(wss__loop *loop, uint64_t tag, uint32_t events) {
    if (tag >> WSS__SLOT_INDEX_BITS) {
        wss_conn handle;
        handle.id = tag;
        wss__conn *conn = wss__conn_find_own(loop, handle);
        if (conn) wss__serve_on_socket(loop, conn, events);
    } else if (tag >= WSS__ACCEPT_TAG) {
        wss__accept_all(loop, &loop->server->listeners.list[tag - WSS__ACCEPT_TAG]);
    }
}

/* Sleeps in the kernel; before that, if the user wants it, asks again and again for a while. One of several
   loops lets others have the processor first: it then finds more to do, where it would have gone to sleep for
   each bit of it. */
static int wss__loop_wait(wss__loop *loop, struct epoll_event *events, int timeout) {
    int spin = loop->server->options.spin_us;
    uint64_t until = spin > 0 && timeout != 0 ? wss__socket_clock_us() + (uint64_t)spin : 0;
    int count = 0;
    while (until && count == 0 && wss__socket_clock_us() < until)
        count = WSSERVER_SYSTEM(epoll_wait)(loop->epoll, events, WSS__LOOP_EVENTS, 0);
    if (count == 0 && timeout != 0 && loop->server->loop_count > 1) WSSERVER_SYSTEM(sched_yield)();
    if (count == 0) count = WSSERVER_SYSTEM(epoll_wait)(loop->epoll, events, WSS__LOOP_EVENTS, timeout);
    WSS__COUNT(loop->shared.stats.wakeups, 1);
    return count;
}

/* Leaves out milliseconds that cannot be held against any peer. */
static void wss__loop_skip(wss__loop *loop, uint64_t took, uint64_t expected) {
    if (took <= expected + WSS__LOOP_STILL) return;
    __atomic_store_n(&loop->skipped, loop->skipped + (took - expected - WSS__LOOP_STILL), __ATOMIC_RELAXED);
}

/* The program did something else between two turns; who watches wss_fd waited, as long as there was nothing to do. */
static void wss__loop_note_gap(wss__loop *loop) {
    uint64_t now = wss__socket_clock();
    int expected = loop->timer_fd >= 0 ? wss__loop_left(loop, loop->turned) : 0;
    if (expected >= 0) wss__loop_skip(loop, now - loop->turned, (uint64_t)expected);
    loop->turned = now;
}

/* Reads the clock, after at most so many milliseconds of waiting; -1: any number. What has passed beyond them, the
   process stood still. */
static void wss__loop_read_clock(wss__loop *loop, int timeout) {
    loop->now = wss__socket_clock();
    if (timeout >= 0) wss__loop_skip(loop, loop->now - loop->turned, (uint64_t)timeout);
    loop->time = loop->now - loop->skipped;
}

/* How long the others waited for this turn to end. */
static void wss__loop_measure(wss__loop *loop) {
    static const int longest[] = {1, 4, 16, 64, 256};
    size_t kind = 0;
    loop->turned = wss__socket_clock();
    uint64_t lag = loop->turned - loop->now;
    while (kind < sizeof longest / sizeof longest[0] && lag > (uint64_t)longest[kind]) kind++;
    WSS__COUNT(loop->shared.stats.turns[kind], 1);
    wss__loop_skip(loop, lag, 0);
    if (lag > loop->shared.stats.loop_lag_ms) __atomic_store_n(&loop->shared.stats.loop_lag_ms, lag, __ATOMIC_RELAXED);
    if (lag >= WSS__LOOP_SLOW)
        wss__log_line(&loop->server->log, WSS_LOG_DEBUG, loop->now,
                      "a turn took %llu ms: a handler is slow, and all connections waited", (unsigned long long)lag);
}

/* One turn: wait, then handle what came, what was posted, what is due and what was left over. */
static void wss__loop_turn(wss__loop *loop, int milliseconds) {
    struct epoll_event events[WSS__LOOP_EVENTS];
    wss__event_place place;
    int timeout = wss__loop_timeout(loop, milliseconds);
    int count = wss__loop_wait(loop, events, timeout);
    wss__event_enter(&place, loop->server, loop);
    wss__loop_read_clock(loop, timeout);
    if (count < 0 && errno != EINTR) {
        loop->failed = errno;
        wss__conn_stop(loop->server, 0);
    }
    /* before any handler: what this thread sent before wss_poll goes before what they send */
    wss__loop_run_jobs(loop, 0);
    for (int i = 0; i < count; i++) wss__loop_on_event(loop, events[i].data.u64, events[i].events);
    wss__loop_spread(loop);
    if (!loop->stopping && __atomic_load_n(&loop->server->stopping, __ATOMIC_ACQUIRE)) wss__loop_begin_stop(loop);
    wss__loop_run_timers(loop);
    wss__loop_run_ready(loop);
    wss__pressure_relieve(loop);
    if (wss__loop_stop_at(loop) <= loop->now) wss__loop_for_all(loop, wss__loop_cut_conn);
    wss__accept_end_oldest(loop);
    wss__write_give_broadcasts(loop);
    wss__loop_free_dead(loop);
    wss__loop_measure(loop);
    wss__log_settle(&loop->server->log, loop->now);
    wss__write_give_broadcasts(loop); /* the log may broadcast */
    wss__loop_rearm(loop);
    loop->finished = loop->stopping;
    for (int list = 0; list < WSS__LIST_COUNT; list++)
        if (loop->lists[list].first != WSS__SLOT_NONE) loop->finished = 0;
    wss__loop_arm_timer(loop);
    wss__event_leave(&place);
}

static int wss__loop_init(wss__loop *loop, wss_server *server, int index) {
    memset(loop, 0, sizeof *loop);
    loop->server = server;
    loop->index = index;
    loop->timer_fd = -1;
    loop->first_ready = WSS__SLOT_NONE;
    loop->last_ready = WSS__SLOT_NONE;
    memset(loop->lists, 0xff, sizeof loop->lists); /* none */
    memset(loop->heavy, 0xff, sizeof loop->heavy);
    loop->walk = WSS__SLOT_NONE;
    memset(&loop->held_back, 0xff, sizeof loop->held_back);
    loop->oldest = UINT32_MAX;
    loop->receive_size = WSS__LOOP_RECEIVE;
    loop->shared.mem = &server->mem;
    loop->shared.options = &server->options;
    loop->shared.cork_capacity = WSS__WRITE_CORK;
    wss__loop_read_clock(loop, -1);
    wss__timer_init(&loop->wheel, wss__deliver_timer_at, server, loop->now);
    loop->epoll = WSSERVER_SYSTEM(epoll_create1)(EPOLL_CLOEXEC);
    loop->inbox.fd = -1;
    if (loop->epoll < 0 || !wss__queue_init(&loop->inbox, &server->options)) return WSS_ERR_SYSTEM;
    if (wss__socket_watch(loop->epoll, loop->inbox.fd, EPOLLIN | (uint32_t)EPOLLET, WSS__LOOP_TAG_INBOX) != 0)
        return WSS_ERR_SYSTEM;
    loop->receive = (char *)wss__mem_get(&server->mem, loop->receive_size);
    loop->shared.cork = (char *)wss__mem_get(&server->mem, loop->shared.cork_capacity);
    return loop->receive && loop->shared.cork ? WSS_OK : WSS_ERR_MEMORY;
}

/* Drops an order that will never be carried out. */
static void wss__loop_drop_order(wss__loop *loop, wss__conn_order *order) {
    wss__mem *mem = &loop->server->mem;
    if (order->frame) wss__buf_release(mem, order->frame);
    if (order->job.kind == WSS__ORDER_ADOPT) wss__accept_undo(loop, order->place);
    wss__mem_free(mem, order, order->job.size);
}

/* Posts that no turn has run are run here. */
static void wss__loop_drop_job(wss__loop *loop, wss__queue_job *job) {
    wss__mem *mem = &loop->server->mem;
    if (job->kind == WSS__QUEUE_POST) wss__queue_call(mem, job);
    else if (job->kind == WSS__ORDER_TOLD) wss__mem_free(mem, job, job->size);
    else if (job->kind != WSS__ORDER_LESS) wss__loop_drop_order(loop, (wss__conn_order *)(void *)job);
}

static void wss__loop_destroy(wss__loop *loop) {
    wss__mem *mem = &loop->server->mem;
    wss__queue_job *job;
    if (loop->inbox.fd >= 0) wss__queue_take(&loop->inbox, 1);
    while ((job = wss__queue_next(&loop->inbox)) != NULL) wss__loop_drop_job(loop, job);
    wss__queue_destroy(&loop->inbox);
    if (loop->timer_fd >= 0) wss__socket_close(loop->timer_fd);
    if (loop->epoll >= 0) wss__socket_close(loop->epoll);
    if (loop->receive) wss__mem_free(mem, loop->receive, loop->receive_size);
    if (loop->shared.cork) wss__mem_free(mem, loop->shared.cork, loop->shared.cork_capacity);
}

/* ---- [send] ------------------------------------------------------------------------------------------------
   purpose  orders and messages to connections: checked, then carried out here or handed to the loop they belong to
   knows    all
   owns     nothing is queued by a call that fails; no handler runs in any of them
   threads  any */

static int wss__send_is_stopping(const wss_server *server) {
    return __atomic_load_n(&server->stopping, __ATOMIC_ACQUIRE);
}

static void wss__send_make_order(wss__conn_order *order, int kind, wss_conn conn) {
    memset(order, 0, sizeof *order);
    order->job.kind = kind;
    order->conn = conn;
}

/* An order that can wait for another thread. cost: in the limits of what may wait. */
static wss__conn_order *wss__send_copy(wss_server *server, const wss__conn_order *order, size_t cost) {
    size_t size = wss__base_add(sizeof *order, order->text.size);
    wss__conn_order *copy = (wss__conn_order *)wss__mem_get(&server->mem, size);
    if (!copy) return NULL;
    *copy = *order;
    copy->job.size = size;
    copy->job.cost = cost;
    if (order->text.size) memcpy(copy + 1, order->text.data, order->text.size);
    copy->text.data = (const char *)(copy + 1);
    return copy;
}

/* The connection until its disconnect handlers have run; under the mutex. */
static wss__conn *wss__send_find(const wss_server *server, wss_conn handle) {
    wss__conn *conn = wss__conn_find(server, handle);
    return conn && wss__conn_stage(conn) != WSS__STAGE_TOLD ? conn : NULL;
}

/* The connection, if this thread may act on it at once: its loop may, unless orders of the batch in hand are left,
   behind which this has to go. Another thread's answer to its request is carried out before, if there is one. */
static wss__conn *wss__send_find_here(wss__loop *loop, wss_conn handle) {
    wss__conn *conn = loop && !loop->inbox.left ? wss__conn_find_own(loop, handle) : NULL;
    if (conn) wss__write_answer(loop, conn);
    return conn;
}

/* Whether a connection takes an order now; under the mutex. here: by its own loop, which must have seen that
   it is open. */
static int wss__send_check_order(const wss__conn *conn, const wss__conn_order *order, int here) {
    int stage = conn ? wss__conn_stage(conn) : WSS__STAGE_TOLD;
    if (stage >= WSS__STAGE_CLOSING) return WSS_ERR_GONE;
    if (order->job.kind != WSS__ORDER_ANSWER) {
        int open = !here || conn->session.phase == WSS__SESSION_OPEN;
        return open && stage >= WSS__STAGE_ACCEPTED ? WSS_OK : WSS_ERR_GONE;
    }
    if (stage != WSS__STAGE_ASKED) return WSS_ERR_ANSWERED;
    return !wss__conn_cold_of(conn)->request->upgrade == !order->reply->upgrade ? WSS_OK : WSS_ERR_ARGUMENT;
}

/* What an order changes at once, for whatever is asked or ordered next; under the mutex. */
static void wss__send_admit(wss__conn *conn, const wss__conn_order *order) {
    if (order->job.kind == WSS__ORDER_CLOSE) wss__conn_raise(conn, WSS__STAGE_SILENT);
    if (order->job.kind != WSS__ORDER_ANSWER) return;
    const wss__conn_reply *reply = order->reply;
    int accepted = reply->status == 101;
    if (accepted) __atomic_store_n(&conn->user, reply->user, __ATOMIC_RELEASE);
    wss__conn_cold *cold = wss__conn_cold_of(conn);
    cold->protocol = (char *)(uintptr_t)reply->protocol.data;
    cold->protocol_size = reply->protocol.size;
    cold->request->answer = reply->frame;
    cold->request->status = reply->status;
    wss__conn_raise(conn, accepted ? WSS__STAGE_ACCEPTED : WSS__STAGE_ANSWERED);
}

/* Pausing, timers and answers count where they have to wait; what ends something comes once, and never waits. */
static size_t wss__send_cost(const wss__conn_order *order) {
    int ends = order->job.kind == WSS__ORDER_CLOSE || (order->job.kind == WSS__ORDER_TIMER && !order->set);
    return ends ? 0 : sizeof *order;
}

/* The one way to order: where this thread is the loop that has to carry it out it does so now, else a copy
   goes there, behind what this thread has ordered before. Timers belong to the first loop. Takes the order's
   frame over. */
static int wss__send_do(wss_server *server, const wss__conn_order *order) {
    int timer = order->job.kind == WSS__ORDER_TIMER;
    wss__loop *own = wss__conn_own_loop(server);
    wss__loop *loop = &server->loops[0];
    int here = timer ? own == loop : wss__send_find_here(own, order->conn) != NULL;
    wss__conn_order *copy = here ? NULL : wss__send_copy(server, order, wss__send_cost(order));
    int result = here || copy ? WSS_OK : wss__mem_error(&server->mem, sizeof *copy + order->text.size);
    wss__conn_lock(server);
    wss__conn *conn = timer ? NULL : wss__conn_find(server, order->conn);
    if (!result && !timer) result = wss__send_check_order(conn, order, here);
    if (!result && conn) loop = wss__conn_loop_of(server, conn);
    wss__queue_inbox *inbox = !result && copy ? &loop->inbox : NULL;
    if (inbox) result = wss__conn_put(loop, copy, NULL);
    if (!result && conn) wss__send_admit(conn, order);
    wss__conn_unlock(server);
    if (inbox) wss__queue_finish(&inbox, 1);
    if (!result && here) wss__loop_run_order(own, order);
    if (result == WSS_ERR_GONE) wss__conn_misused(server, "order to a dead handle", order->conn.id);
    if (result) wss__buf_release(&server->mem, order->frame);
    if (result && copy) wss__mem_free(&server->mem, copy, copy->job.size);
    return result;
}

/* Whether another thread's message is refused: too much of its kind is on its way already, or too much waits, if that
   is not for the loop to judge, which can offer it to the kernel. One with a key may take the place of what waits. */
static int wss__send_is_full(const wss_server *server, const wss__conn *conn, int keyed) {
    size_t most = server->options.max_queued;
    size_t coming = wss__session_coming(&conn->session);
    size_t queued = wss__session_queued(&conn->session);
    if (coming && coming >= most) return 1;
    if (server->options.send_policy == WSS_POLICY_CLOSE) return 0;
    if (keyed) return queued + coming && (queued + coming) / 2 >= most;
    return queued && queued >= most;
}

/* The same; and where it is refused, its loop will tell when to try again. Looked at once more when that is known: what
   made it full may be gone already. */
static int wss__send_refuses(const wss_server *server, wss__conn *conn, int keyed) {
    if (!wss__send_is_full(server, conn, keyed)) return 0;
    __atomic_or_fetch(&conn->session.coming, WSS__SESSION_OWED, __ATOMIC_SEQ_CST);
    return wss__send_is_full(server, conn, keyed);
}

/* Judges the limit, then hands the frame to the connection's loop; both under the mutex. */
static int wss__send_elsewhere(wss_server *server, wss_conn handle, const wss__message *message) {
    wss__conn_order order;
    wss__queue_inbox *inbox = NULL;
    wss__send_make_order(&order, WSS__ORDER_SEND, handle);
    order.frame = wss__message_frame(&server->mem, message);
    wss__conn_order *copy = order.frame ? wss__send_copy(server, &order, sizeof order + order.frame->size) : NULL;
    if (!copy) {
        wss__buf_release(&server->mem, order.frame);
        return wss__mem_error(&server->mem, message->size);
    }
    wss__conn_lock(server);
    wss__conn *conn = wss__conn_find(server, handle);
    int result = wss__send_check_order(conn, copy, 0);
    if (!result && wss__send_refuses(server, conn, message->key.size != 0)) result = WSS_ERR_FULL;
    if (!result) {
        wss__loop *loop = wss__conn_loop_of(server, conn);
        inbox = &loop->inbox;
        result = wss__conn_put(loop, copy, &conn->session.coming);
    }
    wss__conn_unlock(server);
    if (inbox) wss__queue_finish(&inbox, 1);
    if (result) wss__loop_drop_order(server->loops, copy);
    if (result == WSS_ERR_FULL) __atomic_add_fetch(&server->refused_full, 1, __ATOMIC_RELAXED);
    return result;
}

static int wss__send_here(wss__loop *loop, wss__conn *conn, const wss__message *message) {
    if (wss__conn_stage(conn) >= WSS__STAGE_CLOSING) return WSS_ERR_GONE;
    int result = wss__write_message(loop, conn, message);
    return result == WSS_ERR_MEMORY ? wss__mem_error(&loop->server->mem, message->size) : result;
}

/* Hands a frame to every loop, or to none: all the memory is got before, and all inboxes are asked together. This
   thread's own loop gets it at once, unless orders wait behind which it has to go. */
static int wss__send_spread(wss_server *server, wss__buf_frame *frame, wss_conn except) {
    wss__queue_inbox *inboxes[WSS__QUEUE_INBOXES];
    wss__loop *own = wss__conn_own_loop(server);
    wss__loop *here = own && !own->inbox.left ? own : NULL;
    wss__queue_job *copies = NULL;
    wss__conn_order order;
    int count = 0;
    int result = WSS_OK;
    wss__send_make_order(&order, WSS__ORDER_BROADCAST, except);
    order.frame = frame;
    for (int i = 0; i < server->loop_count && !result; i++) {
        if (here == &server->loops[i]) continue;
        wss__conn_order *copy = wss__send_copy(server, &order, sizeof order + frame->size);
        if (!copy) result = wss__mem_error(&server->mem, sizeof *copy);
        if (!copy) break;
        wss__buf_retain(frame);
        inboxes[count++] = &server->loops[i].inbox;
        copy->job.next[WSS__QUEUE_ALL] = copies;
        copies = &copy->job;
    }
    if (!result) {
        result = wss__queue_put(inboxes, copies, count, own ? &own->inbox : NULL, NULL, 0);
        wss__queue_finish(inboxes, count);
    }
    while (result && copies) {
        wss__conn_order *copy = (wss__conn_order *)(void *)copies;
        copies = copies->next[WSS__QUEUE_ALL];
        wss__loop_drop_order(server->loops, copy);
    }
    if (result || !here) return result;
    wss__buf_retain(frame);
    wss__write_broadcast(here, frame, except.id);
    return WSS_OK;
}

static int wss__send_broadcast(wss_server *server, const wss__message *message, wss_conn except) {
    wss__buf_frame *frame = wss__message_frame(&server->mem, message);
    if (!frame) return wss__mem_error(&server->mem, message->size);
    frame->shared = 1;
    int result = wss__send_spread(server, frame, except);
    wss__buf_release(&server->mem, frame);
    return result;
}

static wss_conn wss__send_none(void) {
    wss_conn none;
    none.id = 0;
    return none;
}

/* Sends to one connection, or to all but that one. */
static int wss__send_message(wss_server *server, wss_conn handle, int all, const wss__message *message) {
    if (wss__send_is_stopping(server)) return WSS_ERR_STOPPED;
    if (message->size > wss__mem_largest(&server->mem)) return WSS_ERR_TOO_BIG;
    if (all) return wss__send_broadcast(server, message, handle);
    wss__loop *loop = wss__conn_own_loop(server);
    wss__conn *conn = wss__send_find_here(loop, handle);
    int result = conn ? wss__send_here(loop, conn, message)
                      : wss__send_elsewhere(server, handle, message);
    if (result == WSS_ERR_GONE) wss__conn_misused(server, "send to a dead handle", handle.id);
    return result;
}

/* key: NULL without one. */
static int wss__send_typed(wss_server *server, wss_conn conn, int all, const char *key, const char *type,
                                  wss_args args) {
    wss__message message;
    wss__span span = wss__base_text(key);
    if (!server || (key && (!span.size || span.size > 64))) return WSS_ERR_ARGUMENT;
    int result = wss__message_init_typed(&message, &server->options, type, args);
    message.key = span;
    message.key_hash = (uint32_t)(wss__base_hash(span, server->seed) >> 32);
    if (!message.key_hash) message.key_hash = 1;
    return result ? result : wss__send_message(server, conn, all, &message);
}

static int wss__send_plain(wss_server *server, wss_conn conn, int all, int opcode, const void *data,
                                  size_t size) {
    wss__message message;
    if (!server) return WSS_ERR_ARGUMENT;
    wss__loop *loop = wss__conn_own_loop(server);
    int checked = loop && wss__session_is_checked(&loop->shared, data, size);
    int result = wss__message_init_data(&message, opcode, data, size, checked);
    return result ? result : wss__send_message(server, conn, all, &message);
}

WSSERVER_API int wss_send(wss_server *server, wss_conn conn, const char *type, wss_args args) {
    return wss__send_typed(server, conn, 0, NULL, type, args);
}

WSSERVER_API int wss_send_data(wss_server *server, wss_conn conn, int opcode, const void *data, size_t size) {
    wss__loop *loop = server ? wss__conn_own_loop(server) : NULL;
    int direct = loop && !loop->inbox.left && !wss__send_is_stopping(server);
    if (direct && wss__write_back(loop, conn, opcode, data, size)) return WSS_OK;
    return wss__send_plain(server, conn, 0, opcode, data, size);
}

WSSERVER_API int wss_send_latest(wss_server *server, wss_conn conn, const char *key, const char *type, wss_args args) {
    return wss__send_typed(server, conn, 0, key ? key : "", type, args);
}

WSSERVER_API int wss_broadcast(wss_server *server, const char *type, wss_args args) {
    return wss__send_typed(server, wss__send_none(), 1, NULL, type, args);
}

WSSERVER_API int wss_broadcast_except(wss_server *server, wss_conn except, const char *type, wss_args args) {
    return wss__send_typed(server, except, 1, NULL, type, args);
}

WSSERVER_API int wss_broadcast_data_except(wss_server *server, wss_conn except, int opcode, const void *data,
                                           size_t size) {
    return wss__send_plain(server, except, 1, opcode, data, size);
}

WSSERVER_API int wss_broadcast_data(wss_server *server, int opcode, const void *data, size_t size) {
    return wss__send_plain(server, wss__send_none(), 1, opcode, data, size);
}

WSSERVER_API int wss_broadcast_latest(wss_server *server, const char *key, const char *type, wss_args args) {
    return wss__send_typed(server, wss__send_none(), 1, key ? key : "", type, args);
}

/* ---- [public] ----------------------------------------------------------------------------------------------
   purpose  the calls about connections, requests and work
   knows    all
   owns     no handler runs in any of them
   threads  any */

/* ---- connections ---- */

WSSERVER_API int wss_close(wss_server *server, wss_conn handle, int code, const char *reason) {
    wss__span text = wss__base_text(reason);
    if (!server || !wss__frame_code_valid(code) || text.size > WSS__FRAME_CONTROL_MAX - 2) return WSS_ERR_ARGUMENT;
    if (wss__utf8_check(0, text.data, text.size) != 0) return WSS_ERR_UTF8;
    wss__conn_order order;
    wss__send_make_order(&order, WSS__ORDER_CLOSE, handle);
    order.code = code;
    order.text = text;
    return wss__send_do(server, &order);
}

WSSERVER_API size_t wss_count(const wss_server *server) {
    return server ? __atomic_load_n(&server->open, __ATOMIC_ACQUIRE) : 0;
}

/* What the broadcasts cost that this connection is given when the turn of its loop ends. Another thread cannot see
   which it has been given already: it is told all of them. */
static size_t wss__public_broadcasts(const wss_server *server, const wss__conn *conn) {
    const wss__loop *loop = wss__conn_loop_of(server, conn);
    const wss__session_broadcasts *broadcasts = &loop->shared.broadcasts;
    if (loop == wss__conn_own_loop(server)) {
        if (!wss__session_is_receiver(&conn->session)) return 0;
        uint32_t first = wss__session_first_missing(&loop->shared, &conn->session);
        return wss__buf_gathered(wss__session_missing(&loop->shared, &conn->session), broadcasts->count - first);
    }
    if (wss__conn_stage(conn) != WSS__STAGE_OPEN) return 0;
    return wss__buf_gathered(__atomic_load_n(&broadcasts->size, __ATOMIC_RELAXED),
                             __atomic_load_n(&broadcasts->count, __ATOMIC_RELAXED));
}

/* What its own turn has gathered for a connection only its own loop can see. The account of one whose socket is closed
   is nobody's any more. */
static size_t wss__public_waiting(const wss_server *server, const wss__conn *conn) {
    if ((wss__slot_word(&conn->slot) & WSS__SLOT_STATE) != WSS__SLOT_OWNED) return 0;
    const wss__loop *loop = wss__conn_own_loop(server);
    size_t gathered = loop && loop->shared.corked == &conn->session ? loop->shared.cork_cost : 0;
    size_t queued = wss__session_queued(&conn->session) + wss__session_coming(&conn->session);
    return queued + wss__public_broadcasts(server, conn) + gathered;
}

WSSERVER_API size_t wss_buffered(const wss_server *server, wss_conn handle) {
    size_t queued = 0;
    if (!server) return 0;
    wss__conn_lock(server);
    wss__conn *conn = wss__send_find(server, handle);
    if (conn) queued = wss__public_waiting(server, conn);
    wss__conn_unlock(server);
    return queued;
}

WSSERVER_API int wss_set_user(wss_server *server, wss_conn handle, void *user) {
    if (!server) return WSS_ERR_ARGUMENT;
    wss__conn_lock(server);
    wss__conn *conn = wss__send_find(server, handle);
    int owned = conn && wss__conn_stage(conn) >= WSS__STAGE_ACCEPTED; /* before, wss_accept would write over it */
    if (owned) __atomic_store_n(&conn->user, user, __ATOMIC_RELEASE);
    wss__conn_unlock(server);
    return owned ? WSS_OK : WSS_ERR_GONE;
}

static int wss__public_set_paused(wss_server *server, wss_conn handle, int paused) {
    wss__conn_order order;
    if (!server) return WSS_ERR_ARGUMENT;
    wss__send_make_order(&order, WSS__ORDER_READ, handle);
    order.bits = WSS__WORK_PAUSED;
    order.set = paused;
    return wss__send_do(server, &order);
}

WSSERVER_API int wss_pause(wss_server *server, wss_conn conn) {
    return wss__public_set_paused(server, conn, 1);
}

WSSERVER_API int wss_resume(wss_server *server, wss_conn conn) {
    return wss__public_set_paused(server, conn, 0);
}

WSSERVER_API wss_conn wss_next(const wss_server *server, wss_conn conn) {
    wss_conn next = wss__send_none();
    if (!server) return next;
    wss__conn_lock(server);
    uint32_t index = wss__slot_skip(&server->conns, conn.id ? wss__slot_index(conn.id) + 1 : 0);
    for (; index < server->conns.made && !next.id; index = wss__slot_skip(&server->conns, index + 1))
        if (wss__conn_stage(wss__conn_at(server, index)) == WSS__STAGE_OPEN)
            next = wss__conn_handle(wss__conn_at(server, index));
    wss__conn_unlock(server);
    return next;
}

static void wss__public_copy_text(char *out, size_t size, const char *text, size_t length) {
    size_t kept = wss__base_min(length, size - 1);
    if (kept) memcpy(out, text, kept);
    out[kept] = 0;
}

static void wss__public_fill_info(wss_server *server, const wss__conn *conn, uint64_t now, wss_info *info) {
    const wss__conn_cold *cold = wss__conn_cold_of(conn);
    int round_trip = __atomic_load_n(&conn->round_trip, __ATOMIC_RELAXED);
    wss__conn_peer peer = wss__conn_peer_of(conn);
    info->conn = wss__conn_handle(conn);
    wss__address_text(&peer.address, info->address);
    info->port = peer.address.port;
    info->pid = peer.pid;
    info->uid = peer.uid;
    info->gid = peer.gid;
    info->path[0] = '/';
    if (cold && cold->path) wss__public_copy_text(info->path, sizeof info->path, cold->path, cold->path_size);
    if (cold) wss__public_copy_text(info->protocol, sizeof info->protocol, cold->protocol, cold->protocol_size);
    info->age_ms = now - (uint64_t)conn->opened * WSS__CONN_STEP;
    uint64_t skipped = __atomic_load_n(&wss__conn_loop_of(server, conn)->skipped, __ATOMIC_RELAXED);
    info->silent_ms = wss__deadline_ago(now - skipped, __atomic_load_n(&conn->session.seen, __ATOMIC_RELAXED));
    info->bytes_in = __atomic_load_n(&conn->bytes_in, __ATOMIC_RELAXED);
    info->bytes_out = __atomic_load_n(&conn->bytes_out, __ATOMIC_RELAXED);
    info->buffered = wss__public_waiting(server, conn);
    info->round_trip_ms = round_trip - 1;
}

WSSERVER_API int wss_get_info(wss_server *server, wss_conn handle, wss_info *info) {
    if (!server || !info) return WSS_ERR_ARGUMENT;
    memset(info, 0, sizeof *info);
    uint64_t now = wss__socket_clock();
    wss__conn_lock(server);
    wss__conn *conn = wss__send_find(server, handle);
    if (conn) wss__public_fill_info(server, conn, now, info);
    wss__conn_unlock(server);
    return conn ? WSS_OK : WSS_ERR_GONE;
}

/* Adds the counters, which are all of one kind and stand side by side. */
static void wss__public_add_stats(wss_stats *sum, const wss__session_stats *part) {
    uint64_t *to = (uint64_t *)(void *)sum;
    const wss__atomic64 *from = (const wss__atomic64 *)(const void *)part;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++) to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

WSSERVER_API void wss_get_stats(wss_server *server, wss_stats *stats) {
    uint64_t peak = 0;
    uint64_t lag = 0;
    if (!stats) return;
    memset(stats, 0, sizeof *stats);
    if (!server) return;
    for (int i = 0; i < server->loop_count; i++) {
        const wss__session_stats *part = &server->loops[i].shared.stats;
        uint64_t queued = __atomic_load_n(&part->queued_peak, __ATOMIC_RELAXED);
        wss__public_add_stats(stats, part);
        stats->posted += wss__queue_posted(&server->loops[i].inbox);
        if (queued > peak) peak = queued;
        uint64_t turn = __atomic_load_n(&part->loop_lag_ms, __ATOMIC_RELAXED);
        if (turn > lag) lag = turn;
    }
    stats->frames_out += stats->messages_out; /* until here it was of control frames alone */
    stats->queued_peak = peak;
    stats->loop_lag_ms = lag;
    stats->refused_full += __atomic_load_n(&server->refused_full, __ATOMIC_RELAXED);
    stats->undelivered_dropped = __atomic_load_n(&server->undelivered_dropped, __ATOMIC_RELAXED);
    stats->undelivered = __atomic_load_n(&server->undelivered, __ATOMIC_RELAXED);
    stats->handshakes = wss__conn_handshakes(server);
    stats->closed_places = __atomic_load_n(&server->closed, __ATOMIC_RELAXED);
    stats->connections = __atomic_load_n(&server->open, __ATOMIC_ACQUIRE);
    stats->memory = __atomic_load_n(&server->mem.used, __ATOMIC_RELAXED);
    stats->memory_peak = __atomic_load_n(&server->mem.peak, __ATOMIC_RELAXED);
    stats->memory_budget = server->mem.budget;
}

/* ---- answers ---- */

/* The request that is to be answered, kept until the answer is handed in. */
static int wss__public_hold_request(wss_server *server, const wss__conn_order *answer, wss__conn_request **kept) {
    wss__conn_lock(server);
    wss__conn *conn = wss__conn_find(server, answer->conn);
    int result = wss__send_check_order(conn, answer, 0);
    if (!result) {
        *kept = wss__conn_cold_of(conn)->request;
        __atomic_add_fetch(&(*kept)->references, 1, __ATOMIC_RELAXED);
    }
    wss__conn_unlock(server);
    if (result == WSS_ERR_ANSWERED) wss__conn_misused(server, "second answer to request", answer->conn.id);
    return result;
}

/* A frame for it. WSS_OK, or for want of memory an error. */
static int wss__public_answer_frame(wss_server *server, const wss__answer_reply *reply, wss__buf_frame **frame) {
    size_t size = wss__answer_write(NULL, 0, reply);
    *frame = wss__buf_new_raw(&server->mem, size, wss__base_span(NULL, 0));
    if (!*frame) return wss__mem_error(&server->mem, size);
    (*frame)->control = 1;
    wss__answer_write(wss__buf_frame_data(*frame), size, reply);
    return WSS_OK;
}

/* Writes the answer to a request and hands it in; another thread's may come first. user: of a client that is let in. */
static int wss__public_answer(wss_server *server, wss_conn handle, wss__answer_reply *reply, int upgrade, void *user) {
    wss__conn_order order;
    wss__conn_request *kept;
    wss__conn_reply given = {user, {NULL, 0}, NULL, reply->answer.status, upgrade};
    wss__send_make_order(&order, WSS__ORDER_ANSWER, handle);
    order.reply = &given;
    int result = wss__public_hold_request(server, &order, &kept);
    if (result) return result;
    wss__span protocol = wss__base_text(reply->protocol);
    if (reply->protocol && !wss__http_offers(&kept->request, protocol)) result = WSS_ERR_PROTOCOL;
    if (given.status == 101) wss__answer_welcome(reply, wss__http_key(&kept->request));
    reply->is_head = kept->request.method == WSS__HTTP_HEAD;
    if (!result) result = wss__public_answer_frame(server, reply, &given.frame);
    if (!result && protocol.size) given.protocol.data = wss__conn_copy(server, protocol, &given.protocol.size);
    if (!result) result = wss__send_do(server, &order);
    if (result) wss__buf_release(&server->mem, given.frame);
    if (result) wss__mem_free(&server->mem, (void *)(uintptr_t)given.protocol.data, given.protocol.size);
    wss__conn_release_request(server, kept);
    return result;
}

WSSERVER_API int wss_accept(wss_server *server, wss_conn handle, const char *protocol, const wss_header *headers,
                            size_t header_count, void *user) {
    wss__answer_reply reply;
    int bad = server ? wss__answer_check_headers(headers, header_count) : WSS_ERR_ARGUMENT;
    if (bad) return bad;
    memset(&reply, 0, sizeof reply);
    reply.answer.status = 101;
    reply.answer.headers = headers;
    reply.answer.header_count = header_count;
    reply.protocol = protocol;
    return wss__public_answer(server, handle, &reply, 1, user);
}

static int wss__public_reply(wss_server *server, wss_conn handle, const wss_answer *given, int upgrade) {
    wss__answer_reply reply;
    memset(&reply, 0, sizeof reply);
    if (given) reply.answer = *given;
    if (!reply.answer.status) reply.answer.status = upgrade ? 403 : 200;
    if (!server) return WSS_ERR_ARGUMENT;
    int result = wss__answer_check(&reply.answer, upgrade ? 300 : 200);
    return result ? result : wss__public_answer(server, handle, &reply, upgrade, NULL);
}

WSSERVER_API int wss_refuse(wss_server *server, wss_conn conn, const wss_answer *answer) {
    return wss__public_reply(server, conn, answer, 1);
}

WSSERVER_API int wss_reply(wss_server *server, wss_conn conn, const wss_answer *answer) {
    return wss__public_reply(server, conn, answer, 0);
}

/* ---- work ---- */

static int wss__public_post(wss__mem *mem, wss__queue_inbox *inbox, void (*function)(void *arg), void *arg) {
    wss__queue_job *job = wss__queue_new_post(mem, function, arg);
    if (!job) return wss__mem_error(mem, sizeof *job);
    int result = wss__queue_push(inbox, job);
    if (result) wss__mem_free(mem, job, job->size);
    return result;
}

WSSERVER_API int wss_post(wss_server *server, void (*function)(void *arg), void *arg) {
    if (!server || !function) return WSS_ERR_ARGUMENT;
    if (wss__send_is_stopping(server)) return WSS_ERR_STOPPED;
    return wss__public_post(&server->mem, &server->loops[0].inbox, function, arg);
}

/* Makes the first loop look at a timer; false where the word could not be sent. */
static int wss__public_tell_timer(wss_server *server, uint64_t id, int start) {
    wss__conn_order order;
    wss_conn carrier;
    carrier.id = id;
    wss__send_make_order(&order, WSS__ORDER_TIMER, carrier);
    order.set = start;
    return wss__send_do(server, &order) == WSS_OK;
}

WSSERVER_API wss_timer wss_timer_start(wss_server *server, int64_t delay_ms, int64_t repeat_ms, wss_handler *handler,
                                       void *context) {
    wss_timer handle;
    handle.id = 0;
    if (!server || !handler || wss__send_is_stopping(server)) return handle;
    if (delay_ms < 0) delay_ms = 0; /* what is due less what is now */
    wss__slot_table *table = &server->timers;
    wss__deliver_timer *timer = (wss__deliver_timer *)(void *)wss__slot_take(table);
    if (!timer) return handle;
    memset((char *)timer + sizeof timer->slot, 0, sizeof *timer - sizeof timer->slot);
    timer->due = wss__socket_clock() + (uint64_t)delay_ms;
    timer->repeat = repeat_ms > 0 ? (uint64_t)repeat_ms : 0;
    timer->handler = handler;
    timer->context = context;
    timer->holders = 1;
    pthread_mutex_lock(&table->mutex);
    wss__slot_set(&timer->slot, 0, WSS__SLOT_OWNED);
    pthread_mutex_unlock(&table->mutex);
    handle.id = wss__slot_id(&timer->slot);
    if (wss__public_tell_timer(server, handle.id, 1)) return handle;
    pthread_mutex_lock(&table->mutex);
    wss__slot_release(table, &timer->slot);
    pthread_mutex_unlock(&table->mutex);
    handle.id = 0;
    return handle;
}

WSSERVER_API int wss_timer_cancel(wss_server *server, wss_timer handle) {
    int result = WSS_ERR_GONE;
    if (!server) return WSS_ERR_ARGUMENT;
    wss__slot_table *table = &server->timers;
    pthread_mutex_lock(&table->mutex);
    wss__deliver_timer *timer = (wss__deliver_timer *)(void *)wss__slot_find(table, handle.id);
    int state = timer ? timer->state : WSS__DELIVER_CANCELLED;
    int elsewhere = (state == WSS__DELIVER_RUNNING || state == WSS__DELIVER_LAST) &&
                    !pthread_equal(timer->runner, pthread_self());
    if (state < WSS__DELIVER_RUNNING) timer->state = WSS__DELIVER_CANCELLED;
    if (state == WSS__DELIVER_RUNNING) timer->state = WSS__DELIVER_LAST;
    if (state < WSS__DELIVER_LAST) result = WSS_OK;
    pthread_mutex_unlock(&table->mutex);
    /* Where the word is lost for want of memory the place is given back when the timer would have rung. */
    if (!result) wss__public_tell_timer(server, handle.id, 0);
    return elsewhere ? WSS_ERR_BUSY : result;
}

/* ---- [metrics] ---------------------------------------------------------------------------------------------
   purpose  wss_stats as text for monitors: one table of names, units and help
   knows    base, public
   owns     no state
   threads  any
   spec     the Prometheus text format, version 0.0.4 */

enum { WSS__METRICS_GAUGE, WSS__METRICS_COUNTER, WSS__METRICS_SECONDS }; /* seconds: a gauge of milliseconds */

typedef struct wss__metrics_row {
    const char *name; /* behind wsserver_; a counter's ends in _total */
    int kind;
    size_t offset;    /* in wss_stats */
    const char *label; /* of an array: what its places differ in; NULL: it is one number */
    const char *const *values; /* of the label; those that are NULL are left out; NULL: names of causes */
    int count;
    const char *help;
} wss__metrics_row;

static const char *const wss__metrics_hundreds[] = {NULL, NULL, "2xx", "3xx", "4xx", "5xx"};
static const char *const wss__metrics_turns[] = {
    "up to 1 ms", "up to 4 ms", "up to 16 ms", "up to 64 ms", "up to 256 ms", "longer"
};
static const char *const wss__metrics_refusals[] = {
    "other", "malformed", "origin", "method", "timeout", "target", "host", "no upgrade", "headers", "unavailable",
    "http version", "application", "per address"
};

#define WSS__METRICS_ONE(field, name, kind, help) \
    {name, WSS__METRICS_##kind, offsetof(wss_stats, field), NULL, NULL, 1, help}
#define WSS__METRICS_MANY(field, name, label, values, count, help) \
    {name, WSS__METRICS_COUNTER, offsetof(wss_stats, field), label, values, count, help}

static const wss__metrics_row wss__metrics_rows[] = {
    WSS__METRICS_ONE(connections, "connections", GAUGE, "Open connections."),
    WSS__METRICS_ONE(accepted, "sockets_accepted_total", COUNTER, "Sockets accepted."),
    WSS__METRICS_ONE(opened, "handshakes_completed_total", COUNTER, "Handshakes completed."),
    WSS__METRICS_ONE(handshakes, "handshakes", GAUGE, "Handshakes under way."),
    WSS__METRICS_ONE(http_answers, "http_answers_total", COUNTER, "Plain HTTP requests answered."),
    WSS__METRICS_ONE(refused, "requests_refused_total", COUNTER, "Requests refused."),
    WSS__METRICS_MANY(refused_status, "requests_refused_by_status_total", "status", wss__metrics_hundreds, 6,
                      "Requests refused, by their status."),
    WSS__METRICS_MANY(refused_cause, "requests_refused_by_rule_total", "rule", wss__metrics_refusals, 13,
                      "Requests refused, by the rule that they broke."),
    WSS__METRICS_MANY(closes, "connections_ended_total", "cause", NULL, 32, "Connections that ended, by cause."),
    WSS__METRICS_ONE(frames_in, "frames_received_total", COUNTER, "Frames received."),
    WSS__METRICS_ONE(frames_out, "frames_sent_total", COUNTER, "Frames sent."),
    WSS__METRICS_ONE(messages_in, "messages_received_total", COUNTER, "Messages received."),
    WSS__METRICS_ONE(messages_out, "messages_sent_total", COUNTER, "Messages sent."),
    WSS__METRICS_ONE(bytes_in, "received_bytes_total", COUNTER, "Bytes received."),
    WSS__METRICS_ONE(bytes_out, "sent_bytes_total", COUNTER, "Bytes sent."),
    WSS__METRICS_ONE(dropped_gone, "messages_lost_total", COUNTER,
                     "Accepted messages that died with their connection."),
    WSS__METRICS_ONE(dropped_policy, "messages_replaced_total", COUNTER,
                     "Messages replaced by a newer one, or dropped."),
    WSS__METRICS_ONE(refused_full, "sends_refused_total", COUNTER,
                     "Sends and shares of broadcasts refused by full queues."),
    WSS__METRICS_ONE(queued_peak, "queued_peak_bytes", GAUGE, "Most that ever waited on one connection."),
    WSS__METRICS_ONE(crowded, "connections_crowded", GAUGE, "Connections whose queue is above half of its limit."),
    WSS__METRICS_ONE(paused, "connections_paused", GAUGE, "Connections that are not read from."),
    WSS__METRICS_ONE(rate_pauses, "rate_pauses_total", COUNTER, "Times that a connection sent more than it may."),
    WSS__METRICS_ONE(posted, "posts", GAUGE, "Posts and sends that wait for a networking thread."),
    WSS__METRICS_ONE(undelivered, "undelivered_bytes", GAUGE, "Messages on their way to the thread of a queue."),
    WSS__METRICS_ONE(undelivered_dropped, "undelivered_dropped_total", COUNTER,
                     "Messages of clients that reset, dropped."),
    WSS__METRICS_ONE(closed_places, "connections_closed", GAUGE,
                     "Ended connections whose events were not delivered yet."),
    WSS__METRICS_ONE(memory, "memory_bytes", GAUGE, "Memory held."),
    WSS__METRICS_ONE(memory_peak, "memory_peak_bytes", GAUGE, "Most memory that was ever held."),
    WSS__METRICS_ONE(memory_budget, "memory_budget_bytes", GAUGE, "Memory that may be held."),
    WSS__METRICS_ONE(wakeups, "wakeups_total", COUNTER, "Returns of epoll_wait."),
    WSS__METRICS_ONE(accept_failures, "accept_failures_total", COUNTER, "Accepts that lacked descriptors or memory."),
    WSS__METRICS_ONE(loop_lag_ms, "turn_peak_seconds", SECONDS, "Longest turn of a loop."),
    WSS__METRICS_MANY(turns, "turns_total", "length", wss__metrics_turns, 6, "Turns of loops, by their length.")
};

#undef WSS__METRICS_ONE
#undef WSS__METRICS_MANY

static const size_t wss__metrics_count = sizeof wss__metrics_rows / sizeof wss__metrics_rows[0];

/* Text that is written while there is room for it, and counted in any case. */
typedef struct wss__metrics_out {
    char *data;
    size_t size;
    size_t length;
} wss__metrics_out;

__attribute__((__format__(__printf__, 2, 3))) static void wss__metrics_put(wss__metrics_out *out, const char *format,
                                                                          ...) {
    int fits = out->length < out->size;
    va_list values;
    va_start(values, format);
    int size = vsnprintf(fits ? out->data + out->length : NULL, fits ? out->size - out->length : 0, format, values);
    va_end(values);
    out->length += size > 0 ? (size_t)size : 0;
}

static void wss__metrics_value(wss__metrics_out *out, const wss__metrics_row *row, uint64_t value) {
    unsigned long long number = value;
    if (row->kind == WSS__METRICS_SECONDS) wss__metrics_put(out, " %llu.%03llu\n", number / 1000, number % 1000);
    else if (value == WSS_UNLIMITED) wss__metrics_put(out, " +Inf\n");
    else wss__metrics_put(out, " %llu\n", number);
}

static void wss__metrics_put_row(wss__metrics_out *out, const wss__metrics_row *row, const wss_stats *stats) {
    const uint64_t *values = (const uint64_t *)(const void *)((const char *)stats + row->offset);
    wss__metrics_put(out, "# HELP wsserver_%s %s\n# TYPE wsserver_%s %s\n", row->name, row->help, row->name,
                     row->kind == WSS__METRICS_COUNTER ? "counter" : "gauge");
    for (int i = 0; i < row->count; i++) {
        const char *value = row->values ? row->values[i] : row->label ? wss_cause_text(i) : "";
        int is_known = row->values || !row->label || (i && strcmp(value, wss_cause_text(INT_MAX)) != 0);
        if (!value || !is_known) continue;
        wss__metrics_put(out, "wsserver_%s", row->name);
        if (row->label) wss__metrics_put(out, "{%s=\"%s\"}", row->label, value);
        wss__metrics_value(out, row, values[i]);
    }
}

WSSERVER_API int wss_stats_text(wss_server *server, char *out, size_t size, size_t *length) {
    wss__metrics_out to = {out, size, 0};
    wss_stats stats;
    if (out && size) out[0] = 0;
    if (!server || (!out && size)) return WSS_ERR_ARGUMENT;
    wss_get_stats(server, &stats);
    for (size_t i = 0; i < wss__metrics_count; i++) wss__metrics_put_row(&to, &wss__metrics_rows[i], &stats);
    return wss__base_end_text(to.length, out, size, length);
}

/* ---- [option] ----------------------------------------------------------------------------------------------
   purpose  options: one table of what each may be, what it is where it is 0, and what is said where it cannot be
   knows    base, utf8, address, http, origin, frame, queue
   owns     no state; what passes here needs no further look
   threads  any */

enum { WSS__OPTION_INT, WSS__OPTION_SIZE, WSS__OPTION_TEXT };

typedef struct wss__option {
    const char *name;
    size_t offset;
    int kind;
    int may_be_off;   /* int: WSS_OFF is a value of its own */
    long long least;
    long long most;
    long long preset; /* in the place of 0 */
    const char *text; /* text: in the place of NULL */
} wss__option;

#define WSS__OPTION_ROW(name, kind, off, least, most, preset, text) \
    {#name, offsetof(wss_options, name), kind, off, least, most, preset, text}
#define WSS__OPTION_NUMBER(name, least, most, preset) \
    WSS__OPTION_ROW(name, WSS__OPTION_INT, 0, least, most, preset, NULL)
#define WSS__OPTION_LIMIT(name, preset) WSS__OPTION_ROW(name, WSS__OPTION_INT, 1, 1, INT_MAX, preset, NULL)
#define WSS__OPTION_BYTES(name, preset) WSS__OPTION_ROW(name, WSS__OPTION_SIZE, 1, 1, 0, preset, NULL)
#define WSS__OPTION_STRING(name, text) WSS__OPTION_ROW(name, WSS__OPTION_TEXT, 0, 0, 0, 0, text)

static const wss__option wss__option_rows[] = {
    WSS__OPTION_NUMBER(port, 0, 65535, 0),
    WSS__OPTION_NUMBER(threads, 1, WSS__QUEUE_INBOXES, 1),
    WSS__OPTION_STRING(address, NULL),
    WSS__OPTION_STRING(type_member, "__MESSAGE__"),
    WSS__OPTION_STRING(origins, NULL),
    WSS__OPTION_STRING(hosts, NULL),
    WSS__OPTION_NUMBER(log_level, WSS_LOG_ERROR, WSS_LOG_DEBUG, WSS_LOG_INFO),
    WSS__OPTION_NUMBER(send_policy, WSS_POLICY_REFUSE, WSS_POLICY_CLOSE, WSS_POLICY_REFUSE),
    WSS__OPTION_BYTES(max_message, 1 << 20),
    WSS__OPTION_NUMBER(max_head, 64, 1 << 20, 16384),
    WSS__OPTION_LIMIT(max_connections, 10000),
    WSS__OPTION_LIMIT(max_per_address, WSS_OFF),
    WSS__OPTION_BYTES(max_queued, 1 << 20),
    WSS__OPTION_BYTES(memory_budget, 256 << 20),
    WSS__OPTION_LIMIT(max_posted, 65536),
    WSS__OPTION_BYTES(max_posted_bytes, 16 << 20),
    WSS__OPTION_LIMIT(handshake_ms, 10000),
    WSS__OPTION_LIMIT(ping_ms, 20000),
    WSS__OPTION_LIMIT(pong_ms, 20000),
    WSS__OPTION_LIMIT(idle_ms, WSS_OFF),
    WSS__OPTION_LIMIT(message_ms, 30000),
    WSS__OPTION_LIMIT(stall_ms, 30000),
    WSS__OPTION_LIMIT(close_ms, 5000),
    WSS__OPTION_NUMBER(spin_us, 0, 1000000, 0),
    WSS__OPTION_NUMBER(unix_mode, 0, 0777, 0660),
    WSS__OPTION_NUMBER(reuse_port, 0, 1, 0),
    WSS__OPTION_LIMIT(least_rate, 256),
    WSS__OPTION_STRING(proxies, NULL),
    WSS__OPTION_STRING(proxy_header, "X-Forwarded-For"),
    WSS__OPTION_NUMBER(proxy_protocol, 0, 1, 0),
    WSS__OPTION_NUMBER(stop_code, WSS_CLOSE_NORMAL, 4999, WSS_CLOSE_GOING_AWAY),
    WSS__OPTION_LIMIT(stop_spread_ms, WSS_OFF),
    WSS__OPTION_LIMIT(lifetime_ms, WSS_OFF),
    WSS__OPTION_LIMIT(max_message_rate, WSS_OFF)
};

#undef WSS__OPTION_ROW
#undef WSS__OPTION_NUMBER
#undef WSS__OPTION_LIMIT
#undef WSS__OPTION_BYTES
#undef WSS__OPTION_STRING

static size_t wss__option_count(void) {
    return sizeof wss__option_rows / sizeof wss__option_rows[0];
}

/* Where an option's text stands; NULL where it is none. */
static const char **wss__option_text(const wss__option *row, wss_options *options) {
    return row->kind == WSS__OPTION_TEXT ? (const char **)(void *)((char *)options + row->offset) : NULL;
}

static int wss__option_refuse(wss_error *why, int code, const char *name, wss__span value, const char *advice) {
    why->code = code;
    int size = (int)wss__base_min(value.size, 50);
    if (!value.data) value = wss__base_span("", 0);
    snprintf(why->text, sizeof why->text, "options.%s: \"%.*s\" cannot be: %s", name, size, value.data, advice);
    return code;
}

/* Sets a number that is 0 to its default, and refuses one that cannot be. */
static int wss__option_resolve_int(const wss__option *row, int *value, wss_error *why) {
    char given[24];
    char advice[80];
    if (*value == 0) *value = (int)row->preset;
    if ((*value == WSS_OFF && row->may_be_off) || (*value >= row->least && *value <= row->most)) return WSS_OK;
    snprintf(given, sizeof given, "%d", *value);
    snprintf(advice, sizeof advice, "it is a number from %lld to %lld%s", row->least, row->most,
             row->may_be_off ? ", or WSS_OFF" : "");
    return wss__option_refuse(why, WSS_ERR_ARGUMENT, row->name, wss__base_text(given), advice);
}

static int wss__option_resolve(const wss__option *row, wss_options *options, wss_error *why) {
    void *at = (char *)options + row->offset;
    const char **text = wss__option_text(row, options);
    size_t *size = row->kind == WSS__OPTION_SIZE ? (size_t *)at : NULL;
    if (row->kind == WSS__OPTION_INT) return wss__option_resolve_int(row, (int *)at, why);
    if (size && *size == 0) *size = (size_t)row->preset;
    if (text && !*text) *text = row->text;
    return WSS_OK;
}

static const char *wss__option_proxy_fault(wss__span entry) {
    wss__address network;
    int bits;
    return wss__address_parse_network(entry, &network, &bits) ? NULL : "an address, a network as 10.0.0.0/8, or unix:";
}

static int wss__option_check_list(const char *name, const char *list, const char *(*fault)(wss__span), wss_error *why) {
    char advice[80];
    wss__span entry = wss__base_span(NULL, 0);
    const char *found = wss__origin_list_fault(list, fault, &entry);
    if (!found) return WSS_OK;
    snprintf(advice, sizeof advice, "write %.70s", found);
    return wss__option_refuse(why, WSS_ERR_ARGUMENT, name, entry, advice);
}

/* What the texts say. A list that names nothing for those who may connect shuts out everybody. */
static int wss__option_check_texts(const wss_options *options, wss_error *why) {
    wss__span member = wss__base_text(options->type_member);
    wss__span header = wss__base_text(options->proxy_header);
    wss__span hosts = wss__base_text(options->hosts);
    if (wss__utf8_check(0, member.data, member.size) != 0)
        return wss__option_refuse(why, WSS_ERR_UTF8, "type_member", wss__base_span(NULL, 0), "it is not UTF-8");
    if (!wss__http_is_token(header))
        return wss__option_refuse(why, WSS_ERR_ARGUMENT, "proxy_header", header, "write the name of a header line");
    if (options->proxy_protocol && !wss__base_has_item(wss__base_text(options->proxies)))
        return wss__option_refuse(why, WSS_ERR_ARGUMENT, "proxy_protocol", wss__base_text("1"),
                                  "options.proxies names nobody who may send it");
    if (hosts.data && !wss__base_has_item(hosts))
        return wss__option_refuse(why, WSS_ERR_ARGUMENT, "hosts", hosts, "it names no host, so nobody could connect");
    if (!wss__frame_code_valid(options->stop_code))
        return wss__option_refuse(why, WSS_ERR_ARGUMENT, "stop_code", wss__base_span(NULL, 0),
                                   "no Close may have this code");
    int result = wss__option_check_list("origins", options->origins, wss__origin_fault, why);
    if (!result) result = wss__option_check_list("hosts", options->hosts, wss__origin_host_fault, why);
    if (!result) result = wss__option_check_list("proxies", options->proxies, wss__option_proxy_fault, why);
    return result;
}

/* Fills in the defaults. WSS_OK, or what is wrong and where. only: the rows whose names begin so. */
static int wss__option_resolve_all(wss_options *options, const char *only, wss_error *why) {
    int result = WSS_OK;
    for (size_t i = 0; i < wss__option_count() && !result; i++)
        if (strncmp(wss__option_rows[i].name, only, strlen(only)) == 0)
            result = wss__option_resolve(&wss__option_rows[i], options, why);
    return result;
}

/* ---- [server] ----------------------------------------------------------------------------------------------
   purpose  making, running and ending servers and queues
   knows    all
   owns     handlers run in wss_run, wss_poll, wss_destroy and in a queue's run, poll and destroy, and nowhere else the
            user calls
   threads  one runs or ends a server, one drains a queue; who comes second is told so */

/* ---- making and ending a server ---- */

/* All strings of the options in one block. */
static int wss__server_copy_strings(wss_server *server) {
    for (size_t i = 0; i < wss__option_count(); i++) {
        const char **text = wss__option_text(&wss__option_rows[i], &server->options);
        if (text && *text) server->strings_size = wss__base_add(server->strings_size, strlen(*text) + 1);
    }
    server->strings = (char *)wss__mem_get(&server->mem, server->strings_size);
    if (!server->strings) return 0;
    char *at = server->strings;
    for (size_t i = 0; i < wss__option_count(); i++) {
        const char **text = wss__option_text(&wss__option_rows[i], &server->options);
        if (!text || !*text) continue;
        size_t size = strlen(*text) + 1;
        memcpy(at, *text, size);
        *text = at;
        at += size;
    }
    return 1;
}

/* The process may open fewer descriptors than there may be connections. */
static void wss__server_limit_connections(wss_server *server) {
    struct rlimit limit;
    int most = (int)WSS__SLOT_LIMIT;
    int wanted = server->options.max_connections;
    if (WSSERVER_SYSTEM(getrlimit)(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < (rlim_t)most)
        most = limit.rlim_cur > 64 ? (int)limit.rlim_cur - 32 : (int)limit.rlim_cur;
    if (wanted != WSS_OFF && wanted <= most) return;
    server->options.max_connections = most;
    if (wanted != WSS_OFF)
        wss__log_line(&server->log, WSS_LOG_INFO, wss__socket_clock(),
                      "options.max_connections is %d, not %d: the process may open no more descriptors", most, wanted);
}

/* A list for every four connections that there may be. */
static int wss__server_make_addresses(wss_server *server) {
    server->address_lists = 1;
    while (server->address_lists < server->conns.limit / 4) server->address_lists *= 2;
    server->addresses = (wss__conn_address **)wss__mem_get_zeroed(&server->mem, server->address_lists * sizeof(void *));
    return server->addresses != NULL;
}

/* The server itself may take no more than what leaves room below the pressure that begins at three quarters. It was
   made without a budget, to know how much that is. */
static int wss__server_check_budget(wss_server *server, wss_error *why) {
    char given[24];
    char advice[96];
    size_t budget = server->options.memory_budget;
    size_t least = wss__base_add(server->mem.used, server->mem.used / 3 + WSS__SESSION_UNIT);
    server->mem.budget = budget;
    if (budget >= least) return WSS_OK;
    snprintf(given, sizeof given, "%zu", budget);
    snprintf(advice, sizeof advice, "with these options the least is %zu", least);
    return wss__option_refuse(why, WSS_ERR_BUDGET, "memory_budget", wss__base_text(given), advice);
}

static int wss__server_set_up(wss_server *server, wss_error *why) {
    uint64_t random = wss__socket_random();
    wss__server_limit_connections(server);
    uint32_t limit = (uint32_t)server->options.max_connections;
    pthread_mutex_init(&server->handlers.mutex, NULL);
    server->handlers.mem = &server->mem;
    server->seed = wss__socket_random();
    server->handlers.seed = server->seed;
    int result = wss__socket_listen(&server->listeners, &server->options, why);
    if (result) return result;
    server->options.port = server->listeners.port;
    server->loop_count = server->options.threads;
    server->loops = (wss__loop *)wss__mem_get_zeroed(&server->mem, (size_t)server->loop_count * sizeof *server->loops);
    if (!wss__server_copy_strings(server) || !server->loops ||
        !wss__slot_init(&server->conns, &server->mem, sizeof(wss__conn), limit, random) ||
        !wss__slot_init(&server->timers, &server->mem, sizeof(wss__deliver_timer), 1 << 20, random >> 20) ||
        (server->options.max_per_address != WSS_OFF && !wss__server_make_addresses(server)))
        result = WSS_ERR_MEMORY;
    for (int i = 0; i < server->loop_count && !result; i++) {
        server->loops_made = i + 1;
        result = wss__loop_init(&server->loops[i], server, i);
    }
    if (!result) return wss__server_check_budget(server, why);
    return wss__socket_explain(why, result, "cannot make", wss__base_text("server"), NULL);
}

/* adopted: descriptors that were given to it are closed with it. */
static void wss__server_tear_down(wss_server *server, int adopted) {
    wss__mem mem = server->mem;
    wss__socket_close_listeners(&server->listeners, adopted);
    for (int i = 0; i < server->loops_made; i++) wss__loop_destroy(&server->loops[i]);
    wss__mem_free(&server->mem, server->loops, (size_t)server->loop_count * sizeof *server->loops);
    wss__mem_free(&server->mem, server->addresses, server->address_lists * sizeof(void *));
    wss__slot_destroy(&server->conns);
    wss__slot_destroy(&server->timers);
    wss__event_free(&server->handlers);
    pthread_mutex_destroy(&server->log.mutex);
    wss__mem_free(&server->mem, server->strings, server->strings_size);
    wss__mem_free(&mem, server, sizeof *server);
}

WSSERVER_API wss_server *wss_create(const wss_options *options, wss_error *why) {
    wss_options resolved;
    wss_error nobodys;
    wss__mem mem;
    if (!why) why = &nobodys;
    memset(why, 0, sizeof *why);
    memset(&resolved, 0, sizeof resolved);
    if (options) resolved = *options;
    if (wss__option_resolve_all(&resolved, "", why) != WSS_OK) return NULL;
    if (wss__option_check_texts(&resolved, why) != WSS_OK) return NULL;
    wss__mem_init(&mem, &resolved);
    mem.budget = WSS_UNLIMITED; /* until wss__server_check_budget */
    wss_server *server = (wss_server *)wss__mem_get_zeroed(&mem, sizeof *server);
    if (!server) {
        wss__socket_explain(why, WSS_ERR_MEMORY, "cannot make", wss__base_text("server"), NULL);
        return NULL;
    }
    server->mem = mem;
    server->options = resolved;
    wss__log_init(&server->log, &server->options);
    if (wss__server_set_up(server, why) != WSS_OK) {
        wss__server_tear_down(server, 0);
        return NULL;
    }
    if (resolved.queue) __atomic_add_fetch(&resolved.queue->attached, 1, __ATOMIC_ACQ_REL);
    if (resolved.queue) __atomic_add_fetch(&resolved.queue->serving, 1, __ATOMIC_ACQ_REL);
    return server;
}

WSSERVER_API void wss_get_options(const wss_server *server, wss_options *options) {
    if (!options) return;
    if (server) *options = server->options;
    else memset(options, 0, sizeof *options);
}

/* Keeps the others out of what only one thread may do; false while one does it, or inside a handler. */
static int wss__server_enter(wss_server *server) {
    return !wss__event_is_inside(server) && !__atomic_exchange_n(&server->entered, 1, __ATOMIC_ACQ_REL);
}

static void wss__server_leave(wss_server *server) {
    __atomic_store_n(&server->entered, 0, __ATOMIC_RELEASE);
}

static void wss__server_begin(wss_server *server) {
    for (int i = 0; i < server->loop_count; i++) {
        wss__loop *loop = &server->loops[i];
        wss__loop_read_clock(loop, -1);
        loop->wheel.now = loop->now;
        loop->turned = loop->now;
    }
    wss__loop_rearm(&server->loops[0]);
}

static void *wss__server_run_loop(void *arg) {
    wss__loop *loop = (wss__loop *)arg;
    while (!loop->finished) wss__loop_turn(loop, -1);
    return NULL;
}

/* A thread that takes none of the program's signals, but those that are about the thread itself: a crash is reported as
   the program wants, and profilers see it. */
static int wss__server_thread(pthread_t *thread, void *(*function)(void *), void *arg) {
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF};
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) sigdelset(&all, own[i]);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int failed = WSSERVER_SYSTEM(pthread_create)(thread, NULL, function, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = failed;
    return failed == 0;
}

/* Tells the queue, behind all of this server's events, that there will be no more. */
static void wss__server_end(wss_server *server) {
    wss_queue *queue = server->options.queue;
    if (__atomic_exchange_n(&server->ended, 1, __ATOMIC_ACQ_REL) || !queue) return;
    server->ended_job.kind = WSS__ORDER_ENDED;
    server->ended_job.arg = server;
    wss__queue_push(&queue->inbox, &server->ended_job);
}

/* On WSS_ERR_SYSTEM errno says why. */
static int wss__server_serve(wss_server *server) {
    int result = WSS_OK;
    int number = 0;
    wss__server_begin(server);
    for (int i = 1; i < server->loop_count; i++) {
        wss__loop *loop = &server->loops[i];
        loop->has_thread = wss__server_thread(&loop->thread, wss__server_run_loop, loop);
        if (loop->has_thread) continue;
        number = errno;
        result = WSS_ERR_SYSTEM;
        loop->finished = 1;
        wss_stop(server, 0);
    }
    wss__server_run_loop(&server->loops[0]);
    for (int i = 0; i < server->loop_count; i++) {
        if (server->loops[i].has_thread) pthread_join(server->loops[i].thread, NULL);
        if (!server->loops[i].failed) continue;
        number = server->loops[i].failed;
        result = WSS_ERR_SYSTEM;
    }
    wss__server_end(server);
    if (result) errno = number;
    return result;
}

/* WSS_OK for the one call that runs this server. Where a registration had failed, it has ended before it began. */
static int wss__server_may_run(wss_server *server) {
    if (__atomic_exchange_n(&server->running, 1, __ATOMIC_ACQ_REL)) return WSS_ERR_BUSY;
    if (!__atomic_load_n(&server->handlers.failed, __ATOMIC_ACQUIRE)) return WSS_OK;
    wss__server_end(server);
    return WSS_ERR_MEMORY;
}

static void *wss__server_run_thread(void *arg) {
    wss__server_serve((wss_server *)arg);
    return NULL;
}

static int wss__server_serve_apart(wss_server *server) {
    server->has_thread = wss__server_thread(&server->thread, wss__server_run_thread, server);
    int number = errno;
    if (server->has_thread) return WSS_OK;
    wss__server_end(server);
    errno = number;
    return WSS_ERR_SYSTEM;
}

static int wss__server_run(wss_server *server, int (*serve)(wss_server *)) {
    if (!server) return WSS_ERR_ARGUMENT;
    if (!wss__server_enter(server)) return WSS_ERR_BUSY;
    int result = wss__server_may_run(server);
    if (!result) result = serve(server);
    wss__server_leave(server);
    return result;
}

WSSERVER_API int wss_run(wss_server *server) {
    return wss__server_run(server, wss__server_serve);
}

WSSERVER_API int wss_start(wss_server *server) {
    return wss__server_run(server, wss__server_serve_apart);
}

enum { WSS__SERVER_POLL = 4 }; /* milliseconds for which wss_poll goes on where connections have more to do */

/* One turn, by the thread that has entered. */
static int wss__server_turn(wss_server *server, int milliseconds) {
    wss__loop *loop = &server->loops[0];
    if (server->has_thread) return WSS_ERR_BUSY;
    if (__atomic_load_n(&server->ended, __ATOMIC_ACQUIRE)) return WSS_ERR_STOPPED;
    if (!__atomic_load_n(&server->running, __ATOMIC_ACQUIRE)) {
        int result = wss__server_may_run(server);
        if (result) return result;
        wss__server_begin(server);
        loop->thread = pthread_self();
    }
    if (!pthread_equal(loop->thread, pthread_self()))
        wss__conn_misused(server, "wss_poll on another thread than before", 0);
    wss__loop_note_gap(loop);
    wss__loop_turn(loop, milliseconds);
    if (!loop->finished) return WSS_OK;
    wss__server_end(server);
    if (loop->failed) errno = loop->failed;
    return loop->failed ? WSS_ERR_SYSTEM : WSS_ERR_STOPPED;
}

WSSERVER_API int wss_poll(wss_server *server, int milliseconds) {
    if (!server || server->loop_count != 1) return WSS_ERR_ARGUMENT;
    if (!wss__server_enter(server)) return WSS_ERR_BUSY;
    wss__loop *loop = &server->loops[0];
    int result = wss__server_turn(server, milliseconds);
    uint64_t began = loop->now;
    while (!result && loop->first_ready != WSS__SLOT_NONE && loop->turned - began < WSS__SERVER_POLL)
        result = wss__server_turn(server, 0);
    wss__server_leave(server);
    return result;
}

WSSERVER_API int wss_fd(wss_server *server) {
    if (!server || server->loop_count != 1) return WSS_ERR_ARGUMENT;
    wss__loop *loop = &server->loops[0];
    if (loop->timer_fd >= 0) return loop->epoll;
    int fd = WSSERVER_SYSTEM(timerfd_create)(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0 || wss__socket_watch(loop->epoll, fd, EPOLLIN, WSS__LOOP_TAG_TIMER) != 0) {
        wss__socket_close(fd);
        return WSS_ERR_SYSTEM;
    }
    loop->timer_fd = fd;
    wss__loop_rearm(loop);
    wss__loop_arm_timer(loop);
    return loop->epoll;
}

WSSERVER_API int wss_listener(wss_server *server, int index) {
    if (!server) return WSS_ERR_ARGUMENT;
    if (__atomic_load_n(&server->stop_at, __ATOMIC_ACQUIRE)) return WSS_ERR_STOPPED;
    if (index < 0 || index >= server->listeners.count) return WSS_ERR_MISSING;
    __atomic_store_n(&server->listeners.list[index].handed, 1, __ATOMIC_RELEASE);
    return server->listeners.list[index].fd;
}

WSSERVER_API void wss_stop(wss_server *server, int milliseconds) {
    if (server) wss__conn_stop(server, milliseconds);
}

static void wss__server_note_end(wss_queue *queue) {
    queue->ended = 1;
    __atomic_sub_fetch(&queue->serving, 1, __ATOMIC_ACQ_REL);
}

/* Whether it is an event of this server, or says that there will be no more. */
static int wss__server_is_about(const wss_server *server, const wss__queue_job *job) {
    return (job->kind == WSS__ORDER_EVENT || job->kind == WSS__ORDER_ENDED) && job->arg == server;
}

/* Runs this server's events, which are outside the limits, and drops them from the queue; other jobs keep their place.
   They are back in it before a handler runs, which may end another server. */
static void wss__server_deliver_rest(wss_server *server) {
    wss__queue_inbox *inbox = &server->options.queue->inbox;
    wss__queue_list ours = {NULL, NULL};
    wss__queue_job *next;
    wss__queue_put_back(inbox);
    wss__queue_take_some(inbox, INT_MAX);
    for (wss__queue_job *job = inbox->batch.first; job; job = next) {
        next = job->next[WSS__QUEUE_ALL];
        if (!wss__server_is_about(server, job)) continue;
        wss__queue_unlink(&inbox->batch, WSS__QUEUE_ALL, job);
        wss__queue_append(&ours, WSS__QUEUE_ALL, job);
    }
    wss__queue_put_back(inbox);
    for (wss__queue_job *job = ours.first; job; job = next) {
        next = job->next[WSS__QUEUE_ALL];
        if (job->kind == WSS__ORDER_ENDED) wss__server_note_end(server->options.queue);
        else wss__deliver_event((wss__conn_notice *)(void *)job);
    }
}

/* This thread is the one that drains a queue; false while another does. It may be that already. */
static int wss__server_enter_queue(wss_queue *queue, wss__event_place *place) {
    if (!wss__event_is_inside(queue) && __atomic_exchange_n(&queue->draining, 1, __ATOMIC_ACQ_REL)) return 0;
    wss__event_enter(place, queue, NULL);
    return 1;
}

static void wss__server_leave_queue(wss_queue *queue, const wss__event_place *place) {
    wss__event_leave(place);
    if (!wss__event_is_inside(queue)) __atomic_store_n(&queue->draining, 0, __ATOMIC_RELEASE);
}

static int wss__server_enter_both(wss_server *server, wss__event_place *place) {
    wss_queue *queue = server->options.queue;
    /* looked at first, so that a refusal is noticed by nobody who drains or polls */
    if (queue && !wss__event_is_inside(queue) && __atomic_load_n(&queue->draining, __ATOMIC_ACQUIRE)) return 0;
    if (!wss__server_enter(server)) return 0;
    if (!queue || wss__server_enter_queue(queue, place)) return 1; /* always: good but in a race */
    wss__server_leave(server); /* never: in a race only */
    return 0; /* never: likewise */
}

WSSERVER_API int wss_destroy(wss_server *server) {
    wss__event_place place;
    wss__event_place draining;
    if (!server) return WSS_OK;
    if (!wss__server_enter_both(server, &draining)) {
        wss__conn_misused(server, "wss_destroy in a handler, or while others run the server or drain its queue", 0);
        return WSS_ERR_BUSY;
    }
    wss_queue *queue = server->options.queue;
    int polled = __atomic_load_n(&server->running, __ATOMIC_ACQUIRE) && !server->has_thread;
    int most = server->options.close_ms == WSS_OFF ? WSS__CONN_LINGER : server->options.close_ms;
    if (!__atomic_load_n(&server->stop_at, __ATOMIC_ACQUIRE)) wss_stop(server, most); /* else that one counts */
    if (server->has_thread) pthread_join(server->thread, NULL);
    while (polled && wss__server_turn(server, -1) == WSS_OK) {
    }
    wss__server_end(server);
    wss__event_enter(&place, server, NULL);
    if (queue) wss__server_deliver_rest(server);
    wss__server_tear_down(server, 1);
    wss__event_leave(&place);
    if (queue) wss__server_leave_queue(queue, &draining);
    if (queue) __atomic_sub_fetch(&queue->attached, 1, __ATOMIC_ACQ_REL);
    return WSS_OK;
}

/* ---- queues ---- */

WSSERVER_API wss_queue *wss_queue_create(const wss_options *options, wss_error *why) {
    wss_options resolved;
    wss_error nobodys;
    wss__mem mem;
    if (!why) why = &nobodys;
    memset(why, 0, sizeof *why);
    memset(&resolved, 0, sizeof resolved);
    if (options) resolved = *options;
    if (wss__option_resolve_all(&resolved, "max_posted", why) != WSS_OK) return NULL;
    resolved.memory_budget = WSS_UNLIMITED; /* what is posted has limits of its own */
    wss__mem_init(&mem, &resolved);
    wss_queue *queue = (wss_queue *)wss__mem_get_zeroed(&mem, sizeof *queue);
    if (queue) queue->mem = mem;
    if (queue && wss__queue_init(&queue->inbox, &resolved)) return queue;
    wss__socket_explain(why, queue ? WSS_ERR_SYSTEM : WSS_ERR_MEMORY, "cannot make", wss__base_text("queue"), NULL);
    wss__mem_free(&mem, queue, sizeof *queue);
    return NULL;
}

WSSERVER_API int wss_queue_post(wss_queue *queue, void (*function)(void *arg), void *arg) {
    return queue && function ? wss__public_post(&queue->mem, &queue->inbox, function, arg) : WSS_ERR_ARGUMENT;
}

enum { WSS__SERVER_BATCH = 256 }; /* jobs of a queue that are run before others of the thread have their turn */

/* The end of the last server ends the draining, as a stop would, once all has run that was there when it was seen: a
   mark goes behind that. What it posts waits for the next run, so that work which posts itself does not hold this one.
   Whether the mark is on its way. */
static int wss__server_mark_end(wss_queue *queue) {
    if (!queue->marked && queue->ended && !__atomic_load_n(&queue->serving, __ATOMIC_ACQUIRE)) {
        queue->ended = 0;
        queue->marked = 1;
        queue->mark.kind = WSS__ORDER_MARK;
        wss__queue_push(&queue->inbox, &queue->mark);
    }
    return queue->marked;
}

static void wss__server_run_job(wss_queue *queue, wss__queue_job *job) {
    switch (job->kind) {
    case WSS__QUEUE_POST: wss__queue_call(&queue->mem, job); break;
    case WSS__ORDER_EVENT: wss__deliver_event((wss__conn_notice *)(void *)job); break;
    case WSS__ORDER_ENDED: wss__server_note_end(queue); break;
    default:
        queue->marked = 0;
        if (!queue->ended && !__atomic_load_n(&queue->serving, __ATOMIC_ACQUIRE))
            __atomic_store_n(&queue->stopping, 1, __ATOMIC_RELEASE);
        break;
    }
}

/* Runs what is there, at most so many: how many. What a stop leaves over keeps its place. */
static int wss__server_run_some(wss_queue *queue, int most) {
    wss__queue_job *job;
    wss__queue_clear(&queue->inbox);
    int taken = wss__queue_take_some(&queue->inbox, most);
    while (!__atomic_load_n(&queue->stopping, __ATOMIC_ACQUIRE) && (job = wss__queue_next(&queue->inbox)) != NULL)
        wss__server_run_job(queue, job);
    wss__queue_put_back(&queue->inbox);
    return taken;
}

/* One step. True: the draining ends. */
static int wss__server_drain(wss_queue *queue, int milliseconds) {
    struct pollfd ready;
    int left = WSS__SERVER_BATCH;
    ready.fd = queue->inbox.fd;
    ready.events = POLLIN;
    ready.revents = 0;
    wss__server_mark_end(queue);
    if (__atomic_exchange_n(&queue->stopping, 0, __ATOMIC_ACQ_REL)) return 1;
    if (WSSERVER_SYSTEM(poll)(&ready, 1, milliseconds) <= 0) return 0;
    do left -= wss__server_run_some(queue, left);
    while (left > 0 && !__atomic_load_n(&queue->stopping, __ATOMIC_ACQUIRE) && wss__server_mark_end(queue));
    return __atomic_exchange_n(&queue->stopping, 0, __ATOMIC_ACQ_REL);
}

WSSERVER_API int wss_queue_poll(wss_queue *queue, int milliseconds) {
    wss__event_place place;
    if (!queue) return WSS_ERR_ARGUMENT;
    if (wss__event_is_inside(queue) || !wss__server_enter_queue(queue, &place)) return WSS_ERR_BUSY;
    int done = wss__server_drain(queue, milliseconds);
    wss__server_leave_queue(queue, &place);
    return done ? WSS_ERR_STOPPED : WSS_OK;
}

WSSERVER_API int wss_queue_run(wss_queue *queue) {
    wss__event_place place;
    if (!queue) return WSS_ERR_ARGUMENT;
    if (wss__event_is_inside(queue) || !wss__server_enter_queue(queue, &place)) return WSS_ERR_BUSY;
    while (!wss__server_drain(queue, -1)) {
    }
    wss__server_leave_queue(queue, &place);
    return WSS_OK;
}

WSSERVER_API void wss_queue_stop(wss_queue *queue) {
    int number = errno;
    if (!queue) return;
    __atomic_store_n(&queue->stopping, 1, __ATOMIC_RELEASE);
    wss__queue_signal(queue->inbox.fd);
    errno = number;
}

WSSERVER_API int wss_queue_fd(const wss_queue *queue) {
    return queue ? queue->inbox.fd : WSS_ERR_ARGUMENT;
}

WSSERVER_API int wss_queue_destroy(wss_queue *queue) {
    if (!queue) return WSS_OK;
    wss__event_place place;
    int busy = __atomic_load_n(&queue->attached, __ATOMIC_ACQUIRE) || wss__event_is_inside(queue);
    if (busy || !wss__server_enter_queue(queue, &place)) return WSS_ERR_BUSY;
    wss__queue_job *job;
    wss__queue_take(&queue->inbox, 1);
    while ((job = wss__queue_next(&queue->inbox)) != NULL)
        if (job->kind == WSS__QUEUE_POST) wss__queue_call(&queue->mem, job); /* a stop may have left the mark */
    wss__event_leave(&place);
    wss__queue_destroy(&queue->inbox);
    wss__mem mem = queue->mem;
    wss__mem_free(&mem, queue, sizeof *queue);
    return WSS_OK;
}

/* ---- handlers ---- */

static int wss__server_on(wss_server *server, int kind, const char *type, wss_handler *handler, void *context) {
    return server ? wss__event_register(&server->handlers, kind, type, handler, context) : WSS_ERR_ARGUMENT;
}

WSSERVER_API int wss_on_connect(wss_server *server, wss_handler *handler, void *context) {
    return wss__server_on(server, WSS_EVENT_CONNECT, NULL, handler, context);
}

WSSERVER_API int wss_on_disconnect(wss_server *server, wss_handler *handler, void *context) {
    return wss__server_on(server, WSS_EVENT_DISCONNECT, NULL, handler, context);
}

WSSERVER_API int wss_on_message(wss_server *server, const char *type, wss_handler *handler, void *context) {
    return wss__server_on(server, WSS_EVENT_MESSAGE, type, handler, context);
}

WSSERVER_API int wss_on_data(wss_server *server, wss_handler *handler, void *context) {
    return wss__server_on(server, WSS_EVENT_DATA, NULL, handler, context);
}

WSSERVER_API int wss_on_drain(wss_server *server, wss_handler *handler, void *context) {
    return wss__server_on(server, WSS_EVENT_DRAIN, NULL, handler, context);
}

WSSERVER_API int wss_on_upgrade(wss_server *server, wss_handler *handler, void *context) {
    return wss__server_on(server, WSS_EVENT_UPGRADE, NULL, handler, context);
}

WSSERVER_API int wss_on_http(wss_server *server, wss_handler *handler, void *context) {
    return wss__server_on(server, WSS_EVENT_HTTP, NULL, handler, context);
}

#endif /* WSSERVER_IMPLEMENTATION */

/* ---- [tail] ------------------------------------------------------------------------------------------------

   Versions. Until 1.0 a minor version may change the interface, and CHANGELOG.md says how. From 1.0 on: patch versions
   repair, minor versions add, major versions may change. New fields of public structs are added at their ends: always
   start them as all zero.

   License. This software is available under two licenses; choose the one you prefer.

   Alternative A, MIT License

   Copyright (c) 2026 the authors of wsserver.h

   Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
   documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
   rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to
   permit persons to whom the Software is furnished to do so, subject to the following conditions:

   The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
   Software.

   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
   WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
   COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
   OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

   Alternative B, public domain

   This is free and unencumbered software released into the public domain. Anyone is free to copy, modify, publish, use,
   compile, sell, or distribute this software, either in source code form or as a compiled binary, for any purpose,
   commercial or non-commercial, and by any means. In jurisdictions that recognize copyright laws, the authors dedicate
   any and all copyright interest in the software to the public domain. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT
   WARRANTY OF ANY KIND. */
