"""A folder of Parquet files, one a day, each of which is there as a whole or not at all.

A file is written aside, synced, and renamed; then the folder is synced. Only after that may what is in it leave the
database.
"""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

DAY_SECONDS = 86_400


class DayFiles:
    """Folder of day files. The caller sees to it that only one thread writes.

    Parameters
    ----------
    folder
        Made with the first file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reading = threading.Lock()
        """Held while files are read: no file is replaced meanwhile."""

    def file(self, day: int) -> Path:
        """File of a day, counted in days since the epoch; works also for fictional calendars."""
        date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
        return self.folder / f"{date:%Y-%m-%d}.parquet"

    def files(self, since: int, until: int) -> list[str]:
        """Files of the days of ``since <= instant < until``, in order of time."""
        if since >= until or not self.folder.is_dir():
            return []
        first, last = self.file(since // DAY_SECONDS).name, self.file((until - 1) // DAY_SECONDS).name
        names = sorted(p.name for p in self.folder.glob("????-??-??.parquet"))
        return [str(self.folder / name) for name in names if first <= name <= last]

    def replace(self, cursor: duckdb.DuckDBPyConnection, day: int, rows: str) -> None:
        """Make what the query ``rows`` gives the content of a day's file, durably."""
        _make(self.folder)
        target = self.file(day)
        aside = target.with_suffix(".tmp")
        cursor.execute(f"COPY ({rows}) TO {quoted(str(aside))} (FORMAT parquet, COMPRESSION zstd)")
        _sync(aside)
        with self.reading:
            os.replace(aside, target)
        _sync(self.folder)

    def tidy(self) -> None:
        """Remove what an interrupted write has left behind."""
        for aside in self.folder.glob("????-??-??.tmp"):
            aside.unlink()


def read_parquet(files: list[str]) -> str:
    """SQL that reads files, at least one."""
    return f"read_parquet([{', '.join(map(quoted, files))}])"


def quoted(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _make(folder: Path) -> None:
    """Make a folder, and those that it lies in, durably."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
