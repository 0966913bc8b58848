# SPDX-License-Identifier: Apache-2.0
"""Reverse forwards, TCP: listen at the relay, come out at the agent; and services from agent to agent."""
import concurrent.futures
import subprocess
from copy import copy

import pytest

from testenv.net import ask, ask_udp, connect, greet, pattern_bytes, recv_to_end, udp
from testenv.proc import can_connect, free_port, wait_for
from testenv.programs import WebServer

LISTEN = ["--allow-listen", "127.0.0.1:0"]


def test_the_relay_chooses_and_tells_a_port(shared, relay):
    server = shared.server()
    agent = shared.joined(relay, "chosen", invite_flags=LISTEN).start(["-R", f"0:{server.at}"])
    assert agent.at().startswith("127.0.0.1:") and agent.port() != 0
    assert ask(agent.at(), b"x" * 100_000) == b"x" * 100_000


def test_a_port_by_number(shared, relay):
    port = free_port()
    server = shared.server()
    agent = shared.joined(relay, "number", invite_flags=["--allow-listen", f"127.0.0.1:{port}"])
    agent.start(["-R", f"{port}:{server.at}"])
    assert agent.port() == port
    assert ask(port, b"by number") == b"by number"


def test_a_port_not_allowed(shared, relay):
    agent = shared.joined(relay, "strict", invite_flags=["--allow-listen", "127.0.0.1:1"])
    port = free_port()
    done = agent.run("agent", *agent.trust(), "--once", "-R", f"{port}:127.0.0.1:1")
    assert done.returncode == 5 and str(port) in done.stderr
    assert not can_connect(port)


def test_no_listening_without_being_allowed(shared, relay):
    agent = shared.joined(relay, "none")
    assert agent.run("agent", *agent.trust(), "--once", "-R", "0:127.0.0.1:1").returncode == 5


def test_curl_from_the_relays_side(shared, relay):
    web = shared.program_of(WebServer)
    (web.root / "page").write_bytes(pattern_bytes(1_000_000))
    agent = shared.joined(relay, "web", invite_flags=LISTEN).start(["-R", f"0:127.0.0.1:{web.port}"])
    got = subprocess.run(["curl", "-fsS", f"http://{agent.at()}/page"], stdout=subprocess.PIPE, check=True, timeout=60).stdout
    assert got == pattern_bytes(1_000_000)


def test_the_port_closes_with_the_agent(shared, relay):
    server = shared.server()
    agent = shared.joined(relay, "gone", invite_flags=LISTEN).start(["-R", f"0:{server.at}"])
    port = agent.port()
    assert can_connect(port)
    agent.stop()
    wait_for("the port to close", lambda: not can_connect(port))


def test_a_listener_moves_to_the_newest_agent(shared, relay):
    port = free_port()
    old, new = shared.server(greet(b"old")), shared.server(greet(b"new"))
    agent = shared.joined(relay, "moving", invite_flags=["--allow-listen", f"127.0.0.1:{port}"])
    agent.start(["-R", f"{port}:{old.at}"])
    assert ask(port, b"") == b"old"
    first = agent.proc
    agent.start(["-R", f"{port}:{new.at}"])
    wait_for("the newest", lambda: ask(port, b"") == b"new")
    first.wait_log("newer agent")
    assert first.alive()
    first.stop()
    assert ask(port, b"") == b"new"


def test_another_identity_does_not_get_a_taken_port(shared, relay):
    port = free_port()
    server = shared.server(greet(b"mine"))
    shared.joined(relay, "mine", invite_flags=["--allow-listen", f"127.0.0.1:{port}"]).start(["-R", f"{port}:{server.at}"])
    other = shared.joined(relay, "other", invite_flags=["--allow-listen", f"127.0.0.1:{port}"])
    done = other.run("agent", *other.trust(), "--once", "-R", f"{port}:127.0.0.1:1")
    assert done.returncode != 0 and str(port) in done.stderr
    assert ask(port, b"") == b"mine"


def test_two_agents_two_ports(shared, relay):
    agents = [shared.joined(relay, f"pair{i}", invite_flags=LISTEN) for i in range(2)]
    for i, agent in enumerate(agents):
        agent.start(["-R", f"0:{shared.server(greet(b'agent %d' % i)).at}"])
    assert [ask(agent.at(), b"") for agent in agents] == [b"agent 0", b"agent 1"]


def test_reverse_socks_reaches_only_what_the_agent_allows(shared, relay):
    from testenv.net import Socks5
    server, other = shared.server(), shared.server()
    agent = shared.joined(relay, "rsocks", invite_flags=LISTEN).start(["-R", "0", "--allow", server.at])
    s = Socks5(agent.at())
    assert s.connect("127.0.0.1", server.port) == 0
    s.close()
    s = Socks5(agent.at())
    assert s.connect("127.0.0.1", other.port) == 2
    s.close()
    s = Socks5(agent.at())
    assert s.connect("name.invalid", other.port) == 2  # and nobody learns whether there is such a name
    s.close()


@pytest.fixture(scope="module")
def near(shared, relay):
    server = shared.server()
    agent = shared.joined(relay, "near", allow=[], invite_flags=["--allow-offer", "echo"])
    return agent.start(["--offer", f"echo={server.at}"])


class TestServices:
    def test_through_the_relay(self, shared, relay, near):
        far = shared.joined(relay, "far", allow=[f"echo@{near.name}"]).start(["-L", f"0:echo@{near.name}"])
        data = pattern_bytes(300_000)
        assert ask(far.at(), data) == data
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            assert all(pool.map(lambda i: ask(far.at(), pattern_bytes(5000, i)) == pattern_bytes(5000, i), range(60)))

    def test_by_stdio(self, shared, relay, near):
        far = shared.joined(relay, "wfar", allow=[f"echo@{near.name}"])
        done = subprocess.run([far.program, "--state", far.state, "agent", *far.trust(), "-W", f"echo@{near.name}"],
                              input=b"across", stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        assert (done.returncode, done.stdout) == (0, b"across"), done.stderr

    @pytest.mark.parametrize("dest, status", [("other@{near}", 5), ("echo@nobody", 5)])
    def test_not_allowed(self, shared, relay, near, dest, status):
        far = shared.joined(relay, "nofar", allow=[f"echo@{near.name}"])
        assert far.run("agent", *far.trust(), "-W", dest.format(near=near.name)).returncode == status

    def test_an_absent_service(self, shared, relay, near):
        far = shared.joined(relay, "absent", allow=[f"*@{near.name}", "echo@nobody", f"ghost@{near.name}"])
        for dest in (f"ghost@{near.name}", "echo@nobody"):
            done = far.run("agent", *far.trust(), "-W", dest)
            assert done.returncode == 3 and dest in done.stderr

    def test_an_offer_not_allowed(self, shared, relay):
        agent = shared.joined(relay, "nooffer", invite_flags=["--allow-offer", "this"])
        done = agent.run("agent", *agent.trust(), "--once", "--offer", "that=127.0.0.1:1")
        assert done.returncode == 5 and "that" in done.stderr

    def test_the_offering_agent_is_gone(self, shared, relay):
        server = shared.server()
        near = shared.joined(relay, "leaving", invite_flags=["--allow-offer", "it"]).start(["--offer", f"it={server.at}"])
        far = shared.joined(relay, "left", allow=[f"it@{near.name}"]).start(["-L", f"0:it@{near.name}"])
        assert ask(far.at(), b"here") == b"here"
        near.stop()
        with pytest.raises(ConnectionResetError), connect(far.at()) as s: # while it connects, if that takes long
            recv_to_end(s)
        near.start(["--offer", f"it={server.at}"])
        assert ask(far.at(), b"back") == b"back"

    @pytest.mark.parametrize("kinds", [("", "/udp"), ("/udp", "")])
    @pytest.mark.parametrize("processes", [1, 2])
    def test_one_name_for_tcp_and_udp(self, shared, relay, kinds, processes):
        at = {"": shared.server().at, "/udp": shared.udp_echo().at}
        flags = [["--offer", f"dns={at[kind]}{kind}"] for kind in kinds]
        near = shared.joined(relay, "both", invite_flags=["--allow-offer", "dns"])
        if processes == 1:
            near.start(flags[0] + flags[1])
        else:
            near.start(flags[0])
            second = shared.add(copy(near))
            second.log = near.folder / "second.log"
            second.start(flags[1])
        far = shared.joined(relay, "asker", allow=[f"dns@{near.name}"])
        far.start(["-L", f"0:dns@{near.name}", "-L", f"0:dns@{near.name}/udp"])
        assert ask(far.at(), b"by TCP") == b"by TCP"
        with udp(far.at(1)) as u:
            ask_udp(u, b"by UDP")

    @pytest.mark.parametrize("kind", ["", "/udp"])
    def test_one_name_twice_for_the_same(self, shared, relay, kind):
        done = shared.joined(relay, "twice").run("agent", "--once", "--offer", f"a=127.0.0.1:1{kind}", "--offer", f"a=127.0.0.1:2{kind}")
        assert done.returncode == 2 and "a is offered already" in done.stderr

    def test_a_refused_target_of_a_service(self, shared, relay):
        port = free_port()
        near = shared.joined(relay, "dead", invite_flags=["--allow-offer", "it"]).start(["--offer", f"it=127.0.0.1:{port}"])
        far = shared.joined(relay, "asking", allow=[f"it@{near.name}"])
        done = far.run("agent", *far.trust(), "-W", f"it@{near.name}")
        assert done.returncode == 3 and "refused" in done.stderr.lower()
