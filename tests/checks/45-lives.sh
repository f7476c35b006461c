#!/bin/sh
# 10,000 servers made, run, stopped and destroyed on one port while clients connect.
set -eu
mkdir -p build
${CC:-cc} -std=c11 -O2 -I. tests/checks/lives.c -o build/lives -pthread
exec build/lives 10000
