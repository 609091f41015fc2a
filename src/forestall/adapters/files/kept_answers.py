"""Answers that are kept, in a file of SQLite."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forestall.model.errors import StoreError
from forestall.ports.kept_answers import KEPT_SECONDS, Answer, Kept

NAME = "answers.sqlite3"
_TABLE = """\
CREATE TABLE IF NOT EXISTS answer (
    caller TEXT NOT NULL, key TEXT NOT NULL, at REAL NOT NULL, fingerprint TEXT NOT NULL,
    status INTEGER, media_type TEXT, body BLOB, headers TEXT, PRIMARY KEY (caller, key)
)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS answer_at ON answer (at)"


class FileKeptAnswers:
    """:class:`~forestall.ports.kept_answers.KeptAnswers` in a state folder; used from any thread."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._turn = threading.Lock()
        self._database: sqlite3.Connection | None = None

    def begin(self, caller: str, key: str, fingerprint: str, now: float) -> Kept | None:
        """As in the port; what is older than it is kept for is forgotten."""
        with self._opened() as database:
            database.execute("DELETE FROM answer WHERE at < ?", (now - KEPT_SECONDS,))
            found = database.execute(
                "SELECT fingerprint, status, media_type, body, headers FROM answer WHERE caller = ? AND key = ?",
                (caller, key),
            ).fetchone()
            if found is not None:
                mark, status, media_type, body, headers = found
                answer = None if status is None else Answer(status, media_type, body, json.loads(headers or "{}"))
                return Kept(mark, answer)
            database.execute(
                "INSERT INTO answer (caller, key, at, fingerprint) VALUES (?, ?, ?, ?)", (caller, key, now, fingerprint)
            )
            return None

    def end(self, caller: str, key: str, answer: Answer) -> None:
        """As in the port."""
        with self._opened() as database:
            database.execute(
                "UPDATE answer SET status = ?, media_type = ?, body = ?, headers = ? WHERE caller = ? AND key = ?",
                (answer.status, answer.media_type, answer.body, json.dumps(dict(answer.headers)), caller, key),
            )

    def forget(self, caller: str, key: str) -> None:
        """As in the port."""
        with self._opened() as database:
            database.execute("DELETE FROM answer WHERE caller = ? AND key = ?", (caller, key))

    def close(self) -> None:
        """Let go of the file."""
        with self._turn:
            if self._database is not None:
                self._database.close()
                self._database = None

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """One at a time, in a transaction that is on the disk when the block ends."""
        try:
            with self._turn:
                if self._database is None:
                    self._database = self._open()
                with self._database:
                    yield self._database
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self._path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        database = sqlite3.connect(self._path, timeout=10.0, check_same_thread=False)
        database.execute("PRAGMA synchronous = FULL")
        database.execute(_TABLE)
        if "headers" not in {row[1] for row in database.execute("PRAGMA table_info(answer)")}:
            database.execute("ALTER TABLE answer ADD COLUMN headers TEXT")  # a file of an earlier version
        database.execute(_INDEX)
        return database
