"""``autopilot`` and ``autopilot_load_adjusted``: the moving-window recommenders of Google's Autopilot.

    CPU     P95, weights w(age) = 2^(-age / 12 h)
    memory  P98, weights 2^(-age / 48 h)
    a = (1 + 15 %) * the largest recommendation of the last hour

Load-adjusted: bucket b of the usage histogram counts b times its weight, so that 95 % of the core-seconds (not of
the time) were used below the limit; the paper's choice for CPU. It is the more cautious one, and the plain
percentile needs less slack at an equal share of violations, so both are here. The knob is the percentile of CPU;
memory's lies as much higher as shipped, with 2/5 of the tail. The paper's margin is 10-15 %.

Source: Rzadca et al., Autopilot: workload autoscaling at Google, EuroSys 2020, section 3.2,
https://doi.org/10.1145/3342195.3387524. Disk and network, which it does not scale, are treated like CPU.
"""

from __future__ import annotations

from forestall.model.resources import Resource
from forestall.model.samples import FloatArray
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.histogram import LEVELS, buckets_for, decaying_percentiles
from forestall.replay.peers.rolling import HOUR_SECONDS, moving_max, steps_in

MARGIN = 0.15
MEMORY_TAIL = (1.0 - 0.98) / (1.0 - 0.95)


class Autopilot:
    """Decaying percentile, kept at its hourly maximum.

    Parameters
    ----------
    load_adjusted
        Whether a bucket counts by its load.
    """

    shipped = 0.95
    knobs: tuple[float, ...] = LEVELS

    def __init__(self, load_adjusted: bool = False) -> None:
        self.name = "autopilot_load_adjusted" if load_adjusted else "autopilot"
        self.load_adjusted = load_adjusted

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Keep the histograms."""
        memory = block.resource is Resource.MEMORY
        half_life = steps_in(block.grid, (48 if memory else 12) * HOUR_SECONDS)
        buckets = buckets_for(block.resource, cpu_first=0.01, memory_first=1e7)
        percentiles = decaying_percentiles(block.demand, buckets, half_life, self.load_adjusted)
        hour = steps_in(block.grid, HOUR_SECONDS)

        def allocate(level: float) -> FloatArray:
            chosen = 1.0 - (1.0 - level) * MEMORY_TAIL if memory else level
            return block.delayed(moving_max(percentiles.at(chosen), hour) * (1.0 + MARGIN))

        return allocate
