"""Runs the servers side by side and prints one table of ratios per server CPU second. From the top of the project:
make bench, or python3 tests/bench/run.py [--save] [--merge]. The settings are environment variables: see README.md here."""
import json, math, os, platform, re, shutil, signal, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
OUT = os.path.join(TOP, "build", "bench")

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = os.environ.get("BENCH_SECONDS", "1.0")
WARMUP = os.environ.get("BENCH_WARMUP", "0.2")
HOLD = os.environ.get("BENCH_HOLD", "60")
MILLION = int(os.environ.get("BENCH_MILLION", "250000"))
CHOSEN = [name for name in os.environ.get("BENCH_CASES", "").split(",") if name]
SERVERS = [name for name in os.environ.get("BENCH_SERVERS", "").split(",") if name]
VERIFY = ["--verify"] if os.environ.get("BENCH_VERIFY") else []
CFLAGS = os.environ.get("BENCH_CFLAGS", "-O2").split()
CC = os.environ.get("CC", "cc").split()
CXX = os.environ.get("CXX", "c++").split()

WARNINGS = ("-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual "
            "-Wstrict-prototypes").split()
NPM = ["ws@8.23.0", "bufferutil@4.1.0"]

# Every server of the table: how it is called there, and its program.
NAMES = {"raw": "raw epoll", "ours": "wsserver.h", "lws": "libwebsockets", "websocketpp": "WebSocket++",
         "beast": "Boost.Beast", "ws": "Node ws"}

failures = []
skipped = {}
runs = 0


# ---- building

def newer(target, sources):
    if not os.path.exists(target):
        return False
    age = os.path.getmtime(target)
    return all(os.path.getmtime(source) <= age for source in sources)


def compile_one(name, command, sources):
    target = os.path.join(OUT, name)
    sources = [os.path.join(HERE, source) for source in sources]
    depends = sources + [os.path.join(HERE, "wire.h"), os.path.join(HERE, "run.py"), os.path.join(TOP, "wsserver.h")]
    if name in ("lws", "websocketpp", "beast"):
        depends = sources
    if newer(target, depends):
        return None
    print("building " + name, flush=True)
    done = subprocess.run(command[:-1] + ["-I" + TOP, sources[0], "-o", target] + command[-1],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.strip()[-2000:] or "failed" if done.returncode else None


def has_header(compiler, language, name):
    return subprocess.run(compiler + ["-x", language, "-E", "-", "-o", os.devnull], input="#include <%s>\n" % name,
                          text=True, stderr=subprocess.DEVNULL).returncode == 0


def build_c(name, libraries):
    why = compile_one(name, CC + ["-std=c11"] + WARNINGS + CFLAGS + [libraries], [name + ".c"])
    if why:
        sys.exit("%s does not build:\n%s" % (name, why))


def build_peer(name, compiler, options, header, libraries):
    suffix = ".c" if compiler is CC else ".cc"
    if not has_header(compiler, "c" if compiler is CC else "c++", header):
        skipped[name] = "%s is not installed" % header
        return
    why = compile_one(name, compiler + options + CFLAGS + [libraries], [name + suffix])
    if why:
        failures.append("%s does not build: %s" % (name, why))
        skipped[name] = "does not build"


def build_ws():
    modules = os.path.join(OUT, "node_modules", "ws")
    if not shutil.which("node"):
        skipped["ws"] = "node is not installed"
    elif not os.path.isdir(modules):
        if not shutil.which("npm"):
            skipped["ws"] = "npm is not installed"
            return
        print("installing " + " ".join(NPM), flush=True)
        done = subprocess.run(["npm", "install", "--prefix", OUT, "--no-audit", "--no-fund", "--silent"] + NPM,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if done.returncode or not os.path.isdir(modules):
            skipped["ws"] = "npm could not install it"


def wanted(name):
    return not SERVERS or name in SERVERS


def build():
    os.makedirs(OUT, exist_ok=True)
    build_c("load", [])
    build_c("raw", [])
    build_c("ours", ["-pthread"])
    if wanted("lws"):
        build_peer("lws", CC, ["-std=c11"], "libwebsockets.h", ["-lwebsockets"])
    if wanted("websocketpp"):
        build_peer("websocketpp", CXX, ["-std=c++17", "-DNDEBUG"], "websocketpp/server.hpp", ["-pthread"])
    if wanted("beast"):
        build_peer("beast", CXX, ["-std=c++17", "-DNDEBUG"], "boost/beast.hpp", ["-pthread"])
    if wanted("ws"):
        build_ws()


# ---- servers

CORES = sorted(os.sched_getaffinity(0))


def pin(core):
    if core is None or len(CORES) < 2:
        return None
    return lambda: os.sched_setaffinity(0, {CORES[core]})


class Server:
    """One process of a server, alive between rounds."""

    def __init__(self, program, mode, options=(), core=0):
        command = [os.path.join(OUT, program), mode, "0"] + list(options)
        environment = dict(os.environ)
        if program == "ws":
            command = ["node", os.path.join(HERE, "ws.js"), mode, "0"]
            environment["NODE_PATH"] = os.path.join(OUT, "node_modules")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=pin(core))
        words = self.process.stdout.readline().split()
        if len(words) != 2 or words[0] != "port":
            raise RuntimeError("%s did not start" % program)
        self.port = words[1]
        self.pid = str(self.process.pid)

    def line(self):
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


alive = {}


def server_for(program, mode, options, core):
    key = (program, mode, tuple(options), core)
    if key not in alive or alive[key].process.poll() is not None:
        alive[key] = Server(program, mode, options, core)
    return alive[key]


def end_all():
    for server in alive.values():
        server.end()
    alive.clear()


def load(server, mode, arguments, core=1, limit=180):
    """One run of the load generator; its line of JSON, or None."""
    global runs
    runs += 1
    command = [os.path.join(OUT, "load"), mode, server.port, "--pid", server.pid] + arguments + VERIFY
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit,
                              preexec_fn=pin(core))
        why = done.stderr.strip()
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        why = "no end after %d s" % limit
    failures.append("%s: %s" % (" ".join(command[1:]), why))
    print("FAILED " + failures[-1], flush=True)
    return None


# ---- cases

class Contender:
    """One row's candidate: a program in a mode, and what is taken from the run."""

    def __init__(self, label, program, mode, options=(), core=0, load_core=1):
        self.label, self.program, self.mode, self.options = label, program, mode, list(options)
        self.core, self.load_core = core, load_core


class Case:
    """base: the label that ratios are made to. figure: what of the load's line is compared; less is better where lower."""

    def __init__(self, name, text, contenders, mode, arguments, base="raw", figure="per_cpu", lower=False, unit="", targets=None,
                 rounds=None, fresh=False, bound=""):
        self.name, self.text, self.contenders, self.mode, self.arguments = name, text, contenders, mode, arguments
        self.base, self.figure, self.lower, self.unit, self.targets = base, figure, lower, unit, targets or {}
        self.rounds, self.fresh, self.bound = rounds, fresh, bound


def everybody(mode):
    return [Contender(name, name, mode) for name in NAMES if wanted(name) and name not in skipped]


def echo(name, text, arguments, target=None, bound=""):
    timed = ["--seconds", SECONDS, "--warmup", WARMUP, "--spin"]
    return Case(name, text, everybody("echo"), "echo", arguments.split() + timed, bound=bound,
                targets={"ours": target} if target else {})


def broadcast(burst, target):
    timed = ["--seconds", SECONDS, "--warmup", WARMUP, "--spin"]
    text = "broadcast to 1,000, 64 B, " + ("one at a time" if burst == 1 else "bursts of %d" % burst)
    return Case("broadcast-%d" % burst, text, everybody("broadcast"), "broadcast",
                ["--conns", "1000", "--size", "64", "--burst", str(burst)] + timed, targets={"ours": target})


def own(label, mode, options=(), core=0, load_core=1):
    return Contender(label, "ours", mode, options, core, load_core)


def chat(count):
    timed = ["--seconds", SECONDS, "--warmup", WARMUP, "--spin"]
    return Case("chat-%d" % count, "to all %d and an answer to the sender, 64 B" % count,
                [c for c in everybody("chat") if c.program in ("raw", "ours")], "chat",
                ["--conns", str(count), "--size", "64"] + timed)


def idle(count):
    contenders = [own("ours", "either", ["--pings", "0"]), own("ours, pings on", "either")]
    contenders += [Contender(c.label, c.program, "idle" if c.program == "lws" else "broadcast")
                   for c in everybody("broadcast") if c.program != "ours"]
    return Case("idle-%d" % count, "resident bytes per idle connection, {:,} connections".format(count), contenders, "idle",
                ["--conns", str(count), "--addresses", "16", "--seconds", "0.5"], base=None, figure="bytes", lower=True,
                unit="B", targets={"ours": 112}, rounds=1, fresh=True)


def make_cases():
    timed = ["--seconds", SECONDS, "--warmup", WARMUP]
    json200 = ["--kind", "json", "--size", "200", "--spin"] + timed
    both = lambda label, threads: own(label, "echo", ["--threads", str(threads)], None, None)
    cases = [
        echo("echo-20", "echo, 64 connections, 20 B", "--size 20", 0.97),
        echo("echo-512", "echo, 64 connections, 512 B", "--size 512", 0.97),
        echo("echo-512x16", "echo, 64 connections, 512 B, 16 in flight", "--size 512 --depth 16", 0.97),
        echo("echo-2k-x16", "echo, 64 connections, 2 KiB, 16 in flight", "--size 2048 --depth 16", 0.95),
        echo("echo-16k", "echo, 64 connections, 16 KiB", "--size 16384", 0.96),
        echo("echo-1m", "echo, 64 connections, 1 MiB", "--size 1048576", 0.95),
        echo("echo-1000c", "echo, 1,000 connections, 20 B", "--size 20 --conns 1000"),
        echo("text-utf8", "text of 64 KiB, multi-byte UTF-8, 10 connections", "--size 65536 --conns 10 --kind utf8", 0.70),
        echo("text-ascii", "text of 64 KiB, ASCII, 10 connections", "--size 65536 --conns 10 --kind ascii"),
        broadcast(1, 0.95), broadcast(16, 0.90), broadcast(64, 0.90), chat(200),
        Case("churn", "connect, handshake, closing handshake", everybody("echo"), "churn", ["--addresses", "64"] + timed,
             targets={"ours": 1.10}),
        Case("churn-reset", "connect, handshake, reset", everybody("echo"), "churn", ["--addresses", "64", "--reset"] + timed),
        Case("typed", "typed JSON of 200 B, to own raw text echo of the same bytes",
             [own("raw text", "echo"), own("typed", "typed"), own("built anew", "built")], "echo", json200, base="raw text",
             targets={"typed": 0.85}),
        Case("posts-64", "posts per CPU second of the loop, 64 B each to one of 64", [own("ours", "posts")], "posts",
             ["--conns", "64", "--size", "64", "--seconds", SECONDS], base=None, figure="posts_per_cpu", unit="/s",
             targets={"ours": 1e6}),
        Case("posts-1000", "posts per CPU second of the loop, 64 B each to one of 1,000", [own("ours", "posts")], "posts",
             ["--conns", "1000", "--size", "64", "--seconds", SECONDS], base=None, figure="posts_per_cpu", unit="/s",
             targets={"ours": 1e6}),
        Case("latency", "latency, 1 connection, sleeping client, median", [own("none", "echo"),
             own("spin 50 us", "echo", ["--spin", "50"])], "echo", ["--conns", "1", "--latency"] + timed, base="none",
             figure="p50_us", lower=True, unit="us", targets={"spin 50 us": 0.5}),
        Case("latency-polling", "latency, 1 connection, polling client, median", everybody("echo"), "echo",
             ["--conns", "1", "--latency", "--spin"] + timed, figure="p50_us", lower=True, unit="us"),
        Case("threads", "two threads against one, cores shared with the load", [both("1 thread", 1), both("2 threads", 2)],
             "echo", ["--size", "512"] + timed, base="1 thread", targets={"2 threads": 0.95}),
        Case("threads-x16", "two threads against one, 16 in flight", [both("1 thread", 1), both("2 threads", 2)],
             "echo", ["--size", "512", "--depth", "16"] + timed, base="1 thread", targets={"2 threads": 0.95}),
        idle(10000), idle(19000),
        Case("idle-cpu", "CPU of 10,000 idle connections, ping interval 20 s", [own("ours", "either", ["--pings", "20000"])],
             "idle", ["--conns", "10000", "--addresses", "16", "--seconds", HOLD], base=None, figure="cpu_percent_10000",
             lower=True, unit="% of a core", targets={"ours": 0.5}, rounds=1, fresh=True),
    ]
    return [case for case in cases if is_chosen(case.name)]


def is_chosen(name):
    return not CHOSEN or any(name == one or name.startswith(one + "-") for one in CHOSEN)


# ---- measuring

def ask_raw(server):
    """Its calls per message since the last time."""
    server.process.send_signal(signal.SIGUSR1)
    return server.line()


def run_once(case, contender):
    options = contender.options
    if case.fresh:
        server = Server(contender.program, contender.mode, options, contender.core)
    else:
        server = server_for(contender.program, contender.mode, options, contender.core)
    result = load(server, case.mode, case.arguments, contender.load_core)
    if result and case.mode == "posts":
        told = server.line()
        result.update({"posts_per_cpu": told["per_cpu"], "wakeups": told["wakeups"], "posts": told["posts"]})
        if told["posts"] != result["messages"]:
            failures.append("posts: %d accepted, %d came" % (told["posts"], result["messages"]))
    if contender.program == "raw":
        calls = ask_raw(server)
        if result:
            result.update(calls)
    if case.fresh:
        server.end()
    elif not result:
        server.end()
    return result


def measure(cases):
    """{case: {label: [line of each round]}}, servers side by side in rotating order."""
    found = {case.name: {c.label: [] for c in case.contenders} for case in cases}
    for number in range(ROUNDS):
        for case in cases:
            if case.rounds is not None and number >= case.rounds:
                continue
            turn = number % len(case.contenders)
            lines = {c.label: run_once(case, c) for c in case.contenders[turn:] + case.contenders[:turn]}
            for label, line in lines.items():
                found[case.name][label].append(line)
            print("round %d/%d %-16s %s" % (number + 1, ROUNDS, case.name, "  ".join(
                "%s %s" % (c.label, short(lines[c.label][case.figure]) if lines[c.label] else "-")
                for c in case.contenders)), flush=True)
    end_all()
    return found


# ---- figures

def interval(values):
    """Where the median lies with 95 % confidence, by the sign test: order statistics. Fewer than six values: all."""
    ordered = sorted(values)
    count = len(ordered)
    cut = 0
    while cut + 1 <= (count - 1) // 2 and 2 * sum(math.comb(count, i) for i in range(cut + 1)) / 2 ** count <= 0.05:
        cut += 1
    cut = max(cut - 1, 0)
    return ordered[cut], ordered[count - 1 - cut]


def summarize(case, lines):
    """{label: {...}} for one case."""
    base = lines.get(case.base) if case.base else None
    result = {}
    for contender in case.contenders:
        label = contender.label
        mine = [line and line.get(case.figure) for line in lines[label]]
        values = [value for value in mine if value is not None]
        if not values:
            continue
        one = {"median": statistics.median(values), "low": min(values), "high": max(values), "rounds": len(values)}
        if base and label != case.base:
            pairs = [(v, b[case.figure]) for v, b in zip(mine, base) if v is not None and b and b.get(case.figure)]
            ratios = [v / b for v, b in pairs]
            if ratios:
                one["ratio"] = statistics.median(ratios)
                one["from"], one["to"] = interval(ratios)
        target = case.targets.get(label)
        if target is not None:
            one["target"] = target
            reach = one.get("from" if case.lower else "to", one["median"])
            one["met"] = reach <= target if case.lower else reach >= target
        if contender.program == "raw" and lines[label][-1] and "recv" in lines[label][-1]:
            one["recv"], one["send"] = lines[label][-1]["recv"], lines[label][-1]["send"]
        for extra in ("p99_us", "slab", "wakeups", "pongs", "broadcast_s"):
            found = [line[extra] for line in lines[label] if line and extra in line]
            if found:
                one[extra] = statistics.median(found)
        result[label] = one
    return {"text": case.text, "base": case.base, "figure": case.figure, "lower": case.lower, "unit": case.unit,
            "labels": [c.label for c in case.contenders], "results": result}


# ---- a million

def memory(path, name):
    with open(path) as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0


def thread_cpu(pid):
    total = 0
    for thread in os.listdir("/proc/%s/task" % pid):
        with open("/proc/%s/task/%s/schedstat" % (pid, thread)) as file:
            total += int(file.read().split()[0])
    return total / 1e9


def step_all(clients, name):
    """Waits until all clients have reached a phase. False if one failed."""
    for client in clients:
        line = client.stdout.readline()
        if not line:
            failures.append("million: %s: %s" % (name, client.stderr.read().strip()))
            return None
    return True


def go_on(clients):
    for client in clients:
        client.stdin.write("\n")
        client.stdin.flush()


def million():
    """Idle connections over as many processes as the limit of descriptors asks for."""
    import resource
    global runs
    runs += 1
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    each = min(hard - 500, 60000)
    available = memory("/proc/meminfo", "MemAvailable:")
    total = min(MILLION, int(available * 0.8 / 12000))
    count = -(-total // each)
    each = -(-total // count)
    print("million: %d connections to each of %d processes" % (each, count), flush=True)
    slab = memory("/proc/meminfo", "Slab:")
    begun = time.monotonic()
    servers = [Server("ours", "either", ["--pings", "20000"]) for _ in range(count)]
    rss_before = sum(memory("/proc/%s/smaps_rollup" % s.pid, "Rss:") for s in servers)
    clients = []
    for server in servers:
        command = [os.path.join(OUT, "load"), "idle", server.port, "--pid", server.pid, "--conns", str(each), "--addresses",
                   "16", "--seconds", HOLD, "--steps", "--touch", "--verify"]
        clients.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, preexec_fn=pin(1)))
    result = None
    if step_all(clients, "open"):
        opening = time.monotonic() - begun
        rss = sum(memory("/proc/%s/smaps_rollup" % s.pid, "Rss:") for s in servers)
        slab = memory("/proc/meminfo", "Slab:") - slab
        cpu = sum(thread_cpu(s.pid) for s in servers)
        start = time.monotonic()
        go_on(clients)
        if step_all(clients, "held"):
            held = time.monotonic() - start
            cpu = sum(thread_cpu(s.pid) for s in servers) - cpu
            start = time.monotonic()
            go_on(clients)
            if step_all(clients, "broadcast"):
                spread = time.monotonic() - start
                go_on(clients)
                lines = [client.stdout.readline() for client in clients]
                if all(lines):
                    result = {"connections": each * count, "processes": count, "open_s": opening, "held_s": held,
                              "bytes": (rss - rss_before) / (each * count), "bytes_whole": rss / (each * count),
                              "slab_pair": slab / (each * count), "cpu_percent": cpu / held * 100,
                              "broadcast_s": spread, "pongs": sum(json.loads(line)["pongs"] for line in lines)}
    for client in clients:
        client.stdin.close()
        if client.wait() != 0 and result:
            failures.append("million: " + client.stderr.read().strip())
        client.stdout.close()
        client.stderr.close()
    for server in servers:
        server.end()
        if result and server.process.returncode != 0:
            failures.append("million: a server ended with %d" % server.process.returncode)
    return result


# ---- output

def short(value):
    if value >= 1e6:
        return "%.2fM" % (value / 1e6)
    if value >= 1e4:
        return "%.0fk" % (value / 1e3)
    if value >= 1000:
        return "%.2fk" % (value / 1e3)
    return "%.3g" % value


def machine():
    model = "unknown processor"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    model = re.sub(r"\s+|\((R|TM)\)|CPU|@.*", " ", model)
    system = "Linux"
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", system)
    except OSError:
        pass
    return "%d cores of %s, %.0f GiB, Linux %s, %s" % (
        os.cpu_count(), " ".join(model.split()), memory("/proc/meminfo", "MemTotal:") / 2 ** 30,
        ".".join(platform.release().split(".")[:2]), system)


def name_of(label):
    return NAMES.get(label, label)


def cell(one):
    if not one:
        return "-"
    if "ratio" in one:
        return "%.2f (%.2f-%.2f)" % (one["ratio"], one["from"], one["to"])
    return "%s (%s-%s)" % (short(one["median"]), short(one["low"]), short(one["high"]))


def is_wide(case):
    """Cases in which the servers are set against the raw program."""
    return case["base"] == "raw"


def wide_table(cases):
    labels = [label for label in NAMES if any(label in case["results"] for case in cases.values() if is_wide(case))]
    rows = [["case", "raw epoll, per CPU s"] + [name_of(label) for label in labels if label != "raw"] + ["at least"]]
    for case in cases.values():
        if not is_wide(case) or "raw" not in case["results"]:
            continue
        base = case["results"]["raw"]
        text = "%s%s" % (short(base["median"]), " " + case["unit"] if case["unit"] else "")
        row = [case["text"], text] + [cell(case["results"].get(label)) for label in labels if label != "raw"]
        ours = case["results"].get("ours", {})
        row.append("%.2f %s" % (ours["target"], "met" if ours["met"] else "NOT MET") if "target" in ours else "")
        rows.append(row)
    return rows


def narrow_table(cases):
    rows = [["case", "what", "figure", "asked", ""]]
    for case in cases.values():
        if is_wide(case):
            continue
        for label in case["labels"]:
            one = case["results"].get(label)
            if not one:
                continue
            asked = ""
            if "target" in one:
                asked = ("at most " if case["lower"] else "at least ") + short(one["target"])
            figure = "%s %s" % (short(one["median"]), case["unit"])
            if "ratio" in one:
                figure += ", x" + cell(one)
            elif one["rounds"] > 1:
                figure += " (%s-%s)" % (short(one["low"]), short(one["high"]))
            if "wakeups" in one:
                figure += ", %.0f wake-ups" % one["wakeups"]
            met = "" if "met" not in one else "met" if one["met"] else "NOT MET"
            rows.append([case["text"], name_of(label), figure.strip(), asked, met])
    return rows


def plain(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows)


def markdown(rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0])] + lines[1:])


def million_text(one):
    return ("{connections:,} idle connections over {processes} processes: opened in {open_s:.1f} s, {bytes:.0f} B each of the "
            "processes, {slab_pair:,.0f} B of the kernel for both ends, held {held_s:.0f} s with pings every 20 s "
            "({pongs:,} answered) at {cpu_percent:.2f} % of a core, one broadcast to all in {broadcast_s:.2f} s, closed "
            "without error.").format(**one)


def calls_text(cases):
    told = ["%s %.2f recv %.2f send" % (name, case["results"]["raw"]["recv"], case["results"]["raw"]["send"])
            for name, case in cases.items() if name.startswith("echo") and "recv" in case["results"].get("raw", {})]
    return "Calls per message of the raw program: " + ", ".join(told) + "." if told else ""


def write_markdown(path, found):
    cases = found["cases"]
    rounds = sorted({one["rounds"] for case in cases.values() for one in case["results"].values()})
    with open(path, "w") as file:
        file.write("Measured on %s. Server on one core, load on the other, %s rounds side by side. Each cell: median of "
                   "same-round ratios of messages per server CPU second to the raw program (95 %% interval); of times, less is better.\n\n" %
                   (found["machine"], "-".join(str(r) for r in (rounds[:1] + rounds[1:][-1:]))))
        if len(wide_table(cases)) > 1:
            file.write(markdown(wide_table(cases)) + "\n\n")
        if len(narrow_table(cases)) > 1:
            file.write(markdown(narrow_table(cases)) + "\n\n")
        if found.get("million"):
            file.write(million_text(found["million"]) + "\n\n")
        file.write(calls_text(cases) + "\n")


def short_table(cases):
    """The wide table without intervals and without what was asked: for the README of the project."""
    rows = [row[:-1] for row in wide_table(cases)]
    return [[text.split(" (")[0] for text in row] for row in rows]


def write_readme(path, found):
    """Puts the short table between the marks in README.md."""
    begin, end = "<!-- speed: begin -->\n", "<!-- speed: end -->"
    with open(path) as file:
        text = file.read()
    if begin not in text or end not in text:
        failures.append("%s has no marks for the table" % path)
        return
    before, rest = text.split(begin, 1)
    table = markdown(short_table(found["cases"]))
    with open(path, "w") as file:
        file.write(before + begin + table + "\n" + end + rest.split(end, 1)[1])


COLOURS = {"ours": "#1f77b4", "lws": "#d08a1d", "websocketpp": "#8c6bb1", "beast": "#3a9a5b", "ws": "#c0504d"}
GREY = "#7d7d7d"  # readable on white and on black


def write_svg(path, found):
    """Bars: each server's share of the raw program, case by case."""
    cases = [case for case in found["cases"].values() if is_wide(case) and not case["lower"] and "ours" in case["results"]]
    labels = [label for label in COLOURS if any(label in case["results"] for case in cases)]
    left, width, bar, gap, top = 330, 480, 9, 12, 66
    group = len(labels) * bar + gap
    height = top + group * len(cases) + 30
    most = 1.3
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="%s">' %
           (left + width + 60, height, GREY),
           "<title>Messages per server CPU second, as a share of the raw epoll program</title>"]
    out.append('<text x="%d" y="16">Messages per CPU second of the server; 1 is the raw epoll program</text>' % left)
    at = left
    for label in labels:
        out.append('<rect x="%d" y="30" width="10" height="10" fill="%s"/><text x="%d" y="39">%s</text>' %
                   (at, COLOURS[label], at + 14, NAMES[label]))
        at += 22 + 8 * len(NAMES[label])
    for mark in (0.25, 0.5, 0.75, 1.0, 1.25):
        x = left + width * mark / most
        out.append('<line x1="%.0f" x2="%.0f" y1="%d" y2="%d" stroke="%s" stroke-width="%s" opacity="0.5"/>'
                   '<text x="%.0f" y="%d" text-anchor="middle">%s</text>' %
                   (x, x, top - 8, height - 26, GREY, "1.5" if mark == 1 else "0.5", x, height - 10, mark))
    for number, case in enumerate(cases):
        y = top + number * group
        out.append('<text x="%d" y="%d" text-anchor="end">%s</text>' % (left - 8, y + (group - gap) // 2 + 4, case["text"]))
        for place, label in enumerate(labels):
            one = case["results"].get(label)
            if not one or "ratio" not in one:
                continue
            length = width * min(one["ratio"], most) / most
            out.append('<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>' %
                       (left, y + place * bar, max(length, 1), bar - 1, COLOURS[label]))
            out.append('<text x="%.0f" y="%d" font-size="9">%.2f</text>' %
                       (left + length + 4, y + place * bar + bar - 1, one["ratio"]))
    out.append("</svg>")
    with open(path, "w") as file:
        file.write("\n".join(out) + "\n")


def main():
    arguments = set(sys.argv[1:])
    if arguments - {"--save", "--merge", "--again"}:
        sys.exit("usage: run.py [--save] [--merge] [--again]; see README.md beside it")
    kept = os.path.join(OUT, "results.json")
    os.makedirs(OUT, exist_ok=True)
    old = {}
    if arguments & {"--merge", "--again"} and os.path.exists(kept):
        with open(kept) as file:
            old = json.load(file)
    if "--again" in arguments:
        found = old
    else:
        build()
        cases = make_cases()
        for name, why in skipped.items():
            print("skipped: %s: %s" % (NAMES[name], why))
        lines = measure(cases)
        found = {"machine": machine(), "cases": {case.name: summarize(case, lines[case.name]) for case in cases}}
        found["million"] = million() if is_chosen("million") else None
        merge(found, old)
        with open(kept, "w") as file:
            json.dump(found, file, indent=1)
    print()
    for table in (wide_table(found["cases"]), narrow_table(found["cases"])):
        if len(table) > 1:
            print(plain(table) + "\n")
    if found.get("million"):
        print(million_text(found["million"]) + "\n")
    print(calls_text(found["cases"]))
    folders = [OUT] + ([HERE] if "--save" in arguments else [])
    for folder in folders:
        write_markdown(os.path.join(folder, "speed.md"), found)
        write_svg(os.path.join(folder, "speed.svg"), found)
    if "--save" in arguments:
        write_readme(os.path.join(TOP, "README.md"), found)
    for failure in failures:
        print("failed: " + failure)
    print("bench: %d cases, %d runs, %d servers skipped, %d failed" %
          (len(found["cases"]), runs, len(skipped), len(failures)))
    sys.exit(1 if failures else 0)


def merge(found, old):
    """What was not measured now stays as it was."""
    for name, case in old.get("cases", {}).items():
        if name not in found["cases"]:
            found["cases"][name] = case
            continue
        for label, one in case["results"].items():
            found["cases"][name]["results"].setdefault(label, one)
    if not found["million"]:
        found["million"] = old.get("million")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # the servers end too
    try:
        main()
    finally:
        end_all()
