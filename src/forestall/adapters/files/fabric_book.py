"""What the fabric loop must know when it is started anew, as one JSON file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from forestall.adapters.files.writing import read_json, write_json
from forestall.model.errors import StoreError
from forestall.ports.fabric import Remembered

FILE = "fabric.json"


class FileFabricBook:
    """A :class:`~forestall.ports.fabric.FabricBook` in a folder; ``note`` takes one line for the operator."""

    def __init__(self, folder: Path, note: Callable[[str], None]) -> None:
        self._path, self._note = folder / FILE, note

    def load(self) -> Remembered:
        """What was saved last."""
        try:
            found: Any = read_json(self._path)
            return msgspec.convert(found, Remembered, strict=False) if found is not None else Remembered()
        except (StoreError, msgspec.ValidationError) as error:
            self._note(f"{self._path} cannot be used, numbers begin anew: {error}")
            return Remembered()

    def save(self, remembered: Remembered) -> None:
        """Write it down, in place of what was there."""
        write_json(self._path, msgspec.to_builtins(remembered, str_keys=True))
