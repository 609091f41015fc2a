"""``mom``: the balloon policy of oVirt's Memory Overcommitment Manager. Memory only.

    wanted = (1 + 20 %) * mean use of the last 10 samples
    step   = at most 5 % down every 10 s; up at once to what is wanted; changes under 0.25 % of the limit are left out

It takes memory back only under host pressure (under 20 % of the host free; critical under 5 %). Here the host is
always under pressure, because slack is only worth comparing where someone wants it back; otherwise MOM is
``static``. The knob is the share that a guest keeps free. Ten samples of 10 s lie within one interval of a trace
with longer ones. Whether a change is too small is decided at the shipped share, at every knob, so that a larger
knob never allocates less.

Source: https://github.com/oVirt/mom (``doc/balloon.rules``, ``doc/mom-balloon.conf``: ``pressure_threshold``
0.20, ``min_guest_free_percent`` 0.20, ``max_balloon_change_percent`` 0.05, ``min_balloon_change_percent``
0.0025).
"""

from __future__ import annotations

import numpy as np

from forestall.model.samples import FloatArray
from forestall.replay.peers.balloon import dead_band
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.knob import MARGINS
from forestall.replay.peers.rolling import last_known, moving_mean, steps_in

CYCLE_SECONDS = 10
SAMPLES = 10
FREE_RATIO = 0.2
STEP_RATIO = 0.05
LEAST_RATIO = 0.0025


class Mom:
    """Guest's use and a share on top, let down in steps."""

    name = "mom"
    shipped = FREE_RATIO
    knobs: tuple[float, ...] = MARGINS

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Average, leave out small changes, and let down slowly: all of it scales with the knob."""
        samples = steps_in(block.grid, CYCLE_SECONDS * SAMPLES)
        used = moving_mean(last_known(block.demand, block.grid), samples)
        limit = np.nan_to_num(block.limit, posinf=0.0)
        steady = dead_band(used, LEAST_RATIO * limit / (1.0 + FREE_RATIO))
        cycles = max(1, block.grid.step_seconds // CYCLE_SECONDS)
        decided = block.delayed(_let_down(steady, (1.0 - STEP_RATIO) ** cycles))
        return lambda free: decided * (1.0 + free)


def _let_down(wanted: FloatArray, keep_ratio: float) -> FloatArray:
    """Follow ``wanted`` (time, series) up at once, and down to no less than ``keep_ratio`` of before."""
    out = np.empty_like(wanted)
    current = wanted[0]
    for i, value in enumerate(wanted):
        current = np.fmax(value, current * keep_ratio)
        out[i] = current
    return out
