"""What guests say becomes vectors and sequences, beside the loop; hints go down; the daemon answers about them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from forestall.demand.view import VmView
from forestall.model.errors import GuestError, StoreError
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.ports.guest_channel import OPERATIONS, SHORT_FIELDS, Busiest, ChannelState, GuestWindow
from forestall.ports.vectors import VectorBatch, VectorKind
from forestall.service.guests import Guests, NoGuests, hints
from forestall.service.profiling import TARGETS, Profiling, targets_of

FORK = OPERATIONS.index("fork")


def window(vm: str, at: float, cores: float = 0.0, operations: tuple = ()) -> GuestWindow:
    values = np.zeros(len(SHORT_FIELDS))
    values[SHORT_FIELDS.index("cpu_user_cores")] = cores
    return GuestWindow(vm, at, 0.1, False, values, operations)


class Channel:
    """A channel to guests that say what a test lets them say."""

    def __init__(self) -> None:
        self.said: list[GuestWindow] = []
        self.told: dict[str, Any] = {}
        self.followed: dict[str, str] = {}
        self.busy: list[Busiest] = []
        self.closed = False

    def follow(self, addresses: Mapping[str, str]) -> None:
        self.followed = dict(addresses)

    def windows(self) -> Sequence[GuestWindow]:
        said, self.said = self.said, []
        return said

    def busiest(self) -> Sequence[Any]:
        told, self.busy = self.busy, []
        return told

    def ask(self, vm_id: str, what: str, argument: Any = None, patience_seconds: float = 5.0) -> Any:
        return [vm_id, what, argument]

    def tell(self, vm_id: str, hint: Mapping[str, Any]) -> None:
        self.told[vm_id] = hint

    def states(self) -> Mapping[str, ChannelState]:
        return {vm_id: ChannelState(connected=True, speaking=True) for vm_id in self.followed}

    def close(self) -> None:
        self.closed = True


class Kept:
    """Takes vectors, or does not."""

    def __init__(self) -> None:
        self.batches: list[VectorBatch] = []
        self.full = False

    def __call__(self, batch: VectorBatch) -> None:
        if self.full:
            raise StoreError("disk full")
        self.batches.append(batch)


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def channel() -> Channel:
    return Channel()


def profiling(channel: Channel, kept: Kept, groups: Mapping[str, str] | None = None) -> Profiling:
    named = groups or {}
    notes: list[str] = []
    made = Profiling(channel, kept, lambda vms: [named.get(vm, "") for vm in vms], lambda: 1000.0, notes.append)
    made.notes = notes  # type: ignore[attr-defined]
    return made


def test_a_vector_is_made_of_each_guest_that_spoke(channel: Channel, kept: Kept) -> None:
    watch = profiling(channel, kept)
    watch.look([window("a", 1.0, 0.5), window("b", 1.0), window("a", 1.1, 0.7)])
    watch.make_vectors()
    watch.make_vectors()
    (batch,) = kept.batches
    assert (set(batch.vm_ids), set(batch.at.tolist())) == ({"a", "b"}, {1000})


def test_sequences_are_told_to_people(channel: Channel, kept: Kept) -> None:
    watch = profiling(channel, kept)
    day = [((FORK, 1),), *[()] * 30]
    watch.look([window("a", n / 10, 1.0 if 0 < n % 31 < 12 else 0.0, day[n % 31]) for n in range(31 * 40)])
    found = watch.sequences("a")
    assert found is not None
    (forked,) = [row for row in found["common"] if row["after"] == "fork"]
    assert forked["cpu_cores_in_half_a_second"] == pytest.approx(1.0, abs=0.1)
    assert found["now"]["expected"].keys() == set(TARGETS)
    assert watch.sequences("nobody") is None


def test_patterns_are_handed_on_as_vectors_and_told_to_people(channel: Channel, kept: Kept) -> None:
    watch = profiling(channel, kept)
    for n in range(12):
        watch.look([window("a", 10 * n + k / 10, 1.0 if n % 4 == 3 else 0.1) for k in range(100)])
        watch.make_vectors()
    watch.keep_patterns()
    patterns = [batch for batch in kept.batches if batch.kind is VectorKind.PATTERN]
    assert {vm for batch in patterns for vm in batch.vm_ids} == {"a"}
    assert patterns[0].names[-3:] == ("pattern_number", "pattern_seen", "pattern_steps")
    found = watch.patterns("a")
    assert found is not None
    busy = [row for row in found["patterns"] if row["cpu_cores"] > 0.8]
    assert sum(row["seen"] for row in busy) == 3
    assert found["now"]["number"] in {row["number"] for row in busy}
    assert watch.patterns("nobody") is None


def test_a_trust_group_shares_what_it_knows_and_others_do_not_see_it(channel: Channel, kept: Kept) -> None:
    watch = profiling(channel, kept, {"a": "red", "b": "red", "c": "blue"})
    day = [((FORK, 1),), *[()] * 30]
    watch.look([window("a", n / 10, 1.0 if 0 < n % 31 < 12 else 0.0, day[n % 31]) for n in range(31 * 40)])
    expected = {}
    for vm in ("b", "c", "d"):
        watch.look([*(window(vm, n / 10) for n in range(30)), window(vm, 3.0, 0.0, ((FORK, 1),))])
        said = (watch.sequences(vm) or {})["now"]
        expected[vm] = 0.0 if said is None else said["expected"]["cpu_cores"]
    assert expected["b"] > 0.7
    assert expected["c"] == expected["d"] == 0.0


def test_a_vm_that_is_moved_to_another_group_tells_the_first_no_more(channel: Channel, kept: Kept) -> None:
    groups = {"a": "red", "b": "red"}
    watch = profiling(channel, kept, groups)
    watch.look([window("a", 0.0)])
    groups["a"] = "blue"
    watch.make_vectors()
    day = [((FORK, 1),), *[()] * 30]
    watch.look([window("a", n / 10, 1.0 if 0 < n % 31 < 12 else 0.0, day[n % 31]) for n in range(31 * 40)])
    watch.look([*(window("b", n / 10) for n in range(30)), window("b", 3.0, 0.0, ((FORK, 1),))])
    said = (watch.sequences("b") or {})["now"]
    assert said is None or said["expected"]["cpu_cores"] == 0.0


def test_a_vm_that_is_gone_for_long_is_forgotten(channel: Channel, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forestall.service.profiling.FORGET_VECTORS", 3)
    watch = profiling(channel, kept, {"gone": "red"})
    watch.look([window("gone", 0.0)])
    for n in range(6):
        watch.look([window("a", float(n))])
        watch.make_vectors()
    assert watch.sequences("gone") is watch.patterns("gone") is None
    assert watch.sequences("a") is not None
    assert not watch._groups


def test_a_defect_does_not_end_the_thread(channel: Channel, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forestall.service.profiling.LOOK_SECONDS", 0.01)
    watch, looks = profiling(channel, kept), iter([ZeroDivisionError("a defect"), None])

    def broken() -> Sequence[GuestWindow]:
        if (trouble := next(looks, None)) is not None:
            raise trouble
        return [window("a", 1.0)]

    monkeypatch.setattr(channel, "windows", broken)
    watch.start()
    deadline = time.monotonic() + 20
    while watch.sequences("a") is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    watch.close()
    assert watch.notes[0] == "vectors are not kept: ZeroDivisionError: a defect"  # type: ignore[attr-defined]


def test_vectors_that_cannot_be_kept_are_told_of_and_the_thread_goes_on(channel: Channel, kept: Kept) -> None:
    watch = profiling(channel, kept)
    kept.full = True
    watch.start()
    watch.look([window("a", 1.0)])
    watch.close()
    assert watch.notes == ["vectors are not kept: disk full"]  # type: ignore[attr-defined]


def test_targets_are_cores_and_bytes() -> None:
    values = np.arange(len(SHORT_FIELDS), dtype=float)
    told = targets_of(GuestWindow("a", 0.0, 0.1, False, values, ()))
    assert told.shape == (len(TARGETS),)
    assert told[1] == SHORT_FIELDS.index("disk_read_bytes_per_s")


class Host:
    def guest_addresses(self) -> Mapping[str, str]:
        return {"a": "/a.sock"}


def view(vm: str, risk: float = 0.1) -> VmView:
    numbers = {"seen": 1.0, "demand": 1.0, "in_force": 2.0, "limit": 4.0, "wanted": 2.0}
    return VmView(
        vm, Resource.CPU, **numbers, quantiles={"p50": 0.5, "p99": math.inf}, risk=risk, mode=Mode.ENFORCE,
        altered=False, lease_left_seconds=None, ruling="accepted", reason="",
    )  # fmt: skip


def test_after_a_cycle_guests_are_followed_and_told(channel: Channel, kept: Kept) -> None:
    guests = Guests(channel, Host(), lambda: [view("a"), view("silent")], lambda: 77.0, profiling(channel, kept))
    guests.turn()
    assert channel.followed == {"a": "/a.sock"}
    assert channel.told == {"a": {"at": 77.0, "cpu": {"in_force": 2.0, "risk": 0.1, "p50": 0.5}}}
    assert [state["vm_id"] for state in guests.states()] == ["a"]
    assert guests.ask("a", "ping", 3) == ["a", "ping", 3]
    assert guests.speaking() == {"a"}
    with pytest.raises(GuestError, match="a: no agent has told of its processes"):
        guests.busiest("a")
    channel.busy = [Busiest("a", 1.0, ({"name": "old"},), ()), Busiest("a", 2.0, ({"name": "new"},), ())]
    channel.busy.append(Busiest("gone", 2.0, (), ()))
    guests.turn()
    guests.turn()
    assert guests.busiest("a")["processes"] == ({"name": "new"},)
    with pytest.raises(GuestError, match="gone"):
        guests.busiest("gone")
    with pytest.raises(GuestError, match="nobody: no agent has said anything"):
        guests.sequences("nobody")
    guests.close()
    assert channel.closed


def test_hints_have_no_number_that_is_none() -> None:
    assert hints([view("a", math.nan)], 1.0, ["a"])["a"]["cpu"] == {"in_force": 2.0, "p50": 0.5}


def test_where_channels_are_off_every_question_is_refused() -> None:
    nobody = NoGuests()
    nobody.turn()
    assert nobody.states() == []
    assert nobody.speaking() == frozenset()
    for question in (
        lambda: nobody.ask("a", "ping", None),
        lambda: nobody.sequences("a"),
        lambda: nobody.busiest("a"),
        lambda: nobody.patterns("a"),
    ):
        with pytest.raises(GuestError, match="switched off"):
            question()
