"""The chat and echo programs under hostile input, and the chat's keyboard. Usage: chat.py CHAT ECHO [NAME ...]"""
import json, os, random, selectors, socket, struct, sys, threading

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [here, os.path.join(os.path.dirname(here), "peers")]
import pressure
from pressure import HEAD, check, connect, frame, read_exactly
from serving import Server


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


def typed(rest):
    """A text that would be a typed message, were it not for what is wrong in it."""
    return b'{"__MESSAGE__":"message",' + rest


# None of these is a typed message that the chat knows: it must ignore each, and echo must send each back.
TEXTS = {
    "root is a number": b"42", "root is a string": b'"x"', "root is null": b"null", "root is an array": b"[1,2]", "root is true": b"true",
    "root is an empty array": b"[]", "root is an empty object": b"{}", "array of a message": b'[{"__MESSAGE__":"message"}]',
    "type is a number": b'{"__MESSAGE__":1}', "type is an object": b'{"__MESSAGE__":{"a":1}}', "type is null": b'{"__MESSAGE__":null}',
    "type is an array": b'{"__MESSAGE__":["message"]}', "type is true": b'{"__MESSAGE__":true}', "type is empty": b'{"__MESSAGE__":""}',
    "unknown type": b'{"__MESSAGE__":"nobody"}', "no type": b'{"a":1}', "type inside": b'{"a":{"__MESSAGE__":"message"}}',
    "type of 100,000 bytes": b'{"__MESSAGE__":"' + b"m" * 100000 + b'"}', "type with a capital": b'{"__MESSAGE__":"Message"}',
    "type with a space": b'{"__MESSAGE__":"message "}', "member with a space": b'{"__MESSAGE__ ":"message"}', "member in small letters": b'{"__message__":"message"}',
    "NUL in the type": b'{"__MESSAGE__":"message\\u0000"}', "NUL in the member's name": b'{"__MESSAGE__\\u0000":"message"}', "NUL for a text": b"\0", "NUL after": b'{"__MESSAGE__":"message"}\0',
    "empty": b"", "only space": b"   ", "only line ends": b"\r\n\r\n", "byte order mark": b'\xef\xbb\xbf{"__MESSAGE__":"message"}',
    "no-break space": b'\xc2\xa0{"__MESSAGE__":"message"}', "form feed": b'\f{"__MESSAGE__":"message"}',
    "1,200 brackets": b"[" * 1200, "1,000,000 brackets": b"[" * 1000000, "1,000,000 closing brackets": b"]" * 1000000, "1,000,000 braces": b"{" * 1000000,
    "200,000 nested objects": b'{"a":' * 200000, "200,000 whole nested objects": b'{"a":' * 200000 + b"1" + b"}" * 200000,
    "nested arguments": typed(b'"a":' + b"[" * 5000 + b"]" * 5000 + b"}"), "1,000,000 quotes": b'"' * 1000000, "1,000,000 backslashes": b'"' + b"\\" * 1000000,
    "100,000 commas": typed(b"," * 100000), "truncated": typed(b'"a":'), "truncated in a string": typed(b'"a":"x'), "truncated in an escape": typed(b'"a":"\\u12'),
    "truncated after a comma": typed(b""), "truncated in the type": b'{"__MESSAGE__":"mess', "no end": typed(b'"a":1'),
    "trailing garbage": b'{"__MESSAGE__":"message"} x', "trailing brace": b'{"__MESSAGE__":"message"}}', "two values": b'{"__MESSAGE__":"message"}{"__MESSAGE__":"message"}',
    "single quotes": b"{'__MESSAGE__':'message'}", "no quotes": b"{__MESSAGE__:message}", "trailing comma": typed(b'"a":1,}'), "comma in an array": typed(b'"a":[1,]}'),
    "no colon": typed(b'"a" 1}'), "two colons": typed(b'"a"::1}'), "number for a name": typed(b"1:2}"), "brackets crossed": typed(b'"a":[{]}}'),
    "comment": typed(b'/* */"a":1}'), "line comment": b'{"__MESSAGE__":"message"}//', "huge number": b'{"__MESSAGE__":"nobody","n":1e999999999}',
    "number of 100,000 digits with no end": typed(b'"n":' + b"9" * 100000), "leading zero": typed(b'"n":01}'), "leading plus": typed(b'"n":+1}'), "only a minus": typed(b'"n":-}'),
    "no digits after the point": typed(b'"n":1.}'), "no digits before it": typed(b'"n":.5}'), "no exponent": typed(b'"n":1e}'), "hexadecimal": typed(b'"n":0x10}'),
    "NaN": typed(b'"n":NaN}'), "Infinity": typed(b'"n":-Infinity}'), "True": typed(b'"a":True}'), "nul": typed(b'"a":nul}'), "undefined": typed(b'"a":undefined}'),
    "line end in a string": typed(b'"a":"\n"}'), "tab in a string": typed(b'"a":"\t"}'), "NUL in a string": typed(b'"a":"\0"}'),
    "unknown escape": typed(b'"a":"\\x41"}'), "escape of no hexadecimal digits": typed(b'"a":"\\u12G4"}'),
}

# Broken frames and the code that must answer each; what follows must not be read.
FRAMES = {
    "not masked": (b"\x81\x01x", 1002), "reserved bit": (b"\xc1\x80\0\0\0\0", 1002), "opcode 3": (b"\x83\x80\0\0\0\0", 1002), "opcode 15": (b"\x8f\x80\0\0\0\0", 1002),
    "long control frame": (b"\x89\xfe\0\x7e\0\0\0\0", 1002), "fragmented ping": (b"\x09\x80\0\0\0\0", 1002), "length not minimal": (b"\x81\xfe\0\x05\0\0\0\0", 1002),
    "long length not minimal": (b"\x81\xff" + b"\0" * 6 + b"\xff\xff" + b"\0\0\0\0", 1002), "length with its top bit set": (b"\x82\xff" + b"\xff" * 8 + b"\0\0\0\0", 1002),
    "length of 2^62": (b"\x82\xff\x40" + b"\0" * 11, 1009), "lone continuation": (b"\x80\x80\0\0\0\0", 1002), "text inside a message": (frame(1, 1, False) + frame(1, 1), 1002),
    "beyond the limit in two frames": (frame(2, 1, False) + b"\x80\xff\0\0\0\0\x04\0\0\0\0\0\0\0", 1009),
    "bad UTF-8": (frame(1, 2, payload=b"\xc0\x80"), 1007), "UTF-8 cut at the end": (frame(1, 2, payload=b"\xe2\x82"), 1007),
    "UTF-8 broken between fragments": (frame(1, 1, False, b"\xe2") + frame(0, 1, True, b"x"), 1007), "bad UTF-8 in a reason": (frame(8, 3, payload=b"\x03\xe8\xff"), 1007),
    "close with one byte": (frame(8, 1), 1002), "close code 1005": (frame(8, 2, payload=b"\x03\xed"), 1002), "close code 0": (frame(8, 2, payload=b"\0\0"), 1002),
    "close code 65535": (frame(8, 2, payload=b"\xff\xff"), 1002),
}

REQUESTS = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\0" * 17000, b"GET " + b"a" * 17000, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100 + b"\r\n", b"\r\n\r\n",
    random.Random(1).randbytes(4096), b"PUT / HTTP/1.1\r\nHost: localhost\r\n\r\n", HEAD[:-2] + b"Content-Length: 5\r\n\r\nhello", HEAD.replace(b"13", b"8"),
    HEAD.replace(b"\r\n", b"\n"), HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"), HEAD.replace(b"HTTP/1.1", b"HTTP/9.9"), HEAD.replace(b"GET", b"get"),
    HEAD.replace(b"Host: localhost\r\n", b""), HEAD.replace(b"Host:", b"Host: localhost\r\nHost:"), HEAD.replace(b"Host:", b"Host :"), HEAD.replace(b"Host: ", b"Host: \0"),
    HEAD[:-2] + b" folded: x\r\n\r\n", HEAD[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", HEAD.replace(b"dGhl", b"dGh"),
    HEAD[:-2] + b"Origin: http://elsewhere.example\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


def answers(s):
    """A message that comes back shows that nothing else came before it."""
    args = {"text": "still here", "n": [1, 2.5, {"deep": None}], "\u00fc": "\U0001f600"}
    say(s, {"__MESSAGE__": "message", **args})
    opcode, text = receive(s)
    return opcode == 1 and json.loads(text) == {"__MESSAGE__": "message", **args}


def dribble(s, data):
    """Each byte in a segment of its own; a server that has heard enough may end it before the last."""
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        for i in range(len(data)):
            s.sendall(data[i:i + 1])
    except ConnectionError:
        pass


def enter(port, greeted):
    s = connect(port)
    if greeted:
        receive(s)
    return s


def close_code(port, greeted, send, data):
    with enter(port, greeted) as s:
        send(s, data)
        opcode, text = receive(s)
        try:
            tail = s.recv(100)
        except ConnectionError:
            tail = b""
        return "more after Close" if tail else struct.unpack(">H", text[:2])[0] if opcode == 8 else "opcode %d" % opcode


def status_code(port, data):
    with connect(port, upgrade=False) as s:
        s.sendall(data)
        try:
            return s.recv(12)[9:12].decode()
        except ConnectionError:
            return "reset"


def hostile(program, greeted):
    name = os.path.basename(program)
    server = Server(program)
    other, s = enter(server.port, greeted), enter(server.port, greeted)
    bad = []
    for case, text in TEXTS.items():
        say(s, text)
        back = greeted or receive(s) == (1, text)
        if not (back and answers(s) and answers(other)):
            bad.append(case)
    check(name + ", hostile JSON", not bad, "%d texts, connection and bystander usable after each %s" % (len(TEXTS), bad or ""))
    message = b'{"__MESSAGE__":"message","text":"\xc3\xbc in pieces"}'
    whole = frame(1, len(message), payload=message)
    split = frame(1, 20, False, message[:20]) + frame(9, 2) + frame(0, len(message) - 20, True, message[20:])
    for data, wanted in (whole, [(1, message)]), (split, [(10, b"xx"), (1, message)]):
        dribble(s, data)
        got = [receive(s) for _ in wanted]
        check(name + ", frames byte by byte", got == wanted and answers(other), "%d bytes" % len(data))
    for how, send in ("at once", lambda s, data: s.sendall(data)), ("byte by byte", dribble):
        wrong = {}
        for case, (data, wanted) in FRAMES.items():
            code = close_code(server.port, greeted, send, data + frame(1, 30))
            if code != wanted:
                wrong[case] = code
        check(name + ", hostile frames " + how, not wrong and answers(other), "%d cases closed with the right code %s" % (len(FRAMES), wrong or ""))
    statuses = [status_code(server.port, data) for data in REQUESTS]
    check(name + ", garbage for a request", all(one[:1] in "45" and one for one in statuses) and answers(other), " ".join(statuses))
    s = enter(server.port, greeted)
    s.shutdown(socket.SHUT_WR)
    check(name + ", half-closed", s.recv(10) == b"" and answers(other), "ended")
    check(name + ", status", server.end() == 0, "0")


def hostile_chat():
    hostile(sys.argv[1], True)


def hostile_echo():
    hostile(sys.argv[2], False)


def whole_frames(data, at, texts):
    """Takes the frames that are whole from `at` on; returns where the next one begins."""
    while len(data) - at >= 2:
        short, start = data[at + 1], at + 2
        more = {126: 2, 127: 8}.get(short, 0)
        if len(data) < start + more:
            break
        size = int.from_bytes(data[start:start + more], "big") if more else short
        if len(data) < start + more + size:
            break
        texts.append(bytes(data[start + more:start + more + size]))
        at = start + more + size
    return at


def gather(sockets, count):
    """So many texts from each. One thread that only reads: nobody is slow, however busy the machine."""
    data, at, texts = ({s: kind() for s in sockets} for kind in (bytearray, int, list))
    poll = selectors.DefaultSelector()
    for s in sockets:
        poll.register(s, selectors.EVENT_READ)
    while poll.get_map():
        ready = poll.select(60)
        if not ready:
            break
        for key, _ in ready:
            s = key.fileobj
            try:
                part = s.recv(1 << 20)
            except ConnectionError:
                part = b""
            data[s] += part
            at[s] = whole_frames(data[s], at[s], texts[s])
            if not part or len(texts[s]) >= count:
                poll.unregister(s)
    return [texts[s] for s in sockets]


def keyboard():
    chat = Server(sys.argv[1])
    readers = [connect(chat.port) for _ in range(5)]
    greedy = connect(chat.port, small=True)
    total = 20000
    lines = [("line %d " % i + "x" * (i % 500)).encode() for i in range(total)]
    special = [b"long " + b"y" * 3000000, b"bytes \xff\xc3\xa9\xe2\x82 end", b"nul \0 quote \" backslash \\", b""]

    def write():
        chat.type(b"\n".join(lines + special) + b"\n")
        chat.process.stdin.close()
    writer = threading.Thread(target=write)
    writer.start()
    got = [[json.loads(text).get("input") for text in texts[1:]] for texts in gather(readers, 1 + total + len(special))]
    writer.join(60)
    wanted = [line.decode() for line in lines] + ["long " + "y" * 3000000, "bytes \ufffd\u00e9\ufffd end", "nul \0 quote \" backslash \\", ""]
    chat.wait_for(lambda said: "Connection closed." in said)
    removed = chat.lines.count("Connection closed.")
    exact = all(g == wanted for g in got)
    check("keyboard", exact and removed == 1,
          "%d lines to 5 readers each, in order: %s; the one that never reads was removed: %d" %
          (len(wanted), exact or [len(g) for g in got], removed))
    check("end of input leaves it serving", answers(readers[0]), "echo works")
    check("status", chat.end() == 0, "0")
    greedy.close()


for function in (hostile_chat, hostile_echo, keyboard):
    if len(sys.argv) < 4 or function.__name__ in sys.argv[3:]:
        function()
sys.exit(1 if pressure.failures else 0)
