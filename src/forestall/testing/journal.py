"""Contract of a journal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from forestall.model.decision import Action, Aftermath, Decision, Outcome, Restoration, Result, Ruling
from forestall.model.resources import Resource
from forestall.ports.journal import Journal

FULL = Decision(
    vm_id="ünï-☃ 'quoted' \"name\"",
    resource=Resource.CPU,
    decided_at=600,
    in_force_at=900,
    allocated=1 / 3,
    previous=2.0,
    limit=math.inf,
    quantiles=((0.5, 0.2), (0.99, 0.3), (0.9995, 1e300)),
    risk=1e-9,
    probability=0.02,
    wanted=1.5,
    price=0.01,
    weight=2.0,
    floor=0.1,
    ceiling=4.0,
    budget=0.01,
    ruling=Ruling.CLIPPED,
    reason="ceiling of 'gold';\nsecond line",
    policies=("default", "gold"),
    experts={"seasonal_naive": 0.75, "gbm": 0.25},
    granted=0.5,
)

LATE = 1000 * 86_400
"""An instant at which the others are long past."""


def decision(vm_id: str, in_force_at: int, allocated: float = 1.0, resource: Resource = Resource.CPU) -> Decision:
    """A decision that differs from others where it matters."""
    return replace(
        FULL, vm_id=vm_id, in_force_at=in_force_at, allocated=allocated, resource=resource, policies=(), experts={}
    )


def outcome(vm_id: str, result: Result = Result.DONE, at: int | None = 900) -> Outcome:
    """An outcome of an action on a VM's memory."""
    done = result is Result.DONE
    action = Action(vm_id, Resource.MEMORY, 2.0**30)
    return Outcome(action, result, 2.0**30 if done else None, "" if done else "gone", at)


class JournalContract:
    """Subclass, and give a fixture ``make`` that opens the test's journal, also again, and closes it."""

    persistent = True
    """Whether a journal that is closed and opened again holds what it held."""

    @pytest.fixture
    def make(self) -> Callable[[], Journal]:
        """Opens the journal of a test."""
        raise NotImplementedError

    @pytest.fixture
    def journal(self, make: Callable[[], Journal]) -> Journal:
        """An empty journal."""
        return make()

    def test_an_empty_journal(self, journal: Journal) -> None:
        journal.record([])
        assert (list(journal.decisions()), list(journal.outcomes()), journal.explain("a")) == ([], [], [])
        assert (list(journal.restorations()), journal.aftermath("a")) == ([], {})

    def test_decisions_come_back_as_they_were(self, journal: Journal) -> None:
        bare = replace(FULL, vm_id="bare", quantiles=(), policies=(), experts={}, reason="")
        journal.record([FULL, bare])
        assert list(journal.decisions()) == [FULL, bare]

    def test_what_is_not_known_stays_unknown(self, journal: Journal) -> None:
        journal.record([replace(FULL, risk=math.nan, quantiles=((0.5, math.nan),))])
        for _ in range(2):
            (read,) = journal.decisions()
            assert math.isnan(read.risk)
            assert math.isnan(read.quantiles[0][1])
            journal.maintain(LATE)

    def test_outcomes_come_back_as_they_were(self, journal: Journal) -> None:
        outcomes = [outcome("a"), outcome("b", Result.FAILED), outcome("a", Result.REFUSED)]
        journal.record([FULL], outcomes[:1])
        journal.record([], outcomes[1:])
        assert list(journal.outcomes()) == outcomes
        assert list(journal.outcomes("a")) == [outcomes[0], outcomes[2]]

    def test_restorations_come_back_as_they_were(self, journal: Journal) -> None:
        restored = [Restoration("a", 300, "by hand; 'now'"), Restoration("b", 600, ""), Restoration("a", 200, "again")]
        journal.record([], (), restored[:2])
        journal.record([FULL], [outcome("a")], restored[2:])
        assert list(journal.restorations()) == restored
        assert list(journal.restorations("a")) == [restored[0], restored[2]]

    def test_the_aftermath_is_what_was_done_last(self, journal: Journal) -> None:
        done = {at: outcome("a", at=at) for at in (100, 300, 300 + 100)}
        undone, other = Restoration("a", 300, "stopped"), Restoration("b", 350, "gone")
        journal.record([decision("a", 100)], [done[100]])
        journal.record([], [done[300], outcome("b", at=300)])
        journal.record([], (), [undone, other])
        journal.record([], [done[400], outcome("a", Result.FAILED, 400)])
        memory = Resource.MEMORY
        for _ in range(2):
            assert journal.aftermath("a", 99) == {}
            assert journal.aftermath("a", 299) == {memory: Aftermath(done[100])}
            assert journal.aftermath("a", 399)[memory] == Aftermath(done[300], undone)
            assert journal.aftermath("a", 399)[Resource.CPU] == Aftermath(None, undone)
            assert journal.aftermath("a")[memory] == Aftermath(outcome("a", Result.FAILED, 400))
            assert journal.aftermath("b")[memory].restored == other
            journal.maintain(LATE)

    def test_order_is_that_of_recording(self, journal: Journal) -> None:
        recorded = [decision("a", at, at) for at in (900, 300, 600)]
        journal.record(recorded[:2])
        journal.record(recorded[2:])
        assert list(journal.decisions()) == recorded

    def test_recording_twice_keeps_both(self, journal: Journal) -> None:
        for _ in range(2):
            journal.record([decision("a", 300)])
        assert len(list(journal.decisions())) == 2

    def test_bounds_are_half_open_and_vms_chosen(self, journal: Journal) -> None:
        recorded = [decision(vm, at) for at in (0, 300, 600) for vm in ("a", "b")]
        journal.record(recorded)
        assert list(journal.decisions("a", since=300, until=600)) == [recorded[2]]
        assert list(journal.decisions(until=300)) == recorded[:2]
        assert list(journal.decisions(since=600)) == recorded[4:]
        assert list(journal.decisions("c")) == []

    def test_explain_gives_what_was_in_force(self, journal: Journal) -> None:
        memory = decision("a", 300, 7.0, Resource.MEMORY)
        cpu = [decision("a", at, at) for at in (300, 600, 900)]
        journal.record([memory, *cpu, decision("b", 600)])
        assert journal.explain("a") == [cpu[2], memory]
        assert journal.explain("a", 899) == [cpu[1], memory]
        assert journal.explain("a", 600) == [cpu[1], memory]
        assert journal.explain("a", 299) == []

    def test_explain_gives_the_last_of_several(self, journal: Journal) -> None:
        journal.record([decision("a", 600, 1.0), decision("a", 600, 2.0)])
        journal.record([decision("a", 600, 3.0), decision("a", 300, 4.0)])
        assert journal.explain("a") == [decision("a", 600, 3.0)]

    def test_more_than_a_page(self, journal: Journal) -> None:
        recorded = [decision(f"vm-{i % 7}", i) for i in range(12_000)]
        journal.record(recorded)
        assert [d.in_force_at for d in journal.decisions()] == list(range(12_000))
        assert len(list(journal.decisions("vm-3"))) == 1714

    def test_reading_does_not_see_what_is_recorded_meanwhile_twice(self, journal: Journal) -> None:
        journal.record([decision("a", 0)])
        reader = iter(journal.decisions())
        next(reader)
        journal.record([decision("a", 300)])
        assert len(list(reader)) <= 1
        assert len(list(journal.decisions())) == 2

    def test_maintaining_changes_nothing_that_is_read(self, journal: Journal) -> None:
        journal.record([FULL, decision("a", LATE), decision("a", 300, 2.0)])
        journal.record([], [outcome("a"), outcome("b", Result.FAILED)])
        journal.record([decision("b", LATE), decision("a", 300, 3.0, Resource.MEMORY)], [outcome("c")])
        journal.record([decision("a", 600, 4.0), decision("b", 300)])
        journal.record([], [outcome("d")], [Restoration("a", 700, "stopped")])
        journal.record([decision("c", LATE)])
        asked = (
            lambda: list(journal.decisions()),
            lambda: list(journal.decisions("a", since=300, until=600)),
            lambda: list(journal.decisions(since=600)),
            lambda: list(journal.outcomes()),
            lambda: list(journal.outcomes("b")),
            lambda: list(journal.restorations()),
            lambda: [journal.aftermath("a", at) for at in (600, 900, None)],
            lambda: [journal.explain("a", at) for at in (299, 300, 600, LATE, None)],
        )
        before = [ask() for ask in asked]
        for now in (0, LATE, 2 * LATE, 2 * LATE):
            journal.maintain(now)
            assert [ask() for ask in asked] == before

    def test_recording_goes_on_after_maintaining(self, journal: Journal) -> None:
        recorded = [decision("a", at, at) for at in (300, 900, 600)]
        done = [outcome("a"), outcome("b")]
        journal.record(recorded[:1], done[:1])
        journal.maintain(LATE)
        journal.record(recorded[1:2])
        journal.maintain(LATE)
        journal.record(recorded[2:], done[1:])
        assert list(journal.decisions()) == recorded
        assert list(journal.outcomes()) == done
        assert journal.explain("a") == [recorded[1]]

    def test_reading_goes_on_while_maintaining(self, journal: Journal) -> None:
        for first in (0, 6_000):
            journal.record([decision(f"vm-{i % 7}", i) for i in range(first, first + 6_000)])
        reader = iter(journal.decisions())
        early = [next(reader).in_force_at for _ in range(10)]
        journal.maintain(LATE)
        assert early + [d.in_force_at for d in reader] == list(range(12_000))

    def test_what_was_recorded_outlives_the_journal(self, make: Callable[[], Journal]) -> None:
        if not self.persistent:
            pytest.skip("lives only as long as its process")
        journal = make()
        journal.record([FULL], [outcome("a")])
        journal.close()
        again = make()
        again.record([decision("a", 1200)])
        assert list(again.decisions()) == [FULL, decision("a", 1200)]
        assert list(again.outcomes()) == [outcome("a")]
        again.maintain(LATE)
        again.close()
        archived = make()
        assert list(archived.decisions()) == [FULL, decision("a", 1200)]
        assert list(archived.outcomes()) == [outcome("a")]
