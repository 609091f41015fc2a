r"""Which expert to trust in the next tenths of a second, learned online for each row and level.

.. math:: v_e = w_e \exp(-\eta\, \ell_e / \bar\ell), \qquad
          w_e \leftarrow (1-\alpha) \frac{v_e}{\sum v} + \alpha\, \pi_e

as in :mod:`forestall.learning.aggregation`, which see, but slower, and towards a prior :math:`\pi`: outcomes of
overlapping windows say little, and experts that err differently are best together.
"""

from __future__ import annotations

import numpy as np

from forestall.learning.aggregation import pinball
from forestall.learning.peaks.model import LEVELS
from forestall.model.samples import FloatArray, IntArray

RATE = 0.02
SHARE = 1e-3
MEAN_OUTCOMES = 400.0
MAX_RELATIVE_LOSS = 40.0
_LEVELS = np.asarray(LEVELS)


class PeakTrust:
    """Weights of the experts at one horizon.

    Parameters
    ----------
    prior
        How much each expert is trusted at first; sums to 1.
    """

    def __init__(self, prior: tuple[float, ...]) -> None:
        self._prior = np.asarray(prior)[:, None, None]
        self._weight: FloatArray = np.zeros((len(prior), 0, len(LEVELS)))
        self._mean: FloatArray = np.zeros((0, len(LEVELS)))
        self._outcomes: FloatArray = np.zeros((0, 1))

    def grow(self, rows: int) -> None:
        """Make room for so many rows."""
        new = rows - len(self._mean)
        fresh = np.broadcast_to(self._prior, (len(self._prior), new, len(LEVELS)))
        self._weight = np.concatenate([self._weight, fresh], axis=1)
        self._mean = np.pad(self._mean, ((0, new), (0, 0)))
        self._outcomes = np.pad(self._outcomes, ((0, new), (0, 0)))

    def keep(self, rows: IntArray) -> None:
        """Forget all rows but these."""
        self._weight, self._mean, self._outcomes = self._weight[:, rows], self._mean[rows], self._outcomes[rows]

    def weights(self) -> FloatArray:
        """Trust (expert, row, level); sums to 1 over experts."""
        return self._weight

    def combine(self, said: FloatArray) -> FloatArray:
        """Combine quantiles (expert, row, level) to (row, level); who has nothing to say (NaN) is left out.

        The result never falls over levels, nor below zero.
        """
        speaks = ~np.isnan(said)
        weight = np.where(speaks, self._weight, 0.0)
        mixed = (weight * np.where(speaks, said, 0.0)).sum(axis=0) / weight.sum(axis=0)
        return np.asarray(np.maximum.accumulate(np.maximum(mixed, 0.0), axis=-1))

    def learn(self, said: FloatArray, combined: FloatArray, peak: FloatArray) -> None:
        """Move weights after ``peak`` (row,) came, of which this was ``said`` (expert, row, level) and ``combined``."""
        n = len(peak)
        own = pinball(combined, _LEVELS, peak)
        loss = pinball(said, _LEVELS, peak)
        loss = np.where(np.isnan(loss), own, loss)
        seen = self._outcomes[:n]
        seen += 1.0
        mean = self._mean[:n]
        mean += np.maximum(1.0 / seen, 1.0 / MEAN_OUTCOMES) * (own - mean)
        relative = np.minimum(loss / np.maximum(mean, 1e-12), MAX_RELATIVE_LOSS)
        moved = self._weight[:, :n] * np.exp(-RATE * relative)
        self._weight[:, :n] = (1.0 - SHARE) * moved / moved.sum(axis=0) + SHARE * self._prior
