"""The log of accesses: what was added comes back whatever happens, and answers are those that pandas gives."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forestall.adapters.access_log import background, reading
from forestall.adapters.access_log import recent as recent_module
from forestall.adapters.access_log.background import MOST_WAITING, BackgroundAccessLog
from forestall.adapters.access_log.export import export
from forestall.adapters.access_log.heatmap import heatmap
from forestall.adapters.access_log.log import WRITE_ROWS, WRITE_SECONDS, FileAccessLog
from forestall.adapters.access_log.reading import Logged, Selection, answered
from forestall.adapters.access_log.recent import recent
from forestall.adapters.access_log.rows import SCHEMA, read_part
from forestall.adapters.access_log.runs import runs, runs_of_groups
from forestall.adapters.access_log.uses import KEYS, top
from forestall.adapters.files.group_keys import FileGroupKeys
from forestall.adapters.files.part_files import GROWING, paths_of
from forestall.model.errors import StoreError
from forestall.ports.access_log import BLOCK, MEMORY, PAGE, UNIT_BYTES, Accesses, Source
from forestall.replay.access.trace import read_access_trace
from forestall.staging.written import NOTHING

AT = 1_700_000_000.0
PLENTY = 1 << 30
COLUMNS = SCHEMA.names


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Time:
    return Time()


def accesses(at: Any, number: Any, size_bytes: Any = UNIT_BYTES, write: Any = False) -> Accesses:
    """Accesses of columns that may be given as one value for all."""
    columns = np.broadcast_arrays(at, number, size_bytes, write)
    kinds = (np.float64, np.int64, np.int64, np.bool_)
    return Accesses(*(np.atleast_1d(column).astype(kind) for column, kind in zip(columns, kinds, strict=True)))


def source(vm_id: str = "vm-1", kind: str = PAGE, place: str = MEMORY, group: str = "red", **more: str) -> Source:
    return Source(vm_id, group, more.pop("generation", "1"), kind, place, **more)


def rows_of(found: Source, some: Accesses) -> pd.DataFrame:
    """What is to come back."""
    names = {name: getattr(found, name) for name in ("vm_id", "program_id", "group", "generation", "kind", "place")}
    values = {"at": some.at, "number": some.number.view(np.uint64), "size_bytes": some.size_bytes, "write": some.write}
    return pd.DataFrame({**names, **values}, index=range(len(some)))[COLUMNS]


def held(folder: Path, name: str | None = None) -> pd.DataFrame:
    """All that the files hold, in their order."""
    table = pa.concat_tables([SCHEMA.empty_table(), *map(read_part, paths_of(folder, name))])
    return table.to_pandas().astype(dict.fromkeys(COLUMNS[1:7], object))


def numbers(folder: Path, name: str | None = None) -> list[int]:
    return [int(number) for number in held(folder, name)["number"]]


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_exact=True)


NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=5)
SOURCES = st.builds(
    Source, NAMES, NAMES, NAMES, st.sampled_from([PAGE, BLOCK]), st.sampled_from([MEMORY, "/a", "/b'c"]), NAMES
)
ROWS = st.lists(
    st.tuples(st.floats(0, 4e9), st.integers(0, (1 << 63) - 1), st.integers(0, 1 << 40), st.booleans()),
    max_size=6,
)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(SOURCES, ROWS, st.sampled_from([0.0, 0.3, 5.0])), max_size=12), st.integers(1, 20), st.booleans()
)
def test_what_was_added_comes_back(steps: list[Any], most_rows: int, killed: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, now = Path(name) / "access", Time()
        log = FileAccessLog(folder, "memory", most_rows=most_rows, most_bytes=PLENTY, now=now)
        expected = [rows_of(source(), accesses([], []))]
        for who, rows, pause in steps:
            some = accesses(*zip(*rows, strict=True)) if rows else accesses([], [])
            log.add(who, some)
            expected.append(rows_of(who, some))
            now.seconds += pause
        now.seconds += WRITE_SECONDS
        log.add(source(), accesses([], []))
        if killed:
            log._lock.close()
        else:
            log.close()
        frame = pd.concat(expected, ignore_index=True)
        assert_same(held(folder), frame)

        def everything(logged: Logged) -> list[dict[str, Any]]:
            return logged.fetch("FROM accesses ORDER BY part, position")

        answer = pd.DataFrame(answered(folder, Selection(), everything), columns=[*_RENAMED.values()])
        assert_same(answer.rename(columns={new: old for old, new in _RENAMED.items()})[COLUMNS], frame)
        FileAccessLog(folder, "memory", most_bytes=PLENTY, now=now).close()
        assert_same(held(folder), frame)
        assert not list(folder.glob(f"*{GROWING}"))


_RENAMED = {name: {"at": "instant", "group": "trust_group", "write": "is_write"}.get(name, name) for name in COLUMNS}


def test_it_is_written_soon_but_not_at_once(tmp_path: Path, now: Time) -> None:
    log = FileAccessLog(tmp_path, "memory", most_bytes=PLENTY, now=now)
    log.add(source(), accesses(AT, 1))
    assert numbers(tmp_path) == []
    now.seconds = 1.0
    log.add(source(), accesses([], []))
    assert numbers(tmp_path) == [1]
    log.add(source(), accesses(AT, np.arange(WRITE_ROWS - 1)))
    assert len(numbers(tmp_path)) == 1
    log.add(source(), accesses(AT, 7))
    assert len(numbers(tmp_path)) == 1 + WRITE_ROWS
    log.add(source(), accesses(AT, 8))
    log.close()
    assert numbers(tmp_path)[-1] == 8


def test_names_that_are_no_text_do_not_stop_the_log(tmp_path: Path, now: Time) -> None:
    log = FileAccessLog(tmp_path, "blocks", most_bytes=PLENTY, now=now)
    log.add(source(kind=BLOCK, place="/disk-\udcff"), accesses(AT, 1))
    log.close()
    assert held(tmp_path)["place"].tolist() == ["/disk-\\udcff"]


def test_only_the_owner_can_read_it(tmp_path: Path, now: Time) -> None:
    folder = tmp_path / "access"
    folder.mkdir(mode=0o755)
    log = FileAccessLog(folder, "memory", most_rows=1, most_bytes=PLENTY, now=now)
    for _ in range(2):
        now.seconds += 1
        log.add(source(), accesses(AT, 1))
    log._most_rows = 10
    now.seconds += 1
    log.add(source(), accesses(AT, 1))
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == dict.fromkeys(
        ("memory.lock", "memory-000001.parquet", "memory-000002.parquet", "memory-000003.arrows"), 0o600
    )
    log.close()


PREAMBLE = """
import resource, sys
from pathlib import Path
import numpy as np
from forestall.adapters.access_log.log import FileAccessLog
from forestall.model.errors import StoreError
from forestall.ports.access_log import Accesses, Source
folder, most_rows = Path(sys.argv[1]), int(sys.argv[2])
source, seconds = Source("vm-1", "red", "1", "page", "memory"), 0.0
log = FileAccessLog(folder, "memory", most_rows=most_rows, most_bytes=1 << 30, now=lambda: seconds)
def add(number, rows=1):
    log.add(source, Accesses(*(np.full(rows, x) for x in (1.7e9, number, 4096, False))))
"""
WRITE_ON = """
number = 0
while True:
    seconds = number / 10
    add(number)
    print(number, flush=True)
    number += 1
"""


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process of its own that writes to a log."""
    command = [sys.executable, "-c", PREAMBLE + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("most_rows", [25, 100_000])
def test_kill_9_loses_the_last_second_and_the_log_goes_on(tmp_path: Path, now: Time, most_rows: int) -> None:
    folder = tmp_path / "access"
    with child(WRITE_ON, folder, most_rows) as process:
        assert process.stdout is not None
        for _ in range(137):
            last = int(process.stdout.readline())
        process.kill()
        last = max([last, *(int(line) for line in process.stdout.read().splitlines()[:-1])])
    kept = numbers(folder)
    assert kept == list(range(len(kept)))
    assert len(kept) > last - 11  # ten are added in a second
    assert [use.accesses for use in top(folder, Selection(), by="vm", most=1)] == [len(kept)]
    log = FileAccessLog(folder, "memory", most_bytes=PLENTY, now=now)
    assert numbers(folder) == kept
    assert not list(folder.glob(f"*{GROWING}"))
    log.add(source(), accesses(AT, 77))
    log.close()
    assert numbers(folder) == [*kept, 77]


FULL_DISK = """
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
written = lost = 0
def attempt(number):
    global seconds
    seconds += 1
    try:
        add(number, 100)
        return True
    except StoreError as error:
        print(error, flush=True)
        return False
for number in range(3):
    assert attempt(number)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, unlimited[1]))
failures = [number for number in range(3, 13) if not attempt(number)]
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
for number in range(20, 24):
    assert attempt(number)
log.close()
print(*failures)
"""


def test_a_write_that_fails_costs_only_itself(tmp_path: Path) -> None:
    folder = tmp_path / "access"
    with child(FULL_DISK, folder, 100_000) as process:
        assert process.stdout is not None
        *told, failures = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert told
    assert all(line.startswith(f"{folder}: cannot be read or written: ") for line in told)
    lost = {int(number) for number in failures.split()}
    assert len(told) == len(lost)
    expected = [number for number in (*range(13), *range(20, 24)) if number not in lost]
    assert numbers(folder) == [number for number in expected for _ in range(100)]
    assert {path.suffix for path in folder.iterdir()} == {".parquet", ".lock"}


def test_a_part_that_cannot_become_full_becomes_so_later(
    tmp_path: Path, now: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = FileAccessLog(tmp_path, "memory", most_rows=2, most_bytes=PLENTY, now=now)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pyarrow.parquet, "write_table", refuse)
        for number in (1, 3, 5):
            now.seconds += 1
            with pytest.raises(StoreError, match="No space left on device"):
                log.add(source(), accesses(AT, [number, number + 1]))
    assert numbers(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert not list(tmp_path.glob("*.tmp"))
    now.seconds += 1
    log.add(source(), accesses(AT, [7, 8]))
    assert numbers(tmp_path) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert not list(tmp_path.glob(f"*{GROWING}"))
    log.close()


@pytest.mark.parametrize("cut", [1, 9, 300, 1500, 100_000])
def test_a_torn_end_is_no_damage(tmp_path: Path, now: Time, cut: int) -> None:
    log = FileAccessLog(tmp_path, "memory", most_bytes=PLENTY, now=now)
    for number in range(5):
        now.seconds += 1
        log.add(source(f"vm-{number}"), accesses(AT, number))
    log._lock.close()
    (part,) = paths_of(tmp_path)
    part.write_bytes(part.read_bytes()[:-cut])
    kept = numbers(tmp_path)
    assert kept == list(range(len(kept)))
    assert len(kept) == {1: 4, 9: 4, 100_000: 0}.get(cut, len(kept))
    assert len(top(tmp_path, Selection(), by="vm", most=9)) == len(kept)
    FileAccessLog(tmp_path, "memory", most_bytes=PLENTY, now=now).close()
    assert numbers(tmp_path) == kept


def test_a_part_that_is_there_in_both_forms_counts_once(tmp_path: Path, now: Time) -> None:
    log = FileAccessLog(tmp_path, "memory", most_rows=2, most_bytes=PLENTY, now=now)
    now.seconds += 1
    log.add(source(), accesses(AT, [1]))
    (growing,) = paths_of(tmp_path)
    before = growing.read_bytes()
    log.close()
    growing.write_bytes(before)
    assert numbers(tmp_path) == [1]
    FileAccessLog(tmp_path, "memory", most_bytes=PLENTY, now=now).close()
    assert numbers(tmp_path) == [1]
    assert not growing.exists()


def test_a_log_stays_within_its_bytes_and_keeps_the_newest(tmp_path: Path, now: Time) -> None:
    most, dice = 400_000, np.random.default_rng(1)
    other = FileAccessLog(tmp_path, "blocks", most_bytes=most, now=now)
    other.add(source(kind=BLOCK, place="/a"), accesses(AT, 1))
    other.close()
    log = FileAccessLog(tmp_path, "memory", most_rows=5000, most_bytes=most, now=now)
    written, sizes = [], []
    for step in range(100):
        some = dice.integers(0, 1 << 40, 2000)
        log.add(source(), accesses(AT + step + dice.random(2000), some))
        written += some.tolist()
        sizes.append(sum(path.stat().st_size for path in paths_of(tmp_path, "memory")))
    log.close()
    assert max(sizes) <= most
    assert min(sizes[-20:]) > most / 2
    kept = numbers(tmp_path, "memory")
    assert 0 < len(kept) < len(written)
    assert kept == written[-len(kept) :]
    assert numbers(tmp_path, "blocks") == [1]
    small = FileAccessLog(tmp_path, "memory", most_bytes=most // 4, now=now)
    assert sum(path.stat().st_size for path in paths_of(tmp_path, "memory")) <= most // 4
    small.close()


def test_one_process_a_name(tmp_path: Path, now: Time) -> None:
    first = FileAccessLog(tmp_path, "memory", most_bytes=PLENTY, now=now)
    with pytest.raises(StoreError, match=r"another process logs accesses there as 'memory'$"):
        FileAccessLog(tmp_path, "memory", most_bytes=PLENTY, now=now)
    FileAccessLog(tmp_path, "blocks", most_bytes=PLENTY, now=now).close()
    first.close()
    FileAccessLog(tmp_path, "memory", most_bytes=PLENTY, now=now).close()


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path, now: Time) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/access: cannot be [^\n]*$"):
        FileAccessLog(tmp_path / "file" / "access", "memory", most_bytes=PLENTY, now=now)
    with pytest.raises(StoreError, match=r"file/access: cannot be [^\n]*$"):
        top(tmp_path / "file" / "access", Selection(), by="vm", most=1)


def test_no_room_for_what_does_not_fit_into_memory_is_one_line(
    filled: tuple[Path, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(StoreError, match=r"No such file or directory$"):
        top(filled[0], Selection(), by="vm", most=1)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def overwritten(path: Path) -> None:
    """Pages in the middle, which are met only while rows are read."""
    content = path.read_bytes()
    path.write_bytes(content[:8] + b"\xa5" * 1000 + content[1008:])


def garbled(path: Path) -> None:
    path.write_bytes(b"no part at all" * 100)


def foreign(path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"at": [1.0]}), path)


def garbled_growing(path: Path) -> None:
    path.unlink()
    garbled(path.with_suffix(GROWING))


def foreign_growing(path: Path) -> None:
    path.unlink()
    batch = pa.record_batch({"at": [1.0]})
    with pa.OSFile(str(path.with_suffix(GROWING)), "wb") as file, pa.ipc.new_stream(file, batch.schema) as writer:
        writer.write_batch(batch)


QUESTIONS: dict[str, Callable[[Path], object]] = {
    "top": lambda folder: top(folder, Selection(), by="item", most=3),
    "runs": lambda folder: runs(folder, Selection(), most=3),
    "heatmap": lambda folder: heatmap(folder, Selection(), rows=2, columns=2),
    "recent": lambda folder: recent(folder, "red", "1", PLENTY),
    "export": lambda folder: export(folder, folder.parent / "t.parquet", Selection(), lambda group: b"key"),
}


@pytest.mark.parametrize("damage", [truncated, overwritten, garbled, foreign, garbled_growing, foreign_growing])
@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_damaged_file_is_named(
    tmp_path: Path, now: Time, damage: Callable[[Path], None], question: Callable[[Path], object]
) -> None:
    folder, dice = tmp_path / "access", np.random.default_rng(1)
    log = FileAccessLog(folder, "memory", most_rows=2000, most_bytes=PLENTY, now=now)
    for _ in range(3):
        log.add(source(), accesses(AT + dice.random(2000), dice.integers(0, 1 << 30, 2000)))
    log.close()
    question(folder)
    damage(folder / "memory-000002.parquet")
    with pytest.raises(StoreError, match=r"memory-000002\.(arrows|parquet): is [^\n]*$"):
        question(folder)


def test_files_that_are_removed_or_become_full_meanwhile_are_no_damage(
    tmp_path: Path, now: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = FileAccessLog(tmp_path, "memory", most_rows=2, most_bytes=PLENTY, now=now)
    for number in range(4):
        now.seconds += 1
        log.add(source(), accesses(AT, [number, number]))
    log.close()
    removed, *kept = paths_of(tmp_path)
    removed.unlink()
    full_now = [path.with_suffix(GROWING) for path in (removed, *kept)]
    for listed in ([removed, *kept], full_now):
        looks = [listed]
        with monkeypatch.context() as patch:
            patch.setattr(reading, "paths_of", lambda folder, looks=looks: looks.pop() if looks else paths_of(folder))
            assert [use.size_bytes for use in top(tmp_path, Selection(), by="vm", most=1)] == [6 * UNIT_BYTES]
        assert looks == []
        with monkeypatch.context() as patch:
            patch.setattr(recent_module, "paths_of", lambda *_, listed=listed: listed)
            assert recent(tmp_path, "red", "1", 10).number.tolist() == [1, 1, 2, 2, 3, 3]


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    assert top(folder, Selection(), by="item", most=3) == []
    assert runs(folder, Selection(), most=3) == ([], [])
    assert runs_of_groups(folder, Selection(), most=3, least_vms=2) == []
    assert heatmap(folder, Selection(), rows=3, columns=3) is None
    assert len(recent(folder, "red", "1", 10)) == 0
    assert export(folder, tmp_path / "t.parquet", Selection(), lambda group: b"key") == 0
    assert list(tmp_path.iterdir()) == []


def made_up(vms: int = 6, steps: int = 60) -> Iterator[tuple[str, Source, Accesses]]:
    """Accesses of some VMs in two trust groups: to memory, to disks of their own, and to one that all share."""
    dice = np.random.default_rng(7)
    for step in range(steps):
        vm = int(dice.integers(vms))
        name = f"vm-{vm}"
        group = "tenant-red" if vm % 2 else "tenant-blue"
        kind, place = [(PAGE, MEMORY), (BLOCK, f"/disks/{vm}"), (BLOCK, "/disks/base")][int(dice.integers(3))]
        who = Source(name, group, str(vm % 3), kind, place, ["", "postgres"][vm % 2])
        count = int(dice.integers(1, 40))
        size = dice.integers(1, 3 * UNIT_BYTES, count)
        starts = dice.integers(0, 50, count)
        number = starts + np.where(dice.random(count) < 0.6, np.cumsum(-(-size // UNIT_BYTES)), 0)
        number = np.where(dice.random(count) < 0.5, np.cumsum(-(-size // UNIT_BYTES)) - -(-size // UNIT_BYTES), number)
        at = AT + 10 * step + np.sort(dice.integers(0, 40, count) / 4)  # some at the same instant
        log = "memory" if kind == PAGE else "blocks"
        yield log, who, accesses(at, number, size, dice.random(count) < 0.3)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A log in full and growing parts, and what is in it by instant; those of one instant are of one source."""
    folder, now, frames = tmp_path_factory.mktemp("filled") / "[a]*", Time(), []
    logs = {
        name: FileAccessLog(folder, name, most_rows=150, most_bytes=PLENTY, now=now) for name in ("memory", "blocks")
    }
    for name, who, some in made_up():
        now.seconds += 1
        logs[name].add(who, some)
        frames.append(rows_of(who, some))
    assert {path.suffix for path in paths_of(folder)} == {".parquet", ".arrows"}
    frame = pd.concat(frames, ignore_index=True).sort_values("at", kind="stable", ignore_index=True)
    frame["owner"] = frame["vm_id"].where(~frame["place"].str.startswith("/"), "")
    return folder, frame.rename(columns={"group": "trust_group"})


SELECTIONS = [
    Selection(),
    Selection(vm_id="vm-1"),
    Selection(kind=BLOCK),
    Selection(place="/disks/base", group="tenant-red"),
    Selection(since=AT + 100.25, until=AT + 301.5),
]


def chosen(frame: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """What a selection means."""
    keep = pd.Series(True, frame.index)
    for column, value in (
        ("vm_id", selection.vm_id),
        ("kind", selection.kind),
        ("place", selection.place),
        ("trust_group", selection.group),
    ):
        keep &= (frame[column] == value) if value is not None else True
    keep &= frame["at"] >= (selection.since or 0)
    keep &= frame["at"] < (selection.until or math.inf)
    return frame[keep]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("by", KEYS)
def test_top_is_what_pandas_counts(filled: tuple[Path, pd.DataFrame], by: str, selection: Selection) -> None:
    folder, frame = filled
    groups = list(chosen(frame, selection).groupby(list(KEYS[by]), sort=True))
    groups.sort(key=lambda group: -len(group[1]))
    found = top(folder, selection, by=by, most=7)
    assert len(found) == min(7, len(groups))
    for use, (_, group) in zip(found, groups, strict=False):
        vms = group["vm_id"].unique()
        assert (use.accesses, use.size_bytes) == (len(group), group["size_bytes"].sum())
        assert use.write_ratio == pytest.approx(group["write"].mean())
        assert (use.first_at, use.last_at) == (group["at"].min(), group["at"].max())
        gap = group["at"].diff().median()
        assert use.median_gap_seconds == (None if np.isnan(gap) else pytest.approx(gap))
        assert use.items == len(group[list(KEYS["item"])].drop_duplicates())
        assert (use.vms, use.vm_id) == (len(vms), vms[0] if len(vms) == 1 else "")
        for key in set(KEYS[by]) - {"owner", "vm_id"}:
            assert getattr(use, key) == group[key].iloc[0]


def test_small_groups_are_left_out(filled: tuple[Path, pd.DataFrame]) -> None:
    folder, frame = filled
    vms = frame.groupby(["trust_group", "generation"])["vm_id"].nunique()
    assert set(vms) == {1}, "three generations of two VMs each, one in each group"
    assert top(folder, Selection(), by="group", most=9, least_vms=2) == []
    shared = top(folder, Selection(), by="place", most=9, least_vms=2)
    assert [(use.place, use.vm_id) for use in shared] == [("/disks/base", "")]
    assert runs_of_groups(folder, Selection(), most=9, least_vms=2) == []
    assert len(runs_of_groups(folder, Selection(), most=9, least_vms=1)) == len(vms)


def runs_by_hand(frame: pd.DataFrame) -> dict[tuple[str, str, str], list[list[Any]]]:
    """Runs of each place of a VM: their accesses, in order."""
    found: dict[tuple[str, str, str], list[list[Any]]] = {}
    following: dict[tuple[str, str, str], int] = {}
    for row in frame.itertuples():
        key = (row.vm_id, row.kind, row.place)
        if following.get(key) == row.number:
            found[key][-1].append(row)
        else:
            found.setdefault(key, []).append([row])
        following[key] = int(row.number) + -(-int(row.size_bytes) // UNIT_BYTES)
    return found


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
def test_runs_are_those_that_a_walk_finds(filled: tuple[Path, pd.DataFrame], selection: Selection) -> None:
    folder, frame = filled
    expected = runs_by_hand(chosen(frame, selection))
    longest, shares = runs(folder, selection, most=1000)
    told = sorted(
        (run.vm_id, run.kind, run.place, run.number, run.accesses, run.size_bytes, run.began_at, run.seconds)
        for run in longest
    )
    assert told == sorted(
        (*key, run[0].number, len(run), sum(row.size_bytes for row in run), run[0].at, run[-1].at - run[0].at)
        for key, its in expected.items()
        for run in its
        if len(run) > 1
    )
    assert [run.accesses for run in longest] == sorted((run.accesses for run in longest), reverse=True)
    assert runs(folder, selection, most=2)[0] == longest[:2]
    for share in shares:
        lengths = [len(run) for run in expected.pop((share.vm_id, share.kind, share.place))]
        assert (share.accesses, share.longest, share.vms) == (sum(lengths), max(lengths), 1)
        assert share.ratio == pytest.approx(1 - len(lengths) / sum(lengths))
    assert expected == {}


def test_numbers_at_the_end_of_what_can_be_counted(tmp_path: Path, now: Time) -> None:
    log = FileAccessLog(tmp_path, "memory", most_bytes=PLENTY, now=now)
    last = (1 << 63) - 1
    log.add(source(), accesses(AT + np.arange(4), [last - 1, last, 0, last], 4096))
    log.close()
    assert [run.accesses for run in runs(tmp_path, Selection(), most=3)[0]] == [2]
    found = heatmap(tmp_path, Selection(), rows=1, columns=3)
    assert found is not None
    assert found.counts.tolist() == [[1, 0, 3]]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
def test_a_heatmap_is_a_histogram(filled: tuple[Path, pd.DataFrame], selection: Selection) -> None:
    folder, frame = filled
    some = chosen(frame, selection)
    found = heatmap(folder, selection, rows=5, columns=8)
    assert found is not None
    assert found.counts.shape == (5, 8)
    edges = (found.instants, found.numbers)
    expected, _, _ = np.histogram2d(some["at"], some["number"].astype(float), bins=edges)
    assert found.counts.tolist() == expected.tolist()
    assert found.counts.sum() == len(some)
    assert found.instants[0] == (selection.since or some["at"].min())
    assert found.instants[-1] == pytest.approx(selection.until or some["at"].max())
    assert (found.numbers[0], found.numbers[-1]) == (some["number"].min(), some["number"].max() + 1)
    assert found.vms == some["vm_id"].nunique()
    assert found.places == len(some[["kind", "owner", "place"]].drop_duplicates())


def test_a_heatmap_of_one_access_has_one_column(tmp_path: Path, now: Time) -> None:
    log = FileAccessLog(tmp_path, "memory", most_bytes=PLENTY, now=now)
    log.add(source(), accesses(AT, 5))
    log.close()
    found = heatmap(tmp_path, Selection(), rows=2, columns=80)
    assert found is not None
    assert found.counts.tolist() == [[1], [0]]
    assert found.numbers.tolist() == [5.0, 6.0]


@pytest.mark.parametrize("most", [1, 10, 100, 10_000])
@pytest.mark.parametrize("kind", [None, BLOCK])
def test_recent_are_the_last_of_a_generation(filled: tuple[Path, pd.DataFrame], most: int, kind: str | None) -> None:
    folder, frame = filled
    some = frame[(frame["trust_group"] == "tenant-red") & (frame["generation"] == "1")]
    some = (some if kind is None else some[some["kind"] == kind]).tail(most)
    found = recent(folder, "tenant-red", "1", most, kind=kind)
    assert len(found) == len(some) > 0
    columns = ("at", "vm_id", "place", "number", "size_bytes", "write")
    told = pd.DataFrame({column: getattr(found, column) for column in columns})
    assert_same(told, some[[*columns]].reset_index(drop=True))


def test_recent_reads_no_more_files_than_it_needs(
    filled: tuple[Path, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = filled
    opened: list[Path] = []

    def counted(path: Path, columns: Sequence[str] = COLUMNS) -> pa.Table:
        if len(columns) == len(COLUMNS):
            opened.append(path)
        return read_part(path, columns)

    monkeypatch.setattr(recent_module, "read_part", counted)
    wanted = {"group": "tenant-red", "generation": "1"}
    theirs = [
        path
        for path in paths_of(folder)
        if path.suffix == GROWING or wanted in read_part(path, list(wanted)).to_pylist()
    ]
    recent(folder, "tenant-red", "1", 10_000)
    assert sorted(opened) == theirs
    assert len(theirs) < len(paths_of(folder))
    opened.clear()
    recent(folder, "tenant-red", "1", 1, kind=BLOCK)
    assert paths_of(folder, "blocks")[-1] in opened
    assert paths_of(folder, "blocks")[0] not in opened


def test_an_export_is_an_access_trace_of_the_same(filled: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    folder, frame = filled
    path, keys = tmp_path / "t.parquet", FileGroupKeys(tmp_path)
    assert export(folder, path, Selection(), keys) == len(frame)
    lines: list[str] = []
    trace = read_access_trace(path, lines.append)
    assert lines == []
    assert len(trace) == len(frame)
    assert trace.sequence.tolist() == list(range(len(frame)))
    assert trace.items == len(frame[["vm_id", "kind", "place", "number"]].drop_duplicates())
    table = pd.read_parquet(path)
    assert (table["timestamp_us"].diff().dropna() >= 0).all()
    assert table["timestamp_us"].tolist() == (frame["at"] * 1e6).round().astype(int).tolist()
    assert table["size_bytes"].tolist() == frame["size_bytes"].tolist()
    assert (table["op"] == "w").tolist() == frame["write"].tolist()
    low = table["resource_id"].to_numpy() & np.uint64((1 << 44) - 1)
    assert low.tolist() == frame["number"].tolist()
    places = table["resource_id"].to_numpy() >> np.uint64(44)
    ours = frame.groupby(["vm_id", "kind", "place"], sort=False).ngroup()
    theirs = table.assign(place=places).groupby(["vm_id", "resource_type", "place"], sort=False).ngroup()
    assert theirs.tolist() == ours.tolist()
    for _, its in table.assign(place=places).groupby("vm_id", sort=False):
        assert its["place"].drop_duplicates().tolist() == list(range(its["place"].nunique()))


def test_an_export_names_nobody(filled: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    folder, frame = filled
    path, keys = tmp_path / "t.parquet", FileGroupKeys(tmp_path)
    export(folder, path, Selection(), keys)
    table = pd.read_parquet(path)
    assert table["vm_id"].nunique() == frame["vm_id"].nunique()
    assert table["vm_id"].str.fullmatch("[0-9a-f]{16}").all()
    assert table["program_id"].str.fullmatch("[0-9a-f]{16}|").all()
    assert set(table["program_id"]) > {""}
    for name in ("vm-", "postgres", "disks", "tenant"):
        assert not any(table[column].str.contains(name).any() for column in ("vm_id", "program_id", "resource_type"))
    for text in (b"postgres", b"/disks", b"tenant"):
        assert text not in path.read_bytes()
    again = tmp_path / "again.parquet"
    export(folder, again, Selection(vm_id="vm-1"), keys)
    (name,) = pd.read_parquet(again)["vm_id"].unique()
    assert name in set(table["vm_id"])
    (tmp_path / "other").mkdir()
    export(folder, again, Selection(vm_id="vm-1"), FileGroupKeys(tmp_path / "other"))
    assert set(pd.read_parquet(again)["vm_id"]) & set(table["vm_id"]) == set()


def test_the_same_name_is_another_in_another_trust_group(tmp_path: Path, now: Time) -> None:
    log = FileAccessLog(tmp_path / "access", "memory", most_bytes=PLENTY, now=now)
    for step, (name, group) in enumerate([("x", "red"), ("x", "blue"), ("x", "red"), ("y", "red")]):
        log.add(source(name, group=group, program_id="x"), accesses(AT + step, 1))
    log.close()
    export(tmp_path / "access", tmp_path / "t.parquet", Selection(), FileGroupKeys(tmp_path))
    table = pd.read_parquet(tmp_path / "t.parquet")
    red, blue, red_again, other = table["vm_id"]
    assert red == red_again
    assert len({red, blue, other}) == 3
    assert len({*table["program_id"], red, blue}) == 4


def test_a_trace_that_cannot_be_written_leaves_nothing(filled: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    folder, _ = filled
    with pytest.raises(StoreError, match=r"nowhere/t\.parquet: cannot be written: No such file"):
        export(folder, tmp_path / "nowhere" / "t.parquet", Selection(), lambda group: b"key")
    (tmp_path / "t.parquet").mkdir()
    with pytest.raises(StoreError, match=r"t\.parquet: cannot be written: Is a directory"):
        export(folder, tmp_path / "t.parquet", Selection(), lambda group: b"key")
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


class SlowLog:
    """A log whose disk hangs until told otherwise."""

    def __init__(self) -> None:
        self.goes_on, self.added, self.closed, self.broken = threading.Event(), list[int](), False, ""

    def add(self, source: Source, accesses: Accesses) -> None:
        self.goes_on.wait(30.0)
        if self.broken:
            raise StoreError(self.broken)
        self.added += accesses.number.tolist()

    def close(self) -> None:
        self.closed = True


def test_who_adds_does_not_wait_for_the_disk() -> None:
    slow = SlowLog()
    log = BackgroundAccessLog(slow, NOTHING)
    began = time.monotonic()
    for number in range(MOST_WAITING):
        log.add(source(), accesses([0.0], [number]))
    while not log._waiting.full():  # one may be being written
        log.add(source(), accesses([0.0], [0]))
    with pytest.raises(StoreError, match="faster than they can be written"):
        log.add(source(), accesses([0.0], [1]))
    assert time.monotonic() - began < 10.0
    slow.goes_on.set()
    log.close()
    assert slow.closed
    assert slow.added[:MOST_WAITING] == list(range(MOST_WAITING))


def test_a_failure_behind_is_told_with_the_next_addition_and_it_goes_on() -> None:
    slow = SlowLog()
    slow.goes_on.set()
    slow.broken = "no space"
    log = BackgroundAccessLog(slow, NOTHING)
    log.add(source(), accesses([0.0], [1]))
    until = time.monotonic() + 30.0
    while log._error is None and time.monotonic() < until:
        time.sleep(0.01)
    with pytest.raises(StoreError, match="no space"):
        log.add(*NOTHING)
    slow.broken = ""
    log.add(*NOTHING)
    log.add(source(), accesses([0.0], [2]))
    log.close()
    assert slow.added[-1] == 2


def test_a_disk_that_hangs_keeps_nobody_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "END_SECONDS", 0.2)
    slow = SlowLog()
    log = BackgroundAccessLog(slow, NOTHING)
    log.add(source(), accesses([0.0], [1]))
    with pytest.raises(StoreError, match="not be written in time"):
        log.close()
    slow.goes_on.set()
