# SPDX-License-Identifier: Apache-2.0
"""invite, join, grant, revoke, explain: who gets in, who may what, and who is thrown out."""
import json
import re
import signal
import stat
import subprocess

import pytest

from testenv.culvert import Agent, must
from testenv.net import ask, connect, hold, recv_exactly, recv_to_end
from testenv.proc import Proc, wait_for


REFUSED = 5  # the relay says no: unknown, used, expired, revoked
UNTRUSTED = 4


def works(at):
    try:
        return ask(at, b"x") == b"x"
    except OSError:
        return False


def token_of(pairing):
    return re.search(r"token=([\w-]+)", pairing).group(1)


def join(agent, relay, pairing, *flags):
    agent.relay = relay
    return agent.run("join", "-", *agent.trust(), *flags, stdin=pairing + "\n")


def newcomer(world, name="newcomer"):
    return world.add(Agent(world.program, world.place(name)))


def everything_written(*folders):
    return b"".join(path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file())


def test_invite_prints_one_line(shared, relay):
    done = relay.run("invite", "--name", "site7", "--allow", "127.0.0.1:22")
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith(f"culvert://localhost:{relay.port}")
    assert "pin=" in lines[0] and "token=" in lines[0]


def test_join_by_argument(shared, relay):
    agent = newcomer(shared)
    agent.relay = relay
    assert agent.run("join", relay.invite("byarg"), *agent.trust()).returncode == 0


def test_a_token_works_once(shared, relay):
    pairing = relay.invite("once")
    first, second = newcomer(shared), newcomer(shared)
    assert join(first, relay, pairing).returncode == 0
    done = join(second, relay, pairing)
    assert done.returncode == REFUSED and token_of(pairing) not in done.stderr


def test_the_same_key_may_join_again(shared, relay):
    pairing = relay.invite("again")
    agent = newcomer(shared)
    assert join(agent, relay, pairing).returncode == 0
    assert join(agent, relay, pairing).returncode == 0


def test_several_uses(shared, relay):
    pairing = relay.invite("fleet", "--uses", "2")
    results = [join(newcomer(shared), relay, pairing).returncode for _ in range(3)]
    assert results[:2] == [0, 0] and results[2] == REFUSED


def test_unknown_used_and_expired_look_the_same(shared, relay):
    expired = relay.invite("late", "--ttl", "1s")
    used = relay.invite("used")
    assert join(newcomer(shared), relay, used).returncode == 0
    unknown = used.replace(token_of(used), "A" * len(token_of(used)))

    def answer(pairing):
        done = join(newcomer(shared), relay, pairing)
        return done.returncode, re.sub(r"/\S+|\d+", "", done.stderr)
    said = answer(unknown)
    assert said[0] == REFUSED
    assert answer(used) == said
    wait_for("the invitation to expire", lambda: answer(expired) == said)


def test_no_secret_is_left_behind(shared, relay):
    pairing = relay.invite("secret")
    agent = newcomer(shared)
    done = join(agent, relay, pairing)
    assert done.returncode == 0
    token = token_of(pairing).encode()
    assert token not in everything_written(agent.state)
    assert token not in everything_written(relay.state)
    assert token not in relay.log.read_bytes() + done.stdout.encode() + done.stderr.encode()


def test_files_are_private(shared, relay):
    agent = newcomer(shared)
    assert join(agent, relay, relay.invite("private")).returncode == 0
    for folder in (agent.state, relay.state):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0
        for path in folder.rglob("*"):
            if path.suffix in (".key", ".db", ".sock", ".json"):
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_an_agent_that_never_joined(shared, relay):
    agent = newcomer(shared)
    done = agent.run("agent", "-L", "0:127.0.0.1:1")
    assert done.returncode == 2 and "join" in done.stderr


def test_a_stranger_with_a_key_is_stopped(shared, relay):
    other = shared.relay("other")
    agent = newcomer(shared)
    pairing = other.invite("stranger")
    assert join(agent, other, pairing).returncode == 0
    done = agent.run("agent", "--ca", relay.ca, "--relay", relay.url, "-L", "0:127.0.0.1:1")
    assert done.returncode == UNTRUSTED


class TestRevoke:
    def test_a_running_agent_ends(self, shared, relay):
        server = shared.server()
        agent = shared.joined(relay, "revoked", invite_flags=["--allow-listen", "127.0.0.1:0"])
        agent.start(["-L", f"0:{server.at}", "-R", f"0:{server.at}"])
        with connect(agent.at()) as s:
            s.sendall(b"x")
            assert recv_exactly(s, 1) == b"x"
            must(relay.run("revoke", agent.name))
            assert agent.proc.wait_exit() == REFUSED
            with pytest.raises((ConnectionResetError, EOFError)):
                recv_exactly(s, 1)
        assert "revoked" in agent.log.read_text()
        assert agent.run("agent", *agent.trust(), "-L", "0:127.0.0.1:1").returncode == REFUSED

    def test_an_invitation(self, shared, relay):
        pairing = relay.invite("unwanted")
        invitations = relay.table("invitations")
        mine = [row for row in invitations if "unwanted" in row.values()]
        assert len(mine) == 1 and token_of(pairing) not in json.dumps(invitations)
        name = mine[0].get("invitation") or mine[0].get("id")
        must(relay.run("revoke", name))
        assert join(newcomer(shared), relay, pairing).returncode == REFUSED

    def test_nobody(self, relay):
        done = relay.run("revoke", "no-such-agent")
        assert done.returncode != 0 and "no-such-agent" in done.stderr

    def test_the_name_may_join_again_with_a_new_invitation(self, shared, relay):
        agent = shared.joined(relay, "phoenix")
        must(relay.run("revoke", agent.name))
        other = newcomer(shared)
        assert join(other, relay, relay.invite("phoenix")).returncode == 0


class TestPolicy:
    def test_nothing_is_allowed_by_default(self, shared, relay):
        server = shared.server()
        agent = shared.joined(relay, "bare", allow=[])
        done = agent.run("agent", *agent.trust(), "-W", server.at)
        assert done.returncode == 5 and server.at in done.stderr

    def test_the_port_counts(self, shared, relay):
        server, other = shared.server(), shared.server()
        agent = shared.joined(relay, "port", allow=[server.at])
        assert agent.run("agent", *agent.trust(), "-W", server.at, stdin="x").returncode == 0
        assert agent.run("agent", *agent.trust(), "-W", other.at, stdin="x").returncode == 5

    @pytest.mark.parametrize("rule", ["*:*", "0.0.0.0/0:*", "*.localhost:*", "[::]/0:*"])
    def test_wide_rules_and_names_never_reach_loopback(self, shared, relay, rule):
        server = shared.server()
        agent = shared.joined(relay, "wide", allow=[rule])
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"):
            done = agent.run("agent", *agent.trust(), "-W", f"{host}:{server.port}", stdin="x")
            assert done.returncode == 5, (host, done.stderr)

    def test_a_rule_that_could_only_mean_loopback_is_refused(self, relay):
        done = relay.run("invite", "--name", "x", "--allow", "localhost:*")
        assert done.returncode == 2 and "127.0.0.1" in done.stderr

    def test_grant_and_drop_count_at_once(self, shared, relay):
        server = shared.server()
        agent = shared.joined(relay, "granted", allow=[]).start(["-L", f"0:{server.at}"])
        with connect(agent.at()) as s, pytest.raises(ConnectionResetError):
            recv_to_end(s)
        must(relay.run("grant", agent.name, "--allow", server.at))
        wait_for("the new rule", lambda: works(agent.at()))
        with connect(agent.at()) as kept:
            kept.sendall(b"a")
            assert recv_exactly(kept, 1) == b"a"
            must(relay.run("grant", agent.name, "--drop", server.at))
            wait_for("the rule to be gone", lambda: not works(agent.at()))
            kept.sendall(b"b")  # what is open stays open
            assert recv_exactly(kept, 1) == b"b"

    def test_tcp_does_not_allow_udp(self, shared, relay):
        from testenv.net import udp
        server = shared.udp_echo()
        agent = shared.joined(relay, "tcponly", allow=[server.at]).start(["-L", f"0:{server.at}/udp"])
        with udp(agent.at()) as s:
            s.settimeout(1)
            s.send(b"x")
            with pytest.raises((TimeoutError, ConnectionRefusedError)):
                s.recv(10)
        assert server.count == 0


@pytest.fixture(scope="module")
def name(shared, relay):
    return shared.joined(relay, "explained", allow=["10.0.0.0/8:22", "*.example.org:443", "127.0.0.1:53/udp", "web@site9"],
                         invite_flags=["--allow-listen", "127.0.0.1:8080", "--allow-offer", "db"]).name


class TestExplain:
    @pytest.mark.parametrize("dest, status, rule", [
        ("10.1.2.3:22", 0, "10.0.0.0/8:22"), ("10.1.2.3:23", 5, None), ("11.0.0.1:22", 5, None),
        ("127.0.0.1:53/udp", 0, "127.0.0.1:53/udp"), ("127.0.0.1:53", 5, None), ("web@site9", 0, "web@site9"),
        ("web@site8", 5, None)])
    def test_dial(self, relay, name, dest, status, rule):
        done = relay.run("explain", name, dest)
        assert done.returncode == status, done.stdout + done.stderr
        assert rule is None or rule in done.stdout

    @pytest.mark.parametrize("at, status", [("127.0.0.1:8080", 0), ("127.0.0.1:8081", 5), ("*:8080", 5),
                                            ("127.0.0.1:8080/udp", 5)])
    def test_listen(self, relay, name, at, status):
        assert relay.run("explain", name, "--listen", at).returncode == status

    def test_an_unknown_agent(self, relay):
        done = relay.run("explain", "nobody-here", "10.0.0.1:22")
        assert done.returncode != 0 and "nobody-here" in done.stderr


def test_an_identity_survives_the_relays_restart(world):
    relay = world.relay()
    server = world.server()
    agent = world.joined(relay)
    relay.stop()
    relay.start()
    agent.start(["-L", f"0:{server.at}"])
    assert ask(agent.at(), b"still known") == b"still known"


def test_invite_without_a_running_relay(world):
    relay = world.relay()
    relay.stop()
    pairing = relay.invite("offline", allow=["127.0.0.1:*"])
    relay.start()
    assert join(newcomer(world), relay, pairing).returncode == 0


def test_join_against_a_dead_relay_can_be_tried_again(world):
    relay = world.relay()
    pairing = relay.invite("patient")
    relay.stop()
    agent = newcomer(world)
    done = join(agent, relay, pairing)
    assert done.returncode == 3 and str(relay.port) in done.stderr
    relay.start()
    assert join(agent, relay, pairing).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_join(world, number):
    relay = world.relay()
    agent = newcomer(world)
    pairing = relay.invite("signalled")
    relay.stop()
    silent = world.server(hold, at=f"127.0.0.1:{relay.port}")
    p = Proc([agent.program, "--state", agent.state, "join", pairing, "--ca", relay.ca], agent.folder / "join.log")
    assert silent.next() == "open"
    p.signal(number)
    assert p.wait_exit() == 1
    silent.stop()
    relay.start()
    lines = p.output().splitlines()
    assert len(lines) == 1 and f"not joined: ended by {number.name}; the same invitation may be tried again" in lines[0]
    assert join(agent, relay, pairing).returncode == 0


@pytest.mark.parametrize("round_", range(3))
def test_join_killed_at_any_point_can_be_tried_again(world, round_):
    """Kills the join after a little more time each; whatever was durable then, the same line works again."""
    relay = world.relay()
    for step in range(8):
        pairing = relay.invite(f"killed-{round_}-{step}")
        agent = newcomer(world)
        agent.relay = relay
        p = subprocess.Popen([agent.program, "--state", agent.state, "join", pairing, *agent.trust()],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            p.wait(0.004 * (step * 3 + round_ + 1))
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
        done = join(agent, relay, pairing)
        assert done.returncode == 0, done.stderr
        assert agent.run("agent", *agent.trust(), "--once", "-W", "127.0.0.2:1").returncode == 5  # known, and denied


def test_a_relay_killed_while_joining_can_be_tried_again(world):
    relay = world.relay()
    for step in range(6):
        pairing = relay.invite(f"relay-killed-{step}")
        agent = newcomer(world)
        agent.relay = relay
        p = subprocess.Popen([agent.program, "--state", agent.state, "join", pairing, *agent.trust()],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            p.wait(0.02 * step)
        except subprocess.TimeoutExpired:
            pass
        relay.proc.kill()
        p.wait(60)
        relay.start()
        done = join(agent, relay, pairing)
        assert done.returncode == 0, done.stderr
