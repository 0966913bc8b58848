# SPDX-License-Identifier: Apache-2.0
"""Network namespaces: what is started inside `with namespace:`, processes and threads, lives in that network and nowhere
else, so that nft, links and routes may be broken at will. Needs root; usable() says so."""
import ctypes
import os
import subprocess
import threading

from .programs import find, quietly

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Namespace:
    def __init__(self):
        made = []

        def make():
            try:
                check(libc.unshare(CLONE_NEWNET))
                made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
            except OSError as e:
                made.append(e)
        maker = threading.Thread(target=make)
        maker.start()
        maker.join()
        if isinstance(made[0], OSError):
            raise made[0]
        self.fd, self.outside = made[0], None
        with self:
            self.ip("link", "set", "lo", "up")

    def __enter__(self):
        self.outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        check(libc.setns(self.fd, CLONE_NEWNET))
        return self

    def __exit__(self, *_):
        check(libc.setns(self.outside, CLONE_NEWNET))
        os.close(self.outside)

    @property
    def path(self):
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def inside(self, command, *words):
        """Runs a program in this namespace, from inside or outside of it."""
        if self.outside is not None and os.readlink("/proc/thread-self/ns/net") == os.readlink(f"/proc/self/fd/{self.fd}"):
            return quietly(find(command), *words)
        with self:
            return quietly(find(command), *words)

    def ip(self, *words):
        return self.inside("ip", *words)

    def nft(self, text):
        """Adds to a table that only holds what this test put there."""
        self.inside("nft", f"add table inet cut; add chain inet cut in {{ type filter hook input priority 0; }}; {text}")

    def nft_clear(self):
        self.inside("nft", "add table inet cut; flush table inet cut")

    def drop(self, match):
        """Packets that match are dropped on arrival, silently."""
        self.nft(f"add rule inet cut in {match} drop")

    def reject(self, match):
        self.nft(f"add rule inet cut in {match} reject with tcp reset")

    def established(self, port):
        """The far ports of connections to or from `port`, seen from there."""
        rows = self.inside("ss", "-Htn", "state", "established", f"( sport = :{port} )").decode().split("\n")
        return [int(row.split()[3].rpartition(":")[2]) for row in rows if row.strip()]

    def stop(self):
        os.close(self.fd)


def usable():
    try:
        Namespace().stop()
        find("nft")
        return True
    except (OSError, FileNotFoundError, subprocess.CalledProcessError):
        return False
