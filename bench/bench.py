#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The bench: the same loads through raw loopback, an HAProxy pair, a stunnel pair, culvert and any other tunnel given with
--peer, interleaved in one run; medians over the rounds, and ratios. See docs/performance.md for what the figures mean.

For every round and every load, each tunnel has its turn before the next load begins, so that whatever else the machine
does hits all of them alike."""
import argparse
import json
import os
import platform
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import profiling
import repair
import tunnels
from tunnels import Copies, Copy, Culvert, HaproxyPair, Proc, Raw, StunnelPair
from testenv.proc import NotReady, cpu_seconds, rss_kib

RTT_MS = 100
ECHO_SIZES = {"64 B": 64, "8 KiB": 8192, "16 KiB": 16384}
GB = 1e9
RESUMING = ("put_ack", "on_ack", "ack_later", "window_update", "put_last_acks", "carrier_last_ack")


class Missing(Exception):
    """This tunnel failed at this load."""


class Inapplicable(Exception):
    """This load means nothing for this tunnel."""


class Bench:
    def __init__(self, arguments, folder):
        self.quick, self.folder = arguments.quick, Path(folder)
        self.tools = Path(arguments.build).resolve() / "bench"
        self.serial = 0
        self.server = self.serve("server")
        self.target = int(self.server.output())

    def client(self, *words, patience=180):
        try:
            done = subprocess.run([str(self.tools / "bench-client"), *map(str, words)], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, timeout=patience)
        except subprocess.TimeoutExpired:
            raise Missing(f"client {words[0]}: no end after {patience} s")
        if done.returncode:
            raise Missing(f"client {words[0]}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def serve(self, name):
        self.serial += 1
        server = Proc([self.tools / "bench-server"], self.folder / f"{name}-{self.serial}.log")
        server.wait_for("its port", lambda: server.output().strip())
        return server

    def place(self, kind):
        self.serial += 1
        folder = self.folder / f"{kind.name}-{self.serial}"
        folder.mkdir()
        return folder

    def fresh(self, kind, delay_ms=0):
        self.serial += 1
        tunnel = kind(self.folder / f"{kind.name}-{self.serial}", self.tools, self.target)
        try:
            return tunnel.start(delay_ms)
        except BaseException:
            tunnel.stop()
            raise

    # Loads: each takes a running tunnel (or a class, for those that start their own) and returns {metric: figure}.

    def bulk(self, tunnel, direction, streams):
        size = (256 << 20) if self.quick else (1 << 30)
        before = cpu_seconds(tunnel.pids)
        done = self.client(direction, tunnel.port, streams, size // streams)
        figures = {"Gbit/s": done["bytes"] * 8 / 1e9 / done["seconds"]}
        if tunnel.pids:
            figures["CPU s/GB"] = (cpu_seconds(tunnel.pids) - before) / (done["bytes"] / GB)
        return figures

    def resuming(self, tunnel, direction):
        """What it costs that a stream can go on elsewhere: the copy of what is kept until it is acknowledged, and the acknowledgements."""
        if tunnel.name != "culvert":
            raise Inapplicable("resumes nothing")
        size = (1 << 30) if self.quick else (3 << 30)
        try:
            load = lambda: self.client(direction, tunnel.port, 1, size)  # noqa: E731
            return {"% of the CPU": profiling.share(tunnel.pids, load, RESUMING, "schedule_fill", self.folder)}
        except profiling.NoProfile as e:
            raise Missing(str(e))

    def echo(self, tunnel, size):
        done = self.client("echo", tunnel.port, size, 2000 if self.quick else 10000)
        return {"p50 µs": done["p50_us"], "p99 µs": done["p99_us"], "max µs": done["max_us"]}

    def conns(self, tunnel, parallel):
        done = self.client("conns", tunnel.port, parallel, 1000 if self.quick else 3000)
        return {"per second": done["count"] / done["seconds"]}

    def udp_try(self, tunnel, rate, ms):
        done = self.client("udp", tunnel.udp_port, 64, rate, ms)
        sent, came = done["sent"], done["came"]
        return sent and (sent - came) / sent < 0.01, came / done["seconds"], sent / done["seconds"] > rate * 0.98

    def udp(self, tunnel):
        """The highest rate that loses less than 1 %: doubled while it holds, then closed in on."""
        if not tunnel.udp_port:
            raise Inapplicable("carries no UDP")
        ms = 500 if self.quick else 1000
        low, high, best, rate = 0, None, 0.0, 20000
        for _ in range(12):
            good, came, kept_up = self.udp_try(tunnel, rate, ms)
            if good:
                low, best = rate, max(best, came)
                if not kept_up:
                    break
            else:
                high = rate
            if high and (high - low) / high < 0.08:
                break
            rate = (low + high) // 2 if high else rate * 2
        if not best:
            raise Missing("lost 1 % at every rate tried")
        return {"per second": best}

    def half_close(self, tunnel):
        data = os.urandom(200_000)
        with socket.create_connection(("127.0.0.1", tunnel.port), timeout=20) as s:
            s.sendall(b"E" + data)
            s.shutdown(socket.SHUT_WR)
            back = bytearray()
            try:
                while more := s.recv(65536):
                    back += more
            except OSError:
                pass
        return {"bytes echoed": len(back) if back == data[:len(back)] else -1}

    def idle(self, tunnel, count, look):
        """Opens so many streams and leaves them idle, then sends 64 KiB by each; look(metric) each time."""
        with subprocess.Popen([self.tools / "bench-client", "idle", str(tunnel.port), str(count)],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
            for word, metric in (("open", "idle KiB"), ("used", "used KiB")):
                if not select.select([load.stdout], [], [], 60)[0] or load.stdout.readline().strip() != word:
                    load.kill()
                    raise Missing(f"{count} idle streams: not all {word}")
                look(metric)
                if word == "open":
                    load.stdin.write("\n")
                    load.stdin.flush()
            load.stdin.close()

    def memory(self, kind):
        if kind is Raw:
            raise Inapplicable("has no ends")
        count = 200 if self.quick else 500
        tunnel = self.fresh(kind)

        def look(metric):
            time.sleep(2)  # lets an end give memory back, if it does; a matter of fairness, not of readiness
            figures[metric] = (rss_kib(tunnel.pids) - fresh) / count
        try:
            time.sleep(1)
            figures = {"fresh, MiB": rss_kib(tunnel.pids) / 1024, "larger end, MiB": max(rss_kib([p]) for p in tunnel.pids) / 1024}
            self.idle(tunnel, 4, lambda _: None)  # code that ran for no stream yet is not what a stream costs
            fresh = rss_kib(tunnel.pids)
            self.idle(tunnel, count, look)
            return figures
        finally:
            tunnel.stop()

    def long_line(self, kind):
        tunnel = self.fresh(kind, RTT_MS) if kind is not Raw else self.raw_long_line()
        try:
            done = self.client("timed", tunnel.port, 3000 if self.quick else 8000)
            return {"Gbit/s": done["bytes"] * 8 / 1e9 / done["seconds"]}
        finally:
            tunnel.stop()

    def raw_long_line(self):
        tunnel = Raw(self.place(Raw), self.tools, self.target)
        tunnel.port = tunnel.hop(self.target, RTT_MS)
        return tunnel

    def first_byte(self, kind):
        """From the start of the near end to the first byte that came back through the tunnel."""
        if kind is Raw:
            raise Inapplicable("nothing to start")
        tunnel = self.fresh(kind)
        try:
            tunnel.stop_near()
            start = time.monotonic()
            tunnel.start_near(tunnel.far_port)
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", tunnel.port), timeout=5) as s:
                        s.sendall(b"Ex")
                        if s.recv(1) == b"x":
                            return {"ms": (time.monotonic() - start) * 1000}
                except OSError:
                    pass
                if time.monotonic() - start > 20:
                    raise Missing("no byte within 20 s")
                time.sleep(0.001)
        finally:
            tunnel.stop()

    def hurt(self, kind, name, load):
        if kind is not Culvert and not name.startswith("fair"):
            raise Inapplicable("its streams do not live through that")
        try:
            return load(self, kind)
        except repair.Lost as e:
            raise Missing(str(e))

    def size(self, kind):
        if not kind(self.folder / "size", self.tools, self.target).binaries():
            raise Inapplicable("nothing to weigh")
        total = 0
        for path in kind(self.folder / "size", self.tools, self.target).binaries():
            copy = self.folder / "stripped"
            shutil.copy(path, copy)
            subprocess.run(["strip", copy], stderr=subprocess.DEVNULL)
            total += copy.stat().st_size
        return {"MiB, stripped": total / (1 << 20)}


# (group, load, does it start its own tunnels)
LOADS = [
    ("1 stream up", lambda b, t: b.bulk(t, "up", 1), False),
    ("1 stream down", lambda b, t: b.bulk(t, "down", 1), False),
    ("8 streams up", lambda b, t: b.bulk(t, "up", 8), False),
    ("8 streams down", lambda b, t: b.bulk(t, "down", 8), False),
    *[(f"resuming, 1 stream {way}", lambda b, t, way=way: b.resuming(t, way), False) for way in ("up", "down")],
    *[(f"echo {name}", lambda b, t, size=size: b.echo(t, size), False) for name, size in ECHO_SIZES.items()],
    ("connections, 1 at a time", lambda b, t: b.conns(t, 1), False),
    ("connections, 16 at a time", lambda b, t: b.conns(t, 16), False),
    ("UDP 64 B, loss < 1 %", lambda b, t: b.udp(t), False),
    ("half-close of 200,000", lambda b, t: b.half_close(t), False),
    ("RSS of both ends", lambda b, k: b.memory(k), True),
    (f"{RTT_MS} ms RTT, 1 stream", lambda b, k: b.long_line(k), True),
    ("start to first byte", lambda b, k: b.first_byte(k), True),
    ("program", lambda b, k: b.size(k), True),
    *[(name, lambda b, k, name=name, load=load: b.hurt(k, name, load), True) for name, load in repair.LOADS],
]

# What culvert is held to: (group, metric): (factor, against or None for an absolute bound, True when more is better)
GOALS = {
    **{(f"{n} {way}", "CPU s/GB"): (0.6, "haproxy", False) for n in ("1 stream", "8 streams") for way in ("up", "down")},
    **{(f"resuming, 1 stream {way}", "% of the CPU"): (5, None, False) for way in ("up", "down")},
    **{(f"echo {name}", metric): (0.8, "haproxy", False) for name in ECHO_SIZES for metric in ("p50 µs", "p99 µs")},
    ("connections, 1 at a time", "per second"): (0.4, "raw", True),
    ("connections, 16 at a time", "per second"): (0.5, "raw", True),
    ("UDP 64 B, loss < 1 %", "per second"): (0.6, "raw", True),
    ("half-close of 200,000", "bytes echoed"): (200_000, None, True),
    ("RSS of both ends", "larger end, MiB"): (8, None, False),
    ("RSS of both ends", "idle KiB"): (4, None, False),
    ("RSS of both ends", "used KiB"): (4, None, False),
    (f"{RTT_MS} ms RTT, 1 stream", "Gbit/s"): (1.3, "haproxy", True),
    ("repair: silence, new connections pass", "ms"): (5000, None, False),
    ("repair: silence for 8 s, then all passes", "ms"): (2000, None, False),
    ("repair: packets dropped, new connections pass", "ms"): (5000, None, False),
    ("repair: packets dropped for 8 s, then all pass", "ms"): (2000, None, False),
    (f"repair: relay killed, another one, {repair.FAR_MS} ms RTT: new stream", "ms"): (5000, None, False),
    (f"repair: relay silent, another one, {repair.FAR_MS} ms RTT: new stream", "ms"): (5000, None, False),
    ("fair: echo beside 4 bulk, 80 ms RTT, 100 Mbit/s", "p99 ms"): (100, None, False),
    ("idle session", "pieces a minute"): (4, None, False),
}


def progress(text):
    if sys.stderr.isatty():
        print(f"\r{text:60}\r{text}", end="", file=sys.stderr, flush=True)


def measure(bench, kinds, rounds, only):
    """{(group, metric): {tunnel: [figures]}} and the reasons for figures that are missing."""
    figures, missing = {}, {}
    running = {}
    chosen = [load for load in LOADS if not only or any(word in load[0] for word in only)]

    def turn(kind, group, load, own):
        try:
            if not own and (kind not in running or not running[kind].alive()):
                running[kind] = bench.fresh(kind)
            result = load(bench, kind if own else running[kind])
        except Inapplicable:
            return
        except (Missing, NotReady, OSError, subprocess.SubprocessError) as e:
            missing[f"{kind.name}: {group}"] = str(e)
            return
        for metric, value in result.items():
            figures.setdefault((group, metric), {}).setdefault(kind.name, []).append(value)

    try:
        for number in range(rounds):
            for group, load, own in chosen:
                progress(f"round {number + 1}/{rounds}: {group}")
                if number and group in ("program",):
                    continue
                for kind in kinds:
                    turn(kind, group, load, own)
    finally:
        progress("")
        for tunnel in running.values():
            tunnel.stop()
    return figures, missing


def short(value):
    if value is None:
        return "–"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def verdict(key, row):
    """culvert's ratio and whether the goal is met, as text."""
    if key not in GOALS or row.get("culvert") is None:
        return ""
    factor, against, more = GOALS[key]
    if against is None:
        return f"{'≥' if more else '≤'} {factor:,g}: {'met' if (row['culvert'] >= factor) == more or row['culvert'] == factor else 'MISSED'}"
    if not row.get(against):
        return ""
    ratio = row["culvert"] / row[against]
    met = ratio >= factor if more else ratio <= factor
    return f"{ratio:.2f} × {against}, goal {'≥' if more else '≤'} {factor:g}: {'met' if met else 'MISSED'}"


def table(names, medians):
    rows = [["", *names, "culvert's goal" if "culvert" in names else ""]]
    last = None
    for (group, metric), row in medians.items():
        label = f"{group}: {metric}" if group != last else f"{'':{len(group)}}  {metric}"
        last = group
        rows.append([label, *[short(row.get(name)) for name in names], verdict((group, metric), row)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *[cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1])], row[-1]]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def options(argv):
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build", help="build folder with culvert and the load programs")
    parser.add_argument("--culvert", help="another culvert to measure instead of the build's")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PATH",
                        help=f"compare with another tunnel's program: {', '.join(tunnels.PEERS)}")
    parser.add_argument("--quick", action="store_true", help="one round with small loads: a look, not a figure")
    parser.add_argument("--rounds", type=int, help="default 5; 1 with --quick")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="loads whose name holds TEXT")
    parser.add_argument("--tunnels", help="comma-separated choice of raw, haproxy, stunnel, culvert, "
                        "peers, copy and copies: one process that only copies, and two, the floor of what stands in between")
    parser.add_argument("--json", metavar="FILE", help="write every figure there")
    return parser.parse_args(argv)


def choose(arguments):
    kinds = [Raw, HaproxyPair, StunnelPair]
    Culvert.program = Path(arguments.culvert or Path(arguments.build) / "culvert").resolve()
    for peer in arguments.peer:
        name, _, path = peer.partition("=")
        if name not in tunnels.PEERS or not os.access(path, os.X_OK):
            sys.exit(f"--peer {peer}: wanted NAME=PROGRAM, NAME one of {', '.join(tunnels.PEERS)}")
        tunnels.PEERS[name].path = Path(path).resolve()
        kinds.append(tunnels.PEERS[name])
    kinds.append(Culvert)
    wanted = arguments.tunnels.split(",") if arguments.tunnels else [kind.name for kind in kinds]
    known = {kind.name: kind for kind in [*kinds, Copy, Copies]}
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"--tunnels {','.join(unknown)}: wanted some of {', '.join(known)}")
    for text in arguments.only:
        if not any(text in load for load, _, _ in LOADS):
            sys.exit(f"--only {text}: no load has that in its name; there are: {'; '.join(load for load, _, _ in LOADS)}")
    return [kind for name, kind in known.items() if name in wanted]


def main(argv):
    arguments = options(argv)
    kinds = choose(arguments)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="culvert-bench-") as folder:
        bench = Bench(arguments, folder)
        try:
            figures, missing = measure(bench, kinds, rounds, arguments.only)
        finally:
            bench.server.stop()
    names = [kind.name for kind in kinds]
    medians = {key: {name: statistics.median(values) for name, values in row.items()} for key, row in figures.items()}
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}; {rounds} rounds, medians; "
          f"{time.time() - started:.0f} s\n")
    print(table(names, medians))
    for what, why in missing.items():
        print(f"no figure for {what}: {why.splitlines()[0] if why else 'failed'}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({
            "machine": platform.platform(), "cpus": os.cpu_count(), "rounds": rounds, "quick": arguments.quick,
            "figures": [{"load": key[0], "metric": key[1], **row} for key, row in figures.items()],
            "medians": [{"load": key[0], "metric": key[1], **row} for key, row in medians.items()],
            "missing": missing}, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
