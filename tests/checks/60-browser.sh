#!/bin/sh
# The chat page in headless Chromium: see browser.py. A screenshot is left in build/chat.png.
set -eu
if ! command -v chromedriver >/dev/null || ! command -v chromium >/dev/null; then
    echo "skipped: chromium and chromedriver are not installed"
    exit 0
fi
mkdir -p build
${CC:-cc} -std=c11 -O2 -I. examples/chat.c -o build/chat -pthread
exec python3 tests/checks/browser.py build/chat
