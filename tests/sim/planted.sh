# What the checks of interleavings and liveness have in common: a sweep as two processes, and faults planted into copies of
# the header, which must then fail. Read by a script that has set
#     name             of the program in tests/sim
#     plants           the file of faults
#     build            a folder for what is made
#     least, unit      how many points, or schedules, the sweep must have
#     expected         what a log must hold where a fault is found
#     compile OUTPUT FLAG..., run_planted PROGRAM FAULT, tell FAULT LOG   as functions

# A planted fault must be found by what is expected, not for want of arguments.
found() { # found FAULT
    fault=$1
    program=$build/planted-$fault
    log=$build/found-$fault.log
    if ! awk -v name="$fault" -f tests/sim/plant.awk "$plants" wsserver.h > "$program.h"; then
        echo "$name: $fault cannot be planted: write its lines in $plants anew"
        return 1
    fi
    compile "$program" -O0 -DWSSERVER_TESTED="\"$program.h\"" || return 1
    status=0
    run_planted "$program" "$fault" > "$log" 2>&1 || status=$?
    if [ $status -eq 0 ] || ! grep -qE "$expected" "$log"; then
        echo "$name: $fault is not found, see $log"
        return 1
    fi
    tell "$fault" "$log"
}

find_all() { # find_all FAULT...
    for one do found "$one" || return 1; done
}

# What stands behind the name of a fault, before its colon.
of_plant() { sed -n "s/^plant $1 \([^:]*\):.*/\1/p" "$plants"; }

# Both halves of a job side by side, each into a log; shows both. False where one fails.
both() { # both FIRST SECOND: names of functions
    good=0
    $1 > "$build/first.log" 2>&1 &
    other=$!
    $2 > "$build/second.log" 2>&1 || good=1
    wait $other || good=1
    cat "$build/first.log" "$build/second.log"
    return $good
}

faults_of() { # faults_of HALF: 0 or 1
    sed -n 's/^plant \([^ ]*\) .*/\1/p' "$plants" | awk -v half="$1" 'NR % 2 == half'
}

# shellcheck disable=SC2046 # lists of words
first_faults() { find_all $(faults_of 0); }
# shellcheck disable=SC2046
second_faults() { find_all $(faults_of 1); }

sweep_and_plant() { # sweep_and_plant FIRST SECOND: functions that run a half of the sweep
    both "$1" "$2"
    total=$(awk -v unit="$unit" '$1 == name ":" && $3 ~ unit { sum += $2 } END { print sum + 0 }' name="$name" \
        "$build/first.log" "$build/second.log")
    echo "$name: $total $unit in all"
    [ "$total" -ge "$least" ]
    both first_faults second_faults
}
