#!/bin/sh
# System calls per message, bytes per idle connection, and what 10,000 resets leave behind: see figures.py.
set -eu
mkdir -p build
${CC:-cc} -std=c11 -O2 -I. tests/checks/echo_server.c -o build/echo_server -pthread
${CC:-cc} -std=c11 -O2 -I. examples/chat.c -o build/chat -pthread
exec python3 tests/checks/figures.py build/echo_server build/chat "$@"
