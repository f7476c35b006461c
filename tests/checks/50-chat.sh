#!/bin/sh
# The chat and echo programs under hostile input, and the chat's keyboard: see chat.py. Plain and with AddressSanitizer.
set -eu
mkdir -p build/checks # apart from what other checks build and run meanwhile
for example in chat echo; do ${CC:-cc} -std=c11 -O2 -I. examples/$example.c -o build/checks/$example -pthread; done
python3 tests/checks/chat.py build/checks/chat build/checks/echo
sanitize=$(sh tests/probe.sh "${CC:-cc}" -fsanitize=address,undefined)
test -n "$sanitize" || exit 0
for example in chat echo; do
    ${CC:-cc} -std=c11 -O1 -g $sanitize -fno-sanitize-recover=all -I. examples/$example.c -o build/checks/$example-checked -pthread
done
exec python3 tests/checks/chat.py build/checks/chat-checked build/checks/echo-checked
