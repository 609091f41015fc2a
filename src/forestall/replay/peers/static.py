"""``static``: what most clouds do, the limit and nothing else. It has no knob to turn."""

from __future__ import annotations

import numpy as np

from forestall.replay.peers.base import Allocate, SeriesBlock


class Static:
    """Never has an opinion, so that the static limit stays in force (where there is one)."""

    name = "static"
    shipped = 1.0
    knobs: tuple[float, ...] = (1.0,)

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Answer NaN, which means the static limit."""
        return lambda _share: np.full_like(block.demand, np.nan)
