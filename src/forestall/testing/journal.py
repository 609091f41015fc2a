"""Contract of a journal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from forestall.model.decision import Action, Decision, Outcome, Result, Ruling
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
)


def decision(vm_id: str, in_force_at: int, allocated: float = 1.0, resource: Resource = Resource.CPU) -> Decision:
    """A decision that differs from others where it matters."""
    return replace(
        FULL, vm_id=vm_id, in_force_at=in_force_at, allocated=allocated, resource=resource, policies=(), experts={}
    )


def outcome(vm_id: str, result: Result = Result.DONE) -> Outcome:
    """An outcome of an action on a VM's memory."""
    done = result is Result.DONE
    return Outcome(Action(vm_id, Resource.MEMORY, 2.0**30), result, 2.0**30 if done else None, "" if done else "gone")


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

    def test_decisions_come_back_as_they_were(self, journal: Journal) -> None:
        bare = replace(FULL, vm_id="bare", quantiles=(), policies=(), experts={}, reason="")
        journal.record([FULL, bare])
        assert list(journal.decisions()) == [FULL, bare]

    def test_what_is_not_known_stays_unknown(self, journal: Journal) -> None:
        journal.record([replace(FULL, risk=math.nan, quantiles=((0.5, math.nan),))])
        (read,) = journal.decisions()
        assert math.isnan(read.risk)
        assert math.isnan(read.quantiles[0][1])

    def test_outcomes_come_back_as_they_were(self, journal: Journal) -> None:
        outcomes = [outcome("a"), outcome("b", Result.FAILED), outcome("a", Result.REFUSED)]
        journal.record([FULL], outcomes[:1])
        journal.record([], outcomes[1:])
        assert list(journal.outcomes()) == outcomes
        assert list(journal.outcomes("a")) == [outcomes[0], outcomes[2]]

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
