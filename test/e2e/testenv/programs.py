# SPDX-License-Identifier: Apache-2.0
"""Real third-party programs, each with a folder, a free port and a log of its own."""
import getpass
import os
import re
import subprocess
from pathlib import Path

from .proc import Proc, free_port


def find(name):
    for folder in (*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/usr/local/sbin"):
        if os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    raise FileNotFoundError(f"{name} is not installed; ./dev test installs it")


def quietly(*command, **more):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          **more).stdout


def tunnels(proxy, port):
    """How many CONNECTs for the relay's port the proxy's own log has."""
    return len(re.findall(rf"CONNECT (?:localhost|127\.0\.0\.1):{port}\b", proxy.output()))


def certificate(folder, name="cert", hosts=("localhost", "127.0.0.1")):
    """A self-signed certificate of openssl's own making; a file with certificate and key."""
    folder = Path(folder)
    cert, key, both = (folder / f"{name}.{end}" for end in ("crt", "key", "pem"))
    names = ",".join(f"{'IP' if host.replace('.', '').isdigit() else 'DNS'}:{host}" for host in hosts)
    quietly("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN=front of {name}", "-addext", f"subjectAltName={names}", "-keyout", key, "-out", cert)
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    return both


class Program:
    """`host` is the address it listens at; `within` are the words before its own, for one that runs in a site of a maze."""

    def __init__(self, folder, port=None, host="127.0.0.1", within=()):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.host, self.within = host, within
        self.log = self.folder / f"{type(self).__name__.lower()}.log"
        self.proc = None

    def write(self, name, *lines):
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n")
        return path

    def launch(self, *command, wait=True, env=None):
        self.proc = Proc([*self.within, *command], self.log, env=env)
        if wait:
            self.proc.wait_port(self.port, self.host)
        return self

    def stop(self):
        if self.proc:
            self.proc.stop()

    def output(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Tinyproxy(Program):
    """CONNECT only to the ports given (all by default); login is (user, password)."""

    def start(self, connect_ports=(), login=None):
        config = self.write("tinyproxy.conf", f"Port {self.port}", f"Listen {self.host}", "Timeout 600", "LogLevel Connect",
                            "MaxClients 200", *[f"ConnectPort {port}" for port in connect_ports],
                            *([f"BasicAuth {login[0]} {login[1]}"] if login else []))
        return self.launch(find("tinyproxy"), "-d", "-c", config)

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"


class Squid(Program):
    def open_folder(self):
        if os.getuid() == 0:  # squid becomes the user proxy
            self.folder.chmod(0o777)
            for parent in self.folder.parents:
                if parent.stat().st_mode & 0o5 != 0o5 and parent != Path("/"):
                    parent.chmod(parent.stat().st_mode | 0o5)

    def start(self, login=None, allow="all", lines=()):
        self.open_folder()
        self.access = self.folder / "access.log"
        access = ["acl named proxy_auth REQUIRED", "http_access allow named"] if login else [f"http_access allow {allow}"]
        if login:
            hashed = quietly("openssl", "passwd", "-apr1", login[1]).decode().strip()
            passwords = self.write("passwords", f"{login[0]}:{hashed}")
            access.insert(0, f"auth_param basic program /usr/lib/squid/basic_ncsa_auth {passwords}")
        config = self.write("squid.conf", f"http_port {self.host}:{self.port}", *access, "http_access deny all", *lines,
                            "cache deny all", "cache_mem 1 MB", f"pid_filename {self.folder}/squid.pid",
                            f"access_log stdio:{self.access}", f"cache_log {self.folder}/cache.log", "shutdown_lifetime 0",
                            f"coredump_dir {self.folder}", "visible_hostname squid.test", "netdb_filename none",
                            "max_filedescriptors 1024", "logfile_rotate 0", "pinger_enable off")
        return self.launch(find("squid"), "-N", "-f", config)

    def stop(self):
        """It takes two seconds to end by itself, whatever shutdown_lifetime says."""
        if self.proc:
            self.proc.kill()

    def output(self):
        return self.access.read_text(errors="replace") if self.access.exists() else ""

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"


class Haproxy(Program):
    """A front that terminates TLS with its own certificate and speaks TLS again to the relay behind."""

    def start(self, behind_port):
        self.pem = self.folder / "front.pem"
        if not self.pem.exists():
            certificate(self.folder, "front")
        self.ca = self.folder / "front.crt"
        config = self.write("haproxy.cfg", "defaults", "    mode http", "    timeout connect 10s", "    timeout client 10m",
                            "    timeout server 10m", "    timeout tunnel 1h", "listen front",
                            f"    bind {self.host}:{self.port} ssl crt {self.pem} alpn http/1.1",
                            f"    server relay 127.0.0.1:{behind_port} ssl verify none alpn http/1.1")
        return self.launch(find("haproxy"), "-db", "-f", config)


class Sshd(Program):
    """Lets the user who runs the tests in, by a key of its own."""

    def start(self):
        self.user = getpass.getuser()
        for name in ("host", "user"):
            if not (self.folder / name).exists():
                quietly("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name)
        self.key = self.folder / "user"
        (self.folder / "authorized").write_bytes((self.folder / "user.pub").read_bytes())
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        config = self.write("sshd_config", f"Port {self.port}", f"ListenAddress {self.host}", f"HostKey {self.folder}/host",
                            f"AuthorizedKeysFile {self.folder}/authorized", "StrictModes no", "UsePAM no", "PidFile none",
                            "PasswordAuthentication no", "PermitRootLogin prohibit-password",
                            "Subsystem sftp internal-sftp")
        return self.launch(find("sshd"), "-D", "-e", "-f", config)

    def client(self, *options):
        return ["ssh", "-F", "none", "-i", str(self.key), "-o", "StrictHostKeyChecking=no", "-o",
                "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", *options]


class Iperf3(Program):
    def start(self):
        return self.launch(find("iperf3"), "-s", "-p", self.port, "-B", "127.0.0.1", "--forceflush")


class WebServer(Program):
    """Python's own HTTP server over a folder of files."""

    def start(self):
        self.root = self.folder / "files"
        self.root.mkdir(exist_ok=True)
        return self.launch("/usr/bin/python3", "-u", "-m", "http.server", "--bind", self.host, "--directory", self.root,
                           self.port)


