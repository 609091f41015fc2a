r"""A linear model of quantiles, learned online for each series.

.. math:: q_p = s \, w_p \cdot x, \qquad
          w_p \leftarrow w_p - \eta \, ([y \le q_p] - p) \, \frac{x}{\lVert x \rVert^2}

with features x in units of the series' scale s: the subgradient of the pinball loss (Koenker & Bassett,
"Regression Quantiles", 1978), in normalised steps so that no unit matters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forestall.learning.peaks.beats import FEATURES
from forestall.learning.peaks.model import LEVELS
from forestall.model.samples import Float32Array, FloatArray, IntArray

RATE = 0.06
_LEVELS = np.asarray(LEVELS)
_START = np.zeros((FEATURES + 1, len(LEVELS)))
_START[3], _START[5] = 0.3, 0.2 + 0.5 * _LEVELS
"""At first: a part of the last beats' peak, and of the highest use of late."""


class OnlineLinear:
    """For each horizon and series a vector of weights for each level."""

    def __init__(self, horizons: int) -> None:
        self._weight: FloatArray = np.zeros((horizons, 0, *_START.shape))

    def grow(self, series: int) -> None:
        """Make room for so many series."""
        horizons, now = self._weight.shape[:2]
        fresh = np.broadcast_to(_START, (horizons, series - now, *_START.shape))
        self._weight = np.concatenate([self._weight, fresh], axis=1)

    def keep(self, rows: IntArray) -> None:
        """Forget all series but those of ``rows``."""
        self._weight = self._weight[:, rows]

    def forecast(self, features: Float32Array, scale: FloatArray) -> FloatArray:
        """Quantiles (horizon, series, level), cores, from ``features`` (series, feature) and ``scale`` (series,).

        They may cross, and lie below zero; what is combined of several does not.
        """
        said: FloatArray = (_with_one(features)[:, None, :] @ self._weight)[:, :, 0] * scale[:, None]
        return said

    def learn(self, horizons: Sequence[int], features: Float32Array, scale: FloatArray, peak: FloatArray) -> None:
        """Take in what came.

        Parameters
        ----------
        horizons
            For which horizons, by their positions, something came; none twice.
        features, scale
            Arrays (horizon, series, feature) and (horizon, series): what they were at the forecast.
        peak
            Array (horizon, series): what came.
        """
        at, series = list(horizons), peak.shape[1]
        x = _with_one(features)
        weight = self._weight[at, :series]
        said = (x[..., None, :] @ weight)[..., 0, :] * scale[..., None]
        step = RATE * (_LEVELS - (peak[..., None] <= said))
        self._weight[at, :series] = weight + (x / (x * x).sum(axis=-1, keepdims=True))[..., None] * step[..., None, :]


def _with_one(features: Float32Array) -> FloatArray:
    return np.concatenate([features, np.ones((*features.shape[:-1], 1))], axis=-1, dtype=np.float64)
