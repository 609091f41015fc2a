"""Moves of disks as lines of JSON in a file that only grows; and what disks were asked, in another."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any

from forestall.adapters.files.writing import read_json, sync_folder, write_json
from forestall.model.errors import StoreError
from forestall.ports.tiers import Move, State

PATIENCE_SECONDS = 10.0
MOVES, LOCK, USES = "tier_moves.jsonl", "tier_moves.lock", "tier_uses.json"


class FileMoveBook:
    """A :class:`~forestall.staging.tiers.mover.MoveBook` in a state folder.

    A line that was cut off by a crash is passed over: what it says was to be done had not been begun.

    Parameters
    ----------
    folder
        State folder.
    patience_seconds
        For so long another process that takes a step is waited for: it may hang, and the watchdog must not.
    """

    def __init__(self, folder: Path, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._path, self._lock, self._patience_seconds = folder / MOVES, folder / LOCK, patience_seconds
        self._known: dict[tuple[str, str, float], Move] = {}
        self._read_to = 0

    def write(self, move: Move) -> None:
        """Add a line; on the disk when this returns."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                # A line that was cut off before must not spoil the next one.
                file.write(f"\n{json.dumps(asdict(move))}\n")
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self._path.parent)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be written: {error.strerror or error}") from error

    def moves(self) -> tuple[Move, ...]:
        """Every move as it was last written down, by when they began."""
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._read_to:  # another file
                    self._known, self._read_to = {}, 0
                file.seek(self._read_to)
                lines, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be read: {error.strerror or error}") from error
        self._read_to += len(lines) + len(newline)
        found = (_parsed(line) for line in lines.decode("utf-8", "replace").split("\n"))
        self._known |= {move.key: move for move in found if move is not None}
        return tuple(sorted(self._known.values(), key=lambda move: move.began_at))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others out."""
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            lock = self._lock.open("a", encoding="ascii")
        except OSError as error:
            raise StoreError(f"{self._lock}: cannot be used: {error.strerror or error}") from error
        with lock:
            until = time.monotonic() + self._patience_seconds
            while not _locked(lock):
                if time.monotonic() >= until:
                    raise StoreError(f"{self._lock}: another process moves a disk, and does not come to an end")
                time.sleep(0.05)
            yield


class FileUses:
    """Keeps how often disks were asked; see :class:`~forestall.staging.tiers.loop.UseStore`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / USES

    def read(self) -> Any:
        """What was kept; None if nothing was."""
        return read_json(self._path)

    def write(self, value: Any) -> None:
        """Keep values in place of those before."""
        write_json(self._path, value)


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _parsed(line: str) -> Move | None:
    try:
        found = json.loads(line)
        said = {item.name: found[item.name] for item in fields(Move) if item.name in found}
        move = Move(**said | {"state": State(found["state"])})
        return move if isinstance(move.began_at, float) and isinstance(move.ended_at, float) else None
    except (ValueError, KeyError, TypeError):
        return None
