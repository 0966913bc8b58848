# SPDX-License-Identifier: Apache-2.0
"""HTTP/2: WebSocket over its streams (RFC 8441), on connections that carriers share, and proxies that speak it."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import PLAIN
from testenv import h2raw
from testenv.net import ask, connect, pattern_bytes, recv_exactly
from testenv.proc import Proc, wait_for
from testenv.programs import Program, Squid, certificate, find
from testenv.proxies import AuthSquid, Nghttpx

DATA = pattern_bytes(1_000_000)
ONE_LINE = '--accesslog-format=$remote_addr:$remote_port $alpn $request $status'


def asked_by(relay):
    """How the relay's callers asked to be carriers, in order: (their address, h2 or http/1.1)."""
    return re.findall(r'carrier asked for.* peer="?([^\s"]+)"? by="?([^\s"]+)', relay.log.read_text())


@pytest.fixture(scope="module")
def loud(shared):
    return shared.relay("loud", global_flags=("-vv",))


def test_carriers_share_a_connection(shared, loud, target):
    agent = shared.joined(loud, "sharing", flags=["-T", "h2"])
    before = len(asked_by(loud))
    agent.start(["-L", f"0:{target.at}", "-T", "h2", "--carriers", "3"])
    assert ask(agent.at(), DATA) == DATA
    wait_for("three carriers", lambda: len(asked_by(loud)) == before + 3)
    callers = asked_by(loud)[before:]
    assert {by for _, by in callers} == {"h2"}
    assert len({peer for peer, _ in callers}) == 1
    for _ in range(3):
        assert ask(agent.at(), DATA) == DATA


# Proxies ------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def squid(shared):
    return shared.program_of(Squid)


@pytest.fixture(scope="module")
def nghttpx(shared, squid):
    return shared.program_of(Nghttpx, squid.port, lines=[ONE_LINE])


def tunnels(nghttpx, port):
    """Address and port of the client, and protocol, of each CONNECT for that port."""
    return [tuple(line.split()[:2]) for line in nghttpx.requests() if re.search(rf"CONNECT \S+:{port} ", line)]


@pytest.mark.parametrize("kind", ["h2", "https"])
def test_tunnels_share_a_connection_to_the_proxy(shared, relay, target, nghttpx, kind):
    flags = ["--proxy", f"{kind}://localhost:{nghttpx.port}", "--proxy-ca", str(nghttpx.ca)]
    agent = shared.joined(relay, f"through-{kind}", flags=flags)
    before = len(tunnels(nghttpx, relay.port))
    agent.start(["-L", f"0:{target.at}", *flags, "-T", "h1", "--carriers", "2"])
    assert ask(agent.at(), DATA) == DATA
    wait_for("two carriers", lambda: sum(row["state"] == "up" for row in agent.table("carriers")) == 2)
    assert ask(agent.at(), DATA) == DATA
    agent.stop()
    wait_for("both tunnels in the proxy's log", lambda: len(tunnels(nghttpx, relay.port)) == before + 2)
    clients = tunnels(nghttpx, relay.port)[before:]
    assert {by for _, by in clients} == {"h2"} and len({at for at, _ in clients}) == 1, clients


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_passwords_by_http_2(shared, relay, target, scheme):
    squid = shared.program_of(AuthSquid, scheme)
    nghttpx = shared.program_of(Nghttpx, squid.port, lines=[ONE_LINE])
    flags = ["--proxy", f"h2://user:secret@localhost:{nghttpx.port}", "--proxy-ca", str(nghttpx.ca)]
    agent = shared.joined(relay, f"auth-{scheme}", flags=flags)
    done = agent.run("agent", *agent.trust(), *flags, "-T", "h1", "-W", target.at, stdin="through")
    assert (done.returncode, done.stdout) == (0, "through"), done.stderr
    wait_for("squid's log", lambda: len(squid.tries()) == 2)
    assert f"[{scheme.capitalize()} " in squid.tries()[-1]
    assert {by for _, by in tunnels(nghttpx, relay.port)} == {"h2"}
    bare = [word.replace("user:secret@", "") for word in flags]
    done = agent.run("agent", *agent.trust(), *bare, "-T", "h1", "-W", target.at)
    assert done.returncode == 3 and "407" in done.stderr and "--proxy-login" in done.stderr, done.stderr


def test_what_http_2_cannot_authenticate_is_asked_by_http_1(shared, relay, target):
    """NTLM is of a connection and not of a stream: the https:// proxy that wants it is left, and tried the other way."""
    squid = shared.program_of(AuthSquid, "ntlm")
    nghttpx = shared.program_of(Nghttpx, squid.port, alpn="h2,http/1.1", lines=[ONE_LINE])
    flags = ["--proxy", f"https://user:secret@localhost:{nghttpx.port}", "--proxy-ca", str(nghttpx.ca), "-T", "h1"]
    agent = shared.joined(relay, "ntlm")
    done = agent.run("agent", *agent.trust(), *flags, "-W", target.at, stdin="x")
    spoken = [by for _, by in tunnels(nghttpx, relay.port)]
    assert spoken[:2] == ["h2", "http/1.1"], (spoken, done.stderr)


def test_a_connection_in_doubt_is_not_shared(world):
    """Silence under all carriers: the one beside them gets a connection of its own."""
    server, relay = world.server(), world.relay()
    road = world.road(relay.port)
    agent = world.joined(relay)
    agent.start(["-L", f"0:{server.at}", "-T", "h2", "--carriers", "2", *agent.relay_flags(road.port)])
    wait_for("two carriers", lambda: sum(row["state"] == "up" for row in agent.table("carriers")) == 2)
    assert road.stats()["accepted"] == 1
    with connect(agent.at()) as s:
        s.sendall(b"before")
        assert recv_exactly(s, 6) == b"before"
        road.do("end", "s")
        s.sendall(b"behind")
        assert recv_exactly(s, 6) == b"behind"
        new = [row for row in agent.table("carriers") if row["state"] == "up"]
    assert road.stats()["accepted"] >= 2
    assert new and all(row["mss"] is None for row in new)  # else it was tried on the silent one first


# Falling back ---------------------------------------------------------------------------------------------------------

def says_400(s, stream):
    s.sendall(h2raw.frame(h2raw.HEADERS, h2raw.END_HEADERS | h2raw.END_STREAM, stream, b"\x8c"))


def resets(s, stream):
    s.sendall(h2raw.frame(h2raw.RST_STREAM, 0, stream, b"\0\0\0\x07"))


def goes(s, stream):
    s.sendall(h2raw.frame(h2raw.GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\0"))


def hangs_up(s, stream):
    s.close()


@pytest.mark.parametrize("answer, more, why", [
    (says_400, {}, "the server answered 400"), (resets, {}, "was refused"), (goes, {}, ""), (hangs_up, {}, ""),
    (says_400, {"settings": b""}, "does not offer WebSocket over HTTP/2"), (says_400, {"alpn": ["http/1.1"]}, "speaks http/1.1 only")],
    ids=["400", "reset", "goaway", "end", "no setting", "no h2"])
def test_a_refusal_falls_back_to_http_1_on_a_new_connection(world, answer, more, why):
    relay, target = world.relay(), world.server()
    folder = world.place("front")
    folder.mkdir()
    front = h2raw.Front(world, certificate(folder, "front", ("localhost",)), relay.port, answer, **more)
    agent = world.joined(relay)
    flags = ["--relay", f"wss://localhost:{front.port}", "--ca", str(folder / "front.crt")]
    if why:
        done = agent.run("agent", *flags, "-T", "h2", "-W", target.at, stdin="x")
        assert done.returncode == 3 and why in done.stderr and "localhost" in done.stderr, done.stderr
    before = len(front.spoken)
    done = agent.run("agent", *flags, "-T", "h2,h1", "-W", target.at, stdin="through")
    assert (done.returncode, done.stdout) == (0, "through"), done.stderr
    # Later ones look whether the better way has come back.
    assert front.spoken[before:before + 2] == ["http/1.1" if more.get("alpn") else "h2", "http/1.1"]


# The relay's front ------------------------------------------------------------------------------------------------------

def resident(relay):
    """Bytes of memory that the relay has."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{relay.proc.pid}/status").read_text()).group(1)) * 1024


def test_conformance(world):
    program = Path(os.environ.get("CULVERT_H2SPEC", Path(__file__).resolve().parents[2] / "build" / "h2spec"))
    assert program.exists(), "./dev test builds h2spec, and could not"
    relay = world.relay()
    done = subprocess.run([program, "-t", "-k", "-h", "127.0.0.1", "-p", str(relay.port), "-o", "5"], stdout=subprocess.PIPE, text=True,
                          timeout=300)
    said = done.stdout[done.stdout.find("Failures:"):] if "Failures:" in done.stdout else done.stdout[-200:]
    assert "145 tests, 145 passed, 0 skipped, 0 failed" in done.stdout, said


def reset_quickly():
    return b"".join(h2raw.frame(h2raw.HEADERS, h2raw.END_HEADERS | h2raw.END_STREAM, stream, h2raw.get()) +
                    h2raw.frame(h2raw.RST_STREAM, 0, stream, b"\0\0\0\x08") for stream in range(1, 4001, 2))


def continue_for_ever():
    return (h2raw.frame(h2raw.HEADERS, 0, 1, h2raw.get()) +
            h2raw.frame(h2raw.CONTINUATION, 0, 1, h2raw.fields(("x", "y" * 120)) * 100) * 200)


@pytest.fixture(scope="module")
def unchecked(shared):
    """A relay without sanitizers, whose memory can be measured."""
    return shared.relay("unchecked", program=PLAIN)


FLOODS = {"rapid reset": reset_quickly, "CONTINUATION": continue_for_ever,
          "PING": lambda: h2raw.frame(h2raw.PING, 0, 0, b"12345678") * 5000,
          "SETTINGS": lambda: h2raw.frame(h2raw.SETTINGS) * 5000,
          "SETTINGS entries": lambda: h2raw.frame(h2raw.SETTINGS, 0, 0, b"\0\x0f\0\0\0\1" * 200) * 100,
          "PRIORITY": lambda: h2raw.frame(h2raw.PRIORITY, 0, 1, b"\0\0\0\0\1") * 5000,
          "empty DATA": lambda: h2raw.frame(h2raw.HEADERS, h2raw.END_HEADERS, 1, h2raw.get()) + h2raw.frame(h2raw.DATA, 0, 1) * 5000}


@pytest.mark.parametrize("kind", FLOODS)
def test_floods_end_their_own_connection_only(shared, unchecked, target, kind):
    relay = unchecked
    agent = shared.joined(relay, "beside", flags=["-T", "h2"])
    agent.start(["-L", f"0:{target.at}", "-T", "h2"])
    assert ask(agent.at(), DATA) == DATA
    before, piece = resident(relay), FLOODS[kind]()
    for _ in range(5):
        client = h2raw.Client(relay.port)
        assert client.pour(piece, 10)
        client.close()
    assert ask(agent.at(), DATA) == DATA
    assert resident(relay) - before < 16 << 20
    assert agent.table("carriers")[0]["age_ms"] > 0 and "connection lost" not in agent.log.read_text()
    agent.stop()


def test_heads_too_long_and_streams_too_many(shared, relay):
    client = h2raw.Client(relay.port)
    client.send(h2raw.frame(h2raw.HEADERS, h2raw.END_STREAM, 1, h2raw.get()),
                h2raw.frame(h2raw.CONTINUATION, 0, 1, h2raw.fields(("x", "y" * 800)) * 19),
                h2raw.frame(h2raw.CONTINUATION, h2raw.END_HEADERS, 1, h2raw.fields(("x", "y" * 800))))
    assert b"431" in client.until(h2raw.HEADERS, 1)[3]
    client.send(*[h2raw.frame(h2raw.HEADERS, h2raw.END_HEADERS, stream, h2raw.get("/", ("content-length", "5")))
                  for stream in range(3, 201, 2)])
    assert client.until(h2raw.RST_STREAM)[3] == b"\0\0\0\x07"  # REFUSED_STREAM
    client.close()


def test_what_is_not_asked_for_properly(shared, relay):
    """Another :protocol is 501 (RFC 9220); everything else of strangers is what HTTP/1.1 would be told."""
    client = h2raw.Client(relay.port)
    connect = h2raw.fields((":method", "CONNECT"), (":protocol", "connect-udp"), (":scheme", "https"), (":path", "/"),
                           (":authority", "relay.example"))
    client.send(h2raw.frame(h2raw.HEADERS, h2raw.END_HEADERS, 1, connect))
    assert client.until(h2raw.HEADERS, 1)[3] == b"H\x82l\x01"  # :status 501, in Huffman's code
    for stream, block in ((3, h2raw.get("/else")), (5, connect.replace(b"connect-udp", b"x").replace(b"\x0bx", b"\x09websocket"))):
        client.send(h2raw.frame(h2raw.HEADERS, h2raw.END_HEADERS | h2raw.END_STREAM, stream, block))
        assert client.until(h2raw.HEADERS, stream)[3]
        assert b"404" in client.until(h2raw.DATA, stream)[3]
    client.close()


def test_silence_is_cut(shared, relay):
    """Neither preface nor acknowledged SETTINGS: 10 s, all at once here."""
    silent, deaf = h2raw.Client(relay.port, greet=False), h2raw.Client(relay.port, greet=False)
    deaf.send(h2raw.PREFACE, h2raw.frame(h2raw.SETTINGS))
    for client in (silent, deaf):
        with pytest.raises((EOFError, OSError)) as end:
            while True:
                client.next()
        assert "timed out" not in str(end.value)


def test_a_drain_says_goaway(world):
    relay = world.relay()
    client = h2raw.Client(relay.port)
    client.send(h2raw.frame(h2raw.HEADERS, h2raw.END_HEADERS, 1, h2raw.get()))
    client.until(h2raw.HEADERS, 1)
    relay.proc.popen.terminate()
    assert client.until(h2raw.GOAWAY)[3][4:8] == b"\0\0\0\0"


PAGE = """<script>
fetch("https://localhost:%d/", {mode: "no-cors", credentials: "include"}).then(() => {
  let ws = new WebSocket("wss://localhost:%d/", ["culvert.v1"]);
  ws.onopen = () => { ws.send(new TextEncoder().encode("no TLS at all")); };
});
</script>"""


def test_chromium_opens_a_websocket_by_http2(world, tmp_path_factory):
    """Its page is no agent: it is let in by the relay's front, and what it says there is no inner TLS."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed"
    relay = world.relay(global_flags=("-vv",))
    folder = tmp_path_factory.mktemp("chromium")
    page = folder / "page.html"
    page.write_text(PAGE % (relay.port, relay.port))
    world.add(Proc([chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
                    "--remote-debugging-port=0", f"--user-data-dir={folder}/profile", page.as_uri()], folder / "chromium.txt"))
    relay.proc.wait_log("while=handshake")
    assert [by for _, by in asked_by(relay)] == ["h2"]


# Fronts and peers of other makes ----------------------------------------------------------------------------------------

class H2Haproxy(Program):
    """Ends TLS of HTTP/2 and speaks HTTP/2 or HTTP/1.1 to the relay."""

    def start(self, behind_port, alpn):
        pem = certificate(self.folder, "front", ("localhost",))
        self.ca = self.folder / "front.crt"
        config = self.write("haproxy.cfg", "defaults", "    mode http", "    timeout connect 10s", "    timeout client 10m",
                            "    timeout server 10m", "    timeout tunnel 1h", "listen front",
                            f"    bind {self.host}:{self.port} ssl crt {pem} alpn h2,http/1.1",
                            f"    server relay 127.0.0.1:{behind_port} ssl verify none alpn {alpn}")
        return self.launch(find("haproxy"), "-db", "-f", config)


class H2Nghttpx(Program):
    def start(self, behind_port, alpn):
        pem = certificate(self.folder, "front", ("localhost",))
        self.ca = self.folder / "front.crt"
        return self.launch(find("nghttpx"), "--conf=/dev/null", f"--frontend={self.host},{self.port}",
                           f"--backend=127.0.0.1,{behind_port};;tls;proto={alpn}", "--insecure", "--workers=1",
                           "--errorlog-file=/dev/stderr", pem, pem)


@pytest.mark.parametrize("front", [H2Haproxy, H2Nghttpx])
@pytest.mark.parametrize("alpn", ["h2", "http/1.1"])
def test_fronts_that_speak_it(shared, loud, target, front, alpn):
    front = shared.program_of(front, loud.port, alpn)
    agent = shared.joined(loud, "fronted")
    before = len(asked_by(loud))
    agent.start(["-L", f"0:{target.at}", "-T", "h2", "--relay", f"wss://localhost:{front.port}", "--ca", str(front.ca)])
    assert ask(agent.at(), DATA) == DATA
    assert [by for _, by in asked_by(loud)[before:]] == [alpn]
    assert agent.status()["carrier"]["transport"] == "h2"
    agent.stop()
