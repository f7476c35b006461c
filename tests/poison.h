/* poison.h: memory that nobody may touch for a while, where AddressSanitizer is there to see it. */
#ifndef POISON_H
#define POISON_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISON_WORKS 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define POISON_WORKS 1
#endif
#if defined(POISON_WORKS)
#include <sanitizer/asan_interface.h>
#define POISON(pointer, size) ASAN_POISON_MEMORY_REGION(pointer, size)
#define UNPOISON(pointer, size) ASAN_UNPOISON_MEMORY_REGION(pointer, size)
#else
#define POISON(pointer, size) ((void)(pointer), (void)(size))
#define UNPOISON(pointer, size) ((void)(pointer), (void)(size))
#endif

#endif
