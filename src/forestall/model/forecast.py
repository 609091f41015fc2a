"""Forecasts: quantiles of what a VM will demand, never a point.

A forecast says, for each VM, resource and target, the quantiles of a random quantity: the mean demand of the
interval that lies ``steps`` ahead, or the **peak** of the interval means from the next one to that one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from forestall.model.samples import FloatArray

LEVELS: tuple[float, ...] = (
    0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995
)  # fmt: skip
"""Quantile levels that every forecaster gives; dense where allocations are decided."""


class Statistic(StrEnum):
    """What of the coming intervals is forecast."""

    MEAN = "mean"
    PEAK = "peak"


@dataclass(frozen=True, order=True)
class Target:
    """A quantity to forecast: a statistic over the horizon of ``steps`` sampling steps (>= 1)."""

    statistic: Statistic
    steps: int


@dataclass(frozen=True)
class Forecast:
    """Quantiles of demand.

    Attributes
    ----------
    issued_at
        Start of the last interval whose samples were used, seconds.
    step_seconds
        Length of an interval.
    targets
        What is forecast, axis 2 of ``values``.
    levels
        Quantile levels in increasing order, axis 3 of ``values``.
    values
        Array (vm, resource, target, level), non-decreasing along the last axis, in the resource's unit. NaN
        where nothing can be said yet (a VM without any sample).
    """

    issued_at: int
    step_seconds: int
    targets: tuple[Target, ...]
    levels: tuple[float, ...]
    values: FloatArray

    def exceedance(self, target: Target, amount: FloatArray) -> FloatArray:
        """Probability (vm, resource) that ``target`` exceeds ``amount`` (vm, resource)."""
        quantiles = self.values[:, :, self.targets.index(target), :]
        return exceedance(quantiles, np.asarray(self.levels), amount)


def exceedance(quantiles: FloatArray, levels: FloatArray, amount: FloatArray) -> FloatArray:
    """Probability that a quantity exceeds ``amount``, from its quantiles by linear interpolation.

    Parameters
    ----------
    quantiles
        Array (..., level), non-decreasing along the last axis.
    levels
        Array (level,), increasing, in (0, 1).
    amount
        Array (...).

    Returns
    -------
    FloatArray
        Array (...) in [1 - levels[-1], 1 - levels[0]]: quantiles say nothing beyond their ends.
    """
    below = (quantiles <= amount[..., None]).sum(axis=-1)
    lower = np.clip(below - 1, 0, len(levels) - 1)
    upper = np.clip(below, 0, len(levels) - 1)
    low = np.take_along_axis(quantiles, lower[..., None], axis=-1)[..., 0]
    high = np.take_along_axis(quantiles, upper[..., None], axis=-1)[..., 0]
    span = high - low
    share = np.where(span > 0, (amount - low) / np.where(span > 0, span, 1.0), 0.0)
    cumulative = levels[lower] + np.clip(share, 0.0, 1.0) * (levels[upper] - levels[lower])
    return np.where(np.isnan(quantiles).any(axis=-1) | np.isnan(amount), np.nan, 1.0 - cumulative)
