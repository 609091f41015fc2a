"""Demand of VMs that change their habits."""

from __future__ import annotations

import numpy as np

from forestall.model.samples import FloatArray

LIMIT_CORES = 4.0
DAY, HOUR = 288, 12
"""Steps of five minutes."""


def habits(vms: int, days: int, after: int) -> FloatArray:
    """Gentle days, then three times as much with a burst each hour, for every other VM.

    Array (time, vm) in cores, five minutes a step; ``after`` is how many steps follow the change.
    """
    generator = np.random.default_rng(0)
    time, phase = np.arange(days * DAY + after)[:, None], generator.random(vms) * DAY
    before = (0.3 + 0.2 * np.sin(2 * np.pi * (time + phase) / DAY)) * generator.gamma(30, 1 / 30, (len(time), vms))
    bursts = 1.2 * ((time + phase.astype(int)) % HOUR == 0)
    now = 0.8 * generator.gamma(6, 1 / 6, (len(time), vms)) + bursts
    changed = (np.arange(vms) % 2 == 0) & (time >= days * DAY)
    return np.minimum(np.where(changed, now, before), LIMIT_CORES)
