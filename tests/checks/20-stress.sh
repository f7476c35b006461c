#!/bin/sh
# Eight threads against churning connections under ThreadSanitizer: one loop, two loops, and with a queue. See stress.c.
set -eu
mkdir -p build
for compiler in ${STRESS_COMPILERS:-gcc clang}; do
    command -v "$compiler" >/dev/null || continue
    test -n "$(sh tests/probe.sh "$compiler" -fsanitize=thread)" || continue
    "$compiler" -std=gnu11 -O1 -g -fsanitize=thread -I. tests/checks/stress.c -o "build/stress-$compiler" -pthread
    export TSAN_OPTIONS="halt_on_error=0 exitcode=66"
    "build/stress-$compiler" 10
    "build/stress-$compiler" 5 2
    "build/stress-$compiler" 5 1 queue
done
