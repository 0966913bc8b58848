# SPDX-License-Identifier: Apache-2.0
"""Web servers that end TLS in front of a relay, with a certificate of their own."""
from .programs import Program, certificate, find


class Nginx(Program):
    """A server that holds these lines; plain without `hosts`, which its certificate names."""

    def start(self, *lines, hosts=(), top=()):
        bind = f"    listen {self.host}:{self.port};"
        if hosts:
            pem = certificate(self.folder, "front", hosts)
            self.ca = self.folder / "front.crt"
            bind = f"    listen {self.host}:{self.port} ssl; ssl_certificate {pem}; ssl_certificate_key {pem};"
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        config = self.write("nginx.conf", "daemon off;", "master_process off;", f"pid {self.folder}/pid;", "error_log stderr;",
                            "events {}", "http {", f"  access_log {self.folder}/access.log;", *[
                                f"  {kind}_temp_path {self.folder}/{kind};" for kind in kinds], *top,
                            "  server {", bind, *lines, "  }", "}")
        return self.launch(find("nginx"), "-p", self.folder, "-c", config, "-e", "stderr")


class Nghttpx(Program):
    """HTTP/2 and nothing else, over TLS: a proxy in front of another one, or a front before a relay that speaks TLS."""

    def start(self, behind, hosts, proxy=False):
        pem = certificate(self.folder, "front", hosts)
        self.ca = self.folder / "front.crt"
        host, port = behind
        return self.launch(find("nghttpx"), f"--frontend={self.host},{self.port}", f"--backend={host},{port}" + ("" if proxy else ";;tls"),
                           "--npn-list=h2", "--insecure", "--no-ocsp", "--workers=1", *(["--http2-proxy"] if proxy else []),
                           self.folder / "front.key", pem)
