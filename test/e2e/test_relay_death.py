# SPDX-License-Identifier: Apache-2.0
"""Streams between two agents when their relay is killed with -9: every byte arrives, and no program sees a reset. What ends at
the relay itself is reset, at once after it has come back."""
import hashlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from test_relays import Several, kill
from testenv.net import ask, ask_udp, connect, recv_exactly, recv_to_end, udp
from testenv.proc import wait_for
from testenv.programs import Sshd, find
from testenv.traffic import Enough, Traffic

OFFER = ["--allow-offer", "*"]


def meet(world, relay, dest, service="it"):
    """An agent that offers dest as it@near, and one that uses it."""
    near = world.joined(relay, "near", invite_flags=OFFER).start(["--offer", f"{service}={dest}"])
    far = world.joined(relay, "far", invite_flags=["--allow", f"{service}@near"])
    return near, far.start(["-L", f"0:{service}@near"])


def restart(relay):
    kill(relay)
    relay.start()


def here(relay):
    return len([row for row in relay.table("agents") if row["state"] == "up"])


def switched(relay):
    return [row for row in relay.table("streams") if row["kind"] == "service"]


@pytest.mark.parametrize("count", [1, 8])
def test_traffic_runs_through_the_relays_deaths(fast_world, count):
    relay = fast_world.relay()
    deaths = []
    traffic = Traffic(fast_world, Enough(1 << 20, lambda: len(deaths) == 3), 120)
    near, far = meet(fast_world, relay, traffic.server.at)
    for _ in range(count):
        traffic.call(far.at())
    wait_for("traffic", lambda: traffic.flowing == count)
    for _ in range(3):
        time.sleep(0.2) # a moment in the middle, whichever it is
        restart(relay)
        wait_for("both agents", lambda: here(relay) == 2)
        deaths.append(relay)
    assert traffic.check() > 2 << 20
    assert ask_is_over(near) and ask_is_over(far)


def ask_is_over(agent):
    wait_for("all streams to be freed", lambda: not agent.table("streams"))
    return True


def test_an_idle_stream_says_nothing_and_goes_on(world):
    relay = world.relay()
    near, far = meet(world, relay, world.server().at)
    s = connect(far.at())
    s.sendall(b"before")
    assert recv_exactly(s, 6) == b"before"
    restart(relay)
    s.sendall(b"after")
    assert recv_exactly(s, 5) == b"after"
    s.shutdown(socket.SHUT_WR)
    assert recv_to_end(s) == b""


def test_ends_pass_while_no_relay_is_there(world):
    relay = world.relay()
    near, far = meet(world, relay, world.server().at)
    aborted, ended = connect(far.at()), connect(far.at())
    for s in (aborted, ended):
        s.sendall(b"x")
        assert recv_exactly(s, 1) == b"x"
    kill(relay)
    ended.sendall(b"the last words")
    ended.shutdown(socket.SHUT_WR)
    aborted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    aborted.close()
    relay.start()
    assert recv_to_end(ended) == b"the last words"
    assert ask_is_over(near) and ask_is_over(far)


def test_what_ends_at_the_relay_is_reset_at_once(world):
    relay = world.relay()
    server = world.server()
    agent = world.agent(relay, "-L", f"0:{server.at}")
    s = connect(agent.at())
    s.sendall(b"x")
    assert recv_exactly(s, 1) == b"x"
    restart(relay)
    with pytest.raises(ConnectionResetError):
        s.recv(1)
    wait_for("the relay", lambda: here(relay) == 1)
    assert ask(agent.at(), b"new") == b"new"


def test_an_agent_that_lost_its_right_does_not_go_on(world):
    relay = world.relay()
    near, far = meet(world, relay, world.server().at)
    s = connect(far.at())
    s.sendall(b"x")
    assert recv_exactly(s, 1) == b"x"
    kill(relay)
    relay.run("revoke", "far")
    relay.start()
    with pytest.raises(ConnectionResetError):
        s.recv(1)


def test_datagrams_of_a_service_go_on(world):
    relay = world.relay()
    near = world.joined(relay, "near", invite_flags=OFFER).start(["--offer", f"it={world.udp_echo().at}/udp"])
    far = world.joined(relay, "far", invite_flags=["--allow", "it@near"]).start(["-L", "0:it@near/udp"])
    with udp(far.at()) as s:
        assert ask_udp(s, b"before")[0] == b"before"
        restart(relay)
        assert ask_udp(s, b"after", tries=20)[0] == b"after"


def test_they_meet_at_another_relay(fast_world):
    world = fast_world
    relays = [world.relay("one"), world.relay("two")]
    gone = []
    traffic = Traffic(world, Enough(1 << 20, lambda: gone), 120)
    near = Several(world, relays, "near", OFFER).start("--offer", f"it={traffic.server.at}")
    far = Several(world, relays, "far", ["--allow", "it@near"]).start("-L", "0:it@near")
    for _ in range(4):
        traffic.call(far.at())
    wait_for("traffic", lambda: traffic.flowing == 4)
    time.sleep(0.2)
    kill(relays[0])
    wait_for("the streams to be adrift no more", lambda: len(switched(relays[1])) == 4)
    gone.append(True)
    assert traffic.check() > 1 << 20


def test_a_draining_relay_loses_no_stream(world):
    relays = [world.relay("one"), world.relay("two")]
    near = Several(world, relays, "near", OFFER).start("--offer", f"it={world.server().at}")
    far = Several(world, relays, "far", ["--allow", "it@near"]).start("-L", "0:it@near")
    s = connect(far.at())
    s.sendall(b"x")
    assert recv_exactly(s, 1) == b"x"
    relays[0].proc.signal(signal.SIGTERM)
    assert relays[0].proc.wait_exit() == 0 # it need not wait for the stream
    s.sendall(b"after")
    assert recv_exactly(s, 5) == b"after"
    assert near.proc.alive()


def test_rsync_over_ssh_runs_through(fast_world, tmp_path):
    world = fast_world
    relay = world.relay()
    sshd = world.program_of(Sshd)
    near, far = meet(world, relay, f"127.0.0.1:{sshd.port}", "ssh")
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    files = {}
    for i in range(16):
        data = os.urandom(8 << 20)
        (source / f"file{i}").write_bytes(data)
        files[f"file{i}"] = hashlib.sha256(data).hexdigest()
    shell = " ".join(sshd.client("-p", str(far.port())))
    done = subprocess.Popen([find("rsync"), "-a", "-e", shell, f"{source}/", f"{sshd.user}@127.0.0.1:{target}/"],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for("files to come", lambda: target.exists() and any(Path(target).iterdir()))
        for _ in range(2):
            restart(relay)
            wait_for("both agents", lambda: here(relay) == 2)
        output, _ = done.communicate(timeout=100)
    finally:
        done.kill()
    assert done.returncode == 0, output
    assert {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in target.iterdir()} == files
