"""The spool: in order, each once, bounded, and whole after an end at any moment."""

from __future__ import annotations

import os
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from test_vector_frames import batch

from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.vector_spool.spool import MOST_REFUSED, FileSpool
from forestall.model.errors import StoreError
from forestall.ports.vectors import VectorBatch, VectorKind
from forestall.service.forwarding import MOST_GATHERED, MOST_IN_FRAME, Gathering
from forestall.service.vector_frames import decode, encode


def spool(folder: Path, **limits: float) -> FileSpool:
    return FileSpool(folder, encode, VirtualClock(time.time()).now, **limits)  # type: ignore[arg-type]


def test_frames_come_out_in_order_and_stay_until_they_are_done(tmp_path: Path) -> None:
    waiting = spool(tmp_path)
    for n in range(3):
        waiting.append(batch(at=100 * n))
    sequence, body = waiting.oldest() or (0, b"")
    assert (sequence, decode(body).sequence, decode(body).spool) == (1, 1, waiting.name)
    assert waiting.oldest() == (sequence, body)
    waiting.done(sequence)
    assert (waiting.oldest() or (0,))[0] == 2
    again = spool(tmp_path)
    assert (again.name, again.waiting) == (waiting.name, 2)
    again.append(batch())
    again.done(3)
    assert decode((again.oldest() or (0, b""))[1]).sequence == 4


def test_a_number_is_never_used_twice(tmp_path: Path) -> None:
    first = spool(tmp_path)
    first.append(batch())
    first.done(1)
    second = spool(tmp_path)
    second.append(batch())
    assert second.name != first.name


def test_the_oldest_make_room(tmp_path: Path) -> None:
    waiting = spool(tmp_path, max_bytes=3 * len(encode("0" * 16, 1, batch())) + 60)
    for _ in range(10):
        waiting.append(batch())
    assert (waiting.waiting, waiting.dropped) == (3, 7)
    assert (waiting.oldest() or (0,))[0] == 8


def test_what_is_too_old_is_dropped_but_for_the_newest(tmp_path: Path) -> None:
    clock = VirtualClock(time.time())
    waiting = FileSpool(tmp_path, encode, clock.now, max_age_seconds=60)
    waiting.append(batch())
    clock.sleep_until(clock.now() + 1000)
    assert waiting.waiting == 1
    waiting.append(batch())
    assert (waiting.waiting, waiting.dropped) == (1, 1)


def test_what_was_half_written_is_as_if_it_had_never_been(tmp_path: Path) -> None:
    waiting = spool(tmp_path)
    waiting.append(batch())
    (tmp_path / f"{waiting.name}-000000000002.tmp").write_bytes(b"half")
    again = spool(tmp_path)
    assert again.waiting == 1
    assert not list(tmp_path.glob("*.tmp"))


def test_a_frame_that_is_refused_is_kept_aside(tmp_path: Path) -> None:
    waiting = spool(tmp_path)
    waiting.append(batch())
    waiting.append(batch())
    kept = Path(waiting.set_aside(1))
    assert decode(kept.read_bytes()).sequence == 1
    assert (waiting.oldest() or (0,))[0] == 2
    assert spool(tmp_path).waiting == 1


def test_what_was_refused_is_bounded(tmp_path: Path) -> None:
    waiting = spool(tmp_path)
    for n in range(MOST_REFUSED + 5):
        waiting.append(batch())
        os.utime(waiting.set_aside(n + 1), (n, n))
    kept = sorted(tmp_path.glob("*.refused"))
    assert len(kept) == MOST_REFUSED
    assert decode(kept[-1].read_bytes()).sequence == MOST_REFUSED + 5


def test_a_frame_that_cannot_be_removed_waits_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = spool(tmp_path)
    waiting.append(batch())

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(StoreError, match="cannot be removed: Read-only"):
            waiting.done(1)
    assert waiting.waiting == 1
    waiting.done(1)
    assert (waiting.waiting, waiting.oldest()) == (0, None)


class Disk:
    """A spool that is full for a while."""

    def __init__(self) -> None:
        self.full, self.frames = True, list[VectorBatch]()

    def append(self, vectors: VectorBatch) -> None:
        if self.full:
            raise StoreError("disk full")
        encode("0" * 16, 1, vectors)
        self.frames.append(vectors)


def test_what_could_not_be_written_is_gathered_and_written_later_in_pieces() -> None:
    disk = Disk()
    gathering = Gathering(disk, lambda: 0.0, frame_vectors=1)  # type: ignore[arg-type]
    for n in range(300):
        with pytest.raises(StoreError, match="disk full"):
            gathering.add(batch(rows=100, at=1_000 * n))
    disk.full = False
    gathering.add(batch(rows=100, at=1_000 * 300))
    kept = sorted(int(at) for frame in disk.frames for at in frame.at)
    assert MOST_GATHERED - MOST_IN_FRAME < len(kept) == len(set(kept)) <= MOST_GATHERED
    assert gathering.dropped == 301 * 100 - len(kept)
    assert kept[-1] == 1_000 * 300 + 99
    assert max(map(len, disk.frames)) <= MOST_IN_FRAME
    gathering.close()


def test_one_kind_that_cannot_be_written_does_not_hold_up_another() -> None:
    disk = Disk()
    disk.full = False
    gathering = Gathering(disk, lambda: 0.0, frame_vectors=10**6)  # type: ignore[arg-type]
    broken = batch(at=-10_000)
    gathering.add(broken)
    gathering.add(replace(batch(), kind=VectorKind.SCORE))
    with pytest.raises(StoreError, match="instant"):
        gathering.close()
    assert [frame.kind for frame in disk.frames] == [VectorKind.SCORE]


def test_whoever_adds_at_the_same_time_loses_nothing() -> None:
    class Slow(Disk):
        def append(self, batch: VectorBatch) -> None:
            time.sleep(0.001)
            super().append(batch)

    disk = Slow()
    disk.full = False
    gathering = Gathering(disk, lambda: 0.0, frame_vectors=3)  # type: ignore[arg-type]

    def add(first: int) -> None:
        for n in range(30):
            gathering.add(batch(rows=1, at=first + 1_000 * n))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    gathering.close()
    kept = sorted(int(at) for frame in disk.frames for at in frame.at)
    assert kept == sorted(first + 1_000 * n for first in range(4) for n in range(30))


def test_trouble_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file: cannot be used"):
        spool(tmp_path / "file")
    (tmp_path / f"{'a' * 16}-000000000001.frame").touch()
    (tmp_path / f"{'b' * 16}-000000000001.frame").touch()
    with pytest.raises(StoreError, match="two spools"):
        spool(tmp_path)


class Spooling(RuleBasedStateMachine):
    """Frames are let wait, sent and crashed over; a centre takes those that it has not."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"spool-{os.getpid()}-{id(self)}"
        self.spool = spool(self.folder)
        self.expected: deque[int] = deque()
        self.arrived: list[int] = []
        self.newest: dict[str, int] = {}
        self.count = 0

    @rule()
    def append(self) -> None:
        self.count += 1
        self.spool.append(batch(rows=1, at=self.count))
        self.expected.append(self.count)

    @rule(acknowledged=st.booleans())
    @precondition(lambda self: self.expected)
    def send(self, acknowledged: bool) -> None:
        sequence, body = self.spool.oldest() or (0, b"")
        frame = decode(body)
        if frame.sequence > self.newest.get(frame.spool, 0):
            self.newest[frame.spool] = frame.sequence
            self.arrived.append(int(frame.batch.at[0]))
        if acknowledged:
            self.spool.done(sequence)
            self.expected.popleft()

    @rule()
    def crash(self) -> None:
        self.spool = spool(self.folder)

    @invariant()
    def nothing_is_lost_or_twice(self) -> None:
        assert self.spool.waiting == len(self.expected)
        assert self.arrived == list(range(1, len(self.arrived) + 1))

    def teardown(self) -> None:
        for path in self.folder.glob("*"):
            path.unlink()
        self.folder.rmdir()


TestSpooling = Spooling.TestCase
TestSpooling.settings = settings(max_examples=30, stateful_step_count=30)
