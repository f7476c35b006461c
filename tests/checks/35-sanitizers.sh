#!/bin/sh
# Unit tests with the checks that "make test" leaves out: unsigned overflow and lossy conversions (clang), memory that was not
# set (clang's MemorySanitizer, and valgrind for libc too), and the hardening of distributions (_FORTIFY_SOURCE=3). Each way is
# first shown to end a program with such a fault, see sanitizers_bad.c. What is not here is named and left out.
dir=build/sanitizers
mkdir -p $dir

integer='clang -std=c11 -O1 -g -fsanitize=undefined,integer,implicit-conversion -fno-sanitize-recover=all
         -fsanitize-ignorelist=tests/checks/sanitizers.ignore'
memory='clang -std=c11 -O1 -g -fsanitize=memory -fno-omit-frame-pointer'
fortify='gcc -std=c11 -O2 -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection -Wall -Wextra -Werror'
grind='gcc -std=c11 -O1 -g'
runner_of() { [ "$1" = grind ] && echo 'valgrind -q --error-exitcode=99 --leak-check=full'; }
command_of() { eval "echo \$$1"; }

# run.sh one WAY SOURCE: builds and runs one program.
if [ "$1" = one ]; then
    program=$dir/$2-$(basename "$3" .c)
    stride=1
    if [ "$2" = grind ]; then stride=29; fi
    # shellcheck disable=SC2046 # lists of words
    $(command_of "$2") -DTEST_STRIDE=$stride "$3" -o "$program" -pthread > "$program.log" 2>&1 &&
        timeout -k 5 300 $(runner_of "$2") "$program" >> "$program.log" 2>&1 < /dev/null
    status=$?
    counts=$(sed -n 's/^.*: \([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed$/\1 \2/p' "$program.log" | tail -n 1)
    if [ $status -ne 0 ] || [ -z "$counts" ]; then
        tail -n 40 "$program.log"
        echo "FAILED $2 $3: exit status $status"
        counts='0 1'
    fi
    echo "ran $2 $counts"
    exit
fi

# Does this way work here, and does it see these faults? It must let the same program pass without a fault.
sees() { # sees WAY FAULT...
    way=$1
    shift
    bad=$dir/$way-bad
    # shellcheck disable=SC2046
    if ! { $(command_of "$way" | sed 's/-Werror//') -w tests/checks/sanitizers_bad.c -o "$bad" &&
           $(runner_of "$way") "$bad"; } > "$bad.log" 2>&1; then
        echo "note: $way does not work here: left out"
        return 1
    fi
    for fault do
        if $(runner_of "$way") "$bad" "$fault" > "$bad.log" 2>&1; then
            echo "FAILED $way does not see: $fault"
            missed=$((missed + 1))
        fi
    done
}

missed=0
: > $dir/steps
if sees integer wrap truncate; then for source in tests/unit/*.c; do echo "integer $source"; done >> $dir/steps; fi
if sees memory uninitialized; then for t in session http json args queue; do echo "memory tests/unit/$t.c"; done >> $dir/steps; fi
if sees fortify beyond; then for t in unit/session e2e/api; do echo "fortify tests/$t.c"; done >> $dir/steps; fi
if sees grind uninitialized beyond; then for t in mem message event slot; do echo "grind tests/unit/$t.c"; done >> $dir/steps; fi

xargs -P "${JOBS:-2}" -L 1 sh "$0" one < $dir/steps > $dir/results
grep -v '^ran ' $dir/results
awk -v missed=$missed -v steps="$(wc -l < $dir/steps)" '
    $1 == "ran" { programs++; passed += $3; failed += $4 }
    END {
        failed += missed + steps - programs
        printf "sanitizers: %d programs, %d passed, %d failed\n", programs, passed, failed
        exit failed != 0
    }' $dir/results
