r"""Regimes of each VM, learned from its days: which kind of day it is, what is usual at each of its hours.

A VM has up to two kinds of day, each with a mean for every hour of the logarithm of its demand: an interactive day and
a weekend, a day with a batch night and one without. Which one today is, is read off its hours so far and the weekday:

.. math:: P(k \mid x) \propto P(k \mid weekday) \prod_h N(x_h; \mu_{k,h}, \sigma)^{1/2}

so that a holiday, which is a weekday, is told by its morning. A day that fits none of the kinds known begins a new one,
or moves the one that fits it best. At the end of a day each kind learns as far as the day was of it (stepwise EM:
Cappé & Moulines, 2009). All of it costs a few operations a VM and hour.
"""

from __future__ import annotations

import numpy as np

from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.profiling.window import Window, retained

KINDS, HOURS, WEEKDAYS = 2, 24, 7
DAY_SECONDS, HOUR_SECONDS = 86_400, 3_600
MONDAY_DAY = 4
"""The first Monday, in days UTC."""
LEAST_RATE = 0.15
LEAST_DEVIATION = 0.1
NOVELTY = 1.5
"""A day that is on average so many deviations off every kind is of a new one."""
EVIDENCE = 0.5
"""Hours that follow each other say much the same."""
WEEKDAY_PRIOR = 0.3
"""Days of each kind that a weekday is taken to have had before any was seen."""
LEAST_MEMBERSHIP = 0.05
"""A day teaches no kind that it fits worse than that."""
LEAST_SHARE = 0.02
KEPT_AN_HOUR, LASTING_AN_HOUR = 0.8, 0.99
"""Of how the last hour differs from the usual, and of how the last day does, so much is left an hour later."""
LASTING_RATE = 0.08
MOST_LOG = 4.0
SEGMENTED = 6


class Segments:
    """Kinds of day and their hours, of all VMs."""

    def __init__(self) -> None:
        self._mean: FloatArray = np.zeros((KINDS, HOURS, 0))
        self._weight: FloatArray = np.zeros((KINDS, HOURS, 0))
        self._variance: FloatArray = np.zeros(0)
        self._lasting: FloatArray = np.zeros(0)
        self._by_weekday: FloatArray = np.zeros((WEEKDAYS, KINDS, 0))
        self._today: FloatArray = np.zeros((HOURS, 0))
        self._fit: FloatArray = np.zeros((KINDS, 0))
        self._sum: FloatArray = np.zeros(0)
        self._count: IntArray = np.zeros(0, np.int64)
        self._hour: int | None = None
        self._now = 0
        self._step = 0

    def observe(self, window: Window, now: int) -> None:
        """See the newest step, whose interval starts at ``now``, seconds."""
        self._grow(window.vms)
        hour = now // HOUR_SECONDS
        if self._hour is not None and hour != self._hour:
            self._close_hour(window)
            if hour // HOURS != self._hour // HOURS:
                self._close_day(self._hour // HOURS)
        self._now, self._step, self._hour = now, window.step_seconds, hour
        sample = window.at_lag(0)
        seen = np.isfinite(sample)
        self._sum += np.where(seen, sample, 0.0)
        self._count += seen

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows`` (increasing), which keep their order."""
        self._mean, self._weight = retained(self._mean, rows, 2), retained(self._weight, rows, 2)
        self._by_weekday, self._today = retained(self._by_weekday, rows, 2), retained(self._today, rows, 1)
        self._fit, self._variance = retained(self._fit, rows, 1), retained(self._variance, rows, 0)
        self._lasting = retained(self._lasting, rows, 0)
        self._sum, self._count = retained(self._sum, rows, 0), retained(self._count, rows, 0)

    def probability(self, at: int) -> FloatArray:
        """Probability (kind, vm) of each kind of day, for the day of the instant ``at``."""
        day = at // DAY_SECONDS
        counts = self._by_weekday[(day - MONDAY_DAY) % WEEKDAYS]
        known = self._weight.max(axis=1) > 0
        prior = np.where(known, counts + WEEKDAY_PRIOR, 0.0)
        evidence = self._fit if day == self._now // DAY_SECONDS else np.zeros_like(self._fit)
        weight = prior * np.exp(EVIDENCE * (evidence - evidence.max(axis=0, initial=-np.inf)))
        total = weight.sum(axis=0)
        return np.asarray(weight / np.where(total > 0, total, 1.0))

    def expected(self, at: int) -> FloatArray:
        """Logarithm of the demand (vm,) that is usual at the instant ``at``; NaN while no day is known."""
        hour = at % DAY_SECONDS // HOUR_SECONDS
        weight = np.where(self._weight[:, hour] > 0, self.probability(at), 0.0)
        total = weight.sum(axis=0)
        mean = (weight * self._mean[:, hour]).sum(axis=0)
        return np.where(total > 0, mean / np.where(total > 0, total, 1.0), np.nan)

    def ahead(self, window: Window, steps: int) -> FloatArray:
        """Demand (vm,) to be expected ``steps`` ahead: what is usual then, and what is left of how today differs."""
        at = self._now + steps * window.step_seconds
        there = self.expected(at)
        lately = self.level(window, window.moments(1)[0])
        hours = steps * window.step_seconds / HOUR_SECONDS
        lasting = self._lasting * LASTING_AN_HOUR**hours
        passing = np.nan_to_num(lately - self.expected(self._now) - self._lasting) * KEPT_AN_HOUR**hours
        return np.asarray(np.maximum(np.exp(there + lasting + passing) - LEAST_SHARE * window.scale(), 0.0))

    def level(self, window: Window, demand: FloatArray) -> FloatArray:
        """Logarithm of a demand (vm,), the unit of everything here; what is next to nothing does not count."""
        logarithm: FloatArray = np.log(np.maximum(demand, 0.0) + LEAST_SHARE * window.scale())
        return logarithm

    def figures(self, window: Window) -> FloatArray:
        """What is known of the segment that comes next, as bounded figures (figure, vm); 0 while nothing is known.

        They are: the probability of the second kind of day, what is usual next over the last sample and over the VM's
        scale, how far the kinds are apart at this hour, how well today fits (an hour, on average), and the
        deviation of an hour.
        """
        following = self._now + self._step
        usual, last = self.expected(following), self.level(window, window.last)
        hour = following % DAY_SECONDS // HOUR_SECONDS
        both = (self._weight[:, hour] > 0).all(axis=0)
        hours = np.maximum(np.isfinite(self._today).sum(axis=0), 1)
        rows = [
            self.probability(following)[1],
            usual - last,
            usual - np.log(window.scale()),
            np.where(both, self._mean[1, hour] - self._mean[0, hour], 0.0),
            self._fit.max(axis=0) / hours,
            np.sqrt(self._variance),
        ]
        known = (self._weight[0].max(axis=0) > 0) & (window.seen > 0)
        return np.where(known, np.clip(np.nan_to_num(np.stack(rows)), -MOST_LOG, MOST_LOG), 0.0)

    def _grow(self, vms: int) -> None:
        new = vms - len(self._sum)
        if new <= 0:
            return
        wide = ((0, 0), (0, 0), (0, new))
        self._mean, self._weight = np.pad(self._mean, wide), np.pad(self._weight, wide)
        self._by_weekday = np.pad(self._by_weekday, wide)
        self._today = np.pad(self._today, ((0, 0), (0, new)), constant_values=np.nan)
        self._fit = np.pad(self._fit, ((0, 0), (0, new)))
        self._variance = np.pad(self._variance, (0, new), constant_values=1.0)
        self._lasting = np.pad(self._lasting, (0, new))
        self._sum, self._count = np.pad(self._sum, (0, new)), np.pad(self._count, (0, new))

    def _close_hour(self, window: Window) -> None:
        """Note the mean of an hour that is over, and how well each kind of day explains it."""
        hour = (self._hour or 0) % HOURS
        level = self.level(window, self._sum / np.maximum(self._count, 1))
        self._today[hour] = np.where(self._count > 0, level, np.nan)
        differs = self._today[hour] - self.expected((self._hour or 0) * HOUR_SECONDS)
        self._lasting += np.nan_to_num(LASTING_RATE * (differs - self._lasting))
        distance = (self._today[hour] - self._mean[:, hour]) ** 2 / np.maximum(self._variance, LEAST_DEVIATION**2)
        unborn = self._weight[:, hour] == 0
        gain = -0.5 * np.minimum(np.where(unborn, NOVELTY**2, distance), 25.0)
        self._fit += np.where(np.isfinite(self._today[hour]), np.nan_to_num(gain), 0.0)
        self._sum, self._count = np.zeros_like(self._sum), np.zeros_like(self._count)

    def _close_day(self, day: int) -> None:
        """Each kind learns from a day as far as it was of it."""
        seen = np.isfinite(self._today)
        first = np.asarray(self._weight.max(axis=(0, 1)) == 0)
        share = np.exp(self._fit - self._fit.max(axis=0))
        share = np.where(share < LEAST_MEMBERSHIP, 0.0, share)
        share = share / share.sum(axis=0)
        share[:, first] = np.array([1.0, 0.0])[:, None]
        share = np.where(seen.any(axis=0), share, 0.0)
        self._learn_variance(share, seen, first)
        moved = np.where(seen, share[:, None], 0.0)
        self._weight += moved
        rate = np.where(moved > 0, moved * np.maximum(1.0 / np.maximum(self._weight, 1e-9), LEAST_RATE), 0.0)
        self._mean += np.minimum(rate, 1.0) * (np.nan_to_num(self._today) - self._mean)
        weekday = (day - MONDAY_DAY) % WEEKDAYS
        self._by_weekday[weekday] = 0.8 * self._by_weekday[weekday] + share
        self._today[:] = np.nan
        self._fit[:] = 0.0

    def _learn_variance(self, share: FloatArray, seen: BoolArray, first: BoolArray) -> None:
        """Move the deviation of an hour by the day's, as it was of the kinds that were known before."""
        known = (self._weight > 0) & seen
        square = np.where(known, (np.nan_to_num(self._today) - self._mean) ** 2, 0.0)
        count = (known * share[:, None]).sum(axis=(0, 1))
        mean = (square * share[:, None]).sum(axis=(0, 1)) / np.maximum(count, 1e-9)
        self._variance += np.where((count > 0.5) & ~first, 0.2 * (mean - self._variance), 0.0)
