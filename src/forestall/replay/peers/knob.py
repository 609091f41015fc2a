"""What the one knob of a peer does: a margin on a value, or the level of a residual quantile.

``margin``: ``(1 + m) * x``. ``residual quantile``: ``f + Q_level(y - f)``, with the errors that the forecast f
made in the last seven days, each counted from the interval in which the forecast was in force.
"""

from __future__ import annotations

import numpy as np

from forestall.model.samples import FloatArray
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.rolling import (
    DAY_SECONDS,
    HOUR_SECONDS,
    WEEK_SECONDS,
    RollingQuantiles,
    decaying_mean,
    steps_in,
)

LEVELS: tuple[float, ...] = (
    0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 0.98, 0.985, 0.99, 0.9925, 0.995, 0.9975, 0.999, 0.9995, 1.0
)  # fmt: skip
"""Levels that a peer with a quantile for a knob is swept over."""

MARGINS: tuple[float, ...] = (
    0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0, 30.0
)  # fmt: skip
"""Margins that a peer which follows its last value closely is swept over."""

WIDE_MARGINS: tuple[float, ...] = (
    -0.6, -0.4, -0.25, -0.1, 0.0, 0.1, 0.15, 0.3, 0.5, 0.8, 1.2, 2.0, 3.5, 6.0, 12.0, 30.0
)  # fmt: skip
"""Margins for a peer that is generous by itself: a negative one allocates less than it asks for."""


SCALE_SECONDS = 2 * HOUR_SECONDS
"""Half-life of the errors' size."""


def with_margin(block: SeriesBlock, decided: FloatArray) -> Allocate:
    """Allocate ``decided`` (time, series), row i decided after interval i, times one plus the knob."""
    in_force = block.delayed(decided)
    return lambda margin: in_force * (1.0 + margin)


def with_deviations(block: SeriesBlock, centre: FloatArray, deviation: FloatArray) -> Allocate:
    """Allocate ``centre`` plus the knob times ``deviation``, both (time, series), not below zero."""
    mean, sd = block.delayed(centre), block.delayed(deviation)
    return lambda count: np.maximum(mean + count * sd, 0.0)


def error_scale(block: SeriesBlock, forecast: FloatArray) -> FloatArray:
    """How large the errors of ``forecast`` (time, series) have been lately, (time, series), positive.

    Their decaying mean, half-life two hours, and a thousandth of the level, so that it is never zero.
    """
    error = np.abs(block.demand - block.delayed(forecast))
    level = decaying_mean(np.abs(block.demand), steps_in(block.grid, DAY_SECONDS))
    return decaying_mean(error, steps_in(block.grid, SCALE_SECONDS)) + 1e-3 * level + 1e-12


def with_residual_quantile(block: SeriesBlock, forecast: FloatArray, scale: FloatArray | None = None) -> Allocate:
    """Allocate ``forecast`` plus the quantile of its own errors, the knob being the level.

    Parameters
    ----------
    forecast
        Array (time, series): row i is the forecast, after interval i, of interval i + lead.
    scale
        Array (time, series), positive: errors are measured in units of it, as it stood when the forecast was
        made. None: in the unit of the demand.
    """
    in_force = block.delayed(forecast)
    unit = block.delayed(scale) if scale is not None else None
    error = block.demand - in_force
    window = steps_in(block.grid, WEEK_SECONDS)
    quantiles = RollingQuantiles(error if unit is None else error / unit, window, LEVELS)

    def allocate(level: float) -> FloatArray:
        reserve = block.delayed(quantiles.at(level))
        return np.maximum(in_force + (reserve if unit is None else reserve * unit), 0.0)

    return allocate
