"""``reactive``, ``residual`` and ``deviation``: the last value, with a margin, its usual or its recent error.

    reactive   a(t + k) = (1 + m) * y(t)
    residual   a(t + k) = y(t) + Q_level{ y(s + k) - y(s) : the last seven days }
    deviation  a(t + k) = y(t) + n * (decaying mean of |y(s + k) - y(s)|, half-life 2 h)

Source: folklore. The first is what threshold scalers do (a fifth of room is their usual default); the second is
the same with a margin that each series earns, the third with one that it earns lately.
"""

from __future__ import annotations

from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.knob import (
    LEVELS,
    MARGINS,
    error_scale,
    with_deviations,
    with_margin,
    with_residual_quantile,
)
from forestall.replay.peers.rolling import last_known


class Reactive:
    """Follows the last value with a fixed share of room."""

    name = "reactive"
    shipped = 0.2
    knobs: tuple[float, ...] = MARGINS

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Hold the last value, for an hour at most."""
        return with_margin(block, last_known(block.demand, block.grid))


class Residual:
    """Follows the last value with the room that its own errors of seven days ask for."""

    name = "residual"
    shipped = 0.99
    knobs: tuple[float, ...] = LEVELS

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Hold the last value, and sort its errors."""
        return with_residual_quantile(block, last_known(block.demand, block.grid))


class Deviation:
    """Follows the last value with so many times the size of its recent errors."""

    name = "deviation"
    shipped = 3.0
    knobs: tuple[float, ...] = (-0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 40.0, 80.0, 160.0, 400.0)

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Hold the last value, and measure its errors."""
        last = last_known(block.demand, block.grid)
        return with_deviations(block, last, error_scale(block, last))
