"""The recent past of every VM in one resource: a ring of samples shared by all forecasters.

Arrays are time-major ``(time, vm)``, so that a reduction over time runs along whole rows. Samples are kept as
float32: a VM costs 4 bytes a sample, 8 kB for a week at 5 minutes; twice or three times that where steps are so short
that a horizon has 32 of them or 512 (:meth:`Window.highest_between`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from forestall.model.samples import Float32Array, FloatArray, IntArray

Kind = TypeVar("Kind", bound=np.generic)

DAY_SECONDS = 86_400
HOUR_SECONDS = 3_600
MAX_SAMPLES = 4_032
RADIX = 16


def grown(array: NDArray[np.generic], size: int, axis: int, fill: float) -> NDArray[np.generic]:
    """Return ``array`` with at least ``size`` places along ``axis``, new ones set to ``fill``.

    Capacity doubles, so that a fleet that grows one VM at a time is copied a logarithmic number of times.
    """
    have = array.shape[axis]
    if have >= size:
        return array
    shape = list(array.shape)
    shape[axis] = max(size, 2 * have) - have
    return np.concatenate([array, np.full(shape, fill, dtype=array.dtype)], axis=axis)


def retained(array: NDArray[Kind], rows: IntArray, axis: int) -> NDArray[Kind]:
    """Return what ``array`` has along ``axis`` of the VMs ``rows``, which increase.

    An array that was made when there were fewer VMs ends before those that came later, and does so again.
    """
    part: NDArray[Kind] = array.take(rows[rows < array.shape[axis]], axis=axis)
    return part


def left_behind(array: NDArray[Kind], rows: IntArray, axis: int) -> FloatArray:
    """Sum along ``axis`` over the VMs that are not in ``rows``."""
    others = np.delete(array, rows[rows < array.shape[axis]], axis=axis)
    return np.asarray(others.sum(axis=axis, dtype=np.float64))


def highest(rows: Sequence[Float32Array] | Float32Array) -> Float32Array:
    """Highest value of each column over ``rows`` (row, vm), NaN left out; NaN where there is nothing else."""
    result: Float32Array = np.fmax.reduce(rows, axis=0)
    return result


class Window:
    """Ring of the last week of samples (less when steps are short), with statistics by the hour.

    Parameters
    ----------
    step_seconds
        Sampling step.
    floor
        Demand below which differences do not matter, in the resource's unit; keeps scales above zero.

    Attributes
    ----------
    vms
        Number of VMs, axis 1.
    count
        Steps pushed so far.
    day, hour
        Steps in a day and in an hour (at least 1).
    """

    def __init__(self, step_seconds: int, floor: float) -> None:
        self.step_seconds = step_seconds
        self.floor = floor
        self.day = max(1, round(DAY_SECONDS / step_seconds))
        self.hour = max(1, round(HOUR_SECONDS / step_seconds))
        self.capacity = int(np.clip(7 * self.day, 48, MAX_SAMPLES))
        self.blocks = -(-self.capacity // self.hour)
        self.vms = 0
        self.count = 0
        # At each level, where a step has its slot: the highest of the RADIX ** level samples that end there.
        self._levels: list[Float32Array] = [np.full((self.capacity, 0), np.nan, np.float32)]
        self._block_max: Float32Array = np.full((self.blocks, 0), np.nan, np.float32)
        self._block_sums: FloatArray = np.zeros((3, self.blocks, 0))
        self._last: FloatArray = np.zeros(0)
        self._age = np.zeros(0, np.int64)
        self._seen = np.zeros(0, np.int64)
        self._limit: FloatArray = np.zeros(0)
        self._moments: dict[int, tuple[FloatArray, FloatArray]] = {}
        self._scale: FloatArray | None = None

    def push(self, demand: FloatArray, limit: FloatArray) -> None:
        """Append one step: demand (vm,) with NaN for gaps, limit (vm,). More VMs than before are new ones."""
        self._grow(len(demand))
        n, slot = self.vms, self.count % self.capacity
        block = (self.count // self.hour) % self.blocks
        if self.count % self.hour == 0:
            self._block_max[block, :] = np.nan
            self._block_sums[:, block, :] = 0.0
        present = ~np.isnan(demand)
        filled = np.where(present, demand, 0.0)
        self._samples[slot, :n] = demand
        for level in range(1, len(self._levels)):
            self._levels[level][slot] = highest(self._levels[level - 1][self._spread(slot, level)])
        self._block_max[block, :n] = np.fmax(self._block_max[block, :n], demand)
        self._block_sums[:, block, :n] += (present, filled, filled * filled)
        # New arrays, not changed in place: what was given out at an earlier step stays as it was.
        self._last = np.where(present, demand, self._last)
        self._age = np.where(present, 0, self._age + 1)
        self._seen = self._seen + present
        self._limit = np.array(limit, dtype=np.float64)
        self.count += 1
        self._forget_statistics()

    def _grow(self, vms: int) -> None:
        self._levels = [grown(level, vms, 1, np.nan) for level in self._levels]  # type: ignore[misc]
        self._block_max = grown(self._block_max, vms, 1, np.nan)  # type: ignore[assignment]
        self._block_sums = grown(self._block_sums, vms, 2, 0.0)  # type: ignore[assignment]
        new = vms - self.vms
        self._last = np.pad(self._last, (0, new), constant_values=np.nan)
        self._age = np.pad(self._age, (0, new))
        self._seen = np.pad(self._seen, (0, new))
        self.vms = vms

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows`` (increasing), which keep their order."""
        self._levels = [retained(level, rows, 1) for level in self._levels]
        self._block_max = retained(self._block_max, rows, 1)
        self._block_sums = retained(self._block_sums, rows, 2)
        self._last, self._age = retained(self._last, rows, 0), retained(self._age, rows, 0)
        self._seen, self._limit = retained(self._seen, rows, 0), retained(self._limit, rows, 0)
        self.vms = len(self._last)
        self._forget_statistics()

    def _forget_statistics(self) -> None:
        self._moments.clear()
        self._scale = None

    @property
    def _samples(self) -> Float32Array:
        return self._levels[0]

    def _spread(self, slot: int | IntArray, level: int) -> IntArray:
        """Slots (RADIX, ...) of the level below, which together cover what ``slot`` covers at ``level``."""
        return np.stack([(slot - k * RADIX ** (level - 1)) % self.capacity for k in range(RADIX)])

    @property
    def last(self) -> FloatArray:
        """Last sample (vm,), however old; NaN for a VM without any."""
        return self._last

    @property
    def age(self) -> NDArray[np.int64]:
        """Steps (vm,) since the last sample; 0 when the newest step has one."""
        return self._age

    @property
    def seen(self) -> NDArray[np.int64]:
        """Samples (vm,) pushed so far."""
        return self._seen

    @property
    def limit(self) -> FloatArray:
        """Limit (vm,) as last known; inf without one, NaN when never known."""
        return self._limit

    def at_lag(self, lag: int) -> Float32Array:
        """Samples (vm,) of ``lag`` steps ago (0: the newest); NaN beyond the ring or in a gap."""
        if not 0 <= lag < min(self.count, self.capacity):
            return np.full(self.vms, np.nan, np.float32)
        return self._samples[(self.count - 1 - lag) % self.capacity, : self.vms]

    def at_lags(self, lags: IntArray) -> Float32Array:
        """Samples (lag, vm) of ``lags`` (lag,), as :meth:`at_lag` gives each."""
        rows = self._samples[(self.count - 1 - lags) % self.capacity, : self.vms]
        rows[(lags < 0) | (lags >= min(self.count, self.capacity))] = np.nan
        return rows

    def lagged(self, lags: NDArray[np.int64]) -> Float32Array:
        """Samples (..., vm) of lags (..., vm) that differ between VMs; NaN beyond the ring or in a gap."""
        return self.sample(lags, np.arange(self.vms))

    def sample(self, lags: IntArray, vms: IntArray) -> Float32Array:
        """Samples of ``lags`` steps ago of the VMs at ``vms``, both (...,); NaN beyond the ring or in a gap."""
        values = self._samples[(self.count - 1 - lags) % self.capacity, vms]
        return np.where((lags >= 0) & (lags < min(self.count, self.capacity)), values, np.float32(np.nan))

    def highest_between(self, nearest: IntArray, furthest: IntArray) -> Float32Array:
        """Highest sample (..., vm) of the lags from ``nearest`` to ``furthest``, both (..., vm) and included.

        Gaps and what is beyond the ring are left out; NaN where nothing else is. Long stretches are put together from
        maxima of 16, 256 ... steps, kept from the first time that they are of use.
        """
        start = np.maximum(nearest, 0)
        left = np.minimum(furthest, min(self.count, self.capacity) - 1) + 1 - start
        while left.max(initial=0) >= 2 * RADIX ** len(self._levels):
            below, slots = self._levels[-1], self._spread(np.arange(self.capacity), len(self._levels))
            self._levels.append(reduce(np.fmax, (below[part] for part in slots)))
        result = np.full(start.shape, np.nan, np.float32)
        columns = np.arange(self.vms)
        for level in reversed(range(len(self._levels))):
            span = RADIX**level
            while (fits := left >= span).any():
                values = self._levels[level][(self.count - 1 - start) % self.capacity, columns]
                result = np.where(fits, np.fmax(result, values), result)
                start, left = start + span * fits, left - span * fits
        return result

    def tail(self, steps: int) -> Float32Array:
        """The last ``steps`` samples (time, vm), oldest first; fewer when there are fewer."""
        steps = min(steps, self.count, self.capacity)
        end = (self.count - 1) % self.capacity + 1
        if steps <= end:
            return self._samples[end - steps : end, : self.vms]
        return np.concatenate([self._samples[end - steps :, : self.vms], self._samples[:end, : self.vms]], axis=0)

    def _recent_blocks(self, hours: int) -> NDArray[np.int64]:
        newest = (self.count - 1) // self.hour
        return np.arange(max(newest - hours + 1, 0), newest + 1) % self.blocks

    def moments(self, hours: int) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation (vm,) over about the last ``hours`` whole hours; NaN without samples."""
        if hours not in self._moments:
            chosen = self._recent_blocks(min(hours, self.blocks))
            count, total, squares = self._block_sums[:, chosen, : self.vms].sum(axis=1)
            weight = np.where(count > 0, count, np.nan)
            mean = total / weight
            self._moments[hours] = mean, np.sqrt(np.maximum(squares / weight - mean * mean, 0.0))
        return self._moments[hours]

    def peak(self, hours: int) -> Float32Array:
        """Highest sample (vm,) over about the last ``hours`` whole hours; NaN without samples."""
        return highest(self._block_max[self._recent_blocks(min(hours, self.blocks)), : self.vms])

    def scale(self) -> FloatArray:
        """What is a large difference for each VM (vm,): mean plus standard deviation over the week."""
        if self._scale is None:
            mean, deviation = self.moments(self.blocks)
            self._scale = np.fmax(mean + deviation, self.floor)
        return self._scale
