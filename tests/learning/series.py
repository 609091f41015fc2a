"""Demand for the tests of learning: daily, hourly, random, idle and drifting VMs, with gaps."""

from __future__ import annotations

import numpy as np

from forestall.model.samples import FloatArray

STEP_SECONDS = 300


def fleet(steps: int, seed: int = 0, gap_ratio: float = 0.02) -> FloatArray:
    """Cores (time, vm) of six VMs."""
    generator = np.random.default_rng(seed)
    time = np.arange(steps)
    noise = generator.gamma(2.0, 0.1, (steps, 6))
    shape = np.stack(
        [
            1.0 + np.sin(2 * np.pi * time / 288),
            1.5 * (time % 12 == 0),
            generator.gamma(0.3, 2.0, steps),
            np.zeros(steps),
            np.cumsum(generator.normal(0, 0.02, steps)) ** 2,
            1.0 + (time // 150 % 2),
        ],
        axis=1,
    )
    demand = np.where(np.arange(6) == 3, 0.0, shape + noise)
    demand[generator.random(demand.shape) < gap_ratio] = np.nan
    return np.minimum(demand, 8.0)
