"""Patterns that repeat: the dominating period of a window, and the mean cycle of that period."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forestall.model.samples import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Signature:
    """Mean cycle of each series.

    Attributes
    ----------
    period
        Steps (series,) of a cycle.
    cycle
        Array (series, position), of which the first ``period`` positions count.
    repeats
        Whether (series,) the cycles resemble each other enough to predict by.
    """

    period: IntArray
    cycle: FloatArray
    repeats: BoolArray

    def at(self, position: IntArray) -> FloatArray:
        """Values (ahead, series) at positions (ahead,), counted from the start of the window."""
        series = np.arange(len(self.period))
        return np.asarray(self.cycle[series[None, :], position[:, None] % self.period[None, :]])


def find_signature(window: FloatArray, least_correlation: float, mean_ratio: float) -> Signature:
    """Fold a gapless ``window`` (series, time) by the strongest frequency of its spectrum.

    The mean correlation between pairs of cycles follows from the share of variance that the mean cycle
    explains: with Q cycles, ``R^2 = rho + (1 - rho) / Q``.

    Parameters
    ----------
    least_correlation
        Mean Pearson correlation between cycles from which they count as the same.
    mean_ratio
        By how much the mean of a cycle may be off the mean of all.
    """
    series, steps = window.shape
    centred = window - window.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(centred, axis=1)) ** 2
    power[:, :2] = 0.0  # no mean, and no cycle that is seen once only
    strongest = np.maximum(power.argmax(axis=1), 2)
    period = np.round(steps / strongest).astype(np.int64)
    time = np.arange(steps)[None, :]
    cycle = _means(window, time % period[:, None], int(period.max()))
    fitted = cycle[np.arange(series)[:, None], time % period[:, None]]
    variance = np.maximum(centred.var(axis=1), 1e-300)
    explained = 1.0 - (window - fitted).var(axis=1) / variance
    cycles = steps / period
    correlation = (explained - 1.0 / cycles) / (1.0 - 1.0 / cycles)
    whole = np.minimum(time // period[:, None], (cycles.astype(np.int64) - 1)[:, None])
    level = _means(window, whole, int(cycles.max()) + 1)
    overall = np.abs(window.mean(axis=1, keepdims=True))
    steady = (np.isnan(level) | (np.abs(level - overall) <= mean_ratio * overall)).all(axis=1)
    return Signature(period, cycle, (correlation >= least_correlation) & steady & (period >= 3))


def _means(values: FloatArray, group: IntArray, groups: int) -> FloatArray:
    """Mean (series, group) of ``values`` (series, time) by ``group`` (series, time); NaN where none."""
    series = len(values)
    flat = (group + groups * np.arange(series)[:, None]).ravel()
    total = np.bincount(flat, weights=values.ravel(), minlength=series * groups)
    count = np.bincount(flat, minlength=series * groups)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / count).reshape(series, groups)
