"""Work that arrives whether or not the earlier work is done: what makes a shortage show as a queue."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable


class Arrivals:
    """Jobs that arrive at a rate that follows a level.

    Parameters
    ----------
    full_rate_per_second
        Jobs a second at level 1.
    limit
        Most that wait; the oldest give up when more arrive.
    level
        The level (0-1) now.
    """

    def __init__(self, full_rate_per_second: float, limit: int, level: Callable[[], float]) -> None:
        self.full_rate_per_second, self.limit, self.level = full_rate_per_second, limit, level
        self._credit, self._last = 0.0, time.monotonic()
        self._waiting: deque[float] = deque(maxlen=limit)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Jobs that wait now, those counted that have just arrived."""
        self._collect()
        return len(self._waiting)

    def next(self) -> float | None:
        """Instant (monotonic) at which the oldest waiting job arrived, taken from the queue; None if there is none."""
        self._collect()
        return self._waiting.popleft() if self._waiting else None

    def _collect(self) -> None:
        """Let arrive what is due by now, each at its own instant; may be called from any thread."""
        with self._lock:
            now = time.monotonic()
            elapsed, self._last = now - self._last, now
            credit = self._credit + elapsed * self.full_rate_per_second * self.level()
            arrived, self._credit = int(credit), credit % 1.0
            first = max(0, arrived - self.limit)
            self._waiting.extend(now - elapsed * (arrived - i - 1) / arrived for i in range(first, arrived))
