r"""Which forecaster to trust, learned online for each VM, target and quantile level.

Exponentially weighted average of experts on the pinball loss, with a share that lets weights move after a change:

.. math:: v_e = w_e \exp(-\eta\, \ell_e / \bar\ell), \qquad
          w_e \leftarrow (1-\alpha) \frac{v_e}{\sum v} + \frac{\alpha}{E}

where :math:`\bar\ell` is the running mean of the combination's own loss, so that :math:`\eta` has no unit. The rate
falls as :math:`\sqrt{\ln E / n}` with the steps :math:`n` seen, down to a least one: the young learn fast
(Cesa-Bianchi & Lugosi, *Prediction, Learning, and Games*, 2006, 2.3), the old still follow a change.
The regret against the best sequence of experts is bounded (Herbster & Warmuth, "Tracking the Best Expert", 1998;
pinball loss: Gaillard, Goude & Nedellec, IJF 2016; by level: Berrisch & Ziel, "CRPS Learning", 2023).

A VM that does something else than before is met twice. At once: while those who were good in the last hour would be far
better together than the weights, they are believed instead; the weights learn on and are believed again when they are
as good, so that a burst that is over leaves little behind. And when losses have been far above the usual for hours, it
has changed for good (:meth:`notice_change`), and begins anew.

The fleet has weights too, learned in the same way from the losses of all its VMs added up. They are the prior of a
young VM: the VM's own weights are multiplied by the fleet's, :math:`w_{VM}\, w_{fleet}^{\,N/(N+n)}` after
:math:`n` steps, so that what others taught counts in full at the start and fades as the VM speaks for itself. The
fleet of a VM is its trust group.
"""

from __future__ import annotations

import numpy as np

from forestall.model.samples import BoolArray, Float32Array, FloatArray, IntArray
from forestall.profiling.trust import TrustGroups
from forestall.profiling.window import grown, retained

LEAST_RATE = 0.02
SHARE = 1.0 / 4032
MEAN_HALF_LIFE = 1000.0
MAX_RELATIVE_LOSS = 40.0
PRIOR_STEPS = 288.0
LEAST_HOUR_STEPS = 12
"""Where steps are long, the last hour is so many of them: fewer say too little."""
SUSPICIOUS, UNUSUAL, FAR_BETTER, AS_GOOD = 1.5, 7.0, 0.7, 0.9
"""Loss of the last hour over the usual from which on a VM is looked at, and from which on it is unusual; and share of
the weights' loss below which the last hour's best are believed, and from which on they are no longer."""
ALLOWED_LOSS, MOST_LOSS, CHANGED_AFTER_HOURS = 2.0, 4.0, 6.0
"""A loss counts from the first multiple of the usual on, up to the second; for how long at the most it must, to be a
change of habits."""
CONTRAST = 5.0


def pinball(quantiles: FloatArray, levels: FloatArray, actual: FloatArray) -> FloatArray:
    """Pinball loss of ``quantiles`` (..., vm, level) for ``actual`` (..., vm)."""
    error = actual[..., None] - quantiles
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
    trust
        Which VMs are a fleet.
    overlap
        How many outcomes in a row say about as much as one: forecasts far ahead are wrong together. So many times as
        long the fleet's weights are believed, and weights move as slowly as delays ask for (Weinberger & Ordentlich,
        IEEE Trans. IT, 2002).
    """

    def __init__(
        self,
        experts: int,
        levels: tuple[float, ...],
        hour: int = 12,
        trust: TrustGroups | None = None,
        overlap: int = 1,
    ) -> None:
        self._overlap = overlap
        self._hour = max(hour, LEAST_HOUR_STEPS)
        self._trust = trust or TrustGroups()
        self._levels = np.asarray(levels)
        self._start = -np.log(experts)
        self._vms = 0
        self._log_weight: Float32Array = np.zeros((experts, 0, len(levels)), np.float32)
        self._mean_loss: FloatArray = np.zeros((0, len(levels)))
        self._steps: FloatArray = np.zeros(0)
        # As many, or fewer since a change: what the rates are taken from.
        self._since: FloatArray = np.zeros(0)
        self._excess: FloatArray = np.zeros(0)
        # Who had nothing to say at the last forecast.
        self._silent: BoolArray = np.zeros((experts, 0), dtype=bool)
        # Each expert's loss of late.
        self._recent: Float32Array = np.zeros((experts, 0, len(levels)), np.float32)
        # Of late, of the weights and of the last hour's best, over the usual.
        self._lately: FloatArray = np.ones((2, 0))
        self._believes_lately: BoolArray = np.zeros(0, dtype=bool)
        self._losses: FloatArray = np.zeros(0)
        self._pooled: FloatArray = np.full((1, experts, len(levels)), self._start)
        self._pooled_steps: IntArray = np.zeros(1, np.int64)

    def grow(self, vms: int) -> None:
        """Make room for ``vms`` VMs."""
        self._log_weight = grown(self._log_weight, vms, 1, self._start)  # type: ignore[assignment]
        self._mean_loss = grown(self._mean_loss, vms, 0, 0.0)  # type: ignore[assignment]
        self._steps = grown(self._steps, vms, 0, 0.0)  # type: ignore[assignment]
        self._since = grown(self._since, vms, 0, 0.0)  # type: ignore[assignment]
        self._recent = grown(self._recent, vms, 1, 0.0)  # type: ignore[assignment]
        self._silent = grown(self._silent, vms, 1, False)  # type: ignore[assignment]
        self._excess = grown(self._excess, vms, 0, 0.0)  # type: ignore[assignment]
        self._lately = grown(self._lately, vms, 1, 1.0)  # type: ignore[assignment]
        self._believes_lately = grown(self._believes_lately, vms, 0, False)  # type: ignore[assignment]
        self._losses = grown(self._losses, vms, 0, np.nan)  # type: ignore[assignment]
        self._vms = vms

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``; what the others taught the fleet stays."""
        self._log_weight = retained(self._log_weight, rows, 1)
        self._mean_loss, self._steps = retained(self._mean_loss, rows, 0), retained(self._steps, rows, 0)
        self._since, self._recent = retained(self._since, rows, 0), retained(self._recent, rows, 1)
        self._excess, self._losses = retained(self._excess, rows, 0), retained(self._losses, rows, 0)
        self._lately, self._silent = retained(self._lately, rows, 1), retained(self._silent, rows, 1)
        self._believes_lately = retained(self._believes_lately, rows, 0)
        self._vms = len(rows)

    def weights(self) -> FloatArray:
        """Weights (expert, vm, level) that are believed, adding to one over experts."""
        weights = self._learned()
        rows = np.flatnonzero(self._believes_lately[: self._vms])
        weights[:, rows] = self._of_the_last_hour(rows, self._silent[:, rows])
        return weights

    def _learned(self) -> FloatArray:
        """Weights (expert, vm, level) that were learned."""
        steps = self._steps[: self._vms]
        lasts = PRIOR_STEPS * self._overlap
        prior = (lasts / (steps + lasts))[None, :, None]
        pooled = self._trust.spread(self._of_groups(), self._vms, 1)
        return _normalised(self._log_weight[:, : self._vms] + prior * pooled)

    def combine(self, quantiles: FloatArray) -> FloatArray:
        """Combine quantiles (expert, vm, level) to (vm, level), without crossings.

        An expert with nothing to say about a VM (NaN) is left out there; NaN only where all have nothing.
        """
        self._silent[:, : self._vms] = np.isnan(quantiles[:, : self._vms, 0])
        return _mixed(quantiles, self.weights())

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
        self._compare(seen, quantiles, mixed_loss, actual)
        self._recent[:, seen] += np.float32(1.0 / self._hour) * (loss.astype(np.float32) - self._recent[:, seen])
        self._log_weight[:, seen] = _moved(self._log_weight[:, seen], loss, mean, self._since[seen], self._overlap)
        self._losses[seen] = usual
        self._teach(seen, loss, mean)
        return np.asarray(usual)

    def _compare(self, seen: IntArray, quantiles: FloatArray, mixed_loss: FloatArray, actual: FloatArray) -> None:
        """Decide whom VMs believe: compare weights and the last hour's best where losses of late are suspicious."""
        usual = np.where(self._mean_loss[seen] > 0, self._mean_loss[seen], 1.0)
        losses = np.repeat((mixed_loss / usual).mean(axis=-1)[None], 2, axis=0)
        suspicious = self._believes_lately[seen] | (self._lately[0, seen] > SUSPICIOUS)
        rows = seen[suspicious]
        if len(rows):
            issued = quantiles[:, rows]
            best = self._of_the_last_hour(rows, np.isnan(issued[..., 0]))
            for k, weights in enumerate((self._learned()[:, rows], best)):
                loss = pinball(_mixed(issued, weights), self._levels, actual[rows])
                losses[k, suspicious] = (loss / usual[suspicious]).mean(axis=-1)
        self._lately[:, seen] += (np.minimum(losses, MAX_RELATIVE_LOSS) - self._lately[:, seen]) / self._hour
        learned, lately = self._lately[:, seen]
        enough = np.where(self._believes_lately[seen], AS_GOOD, FAR_BETTER)
        self._believes_lately[seen] = suspicious & (lately < enough * learned)

    def _of_the_last_hour(self, rows: IntArray, silent: BoolArray) -> FloatArray:
        """Weights (expert, row, level) of the VMs ``rows``: who was good in the last hour is believed.

        Not those that are ``silent`` (expert, row), whatever they said then.
        """
        speaks = ~silent | silent.all(axis=0)
        recent = np.where(speaks[..., None], self._recent[:, rows], np.float32(np.inf))
        best = np.maximum(recent.min(axis=0), np.finfo(np.float32).tiny)
        with np.errstate(over="ignore"):  # some were right to the last digit
            apart = np.minimum(recent / best - 1.0, MAX_RELATIVE_LOSS)
        return np.where(speaks[..., None], _normalised(-CONTRAST * apart), 0.0)

    def _teach(self, seen: IntArray, loss: FloatArray, mean: FloatArray) -> None:
        """Move the weights of fleets after losses (expert, seen, level) whose usual is ``mean`` (seen, level)."""
        pooled = self._of_groups()
        for group, own in self._trust.among(seen):
            self._pooled_steps[group] += 1
            total, usual = loss[:, own].sum(axis=1), mean[own].sum(axis=0)
            pooled[group] = _moved(pooled[group], total, usual, self._pooled_steps[group], self._overlap)

    def _of_groups(self) -> FloatArray:
        """Log weights (group, expert, level) of the fleets."""
        new = self._trust.count - len(self._pooled)
        if new > 0:
            self._pooled = np.pad(self._pooled, ((0, new), (0, 0), (0, 0)), constant_values=self._start)
            self._pooled_steps = np.pad(self._pooled_steps, (0, new))
        return self._pooled

    def unusual(self) -> BoolArray:
        """VMs (vm,) whose losses of the last hour were several times the usual; of the young nothing is usual."""
        settled = self._steps[: self._vms] > PRIOR_STEPS
        return np.asarray(settled & (self._lately[0, : self._vms] > UNUSUAL))

    def notice_change(self) -> BoolArray:
        """VMs (vm,) whose loss has been far above the usual for hours, found by CUSUM.

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
        self._log_weight[:, rows] = np.log(self._of_the_last_hour(rows, self._silent[:, rows]) + SHARE)
        self._mean_loss[rows] = np.maximum(self._recent[:, rows].min(axis=0), np.finfo(np.float32).tiny)
        self._lately[:, rows], self._believes_lately[rows] = 1.0, False
        self._since[rows] = np.minimum(self._since[rows], self._hour)


def _mixed(quantiles: FloatArray, weights: FloatArray) -> FloatArray:
    """Mix quantiles (expert, vm, level) by weights of the same shape; NaN only where all have nothing to say."""
    known = ~np.isnan(quantiles)
    weight = np.where(known, weights, 0.0)
    total = weight.sum(axis=0)
    mixed = (weight * np.where(known, quantiles, 0.0)).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.maximum.accumulate(mixed / total, axis=-1)


def _normalised(log_weight: FloatArray | Float32Array) -> FloatArray:
    weight: FloatArray = np.exp(log_weight - log_weight.max(axis=0))
    weight /= weight.sum(axis=0)
    return weight


def _moved(
    log_weight: FloatArray | Float32Array,
    loss: FloatArray,
    mean_loss: FloatArray,
    steps: FloatArray | IntArray,
    overlap: int,
) -> FloatArray:
    """Log weights (expert, ..., level) after one more loss, the last of ``steps`` (...,)."""
    rate = np.maximum(np.sqrt(np.log(len(loss)) / steps), LEAST_RATE)[..., None] / np.sqrt(overlap)
    relative = np.minimum(loss / np.where(mean_loss > 0, mean_loss, 1.0), MAX_RELATIVE_LOSS)
    return np.log((1.0 - SHARE) * _normalised(log_weight - rate * relative) + SHARE / len(log_weight))
