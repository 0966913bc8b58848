# SPDX-License-Identifier: Apache-2.0
"""Several connections a session, and how each of them is lost, replaced and told of: proxies that are killed or stopped, roads
that cut, and a machine whose network changes. Everything shows in tables, in status and in one line of the log."""
import os
import re
import signal
import subprocess
import uuid

import pytest

from testenv.culvert import Agent, Relay
from testenv.net import connect, recv_exactly
from testenv.proc import Proc, wait_for
from testenv.programs import Tinyproxy
from testenv.traffic import Enough, Traffic

MIB = 1 << 20


def up(end):
    return [row for row in end.table("carriers") if row["state"] == "up"]


def says(s, text=b"hello"):
    s.sendall(text)
    return recv_exactly(s, len(text)) == text


def repairs(end):
    return re.findall(r"reconnected .*", end.log.read_text())


class TestSeveral:
    def test_they_are_kept_and_listed_at_both_ends(self, world):
        server, relay = world.server(), world.relay()
        road = world.road(relay.port)
        agent = world.joined(relay)
        agent.start(["-L", f"0:{server.at}", "--carriers", "3", *agent.relay_flags(road.port)])
        wait_for("three carriers", lambda: len(up(agent)) == 3)
        streams = [connect(agent.at()) for _ in range(6)]
        assert all(says(s) for s in streams)
        mine, theirs = up(agent), up(relay)
        assert len(theirs) == 3 and {row["carrier"] for row in mine} == {row["carrier"] for row in theirs}
        assert all(row["streams"] > 0 and row["path"] and row["rtt_ms"] >= 0 for row in mine)
        assert sum(row["streams"] for row in mine) == 6
        text = subprocess.run([agent.program, "--state", agent.state, "table", "carriers"], capture_output=True, text=True)
        assert text.returncode == 0 and len(text.stdout.splitlines()) == 4
        before = {row["carrier"] for row in mine}
        road.do("cut", 1, 1, "r")  # the next ones die young
        road.do("end", "f")
        road.do("cut", 0, 0, "r")
        wait_for("three others", lambda: len(up(agent)) == 3 and not before & {row["carrier"] for row in up(agent)})
        assert all(says(s) for s in streams)
        wait_for("three others at the relay", lambda: {row["carrier"] for row in up(relay)} == {row["carrier"] for row in up(agent)})
        assert relay.table("agents")[0]["carriers"] == 3

    def test_streams_have_one_name_at_both_ends(self, world):
        server, relay = world.server(), world.relay()
        agent = world.agent(relay, "-L", f"0:{server.at}")
        with connect(agent.at()) as s:
            assert says(s)
            mine, theirs = ([row["uid"] for row in end.table("streams")] for end in (agent, relay))
            assert mine == theirs and re.fullmatch("[0-9a-f]{32}", mine[0])

    @pytest.mark.parametrize("number", ["0", "9", "x"])
    def test_only_so_many(self, world, number):
        agent = Agent(world.program, world.place("agent"))
        done = agent.run("agent", "-L", "0:localhost:1", "--carriers", number)
        assert done.returncode == 2 and "carriers" in done.stderr


class TestProxies:
    def test_one_that_is_killed_under_a_transfer(self, fast_world):
        world = fast_world
        relay = world.relay()
        proxy = world.program_of(Tinyproxy)
        traffic = Traffic(world, Enough(64 * MIB, lambda: len(repairs(agent)) >= 3), patience=60)
        agent = world.joined(relay).start(["-L", f"0:{traffic.server.at}", "--proxy", proxy.url])
        traffic.call(agent.at())
        for times in range(1, 4):
            wait_for("bytes to flow", lambda: traffic.flowing == 1)
            os.kill(proxy.proc.pid, signal.SIGKILL)
            proxy.stop()
            proxy.start()
            wait_for("the repair", lambda: len(repairs(agent)) >= times)
        assert traffic.check() >= 64 * MIB
        line = repairs(agent)[-1]
        assert "took_ms=" in line and "reason=" in line and "streams=1" in line and "resumed=yes" in line
        assert len(repairs(relay)) >= 3
        for end in (agent, relay):
            session = end.status()["sessions"][0]
            assert session["state"] == "up" and session["resumed"] >= 3 and session["last_end"]["reason"]
            assert len(session["carriers"]) == 1
            assert session["carriers"][0]["bytes_in"] > 0 and session["carriers"][0]["age_ms"] >= 0

    def test_one_that_stands_still(self, world):
        server, relay = world.server(), world.relay()
        proxy = world.program_of(Tinyproxy)
        agent = world.joined(relay).start(["-L", f"0:{server.at}", "--proxy", proxy.url])
        with connect(agent.at()) as s:
            assert says(s)
            with proxy.proc.asleep():
                s.sendall(b"into the silence")
                wait_for("suspicion", lambda: any(row["state"] == "suspect" for row in agent.table("carriers")))
            assert recv_exactly(s, 16) == b"into the silence"
            assert says(s)


class TestRoads:
    def test_silence_under_a_keystroke_is_left_for_another_connection(self, world):
        server, relay = world.server(), world.relay()
        road = world.road(relay.port)
        agent = world.joined(relay)
        agent.start(["-L", f"0:{server.at}", *agent.relay_flags(road.port)])
        with connect(agent.at()) as s:
            assert says(s)
            road.do("end", "s")  # this connection carries nothing more, and nobody says so
            assert says(s, b"still there?")
        assert "PING was not answered" in repairs(agent)[-1]
        assert agent.status()["sessions"][0]["resumed"] == 1

    def test_a_silent_cut_of_an_idle_connection_teaches(self, fast_world):
        """Its successor, dialled before that was known, pings sooner than what was cut."""
        world = fast_world
        server, relay = world.server(), world.relay()
        road = world.road(relay.port)
        road.do("idle", 12000, "s")
        agent = world.joined(relay)
        agent.start(["-L", f"0:{server.at}", *agent.relay_flags(road.port)])
        wait_for("the repair", lambda: repairs(agent), 60)
        assert "PING was not answered" in repairs(agent)[-1]
        wait_for("the lesson", lambda: [row["ping_ms"] < 12000 for row in up(agent)] == [True])

    def test_who_calls_a_service_whose_agent_is_away_for_a_moment_waits(self, world):
        server, relay = world.server(), world.relay()
        road = world.road(relay.port)
        near = world.joined(relay, "near", invite_flags=["--allow-offer", "it"])
        near.start(["--offer", f"it={server.at}", *near.relay_flags(road.port)])
        far = world.joined(relay, "far", allow=["it@near"]).start(["-L", "0:it@near"])
        road.do("refuse", "on")
        road.do("end", "r")
        wait_for("the session to be parked", lambda: {row["agent"]: row["state"] for row in relay.table("agents")}["near"] == "parked")
        with connect(far.at()) as s:
            s.sendall(b"are you there?")
            wait_for("the stream to wait", lambda: far.table("streams"))
            road.do("refuse", "off")
            assert recv_exactly(s, 14) == b"are you there?"

    def test_one_that_cuts_every_second(self, world):
        server, relay = world.server(), world.relay()
        road = world.road(relay.port)
        road.do("life", 1000, 1000, "f")
        agent = world.joined(relay)
        agent.start(["-L", f"0:{server.at}", *agent.relay_flags(road.port)])
        with connect(agent.at()) as s:
            def typed():
                assert says(s, b"x" * 1000)
                return len(repairs(agent)) >= 4
            wait_for("some cuts", typed)
            assert says(s)

    def test_an_agent_that_was_stopped_condemns_nobody(self, world):
        server, relay = world.server(), world.relay()
        agent = world.agent(relay, "-L", f"0:{server.at}")
        with connect(agent.at()) as s:
            assert says(s)
            with agent.proc.asleep():
                s.sendall(b"later")
                wait_for("suspicion", lambda: any(row["state"] == "suspect" for row in relay.table("carriers")))
            assert recv_exactly(s, 5) == b"later"
        assert not repairs(agent) and not repairs(relay)


@pytest.fixture
def two_ways(tmp_path):
    """Two namespaces, an agent's and a relay's, joined by two cables: 10.77.1.0/24 and 10.77.2.0/24."""
    tag = uuid.uuid4().hex[:6]
    names = near, far = f"culvert-n{tag}", f"culvert-f{tag}"

    def ip(*words):
        return subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no network namespaces here")
    for cable in (1, 2):
        ip("-n", near, "link", "add", f"way{cable}", "type", "veth", "peer", "name", f"way{cable}", "netns", far)
        for name, host in ((near, 1), (far, 9)):
            ip("-n", name, "addr", "add", f"10.77.{cable}.{host}/24", "dev", f"way{cable}")
            ip("-n", name, "link", "set", f"way{cable}", "up")
    ip("-n", far, "addr", "add", "10.77.9.9/32", "dev", "lo")
    ip("-n", near, "route", "add", "10.77.9.9/32", "via", "10.77.1.9", "metric", "1")
    ip("-n", near, "route", "add", "10.77.9.9/32", "via", "10.77.2.9", "metric", "2")
    yield near, far, ip
    for name in names:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def inside(world, name, namespace):
    """The program under test, run in that namespace."""
    script = world.folder / name
    script.write_text(f'#!/bin/sh\nexec ip netns exec {namespace} {world.program} "$@"\n')
    script.chmod(0o755)
    return script


class TestNetwork:
    @pytest.fixture
    def ends(self, world, two_ways):
        near, far, ip = two_ways
        server = world.server(at=f"unix:{world.folder}/s")
        relay = world.add(Relay(inside(world, "in-far", far), world.folder / "relay", hosts=("10.77.9.9",)))
        relay.certify()
        relay.proc = Proc([relay.program, "--state", relay.state, "-v", "relay", "--listen", f"10.77.9.9:{relay.port}",
                           "--url", f"wss://10.77.9.9:{relay.port}"], relay.log)
        relay.wait_control()
        agent = world.add(Agent(inside(world, "in-near", near), world.folder / "agent"))
        agent.join(relay, "agent", [f"unix:{world.folder}/s"])
        agent.start(["-L", f"unix:{world.folder}/l:unix:{world.folder}/s"])
        yield relay, agent, ip, near
        agent.stop()

    def test_a_lost_address_is_left_at_once(self, world, ends):
        relay, agent, ip, near = ends
        with connect(f"unix:{world.folder}/l") as s:
            assert says(s)
            ip("-n", near, "addr", "del", "10.77.1.1/24", "dev", "way1")
            assert says(s)
        assert "this machine has lost the address 10.77.1.1" in repairs(agent)[-1]
        assert relay.table("carriers")[0]["peer"].startswith("10.77.2.1:")

    def test_a_better_way_is_made_before_the_old_one_is_left(self, world, ends):
        relay, agent, ip, near = ends
        with connect(f"unix:{world.folder}/l") as s:
            assert says(s)
            ip("-n", near, "route", "add", "10.77.9.9/32", "via", "10.77.2.9", "metric", "0")
            wait_for("the other way", lambda: [row["peer"].split(":")[0] for row in relay.table("carriers")] == ["10.77.2.1"])
            assert says(s)
        assert "the network has changed" in repairs(agent)[-1]
        assert "connection lost" not in agent.log.read_text()

    def test_a_way_that_comes_back_is_found_by_the_youngest_attempt(self, world, ends):
        relay, agent, ip, near = ends
        far = near.replace("-n", "-f")
        with connect(f"unix:{world.folder}/l") as s:
            assert says(s)
            ip("-n", far, "route", "add", "blackhole", "10.77.1.1/32")  # nothing comes back any more
            s.sendall(b"hello?")
            hanging = wait_for("attempts beside those that hang",
                               lambda: [row for row in agent.table("carriers") if row["state"] == "dialling"][2:])
            ip("-n", far, "route", "del", "blackhole", "10.77.1.1/32")
            assert hanging and recv_exactly(s, 6) == b"hello?"
            wait_for("one carrier", lambda: [row["state"] for row in agent.table("carriers")] == ["up"])
            assert says(s)
        assert len(repairs(agent)) <= 1

    def test_what_does_not_concern_a_carrier_leaves_it_alone(self, world, ends):
        relay, agent, ip, near = ends
        ip("-n", near, "addr", "add", "10.99.9.9/24", "dev", "way2")
        ip("-n", near, "route", "add", "10.98.0.0/16", "via", "10.77.2.9")
        with connect(f"unix:{world.folder}/l") as s:
            wait_for("the news", lambda: says(s) and "the network has changed" in agent.log.read_text())
        assert len(relay.table("carriers")) == 1 and not repairs(agent)
