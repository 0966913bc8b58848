# SPDX-License-Identifier: Apache-2.0
"""Long-poll: whole requests with whole answers, for networks where nothing else passes."""
import pytest

from testenv.net import abort, ask, connect, pattern_bytes, recv_exactly, recv_to_end
from testenv.proc import free_port, wait_for
from testenv.programs import Haproxy, Program, Squid, certificate, find
from testenv.whole import WholeFront
from test_intercepted import Bump, Mitmproxy

MIB = 1 << 20
FAST = 10.0  # in which a way must be found, also where others are refused first


class Buffering(Program):
    """nginx as people have it: it reads whole requests and whole answers, and passes no Upgrade on."""

    def start(self, behind_port, *lines):
        if not (self.folder / "front.pem").exists():
            certificate(self.folder, "front")
        self.ca = self.folder / "front.crt"
        config = self.write("nginx.conf", "daemon off;", "master_process off;", f"pid {self.folder}/pid;", "error_log stderr;",
                            "events {}", "http {", "access_log off;",
                            *[f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")],
                            "server {", f"listen {self.host}:{self.port} ssl;", f"ssl_certificate {self.folder}/front.pem;",
                            f"ssl_certificate_key {self.folder}/front.pem;", "proxy_buffering on;", "proxy_request_buffering on;", *lines,
                            f"location / {{ proxy_pass https://127.0.0.1:{behind_port}; proxy_set_header Host $host; }}", "}", "}")
        return self.launch(find("nginx"), "-p", self.folder, "-c", config, "-e", "stderr")


@pytest.fixture(scope="module")
def relay(shared):
    plain = free_port()
    relay = shared.relay(flags=["--listen-plain", f"127.0.0.1:{plain}"])
    relay.plain = plain
    return relay


@pytest.fixture(scope="module")
def agent(shared, relay):
    return shared.joined(relay, "agent")


def trusting(front):
    return ["--ca", str(front.ca), "--relay", f"wss://localhost:{front.port}"]


def run(agent, target, *flags, mib=1, check=None, **more):
    """The agent finds its way in time, bytes come back whole, and a few at once."""
    data = pattern_bytes(mib * MIB)
    agent.start(["-L", f"0:{target.at}", *flags], patience=FAST, **more)
    try:
        assert ask(agent.at(), data) == data
        with connect(agent.at()) as s:
            for i in range(20):
                s.sendall(b"%d" % (i % 10))
                assert recv_exactly(s, 1) == b"%d" % (i % 10)
            if check:
                check(s)
        return agent.status()
    finally:
        agent.stop()


def transport(status):
    return status["carrier"]["transport"]


def test_asked_for(agent, target):
    status = run(agent, target, "--transport", "poll", mib=4)
    assert transport(status) == "poll"
    assert status["carrier"]["trust"] == "inner TLS"  # never peeled


def test_a_buffering_front_without_upgrade(shared, relay, agent, target):
    front = shared.program_of(Buffering, relay.port)
    assert transport(run(agent, target, *trusting(front), mib=10)) == "poll"


def test_a_front_that_takes_small_bodies_only_and_no_long_requests(shared, relay, agent, target):
    front = shared.program_of(Buffering, relay.port, "client_max_body_size 10k;", "proxy_read_timeout 2s;")
    assert transport(run(agent, target, *trusting(front), "--transport", "poll")) == "poll"


def test_through_a_proxy_and_a_front(shared, relay, agent, target):
    squid, front = shared.program_of(Squid), shared.program_of(Haproxy, relay.port)
    status = run(agent, target, *trusting(front), "--transport", "poll", "--proxy", squid.url)
    assert transport(status) == "poll"
    assert "via 127.0.0.1" in str(status)


class Stripping(Bump):
    """squid that intercepts TLS, passes no upgrade on, and may cache."""

    def write(self, name, *lines):
        return super().write(name, *[line for line in lines if not line.startswith(("http_upgrade", "cache deny"))])


@pytest.mark.parametrize("box, flags", [(Stripping, []), (Mitmproxy, ["--transport", "poll"])], ids=["squid", "mitmproxy"])
def test_boxes_that_intercept_tls(shared, relay, agent, target, box, flags):
    box = shared.program_of(box)
    wait_for("its CA", box.ca.exists)
    status = run(agent, target, "--ca", str(box.ca), "--outer", "report", "--proxy", f"http://127.0.0.1:{box.port}", *flags, mib=2)
    assert transport(status) == "poll"


def whole(shared, relay, *misfortunes, **more):
    return shared.add(WholeFront(shared.place("whole"), relay.plain, misfortunes, **more))


def test_only_whole_requests_pass(shared, relay, agent, target):
    front = whole(shared, relay)
    assert transport(run(agent, target, *trusting(front), mib=4)) == "poll"
    assert front.requests > 10


def test_misfortunes(shared, relay, agent, target):
    """What is repeated, delayed, lost, refused or cut on the way does no harm."""
    front = whole(shared, relay, "refused", "twice", "again", "slow", "lost", "late", "cut", "chunked")
    status = run(agent, target, *trusting(front), "--transport", "poll", mib=4)
    assert transport(status) == "poll"
    assert all(front.happened.values()), front.happened


def test_ends_and_aborts_are_kept(shared, relay, agent):
    """A half close is not an end, an end comes behind all data, and an abort is an abort."""
    def half(server, s):
        s.sendall(b"first")
        s.sendall(b"%d" % len(recv_to_end(s)))
        s.close()

    def rude(server, s):
        recv_exactly(s, 5)
        abort(s)

    polite, rude = shared.server(half), shared.server(rude)
    agent.start(["--transport", "poll", "-L", f"0:{polite.at}", "-L", f"0:{rude.at}"])
    try:
        assert ask(agent.at(0), b"x" * 100000) == b"first100000"
        with connect(agent.at(1)) as s:
            s.sendall(b"hello")
            with pytest.raises(ConnectionResetError):
                s.recv(1)
    finally:
        agent.stop()


def test_a_dead_front_is_noticed_and_the_stream_goes_on(shared, relay, agent, target):
    front = shared.program_of(Buffering, relay.port)
    agent.start(["--transport", "poll", "-L", f"0:{target.at}", *trusting(front)])
    try:
        with connect(agent.at()) as s:
            s.sendall(b"before")
            assert recv_exactly(s, 6) == b"before"
            front.proc.kill()
            s.sendall(b"between")
            front.start(relay.port)
            assert recv_exactly(s, 7) == b"between"
    finally:
        agent.stop()


def ask_raw(port, text):
    with connect(port) as s:
        s.sendall(text.encode())
        return recv_to_end(s)


def test_strangers_see_no_difference(relay):
    """Ids that nobody knows, and requests that are not rightly made, are answered like any other that leads nowhere."""
    def answer(line, more=""):
        got = ask_raw(relay.plain, f"{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n")
        return [line for line in got.split(b"\r\n") if not line.startswith(b"Date:")]

    other = answer("GET /nowhere")
    unknown = "cp1.0123456789abcdefghij-_.0.0.0"
    assert other[0] == b"HTTP/1.1 404 Not Found"
    assert answer(f"GET /?{unknown}.g.1.25.100") == other
    assert answer(f"GET /?{unknown}.p.0.d") == other
    assert answer(f"GET /other?{unknown}.g.1.25.100") == other
    assert answer(f"POST /?{unknown}.p.7.d", "Content-Length: 0\r\n") == other


def test_what_a_stranger_begins_is_forgotten(relay):
    """An id whose agent does not prove itself is unknown again soon."""
    line = "/?cp1.abcdefghij0123456789-_.0.1.0"
    begun = ask_raw(relay.plain, f"POST {line}.p.0.d HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
    assert begun.startswith(b"HTTP/1.1 200 OK") and b"no-store" in begun and b"cp1" in begun.partition(b"\r\n\r\n")[2]
    wait_for("the relay to forget it", lambda: b" 404 " in ask_raw(relay.plain, f"GET {line}.g.1.1.100 HTTP/1.0\r\n\r\n"))
