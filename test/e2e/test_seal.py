# SPDX-License-Identifier: Apache-2.0
"""Streams between agents that the relay cannot read, nor step down, splice or answer in another's place."""
import socket
import subprocess

import pytest

from conftest import PLAIN
from testenv.culvert import must
from testenv.net import abort, ask, ask_udp, connect, digest, echo, pattern_bytes, pattern_sha, recv_exactly, recv_head, \
    recv_to_end, reset_after_first, udp
from testenv.proc import free_port, wait_for
from testenv.traffic import Enough, Traffic
from test_cuts import Pair, Watch

BAD_RELAY = PLAIN.parent / "test/e2e/bad_relay"
CANARY = b"canary-4d1f9c2e7b-"
HEALTHY = b"GET / HTTP/1.0\r\n\r\n"


def pin_of(agent):
    return must(agent.run("peer")).split()[0].partition(":")[2]


def knows(agent, other, name=None):
    must(agent.run("peer", "add", f"{name or other.name}:{pin_of(other)}"))


class Two:
    """`near` offers the service it; `far` asks for it at far.at()."""

    def __init__(self, world, serve=echo, relay=None, offer_flags=(), ask_flags=(), pins="far", other=None,
                 target=None):
        self.world = world
        self.relay = relay or world.relay()
        self.server = world.server(serve)
        self.near = world.joined(self.relay, "near", allow=[],
                                 invite_flags=["--allow-offer", "it", "--allow-offer", "other"])
        peer = ["--peer", "near"] if pins in ("far", "both") else []
        self.far = world.joined(self.relay, "far", allow=["it@near", "other@near"], invite_flags=peer)
        if pins in ("near", "both"):
            knows(self.near, self.far)
        offers = ["--offer", f"it={target or self.server.at}"] + (["--offer", f"other={other.at}"] if other else [])
        self.near.start([*offers, *offer_flags])
        self.far.start(["-L", "0:it@near", *ask_flags])

    def at(self):
        return self.far.at()

    def stdio(self, *flags):
        """it@near by -W: exit status and what was said."""
        return subprocess.run([str(self.far.program), "--state", str(self.far.state), "agent", *self.far.trust(), "-W",
                               "it@near", *flags], input=HEALTHY, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=60)


def reads(server, s):
    recv_to_end(s)


def is_refused(at):
    """Whether the caller gets an end or a reset, and not one byte."""
    try:
        return ask(at, b"hello") == b""
    except OSError:
        return True


def sealed(agent):
    return [row["sealed"] for row in agent.table("streams")]


def test_sealed_by_itself_where_the_invitation_names_the_peer(world):
    two = Two(world, reads)
    with connect(two.at()) as s:
        s.sendall(b"x")
        wait_for("the target", lambda: sealed(two.near) == ["yes"])
        assert sealed(two.far) == ["yes"]
        assert two.far.status()["seal"] == "auto" and two.far.status()["peers"] == 1
        assert [row["sealed"] for row in two.relay.table("streams")] == ["yes"]


def test_bytes_halves_and_many_streams(world):
    two = Two(world, pins="both")
    data = pattern_bytes(3_000_000, 5)
    assert ask(two.at(), data) == data, "the caller's end came through, and then the target's"
    assert ask(two.at(), b"") == b""
    callers = [connect(two.at()) for _ in range(40)]
    for i, s in enumerate(callers):
        s.sendall(b"%d" % i)
        s.shutdown(socket.SHUT_WR)
    assert [recv_to_end(s) for s in callers] == [b"%d" % i for i in range(40)]
    assert sealed(two.far) == []


def test_the_target_may_end_first(world):
    def ends_first(server, s):
        s.sendall(b"bye")
        s.shutdown(socket.SHUT_WR)
        server.seen.put(len(recv_to_end(s)))
    two = Two(world, ends_first)
    with connect(two.at()) as s:
        assert recv_to_end(s) == b"bye"
        s.sendall(b"y" * 500_000)
        s.shutdown(socket.SHUT_WR)
        assert two.server.next() == 500_000


def test_resets_pass_both_ways(world):
    two = Two(world, reads)
    s = connect(two.at())
    s.sendall(b"x")
    wait_for("the stream", lambda: sealed(two.near) == ["yes"])
    abort(s)
    assert two.server.next() == "reset"
    wait_for("the stream's end", lambda: sealed(two.near) == [])


def test_the_target_resets(world):
    two = Two(world, reset_after_first)
    with connect(two.at()) as s:
        s.sendall(b"now")
        with pytest.raises(ConnectionResetError):
            recv_to_end(s)


def test_64_mib_by_curl(fast_world):
    size = 64 << 20
    folder = fast_world.folder / "www"
    folder.mkdir()
    (folder / "big").write_bytes(pattern_bytes(size, 9))

    def serve(server, s):
        assert recv_head(s)
        s.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        with open(folder / "big", "rb") as f:
            s.sendfile(f)
    two = Two(fast_world, serve, pins="both")
    shell = f"curl -sSf --max-time 120 http://{two.at()}/big | sha256sum"
    assert subprocess.run(["bash", "-o", "pipefail", "-c", shell], stdout=subprocess.PIPE, check=True,
                          timeout=150).stdout.split()[0].decode() == pattern_sha(size, 9)


def test_64_mib_up(fast_world):
    size = 64 << 20
    two = Two(fast_world, digest, pins="both")
    with connect(two.at(), 120) as s:
        s.sendall(pattern_bytes(size, 3))
        s.shutdown(socket.SHUT_WR)
        assert recv_to_end(s).decode() == f"{size} {pattern_sha(size, 3)}"


def test_sealed_streams_outlive_their_connections(fast_world):
    pair = Pair(fast_world)
    knows(pair.near, pair.far)
    knows(pair.far, pair.near)
    traffic = Traffic(fast_world, Enough(8 << 20, lambda: watch.value >= 20), patience=120)
    pair.start(traffic.server.at, ["--seal", "always"])
    watch = Watch(pair.cuts)
    try:
        for _ in range(2):
            traffic.call(pair.far.at(1))
        wait_for("both streams to flow", lambda: traffic.flowing == 2)
        assert sealed(pair.far) == ["yes", "yes"]
        pair.do("cut", 1024, 4 << 20, "rf")
        pair.do("end", "rf")
        traffic.check()
        assert watch.value >= 20
    finally:
        watch.stop()


# Whom an agent believes ---------------------------------------------------------------------------------------


def test_another_key_under_the_peers_name_is_refused(world):
    two = Two(world)
    must(two.far.run("peer", "remove", "near"))
    must(two.far.run("peer", "add", f"near:{pin_of(two.far)}"))  # as if the relay had given the name to another agent
    assert is_refused(two.at()), "a running agent follows"
    done = two.stdio()
    assert done.returncode == 4, done.stderr
    assert pin_of(two.near) in done.stderr.decode() and "not the pinned one" in done.stderr.decode()
    assert two.server.seen.empty()


def test_who_does_not_seal_is_not_spoken_to_in_clear(world):
    two = Two(world, offer_flags=["--seal", "never"])
    assert is_refused(two.at())
    assert b"--seal never" in two.stdio().stderr
    assert two.server.seen.empty()
    assert two.stdio("--seal", "never").returncode == 0, "as told, in clear"
    assert two.server.next() == f"end after {len(HEALTHY)}"


def test_an_asker_whose_pin_is_known_must_seal(world):
    two = Two(world, pins="near")
    done = two.stdio()
    assert done.returncode == 5 and b"unsealed" in done.stderr
    knows(two.far, two.near)
    assert two.stdio().stdout == HEALTHY


def test_strangers_are_in_clear_by_default(world):
    two = Two(world, reads, pins="none")
    with connect(two.at()) as s:
        s.sendall(b"x")
        wait_for("the target", lambda: sealed(two.near) == ["no"])
        assert sealed(two.far) == ["no"]


@pytest.mark.parametrize("pins,good", [("none", False), ("far", False), ("near", False), ("both", True)])
def test_always_wants_both_pins(world, pins, good):
    two = Two(world, pins=pins, offer_flags=["--seal", "always"], ask_flags=["--seal", "always"])
    done = two.stdio("--seal", "always")
    assert (done.stdout == HEALTHY) is good, done.stderr
    assert (done.returncode == 0) is good
    if pins in ("none", "near"):
        assert done.returncode == 4 and b"culvert peer add near" in done.stderr
    elif not good:
        assert done.returncode == 5 and b"--seal always" in done.stderr
    assert good or two.server.seen.empty()


def test_what_the_target_said_comes_through(world):
    two = Two(world, pins="both", target=f"127.0.0.1:{free_port()}")
    done = two.stdio()
    assert done.returncode == 3 and b"refused" in done.stderr


# A relay that cheats ------------------------------------------------------------------------------------------


def cheating(world, how, **env):
    return world.relay(program=BAD_RELAY, env={"BAD_RELAY": how, **env})


def test_a_cheating_relay_otherwise_serves(world):
    two = Two(world, relay=cheating(world, "nothing"), pins="both")
    assert ask(two.at(), b"fine") == b"fine"


@pytest.mark.parametrize("how", ["unsealed", "liar"])
@pytest.mark.parametrize("pins", ["far", "both"])
def test_a_relay_cannot_take_the_seal_off(world, how, pins):
    two = Two(world, relay=cheating(world, how), pins=pins)
    assert is_refused(two.at())
    done = two.stdio()
    assert done.returncode in (1, 3, 4, 5) and done.stdout == b""
    if how == "unsealed" and pins == "far":
        assert done.returncode == 4 and b"answered unsealed" in done.stderr
    log = two.far.log.read_text() + two.near.log.read_text()
    assert "unsealed" in log or "TLS" in log
    assert CANARY not in log.encode()


def test_a_relay_cannot_choose_another_service(world):
    other = world.server()
    two = Two(world, relay=cheating(world, "swap"), pins="both", other=other)
    done = two.stdio()
    assert done.returncode != 0 and done.stdout == b"" and b"sealed" in done.stderr
    assert other.seen.empty() and two.server.seen.empty()


def test_a_relay_cannot_call_the_asker_by_anothers_name(world):
    two = Two(world, relay=cheating(world, "name"), pins="far")
    knows(two.near, two.near, "friend")
    done = two.stdio()
    assert done.returncode == 5 and b"friend is known here by another pin" in done.stderr
    assert two.server.seen.empty()


# Datagrams ----------------------------------------------------------------------------------------------------


class TwoUdp(Two):
    def __init__(self, world, pins="both", relay=None, offer_flags=(), ask_flags=()):
        self.echo = world.udp_echo()
        super().__init__(world, pins=pins, relay=relay, target=f"{self.echo.at}/udp", offer_flags=offer_flags,
                         ask_flags=["-L", "0:it@near/udp", *ask_flags])

    def udp_at(self):
        return self.far.at(1)


def test_datagrams_are_sealed_each_by_itself(world):
    two = TwoUdp(world)
    with udp(two.udp_at()) as s:
        for size in (0, 1, 1200, 16319, 32768, 65507 - 24):
            data = pattern_bytes(size, size)
            assert ask_udp(s, data)[0] == data
        assert [row["sealed"] for row in two.far.table("flows") + two.near.table("flows")] == ["yes", "yes"]
    callers = [udp(two.udp_at()) for _ in range(10)]
    for i, s in enumerate(callers):
        assert ask_udp(s, b"%d" % i)[0] == b"%d" % i


def test_the_first_datagrams_wait_for_the_handshake(world):
    two = TwoUdp(world)
    with udp(two.udp_at()) as s:
        for i in range(10):
            s.send(b"%d" % i)
        assert [s.recv(100) for _ in range(10)] == [b"%d" % i for i in range(10)]


@pytest.mark.parametrize("pins", ["none", "far", "near"])
def test_datagrams_under_always_need_both_pins(world, pins):
    two = TwoUdp(world, pins, offer_flags=["--seal", "always"], ask_flags=["--seal", "always"])
    with udp(two.udp_at()) as s:
        s.send(b"hello")
        (two.near if pins == "far" else two.far).proc.wait_log("flow refused")
    assert not two.echo.senders


@pytest.mark.parametrize("how", ["unsealed", "liar"])
def test_a_relay_cannot_take_the_seal_off_datagrams(world, how):
    two = TwoUdp(world, "far", relay=cheating(world, how))
    with udp(two.udp_at()) as s:
        s.send(CANARY)
        if how == "liar":
            two.near.proc.wait_log("DATA on a flow")
        else:  # whichever end sees it first: the answer is not sealed, the first words of a handshake are no datagrams
            wait_for("a refusal", lambda: "flow refused" in two.far.proc.output() or "DATA on a flow" in two.near.proc.output())
    assert not two.echo.senders


# What the relay sees ------------------------------------------------------------------------------------------


def memory_has(pid, needle):
    """Greps all readable memory of a process."""
    found = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            span, mode, *rest = line.split()
            if mode[0] != "r" or line.rstrip().endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = (int(x, 16) for x in span.split("-"))
            tail = b""
            for at in range(start, end, 1 << 24):
                mem.seek(at)
                try:
                    block = tail + mem.read(min(1 << 24, end - at))
                except OSError:
                    break  # a hole
                found += block.count(needle)
                tail = block[-len(needle):]
    return found > 0


@pytest.mark.parametrize("pins", ["both", "none"])
def test_the_relay_sees_no_plaintext(fast_world, pins):
    record = fast_world.folder / "record"
    two = Two(fast_world, relay=cheating(fast_world, "record", BAD_RELAY_RECORD=str(record)), pins=pins)
    pid = two.relay.proc.pid
    expected = pins == "none"  # in clear all is found: so the test can fail
    text = CANARY * 10_000
    seen = False
    with connect(two.at()) as s:
        for _ in range(8):  # looked for while it is on its way
            s.sendall(text)
            seen = memory_has(pid, CANARY) or seen
            assert recv_exactly(s, len(text)) == text
        seen = memory_has(pid, CANARY) or seen
    assert seen is expected
    captured = record.read_bytes()
    assert len(captured) >= 2 * 8 * len(text), "all that was switched was recorded, both ways"
    assert (CANARY in captured) is expected


# The command --------------------------------------------------------------------------------------------------


def test_peer_shows_what_peer_takes(world):
    relay = world.relay()
    one, two = world.joined(relay, "one"), world.joined(relay, "two")
    mine, *none = must(one.run("peer")).splitlines()
    assert mine.startswith("one:") and mine.endswith(" (this agent)") and none == []
    line = mine.split()[0]
    for _ in range(2):
        must(two.run("peer", "add", line))
        assert must(two.run("peer")).splitlines()[1:] == [line]
    must(two.run("peer", "remove", line))
    assert two.run("peer", "remove", "one").returncode == 2
    for words in (["add", "one"], ["add", "one:short"], ["add", line.replace("one", "o ne")], ["take", line]):
        done = two.run("peer", *words)
        assert done.returncode == 2 and "culvert peer" in done.stderr, words


def test_invite_names_only_peers_that_are_enrolled(world):
    relay = world.relay()
    done = relay.run("invite", "--name", "x", "--peer", "nobody")
    assert done.returncode == 2 and "nobody" in done.stderr and "culvert://" not in done.stdout


def test_an_invitation_does_not_replace_a_known_pin(world):
    relay = world.relay()
    near, far = world.joined(relay, "near"), world.joined(relay, "far")
    knows(far, far, "near")
    line = relay.invite("far2", "--peer", "near")
    done = far.run("join", "-", *far.trust(), stdin=line + "\n")
    assert done.returncode == 4 and "culvert peer remove near" in done.stderr
    must(far.run("peer", "remove", "near"))
    must(far.run("join", "-", *far.trust(), stdin=line + "\n"))
    assert must(far.run("peer")).splitlines()[1:] == [f"near:{pin_of(near)}"]
