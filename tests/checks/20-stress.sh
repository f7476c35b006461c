#!/bin/sh
# Threads against the real server: see the head of each program in tests/stress. All runs under ThreadSanitizer that can; freely
# with gcc's, and with clang's on one processor, where every change of threads is one that the kernel or the test forced.
# STRESS_SCALE=N makes the runs N times as long.
set -eu
here=tests/stress
build=build/stress
scale=${STRESS_SCALE:-1}
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Wstrict-prototypes"
plain=${CC:-gcc}
mkdir -p "$build"
export TSAN_OPTIONS="halt_on_error=0 exitcode=66 second_deadlock_stack=1"

has_tsan() { command -v "$1" > /dev/null && test -n "$(sh tests/probe.sh "$1" -fsanitize=thread)"; }

pinned() { # pinned PROCESSOR COMMAND...
    processor=$1
    shift
    if taskset -c "$processor" true 2> /dev/null; then taskset -c "$processor" "$@"; else "$@"; fi
}

# One line for each program: how it is built.
{
    echo "$plain -O2 $here/schedule.c -o $build/schedule"
    echo "$plain -O2 $here/wake.c -o $build/wake"
    echo "$plain -O2 $here/handles.c -o $build/handles"
    for how in late outside; do
        awk -v how=$how -f $here/broken.awk wsserver.h > "$build/broken-$how.h"
        for program in schedule wake; do
            echo "$plain -O1 -DWSSERVER_TESTED=\\\"$build/broken-$how.h\\\" $here/$program.c -o $build/$program-$how"
        done
    done
    for compiler in gcc clang; do
        has_tsan "$compiler" || continue
        for program in stress destroy; do
            echo "$compiler -O1 -g -fsanitize=thread $here/$program.c -o $build/$program-$compiler"
        done
    done
    address=$(sh tests/probe.sh "$plain" -fsanitize=address)
    if [ -n "$address" ]; then echo "$plain -O1 -g $address $here/stress.c -o $build/stress-address"; fi
} > "$build/list"
rm -f "$build"/schedule* "$build"/wake* "$build"/handles "$build"/stress-* "$build"/destroy-* "$build"/*.log
sed "s|\$| -std=gnu11 -I. $warnings -pthread|" "$build/list" | tr '\n' '\0' | xargs -0 -n 1 -P "${JOBS:-2}" sh -c

fails() { # fails PROGRAM ARGUMENT...: a header in which a wake-up can be lost must be found out
    if "$@" > "$build/control.log" 2>&1; then
        echo "control: $* found nothing in a header that is broken"
        return 1
    fi
    echo "control: $1 is found out: $(head -n 1 "$build/control.log")"
}

run_stress() { # run_stress PROGRAM [PINNED...]
    program=$1
    shift
    seed=1
    for mode in "4 1 loop" "3 2 loop" "3 3 loop" "4 1 queue" "3 3 queue"; do
        set_seconds=${mode%% *}
        "$@" "$program" $((set_seconds * scale)) ${mode#* } "$seed" || return 1
        seed=$((seed + 1))
    done
}

# Four seconds each, a minute in all: the number of loops, and what happens to slow readers, change each time.
run_lives() { # run_lives PROGRAM FIRST_SEED
    seed=$2
    while [ $seed -lt $(($2 + 15)) ]; do
        policy=queue
        if [ $((seed % 2)) -eq 0 ]; then policy=queue-close; fi
        "$1" $((4 * scale)) $((1 + seed % 3)) $policy "$seed" || return 1
        seed=$((seed + 1))
    done
}

on_first() {
    if [ -x $build/stress-clang ]; then run_stress $build/stress-clang pinned 0 || return 1; fi
    pinned 0 $build/wake $((3 * scale)) 30 calm-loop calm-queue
}

on_second() {
    $build/handles || return 1
    if [ -x $build/destroy-clang ]; then pinned 1 $build/destroy-clang $((5000 * scale)) || return 1; fi
    pinned 1 $build/wake $((4 * scale)) 30 calm-queue calm-loop
}

$build/schedule
for how in late outside; do
    fails "$build/schedule-$how"
    fails "$build/wake-$how" 1 2 loop queue calm-loop calm-queue
done
if [ -x $build/stress-gcc ]; then
    run_stress $build/stress-gcc env
    $build/destroy-gcc $((10000 * scale))
fi
$build/wake $((3 * scale)) 30 loop queue calm-loop calm-queue
failed=0
if [ -x $build/stress-address ]; then run_lives $build/stress-address 100 > "$build/address.log" 2>&1 & else true & fi
address=$!
if [ -x $build/stress-gcc ]; then run_lives $build/stress-gcc 200 > "$build/lives.log" 2>&1 || failed=1; fi
wait $address || failed=1
grep -h -v '^  read' "$build/address.log" "$build/lives.log" || true
on_first > "$build/first.log" 2>&1 &
first=$!
on_second > "$build/second.log" 2>&1 || failed=1
wait $first || failed=1
cat "$build/first.log" "$build/second.log"
exit $failed
