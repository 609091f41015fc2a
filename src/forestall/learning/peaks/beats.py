r"""What forecasters of peaks see of a VM: a few numbers for each beat, in the VM's own measure.

A beat is about 25 ms. Its mean and its highest use are divided by a slow scale, the highest use that is remembered,
which halves in :data:`SLOW_BEATS`:

.. math:: s_t = \max(x_t, s_{t-1} \, 2^{-1/800}, \text{least})

so that a model learned on some VMs fits others of any size. A VM is *on* while it uses a good part of its scale; how
long it has been on or off, how long it usually is, and how high it last was are what its next start and end depend on
(a renewal process; Cox, *Renewal Theory*, 1962).
"""

from __future__ import annotations

import numpy as np

from forestall.model.samples import BoolArray, Float32Array, FloatArray, IntArray

SLOW_BEATS, MIDDLE_BEATS, FAST_BEATS = 800.0, 200.0, 40.0
"""In so many beats what is remembered as the highest use halves."""
LEAST_SCALE_CORES, FIRST_SCALE_CORES = 0.02, 0.05
ON_RATIO = 0.3
MEAN_BEATS = 20.0
USUAL_STRETCHES = 6.0
"""The usual length of a stretch is a mean over about so many."""
LONGEST_STRETCH = 4000.0
FEATURES = 12
_FADES = 0.5 ** (1.0 / np.array([[SLOW_BEATS], [MIDDLE_BEATS], [FAST_BEATS]]))


class Beats:
    """Features of many series side by side, beat by beat."""

    def __init__(self) -> None:
        # Rows: three last peaks, last mean, smoothed mean, peaks that fade slowly, less slowly and fast, length of the
        # stretch, whether it is on, usual length of stretches off and on (logarithms), height of the last stretch on.
        self._state: FloatArray = np.zeros((13, 0))

    @property
    def series(self) -> int:
        """How many series there are."""
        return int(self._state.shape[1])

    def grow(self, series: int) -> None:
        """Make room for so many series; new ones stand last."""
        fresh = np.zeros((len(self._state), series - self.series))
        fresh[5:8] = FIRST_SCALE_CORES
        fresh[10:12] = np.log(10.0)
        self._state = np.concatenate([self._state, fresh], axis=1)

    def keep(self, rows: IntArray) -> None:
        """Forget all series but those of ``rows``."""
        self._state = self._state[:, rows]

    @property
    def scale(self) -> FloatArray:
        """Measure (series,) of each series, cores."""
        scale: FloatArray = np.maximum(self._state[5], LEAST_SCALE_CORES)
        return scale

    def step(self, mean: FloatArray, peak: FloatArray) -> Float32Array:
        """Take in a beat.

        Parameters
        ----------
        mean, peak
            Arrays (series,): mean and highest use within the beat, cores, not NaN.

        Returns
        -------
        Float32Array
            Array (series, :data:`FEATURES`).
        """
        s = self._state
        s[5:8] *= _FADES
        np.maximum(s[5:8], peak, out=s[5:8])
        s[4] += (mean - s[4]) / MEAN_BEATS
        scale = self.scale
        self._stretch(peak, np.asarray(peak > ON_RATIO * scale))
        seen = np.empty((FEATURES, self.series))
        seen[0], seen[1], seen[2], seen[4] = mean, peak, s[3], s[4]
        np.maximum(peak, s[0:3].max(axis=0), out=seen[3])
        seen[5], seen[6], seen[7] = s[7], s[6], s[12]
        seen[:8] /= scale
        np.log1p(s[8], out=seen[8])
        seen[9:11] = s[10:12]
        seen[8:11] *= 0.25
        seen[11] = s[9]
        s[1:3] = s[0:2]
        s[0], s[3] = peak, mean
        return np.ascontiguousarray(seen.T, dtype=np.float32)

    def _stretch(self, peak: FloatArray, on: BoolArray) -> None:
        """Go on with the stretch of each series, or begin another."""
        s = self._state
        turned = on != (s[9] > 0)
        if turned.any():
            length = np.log1p(s[8])
            ended_on, ended_off = turned & ~on, turned & on
            s[10] += np.where(ended_off, (length - s[10]) / USUAL_STRETCHES, 0.0)
            s[11] += np.where(ended_on, (length - s[11]) / USUAL_STRETCHES, 0.0)
            s[8, turned] = 0.0
            s[12, ended_off] = 0.0
            s[9] = on
        np.minimum(s[8] + 1.0, LONGEST_STRETCH, out=s[8])
        np.maximum(s[12], peak, out=s[12], where=on)
