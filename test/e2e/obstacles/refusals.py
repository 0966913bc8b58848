# SPDX-License-Identifier: Apache-2.0
"""Hops that say no, or nothing that makes sense: what is said of them, word for word."""
from testenv.maze import FRONT_NAME, RELAY, RELAY_NAME
from testenv.net import greet
from testenv.programs import Program, Sshd, Squid, Tinyproxy, find
from testenv.proxies import AuthSquid, Microsocks
from testenv.webs import Nginx

from . import Way, by, scenario

PROXY = 3128
ADDRESS = f"{RELAY} {RELAY_NAME}"
HERE = f"proxy.test:{PROXY}"


@scenario("Proxy that forbids the port", "tinyproxy", "says which hop refused, and what would help", status=3,
          says="dial relay.test:443: CONNECT via proxy.test:3128: proxy answered 403 (Access violation); ask "
               "who runs the proxy to allow CONNECT to the relay's host and port; many allow port 443 only, so "
               "run the relay there")
def forbidden_port(lab):
    lab.start(Tinyproxy, PROXY, connect_ports=[8443])
    return by(f"http://{HERE}")


@scenario("Proxy that forbids the client: 403 with a page", "squid", "skips the page", status=3,
          says="dial relay.test:443: CONNECT via proxy.test:3128: proxy answered 403 (Forbidden); ask who runs "
               "the proxy to allow CONNECT to the relay's host and port; many allow port 443 only, so run the "
               "relay there")
def forbidden(lab):
    lab.start(Squid, PROXY, allow="!all")
    return by(f"http://{HERE}")


class Gateway(Program):
    """haproxy that answers all requests with one status."""

    def start(self, status):
        config = self.write("haproxy.cfg", "defaults", "    mode http", "    timeout connect 10s", "    timeout client 10s",
                            "    timeout server 10s", "frontend all", f"    bind {self.host}:{self.port}",
                            f"    http-request deny deny_status {status}")
        return self.launch(find("haproxy"), "-db", "-f", config)


@scenario("Proxy whose way on is broken: 502", "haproxy", "says which hop, and that it is the way behind it", status=3,
          says="dial relay.test:443: CONNECT via proxy.test:3128: proxy answered 502 (Bad Gateway); the proxy "
               "itself does not reach the relay: check the relay's name and port, and whether it runs")
def bad_gateway(lab):
    lab.start(Gateway, PROXY, 502)
    return by(f"http://{HERE}")


@scenario("Web server where a proxy should be: 400 and HTML", "nginx", "says that it is no proxy", status=3,
          says="dial relay.test:443: CONNECT via proxy.test:3128: proxy answered 400 (Bad Request); check kind "
               "and port of the proxy: http, https, h2, socks4a, socks5 or socks5h")
def web_server(lab):
    lab.start(Nginx, PROXY)
    return by(f"http://{HERE}")


@scenario("HTML without any status", "a server of the test's own", "says what is wrong with the answer", status=3,
          says="dial relay.test:443: CONNECT via proxy.test:3128: proxy's answer is not HTTP: a bare LF in the "
               "head; check kind and port of the proxy: http, https, h2, socks4a, socks5 or socks5h")
def bare_html(lab):
    lab.serve(PROXY, greet(b"<html><body>Welcome to the hotel. Please log in.</body></html>\n"))
    return by(f"http://{HERE}")


@scenario("Garbage: another protocol answers", "OpenSSH's sshd", "says what is wrong with the answer", status=3,
          says="dial relay.test:443: CONNECT via proxy.test:3128: proxy's answer is not HTTP: not an HTTP/1 "
               "status line; check kind and port of the proxy: http, https, h2, socks4a, socks5 or socks5h")
def garbage(lab):
    lab.start(Sshd, PROXY)
    return by(f"http://{HERE}")


@scenario("Proxy that hangs up without a word", "a server of the test's own", "says so", status=3,
          says="dial relay.test:443: CONNECT via proxy.test:3128: proxy closed the connection without an answer; "
               "check kind and port of the proxy, and ask who runs it whether this machine may use it")
def nothing(lab):
    def serve(server, s):
        s.recv(4096)
    lab.serve(PROXY, serve)
    return by(f"http://{HERE}")


@scenario("Proxy that accepts and never answers", "a server of the test's own", "gives up after its patience", long=True, status=3,
          says="dial relay.test:443: proxy http://proxy.test:3128 has not answered in 15 s; the proxy does not "
               "answer: check its kind, host and port, or use --proxy none if this network needs none")
def silence(lab):
    def serve(server, s):
        while s.recv(4096):
            pass
    lab.serve(PROXY, serve)
    return by(f"http://{HERE}")


@scenario("No proxy at that address", "nothing listens", "says so", status=3,
          says="dial relay.test:443: proxy proxy.test:3128 (--proxy): connect to 10.77.1.1:3128: Connection "
               "refused; nothing listens there: check the proxy's host and port")
def no_proxy_there(lab):
    lab.maze.admit(PROXY)
    return by(f"http://{HERE}")


@scenario("Proxy that wants a name, and none is known", "squid, basic_ncsa_auth", "says where to write it", status=3,
          says="dial relay.test:443: CONNECT via proxy.test:3128: proxy answered 407 (Basic offered): name "
               "user and password in its URL or in the file of --proxy-login")
def no_login(lab):
    lab.start(AuthSquid, PROXY, "basic")
    return by(f"http://{HERE}")


@scenario("Proxy that knows another password", "squid, digest_file_auth", "tries it once", status=3,
          says="dial relay.test:443: CONNECT via proxy.test:3128: proxy answered 407 (user or password "
               "refused; Digest offered): correct them; they are not tried again until then")
def wrong_password(lab):
    proxy = lab.start(AuthSquid, PROXY, "digest")

    def check():
        assert len(proxy.tries()) == 1
    return by(f"http://user:wrong@{HERE}", check=check)


@scenario("SOCKS5 proxy that knows another password", "microsocks", "tries it once", status=3,
          says="dial relay.test:443: SOCKS5 via proxy.test:1080: the proxy refused user or password; they are "
               "not tried again until they are corrected")
def wrong_password_socks(lab):
    lab.start(Microsocks, 1080, login=("user", "secret"))
    return by("socks5h://user:wrong@proxy.test:1080")


@scenario("HTTP proxy written as SOCKS5", "squid", "gives up after its patience", long=True, status=3,
          says="dial relay.test:443: proxy socks5h://proxy.test:3128 has not answered in 15 s; the proxy does "
               "not answer: check its kind, host and port, or use --proxy none if this network needs none")
def http_as_socks(lab):
    lab.start(Squid, PROXY)
    return by(f"socks5h://{HERE}")


@scenario("SOCKS5 proxy written as HTTP", "microsocks", "says what came, and to check the kind", status=3,
          says="dial relay.test:443: CONNECT via proxy.test:1080: proxy's answer is not HTTP: a control "
               "character in the head; check kind and port of the proxy: http, https, h2, socks4a, socks5 or "
               "socks5h")
def socks_as_http(lab):
    lab.start(Microsocks, 1080)
    return by("http://proxy.test:1080")


@scenario("Firewall that resets every connection", "nftables", "says so", status=3,
          says="dial relay.test:443: connect to 10.77.2.2:443: Connection refused; check that the relay runs "
               "and that host and port are right; if a firewall refuses, name a proxy with --proxy, or run the "
               "relay on port 443")
def firewall_resets(lab):
    lab.names(ADDRESS)
    lab.maze.rules('insert rule inet maze through iifname "near" meta l4proto tcp reject with tcp reset')
    return Way()


@scenario("Firewall that prohibits every connection by ICMP", "nftables", "says so", status=3,
          says="dial relay.test:443: connect to 10.77.2.2:443: No route to host; there is no way to that "
               "network, or a firewall says so: check this machine's connection, or name the proxy of this "
               "network with --proxy")
def firewall_prohibits(lab):
    lab.names(ADDRESS)
    lab.maze.rules('insert rule inet maze through iifname "near" reject with icmpx admin-prohibited')
    return Way()


@scenario("Firewall that swallows everything", "nftables", "gives up after its patience", long=True, status=3,
          says="dial relay.test:443: no connection in 20 s; a firewall drops it, or the host is down: name the "
               "proxy of this network with --proxy, or run the relay on port 443")
def firewall_swallows(lab):
    return Way()


@scenario("Login page of a hotel in place of everything, without TLS", "nginx, transparent", "says that no TLS is spoken there", status=3,
          says="dial relay.test:443: TLS with relay.test:443: the peer does not speak TLS there; check the "
               "port, or write ws:// if the relay is reached without TLS; where a login page of this network "
               "answers in its place, open any http:// page in a browser first")
def portal(lab):
    lab.start(Nginx, 8080, "return 302 http://login.test/;")
    lab.maze.turn("tcp dport 443", 8080)
    return Way()


@scenario("Web server at the relay's address, and no relay behind it", "nginx", "says that a web server answers", status=3,
          says="dial www.test:443: WebSocket at www.test/: the server answered 404 (Not Found); a web server "
               "answers, and no relay: check host, port and path of the relay's URL, and that its front passes "
               "WebSocket on")
def no_relay_there(lab):
    front = lab.start(Nginx, 443, hosts=(FRONT_NAME,))
    return Way(("--relay", f"wss://{FRONT_NAME}", "--ca", front.ca))
