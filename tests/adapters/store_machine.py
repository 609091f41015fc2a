"""A state machine: a store against the one in memory; whatever is done, both say the same."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from forestall.adapters.simulated.memory_store import MemoryStore
from forestall.model.resources import Resource
from forestall.ports.store import BehaviourStore, SampleBatch
from forestall.testing.store import DAY, SHORT, assert_same, everything, maintained

STEP, END = 900, 8 * DAY
value = st.one_of(st.just(np.nan), st.floats(0, 1e12))


@st.composite
def batches(draw: st.DrawFn) -> SampleBatch:
    vms = draw(st.lists(st.sampled_from(["a", "b", "☃'", "d"]), max_size=4, unique=True))
    resources = draw(st.lists(st.sampled_from(list(Resource)[:3]), max_size=3, unique=True))
    cells = draw(st.lists(value, min_size=2 * len(vms) * len(resources), max_size=2 * len(vms) * len(resources)))
    demand, limit = np.array(cells).reshape(2, len(vms), len(resources))
    hour = draw(st.one_of(st.integers(0, 3), st.integers(0, END // 3600 - 1)))
    return SampleBatch(hour * 3600 + draw(st.integers(0, 3599)), vms, resources, demand, limit)


class StoreMachine(RuleBasedStateMachine):
    """Subclass with :meth:`opened`; what it opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.model = MemoryStore(step_seconds=STEP, retention=SHORT)
        self.store = self.opened()

    def opened(self) -> BehaviourStore:
        """The store of this run, with :data:`STEP` and :data:`SHORT`; the first call makes it."""
        raise NotImplementedError

    @rule(batches=st.lists(batches(), max_size=6))
    def append(self, batches: list[SampleBatch]) -> None:
        for store in (self.store, self.model):
            store.append(batches)
        self.same()

    @rule(now=st.integers(0, END + 4 * DAY))
    def maintain(self, now: int) -> None:
        for store in (self.store, self.model):
            maintained(store, now)
        self.same()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.opened()

    def same(self) -> None:
        assert self.store.vm_ids() == self.model.vm_ids()
        for one, other in zip(everything(self.store, END), everything(self.model, END), strict=True):
            assert_same(one, other)

    def teardown(self) -> None:
        self.store.close()
