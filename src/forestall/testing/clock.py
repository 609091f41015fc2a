"""Contract of a clock."""

from __future__ import annotations

import pytest

from forestall.ports.clock import Clock


class ClockContract:
    """Subclass, and give a fixture ``clock``."""

    @pytest.fixture
    def clock(self) -> Clock:
        """The clock under test."""
        raise NotImplementedError

    def test_sleeping_reaches_the_instant(self, clock: Clock) -> None:
        for _ in range(3):
            instant = clock.now() + 0.01
            clock.sleep_until(instant)
            assert clock.now() >= instant

    def test_sleeping_lets_monotonic_time_pass(self, clock: Clock) -> None:
        before = clock.monotonic()
        clock.sleep_until(clock.now() + 0.02)
        assert clock.monotonic() - before >= 0.015

    def test_the_past_is_not_waited_for(self, clock: Clock) -> None:
        before = clock.now()
        clock.sleep_until(before - 1000)
        clock.sleep_until(before)
        assert before <= clock.now() < before + 1000

    def test_monotonic_time_never_goes_back(self, clock: Clock) -> None:
        seen = []
        for _ in range(100):
            seen.append(clock.monotonic())
            clock.sleep_until(clock.now() + 1e-5)
        assert seen == sorted(seen)
