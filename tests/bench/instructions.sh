#!/bin/sh
# Instructions per byte of the codec, the cutter and the UTF-8 validator: figures that noise cannot touch.
# From the top of the project: sh tests/bench/instructions.sh [NAME ...]
set -u
CC=${CC:-cc}
CFLAGS=${CFLAGS:--O2}
OUT=build/bench
if ! command -v valgrind >/dev/null; then
    echo "instructions: skipped: valgrind is not installed"
    exit 0
fi
mkdir -p $OUT
$CC -std=c11 -Wall -Wextra $CFLAGS tests/bench/kernels.c -o $OUT/kernels -pthread || exit 1

# Instructions of the whole program when it does a kernel so many times.
count() {
    valgrind --tool=callgrind --callgrind-out-file=$OUT/callgrind.out $OUT/kernels "$1" "$2" >$OUT/kernels.out 2>/dev/null || return 1
    awk '/^(totals|summary):/ { print $2; exit }' $OUT/callgrind.out
}

names=${*:-decode encode unmask-20 unmask-512 unmask-64k ascii-200 ascii-64k utf8-200 utf8-64k copy split writer double}
counted=0
failed=0
printf '%-12s %8s %12s %12s\n' kernel bytes 'each time' 'per byte'
for name in $names; do
    few=$(count "$name" 100) && many=$(count "$name" 1100) || few=
    if [ -z "$few" ] || [ -z "$many" ] || [ "$many" -le "$few" ]; then
        echo "$name: could not be counted"
        failed=$((failed + 1))
        continue
    fi
    awk -v name="$name" -v few="$few" -v many="$many" '{ each = (many - few) / 1000
        printf "%-12s %8d %12.1f %12.3f\n", name, $1, each, each / $1 }' $OUT/kernels.out
    counted=$((counted + 1))
done
echo "instructions: $counted kernels counted, $failed failed"
[ "$failed" -eq 0 ]
