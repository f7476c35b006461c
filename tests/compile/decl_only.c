/* The declarations alone, included first and by themselves. */
#include "../../wsserver.h"
#ifdef WSSERVER_IMPLEMENTATION_INCLUDED
#error "the implementation came along uncalled for"
#endif

extern wss_server *make(wss_error *why);
extern int answer(const wss_event *e);

wss_server *make(wss_error *why) {
    wss_options options = {0};
    options.port = 8080;
    return wss_create(&options, why);
}

int answer(const wss_event *e) {
    wss_args none = {0};
    return wss_send(e->server, e->conn, "answer", none);
}
