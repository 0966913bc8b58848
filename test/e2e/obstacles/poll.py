# SPDX-License-Identifier: Apache-2.0
"""Where no Upgrade passes: whole requests and whole answers only."""
from testenv.maze import FRONT_NAME, GATE, PROXY_NAME, RELAY, RELAY_NAME
from testenv.net import connect, recv_exactly
from testenv.programs import Squid
from testenv.proxies import AuthSquid
from testenv.webs import Nghttpx, Nginx

from . import Way, by, scenario


@scenario("Web server that strips Upgrade and buffers whole requests and answers", "nginx", "long-poll, found by itself")
def upgrade_stripped(lab):
    front = lab.start(Nginx, 443, f"    location / {{ proxy_pass https://{RELAY}; }}", hosts=(FRONT_NAME,))
    return Way(("--relay", f"wss://{FRONT_NAME}", "--ca", front.ca))


@scenario("Web server that answers 403 to Upgrade", "nginx", "long-poll, found by itself")
def upgrade_refused(lab):
    front = lab.start(Nginx, 443, f"    if ($http_upgrade) {{ return 403; }} location / {{ proxy_pass https://{RELAY}; }}",
                      hosts=(FRONT_NAME,))
    return Way(("--relay", f"wss://{FRONT_NAME}", "--ca", front.ca))


@scenario("Proxy with Digest, and behind it a web server that strips Upgrade", "squid, nginx", "long-poll through CONNECT with Digest")
def proxy_and_stripped(lab):
    lab.start(AuthSquid, 3128, "digest")
    front = lab.start(Nginx, 443, f"    location / {{ proxy_pass https://{RELAY}; }}", hosts=(FRONT_NAME,), admit=False)
    return by("http://user:secret@proxy.test:3128", flags=("--relay", f"wss://{FRONT_NAME}", "--ca", front.ca))


@scenario("Web server that strips Upgrade and takes no body above 8 KiB", "nginx", "sends smaller requests")
def small_bodies(lab):
    front = lab.start(Nginx, 443, f"    client_max_body_size 8k; location / {{ proxy_pass https://{RELAY}; }}", hosts=(FRONT_NAME,))
    return Way(("--relay", f"wss://{FRONT_NAME}", "--ca", front.ca))


@scenario("Web server that strips Upgrade and takes 20 requests a second", "nginx", "waits where it is told 503")
def few_requests(lab):
    front = lab.start(Nginx, 443, f"    limit_req zone=few burst=5 nodelay; location / {{ proxy_pass https://{RELAY}; }}",
                      hosts=(FRONT_NAME,), top=["  limit_req_zone $binary_remote_addr zone=few:1m rate=20r/s;"])
    return Way(("--relay", f"wss://{FRONT_NAME}", "--ca", front.ca))


@scenario("HTTP/2-only proxy, and behind it a web server that strips Upgrade", "nghttpx in front of squid, nginx",
          "long-poll through CONNECT streams")
def h2_proxy_and_stripped(lab):
    lab.start(Squid, 3128, admit=False)
    proxy = lab.start(Nghttpx, 8444, (GATE, 3128), (PROXY_NAME,), proxy=True)
    front = lab.start(Nginx, 443, f"    location / {{ proxy_pass https://{RELAY}; }}", hosts=(FRONT_NAME,), admit=False)
    return by("h2://proxy.test:8444", flags=("--proxy-ca", proxy.ca, "--relay", f"wss://{FRONT_NAME}", "--ca", front.ca))


@scenario("Network that lets everything pass, and then none but whole requests, under a stream", "nftables, nginx",
          "takes up the session by long-poll; the stream goes on")
def stripped_midway(lab):
    lab.maze.open("tcp dport 443")
    lab.start(Nginx, 8443, f"    location / {{ proxy_pass https://{RELAY}; }}", hosts=(RELAY_NAME,))

    def talk(agent, data):
        with connect(agent.at()) as s:
            s.sendall(data[:1000])
            first = recv_exactly(s, 1000)
            lab.maze.turn("tcp dport 443", 8443)
            lab.maze.swallow("tcp dport 443")
            s.sendall(data[1000:])
            return first + recv_exactly(s, len(data) - 1000)
    return Way(("--outer", "report"), talk=talk)
