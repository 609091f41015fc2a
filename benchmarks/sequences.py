"""What sequences of operations add to forecasts over the next 100 ms to 10 s, on a recording of guests.

    python benchmarks/sequences.py [RECORDING.parquet]

For each guest the first part of the recording is the past, the rest is scored. Boosted trees of its own forecast
quantiles of a target's mean over the next windows from what the guest has done: levels, peaks and changes of everything
that a window tells, and levels of up to the last minute. Then from that and the operations of the newest window; then
also from its position in the sequences that were found so far, which are mined online, without a look ahead.

Which forecast to trust is learned online as well, for each guest, from losses that are known by then: forecasts with
and without sequences are combined, and measured against as many forecasts without them, combined in the same way.
Otherwise whatever is gained by taking two forecasts instead of one would count for sequences.

Pinball loss, mean over levels, of each guest in units of what its quantiles would lose if they were known and forecast
always, so that all guests count the same; intervals by a bootstrap over blocks of 30 s.
"""

from __future__ import annotations

import sys
import time
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import lightgbm
import numpy as np

from forestall.learning.aggregation import Aggregation, pinball
from forestall.model.samples import FloatArray
from forestall.ports.guest_channel import OPERATIONS, GuestWindow
from forestall.profiling.rhythm import ECHOES
from forestall.profiling.sequences import Memory, Sequences
from forestall.replay.guest_trace import read_guest_trace
from forestall.service.profiling import TARGETS, targets_of

RECORDING = Path(__file__).parent / "recorded" / "guests.parquet"
HORIZONS = (1, 2, 5, 10, 50, 100)
LEVELS = (0.5, 0.9, 0.99)
PAST_SHARE, SEED = 0.6, 0
BLOCK_WINDOWS, DRAWS, HOUR_WINDOWS = 300, 1000, 300
"""Blocks that are drawn, how often; and how far back a guest's losses of late go: half a minute for an hour."""
SCORED = (0, 2)
"""Targets that are forecast: CPU, and bytes written."""
SPANS, LONG_SPANS = (5, 10, 50), (300, 600)
ROUNDS = 100
PARAMETERS = {
    "objective": "quantile",
    "num_leaves": 7,
    "learning_rate": 0.05,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.6,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "max_bin": 127,
    "verbose": -1,
    "deterministic": True,
    "force_col_wise": True,
}
LEAST_IN_LEAF = 100
"""And two more for each window ahead: neighbours that look far ahead see the same."""
FORECASTS = ("without", "without again", "operations", "sequences")


class Guest(NamedTuple):
    """What is known of a guest (window, feature), and its targets (window, target)."""

    vm_id: str
    targets: FloatArray
    told: FloatArray
    newest: FloatArray
    position: FloatArray
    echo: FloatArray

    def rows(self, forecast: str, horizon: int) -> FloatArray:
        """What a forecast is made from: where no echo reaches, the newest operations say nothing either."""
        near = horizon <= ECHOES[-1]
        parts = {
            "operations": [self.newest],
            "sequences": [self.position, self.newest, self.echo] if near else [self.position],
        }
        return np.concatenate([self.told, *parts.get(forecast, [])], axis=1)


def plain(windows: list[GuestWindow], targets: FloatArray) -> FloatArray:
    """What a guest has done, but for its operations (window, feature)."""
    parts = [np.nan_to_num(np.array([window.values for window in windows])), targets]
    parts += [shifted(targets, lag) for lag in range(1, 6)]
    for span in SPANS:
        stacked = np.stack([shifted(targets, lag) for lag in range(span)])
        parts += [stacked.mean(axis=0), stacked.max(axis=0)]
    summed = np.concatenate([np.zeros_like(targets[:1]), np.cumsum(targets, axis=0)])
    ends = np.arange(1, len(summed))
    for span in LONG_SPANS:
        begins = np.maximum(ends - span, 0)
        parts.append((summed[ends] - summed[begins]) / (ends - begins)[:, None])
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


def ahead(values: FloatArray, horizon: int) -> FloatArray:
    """Mean over the next windows (window,), as far as the recording goes."""
    summed = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray((summed[1 + horizon :] - summed[1:-horizon]) / horizon)


def read(path: Path) -> list[Guest]:
    """Follow all guests of a recording through their sequences."""
    group, guests, spent, count = Memory(len(OPERATIONS), len(TARGETS)), [], 0.0, 0
    for vm_id, mine in groupby(read_guest_trace(path), key=lambda window: window.vm_id):
        windows = list(mine)
        targets = np.nan_to_num(np.array([targets_of(window) for window in windows]))
        follower = Sequences(len(OPERATIONS), len(TARGETS), group)
        began = time.process_time()
        found = [follower.step(window.operations, target) for window, target in zip(windows, targets, strict=True)]
        spent, count = spent + time.process_time() - began, count + len(windows)
        position = np.array([np.concatenate([at.ago, at.expected.ravel(), at.known]) for at in found])
        echo = np.array([at.echo.ravel() for at in found])
        guests.append(Guest(vm_id, targets, plain(windows, targets), newest(windows), position, echo))
    print(f"{count} windows of {len(guests)} guests; sequences cost {1e6 * spent / count:.0f} us a window")
    return guests


def forecasts_of(guest: Guest, target: int, horizon: int) -> tuple[FloatArray, FloatArray]:
    """Quantiles (forecast, scored window, level), and what came (scored window,)."""
    actual = ahead(guest.targets[:, target], horizon)
    past = round(PAST_SHARE * len(guest.targets))
    quantiles = []
    for forecast in FORECASTS:
        rows = guest.rows(forecast, horizon)
        seed = SEED + (forecast == "without again")
        parameters = {**PARAMETERS, "min_data_in_leaf": LEAST_IN_LEAF + 2 * horizon, "seed": seed}
        # What is trained on is over before what is scored begins.
        data = lightgbm.Dataset(rows[: past - horizon], actual[: past - horizon], params=parameters)
        models = [lightgbm.train({**parameters, "alpha": level}, data, ROUNDS) for level in LEVELS]
        scored = rows[past : len(actual)]
        quantiles.append(np.sort(np.stack([np.asarray(model.predict(scored)) for model in models], axis=1), axis=1))
    return np.array(quantiles), actual[past:]


def combined(quantiles: FloatArray, actual: FloatArray, horizon: int) -> FloatArray:
    """Combine forecasts (forecast, window, vm, level) online: what came (window, vm) is known once it is over."""
    aggregation = Aggregation(len(quantiles), LEVELS, HOUR_WINDOWS, overlap=horizon)
    aggregation.grow(actual.shape[1])
    result = np.full(quantiles.shape[1:], np.nan)
    for now in range(len(actual)):
        if (issued := now - horizon) >= 0:
            aggregation.update(quantiles[:, issued], result[issued], actual[issued])
        result[now] = aggregation.combine(quantiles[:, now])
    return result


def losses_of(guests: list[Guest], target: int, horizon: int) -> tuple[list[str], dict[str, FloatArray]]:
    """Guests that are scored, and the loss (window, vm) of each forecast and of combined ones; NaN after the end."""
    levels = np.array(LEVELS)
    past = {guest.vm_id: guest.targets[: round(PAST_SHARE * len(guest.targets)), target] for guest in guests}
    some = [guest for guest in guests if past[guest.vm_id].std() > 0.0]
    made = [forecasts_of(guest, target, horizon) for guest in some]
    most = max(len(actual) for _, actual in made)
    actual = np.stack([np.pad(came, (0, most - len(came)), constant_values=np.nan) for _, came in made], axis=1)
    padded = [np.pad(mine, ((0, 0), (0, most - mine.shape[1]), (0, 0)), constant_values=np.nan) for mine, _ in made]
    quantiles = np.stack(padded, axis=2)
    without, again, _, sequences = range(len(FORECASTS))
    sets = dict(zip(FORECASTS, quantiles, strict=True))
    sets["combined without"] = combined(quantiles[[without, again]], actual, horizon)
    sets["combined"] = combined(quantiles[[without, sequences]], actual, horizon)
    always = np.nanquantile(actual, LEVELS, axis=0).T[None].repeat(most, axis=0)
    unit = np.nanmean(loss(always, actual, levels), axis=0)
    known = unit > 0.0
    names = [guest.vm_id for guest, is_known in zip(some, known, strict=True) if is_known]
    return names, {name: loss(mine, actual, levels)[:, known] / unit[known] for name, mine in sets.items()}


def loss(quantiles: FloatArray, actual: FloatArray, levels: FloatArray) -> FloatArray:
    """Pinball loss (window, vm) of quantiles (window, vm, level), mean over levels."""
    each = pinball(quantiles.reshape(-1, len(levels)), levels, actual.ravel())
    return np.asarray(each.mean(axis=1).reshape(actual.shape))


def interval(losses: FloatArray, others: FloatArray) -> str:
    """How many times as large losses (window, vm) are as others, and 95 % of what it may be."""
    begins = np.arange(0, len(losses), BLOCK_WINDOWS)
    sums, other_sums = (np.add.reduceat(np.nan_to_num(mine), begins).ravel() for mine in (losses, others))
    drawn = np.random.default_rng(SEED).integers(0, len(sums), (DRAWS, len(sums)))
    low, high = np.percentile(sums[drawn].sum(axis=1) / other_sums[drawn].sum(axis=1), [2.5, 97.5])
    return f"{sums.sum() / other_sums.sum():6.3f} {low:.3f}-{high:.3f}"


def main(path: Path) -> None:
    """Print a table: losses over those without; of combined ones over combined ones without; and of each guest."""
    guests = read(path)
    print(f"{'target':22} {'ahead':>7} {'operations':>18} {'and sequences':>18} {'combined':>18}   of each guest")
    for target in SCORED:
        for horizon in HORIZONS:
            names, losses = losses_of(guests, target, horizon)
            columns = [interval(losses[name], losses["without"]) for name in ("operations", "sequences")]
            columns.append(interval(losses["combined"], losses["combined without"]))
            ratios = np.nansum(losses["combined"], axis=0) / np.nansum(losses["combined without"], axis=0)
            each = " ".join(f"{name} {ratio:.3f}" for name, ratio in zip(names, ratios, strict=True))
            print(f"{TARGETS[target]:22} {horizon / 10:5.1f} s {' '.join(columns)}   {each}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDING)
