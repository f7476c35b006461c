# layers.awk: awk -f tests/lint/code.awk -f tests/lint/layers.awk wsserver.h wsserver.h
#
# Reads the file twice. First it notes which room defines each private name; then it checks, in code and not in comments,
# that every room uses only names of its own and of the rooms on its banner's "knows" line. Also: a room knows only rooms
# above it; functions and enum constants carry the name of their room, constants also one of the banner's "enums"; no function is declared ahead of its definition; system
# calls and the allocator are only reached through their macros; no goto. POSIX awk.

function complain(text) {
    if ((room " " text) in said) return
    said[room " " text] = 1
    printf "%s:%d: [%s] %s\n", FILENAME, FNR, room, text
    bad++
}

# Sets room at a banner and collects its "knows" line, which may go on over several lines.
function read_banner(line,    label, words, count, i) {
    if (match(line, /^\/\* ---- \[[a-z0-9]+\]/)) {
        room = substr(line, 10, RLENGTH - 10)
        in_banner = 1
        collecting = ""
        if (reading == 1 && impl) order[room] = ++rooms
    }
    if (!in_banner) return
    if (match(line, /^   [a-z]+  +/)) {
        label = substr(line, 4)
        sub(/ .*/, "", label)
        collecting = label == "knows" || label == "enums" ? label : ""
        sub(/^   [a-z]+/, "", line)
    }
    if (collecting && reading == 1) {
        gsub(/\*\//, "", line)
        count = split(line, words, /[ ,]+/)
        for (i = 1; i <= count; i++) {
            if (words[i] == "") continue
            if (collecting == "enums") prefixes[room " " words[i]] = 1
            else known[room " " words[i]] = FNR
        }
        if (collecting == "knows") has_knows[room] = 1
    }
    if (index($0, "*/")) in_banner = 0
}

function is_named_for(room, name,    prefix) {
    if (index(name, "WSS__" toupper(room) "_") == 1) return 1
    prefix = name
    sub(/^WSS__/, "", prefix)
    sub(/_.*/, "", prefix)
    return (room " " prefix) in prefixes
}

function knows(one, other) {
    return one == other || (one " " other) in known || (one " all") in known || (one " everything") in known
}

# A statement at the left margin, from its first line to the first { or ; that is not inside it.
function read_statement(code,    name) {
    if (statement == "" && code !~ /^(static|WSSERVER_API|typedef|struct|enum)/) return
    statement = statement " " code
    if (code !~ /[{;]/) return
    if (statement ~ /^ *struct wss__[a-z0-9_]+ *\{|typedef struct wss__[a-z0-9_]+ *\{/) {
        match(statement, /wss__[a-z0-9_]+/)
        owner[substr(statement, RSTART, RLENGTH)] = room
    } else if (match(statement, /wss_[a-z0-9_]+ *\(/) && statement !~ /^ *typedef/ && statement !~ /=/) {
        name = substr(statement, RSTART, RLENGTH)
        sub(/ *\($/, "", name)
        owner[name] = room
        if (statement !~ /\{/) ahead[FNR] = name
        else if (name ~ /^wss__/ && index(name, "wss__" room "_") != 1) misnamed[FNR] = name
    }
    statement = ""
}

function note_names(code,    rest, name) {
    rest = code
    while (match(rest, /[A-Za-z_][A-Za-z0-9_]*/)) {
        name = substr(rest, RSTART, RLENGTH)
        rest = substr(rest, RSTART + RLENGTH)
        if (name ~ /^(wss__|WSS__)/ && !(name in first)) first[name] = room
        if (name ~ /^WSS__.*_$/ && substr(rest, 1, 2) == "##") pasted[name] = room
        if (code ~ ("^# *define " name "([^A-Za-z0-9_]|$)")) macro[name] = 1
    }
}

# Constants that a macro makes by pasting are their maker's, wherever their names stand first.
function home_of(name,    prefix) {
    for (prefix in pasted) if (index(name, prefix) == 1) return pasted[prefix]
    return name in owner ? owner[name] : name in first ? first[name] : room
}

function check_names(code,    rest, name, home, before) {
    rest = code
    before = ""
    while (match(rest, /[A-Za-z_][A-Za-z0-9_]*/)) {
        name = substr(rest, RSTART, RLENGTH)
        before = substr(rest, 1, RSTART - 1)
        rest = substr(rest, RSTART + RLENGTH)
        home = home_of(name)
        if (!knows(room, home)) complain("uses " name " of [" home "], which it does not know")
        if (name ~ /^WSS__/ && !(name in macro) && home == room && !is_named_for(room, name))
            complain("defines " name ", which does not begin with WSS__" toupper(room) "_")
        if (name == "goto") complain("uses goto")
        if (code ~ /^#/ || rest !~ /^ *\(/ || before ~ /(\.|->) *$/) continue
        if (name in systemic) complain("calls " name " directly, not through WSSERVER_SYSTEM")
        if (name in allocating) complain("calls " name " directly, not through [mem] or WSSERVER_REALLOC")
    }
}

BEGIN {
    count = split("socket bind listen accept accept4 connect recv recvmsg recvfrom send sendmsg sendto read write readv " \
        "writev close shutdown epoll_create1 epoll_ctl epoll_wait epoll_pwait2 eventfd timerfd_create timerfd_settime " \
        "fcntl ioctl getsockopt setsockopt getsockname getpeername getrandom unlink chmod fchmod open openat stat " \
        "fstat poll select getrlimit clock_gettime", list, " ")
    for (i = 1; i <= count; i++) systemic[list[i]] = 1
    count = split("malloc calloc realloc free strdup strndup asprintf vasprintf", list, " ")
    for (i = 1; i <= count; i++) allocating[list[i]] = 1
}

FNR == 1 {
    reading++
    impl = 0
    room = ""
    in_comment = 0
    quote = ""
    statement = ""
}

{
    code = code_of($0)
    if (code ~ /^#define WSSERVER_IMPLEMENTATION_INCLUDED/) impl = 1
    if (!impl) next
    read_banner($0)
    if (room == "") next
    if (reading == 1) {
        note_names(code)
        if (code !~ /^#/) read_statement(code)
    } else {
        check_names(code)
        if (FNR in ahead) complain("declares " ahead[FNR] " ahead of its definition")
        if (FNR in misnamed) complain("defines " misnamed[FNR] ", which does not begin with wss__" room "_")
    }
}

END {
    for (pair in known) {
        split(pair, part, " ")
        room = part[1]
        FNR = known[pair]
        if (part[2] ~ /^(nothing|all|everything)$/) continue
        if (!(part[2] in order)) complain("knows " part[2] ", which is no room above it")
        else if (order[part[2]] >= order[room]) complain("knows " part[2] ", which does not stand above it")
    }
    for (room in order) if (!(room in has_knows) && room != "tail") { FNR = 0; complain("has no knows line") }
    if (rooms == 0) { room = "-"; complain("no rooms found") }
    printf "layers: %d rooms, %d complaints\n", rooms, bad
    exit bad != 0
}
