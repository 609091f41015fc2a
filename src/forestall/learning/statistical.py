"""ETS and ARIMA on hourly means, where they are affordable: the busiest VMs, refitted once a day.

A fit takes 15 ms (ETS) to 300 ms (ARIMA) a series, so it is done for a ranked subset only; on the others this rule says
nothing. Orders are chosen anew at each fit (AICc).

Source: Hyndman & Khandakar, "Automatic Time Series Forecasting", JSS 27(3), 2008; implementation: statsforecast.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from forestall.model.errors import Unsupported
from forestall.model.forecast import Target
from forestall.model.samples import FloatArray, IntArray
from forestall.profiling.window import Window, retained

SEASON_HOURS = 24
AHEAD_HOURS = 30
MIN_HOURS = 72


class HourlyModel:
    """A statsforecast model of hourly means as a point rule.

    Parameters
    ----------
    kind
        ``ets`` or ``arima``.
    series
        How many VMs are modelled: those with the largest scale.

    Raises
    ------
    Unsupported
        statsforecast is not installed.
    """

    def __init__(self, kind: str, series: int) -> None:
        self.name = f"hourly_{kind}"
        self._kind = kind
        self._series = series
        self._forecast: FloatArray = np.full((AHEAD_HOURS, 0), np.nan)
        self._fitted_at = 0
        self._models()

    def _models(self) -> Any:
        try:
            from statsforecast.models import AutoARIMA, AutoETS
        except ImportError as error:
            raise Unsupported("ETS and ARIMA need statsforecast: pip install 'forestall[forecast]'") from error
        return AutoETS(season_length=SEASON_HOURS) if self._kind == "ets" else AutoARIMA(season_length=1)

    def observe(self, window: Window) -> None:
        """Refit once a day, at the end of an hour."""
        new = window.vms - self._forecast.shape[1]
        self._forecast = np.pad(self._forecast, ((0, 0), (0, new)), constant_values=np.nan)
        if window.count % window.day or window.count < MIN_HOURS * window.hour:
            return
        means = hourly_means(window)
        busiest = np.argsort(-window.scale(), kind="stable")[: self._series]
        self._forecast[:] = np.nan
        self._fitted_at = window.count
        for vm in busiest:
            known = ~np.isnan(means[:, vm])
            if known.sum() >= MIN_HOURS and np.ptp(means[known, vm]) > window.floor:
                hours = np.arange(len(means))
                series = np.interp(hours, hours[known], means[known, vm])
                self._forecast[:, vm] = self._models().forecast(y=series, h=AHEAD_HOURS)["mean"]

    def keep(self, rows: IntArray) -> None:
        """Forget the forecasts of all VMs but those of ``rows``."""
        self._forecast = retained(self._forecast, rows, 1)

    def point(self, window: Window, target: Target) -> FloatArray:
        """Hourly mean (vm,) forecast for the hour in which ``target`` ends; NaN for VMs that are not modelled."""
        hour = (window.count - self._fitted_at + target.steps - 1) // window.hour
        row: FloatArray = self._forecast[min(hour, AHEAD_HOURS - 1)].copy()
        return row


def hourly_means(window: Window) -> FloatArray:
    """Means (hour, vm) of the whole hours of the window, oldest first; NaN for an hour without a sample."""
    tail = window.tail(window.capacity)
    hours = len(tail) // window.hour
    if hours == 0:
        return np.full((0, window.vms), np.nan)
    blocks = tail[len(tail) - hours * window.hour :].reshape(hours, window.hour, window.vms).astype(np.float64)
    present = ~np.isnan(blocks)
    count = present.sum(axis=1)
    return np.where(count > 0, np.where(present, blocks, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)
