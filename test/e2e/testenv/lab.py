# SPDX-License-Identifier: Apache-2.0
"""A maze with a relay on port 443 at its far end, an echo server behind that, and an agent that has joined; obstacles come and
go in between. Addresses and ports are the same in every run: the networks are the lab's own."""
import re
import shutil

from .culvert import Agent
from .maze import GATE, RELAY, RELAY_6, RELAY_NAME, NAMES, Maze
from .net import TcpServer, ask, echo

ECHO = 7
PREFIX = "/team/tunnel"  # the relay answers there, too


class Lab:
    def __init__(self, world, folder, relay_flags=()):
        self.world, self.folder, self.count = world, folder, 0
        self.maze = world.add(Maze(folder / "maze"))
        self.program = self.maze.client.wrapped(world.program)
        with self.maze.far:
            self.server = world.server(echo, f"127.0.0.1:{ECHO}")
            self.relay = world.relay(listen=["--listen", "*:443"], port=443, url=f"wss://{RELAY_NAME}",
                                     hosts=(RELAY_NAME, RELAY, RELAY_6, "localhost"),
                                     flags=["--path", "/", "--path", PREFIX, *relay_flags])
        self.maze.open("tcp dport 443")
        with self.maze.client:
            self.joined = Agent(self.program, folder / "joined").join(self.relay, "agent", ["127.0.0.1:*"])
        self.clear()

    def clear(self):
        """Ends the scenario before: what it started, and what it let pass."""
        for thing in reversed(getattr(self, "things", [])):
            thing.stop()
        self.things = []
        self.maze.close()
        self.names(*NAMES)
        self.count += 1
        self.place = self.folder / f"{self.count}"

    def add(self, thing):
        self.things.append(thing)
        return thing

    def start(self, kind, port, *words, host=GATE, site=None, files=None, admit=True, **more):
        """A program of testenv in the middle, which the client may reach at that port unless told otherwise."""
        site = site or self.maze.middle
        folder = self.place / f"{kind.__name__.lower()}-{port}"
        with site:
            program = self.add(kind(folder, port, host, site.within(files))).start(*words, **more)
        if admit and site is self.maze.middle:
            self.maze.admit(port)
        return program

    def serve(self, port, serve):
        """A small server of the test's own in the middle."""
        with self.maze.middle:
            self.add(TcpServer(serve, f"{GATE}:{port}"))
        self.maze.admit(port)

    def names(self, *lines):
        """All that the client can resolve from now on; nobody answers its DNS."""
        self.maze.client.write("hosts", "127.0.0.1 localhost", *lines)

    def agent(self, way):
        """The agent that joined, as it was then."""
        agent = Agent(self.program, self.place / "agent")
        shutil.copytree(self.joined.state, agent.state)
        agent.relay, agent.name = None if "--ca" in way.flags else self.relay, "agent"
        if way.prepare:
            way.prepare(agent)
        return self.add(agent)

    def up(self, way):
        with self.maze.client:
            return self.agent(way).start(["-L", f"0:127.0.0.1:{ECHO}", *way.flags], env=way.env)

    def talk(self, way, agent, data):
        with self.maze.client:
            return way.talk(agent, data) if way.talk else ask(agent.at(), data)

    def refusal(self, way):
        """One attempt; the exit status, and the reason in the one line that it said."""
        agent = self.agent(way)
        with self.maze.client:
            done = agent.run("agent", *agent.trust(), *way.flags, "-W", f"127.0.0.1:{ECHO}", env=way.env)
        found = re.fullmatch(r'.* reason="(.*)"\n', done.stderr)
        return done.returncode, found.group(1) if found else done.stderr

    def check(self, way):
        """The exit status of `culvert check` there."""
        agent = self.agent(way)
        with self.maze.client:
            return agent.run("check", *agent.trust(), *way.flags, env=way.env).returncode

    def blocked(self):
        """Whether all ways to the relay but the obstacle's are shut."""
        return not any(self.maze.passes(host) for host in (RELAY, RELAY_6))

    def path(self, agent):
        """The way that the agent's connection took, as it says itself."""
        row = next(row for row in agent.table("carriers") if row["state"] == "up")
        ways = [row.get("transport"), row["path"], f"segments of {row['mss']}" if row.get("mss") else None,
                row["trust"] if row.get("trust") != "peeled" else None]
        return "; ".join(way for way in ways if way)
