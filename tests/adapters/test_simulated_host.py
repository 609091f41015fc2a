from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.simulated.host import SimulatedHost
from forestall.model.decision import Action, Result
from forestall.model.errors import HypervisorError
from forestall.model.resources import Resource
from forestall.model.samples import Grid, Trace
from forestall.ports.hypervisor import Capability, Hypervisor, Inventory
from forestall.testing.hypervisor import HypervisorContract

CPU, MEMORY = Resource.CPU, Resource.MEMORY
NAN = np.nan


def trace() -> Trace:
    """Five minutes of three VMs: ``b`` has a gap, ``late`` comes at minute 2 and goes after minute 3."""
    cpu = np.array([[1, 1, NAN], [2, NAN, NAN], [3, 1, 2], [3, 2, 2], [1, 2, NAN]], dtype=float)
    memory = np.where(np.isnan(cpu), NAN, 100.0)
    limit = np.where(np.isnan(cpu), NAN, 4.0)
    grid = Grid(6000, 60, 5)
    return Trace(grid, ("a", "b", "late"), {CPU: cpu, MEMORY: memory}, {CPU: limit, MEMORY: limit * 50})


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(6000.0)


class TestSimulatedHost(HypervisorContract):
    @pytest.fixture
    def hypervisor(self, clock: VirtualClock) -> Hypervisor:
        clock.advance(60)
        capability = Capability(step=0.25, lead_seconds=2.0)
        return SimulatedHost(
            trace(), clock, inventory={CPU: Inventory(16.0)}, capabilities={CPU: capability, MEMORY: capability}
        )

    @pytest.fixture
    def settle(self, clock: VirtualClock) -> Callable[[], None]:
        return lambda: clock.advance(2.0)


def test_what_is_observed_is_the_last_whole_interval(clock: VirtualClock) -> None:
    host = SimulatedHost(trace(), clock)
    assert host.observe().vm_ids == ()
    assert host.vm_ids() == ("a", "b")
    clock.advance(59)
    assert host.observe().vm_ids == ()
    clock.advance(1)
    seen = host.observe()
    assert (seen.at, seen.vm_ids) == (6000, ("a", "b"))
    np.testing.assert_array_equal(seen.demand, [[1, 100], [1, 100]])
    clock.advance(60)
    seen = host.observe()
    np.testing.assert_array_equal(seen.demand, [[2, 100], [NAN, NAN]])
    np.testing.assert_array_equal(seen.limit, [[4, 200], [4, 200]])
    assert host.vm_ids() == ("a", "b", "late")


def test_observations_are_those_of_a_replay(clock: VirtualClock) -> None:
    host = SimulatedHost(trace(), clock)
    for expected in trace().observations():
        clock.sleep_until(expected.at + 60)
        seen = host.observe()
        assert (seen.at, seen.vm_ids) == (expected.at, expected.vm_ids)
        np.testing.assert_array_equal(seen.demand, expected.demand)
        np.testing.assert_array_equal(seen.limit, expected.limit)
    clock.advance(60)
    with pytest.raises(HypervisorError, match="ended at 6300"):
        host.observe()


def test_demand_is_seen_through_the_allocation_in_force(clock: VirtualClock) -> None:
    capability = Capability(step=0.5, lead_seconds=30.0)
    host = SimulatedHost(trace(), clock, capabilities={CPU: capability})
    whole = SimulatedHost(trace(), clock, capped=False)
    clock.sleep_until(6060)
    for simulated in (host, whole):
        (outcome,) = simulated.apply([Action("a", CPU, 0.8)])
    assert (outcome.result, outcome.read_back) == (Result.DONE, 0.8)
    assert host.in_force("a")[CPU] == 4.0
    clock.sleep_until(6090)
    assert host.in_force("a")[CPU] == 1.0
    clock.sleep_until(6120)
    assert host.observe().demand[0, 0] == 2.0, "half of the interval at 4 cores, half at 1: 2.5 on average"
    clock.sleep_until(6180)
    assert host.observe().demand[0, 0] == 1.0
    assert whole.observe().demand[0, 0] == 3.0


def test_a_pending_move_is_not_put_off_by_repeating_it(clock: VirtualClock) -> None:
    host = SimulatedHost(trace(), clock, capabilities={CPU: Capability(0.0, 10.0)})
    (outcome,) = host.apply([Action("a", CPU, 1.0)])
    assert (outcome.result, outcome.read_back, outcome.reason) == (Result.PENDING, 4.0, "takes effect at 6010")
    clock.advance(6)
    host.apply([Action("a", CPU, 1.0)])
    clock.advance(4)
    assert host.in_force("a")[CPU] == 1.0


def test_a_raise_above_the_inventory_is_refused_but_not_a_step_towards_it(clock: VirtualClock) -> None:
    host = SimulatedHost(trace(), clock, inventory={CPU: Inventory(total=7.0, reserved=1.0)})
    outcomes = host.apply([Action("a", CPU, 4.5), Action("a", CPU, 3.0), Action("b", CPU, 3.5), Action("b", CPU, 3.0)])
    assert [o.result for o in outcomes] == [Result.REFUSED, Result.DONE, Result.DONE, Result.DONE]
    assert outcomes[0].reason == "above inventory: 8.5 of 6 cores would be allocated"
    (outcome,) = host.apply([Action("a", CPU, 3.1)])
    assert outcome.result is Result.REFUSED


def test_what_cannot_be_moved_says_why(clock: VirtualClock) -> None:
    host = SimulatedHost(trace(), clock, capabilities={MEMORY: Capability(0.0, 0.0, refusal="no balloon")})
    outcomes = host.apply([Action("a", MEMORY, 50.0), Action("late", CPU, 1.0), Action("a", Resource.NET_RX, 1.0)])
    assert [o.result for o in outcomes] == [Result.REFUSED] * 3
    assert [o.reason for o in outcomes] == [
        "no balloon",
        "no VM named 'late' runs here",
        "net_rx is not known here",
    ]


def test_failures_can_be_injected(clock: VirtualClock) -> None:
    host = SimulatedHost(trace(), clock)
    host.fail_next(2, "the monitor does not answer")
    outcomes = host.apply([Action("a", CPU, -1.0), *(Action("a", CPU, n) for n in (1.0, 2.0, 3.0))])
    assert [o.result for o in outcomes] == [Result.REFUSED, Result.FAILED, Result.FAILED, Result.DONE]
    assert (outcomes[1].reason, outcomes[1].read_back) == ("the monitor does not answer", 4.0)
    host.lose_contact()
    for call in (host.vm_ids, host.observe, host.inventory, lambda: host.apply([])):
        with pytest.raises(HypervisorError, match="connection lost"):
            call()
    host.regain_contact()
    assert host.in_force("a")[CPU] == 3.0
