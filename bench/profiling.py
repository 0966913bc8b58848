# SPDX-License-Identifier: Apache-2.0
"""What share of the CPU of some processes goes into named functions, by perf, while a load runs."""
import signal
import subprocess
import time


class NoProfile(Exception):
    """perf is not there, or may not look."""


def is_within(stack, names, copies_in):
    symbols = [line.split()[-1] for line in stack.splitlines() if line.split()]
    # libc's copies have no frame, so that the function that calls them is missing from the stack, not those around it.
    copies = symbols and symbols[0].startswith(("__memmove", "__memcpy", "memcpy", "memmove")) and copies_in in symbols
    return copies or not names.isdisjoint(symbols)


def share(pids, load, names, copies_in, folder):
    """Percent of the samples with one of `names` on their stack, or that copy within copies_in; the program has frame pointers."""
    data = folder / "perf.data"
    command = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "2000", "-g", "-p", ",".join(map(str, pids)), "-o", data]
    try:
        recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise NoProfile("perf is not installed (Debian: linux-perf)")
    try:
        time.sleep(0.5)  # until it has attached
        load()
    finally:
        recorder.send_signal(signal.SIGINT)
        why = recorder.communicate(timeout=60)[1]
    script = subprocess.run(["perf", "script", "-i", data, "-F", "ip,sym"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    stacks = [stack for stack in script.stdout.split("\n\n") if stack.strip()]
    if not stacks:
        raise NoProfile(f"perf saw nothing: {why.strip() or 'no samples'}")
    return 100 * sum(is_within(stack, set(names), copies_in) for stack in stacks) / len(stacks)
