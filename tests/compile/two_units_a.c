/* Of two files that include the header, this one has the implementation. two_units_b.c has main. */
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"
#ifndef WSSERVER_IMPLEMENTATION_INCLUDED
#error "the implementation is missing"
#endif
