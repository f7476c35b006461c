/* library.h: wsserver.h with its private functions, for tests. Include this instead of wsserver.h.

   The library's calls to the system, and to the heap, go through test_system: a test puts its own functions there, either in
   the course of a test or, with REPLACE, before main begins:
       REPLACE(send, fake_send)
   A test that is compiled alone, "cc tests/unit/json.c -pthread", compiles the library too. The Makefile compiles it once for
   all (library.c) and says TEST_LINKED: then a test sees declarations only, which declare.awk took out of the header. A test
   that needs the library in some other way includes wsserver.h itself, and is compiled with all of it each time. */
#ifndef TEST_LIBRARY_H
#define TEST_LIBRARY_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "request.h"

/* X(result, name, parameters) for each call whose function can stand in the table as it is, Y(..., arguments) for each that
   libc declares in a way of its own. */
#define TEST_SYSTEM(X, Y)                                                                                          \
    X(int, chmod, (const char *, mode_t))                                                                          \
    X(int, clock_gettime, (clockid_t, struct timespec *))                                                          \
    X(int, close, (int))                                                                                           \
    X(int, epoll_create1, (int))                                                                                   \
    X(int, epoll_ctl, (int, int, int, struct epoll_event *))                                                       \
    X(int, epoll_wait, (int, struct epoll_event *, int, int))                                                      \
    X(int, eventfd, (unsigned, int))                                                                               \
    X(int, fchmod, (int, mode_t))                                                                                  \
    X(int, flock, (int, int))                                                                                      \
    X(int, fstat, (int, struct stat *))                                                                            \
    X(void, free, (void *))                                                                                        \
    X(ssize_t, getrandom, (void *, size_t, unsigned))                                                              \
    X(int, getsockopt, (int, int, int, void *, socklen_t *))                                                       \
    X(int, listen, (int, int))                                                                                     \
    X(int, lstat, (const char *, struct stat *))                                                                   \
    X(int, poll, (struct pollfd *, nfds_t, int))                                                                   \
    X(int, pthread_create, (pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))                       \
    X(ssize_t, read, (int, void *, size_t))                                                                        \
    X(void *, realloc, (void *, size_t))                                                                           \
    X(ssize_t, recv, (int, void *, size_t, int))                                                                   \
    X(int, sched_yield, (void))                                                                                    \
    X(ssize_t, send, (int, const void *, size_t, int))                                                             \
    X(ssize_t, sendmsg, (int, const struct msghdr *, int))                                                         \
    X(int, setsockopt, (int, int, int, const void *, socklen_t))                                                   \
    X(int, shutdown, (int, int))                                                                                   \
    X(int, socket, (int, int, int))                                                                                \
    X(int, timerfd_create, (int, int))                                                                             \
    X(int, timerfd_settime, (int, int, const struct itimerspec *, struct itimerspec *))                            \
    X(int, unlink, (const char *))                                                                                 \
    X(ssize_t, write, (int, const void *, size_t))                                                                 \
    Y(int, accept4, (int fd, struct sockaddr *address, socklen_t *size, int flags), (fd, address, size, flags))    \
    Y(int, bind, (int fd, const struct sockaddr *address, socklen_t size), (fd, address, size))                    \
    Y(int, connect, (int fd, const struct sockaddr *address, socklen_t size), (fd, address, size))                 \
    Y(int, fcntl, (int fd, int command, int value), (fd, command, value))                                          \
    Y(int, open, (const char *path, int flags, mode_t mode), (path, flags, mode))                                  \
    Y(int, getpeername, (int fd, struct sockaddr *address, socklen_t *size), (fd, address, size))                  \
    Y(int, getrlimit, (int what, struct rlimit *limit), (((void)what, RLIMIT_NOFILE), limit)) /* no other */        \
    Y(int, ioctl, (int fd, TEST_REQUEST request, void *data), (fd, request, data))                                 \
    Y(int, getsockname, (int fd, struct sockaddr *address, socklen_t *size), (fd, address, size))

#define TEST_MEMBER(result, name, parameters) result(*name) parameters;
#define TEST_MEMBER_OF(result, name, parameters, arguments) result(*name) parameters;
typedef struct test_calls {
    TEST_SYSTEM(TEST_MEMBER, TEST_MEMBER_OF)
    long (*syscall)(long, ...);
    int (*lock)(pthread_mutex_t *);
    int (*unlock)(pthread_mutex_t *);
} test_calls;

#define REPLACE(name, function)                                                                                    \
    __attribute__((constructor)) static void test_replace_##name(void) {                                           \
        test_system.name = function;                                                                               \
    }

#if defined(TEST_LINKED)

extern test_calls test_system;
#define WSSERVER_IMPLEMENTATION
#include <declared.h>

#else

#define TEST_NOTHING(result, name, parameters)
#define TEST_CALL(result, name, parameters, arguments) \
    static result test_##name parameters {             \
        return name arguments;                         \
    }
TEST_SYSTEM(TEST_NOTHING, TEST_CALL)

#define TEST_VALUE(result, name, parameters) name,
#define TEST_VALUE_OF(result, name, parameters, arguments) test_##name,
test_calls test_system = {TEST_SYSTEM(TEST_VALUE, TEST_VALUE_OF) syscall, pthread_mutex_lock, pthread_mutex_unlock};

#undef pthread_mutex_lock
#undef pthread_mutex_unlock
#define pthread_mutex_lock(mutex) test_system.lock(mutex)
#define pthread_mutex_unlock(mutex) test_system.unlock(mutex)
#define WSS__BASE_ASSERT(truth) ((truth) ? (void)0 : abort())
#if !defined(WSSERVER_SYSTEM) /* a test may look at each call */
#define WSSERVER_SYSTEM(name) test_system.name
#endif
#define WSSERVER_REALLOC(pointer, size) test_system.realloc(pointer, size)
#define WSSERVER_FREE(pointer) test_system.free(pointer)
#define WSSERVER_IMPLEMENTATION
#if defined(TEST_EXPORTED)
#include <exported.h>
#else
#define WSSERVER_STATIC
#ifndef WSSERVER_TESTED
#define WSSERVER_TESTED "../wsserver.h"
#endif
#include WSSERVER_TESTED
#endif
#undef pthread_mutex_lock
#undef pthread_mutex_unlock

#endif
#endif
