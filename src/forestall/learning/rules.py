"""Point rules: one number a VM and target, from the window; their quantiles come from their own residuals.

==================  ====================================================================================
``last_value``      the newest sample (persistence); the peak of the horizon is at least as likely above it
``smoothing``       exponentially weighted mean of the last three hours, half-life 30 minutes
``moving_peak``     the highest sample of the last hour
``seasonal_naive``  the sample one period ago, the period found from the VM's own data
``segment``         what is usual at that hour on such a day, and what is left of how the last hour differs from it
==================  ====================================================================================

Source: R. J. Hyndman, G. Athanasopoulos, *Forecasting: Principles and Practice*, 3rd ed., 5.2 and 8.1.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from forestall.model.forecast import Statistic, Target
from forestall.model.samples import FloatArray, IntArray
from forestall.profiling.period import Periods
from forestall.profiling.segments import Segments
from forestall.profiling.window import Window, highest

SMOOTHING_HALF_LIFE_SECONDS = 1_800


class PointRule(Protocol):
    """A forecaster of one number; :class:`~forestall.learning.expert.RuleForecaster` adds the quantiles."""

    name: str

    def observe(self, window: Window) -> None:
        """Take note of the newest step."""
        ...

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows`` (increasing), which keep their order."""
        ...

    def point(self, window: Window, target: Target) -> FloatArray:
        """Forecast (vm,) of ``target`` in the resource's unit; NaN where the rule has nothing to say."""
        ...


class LastValue:
    """Persistence: tomorrow is like now."""

    name = "last_value"

    def observe(self, window: Window) -> None:
        """Nothing to learn."""

    def keep(self, rows: IntArray) -> None:
        """Nothing to forget."""

    def point(self, window: Window, target: Target) -> FloatArray:
        """The newest sample, for every target."""
        return window.last


class Smoothing:
    r"""Simple exponential smoothing :math:`\hat y = \sum_j w_j y_{t-j} / \sum_j w_j`, :math:`w_j = 2^{-j/h}`."""

    name = "smoothing"

    def observe(self, window: Window) -> None:
        """Nothing to learn."""

    def keep(self, rows: IntArray) -> None:
        """Nothing to forget."""

    def point(self, window: Window, target: Target) -> FloatArray:
        """Weighted mean of the last three hours, gaps left out."""
        half_life = SMOOTHING_HALF_LIFE_SECONDS / window.step_seconds
        tail = window.tail(max(2, round(6 * half_life)))
        weights = 0.5 ** (np.arange(len(tail))[::-1, None] / half_life)
        present = ~np.isnan(tail)
        total = (present * weights).sum(axis=0)
        mean = (np.where(present, tail, 0.0) * weights).sum(axis=0) / np.where(total > 0, total, 1.0)
        return np.where(total > 0, mean, window.last)


class MovingPeak:
    """The highest sample of the last hour: the rule that is hardest to beat on bursty VMs."""

    name = "moving_peak"

    def observe(self, window: Window) -> None:
        """Nothing to learn."""

    def keep(self, rows: IntArray) -> None:
        """Nothing to forget."""

    def point(self, window: Window, target: Target) -> FloatArray:
        """Maximum of the last hour; the last value where the hour is empty."""
        peak = highest(window.tail(max(2, window.hour)))
        return np.where(np.isnan(peak), window.last, peak)


class SeasonalNaive:
    """The sample one period ago; a day ago where no period is confirmed.

    Parameters
    ----------
    periods
        Period of each VM, observed by its owner.
    """

    name = "seasonal_naive"

    def __init__(self, periods: Periods) -> None:
        self._periods = periods

    def observe(self, window: Window) -> None:
        """Nothing to learn: the owner of the periods looks for them."""

    def keep(self, rows: IntArray) -> None:
        """Nothing to forget."""

    def point(self, window: Window, target: Target) -> FloatArray:
        """Value (peak: highest value) of the corresponding interval(s) one period before."""
        period = self._periods.or_a_day(window)
        if target.statistic is Statistic.PEAK:
            past = window.highest_between(period - target.steps, period - 1)
        else:
            past = window.lagged(period * -(-target.steps // period) - target.steps)
        return np.where(np.isnan(past), window.last, past.astype(np.float64))


class Segment:
    """What is usual in the segment that comes: this kind of day, at that hour.

    Parameters
    ----------
    segments
        Kinds of day and their hours, observed by their owner.
    """

    name = "segment"

    def __init__(self, segments: Segments) -> None:
        self._segments = segments

    def observe(self, window: Window) -> None:
        """Nothing to learn: the owner of the segments does."""

    def keep(self, rows: IntArray) -> None:
        """Nothing to forget."""

    def point(self, window: Window, target: Target) -> FloatArray:
        """Demand to be expected (peak: the highest until then); the last value before the first day is over."""
        every = target.steps if target.statistic is Statistic.MEAN else max(1, min(window.hour, target.steps))
        first = target.steps if target.statistic is Statistic.MEAN else 1
        steps = sorted({first, *range(every, target.steps, every), target.steps})
        ahead = np.maximum.reduce([self._segments.ahead(window, k) for k in steps])
        return np.where(np.isnan(ahead), window.last, ahead)
