# SPDX-License-Identifier: Apache-2.0
"""Streams outlive their connections: whatever cuts these, at whatever byte, all bytes of both directions arrive once and in
order, half-closes are kept, and no program sees a reset. `./dev cuts COUNT` runs the first test with that many cuts."""
import os
import threading

import pytest

from testenv.net import connect, recv_exactly
from testenv.proc import wait_for
from testenv.programs import Haproxy, Squid, Tinyproxy
from testenv.traffic import Enough, Traffic

CUTS = int(os.environ.get("CULVERT_CUTS", "200"))
MIB = 1 << 20


class Pair:
    """Two agents that reach their relay over a road each, and the three ways to a server."""

    def __init__(self, world, delay_ms=0):
        self.relay = world.relay()
        self.roads = [world.road(self.relay.port, delay_ms=delay_ms) for _ in range(2)]
        self.near = world.joined(self.relay, "near", allow=["127.0.0.1:*"],
                                 invite_flags=["--allow-listen", "127.0.0.1:0", "--allow-offer", "it"])
        self.far = world.joined(self.relay, "far", allow=["127.0.0.1:*", f"it@{self.near.name}"])

    def start(self, at, flags=()):
        self.near.start(["-R", f"0:{at}", "--offer", f"it={at}", *self.near.relay_flags(self.roads[0].port), *flags])
        self.far.start(["-L", f"0:{at}", "-L", f"0:it@{self.near.name}", *self.far.relay_flags(self.roads[1].port), *flags])
        return self

    def ways(self):
        return [self.far.at(0), self.near.at(0, "reverse"), self.far.at(1)]

    def do(self, *words):
        for road in self.roads:
            road.do(*words)

    def cuts(self):
        return sum(road.stats()["cuts"] for road in self.roads)


class Watch:
    """road.stats() for many threads: a figure that is asked for a few times a second."""

    def __init__(self, count):
        self.value, self.over = 0, threading.Event()
        self.thread = threading.Thread(target=self.run, args=(count,), daemon=True)
        self.thread.start()

    def run(self, count):
        while not self.over.wait(0.05):
            self.value = count()

    def stop(self):
        self.over.set()
        self.thread.join()


def cut_under_load(world, pair, count, share, plan, streams):
    traffic = Traffic(world, Enough(share, lambda: watch.value >= count), patience=280 if CUTS <= 200 else 3000)
    pair.start(traffic.server.at)
    watch = Watch(pair.cuts)
    try:
        for at in pair.ways()[:streams]:
            traffic.call(at)
        wait_for("all streams to flow", lambda: traffic.flowing == streams)
        pair.do("cut", *plan)
        pair.do("end", "rf")
        total = traffic.check()
        assert watch.value >= count
        return total
    finally:
        watch.stop()


@pytest.mark.timeout(300 if CUTS <= 200 else 3600)
def test_a_gibibyte_survives_cuts(fast_world):
    """Connections are cut by RST and FIN at bytes drawn from all of their life, handshakes included."""
    pair = Pair(fast_world)
    total = cut_under_load(fast_world, pair, CUTS, (1 << 30) // 6, (1024, 48 * MIB, "rf"), 3)
    assert total >= 1 << 30


def test_with_sanitizers(world):
    """The same, smaller."""
    cut_under_load(world, Pair(world), 30, 4 * MIB, (1024, 4 * MIB, "rf"), 3)


@pytest.mark.parametrize("how", ["s", "u", "d"])
def test_silence_under_load(fast_world, how):
    """A connection falls silent, in one direction or both, and is never heard of again."""
    pair = Pair(fast_world)
    silenced = threading.Event()
    traffic = Traffic(fast_world, Enough(4 * MIB, silenced.is_set))
    pair.start(traffic.server.at)
    for at in pair.ways():
        traffic.call(at)
    wait_for("all streams to flow", lambda: traffic.flowing == 3)
    resumed = pair.relay.status()["agents"]["resumed"]
    pair.do("end", how)
    wait_for("both sessions to be resumed", lambda: pair.relay.status()["agents"]["resumed"] >= resumed + 2, 60)
    silenced.set()
    traffic.check()


def test_connections_that_live_a_moment(world):
    """No connection lives long enough to carry a window: what was acknowledged in each of them counts."""
    pair = Pair(world, delay_ms=5)
    traffic = Traffic(world, Enough(3 * MIB))
    pair.start(traffic.server.at)
    for at in pair.ways():
        traffic.call(at)
    wait_for("all streams to flow", lambda: traffic.flowing == 3)
    pair.do("rate", 4 * MIB, 256 << 10)
    pair.do("life", 150, 300, "rf")
    pair.do("end", "r")
    traffic.check()
    assert pair.cuts() > 4


class TestKilledInThePath:
    """A program between agent and relay is killed with -9 under load and started again, several times."""

    def run(self, world, relay, start, flags, again):
        killed = threading.Event()
        traffic = Traffic(world, Enough(16 * MIB, killed.is_set))
        agent = world.joined(relay, allow=["127.0.0.1:*"], invite_flags=["--allow-listen", "127.0.0.1:0"])
        program = start()
        agent.start(["-L", f"0:{traffic.server.at}", "-R", f"0:{traffic.server.at}", *flags(agent, program)])
        for at in (agent.at(0), agent.at(0, "reverse")):
            traffic.call(at)
        wait_for("the streams to flow", lambda: traffic.flowing == 2)
        for _ in range(4):
            resumed = relay.status()["agents"]["resumed"]
            program.proc.kill()
            again(program)
            wait_for("the session to be resumed", lambda: relay.status()["agents"]["resumed"] > resumed)
        killed.set()
        traffic.check()

    @pytest.mark.parametrize("kind", [Squid, Tinyproxy])
    def test_proxy(self, fast_world, kind):
        self.run(fast_world, fast_world.relay(), lambda: fast_world.program_of(kind),
                 lambda agent, proxy: ["--proxy", proxy.url], lambda proxy: proxy.start())

    def test_front(self, fast_world):
        relay = fast_world.relay()

        def flags(agent, front):
            agent.trust = lambda: ["--ca", str(front.ca)]
            return ["--relay", f"wss://localhost:{front.port}"]
        self.run(fast_world, relay, lambda: fast_world.program_of(Haproxy, relay.port), flags,
                 lambda front: front.start(relay.port))


def test_an_idle_session_behind_a_middlebox_that_forgets(fast_world):
    """What was silent for a while is dropped in silence: the stream goes on all the same when its program speaks."""
    relay = fast_world.relay()
    road = fast_world.road(relay.port)
    agent = fast_world.joined(relay)
    agent.start(["-L", f"0:{fast_world.server().at}", *agent.relay_flags(road.port)])
    with connect(agent.at(), 120) as s:
        for _ in range(2):
            s.sendall(b"hello")
            assert recv_exactly(s, 5) == b"hello"
            cuts = road.stats()["cuts"]
            road.do("idle", 500, "s")
            wait_for("the middlebox to forget", lambda: road.stats()["cuts"] > cuts)
            road.do("idle", 0, "r")
        s.sendall(b"again")
        assert recv_exactly(s, 5) == b"again"


@pytest.mark.parametrize("who", ["agent", "relay"])
def test_a_process_that_slept(fast_world, who):
    """Stopped until the other end has given the connection up, then woken: streams go on."""
    relay = fast_world.relay()
    agent = fast_world.agent(relay, "-L", f"0:{fast_world.server().at}")
    sleeper, other = (agent, relay) if who == "agent" else (relay, agent)
    with connect(agent.at(), 120) as s:
        s.sendall(b"hello")
        assert recv_exactly(s, 5) == b"hello"
        with sleeper.proc.asleep():
            s.sendall(b"asleep")
            other.proc.wait_log("connection lost" if who == "relay" else "carrier down agent=agent", 120)
        s.settimeout(120)
        assert recv_exactly(s, 6) == b"asleep"
