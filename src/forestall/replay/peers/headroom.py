"""``headroom`` and ``headroom_max_*``: recent use and a fixed share of the limit on top.

    a(t + k) = max{ y(s) : t - w < s <= t } + m * limit(t),   w: one interval, 15 min, 1 h

Where there is no limit, the largest value seen so far stands in for it. Source: folklore (free percentage points as the
alarm of a dashboard has them). One margin for all VMs in parts of their size costs a large idle VM dearly and lets a
small busy one violate: pooled over VMs it looks strong, so see the spread over VMs beside it.
"""

from __future__ import annotations

import numpy as np

from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.knob import with_deviations
from forestall.replay.peers.rolling import last_known, moving_max, steps_in


class Headroom:
    """Maximum of a recent window, and room in proportion to the limit.

    Parameters
    ----------
    name
        Name of the peer.
    window_seconds
        Length of the window; 0 for the last interval.
    """

    shipped = 0.1
    knobs: tuple[float, ...] = (
        -0.1, -0.03, -0.01, 0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8
    )  # fmt: skip

    def __init__(self, name: str, window_seconds: int) -> None:
        self.name = name
        self.window_seconds = window_seconds

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Take the maximum and the size of the VM."""
        last = last_known(block.demand, block.grid)
        largest = np.fmax.accumulate(block.demand, axis=0)
        size = np.where(np.isfinite(block.limit), block.limit, largest)
        recent = moving_max(last, steps_in(block.grid, self.window_seconds))
        return with_deviations(block, recent, size)
