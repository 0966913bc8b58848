# SPDX-License-Identifier: Apache-2.0
"""The ready configurations of packaging/fronts, run by their programs with a test's ports and files in place of the written ones."""
import shutil
import tempfile
from pathlib import Path

from .proc import free_port
from .programs import Program, certificate, find

READY = Path(__file__).resolve().parents[3] / "packaging/fronts"


class Front(Program):
    """Listens on [::1] alone, so that who comes through it is told from who comes straight to the relay's 127.0.0.1."""

    listen = ()  # (written, meant)

    def start(self, relay_port, web_port):
        self.port = free_port("::1")
        pem = certificate(self.folder, "web")
        self.www = self.website()
        (self.www / "index.html").write_text("A website.\n")
        self.ca = self.folder / "web.crt"
        swaps = [("127.0.0.1:8080", f"127.0.0.1:{relay_port}"), ("127.0.0.1,8080", f"127.0.0.1,{relay_port}"),
                 ("127.0.0.1:8443", f"127.0.0.1:{relay_port}"), ("127.0.0.1:8000", f"127.0.0.1:{web_port}"),
                 ("127.0.0.1,8000", f"127.0.0.1,{web_port}"), ("/etc/culvert/web.pem", str(pem)), ("/etc/culvert", str(self.folder)),
                 ("/var/www/html", str(self.www))]
        text = "\n".join(line for line in (READY / f"{self.name}.conf").read_text().splitlines() if not line.startswith("#"))
        assert self.listen[0] in text
        text = text.replace(self.listen[0], self.listen[1].format(port=self.port))
        for written, meant in swaps:
            text = text.replace(written, meant)
        self.proc = self.launch_with(text)
        self.proc.wait_port(self.port, "::1")
        return self

    def website(self):
        folder = self.folder / "www"
        folder.mkdir()
        return folder

    def launch_with(self, text):
        raise NotImplementedError

    def run(self, *command):
        return self.launch(*command, wait=False).proc


class NginxFront(Front):
    name, listen = "nginx", ("listen 443 ssl;", "listen [::1]:{port} ssl;")

    def launch_with(self, text):
        temp = [f"{what}_temp_path {self.folder}/{what};" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
        config = self.write("nginx.conf", "daemon off;", "master_process off;", f"pid {self.folder}/pid;",
                            "events { worker_connections 500; }", "http {", *temp, f"access_log {self.folder}/access;", text, "}")
        return self.run(find("nginx"), "-e", self.folder / "error.log", "-c", config)


class HaproxyFront(Front):
    name, listen = "haproxy", ("bind :443 ", "bind [::1]:{port} ")

    def launch_with(self, text):
        return self.run(find("haproxy"), "-db", "-f", self.write("haproxy.cfg", text))


class HaproxyTcpFront(HaproxyFront):
    name, listen = "haproxy-tcp", ("bind :443", "bind [::1]:{port}")


class ApacheFront(Front):
    name, listen = "apache", ("<VirtualHost *:443>", "<VirtualHost [::1]:{port}>")

    def website(self):
        """Its workers are nobody, and a test's folder is its owner's alone."""
        folder = Path(tempfile.mkdtemp(prefix="culvert-www-"))
        folder.chmod(0o755)
        return folder

    def stop(self):
        super().stop()
        shutil.rmtree(self.www, ignore_errors=True)

    def launch_with(self, text):
        modules = "/usr/lib/apache2/modules"
        load = [f"LoadModule {name}_module {modules}/mod_{name}.so" for name in
                ("mpm_event", "ssl", "headers", "proxy", "proxy_http", "authz_core", "dir", "reqtimeout")]
        config = self.write("apache2.conf", *load, f"PidFile {self.folder}/pid", f"ServerRoot {self.folder}", "ServerName localhost",
                            f"ErrorLog {self.folder}/error.log", "LogLevel info", f"DefaultRuntimeDir {self.folder}",
                            f"Mutex file:{self.folder}", f"Listen [::1]:{self.port}", "User nobody", "Group nogroup",
                            "RequestReadTimeout header=20-40,minrate=500 body=20,minrate=500",
                            "<Directory />", "AllowOverride None", "</Directory>",
                            f"<Directory {self.www}>", "Require all granted", "</Directory>", "DirectoryIndex index.html", text)
        return self.run(find("apache2"), "-DFOREGROUND", "-f", config)


class NghttpxFront(Front):
    name, listen = "nghttpx", ("frontend=*,443", "frontend=::1,{port}")

    def launch_with(self, text):
        config = self.write("nghttpx.conf", text, "workers=1", f"errorlog-file={self.folder}/error.log", "accesslog-file=/dev/null",
                            "single-process=yes", f"pid-file={self.folder}/pid")
        return self.run(find("nghttpx"), f"--conf={config}")


class CaddyFront(Front):
    name, listen = "caddy", ("relay.example:443 {", "https://localhost:{port} {{\n\tbind ::1")

    def launch_with(self, text):
        config = self.write("Caddyfile", "{", "\tadmin off", "\tauto_https disable_redirects", "\tskip_install_trust", "}", text)
        return self.run("env", f"HOME={self.folder}", find("caddy"), "run", "--adapter", "caddyfile", "--config", config)


FRONTS = {front.name: front for front in (NginxFront, HaproxyFront, ApacheFront, NghttpxFront, CaddyFront)}
