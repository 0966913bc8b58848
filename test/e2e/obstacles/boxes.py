# SPDX-License-Identifier: Apache-2.0
"""Boxes that end TLS between the client and the relay and read what passes."""
from testenv.maze import RELAY
from testenv.net import pattern_bytes
from testenv.programs import Program, find
from testenv.proxies import TlsFront

from . import Way, scenario

BOX = 8443


class Mitmproxy(Program):
    """A transparent interceptor that keeps all that it saw in `dump`."""

    def start(self):
        self.ca = self.folder / "mitmproxy-ca-cert.pem"
        self.dump = self.folder / "dump"
        return self.launch(find("mitmdump"), "--mode", "transparent", "--listen-host", self.host, "--listen-port", self.port,
                           "--set", f"confdir={self.folder}", "--set", "ssl_insecure=true", "--set", "connection_strategy=lazy",
                           "--save-stream-file", self.dump)


def intercepted(lab):
    """A box in the way, and a check that it saw the tunnel but nothing in it."""
    box = lab.start(Mitmproxy, BOX)
    lab.maze.turn("tcp dport 443", BOX)

    def check():
        box.stop()
        seen = box.dump.read_bytes()
        assert b"culvert.v1" in seen and len(seen) > 1 << 20
        assert pattern_bytes(1 << 20)[4096:4128] not in seen
    return box, check


@scenario("TLS interception by a CA that the client trusts", "mitmproxy, transparent",
          "keeps its frames in a TLS of its own, inside; names the interceptor in its status")
def intercepted_trusted(lab):
    box, check = intercepted(lab)
    return Way(("--ca", box.ca), check=check)


@scenario("TLS interception by a CA that nobody knows", "mitmproxy, transparent",
          "reports it, and trusts the relay's own key inside")
def intercepted_untrusted(lab):
    box, check = intercepted(lab)
    return Way(("--outer", "report"), check=check)


@scenario("TLS interception by a CA that nobody knows, and --outer verify", "haproxy", "does not go on", status=4,
          says="dial relay.test:443: TLS with relay.test:443: certificate verify failed: self-signed "
               "certificate (issuer CN=front of front); if you know that CA, trust it with --ca FILE; or say "
               "--outer report: the relay's own key is checked in any case")
def intercepted_refused(lab):
    lab.start(TlsFront, BOX, 443, hosts=("relay.test",), behind_host=RELAY)
    lab.maze.turn("tcp dport 443", BOX)
    return Way(("--outer", "verify"))
