r"""How unusual each VM is now, over all its resources together; streaming, vectorised over VMs.

Of every channel (a resource) short means are kept over 1, 4, 16 and 64 steps, so that a spike and a slow climb both
show. Each is compared with the distribution that means of its length had so far, as of before they began:

.. math:: z_s = \frac{\bar x_s - \mu_s}{\sigma_s + 0.01\,|\bar x| + floor}, \qquad
          e = \frac{1}{S} \sum_s \log\Bigl(1 + \sqrt{z_s^\top R^{-1} z_s / C}\Bigr)

with the VM's own correlation :math:`R` of its :math:`C` channels, shrunk towards independence: CPU and network that
rise together as they always do are less surprising than one without the other. What the time of day explains is taken
out first, as far as it has explained the past. Moments forget over 4,000 steps, and one value moves them no further
than 50 deviations. A surprise lasts: the score is :math:`1 - e^{-E}` with :math:`E` the highest evidence so far,
fading with a half-life of 60 steps.

Source: multi-scale evidence as in Lavin & Ahmad, "Evaluating Real-Time Anomaly Detection Algorithms", 2015 (short mean
against long distribution); the distance is Mahalanobis', 1936.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.profiling.daily import DailyProfile
from forestall.profiling.window import retained

SCALES = (1, 4, 16, 64)
CORRELATED_SCALE = 1
"""Index of the scale at which channels are correlated."""


@dataclass(frozen=True)
class SurpriseSettings:
    """How evidence is gathered; figures in steps.

    Attributes
    ----------
    memory_steps
        What has been seen before that counts little.
    young_steps
        A channel says nothing before.
    half_life_steps
        How long a surprise lasts.
    most_deviations
        No value moves the moments further.
    least_spread_ratio
        Spread below this share of a channel's size is no spread.
    shrinkage
        How far correlations are drawn to zero.
    """

    memory_steps: float = 4_000.0
    young_steps: int = 20
    half_life_steps: float = 60.0
    most_deviations: float = 50.0
    least_spread_ratio: float = 0.01
    shrinkage: float = 0.3


@dataclass(frozen=True)
class Surprises:
    """What one step brought.

    Attributes
    ----------
    evidence
        Array (vm,), of this step alone; 0 is nothing unusual.
    score
        Array (vm,) in [0, 1].
    cause
        Array (vm, channel): which share each channel has in the evidence that the score is from; each row adds up to 1,
        or is all nought where nothing was unusual yet.
    deviation
        Array (scale, vm, channel), signed, in spreads; 0 where nothing can be said.
    level
        Array (scale, vm, channel): the short means, in the unit of the channel.
    usual
        Array (vm, channel): what is usual at this time of day; NaN while nothing can be said.
    """

    evidence: FloatArray
    score: FloatArray
    cause: FloatArray
    deviation: FloatArray
    level: FloatArray
    usual: FloatArray


class Surprise:
    """Scores the unusual.

    Parameters
    ----------
    floors
        For each channel what does not matter, in its unit.
    settings
        How.
    """

    def __init__(self, floors: Sequence[float], settings: SurpriseSettings | None = None) -> None:
        self.settings = settings or SurpriseSettings()
        self._floors = np.asarray(floors, dtype=np.float64)
        channels, scales = len(self._floors), len(SCALES)
        self._daily = DailyProfile(channels, self.settings.memory_steps)
        self._seen: IntArray = np.zeros((0, channels), np.int64)
        self._size: FloatArray = np.zeros((0, channels))
        self._short: FloatArray = np.zeros((scales, 0, channels))
        self._mean: FloatArray = np.zeros((scales, 0, channels))
        self._variance: FloatArray = np.zeros((scales, 0, channels))
        self._product: FloatArray = np.zeros((0, channels, channels))
        self._lasting: FloatArray = np.zeros(0)
        self._cause: FloatArray = np.zeros((0, channels))
        self._before: list[deque[tuple[FloatArray, BoolArray]]] = [deque(maxlen=scale) for scale in SCALES]

    def step(self, values: FloatArray, now: int | IntArray) -> Surprises:
        """See one step.

        Parameters
        ----------
        values
            Array (vm, channel), NaN for none. More VMs than before are new ones.
        now
            Start of the interval, seconds; of all, or of each VM.
        """
        self._grow(len(values))
        present = np.isfinite(values)
        usual, residual = self._daily.step(np.where(present, values, 0.0), present, now)
        self._seen += present
        rate = np.maximum(1.0 / self.settings.memory_steps, 1.0 / np.maximum(self._seen, 1))
        self._size += np.where(present, (np.abs(np.where(present, values, 0.0)) - self._size) * rate, 0.0)
        for k, scale in enumerate(SCALES):
            pace = np.maximum(2.0 / (scale + 1), 1.0 / np.maximum(self._seen, 1))
            self._short[k] += np.where(present, (residual - self._short[k]) * pace, 0.0)
        deviation = self._deviation(present)
        evidence, cause = self._evidence(deviation, present)
        self._learn(present, deviation[CORRELATED_SCALE])
        fading = 0.5 ** (1.0 / self.settings.half_life_steps)
        fresh = evidence >= self._lasting * fading
        self._lasting = np.where(fresh, evidence, self._lasting * fading)
        self._cause = np.where(fresh[:, None], cause, self._cause)
        known = self._seen > self.settings.young_steps
        return Surprises(
            evidence=evidence,
            score=1.0 - np.exp(-self._lasting),
            cause=self._cause,
            deviation=deviation,
            level=usual + self._short,
            usual=np.where(known, usual, np.nan),
        )

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows`` (increasing), which keep their order."""
        self._daily.keep(rows)
        self._seen, self._size = retained(self._seen, rows, 0), retained(self._size, rows, 0)
        self._product, self._lasting = retained(self._product, rows, 0), retained(self._lasting, rows, 0)
        self._cause = retained(self._cause, rows, 0)
        self._short, self._mean, self._variance = (
            retained(moments, rows, 1) for moments in (self._short, self._mean, self._variance)
        )
        self._before = [
            deque(((retained(short, rows, 0), retained(known, rows, 0)) for short, known in kept), kept.maxlen)
            for kept in self._before
        ]

    def _grow(self, vms: int) -> None:
        new = vms - len(self._seen)
        if new <= 0:
            return
        self._seen = np.pad(self._seen, ((0, new), (0, 0)))
        self._size = np.pad(self._size, ((0, new), (0, 0)))
        self._product = np.pad(self._product, ((0, new), (0, 0), (0, 0)))
        self._lasting = np.pad(self._lasting, (0, new))
        self._cause = np.pad(self._cause, ((0, new), (0, 0)))
        self._short, self._mean, self._variance = (
            np.pad(a, ((0, 0), (0, new), (0, 0))) for a in (self._short, self._mean, self._variance)
        )

    def _spread(self) -> FloatArray:
        return np.sqrt(self._variance) + self.settings.least_spread_ratio * self._size + self._floors + 1e-12

    def _deviation(self, present: BoolArray) -> FloatArray:
        known = present & (self._seen > self.settings.young_steps)
        return np.where(known, (self._short - self._mean) / self._spread(), 0.0)

    def _evidence(self, deviation: FloatArray, present: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Mean over scales of the logarithm of the distance (vm,), and each channel's share in it (vm, channel).

        A squared distance is a sum over channels of the deviation times what the others do not explain of it.
        """
        vms, channels = present.shape
        if not vms:
            return np.zeros(0), np.zeros((0, channels))
        known = np.maximum(present.sum(axis=1), 1)
        if channels == 1:
            parts = deviation**2
        else:
            parts = deviation * np.einsum("vcd,svd->svc", np.linalg.inv(self._correlation()), deviation, optimize=True)
        distance = np.log1p(np.sqrt(np.maximum(parts.sum(axis=2), 0.0) / known))
        parts = np.maximum(parts, 0.0)
        shares = parts / np.maximum(parts.sum(axis=2, keepdims=True), 1e-12)
        total = distance.sum(axis=0)
        cause = (shares * distance[..., None]).sum(axis=0) / np.maximum(total, 1e-12)[:, None]
        return np.asarray(distance.mean(axis=0)), cause

    def _correlation(self) -> FloatArray:
        """Correlation (vm, channel, channel), shrunk."""
        spread = np.sqrt(np.maximum(np.einsum("vcc->vc", self._product), 1e-9))
        correlation = self._product / (spread[:, :, None] * spread[:, None, :])
        own = np.eye(correlation.shape[1])
        mixed: FloatArray = np.where(own > 0, 1.0, (1.0 - self.settings.shrinkage) * correlation)
        return mixed

    def _learn(self, present: BoolArray, deviation: FloatArray) -> None:
        """Move the moments by what was short means' a length ago, and the correlation by what is."""
        memory, spread = self.settings.memory_steps, self._spread()
        for k, (scale, kept) in enumerate(zip(SCALES, self._before, strict=True)):
            if len(kept) == scale:
                older, known = kept[0]
                n = len(older)
                age = self._seen[:n] - scale
                rate = np.where(known & (age > 0), np.maximum(1.0 / memory, 1.0 / np.maximum(age, 1)), 0.0)
                reach = np.where(age > 1, self.settings.most_deviations * spread[k, :n], np.inf)
                move = np.clip(older - self._mean[k, :n], -reach, reach)
                self._mean[k, :n] += rate * move
                self._variance[k, :n] = (1.0 - rate) * (self._variance[k, :n] + rate * move * move)
            kept.append((self._short[k].copy(), present))
        moved = np.clip(deviation, -5.0, 5.0)
        rate = 1.0 / np.minimum(np.maximum(self._seen.max(axis=1, initial=1), 1), memory)
        self._product += rate[:, None, None] * (moved[:, :, None] * moved[:, None, :] - self._product)
