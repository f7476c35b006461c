"""Unites gcovr's tracefiles and lists what none of them reached in wsserver.h.

usage: report.py UNMARKED MARKED TRACE...
UNMARKED and MARKED are traces of one program, without and with what the header's marks leave out:
    /* never: why */      on a line that cannot be reached
    /* always: why */     on a line some of whose branches cannot be taken
    /* elsewhere: why */  on a line for other processors than this one
The last line has the figures. Fails below 100 % of lines, 97 % of branches, or where marks leave out more than 1 %.
"""
import json
import sys

HEADER = "wsserver.h"
LINES_WANTED, BRANCHES_WANTED, MARKED_MOST = 100.0, 97.0, 1.0


def read(path):
    """Line number -> (count, counts of its branches)."""
    with open(path, encoding="utf-8") as file:
        files = json.load(file)["files"]
    lines = {}
    for entry in files:
        if entry["file"].split("/")[-1] != HEADER:
            continue
        for line in entry["lines"]:
            if not line["gcovr/noncode"]:
                lines[line["line_number"]] = (line["count"], [branch["count"] for branch in line["branches"]])
    if not lines:
        sys.exit(f"{path}: nothing about {HEADER}")
    return lines


def unite(paths):
    """The sum over all traces, and the lines on which they do not know the same branches.

    Branches are told apart by their place in the line. A program in which a limit has become a constant may know fewer:
    then nobody can say which they are, and only the programs that know the most are counted."""
    total, unequal = {}, set()
    for path in paths:
        for number, (count, branches) in read(path).items():
            known, sums = total.get(number, (0, branches[:0]))
            if number in total and len(sums) != len(branches):
                unequal.add(number)
            if number not in total or len(branches) > len(sums):
                sums = branches
            elif len(branches) == len(sums):
                sums = [a + b for a, b in zip(sums, branches)]
            total[number] = (known + count, sums)
    return total, unequal


def percent(part, whole):
    return 100.0 * part / whole if whole else 100.0


def branch_count(lines):
    return sum(len(branches) for _, branches in lines.values())


def main(unmarked_path, marked_path, *paths):
    with open(HEADER, encoding="utf-8") as file:
        source = file.read().split("\n")
    total, unequal = unite(paths)

    print(f"{HEADER}: lines that no test reaches, and branches that no test takes (+ taken, - not), with their text")
    for number in sorted(total):
        count, branches = total[number]
        signs = "".join("+" if taken else "-" for taken in branches) if count else "line"
        if not count or "-" in signs:
            print(f"{number:6} {signs:10} {source[number - 1].strip()}")
    for number in sorted(unequal):
        print(f"{number:6} not the same branches in every program: {source[number - 1].strip()}")

    unmarked, marked = read(unmarked_path), read(marked_path)
    left_out = [number for number in unmarked if number not in marked]
    elsewhere = [number for number in left_out if "/* elsewhere: " in source[number - 1]]
    never = len(left_out) - len(elsewhere)
    other_branches = sum(len(unmarked[number][1]) for number in elsewhere)
    branches_out = branch_count(unmarked) - branch_count(marked) - other_branches

    lines = len(total)
    lines_reached = sum(1 for count, _ in total.values() if count)
    branches = branch_count(total)
    branches_taken = sum(1 for _, counts in total.values() for taken in counts if taken)
    if elsewhere:
        print(f"for other processors: {len(elsewhere)} lines, {other_branches} branches")
    print(f"coverage: lines {percent(lines_reached, lines):.2f} % ({lines_reached} of {lines}), "
          f"branches {percent(branches_taken, branches):.2f} % ({branches_taken} of {branches}), "
          f"excluded {never} lines, {branches_out} branches")
    good = (percent(lines_reached, lines) >= LINES_WANTED and percent(branches_taken, branches) >= BRANCHES_WANTED
            and percent(never, len(unmarked)) <= MARKED_MOST)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
