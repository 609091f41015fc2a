r"""Recalibration: what is called the 99 % quantile is exceeded in 1 % of cases, for each VM.

For each VM and level the share of exceedances is counted, with a memory of about two weeks and with the share of its
trust group as a prior. A quantile that was meant for tail probability :math:`1-p` but is exceeded with share
:math:`\hat e` is relabelled with the tail probability :math:`\hat e`, and the wanted levels are read off the relabelled
quantile function. This is the online form of quantile recalibration (Kuleshov, Fenner & Ermon, ICML 2018;
adaptive conformal inference: Gibbs & Candès, NeurIPS 2021).
"""

from __future__ import annotations

import numpy as np

from forestall.learning.levels import logit, value_at
from forestall.model.samples import BoolArray, Float32Array, FloatArray, IntArray
from forestall.profiling.trust import TrustGroups
from forestall.profiling.window import grown, retained

HALF_LIFE_DAYS = 10.0
PRIOR_STEPS = 400.0
FLEET_PRIOR_STEPS = 20_000.0
KEPT_AFTER_CHANGE = 0.1


class Recalibration:
    """Exceedance shares of one target's combined quantiles.

    Parameters
    ----------
    levels
        Quantile levels, increasing.
    steps_per_day
        Sampling steps in a day.
    overlap
        How many outcomes in a row say about as much as one: forecasts far ahead are wrong together.
    trust
        Which VMs are a fleet.
    """

    def __init__(
        self, levels: tuple[float, ...], steps_per_day: int, overlap: int = 1, trust: TrustGroups | None = None
    ) -> None:
        self._trust = trust or TrustGroups()
        self._prior_steps = PRIOR_STEPS * overlap
        self._levels = np.asarray(levels)
        self._decay = 0.5 ** (1.0 / (HALF_LIFE_DAYS * steps_per_day))
        self._exceeded: Float32Array = np.zeros((0, len(levels)), np.float32)
        self._steps: Float32Array = np.zeros(0, np.float32)
        self._of_the_forgotten: tuple[FloatArray, FloatArray] = np.zeros((1, len(levels))), np.zeros(1)
        self._vms = 0

    def grow(self, vms: int) -> None:
        """Make room for ``vms`` VMs."""
        self._exceeded = grown(self._exceeded, vms, 0, 0.0)  # type: ignore[assignment]
        self._steps = grown(self._steps, vms, 0, 0.0)  # type: ignore[assignment]
        self._vms = vms

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``; what the others taught the fleet stays, and fades."""
        exceeded, steps = (self._trust.room(part) for part in self._of_the_forgotten)
        left = self._trust.left_behind(self._exceeded, rows, 0), self._trust.left_behind(self._steps, rows, 0)
        self._of_the_forgotten = exceeded + left[0], steps + left[1]
        self._exceeded, self._steps = retained(self._exceeded, rows, 0), retained(self._steps, rows, 0)
        self._vms = len(rows)

    def update(self, combined: FloatArray, actual: FloatArray) -> None:
        """Count one outcome a VM: ``combined`` (vm, level) as issued, ``actual`` (vm,) with NaN for none."""
        n = len(combined)
        known = ~np.isnan(actual[:n]) & ~np.isnan(combined[:, 0])
        above = (actual[:n, None] > combined) & known[:, None]
        keep = np.where(known, self._decay, 1.0).astype(np.float32)
        self._exceeded[:n] = self._exceeded[:n] * keep[:, None] + above
        self._steps[:n] = self._steps[:n] * keep + known
        exceeded, steps = self._of_the_forgotten
        self._of_the_forgotten = exceeded * self._decay, steps * self._decay

    def forget(self, vms: BoolArray) -> None:
        """Let what was seen of these VMs (vm,) count for little: they have changed."""
        kept = np.where(vms, KEPT_AFTER_CHANGE, 1.0).astype(np.float32)
        self._exceeded[: len(vms)] *= kept[:, None]
        self._steps[: len(vms)] *= kept

    def coordinates(self) -> FloatArray:
        """Tail coordinates (vm, level) that the issued quantiles really have, strictly increasing."""
        exceeded, steps = self._exceeded[: self._vms], self._steps[: self._vms]
        nominal = 1.0 - self._levels
        others_exceeded, others_steps = (self._trust.room(part) for part in self._of_the_forgotten)
        fleet = (self._trust.totals(exceeded, 0) + others_exceeded + FLEET_PRIOR_STEPS * nominal) / (
            self._trust.totals(steps, 0) + others_steps + FLEET_PRIOR_STEPS
        )[:, None]
        prior = self._trust.spread(fleet, self._vms, 0)
        share = (exceeded + self._prior_steps * prior) / (steps[:, None] + self._prior_steps)
        z = logit(1.0 - np.clip(share, 1e-6, 1.0 - 1e-6))
        return np.maximum.accumulate(z + np.arange(len(nominal)) * 1e-6, axis=1)

    def apply(self, combined: FloatArray) -> FloatArray:
        """Recalibrated quantiles (vm, level) at the nominal levels, non-decreasing, never below zero."""
        knots = self.coordinates()
        wanted = np.broadcast_to(logit(self._levels), combined.shape)
        return np.maximum(np.maximum.accumulate(value_at(combined, knots, wanted), axis=1), 0.0)
