"""How soon VMs that change their habits are served as promised again, by Forestall and by each expert alone.

    python benchmarks/change.py [--vms 24] [--days 8] [--budget 0.05]

Gentle days; then every other VM uses three times as much, with a burst each hour. Printed is, of the VMs that changed,
the share of intervals in violation by the time since the change, the slack before and after, and after how many
intervals the running share of two hours is within twice the budget for good. Each expert alone is given the quantile
that the budget means, and counts where it says something.
"""

from __future__ import annotations

import argparse

import numpy as np

from forestall.bootstrap.models import recurrent_settings
from forestall.demand.core import DemandLoop
from forestall.demand.settings import DemandSettings
from forestall.learning.boosted import BoostedSettings
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray
from forestall.testing.habits import DAY, HOUR, LIMIT_CORES, habits

STEP = 300
AFTER_DAYS = 3
SINCE_HOURS = {
    "0-30 min": (0, 0.5),
    "30-60 min": (0.5, 1),
    "1-2 h": (1, 2),
    "2-4 h": (2, 4),
    "4-8 h": (4, 8),
    "1-2 days": (24, 48),
}


def drive(demand: FloatArray, budget: float) -> dict[str, FloatArray]:
    """What Forestall and each expert would have held (time, vm); NaN where they said nothing."""
    boosted = BoostedSettings(retrain_seconds=2 * 86_400)
    settings = DemandSettings(STEP, budgets=(budget,), boosted=boosted, recurrent=recurrent_settings())
    loop = DemandLoop(Resource.CPU, settings)
    place, decided = settings.levels.index(1 - budget), loop.settings.targets.index(loop.settings.decided_target)
    names = ["forestall", *(expert.name for expert in loop.learner.experts)]
    held = {name: np.full(demand.shape, np.nan) for name in names}
    for i, row in enumerate(demand[:-1]):
        cycle = loop.step(row, np.full(len(row), LIMIT_CORES), i * STEP)
        said = loop.learner.spoken()[decided]
        for name, amount in zip(names, [cycle.allocated[0], *said[..., place]], strict=True):
            held[name][i + 1] = np.minimum(amount, LIMIT_CORES)
    return held


def main() -> None:
    """Run it and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--vms", type=int, default=24)
    options.add_argument("--days", type=int, default=8, help="before the change")
    options.add_argument("--budget", type=float, default=0.05, help="one less a level of the forecasts")
    given = options.parse_args()
    change = given.days * DAY
    demand = habits(given.vms, given.days, AFTER_DAYS * DAY)
    print("| | " + " | ".join(SINCE_HOURS) + " | slack before, after | intervals until within twice the budget |")
    print("|---" * (len(SINCE_HOURS) + 3) + "|")
    for name, held in drive(demand, given.budget).items():
        gap = held[:, ::2] - demand[:, ::2]
        spoke = np.isfinite(gap)
        short = ((gap < -1e-9) & spoke).sum(axis=1) / np.maximum(spoke.sum(axis=1), 1)
        parts = [slice(change + int(a * HOUR), change + int(b * HOUR)) for a, b in SINCE_HOURS.values()]
        cells = [f"{short[part].mean():.0%}" for part in parts]
        before, after = (
            float(gap[rows][spoke[rows]].sum() / demand[rows, ::2][spoke[rows]].sum())
            for rows in (slice(change - DAY, change), slice(change + DAY, change + 2 * DAY))
        )
        running = np.convolve(short[change:], np.full(2 * HOUR, 1 / (2 * HOUR)), "valid")
        late = np.flatnonzero(running > 2 * given.budget)
        back = 0 if not len(late) else int(late[-1]) + 1 + 2 * HOUR
        until = str(back) if back < len(short) - change else f"not in {AFTER_DAYS} days"
        print(f"| {name} | " + " | ".join(cells) + f" | {before:.2f}, {after:.2f} | {until} |", flush=True)


if __name__ == "__main__":
    main()
