# SPDX-License-Identifier: Apache-2.0
"""Processes: started with a log file, awaited by what they do and never by sleeping a fixed time, ended by pid."""
import os
import random
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 30.0  # a guard against hanging, never a promise about time
POLL = 0.01


class NotReady(Exception):
    pass


def wait_for(what, condition, patience=PATIENCE):
    """Returns the first true value of condition()."""
    end = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise NotReady(f"waited {patience:g} s for {what}")
        time.sleep(POLL)


def ephemeral_floor():
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 32768


given_ports = set()


def free_port(host="127.0.0.1"):
    """A port that is free for TCP and UDP, given once, and below those that the kernel hands to whoever asks for any:
    nobody else gets it by chance before it is used, or between two uses. Test processes side by side have each their own."""
    jobs = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    job = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(1000):
        port = random.randrange(10000 + job, ephemeral_floor(), jobs)
        if port in given_ports:
            continue
        try:
            with socket.socket(family, socket.SOCK_STREAM) as tcp, socket.socket(family, socket.SOCK_DGRAM) as udp:
                tcp.bind((host, port))
                udp.bind((host, port))
        except OSError:
            continue
        given_ports.add(port)
        return port
    raise NotReady("no free port found")


def can_connect(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), timeout=1).close()
        return True
    except OSError:
        return False


class Proc:
    """A running program. Its output goes to `log`, a file that outlives it."""

    def __init__(self, command, log, env=None, cwd=None, pass_fds=(), stdin=subprocess.DEVNULL, stdout=None, preexec=None):
        self.command = [str(word) for word in command]
        self.log = Path(log)
        with open(self.log, "ab") as out:
            self.popen = subprocess.Popen(self.command, stdin=stdin, stdout=stdout or out, stderr=out, cwd=cwd,
                                          env=None if env is None else {**os.environ, **env}, pass_fds=pass_fds,
                                          preexec_fn=preexec)

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def output(self):
        return self.log.read_text(errors="replace")

    def fail(self, why):
        tail = "\n".join(self.output().splitlines()[-30:])
        raise NotReady(f"{' '.join(self.command)}: {why}; its log ends:\n{tail}")

    def wait_for(self, what, condition, patience=PATIENCE):
        def check():
            if not self.alive():
                self.fail(f"ended with {self.popen.returncode} before {what}")
            return condition()
        try:
            return wait_for(what, check, patience)
        except NotReady as e:
            self.fail(str(e))

    def wait_port(self, port, host="127.0.0.1"):
        self.wait_for(f"port {port}", lambda: can_connect(port, host))

    def wait_log(self, text, patience=PATIENCE):
        self.wait_for(f"{text!r} in its log", lambda: text in self.output(), patience)

    def wait_exit(self, patience=PATIENCE):
        try:
            return self.popen.wait(patience)
        except subprocess.TimeoutExpired:
            self.fail(f"still running after {patience:g} s")

    def signal(self, number):
        if self.alive():
            self.popen.send_signal(number)

    @contextmanager
    def asleep(self):
        """Stopped, without closing anything; its ports still accept."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def stop(self, patience=10.0):
        """SIGTERM, and after a while SIGKILL; returns the exit status."""
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(patience)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.popen.wait()


def cpu_seconds(pids):
    """User and system time of processes with all their threads."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def rss_kib(pids):
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total
