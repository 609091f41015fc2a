from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.simulated.core_host import SimulatedCoreHost, shared
from forestall.ports.cores import CoreHost, Guest, Part
from forestall.testing.cores import CoreHostContract

WINDOW_US = 20_000
LENDER, BORROWER = Guest("a", "a@0", 1, Part.LENDER), Guest("b", "b@0", 2, Part.BORROWER)
LATE = Guest("late", "late@0", 3, Part.LENDER)


def host_of(clock: VirtualClock, *rows: tuple[float, float, float], cores: float = 4.0) -> SimulatedCoreHost:
    """One with windows of what ``a``, ``b`` and ``late`` wish for."""
    return SimulatedCoreHost(("a", "b", "late"), np.array(rows), WINDOW_US, clock, total_cores=cores)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1000.0)


class TestSimulatedCoreHost(CoreHostContract):
    @pytest.fixture
    def host(self, clock: VirtualClock) -> CoreHost:
        clock.advance(5.0)
        return host_of(clock, *[(1.0, 2.0, math.nan)] * 50)

    @pytest.fixture
    def lender(self) -> Guest:
        return LENDER

    @pytest.fixture
    def borrower(self) -> Guest:
        return BORROWER

    @pytest.fixture
    def gone(self) -> Guest:
        return LATE

    @pytest.fixture
    def work(self, clock: VirtualClock) -> Callable[[], None]:
        return lambda: clock.advance(0.05)


def test_counters_are_what_the_trace_says(clock: VirtualClock) -> None:
    host = host_of(clock, (1.0, 0.5, 0.0), (3.0, 0.0, 1.0))
    host.attach([BORROWER, LENDER])
    clock.advance(0.03)
    use = host.read()
    np.testing.assert_allclose(use.run_seconds, [0.5 * 0.02, 1.0 * 0.02 + 3.0 * 0.01])
    np.testing.assert_allclose(use.wait_seconds, [0.0, 0.0])
    clock.advance(0.01)
    np.testing.assert_allclose(host.read().run_seconds, [0.01, 0.08])


def test_who_has_made_way_has_what_others_leave(clock: VirtualClock) -> None:
    host = host_of(clock, *[(3.0, 3.0, math.nan)] * 2)
    host.attach([LENDER, BORROWER])
    clock.advance(0.02)
    fair = host.read()
    np.testing.assert_allclose(fair.run_seconds, [0.04, 0.04])
    np.testing.assert_allclose(fair.wait_seconds, [0.02, 0.02])
    host.make_way("b")
    clock.advance(0.02)
    behind = host.read()
    np.testing.assert_allclose(behind.run_seconds - fair.run_seconds, [0.06, 0.02])
    np.testing.assert_allclose(behind.wait_seconds - fair.wait_seconds, [0.0, 0.04])


def test_a_limit_is_in_force_at_once_in_the_midst_of_a_window(clock: VirtualClock) -> None:
    host = host_of(clock, (0.0, 2.0, math.nan), (0.0, 2.0, math.nan))
    host.attach([BORROWER])
    clock.advance(0.005)
    host.limit({"b": 0.5})
    clock.advance(0.025)
    host.limit({"b": 1.0})
    clock.advance(0.01)
    use = host.read()
    assert use.run_seconds[0] == pytest.approx(2.0 * 0.005 + 0.5 * 0.025 + 1.0 * 0.01)
    assert use.wait_seconds[0] == pytest.approx(1.5 * 0.025 + 1.0 * 0.01)


def test_guests_come_and_go_with_the_trace(clock: VirtualClock) -> None:
    host = host_of(clock, (1.0, 1.0, math.nan), (math.nan, 1.0, 1.0))
    assert [refusal.vm_id for refusal in host.attach([LENDER, BORROWER, LATE])] == ["late"]
    host.limit({"b": 0.5})
    clock.advance(0.02)
    np.testing.assert_allclose(host.read().run_seconds, [0.02, 0.01])
    clock.advance(0.001)
    np.testing.assert_array_equal(np.isnan(host.read().run_seconds), [True, False])
    assert [refusal.vm_id for refusal in host.attach([LENDER, LATE, BORROWER])] == ["a"]
    clock.advance(0.05)
    assert np.isnan(host.read().run_seconds).all(), "the trace has ended"
    assert [refusal.vm_id for refusal in host.limit({"b": 1.0})] == ["b"]


@given(st.lists(st.floats(0, 100), max_size=8), st.floats(0, 300))
def test_cores_are_shared_fairly(wanted: list[float], available: float) -> None:
    wishes = np.array(wanted, np.float64)
    got = shared(wishes, available)
    assert (got <= wishes).all()
    assert (got >= 0).all()
    assert got.sum() == pytest.approx(min(wishes.sum(), available))
    short = got < wishes - 1e-9
    assert not short.any() or (got[short] >= got.max() - 1e-9).all(), "who falls short has as much as anybody"
