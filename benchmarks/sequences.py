"""What sequences of operations add to forecasts over the next 100 ms to 10 s, on a recording of guests.

    python benchmarks/sequences.py [RECORDING.parquet]

For each guest the first part of the recording is the past, the rest is scored. Boosted trees forecast quantiles of a
target's mean over the next windows from what the guest has just done: levels, peaks and changes of everything that a
window tells, up to five seconds back. Then from that and the operations of the newest window; then also from its
position in the sequences that were found so far, which are mined online, without a look ahead. Pinball loss, mean over
levels, relative to forecasts without operations and sequences; intervals by a bootstrap over blocks of 30 s.
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

RECORDING = Path(__file__).parent / "recorded" / "guests.parquet"
HORIZONS = (1, 2, 5, 10, 50, 100)
LEVELS = (0.5, 0.9, 0.99)
PAST_SHARE, SEED = 0.6, 0
BLOCK_WINDOWS, DRAWS = 300, 1000
SCORED = (0, 2)
"""Targets that are forecast: CPU, and bytes written."""
BACK, ROUNDS = 50, 150
PARAMETERS = {
    "objective": "quantile",
    "num_leaves": 15,
    "learning_rate": 0.05,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.6,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "num_threads": 2,
    "verbose": -1,
    "seed": SEED,
    "deterministic": True,
}


def plain(windows: list[GuestWindow], targets: FloatArray) -> FloatArray:
    """What a guest has just done, but for its operations (window, feature)."""
    parts = [np.nan_to_num(np.array([window.values for window in windows])), targets]
    parts += [shifted(targets, lag) for lag in range(1, 6)]
    for span in (5, 10, BACK):
        stacked = np.stack([shifted(targets, lag) for lag in range(span)])
        parts += [stacked.mean(axis=0), stacked.max(axis=0)]
    return np.concatenate(parts, axis=1)


def newest(windows: list[GuestWindow]) -> FloatArray:
    """Classes of the operations of each window (window, operation)."""
    classes = np.zeros((len(windows), len(OPERATIONS)))
    for row, window in enumerate(windows):
        for kind, size in window.operations:
            classes[row, kind] = max(size, 1)
    return classes


def shifted(values: FloatArray, lag: int) -> FloatArray:
    """As it was ``lag`` windows earlier."""
    return np.concatenate([np.zeros((lag, values.shape[1])), values[: len(values) - lag]])


def positions(windows: list[GuestWindow], targets: FloatArray, group: Memory) -> FloatArray:
    """Where a guest is in its sequences (window, feature)."""
    follower = Sequences(len(OPERATIONS), len(TARGETS), group)
    rows = []
    for window, target in zip(windows, targets, strict=True):
        found = follower.step(window.operations, target)
        rows.append(np.concatenate([found.ago, found.expected.ravel(), found.known]))
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
    rows: dict[str, list[FloatArray]] = {"without": [], "operations": [], "sequences": []}
    targets, past, block = [], [], []
    group, spent = Memory(len(OPERATIONS), len(TARGETS)), 0.0
    for number, windows in enumerate(by_vm.values()):
        mine = np.nan_to_num(np.array([targets_of(window) for window in windows]))
        began = time.perf_counter()
        found = positions(windows, mine, group)
        spent += time.perf_counter() - began
        told = np.concatenate([np.full((len(windows), 1), number), plain(windows, mine)], axis=1)
        rows["without"].append(told)
        rows["operations"].append(np.concatenate([told, newest(windows)], axis=1))
        rows["sequences"].append(np.concatenate([told, newest(windows), found], axis=1))
        targets.append(mine)
        past.append(np.arange(len(windows)) < PAST_SHARE * len(windows))
        block.append(np.arange(len(windows)) // BLOCK_WINDOWS + 10_000 * number)
    sets = {name: np.concatenate(mine) for name, mine in rows.items()}
    is_past, blocks = np.concatenate(past), np.concatenate(block)
    print(f"{len(is_past)} windows of {len(by_vm)} guests; sequences cost {1e6 * spent / len(is_past):.0f} us a window")
    print(f"{'target':24} {'ahead':>7} {'operations':>12} {'and sequences':>14}   95 %")
    for target in SCORED:
        for horizon in HORIZONS:
            actual = np.concatenate([ahead(mine[:, target], horizon) for mine in targets])
            # What is trained on must be over before what is scored begins.
            over = np.concatenate([np.arange(len(p)) + horizon < p.sum() for p in past])
            scored = np.isfinite(actual) & ~is_past
            losses = {name: loss_of(mine, actual, over, scored) for name, mine in sets.items()}
            sums = {
                name: np.bincount(np.unique(blocks[scored], return_inverse=True)[1], mine)
                for name, mine in losses.items()
            }
            drawn = np.random.default_rng(SEED).integers(0, len(sums["without"]), (DRAWS, len(sums["without"])))
            ratios = sums["sequences"][drawn].sum(axis=1) / sums["without"][drawn].sum(axis=1)
            low, high = np.percentile(ratios, [2.5, 97.5])
            ratio = {name: mine.sum() / losses["without"].sum() for name, mine in losses.items()}
            print(
                f"{TARGETS[target]:24} {horizon / 10:5.1f} s {ratio['operations']:12.3f} {ratio['sequences']:14.3f}"
                f"   {low:.3f}-{high:.3f}",
                flush=True,
            )


def loss_of(rows: FloatArray, actual: FloatArray, trained: np.ndarray, scored: np.ndarray) -> FloatArray:
    """Pinball loss of each scored row, summed over levels, in standard deviations of what was trained on."""
    scale = actual[trained].std()
    loss = np.zeros(int(scored.sum()))
    for level in LEVELS:
        model = lightgbm.train(
            {**PARAMETERS, "alpha": level}, lightgbm.Dataset(rows[trained], actual[trained] / scale), ROUNDS
        )
        loss += pinball(actual[scored] / scale, np.asarray(model.predict(rows[scored])), level)
    return loss


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDING)
