"""The recurrent model of peaks as an expert: its state walks along with every series."""

from __future__ import annotations

import numpy as np

from forestall.learning.peaks.model import HORIZON_BEATS, PeakModel, ServedPeaks
from forestall.model.samples import Float32Array, FloatArray, IntArray


class RecurrentPeaks:
    """A trained model on one pool: row 0 is the pool, the others are its VMs.

    Parameters
    ----------
    model
        What to run.
    horizons
        Beats ahead, in any unit of beats near the 25 ms that the model was trained on.
    """

    def __init__(self, model: PeakModel, horizons: tuple[int, ...]) -> None:
        self._served = ServedPeaks(model)
        self._state = self._served.fresh_state(1)
        self._mix = _between(horizons)
        self._flag: Float32Array = np.ones((1, 1), np.float32)
        self._member: Float32Array = np.zeros((1, 0), np.float32)

    def grow(self, rows: int) -> None:
        """Make room for so many rows."""
        new = rows - len(self._state)
        self._state = np.concatenate([self._state, self._served.fresh_state(new)])
        self._flag = np.pad(self._flag, ((0, new), (0, 0)))
        self._member = np.ones((1, rows - 1), np.float32)

    def keep(self, rows: IntArray) -> None:
        """Forget all rows but these."""
        self._state, self._flag = self._state[rows], self._flag[rows]
        self._member = np.ones((1, len(rows) - 1), np.float32)

    def step(self, features: Float32Array, scale: FloatArray) -> FloatArray:
        """Take in a beat and forecast.

        Parameters
        ----------
        features
            Array (row, feature).
        scale
            Array (row,), cores.

        Returns
        -------
        FloatArray
            Quantiles (horizon, row, level), cores.
        """
        inputs = np.concatenate([features, self._flag], axis=1)
        ratio = (scale[1:] / scale[0]).astype(np.float32)
        said, shared, self._state = self._served.step(inputs, self._state, ratio, self._member)
        said[0] = shared[0]
        mixed = (self._mix @ said.transpose(1, 0, 2).reshape(len(HORIZON_BEATS), -1)).reshape(-1, *said[:, 0].shape)
        return np.asarray(mixed * scale[:, None], np.float64)


def _between(horizons: tuple[int, ...]) -> Float32Array:
    """How to mix what is known at :data:`HORIZON_BEATS` for each horizon: straight over the logarithm of time."""
    known, wanted = (
        np.log(HORIZON_BEATS),
        np.clip(np.log(horizons), np.log(HORIZON_BEATS[0]), np.log(HORIZON_BEATS[-1])),
    )
    return np.array([[np.interp(h, known, row) for row in np.eye(len(known))] for h in wanted], np.float32)
