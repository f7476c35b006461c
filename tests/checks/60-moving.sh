#!/bin/sh
# Servers that are replaced under load, as processes: see moving.c, which prints the figures. HAProxy where it is installed.
# Each part is first shown to find a fault that was put into a copy of the header.
set -eu
mkdir -p build
cc=${CC:-cc}
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Wstrict-prototypes"
ulimit -n 8192 2> /dev/null || ulimit -n "$(ulimit -H -n)"
PATH=$PATH:/usr/sbin
failed=0

compile() { # compile PROGRAM FLAG...
    program=$1
    shift
    $cc -std=c11 $warnings "$@" tests/checks/moving.c -Wl,--wrap=send -o "$program" -pthread
}

finds() { # finds PART FAULT SED_SCRIPT WORDS: what must be said of the broken header
    sed "$3" wsserver.h > "build/moving-$2.h"
    if cmp -s wsserver.h "build/moving-$2.h"; then
        echo "FAILED: moving: the fault $2 has no place in the header"
        failed=1
        return
    fi
    compile "build/moving-$2" -w "-DWSSERVER_TESTED=\"../../build/moving-$2.h\""
    timeout -k 5 60 "build/moving-$2" "$1" once > "build/moving-$2.log" 2>&1 || true
    if grep -q "^FAILED: $4" "build/moving-$2.log"; then echo "moving: the fault $2 is found: $4"
    else
        echo "FAILED: moving: the fault $2 is not found"
        failed=1
    fi
}

compile build/moving -O2
finds handover silent 's/return !__atomic_load_n(&server->open, __ATOMIC_ACQUIRE) && .*/return !__atomic_load_n(\&server->open, __ATOMIC_ACQUIRE);/' \
    'an end without an answer'
timeout -k 5 60 build/moving handover || failed=1
if command -v haproxy > /dev/null; then
    finds rolling bunched 's/(loop->spread_done + 1) \//(loop->spread_done \/ 64 * 64 + 1) \//' 'the reconnects were bunched'
    timeout -k 5 60 build/moving rolling || failed=1
else
    echo "moving: skipped: the rolling stop: haproxy is not installed"
fi
[ $failed -eq 0 ] || echo "FAILED: a server cannot be replaced without harm"
exit $failed
