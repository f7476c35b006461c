/* Names that programs and other headers make macros of. */
#define byte unsigned char
#define small char
#define unused __attribute__((unused))
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define likely(x) __builtin_expect(!!(x), 1)
#define format printf_like
#define aligned(x) __attribute__((aligned(x)))
#define noinline __attribute__((noinline))
#define true 1
#define false 0
#define OK 0
#define None 0L
#define Status int
#define Bool int
#define PATH "/"
#define ARGUMENT 7
#define WSSERVER_IMPLEMENTATION
#include "../../wsserver.h"
int main(void) {
    return min(1, 2) != 1 || max(1, 2) != 2;
}
