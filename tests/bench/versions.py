"""Sets this header against another version of it: instructions per message under callgrind, and messages per server CPU second
in the same rounds. From the top of the project, with a folder that holds the other wsserver.h:
    git show v0.1.0:wsserver.h > /tmp/before/wsserver.h
    python3 tests/bench/versions.py /tmp/before instructions [CASE ...]    cases of per_message.py
    python3 tests/bench/versions.py /tmp/before cpu [CASE ...]             cases of run.py; BENCH_ROUNDS and the other settings count"""
import os, subprocess, sys

import per_message, run


def build(folder):
    """Our bench server with the other header: before, and before-g for callgrind."""
    os.makedirs(run.OUT, exist_ok=True)
    for name, flags in (("before", []), ("before-g", ["-g"])):
        subprocess.run(run.CC + ["-std=c11"] + run.CFLAGS + flags +
                       ["-I" + folder, os.path.join(run.HERE, "ours.c"), "-o", os.path.join(run.OUT, name), "-pthread"], check=True)


def instructions(names):
    per_message.build()
    print("%-14s %9s %9s %6s" % ("per message", "before", "now", "ratio"))
    for name in names or list(per_message.CASES):
        mode, arguments = per_message.CASES[name]
        mode = "typed" if name == "typed" else mode
        before, now = (per_message.each(program, mode, arguments)[0] for program in ("before", "ours"))
        print("%-14s %9.1f %9.1f %6.3f" % (name, before, now, now / before), flush=True)


def pairs(cases):
    """Each row of ours as a case of its own, with the other version as its base."""
    for case in cases:
        for ours in [c for c in case.contenders if c.program == "ours"]:
            name = case.name if ours.label == "ours" else case.name + " " + ours.label
            both = [run.Contender(label, program, ours.mode, ours.options, ours.core, ours.load_core)
                    for label, program in (("before", "before"), ("now", "ours"))]
            yield run.Case(name, case.text, both, case.mode, case.arguments, base="before", figure=case.figure,
                           lower=case.lower, unit=case.unit, rounds=case.rounds, fresh=case.fresh)


def cpu(names):
    run.CHOSEN[:] = names
    run.SERVERS[:] = ["ours"]
    run.build()
    cases = list(pairs(run.make_cases()))
    found = run.measure(cases)
    print("%-26s %10s %10s  ratio, median (95 %%)" % ("", "before", "now"))
    for case in cases:
        results = run.summarize(case, found[case.name])["results"]
        print("%-26s %10s %10s  %s" % (case.name, run.short(results["before"]["median"]), run.short(results["now"]["median"]),
                                       run.cell(results["now"])))
    for failure in run.failures:
        print("FAILED " + failure)


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[2] not in ("instructions", "cpu"):
        sys.exit(__doc__)
    build(sys.argv[1])
    {"instructions": instructions, "cpu": cpu}[sys.argv[2]](sys.argv[3:])
