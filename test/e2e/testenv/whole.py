# SPDX-License-Identifier: Apache-2.0
"""A box that passes nothing but whole requests and whole answers, each over a connection of its own to the relay, and to which
misfortunes happen: it repeats, delays, loses, and answers in the relay's place. It ends TLS, as a filtering proxy does."""
import random
import socket
import ssl
import threading
import time

from .net import TcpServer, connect
from .programs import certificate

PASSED = {"host", "content-type", "cache-control", "content-length"}


def read_message(f):
    """A head and its body, by Content-Length only; None at the end."""
    first = f.readline()
    if not first:
        return None
    headers = {}
    while (line := f.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode().partition(":")
        headers[name.strip().lower()] = value.strip()
    return first.decode().strip(), headers, f.read(int(headers.get("content-length", 0)))


class WholeFront:
    """misfortunes: names of what may happen, one to every `rarely`-th request; see happen(). mute: says nothing at all to Upgrade."""

    def __init__(self, folder, behind, misfortunes=(), rarely=3, seed=1, mute=False, at="127.0.0.1:0"):
        folder.mkdir(parents=True, exist_ok=True)
        pem = certificate(folder, "whole")
        self.ca = folder / "whole.crt"
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pem)
        self.behind, self.misfortunes, self.rarely = behind, misfortunes, rarely
        self.random = random.Random(seed)
        self.happened = {name: 0 for name in misfortunes}
        self.requests = 0
        self.mute = mute
        self.server = TcpServer(self.serve, at)
        self.port = self.server.port

    def stop(self):
        self.server.stop()

    def forward(self, request):
        first, headers, body = request
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name in PASSED)
        with connect(self.behind, 60) as s:
            s.sendall(f"{first}\r\n{head}Connection: close\r\n\r\n".encode() + body)
            with s.makefile("rb") as f:
                return read_message(f)

    def haunt(self, request, after):
        time.sleep(after)
        try:
            self.forward(request)
        except (OSError, ValueError):
            pass

    def ghost(self, request, after):
        threading.Thread(target=self.haunt, args=(request, after), daemon=True).start()

    def happen(self, what, request):
        """Returns (status, body) that the caller gets, or None: its connection ends."""
        if what == "refused":
            return "502 Bad Gateway", b"<html>no</html>"
        if what == "twice":
            self.ghost(request, 0)
        elif what == "again":
            self.ghost(request, 0.3)
        elif what == "slow":
            time.sleep(0.05)
        first, headers, body = self.forward(request)
        status = first.split(" ", 1)[1]
        if what == "lost":
            return None
        if what == "late":
            return "504 Gateway Time-out", b"<html>late</html>"
        if what == "cut":
            return status, body[:len(body) // 2], len(body)
        return status, body

    def answer(self, s, request):
        self.requests += 1
        what = None
        if self.misfortunes and self.requests % self.rarely == 0:
            what = self.misfortunes[self.requests // self.rarely % len(self.misfortunes)]
            self.happened[what] += 1
        if "upgrade" in request[1] and self.mute:
            self.server.stopping.wait(120)
            return False
        if "upgrade" in request[1]:
            got = "403 Forbidden", b"<html>only the web</html>"
        else:
            got = self.happen(what, request)
        if got is None:
            return False
        if what == "chunked":
            s.sendall(f"HTTP/1.1 {got[0]}\r\nTransfer-Encoding: chunked\r\n\r\n".encode() +
                      b"".join(f"{len(part):x};x=y\r\n".encode() + part + b"\r\n" for part in (got[1][:7], got[1][7:]) if part) + b"0\r\n\r\n")
            return True
        length = got[2] if len(got) > 2 else len(got[1])
        keep = self.random.randrange(3) > 0 and len(got) == 2
        s.sendall(f"HTTP/1.1 {got[0]}\r\nContent-Length: {length}\r\nConnection: {'keep-alive' if keep else 'close'}\r\n\r\n".encode() + got[1])
        return keep

    def serve(self, server, s):
        try:
            s = self.context.wrap_socket(s, server_side=True)
            with s.makefile("rb") as f:
                while (request := read_message(f)) and self.answer(s, request):
                    pass
        except (OSError, ValueError, TypeError):
            pass
        finally:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
