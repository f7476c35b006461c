#!/bin/sh
# Interleavings: the scenes of tests/sim/interleavings.c in at least 100,000 schedules together, as two processes; and each
# fault of tests/sim/plants put into a copy of the header, which must then fail. It shows interleavings, not reordering.
# EACH=N: so many schedules of each scene.
set -eu
here=tests/sim
build=build/interleavings
each=${EACH:-5000}
least=100000
cc=${CC:-gcc}
flags="-std=c11 -I. -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Wstrict-prototypes"
sanitize="$(sh tests/probe.sh "$cc" -fsanitize=address -fno-omit-frame-pointer)"
mkdir -p "$build"
rm -f "$build"/*
export ASAN_OPTIONS="quarantine_size_mb=32:allocator_release_to_os_interval_ms=-1:detect_leaks=0:${ASAN_OPTIONS:-}"

compile() { # compile OUTPUT FLAG...
    out=$1
    shift
    $cc $flags $sanitize "$@" $here/interleavings.c -o "$out" -pthread
}

scenes_of() { sed -n "s/^plant $1 \([^:]*\):.*/\1/p" $here/plants; }

# The program must fail, by what it expects or by AddressSanitizer, not for want of arguments.
found() { # found NAME
    name=$1
    program=$build/planted-$name
    log=$build/found-$name.log
    if ! awk -v name="$name" -f $here/plant.awk $here/plants wsserver.h > "$program.h"; then
        echo "interleavings: $name cannot be planted: write its lines in $here/plants anew"
        return 1
    fi
    compile "$program" -O0 -DWSSERVER_TESTED="\"$program.h\"" || return 1
    status=0
    "$program" each=4000 "scenes=$(scenes_of "$name")" > "$log" 2>&1 || status=$?
    if [ $status -eq 0 ] || ! grep -qE '^FAILED: |ERROR: AddressSanitizer' "$log"; then
        echo "interleavings: $name is not found, see $log"
        return 1
    fi
    what=$(sed -n 's/^FAILED: //p; s/^.*ERROR: AddressSanitizer: \([a-z-]*\).*/\1/p' "$log" | head -n 1)
    where=$(sed -n 's/^  scene \(".*", schedule [0-9]*\).*/\1/p' "$log" | head -n 1)
    echo "found $name: $what; $where"
}

find_all() { # find_all NAME...
    for one do found "$one" || return 1; done
}

compile "$build/sweep" -O1 -g1
"$build/sweep" each="$each" part=0/2 > "$build/part0.log" 2>&1 &
first=$!
failed=0
"$build/sweep" each="$each" part=1/2 > "$build/part1.log" 2>&1 || failed=1
wait $first || failed=1
cat "$build/part0.log" "$build/part1.log"
[ $failed -eq 0 ]
total=$(awk '/^interleavings: [0-9]+ schedules/ { sum += $2 } END { print sum + 0 }' "$build/part0.log" "$build/part1.log")
echo "interleavings: $total schedules in all"
[ "$total" -ge $least ]

names=$(sed -n 's/^plant \([^ ]*\) .*/\1/p' $here/plants)
half=$(echo "$names" | wc -l)
half=$(((half + 1) / 2))
# shellcheck disable=SC2046 # lists of words
find_all $(echo "$names" | head -n $half) > "$build/found0.log" 2>&1 &
first=$!
find_all $(echo "$names" | tail -n +$((half + 1))) > "$build/found1.log" 2>&1 || failed=1
wait $first || failed=1
cat "$build/found0.log" "$build/found1.log"
exit $failed
