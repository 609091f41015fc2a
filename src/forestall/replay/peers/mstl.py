"""``mstl``: seasons of a day and a week by repeated loess, the rest by the last value, and a quantile of its errors.

    S(h)   forecast of the hourly mean by MSTL: seasons as they were, trend by AutoETS
    f(t + k) = y(t) + S(t + k) - S(t)
    a(t + k) = f(t + k) + s(t) * Q_level(errors / s of seven days)
    a(t + k) = f(t + k) + z_level * sd(errors of seven days)          as ``mstl_gaussian``

Fitted each week on four weeks of hourly means of the forty busiest series; the others, and all in their first two
days, follow their last value. The season of a week needs two weeks. The knob is the level; s is the recent size
of the errors (:func:`.knob.error_scale`).

Source: Bandara, Hyndman, Bergmeir, MSTL, 2021, https://arxiv.org/abs/2107.13462, by statsforecast
(https://github.com/Nixtla/statsforecast, ``MSTL``).
"""

from __future__ import annotations

import numpy as np

from forestall.model.samples import FloatArray
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.rolling import HOUR_SECONDS, WEEK_SECONDS, last_known, steps_in
from forestall.replay.peers.statistical import StatisticalPeer, fit_weekly, models, with_quantile

DAY_HOURS, WEEK_HOURS = 24, 7 * 24


class Mstl(StatisticalPeer):
    """Decomposition of each busy series."""

    kind = "mstl"

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Decompose, and move the last value along the seasons."""
        library = models()
        hour = steps_in(block.grid, HOUR_SECONDS)

        def fit(window: FloatArray) -> FloatArray:
            hourly = window[len(window) % hour :].reshape(-1, hour).mean(axis=1)
            seasons = [p for p in (DAY_HOURS, WEEK_HOURS) if len(hourly) >= 2 * p]
            fitted = library.MSTL(season_length=seasons).fit(hourly)
            return np.asarray(fitted.predict(h=WEEK_HOURS + 2)["mean"], dtype=np.float64)

        forecast = last_known(block.demand, block.grid)
        lead = block.lead_steps
        for row, seasonal in fit_weekly(block, 4 * WEEK_SECONDS, fit).items():
            stop = min(row + steps_in(block.grid, WEEK_SECONDS), len(forecast))
            # The mean of an hour belongs to its middle; the first one forecast begins after ``row``.
            at = (np.arange(row, stop) - row - 0.5) / hour - 0.5
            for series, level in seasonal.items():
                hours = np.arange(len(level))
                forecast[row:stop, series] += np.interp(at + lead / hour, hours, level) - np.interp(at, hours, level)
        return with_quantile(block, np.maximum(forecast, 0.0), self.gaussian)
