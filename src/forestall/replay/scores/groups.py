"""The kind of each VM, for scores that are shown apart: calm, periodic, bursty, cold.

The kind is given in hindsight, from the whole series: it sorts results, it decides nothing.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from forestall.model.samples import FloatArray, IntArray

DAY_SECONDS = 86_400
PERIODIC_CORRELATION = 0.5
BURSTY_VARIATION = 1.0


class Group(StrEnum):
    """Kinds of VM."""

    CALM = "calm"
    PERIODIC = "periodic"
    BURSTY = "bursty"
    COLD = "cold"


def classify(demand: FloatArray, first_seen: IntArray, evaluate_from: int, step_seconds: int) -> NDArray[np.str_]:
    """Kind of each VM.

    In this order: *cold* with less than a day of history before ``evaluate_from`` (a position); *periodic*
    when its series resembles itself a day before (correlation above 0.5); *bursty* when its standard
    deviation exceeds its mean; else *calm*.

    Parameters
    ----------
    demand
        Array (time, vm), NaN in gaps.
    first_seen
        Position (vm,) of each VM's first sample.

    Returns
    -------
    NDArray
        Array (vm,) of the values of :class:`Group`.
    """
    day = max(1, round(DAY_SECONDS / step_seconds))
    seen = ~np.isnan(demand)
    count = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, demand, 0.0).sum(axis=0) / count
    spread = np.sqrt((np.where(seen, demand - mean, 0.0) ** 2).sum(axis=0) / count)
    cold = evaluate_from - first_seen < day
    periodic = lag_correlation(demand, day) > PERIODIC_CORRELATION
    bursty = spread > BURSTY_VARIATION * mean
    kinds = [Group.COLD.value, Group.PERIODIC.value, Group.BURSTY.value]
    return np.asarray(np.select([cold, periodic, bursty], kinds, default=Group.CALM.value))


def lag_correlation(values: FloatArray, lag: int) -> FloatArray:
    """Correlation (vm,) of each series with itself ``lag`` rows before, over pairs without a gap; else 0."""
    if lag >= len(values):
        return np.zeros(values.shape[1])
    now, then = values[lag:], values[:-lag]
    both = ~(np.isnan(now) | np.isnan(then))
    count = np.maximum(both.sum(axis=0), 1)
    x, y = (np.where(both, v - np.where(both, v, 0.0).sum(axis=0) / count, 0.0) for v in (now, then))
    scale = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    enough = (scale > 1e-12) & (both.sum(axis=0) >= 3)
    return np.where(enough, (x * y).sum(axis=0) / np.where(enough, scale, 1.0), 0.0)
