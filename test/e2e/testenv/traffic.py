# SPDX-License-Identifier: Apache-2.0
"""Traffic whose every byte is accounted for: streams that send in both directions at once until they are told that it is
enough, half-close, read to the other's end, and compare SHA-256 of what was sent and what came."""
import hashlib
import queue
import socket
import threading

from .net import connect, pattern, recv_exactly

FOREVER = 1 << 60


class Enough:
    """Says when a stream may end: it has sent its share and the test's own condition holds."""

    def __init__(self, share, condition=lambda: True):
        self.share, self.condition = share, condition
        self.over = False

    def __call__(self, sent):
        if not self.over and sent >= self.share and self.condition():
            self.over = True
        return self.over and sent >= self.share


def pour(s, seed, enough):
    """Sends until it is enough, ends that direction; returns (bytes, SHA-256)."""
    digest, total = hashlib.sha256(), 0
    for block in pattern(FOREVER, seed):
        if enough(total):
            break
        s.sendall(block)
        digest.update(block)
        total += len(block)
    s.shutdown(socket.SHUT_WR)
    return total, digest.hexdigest()


def drain(s, digest=None):
    digest, total = hashlib.sha256(), 0
    while block := s.recv(1 << 20):
        digest.update(block)
        total += len(block)
    return total, digest.hexdigest()


def both(s, seed, enough):
    """Pours and drains at once; returns ((sent, sha), (came, sha)), or raises what went wrong."""
    result = queue.Queue()

    def send():
        try:
            result.put(pour(s, seed, enough))
        except Exception as e:  # noqa: BLE001: told to the test, whatever it is
            result.put(e)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    came = drain(s)
    sender.join()
    sent = result.get()
    if isinstance(sent, Exception):
        raise sent
    return sent, came


class Traffic:
    """A server and the streams to it by whatever addresses lead there. What the two ends of each stream sent and got is
    compared by check()."""

    def __init__(self, world, enough, patience=280):
        self.enough, self.patience = enough, patience
        self.served, self.called = {}, {}
        self.server = world.server(self.serve)
        self.callers, self.flowing = [], 0

    def serve(self, server, s):
        number = recv_exactly(s, 4)
        self.flowing += 1
        s.settimeout(self.patience)
        try:
            self.served[number] = both(s, int.from_bytes(number, "big") + 1, self.enough)
        except Exception as e:  # noqa: BLE001
            self.served[number] = e
        server.seen.put(number)

    def call(self, at):
        number = (2 * len(self.callers) + 1000).to_bytes(4, "big")

        def run():
            try:
                with connect(at, self.patience) as s:
                    s.sendall(number)
                    self.called[number] = both(s, int.from_bytes(number, "big"), self.enough)
            except Exception as e:  # noqa: BLE001
                self.called[number] = e

        caller = threading.Thread(target=run, daemon=True)
        self.callers.append((number, at, caller))
        caller.start()

    def check(self):
        """Waits for all ends; returns the bytes of both directions together."""
        total = 0
        for number, at, caller in self.callers:
            caller.join(self.patience)
            assert not caller.is_alive(), f"{at}: still under way; {self.called}, {self.served}"
            assert not isinstance(self.called[number], Exception), f"{at}: caller: {self.called[number]!r}"
        for _ in self.callers:
            self.server.next(self.patience)
        for number, at, caller in self.callers:
            assert not isinstance(self.served[number], Exception), f"{at}: server: {self.served[number]!r}"
            assert self.called[number] == self.served[number][::-1], f"{at}: sent and got differ"
            total += sum(way[0] for way in self.called[number])
        return total
