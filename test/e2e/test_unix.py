# SPDX-License-Identifier: Apache-2.0
"""Unix sockets on either end of every kind of forward."""
import os
import socket
import stat
import tempfile

import pytest

from testenv.net import ask, connect, pattern_bytes, recv_to_end
from testenv.proc import wait_for

DATA = pattern_bytes(70_000)


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory(prefix="cv") as name:  # short: sun_path holds 107 bytes
        yield name


@pytest.fixture(scope="module")
def server(shared, folder):
    return shared.server(at=f"unix:{folder}/target")


def test_unix_to_unix(shared, relay, folder, server):
    agent = shared.joined(relay, "u2u", allow=[server.at]).start(["-L", f"unix:{folder}/entry:{server.at}"])
    assert ask(f"unix:{folder}/entry", DATA) == DATA
    assert stat.S_IMODE(os.stat(f"{folder}/entry").st_mode) & 0o077 == 0
    agent.stop()
    assert not os.path.exists(f"{folder}/entry")


def test_tcp_to_unix(shared, relay, server):
    agent = shared.joined(relay, "t2u", allow=[server.at]).start(["-L", f"0:{server.at}"])
    assert ask(agent.at(), DATA) == DATA


def test_unix_to_tcp(shared, relay, folder):
    target = shared.server()
    agent = shared.joined(relay, "u2t").start(["-L", f"unix:{folder}/u2t:{target.at}"])
    assert agent.at() == f"unix:{folder}/u2t"
    assert ask(agent.at(), DATA) == DATA


def test_reverse_unix_to_unix(shared, relay, folder, server):
    agent = shared.joined(relay, "ru", invite_flags=["--allow-listen", f"unix:{folder}/reverse"])
    agent.start(["-R", f"unix:{folder}/reverse:{server.at}"])
    assert ask(f"unix:{folder}/reverse", DATA) == DATA


def test_reverse_tcp_to_unix(shared, relay, server):
    agent = shared.joined(relay, "rt", invite_flags=["--allow-listen", "127.0.0.1:0"]).start(["-R", f"0:{server.at}"])
    assert ask(agent.at(), DATA) == DATA


def test_service_on_a_unix_socket(shared, relay, server):
    near = shared.joined(relay, "un", invite_flags=["--allow-offer", "sock"]).start(["--offer", f"sock={server.at}"])
    far = shared.joined(relay, "uf", allow=[f"sock@{near.name}"]).start(["-L", f"0:sock@{near.name}"])
    assert ask(far.at(), DATA) == DATA


def test_paths_that_are_no_utf8_are_in_every_table(shared, relay, folder):
    odd, shown = os.fsdecode(b"odd\xff"), r"odd\xff"
    target = shared.server(at=f"unix:{folder}/{odd}")
    agent = shared.joined(relay, "odd", allow=[target.at], invite_flags=["--allow-listen", f"unix:{folder}/r{odd}"])
    agent.start(["-L", f"unix:{folder}/l{odd}:{target.at}", "-R", f"unix:{folder}/r{odd}:{target.at}"])
    rows = [("local", f"unix:{folder}/l{shown}", f"unix:{folder}/{shown}"),
            ("reverse", f"unix:{folder}/r{shown}", f"unix:{folder}/{shown}")]
    assert [(row["kind"], row["at"], row["to"]) for row in agent.forwards()] == rows
    assert [(row["kind"], row["at"], row["to"]) for row in agent.table("forwards")] == rows
    assert rows[1][1] in [row["at"] for row in relay.table("forwards")]
    for way in "lr":
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(f"{folder}/{way}-caller-{odd}")
            s.connect(f"{folder}/{way}{odd}")
            s.sendall(b"x")
            assert s.recv(1) == b"x"
            for end in (agent, relay):
                assert f"unix:{folder}/{way}-caller-{shown}" in [row["from"] for row in end.table("streams")]


def test_a_path_in_utf8_is_told_as_it_is(shared, relay, folder):
    agent = shared.joined(relay, "utf8").start(["-L", f"unix:{folder}/naïve:{shared.server().at}"])
    assert agent.at() == f"unix:{folder}/naïve"
    assert ask(agent.at(), DATA) == DATA


def test_a_target_that_is_slow_to_accept_is_waited_for(shared, relay, folder):
    path = f"{folder}/slow"
    with socket.socket(socket.AF_UNIX) as slow:
        slow.bind(path)
        slow.listen(1)
        first = []  # as many as the kernel takes
        with pytest.raises(BlockingIOError):
            while True:
                first.append(socket.socket(socket.AF_UNIX))
                first[-1].setblocking(False)
                first[-1].connect(path)
        agent = shared.joined(relay, "slow", allow=[f"unix:{path}"]).start(["-L", f"0:unix:{path}"])
        with connect(agent.at()) as s:
            s.sendall(b"patient")
            s.shutdown(socket.SHUT_WR)
            wait_for("the relay to dial", lambda: f"unix:{path}" in [row["to"] for row in relay.table("streams")])
            slow.settimeout(30)
            for waiting in first[:-1]:
                waiting.close()
                slow.accept()[0].close()
            with slow.accept()[0] as target:
                assert recv_to_end(target) == b"patient"
        first[-1].close()


def test_a_stale_socket_file_is_replaced(shared, relay, folder):
    path = f"{folder}/stale"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
    target = shared.server()
    agent = shared.joined(relay, "stale").start(["-L", f"unix:{path}:{target.at}"])
    assert ask(agent.at(), DATA) == DATA


def test_a_file_in_the_way_is_kept(shared, relay, folder):
    path = f"{folder}/precious"
    with open(path, "w") as f:
        f.write("keep me")
    agent = shared.joined(relay, "kept")
    done = agent.run("agent", *agent.trust(), "--once", "-L", f"unix:{path}:127.0.0.1:1")
    assert done.returncode in (1, 2) and path in done.stderr
    assert open(path).read() == "keep me"


def test_a_path_not_allowed(shared, relay, folder, server):
    agent = shared.joined(relay, "denied", allow=[f"unix:{folder}/other"])
    done = agent.run("agent", *agent.trust(), "-W", server.at)
    assert done.returncode == 5
