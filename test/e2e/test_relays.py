# SPDX-License-Identifier: Apache-2.0
"""Agents with several relays: which is used, what happens when one dies, drains, refuses or comes back."""
import os
import signal
import socket
from pathlib import Path

import pytest

from testenv.culvert import Relay, culvert, must
from testenv.net import TcpServer, ask, ask_udp, connect, forward_to, hold, recv_exactly, recv_to_end
from testenv.proc import can_connect, free_port, wait_for

LISTEN = ["--allow-listen", "127.0.0.1:*"]
OFFER = ["--allow-offer", "*"]


def works(at, data=b"does it work", patience=10):
    try:
        return ask(at, data, patience) == data
    except OSError:
        return False


def wait_works(at, patience=20):
    wait_for(f"{at} to answer", lambda: works(at), patience)


def name_of(relay):
    return f"localhost:{relay.port}"


def used(agent):
    return next(row["relay"] for row in agent.table("relays") if row["used"] == "yes")


def row_of(agent, relay):
    return next(row for row in agent.table("relays") if row["relay"] == name_of(relay))


def wait_used(agent, relay, patience=20):
    wait_for(f"{name_of(relay)} to be used", lambda: used(agent) == name_of(relay), patience)


def wait_up(agent, relay, patience=20):
    wait_for(f"{name_of(relay)} to stand", lambda: row_of(agent, relay)["state"] == "up", patience)


def kill(relay):
    relay.proc.signal(signal.SIGKILL)
    relay.proc.wait_exit()


class Several:
    """An agent that joined several relays; their certificates are in one file. The relays are in the order of preference."""

    def __init__(self, world, relays, name="agent", invite_flags=()):
        self.relays = relays
        self.agent = world.joined(relays[0], name=name, invite_flags=invite_flags)
        for relay in relays[1:]:
            pairing = relay.invite(name, *invite_flags, allow=("127.0.0.1:*", "127.0.0.1:*/udp"))
            must(self.agent.run("join", "-", "--ca", str(relay.ca), stdin=pairing + "\n"))
        bundle = self.agent.folder / "relays.crt"
        bundle.write_text("".join(Path(relay.ca).read_text() for relay in relays))
        self.agent.trust = lambda: ["--ca", str(bundle)]
        self.flags = [word for relay in relays for word in ("--relay", relay.url)]

    def start(self, *flags, comeback="1h", **more):
        return self.agent.start([*self.flags, "--comeback", comeback, *flags], **more)


@pytest.fixture
def two(world):
    return [world.relay("one"), world.relay("two")]


class TestWhichOne:
    def test_order_decides_among_equals(self, world, two):
        server = world.server()
        for relays in (two, two[::-1]):
            name = f"agent{relays[0].port}"
            agent = Several(world, relays, name).start("-L", f"0:{server.at}")
            assert agent.ready["relay"].startswith(relays[0].url)
            assert works(agent.at())
            assert used(agent) == name_of(relays[0])
            wait_up(agent, relays[1])
            assert [row["rank"] for row in agent.table("relays")] == [1, 2]
            agent.stop()

    def test_without_the_flag_all_that_were_joined_are_used_the_last_first(self, world, two):
        several = Several(world, two)
        agent = several.agent.start(["-L", f"0:{world.server().at}"])
        assert used(agent) == name_of(two[1])
        wait_up(agent, two[0])

    def test_the_configuration_file_names_several(self, world, two):
        several = Several(world, two)
        ini = several.agent.folder / "culvert.ini"
        ini.write_text("[agent]\n" + "".join(f"relay = {relay.url}\n" for relay in two) + f"local = 0:{world.server().at}\n")
        agent = several.agent.start(global_flags=("-v", "--config", str(ini)))
        assert used(agent) == name_of(two[0])
        wait_up(agent, two[1])

    def test_a_dead_first_relay_does_not_hold_up_the_start(self, world, two):
        several = Several(world, two)
        two[0].stop()
        agent = several.start("-L", f"0:{world.server().at}")
        assert used(agent) == name_of(two[1])
        assert works(agent.at())

    def test_a_silent_first_relay_does_not_hold_up_the_start(self, world, two):
        several = Several(world, two)
        with two[0].proc.asleep():  # its port still accepts
            agent = several.start("-L", f"0:{world.server().at}")
            assert used(agent) == name_of(two[1])
            assert works(agent.at())

    def test_one_named_twice_is_refused(self, world, two):
        several = Several(world, two)
        done = several.agent.run("agent", *several.agent.trust(), *several.flags, "--relay", two[0].url, "-L", "0:localhost:1")
        assert done.returncode == 2 and "named twice" in done.stderr


class TestFailover:
    def test_new_connections_and_reverses_move_when_the_relay_is_killed(self, world, two):
        server = world.server()
        agent = Several(world, two, invite_flags=LISTEN).start("-L", f"0:{server.at}", "-R", f"{free_port()}:{server.at}")
        wait_up(agent, two[1])
        assert works(agent.at(0, "local")) and works(agent.at(0, "reverse"))
        kill(two[0])
        wait_works(agent.at(0, "local"))
        wait_works(agent.at(0, "reverse"))
        assert used(agent) == name_of(two[1])
        assert row_of(agent, two[0])["last_error"]

    def test_a_silent_relay_is_left(self, world):
        relays, roads = [], []
        for name in ("one", "two"):
            relays.append(world.add(Relay(world.program, world.place(name))))
            roads.append(world.road(relays[-1].port))
            relays[-1].start(url=f"wss://localhost:{roads[-1].port}")
        several = Several(world, relays, invite_flags=LISTEN)
        several.flags = [word for road in roads for word in ("--relay", f"wss://localhost:{road.port}")]
        server = world.server()
        agent = several.start("-L", f"0:{server.at}", "-R", f"0:{server.at}")
        wait_for("the second to stand", lambda: all(row["state"] == "up" for row in agent.table("relays")))
        roads[0].do("freeze", "both")
        wait_works(agent.at(0, "local"))  # the first of them is opened where nobody answers, and reset
        wait_for("the reverse to move", lambda: works(next(row["at"] for row in agent.table("forwards") if row["kind"] == "reverse")))
        assert used(agent) == f"localhost:{roads[1].port}"
        roads[0].do("thaw")

    def test_datagrams_move_too(self, world, two):
        agent = Several(world, two).start("-L", f"0:{world.udp_echo().at}/udp")
        wait_up(agent, two[1])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect(("127.0.0.1", agent.port()))
            assert ask_udp(s, b"one")[0] == b"one"
            kill(two[0])
            wait_used(agent, two[1])
            assert ask_udp(s, b"two")[0] == b"two"  # the same caller

    def test_all_go_and_one_comes_back(self, world, two):
        server = world.server()
        agent = Several(world, two, invite_flags=LISTEN).start("-L", f"0:{server.at}", "-R", f"{free_port()}:{server.at}")
        wait_up(agent, two[1])
        for relay in two:
            kill(relay)
        wait_for("both to be lost", lambda: all(row["state"] != "up" for row in agent.table("relays")))
        two[1].start()
        wait_works(agent.at(0, "local"), 40)
        wait_works(agent.at(0, "reverse"), 40)
        assert used(agent) == name_of(two[1])

    def test_services_are_found_when_both_agents_have_moved(self, world, two):
        server = world.server()
        offers = Several(world, two, "site", OFFER).start("--offer", f"web={server.at}")
        user = Several(world, two, "user", ["--allow", "web@site"]).start("-L", "0:web@site")
        for agent in (offers, user):
            wait_up(agent, two[1])
        assert works(user.at())
        kill(two[0])
        wait_works(user.at())
        for agent in (offers, user):
            assert used(agent) == name_of(two[1])

    def test_a_service_is_found_at_whichever_relay_its_agent_uses(self, world, two):
        server = world.server()
        offers = Several(world, two[::-1], "site", OFFER).start("--offer", f"web={server.at}")
        several = Several(world, two, "user", ["--allow", "web@site"])
        user = several.start("-L", "0:web@site")
        assert used(offers) == name_of(two[1]) and used(user) == name_of(two[0])
        assert works(user.at())
        done = culvert(user.program, user.state, "agent", *user.trust(), *several.flags, "-W", "web@site", stdin="to and fro")
        assert (done.returncode, done.stdout) == (0, "to and fro")
        done = culvert(user.program, user.state, "agent", *user.trust(), *several.flags, "-W", "other@site", stdin="")
        assert done.returncode in (3, 5) and done.stderr

    def test_stdio_goes_by_the_relay_that_is_left(self, world, two):
        several = Several(world, two)
        server = world.server()
        kill(two[0])
        done = culvert(several.agent.program, several.agent.state, "agent", *several.agent.trust(), *several.flags, "-W",
                       server.at, stdin="to and fro")
        assert (done.returncode, done.stdout) == (0, "to and fro")


class TestComeback:
    def test_the_better_one_is_used_again_and_streams_stay_where_they_are(self, world, two):
        server = world.server()
        agent = Several(world, two, invite_flags=LISTEN).start("-L", f"0:{server.at}", "-R", f"0:{server.at}", comeback="1s")
        wait_up(agent, two[1])
        kill(two[0])
        wait_used(agent, two[1])
        wait_works(agent.at(0, "local"))
        stays = connect(agent.at(0, "local"))
        stays.sendall(b"a")
        assert recv_exactly(stays, 1) == b"a"
        two[0].start()
        wait_used(agent, two[0], 60)
        wait_for("the reverse to follow", lambda: row_of(agent, two[1])["streams"] == 1)
        assert works(next(row["at"] for row in agent.table("forwards") if row["kind"] == "reverse"))
        stays.sendall(b"b")
        assert recv_exactly(stays, 1) == b"b"
        assert works(agent.at(0, "local"))
        assert row_of(agent, two[1])["streams"] == 1
        stays.close()
        wait_for("the old stream's end", lambda: row_of(agent, two[1])["streams"] == 0)


class TestDrain:
    def test_a_draining_relay_hands_over_without_failing_a_new_connection(self, world, two):
        server = world.server()
        agent = Several(world, two, invite_flags=LISTEN).start("-L", f"0:{server.at}", "-R", f"{free_port()}:{server.at}")
        wait_up(agent, two[1])
        stays = connect(agent.at(0, "local"))
        stays.sendall(b"a")
        assert recv_exactly(stays, 1) == b"a"
        two[0].proc.signal(signal.SIGTERM)
        for _ in range(50):
            assert ask(agent.at(0, "local"), b"new") == b"new"
        wait_works(agent.at(0, "reverse"))
        assert used(agent) == name_of(two[1])
        stays.sendall(b"b")  # its end is the draining relay, which waits for it
        assert recv_exactly(stays, 1) == b"b"
        stays.shutdown(socket.SHUT_WR)
        assert recv_to_end(stays) == b""
        assert two[0].proc.wait_exit() == 0
        assert works(agent.at(0, "local"))


    def test_services_are_handed_over_without_failing_a_new_connection(self, world, two):
        server = world.server()
        offers = Several(world, two, "site", OFFER).start("--offer", f"web={server.at}")
        user = Several(world, two, "user", ["--allow", "web@site"]).start("-L", "0:web@site")
        for agent in (offers, user):
            wait_up(agent, two[1])
        assert works(user.at())
        two[0].proc.signal(signal.SIGTERM)
        for _ in range(20):
            assert ask(user.at(), b"new") == b"new"
        assert two[0].proc.wait_exit() == 0
        assert works(user.at())


class TestRefusal:
    def test_one_relay_revokes_and_the_other_stays(self, world, two):
        server = world.server()
        agent = Several(world, two).start("-L", f"0:{server.at}")
        wait_up(agent, two[1])
        must(two[0].run("revoke", "agent"))
        wait_for("the relay to be given up", lambda: row_of(agent, two[0])["state"] == "given up")
        assert used(agent) == name_of(two[1])
        assert works(agent.at())
        must(two[1].run("revoke", "agent"))
        assert agent.proc.wait_exit() == 5

    def test_once_ends_when_none_is_reached(self, world, two):
        several = Several(world, two)
        for relay in two:
            kill(relay)
        done = several.agent.run("agent", *several.agent.trust(), *several.flags, "--once", "-L", "0:localhost:1")
        assert done.returncode == 3
        assert all(str(relay.port) in done.stderr for relay in two)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives the agent a hosts file of its own, in a mount namespace")
class TestAddresses:
    """One relay by a name with two addresses."""
    NAME = "relay.test"
    FIRST, SECOND = "127.0.0.2", "127.0.0.3"

    @pytest.fixture
    def site(self, world):
        relay = world.add(Relay(world.program, world.place("relay"), hosts=("localhost", self.NAME))).start()
        agent = world.joined(relay)
        hosts, wrapper = agent.folder / "hosts", agent.folder / "culvert"
        hosts.write_text(f"127.0.0.1 localhost\n{self.FIRST} {self.NAME}\n{self.SECOND} {self.NAME}\n")
        wrapper.write_text("#!/bin/sh\nexec unshare -m sh -c 'mount --bind \"$0\" /etc/hosts && exec \"$@\"' "
                           f"{hosts} {agent.program} \"$@\"\n")
        wrapper.chmod(0o755)
        agent.program = wrapper
        while True: # a port that both addresses have
            port = free_port(self.FIRST)
            if not can_connect(port, self.SECOND):
                return world, relay, agent, port

    def start(self, agent, port, server):
        return agent.start(["--relay", f"wss://{self.NAME}:{port}", "-L", f"0:{server.at}"])

    def test_a_black_hole_does_not_stop_it(self, site):
        world, relay, agent, port = site
        held = []
        with socket.socket() as full: # a full queue: further SYNs vanish
            full.bind((self.FIRST, port))
            full.listen(0)
            for _ in range(4):
                held.append(socket.socket())
                held[-1].setblocking(False)
                held[-1].connect_ex((self.FIRST, port))
            world.add(TcpServer(forward_to(relay.port), f"{self.SECOND}:{port}"))
            self.start(agent, port, world.server())
            assert works(agent.at())
        for s in held:
            s.close()

    def test_an_address_that_accepts_and_says_nothing_does_not_stop_it(self, site):
        world, relay, agent, port = site
        world.add(TcpServer(hold, f"{self.FIRST}:{port}"))
        world.add(TcpServer(forward_to(relay.port), f"{self.SECOND}:{port}"))
        self.start(agent, port, world.server())
        assert works(agent.at())

    def test_when_the_address_in_use_is_lost_the_other_is_taken(self, site):
        world, relay, agent, port = site
        ways = [world.add(TcpServer(forward_to(relay.port), f"{at}:{port}")) for at in (self.FIRST, self.SECOND)]
        self.start(agent, port, world.server())
        stays = connect(agent.at())
        stays.sendall(b"a")
        assert recv_exactly(stays, 1) == b"a"
        for way in [way for way in ways if way.open]:
            way.listener.shutdown(socket.SHUT_RDWR)
            way.stop()
        stays.sendall(b"b") # the session is the same
        assert recv_exactly(stays, 1) == b"b"
        assert works(agent.at())
