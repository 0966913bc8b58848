# SPDX-License-Identifier: Apache-2.0
"""Proxies of every kind, as packaged, beside those of programs.py."""
import os

from .programs import Program, certificate, find


class Dante(Program):
    """SOCKS5 without a password."""

    def start(self):
        config = self.write("danted.conf", "logoutput: stderr", f"internal: 127.0.0.1 port = {self.port}", "external: lo",
                            "socksmethod: none", "clientmethod: none",
                            *(["user.privileged: proxy", "user.unprivileged: proxy"] if os.getuid() == 0 else []),
                            "client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }",
                            "socks pass {", "  from: 127.0.0.0/8 to: 0.0.0.0/0", "  protocol: tcp", "  command: connect",
                            "  log: connect error", "}")
        return self.launch(find("danted"), "-f", config)


class Microsocks(Program):
    """SOCKS5, with a password if told."""

    def start(self, login=None):
        return self.launch(find("microsocks"), "-i", "127.0.0.1", "-p", self.port,
                           *(["-u", login[0], "-P", login[1]] if login else []))


class SshSocks(Program):
    """ssh -D: SOCKS5 and SOCKS4a, coming out at an sshd."""

    def start(self, sshd):
        return self.launch(*sshd.client("-v", "-N", "-D", f"127.0.0.1:{self.port}", "-p", str(sshd.port),
                                        f"{sshd.user}@127.0.0.1"))


class TlsFront(Program):
    """TLS with a certificate of its own in front of a proxy: an https:// proxy."""

    def start(self, behind_port, hosts=("localhost", "127.0.0.1")):
        self.pem = certificate(self.folder, "front", hosts)
        self.ca = self.folder / "front.crt"
        config = self.write("haproxy.cfg", "defaults", "    mode tcp", "    timeout connect 10s", "    timeout client 10m",
                            "    timeout server 10m", "listen front", f"    bind 127.0.0.1:{self.port} ssl crt {self.pem}",
                            f"    server proxy 127.0.0.1:{behind_port}")
        return self.launch(find("haproxy"), "-db", "-f", config)
