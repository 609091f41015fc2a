r"""Risk: the probability that demand exceeds a limit somewhere within a horizon.

The forecast of the **peak** over the horizon gives a first probability. Two more facts are known at that moment: how
often the VM itself (and, as long as little is known of it, its trust group) has exceeded the limit over such a horizon
in the last week, and whether it does so now. A logistic regression, learned online for each horizon over the whole
fleet, weighs them; its output is the stated risk. It is a strictly proper scoring rule (log loss) that is minimised, so
the risk tends to be calibrated (Platt, 1999; online Newton step: Hazan, Agarwal & Kale, 2007).
"""

from __future__ import annotations

from collections import deque

import numpy as np

from forestall.learning.levels import logit
from forestall.model.samples import BoolArray, Float32Array, FloatArray, IntArray
from forestall.profiling.trust import TrustGroups
from forestall.profiling.window import grown, retained

EDGE = 1e-5
MEMORY_DAYS = 7.0
PRIOR_STEPS = 20.0
FEATURES = 6
REGULARISATION = 5.0
FORGETTING = 0.9998


class RiskModel:
    """Risk for one horizon and limit.

    Parameters
    ----------
    horizon_steps
        Length of the horizon.
    steps_per_day
        Sampling steps in a day.
    trust
        Which VMs stand in for each other.
    """

    def __init__(self, horizon_steps: int, steps_per_day: int, trust: TrustGroups | None = None) -> None:
        self._trust = trust or TrustGroups()
        self.horizon_steps = horizon_steps
        self._decay = 0.5 ** (1.0 / (MEMORY_DAYS * steps_per_day))
        self._rate: FloatArray = np.zeros(0)
        self._steps: FloatArray = np.zeros(0)
        self._of_the_forgotten: FloatArray = np.zeros((1, 2))
        self._weight: FloatArray = np.array([0.0, 0.5, 0.5, 0.0, 0.0, 0.0])
        self._curvature: FloatArray = np.eye(FEATURES) * REGULARISATION
        self._issued: deque[Float32Array] = deque(maxlen=horizon_steps)
        self._above: deque[BoolArray] = deque(maxlen=horizon_steps)
        self._seen: deque[BoolArray] = deque(maxlen=horizon_steps)

    def step(self, exceedance: FloatArray, above: BoolArray, seen: BoolArray) -> FloatArray:
        """Learn from the newest interval and state the risk of the coming horizon.

        Parameters
        ----------
        exceedance
            Array (vm,): the forecast's probability that the peak of the horizon exceeds the limit; NaN unknown.
        above
            Array (vm,): whether demand exceeded the limit in the newest interval.
        seen
            Array (vm,): whether there was a sample.

        Returns
        -------
        FloatArray
            Array (vm,), probabilities; NaN where nothing is known.
        """
        vms = len(above)
        self._above.append(above)
        self._seen.append(seen)
        if len(self._issued) == self.horizon_steps:
            self._learn(self._issued[0].astype(np.float64))
        self._rate = grown(self._rate, vms, 0, 0.0)  # type: ignore[assignment]
        self._steps = grown(self._steps, vms, 0, 0.0)  # type: ignore[assignment]
        features = self._features(exceedance, above, vms)
        self._issued.append(features.astype(np.float32))
        return 1.0 / (1.0 + np.exp(-np.clip(features @ self._weight, -12.0, 12.0)))

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``; what the others taught the fleet stays, and fades."""
        both = np.stack([self._rate, self._steps])
        self._of_the_forgotten = self._trust.room(self._of_the_forgotten) + self._trust.left_behind(both, rows, 1)
        self._rate, self._steps = retained(self._rate, rows, 0), retained(self._steps, rows, 0)
        self._issued = deque((retained(features, rows, 0) for features in self._issued), self.horizon_steps)
        self._above = deque((retained(above, rows, 0) for above in self._above), self.horizon_steps)
        self._seen = deque((retained(seen, rows, 0) for seen in self._seen), self.horizon_steps)

    def _features(self, exceedance: FloatArray, above: BoolArray, vms: int) -> FloatArray:
        rate, steps = self._rate[:vms], self._steps[:vms]
        total = self._trust.totals(np.stack([rate, steps]), 1) + self._trust.room(self._of_the_forgotten)
        fleet = (total[:, 0] + 1e-3) / (total[:, 1] + 1.0)
        own = (rate + PRIOR_STEPS * self._trust.spread(fleet, vms, 0)) / (steps + PRIOR_STEPS)
        stated = logit(np.clip(exceedance, EDGE, 1.0 - EDGE))
        usual = logit(np.clip(own, EDGE, 1.0 - EDGE))
        constant = np.ones(vms)
        return np.stack([constant, stated, usual, above, above * usual, np.minimum(stated, 0.0)], axis=1)

    def _learn(self, features: FloatArray) -> None:
        n = len(features)
        self._of_the_forgotten *= self._decay
        outcome = np.zeros(n, dtype=bool)
        known = np.zeros(n, dtype=bool)
        for above, seen in zip(self._above, self._seen, strict=True):
            outcome |= (above & seen)[:n]
            known |= seen[:n]
        self._rate[:n] = np.where(known, self._decay * self._rate[:n] + outcome, self._rate[:n])
        self._steps[:n] = np.where(known, self._decay * self._steps[:n] + 1.0, self._steps[:n])
        rows = features[known & ~np.isnan(features).any(axis=1)]
        if len(rows) == 0:
            return
        truth = outcome[known & ~np.isnan(features).any(axis=1)]
        stated = 1.0 / (1.0 + np.exp(-np.clip(rows @ self._weight, -12.0, 12.0)))
        spread = np.maximum(stated * (1.0 - stated), 1e-6)
        self._curvature = FORGETTING * self._curvature + (rows * spread[:, None]).T @ rows
        gradient = rows.T @ (stated - truth)
        ridge = self._curvature + np.eye(FEATURES) * 1e-3
        self._weight = self._weight - np.linalg.solve(ridge, gradient)
