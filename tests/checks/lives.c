/* Makes, runs, stops and destroys a server again and again while clients connect: descriptors and bytes are back at the end.
   usage: lives COUNT */
#define WSSERVER_IMPLEMENTATION
#include "wsserver.h"
#include <dirent.h>
#include <stdio.h>

static size_t library_bytes;

static void *allocator(void *context, void *pointer, size_t old_size, size_t new_size) {
    (void)context;
    __atomic_add_fetch(&library_bytes, new_size - (pointer ? old_size : 0), __ATOMIC_RELAXED);
    if (new_size) return realloc(pointer, new_size);
    free(pointer);
    return NULL;
}

static int count_descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory)) count++;
    if (directory) closedir(directory);
    return count;
}

static int connect_to(int port) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        send(fd, request, sizeof request - 1, MSG_NOSIGNAL);
    return fd;
}

static long opened, ended;

static void on_open(const wss_event *e) {
    (void)e;
    __atomic_add_fetch(&opened, 1, __ATOMIC_RELAXED);
}

static void on_end(const wss_event *e) {
    (void)e;
    __atomic_add_fetch(&ended, 1, __ATOMIC_RELAXED);
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 10000;
    int before = count_descriptors();
    int port = 0;
    for (int i = 0; i < count; i++) {
        wss_options options;
        wss_error why;
        char last[8];
        memset(&options, 0, sizeof options);
        options.address = "127.0.0.1";
        options.port = port; /* the same one each time, at once */
        options.allocator = allocator;
        wss_server *server = wss_create(&options, &why);
        if (!server) {
            printf("%s\n", why.text);
            return 1;
        }
        wss_get_options(server, &options);
        port = options.port;
        wss_on_connect(server, on_open, NULL);
        wss_on_disconnect(server, on_end, NULL);
        wss_start(server);
        int first = connect_to(port);
        int second = connect_to(port);
        if (i % 2) recv(first, last, sizeof last, 0);
        wss_stop(server, i % 3);
        wss_destroy(server);
        close(first);
        close(second);
    }
    int after = count_descriptors();
    printf("%d servers, %ld connections opened, %ld ended, %d descriptors and %zu bytes left over\n", count, opened, ended,
           after - before, library_bytes);
    return opened != ended || after != before || library_bytes != 0;
}
