#!/bin/sh
# Floods of FLOOD_SECONDS (60) against servers with a queue, each in a process of its own, side by side: see floods.c.
set -eu
mkdir -p build
cc=${CC:-cc}
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Wstrict-prototypes"
address=$(sh tests/probe.sh "$cc" -fsanitize=address -fno-omit-frame-pointer)
$cc -std=c11 -O1 -g $warnings $address tests/checks/floods.c -o build/floods -pthread
ulimit -n 65536 2> /dev/null || ulimit -n "$(ulimit -H -n)" # both ends of each connection are in one process
failed=0
running=
for how in resets empties; do
    timeout -k 10 $((${FLOOD_SECONDS:-60} + 240)) build/floods $how "${FLOOD_SECONDS:-60}" > build/floods-$how.log 2>&1 &
    running="$running $how:$!"
done
for one in $running; do
    wait "${one#*:}" || failed=1
    cat "build/floods-${one%%:*}.log"
done
[ $failed -eq 0 ] || echo "FAILED: a flood has done harm"
exit $failed
