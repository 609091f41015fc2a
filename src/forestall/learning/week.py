"""What a VM did in the last week, whatever the hour: the forecast of a day ahead that is hard to beat where VMs burst.

It takes part only where a forecast of half a day or more is wanted. The quantiles are those of the week's samples
themselves ("climatology": Hyndman & Athanasopoulos, *Forecasting: Principles and Practice*, 3rd ed., 5.2).
"""

from __future__ import annotations

import numpy as np

from forestall.learning.features import WeekStatistics
from forestall.learning.levels import logit, value_at
from forestall.model.forecast import LEVELS, Statistic, Target
from forestall.model.samples import FloatArray, IntArray
from forestall.profiling.window import Window


class Week:
    """Quantiles of the week as a forecaster of means; of peaks it says nothing.

    Parameters
    ----------
    week
        Its statistics; filled and kept by their owner.
    targets, levels
        What to forecast.
    """

    name = "week"

    def __init__(self, week: WeekStatistics, targets: tuple[Target, ...], levels: tuple[float, ...]) -> None:
        self._week = week
        self._speaks = np.array([target.statistic is Statistic.MEAN for target in targets])[:, None, None]
        self._knots, self._wanted = logit(np.asarray(LEVELS)), logit(np.asarray(levels))

    def observe(self, window: Window, now: int) -> None:
        """Nothing to learn."""

    def keep(self, rows: IntArray) -> None:
        """Nothing to forget."""

    def forecast(self, window: Window, now: int) -> FloatArray:
        """Quantiles (target, vm, level); NaN for peaks, and for VMs of which less than a day was seen."""
        known, young = self._week.quantiles.T, (window.seen < window.day)[:, None]
        wanted = np.broadcast_to(self._wanted, (window.vms, len(self._wanted)))
        said = np.maximum(value_at(known, self._knots, wanted), 0.0)
        return np.where(self._speaks & ~young, said, np.nan)
