"""The decision core on a hypervisor: observe, decide, lease, apply, read back, and let leases expire."""

from __future__ import annotations

import numpy as np

from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.simulated.host import SimulatedHost
from forestall.demand.core import Cycle, DemandLoop
from forestall.demand.leases import actions_of, leases_of
from forestall.demand.settings import DemandSettings
from forestall.model.decision import Lease, Result
from forestall.model.resources import Resource
from forestall.model.samples import Grid, Trace

CPU, STEP, STEPS, VMS = Resource.CPU, 300, 120, 6


def made_up() -> Trace:
    generator = np.random.default_rng(5)
    wave = 1.0 + 0.5 * np.sin(np.arange(STEPS)[:, None] / 12)
    demand = np.minimum(wave * generator.gamma(6.0, 0.1, (STEPS, VMS)), 4.0)
    names = tuple(f"vm-{i}" for i in range(VMS))
    return Trace(Grid(0, STEP, STEPS), names, {CPU: demand}, {CPU: np.full((STEPS, VMS), 4.0)})


def test_what_is_decided_is_in_force_until_the_lease_expires() -> None:
    trace, clock = made_up(), VirtualClock(0.0)
    host = SimulatedHost(trace, clock, capped=False)
    loop = DemandLoop(CPU, DemandSettings(STEP, budgets=(0.05,)))
    leases: list[Lease] = []
    cycle: Cycle | None = None
    below_limit = short = 0
    for _ in range(STEPS - 1):
        clock.advance(STEP)
        seen = host.observe()
        if cycle is not None:
            short += int((seen.demand[:, 0] > cycle.allocated[0] + 1e-9).sum())
        cycle = loop.step(seen.demand[:, 0], seen.limit[:, 0], seen.at)
        leases = leases_of(cycle, seen.vm_ids, CPU, duration_seconds=3 * STEP)
        outcomes = host.apply(actions_of(leases, seen.at))
        assert [o.result for o in outcomes] == [Result.DONE] * VMS
        for lease in leases:
            assert host.in_force(lease.vm_id)[CPU] == lease.amount
            below_limit += lease.amount < 4.0
    assert below_limit > STEPS * VMS / 2
    assert short < 0.12 * STEPS * VMS
    # The loop is gone: what is said after the leases have expired puts every VM back to its limit.
    assert cycle is not None
    host.apply(actions_of(leases, cycle.at + 3 * STEP))
    assert [host.in_force(vm_id)[CPU] for vm_id in trace.vm_ids] == [4.0] * VMS


def test_a_vm_of_which_nothing_is_known_gets_no_lease() -> None:
    loop = DemandLoop(CPU, DemandSettings(STEP))
    cycle = loop.step(np.array([np.nan, 1.0]), np.array([np.nan, 4.0]), 0)
    assert [lease.vm_id for lease in leases_of(cycle, ("dark", "lit"), CPU, duration_seconds=STEP)] == ["lit"]
