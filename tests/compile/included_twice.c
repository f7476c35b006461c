/* The implementation, then the header again, plainly and with the switch still on. */
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"
#ifndef WSSERVER_IMPLEMENTATION_INCLUDED
#error "the implementation is missing"
#endif
#include "../../wsserver.h"
#undef WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"
