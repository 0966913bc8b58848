# SPDX-License-Identifier: Apache-2.0
"""Fronts and strangers: what stands before a relay, what it is told of its callers, and what those see who are none of ours."""
import re
import socket
import ssl
import threading

import pytest

from testenv.culvert import culvert
from testenv.net import ask, connect, pattern_bytes
from testenv.proc import free_port
from testenv.programs import certificate


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
        head = b""
        while b"\r\n\r\n" not in head:
            more = s.recv(4096)
            if not more:
                return
            head += more
        self.heads.append(head.decode())
        if self.behind is None:
            s.sendall(b"HTTP/1.1 418 I am a teapot\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            s.close()
            return
        with connect(self.behind) as back:
            back.sendall(head)
            pump = threading.Thread(target=copy, args=(back, s), daemon=True)
            pump.start()
            copy(s, back)
            pump.join(60)


def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def with_plain(world, *flags, **more):
    """A relay that serves its own TLS, for joining, and plain WebSocket for a front before it."""
    port = free_port()
    relay = world.relay(flags=["--listen-plain", f"127.0.0.1:{port}", *flags], **more)
    relay.plain = port
    relay.proc.wait_port(port)
    return relay


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
