"""A forecaster is a point rule with the quantiles of its own residuals."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np

from forestall.learning.residuals import ResidualQuantiles
from forestall.learning.rules import PointRule
from forestall.model.forecast import Statistic, Target
from forestall.model.samples import Float32Array, FloatArray, IntArray
from forestall.profiling.trust import TrustGroups
from forestall.profiling.window import Window, highest, retained

SMALLEST_SHARE = 0.02


def realised(window: Window, target: Target) -> FloatArray:
    """What ``target``, forecast ``target.steps`` ago, turned out to be (vm,); NaN where nothing was seen."""
    if target.statistic is Statistic.MEAN:
        return window.at_lag(0).astype(np.float64)
    return highest(window.tail(target.steps)).astype(np.float64)


class Forecaster(Protocol):
    """Gives quantiles of every target for every VM, and learns from what happened.

    A forecaster is driven in this order at every step: :meth:`observe` (the window holds the newest samples),
    then :meth:`forecast`. Both see only the past. Contract: :mod:`forestall.testing.forecaster`.
    """

    name: str

    def observe(self, window: Window, now: int) -> None:
        """Learn from the newest step; ``now`` is the start of its interval, seconds."""
        ...

    def forecast(self, window: Window, now: int) -> FloatArray:
        """Quantiles (target, vm, level), non-decreasing over levels; NaN where nothing can be said."""
        ...

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows`` (increasing), which keep their order; between two steps."""
        ...


class TrainedForecaster(Forecaster, Protocol):
    """A forecaster with a model that is trained now and then; it learns from history that is only absorbed too."""

    def train_when_due(self, window: Window, drifts: int = 0) -> bool:
        """Train if it is time; whether another model is in use now.

        ``drifts`` is how often forecasts have become worse for good so far: a reason to train earlier.
        """
        ...


class RuleForecaster:
    r"""A point rule plus the decaying quantiles of its residuals: :math:`Q_p = \hat y + s\,\hat F_r^{-1}(p)`.

    Parameters
    ----------
    rule
        Gives the point forecast.
    targets, levels
        What to forecast, and the quantile levels.
    half_life_steps
        Memory of the residuals.
    trust
        Which VMs borrow residuals from each other.
    relative
        Measure residuals in units of the forecast itself, not of the VM's scale: a VM whose errors grow with its level,
        or one of which little is known yet, is better served by a share than by an amount.
    """

    def __init__(
        self,
        rule: PointRule,
        targets: tuple[Target, ...],
        levels: tuple[float, ...],
        half_life_steps: float,
        trust: TrustGroups | None = None,
        *,
        relative: bool = False,
    ) -> None:
        self.name = f"{rule.name}_share" if relative else rule.name
        self.rule = rule
        self._relative = relative
        self._targets = targets
        self._levels = np.asarray(levels)
        self._residuals = ResidualQuantiles(len(targets), half_life_steps, trust=trust)
        self._issued: list[deque[tuple[Float32Array, Float32Array]]] = [deque(maxlen=t.steps) for t in targets]

    def observe(self, window: Window, now: int) -> None:
        """Count the residuals of the forecasts that are due now."""
        self.rule.observe(window)
        self._residuals.grow(window.vms)
        for i, target in enumerate(self._targets):
            if len(self._issued[i]) == target.steps:
                point, unit = self._issued[i][0]
                self._residuals.update(i, (realised(window, target)[: len(point)] - point) / unit)
        self._residuals.advance()

    def forecast(self, window: Window, now: int) -> FloatArray:
        """Point plus residual quantiles, never below zero."""
        result = self._residuals.quantiles(self._levels)
        for i, target in enumerate(self._targets):
            point = self.rule.point(window, target)
            unit = self._unit(window, point)
            self._issued[i].append((point.astype(np.float32), unit.astype(np.float32)))
            result[i] = point[:, None] + unit[:, None] * result[i]
        return np.maximum(result, 0.0)

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``."""
        self.rule.keep(rows)
        self._residuals.keep(rows)
        self._issued = [
            deque(((retained(point, rows, 0), retained(unit, rows, 0)) for point, unit in issued), issued.maxlen)
            for issued in self._issued
        ]

    def _unit(self, window: Window, point: FloatArray) -> FloatArray:
        if not self._relative:
            return window.scale()
        return np.fmax(np.fmax(point, SMALLEST_SHARE * window.scale()), window.floor)
