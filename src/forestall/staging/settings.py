"""Settings of the decision core that stages what is accessed."""

from __future__ import annotations

from dataclasses import dataclass

from forestall.model.errors import WrongUse

THRESHOLDS = (0.03, 0.07, 0.15, 0.25, 0.4, 0.6)
NEVER = 2.0
"""A threshold that no probability reaches."""
MOST_REACH = 63
"""Steps further on have no bin (learning/access/evidence)."""
LEAST_SPARE = 1 << 10
SLOTS_AN_ITEM = 8
"""A thing that is on no shelf must be found when another needs its slot."""


@dataclass(frozen=True)
class StagingSettings:
    """How accesses are staged.

    Attributes
    ----------
    cache_items
        What the cache holds.
    delay
        What is asked for is there after so many more accesses.
    threshold
        Stage what is used with more than this probability, and nothing while that does not pay; None: whatever has
        cost least of late.
    waste_cost
        Cost of an item that was staged and let go unused; a miss costs 1.
    stage_cost
        Cost of staging an item, whatever comes of it: where reading it keeps others waiting.
    memory_accesses, inertia
        Costs fade over so many accesses; another threshold is taken when it costs less by this share.
    keep
        What is staged and not used within so many accesses goes again; None: only when it has to make room.
    reach
        So many accesses after an earlier place like the present are looked at, and steps of a run ahead.
    horizon
        An item that is not used within so many accesses of its arrival was not needed.
    history
        Accesses that are remembered; a power of two.
    least_slots
        So many items are known at a time, or more for a large cache.
    streams
        Streams that are told apart; more share their places.
    """

    cache_items: int
    delay: int = 0
    threshold: float | None = None
    waste_cost: float = 0.01
    stage_cost: float = 0.0
    memory_accesses: int = 20_000
    inertia: float = 0.02
    keep: int | None = None
    reach: int = 16
    horizon: int = 64
    history: int = 1 << 20
    least_slots: int = 1 << 19
    streams: int = 1024

    def __post_init__(self) -> None:
        if self.cache_items < 1:
            raise WrongUse(f"a cache of {self.cache_items} items: must be at least 1")
        if self.delay < 0:
            raise WrongUse(f"an arrival delay of {self.delay} accesses: must not be negative")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise WrongUse(f"a threshold of {self.threshold:g}: must be between 0 and 1")
        if self.history < 2 or self.history & (self.history - 1):
            raise WrongUse(f"a history of {self.history} accesses: must be a power of two")
        if not 1 <= self.reach <= MOST_REACH:
            raise WrongUse(f"a reach of {self.reach} steps: must be from 1 to {MOST_REACH}")
        if self.keep is not None and self.keep < 1:
            raise WrongUse(f"staged for {self.keep} accesses: must be at least 1")
        if self.streams < 1:
            raise WrongUse(f"{self.streams} streams: must be at least 1")

    @property
    def thresholds(self) -> tuple[float, ...]:
        """What is tried side by side, the last of them staging nothing."""
        return (*(THRESHOLDS if self.threshold is None else (self.threshold,)), NEVER)

    @property
    def slots(self) -> int:
        """How many items are known at a time."""
        return max(self.least_slots, SLOTS_AN_ITEM * self.cache_items + LEAST_SPARE)
