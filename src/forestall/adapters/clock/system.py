"""The host's clock."""

from __future__ import annotations

import time
from collections.abc import Callable


class SystemClock:
    """A :class:`~forestall.ports.clock.Clock` on the host's clock.

    Parameters
    ----------
    look_again_seconds
        Longest sleep without looking at the clock again; a clock that is set forward meanwhile ends the
        wait at most that much too late, one that is set back prolongs it.
    wall, steady, sleep
        What tells the time and lets it pass.
    """

    pace = 1.0

    def __init__(
        self,
        look_again_seconds: float = 1.0,
        *,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._look_again_seconds = look_again_seconds
        self._wall, self._steady, self._sleep = wall, steady, sleep

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return self._wall()

    def monotonic(self) -> float:
        """Seconds since the host started; never goes back."""
        return self._steady()

    def sleep_until(self, instant: float) -> None:
        """Return when :meth:`now` has reached ``instant``, also when the clock is set meanwhile."""
        while (remaining := instant - self._wall()) > 0:
            self._sleep(min(remaining, self._look_again_seconds))
