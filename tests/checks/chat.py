"""The chat program under hostile input, and its keyboard. Usage: chat.py CHAT [NAME ...]"""
import json, os, re, socket, struct, subprocess, sys, threading, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import pressure
from pressure import HEAD, check, connect, frame, read_exactly


class Chat:
    def __init__(self):
        self.process = subprocess.Popen([sys.argv[1], "0"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        self.port = int(re.search(rb":(\d+)/", self.process.stderr.readline()).group(1))
        self.lines = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stderr:
            self.lines.append(line.decode("utf-8", "replace").strip())

    def end(self):
        self.process.terminate()
        return self.process.wait(30)


def receive(s):
    opcode, size = read_exactly(s, 2)
    if size == 126:
        size = struct.unpack(">H", read_exactly(s, 2))[0]
    elif size == 127:
        size = struct.unpack(">Q", read_exactly(s, 8))[0]
    return opcode & 15, read_exactly(s, size)


def say(s, value, opcode=1):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    s.sendall(frame(opcode, len(text), payload=text))


def echoes(s):
    args = {"text": "still here", "n": [1, 2.5, {"deep": None}], "\u00fc": "\U0001f600"}
    say(s, {"__MESSAGE__": "message", **args})
    opcode, text = receive(s)
    return opcode == 1 and json.loads(text) == {"__MESSAGE__": "message", **args}


def hostile():
    chat = Chat()
    other = connect(chat.port)
    receive(other)
    cases = {
        "root is a number": b"42", "root is a string": b'"x"', "root is null": b"null", "root is an array": b"[1,2]",
        "type is a number": b'{"__MESSAGE__":1}', "type is an object": b'{"__MESSAGE__":{"a":1}}', "type is null": b'{"__MESSAGE__":null}',
        "1,200 brackets": b"[" * 1200, "1,000,000 brackets": b"[" * 1000000, "200,000 nested objects": b'{"a":' * 200000,
        "nested arguments": b'{"__MESSAGE__":"message","a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        "truncated": b'{"__MESSAGE__":"message","a":', "trailing garbage": b'{"__MESSAGE__":"message"} x',
        "two values": b'{"__MESSAGE__":"message"}{"__MESSAGE__":"message"}', "unknown type": b'{"__MESSAGE__":"nobody"}',
        "no type": b'{"a":1}', "empty": b"", "only space": b"   ", "NUL in the type": b'{"__MESSAGE__":"message\\u0000"}',
        "single quotes": b"{'__MESSAGE__':'message'}", "byte order mark": b'\xef\xbb\xbf{"__MESSAGE__":"message"}',
        "huge number": b'{"__MESSAGE__":"nobody","n":1e999999999}', "control character": b'{"__MESSAGE__":"message","a":"\n"}',
    }
    s = connect(chat.port)
    receive(s)
    for name, text in cases.items():
        say(s, text)
        if not (echoes(s) and echoes(other)):
            check("hostile JSON", False, name)
    check("hostile JSON", echoes(s) and echoes(other), "%d cases, connection and bystander usable after each" % len(cases))
    wire = {
        "not masked": b"\x81\x01x", "reserved bit": b"\xc1\x80\0\0\0\0", "opcode 3": b"\x83\x80\0\0\0\0",
        "long control frame": b"\x89\xfe\0\x7e\0\0\0\0", "fragmented ping": b"\x09\x80\0\0\0\0", "length not minimal": b"\x81\xfe\0\x05\0\0\0\0",
        "length with its top bit set": b"\x82\xff" + b"\xff" * 8 + b"\0\0\0\0", "lone continuation": b"\x80\x80\0\0\0\0",
        "bad UTF-8": frame(1, 2, payload=b"\xc0\x80"), "close with one byte": frame(8, 1), "close code 1005": frame(8, 2, payload=b"\x03\xed"),
    }
    codes = {}
    for name, bytes_ in wire.items():
        s = connect(chat.port)
        receive(s)
        s.sendall(bytes_ + frame(1, 30))
        opcode, text = receive(s)
        codes[name] = struct.unpack(">H", text[:2])[0] if opcode == 8 else None
        try:
            tail = s.recv(100)
        except ConnectionError:
            tail = b""
        if tail:
            codes[name] = "more after Close"
        s.close()
    expected = {name: 1007 if "UTF-8" in name else 1002 for name in wire}
    check("hostile frames", codes == expected and echoes(other), "%d cases closed with 1002 or 1007" % len(wire) if codes == expected else str(codes))
    garbage = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\0" * 9000, b"GET " + b"a" * 9000, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100 + b"\r\n",
               os.urandom(4096), b"\r\n\r\n", b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n", HEAD[:-2] + b"Content-Length: 5\r\n\r\nhello", HEAD.replace(b"13", b"8")]
    answers = []
    for text in garbage:
        s = connect(chat.port, upgrade=False)
        s.sendall(text)
        try:
            answers.append(s.recv(12)[9:12].decode())
        except ConnectionError:
            answers.append("reset")
        s.close()
    check("garbage for a request", all(a[:1] in "45" for a in answers if a != "reset") and "reset" not in answers[:1] and echoes(other), " ".join(answers))
    s = connect(chat.port)
    receive(s)
    s.shutdown(socket.SHUT_WR)
    s.settimeout(5)
    check("half-closed", s.recv(10) == b"" and echoes(other), "ended")
    check("status", chat.end() == 0, "0")


def keyboard():
    chat = Chat()
    readers = [connect(chat.port) for _ in range(5)]
    got = [[] for _ in readers]
    greedy = connect(chat.port, small=True)
    total = 20000

    def read(i):
        receive(readers[i])
        while len(got[i]) < total + 4:
            got[i].append(json.loads(receive(readers[i])[1])["input"])
    threads = [threading.Thread(target=read, args=(i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    lines = [("line %d " % i + "x" * (i % 500)).encode() for i in range(total)]
    special = [b"long " + b"y" * 3000000, b"bytes \xff\xc3\xa9\xe2\x82 end", b"nul \0 quote \" backslash \\", b""]
    chat.process.stdin.write(b"\n".join(lines + special) + b"\n")
    chat.process.stdin.close()
    for thread in threads:
        thread.join(60)
    wanted = [line.decode() for line in lines] + ["long " + "y" * 3000000, "bytes \ufffd\u00e9\ufffd end", "nul \0 quote \" backslash \\", ""]
    end = time.monotonic() + 20
    while "Connection closed." not in chat.lines and time.monotonic() < end:
        time.sleep(0.05)
    removed = chat.lines.count("Connection closed.")
    check("keyboard", all(g == wanted for g in got) and removed == 1,
          "%d lines to 5 readers each, in order: %s; the one that never reads was removed: %d" %
          (len(wanted), [g == wanted or (len(g), next((i for i, (a, b) in enumerate(zip(g, wanted)) if a != b), None)) for g in got], removed))
    check("end of input leaves it serving", echoes(readers[0]), "echo works")
    check("status", chat.end() == 0, "0")
    greedy.close()


for function in (hostile, keyboard):
    if len(sys.argv) < 3 or function.__name__ in sys.argv[2:]:
        function()
sys.exit(1 if pressure.failures else 0)
