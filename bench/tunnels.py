# SPDX-License-Identifier: Apache-2.0
"""The tunnels that the bench compares. Each has an entry port on loopback, comes out at the bench's server, and tells the
pids of its two ends. `hop` stands between the ends: with a delay, it is the delaying relay."""
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test/e2e"))
from testenv.culvert import Agent, Relay  # noqa: E402
from testenv.proc import Proc, free_port  # noqa: E402

CIPHERS = "TLS_AES_256_GCM_SHA384"


class Tunnel:
    name = "?"
    udp = False

    def __init__(self, folder, tools, target):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tools, self.target = tools, target
        self.procs, self.helpers = [], []
        self.port = self.udp_port = None

    def start(self, delay_ms=0):
        self.start_far()
        self.start_near(self.hop(self.far_port, delay_ms))
        return self

    def hop(self, port, delay_ms):
        if not delay_ms:
            return port
        through = free_port()
        delay = Proc([self.tools / "bench-road", port, delay_ms // 2, through], self.folder / "delay.log")
        delay.wait_for("its port", lambda: delay.output().strip())
        self.helpers.append(delay)
        return through

    def spawn(self, name, command, port):
        proc = Proc(command, self.folder / f"{name}.log")
        self.procs.append(proc)
        if port:
            proc.wait_port(port)
        return proc

    @property
    def pids(self):
        return [proc.pid for proc in self.procs]

    def alive(self):
        return all(proc.alive() for proc in self.procs)

    def stop_near(self):
        self.procs.pop().stop()

    def stop(self):
        for proc in reversed(self.procs + self.helpers):
            proc.stop()
        self.procs, self.helpers = [], []

    def binaries(self):
        return []


class Raw(Tunnel):
    name = "raw"
    udp = True

    def start_far(self):
        self.far_port = self.target

    def start_near(self, far_port):
        self.port, self.udp_port = far_port, self.target


class Copy(Tunnel):
    """One process that copies and encrypts nothing."""
    name = "copy"

    def copy(self, name, target):
        port = free_port()
        copy = self.spawn(name, [self.tools / "bench-road", target, 0, port], None)
        copy.wait_for("its port", lambda: copy.output().strip())
        return port

    def start_far(self):
        self.far_port = self.target

    def start_near(self, far_port):
        self.port = self.copy("near", far_port)


class Copies(Copy):
    """Two of them, one behind the other: as many hand-overs as a tunnel has."""
    name = "copies"

    def start_far(self):
        self.far_port = self.copy("far", self.target)


def certificate(folder):
    """A self-signed certificate for the pairs that need one; (certificate, key, both in one file)."""
    cert, key, both = folder / "cert.pem", folder / "key.pem", folder / "both.pem"
    if not both.exists():
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                        "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout",
                        key, "-out", cert], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        both.write_bytes(cert.read_bytes() + key.read_bytes())
    return cert, key, both


class HaproxyPair(Tunnel):
    name = "haproxy"
    common = """global
    maxconn 5000
defaults
    mode tcp
    option tcplog
    timeout connect 10s
    timeout client 10m
    timeout server 10m
listen tunnel
"""

    def haproxy(self, name, lines, port):
        config = self.folder / f"{name}.cfg"
        config.write_text(self.common + "".join(f"    {line}\n" for line in lines))
        self.spawn(name, ["haproxy", "-db", "-f", config], port)

    def start_far(self):
        self.far_port = free_port()
        both = certificate(self.folder)[2]
        self.haproxy("far", [f"bind 127.0.0.1:{self.far_port} ssl crt {both} ssl-min-ver TLSv1.3",
                             f"server target 127.0.0.1:{self.target}"], self.far_port)

    def start_near(self, far_port):
        self.port = free_port()
        ca = certificate(self.folder)[0]
        self.haproxy("near", [f"bind 127.0.0.1:{self.port}",
                              f"server far 127.0.0.1:{far_port} ssl verify required ca-file {ca} verifyhost localhost"],
                     self.port)

    def binaries(self):
        return ["/usr/sbin/haproxy"]


class StunnelPair(Tunnel):
    name = "stunnel"

    def stunnel(self, name, lines, port):
        config = self.folder / f"{name}.conf"
        head = ["foreground = yes", "debug = 3", "socket = l:TCP_NODELAY=1", "socket = r:TCP_NODELAY=1", "[tunnel]"]
        config.write_text("\n".join(head + lines) + "\n")
        self.spawn(name, ["stunnel4", config], port)

    def start_far(self):
        self.far_port = free_port()
        both = certificate(self.folder)[2]
        self.stunnel("far", [f"accept = 127.0.0.1:{self.far_port}", f"connect = 127.0.0.1:{self.target}",
                             f"cert = {both}", "sslVersionMin = TLSv1.3"], self.far_port)

    def start_near(self, far_port):
        self.port = free_port()
        ca = certificate(self.folder)[0]
        self.stunnel("near", ["client = yes", f"accept = 127.0.0.1:{self.port}", f"connect = 127.0.0.1:{far_port}",
                              f"CAfile = {ca}", "verifyPeer = yes"], self.port)

    def binaries(self):
        return ["/usr/bin/stunnel4"]


class Culvert(Tunnel):
    name = "culvert"
    udp = True
    program = None  # set by the bench

    def start_far(self):
        self.relay = Relay(self.program, self.folder / "relay")
        self.relay.start(global_flags=())
        self.far_port = self.relay.port
        self.procs.append(self.relay.proc)
        self.agent = None

    def start_near(self, far_port):
        if not self.agent:
            self.agent = Agent(self.program, self.folder / "agent")
            self.agent.join(self.relay, allow=[f"127.0.0.1:{self.target}", f"127.0.0.1:{self.target}/udp"])
        self.agent.start(global_flags=(), flags=["-L", f"0:127.0.0.1:{self.target}", "-L", f"0:127.0.0.1:{self.target}/udp",
                          *self.agent.relay_flags(far_port)])
        self.port, self.udp_port = self.agent.port(0), self.agent.port(1)
        self.procs.append(self.agent.proc)

    def binaries(self):
        return [self.program]


class Peer(Tunnel):
    path = None

    def binaries(self):
        return [self.path]


class Chisel(Peer):
    name = "chisel"
    udp = True

    def start_far(self):
        self.far_port = free_port()
        cert, key, _ = certificate(self.folder)
        self.spawn("far", [self.path, "server", "--host", "127.0.0.1", "--port", self.far_port, "--tls-cert", cert,
                           "--tls-key", key], self.far_port)

    def start_near(self, far_port):
        self.port, self.udp_port = free_port(), free_port()
        cert = certificate(self.folder)[0]
        self.spawn("near", [self.path, "client", "--tls-ca", cert, f"https://localhost:{far_port}",
                            f"127.0.0.1:{self.port}:127.0.0.1:{self.target}",
                            f"127.0.0.1:{self.udp_port}:127.0.0.1:{self.target}/udp"], self.port)


class Erebe(Peer):
    name = "erebe"
    udp = True

    def start_far(self):
        self.far_port = free_port()
        cert, key, _ = certificate(self.folder)
        self.spawn("far", [self.path, "server", "--tls-certificate", cert, "--tls-private-key", key,
                           f"wss://127.0.0.1:{self.far_port}"], self.far_port)

    def start_near(self, far_port):
        self.port, self.udp_port = free_port(), free_port()
        self.spawn("near", [self.path, "client", "-L", f"tcp://127.0.0.1:{self.port}:127.0.0.1:{self.target}",
                            "-L", f"udp://127.0.0.1:{self.udp_port}:127.0.0.1:{self.target}?timeout_sec=0",
                            f"wss://127.0.0.1:{far_port}"], self.port)


PEERS = {"chisel": Chisel, "erebe": Erebe}
