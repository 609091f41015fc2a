"""``koordinator``: the peak predictor of Koordinator's node agent.

    a = (1 + 10 %) * P95 of CPU (P98 of memory), weights halving every 12 h (CPU) or 24 h (memory)

In a series' first 24 hours it keeps the full request, here the limit. The knob is the percentile of CPU; memory's
lies as much higher as shipped, with 2/5 of the tail.

Source: https://github.com/koordinator-sh/koordinator (pkg/koordlet/prediction; ``safetyMarginPercent`` 10,
``coldStartDuration`` 24h, ``cpuHistogramDecayHalfLife`` 12h, ``memoryHistogramDecayHalfLife`` 24h, buckets from
0.025 cores and 5 MiB growing by 5 %). Disk and network, which it does not predict, are treated like CPU.
"""

from __future__ import annotations

import numpy as np

from forestall.model.resources import Resource
from forestall.model.samples import FloatArray
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.histogram import LEVELS, buckets_for, decaying_percentiles
from forestall.replay.peers.rolling import DAY_SECONDS, HOUR_SECONDS, steps_in

MARGIN = 0.1
MEMORY_TAIL = (1.0 - 0.98) / (1.0 - 0.95)


class Koordinator:
    """Decaying percentile with a cold start of a day."""

    name = "koordinator"
    shipped = 0.95
    knobs: tuple[float, ...] = LEVELS

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Keep the histograms; no opinion while a series is younger than a day."""
        memory = block.resource is Resource.MEMORY
        half_life = steps_in(block.grid, (24 if memory else 12) * HOUR_SECONDS)
        buckets = buckets_for(block.resource, cpu_first=0.025, memory_first=5 * 2.0**20)
        percentiles = decaying_percentiles(block.demand, buckets, half_life)
        seen = np.maximum.accumulate(~np.isnan(block.demand), axis=0)
        cold = np.cumsum(seen, axis=0) < steps_in(block.grid, DAY_SECONDS)

        def allocate(level: float) -> FloatArray:
            chosen = 1.0 - (1.0 - level) * MEMORY_TAIL if memory else level
            return block.delayed(np.where(cold, np.nan, percentiles.at(chosen) * (1.0 + MARGIN)))

        return allocate
