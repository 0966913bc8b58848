# SPDX-License-Identifier: Apache-2.0
"""A box that intercepts TLS by a CA of its own, takes the WebSocket inside apart, and changes what passes; or, without
TLS, one that changes bytes of the connection itself."""
import select
import socket
import ssl
import threading

from .net import connect
from .proc import PATIENCE
from .programs import certificate


def frame_size(data):
    """The size of the WebSocket frame at the start of data; None: not here yet."""
    if len(data) < 2:
        return None
    short, masked = data[1] & 0x7f, data[1] >> 7
    head = 2 + {126: 2, 127: 8}.get(short, 0)
    if len(data) < head:
        return None
    size = int.from_bytes(data[2:head], "big") if short > 125 else short
    whole = head + 4 * masked + size
    return whole if len(data) >= whole else None


def payload(frame):
    """Of a whole frame, unmasked."""
    head = 2 + {126: 2, 127: 8}.get(frame[1] & 0x7f, 0)
    if not frame[1] >> 7:
        return frame[head:]
    key, data = frame[head:head + 4], frame[head + 4:]
    pad = (key * (len(data) // 4 + 1))[:len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(data), "big")


def read_some(s):
    """What is there; None: nothing yet. One thread reads and writes a TLS socket: its SSL is not for two."""
    s.setblocking(False)
    try:
        return s.recv(65536)
    except (ssl.SSLWantReadError, BlockingIOError):
        return None
    finally:
        s.settimeout(PATIENCE)


def exchange(a, b, up=bytes, down=bytes):
    """Passes what comes from each to the other, through up (a to b) and down, until one of them ends."""
    try:
        while True:
            ready = [s for s in (a, b) if isinstance(s, ssl.SSLSocket) and s.pending()]
            for s in ready or select.select([a, b], [], [], 120)[0]:
                data = read_some(s)
                if data == b"":
                    return
                if data and (data := (up if s is a else down)(data)):
                    (b if s is a else a).sendall(data)
    except OSError:
        pass
    finally:
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()


class Tamper:
    """Changes one thing in each of the first `times` connections, in direction `way` ("up" to the relay, "down"), once
    `after` bytes have passed that way: "flip" a bit, "drop" some bytes, "lose" a frame, "repeat" one, "swap" two."""

    def __init__(self, world, relay_port, what, way, times=2, after=150_000, intercept=True):
        self.relay_port, self.what, self.way, self.times, self.after = relay_port, what, way, times, after
        self.lock, self.left, self.done = threading.Lock(), times, 0
        self.seen = {"up": bytearray(), "down": bytearray()}  # all that was there inside the outer TLS, masks taken off
        self.context = None
        if intercept:
            folder = world.place("tamper")
            folder.mkdir()
            pem = certificate(folder, "box")
            self.ca = folder / "box.crt"
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(pem)
            self.upstream = ssl.create_default_context()
            self.upstream.check_hostname = False
            self.upstream.verify_mode = ssl.CERT_NONE
        self.port = world.server(self.serve).port

    def serve(self, server, s):
        try:
            back = connect(self.relay_port)
            if self.context:
                s = self.context.wrap_socket(s, server_side=True)
                back = self.upstream.wrap_socket(back)
        except (ssl.SSLError, OSError):
            return
        with self.lock:
            mine, self.left = self.left > 0, self.left - 1
        kind = Frames if self.context else Bytes
        exchange(s, back, kind(self, "up", mine and self.way == "up").pass_on, kind(self, "down", mine and self.way == "down").pass_on)

    def note(self):
        with self.lock:
            self.done += 1


class Bytes:
    """One direction of a connection, bytes as they come."""

    def __init__(self, box, way, tampers):
        self.box, self.tampers, self.passed = box, tampers, 0

    def pass_on(self, data):
        data = bytearray(data)
        if self.tampers and self.passed > self.box.after:
            data[len(data) // 2] ^= 1
            self.box.note()
            self.tampers = False
        self.passed += len(data)
        return data


class Frames:
    """One direction of a WebSocket, frame by frame behind its head."""

    def __init__(self, box, way, tampers):
        self.box, self.tampers, self.passed = box, tampers, 0
        self.seen, self.data, self.held, self.in_head = box.seen[way], bytearray(), b"", True

    def pass_on(self, data):
        self.data += data
        out = bytearray()
        if self.in_head:
            end = self.data.find(b"\r\n\r\n") + 4
            if end < 4:
                return out
            out += self.data[:end]
            self.seen += self.data[:end]
            del self.data[:end]
            self.in_head = False
        while size := frame_size(self.data):
            frame = bytes(self.data[:size])
            del self.data[:size]
            self.passed += size
            self.seen += payload(frame)
            out += self.change(frame)
        return out

    def change(self, frame):
        if self.held:
            frame, self.held = frame + self.held, b""
        elif self.tampers and self.passed > self.box.after and len(frame) > 300:
            self.tampers = False
            self.box.note()
            if self.box.what == "swap":
                self.held = frame
                return b""
            return {"flip": lambda f: f[:200] + bytes([f[200] ^ 4]) + f[201:], "drop": lambda f: f[:100] + f[140:],
                    "lose": lambda f: b"", "repeat": lambda f: f + f}[self.box.what](frame)
        return frame
