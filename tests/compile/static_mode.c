/* Everything static: no warning that something is unused, and no global symbol. */
#define WSSERVER_STATIC
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"
#ifndef WSSERVER_IMPLEMENTATION_INCLUDED
#error "the implementation is missing"
#endif
