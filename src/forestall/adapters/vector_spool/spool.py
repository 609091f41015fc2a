"""A spool in a folder: a file for each frame, named for its number; there as a whole or not at all.

The spool has a name of its own, random, in the names of its files: numbers begin at 1 in a new spool, and a spool is
new where no file of an older one waits. So no number is ever used twice, whatever happens when.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from forestall.adapters.files.writing import sync_folder
from forestall.model.errors import StoreError
from forestall.ports.vectors import VectorBatch

MOST_REFUSED = 100
MAX_BYTES, MAX_AGE_SECONDS = 256 * 1024 * 1024, 24 * 3600.0
_FILE = re.compile(r"([0-9a-f]{16})-(\d{12})\.frame")


class Waiting(NamedTuple):
    """A frame that waits: number, size, and since when (seconds of the clock)."""

    sequence: int
    size_bytes: int
    since: float


class FileSpool:
    """A :class:`~forestall.ports.vectors.Spool`. May be used from several threads.

    Parameters
    ----------
    folder
        Made if it is not there.
    encode
        Makes a frame of a batch: name of the spool, number, batch.
    now
        The clock.
    max_bytes, max_age_seconds
        What is more, or older, is dropped, the oldest first; the newest frame always stays.

    Attributes
    ----------
    dropped
        Frames that were dropped since the start.

    Raises
    ------
    StoreError
        The folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        encode: Callable[[str, int, VectorBatch], bytes],
        now: Callable[[], float],
        *,
        max_bytes: int = MAX_BYTES,
        max_age_seconds: float = MAX_AGE_SECONDS,
    ) -> None:
        self._folder, self._encode, self._now = folder, encode, now
        self._max_bytes, self._max_age_seconds = max_bytes, max_age_seconds
        self._lock = threading.Lock()
        self.dropped = 0
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for aside in folder.glob("*.tmp"):
                aside.unlink()
            found = sorted((m[1], int(m[2])) for m in map(_FILE.fullmatch, os.listdir(folder)) if m)
            if len({name for name, _ in found}) > 1:
                raise StoreError(f"{folder}: holds the frames of two spools: move those of one elsewhere")
            self.name = found[0][0] if found else secrets.token_hex(8)
            self._waiting = deque(self._looked_up(sequence) for _, sequence in found)
        except OSError as error:
            raise StoreError(f"{folder}: cannot be used: {error.strerror}") from error
        self._next = self._waiting[-1].sequence + 1 if self._waiting else 1

    @property
    def waiting(self) -> int:
        """Frames that wait."""
        return len(self._waiting)

    @property
    def waiting_bytes(self) -> int:
        """Their size."""
        with self._lock:
            return sum(frame.size_bytes for frame in self._waiting)

    def append(self, batch: VectorBatch) -> None:
        """Let a batch wait; it is on the disk on return."""
        with self._lock:
            sequence = self._next
            body = self._encode(self.name, sequence, batch)
            self._write(self._path(sequence), body)
            self._next += 1
            self._waiting.append(Waiting(sequence, len(body), self._now()))
            self._make_room()

    def oldest(self) -> tuple[int, bytes] | None:
        """The frame to be sent next, and its number."""
        with self._lock:
            while self._waiting:
                sequence = self._waiting[0].sequence
                try:
                    return sequence, self._path(sequence).read_bytes()
                except FileNotFoundError:
                    self._waiting.popleft()  # somebody has removed it: there is nothing to send
                    self.dropped += 1
                except OSError as error:
                    raise StoreError(f"{self._path(sequence)}: cannot be read: {error.strerror}") from error
            return None

    def done(self, sequence: int) -> None:
        """It has arrived, with all before it."""
        with self._lock:
            while self._waiting and self._waiting[0].sequence <= sequence:
                self._remove(self._waiting[0].sequence)
                self._waiting.popleft()

    def set_aside(self, sequence: int) -> str:
        """It waits no longer, but is kept under another name."""
        with self._lock:
            path = self._path(sequence)
            kept = path.with_suffix(".refused")
            try:
                os.replace(path, kept)
                refused = sorted(self._folder.glob("*.refused"), key=lambda file: file.stat().st_mtime)
                for oldest in refused[:-MOST_REFUSED]:
                    oldest.unlink()
            except OSError as error:
                raise StoreError(f"{path}: cannot be set aside: {error.strerror}") from error
            self._waiting = deque(frame for frame in self._waiting if frame.sequence != sequence)
            return str(kept)

    def _make_room(self) -> None:
        """Drop what is too much or too old."""
        total = sum(frame.size_bytes for frame in self._waiting)
        oldest = self._now() - self._max_age_seconds
        while len(self._waiting) > 1 and (total > self._max_bytes or self._waiting[0].since < oldest):
            self._remove(self._waiting[0].sequence)
            total -= self._waiting.popleft().size_bytes
            self.dropped += 1

    def _path(self, sequence: int) -> Path:
        return self._folder / f"{self.name}-{sequence:012d}.frame"

    def _looked_up(self, sequence: int) -> Waiting:
        found = self._path(sequence).stat()
        return Waiting(sequence, found.st_size, found.st_mtime)

    def _remove(self, sequence: int) -> None:
        try:
            self._path(sequence).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self._path(sequence)}: cannot be removed: {error.strerror}") from error

    def _write(self, path: Path, body: bytes) -> None:
        aside = path.with_suffix(".tmp")
        try:
            with aside.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
            sync_folder(self._folder)
        except OSError as error:
            with suppress(OSError):
                aside.unlink()
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
