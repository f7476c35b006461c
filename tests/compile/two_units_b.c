/* Uses what two_units_a.c implements: a server on a free port, made, named and destroyed. */
#include "../../wsserver.h"
#include <stdio.h>
#ifdef WSSERVER_IMPLEMENTATION_INCLUDED
#error "the implementation came along uncalled for"
#endif

int main(void) {
    wss_error why;
    wss_options options = {0};
    options.address = "127.0.0.1";
    wss_server *server = wss_create(&options, &why);
    if (!server) {
        fprintf(stderr, "%s\n", why.text);
        return 1;
    }
    wss_get_options(server, &options);
    return wss_destroy(server) != WSS_OK || options.port <= 0;
}
