"""When a model is trained: as the past grows, after so long at the latest, and when forecasts became worse."""

from __future__ import annotations

from dataclasses import dataclass

from forestall.profiling.window import Window

AFTER_DRIFT_SECONDS = 86_400
"""A drift does not hasten a training before the model in use is so old: what comes after it must be learned from."""


@dataclass
class Schedule:
    """Trains when the past has grown by ``growth`` since the last time.

    Attributes
    ----------
    first_seconds, longest_seconds
        Length of the past at the first training, and the longest time between trainings.
    growth
        1: whenever the past has doubled.
    """

    first_seconds: float
    longest_seconds: float
    growth: float = 1.0
    trained_at_step: int = 0
    _drifts: int = 0

    def due(self, window: Window, drifts: int = 0) -> bool:
        """Whether it is time; ``drifts`` is how often losses have risen for good so far."""
        past, last = window.count * window.step_seconds, self.trained_at_step * window.step_seconds
        if not last:
            return past >= self.first_seconds
        if drifts > self._drifts and past >= last + AFTER_DRIFT_SECONDS:
            return True
        return past >= last + min(max(last, self.first_seconds) * self.growth, self.longest_seconds)

    def trained(self, window: Window, drifts: int = 0) -> None:
        """Note that it was done."""
        self.trained_at_step, self._drifts = window.count, drifts
