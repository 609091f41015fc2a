"""What the boosted model sees of a VM: lags, rolling statistics, seasons, calendar and limits.

Every figure is divided by the VM's own scale, so that one model serves all VMs; the calendar is the only
absolute one. Rows are computed from the window alone, the same way live and in replay.
"""

from __future__ import annotations

import warnings

import numpy as np

from forestall.model.forecast import LEVELS as FORECAST_LEVELS
from forestall.model.forecast import Statistic, Target
from forestall.model.samples import Float32Array, FloatArray, IntArray
from forestall.profiling.window import Window, highest, retained

LAGS = (0, 1, 2, 3, 5, 8, 11)
SPANS = (3, 6, 12, 36, 72)
PERIOD_HOURS = (1, 2, 3, 4, 8, 12)
DAYS = 7
NEIGHBOURS = 2
_MAX_LIMIT_RATIO = 1e4


class WeekStatistics:
    """Quantiles of each VM's level and of its changes over the week, renewed once an hour.

    Sorting a week for every VM at every step would cost more than everything else together, so at each step only
    one hour-th of the fleet is renewed.

    Attributes
    ----------
    quantiles, change
        Arrays (level, vm) of the level at :data:`forestall.model.forecast.LEVELS`, and (2, vm) of its changes, at 1 and
        99 %.
    """

    LEVELS = (0.5, 0.9, 0.99)
    MIN_SAMPLES = 12

    def __init__(self) -> None:
        self.quantiles: FloatArray = np.zeros((len(FORECAST_LEVELS), 0))
        self.change: FloatArray = np.zeros((2, 0))

    @property
    def level(self) -> FloatArray:
        """Quantiles (3, vm) of the level at :data:`LEVELS`."""
        return self.quantiles[[FORECAST_LEVELS.index(level) for level in self.LEVELS]]

    def refresh(self, window: Window) -> None:
        """Renew the VMs whose turn it is, and those that have never been computed."""
        new = window.vms - self.quantiles.shape[1]
        self.quantiles = np.pad(self.quantiles, ((0, 0), (0, new)), constant_values=np.nan)
        self.change = np.pad(self.change, ((0, 0), (0, new)), constant_values=np.nan)
        turn = np.arange(window.vms) % window.hour == window.count % window.hour
        due = np.flatnonzero(turn | (np.isnan(self.quantiles[0]) & (window.seen == self.MIN_SAMPLES)))
        if len(due) == 0 or window.count < self.MIN_SAMPLES:
            return
        recent = window.tail(window.capacity)[:, due]
        self.quantiles[:, due] = sorted_quantiles(recent, FORECAST_LEVELS)
        self.change[:, due] = sorted_quantiles(np.diff(recent, axis=0), (0.01, 0.99))

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``."""
        self.quantiles, self.change = retained(self.quantiles, rows, 1), retained(self.change, rows, 1)


def sorted_quantiles(values: Float32Array, levels: tuple[float, ...]) -> FloatArray:
    """Quantiles (level, vm) of ``values`` (time, vm), NaN left out; NaN where a VM has no value at all."""
    ordered = np.sort(values, axis=0)
    count = (~np.isnan(ordered)).sum(axis=0)
    position = np.asarray(levels)[:, None] * np.maximum(count - 1, 0)
    return np.take_along_axis(ordered, np.rint(position).astype(np.int64), axis=0).astype(np.float64)


def seasonal_lags(target: Target, period: int) -> range:
    """Lags, from the newest sample, of one ``period`` before the interval(s) that ``target`` covers."""
    first = period - target.steps
    last = period - 1 if target.statistic is Statistic.PEAK else first
    return range(max(first, 0), max(last, 0) + 1)


def _seasonal(window: Window, target: Target, period: int) -> Float32Array:
    return highest([window.at_lag(lag) for lag in seasonal_lags(target, period)])


def _neighbourhood(window: Window, target: Target, period: int) -> Float32Array:
    lags = seasonal_lags(target, period)
    wide = range(max(lags.start - NEIGHBOURS, 0), lags.stop + NEIGHBOURS)
    return highest([window.at_lag(lag) for lag in wide])


def _recent(window: Window) -> list[Float32Array | FloatArray]:
    columns: list[Float32Array | FloatArray] = [window.at_lag(lag) for lag in LAGS]
    tail = window.tail(max(SPANS))
    for span in SPANS:
        part = tail[-span:]
        present = ~np.isnan(part)
        count = np.maximum(present.sum(axis=0), 1).astype(np.float32)
        filled = np.where(present, part, np.float32(0))
        mean = filled.sum(axis=0) / count
        deviation = np.sqrt(np.maximum((filled * filled).sum(axis=0) / count - mean * mean, 0))
        columns += [highest(part), mean, np.fmin.reduce(part, axis=0), deviation]
    day_mean, day_deviation = window.moments(24)
    return [*columns, window.peak(24), day_mean, day_deviation, window.peak(window.blocks)]


def _seasons(window: Window, target: Target) -> list[Float32Array | FloatArray]:
    days = np.stack([_seasonal(window, target, window.day * d) for d in range(1, DAYS + 1)])
    near = np.stack([_neighbourhood(window, target, window.day * d) for d in range(1, DAYS + 1)])
    hours = np.stack([_seasonal(window, target, window.hour * h) for h in range(1, 25)])
    columns: list[Float32Array | FloatArray] = [days[0], days[-1], near[0], near[-1]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a VM without that much past: NaN is the answer
        columns += [np.nanmean(days, axis=0), np.nanmedian(days, axis=0), np.nanmean(near, axis=0)]
        columns += [np.nanmean(hours, axis=0)]
    columns += [highest(days), highest(near), highest(hours)]
    return columns + [_seasonal(window, target, window.hour * h) for h in PERIOD_HOURS]


def feature_matrix(
    window: Window, week: WeekStatistics, target: Target, now: int, season_forecast: FloatArray
) -> Float32Array:
    """Features of every VM for one target.

    Parameters
    ----------
    window, week
        The past.
    target
        What will be forecast; seasonal features look one period before it.
    now
        Start of the newest interval, seconds.
    season_forecast
        Seasonal-naive forecast (vm,) with each VM's own period.

    Returns
    -------
    Float32Array
        Array (vm, feature); NaN where a VM has no such past.
    """
    scale = window.scale()
    columns = _recent(window) + _seasons(window, target) + [*week.level, *week.change, season_forecast]
    relative = np.stack([np.asarray(c, np.float32) for c in columns]) / scale.astype(np.float32)
    ahead = now + target.steps * window.step_seconds
    second = ahead % 86_400
    calendar = np.array([second / 3_600, second % 3_600 / 60, ahead // 86_400 % 7], np.float32)
    mean, deviation = window.moments(window.blocks)
    with np.errstate(divide="ignore", invalid="ignore"):
        limit_ratio = np.minimum(window.limit / scale, _MAX_LIMIT_RATIO)
        fill = window.last / window.limit
        variation = deviation / np.maximum(mean, window.floor)
    own = np.stack([limit_ratio, fill, variation, window.age.astype(np.float64)]).astype(np.float32)
    shared = np.broadcast_to(calendar[:, None], (3, window.vms))
    return np.ascontiguousarray(np.concatenate([relative, own, shared]).T)
