"""An access log behind a thread: who adds to it never waits for the disk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from forestall.model.errors import StoreError, in_one_line
from forestall.ports.access_log import Accesses, AccessLog, Source

MOST_WAITING = 2_000
"""So many additions wait; while the disk is slower than that, further ones are lost."""
TICK_SECONDS, END_SECONDS = 0.5, 3.0


class BackgroundAccessLog:
    """An :class:`~forestall.ports.access_log.AccessLog` that hands on to another one, which its thread alone uses.

    Parameters
    ----------
    log
        Where it is written.
    nothing
        A source and accesses with which time passes in it.
    """

    def __init__(self, log: AccessLog, nothing: tuple[Source, Accesses]) -> None:
        self._log, self._nothing = log, nothing
        self._waiting: queue.Queue[tuple[Source, Accesses]] = queue.Queue(MOST_WAITING)
        self._error: StoreError | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="access log", daemon=True)
        self._thread.start()

    def add(self, source: Source, accesses: Accesses) -> None:
        """Take accesses down soon.

        Raises
        ------
        StoreError
            Something of before could not be written, or the disk is too slow for these.
        """
        if len(accesses):
            try:
                self._waiting.put_nowait((source, accesses))
            except queue.Full:
                self._error = StoreError("accesses come faster than they can be written: some are lost")
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Write the rest, if the disk is quick enough."""
        self._over.set()
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            raise StoreError("the last accesses could not be written in time")
        self._do(self._log.close)

    def _work(self) -> None:
        while True:
            try:
                item = self._waiting.get(timeout=TICK_SECONDS)
            except queue.Empty:
                if self._over.is_set():
                    return
                item = self._nothing
            self._do(lambda item=item: self._log.add(*item))  # type: ignore[misc]

    def _do(self, what: Callable[[], None]) -> None:
        try:
            what()
        except StoreError as error:
            self._error = error
        except Exception as error:  # the thread must go on, whatever it is
            self._error = StoreError(in_one_line(error))
