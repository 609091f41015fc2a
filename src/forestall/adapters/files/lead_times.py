"""Lead times as a file, so that a daemon that starts anew knows how long its means take."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from forestall.adapters.files.writing import read_json, write_json
from forestall.model.errors import StoreError


class FileLeadTimes:
    """A JSON file: ``{"balloon": [seconds, ...]}``. Losing it costs only that times are measured anew.

    Parameters
    ----------
    path
        Made when the first time was measured.
    warn
        Takes one line when it cannot be read or written; of several failures in a row only the first is told.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self._path, self._warn, self._failed = path, warn, False

    def read(self) -> Mapping[str, Sequence[float]]:
        """What was kept; nothing if there is no file, or a damaged one."""
        try:
            return _checked(read_json(self._path))
        except (StoreError, TypeError, ValueError) as error:
            reason = error if isinstance(error, StoreError) else f"{self._path}: is damaged: it holds no lead times"
            self._warn(f"{reason}; they are measured anew")
            return {}

    def write(self, seconds: Mapping[str, Sequence[float]]) -> None:
        """Replace the file."""
        try:
            # Not synced: it is written at many cycles, and a host that loses power loses little with it.
            write_json(self._path, seconds, durable=False)
        except StoreError as error:
            if not self._failed:
                self._warn(f"{error}; lead times are not kept")
            self._failed = True
            return
        self._failed = False


def _checked(found: object) -> Mapping[str, Sequence[float]]:
    """The content as times; an error if it is something else."""
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(times, list) for times in found.values()):
        raise TypeError
    seconds = {means: [float(each) for each in times] for means, times in found.items()}
    if not all(0 <= each < math.inf for times in seconds.values() for each in times):
        raise ValueError
    return seconds
