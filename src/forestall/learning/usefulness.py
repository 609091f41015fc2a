"""For which VMs a costly expert is not worth its cost: it is not run for them for a while, then tried again."""

from __future__ import annotations

import numpy as np

from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.profiling.window import retained

LEAST_TRUST = 0.05
UNHELPFUL_HOURS, RESTING_HOURS = 24, 72


class Usefulness:
    """Counts, hour by hour, for which VMs an expert is hardly trusted.

    An expert whose weight has been under :data:`LEAST_TRUST` at every target for a day rests for three days;
    then it is tried for a day again.
    """

    def __init__(self) -> None:
        self._unhelpful: IntArray = np.zeros(0, np.int64)
        self._resting: IntArray = np.zeros(0, np.int64)

    def step(self, trust: FloatArray) -> BoolArray:
        """One hour on: ``trust`` (vm,) is the highest weight of the expert's targets; for which VMs (vm,) it rests."""
        new = len(trust) - len(self._unhelpful)
        self._unhelpful, self._resting = np.pad(self._unhelpful, (0, new)), np.pad(self._resting, (0, new))
        rested = self._resting > 0
        self._resting = np.maximum(self._resting - 1, 0)
        self._unhelpful = np.where(rested | (trust >= LEAST_TRUST), 0, self._unhelpful + 1)
        tired = self._unhelpful >= UNHELPFUL_HOURS
        self._resting = np.where(tired, RESTING_HOURS, self._resting)
        return np.asarray(self._resting > 0)

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``."""
        self._unhelpful, self._resting = retained(self._unhelpful, rows, 0), retained(self._resting, rows, 0)
