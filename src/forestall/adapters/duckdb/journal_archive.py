"""The older part of the journal as Parquet, outside the database: a folder for each table, in it one file a day.

The archive holds the beginning of the journal, the database the rest: cycles up to the one in ``meta`` under
``archived_cycle`` are in the archive, later ones in the database. Files are written before that number moves, in one
transaction with the removal of the rows: interrupted anywhere, each row is in a file, in the database or in both, and
in both counts once, for what a file has of later cycles is passed over.

A decision is filed under the day from which it is in force. An outcome or a restoration is filed with the first
decision of its own cycle or a later one: when the clock was set in between, they stay together all the same.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from forestall.adapters.duckdb import schema
from forestall.adapters.duckdb.day_files import DAY_SECONDS, DayFiles, read_parquet
from forestall.ports.store import LATEST

_ARCHIVED = "archived_cycle"
_FILED = {
    "decision": f"SELECT *, rowid AS position, in_force_at // {DAY_SECONDS} AS day FROM decision",
    **{
        table: f"SELECT o.*, o.rowid AS position, d.day FROM {table} o ASOF JOIN"
        f" (SELECT cycle, min(in_force_at) // {DAY_SECONDS} AS day FROM decision GROUP BY cycle) d"
        " ON o.cycle <= d.cycle"
        for table in ("outcome", "restoration")
    },
}
"""SQL for the rows of each table, with their order within a cycle and the day under which they are filed."""


class JournalArchive:
    """Folders of archived decisions and outcomes. The caller sees to it that only one thread writes.

    Parameters
    ----------
    folder
        Made with the first file.
    """

    def __init__(self, folder: Path) -> None:
        self.days = {table: DayFiles(folder / table) for table in _FILED}

    def prepare(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Let a database without a journal take up what the archive holds, and one that is older than the archive too.

        The latter was put back from a copy: what it has of the journal is in the archive as well.
        """
        archived, newest = schema.read_meta(cursor, _ARCHIVED), last_cycle(cursor)
        in_files = self._last_cycle(cursor)
        if in_files > newest and (archived is not None or newest == 0):
            for table in _FILED:
                cursor.execute(f"DELETE FROM {table}")
            schema.write_meta(cursor, _ARCHIVED, in_files)
        elif archived is None:
            schema.write_meta(cursor, _ARCHIVED, 0)

    def everything(
        self, cursor: duckdb.DuckDBPyConnection, table: str, columns: str, since: int = 0, until: int = LATEST
    ) -> str:
        """SQL for the rows of a table, archived or not, with ``cycle`` and ``position``, by which they were recorded.

        Archived rows are those of the days of ``since <= instant < until``. To be run while ``days[table].reading``
        is held.
        """
        columns = f"{columns}, cycle"
        recent = f"SELECT {columns}, rowid AS position FROM {table}"
        files = self.days[table].files(max(since, 0), min(until, LATEST))
        if not files:
            return recent
        archived = schema.read_meta(cursor, _ARCHIVED) or 0
        old = f"SELECT {columns}, position FROM {read_parquet(files)} WHERE cycle <= {archived}"
        return f"{old} UNION ALL {recent}"

    def move(self, cursor: duckdb.DuckDBPyConnection, horizon: int) -> None:
        """Move everything that was recorded up to the last decision in force before ``horizon`` into the archive.

        What was recorded earlier goes along whatever its instant, outcomes too: the archive stays the beginning of the
        journal, also when the clock was set in between.
        """
        last = schema.single(cursor, f"SELECT max(cycle) FROM decision WHERE in_force_at < {horizon}")
        if last is None:
            return
        for table, rows in _FILED.items():
            self._write(cursor, table, f"SELECT * FROM ({rows}) WHERE cycle <= {last}")
        for table in _FILED:
            cursor.execute(f"DELETE FROM {table} WHERE cycle <= {last}")
        schema.write_meta(cursor, _ARCHIVED, last)

    def tidy(self) -> None:
        """Remove what an interrupted write has left behind."""
        for days in self.days.values():
            days.tidy()

    def _write(self, cursor: duckdb.DuckDBPyConnection, table: str, rows: str) -> None:
        """Add rows, each with its day, to the files of their days."""
        days, archived = self.days[table], schema.read_meta(cursor, _ARCHIVED) or 0
        for (day,) in cursor.execute(f"SELECT DISTINCT day FROM ({rows}) ORDER BY day").fetchall():
            content = f"SELECT * EXCLUDE (day) FROM ({rows}) WHERE day = {day}"
            if files := days.files(day * DAY_SECONDS, (day + 1) * DAY_SECONDS):
                content += f" UNION ALL BY NAME SELECT * FROM {read_parquet(files)} WHERE cycle <= {archived}"
            days.replace(cursor, day, f"{content} ORDER BY cycle, position")

    def _last_cycle(self, cursor: duckdb.DuckDBPyConnection) -> int:
        files = [name for days in self.days.values() for name in days.files(0, LATEST)]
        return (schema.single(cursor, f"SELECT max(cycle) FROM {read_parquet(files)}") or 0) if files else 0


def last_cycle(cursor: duckdb.DuckDBPyConnection) -> int:
    """Number of the last cycle that was recorded, archived or not; 0 before the first."""
    of_table = ", ".join(f"(SELECT max(cycle) FROM {table})" for table in _FILED)
    return max(schema.single(cursor, f"SELECT greatest({of_table})") or 0, schema.read_meta(cursor, _ARCHIVED) or 0)
