"""How many people use each VM, where that is told."""

from __future__ import annotations

import numpy as np

from forestall.model.samples import FloatArray, IntArray
from forestall.profiling.window import retained

ACTIVE = 2
MOST_LOG = 4.0


class Activity:
    """Users of each VM now, and how many are usual.

    Parameters
    ----------
    day
        Steps in a day, over about which the usual is a mean.
    """

    def __init__(self, day: int) -> None:
        self._day = day
        self._now: FloatArray = np.zeros(0)
        self._usual: FloatArray = np.zeros(0)
        self._seen: FloatArray = np.zeros(0)

    def observe(self, users: FloatArray) -> None:
        """See how many people use each VM (vm,) in the newest interval; NaN: nobody told."""
        new = len(users) - len(self._now)
        self._now, self._usual = np.pad(self._now, (0, new)), np.pad(self._usual, (0, new))
        self._seen = np.pad(self._seen, (0, new))
        known = np.isfinite(users)
        self._seen += known
        logarithm = np.log1p(np.maximum(np.nan_to_num(users), 0.0))
        rate = np.where(known, 1.0 / np.clip(self._seen, 1.0, self._day), 0.0)
        self._usual += rate * (logarithm - self._usual)
        self._now = np.where(known, logarithm, self._now)

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows`` (increasing), which keep their order."""
        self._now, self._usual, self._seen = (retained(a, rows, 0) for a in (self._now, self._usual, self._seen))

    def figures(self, vms: int) -> FloatArray:
        """Logarithm of the users now, and over what is usual, as bounded figures (figure, vm); 0 where nobody told."""
        result = np.zeros((ACTIVE, vms))
        told = np.stack([self._now / 2.0, self._now - self._usual])
        result[:, : told.shape[1]] = np.clip(told, -MOST_LOG, MOST_LOG)
        return result
