"""What VMs will do beside computing: quantiles of rates (page faults, I/O operations) in the next tenths of a second.

Each rate of each VM is a series of its own. Its quantiles are tracked above the highest rate of the last second, which
costs next to nothing; nothing is decided by them yet.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from forestall.learning.peaks.recent import Recent
from forestall.learning.peaks.tracked import Tracked
from forestall.model.samples import FloatArray, IntArray

SECOND_WINDOWS = 10
SCALE_FADES = 0.995
LEAST_SCALE = 1.0


class Rates:
    """Forecasts of many series, window by window.

    Parameters
    ----------
    horizons
        Windows ahead.
    """

    def __init__(self, horizons: tuple[int, ...]) -> None:
        self.horizons = horizons
        self._recent = Recent(max(SECOND_WINDOWS, *horizons))
        self._tracked = Tracked(1, len(horizons))
        self._scale: FloatArray = np.zeros(0)
        self._bases: deque[FloatArray] = deque(maxlen=max(horizons))

    def grow(self, series: int) -> None:
        """Make room for so many series; new ones stand last."""
        self._recent.grow(series)
        self._tracked.grow(series)
        self._scale = np.pad(self._scale, (0, series - len(self._scale)))
        self._bases.clear()

    def keep(self, rows: IntArray) -> None:
        """Forget all series but those of ``rows``."""
        self._recent.keep(rows)
        self._tracked.keep(rows)
        self._scale = self._scale[rows]
        self._bases.clear()

    def step(self, rate: FloatArray) -> FloatArray:
        """Take in the rate of a window (series,), NaN counting as none; quantiles (horizon, series, level) to come."""
        rate = np.nan_to_num(rate)
        self._recent.push(rate)
        self._scale = np.maximum(np.maximum(rate, SCALE_FADES * self._scale), LEAST_SCALE)
        for k, horizon in enumerate(self.horizons):
            if len(self._bases) >= horizon:
                base = self._bases[-horizon]
                self._tracked.learn([k], base[None, None, :, None], self._recent.peak(horizon)[None], self._scale[None])
        self._bases.append(self._recent.peak(SECOND_WINDOWS))
        said = self._tracked.forecast(self._bases[-1][:, None])[0]
        return np.maximum(np.maximum.accumulate(said, axis=-1), 0.0)
