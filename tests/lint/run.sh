#!/bin/sh
# Runs the checks of this folder. The last line is "lint: N passed, M failed".
cd "$(dirname "$0")/../.." || exit 1
passed=0
failed=0

check() {
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

layers() {
    awk -f tests/lint/code.awk -f tests/lint/layers.awk "$1" "$1"
}

# The rules must find every mistake that was put into a file on purpose, or they find none in the header either.
layers_find_mistakes() {
    mkdir -p build/lint
    layers tests/lint/layers_bad.h > build/lint/layers_bad
    grep -q '3 rooms, 11 complaints' build/lint/layers_bad && return
    echo "layers: of the 11 mistakes in layers_bad.h it found:"
    cat build/lint/layers_bad
    return 1
}

size() {
    awk -f tests/lint/code.awk -f tests/lint/size.awk "$1" "$2"
}

size_finds_mistakes() {
    mkdir -p build/lint
    size tests/lint/sizes_bad tests/lint/size_bad.h > build/lint/size_bad
    grep -q '8 lines of code in 6 rooms, 8 complaints' build/lint/size_bad && return
    echo "size: of the 8 mistakes in size_bad.h it found:"
    cat build/lint/size_bad
    return 1
}

check layers_find_mistakes
check layers wsserver.h
check size_finds_mistakes
check size tests/lint/sizes wsserver.h
check sh tests/lint/docs.sh
check sh tests/lint/symbols.sh
check sh tests/lint/analysis.sh
echo "lint: $passed passed, $failed failed"
[ $failed -eq 0 ]
