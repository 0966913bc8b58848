# SPDX-License-Identifier: Apache-2.0
"""Through real HTTP CONNECT proxies, found by flag or by environment; and what odd proxies answer."""
import re
import subprocess

import pytest

from testenv.culvert import Agent
from testenv.net import ask, pattern_bytes
from testenv.proc import free_port, wait_for
from testenv.programs import Squid, Sshd, Tinyproxy, tunnels

DATA = pattern_bytes(200_000)


@pytest.fixture(scope="module")
def tinyproxy(shared, relay):
    return shared.program_of(Tinyproxy, connect_ports=[relay.port])


@pytest.fixture(scope="module")
def squid(shared):
    return shared.program_of(Squid)


@pytest.mark.parametrize("kind", ["tinyproxy", "squid"])
def test_by_flag(shared, relay, target, request, kind):
    proxy = request.getfixturevalue(kind)
    before = tunnels(proxy, relay.port)
    agent = shared.joined(relay, f"flag-{kind}", flags=["--proxy", proxy.url])
    agent.start(["-L", f"0:{target.at}", "--proxy", proxy.url])
    assert ask(agent.at(), DATA) == DATA
    assert str(proxy.port) in str(agent.status())
    wait_for("both CONNECTs in the proxy's log", lambda: tunnels(proxy, relay.port) >= before + 1)
    assert not re.search(r"\b(GET|POST)\b", proxy.output())


@pytest.mark.parametrize("kind", [Tinyproxy, Squid])
def test_basic_authentication(shared, relay, target, kind):
    proxy = shared.program_of(kind, login=("us er", "p:w@d/%") if kind is Squid else ("user", "pass"))
    login = "us%20er:p%3Aw%40d%2F%25" if kind is Squid else "user:pass"
    url = f"http://{login}@127.0.0.1:{proxy.port}"
    agent = shared.joined(relay, f"basic-{kind.__name__.lower()}", flags=["--proxy", url])
    agent.start(["-L", f"0:{target.at}", "--proxy", url])
    assert ask(agent.at(), DATA) == DATA
    assert "p:w@d" not in agent.log.read_text() and login not in agent.log.read_text()
    for wrong in ("", "user:wrong@"):
        done = agent.run("agent", *agent.trust(), "--proxy", f"http://{wrong}127.0.0.1:{proxy.port}", "-W", target.at)
        assert done.returncode == 3
        assert re.search("40[17]", done.stderr) and f"127.0.0.1:{proxy.port}" in done.stderr and "wrong" not in done.stderr


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("form", ["http://{at}", "{at}", "http://{at}/"])
def test_by_environment(shared, relay, target, tinyproxy, variable, form):
    agent = shared.joined(relay, "env")
    before = tunnels(tinyproxy, relay.port)
    done = agent.run("agent", *agent.trust(), "-W", target.at, stdin="through",
                     env={variable: form.format(at=f"127.0.0.1:{tinyproxy.port}")})
    assert (done.returncode, done.stdout) == (0, "through"), done.stderr
    assert tunnels(tinyproxy, relay.port) == before + 1


@pytest.mark.parametrize("no_proxy, through", [
    ("localhost", False), ("*", False), ("other.test,localhost", False), (" localhost , x", False), (".localhost", False),
    ("localhost:{port}", False), ("localhost:1", True), ("other.test", True), ("", True), ("ocalhost", True),
    ("127.0.0.0/8", None)])
def test_no_proxy(shared, relay, target, tinyproxy, no_proxy, through):
    agent = shared.joined(relay, "noproxy")
    before = tunnels(tinyproxy, relay.port)
    done = agent.run("agent", *agent.trust(), "-W", target.at, stdin="x",
                     env={"https_proxy": tinyproxy.url, "no_proxy": no_proxy.format(port=relay.port)})
    assert (done.returncode, done.stdout) == (0, "x"), done.stderr
    if through is not None:
        assert tunnels(tinyproxy, relay.port) == before + through


@pytest.mark.parametrize("no_proxy, through", [
    ("127.0.0.1", False), ("127.0.0.0/8", False), ("10.0.0.0/8", True), ("127.0.0.1:{port}", False), ("127.0.0.1:1", True),
    ("::1", True), ("[::1]", True)])
def test_no_proxy_for_an_address(shared, relay, target, tinyproxy, no_proxy, through):
    agent = shared.joined(relay, "noproxyip")
    before = tunnels(tinyproxy, relay.port)
    done = agent.run("agent", *agent.trust(), "--relay", f"wss://127.0.0.1:{relay.port}", "-W", target.at, stdin="x",
                     env={"https_proxy": tinyproxy.url, "no_proxy": no_proxy.format(port=relay.port)})
    assert (done.returncode, done.stdout) == (0, "x"), done.stderr
    assert tunnels(tinyproxy, relay.port) == before + through


def test_the_flag_beats_the_environment(shared, relay, target, tinyproxy):
    agent = shared.joined(relay, "beats")
    dead = f"http://127.0.0.1:{free_port()}"
    before = tunnels(tinyproxy, relay.port)
    done = agent.run("agent", *agent.trust(), "--proxy", tinyproxy.url, "-W", target.at, stdin="x",
                     env={"https_proxy": dead, "no_proxy": "*"})
    assert done.returncode == 0 and tunnels(tinyproxy, relay.port) == before + 1
    done = agent.run("agent", *agent.trust(), "--proxy", "none", "-W", target.at, stdin="x", env={"https_proxy": dead})
    assert done.returncode == 0


def test_the_invitations_proxy(shared, relay, target, tinyproxy):
    before = tunnels(tinyproxy, relay.port)
    agent = shared.joined(relay, "invited", invite_flags=["--proxy", tinyproxy.url])
    assert tunnels(tinyproxy, relay.port) == before + 1
    done = agent.run("agent", *agent.trust(), "-W", target.at, stdin="x")
    assert done.returncode == 0 and tunnels(tinyproxy, relay.port) == before + 2


def test_a_chain_of_two(shared, relay, target, tinyproxy, squid):
    agent = shared.joined(relay, "chain")
    first = shared.program_of(Tinyproxy)
    agent.start(["-L", f"0:{target.at}", "--proxy", first.url, "--proxy", squid.url])
    assert ask(agent.at(), DATA) == DATA
    assert f"CONNECT 127.0.0.1:{squid.port}" in first.output()
    agent.stop()
    wait_for("squid's log", lambda: tunnels(squid, relay.port))


def test_a_port_that_the_proxy_forbids(shared, relay, target):
    proxy = shared.program_of(Tinyproxy, connect_ports=[1])
    agent = shared.joined(relay, "forbidden")
    done = agent.run("agent", *agent.trust(), "--proxy", proxy.url, "-W", target.at)
    assert done.returncode == 3
    assert "403" in done.stderr and f"127.0.0.1:{proxy.port}" in done.stderr


def test_a_dead_proxy(shared, relay, target):
    port = free_port()
    agent = shared.joined(relay, "deadproxy")
    done = agent.run("agent", *agent.trust(), "--proxy", f"http://127.0.0.1:{port}", "-W", target.at)
    assert done.returncode == 3 and f"127.0.0.1:{port}" in done.stderr and "refused" in done.stderr.lower()


@pytest.mark.parametrize("answer", [
    b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"HTTP/1.1 200", b"HTTP/1.1 999 Odd\r\n\r\n", b"HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n",
    b"HTTP/1.1 502 Bad\x1b[31mGateway\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 3000 + b"\r\n", b"\x00" * 100,
    b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 400 Bad Request\r\n\r\n", b"<html>400</html>"],
    ids=["ssh", "nothing", "cut", "999", "302", "escape", "endless head", "zeros", "not tls", "html"])
def test_odd_answers_get_one_clear_line(shared, relay, target, answer):
    def serve(server, s):
        s.recv(4096)
        s.sendall(answer)
        s.shutdown(1)
        while s.recv(65536):
            pass
    proxy = shared.server(serve)
    agent = shared.joined(relay, "odd")
    done = agent.run("agent", *agent.trust(), "--proxy", f"http://{proxy.at}", "-W", target.at)
    assert done.returncode == 3
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and proxy.at in lines[0]
    assert all(0x20 <= ord(c) < 0x7f or c in "…–×→“”" for c in lines[0]), lines


def test_ssh_through_tinyproxy(shared, relay, tinyproxy):
    sshd = shared.program_of(Sshd)
    agent = shared.joined(relay, "sshproxy")
    command = f"{agent.program} --state {agent.state} agent {' '.join(agent.trust())} --proxy {tinyproxy.url} -W %h:%p"
    done = subprocess.run(sshd.client("-o", f"ProxyCommand={command}", "-p", str(sshd.port), f"{sshd.user}@127.0.0.1", "cat"),
                          input=DATA, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stdout == DATA) == (0, True), done.stderr


def test_an_agent_behind_a_restarted_proxy_comes_back(world):
    relay = world.relay()
    proxy = world.program_of(Tinyproxy)
    server = world.server()
    agent = world.add(Agent(world.program, world.place("agent")))
    agent.join(relay, allow=["127.0.0.1:*"], flags=["--proxy", proxy.url])
    agent.start(["-L", f"0:{server.at}", "--proxy", proxy.url])
    assert ask(agent.at(), DATA) == DATA
    proxy.proc.kill()

    def works():
        try:
            return ask(agent.at(), b"again") == b"again"
        except OSError:
            return False
    assert not works()
    proxy.launch(*proxy.proc.command)
    wait_for("the agent to come back", works, 60)
