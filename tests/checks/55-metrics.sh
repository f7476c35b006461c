#!/bin/sh
# What wss_stats_text writes, before a monitor's own checker.
set -eu
if ! command -v promtool > /dev/null; then
    echo "metrics: skipped: promtool is not installed"
    exit 0
fi
mkdir -p build
cat > build/metrics.c <<'END_OF_PROGRAM'
#define WSSERVER_IMPLEMENTATION
#include "wsserver.h"
int main(void) {
    static char text[20000];
    wss_options options = {0};
    options.address = "127.0.0.1";
    wss_server *server = wss_create(&options, NULL);
    if (wss_stats_text(server, text, sizeof text, NULL) != WSS_OK) return 1;
    fputs(text, stdout);
    return wss_destroy(server) != WSS_OK;
}
END_OF_PROGRAM
${CC:-cc} -std=c11 -O1 -I. build/metrics.c -o build/metrics -pthread
build/metrics > build/metrics.txt
promtool check metrics < build/metrics.txt
if sed 's/_total 0/_count 0/; s/_total counter/_count counter/' build/metrics.txt | promtool check metrics > /dev/null 2>&1; then
    echo "metrics: FAILED: the checker finds no fault that was put in"
    exit 1
fi
echo "metrics: $(grep -c '^# TYPE' build/metrics.txt) kinds, no complaint"
