/* Unit tests of [socket]: addresses, listening in every way, what is left behind by failures, who owns the path of a Unix
   socket, small calls. */
#define _GNU_SOURCE 1
#define _FILE_OFFSET_BITS 64 /* readdir fails where offsets in directories are larger than an int */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../request.h"

/* System calls that fail on demand: 0, or the errno. */
static int no_ip4;       /* what socket() says to AF_INET, */
static int no_ip6;       /* and to AF_INET6 */
static int no_ip4_bind;  /* what bind() says to these */
static int no_ip6_bind;
static int six_in_use;   /* how many ports AF_INET6 finds in use */
static int interruptions; /* how many calls that transfer data are interrupted */

static int unix_fails; /* what socket() says to AF_UNIX */

static int refused(int number) {
    errno = number ? number : errno;
    return number != 0;
}

/* One call, by its name, fails: at its occurrence number nth, from 0, and so many times. */
static struct {
    const char *call;
    int number;
    int nth;
    int times;
    int struck;
} failing;

static int strikes(const char *call) {
    if (!failing.call || strcmp(failing.call, call) != 0 || failing.nth-- > 0 || failing.times-- <= 0) return 0;
    failing.struck++;
    errno = failing.number;
    return 1;
}

/* Permissions that a path had at any moment: looked at around each call that gives it some. */
static const char *watched;
static mode_t widest;
static int chmod_calls;

static void look(void) {
    struct stat info;
    if (watched && lstat(watched, &info) == 0) widest |= info.st_mode & 07777;
}

static int fake_fchmod(int fd, mode_t mode) {
    if (strikes("fchmod")) return -1;
    int result = fchmod(fd, mode);
    look();
    return result;
}

static int fake_chmod(const char *path, mode_t mode) {
    chmod_calls++;
    look();
    if (strikes("chmod")) return -1;
    int result = chmod(path, mode);
    look();
    return result;
}

static int fake_bind(int fd, const struct sockaddr *address, socklen_t size) {
    if (strikes("bind")) return -1;
    if (address->sa_family == AF_INET6 && six_in_use && six_in_use--) {
        errno = EADDRINUSE;
        return -1;
    }
    if (address->sa_family == AF_INET && refused(no_ip4_bind)) return -1;
    if (address->sa_family == AF_INET6 && refused(no_ip6_bind)) return -1;
    int result = bind(fd, address, size);
    int number = errno;
    look();
    errno = number;
    return result;
}

static void (*before_open)(const char *path); /* of a path that is there */

static int fake_open(const char *path, int flags, mode_t mode) {
    if (before_open && !(flags & O_CREAT)) before_open(path);
    return strikes("open") ? -1 : open(path, flags, mode);
}

static void (*before_flock)(int how); /* what others do at this moment */

static int fake_flock(int fd, int how) {
    if (strikes("flock")) return -1;
    if (before_flock) before_flock(how);
    return flock(fd, how);
}

static int fake_fstat(int fd, struct stat *info) {
    return strikes("fstat") ? -1 : fstat(fd, info);
}

static int fake_lstat(const char *path, struct stat *info) {
    return strikes("lstat") ? -1 : lstat(path, info);
}

static int listened; /* the backlog that was asked for */

static int fake_listen(int fd, int backlog) {
    look();
    listened = backlog;
    return strikes("listen") ? -1 : listen(fd, backlog);
}

static int fake_socket(int family, int type, int protocol) {
    if (family == AF_UNIX && refused(unix_fails)) return -1;
    if (family == AF_INET && refused(no_ip4)) return -1;
    if (family == AF_INET6 && refused(no_ip6)) return -1;
    return strikes("socket") ? -1 : socket(family, type, protocol);
}

static int closed_fd = -1; /* the descriptor whose closing is looked at, */
static int stood = -1;     /* and whether the path that is watched stood there at that moment */

static int fake_close(int fd) {
    if (fd >= 0 && fd == closed_fd) stood = watched && access(watched, F_OK) == 0;
    return close(fd);
}

static int interrupted(void) {
    if (!interruptions) return 0;
    interruptions--;
    errno = EINTR;
    return 1;
}

static ssize_t fake_recv(int fd, void *data, size_t size, int flags) {
    return interrupted() ? -1 : recv(fd, data, size, flags);
}

static int send_flags;

static ssize_t fake_send(int fd, const void *data, size_t size, int flags) {
    send_flags = flags;
    return interrupted() ? -1 : send(fd, data, size, flags);
}

static ssize_t fake_sendmsg(int fd, const struct msghdr *message, int flags) {
    send_flags = flags;
    return interrupted() ? -1 : sendmsg(fd, message, flags);
}

/* Calls that fail once, or answer what the test wants. */
static int random_fails;
static int fcntl_fails; /* the command that fails */
static int sockopt_fails;

static ssize_t fake_getrandom(void *data, size_t size, unsigned flags) {
    if (random_fails) errno = random_fails;
    return random_fails ? -1 : getrandom(data, size, flags);
}

static int fake_fcntl(int fd, int command, int argument) {
    if (fcntl_fails && command == fcntl_fails) {
        errno = EBADF;
        return -1;
    }
    return fcntl(fd, command, argument);
}

static int fake_getsockopt(int fd, int level, int name, void *value, socklen_t *size) {
    return refused(sockopt_fails) ? -1 : getsockopt(fd, level, name, value, size);
}

static int ioctl_fails;

static int fake_ioctl(int fd, TEST_REQUEST request, void *data) {
    return refused(ioctl_fails) ? -1 : ioctl(fd, request, data);
}

static int option_calls; /* of setsockopt */

static int fake_setsockopt(int fd, int level, int name, const void *value, socklen_t size) {
    option_calls++;
    return setsockopt(fd, level, name, value, size);
}

#include "../library.h"

REPLACE(ioctl, fake_ioctl)
REPLACE(setsockopt, fake_setsockopt)
REPLACE(getrandom, fake_getrandom)
REPLACE(fcntl, fake_fcntl)
REPLACE(getsockopt, fake_getsockopt)
REPLACE(bind, fake_bind)
REPLACE(chmod, fake_chmod)
REPLACE(close, fake_close)
REPLACE(fchmod, fake_fchmod)
REPLACE(flock, fake_flock)
REPLACE(fstat, fake_fstat)
REPLACE(listen, fake_listen)
REPLACE(lstat, fake_lstat)
REPLACE(open, fake_open)
REPLACE(socket, fake_socket)
REPLACE(recv, fake_recv)
REPLACE(send, fake_send)
REPLACE(sendmsg, fake_sendmsg)

#include "../test.h"

/* Under gcc --coverage: a child that leaves by _exit writes down what it reached only when asked to. */
extern void __gcov_dump(void) __attribute__((weak));

static int count_descriptors(void) {
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (!dir) return -1;
    while (readdir(dir)) count++;
    closedir(dir);
    return count;
}

/* ---- addresses ---- */

static socklen_t parse(const char *text, int port, wss__socket_address *address) {
    size_t size = strlen(text);
    char *copy = guard_copy(text, size);
    socklen_t result = wss__socket_parse(wss__base_span(copy, size), port, address);
    guard_free(copy, size);
    return result;
}

static void good_addresses(void) {
    static const struct {
        const char *text;
        const char *host;
        int family;
        int port; /* 77 is the one that is taken where the text has none */
    } samples[] = {
        {"127.0.0.1", "127.0.0.1", AF_INET, 77},
        {"127.0.0.1:8080", "127.0.0.1", AF_INET, 8080},
        {"127.0.0.1:0", "127.0.0.1", AF_INET, 0},
        {"0.0.0.0:65535", "0.0.0.0", AF_INET, 65535},
        {"255.255.255.255:00080", "255.255.255.255", AF_INET, 80},
        {"::", "::", AF_INET6, 77},
        {"::1", "::1", AF_INET6, 77},
        {"[::1]", "::1", AF_INET6, 77},
        {"[::1]:8080", "::1", AF_INET6, 8080},
        {"[::]:0", "::", AF_INET6, 0},
        {"2001:db8::1", "2001:db8::1", AF_INET6, 77},
        {"[2001:DB8:0:0:0:0:0:1]:65535", "2001:db8::1", AF_INET6, 65535},
        {"2001:db8::1:80", "2001:db8::1:80", AF_INET6, 77}, /* without brackets all of it is the address */
        {"::ffff:192.0.2.1", "::ffff:192.0.2.1", AF_INET6, 77},
        {"[::ffff:192.0.2.1]:5", "::ffff:192.0.2.1", AF_INET6, 5},
        {"1111:2222:3333:4444:5555:6666:7777:8888", "1111:2222:3333:4444:5555:6666:7777:8888", AF_INET6, 77},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        wss__socket_address address;
        char host[64] = "";
        socklen_t size = parse(samples[i].text, 77, &address);
        int six = samples[i].family == AF_INET6;
        if (!size) printf("address %s\n", samples[i].text);
        CHECK_INT(size, six ? sizeof address.v6 : sizeof address.v4);
        CHECK_INT(address.any.sa_family, samples[i].family);
        if (six) inet_ntop(AF_INET6, &address.v6.sin6_addr, host, sizeof host);
        else inet_ntop(AF_INET, &address.v4.sin_addr, host, sizeof host);
        CHECK_TEXT(host, samples[i].host);
        CHECK_INT(wss__socket_port_of(&address), samples[i].port);
    }
}

static void bad_addresses(void) {
    static const char *const samples[] = {
        "",
        " ",
        ":",
        ":80",
        "80",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.4 ",
        "1.2.3.4:",
        "1.2.3.4:65536",
        "1.2.3.4:-1",
        "1.2.3.4:+1",
        "1.2.3.4: 80",
        "1.2.3.4:80 ",
        "1.2.3.4:8x",
        "1.2.3.4:99999999999999999999",
        "1.2.3.4/8",
        "[",
        "[]",
        "[]:80",
        "]",
        "[::1",
        "[::1]80",
        "[::1]:",
        "[::1]:65536",
        "[::1]:x",
        "[::1]]:80",
        "[[::1]]:80",
        "::1]",
        "::1]:80",
        ":::",
        "g::1",
        "12345::1",
        "1:2:3:4:5:6:7:8:9",
        "1:2:3",
        "fe80::1%lo",
        "example.com",
        "example.com:80",
        "localhost", /* that is two */
        "localhost:9",
        "localhost.",
        "localhost:",
        "http://127.0.0.1",
        "*",
        "*:80",
        "[aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]:80",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        wss__socket_address address;
        int good = parse(samples[i], 77, &address) != 0;
        if (good) printf("address %s\n", samples[i]);
        CHECK(!good);
    }
    for (size_t size = 50; size < 80; size++) { /* around the longest that is looked at */
        char text[100];
        wss__socket_address address;
        memset(text, '1', size);
        text[size] = 0;
        CHECK_INT(parse(text, 77, &address), 0);
    }
}

/* ---- listening ---- */

static wss__socket_listeners all;
static wss_error why;

static wss_options options_for(const char *address, int port) {
    wss_options options;
    memset(&options, 0, sizeof options);
    memset(&all, 0, sizeof all);
    memset(&why, 0x5a, sizeof why);
    options.address = address;
    options.port = port;
    options.unix_mode = 0660;
    return options;
}

static int listen_on(const char *address) {
    wss_options options = options_for(address, 0);
    return wss__socket_listen(&all, &options, &why);
}

static int connect_to(const char *host, int port) {
    wss__socket_address address;
    socklen_t size = wss__socket_parse(wss__base_text(host), port, &address);
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, &address.any, size) == 0) return fd;
    close(fd);
    return -1;
}

/* Nobody listens there; who connects may be given the very port as his own, and then meets himself. */
static int is_refused(const char *host, int port) {
    for (int tries = 0; tries < 10; tries++) {
        wss__socket_address own;
        socklen_t size = sizeof own;
        int fd = connect_to(host, port);
        if (fd < 0) return errno == ECONNREFUSED;
        int himself = getsockname(fd, &own.any, &size) == 0 && wss__socket_port_of(&own) == port;
        close(fd);
        if (!himself) break;
    }
    return 0;
}

static int unix_socket(const char *path, struct sockaddr_un *address) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, strlen(path));
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static int connect_unix(const char *path) {
    struct sockaddr_un address;
    int fd = unix_socket(path, &address);
    if (connect(fd, (struct sockaddr *)(void *)&address, sizeof address) == 0) return fd;
    int number = errno;
    close(fd);
    errno = number;
    return -1;
}

/* A Unix socket that is bound, and listens if asked to. */
static int bind_unix(const char *path, int backlog) {
    struct sockaddr_un address;
    int fd = unix_socket(path, &address);
    CHECK_INT(bind(fd, (struct sockaddr *)(void *)&address, sizeof address), 0);
    if (backlog >= 0) CHECK_INT(listen(fd, backlog), 0);
    return fd;
}

static int exists(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0;
}

/* Files in the test's folder: sockets, locks, whatever. */
static int count_files(void) {
    int count = -2; /* itself and the one above */
    DIR *dir = opendir(".");
    if (!dir) return -1;
    while (readdir(dir)) count++;
    closedir(dir);
    return count;
}

static void fail(const char *call, int number, int nth, int times) {
    failing.call = call;
    failing.number = number;
    failing.nth = nth;
    failing.times = times;
    failing.struck = 0;
}

static void fail_nothing(void) {
    CHECK(failing.struck > 0); /* or it was not tried */
    failing.call = NULL;
}

/* An error's text with the reason that this libc has for the number. Valid until the next call. */
static const char *reason(const char *text, int number) {
    static char whole[160];
    snprintf(whole, sizeof whole, "%s: %s", text, strerror(number));
    return whole;
}

/* Nothing is left of an attempt to listen that failed: no descriptor, no listener, no path, no lock. */
static void check_fails(const char *address, int code, int number, const char *text) {
    int before = count_descriptors();
    int files = count_files();
    CHECK_INT(listen_on(address), code);
    CHECK_INT(why.code, code);
    CHECK_INT(why.system_errno, number);
    if (text) CHECK_TEXT(why.text, text);
    CHECK(memchr(why.text, 0, sizeof why.text) != NULL);
    CHECK_INT(all.count, 0);
    CHECK_INT(count_descriptors(), before);
    CHECK_INT(count_files(), files);
}

static void close_all(void) {
    wss__socket_close_listeners(&all, 1);
    CHECK_INT(all.count, 0);
}

static int has_ip6(void) {
    int fd = connect_to("::1", 1);
    int missing = fd < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL || errno == ENETUNREACH);
    if (fd >= 0) close(fd);
    return !missing;
}

/* True where a listener is a Unix socket. */
static int is_unix(int number) {
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    CHECK_INT(getsockname(all.list[number].fd, (struct sockaddr *)(void *)&address, &size), 0);
    return address.ss_family == AF_UNIX;
}

static void port_is_read_back(void) {
    int before = count_descriptors();
    CHECK_INT(listen_on("127.0.0.1"), WSS_OK);
    CHECK_INT(listened, 4096);
    CHECK_INT(all.count, 1);
    CHECK(all.port > 0 && all.port < 65536);
    CHECK(!is_unix(0));
    CHECK_TEXT(all.list[0].path, "");
    int fd = connect_to("127.0.0.1", all.port);
    CHECK(fd >= 0);
    close(fd);
    CHECK(fcntl(all.list[0].fd, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(all.list[0].fd, F_GETFL) & O_NONBLOCK);
    int port = all.port;
    close_all();
    close_all();
    CHECK(is_refused("127.0.0.1", port));
    CHECK_INT(count_descriptors(), before);
}

/* Without an address: everywhere, IPv6 and IPv4 on one port. */
static void everywhere(void) {
    int before = count_descriptors();
    CHECK_INT(listen_on(NULL), WSS_OK);
    CHECK_INT(all.count, 1);
    CHECK(all.port > 0);
    int fd = connect_to("127.0.0.1", all.port);
    CHECK(fd >= 0);
    close(fd);
    if (has_ip6()) {
        fd = connect_to("::1", all.port);
        CHECK(fd >= 0);
        close(fd);
    } else {
        printf("IPv6 does not work here: skipped\n");
    }
    close_all();
    CHECK_INT(count_descriptors(), before);
}

/* An IPv6 address that is named takes IPv6 alone, so that the IPv4 one may be named beside it. */
static void each_family_by_itself(void) {
    int before = count_descriptors();
    if (!has_ip6()) {
        printf("IPv6 does not work here: skipped\n");
        return;
    }
    CHECK_INT(listen_on("::"), WSS_OK);
    CHECK_INT(all.count, 1);
    CHECK(is_refused("127.0.0.1", all.port));
    int fd = connect_to("::1", all.port);
    CHECK(fd >= 0);
    close(fd);
    close_all();
    static const char *const both[] = {"0.0.0.0,::", "::,0.0.0.0", "0.0.0.0 , [::]"};
    for (int i = 0; i < 3; i++) {
        CHECK_INT(listen_on(both[i]), WSS_OK);
        CHECK_INT(all.count, 2);
        for (int k = 0; k < 2; k++) {
            int client = connect_to(k ? "::1" : "127.0.0.1", all.port);
            int of = (k != 0) ^ (i == 1); /* which listener has it */
            CHECK(client >= 0);
            int server = accept(all.list[of].fd, NULL, NULL);
            CHECK(server >= 0);
            CHECK(accept(all.list[!of].fd, NULL, NULL) < 0 && errno == EAGAIN);
            close(client);
            close(server);
        }
        close_all();
    }
    CHECK_INT(count_descriptors(), before);
}

static int family_of(int number) {
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    CHECK_INT(getsockname(all.list[number].fd, (struct sockaddr *)(void *)&address, &size), 0);
    return address.ss_family;
}

static int port_of(int number) {
    wss__socket_address address;
    socklen_t size = sizeof address;
    CHECK_INT(getsockname(all.list[number].fd, &address.any, &size), 0);
    return wss__socket_port_of(&address);
}

/* The name has both addresses, and one port. */
static void localhost(void) {
    static const char *const names[] = {"localhost", "LocalHost", "localhost:0", "unix:beside,localhost:0"};
    char text[64];
    int before = count_descriptors();
    if (!has_ip6()) {
        printf("IPv6 does not work here: skipped\n");
        return;
    }
    for (int i = 0; i < 4; i++) {
        int at = i == 3; /* where they begin */
        CHECK_INT(listen_on(names[i]), WSS_OK);
        CHECK_INT(all.count, at + 2);
        CHECK_INT(family_of(at), AF_INET);
        CHECK_INT(family_of(at + 1), AF_INET6);
        CHECK_INT(port_of(at), all.port);
        CHECK_INT(port_of(at + 1), all.port);
        int four = connect_to("127.0.0.1", all.port);
        int six = connect_to("::1", all.port);
        CHECK(four >= 0 && six >= 0);
        close(four);
        close(six);
        close_all();
    }
    CHECK_INT(listen_on("127.0.0.2,localhost,unix:beside"), WSS_OK); /* it takes the port of the first */
    CHECK_INT(all.count, 4);
    CHECK_INT(port_of(1), port_of(0));
    CHECK_INT(port_of(2), port_of(0));
    int port = all.port;
    close_all();
    static const char *const formats[] = {"localhost:%d", "LOCALHOST:%d", "localhost:0000%d"};
    for (int i = 0; i < 3; i++) {
        snprintf(text, sizeof text, formats[i], port);
        wss_options options = options_for(text, 1); /* its own port goes before that of the options */
        CHECK_INT(wss__socket_listen(&all, &options, &why), WSS_OK);
        CHECK_INT(all.count, 2);
        CHECK_INT(port_of(0), port);
        CHECK_INT(port_of(1), port);
        close_all();
    }
    wss_options options = options_for("localhost", port);
    CHECK_INT(wss__socket_listen(&all, &options, &why), WSS_OK);
    CHECK_INT(port_of(0), port);
    CHECK_INT(port_of(1), port);
    wss__socket_listeners first = all;
    snprintf(text, sizeof text, "localhost:%d", port);
    check_fails(text, WSS_ERR_SYSTEM, EADDRINUSE, NULL);
    wss__socket_close(first.list[0].fd); /* one of both in use is enough, */
    first.list[0].fd = -1;
    check_fails(text, WSS_ERR_SYSTEM, EADDRINUSE, NULL);
    CHECK(is_refused("127.0.0.1", port)); /* and the other is not left */
    wss__socket_close_listeners(&first, 1);
    CHECK_INT(count_descriptors(), before);
}

/* A port that is free at the one address and not at the other: the kernel chooses another one; what was asked for is
   tried once. */
static void port_free_at_all(void) {
    char text[64];
    int before = count_descriptors();
    if (!has_ip6()) {
        printf("IPv6 does not work here: skipped\n");
        return;
    }
    static const char *const names[] = {"localhost", "127.0.0.1:0,unix:beside,::1", "localhost:0"};
    for (int i = 0; i < 3; i++)
        for (int tries = 1; tries <= WSS__SOCKET_TRIES; tries++) {
            six_in_use = tries;
            if (tries < WSS__SOCKET_TRIES) {
                CHECK_INT(listen_on(names[i]), WSS_OK);
                CHECK_INT(port_of(all.count - 1), port_of(0));
                close_all();
            } else {
                check_fails(names[i], WSS_ERR_SYSTEM, EADDRINUSE, NULL);
            }
            CHECK_INT(six_in_use, 0);
        }
    CHECK_INT(listen_on("localhost"), WSS_OK);
    int port = all.port;
    close_all();
    snprintf(text, sizeof text, "localhost:%d", port);
    six_in_use = 2;
    check_fails(text, WSS_ERR_SYSTEM, EADDRINUSE, NULL);
    CHECK_INT(six_in_use, 1);
    wss_options options = options_for("unix:beside,localhost", port);
    CHECK_INT(wss__socket_listen(&all, &options, &why), WSS_ERR_SYSTEM);
    CHECK_INT(six_in_use, 0);
    six_in_use = 1;
    check_fails("::1", WSS_ERR_SYSTEM, EADDRINUSE, NULL);
    CHECK_INT(six_in_use, 0);
    int used = bind_unix("used", 5);
    check_fails("127.0.0.1,unix:used", WSS_ERR_SYSTEM, EADDRINUSE, reason("cannot listen on unix:used", EADDRINUSE));
    close(used);
    unlink("used");
    CHECK_INT(count_descriptors(), before);
}

/* Machines that lack one of both have the other; other troubles are told. */
static void localhost_with_one_family(void) {
    static const struct {
        int *what;
        int family; /* that is left */
    } rows[] = {{&no_ip6, AF_INET}, {&no_ip6_bind, AF_INET}, {&no_ip4, AF_INET6}, {&no_ip4_bind, AF_INET6}};
    static const int numbers[] = {EAFNOSUPPORT, EADDRNOTAVAIL};
    int before = count_descriptors();
    for (int i = 0; i < 4; i++) {
        if (rows[i].family == AF_INET6 && !has_ip6()) continue;
        for (int k = 0; k < 2; k++) {
            *rows[i].what = numbers[k];
            CHECK_INT(listen_on("localhost"), WSS_OK);
            CHECK_INT(all.count, 1);
            CHECK_INT(count_descriptors(), before + 1);
            CHECK_INT(family_of(0), rows[i].family);
            int port = all.port;
            close_all();
            wss_options options = options_for("localhost,unix:beside", port);
            CHECK_INT(wss__socket_listen(&all, &options, &why), WSS_OK);
            CHECK_INT(all.count, 2);
            CHECK_INT(port_of(0), port);
            close_all();
        }
        *rows[i].what = EMFILE;
        check_fails("localhost", WSS_ERR_SYSTEM, EMFILE, reason("cannot listen on localhost", EMFILE));
        check_fails("localhost:0", WSS_ERR_SYSTEM, EMFILE, NULL);
        *rows[i].what = 0;
    }
    no_ip4 = no_ip6 = EAFNOSUPPORT;
    check_fails("localhost", WSS_ERR_SYSTEM, EAFNOSUPPORT, NULL);
    no_ip4 = no_ip6 = 0;
    no_ip4_bind = no_ip6_bind = EADDRNOTAVAIL;
    check_fails("unix:beside,localhost", WSS_ERR_SYSTEM, EADDRNOTAVAIL, NULL);
    no_ip4_bind = no_ip6_bind = 0;
}

static void everywhere_without_ip6(void) {
    static const int numbers_of_absence[] = {EAFNOSUPPORT, EADDRNOTAVAIL};
    int before = count_descriptors();
    for (int i = 0; i < 4; i++) {
        *(i < 2 ? &no_ip6 : &no_ip6_bind) = numbers_of_absence[i % 2];
        CHECK_INT(listen_on(NULL), WSS_OK);
        CHECK_INT(all.count, 1);
        CHECK_INT(count_descriptors(), before + 1);
        int fd = connect_to("127.0.0.1", all.port);
        CHECK(fd >= 0);
        close(fd);
        close_all();
        no_ip6 = no_ip6_bind = 0;
    }
    no_ip6 = EMFILE; /* that is another trouble, and IPv4 would not help */
    check_fails(NULL, WSS_ERR_SYSTEM, EMFILE, reason("cannot listen on all addresses, port 0", EMFILE));
    no_ip6 = 0;
}

static void everywhere_in_use(void) {
    CHECK_INT(listen_on("0.0.0.0"), WSS_OK);
    wss__socket_listeners first = all;
    int before = count_descriptors();
    char text[100];
    wss_options options = options_for(NULL, first.port);
    CHECK_INT(wss__socket_listen(&all, &options, &why), WSS_ERR_SYSTEM);
    CHECK_INT(why.system_errno, EADDRINUSE);
    snprintf(text, sizeof text, "cannot listen on all addresses, port %d", first.port);
    CHECK_TEXT(why.text, reason(text, EADDRINUSE));
    CHECK_INT(count_descriptors(), before);
    wss__socket_close_listeners(&first, 1);
}

static void several_addresses(void) {
    int before = count_descriptors();
    CHECK_INT(listen_on("127.0.0.1, 127.0.0.2 ,unix:one,127.0.0.1:0,unix:two"), WSS_OK);
    CHECK_INT(all.count, 5);
    for (int i = 0; i < 5; i++) CHECK_INT(is_unix(i), i == 2 || i == 4);
    int fds[5];
    fds[0] = connect_to("127.0.0.1", all.port);
    fds[1] = connect_to("127.0.0.2", all.port); /* an address without a port is given that of the first */
    fds[2] = connect_unix("one");
    wss__socket_address address;
    socklen_t size = sizeof address;
    CHECK_INT(getsockname(all.list[3].fd, &address.any, &size), 0);
    CHECK(wss__socket_port_of(&address) != all.port);
    fds[3] = connect_to("127.0.0.1", wss__socket_port_of(&address));
    fds[4] = connect_unix("two");
    for (int i = 0; i < 5; i++) {
        CHECK(fds[i] >= 0);
        close(fds[i]);
    }
    close_all();
    CHECK(!exists("one") && !exists("two"));
    CHECK_INT(count_descriptors(), before);
}

/* options.port is for all addresses that name none. */
static void port_of_the_options(void) {
    CHECK_INT(listen_on("127.0.0.1"), WSS_OK);
    int port = all.port; /* free, but for others who look for one at this moment */
    close_all();
    wss_options options = options_for("127.0.0.1,127.0.0.2:0", port);
    CHECK_INT(wss__socket_listen(&all, &options, &why), WSS_OK);
    CHECK_INT(all.port, port);
    close_all();
}

static void first_port_behind_a_path(void) {
    CHECK_INT(listen_on("unix:only"), WSS_OK);
    CHECK_INT(all.port, 0);
    close_all();
    CHECK_INT(listen_on("unix:one,127.0.0.1"), WSS_OK);
    CHECK(all.port > 0);
    close_all();
}

/* The most that there may be, and one more. */
static void too_many_addresses(void) {
    char text[WSS__SOCKET_LISTENERS_MAX * 16 + 32];
    size_t at = 0;
    for (int i = 0; i < WSS__SOCKET_LISTENERS_MAX; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s127.0.0.1:0", i ? "," : "");
    CHECK_INT(listen_on(text), WSS_OK);
    CHECK_INT(all.count, WSS__SOCKET_LISTENERS_MAX);
    close_all();
    static const char *const more[] = {",127.0.0.1:0", ",unix:more", ",fd:1", ",systemd", ",localhost:0", ",unix:@more"};
    for (int i = 0; i < 6; i++) {
        snprintf(text + at, sizeof text - at, "%s", more[i]);
        check_fails(text, WSS_ERR_ADDRESS, 0, NULL);
        CHECK(strstr(why.text, ": there can be at most 16") != NULL);
        CHECK(!exists("more"));
    }
    at -= strlen(",127.0.0.1:0"); /* the name with two addresses as the last of them and one more */
    snprintf(text + at, sizeof text - at, ",localhost:0");
    check_fails(text, WSS_ERR_ADDRESS, 0, "cannot listen on localhost:0: there can be at most 16");
    at -= strlen(",127.0.0.1:0");
    snprintf(text + at, sizeof text - at, ",localhost:0");
    CHECK_INT(listen_on(text), WSS_OK);
    CHECK_INT(all.count, has_ip6() ? WSS__SOCKET_LISTENERS_MAX : WSS__SOCKET_LISTENERS_MAX - 1);
    close_all();
}

/* What is wrong with an address is told, and what to write instead. */
static void error_texts(void) {
    static const char names[] = "names are not looked up: write an IPv4 or IPv6 address, or localhost";
    static const char zone[] = "an address with a zone is not taken: adopt a socket of your own with fd:";
    static const char everywhere_is[] = "all interfaces are 0.0.0.0 and [::]";
    static const char port[] = "the port is no number from 0 to 65535";
    static const char empty[] = "an entry of the list is empty";
    static const char inherited[] = "LISTEN_PID and LISTEN_FDS do not name this process and at most 16 descriptors";
    static const struct {
        const char *address;
        const char *entry; /* the one that is told; NULL: all of it */
        const char *advice;
    } rows[] = {
        {"example.com", NULL, names},
        {"example.com:80", NULL, names},
        {"999.1.1.1", NULL, names},
        {"127.0.0.1:0,nonsense,127.0.0.1:0", "nonsense", names},
        {"1:2:3", NULL, names},
        {"::g", NULL, names},
        {"::1:99999", NULL, names},
        {"http://127.0.0.1", NULL, names},
        {"unix", NULL, names},
        {"systemd:", NULL, names},
        {"8080", NULL, names},
        {"fe80::1%eth0", NULL, zone},
        {"[fe80::1%eth0]:80", NULL, zone},
        {"fe80::1%1,127.0.0.1", "fe80::1%1", zone},
        {"*:8080", NULL, everywhere_is},
        {"*", NULL, everywhere_is},
        {":8080", NULL, everywhere_is},
        {":", NULL, everywhere_is},
        {"127.0.0.1:99999", NULL, port},
        {"127.0.0.1:", NULL, port},
        {"127.0.0.1:-1", NULL, port},
        {"[::1]:65536", NULL, port},
        {"[::1]:x", NULL, port},
        {"localhost:99999", NULL, port},
        {"localhost:65536", NULL, port},
        {"localhost:", NULL, port},
        {"localhost:x", NULL, port},
        {"localhost:0000080x", NULL, port},
        {"", NULL, empty},
        {"127.0.0.1:0,", "", empty}, /* an item that is missing, not one that is left out */
        {",127.0.0.1:0", "", empty},
        {"127.0.0.1:0,,unix:x", "", empty},
        {"unix:", NULL, "the path is empty"},
        {"unix:@", NULL, "the path is empty"},
        {"127.0.0.1:0,unix:", "unix:", "the path is empty"},
        {"systemd", NULL, inherited},
    };
    char text[400];
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *entry = rows[i].entry ? rows[i].entry : rows[i].address;
        snprintf(text, sizeof text, "cannot listen on %s: %s", entry, rows[i].advice);
        check_fails(rows[i].address, WSS_ERR_ADDRESS, 0, text);
    }
    check_fails("192.0.2.1:0", WSS_ERR_SYSTEM, EADDRNOTAVAIL,
                reason("cannot listen on 192.0.2.1:0", EADDRNOTAVAIL));
    check_fails("unix:missing/folder", WSS_ERR_SYSTEM, ENOENT,
                "cannot listen on unix:missing/folder: No such file or directory");
    memset(text, 'z', sizeof text - 1);
    text[sizeof text - 1] = 0;
    check_fails(text, WSS_ERR_ADDRESS, 0, NULL); /* what does not fit is cut, and the reason stands behind it */
    CHECK(strncmp(why.text, "cannot listen on zzzz", 21) == 0);
    CHECK(strstr(why.text, "z: names are not looked up: write an IPv4 or IPv6 address, or localhost") != NULL);
}

static void address_in_use(void) {
    char address[64];
    char text[160];
    CHECK_INT(listen_on("127.0.0.1"), WSS_OK);
    wss__socket_listeners first = all;
    snprintf(address, sizeof address, "127.0.0.1:%d", first.port);
    snprintf(text, sizeof text, "cannot listen on %s", address);
    check_fails(address, WSS_ERR_SYSTEM, EADDRINUSE, reason(text, EADDRINUSE));
    snprintf(address, sizeof address, "127.0.0.1:0,unix:one,127.0.0.1:%d", first.port);
    check_fails(address, WSS_ERR_SYSTEM, EADDRINUSE, NULL);
    CHECK(!exists("one")); /* what had been made by then is gone again */
    wss__socket_close_listeners(&first, 1);
}

/* The port stands in the text once: the one that was tried, also where it comes from elsewhere. */
static void error_names_the_port(void) {
    char text[160];
    char address[64];
    CHECK_INT(listen_on("127.0.0.1"), WSS_OK);
    wss__socket_listeners first = all;
    wss_options options = options_for("127.0.0.1", first.port);
    CHECK_INT(wss__socket_listen(&all, &options, &why), WSS_ERR_SYSTEM);
    snprintf(text, sizeof text, "cannot listen on 127.0.0.1, port %d", first.port);
    CHECK_TEXT(why.text, reason(text, EADDRINUSE));
    snprintf(address, sizeof address, "127.0.0.1:%d", first.port);
    options = options_for(address, 1);
    CHECK_INT(wss__socket_listen(&all, &options, &why), WSS_ERR_SYSTEM);
    snprintf(text, sizeof text, "cannot listen on %s", address);
    CHECK_TEXT(why.text, reason(text, EADDRINUSE));
    wss__socket_close_listeners(&first, 1);
    CHECK_INT(listen_on("127.0.0.1:0,127.0.0.1"), WSS_ERR_SYSTEM); /* the second is given the port of the first */
    CHECK(strstr(why.text, "127.0.0.1, port 0:") == NULL);
    CHECK(strncmp(why.text, "cannot listen on 127.0.0.1, port ", 33) == 0);
}

static void reuse_port(void) {
    wss_options options = options_for("127.0.0.1", 0);
    options.reuse_port = 1;
    CHECK_INT(wss__socket_listen(&all, &options, &why), WSS_OK);
    wss__socket_listeners first = all;
    options = options_for("127.0.0.1", first.port);
    options.reuse_port = 1;
    CHECK_INT(wss__socket_listen(&all, &options, &why), WSS_OK);
    close_all();
    wss__socket_close_listeners(&first, 1);
}

static void failing_listen(void) {
    fail("listen", EADDRINUSE, 0, 1);
    check_fails("127.0.0.1:0", WSS_ERR_SYSTEM, EADDRINUSE, reason("cannot listen on 127.0.0.1:0", EADDRINUSE));
    fail("listen", EADDRINUSE, 0, 1);
    check_fails(NULL, WSS_ERR_SYSTEM, EADDRINUSE, NULL);
    fail_nothing();
}

/* ---- Unix sockets ---- */

static int mode_of(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 ? (int)(info.st_mode & 07777) : -1;
}

/* As said, whatever the umask; and at no moment wider, for then others could connect. */
static void path_permissions(void) {
    static const mode_t masks[] = {0, 022, 077, 0777, 0117, 0660};
    static const int modes[] = {0600, 0660, 0666, 0606, 0777, 0400, 0000};
    for (size_t i = 0; i < sizeof masks / sizeof masks[0]; i++)
        for (size_t k = 0; k < sizeof modes / sizeof modes[0]; k++) {
            wss_options options = options_for("unix:here", 0);
            mode_t before = umask(masks[i]);
            options.unix_mode = modes[k];
            watched = "here";
            widest = 0;
            chmod_calls = 0;
            CHECK_INT(wss__socket_listen(&all, &options, &why), WSS_OK);
            watched = NULL;
            CHECK_INT(mode_of("here"), modes[k]);
            CHECK_INT(widest & ~(mode_t)modes[k], 0);
            CHECK_INT(chmod_calls, (masks[i] & (mode_t)modes[k]) != 0); /* else it was so from the beginning */
            CHECK_TEXT(all.list[0].path, "here");
            CHECK_INT(count_files(), 1);
            close_all();
            CHECK_INT(count_files(), 0);
            CHECK_INT(umask(before), masks[i]);
        }
}

static void replace_path(const char *path) {
    CHECK_INT(rename(path, "moved"), 0); /* its inode stays in use */
    close(open(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
}

/* What somebody has put into its place meanwhile is not given its mode, nor removed. */
static void permissions_of_others(void) {
    mode_t before = umask(077);
    before_open = replace_path;
    chmod_calls = 0;
    CHECK_INT(listen_on("unix:here"), WSS_ERR_SYSTEM);
    before_open = NULL;
    CHECK_INT(why.system_errno, ENOENT);
    CHECK_INT(chmod_calls, 0);
    CHECK_INT(mode_of("here"), 0600);
    CHECK_INT(unlink("here") | unlink("moved"), 0);
    CHECK_INT(count_files(), 0);
    umask(before);
}

/* Nobody sees a socket at the path that is not ready: it gets its mode before it gets its name. */
static void permissions_before_the_name(void) {
    mode_t before = umask(0);
    watched = "here";
    widest = 0;
    fail("listen", ENOMEM, 0, 1);
    wss_options options = options_for("unix:here", 0);
    options.unix_mode = 0600;
    CHECK_INT(wss__socket_listen(&all, &options, &why), WSS_ERR_SYSTEM);
    fail_nothing();
    watched = NULL;
    CHECK_INT(widest, 0600);
    umask(before);
    CHECK_INT(count_files(), 0);
}

/* The socket that a server left behind when it died is removed. */
static void stale_path(void) {
    int before = count_descriptors();
    close(bind_unix("stale", 5));
    CHECK(exists("stale"));
    CHECK_INT(listen_on("unix:stale"), WSS_OK);
    int fd = connect_unix("stale");
    CHECK(fd >= 0);
    close(fd);
    close_all();
    CHECK(!exists("stale"));
    CHECK_INT(count_descriptors(), before);
}

/* One that answers is not, nor one whose queue is full: it goes on to work. */
static void path_in_use(void) {
    int fds[8];
    int count = 0;
    int server = bind_unix("used", 0);
    check_fails("unix:used", WSS_ERR_SYSTEM, EADDRINUSE, reason("cannot listen on unix:used", EADDRINUSE));
    CHECK(exists("used"));
    while (count < 8 && (fds[count] = connect_unix("used")) >= 0) count++;
    CHECK(count < 8 && errno == EAGAIN);
    check_fails("unix:used", WSS_ERR_SYSTEM, EADDRINUSE, NULL);
    CHECK(exists("used"));
    int accepted = accept(server, NULL, NULL);
    CHECK(accepted >= 0);
    close(accepted);
    for (int i = 0; i < count; i++) close(fds[i]);
    close(server);
    unlink("used");
}

/* What is no socket is never removed. */
static void path_is_a_file(void) {
    FILE *file = fopen("file", "w");
    CHECK(file != NULL);
    fputs("precious", file);
    fclose(file);
    check_fails("unix:file", WSS_ERR_SYSTEM, EADDRINUSE, NULL);
    CHECK_INT(mode_of("file") >= 0, 1);
    struct stat info;
    CHECK(stat("file", &info) == 0 && info.st_size == 8);
    CHECK(!exists("file.lock"));
    CHECK_INT(symlink("nowhere", "link"), 0);
    check_fails("unix:link", WSS_ERR_SYSTEM, EADDRINUSE, NULL);
    CHECK(exists("link"));
    unlink("file");
    unlink("link");
}

static void path_lengths(void) {
    char text[5 + 120];
    memcpy(text, "unix:", 5);
    for (size_t size = 105; size <= 112; size++) {
        memset(text + 5, 'p', size);
        text[5 + size] = 0;
        if (size < 108) {
            CHECK_INT(listen_on(text), WSS_OK);
            CHECK_TEXT(all.list[0].path, text + 5);
            CHECK(exists(text + 5));
            int fd = connect_unix(text + 5);
            CHECK(fd >= 0);
            close(fd);
            CHECK_INT(count_files(), 1);
            close_all();
        } else {
            check_fails(text, WSS_ERR_ADDRESS, 0, NULL);
            CHECK(strstr(why.text, "p: a path has at most 107 bytes") != NULL);
        }
        CHECK_INT(count_files(), 0);
    }
}

/* ---- abstract names ---- */

static int connect_abstract(const char *name) {
    struct sockaddr_un address;
    size_t size = strlen(name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path + 1, name, size);
    socklen_t whole = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + size);
    if (connect(fd, (struct sockaddr *)(void *)&address, whole) == 0) return fd;
    int number = errno;
    close(fd);
    errno = number;
    return -1;
}

/* unix:@NAME is no file, needs no lock, and ends with its server. */
static void abstract_names(void) {
    char name[64];
    char text[96];
    int before = count_descriptors();
    snprintf(name, sizeof name, "wsserver-test-%d", (int)getpid());
    snprintf(text, sizeof text, "unix:@%s", name);
    fail("open", EACCES, 0, 100);
    CHECK_INT(listen_on(text), WSS_OK);
    CHECK_INT(failing.struck, 0);
    failing.call = NULL;
    CHECK(is_unix(0));
    CHECK_TEXT(all.list[0].path, "");
    CHECK_INT(all.port, 0);
    CHECK_INT(count_files(), 0);
    int client = connect_abstract(name);
    CHECK(client >= 0);
    int server = accept(all.list[0].fd, NULL, NULL);
    CHECK(server >= 0);
    close(client);
    close(server);
    wss__socket_listeners first = all;
    char want[160];
    snprintf(want, sizeof want, "cannot listen on %s", text);
    check_fails(text, WSS_ERR_SYSTEM, EADDRINUSE, reason(want, EADDRINUSE));
    client = connect_abstract(name); /* it goes on to work */
    CHECK(client >= 0);
    close(client);
    wss__socket_close_listeners(&first, 1);
    CHECK(connect_abstract(name) < 0 && errno == ECONNREFUSED);
    CHECK_INT(listen_on(text), WSS_OK);
    close_all();
    CHECK_INT(count_descriptors(), before);
}

/* With its @ as long as a path; all of it counts. */
static void abstract_lengths(void) {
    char text[5 + 120];
    int length = snprintf(text, sizeof text, "unix:@%d", (int)getpid());
    memset(text + length, 'n', sizeof text - (size_t)length);
    for (size_t size = 105; size <= 110; size++) {
        char name[120];
        memset(text + length, 'n', sizeof text - (size_t)length);
        text[5 + size] = 0;
        if (size >= 108) {
            check_fails(text, WSS_ERR_ADDRESS, 0, NULL);
            CHECK(strstr(why.text, "n: a path has at most 107 bytes") != NULL);
            continue;
        }
        CHECK_INT(listen_on(text), WSS_OK);
        snprintf(name, sizeof name, "%s", text + 6);
        int fd = connect_abstract(name);
        CHECK(fd >= 0);
        close(fd);
        name[strlen(name) - 1] = 0;
        CHECK(connect_abstract(name) < 0 && errno == ECONNREFUSED);
        close_all();
        CHECK_INT(count_files(), 0);
    }
}

/* ---- failures on the way to a path ---- */

/* Whichever call fails: it is told, and neither the path nor its lock is left. Only a lock that could not be had is left: it
   may be somebody else's, and two would be at the path if it went. */
static void failed_listen_leaves_no_path(void) {
    static const struct {
        const char *call;
        int nth; /* of it, from 0 on */
        int number;
    } rows[] = {
        {"open", 0, EACCES}, {"open", 0, EMFILE},  {"open", 1, EMFILE}, {"open", 1, ENOENT}, {"flock", 0, ENOLCK},
        {"fstat", 0, EIO},   {"fstat", 1, ENOMEM}, {"socket", 0, EMFILE}, {"fchmod", 0, EPERM}, {"bind", 0, EACCES},
        {"bind", 0, EROFS},  {"chmod", 0, EPERM},  {"listen", 0, ENOMEM},
    };
    mode_t before = umask(077); /* so that it takes a chmod */
    for (int stale = 0; stale < 2; stale++)
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            int no_lock = i < 2 || i == 4 || i == 5; /* then nothing is tried */
            int no_socket = strcmp(rows[i].call, "socket") == 0;
            int descriptors = count_descriptors();
            if (stale) close(bind_unix("left", 5));
            fail(rows[i].call, rows[i].number, rows[i].nth, stale && no_socket ? 2 : 1);
            CHECK_INT(listen_on("unix:left"), WSS_ERR_SYSTEM);
            CHECK_INT(why.system_errno, rows[i].number);
            CHECK_TEXT(why.text, reason("cannot listen on unix:left", rows[i].number));
            CHECK_INT(all.count, 0);
            if (!failing.struck) printf("%s %d\n", rows[i].call, rows[i].nth);
            fail_nothing();
            CHECK_INT(count_descriptors(), descriptors);
            CHECK_INT(exists("left"), stale && (no_lock || no_socket));
            CHECK_INT(exists("left.lock"), i == 4 || i == 5);
            unlink("left");
            unlink("left.lock");
            CHECK_INT(count_files(), 0);
        }
    fail("lstat", EACCES, 1, 1); /* what it has bound cannot be looked at: then it is left, as nobody's */
    CHECK_INT(listen_on("unix:left"), WSS_ERR_SYSTEM);
    CHECK_INT(why.system_errno, EACCES);
    fail_nothing();
    CHECK(exists("left") && count_files() == 1);
    CHECK_INT(listen_on("unix:left"), WSS_OK);
    CHECK_INT(count_files(), 1);
    close_all();
    CHECK_INT(count_files(), 0);
    int server = bind_unix("used", 5);
    fail("chmod", EPERM, 0, 1);
    check_fails("unix:used", WSS_ERR_SYSTEM, EADDRINUSE, NULL); /* but not one that somebody else made */
    failing.call = NULL;
    CHECK(exists("used"));
    close(server);
    unlink("used");
    umask(before);
}

/* A signal while it waits for the lock. */
static void interrupted_locks(void) {
    for (int times = 1; times <= 5; times++) {
        fail("flock", EINTR, 0, times);
        CHECK_INT(listen_on("unix:here"), WSS_OK);
        CHECK_INT(failing.struck, times);
        CHECK_INT(count_files(), 1);
        fail("flock", EINTR, 0, times);
        close_all();
        CHECK_INT(failing.struck, times);
        CHECK_INT(count_files(), 0);
    }
    failing.call = NULL;
}

/* Without a lock the path is left where it is: who comes next finds it stale. */
static void no_lock_at_the_end(void) {
    static const char *const calls[] = {"open", "flock", "fstat"};
    for (int i = 0; i < 3; i++) {
        int before = count_descriptors();
        CHECK_INT(listen_on("unix:here"), WSS_OK);
        fail(calls[i], EIO, 0, 1);
        close_all();
        fail_nothing();
        CHECK(exists("here"));
        CHECK_INT(count_descriptors(), before);
        unlink("here.lock"); /* whoever fails behind open leaves it, for it is not his */
        CHECK_INT(count_files(), 1);
        CHECK_INT(listen_on("unix:here"), WSS_OK);
        close_all();
        CHECK_INT(count_files(), 0);
    }
}

/* ---- who owns a path ---- */

/* The old one ends when a new one has taken its place: the path is the new one's. */
static void successor_is_left_alone(void) {
    for (int way = 0; way < 3; way++) {
        int before = count_descriptors();
        CHECK_INT(listen_on("unix:place"), WSS_OK);
        wss__socket_listeners old = all;
        if (way == 0) CHECK_INT(unlink("place"), 0);
        if (way == 1) CHECK_INT(rename("place", "elsewhere"), 0);
        if (way == 2) { /* an ordinary file */
            CHECK_INT(unlink("place"), 0);
            close(open("place", O_WRONLY | O_CREAT, 0600));
        } else {
            CHECK_INT(listen_on("unix:place"), WSS_OK);
        }
        wss__socket_close_listeners(&old, 1);
        CHECK(exists("place"));
        CHECK(!exists("place.lock"));
        if (way == 1) CHECK(exists("elsewhere"));
        if (way == 2) {
            unlink("place");
        } else {
            int fd = connect_unix("place");
            CHECK(fd >= 0);
            close(fd);
            close_all();
        }
        CHECK(!exists("place"));
        unlink("elsewhere");
        CHECK_INT(count_files(), 0);
        CHECK_INT(count_descriptors(), before);
    }
}

/* Inodes of sockets that are open are not given out again, and only so is one told from a successor's: the path goes
   before its descriptor does. */
static void path_goes_first(void) {
    CHECK_INT(listen_on("unix:place"), WSS_OK);
    closed_fd = all.list[0].fd;
    watched = "place";
    stood = -1;
    close_all();
    CHECK_INT(stood, 0);
    closed_fd = -1;
    watched = NULL;
}

/* A process that has the lock until it is told to go. */
typedef struct holder {
    pid_t pid;
    int tell;
} holder;

static holder hold_lock(const char *name) {
    holder it = {-1, -1};
    int ready[2];
    int go[2];
    char byte = 0;
    CHECK_INT(pipe(ready), 0);
    CHECK_INT(pipe(go), 0);
    fflush(stdout);
    it.pid = fork();
    if (it.pid == 0) {
        int fd = open(name, O_RDWR | O_CREAT, 0600);
        if (fd < 0 || flock(fd, LOCK_EX) != 0 || write(ready[1], "x", 1) != 1) _exit(1);
        close(go[1]);
        _exit(read(go[0], &byte, 1) != 0); /* until the other end is closed */
    }
    CHECK(it.pid > 0);
    CHECK_INT(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    close(go[0]);
    it.tell = go[1];
    return it;
}

static void let_go(holder *it) {
    int status = -1;
    close(it->tell);
    while (waitpid(it->pid, &status, 0) < 0 && errno == EINTR) {
    }
    CHECK_INT(status, 0);
    it->pid = -1;
}

/* Somebody is about to look at the path, or to take it: at the end it is left to him, and nobody waits. */
static void lock_of_another_at_the_end(void) {
    int before = count_descriptors();
    CHECK_INT(listen_on("unix:place"), WSS_OK);
    holder other = hold_lock("place.lock");
    close_all();
    CHECK(exists("place") && exists("place.lock"));
    let_go(&other);
    CHECK(exists("place"));
    CHECK_INT(listen_on("unix:place"), WSS_OK); /* by a lock that was left */
    CHECK_INT(count_files(), 1);
    close_all();
    CHECK_INT(count_files(), 0);
    CHECK_INT(count_descriptors(), before);
}

static holder held;
static int flocks;

static void hold_no_longer(int how) {
    flocks++;
    CHECK(!(how & LOCK_NB)); /* who begins waits */
    if (flocks == 1) {
        let_go(&held);
        CHECK(exists("place.lock"));
    }
}

static void lock_of_another_at_the_beginning(void) {
    held = hold_lock("place.lock");
    flocks = 0;
    before_flock = hold_no_longer;
    CHECK_INT(listen_on("unix:place"), WSS_OK);
    before_flock = NULL;
    CHECK_INT(flocks, 1);
    CHECK_INT(count_files(), 1);
    close_all();
    CHECK_INT(count_files(), 0);
}

static int removals; /* still to come */

static void remove_lock(int how) {
    (void)how;
    flocks++;
    if (removals <= 0) return;
    removals--;
    CHECK_INT(unlink("place.lock"), 0);
}

/* A lock whose file has gone meanwhile keeps nobody out: another one is made. */
static void lock_without_a_file(void) {
    for (int times = 1; times <= 3; times++) {
        int before = count_descriptors();
        for (int end = 0; end < 2; end++) {
            before_flock = remove_lock;
            removals = times;
            flocks = 0;
            if (end) close_all();
            else CHECK_INT(listen_on("unix:place"), WSS_OK);
            before_flock = NULL;
            CHECK_INT(flocks, times + 1);
            CHECK_INT(count_descriptors(), before + !end);
            CHECK_INT(exists("place"), !end);
            CHECK_INT(count_files(), !end);
        }
    }
}

/* A link in the place of the lock is not followed. */
static void lock_is_a_link(void) {
    CHECK_INT(symlink("victim", "place.lock"), 0);
    check_fails("unix:place", WSS_ERR_SYSTEM, ELOOP, NULL);
    CHECK(!exists("victim"));
    unlink("place.lock");
}

/* ---- two processes and one path ---- */

enum { RACES = 400 };

static struct race {
    pthread_barrier_t barrier;
    int results[2];
    int numbers[2]; /* errno */
    int heard[2];   /* a client that connected came to this one */
} *race;

static void race_meet(void) {
    pthread_barrier_wait(&race->barrier);
}

static void race_try(int side, int (*begin)(int side)) {
    race_meet();
    race->results[side] = begin(side);
    race->numbers[side] = why.system_errno;
    race_meet(); /* both have tried */
}

/* Who came to this side, if it listens. */
static void race_hear(int side) {
    race_meet(); /* a client has connected */
    race->heard[side] = 0;
    for (int i = 0; i < all.count; i++) {
        int fd = accept(all.list[i].fd, NULL, NULL);
        race->heard[side] += fd >= 0;
        if (fd >= 0) close(fd);
    }
    race_meet(); /* and that is known */
}

static void race_end(void) {
    race_meet(); /* it has been looked at */
    wss__socket_close_listeners(&all, 1);
    race_meet();
}

static int race_listen(int side) {
    (void)side;
    return listen_on("unix:raced");
}

/* The first is there and ends, the second begins. */
static int race_replace(int side) {
    why.system_errno = 0;
    if (side) return listen_on("unix:raced");
    wss__socket_close_listeners(&all, 1);
    return WSS_ERR_GONE;
}

/* Rounds in which begin is run by two processes at the same time. check looks at the outcome while both still are there. */
static void race_all(int (*begin)(int side), void (*prepare)(void), void (*check)(void)) {
    pthread_barrierattr_t shared;
    int before = count_descriptors();
    race = (struct race *)mmap(NULL, sizeof *race, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(race != MAP_FAILED);
    if (race == MAP_FAILED) return;
    pthread_barrierattr_init(&shared);
    pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    CHECK_INT(pthread_barrier_init(&race->barrier, &shared, 2), 0);
    fflush(stdout);
    pid_t child = fork();
    for (int round = 0; round < RACES && child == 0; round++) {
        race_try(1, begin);
        race_hear(1);
        race_end();
    }
    if (child == 0 && __gcov_dump) __gcov_dump();
    if (child == 0) _exit(0);
    CHECK(child > 0);
    for (int round = 0; round < RACES; round++) {
        prepare();
        race_try(0, begin);
        int fd = connect_unix("raced");
        race_hear(0);
        CHECK_INT(fd >= 0, race->heard[0] + race->heard[1]);
        check();
        if (fd >= 0) close(fd);
        race_end();
    }
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    CHECK_INT(status, 0);
    pthread_barrier_destroy(&race->barrier);
    munmap(race, sizeof *race);
    CHECK_INT(count_descriptors(), before);
}

static void race_leave_stale(void) {
    unlink("raced"); /* one that lost the race to remove it leaves it */
    CHECK_INT(count_files(), 0);
    close(bind_unix("raced", 5));
}

/* One wins, and is heard; the other is told that the path is in use. */
static void race_one_wins(void) {
    int winner = race->results[1] == WSS_OK;
    CHECK_INT(race->results[winner], WSS_OK);
    CHECK_INT(race->results[!winner], WSS_ERR_SYSTEM);
    CHECK_INT(race->numbers[!winner], EADDRINUSE);
    CHECK_INT(race->heard[winner], 1);
    CHECK_INT(race->heard[!winner], 0);
    CHECK(!exists("raced.lock"));
}

static void race_for_a_stale_path(void) {
    race_all(race_listen, race_leave_stale, race_one_wins);
    unlink("raced");
    CHECK_INT(count_files(), 0);
}

static void race_set_up(void) {
    unlink("raced");
    CHECK_INT(count_files(), 0);
    CHECK_INT(listen_on("unix:raced"), WSS_OK);
}

/* The second either found the first alive, or has the path. */
static void race_has_it_or_not(void) {
    if (race->results[1] == WSS_OK) CHECK_INT(race->heard[1], 1);
    else CHECK_INT(race->numbers[1], EADDRINUSE);
    CHECK_INT(race->heard[0], 0);
    CHECK(!exists("raced.lock"));
}

static void race_of_an_end_and_a_beginning(void) {
    race_all(race_replace, race_set_up, race_has_it_or_not);
    unlink("raced");
    CHECK_INT(count_files(), 0);
}

/* ---- descriptors that others made ---- */

static int tcp_listener(int *port) {
    wss__socket_address address;
    socklen_t size = wss__socket_parse(wss__base_text("127.0.0.1"), 0, &address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_INT(bind(fd, &address.any, size), 0);
    CHECK_INT(listen(fd, 5), 0);
    size = sizeof address;
    CHECK_INT(getsockname(fd, &address.any, &size), 0);
    *port = ntohs(address.v4.sin_port);
    return fd;
}

static void adopted_descriptors(void) {
    char text[64];
    int port;
    int before = count_descriptors();
    int tcp = tcp_listener(&port);
    int local = bind_unix("theirs", 5);
    snprintf(text, sizeof text, "fd:%d,fd:%d", tcp, local);
    CHECK_INT(listen_on(text), WSS_OK);
    CHECK_INT(all.count, 2);
    CHECK_INT(all.port, port);
    CHECK_INT(all.list[0].fd, tcp);
    CHECK(!is_unix(0) && is_unix(1));
    CHECK(fcntl(tcp, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(tcp, F_GETFL) & O_NONBLOCK);
    CHECK_TEXT(all.list[1].path, "");
    close_all();
    CHECK(exists("theirs")); /* who made it removes it */
    CHECK_INT(count_descriptors(), before);
    unlink("theirs");
}

static void bad_descriptors(void) {
    char text[64];
    int ends[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    int plain = socket(AF_INET, SOCK_STREAM, 0);
    int file = open("/dev/null", O_RDONLY);
    int closed = dup(file);
    close(closed);
    snprintf(text, sizeof text, "fd:%d", plain);
    check_fails(text, WSS_ERR_SYSTEM, EINVAL, NULL); /* does not listen */
    snprintf(text, sizeof text, "fd:%d", ends[0]);
    check_fails(text, WSS_ERR_SYSTEM, EINVAL, NULL);
    snprintf(text, sizeof text, "fd:%d", file);
    check_fails(text, WSS_ERR_SYSTEM, ENOTSOCK, NULL);
    snprintf(text, sizeof text, "fd:%d", closed);
    check_fails(text, WSS_ERR_SYSTEM, EBADF, NULL);
    static const char *const samples[] = {"fd:", "fd:x", "fd:-1", "fd: 3", "fd:3x", "fd:99999999999999999999"};
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++)
        check_fails(samples[i], WSS_ERR_SYSTEM, EBADF, NULL);
    check_fails("fd:x", WSS_ERR_SYSTEM, EBADF, reason("cannot listen on fd:x", EBADF));
    close(file);
    close(plain);
    close(ends[0]);
    close(ends[1]);
}

/* The same descriptor twice would be closed twice, the second time perhaps as somebody else's. */
static void descriptor_named_twice(void) {
    char text[64];
    int port;
    int before = count_descriptors();
    int fd = tcp_listener(&port);
    snprintf(text, sizeof text, "fd:%d,fd:%d", fd, fd);
    check_fails(text, WSS_ERR_SYSTEM, EINVAL, NULL);
    CHECK(fcntl(fd, F_GETFD) >= 0); /* it was never ours */
    CHECK_INT(listen_on(text + strlen(text) / 2 + 1), WSS_OK);
    close_all();
    CHECK_INT(count_descriptors(), before);
}

/* Memory for wss_create: the allocation with this number fails; 0: none. */
static long refuse_at;

static void *refusing(void *context, void *pointer, size_t old_size, size_t new_size) {
    (void)context;
    if (new_size > old_size && refuse_at && --refuse_at == 0) return NULL;
    if (new_size) return realloc(pointer, new_size);
    free(pointer);
    return NULL;
}

/* A client of this port comes to this listener. */
static int is_heard(int port, int listener) {
    int client = connect_to("127.0.0.1", port);
    int server = client >= 0 ? accept(listener, NULL, NULL) : -1;
    if (client >= 0) close(client);
    if (server >= 0) close(server);
    return server >= 0;
}

static void check_not_created(const wss_options *options, int code) {
    int before = count_descriptors();
    CHECK(wss_create(options, &why) == NULL);
    CHECK_INT(why.code, code);
    CHECK_INT(count_descriptors(), before);
}

/* Given descriptors are the caller's until wss_create succeeds, and the server's from then on. */
static void adopted_where_creating_fails(void) {
    char text[64];
    int port;
    int before = count_descriptors();
    int fd = tcp_listener(&port);
    snprintf(text, sizeof text, "fd:%d,999.1.1.1", fd);
    wss_options options = options_for(text, 0);
    options.allocator = refusing;
    check_not_created(&options, WSS_ERR_ADDRESS);
    CHECK(is_heard(port, fd));
    snprintf(text, sizeof text, "fd:%d,unix:missing/folder", fd);
    check_not_created(&options, WSS_ERR_SYSTEM);
    CHECK(is_heard(port, fd));
    snprintf(text, sizeof text, "fd:%d", fd);
    options.memory_budget = 1000;
    check_not_created(&options, WSS_ERR_BUDGET);
    CHECK(is_heard(port, fd));
    options.memory_budget = 0;
    long failures = 0;
    wss_server *server = NULL;
    for (long at = 1; !server && at < 1000; at++) {
        refuse_at = at;
        server = wss_create(&options, &why);
        if (server) break;
        failures++;
        CHECK_INT(why.code, WSS_ERR_MEMORY);
        CHECK_INT(count_descriptors(), before + 1);
        CHECK(is_heard(port, fd));
    }
    CHECK(server != NULL && failures > 5);
    refuse_at = 0;
    CHECK_INT(wss_destroy(server), WSS_OK);
    CHECK(fcntl(fd, F_GETFD) < 0);
    CHECK(is_refused("127.0.0.1", port));
    CHECK_INT(count_descriptors(), before);
}

/* In a child, where the numbers from 3 on can be set up. */
static void check_inherited(const char *pid, const char *fds, int have, int want, int number) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        char own[32];
        int port;
        int before_broken = test_broken;
        for (int fd = 3; fd < 40; fd++) close(fd);
        for (int i = 0; i < have; i++) {
            int fd = tcp_listener(&port);
            CHECK_INT(fd, 3 + i);
        }
        if (have == 0) CHECK_INT(open("/dev/null", O_RDONLY), 3);
        snprintf(own, sizeof own, pid ? pid : "%d", (int)getpid());
        if (pid && !*pid) unsetenv("LISTEN_PID");
        else setenv("LISTEN_PID", own, 1);
        if (fds) setenv("LISTEN_FDS", fds, 1);
        else unsetenv("LISTEN_FDS");
        int result = listen_on("systemd");
        CHECK_INT(result, want ? WSS_OK : number ? WSS_ERR_SYSTEM : WSS_ERR_ADDRESS);
        CHECK_INT(all.count, want);
        if (want) {
            CHECK(all.port > 0);
            for (int i = 0; i < want; i++) CHECK_INT(all.list[i].fd, 3 + i);
            for (int i = 0; i < want; i++) CHECK(fcntl(3 + i, F_GETFD) & FD_CLOEXEC);
        } else {
            CHECK_INT(why.system_errno, number);
            CHECK(strncmp(why.text, "cannot listen on systemd: ", 26) == 0);
            CHECK_INT(strstr(why.text, ": LISTEN_PID and LISTEN_FDS do not name this process") != NULL, !number);
            for (int i = 0; i < have; i++) CHECK(fcntl(3 + i, F_GETFD) >= 0); /* they stay the caller's */
        }
        close_all();
        fflush(stdout);
        if (__gcov_dump) __gcov_dump();
        _exit(test_broken != before_broken);
    }
    int status = 0;
    CHECK(child > 0);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (status) printf("LISTEN_PID %s, LISTEN_FDS %s\n", pid ? pid : "right", fds ? fds : "none");
    CHECK_INT(status, 0);
}

static void inherited_descriptors(void) {
    int before = count_descriptors();
    check_inherited(NULL, "1", 1, 1, 0);
    check_inherited(NULL, "2", 2, 2, 0);
    check_inherited(NULL, "1", 2, 1, 0); /* the second is not ours */
    check_inherited(NULL, "16", 16, 16, 0);
    check_inherited("1", "1", 1, 0, 0);   /* meant for another process */
    check_inherited("%d0", "1", 1, 0, 0);
    check_inherited("%dx", "1", 1, 0, 0);
    check_inherited(" %d", "1", 1, 0, 0);
    check_inherited("-%d", "1", 1, 0, 0);
    check_inherited("", "1", 1, 0, 0);    /* not set */
    check_inherited(NULL, NULL, 1, 0, 0);
    check_inherited(NULL, "0", 1, 0, 0);
    check_inherited(NULL, "", 1, 0, 0);
    check_inherited(NULL, "x", 1, 0, 0);
    check_inherited(NULL, "-1", 1, 0, 0);
    check_inherited(NULL, "17", 16, 0, 0);
    check_inherited(NULL, "99999999999", 1, 0, 0);
    check_inherited(NULL, "1", 0, 0, ENOTSOCK);
    check_inherited(NULL, "2", 1, 0, EBADF);
    CHECK_INT(count_descriptors(), before);
}

/* ---- calls on connections ---- */

static wss__socket_address from; /* who was accepted last */

/* Connects and accepts. */
static void meet(const char *host, int port, int *client, int *server) {
    *client = host ? connect_to(host, port) : connect_unix("meet");
    CHECK(*client >= 0);
    *server = wss__socket_accept(all.list[0].fd, &from);
    CHECK(*server >= 0);
}

static void check_peer(int client, int server, const char *want) {
    wss__socket_address address;
    socklen_t size = sizeof address;
    char text[WSS__ADDRESS_TEXT];
    wss__address peer = wss__socket_address_of(&from);
    CHECK_TEXT(wss__address_text(&peer, text), want);
    CHECK_INT(getsockname(client, &address.any, &size), 0);
    CHECK_INT(peer.port, wss__socket_port_of(&address));
    CHECK(fcntl(server, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(server, F_GETFL) & O_NONBLOCK);
}

static void peers(void) {
    int client;
    int server;
    int before = count_descriptors();
    int flag = 0;
    socklen_t size = sizeof flag;
    CHECK_INT(listen_on("127.0.0.1"), WSS_OK);
    CHECK(wss__socket_accept(all.list[0].fd, &from) < 0 && errno == EAGAIN);
    meet("127.0.0.1", all.port, &client, &server);
    check_peer(client, server, "127.0.0.1");
    CHECK_INT(getsockopt(server, IPPROTO_TCP, TCP_NODELAY, &flag, &size), 0);
    CHECK(flag != 0); /* inherited from the listener */
    close(client);
    close(server);
    close_all();
    CHECK_INT(listen_on(NULL), WSS_OK);
    meet("127.0.0.1", all.port, &client, &server);
    check_peer(client, server, "127.0.0.1"); /* not as a mapped IPv6 address */
    close(client);
    close(server);
    if (has_ip6()) {
        meet("::1", all.port, &client, &server);
        check_peer(client, server, "::1");
        close(client);
        close(server);
    }
    close_all();
    CHECK_INT(listen_on("unix:meet"), WSS_OK);
    meet(NULL, 0, &client, &server);
    check_peer(client, server, "unix");
    int pid = 0;
    int uid = -5;
    int gid = -5;
    CHECK(wss__socket_credentials(server, &pid, &uid, &gid));
    CHECK_INT(pid, getpid());
    CHECK_INT(uid, getuid());
    CHECK_INT(gid, getgid());
    close(client);
    close(server);
    close_all();
    memset(&from, 0x5a, sizeof from);
    CHECK(wss__socket_accept(-1, &from) < 0 && errno == EBADF);
    wss__address nobody = wss__socket_address_of(&from); /* a connection that is none has none */
    CHECK_INT(nobody.kind, WSS__ADDRESS_NONE);
    CHECK(!wss__socket_credentials(-1, &pid, &uid, &gid));
    CHECK_INT(count_descriptors(), before);
}

static void transfers(void) {
    int client;
    int server;
    char data[32];
    struct iovec parts[3];
    char bytes[] = "hello, world";
    CHECK_INT(listen_on("unix:meet"), WSS_OK);
    meet(NULL, 0, &client, &server);
    parts[0].iov_base = bytes;
    parts[0].iov_len = 5;
    parts[1].iov_base = bytes + 5;
    parts[1].iov_len = 2;
    parts[2].iov_base = bytes + 7;
    parts[2].iov_len = 5;
    interruptions = 3;
    send_flags = 0;
    CHECK_INT(wss__socket_send(server, parts, 1, 0), 5);
    CHECK(send_flags & MSG_NOSIGNAL);
    interruptions = 3;
    send_flags = 0;
    CHECK_INT(wss__socket_send(server, parts, 3, 0), 12);
    CHECK(send_flags & MSG_NOSIGNAL);
    CHECK_INT(interruptions, 0);
    interruptions = 2;
    CHECK_INT(wss__socket_receive(client, data, sizeof data), 17);
    CHECK(memcmp(data, "hellohello, world", 17) == 0);
    CHECK(wss__socket_receive(server, data, sizeof data) < 0 && errno == EAGAIN);
    close(client);
    CHECK_INT(wss__socket_receive(server, data, sizeof data), 0);
    CHECK(wss__socket_send(server, parts, 1, 0) < 0 && errno == EPIPE); /* and no SIGPIPE */
    CHECK(wss__socket_send(server, parts, 2, 0) < 0 && errno == EPIPE);
    wss__socket_close(server);
    wss__socket_close(-1);
    close_all();
}

/* Number 0 is a descriptor like any other, where a program has closed its input; below it there is none. */
static int option_of(int fd, int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    CHECK_INT(getsockopt(fd, level, name, &value, &size), 0);
    return value;
}

static void options_are_set(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (int on = 1; on >= 0; on--) {
        wss__socket_set(fd, SOL_SOCKET, SO_KEEPALIVE, on);
        CHECK_INT(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), on);
    }
    wss__socket_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 12345);
    CHECK_INT(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 12345);
    close(fd);
    wss__socket_set(-1, SOL_SOCKET, SO_KEEPALIVE, 1); /* what fails changes nothing */
}

/* Asked after the silence after which a ping would go out, given up when a pong would be too late; off, and on again. The longest
   times of the options are longer than the kernel takes. */
static void keep_alive(void) {
    static const struct {
        int idle_ms, limit_ms, seconds, step;
    } rows[] = {{20000, 20000, 20, 5},    {500, 300, 1, 1},         {1, 1, 1, 1},
                {1999, 7999, 1, 1},       {2000, 8000, 2, 2},       {INT_MAX, 4000, 32767, 1},
                {1, INT_MAX, 1, 32767},   {INT_MAX, INT_MAX, 32767, 32767}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        wss__socket_keep_alive(fd, 1, rows[i].idle_ms, rows[i].limit_ms);
        CHECK_INT(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
        CHECK_INT(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE), rows[i].seconds);
        CHECK_INT(option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL), rows[i].step);
        CHECK_INT(option_of(fd, IPPROTO_TCP, TCP_KEEPCNT), 4);
        CHECK_INT(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 0); /* it ends who has no room, though he answers */
        option_calls = 0;
        wss__socket_keep_alive(fd, 0, rows[i].idle_ms, rows[i].limit_ms);
        CHECK_INT(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
        CHECK_INT(option_calls, 1);
    }
    close(fd);
}

/* Bytes that the peer's kernel has not acknowledged: those that it has no room for. */
static void unacknowledged(void) {
    static char block[65536];
    int client;
    int server;
    size_t sent = 0;
    ssize_t got;
    CHECK_INT(listen_on("127.0.0.1"), WSS_OK);
    meet("127.0.0.1", all.port, &client, &server);
    CHECK_INT(wss__socket_unacked(server), 0);
    CHECK_INT(send(server, "ten bytes.", 10, MSG_NOSIGNAL), 10);
    for (int i = 0; i < 1000 && wss__socket_unacked(server); i++) usleep(1000);
    CHECK_INT(wss__socket_unacked(server), 0); /* although nobody has read them */
    while ((got = send(server, block, sizeof block, MSG_NOSIGNAL)) > 0) sent += (size_t)got;
    uint32_t left = wss__socket_unacked(server);
    CHECK(left > 0 && left < sent);
    ioctl_fails = EINVAL;
    CHECK_INT(wss__socket_unacked(server), 0);
    ioctl_fails = 0;
    sockopt_fails = ENOPROTOOPT;
    CHECK_INT(wss__socket_unacked(server), 0);
    sockopt_fails = 0;
    size_t taken = 0;
    for (int i = 0; i < 10000 && taken < sent + 10; i++) {
        got = recv(client, block, sizeof block, MSG_DONTWAIT);
        if (got > 0) taken += (size_t)got;
        else usleep(1000);
    }
    for (int i = 0; i < 1000 && wss__socket_unacked(server); i++) usleep(1000);
    CHECK_INT(wss__socket_unacked(server), 0);
    close(client);
    close(server);
    close_all();
    int pair[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    CHECK_INT(send(pair[0], "lies there", 10, MSG_NOSIGNAL), 10);
    CHECK_INT(wss__socket_unacked(pair[0]), 0); /* it has arrived */
    close(pair[0]);
    close(pair[1]);
    CHECK_INT(wss__socket_unacked(-1), 0);
}

static void closes_number_zero(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int fd = open("/dev/null", O_RDONLY);
        if (fd < 0 || dup2(fd, 0) != 0) _exit(2);
        wss__socket_close(-1);
        if (fcntl(0, F_GETFD) < 0) _exit(3);
        wss__socket_close(0);
        _exit(fcntl(0, F_GETFD) >= 0);
    }
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    CHECK_INT(status, 0);
}

static void resets(void) {
    int client;
    int server;
    char byte;
    CHECK_INT(listen_on("127.0.0.1"), WSS_OK);
    meet("127.0.0.1", all.port, &client, &server);
    wss__socket_set_reset(server);
    wss__socket_close(server);
    CHECK(recv(client, &byte, 1, 0) < 0 && errno == ECONNRESET);
    close(client);
    close_all();
}

static void watching(void) {
    int ends[2];
    struct epoll_event event;
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    CHECK_INT(wss__socket_watch(epoll, ends[0], EPOLLIN, UINT64_C(0x123456789abcdef0)), 0);
    CHECK(wss__socket_watch(epoll, ends[0], EPOLLIN, 1) < 0 && errno == EEXIST);
    CHECK_INT(epoll_wait(epoll, &event, 1, 0), 0);
    CHECK_INT(send(ends[1], "x", 1, 0), 1);
    CHECK_INT(epoll_wait(epoll, &event, 1, 0), 1);
    CHECK(event.data.u64 == UINT64_C(0x123456789abcdef0) && event.events == EPOLLIN);
    wss__socket_unwatch(epoll, ends[0]);
    CHECK_INT(epoll_wait(epoll, &event, 1, 0), 0);
    close(epoll);
    close(ends[0]);
    close(ends[1]);
}

static void clocks(void) {
    uint64_t before = wss__socket_clock_us();
    uint64_t now = wss__socket_clock();
    uint64_t after = wss__socket_clock_us();
    CHECK(before / 1000 <= now && now <= after / 1000);
    CHECK(wss__socket_random() != wss__socket_random());
}

/* ---- calls that fail ---- */

/* A path that cannot be tried is left alone. */
static void stale_path_without_a_socket(void) {
    int before = count_descriptors();
    close(bind_unix("stale", 5));
    unix_fails = EMFILE;
    check_fails("unix:stale", WSS_ERR_SYSTEM, EMFILE, NULL);
    unix_fails = 0;
    CHECK(exists("stale"));
    unlink("stale");
    CHECK_INT(count_descriptors(), before);
}

/* An adopted descriptor that cannot be set up is not kept, and not closed: it is still the caller's. */
static void adopted_descriptor_that_fails(void) {
    static const int commands[] = {F_GETFL, F_SETFL, F_SETFD};
    char text[64];
    int port;
    int before = count_descriptors();
    int fd = tcp_listener(&port);
    snprintf(text, sizeof text, "fd:%d", fd);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        fcntl_fails = commands[i];
        check_fails(text, WSS_ERR_SYSTEM, EBADF, NULL);
        CHECK_INT(all.count, 0);
        CHECK(fcntl(fd, F_GETFD) >= 0);
    }
    fcntl_fails = 0;
    sockopt_fails = ENOMEM;
    check_fails(text, WSS_ERR_SYSTEM, ENOMEM, NULL);
    sockopt_fails = 0;
    CHECK_INT(listen_on(text), WSS_OK);
    close_all();
    CHECK_INT(count_descriptors(), before);
}

/* The kernel's random numbers may be missing, early after boot: the clock then makes servers differ. */
static void no_random_numbers(void) {
    random_fails = EAGAIN;
    uint64_t first = wss__socket_random();
    uint64_t until = wss__socket_clock_us() + 1;
    while (wss__socket_clock_us() <= until) {
    }
    CHECK(wss__socket_random() != first);
    random_fails = 0;
}

static void check_peer_text(const struct sockaddr_storage *address, const char *want, int want_port) {
    wss__socket_address of;
    char text[WSS__ADDRESS_TEXT] = "unset";
    memset(&of, 0, sizeof of);
    memcpy(&of, address, sizeof *address);
    wss__address peer = wss__socket_address_of(&of);
    CHECK_TEXT(wss__address_text(&peer, text), want);
    CHECK_INT(peer.port, want_port);
}

/* Only ::ffff:0:0/96 is IPv4 written as IPv6: an address with any other bit there stays as it is. */
static void peers_of_every_kind(void) {
    struct sockaddr_storage storage;
    struct sockaddr_in6 address;
    char want[64];
    memset(&storage, 0, sizeof storage);
    storage.ss_family = AF_UNSPEC;
    check_peer_text(&storage, "", 0);
    storage.ss_family = AF_PACKET;
    check_peer_text(&storage, "", 0);
    storage.ss_family = AF_UNIX;
    check_peer_text(&storage, "unix", 0);
    memset(&address, 0, sizeof address);
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(4567);
    CHECK_INT(inet_pton(AF_INET6, "::ffff:192.0.2.77", &address.sin6_addr), 1);
    memcpy(&storage, &address, sizeof address);
    check_peer_text(&storage, "192.0.2.77", 4567);
    for (int bit = 0; bit < 96; bit++) {
        struct sockaddr_in6 other = address;
        other.sin6_addr.s6_addr[bit / 8] = (unsigned char)(other.sin6_addr.s6_addr[bit / 8] ^ 1 << bit % 8);
        CHECK(inet_ntop(AF_INET6, &other.sin6_addr, want, sizeof want) != NULL);
        memcpy(&storage, &other, sizeof other);
        check_peer_text(&storage, want, 4567);
    }
}

static void credentials_of_no_socket(void) {
    int pid = 1;
    int uid = 2;
    int gid = 3;
    int file = open("/dev/null", O_RDONLY);
    CHECK_INT(wss__socket_credentials(file, &pid, &uid, &gid), 0);
    CHECK(pid == 1 && uid == 2 && gid == 3);
    close(file);
}

/* Paths are relative to a folder of the test's own. */
int main(void) {
    char folder[256];
    const char *base = getenv("TMPDIR");
    alarm(60);
    snprintf(folder, sizeof folder, "%.200s/wsserver-test-XXXXXX", base && *base ? base : P_tmpdir);
    if (!mkdtemp(folder) || chdir(folder) != 0) {
        printf("no temporary folder: %s\n", folder);
        return 1;
    }
    RUN(good_addresses);
    RUN(bad_addresses);
    RUN(port_is_read_back);
    RUN(everywhere);
    RUN(each_family_by_itself);
    RUN(localhost);
    RUN(port_free_at_all);
    RUN(localhost_with_one_family);
    RUN(everywhere_without_ip6);
    RUN(everywhere_in_use);
    RUN(several_addresses);
    RUN(port_of_the_options);
    RUN(first_port_behind_a_path);
    RUN(too_many_addresses);
    RUN(error_texts);
    RUN(address_in_use);
    RUN(error_names_the_port);
    RUN(reuse_port);
    RUN(failing_listen);
    RUN(path_permissions);
    RUN(permissions_before_the_name);
    RUN(permissions_of_others);
    RUN(stale_path);
    RUN(path_in_use);
    RUN(path_is_a_file);
    RUN(path_lengths);
    RUN(abstract_names);
    RUN(abstract_lengths);
    RUN(failed_listen_leaves_no_path);
    RUN(interrupted_locks);
    RUN(no_lock_at_the_end);
    RUN(successor_is_left_alone);
    RUN(path_goes_first);
    RUN(lock_of_another_at_the_end);
    RUN(lock_of_another_at_the_beginning);
    RUN(lock_without_a_file);
    RUN(lock_is_a_link);
    RUN(race_for_a_stale_path);
    RUN(race_of_an_end_and_a_beginning);
    RUN(adopted_descriptors);
    RUN(bad_descriptors);
    RUN(descriptor_named_twice);
    RUN(adopted_where_creating_fails);
    RUN(inherited_descriptors);
    RUN(peers);
    RUN(transfers);
    RUN(options_are_set);
    RUN(keep_alive);
    RUN(unacknowledged);
    RUN(closes_number_zero);
    RUN(resets);
    RUN(watching);
    RUN(clocks);
    RUN(stale_path_without_a_socket);
    RUN(adopted_descriptor_that_fails);
    RUN(no_random_numbers);
    RUN(peers_of_every_kind);
    RUN(credentials_of_no_socket);
    if (chdir("/") != 0 || rmdir(folder) != 0) {
        printf("%s is not empty\n", folder);
        test_failed++;
    }
    return test_end("socket");
}
