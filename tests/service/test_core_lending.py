"""What the daemon tells the process of the burst loop, and what passes between them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from forestall.burst.driver import BurstStatus
from forestall.burst.lending import Loan
from forestall.burst.place import Place
from forestall.burst.watch import LATE_IN_A_ROW, ON_TIME_AGAIN, Timing, Watch
from forestall.demand.policy import PolicySet
from forestall.demand.view import VmView
from forestall.model.errors import BadInput, HypervisorError
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.ports.cores import Guest, Part
from forestall.ports.hypervisor import VmProcess
from forestall.service.burst_messages import Roster, roster_line, roster_of, status_line
from forestall.service.lending import CoreLending
from forestall.service.pipes import LONGEST_LINE, Lines


class FakeChild:
    """Remembers what it is told; tests let it die."""

    def __init__(self) -> None:
        self.running, self.begun, self.told, self.code, self.silent = False, 0, list[bytes](), 0, 0.0

    def begin(self) -> None:
        self.running, self.begun = True, self.begun + 1

    def alive(self) -> bool:
        return self.running

    def tell(self, line: bytes) -> None:
        self.told.append(line)

    def silent_seconds(self) -> float:
        return self.silent

    def status(self) -> dict[str, Any]:
        return {"loan": {"lent": 1.0}}

    def end(self) -> int | None:
        self.running = False
        return self.code


class FakeLoop:
    """The demand loop with three VMs."""

    def __init__(self, *borrowers: str) -> None:
        self.policies: PolicySet | None = PolicySet(borrowers=borrowers, lenders=("web", "db"))
        self.held = {"web": 1.5, "db": 2.0, "batch": 2.0}
        self.acts = True
        self.limit = dict.fromkeys(("web", "db", "batch", "other"), 2.0)

    def views(self) -> list[VmView]:
        return [self._view(vm, resource) for vm in self.held for resource in (Resource.CPU, Resource.MEMORY)]

    def may_act(self, vm_id: str) -> bool:
        return self.acts

    def _view(self, vm_id: str, resource: Resource) -> VmView:
        nothing = math.nan
        held, mode = self.held[vm_id], Mode.ENFORCE
        return VmView(
            vm_id, resource, 0.1, 0.1, held, self.limit[vm_id], 1.0, {}, nothing, mode, False, None, "", "",
        )  # fmt: skip


class Rig:
    def __init__(self, *borrowers: str) -> None:
        self.loop, self.child, self.notes = FakeLoop(*borrowers), FakeChild(), list[str]()
        self.away, self.absent, self.leftovers, self.swept = "", set[str](), dict[str, str](), 0
        self.lending = CoreLending(self.loop, self.processes, self.child, self.sweep, 60.0, self.notes.append)

    def sweep(self) -> dict[str, str]:
        self.swept += 1
        return self.leftovers

    def processes(self) -> dict[str, VmProcess]:
        if self.away:
            raise HypervisorError(self.away)
        there = [vm for vm in self.loop.held if vm not in self.absent]
        return {vm: VmProcess(100 + k, f"run-{vm}") for k, vm in enumerate(there)}

    def roster(self) -> dict[str, Place]:
        return {place.guest.vm_id: place for place in roster_of(self.child.told[-1]).places}


def test_lenders_hold_what_the_demand_loop_gives_and_borrowers_what_they_are_provisioned_with() -> None:
    rig = Rig("batch")
    rig.lending.turn()
    found = rig.roster()
    assert {vm: place.guest.part for vm, place in found.items()} == {
        "web": Part.LENDER, "db": Part.LENDER, "batch": Part.BORROWER,
    }  # fmt: skip
    assert {vm: place.frame_cores for vm, place in found.items()} == {"web": 1.5, "db": 2.0, "batch": 2.0}
    assert found["batch"].guest == Guest("batch", "run-batch", 102, Part.BORROWER)


def test_without_borrowers_there_is_no_process() -> None:
    rig = Rig()
    rig.lending.turn()
    assert rig.child.begun == 0
    assert rig.lending.status() == {}


def test_a_roster_is_told_at_every_turn_with_its_lease() -> None:
    rig = Rig("batch")
    rig.lending.turn()
    rig.loop.held["web"] = 1.0
    rig.lending.turn()
    assert len(rig.child.told) == 2
    assert rig.roster()["web"].frame_cores == 1.0
    assert roster_of(rig.child.told[-1]).lease_seconds == 60.0


def test_for_a_vm_that_neither_lends_nor_borrows_its_frame_is_reserved() -> None:
    rig = Rig("batch")
    rig.loop.held["other"] = 1.25
    rig.lending.turn()
    assert "other" not in rig.roster()
    assert roster_of(rig.child.told[-1]).elsewhere_cores == 1.25


def test_for_a_lender_without_a_process_too() -> None:
    rig = Rig("batch")
    rig.absent.add("db")
    rig.lending.turn()
    assert rig.roster().keys() == {"web", "batch"}
    assert roster_of(rig.child.told[-1]).elsewhere_cores == 2.0


def test_of_which_nothing_is_known_a_whole_host_is_reserved() -> None:
    rig = Rig("batch")
    rig.loop.held["web"], rig.loop.limit["web"] = math.nan, math.inf
    rig.lending.turn()
    assert rig.roster()["web"].frame_cores >= 1e6


def test_who_is_still_held_down_by_the_demand_loop_does_not_borrow_yet() -> None:
    rig = Rig("batch")
    rig.loop.held["batch"] = 0.5
    rig.lending.turn()
    assert rig.child.begun == 0
    rig.loop.held["batch"] = 2.0
    rig.lending.turn()
    assert "batch" in rig.roster()
    rig.loop.held["batch"] = 0.05  # as the burst loop limits it, which the hypervisor shows too
    rig.lending.turn()
    assert "batch" in rig.roster()


def test_what_an_earlier_process_has_left_is_put_back_first_and_tried_again() -> None:
    rig = Rig()
    rig.leftovers["batch"] = "it is busy"
    rig.lending.turn()
    assert "batch is not as it was" in rig.notes[0]
    rig.leftovers.clear()
    rig.lending.turn()
    rig.lending.turn()
    assert rig.swept == 2


def test_a_process_that_hangs_is_ended_and_started_anew() -> None:
    rig = Rig("batch")
    rig.lending.turn()
    rig.child.silent = 60.0
    rig.lending.turn()
    assert rig.child.begun == 2
    assert "not spoken" in rig.notes[0]


def test_who_may_not_be_touched_is_told_so() -> None:
    rig = Rig("batch")
    rig.loop.acts = False
    rig.lending.turn()
    assert not rig.roster()["batch"].acting


def test_a_process_that_has_died_is_started_anew_and_told_again() -> None:
    rig = Rig("batch")
    rig.lending.turn()
    rig.child.running = False
    rig.lending.turn()
    assert (rig.child.begun, len(rig.child.told)) == (2, 2)
    assert "started anew" in rig.notes[0]


def test_when_the_last_borrower_goes_the_process_ends() -> None:
    rig = Rig("batch")
    rig.lending.turn()
    rig.loop.policies = None
    rig.lending.turn()
    assert not rig.child.running
    assert rig.lending.status() == {}


def test_while_the_hypervisor_is_away_the_roster_stays() -> None:
    rig = Rig("batch")
    rig.lending.turn()
    rig.away = "no contact"
    rig.lending.turn()
    assert rig.child.running
    assert rig.child.told[1] == rig.child.told[0]
    assert "no contact" in rig.notes[0]


def test_what_was_not_put_back_at_the_end_is_said() -> None:
    rig = Rig("batch")
    rig.lending.turn()
    rig.child.code = 1
    rig.lending.close()
    assert "not as they were" in rig.notes[0]


GOOD = Place(Guest("a", "1", 7, Part.LENDER), 1.0)


def test_a_roster_survives_the_pipe() -> None:
    roster = Roster((GOOD, Place(Guest("b\n", "2", 8, Part.BORROWER), 2.0, 3.0, acting=False)))
    line = roster_line(roster)
    assert line.count(b"\n") == 1
    assert roster_of(line) == roster


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"{}",
        b'{"places": [1]}',
        roster_line(Roster((Place(Guest("a", "1", 7, Part.LENDER), 0.0),))),
        roster_line(Roster((Place(Guest("a", "1", 0, Part.LENDER), 1.0),))),
        roster_line(Roster((Place(Guest("a", "1", 7, Part.LENDER), 1.0, -1.0),))),
        roster_line(Roster((GOOD, GOOD))),
    ],
)
def test_what_is_no_roster_is_refused(line: bytes) -> None:
    with pytest.raises(BadInput, match="is not a roster"):
        roster_of(line)


def test_what_is_not_known_is_null_in_a_status() -> None:
    timing = Timing(1, 0, False, (math.nan, math.nan), (math.nan, math.nan), 0.01)
    line = status_line(BurstStatus(Loan(1.0, 0.0, 0.0), {}, {}, 0, 0, math.nan, timing, {}))
    assert b'"wake_us":null' in line
    assert line.endswith(b"}\n")


def test_lines_come_in_any_pieces() -> None:
    lines, heard = Lines(), list[bytes]()
    for byte in b"one\n\ntwo\nthr":
        heard += lines.hear(bytes([byte]))
    assert heard == [b"one", b"two"]


def test_a_line_without_an_end_is_refused() -> None:
    with pytest.raises(BadInput, match="longer than"):
        Lines().hear(b"x" * (LONGEST_LINE + 1))


def test_a_loop_is_late_after_three_ticks_in_a_row_until_it_has_been_in_time_for_a_second() -> None:
    watch = Watch(0.025)
    for late in (0.03, 0.03, 0.0, 0.03, 0.03):
        watch.begins(late)
    assert not watch.late_now
    watch.begins(0.03)
    assert watch.late_now
    for _ in range(ON_TIME_AGAIN - 1):
        watch.begins(0.001)
    assert watch.late_now
    watch.begins(0.001)
    assert not watch.late_now
    timing = watch.timing(0.5)
    assert (timing.late, timing.ticks, LATE_IN_A_ROW) == (5, 6 + ON_TIME_AGAIN, 3)
    assert math.isnan(timing.tick_ms[0])
