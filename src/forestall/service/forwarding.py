"""From a host to the centre: vectors are gathered into frames, wait on the disk, and are sent in order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random
from typing import Protocol

from forestall.model.errors import FrameRefused, StoreError, in_one_line
from forestall.ports.vectors import Spool, VectorBatch

FRAME_VECTORS, LONGEST_WAIT_SECONDS = 200, 30.0
MOST_IN_FRAME, MOST_GATHERED = 1_000, 20_000
SHORTEST_REST_SECONDS, LONGEST_REST_SECONDS = 1.0, 60.0
IDLE_SECONDS = 0.5


class Line(Protocol):
    """The line to the centre."""

    def send(self, body: bytes) -> None:
        """Send a frame; an error if it is not there."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class Gathering:
    """Gathers vectors into frames that are worth sending, and lets them wait in a spool.

    Parameters
    ----------
    spool
        Where frames wait.
    now
        Seconds that never go back.
    frame_vectors, wait_seconds
        A frame is made when so many vectors are there, or the first of them has waited so long.

    Attributes
    ----------
    dropped
        Vectors that were dropped because nothing could be written for long.
    """

    def __init__(
        self,
        spool: Spool,
        now: Callable[[], float],
        frame_vectors: int = FRAME_VECTORS,
        wait_seconds: float = LONGEST_WAIT_SECONDS,
    ) -> None:
        self._spool, self._now = spool, now
        self._frame_vectors, self._wait_seconds = frame_vectors, wait_seconds
        self.dropped, self._turn = 0, threading.Lock()
        self._gathered: dict[tuple[str, tuple[str, ...]], list[VectorBatch]] = {}
        self._since: dict[tuple[str, tuple[str, ...]], float] = {}

    def add(self, batch: VectorBatch) -> None:
        """Gather vectors; the oldest make room where nothing can be written for long, and are counted."""
        key = (batch.kind.value, batch.names)
        with self._turn:
            gathered = self._gathered.setdefault(key, [])
            gathered.append(batch)
            while len(gathered) > 1 and sum(map(len, gathered)) > MOST_GATHERED:
                self.dropped += len(gathered.pop(0))
            self._since.setdefault(key, self._now())
            self._make_frames()

    def close(self) -> None:
        """Let everything that was gathered wait in the spool."""
        with self._turn:
            self._make_frames(everything=True)

    def _make_frames(self, everything: bool = False) -> None:
        """Let what is due, or everything, wait in the spool; on an error what is not there yet stays gathered."""
        trouble: StoreError | None = None
        for key, batches in list(self._gathered.items()):
            due = self._now() - self._since[key] >= self._wait_seconds
            if not (everything or due or sum(map(len, batches)) >= self._frame_vectors):
                continue
            pieces = self._gathered[key] = VectorBatch.joined(batches).pieces(MOST_IN_FRAME)
            try:
                while pieces:
                    self._spool.append(pieces[0])
                    pieces.pop(0)
            except StoreError as error:
                trouble = error
                continue
            del self._gathered[key], self._since[key]
        if trouble is not None:
            raise trouble


class Forwarding:
    """Sends what waits in a spool, in a thread of its own.

    Parameters
    ----------
    spool, line
        From where to where.
    note
        Takes one line for the operator.
    random
        Spreads the attempts of many hosts.
    """

    def __init__(self, spool: Spool, line: Line, note: Callable[[str], None], random: Random | None = None) -> None:
        self._spool, self._line, self._note = spool, line, note
        self._random = random or Random()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forwarding", daemon=True)
        self.sent = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; what waits stays in the spool."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._line.close()

    def _run(self) -> None:
        rest = SHORTEST_REST_SECONDS
        while not self._stop.is_set():
            try:
                moved = self._send_one()
            except Exception as error:  # whatever it is: the next attempt may do better, and nobody would begin again
                self._note(f"vectors wait: {in_one_line(error)}")
                self._stop.wait(rest * self._random.uniform(0.5, 1.5))
                rest = min(2 * rest, LONGEST_REST_SECONDS)
                continue
            rest = SHORTEST_REST_SECONDS
            if not moved:
                self._stop.wait(IDLE_SECONDS)

    def _send_one(self) -> bool:
        """Send the oldest frame; False if none waits."""
        oldest = self._spool.oldest()
        if oldest is None:
            return False
        sequence, body = oldest
        try:
            self._line.send(body)
        except FrameRefused as error:
            kept = self._spool.set_aside(sequence)
            self._note(f"a frame was refused, and is kept as {kept}: {error}")
            return True
        self._spool.done(sequence)
        self.sent += 1
        return True
