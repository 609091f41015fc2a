"""How much of its memory a VM uses: looked at within a share of a core."""

from __future__ import annotations

import pytest

from forestall.adapters.simulated.guest_pages import SimulatedGuestPages
from forestall.model.errors import HypervisorError
from forestall.ports.guest_pages import Used, UsedRange
from forestall.staging.usage import PERIOD_SECONDS, Usage, UsedMemory

PAGE = 4096


class Slow(SimulatedGuestPages):
    """Memory that costs time to look at."""

    def __init__(self, cost_seconds: float) -> None:
        super().__init__(100)
        self.cpu, self.looks, self._cost = 0.0, 0, cost_seconds

    def used(self) -> Used | None:
        self.cpu, self.looks = self.cpu + self._cost, self.looks + 1
        return super().used()


def test_what_was_used_since_the_last_look() -> None:
    pages = SimulatedGuestPages(100)
    usage = Usage(lambda: 0.0, 0.001)
    pages.take(range(50))
    usage.look("a", pages, 0.0)
    assert usage.used == {}
    pages.take(range(10, 30))
    usage.look("a", pages, PERIOD_SECONDS / 2)
    assert usage.used == {}
    usage.look("a", pages, PERIOD_SECONDS)
    assert usage.used == {"a": UsedMemory(20 * PAGE, 100 * PAGE, PERIOD_SECONDS)}
    usage.look("a", pages, 2 * PERIOD_SECONDS)
    assert usage.used["a"].used_bytes == 0
    usage.keep(["b"])
    assert usage.used == {}


def test_where_it_was_used_is_told_where_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    pages, usage = SimulatedGuestPages(100), Usage(lambda: 0.0, 0.001)
    ranges = (UsedRange(0, 3 * PAGE, 0.5), UsedRange(10 * PAGE, PAGE, 1.0))
    monkeypatch.setattr(pages, "used", lambda: Used(4 * PAGE, ranges))
    usage.look("a", pages, 0.0)
    usage.look("a", pages, PERIOD_SECONDS)
    assert usage.used == {"a": UsedMemory(4 * PAGE, 100 * PAGE, PERIOD_SECONDS, ranges)}


def test_who_costs_much_is_looked_at_seldom() -> None:
    pages = Slow(0.05)
    usage = Usage(lambda: pages.cpu, 0.001)
    for second in range(3600):
        usage.look("a", pages, float(second))
    assert pages.looks == 8
    assert pages.cpu / 3600 < 0.1 * 0.001 * 1.2


def test_a_kernel_that_does_not_tell_is_not_asked_again() -> None:
    pages = Slow(0.0)
    pages.tells = False
    usage = Usage(lambda: 0.0, 0.001)
    for second in range(0, 600, 60):
        usage.look("a", pages, float(second))
    assert (pages.looks, usage.used) == (1, {})


def test_a_vm_that_is_gone_is_an_error() -> None:
    pages = SimulatedGuestPages(100)
    pages.die()
    with pytest.raises(HypervisorError):
        Usage(lambda: 0.0, 0.001).look("a", pages, 0.0)
