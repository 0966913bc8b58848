# SPDX-License-Identifier: Apache-2.0
"""Sockets for tests: addresses as culvert writes them, and small servers that note what they saw."""
import hashlib
import queue
import random
import socket
import struct
import threading
import time

from .proc import PATIENCE

BLOCK = random.Random(7).randbytes(1 << 20)


def parse(at):
    """"127.0.0.1:80", "[::1]:80" or "unix:/path" as (family, address)."""
    if at.startswith("unix:"):
        return socket.AF_UNIX, at[5:]
    host, _, port = at.rpartition(":")
    host = host.strip("[]")
    return (socket.AF_INET6 if ":" in host else socket.AF_INET), (host, int(port))


def connect(at, patience=PATIENCE, rcvbuf=None):
    if isinstance(at, int):
        at = f"127.0.0.1:{at}"
    family, address = parse(at)
    s = socket.socket(family, socket.SOCK_STREAM)
    if rcvbuf:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    s.settimeout(patience)
    s.connect(address)
    return s


def udp(at=None, patience=PATIENCE):
    family, address = parse(f"127.0.0.1:{at}" if isinstance(at, int) else at or "127.0.0.1:0")
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(patience)
    if at:
        s.connect(address)
    return s


def recv_exactly(s, n):
    data = bytearray()
    while len(data) < n:
        more = s.recv(min(n - len(data), 1 << 20))
        if not more:
            raise EOFError(f"ended after {len(data)} of {n} bytes")
        data += more
    return bytes(data)


def recv_to_end(s):
    data = bytearray()
    while more := s.recv(1 << 20):
        data += more
    return bytes(data)


def recv_head(s):
    """What comes up to the end of an HTTP head, and what comes along behind it; nothing when s ends before that."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = s.recv(65536)
        if not more:
            return b""
        data += more
    return data


def ask(at, data, patience=PATIENCE):
    """Sends all, ends, and returns what comes back until the end."""
    with connect(at, patience) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        return recv_to_end(s)


def abort(s):
    """Closes with an RST."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def ask_udp(s, data, tries=8, to=None):
    """A datagram and its echo; asks again, since datagrams may be lost."""
    s.settimeout(2.0)
    for _ in range(tries):
        s.sendto(data, to) if to else s.send(data)
        try:
            while True:
                back, sender = s.recvfrom(70000)
                if back == data:
                    return back, sender
        except TimeoutError:
            continue
    raise TimeoutError(f"no echo of {len(data)} bytes in {tries} tries")


def pattern(n, seed=0):
    """n bytes, different for each seed, as an iterator of blocks."""
    head = struct.pack(">Q", seed)
    at = 0
    while at < n:
        block = head + struct.pack(">Q", at) + BLOCK[16:]
        yield block[:n - at]
        at += len(block)


def pattern_bytes(n, seed=0):
    return b"".join(pattern(n, seed))


def pattern_sha(n, seed=0):
    digest = hashlib.sha256()
    for block in pattern(n, seed):
        digest.update(block)
    return digest.hexdigest()


def read_slowly(s, step=4096, pause=0.001, every=16384):
    """Reads to the end with a breath every so many bytes; returns (bytes, SHA-256)."""
    digest, total = hashlib.sha256(), 0
    while more := s.recv(step):
        before = total // every
        digest.update(more)
        total += len(more)
        if total // every != before:
            time.sleep(pause)
    return total, digest.hexdigest()


def read_fast(s):
    return read_slowly(s, 1 << 18, 0.0, 1 << 30)


class TcpServer:
    """Serves each connection in a thread by `serve(server, socket)`; what a handler wants to tell goes to `seen`."""

    def __init__(self, serve, at="127.0.0.1:0", rcvbuf=None):
        self.serve = serve
        self.seen = queue.Queue()
        self.open = set()
        self.stopping = threading.Event()
        family, address = parse(at)
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        if family != socket.AF_UNIX:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if rcvbuf:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.listener.bind(address)
        self.listener.listen(512)
        name = self.listener.getsockname()
        self.at = f"unix:{name}" if family == socket.AF_UNIX else \
            f"[{name[0]}]:{name[1]}" if family == socket.AF_INET6 else f"{name[0]}:{name[1]}"
        self.port = None if family == socket.AF_UNIX else name[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            s.settimeout(120)
            self.open.add(s)
            threading.Thread(target=self.run, args=(s,), daemon=True).start()

    def run(self, s):
        try:
            self.serve(self, s)
        except ConnectionResetError:
            self.seen.put("reset")
        except OSError as e:
            self.seen.put(f"error {e}")
        finally:
            self.open.discard(s)
            s.close()

    def next(self, patience=PATIENCE):
        return self.seen.get(timeout=patience)

    def stop(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # or the thread in accept() would take one caller more
        except OSError:
            pass
        self.stopping.set()
        self.listener.close()
        for s in list(self.open):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def echo(server, s):
    """Echoes until the caller's end, then ends too."""
    total = 0
    while data := s.recv(1 << 16):
        s.sendall(data)
        total += len(data)
    server.seen.put(f"end after {total}")
    s.shutdown(socket.SHUT_WR)


def digest(server, s):
    """Reads to the end, answers "BYTES SHA256"."""
    total, sha = read_fast(s)
    server.seen.put(f"end after {total}")
    s.sendall(f"{total} {sha}".encode())


def digest_slowly(server, s):
    total, sha = read_slowly(s)
    server.seen.put(f"end after {total}")
    s.sendall(f"{total} {sha}".encode())


def source(server, s):
    """Reads a line "BYTES SEED", sends that pattern and ends."""
    line = b""
    while not line.endswith(b"\n"):
        line += recv_exactly(s, 1)
    for block in pattern(*map(int, line.split())):
        s.sendall(block)
    s.shutdown(socket.SHUT_WR)
    while s.recv(65536):
        pass
    server.seen.put("sent")


def reset_after_first(server, s):
    """Takes one byte and resets."""
    recv_exactly(s, 1)
    abort(s)
    server.seen.put("did reset")


def greet(text):
    def serve(server, s):
        s.sendall(text)
        s.shutdown(socket.SHUT_WR)
        while s.recv(65536):
            pass
    return serve


def forward_to(port):
    """Passes all on to that port."""
    def serve(server, s):
        with socket.create_connection(("127.0.0.1", port)) as to:
            back = threading.Thread(target=copy, args=(to, s), daemon=True)
            back.start()
            copy(s, to)
            back.join()
    return serve


def copy(source, to):
    try:
        while data := source.recv(65536):
            to.sendall(data)
    except OSError:
        pass
    for s in (source, to):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def hold(server, s):
    """Says nothing and reads nothing until the server is stopped."""
    server.seen.put("open")
    server.stopping.wait(120)


class UdpEcho:
    """Echoes datagrams; `senders` is the set of addresses they came from."""

    def __init__(self, at="127.0.0.1:0"):
        family, address = parse(at)
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(address)
        self.port = self.socket.getsockname()[1]
        self.at = f"{address[0]}:{self.port}" if family == socket.AF_INET else f"[{address[0]}]:{self.port}"
        self.senders, self.count, self.stopped = set(), 0, False
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                data, sender = self.socket.recvfrom(70000)
            except OSError:
                return
            if self.stopped:
                return
            self.senders.add(sender)
            self.count += 1
            self.socket.sendto(data, sender)

    def stop(self):
        self.stopped = True
        try:
            with socket.socket(self.socket.family, socket.SOCK_DGRAM) as s:
                s.sendto(b"", self.socket.getsockname())
        finally:
            self.socket.close()


class Socks5:
    """A SOCKS5 client (RFC 1928, 1929), plain enough to send what a browser would not."""

    ANY = b"\x00\x01\x00\x00\x00\x00\x00\x00"

    def __init__(self, at, login=None):
        self.socket = connect(at)
        methods = b"\x05\x02\x00\x02" if login else b"\x05\x01\x00"
        self.socket.sendall(methods)
        version, self.method = recv_exactly(self.socket, 2)
        if version != 5:
            raise ValueError(f"answered version {version}")
        if self.method == 2:
            user, password = (part.encode() for part in login)
            self.socket.sendall(bytes([1, len(user)]) + user + bytes([len(password)]) + password)
            self.login_status = recv_exactly(self.socket, 2)[1]

    @staticmethod
    def address(host, port):
        try:
            return b"\x01" + socket.inet_aton(host) + struct.pack(">H", port) if host.count(".") == 3 else \
                b"\x04" + socket.inet_pton(socket.AF_INET6, host) + struct.pack(">H", port)
        except OSError:
            return b"\x03" + bytes([len(host)]) + host.encode() + struct.pack(">H", port)

    def request(self, command, host, port):
        """Sends a request; returns (reply code, bound address)."""
        self.socket.sendall(bytes([5, command, 0]) + self.address(host, port))
        _, code, _, kind = recv_exactly(self.socket, 4)
        if kind == 1:
            host = socket.inet_ntoa(recv_exactly(self.socket, 4))
        elif kind == 4:
            host = socket.inet_ntop(socket.AF_INET6, recv_exactly(self.socket, 16))
        else:
            host = recv_exactly(self.socket, recv_exactly(self.socket, 1)[0]).decode()
        return code, (host, struct.unpack(">H", recv_exactly(self.socket, 2))[0])

    def connect(self, host, port):
        code, _ = self.request(1, host, port)
        return code

    @classmethod
    def wrap(cls, host, port, data):
        """A datagram as an association takes it."""
        return b"\x00\x00\x00" + cls.address(host, port) + data

    def close(self):
        self.socket.close()
