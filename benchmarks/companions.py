"""Who moves together, in a fleet of thousands: how many of the groups there are found, and what it costs.

    python benchmarks/companions.py [--vms 5000] [--groups 100] [--days 10]

A fleet with groups of ten VMs that follow a common load with lags of nought to three steps of five minutes, and others
that go their own ways. Watched online for some days.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from forestall.profiling.companions import Companions
from forestall.profiling.window import Window

STEP_SECONDS, DAY, MEMBERS = 300, 288, 10


def main() -> None:
    """Print a line for each day."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=int, default=5_000)
    parser.add_argument("--groups", type=int, default=100)
    parser.add_argument("--days", type=int, default=10)
    chosen = parser.parse_args()
    generator = np.random.default_rng(0)
    vms = generator.permutation(chosen.vms)
    member = np.full(chosen.vms, -1)
    member[vms[: chosen.groups * MEMBERS]] = np.repeat(np.arange(chosen.groups), MEMBERS)
    lag = generator.integers(0, 4, chosen.vms)
    window, companions = Window(STEP_SECONDS, 1e-3), Companions()
    common = 1.0 + generator.gamma(1.0, 1.0, (chosen.days * DAY + 4, chosen.groups))
    limit = np.full(chosen.vms, 100.0)
    spent, worst, tied = 0.0, 0.0, np.flatnonzero(member >= 0)
    print(f"{chosen.vms} VMs, {chosen.groups} groups of {MEMBERS}")
    for i in range(chosen.days * DAY):
        own = 1.0 + generator.gamma(1.0, 1.0, chosen.vms)
        row = np.where(member >= 0, common[i + 3 - lag, member] + 0.3 * own, own)
        window.push(row, limit)
        began = time.perf_counter()
        companions.observe(window)
        took = time.perf_counter() - began
        spent, worst = spent + took, max(worst, took)
        if (i + 1) % DAY == 0:
            groups = companions.groups()
            together = np.zeros(chosen.vms, dtype=int)
            wrong = 0
            for group in groups:
                names, counts = np.unique(member[group.vms], return_counts=True)
                wrong += int((len(names) > 1) or names[0] < 0)
                together[group.vms] = counts.max()
            print(
                f"day {(i + 1) // DAY}: {(together[tied] > 1).mean():.0%} of the tied VMs are in a group,"
                f" {(together[tied] == MEMBERS).mean():.0%} with all of theirs; {wrong} groups are none;"
                f" {1000 * spent / (i + 1):.1f} ms a step, {worst:.2f} s at most",
                flush=True,
            )


if __name__ == "__main__":
    main()
