# SPDX-License-Identifier: Apache-2.0
"""Half-close and reset arrive as such at the other end, on every kind of forward."""
import select
import socket

import pytest

from testenv import netns
from testenv.net import (abort, ask, connect, echo, hold, pattern_bytes, recv_exactly, recv_to_end, reset_after_first,
                         source)
from test_transfer import KINDS, Ways


@pytest.fixture(scope="module")
def echoing(shared):
    return shared.server(echo)


@pytest.fixture(scope="module")
def ways(shared, relay, echoing):
    return Ways(shared, relay, echoing)


@pytest.mark.parametrize("kind", KINDS)
def test_half_close_loses_nothing(ways, kind):
    data = pattern_bytes(200_000)
    assert ask(ways.at[kind], data) == data


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_may_end_first(shared, relay, kind):
    server = shared.server(lambda server, s: (s.shutdown(socket.SHUT_WR), server.seen.put(recv_to_end(s))))
    with connect(Ways(shared, relay, server).at[kind]) as s:
        assert recv_to_end(s) == b""
        s.sendall(b"still heard")
        s.shutdown(socket.SHUT_WR)
        assert server.next() == b"still heard"


@pytest.mark.parametrize("kind", KINDS)
def test_a_callers_reset_reaches_the_target(shared, relay, ways, echoing, kind):
    while not echoing.seen.empty():
        echoing.seen.get()
    s = connect(ways.at[kind])
    s.sendall(b"x")
    assert recv_exactly(s, 1) == b"x"
    abort(s)
    assert echoing.next() == "reset"


def quiet(server, s):
    """Hears its caller to the end, says nothing, and tells of a reset behind the end: no read does, and nothing is written."""
    server.seen.put(recv_to_end(s))
    poll = select.poll()
    poll.register(s, 0)  # errors alone
    server.seen.put(poll.poll(60_000) and "reset")


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_behind_an_end_reaches_the_other_end(shared, relay, kind):
    """Although neither has anything to send any more."""
    server = shared.server(quiet)
    s = connect(Ways(shared, relay, server).at[kind])
    s.sendall(b"x")
    s.shutdown(socket.SHUT_WR)
    assert server.next() == b"x"
    abort(s)
    assert server.next() == "reset"


@pytest.mark.skipif(not netns.usable(), reason="needs root and nft")
def test_a_caller_that_vanished_behind_its_end_is_found_by_keepalive(world):
    space = world.add(netns.Namespace())
    with space:
        for name, value in ("time", 1), ("intvl", 1), ("probes", 2):
            with open(f"/proc/sys/net/ipv4/tcp_keepalive_{name}", "w") as f:
                f.write(str(value))
        server = world.server(quiet)
        agent = world.agent(world.relay(), "-L", f"0:{server.at}")
        with connect(agent.at()) as s:
            s.sendall(b"x")
            s.shutdown(socket.SHUT_WR)
            assert server.next() == b"x"
            space.drop(f"tcp sport {s.getsockname()[1]}")
            assert server.next() == "reset"


@pytest.mark.parametrize("kind", KINDS)
def test_a_targets_reset_reaches_the_caller(shared, relay, kind):
    way = Ways(shared, relay, shared.server(reset_after_first)).at[kind]
    with connect(way) as s:
        s.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            recv_to_end(s)


@pytest.mark.parametrize("kind", KINDS)
def test_a_slow_reader_holds_back_only_itself(shared, relay, ways, kind):
    hoses = Ways(shared, relay, shared.server(source))
    with connect(hoses.at[kind], rcvbuf=4096) as stuck:
        stuck.sendall(b"100000000 1\n")
        recv_exactly(stuck, 1)
        for size in (1, 5000, 300_000):
            data = pattern_bytes(size)
            assert ask(ways.at[kind], data) == data


def test_a_target_that_never_reads_holds_back_its_caller(shared, relay):
    server = shared.server(hold, rcvbuf=4096)
    with connect(Ways(shared, relay, server).at["local"]) as s:
        s.setblocking(False)
        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                if not select.select([], [s], [], 3)[1]:
                    raise BlockingIOError
                sent += s.send(bytes(65536))
                assert sent < 300 << 20, "somebody buffers without bound"
