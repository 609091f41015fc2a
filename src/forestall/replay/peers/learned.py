"""What learned peers have in common: a global quantile model, run through a block on the past alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from forestall.learning.expert import TrainedForecaster
from forestall.learning.past import Past
from forestall.model.forecast import Statistic, Target
from forestall.model.samples import FloatArray
from forestall.replay.peers.base import SeriesBlock

SMALLEST_SPREAD = 0.02


Make = Callable[[Past, Target], TrainedForecaster]


def median_and_spread(block: SeriesBlock, make: Make, levels: tuple[float, ...]) -> tuple[FloatArray, FloatArray]:
    """Median, and 99 % quantile less median, (time, series); row i made after interval i.

    Parameters
    ----------
    block
        Demand.
    make
        Makes the model, for a past that is filled here and the target that an allocation must cover.
    levels
        Its quantile levels, among them .5 and .99.
    """
    target = Target(Statistic.MEAN, block.lead_steps)
    past = Past(block.resource, block.grid.step_seconds)
    model, window = make(past, target), past.window
    middle, high = levels.index(0.5), levels.index(0.99)
    median, spread = (np.full(block.demand.shape, np.nan) for _ in range(2))
    for i, (demand, limit) in enumerate(zip(block.demand, block.limit, strict=True)):
        now = block.grid.at(i)
        past.take_in(demand, limit, now)
        model.observe(window, now)
        model.train_when_due(window)
        forecast = model.forecast(window, now)[0]
        # Before the first training the last value stands in for the median.
        median[i] = np.where(np.isnan(forecast[:, middle]), window.last, forecast[:, middle])
        above = np.where(np.isnan(forecast[:, high]), median[i], forecast[:, high])
        spread[i] = above - median[i] + SMALLEST_SPREAD * window.scale()
    return median, spread
