# SPDX-License-Identifier: Apache-2.0
"""Where no Upgrade passes: whole requests and whole answers only."""
from testenv.maze import FRONT_NAME, RELAY
from testenv.proxies import AuthSquid
from testenv.webs import Nginx

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
