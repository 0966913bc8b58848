# SPDX-License-Identifier: Apache-2.0
"""HTTP/2: WebSocket over its streams (RFC 8441), on connections that carriers share, and proxies that speak it."""
import re

import pytest

from testenv.net import ask, pattern_bytes
from testenv.proc import wait_for

DATA = pattern_bytes(1_000_000)


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
