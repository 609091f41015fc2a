"""``oracle``: the demand of the interval itself. **The only peer that is not causal**: it shows what is left to win.

a(t) = (1 + m) * y(t)
"""

from __future__ import annotations

from forestall.model.samples import FloatArray
from forestall.replay.peers.base import Allocate, SeriesBlock


class Oracle:
    """Knows the demand of the interval that it allocates for; no opinion in a gap."""

    name = "oracle"
    shipped = 0.0
    knobs: tuple[float, ...] = (-0.1, -0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2)

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Look ahead, on purpose, whatever the lead is."""

        def allocate(margin: float) -> FloatArray:
            return block.demand * (1.0 + margin)

        return allocate
