"""Forecasts of the highest use within the next tenths of a second, combined from experts online.

Row 0 is the pool, the use of all its VMs together; the others are its VMs. Experts are combined as those of the demand
loop are: weights for each row and level from pinball loss.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forestall.learning.peaks.analogue import AnaloguePaths
from forestall.learning.peaks.beats import FEATURES, Beats
from forestall.learning.peaks.linear import OnlineLinear
from forestall.learning.peaks.model import PeakModel
from forestall.learning.peaks.recent import Recent
from forestall.learning.peaks.recurrent import RecurrentPeaks
from forestall.learning.peaks.tracked import Tracked
from forestall.learning.peaks.trust import PeakTrust
from forestall.model.samples import Float32Array, FloatArray, IntArray

POOL = 0
SECOND_BEATS = 40
"""Window of the windowed peak."""
PRIOR = {
    "recurrent": 4.0,
    "analogue": 4.0,
    "recent_quantile": 4.0,
    "windowed_peak": 1.0,
    "linear": 0.25,
}
"""How much each expert is trusted at first, in proportion: three that know different things, and rules of thumb."""
BASES = ("recent_quantile", "windowed_peak")


@dataclass(frozen=True)
class Issued:
    """What was forecast after a beat, for learning from it later; arrays as in the experts."""

    beat: int
    features: Float32Array
    scale: FloatArray
    bases: FloatArray
    experts: FloatArray
    combined: FloatArray


class _Part(Protocol):
    """Something with a place for each row."""

    def grow(self, rows: int, /) -> None: ...

    def keep(self, rows: IntArray, /) -> None: ...


class PeakForecaster:
    """Forecasts the peaks of a pool and its VMs.

    Parameters
    ----------
    horizons
        Beats ahead.
    model
        The recurrent expert; None: do without.
    rng
        For the draws of analogues.
    """

    def __init__(self, horizons: tuple[int, ...], model: PeakModel | None, rng: np.random.Generator) -> None:
        self.horizons = horizons
        self._beats, self._recent = Beats(), Recent(2 * max(SECOND_BEATS, *horizons))
        self._recurrent = RecurrentPeaks(model, horizons) if model else None
        self._linear = OnlineLinear(len(horizons))
        self._analogue = AnaloguePaths(horizons, rng)
        tracked = (*BASES, "analogue", *(["recurrent"] if model else []))
        self._tracked = Tracked(len(tracked), len(horizons))
        self.experts: tuple[str, ...] = (*tracked, "linear")
        prior = np.array([PRIOR[name] for name in self.experts])
        self._trust = PeakTrust(tuple(prior / prior.sum()), len(horizons))
        # Beats, mean and peak, that are not yet in features, analogues and the model's state.
        self._waiting: list[tuple[FloatArray, FloatArray]] = []
        self._issued: deque[Issued] = deque()
        self._learned = 0
        self._features: Float32Array = np.zeros((0, FEATURES), np.float32)
        self.grow(1)

    @property
    def rows(self) -> int:
        """The pool and its VMs."""
        return self._beats.series

    @property
    def scale(self) -> FloatArray:
        """The measure (row,) of each row, cores."""
        self.catch_up()
        return self._beats.scale

    def grow(self, rows: int) -> None:
        """Make room for so many rows; new ones stand last."""
        self.catch_up()
        new = rows - self.rows
        for part in self._parts():
            part.grow(rows)
        self._features = np.pad(self._features, ((0, new), (0, 0)))

    def keep(self, rows: IntArray) -> None:
        """Forget all rows but these; the pool's, 0, is among them."""
        self.catch_up()
        for part in self._parts():
            part.keep(rows)
        self._features = self._features[rows]
        self._issued.clear()

    def _parts(self) -> list[_Part]:
        recurrent = [self._recurrent] if self._recurrent else []
        return [self._beats, self._recent, self._analogue, self._linear, self._tracked, self._trust, *recurrent]

    def take_in(self, mean: FloatArray, peak: FloatArray) -> None:
        """Take in a beat: arrays (row,), mean and highest use, cores."""
        self._recent.push(peak)
        self._waiting.append((mean, peak))

    def catch_up(self) -> None:
        """Work out what follows from the beats that were taken in.

        All at once before they are needed: beat by beat, each time with cold caches, it costs a live loop thrice as
        much.
        """
        if not self._waiting:
            return
        seen = []
        for mean, peak in self._waiting:
            seen.append(self._beats.step(mean, peak))
            self._analogue.push(seen[-1], peak)
        self._waiting.clear()
        self._features = seen[-1]
        if self._recurrent:
            self._recurrent.take_in(np.stack(seen), self._beats.scale)

    def forecast(self) -> FloatArray:
        """Quantiles (horizon, row, level) of the highest use within each horizon, cores, not falling over levels."""
        self.catch_up()
        peaks = np.zeros(self.rows), self._recent.peak(SECOND_BEATS)
        said = [*(peak[:, None] for peak in peaks), self._analogue.forecast()]
        said += [self._recurrent.forecast()] if self._recurrent else []
        bases = np.stack([np.broadcast_to(base, said[-1].shape) for base in said])
        linear = self._linear.forecast(self._features, self.scale)
        experts = np.concatenate([self._tracked.forecast(bases), linear[None]])
        combined = self._trust.combine(experts)
        self._issued.append(Issued(self._recent.count, self._features, self.scale, bases, experts, combined))
        return combined

    def learn(self) -> None:
        """Learn from every forecast whose horizon has passed since the last call; not on the way to a decision."""
        now = self._recent.count
        due = [
            (k, issued)
            for issued in self._issued
            for k, horizon in enumerate(self.horizons)
            if self._learned < issued.beat + horizon <= now
        ]
        self._learned = now
        while due:  # all horizons in one go, as a rule
            together = {k: issued for k, issued in reversed(due) if len(issued.scale) == len(due[0][1].scale)}
            due = [(k, issued) for k, issued in due if together.get(k) is not issued]
            self._learn(together, now)
        self._analogue.look()
        while self._issued and self._issued[0].beat + max(self.horizons) <= now:
            self._issued.popleft()

    def weights(self, horizon: int) -> FloatArray:
        """Trust in the experts (expert, row, level) at the horizon with this position."""
        return self._trust.weights()[:, horizon]

    def _learn(self, due: Mapping[int, Issued], now: int) -> None:
        """Learn from what was forecast for some horizons, by their positions; of the same rows each."""
        at, issued = list(due), list(due.values())
        ended = [now - (forecast.beat + self.horizons[k]) for k, forecast in due.items()]
        peak = np.stack([self._recent.peak(self.horizons[k], ago) for k, ago in zip(at, ended, strict=True)])
        peak = peak[:, : len(issued[0].scale)]
        scale = np.stack([forecast.scale for forecast in issued])
        experts = np.stack([forecast.experts[:, k] for k, forecast in due.items()], axis=1)
        combined = np.stack([forecast.combined[k] for k, forecast in due.items()])
        self._trust.learn(at, experts, combined, peak)
        self._linear.learn(at, np.stack([forecast.features for forecast in issued]), scale, peak)
        bases = np.stack([forecast.bases[:, k] for k, forecast in due.items()], axis=1)
        self._tracked.learn(at, bases, peak, scale)
