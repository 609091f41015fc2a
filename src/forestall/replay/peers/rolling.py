"""Statistics over the recent past, for many series at once and with gaps.

Everything here is causal: row i of an answer depends on rows <= i only. NaN (a gap) is never counted as a
value; a statistic over nothing is NaN.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from forestall.model.samples import FloatArray, Grid

HOUR_SECONDS = 3_600
DAY_SECONDS = 86_400
WEEK_SECONDS = 7 * DAY_SECONDS


def steps_in(grid: Grid, seconds: float) -> int:
    """Number of steps of the grid that make up ``seconds``, at least one."""
    return max(1, round(seconds / grid.step_seconds))


def held(values: FloatArray, steps: int) -> FloatArray:
    """Values (time, series) with each gap filled by the last value, for at most ``steps`` rows."""
    return pd.DataFrame(values).ffill(limit=steps).to_numpy()


def last_known(values: FloatArray, grid: Grid) -> FloatArray:
    """Last value (time, series), kept for at most an hour of silence."""
    return held(values, steps_in(grid, HOUR_SECONDS))


def earlier(values: FloatArray, steps: int) -> FloatArray:
    """Values (time, series) of ``steps`` (>= 0) rows before; NaN where there was no such row."""
    out = np.full_like(values, np.nan)
    if steps < len(values):
        out[steps:] = values[: len(values) - steps]
    return out


def moving_max(values: FloatArray, steps: int) -> FloatArray:
    """Maximum of the last ``steps`` rows, (time, series)."""
    return pd.DataFrame(values).rolling(steps, min_periods=1).max().to_numpy()


def moving_mean(values: FloatArray, steps: int) -> FloatArray:
    """Mean of the last ``steps`` rows, (time, series)."""
    return pd.DataFrame(values).rolling(steps, min_periods=1).mean().to_numpy()


def moving_sd(values: FloatArray, steps: int) -> FloatArray:
    """Standard deviation of the last ``steps`` rows, (time, series); 0 for a single value."""
    return pd.DataFrame(values).rolling(steps, min_periods=1).std(ddof=0).to_numpy()


def decaying_mean(values: FloatArray, half_life_steps: float) -> FloatArray:
    """Mean (time, series) with weights that halve every ``half_life_steps`` rows."""
    return pd.DataFrame(values).ewm(halflife=half_life_steps).mean().to_numpy()


def decaying_sd(values: FloatArray, half_life_steps: float) -> FloatArray:
    """Standard deviation (time, series) under the weights of :func:`decaying_mean`; 0 for one value."""
    frame = pd.DataFrame(values)
    variance = frame.ewm(halflife=half_life_steps).var(bias=True)
    return np.asarray(np.sqrt(variance.clip(lower=0.0).to_numpy()))


class RollingQuantiles:
    """Quantiles over a rolling window, for every level that a knob may ask for.

    The window is sorted once for each refresh, which serves all levels; the answer holds until the next
    refresh. Levels between two knots are interpolated.

    Parameters
    ----------
    values
        Array (time, series), NaN in gaps.
    window
        Rows in the window.
    levels
        Levels to keep.
    every
        Rows from one refresh to the next.
    """

    def __init__(self, values: FloatArray, window: int, levels: tuple[float, ...], every: int = 6) -> None:
        self.every, self.steps = every, len(values)
        self.levels = np.unique(np.asarray(levels, dtype=np.float64))
        by_series = np.ascontiguousarray(values.T)
        self.knots = np.stack(
            [
                sample_quantiles(by_series[:, max(0, at + 1 - window) : at + 1], self.levels)
                for at in range(0, self.steps, every)
            ],
            axis=1,
        )
        """Array (level, refresh, series)."""

    def refreshed(self, level: float) -> FloatArray:
        """Quantile (refresh, series) at each refresh."""
        position = float(np.interp(level, self.levels, np.arange(len(self.levels))))
        low, share = int(position), position - int(position)
        if share == 0.0:
            return np.asarray(self.knots[low])
        return np.asarray((1.0 - share) * self.knots[low] + share * self.knots[low + 1])

    def at(self, level: float) -> FloatArray:
        """Quantile (time, series): row i rests on rows <= i."""
        return np.repeat(self.refreshed(level), self.every, axis=0)[: self.steps]


def sample_quantiles(window: FloatArray, levels: FloatArray) -> FloatArray:
    """Quantiles (level, series) of the rows of ``window`` (series, time), NaN left out."""
    ordered = np.sort(window, axis=1)
    count = (~np.isnan(window)).sum(axis=1)
    position = levels[:, None] * np.maximum(count - 1, 0)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    rows = np.arange(len(window))
    share = position - low
    return np.asarray((1.0 - share) * ordered[rows, low] + share * ordered[rows, high])
