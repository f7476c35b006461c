#!/bin/sh
# run.sh: builds the programs of tests/sim under the sanitizers that work here and runs them, called from the top of the
# project. SEEDS=N gives the random lives so many servers more. The last line is "N passed, M failed".
set -u
cc=${CC:-cc}
flags="-std=c11 -O1 -g -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Wstrict-prototypes"
sanitize="$(sh tests/probe.sh "$cc" -fsanitize=address -fno-omit-frame-pointer) \
$(sh tests/probe.sh "$cc" -fsanitize=undefined -fno-sanitize-recover=all)"
mkdir -p build/test/sim
programs=
for source in tests/sim/*.c; do
    program=build/test/sim/$(basename "$source" .c)
    rm -f "$program"
    $cc $flags $sanitize "$source" -o "$program" -pthread || echo "FAILED to build $program"
    programs="$programs $program"
done
sh tests/run.sh $programs
status=$?
grep -hE '^(faults|allocations|pieces|lives): [0-9]+ (scenarios|conversations|servers)' build/test/sim/*.log
if [ "${SEEDS:-0}" -gt 0 ]; then
    build/test/sim/lives 1000 "$SEEDS" || status=1
fi
exit $status
