"""Files of the kernel that give numbers, and what they come to over a time.

What the kernel does not have is NaN, never an error: a guest may be of any age. A look at a file costs more than all
else that an agent does, so a file is left alone while it is known that nothing in it can have moved.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import nan
from pathlib import Path

READ_BYTES, MAX_BYTES = 16 * 1024, 1024 * 1024
SHORT_BYTES = 2 * 1024
"""What is shorter is all that there is: the kernel gives as many whole records as fit into a page."""


class Source(ABC):
    """A file of the kernel; stays open, and is read anew from its beginning.

    Attributes
    ----------
    counters
        Names of numbers that only rise; what is told of them is the rise per second.
    levels
        Names of numbers that are as they are.
    """

    path = ""
    counters: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()

    def __init__(self, root: Path = Path("/")) -> None:
        self._full_path = os.path.join(root, self.path)
        self._descriptor: int | None = None

    def read(self) -> list[float]:
        """Counters, then levels; NaN where they cannot be told."""
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._full_path, os.O_RDONLY | os.O_CLOEXEC)
            text = os.pread(self._descriptor, READ_BYTES, 0)
            more = text
            while len(more) >= SHORT_BYTES and len(text) < MAX_BYTES:  # the kernel may give a page at a time
                more = os.pread(self._descriptor, MAX_BYTES, len(text))
                text += more
            return self.parse(text)
        except (OSError, ValueError, IndexError, KeyError):
            self.close()
            return [nan] * (len(self.counters) + len(self.levels))

    @abstractmethod
    def parse(self, text: bytes) -> list[float]:
        """Counters, then levels, in a text; an error (ValueError, IndexError, KeyError) if it is not as it should."""

    def moved(self, hints: Sequence[int]) -> bool:
        """Whether numbers may have moved, by what another source has told; see ``counters.Stat``."""
        return True

    def close(self) -> None:
        """Let go of the file; it is opened again when it is read."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Meter:
    """Turns what a source says into rates and levels over the time between two looks.

    Parameters
    ----------
    source
        What is read.

    Attributes
    ----------
    names
        Of the values, in order: counters, then levels.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.names = (*source.counters, *source.levels)
        self._split = len(source.counters)
        self._nothing = [nan] * len(self.names)
        self._read: list[float] = self._nothing
        self._at = 0.0
        self._long_read, self._long_at = self._read, 0.0

    def look(self, now: float) -> list[float]:
        """Look, seconds ``now``: rates since the last look, and levels; NaN where there was none before."""
        before, earlier = self._read, self._at
        self._read, self._at = self.source.read(), now
        return self._between(before, earlier)

    def still(self) -> list[float]:
        """In place of a look, when nothing can have moved: no rates. What did move counts at the next look."""
        return [0.0 * value for value in self._read[: self._split]] + self._read[self._split :]

    def longer(self) -> list[float]:
        """Rates from the look that was the last when this was asked before to the last look, and levels."""
        values = self._between(self._long_read, self._long_at)
        self._long_read, self._long_at = self._read, self._at
        return values

    def _between(self, before: list[float], earlier: float) -> list[float]:
        """A counter that has gone back was started anew: nothing is said of it this time."""
        seconds, read, split = self._at - earlier, self._read, self._split
        if seconds <= 0.0:
            return self._nothing
        per_second = 1.0 / seconds
        if not split:
            return read
        rates = [(b - a) * per_second if b >= a else nan for a, b in zip(before, read)]
        return rates[:split] + read[split:]
