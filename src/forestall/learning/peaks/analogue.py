r"""What came after moments like this one: paths of the past, drawn for each VM and added up.

A moment of a VM is like another where its features are close. From the moments of the last :data:`REMEMBERED_BEATS`
each of the busiest VMs draws paths, what it used in the beats that followed, with probability

.. math:: \propto \exp\left(-\tfrac12 \lVert (x_t - x_s) / (b\,\sigma) \rVert^2\right) \, 2^{-(t - s)/h}

and the others draw one together. Drawn independently and added up beat by beat, a few hundred paths are far more
futures of the pool than it has ever shown: what peaks at once is seen in the sum. (Analogue ensembles: Delle Monache et
al., Monthly Weather Review, 2013; kernel-weighted bootstrap: Lall & Sharma, Water Resources Research, 1996.)
"""

from __future__ import annotations

import itertools

import numpy as np

from forestall.learning.peaks.beats import FEATURES
from forestall.learning.peaks.model import LEVELS
from forestall.model.samples import Float32Array, FloatArray, IntArray

REMEMBERED_BEATS = 1600
EVERY = 2
"""Only each so manieth moment can be drawn: those beside it are like it."""
MOMENTS = REMEMBERED_BEATS // EVERY
HALF_LIFE_BEATS = 1000.0
BANDWIDTH, LEAST_DEVIATION = 1.5, 0.02
LEAST_BEATS = 60
BUSIEST = 6
PATHS = 96
LOOK_BEATS = 200
"""Every so many beats it is looked at who is busiest, and how much features vary."""
ANYWHERE = 1e-7
_LEVELS = np.asarray(LEVELS)


class AnaloguePaths:
    """Forecasts of a pool, row 0, and its VMs.

    Parameters
    ----------
    horizons
        Beats ahead.
    rng
        For the draws.
    """

    def __init__(self, horizons: tuple[int, ...], rng: np.random.Generator) -> None:
        self._horizons, self._rng = horizons, rng
        self._longest = max(horizons)
        self._ahead = 1 + np.arange(self._longest)
        # The bounds of the stretches of a path that each horizon adds to the one before.
        self._order = np.argsort(horizons, kind="stable")
        self._bounds = [0, *sorted(horizons)]
        # Every moment of a ring stands at its beat's place, whichever is oldest.
        self._features: Float32Array = np.zeros((REMEMBERED_BEATS, 0, FEATURES), np.float32)
        self._peaks: Float32Array = np.zeros((REMEMBERED_BEATS, 0), np.float32)
        self._count, self._looked_at = 0, 0
        self._busiest: IntArray = np.zeros(0, np.int64)
        self._unit: Float32Array = np.ones((0, FEATURES), np.float32)
        # The features of the busiest, (vm, moment, feature) in units of their deviation, and their squared lengths.
        self._busy: Float32Array = np.zeros((0, MOMENTS, FEATURES), np.float32)
        self._length: Float32Array = np.zeros((0, MOMENTS), np.float32)
        self._now: Float32Array = np.zeros((0, FEATURES), np.float32)
        # What the busiest used, and all others together (vm or others, moment), twice over, so that no path is broken.
        self._used: Float32Array = np.zeros((0, 2 * REMEMBERED_BEATS), np.float32)

    def grow(self, rows: int) -> None:
        """Make room for so many rows; new ones stand last."""
        new = rows - self._peaks.shape[1]
        self._features = np.pad(self._features, ((0, 0), (0, new), (0, 0)))
        self._peaks = np.pad(self._peaks, ((0, 0), (0, new)))
        self._busiest = self._busiest[:0]

    def keep(self, rows: IntArray) -> None:
        """Forget all rows but these."""
        self._features, self._peaks = self._features[:, rows], self._peaks[:, rows]
        self._busiest = self._busiest[:0]

    def push(self, features: Float32Array, peak: FloatArray) -> None:
        """Take in a beat: arrays (row, feature) and (row,)."""
        place = self._count % REMEMBERED_BEATS
        self._features[place], self._peaks[place] = features, peak
        self._count += 1
        if not len(self._busiest):
            return  # nobody has looked yet
        self._now = features[self._busiest] / self._unit
        if place % EVERY == 0:
            self._busy[:, place // EVERY] = self._now
            self._length[:, place // EVERY] = (self._now * self._now).sum(axis=1)
        busy = peak[self._busiest]
        self._used[:-1, place] = self._used[:-1, place + REMEMBERED_BEATS] = busy
        self._used[-1, place] = self._used[-1, place + REMEMBERED_BEATS] = peak[1:].sum() - busy.sum()

    def forecast(self) -> FloatArray:
        """Quantiles (horizon, row, level), cores; NaN where there are none yet, and for VMs that are not busy."""
        said = np.full((len(self._horizons), self._peaks.shape[1], len(LEVELS)), np.nan)
        whole = min(self._count, REMEMBERED_BEATS) - self._longest - 1
        if whole < LEAST_BEATS or not len(self._busiest):
            return said
        age = (self._count - 1 - np.arange(0, REMEMBERED_BEATS, EVERY)) % REMEMBERED_BEATS
        # A moment counts if its path is whole and it is not from before the ring.
        path_is_whole = (age >= self._longest) & (age < whole + self._longest)
        counts = np.where(path_is_whole, 0.5 ** (age / HALF_LIFE_BEATS), 0.0).astype(np.float32)
        drawn = self._draw(counts)
        first = drawn + 2 * REMEMBERED_BEATS * np.arange(len(drawn))[:, None]
        paths = self._used.ravel().take(self._ahead[:, None, None] + first)  # (beat, vm or others, path)
        paths = np.concatenate([paths.sum(axis=1, keepdims=True), paths[:, :-1]], axis=1)
        highest = np.stack([paths[begin:end].max(axis=0) for begin, end in itertools.pairwise(self._bounds)])
        ordered = np.sort(np.maximum.accumulate(highest, axis=0), axis=-1)
        said[self._order[:, None], [0, *self._busiest]] = _quantiles(ordered)
        return said

    def look(self) -> None:
        """See now and then which VMs vary most, and how much their features do; not on the way to a decision."""
        rows, seen = self._peaks.shape[1], slice(0, min(self._count, REMEMBERED_BEATS))
        if rows < 2 or not self._count or (len(self._busiest) and self._count - self._looked_at < LOOK_BEATS):
            return
        self._looked_at = self._count
        spread = self._peaks[seen, 1:].std(axis=0)
        self._busiest = 1 + np.sort(np.argsort(-spread, kind="stable")[:BUSIEST])
        own = self._features[:, self._busiest]
        self._unit = BANDWIDTH * np.maximum(own[seen].std(axis=0), LEAST_DEVIATION)
        self._now = own[(self._count - 1) % REMEMBERED_BEATS] / self._unit
        self._busy = np.ascontiguousarray((own[::EVERY] / self._unit).transpose(1, 0, 2))
        self._length = (self._busy * self._busy).sum(axis=2)
        used = self._peaks[:, self._busiest]
        others = self._peaks[:, 1:].sum(axis=1) - used.sum(axis=1)
        self._used = np.tile(np.concatenate([used.T, others[None]]), 2)

    def _draw(self, counts: Float32Array) -> IntArray:
        """Draw beats (vm or others, path) out of moments that count so much: of the busiest like now, of others any."""
        product = np.matmul(self._busy, self._now[:, :, None])[:, :, 0]
        apart = self._length + (self._now * self._now).sum(axis=1, keepdims=True) - 2.0 * product
        like = (np.exp(-0.5 * np.maximum(apart, 0.0)) + ANYWHERE) * counts
        sums = np.cumsum(np.concatenate([like, counts[None]]), axis=1, dtype=np.float64)
        places = (np.arange(PATHS) + self._rng.random((len(sums), 1))) / PATHS * sums[:, -1:]
        drawn = np.stack([np.searchsorted(s, p, side="right") for s, p in zip(sums, places, strict=True)])
        return EVERY * self._rng.permuted(np.minimum(drawn, MOMENTS - 1), axis=1)


_PLACE = _LEVELS * (PATHS - 1)
_LOW = np.minimum(_PLACE.astype(np.int64), PATHS - 2)
_ABOVE = _PLACE - _LOW


def _quantiles(ordered: Float32Array) -> FloatArray:
    """Quantiles (..., level) of paths (..., path) in order, straight between them."""
    low, high = ordered[..., _LOW], ordered[..., _LOW + 1]
    return np.asarray(low + _ABOVE * (high - low), np.float64)
