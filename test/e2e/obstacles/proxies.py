# SPDX-License-Identifier: Apache-2.0
"""Networks whose only way out is a proxy, or a row of them."""
import sys
from pathlib import Path

from testenv.maze import FAR_GATE, GATE, GATE_6, PROXY_NAME, RELAY, RELAY_NAME
from testenv.programs import Squid, Tinyproxy, quietly
from testenv.proxies import AuthSquid, Dante, Kdc, Microsocks, TlsFront

from . import Way, by, scenario

NOWHERE = "10.77.1.99"
SQUID, SOCKS, HTTPS = 3128, 1080, 3129
PASSWD = "root:x:0:0::/:/bin/sh\nproxy:x:13:13::/:/bin/sh\nuser:x:2000:2000::/:/bin/sh\n"
SHADOW = "root:*:1::::::\nproxy:*:1::::::\nuser:{}:1::::::\n"


@scenario("squid, for everybody", "squid", "HTTP CONNECT")
def squid(lab):
    lab.start(Squid, SQUID)
    return by(f"http://proxy.test:{SQUID}")


@scenario("tinyproxy, which lets only port 443 through", "tinyproxy", "HTTP CONNECT")
def tinyproxy(lab):
    lab.start(Tinyproxy, 8888, connect_ports=[443])
    return by("http://proxy.test:8888")


@scenario("HTTP proxy, and no DNS at the client", "squid", "leaves the relay's name to the proxy")
def squid_no_dns(lab):
    lab.start(Squid, SQUID)
    lab.names()
    return by(f"http://{GATE}:{SQUID}")


@scenario("Proxy with an IPv6 address", "tinyproxy", "HTTP CONNECT")
def proxy_ipv6(lab):
    lab.start(Tinyproxy, 8888, host=GATE_6)
    return by(f"http://[{GATE_6}]:8888")


@scenario("Proxy with two addresses, of which the first swallows all packets", "squid", "dials the second one 250 ms later")
def proxy_first_address_blackholed(lab):
    lab.start(Squid, SQUID)
    lab.names(f"{NOWHERE} {PROXY_NAME}", f"{GATE} {PROXY_NAME}", f"{RELAY} {RELAY_NAME}")
    return by(f"http://proxy.test:{SQUID}")


def named(lab, *schemes, kind=AuthSquid, **more):
    """squid that asks for a name, and a check that it got it by the first of these schemes and no other."""
    proxy = lab.start(kind, SQUID, *schemes, **more)

    def check():
        assert proxy.tries() and all(f"[{schemes[0].capitalize()} ".lower() in line.lower() for line in proxy.tries())
    return proxy, check


@scenario("squid that asks for a password: Basic", "squid, basic_ncsa_auth", "answers the 407 by Basic, the only one offered")
def squid_basic(lab):
    _, check = named(lab, "basic")
    return by(f"http://user:secret@proxy.test:{SQUID}", check=check)


@scenario("squid that asks for a password: Digest or Basic", "squid, digest_file_auth", "takes Digest, the stronger one")
def squid_digest(lab):
    _, check = named(lab, "digest", "basic")
    return by(f"http://user:secret@proxy.test:{SQUID}", check=check)


class SpnegoSquid(AuthSquid):
    """Its NTLM helper is built on pyspnego."""

    def ntlm(self, user, password):
        users = self.write("ntlm-users", f"TESTDOM:{user}:{password}")
        packages = next(path for path in sys.path if Path(path, "spnego").is_dir())
        helper = Path(__file__).resolve().parents[1] / "testenv/spnego_helper.py"
        return [f"auth_param ntlm program /usr/bin/python3 {helper} {packages} {users}", "auth_param ntlm children 1",
                "auth_param ntlm keep_alive on"]


@scenario("squid that asks for NTLM or Basic", "squid, NTLMv2 verified by pyspnego", "takes NTLM, in three legs on one connection")
def squid_ntlm(lab):
    _, check = named(lab, "ntlm", "basic", kind=SpnegoSquid)
    return by(f"http://TESTDOM%5Cuser:secret@proxy.test:{SQUID}", env=without_ntlmssps_leak(lab.place), check=check)


def without_ntlmssps_leak(folder):
    """Debian's gss-ntlmssp 1.2.0 keeps some KiB of every handshake; all other leaks are still told."""
    folder.mkdir(exist_ok=True)
    known = folder / "leaks"
    known.write_text("leak:gssntlmssp.so\n")
    options = "detect_leaks=1:fast_unwind_on_malloc=0"
    return {"ASAN_OPTIONS": options, "LSAN_OPTIONS": f"suppressions={known}:print_suppressions=0"}


@scenario("squid that asks for Negotiate or Basic", "squid, negotiate_kerberos_auth, MIT krb5kdc",
          "takes Negotiate, by the ticket that kinit got")
def squid_negotiate(lab):
    kdc = lab.start(Kdc, 8088, proxy="proxy.test")
    with lab.maze.client:
        kdc.kinit()
    _, check = named(lab, "negotiate", "basic", kdc=kdc)
    return by(f"http://proxy.test:{SQUID}", env=kdc.env, check=check)


@scenario("HTTPS proxy with a CA of its own", "haproxy in front of squid", "TLS to the proxy, its name verified, then HTTP CONNECT")
def https_proxy(lab):
    lab.start(Squid, SQUID, admit=False)
    front = lab.start(TlsFront, HTTPS, SQUID, hosts=("proxy.test",), behind_host=GATE)
    return by(f"https://proxy.test:{HTTPS}", flags=("--proxy-ca", front.ca))


def dante(lab, port=SOCKS, users=False, **more):
    files = {}
    if users:
        lab.place.mkdir(parents=True, exist_ok=True)
        (lab.place / "passwd").write_text(PASSWD)
        (lab.place / "shadow").write_text(SHADOW.format(hashed(users)))
        files = {"/etc/passwd": lab.place / "passwd", "/etc/shadow": lab.place / "shadow"}
    return lab.start(Dante, port, users=bool(users), out="far", files=files, **more)


def hashed(password):
    return quietly("openssl", "passwd", "-6", password).decode().strip()


@scenario("SOCKS5 proxy", "dante", "SOCKS5, the relay's name resolved at the client")
def socks5(lab):
    dante(lab)
    return by(f"socks5://proxy.test:{SOCKS}")


@scenario("SOCKS5 proxy with user and password", "dante", "SOCKS5 with RFC 1929")
def socks5_password(lab):
    dante(lab, users="secret")
    return by(f"socks5://user:secret@proxy.test:{SOCKS}")


@scenario("SOCKS5 proxy, and no DNS at the client", "dante", "leaves the relay's name to the proxy")
def socks5h_no_dns(lab):
    dante(lab)
    lab.names()
    return by(f"socks5h://{GATE}:{SOCKS}")


@scenario("SOCKS5 proxy written socks5://, and no DNS at the client", "dante",
          "asks for the relay's name in vain, then leaves it to the proxy")
def socks5_no_dns(lab):
    dante(lab)
    lab.names()
    return by(f"socks5://{GATE}:{SOCKS}")


@scenario("Three proxies in a row: HTTP, SOCKS5 with a password, HTTPS", "squid, microsocks, haproxy and squid",
          "CONNECT in SOCKS5 in CONNECT in TLS")
def chain_http_socks_https(lab):
    lab.start(Squid, SQUID)
    lab.start(Microsocks, SOCKS, host=FAR_GATE, login=("user", "secret"), admit=False)
    front = lab.start(TlsFront, HTTPS, SQUID, hosts=("proxy.test",), behind_host=GATE, admit=False)
    return by(f"http://proxy.test:{SQUID}", f"socks5h://user:secret@{FAR_GATE}:{SOCKS}", f"https://proxy.test:{HTTPS}",
              flags=("--proxy-ca", front.ca))


@scenario("Three proxies in a row: SOCKS5, HTTPS, HTTP with Digest", "dante, haproxy and squid, squid",
          "CONNECT with Digest in TLS in SOCKS5")
def chain_socks_https_http(lab):
    dante(lab)
    lab.start(Squid, SQUID, admit=False)
    front = lab.start(TlsFront, HTTPS, SQUID, hosts=("proxy.test",), behind_host=GATE, admit=False)
    lab.start(AuthSquid, SQUID + 10, "digest", host=FAR_GATE, admit=False)
    return by(f"socks5://proxy.test:{SOCKS}", f"https://proxy.test:{HTTPS}", f"http://user:secret@{FAR_GATE}:{SQUID + 10}",
              flags=("--proxy-ca", front.ca))


@scenario("Proxy known to the environment only", "squid", "reads https_proxy; an exception for the relay's neighbours in no_proxy")
def environment(lab):
    lab.start(Squid, SQUID)
    return Way(env={"https_proxy": f"http://proxy.test:{SQUID}", "no_proxy": "localhost,.internal,10.0.0.0/16"})


@scenario("SOCKS5 proxy known to the environment only", "dante", "reads all_proxy")
def environment_socks(lab):
    dante(lab)
    return Way(env={"all_proxy": f"socks5h://proxy.test:{SOCKS}"})
