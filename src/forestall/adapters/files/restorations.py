"""Restorations that wait for the journal, as lines of JSON in a file."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from forestall.adapters.files.writing import sync_folder
from forestall.model.decision import Restoration
from forestall.model.errors import StoreError
from forestall.ports.journal import Journal
from forestall.ports.store import LATEST

RESTORATIONS, LOCK = "restorations.jsonl", "restorations.lock"


class FileRestorations:
    """A :class:`~forestall.service.liveness.Restorations` in a state folder; any number of processes may use it.

    A line that was cut off by a crash is passed over: the VM that it was about was put back nevertheless.

    Parameters
    ----------
    folder
        State folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._lock = folder / RESTORATIONS, folder / LOCK

    def append(self, restorations: Sequence[Restoration]) -> None:
        """Add lines; on the disk when this returns."""
        with self._alone():
            with self._path.open("a", encoding="utf-8") as file:
                # A line that was cut off before must not spoil the next one.
                file.write("".join(f"\n{json.dumps(asdict(r))}" for r in restorations) + "\n")
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self._path.parent)

    def held(self) -> tuple[Restoration, ...]:
        """Every whole line."""
        lines = self._path.read_text("utf-8", "replace").splitlines() if self._path.exists() else ()
        return tuple(found for line in lines if (found := _parsed(line)) is not None)

    def hand_over(self, journal: Journal) -> int:
        """Let the journal have all lines, and drop them; how many. Interrupted, it does so again at the next call."""
        if not self._path.exists():
            return 0
        with self._alone():
            waiting = self.held()
            journal.record((), (), waiting)
            self._path.unlink(missing_ok=True)
        return len(waiting)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others out: what is added while the journal is told must not be dropped with what it knows."""
        try:
            with self._lock.open("a", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be used: {error.strerror or error}") from error


def _parsed(line: str) -> Restoration | None:
    try:
        fields = json.loads(line)
        found = Restoration(str(fields["vm_id"]), int(fields["at"]), str(fields["why"]))
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    return found if 0 <= found.at < LATEST else None
