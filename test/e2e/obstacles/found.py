# SPDX-License-Identifier: Apache-2.0
"""Proxies that culvert has to find."""
from testenv.culvert import must
from testenv.maze import GATE, NAMES
from testenv.pac import Pages, gnome, script
from testenv.programs import Squid, WebServer

from . import Way, scenario

SQUID, WEB = 3128, 80
PAC = """function FindProxyForURL(url, host) {
    if (shExpMatch(host, "*.internal")) return "DIRECT";
    return "%s";
}
"""


class PacServer(WebServer):
    def start(self, answer):
        (self.folder / "files").mkdir()
        (self.folder / "files/proxy.pac").write_text(PAC % answer)
        return super().start()


@scenario("Proxy known to a PAC file only", "squid; the file from a web server", "fetches the file and asks libproxy")
def pac(lab):
    lab.start(Squid, SQUID)
    lab.start(PacServer, WEB, f"PROXY proxy.test:{SQUID}; DIRECT")
    return Way(("--proxy", "pac+http://proxy.test/proxy.pac"))


@scenario("PAC file whose first proxy is dead", "squid; the file from a web server", "goes on with the next one")
def pac_second(lab):
    lab.start(Squid, SQUID)
    lab.maze.admit(3999)
    lab.start(PacServer, WEB, f"PROXY proxy.test:3999; PROXY proxy.test:{SQUID}")
    return Way(("--proxy", "pac+http://proxy.test/proxy.pac"))


@scenario("Proxy saved by culvert conf_proxy, and no other word of it", "squid", "uses what was saved")
def saved(lab):
    lab.start(Squid, SQUID)
    return Way(prepare=lambda agent: must(agent.run("conf_proxy", f"http://proxy.test:{SQUID}")))


@scenario("PAC file that cannot be fetched", "nothing listens", "says so, and does not go round the proxy", status=3,
          says="no proxy from PAC http://proxy.test/proxy.pac: its server 10.77.1.1:80: Connection refused")
def no_pac(lab):
    lab.maze.admit(WEB)
    return Way(("--proxy", "pac+http://proxy.test/proxy.pac"))


@scenario("Proxy known to the desktop's settings only", "squid, libproxy, GNOME's settings", "asks libproxy")
def desktop(lab):
    lab.start(Squid, SQUID)
    return Way(env=gnome(lab.place / "gnome", "mode='manual'", "[system/proxy/https]", "host='proxy.test'", f"port={SQUID}"))


@scenario("Desktop whose settings name a PAC file", "squid, a web server, libproxy, GNOME's settings", "fetches the file that they name")
def desktop_pac(lab):
    lab.start(Squid, SQUID)
    lab.start(PacServer, WEB, f"PROXY proxy.test:{SQUID}")
    return Way(env=gnome(lab.place / "gnome", "mode='auto'", "autoconfig-url='http://proxy.test/proxy.pac'"))


@scenario("Desktop that says: find the proxy by yourself (WPAD)", "squid, libproxy, GNOME's settings",
          "fetches http://wpad/wpad.dat, since the settings ask for it")
def wpad(lab):
    pages = Pages()
    pages.put("/wpad.dat", script(f"PROXY proxy.test:{SQUID}"))
    lab.start(Squid, SQUID)
    lab.names(*NAMES, f"{GATE} wpad")
    lab.serve(WEB, pages)
    return Way(env=gnome(lab.place / "gnome", "mode='auto'"))
