#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks of the tree that need no compiler: lint.py [ROOT]. One line a finding; exit 1 when there is any.

- Includes point one way: core <- wire <- link <- session <- trust <- dial <- forward, check <- control <- relay, agent
  <- cmd. The two roles never include each other, nor do forward and check.
- Each source begins with the SPDX line; each header goes on with a paragraph that says what it is for.
- Nothing is left open, no tabs or trailing blanks, no paths of somebody's machine.

Lines of C over 120 columns are listed as notes, which do not fail.
"""
import re
import subprocess
import sys
from pathlib import Path

RANK = {"core": 0, "wire": 1, "link": 2, "session": 3, "trust": 4, "dial": 5, "check": 6, "forward": 6, "control": 7,
        "relay": 8, "agent": 8, "cmd": 9}
TOP = 10  # src/main.c
SPDX = "SPDX-License-Identifier: Apache-2.0"
WIDTH = 120
NOTE = "(note)"
CODE = {".c", ".h", ".py", ".sh", ".build"}
OPEN_ENDS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
LOCAL_PATHS = re.compile(r"\.\./sha" r"red|(?<![\w./])/(work|home|root)/\w")


def tracked(root):
    out = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, check=True,
                         stdout=subprocess.PIPE).stdout.decode()
    return [Path(name) for name in out.split("\0") if name and (root / name).is_file()]


def folder_of(path):
    return path.parts[1] if path.parts[0] == "src" and len(path.parts) > 2 else None


def check_includes(path, text):
    folder = folder_of(path)
    rank = RANK.get(folder, TOP)
    if folder is not None and folder not in RANK:
        yield 1, f"folder src/{folder} has no place in the include order"
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not found:
            continue
        target = found.group(1).split("/")
        if len(target) < 2:
            yield number, f'"{found.group(1)}": write the folder too'
        elif target[0] not in RANK:
            yield number, f'"{found.group(1)}" is in no folder of the include order'
        elif target[0] != folder and RANK[target[0]] >= rank:
            yield number, f"{folder or 'main'} includes {target[0]}, which stands above or beside it"


def check_header(text):
    lines = text.splitlines()
    paragraph = []
    for line in lines[1:]:
        if not line.startswith("//"):
            break
        paragraph.append(line[2:].strip())
    if len(" ".join(paragraph)) < 40:
        yield 2, "no opening paragraph (what it is for, who owns what, what may fail)"
    if "#pragma once" not in text:
        yield 1, "no #pragma once"


def check_lines(path, text):
    for number, line in enumerate(text.splitlines(), 1):
        if line != line.rstrip():
            yield number, "trailing blanks"
        if path.suffix in {".c", ".h"}:
            if "\t" in line:
                yield number, "a tab"
            if len(line) > WIDTH:
                yield number, f"{NOTE} {len(line)} columns"
        if OPEN_ENDS.search(line):
            yield number, "left open: finish it or drop it"
        if LOCAL_PATHS.search(line):
            yield number, "a path of this machine"


def findings(root):
    for path in tracked(root):
        if "corpus" in path.parts:
            continue
        data = (root / path).read_bytes()
        if b"\0" in data:
            continue
        text = data.decode("utf-8", "replace")
        found = list(check_lines(path, text))
        if path.suffix in CODE - {".build"} and text and SPDX not in "\n".join(text.splitlines()[:2]):
            found.append((1, f"does not begin with {SPDX}"))
        if path.parts[0] == "src" and path.suffix in {".c", ".h"}:
            found += check_includes(path, text)
        if path.suffix == ".h":
            found += check_header(text)
        for number, message in sorted(found):
            yield f"{path}:{number}: {message}"


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    found = list(findings(root))
    bad = [line for line in found if NOTE not in line]
    for line in found:
        print(line)
    print(f"lint: {len(bad)} findings, {len(found) - len(bad)} notes")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
