"""The one clock."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Tells the time and lets it pass; virtual in replays and tests."""

    @property
    def pace(self) -> float:
        """How many of its seconds pass in one of the host's; 1 but for a time lapse.

        What a person, a socket or a process waits for is counted in the host's seconds.
        """
        ...

    def now(self) -> float:
        """Seconds since the epoch, UTC. May jump when the host's clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary instant; never goes back."""
        ...

    def sleep_until(self, instant: float) -> None:
        """Return when :meth:`now` has reached ``instant``; at once if it already has."""
        ...
