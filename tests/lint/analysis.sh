#!/bin/sh
# Static analysis of the whole implementation: gcc -fanalyzer, clang-tidy (bugprone, cert, concurrency) and cppcheck must find
# nothing in the header, and every fault that was put into analysis_bad.h. A tool that is not here is named and left out.
# A finding that is meant stands beside its line as NOLINT(check) or cppcheck-suppress, with the reason. Switched off are:
#   bugprone-easily-swappable-parameters  a size after a size is what such functions take; their tests tell them apart
#   bugprone-branch-clone                 in a chain of refusals two causes may have the same answer
# and left out of what cert-err33-c looks for are snprintf and vsnprintf: they fill buffers that are meant to cut.
# _GNU_SOURCE is a reserved name that the system asks for. Run from the top of the project.

out=build/lint
mkdir -p $out
bad=0
findings=0
told=0

checks='-*,bugprone-*,cert-*,concurrency-*,-bugprone-easily-swappable-parameters,-bugprone-branch-clone'
returns='::aligned_alloc;::calloc;::malloc;::realloc;::strtod;::strtol;::strtoll;::strtoul;::strtoull;::fopen;::fclose'
config="{CheckOptions: [{key: bugprone-reserved-identifier.AllowedIdentifiers, value: _GNU_SOURCE},
    {key: cert-dcl37-c.AllowedIdentifiers, value: _GNU_SOURCE}, {key: cert-dcl51-cpp.AllowedIdentifiers, value: _GNU_SOURCE},
    {key: cert-err33-c.CheckedFunctions, value: '$returns'}]}"

# Each takes a file and prints what it finds, a line "FILE:LINE:... [check]" each, and more.
analyse_gcc() { timeout 400 gcc -std=c11 -O1 -fanalyzer -DWSSERVER_IMPLEMENTATION -x c -c "$1" -o $out/analysed.o 2>&1; }
analyse_clang_tidy() { clang-tidy --quiet --checks="$checks" --config="$config" "$1" -- -x c -std=c11 -DWSSERVER_IMPLEMENTATION 2>&1; }
analyse_cppcheck() {
    cppcheck --quiet --enable=warning,performance,portability --inline-suppr --library=posix --std=c11 --language=c \
        -DWSSERVER_IMPLEMENTATION -D__linux__=1 "$1" 2>&1
}

begin() { # begin TOOL FUNCTION: all look at the header at the same time
    if command -v "$1" > /dev/null; then { $2 wsserver.h > "$out/$2"; echo $? > "$out/$2.status"; } & fi
}

analyse() { # analyse TOOL FUNCTION
    command -v "$1" > /dev/null || { echo "note: no $1 here: left out"; return; }
    if [ "$(cat "$out/$2.status")" -ge 124 ]; then echo "analysis: $1 did not come to an end"; bad=$((bad + 1)); fi
    count=$(grep -cE '^[^ ]+:[0-9]+:[0-9]+: (fatal |)(warning|error|style|performance|portability):' "$out/$2")
    if [ "$count" -ne 0 ]; then cat "$out/$2"; fi
    findings=$((findings + count))
    $2 tests/lint/analysis_bad.h > "$out/$2.bad"
    sed -n "s|^/\* $1: \(.*\) \*/|\1|p" tests/lint/analysis_bad.h > "$out/$2.wanted"
    while read -r check; do
        if grep -qE "[[,]$check[],]" "$out/$2.bad"; then told=$((told + 1)); continue; fi
        echo "analysis: $1 does not find the $check in analysis_bad.h"
        bad=$((bad + 1))
    done < "$out/$2.wanted"
    [ -s "$out/$2.wanted" ] || { echo "analysis: no faults for $1 in analysis_bad.h"; bad=$((bad + 1)); }
}

begin gcc analyse_gcc
begin clang-tidy analyse_clang_tidy
begin cppcheck analyse_cppcheck
wait
analyse gcc analyse_gcc
analyse clang-tidy analyse_clang_tidy
analyse cppcheck analyse_cppcheck
echo "analysis: $findings findings in wsserver.h, $told planted faults found, $bad complaints"
[ $findings -eq 0 ] && [ $bad -eq 0 ]
