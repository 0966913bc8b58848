# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 in bytes, to say what no library would: a client, and a server that plays a bad front."""
import ssl
import struct

from .net import PATIENCE, TcpServer, connect
from .tamper import exchange

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, _, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
ENABLE_CONNECT_PROTOCOL = struct.pack(">HI", 8, 1)


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def text(value):
    value = value.encode()
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, out = len(value) - 127, b"\x7f"
    while rest > 127:
        out += bytes([rest % 128 + 128])
        rest //= 128
    return out + bytes([rest]) + value


def fields(*pairs):
    """A header block: literals, nothing kept in any table."""
    return b"".join(b"\x00" + text(name) + text(value) for name, value in pairs)


def get(path="/", *more):
    return fields((":method", "GET"), (":scheme", "https"), (":path", path), (":authority", "relay.example"), *more)


class Frames:
    """Reads frames from a socket."""

    def __init__(self, s):
        self.s, self.seen = s, b""

    def exactly(self, n):
        while len(self.seen) < n:
            more = self.s.recv(65536)
            if not more:
                raise EOFError
            self.seen += more
        out, self.seen = self.seen[:n], self.seen[n:]
        return out

    def next(self):
        """(kind, flags, stream, payload)"""
        head = self.exactly(9)
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        return kind, flags, stream, self.exactly(int.from_bytes(head[:3], "big"))


class Client(Frames):
    """A connection to the relay; `greet`: with preface and SETTINGS, and theirs acknowledged."""

    def __init__(self, port, greet=True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        s = context.wrap_socket(connect(f"127.0.0.1:{port}"))
        assert s.selected_alpn_protocol() == "h2"
        s.settimeout(PATIENCE)
        super().__init__(s)
        if greet:
            self.send(PREFACE, frame(SETTINGS))
            assert self.next()[0] == SETTINGS
            self.send(frame(SETTINGS, ACK))

    def send(self, *frames):
        self.s.sendall(b"".join(frames))

    def until(self, kind, stream=None):
        while True:
            found = self.next()
            if found[0] == kind and stream in (None, found[2]):
                return found

    def pour(self, piece, times):
        """Sends it again and again until the other end has had enough. False: it had not, and closes what is idle at most."""
        try:
            for _ in range(times):
                self.s.sendall(piece)
            while True:
                kind, _, _, payload = self.next()
                if kind == GOAWAY:
                    return payload[4:8] != b"\0\0\0\0"
        except TimeoutError:
            return False
        except (EOFError, OSError):
            return True

    def close(self):
        self.s.close()


class Front:
    """TLS in front of a relay: HTTP/1.1 passes, and HTTP/2 is answered by `answer(server, connection)`."""

    def __init__(self, world, pem, behind, answer, settings=ENABLE_CONNECT_PROTOCOL, alpn=("h2", "http/1.1")):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pem)
        self.context.set_alpn_protocols(alpn)
        self.behind, self.answer, self.settings = behind, answer, settings
        self.spoken = []
        self.server = world.add(TcpServer(self.serve))
        self.port = self.server.port

    def serve(self, server, s):
        try:
            s = self.context.wrap_socket(s, server_side=True)
        except (ssl.SSLError, OSError):
            return
        self.spoken.append(s.selected_alpn_protocol())
        try:
            if self.spoken[-1] == "h2":
                self.greet(s)
            else:
                self.splice(s)
        except (EOFError, OSError):
            pass

    def greet(self, s):
        c = Frames(s)
        assert c.exactly(len(PREFACE)) == PREFACE
        s.sendall(frame(SETTINGS, 0, 0, self.settings))
        while True:
            kind, flags, stream, _ = c.next()
            if kind == SETTINGS and not flags & ACK:
                s.sendall(frame(SETTINGS, ACK))
            if kind == HEADERS:
                self.answer(s, stream)

    def splice(self, s):
        """To the relay's TLS, byte for byte."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        back = context.wrap_socket(connect(f"127.0.0.1:{self.behind}"))
        exchange(s, back)
