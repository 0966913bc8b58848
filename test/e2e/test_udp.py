# SPDX-License-Identifier: Apache-2.0
"""UDP: local and reverse forwards and services, up to the largest datagram, flows that idle out and are bounded."""
import socket

import pytest

from testenv.net import ask, ask_udp, pattern_bytes, udp
from testenv.proc import free_port, wait_for

SIZES = [0, 1, 64, 1200, 1472, 1500, 8192, 16319, 16320, 16321, 16328, 32768, 65506, 65507]
KINDS = ["local", "reverse", "service"]


@pytest.fixture(scope="module")
def echoing(shared):
    return shared.udp_echo()


@pytest.fixture(scope="module")
def ways(shared, relay, echoing):
    near = shared.joined(relay, "near", allow=["127.0.0.1:*/udp", "it@*"],
                         invite_flags=["--allow-listen", "127.0.0.1:0/udp", "--allow-offer", "it"])
    near.start(["-R", f"0:{echoing.at}/udp", "--offer", f"it={echoing.at}/udp"])
    far = shared.joined(relay, "far", allow=["127.0.0.1:*/udp", f"it@{near.name}"])
    far.start(["-L", f"0:{echoing.at}/udp", "-L", f"0:it@{near.name}/udp"])
    return {"local": far.at(0), "reverse": near.at(0, "reverse"), "service": far.at(1)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_sizes(ways, kind, size):
    with udp(ways[kind]) as s:
        data = pattern_bytes(size, size)
        assert ask_udp(s, data)[0] == data


@pytest.mark.parametrize("kind", KINDS)
def test_replies_go_to_their_sender(ways, kind, echoing):
    before = len(echoing.senders)
    callers = [udp(ways[kind]) for _ in range(20)]
    for i, s in enumerate(callers):
        ask_udp(s, b"caller %d" % i)
    for s in callers:
        s.settimeout(0.05)
        with pytest.raises(TimeoutError):
            while True:
                assert s.recv(100) == b"caller %d" % callers.index(s)
        s.close()
    assert len(echoing.senders) >= before + 20


def test_flows_idle_out(shared, relay, echoing):
    agent = shared.joined(relay, "idle", allow=["127.0.0.1:*/udp"]).start(["-L", f"0:{echoing.at}/udp", "--udp-idle", "1s"])
    with udp(agent.at()) as s:
        ask_udp(s, b"one")
        assert len(agent.table("flows")) == 1
        wait_for("the flow to idle out", lambda: agent.table("flows") == [])
        ask_udp(s, b"again")
        assert len(agent.table("flows")) == 1


def test_flows_are_bounded_and_counted(shared, relay, echoing):
    agent = shared.joined(relay, "bounded", allow=["127.0.0.1:*/udp"]).start(["-L", f"0:{echoing.at}/udp"])
    for i in range(4500):
        with udp(agent.at()) as s:
            s.send(b"flow")
            if i < 2500 and i % 50 == 0:
                ask_udp(s, b"in step")
            if i > 4200:
                break
    flows = agent.table("flows")
    assert 2500 < len(flows) <= 3072
    wait_for("a count of what was turned away", lambda: agent.status()["forwarding"]["flows_over_limit"] > 0)
    row, = agent.table("forwards")
    assert row["packets_dropped"] > 0 and row["callers"] >= len(flows)
    assert agent.status()["forwarding"]["packets_dropped"] >= row["packets_dropped"]


def test_udp_and_tcp_on_the_same_target(shared, relay, echoing):
    server = shared.server(at=f"127.0.0.1:{free_port()}")
    both = shared.udp_echo(server.at)
    agent = shared.joined(relay, "both").start(["-L", f"0:{server.at}", "-L", f"0:{both.at}/udp"])
    assert ask(agent.at(0), b"tcp") == b"tcp"
    with udp(agent.at(1)) as s:
        ask_udp(s, b"udp")


def test_a_port_where_nobody_listens_does_not_end_the_forward(shared, relay):
    port = free_port()
    agent = shared.joined(relay, "nobody", allow=["127.0.0.1:*/udp"]).start(["-L", f"0:127.0.0.1:{port}/udp"])
    with udp(agent.at()) as s:
        for _ in range(5):
            try:
                s.send(b"anybody?")
            except ConnectionRefusedError:
                pass
    late = shared.udp_echo(f"127.0.0.1:{port}")
    with udp(agent.at()) as s:
        ask_udp(s, b"now there is")
    assert late.count
