# SPDX-License-Identifier: Apache-2.0
"""A client whose only way out is an obstacle: three networks in a row, client — middle — relay. The middle drops every packet
that it was not told to let through, and runs the obstacle; nothing else connects the outer two. Each has names of its
own, for what is started by way of `within` (a mount of /etc/hosts) and only there."""
import os
import socket
from pathlib import Path

from . import netns
from .programs import find

GATE, CLIENT = "10.77.1.1", "10.77.1.2"      # the middle, as the client sees it; the client
FAR_GATE, RELAY = "10.77.2.1", "10.77.2.2"   # the middle, as the relay sees it; the relay
RELAY_2 = "10.77.2.3"
GATE_6, CLIENT_6, FAR_GATE_6, RELAY_6 = "fd77:1::1", "fd77:1::2", "fd77:2::1", "fd77:2::2"
PROXY_NAME, FRONT_NAME, RELAY_NAME = "proxy.test", "www.test", "relay.test"
NAMES = f"{GATE} {PROXY_NAME} {FRONT_NAME}", f"{RELAY} {RELAY_NAME}", f"{RELAY_6} {RELAY_NAME}"
RULES = """
    add table inet maze
    delete table inet maze
    table inet maze {
        chain in {
            type filter hook input priority 0; policy drop;
            iifname "lo" accept
            iifname "far" accept
            ct state established,related accept
            meta l4proto ipv6-icmp accept
        }
        chain through {
            type filter hook forward priority 0; policy drop;
            ct state established,related accept
        }
        chain turn {
            type nat hook prerouting priority -100;
        }
    }"""


class Site(netns.Namespace):
    """One of the networks, with the names known there."""

    def __init__(self, folder, names=()):
        super().__init__()
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.files = {"/etc/hosts": self.write("hosts", "127.0.0.1 localhost", *names),
                      "/etc/resolv.conf": self.write("resolv.conf", f"nameserver {GATE}", "options timeout:1 attempts:1")}

    def write(self, name, *lines):
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o644)
        return path

    def within(self, more=None):
        """The words before a command that sees these files instead of the system's."""
        mounts = "".join(f"mount --bind {ours} {theirs} && " for theirs, ours in {**self.files, **(more or {})}.items())
        return ["unshare", "-m", "sh", "-c", mounts + 'exec "$@"', "sh"]

    def wrapped(self, program):
        """A program that runs that one here; it keeps its pid."""
        path = self.folder / Path(program).name
        words = " ".join(f"'{word}'" for word in self.within())
        path.write_text(f"#!/bin/sh\nexec {words} '{program}' \"$@\"\n")
        path.chmod(0o755)
        return path

    def link(self, name, *addresses):
        for address in addresses:
            self.ip("addr", "add", address, "dev", name, *(["nodad"] if ":" in address else []))
        self.ip("link", "set", name, "up")
        for family in {"-6" if ":" in address else "-4" for address in addresses} if name == "out" else ():
            self.ip(family, "route", "add", "default", "via", self.gate[family == "-6"])

    def forward(self):
        with self:
            for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
                Path("/proc/sys/net", switch).write_text("1\n")


class Maze:
    def __init__(self, folder):
        folder = Path(folder)
        self.client = Site(folder / "client", NAMES)
        self.middle = Site(folder / "middle", NAMES)
        self.far = Site(folder / "far", NAMES)
        self.client.gate, self.far.gate = (GATE, GATE_6), (FAR_GATE, FAR_GATE_6)
        for site, name in (self.client, "near"), (self.far, "far"):
            self.middle.ip("link", "add", name, "type", "veth", "peer", "name", "out")
            self.middle.ip("link", "set", "out", "netns", site.path)
        self.middle.link("near", f"{GATE}/24", f"{GATE_6}/64")
        self.middle.link("far", f"{FAR_GATE}/24", f"{FAR_GATE_6}/64")
        self.client.link("out", f"{CLIENT}/24", f"{CLIENT_6}/64")
        self.far.link("out", f"{RELAY}/24", f"{RELAY_2}/24", f"{RELAY_6}/64")
        self.middle.forward()
        self.close()

    def rules(self, *lines):
        self.middle.inside("nft", "\n".join(lines))

    def close(self):
        """Nothing passes from the client any more."""
        self.rules(RULES)

    def open(self, match):
        """What matches is routed on to the relay's side."""
        self.rules(f'add rule inet maze through iifname "near" {match} accept')

    def swallow(self, match):
        """What matches vanishes, whichever way it goes and whatever else is open."""
        self.rules(f"insert rule inet maze through {match} drop")

    def whole_packets(self, on=True):
        """Whether packets cross the links as they would a wire, not as the kernel's bundles of many."""
        for site in (self.client, self.far):
            site.ip("link", "set", "out", "gso_max_segs", "1" if on else "65535")

    def admit(self, *ports):
        """The middle's own ports that the client may use."""
        self.rules(*[f'add rule inet maze in iifname "near" tcp dport {port} accept' for port in ports])

    def turn(self, match, port):
        """What matches comes to a port of the middle instead: a transparent proxy."""
        self.rules(f'add rule inet maze turn iifname "near" {match} redirect to :{port}')
        self.admit(port)

    def passes(self, host, port=443):
        """Whether a connection from the client to there comes about at all."""
        with self.client, socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
            s.settimeout(0.2)
            return s.connect_ex((host, port)) == 0

    def stop(self):
        for site in (self.client, self.middle, self.far):
            site.stop()


def usable():
    try:
        find("unshare")
        return os.getuid() == 0 and netns.usable()
    except FileNotFoundError:
        return False
