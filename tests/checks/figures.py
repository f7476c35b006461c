"""Counts that noise cannot touch: system calls per message, bytes per idle connection, what resets leave behind.
Usage: figures.py SERVER CHAT [NAME ...]"""
import os, re, select, socket, struct, subprocess, sys, threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import pressure
from pressure import HEAD, Server, check, connect, frame


def calls(messages):
    """System calls of a server that echoes so many 20-byte messages on each of 64 connections, one in flight each."""
    server = Server("port=0")
    clients = [connect(server.port) for _ in range(64)]
    trace = subprocess.Popen(["strace", "-c", "-f", "-p", str(server.process.pid)], stderr=subprocess.PIPE, text=True)
    for line in trace.stderr:
        if " attached" in line:
            break
    out = frame(1, 20)
    left = {s.fileno(): messages for s in clients}
    by_number = {s.fileno(): s for s in clients}
    poll = select.epoll()
    for s in clients:
        poll.register(s, select.EPOLLIN)
        s.sendall(out)
    while left:
        for number, _ in poll.poll(10):
            s = by_number[number]
            got = s.recv(22)
            while len(got) < 22:
                got += s.recv(22 - len(got))
            left[number] -= 1
            if left[number]:
                s.sendall(out)
            else:
                del left[number]
                poll.unregister(number)
    trace.send_signal(2)
    text = trace.communicate()[1]
    server.end()
    counts = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 5 and re.match(r"^[\d.]+$", words[0]) and words[3].isdigit():
            counts[words[-1]] = int(words[3])
    return counts


def system_calls():
    few, many = calls(200), calls(1200)
    extra = 64 * 1000
    per = {name: (many.get(name, 0) - few.get(name, 0)) / extra for name in set(few) | set(many)}
    received = per.get("recvfrom", 0) + per.get("recvmsg", 0) + per.get("read", 0)
    sent = per.get("sendto", 0) + per.get("sendmsg", 0) + per.get("write", 0)
    check("system calls", received <= 1.05 and sent <= 1.05 and per.get("epoll_ctl", 0) == 0,
          "recv %.3f, send %.3f, epoll_ctl %.3f, epoll_wait %.3f per message" %
          (received, sent, per.get("epoll_ctl", 0), per.get("epoll_wait", 0)))


def idle():
    server = Server("port=0", "connections=6000")
    none, rss_none = server.stats(), server.rss()
    keep = [connect(server.port) for _ in range(100)]
    before, rss = server.stats(), server.rss()
    keep += [connect(server.port) for _ in range(5000)]
    after, grown = server.stats(), server.rss() - rss
    each = (after["memory"] - before["memory"]) / 5000
    whole = (after["memory"] - none["memory"]) / 5100
    check("idle connection", each <= 300, "%.1f bytes of library memory, %.1f bytes of resident memory each" % (each, grown / 5000))
    check("idle connection, counted from none", whole <= 300, "%.1f bytes of library memory, %.1f bytes of resident memory each" %
          (whole, (grown + rss - rss_none) / 5100))
    for s in keep:
        s.close()
    server.end()


def resets():
    chat = subprocess.Popen([sys.argv[2], "0"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = chat.stderr.readline()
    port = int(re.search(r":(\d+)/", line).group(1))
    threading.Thread(target=lambda: [None for _ in chat.stderr], daemon=True).start()

    def settle():
        """A connection that has got its answer through the queue, and so after all that was reset before it."""
        last = connect(port)
        last.sendall(frame(1, 25, payload=b'{"__MESSAGE__":"message"}'))
        got = b""
        while got.count(b"__MESSAGE__") < 2:
            got += last.recv(1000)
        return last

    def look():
        last = settle()
        # Not statm: the kernel keeps that by processor and it is off by up to 256 KiB.
        with open("/proc/%d/smaps_rollup" % chat.pid) as file:
            resident = int(re.search(r"Rss: *(\d+)", file.read()).group(1))
        descriptors = len(os.listdir("/proc/%d/fd" % chat.pid))
        last.close()
        return descriptors, resident
    start = look()
    warm = None
    for i in range(10000):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.connect(("127.0.0.1", port))
        if i % 5 == 1:
            s.sendall(HEAD[:40])
        elif i % 5 == 2:
            s.sendall(HEAD)
        elif i % 5 >= 3:
            s.sendall(HEAD + frame(1, 40, payload=b'{"__MESSAGE__":"message","a":"0123456789'[:40]))
            if i % 5 == 4:
                s.recv(10)
        s.close()
        if i % 50 == 0:
            settle().close()  # so that what waits, and the memory it needs, does not depend on how busy the machine is
        if i == 2000:
            warm = look()
    end = look()
    check("10,000 resets", end[0] == start[0] and abs(end[1] - warm[1]) <= 64,
          "%d descriptors before, %d after; %d KiB after 2,000, %d KiB after 10,000" % (start[0], end[0], warm[1], end[1]))
    chat.terminate()
    chat.wait(10)


for function in (system_calls, idle, resets):
    if len(sys.argv) < 4 or function.__name__ in sys.argv[3:]:
        function()
sys.exit(1 if pressure.failures else 0)
