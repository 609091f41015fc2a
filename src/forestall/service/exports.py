"""What was recorded, as a trace in a file, for processes that cannot read the store while the daemon has it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forestall.model.errors import BadInput, StoreError, WrongUse
from forestall.model.samples import Trace
from forestall.ports.store import BehaviourStore, Resolution

FOLDER = "exports"
LEARN_SECONDS, EXPORT_SECONDS = 86_400, 300.0
"""So much is learned from before a dry run counts; so long who asks for an export waits."""
LONGEST_RAW_STEPS, MOST_CELLS = 5_000, 2_500_000
"""As sampled only up to so many intervals; so many VM-intervals at most, each of which is some 200 bytes at work."""
KEPT_SECONDS, MOST_KEPT = 3_600.0, 8
COPIES, COPY_KEPT_SECONDS = "copies", 86_400.0


def copied(copy: Callable[[Path], None], state_folder: Path) -> Path:
    """A copy of the store, in a folder of its own; who wants it removes it, or the next one does after a day.

    Parameters
    ----------
    copy
        Writes a copy into a new file.
    state_folder
        Where the store is.
    """
    folder = state_folder / COPIES
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in folder.glob("*"):
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - COPY_KEPT_SECONDS:
                path.unlink()
    path = folder / f"{secrets.token_hex(8)}.duckdb"
    try:
        copy(path)
    except StoreError:
        path.unlink(missing_ok=True)
        raise
    return path


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
            Nothing was measured then, or too much.
        StoreError
            It cannot be written.
        """
        self.tidy_up(MOST_KEPT - 1)
        since = max(until - seconds, 0)
        trace = self._part(max(since - before_seconds, 0), until)
        path = self.folder / f"{secrets.token_hex(8)}.parquet"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.write(trace, path)
        except (OSError, BadInput) as error:
            raise StoreError(f"{path}: cannot be written: {error}") from error
        return {
            "path": str(path),
            "since": since,
            "step_seconds": trace.grid.step_seconds,
            "vms": len(trace.vm_ids),
        }

    def maintain(self, now: int) -> None:
        """Remove what is old."""
        self.tidy_up()

    def tidy_up(self, most: int = MOST_KEPT) -> None:
        """Remove what is old, for nobody reads it any more, and the oldest of too many."""
        found = []
        for path in self.folder.glob("*"):
            with suppress(OSError):
                found.append((path.stat().st_mtime, path))
        for number, (at, path) in enumerate(sorted(found, reverse=True)):
            if number >= most or at < self.now() - KEPT_SECONDS:
                with suppress(OSError):
                    path.unlink()

    def _part(self, since: int, until: int) -> Trace:
        vms = max(len(self.store.vm_ids()), 1)
        for resolution in Resolution:
            steps = (until - since) // resolution.bucket_seconds(self.store.step_seconds)
            if steps * vms <= MOST_CELLS and (steps <= LONGEST_RAW_STEPS or resolution is not Resolution.RAW):
                trace = self.store.history(since=since, until=until, resolution=resolution)
                if not trace.vm_ids:
                    raise WrongUse("nothing was measured then")
                return trace
        raise WrongUse(f"{steps} hours of {vms} VMs are too much at once: take less")
