from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("libvirt", reason="libvirt-python is not installed")

from forestall.adapters.libvirt.guest_memory import GuestMemory
from forestall.adapters.libvirt.rates import Counter, Reading, demand, rate
from forestall.adapters.libvirt.roster import Roster
from forestall.model.resources import Resource

CPU, MEMORY, NET_RX = Resource.CPU, Resource.MEMORY, Resource.NET_RX
KIB = 1024


def reading(cpu_seconds: float, at: float, *, run: str = "u/1", counting: bool = True, memory: float = 5.0) -> Reading:
    return Reading(run, counting, {CPU: {"": Counter(cpu_seconds, at)}}, memory, {CPU: 2.0, MEMORY: 100.0})


def test_a_rate_is_over_the_true_elapsed_time() -> None:
    assert demand(reading(10.0, 100.0), reading(13.0, 102.5), CPU) == pytest.approx(1.2)


def test_devices_are_summed_and_one_that_came_or_went_does_not_count() -> None:
    before = {"vda": Counter(100, 0.0), "gone": Counter(10**9, 0.0)}
    now = {"vda": Counter(300, 2.0), "new": Counter(10**9, 2.0), "vdb": Counter(7, 2.0)}
    assert rate(before, now) == 100.0
    assert rate(before | {"vdb": Counter(1, 0.0)}, now) == 103.0


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (None, reading(1.0, 1.0)),
        (reading(5.0, 0.0), reading(1.0, 1.0)),
        (reading(5.0, 1.0), reading(6.0, 1.0)),
        (reading(5.0, 0.0), reading(6.0, 1.0, run="u/2")),
        (reading(5.0, 0.0), reading(5.0, 1.0, counting=False)),
        (reading(5.0, 0.0, counting=False), reading(6.0, 1.0)),
        (reading(5.0, 0.0), Reading("u/1")),
    ],
    ids=["first", "went back", "no time", "another run", "paused", "was paused", "not read"],
)
def test_what_cannot_be_told_is_a_gap(before: Reading | None, now: Reading) -> None:
    assert math.isnan(demand(before, now, CPU))


def test_one_device_that_went_back_makes_a_gap_of_all() -> None:
    before = {"a": Counter(10, 0.0), "b": Counter(10, 0.0)}
    assert math.isnan(rate(before, {"a": Counter(20, 1.0), "b": Counter(5, 1.0)}))


def test_memory_needs_no_reading_before() -> None:
    assert demand(None, reading(0.0, 0.0), MEMORY) == 5.0
    assert math.isnan(demand(None, reading(0.0, 0.0, counting=False), MEMORY))


def test_a_vm_has_a_row_as_long_as_it_is_read() -> None:
    roster = Roster((CPU, MEMORY, NET_RX))
    first = roster.observe({"b": reading(1.0, 0.0), "a": reading(1.0, 0.0)}, 1000.4)
    second = roster.observe({"a": reading(2.0, 10.0), "c": reading(1.0, 10.0)}, 1010.9)
    third = roster.observe({"b": reading(9.0, 20.0), "a": reading(4.0, 20.0)}, 1020.9)
    assert (first.vm_ids, second.vm_ids, third.vm_ids) == (("b", "a"), ("a", "c"), ("a", "b"))
    assert (first.at, second.at, third.at) == (1000, 1000, 1010)
    nan = np.nan
    np.testing.assert_array_equal(first.demand, [[nan, 5, nan], [nan, 5, nan]])
    np.testing.assert_allclose(second.demand, [[0.1, 5, nan], [nan, 5, nan]])
    np.testing.assert_allclose(third.demand, [[0.2, 5, nan], [nan, 5, nan]])
    np.testing.assert_array_equal(third.limit, [[2, 100, nan]] * 2)


def test_the_last_limit_of_a_vm_is_remembered_as_long_as_it_is_read() -> None:
    roster, silent = Roster((CPU, MEMORY)), Reading("u/1")
    roster.observe({"a": reading(1.0, 0.0)}, 0.0)
    np.testing.assert_array_equal(roster.observe({"a": silent}, 10.0).limit, [[2, 100]])
    assert roster.observe({}, 20.0).limit.shape == (0, 2)
    assert np.isnan(roster.observe({"a": silent}, 30.0).limit).all()


def test_memory_in_use_is_what_is_not_usable() -> None:
    stats = {"balloon.current": 1000, "balloon.usable": 300, "balloon.unused": 100, "balloon.rss": 5000}
    assert GuestMemory().used_bytes("a", "u/1", stats, 0.0) == 700 * KIB


def test_memory_of_a_silent_guest_is_its_resident_size_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    memory = GuestMemory()
    for at in (0.0, 1.0):
        assert memory.used_bytes("a", "u/1", {"balloon.current": 1000, "balloon.rss": 500}, at) == 500 * KIB
    assert [record.getMessage() for record in caplog.records] == [
        "a: the guest reports no memory statistics; taking the resident size of its process"
    ]


def test_memory_that_is_not_known_is_a_gap_noted_once_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    memory, known = GuestMemory(stale_seconds=30.0), {"balloon.current": 1000, "balloon.usable": 300}
    for at in (0.0, 20.0, 40.0, 70.0):
        memory.used_bytes("a", "u/1", known, at)
        assert math.isnan(memory.used_bytes("a", "u/1", {"balloon.current": 1000}, at + 10.0))
    assert not caplog.records
    for at in (111.0, 112.0):
        assert math.isnan(memory.used_bytes("a", "u/1", {}, at))
    assert [record.getMessage() for record in caplog.records] == [
        "a: the guest reports no memory statistics; its memory is not known"
    ]


def test_a_guest_that_fell_silent_is_not_believed_for_long() -> None:
    memory = GuestMemory(stale_seconds=30.0)
    stats = {"balloon.current": 1000, "balloon.usable": 300, "balloon.rss": 900, "balloon.last-update": 77}
    assert memory.used_bytes("a", "u/1", stats, 0.0) == 700 * KIB
    assert memory.used_bytes("a", "u/1", stats, 30.0) == 700 * KIB
    assert memory.used_bytes("a", "u/1", stats, 31.0) == 900 * KIB
    assert memory.used_bytes("a", "u/1", stats | {"balloon.last-update": 78}, 32.0) == 700 * KIB
