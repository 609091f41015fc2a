"""``autoets``: exponential smoothing, the form and the parameters chosen by AICc, and a quantile of its errors.

    additive or multiplicative errors; no, additive or damped trend; no season
    a(t + k) = f(t + k) + s(t) * Q_level(errors / s of seven days)
    a(t + k) = f(t + k) + z_level * sd(errors of seven days)          as ``autoets_gaussian``

Fitted each week on two days of the forty busiest series, and run with these parameters in between; the others
follow their last value. A season of 288 steps is beyond the method, which is for short seasons. Multiplicative
errors change the likelihood, not the recursion. The knob is the level; s is the recent size of the errors
(:func:`.knob.error_scale`).

Source: Hyndman, Koehler, Ord, Snyder, Forecasting with Exponential Smoothing, 2008, by statsforecast
(https://github.com/Nixtla/statsforecast, ``AutoETS(model="ZZN")``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from forestall.model.samples import FloatArray
from forestall.replay.peers.arma import Recursion, run_recursions
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.rolling import DAY_SECONDS, last_known
from forestall.replay.peers.statistical import StatisticalPeer, fit_weekly, models, with_quantile


class AutoEts(StatisticalPeer):
    """Smoothing of each busy series."""

    kind = "autoets"

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Fit, and run."""
        library = models()

        def fit(window: FloatArray) -> Recursion:
            return _recursion(library.AutoETS(season_length=1, model="ZZN").fit(window).model_)

        forecast = run_recursions(block.demand, block.lead_steps, fit_weekly(block, 2 * DAY_SECONDS, fit))
        silent = np.isnan(last_known(block.demand, block.grid))
        return with_quantile(block, np.where(silent, np.nan, forecast), self.gaussian)


def _recursion(model: dict[str, Any]) -> Recursion:
    """Write a smoothing model as ARIMA: (0,1,1) without a trend, (0,2,2) with, (1,1,2) with a damped one."""
    alpha, beta, _, phi = (float(p) for p in model["par"][:4])
    if np.isnan(beta):
        return Recursion.arima(np.zeros(0), np.array([alpha - 1.0]), differences=1)
    if np.isnan(phi):
        return Recursion.arima(np.zeros(0), np.array([alpha + beta - 2.0, 1.0 - alpha]), differences=2)
    errors = np.array([alpha + phi * beta - 1.0 - phi, (1.0 - alpha) * phi])
    return Recursion.arima(np.array([phi]), errors, differences=1)
