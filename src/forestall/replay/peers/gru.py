r"""A GRU alone, and the mean of it and boosted trees: global quantile models, split conformal per VM.

.. math:: a = q_{.5} + \hat{Q}_p\!\left(\frac{y - q_{.5}}{q_{.99} - q_{.5}}\right) (q_{.99} - q_{.5})

as the peer ``gbm`` has it, with the recurrent network that is one of Forestall's experts, as a GRU, trained on the past
of the trace alone; ``gbm_gru`` takes the mean of both models' quantiles. Needs torch. The knob is the level p.
Source: Cho et al., EMNLP 2014; Romano, Patterson & Candès, NeurIPS 2019.
"""

from __future__ import annotations

from importlib.util import find_spec

from forestall.learning.past import Past
from forestall.learning.recurrent.forecaster import Recurrent, RecurrentSettings
from forestall.model.errors import Unsupported
from forestall.model.forecast import LEVELS as QUANTILES
from forestall.model.forecast import Target
from forestall.model.samples import FloatArray
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.gbm import boosted
from forestall.replay.peers.knob import LEVELS, with_residual_quantile
from forestall.replay.peers.learned import median_and_spread


class Gru:
    """GRU quantiles with split conformal correction per VM; with boosted trees beside it, the mean of both.

    Raises
    ------
    Unsupported
        torch is not installed.
    """

    shipped = 0.99
    knobs = LEVELS

    def __init__(self, with_boosted: bool = False) -> None:
        if find_spec("torch") is None:
            raise Unsupported("a GRU needs torch: pip install 'forestall[train]'")
        self.name = "gbm_gru" if with_boosted else "gru"
        self._with_boosted = with_boosted

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Run the models through the block, retrained on the past only."""
        median, spread = recurrent(block)
        if self._with_boosted:
            other_median, other_spread = boosted(block)
            median, spread = (median + other_median) / 2, (spread + other_spread) / 2
        return with_residual_quantile(block, median, spread)


def recurrent(block: SeriesBlock) -> tuple[FloatArray, FloatArray]:
    """Median and spread (time, series) of the recurrent model."""
    from forestall.learning.training.fit import train_gru

    def make(past: Past, target: Target) -> Recurrent:
        return Recurrent(past, {}, (target,), QUANTILES, RecurrentSettings(trainer=train_gru, calendar=False))

    return median_and_spread(block, make, QUANTILES)
