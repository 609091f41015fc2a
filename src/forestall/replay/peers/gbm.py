r"""Boosted trees alone: one global quantile model, split conformal per VM.

.. math:: a = q_{.5} + \hat{Q}_p\!\left(\frac{y - q_{.5}}{q_{.99} - q_{.5}}\right) (q_{.99} - q_{.5})

with the boosted model that is one of Forestall's experts, and the conformal quantile :math:`\hat Q_p` of each VM's own
scaled errors of the last seven days (Romano, Patterson & Candès, "Conformalized Quantile Regression", NeurIPS 2019).
It is the strongest published recipe without a combination of experts; the knob is the level p.
"""

from __future__ import annotations

import numpy as np

from forestall.learning.boosted import Boosted, BoostedSettings
from forestall.learning.past import Past
from forestall.model.forecast import Statistic, Target
from forestall.model.samples import FloatArray
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.knob import LEVELS, with_residual_quantile

QUANTILES = (0.5, 0.99)
HALF_LIFE_STEPS = 2_016.0
SMALLEST_SPREAD = 0.02


class Gbm:
    """Boosted quantiles with split conformal correction per VM."""

    name = "gbm"
    shipped = 0.99
    knobs = LEVELS

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Run the model through the block, retrained on the past only."""
        median, high, scale = self._run(block)
        return with_residual_quantile(block, median, high - median + SMALLEST_SPREAD * scale)

    @staticmethod
    def _run(block: SeriesBlock) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Median, 99 % quantile and scale (time, series), row i made after interval i."""
        target = Target(Statistic.MEAN, block.lead_steps)
        past = Past(block.resource, block.grid.step_seconds)
        window = past.window
        model = Boosted((target,), (target,), QUANTILES, HALF_LIFE_STEPS, BoostedSettings(levels=QUANTILES), past)
        median, high, scale = (np.full(block.demand.shape, np.nan) for _ in range(3))
        for i, (demand, limit) in enumerate(zip(block.demand, block.limit, strict=True)):
            now = block.grid.at(i)
            past.take_in(demand, limit)
            model.observe(window, now)
            model.train_when_due(window)
            forecast = model.forecast(window, now)[0]
            # Before the first training the last value stands in for the median.
            median[i] = np.where(np.isnan(forecast[:, 0]), window.last, forecast[:, 0])
            high[i] = np.where(np.isnan(forecast[:, 1]), median[i], forecast[:, 1])
            scale[i] = window.scale()
        return median, high, scale
