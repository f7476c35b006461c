# declare.awk: what tests see of wsserver.h when it is compiled once for all of them (library.h). It knows no C, only how the
# header is written: definitions begin in the first column, bodies end with a brace there. Lines keep their numbers.
#     awk -f declare.awk wsserver.h              types, macros, and a declaration of each private function and variable
#     awk -v export=1 -f declare.awk wsserver.h  all of it, with nothing private any more
BEGIN { print "#line 1 \"wsserver.h\"" }

/^#if defined\(WSSERVER_IMPLEMENTATION\) && !defined\(WSSERVER_IMPLEMENTATION_INCLUDED\)/ { private = 1 }

!private { print; next }

# The lines of a macro.
macro || /^#/ {
    if (!body || export) print
    else print ""
    macro = /\\$/
    next
}

export {
    sub(/^__attribute__\(\(__always_inline__\)\) /, "") # no longer one that can be
    if (/^(__attribute__\(\(.*\)\) )?static /) sub(/static (inline )?/, "")
    print
    next
}

# What a macro defines is for its own room.
/^WSS__[A-Z0-9_]+_DEFINE\(/ { invoked = 1 }
invoked { print ""; if (/\)$/) invoked = 0; next }

body { print ""; if (/^}/) body = 0; next }

/^WSSERVER_API / || /^(__attribute__\(\(.*\)\) )?static / {
    public = /^WSSERVER_API/
    sub(/static (inline )?/, "extern ")
    head = 1
}

head {
    if (/ = .*;$/) { sub(/ = .*/, ";"); head = 0 }
    else if (/ = \{$/ || / =$/) { sub(/ =.*/, ";"); head = 0; body = 1 }
    else if (/\{$/) { sub(/ \{$/, ";"); head = 0; body = 1 }
    else if (/\{.*\}$/) { sub(/ \{.*/, ";"); head = 0 }
    else if (/;$/) head = 0
    print public ? "" : $0
    next
}

{ print }
