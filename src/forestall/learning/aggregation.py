r"""Which forecaster to trust, learned online for each VM, target and quantile level.

Exponentially weighted average of experts on the pinball loss, with a share that lets weights move after a change:

.. math:: v_e = w_e \exp(-\eta\, \ell_e / \bar\ell), \qquad
          w_e \leftarrow (1-\alpha) \frac{v_e}{\sum v} + \frac{\alpha}{E}

where :math:`\bar\ell` is the running mean of the combination's own loss, so that :math:`\eta` has no unit. The rate
falls as :math:`\sqrt{\ln E / n}` with the steps :math:`n` seen, down to a least one: the young learn fast
(Cesa-Bianchi & Lugosi, *Prediction, Learning, and Games*, 2006, 2.3), the old still follow a change.
The regret against the best sequence of experts is bounded (Herbster & Warmuth, "Tracking the Best Expert", 1998;
pinball loss: Gaillard, Goude & Nedellec, IJF 2016; by level: Berrisch & Ziel, "CRPS Learning", 2023).

The fleet has weights too, learned in the same way from the losses of all its VMs added up. They are the prior of a
young VM: the VM's own weights are multiplied by the fleet's, :math:`w_{VM}\, w_{fleet}^{\,N/(N+n)}` after
:math:`n` steps, so that what others taught counts in full at the start and fades as the VM speaks for itself.
"""

from __future__ import annotations

import numpy as np

from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.profiling.window import Float32Array, grown, retained

LEAST_RATE = 0.02
SHARE = 1.0 / 4032
MEAN_HALF_LIFE = 1000.0
MAX_RELATIVE_LOSS = 40.0
PRIOR_STEPS = 288.0
ALLOWED_LOSS, MOST_LOSS, CHANGED_AFTER_HOURS = 2.0, 4.0, 1.2
"""A loss counts from the first multiple of the usual on, up to the second; for how long at the most it must, to be a
change of habits."""
CONTRAST = 5.0


def pinball(quantiles: FloatArray, levels: FloatArray, actual: FloatArray) -> FloatArray:
    """Pinball loss of ``quantiles`` (..., vm, level) for ``actual`` (vm,)."""
    error = actual[:, None] - quantiles
    return np.maximum(levels * error, (levels - 1.0) * error)


class Aggregation:
    """Weights of the experts for one target.

    Parameters
    ----------
    experts
        Number of experts.
    levels
        Quantile levels.
    hour
        Steps in an hour.
    """

    def __init__(self, experts: int, levels: tuple[float, ...], hour: int = 12) -> None:
        self._hour = hour
        self._levels = np.asarray(levels)
        self._start = -np.log(experts)
        self._vms = 0
        self._log_weight: Float32Array = np.zeros((experts, 0, len(levels)), np.float32)
        self._mean_loss: FloatArray = np.zeros((0, len(levels)))
        self._steps: FloatArray = np.zeros(0)
        # As many, or fewer since a change: what the rates are taken from.
        self._since: FloatArray = np.zeros(0)
        self._excess: FloatArray = np.zeros(0)
        # Each expert's loss of late.
        self._recent: Float32Array = np.zeros((experts, 0, len(levels)), np.float32)
        self._losses: FloatArray = np.zeros(0)
        self._pooled: FloatArray = np.full((experts, len(levels)), self._start)
        self._pooled_steps = 0

    def grow(self, vms: int) -> None:
        """Make room for ``vms`` VMs."""
        self._log_weight = grown(self._log_weight, vms, 1, self._start)  # type: ignore[assignment]
        self._mean_loss = grown(self._mean_loss, vms, 0, 0.0)  # type: ignore[assignment]
        self._steps = grown(self._steps, vms, 0, 0.0)  # type: ignore[assignment]
        self._since = grown(self._since, vms, 0, 0.0)  # type: ignore[assignment]
        self._recent = grown(self._recent, vms, 1, 0.0)  # type: ignore[assignment]
        self._excess = grown(self._excess, vms, 0, 0.0)  # type: ignore[assignment]
        self._losses = grown(self._losses, vms, 0, np.nan)  # type: ignore[assignment]
        self._vms = vms

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``; what the others taught the fleet stays."""
        self._log_weight = retained(self._log_weight, rows, 1)
        self._mean_loss, self._steps = retained(self._mean_loss, rows, 0), retained(self._steps, rows, 0)
        self._since, self._recent = retained(self._since, rows, 0), retained(self._recent, rows, 1)
        self._excess, self._losses = retained(self._excess, rows, 0), retained(self._losses, rows, 0)
        self._vms = len(rows)

    def weights(self) -> FloatArray:
        """Weights (expert, vm, level), adding to one over experts."""
        steps = self._steps[: self._vms]
        prior = (PRIOR_STEPS / (steps + PRIOR_STEPS))[None, :, None]
        return _normalised(self._log_weight[:, : self._vms] + prior * self._pooled[:, None, :])

    def combine(self, quantiles: FloatArray) -> FloatArray:
        """Combine quantiles (expert, vm, level) to (vm, level), without crossings.

        An expert with nothing to say about a VM (NaN) is left out there; NaN only where all have nothing.
        """
        known = ~np.isnan(quantiles)
        weight = np.where(known, self.weights(), 0.0)
        total = weight.sum(axis=0)
        mixed = (weight * np.where(known, quantiles, 0.0)).sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.maximum.accumulate(mixed / total, axis=-1)

    def update(self, quantiles: FloatArray, combined: FloatArray, actual: FloatArray) -> FloatArray:
        """Move weights after ``actual`` (vm,) was seen; NaN and silent experts change nothing.

        ``quantiles`` (expert, vm, level) and ``combined`` (vm, level) are what was forecast for it then.

        Returns
        -------
        FloatArray
            The combination's loss (vm,) over what is usual for each VM that was seen, mean over levels.
        """
        n = len(combined)
        actual = actual[:n]
        seen = np.flatnonzero(~np.isnan(actual) & ~np.isnan(combined[:, 0]))
        if len(seen) == 0:
            return np.zeros(0)
        mixed_loss = pinball(combined[seen], self._levels, actual[seen])
        self._steps[seen] += 1.0
        self._since[seen] += 1.0
        rate = np.maximum(1.0 / self._since[seen], 1.0 - 0.5 ** (1.0 / MEAN_HALF_LIFE))[:, None]
        mean = self._mean_loss[seen]
        usual = np.where(mean > 0, mixed_loss / np.where(mean > 0, mean, 1.0), 1.0).mean(axis=-1)
        self._mean_loss[seen] = mean = mean + rate * (mixed_loss - mean)
        loss = pinball(quantiles[:, seen], self._levels, actual[seen])
        loss = np.where(np.isnan(loss), mixed_loss, loss)
        self._recent[:, seen] += np.float32(1.0 / self._hour) * (loss.astype(np.float32) - self._recent[:, seen])
        self._log_weight[:, seen] = _moved(self._log_weight[:, seen], loss, mean, self._since[seen])
        self._losses[seen] = usual
        self._pooled_steps += 1
        self._pooled = _moved(self._pooled, loss.sum(axis=1), mean.sum(axis=0), np.array(self._pooled_steps))
        return np.asarray(usual)

    def notice_change(self) -> BoolArray:
        """VMs (vm,) whose loss has been far above the usual for more than an hour, found by CUSUM.

        To be called after :meth:`update`, for forecasts of the mean: a single peak spoils as many forecasts of a peak
        as they look ahead.
        """
        losses = self._losses[: self._vms]
        excess = np.where(np.isfinite(losses), np.minimum(losses, MOST_LOSS) - ALLOWED_LOSS, 0.0)
        self._losses[:] = np.nan
        self._excess[: self._vms] = np.maximum(self._excess[: self._vms] + excess, 0.0)
        found = np.asarray(self._excess[: self._vms] > CHANGED_AFTER_HOURS * (MOST_LOSS - ALLOWED_LOSS) * self._hour)
        self._excess[: self._vms][found] = 0.0
        return found

    def begin_anew(self, vms: BoolArray) -> None:
        """Let these VMs (vm,), which have changed, trust who was good in the last hour and learn as young ones do."""
        rows = np.flatnonzero(vms)
        recent = self._recent[:, rows]
        best = np.maximum(recent.min(axis=0), np.finfo(np.float32).tiny)
        apart = np.minimum(recent / best - 1.0, MAX_RELATIVE_LOSS)
        self._log_weight[:, rows] = np.log(_normalised(-CONTRAST * apart) + SHARE)
        self._mean_loss[rows] = best
        self._since[rows] = np.minimum(self._since[rows], self._hour)


def _normalised(log_weight: FloatArray | Float32Array) -> FloatArray:
    weight: FloatArray = np.exp(log_weight - log_weight.max(axis=0))
    weight /= weight.sum(axis=0)
    return weight


def _moved(
    log_weight: FloatArray | Float32Array, loss: FloatArray, mean_loss: FloatArray, steps: FloatArray | IntArray
) -> FloatArray:
    """Log weights (expert, ..., level) after one more loss, the last of ``steps`` (...,)."""
    rate = np.maximum(np.sqrt(np.log(len(loss)) / steps), LEAST_RATE)[..., None]
    relative = np.minimum(loss / np.where(mean_loss > 0, mean_loss, 1.0), MAX_RELATIVE_LOSS)
    return np.log((1.0 - SHARE) * _normalised(log_weight - rate * relative) + SHARE / len(log_weight))
