"""What was recorded, as a trace in a file, for processes that cannot read the store while the daemon has it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forestall.model.errors import StoreError, WrongUse
from forestall.model.samples import Trace
from forestall.ports.store import BehaviourStore, Resolution

FOLDER = "exports"
MOST_STEPS, MOST_CELLS = 5_000, 20_000_000
KEPT_SECONDS = 3_600.0


@dataclass
class Exports:
    """Writes parts of the store into files, and removes them later.

    Attributes
    ----------
    store
        What was measured.
    folder
        Where the files are; of nobody else.
    write
        Writes a trace into a file.
    now
        Tells the time, seconds UTC.
    """

    store: BehaviourStore
    folder: Path
    write: Callable[[Trace, Path], None]
    now: Callable[[], float] = time.time

    def export(self, until: int, seconds: int, before_seconds: int = 0) -> dict[str, Any]:
        """Write what was measured in the last ``seconds`` before ``until``, and as far as it is there some time before.

        As finely as it is kept, unless that would be too much to be replayed in minutes: then in means.

        Returns
        -------
        dict
            ``path`` of the file, which is kept for an hour, ``since`` (without the time before), ``step_seconds``, and
            how many ``vms``.

        Raises
        ------
        WrongUse
            Nothing was measured then.
        StoreError
            It cannot be written.
        """
        self.tidy_up()
        since = max(until - seconds, 0)
        trace = self._part(max(since - before_seconds, 0), until)
        path = self.folder / f"{secrets.token_hex(8)}.parquet"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.write(trace, path)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
        return {
            "path": str(path),
            "since": since,
            "step_seconds": trace.grid.step_seconds,
            "vms": len(trace.vm_ids),
        }

    def tidy_up(self) -> None:
        """Remove what is old: nobody reads it any more."""
        for path in self.folder.glob("*"):
            with suppress(OSError):
                if path.stat().st_mtime < self.now() - KEPT_SECONDS:
                    path.unlink()

    def _part(self, since: int, until: int) -> Trace:
        vms = max(len(self.store.vm_ids()), 1)
        for resolution in Resolution:
            steps = (until - since) // resolution.bucket_seconds(self.store.step_seconds)
            if (steps <= MOST_STEPS and steps * vms <= MOST_CELLS) or resolution is Resolution.HOUR:
                trace = self.store.history(since=since, until=until, resolution=resolution)
                if not trace.vm_ids:
                    raise WrongUse("nothing was measured then")
                return trace
        raise AssertionError("there is a coarsest resolution")
