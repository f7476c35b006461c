#!/bin/sh
# Liveness: at least 20,000 points of tests/sim/liveness.c, as two processes; and each fault of tests/sim/liveness.plants put
# into a copy of the header, which must then fail. STRIDE=N: one point in N.
set -eu
name=liveness
plants=tests/sim/liveness.plants
build=build/liveness
unit=points
least=20000
expected='^FAILED: '
stride=${STRIDE:-2}
cc=${CC:-gcc}
flags="-std=c11 -I. -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Wstrict-prototypes"
mkdir -p "$build"
rm -f "$build"/*
. tests/sim/planted.sh

compile() {
    out=$1
    shift
    $cc $flags "$@" tests/sim/liveness.c -o "$out" -pthread
}
run_planted() { "$1" stride=1 "scenario=$(of_plant "$2")" once; }
tell() { echo "found $1: $(sed -n 's/^FAILED: //p' "$2" | head -n 1)"; }
first_half() { "$build/sweep" stride="$stride" part=0/2; }
second_half() { "$build/sweep" stride="$stride" part=1/2; }

compile "$build/sweep" -O2
sweep_and_plant first_half second_half
