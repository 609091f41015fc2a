"""``percentile``: a percentile of the last seven days, the sizing rule of cloud cost advisers.

    a(t + k) = Q_level{ y(s) : the last seven days }

Source: rightsizing advisers of public clouds, e.g. AWS Compute Optimizer (P99.5 of CPU over 14 days by default,
https://docs.aws.amazon.com/compute-optimizer/latest/ug/rightsizing-preferences.html) and Azure Advisor (P95 over
7 days, https://learn.microsoft.com/azure/advisor/advisor-cost-recommendations). Shipped here: 7 days and P95.
"""

from __future__ import annotations

from forestall.model.samples import FloatArray
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.knob import LEVELS
from forestall.replay.peers.rolling import WEEK_SECONDS, RollingQuantiles, steps_in


class Percentile:
    """Percentile of a week."""

    name = "percentile"
    shipped = 0.95
    knobs: tuple[float, ...] = LEVELS

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Sort the week, again and again."""
        quantiles = RollingQuantiles(block.demand, steps_in(block.grid, WEEK_SECONDS), LEVELS)

        def allocate(level: float) -> FloatArray:
            return block.delayed(quantiles.at(level))

        return allocate
