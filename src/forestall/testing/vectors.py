"""What every :class:`~forestall.ports.vectors.VectorStore` must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import pytest

from forestall.model.errors import BadInput, StoreError
from forestall.ports.vectors import Origin, VectorBatch, VectorKind, VectorRetention, VectorStore

MONDAY = 4 * 86_400 + 1000 * 7 * 86_400
HOUR = 3600


def vectors(
    vm_ids: tuple[str, ...] = ("a", "b"),
    at: int | list[int] = MONDAY,
    value: float = 1.0,
    names: tuple[str, ...] = ("x", "y"),
    kind: VectorKind = VectorKind.PROFILE,
) -> VectorBatch:
    """Vectors whose first feature is ``value``, and whose second counts rows."""
    instants = np.full(len(vm_ids), at) if isinstance(at, int) else np.array(at)
    values = np.stack([np.full(len(vm_ids), value), *[np.arange(len(vm_ids))] * (len(names) - 1)], axis=1)
    return VectorBatch(kind, names, vm_ids, instants.astype(np.int64), values.astype(np.float32))


class VectorStoreContract(ABC):
    """Derive, and make a store."""

    @pytest.fixture
    def store(self) -> Iterator[VectorStore]:
        """A new store, with the shortest retention that is allowed."""
        store = self.make(VectorRetention(raw_seconds=2 * 86_400, hour_seconds=30 * 86_400))
        yield store
        store.close()

    @abstractmethod
    def make(self, retention: VectorRetention) -> VectorStore:
        """A new, empty store."""

    @abstractmethod
    def reopened(self, store: VectorStore) -> VectorStore:
        """The same store, after an end of the process."""

    @staticmethod
    def _rows(
        store: VectorStore, kind: VectorKind = VectorKind.PROFILE, **more: object
    ) -> list[tuple[str, int, float]]:
        span = {"since": 0, "until": 2**40, **more}
        batches = store.vectors(kind, **span)  # type: ignore[arg-type]
        return [
            (vm, int(at), float(row[0]))
            for batch in batches
            for vm, at, row in zip(batch.vm_ids, batch.at, batch.values, strict=True)
        ]

    def test_what_was_applied_is_read_by_vm_and_time(self, store: VectorStore) -> None:
        """In whatever order it came."""
        assert store.apply(Origin("", "s", 1), vectors(at=MONDAY + 10, value=2.0))
        assert store.apply(Origin("", "s", 2), vectors(at=MONDAY, value=1.0))
        expected = [("a", MONDAY, 1.0), ("a", MONDAY + 10, 2.0), ("b", MONDAY, 1.0), ("b", MONDAY + 10, 2.0)]
        assert self._rows(store) == expected
        assert self._rows(store, vm_ids=["b"]) == expected[2:]
        assert self._rows(store, vm_ids=[]) == []
        assert self._rows(store, since=MONDAY + 1) == [expected[1], expected[3]]
        assert self._rows(store, kind=VectorKind.SCORE) == []
        assert store.count() == 4

    def test_a_frame_that_comes_again_is_passed_over(self, store: VectorStore) -> None:
        """Also after the process has ended; another spool, or another host, has its own numbers."""
        assert store.apply(Origin("", "s", 3), vectors())
        assert not store.apply(Origin("", "s", 3), vectors(at=MONDAY + 10))
        assert not store.apply(Origin("", "s", 2), vectors(at=MONDAY + 10))
        store = self.reopened(store)
        assert not store.apply(Origin("", "s", 3), vectors(at=MONDAY + 10))
        assert store.apply(Origin("", "t", 1), vectors(at=MONDAY + 20))
        assert store.apply(Origin("other", "s", 1), vectors(at=MONDAY + 30))
        assert store.count() == 6
        store.close()

    def test_of_two_vectors_the_first_is_kept(self, store: VectorStore) -> None:
        """Within a frame, and between frames; of another kind it is another vector."""
        store.apply(Origin("", "s", 1), vectors(vm_ids=("a", "a"), value=1.0))
        store.apply(Origin("", "t", 1), vectors(vm_ids=("a", "c"), value=2.0))
        store.apply(Origin("", "t", 2), vectors(vm_ids=("a",), value=3.0, names=("z",)))
        store.apply(Origin("", "t", 3), vectors(vm_ids=("a",), value=4.0, kind=VectorKind.SCORE))
        assert self._rows(store) == [("a", MONDAY, 1.0), ("c", MONDAY, 2.0)]
        assert self._rows(store, kind=VectorKind.SCORE) == [("a", MONDAY, 4.0)]

    def test_a_host_speaks_for_its_own_vms_alone(self, store: VectorStore) -> None:
        """VMs of one name on two hosts are two, and neither is that of this host."""
        for host, value in (("h", 1.0), ("g", 2.0), ("", 3.0)):
            assert store.apply(Origin(host, "s", 1), vectors(vm_ids=("web",), value=value))
        assert self._rows(store) == [("h/web", MONDAY, 1.0), ("g/web", MONDAY, 2.0), ("web", MONDAY, 3.0)]
        assert store.profile("g/web").mean[0, 0] == 2.0

    def test_late_hours_are_rolled_up_however_many(self, store: VectorStore) -> None:
        """Also those that are older than vectors are kept."""
        at = [MONDAY + k * HOUR for k in range(60)]
        store.apply(Origin("", "s", 1), vectors(vm_ids=("a",) * 60, at=at))
        store.maintain(MONDAY + 5 * 86_400)
        store.apply(Origin("", "s", 2), vectors(vm_ids=("a",) * 60, at=[t + 10 for t in at]))
        for _ in range(2):
            assert store.profile("a").vectors[:60].tolist() == [2] * 60
            store.maintain(MONDAY + 5 * 86_400)
        assert store.count() == 0

    def test_names_without_end_are_refused(self, store: VectorStore) -> None:
        """What a host may make up is bounded; what it had is still taken."""
        for n in range(64):
            store.apply(Origin("h", "s", n + 1), vectors(vm_ids=("a",), at=MONDAY + n, names=("x", f"y{n}")))
        with pytest.raises(BadInput, match="lists of features"):
            store.apply(Origin("h", "s", 65), vectors(vm_ids=("a",), at=MONDAY + 99, names=("z",)))
        many = tuple(f"vm{n}" for n in range(20_001))
        with pytest.raises(BadInput, match="VMs"):
            store.apply(Origin("h", "t", 1), vectors(vm_ids=many, names=("x", "y1")))
        assert store.apply(Origin("h", "s", 65), vectors(vm_ids=("a",), at=MONDAY + 99, names=("x", "y1")))

    def test_an_empty_frame_has_arrived_too(self, store: VectorStore) -> None:
        """It is not sent for ever."""
        assert store.apply(Origin("", "s", 1), vectors(vm_ids=()))
        assert not store.apply(Origin("", "s", 1), vectors(vm_ids=()))

    def test_what_does_not_fit_is_refused_and_changes_nothing(self, store: VectorStore) -> None:
        """And the frame has not arrived."""
        sound = vectors()
        with pytest.raises(StoreError, match="shape"):
            store.apply(Origin("", "s", 1), VectorBatch(sound.kind, ("x",), sound.vm_ids, sound.at, sound.values))
        with pytest.raises(StoreError, match="instant"):
            store.apply(Origin("", "s", 1), vectors(at=-1))
        assert store.apply(Origin("", "s", 1), sound)

    def test_names_may_change(self, store: VectorStore) -> None:
        """A batch for each list of names; the profile is of the newest."""
        store.apply(Origin("", "s", 1), vectors(vm_ids=("a",)))
        store.apply(Origin("", "s", 2), vectors(vm_ids=("a",), at=MONDAY + HOUR, names=("x", "y", "z"), value=7.0))
        assert [batch.names for batch in store.vectors(VectorKind.PROFILE, since=0, until=2**40)] == [
            ("x", "y"),
            ("x", "y", "z"),
        ]
        assert store.profile("a").names == ("x", "y", "z")
        assert store.profile("a").mean[1, 0] == 7.0

    def test_a_profile_is_a_mean_at_each_hour_of_the_week(self, store: VectorStore) -> None:
        """Whether or not vectors were rolled up, dropped, or came late."""
        week = 7 * 86_400
        for n, (at, value) in enumerate([(MONDAY, 1.0), (MONDAY + 1800, 3.0), (MONDAY + 26 * HOUR, 8.0)]):
            store.apply(Origin("", "s", n + 1), vectors(vm_ids=("a",), at=at, value=value))
        for _ in range(2):
            profile = store.profile("a")
            assert (profile.mean[0, 0], profile.mean[26, 0]) == (2.0, 8.0)
            assert profile.vectors[[0, 1, 26]].tolist() == [2, 0, 1]
            assert np.isnan(profile.mean[1]).all()
            store.maintain(MONDAY + 27 * HOUR)
        store.maintain(MONDAY + week)
        assert store.count() == 0
        store.apply(Origin("", "s", 9), vectors(vm_ids=("a",), at=MONDAY + 60, value=8.0))
        store.apply(Origin("", "s", 10), vectors(vm_ids=("a",), at=MONDAY + week, value=0.0))
        for _ in range(2):
            assert store.profile("a").mean[0, 0] == (1.0 + 3.0 + 8.0 + 0.0) / 4
            store.maintain(MONDAY + week + HOUR)
        assert store.profile("nobody").names == ()

    def test_a_profile_is_of_the_names_that_were_used_last_for_this_vm(self, store: VectorStore) -> None:
        """Others may have others."""
        for number, (vm, names) in enumerate([("a", ("x", "y")), ("b", ("p", "q", "r")), ("a", ("x", "y"))]):
            store.apply(Origin("", "s", number + 1), vectors((vm,), MONDAY + number, 3.0, names))
        assert (store.profile("a").names, store.profile("a").vectors[0]) == (("x", "y"), 2)
        assert (store.profile("b").names, store.profile("b").vectors[0]) == (("p", "q", "r"), 1)
        store.maintain(MONDAY + 100)
        assert store.profile("a").vectors[0] == 2

    def test_unknown_features_do_not_count(self, store: VectorStore) -> None:
        """In the mean; the vector does."""
        batch = vectors(vm_ids=("a", "a"), at=[MONDAY, MONDAY + 10], value=2.0)
        batch.values[0, 0] = np.nan
        store.apply(Origin("", "s", 1), batch)
        profile = store.profile("a")
        assert profile.mean[0, 0] == 2.0
        assert profile.vectors[0] == 2

    def test_what_is_past_its_retention_goes(self, store: VectorStore) -> None:
        """Vectors first, their means later."""
        store.apply(Origin("", "s", 1), vectors(vm_ids=("a",)))
        store.maintain(MONDAY + 3 * 86_400)
        assert store.count() == 0
        assert store.profile("a").vectors[0] == 1
        store.maintain(MONDAY + 31 * 86_400)
        assert store.profile("a").vectors.sum() == 0
