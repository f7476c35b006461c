"""mutate.py: the mutation check. Draws small faults over the whole header, builds every test program once with all of them
inside, wakes one at a time and counts how many the tests notice. Run through run.sh, from the top of the project."""

import collections
import concurrent.futures
import glob
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time

SEED = "wsserver"
PART = float(os.environ.get("MUTATE_PART", "0.05"))  # of the places of each room
LEAST = 300  # mutants
WANTED = 90.0  # per cent killed
LOST_AFTER = 20  # seconds without an end, on top of ten times what the tests take
CPU_SECONDS = 5  # likewise, of a processor
SLOW_TEST = 1000  # milliseconds of a processor: such a test is asked about its own room only
SWEEPS = ("sim/allocations", "sim/faults", "sim/pieces", "sim/lives")  # not asked: each takes as long as all others
SPACE = 8 << 30
MUTANTS_MAX = 1 << 14

CC = os.environ.get("CC", "cc")
JOBS = int(os.environ.get("JOBS") or 2)
ONLY = os.environ.get("MUTATE_ONLY", "").split()  # names of rooms, or keys of mutants: no others
PROGRAMS = os.environ.get("MUTATE_PROGRAMS", "").split()  # tests that are asked, as unit/http; none: all
HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = "build/mutate"
LIBRARY = BUILD + "/library.o"
FLAGS = ["-std=c11", "-D_GNU_SOURCE=1", "-w", "-pthread", "-include", os.path.join(HERE, "mutant.h")]
# What would be a mistake of types is no mutant: the compiler would have told.
STRICT = ["-Werror=int-conversion", "-Werror=incompatible-pointer-types", "-Werror=return-type"]

# ---- the header as C ----------------------------------------------------------------------------------------------------

TOKEN = re.compile(
    r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|[A-Za-z_]\w*|0[xX][0-9a-fA-F]+[uUlL]*|\d+[uUlL]*|'
    r"->|\+\+|--|<<=|>>=|<=|>=|==|!=|&&|\|\||<<|>>|[-+*/%&|^]=|\.\.\.|\S")
WORD = re.compile(r"[A-Za-z_]\w*$")
OPENING = {"(": ")", "[": "]", "{": "}"}
ROOM = re.compile(r"^/\* ---- \[(\w+)\]", re.M)

Token = collections.namedtuple("Token", "text start end")
# A piece of code that has one or more mutants: text from start to end, a statement or an expression.
Slot = collections.namedtuple("Slot", "kind start end tokens function guarded")


def blank(text):
    return re.sub(r"[^\n]", " ", text)


def strip(source):
    """The source with comments and preprocessor lines blank, and where the latter stand."""
    pattern = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|/\*.*?\*/|//[^\n]*', re.S)
    source = pattern.sub(lambda m: m[0] if m[0][0] in "\"'" else blank(m[0]), source)
    source = re.sub(r'(?ms)^#ifdef __cplusplus\n.*?^#endif', lambda m: blank(m[0]), source)
    places = []

    def directive(match):
        places.append(match.start())
        return blank(match[0])

    return re.sub(r"(?m)^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", directive, source), places


class Parser:
    """Finds the slots in the bodies of functions. Understands C as far as the header uses it."""

    def __init__(self, source):
        self.source, self.directives = strip(source)
        self.tokens = [Token(m[0], m.start(), m.end()) for m in TOKEN.finditer(self.source)]
        self.partner = self.match_brackets()
        self.slots = []
        self.function = ""

    def match_brackets(self):
        partner, stack = {}, []
        for i, token in enumerate(self.tokens):
            if token.text in OPENING:
                stack.append(i)
            elif token.text in OPENING.values():
                opening = stack.pop()
                if OPENING[self.tokens[opening].text] != token.text:
                    raise SystemExit("mutate: brackets do not match near " + self.source[token.start - 80:token.end])
                partner[opening], partner[i] = i, opening
        return partner

    def text(self, i):
        return self.tokens[i].text if i < len(self.tokens) else ""

    def parse(self):
        i = 0
        while i < len(self.tokens):
            if self.text(i) != "{":
                i += 1
                continue
            if i and self.text(i - 1) == ")":
                self.function = self.text(self.partner[i - 1] - 1)
                self.block(i)
            i = self.partner[i] + 1
        return self.slots

    def block(self, i):
        end = self.partner[i]
        i += 1
        while i < end:
            i = self.statement(i, False)
        return end + 1

    def until(self, i, what):
        """The first token of this text that stands in no bracket opened after i."""
        while self.text(i) != what:
            i = self.partner[i] + 1 if self.text(i) in OPENING else i + 1
        return i

    def statement(self, i, guarded):
        """guarded: this is all that an if, or an else, does. Returns the index behind the statement."""
        first = self.text(i)
        if first == "{":
            return self.block(i) if self.lone(i) is None else self.guard_block(i, guarded)
        if first == ";":
            return i + 1
        if first in ("if", "while", "switch", "for"):
            return self.control(i, first)
        if first == "else":
            return self.statement(i + 1, True)
        if first == "do":
            i = self.statement(i + 1, False)
            self.expression(i + 2, self.partner[i + 1])
            return self.partner[i + 1] + 2
        if first == "case":
            return self.until(i, ":") + 1
        if first == "default" or (self.text(i + 1) == ":" and WORD.match(first)):
            return i + 2
        if WORD.match(first) and first.isupper() and self.text(i + 1) == "(" and self.text(self.partner[i + 1] + 1) in (
                "case", "default", "}"):
            return self.partner[i + 1] + 1  # a table of cases
        end = self.until(i, ";")
        self.simple(i, end, guarded)
        return end + 1

    def lone(self, i):
        """The end of the only statement of a block, if it is a simple one."""
        end = self.partner[i]
        if i + 1 == end or self.text(i + 1) in ("{", "if", "while", "switch", "for", "do", "case", "default"):
            return None
        stop = self.until(i + 1, ";")
        return stop if stop + 1 == end else None

    def guard_block(self, i, guarded):
        self.statement(i + 1, guarded)
        return self.partner[i] + 1

    def control(self, i, kind):
        close = self.partner[i + 1]
        if kind == "for":
            first = self.until(i + 2, ";")
            second = self.until(first + 1, ";")
            if first > i + 2:
                self.simple_in_for(i + 2, first)
            self.expression(first + 1, second)
            self.expression(second + 1, close)
        else:
            self.expression(i + 2, close, kind == "if")
        i = self.statement(close + 1, kind == "if")
        if kind == "if" and self.text(i) == "else":
            i = self.statement(i + 1, self.text(i + 1) != "if")
        return i

    def is_declaration(self, i, end):
        words = [t.text for t in self.tokens[i:end]]
        if words[0] in ("const", "static", "struct", "union", "enum", "unsigned", "int", "char", "typedef", "extern"):
            return True
        at = 1
        while at < len(words) and words[at] in ("*", "const"):
            at += 1
        return bool(WORD.match(words[0]) and at < len(words) and WORD.match(words[at]) and words[0] not in (
            "return", "goto", "sizeof"))

    def initializer(self, i, end):
        equals = [k for k in range(i, end) if self.text(k) == "=" and k == self.until(i, "=")] \
            if any(self.text(k) == "=" for k in range(i, end)) else []
        if not equals or self.text(i) == "static" or self.text(equals[0] + 1) == "{":
            return
        k = i
        while k < end and self.text(k) != ",":
            k = self.partner[k] + 1 if self.text(k) in OPENING else k + 1
        if k >= end:
            self.expression(equals[0] + 1, end)

    def simple_in_for(self, i, end):
        if self.is_declaration(i, end):
            self.initializer(i, end)
        else:
            self.expression(i, end)

    def simple(self, i, end, guarded):
        """A statement that ends at the semicolon at index end."""
        first = self.text(i)
        if self.is_declaration(i, end):
            self.initializer(i, end)
        elif first == "return" and not guarded:
            if end > i + 1:
                self.expression(i + 1, end)
        elif not (first == "(" and self.text(i + 1) == "void" and end == i + 4):
            self.add("statement", i, end, guarded)

    def expression(self, i, end, negatable=False):
        if end > i:
            self.add("condition" if negatable else "expression", i, end, False)

    def add(self, kind, i, end, guarded):
        start = self.tokens[i].start
        stop = self.tokens[end].end if kind == "statement" else self.tokens[end - 1].end
        if any(start <= place < stop for place in self.directives) or self.text(i) == "wss__log_line":
            return
        self.slots.append(Slot(kind, start, stop, self.tokens[i:end], self.function, guarded))


# ---- mutants ------------------------------------------------------------------------------------------------------------

COMPARE = {"<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",), "!=": ("==",)}
SWAP = {"&&": "||", "||": "&&", "+=": "-=", "-=": "+=", "++": "--", "--": "++"}
TYPES = ("char", "unsigned", "int", "long", "const", "size_t", "uint8_t", "uint16_t", "uint32_t", "uint64_t", "int64_t")
UNTOUCHED = re.compile(r"wss__log_line|snprintf|sizeof|__attribute__|__builtin_expect")


class Mutant:
    def __init__(self, slot, room, line, kind, place, original, text):
        self.slot, self.room, self.line, self.kind = slot, room, line, kind
        self.place, self.original, self.text = place, original, text
        self.number = -1
        self.tests = []
        self.killer = None
        self.key = ""


def digest(*parts):
    return hashlib.sha256("\0".join([SEED, *map(str, parts)]).encode()).hexdigest()


def number_variants(text):
    suffix = re.search(r"[uUlL]*$", text)[0] if not text.startswith("'") else ""
    if text.startswith("'"):
        return ["(%s + 1)" % text, "(%s - 1)" % text]
    value = int(text[:len(text) - len(suffix)], 16 if text[:2] in ("0x", "0X") else 8 if re.match(r"0[0-7]", text) else 10)
    if value == 1:
        return ["0" + suffix]  # 2 is as true as 1
    form = "0x%x" if text[:2] in ("0x", "0X") else "%d"
    return [form % (value + 1) + suffix] + ([form % (value - 1) + suffix] if value else [])


def ends_cast(tokens, i):
    """True if the tokens before number i are a type in brackets."""
    words = []
    while i and tokens[i - 1].text in (")", "*") + TYPES:
        i -= 1
        words.append(tokens[i].text)
    return i > 0 and tokens[i - 1].text == "(" and bool(set(words) & set(TYPES))


def edits(slot):
    """Every place of a slot that can be mutated: kind, index of the token (-1: the whole), variants of it."""
    tokens = slot.tokens
    if slot.kind == "statement":
        yield "delete", -1, [None]
    if slot.kind == "condition":
        yield "negate", -1, ["!(%s)"]
    skip_to = -1
    for i, token in enumerate(tokens):
        before = tokens[i - 1].text if i else ""
        if i < skip_to:
            continue
        if UNTOUCHED.match(token.text):
            depth = 0
            for j in range(i + 1, len(tokens)):
                depth += (tokens[j].text == "(") - (tokens[j].text == ")")
                if depth == 0:
                    break
            skip_to = j + 1 if i + 1 < len(tokens) and tokens[i + 1].text == "(" else i + 1
        elif token.text in COMPARE:
            yield "compare", i, list(COMPARE[token.text])
        elif token.text in SWAP:
            yield "logic" if token.text in ("&&", "||") else "arithmetic", i, [SWAP[token.text]]
        elif token.text in "+-" and re.match(r"\w|[)\]'\"]", before) and before != "return" and not ends_cast(tokens, i):
            yield "arithmetic", i, ["-" if token.text == "+" else "+"]
        elif token.text == "!":
            yield "negate", i, [""]
        elif re.match(r"\d|'", token.text):
            yield "constant", i, number_variants(token.text)


def rewrite(source, slot, place, variant):
    """The slot's text with one place changed, on one line."""
    start = slot.tokens[0].start
    stop = slot.tokens[-1].end
    text = source[start:stop]
    if place >= 0:
        token = slot.tokens[place]
        text = source[start:token.start] + variant + source[token.end:stop]
    elif variant:
        text = variant % text
    else:
        text = ""
    return re.sub(r"\s+", " ", text)


def find_mutants(source):
    parser = Parser(source)
    slots = parser.parse()
    plain = parser.source
    rooms = [(m.start(), m[1]) for m in ROOM.finditer(source)]
    mutants, seen = [], collections.Counter()
    for slot in slots:
        room = [name for start, name in rooms if start <= slot.start][-1]
        line = source.count("\n", 0, slot.start) + 1
        original = re.sub(r"\s+", " ", plain[slot.start:slot.end])
        for kind, place, variants in edits(slot):
            identity = (room, slot.function, original, kind, place)
            seen[identity] += 1
            key = digest(*identity, seen[identity])
            variant = variants[int(key[-8:], 16) % len(variants)]
            at = slot.tokens[place].start if place >= 0 else slot.start
            mutant = Mutant(slot, room, source.count("\n", 0, at) + 1 if place >= 0 else line, kind, place, original,
                            rewrite(plain, slot, place, variant))
            mutant.key = key[:10]
            mutants.append(mutant)
    for number, mutant in enumerate(mutants):
        mutant.number = number
    return mutants


def with_mutants(source, mutants):
    """The header with these mutants in it; each stands on a line of its own. Returns text and line -> mutant."""
    by_slot = collections.OrderedDict()
    for mutant in mutants:
        by_slot.setdefault(mutant.slot.start, []).append(mutant)
    parser_source = strip(source)[0]
    out, at, lines, line = [], 0, {}, 1
    for start in sorted(by_slot):
        group = by_slot[start]
        slot = group[0].slot
        original = re.sub(r"\s+", " ", parser_source[slot.start:slot.end])
        pieces = []
        for mutant in group:
            if slot.kind == "statement":
                pieces.append("\nif (WSS__MUTANT(%d)) { %s; } else " % (mutant.number, mutant.text))
            else:
                pieces.append("\nWSS__MUTANT(%d) ? (%s) : " % (mutant.number, mutant.text))
        code = "{ %s \n%s }" % ("".join(pieces), original) if slot.kind == "statement" else "(%s \n(%s))" % (
            "".join(pieces), original)
        before = source[at:start]
        line += before.count("\n")
        for k, mutant in enumerate(group):
            lines.setdefault(line + 1 + k, []).append(mutant)
        lines.setdefault(line, []).extend(group)
        lines.setdefault(line + 1 + len(group), []).extend(group)
        line += code.count("\n")
        out.append(before + code)
        at = slot.end
    return "".join(out) + source[at:], lines


def compiles(source, mutants):
    """Drops the mutants that are not built here, and those that are no C."""
    path = os.path.join(BUILD, "all.h")
    unit = os.path.join(BUILD, "all.c")
    with open(unit, "w") as file:
        file.write('#define WSSERVER_STATIC\n#define WSSERVER_IMPLEMENTATION\n#include "all.h"\n')
    while True:
        text, lines = with_mutants(source, mutants)
        with open(path, "w") as file:
            file.write(text)
        flags = FLAGS + STRICT + ["-DWSS__MUTANTS=%d" % MUTANTS_MAX]
        found = subprocess.run([CC, "-E", "-std=c11", "-D_GNU_SOURCE=1", unit], capture_output=True, text=True).stdout
        present = set(map(int, re.findall(r"WSS__MUTANT\((\d+)\)", found)))
        if len(present) < len(mutants):
            mutants = [m for m in mutants if m.number in present]
            continue
        errors = subprocess.run([CC, *flags, "-fsyntax-only", "-fmax-errors=0" if "clang" not in CC else "-ferror-limit=0",
                                 unit], capture_output=True, text=True).stderr
        wrong = [int(n) for n in re.findall(r"all\.h:(\d+):\d+: (?:fatal )?error", errors)]
        if not wrong:
            if "error" in errors:
                raise SystemExit("mutate: cannot compile\n" + errors)
            return mutants
        bad = set()
        for number in wrong:
            if number not in lines:
                raise SystemExit("mutate: cannot compile line %d\n%s" % (number, errors))
            bad.update(m.number for m in lines[number])
        mutants = [m for m in mutants if m.number not in bad]


def draw(mutants):
    """The same share of each room, by hash: what is drawn of one function does not depend on the others' text."""
    rooms = collections.OrderedDict()
    for mutant in mutants:
        rooms.setdefault(mutant.room, []).append(mutant)
    drawn = []
    for room, candidates in rooms.items():
        candidates = sorted(candidates, key=lambda m: m.key)[:max(1, round(len(candidates) * PART))]
        drawn += [m for m in candidates if not ONLY or room in ONLY or m.key in ONLY]
    drawn.sort(key=lambda m: (m.slot.start, m.place))
    for number, mutant in enumerate(drawn):
        mutant.number = number
    return drawn, rooms


# ---- running ------------------------------------------------------------------------------------------------------------

Test = collections.namedtuple("Test", "program name cpu wall mutants")


def build_tree(source, drawn):
    """A copy of the tests beside the header with the mutants; a test ends at its first failed check."""
    tree = os.path.join(BUILD, "tree")
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree("tests", os.path.join(tree, "tests"))
    with open(os.path.join(tree, "wsserver.h"), "w") as file:
        file.write(with_mutants(source, drawn)[0])
    path = os.path.join(tree, "tests/test.h")
    with open(path) as file:
        text = file.read()
    run = "(test_broken = 0, test(), test_count(#test))"
    if run not in text or "test_broken++;" not in text:
        raise SystemExit("mutate: tests/test.h is not as it was; RUN or CHECK changed")
    text = text.replace("test_broken++;", "test_broken++, fflush(stdout), _exit(1);")
    text = text.replace(run, "(void)(wss__mutant_wants(#test) && (test_broken = 0, test(), wss__mutant_done(#test), "
                             "test_count(#test), 1))")
    with open(path, "w") as file:
        file.write(text)
    return tree


def programs():
    paths = sorted(glob.glob("tests/unit/*.c") + glob.glob("tests/e2e/*.c") + glob.glob("tests/sim/*.c"))
    found = []
    for path in paths:
        with open(path) as file:
            text = file.read()
        name = path[len("tests/"):-len(".c")]
        if name in SWEEPS or (PROGRAMS and name not in PROGRAMS):
            continue
        if "RUN(" in text and re.search(r"^int main\(", text, re.M):
            found.append(name)
    return found


def program_path(name):
    return os.path.join(BUILD, name.replace("/", "-"))


def compiles_all(name):
    """Whether a test brings the library with it: see tests/library.h."""
    with open("tests/%s.c" % name) as file:
        return '"../../wsserver.h"' in file.read()


def build_library(tree, count):
    """The library with the mutants, once for all tests that are linked with it."""
    for name, variables in (("declared.h", []), ("exported.h", ["-v", "export=1"])):
        with open(os.path.join(BUILD, name), "w") as file:
            subprocess.run(["awk", *variables, "-f", "tests/declare.awk", os.path.join(tree, "wsserver.h")], stdout=file,
                           check=True)
    done = subprocess.run([CC, *FLAGS, "-O1", "-I" + BUILD, "-DWSS__MUTANTS=%d" % max(1, count), "-c",
                           os.path.join(tree, "tests/library.c"), "-o", LIBRARY], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit("mutate: cannot build the library\n%s" % done.stderr[:1000])


def stamp(tree, name):
    """Changes when a program, what it includes, or how it is built does."""
    paths = glob.glob(os.path.join(tree, "*.h")) + glob.glob(os.path.join(tree, "tests", "**", "*.h"), recursive=True)
    texts = [" ".join([CC, *FLAGS])]
    for path in [*sorted(paths), os.path.join(HERE, "mutant.h"), os.path.join(tree, "tests", name + ".c")]:
        with open(path) as file:
            texts.append(file.read())
    return digest(*texts)


def compile_program(tree, name, count):
    """Builds a program, unless it is there as it would become. A message, where it cannot be built."""
    known = program_path(name) + ".stamp"
    now = stamp(tree, name)
    if os.path.exists(known):
        with open(known) as file:
            if file.read() == now:
                return None
        os.remove(known)
    linked = [] if compiles_all(name) else ["-DTEST_LINKED", "-I" + BUILD, LIBRARY]
    done = subprocess.run([CC, *FLAGS, "-O1", "-DWSS__MUTANTS=%d" % max(1, count), os.path.join(tree, "tests", name + ".c"),
                           *linked, "-o", program_path(name)],
                          capture_output=True, text=True)
    if done.returncode:
        return "mutate: cannot build %s\n%s" % (name, done.stderr[:1000])
    with open(known, "w") as file:
        file.write(now)
    if os.path.exists(program_path(name) + ".seen"):
        os.remove(program_path(name) + ".seen")
    return None


def execute(name, limit, **variables):
    """The exit status of a program; None: it did not end in time."""
    environment = dict(os.environ, WSS_MUTANT_CORE="0", WSS_MUTANT_SPACE=str(SPACE), **variables)
    process = subprocess.Popen([program_path(name)], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
                               start_new_session=True)
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def survey_with(name, path, only):
    """Runs a program, or one test of it, without a mutant, and notes what it comes across. Its exit status."""
    variables = {"WSS_MUTANT_TESTS": " %s " % only} if only else {}
    return execute(name, 600, WSS_MUTANT_SEEN=path, **variables)


def survey(name):
    """The tests of a program, what they take, and which mutants they come across. Each must pass alone; where one needs what
    those before it left, the program counts as one test without a name."""
    path = os.path.abspath(program_path(name) + ".seen")  # a test may go to another folder
    whole = path + ".whole"
    if not os.path.exists(path):
        with open("tests/%s.c" % name) as file:
            names = sorted(set(re.findall(r"\bRUN\((\w+)\)", file.read())))
        for old in (path + ".new", whole):
            if os.path.exists(old):
                os.remove(old)
        if any(survey_with(name, path + ".new", test) != 0 for test in names):
            if os.path.exists(path + ".new"):
                os.remove(path + ".new")
            status = survey_with(name, path + ".new", None)
            if status != 0:
                return "mutate: %s fails without a mutant, exit status %s" % (name, status)
            open(whole, "w").close()
        os.rename(path + ".new", path)
    tests = []
    with open(path) as file:
        for line in file:
            words = line.split()
            tests.append(Test(name, words[0], int(words[1]), int(words[2]), set(map(int, words[3:]))))
    if os.path.exists(whole):
        return [Test(name, "", sum(t.cpu for t in tests), sum(t.wall for t in tests), set().union(*(t.mutants for t in tests)))]
    return tests


def parallel(function, items):
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        return list(pool.map(function, items))


def cost(tests):
    return sum(t.cpu + t.wall for t in tests)


def batches(mutant):
    """The tests that come across a mutant, as runs of one program each: those of its own room first, quick ones first."""
    quick, slow = collections.defaultdict(list), []
    own = "unit/" + mutant.room
    for test in mutant.tests:
        if max(test.cpu, test.wall) < 100:
            quick[test.program].append(test)
        elif test.cpu < SLOW_TEST or test.program == own:
            slow.append([test])
    return sorted([*quick.values(), *slow],
                  key=lambda run: (run[0].program != own or cost(run) > 500, cost(run)))


def try_mutant(mutant):
    for run in batches(mutant):
        seconds = sum(t.wall for t in run) / 1000
        variables = {"WSS_MUTANT": str(mutant.number), "WSS_MUTANT_CPU": str(int(CPU_SECONDS + seconds * 6))}
        if run[0].name:
            variables["WSS_MUTANT_TESTS"] = " %s " % " ".join(t.name for t in run)
        status = execute(run[0].program, LOST_AFTER + seconds * 10, **variables)
        if status != 0:
            mutant.killer = "%s %s" % (run[0].program, "hangs" if status is None else status)
            return
    with open(os.path.join(BUILD, "alive.txt"), "a") as file:
        file.write(describe(mutant) + "    %d ms of tests\n" % sum(t.wall for t in mutant.tests))


# ---- the report ---------------------------------------------------------------------------------------------------------

def reviewed():
    """Key -> why that mutant changes nothing that a test could see."""
    reasons = {}
    with open(os.path.join(HERE, "reviewed.txt")) as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                key, reason = line.split(None, 1)
                reasons[key] = reason.strip()
    return reasons


def describe(mutant):
    text = mutant.text if mutant.text else "(deleted)"
    return "%s wsserver.h:%d [%s] %s, %s\n    was: %s\n    now: %s\n" % (
        mutant.key, mutant.line, mutant.room, mutant.slot.function, mutant.kind, mutant.original, text)


def report(drawn, rooms, seconds):
    reasons = reviewed()
    survivors = [m for m in drawn if not m.killer]
    known = [m for m in survivors if m.key in reasons]
    with open("build/mutate.txt", "w") as file:
        for mutant in survivors:
            file.write(describe(mutant))
            if mutant.key in reasons:
                file.write("    reviewed: %s\n" % reasons[mutant.key])
            else:
                file.write("    %s\n" % ("reached by " + ", ".join(sorted({t.program for t in mutant.tests}))
                                         if mutant.tests else "no test comes across it"))
    with open(os.path.join(BUILD, "killed.txt"), "w") as file:
        for mutant in drawn:
            if mutant.killer:
                file.write(describe(mutant) + "    killed by %s\n" % mutant.killer)
    print("%-10s %9s %8s %8s %9s" % ("room", "places", "mutants", "killed", "survived"))
    for room, candidates in rooms.items():
        mine = [m for m in drawn if m.room == room]
        left = sum(1 for m in mine if not m.killer)
        if mine:
            print("%-10s %9d %8d %8d %9d" % (room, len(candidates), len(mine), len(mine) - left, left))
    stale = set(reasons) - {m.key for m in survivors}
    if stale and not ONLY and not PROGRAMS and "MUTATE_PART" not in os.environ:
        print("note: tests/mutate/reviewed.txt names mutants that do not survive here: " + " ".join(sorted(stale)))
    killed = len(drawn) - len(survivors)
    share = 100.0 * killed / max(1, len(drawn))
    print("survivors are listed in build/mutate.txt; %d of them are reviewed, %d are met by no test; %d seconds" % (
        len(known), sum(1 for m in survivors if not m.tests), seconds))
    print("mutate: %d mutants, %d killed (%.1f %%), %d survived" % (len(drawn), killed, share, len(survivors)))
    if not ONLY and len(drawn) < LEAST:
        raise SystemExit("mutate: fewer than %d mutants" % LEAST)
    if not ONLY and not PROGRAMS and share < WANTED:
        raise SystemExit("mutate: fewer than %.0f %% killed" % WANTED)


def main():
    begun = time.time()
    os.makedirs(BUILD, exist_ok=True)
    open(os.path.join(BUILD, "alive.txt"), "w").close()  # survivors as they are found
    with open("wsserver.h") as file:
        source = file.read()
    drawn, rooms = draw(compiles(source, find_mutants(source)))
    print("drawn: %d mutants of %d places" % (len(drawn), sum(map(len, rooms.values()))), flush=True)
    tree = build_tree(source, drawn)
    build_library(tree, len(drawn))
    names = programs()
    broken = [b for b in parallel(lambda name: compile_program(tree, name, len(drawn)), names) if b]
    names = [name for name in names if not any(b.startswith("mutate: cannot build %s\n" % name) for b in broken)]
    print("built: %d test programs, %d seconds" % (len(names), time.time() - begun), flush=True)
    for tests in parallel(survey, names):
        if isinstance(tests, str):
            broken.append(tests)
            continue
        for test in tests:
            for number in test.mutants:
                drawn[number].tests.append(test)
    print("surveyed: %d seconds" % (time.time() - begun), flush=True)
    parallel(try_mutant, sorted(drawn, key=lambda m: -cost(m.tests)))
    for message in broken:
        print(message)
    report(drawn, rooms, time.time() - begun)
    if broken:
        raise SystemExit("mutate: %d test programs could not be asked" % len(broken))


main()
