"""VMs that come and go: the roster of a running loop stays bounded, and nothing changes for those that last."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from live_host import CPU, MEMORY, SETTINGS, STEP, LiveHost, small_trace

from forestall.demand.roster import Roster
from forestall.model.resources import Resource
from forestall.model.samples import Observation, Trace

LASTING, SHORT = 4, 60
AWAY_STEPS, AT_LEAST = 20, 8
NEVER = 10**9
BUSY_HOST = replace(SETTINGS, retire_seconds=AWAY_STEPS * STEP, retire_at_least=AT_LEAST)


def seen(vm_ids: tuple[str, ...], demand: list[float], limit: list[float]) -> Observation:
    return Observation(0, vm_ids, np.array(demand)[:, None], np.array(limit)[:, None])


def test_a_vm_that_was_forgotten_is_a_new_one_when_it_is_seen_again() -> None:
    roster, nan = Roster((CPU,)), np.nan
    roster.lay(seen(("a", "b", "c"), [1, 2, 3], [4, 5, 6]), (CPU,))
    roster.keep(np.array([0, 2]))
    demand, limit = roster.lay(seen(("a", "b", "c"), [nan, nan, 3], [nan, 5, 7]), (CPU,))
    assert roster.vm_ids == ("a", "c"), "without a sample it stays forgotten"
    np.testing.assert_array_equal(demand, [[nan], [3]])
    np.testing.assert_array_equal(limit, [[4], [7]])
    assert roster.mask(["b", "c"]).tolist() == [False, True]
    demand, limit = roster.lay(seen(("a", "b", "c"), [nan, 2, 3], [nan, 5, 7]), (CPU,))
    assert roster.vm_ids == ("a", "c", "b")
    np.testing.assert_array_equal(demand, [[nan], [3], [2]])
    np.testing.assert_array_equal(limit, [[4], [7], [5]])


def short_lived(steps: int = 150) -> Trace:
    """Four VMs that last, and sixty that each run for eight intervals, a new one every other interval."""
    trace = small_trace(LASTING + SHORT, steps)
    for number in range(SHORT):
        born = 2 * number + 1
        for values in (*trace.demand.values(), *trace.limit.values()):
            values[:born, LASTING + number] = values[born + 8 :, LASTING + number] = np.nan
    return trace


def leases(live: LiveHost) -> dict[tuple[str, Resource], float | None]:
    return {(view.vm_id, view.resource): view.lease_left_seconds for view in live.driver.views()}


def test_the_roster_stays_bounded_and_decisions_about_vms_that_last_go_on() -> None:
    busy = LiveHost(trace=short_lived(), settings=BUSY_HOST)
    patient = LiveHost(trace=short_lived(), settings=replace(BUSY_HOST, retire_at_least=NEVER))
    lasting = busy.trace.vm_ids[:LASTING]
    forgotten, longest = 0, 0
    for _ in range(140):
        for live in (busy, patient):
            live.run()
        roster = busy.driver._planner.roster.vm_ids
        longest = max(longest, len(roster))
        if len(busy.notes) > forgotten:
            forgotten = len(busy.notes)
            assert {v.vm_id for v in busy.driver.views()} == set(busy.host.vm_ids())
            assert roster[:LASTING] == lasting
        for resource in (CPU, MEMORY):
            expected = [patient.host.in_force(vm_id)[resource] for vm_id in lasting]
            held = [busy.host.in_force(vm_id)[resource] for vm_id in lasting]
            assert held == pytest.approx(expected, rel=0.01)
        assert busy.lowered() == patient.lowered()
        assert leases(busy) == leases(patient)
        assert busy.originals.entries == patient.originals.entries
    assert busy.notes == ["8 VMs that have not run for 0.333333 h are forgotten"] * 7
    assert longest < LASTING + 4 + AWAY_STEPS // 2 + AT_LEAST + 2
    assert len(patient.driver._planner.roster.vm_ids) == LASTING + SHORT
    assert {vm_id for vm_id, _ in busy.driver._recording._last} == set(busy.driver._planner.roster.vm_ids)
    assert busy.driver.view().fault == ""


def test_a_gap_in_contact_forgets_nobody_who_runs() -> None:
    live = LiveHost(settings=replace(BUSY_HOST, retire_at_least=1)).run(10)
    lowered = live.lowered()
    assert lowered
    live.clock.advance((AWAY_STEPS + 5) * STEP)
    live.run(12)
    assert live.driver._planner.roster.vm_ids == live.trace.vm_ids
    assert live.lowered() == lowered
    assert not [line for line in live.notes if "forgotten" in line]
