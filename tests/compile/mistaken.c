/* Two mistakes that would else show at the linker, or never: the header says of each what to do. */
#include "../../wsserver.h"
#define WSSERVER_STATIC
#define WSSERVER_REALLOC(pointer, size) realloc(pointer, size)
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"
