"""How memory balloons move: small changes are not worth one, and large ones take several steps."""

from __future__ import annotations

import numpy as np

from forestall.model.samples import FloatArray


def dead_band(values: FloatArray, least: FloatArray) -> FloatArray:
    """Values (time, series) that move only by ``least`` (time, series) or more; the last one holds in gaps."""
    out = np.empty_like(values)
    current = np.full(values.shape[1], np.nan)
    for i, value in enumerate(values):
        moves = ~np.isnan(value) & (np.isnan(current) | (np.abs(value - current) >= least[i]))
        current = np.where(moves, value, current)
        out[i] = current
    return out


def paced(target: FloatArray, start: FloatArray, most_down: FloatArray, most_up: FloatArray) -> FloatArray:
    """Follow ``target`` (time, series) from ``start`` (series,), by at most so much down and up in a step.

    The limits of a step are arrays (time, series). NaN while neither start nor target is known.
    """
    out = np.empty_like(target)
    current = start
    for i, wanted in enumerate(target):
        wanted = np.where(np.isnan(wanted), current, wanted)
        current = np.where(np.isnan(current), wanted, current)
        current = np.clip(wanted, current - most_down[i], current + most_up[i])
        out[i] = current
    return out
