/* The implementation, included first and by itself. */
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"
#ifndef WSSERVER_IMPLEMENTATION_INCLUDED
#error "the implementation is missing"
#endif
