"""DAMON, by a tree of files that behaves as the kernel says: taken only while it is free, and given back whole."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from forestall.adapters.linux.damon import (
    AGAIN_SECONDS,
    BUSY_SECONDS,
    LEASE_SECONDS,
    LEAST_SECONDS,
    MOST_RANGES,
    MOST_SECONDS,
    NOTE,
    PERIOD_SECONDS,
    Damon,
    DamonWatch,
    end_left_over,
)
from forestall.adapters.linux.kdamonds import SAMPLES, THREADS, Region, Sysfs
from forestall.model.errors import Unsupported
from forestall.ports.guest_pages import Used, UsedRange

MIB = 1 << 20
START = 0x7F0000000000
WHAT = ("sz", "nr_accesses", "age")
COUNT = "kdamonds/nr_kdamonds"


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class Kernel:
    """DAMON's tree of files: folders come and go with their counts, of threads only while none is on."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.busy = self.exclusive = False
        self.processes = {71, 72, 73}
        self.regions: dict[int, list[tuple[int, int, int, int]]] = {}
        (root / "kdamonds").mkdir(parents=True)
        (root / COUNT).write_text("0")

    def read(self, name: str) -> str:
        if name.endswith("/pid") and self.busy:
            raise error(errno.EBUSY)
        if name.endswith("/state") and self._is_on(name) and self._target(name) not in self.processes:
            self._set(name, "off")
        return Sysfs(self.root).read(name)

    def names(self, folder: str) -> list[str]:
        return Sysfs(self.root).names(folder)

    def write(self, name: str, text: str) -> None:
        assert (self.root / name).is_file(), name
        if self.busy:
            raise error(errno.EBUSY)
        folder, _, last = name.rpartition("/")
        if last == "nr_kdamonds":
            if any(state.read_text() == "on" for state in self.root.glob("kdamonds/*/state")):
                raise error(errno.EBUSY)
            self._folders(folder, int(text), {"state": "off", "pid": "-1", "contexts/nr_contexts": "0"})
        elif last == "nr_contexts":
            intervals = {f"monitoring_attrs/intervals/{one}_us": "5000" for one in ("sample", "aggr", "update")}
            limits = {"monitoring_attrs/nr_regions/min": "10", "monitoring_attrs/nr_regions/max": "1000"}
            counts = {"targets/nr_targets": "0", "schemes/nr_schemes": "0"}
            self._folders(folder, int(text), {"operations": "vaddr", **intervals, **limits, **counts})
        elif last == "nr_targets":
            self._folders(folder, int(text), {"pid_target": "0", "regions/nr_regions": "0"})
        elif last == "nr_regions":
            self._folders(folder, int(text), {"start": "0", "end": "0"})
        elif last == "nr_schemes":
            limits = {f"access_pattern/{one}/{side}": "0" for one in WHAT for side in ("min", "max")}
            self._folders(folder, int(text), {"action": "stat", "tried_regions/total_bytes": "0", **limits})
        elif last == "state":
            self._command(name, text)
            return
        self._set(name, text)

    def _command(self, name: str, text: str) -> None:
        folder = (self.root / name).parent
        self.read(name)  # it ends with its process
        if text == "on":
            if self.exclusive:
                raise error(errno.EBUSY)
            if self._target(name) not in self.processes:
                raise error(errno.EINVAL)
            self._set(f"kdamonds/{folder.name}/pid", "900")
            self._set(name, "on")
        elif text == "off":
            if not self._is_on(name):
                raise error(errno.EPERM)
            self._set(name, "off")
        elif not self._is_on(name):
            raise error(errno.EINVAL)
        elif text == "update_schemes_tried_regions":
            most = folder / "contexts/0/schemes/0/access_pattern"
            assert all(int((most / one / "max").read_text()) > 1 << 31 for one in WHAT)
            tried = f"kdamonds/{folder.name}/contexts/0/schemes/0/tried_regions"
            for old in [old for old in (self.root / tried).iterdir() if old.is_dir()]:
                shutil.rmtree(old)
            for k, values in enumerate(self.regions.get(self._target(name), [])):
                (self.root / tried / str(k)).mkdir()
                for one, value in zip(("start", "end", "nr_accesses", "age"), values, strict=True):
                    self._set(f"{tried}/{k}/{one}", str(value))
        else:
            assert text == "commit"

    def _target(self, name: str) -> int:
        return int((self.root / name).parent.joinpath("contexts/0/targets/0/pid_target").read_text())

    def _is_on(self, name: str) -> bool:
        return (self.root / name).read_text() == "on"

    def _folders(self, folder: str, count: int, files: dict[str, str]) -> None:
        for old in [old for old in (self.root / folder).iterdir() if old.is_dir() and old.name.isdecimal()]:
            shutil.rmtree(old)
        for k in range(count):
            for name, text in files.items():
                path = self.root / folder / str(k) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

    def _set(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def on(self) -> list[int]:
        """Processes that are looked at."""
        return sorted(self._target(str(p)) for p in self.root.glob("kdamonds/*/state") if p.read_text() == "on")

    def everything(self) -> dict[str, str]:
        return {str(path): path.read_text() for path in self.root.rglob("*") if path.is_file()}


class Rig:
    """DAMON on a kernel, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.kernel = Kernel(folder / "sys")
        self.state = folder / "state"
        self.now, self.cpu = 1_000.0, 0.0
        self.notes: list[str] = []

    def damon(self) -> Damon:
        return Damon(
            self.state, 0.0005, self.notes.append, self.kernel, lambda: self.now,
            lambda pid: self.cpu if pid == 900 else 1 / 0,
        )  # fmt: skip

    def beat(self, damon: Damon, seconds: float = 0.2) -> None:
        self.now += seconds
        damon.beat()

    def watched(self, damon: Damon, pid: int = 71, size_bytes: int = MIB) -> DamonWatch:
        """A VM that somebody has asked about, and that is watched."""
        watch = damon.watch(pid, START, size_bytes)
        with pytest.raises(Unsupported, match="has not begun"):
            watch.used()
        self.beat(damon)
        return watch

    def count(self) -> int:
        return int((self.kernel.root / COUNT).read_text())


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_what_is_used_is_told_by_address(rig: Rig) -> None:
    rig.kernel.regions[71] = [
        (START + 8 * MIB, START + 10 * MIB, SAMPLES, 3),
        (START - MIB, START + MIB, SAMPLES // 2, 0),
        (START + MIB, START + 8 * MIB, 0, int(PERIOD_SECONDS / (SAMPLES * 0.2)) - 1),
        (START + 10 * MIB, START + 12 * MIB, 0, 2),
    ]
    damon = rig.damon()
    watch = rig.watched(damon, size_bytes=12 * MIB)
    assert watch.used() is None
    rig.beat(damon, PERIOD_SECONDS / 2)
    assert watch.used() is None
    rig.beat(damon, PERIOD_SECONDS)
    ranges = (UsedRange(0, MIB, 0.5), UsedRange(8 * MIB, 2 * MIB, 1.0), UsedRange(10 * MIB, 2 * MIB, 0.0))
    assert watch.used() == Used(5 * MIB, ranges)
    context = rig.kernel.root / "kdamonds/0/contexts/0"
    assert (context / "operations").read_text() == "fvaddr"
    region = context / "targets/0/regions/0"
    assert [int((region / side).read_text()) for side in ("start", "end")] == [START, START + 12 * MIB]


def test_neighbours_that_are_used_alike_are_one_and_the_busiest_are_told() -> None:
    watch = DamonWatch(71, 0, 1000 * MIB, lambda: 0.0)
    together = [Region(k * MIB, (k + 1) * MIB, SAMPLES, 0) for k in range(10)]
    apart = [Region((20 + 2 * k) * MIB, (21 + 2 * k) * MIB, 1 + k % 3, 0) for k in range(45)]
    watch.take([*apart, *together], 0.2)
    busiest = [UsedRange(one.start, MIB, 3 / SAMPLES) for one in apart if one.accesses == 3]
    assert len(busiest) == MOST_RANGES - 1
    assert watch.found == Used(55 * MIB, (UsedRange(0, 10 * MIB, 1.0), *busiest))


def test_it_is_taken_when_it_is_wanted_and_given_back_when_it_is_not(rig: Rig) -> None:
    damon = rig.damon()
    watch = damon.watch(71, START, MIB)
    rig.beat(damon)
    assert rig.count() == 0, "nobody has asked"
    with pytest.raises(Unsupported):
        watch.used()
    rig.beat(damon)
    assert (rig.count(), rig.kernel.on()) == (THREADS, [71])
    second = rig.watched(damon, 72)
    assert rig.kernel.on() == [71, 72]
    watch.close()
    rig.beat(damon)
    assert rig.kernel.on() == [72]
    rig.beat(damon, LEASE_SECONDS + 1.0)
    assert rig.kernel.on() == [], "nobody asks any more"
    rig.beat(damon)
    assert rig.count() == 0
    assert not (rig.state / NOTE).exists()
    with pytest.raises(Unsupported):
        second.used()
    rig.beat(damon)
    assert rig.kernel.on() == [72], "somebody asks again"
    assert rig.notes == []


def foreign(kernel: Kernel, threads: int, operations: str, targets: int = 1) -> None:
    kernel.write(COUNT, str(threads))
    kernel.write("kdamonds/0/contexts/nr_contexts", "1")
    kernel.write("kdamonds/0/contexts/0/operations", operations)
    kernel.write("kdamonds/0/contexts/0/targets/nr_targets", str(targets))


@pytest.mark.parametrize("threads", [1, THREADS])
@pytest.mark.parametrize("operations", ["paddr", "vaddr"])
@pytest.mark.parametrize("note", [None, "1", str(THREADS), "[]", "\0", ""])
def test_what_somebody_else_uses_is_left_alone(rig: Rig, threads: int, operations: str, note: str | None) -> None:
    foreign(rig.kernel, threads, operations)
    if note is not None:
        rig.state.mkdir()
        (rig.state / NOTE).write_text(note)
    before = rig.kernel.everything()
    damon = rig.damon()
    watch = damon.watch(71, START, MIB)
    for _ in range(3):
        with pytest.raises(Unsupported):
            watch.used()
        rig.beat(damon, AGAIN_SECONDS + 1.0)
    with pytest.raises(Unsupported, match="somebody else uses it"):
        watch.used()
    assert rig.kernel.everything() == before
    assert len(rig.notes) == 1
    end_left_over(rig.state, rig.kernel)
    assert rig.kernel.everything() == before


def test_one_like_ours_that_was_not_written_down_is_somebody_elses(rig: Rig) -> None:
    foreign(rig.kernel, THREADS, "fvaddr")
    before = rig.kernel.everything()
    damon, watch = (damon := rig.damon()), damon.watch(71, START, MIB)
    with pytest.raises(Unsupported):
        watch.used()
    rig.beat(damon)
    assert rig.kernel.everything() == before


def test_who_takes_it_from_us_keeps_it(rig: Rig) -> None:
    damon = rig.damon()
    watch = rig.watched(damon)
    rig.kernel.processes.discard(71)  # ours is idle now, and the kernel lets anybody take it
    rig.kernel.read("kdamonds/0/state")
    foreign(rig.kernel, 1, "paddr")
    before = rig.kernel.everything()
    other = damon.watch(72, START, MIB)
    for _ in range(4):
        with pytest.raises(Unsupported):
            other.used()
        rig.beat(damon)
    watch.close()
    other.close()
    rig.beat(damon)
    rig.beat(damon)
    assert rig.kernel.everything() == before
    rig.kernel.write(COUNT, "0")
    third = damon.watch(73, START, MIB)
    with pytest.raises(Unsupported):
        third.used()
    rig.beat(damon, AGAIN_SECONDS + 1.0)
    assert rig.kernel.on() == [73], "free again"


DIES = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_damon
rig = object.__new__(test_damon.Rig)
rig.kernel, rig.state, rig.now, rig.cpu, rig.notes = object.__new__(test_damon.Kernel), Path({state!r}), 0.0, 0.0, []
rig.kernel.root, rig.kernel.busy, rig.kernel.exclusive = Path({root!r}), False, False
rig.kernel.processes, rig.kernel.regions = {{71}}, {{}}
damon = rig.damon()
rig.watched(damon)
print("on", flush=True)
sys.stdin.read()
"""


def test_who_comes_after_one_that_died_takes_over_and_not_while_it_lives(rig: Rig) -> None:
    program = DIES.format(here=str(Path(__file__).parent), state=str(rig.state), root=str(rig.kernel.root))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "on\n"
        damon = rig.damon()
        watch = damon.watch(72, START, MIB)
        with pytest.raises(Unsupported):
            watch.used()
        rig.beat(damon)
        assert rig.kernel.on() == [71]
        with pytest.raises(Unsupported, match="another process of Forestall uses it"):
            watch.used()
        end_left_over(rig.state, rig.kernel)
        assert rig.kernel.on() == [71]
        first.kill()
        first.wait()
    rig.beat(damon, AGAIN_SECONDS + 1.0)
    assert rig.kernel.on() == [72]


@pytest.mark.parametrize("half_begun", [False, True])
def test_what_one_that_died_has_left_is_given_back(rig: Rig, half_begun: bool) -> None:
    rig.state.mkdir()
    (rig.state / NOTE).write_text(str(THREADS))
    if half_begun:
        rig.kernel.write(COUNT, str(THREADS))
        rig.kernel.write("kdamonds/3/contexts/nr_contexts", "1")
    else:
        foreign(rig.kernel, THREADS, "fvaddr")
    end_left_over(rig.state, rig.kernel)
    assert rig.count() == 0
    assert not (rig.state / NOTE).exists()
    end_left_over(rig.state, rig.kernel)


def test_a_kernel_without_it(tmp_path: Path) -> None:
    notes: list[str] = []
    damon = Damon(tmp_path, 0.0005, notes.append, Sysfs(tmp_path / "nothing"), lambda: 5.0)
    watch = damon.watch(71, START, MIB)
    for _ in range(2):
        with pytest.raises(Unsupported):
            watch.used()
        damon.beat()
    (told,) = notes
    assert "No such file" in told


def test_a_process_that_ends_is_not_watched_any_more(rig: Rig) -> None:
    damon = rig.damon()
    gone, stays = rig.watched(damon, 71), rig.watched(damon, 72)
    never = damon.watch(5, START, MIB)
    with pytest.raises(Unsupported):
        never.used()
    rig.beat(damon)
    with pytest.raises(Unsupported, match="process 5: Invalid"):
        never.used()
    rig.kernel.processes.discard(71)
    for _ in range(3):
        rig.beat(damon, PERIOD_SECONDS / 2)
    with pytest.raises(Unsupported, match="process 71"):
        gone.used()
    assert stays.used() == Used(0)
    assert rig.kernel.on() == [72]
    rig.watched(damon, 73)
    assert rig.kernel.on() == [72, 73]


def test_more_vms_than_there_are_threads(rig: Rig) -> None:
    damon = rig.damon()
    watches = [damon.watch(71, START, MIB) for _ in range(THREADS + 1)]
    for _ in range(THREADS + 3):
        for watch in watches:
            watch.wanted_at = rig.now
        rig.beat(damon)
    assert len(rig.kernel.on()) == THREADS
    watches[0].close()
    rig.beat(damon)
    rig.beat(damon)
    assert len(rig.kernel.on()) == THREADS


def test_while_somebody_else_asks_the_kernel_it_is_tried_again(rig: Rig) -> None:
    damon = rig.damon()
    watch = damon.watch(71, START, MIB)
    with pytest.raises(Unsupported):
        watch.used()
    rig.kernel.busy = True
    rig.beat(damon)
    rig.kernel.busy = False
    rig.beat(damon)
    assert rig.kernel.on() == [71]
    rig.kernel.busy = True
    rig.beat(damon, PERIOD_SECONDS + 1.0)
    rig.kernel.busy = False
    rig.beat(damon)
    assert watch.used() == Used(0)
    assert rig.notes == []


def test_who_has_the_kernels_own_modules_run_keeps_them(rig: Rig) -> None:
    """They want DAMON for themselves, and are not seen in its tree."""
    rig.kernel.exclusive = True
    damon = rig.damon()
    watch = damon.watch(71, START, MIB)
    with pytest.raises(Unsupported):
        watch.used()
    for _ in range(int(BUSY_SECONDS) + 3):
        rig.beat(damon, 1.0)
    assert rig.count() == 0, "nobody else is kept out"
    with pytest.raises(Unsupported, match="busy"):
        watch.used()
    assert len(rig.notes) == 1
    rig.kernel.exclusive = False
    rig.beat(damon, AGAIN_SECONDS)
    assert rig.kernel.on() == [71]


def test_how_often_it_looks_follows_what_it_costs(rig: Rig) -> None:
    damon = rig.damon()
    watch = rig.watched(damon)

    def after(looks: int, cost_ratio: float) -> float:
        for _ in range(looks):
            rig.cpu += cost_ratio * PERIOD_SECONDS
            watch.wanted_at = rig.now
            rig.beat(damon, PERIOD_SECONDS)
        return damon._on[0].sample_seconds if damon._on else 0.0

    assert after(3, 0.001) == MOST_SECONDS
    aggregated = rig.kernel.root / "kdamonds/0/contexts/0/monitoring_attrs/intervals/aggr_us"
    assert int(aggregated.read_text()) == SAMPLES * MOST_SECONDS * 1e6
    assert after(3, 0.0003) == MOST_SECONDS
    assert after(5, 0.00001) == LEAST_SECONDS
    assert after(6, 0.01) == 0.0
    with pytest.raises(Unsupported, match="too much of a core"):
        watch.used()


def test_its_thread_begins_and_ends_it(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path / "sys")
    kernel.processes.add(os.getpid())
    damon = Damon(tmp_path / "state", 0.0005, lambda _: None, kernel)
    watch = damon.watch(os.getpid(), START, MIB)
    damon.start()
    with pytest.raises(Unsupported):
        watch.used()
    while not kernel.on():
        pass
    with (tmp_path / "state" / NOTE).open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    damon.close()
    assert kernel.on() == []
    assert (kernel.root / COUNT).read_text() == "0"
