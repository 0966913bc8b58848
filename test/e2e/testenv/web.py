# SPDX-License-Identifier: Apache-2.0
"""Web servers that stand for a decoy: nginx, and one in Python that notes what it was asked."""
import base64
import hashlib
import re

from .net import recv_exactly, recv_head
from .programs import Program, find


class Nginx(Program):
    """nginx as one process with these servers; {port} and {folder} are filled in. www/index.html is there."""

    def start(self, servers, **values):
        (self.folder / "www").mkdir(exist_ok=True)
        (self.folder / "www/index.html").write_text("<html>A page about nothing.</html>\n" * 30)
        servers = servers.format(port=self.port, folder=self.folder, **values)
        config = self.write("nginx.conf", "daemon off;", "master_process off;", f"pid {self.folder}/pid;",
                            f"error_log {self.folder}/error.log;", "events { worker_connections 500; }", "http {",
                            *[f"{what}_temp_path {self.folder}/{what};" for what in
                              ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")],
                            f"access_log {self.folder}/access;", "default_type text/html;", servers, "}")
        return self.launch(find("nginx"), "-e", self.folder / "error.log", "-c", config)


class Web:
    """Answers 200 with what it was sent, grants upgrades and echoes behind them; `heads` are the lines of each request."""

    def __init__(self, world):
        self.heads = []
        self.port = world.server(self.serve).port

    def serve(self, server, s):
        data = recv_head(s)
        if not data:
            return
        head, _, rest = data.partition(b"\r\n\r\n")
        self.heads.append(head.decode().split("\r\n"))
        if re.search(rb"(?mi)^Upgrade: ", head):
            key = re.search(rb"(?mi)^Sec-WebSocket-Key: (\S+)", head).group(1) + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
                      + base64.b64encode(hashlib.sha1(key).digest()) + b"\r\n\r\n" + rest)
            while more := s.recv(65536):
                s.sendall(more)
            return
        length = re.search(rb"(?mi)^Content-Length: (\d+)", head)
        if re.search(rb"(?mi)^Transfer-Encoding: chunked", head):
            body, reader = b"", Reader(s, rest)
            while size := int(reader.line(), 16):
                body += reader.take(size)
                reader.line()
            reader.line()
            answer = b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        elif length:
            body = rest + recv_exactly(s, int(length.group(1)) - len(rest))
            answer = b"Content-Length: %d\r\n\r\n" % len(body) + body
        else:
            answer = b"\r\nuntil the end"
        s.sendall(b"HTTP/1.1 200 OK\r\nServer: web\r\n" + answer)


class Reader:
    def __init__(self, s, data):
        self.s, self.data = s, bytearray(data)

    def line(self):
        while b"\r\n" not in self.data:
            self.more()
        at = self.data.index(b"\r\n")
        line = bytes(self.data[:at])
        del self.data[:at + 2]
        return line

    def take(self, n):
        while len(self.data) < n:
            self.more()
        piece = bytes(self.data[:n])
        del self.data[:n]
        return piece

    def more(self):
        more = self.s.recv(1 << 20)
        if not more:
            raise EOFError("the request ended early")
        self.data += more
