"""``nsigma``: mean plus N standard deviations of recent usage.

    a(t + k) = mean(t) + N * sd(t),   both over the last 2 h, N = 5

Source: Bashir et al., Take it to the limit: peak prediction-driven resource overcommitment in datacenters,
EuroSys 2021, section 4, https://doi.org/10.1145/3447786.3456259. There it is the usage of a machine, here of each
VM. The knob is N.
"""

from __future__ import annotations

from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.knob import with_deviations
from forestall.replay.peers.rolling import HOUR_SECONDS, moving_mean, moving_sd, steps_in

WINDOW_SECONDS = 2 * HOUR_SECONDS
SHIPPED_DEVIATIONS = 5.0


class NSigma:
    """Mean and deviation of a moving window."""

    name = "nsigma"
    shipped = SHIPPED_DEVIATIONS
    knobs: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0)

    def __init__(self, window_seconds: int = WINDOW_SECONDS) -> None:
        self.window_seconds = window_seconds

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Take both moments; gaps do not count."""
        window = steps_in(block.grid, self.window_seconds)
        return with_deviations(block, moving_mean(block.demand, window), moving_sd(block.demand, window))
