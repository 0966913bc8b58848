# SPDX-License-Identifier: Apache-2.0
"""status and table over the control socket, as text and as JSON."""
import json
import subprocess

import pytest

from testenv.culvert import Agent
from testenv.net import ask_udp, connect, recv_exactly, udp
from testenv.proc import wait_for

TABLES = ["agents", "services", "forwards", "streams", "flows", "rules", "invitations"]


@pytest.fixture(scope="module")
def agent(shared, relay):
    server, echo = shared.server(), shared.udp_echo()
    agent = shared.joined(relay, "seen", invite_flags=["--allow-listen", "127.0.0.1:0", "--allow-offer", "echo"])
    agent.start(["-L", f"0:{server.at}", "-L", f"0:{echo.at}/udp", "-R", f"0:{server.at}", "--offer", f"echo={server.at}"])
    agent.target, agent.udp_target = server.at, echo.at
    return agent


@pytest.mark.parametrize("name", TABLES)
def test_relay_tables_are_lists_of_flat_rows(relay, agent, name):
    rows = relay.table(name)
    assert isinstance(rows, list)
    for row in rows:
        assert list(row) == list(rows[0])
        assert not any(isinstance(value, (dict, list)) for value in row.values())


def test_agents(relay, agent):
    assert [row for row in relay.table("agents") if agent.name in row.values()]


def test_services(relay, agent):
    assert "echo" in str(relay.table("services")) and agent.name in str(relay.table("services"))


def test_forwards_on_both_ends(relay, agent):
    mine = str(agent.table("forwards"))
    for index in range(2):
        assert agent.at(index, "local") in mine
    assert agent.at(0, "reverse") in str(relay.table("forwards"))


def test_forwards_count_their_callers(relay, agent):
    def counts(end, at):
        row, = [row for row in end.table("forwards") if row["at"] == at]
        return row["callers"], row["turned_away"], row["packets_dropped"]
    for end, at, stranger in ((agent, agent.at(0, "local"), connect), (relay, agent.at(0, "reverse"), connect),
                              (agent, agent.at(1, "local"), udp)):
        callers, turned_away, dropped = counts(end, at)
        with stranger(at) as s:
            s.send(b"abc")
            assert s.recv(3) == b"abc"
        assert counts(end, at) == (callers + 1, turned_away, dropped)


def test_the_relay_tells_of_packets_for_each_session(relay, agent):
    def packets():
        row, = [row for row in relay.status()["sessions"] if row["agent"] == agent.name]
        return row["packets_in"], row["packets_out"], row["packets_dropped"]
    before = packets()
    with udp(agent.at(1)) as s:
        ask_udp(s, b"abc")
    assert packets() == (before[0] + 1, before[1] + 1, 0)


def test_streams_on_both_ends(relay, agent):
    with connect(agent.at(0, "local")) as s:
        s.sendall(b"abc")
        recv_exactly(s, 3)
        for end in (relay, agent):
            rows = [row for row in end.table("streams") if agent.target in str(row)]
            assert len(rows) == 1, end.table("streams")


def test_flows_on_both_ends(relay, agent):
    with udp(agent.at(1, "local")) as s:
        ask_udp(s, b"abc")
        for end in (relay, agent):
            assert [row for row in end.table("flows") if agent.udp_target in str(row)]


def test_a_rule_is_listed_as_grant_takes_it_back(shared, relay):
    shared.joined(relay, "ruled", invite_flags=["--allow", "10.0.0.0/8:22", "--allow-offer", "web"])
    mine = lambda: [(row["may"], row["rule"]) for row in relay.table("rules") if row["agent"] == "ruled"]
    given = {("allow", "10.0.0.0/8:22"), ("allow-offer", "web")}
    before = mine()
    assert given < set(before)
    assert relay.run("grant", "ruled", "--drop", "10.0.0.0/8:22", "--drop-offer", "web").returncode == 0
    assert mine() == [rule for rule in before if rule not in given]


@pytest.fixture(scope="module")
def asker(shared, relay):
    """Asks another agent for a stream at at(0), and for a flow at at(1)."""
    near = shared.joined(relay, "offers", invite_flags=["--allow-offer", "it", "--allow-offer", "datagrams"])
    near.start(["--offer", f"it={shared.server().at}", "--offer", f"datagrams={shared.udp_echo().at}/udp"])
    asker = shared.joined(relay, "asks", allow=[f"it@{near.name}", f"datagrams@{near.name}"])
    return asker.start(["-L", f"0:it@{near.name}", "-L", f"0:datagrams@{near.name}/udp"])


def switched(relay, table, asker):
    return [row for row in relay.table(table) if row["kind"] == "service" and row["agent"] == asker.name]


def test_the_relay_tells_what_passed_between_agents(relay, asker):
    with connect(asker.at(0)) as s:
        s.sendall(b"x" * 50000)
        recv_exactly(s, 50000)
        row, = switched(relay, "streams", asker)
        assert row["bytes_in"] == row["bytes_out"] == 50000
        assert not switched(relay, "flows", asker)
    wait_for("the stream to go", lambda: not switched(relay, "streams", asker))


def test_the_relay_tells_of_flows_between_agents_as_flows(relay, asker):
    with udp(asker.at(1)) as s:
        for size in (700, 40000):
            ask_udp(s, bytes(size))
        row, = switched(relay, "flows", asker)
        assert row["packets_in"] == row["packets_out"] == 2 and row["bytes_in"] == row["bytes_out"] == 40700
        assert not switched(relay, "streams", asker)


def test_invitations_show_no_token(relay, agent):
    pairing = relay.invite("open-invitation")
    rows = relay.table("invitations")
    assert "open-invitation" in str(rows)
    assert pairing.partition("token=")[2][:22] not in str(rows)


def test_text(relay, agent):
    for end, name in ((relay, "agents"), (agent, "forwards")):
        done = end.run("table", name)
        assert done.returncode == 0 and len(done.stdout.splitlines()) >= 2
    assert agent.name in relay.run("table", "agents").stdout


def test_status(relay, agent):
    status = agent.status()
    assert str(relay.port) in str(status) and status.get("pid", agent.proc.pid) == agent.proc.pid
    assert "127.0.0.1" in str(relay.status())
    assert agent.run("status").returncode == 0 and relay.run("status").returncode == 0


def test_nothing_is_running(shared):
    empty = Agent(shared.program, shared.place("empty"))
    empty.state.mkdir()
    for words in (["status"], ["table", "streams"], ["status", "--json"]):
        assert empty.run(*words).returncode == 3


def test_an_unknown_table(agent):
    done = agent.run("table", "nonsense")
    assert done.returncode == 2 and "nonsense" in done.stderr and "streams" in done.stderr


def test_a_killed_process_leaves_nothing_in_the_way(world):
    relay = world.relay()
    relay.proc.kill()
    assert relay.run("status").returncode == 3
    relay.start()
    assert relay.run("status").returncode == 0


def test_watch(agent):
    p = subprocess.Popen([agent.program, "--state", agent.state, "table", "forwards", "--json", "--watch"],
                         stdout=subprocess.PIPE, text=True)
    try:
        text = ""
        while True:
            text += p.stdout.readline()
            try:
                assert json.loads(text)
                break
            except json.JSONDecodeError:
                assert p.poll() is None
    finally:
        p.terminate()
        p.wait(10)


def test_the_socket_is_private(relay, agent):
    import stat
    for end in (relay, agent):
        sockets = list(end.state.glob("control-*.sock"))
        assert sockets and all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in sockets)
