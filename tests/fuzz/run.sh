#!/bin/sh
# run.sh: runs each fuzz target for FUZZ_SECONDS (60), two at a time at most, from the corpus in the repository and the
# seeds. A line for each: executions, edges of the header, new inputs, findings. Fails if there is a finding; what found it
# is kept in build/fuzz/found/TARGET, and "build/test/fuzz/TARGET FILE" replays it. Needs clang with libFuzzer.
seconds=${FUZZ_SECONDS:-60}
cc=${FUZZ_CC:-clang}
base=build/fuzz

longest() { # bytes of an input
    case $1 in
    head) echo 3000 ;;
    session | json) echo 2048 ;;
    utf8) echo 512 ;;
    *) echo 1024 ;;
    esac
}

has_engine() {
    mkdir -p $base
    printf '%s\n' '#include <stddef.h>' 'int LLVMFuzzerTestOneInput(const unsigned char *d, size_t n);' \
        'int LLVMFuzzerTestOneInput(const unsigned char *d, size_t n) { return d == NULL && n; }' > $base/probe.c
    command -v "$cc" > /dev/null && "$cc" -fsanitize=fuzzer,address,undefined $base/probe.c -o $base/probe 2> /dev/null
}

build() {
    "$cc" -std=c11 -O2 -g -DFUZZING_ENGINE -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
        -fsanitize-coverage-allowlist=tests/fuzz/edges.list "tests/fuzz/$1.c" -o "$base/$1" -pthread
}

figure() { # figure NAME LOG: a figure of those that the engine prints at its end
    sed -n "s/^stat::$1: *\([0-9]*\)$/\1/p" "$2" | tail -n 1
}

one() { # builds and runs one target, and writes "executions edges new findings"
    target=$1
    log=$base/$target.log
    found=$base/found/$target
    mkdir -p "$base/new/$target" "$found" "$base/seeds/$target" "tests/fuzz/corpus/$target"
    rm -f "$base/$target.figures"
    touch "$base/$target.began"
    if ! build "$target"; then
        echo "fuzz/$target: not built"
        return 1
    fi
    "$base/$target" -dict=tests/fuzz/words.dict -max_total_time="$seconds" -max_len="$(longest "$target")" -len_control=20 \
        -timeout=60 -rss_limit_mb=2000 -print_final_stats=1 -artifact_prefix="$found/" \
        "$base/new/$target" "tests/fuzz/corpus/$target" "$base/seeds/$target" > "$log" 2>&1
    status=$?
    runs=$(figure number_of_executed_units "$log")
    fresh=$(figure new_units_added "$log")
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    findings=$(find "$found" -type f ! -name 'slow-unit-*' -newer "$base/$target.began" | wc -l)
    if [ "$status" -ne 0 ] && [ "$findings" -eq 0 ]; then findings=1; fi
    echo "${runs:-0} ${edges:-0} ${fresh:-0} $findings" > "$base/$target.figures"
    echo "fuzz/$target: ${runs:-0} executions, ${edges:-0} edges, ${fresh:-0} new inputs, $((findings)) findings"
    if [ "$findings" -ne 0 ]; then
        grep -E 'not true|violation|ERROR|runtime error' "$log" | head -n 5
        find "$found" -type f ! -name 'slow-unit-*' -newer "$base/$target.began"
    fi
}

if [ "${1:-}" = one ]; then
    one "$2"
    exit 0
fi
if ! has_engine; then
    echo "fuzz: SKIPPED, $cc has no libFuzzer here"
    exit 0
fi
mkdir -p $base/seeds
if command -v python3 > /dev/null; then python3 tests/fuzz/seeds.py $base/seeds; else echo "fuzz: seeds SKIPPED, no python3"; fi
targets=$(cd tests/fuzz && ls ./*.c | sed 's|^\./||; s|\.c$||')
jobs=${JOBS:-2}
if [ "$jobs" -gt 2 ]; then jobs=2; fi
for target in $targets; do rm -f "$base/$target.figures"; done
printf '%s\n' $targets | xargs -n 1 -P "$jobs" sh "$0" one
count=0
executions=0
total_edges=0
inputs=0
findings=0
for target in $targets; do
    count=$((count + 1))
    set -- 0 0 0 1
    if [ -s "$base/$target.figures" ]; then set -- $(cat "$base/$target.figures"); fi
    executions=$((executions + $1))
    total_edges=$((total_edges + $2))
    inputs=$((inputs + $3))
    findings=$((findings + $4))
done
echo "fuzz: $count targets, $seconds s each, $executions executions, $total_edges edges, $inputs new inputs, $findings findings"
[ "$findings" -eq 0 ]
