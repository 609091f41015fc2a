r"""Reliability: which share of the outcomes lay at or below each quantile that was stated.

Of reliable forecasts a share :math:`p` of the outcomes lies at or below the :math:`p` quantile, so that shares over
levels lie on the diagonal of a reliability diagram (Murphy & Winkler, Applied Statistics 26, 1977).
"""

from __future__ import annotations

import numpy as np

from forestall.model.samples import Float32Array, FloatArray

HALF_LIFE_DAYS = 5.0


class Reliability:
    """Counts, over all VMs, how many outcomes of one target lay at or below each stated quantile.

    What is older counts for less, so that the shares tell of the last days.

    Parameters
    ----------
    levels
        Quantile levels.
    steps_per_day
        Sampling steps in a day.

    Attributes
    ----------
    outcomes
        How many outcomes were counted, each for as much as it still counts.
    """

    def __init__(self, levels: tuple[float, ...], steps_per_day: int) -> None:
        self.outcomes = 0.0
        self._met: FloatArray = np.zeros(len(levels))
        self._decay = 0.5 ** (1.0 / (HALF_LIFE_DAYS * steps_per_day))

    def update(self, stated: FloatArray | Float32Array, actual: FloatArray) -> None:
        """Count one step: ``stated`` (vm, level) as it was told, ``actual`` (vm,); NaN in either is no outcome."""
        known = ~np.isnan(actual) & ~np.isnan(stated).any(axis=1)
        self._met = self._met * self._decay + (actual[known, None] <= stated[known]).sum(axis=0)
        self.outcomes = self.outcomes * self._decay + float(known.sum())

    def shares(self) -> FloatArray:
        """Share of the outcomes (level,) at or below each quantile; NaN without any."""
        return self._met / self.outcomes if self.outcomes else np.full(len(self._met), np.nan)
