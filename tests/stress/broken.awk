# Makes a copy of wsserver.h in which a wake-up can be lost, to show that the tests notice. how=late: the thread that drains a
# queue makes the descriptor unreadable after it has taken the work, not before. how=outside: whether a post must wake the
# consumer is decided before the mutex is taken, not under it. Exit status 1 where there was nothing to change.
how == "late" && /^static int wss__server_run_some\(/ { inside = 1 }
how == "late" && inside && /wss__queue_clear\(/ { held = $0; next }
how == "late" && inside && /wss__queue_take_some\(/ { print; print held; inside = 0; changed++; next }

how == "outside" && /^static int wss__queue_put\(/ { inside = 1 }
how == "outside" && inside && /pthread_mutex_lock\(/ {
    print "    int empty = !__atomic_load_n(&inboxes[0]->waiting.last, __ATOMIC_RELAXED);"
    print
    next
}
how == "outside" && inside && /->wake = .*!inboxes\[i\]->waiting.last;/ {
    sub(/!inboxes\[i\]->waiting.last/, "empty")
    inside = 0
    changed++
}
{ print }
END { if (changed != 1) exit 1 }
