"""What was sent in each interval: lines of JSON in one file for each day; the days before the last week are removed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forestall.model.errors import StoreError

DAYS = 8
PREFIX, SUFFIX = "traffic-", ".jsonl"
Series = tuple[str, ...]


class TrafficLog:
    """The log in a folder.

    A line that was cut off by a crash is passed over when it is read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, peaks: Mapping[Series, float], starts_at: int) -> None:
        """Write down the highest rates of an interval.

        Raises
        ------
        StoreError
            It cannot be written.
        """
        day = datetime.fromtimestamp(starts_at, UTC).strftime("%Y%m%d")
        path = self._folder / f"{PREFIX}{day}{SUFFIX}"
        line = {"at": starts_at, "peaks": [[*name, round(peak, 1)] for name, peak in peaks.items()]}
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"\n{json.dumps(line)}\n")  # a line that was cut off before must not spoil this one
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
        for old in self._files()[:-DAYS]:
            with suppress(OSError):
                os.unlink(old)

    def read(self) -> Iterator[tuple[int, dict[Series, float]]]:
        """All intervals, in order: when each began, and its peaks."""
        last = -1
        for path in self._files():
            try:
                lines = path.read_text("utf-8", errors="replace").splitlines()
            except OSError:
                continue
            for line in lines:
                found = _parsed(line)
                if found is not None and found[0] > last:
                    last = found[0]
                    yield found

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"{PREFIX}*{SUFFIX}"))


def _parsed(line: str) -> tuple[int, dict[Series, float]] | None:
    try:
        found: Any = json.loads(line)
        return int(found["at"]), {tuple(map(str, name)): float(peak) for *name, peak in found["peaks"]}
    except (ValueError, TypeError, KeyError):
        return None
