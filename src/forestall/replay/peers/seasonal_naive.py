"""``seasonal_naive`` and ``seasonal_naive_week``: what was a day (a week) ago, plus the usual error of that.

    a(t + k) = y(t + k - p) + Q_level{ y(s) - y(s - p) : the last seven days }

Where there is no such past the last value stands in. Source: Hyndman and Athanasopoulos, Forecasting: Principles and
Practice, https://otexts.com/fpp3/simple-methods.html.
"""

from __future__ import annotations

import numpy as np

from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.knob import LEVELS, with_residual_quantile
from forestall.replay.peers.rolling import earlier, last_known, steps_in


class SeasonalNaive:
    """The value of one period ago.

    Parameters
    ----------
    name
        Name of the peer.
    period_seconds
        Length of the period.
    """

    shipped = 0.95
    knobs: tuple[float, ...] = LEVELS

    def __init__(self, name: str, period_seconds: int) -> None:
        self.name = name
        self.period_seconds = period_seconds

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Shift the series by one period, less the lead."""
        last = last_known(block.demand, block.grid)
        back = max(steps_in(block.grid, self.period_seconds) - block.lead_steps, 0)
        season = earlier(last, back)
        return with_residual_quantile(block, np.where(np.isnan(season), last, season))
