#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""./dev demo: the main job on real programs, all on loopback: a relay, an agent that reaches it only through a real HTTP
proxy, and curl, a UDP program and a web server at work through the tunnel. Says what it did and what each hop saw; exits
0, or 1 with the reason."""
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "e2e"))
from testenv.culvert import Agent, Relay  # noqa: E402
from testenv.net import UdpEcho, ask_udp, udp  # noqa: E402
from testenv.programs import Tinyproxy, WebServer  # noqa: E402

FILE_SIZE = 64 << 20


def say(text=""):
    print(text, flush=True)


def step(number, text):
    say(f"\n{number}. {text}")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def curl(*words):
    done = subprocess.run(["curl", "-fsS", "--noproxy", "*", *map(str, words)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=120)
    if done.returncode:
        raise Failure(f"curl {' '.join(map(str, words))}: {done.stderr.decode().strip()}")
    return done.stdout


class Failure(Exception):
    pass


class Demo:
    def __init__(self, program, folder):
        self.program, self.folder = Path(program).resolve(), Path(folder)
        self.started = []

    def add(self, thing):
        self.started.append(thing)
        return thing

    def end(self):
        for thing in reversed(self.started):
            thing.stop()

    def run(self):
        self.servers()
        self.relay_up()
        self.proxy_up()
        self.agent_up()
        self.local_tcp()
        self.local_udp()
        self.reverse()
        self.what_was_seen()

    def servers(self):
        step(1, "Two web servers and a UDP echo, to have something to reach")
        self.inside = self.add(WebServer(self.folder / "relay-side")).start()
        with open(self.inside.root / "file", "wb") as file:
            for _ in range(FILE_SIZE >> 20):
                file.write(secrets.token_bytes(1 << 20))
        self.expected = sha256(self.inside.root / "file")
        self.behind = self.add(WebServer(self.folder / "agent-side")).start()
        (self.behind.root / "page").write_text("a page from behind the proxy\n")
        self.echo = self.add(UdpEcho())
        say(f"   near the relay   http://127.0.0.1:{self.inside.port}/file, 64 MiB of random bytes, and a UDP echo on "
            f"port {self.echo.port}")
        say(f"   near the agent   http://127.0.0.1:{self.behind.port}/page")

    def relay_up(self):
        step(2, "The relay, with a fresh certificate")
        self.relay = self.add(Relay(self.program, self.folder / "relay"))
        self.relay.start()
        say(f"   culvert cert selfsigned --host localhost; culvert relay --listen 127.0.0.1:{self.relay.port}")

    def proxy_up(self):
        step(3, "The way out: tinyproxy, which tunnels to the relay's port and to nothing else")
        self.proxy = self.add(Tinyproxy(self.folder / "tinyproxy")).start(connect_ports=[self.relay.port])
        done = subprocess.run(["curl", "-sS", "-p", "-x", self.proxy.url, f"http://127.0.0.1:{self.inside.port}/file"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=30)
        if not done.returncode:
            raise Failure("tinyproxy let a tunnel to another port through, which it should not")
        say(f"   tinyproxy on 127.0.0.1:{self.proxy.port}; straight to the file: {done.stderr.decode().strip()}")

    def agent_up(self):
        step(4, "An agent joins through the proxy, with an invitation that allows three things and no more")
        self.agent = self.add(Agent(self.program, self.folder / "agent"))
        allow = [f"127.0.0.1:{self.inside.port}", f"127.0.0.1:{self.echo.port}/udp"]
        self.agent.join(self.relay, "site7", allow, ["--allow-listen", "127.0.0.1:0"], ["--proxy", self.proxy.url])
        say(f"   relay$ culvert invite --name site7 --allow {allow[0]} --allow {allow[1]} --allow-listen 127.0.0.1:0")
        say("   site7$ culvert join -")
        forwards = ["-L", f"0:{allow[0]}", "-L", f"0:{allow[1]}", "-R", f"0:127.0.0.1:{self.behind.port}"]
        self.agent.start(["--proxy", self.proxy.url, *forwards])
        say(f"   site7$ culvert agent --proxy {self.proxy.url} {' '.join(forwards)}")

    def local_tcp(self):
        step(5, "curl takes the 64 MiB file through the tunnel")
        port = self.agent.port(0, "local")
        start = time.monotonic()
        curl("-o", self.folder / "got", f"http://127.0.0.1:{port}/file")
        seconds = time.monotonic() - start
        got = sha256(self.folder / "got")
        if got != self.expected:
            raise Failure(f"the file came out different: SHA-256 {got} instead of {self.expected}")
        say(f"   127.0.0.1:{port} → agent → tinyproxy → relay → web server; {FILE_SIZE / seconds / 1e6:.0f} MB/s")
        say(f"   SHA-256 {got}: the same at both ends")

    def local_udp(self):
        step(6, "Datagrams to the UDP echo and back")
        port = self.agent.port(1, "local")
        with udp(port) as s:
            for size in (64, 1200, 65_507):
                ask_udp(s, secrets.token_bytes(size))
        say(f"   127.0.0.1:{port}/udp: 64, 1,200 and 65,507 bytes, each echoed unchanged")

    def reverse(self):
        step(7, "The other way round: a client near the relay reads the page behind the agent")
        at = self.agent.at(0, "reverse")
        page = curl(f"http://{at}/page").decode().strip()
        if page != "a page from behind the proxy":
            raise Failure(f"the page came out as {page!r}")
        say(f"   the relay chose {at} for it; curl there got: {page}")

    def what_was_seen(self):
        step(8, "What each hop saw")
        requests = re.findall(r"Request \([^)]*\): (.*)", self.proxy.output())
        ours = [line for line in requests if f":{self.relay.port} " in line]
        if not ours or any(not re.fullmatch(rf"CONNECT localhost:{self.relay.port} HTTP/1\.[01]", line) for line in ours):
            raise Failure(f"tinyproxy's log has other requests than expected: {requests}")
        say(f"   tinyproxy        {len(ours)} × {ours[0]!r}, and inside it TLS: no file, no page, no names")
        agents = self.relay.table("agents")
        if "site7" not in str(agents):
            raise Failure(f"the relay's table of agents lacks site7: {agents}")
        say(f"   relay            {self.short(agents[0], 'agent state peer trust tls streams bytes_in bytes_out')}")
        carrier = self.agent.status()["carrier"]
        say(f"   agent            {self.short(carrier, 'state path peer trust tls issuer certificate')}")
        text = self.inside.output()
        lines = [line for line in text.splitlines() if "GET /file" in line]
        say(f"   web server       {lines[-1] if lines else 'nothing'}")
        if not lines:
            raise Failure("the web server near the relay logged no request")
        if secret := re.search(r"token=([\w-]+)", self.relay.log.read_text() + self.agent.log.read_text()):
            raise Failure(f"a log holds a token: {secret.group(0)[:9]}…")

    @staticmethod
    def short(row, keys):
        return ", ".join(f"{key} {row[key]}" for key in keys.split() if key in row)


def main():
    if len(sys.argv) != 2:
        print("usage: demo.py CULVERT", file=sys.stderr)
        return 2
    for name in list(os.environ):
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            del os.environ[name]
    started = time.monotonic()
    folder = tempfile.mkdtemp(prefix="culvert-demo-")
    demo = Demo(sys.argv[1], folder)
    try:
        demo.run()
    except Exception as e:  # whatever it is, the person at the keyboard gets a reason
        say(f"\nThe demo failed: {e}")
        for log in sorted(Path(folder).rglob("*.log")):
            tail = log.read_text(errors="replace").splitlines()[-15:]
            say(f"\n--- the end of {log.relative_to(folder)}")
            say("\n".join(tail))
        return 1
    finally:
        demo.end()
        shutil.rmtree(folder, ignore_errors=True)
    say(f"\nAll of it worked, in {time.monotonic() - started:.0f} s. Everything ran on loopback and is gone again.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
