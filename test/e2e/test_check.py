# SPDX-License-Identifier: Apache-2.0
"""`culvert check` in networks where the obstacle is the client's only way out: what each probe says of it, what is advised, what is
chosen, and the exit status."""
import json
import os
import pty
import re
import select
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from conftest import PLAIN
from obstacles import Way
from testenv import maze
from testenv.lab import Lab
from testenv.maze import FAR_GATE, GATE, RELAY, RELAY_6
from testenv.net import TcpServer, greet
from testenv.programs import Haproxy, Squid, Tinyproxy
from testenv.proxies import Microsocks, TlsFront

pytestmark = pytest.mark.skipif(not maze.usable(), reason="needs root, nft and namespaces")
PROXY = f"http://{GATE}:3128"
PORTAL = b"HTTP/1.1 302 Found\r\nLocation: http://portal.test/login\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<html></html>"


@pytest.fixture(scope="module")
def lab(shared):
    return Lab(shared, shared.folder)


def shut(lab):
    """The direct way is refused, not silent."""
    lab.maze.rules('add rule inet maze through iifname "near" meta l4proto tcp reject with tcp reset')


@pytest.fixture(autouse=True)
def cleared(lab):
    lab.clear()
    lab.maze.rules('add rule inet maze through iifname "near" tcp dport 80 reject with tcp reset') # nobody has to wait for that
    yield
    lab.clear()


checkers = {}


def checker(lab):
    """The agent of this test, made once."""
    if lab.place not in checkers:
        checkers[lab.place] = lab.agent(Way())
    return checkers[lab.place]


def run(lab, *words, trust=True, env=None, agent=None, **more):
    agent = agent or checker(lab)
    with lab.maze.client:
        return agent.run("check", *(agent.trust() if trust else ()), *words, env=env, **more)


def check(lab, *words, status=0, **more):
    """The report of one relay, whose exit status is the program's."""
    done = run(lab, "--json", *words, **more)
    assert done.returncode == status, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    report, = answer["relays"]
    assert answer["exit"] == report["exit"] == status
    assert report["usable"] is (status == 0) and all(p["result"] != "running" for p in report["probes"])
    assert bool(report["choice"]) is report["usable"]
    return report


def rows(report, probe):
    return [p for p in report["probes"] if p["probe"] == probe]


def row(report, probe, group=""):
    found, = (p for p in rows(report, probe) if group in p["group"])
    return found


def test_all_is_well(lab):
    lab.maze.open("tcp dport 443")
    report = check(lab)
    assert report["joined"] and report["name"] == "agent" and report["relay"] == "wss://relay.test/"
    assert report["choice"] == {"way": "direct", "transport": "h1", "mss": 0}
    assert set(row(report, "name")["addresses"]) == {RELAY, RELAY_6}
    assert [p["result"] for p in rows(report, "address")] == ["ok", "ok"]
    for probe in ("connect", "tls", "web", "websocket", "mtu", "clock"):
        assert row(report, probe)["result"] == "ok", row(report, probe)
    assert row(report, "tls")["verified"] and row(report, "tls")["version"] == "TLSv1.3"
    assert {p["transport"]: p["result"] for p in rows(report, "tunnel")} == {"h1": "ok", "h2": "ok", "poll": "ok"}
    assert row(report, "h2")["extended_connect"] is True
    assert row(report, "between")["who"] == "relay"
    assert "each way" in row(report, "mtu")["seen"] and 1000 < row(report, "mtu")["snd_mss"] < 1500
    assert row(report, "udp")["result"] == "not offered"
    assert not report["advice"]


def test_table_and_progress_on_a_terminal(lab):
    lab.maze.open("tcp dport 443")
    shut(lab)
    agent = checker(lab)
    plain = run(lab, agent=agent, env={"LC_ALL": "C"})
    assert plain.returncode == 0 and plain.stdout.isascii() and not plain.stderr
    assert "ok TLS" in plain.stdout and "ok culvert would go directly" in plain.stdout
    pretty = run(lab, agent=agent, env={"LC_ALL": "C.UTF-8"})
    assert "✔ TLS" in pretty.stdout and "– UDP" in pretty.stdout and "\x1b" not in pretty.stdout
    seen = on_terminal(lab, agent)
    assert "\x1b[32m✔" in seen and re.search(r"\d+ of \d+, 0 s", seen)


def on_terminal(lab, agent):
    """What a person sees."""
    master, slave = pty.openpty()
    with lab.maze.client:
        child = subprocess.Popen([str(word) for word in (agent.program, "--state", agent.state, "check", *agent.trust())], stdin=slave,
                                 stdout=slave, stderr=slave, env={**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm"})
    os.close(slave)
    seen = b""
    try:
        while select.select([master], [], [], 30)[0]:
            seen += os.read(master, 65536)
    except OSError: # the other side is closed
        pass
    os.close(master)
    assert child.wait(30) == 0
    return seen.decode()


def test_a_stranger_learns_what_can_be_told(lab, tmp_path):
    lab.maze.open("tcp dport 443")
    agent = checker(lab)
    agent.state = tmp_path / "state"
    report = check(lab, "relay.test", agent=agent)
    assert not report["joined"] and report["choice"]["way"] == "direct"
    assert row(report, "websocket")["result"] == "ok"
    assert row(report, "tunnel")["result"] == "skipped" and row(report, "tunnel")["advice"] == "join"
    done = run(lab, agent=agent)
    assert done.returncode == 2 and "name one" in done.stderr


def test_closed_port(lab):
    lab.maze.open("tcp dport 444")
    report = check(lab, "relay.test:444", status=3)
    assert {(p["result"], p["advice"]) for p in rows(report, "address")} == {("refused", "closed")}
    assert row(report, "connect")["result"] == "refused" and report["advice"] == "closed"


def test_nothing_passes(lab):
    report = check(lab, status=3)
    assert {(p["result"], p["advice"]) for p in rows(report, "address")} == {("failed", "silent")}
    assert report["advice"] == "silent"


def test_no_such_name_here(lab):
    lab.maze.client.write("hosts", "127.0.0.1 localhost")
    lab.maze.rules('add rule inet maze in iifname "near" udp dport 53 reject')
    report = check(lab, status=3)
    assert row(report, "name")["result"] == "failed" and row(report, "name")["advice"] == report["advice"] == "name-silent"


def test_proxy_without_login_and_with_one(lab):
    shut(lab)
    squid = lab.start(Squid, 3128, login=("user", "secret"))
    report = check(lab, "--proxy", PROXY, status=3)
    proxy = row(report, "proxy")
    assert (proxy["result"], proxy["status"], proxy["offers"], proxy["advice"]) == ("refused", 407, "Basic", "proxy-login")
    assert "squid" in proxy["server"]
    assert row(report, "connect", "via")["advice"] == report["advice"] == "proxy-login"
    assert row(report, "connect", "directly")["advice"] == "closed"
    report = check(lab, "--proxy", PROXY.replace("//", "//user:secret@"))
    assert report["choice"]["way"] == f"via {GATE}:3128" and row(report, "proxy")["result"] == "ok"
    report = check(lab, "--proxy", PROXY.replace("//", "//user:wrong@"), status=3)
    assert row(report, "connect", "via")["advice"] == "proxy-password"
    assert squid.output().count(" user ") < 20 # the right one; a wrong one is not tried by each probe


def test_proxy_that_forbids_connect(lab):
    shut(lab)
    lab.start(Squid, 3128, allow="!all")
    report = check(lab, status=3, env={"https_proxy": PROXY})
    assert row(report, "proxy")["status"] == 403 and row(report, "proxy")["advice"] == report["advice"] == "proxy-forbids"
    assert "https_proxy" in row(report, "proxy")["group"]


def test_only_the_direct_way_works(lab):
    lab.start(Tinyproxy, 3128, connect_ports=(80,))
    lab.maze.open("tcp dport 443")
    report = check(lab, env={"https_proxy": PROXY})
    assert report["choice"]["way"] == "direct" and "--proxy none" in report["why"]
    assert row(report, "proxy")["result"] == "refused"


def test_chain_whose_second_proxy_wants_a_login(lab):
    shut(lab)
    lab.start(Tinyproxy, 3128)
    lab.start(Microsocks, 1080, login=("user", "secret"))
    report = check(lab, "--proxy", PROXY, "--proxy", f"socks5h://{GATE}:1080", status=3)
    first, second = rows(report, "proxy")
    assert first["result"] == "ok" and (second["result"], second["advice"]) == ("refused", "proxy-login")
    report = check(lab, "--proxy", PROXY, "--proxy", f"socks5h://user:secret@{GATE}:1080")
    assert report["choice"]["way"] == f"via {GATE}:3128, {GATE}:1080"


def test_the_first_proxy_of_a_chain_is_not_there(lab):
    shut(lab)
    report = check(lab, "--proxy", PROXY, "--proxy", f"socks5h://{GATE}:1080", status=3)
    first, second = rows(report, "proxy")
    assert first["result"] != "ok" and second["result"] == "skipped"


def test_only_one_transport_is_asked_for(lab):
    lab.maze.open("tcp dport 443")
    report = check(lab, "--transport", "poll")
    assert [p["transport"] for p in rows(report, "tunnel")] == ["poll"] and report["choice"]["transport"] == "poll"


def test_https_proxy_whose_ca_is_not_known(lab):
    shut(lab)
    lab.start(Squid, 3128, admit=False)
    front = lab.start(TlsFront, 8444, 3128, hosts=("proxy.test",), behind_host=GATE)
    report = check(lab, "--proxy", "https://proxy.test:8444", status=4)
    assert row(report, "proxy")["advice"] == row(report, "connect", "via")["advice"] == report["advice"] == "proxy-ca"
    report = check(lab, "--proxy", "https://proxy.test:8444", "--proxy-ca", front.ca)
    assert row(report, "proxy")["result"] == "ok" and row(report, "proxy")["status"] == 200


@pytest.mark.parametrize("kind", ["h2", "https"])
def test_proxy_that_speaks_http2_only(lab, kind):
    shut(lab)
    import obstacles.h2 # late: the order of imports is that of the published table
    front = obstacles.h2.proxy(lab)
    report = check(lab, "--proxy", f"{kind}://proxy.test:8444", "--proxy-ca", front.ca)
    assert row(report, "proxy")["status"] == 200 and "nghttpx" in row(report, "proxy")["via"]
    assert report["choice"]["way"] == "via proxy.test:8444"


def test_front_that_speaks_http2_only(lab, tmp_path):
    shut(lab)
    lab.maze.admit(80)
    import obstacles.h2
    way = obstacles.h2.h2_front(lab)
    report = check(lab, *way.flags, trust=False)
    assert report["choice"]["transport"] == "h2" and row(report, "websocket")["result"] != "ok"
    stranger = checker(lab)
    stranger.state = tmp_path / "state"
    report = check(lab, *way.flags, trust=False, agent=stranger)
    assert report["choice"]["transport"] == "h2" and not report["joined"]


class Dns:
    """Answers every question for an IPv4 address with that one, and says that there is no other."""

    def __init__(self, at, address):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((at, 53))
        threading.Thread(target=self.run, args=(socket.inet_aton(address),), daemon=True).start()

    def run(self, address):
        while True:
            try:
                query, sender = self.socket.recvfrom(4096)
            except OSError:
                return
            end = query.index(0, 12) + 5
            found = query[end - 4:end - 2] == b"\x00\x01" # A
            answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04" + address if found else b""
            self.socket.sendto(query[:2] + b"\x81\x80\x00\x01" + bytes([0, int(found)]) + bytes(4) + query[12:end] + answer, sender)

    def stop(self):
        self.socket.close()


def test_dns_servers_that_differ(lab):
    lab.maze.rules('add rule inet maze in iifname "near" udp dport 53 accept')
    lab.maze.open("tcp dport 443")
    shut(lab)
    with lab.maze.middle:
        lab.add(Dns(GATE, RELAY))
        lab.add(Dns(FAR_GATE, "192.0.2.1"))
    lab.maze.client.write("hosts", "127.0.0.1 localhost")
    before = (lab.maze.client.folder / "resolv.conf").read_text()
    lab.maze.client.write("resolv.conf", f"nameserver {GATE}", f"nameserver {FAR_GATE}")
    try:
        report = check(lab)
    finally:
        lab.maze.client.write("resolv.conf", before)
    used, first, second = rows(report, "name")
    assert used["addresses"] == first["addresses"] == [RELAY] and second["addresses"] == ["192.0.2.1"]
    assert (first["differs"], second["differs"], second["advice"]) == (False, True, "name-split")
    assert FAR_GATE in second["subject"]


def test_no_proxy_answers_there(lab):
    shut(lab)
    lab.serve(3128, greet(b"220 mail.test ESMTP\r\n"))
    report = check(lab, "--proxy", PROXY, status=3)
    assert row(report, "proxy")["advice"] == report["advice"] == "proxy-strange"


def test_portal_answers_everything(lab):
    lab.serve(8080, greet(PORTAL))
    lab.maze.turn("tcp dport { 80, 443 }", 8080)
    report = check(lab, status=3)
    assert row(report, "portal")["result"] == "refused" and report["advice"] == "portal"
    assert "http://portal.test/login" in row(report, "portal")["seen"]
    assert row(report, "tls")["advice"] == "not-tls"


def test_page_instead_of_a_websocket(lab):
    shut(lab)
    with lab.maze.middle:
        page = lab.add(TcpServer(greet(PAGE), "127.0.0.1:0"))
    lab.start(Haproxy, 8443, page.port, admit=False)
    lab.maze.turn("tcp dport 443", 8443)
    report = check(lab, status=3)
    assert row(report, "websocket")["result"] == "refused"


def test_tls_ends_at_a_box(lab):
    shut(lab)
    with lab.maze.middle:
        behind = lab.add(TcpServer(passing(3600), "127.0.0.1:0"))
    lab.start(Haproxy, 8443, behind.port, admit=False)
    lab.maze.turn("tcp dport 443", 8443)
    report = check(lab, "--outer", "verify", status=4)
    tls = row(report, "tls")
    assert (tls["result"], tls["advice"], tls["verified"]) == ("refused", "ca", False) and "front of front" in tls["issuer"]
    assert report["advice"] == "ca"
    report = check(lab, "--outer", "report")
    assert row(report, "between")["who"] == "box" and "front of front" in row(report, "between")["seen"]


@pytest.mark.parametrize("days", [-400, 400])
def test_wrong_clock(lab, days):
    lab.maze.open("tcp dport 443")
    agent = checker(lab)
    library, = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    agent.program = lab.place / "another-day"
    words = " ".join(f"'{word}'" for word in [*lab.maze.client.within(), PLAIN]) # no sanitizers: they do not like the library
    agent.program.write_text(f"#!/bin/sh\nexec {words} \"$@\"\n")
    agent.program.chmod(0o755)
    report = check(lab, "--outer", "verify", status=4, env={"LD_PRELOAD": str(library), "FAKETIME": f"{days:+}d",
                                                            "FAKETIME_DONT_FAKE_MONOTONIC": "1"})
    assert row(report, "clock")["result"] == "failed" and abs(row(report, "clock")["skew_s"] - days * 86400) < 100
    assert report["advice"] == row(report, "tls")["advice"] == "clock"


def test_packets_of_full_size_vanish(lab):
    lab.maze.open("tcp dport 443")
    lab.maze.rules("add chain inet maze mute { type filter hook output priority 0; }", "add rule inet maze mute icmp type "
                   "destination-unreachable drop", "add rule inet maze mute icmpv6 type packet-too-big drop")
    for link in "near", "far":
        lab.maze.middle.ip("link", "set", link, "mtu", "1300")
    try:
        report = check(lab)
    finally:
        for link in "near", "far":
            lab.maze.middle.ip("link", "set", link, "mtu", "1500")
    assert row(report, "mtu")["result"] == "failed" and row(report, "mtu")["advice"] == "mtu"
    assert report["choice"]["mss"] == 1200


def passing(seconds):
    """Passes bytes on to the relay and cuts a connection that has been silent that long."""
    def serve(server, s):
        far = socket.create_connection((RELAY, 443))
        while True:
            ready = select.select([s, far], [], [], seconds)[0]
            if not ready:
                break
            for one in ready:
                data = one.recv(65536)
                if not data:
                    far.close()
                    return
                (far if one is s else s).sendall(data)
        far.close()
    return serve


def test_silence_is_cut(lab):
    shut(lab)
    lab.serve(8443, passing(3))
    lab.maze.turn("tcp dport 443", 8443)
    report = check(lab, "--long")
    assert row(report, "idle")["cut_s"] < 20 and row(report, "idle")["advice"] == "idle"


def test_relay_does_not_know_this_agent(lab):
    lab.maze.open("tcp dport 443")
    agent = checker(lab)
    lab.relay.run("revoke", "agent")
    report = check(lab, status=5, agent=agent)
    assert report["advice"] == "unknown-agent" and row(report, "websocket")["result"] == "ok"
