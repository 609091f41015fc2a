"""Traces in a folder: ``traces/NAME.parquet`` or ``.csv``, and ``NAME.json`` with what they are called."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import suppress
from pathlib import Path

from forestall.adapters.files.writing import read_json, write_file, write_json
from forestall.model.errors import StoreError, WrongUse
from forestall.ports.trace_shelf import KeptTrace

FOLDER = "traces"
PARQUET = b"PAR1"
MOST_TRACES, MOST_BYTES = 100, 2 << 30


class FileTraceShelf:
    """:class:`~forestall.ports.trace_shelf.TraceShelf` in the folder of the API."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._turn = threading.Lock()

    def read(self) -> tuple[KeptTrace, ...]:
        """As in the port."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            with suppress(StoreError, OSError, KeyError, TypeError, StopIteration):
                about = read_json(path)
                file = next(each for kind in (".parquet", ".csv") if (each := path.with_suffix(kind)).exists())
                found.append(KeptTrace(path.stem, str(about["label"]), file.stat().st_size, float(about["at"]), file))
        return tuple(found)

    def put(self, data: bytes, label: str) -> KeptTrace:
        """As in the port."""
        name = hashlib.sha256(data).hexdigest()[:16]
        with self._turn:
            there = self.read()
            if (known := next((each for each in there if each.name == name), None)) is not None:
                return known
            if len(there) >= MOST_TRACES or sum(each.size_bytes for each in there) + len(data) > MOST_BYTES:
                raise WrongUse(f"at most {MOST_TRACES} traces of {MOST_BYTES} bytes are kept: remove one first")
            path = self._folder / f"{name}{'.parquet' if data.startswith(PARQUET) else '.csv'}"
            at = time.time()
            # what it is called first: of data that nobody knows of nobody could get rid
            write_json(path.with_suffix(".json"), {"label": label, "at": at}, private=True)
            write_file(path, data, private=True)
            return KeptTrace(name, label, len(data), at, path)

    def remove(self, name: str) -> None:
        """As in the port."""
        with self._turn:
            for path in self._folder.glob(f"{name}.*"):
                try:
                    path.unlink()
                except OSError as error:
                    raise StoreError(f"{path}: cannot be removed: {error.strerror}") from error
