#!/bin/sh
# Builds the header and the tests for other processors and another libc, and runs them: i386 and musl here, the others under
# qemu-user. Proves that no code depends on word size, byte order, signedness of char or one libc. Each target compiles
# the header in every way (C11 and C++17, gcc and clang) with warnings as errors. Ends with one line per target and
# "portability: N passed, M failed". A target whose tools are not here is named and left out.
# PORTABILITY_TARGETS='s390x musl' runs some. run.sh one TARGET STEP...: one step, used by the first form.

all='i386 i386-clang aarch64 armhf riscv64 s390x musl'
both='-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Wvla -Wformat=2
      -Wredundant-decls -Wimplicit-fallthrough -Werror -pthread'
c_only='-std=c11 -Wstrict-prototypes -Wmissing-prototypes'
tests_only='-std=c11 -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Wstrict-prototypes
            -Werror -pthread'

# Sets what a target is: its C compiler, which builds the tests; its C++ compiler and those of clang, which compile the header
# only; how its programs run; and one point in how many of the long sweeps is run.
describe() {
    runner=
    stride=1
    cxx=
    clang=
    case $1 in
    # The kernel's headers of the 64-bit system are right for both; gcc-multilib, which would name their folder, cannot be
    # installed beside cross compilers.
    i386) here="-m32 -idirafter /usr/include/$(uname -m)-linux-gnu" cc="gcc $here" cxx="g++ $here" ;;
    i386-clang) here="-m32 -idirafter /usr/include/$(uname -m)-linux-gnu" cc="clang $here" cxx="clang++ $here" ;;
    musl)
        cc='musl-gcc -static'
        clang="clang --target=x86_64-linux-musl -nostdinc -isystem $(clang -print-resource-dir 2> /dev/null)/include
               -isystem /usr/include/x86_64-linux-musl"
        ;;
    armhf) emulated arm-linux-gnueabihf arm ;;
    *) emulated "$1-linux-gnu" "$1" ;;
    esac
}

emulated() { # emulated TRIPLE QEMU
    cc=$1-gcc
    cxx=$1-g++
    clang="clang --target=$1"
    runner="qemu-$2 -L /usr/$1"
    stride=7
}

# Why a program is left out of a target; nothing where it runs. Emulated are all of tests/unit; of tests/e2e some by every
# processor, the others by the one with the other byte order.
left_out() {
    case $1/$2 in
    i386-clang/tests/unit/*) ;;
    i386-clang/*) echo 'i386 runs it' ;;
    i386/* | musl/*) ;;
    */sim/faults.c | */sim/allocations.c | */sim/pieces.c | */sim/lives.c | */sim/interleavings.c) echo 'too long under emulation; i386 and musl run it' ;;
    s390x/*) ;;
    */tests/unit/* | */e2e/api.c) ;;
    *) echo 's390x and i386 run it' ;;
    esac
}

# Building costs more than running, but for these.
level_of() {
    case $1 in
    */session.c | */args.c | */frame.c | */json.c | */slow.c | */limits.c) echo -O1 ;;
    *) echo -O0 ;;
    esac
}

words() { echo "$*" | tr -s '\n ' ' '; }

# A step ends with a line "compiled TARGET", "refused TARGET" or "ran TARGET PASSED FAILED".
if [ "$1" = one ]; then
    target=$2
    kind=$3
    describe "$target"
    dir=build/portability/$target
    case $kind in
    compile)
        shift 3
        output=$("$@" -o "$dir/compile.$$.o" 2>&1)
        status=$?
        rm -f "$dir/compile.$$.o"
        if [ $status -eq 0 ] && [ -z "$output" ]; then echo "compiled $target"; exit; fi
        printf 'FAILED %s: %s\n%s\n' "$target" "$*" "$output" | head -n 30
        echo "refused $target"
        exit
        ;;
    esac
    source=$4
    program=$dir/$(echo "${source%.c}" | sed 's,^tests/,,; s,/,-,g')
    rm -f "$program"
    # shellcheck disable=SC2086 # lists of words
    if ! $cc $(level_of "$source") $tests_only -DTEST_STRIDE=$stride "$source" -o "$program" > "$program.log" 2>&1 || [ -s "$program.log" ]; then
        head -n 30 "$program.log"
        echo "FAILED $target $source: does not build cleanly"
        echo "ran $target 0 1"
        exit
    fi
    timeout -k 5 "${TEST_SECONDS:-300}" $runner "$program" > "$program.log" 2>&1 < /dev/null
    status=$?
    counts=$(sed -n 's/^.*: \([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed$/\1 \2/p' "$program.log" | tail -n 1)
    good=${counts% *}
    bad=${counts#* }
    if [ "${bad:-0}" -eq 0 ] && { [ $status -ne 0 ] || [ "${good:-0}" -eq 0 ]; }; then bad=1; fi
    if [ "$bad" -ne 0 ]; then
        tail -n 40 "$program.log"
        echo "FAILED $target $source: exit status $status"
    fi
    echo "ran $target ${good:-0} $bad"
    exit
fi

cd "$(dirname "$0")/../.." || exit 1
dir=build/portability
mkdir -p $dir
steps=$dir/steps
: > $steps
: > $dir/skipped

# Says what of a target's tools is missing, or nothing: a program must build and run.
missing() {
    echo 'int main(void) { return 0; }' > $dir/probe.c
    for tool in ${cc%% *} ${runner%% *}; do
        command -v "$tool" > /dev/null || { echo "no $tool here"; return; }
    done
    $cc $dir/probe.c -o $dir/probe -pthread > /dev/null 2>&1 || { echo "$cc links no program here"; return; }
    $runner $dir/probe > /dev/null 2>&1 || echo "its programs do not run here"
}

# Does this compiler compile for the target at all? C++ headers may be missing, and clang may lack the processor.
can() { # can SUFFIX COMPILER...
    suffix=$1
    shift
    command -v "$1" > /dev/null || return 1
    if [ "$suffix" = cc ]; then echo '#include <climits>' > $dir/can.cc; else echo '#include <limits.h>' > $dir/can.c; fi
    echo '#include <sys/socket.h>' >> "$dir/can.$suffix"
    "$@" -c "$dir/can.$suffix" -o $dir/can.o > /dev/null 2>&1
}

compile_steps() { # compile_steps TARGET SUFFIX FLAGS COMPILER...
    target=$1
    suffix=$2
    flags=$3
    shift 3
    can "$suffix" "$@" || { echo "note: $target: $1 does not compile .$suffix for it here: left out"; return; }
    call="$target compile $(words "$* $flags $both")"
    how='-O1 -c' # with gcc some warnings come from the optimizer only
    case $1 in clang*) how=-fsyntax-only ;; esac
    {
        echo "$call $how tests/compile/impl.$suffix"
        echo "$call -fsyntax-only tests/compile/static_mode.$suffix"
        echo "$call -fsyntax-only tests/compile/decl_only.$suffix"
    } >> $steps
}

: > $dir/present
for target in ${PORTABILITY_TARGETS:-$all}; do
    describe "$target"
    mkdir -p "$dir/$target"
    reason=$(missing)
    if [ -n "$reason" ]; then
        echo "note: $target left out: $reason"
        continue
    fi
    echo "$target" >> $dir/present
    compile_steps "$target" c "$c_only" $cc
    if [ -n "$cxx" ]; then compile_steps "$target" cc -std=c++17 $cxx; fi
    if [ -n "$clang" ]; then compile_steps "$target" c "$c_only" $clang; fi
    if [ -n "$clang" ] && [ -n "$cxx" ]; then compile_steps "$target" cc -std=c++17 $(words "$clang" | sed 's/^clang/clang++/'); fi
    # On 32-bit systems time may have 64 bits.
    case $target in
    i386* | armhf) compile_steps "$target" c "$c_only -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64" $cc ;;
    esac
done
# The longest programs first, so that no one of them ends alone.
present=$(cat $dir/present)
for source in tests/unit/session.c $(ls tests/e2e/*.c tests/unit/*.c tests/sim/*.c 2> /dev/null | grep -v unit/session.c); do
    for target in $present; do
        describe "$target"
        reason=$(left_out "$target" "$source")
        if [ -z "$reason" ]; then echo "$target run $source" >> $steps
        else echo "skipped $target $(basename "$source" .c) ($reason)" >> $dir/skipped
        fi
    done
done

xargs -P "${JOBS:-2}" -L 1 sh tests/portability/run.sh one < $steps > $dir/results
grep -vE '^(compiled|refused|ran) ' $dir/results
awk -v expected="$(wc -l < $steps)" '
    $1 == "compiled" { steps++; compiled[$2]++; passed++ }
    $1 == "refused" { steps++; refused[$2]++; failed++ }
    $1 == "ran" { steps++; programs[$2]++; good[$2] += $3; bad[$2] += $4; passed += $3; failed += $4 }
    $1 == "skipped" { skipped[$2]++; names[$2] = names[$2] " " $3 }
    FILENAME == "build/portability/present" { order[++targets] = $1 }
    END {
        for (i = 1; i <= targets; i++) {
            t = order[i]
            printf "%s: %d compilations, %d refused; %d programs, %d passed, %d failed, %d skipped\n", t, compiled[t] + refused[t],
                refused[t], programs[t], good[t], bad[t], skipped[t]
            if (skipped[t]) printf "    left out of %s:%s\n", t, names[t]
        }
        if (steps != expected) { printf "FAILED: %d of %d steps reported\n", steps, expected; failed++ }
        if (!targets) { print "note: no target has its tools here" }
        printf "portability: %d passed, %d failed\n", passed, failed
        exit failed != 0
    }' $dir/present $dir/skipped $dir/results
