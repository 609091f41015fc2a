"""Writes accesses down: part files that can be read at any moment, and together stay within a bound."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from forestall.adapters.access_log.rows import PARQUET, SCHEMA, Dictionaries, read_part
from forestall.adapters.files.part_files import (
    FULL,
    GROWING,
    GrowingPart,
    lock_file,
    make_full,
    next_path,
    paths_of,
    told,
)
from forestall.ports.access_log import Accesses, Source

MOST_ROWS = 200_000
MOST_PART_BYTES = 32 << 20
"""A growing part is full with so much, too: few rows at a time make it large."""
SHARE = 4
"""And with this part of what all may take together, so that the newest is never all there is."""
WRITE_ROWS, WRITE_SECONDS = 2_000, 1.0
"""With so many rows, or after so long, what was gathered is written."""


class FileAccessLog:
    """An :class:`~forestall.ports.access_log.AccessLog` of part files. To be used from one thread.

    A process that is killed loses what was added within the last second; a host that loses its power, the part that
    grew. After a write that failed what was to be written is lost, and the log goes on.

    Parameters
    ----------
    folder
        Made if it is not there, its owner's alone. Others may write there, each under a name of its own.
    name
        Name of this log, of small letters.
    most_rows
        Size of a part.
    most_bytes
        The files of this name together take no more; the oldest that are full are removed.
    now
        A clock, seconds; it only tells how long ago something was.

    Raises
    ------
    FolderInUse
        Another process writes under this name.
    StoreError
        The folder cannot be used, or what an earlier process has left is damaged.
    """

    def __init__(
        self, folder: Path, name: str, *, most_rows: int = MOST_ROWS, most_bytes: int, now: Callable[[], float]
    ) -> None:
        if not re.fullmatch("[a-z]+", name):
            raise ValueError(f"{name!r} is not of small letters")
        self._folder, self._name, self._now = folder, name, now
        self._most_rows, self._most_bytes = most_rows, most_bytes
        self._gathered: list[tuple[Source, Accesses]] = []
        self._gathered_rows, self._written_at = 0, now()
        self._part: GrowingPart | None = None
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)
            self._lock = lock_file(folder / f"{name}.lock", f"another process logs accesses there as {name!r}")
            try:
                self._fill()
            except BaseException:
                self._lock.close()
                raise

    def add(self, source: Source, accesses: Accesses) -> None:
        """Take accesses down; without any, only look whether it is time to write."""
        if len(accesses):
            self._gathered.append((source, accesses))
            self._gathered_rows += len(accesses)
        due = self._gathered_rows >= WRITE_ROWS or self._now() - self._written_at >= WRITE_SECONDS
        if self._gathered and due:
            self._write()

    def close(self) -> None:
        """Write what was not written yet, and let another process write."""
        try:
            if self._gathered:
                self._write()
            with told(self._folder):
                self._end_part()
        finally:
            self._lock.close()

    def _write(self) -> None:
        gathered, self._gathered, self._gathered_rows = self._gathered, [], 0
        self._written_at = self._now()
        try:
            with told(self._folder):
                if self._part is None:
                    self._part = GrowingPart(next_path(self._folder, self._name), SCHEMA)
                    self._dictionaries = Dictionaries()
                self._part.write(self._dictionaries.rows_of(gathered))
                if self._part.rows >= self._most_rows or self._part.size_bytes >= self._most_part_bytes:
                    self._end_part()
                self._make_room()
        except BaseException:
            self._abandon()
            raise

    @property
    def _most_part_bytes(self) -> int:
        return min(MOST_PART_BYTES, self._most_bytes // SHARE)

    def _end_part(self) -> None:
        if self._part is not None:
            part, self._part = self._part, None
            part.close()
            self._fill()

    def _abandon(self) -> None:
        """Write no more to a part whose end is torn; with the next one, what can be read of it becomes full."""
        if self._part is not None:
            part, self._part = self._part, None
            part.abandon()
            if not part.rows:
                with suppress(OSError):
                    part.path.unlink()

    def _fill(self) -> None:
        """Make full what grows no more."""
        try:
            for growing in sorted(self._folder.glob(f"{self._name}-*{GROWING}")):
                table = read_part(growing)
                make_full(growing, table if len(table) else None, **PARQUET)
        finally:
            self._look()
        self._make_room()

    def _look(self) -> None:
        """See what there is besides the part that grows."""
        sizes = [(path, path.stat().st_size) for path in paths_of(self._folder, self._name)]
        self._full = deque((path, size) for path, size in sizes if path.suffix == FULL)
        self._kept_bytes = sum(size for _, size in sizes)

    def _make_room(self) -> None:
        growing = self._part.size_bytes if self._part is not None else 0
        while self._full and self._kept_bytes + growing > self._most_bytes:
            path, size = self._full.popleft()
            path.unlink(missing_ok=True)
            self._kept_bytes -= size
