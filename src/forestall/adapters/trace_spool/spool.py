"""The folder in which a recording grows, safe to be cut off at any moment."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from forestall.adapters.files.part_files import GrowingPart, lock_file, make_full, next_path, told
from forestall.adapters.trace_spool.parts import NAME, paths_of, read_part, rows_of, schema_of
from forestall.adapters.trace_spool.whole import assemble, is_in_place, move_into_place
from forestall.model.errors import StoreError, WrongUse
from forestall.ports.store import SampleBatch

MOST_ROWS = 200_000
"""A part is full with so many rows: what is held in memory at a time."""

SYNC_INTERVALS = 30
"""A power failure loses at most so many intervals."""


def folder_beside(trace: Path) -> Path:
    """Folder in which the recording of ``trace`` grows."""
    return trace.with_name(f"{trace.name}.recording")


class TraceSpool:
    """A :class:`~forestall.service.recorder.Spool` of part files; one process at a time.

    What :meth:`append` has returned from outlives the process, and but for the last :data:`SYNC_INTERVALS` a failure of
    the host, too. A recording that was cut off is taken up again.

    Parameters
    ----------
    trace
        The trace that this becomes; the folder stands beside it.
    step_seconds
        Step of the recording; None takes that of the recording that was cut off.
    most_rows
        Size of a part.

    Raises
    ------
    WrongUse
        The recording that was cut off has another step, or there is none to take up.
    StoreError
        Another process records there, or the folder cannot be written.
    """

    def __init__(self, trace: Path, step_seconds: int | None, *, most_rows: int = MOST_ROWS) -> None:
        self.trace, self.folder, self._most_rows = trace, folder_beside(trace), most_rows
        self._part: GrowingPart | None = None
        self._intervals = 0
        if step_seconds is None and not self.folder.is_dir():
            raise WrongUse(f"{trace}: there is no recording to finish")
        with told(self.folder):
            self.folder.mkdir(exist_ok=True)
            self._lock = lock_file(self.folder / "lock", "another process is recording there")
            try:
                if is_in_place(self.folder, trace) and step_seconds is not None:
                    _empty(self.folder)
                self.step_seconds = self._agreed_step(step_seconds)
            except BaseException:
                self._lock.close()
                raise

    def held_rows(self) -> int:
        """Rows that are kept so far."""
        with told(self.folder):
            return sum(0 if table is None else len(table) for table in map(read_part, paths_of(self.folder)))

    def append(self, batch: SampleBatch) -> None:
        """Keep the rows of one interval."""
        with told(self.folder):
            if self._part is None:
                self._schema = schema_of(batch.resources)
                self._part = GrowingPart(next_path(self.folder, NAME), self._schema)
            self._part.write(rows_of(batch, self._schema))
            self._intervals += 1
            if self._intervals % SYNC_INTERVALS == 0:
                self._part.sync()
            if self._part.rows >= self._most_rows:
                self._end_part()

    def publish(self, metadata: Mapping[bytes, bytes], *, replace: bool = False) -> int:
        """Make one trace of all parts, whole or not at all, remove the folder, and return how many rows it has.

        Without a single row there is no trace, and the answer is 0.

        Raises
        ------
        BadInput
            The trace exists, and is not to be replaced; the recording is kept.
        """
        with told(self.folder):
            self._end_part()
            if is_in_place(self.folder, self.trace):
                rows = self.held_rows()
            elif rows := assemble(self.folder, metadata):
                move_into_place(self.folder, self.trace, replace=replace)
            shutil.rmtree(self.folder)
            return rows

    def close(self) -> None:
        """Let go of the folder; what is in it stays."""
        if self._part is not None:
            self._part.close()
            self._part = None
        self._lock.close()

    def _end_part(self) -> None:
        if self._part is not None:
            part, self._part = self._part, None
            part.close()
            make_full(part.path, read_part(part.path))

    def _agreed_step(self, asked: int | None) -> int:
        """Step of the recording that was cut off; without one, that which is asked for, noted for the next process."""
        path = self.folder / "recording.json"
        held = _stated_step(path) if path.exists() else None
        if held is not None and asked not in (None, held):
            raise WrongUse(
                f"{self.trace}: a recording with a step of {held} s was cut off here; "
                f"take it up with --step-seconds {held}, or end it with --finish"
            )
        if held is not None:
            return held
        if asked is None:
            raise WrongUse(f"{self.trace}: there is no recording to finish")
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"step_seconds": asked}) + "\n", "utf-8")
        os.replace(temporary, path)
        return asked


def _stated_step(path: Path) -> int:
    try:
        return int(json.loads(path.read_text("utf-8"))["step_seconds"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: does not say its step: {error}") from error


def _empty(folder: Path) -> None:
    """Remove everything but the lock."""
    for path in folder.iterdir():
        if path.name != "lock":
            path.unlink()
