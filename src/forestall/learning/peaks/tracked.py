r"""Quantiles that are tracked: what comes lies above a base by so much, in so many cases.

.. math:: r_p \leftarrow r_p + \gamma\, s\, (p - [y \le b + r_p])

for each level p, with the series' scale s: the subgradient of the pinball loss, whose fixed point is the quantile of
:math:`y - b` (Robbins & Monro, 1951). With the base at zero it is the quantile of late; with the highest use of the
last second, the rule of thumb with a margin that is learned; with the quantiles of a model, its calibration.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forestall.learning.peaks.model import LEVELS
from forestall.model.samples import FloatArray, IntArray

RATE = 0.03
FASTER_AT_FIRST, FIRST_OUTCOMES = 8.0, 30.0
_LEVELS = np.asarray(LEVELS)


class Tracked:
    """Some bases side by side, for all series and horizons.

    Parameters
    ----------
    bases, horizons
        How many.
    """

    def __init__(self, bases: int, horizons: int) -> None:
        self._above: FloatArray = np.zeros((bases, horizons, 0, len(LEVELS)))
        self._outcomes: FloatArray = np.zeros((bases, horizons, 0))

    def grow(self, series: int) -> None:
        """Make room for so many series."""
        new = series - self._above.shape[2]
        self._above = np.pad(self._above, ((0, 0), (0, 0), (0, new), (0, 0)))
        self._outcomes = np.pad(self._outcomes, ((0, 0), (0, 0), (0, new)))

    def keep(self, rows: IntArray) -> None:
        """Forget all series but those of ``rows``."""
        self._above, self._outcomes = self._above[:, :, rows], self._outcomes[:, :, rows]

    def forecast(self, bases: FloatArray) -> FloatArray:
        """Quantiles (base, horizon, series, level) above ``bases``, of that shape or of one that fits, cores.

        They may cross, and lie below zero; what is combined of several does not.
        """
        return bases + self._above

    def learn(self, horizons: Sequence[int], bases: FloatArray, peak: FloatArray, scale: FloatArray) -> None:
        """Take in what came.

        Parameters
        ----------
        horizons
            For which horizons, by their positions, something came; none twice.
        bases
            Array (base, horizon, series, level or 1): what they were at the forecast; NaN for one that was silent.
        peak, scale
            Arrays (horizon, series): what came, and the measure of the series at the forecast.
        """
        at, series = list(horizons), peak.shape[1]
        above, seen = self._above[:, at, :series], self._outcomes[:, at, :series]
        speaks = ~np.isnan(bases[..., :1])
        quick = 1.0 + FASTER_AT_FIRST * np.maximum(1.0 - seen / FIRST_OUTCOMES, 0.0)
        move = _LEVELS - (peak[..., None] <= bases + above)
        self._above[:, at, :series] = above + np.where(speaks, (RATE * quick * scale)[..., None] * move, 0.0)
        self._outcomes[:, at, :series] = seen + speaks[..., 0]
