"""Restorations that wait for the journal, as lines of JSON in a file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from forestall.adapters.files.writing import sync_folder
from forestall.model.decision import Restoration
from forestall.model.errors import StoreError

RESTORATIONS = "restorations.jsonl"


class FileRestorations:
    """:class:`~forestall.ports.restorations.Restorations` in a state folder.

    A line that was cut off by a crash is passed over: the VM that it was about was put back nevertheless.

    Parameters
    ----------
    folder
        State folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / RESTORATIONS

    def append(self, restorations: Sequence[Restoration]) -> None:
        """Add lines; on the disk when this returns."""
        try:
            new = not self._path.exists()
            with self._path.open("a", encoding="utf-8") as file:
                # A line that was cut off before must not spoil the next one.
                file.write("".join(f"\n{json.dumps(asdict(r))}" for r in restorations) + "\n")
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync_folder(self._path.parent)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be written: {error.strerror}") from error

    def held(self) -> tuple[Restoration, ...]:
        """Every whole line."""
        try:
            lines = self._path.read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be read: {error.strerror}") from error
        return tuple(found for line in lines if (found := _parsed(line)) is not None)

    def clear(self) -> None:
        """Remove the file."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be removed: {error.strerror}") from error


def _parsed(line: str) -> Restoration | None:
    try:
        fields = json.loads(line)
        return Restoration(str(fields["vm_id"]), int(fields["at"]), str(fields["why"]))
    except (ValueError, KeyError, TypeError):
        return None
