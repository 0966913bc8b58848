# SPDX-License-Identifier: Apache-2.0
"""SOCKS5 at the agent (-D) and at the relay (-R without a target): CONNECT, UDP ASSOCIATE, logins, names."""
import subprocess

import pytest

from testenv.net import Socks5, ask_udp, connect, pattern_bytes, recv_exactly, recv_to_end, udp
from testenv.proc import free_port, wait_for
from testenv.programs import WebServer

ALLOW = ["127.0.0.1:*", "127.0.0.1:*/udp", "[::1]:*", "[::1]:*/udp"]
FAILED, REFUSED, NOT_ALLOWED, BAD_COMMAND = 1, 5, 2, 7


@pytest.fixture(scope="module")
def udp_target(shared):
    return shared.udp_echo()


@pytest.fixture(scope="module")
def here(shared, relay):
    return shared.joined(relay, "here", allow=ALLOW).start(["-D", "0"])


@pytest.fixture(scope="module")
def there(shared, relay):
    agent = shared.joined(relay, "there", invite_flags=["--allow-listen", "127.0.0.1:0", "--allow-listen", "127.0.0.1:0/udp"])
    return agent.start(["-R", "0", *[word for rule in ALLOW for word in ("--allow", rule)]])


@pytest.fixture(scope="module", params=["local", "reverse"])
def at(request, here, there):
    return here.at() if request.param == "local" else there.at()


def test_connect(at, target):
    s = Socks5(at)
    assert s.connect("127.0.0.1", target.port) == 0
    data = pattern_bytes(50_000)
    s.socket.sendall(data)
    assert recv_exactly(s.socket, len(data)) == data
    s.close()


def test_names_are_resolved_at_the_far_end(at, target):
    s = Socks5(at)
    assert s.connect("localhost", target.port) == 0
    s.socket.sendall(b"x")
    assert recv_exactly(s.socket, 1) == b"x"
    s.close()


def test_curl_with_names(at, shared):
    web = shared.program_of(WebServer)
    (web.root / "page").write_text("a page")
    port = at.rpartition(":")[2]
    done = subprocess.run(["curl", "-fsS", "-x", f"socks5h://127.0.0.1:{port}", f"http://localhost:{web.port}/page"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert done.stdout == b"a page", done.stderr


def test_nobody_there(at):
    s = Socks5(at)
    assert s.connect("127.0.0.1", free_port()) == REFUSED
    s.close()


def test_not_allowed(at):
    s = Socks5(at)
    assert s.connect("127.0.0.2", 80) == NOT_ALLOWED
    s.close()


ODD = ["a\n", "a b", "\x7f", "../x", "unix:x", "a:1", "[a]", "x@y"]


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_host_is_refused_alone(at, target, name):
    other = Socks5(at)
    assert other.connect("127.0.0.1", target.port) == 0
    s = Socks5(at)
    assert s.connect(name, target.port) == FAILED
    s.close()
    other.socket.sendall(b"still here")
    assert recv_exactly(other.socket, 10) == b"still here"
    other.close()


def test_no_unix_socket_by_a_name(at, shared, tmp_path):
    server = shared.server(at=f"unix:{tmp_path}/s")
    s = Socks5(at)
    assert s.connect(server.at, 1) == FAILED
    s.close()
    assert server.seen.empty() and not server.open


@pytest.mark.parametrize("name", [b"::1", b"[::1]"])
def test_ip6_as_a_name(at, shared, name):
    server = shared.server(at="[::1]:0")
    s = Socks5(at)
    s.socket.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + server.port.to_bytes(2, "big"))
    assert recv_exactly(s.socket, 2) == b"\x05\x00"
    s.close()


def test_bind_is_not_offered(at):
    s = Socks5(at)
    assert s.request(2, "127.0.0.1", 80)[0] == BAD_COMMAND
    s.close()


def answer(u, bound, *datagrams):
    """The first that comes back, whole; asks again, since datagrams may be lost."""
    u.settimeout(2)
    for _ in range(8):
        for datagram in datagrams:
            u.sendto(datagram, bound)
        try:
            return u.recv(70000)
        except TimeoutError:
            continue
    raise TimeoutError("no answer in 8 tries")


@pytest.mark.parametrize("size", [1, 1200, 16319, 16320, 65000])
def test_udp_associate(at, udp_target, size):
    s = Socks5(at)
    code, bound = s.request(3, "0.0.0.0", 0)
    assert code == 0
    data = pattern_bytes(size)
    with udp() as u:
        back = answer(u, bound, Socks5.wrap("127.0.0.1", udp_target.port, data))
    assert back[10:] == data
    s.close()


def test_udp_associate_with_names(at, udp_target):
    s = Socks5(at)
    code, bound = s.request(3, "0.0.0.0", 0)
    assert code == 0
    with udp() as u:
        back = answer(u, bound, Socks5.wrap("localhost", udp_target.port, b"named"))
    assert back.endswith(b"named")
    s.close()


def test_udp_associate_drops_what_is_no_host(at, udp_target, target):
    other, s = Socks5(at), Socks5(at)
    assert other.connect("127.0.0.1", target.port) == 0
    code, bound = s.request(3, "0.0.0.0", 0)
    assert code == 0
    with udp() as u:
        back = answer(u, bound, *[Socks5.wrap(name, udp_target.port, b"odd") for name in ODD],
                      Socks5.wrap("127.0.0.1", udp_target.port, b"good"))
    assert back.endswith(b"good")
    other.socket.sendall(b"still here")
    assert recv_exactly(other.socket, 10) == b"still here"
    other.close()
    s.close()


def test_an_association_ends_with_its_connection(at, udp_target, here, there):
    agent = here if at == here.at() else there
    s = Socks5(at)
    code, bound = s.request(3, "0.0.0.0", 0)
    assert code == 0
    s.close()
    def silent():
        with udp() as u:
            u.settimeout(0.3)
            u.sendto(Socks5.wrap("127.0.0.1", udp_target.port, b"late"), bound)
            try:
                u.recv(100)
                return False
            except TimeoutError:
                return True
    wait_for("the association to end", silent)
    assert agent.proc.alive()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_udp_associate_at_every_address_of_the_relay(shared, relay, udp_target, everywhere, host):
    s = Socks5(f"{host}:{everywhere.port()}")
    code, (bound, port) = s.request(3, "0.0.0.0", 0)
    assert code == 0
    assert bound == ("0.0.0.0" if host == "127.0.0.1" else "::")
    with udp(f"{host}:{port}") as u:
        data = Socks5.wrap("127.0.0.1", udp_target.port, b"from wherever")
        assert ask_udp(u, data)[0] == data
    s.close()


@pytest.fixture(scope="module")
def everywhere(shared, relay):
    agent = shared.joined(relay, "everywhere", invite_flags=["--allow-listen", "*:0", "--allow-listen", "*:0/udp"])
    return agent.start(["-R", "*:0", *[word for rule in ALLOW for word in ("--allow", rule)]])


@pytest.fixture(scope="module")
def guarded(shared, relay):
    agent = shared.joined(relay, "guarded", allow=ALLOW)
    login = agent.folder / "login"
    login.write_text("user:secret:with:colons\n")
    login.chmod(0o600)
    return agent.start(["-D", "0", "--socks-login", str(login)])


class TestLogin:
    def test_right(self, guarded, target):
        s = Socks5(guarded.at(), ("user", "secret:with:colons"))
        assert (s.method, s.login_status) == (2, 0)
        assert s.connect("127.0.0.1", target.port) == 0
        s.close()

    @pytest.mark.parametrize("login", [("user", "wrong"), ("other", "secret:with:colons"), ("user", "")])
    def test_wrong(self, guarded, login):
        s = Socks5(guarded.at(), login)
        assert s.login_status != 0
        assert recv_to_end(s.socket) == b""

    def test_none(self, guarded):
        s = Socks5(guarded.at())
        assert s.method == 0xff

    def test_the_password_is_never_logged(self, guarded):
        assert "secret" not in guarded.log.read_text()

    def test_a_login_file_for_all_to_read_is_refused(self, shared, relay):
        agent = shared.joined(relay, "open", allow=ALLOW)
        login = agent.folder / "login"
        login.write_text("user:hunter2\n")
        login.chmod(0o644)
        done = agent.run("agent", *agent.trust(), "--once", "-D", "0", "--socks-login", login)
        assert done.returncode == 2 and str(login) in done.stderr and "hunter2" not in done.stderr


@pytest.mark.parametrize("junk", [b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"\x05\x00", b"\x05\x01\x00\x09\x01\x00",
                                  b"\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50", b"\x05\x01\x80"],
                         ids=["socks4", "http", "no method", "version 9", "empty name", "unknown method"])
def test_junk_is_answered_or_closed(at, junk, target):
    with connect(at) as s:
        s.sendall(junk)
        try:
            assert len(recv_to_end(s)) < 64
        except ConnectionResetError:
            pass
    s = Socks5(at)
    assert s.connect("127.0.0.1", target.port) == 0
    s.close()
