# SPDX-License-Identifier: Apache-2.0
"""PAC scripts, a web server that gives them, and desktops whose settings name them."""
from .net import recv_head

HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: application/x-ns-proxy-autoconfig\r\n\r\n"


def script(answer):
    return f'function FindProxyForURL(url, host) {{ return "{answer}"; }}\n'


class Pages:
    """What a TcpServer serves: each path has its answer; notes what was asked for."""

    def __init__(self):
        self.pages, self.asked = {}, []

    def __call__(self, server, s):
        head = recv_head(s)
        if not head:
            return
        self.asked.append(head.decode())
        s.sendall(self.pages[head.split()[1].decode()])
        s.shutdown(1)
        while s.recv(65536):
            pass

    def put(self, path, text, head=HEAD):
        self.pages[path] = head + (text if isinstance(text, bytes) else text.encode())
        return path


def gnome(folder, *lines):
    """The environment of a GNOME session whose proxy settings are these."""
    file = folder / "glib-2.0/settings/keyfile"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(("[system/proxy]", "ignore-hosts=@as []", *lines, "")))
    return {"DESKTOP_SESSION": "gnome", "GSETTINGS_BACKEND": "keyfile", "XDG_CONFIG_HOME": str(folder)}
