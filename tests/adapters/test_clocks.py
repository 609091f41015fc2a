from __future__ import annotations

import pytest

from forestall.adapters.clock.system import SystemClock
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
