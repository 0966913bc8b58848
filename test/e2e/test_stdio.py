# SPDX-License-Identifier: Apache-2.0
"""-W: stdin and stdout are the stream, as ssh's ProxyCommand wants it."""
import hashlib
import subprocess

import pytest

from testenv.net import digest, greet, pattern, pattern_sha, source
from testenv.proc import free_port
from testenv.programs import Sshd


@pytest.fixture(scope="module")
def agent(shared, relay):
    return shared.joined(relay, "stdio")


def command(agent, dest, *flags):
    return [str(agent.program), "--state", str(agent.state), "agent", *agent.trust(), *flags, "-W", str(dest)]


def run(agent, dest, data=b"", *flags):
    return subprocess.run(command(agent, dest, *flags), input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)


def test_ssh_proxycommand(shared, agent):
    sshd = shared.program_of(Sshd)
    proxy = " ".join(command(agent, "%h:%p"))
    ssh = sshd.client("-o", f"ProxyCommand={proxy}", "-p", str(sshd.port), f"{sshd.user}@127.0.0.1")
    done = subprocess.run([*ssh, "cat; exit 7"], input=b"hello", stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stdout) == (7, b"hello"), done.stderr
    big = b"".join(pattern(3_000_000))
    done = subprocess.run([*ssh, "cat"], input=big, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert (done.returncode, hashlib.sha256(done.stdout).hexdigest()) == (0, hashlib.sha256(big).hexdigest()), done.stderr


@pytest.mark.parametrize("size", [0, 1, 16328, 65537, (1 << 20) + 1])
def test_half_close(shared, agent, size):
    server = shared.server(digest)
    done = run(agent, server.at, b"".join(pattern(size, size)))
    assert (done.returncode, done.stdout.decode()) == (0, f"{size} {pattern_sha(size, size)}"), done.stderr


def test_nothing_else_on_stdout(shared, agent):
    server = shared.server(greet(b"only this"))
    assert run(agent, server.at).stdout == b"only this"


def test_the_target_ends_first(shared, agent):
    server = shared.server(source)
    with subprocess.Popen(command(agent, server.at), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        p.stdin.write(b"100000 3\n")
        p.stdin.flush()
        assert hashlib.sha256(p.stdout.read()).hexdigest() == pattern_sha(100000, 3)
        p.stdin.close()
        assert p.wait(30) == 0


def test_refused(agent):
    port = free_port()
    done = run(agent, f"127.0.0.1:{port}")
    assert done.returncode == 3 and done.stdout == b"" and b"refused" in done.stderr.lower()


def test_not_allowed(agent):
    done = run(agent, "127.0.0.2:22")
    assert done.returncode == 5 and done.stdout == b"" and b"127.0.0.2" in done.stderr


def test_unreachable_relay(shared, agent):
    port = free_port()
    done = run(agent, "127.0.0.1:22", b"", "--relay", f"wss://localhost:{port}")
    assert done.returncode == 3 and str(port).encode() in done.stderr


def test_beside_a_running_agent_of_the_same_key(shared, relay):
    agent = shared.joined(relay, "beside", invite_flags=["--allow-listen", "127.0.0.1:0"])
    server = shared.server(greet(b"both"))
    agent.start(["-R", f"0:{server.at}"])
    assert run(agent, server.at).stdout == b"both"
    from testenv.net import ask
    assert ask(agent.at(), b"") == b"both"


def test_a_gone_reader_ends_it(shared, agent):
    server = shared.server(source)
    with subprocess.Popen(command(agent, server.at), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        p.stdin.write(b"100000000 3\n")
        p.stdin.flush()
        p.stdout.read(10)
        p.stdout.close()
        p.wait(60)
        p.stdin.close()
