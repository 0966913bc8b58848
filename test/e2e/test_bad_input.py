# SPDX-License-Identifier: Apache-2.0
"""Bad input of every kind gets one clear line and its exit status."""
import socket

import pytest

from testenv.culvert import Agent, culvert
from testenv.proc import free_port
from conftest import CHECKED

USAGE = [
    (["nonsense"], "nonsense"),
    (["agent", "--nonsense"], "--nonsense"),
    (["agent", "-L"], "-L"),
    (["agent", "-L", "nonsense"], "nonsense"),
    (["agent", "-L", "99999:host:22"], "99999"),
    (["agent", "-L", "8080:host:0"], "host:0"),
    (["agent", "-L", "8080:host"], "8080:host"),
    (["agent", "-L", "8080:ho st:22"], "ho st"),
    (["agent", "-L", "1.2.3.4.5.6:80:host:22/tcpudp"], "tcpudp"),
    (["agent", "-L", "8080:[::1:22"], "[::1:22"),
    (["agent", "-R", "-1:host:22"], "-1"),
    (["agent", "-D", "x y"], "x y"),
    (["agent", "-W", "host"], "host"),
    (["agent", "--offer", "name"], "name"),
    (["agent", "--offer", "a b=host:1"], "a b"),
    (["agent", "--allow", "host"], "host"),
    (["agent", "--allow", "10.0.0.1/8:22"], "10.0.0.1/8"),
    (["agent", "--proxy", "gopher://proxy:1", "-W", "h:1"], "gopher"),
    (["agent", "--proxy", "http://proxy:port", "-W", "h:1"], "port"),
    (["agent", "--relay", "http://relay", "-W", "h:1"], "http://relay"),
    (["agent", "--relay", "wss://", "-W", "h:1"], "wss://"),
    (["agent", "--udp-idle", "soon", "-D", "0"], "soon"),
    (["agent", "--outer", "perhaps", "-D", "0"], "perhaps"),
    (["agent", "--ready-fd", "x", "-D", "0"], "x"),
    (["agent", "--ready-fd", "99", "-D", "0"], "descriptor 99 is not open"),
    (["relay", "--ready-fd", "99"], "descriptor 99 is not open"),
    (["relay", "--listen", "0:0:0"], "0:0:0"),
    (["relay", "--drain", "-1s"], "-1s"),
    (["relay", "--memory", "lots"], "lots"),
    (["relay", "--cert", "/no/such/cert", "--key", "/no/such/key"], "/no/such/"),
    (["relay", "surplus"], "surplus"),
    (["join"], "PAIRING"),
    (["join", "nonsense"], "nonsense"),
    (["join", "culvert://relay.example/"], "pin"),
    (["join", "culvert://relay.example/?pin=abc&token=AAAAAAAAAAAAAAAAAAAAAA"], "pin"),
    (["join", "culvert://relay.example:99999/?pin=x&token=y"], "damaged"),
    (["invite"], "--name"),
    (["invite", "--name", "a b"], "a b"),
    (["invite", "--name", "ok", "--allow", "everything"], "everything"),
    (["invite", "--name", "ok", "--ttl", "forever"], "forever"),
    (["invite", "--name", "ok", "--uses", "0"], "0"),
    (["grant"], "grant"),
    (["explain", "one"], "explain"),
    (["revoke"], "revoke"),
    (["table"], "table"),
    (["cert"], "cert"),
    (["cert", "nonsense"], "nonsense"),
    (["cert", "selfsigned"], "--host"),
    (["cert", "selfsigned", "--host", "x", "--days", "0"], "0"),
    (["--log", "xml", "status"], "xml"),
]


@pytest.mark.parametrize("words, named", USAGE, ids=[" ".join(words) for words, _ in USAGE])
def test_usage(tmp_path, words, named):
    done = culvert(CHECKED, tmp_path / "state", *words)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert 1 <= len(lines) <= 2, done.stderr
    assert named in done.stderr
    assert len(done.stderr) < 600


def test_help_teaches(tmp_path):
    for words in (["--help"], ["-h"], ["agent", "--help"], ["relay", "-h"], ["invite", "--help"], ["join", "--help"]):
        done = culvert(CHECKED, tmp_path, *words)
        assert done.returncode == 0 and "culvert" in done.stdout and done.stderr == ""
    assert "example" in culvert(CHECKED, tmp_path, "agent", "--help").stdout.lower()


def test_version(tmp_path):
    for word in ("-V", "--version"):
        done = culvert(CHECKED, tmp_path, word)
        assert done.returncode == 0 and done.stdout.startswith("culvert ")


@pytest.mark.parametrize("text, named", [
    ("[agent]\nnonsense = 1\n", "nonsense"), ("[agent]\nudp-idle = soon\n", "soon"), ("nonsense\n", ":1"),
    ("[nonsense]\nx = 1\n", "nonsense"), ("[agent]\nL = broken\n", ""), ("[agent\n", ":1"),
    ("\x00\x01\x02", ":1")])
def test_a_bad_configuration_file_names_its_line(tmp_path, text, named):
    path = tmp_path / "culvert.ini"
    path.write_text(text)
    done = culvert(CHECKED, tmp_path / "state", "--config", path, "agent", "-D", "0")
    assert done.returncode == 2
    assert str(path) in done.stderr and named in done.stderr and len(done.stderr.strip().splitlines()) <= 2


def test_a_bad_environment_variable_is_named(tmp_path):
    done = culvert(CHECKED, tmp_path / "state", "agent", "-D", "0", env={"CULVERT_UDP_IDLE": "soon"})
    assert done.returncode == 2 and "CULVERT_UDP_IDLE" in done.stderr


def test_flag_beats_environment_beats_file(world):
    relay = world.relay()
    agent = world.joined(relay)
    path = agent.folder / "culvert.ini"
    right, wrong = f"wss://localhost:{relay.port}", f"wss://localhost:{free_port()}"
    path.write_text(f"[agent]\nrelay = {wrong}\n")

    def status(*flags, **env):
        return agent.run("--config", path, "agent", *agent.trust(), *flags, "-W", "127.0.0.2:1", env=env).returncode
    assert status() == 3
    assert status(CULVERT_RELAY=right) == 5
    assert status("--relay", right, CULVERT_RELAY=wrong) == 5


@pytest.mark.parametrize("answer, named", [
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404"), (b"SSH-2.0-OpenSSH_9.2\r\n", ""), (b"", ""),
    (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", ""), (b"HTTP/1.1 503 Busy\x1b]0;evil\x07\r\n\r\n", "control character")],
    ids=["404", "ssh", "nothing", "bare 101", "escape"])
def test_a_relay_that_is_none(world, answer, named):
    """A web server with the relay's certificate, which is no relay."""
    import ssl
    relay = world.relay()
    agent = world.joined(relay)
    relay.stop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(relay.ca, relay.state / "web.key")

    def serve(server, s):
        with context.wrap_socket(s, server_side=True) as t:
            t.recv(65536)
            t.sendall(answer)
            try:
                t.unwrap()
            except (OSError, ssl.SSLError):
                pass
    other = world.server(serve)
    done = agent.run("agent", *agent.trust(), "--relay", f"wss://localhost:{other.port}", "-W", "127.0.0.1:1")
    assert done.returncode == 3, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and str(other.port) in lines[0] and named in lines[0]
    assert "\x1b" not in done.stderr and "\x07" not in done.stderr


def test_a_state_folder_that_cannot_be(tmp_path):
    path = tmp_path / "file"
    path.write_text("in the way")
    done = culvert(CHECKED, path, "cert", "selfsigned", "--host", "x")
    assert done.returncode in (1, 2) and str(path) in done.stderr


def test_a_missing_ca_file(world):
    agent = world.joined(world.relay())
    done = agent.run("agent", "--ca", "/no/such/file", "-D", "0")
    assert done.returncode in (1, 2) and "/no/such/file" in done.stderr and "No such file" in done.stderr


def test_a_taken_port(world):
    relay = world.relay()
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        done = relay.run("relay", "--listen", f"127.0.0.1:{port}")
    assert done.returncode == 1 and str(port) in done.stderr and "in use" in done.stderr


def test_damaged_state_is_told(world):
    relay = world.relay()
    agent = world.joined(relay)
    (agent.state / "agent.json").write_text("{ broken")
    done = agent.run("agent", "-D", "0")
    assert done.returncode in (1, 2) and "agent.json" in done.stderr


def test_an_agent_without_anything_to_do(tmp_path):
    agent = Agent(CHECKED, tmp_path)
    done = agent.run("agent")
    assert done.returncode == 2


def test_the_ready_line_leaves_a_standard_descriptor_open(world):
    relay = world.relay(flags=["--ready-fd", "2"])
    agent = world.joined(relay)
    agent.start(["--ready-fd", "2", "-L", "0:127.0.0.1:1"], wait=False)  # the last one counts
    agent.proc.wait_for("the ready line", lambda: '"forwards":' in agent.log.read_text())
    for end in (agent, relay):
        assert end.stop() == 0
        assert "{" in end.log.read_text() and "drain" in end.log.read_text().rpartition("}")[2]
