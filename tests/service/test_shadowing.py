"""Whose memory is staged, as the daemon tells it; and the process that does it, on real memory."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from daemons import wait_until

from forestall.adapters.files.preallocations import FilePreallocations
from forestall.adapters.linux.loop_process import LoopProcess
from forestall.model.errors import BadInput, HypervisorError, WrongUse
from forestall.ports.hypervisor import VmProcess
from forestall.ports.trust_book import GroupTerms
from forestall.service.preallocation import Preallocations
from forestall.service.shadow_messages import ShadowRoster, roster_line, roster_of
from forestall.service.shadowing import Shadowing
from forestall.service.trust_groups import TrustGroups
from forestall.staging.asked import Asked
from forestall.staging.watched import Place

PAGES = 8192
GUEST = f"""
import mmap, os, sys
memory = os.memfd_create("pc.ram")
os.ftruncate(memory, {PAGES} * 4096)
ram = mmap.mmap(memory, {PAGES} * 4096)
print("ready", flush=True)
for line in sys.stdin:
    for page in range(*map(int, line.split())):
        ram[4096 * page] = 7
    print("done", flush=True)
"""


class Book:
    def read(self) -> Mapping[str, GroupTerms]:
        return {"on": GroupTerms(("a", "b"), True), "off": GroupTerms(("c",)), "long": GroupTerms(("d",), True, 90.0)}

    def write(self, groups: Mapping[str, GroupTerms]) -> None:
        pytest.fail("nobody changes anything")


class Child:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.running, self.told, self.said = False, list[bytes](), dict[str, Any]()

    def begin(self) -> None:
        self.running = True

    def alive(self) -> bool:
        return self.running

    def tell(self, line: bytes) -> None:
        self.told.append(line)

    def silent_seconds(self) -> float:
        return 0.0

    def status(self) -> dict[str, Any]:
        return self.said

    def end(self) -> int | None:
        self.running = False
        return 0


class Rig:
    def __init__(self, folder: Path) -> None:
        self.child, self.notes, self.away, self.acting = Child(), list[str](), "", {"a", "d"}
        self.alone = set[str]()
        self.blocks = Child()
        self.groups = TrustGroups(Book())
        self.vms = ("a", "b", "c", "d", "e")
        self.kept = Preallocations(
            FilePreallocations(folder), self, {"page": 1 << 30, "block": 1 << 30}, lambda: 7.0, self.notes.append
        )
        self.shadowing = Shadowing(
            self,
            self.groups,
            self.processes,
            {"memory": self.child, "blocks": self.blocks},
            30.0,
            20.0,
            self.notes.append,
            self.kept,
        )

    def send(self, target: str, notice: Mapping[str, Any]) -> None:
        pytest.fail("nobody is to be told")

    def trust_groups(self, vm_ids: Sequence[str]) -> tuple[str, ...]:
        policies = self.groups.policies()
        assert policies is not None
        return policies.trust(tuple(vm_ids))

    def may_act(self, vm_id: str) -> bool:
        return vm_id in self.acting

    def is_left_alone(self, vm_id: str) -> bool:
        return vm_id in self.alone

    def foresee_reads(self, vm_ids: Iterable[str]) -> None:
        self.foreseen = tuple(vm_ids)

    def processes(self) -> Mapping[str, VmProcess]:
        if self.away:
            raise HypervisorError(self.away)
        return {vm_id: VmProcess(100 + k, f"run-{vm_id}") for k, vm_id in enumerate(self.vms)}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_vms_of_groups_that_are_shadowed_are_told_with_their_horizon_and_whether_to_act(rig: Rig) -> None:
    rig.shadowing.turn()
    roster = roster_of(rig.child.told[-1])
    assert roster.lease_seconds == 20.0
    assert roster.places == (
        Place("a", "run-a", 100, "on", 30.0, acting=True),
        Place("b", "run-b", 101, "on", 30.0, acting=False),
        Place("d", "run-d", 103, "long", 90.0, acting=True),
    )


def test_both_processes_are_told_the_same_and_whom_to_leave_alone(rig: Rig) -> None:
    rig.alone = {"b"}
    rig.shadowing.turn()
    assert rig.blocks.told == rig.child.told
    assert {place.vm_id: place.left_alone for place in roster_of(rig.blocks.told[-1]).places} == {
        "a": False,
        "b": True,
        "d": False,
    }
    rig.shadowing.close()
    assert not rig.blocks.running


def test_without_vms_there_is_no_process_and_it_ends_with_the_last(rig: Rig) -> None:
    rig.vms = ("c", "e")
    rig.shadowing.turn()
    assert not rig.child.running
    rig.vms = ("a",)
    rig.shadowing.turn()
    assert rig.child.running
    rig.vms = ("c",)
    rig.shadowing.turn()
    assert not rig.child.running


def test_while_the_hypervisor_is_away_everybody_stays_under_the_terms_of_now(rig: Rig) -> None:
    rig.shadowing.turn()
    rig.away = "libvirt is away"
    rig.shadowing.turn()
    assert roster_of(rig.child.told[-1]).places == roster_of(rig.child.told[-2]).places
    rig.acting = set()
    rig.shadowing.turn()
    assert [place.acting for place in roster_of(rig.child.told[-1]).places] == [False, False, False]
    assert set(rig.notes) == {"staging keeps to the VMs that it knows: libvirt is away"}


def test_who_cannot_be_staged_for_is_said_once(rig: Rig) -> None:
    rig.child.said = {"refusals": {"a": "its memory is no shared memfd"}}
    for _ in range(3):
        rig.shadowing.turn()
    assert rig.notes == ["memory of a is not staged: its memory is no shared memfd"]
    rig.blocks.said = {"refusals": {"a": "it has no disk"}}
    for _ in range(3):
        rig.shadowing.turn()
    assert rig.notes[1:] == ["blocks of a are not staged: it has no disk"]


def test_whose_reads_are_foreseen_is_told_to_who_throttles(rig: Rig) -> None:
    rig.shadowing.turn()
    assert rig.foreseen == ()
    rig.blocks.said = {"reading": ["a"], "refusals": {}}
    rig.shadowing.turn()
    assert rig.foreseen == ("a",)
    rig.blocks.running = False
    rig.shadowing.turn()
    assert rig.foreseen == ()


def test_a_process_that_died_is_started_again(rig: Rig) -> None:
    rig.shadowing.turn()
    rig.child.running = False
    rig.shadowing.turn()
    assert rig.child.running
    assert "has ended and is started anew" in rig.notes[0]


def test_what_is_asked_for_is_told_at_once_and_taken_back(rig: Rig) -> None:
    rig.shadowing.turn()
    made = rig.shadowing.request("b", {"size_bytes": 4096, "hold_seconds": 3})
    places = {place.vm_id: place for place in roster_of(rig.child.told[-1]).places}
    assert places["b"].asked == (Asked(made["name"], 4096, 3.0),)
    assert places["a"].asked == ()
    assert rig.shadowing.cancel(made["name"])["state"] == "cancelled"
    assert all(place.asked == () for place in roster_of(rig.child.told[-1]).places)
    for vm_id, why in (("c", "shadowing of its trust group 'off' is not enabled"), ("e", "it is in no trust group")):
        with pytest.raises(WrongUse, match=f"no memory is staged for '{vm_id}': {why}"):
            rig.shadowing.request(vm_id, {"size_bytes": 4096})


def test_statistics_of_one_group_are_of_that_alone(rig: Rig) -> None:
    with pytest.raises(WrongUse, match="shadowing of a trust group 'on' is not enabled, or none of its VMs runs here"):
        rig.shadowing.statistics(1, "on")
    rig.shadowing.turn()
    assert rig.shadowing.statistics(1, "on")["groups"].keys() == {"on"}, "also before anything is known"
    rig.child.said = {"vms": ["a", "d"], "refusals": {"b": "no", "d": "neither"}, "groups": {"on": {}, "long": {}}}
    found = rig.shadowing.statistics(1, "on")
    assert (found["vms"], found["refusals"], list(found["groups"])) == (["a"], {"b": "no"}, ["on"])


def test_statistics_of_blocks_stand_beside_those_of_memory(rig: Rig) -> None:
    rig.shadowing.turn()
    rig.child.said = {"vms": ["a"], "groups": {"on": {"vms": 1, "hits": 3}}}
    rig.blocks.said = {"vms": ["b"], "resting": ["b"], "groups": {"on": {"vms": 1, "hits": 8}, "long": {"vms": 30}}}
    found = rig.shadowing.statistics(1)
    assert (found["groups"]["on"]["hits"], found["blocks"]["groups"]["on"]["hits"]) == (3, 8)
    assert (found["vms"], found["blocks"]["vms"], found["blocks"]["resting"]) == (["a"], ["b"], ["b"])
    summary = rig.shadowing.statistics(10)["blocks"]
    assert (list(summary["groups"]), summary["vms"], summary["resting"]) == (["long"], [], [])
    assert rig.shadowing.status("blocks")["vms"] == ["b"]


def test_where_memory_is_not_staged_none_can_be_asked_for(rig: Rig) -> None:
    del rig.shadowing._kept["memory"]
    rig.shadowing.turn()
    with pytest.raises(WrongUse, match="memory is off"):
        rig.shadowing.request("a", {"size_bytes": 4096})


def test_a_summary_tells_no_small_groups_and_no_names(rig: Rig) -> None:
    assert rig.shadowing.statistics(1)["groups"] == {}
    rig.shadowing.turn()
    rig.child.said = {"vms": ["a"], "refusals": {"b": "no"}, "groups": {"on": {"vms": 12}, "long": {"vms": 9}}}
    assert rig.shadowing.statistics(1)["groups"].keys() == {"on", "long"}
    summary = rig.shadowing.statistics(10)
    assert summary["groups"] == {"on": {"vms": 12}}
    assert (summary["vms"], summary["refusals"]) == ([], {})


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "is not a roster"),
        (b'{"places": [{"vm_id": 7}]}', "is not a roster"),
        (roster_line(ShadowRoster((Place("a", "r", 0, "g", 1.0),))), "'a' has no horizon or no process"),
        (roster_line(ShadowRoster((Place("a", "r", 7, "g", 0.0),))), "'a' has no horizon or no process"),
        (roster_line(ShadowRoster((Place("a", "r", 7, "g", 1.0),) * 2)), "a VM is there twice"),
        (roster_line(ShadowRoster((), -1.0)), "it has no lease"),
    ],
)
def test_what_is_no_roster_is_refused(line: bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        roster_of(line)


class Vm:
    """A process that stands for a VM."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, "-c", GUEST], stdin=pipe, stdout=pipe, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def take(self, first: int, end: int) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{first} {end}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def populated(self) -> int:
        """Pages that the host holds for it; by a memfd's own count, for who maps its memory is in the way."""
        for descriptor in os.listdir(f"/proc/{self.process.pid}/fd"):
            path = f"/proc/{self.process.pid}/fd/{descriptor}"
            if os.readlink(path).startswith("/memfd:"):
                return os.stat(path).st_blocks * 512 // 4096
        return 0

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def vm() -> Iterator[Vm]:
    vm = Vm()
    yield vm
    vm.end()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[LoopProcess]:
    options = ("--block-bytes", str(64 << 12), "--keep-free-bytes", "0", "--least-precision", "0")
    command = (sys.executable, "-m", "forestall", "staging", *options, "--core-ratio-per-ten-vms", "1")
    loop = LoopProcess((*command, "--state-folder", str(tmp_path / "state")))
    yield loop
    loop.end()


def tell(loop: LoopProcess, vm: Vm, *, acting: bool = True, horizon: float = 600.0, lease: float | None = None) -> None:
    loop.tell(roster_line(ShadowRoster((Place("vm", "1", vm.process.pid, "g", horizon, acting),), lease)))


def staged(loop: LoopProcess) -> int:
    """Pages that it says are staged."""
    return int(loop.status().get("staged_bytes", 0)) // 4096


def stage_some(loop: LoopProcess, vm: Vm) -> None:
    """Have something staged for a VM that has taken 500 pages."""
    loop.begin()
    tell(loop, vm)
    wait_until(lambda: loop.status().get("vms") == ["vm"], "it is shadowed")
    vm.take(0, 500)
    wait_until(lambda: vm.populated() > 500 and staged(loop) == vm.populated() - 500, "something is staged")


@pytest.mark.slow
def test_memory_is_staged_and_given_back_when_the_pipe_ends(loop: LoopProcess, vm: Vm) -> None:
    stage_some(loop, vm)
    assert loop.status()["groups"]["g"]["staged"] > 0
    assert loop.end() == 0
    assert vm.populated() == 500


@pytest.mark.slow
def test_what_a_killed_one_has_staged_the_next_gives_back(loop: LoopProcess, vm: Vm) -> None:
    stage_some(loop, vm)
    assert loop._process is not None
    os.kill(loop._process.pid, signal.SIGKILL)
    loop._process.wait()
    assert vm.populated() > 500
    loop.begin()
    tell(loop, vm, horizon=0.5)
    wait_until(lambda: vm.populated() == 500, "nothing is staged")
    assert loop.alive()


@pytest.mark.slow
def test_a_daemon_that_says_nothing_for_a_lease_counts_as_gone(loop: LoopProcess, vm: Vm) -> None:
    loop.begin()
    tell(loop, vm, lease=2.0)
    wait_until(lambda: loop.status().get("vms") == ["vm"], "it is shadowed")
    vm.take(0, 500)
    wait_until(lambda: vm.populated() > 500, "something is staged")
    wait_until(lambda: vm.populated() == 500 and loop.status()["vms"] == [], "everything is given back")
    assert loop.alive()


@pytest.mark.slow
def test_advice_populates_nothing(loop: LoopProcess, vm: Vm) -> None:
    loop.begin()
    tell(loop, vm, acting=False)
    wait_until(lambda: loop.status().get("vms") == ["vm"], "it is shadowed")
    for first in range(0, 3000, 100):
        vm.take(first, first + 100)
        select.select([], [], [], 0.02)
    wait_until(lambda: loop.status()["groups"]["g"]["hits"] > 0, "it is counted what would have been")
    assert vm.populated() == 3000


@pytest.mark.slow
def test_a_line_that_is_no_roster_changes_nothing(vm: Vm, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "forestall", "staging", "--state-folder", str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        _, said = process.communicate(b"nonsense\n")
    assert process.returncode == 0
    assert said.startswith(b"forestall: is not a roster: ")
