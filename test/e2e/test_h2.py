# SPDX-License-Identifier: Apache-2.0
"""HTTP/2: WebSocket over its streams (RFC 8441), on connections that carriers share, and proxies that speak it."""
import re

import pytest

from testenv.net import ask, pattern_bytes
from testenv.proc import wait_for
from testenv.programs import Squid
from testenv.proxies import Nghttpx

DATA = pattern_bytes(1_000_000)
ONE_LINE = '--accesslog-format=$remote_addr:$remote_port $alpn $request $status'


def asked_by(relay):
    """How the relay's callers asked to be carriers, in order: (their address, h2 or http/1.1)."""
    return re.findall(r'carrier asked for.* peer="?([^\s"]+)"? by="?([^\s"]+)', relay.log.read_text())


@pytest.fixture(scope="module")
def loud(shared):
    return shared.relay("loud", global_flags=("-vv",))


@pytest.fixture(scope="module")
def target(shared):
    return shared.server()


def test_carriers_share_a_connection(shared, loud, target):
    agent = shared.joined(loud, "sharing", flags=["-T", "h2"])
    before = len(asked_by(loud))
    agent.start(["-L", f"0:{target.at}", "-T", "h2", "--carriers", "3"])
    assert ask(agent.at(), DATA) == DATA
    wait_for("three carriers", lambda: len(asked_by(loud)) == before + 3)
    callers = asked_by(loud)[before:]
    assert {by for _, by in callers} == {"h2"}
    assert len({peer for peer, _ in callers}) == 1
    for _ in range(3):
        assert ask(agent.at(), DATA) == DATA


# Proxies ------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def squid(shared):
    return shared.program_of(Squid)


@pytest.fixture(scope="module")
def nghttpx(shared, squid):
    return shared.program_of(Nghttpx, squid.port, lines=[ONE_LINE])


def tunnels(nghttpx, port):
    """Address and port of the client, and protocol, of each CONNECT for that port."""
    return [tuple(line.split()[:2]) for line in nghttpx.requests() if re.search(rf"CONNECT \S+:{port} ", line)]


@pytest.mark.parametrize("kind", ["h2", "https"])
def test_tunnels_share_a_connection_to_the_proxy(shared, relay, target, nghttpx, kind):
    flags = ["--proxy", f"{kind}://localhost:{nghttpx.port}", "--proxy-ca", str(nghttpx.ca)]
    agent = shared.joined(relay, f"through-{kind}", flags=flags)
    before = len(tunnels(nghttpx, relay.port))
    agent.start(["-L", f"0:{target.at}", *flags, "-T", "h1", "--carriers", "2"])
    assert ask(agent.at(), DATA) == DATA
    wait_for("two carriers", lambda: sum(row["state"] == "up" for row in agent.table("carriers")) == 2)
    assert ask(agent.at(), DATA) == DATA
    agent.stop()
    wait_for("both tunnels in the proxy's log", lambda: len(tunnels(nghttpx, relay.port)) == before + 2)
    clients = tunnels(nghttpx, relay.port)[before:]
    assert {by for _, by in clients} == {"h2"} and len({at for at, _ in clients}) == 1, clients
