#!/bin/sh
# Liveness: at least 20,000 points of tests/sim/liveness.c, as two processes; and each fault of tests/sim/liveness.plants put
# into a copy of the header, which must then fail. STRIDE=N: one point in N.
set -eu
here=tests/sim
build=build/liveness
stride=${STRIDE:-2}
least=20000
cc=${CC:-gcc}
flags="-std=c11 -I. -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Wstrict-prototypes"
mkdir -p "$build"
rm -f "$build"/*

compile() { # compile OUTPUT FLAG...
    out=$1
    shift
    $cc $flags "$@" $here/liveness.c -o "$out" -pthread
}

# The program must fail by what it expects of a peer.
found() { # found NAME
    name=$1
    program=$build/planted-$name
    log=$build/found-$name.log
    if ! awk -v name="$name" -f $here/plant.awk $here/liveness.plants wsserver.h > "$program.h"; then
        echo "liveness: $name cannot be planted: write its lines in $here/liveness.plants anew"
        return 1
    fi
    compile "$program" -O0 -DWSSERVER_TESTED="\"$program.h\"" || return 1
    scenario=$(sed -n "s/^plant $name \([^:]*\):.*/\1/p" $here/liveness.plants)
    status=0
    "$program" stride=1 "scenario=$scenario" once > "$log" 2>&1 || status=$?
    if [ $status -eq 0 ] || ! grep -q '^FAILED: ' "$log"; then
        echo "liveness: $name is not found, see $log"
        return 1
    fi
    echo "found $name: $(sed -n 's/^FAILED: //p' "$log" | head -n 1)"
}

find_all() { # find_all NAME...
    for one do found "$one" || return 1; done
}

compile "$build/sweep" -O2
"$build/sweep" stride="$stride" part=0/2 > "$build/part0.log" 2>&1 &
first=$!
failed=0
"$build/sweep" stride="$stride" part=1/2 > "$build/part1.log" 2>&1 || failed=1
wait $first || failed=1
cat "$build/part0.log" "$build/part1.log"
[ $failed -eq 0 ]
total=$(awk '/^liveness: [0-9]+ points/ { sum += $2 } END { print sum + 0 }' "$build/part0.log" "$build/part1.log")
echo "liveness: $total points in all"
[ "$total" -ge $least ]

names=$(sed -n 's/^plant \([^ ]*\) .*/\1/p' $here/liveness.plants)
half=$(echo "$names" | wc -l)
half=$(((half + 1) / 2))
# shellcheck disable=SC2046 # lists of words
find_all $(echo "$names" | head -n $half) > "$build/found0.log" 2>&1 &
first=$!
find_all $(echo "$names" | tail -n +$((half + 1))) > "$build/found1.log" 2>&1 || failed=1
wait $first || failed=1
cat "$build/found0.log" "$build/found1.log"
exit $failed
