"""Forecasts of the highest use within the next tenths of a second, combined from experts online.

Row 0 is the pool, the use of all its VMs together; the others are its VMs. Experts are combined as those of the demand
loop are: weights for each row and level from pinball loss.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forestall.learning.peaks.analogue import AnaloguePaths
from forestall.learning.peaks.beats import FEATURES, Beats
from forestall.learning.peaks.linear import OnlineLinear
from forestall.learning.peaks.model import LEVELS, PeakModel
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
    bases: list[FloatArray]
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
        self._tracked = [Tracked(len(horizons)) for _ in tracked]
        self.experts: tuple[str, ...] = (*tracked, "linear")
        prior = np.array([PRIOR[name] for name in self.experts])
        self._trust = PeakTrust(tuple(prior / prior.sum()), len(horizons))
        self._issued: deque[Issued] = deque()
        self._learned = 0
        self._features: Float32Array = np.zeros((0, FEATURES), np.float32)
        self._said: FloatArray = np.zeros((len(horizons), 0, len(LEVELS)))
        self.grow(1)

    @property
    def rows(self) -> int:
        """The pool and its VMs."""
        return self._beats.series

    @property
    def scale(self) -> FloatArray:
        """The measure (row,) of each row, cores."""
        return self._beats.scale

    def grow(self, rows: int) -> None:
        """Make room for so many rows; new ones stand last."""
        new = rows - self.rows
        for part in self._parts():
            part.grow(rows)
        self._features = np.pad(self._features, ((0, new), (0, 0)))
        self._said = np.pad(self._said, ((0, 0), (0, new), (0, 0)))

    def keep(self, rows: IntArray) -> None:
        """Forget all rows but these; the pool's, 0, is among them."""
        for part in self._parts():
            part.keep(rows)
        self._features, self._said = self._features[rows], self._said[:, rows]
        self._issued.clear()

    def _parts(self) -> list[_Part]:
        recurrent = [self._recurrent] if self._recurrent else []
        return [self._beats, self._recent, self._analogue, self._linear, *self._tracked, self._trust, *recurrent]

    def take_in(self, mean: FloatArray, peak: FloatArray) -> None:
        """Take in a beat: arrays (row,), mean and highest use, cores."""
        self._features = self._beats.step(mean, peak)
        self._recent.push(peak)
        self._analogue.push(self._features, peak)
        if self._recurrent:
            self._said = self._recurrent.step(self._features, self.scale)

    def forecast(self) -> FloatArray:
        """Quantiles (horizon, row, level) of the highest use within each horizon, cores, not falling over levels."""
        peaks = np.zeros(self.rows), self._recent.peak(SECOND_BEATS)
        bases = [base[None, :, None] for base in peaks]
        bases += [self._analogue.forecast(), *([self._said] if self._recurrent else [])]
        said = [tracked.forecast(base) for tracked, base in zip(self._tracked, bases, strict=True)]
        experts = np.stack([*said, self._linear.forecast(self._features, self.scale)])
        combined = self._trust.combine(experts)
        self._issued.append(Issued(self._recent.count, self._features, self.scale, bases, experts, combined))
        return combined

    def learn(self) -> None:
        """Learn from every forecast whose horizon has passed since the last call; not on the way to a decision."""
        now = self._recent.count
        for issued in self._issued:
            for k, horizon in enumerate(self.horizons):
                due = issued.beat + horizon
                if self._learned < due <= now:
                    self._learn(k, issued, self._recent.peak(horizon, now - due)[: len(issued.scale)])
        self._learned = now
        self._analogue.look()
        while self._issued and self._issued[0].beat + max(self.horizons) <= now:
            self._issued.popleft()

    def weights(self, horizon: int) -> FloatArray:
        """Trust in the experts (expert, row, level) at the horizon with this position."""
        return self._trust.weights()[:, horizon]

    def _learn(self, k: int, issued: Issued, peak: FloatArray) -> None:
        self._trust.learn(k, issued.experts[:, k], issued.combined[k], peak)
        self._linear.learn(k, issued.features, issued.scale, peak)
        for tracked, base in zip(self._tracked, issued.bases, strict=True):
            tracked.learn(k, base[k % len(base)], peak, issued.scale)
