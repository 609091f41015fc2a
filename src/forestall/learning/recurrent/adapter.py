r"""Fits what the network says to each VM, online: the part of it that learns at every step.

The network is one for all VMs. Of each VM and target two numbers are learned, by how much its median is shifted and by
how much its quantiles are stretched away from it:

.. math:: q'_p = q_{1/2} + b + e^s (q_p - q_{1/2})

by one gradient step of the pinball loss for each outcome, every level divided by :math:`\sqrt{p(1-p)}` as in training,
with a pull towards nothing. The cost is bounded: some operations a VM, target and level. (Online gradient descent:
Zinkevich, ICML 2003; adapters on a frozen model: Houlsby et al., ICML 2019.)
"""

from __future__ import annotations

from collections import deque

import numpy as np

from forestall.learning.expert import realised
from forestall.model.forecast import Target
from forestall.model.samples import FloatArray, IntArray
from forestall.profiling.window import Float32Array, Window, grown, retained

ADAPTER = "adapter"
SHIFT_RATE, STRETCH_RATE = 0.02, 0.02
"""Of forecasts of the next step; of those further ahead so much less as their outcomes overlap."""
MOST_GRADIENT = 3.0
MOST_SHIFT, MOST_STRETCH = 3.0, 1.0
KEPT = 0.998
"""Of what was learned, a step later: more, and forecasts far ahead lose at the ends what they gain in the middle."""
LEAST_SPREAD = 1e-3


class Adapter:
    """Shift and stretch of every VM.

    Parameters
    ----------
    targets, levels
        What the network forecasts.
    """

    def __init__(self, targets: tuple[Target, ...], levels: tuple[float, ...]) -> None:
        self._targets = targets
        self._levels = np.asarray(levels, np.float32)
        self._middle, self._high = (int(np.argmin(np.abs(self._levels - level))) for level in (0.5, 0.9))
        tails = 1.0 / np.sqrt(self._levels * (1.0 - self._levels))
        self._tails = tails / tails.sum()
        overlap = np.array([1.0 / target.steps for target in targets], np.float32)[:, None]
        self._rates = SHIFT_RATE * overlap, STRETCH_RATE * overlap
        self._learned: Float32Array = np.zeros((2, len(targets), 0), np.float32)
        # As the network said it, the last sample and the unit then.
        longest = max((target.steps for target in targets), default=1)
        self._issued: deque[tuple[Float32Array, FloatArray, FloatArray]] = deque(maxlen=longest)

    def apply(self, said: Float32Array) -> Float32Array:
        """What the network said (target, vm, level), fitted; in units of scale from the last sample, as it was."""
        shift, stretch = self._of(said.shape[1])
        median = said[..., self._middle, None]
        fitted: Float32Array = median + shift[..., None] + np.exp(stretch)[..., None] * (said - median)
        return fitted

    def issue(self, said: Float32Array, last: FloatArray, unit: FloatArray) -> None:
        """Remember what the network said (target, vm, level) until it is known what came."""
        self._issued.append((said, last, unit))

    def learn(self, window: Window) -> None:
        """Move by what came in the newest step."""
        due = [k for k, target in enumerate(self._targets) if len(self._issued) >= target.steps]
        if not due:
            return
        said = np.full((len(due), window.vms, len(self._levels)), np.nan, np.float32)
        came = np.full((len(due), window.vms), np.nan, np.float32)
        limit = np.where(np.isnan(window.limit), np.inf, window.limit)
        for row, k in enumerate(due):
            issued, last, unit = self._issued[-self._targets[k].steps]
            n = issued.shape[1]
            said[row, :n] = issued[k]
            came[row, :n] = (np.minimum(realised(window, self._targets[k]), limit)[:n] - last) / unit
        shift, stretch = self._of(window.vms)
        shift[due], stretch[due] = self._moved(due, said, came, shift[due], stretch[due])

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``."""
        self._learned = retained(self._learned, rows, 2)
        self._issued = deque(
            (
                (retained(said, rows, 1), retained(last, rows, 0), retained(unit, rows, 0))
                for said, last, unit in self._issued
            ),
            self._issued.maxlen,
        )

    def _of(self, vms: int) -> Float32Array:
        self._learned = grown(self._learned, vms, 2, 0.0)  # type: ignore[assignment]
        return self._learned[:, :, :vms]

    def _moved(
        self, due: list[int], said: Float32Array, came: Float32Array, shift: Float32Array, stretch: Float32Array
    ) -> tuple[Float32Array, Float32Array]:
        """Shift and stretch (target, vm) after outcomes ``came`` (target, vm) of ``said`` (target, vm, level)."""
        median = said[..., self._middle]
        away = said - median[..., None]
        fitted = np.exp(stretch)[..., None] * away
        fitted += (median + shift)[..., None]
        slope = (came[..., None] < fitted).astype(np.float32)
        slope -= self._levels
        slope *= self._tails
        spread = np.maximum(away[..., self._high], LEAST_SPREAD)
        known = np.isfinite(came) & np.isfinite(median)
        by_shift, by_stretch = np.einsum("tvl->tv", slope), np.einsum("tvl,tvl->tv", slope, away) / spread
        of_shift, of_stretch = (rate[due] for rate in self._rates)
        shifted = KEPT * shift - of_shift * spread * by_shift
        stretched = KEPT * stretch - of_stretch * np.clip(by_stretch, -MOST_GRADIENT, MOST_GRADIENT)
        shifted, stretched = np.clip(shifted, -MOST_SHIFT, MOST_SHIFT), np.clip(stretched, -MOST_STRETCH, MOST_STRETCH)
        return np.where(known, shifted, shift), np.where(known, stretched, stretch)
