"""``rc_like``: a high percentile of each VM's recent usage, as Resource Central is used for overcommitment.

    a(t + k) = P99{ y(s) : the last 24 h }

Source: Cortez et al., Resource Central, SOSP 2017, https://doi.org/10.1145/3132747.3132772, in the form of Bashir
et al., EuroSys 2021, section 4 (a machine's peak is the sum of its VMs' percentiles). The knob is the percentile.
"""

from __future__ import annotations

from forestall.model.samples import FloatArray
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.knob import LEVELS
from forestall.replay.peers.rolling import DAY_SECONDS, RollingQuantiles, steps_in

WINDOW_SECONDS = DAY_SECONDS
SHIPPED_PERCENTILE = 0.99


class RcLike:
    """Percentile of a moving window."""

    name = "rc_like"
    shipped = SHIPPED_PERCENTILE
    knobs: tuple[float, ...] = LEVELS

    def __init__(self, window_seconds: int = WINDOW_SECONDS) -> None:
        self.window_seconds = window_seconds

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Sort the window at every second step."""
        window = steps_in(block.grid, self.window_seconds)
        quantiles = RollingQuantiles(block.demand, window, LEVELS, every=2)

        def allocate(level: float) -> FloatArray:
            return block.delayed(quantiles.at(level))

        return allocate
