#!/bin/sh
# The chat program under hostile input, and its keyboard: see chat.py. Plain and with AddressSanitizer.
set -eu
mkdir -p build
${CC:-cc} -std=c11 -O2 -I. examples/chat.c -o build/chat -pthread
python3 tests/checks/chat.py build/chat
sanitize=$(sh tests/probe.sh "${CC:-cc}" -fsanitize=address,undefined)
test -n "$sanitize" || exit 0
${CC:-cc} -std=c11 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -I. examples/chat.c -o build/chat-checked -pthread
exec python3 tests/checks/chat.py build/chat-checked
