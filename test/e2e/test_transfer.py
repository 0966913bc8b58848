# SPDX-License-Identifier: Apache-2.0
"""Bytes arrive whole: SHA-256 at every size around a buffer's edge, both ways, with readers that are slow."""
import socket

import pytest

from testenv.net import connect, digest, digest_slowly, pattern, pattern_sha, read_fast, read_slowly, recv_to_end, source

SIZES = [0, 1, 125, 126, *range(16327, 16338), 65535, 65536, 65537, (1 << 20) + 1]
BIG = 256 << 20
KINDS = ["local", "reverse", "service"]


class Ways:
    """The ways through the tunnel to one server, as {kind: address}."""

    def __init__(self, world, relay, server):
        near = world.joined(relay, "near", invite_flags=["--allow-listen", "127.0.0.1:0", "--allow-offer", "it"],
                            allow=["127.0.0.1:*", "it@*"])
        near.start(["-R", f"0:{server.at}", "--offer", f"it={server.at}"])
        far = world.joined(relay, "far", allow=["127.0.0.1:*", f"it@{near.name}"])
        far.start(["-L", f"0:{server.at}", "-L", f"0:it@{near.name}"])
        self.at = {"local": far.at(0), "reverse": near.at(0, "reverse"), "service": far.at(1)}


@pytest.fixture(scope="module", params=["fast", "slow"])
def pace(request):
    return request.param


@pytest.fixture(scope="module")
def up(shared, relay, pace):
    slow = pace == "slow"
    return Ways(shared, relay, shared.server(digest_slowly if slow else digest, rcvbuf=4096 if slow else None))


@pytest.fixture(scope="module")
def down(shared, relay):
    return Ways(shared, relay, shared.server(source))


def send_pattern(at, size):
    with connect(at, 120) as s:
        for block in pattern(size, size):
            s.sendall(block)
        s.shutdown(socket.SHUT_WR)
        return recv_to_end(s).decode()


def take_pattern(at, size, slow):
    with connect(at, 120, rcvbuf=4096 if slow else None) as s:
        s.sendall(f"{size} {size}\n".encode())
        s.shutdown(socket.SHUT_WR)
        return (read_slowly if slow else read_fast)(s)


@pytest.mark.parametrize("kind", KINDS)
def test_up(up, kind):
    assert {size: send_pattern(up.at[kind], size) for size in SIZES} == \
        {size: f"{size} {pattern_sha(size, size)}" for size in SIZES}


@pytest.mark.parametrize("kind", KINDS)
def test_down(down, pace, kind):
    assert {size: take_pattern(down.at[kind], size, pace == "slow") for size in SIZES} == \
        {size: (size, pattern_sha(size, size)) for size in SIZES}


@pytest.mark.parametrize("kind", KINDS)
def test_256_mib_each_way(fast_world, kind):
    relay = fast_world.relay()
    assert send_pattern(Ways(fast_world, relay, fast_world.server(digest)).at[kind], BIG) == \
        f"{BIG} {pattern_sha(BIG, BIG)}"
    assert take_pattern(Ways(fast_world, relay, fast_world.server(source)).at[kind], BIG, False) == \
        (BIG, pattern_sha(BIG, BIG))
