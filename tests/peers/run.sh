#!/bin/sh
# Real peers against the examples, and real proxies and tools against tests/peers/door.c: what each finds is said by its
# own program. One that is not installed is skipped by name. Node's ws is fetched into build/peers at the version below, where npm can. Ends with the number of peers.
set -eu
PATH=$PATH:/usr/sbin:/sbin # where proxies are
ws_version=8.18.3
mkdir -p build/peers
cc=${CC:-cc}
warnings='-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Wstrict-prototypes'
for example in echo chat; do $cc -std=c11 -O2 -I. "examples/$example.c" -o "build/$example" -pthread; done
$cc -std=c11 $warnings -O1 -I. tests/peers/door.c -o build/peers/door -pthread
limit=
if command -v timeout >/dev/null; then limit="timeout -k 5 ${PEER_SECONDS:-180}"; fi
ran=0
failed=0
skipped=0

skip() {
    echo "skipped: $*"
    skipped=$((skipped + 1))
}

peer() {
    if $limit "$@"; then ran=$((ran + 1)); else
        echo "FAILED peer: $*"
        failed=$((failed + 1))
    fi
}

python=
for name in python3 /usr/bin/python3; do
    if $name -c 'import websockets.legacy.client, websockets.server' 2>/dev/null; then python=$name; break; fi
done
ws=build/peers/node_modules/ws
if command -v node >/dev/null && command -v npm >/dev/null && ! grep -q "\"version\": \"$ws_version\"" $ws/package.json 2>/dev/null; then
    npm install --prefix build/peers --no-package-lock --no-save --no-audit --no-fund --ignore-scripts "ws@$ws_version" >build/peers/npm.log 2>&1 || true
fi

if test -n "$python"; then peer $python tests/peers/python_websockets.py build/echo build/chat
else skip "Python's websockets is not installed"; fi
if command -v node >/dev/null && test -e $ws; then peer node tests/peers/node_ws.js build/echo build/chat $ws
else skip "Node or its package ws is not installed"; fi
if echo '#include <libwebsockets.h>' | $cc -E - >/dev/null 2>&1; then
    $cc -std=c11 $warnings -O1 tests/peers/lws_client.c -o build/peers/lws_client -lwebsockets
    peer build/peers/lws_client build/echo build/chat
else skip "libwebsockets is not installed"; fi
if ! command -v python3 >/dev/null; then skip "there is no Python to drive browsers"
else
    if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then peer python3 tests/peers/page.py build/echo build/chat chromium
    else skip "Chromium and chromedriver are not installed"; fi
    if command -v firefox-esr >/dev/null; then peer python3 tests/peers/page.py build/echo build/chat firefox
    else skip "Firefox is not installed"; fi
fi
if ! command -v python3 >/dev/null; then skip "there is no Python to stand on both sides of proxies"
else
    for kind in nginx haproxy apache2 caddy; do
        if ! command -v $kind >/dev/null; then skip "$kind is not installed"
        elif ! command -v openssl >/dev/null; then skip "openssl, for a certificate of $kind, is not installed"
        else peer python3 tests/peers/proxies.py build/peers/door build/echo $kind; fi
    done
    peer python3 tests/peers/proxies.py build/peers/door build/echo tools
    if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
        peer python3 tests/peers/proxies.py build/peers/door build/echo rebinding
    else skip "a page of a rebound name: Chromium and chromedriver are not installed"; fi
fi
if test -n "$python" && test -e $ws; then peer $python tests/peers/differ.py build/echo $ws
else skip "the comparison of verdicts needs Python's websockets and Node's ws"; fi
echo "peers: $ran ran well, $failed failed, $skipped skipped"
test "$failed" -eq 0
