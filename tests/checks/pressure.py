"""Real-time checks of limits and pressure against build/echo_server. Usage: pressure.py SERVER [NAME ...]"""
import os, resource, select, signal, socket, struct, subprocess, sys, threading, time

HEAD = (b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
failures = []


def check(name, true, text):
    print("%-6s %s: %s" % ("ok" if true else "FAILED", name, text), flush=True)
    if not true:
        failures.append(name)


class Server:
    def __init__(self, *options, limit=None):
        def lower():
            if limit:
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        self.process = subprocess.Popen([sys.argv[1], *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        preexec_fn=lower, text=True, bufsize=1)
        self.lines = []
        self.changed = threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()
        self.port = int(self.wait_for("port ").split()[1])

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.strip())
                self.changed.notify_all()

    def wait_for(self, start, seconds=60, after=0):
        end = time.monotonic() + seconds
        with self.changed:
            while True:
                found = [line for line in self.lines[after:] if line.startswith(start)]
                if found:
                    return found[-1]
                if time.monotonic() > end or not self.changed.wait(end - time.monotonic()):
                    return ""

    def stats(self):
        after = len(self.lines)
        self.process.stdin.write("stats\n")
        words = self.wait_for("stats ", after=after).split()[1:]
        return dict(zip(words[::2], map(int, words[1::2])))

    def count(self, start):
        with self.changed:
            return len([line for line in self.lines if line.startswith(start)])

    def rss(self):
        with open("/proc/%d/statm" % self.process.pid) as file:
            return int(file.read().split()[1]) * 4096

    def cpu(self):
        with open("/proc/%d/stat" % self.process.pid) as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        self.process.stdin.close()
        self.process.wait(30)
        return self.process.returncode


def connect(port, upgrade=True, small=False):
    s = socket.socket()
    if small:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(20)
    s.connect(("127.0.0.1", port))
    if upgrade:
        s.sendall(HEAD)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            part = s.recv(1)
            if not part:
                raise EOFError(answer)
            answer += part
        if b" 101 " not in answer:
            raise EOFError(answer)
    return s


def frame(opcode, size, final=True, payload=None):
    head = bytes([(128 if final else 0) | opcode])
    if size < 126:
        head += bytes([128 | size])
    elif size < 65536:
        head += bytes([254]) + struct.pack(">H", size)
    else:
        head += bytes([255]) + struct.pack(">Q", size)
    return head + b"\0\0\0\0" + (b"x" * size if payload is None else payload)


def read_exactly(s, size):
    data = b""
    while len(data) < size:
        part = s.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def round_trip(s):
    start = time.monotonic()
    s.sendall(frame(1, 20))
    read_exactly(s, 22)
    return time.monotonic() - start


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def never_reads():
    server = Server("port=0", "stall=3000")
    other = connect(server.port)
    for _ in range(100):
        round_trip(other)
    before = server.rss()
    greedy = connect(server.port, small=True)
    greedy.setblocking(False)
    block, sent, peak, trips = frame(2, 60000) * 16, 0, 0, []
    deadline = time.monotonic() + 20
    while sent < 1 << 30 and time.monotonic() < deadline and not server.count("end "):
        try:
            sent += greedy.send(block)
        except BlockingIOError:
            pass
        except OSError:
            break
        trips.append(round_trip(other))
        peak = max(peak, server.rss())
    said = server.wait_for("end ", 10)
    grown = (peak - before) / 1048576
    p99 = percentile(trips, 0.99) * 1000
    check("never reads", grown < 4 and p99 < 50 and said.endswith("slow reader"),
          "memory +%.2f MiB, p99 of another %.2f ms over %d, took %d KiB, %s" % (grown, p99, len(trips), sent >> 10, said))
    server.end()


def policies():
    for policy, name in ((0, "refuse"), (1, "close")):
        # more than the kernel still takes when it is asked at the deadline: it tells of room only from a third on
        server = Server("port=0", "policy=%d" % policy, "queued=1048576", "stall=2000")
        slow, good = connect(server.port, small=True), connect(server.port)
        line = "y" * 8000 + "\n"
        got = [0]

        def drain():
            try:
                while True:
                    got[0] += len(good.recv(1 << 20))
            except OSError:
                pass
        thread = threading.Thread(target=drain, daemon=True)
        thread.start()
        before, peak = server.rss(), 0
        for i in range(4000):
            server.process.stdin.write(line)
            if i % 100 == 0:
                peak = max(peak, server.rss())
                time.sleep(0.005)
        said = server.wait_for("end ", 10)
        stats = server.stats()
        grown = (peak - before) / 1048576
        check("policy " + name, grown < 4 and said.endswith("slow reader") and stats["full"] > 0 and stats["connections"] == 1,
              "memory +%.2f MiB, refused %d, dropped %d, %s, another got %d MiB" %
              (grown, stats["full"], stats["dropped"], said, got[0] >> 20))
        slow.close()
        good.close()
        server.end()


def dribbles():
    server = Server("port=0", "handshake=4000")
    start = time.monotonic()
    slow = [connect(server.port, upgrade=False) for _ in range(1000)]
    opened = time.monotonic()
    closed, trips, at = {}, [], 0
    poll = select.poll()
    by_number = {s.fileno(): i for i, s in enumerate(slow)}
    for s in slow:
        poll.register(s, select.POLLIN)
    honest = connect(server.port)
    while len(closed) < 1000 and time.monotonic() < opened + 8:
        trips.append(round_trip(honest))
        if time.monotonic() > opened + at:
            for i, s in enumerate(slow):
                if i not in closed:
                    try:
                        s.send(HEAD[at:at + 1])
                    except OSError:
                        pass
            at += 1
        for number, _ in poll.poll(5):
            i = by_number[number]
            try:
                data = slow[i].recv(4096)
            except OSError:
                data = b""
            closed.setdefault(i, time.monotonic())
            poll.unregister(number)
    last = max(closed.values()) - start if closed else 0
    check("1,000 dribbled handshakes", len(closed) == 1000 and 4 <= last < 4.3 + opened - start,
          "%d closed, the last after %.2f s (deadline 4 s), honest p99 %.2f ms" %
          (len(closed), last, percentile(trips, 0.99) * 1000))
    server.end()


def declared():
    server = Server("port=0", "message=3000")
    clients = [connect(server.port) for _ in range(1000)]
    before = server.rss()
    for s in clients:
        s.sendall(frame(2, 1 << 20, payload=b"x" * 10))
    time.sleep(1)
    grown = (server.rss() - before) / 1048576
    end = time.monotonic() + 10
    while server.count("end 1008 message timeout") < 1000 and time.monotonic() < end:
        time.sleep(0.05)
    check("1,000 declared messages", grown < 20 and server.count("end 1008 message timeout") == 1000,
          "memory +%.2f MiB, %d closed by the message deadline" % (grown, server.count("end 1008 message timeout")))
    server.end()


def budget():
    base = Server("port=0")
    base_rss = base.rss()
    base.end()
    server = Server("port=0", "budget=%d" % (64 << 20), "message=60000", "stall=60000", "handshake=60000")
    honest = [connect(server.port) for _ in range(10)]
    hostile, peak, trips, opened, turned = [], 0, [], 0, {}
    for i in range(2000):
        s = None
        try:
            s = connect(server.port, upgrade=i % 4 != 3, small=i % 4 == 1)
            s.setblocking(False)
            opened += 1
            hostile.append(s)
            if i % 4 == 0:
                s.send(frame(2, 1 << 20, payload=b"x" * 900000))
            elif i % 4 == 1:
                s.send(frame(2, 30000) * 100)
            elif i % 4 == 2:
                s.send(frame(2, 1 << 20, final=False, payload=b"y" * 500000))
            else:
                s.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"z" * 4000)
        except EOFError as error:
            word = str(error)[11:14] or "closed"
            turned[word] = turned.get(word, 0) + 1
        except OSError:
            pass
        if i % 20 == 0:
            for s in honest:
                trips.append(round_trip(s))
            for s in hostile[::5]:
                try:
                    s.send(b"y" * 100000)
                except OSError:
                    pass
            peak = max(peak, server.rss())
    peak = max(peak, server.rss())
    stats = server.stats()
    check("budget of 64 MiB", peak < (64 << 20) + base_rss and len(trips) == 1000,
          "memory %.1f MiB (base %.1f), accounted peak %.1f MiB, %d hostile let in, %d refused, honest round trips %d of 1000, p99 %.2f ms" %
          (peak / 1048576, base_rss / 1048576, stats["peak"] / 1048576, opened, stats["refused"], len(trips),
           percentile(trips, 0.99) * 1000) + ", turned away: %s" % (turned or "none"))
    server.end()


def descriptors():
    server = Server("port=0", limit=64)
    clients = []
    for _ in range(500):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(("127.0.0.1", server.port))
        clients.append(s)
    time.sleep(1)
    cpu, start = server.cpu(), time.monotonic()
    time.sleep(3)
    used = (server.cpu() - cpu) / (time.monotonic() - start) * 100
    for s in clients:
        s.close()
    started = time.monotonic()
    again = connect(server.port)
    round_trip(again)
    check("64 descriptors, 500 clients", used < 2, "CPU %.2f %% while starved, %d failed accepts, accepts again after %.2f s" %
          (used, server.stats()["failures"], time.monotonic() - started))
    server.end()


def stop():
    server = Server("port=0", "stop=2000")
    clients = [connect(server.port, small=i < 100) for i in range(1000)]
    for s in clients[:100]:
        s.setblocking(False)
        for _ in range(100):
            try:
                s.send(frame(2, 60000))
            except OSError:
                break

    def answer(s):
        try:
            while s.recv(4096):
                s.sendall(frame(8, 2, payload=struct.pack(">H", 1001)))
                return
        except OSError:
            pass
    threads = [threading.Thread(target=answer, args=(s,), daemon=True) for s in clients[100:]]
    for thread in threads:
        thread.start()
    start = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    end = time.monotonic() + 10
    while server.count("end ") < 1000 and time.monotonic() < end:
        time.sleep(0.01)
    took = time.monotonic() - start
    status = server.end()
    check("stop with 1,000 clients", took < 2.5 and server.count("end ") == 1000 and status == 0,
          "%.2f s (deadline 2 s), %d disconnects, status %d" % (took, server.count("end "), status))


def vanished():
    server = Server("port=0", "ping=1000", "pong=1000")
    silent = connect(server.port)
    start = time.monotonic()
    said = server.wait_for("end ", 10)
    took = time.monotonic() - start
    check("a peer that vanishes", said == "end 1006 pong timeout" and 1.9 < took < 2.5, "%s after %.2f s (1 s + 1 s)" % (said, took))
    silent.close()
    server.end()


def main():
    for function in (never_reads, policies, dribbles, declared, budget, descriptors, stop, vanished):
        if len(sys.argv) < 3 or function.__name__ in sys.argv[2:]:
            function()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
