"""Opens a log of accesses for questions in SQL, while others write to it.

What is chosen is the view ``accesses``. Its columns are those of the log (``at`` is called ``instant``, ``group``
``trust_group`` and ``write`` ``is_write``), and besides:

- ``owner``: whose the place is; empty for a file of the host, which VMs may share.
- ``part``, ``position``: where it stands in the log; of two accesses of one instant the first is the one before.
"""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from forestall.adapters.access_log.rows import SCHEMA, read_part
from forestall.adapters.files.part_files import FULL, part_number, paths_of, told
from forestall.model.errors import StoreError

Answer = TypeVar("Answer")
_LOOKS = 5
"""So often it is begun anew when files were removed meanwhile."""
_SETTINGS = {
    "threads": "2",
    "memory_limit": "1GB",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_FULL = r"""
    CREATE TEMP VIEW written AS
    SELECT * EXCLUDE (filename, file_row_number), file_row_number AS position,
           regexp_extract(filename, '-(\d+)\.parquet$', 1)::INTEGER AS part
    FROM read_parquet(getvariable('files'), filename = true, file_row_number = true)
    UNION ALL BY NAME FROM growing
"""
_NONE_FULL = "CREATE TEMP VIEW written AS FROM growing"
_CHOSEN = """
    CREATE TEMP VIEW accesses AS
    SELECT "at" AS instant, vm_id, program_id, "group" AS trust_group, generation, kind, place, number, size_bytes,
           "write" AS is_write, part, position, if(starts_with(place, '/'), '', vm_id) AS owner
    FROM written
    WHERE (getvariable('vm_id') IS NULL OR vm_id = getvariable('vm_id'))
      AND (getvariable('kind') IS NULL OR kind = getvariable('kind'))
      AND (getvariable('place') IS NULL OR place = getvariable('place'))
      AND (getvariable('group') IS NULL OR "group" = getvariable('group'))
      AND (getvariable('since') IS NULL OR "at" >= getvariable('since'))
      AND (getvariable('until') IS NULL OR "at" < getvariable('until'))
"""


@dataclass(frozen=True)
class Selection:
    """Which accesses are asked about; None: whichever.

    Attributes
    ----------
    vm_id, kind, place, group
        As in a :class:`~forestall.ports.access_log.Source`.
    since, until
        Seconds UTC, ``since <= at < until``.
    """

    vm_id: str | None = None
    kind: str | None = None
    place: str | None = None
    group: str | None = None
    since: float | None = None
    until: float | None = None


class Logged:
    """What was chosen of a log, as it was at one moment."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, paths: list[Path], selection: Selection) -> None:
        self._connection = connection
        full = [glob.escape(str(path)) for path in paths if path.suffix == FULL]
        connection.register("growing", _growing([path for path in paths if path.suffix != FULL]))
        for name, value in {"files": full, **asdict(selection)}.items():
            connection.execute(f'SET VARIABLE "{name}" = $value', {"value": value})
        connection.execute(_FULL if full else _NONE_FULL)
        connection.execute(_CHOSEN)

    def fetch(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Rows that a statement gives, by the names of their columns."""
        cursor = self._connection.execute(sql, values or None)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def stream(self, sql: str, rows: int) -> Iterator[pa.RecordBatch]:
        """Rows that a statement gives, so many at a time."""
        reader: Any = self._connection.sql(sql).to_arrow_reader(rows)
        try:
            yield from reader
        except (pa.ArrowException, OSError) as error:  # DuckDB's own, which has come through Arrow
            raise duckdb.IOException(str(error)) from error

    def register(self, name: str, table: pa.Table) -> None:
        """Let statements use a table."""
        self._connection.register(name, table)


def answered(folder: Path, selection: Selection, question: Callable[[Logged], Answer]) -> Answer:
    """Answer a question about a log; one that is not there is empty.

    Parameters
    ----------
    folder
        Where the log is.
    selection
        What is asked about.
    question
        Finds the answer; it may be asked again.

    Raises
    ------
    StoreError
        The log cannot be read; the text names the file that is damaged.
    """
    for looks_left in reversed(range(_LOOKS)):
        with told(folder):
            paths = paths_of(folder)
        try:
            with told(folder), _connected() as connection:
                return question(Logged(connection, paths, selection))
        except duckdb.Error as error:
            removed = not all(path.exists() for path in paths if path.suffix == FULL)
            if not (removed and looks_left):
                raise _explained(folder, paths, error) from error
    raise AssertionError("the last look returns or raises")


@contextmanager
def _connected() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory; what does not fit lies in a folder of its own meanwhile."""
    with tempfile.TemporaryDirectory(prefix="forestall-access-") as spill:
        connection = duckdb.connect(config={**_SETTINGS, "temp_directory": spill})
        try:
            yield connection
        finally:
            connection.close()


def _growing(paths: list[Path]) -> pa.Table:
    """Rows of parts that are not full, and where they stand."""
    tables = [_placed(Path("none-0"), SCHEMA.empty_table())]
    for path in paths:
        with suppress(FileNotFoundError):  # it became full, and there was no room for it any more
            tables.append(_placed(path, read_part(path)))
    return pa.concat_tables(tables)


def _placed(path: Path, table: pa.Table) -> pa.Table:
    part = np.full(len(table), part_number(path), np.int32)
    return table.append_column("part", pa.array(part)).append_column("position", pa.array(np.arange(len(table))))


def _explained(folder: Path, paths: list[Path], error: duckdb.Error) -> StoreError:
    """Which file is damaged, if one is."""
    for path in paths:
        try:
            read_part(path)
        except FileNotFoundError:
            continue
        except StoreError as damage:
            return damage
    return StoreError(f"{folder}: cannot be read: {' '.join(str(error).split())}")
