# SPDX-License-Identifier: Apache-2.0
"""A long life: drains, reloads, reconnects, no descriptors left, callers that say nothing."""
import os
import resource
import signal
import socket
import ssl

import pytest

from testenv.culvert import must
from testenv.net import ask, connect, pattern_bytes, recv_exactly, recv_to_end
from testenv.proc import can_connect, free_port, wait_for


def works(at, data=b"does it work"):
    try:
        return ask(at, data, 5) == data
    except OSError:
        return False


def opened(at):
    s = connect(at)
    s.sendall(b"x")
    assert recv_exactly(s, 1) == b"x"
    return s


def goes_on(s):
    s.sendall(b"goes on")
    return recv_exactly(s, 7) == b"goes on"


@pytest.fixture
def pair(world):
    relay = world.relay()
    server = world.server()
    return relay, world.agent(relay, "-L", f"0:{server.at}", invite_flags=["--allow-listen", "127.0.0.1:0"])


class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("who", ["agent", "relay"])
    def test_idle_ends_are_gone_at_once(self, pair, who, number):
        relay, agent = pair
        proc = agent.proc if who == "agent" else relay.proc
        proc.signal(number)
        assert proc.wait_exit() == 0

    @pytest.mark.parametrize("who", ["agent", "relay"])
    def test_open_streams_are_drained(self, pair, who):
        relay, agent = pair
        proc = agent.proc if who == "agent" else relay.proc
        s = opened(agent.at())
        proc.signal(signal.SIGTERM)
        if who == "agent":
            wait_for("no new callers", lambda: not can_connect(agent.port()))
        else:
            wait_for("no new agents", lambda: not can_connect(relay.port))
        data = pattern_bytes(500_000)
        for at in range(0, len(data), 50_000):
            s.sendall(data[at:at + 50_000])
            assert recv_exactly(s, 50_000) == data[at:at + 50_000]
        s.shutdown(socket.SHUT_WR)
        assert recv_to_end(s) == b""
        s.close()
        assert proc.wait_exit() == 0

    @pytest.mark.parametrize("who", ["agent", "relay"])
    def test_a_second_signal_ends_it_now(self, pair, who):
        relay, agent = pair
        proc = agent.proc if who == "agent" else relay.proc
        s = opened(agent.at())
        proc.signal(signal.SIGTERM)
        port = agent.port() if who == "agent" else relay.port
        wait_for("the drain", lambda: not can_connect(port))
        proc.signal(signal.SIGTERM)
        proc.wait_exit()
        if who == "relay":  # the agent waits for it to come back; another one knows nothing of the stream
            relay.start()
        with pytest.raises((ConnectionResetError, EOFError)):
            recv_exactly(s, 1)

    @pytest.mark.parametrize("who", ["relay", "agent"])
    def test_the_drain_has_an_end(self, world, who):
        relay = world.relay(flags=["--drain", "1s"])
        agent = world.agent(relay, "-L", f"0:{world.server().at}", "--drain", "1s")
        s = opened(agent.at())
        end = relay if who == "relay" else agent
        end.proc.signal(signal.SIGTERM)
        end.proc.wait_exit()
        s.close()


class TestReload:
    def certificate(self, relay):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(connect(relay.port)) as s:
            return s.getpeercert(binary_form=True)

    def test_a_new_certificate_is_served_and_no_stream_dropped(self, pair):
        relay, agent = pair
        s = opened(agent.at())
        before = self.certificate(relay)
        relay.certify()
        relay.proc.signal(signal.SIGHUP)
        wait_for("the new certificate", lambda: self.certificate(relay) != before)
        assert goes_on(s) and works(agent.at())
        s.close()

    def test_a_broken_certificate_is_told_and_the_old_one_kept(self, pair):
        relay, agent = pair
        s = opened(agent.at())
        before = self.certificate(relay)
        good = relay.ca.read_bytes()
        relay.ca.write_text("not a certificate\n")
        relay.proc.signal(signal.SIGHUP)
        relay.proc.wait_log("web.crt")
        relay.ca.write_bytes(good)
        assert self.certificate(relay) == before and goes_on(s) and works(agent.at())
        s.close()

    def test_an_agent_goes_on(self, pair):
        relay, agent = pair
        s = opened(agent.at())
        for _ in range(5):
            agent.proc.signal(signal.SIGHUP)
            assert goes_on(s)
        assert works(agent.at())
        s.close()


class TestReconnect:
    def test_after_the_relay_was_killed(self, pair):
        relay, agent = pair
        assert works(agent.at())
        relay.proc.kill()
        assert not works(agent.at())
        relay.start()
        wait_for("the agent to come back", lambda: works(agent.at()), 60)

    def test_hup_dials_at_once(self, pair):
        relay, agent = pair
        relay.proc.kill()
        agent.proc.wait_log(str(relay.port))
        relay.start()
        agent.proc.signal(signal.SIGHUP)
        wait_for("the agent to come back", lambda: works(agent.at()), 60)

    def test_reverse_forwards_come_back(self, world):
        relay = world.relay()
        server = world.server()
        port = free_port()
        agent = world.joined(relay, invite_flags=["--allow-listen", f"127.0.0.1:{port}"]).start(["-R", f"{port}:{server.at}"])
        assert works(port)
        relay.proc.kill()
        relay.start()
        wait_for("the listener to come back", lambda: works(port), 60)
        assert agent.proc.alive()

    def test_an_agent_started_before_its_relay(self, pair, world):
        relay, agent = pair
        server = world.server()
        agent.stop()
        relay.stop()
        agent.start(["-L", f"0:{server.at}"], wait=False)
        agent.proc.wait_log(str(relay.port))
        relay.start()
        agent.wait_ready(60)
        assert works(agent.at())

    def test_once_ends_at_the_first_failure(self, pair, world):
        relay, agent = pair
        agent.stop()
        agent.start(["-L", f"0:{world.server().at}", "--once"])
        relay.proc.kill()
        assert agent.proc.wait_exit() in (1, 3)


def limited(count):
    def apply():
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    return apply


class TestDescriptors:
    def crowd(self, at, count):
        callers = []
        for _ in range(count):
            s = socket.socket()
            s.settimeout(5)
            try:
                s.connect(("127.0.0.1", at))
                s.sendall(b"x")
            except OSError:
                pass
            callers.append(s)
        return callers

    def test_an_agent_without_descriptors_pauses_and_goes_on(self, world):
        relay = world.relay()
        server = world.server()
        agent = world.joined(relay).start(["-L", f"0:{server.at}"], preexec=limited(48))
        old = opened(agent.at())
        callers = self.crowd(agent.port(), 100)
        assert goes_on(old) and agent.proc.alive()
        for s in callers:
            s.close()
        wait_for("new callers to be served", lambda: works(agent.at()))
        assert goes_on(old)
        old.close()

    def test_a_relay_without_descriptors_pauses_and_goes_on(self, world):
        relay = world.relay(preexec=limited(64))
        server = world.server()
        agent = world.agent(relay, "-L", f"0:{server.at}")
        old = opened(agent.at())
        callers = self.crowd(agent.port(), 100)
        silent = self.crowd(relay.port, 100)
        assert goes_on(old) and relay.proc.alive()
        for s in callers + silent:
            s.close()
        wait_for("new streams to be served", lambda: works(agent.at()), 60)
        assert goes_on(old)
        old.close()


class TestUnauthenticated:
    def test_silent_callers_are_closed(self, world):
        relay = world.relay()
        with connect(relay.port, 60) as s:
            try:
                assert recv_to_end(s) == b""
            except ConnectionResetError:
                pass

    def test_one_address_gets_only_so_many(self, pair):
        """Callers beyond the cap are turned away; an agent that is in goes on, and others get in once they are gone."""
        relay, agent = pair
        silent, turned_away = [], 0
        for _ in range(400):
            try:
                silent.append(socket.create_connection(("127.0.0.1", relay.port), timeout=10))
            except ConnectionResetError:
                turned_away += 1
        for s in silent:
            s.settimeout(0.01)
            try:
                turned_away += s.recv(1) == b""
            except TimeoutError:
                pass
            except OSError:
                turned_away += 1
        assert turned_away > 0
        assert works(agent.at())
        for s in silent:
            s.close()
        wait_for("others to get in", lambda: agent.run("agent", *agent.trust(), "-W", "127.0.0.2:1").returncode == 5)

    @pytest.mark.parametrize("junk", [b"\x00" * 4096, os.urandom(4096), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"A" * 70000])
    def test_junk_is_closed_and_harms_nobody(self, pair, junk):
        relay, agent = pair
        for _ in range(20):
            with connect(relay.port) as s:
                try:
                    s.sendall(junk)
                    recv_to_end(s)
                except OSError:
                    pass
        assert works(agent.at())

    def tls(self, relay):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(relay.ca)
        return context.wrap_socket(connect(relay.port, 60), server_hostname="localhost")

    @pytest.mark.parametrize("request_", [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"G", b"", b"GET / HTTP/1.1\r\nX: " + b"y" * 40000,
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"\r\n\r\n\r\n", b"\x00\x01\x02"])
    def test_bad_requests_end(self, pair, request_):
        relay, agent = pair
        with self.tls(relay) as s:
            try:
                s.sendall(request_)
                while s.recv(65536):
                    pass
            except OSError:
                pass
        assert works(agent.at())

    def upgrade(self, relay, s):
        s.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                  b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: culvert.v1\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            more = s.recv(1)
            if not more:
                break
            head += more
        return head

    @pytest.mark.parametrize("junk", [b"", b"\x82\xfe\xff\xff" + b"\x00" * 4 + b"Z" * 70000, b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff" + b"A" * 4096,
                                      b"\x00" * 8192, b"\x88\x80\x00\x00\x00\x00"],
                             ids=["silence", "not tls", "endless frame", "unmasked", "close"])
    def test_bad_bytes_inside_the_websocket_end(self, pair, junk):
        relay, agent = pair
        with self.tls(relay) as s:
            head = self.upgrade(relay, s)
            assert head.startswith(b"HTTP/1.1 101"), head
            try:
                s.sendall(junk)
                while s.recv(65536):
                    pass
            except OSError:
                pass
        assert works(agent.at())


def any_core():
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def test_a_crash_leaves_no_secrets_behind(world):
    """Whoever starts it may allow core files; only --core-dumps does."""
    allowed = {"preexec": any_core, "env": {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":disable_coredump=0"}}
    relay = world.relay(**allowed)
    agent, local = world.joined(relay), ["-L", f"0:{world.server().at}"]
    agent.start(local, **allowed)
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    none = hard if hard in (0, 1) else 1  # one byte: no handler of core files is asked either
    assert [resource.prlimit(end.proc.pid, resource.RLIMIT_CORE) for end in (relay, agent)] == [(none, hard)] * 2
    agent.stop()
    agent.start(local, **allowed, global_flags=["--core-dumps"])
    assert resource.prlimit(agent.proc.pid, resource.RLIMIT_CORE) == (hard, hard)


def test_many_agents_and_sessions(world):
    relay = world.relay()
    server = world.server()
    agents = [world.joined(relay, "many") for _ in range(6)]
    for agent in agents:
        agent.start(["-L", f"0:{server.at}"])
    ports = [agent.at() for agent in agents]
    second = [agents[0].run("agent", *agents[0].trust(), "-W", server.at, stdin="beside").stdout for _ in range(3)]
    assert second == ["beside"] * 3
    assert all(works(at) for at in ports)
    assert len([row for row in relay.table("agents")]) >= 6
    must(relay.run("revoke", agents[0].name))
    agents[0].proc.wait_exit()
    assert all(works(at) for at in ports[1:])


def test_a_frozen_relay_is_noticed(pair):
    """The relay stops answering without closing anything; the agent says so and comes back when it wakes."""
    relay, agent = pair
    assert works(agent.at())
    with relay.proc.asleep():
        s = connect(agent.at(), 5)
        s.sendall(b"anybody")
        with pytest.raises(OSError):
            recv_exactly(s, 7)
        s.close()
    wait_for("the tunnel to work again", lambda: works(agent.at()), 90)
