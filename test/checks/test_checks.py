# SPDX-License-Identifier: Apache-2.0
"""Everything that is no end-to-end test, as cases of one suite: lint, each unit test plain and under sanitizers, the
session simulation, each fuzz target over its corpus and a few seconds more."""
import concurrent.futures
import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUZZ_SECONDS = int(os.environ.get("CULVERT_FUZZ_SECONDS", "4"))
SIM_COUNTS = {"build": 200_000, "build-asan": 20_000}
CRASH_COUNTS = {"build": 20_000, "build-asan": 2_000}


def run(command, timeout, **more):
    done = subprocess.run([str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=timeout, **more)
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        print(text[-20000:])
        pytest.fail(f"{' '.join(map(str, command))}: exit {done.returncode}", pytrace=False)
    return text


def unit_tests():
    """(name, build folder, command, environment, seconds) of each test that meson knows."""
    for folder in SIM_COUNTS:
        if not (ROOT / folder / "build.ninja").exists():
            continue
        listed = subprocess.run(["meson", "introspect", "--tests", folder], cwd=ROOT, check=True, stdout=subprocess.PIPE)
        for test in json.loads(listed.stdout):
            if test["name"] in ("sim", "crash"):  # run below, longer
                continue
            yield pytest.param(test["cmd"], test["env"], test["timeout"], id=f"{folder}-{test['name']}")


def test_threads():
    """The one part with a thread of its own, under ThreadSanitizer. Without address randomisation, which it cannot take
    where the kernel randomises many bits."""
    run(["setarch", "-R", "build-tsan/test/unit/keeper"], 300, env={**os.environ, "TSAN_OPTIONS": "halt_on_error=1"})


def fuzz_targets():
    folder = ROOT / "build-fuzz/test/fuzz"
    return sorted(path.name for path in folder.glob("fuzz_*") if path.is_file() and os.access(path, os.X_OK))


def simulations():
    return [pytest.param(folder, name, count, id=f"{folder}-{name}-{count}")
            for name, counts in (("sim", SIM_COUNTS), ("crash", CRASH_COUNTS)) for folder, count in counts.items()
            if (ROOT / folder / "test/sim" / name).exists()]


def test_lint():
    run([sys.executable, "test/lint/lint.py", "."], 60)


@pytest.mark.parametrize("command, environment, seconds", list(unit_tests()))
def test_unit(command, environment, seconds):
    run(command, seconds * 2, env={**os.environ, **environment})


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("folder, name, count", simulations())
def test_simulation(folder, name, count):
    """From a fresh seed each time, which a failure names; one process a CPU."""
    parts, first = os.cpu_count() or 1, secrets.randbelow(1 << 48)
    commands = [[ROOT / folder / "test/sim" / name, "--count", -(-count // parts), "--seed", first + part * count]
                for part in range(parts)]
    with concurrent.futures.ThreadPoolExecutor(parts) as pool:
        list(pool.map(lambda command: run(command, 1800), commands))


@pytest.mark.parametrize("target", fuzz_targets())
def test_fuzz(target):
    run(["test/fuzz/run", FUZZ_SECONDS, target.removeprefix("fuzz_")], 120)


def test_man_pages(tmp_path):
    """One page a command, each named in the build so that it is installed, each option of --help in it."""
    helped = run(["build/culvert", "--help"], 30)
    commands = [line.split()[0] for line in helped.split("commands:\n")[1].split("\n\n")[0].splitlines()]
    listed = {path.name for path in (ROOT / "build/docs").glob("*.1")}
    assert listed == {"culvert.1", *(f"culvert-{name}.1" for name in commands)}
    installed = run(["meson", "introspect", "--installed", "build"], 60)
    for name in commands:
        assert f"culvert-{name}.1" in installed
        page = (ROOT / f"build/docs/culvert-{name}.1").read_text().replace("\\-", "-")
        for word in re.findall(r"^ .*?(--[a-z-]+)", run(["build/culvert", name, "--help"], 30), re.M):
            assert word in page, (name, word)
