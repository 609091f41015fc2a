"""A forecaster is a point rule with the quantiles of its own residuals."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np

from forestall.learning.residuals import ResidualQuantiles
from forestall.learning.rules import PointRule
from forestall.learning.window import Window, highest
from forestall.model.forecast import Statistic, Target
from forestall.model.samples import FloatArray


def realised(window: Window, target: Target) -> FloatArray:
    """What ``target``, forecast ``target.steps`` ago, turned out to be (vm,); NaN where nothing was seen."""
    if target.statistic is Statistic.MEAN:
        return window.at_lag(0).astype(np.float64)
    return highest([window.at_lag(lag) for lag in range(target.steps)]).astype(np.float64)


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
    """

    def __init__(
        self,
        rule: PointRule,
        targets: tuple[Target, ...],
        levels: tuple[float, ...],
        half_life_steps: float,
    ) -> None:
        self.name = rule.name
        self.rule = rule
        self._targets = targets
        self._levels = np.asarray(levels)
        self._residuals = ResidualQuantiles(len(targets), half_life_steps)
        self._issued: list[deque[FloatArray]] = [deque(maxlen=t.steps) for t in targets]

    def observe(self, window: Window, now: int) -> None:
        """Count the residuals of the forecasts that are due now."""
        self.rule.observe(window)
        self._residuals.grow(window.vms)
        scale = window.scale()
        for i, target in enumerate(self._targets):
            if len(self._issued[i]) == target.steps:
                point = self._issued[i][0]
                error = realised(window, target)[: len(point)] - point
                self._residuals.update(i, error / scale[: len(point)])
        self._residuals.advance()

    def forecast(self, window: Window, now: int) -> FloatArray:
        """Point plus scaled residual quantiles, never below zero."""
        result = window.scale()[:, None] * self._residuals.quantiles(self._levels)
        for i, target in enumerate(self._targets):
            point = self.rule.point(window, target)
            self._issued[i].append(point)
            result[i] += point[:, None]
        return np.maximum(result, 0.0)
