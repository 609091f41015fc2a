"""A clock that runs faster than the host's, for guests whose days are short: the lab's last ten minutes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from forestall.ports.clock import Clock

DAY_SECONDS, WEEK_SECONDS = 86_400, 7 * 86_400
FIRST_MONDAY = 4 * DAY_SECONDS
"""Midnight of 5 January 1970, UTC."""


@dataclass(frozen=True)
class TimeLapse:
    """A :class:`~forestall.ports.clock.Clock` on which ``pace`` seconds pass in one of the host's.

    Attributes
    ----------
    clock
        The host's.
    pace
        How many times faster it runs.
    midnight_at
        Instant of the host's clock that is a Monday's midnight on this one: the one of the host's week.

    Examples
    --------
    >>> from forestall.adapters.clock.virtual import VirtualClock
    >>> host = VirtualClock(FIRST_MONDAY + 1000.0)
    >>> lapse = TimeLapse(host, pace=144.0, midnight_at=FIRST_MONDAY + 700.0)
    >>> (lapse.now() - FIRST_MONDAY) / 3600
    12.0
    """

    clock: Clock
    pace: float
    midnight_at: float

    def now(self) -> float:
        """Seconds since the epoch as the guests count them."""
        return self.instant(self.clock.now())

    def instant(self, at: float) -> float:
        """What the guests call an instant of the host's clock."""
        return self._monday + (at - self.midnight_at) * self.pace

    def monotonic(self) -> float:
        """Seconds that never go back; as many more of them as time is faster."""
        return self.clock.monotonic() * self.pace

    def sleep_until(self, instant: float) -> None:
        """Return when :meth:`now` has reached ``instant``."""
        at = self.midnight_at + (instant - self._monday) / self.pace
        while self.instant(at) < instant:  # rounded down
            at = math.nextafter(at, math.inf)
        self.clock.sleep_until(at)

    @property
    def _monday(self) -> float:
        return FIRST_MONDAY + (self.midnight_at - FIRST_MONDAY) // WEEK_SECONDS * WEEK_SECONDS


@dataclass(frozen=True)
class Dated:
    """The host's clock with the dates of another: what happens is dated by the guests' time, and lasts as it does.

    Counters of a hypervisor count in the host's seconds, whatever time the guests live in.
    """

    clock: Clock
    dates: Clock

    @property
    def pace(self) -> float:
        """That of the host's clock."""
        return self.clock.pace

    def now(self) -> float:
        """Seconds since the epoch, by the dates."""
        return self.dates.now()

    def monotonic(self) -> float:
        """Seconds of the host's clock."""
        return self.clock.monotonic()

    def sleep_until(self, instant: float) -> None:
        """Return when :meth:`now` has reached ``instant``."""
        self.dates.sleep_until(instant)
