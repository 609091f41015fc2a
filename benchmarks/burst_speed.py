"""What the burst loop costs: a decision, and the whole process on real control groups.

    python benchmarks/burst_speed.py [--seconds 30]

Decisions are timed alone, for 20 and 100 VMs, with the caches as they are after the rest of a window. The process is
`forestall burst` with so many lenders (small processes that wake up all the time) and one borrower, each in a control
group of its own (root); it tells its own times.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from forestall.burst.core import BurstLoop
from forestall.burst.place import Place
from forestall.burst.settings import BurstSettings
from forestall.learning.peaks.model import PeakModel
from forestall.ports.cores import Guest, Part
from forestall.service.burst_messages import Roster, roster_line

TREE = Path("/sys/fs/cgroup")
LENDER = "import time\nwhile True:\n    sum(range(3000))\n    time.sleep(0.05)\n"
WARM_BEATS = 1800
_NUMBERS = itertools.count()


def decisions(vms: int) -> None:
    """Time the parts of a window for so many VMs: the walk through its beats, the decision, learning."""
    rng = np.random.default_rng(0)
    loop = BurstLoop(BurstSettings(float(vms)), PeakModel.shipped())
    took: dict[str, list[float]] = {"walk": [], "decision": [], "learning": []}
    frame = np.full(vms, 1.0)

    def decide() -> None:
        loop.decide(frame)

    for k in range(WARM_BEATS + 2000):
        use = (rng.random(vms) < 0.2) * rng.random(vms)
        loop.take_in(use, use, float(use.sum()))
        if k % 4 < 3:
            continue
        for part, step in (("walk", loop.forecaster.catch_up), ("decision", decide), ("learning", loop.learn)):
            began = time.perf_counter()
            step()
            if k >= WARM_BEATS:
                took[part].append(time.perf_counter() - began)
    told = ", ".join(
        f"{name} {np.median(t) * 1000:.2f} ms (99 % within {np.quantile(t, 0.99) * 1000:.2f})"
        for name, t in took.items()
    )
    print(f"{vms} VMs: {told}", flush=True)


def group(name: str) -> list[Path]:
    """Make a control group in the trees of version 1, or in the one tree."""
    trees = [TREE / tree for tree in ("cpu", "cpuacct", "cpuset") if (TREE / tree / "tasks").exists()] or [TREE]
    folders = [tree / name for tree in trees]
    for folder in folders:
        folder.mkdir()
        if folder.parent.name == "cpuset":
            for file in ("cpuset.cpus", "cpuset.mems"):
                (folder / file).write_text((folder.parent / file).read_text())
    return folders


def process(lenders: int, seconds: float) -> None:
    """Run the process of the loop with so many lenders and a borrower."""
    folders: list[Path] = []
    processes: list[subprocess.Popen[bytes]] = []
    try:
        places = []
        for k in range(lenders + 1):
            own = group(f"forestall-bench-{os.getpid()}-{next(_NUMBERS)}")
            folders += own
            code = "while True: pass" if k == lenders else LENDER
            processes.append(subprocess.Popen([sys.executable, "-S", "-c", code]))
            if k == lenders:
                processes[-1].send_signal(signal.SIGSTOP)
            for folder in own:
                (folder / "cgroup.procs").write_text(str(processes[-1].pid))
            part = Part.BORROWER if k == lenders else Part.LENDER
            places.append(Place(Guest(f"vm{k}", "1", processes[-1].pid, part), 1.0))
        with tempfile.TemporaryDirectory() as state:
            command = [sys.executable, "-m", "forestall", "burst", "--state-folder", state]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as loop:
                assert loop.stdin is not None
                assert loop.stdout is not None
                loop.stdin.write(roster_line(Roster(tuple(places))))
                loop.stdin.flush()
                until, last = time.monotonic() + seconds, b"{}"
                for line in loop.stdout:
                    last = line
                    if time.monotonic() > until:
                        break
                loop.stdin.close()
                loop.stdout.read()
            timing = json.loads(last)["timing"]
            tick, decision = (
                f"{middle:.2f} ms (99 % within {high:.2f})"
                for middle, high in (timing["tick_ms"], timing["decision_ms"])
            )
            print(
                f"{lenders} lenders in control groups: tick {tick}, decision {decision}, "
                f"{timing['late']} of {timing['ticks']} ticks late, {timing['cpu_share']:.2%} of a core",
                flush=True,
            )
    finally:
        for started in processes:
            started.kill()
            started.wait()
        for folder in folders:
            until = time.monotonic() + 5
            while folder.exists() and time.monotonic() < until:
                with suppress(OSError):
                    folder.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    asked = parser.parse_args()
    for vms in (20, 100):
        decisions(vms)
    for lenders in (20, 100):
        process(lenders, asked.seconds)


if __name__ == "__main__":
    main()
