/* Every system call of every scene fails, at each of its occurrences, with each error it may return; receives and sends are
   cut short, waits end early or tell of what has not happened. A point is (scene, call, fault, occurrence); each fault must
   have struck, no bystander may notice, and nothing may be left. Then all moves one byte at a time, or at random. */
#include "scenarios.h"

typedef struct fault_kind {
    int call;
    int kind;
    int value;
} fault_kind;

#define E(call, value) {SIM_##call, SIM_ERROR, value}

static const fault_kind kinds[] = {
    E(accept4, EAGAIN), E(accept4, EINTR), E(accept4, ECONNABORTED), E(accept4, EMFILE), E(accept4, ENFILE),
    E(accept4, ENOBUFS), E(accept4, ENOMEM), E(accept4, EPROTO), E(accept4, EPERM), E(accept4, ENETDOWN),
    E(accept4, ENOPROTOOPT), E(accept4, EHOSTDOWN), E(accept4, ENONET), E(accept4, EHOSTUNREACH), E(accept4, ENETUNREACH),
    E(accept4, EOPNOTSUPP), E(accept4, EBADF), E(accept4, EINVAL), E(accept4, ENOTSOCK),
    E(bind, EADDRINUSE), E(bind, EACCES), E(bind, EADDRNOTAVAIL), E(bind, EINVAL), E(bind, ENOMEM), E(bind, EROFS),
    E(chmod, EPERM), E(chmod, ENOENT), E(chmod, EROFS),
    E(close, EINTR), E(close, EIO), E(close, ENOSPC),
    E(connect, ECONNREFUSED), E(connect, EACCES), E(connect, EAGAIN), E(connect, EINTR), E(connect, ENOENT),
    E(epoll_create1, EMFILE), E(epoll_create1, ENFILE), E(epoll_create1, ENOMEM),
    E(epoll_ctl, ENOMEM), E(epoll_ctl, ENOSPC), E(epoll_ctl, EPERM), E(epoll_ctl, EBADF), E(epoll_ctl, EINVAL),
    E(epoll_wait, EINTR), E(epoll_wait, EBADF), {SIM_epoll_wait, SIM_EMPTY, 0},
    {SIM_epoll_wait, SIM_SPURIOUS, 0},
    E(eventfd, EMFILE), E(eventfd, ENFILE), E(eventfd, ENOMEM), E(eventfd, ENODEV),
    E(fcntl, EBADF), E(fcntl, EINVAL), E(fcntl, EACCES),
    E(fchmod, EPERM), E(fchmod, EIO), E(flock, EINTR), E(flock, ENOLCK), E(flock, EWOULDBLOCK), E(fstat, EIO), E(fstat, ENOMEM),
    E(getpeername, ENOTCONN), E(getpeername, ENOBUFS), E(getpeername, EINVAL),
    E(getrandom, EAGAIN), E(getrandom, ENOSYS), E(getrandom, EINTR),
    E(getrlimit, EPERM), E(getrlimit, EFAULT),
    E(getsockname, ENOBUFS), E(getsockname, EINVAL),
    E(getsockopt, ENOPROTOOPT), E(getsockopt, ENOBUFS),
    E(listen, EADDRINUSE), E(listen, EOPNOTSUPP), E(listen, EINVAL),
    E(lstat, ENOENT), E(lstat, EACCES), E(lstat, ELOOP),
    E(open, EACCES), E(open, EMFILE), E(open, ENFILE), E(open, ENOENT), E(open, ELOOP), E(open, EROFS),
    E(poll, EINTR), E(poll, ENOMEM), {SIM_poll, SIM_EMPTY, 0},
    E(read, EAGAIN), E(read, EINTR),
    E(recv, EAGAIN), E(recv, EINTR), E(recv, ECONNRESET), E(recv, ETIMEDOUT), E(recv, EHOSTUNREACH), E(recv, ENETDOWN),
    E(recv, ENOTCONN), E(recv, ENOMEM), E(recv, ENOBUFS), E(recv, EIO), {SIM_recv, SIM_SHORT, 1}, {SIM_recv, SIM_SHORT, 2},
    {SIM_recv, SIM_SHORT, 5}, {SIM_recv, SIM_SHORT, 7}, {SIM_recv, SIM_SHORT, 200}, {SIM_recv, SIM_SHORT, 5000},
    E(send, EAGAIN), E(send, EINTR), E(send, EPIPE), E(send, ECONNRESET), E(send, ENOBUFS), E(send, ENOMEM), E(send, ETIMEDOUT),
    E(send, EHOSTUNREACH), E(send, ENETDOWN), E(send, EMSGSIZE), E(send, EIO), E(send, EACCES), {SIM_send, SIM_SHORT, 1},
    {SIM_send, SIM_SHORT, 2}, {SIM_send, SIM_SHORT, 3}, {SIM_send, SIM_SHORT, 10}, {SIM_send, SIM_SHORT, 100},
    {SIM_send, SIM_SHORT, 700},
    E(sendmsg, EAGAIN), E(sendmsg, EINTR), E(sendmsg, EPIPE), E(sendmsg, ECONNRESET), E(sendmsg, ENOBUFS), E(sendmsg, ENOMEM),
    E(sendmsg, ETIMEDOUT), E(sendmsg, EHOSTUNREACH), E(sendmsg, EMSGSIZE), E(sendmsg, EIO), {SIM_sendmsg, SIM_SHORT, 1},
    {SIM_sendmsg, SIM_SHORT, 2}, {SIM_sendmsg, SIM_SHORT, 3}, {SIM_sendmsg, SIM_SHORT, 4}, {SIM_sendmsg, SIM_SHORT, 5},
    {SIM_sendmsg, SIM_SHORT, 1000}, {SIM_sendmsg, SIM_SHORT, 20000},
    E(setsockopt, ENOPROTOOPT), E(setsockopt, EINVAL), E(setsockopt, ENOBUFS),
    E(shutdown, ENOTCONN), E(shutdown, ENOBUFS),
    E(socket, EAFNOSUPPORT), E(socket, EMFILE), E(socket, ENFILE), E(socket, ENOBUFS), E(socket, EACCES),
    E(timerfd_create, EMFILE), E(timerfd_create, ENFILE), E(timerfd_create, ENOMEM),
    E(timerfd_settime, EINVAL), E(timerfd_settime, ECANCELED),
    E(unlink, ENOENT), E(unlink, EACCES), E(unlink, EROFS),
    E(write, EAGAIN), E(write, EINTR),
};

enum { KINDS = sizeof kinds / sizeof *kinds };

static long points, consumed, runs;

static const char *fault_text(const fault_kind *kind) {
    static char text[48];
    if (kind->kind == SIM_SHORT) snprintf(text, sizeof text, "%d bytes", kind->value);
    else if (kind->kind == SIM_EMPTY) snprintf(text, sizeof text, "nothing");
    else if (kind->kind == SIM_SPURIOUS) snprintf(text, sizeof text, "spurious");
    else snprintf(text, sizeof text, "%s", strerror(kind->value));
    return text;
}

static void run_point(const scene *it, const fault_kind *kind, long occurrence) {
    snprintf(stage_label, sizeof stage_label, "%s: %s %ld: %s", it->name, sim_call_names[kind->call], occurrence,
             fault_text(kind));
    scene_begin(it, 1);
    stage.faults[0].call = kind->call;
    stage.faults[0].kind = kind->kind;
    stage.faults[0].value = kind->value;
    stage.faults[0].first = occurrence;
    stage.faults[0].count = 1;
    stage.fault_count = 1;
    scene_run();
    points++;
    consumed += stage.faults[0].struck == 1;
    if (stage.faults[0].struck != 1) stage_violated("the fault did not strike once");
}

static void sweep(const scene *it) {
    long calls[SIM_CALL_COUNT];
    snprintf(stage_label, sizeof stage_label, "%s", it->name);
    scene_begin(it, 1);
    scene_run();
    memcpy(calls, stage.calls, sizeof calls);
    for (int i = 0; i < KINDS; i++)
        for (long occurrence = 1; occurrence <= calls[kinds[i].call]; occurrence++) run_point(it, &kinds[i], occurrence);
}

/* The same error from an occurrence on, again and again: nothing may spin, and it ends when the error does. */
static void persist(const scene *it) {
    static const fault_kind lasting[] = {E(accept4, EMFILE), E(accept4, ENOMEM), E(accept4, ECONNABORTED), E(recv, EIO),
                                         E(send, ENOBUFS), E(sendmsg, ENOMEM), E(send, EPIPE), E(epoll_ctl, ENOSPC),
                                         E(setsockopt, EINVAL), E(getpeername, ENOTCONN), E(write, EAGAIN), E(close, EIO),
                                         E(shutdown, ENOTCONN), E(epoll_wait, EINTR), E(epoll_wait, EBADF)};
    for (size_t i = 0; i < sizeof lasting / sizeof *lasting; i++) {
        snprintf(stage_label, sizeof stage_label, "%s: always %s: %s", it->name, sim_call_names[lasting[i].call],
                 fault_text(&lasting[i]));
        scene_begin(it, 1);
        stage.faults[0].call = lasting[i].call;
        stage.faults[0].kind = lasting[i].kind;
        stage.faults[0].value = lasting[i].value;
        stage.faults[0].first = 1;
        stage.fault_count = 1;
        stage.lasting = 1;
        scene_run();
        runs++;
    }
}

/* One byte at a time, either way or both; a few where there is much to move. */
static void trickle(const scene *it) {
    size_t most = it->run == large_run ? 37 : 1;
    for (int mode = 1; mode < 4; mode++) {
        snprintf(stage_label, sizeof stage_label, "%s: one byte at a time, mode %d", it->name, mode);
        scene_begin(it, 1);
        stage.random = 1;
        sim.recv_most = mode & 1 ? most : 0;
        sim.send_most = mode & 2 ? most : 0;
        scene_run();
        runs++;
    }
}

/* The kernel is busy with a tenth, a half, nine tenths of what it is asked. */
static void be_busy(const scene *it) {
    static const int percents[] = {10, 50, 90};
    for (int i = 0; i < 3; i++)
        for (unsigned seed = 1; seed <= 3; seed++) {
            snprintf(stage_label, sizeof stage_label, "%s: busy %d %%, seed %u", it->name, percents[i], seed);
            scene_begin(it, seed);
            stage.random = 1;
            sim.again_percent = percents[i];
            scene_run();
            runs++;
        }
}

#define EACH(name, function)                             \
    static void name(void) {                             \
        for (int i = 0; i < SCENES; i++) function(&scenes[i]); \
    }

EACH(test_every_call_fails_at_every_occurrence, sweep)
EACH(test_lasting_errors, persist)
EACH(test_one_byte_at_a_time, trickle)
EACH(test_busy_at_random, be_busy)

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < STAGE_BIG; i++) stage_big[i] = (char)(i * 7 % 251);
    RUN(test_every_call_fails_at_every_occurrence);
    RUN(test_lasting_errors);
    RUN(test_one_byte_at_a_time);
    RUN(test_busy_at_random);
    printf("faults: %d scenarios, %ld points, %ld consumed, %ld further runs\n", SCENES, points, consumed, runs);
    CHECK(points >= 15000);
    return test_end("faults");
}
