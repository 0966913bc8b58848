# SPDX-License-Identifier: Apache-2.0
"""Local forwards, TCP: listen at the agent, come out at the relay."""
import concurrent.futures
import hashlib
import json
import socket
import subprocess

import pytest

from testenv import netns
from testenv.net import ask, ask_udp, connect, greet, pattern_bytes, recv_exactly, recv_to_end, udp
from testenv.proc import free_port, wait_for
from testenv.programs import Iperf3, Sshd, WebServer


@pytest.fixture(scope="module")
def agent(shared, relay, target):
    return shared.agent(relay, "-L", f"0:{target.at}")


def test_bytes_come_back(agent):
    data = pattern_bytes(100_000)
    assert ask(agent.at(), data) == data


def test_listens_on_loopback_only_by_default(agent):
    assert agent.at().startswith("127.0.0.1:")


def test_many_at_once(agent):
    def one(seed):
        data = pattern_bytes(20_000 + seed, seed)
        return ask(agent.at(), data) == data
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        assert all(pool.map(one, range(200)))


def test_the_far_end_speaks_first(shared, agent, relay):
    server = shared.server(greet(b"220 hello\r\n"))
    caller = shared.joined(relay, "first").start(["-L", f"0:{server.at}"])
    with connect(caller.at()) as s:
        assert recv_exactly(s, 11) == b"220 hello\r\n"


def test_names_are_resolved_at_the_relay(shared, relay, target):
    # A name never reaches loopback by itself: the rule for the address decides.
    agent = shared.joined(relay, "named", allow=["127.0.0.1:*", "[::1]:*"]).start(["-L", f"0:localhost:{target.port}"])
    assert ask(agent.at(), b"by name") == b"by name"


def test_ipv6(shared, relay):
    server = shared.server(at="[::1]:0")
    agent = shared.joined(relay, "six", allow=["[::1]:*"]).start(["-L", f"[::1]:0:{server.at}"])
    assert agent.at().startswith("[::1]:")
    assert ask(agent.at(), b"six") == b"six"


def test_several_forwards_of_one_agent(shared, relay):
    servers = [shared.server(greet(f"server {i}".encode())) for i in range(5)]
    agent = shared.joined(relay, "several").start([word for s in servers for word in ("-L", f"0:{s.at}")])
    assert [ask(agent.at(i), b"") for i in range(5)] == [f"server {i}".encode() for i in range(5)]


def test_a_refused_target_resets_the_caller_and_is_told(shared, relay):
    port = free_port()
    agent = shared.joined(relay, "refused").start(["-L", f"0:127.0.0.1:{port}"])
    with connect(agent.at()) as s, pytest.raises(ConnectionResetError):
        recv_to_end(s)
    wait_for("the reason in the log", lambda: f"127.0.0.1:{port}" in agent.log.read_text()
             and "refused" in agent.log.read_text().lower())


def test_an_unknown_name_resets_the_caller_and_is_told(shared, relay):
    agent = shared.joined(relay, "unknown", allow=["no.such.host.invalid:80"]).start(["-L", "0:no.such.host.invalid:80"])
    with connect(agent.at()) as s, pytest.raises(ConnectionResetError):
        recv_to_end(s)
    wait_for("the name in the log", lambda: "no.such.host.invalid" in agent.log.read_text())


def test_ssh(shared, relay):
    sshd = shared.program_of(Sshd)
    agent = shared.joined(relay, "ssh").start(["-L", f"0:127.0.0.1:{sshd.port}"])
    done = subprocess.run(sshd.client("-p", str(agent.port()), f"{sshd.user}@127.0.0.1", "cat; echo done"),
                          input=b"through the tunnel ", stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"through the tunnel done\n"), done.stderr


def test_curl(shared, relay):
    web = shared.program_of(WebServer)
    data = pattern_bytes(5_000_000)
    (web.root / "file").write_bytes(data)
    agent = shared.joined(relay, "curl").start(["-L", f"0:127.0.0.1:{web.port}"])
    got = subprocess.run(["curl", "-fsS", f"http://127.0.0.1:{agent.port()}/file"], stdout=subprocess.PIPE, timeout=60,
                         check=True).stdout
    assert hashlib.sha256(got).hexdigest() == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("flags", [[], ["-R"], ["-P", "4"], ["--bidir"]], ids=["up", "down", "4 streams", "both ways"])
def test_iperf3(shared, relay, flags):
    iperf = shared.program_of(Iperf3)
    agent = shared.joined(relay, "iperf").start(["-L", f"0:127.0.0.1:{iperf.port}"])
    done = subprocess.run(["iperf3", "-c", "127.0.0.1", "-p", str(agent.port()), "-n", "20M", "-J", *flags],
                          stdout=subprocess.PIPE, timeout=120)
    report = json.loads(done.stdout)
    assert done.returncode == 0, report.get("error")
    sums = [one["bytes"] for name, one in report["end"].items() if name.startswith("sum_sent")]
    assert max(sums) >= 20_000_000  # both ways it ends as soon as one of them has sent all
    assert report["end"]["sum_received"]["bytes"] > 0  # iperf3 stops counting while bytes are still under way


def test_a_busy_port_is_told_in_one_line(shared, relay, target):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        agent = shared.joined(relay, "busy")
        done = agent.run("agent", *agent.trust(), "--once", "-L", f"{port}:{target.at}")
    assert done.returncode in (1, 2)
    assert str(port) in done.stderr and "in use" in done.stderr


@pytest.mark.skipif(not netns.usable(), reason="needs root and nft")
def test_localhost_where_there_is_no_ipv6(world):
    with world.add(netns.Namespace()):
        with open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w") as f:
            f.write("1")
        port, target, udp_target = free_port(), world.server(), world.udp_echo()
        relay = world.relay(port=port, listen=["--listen", f"localhost:{port}"])
        agent = world.joined(relay, invite_flags=["--allow-listen", "localhost:*", "--allow-listen", "localhost:*/udp"])
        agent.start(["-L", f"localhost:0:{target.at}", "-R", f"localhost:0:{target.at}", "-D", "localhost:0",
                     "-L", f"localhost:0:{udp_target.at}/udp", "-R", f"localhost:0:{udp_target.at}/udp"])
        ways = {(row["kind"], row["udp"]): row["at"] for row in agent.forwards()}
        assert len(ways) == 5
        for (kind, is_udp), at in ways.items():
            assert at.startswith("127.0.0.1:")
            if is_udp == "yes":
                with udp(at) as u:
                    assert ask_udp(u, b"here")[0] == b"here"
            elif kind != "socks":
                assert ask(at, b"here") == b"here"
