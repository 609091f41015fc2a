"""``moving_max_*``: the maximum of the last 15 minutes, hour, six hours or day, times one plus a margin.

    a(t + k) = (1 + m) * max{ y(s) : t - w < s <= t }

Source: folklore; the hour is the strongest simple rule on the development traces, 15 minutes ahead too.
"""

from __future__ import annotations

from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.knob import WIDE_MARGINS, with_margin
from forestall.replay.peers.rolling import last_known, moving_max, steps_in


class MovingMax:
    """Maximum of a recent window.

    Parameters
    ----------
    label
        What the window is called in the name of the peer.
    window_seconds
        Its length.
    """

    shipped = 0.0
    knobs: tuple[float, ...] = WIDE_MARGINS

    def __init__(self, label: str, window_seconds: int) -> None:
        self.name = f"moving_max_{label}"
        self.window_seconds = window_seconds

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Take the moving maximum; the last value counts on for an hour of silence."""
        window = steps_in(block.grid, self.window_seconds)
        return with_margin(block, moving_max(last_known(block.demand, block.grid), window))
