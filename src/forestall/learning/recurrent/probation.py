"""A model that took over runs beside the one before it for a while, and makes way again if it loses."""

from __future__ import annotations

from collections import deque

import numpy as np

from forestall.learning.recurrent.engine import Engine
from forestall.model.forecast import Statistic, Target
from forestall.model.samples import Float32Array, FloatArray, IntArray
from forestall.profiling.window import Window, retained

MARGIN = 0.01
"""How much worse (relative) the new one may be: the difference of a day is uncertain."""


class Probation:
    """Losses of a model and of the one before it, on what neither was trained on.

    Parameters
    ----------
    before, after
        The models; both are stepped by their owner.
    steps
        How many steps it lasts.
    """

    def __init__(self, before: Engine, after: Engine, steps: int) -> None:
        self.before, self._after = before, after
        self._left = steps
        self._losses = np.zeros(2)
        common = [t for t in after.targets if t in before.targets]
        means = [t for t in common if t.statistic is Statistic.MEAN]
        self._target: Target | None = min(means, key=lambda t: t.steps) if means else None
        self._issued: deque[tuple[Float32Array, Float32Array, FloatArray, FloatArray]] = deque(
            maxlen=self._target.steps if self._target else 1
        )

    def step(self, window: Window) -> bool | None:
        """Take note of the newest step, which both have seen; whether the new one stays, None while that is open."""
        if self._target is None:
            return True
        if len(self._issued) == self._target.steps:
            self._score(window)
        quantiles = [self._own(engine) for engine in (self._after, self.before)]
        if quantiles[0] is not None and quantiles[1] is not None:
            self._issued.append((quantiles[0], quantiles[1], window.last, window.scale()))
        self._left -= 1
        if self._left > 0:
            return None
        new, old = self._losses
        return bool(new <= (1.0 + MARGIN) * old)

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``."""
        self.before.keep(rows)
        self._issued = deque(
            (
                (retained(a, rows, 0), retained(b, rows, 0), retained(last, rows, 0), retained(scale, rows, 0))
                for a, b, last, scale in self._issued
            ),
            self._issued.maxlen,
        )

    def _own(self, engine: Engine) -> Float32Array | None:
        if engine.quantiles is None or self._target is None:
            return None
        own: Float32Array = engine.quantiles[engine.targets.index(self._target)]
        return own

    def _score(self, window: Window) -> None:
        *both, last, scale = self._issued[0]
        outcome = np.minimum(window.at_lag(0), np.where(np.isnan(window.limit), np.inf, window.limit))[: len(last)]
        relative = (outcome - last) / scale
        levels = np.asarray(self._after.model.about.levels)
        for k, quantiles in enumerate(both):
            error = relative[:, None] - quantiles
            loss = np.maximum(levels * error, (levels - 1.0) * error) / np.sqrt(levels * (1.0 - levels))
            self._losses[k] += np.nansum(loss * scale[:, None])
