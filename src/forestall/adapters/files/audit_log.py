"""The audit log in a file of JSON lines, that grows at its end only."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import msgspec

from forestall.adapters.files.writing import sync_folder
from forestall.model.errors import StoreError
from forestall.ports.audit_log import AuditEntry, Deed

NAME = "audit.jsonl"
LONGEST_LINE = 1 << 16
_END = b"\n"


class FileAuditLog:
    """:class:`~forestall.ports.audit_log.AuditLog` in a state folder; several processes may use it.

    Parameters
    ----------
    folder
        Where.
    chained
        Makes an entry of a deed and the last entry.
    """

    def __init__(self, folder: Path, chained: Callable[[Deed, AuditEntry | None], AuditEntry]) -> None:
        self._path, self._chained = folder / NAME, chained

    def append(self, deed: Deed) -> AuditEntry:
        """As in the port. What a process that died had begun to write, which nobody was told is kept, is cut off."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            entry, line = self._entered(deed, self._last(descriptor))
            size = os.fstat(descriptor).st_size
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, size)
                raise StoreError(f"{self._path}: cannot be written: the disk is full")
            os.fsync(descriptor)
            if not size:
                sync_folder(self._path.parent)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be written: {error.strerror}") from error
        finally:
            os.close(descriptor)
        return entry

    def entries(self, after: int = 0) -> Iterator[AuditEntry]:
        """As in the port; a line that is not whole at the end is one that is being written."""
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if not line.endswith(_END):
                        return
                    if number > after:  # a line is an entry, counted from 1
                        yield self._entry(line, f"line {number}")
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be read: {error.strerror}") from error

    def newest(self) -> int:
        """As in the port; what is being written at the end does not count yet."""
        try:
            with self._path.open("rb") as file:
                begins = max(file.seek(0, os.SEEK_END) - 2 * LONGEST_LINE, 0)
                file.seek(begins)
                lines = file.read().split(_END)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be read: {error.strerror}") from error
        return self._entry(lines[-2], "the last line").sequence if len(lines) > 1 else 0

    def _last(self, descriptor: int) -> AuditEntry | None:
        """The last entry, after what stands half written behind it is cut off."""
        size = os.fstat(descriptor).st_size
        begins = max(size - 2 * LONGEST_LINE, 0)
        tail = os.pread(descriptor, size - begins, begins)
        whole = tail.rfind(_END) + 1
        if whole < len(tail):
            if not whole and begins:
                raise StoreError(f"{self._path}: is damaged: its end is no entry")
            os.ftruncate(descriptor, begins + whole)
        lines = tail[:whole].split(_END)
        return self._entry(lines[-2], "the last line") if len(lines) > 1 else None

    def _entered(self, deed: Deed, last: AuditEntry | None) -> tuple[AuditEntry, bytes]:
        """The entry of a deed, and as it is written; refused unless it can be read again as the same."""
        try:
            entry = self._chained(deed, last)
            line = json.dumps(asdict(entry), separators=(",", ":"), allow_nan=False).encode() + _END
            if msgspec.json.decode(line, type=AuditEntry) != entry:
                raise ValueError("it would be read as another")
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise StoreError(f"{self._path}: an entry cannot be written down: {error}") from error
        if len(line) > LONGEST_LINE:
            raise StoreError(f"{self._path}: an entry of {len(line)} bytes is longer than {LONGEST_LINE}")
        return entry, line

    def _entry(self, line: bytes, where: str) -> AuditEntry:
        try:
            return msgspec.json.decode(line, type=AuditEntry)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise StoreError(f"{self._path}: {where}: is damaged: {error}") from error
