"""Whether forecasts have become worse for good: then models are trained anew before it is their turn.

The loss of the combined forecast, over what is usual for each VM and averaged over the fleet, goes through ADWIN, which
keeps a window that it cuts wherever two parts of it differ by more than chance allows.

Source: Bifet & Gavaldà, "Learning from Time-Changing Data with Adaptive Windowing", SDM 2007; implementation: river.
"""

from __future__ import annotations

import numpy as np
from river.drift import ADWIN

from forestall.model.samples import FloatArray

CONFIDENCE = 1e-3
MOST_LOSS = 20.0


class Drift:
    """Watches the losses of one resource.

    Attributes
    ----------
    count
        How often losses have risen for good so far.
    """

    def __init__(self) -> None:
        self._windows = ADWIN(delta=CONFIDENCE)  # type: ignore[no-untyped-call]
        self.count = 0

    def update(self, loss: FloatArray) -> bool:
        """See the losses (vm,) of one step, in units of what is usual for each VM; whether they have risen for good."""
        known = loss[np.isfinite(loss)]
        if not len(known):
            return False
        value = float(np.minimum(known, MOST_LOSS).mean())
        before = self._windows.estimation
        self._windows.update(value)  # type: ignore[no-untyped-call]
        risen = bool(self._windows.drift_detected) and self._windows.estimation > before
        self.count += risen
        return risen
