#!/bin/sh
# Interleavings: the scenes of tests/sim/interleavings.c in at least 100,000 schedules together, as two processes; and each
# fault of tests/sim/plants put into a copy of the header, which must then fail. It shows interleavings, not reordering.
# EACH=N: so many schedules of each scene.
set -eu
name=interleavings
plants=tests/sim/plants
build=build/interleavings
unit=schedules
least=100000
expected='^FAILED: |ERROR: AddressSanitizer'
each=${EACH:-5000}
cc=${CC:-gcc}
flags="-std=c11 -I. -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Wstrict-prototypes"
sanitize="$(sh tests/probe.sh "$cc" -fsanitize=address -fno-omit-frame-pointer)"
mkdir -p "$build"
rm -f "$build"/*
export ASAN_OPTIONS="quarantine_size_mb=32:allocator_release_to_os_interval_ms=-1:detect_leaks=0:${ASAN_OPTIONS:-}"
. tests/sim/planted.sh

compile() {
    out=$1
    shift
    $cc $flags $sanitize "$@" tests/sim/interleavings.c -o "$out" -pthread
}
run_planted() { "$1" each=4000 "scenes=$(of_plant "$2")"; }
tell() {
    what=$(sed -n 's/^FAILED: //p; s/^.*ERROR: AddressSanitizer: \([a-z-]*\).*/\1/p' "$2" | head -n 1)
    echo "found $1: $what; $(sed -n 's/^  scene \(".*", schedule [0-9]*\).*/\1/p' "$2" | head -n 1)"
}
first_half() { "$build/sweep" each="$each" part=0/2; }
second_half() { "$build/sweep" each="$each" part=1/2; }

compile "$build/sweep" -O1 -g1
sweep_and_plant first_half second_half
