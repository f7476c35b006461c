#!/bin/sh
# Compiles the header in every way that is supported: alone and with its implementation, by each compiler that is here,
# as C11 and C++17, from -O0 to -O3, with warnings as errors. The last line is "compile: N passed, M failed".
# run.sh one WANT COMMAND: one step, used by the first form.

if [ "$1" = one ]; then
    want=$2
    shift 2
    output=$("$@" 2>&1)
    status=$?
    case $want in
    clean) [ "$status" -eq 0 ] && [ -z "$output" ] && echo ok && exit ;;
    refused) [ "$status" -ne 0 ] && case $output in *'include it before system headers'*) echo ok && exit ;; esac ;;
    mistaken) [ "$status" -ne 0 ] && case $output in *'define both WSSERVER_REALLOC and'*'define that before the first include'*) echo ok && exit ;; esac ;;
    esac
    printf 'FAILED (wanted: %s) %s\n' "$want" "$*"
    printf '%s\n' "$output" | head -n 30
    exit
fi

cd "$(dirname "$0")/../.." || exit 1
mkdir -p build/compile
here=tests/compile
both='-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Wvla -Wformat=2
      -Wredundant-decls -Wimplicit-fallthrough -Werror -pthread'
c_only='-Wstrict-prototypes -Wmissing-prototypes'
steps=build/compile/steps
: > "$steps"

have() {
    command -v "$1" > /dev/null && return
    echo "note: no $1 here: left out" >&2
    return 1
}

# add WANT COMMAND: one step. Words must not hold blanks or quotes.
add() { echo "$*" >> "$steps"; }

compile_c() {
    cc=$1
    id=$(basename "$cc" | tr -c 'a-z0-9+\n' _)
    for level in -O0 -O1 -O2 -O3; do
        for file in decl_only impl static_mode; do
            add clean "$cc" -std=c11 $level $both $c_only -c $here/$file.c -o build/compile/$file-$id$level.o
        done
    done
    for file in included_twice with_gnu_source; do
        add clean "$cc" -std=c11 -O1 $both $c_only -c $here/$file.c -o build/compile/$file-$id.o
    done
    add clean "$cc" -std=gnu11 -O1 $both $c_only -c $here/after_system_headers.c -o build/compile/after-$id.o
    add clean "$cc" -std=c11 -D_GNU_SOURCE -O1 $both $c_only -c $here/after_system_headers.c -o build/compile/after-$id-d.o
    add refused "$cc" -std=c11 -O1 $both $c_only -c $here/after_system_headers.c -o build/compile/refused-$id.o
    add mistaken "$cc" -std=gnu11 -O1 $both $c_only -c $here/mistaken.c -o build/compile/mistaken-$id.o
    for file in impl static_mode hostile_macros; do
        add clean "$cc" -std=c11 -O3 -march=native $both $c_only -c $here/$file.c -o build/compile/native-$file-$id.o
    done
    add clean "$cc" -std=c11 -O2 -flto $both $c_only -c $here/impl.c -o build/compile/lto-$id.o
    for example in examples/*.c; do
        name=$(basename "$example" .c)
        add clean "$cc" -std=c11 -O2 -I. $both $c_only "$example" -o "build/compile/example-$name-$id"
        add clean "$cc" -std=c11 -O3 -march=native -I. $both $c_only "$example" -o "build/compile/native-$name-$id"
    done
    add clean sh $here/two_units.sh "$cc" -std=c11 $both $c_only
}

compile_cxx() {
    cc=$1
    id=$cc
    for level in -O0 -O1 -O2 -O3; do
        for file in decl_only impl static_mode; do
            add clean "$cc" -std=c++17 $level $both -c $here/$file.cc -o build/compile/$file-$id$level.o
        done
    done
    add clean "$cc" -std=c++17 -O3 -march=native -flto $both -c $here/impl.cc -o build/compile/native-$id.o
}

for cc in gcc clang; do have $cc && compile_c $cc; done
for cc in g++ clang++; do have $cc && compile_cxx $cc; done
if [ ! -s "$steps" ]; then compile_c "${CC:-cc}"; fi

xargs -P "${JOBS:-2}" -L 1 sh tests/compile/run.sh one < "$steps" > build/compile/results
grep -v '^ok$' build/compile/results
passed=$(grep -c '^ok$' build/compile/results)
failed=$(($(wc -l < "$steps") - passed))
echo "compile: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
