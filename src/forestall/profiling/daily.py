"""What the time of day explains: a mean for each half hour, trusted as far as it has explained the past."""

from __future__ import annotations

import numpy as np

from forestall.model.samples import BoolArray, Float32Array, FloatArray, IntArray
from forestall.profiling.window import retained

BINS = 48
DAY_SECONDS = 86_400
MEMORY_DAYS = 30.0


class DailyProfile:
    """Profiles of the day.

    Parameters
    ----------
    channels
        What is profiled of each VM.
    memory_steps
        Steps over which means and errors forget.
    """

    def __init__(self, channels: int, memory_steps: float) -> None:
        self._memory = memory_steps
        self._mean: FloatArray = np.zeros((0, channels))
        self._seen: IntArray = np.zeros((0, channels), np.int64)
        self._compared: IntArray = np.zeros((0, channels), np.int64)
        self._errors: FloatArray = np.zeros((2, 0, channels))
        self._profile: Float32Array = np.zeros((BINS, 0, channels), np.float32)
        self._weight: Float32Array = np.zeros((BINS, 0, channels), np.float32)
        self._last_bin: IntArray = np.zeros(0, np.int64)

    def step(self, values: FloatArray, present: BoolArray, now: int | IntArray) -> tuple[FloatArray, FloatArray]:
        """What is usual at this time, and by how much ``values`` differ; arrays (vm, channel).

        ``values`` counts only where ``present``; ``now`` in seconds, of all or of each VM.
        """
        self._grow(len(values))
        here = np.broadcast_to(np.asarray(now) % DAY_SECONDS * BINS // DAY_SECONDS, len(values))
        place = here, np.arange(len(values))
        self._weight[place] *= np.where(here != self._last_bin, 1.0 - 1.0 / MEMORY_DAYS, 1.0)[:, None]
        self._last_bin = here
        profile, weight = self._profile[place].astype(np.float64), self._weight[place].astype(np.float64)
        known = weight >= 1.0
        explained = 1.0 - self._errors[1] / np.maximum(self._errors[0], 1e-30)
        trust = np.where(known & (self._errors[0] > 0), np.clip(explained, 0.0, 1.0), 0.0)
        # Nothing is known before the first sample: it is what is usual, not a surprise.
        before = np.where(self._seen > 0, self._mean, values)
        usual = before + trust * (profile - before)
        self._learn_errors(values, known & present, profile)
        self._seen += present
        self._mean += _rate(present, self._seen, self._memory) * (values - self._mean)
        self._profile[place] = profile + np.where(present, (values - profile) / (weight + 1.0), 0.0)
        self._weight[place] = weight + present
        return usual, np.where(present, values - usual, 0.0)

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``."""
        self._mean, self._seen = retained(self._mean, rows, 0), retained(self._seen, rows, 0)
        self._compared = retained(self._compared, rows, 0)
        self._errors, self._last_bin = retained(self._errors, rows, 1), retained(self._last_bin, rows, 0)
        self._profile, self._weight = retained(self._profile, rows, 1), retained(self._weight, rows, 1)

    def _grow(self, vms: int) -> None:
        new = vms - len(self._mean)
        if new > 0:
            self._mean = np.pad(self._mean, ((0, new), (0, 0)))
            self._seen = np.pad(self._seen, ((0, new), (0, 0)))
            self._compared = np.pad(self._compared, ((0, new), (0, 0)))
            self._last_bin = np.pad(self._last_bin, (0, new), constant_values=-1)
            wide = ((0, 0), (0, new), (0, 0))
            self._errors = np.pad(self._errors, wide)
            self._profile = np.pad(self._profile, wide)
            self._weight = np.pad(self._weight, wide)

    def _learn_errors(self, values: FloatArray, present: BoolArray, profile: FloatArray) -> None:
        """Squared errors of the mean, and of the profile, where there is one."""
        self._compared += present
        rate = _rate(present, self._compared, self._memory)
        for k, guess in enumerate((self._mean, profile)):
            error = values - guess
            self._errors[k] += rate * (error * error - self._errors[k])


def _rate(present: BoolArray, count: IntArray, memory: float) -> FloatArray:
    return np.where(present, np.maximum(1.0 / memory, 1.0 / np.maximum(count, 1)), 0.0)
