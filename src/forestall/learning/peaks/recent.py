"""The last seconds of many series, beat by beat."""

from __future__ import annotations

import numpy as np

from forestall.model.samples import FloatArray, IntArray


class Recent:
    """Highest use within each of the last beats.

    Parameters
    ----------
    beats
        How many are remembered.
    """

    def __init__(self, beats: int) -> None:
        self._beats = beats
        # Each beat stands twice, so that the last ones are always in one piece.
        self._ring: FloatArray = np.zeros((2 * beats, 0))
        self.count = 0

    def grow(self, series: int) -> None:
        """Make room for so many series; new ones used nothing before."""
        self._ring = np.pad(self._ring, ((0, 0), (0, series - self._ring.shape[1])))

    def keep(self, rows: IntArray) -> None:
        """Forget all series but those of ``rows``."""
        self._ring = self._ring[:, rows]

    def push(self, peak: FloatArray) -> None:
        """Take in a beat: array (series,), cores."""
        place = self.count % self._beats
        self._ring[place] = self._ring[place + self._beats] = peak
        self.count += 1

    def last(self, beats: int, ago: int = 0) -> FloatArray:
        """So many beats (beat, series) up to the one so many ago, oldest first; fewer where there were not so many."""
        count = self.count - ago
        end = (count - 1) % self._beats + 1 + self._beats
        return self._ring[end - min(beats, self._beats - ago, count) : end]

    def peak(self, beats: int, ago: int = 0) -> FloatArray:
        """Highest use (series,) within these beats; see :meth:`last`."""
        highest: FloatArray = self.last(beats, ago).max(axis=0, initial=0.0)
        return highest
