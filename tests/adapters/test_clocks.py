from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.clock.time_lapse import Dated, TimeLapse
from forestall.adapters.clock.virtual import VirtualClock
from forestall.ports.clock import Clock
from forestall.testing.clock import ClockContract


class TestSystemClock(ClockContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return SystemClock()


class TestVirtualClock(ClockContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return VirtualClock(1000.0)


class TestTimeLapse(ClockContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return TimeLapse(SystemClock(), 144.0, midnight_at=1e9)


class TestDated(ClockContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return Dated(SystemClock(), SystemClock(wall=lambda: time.time() + 1e6))


def test_a_time_lapse_has_a_day_of_its_own() -> None:
    host = VirtualClock(5_000.0)
    lapse = TimeLapse(host, 144.0, midnight_at=5_000.0)
    first, counted = lapse.now(), lapse.monotonic()
    assert datetime.fromtimestamp(first, UTC).strftime("%a %H:%M") == "Mon 00:00"
    lapse.sleep_until(first + 86_400)
    assert host.now() == pytest.approx(5_600.0)
    assert lapse.monotonic() - counted == pytest.approx(86_400)
    dated = Dated(host, lapse)
    assert (dated.now(), dated.monotonic(), dated.pace) == (lapse.now(), host.monotonic(), 1.0)


def test_a_clock_that_is_set_forward_ends_the_wait() -> None:
    times, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        times[0] += seconds if len(slept) < 3 else 5000

    SystemClock(0.5, wall=lambda: times[0], sleep=sleep).sleep_until(200.0)
    assert slept == [0.5, 0.5, 0.5]


def test_a_clock_that_is_set_back_prolongs_the_wait() -> None:
    times, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        times[0] += seconds if len(slept) > 1 else -2.0

    SystemClock(1.0, wall=lambda: times[0], sleep=sleep).sleep_until(100.5)
    assert slept == [0.5, 1.0, 1.0, 0.5]


def test_virtual_time_moves_only_when_told() -> None:
    clock = VirtualClock(10.0)
    assert (clock.now(), clock.monotonic()) == (10.0, 0.0)
    clock.advance(5)
    clock.set(3.0)
    assert (clock.now(), clock.monotonic()) == (3.0, 5.0)
    clock.sleep_until(4.0)
    assert (clock.now(), clock.monotonic()) == (4.0, 6.0)
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="back"):
            clock.advance(wrong)


@given(st.floats(0, 1e6), st.floats(0, 1e7))
def test_a_time_lapse_reaches_any_instant_on_a_clock_that_stops_there(midnight: float, ahead: float) -> None:
    lapse = TimeLapse(VirtualClock(1.8e9), 144.0, midnight_at=1.8e9 - midnight)
    instant = lapse.now() + ahead
    lapse.sleep_until(instant)
    assert instant <= lapse.now() <= instant + 0.01
