#!/bin/sh
# two_units.sh CC FLAG...: two files that include the header, one with the implementation, link and run.
cc=$1
shift
here=$(dirname "$0")
out=build/compile/two_units-$cc
"$cc" "$@" "$here/two_units_a.c" "$here/two_units_b.c" -o "$out" && "$out"
