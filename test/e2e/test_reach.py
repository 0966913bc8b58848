# SPDX-License-Identifier: Apache-2.0
"""Through everything: each scenario of obstacles/ in networks of its own, where the obstacle is the client's only way out. A MiB
comes back whole through -L, or the refusal is said in exactly these words; `./dev reach --long` has the slow ones, too, and asks
`culvert check` for its verdict. ./dev reach runs this file with CULVERT_REACH set, and so writes docs/reach.md."""
import os
import shutil

import pytest

import obstacles.roads  # noqa: F401: they add to SCENARIOS, in this order
import obstacles.proxies  # noqa: F401
import obstacles.found  # noqa: F401
import obstacles.h2  # noqa: F401
import obstacles.poll  # noqa: F401
import obstacles.fronts  # noqa: F401
import obstacles.boxes  # noqa: F401
import obstacles.refusals  # noqa: F401
from conftest import ROOT
from obstacles import SCENARIOS
from testenv import maze
from testenv.lab import Lab
from testenv.net import pattern_bytes

DOCUMENT = ROOT / "docs/reach.md"
WRITE = os.environ.get("CULVERT_REACH")
LONG = "CULVERT_REACH_LONG" in os.environ
MIB = pattern_bytes(1 << 20)
HEAD = """# What culvert gets through

Each row is an end-to-end test in networks of its own (`test/e2e/obstacles/`): the client can reach the relay only through what
the first column says, made by the real programs of the second. `./dev reach` runs them all and writes this table.

| obstacle | made by | what culvert does | path it took | result |
|---|---|---|---|---|
"""
rows = {}


@pytest.fixture(scope="module")
def lab(shared):
    return Lab(shared, shared.folder)


def row(each, path, result):
    return f"| {each.obstacle} | {each.program} | {each.does} | {path} | {result} |"


needs_root = pytest.mark.skipif(not maze.usable(), reason="needs root, nft and namespaces")


@needs_root
def test_nothing_passes_that_was_not_opened(lab):
    lab.clear()
    assert lab.blocked()
    lab.maze.open("tcp dport 443")
    assert not lab.blocked()


@needs_root
@pytest.mark.parametrize("each", [pytest.param(each, id=each.slug) for each in SCENARIOS if LONG or not each.long])
def test_reach(lab, each):
    lab.clear()
    way = each.set_up(lab)
    if each.says is not None:
        status, said = lab.refusal(way)
        assert (said, status) == (each.says, each.status)
        if way.check:
            way.check()
        rows[each] = row(each, "none", f"exit {status}: `{said}`")
    else:
        agent = lab.up(way)
        assert lab.talk(way, agent, MIB) == MIB
        rows[each] = row(each, lab.path(agent), "1 MiB there and back, intact")
        agent.stop()
        if way.check:
            way.check()
    lab.clear()
    if LONG:  # the obstacle anew: a look at what it has seen may have stopped it
        shutil.rmtree(lab.place / "agent", ignore_errors=True)
        assert lab.check(each.set_up(lab)) == each.status
        lab.clear()


@pytest.fixture(scope="module", autouse=True)
def publish():
    yield
    if WRITE:
        old = {line.split(" | ")[0]: line for line in DOCUMENT.read_text().splitlines()} if DOCUMENT.exists() else {}
        lines = [rows.get(each) or old.get(f"| {each.obstacle}", row(each, "", "not run")) for each in SCENARIOS]
        DOCUMENT.write_text(HEAD + "\n".join(lines) + "\n")


@pytest.mark.skipif(bool(WRITE), reason="it is being written")
def test_the_published_table_lists_all_of_them():
    listed = [line.split(" | ")[:3] for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")][1:]
    assert listed == [row(each, "", "").split(" | ")[:3] for each in SCENARIOS]
