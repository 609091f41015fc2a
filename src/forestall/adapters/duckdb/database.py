"""Opens a DuckDB file and translates what DuckDB raises into one clear line."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from forestall.adapters.duckdb import schema
from forestall.model.errors import StoreError

_SETTINGS = (
    "SET threads = 2",
    "SET memory_limit = '1GB'",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
)
_LOCKED = re.compile(r"Conflicting lock is held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")


class Database:
    """One DuckDB file; a process that has it open keeps every other process out.

    Several ``Database`` objects of one process may have the same file open. Writers wait for each other
    within one object; readers see a consistent snapshot and wait for nobody.

    Parameters
    ----------
    path
        The file; it and its folder are made if they do not exist.

    Raises
    ------
    StoreError
        Not a database, locked by another process, of a newer version, or not accessible.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writing = threading.RLock()
        with self.translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = duckdb.connect(str(path))
        try:
            with self.translated():
                for setting in _SETTINGS:
                    self._connection.execute(setting)
            with self.transaction() as cursor:
                schema.prepare(cursor, path)
        except StoreError:
            self._connection.close()
            raise

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn errors of DuckDB and of the file system into :class:`StoreError`."""
        try:
            yield
        except (duckdb.Error, OSError, pa.ArrowInvalid, UnicodeEncodeError) as error:
            raise StoreError(_one_line(self.path, error)) from error

    @contextmanager
    def snapshot(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Cursor on the state of this moment; what others write meanwhile is not seen."""
        with self.translated():
            cursor = self._connection.cursor()
            try:
                cursor.execute("BEGIN")
                yield cursor
            finally:
                cursor.close()

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Cursor whose changes are durable, all together, when the block is left; none if it raises."""
        with self.writing, self.snapshot() as cursor:
            yield cursor
            cursor.execute("COMMIT")

    def copy_to(self, path: Path) -> None:
        """Write a copy of this moment into a new file; others read and write on meanwhile."""
        with self.translated():
            cursor = self._connection.cursor()
            try:
                name = cursor.execute("SELECT current_database()").fetchone()
                assert name is not None
                quoted = str(path).replace("'", "''")
                cursor.execute(f"ATTACH '{quoted}' AS copy_of_it")
                try:
                    cursor.execute(f'COPY FROM DATABASE "{name[0]}" TO copy_of_it')
                finally:
                    cursor.execute("DETACH copy_of_it")
            finally:
                cursor.close()

    def close(self) -> None:
        """Write everything into the one file and release it; harmless when repeated."""
        with self.writing, self.translated():
            self._connection.close()


def _one_line(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split())
    if locked := _LOCKED.search(text):
        return f"{path}: in use by process {locked['pid']} ({locked['program']})"
    if "not a valid DuckDB database" in text:
        return f"{path}: is not a DuckDB database, or is damaged"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or path}: {error.strerror}"
    return f"{path}: {text}"
