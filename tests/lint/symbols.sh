#!/bin/sh
# What the implementation brings into a program: global are the declared wss_ functions and nothing else, in static mode
# nothing at all, and no variable that can change (but per thread). Run from the top of the project.
out=build/lint
mkdir -p $out
bad=0
cc=${CC:-cc}

complain() {
    echo "symbols: $*"
    bad=$((bad + 1))
}

build() { $cc -std=c11 -O0 -fno-pie -fno-pic -pthread -c "tests/compile/$1.c" -o "$out/$1.o" || complain "$1.c does not compile"; }

command -v nm > /dev/null && command -v objdump > /dev/null || { echo "note: no nm or objdump here: symbols not checked"; exit 0; }
build impl
build static_mode

nm -g --defined-only $out/impl.o | awk '{ print $3 }' | sort > $out/globals
awk '/^WSSERVER_API / { sub(/\(.*/, ""); sub(/.*[ *]/, ""); print } /define WSSERVER_IMPLEMENTATION_INCLUDED/ { exit }' \
    wsserver.h | sort > $out/declared
diff $out/declared $out/globals > $out/globals_diff ||
    complain "declared (<) and defined (>) functions differ: $(grep '^[<>]' $out/globals_diff | tr '\n' ' ')"

nm -g --defined-only $out/static_mode.o | awk '{ print $3 }' > $out/static_globals
[ -s $out/static_globals ] && complain "global in static mode: $(tr '\n' ' ' < $out/static_globals)"

objdump -t $out/impl.o | grep -E ' (\.data|\.bss|\.data\.[^r][^ ]*|\*COM\*)[[:space:]]' | grep -v ' d  ' | awk '{ print $NF }' > $out/variables
[ -s $out/variables ] && complain "variables that can change: $(tr '\n' ' ' < $out/variables)"

[ $bad -eq 0 ]
