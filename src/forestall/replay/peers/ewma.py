"""``ewma``: an exponentially weighted mean and so many standard deviations.

    a(t + k) = m(t) + n * s(t),   m and s weighted by 2^(-age / 30 min)

Source: control charts (Roberts 1959, https://doi.org/10.1080/00401706.1959.10489860); three deviations are the
textbook's default.
"""

from __future__ import annotations

from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.knob import with_deviations
from forestall.replay.peers.rolling import decaying_mean, decaying_sd, steps_in

HALF_LIFE_SECONDS = 1_800


class Ewma:
    """Mean and deviation that forget with a half-life of 30 minutes."""

    name = "ewma"
    shipped = 3.0
    knobs: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0)

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Take both moments; a gap ages the weights and leaves the moments as they were."""
        half_life = steps_in(block.grid, HALF_LIFE_SECONDS)
        return with_deviations(block, decaying_mean(block.demand, half_life), decaying_sd(block.demand, half_life))
