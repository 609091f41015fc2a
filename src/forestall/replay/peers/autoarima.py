"""``autoarima``: ARIMA, orders chosen by AICc, and a quantile of its errors.

    up to three AR and three MA terms, up to two differences, no season
    a(t + k) = f(t + k) + s(t) * Q_level(errors / s of seven days)
    a(t + k) = f(t + k) + z_level * sd(errors of seven days)          as ``autoarima_gaussian``

Fitted each week on two days of the forty busiest series, and run with these parameters in between; the others
follow their last value. The knob is the level; s is the recent size of the errors (:func:`.knob.error_scale`).

Source: Hyndman and Khandakar, Automatic time series forecasting, JSS 2008, https://doi.org/10.18637/jss.v027.i03,
by statsforecast (https://github.com/Nixtla/statsforecast, ``AutoARIMA``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from forestall.model.samples import FloatArray
from forestall.replay.peers.arma import Recursion, run_recursions
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.rolling import DAY_SECONDS, last_known
from forestall.replay.peers.statistical import StatisticalPeer, fit_weekly, models, with_quantile

TERMS = 3


class AutoArima(StatisticalPeer):
    """ARIMA of each busy series."""

    kind = "autoarima"

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Fit, and run."""
        library = models()

        def fit(window: FloatArray) -> Recursion:
            fitted = library.AutoARIMA(season_length=1, max_p=TERMS, max_q=TERMS, approximation=True)
            # The likelihood is ill-conditioned on values like 1e10 bytes.
            scale = max(float(np.abs(window).mean()), 1e-12)
            return _recursion(fitted.fit(window / scale).model_, scale)

        forecast = run_recursions(block.demand, block.lead_steps, fit_weekly(block, 2 * DAY_SECONDS, fit))
        silent = np.isnan(last_known(block.demand, block.grid))
        return with_quantile(block, np.where(silent, np.nan, forecast), self.gaussian)


def _recursion(model: dict[str, Any], scale: float) -> Recursion:
    """Coefficients by name, and ``arma``: AR, MA, two seasonal orders, period, differences, seasonal ones."""
    coefficients = model["coef"]
    ar_order, ma_order, differences = (int(model["arma"][k]) for k in (0, 1, 5))
    ar = np.array([float(coefficients[f"ar{k}"]) for k in range(1, ar_order + 1)])
    ma = np.array([float(coefficients[f"ma{k}"]) for k in range(1, ma_order + 1)])
    mean = float(coefficients.get("intercept", 0.0)) + float(coefficients.get("drift", 0.0))
    return Recursion.arima(ar, ma, differences, mean * scale)
