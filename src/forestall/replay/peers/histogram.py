"""A histogram that forgets, with buckets that grow exponentially, for many series at once.

Bucket n holds values from ``first * ((1 + growth)^n - 1) / growth`` on; weights halve with every half-life. It is
the data structure of the Kubernetes VPA recommender, of Autopilot and of Koordinator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray, IntArray

LEVELS: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)
"""Percentiles that a peer with a histogram is swept over."""

_SMALLEST_WEIGHT = 1e-4
"""Below this (relative to a fresh sample) a series counts as unknown, as in the VPA's ``epsilon``."""


@dataclass(frozen=True)
class Buckets:
    """Bucket boundaries.

    Attributes
    ----------
    first
        Width of the first bucket, in the resource's unit.
    largest
        Values from here on fall into the last bucket.
    growth_ratio
        By how much each bucket is wider than the one before.
    """

    first: float
    largest: float
    growth_ratio: float = 0.05

    @property
    def count(self) -> int:
        """Number of buckets."""
        return int(np.ceil(self._position(np.asarray(self.largest)))) + 1

    def _position(self, value: FloatArray) -> FloatArray:
        grown = np.log1p(np.maximum(value, 0.0) * self.growth_ratio / self.first)
        return np.asarray(grown / np.log1p(self.growth_ratio))

    def index(self, value: FloatArray) -> IntArray:
        """Bucket (...) of each value (...); a NaN falls into bucket 0, so mask it."""
        position = np.nan_to_num(self._position(value))
        return np.minimum(position.astype(np.int64), self.count - 1)

    @property
    def ends(self) -> FloatArray:
        """Upper end (bucket,) of each bucket: what a percentile that falls into it is taken for."""
        grown = (1.0 + self.growth_ratio) ** np.arange(1, self.count + 1)
        return np.asarray(self.first * (grown - 1.0) / self.growth_ratio)


def buckets_for(resource: Resource, cpu_first: float, memory_first: float) -> Buckets:
    """Buckets of a resource; disk and network, which no shipped recommender knows, start at 1 kB/s."""
    if resource is Resource.CPU:
        return Buckets(cpu_first, 1_000.0)
    return Buckets(memory_first, 1e12) if resource is Resource.MEMORY else Buckets(1e3, 1e11)


class DecayingHistogram:
    """Histograms (series, bucket) whose weights halve every ``half_life_steps``.

    Instead of shrinking what is old, what is new grows; the scale is taken back before it overflows.
    """

    def __init__(self, buckets: Buckets, series: int, half_life_steps: float) -> None:
        self.ends = buckets.ends
        self.weight = np.zeros((series, buckets.count))
        self._growth = 2.0 ** (1.0 / half_life_steps)
        self._fresh = 1.0
        self._rows = np.arange(series)

    def age(self) -> None:
        """Let one step pass."""
        self._fresh *= self._growth
        if self._fresh > 1e100:
            self.weight /= self._fresh
            self._fresh = 1.0

    def add(self, bucket: IntArray, present: BoolArray) -> None:
        """Add one sample (series,) given by its bucket, where it is present."""
        self.weight[self._rows[present], bucket[present]] += self._fresh

    def percentiles(self, levels: tuple[float, ...], load_adjusted: bool = False) -> IntArray:
        """Bucket (level, series) in which each percentile falls; -1 when the histogram is empty.

        With ``load_adjusted`` each bucket counts by its weight times its load, so that the P95 is the usage
        below which 95 % of the resource was consumed, instead of 95 % of the time spent.
        """
        cumulative = np.cumsum(self.weight * self.ends if load_adjusted else self.weight, axis=1)
        total = cumulative[:, -1:]
        found = np.stack([(cumulative >= level * total).argmax(axis=1) for level in levels])
        floor = _SMALLEST_WEIGHT * self._fresh * (self.ends[0] if load_adjusted else 1.0)
        return np.where(total[:, 0] >= floor, found, -1)


class PercentileHistory:
    """Percentiles after each row, for every level that a knob may ask for; levels between are interpolated.

    Parameters
    ----------
    levels
        Levels to keep, increasing.
    buckets
        Buckets of the histogram that they come from.
    shape
        (time, series).
    """

    def __init__(self, levels: tuple[float, ...], buckets: Buckets, shape: tuple[int, int]) -> None:
        self.levels = levels
        self.found = np.full((len(levels), *shape), -1, dtype=np.int16)
        """Bucket (level, time, series); -1: nothing known."""
        self._values = np.append(buckets.ends, np.nan)

    def at(self, level: float) -> FloatArray:
        """Upper end (time, series) of the bucket in which the percentile falls; NaN: nothing known."""
        position = float(np.interp(level, self.levels, np.arange(len(self.levels))))
        low, share = int(position), position - int(position)
        value = np.asarray(self._values[self.found[low]])
        if share == 0.0:
            return value
        return np.asarray((1.0 - share) * value + share * self._values[self.found[low + 1]])


def decaying_percentiles(
    demand: FloatArray, buckets: Buckets, half_life_steps: float, load_adjusted: bool = False
) -> PercentileHistory:
    """Percentiles of ``demand`` (time, series) under weights that halve every ``half_life_steps``."""
    history = PercentileHistory(LEVELS, buckets, (demand.shape[0], demand.shape[1]))
    histogram = DecayingHistogram(buckets, demand.shape[1], half_life_steps)
    index, present = buckets.index(demand), ~np.isnan(demand)
    for i in range(len(demand)):
        histogram.age()
        histogram.add(index[i], present[i])
        history.found[:, i] = histogram.percentiles(LEVELS, load_adjusted)
    return history
