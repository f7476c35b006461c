"""The same byte streams into echo, Node's ws and Python's websockets: do they see the same messages and close codes?
Each must agree with the small reference below, in the dialect that the table of known differences gives it; every
difference between two of them is then explained by a line of that table. Usage: differ.py ECHO FOLDER_OF_WS [STREAMS]"""
import collections, hashlib, json, os, random, socket, struct, subprocess, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import websockets.version
from serving import Server
from websockets.connection import Connection, Side, State
from websockets.frames import Opcode

LIMIT = 64 << 20
HEAD = (b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")

# What the standard leaves open, or where an implementation is laxer than it. The first value is wsserver.h's.
DIFFERENCES = {
    "minimal": ("a length not in its shortest form is an error; the others take it", {"ws": False, "websockets": False}),
    "top_bit": ("a length of 2^63 or more is an error of the protocol; to the others it is a message too big", {"ws": False, "websockets": False}),
    "text_early": ("text is checked as it arrives; the others check the whole message", {"ws": False, "websockets": False}),
    "turn_late": ("whether a fragment has its turn is asked when the head is whole; ws asks after two bytes of it", {"ws": False}),
    "first_alone": ("the first byte of a frame is judged alone; the others wait for the second", {"ws": False, "websockets": False}),
    "one_late": ("a Close of one byte is judged when that has come; by ws at its head", {"ws": False}),
    "head_early": ("a frame is checked at its head; websockets waits for its last byte", {"websockets": False}),
    "close_inside": ("a Close between the fragments of a message is answered; to websockets it is an error", {"websockets": False}),
    "code_first": ("of a Close with a bad code and a bad reason the code counts (1002); to websockets the reason (1007)", {"websockets": False}),
}


def dialect(name):
    return {key: others.get(name, True) for key, (_, others) in DIFFERENCES.items()}


def digest(data):
    return "%d:%s" % (len(data), hashlib.sha1(data).hexdigest()[:12])


class End(Exception):
    """The code of the Close that answers the stream, or None: it waits for more."""


def is_text(data):
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class Reference:
    """Reads a stream by the standard, plainly and one frame after the other."""

    def __init__(self, rules):
        self.rules = rules
        self.messages, self.pings = [], []
        self.kind = None  # opcode of the message that is open
        self.data = b""

    def judge(self, stream):
        self.stream, self.at = stream, 0
        try:
            while True:
                self.frame()
        except End as end:
            return [self.messages, self.pings, end.args[0]]

    def take(self, size):
        if len(self.stream) - self.at < size:
            raise End(None)
        self.at += size
        return self.stream[self.at - size:self.at]

    def must(self, true, code=1002):
        if not true:
            raise End(code)

    def frame(self):
        if self.rules["first_alone"] and self.at < len(self.stream):
            self.must(self.stream[self.at] & 15 in (0, 1, 2, 8, 9, 10))
            self.shape(self.stream[self.at], self.stream[self.at] & 15, self.stream[self.at] & 128, 0)
        first, second = self.take(2)
        opcode, final, short = first & 15, first & 128, second & 127
        early = self.rules["head_early"]
        self.must(opcode in (0, 1, 2, 8, 9, 10))
        self.must(second & 128)
        if early:
            self.shape(first, opcode, final, short)
            self.must(opcode != 8 or short != 1 or self.rules["one_late"])
        if early and not self.rules["turn_late"]:
            self.turn(opcode)
        size = short
        if short == 126:
            size = struct.unpack(">H", self.take(2))[0]
            self.must(size > 125 or not self.rules["minimal"])
        elif short == 127:
            size = struct.unpack(">Q", self.take(8))[0]
            self.must(size < 1 << 63 or not self.rules["top_bit"])
            self.must(size > 65535 or not self.rules["minimal"])
        mask = None
        if early and self.rules["turn_late"]:
            mask = self.take(4)
            self.turn(opcode)
        self.must(size <= LIMIT - len(self.data), 1009)
        mask = mask or self.take(4)
        part = self.stream[self.at:self.at + size]
        part = bytes(byte ^ mask[i & 3] for i, byte in enumerate(part))
        if opcode in (0, 1, 2) and self.rules["text_early"]:
            if (opcode or self.kind) == 1:
                self.text(self.data + part, final and len(part) == size)
        self.take(size)
        if not early:
            self.shape(first, opcode, final, size)
            self.turn(opcode)
        self.whole(opcode, final, part)

    def shape(self, first, opcode, final, size):
        self.must(not first & 0x70 and (opcode < 8 or (final and size <= 125)))

    def turn(self, opcode):
        self.must(opcode >= 8 or (opcode == 0) == (self.kind is not None))

    def text(self, data, final):
        """What is cut must still be the beginning of some character: one that ends in all its lowest or highest bytes."""
        if not any(is_text(data + fill * size) for fill in (b"\x80", b"\xbf") for size in ((0,) if final else range(4))):
            raise End(1007)

    def whole(self, opcode, final, part):
        if opcode == 9:
            self.pings.append(digest(part))
        elif opcode == 8:
            self.close(part)
        elif opcode < 8:
            self.kind = opcode or self.kind
            self.data += part
            if final:
                if self.kind == 1:
                    self.text(self.data, True)
                self.messages.append("bt"[self.kind == 1] + digest(self.data))
                self.kind, self.data = None, b""

    def close(self, part):
        self.must(len(part) != 1)
        code = struct.unpack(">H", part[:2])[0] if part else 1005
        good = not part or code in (1000, 1001, 1002, 1003) or 1007 <= code <= 1014 or 3000 <= code <= 4999
        self.must(good or not self.rules["code_first"])
        self.text(part[2:], True)
        self.must(good)
        self.must(self.kind is None or self.rules["close_inside"])
        raise End(code)


def frame(random_, opcode, payload, final=True, spoil=()):
    first = (128 if final else 0) | opcode
    if "reserved bit" in spoil:
        first |= random_.choice((16, 32, 64, 80))
    if "opcode" in spoil:
        first = first & 0xf0 | random_.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15))
    size, form = len(payload), 0 if len(payload) < 126 else 126 if len(payload) < 65536 else 127
    if "long form" in spoil:
        form = random_.choice((126, 127)) if size < 65536 else 127
    if "huge" in spoil:
        size, form = random_.choice((LIMIT, LIMIT + 1, 1 << 32, 1 << 53, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)), 127
    masked = 0 if "no mask" in spoil else 128
    head = bytes([first, masked | (form or size)]) + (struct.pack(">H" if form == 126 else ">Q", size) if form else b"")
    mask = bytes(random_.randrange(256) for _ in range(4)) if masked else b""
    return head + mask + (bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload)) if masked else payload)


CHARACTERS = ("a", "z ", "\0", "\x7f", "\u0080", "\u00fc", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0001f600", "\U0010ffff")
NO_TEXT = (b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xe2\x82", b"\xed\xa0\x80", b"\xed\xbf\xbf",
           b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xfe", b"\xff", b"\xc3\xc3\xbc")


def some_text(random_):
    text = "".join(random_.choice(CHARACTERS) for _ in range(random_.choice((0, 1, 3, 10, 40)))).encode()
    if random_.random() < 0.12:
        at = random_.randrange(len(text) + 1)
        text = text[:at] + random_.choice(NO_TEXT) + text[at:]
    return text


def some_bytes(random_):
    return random_.randbytes(random_.choice((0, 1, 2, 60, 124, 125, 126, 127, 200, 300, 1000, 65535, 65536) if random_.random() < 0.1 else (0, 1, 5, 20)))


def some_close(random_):
    if random_.random() < 0.2:
        return b""
    code = random_.choice((1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1011, 1012, 1014, 1015, 1016, 999, 0, 2999, 3000, 4999, 5000, 65535))
    return (struct.pack(">H", code) + some_text(random_)[:123])[:random_.choice((1, 2, 125, 125, 125))]


def some_spoil(random_, often):
    kinds = ("reserved bit", "opcode", "long form", "huge", "no mask")
    return (random_.choice(kinds),) if random_.random() < often else ()


def control(random_, often):
    opcode = random_.choice((9, 9, 9, 10, 8))
    payload = some_close(random_) if opcode == 8 else random_.randbytes(random_.choice((0, 1, 4, 125) if random_.random() > often else (126, 200)))
    return frame(random_, opcode, payload, random_.random() > often, some_spoil(random_, often))


def message(random_, often):
    opcode = random_.choice((1, 1, 2))
    payload = some_text(random_) if opcode == 1 else some_bytes(random_)
    cuts = sorted(random_.randrange(len(payload) + 1) for _ in range(random_.choice((0, 0, 0, 1, 2, 4))))
    ends = list(zip([0] + cuts, cuts + [len(payload)]))
    out = b""
    for i, (start, end) in enumerate(ends):
        wrong = random_.random() < often
        kind = opcode if (i == 0) != wrong else 0
        out += frame(random_, kind, payload[start:end], (i == len(ends) - 1) != (random_.random() < often), some_spoil(random_, often))
        if random_.random() < 0.15:
            out += control(random_, often)
    return out


def some_stream(seed):
    """Whole and well-made, or spoilt in some place, cut short, or with a bit turned over; the seed decides."""
    random_ = random.Random(seed)
    often = random_.choice((0, 0.03, 0.1))
    stream = b"".join((control if random_.random() < 0.25 else message)(random_, often) for _ in range(random_.randrange(1, 7)))
    how = random_.random()
    if how < 0.15:
        return stream[:random_.randrange(len(stream) + 1)]
    if how < 0.3:
        at = random_.randrange(min(len(stream), 60))
        return stream[:at] + bytes([stream[at] ^ 1 << random_.randrange(8)]) + stream[at + 1:]
    if how < 0.32:
        return random_.randbytes(random_.randrange(1, 40))
    return stream


def frames_of(data):
    """The frames that a server sends: short of mistakes, as its own side is not on trial here."""
    while data:
        size, start = data[1], 2
        if size == 126:
            size, start = struct.unpack(">H", data[2:4])[0], 4
        elif size == 127:
            size, start = struct.unpack(">Q", data[2:10])[0], 10
        yield data[0], data[start:start + size]
        data = data[start + size:]


def by_echo(port, stream):
    with socket.create_connection(("127.0.0.1", port), 20) as s:
        s.sendall(HEAD + stream)
        try:
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has ended already
        got = b""
        while True:
            try:
                part = s.recv(1 << 20)
            except ConnectionResetError:
                break  # some streams go on behind a Close; what came before counts
            if not part:
                break
            got += part
    head, _, rest = got.partition(b"\r\n\r\n")
    assert b" 101 " in head, head
    verdict = [[], [], None]
    for first, payload in frames_of(rest):
        assert verdict[2] is None, "a frame after Close"
        if first in (0x81, 0x82):
            verdict[0].append("tb"[first & 1 == 0] + digest(payload))
        elif first == 0x8a:
            verdict[1].append(digest(payload))
        elif first == 0x88:
            verdict[2] = struct.unpack(">H", payload[:2])[0] if payload else 1005
        else:
            verdict[2] = "frame %02x" % first
    return verdict


def by_websockets(stream):
    """Its parser leaves text as bytes: that is judged here, whole, as its own layers above do."""
    connection = Connection(Side.SERVER, State.OPEN, max_size=LIMIT)
    connection.receive_data(stream)
    messages, pings, kind, data = [], [], None, b""
    for event in connection.events_received():
        if event.opcode is Opcode.PING:
            pings.append(digest(event.data))
        elif event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            kind = kind if event.opcode is Opcode.CONT else event.opcode
            data += event.data
            if event.fin:
                if kind is Opcode.TEXT:
                    if not is_text(data):
                        return [messages, pings, 1007]
                messages.append("bt"[kind is Opcode.TEXT] + digest(data))
                data = b""
    return [messages, pings, connection.close_sent.code if connection.close_sent else None]


def explain(stream, name, found):
    """The lines of the table that make the difference to wsserver.h: each, left out, changes the verdict."""
    theirs = dialect(name)
    return [key for key, value in theirs.items() if not value and Reference({**theirs, key: True}).judge(stream) != found] or ["together"]


def main():
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 6000
    streams = [some_stream(seed) for seed in range(count)]
    os.makedirs("build/peers", exist_ok=True)
    with open("build/peers/streams", "wb") as file:
        for stream in streams:
            file.write(struct.pack(">I", len(stream)) + stream)
    answers = subprocess.run(["node", os.path.join(os.path.dirname(__file__), "differ_ws.js"), sys.argv[2], "build/peers/streams"],
                             stdout=subprocess.PIPE, check=True, timeout=120).stdout
    server = Server(sys.argv[1])
    verdicts = {"wsserver.h": [by_echo(server.port, stream) for stream in streams],
                "ws": [json.loads(line) for line in answers.splitlines()],
                "websockets": [by_websockets(stream) for stream in streams]}
    failed = server.end() != 0
    ours = verdicts["wsserver.h"]
    for name, found in verdicts.items():
        assert len(found) == count
        reasons, unlike, unexplained = collections.Counter(), 0, 0
        for seed, stream in enumerate(streams):
            if found[seed] != ours[seed]:
                unlike += 1
                reasons.update(explain(stream, name, found[seed]))
            wanted = Reference(dialect(name)).judge(stream)
            if found[seed] != wanted:
                unexplained += 1
                if unexplained <= 5:
                    print("FAILED %s, stream %d: %r, the reference %r\n  %s" % (name, seed, found[seed], wanted, stream[:80].hex()))
        failed = failed or unexplained
        if name != "wsserver.h":
            print("differential, %s: %d of %d verdicts differ%s" % (name, unlike, count, ":" if unlike else ""))
            for key, times in reasons.most_common():
                print("  %4d %s" % (times, DIFFERENCES[key][0] if key in DIFFERENCES else key))
        if unexplained:
            print("FAILED differential, %s: %d not explained" % (name, unexplained))
    ends = collections.Counter(str(end) for _, _, end in ours)
    print("differential: %d streams, ended with %s" % (count, ", ".join("%s %d" % end for end in ends.most_common(9))))
    print("differential: %d streams, 3 implementations, %s" % (count, "FAILED" if failed else "every difference explained"))
    sys.exit(1 if failed else 0)


main()
