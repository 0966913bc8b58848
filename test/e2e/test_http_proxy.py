# SPDX-License-Identifier: Apache-2.0
"""The agent as an HTTP proxy for local programs (--http): curl and raw requests."""
import subprocess

import pytest

from testenv.net import ask, connect, pattern_bytes, recv_exactly, recv_to_end
from testenv.programs import WebServer

MIB = pattern_bytes(1 << 20)


@pytest.fixture(scope="module")
def web(shared):
    web = shared.program_of(WebServer)
    (web.root / "file").write_bytes(MIB)
    return web


@pytest.fixture(scope="module")
def agent(shared, relay):
    return shared.agent(relay, "--http", "0", name="agent", allow=["127.0.0.1:*"])


def curl(agent, *words):
    done = subprocess.run(["curl", "-sS", "--max-time", "30", "-x", f"http://{agent.at(0, 'http')}", *map(str, words)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return done.returncode, done.stdout, done.stderr


def raw(agent, request):
    """An answer's head and body."""
    head, _, body = ask(agent.at(0, "http"), request).partition(b"\r\n\r\n")
    return head, body


def test_curl(agent, web):
    assert curl(agent, "-p", f"http://127.0.0.1:{web.port}/file") == (0, MIB, b"")
    assert curl(agent, f"http://127.0.0.1:{web.port}/file") == (0, MIB, b"")
    assert [row["kind"] for row in agent.table("forwards")] == ["http"]


def test_early_bytes_behind_connect(shared, agent):
    echo = shared.server()
    with connect(agent.at(0, "http")) as s:
        s.sendall(f"CONNECT {echo.at} HTTP/1.1\r\nHost: {echo.at}\r\n\r\n".encode() + MIB[:100_000])
        s.shutdown(1)
        answer = recv_to_end(s)
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n" + MIB[:100_000]


def test_a_plain_request_is_rewritten_and_alone(shared, agent):
    """The origin hears its own form, no hop's headers, and nothing behind the body."""
    def serve(server, s):
        data = b""
        while not data.endswith(b"body"):
            data += s.recv(65536)
        server.seen.put(data)
        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        s.settimeout(1)
        try:
            server.seen.put(s.recv(65536))
        except TimeoutError:
            server.seen.put("nothing")
    origin = shared.server(serve)
    with connect(agent.at(0, "http")) as s:
        s.sendall(f"POST http://{origin.at}?q HTTP/1.1\r\nHost: wrong\r\nProxy-Connection: keep-alive\r\nX-A: b\r\nX-Hop: c\r\n"
                  f"Connection: keep-alive, X-Hop\r\nContent-Length: 4\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n"
                  f"bodyGET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n".encode())
        assert recv_exactly(s, 12) == b"HTTP/1.1 200"
        assert origin.next() == (f"POST /?q HTTP/1.1\r\nHost: {origin.at}\r\nConnection: close\r\nX-A: b\r\nContent-Length: 4\r\n"
                                 "\r\nbody").encode()
        assert origin.next() in (b"", "nothing")


@pytest.mark.parametrize("request_line, status", [
    ("GET / HTTP/1.1", 400), ("CONNECT nowhere HTTP/1.1", 400), ("CONNECT h:0 HTTP/1.1", 400), ("CONNECT h:65536 HTTP/1.1", 400),
    ("CONNECT [unix:x]:80 HTTP/1.1", 400), ("CONNECT ::1:80 HTTP/1.1", 400), ("GET https://h/ HTTP/1.1", 400), ("GET http://u@h/ HTTP/1.1", 400), ("GET http:// HTTP/1.1", 400), ("nonsense", 400),
    ("CONNECT 10.1.2.3:80 HTTP/1.1", 403), ("GET http://127.0.0.1:1/ HTTP/1.1", 502), ("CONNECT 127.0.0.1:1 HTTP/1.1", 502)])
def test_refusals(agent, request_line, status):
    head, body = raw(agent, f"{request_line}\r\nHost: h\r\n\r\n".encode())
    assert head.startswith(f"HTTP/1.1 {status} ".encode()) and body.endswith(b"\n")


def test_a_login(world, tmp_path):
    login = tmp_path / "login"
    login.write_text("user:secret\n")
    login.chmod(0o600)
    relay, echo = world.relay(), world.server()
    agent = world.agent(relay, "--http", "0", "--socks-login", login, allow=["127.0.0.1:*"])
    for words, code in (([], b"407"), (["-U", "user:wrong"], b"407"), (["-U", "user:secret"], b"200")):
        _, out, _ = curl(agent, "-p", "-o", "/dev/null", "-w", "%{http_connect}", "--max-time", "1", *words, f"http://{echo.at}/")
        assert out == code
