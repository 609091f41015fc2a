"""What is foreseen of traffic: quantiles of the peaks that pairs, and interfaces, will come to, and scenarios of all.

Two forecasts are mixed, half and half. One is that of the demand loop (:mod:`forestall.learning.learner`), which needs
several days until it believes in a burst of five minutes a day. The other is what came at this time of the day on each
of the last days: that is all it knows, and it foresees such a burst from the second day on.

Scenarios are what came on those days, of all series together; and minutes of the last hour, in which each series is put
where the forecast says (the Schaake shuffle: Clark, Gangopadhyay, Hay, Rajagopalan and Wilby, Journal of
Hydrometeorology 5, 2004). So series that peak together do so in scenarios too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from forestall.learning.learner import Learner, LearnerSettings
from forestall.model.forecast import LEVELS, Statistic, Target
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray

STEP_SECONDS, HORIZON_STEPS = 300, 3
SCENARIOS, DAYS = 12, 7
DAY_SECONDS = 86_400
SURE_STEPS = 12
"""A series of which less is known is not foreseen: what it sent of late speaks for it."""
LEAST_DAYS = 2
GRID = (np.arange(99) + 0.5) / 99
Series = tuple[str, ...]


class Outlook:
    """Forecasts of series that come and go, by name.

    Parameters
    ----------
    step_seconds
        Length of an interval; the highest of the rates in it is what counts.
    horizon_steps
        So far ahead the peak is forecast.
    """

    def __init__(self, step_seconds: int = STEP_SECONDS, horizon_steps: int = HORIZON_STEPS) -> None:
        self.step_seconds = step_seconds
        self._horizon, self._day = horizon_steps, DAY_SECONDS // step_seconds
        self._learner = Learner(
            Resource.NET_TX, step_seconds, LearnerSettings((Target(Statistic.PEAK, horizon_steps),))
        )
        self._row: dict[Series, int] = {}
        self._seen: deque[FloatArray] = deque(maxlen=DAYS * self._day)
        self._quantiles: FloatArray = np.zeros((0, len(LEVELS)))
        self._peak: dict[Series, float] = {}
        self._step: int | None = None
        self._learned_at: int | None = None

    def take_in(self, rates: Mapping[Series, float], now: float) -> tuple[Mapping[Series, float], int] | None:
        """Take in rates of a moment, bytes per second; if an interval has ended, its peaks, and when it began."""
        step = int(now // self.step_seconds)
        before, self._step = self._step, step
        ended = None
        if before is not None and step > before:
            ended = self._peak, before * self.step_seconds
            self.learn_at(*ended)
        if before != step:
            self._peak = {}
        for name, rate in rates.items():
            self._peak[name] = max(rate, self._peak.get(name, 0.0))
        return ended

    def learn_at(self, peaks: Mapping[Series, float], starts_at: int) -> None:
        """Learn from an interval; between the last one and this nothing was seen."""
        if self._learned_at is not None:
            missed = range(self._learned_at + self.step_seconds, starts_at, self.step_seconds)
            days = max(len(missed) // self._day - 1, 0)  # whole days are left out, so that noon stays noon
            for instant in missed[days * self._day :]:
                self.learn(None, instant)
        self.learn(peaks, starts_at)

    def learn(self, peaks: Mapping[Series, float] | None, starts_at: int) -> None:
        """Learn from a whole interval: the highest rates in it; who is not named has sent nothing, or is not known yet.

        None: nobody has looked. Intervals must come one after the other.
        """
        seen = peaks or {}
        for name in seen:
            self._row.setdefault(name, len(self._row))
        demand = np.zeros(len(self._row))
        demand[[self._row[name] for name in seen]] = list(seen.values())
        known = np.full(len(demand), np.nan) if peaks is None else demand
        self._learner.take_in(known, np.full(len(demand), np.inf), starts_at)
        own = self._learner.step(starts_at)[0]
        self._learned_at = starts_at
        self._seen.append(demand)
        self._quantiles = _mixed(own, self._of_days(np.arange(len(demand))))

    def quantiles(self, name: Series) -> FloatArray | None:
        """Quantiles (level,), at :data:`LEVELS`, of a series' peak within the horizon; None of one hardly known."""
        row = self._row.get(name)
        if row is None or row >= len(self._quantiles) or self._learner.window.seen[row] < SURE_STEPS:
            return None
        found: FloatArray = self._quantiles[row]
        return None if np.isnan(found).any() else found

    def peaks(self, level: float) -> dict[Series, float]:
        """Quantile at a level of each series of which one can be told."""
        if not len(self._quantiles):
            return {}
        sure = self._learner.window.seen[: len(self._quantiles)] >= SURE_STEPS
        found = np.array([np.interp(level, LEVELS, each) for each in self._quantiles])
        known = sure & np.isfinite(found)
        return {name: float(found[row]) for name, row in self._row.items() if row < len(found) and known[row]}

    def scenarios(self, names: Sequence[Series]) -> FloatArray:
        """What may come within the horizon: array (scenario, series); none before the first forecast."""
        if not self._seen or not names:
            return np.zeros((0, len(names)))
        rows = np.array([self._row.get(name, -1) for name in names])
        past = np.array([_taken(seen, rows) for seen in list(self._seen)[-SCENARIOS:]])
        place = (np.argsort(np.argsort(past, axis=0, kind="stable"), axis=0, kind="stable") + 0.5) / len(past)
        shuffled = past.copy()
        for j, name in enumerate(names):
            if (found := self.quantiles(name)) is not None:
                shuffled[:, j] = np.interp(place[:, j], LEVELS, found)
        return np.concatenate([shuffled, self._of_days(rows)])

    def keep(self, wanted: Callable[[Series], bool]) -> None:
        """Forget all series but those that are wanted."""
        kept = [name for name in self._row if wanted(name)]
        rows = np.array([self._row[name] for name in kept], np.int64)
        if len(kept) == len(self._row):
            return
        self._learner.keep(rows[rows < self._learner.window.vms])
        self._quantiles = self._quantiles[rows[rows < len(self._quantiles)]]
        self._seen = deque((_taken(seen, rows) for seen in self._seen), self._seen.maxlen)
        self._row = {name: k for k, name in enumerate(kept)}

    def _of_days(self, rows: np.ndarray) -> FloatArray:
        """Peaks within the horizon, at this time of each of the last days: array (day, row)."""
        found = []
        for day in range(1, DAYS + 1):
            begins = len(self._seen) - day * self._day
            if begins < 0:
                break
            ahead = [self._seen[k] for k in range(begins, min(begins + self._horizon, len(self._seen)))]
            found.append(np.max([_taken(seen, rows) for seen in ahead], axis=0))
        return np.array(found) if len(found) >= LEAST_DAYS else np.zeros((0, len(rows)))


def _taken(seen: FloatArray, rows: np.ndarray) -> FloatArray:
    """Values of rows; of one that was not known then 0."""
    known = (rows >= 0) & (rows < len(seen))
    return np.where(known, seen[np.where(known, rows, 0)] if len(seen) else 0.0, 0.0)


def _mixed(own: FloatArray, days: FloatArray) -> FloatArray:
    """Quantiles (series, level) of the mixture of a forecast (series, level) and of peaks of days (day, series)."""
    if not len(days):
        return own
    grid = np.array([np.interp(GRID, LEVELS, each) for each in own]).reshape(len(own), len(GRID))
    values = np.concatenate([grid, days.T], axis=1)
    weight = np.concatenate([np.full(len(GRID), 0.5 / len(GRID)), np.full(len(days), 0.5 / len(days))])
    order = np.argsort(values, axis=1, kind="stable")
    below = np.cumsum(weight[order], axis=1) - 0.5 * weight[order]
    ordered = np.take_along_axis(values, order, axis=1)
    return np.array([np.interp(LEVELS, *each) for each in zip(below, ordered, strict=True)])
