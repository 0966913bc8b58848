# SPDX-License-Identifier: Apache-2.0
"""The Autobahn cases against the WebSocket link in both roles, run by kosoku. Cases 1 to 11 are the protocol; 12 and 13 are
permessage-deflate, which is never offered or accepted, and must show as unimplemented rather than as passed."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from testenv.proc import Proc, free_port

pytest.importorskip("kosoku")

ROOT = Path(__file__).resolve().parents[2]
COMPRESSION = ("12", "13")
# Autobahn itself calls these informational: the standard leaves open what happens.
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}
CASES = 517


@pytest.fixture
def ws_echo():
    program = Path(os.environ.get("CULVERT_PLAIN", ROOT / "build" / "culvert")).parent / "test" / "e2e" / "ws_echo"
    if not program.exists():
        pytest.fail(f"{program} is not built")
    return program


def verdicts(folder):
    (cases,) = json.loads((folder / "index.json").read_text()).values()
    return {case: (said["behavior"], said["behaviorClose"]) for case, said in cases.items()}


def judge(found):
    assert len(found) == CASES
    wrong = {}
    for case, verdict in found.items():
        if case.split(".")[0] in COMPRESSION:
            good = verdict[0] == "UNIMPLEMENTED" and verdict[1] in ("OK", "INFORMATIONAL")
        elif case in INFORMATIONAL:
            good = verdict == ("INFORMATIONAL", "INFORMATIONAL")
        else:
            good = verdict == ("OK", "OK")
        if not good:
            wrong[case] = verdict
    assert not wrong


def kosoku(*words):
    return [sys.executable, "-c", "from kosoku._cli import main; main()", *words]


def run_twice(command, patience=120):
    """A kernel that finds a receive buffer full of small segments may let both ends of a connection wait for minutes: the
    suite, which does not read while it writes, is run once more then."""
    for last in (False, True):
        try:
            return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=patience)
        except subprocess.TimeoutExpired:
            if last:
                raise


def test_the_server_role(ws_echo, tmp_path):
    out = tmp_path / "server.out"
    with open(out, "wb") as stdout:
        server = Proc([ws_echo, "server", "127.0.0.1", "0"], tmp_path / "server.log", stdout=stdout)
    try:
        server.wait_for("its port", lambda: out.read_text().endswith("\n"))
        port = out.read_text().split()[1]
        # Exit 1: the cases of permessage-deflate count as failed there.
        done = run_twice(kosoku("-m", "fuzzingclient", "-o", tmp_path / "reports", f"ws://127.0.0.1:{port}"))
        assert (tmp_path / "reports" / "index.json").exists(), done.stdout
        assert server.alive(), server.output()
    finally:
        server.popen.kill()
        server.popen.wait()
    judge(verdicts(tmp_path / "reports"))


def test_the_client_role(ws_echo, tmp_path):
    port = free_port()
    suite = Proc(kosoku("-m", "fuzzingserver", "-o", tmp_path / "reports", f"127.0.0.1:{port}"), tmp_path / "suite.log")
    try:
        suite.wait_port(port)
        done = subprocess.run([ws_echo, "client", "127.0.0.1", str(port), "culvert"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=240)
        assert done.returncode == 0, done.stdout[-2000:]
        suite.popen.wait(timeout=30)
    finally:
        if suite.alive():
            suite.popen.kill()
            suite.popen.wait()
    judge(verdicts(tmp_path / "reports"))
