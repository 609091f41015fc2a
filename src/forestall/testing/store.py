"""Contract of a behaviour store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pytest

from forestall.model.errors import BadInput, StoreError
from forestall.model.resources import Resource
from forestall.model.samples import Grid, Trace
from forestall.ports.loading import load_history
from forestall.ports.store import BehaviourStore, Resolution, Retention, SampleBatch

DAY = 86_400
SHORT = Retention(raw_seconds=2 * DAY, five_minutes_seconds=3 * DAY, hour_seconds=5 * DAY)
NAMES = ("plain", "with space", "qu'ote\"s", "ünï-☃-名前", "back\\slash;--", "%_*?[x]", "n" * 200, "NULL", "tab\tnl\n")
CPU, MEMORY = Resource.CPU, Resource.MEMORY


class StoreMaker(Protocol):
    """Opens a store; in one test the first call makes it, a later one opens it again."""

    def __call__(self, *, step_seconds: int = 60, retention: Retention | None = None) -> BehaviourStore:
        """Open the store."""
        ...


def batch(at: int, demand: float | Sequence[float], *, limit: float = 4.0, vms: Sequence[str] = ("a",)) -> SampleBatch:
    """CPU samples of one instant, the same limit for all."""
    values = np.broadcast_to(np.asarray(demand, dtype=float), (len(vms),))[:, None]
    return SampleBatch(at, tuple(vms), (CPU,), values, np.full_like(values, limit))


def cpu(trace: Trace, vm_id: str = "a") -> list[float | None]:
    """CPU of one VM, gaps as None; empty if the trace does not have it."""
    return _column(trace.demand.get(CPU), trace, vm_id)


def _column(values: Any, trace: Trace, vm_id: str) -> list[float | None]:
    if values is None or vm_id not in trace.vm_ids:
        return []
    return [None if math.isnan(x) else x for x in values[:, trace.vm_ids.index(vm_id)].tolist()]


def assert_same(one: Trace, other: Trace) -> None:
    """Two traces hold the same, gaps at the same places (sums may differ in the last bit; 1e-280 is nothing)."""
    assert (one.grid, one.vm_ids, one.resources) == (other.grid, other.vm_ids, other.resources)
    for resource in one.resources:
        np.testing.assert_allclose(one.demand[resource], other.demand[resource], rtol=1e-12, atol=1e-280)
        np.testing.assert_array_equal(one.limit[resource], other.limit[resource])


def maintained(store: BehaviourStore, now: int) -> None:
    """Maintain a store until nothing is left to do."""
    while store.maintain(now):
        pass


class StoreContract:
    """Subclass, and give a fixture ``make`` that is a :class:`StoreMaker` and closes what it opened."""

    persistent = True
    """Whether a store that is closed and opened again holds what it held."""

    @pytest.fixture
    def make(self) -> StoreMaker:
        """Opens the store of a test."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, make: StoreMaker) -> BehaviourStore:
        """A store that is sampled every minute and keeps everything."""
        return make()

    def test_an_empty_store_gives_an_empty_grid(self, store: BehaviourStore) -> None:
        trace = store.history(since=0, until=600)
        assert trace.grid == Grid(0, 60, 10)
        assert (trace.vm_ids, trace.resources, store.vm_ids()) == ((), (), ())

    def test_samples_come_back_as_they_were(self, store: BehaviourStore) -> None:
        demand = np.array([[0.1, 3e12], [1 / 3, 0.0]])
        limit = np.array([[4.0, np.inf], [np.nan, 2.0]])
        store.append([SampleBatch(60, ("a", "b"), (CPU, MEMORY), demand, limit)])
        trace = store.history(since=60, until=120)
        assert (trace.vm_ids, trace.resources) == (("a", "b"), (CPU, MEMORY))
        for j, resource in enumerate((CPU, MEMORY)):
            np.testing.assert_array_equal(trace.demand[resource][0], demand[:, j])
            np.testing.assert_array_equal(trace.limit[resource][0], limit[:, j])

    def test_gaps_stay_gaps(self, store: BehaviourStore) -> None:
        store.append([batch(0, 1.0), batch(60, np.nan), batch(180, 2.0)])
        trace = store.history(since=0, until=300)
        assert cpu(trace) == [1.0, None, None, 2.0, None]
        np.testing.assert_array_equal(trace.limit[CPU][:, 0], [4, np.nan, np.nan, 4, np.nan])

    def test_bounds_are_half_open(self, store: BehaviourStore) -> None:
        store.append([batch(at, at) for at in (0, 60, 120, 180)])
        assert cpu(store.history(since=60, until=180)) == [60, 120]
        assert cpu(store.history(since=61, until=181)) == [120, 180]
        assert store.history(since=61, until=120).grid.steps == 0
        assert store.history(since=180, until=60).grid.steps == 0

    def test_instants_are_aligned_down_to_the_step(self, store: BehaviourStore) -> None:
        store.append([batch(119, 1.0), batch(120, 2.0)])
        assert cpu(store.history(since=0, until=180)) == [None, 1.0, 2.0]

    def test_a_repeated_batch_changes_nothing(self, store: BehaviourStore) -> None:
        batches = [batch(at, at, vms=("a", "b")) for at in (0, 60)]
        store.append(batches)
        before = store.history(since=0, until=120)
        store.append(batches + batches)
        assert_same(store.history(since=0, until=120), before)
        assert cpu(store.counts(since=0, until=300, resolution=Resolution.FIVE_MINUTES)) == [2]

    def test_the_last_of_equal_keys_wins(self, store: BehaviourStore) -> None:
        store.append([batch(0, 1.0), batch(0, 2.0, limit=8.0)])
        assert cpu(store.history(since=0, until=60)) == [2.0]
        store.append([batch(0, 3.0, limit=np.nan)])
        trace = store.history(since=0, until=60)
        assert cpu(trace) == [3.0]
        assert np.isnan(trace.limit[CPU]).all()

    def test_replacing_one_resource_leaves_the_others(self, store: BehaviourStore) -> None:
        both = np.array([[1.0, 2.0]])
        store.append([SampleBatch(0, ("a",), (CPU, MEMORY), both, both * 10)])
        store.append([SampleBatch(0, ("a",), (MEMORY, CPU), np.array([[7.0, np.nan]]), both)])
        trace = store.history(since=0, until=60)
        assert [trace.demand[r].item() for r in (CPU, MEMORY)] == [1.0, 7.0]
        assert [trace.limit[r].item() for r in (CPU, MEMORY)] == [10.0, 1.0]

    def test_order_of_time_does_not_matter(self, store: BehaviourStore) -> None:
        for at in (300, 60, 240, 0, 180, 120):
            store.append([batch(at, at)])
        assert cpu(store.history(since=0, until=360)) == [0, 60, 120, 180, 240, 300]

    def test_vms_stand_in_the_order_of_their_first_sample(self, store: BehaviourStore) -> None:
        store.append([batch(60, 1.0, vms=("z", "b", "a")), batch(0, 1.0, vms=("z",))])
        assert store.history(since=0, until=120).vm_ids == ("z", "a", "b")
        assert store.history(since=60, until=120).vm_ids == ("a", "b", "z")
        assert store.vm_ids() == ("a", "b", "z")

    def test_chosen_vms(self, store: BehaviourStore) -> None:
        store.append([batch(0, (1.0, 2.0, 3.0), vms=("a", "b", "c"))])
        chosen = store.history(since=0, until=60, vm_ids=("c", "a", "never seen"))
        assert (chosen.vm_ids, cpu(chosen, "c")) == (("a", "c"), [3.0])
        assert store.history(since=0, until=60, vm_ids=()).vm_ids == ()

    def test_odd_names(self, store: BehaviourStore) -> None:
        store.append([batch(0, range(len(NAMES)), vms=NAMES)])
        maintained(store, 100 * DAY)
        trace = store.history(since=0, until=60)
        assert {name: cpu(trace, name) for name in NAMES} == {name: [i] for i, name in enumerate(NAMES)}
        assert store.vm_ids() == tuple(sorted(NAMES))
        for name in NAMES:
            assert store.history(since=0, until=60, vm_ids=[name]).vm_ids == (name,)

    def test_nothing_to_append(self, store: BehaviourStore) -> None:
        store.append([])
        store.append([SampleBatch(0, (), (CPU,), np.empty((0, 1)), np.empty((0, 1)))])
        store.append([SampleBatch(0, ("a",), (), np.empty((1, 0)), np.empty((1, 0)))])
        store.append([batch(0, np.nan)])
        assert store.vm_ids() == ()
        store.append([SampleBatch(0, (), (CPU,), np.empty((0, 1)), np.empty((0, 1))), batch(60, 1.0)])
        assert cpu(store.history(since=0, until=120)) == [None, 1.0]

    def test_a_batch_that_cannot_be_stored_is_refused_whole(self, store: BehaviourStore) -> None:
        wrong = SampleBatch(0, ("a", "b"), (CPU,), np.zeros((1, 1)), np.zeros((1, 1)))
        for bad in (wrong, batch(-1, 1.0), batch(2**60, 1.0)):
            with pytest.raises(StoreError):
                store.append([batch(0, 1.0), bad])
        assert store.vm_ids() == ()
        store.append([batch(0, 1.0)])
        assert cpu(store.history(since=0, until=60)) == [1.0]

    def test_a_step_that_does_not_divide_an_hour_is_refused(self, make: StoreMaker) -> None:
        for step in (0, 7, 7200):
            with pytest.raises(StoreError):
                make(step_seconds=step)

    @pytest.mark.parametrize("tidied", [False, True])
    def test_roll_ups(self, store: BehaviourStore, tidied: bool) -> None:
        store.append([batch(at, at / 60, limit=at) for at in range(0, 4200, 60) if at not in (300, 360)])
        store.append([batch(3540, 59.0, limit=np.nan), batch(4200, 1.0, vms=("b",))])
        if tidied:
            maintained(store, 4260)
        five, hour = Resolution.FIVE_MINUTES, Resolution.HOUR
        assert cpu(store.history(since=0, until=4200, resolution=five))[:2] == [2.0, 8.0]
        assert cpu(store.peaks(since=0, until=4200, resolution=five))[:2] == [4.0, 9.0]
        assert cpu(store.counts(since=0, until=4200, resolution=five))[:3] == [5, 3, 5]
        hours = store.history(since=0, until=4200, resolution=hour)
        assert cpu(hours) == [pytest.approx((sum(range(60)) - 11) / 58), pytest.approx(64.5)]
        assert hours.limit[CPU][:, 0].tolist() == [3480, 4140]
        assert cpu(store.peaks(since=0, until=4200, resolution=hour)) == [59, 69]
        assert cpu(store.counts(since=0, until=4200, resolution=hour)) == [58, 10]

    def test_bounds_of_roll_ups_are_on_the_start_of_buckets(self, store: BehaviourStore) -> None:
        store.append([batch(at, 1.0) for at in range(0, 1200, 60)])
        trace = store.history(since=1, until=601, resolution=Resolution.FIVE_MINUTES)
        assert trace.grid == Grid(300, 300, 2)
        assert cpu(trace) == [1.0, 1.0]
        assert cpu(store.counts(since=600, until=601, resolution=Resolution.FIVE_MINUTES)) == [5]

    def test_late_samples_are_rolled_up_again(self, store: BehaviourStore) -> None:
        store.append([batch(at, 1.0) for at in range(0, 7200, 60)])
        maintained(store, 7200)
        store.append([batch(60, 11.0), batch(120, np.nan)])
        for _ in range(2):
            assert cpu(store.history(since=0, until=600, resolution=Resolution.FIVE_MINUTES)) == [3.0, 1.0]
            assert cpu(store.peaks(since=0, until=7200, resolution=Resolution.HOUR)) == [11.0, 1.0]
            maintained(store, 7200)

    def test_maintaining_twice_is_maintaining_once(self, make: StoreMaker) -> None:
        store = make(step_seconds=300, retention=SHORT)
        store.append([batch(at, at % 7000, vms=("a", "b")) for at in range(0, 8 * DAY, 300)])
        maintained(store, 8 * DAY)
        once = everything(store, 8 * DAY)
        maintained(store, 8 * DAY)
        for before, after in zip(once, everything(store, 8 * DAY), strict=True):
            assert_same(before, after)

    def test_retention_drops_only_what_it_should(self, make: StoreMaker) -> None:
        store, end = make(step_seconds=300, retention=SHORT), 8 * DAY
        store.append([batch(at, at) for at in range(0, end, 300)])
        maintained(store, end)
        assert cpu(store.history(since=0, until=end)) == list(range(0, end, 300))
        for resolution, kept, bucket in ((Resolution.FIVE_MINUTES, 3, 300), (Resolution.HOUR, 5, 3600)):
            seen = cpu(store.counts(since=0, until=end, resolution=resolution))
            gone = (end - kept * DAY) // bucket
            assert seen == [None] * gone + [bucket // 300] * (len(seen) - gone)

    def test_late_samples_reach_archived_days(self, make: StoreMaker) -> None:
        store = make(step_seconds=3600, retention=SHORT)
        both = np.array([[1.0, 2.0]])
        store.append([SampleBatch(at, ("a",), (CPU, MEMORY), both, both) for at in range(0, 4 * DAY, 3600)])
        maintained(store, 4 * DAY)
        store.append([batch(3600, 9.0, limit=1.0), batch(7200, 5.0, vms=("late",))])
        for _ in range(3):
            trace = store.history(since=0, until=4 * 3600)
            assert cpu(trace) == [1, 9, 1, 1]
            assert cpu(trace, "late") == [None, None, 5.0, None]
            assert trace.demand[MEMORY][:, 0].tolist() == [2, 2, 2, 2]
            assert cpu(store.peaks(since=0, until=4 * 3600, resolution=Resolution.HOUR)) == [1, 9, 1, 1]
            maintained(store, 4 * DAY)

    def test_history_can_be_loaded(self, make: StoreMaker) -> None:
        store = make(step_seconds=300)
        demand = np.arange(12.0).reshape(6, 2)
        demand[1, 0] = np.nan
        trace = Trace(Grid(600, 300, 6), ("a", "b"), {CPU: demand}, {CPU: np.full((6, 2), 16.0)})
        for _ in range(2):
            assert load_history(trace, store) == 11
            loaded = store.history(since=600, until=600 + 6 * 300)
            np.testing.assert_array_equal(loaded.demand[CPU], demand[:, [loaded.vm_ids.index(v) for v in "ab"]])
        assert load_history(Trace(Grid(0, 300, 0), (), {}, {}), store) == 0

    def test_a_finer_history_is_averaged_when_loaded(self, make: StoreMaker) -> None:
        store = make(step_seconds=60)
        demand = np.array([1, 2, 3, 6, np.nan, 8, np.nan, np.nan])[:, None]
        limit = np.array([1, 2, 3, np.nan, np.nan, 5, np.nan, np.nan])[:, None]
        trace = Trace(Grid(40, 20, 8), ("a",), {CPU: demand}, {CPU: limit})
        assert load_history(trace, store) == 3
        loaded = store.history(since=0, until=240)
        assert cpu(loaded) == [1.0, pytest.approx(11 / 3), 8.0, None]
        assert loaded.limit[CPU][:, 0].tolist()[:3] == [1.0, 3.0, 5.0]
        with pytest.raises(BadInput, match="step"):
            load_history(Trace(Grid(0, 45, 1), ("a",), {CPU: demand[:1]}, {CPU: limit[:1]}), store)

    def test_what_was_stored_outlives_the_store(self, make: StoreMaker) -> None:
        if not self.persistent:
            pytest.skip("lives only as long as its process")
        store, end = make(step_seconds=3600, retention=SHORT), 5 * DAY
        store.append([batch(at, at, vms=("a", "b")) for at in range(0, end, 3600)])
        maintained(store, end)
        store.append([batch(end, 1.0, vms=("c",))])
        before = everything(store, end + 3600)
        store.close()
        again = make(step_seconds=3600, retention=SHORT)
        for one, other in zip(before, everything(again, end + 3600), strict=True):
            assert_same(one, other)
        again.append([batch(end, 2.0, vms=("b", "d"))])
        assert again.vm_ids() == ("a", "b", "c", "d")
        assert cpu(again.history(since=end, until=end + 1), "b") == [2.0]


def everything(store: BehaviourStore, until: int) -> list[Trace]:
    """All that a store can say about ``[0, until)``."""
    return [
        query(since=0, until=until, resolution=resolution)
        for resolution in Resolution
        for query in (store.history, store.peaks, store.counts)
    ]
