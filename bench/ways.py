#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How soon a tunnel stands, and how fast it is, in networks that say no: with and without a hole for large packets, with a first
address that swallows SYNs or accepts and says nothing, with a front that passes no WebSocket. Two namespaces and a cable between them whose packets are as large as on the
wire (no segmentation offload), so that each costs what it costs on a real one. Transfers are timed twice: over a cable of --mbit, where the line is
the limit as it is for people, and over one without a limit, where the CPU is. Rounds are interleaved; medians. Needs root and nft."""
import argparse
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test" / "e2e"))

from testenv import netns  # noqa: E402
from testenv.culvert import Agent, Relay  # noqa: E402
from testenv.net import TcpServer, connect, hold, recv_exactly  # noqa: E402
from testenv.whole import WholeFront  # noqa: E402

NEAR, FAR, OTHER, PORT, PLAIN = "10.13.0.1", "10.13.0.2", "10.13.0.3", 8443, 8080
KINDS = {"no obstacle": "", "a hole for packets over 1400 bytes": "hole", "the first address swallows SYNs": "black",
         "the first address accepts and says nothing": "silent", "a front refuses Upgrade": "refuses",
         "a front says nothing to Upgrade": "mute"}
FRONTED = ("refuses", "mute")
SPEEDS = ("line down", "line send", "down", "send")


def serve(size):
    def load(server, s):
        if s.recv(1) == b"d":
            block, left = bytes(1 << 16), size
            while left > 0:
                s.sendall(block[:left])
                left -= len(block)
        else:
            recv_all(s, size)
            s.sendall(b"k")
    return load


def recv_all(s, size):
    while size:
        got = len(s.recv(min(size, 1 << 18)))
        if not got:
            raise EOFError
        size -= got


class Site:
    def __init__(self, program, folder, kind, size):
        self.size, self.kind = size, kind
        self.near, self.far = netns.Namespace(), netns.Namespace()
        self.near.ip("link", "add", "near0", "type", "veth", "peer", "name", "far0")
        self.near.ip("link", "set", "far0", "netns", self.far.path)
        for space, device, addresses in ((self.near, "near0", [NEAR]), (self.far, "far0", [FAR, OTHER])):
            for address in addresses:
                space.ip("addr", "add", f"{address}/24", "dev", device)
            space.ip("link", "set", "dev", device, "gso_max_segs", "1")
            space.ip("link", "set", device, "up")
        with self.far:
            self.target = TcpServer(serve(size), "127.0.0.1:0")
            self.relay = Relay(program, folder / "relay", PORT, ("relay.test",))
            self.relay.start(["--listen-plain", f"127.0.0.1:{PLAIN}"], url=f"wss://relay.test:{PORT}",
                             listen=["--listen", f"{FAR}:{PORT}", "--listen", f"127.0.0.1:{PORT}"])
            if kind in FRONTED:
                self.front = WholeFront(folder / "front", f"127.0.0.1:{PLAIN}", mute=kind == "mute", at=f"{FAR}:0")
        with self.near:
            self.agent = Agent(self.wrapped(program, folder / "agent"), folder / "agent")
            self.agent.join(self.relay, allow=("127.0.0.1:*",))
        self.obstruct()

    def wrapped(self, program, folder):
        """The program with a hosts file of its own."""
        folder.mkdir(parents=True)
        hosts, wrapper = folder / "hosts", folder / "culvert"
        first = f"{OTHER} relay.test\n" if self.kind in ("black", "silent") else ""
        hosts.write_text(f"127.0.0.1 localhost\n{first}{FAR} relay.test\n")
        wrapper.write_text(f"#!/bin/sh\nexec unshare -m sh -c 'mount --bind {hosts} /etc/hosts && exec \"$@\"' sh {program} \"$@\"\n")
        wrapper.chmod(0o755)
        return wrapper

    def obstruct(self):
        if self.kind == "hole":
            self.near.drop("iifname near0 meta length > 1400")
            self.far.drop("iifname far0 meta length > 1400")
        elif self.kind == "black":
            self.far.drop(f"ip daddr {OTHER}")
        elif self.kind == "silent":
            with self.far:
                self.silent = TcpServer(hold, f"{OTHER}:{PORT}")

    def limit(self, mbit):
        """Both directions of the cable; 0: none."""
        for space, device in ((self.near, "near0"), (self.far, "far0")):
            if mbit:
                space.inside("tc", "qdisc", "replace", "dev", device, "root", "tbf", "rate", f"{mbit}mbit", "burst", "64kb", "latency", "20ms")
            else:
                space.inside("tc", "qdisc", "del", "dev", device, "root")

    def start(self):
        """Seconds until it is ready, with nothing known of the network."""
        (self.agent.state / "networks.json").unlink(missing_ok=True)
        began = time.monotonic()
        front = ("--outer", "report", "--relay", f"wss://relay.test:{self.front.port}") if self.kind in FRONTED else ()
        with self.near:
            self.agent.start(("-L", f"0:{self.target.at}", *front), patience=60)
        return time.monotonic() - began

    def speed(self, direction):
        """MB/s."""
        with self.near, connect(self.agent.at(), 300) as s:
            began = time.monotonic()
            s.sendall(direction)
            if direction == b"d":
                recv_all(s, self.size)
            else:
                threading.Thread(target=s.sendall, args=(bytes(self.size),)).start()
                recv_exactly(s, 1)
            return self.size / (time.monotonic() - began) / 1e6

    def stop(self):
        self.agent.stop()
        self.relay.stop()
        self.target.stop()
        if self.kind == "silent":
            self.silent.stop()
        if self.kind in FRONTED:
            self.front.stop()


def measure(arguments, folder):
    sites = {name: Site(arguments.program, folder / f"{number}", kind, arguments.mb * 1_000_000)
             for number, (name, kind) in enumerate(KINDS.items())}
    compared = {name: site for name, site in sites.items() if site.kind in ("", "hole")}
    took = {name: {key: [] for key in ("up", *SPEEDS)} for name in KINDS}
    for _ in range(arguments.rounds):
        for name, site in sites.items():
            took[name]["up"].append(site.start())
        for mbit, keys in ((arguments.mbit, ("line down", "line send")), (0, ("down", "send"))):
            for site in compared.values():
                site.limit(mbit)
            for key, direction in zip(keys, (b"d", b"u")):
                for name, site in compared.items():
                    took[name][key].append(site.speed(direction))
        for site in sites.values():
            site.agent.stop()
    for site in sites.values():
        site.stop()
    return took


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path, default=Path("build/culvert"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mb", type=int, default=100, help="bytes of each transfer, in millions")
    parser.add_argument("--mbit", type=int, default=400, help="rate of the limited cable")
    arguments = parser.parse_args()
    arguments.program = arguments.program.resolve()
    if not netns.usable():
        raise SystemExit("ways: needs root and nft")
    socket.setdefaulttimeout(300)
    with tempfile.TemporaryDirectory() as folder:
        took = measure(arguments, Path(folder))
    print(f"| network | up after | {arguments.mbit} Mbit/s: to the agent | from the agent | no limit: to the agent | from the agent |")
    print("|---|---|---|---|---|---|")
    plain = took["no obstacle"]
    for name, one in took.items():
        cells = [f"{statistics.median(one['up']):.2f} s"]
        for key in SPEEDS:
            share = one[key] and statistics.median(one[key]) / statistics.median(plain[key])
            cells.append(f"{statistics.median(one[key]):.0f} MB/s ({share:.0%})" if one[key] else "")
        print("|", " | ".join([name, *cells]), "|")


if __name__ == "__main__":
    main()
