"""The chat page in a real browser, driven through the WebDriver protocol. Usage: browser.py CHAT"""
import base64, json, os, re, shutil, subprocess, sys, tempfile, threading, time, urllib.request


def call(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["value"]


class Chat:
    def __init__(self, port):
        self.process = subprocess.Popen([sys.argv[1], str(port)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.port = int(re.search(r":(\d+)/", self.process.stderr.readline()).group(1))
        self.lines = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stderr:
            self.lines.append(line.strip())

    def end(self):
        self.process.terminate()
        return self.process.wait(20)


class Browser:
    def __init__(self):
        self.folder = tempfile.mkdtemp()
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        found = None
        while not found:
            found = re.search(r"port (\d+)\.", self.driver.stdout.readline())
        threading.Thread(target=lambda: [None for _ in self.driver.stdout], daemon=True).start()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 "--window-size=900,700", "--user-data-dir=" + self.folder]
        self.base = "http://127.0.0.1:%s/session" % found.group(1)
        options = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": flags}}}}
        self.base += "/" + call("POST", self.base, options)["sessionId"]

    def run(self, script):
        return call("POST", self.base + "/execute/sync", {"script": script, "args": []})

    def element(self, css):
        found = call("POST", self.base + "/element", {"using": "css selector", "value": css})
        return self.base + "/element/" + list(found.values())[0]

    def type(self, css, text):
        call("POST", self.element(css) + "/value", {"text": text})

    def wait(self, what, script, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.run(script):
                print("ok     " + what, flush=True)
                return
            time.sleep(0.05)
        self.picture("build/chat-failed.png")
        raise SystemExit("FAILED %s\n%s" % (what, self.run("return document.body.innerText")))

    def picture(self, name):
        with open(name, "wb") as file:
            file.write(base64.b64decode(call("GET", self.base + "/screenshot")))

    def end(self):
        try:
            call("DELETE", self.base)
        finally:
            self.driver.terminate()
            self.driver.wait(20)
            shutil.rmtree(self.folder, ignore_errors=True)


def has(text):
    return "return document.querySelector('#log').innerText.includes(%s)" % json.dumps(text)


def main():
    chat, browser = Chat(0), Browser()
    connected = "return document.querySelector('#state').innerText.trim() === 'connected'"
    try:
        call("POST", browser.base + "/url", {"url": "http://127.0.0.1:%d/" % chat.port})
        browser.wait("the page connects", connected)
        browser.wait("hello arrives", has("hello"))
        browser.type("#text", "gr\u00fc\u00dfe <b>bold</b>\ue007")
        browser.wait("a message comes back", has("gr\u00fc\u00dfe <b>bold</b>"))
        chat.process.stdin.write("a line from the keyboard\n")
        chat.process.stdin.flush()
        browser.wait("a line typed at the server arrives", has("a line from the keyboard"))
        browser.picture("build/chat.png")
        status = chat.end()
        browser.wait("the page sees the server end", "return !(%s)" % connected.replace("return ", ""))
        said = chat.lines
        chat = Chat(chat.port)
        browser.wait("the page reconnects after a restart", connected, 40)
        assert status == 0, status
        assert said == ["Connection opened.", "There are now 1 open connections.", "Connection closed.",
                        "There are now 0 open connections."], said
        print("ok     the server's log and status")
    finally:
        browser.end()
        chat.end()


main()
