"""A clock whose time passes at once, for replays and tests."""

from __future__ import annotations


class VirtualClock:
    """A :class:`~forestall.ports.clock.Clock` that stands still unless it is moved.

    Parameters
    ----------
    start
        First instant, seconds since the epoch.
    """

    pace = 1.0

    def __init__(self, start: float = 0.0) -> None:
        self._now = float(start)
        self._passed = 0.0

    def now(self) -> float:
        """Current virtual instant, seconds."""
        return self._now

    def monotonic(self) -> float:
        """Seconds that have passed; not touched by :meth:`set`."""
        return self._passed

    def sleep_until(self, instant: float) -> None:
        """Move to ``instant`` at once; do nothing if it is past."""
        if instant > self._now:
            self._passed += instant - self._now
            self._now = float(instant)

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` (>= 0) pass."""
        if not seconds >= 0:
            raise ValueError(f"time does not go back, but {seconds} s were to pass")
        self.sleep_until(self._now + seconds)

    def set(self, instant: float) -> None:
        """Set the wall clock, forward or back, as an administrator would; no time passes."""
        self._now = float(instant)
