# SPDX-License-Identifier: Apache-2.0
"""Where only HTTP/2 is spoken."""
from testenv.maze import FRONT_NAME, GATE, PROXY_NAME, RELAY
from testenv.programs import Squid
from testenv.webs import Nghttpx

from . import Way, by, scenario


def proxy(lab):
    lab.start(Squid, 3128, admit=False)
    return lab.start(Nghttpx, 8444, (GATE, 3128), (PROXY_NAME,), proxy=True)


@scenario("HTTP/2-only proxy", "nghttpx in front of squid", "one CONNECT stream on a connection that its tunnels share")
def h2_proxy(lab):
    return by("h2://proxy.test:8444", flags=("--proxy-ca", proxy(lab).ca))


@scenario("HTTPS proxy that turns out to speak HTTP/2 only", "nghttpx in front of squid", "takes h2 as ALPN offers it")
def https_proxy_by_h2(lab):
    return by("https://proxy.test:8444", flags=("--proxy-ca", proxy(lab).ca))


@scenario("Front that speaks HTTP/2 only", "nghttpx", "WebSocket over HTTP/2, RFC 8441")
def h2_front(lab):
    front = lab.start(Nghttpx, 443, (RELAY, 443), (FRONT_NAME,))
    return Way(("--relay", f"wss://{FRONT_NAME}", "--ca", front.ca))
