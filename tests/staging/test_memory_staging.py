"""Staging of guest memory: what it stages, what it must never let go, and what it may not know."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from forestall.learning.access.touches import ABOVE, BELOW, MARGIN_ABOVE, MARGIN_BELOW, chances, untouched
from forestall.model.errors import WrongUse
from forestall.staging import past_runs
from forestall.staging.memory import MemoryStaging
from forestall.staging.past_runs import PastRuns


def served(touches: list[tuple[int, int, int]], capacity: int = 256, first: int = 0) -> tuple[float, float]:
    """Share of touches (vm, group, page) that were served, and of staged pages that were touched."""
    staging, staged = MemoryStaging(capacity), set[tuple[int, int]]()
    hits = count = 0
    for at, (vm, group, page) in enumerate(touches):
        hits += at >= first and (vm, page) in staged
        staged.discard((vm, page))
        moves = staging.touch(vm, group, page)
        staged -= set(moves.let_go)
        staged |= {(vm, other) for other in moves.stage}
        count += len(moves.stage) * (at >= first)
    return hits / (len(touches) - first), hits / max(count, 1)


def program(seed: int, pages: int = 2000) -> list[int]:
    """First touches of a made-up program: runs up and down at some places, with holes, and jumps."""
    rng = np.random.default_rng(seed)
    seen: list[int] = []
    known: set[int] = set()
    while len(seen) < pages:
        start, step = int(rng.integers(0, 1 << 24)), int(rng.choice([1, 1, 1, -1]))
        for k in range(int(rng.integers(5, 60))):
            page = start + step * k
            if page >= 0 and page not in known and rng.random() < 0.9:
                known.add(page)
                seen.append(page)
    return seen[:pages]


def test_runs_are_staged_ahead_cold() -> None:
    coverage, precision = served([(0, 0, page) for page in program(1)])
    assert coverage > 0.85
    assert precision > 0.6
    few, sure = served([(0, 0, page) for page in program(1)], capacity=4)
    assert few < coverage
    assert sure > 0


def test_random_pages_are_left_alone() -> None:
    rng = np.random.default_rng(3)
    coverage, _ = served([(0, 0, int(page)) for page in rng.choice(1 << 30, 500, replace=False)])
    assert coverage < 0.01


def test_a_second_run_follows_the_first() -> None:
    pages = program(2)
    for vm in (0, 1):
        again = [(0, 0, page) for page in pages] + [(vm, 0, page) for page in pages]
        coverage, precision = served(again, first=len(pages))
        assert coverage > 0.97
        assert precision > 0.95


def test_another_group_teaches_nothing() -> None:
    """A run of another trust group changes no decision, whatever it was."""
    pages = program(2)
    alone, beside = (MemoryStaging(64) for _ in range(2))
    for page in pages:
        beside.touch(7, 3, page)
        for _, other in [place for place in beside._staged if place[0] == 7]:
            beside._staged.pop((7, other))  # nothing waits, so that there is as much room
    found = [[staging.touch(1, 2, page) for page in pages] for staging in (alone, beside)]
    mine = [[(move.stage, [place for place in move.let_go if place[0] == 1]) for move in each] for each in found]
    assert mine[0] == mine[1]
    runs = PastRuns()
    for page in pages:
        runs.follow(7, 3, page)
    assert all(runs.follow(1, 2, page) == [] for page in pages), "the same pages in the same order, of another group"
    assert any(runs.follow(2, 3, page) for page in pages), "and it is told within the group"


def test_a_past_that_misleads_is_left() -> None:
    one, two = program(4), program(5)
    plain = served([(1, 1, page) for page in two])
    misled = served([(0, 0, page) for page in one] + [(1, 0, page) for page in two], first=len(one))
    assert misled[0] > plain[0] - 0.02
    assert misled[1] > plain[1] - 0.08


def test_the_past_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest run goes first; of one that is longer than all that is kept the beginning stays."""
    monkeypatch.setattr(past_runs, "MOST_PAGES", 100)
    runs = PastRuns()
    for vm, pages in enumerate((range(60), range(1000, 1060), range(5000, 5400))):
        for page in pages:
            runs.follow(vm, 0, page)
    group = runs._groups[0]
    assert sum(map(len, group.logs.values())) == len(group.where) == group.pages == 100
    assert set(group.where) == set(range(5000, 5100))
    assert any(runs.follow(9, 0, page) for page in range(5000, 5050))
    assert runs.follow(0, 0, 60) == [], "a VM whose own run is forgotten goes on"
    assert sum(map(len, group.logs.values())) == group.pages <= 100


def test_a_vm_that_comes_into_another_group() -> None:
    """What it did in the one it has left stays there, and it learns from the new one."""
    pages, theirs = program(6, 300), program(7, 300)
    runs = PastRuns()
    for page in theirs:
        runs.follow(5, 2, page)
    for page in pages:
        runs.follow(1, 1, page)
    assert any(runs.follow(1, 2, page) for page in theirs)
    assert not any(runs.follow(6, 2, page) for page in pages), "and takes nothing with it"
    assert any(runs.follow(7, 1, page) for page in pages)


def test_chances_by_hand() -> None:
    """A page above a run of two, one between two touched, and one far from any."""
    around = untouched(MARGIN_BELOW + MARGIN_ABOVE + 1)
    here = MARGIN_BELOW
    around[here - 1], around[here], around[here + 2] = 7, 8, 3
    found = np.zeros(BELOW + ABOVE + 1)
    chances(around, here, 8, found)
    assert found[BELOW] == found[BELOW - 1] == found[BELOW + 2] == -1.0, "what is touched is no candidate"
    length, busy = np.log2(3), np.log2(4)
    after = -0.19 + 0.62 - 0.13 * length + 1.39 + 0.28 * length + 0.90 + 1.33 + 0.51 * busy
    assert found[BELOW + 1] == pytest.approx(1 / (1 + np.exp(-after)))
    below = -0.19 - 0.26 * np.log2(300) - 0.74 * np.log2(16) + 0.51 * busy
    assert found[0] == pytest.approx(1 / (1 + np.exp(-below)))
    assert found.argmax() == BELOW + 1


def test_a_capacity_that_cannot_be() -> None:
    with pytest.raises(WrongUse, match="-1 pages: must not be negative"):
        MemoryStaging(-1)


class MemoryMachine(RuleBasedStateMachine):
    """Whatever VMs touch, begin anew or vanish: what a guest has is never staged again, nor let go."""

    @initialize(capacity=st.integers(0, 40))
    def begin(self, capacity: int) -> None:
        self.capacity, self.staging = capacity, MemoryStaging(capacity)
        self.staged: set[tuple[int, int]] = set()
        self.touched: dict[int, set[int]] = {}

    @rule(vm=st.integers(0, 2), start=st.integers(0, 700), step=st.sampled_from([1, -1, 3]), count=st.integers(1, 25))
    def run(self, vm: int, start: int, step: int, count: int) -> None:
        for page in range(start, start + step * count, step):
            if page >= 0 and page not in self.touched.get(vm, ()):
                self.touch(vm, page)

    @rule(vm=st.integers(0, 2), data=st.data())
    def begin_anew(self, vm: int, data: st.DataObject) -> None:
        if mine := self.touched.get(vm):
            page = data.draw(st.sampled_from(sorted(mine)))
            mine.clear()
            self.touch(vm, page)

    @rule(vm=st.integers(0, 2))
    def vanish(self, vm: int) -> None:
        if vm in self.touched:
            self.staging.forget([vm])
            self.touched.pop(vm)
            self.staged = {place for place in self.staged if place[0] != vm}

    def touch(self, vm: int, page: int) -> None:
        mine = self.touched.setdefault(vm, set())
        mine.add(page)
        self.staged.discard((vm, page))
        moves = self.staging.touch(vm, vm // 2, page)
        for place in moves.let_go:
            assert place in self.staged
            assert place[1] not in self.touched.get(place[0], ())
            self.staged.remove(place)
        for other in moves.stage:
            assert other >= 0
            assert other not in mine
            assert (vm, other) not in self.staged
            self.staged.add((vm, other))

    @invariant()
    def there_is_room(self) -> None:
        assert len(self.staged) <= self.capacity
        assert set(self.staging._staged) == self.staged


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=40, stateful_step_count=25)
