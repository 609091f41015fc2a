"""Moves of disks as lines of JSON in a file that only grows; and what disks were asked, in another."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from forestall.adapters.files.writing import read_json, sync_folder, write_json
from forestall.model.errors import StoreError
from forestall.ports.tiers import Move, State

MOVES, LOCK, USES = "tier_moves.jsonl", "tier_moves.lock", "tier_uses.json"


class FileMoveBook:
    """A :class:`~forestall.staging.tiers.mover.MoveBook` in a state folder.

    A line that was cut off by a crash is passed over: what it says was to be done had not been begun.

    Parameters
    ----------
    folder
        State folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._lock = folder / MOVES, folder / LOCK

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
            lines = self._path.read_text("utf-8", "replace").splitlines() if self._path.exists() else []
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be read: {error.strerror or error}") from error
        newest = {(m.vm_id, m.target, m.began_at): m for line in lines if (m := _parsed(line)) is not None}
        return tuple(sorted(newest.values(), key=lambda move: move.began_at))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others out."""
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            lock = self._lock.open("a", encoding="ascii")
        except OSError as error:
            raise StoreError(f"{self._lock}: cannot be used: {error.strerror or error}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
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


def _parsed(line: str) -> Move | None:
    try:
        found = json.loads(line)
        move = Move(**{item.name: found[item.name] for item in fields(Move)} | {"state": State(found["state"])})
        return move if isinstance(move.began_at, float) and isinstance(move.ended_at, float) else None
    except (ValueError, KeyError, TypeError):
        return None
