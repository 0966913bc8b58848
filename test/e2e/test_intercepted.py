# SPDX-License-Identifier: Apache-2.0
"""Boxes that intercept TLS, real ones and one that tampers: the tunnel comes up, says so, shows them nothing, and takes nothing
that was changed."""
import hashlib
import re
import threading

import pytest

from testenv.culvert import Agent
from testenv.net import ask, connect, pattern, pattern_bytes, pattern_sha
from testenv.proc import wait_for
from testenv.programs import Program, Squid, certificate, find, quietly
from testenv.tamper import Tamper

CANARY = b"canary-9f2c-in-the-mine"


def trust(agent):
    return agent.status()["carrier"]["trust"]


class Mitmproxy(Program):
    """Intercepts what comes by CONNECT and writes all that it sees into a flow file."""

    def start(self):
        home = self.folder / "home"
        self.flows = self.folder / "flows"
        self.proc = self.launch(find("mitmdump"), "--mode", "regular", "--listen-host", "127.0.0.1", "-p", self.port, "--ssl-insecure",
                                "--set", f"confdir={home}", "-w", self.flows, "--set", "connection_strategy=lazy", "--set",
                                "termlog_verbosity=debug", "--set", "flow_detail=4").proc
        self.ca = home / "mitmproxy-ca-cert.pem"
        return self


class Bump(Squid):
    """squid that intercepts what comes by CONNECT; it keeps no bodies, so a second box behind it does."""

    def start(self):
        self.open_folder()
        self.access = self.folder / "access.log"
        pem = certificate(self.folder, "bump")
        self.ca = self.folder / "bump.crt"
        database = self.folder / "certificates"
        quietly("/usr/lib/squid/security_file_certgen", "-c", "-s", database, "-M", "4MB")
        quietly("chown", "-R", "proxy", self.folder)
        config = self.write(
            "squid.conf", f"http_port 127.0.0.1:{self.port} ssl-bump cert={pem} generate-host-certificates=on dynamic_cert_mem_cache_size=4MB",
            f"sslcrtd_program /usr/lib/squid/security_file_certgen -s {database} -M 4MB", "sslcrtd_children 1",
            "ssl_bump bump all", "tls_outgoing_options flags=DONT_VERIFY_PEER", "sslproxy_cert_error allow all",
            "http_upgrade_request_protocols websocket allow all", "http_access allow all", "cache deny all", "cache_mem 1 MB",
            "logformat all %rm %ru %>Hs [%>h] [%<h]", f"access_log stdio:{self.access} all",
            f"pid_filename {self.folder}/squid.pid", f"cache_log {self.folder}/cache.log",
            f"coredump_dir {self.folder}", "visible_hostname squid.test", "netdb_filename none", "max_filedescriptors 1024",
            "shutdown_lifetime 0", "logfile_rotate 0", "pinger_enable off")
        return self.launch(find("squid"), "-N", "-f", config)


BOXES = {"mitmproxy": Mitmproxy, "squid": Bump}


def join(world, relay, box, *flags, strict=False, port=None):
    """Joins through the box; the agent, and the token that was used."""
    agent = world.add(Agent(world.program, world.place("agent")))
    agent.name = "agent-of-secret-name"
    pairing = relay.invite(agent.name, allow=["127.0.0.1:*"])
    pairing = pairing.replace(f":{relay.port}/", f":{port or relay.port}/")
    if strict:
        pairing = pairing.replace("&outer=report", "")
    done = agent.run("join", "-", "--proxy", f"http://127.0.0.1:{box.port}", *flags, stdin=pairing + "\n")
    return agent, done, re.search(r"token=([^&\s]+)", pairing).group(1)


@pytest.mark.parametrize("known", [True, False], ids=["trusted", "unknown"])
@pytest.mark.parametrize("kind", BOXES)
def test_through_a_box(world, kind, known):
    relay = world.relay()
    box = world.program_of(BOXES[kind])
    wait_for("its CA", box.ca.exists)
    server = world.server()
    memory = Tamper(world, relay.port, "flip", "up", times=0)
    flags = ["--ca", str(box.ca), "--outer", "verify"] if known else ["--outer", "report"]
    agent, done, token = join(world, relay, box, *flags, port=memory.port)
    assert done.returncode == 0, done.stderr
    agent.start(["--proxy", f"http://127.0.0.1:{box.port}", *flags, "-L", f"0:{server.at}"])
    data = CANARY * 20_000
    assert ask(agent.at(), data) == data
    issuer = {"mitmproxy": "CN=mitmproxy", "squid": "CN=front of bump"}[kind]
    assert re.fullmatch(rf'intercepted by issuer=".*{issuer}.*"', trust(agent))
    assert (agent.status()["carrier"]["certificate"] == "trusted") == known
    shown = agent.run("status").stdout
    assert re.search(rf'intercepted by issuer="[^"\n]*{issuer}', shown), shown
    assert "TLS is intercepted on the way" in agent.log.read_text()
    assert [row["trust"] for row in relay.table("carriers")] == ["intercepted"]
    agent.stop()
    box.stop()
    kept = b"".join(path.read_bytes() for path in box.folder.rglob("*") if path.is_file())
    if kind == "mitmproxy":
        assert b"culvert.v1" in box.flows.read_bytes() and box.flows.stat().st_size > len(data), "it has kept the WebSocket's bytes"
    else:
        assert b"culvert.v1" in box.access.read_bytes(), "it has seen the request inside TLS"
    assert b"culvert.v1" in memory.seen["up"] and len(memory.seen["up"]) > len(data) and len(memory.seen["down"]) > len(data)
    for secret in (CANARY, token.encode(), agent.name.encode(), server.at.encode()):
        assert secret not in kept and secret not in memory.seen["up"] and secret not in memory.seen["down"], secret


@pytest.mark.parametrize("kind", BOXES)
def test_a_box_that_nobody_knows_is_refused_where_verify_is_asked_for(world, kind):
    relay = world.relay()
    box = world.program_of(BOXES[kind])
    issuer = {"mitmproxy": "mitmproxy", "squid": "front of bump"}[kind]
    for strict, flags in ((True, []), (False, ["--outer", "verify"])):
        _, done, token = join(world, relay, box, "--ca", str(relay.ca), *flags, strict=strict)
        assert done.returncode == 4
        assert issuer in done.stderr and "--ca FILE" in done.stderr and "--outer report" in done.stderr, done.stderr
    assert relay.status()["agents"]["welcomed"] == 0


# A box that tampers ---------------------------------------------------------------------------------------------------

def failures(agent, relay):
    return agent.status()["session"]["integrity_failures"], relay.status()["agents"]["integrity_failures"]


def echoed(at, size):
    """Both directions at once, at an echo's pace; the SHA-256 of what came back."""
    digest = hashlib.sha256()
    with connect(at, 120) as s:
        def send():
            for block in pattern(size):
                s.sendall(block)
            s.shutdown(1)
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        while more := s.recv(1 << 18):
            digest.update(more)
        sender.join(60)
    return digest.hexdigest()


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("what", ["flip", "drop", "lose", "repeat", "swap"])
def test_what_a_box_changes_inside_is_noticed_and_never_taken(world, what, way):
    relay = world.relay()
    box = Tamper(world, relay.port, what, way)
    server = world.server()
    agent = world.joined(relay)
    agent.trust = lambda: ["--ca", str(box.ca)]
    agent.start(["-L", f"0:{server.at}", "--relay", f"wss://localhost:{box.port}", "--outer", "verify"])
    size = 3_000_000
    assert echoed(agent.at(), size) == pattern_sha(size)
    assert box.done == box.times
    # One more, so that what a box did last has had its consequences.
    assert ask(agent.at(), b"after all that") == b"after all that"
    here, there = failures(agent, relay)
    assert (there if way == "up" else here) == box.times, (here, there)
    assert relay.status()["agents"]["resumed"] >= box.times, "the session went on"
    log = (relay if way == "up" else agent).log.read_text()
    assert log.count("integrity failure: ") == box.times
    assert trust(agent).startswith('intercepted by issuer="'), "and never by something weaker"
    assert len(box.seen["up"]) > size and not any(pattern_bytes(4096)[100:400] in box.seen[way] for way in box.seen)


@pytest.mark.parametrize("way", ["up", "down"])
def test_what_changes_on_the_wire_is_noticed_and_never_taken(world, way):
    """Bytes of the outer TLS, where nobody intercepts it and the inner one is peeled."""
    relay = world.relay()
    box = Tamper(world, relay.port, "flip", way, intercept=False)
    server = world.server()
    agent = world.agent(relay, "-L", f"0:{server.at}", "--relay", f"wss://localhost:{box.port}", "--outer", "verify")
    assert trust(agent) == "peeled"
    size = 3_000_000
    assert echoed(agent.at(), size) == pattern_sha(size)
    assert box.done == box.times and ask(agent.at(), b"after all that") == b"after all that"
    here, there = failures(agent, relay)
    assert (there if way == "up" else here) == box.times, (here, there)
    assert trust(agent) == "peeled"
