"""What VMs use, written down; staging goes on where it cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from forestall.model.errors import ForestallError
from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.ports.access_log import Accesses, AccessLog, Source

NOTHING = (
    Source("", "", "", "", ""),
    Accesses(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_)),
)
"""Nobody's accesses, none: with them time passes in a log."""


class Written:
    """Writes into a log, or nowhere; that it cannot is said once.

    Parameters
    ----------
    log
        The log; None: nothing is written.
    now
        Tells the time, seconds UTC.
    note
        Takes one line for the operator.
    """

    def __init__(
        self, log: AccessLog | None, now: Callable[[], float], note: Callable[[str], None] = lambda _: None
    ) -> None:
        self._log, self._now, self._note = log, now, note
        self._failed = False

    def add(
        self, source: Source, number: IntArray, size_bytes: IntArray, write: BoolArray, at: FloatArray | None = None
    ) -> None:
        """Write accesses (access,) down, as of now unless it is known when they were."""
        if self._log is not None and len(number):
            with self._going_on():
                at = np.full(len(number), self._now()) if at is None else at
                self._log.add(source, Accesses(at, number, size_bytes, write))

    def pass_time(self) -> None:
        """Have what was gathered written, if it has waited long enough."""
        if self._log is not None:
            with self._going_on():
                self._log.add(*NOTHING)

    def close(self) -> None:
        """Write the rest."""
        if self._log is not None:
            with self._going_on():
                self._log.close()

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        try:
            yield
        except ForestallError as error:
            if not self._failed:
                self._note(f"what VMs use is not written down: {error}")
            self._failed = True
