"""How soon the burst loop keeps its promise again when a service changes what it does.

    python benchmarks/burst_change.py [--changes 40] [--budget 0.05]

A pool of generated services runs for a minute; then all of them are replaced by others, under the same names, which the
loop is not told. Counted is the share of windows of 100 ms that were violated in each stretch after the change, and the
share of idle core time that was lent; beside it the same for pools that do not change, and for rules of thumb.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from forestall.learning.peaks.model import PeakModel
from forestall.learning.training.worlds import FINE, pool
from forestall.replay.burst.peers import PEERS
from forestall.replay.burst.run import run_burst
from forestall.replay.burst.trace import BurstTrace
from forestall.replay.burst.windows import Windows
from forestall.replay.scores.lending import lent_share, violated

BEAT_US, WINDOW, MINUTE = 25_000, 4, 2400
STRETCHES = ((0, 1), (1, 2), (2, 4), (4, 8), (8, 16), (16, 32), (32, 60))
"""Seconds after the change."""
PEER_KNOBS = {"last_max_40": 0.0, "rolling_quantile": None, "online_quantile": None}


def world(seed: int, *, changes: bool) -> np.ndarray:
    """Use (beat, vm) over two minutes; with ``changes`` by other services in the second one."""
    rng = np.random.default_rng(seed)
    vms = int(rng.integers(2, 6))
    parts = [pool(rng, vms, MINUTE * FINE) for _ in range(2)] if changes else [pool(rng, vms, 2 * MINUTE * FINE)]
    fine = np.concatenate(parts)
    return fine.reshape(-1, FINE, vms).mean(axis=1).astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=40)
    parser.add_argument("--budget", type=float, default=0.05)
    asked = parser.parse_args()
    model = PeakModel.shipped()
    for changes in (True, False):
        short: dict[str, list[np.ndarray]] = {}
        lent: dict[str, list[float]] = {}
        for seed in range(asked.changes):
            use = world(10_000 + seed, changes=changes)
            cores = float(np.ceil(use.sum(axis=1).max()))
            first = np.zeros(use.shape[1], np.int64)
            trace = BurstTrace(tuple(f"vm{k}" for k in range(use.shape[1])), 0, BEAT_US, use, first, "", "world")
            granted = run_burst(trace, WINDOW, cores, (asked.budget,), model, pooled=True).granted[0]
            total = np.nansum(granted, axis=1)[:-1, None]
            windows = Windows(use.sum(axis=1).reshape(-1, WINDOW, 1), cores, 0)
            said = {"forestall": total}
            for name, knob in PEER_KNOBS.items():
                said[name] = np.minimum(
                    PEERS[name].prepare(windows)(1 - asked.budget if knob is None else knob), cores
                )[:-1]
            half = len(total) // 2
            for name, reserved in said.items():
                short.setdefault(name, []).append(violated(windows.use, reserved)[half:, 0])
                lent.setdefault(name, []).append(lent_share(windows.use[half:], reserved[half:], cores))
            print(f"\r{seed + 1}", end="", file=sys.stderr)
        print(
            f"\n{'all services change' if changes else 'nothing changes'}, budget {asked.budget:.1%}: windows violated"
        )
        print(f"{'':18}" + "".join(f"{a:>5}-{b:<3}s" for a, b in STRETCHES) + "    lent")
        for name, found in short.items():
            shares = np.mean(found, axis=0)
            per_s = 1_000_000 // (WINDOW * BEAT_US)
            row = "".join(f"{shares[a * per_s : b * per_s].mean():9.1%} " for a, b in STRETCHES)
            print(f"{name:18}{row}{np.mean(lent[name]):7.1%}")


if __name__ == "__main__":
    main()
