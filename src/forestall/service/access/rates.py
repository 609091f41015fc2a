"""How often somebody may ask: so many at once, and so many a second (a token bucket each)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass
class _Bucket:
    left: float
    at: float


class Rates:
    """Buckets by name; those that were full again are forgotten first, so that memory has an end.

    Parameters
    ----------
    per_second, burst
        So many, and so many at once.
    most
        So many names are remembered.
    """

    def __init__(self, per_second: float, burst: float, most: int = 10_000) -> None:
        self._per_second, self._burst, self._most = per_second, burst, most
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_seconds(self, name: str, now: float) -> float:
        """0 if somebody may ask now, which then counts; else after how long they may again.

        Parameters
        ----------
        now
            Monotonic time, seconds.
        """
        bucket = self._buckets.pop(name, None) or _Bucket(self._burst, now)
        bucket.left = min(self._burst, bucket.left + (now - bucket.at) * self._per_second)
        bucket.at = now
        self._buckets[name] = bucket
        while len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        if bucket.left < 1.0:
            return (1.0 - bucket.left) / self._per_second
        bucket.left -= 1.0
        return 0.0
