"""The demand loop: what it states and what it decides."""

from __future__ import annotations

import numpy as np

from forestall.demand.core import DemandLoop
from forestall.demand.settings import DemandSettings
from forestall.model.resources import Resource

STEP_SECONDS = 300


def test_nothing_is_stated_beyond_the_limit_or_what_was_seen() -> None:
    """VMs that rest and burst: what is right for them as a share is many times the limit in a burst."""
    generator = np.random.default_rng(4)
    demand = np.where(generator.random((400, 4)) < 0.03, 2.0, 0.002 * generator.gamma(4.0, 0.25, (400, 4)))
    demand[200:, 3] = np.where(generator.random(200) < 0.1, 2.6, demand[200:, 3])
    loop = DemandLoop(Resource.CPU, DemandSettings(STEP_SECONDS))
    cycles = [loop.step(row, np.full(4, 2.0), i * STEP_SECONDS) for i, row in enumerate(demand)]
    stated = np.stack([cycle.quantiles for cycle in cycles])
    assert (stated[250:, :, :3] == 2.0).any(), "the limit is reached"
    assert np.nanmax(stated[:, :, :3]) <= 2.0
    assert 2.0 < np.nanmax(stated[250:, :, 3]) <= np.float32(2.6), "one that is seen above its limit"
    assert max(cycle.decided.max() for cycle in cycles[250:]) > 2.6, "what is decided on tells how soon it is needed"
