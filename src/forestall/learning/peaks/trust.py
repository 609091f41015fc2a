r"""Which expert to trust in the next tenths of a second, learned online for each row and level.

.. math:: v_e = w_e \exp(-\eta\, \ell_e / \bar\ell), \qquad
          w_e \leftarrow (1-\alpha) \frac{v_e}{\sum v} + \alpha\, \pi_e

as in :mod:`forestall.learning.aggregation`, which see, but slower, and towards a prior :math:`\pi`: outcomes of
overlapping windows say little, and experts that err differently are best together.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    """Weights of the experts.

    Parameters
    ----------
    prior
        How much each expert is trusted at first; sums to 1.
    horizons
        How many.
    """

    def __init__(self, prior: tuple[float, ...], horizons: int) -> None:
        self._prior = np.asarray(prior)[:, None, None, None]
        self._weight: FloatArray = np.zeros((len(prior), horizons, 0, len(LEVELS)))
        self._mean: FloatArray = np.zeros((horizons, 0, len(LEVELS)))
        self._outcomes: FloatArray = np.zeros((horizons, 0, 1))

    def grow(self, rows: int) -> None:
        """Make room for so many rows."""
        experts, horizons, now, levels = self._weight.shape
        fresh = np.broadcast_to(self._prior, (experts, horizons, rows - now, levels))
        self._weight = np.concatenate([self._weight, fresh], axis=2)
        self._mean = np.pad(self._mean, ((0, 0), (0, rows - now), (0, 0)))
        self._outcomes = np.pad(self._outcomes, ((0, 0), (0, rows - now), (0, 0)))

    def keep(self, rows: IntArray) -> None:
        """Forget all rows but these."""
        self._weight = self._weight[:, :, rows]
        self._mean, self._outcomes = self._mean[:, rows], self._outcomes[:, rows]

    def weights(self) -> FloatArray:
        """Trust (expert, horizon, row, level); sums to 1 over experts."""
        return self._weight

    def combine(self, said: FloatArray) -> FloatArray:
        """Combine quantiles (expert, horizon, row, level); who has nothing to say (NaN) is left out.

        The result (horizon, row, level) never falls over levels, nor below zero.
        """
        silent = np.isnan(said)
        weight = np.where(silent, 0.0, self._weight)
        mixed = (weight * np.where(silent, 0.0, said)).sum(axis=0) / weight.sum(axis=0)
        return np.asarray(np.maximum.accumulate(np.maximum(mixed, 0.0), axis=-1))

    def learn(self, horizons: Sequence[int], said: FloatArray, combined: FloatArray, peak: FloatArray) -> None:
        """Move weights after something came.

        Parameters
        ----------
        horizons
            For which horizons, by their positions; none twice.
        said
            Array (expert, horizon, row, level): what experts had said; NaN where nothing.
        combined
            Array (horizon, row, level): what was made of it.
        peak
            Array (horizon, row): what came.
        """
        at, rows = list(horizons), peak.shape[1]
        own = pinball(combined, _LEVELS, peak)
        loss = pinball(said, _LEVELS, peak)
        loss = np.where(np.isnan(loss), own, loss)
        seen = self._outcomes[at, :rows] + 1.0
        mean = self._mean[at, :rows]
        mean += np.maximum(1.0 / seen, 1.0 / MEAN_OUTCOMES) * (own - mean)
        self._outcomes[at, :rows], self._mean[at, :rows] = seen, mean
        relative = np.minimum(loss / np.maximum(mean, 1e-12), MAX_RELATIVE_LOSS)
        moved = self._weight[:, at, :rows] * np.exp(-RATE * relative)
        self._weight[:, at, :rows] = (1.0 - SHARE) * moved / moved.sum(axis=0) + SHARE * self._prior
