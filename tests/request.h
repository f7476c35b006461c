/* The type of the second argument of ioctl, which a function that stands for it has to have as well. */
#ifndef TEST_REQUEST_H
#define TEST_REQUEST_H

#include <features.h>

#if defined(__GLIBC__)
#define TEST_REQUEST unsigned long
#else
#define TEST_REQUEST int /* musl */
#endif

#endif
