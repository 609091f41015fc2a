"""Shelves and slots against plain models, whatever happens to them in whatever order."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from forestall.learning.access import items
from forestall.learning.access.items import NOBODY, Items
from forestall.staging import shelves
from forestall.staging.shelves import HITS, MISSES, REAL, STAGED, WASTED, Shelves

SLOTS, SHELVES = 24, 3


class ShelvesMachine(RuleBasedStateMachine):
    """Predicted, staged, hit or evicted: each shelf is a cache, least recently used, that never holds too much."""

    @initialize(capacity=st.integers(1, 8))
    def begin(self, capacity: int) -> None:
        self.capacity = capacity
        self.shelves = Shelves.of(SLOTS, SHELVES, capacity)
        self.model: list[OrderedDict[int, bool]] = [OrderedDict() for _ in range(SHELVES)]
        self.cost = [0.0] * SHELVES
        self.counts = dict.fromkeys((HITS, STAGED, WASTED, MISSES), 0)
        self.now = 0
        for slot in range(SLOTS):
            shelves.mention(self.shelves, slot, True)

    def _put(self, shelf: int, slot: int, waits: bool) -> None:
        held = self.model[shelf]
        if slot not in held and len(held) == self.capacity:
            _, waited = held.popitem(last=False)
            self.cost[shelf] += 0.25 * waited
            self.counts[WASTED] += waited and shelf == REAL
        held[slot] = waits
        held.move_to_end(slot)

    @rule(slot=st.integers(0, SLOTS - 1), shelf=st.integers(0, SHELVES - 1))
    def stage(self, slot: int, shelf: int) -> None:
        shelves.stage(self.shelves, shelf, slot, self.now, 0.25)
        if slot not in self.model[shelf]:
            self._put(shelf, slot, True)
            self.counts[STAGED] += shelf == REAL

    @rule(slot=st.integers(0, SLOTS - 1))
    def use(self, slot: int) -> None:
        shelves.use(self.shelves, slot, self.now, 0.25, 1.0)
        self.counts[MISSES] += slot not in self.model[REAL]
        self.counts[HITS] += self.model[REAL].get(slot, False)
        for shelf in range(SHELVES):
            self.cost[shelf] += slot not in self.model[shelf]
            self._put(shelf, slot, False)
        self.now += 1

    @rule(slot=st.integers(0, SLOTS - 1))
    def lose(self, slot: int) -> None:
        shelves.lose(self.shelves, slot)
        for held in self.model:
            held.pop(slot, None)

    @rule(slot=st.integers(0, SLOTS - 1), which=st.integers(0, 2**SHELVES - 1))
    def leave(self, slot: int, which: int) -> None:
        shelves.leave(self.shelves, slot, which, 0.25)
        for shelf, held in enumerate(self.model):
            if (which >> shelf) & 1 and held.get(slot, False):
                del held[slot]
                self.cost[shelf] += 0.25
                self.counts[WASTED] += shelf == REAL

    @invariant()
    def each_holds_what_it_should(self) -> None:
        for shelf, model in enumerate(self.model):
            held = [slot for slot in range(SLOTS) if (self.shelves.on[slot] >> shelf) & 1]
            assert sorted(model) == held
            assert len(held) == self.shelves.held[shelf] <= self.capacity
            order, slot = [], self.shelves.before[shelf, SLOTS]
            while slot != SLOTS:
                order.append(int(slot))
                slot = self.shelves.before[shelf, slot]
            assert order == list(model), "the last to go stands first in the model"
            waiting = [slot for slot in range(SLOTS) if (self.shelves.unused[slot] >> shelf) & 1]
            assert waiting == sorted(slot for slot, waits in model.items() if waits)
        assert list(self.shelves.cost) == self.cost
        assert {name: int(self.shelves.counts[name]) for name in self.counts} == self.counts

    @invariant()
    def nobody_on_a_shelf_gives_up_its_slot(self) -> None:
        if any(not self.shelves.on[slot] for slot in range(SLOTS)):
            assert self.shelves.on[shelves.longest_unmentioned(self.shelves)] == 0


class ItemsMachine(RuleBasedStateMachine):
    """Names and slots against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.items = Items.of(SLOTS)
        self.model: dict[tuple[int, int], int] = {}
        self.stale: set[int] = set()

    names = st.tuples(st.integers(0, 2), st.integers(-5, 40) | st.just(-(2**63)) | st.just(2**63 - 1))

    @rule(name=names)
    def name(self, name: tuple[int, int]) -> None:
        free = set(range(SLOTS)) - set(self.model.values())
        if name not in self.model and free:
            slot = min(free)
            items.name(self.items, slot, *name)
            self.model[name] = slot

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        if self.model:
            name = data.draw(st.sampled_from(sorted(self.model)))
            slot = self.model.pop(name)
            self.stale.add(int(self.items.tag[slot]))
            items.forget(self.items, slot)

    @rule(name=names)
    def find(self, name: tuple[int, int]) -> None:
        assert items.find(self.items, *name) == self.model.get(name, NOBODY)

    @invariant()
    def tags_tell_who_has_a_slot(self) -> None:
        assert all(items.slot_of(self.items, tag) == NOBODY for tag in self.stale)
        assert all(items.slot_of(self.items, int(self.items.tag[slot])) == slot for slot in self.model.values())


TestShelves = ShelvesMachine.TestCase
TestShelves.settings = settings(max_examples=60, stateful_step_count=40)
TestItems = ItemsMachine.TestCase
TestItems.settings = settings(max_examples=60, stateful_step_count=40)
