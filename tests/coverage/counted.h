/* What is always inlined is counted as what it is, a function; but not that of the compiler, which exists only inlined. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* before the first header of the system */
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#define __always_inline__ unused
