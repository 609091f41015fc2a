"""What comes back at regular intervals in a guest: a flush each five seconds, a line of a log each second.

Of every kind of event it is kept in which of the last :data:`KEPT` windows it happened. Every so often the
autocorrelation is looked at: the lags of its highest hills are intervals after which an event recurs. Multiples of an
interval are among them, so that it need not be a whole number of windows, and what comes at each sixth beat only is
found too. What came after such lags, weighted by the autocorrelation, is the *echo*: what will come, as far as the
guest goes on in its rhythm.

Sources: Vlachos, Yu, Castelli, *On periodicity detection and structural periodic similarity*, SDM 2005.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forestall.model.samples import FloatArray, IntArray
from forestall.profiling.period import autocorrelation

ECHOES = (1, 2, 5, 10)
"""Windows ahead of which there is an echo."""
KEPT, EVERY = 2048, 100
SHORTEST, LONGEST = 8, 900
MOST_LAGS, LEAST_CORRELATION = 4, 0.1


class Rhythm:
    """Follows the events of one guest.

    Parameters
    ----------
    kinds
        How many kinds there are.
    """

    def __init__(self, kinds: int) -> None:
        # Counts up to each window, so that shares of any stretch cost the same; row 0 is before the first.
        self._counts: npt.NDArray[np.int16] = np.zeros((KEPT + EVERY, kinds), np.int16)
        self._newest = 0
        self._lags: IntArray = np.ones((MOST_LAGS, kinds), np.int64)
        self._weights: FloatArray = np.zeros((MOST_LAGS, kinds))

    def step(self, happened: FloatArray) -> FloatArray:
        """See one window, noughts and ones (kind,), and hear its echo (horizon, kind); NaN for kinds without rhythm."""
        if self._newest + 1 == len(self._counts):
            self._counts[:KEPT] = self._counts[-KEPT:] - self._counts[-KEPT]
            self._newest = KEPT - 1
        self._newest += 1
        self._counts[self._newest] = self._counts[self._newest - 1] + happened.astype(np.int16)
        if self._newest % EVERY == 0:
            self._listen()
        return self._echo()

    def _listen(self) -> None:
        """Find the lags of the highest hills of the autocorrelation of each kind."""
        first = max(self._newest - KEPT, 0)
        samples = np.diff(self._counts[first : self._newest + 1], axis=0).astype(np.float32)
        longest = min(LONGEST, len(samples) // 2)
        if longest < SHORTEST + MOST_LAGS:
            return
        around = autocorrelation(samples)[1][SHORTEST - 1 : longest + 2]
        height = around[1:-1]
        is_hill = (height >= around[:-2]) & (height > around[2:]) & (height >= LEAST_CORRELATION)
        height = np.where(is_hill, height, 0.0)
        highest = np.argpartition(-height, MOST_LAGS, axis=0)[:MOST_LAGS]
        self._lags, self._weights = highest + SHORTEST, np.take_along_axis(height, highest, axis=0)

    def _echo(self) -> FloatArray:
        """Shares of the next windows, each of the lags ago, weighted."""
        begins = self._newest - self._lags
        ends = np.minimum(begins + np.array(ECHOES)[:, None, None], self._newest)
        kind = np.arange(self._counts.shape[1])
        after = (self._counts[ends, kind] - self._counts[begins, kind]) / (ends - begins)
        with np.errstate(invalid="ignore"):
            return np.asarray((self._weights * after).sum(axis=1) / self._weights.sum(axis=0))
