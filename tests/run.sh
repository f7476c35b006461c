#!/bin/sh
# run.sh PROGRAM...: runs test programs, each of which ends with "NAME: N passed, M failed", and adds that up. One that
# was not built, crashes, leaks or hangs counts as a failed test. The last line is "N passed, M failed".
passed=0
failed=0
limit=
if command -v timeout > /dev/null; then limit="timeout -k 10 ${TEST_SECONDS:-300}"; fi

for program do
    if [ ! -x "$program" ]; then
        echo "FAILED $program: not built"
        failed=$((failed + 1))
        continue
    fi
    log=$program.log
    $limit "$program" > "$log" 2>&1 < /dev/null
    status=$?
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
