"""How long conditions have held without a break, against the longest that they ever held."""

from __future__ import annotations

import numpy as np

from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.profiling.window import retained


class Runs:
    """Runs of conditions, and the longest of each before, which fades.

    Parameters
    ----------
    conditions
        Number of conditions.
    half_life_steps
        Steps after which half a run is forgotten.
    """

    def __init__(self, conditions: int, half_life_steps: float) -> None:
        self._fading = 0.5 ** (1.0 / half_life_steps)
        self.length: FloatArray = np.zeros((conditions, 0))
        self.longest: FloatArray = np.zeros((conditions, 0))

    def step(self, holds: BoolArray, present: BoolArray, gone: BoolArray) -> None:
        """See which conditions (condition, vm) hold; who is not ``present`` (vm,) is passed over until ``gone``."""
        new = holds.shape[1] - self.length.shape[1]
        self.length, self.longest = (np.pad(a, ((0, 0), (0, new))) for a in (self.length, self.longest))
        ended = (present & ~holds) | gone
        self.longest = np.where(ended, np.maximum(self.longest, self.length), self.longest) * self._fading
        self.length = np.where(ended, 0.0, self.length + (holds & present))

    def unheard_of(self, least: FloatArray, times: float) -> BoolArray:
        """Conditions (condition, vm) that hold for ``least`` (condition,) steps, and ``times`` as long as ever."""
        return (self.length >= least[:, None]) & (self.length > times * self.longest)

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``."""
        self.length, self.longest = retained(self.length, rows, 1), retained(self.longest, rows, 1)


class Highest:
    """The highest that each channel ever was, up to a day ago; it fades.

    Parameters
    ----------
    channels
        What is kept of each VM.
    steps_per_day
        Sampling steps in a day.
    half_life_days
        Days after which half of it is forgotten.
    """

    BLOCKS = 24

    def __init__(self, channels: int, steps_per_day: int, half_life_days: float) -> None:
        self._block = max(1, steps_per_day // self.BLOCKS)
        self._fading = 0.5 ** (self._block / (half_life_days * steps_per_day))
        self._recent: FloatArray = np.full((self.BLOCKS + 1, 0, channels), -np.inf)
        self._count = 0
        self.value: FloatArray = np.full((0, channels), -np.inf)

    def step(self, level: FloatArray, present: BoolArray) -> None:
        """See one step: ``level`` (vm, channel) where ``present``."""
        new = len(level) - len(self.value)
        self.value = np.pad(self.value, ((0, new), (0, 0)), constant_values=-np.inf)
        self._recent = np.pad(self._recent, ((0, 0), (0, new), (0, 0)), constant_values=-np.inf)
        place = self._count // self._block % (self.BLOCKS + 1)
        if self._count % self._block == 0:
            self.value = np.maximum(self.value * self._fading, self._recent[place])
            self._recent[place] = -np.inf
        self._recent[place] = np.maximum(self._recent[place], np.where(present, level, -np.inf))
        self._count += 1

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``."""
        self.value, self._recent = retained(self.value, rows, 0), retained(self._recent, rows, 1)
