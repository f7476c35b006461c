/* The implementation after system headers and after the declarations. In GNU mode this works; in strict C11 the system
   headers have hidden by then what the implementation needs, and it must say so. */
#include <stdio.h>
#include <string.h>
#include "../../wsserver.h"
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"
#ifndef WSSERVER_IMPLEMENTATION_INCLUDED
#error "the implementation is missing"
#endif
