# SPDX-License-Identifier: Apache-2.0
"""A box that intercepts TLS by a CA of its own, takes the WebSocket inside apart, and changes what passes; or, without
TLS, one that changes bytes of the connection itself."""
import socket
import ssl
import threading

from .net import connect
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
        up = threading.Thread(target=self.carry, args=("up", s, back, mine), daemon=True)
        up.start()
        self.carry("down", back, s, mine)
        up.join(60)

    def carry(self, way, source, sink, mine):
        try:
            if self.context:
                self.carry_frames(source, sink, mine and way == self.way, self.seen[way])
            else:
                self.carry_bytes(source, sink, mine and way == self.way)
        except (OSError, EOFError):
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def carry_bytes(self, source, sink, tampers):
        passed = 0
        while data := bytearray(source.recv(65536)):
            if tampers and passed > self.after:
                data[len(data) // 2] ^= 1
                self.note()
                tampers = False
            passed += len(data)
            sink.sendall(data)

    def carry_frames(self, source, sink, tampers, seen):
        data, passed, held = bytearray(), 0, None
        while b"\r\n\r\n" not in data:
            self.more(source, data)
        end = data.index(b"\r\n\r\n") + 4
        sink.sendall(data[:end])
        seen += data[:end]
        del data[:end]
        while True:
            while not (size := frame_size(data)):
                self.more(source, data)
            frame = bytes(data[:size])
            del data[:size]
            passed += size
            seen += payload(frame)
            if held is not None:
                frame, held = frame + held, None
            elif tampers and passed > self.after and len(frame) > 300:
                tampers = False
                self.note()
                if self.what == "swap":
                    held = frame
                    continue
                frame = {"flip": lambda f: f[:200] + bytes([f[200] ^ 4]) + f[201:], "drop": lambda f: f[:100] + f[140:],
                         "lose": lambda f: b"", "repeat": lambda f: f + f}[self.what](frame)
            sink.sendall(frame)

    def more(self, source, data):
        more = source.recv(65536)
        if not more:
            raise EOFError
        data += more

    def note(self):
        with self.lock:
            self.done += 1
