# SPDX-License-Identifier: Apache-2.0
"""Proxies of every kind, as packaged, beside those of programs.py."""
import hashlib
import os

from .proc import Proc
from .programs import Program, Squid, certificate, find, quietly


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


class AuthSquid(Squid):
    """squid that wants to know who calls, by these schemes in this order; `tries` are the requests that said so."""

    def start(self, *schemes, login=("user", "secret"), extra=(), env=None):
        self.open_folder()
        self.access = self.folder / "access.log"
        lines = [line for scheme in schemes for line in getattr(self, scheme)(*login)]
        config = self.write("squid.conf", *extra, *lines,
                            'logformat who %rm %ru %>Hs [%{Proxy-Authorization}>h] %un',
                            f"http_port 127.0.0.1:{self.port}", "acl named proxy_auth REQUIRED", "http_access allow named",
                            "http_access deny all", "cache deny all", "cache_mem 1 MB", f"pid_filename {self.folder}/squid.pid",
                            f"access_log stdio:{self.access} who", f"cache_log {self.folder}/cache.log", "shutdown_lifetime 0",
                            f"coredump_dir {self.folder}", "visible_hostname squid.test", "netdb_filename none",
                            "max_filedescriptors 1024", "logfile_rotate 0")
        self.proc = Proc([find("squid"), "-N", "-f", config], self.log, env=env)
        self.proc.wait_port(self.port)
        return self

    def basic(self, user, password):
        hashed = quietly("openssl", "passwd", "-apr1", password).decode().strip()
        passwords = self.write("passwords", f"{user}:{hashed}")
        return [f"auth_param basic program /usr/lib/squid/basic_ncsa_auth {passwords}", "auth_param basic children 1"]

    def digest(self, user, password):
        a1 = hashlib.md5(f"{user}:the, realm:{password}".encode()).hexdigest()
        passwords = self.write("digests", f"{user}:the, realm:{a1}")
        return [f"auth_param digest program /usr/lib/squid/digest_file_auth -c {passwords}",
                "auth_param digest realm the, realm", "auth_param digest children 1"]

    def lines(self):
        return self.output().splitlines()

    def tries(self):
        return [line for line in self.lines() if "[-]" not in line]
