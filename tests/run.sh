#!/bin/sh
# run.sh PROGRAM...: runs test programs, JOBS at once, each of which ends with "NAME: N passed, M failed", and adds that up. One
# that was not built, crashes, leaks or hangs counts as a failed test. A line with figures, "NAME: N things, ...", is shown.
# The last line is "N passed, M failed".
# run.sh one PROGRAM: runs one, used by the first form.

if [ "$1" = one ]; then
    limit=
    if command -v timeout > /dev/null; then limit="timeout -k 10 ${TEST_SECONDS:-300}"; fi
    if [ -x "$2" ]; then
        $limit "$2" > "$2.log" 2>&1 < /dev/null
        echo $? > "$2.status"
    fi
    exit 0
fi

# What was freed rests in 32 MiB before it is used again, not in 256, and is not given back to the system: fresh pages are dear.
export ASAN_OPTIONS="quarantine_size_mb=32:allocator_release_to_os_interval_ms=-1:${ASAN_OPTIONS:-}"
passed=0
failed=0
for program do echo "$program"; done | xargs -P "${JOBS:-2}" -n 1 sh "$0" one

for program do
    if [ ! -x "$program" ]; then
        echo "FAILED $program: not built"
        failed=$((failed + 1))
        continue
    fi
    log=$program.log
    status=$(cat "$program.status")
    counts=$(sed -n 's/^.*: \([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed$/\1 \2/p' "$log" | tail -n 1)
    counts=${counts:-0 0}
    good=${counts% *}
    bad=${counts#* }
    if [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$good" -eq 0 ]; }; then bad=1; fi
    if [ "$bad" -ne 0 ]; then
        tail -n 100 "$log"
        echo "FAILED $program: exit status $status, output in $log"
    else
        grep -i skip "$log"
        grep -E '^[a-z_]+: [0-9]+ [a-z]+, [0-9]+ [a-z]+' "$log" | grep -v passed
        tail -n 1 "$log"
    fi
    passed=$((passed + good))
    failed=$((failed + bad))
done

if [ $# -eq 0 ]; then
    echo "FAILED: there are no tests"
    failed=1
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
