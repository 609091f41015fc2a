"""The recurrent model of peaks as an expert: its state walks along with every series."""

from __future__ import annotations

import numpy as np

from forestall.learning.peaks.model import HORIZON_BEATS, LEVELS, PeakModel, ServedPeaks
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
        # What it says (row, horizon of the model's, level) in units of the scale (row,).
        self._said: Float32Array = np.zeros((1, len(HORIZON_BEATS), len(LEVELS)), np.float32)
        self._scale: FloatArray = np.zeros(1)

    def grow(self, rows: int) -> None:
        """Make room for so many rows."""
        new = rows - len(self._flag)
        self._state = np.concatenate([self._state, self._served.fresh_state(new)], axis=1)
        self._flag = np.pad(self._flag, ((0, new), (0, 0)))
        self._member = np.ones((1, rows - 1), np.float32)
        self._said = np.pad(self._said, ((0, new), (0, 0), (0, 0)))
        self._scale = np.pad(self._scale, (0, new))

    def keep(self, rows: IntArray) -> None:
        """Forget all rows but these."""
        self._state, self._flag = self._state[:, rows], self._flag[rows]
        self._member = np.ones((1, len(rows) - 1), np.float32)
        self._said, self._scale = self._said[rows], self._scale[rows]

    def take_in(self, features: Float32Array, scale: FloatArray) -> None:
        """Take in some beats.

        Parameters
        ----------
        features
            Array (beat, row, feature).
        scale
            Array (row,), after the last of them, cores.
        """
        flags = np.broadcast_to(self._flag, (len(features), *self._flag.shape))
        ratio = (scale[1:] / scale[0]).astype(np.float32)
        said, shared, self._state = self._served.walk(
            np.concatenate([features, flags], axis=2), self._state, ratio, self._member
        )
        said[0] = shared[0]
        self._said, self._scale = said, scale

    def forecast(self) -> FloatArray:
        """Quantiles (horizon, row, level) after the last beat, cores."""
        beats_first = self._said.transpose(1, 0, 2)
        mixed = (self._mix @ beats_first.reshape(len(HORIZON_BEATS), -1)).reshape(
            len(self._mix), *self._said[:, 0].shape
        )
        return np.asarray(mixed * self._scale[:, None], np.float64)


def _between(horizons: tuple[int, ...]) -> Float32Array:
    """How to mix what is known at :data:`HORIZON_BEATS` for each horizon: straight over the logarithm of time."""
    known, wanted = (
        np.log(HORIZON_BEATS),
        np.clip(np.log(horizons), np.log(HORIZON_BEATS[0]), np.log(HORIZON_BEATS[-1])),
    )
    return np.array([[np.interp(h, known, row) for row in np.eye(len(known))] for h in wanted], np.float32)
