r"""Nearest past patterns of the same VM.

The last :math:`m` samples are compared with earlier stretches of the same VM; what followed the
:math:`K` nearest stretches, shifted to the present level, is the forecast (analogue forecasting: Lorenz 1969; k-nearest
neighbours in time series). Comparing with every stretch of a week at each step would cost thousands of
comparisons a VM; the best lags of the step before are kept (a good match stays good as both move on) and a
rotating share of all lags is tried against them, as in PatchMatch (Barnes et al., 2009).
"""

from __future__ import annotations

import numpy as np

from forestall.model.forecast import Statistic, Target
from forestall.model.samples import FloatArray, IntArray
from forestall.profiling.window import Window, retained

PATTERN = 6
KEPT = 6
TRIED = 10
LONGEST_HORIZON = 12


class Analogue:
    """The mean of what followed the nearest past patterns."""

    name = "analogue"

    def __init__(self) -> None:
        self._lags: IntArray = np.zeros((KEPT, 0), np.int64)
        self._cursor = 0

    def observe(self, window: Window) -> None:
        """Improve each VM's set of best lags by a few candidates."""
        new = window.vms - self._lags.shape[1]
        first = LONGEST_HORIZON + np.arange(KEPT)
        self._lags = np.concatenate([self._lags, np.repeat(first[:, None], new, axis=1)], axis=1)
        reach = min(window.count, window.capacity) - PATTERN
        if reach <= LONGEST_HORIZON + KEPT:
            return
        span = reach - LONGEST_HORIZON
        fresh = LONGEST_HORIZON + (self._cursor + np.arange(TRIED) * max(span // TRIED, 1)) % span
        self._cursor += 1
        candidates = np.concatenate([self._lags, np.repeat(fresh[:, None], window.vms, axis=1)])
        distance = self._distances(window, candidates)
        distance[KEPT:][(self._lags[None] == fresh[:, None, None]).any(axis=1)] = np.inf
        best = np.argsort(distance, axis=0, kind="stable")[:KEPT]
        self._lags = np.take_along_axis(candidates, best, axis=0)

    def keep(self, rows: IntArray) -> None:
        """Forget the matches of all VMs but those of ``rows``."""
        self._lags = retained(self._lags, rows, 1)

    @staticmethod
    def _distances(window: Window, lags: IntArray) -> FloatArray:
        """Squared distance (candidate, vm) between the newest pattern and the one that ended ``lags`` ago."""
        total = np.zeros(lags.shape)
        for back in range(PATTERN):
            now = window.at_lag(back)
            past = window.lagged(lags + back)
            gap = np.where(np.isnan(past) | np.isnan(now), 0.0, past - now)
            total += gap * gap + np.where(np.isnan(past), np.inf, 0.0)
        return total

    def point(self, window: Window, target: Target) -> FloatArray:
        """Mean over the kept matches of the target's value after each match; last value without matches."""
        nearest = self._lags - target.steps
        furthest = self._lags - 1 if target.statistic is Statistic.PEAK else nearest
        after = window.highest_between(nearest, furthest)
        known = ~np.isnan(after)
        count = known.sum(axis=0)
        mean = np.where(known, after, 0.0).sum(axis=0) / np.maximum(count, 1)
        return np.where(count > 0, mean, window.last)
