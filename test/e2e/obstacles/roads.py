# SPDX-License-Identifier: Apache-2.0
"""Networks without a proxy that let little through, or not for long."""
import select
import time

from testenv.maze import CLIENT, RELAY, RELAY_NAME
from testenv.net import abort, connect, recv_exactly
from testenv.proc import wait_for
from testenv.programs import Program, find

from . import Way, scenario

NOWHERE = "10.77.2.99"


@scenario("Firewall: nothing but TCP to port 443", "nftables", "dials the relay itself")
def only_443(lab):
    lab.maze.open("tcp dport 443")
    return Way()


class Less:
    """A site's address, gone for a while."""

    def __init__(self, site, address):
        self.site, self.address = site, address
        site.ip("addr", "del", address, "dev", "out")

    def stop(self):
        self.site.link("out", self.address)


@scenario("IPv6 only", "a network without IPv4", "dials the relay's IPv6 address")
def ipv6_only(lab):
    lab.add(Less(lab.maze.client, f"{CLIENT}/24"))
    lab.maze.open("tcp dport 443")
    return Way()


@scenario("Name with two addresses, of which the first swallows all packets", "nftables", "dials the second one 250 ms later")
def first_address_blackholed(lab):
    lab.names(f"{NOWHERE} {RELAY_NAME}", f"{RELAY} {RELAY_NAME}")
    lab.maze.open(f"ip daddr {RELAY} tcp dport 443")
    return Way()


@scenario("IPv6 that swallows all packets, beside IPv4 that works", "nftables", "races both")
def ipv6_blackholed(lab):
    lab.maze.open(f"ip daddr {RELAY} tcp dport 443")
    return Way()


class Packets:
    """While it lasts, no bundles of packets pass as one."""

    def __init__(self, maze):
        self.maze = maze
        maze.whole_packets()

    def stop(self):
        self.maze.whole_packets(False)


@scenario("Packets of more than 1280 bytes vanish both ways, and nobody says so", "nftables",
          "dials again with a small segment size beside the attempt that hangs")
def mtu_hole(lab):
    lab.add(Packets(lab.maze))
    lab.maze.open("tcp dport 443")
    lab.maze.swallow("meta length > 1280")
    return Way()


class Middlebox(Program):
    """haproxy that passes connections on to the relay and ends those that were silent for so long."""

    def start(self, seconds):
        config = self.write("haproxy.cfg", "defaults", "    mode tcp", "    timeout connect 10s", f"    timeout client {seconds}s",
                            f"    timeout server {seconds}s", "listen all", f"    bind {self.host}:{self.port}",
                            f"    server relay {RELAY}:443")
        return self.launch(find("haproxy"), "-db", "-f", config)


def idle(lab, seconds, talk):
    lab.start(Middlebox, 8443, seconds)
    lab.maze.turn("tcp dport 443", 8443)
    return Way(talk=talk)


@scenario("Middlebox that ends what was idle for 2 s", "haproxy, transparent", "reconnects; the stream goes on")
def idle_2s(lab):
    def talk(agent, data):
        with connect(agent.at()) as s:
            resumed = lab.relay.status()["agents"]["resumed"]
            s.sendall(data[:1000])
            first = recv_exactly(s, 1000)
            wait_for("the cut", lambda: lab.relay.status()["agents"]["resumed"] > resumed)
            s.sendall(data[1000:])
            return first + recv_exactly(s, len(data) - 1000)
    return idle(lab, 2, talk)


@scenario("Middlebox that ends what was idle for 20 s, for a hundred seconds", "haproxy, transparent",
          "learns to speak often enough; the stream goes on", long=True)
def idle_20s(lab):
    def talk(agent, data):
        with connect(agent.at()) as s:
            resumed = lab.relay.status()["agents"]["resumed"]
            time.sleep(100)  # the scenario itself
            assert lab.relay.status()["agents"]["resumed"] <= resumed + 3
            s.sendall(data)
            return recv_exactly(s, len(data))
    return idle(lab, 20, talk)


class ShortLives:
    """Passes connections on to the relay, and ends each at that age by a reset."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __call__(self, server, s):
        over = time.monotonic() + self.seconds
        with connect(f"{RELAY}:443") as onward:
            ends = {s: onward, onward: s}
            while (left := over - time.monotonic()) > 0:
                for end in select.select(list(ends), [], [], left)[0]:
                    if not (data := end.recv(1 << 16)):
                        return
                    ends[end].sendall(data)
            abort(onward)
        abort(s)


def life(lab, seconds):
    """A transfer three times as long as a connection may live."""
    lab.serve(8443, ShortLives(seconds))
    lab.maze.turn("tcp dport 443", 8443)

    def talk(agent, data):
        back, step = b"", len(data) // 64
        with connect(agent.at()) as s:
            resumed = lab.relay.status()["agents"]["resumed"]
            while len(back) < len(data):
                s.sendall(data[len(back):len(back) + step])
                back += recv_exactly(s, step)
                time.sleep(seconds * 3 / 64)
            assert lab.relay.status()["agents"]["resumed"] >= resumed + 2
        return back
    return Way(talk=talk)


@scenario("Middlebox that lets connections live 2 s, under a transfer of 6 s", "a forwarder of the test's own",
          "reconnects; the stream goes on")
def life_2s(lab):
    return life(lab, 2)


@scenario("Middlebox that lets connections live 30 s, under a transfer of 90 s", "a forwarder of the test's own",
          "reconnects; the stream goes on", long=True)
def life_30s(lab):
    return life(lab, 30)
