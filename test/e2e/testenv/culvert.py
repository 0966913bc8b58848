# SPDX-License-Identifier: Apache-2.0
"""culvert's own two ends, driven by their command line alone."""
import json
import os
import select
import subprocess
import time
from pathlib import Path

from .proc import PATIENCE, NotReady, Proc, free_port

SECRETS = ("token=",)


def culvert(program, state, *words, stdin=None, env=None, patience=60):
    """Runs one command to its end; the result has returncode, stdout and stderr as text."""
    command = [str(program), "--state", str(state), *map(str, words)]
    return subprocess.run(command, input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=patience,
                          env=None if env is None else {**os.environ, **env})


def must(done):
    if done.returncode:
        raise NotReady(f"{' '.join(done.args)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Relay:
    """A relay with a state folder of its own and a self-signed certificate for localhost and 127.0.0.1."""

    def __init__(self, program, folder, port=None, hosts=("localhost", "127.0.0.1")):
        self.program, self.folder = Path(program), Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state = self.folder / "state"
        self.log = self.folder / "relay.log"
        self.port = port or free_port()
        self.hosts = hosts
        self.proc = None

    @property
    def url(self):
        return f"wss://localhost:{self.port}"

    @property
    def ca(self):
        return self.state / "web.crt"

    def run(self, *words, **more):
        return culvert(self.program, self.state, *words, **more)

    def certify(self):
        must(self.run("cert", "selfsigned", *[word for host in self.hosts for word in ("--host", host)]))

    def start(self, flags=(), env=None, preexec=None, global_flags=("-v",), listen=None, url=None):
        if not self.ca.exists():
            self.certify()
        listen = listen if listen is not None else ["--listen", f"127.0.0.1:{self.port}"]
        self.proc = Proc([self.program, "--state", self.state, *global_flags, "relay", *listen, "--url",
                          url or self.url, *flags], self.log, env=env, preexec=preexec)
        self.proc.wait_port(self.port)
        self.wait_control()
        return self

    def wait_control(self):
        self.proc.wait_for("its control socket", lambda: list(self.state.glob(f"control-relay-{self.proc.pid}.sock")))

    def stop(self):
        return self.proc.stop() if self.proc else None

    def invite(self, name, *flags, allow=()):
        words = [word for rule in allow for word in ("--allow", rule)]
        lines = must(self.run("invite", "--name", name, *words, *flags)).split()
        found = [word for word in lines if word.startswith("culvert://")]
        if len(found) != 1:
            raise NotReady(f"invite printed {lines}")
        return found[0]

    def status(self):
        return one_answer(must(self.run("status", "--json")))

    def table(self, name):
        return one_answer(must(self.run("table", name, "--json")))


def one_answer(text):
    """The answer of the one process of a state folder, whichever way --json wraps it."""
    value = json.loads(text)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and "answer" in value[0]:
        return value[0]["answer"]
    return value


class Agent:
    """An agent with a state folder of its own; start() may be called again after stop()."""

    def __init__(self, program, folder):
        self.program, self.folder = Path(program), Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state = self.folder / "state"
        self.log = self.folder / "agent.log"
        self.name = None
        self.relay = None
        self.proc = None
        self.ready = None

    def run(self, *words, **more):
        return culvert(self.program, self.state, *words, **more)

    def trust(self):
        """Connect flags that verify the relay's self-signed certificate."""
        return ["--ca", str(self.relay.ca)] if self.relay else []

    def relay_flags(self, port):
        """Connect flags that reach the relay by another port, for what stands in front of it."""
        return [] if port == self.relay.port else ["--relay", f"wss://localhost:{port}"]

    def join(self, relay, name=None, allow=(), invite_flags=(), flags=(), env=None):
        name = name or self.folder.name
        self.take(relay, relay.invite(name, *invite_flags, allow=allow), flags, env)
        self.name = name
        return self

    def take(self, relay, pairing, flags=(), env=None):
        """Joins by an invitation that is there; it may be one for many."""
        self.relay = relay
        must(self.run("join", "-", *self.trust(), *flags, stdin=pairing + "\n", env=env))
        return self

    def start(self, flags=(), env=None, preexec=None, wait=True, global_flags=("-v",), patience=PATIENCE):
        read_end, write_end = os.pipe()
        try:
            self.proc = Proc([self.program, "--state", self.state, *global_flags, "agent", *self.trust(), "--ready-fd",
                              write_end, *flags], self.log, env=env, preexec=preexec, pass_fds=(write_end,))
        finally:
            os.close(write_end)
        self.ready_fd = read_end
        if wait:
            self.wait_ready(patience)
        return self

    def wait_ready(self, patience=PATIENCE):
        line = b""
        end = time.monotonic() + patience
        while not line.endswith(b"\n"):
            if not select.select([self.ready_fd], [], [], max(0.0, end - time.monotonic()))[0]:
                self.proc.fail(f"said nothing on --ready-fd for {patience:g} s")
            more = os.read(self.ready_fd, 65536)
            if not more:
                self.proc.popen.wait(10)
                self.proc.fail(f"ended with {self.proc.popen.returncode} before it was ready")
            line += more
        os.close(self.ready_fd)
        self.ready = json.loads(line)
        return self.ready

    def stop(self):
        return self.proc.stop() if self.proc else None

    def forwards(self, kind=None):
        return [f for f in self.ready["forwards"] if kind in (None, f["kind"])]

    def at(self, index=0, kind=None):
        return self.forwards(kind)[index]["at"]

    def port(self, index=0, kind=None):
        return int(self.at(index, kind).rpartition(":")[2])

    def status(self):
        return one_answer(must(self.run("status", "--json")))

    def table(self, name):
        return one_answer(must(self.run("table", name, "--json")))
