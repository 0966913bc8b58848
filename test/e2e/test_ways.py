# SPDX-License-Identifier: Apache-2.0
"""Which way is taken, and remembered, where the network has a hole for large packets: they are dropped, and no ICMP says so. How soon
is a matter of the ladder's unit tests, with exact times."""
import hashlib
import json
import os
import signal

import pytest

from testenv import netns
from testenv.net import connect, forward_to, hold, recv_exactly
from testenv.proc import free_port, wait_for
from testenv.programs import Tinyproxy
from testenv.whole import WholeFront

needs_root = pytest.mark.skipif(not netns.usable(), reason="needs root and nft")
NEAR, FAR = "10.13.0.1", "10.13.0.2"
HOLE = 1300 # bytes of a packet that pass: segments of 1200
LARGER = 1400 # the same: of 1340


def both_ways(at, size):
    """SHA-256 of what comes back of as many random bytes."""
    data = os.urandom(size)
    s = connect(at, 60)
    for start in range(0, size, 65536): # in turns: the echo holds little
        s.sendall(data[start:start + 65536])
        assert recv_exactly(s, len(data[start:start + 65536])) == data[start:start + 65536]
    s.close()
    return hashlib.sha256(data).hexdigest()


class Site:
    """An agent's network and a relay's, joined by one cable. Packets are as large as on the wire: no segmentation offload."""

    def __init__(self, world):
        self.world = world
        self.near, self.far = world.add(netns.Namespace()), world.add(netns.Namespace())
        self.near.ip("link", "add", "near0", "type", "veth", "peer", "name", "far0")
        self.near.ip("link", "set", "far0", "netns", self.far.path)
        for space, device, address in ((self.near, "near0", NEAR), (self.far, "far0", FAR)):
            space.ip("addr", "add", f"{address}/24", "dev", device)
            space.ip("link", "set", "dev", device, "gso_max_segs", "1")
            space.ip("link", "set", device, "up")

    def dig(self, towards, passes=HOLE):
        """Large packets vanish, on arrival at the agent (`down`), at the relay (`up`), or at both."""
        if "down" in towards:
            self.near.drop(f"iifname near0 meta length > {passes}")
        if "up" in towards:
            self.far.drop(f"iifname far0 meta length > {passes}")

    def fill(self):
        self.near.nft_clear()
        self.far.nft_clear()

    def relay(self, *flags):
        with self.far:
            self.server = self.world.server()
            return self.world.relay(flags=flags, listen=["--listen", f"{FAR}:8443", "--listen", "127.0.0.1:8443"], port=8443,
                                    url=f"wss://{FAR}:8443", hosts=(FAR,))

    def agent(self, relay, *flags):
        with self.near:
            return self.world.agent(relay, "-L", f"0:{self.server.at}", *flags)

    def send(self, agent, size=1 << 20):
        with self.near:
            return both_ways(agent.at(), size)


@pytest.fixture
def site(world):
    return Site(world)


def carrier(agent):
    return agent.table("carriers")[0]


def known_ways(agent):
    networks = json.loads((agent.state / "networks.json").read_text())
    return [way for network in networks.values() for way in network["ways"].items()]


@needs_root
class TestHole:
    @pytest.mark.parametrize("towards, passes, mss", [(("down",), HOLE, 1200), (("up",), LARGER, 1340), (("down", "up"), LARGER, 1340)])
    def test_large_packets_vanish(self, site, towards, passes, mss):
        relay = site.relay()
        site.dig(towards, passes)
        agent = site.agent(relay)
        site.send(agent)
        assert carrier(agent)["mss"] == mss and carrier(agent)["transport"] == "h1"
        assert agent.status()["carrier"]["mss"] == mss

    def test_what_worked_is_kept_for_the_network(self, site):
        relay = site.relay()
        site.dig(("down", "up"))
        agent = site.agent(relay)
        assert known_ways(agent) == [(f"{FAR}:8443", {"route": "direct", "transport": "h1", "mss": 1200})]
        agent.stop()
        with site.near:
            agent.start(["-L", f"0:{site.server.at}"])
        site.send(agent)
        assert agent.status()["carrier"]["attempts"] == 1
        assert carrier(agent)["mss"] == 1200

    def test_the_better_way_is_taken_when_it_is_back(self, site):
        """It is looked for when the network changes, and made before the other is broken: a stream does not notice."""
        relay = site.relay()
        site.dig(("down", "up"))
        agent = site.agent(relay, "--carriers", "2")
        with site.near:
            s = connect(agent.at(), 60)
        s.sendall(b"before")
        assert recv_exactly(s, 6) == b"before"
        site.fill()
        wait_for("both carriers", lambda: len(agent.table("carriers")) == 2)
        site.near.ip("addr", "add", "10.14.0.1/24", "dev", "near0")
        agent.proc.wait_log("moved to a better path", 60)
        wait_for("the small segments to be given up", lambda: [row["mss"] for row in agent.table("carriers")] == [None, None])
        s.sendall(b"behind")
        assert recv_exactly(s, 6) == b"behind"
        s.close()
        agent.stop()
        assert known_ways(agent) == []

    def test_a_hole_that_opens_under_a_session(self, site):
        relay = site.relay()
        agent = site.agent(relay)
        assert carrier(agent)["mss"] is None
        with site.near:
            s = connect(agent.at(), 60)
        site.dig(("down", "up"))
        data = os.urandom(1 << 20)
        with site.near:
            s.sendall(data[:1 << 17])
            assert recv_exactly(s, 1 << 17) == data[:1 << 17]
        assert carrier(agent)["mss"] == 1200
        s.close()

    def test_the_relay_may_limit_all(self, site):
        relay = site.relay("--mss", "1000")
        site.dig(("down", "up"))
        agent = site.agent(relay)
        site.send(agent)
        assert carrier(agent)["mss"] is None # the agent saw no need
        sizes = [int(word[4:]) for word in site.near.inside("ss", "-Htin", "dst", FAR).decode().split() if word.startswith("mss:")]
        assert sizes and max(sizes) <= 1000


class TestRoutes:
    def test_a_proxy_that_says_nothing_and_comes_back(self, world):
        """A script names a proxy, and the direct way behind it. The proxy accepts and is silent, until it is well again."""
        relay, server = world.relay(), world.server()
        tinyproxy = world.program_of(Tinyproxy, connect_ports=[relay.port])
        serve = [hold]
        proxy = world.server(lambda *at: serve[0](*at))
        script = world.folder / "proxy.pac"
        script.write_text(f'function FindProxyForURL(url, host) {{ return "PROXY {proxy.at}; DIRECT"; }}\n')
        agent = world.agent(relay, "-L", f"0:{server.at}", "--proxy", f"pac+file://{script}")
        assert agent.status()["carrier"]["path"] == "direct"
        assert [way["route"] for _, way in known_ways(agent)] == ["direct"]
        s = connect(agent.at(), 60)
        s.sendall(b"before")
        assert recv_exactly(s, 6) == b"before"
        serve[0] = forward_to(tinyproxy.port)
        agent.proc.signal(signal.SIGHUP)
        agent.proc.wait_log("moved to a better path", 60)
        wait_for("the direct way to be given up", lambda: [row["path"] for row in agent.table("carriers")] == [f"via {proxy.at}"])
        s.sendall(b"behind")
        assert recv_exactly(s, 6) == b"behind"
        s.close()
        agent.stop()
        assert known_ways(agent) == []


class TestTransport:
    def test_named(self, world):
        relay = world.relay()
        agent = world.agent(relay, "-T", "h1", "-L", f"0:{world.server().at}")
        assert agent.status()["carrier"]["transport"] == "h1" and agent.status()["carrier"]["path"] == "direct"

    def test_a_front_that_refuses_upgrade_and_learns_it(self, world):
        plain = free_port()
        relay, server = world.relay(flags=["--listen-plain", f"127.0.0.1:{plain}"]), world.server()
        whole = world.add(WholeFront(world.place("whole"), f"127.0.0.1:{plain}"))
        serve = [forward_to(whole.port)]
        front = world.server(lambda *at: serve[0](*at))
        agent = world.joined(relay)
        agent.start(["-L", f"0:{server.at}", "--relay", f"wss://localhost:{front.port}", "--outer", "report"])
        assert agent.status()["carrier"]["transport"] == "poll"
        assert [way["transport"] for _, way in known_ways(agent)] == ["poll"]
        s = connect(agent.at(), 60)
        s.sendall(b"before")
        assert recv_exactly(s, 6) == b"before"
        serve[0] = forward_to(relay.port)
        agent.proc.signal(signal.SIGHUP)
        agent.proc.wait_log("moved to a better path", 60)
        wait_for("long-poll to be given up", lambda: [row["transport"] for row in agent.table("carriers")] == ["h1"])
        s.sendall(b"behind")
        assert recv_exactly(s, 6) == b"behind"
        s.close()

    def test_a_front_that_says_nothing_to_upgrade(self, world):
        plain = free_port()
        relay, server = world.relay(flags=["--listen-plain", f"127.0.0.1:{plain}"]), world.server()
        front = world.add(WholeFront(world.place("whole"), f"127.0.0.1:{plain}", mute=True))
        agent = world.joined(relay)
        agent.start(["-L", f"0:{server.at}", "--relay", f"wss://localhost:{front.port}", "--outer", "report"])
        assert agent.status()["carrier"]["transport"] == "poll"
        assert both_ways(agent.at(), 1 << 20)

    def test_unknown(self, world):
        agent = world.joined(world.relay())
        done = agent.run("agent", "--transport", "h1,carrier-pigeon")
        assert done.returncode == 2 and "carrier-pigeon" in done.stderr and "h1" in done.stderr
