"""``tournament``: per VM and step the best of ten simple forecasters, plus its scaled residual quantile.

    f_j(t)   last value; maximum of 15 min, 1 h, 6 h; decaying mean of 30 min, 2 h; a day ago; a week ago;
             last value moved as it moved a day ago; P95 of a day
    s_j(t)   decaying mean of |y - f_j| (half-life 2 h)
    j*       smallest decaying pinball loss at .9, .95 and .99 (half-life 1 day) of f_j + s_j * Q_level(j)
    Q_level(j)  of (y - f_j) / s_j in seven days
    a(t + k) = f_j* + s_j* * Q_level(j*)

No product ships it; it is the strongest simple rule. The knob is the level of the quantile. The winner does not
depend on the knob, so that a larger knob never allocates less. Pinball loss: Koenker and Bassett, Econometrica
1978, https://doi.org/10.2307/1913643; following the best expert so far: Cesa-Bianchi and Lugosi, Prediction,
Learning, and Games, 2006.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from forestall.model.samples import FloatArray
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.knob import LEVELS, error_scale
from forestall.replay.peers.rolling import (
    DAY_SECONDS,
    HOUR_SECONDS,
    WEEK_SECONDS,
    RollingQuantiles,
    decaying_mean,
    earlier,
    last_known,
    moving_max,
    steps_in,
)

JUDGED_LEVELS = (0.9, 0.95, 0.99)
REFRESH = 12


class Tournament:
    """Best recent forecaster."""

    name = "tournament"
    shipped = 0.99
    knobs: tuple[float, ...] = LEVELS

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Let the ten run one after the other, and keep the winner's forecast, scale and quantiles."""
        best: _Entry | None = None
        for forecast in forecasters(block):
            entry = _Entry(block, forecast)
            if best is None:
                best = entry
            else:
                best.keep_better(entry)
        assert best is not None
        winner = best

        def allocate(level: float) -> FloatArray:
            reserve = winner.scale * winner.quantiles.at(level)
            return block.delayed(np.maximum(winner.forecast + reserve, 0.0))

        return allocate


class _Entry:
    """One forecaster with its scale, its scaled residual quantiles and its recent loss, all (time, series)."""

    def __init__(self, block: SeriesBlock, forecast: FloatArray) -> None:
        self.forecast = forecast
        error = block.demand - block.delayed(forecast)
        self.scale = error_scale(block, forecast)
        scaled = error / block.delayed(self.scale)
        self.quantiles = RollingQuantiles(scaled, steps_in(block.grid, WEEK_SECONDS), LEVELS, REFRESH)
        self.loss = self._recent_loss(block)

    def _recent_loss(self, block: SeriesBlock) -> FloatArray:
        loss = np.zeros_like(block.demand)
        for level in JUDGED_LEVELS:
            short = block.demand - block.delayed(self.forecast + self.scale * self.quantiles.at(level))
            loss += np.maximum(level * short, (level - 1.0) * short)
        recent = decaying_mean(loss, steps_in(block.grid, DAY_SECONDS))
        # A winner stays for as long as its quantiles do.
        held = np.repeat(recent[:: self.quantiles.every], self.quantiles.every, axis=0)[: len(recent)]
        return np.where(np.isnan(held) | np.isnan(self.forecast), np.inf, held)

    def keep_better(self, other: _Entry) -> None:
        """Take over what ``other`` does better."""
        better = other.loss < self.loss
        np.copyto(self.forecast, other.forecast, where=better)
        np.copyto(self.scale, other.scale, where=better)
        np.copyto(self.loss, other.loss, where=better)
        at_refresh = better[:: self.quantiles.every]
        np.copyto(self.quantiles.knots, other.quantiles.knots, where=at_refresh)


def forecasters(block: SeriesBlock) -> Iterator[FloatArray]:
    """Ten forecasts (time, series) of interval i + lead, made after interval i."""
    demand, grid = block.demand, block.grid
    last = last_known(demand, grid)
    yield last.copy()
    for hours in (0.25, 1.0, 6.0):
        yield moving_max(last, steps_in(grid, hours * HOUR_SECONDS))
    for hours in (0.5, 2.0):
        yield decaying_mean(demand, steps_in(grid, hours * HOUR_SECONDS))
    day = steps_in(grid, DAY_SECONDS)
    yield earlier(last, max(day - block.lead_steps, 0))
    yield earlier(last, max(7 * day - block.lead_steps, 0))
    yield np.maximum(last + earlier(last, max(day - block.lead_steps, 0)) - earlier(last, day), 0.0)
    yield RollingQuantiles(demand, day, (0.95,)).at(0.95)
