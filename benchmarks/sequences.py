"""What sequences of operations add to forecasts over the next 100 ms to 10 s, on a recording of guests.

    python benchmarks/sequences.py [RECORDING.parquet]

For each guest the first part of the recording is the past, the rest is scored. Boosted trees forecast quantiles of a
target's mean over the next windows, once from what the guest has just done (levels, peaks and changes of everything
that a window tells, up to five seconds back, and the operations of the newest window), once from that and its position
in the sequences that were found so far, which are mined online, without a look ahead. Pinball loss, mean over levels,
relative to forecasts without; intervals by a bootstrap over blocks of 30 s.
"""

from __future__ import annotations

import sys
import time
from itertools import groupby
from pathlib import Path

import lightgbm
import numpy as np

from forestall.model.samples import FloatArray
from forestall.ports.guest_channel import OPERATIONS, GuestWindow
from forestall.profiling.sequences import Memory, Sequences
from forestall.replay.guest_trace import read_guest_trace
from forestall.service.profiling import TARGETS, targets_of

RECORDING = Path(__file__).parents[1] / "src/forestall/replay/recorded/guests.parquet"
HORIZONS = (1, 2, 5, 10, 50, 100)
LEVELS = (0.5, 0.9, 0.99)
PAST_SHARE, SEED = 0.6, 0
BLOCK_WINDOWS, DRAWS = 300, 1000
SCORED = (0, 2)
"""Targets that are forecast: CPU, and bytes written."""
BACK = 50
PARAMETERS = {
    "objective": "quantile",
    "num_leaves": 31,
    "learning_rate": 0.05,
    "min_data_in_leaf": 50,
    "num_threads": 2,
    "verbose": -1,
    "seed": SEED,
    "deterministic": True,
}


def plain(windows: list[GuestWindow], targets: FloatArray) -> FloatArray:
    """What a guest has just done (window, feature)."""
    values = np.nan_to_num(np.array([window.values for window in windows]))
    classes = np.zeros((len(windows), len(OPERATIONS)))
    for row, window in enumerate(windows):
        for kind, size in window.operations:
            classes[row, kind] = max(size, 1)
    parts = [values, targets, classes]
    parts += [shifted(targets, lag) for lag in range(1, 6)]
    for span in (5, 10, BACK):
        stacked = np.stack([shifted(targets, lag) for lag in range(span)])
        parts += [stacked.mean(axis=0), stacked.max(axis=0)]
    return np.concatenate(parts, axis=1)


def shifted(values: FloatArray, lag: int) -> FloatArray:
    """As it was ``lag`` windows earlier."""
    return np.concatenate([np.zeros((lag, values.shape[1])), values[: len(values) - lag]])


def positions(windows: list[GuestWindow], targets: FloatArray, group: Memory) -> FloatArray:
    """Where a guest is in its sequences (window, feature)."""
    follower = Sequences(len(OPERATIONS), len(TARGETS), group)
    rows = []
    for window, target in zip(windows, targets, strict=True):
        found = follower.step(window.operations, target)
        rows.append(
            np.concatenate([found.expected.ravel(), found.spread.ravel(), found.soon, found.known, [found.since]])
        )
    return np.array(rows)


def ahead(values: FloatArray, horizon: int) -> FloatArray:
    """Mean over the next windows; NaN where the recording ends before."""
    summed = np.concatenate([[0.0], np.cumsum(values)])
    result = np.full(len(values), np.nan)
    result[: len(values) - horizon] = (summed[1 + horizon :] - summed[1:-horizon]) / horizon
    return result


def pinball(actual: FloatArray, forecast: FloatArray, level: float) -> FloatArray:
    """Loss of each forecast."""
    return np.maximum(level * (actual - forecast), (level - 1) * (actual - forecast))


def main(path: Path) -> None:
    """Print a table."""
    by_vm = {vm: list(mine) for vm, mine in groupby(read_guest_trace(path), key=lambda window: window.vm_id)}
    without, with_sequences, targets, past, block = [], [], [], [], []
    group = Memory(len(OPERATIONS), len(TARGETS))
    spent = 0.0
    for number, (vm, windows) in enumerate(by_vm.items()):
        mine = np.nan_to_num(np.array([targets_of(window) for window in windows]))
        told = plain(windows, mine)
        began = time.perf_counter()
        found = positions(windows, mine, group)
        spent += time.perf_counter() - began
        identity = np.full((len(windows), 1), number)
        without.append(np.concatenate([identity, told], axis=1))
        with_sequences.append(np.concatenate([identity, told, found], axis=1))
        targets.append(mine)
        past.append(np.arange(len(windows)) < PAST_SHARE * len(windows))
        block.append(np.arange(len(windows)) // BLOCK_WINDOWS + 10_000 * number)
        print(f"{vm}: {len(windows)} windows, {1e6 * spent / sum(map(len, targets)):.0f} us a window for sequences")
    sets = {"without": np.concatenate(without), "with": np.concatenate(with_sequences)}
    is_past, blocks, all_targets = np.concatenate(past), np.concatenate(block), np.concatenate(targets)
    print(f"{'target':24} {'ahead':>7} {'with / without':>15}  95 %")
    for target in SCORED:
        for horizon in HORIZONS:
            actual = np.concatenate([ahead(mine[:, target], horizon) for mine in targets])
            # What is trained on must be over before what is scored begins.
            over = np.concatenate([np.arange(len(p)) + horizon < p.sum() for p in past])
            known = np.isfinite(actual)
            scale = all_targets[is_past, target].std()
            loss = {name: np.zeros(int((known & ~is_past).sum())) for name in sets}
            for level in LEVELS:
                for name, rows in sets.items():
                    data = lightgbm.Dataset(rows[known & is_past & over], actual[known & is_past & over] / scale)
                    model = lightgbm.train({**PARAMETERS, "alpha": level}, data, 150)
                    forecast = np.asarray(model.predict(rows[known & ~is_past]))
                    loss[name] += pinball(actual[known & ~is_past] / scale, forecast, level)
            sums = {
                name: np.bincount(np.unique(blocks[known & ~is_past], return_inverse=True)[1], mine)
                for name, mine in loss.items()
            }
            drawn = np.random.default_rng(SEED).integers(0, len(sums["with"]), (DRAWS, len(sums["with"])))
            ratios = sums["with"][drawn].sum(axis=1) / sums["without"][drawn].sum(axis=1)
            low, high = np.percentile(ratios, [2.5, 97.5])
            ratio = loss["with"].sum() / loss["without"].sum()
            print(f"{TARGETS[target]:24} {horizon / 10:5.1f} s {ratio:15.3f}  {low:.3f}-{high:.3f}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDING)
