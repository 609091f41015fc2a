r"""Quantiles of a forecaster's own errors, kept as a decaying histogram for each VM and target.

A residual :math:`r = (y - \hat y) / s`, with the VM's scale :math:`s`, falls into one of 64 bins that are even in
:math:`\operatorname{asinh}(r / \delta)`: linear near zero, a constant ratio in the tails. Counts halve every
``half_life_steps``. A VM with few residuals borrows from the fleet: the pooled histogram counts as
``prior_samples`` of its own (an empirical-Bayes prior). The fleet is here its trust group.
"""

from __future__ import annotations

import numpy as np

from forestall.model.samples import Float32Array, FloatArray, IntArray
from forestall.profiling.trust import TrustGroups
from forestall.profiling.window import grown, retained

BINS = 64
DELTA = 0.002
REACH = 60.0
_SPAN = float(np.arcsinh(REACH / DELTA))
EDGES: FloatArray = DELTA * np.sinh(np.linspace(-_SPAN, _SPAN, BINS + 1))
_RESCALE_AT = 1e6
_ROWS_AT_ONCE = 8192


def bin_of(residual: FloatArray) -> IntArray:
    """Bin of each scaled residual; those out of reach fall into the outermost bins."""
    position = (np.arcsinh(residual / DELTA) + _SPAN) * (BINS / (2 * _SPAN))
    return np.clip(np.nan_to_num(position), 0, BINS - 1).astype(np.int64)


class ResidualQuantiles:
    """Decaying histograms (target, vm, bin) of scaled residuals.

    Parameters
    ----------
    targets
        Number of targets.
    half_life_steps
        Steps after which a residual counts half.
    prior_samples
        Weight of the fleet's pooled histogram, in samples.
    trust
        Which VMs are a fleet.
    """

    def __init__(
        self, targets: int, half_life_steps: float, prior_samples: float = 60.0, trust: TrustGroups | None = None
    ) -> None:
        self.decay = 0.5 ** (1.0 / half_life_steps)
        self.prior_samples = prior_samples
        self._trust = trust or TrustGroups()
        self._vms = 0
        self._increment = 1.0
        self._counts: Float32Array = np.zeros((targets, 0, BINS), np.float32)
        self._of_the_forgotten: FloatArray = np.zeros((1, targets, BINS))

    def grow(self, vms: int) -> None:
        """Make room for ``vms`` VMs."""
        self._counts = grown(self._counts, vms, 1, 0.0)  # type: ignore[assignment]
        self._vms = vms

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``; what the others taught the fleet stays, and fades."""
        self._of_the_forgotten = self._trust.room(self._of_the_forgotten) + self._trust.left_behind(
            self._counts, rows, 1
        )
        self._counts = retained(self._counts, rows, 1)
        self._vms = len(rows)

    def update(self, target: int, residual: FloatArray) -> None:
        """Count one residual a VM; NaN is no residual. The first VMs of the roster, in its order."""
        known = np.flatnonzero(~np.isnan(residual))
        self._counts[target, known, bin_of(residual[known])] += np.float32(self._increment)

    def advance(self) -> None:
        """Let one step pass: everything counted so far weighs a little less than what comes."""
        self._increment /= self.decay
        if self._increment > _RESCALE_AT:
            self._counts /= np.float32(self._increment)
            self._of_the_forgotten /= self._increment
            self._increment = 1.0

    def quantiles(self, levels: FloatArray) -> FloatArray:
        """Quantiles (target, vm, level) of the scaled residual; NaN while nobody has any for a target."""
        counts = self._counts[:, : self._vms]
        pooled = self._trust.totals(counts, 1) + self._trust.room(self._of_the_forgotten)
        total = pooled.sum(axis=-1, keepdims=True)
        prior = pooled / np.where(total > 0, total, 1.0) * (self.prior_samples * self._increment)
        mixed = (counts + self._trust.spread(prior.astype(np.float32), self._vms, 1)).reshape(-1, BINS)
        result = histogram_quantiles(mixed, levels).reshape(len(counts), self._vms, len(levels))
        return np.where(self._trust.spread(total, self._vms, 1) > 0, result, np.nan)


def histogram_quantiles(counts: Float32Array, levels: FloatArray) -> FloatArray:
    """Quantiles (row, level) of histograms (row, bin) over :data:`EDGES`, linear within a bin."""
    parts = [_quantiles_of(counts[i : i + _ROWS_AT_ONCE], levels) for i in range(0, len(counts), _ROWS_AT_ONCE)]
    return np.concatenate(parts) if parts else np.empty((0, len(levels)))


def _quantiles_of(counts: Float32Array, levels: FloatArray) -> FloatArray:
    cumulative = np.cumsum(counts, axis=1, dtype=np.float64)
    total = cumulative[:, -1:]
    wanted = total * levels
    # One sorted array for all rows: each row's shares, from 0 to 1, stand behind those of the row before.
    rows = np.arange(len(counts))[:, None]
    shares = cumulative / np.where(total > 0, total, 1.0) + rows
    index = np.searchsorted(shares.ravel(), (rows + levels).ravel()).reshape(wanted.shape) - rows * BINS
    index = np.clip(index, 0, BINS - 1)
    mass = np.take_along_axis(counts, index, axis=1)
    before = np.take_along_axis(cumulative, index, axis=1) - mass
    share = np.clip((wanted - before) / np.where(mass > 0, mass, 1.0), 0.0, 1.0)
    quantiles: FloatArray = EDGES[index] + share * (EDGES[index + 1] - EDGES[index])
    return quantiles
