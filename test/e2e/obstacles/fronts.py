# SPDX-License-Identifier: Apache-2.0
"""Relays that can only be reached by way of a web server, which ends TLS with a certificate of its own."""
from testenv.lab import PREFIX
from testenv.maze import FRONT_NAME, RELAY
from testenv.webs import Nginx

from . import Way, scenario

UPGRADE = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;"
MAP = "  map $http_upgrade $connection_upgrade { default upgrade; '' close; }"


def by(front, path=""):
    return Way(("--relay", f"wss://{FRONT_NAME}{path}", "--ca", front.ca))


@scenario("Web server with the relay under a path of its own", "nginx", "asks for the path in the relay's URL")
def prefix(lab):
    front = lab.start(Nginx, 443, f"    location {PREFIX} {{ proxy_pass https://{RELAY}; {UPGRADE} }}", top=[MAP], hosts=(FRONT_NAME,))
    return by(front, PREFIX)
