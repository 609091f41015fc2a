"""DAMON, by a tree of files that behaves as the kernel says: taken only while it is free, and given back whole."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from forestall.adapters.linux.damon import LEAST_SECONDS, MOST_SECONDS, NOTE, PERIOD_SECONDS, Damon
from forestall.adapters.linux.kdamonds import SAMPLES, THREADS, Sysfs
from forestall.model.errors import Unsupported
from forestall.ports.guest_pages import UsedRange

MIB = 1 << 20
START = 0x7F0000000000
WHAT = ("sz", "nr_accesses", "age")


class Kernel:
    """DAMON's tree of files: folders come with their counts, nothing changes in number while a thread is on."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.busy = False
        self.processes = {71, 72, 73}
        self.regions: dict[int, list[tuple[int, int, int, int]]] = {}
        self.began: list[int] = []
        (root / "kdamonds").mkdir(parents=True)
        (root / "kdamonds/nr_kdamonds").write_text("0")

    def read(self, name: str) -> str:
        if name.endswith("/state") and self._is_on(name):
            target = int((self.root / name).parent.joinpath("contexts/0/targets/0/pid_target").read_text())
            if target not in self.processes:
                self._set(name, "off")
        return Sysfs(self.root).read(name)

    def names(self, folder: str) -> list[str]:
        return Sysfs(self.root).names(folder)

    def write(self, name: str, text: str) -> None:
        assert (self.root / name).is_file(), name
        if self.busy:
            raise OSError(errno.EBUSY, "Device or resource busy")
        folder, _, last = name.rpartition("/")
        if last == "nr_kdamonds":
            if any(state.read_text() == "on" for state in self.root.glob("kdamonds/*/state")):
                raise OSError(errno.EBUSY, "Device or resource busy")
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
        if text == "on":
            target = int((folder / "contexts/0/targets/0/pid_target").read_text())
            if target not in self.processes:
                raise OSError(errno.EINVAL, "Invalid argument")
            self.began.append(target)
            self._set(f"kdamonds/{folder.name}/pid", "900")
            self._set(name, "on")
        elif not self._is_on(name):
            raise OSError(errno.EINVAL, "Invalid argument")
        elif text == "off":
            self._set(name, "off")
        elif text == "update_schemes_tried_regions":
            most = folder / "contexts/0/schemes/0/access_pattern"
            assert all(int((most / one / "max").read_text()) > 1 << 31 for one in WHAT)
            target = int((folder / "contexts/0/targets/0/pid_target").read_text())
            tried = f"kdamonds/{folder.name}/contexts/0/schemes/0/tried_regions"
            for k, values in enumerate(self.regions.get(target, [])):
                (self.root / tried / str(k)).mkdir(exist_ok=True)
                for one, value in zip(("start", "end", "nr_accesses", "age"), values, strict=True):
                    self._set(f"{tried}/{k}/{one}", str(value))
        else:
            assert text == "commit"

    def _is_on(self, name: str) -> bool:
        return (self.root / name).read_text() == "on"

    def _folders(self, folder: str, count: int, files: dict[str, str]) -> None:
        for name in files:
            for k in range(count):
                path = self.root / folder / str(k) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(files[name])

    def _set(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)


class Rig:
    """DAMON on a kernel, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.kernel = Kernel(folder / "sys")
        self.state = folder / "state"
        self.now, self.cpu = 1_000.0, 0.0

    def damon(self) -> Damon:
        return Damon(self.state, 0.0005, self.kernel, lambda: self.now, lambda pid: self.cpu if pid == 900 else 1 / 0)

    def beat(self, damon: Damon, seconds: float = PERIOD_SECONDS) -> None:
        self.now += seconds
        damon.beat()

    def states(self) -> list[str]:
        return [path.read_text() for path in sorted(self.kernel.root.glob("kdamonds/*/state"))]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_what_is_used_is_told_by_address(rig: Rig) -> None:
    rig.kernel.regions[71] = [
        (START + 8 * MIB, START + 10 * MIB, SAMPLES, 3),
        (START - MIB, START + MIB, SAMPLES // 2, 0),
        (START + MIB, START + 8 * MIB, 0, 1000),
        (START + 10 * MIB, START + 12 * MIB, 0, 2),
    ]
    damon = rig.damon()
    watch = damon.watch(71, START, 12 * MIB)
    damon.beat()
    assert watch.used() is None
    rig.beat(damon, PERIOD_SECONDS / 2)
    assert watch.used() is None
    rig.beat(damon)
    assert watch.used() == (
        UsedRange(0, MIB, 0.5),
        UsedRange(8 * MIB, 2 * MIB, 1.0),
        UsedRange(10 * MIB, 2 * MIB, 0.0),
    )
    context = rig.kernel.root / "kdamonds/0/contexts/0"
    assert (context / "operations").read_text() == "fvaddr"
    region = context / "targets/0/regions/0"
    assert [int((region / side).read_text()) for side in ("start", "end")] == [START, START + 12 * MIB]


def test_everything_is_given_back(rig: Rig) -> None:
    damon = rig.damon()
    watches = [damon.watch(pid, START, MIB) for pid in (71, 72)]
    damon.beat()
    assert rig.states()[:3].count("on") == 2
    watches[0].close()
    damon.beat()
    assert rig.states().count("on") == 1
    third = damon.watch(73, START, MIB)
    damon.beat()
    assert rig.states().count("on") == 2
    assert third.used() is None
    damon.close()
    assert rig.states().count("on") == 0
    assert (rig.kernel.root / "kdamonds/nr_kdamonds").read_text() == "0"
    assert not (rig.state / NOTE).exists()
    assert rig.damon() is not None


def foreign(kernel: Kernel, threads: int, operations: str) -> None:
    kernel.write("kdamonds/nr_kdamonds", str(threads))
    kernel.write("kdamonds/0/contexts/nr_contexts", "1")
    kernel.write("kdamonds/0/contexts/0/operations", operations)


@pytest.mark.parametrize("threads", [1, THREADS])
@pytest.mark.parametrize("operations", ["paddr", "vaddr"])
@pytest.mark.parametrize("note", [None, '{"kdamonds": 1}', f'{{"kdamonds": {THREADS}}}', "[]", "{", "null"])
def test_what_somebody_else_uses_is_left_alone(rig: Rig, threads: int, operations: str, note: str | None) -> None:
    foreign(rig.kernel, threads, operations)
    if note is not None:
        rig.state.mkdir()
        (rig.state / NOTE).write_text(note)
    before = {path: path.read_text() for path in rig.kernel.root.rglob("*") if path.is_file()}
    with pytest.raises(Unsupported, match="DAMON cannot be used: somebody else uses it"):
        rig.damon()
    assert {path: path.read_text() for path in rig.kernel.root.rglob("*") if path.is_file()} == before


def test_one_like_ours_that_was_not_written_down_is_somebody_elses(rig: Rig) -> None:
    foreign(rig.kernel, THREADS, "fvaddr")
    with pytest.raises(Unsupported):
        rig.damon()


def test_who_comes_after_one_that_died_takes_over(rig: Rig) -> None:
    died = rig.damon()
    died.watch(71, START, MIB)
    died.beat()
    after = rig.damon()
    assert rig.states().count("on") == 0
    watch = after.watch(72, START, MIB)
    rig.kernel.regions[72] = [(START, START + MIB, 1, 0)]
    after.beat()
    rig.beat(after)
    assert watch.used() == (UsedRange(0, MIB, 1 / SAMPLES),)


def test_a_kernel_without_it(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="DAMON cannot be used: No such file"):
        Damon(tmp_path, 0.0005, Sysfs(tmp_path / "nothing"))


def test_a_process_that_ends_is_not_watched_any_more(rig: Rig) -> None:
    damon = rig.damon()
    gone, stays = (damon.watch(pid, START, MIB) for pid in (71, 72))
    never = damon.watch(5, START, MIB)
    damon.beat()
    with pytest.raises(Unsupported, match="process 5: Invalid"):
        never.used()
    rig.kernel.processes.discard(71)
    rig.kernel.read("kdamonds/0/state")
    rig.beat(damon)
    with pytest.raises(Unsupported, match="process 71 any more"):
        gone.used()
    assert stays.used() == ()
    later = damon.watch(73, START, MIB)
    damon.beat()
    assert later.lost == ""


def test_more_vms_than_there_are_threads(rig: Rig) -> None:
    damon = rig.damon()
    watches = [damon.watch(71, START, MIB) for _ in range(THREADS + 1)]
    damon.beat()
    assert [bool(watch.lost) for watch in watches] == [False] * THREADS + [True]


def test_while_somebody_else_asks_the_kernel_it_cannot_be_taken(rig: Rig) -> None:
    rig.kernel.busy = True
    with pytest.raises(Unsupported, match="busy"):
        rig.damon()


def test_how_often_it_looks_follows_what_it_costs(rig: Rig) -> None:
    damon = rig.damon()
    watch = damon.watch(71, START, MIB)
    damon.beat()

    def after(looks: int, cost_ratio: float) -> float:
        for _ in range(looks):
            rig.cpu += cost_ratio * PERIOD_SECONDS
            rig.beat(damon)
        return watch.sample_seconds

    assert after(5, 0.01) == MOST_SECONDS
    aggregated = rig.kernel.root / "kdamonds/0/contexts/0/monitoring_attrs/intervals/aggr_us"
    assert int(aggregated.read_text()) == SAMPLES * MOST_SECONDS * 1e6
    assert after(3, 0.0003) == MOST_SECONDS
    assert after(5, 0.00001) == LEAST_SECONDS
