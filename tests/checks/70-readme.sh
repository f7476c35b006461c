#!/bin/sh
# What the README promises a stranger: in an empty directory, from a fresh clone, word by word.
set -eu
top=$PWD
if ! git -c safe.directory='*' rev-parse HEAD >/dev/null 2>&1; then
    echo "skipped: this is no git repository, or there is no git"
    exit 0
fi
folder=$(mktemp -d)
trap 'test -z "${demo:-}" || kill "$demo" 2>/dev/null; rm -rf "$folder"' EXIT
git -c safe.directory='*' clone -q "$top" "$folder/wsserver" 2>/dev/null
cd "$folder/wsserver"
make -s >"$folder/make.log" 2>&1
make -s demo PORT=0 >"$folder/demo.log" 2>&1 </dev/null &
demo=$!
port=
while test -z "$port"; do
    port=$(sed -n 's|^listening on http://localhost:\([0-9]*\)/.*|\1|p' "$folder/demo.log")
    kill -0 "$demo"
    sleep 0.05
done
curl -s "http://127.0.0.1:$port/" | grep -q "new WebSocket"
echo "ok     make demo serves the page"
kill "$demo" 2>/dev/null || true
demo=
make -s install PREFIX="$folder/usr" >/dev/null
cmp wsserver.h "$folder/usr/include/wsserver.h"
echo "ok     make install"
mkdir "$folder/project"
cd "$folder/project"
cp "$folder/usr/include/wsserver.h" .
awk '/^```c$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' "$folder/wsserver/README.md" >hello.c
grep -q "wss_create" hello.c
build=$(sed -n 's/^ *\(cc .*hello\.c.*\)$/\1/p' "$folder/wsserver/README.md" | head -n 1)
sh -c "$build"
echo "ok     the quick start builds with: $build"

# A signal that comes when the server is gone must not be told to it. The program's main is called; once it has set its
# handler the signal comes, which stops it in good order, and once main has returned it comes again: the system ends it.
cat >again.c <<'END'
#define main program_main
#include PROGRAM
#undef main
static void *send_once(void *unused) {
    struct sigaction set;
    (void)unused;
    do sigaction(SIGNAL, NULL, &set);
    while (set.sa_handler == SIG_DFL || set.sa_handler == SIG_IGN);
    kill(getpid(), SIGNAL);
    return NULL;
}
int main(void) {
    static char name[] = "program", port[] = "0";
    char *arguments[] = {name, port, NULL};
    int (*start)() = program_main;
    pthread_t thread;
    signal(SIGNAL, SIG_DFL);
    alarm(60);
    pthread_create(&thread, NULL, send_once, NULL);
    if (start(2, arguments) != 0) return 2;
    pthread_join(thread, NULL);
    raise(SIGNAL);
    return 3;
}
END
address=$(sh "$folder/wsserver/tests/probe.sh" cc -fsanitize=address)
signals_end() {
    cc -std=gnu11 -g $address -I"$folder/wsserver" -I"$folder/wsserver/examples" -DPROGRAM="\"$1.c\"" -DSIGNAL="$3" again.c -o again -pthread
    status=0
    ASAN_OPTIONS=detect_leaks=0 ./again >again.log 2>&1 </dev/null || status=$?
    test "$status" -eq "$2" && return
    echo "FAILED: $1, $3 after the end of the server: exit status $status"
    tail -n 20 again.log
    exit 1
}
sed 's/options.port = 8080/options.port = 0/' hello.c >hello_anywhere.c
signals_end hello_anywhere 130 SIGINT
for example in echo broadcast chat; do
    signals_end $example 130 SIGINT
    signals_end $example 143 SIGTERM
done
echo "ok     a second Ctrl-C finds no server that is gone"
cat >strict.c <<'END'
#define WSSERVER_IMPLEMENTATION
#include "wsserver.h"
int main(void) {
    wss_options options = {0};
    options.address = "127.0.0.1";
    wss_server *server = wss_create(&options, NULL);
    return !server || wss_destroy(server) != WSS_OK;
}
END
sed 's/= {0}/= {}/' strict.c >strict.cc
flags="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Werror"
gcc -std=c11 $flags -Wstrict-prototypes strict.c -o strict-c -pthread
./strict-c
g++ -std=c++17 $flags strict.cc -o strict-cc -pthread
./strict-cc
echo "ok     strict C and C++ programs build and run"
if test "${CI:-}" = true; then
    cd "$folder/wsserver"
    mkdir -p "$top/build"
    make test >"$top/build/test-readme.log" 2>&1 || { tail -n 20 "$top/build/test-readme.log"; exit 1; }
    cat "$top/build/test-readme.log"
    echo "ok     make test"
fi
