/* The library once for all tests that are linked with it, its private functions for everybody: see library.h. */
#define TEST_EXPORTED
#include "library.h"
