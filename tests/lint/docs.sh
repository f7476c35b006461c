#!/bin/sh
# Do the documents say what the code says? The quick start, the map, macro and function names, options and their defaults,
# the version. Prints what differs; fails if anything does. Run from the top of the project.
header=wsserver.h
out=build/lint
mkdir -p $out
bad=0

complain() {
    echo "docs: $*"
    bad=$((bad + 1))
}

# Lists of names, one a line. The code is what is left of the header without comments and strings.
{ cat tests/lint/code.awk; echo '{ print code_of($0) }'; } > $out/strip.awk
awk -f $out/strip.awk $header > $out/code
names() { grep -oE "$1" | sort -u; }
# What the changelog says is gone, in the first column of a table headed "gone", must be gone; all else in it must be there.
awk -v gone=$out/gone '/^\| gone / { on = 1 } !/^\|/ { on = 0 } on && match($0, /^\| [^|]* \|/) {
    print substr($0, 1, RLENGTH) > gone
    $0 = substr($0, RLENGTH)
} { print }' CHANGELOG.md > $out/changelog.md
documents="README.md $out/changelog.md examples/*.c"
for name in $(grep -oE '\b(wss_|WSS_|options\.)[A-Za-z0-9_]+' $out/gone | sed 's/^options\.//'); do
    grep -qw "$name" $out/code && complain "CHANGELOG.md: $name is not gone"
done

# 1. The quick start is the same text in the header, in examples/hello.c (below its build command) and in the README.
awk '/examples\/hello.c:/ { on = 1; next } /Build it with:/ { exit } on { sub(/^       /, ""); print }' $header |
    sed -e '1{/^$/d;}' -e '${/^$/d;}' > $out/quick_header
sed 1d examples/hello.c > $out/quick_example
awk '/^```c$/ { on = 1; next } /^```$/ { if (on) exit } on' README.md > $out/quick_readme
[ -s $out/quick_header ] || complain "no quick start in $header"
cmp -s $out/quick_header $out/quick_example || complain "quick start: $header and examples/hello.c differ"
cmp -s $out/quick_header $out/quick_readme || complain "quick start: $header and README.md differ"
head -n 1 examples/hello.c | grep -q '^/\* .*cc .*examples/hello.c' || complain "examples/hello.c: line 1 is not its build command"

# 2. Each tag of the map stands at one banner, and each banner in the map, in the same order.
sed -n '/^   MAP\./,/^\*\//p' $header | grep -oE '\[[a-z0-9]+\]' > $out/map
sed -n 's/^\/\* ---- \(\[[a-z0-9]*\]\).*/\1/p' $header > $out/banners
diff $out/map $out/banners > $out/map_diff || complain "map (<) and banners (>) differ: $(grep '^[<>]' $out/map_diff | tr '\n' ' ')"

# 3. Every WSS_ and WSSERVER_ name in a document or comment exists in code. A name that ends in _ stands for several.
names 'WSS(ERVER)?_[A-Z0-9_]+' < $out/code > $out/macros_code
cat $header $documents | names 'WSS(ERVER)?_[A-Z0-9_]+' | while read -r name; do
    case $name in
    *_) grep -q "^$name" $out/macros_code ;;
    *) grep -qx "$name" $out/macros_code ;;
    esac || echo "$name"
done > $out/macros_missing
[ -s $out/macros_missing ] && complain "named, but not in the code: $(tr '\n' ' ' < $out/macros_missing)"

# 4. Every macro that a user may set is in the header's list of them.
grep -E '^ *# *(if|ifdef|ifndef|elif)' $out/code | names 'WSSERVER_[A-Z0-9_]+' | grep -vxE 'WSSERVER_(H|IMPLEMENTATION_INCLUDED)' > $out/switches
sed -n '/Macros you may define/,/^$/p' $header | names 'WSSERVER_[A-Z0-9_]+' > $out/switches_documented
for name in $(comm -23 $out/switches $out/switches_documented); do complain "$name is not in the list of macros in $header"; done

# 5. Every wss_ name in a document is declared.
sed '/define WSSERVER_IMPLEMENTATION_INCLUDED/q' $out/code | names '\bwss_[a-z0-9_]+' > $out/calls
cat $documents | names '\bwss_[a-z0-9_]+' | while read -r name; do
    case $name in
    *_) grep -q "^$name" $out/calls ;;
    *) grep -qx "$name" $out/calls ;;
    esac || echo "$name"
done > $out/calls_missing
[ -s $out/calls_missing ] && complain "named, but not declared: $(tr '\n' ' ' < $out/calls_missing)"

# 6. Every option has a documented default; the README's table of them has every limit and the same defaults.
awk '/^typedef struct wss_options/ { on = 1; next } /^} wss_options/ { exit } on {
    if (match($0, /^    [a-z].*;/)) {
        name = substr($0, 1, RLENGTH)
        sub(/\/\*.*/, "", name)
        if (name ~ /\(\*/) { sub(/^[^(]*\(\*/, "", name); sub(/\).*/, "", name) }
        else { sub(/ *; *$/, "", name); sub(/.*[ *]/, "", name) }
        names[++count] = name
    }
    text[name] = text[name] " " $0
} END {
    for (i = 1; i <= count; i++) {
        line = text[names[i]]
        value = ""
        if (match(line, /default [^:;,*]*/)) value = substr(line, RSTART + 8, RLENGTH - 8)
        sub(/ +$/, "", value)
        print names[i] "|" value
    }
}' $header > $out/options
[ "$(wc -l < $out/options)" -gt 10 ] || complain "no options found in $header"
grep '|$' $out/options | grep -v '_context|' | while IFS='|' read -r name value; do echo "$name"; done > $out/undefaulted
[ -s $out/undefaulted ] && complain "options without a default in their comment: $(tr '\n' ' ' < $out/undefaulted)"
sed -n 's/^| `\([a-z_]*\)` | \([^|]*[^| ]\) *|.*/\1|\2/p' README.md > $out/options_readme
while IFS='|' read -r name value; do
    grep -q "^$name|" $out/options || complain "README.md: there is no option $name"
    grep -q "^$name|$value\$" $out/options || complain "README.md: $name is $value there, in $header $(grep "^$name|" $out/options)"
done < $out/options_readme
for name in $(grep -oE '^(max_[a-z_]*|[a-z]*_ms|memory_budget)' $out/options); do
    grep -q "^$name|" $out/options_readme || complain "README.md: the table of limits lacks $name"
done
for name in $(cat $header $documents | grep -oE '\boptions\.[a-z_]+' | sort -u | sed 's/options\.//'); do
    grep -q "^$name|" $out/options || complain "options.$name is named, but there is no such option"
done

# 7. One version everywhere.
version=$(sed -n 's/^#define WSS_VERSION "\(.*\)"/\1/p' $header)
number=$(echo "$version" | awk -F. '{ print $1 * 10000 + $2 * 100 + $3 }')
head -n 1 $header | grep -qF " v$version " || complain "line 1 of $header does not name version $version"
grep -q "^#define WSS_VERSION_NUMBER $number\b" $header || complain "WSS_VERSION_NUMBER is not $number"
[ "$(grep -m 1 '^## ' CHANGELOG.md | cut -d ' ' -f 2)" = "$version" ] || complain "CHANGELOG.md does not begin with $version"

# 8. Every private name in a comment is in the code. A name that ends in _ or * stands for several.
grep -oE '\b(wss|WSS)__[A-Za-z0-9_]+' $header | sort -u | while read -r name; do
    case $name in
    *_) grep -q "\b$name" $out/code ;;
    *) grep -qw "$name" $out/code ;;
    esac || echo "$name"
done > $out/private_missing
[ -s $out/private_missing ] && complain "named in a comment, but not in the code: $(tr '\n' ' ' < $out/private_missing)"

# 9. Every target that the README names is one.
for target in $(grep -oE '\bmake [a-z]+' README.md | sort -u | cut -d ' ' -f 2); do
    grep -q "^$target:" Makefile || complain "README.md: there is no make $target"
done

# 10. The README's table of speed has the figures that were measured last, without their intervals.
awk '
    function cell(text) { sub(/ \(.*/, "", text); return text }
    FNR == NR {
        n = split($0, cells, / *\| */)
        if (n > 3 && !(cells[2] in seen)) for (i = 3; i < n; i++) want[cells[2], i] = cell(cells[i])
        seen[cells[2]] = 1
        next
    }
    /<!-- speed: begin -->/ { on = 1; next }
    /<!-- speed: end -->/ { on = 0 }
    on {
        rows++
        n = split($0, cells, / *\| */)
        for (i = 3; i < n; i++)
            if (cells[i] != want[cells[2], i]) print cells[2] ": " cells[i] " there, " want[cells[2], i] " in tests/bench/speed.md"
    }
    END { if (rows < 5) print "it has no rows" }' tests/bench/speed.md README.md > $out/speed
while read -r line; do complain "README.md, table of speed: $line"; done < $out/speed

[ $bad -eq 0 ]
