r"""Fits what the network says to each VM, online: the part of it that learns at every step.

The network is one for all VMs. Of each VM and target three numbers are learned: by how much its median is shifted, in
widths :math:`w = q_{0.9} - q_{1/2}` of the forecast, by how much the quantiles up to there are stretched away from it,
and by how much those beyond are, so that a VM that rests and bursts can have a narrow body and a long tail:

.. math:: q'_p = q_{1/2} + b w + e^s \min(q_p - q_{1/2}, w) + e^t \max(q_p - q_{0.9}, 0)

each by one step for each outcome :math:`y`, with a pull towards nothing:

.. math:: \theta \leftarrow \kappa \theta - \eta_\theta \sum_p c_{\theta p} (1[y < q'_p] - p), \qquad
          c_{\theta p} \propto \pm 1 / \sqrt{p (1 - p)}

over all levels for :math:`b`, over those up to 0.9 for :math:`s`, with the sign of the side of the median, and over
those beyond for :math:`t`. These are the gradients of the pinball loss, but for the distance of each level from the
median: how often levels are passed counts, not how far out they lie. So no outcome moves a number by more than a
bounded step, and none has to be cut, which would leave out of the sum what bursts have to say. The cost is some
operations a VM, target and level. (Tracking of quantiles: Gibbs & Candès, NeurIPS 2021; online gradient descent:
Zinkevich, ICML 2003; adapters on a frozen model: Houlsby et al., ICML 2019.)
"""

from __future__ import annotations

from collections import deque

import numpy as np

from forestall.learning.expert import realised
from forestall.model.forecast import Target
from forestall.model.samples import Float32Array, FloatArray, IntArray
from forestall.profiling.window import Window, grown, retained

ADAPTER = "adapter"
RATES = (0.02, 0.01, 0.4)
"""Of shift, stretch and tail, of forecasts of the next step; of those further ahead so much less as they overlap."""
MOST = (3.0, 2.0, 2.0)
KEPT = 0.998
"""Of what was learned, a step later: more, and forecasts far ahead lose at the ends what they gain in the middle."""
BODY_ENDS = 0.9
LEAST_WIDTH = 1e-3


class Adapter:
    """Shift, stretch and tail of every VM.

    Parameters
    ----------
    targets, levels
        What the network forecasts.
    """

    def __init__(self, targets: tuple[Target, ...], levels: tuple[float, ...]) -> None:
        self._targets = targets
        self._levels = np.asarray(levels, np.float32)
        self._middle, self._end = (int(np.argmin(np.abs(self._levels - level))) for level in (0.5, BODY_ENDS))
        says = 1.0 / np.sqrt(self._levels * (1.0 - self._levels))
        body = np.arange(len(levels)) <= self._end
        # What each level says about each number (number, level).
        about = np.stack([says, says * body * np.sign(self._levels - 0.5), says * ~body])
        self._about = about / np.abs(about).sum(axis=1, keepdims=True)
        overlap = np.array([1.0 / target.steps for target in targets], np.float32)
        self._rates = np.array(RATES, np.float32)[:, None, None] * overlap[:, None]
        self._learned: Float32Array = np.zeros((len(RATES), len(targets), 0), np.float32)
        # As the network said it, the last sample and the unit then.
        longest = max((target.steps for target in targets), default=1)
        self._issued: deque[tuple[Float32Array, FloatArray, FloatArray]] = deque(maxlen=longest)

    def apply(self, said: Float32Array) -> Float32Array:
        """What the network said (target, vm, level), fitted; in units of scale from the last sample, as it was."""
        return self._fitted(said, self._of(said.shape[1]))

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
        learned = self._of(window.vms)
        learned[:, due] = self._moved(due, said, came, learned[:, due])

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

    def _fitted(self, said: Float32Array, learned: Float32Array) -> Float32Array:
        """Quantiles (target, vm, level) with the numbers ``learned`` (number, target, vm)."""
        shift, stretch, tail = learned[..., None]
        median = said[..., self._middle, None]
        away = said - median
        width = away[..., self._end, None]
        fitted: Float32Array = median + shift * np.maximum(width, LEAST_WIDTH)
        fitted = fitted + np.exp(stretch) * np.minimum(away, width)
        fitted += np.exp(tail) * np.maximum(away - width, np.float32(0))
        return fitted

    def _moved(self, due: list[int], said: Float32Array, came: Float32Array, learned: Float32Array) -> Float32Array:
        """Numbers (number, target, vm) after outcomes ``came`` (target, vm) of ``said`` (target, vm, level)."""
        below = (came[..., None] < self._fitted(said, learned)).astype(np.float32)
        below -= self._levels
        steps = np.einsum("tvl,nl->ntv", below, self._about)
        known = np.isfinite(came) & np.isfinite(said[..., self._middle])
        most = np.array(MOST, np.float32)[:, None, None]
        moved = np.clip(KEPT * learned - self._rates[:, due] * steps, -most, most)
        return np.where(known, moved, learned)
