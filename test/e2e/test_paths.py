# SPDX-License-Identifier: Apache-2.0
"""Networks that break: packets dropped or rejected by nft, a link that goes down, inside namespaces of the test's own."""
import pytest

from testenv import netns
from testenv.net import connect, recv_exactly
from testenv.proc import wait_for

pytestmark = pytest.mark.skipif(not netns.usable(), reason="needs root and nft")


@pytest.fixture
def network(world):
    space = world.add(netns.Namespace())
    with space:
        yield space


class Terminal:
    """One stream, used a key at a time."""

    def __init__(self, at):
        self.socket, self.count = connect(at, 60), 0

    def key(self):
        self.count += 1
        self.socket.sendall(b"%6d" % self.count)

    def works(self):
        assert recv_exactly(self.socket, 6) == b"%6d" % self.count
        return True

    def type(self):
        self.key()
        return self.works()


def ports(network, relay):
    """The agents' ports of the connections that stand."""
    return ", ".join(map(str, network.established(relay.port)))


@pytest.fixture
def pair(world, network):
    relay = world.relay()
    return relay, world.agent(relay, "-L", f"0:{world.server().at}")


def test_a_dead_path_beside_one_that_works(network, pair):
    """Packets of the connection vanish without an answer; new connections pass."""
    relay, agent = pair
    terminal = Terminal(agent.at())
    assert terminal.type()
    network.drop(f"tcp sport {{ {ports(network, relay)} }}")
    terminal.key()
    assert terminal.works() and terminal.type()
    assert relay.status()["agents"]["resumed"] > 0


def test_a_dead_path_that_comes_back(network, pair):
    relay, agent = pair
    terminal = Terminal(agent.at())
    assert terminal.type()
    network.drop(f"tcp dport {relay.port}")
    network.drop(f"tcp sport {relay.port}")
    terminal.key()
    agent.proc.wait_log("suspect", 60)
    network.nft_clear()
    assert terminal.works() and terminal.type()


def test_a_firewall_that_rejects(network, pair):
    """Each packet of the old connection is answered with a reset."""
    relay, agent = pair
    terminal = Terminal(agent.at())
    assert terminal.type()
    network.reject(f"tcp sport {{ {ports(network, relay)} }}")
    terminal.key()
    assert terminal.works() and terminal.type()


class TestTwoLinks:
    """The relay stands in a network of its own, which two links lead to; the better one goes."""

    @pytest.fixture
    def far(self, world, network):
        far = world.add(netns.Namespace())
        for number in (1, 2):
            network.ip("link", "add", f"link{number}", "type", "veth", "peer", "name", f"far{number}")
            network.ip("link", "set", f"far{number}", "netns", far.path)
            network.ip("addr", "add", f"10.11.{number}.1/24", "dev", f"link{number}")
            network.ip("link", "set", f"link{number}", "up")
            far.ip("addr", "add", f"10.11.{number}.2/24", "dev", f"far{number}")
            far.ip("link", "set", f"far{number}", "up")
            network.ip("route", "add", "10.12.0.1", "via", f"10.11.{number}.2", "metric", str(number))
        far.ip("addr", "add", "10.12.0.1/32", "dev", "lo")
        return far

    def start(self, world, far):
        with far:
            server = world.server()
            relay = world.relay(listen=["--listen", "10.12.0.1:8443", "--listen", "127.0.0.1:8443"], port=8443,
                                url="wss://10.12.0.1:8443", hosts=("10.12.0.1",))
        return relay, world.agent(relay, "-L", f"0:{server.at}")

    def test_link_down(self, world, network, far):
        relay, agent = self.start(world, far)
        terminal = Terminal(agent.at())
        assert terminal.type()
        network.ip("link", "set", "link1", "down")
        terminal.key()
        assert terminal.works() and terminal.type()
        assert relay.table("agents")[0]["peer"].startswith("10.11.2.1:")

    def test_route_change(self, world, network, far):
        """The address stays, the way leads elsewhere, and the old one swallows everything."""
        relay, agent = self.start(world, far)
        terminal = Terminal(agent.at())
        assert terminal.type()
        with far:
            far.nft("add rule inet cut in iifname far1 drop")
        network.ip("route", "del", "10.12.0.1", "metric", "1")
        terminal.key()
        assert terminal.works() and terminal.type()
        wait_for("the session to be resumed", lambda: relay.status()["agents"]["resumed"] > 0)
