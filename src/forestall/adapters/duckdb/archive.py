"""Raw samples of past days as Parquet, one file a day, outside the database.

A day's file is sorted by VM and instant, with a column for each resource, compressed with zstd; its columns
are those of a demand trace, so that the folder can be replayed as it is. A file is there before the day leaves
the database: interrupted anywhere, each sample is in the file, in the database or in both, and in both counts
once (the database's is the newer).
"""

from __future__ import annotations

import duckdb

from forestall.adapters.duckdb.day_files import DAY_SECONDS, DayFiles, read_parquet
from forestall.adapters.sample_rows.columns import RAW_COLUMNS, overlay


class Archive(DayFiles):
    """Folder of day files of samples."""

    def source(self, files: list[str]) -> str:
        """SQL that reads archived samples with the columns of ``raw``."""
        return (
            f"SELECT a.timestamp AS instant, v.id AS vm, {', '.join(f'a.{c}' for c in RAW_COLUMNS)}"
            f" FROM {read_parquet(files)} a JOIN vm v ON v.name = a.vm_id"
        )

    def write(self, cursor: duckdb.DuckDBPyConnection, day: int) -> None:
        """Write what the database has of a day over what the day's file has, durably."""
        days = self.files(day * DAY_SECONDS, (day + 1) * DAY_SECONDS)
        samples = everything(self, days, day * DAY_SECONDS, (day + 1) * DAY_SECONDS)
        self.replace(
            cursor,
            day,
            f"SELECT v.name AS vm_id, s.instant AS timestamp, s.* EXCLUDE (instant, vm)"
            f" FROM ({samples}) s JOIN vm v ON v.id = s.vm ORDER BY vm_id, timestamp",
        )

    def adopt(self, cursor: duckdb.DuckDBPyConnection, files: list[str]) -> None:
        """Make archived samples known to a new database: their VMs, and what is to be rolled up."""
        archived = read_parquet(files)
        cursor.execute(
            f"INSERT INTO vm SELECT row_number() OVER (ORDER BY name) - 1, name"
            f" FROM (SELECT DISTINCT vm_id AS name FROM {archived})"
        )
        cursor.execute(f"INSERT INTO pending SELECT DISTINCT timestamp - timestamp % 3600 FROM {archived}")


def everything(archive: Archive, files: list[str], since: int, until: int) -> str:
    """SQL for the samples of a span from the database laid over those of archive files."""
    inside = f"instant >= {since} AND instant < {until}"
    raw = f"SELECT * FROM raw WHERE {inside}"
    if not files:
        return raw
    return (
        f"SELECT instant, vm, {overlay('o', 'u')} FROM ({raw}) o"
        f" FULL JOIN (SELECT * FROM ({archive.source(files)}) WHERE {inside}) u USING (instant, vm)"
    )
