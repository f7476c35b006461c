#!/bin/sh
# probe.sh CC FLAG...: prints the flags if a program built with them runs here, else says on stderr that they are left
# out. A sanitizer may be missing as a library, or not start on this kernel.
cc=$1
shift
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
echo 'int main(void) { return 0; }' > "$dir/probe.c"
if $cc "$@" "$dir/probe.c" -o "$dir/probe" 2> /dev/null && "$dir/probe" 2> /dev/null; then
    echo "$*"
else
    echo "note: $cc $1 does not work here: the tests run without it" >&2
fi
