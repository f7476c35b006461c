# size.awk: awk -f tests/lint/code.awk -f tests/lint/size.awk tests/lint/sizes wsserver.h
#
# The ratchet. Counts the lines of code (no comments, no blank lines) of each room of the header and sets them against the
# first file: a room, the fewest lines that it ever had, its ceiling, and, where the ceiling is above the fewest, why. A room
# may not grow past its ceiling, and the ceiling may not stay above what is there: it falls with the code, and rises only with
# a reason beside it. No line is longer than 120 columns, except those named here as "long", by a part of their text. POSIX awk.

function complain(text) {
    printf "%s\n", text
    bad++
}

FILENAME == ARGV[1] {
    if ($1 == "long") {
        sub(/^long +/, "")
        long[$0] = 1
    } else if ($1 != "" && $1 !~ /^#/) {
        fewest[$1] = $2
        ceiling[$1] = $3
        reason[$1] = NF > 3
    }
    next
}

{
    if (match($0, /^\/\* ---- \[[a-z0-9]+\]/)) room = substr($0, 10, RLENGTH - 10)
    else if (!room) room = "top"
    code = code_of($0)
    text = $0
    gsub(/[ \t]/, "", code)
    gsub(/[ \t]/, "", text)
    if (code != "" || text ~ /^"/) {
        if (!(room in lines)) order[++rooms] = room
        lines[room]++
        all++
    }
    if (length($0) > 120) {
        excused = 0
        for (part in long) if (index($0, part)) { excused = 1; used[part] = 1 }
        if (!excused) complain("size: line " FNR " has " length($0) " columns")
    }
}

END {
    text = ""
    for (i = 1; i <= rooms; i++) {
        room = order[i]
        text = text sprintf("%s%s %d", i > 1 ? ", " : "", room, lines[room])
        if (!(room in ceiling)) complain("size: [" room "] has " lines[room] " lines of code and no ceiling")
        else if (lines[room] > ceiling[room])
            complain("size: [" room "] has " lines[room] " lines of code, its ceiling is " ceiling[room] ": make it smaller, or raise it and say why")
        else if (lines[room] < ceiling[room])
            complain("size: [" room "] has " lines[room] " lines of code: its ceiling of " ceiling[room] " falls to that")
        else if (lines[room] < fewest[room])
            complain("size: [" room "] has " lines[room] " lines of code, fewer than ever: write that down")
        else if (ceiling[room] > fewest[room] && !reason[room]) complain("size: the ceiling of [" room "] has risen without a reason")
    }
    for (room in ceiling) if (!(room in lines)) complain("size: there is no room [" room "]")
    for (part in long) if (!(part in used)) complain("size: no long line holds: " part)
    printf "size: %s\n", text
    printf "size: %d lines of code in %d rooms, %d complaints\n", all, rooms, bad
    exit bad != 0
}
