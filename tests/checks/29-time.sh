#!/bin/sh
# Time, pressure and fairness on the real kernel: see time.c, which prints the figures. What mostly waits runs side by side.
set -eu
mkdir -p build
cc=${CC:-cc}
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Wstrict-prototypes"
$cc -std=c11 -O2 $warnings tests/checks/time.c -Wl,--wrap=epoll_wait,--wrap=send -o build/time -pthread
ulimit -n 8192 2> /dev/null || ulimit -n "$(ulimit -H -n)"
failed=0
running=
for how in still slow; do
    timeout -k 10 150 build/time $how > build/time-$how.log 2>&1 &
    running="$running $how:$!"
done
for one in $running; do
    wait "${one#*:}" || failed=1
    cat "build/time-${one%%:*}.log"
done
for how in pings pressure fair; do timeout -k 10 150 build/time $how || failed=1; done
[ $failed -eq 0 ] || echo "FAILED: time, pressure or fairness"
exit $failed
