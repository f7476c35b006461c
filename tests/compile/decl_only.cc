// The declarations alone, in C++.
#include "../../wsserver.h"
#ifdef WSSERVER_IMPLEMENTATION_INCLUDED
#error "the implementation came along uncalled for"
#endif

wss_server *make(wss_error *why);
int answer(const wss_event *e);

wss_server *make(wss_error *why) {
    wss_options options = {};
    options.port = 8080;
    return wss_create(&options, why);
}

int answer(const wss_event *e) {
    wss_args none = {};
    return wss_send(e->server, e->conn, "answer", none);
}
