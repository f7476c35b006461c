"""Python's websockets as a client of the echo and chat examples. Usage: python_websockets.py ECHO CHAT"""
import asyncio, json, os, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import websockets, websockets.version
from serving import Counts, Server

MIB = 1 << 20
counts = Counts("websockets " + websockets.version.version)
TEXT, BINARY, CONTINUATION, CLOSE, PING = 1, 2, 0, 8, 9


def dial(server, **options):
    options.setdefault("compression", None)
    return websockets.connect("ws://%s/" % server.host, max_size=None, ping_interval=None, open_timeout=20, close_timeout=20, **options)


async def soon(wait, seconds=30):
    return await asyncio.wait_for(wait, seconds)


async def ended(ws):
    """Reads to the end, and returns the code and the reason that the server sent."""
    try:
        while True:
            await soon(ws.recv())
    except websockets.ConnectionClosed as why:
        return (why.rcvd.code, why.rcvd.reason) if why.rcvd else (1006, "")


async def echoes(ws, message):
    await soon(ws.send(message))
    return await soon(ws.recv()) == message


async def refused(ws, message):
    """Sends a message that the server reads no further than its head: who still sends then may see the reset before the Close."""
    try:
        await soon(ws.send(message))
    except websockets.ConnectionClosed:
        pass
    return (await ended(ws))[0] in (1009, 1006)


async def typed(server):
    async with dial(server) as ws:
        for name, message in {
            "text": "hello", "empty text": "", "empty binary": b"", "every byte": bytes(range(256)),
            "text of one to four bytes a character": "aZ\u00e9\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff" * 50,
            "NUL in text": "a\0b", "noncharacters": "\ufffe\uffff\ufdd0", "byte order mark": "\ufeffx",
        }.items():
            counts.check("echo of " + name, await echoes(ws, message))
        for size in 125, 126, 127, 65535, 65536, 65537:
            counts.check("echo of %d bytes" % size, await echoes(ws, os.urandom(size)))
        counts.check("1 MiB of text", await echoes(ws, "\u00fc\U0001f600xy" * (MIB // 8)))
        counts.check("16 MiB", await echoes(ws, os.urandom(MIB) * 16))
        counts.check("64 MiB, the limit", await echoes(ws, os.urandom(MIB) * 64))
        counts.equal("nothing was negotiated", (ws.extensions, ws.subprotocol), ([], None))
    async with dial(server, compression="deflate") as ws:
        counts.check("an offer to compress is declined", ws.extensions == [] and await echoes(ws, "plain"))


async def fragments(server):
    async with dial(server) as ws:
        text = "\u00fc\u20ac\U0001f600" * 100
        pieces = text.encode()
        await soon(ws.write_frame(False, TEXT, pieces[:1]))
        for i in range(1, len(pieces)):
            await soon(ws.write_frame(False, CONTINUATION, pieces[i:i + 1]))
        await soon(ws.write_frame(True, CONTINUATION, b""))
        counts.equal("text in frames of one byte", await soon(ws.recv()), text)

        async def parts():
            for _ in range(64):
                yield b"0123456789abcdef" * 1024
        await soon(ws.send(parts()))
        counts.equal("1 MiB in 64 frames", await soon(ws.recv()), b"0123456789abcdef" * 65536)
        await soon(ws.write_frame(False, BINARY, b""))
        waiting = await ws.ping(b"between")
        await soon(ws.write_frame(False, CONTINUATION, b"a"))
        await soon(waiting)
        await soon(ws.write_frame(True, CONTINUATION, b"b"))
        counts.equal("a ping between fragments is answered before their end", await soon(ws.recv()), b"ab")


async def pings(server):
    async with dial(server) as ws:
        for payload in b"", b"x" * 125, bytes(range(100)):
            await soon(await ws.ping(payload))
            counts.check("pong of %d bytes" % len(payload), True)
        waiting = [await ws.ping() for _ in range(100)]
        await soon(asyncio.gather(*waiting))
        counts.check("100 pings at once", True)
        await ws.pong(b"nobody asked")
        counts.check("a pong that nobody asked for", await echoes(ws, "still here"))


async def closes(server):
    for code, reason in (1000, ""), (1000, "done"), (1001, "away"), (3000, "registered"), (4999, "gr\u00fc\u00dfe \U0001f600"), (4000, "r" * 123):
        ws = await soon(dial(server))
        await soon(ws.close(code, reason))
        counts.equal("client closes with %d, answered by its code alone" % code, (ws.close_code, ws.close_reason), (code, ""))
    ws = await soon(dial(server))
    await soon(ws.write_frame(True, CLOSE, b""))
    counts.equal("client closes without a code", (await ended(ws))[0], 1005)
    ws = await soon(dial(server))
    await asyncio.gather(*[ws.send("m%d" % i) for i in range(200)])
    closing = asyncio.ensure_future(ws.close(1000))
    got = [m async for m in ws]
    await soon(closing)
    counts.equal("what came before the close is echoed", (got, ws.close_code), (["m%d" % i for i in range(200)], 1000))


async def refusals(server):
    for name, frames in {
        "overlong": [(True, TEXT, b"\xc0\x80")], "surrogate": [(True, TEXT, b"ok \xed\xa0\x80")], "too high": [(True, TEXT, b"\xf4\x90\x80\x80")],
        "cut at the end": [(True, TEXT, b"abc\xe2\x82")], "cut at the end of fragments": [(False, TEXT, b"\xe2"), (True, CONTINUATION, b"\x82")],
        "lone continuation byte": [(True, TEXT, b"\x80")], "in a reason": [(True, CLOSE, b"\x03\xe8\xff")],
    }.items():
        ws = await soon(dial(server))
        for frame in frames:
            await soon(ws.write_frame(*frame))
        counts.equal("invalid UTF-8, " + name, (await ended(ws))[0], 1007)
    for name, frames in {
        "continuation of nothing": [(True, CONTINUATION, b"x")], "text inside a message": [(False, TEXT, b"a"), (True, TEXT, b"b")],
        "close with half a code": [(True, CLOSE, b"\x03")], "close with code 1005": [(True, CLOSE, b"\x03\xed")],
        "close with code 2999": [(True, CLOSE, b"\x0b\xb7")], "close with code 5000": [(True, CLOSE, b"\x13\x88")],
    }.items():
        ws = await soon(dial(server))
        for frame in frames:
            await soon(ws.write_frame(*frame))
        counts.equal(name, (await ended(ws))[0], 1002)
    ws = await soon(dial(server))
    for i in range(64):
        await soon(ws.write_frame(False, BINARY if i == 0 else CONTINUATION, bytes(MIB)))
    await soon(ws.write_frame(True, CONTINUATION, b"x"))
    counts.equal("one byte beyond 64 MiB, in fragments", (await ended(ws))[0], 1009)
    ws = await soon(dial(server))
    counts.equal("one byte beyond 64 MiB, in one frame", await refused(ws, bytes(64 * MIB + 1)), True)


async def many(server):
    connections = await soon(asyncio.gather(*[dial(server) for _ in range(100)]))
    rounds = [all(await soon(asyncio.gather(*[echoes(ws, "%d of %d" % (i, j)) for j, ws in enumerate(connections)]))) for i in range(10)]
    counts.check("100 connections, 10 messages each", all(rounds))
    await soon(asyncio.gather(*[ws.close() for ws in connections]))
    async with dial(server) as ws:
        texts = ["message %d" % i for i in range(2000)]

        async def send():
            for text in texts:
                await ws.send(text)
        sending = asyncio.ensure_future(send())
        counts.equal("2,000 messages in order", [await soon(ws.recv()) for _ in texts], texts)
        await soon(sending)


async def restart(program):
    server = Server(program)
    ws = await soon(dial(server))
    server.stop()
    counts.equal("the server stops", (await ended(ws))[0], 1001)
    counts.equal("its exit status", server.end(), 0)
    server = Server(program, server.port)
    async with dial(server) as ws:
        counts.check("connected to the next server on the same port", await echoes(ws, "again"))
    return server


async def chat(program):
    server = Server(program)
    one, two = await soon(dial(server)), await soon(dial(server))
    for ws in one, two:
        counts.equal("hello", json.loads(await soon(ws.recv())), {"__MESSAGE__": "hello"})
    said = {"__MESSAGE__": "message", "text": "gr\u00fc\u00dfe \U0001f600 \"\\\n\0", "list": [1, -2.5e-3, None, True, {"a": {}}], "big": 2 ** 53}
    await one.send(json.dumps(said))
    counts.equal("typed message", json.loads(await soon(one.recv())), said)
    await one.send(json.dumps(said, ensure_ascii=False))
    counts.equal("typed message with no escapes", json.loads(await soon(one.recv())), said)
    await one.send(json.dumps(said).encode())
    for other in '{"__MESSAGE__":"nobody"}', "[1]", "{", "", '{"a":1}', '{"__MESSAGE__":7}':
        await one.send(other)
    large = {"__MESSAGE__": "message", "text": "x" * MIB}
    await one.send(json.dumps(large))
    answers = [json.loads(await soon(one.recv()))]
    if answers[0] == said:  # a typed message in a binary frame is a typed message too
        answers.append(json.loads(await soon(one.recv())))
    counts.equal("what has no handler is ignored, 1 MiB comes back", answers[-1], large)
    server.type("a line \u00e9\n".encode())
    for ws in one, two:
        counts.equal("a line typed at the server", json.loads(await soon(ws.recv())), {"__MESSAGE__": "userInput", "input": "a line \u00e9"})
    message = '{"__MESSAGE__":"message","text":"%s"}' % ("x" * (16 * MIB - 34))
    counts.equal("16 MiB and one byte", (len(message), await refused(one, message)), (16 * MIB + 1, True))
    await soon(two.close(4999, "bye"))
    counts.equal("close of a chat", (two.close_code, two.close_reason), (4999, ""))
    server.wait_for(lambda lines: lines.count("Connection closed.") == 2)
    counts.equal("the chat's exit status and last word", (server.end(), server.lines[-1]), (0, "There are now 0 open connections."))


async def main():
    server = Server(sys.argv[1])
    try:
        for part in typed, fragments, pings, closes, refusals, many:
            await part(server)
    finally:
        counts.equal("exit status of echo", server.end(), 0)
    server = await restart(sys.argv[1])
    counts.equal("exit status of the second echo", server.end(), 0)
    await chat(sys.argv[2])


try:
    asyncio.run(main())
except Exception as why:  # a wait that ended without its event
    counts.check("no wait is in vain", False, repr(why))
    import traceback
    traceback.print_exc()
sys.exit(counts.finish())
