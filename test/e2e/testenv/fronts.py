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
