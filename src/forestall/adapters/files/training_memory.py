"""When trainings began: ``training.json`` of a state folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from forestall.adapters.files.writing import read_json, write_json
from forestall.model.errors import StoreError


class FileTrainingMemory:
    """Instants by name, in seconds; a damaged file counts as none.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Mapping[str, float]:
        """Instants by name; empty at first."""
        try:
            found = read_json(self._path) or {}
            instants = {str(name): float(at) for name, at in found.items()}
        except (StoreError, TypeError, ValueError, AttributeError):
            return {}
        return instants if all(map(math.isfinite, instants.values())) else {}

    def write(self, instants: Mapping[str, float]) -> None:
        """Remember, durably."""
        write_json(self._path, dict(instants))
