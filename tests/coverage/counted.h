/* What is always inlined is counted as what it is, a function; but not that of the compiler, which exists only inlined. */
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#define __always_inline__ unused
