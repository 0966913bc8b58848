# SPDX-License-Identifier: Apache-2.0
"""The bad road between an agent and its relay: bench/road.c, told what to do while things run. Its seed is random, or
CULVERT_SEED; it stands in the road's log, which a failing test shows."""
import json
import os
import select
import subprocess
import threading
from pathlib import Path

from .proc import PATIENCE, NotReady, Proc


class Road:
    def __init__(self, tools, folder, target, delay_ms=0, port=0, seed=None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "road.log"
        self.seed = seed or int(os.environ.get("CULVERT_SEED") or int.from_bytes(os.urandom(3), "big") + 1)
        self.log.write_text(f"seed {self.seed}\n")
        self.proc = Proc([Path(tools) / "bench-road", target, delay_ms, port, self.seed], self.log,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self.line())
        self.lock = threading.Lock()

    def line(self):
        out = self.proc.popen.stdout
        if not select.select([out], [], [], PATIENCE)[0]:
            self.proc.fail("no answer")
        return out.readline().decode().strip()

    def ask(self, *words):
        with self.lock:
            self.proc.popen.stdin.write((" ".join(map(str, words)) + "\n").encode())
            self.proc.popen.stdin.flush()
            return self.line()

    def do(self, *words):
        """One of the commands at the head of bench/road.c."""
        answer = self.ask(*words)
        if answer != "ok":
            raise NotReady(f"road: {' '.join(map(str, words))}: {answer}")

    def stats(self):
        return json.loads(self.ask("stats"))

    def stop(self):
        self.proc.stop()
