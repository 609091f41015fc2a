"""The burst loop as a process of its own, on real control groups: it limits, and lets go however it ends."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from real_core_groups import BUSY, EASY, RealGroup, real_groups, wait_for

from forestall.adapters.linux.loop_process import LoopProcess
from forestall.burst.place import Place
from forestall.ports.cores import Guest, Part
from forestall.service.burst_messages import Roster, roster_line
from repeats import times

KILLS, SIDE_BY_SIDE = times(15, 50), 5
BACK_WITHIN_SECONDS = 1.0
CORES = 2.0

pytestmark = pytest.mark.slow


class Rig:
    """A lender and a borrower, and the process of the loop."""

    def __init__(self, lender: RealGroup, borrower: RealGroup, state: Path) -> None:
        self.lender, self.borrower, self.state_folder = lender, borrower, state
        self.original = borrower.state()
        command = [
            sys.executable,
            "-m",
            "forestall",
            "burst",
            "--state-folder",
            str(state),
            "--cores",
            str(CORES),
            "--quota",
        ]
        self.said_path = state / "said"
        state.mkdir()
        self.loop = LoopProcess(["sh", "-c", 'exec "$@" 2>>"$0"', str(self.said_path), *command])

    def begin(self, *, acting: bool = True) -> None:
        """Start it, with a roster."""
        self.loop.begin()
        self.loop.tell(roster_line(self.roster(acting=acting)))

    def roster(self, *, acting: bool = True) -> Roster:
        """The lender and the borrower."""
        lender = Guest("lender", "run-1", self.lender.pid, Part.LENDER)
        borrower = Guest("borrower", "run-1", self.borrower.pid, Part.BORROWER)
        return Roster((Place(lender, CORES), Place(borrower, CORES, acting=acting)))

    def said(self) -> str:
        """What it has written on standard error."""
        return self.said_path.read_text()

    def limited(self) -> bool:
        """Whether the borrower is limited now."""
        return self.borrower.state() != self.original

    @property
    def pid(self) -> int:
        """The process of the loop."""
        assert self.loop._process is not None
        return self.loop._process.pid

    def kept(self) -> list[str]:
        """Originals on the disk."""
        return sorted(path.name for path in (self.state_folder / "core-originals").glob("*.json"))


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[list[Rig]]:
    with ExitStack() as stack:
        groups = stack.enter_context(real_groups(*[EASY, BUSY] * SIDE_BY_SIDE))
        rigs = []
        for k in range(SIDE_BY_SIDE):
            groups[2 * k + 1].process.send_signal(signal.SIGSTOP)  # it need not run to be limited
            rigs.append(Rig(groups[2 * k], groups[2 * k + 1], tmp_path / str(k)))
            stack.callback(rigs[-1].loop.end)
        yield rigs


@pytest.fixture
def rig(rigs: list[Rig]) -> Rig:
    return rigs[0]


def test_it_limits_says_so_and_puts_back_when_its_input_ends(rig: Rig) -> None:
    rig.begin()
    wait_for(rig.limited, "the borrower is limited")
    wait_for(lambda: "loan" in rig.loop.status(), "it says what is so")
    status = rig.loop.status()
    assert status["limits"].keys() == {"borrower"}
    assert rig.kept() == ["borrower.json"]
    assert rig.loop.end() == 0
    assert not rig.limited()
    assert rig.kept() == []


def test_it_lends_what_the_lender_leaves(rig: Rig) -> None:
    rig.begin()
    wait_for(lambda: rig.loop.status().get("loan", {}).get("lent", 0.0) > 0.5, "half a core is lent", 60)
    quota = int((rig.borrower.cpu / "cpu.cfs_quota_us").read_text())
    period = int((rig.borrower.cpu / "cpu.cfs_period_us").read_text())
    assert 0 < quota <= CORES * period
    assert (rig.borrower.cpu / "cpu.idle").read_text().strip() == "1"


def test_where_it_may_only_advise_nothing_is_touched(rig: Rig) -> None:
    rig.begin(acting=False)
    wait_for(lambda: rig.loop.status().get("limits", {}).keys() == {"borrower"}, "it says what it would do")
    assert not rig.limited()
    assert rig.kept() == []


def test_who_is_gone_from_the_roster_is_put_back(rig: Rig) -> None:
    rig.begin()
    wait_for(rig.limited, "the borrower is limited")
    rig.loop.tell(roster_line(Roster(rig.roster().places[:1])))
    wait_for(lambda: not rig.limited(), "the borrower is put back")
    wait_for(lambda: rig.kept() == [], "its originals are gone")
    assert rig.loop.alive()


def test_a_line_that_is_no_roster_changes_nothing(rig: Rig) -> None:
    rig.begin()
    wait_for(rig.limited, "the borrower is limited")
    rig.loop.tell(b'{"places": [{"guest": 7}]}\n')
    wait_for(lambda: "is not a roster" in rig.said(), "it says so")
    assert rig.loop.alive()
    assert rig.limited()


def test_killed_at_any_tick_limits_are_back_within_a_second(rigs: list[Rig]) -> None:
    draw, slowest, kills = random.Random(0), 0.0, 0
    for _ in range(KILLS // SIDE_BY_SIDE):
        for rig in rigs:
            rig.begin()
        for rig in rigs:
            wait_for(rig.limited, "the borrower is limited", 60)
            until = time.monotonic() + draw.uniform(0.0, 0.1)  # anywhere in a window
            wait_for(lambda until=until: time.monotonic() > until, "a moment")  # type: ignore[misc]
            os.kill(rig.pid, signal.SIGKILL)
            killed = time.monotonic()
            wait_for(lambda rig=rig: not rig.limited(), "limits are back", 20)  # type: ignore[misc]
            slowest, kills = max(slowest, time.monotonic() - killed), kills + 1
    assert kills == KILLS
    assert slowest < BACK_WITHIN_SECONDS


def test_with_loop_and_guard_killed_the_next_start_puts_back(rig: Rig) -> None:
    rig.begin()
    wait_for(rig.limited, "the borrower is limited")
    children = (Path(f"/proc/{rig.pid}/task/{rig.pid}/children")).read_text().split()
    for pid in [*map(int, children), rig.pid]:
        os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        wait_for(lambda: not rig.loop.alive(), "it has ended")
    assert rig.limited()
    assert json.loads((rig.state_folder / "core-originals/borrower.json").read_text())["vm_id"] == "borrower"
    rig.loop.begin()  # without a roster
    wait_for(lambda: not rig.limited(), "the borrower is put back")
    wait_for(lambda: rig.kept() == [], "its originals are gone")
