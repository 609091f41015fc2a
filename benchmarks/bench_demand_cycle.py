"""One cycle of the demand loop: every expert's update, combination, calibration, risk and allocation, 4 resources.

Run with ``make bench``, or for one size::

    pytest benchmarks/bench_demand_cycle.py --benchmark-enable -k 10000
"""

from __future__ import annotations

import resource as process_resource

import numpy as np
import pytest

from forestall.demand.core import DemandLoop
from forestall.demand.settings import DemandSettings
from forestall.learning.boosted import BoostedSettings
from forestall.model.resources import Resource

RESOURCES = (Resource.CPU, Resource.MEMORY, Resource.DISK_WRITE, Resource.NET_RX)
STEP_SECONDS = 300
HISTORY_STEPS = 80
SIZES = (100, 1_000, 10_000, 50_000)


class Fleet:
    """Four demand loops, one for each resource, that have seen some hours of made-up demand."""

    def __init__(self, vms: int) -> None:
        self._generator = np.random.default_rng(0)
        boosted = BoostedSettings(max_rows=50_000, min_rows=500, collect_days=50_000 / max(vms, 1) / 288 + 0.1)
        settings = DemandSettings(STEP_SECONDS, boosted=boosted)
        self._loops = [DemandLoop(r, settings) for r in RESOURCES]
        self._level = self._generator.gamma(1.0, 0.3, vms)
        self._limit = np.full(vms, 4.0)
        self._step = 0
        for i in range(HISTORY_STEPS):
            self.cycle(learn_only=i < HISTORY_STEPS - 14)

    def cycle(self, *, learn_only: bool = False) -> None:
        """One step of all four resources."""
        wave = 1.0 + 0.5 * np.sin(self._step / 288 * 2 * np.pi)
        for loop in self._loops:
            demand = self._level * wave * self._generator.gamma(4.0, 0.25, len(self._level))
            now = self._step * STEP_SECONDS
            if learn_only:
                loop.absorb(demand, self._limit, now)
            else:
                loop.step(demand, self._limit, now)
        self._step += 1


def resident_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * process_resource.getpagesize()


@pytest.mark.parametrize("vms", SIZES)
def test_cycle(benchmark, vms: int) -> None:  # type: ignore[no-untyped-def]
    """Seconds of one cycle; memory for each VM and resource goes into ``extra_info``."""
    before = resident_bytes()
    fleet = Fleet(vms)
    benchmark.extra_info["bytes_per_vm_and_resource"] = (resident_bytes() - before) / vms / len(RESOURCES)
    benchmark.pedantic(fleet.cycle, rounds=5, warmup_rounds=1)
