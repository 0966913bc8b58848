# SPDX-License-Identifier: Apache-2.0
"""Proxies that culvert finds: by PAC scripts that libproxy really runs, by the system's settings, by conf_proxy, by the environment;
which of them counts; and what is said when one cannot be asked."""
import json
import re
import stat
import threading

import pytest

from testenv.net import ask, connect, pattern_bytes, recv_exactly
from testenv.pac import HEAD, Pages, gnome, script
from testenv.proc import free_port, wait_for
from testenv.programs import Squid, Tinyproxy, tunnels
from testenv.proxies import Microsocks, TlsFront

DATA = pattern_bytes(100_000)


class Web:
    def __init__(self, shared):
        self.pages = Pages()
        self.server = shared.server(self.pages)
        self.asked = self.pages.asked

    def put(self, *page):
        return f"http://{self.server.at}{self.pages.put(*page)}"


@pytest.fixture(scope="module")
def pages(shared):
    return Web(shared)


@pytest.fixture(scope="module")
def tinyproxy(shared, relay):
    return shared.program_of(Tinyproxy, connect_ports=[relay.port])


@pytest.fixture(scope="module")
def squid(shared):
    return shared.program_of(Squid)


@pytest.fixture(scope="module")
def agent(shared, relay):
    """Joined, and run anew by each test."""
    return shared.joined(relay, "finder")


def go(agent, target, *flags, env=None):
    return agent.run("agent", *agent.trust(), *flags, "-W", target.at, stdin="through", env=env)


def went(done):
    return (done.returncode, done.stdout) == (0, "through")


# --- PAC scripts


def test_a_script_names_a_proxy(agent, relay, target, pages, tinyproxy):
    before = tunnels(tinyproxy, relay.port)
    done = go(agent, target, "--proxy", "pac+" + pages.put("/proxy.pac", script(f"PROXY 127.0.0.1:{tinyproxy.port}")))
    assert went(done), done.stderr
    assert tunnels(tinyproxy, relay.port) > before
    assert "GET /proxy.pac HTTP/1.0" in pages.asked[-1] and f"Host: {pages.server.at}" in pages.asked[-1]


def test_a_script_in_a_file_that_looks_at_its_arguments(agent, relay, target, tinyproxy, tmp_path):
    file = tmp_path / "my proxy.pac"
    file.write_text(f"""function FindProxyForURL(url, host) {{
        if (url == "https://localhost:{relay.port}/" && host == "localhost" && dnsDomainIs(host, "localhost") &&
            isInNet(dnsResolve("localhost"), "127.0.0.0", "255.0.0.0") && shExpMatch(host, "local*"))
            return "PROXY 127.0.0.1:{tinyproxy.port}";
        return "PROXY 127.0.0.1:1";
    }}""")
    before = tunnels(tinyproxy, relay.port)
    done = go(agent, target, "--proxy", f"pac+file://{str(file).replace(' ', '%20')}")
    assert went(done), done.stderr
    assert tunnels(tinyproxy, relay.port) > before


def test_socks_in_a_script(shared, agent, target, pages):
    socks = shared.program_of(Microsocks)
    for kind in ("SOCKS5", "SOCKS"):
        agent.start(["-L", f"0:{target.at}", "--proxy", "pac+" + pages.put("/socks", script(f"{kind} 127.0.0.1:{socks.port}"))])
        assert ask(agent.at(), DATA) == DATA
        proxy = agent.status()["proxy"]
        assert f"via 127.0.0.1:{socks.port}" in proxy["ways"] and proxy["used"] == f"via 127.0.0.1:{socks.port}"
        agent.stop()


def test_https_in_a_script(shared, agent, relay, target, pages, squid):
    front = shared.program_of(TlsFront, squid.port)
    agent.start(["-L", f"0:{target.at}", "--proxy-ca", front.ca,
                 "--proxy", "pac+" + pages.put("/https", script(f"HTTPS localhost:{front.port}"))])
    assert ask(agent.at(), DATA) == DATA
    assert agent.status()["proxy"]["used"] == f"via localhost:{front.port}"
    agent.stop()
    wait_for("squid's log", lambda: tunnels(squid, relay.port))


def test_direct_in_a_script_and_a_script_over_https(shared, agent, target, pages):
    url = pages.put("/direct", script("DIRECT"))
    front = shared.program_of(TlsFront, pages.server.port)
    done = go(agent, target, "--proxy-ca", front.ca, "--proxy", f"pac+https://localhost:{front.port}/direct")
    assert went(done), done.stderr
    done = go(agent, target, "--proxy", f"pac+https://localhost:{front.port}/direct")
    assert done.returncode == 3 and "certificate of its server localhost is not trusted" in done.stderr
    assert went(go(agent, target, "--proxy", "pac+" + url))


def test_the_first_that_works_is_used(agent, relay, target, pages, tinyproxy):
    dead = free_port()
    url = pages.put("/several", script(f"PROXY 127.0.0.1:{dead}; QUIC x:1; PROXY 127.0.0.1:{tinyproxy.port}; DIRECT"))
    agent.start(["-L", f"0:{target.at}", "--proxy", "pac+" + url])
    assert ask(agent.at(), DATA) == DATA
    proxy = agent.status()["proxy"]
    agent.stop()
    assert proxy["from"] == f"PAC {url}" and proxy["settled"]
    assert proxy["ways"] == f"via 127.0.0.1:{dead}, then via 127.0.0.1:{tinyproxy.port}, then direct"
    assert proxy["used"] == f"via 127.0.0.1:{tinyproxy.port}"


def test_a_login_for_the_proxies_of_a_script(shared, agent, target, pages, tmp_path):
    proxy = shared.program_of(Squid, login=("user", "s3cret"))
    secret = tmp_path / "login"
    secret.write_text("user:s3cret\n")
    secret.chmod(0o600)
    url = pages.put("/login", script(f"PROXY 127.0.0.1:{proxy.port}"))
    done = go(agent, target, "--proxy", "pac+" + url, "--proxy-login", secret)
    assert went(done), done.stderr
    done = go(agent, target, "--proxy", "pac+" + url)
    assert done.returncode == 3 and "407" in done.stderr and f"(proxy from PAC {url})" in done.stderr


def test_check_looks_at_what_is_found(agent, target, pages, tinyproxy):
    dead = free_port()
    url = pages.put("/check", script(f"PROXY 127.0.0.1:{dead}; PROXY 127.0.0.1:{tinyproxy.port}"))
    done = agent.run("check", *agent.trust(), "--proxy", "pac+" + url, "--json")
    report = json.loads(done.stdout)["relays"][0]
    assert done.returncode == 0 and report["choice"]["way"] == f"via 127.0.0.1:{tinyproxy.port}", report
    found = next(row for row in report["probes"] if row["probe"] == "found")
    assert found["subject"] == f"PAC {url}" and f"via 127.0.0.1:{dead}, then via" in found["seen"]
    done = agent.run("check", *agent.trust(), "--proxy", f"pac+http://127.0.0.1:{dead}/x")
    assert "--proxy none" in done.stdout and "Connection refused" in done.stdout


def test_none_works_and_all_are_told(agent, target, pages):
    ports = free_port(), free_port()
    url = pages.put("/none", script(f"PROXY 127.0.0.1:{ports[0]}; SOCKS5 127.0.0.1:{ports[1]}"))
    done = go(agent, target, "--proxy", "pac+" + url)
    assert done.returncode == 3 and f"from PAC {url}" in done.stderr
    assert all(f"127.0.0.1:{port}" in done.stderr for port in ports)


def test_a_script_behind_a_redirect(agent, target, pages):
    pages.put("/moved", script("DIRECT"))
    url = pages.put("/here", "", b"HTTP/1.1 302 Found\r\nLocation: /moved\r\nContent-Length: 0\r\n\r\n")
    assert went(go(agent, target, "--proxy", "pac+" + url))
    url = pages.put("/round", "", b"HTTP/1.1 302 Found\r\nLocation: /round\r\nContent-Length: 0\r\n\r\n")
    done = go(agent, target, "--proxy", "pac+" + url)
    assert done.returncode == 3 and "sends on more than 4 times" in done.stderr
    url = pages.put("/file", "", b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n")
    done = go(agent, target, "--proxy", "pac+" + url)
    assert done.returncode == 3 and "is not followed" in done.stderr


TROUBLE = [
    ("404", b"HTTP/1.0 404 Not Found\r\n\r\n", "", "answers 404 Not Found"),
    ("a page", HEAD, "<html>Welcome</html>", "is no PAC script"),
    ("empty", HEAD, "", "is empty"),
    ("no HTTP", b"SSH-2.0-x\r\n\r\n", "", "does not answer in HTTP"),
    ("nothing", b"", "", "answers nothing"),
    ("zeros", HEAD, "FindProxyForURL\0", "is no text"),
    ("cut", b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n", script("DIRECT"), "ended the answer after"),
    ("huge", HEAD, "//" + "x" * (1 << 20) + "\n" + script("DIRECT"), "is larger than 1 MiB"),
    ("syntax", HEAD, "function FindProxyForURL(url, host) { return 'DIRECT' ", "cannot be understood"),
    ("throws", HEAD, "function FindProxyForURL(url, host) { return nowhere(); }", "the script failed"),
    ("a number", HEAD, "function FindProxyForURL(url, host) { return 7; }", "gives no text"),
    ("nonsense", HEAD, script("TELEPORT x:1; PROXY :; PROXY \\x1b[31m"), "names no proxy that can be used"),
    ("endless", HEAD, "function FindProxyForURL(url, host) { for (;;) ; }", "has not ended in 4 s"),
    ("hungry", HEAD, "function FindProxyForURL(url, host) { var a = []; for (;;) a.push(new Array(100000).fill(url)); }",
     "of memory|has not ended|crashed"),  # whichever comes first on a busy machine
]


@pytest.mark.parametrize("head, text, said", [t[1:] for t in TROUBLE], ids=[t[0] for t in TROUBLE])
def test_a_script_that_is_none(agent, target, pages, head, text, said):
    url = pages.put("/trouble", text, head)
    done = go(agent, target, "--proxy", "pac+" + url)
    assert done.returncode == 3 and done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and f"PAC {url}" in lines[0] and re.search(said, lines[0]), lines
    assert "\x1b" not in done.stderr


def test_a_script_that_is_not_reached(agent, target, tmp_path):
    port = free_port()
    for url, said in ((f"http://127.0.0.1:{port}/x.pac", f"its server 127.0.0.1:{port}: Connection refused"),
                      (f"file://{tmp_path}/none.pac", "No such file"), (f"file://{tmp_path}", "is no file"),
                      ("http://nowhere.invalid/x.pac", "nowhere.invalid is not known")):
        done = go(agent, target, "--proxy", "pac+" + url)
        assert done.returncode == 3 and f"PAC {url}" in done.stderr and said in done.stderr


def test_usage(agent, target):
    for words, said in ((["--proxy", "pac+ftp://x/"], "pac+http"), (["--proxy", "pac+file:///x", "--proxy", "http://a"], "stand alone")):
        done = go(agent, target, *words)
        assert done.returncode == 2 and said in done.stderr


# --- the system's settings


def test_a_proxy_in_gnomes_settings(agent, relay, target, tinyproxy, tmp_path):
    env = gnome(tmp_path, "mode='manual'", "[system/proxy/https]", "host='127.0.0.1'", f"port={tinyproxy.port}")
    before = tunnels(tinyproxy, relay.port)
    agent.start(["-L", f"0:{target.at}"], env=env)
    assert ask(agent.at(), DATA) == DATA
    proxy = agent.status()["proxy"]
    agent.stop()
    assert proxy["from"] == "the system's settings" and tunnels(tinyproxy, relay.port) > before
    assert 'from="the system\'s settings"' in agent.log.read_text()
    done = go(agent, target, env=gnome(tmp_path, "mode='manual'", "[system/proxy/https]", "host='127.0.0.1'", f"port={free_port()}"))
    assert done.returncode == 3 and "from the system's settings" in done.stderr


def test_a_script_in_gnomes_settings(agent, relay, target, pages, tinyproxy, tmp_path):
    url = pages.put("/gnome", script(f"PROXY 127.0.0.1:{tinyproxy.port}"))
    agent.start(["-L", f"0:{target.at}"], env=gnome(tmp_path, "mode='auto'", f"autoconfig-url='{url}'"))
    assert ask(agent.at(), DATA) == DATA
    proxy = agent.status()["proxy"]
    agent.stop()
    assert proxy["from"] == f"PAC {url} of the system's settings" and proxy["used"] == f"via 127.0.0.1:{tinyproxy.port}"


def test_a_script_of_the_settings_that_is_not_reached_is_told_and_direct_is_tried(agent, target, tmp_path):
    url = f"http://127.0.0.1:{free_port()}/x.pac"
    agent.start(["-L", f"0:{target.at}"], env=gnome(tmp_path, "mode='auto'", f"autoconfig-url='{url}'"))
    assert ask(agent.at(), DATA) == DATA
    proxy = agent.status()["proxy"]
    agent.stop()
    assert proxy["used"] == "direct" and url in proxy["note"] and "Connection refused" in proxy["note"]
    assert f"no proxy from PAC {url}" in agent.log.read_text()


def test_without_libproxy(agent, target, pages, tmp_path):
    (tmp_path / "libproxy.so.1").write_bytes(b"")  # stands before the real one
    env = {"LD_LIBRARY_PATH": str(tmp_path)}
    agent.start(["-L", f"0:{target.at}"], env=env)
    assert ask(agent.at(), DATA) == DATA
    note = agent.status()["proxy"]["note"]
    agent.stop()
    assert "not asked: libproxy is not installed" in note and "libproxy1v5" in note and note in agent.log.read_text()
    done = go(agent, target, "--proxy", "pac+" + pages.put("/missing", script("DIRECT")), env=env)
    assert done.returncode == 3 and "install libproxy1v5 and libproxy1-plugin-webkit" in done.stderr


def test_without_the_plugin_that_runs_scripts(agent, target, pages, tmp_path):
    done = go(agent, target, "--proxy", "pac+" + pages.put("/plugin", script("DIRECT")), env={"PX_MODULE_PATH": str(tmp_path)})
    assert done.returncode == 3 and "install libproxy1-plugin-webkit" in done.stderr


# --- who goes first


def test_the_order(shared, relay, target, pages, tinyproxy, squid, tmp_path):
    """--proxy, conf_proxy, the environment, the system's settings."""
    agent = shared.joined(relay, "orderly")
    dead = f"http://127.0.0.1:{free_port()}"
    system = gnome(tmp_path, "mode='manual'", "[system/proxy/https]", "host='127.0.0.1'", f"port={tinyproxy.port}")
    steps = [(["--proxy", squid.url], squid.url, {"https_proxy": dead}, squid),
             ([], squid.url, {"https_proxy": dead}, squid),
             ([], None, {**system, "https_proxy": squid.url}, squid),
             ([], None, system, tinyproxy)]
    for flags, saved, env, through in steps:
        assert agent.run("conf_proxy", saved or "none").returncode == 0
        before = tunnels(through, relay.port)
        done = go(agent, target, *flags, env=env)
        assert went(done), done.stderr
        wait_for("the proxy's log", lambda: tunnels(through, relay.port) > before)
    before = tunnels(tinyproxy, relay.port)
    assert went(go(agent, target, env={**system, "no_proxy": "localhost"}))
    assert tunnels(tinyproxy, relay.port) == before
    assert went(go(agent, target, "--proxy", "none", env={"https_proxy": dead}))


def test_a_script_in_the_environment(agent, relay, target, pages, tinyproxy):
    before = tunnels(tinyproxy, relay.port)
    url = pages.put("/environment", script(f"PROXY 127.0.0.1:{tinyproxy.port}"))
    done = go(agent, target, env={"https_proxy": f"pac+{url}"})
    assert went(done) and tunnels(tinyproxy, relay.port) > before, done.stderr


def test_errors_say_where_the_proxy_came_from(agent, target):
    dead = f"http://127.0.0.1:{free_port()}"
    done = go(agent, target, env={"https_proxy": dead})
    assert done.returncode == 3 and "(from environment https_proxy)" in done.stderr
    assert agent.run("conf_proxy", dead).returncode == 0
    done = go(agent, target)
    assert agent.run("conf_proxy", "none").returncode == 0
    assert done.returncode == 3 and "(from conf_proxy)" in done.stderr


# --- conf_proxy


def test_saving_and_showing(shared, relay):
    agent = shared.joined(relay, "saver")
    assert agent.run("conf_proxy").stdout == "none\n"
    done = agent.run("conf_proxy", "-", stdin="https://me:s3cret@proxy.test:8443\nsocks5h://inner.test\n")
    assert done.returncode == 0 and "no agent is running" in done.stdout
    file = agent.state / "conf_proxy"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and "s3cret" in file.read_text()
    shown = agent.run("conf_proxy").stdout
    assert shown == "https://me:***@proxy.test:8443\nsocks5h://inner.test:1080\n"
    for bad in ("http://proxy.test:99999", "pac+ftp://x", "gopher://x", ""):
        done = agent.run("conf_proxy", bad)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert agent.run("conf_proxy").stdout == shown
    assert agent.run("conf_proxy", "none").returncode == 0 and not file.exists()
    file.write_text("http://a:1\n")
    file.chmod(0o644)
    done = agent.run("agent", "-D", "0")
    assert done.returncode == 2 and "conf_proxy" in done.stderr
    file.unlink()


def test_a_running_agent_changes_its_proxy_under_a_transfer(shared, relay, tinyproxy, squid):
    """Made before broken: an echo goes on through every change, and nothing is reset."""
    target = shared.server()
    agent = shared.joined(relay, "mover")
    agent.start(["-L", f"0:{target.at}"], env={"no_proxy": "*"})
    assert agent.status()["proxy"]["used"] == "direct"
    block, rounds, over = pattern_bytes(60_000), [], threading.Event()

    def chatter():
        with connect(agent.at()) as s:
            while not over.is_set():
                s.sendall(block)
                rounds.append(recv_exactly(s, len(block)) == block)
    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        for proxy in (tinyproxy, squid):
            wait_for("some rounds", lambda n=len(rounds): len(rounds) > n + 3)
            done = agent.run("conf_proxy", proxy.url)
            assert (done.returncode, done.stdout) == (0, f"agent {agent.proc.pid}: connected via 127.0.0.1:{proxy.port} from conf_proxy\n")
            assert agent.status()["proxy"]["used"] == f"via 127.0.0.1:{proxy.port}"
            wait_for("the old carrier's end", lambda: len(agent.table("carriers")) == 1)
        held = len(rounds)
        done = agent.run("conf_proxy", f"http://127.0.0.1:{free_port()}", patience=90)
        assert done.returncode == 3 and "not connected by it yet" in done.stdout and "Connection refused" in done.stdout
        wait_for("rounds by the carrier that stayed", lambda: len(rounds) > held + 3)
        done = agent.run("conf_proxy", "none")
        assert (done.returncode, done.stdout) == (0, f"agent {agent.proc.pid}: connected direct from environment no_proxy\n")
        wait_for("rounds after all", lambda n=len(rounds): len(rounds) > n + 3)
    finally:
        over.set()
        thread.join(60)
    agent.stop()
    assert rounds and all(rounds)
    assert "reset" not in agent.log.read_text()


def test_a_flag_goes_first_while_it_runs(shared, relay, squid):
    agent = shared.joined(relay, "flagged")
    agent.start(["-D", "0", "--proxy", squid.url])
    done = agent.run("conf_proxy", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 0 and "was started with --proxy, which goes first" in done.stdout
    assert agent.status()["proxy"]["used"] == f"via 127.0.0.1:{squid.port}"


def test_hup_asks_the_script_again(shared, relay, pages, tinyproxy, squid):
    target = shared.server()
    agent = shared.joined(relay, "hup")
    url = pages.put("/hup", script(f"PROXY 127.0.0.1:{tinyproxy.port}"))
    agent.start(["-L", f"0:{target.at}", "--proxy", "pac+" + url])
    with connect(agent.at()) as s:
        s.sendall(b"before")
        assert recv_exactly(s, 6) == b"before"
        pages.put("/hup", script(f"PROXY 127.0.0.1:{squid.port}"))
        agent.proc.popen.send_signal(1)
        wait_for("the other proxy", lambda: agent.status()["proxy"]["used"] == f"via 127.0.0.1:{squid.port}")
        s.sendall(b"after")
        assert recv_exactly(s, 5) == b"after"


def test_a_script_answers_another_way_after_failures(shared, relay, pages, tinyproxy):
    agent = shared.joined(relay, "patient")
    url = pages.put("/later", script(f"PROXY 127.0.0.1:{free_port()}"))
    agent.start(["-D", "0", "--proxy", "pac+" + url], wait=False)
    wait_for("an attempt that failed", lambda: "Connection refused" in agent.log.read_text())
    pages.put("/later", script(f"PROXY 127.0.0.1:{tinyproxy.port}"))
    agent.wait_ready()
    assert agent.status()["proxy"]["used"] == f"via 127.0.0.1:{tinyproxy.port}"
