#!/bin/sh
# What a server owes under pressure, in real time with an unsanitized build: see pressure.py, which prints the figures.
set -eu
mkdir -p build
${CC:-cc} -std=c11 -O2 -I. tests/checks/echo_server.c -o build/echo_server -pthread
exec python3 tests/checks/pressure.py build/echo_server "$@"
