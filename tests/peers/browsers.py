"""Chromium through chromedriver and Firefox through its Marionette port, with one set of calls for both."""
import base64, json, os, re, shutil, socket, subprocess, tempfile, threading, urllib.request

SECONDS = 30

# Resolves as soon as the condition holds: it is looked at after each change of the page, not from time to time.
UNTIL = """
const done = arguments[arguments.length - 1], holds = () => { %s };
const look = () => { const value = holds(); if (value) done(value); };
new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
document.addEventListener('scroll', look, true);
window.addEventListener('resize', look);
look();
"""


def read_until(stream, pattern):
    """Reads lines up to the one that fits; None: the browser ended, or was killed by the timer."""
    while True:
        line = stream.readline()
        if not line:
            return None
        found = re.search(pattern, line)
        if found:
            threading.Thread(target=lambda: [None for _ in stream], daemon=True).start()
            return found


class Browser:
    def __init__(self, command, pattern, **options):
        self.folder = tempfile.mkdtemp()
        self.prepare()
        for attempt in range(20):  # chromedriver takes one port for IPv4 and IPv6, and ends where either is in use
            self.process = subprocess.Popen([word.replace("FOLDER", self.folder) for word in command], text=True, **options)
            timer = threading.Timer(60, self.process.kill)
            timer.start()
            found = read_until(self.process.stdout, pattern)
            timer.cancel()
            if found:
                break
            self.process.wait()
        else:
            raise SystemExit("FAILED the browser ended before it was ready, twenty times")
        self.port = int(found.group(1))

    def prepare(self):
        pass

    def until(self, condition):
        """The value of a piece of script that returns something true once what is waited for has happened."""
        return self.run_async(UNTIL % condition)

    def picture(self, name):
        with open(name, "wb") as file:
            file.write(base64.b64decode(self.screenshot()))

    def end(self):
        try:
            self.quit()
        finally:
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)


class Chromium(Browser):
    name = "chromium"

    def __init__(self, *more):
        super().__init__(["chromedriver", "--port=0"], r"port (\d+)\.", stdout=subprocess.PIPE)
        self.base = "http://127.0.0.1:%d/session" % self.port
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 "--window-size=900,700", "--user-data-dir=" + self.folder, *more]
        try:
            made = self.call("POST", "", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": flags}}}})
        except BaseException:
            self.process.terminate()
            raise
        self.base += "/" + made["sessionId"]
        self.version = made["capabilities"]["browserVersion"]
        self.call("POST", "/timeouts", {"script": SECONDS * 1000})

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=2 * SECONDS) as answer:
            return json.load(answer)["value"]

    def go(self, url):
        self.call("POST", "/url", {"url": url})

    def run(self, script):
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def run_async(self, script):
        return self.call("POST", "/execute/async", {"script": script, "args": []})

    def element(self, css):
        return "/element/" + list(self.call("POST", "/element", {"using": "css selector", "value": css}).values())[0]

    def click(self, css):
        self.call("POST", self.element(css) + "/click", {})

    def type(self, css, text):
        self.call("POST", self.element(css) + "/value", {"text": text})

    def screenshot(self):
        return self.call("GET", "/screenshot")

    def narrow(self):
        size = {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
        self.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": size})

    def quit(self):
        try:
            self.call("DELETE", "")
        finally:
            self.process.terminate()


class Firefox(Browser):
    name = "firefox"

    def __init__(self):
        super().__init__(["firefox-esr", "--headless", "--no-remote", "--profile", "FOLDER", "--marionette", "--remote-allow-system-access",
                          "--width", "900", "--height", "700", "about:blank"],
                         r"Listening on port (\d+)", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.number = 0
        self.socket = socket.create_connection(("127.0.0.1", self.port), 2 * SECONDS)
        self.file = self.socket.makefile("rb")
        self.receive()
        made = self.call("NewSession", capabilities={})
        self.version = made["capabilities"]["browserVersion"]
        self.call("SetTimeouts", script=SECONDS * 1000)

    def prepare(self):
        with open(os.path.join(self.folder, "user.js"), "w") as file:
            for name, value in {"marionette.port": 0, "browser.shell.checkDefaultBrowser": False, "app.update.enabled": False,
                                "datareporting.policy.dataSubmissionEnabled": False, "network.captive-portal-service.enabled": False,
                                "network.connectivity-service.enabled": False, "app.normandy.enabled": False,
                                "browser.region.network.url": "", "extensions.systemAddon.update.enabled": False}.items():
                file.write("user_pref(%s, %s);\n" % (json.dumps(name), json.dumps(value)))

    def receive(self):
        size = b""
        while not size.endswith(b":"):
            byte = self.file.read(1)
            if not byte:
                raise EOFError("Firefox ended")
            size += byte
        return json.loads(self.file.read(int(size[:-1])))

    def call(self, command, **parameters):
        self.number += 1
        text = json.dumps([0, self.number, command if ":" in command else "WebDriver:" + command, parameters]).encode()
        self.socket.sendall(b"%d:%s" % (len(text), text))
        kind, number, why, result = self.receive()
        if why:
            raise RuntimeError("%s: %s" % (command, why["message"]))
        return result

    def go(self, url):
        self.call("Navigate", url=url)

    def run(self, script):
        return self.call("ExecuteScript", script=script, args=[])["value"]

    def run_async(self, script):
        return self.call("ExecuteAsyncScript", script=script, args=[])["value"]

    def element(self, css):
        return list(self.call("FindElement", using="css selector", value=css)["value"].values())[0]

    def click(self, css):
        self.call("ElementClick", id=self.element(css))

    def type(self, css, text):
        self.call("ElementSendKeys", id=self.element(css), text=text)

    def screenshot(self):
        return self.call("TakeScreenshot", full=False)["value"]

    def narrow(self):
        """No window of Firefox is narrower than 500 pixels: it is made that narrow, and the page magnified to see 360."""
        self.call("SetWindowRect", width=500, height=1058)
        self.call("Marionette:SetContext", value="chrome")
        self.run("gBrowser.selectedBrowser.fullZoom = 500 / 360")
        self.call("Marionette:SetContext", value="content")
        self.until("return innerWidth <= 360")

    def quit(self):
        try:
            self.call("Marionette:Quit", flags=["eForceQuit"])
        finally:
            self.socket.close()
