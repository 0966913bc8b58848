# SPDX-License-Identifier: Apache-2.0
"""Through proxies of every kind, in chains, with every authentication; and what is said when they refuse."""
import os
import pty

import pytest

from testenv.net import ask, hold, pattern_bytes
from testenv.proc import free_port, wait_for
from testenv.programs import Squid, Sshd
from testenv.proxies import AuthSquid, Dante, Kdc, Microsocks, SshSocks, TlsFront

MIB = pattern_bytes(1 << 20)


@pytest.fixture(scope="module")
def agent(shared, relay):
    return shared.joined(relay, "agent")


@pytest.fixture(scope="module")
def squid(shared):
    return shared.program_of(Squid)


@pytest.fixture(scope="module")
def dante(shared):
    return shared.program_of(Dante)


@pytest.fixture(scope="module")
def microsocks(shared):
    return shared.program_of(Microsocks, login=("user", "p:w@d/%"))


@pytest.fixture(scope="module")
def ssh_socks(shared):
    return shared.program_of(SshSocks, shared.program_of(Sshd))


@pytest.fixture(scope="module")
def https(shared, squid):
    return shared.program_of(TlsFront, squid.port)


def through(agent, target, *proxies, flags=(), data=MIB, env=None):
    """A MiB there and back by these proxies."""
    words = [word for proxy in proxies for word in ("--proxy", proxy)]
    agent.start(["-L", f"0:{target.at}", *words, *flags], env=env)
    try:
        assert ask(agent.at(), data) == data
        return agent.status()
    finally:
        agent.stop()


def refused(agent, target, *proxies, flags=(), status=3, env=None):
    """The one line that says why not."""
    words = [word for proxy in proxies for word in ("--proxy", proxy)]
    done = agent.run("agent", *agent.trust(), *words, *flags, "-W", target.at, env=env)
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("kind", ["socks5", "socks5h"])
def test_socks5_of_dante(agent, target, dante, kind):
    status = through(agent, target, f"{kind}://127.0.0.1:{dante.port}")
    assert f"via 127.0.0.1:{dante.port}" in str(status)


@pytest.mark.parametrize("kind", ["socks4a", "socks5", "socks5h"])
def test_socks_of_ssh(agent, target, ssh_socks, kind):
    before = ssh_socks.output().count("Connection to port")
    through(agent, target, f"{kind}://localhost:{ssh_socks.port}")
    assert ssh_socks.output().count("Connection to port") > before


def test_socks5_with_a_password(agent, target, microsocks, tmp_path):
    at = f"127.0.0.1:{microsocks.port}"
    through(agent, target, f"socks5h://user:p%3Aw%40d%2F%25@{at}")
    login = tmp_path / "login"
    login.write_text("user:p:w@d/%\n")
    login.chmod(0o600)
    through(agent, target, f"socks5://{at}", flags=["--proxy-login", login])
    assert "wants a user and a password" in refused(agent, target, f"socks5h://{at}")
    assert "refused user or password" in refused(agent, target, f"socks5h://user:wrong@{at}")
    assert "p:w@d" not in agent.log.read_text() and "p%3Aw" not in agent.log.read_text()


def test_names_are_resolved_where_the_scheme_says(shared, agent, target):
    """The relay's name as the proxy heard it."""
    heard = []

    def serve(server, s):
        s.recv(100)
        s.sendall(b"\5\0")
        heard.append(s.recv(300))
        s.sendall(b"\5\2\0\1\0\0\0\0\0\0")
    at = shared.server(serve).at
    assert "not allowed by its rules" in refused(agent, target, f"socks5://{at}")
    assert "not allowed by its rules" in refused(agent, target, f"socks5h://{at}")
    assert heard[0][3] == 1 and heard[0][4:8] == b"\x7f\0\0\1"
    assert heard[1][3] == 3 and b"localhost" in heard[1]


def test_a_name_that_is_not_known_here_goes_to_the_socks5_proxy(shared, agent, target):
    heard = []

    def serve(server, s):
        s.recv(100)
        s.sendall(b"\5\0")
        heard.append(s.recv(300))
        s.sendall(b"\5\2\0\1\0\0\0\0\0\0")
    refused(agent, target, f"socks5://{shared.server(serve).at}", flags=["--relay", "wss://only-there.invalid"])
    assert heard[0][3] == 3 and b"only-there.invalid" in heard[0]


def test_an_https_proxy(agent, target, https, squid):
    at = f"localhost:{https.port}"
    status = through(agent, target, f"https://{at}", flags=["--proxy-ca", https.ca])
    assert f"via {at}" in str(status)
    said = refused(agent, target, f"https://{at}", status=4)
    assert f"TLS with proxy {at}: certificate verify failed" in said and "--proxy-ca" in said
    said = refused(agent, target, f"https://localhost:{squid.port}", flags=["--proxy-ca", https.ca])
    assert "does not speak TLS" in said


def test_an_https_proxy_with_another_name(shared, agent, target, squid):
    other = shared.program_of(TlsFront, squid.port, hosts=("other.test",))
    said = refused(agent, target, f"https://localhost:{other.port}", flags=["--proxy-ca", other.ca], status=4)
    assert "certificate verify failed" in said and "mismatch" in said.lower()
    missing = refused(agent, target, f"https://localhost:{other.port}", flags=["--proxy-ca", "/nowhere"], status=2)
    assert "--proxy-ca" in missing


def test_chains_of_three_kinds(agent, target, squid, https, dante, microsocks, ssh_socks):
    chains = [
        (f"http://127.0.0.1:{squid.port}", f"socks5://user:p%3Aw%40d%2F%25@127.0.0.1:{microsocks.port}", f"https://localhost:{https.port}"),
        (f"socks5h://localhost:{dante.port}", f"https://localhost:{https.port}", f"socks4a://localhost:{ssh_socks.port}"),
        (f"https://localhost:{https.port}", f"http://127.0.0.1:{squid.port}", f"socks5h://127.0.0.1:{dante.port}"),
    ]
    for chain in chains:
        status = through(agent, target, *chain, flags=["--proxy-ca", https.ca])
        assert "via " + ", ".join(hop.rpartition("/")[2].rpartition("@")[2] for hop in chain) in str(status)


def test_the_hop_that_refuses_is_named(agent, target, squid, dante):
    dead = free_port()
    said = refused(agent, target, f"http://127.0.0.1:{squid.port}", f"socks5h://127.0.0.1:{dead}")
    assert f"CONNECT via 127.0.0.1:{squid.port}: proxy answered 50" in said
    said = refused(agent, target, f"socks5h://127.0.0.1:{dante.port}", f"http://127.0.0.1:{dead}")
    assert f"SOCKS5 via 127.0.0.1:{dante.port}: the proxy refused 127.0.0.1 port {dead}: connection refused" in said


def test_the_environments_socks_proxy(agent, target, dante):
    through(agent, target, env={"all_proxy": f"socks5h://127.0.0.1:{dante.port}"})


def url(proxy, login="user:secret@"):
    return f"http://{login}127.0.0.1:{proxy.port}"


def one_wrong_try(agent, target, proxy, scheme):
    """An agent that stays up presents a wrong password once, however often it tries to connect; and says so."""
    before = len(proxy.tries())
    agent.start(["-L", f"0:{target.at}", "--proxy", url(proxy, "user:wrong@")], wait=False)
    try:
        agent.proc.wait_log("user or password refused")
        wait_for("three more attempts", lambda: agent.log.read_text().count("refused user or password before") >= 3)
        assert len(proxy.tries()) == before + 1
        assert f"[{scheme} " in proxy.tries()[-1]
    finally:
        agent.stop()


@pytest.mark.parametrize("schemes, used", [(["basic"], "Basic"), (["digest"], "Digest"), (["basic", "digest"], "Digest")])
def test_http_authentication(shared, relay, target, schemes, used):
    proxy = shared.program_of(AuthSquid, *schemes)
    agent = shared.joined(relay, f"auth-{'-'.join(schemes)}")
    through(agent, target, url(proxy))
    assert f"[{used} " in proxy.tries()[0] and " user" in proxy.tries()[0]
    assert "--proxy-login" in refused(agent, target, url(proxy, ""))
    one_wrong_try(agent, target, proxy, used)
    log = agent.log.read_text()
    assert "secret" not in log and "wrong" not in log.replace("wrong@", "")


def test_basic_in_the_clear_only_where_nothing_stronger_is_offered(shared, agent, target):
    proxy = shared.program_of(AuthSquid, "basic", "digest")
    assert "--proxy-auth allows negotiate only" in refused(agent, target, url(proxy), flags=["--proxy-auth", "negotiate"])
    assert not proxy.tries()
    through(agent, target, url(proxy), flags=["--proxy-auth", "basic"])
    assert "[Basic " in proxy.tries()[0]
    assert "--proxy-auth" in refused(agent, target, url(proxy), flags=["--proxy-auth", "kerberos"], status=2)


def test_a_login_from_a_file_and_from_the_environment(shared, agent, target, tmp_path):
    proxy = shared.program_of(AuthSquid, "digest", login=("us er", "p:w@d/%"))
    login = tmp_path / "login"
    login.write_text("us er:p:w@d/%\n")
    assert "600" in refused(agent, target, url(proxy, ""), flags=["--proxy-login", login], status=2)
    login.chmod(0o600)
    through(agent, target, url(proxy, ""), flags=["--proxy-login", login])
    through(agent, target, env={"https_proxy": url(proxy, "us%20er:p%3Aw%40d%2F%25@")})
    through(agent, target, url(proxy, ""), env={"CULVERT_PROXY_LOGIN": str(login)})
    assert "p:w@d" not in agent.log.read_text()


def test_a_password_asked_for_at_the_terminal(shared, agent):
    """Not shown there, and not asked for where nobody sits."""
    target = shared.server(hold)
    proxy = shared.program_of(AuthSquid, "digest")
    command = [str(word) for word in (agent.program, "--state", agent.state, "agent", *agent.trust(), "--proxy", url(proxy, "user@"),
                                      "-W", target.at)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    shown = b""
    while b"Password for " not in shown:
        shown += os.read(terminal, 1000)
    assert f"http://user@127.0.0.1:{proxy.port}: ".encode() in shown
    os.write(terminal, b"secret\n")
    assert target.next() == "open"
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(terminal)
    assert b"secret" not in shown
    wait_for("the tunnel in the proxy's log", proxy.tries)
    assert " 200 " in proxy.tries()[0]
    assert "user or password refused" in refused(agent, target, url(proxy, "user@"))
    assert len(proxy.tries()) == 2


def test_authentication_over_https_and_in_a_chain(shared, agent, target, dante):
    first, second = shared.program_of(AuthSquid, "basic"), shared.program_of(AuthSquid, "digest", login=("other", "word"))
    front = shared.program_of(TlsFront, first.port)
    through(agent, target, f"https://user:secret@localhost:{front.port}", f"socks5h://127.0.0.1:{dante.port}",
            url(second, "other:word@"), flags=["--proxy-ca", front.ca])
    assert len(first.tries()) == len(second.tries()) == 1
    said = refused(agent, target, f"https://user:secret@localhost:{front.port}", url(second, "other:wrong@"),
                   flags=["--proxy-ca", front.ca])
    assert f"CONNECT via 127.0.0.1:{second.port}: proxy answered 407 (user or password refused; Digest offered)" in said


def without_ntlmssps_leak(folder):
    """Debian's gss-ntlmssp 1.2.0 keeps some KiB of every handshake; all other leaks are still told."""
    known = folder / "leaks"
    known.write_text("leak:gssntlmssp.so\n")
    options = os.environ.get("ASAN_OPTIONS", "detect_leaks=1")
    return {"ASAN_OPTIONS": f"{options}:fast_unwind_on_malloc=0", "LSAN_OPTIONS": f"suppressions={known}:print_suppressions=0"}


def test_ntlm(shared, relay, target, tmp_path):
    env = without_ntlmssps_leak(tmp_path)
    proxy = shared.program_of(AuthSquid, "ntlm", "basic")
    agent = shared.joined(relay, "auth-ntlm")
    through(agent, target, url(proxy), env=env)
    assert [line.split("[")[1][:5] for line in proxy.tries()] == ["NTLM ", "NTLM "] and " user" in proxy.tries()[-1]
    through(agent, target, url(proxy, "TESTDOM%5Cuser:secret@"), env=env)
    # two legs, of which the second shows what the password made
    before = len(proxy.tries())
    agent.start(["-L", f"0:{target.at}", "--proxy", url(proxy, "user:wrong@")], wait=False, env=env)
    try:
        agent.proc.wait_log("user or password refused")
        wait_for("three more attempts", lambda: agent.log.read_text().count("refused user or password before") >= 3)
    finally:
        agent.stop()
    assert len(proxy.tries()) == before + 2 and not any("Basic" in line for line in proxy.lines())
    assert "secret" not in agent.log.read_text()


def test_negotiate(shared, relay, target):
    kdc = shared.program_of(Kdc)
    proxy = shared.program_of(AuthSquid, "negotiate", "basic", kdc=kdc)
    at = f"localhost:{proxy.port}"
    agent = shared.joined(relay, "auth-negotiate")
    said = refused(agent, target, f"http://{at}", env=kdc.env)
    assert "(Negotiate, Basic offered): Negotiate: there is no Kerberos ticket" in said and "kinit" in said
    said = refused(agent, target, f"http://user:secret@{at}", env=kdc.env)
    assert "Basic would show the password" in said and not proxy.tries()
    through(agent, target, f"http://user:secret@{at}", flags=["--proxy-auth", "basic"], env=kdc.env)
    kdc.kinit()
    through(agent, target, f"http://{at}", env=kdc.env)
    assert "[Negotiate " in proxy.tries()[-1] and "alice@TEST.REALM" in proxy.tries()[-1]
    said = refused(agent, target, f"http://127.0.0.1:{proxy.port}", env=kdc.env)
    assert "Negotiate: " in said and "127.0.0.1" in said
    kdc.kdestroy()
