"""Raw samples of past days as Parquet, one file a day, outside the database.

A day's file is sorted by VM and instant, with a column for each resource, compressed with zstd; its columns
are those of a demand trace, so that the folder can be replayed as it is. A file is written aside, synced,
and renamed, before the day leaves the database: interrupted anywhere, each sample is in the file, in the
database or in both, and in both counts once (the database's is the newer).
"""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from forestall.adapters.duckdb import schema

DAY_SECONDS = 86_400


class Archive:
    """Folder of day files. The caller sees to it that only one thread writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reading = threading.Lock()
        """Held while files are read: no file is replaced meanwhile."""

    def _file(self, day: int) -> Path:
        """File of a day, counted in days since the epoch; works also for fictional calendars."""
        date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
        return self.folder / f"{date:%Y-%m-%d}.parquet"

    def files(self, since: int, until: int) -> list[str]:
        """Files that may hold samples with ``since <= instant < until``, in order of time."""
        if since >= until or not self.folder.is_dir():
            return []
        first, last = self._file(since // DAY_SECONDS).name, self._file((until - 1) // DAY_SECONDS).name
        names = sorted(p.name for p in self.folder.glob("????-??-??.parquet"))
        return [str(self.folder / name) for name in names if first <= name <= last]

    def source(self, files: list[str]) -> str:
        """SQL that reads archived samples with the columns of ``raw``."""
        listed = ", ".join(_quoted(name) for name in files)
        return (
            f"SELECT a.timestamp AS instant, v.id AS vm, {', '.join(f'a.{c}' for c in schema.RAW_COLUMNS)}"
            f" FROM read_parquet([{listed}]) a JOIN vm v ON v.name = a.vm_id"
        )

    def write(self, cursor: duckdb.DuckDBPyConnection, day: int) -> None:
        """Write what the database has of a day over what the day's file has, durably."""
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self._file(day)
        aside = target.with_suffix(".tmp")
        days = self.files(day * DAY_SECONDS, (day + 1) * DAY_SECONDS)
        samples = everything(self, days, day * DAY_SECONDS, (day + 1) * DAY_SECONDS)
        cursor.execute(
            f"COPY (SELECT v.name AS vm_id, s.instant AS timestamp, s.* EXCLUDE (instant, vm)"
            f" FROM ({samples}) s JOIN vm v ON v.id = s.vm ORDER BY vm_id, timestamp)"
            f" TO {_quoted(str(aside))} (FORMAT parquet, COMPRESSION zstd)"
        )
        _sync(aside)
        with self.reading:
            os.replace(aside, target)
        _sync(self.folder)

    def adopt(self, cursor: duckdb.DuckDBPyConnection, files: list[str]) -> None:
        """Make archived samples known to a new database: their VMs, and what is to be rolled up."""
        listed = ", ".join(_quoted(name) for name in files)
        cursor.execute(
            f"INSERT INTO vm SELECT row_number() OVER (ORDER BY name) - 1, name"
            f" FROM (SELECT DISTINCT vm_id AS name FROM read_parquet([{listed}]))"
        )
        cursor.execute(
            f"INSERT INTO pending SELECT DISTINCT timestamp - timestamp % 3600 FROM read_parquet([{listed}])"
        )

    def tidy(self) -> None:
        """Remove what an interrupted write has left behind."""
        for aside in self.folder.glob("????-??-??.tmp"):
            aside.unlink()


def everything(archive: Archive, files: list[str], since: int, until: int) -> str:
    """SQL for the samples of a span from the database laid over those of archive files."""
    inside = f"instant >= {since} AND instant < {until}"
    raw = f"SELECT * FROM raw WHERE {inside}"
    if not files:
        return raw
    return (
        f"SELECT instant, vm, {schema.overlay('o', 'u')} FROM ({raw}) o"
        f" FULL JOIN (SELECT * FROM ({archive.source(files)}) WHERE {inside}) u USING (instant, vm)"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
