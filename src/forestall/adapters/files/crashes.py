"""Record of unclean ends: a mark that is set while a daemon runs, and the instants at which one was found set."""

from __future__ import annotations

from pathlib import Path

from forestall.adapters.files.writing import read_json, write_json
from forestall.model.errors import StoreError

CRASHES = "crashes.json"
MOST_KEPT = 20


class FileCrashes:
    """``crashes.json`` of a state folder: ``{"running": bool, "crashes": [seconds, ...]}``.

    Parameters
    ----------
    folder
        State folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / CRASHES

    def begin(self, now: float) -> tuple[float, ...]:
        """A daemon starts at instant ``now``: the instants at which an unclean end was found, this one included.

        Raises
        ------
        StoreError
            The record cannot be written.
        """
        running, crashes = self._read()
        if running:
            crashes = [*crashes, now][-MOST_KEPT:]
        write_json(self._path, {"running": True, "crashes": crashes})
        return tuple(crashes)

    def end(self) -> None:
        """The daemon ends as it should."""
        _, crashes = self._read()
        write_json(self._path, {"running": False, "crashes": crashes})

    def _read(self) -> tuple[bool, list[float]]:
        """What is recorded; a damaged record counts as an unclean end."""
        try:
            found = read_json(self._path)
            if found is None:
                return False, []
            return bool(found["running"]), [float(at) for at in found["crashes"]]
        except (StoreError, KeyError, TypeError, ValueError):
            return True, []
