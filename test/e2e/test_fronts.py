# SPDX-License-Identifier: Apache-2.0
"""Fronts and strangers: what stands before a relay, what it is told of its callers, and what those see who are none of ours."""
import os
import re
import socket
import ssl
import subprocess
import time

import pytest

from testenv.culvert import Agent, Relay, culvert
from testenv.fronts import FRONTS, HaproxyTcpFront
from testenv.net import ask, connect, pattern_bytes, recv_exactly, recv_head, recv_to_end
from testenv.proc import free_port
from testenv.programs import certificate
from testenv.tamper import exchange
from testenv.web import Nginx, Web


def trust(agent):
    return agent.status()["carrier"]["trust"]


class TlsEar:
    """Answers TLS on loopback, notes SNI and the first request head, and hands the connection on to a plain port."""

    def __init__(self, world, behind=None, hosts=("front.example",)):
        folder = world.place("ear")
        folder.mkdir()
        pem = certificate(folder, "ear", hosts)
        self.ca = folder / "ear.crt"
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pem)
        self.names, self.heads = [], []
        self.context.sni_callback = lambda s, name, context: self.names.append(name)
        self.behind = behind
        self.server = world.server(self.serve)
        self.port = self.server.port

    def serve(self, server, s):
        try:
            s = self.context.wrap_socket(s, server_side=True)
        except (ssl.SSLError, OSError):
            return
        head = recv_head(s)
        if not head:
            return
        self.heads.append(head.decode())
        if self.behind is None:
            s.sendall(b"HTTP/1.1 418 I am a teapot\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            s.close()
            return
        back = connect(self.behind)
        back.sendall(head)
        exchange(s, back)


def with_plain(world, *flags, **more):
    """A relay that serves its own TLS, for joining, and plain WebSocket for a front before it."""
    port = free_port()
    relay = world.relay(flags=["--listen-plain", f"127.0.0.1:{port}", *flags], **more)
    relay.plain = port
    relay.proc.wait_port(port)
    return relay


def at_path(world, path, *flags):
    port = free_port()
    return world.relay(flags=["--path", path, *flags], port=port, url=f"wss://localhost:{port}{path}")


# What the agent says of itself ------------------------------------------------------------------------------------

def test_host_sni_and_headers_are_what_the_user_says(world):
    relay = with_plain(world)
    ear = TlsEar(world, relay.plain)
    server = world.server()
    agent = world.joined(relay)
    agent.trust = lambda: ["--ca", str(ear.ca)]
    agent.start(["-L", f"0:{server.at}", "--relay", f"wss://127.0.0.1:{ear.port}/", "--host", "relay.example", "--sni",
                 "front.example", "--header", "X-Gate: open sesame", "--header", "Cookie: a=b"])
    assert ear.names[-1] == "front.example"
    lines = ear.heads[-1].split("\r\n")
    assert "Host: relay.example" in lines and "X-Gate: open sesame" in lines and "Cookie: a=b" in lines
    assert re.fullmatch(r'inner TLS; the outer one ends at a front, issuer=".*front of ear.*"', trust(agent))
    assert ask(agent.at(), pattern_bytes(100_000)) == pattern_bytes(100_000)


def test_the_certificate_must_be_for_the_name_that_was_asked_for(world):
    relay = with_plain(world)
    ear = TlsEar(world, relay.plain)
    agent = world.joined(relay)
    at = ["--once", "--outer", "verify", "--ca", str(ear.ca), "--relay", f"wss://127.0.0.1:{ear.port}/", "-L", "0:127.0.0.1:9"]
    for flags in (["--host", "relay.example"], ["--host", "front.example", "--sni", "relay.example"], []):
        done = agent.run("agent", *at, *flags)
        assert done.returncode == 4 and "certificate" in done.stderr, (flags, done)
    ear.names.clear()
    agent.trust = lambda: ["--ca", str(ear.ca)]
    agent.start(["--outer", "verify", *at[5:], "--host", "front.example:444", "--sni", "none"])
    assert ear.names[-1] is None
    assert "Host: front.example:444" in ear.heads[-1].split("\r\n")


@pytest.mark.parametrize("flags, word", [
    (["--header", "no colon"], "Name: value"), (["--header", "Host: x"], "--host"), (["--header", "a b: c"], "Name: value"),
    (["--header", "Sec-WebSocket-Key: x"], "set by the program"), (["--host", "a b"], "no host name"),
    (["--header", "A: b\r\nC: d"], "Name: value"), (["--sni", ""], "no host name"),
])
def test_what_cannot_be_said_is_refused(world, flags, word):
    done = culvert(world.program, world.place("x"), "agent", *flags)
    assert done.returncode == 2 and word in done.stderr


# Strangers ----------------------------------------------------------------------------------------------------------

def raw(port, request, tls_ca=None, source=None, before=b""):
    """Sends bytes and returns what comes back until the end."""
    s = socket.create_connection(("127.0.0.1", port), 30, source and (source, 0))
    with s:
        s.sendall(before)
        if tls_ca:
            s = ssl.create_default_context(cafile=str(tls_ca)).wrap_socket(s, server_hostname="localhost")
        s.sendall(request)
        return recv_to_end(s)


UPGRADE = ("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n")


def upgrade(path, protocol=None, connection="Upgrade, close", more=""):
    more += f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    return UPGRADE.format(path=path, connection=connection, more=more).encode()


def plain(request):
    return ("\r\n".join(request) + "\r\n\r\n").encode()


REQUESTS = {
    "page": plain(["GET / HTTP/1.1", "Host: localhost", "Connection: close"]),
    "missing": plain(["GET /missing?x=1 HTTP/1.1", "Host: localhost", "Connection: close"]),
    "head": plain(["HEAD / HTTP/1.1", "Host: localhost", "Connection: close"]),
    "old": plain(["GET / HTTP/1.0"]),
    "post": plain(["POST /form HTTP/1.1", "Host: localhost", "Content-Length: 5", "Connection: close"]) + b"hello",
    "chunked": plain(["POST /form HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked", "Connection: close"])
    + b"5;x=y\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    "two": plain(["GET / HTTP/1.1", "Host: localhost"]) + plain(["GET /missing HTTP/1.1", "Host: localhost", "Connection: close"]),
    "options": plain(["OPTIONS * HTTP/1.1", "Host: localhost", "Connection: close"]),
    "strange method": plain(["BREW /pot HTTP/1.1", "Host: localhost", "Connection: close"]),
    "ours without upgrade": plain(["GET /t HTTP/1.1", "Host: localhost", "Connection: close"]),
    "ours without protocol": upgrade("/t"),
    "ours, another protocol": upgrade("/t", "chat"),
    "ours, without key": upgrade("/t", "culvert.v1").replace(b"Sec-WebSocket-Key", b"X"),
    "ours, without version": upgrade("/t", "culvert.v1").replace(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8"),
    "not ours, our protocol": upgrade("/other", "culvert.v1"),
    "garbage": b"\x80\x2e\x01\x03\x01 nonsense\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
}


def seen(answer):
    """What a stranger can tell answers by: everything but the time of day and how the connection goes on."""
    return re.sub(rb"(?mi)^(date|connection): [^\r]*\r\n", b"", answer)


@pytest.fixture(scope="module")
def web(shared):
    return shared.program_of(Nginx, "server {{ listen 127.0.0.1:{port}; root {folder}/www; error_page 405 =200 /index.html; }}")


@pytest.fixture(scope="module")
def behind_decoy(shared, web):
    return at_path(shared, "/t", "--decoy", f"http://127.0.0.1:{web.port}")


@pytest.mark.parametrize("name", REQUESTS)
def test_a_stranger_sees_the_decoy_and_nothing_else(behind_decoy, web, name):
    direct = raw(web.port, REQUESTS[name])
    assert seen(raw(behind_decoy.port, REQUESTS[name], behind_decoy.ca)) == seen(direct)
    assert b"HTTP/1.1 " in direct or b"<html>" in direct


def test_an_agent_gets_past_the_decoy(shared, behind_decoy):
    server = shared.server()
    agent = shared.agent(behind_decoy, "-L", f"0:{server.at}")
    assert trust(agent) == "peeled"
    assert ask(agent.at(), pattern_bytes(100_000)) == pattern_bytes(100_000)


def test_without_a_decoy_all_strangers_get_the_same_404(world):
    relay = world.relay(flags=["--path", "/t"])
    answers = {name: seen(raw(relay.port, REQUESTS[name], relay.ca)) for name in REQUESTS}
    for name in ("page", "missing", "post", "options", "ours without upgrade", "ours without protocol", "ours, another protocol",
                 "ours, without key", "ours, without version", "not ours, our protocol"):
        assert answers[name] == answers["page"], name
    assert answers["page"].startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"culvert" not in b"".join(answers.values()).lower() and b"Server:" not in answers["page"]


def test_large_bodies_pass_the_decoy_both_ways(world):
    """More than any buffer, chunked and not, and an answer that ends with its connection."""
    back = Web(world)
    relay = world.relay(flags=["--decoy", f"http://127.0.0.1:{back.port}"])
    body = pattern_bytes(3_000_000)
    for framing in ("length", "chunked"):
        if framing == "length":
            sent = b"Content-Length: %d\r\n\r\n" % len(body) + body
        else:
            sent = b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(
                b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [body[i:i + 70_000] for i in range(0, len(body), 70_000)]
            ) + b"0\r\n\r\n"
        answer = raw(relay.port, b"POST /echo HTTP/1.1\r\nHost: site.example\r\nConnection: close\r\nX-Forwarded-For: 6.6.6.6\r\n"
                     b"Keep-Alive: 5\r\n" + sent, relay.ca)
        head, _, content = answer.partition(b"\r\n\r\n")
        if framing == "chunked":
            content = content.removeprefix(b"%x\r\n" % len(body)).removesuffix(b"\r\n0\r\n\r\n")
        assert content == body, framing
        asked = back.heads[-1]
        assert "Host: site.example" in asked and "X-Forwarded-For: 127.0.0.1" in asked and "X-Forwarded-Proto: https" in asked
        assert not any(line.startswith("Keep-Alive") or "6.6.6.6" in line for line in asked)


def test_an_upgrade_that_the_decoy_grants_becomes_a_pipe(world):
    back = Web(world)
    relay = world.relay(flags=["--decoy", f"http://127.0.0.1:{back.port}"])
    with socket.create_connection(("127.0.0.1", relay.port), 30) as s:
        s = ssl.create_default_context(cafile=str(relay.ca)).wrap_socket(s, server_hostname="localhost")
        s.sendall(upgrade("/chat", "chat", "Upgrade") + b"early")
        data = b""
        while b"early" not in data:
            data += s.recv(4096)
        assert data.startswith(b"HTTP/1.1 101 ") and b"Upgrade: websocket\r\n" in data
        s.sendall(b"more")
        assert recv_exactly(s, 4) == b"more"


def test_a_decoy_that_is_down_is_a_502(world):
    relay = world.relay(flags=["--path", "/t", "--decoy", f"http://127.0.0.1:{free_port()}"])
    for name in ("page", "ours, another protocol"):
        assert raw(relay.port, REQUESTS[name], relay.ca).startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert raw(relay.port, REQUESTS["garbage"], relay.ca) == b""
    assert "the decoy does not answer" in relay.log.read_text()
    assert relay.status()["callers"]["decoyed"] == 3


def test_a_decoy_behind_tls_is_verified(world):
    ear = TlsEar(world, hosts=("localhost",))
    for trusted in (True, False):
        relay = world.relay(flags=["--decoy", f"https://localhost:{ear.port}"],
                            env={"SSL_CERT_FILE": str(ear.ca if trusted else "/etc/ssl/certs/ca-certificates.crt")})
        answer = raw(relay.port, REQUESTS["page"], relay.ca)
        assert answer.startswith(b"HTTP/1.1 418 I am a teapot\r\n" if trusted else b"HTTP/1.1 502 ")
    assert len(ear.heads) == 1


def test_a_relay_is_no_decoy_of_itself(world):
    port = free_port()
    relay = world.add(Relay(world.program, world.place("relay"), port))
    relay.certify()
    done = relay.run("relay", "--listen", f"127.0.0.1:{port}", "--decoy", f"https://localhost:{port}")
    assert done.returncode == 2 and "this relay's own" in done.stderr


# Whom the relay believes ----------------------------------------------------------------------------------------------

def peers(relay):
    return [row["peer"] for row in relay.table("carriers")]


class Header:
    """Hands connections on, with lines put into the first request's head."""

    def __init__(self, world, behind, *lines):
        def serve(server, s):
            head = recv_head(s)
            back = connect(behind)
            back.sendall(head.replace(b"\r\n\r\n", b"\r\n" + b"".join(line.encode() + b"\r\n" for line in lines) + b"\r\n", 1))
            exchange(s, back)
        self.port = world.server(serve).port


@pytest.mark.parametrize("flags, lines, peer", [
    (["--trust-front", "127.0.0.1"], ["X-Forwarded-For: 6.6.6.6, 203.0.113.9"], "203.0.113.9"),
    (["--trust-front", "127.0.0.1", "--trust-front", "10.0.0.0/8"],
     ["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: [2001:db8::7]:4711, 10.1.2.3"], "[2001:db8::7]"),
    (["--trust-front", "127.0.0.1"], ["X-Forwarded-For: 203.0.113.9, unknown"], "127.0.0.1"),
    (["--trust-front", "192.0.2.0/24"], ["X-Forwarded-For: 203.0.113.9"], "127.0.0.1"),
    ([], ["X-Forwarded-For: 203.0.113.9"], "127.0.0.1"),
])
def test_forwarded_addresses_are_believed_from_listed_fronts_only(world, flags, lines, peer):
    relay = with_plain(world, *flags)
    front = Header(world, relay.plain, *lines)
    agent = world.joined(relay)
    agent.start(["--relay", f"ws://127.0.0.1:{front.port}/", "-L", "0:127.0.0.1:9"])
    assert [at.rpartition(":")[0] for at in peers(relay)] == [peer]
    assert f"peer={peer}:" in [line for line in relay.log.read_text().splitlines() if "carrier up" in line][-1]


def test_callers_behind_a_front_are_bounded_one_by_one(world):
    """Of one address that a trusted front names, 32 at a time; the front itself may bring as many as it likes."""
    relay = with_plain(world, "--trust-front", "127.0.0.1")
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.%d\r\n\r\n"
    held = []
    try:
        for i in range(40):
            held.append(connect(relay.plain))
            held[-1].sendall(head % 9)
        answers = [s.recv(12) for s in held]
        assert answers.count(b"HTTP/1.1 503") == 8 and answers.count(b"HTTP/1.1 404") == 32
        with connect(relay.plain) as other:
            other.sendall(head % 10)
            assert other.recv(12) == b"HTTP/1.1 404"
    finally:
        for s in held:
            s.close()


def proxy_v2(source, family=0x11):
    packed = socket.inet_pton(socket.AF_INET if family == 0x11 else socket.AF_INET6, source)
    body = packed + packed + b"\x12\x34\x01\xbb"
    return b"\r\n\r\n\0\r\nQUIT\n\x21" + bytes([family]) + len(body).to_bytes(2, "big") + body


GET = REQUESTS["page"]


@pytest.mark.parametrize("header", [b"PROXY TCP4 198.51.100.7 198.51.100.8 4660 443\r\n", proxy_v2("198.51.100.7")])
def test_a_proxy_header_names_the_caller(world, header):
    back = Web(world)
    relay = world.relay(flags=["--proxy-protocol", "--trust-front", "127.0.0.2", "--decoy", f"http://127.0.0.1:{back.port}"])
    assert raw(relay.port, GET, relay.ca, "127.0.0.2", header).startswith(b"HTTP/1.1 200 ")
    assert "X-Forwarded-For: 198.51.100.7" in back.heads[-1]
    # Not listed: a header is no TLS, and nobody is asked for one.
    with pytest.raises((ssl.SSLError, OSError)):
        raw(relay.port, GET, relay.ca, "127.0.0.3", header)
    assert raw(relay.port, GET, relay.ca, "127.0.0.3").startswith(b"HTTP/1.1 200 ")
    assert "X-Forwarded-For: 127.0.0.3" in back.heads[-1]
    # Listed: it must come.
    with pytest.raises((ssl.SSLError, OSError)):
        raw(relay.port, GET, relay.ca, "127.0.0.2")
    assert relay.status()["callers"]["unannounced"] == 1
    assert "sent no PROXY header" in relay.log.read_text()


def test_proxy_protocol_needs_a_list(world):
    done = culvert(world.program, world.place("x"), "relay", "--proxy-protocol")
    assert done.returncode == 2 and "--trust-front" in done.stderr
    for flag, value in (("--trust-front", "10.0.0.1/8"), ("--trust-front", "front.example"), ("--decoy", "ftp://x"),
                        ("--decoy", "http://a/path"), ("--decoy", "x")):
        done = culvert(world.program, world.place("x"), "relay", flag, value)
        assert done.returncode == 2 and flag in done.stderr and "write" in done.stderr, done


# Port 80, and ports of a platform ----------------------------------------------------------------------------------

def location(answer):
    found = re.search(rb"\r\nLocation: ([^\r]*)\r\n", answer)
    return found and found.group(1).decode()


def test_plain_http_is_sent_to_https(world):
    port = free_port()
    relay = world.relay(flags=["--redirect", f"127.0.0.1:{port}"], url="wss://relay.example/t")
    def ask_for(*lines):
        return raw(port, plain([*lines, "Connection: close"]))
    answer = ask_for("GET /a%20b?c=d HTTP/1.1", "Host: www.example:80")
    assert answer.startswith(b"HTTP/1.1 301 ") and location(answer) == "https://www.example/a%20b?c=d"
    answer = ask_for("POST / HTTP/1.1", "Host: [2001:db8::1]:80", "Content-Length: 0")
    assert answer.startswith(b"HTTP/1.1 308 ") and location(answer) == "https://[2001:db8::1]/"
    assert location(ask_for("GET http://h.example/x HTTP/1.1", "Host: h.example")) == "https://h.example/x"
    assert location(raw(port, b"GET / HTTP/1.0\r\n\r\n")) == "https://relay.example/"
    for bad in (["GET /.well-known/acme-challenge/token HTTP/1.1", "Host: a"], ["OPTIONS * HTTP/1.1", "Host: a"],
                ["GET / HTTP/1.1", "Host: a/b"]):
        assert ask_for(*bad).startswith(b"HTTP/1.1 404 "), bad
    # No tunnel by that port.
    assert raw(port, upgrade("/", "culvert.v1")).startswith(b"HTTP/1.1 301 ")
    assert relay.status()["callers"]["redirected"] == 5


def test_the_redirect_knows_the_port(world):
    port = free_port()
    relay = world.relay(flags=["--redirect", f"127.0.0.1:{port}"])
    assert location(raw(port, GET)) == f"https://localhost:{relay.port}/"


@pytest.mark.parametrize("plain", [False, True])
def test_ports_of_a_platform(world, plain):
    """PORT is for WSS; plain WebSocket only where it is asked for by name."""
    port = free_port()
    relay = world.relay(port=port, listen=["--listen-plain", "$PORT"] if plain else [], env={"PORT": str(port)},
                        url=f"{'ws' if plain else 'wss'}://localhost:{port}")
    status = relay.status()
    assert [at.rpartition(":")[2] for at in status["listen_plain" if plain else "listen"]] == [str(port)] and \
        status["listen" if plain else "listen_plain"] == []
    server = world.server()
    agent = world.agent(relay, "-L", f"0:{server.at}")
    assert trust(agent) == ("inner TLS" if plain else "peeled")
    assert ask(agent.at(), b"on a platform") == b"on a platform"


def test_several_paths(world):
    port = free_port()
    relay = world.relay(port=port, flags=["--path", "/one", "--path", "/two/three"], url=f"wss://localhost:{port}/one")
    server = world.server()
    agent = world.joined(relay)
    for path in ("/one", "/two/three"):
        agent.start(["--relay", f"wss://localhost:{port}{path}", "-L", f"0:{server.at}"])
        assert ask(agent.at(), b"by a path") == b"by a path"
        agent.stop()


# The ready configurations ---------------------------------------------------------------------------------------------

IDLE = float(os.environ.get("CULVERT_FRONT_IDLE", 2))  # 75 outlasts what fronts take for granted; ./dev fronts


def https(port, ca, request, host="::1"):
    with socket.create_connection((host, port), 30) as s:
        s = ssl.create_default_context(cafile=str(ca)).wrap_socket(s, server_hostname="localhost")
        s.sendall(request)
        return recv_to_end(s)


def fronted(world, name):
    """A relay and a website behind that front, and an agent with what leads it there: (relay, front, agent, its flags)."""
    port = free_port()
    relay = with_plain(world, "--path", "/tunnel", "--trust-front", "127.0.0.1", port=port, url=f"wss://localhost:{port}/tunnel")
    front = world.program_of(FRONTS[name], relay.plain, Web(world).port)
    agent = world.joined(relay)
    agent.trust = lambda: ["--ca", str(front.ca)]
    return relay, front, agent, ["-L", f"0:{world.server().at}", "--relay", f"wss://[::1]:{front.port}/tunnel", "--host",
                                 f"localhost:{front.port}"]


@pytest.mark.parametrize("name", FRONTS)
def test_ready_configuration(world, name):
    """The tunnel through it, who called, and what is the website's own."""
    relay, front, agent, flags = fronted(world, name)
    agent.start([*flags, "--outer", "verify", "--header", "X-Forwarded-For: 6.6.6.6"])
    assert re.fullmatch(r'inner TLS; the outer one ends at a front, issuer=".*front of web.*"', trust(agent))
    assert ask(agent.at(), pattern_bytes(1 << 20)) == pattern_bytes(1 << 20)
    assert peers(relay) == ["[::1]:0"]
    assert https(front.port, front.ca, plain(["GET / HTTP/1.1", "Host: localhost", "Connection: close"])).startswith(b"HTTP/1.1 200 ")
    assert https(front.port, front.ca, plain(["GET /tunnel HTTP/1.1", "Host: localhost", "Connection: close"])
                 ).startswith(b"HTTP/1.1 404 ")
    assert relay.status()["callers"]["not_found"] == 1
    agent.stop()
    agent.start([*flags, "--transport", "poll"])
    assert ask(agent.at(), pattern_bytes(200_000)) == pattern_bytes(200_000)
    assert peers(relay) == ["[::1]:0"]


def test_ready_configuration_that_passes_tls_on(world):
    web = Web(world)
    relay = world.relay(flags=["--trust-front", "127.0.0.1", "--proxy-protocol", "--decoy", f"http://127.0.0.1:{web.port}"])
    front = world.program_of(HaproxyTcpFront, relay.port, web.port)
    server = world.server()
    to = ["--relay", f"wss://[::1]:{front.port}", "--host", "localhost"]
    agent = world.add(Agent(world.program, world.place("agent")))
    agent.relay = relay
    pairing = relay.invite("agent", allow=["127.0.0.1:*"]).replace(f"//localhost:{relay.port}", f"//[::1]:{front.port}")
    assert agent.run("join", "-", "--ca", str(relay.ca), "--host", "localhost", stdin=pairing + "\n").returncode == 0
    agent.start(["-L", f"0:{server.at}", *to])
    assert trust(agent) == "peeled"
    assert ask(agent.at(), pattern_bytes(1 << 20)) == pattern_bytes(1 << 20)
    assert [at.rpartition(":")[0] for at in peers(relay)] == ["[::1]"]
    assert https(front.port, relay.ca, plain(["GET / HTTP/1.1", "Host: localhost", "Connection: close"])).startswith(b"HTTP/1.1 200 ")
    assert "X-Forwarded-For: ::1" in web.heads[-1]


def test_ready_configurations_leave_idle_connections_alone(world):
    """A WebSocket on which nobody says anything for a while, through all of them at once."""
    web, held = Web(world), []
    for front in FRONTS.values():
        front = world.program_of(front, web.port, web.port)
        s = socket.create_connection(("::1", front.port), 30)
        s = ssl.create_default_context(cafile=str(front.ca)).wrap_socket(s, server_hostname="localhost")
        s.sendall(upgrade("/tunnel", "culvert.v1", "Upgrade"))
        data = recv_head(s)
        assert data.startswith(b"HTTP/1.1 101 "), (front.name, data)
        held.append((front.name, s))
    time.sleep(IDLE)
    for name, s in held:
        s.sendall(b"still here")
        assert recv_exactly(s, 10) == b"still here", name
        s.close()


# HTTP/2 ---------------------------------------------------------------------------------------------------------------

def curl(*words):
    return subprocess.run(["curl", "-s", "--max-time", "30", *map(str, words)], stdout=subprocess.PIPE, check=True).stdout


def test_strangers_see_the_decoy_by_http2_as_well(world):
    back = Web(world)
    relay = world.relay(flags=["--path", "/t", "--decoy", f"http://127.0.0.1:{back.port}"])
    upload = world.folder / "upload"
    upload.write_bytes(pattern_bytes(1_000_000))
    at = ["--http2", "--cacert", relay.ca, f"https://localhost:{relay.port}/t"]
    assert curl("-w", " %{http_version} %{http_code}", *at) == b"until the end 2 200"
    assert curl("--data-binary", f"@{upload}", "-H", "Expect:", *at) == upload.read_bytes()
    assert curl("--data-binary", f"@{upload}", "-H", "Transfer-Encoding: chunked", "-H", "Expect:", *at) == upload.read_bytes()
    assert curl("-I", *at).startswith(b"HTTP/2 200")
    assert "Host: localhost" in "\n".join(back.heads[0]) and back.heads[0][0] == "GET /t HTTP/1.1"
    assert "X-Forwarded-For: 127.0.0.1" in back.heads[0]


@pytest.mark.parametrize("name", ["nghttpx", "haproxy"])
def test_websocket_by_http2_through_a_front(world, name):
    relay, _, agent, flags = fronted(world, name)
    agent.start([*flags, "--outer", "verify", "--transport", "h2"])
    assert agent.status()["carrier"]["transport"] == "h2"
    assert ask(agent.at(), pattern_bytes(1 << 20)) == pattern_bytes(1 << 20)
    assert peers(relay) == ["[::1]:0"]
