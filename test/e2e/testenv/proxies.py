# SPDX-License-Identifier: Apache-2.0
"""Proxies of every kind, as packaged, beside those of programs.py."""
import hashlib
import os
from pathlib import Path

from .programs import Program, Squid, certificate, find, quietly

HERE = Path(__file__).resolve().parent


class Dante(Program):
    """SOCKS5; `users` are the system's, who must then say their password. `out` is the interface to the world."""

    def start(self, users=False, out="lo"):
        method = "username" if users else "none"
        config = self.write("danted.conf", "logoutput: stderr", f"internal: {self.host} port = {self.port}", f"external: {out}",
                            f"socksmethod: {method}", "clientmethod: none",
                            *(["user.privileged: root" if users else "user.privileged: proxy", "user.unprivileged: proxy"]
                              if os.getuid() == 0 else []),
                            "client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }",
                            "socks pass {", "  from: 0.0.0.0/0 to: 0.0.0.0/0", "  protocol: tcp", "  command: connect",
                            "  log: connect error", "}")
        return self.launch(find("danted"), "-f", config)


class Microsocks(Program):
    """SOCKS5, with a password if told."""

    def start(self, login=None):
        return self.launch(find("microsocks"), "-i", self.host, "-p", self.port,
                           *(["-u", login[0], "-P", login[1]] if login else []))


class SshSocks(Program):
    """ssh -D: SOCKS5 and SOCKS4a, coming out at an sshd."""

    def start(self, sshd):
        return self.launch(*sshd.client("-v", "-N", "-D", f"{self.host}:{self.port}", "-p", str(sshd.port),
                                        f"{sshd.user}@127.0.0.1"))


class TlsFront(Program):
    """TLS with a certificate of its own in front of a proxy: an https:// proxy."""

    def start(self, behind_port, hosts=("localhost", "127.0.0.1"), behind_host="127.0.0.1"):
        self.pem = certificate(self.folder, "front", hosts)
        self.ca = self.folder / "front.crt"
        config = self.write("haproxy.cfg", "defaults", "    mode tcp", "    timeout connect 10s", "    timeout client 10m",
                            "    timeout server 10m", "listen front", f"    bind {self.host}:{self.port} ssl crt {self.pem}",
                            f"    server proxy {behind_host}:{behind_port}")
        return self.launch(find("haproxy"), "-db", "-f", config)


class Nghttpx(Program):
    """HTTP/2 over TLS in front of an HTTP/1.1 proxy. `alpn`: what it agrees to."""

    def start(self, behind_port, hosts=("localhost", "127.0.0.1"), alpn="h2", lines=()):
        pem = certificate(self.folder, "front", hosts)
        self.ca = self.folder / "front.crt"
        return self.launch(find("nghttpx"), "--conf=/dev/null", "--http2-proxy", f"--frontend={self.host},{self.port}",
                           f"--backend=127.0.0.1,{behind_port}", f"--npn-list={alpn}", f"--accesslog-file={self.folder}/access.log",
                           "--errorlog-file=/dev/stderr", "--workers=1", *lines, pem, pem)

    def requests(self):
        """One line each: client address and port, request."""
        log = self.folder / "access.log"
        return log.read_text().splitlines() if log.exists() else []


class Kdc(Program):
    """A KDC of its own for TEST.REALM with alice and the proxy of that name; `env` is what its clients need."""

    def start(self, proxy="localhost"):
        self.proxy = proxy
        if os.getuid() == 0:
            for parent in (self.folder, *self.folder.parents[:-1]):
                parent.chmod(parent.stat().st_mode | 0o5)
        self.config = self.write(
            "krb5.conf", "[libdefaults]", "  default_realm = TEST.REALM", "  dns_lookup_kdc = false", "  dns_lookup_realm = false",
            "  dns_canonicalize_hostname = false", "  rdns = false", "  udp_preference_limit = 1", "[realms]", "  TEST.REALM = {",
            f"    kdc = {self.host}:{self.port}", "  }", "[domain_realm]", f"  {proxy} = TEST.REALM")
        profile = self.write(
            "kdc.conf", "[kdcdefaults]", f"  kdc_listen = {self.host}:{self.port}", f"  kdc_tcp_listen = {self.host}:{self.port}",
            "[realms]", "  TEST.REALM = {", f"    database_name = {self.folder}/principal", f"    key_stash_file = {self.folder}/stash",
            f"    acl_file = {self.folder}/acl", "  }")
        self.env = {"KRB5_CONFIG": str(self.config), "KRB5CCNAME": f"FILE:{self.folder}/tickets"}
        self.keytab = self.folder / "proxy.keytab"
        server = {**os.environ, **self.env, "KRB5_KDC_PROFILE": str(profile)}
        quietly(find("kdb5_util"), "create", "-s", "-P", "master", "-r", "TEST.REALM", env=server)
        for query in ("addprinc -pw secret alice", f"addprinc -randkey HTTP/{proxy}", f"ktadd -k {self.keytab} HTTP/{proxy}"):
            quietly(find("kadmin.local"), "-r", "TEST.REALM", "-q", query, env=server)
        self.keytab.chmod(0o644)
        return self.launch(find("krb5kdc"), "-n", "-r", "TEST.REALM", env=server)

    def kinit(self):
        quietly("kinit", "alice", input=b"secret\n", env={**os.environ, **self.env})

    def kdestroy(self):
        quietly("kdestroy", env={**os.environ, **self.env})


class AuthSquid(Squid):
    """squid that wants to know who calls, by these schemes in this order; `tries` are the requests that said so."""

    def start(self, *schemes, login=("user", "secret"), kdc=None):
        self.open_folder()
        self.kdc = kdc
        self.access = self.folder / "access.log"
        lines = [line for scheme in schemes for line in getattr(self, scheme)(*login)]
        config = self.write("squid.conf", *lines,
                            'logformat who %rm %ru %>Hs [%{Proxy-Authorization}>h] %un',
                            f"http_port {self.host}:{self.port}", "acl named proxy_auth REQUIRED", "http_access allow named",
                            "http_access deny all", "cache deny all", "cache_mem 1 MB", f"pid_filename {self.folder}/squid.pid",
                            f"access_log stdio:{self.access} who", f"cache_log {self.folder}/cache.log", "shutdown_lifetime 0",
                            f"coredump_dir {self.folder}", "visible_hostname squid.test", "netdb_filename none",
                            "max_filedescriptors 1024", "logfile_rotate 0", "pinger_enable off")
        return self.launch(find("squid"), "-N", "-f", config, env=kdc and kdc.env)

    def basic(self, user, password):
        hashed = quietly("openssl", "passwd", "-apr1", password).decode().strip()
        passwords = self.write("passwords", f"{user}:{hashed}")
        return [f"auth_param basic program /usr/lib/squid/basic_ncsa_auth {passwords}", "auth_param basic children 1"]

    def digest(self, user, password):
        a1 = hashlib.md5(f"{user}:the, realm:{password}".encode()).hexdigest()
        passwords = self.write("digests", f"{user}:the, realm:{a1}")
        return [f"auth_param digest program /usr/lib/squid/digest_file_auth -c {passwords}",
                "auth_param digest realm the, realm", "auth_param digest children 1"]

    def ntlm(self, user, password):
        users = self.write("ntlm-users", f"TESTDOM:{user}:{password}")
        return [f"auth_param ntlm program /usr/bin/python3 {HERE / 'ntlm_helper.py'} {users}", "auth_param ntlm children 1",
                "auth_param ntlm keep_alive on"]

    def negotiate(self, user, password):
        return [f"auth_param negotiate program /usr/lib/squid/negotiate_kerberos_auth "
                f"-k {self.kdc.keytab} -s HTTP/{self.kdc.proxy}@TEST.REALM",
                "auth_param negotiate children 1", "auth_param negotiate keep_alive on"]

    def lines(self):
        return self.output().splitlines()

    def tries(self):
        return [line for line in self.lines() if "[-]" not in line]
