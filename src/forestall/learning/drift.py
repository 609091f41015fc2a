"""Whether forecasts have become worse for good: then models are trained anew before it is their turn.

The loss of the combined forecast, over what is usual for each VM and averaged over the fleet, goes through ADWIN, which
keeps a window that it cuts wherever two parts of it differ by more than chance allows.

Source: Bifet & Gavaldà, "Learning from Time-Changing Data with Adaptive Windowing", SDM 2007; implementation: river.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from forestall.model.samples import FloatArray

CONFIDENCE = 1e-3
MOST_LOSS = 20.0


class Drift:
    """Watches the losses of one resource, in means of an hour: one bad hour is no drift.

    Parameters
    ----------
    hour
        Steps in an hour.

    Attributes
    ----------
    count
        How often losses have risen for good so far.
    """

    def __init__(self, hour: int) -> None:
        self._windows: Any = None
        self._hour = hour
        self._losses: list[float] = []
        self.count = 0

    def update(self, loss: FloatArray) -> bool:
        """See the losses (vm,) of one step, in units of what is usual for each VM; whether they have risen for good."""
        known = loss[np.isfinite(loss)]
        if len(known):
            self._losses.append(float(np.minimum(known, MOST_LOSS).mean()))
        if len(self._losses) < self._hour:
            return False
        if self._windows is None:
            # Imported with the first hour: a daemon starts half a second sooner.
            from river.drift import ADWIN

            self._windows = ADWIN(delta=CONFIDENCE, clock=1)  # type: ignore[no-untyped-call]
        before = self._windows.estimation
        self._windows.update(float(np.mean(self._losses)))
        self._losses.clear()
        risen = bool(self._windows.drift_detected) and self._windows.estimation > before
        self.count += risen
        return risen
