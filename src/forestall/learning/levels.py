r"""Quantile functions in tail coordinates.

Quantiles are interpolated in :math:`z(p) = \operatorname{logit} p`, in which exponential tails are straight lines, so
that a level between or a little beyond those known is a fair guess and never an arbitrary one.
"""

from __future__ import annotations

import numpy as np

from forestall.model.samples import FloatArray

MAX_EXTRAPOLATION = 1.5
LEAST_GAP = 0.1
"""Beyond the last level the slope is taken over so much at least: levels that are almost the same say nothing of it."""


def logit(level: FloatArray | float) -> FloatArray:
    """Tail coordinate of a level in (0, 1)."""
    p = np.asarray(level, dtype=np.float64)
    return np.log(p) - np.log1p(-p)


def tail(z: FloatArray) -> FloatArray:
    """Probability above the level whose tail coordinate is ``z``."""
    return 1.0 / (1.0 + np.exp(z))


def value_at(quantiles: FloatArray, knots: FloatArray, z: FloatArray) -> FloatArray:
    """Quantile functions at tail coordinates ``z``.

    Parameters
    ----------
    quantiles
        Array (vm, level), non-decreasing over levels.
    knots
        Tail coordinates of the levels: (level,) or (vm, level), increasing.
    z
        Array (vm, place).

    Returns
    -------
    FloatArray
        Array (vm, place); linear between knots and for at most :data:`MAX_EXTRAPOLATION` above the last, constant
        below the first.
    """
    knots = np.broadcast_to(knots, quantiles.shape)
    inside = np.clip(z, knots[:, :1], knots[:, -1:] + MAX_EXTRAPOLATION)
    upper = np.clip((knots[:, :, None] <= inside[:, None, :]).sum(axis=1), 1, quantiles.shape[1] - 1)
    low, high = np.take_along_axis(knots, upper - 1, axis=1), np.take_along_axis(knots, upper, axis=1)
    start, end = np.take_along_axis(quantiles, upper - 1, axis=1), np.take_along_axis(quantiles, upper, axis=1)
    between, beyond = np.minimum(inside, high) - low, np.maximum(inside - high, 0.0)
    share = between / (high - low) + beyond / np.maximum(high - low, LEAST_GAP)
    value: FloatArray = start + share * (end - start)
    return value
