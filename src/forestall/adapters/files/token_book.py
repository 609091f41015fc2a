"""Tokens in a file: ``{"version": 1, "tokens": {NAME: {"handle": ..., "role": ..., "proofs": [...], ...}}}``."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from forestall.adapters.files.writing import read_versioned, write_json
from forestall.model.errors import StoreError
from forestall.ports.token_book import TokenRecord

NAME, LOCK, VERSION = "tokens.json", "tokens.lock", 1


class FileTokenBook:
    """:class:`~forestall.ports.token_book.TokenBook` in a state folder; several processes may use it."""

    def __init__(self, folder: Path) -> None:
        self._path, self._lock = folder / NAME, folder / LOCK
        self._kept: tuple[tuple[int, int, int] | None, Mapping[str, TokenRecord]] = None, {}

    def read(self) -> Mapping[str, TokenRecord]:
        """As in the port; the file is read when it is another one than the last time."""
        stamp = self._stamp()
        seen, records = self._kept
        if stamp is None or stamp != seen:
            records = self._read()
            self._kept = stamp, records  # in one step: several threads read, and none must see old records as new
        return records

    @contextmanager
    def changing(self) -> Iterator[dict[str, TokenRecord]]:
        """As in the port."""
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = self._lock.open("a")
        except OSError as error:
            raise StoreError(f"{self._lock}: cannot be made: {error.strerror}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            records = dict(self._read())
            yield records
            plain = {name: asdict(record) for name, record in records.items()}
            write_json(self._path, {"version": VERSION, "tokens": plain}, private=True)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> Mapping[str, TokenRecord]:
        return read_versioned(self._path, VERSION, "tokens", dict[str, TokenRecord]) or {}
