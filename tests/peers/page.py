"""A real browser: its WebSocket against echo, and the chat page as a person uses it. Usage: page.py ECHO CHAT BROWSER
Leaves build/chat-BROWSER.png, build/chat-BROWSER-narrow.png and build/chat-BROWSER-open.png."""
import json, os, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from browsers import Chromium, Firefox
from serving import Counts, Server

# Put into a page that came from echo, so that the origin is right. Each result is [name, found, wanted].
SUITE = r"""
const results = [], MIB = 1 << 20;
const url = location.href.replace(/^http/, 'ws');
const same = (name, found, wanted) => results.push([name, found, wanted]);
const opened = protocols => new Promise((resolve, fail) => {
  const ws = new WebSocket(url, protocols);
  ws.binaryType = 'arraybuffer';
  ws.got = [];
  ws.closed = new Promise(done => { ws.onclose = e => { done([e.code, e.reason, e.wasClean]); fail(e.code); }; });
  ws.onopen = () => resolve(ws);
  ws.onmessage = e => { ws.got.push(e.data); if (ws.take) ws.take(); };
});
const received = (ws, count) => new Promise(resolve => { (ws.take = () => { if (ws.got.length >= count) resolve(ws.got.splice(0)); })(); });
const echo = async (ws, data) => { ws.send(data); return (await received(ws, 1))[0]; };
function bytes(size) {
  const made = new Uint8Array(size);
  for (let i = 0; i < size; i++) made[i] = i * 7 + (i >> 8);
  return made;
}
function equal(one, other) {
  if (one.length !== other.length) return false;
  for (let i = 0; i < one.length; i++) if (one[i] !== other[i]) return false;
  return true;
}

async function suite() {
  const ws = await opened();
  same('nothing was negotiated', [ws.extensions, ws.protocol], ['', '']);
  for (const text of ['hello', '', 'a\0b', '\ufeffx', 'aZ\u00e9\u07ff\u0800\ud7ff\ue000\uffff\u{10000}\u{10ffff}'])
    same('text ' + JSON.stringify(text), await echo(ws, text), text);
  same('half a surrogate pair is sent as U+FFFD', await echo(ws, 'a\ud800b'), 'a\ufffdb');
  for (const size of [0, 1, 125, 126, 127, 65535, 65536, 65537, MIB, 16 * MIB])
    same(size + ' bytes', equal(new Uint8Array(await echo(ws, bytes(size))), bytes(size)), true);
  same('a Blob', equal(new Uint8Array(await echo(ws, new Blob([bytes(1000)]))), bytes(1000)), true);
  const text = '\u00fc\u{1f600}xy'.repeat(MIB / 8);
  same('1 MiB of text', await echo(ws, text) === text, true);
  const list = Array.from({ length: 1000 }, (_, i) => 'message ' + i);
  for (const item of list) ws.send(item);
  same('1,000 messages in order', (await received(ws, 1000)).join() === list.join(), true);
  for (const item of list) ws.send(item);
  ws.close(1000, 'done');
  same('close after 1,000 messages', await ws.closed, [1000, '', true]);
  for (const [code, reason] of [[1000, ''], [3000, 'registered'], [4999, 'gr\u00fc\u00dfe \u{1f600}'], [4000, 'r'.repeat(123)]]) {
    const closing = await opened();
    closing.close(code, reason);
    same('close ' + code, await closing.closed, [code, '', true]);
  }
  const bare = await opened();
  bare.close();
  same('close without a code', await bare.closed, [1005, '', true]);
  const large = await opened();
  large.send(new Uint8Array(64 * MIB + 1));
  // The server stops reading at the head of the frame: who still sends then may see the reset before the Close.
  same('one byte beyond 64 MiB', [1009, 1006].includes((await large.closed)[0]), true);
  // Where none is chosen, Chromium gives up as the standard has it; Firefox goes on without.
  same('a subprotocol is not made up', [1006, ''].includes(await opened(['soap']).then(one => one.protocol, code => code)), true);
  const many = await Promise.all(Array.from({ length: 50 }, () => opened()));
  same('50 connections', await Promise.all(many.map((one, i) => echo(one, 'of ' + i))), many.map((_, i) => 'of ' + i));
  for (const one of many) one.close(1000);
  await Promise.all(many.map(one => one.closed));
}

async function stopped() {
  const ws = await opened();
  ws.closed.then(end => { document.documentElement.dataset.end = JSON.stringify(end); });
  document.documentElement.dataset.results = JSON.stringify(results);
}

async function again() {
  const ws = await opened();
  document.documentElement.dataset.again = await echo(ws, 'again');
  ws.close(1000);
}

window.again = again;
suite().catch(why => same('no error', String(why && why.stack || why), '')).then(stopped);
"""

ADD = """
const script = document.createElement('script');
script.textContent = %s;
document.head.append(script);
"""

ROWS = "[...document.querySelectorAll('#log li')].map(li => [...li.children].slice(1).map(part => part.textContent))"


def suite(counts, browser, program):
    server = Server(program)
    browser.go("http://%s/" % server.host)
    counts.equal("a page in place of an upgrade", browser.run("return document.body.innerText.includes('WebSocket')"), True)
    browser.run(ADD % json.dumps(SUITE))
    results = json.loads(browser.until("return document.documentElement.dataset.results"))
    for name, found, wanted in results:
        counts.equal(name, found, wanted)
    counts.equal("exit status of echo", server.end(), 0)
    counts.equal("the server stops", json.loads(browser.until("return document.documentElement.dataset.end"))[::2], [1001, True])
    server = Server(program, server.port)
    browser.run(ADD % json.dumps("again();"))
    counts.equal("connected to the next server on the same port", browser.until("return document.documentElement.dataset.again"), "again")
    counts.equal("exit status of the second echo", server.end(), 0)


def rows_until(browser, count):
    browser.until("return document.querySelectorAll('#log li').length >= %d" % count)
    return browser.run("return " + ROWS)


def page(counts, browser, program, echo):
    server, other = Server(program), Server(echo)
    browser.go("http://%s/" % server.host)
    wanted = []

    def see(what, *more):
        wanted.extend([list(row) for row in more])
        found = rows_until(browser, len(wanted))
        counts.check(what, found == wanted, "found %r, wanted %r" % (found[-len(more):], wanted[-len(more):]))
    see("the page connects and is greeted", ["", "connected to ws://%s/" % server.host], ["in", "hello", "{}"])
    counts.equal("its state", browser.run("return document.querySelector('#state').innerText.trim()"), "connected")
    text = "gr\u00fc\u00dfe <b>bold</b> \"quoted\" \\ \u20ac"
    said = json.dumps({"text": text}, ensure_ascii=False, separators=(",", ":"))
    browser.type("#text", text + "\ue007")
    see("a message comes back", ["out", "message", said], ["in", "message", said])
    long = "A longer line, such as people write: it has to wrap where the window is narrow, and a very long word as well: " + "x" * 90
    said = json.dumps({"text": long}, separators=(",", ":"))
    browser.type("#text", long)
    browser.click("#say button")
    see("a long one too", ["out", "message", said], ["in", "message", said])
    counts.equal("the field is empty again", browser.run("return document.querySelector('#text').value"), "")
    server.type("a line from the keyboard \u00e9\n".encode())
    see("a line typed at the server arrives", ["in", "userInput", "{\"input\":\"a line from the keyboard \u00e9\"}"])
    browser.picture("build/chat-%s.png" % browser.name)
    browser.click("summary")
    raw = "document.querySelector('#raw')"
    browser.run(raw + ".value = ''")
    browser.type("#raw", "{\"__MESSAGE__\":\"nobody\",\"n\":1}")
    browser.click("#any button")
    browser.run(raw + ".value = ''")
    browser.type("#raw", "[1,")
    counts.equal("a hint about what is no JSON", browser.run("return document.querySelector('#hint').innerText.startsWith('Not valid JSON')"), True)
    browser.click("#any button")
    browser.picture("build/chat-%s-open.png" % browser.name)
    browser.type("#text", "then\ue007")
    see("what has no handler is ignored", ["out", "nobody", "{\"n\":1}"], ["out", "text", "[1,"],
        ["out", "message", "{\"text\":\"then\"}"], ["in", "message", "{\"text\":\"then\"}"])
    mib = 1 << 20
    browser.run(ADD % json.dumps("send(JSON.stringify({ __MESSAGE__: 'message', text: 'y'.repeat(%d) }))" % mib))
    shown = "{\"text\":\"" + "y" * 3991 + " ... %d characters" % (mib + 11)
    see("1 MiB comes back, and is shown in part", ["out", "message", shown], ["in", "message", shown])
    browser.run(ADD % json.dumps("const foreign = new WebSocket('ws://%s/'); foreign.onclose = e => { document.body.dataset.foreign = e.code; };" % other.host))
    counts.equal("another server refuses this page's origin", browser.until("return document.body.dataset.foreign"), "1006")
    browser.click("summary")
    counts.equal("exit status", server.end(), 0)
    see("the page sees the server end", ["", "closed with code 1001"])
    counts.equal("and says so", browser.run("return document.querySelector('#state').innerText.startsWith('not connected')"), True)
    counts.equal("no button works then", browser.run("return [...document.querySelectorAll('button')].every(one => one.disabled)"), True)
    said = server.lines
    server = Server(program, server.port)
    see("the page connects again after a restart", ["", "connected to ws://%s/" % server.host], ["in", "hello", "{}"])
    counts.equal("the server's words", said[1:], ["Connection opened.", "There are now 1 open connections.",
                                                  "Connection closed.", "There are now 0 open connections."])
    browser.narrow()
    counts.equal("at 360 pixels nothing sticks out", browser.run("return document.documentElement.scrollWidth <= innerWidth && innerWidth <= 360"), True)
    browser.until("const log = document.querySelector('#log'); return log.scrollTop + log.clientHeight > log.scrollHeight - 40")
    browser.picture("build/chat-%s-narrow.png" % browser.name)
    browser.run(ADD % json.dumps("send('z'.repeat(%d))" % (16 * mib + 1)))
    ends = browser.until("const ends = %s.filter(row => row[1].startsWith('closed with')); return ends.length === 2 && ends" % ROWS)
    counts.check("a message beyond 16 MiB ends the connection", ends[1][1][:21] in ("closed with code 1009", "closed with code 1006"), ends)
    counts.equal("exit status of the second chat", (server.end(), other.end()), (0, 0))


def main():
    kind = {"chromium": Chromium, "firefox": Firefox}[sys.argv[3]]
    browser = kind()
    counts = Counts("%s %s" % (kind.name, browser.version))
    try:
        suite(counts, browser, sys.argv[1])
        page(counts, browser, sys.argv[2], sys.argv[1])
    except Exception as why:
        counts.check("no wait is in vain", False, repr(why))
        browser.picture("build/chat-%s-failed.png" % kind.name)
        raise
    finally:
        browser.end()
        status = counts.finish()
    sys.exit(status)


main()
