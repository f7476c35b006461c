"""Starts an example server, follows what it says on stderr, and counts the checks made against it."""
import atexit, re, subprocess, threading, time


class Server:
    """One run of an example. Every wait is for a line that the program prints, and ends after `seconds`."""

    def __init__(self, program, port=0, *options):
        self.program = program
        self.process = subprocess.Popen([program, str(port), *options], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        atexit.register(self.process.kill)  # whatever happens here; harmless once it has ended
        self.stopped = False
        self.lines = []
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.port = int(re.search(r":(\d+)/", self.wait_for(lambda lines: [s for s in lines if "listening on" in s])[0]).group(1))
        self.host = "127.0.0.1:%d" % self.port

    def read(self):
        for line in self.process.stderr:
            with self.changed:
                self.lines.append(line.decode("utf-8", "replace").strip())
                self.changed.notify_all()

    def wait_for(self, wanted, seconds=20):
        """Returns what wanted(lines) gives as soon as that is true."""
        end = time.monotonic() + seconds
        with self.changed:
            while not wanted(self.lines):
                if not self.changed.wait(max(0, end - time.monotonic())):
                    raise TimeoutError("%s said only %r" % (self.program, self.lines))
            return wanted(self.lines)

    def type(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def stop(self):
        """Asks the server to end, once, since a second request kills it. Returns at once."""
        if not self.stopped:
            self.process.terminate()
        self.stopped = True

    def end(self):
        """The exit status, and everything the server said."""
        self.stop()
        try:
            status = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.reader.join(20)
        self.process.stdin.close()
        self.process.stderr.close()
        return status


class Counts:
    """The checks of one peer. A failed one is printed; the last line says how many there were."""

    def __init__(self, peer):
        self.peer = peer
        self.made = 0
        self.failed = 0

    def check(self, name, true, detail=""):
        self.made += 1
        if not true:
            self.failed += 1
            print("FAILED %s: %s %s" % (self.peer, name, str(detail)[:400]), flush=True)

    def equal(self, name, found, wanted):
        self.check(name, found == wanted, "found %.150r, wanted %.150r" % (found, wanted))

    def finish(self):
        print("%s: %d checks, %d passed" % (self.peer, self.made, self.made - self.failed), flush=True)
        return 1 if self.failed or not self.made else 0
