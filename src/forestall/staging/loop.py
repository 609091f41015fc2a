"""The staging loop over accesses, as an object: values in, values out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.staging.core import ACTIVE, Asked, Core, holds, lose, take_in
from forestall.staging.settings import StagingSettings
from forestall.staging.shelves import ACCESSES, HITS, MISSES, REAL, STAGED, WASTED

ROOM = 1 << 18


class Staged(NamedTuple):
    """What was asked for; arrays (request,) as in :class:`~forestall.staging.core.Asked`."""

    access: IntArray
    space: NDArray[np.int32]
    number: IntArray
    probability: FloatArray


class StagingCounts(NamedTuple):
    """What became of it so far: staged items that were used, staged, let go unused; accesses that missed, accesses."""

    hits: int
    staged: int
    wasted: int
    misses: int
    accesses: int


class StagingLoop:
    """Stages what is accessed, for one cache.

    Parameters
    ----------
    settings
        How.
    """

    def __init__(self, settings: StagingSettings) -> None:
        self.settings = settings
        self._core = Core.of(settings)
        self._asked = Asked.room(ROOM)

    def warm_up(self) -> None:
        """Compile what runs for every access, if nobody has yet; it takes some seconds."""
        nothing = self._nothing()
        take_in(self._core, nothing.space, nothing.space, nothing.number, self._asked)
        self.lose(nothing.space, nothing.number)
        self.holds(nothing.space, nothing.number)

    def take_in(self, stream: NDArray[np.int32], space: NDArray[np.int32], number: IntArray) -> Staged:
        """Take in accesses in their order.

        Parameters
        ----------
        stream, space
            Arrays (access,): stream and space of numbers of each, from 0.
        number
            Array (access,): what is used, within its space.
        """
        stream, space = (np.require(names, np.int32, ("C", "W")) for names in (stream, space))  # one compiled form
        number = np.require(number, np.int64, ("C", "W"))
        parts, done = [], 0
        while done < len(number):
            count = take_in(self._core, stream[done:], space[done:], number[done:], self._asked)
            filled = slice(0, int(self._asked.total[0]))
            asked = self._asked
            parts.append(
                Staged(
                    asked.access[filled] + done, asked.space[filled].copy(), asked.number[filled].copy(),
                    asked.probability[filled].copy(),
                )
            )  # fmt: skip
            done += count
        return Staged(*map(np.concatenate, zip(*parts, strict=True))) if parts else self._nothing()

    def held(self) -> tuple[NDArray[np.int32], IntArray]:
        """What is believed to be in the cache; arrays (item,): space and number."""
        known = self._core.items
        (slots,) = np.nonzero((self._core.shelves.on >> REAL) & 1)
        return known.space[slots], known.number[slots]

    def holds(self, space: NDArray[np.int32], number: IntArray) -> BoolArray:
        """Which of these items (item,) are believed to be in the cache; array (item,)."""
        found = np.zeros(len(number), np.bool_)
        space, number = np.require(space, np.int32, ("C", "W")), np.require(number, np.int64, ("C", "W"))
        holds(self._core, space, number, found)
        return found

    def lose(self, space: NDArray[np.int32], number: IntArray) -> None:
        """Take note that items (item,) are not in the cache any more: others took their place, or let them go."""
        lose(self._core, np.require(space, np.int32, ("C", "W")), np.require(number, np.int64, ("C", "W")))

    @staticmethod
    def _nothing() -> Staged:
        return Staged(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0))

    @property
    def counts(self) -> StagingCounts:
        """What became of what was staged."""
        counts = self._core.shelves.counts
        return StagingCounts(*(int(counts[k]) for k in (HITS, STAGED, WASTED, MISSES, ACCESSES)))

    @property
    def threshold(self) -> float:
        """The threshold in force; above 1 nothing is staged."""
        return float(self._core.thresholds[self._core.at[ACTIVE]])

    @property
    def costs(self) -> dict[float, float]:
        """What each threshold would have cost of late, by itself: misses, and a little for what is staged in vain."""
        core = self._core
        return dict(zip(map(float, core.thresholds), map(float, core.shelves.cost[1:]), strict=True))

    @property
    def memory_bytes(self) -> int:
        """Size of all that is known; it does not grow."""
        parts = (part if isinstance(part, tuple) else (part,) for part in self._core)
        return sum(array.nbytes for part in parts for array in part)
