"""Requests for memory, and what programs have taken, in a file of the state folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forestall.adapters.files.writing import read_json, write_json

NAME = "preallocations.json"


class FilePreallocations:
    """Keeps plain values; see :class:`~forestall.service.preallocation.Store`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def read(self) -> Any:
        """What was kept; None if nothing was."""
        return read_json(self._path)

    def write(self, value: Any) -> None:
        """Keep a value in place of the one before; on the disk when this returns."""
        write_json(self._path, value)
