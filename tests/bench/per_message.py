"""User-space instructions per message of the raw program and of our server under callgrind, and where ours are spent: no
noise touches them. From the top of the project: python3 tests/bench/per_message.py [CASE ...]"""
import json, os, re, shutil, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
OUT = os.path.join(TOP, "build", "bench")
PROFILE = os.path.join(OUT, "callgrind.out")

CASES = {
    "echo-20": ("echo", ["echo", "--size", "20"]),
    "echo-512x16": ("echo", ["echo", "--size", "512", "--depth", "16"]),
    "typed": ("echo", ["echo", "--size", "200", "--kind", "json"]),
    "broadcast-1": ("broadcast", ["broadcast", "--size", "64", "--conns", "1000"]),
    "broadcast-16": ("broadcast", ["broadcast", "--size", "64", "--conns", "1000", "--burst", "16"]),
    "broadcast-64": ("broadcast", ["broadcast", "--size", "64", "--conns", "1000", "--burst", "64"]),
    "chat-200": ("chat", ["chat", "--size", "64", "--conns", "200"]),
    "churn": ("echo", ["churn", "--addresses", "64"]),
}


def build():
    os.makedirs(OUT, exist_ok=True)
    for name in ("load", "raw", "ours"):
        subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-O2", "-g", "-I" + TOP, os.path.join(HERE, name + ".c"), "-o",
                        os.path.join(OUT, name + "-g"), "-pthread"], check=True)


def count(program, mode, arguments, seconds):
    """Messages, and instructions of the server's whole life."""
    server = subprocess.Popen(["valgrind", "--tool=callgrind", "--callgrind-out-file=" + PROFILE,
                               os.path.join(OUT, program + "-g"), mode, "0"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
    try:
        port = server.stdout.readline().split()[1]
        line = subprocess.run([os.path.join(OUT, "load-g"), arguments[0], port, "--warmup", "0", "--seconds", str(seconds)] +
                              arguments[1:], stdout=subprocess.PIPE, check=True, text=True, timeout=100).stdout
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()
    with open(PROFILE) as file:
        found = re.search(r"^(?:totals|summary): (\d+)", file.read(), re.M)
    return json.loads(line)["messages"], int(found.group(1))


def each(program, mode, arguments):
    """Instructions for one message, and how many messages the last profile has. The difference of a long and a short run leaves
    out what opening the connections took, where that is not what is measured."""
    few = count(program, mode, arguments, 0.5)
    many = count(program, mode, arguments, 3)
    return (many[1] - few[1]) / (many[0] - few[0]) if many[0] > few[0] else 0, many[0]


def dearest(messages):
    """Functions of the last profile, their own instructions per message."""
    text = subprocess.run(["callgrind_annotate", PROFILE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    rows = re.findall(r"^ *([\d,]+) \([^)]*\)  \S*?:(\w\S*)", text, re.M)
    return ", ".join("%s %.0f" % (name, int(number.replace(",", "")) / messages) for number, name in rows[:10])


def main():
    names = sys.argv[1:] or list(CASES)
    if not shutil.which("valgrind"):
        print("per message: skipped: valgrind is not installed")
        return
    build()
    for name in names:
        mode, arguments = CASES[name]
        per = {}
        for program in ("raw", "ours"):
            kind = "typed" if name == "typed" and program == "ours" else mode
            per[program], messages = each(program, kind, arguments)
        print("%-13s raw %7.0f  ours %7.0f   %s" % (name, per["raw"], per["ours"], dearest(messages)), flush=True)
    print("per message: %d cases" % len(names))


if __name__ == "__main__":
    main()
