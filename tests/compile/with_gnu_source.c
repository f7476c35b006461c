/* The implementation after system headers in strict mode, with _GNU_SOURCE defined in good time. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/socket.h>
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"
#ifndef WSSERVER_IMPLEMENTATION_INCLUDED
#error "the implementation is missing"
#endif
