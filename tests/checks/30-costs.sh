#!/bin/sh
# Work that must not grow with what else is there, in instructions, which noise cannot touch: see costs.c. The limits are ratios
# of two runs that differ in one thing only.
set -eu
if ! command -v valgrind > /dev/null; then
    echo "costs: skipped: valgrind is not installed"
    exit 0
fi
out=build/costs
mkdir -p $out
rm -f $out/*.count
${CC:-cc} -std=c11 -O2 tests/checks/costs.c -o $out/costs -pthread

# The instructions of what is measured in a run.
cat > $out/count.sh <<'END'
name=$(echo "$*" | tr ' ' -)
valgrind --tool=callgrind --collect-atstart=no --toggle-collect=measured --callgrind-out-file="build/costs/$name.out" \
    build/costs/costs "$@" > "build/costs/$name.log" 2>&1 &&
    awk '/^(totals|summary):/ { print $2; exit }' "build/costs/$name.out" > "build/costs/$name.count"
END
printf '%s\n' 'broadcast 100000' 'broadcast 0' 'accept 0' 'accept 20000' 'types 1' 'types 2000' 'members 0' 'members 50' |
    xargs -P "${JOBS:-2}" -L 1 sh $out/count.sh || echo "a run has failed, see $out"

failed=0
compare() { # compare WHAT FEW MANY LIMIT
    few=$(cat "$out/$1-$2.count" 2> /dev/null || echo 0)
    many=$(cat "$out/$1-$3.count" 2> /dev/null || echo 0)
    awk -v name="$1, $3 beside $2" -v few="$few" -v many="$many" -v limit="$4" 'BEGIN {
        bad = few < 1000 || many > few * limit
        printf "%s%s: %d and %d instructions, %.3f times, at most %s\n", bad ? "FAILED " : "", name, many, few, few ? many / few : 0, limit
        exit bad
    }' || failed=1
}
compare accept 0 20000 1.2
compare types 1 2000 1.3
compare members 0 50 5
compare broadcast 0 100000 1.2
[ $failed -eq 0 ] && echo "costs: none grows"
exit $failed
