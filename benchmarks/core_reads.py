"""What it costs to read the cores of a host, and to set the limits of borrowers.

    python benchmarks/core_reads.py [--guests 20 100] [--seconds 3]

Guests are small processes of two threads in control groups of version 1 that are made for this and removed again, so
that it needs root; half of the threads wake up ten times a second, the others never. A guest whose process has no vCPU
threads counts all threads of its group: two here, as a VM of two vCPUs has. Steps are taken every 20 ms, as the loop
takes them, so that caches are as cold as they are there; CPU is what this thread itself spent, without what it waited.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from forestall.adapters.linux.core_host import LinuxCoreHost
from forestall.ports.cores import Guest, Part

ROOT = Path("/sys/fs/cgroup")
TREES = ("cpu", "cpuacct")
NAP_SECONDS, STEP_SECONDS = 0.1, 0.02
LIMITS = (0.5, 0.75)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--seconds", type=float, default=3.0)
    chosen = parser.parse_args()
    if os.geteuid() != 0 or not all((ROOT / tree / "cgroup.procs").exists() for tree in TREES):
        sys.exit("this needs root, and control groups of version 1")
    print(f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}\n")
    print("| guests | what | P50, ms | P99, ms | CPU, ms |", "|---|---|---|---|---|", sep="\n")
    for count in chosen.guests:
        with guests(count) as running:
            measure(running, chosen.seconds)


def measure(running: Sequence[Guest], seconds: float) -> None:
    """Rows of the table for some guests."""
    host = LinuxCoreHost(time.monotonic)
    row(len(running), "attach", [spent(lambda: host.attach(running))])
    row(len(running), "read: run, wait, runs", timed(lambda: host.read(all_counters=False), seconds))
    row(len(running), "read: all counters", timed(host.read, seconds))
    kept = [host.settings(guest.vm_id) for guest in running]
    turn = [0]

    def limit() -> None:
        turn[0] += 1
        host.limit({guest.vm_id: LIMITS[turn[0] % 2] for guest in running})

    row(len(running), "limit all, to something else", timed(limit, seconds))
    same = {guest.vm_id: LIMITS[turn[0] % 2] for guest in running}
    row(len(running), "limit all, as they are", timed(lambda: host.limit(same), seconds))
    row(len(running), "put one back", [spent(lambda settings=settings: host.put_back(settings)) for settings in kept])
    host.close()


def timed(step: Callable[[], object], seconds: float) -> list[tuple[float, float]]:
    """Seconds and CPU seconds that a step takes, each time of many."""
    until, times = time.monotonic() + seconds, []
    while time.monotonic() < until:
        times.append(spent(step))
        time.sleep(STEP_SECONDS)
    return times


def spent(step: Callable[[], object]) -> tuple[float, float]:
    """Seconds and CPU seconds that a step takes."""
    began, cpu = time.perf_counter(), time.thread_time()
    step()
    return time.perf_counter() - began, time.thread_time() - cpu


def row(count: int, what: str, times: Sequence[tuple[float, float]]) -> None:
    """Print one."""
    wall, cpu = 1000 * np.array(times).T
    middle, late = np.percentile(wall, [50, 99])
    print(f"| {count} | {what} | {middle:.2f} | {late:.2f} | {cpu.mean():.2f} |", flush=True)


@contextmanager
def guests(count: int) -> Iterator[list[Guest]]:
    """So many processes in groups of their own; all of them borrow."""
    running: list[Guest] = []
    try:
        for i in range(count):
            name = f"forestall-bench-{os.getpid()}-{i}"
            pid = os.fork()
            if pid == 0:
                work()
            running.append(Guest(name, "1", pid, Part.BORROWER))
            for tree in TREES:
                (ROOT / tree / name).mkdir()
                (ROOT / tree / name / "cgroup.procs").write_text(str(pid))
        time.sleep(0.2)
        yield running
    finally:
        for guest in running:
            os.kill(guest.pid, signal.SIGKILL)
            os.waitpid(guest.pid, 0)
        for guest in running:
            for tree in TREES:
                remove(ROOT / tree / guest.vm_id)


def work() -> None:
    """What a guest does until it is killed."""
    threading.Thread(target=lambda: time.sleep(1e6), daemon=True).start()
    while True:
        time.sleep(NAP_SECONDS)


def remove(folder: Path) -> None:
    """Remove a group, as soon as the last of it has gone."""
    until = time.monotonic() + 5.0
    while folder.exists() and time.monotonic() < until:
        with suppress(OSError):
            folder.rmdir()


if __name__ == "__main__":
    main()
