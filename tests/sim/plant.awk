# Puts one fault into a copy of the header: awk -v name=T1 -f plant.awk tests/sim/plants wsserver.h > copy. Its changes come in the
# order of the header. Exit status 1, and a word, where the lines to be changed are not found just once; 2 where there are none.
FNR == NR && /^plant / { mine = $2 == name; side = ""; next }
FNR == NR && mine && /^</ {
    if (side != "<") changes++
    side = "<"
    old[changes, ++olds[changes]] = substr($0, 2)
    next
}
FNR == NR && mine && /^>/ { side = ">"; new[changes, ++news[changes]] = substr($0, 2); next }
FNR == NR { next }
{ text[++lines] = $0 }

function stands_at(change, at,    i) {
    for (i = 1; i <= olds[change]; i++)
        if (text[at + i - 1] != old[change, i]) return 0
    return 1
}

END {
    if (!changes) exit 2
    for (change = 1; change <= changes; change++) {
        found = 0
        for (at = 1; at <= lines; at++)
            if (stands_at(change, at)) { found++; place[change] = at }
        if (found != 1 || (change > 1 && place[change] < place[change - 1] + olds[change - 1])) {
            print "plant " name ": these lines stand in the header " found " times, or in another order: write them anew" > "/dev/stderr"
            for (i = 1; i <= olds[change]; i++) print "    " old[change, i] > "/dev/stderr"
            exit 1
        }
    }
    change = 1
    for (at = 1; at <= lines; at++) {
        if (change <= changes && at == place[change]) {
            for (i = 1; i <= news[change]; i++) print new[change, i]
            at += olds[change] - 1
            change++
        } else print text[at]
    }
}
