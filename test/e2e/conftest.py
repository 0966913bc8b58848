# SPDX-License-Identifier: Apache-2.0
"""End to end: culvert's program against real ones. A world is a folder with everything that a test has started; it ends
with the test (or the module), and whatever a sanitizer said in any log fails it."""
import os
import re
import signal
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from testenv.culvert import Agent, Relay  # noqa: E402
from testenv.net import TcpServer, UdpEcho, echo  # noqa: E402
from testenv.road import Road  # noqa: E402

os.environ.setdefault("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1")
for variable in [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")]:
    del os.environ[variable]  # a test says itself which proxies there are

PLAIN = Path(os.environ.get("CULVERT_PLAIN", ROOT / "build/culvert"))
CHECKED = Path(os.environ.get("CULVERT_CHECKED", ROOT / "build-asan/culvert"))
ALARMS = re.compile(r"ERROR: (Address|Leak)Sanitizer|runtime error:|Assertion .* failed|\bcore dumped\b|\x1b")
LOCAL = "127.0.0.1:*"
EVERYTHING = (LOCAL, LOCAL + "/udp")


class World:
    def __init__(self, folder, program):
        self.folder, self.program = Path(folder), program
        self.started = []
        self.names = {}

    def place(self, name):
        number = self.names[name] = self.names.get(name, 0) + 1
        return self.folder / (name if number == 1 else f"{name}{number}")

    def add(self, thing):
        """Registers what has a stop()."""
        self.started.append(thing)
        return thing

    def relay(self, name="relay", program=None, flags=(), port=None, hosts=("localhost", "127.0.0.1"), **more):
        relay = self.add(Relay(program or self.program, self.place(name), port, hosts))
        return relay.start(flags, **more)

    def joined(self, relay, name="agent", allow=EVERYTHING, program=None, invite_flags=(), flags=(), env=None):
        folder = self.place(name)
        agent = self.add(Agent(program or self.program, folder))
        return agent.join(relay, folder.name, allow, invite_flags, flags, env)

    def agent(self, relay, *flags, **more):
        return self.joined(relay, **more).start(flags)

    def server(self, serve=echo, at="127.0.0.1:0", **more):
        return self.add(TcpServer(serve, at, **more))

    def udp_echo(self, at="127.0.0.1:0"):
        return self.add(UdpEcho(at))

    def road(self, target, **more):
        """A road to that port, to be made bad; see bench/road.c."""
        return self.add(Road(PLAIN.parent / "bench", self.place("road"), target, **more))

    def program_of(self, kind, *words, **more):
        """One of testenv.programs, started."""
        return self.add(kind(self.place(kind.__name__.lower()))).start(*words, **more)

    def logs(self):
        return sorted(self.folder.rglob("*.log"))

    def end(self):
        for thing in self.started:  # all agents drain at the same time
            if isinstance(thing, Agent) and thing.proc:
                thing.proc.signal(signal.SIGTERM)
        for thing in reversed(self.started):
            thing.stop()
        alarms = [f"{log}:\n{text[max(0, found.start() - 300):found.start() + 3000]}" for log in self.logs()
                  for text in [log.read_text(errors="replace")] for found in [ALARMS.search(text)] if found]
        assert not alarms, "\n".join(alarms)


def worlds(folder, program):
    world = World(folder, program)
    yield world
    world.end()


@pytest.fixture
def world(tmp_path):
    yield from worlds(tmp_path, CHECKED)


@pytest.fixture
def fast_world(tmp_path):
    """Without sanitizers, for loads that would take too long."""
    yield from worlds(tmp_path, PLAIN)


@pytest.fixture(scope="module")
def shared(tmp_path_factory, request):
    """One world for a whole module."""
    yield from worlds(tmp_path_factory.mktemp(request.module.__name__), CHECKED)


@pytest.fixture(scope="module")
def relay(shared):
    """The module's relay; see `shared`."""
    return shared.relay()


@pytest.fixture(scope="module")
def target(shared):
    """The module's echo server."""
    return shared.server()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for name in ("world", "fast_world", "shared"):
            if name in item.fixturenames and name in item.funcargs:
                for log in item.funcargs[name].logs():
                    lines = log.read_text(errors="replace").splitlines()[-50:]
                    report.sections.append((str(log.relative_to(item.funcargs[name].folder)), "\n".join(lines)))
    return report
