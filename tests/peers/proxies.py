"""A proxy of the world in front of the server, as README.md says to set it up: what gets through, whose address the server
sees, and that nothing a client sends changes it. Usage: proxies.py DOOR ECHO nginx|haproxy|apache2|caddy|tools|rebinding
Everything is on loopback: the proxy comes from 127.0.0.1, which is trusted, the client from 127.0.0.7."""
import atexit, http.server, os, random, re, shutil, signal, socket, ssl, struct, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from browsers import Chromium
from serving import Counts, Server

SECONDS = 20
CLIENT = "127.0.0.7"
V1 = b"PROXY TCP4 6.6.6.6 6.6.6.6 6666 80\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([6] * 8) + struct.pack(">HH", 6666, 80)
FORGED = [["X-Forwarded-For: 6.6.6.6"], ["X-Forwarded-For: 6.6.6.6, 127.0.0.1"], ["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 6.6.6.7"],
          ["X-Forwarded-For: unknown"], ["X-Forwarded-For: 6.6.6.6,"], ["x-forwarded-for: \"6.6.6.6"],
          ["X-Forwarded-For: 6.6.6.6", "Connection: X-Forwarded-For, Forwarded"], ["Forwarded: for=6.6.6.6"],
          ["Forwarded: for=6.6.6.6;proto=https, for=\"127.0.0.1"], ["X-Real-IP: 6.6.6.6", "X-Client-IP: 6.6.6.6", "Via: 1.1 6.6.6.6"]]
UPGRADE = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
counts = None


class Client:
    """One request, and what follows a 101. status is 0 where the other side hangs up without an answer."""

    def __init__(self, port, path, lines=(), upgrade=False, source=CLIENT, host=None, tls=False, before=b"", method="GET"):
        self.socket = socket.create_connection(("127.0.0.1", port), SECONDS, (source, 0))
        if tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket, server_hostname="example.org")
        head = ["%s %s HTTP/1.1" % (method, path), "Host: " + (host or "127.0.0.1:%d" % port)]
        head += list(UPGRADE) if upgrade else ["Connection: close"]
        self.file = self.socket.makefile("rb")
        self.status, self.body = 0, ""
        try:
            self.socket.sendall(before + "".join(line + "\r\n" for line in head + list(lines) + [""]).encode())
            self.read_answer()
        except ConnectionError:
            pass

    def read_answer(self):
        first = self.file.readline().split()
        if len(first) < 2:
            return
        self.status = int(first[1])
        size = None
        chunked = False
        while True:
            line = self.file.readline().strip().lower()
            if not line:
                break
            if line.startswith(b"content-length:"):
                size = int(line.split(b":")[1])
            chunked = chunked or line == b"transfer-encoding: chunked"
        if self.status == 101:
            return
        body = b""
        if chunked:
            while True:
                piece = int(self.file.readline().split(b";")[0], 16)
                body += self.file.read(piece)
                self.file.readline()
                if not piece:
                    break
        else:
            body = self.file.read(size) if size is not None else self.file.read()
        self.body = body.decode("utf-8", "replace").strip()
        self.end()

    def send(self, opcode, data):
        size = struct.pack("!B", 128 | len(data)) if len(data) < 126 else struct.pack("!BH", 128 | 126, len(data)) \
            if len(data) < 65536 else struct.pack("!BQ", 128 | 127, len(data))
        self.socket.sendall(bytes([128 | opcode]) + size + bytes(4) + data)

    def receive(self):
        first, size = self.file.read(2)
        if size > 125:
            size = int.from_bytes(self.file.read(2 if size == 126 else 8), "big")
        return first & 15, self.file.read(size)

    def ask(self, text):
        self.send(1, text.encode())
        return self.receive()[1].decode()

    def close(self):
        """The code of the Close frame that answers ours; then this side ends too."""
        self.send(8, struct.pack("!H", 1000))
        opcode, data = self.receive()
        self.end()
        return opcode, struct.unpack("!H", data[:2])[0]

    def end(self):
        self.file.close()
        self.socket.close()


def free_ports(names):
    """A port for each name, none that the kernel gives to others meanwhile. All are held until all are known."""
    held = []
    while len(held) < len(names):
        try:
            held.append(socket.create_server(("127.0.0.1", random.randrange(20000, 32000))))
        except OSError:
            pass  # it is taken
    ports = {name: one.getsockname()[1] for name, one in zip(names, held)}
    for one in held:
        one.close()
    return ports


def wait_until(what, holds):
    """For programs that tell nothing of themselves: looks until it holds."""
    end = time.monotonic() + SECONDS
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.02)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), SECONDS).close()
        return True
    except ConnectionRefusedError:
        return False


def checked(recipe, text):
    """README.md shows what is tested: each of its blocks whose first line stands in the file is there line by line."""
    here = [line.strip() for line in text.splitlines()]
    readme = open(os.path.join(HERE, "../../README.md")).read()
    part = readme.split("\n## Behind a proxy\n", 1)[1].split("\n## ", 1)[0]
    blocks = [[line.strip() for line in block.splitlines()] for block in re.findall(r"(?m)(?:^    .*\n|^\n(?=    ))+", part)]
    mine = [[line for line in block if line] for block in blocks]
    mine = [block for block in mine if block and block[0] in here]
    counts.check("README.md shows a recipe of %s" % recipe, mine)
    compact = [line for line in here if line]
    for block in mine:
        at = [i for i in range(len(compact)) if compact[i:i + len(block)] == block]
        counts.check("the recipe is the one of README.md", at, block)


class Proxy:
    """The program in the foreground, in a folder of its own, ended by a timer whatever happens here."""

    def __init__(self, template, own, doors, command, folder):
        """own: the ports at which it listens; doors: those of the servers behind it."""
        ports = {**own, **doors}
        text = open(os.path.join(HERE, template)).read()
        checked(template, text)
        text = text.replace("127.0.0.1:8080", "127.0.0.1:%d" % ports["door"])
        for name, value in {**ports, "folder": folder, "modules": "/usr/lib/apache2/modules"}.items():
            text = text.replace("@%s@" % name, str(value))
        left = re.search(r"@\w+@", text)
        if left:
            raise SystemExit("FAILED %s: nothing for %s" % (template, left.group(0)))
        with open(os.path.join(folder, template), "w") as file:
            file.write(text)
        command = [word.replace("@folder@", folder) for word in command]
        environment = dict(os.environ, HOME=folder, XDG_DATA_HOME=folder, XDG_CONFIG_HOME=folder)
        self.log = open(os.path.join(folder, "log"), "w+")
        self.process = subprocess.Popen(["timeout", "-k", "5", "150"] + command, cwd=folder, env=environment,
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        atexit.register(self.end)
        wait_until("%s does not listen" % command[0], lambda: self.process.poll() is not None or all(map(listens, own.values())))
        if self.process.poll() is not None:
            raise SystemExit("FAILED %s ended at once: %s" % (command[0], self.said()))

    def said(self):
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()


def certificate(folder):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                    "-subj", "/CN=example.org", "-addext", "subjectAltName=DNS:example.org",
                    "-keyout", folder + "/key.pem", "-out", folder + "/cert.pem"], check=True, stderr=subprocess.DEVNULL, timeout=60)
    with open(folder + "/both.pem", "w") as file:
        for name in "cert.pem", "key.pem":
            file.write(open(os.path.join(folder, name)).read())


def talks(name, client, address):
    """A WebSocket through the proxy: echoes small and large, the address, the closing handshake."""
    if client.status != 101:
        counts.check(name + ": is let in", False, "%d %s" % (client.status, client.body))
        return
    counts.equal(name + ": echo", client.ask("gr\u00fc\u00dfe"), "gr\u00fc\u00dfe")
    data = bytes(range(256)) * 1000
    client.send(2, data)
    counts.check(name + ": 256,000 bytes come back", client.receive() == (2, data))
    counts.equal(name + ": the address", client.ask("who"), address)
    counts.equal(name + ": is closed in good order", client.close(), (8, 1000))


def passes(name, port, path, address=CLIENT, plain=True, before=True, **more):
    """What must be true of every way to the server. address: what it sees of a client at CLIENT."""
    for lines in [[]] + FORGED:
        what = "%s %s" % (name, lines)
        talks(what, Client(port, path, lines, upgrade=True, **more), address)
        if plain:
            counts.equal(what + ": a plain request", Client(port, path + "x?y", lines, **more).body, "GET %sx?y from %s" % (path, address))
    other = "127.0.0.8"
    talks(name + ": another client", Client(port, path, upgrade=True, source=other, **more), other if address == CLIENT else address)
    for first in V1, V2:
        one = Client(port, path, before=first, **more)
        counts.check("%s: a PROXY header of the client's own" % name, one.status in (0, 400) and "6.6.6.6" not in one.body,
                     "%d %s" % (one.status, one.body))


def refused(name, server, ask, status, text):
    """Refused, and the log says why and whom: at the latest once it takes lines again after those before this one."""
    for _ in range(10):
        counts.equal(name + ": status", ask().status, status)
        try:
            server.wait_for(lambda lines: [line for line in lines if text in line], 2)
            return counts.check(name + ": the log says so", True)
        except TimeoutError:
            continue
    counts.check(name + ": the log says so", False)


ECHO = """
const done = arguments[arguments.length - 1];
const ws = new WebSocket(%s);
ws.onopen = () => ws.send('from a page');
ws.onmessage = e => { ws.close(1000); done(e.data); };
ws.onclose = e => done(e.code);
"""


def page(urls):
    """A page that comes through the proxy opens a WebSocket to where it came from."""
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        print("skipped: a page through the proxy: Chromium and chromedriver are not installed", flush=True)
        return
    browser = Chromium("--host-resolver-rules=MAP example.org 127.0.0.1", "--ignore-certificate-errors", "--no-proxy-server")
    try:
        for url in urls:
            browser.go(url)
            counts.equal("Chromium %s shows %s" % (browser.version, url), browser.run("return document.body.innerText.split(' ')[0]"), "GET")
            counts.equal("a page of %s talks" % url, browser.run_async(ECHO % "location.href.replace(/^http/, 'ws')"), "from a page")
    finally:
        browser.end()


class Doors:
    """The servers behind a proxy: name -> options. Each must end well."""

    def __init__(self, program, servers):
        self.servers = {name: Server(program, 0, *options) for name, options in servers.items()}
        self.ports = {name: server.port for name, server in self.servers.items()}

    def __getitem__(self, name):
        return self.servers[name]

    def end(self):
        for name, server in self.servers.items():
            server.stop()
        for name, server in self.servers.items():
            counts.equal("exit status of %s" % name, server.end(), 0)


TRUSTS = ["proxies=127.0.0.1"]
PAGE = "https://example.org"


def nginx(door, echo, folder):
    doors = Doors(door, {"door": TRUSTS, "none": [], "named": ["hosts=example.org"], "few": TRUSTS + ["max_per_address=2"],
                         "forwarded": TRUSTS + ["proxy_header=Forwarded"],
                         "unix": ["address=127.0.0.1,unix:%s/door" % folder, "proxies=unix:"]})
    plainly = Server(echo)
    ports = free_ports(["plain", "tls"])
    proxy = Proxy("nginx.conf", ports, {**doors.ports, "echo": plainly.port}, ["nginx", "-e", "stderr", "-p", "@folder@", "-c", "@folder@/nginx.conf"], folder)
    plain, tls = ports["plain"], ports["tls"]
    passes("nginx", plain, "/chat/")
    passes("nginx before a Unix socket", plain, "/unix/")
    passes("nginx that says Forwarded", plain, "/forwarded/")
    passes("nginx with TLS", tls, "/chat/", tls=True)
    chain = Client(plain, "/chain/", FORGED[0], upgrade=True)
    talks("two proxies in a row", chain, CLIENT)
    own = ["Origin: http://127.0.0.1:%d" % plain]
    talks("nginx, a page of its own", Client(plain, "/chat/", own, upgrade=True), CLIENT)
    refused("nginx, a foreign page", doors["door"], lambda: Client(plain, "/chat/", ["Origin: http://evil.example"], upgrade=True), 403, "403, from " + CLIENT)
    # The front is HTTPS, the server has no option set: it sees the proxy alone, and lets the page in.
    for path in "/untold/", "/host/":
        talks("nginx with TLS, no option, " + path, Client(tls, path, ["Origin: " + PAGE], upgrade=True, host="example.org", tls=True), "127.0.0.1")
    # Plain HTTP in front and no line about the client looks like a page of a rebound name: options.hosts lets it in.
    lines = ["Origin: http://example.org"]
    refused("nginx without X-Forwarded-For", doors["none"], lambda: Client(plain, "/untold/", lines, upgrade=True, host="example.org"), 421, "421")
    refused("nginx without X-Forwarded-For, a plain request", doors["none"], lambda: Client(plain, "/untold/", host="example.org"), 421, "421")
    talks("nginx, options.hosts", Client(plain, "/named/", lines, upgrade=True, host="example.org"), "127.0.0.1")
    talks("nginx with X-Forwarded-For", Client(plain, "/chat/", lines, upgrade=True, host="example.org"), CLIENT)
    # By itself nginx speaks HTTP/1.0.
    counts.equal("nginx without proxy_http_version 1.1, a plain request", Client(plain, "/old/door/").body, "GET /old/door/ from 127.0.0.1")
    old = Client(plain, "/old/", upgrade=True)
    counts.check("nginx without proxy_http_version 1.1 is told of it", old.status == 426 and "proxy_http_version 1.1" in old.body, (old.status, old.body))
    # The host without its port is another origin.
    refused("nginx with Host $host", doors["door"], lambda: Client(plain, "/host/", own, upgrade=True), 403, "Pages of this origin")
    # Each client has its own count, and the proxy none.
    held = [Client(plain, "/few/", upgrade=True, source=source) for source in (CLIENT, CLIENT, "127.0.0.8", "127.0.0.8", "127.0.0.9")]
    counts.equal("two of each client", [one.status for one in held], [101] * 5)
    refused("a third of one", doors["few"], lambda: Client(plain, "/few/", FORGED[0], upgrade=True), 503, "503, from " + CLIENT)
    for one in held:
        one.close()
    page(["http://127.0.0.1:%d/chat/" % plain, "http://example.org:%d/chat/" % plain, "https://example.org:%d/chat/" % tls])
    doors.end()
    counts.equal("exit status of echo", plainly.end(), 0)
    proxy.end()


def haproxy_states(folder):
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(SECONDS)
        control.connect(folder + "/stats")
        control.sendall(b"show stat -1 4 -1\n")
        text = b"".join(iter(lambda: control.recv(65536), b"")).decode().strip()
    names = text.splitlines()[0].lstrip("# ").split(",")
    rows = [dict(zip(names, line.split(","))) for line in text.splitlines()[1:]]
    return {row["svname"]: (row["status"], row["check_status"], row["check_code"]) for row in rows}


def haproxy(door, echo, folder):
    doors = Doors(door, {"door": TRUSTS, "proxy": TRUSTS + ["proxy_protocol=1"]})
    plainly = Server(echo)
    ports = free_ports(["plain", "tls", "two", "one", "down"])
    proxy = Proxy("haproxy.cfg", ports, {**doors.ports, "echo": plainly.port}, ["haproxy", "-db", "-f", "@folder@/haproxy.cfg"], folder)
    wait_until("HAProxy tells nothing", lambda: os.path.exists(folder + "/stats"))
    wait_until("HAProxy has not checked", lambda: not [one for one in haproxy_states(folder).values() if one[1] in ("", "INI")]
               and haproxy_states(folder)["down"][0] == "DOWN")
    states = haproxy_states(folder)
    for name, wanted in {"chat": ("UP", "L7OK", "200"), "options": ("UP", "L7OK", "200"), "told": ("UP", "L7OK", "200"),
                         "two": ("UP", "L4OK", ""), "one": ("UP", "L4OK", ""), "down": ("DOWN", "L7STS", "426")}.items():
        counts.equal("HAProxy's check of " + name, states.get(name), wanted)
    passes("HAProxy", ports["plain"], "/chat/")
    passes("HAProxy with TLS", ports["tls"], "/chat/", tls=True)
    passes("HAProxy, PROXY 2 for each request", ports["plain"], "/told/")
    passes("HAProxy, PROXY 2", ports["two"], "/")
    passes("HAProxy, PROXY 1", ports["one"], "/")
    lines = ["Origin: " + PAGE]
    talks("HAProxy with TLS, a page", Client(ports["tls"], "/chat/", lines, upgrade=True, host="example.org", tls=True), CLIENT)
    talks("HAProxy with TLS and PROXY 2, a page", Client(ports["tls"], "/told/", lines, upgrade=True, host="example.org", tls=True), CLIENT)
    for name, port in ("PROXY 2", ports["two"]), ("PROXY 1", ports["one"]):
        refused("HAProxy, %s: a page of another host" % name, doors["proxy"],
                lambda: Client(port, "/", ["Origin: http://evil.example"], upgrade=True), 403, "403, from " + CLIENT)
        refused("HAProxy, %s: a second PROXY header" % name, doors["proxy"], lambda: Client(port, "/", before=V1), 400, "The first line")
    refused("not from the proxy", doors["proxy"], lambda: Client(doors.ports["proxy"], "/", before=V1), 400, "A PROXY header is not taken from here")
    refused("the proxy without its header", doors["proxy"], lambda: Client(doors.ports["proxy"], "/", source="127.0.0.1"), 400, "must come first")
    counts.equal("HAProxy still finds all of them", [haproxy_states(folder)[name][0] for name in ("chat", "options", "told", "two", "one")], ["UP"] * 5)
    page(["http://127.0.0.1:%d/chat/" % ports["plain"], "https://example.org:%d/chat/" % ports["tls"], "http://127.0.0.1:%d/" % ports["two"]])
    proxy.end()
    doors.end()
    counts.equal("exit status of echo", plainly.end(), 0)


def apache2(door, echo, folder):
    doors = Doors(door, {"door": TRUSTS, "none": []})
    ports = free_ports(["plain", "tls", "other"])
    os.chmod(folder, 0o755)
    proxy = Proxy("apache.conf", ports, doors.ports, ["apache2", "-DFOREGROUND", "-f", "@folder@/apache.conf"], folder)
    plain, tls, other = ports["plain"], ports["tls"], ports["other"]
    passes("Apache", plain, "/chat/")
    passes("Apache with TLS", tls, "/chat/", tls=True)
    passes("Apache's older module", plain, "/older/", plain=False)
    passes("Apache without ProxyPreserveHost", other, "/chat/")
    lines = ["Origin: " + PAGE]
    talks("Apache, a page of its own", Client(plain, "/chat/", ["Origin: http://127.0.0.1:%d" % plain], upgrade=True), CLIENT)
    talks("Apache with TLS, a page", Client(tls, "/chat/", lines, upgrade=True, host="example.org", tls=True), CLIENT)
    talks("Apache with TLS, no option", Client(tls, "/untold/", lines, upgrade=True, host="example.org", tls=True), "127.0.0.1")
    own = ["Origin: http://127.0.0.1:%d" % other]
    talks("Apache without ProxyPreserveHost, trusted", Client(other, "/chat/", own, upgrade=True), CLIENT)
    refused("Apache without ProxyPreserveHost, not trusted", doors["none"], lambda: Client(other, "/untold/", own, upgrade=True), 403, "Pages of this origin")
    page(["http://127.0.0.1:%d/chat/" % plain, "https://example.org:%d/chat/" % tls, "http://127.0.0.1:%d/chat/" % other])
    doors.end()
    proxy.end()


def caddy(door, echo, folder):
    doors = Doors(door, {"door": TRUSTS, "none": []})
    ports = free_ports(["plain", "tls"])
    proxy = Proxy("Caddyfile", ports, doors.ports, ["caddy", "run", "--config", "@folder@/Caddyfile", "--adapter", "caddyfile"], folder)
    plain, tls = ports["plain"], ports["tls"]
    passes("Caddy", plain, "/chat/")
    passes("Caddy with TLS", tls, "/chat/", tls=True, host="example.org:%d" % tls)
    lines = ["Origin: http://127.0.0.1:%d" % plain]
    talks("Caddy, a page of its own", Client(plain, "/chat/", lines, upgrade=True), CLIENT)
    talks("Caddy with TLS, no option", Client(tls, "/untold/", ["Origin: " + PAGE], upgrade=True, host="example.org", tls=True), "127.0.0.1")
    page(["http://127.0.0.1:%d/chat/" % plain, "https://example.org:%d/chat/" % tls])
    doors.end()
    proxy.end()


def tools(door, echo, folder):
    """What people point at a port, and forgery without a proxy between."""
    doors = Doors(door, {"door": ["proxies=127.0.0.2"], "none": [], "proxy": ["proxies=127.0.0.2", "proxy_protocol=1"]})
    port = doors.ports["door"]
    url = "http://127.0.0.1:%d/" % port

    def call(*command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60)
        return done.returncode, done.stdout.decode("utf-8", "replace")
    for name in "door", "none", "proxy":
        for lines in [[]] + FORGED:
            what = "%s, no proxy between, %s" % (name, lines)
            talks(what, Client(doors.ports[name], "/", lines, upgrade=True), CLIENT)
            counts.equal(what + ": a plain request", Client(doors.ports[name], "/", lines).body, "GET / from " + CLIENT)
        for first in V1, V2:
            refused("%s, a PROXY header from nowhere" % name, doors[name], lambda: Client(doors.ports[name], "/", before=first), 400, "A PROXY header is not taken")
    one = Client(port, "/", FORGED[0], source="127.0.0.2")
    counts.equal("the one that is trusted is believed", one.body, "GET / from 6.6.6.6")
    if shutil.which("ab"):
        code, text = call("ab", "-n", "20", "-c", "4", url)
        counts.check("ab", code == 0 and re.search(r"Complete requests:\s+20\n", text) and re.search(r"Failed requests:\s+0\n", text)
                     and "Non-2xx" not in text, text)
    else:
        print("skipped: ab is not installed", flush=True)
    if shutil.which("curl"):
        curl = ["curl", "-sS", "-m", "20", "--noproxy", "*"]
        counts.equal("curl", call(*curl, url + "a?b"), (0, "GET /a?b from 127.0.0.1\n"))
        counts.equal("curl -0", call(*curl, "-0", url), (0, "GET / from 127.0.0.1\n"))
        code, text = call(*curl, "-I", url)
        counts.check("curl -I", code == 0 and text.startswith("HTTP/1.1 200 OK\r\n") and "Content-Length: 22\r\n" in text, text)
        counts.equal("curl -X OPTIONS", call(*curl, "-X", "OPTIONS", url), (0, "OPTIONS / from 127.0.0.1\n"))
        counts.equal("curl --http2 is answered as if it had not asked", call(*curl, "--http2", url), (0, "GET / from 127.0.0.1\n"))
        counts.check("curl https:// fails", call(*curl, "-k", "https://127.0.0.1:%d/" % port)[0] != 0)
        doors["door"].wait_for(lambda lines: [line for line in lines if "No TLS is spoken here" in line and "from 127.0.0.1" in line])
        counts.check("the log says that it was TLS", True)
    else:
        print("skipped: curl is not installed", flush=True)
    doors.end()


class Page(http.server.BaseHTTPRequestHandler):
    """The attacker's page, gone from its port once it was read."""

    def do_GET(self):
        body = b"<!DOCTYPE html><title>a page</title><p>GET this"
        self.send_response(200)
        for name, value in ("Content-Type", "text/html"), ("Content-Length", str(len(body))), ("Connection", "close"):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        pass


class Site(http.server.ThreadingHTTPServer):
    """Serves the page, and at its end leaves no connection that the browser could go on with."""
    held = None

    def get_request(self):
        self.held = (self.held or []) + [super().get_request()]
        return self.held[-1]

    def server_close(self):
        super().server_close()
        for one, _ in self.held or []:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended


def rebinding(door, echo, folder):
    """A page of a name that comes to mean this machine: it was read from a port that is the server's a moment later."""
    browser = Chromium("--host-resolver-rules=MAP attacker.example 127.0.0.1", "--no-proxy-server")
    fetch = "const done = arguments[arguments.length - 1]; fetch('/secret').then(r => done(r.status), why => done(String(why)));"
    port = free_ports(["one"])["one"]

    def visit(host, options, talk, status):
        page = Site(("127.0.0.1", port), Page)
        serving = threading.Thread(target=page.serve_forever)
        serving.start()
        try:
            browser.go("http://%s:%d/page" % (host, port))
        finally:
            page.shutdown()
            page.server_close()
            serving.join()
        server = Server(door, port, *options)
        what = "Chromium, a page of %s, %s" % (host, options)
        counts.equal(what + ": its WebSocket", browser.run_async(ECHO % "'ws://%s:%d/'" % (host, port)), talk)
        counts.equal(what + ": its fetch", browser.run_async(fetch), status)
        if status != 200:
            for path in "/", "/secret":
                server.wait_for(lambda lines: [line for line in lines if "421, from 127.0.0.1, %s:" % path in line])
                counts.check(what + ": the log says so, " + path, True)
        counts.equal(what + ": exit status", server.end(), 0)
    try:
        visit("attacker.example", [], 1006, 421)
        visit("attacker.example", ["hosts=example.org,localhost:%d" % port], 1006, 421)
        visit("attacker.example", ["hosts=attacker.example"], "from a page", 200)  # so the page could, were it let in
        visit("localhost", [], "from a page", 200)
        visit("127.0.0.1", [], "from a page", 200)
        visit("chat.localhost", [], "from a page", 200)
        # With the proxy on the same machine, and trusted, the upgrade is still refused; plain requests need options.hosts.
        visit("attacker.example", TRUSTS + ["hosts=example.org"], 1006, 421)
    finally:
        browser.end()


def main():
    global counts
    kind = sys.argv[3]
    is_proxy = kind in ("nginx", "haproxy", "apache2", "caddy")
    counts = Counts("behind " + kind if is_proxy else kind)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = tempfile.mkdtemp(prefix="wsserver")
    atexit.register(shutil.rmtree, folder, True)
    try:
        if is_proxy:
            certificate(folder)
        globals()[kind](sys.argv[1], sys.argv[2], folder)
    except Exception as why:
        log = os.path.join(folder, "log")
        counts.check("no wait is in vain", False, repr(why))
        if os.path.exists(log):
            print(open(log).read()[-2000:], flush=True)
        raise
    finally:
        status = counts.finish()
    sys.exit(status)


main()
