# SPDX-License-Identifier: Apache-2.0
"""Strangers who mean harm: what somebody without any key can do to a relay."""
import socket
import ssl

import pytest

from testenv.net import ask, connect, pattern_bytes, recv_head
from testenv.proc import free_port
from testenv.web import Web

RECORD = 16384  # bytes of the largest TLS record; each sendall of so many is one


def visit(relay, rcvbuf=None):
    s = socket.socket()
    s.settimeout(30)
    if rcvbuf:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    s.connect(("127.0.0.1", relay.port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ssl.create_default_context(cafile=str(relay.ca)).wrap_socket(s, server_hostname="localhost")


@pytest.mark.parametrize("decoy", [False, True], ids=["long-poll", "decoy"])
def test_a_body_and_more_in_one_record(world, decoy):
    """The largest record there is, of which a few bytes are the next request's."""
    back = Web(world)
    relay = world.relay(flags=["--decoy", f"http://127.0.0.1:{back.port}"] if decoy else [])
    target = "/form" if decoy else "/?cp1.AAAAAAAAAAAAAAAAAAAAAA.0.0.0.p.0.d"
    with visit(relay) as s:
        s.sendall(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {RECORD - 9}\r\n\r\n".encode())
        s.sendall(b"z" * RECORD)
        assert recv_head(s).startswith(b"HTTP/1.1 200 ")
    server = world.server()
    agent = world.agent(relay, "-L", f"0:{server.at}")
    assert ask(agent.at(), pattern_bytes(100_000)) == pattern_bytes(100_000)


@pytest.mark.parametrize("to", ["tls", "redirect", "decoy"])
def test_requests_without_end_and_no_answer_read(world, to):
    """The relay takes no more of them than it has answers away, and has time and memory for others."""
    flags, plain = [], free_port()
    if to == "decoy":
        flags = ["--decoy", f"http://127.0.0.1:{Web(world).port}"]
    elif to == "redirect":
        flags = ["--redirect", f"127.0.0.1:{plain}"]
    relay = world.relay(flags=flags)
    s = connect(plain, rcvbuf=4096) if to == "redirect" else visit(relay, rcvbuf=4096)
    with s:
        s.settimeout(2)
        many = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20000
        sent = 0
        with pytest.raises(OSError):  # nobody takes them any more, or the connection is closed
            while sent < 400 << 20:
                sent += s.send(many)
        server = world.server()
        agent = world.agent(relay, "-L", f"0:{server.at}")
        assert ask(agent.at(), pattern_bytes(100_000)) == pattern_bytes(100_000)
