/* The library with its work counted, once for all fuzzers that are linked with it: see fuzz/work.h. */
#define TEST_EXPORTED
#include "fuzz/work.h"
