"""The watch on the loop itself: how late its ticks are, how long they take, how long a VM waits when it wakes up."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

REMEMBERED = 2000
LATE_IN_A_ROW = 3
ON_TIME_AGAIN = 40
"""So many ticks in time until a loop that was late is trusted again."""


@dataclass(frozen=True)
class Timing:
    """How the loop keeps time.

    Attributes
    ----------
    ticks, late
        Ticks so far, and those that were late by more than a beat.
    late_now
        Whether too many were late of late: then nothing is lent.
    tick_ms, decision_ms
        Median and 99 % of a tick's and of a decision's duration, milliseconds; NaN before the first.
    cpu_share
        CPU time of this process over time, since it began.
    """

    ticks: int
    late: int
    late_now: bool
    tick_ms: tuple[float, float]
    decision_ms: tuple[float, float]
    cpu_share: float


class Watch:
    """Keeps count; the caller tells the time.

    Parameters
    ----------
    beat_seconds
        A tick that begins so much too late counts.
    """

    def __init__(self, beat_seconds: float) -> None:
        self._beat_seconds = beat_seconds
        self._ticks, self._late = 0, 0
        self._in_a_row, self._in_time = 0, ON_TIME_AGAIN
        self._durations: deque[float] = deque(maxlen=REMEMBERED)
        self._decisions: deque[float] = deque(maxlen=REMEMBERED)

    def begins(self, late_seconds: float) -> None:
        """A tick begins so much later than it should have."""
        self._ticks += 1
        late = late_seconds > self._beat_seconds
        self._late += late
        self._in_a_row = self._in_a_row + 1 if late else 0
        if self._in_a_row >= LATE_IN_A_ROW:
            self._in_time = 0
        elif not late:
            self._in_time += 1

    def took(self, seconds: float) -> None:
        """A tick took so long."""
        self._durations.append(seconds)

    def decided(self, seconds: float) -> None:
        """A decision took so long."""
        self._decisions.append(seconds)

    @property
    def late_now(self) -> bool:
        """Whether three ticks in a row were late, and not enough in time since."""
        return self._in_time < ON_TIME_AGAIN

    def timing(self, cpu_share: float) -> Timing:
        """How it went so far."""
        return Timing(
            self._ticks, self._late, self.late_now, _quantiles(self._durations), _quantiles(self._decisions), cpu_share
        )


def _quantiles(seconds: deque[float]) -> tuple[float, float]:
    if not seconds:
        return float("nan"), float("nan")
    middle, high = np.quantile(np.fromiter(seconds, float), (0.5, 0.99)) * 1000
    return float(middle), float(high)
