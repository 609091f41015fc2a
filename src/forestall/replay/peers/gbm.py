r"""Boosted trees alone: one global quantile model, split conformal per VM.

.. math:: a = q_{.5} + \hat{Q}_p\!\left(\frac{y - q_{.5}}{q_{.99} - q_{.5}}\right) (q_{.99} - q_{.5})

with the boosted model that is one of Forestall's experts, and the conformal quantile :math:`\hat Q_p` of each VM's own
scaled errors of the last seven days (Romano, Patterson & Candès, "Conformalized Quantile Regression", NeurIPS 2019).
It is the strongest published recipe without a combination of experts; the knob is the level p.
"""

from __future__ import annotations

from forestall.learning.boosted import Boosted, BoostedSettings
from forestall.learning.past import Past
from forestall.model.forecast import Target
from forestall.model.samples import FloatArray
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.knob import LEVELS, with_residual_quantile
from forestall.replay.peers.learned import median_and_spread

QUANTILES = (0.5, 0.99)
HALF_LIFE_STEPS = 2_016.0


class Gbm:
    """Boosted quantiles with split conformal correction per VM."""

    name = "gbm"
    shipped = 0.99
    knobs = LEVELS

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Run the model through the block, retrained on the past only."""
        return with_residual_quantile(block, *boosted(block))


def boosted(block: SeriesBlock) -> tuple[FloatArray, FloatArray]:
    """Median and spread (time, series) of the boosted model."""

    def make(past: Past, target: Target) -> Boosted:
        settings = BoostedSettings(levels=QUANTILES)
        return Boosted((target,), (target,), QUANTILES, HALF_LIFE_STEPS, settings, past)

    return median_and_spread(block, make, QUANTILES)
