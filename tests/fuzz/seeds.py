#!/usr/bin/env python3
"""seeds.py FOLDER: writes the first inputs of each fuzz target to FOLDER/TARGET. The same files each time."""
import os
import sys

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
HOST = b"Host: example.com\r\n"
ASKS = b"Upgrade: websocket\r\nConnection: Upgrade\r\n" + KEY + b"Sec-WebSocket-Version: 13\r\n"
LINE = b"GET /chat?room=1&a=%c3%a4 HTTP/1.1\r\n"


def frame(opcode, payload, final=True, mask=b"\0\0\0\0"):
    size = len(payload)
    head = bytes([opcode | (128 if final else 0)])
    if size < 126:
        head += bytes([128 | size])
    elif size < 65536:
        head += bytes([254]) + size.to_bytes(2, "big")
    else:
        head += bytes([255]) + size.to_bytes(8, "big")
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def heads():
    tails = [
        b"", b"Origin: http://example.com\r\n", b"Origin: https://friend.example\r\n", b"Origin: null\r\n",
        b"Cookie: a=b; c=d\r\nCookie: a=e\r\n", b"Sec-WebSocket-Protocol: chat, v2.chat, , x y\r\n",
        b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Sec-WebSocket-Extensions: permessage-deflate\r\n", b"X: " + b"v" * 300 + b"\r\n", b"X:\t a b \t\r\n",
        b"X : y\r\n", b" folded\r\n", b"Host: other\r\n", b"X: \xc3\xa4\x80\r\n", b"A: b\r\n" * 30,
    ]
    lines = [
        LINE, b"GET / HTTP/1.1\r\n", b"HEAD /x HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n",
        b"GET http://example.com HTTP/1.1\r\n", b"GET https://example.com?a=1 HTTP/1.1\r\n",
        b"GET * HTTP/1.1\r\n", b"GET /%zz?a=%00&room=+b HTTP/1.1\r\n", b"GET /" + b"p" * 5000 + b" HTTP/1.1\r\n",
        b"GET / HTTP/1.1\n", b"\r\nGET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\0", b"\r\n\r\nGET / HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n", b"GET ws://a:80/b HTTP/1.1\r\n", b"GET wss://[::1]:8080?a=1 HTTP/1.1\r\n",
        b"GET http://a@example.com/ HTTP/1.1\r\n", b"GET / HTTP/1.9\r\n", b"GET / HTTP/2.0\r\n", b"HEAD /x HTTP/1.1\n",
    ]
    hosts = [b"Host: [::1]:8080\r\n", b"Host: a:80\r\n", b"Host: a:99999\r\n", b"Host: a@b\r\n", b"Host:\r\n", b""]
    found = [bytes([choice, 5]) + line + HOST + ASKS + b"\r\n" for line in lines for choice in (0, 0xc0)]
    found += [bytes([choice, 77]) + LINE + HOST + ASKS + tail + b"\r\n" for tail in tails for choice in (0, 0x84)]
    found += [bytes([0x40, 9]) + LINE + host + ASKS + b"\r\n" for host in hosts]
    found += [b"\0\3" + LINE + HOST + b"\r\n", b"\x20\3" + LINE + HOST + ASKS, b"\0\0" + LINE + HOST + b"\n\n"]
    found += [b"\0\3" + line + b"\r\n" for line in (b"GET / HTTP/1.0\r\n", b"OPTIONS * HTTP/1.0\r\n", b"HEAD http://a HTTP/1.0\r\n")]
    found += [b"\0\3" + LINE + HOST + ASKS.replace(b"13", b"8") + b"\r\n"]
    found += [b"\0\3" + LINE + HOST + ASKS.replace(b"==", b"") + b"\r\n"]
    found += [b"\0\3" + LINE + HOST + ASKS.replace(b"Connection: Upgrade", b"Connection: close") + b"\r\n"]
    return found


def streams():
    mask = b"\x01\x02\xff\x80"
    text = "h\u00e4llo \u20ac \U0001f600".encode()
    found = [frame(1, text, True, mask), frame(2, bytes(range(200))), frame(1, b""), frame(2, b"x" * 300)]
    found += [frame(2, b"y" * 301), frame(1, text[:2], False, mask) + frame(0, text[2:], True, mask)]
    found += [frame(1, b"a", False) + frame(9, b"ping", True, mask) + frame(0, b"b", False) + frame(0, b"c")]
    found += [frame(1, b"", False) + frame(0, b"", False) * count + frame(0, b"") for count in (5, 1022, 1023)]
    found += [frame(2, b"z" * 150, False) + frame(0, b"z" * size) for size in (149, 150, 151)]
    found += [frame(9, b"p" * 125) + frame(10, b"q" * 125), frame(9, b"") * 20, frame(10, b"")]
    found += [frame(8, b""), frame(8, b"\x03"), frame(8, b"\x03\xe8bye" + text)]
    found += [frame(8, code.to_bytes(2, "big")) for code in (999, 1000, 1004, 1005, 1014, 1015, 2999, 3000, 4999, 5000)]
    found += [frame(8, b"\x03\xe8\xff"), frame(1, b"\xff"), frame(1, b"\xed\xa0\x80"), frame(1, b"\xe2\x82")]
    found += [frame(1, b"\xe2", False) + frame(0, b"\x82", False) + frame(0, b"\xac"), frame(0, b"x")]
    found += [frame(1, b"x", False) + frame(1, b"y"), b"\xc1\x80\0\0\0\0", b"\x83\x80\0\0\0\0", b"\x81\x01a"]
    found += [b"\x09\x80\0\0\0\0", b"\x89\xfe\0\x7e\0\0\0\0", b"\x82\xfe\0\x7d\0\0\0\0", b"\x82\xff" + b"\0" * 12]
    for size in (0, 125, 126, 127, 65534, 65535, 65536, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1):
        found += [b"\x82\xfe" + (size & 65535).to_bytes(2, "big") + b"\0\0\0\0"]
        found += [b"\x82\xff" + size.to_bytes(8, "big") + b"\0\0\0\0"]
    found += [b"\x82\xff\x7f" + b"\xff" * 7 + b"\0\0\0\0", b"\x82\xff\x80" + b"\0" * 11]
    return found


def texts():
    return [
        b'{"type":"chat","text":"hi"}', b'{"text":"hi","type":"chat"}', b'{"a":1,"type":"x","b":[1,2.5e3,-0]}',
        b'{"type":1}', b'{"type":"a","type":"b"}', b'{ "a" : 1 , "type" : "t" , "type" : "u" }', b"{}", b"[]", b'""',
        b'{"__MESSAGE__":"m","a":{"b":{"c":[{},[],"",null,true,false]}}}', b'{"__MESSAGE\\u005f_":"m","a":0}',
        b'{"type":"a","b":1,"type":"c","d":2,"type":"e"}', b'{"":"x","a":""}', b'{"a":{"type":"inner"},"type":"t"}',
        b'["\\u0041\\n\\"\\\\\\/\\b\\f\\r\\t\\u0000","\\ud83d\\ude00","\\ud800","\\udc00\\ud800"]',
        b"[0,-0,1,-1,10,0.5,1e5,1E+5,1e-5,123456789012345678901234567890,9223372036854775807,-9223372036854775808]",
        b"[1e308,1e309,-1e309,4.9e-324,1e-400,2.2250738585072011e-308,9007199254740993,0.1,100e-2,1.0]",
        b"[" * 40 + b"]" * 40, b'{"a":' * 20 + b"1" + b"}" * 20, b"[" * 1030, b"[1,]", b'{"a":1,}', b"{,}", b"01", b"-",
        b"1.", b"1e", b".5", b"+1", b"tru", b"nulll", b'"\x01"', b'"\xff"', b'"\\x"', b'"\\u12"', b'{"a" 1}', b"[1 2]",
        b' \t\r\n{ "a" : [ ] } \n', '{"s":"\u00e4\u20ac\U0001f600"}'.encode(), b'"' + b"x" * 300 + b'"',
        b'{"n":' + b"1" * 900 + b"}", b"\xef\xbb\xbf{}", b"{}x", b'{"a":1}{"b":2}',
    ]


def characters():
    found = ["a\u00e4\u20ac\U0001f600z".encode() * 9, b"a" * 100, "\u00e4".encode() * 60, "\u20ac".encode() * 40]
    found += ["\U0010ffff".encode() * 30, "\ud7ff\ue000\U00010000\u0800\u0080\x7f".encode()]
    found += [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80"]
    found += [b"\xf5\x80\x80\x80", b"\xff", b"\x80", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc3", b"\xe2\x28\xa1", b"\0a\0"]
    return found


def programs():
    """Of the session target: five choices, then either bytes as they are or a program (see write_input)."""
    settings = [b"\x00\x07\x00\x00\x00", b"\x05\x0b\x03\x01\x00", b"\x0a\x1a\x09\x21\x00", b"\x0f\x2c\x15\x31\x00",
                b"\x81\x33\x41\x05\x03", b"\x82\x05\x21\x09\x02"]
    program = (b"\x04\x00\x05hello" + b"\x04\x08\x02ab" + b"\x04\x03\x01p" + b"\x04\x02\x02cd" + b"\x01\x01\xff"
               + b"\x01\x81\x60" + b"\x02\x14" + b"\x04\x04\x01q" + b"\x03\x00")
    found = [setting + program for setting in settings]
    raw = LINE + HOST + ASKS + b"\r\n"
    for index, stream in enumerate(streams()):
        setting = bytearray(settings[index % len(settings)])
        setting[0] = setting[0] & 0x3f | 0x40
        found.append(bytes(setting) + raw + stream)
        setting[0] |= 0x80
        found.append(bytes(setting) + stream)
    setting = b"\x4f\x2c\x15\x31\x00"
    found += [setting + head[2:] for head in heads()]
    return found


def lives():
    """Of the server target: seed and choices, then operations. A zero behind a turn is a handler that calls nothing."""
    dial = [b"\0" + bytes([client, how]) for client, how in ((0, 0), (1, 9), (2, 18), (3, 0xc0))]
    settle, idle = b"\x11", b"\0"
    text, ping, bye = b"\3\0\x30abc", b"\3\0\x17p", b"\3\0\x06"
    typed = b"\5\0\0"
    large = [b"\6\0" + bytes([how]) for how in (1, 3, 0x40, 0xff)]
    passes = [b"\x0a" + bytes([which]) for which in range(8)]
    calls = [b"\x0e" + bytes(call) for call in (
        [0, 0x10, 0], [1, 0xff, 0], [2, 0x7e, 0], [2, 0x23, 1], [3, 0, 0], [3, 1, 0], [3, 2, 0], [4, 3, 0], [4, 4, 0],
        [4, 5, 0], [5, 0, 0], [5, 0, 3], [7, 0, 0], [7, 0, 1], [7, 0, 4], [9, 0x1b], [9, 3], [10, 0], [11], [12, 0, 1],
        [13, 0], [14, 1, 0], [14, 0, 0], [15, 0, 1], [15, 1], [15, 3])]
    opened = dial[0] + settle + idle + dial[1] + settle + idle
    found = []
    for head in (b"\1\0\0\0\0", b"\2\0\x11\0\x10", b"\3\0\x26\x18\x03", b"\4\0\x13\x60\x31", b"\5\0\xe0\0\0"):
        found.append(head + opened + text + settle + idle + typed + settle + idle + idle + ping + settle + b"\8\0"
                     + bye + settle + idle + passes[4])
        found.append(head + dial[0] + dial[1] + dial[2] + dial[3] + settle + idle * 4 + b"".join(large) + settle
                     + idle * 4 + passes[5] + passes[7] + passes[7])
        found.append(head + opened + b"\3\0\x12a" + settle + b"\x0e\5\1\0" + settle + b"\x0e\x0f\0\1" + settle + passes[4])
        found.append(head + opened + b"\7\0\0" + settle + idle + b"\7\1\1" + settle + idle)
        found += [head + opened + call + settle + idle + call + settle + passes[3] for call in calls]
        found += [head + opened + text + settle + b"\1" + call[1:] + typed + settle + b"\1" + call[1:] for call in calls]
    for how in range(8):
        found.append(b"\1\3\0\0\0" + b"\0\0" + bytes([how]) + settle + idle * 3 + passes[6] + settle)
        found.append(b"\1\3\0\0\x10" + b"\0\0" + bytes([how]) + settle + b"\1\1\7\0" + bytes([how]) + passes[6])
        found.append(b"\1\0\0\0\0" + b"\x0d" + bytes([how, 5]) + opened + text + settle + idle + passes[3] + settle)
    for which in range(28):
        found.append(b"\1\0\0\0\0" + dial[0] + b"\x0d\7" + bytes([which, 0]) + settle + idle + text + settle + idle + bye)
    for place in range(0, 60, 3):
        found.append(b"\1\x80" + bytes([place]) + b"\0\0\0" + opened + text + settle + idle + bye + settle)
    return found


def save(folder, target, inputs):
    path = os.path.join(folder, target)
    os.makedirs(path, exist_ok=True)
    for index, data in enumerate(inputs):
        with open(os.path.join(path, "seed-%03d" % index), "wb") as out:
            out.write(data)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = sys.argv[1]
    save(folder, "head", heads())
    save(folder, "frame", [bytes([choice]) + stream for stream in streams() for choice in (0, 0x4b)])
    save(folder, "json", [bytes([choice]) + text for text in texts() for choice in (0xfc, 0x45)])
    save(folder, "utf8", [bytes([5, pad, 40]) + text for text in characters() for pad in (0, 15, 63)])
    save(folder, "session", programs())
    save(folder, "server", lives())


main()
