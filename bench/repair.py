# SPDX-License-Identifier: Apache-2.0
"""Loads of the bench that hurt a tunnel: its connections are cut, silenced, frozen, its relay is killed, and the time is
taken until an echo comes back. Each starts tunnels of its own and gives {metric: figure}."""
import contextlib
import socket
import subprocess
import time

import tunnels  # noqa: F401: tells where testenv is
from testenv.culvert import Agent, Relay
from testenv.netns import Namespace, usable
from testenv.proc import free_port
from testenv.road import Road

PATIENCE = 40
RTT_MS = 40
FAR_MS = 300


class Lost(Exception):
    """The stream did not live through it."""


@contextlib.contextmanager
def bad_road(bench, kind, rtt_ms=RTT_MS):
    """A tunnel with a road between its ends: (tunnel, road)."""
    bench.serial += 1
    folder = bench.folder / f"{kind.name}-{bench.serial}"
    tunnel = kind(folder, bench.tools, bench.target)
    roads = []

    def hop(port, _):
        roads.append(Road(bench.tools, folder / "road", port, rtt_ms // 2, free_port()))
        return roads[0].port
    tunnel.hop = hop
    try:
        yield tunnel.start(), roads[0]
    finally:
        tunnel.stop()
        for road in roads:
            road.stop()


class Echo:
    """One stream to the bench's echo, as a terminal would use it."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(b"E")
        self.count = 0

    def key(self):
        self.count += 1
        try:
            self.socket.sendall(b"%8d" % self.count)
        except OSError as e:
            raise Lost(f"the stream ended: {e}")

    def answer(self):
        came = b""
        try:
            while not came.endswith(b"%8d" % self.count):
                more = self.socket.recv(4096)
                if not more:
                    raise Lost("the stream ended")
                came = (came + more)[-64:]
        except OSError as e:
            raise Lost(f"the stream ended: {e}")

    def type(self, seconds):
        """Typing for a while, as somebody does before a path dies under the hands."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.key()
            self.answer()
            time.sleep(0.05)


def repaired(bench, kind, hurt):
    """Median-able: milliseconds from the harm, and the next key typed right then, to that key's echo."""
    with bad_road(bench, kind) as (tunnel, road):
        echo = Echo(tunnel.port)
        echo.type(1.0)
        hurt(road)
        start = time.monotonic()
        echo.key()
        echo.answer()
        return {"ms": (time.monotonic() - start) * 1000}


def after_cut(bench, kind, how):
    return repaired(bench, kind, lambda road: road.do("end", how))


def after_return(bench, kind):
    """Nothing passes, for old connections and new ones, for 8 s; counted from the return."""
    with bad_road(bench, kind) as (tunnel, road):
        echo = Echo(tunnel.port)
        echo.type(1.0)
        road.do("freeze", "both")
        echo.key()
        time.sleep(8)
        start = time.monotonic()
        road.do("thaw")
        echo.answer()
        return {"ms": (time.monotonic() - start) * 1000}


def dropped(bench, kind, returns):
    """The packets of the connection are dropped by nft, without an answer; a new connection passes (a second way), or
    nothing passes for 8 s and all does after that."""
    with Namespace() as net:
        server = bench.serve("target")
        try:
            tunnel = kind(bench.place(kind), bench.tools, int(server.output()))
            try:
                tunnel.start()
                echo = Echo(tunnel.port)
                echo.type(1.0)
                ports = net.established(tunnel.far_port)
                net.drop(f"tcp dport {tunnel.far_port}" if returns else f"tcp sport {{ {', '.join(map(str, ports))} }}")
                if returns:
                    net.drop(f"tcp sport {tunnel.far_port}")
                else:
                    net.drop(f"tcp dport {{ {', '.join(map(str, ports))} }}")
                start = time.monotonic()
                echo.key()
                if returns:
                    time.sleep(8)
                    start = time.monotonic()
                    net.nft_clear()
                echo.answer()
                return {"ms": (time.monotonic() - start) * 1000}
            finally:
                tunnel.stop()
        finally:
            server.stop()


def failover(bench, kind, kill):
    """Two relays at 300 ms; the one in use dies. Until a new stream through the agent echoes."""
    folder = bench.place(kind)
    relays = [Relay(kind.program, folder / f"relay{i}") for i in range(2)]
    roads, agent = [], Agent(kind.program, folder / "agent")
    try:
        for i, relay in enumerate(relays):
            roads.append(Road(bench.tools, folder / f"road{i}", relay.port, FAR_MS // 2, free_port()))
            relay.start(url=f"wss://localhost:{roads[i].port}")
            agent.join(relay, name="site", allow=[f"127.0.0.1:{bench.target}"])
        both = folder / "both.crt"
        both.write_bytes(b"".join(relay.ca.read_bytes() for relay in relays))
        agent.trust = lambda: ["--ca", str(both)]
        agent.start(["-L", f"0:127.0.0.1:{bench.target}"])
        echo = Echo(agent.port())
        echo.type(2.0)
        used = max(range(2), key=lambda i: relays[i].status()["forwarding"]["streams_open"])
        relays[used].proc.kill()
        if not kill:
            roads[used].do("freeze", "both")
        start = time.monotonic()
        while time.monotonic() - start < PATIENCE:
            try:
                with socket.create_connection(("127.0.0.1", agent.port()), timeout=4 * FAR_MS / 1000) as s:
                    s.sendall(b"Ex")  # given up after four round trips: it may have been asked of the dead one
                    if s.recv(1) == b"x":
                        return {"ms": (time.monotonic() - start) * 1000}
            except OSError:
                pass
            time.sleep(0.01)
        raise Lost("no new stream")
    finally:
        agent.stop()
        for thing in roads + relays:
            thing.stop()


def beside_bulk(bench, kind, mbit):
    """A 64-byte echo beside 4 bulk streams down, at 80 ms RTT, through a bottleneck whose queue holds 10 ms."""
    with bad_road(bench, kind, 80) as (tunnel, road):
        road.do("wire", 1448)
        road.do("rate", mbit * 125000, mbit * 1250)
        road.do("end", "r")
        Echo(tunnel.port).type(1)  # over a connection of that rate
        bulk = subprocess.Popen([bench.tools / "bench-client", "down", str(tunnel.port), "4", str(3 << 30)],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(2)  # the bulk streams are at speed
            done = bench.client("echo", tunnel.port, 64, 100 if bench.quick else 300)
        finally:
            bulk.kill()
            bulk.wait()
        return {"p50 ms": done["p50_us"] / 1000, "p99 ms": done["p99_us"] / 1000}


def idle(bench, kind):
    """Segments with data that pass in a minute while nothing is asked of the tunnel. Quick: from 40 s."""
    with bad_road(bench, kind) as (tunnel, road):
        Echo(tunnel.port).type(0.5)
        time.sleep(10)
        seconds = 40 if bench.quick else 180
        before = road.stats()
        time.sleep(seconds)
        after = road.stats()
        return {"pieces a minute": (after["pieces"] - before["pieces"]) * 60 / seconds}


LOADS = [
    ("repair: RST", lambda b, k: after_cut(b, k, "r")),
    ("repair: end of file", lambda b, k: after_cut(b, k, "f")),
    ("repair: silence, new connections pass", lambda b, k: after_cut(b, k, "s")),
    ("repair: silence for 8 s, then all passes", after_return),
    *([("repair: packets dropped, new connections pass", lambda b, k: dropped(b, k, False)),
       ("repair: packets dropped for 8 s, then all pass", lambda b, k: dropped(b, k, True))] if usable() else []),
    (f"repair: relay killed, another one, {FAR_MS} ms RTT: new stream", lambda b, k: failover(b, k, True)),
    (f"repair: relay silent, another one, {FAR_MS} ms RTT: new stream", lambda b, k: failover(b, k, False)),
    ("fair: echo beside 4 bulk, 80 ms RTT, 100 Mbit/s", lambda b, k: beside_bulk(b, k, 100)),
    ("idle session", idle),
]
