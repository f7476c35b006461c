#!/bin/sh
# Which lines and branches of wsserver.h the tests reach: builds each test program with gcc --coverage, runs it, and unites
# what all of them reached. Writes build/coverage.txt and build/coverage/index.html. Fails below 100 % of the lines or 97 %
# of the branches, and where more than 1 % of the lines is left out. JOBS and GCOV may be set. Tracefiles of gcovr from
# other processors, build/coverage/*.json, are united with the rest.
cd "$(dirname "$0")/../.." || exit 1
case $(${CC:-gcc} --version 2> /dev/null) in
*"Free Software Foundation"*) CC=${CC:-gcc} ;;
*) CC=gcc ;; # gcovr is given what gcc writes
esac
GCOV=${GCOV:-gcov}
for tool in "${CC%% *}" "$GCOV" gcovr python3; do
    if ! command -v "$tool" > /dev/null; then
        echo "coverage: skipped, there is no $tool"
        exit 0
    fi
done

# The library is compiled once (tests/library.h), and counts what all programs linked with it reach; those that bring it with
# them count by themselves, and keep unused functions, so that every program knows every line. Threads that count at once may
# lose counts, but what was reached is never 0. __gcov_dump is for tests with children.
flags="-std=c11 -O0 -g -pthread"
counting="--coverage -fkeep-static-functions -fkeep-inline-functions -include $PWD/tests/coverage/counted.h"
out=$PWD/build/coverage
traces=$out/traces
gcovr="gcovr --gcov-executable $GCOV --root $PWD --filter $PWD/wsserver.h\$"
export CC flags counting out traces gcovr

names() { # names OPTION: of the tests that do (-l) or do not (-L) bring the library with them
    for source in $(grep "$1" '"../../wsserver.h"' tests/unit/*.c tests/e2e/*.c tests/sim/*.c); do
        # what counts steps by macros in the place of "while" has branches of its own
        if grep -q '^int main(' "$source" && ! grep -q 'counted[.]h' "$source"; then echo "${source%.c}"; fi
    done
}

each() { # each COMMAND: runs it for each name that comes, as $1
    xargs -P "${JOBS:-2}" -I '{}' sh -c "$1" sh '{}'
}

rm -rf "$out/tests" "$traces" "$out"/*.html "$out"/*.css
mkdir -p "$traces" "$out/tests/library"
echo "coverage: building $({ names -l; names -L; } | wc -l) programs"
awk -f tests/declare.awk wsserver.h > "$out/declared.h"
awk -v export=1 -f tests/declare.awk wsserver.h > "$out/exported.h"
$CC $flags $counting "-I$out" -c tests/library.c -o "$out/tests/library/library.o" || exit 1
names -L | each 'mkdir -p "$out/$1" && $CC $flags "-I$out" -DTEST_LINKED "$1.c" "$out/tests/library/library.o" \
    -o "$out/$1/program" -lgcov -Wl,-u,__gcov_dump' || exit 1
# Each of these is built, and later read, in a directory of its own: there gcov leaves what it writes.
names -l | each 'mkdir -p "$out/$1" && cd "$out/$1" && $CC $flags $counting "../../../../../$1.c" -o program \
    -Wl,-u,__gcov_dump' || exit 1

status=0
TEST_SECONDS=900 sh tests/run.sh $({ names -l; names -L; } | sed "s|.*|build/coverage/&/program|") > "$out/run.log" || status=1
grep -v ' 0 failed$' "$out/run.log"
tail -n 1 "$out/run.log"

# One at a time, since gcov leaves its files at the top of the project. The library is read without the marks too: the difference
# is what they leave out.
one=tests/library
{ echo $one; names -l; } | JOBS=1 each 'cd "$out/$1" && $gcovr . --json "$traces/$(echo "$1" | tr / -).json" \
    --exclude-lines-by-pattern ".*/\* (never|elsewhere): .*\*/" --exclude-branches-by-pattern ".*/\* always: .*\*/" \
    2> trace.log || { cat trace.log; exit 1; }' || exit 1
(cd "$out/$one" && $gcovr . --json "$traces/unmarked" 2> trace.log) || exit 1

set --
for trace in "$traces"/*.json "$out"/*.json; do
    if [ ! -e "$trace" ]; then continue; fi
    if [ wsserver.h -nt "$trace" ]; then
        echo "coverage: skipped ${trace#"$PWD/"}, it is older than wsserver.h"
        continue
    fi
    set -- "$@" "$trace"
done
add=
for trace do add="$add -a $trace"; done
$gcovr $add --html-details "$out/index.html" --html-title "wsserver.h: lines and branches that the tests reach" \
    2> "$out/html.log" || { cat "$out/html.log"; exit 1; }
python3 tests/coverage/report.py "$traces/unmarked" "$traces/$(echo "$one" | tr / -).json" "$@" > build/coverage.txt ||
    status=1
tail -n 1 build/coverage.txt
exit $status
