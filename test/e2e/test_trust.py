# SPDX-License-Identifier: Apache-2.0
"""Outer TLS verified, inner TLS pinned, peeled only where nobody stands in between."""
import re
import shutil
import ssl
import subprocess

import pytest

from testenv.culvert import Agent, Relay, must
from testenv.net import ask, connect, pattern_bytes
from testenv.proc import free_port
from testenv.programs import Haproxy, certificate


def is_peeled(agent):
    trust = agent.status()["carrier"]["trust"]
    assert trust in ("peeled", "inner TLS") or trust.startswith("intercepted"), trust
    return trust == "peeled"


class Cut:
    """A TCP relay on loopback that notes every byte that passes, each way."""

    def __init__(self, world, port):
        self.up, self.down = bytearray(), bytearray()
        import threading

        def serve(server, s):
            with connect(port) as behind:
                def copy(source, sink, note):
                    try:
                        while data := source.recv(65536):
                            note.extend(data)
                            sink.sendall(data)
                        sink.shutdown(1)
                    except OSError:
                        pass
                back = threading.Thread(target=copy, args=(behind, s, self.down), daemon=True)
                back.start()
                copy(s, behind, self.up)
                back.join(60)
        self.server = world.server(serve)
        self.port = self.server.port


def test_peeled_when_nobody_is_in_between(world):
    relay = world.relay()
    server = world.server()
    agent = world.agent(relay, "-L", f"0:{server.at}")
    assert is_peeled(agent) is True
    assert ask(agent.at(), pattern_bytes(100_000)) == pattern_bytes(100_000)


@pytest.mark.parametrize("side", ["agent", "relay"])
def test_never_peeled_when_either_end_says_so(world, side):
    relay = world.relay(flags=["--peel", "never"] if side == "relay" else [])
    server = world.server()
    agent = world.agent(relay, "-L", f"0:{server.at}", *(["--peel", "never"] if side == "agent" else []))
    assert is_peeled(agent) is False
    assert ask(agent.at(), pattern_bytes(100_000)) == pattern_bytes(100_000)


def test_not_peeled_behind_a_front_that_ends_tls(world):
    relay = world.relay()
    front = world.program_of(Haproxy, relay.port)
    server = world.server()
    agent = world.joined(relay)
    agent.trust = lambda: ["--ca", str(front.ca)]
    agent.start(["-L", f"0:{server.at}", "--relay", f"wss://localhost:{front.port}"])
    assert is_peeled(agent) is False
    data = pattern_bytes(300_000)
    assert ask(agent.at(), data) == data
    assert "front of front" in str(agent.status()["carrier"]), "the issuer of the front's certificate is shown"


def test_joining_by_the_url_of_a_front(world):
    """The invitation names another one, where nobody listens; from then on the front's is the relay's."""
    relay = world.relay()
    front = world.program_of(Haproxy, relay.port)
    agent = world.add(Agent(world.program, world.place("agent")))
    pairing = relay.invite("agent", allow=["127.0.0.1:*"]).replace(f"localhost:{relay.port}", f"localhost:{free_port()}")
    by_front = ["--relay", f"wss://localhost:{front.port}"]
    said = agent.run("join", "-", "--ca", front.ca, *by_front, *by_front, stdin=pairing).stderr
    assert "join takes one --relay" in said
    must(agent.run("join", "-", "--ca", front.ca, *by_front, stdin=pairing))
    agent.start(["--ca", front.ca, "-L", f"0:{world.server().at}"])
    assert ask(agent.at(), b"by the front") == b"by the front"


def test_a_tunnel_of_bytes_in_between_does_not_hinder_peeling(world):
    relay = world.relay()
    server = world.server()
    cut = Cut(world, relay.port)
    agent = world.agent(relay, "-L", f"0:{server.at}", "--relay", f"wss://localhost:{cut.port}")
    assert is_peeled(agent) is True
    ask(agent.at(), b"not in the clear" * 100)
    assert b"not in the clear" not in cut.up + cut.down


def test_outer_tls_1_2_never_peels(world):
    relay = world.relay()
    server = world.server()
    agent = world.joined(relay)
    cut = world.program_of(Haproxy, relay.port)
    pem = cut.pem
    cut.stop()
    lines = (cut.folder / "haproxy.cfg").read_text().replace(f"crt {pem}", f"crt {pem} ssl-max-ver TLSv1.2")
    (cut.folder / "haproxy.cfg").write_text(lines)
    cut.launch("/usr/sbin/haproxy", "-db", "-f", cut.folder / "haproxy.cfg")
    agent.trust = lambda: ["--ca", str(cut.ca)]
    agent.start(["-L", f"0:{server.at}", "--relay", f"wss://localhost:{cut.port}"])
    assert is_peeled(agent) is False
    assert "TLSv1.2" in str(agent.status()["carrier"])
    assert ask(agent.at(), b"inner only") == b"inner only"


def test_an_unknown_certificate_is_refused_by_default(world):
    relay = world.relay()
    pairing = relay.invite("strict")
    agent = world.add(Agent(world.program, world.place("strict")))
    pairing = pairing.replace("&outer=report", "")
    done = agent.run("join", "-", stdin=pairing + "\n")
    assert done.returncode == 4
    assert "certificate" in done.stderr and str(relay.port) in done.stderr


def test_reporting_instead_of_refusing_is_a_choice(world):
    relay = world.relay()
    agent = world.add(Agent(world.program, world.place("relaxed")))
    pairing = relay.invite("relaxed", allow=["127.0.0.1:*"])
    assert agent.run("join", "-", "--outer", "report", stdin=pairing + "\n").returncode == 0
    server = world.server()
    agent.start(["-L", f"0:{server.at}", "--outer", "report"])
    assert ask(agent.at(), b"pinned inside") == b"pinned inside"
    done = agent.run("agent", "--outer", "verify", "-W", server.at, stdin="x")
    assert done.returncode == 4


def test_a_certificate_for_another_name_is_refused(world):
    relay = world.add(Relay(world.program, world.place("relay"), hosts=("other.test",))).start()
    agent = world.add(Agent(world.program, world.place("named")))
    pairing = relay.invite("named").replace("&outer=report", "")
    done = agent.run("join", "-", "--ca", relay.ca, stdin=pairing + "\n")
    assert done.returncode == 4 and "localhost" in done.stderr


def test_another_identity_never_sees_the_token(world):
    """A relay with a certificate that verifies, but another identity key, behind the invitation's address."""
    honest, thief = world.relay("honest"), world.relay("thief")
    pairing = honest.invite("victim")
    token = re.search(r"token=([\w-]+)", pairing).group(1)
    thief.stop()
    for name in ("web.crt", "web.key"):
        shutil.copy(honest.state / name, thief.state / name)
    honest.stop()
    thief.port = honest.port
    thief.start(global_flags=["-vvv"])
    agent = world.add(Agent(world.program, world.place("victim")))
    done = agent.run("join", "-", "--ca", honest.ca, stdin=pairing + "\n")
    assert done.returncode == 4
    assert "identity" in done.stderr or "pin" in done.stderr
    assert token not in done.stderr + thief.log.read_text()
    assert "victim" not in str(thief.table("agents"))
    thief.stop()
    honest.start()
    agent.relay = honest
    assert agent.run("join", "-", "--ca", honest.ca, stdin=pairing + "\n").returncode == 0, "the token was never spent"


def test_relay_answers_as_an_ordinary_web_server(world):
    relay = world.relay()
    for path in ("/", "/index.html", "/culvert", "/.well-known/x"):
        done = subprocess.run(["curl", "-sS", "--cacert", relay.ca, "-o", "/dev/null", "-w", "%{http_code}",
                               f"https://localhost:{relay.port}{path}"], stdout=subprocess.PIPE, timeout=30)
        assert done.stdout == b"404"


def test_relay_speaks_modern_tls_only(world):
    relay = world.relay()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(relay.ca)
    with context.wrap_socket(connect(relay.port), server_hostname="localhost") as s:
        assert s.version() == "TLSv1.3"
    old = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{relay.port}", "-tls1_1", "-cipher",
                          "ALL:@SECLEVEL=0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
    assert old.returncode != 0


def test_cert_show(world):
    relay = world.relay()
    done = relay.run("cert", "show")
    assert done.returncode == 0 and "localhost" in done.stdout and "127.0.0.1" in done.stdout
    import json
    shown = json.loads(relay.run("cert", "show", "--json").stdout)
    assert "localhost" in str(shown)
    foreign = certificate(world.folder, "foreign", ["foreign.test"])
    assert "foreign.test" in relay.run("cert", "show", foreign).stdout
