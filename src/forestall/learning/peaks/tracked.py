r"""Quantiles that are tracked: what comes lies above a base by so much, in so many cases.

.. math:: r_p \leftarrow r_p + \gamma\, s\, (p - [y \le b + r_p])

for each level p, with the series' scale s: the subgradient of the pinball loss, whose fixed point is the quantile of
:math:`y - b` (Robbins & Monro, 1951). With the base at zero it is the quantile of late; with the highest use of the
last second, the rule of thumb with a margin that is learned; with the quantiles of a model, its calibration.
"""

from __future__ import annotations

import numpy as np

from forestall.learning.peaks.model import LEVELS
from forestall.model.samples import FloatArray, IntArray

RATE = 0.03
FASTER_AT_FIRST, FIRST_OUTCOMES = 8.0, 30.0
_LEVELS = np.asarray(LEVELS)


class Tracked:
    """One base for all series and horizons.

    Parameters
    ----------
    horizons
        How many.
    """

    def __init__(self, horizons: int) -> None:
        self._above: FloatArray = np.zeros((horizons, 0, len(LEVELS)))
        self._outcomes: FloatArray = np.zeros((horizons, 0))

    def grow(self, series: int) -> None:
        """Make room for so many series."""
        new = series - self._above.shape[1]
        self._above = np.pad(self._above, ((0, 0), (0, new), (0, 0)))
        self._outcomes = np.pad(self._outcomes, ((0, 0), (0, new)))

    def keep(self, rows: IntArray) -> None:
        """Forget all series but those of ``rows``."""
        self._above, self._outcomes = self._above[:, rows], self._outcomes[:, rows]

    def forecast(self, base: FloatArray) -> FloatArray:
        """Quantiles (horizon, series, level) above ``base`` (horizon or 1, series, level or 1), cores.

        They may cross, and lie below zero; what is combined of several does not.
        """
        return base + self._above

    def learn(self, horizon: int, base: FloatArray, peak: FloatArray, scale: FloatArray) -> None:
        """Take in what came, ``peak`` (series,), where the base was ``base`` (series, level or 1) at the forecast."""
        above = self._above[horizon, : len(base)]
        seen = self._outcomes[horizon, : len(base)]
        quick = 1.0 + FASTER_AT_FIRST * np.maximum(1.0 - seen / FIRST_OUTCOMES, 0.0)
        move = _LEVELS - (peak[:, None] <= base + above)
        silent = np.isnan(base[:, :1])
        above += np.where(silent, 0.0, (RATE * quick * scale)[:, None] * move)
        seen += ~silent[:, 0]
