"""Mithril: pairs of keys that are seldom used, but near each other whenever they are."""

from __future__ import annotations

from collections.abc import Iterable

from forestall.replay.access.peers.base import Prefetcher
from forestall.replay.access.peers.table import Table

KEYS = 200_000
ASKED_KEYS = 65_536


class Mithril(Prefetcher):
    """Sporadic association mining (Mithril; Yang et al., SoCC 2017).

    The times of misses are recorded for each key. Keys that missed often enough are mined whenever there are so many:
    two that missed equally often, each time near each other, belong together, and the use of one asks for the other.

    Parameters
    ----------
    least, most
        Misses of a key, between two minings, from which and up to which it is mined.
    ahead
        Misses that may lie between two keys that belong together.
    rows
        Keys mined at once.
    associations
        Keys asked for on the use of one; the newest found.
    keys
        How many are remembered with their times, and how many with what belongs to them.
    """

    def __init__(
        self,
        least: int = 2,
        most: int = 8,
        ahead: int = 20,
        rows: int = 300,
        associations: int = 3,
        keys: int = KEYS,
    ) -> None:
        self._least, self._most, self._ahead, self._rows = least, most, ahead, rows
        self._associations = associations
        self._recording: Table[int, list[int]] = Table(keys)
        self._mining: dict[int, list[int]] = {}
        self._pairs: Table[int, list[int]] = Table(keys)
        self._asked: Table[int, None] = Table(ASKED_KEYS)
        self._misses = 0

    def access(self, key: int, hit: bool) -> Iterable[int]:
        """As :meth:`Prefetcher.access`."""
        asked = key in self._asked
        if asked:
            del self._asked[key]
        if asked or not hit:
            self._record(key)
        found = self._pairs.get(key, ())
        if found:
            self._asked.put_each(found, None)
        return found

    def _record(self, key: int) -> None:
        """Write down a miss, or what would have been one without this."""
        self._misses += 1
        times = self._mining.get(key)
        if times is not None:
            if len(times) <= self._most:  # one more tells that it is not sporadic
                times.append(self._misses)
            return
        times = [*self._recording.get(key, ()), self._misses]
        if len(times) < self._least:
            self._recording.put(key, times)
            return
        self._recording.pop(key, None)
        self._mining[key] = times
        if len(self._mining) >= self._rows:
            self._mine()

    def _mine(self) -> None:
        """Find what belongs together, and begin anew."""
        rows = sorted((times, key) for key, times in self._mining.items() if len(times) <= self._most)
        self._mining.clear()
        for i, (times, key) in enumerate(rows):
            j = i + 1
            while j < len(rows) and rows[j][0][0] - times[0] <= self._ahead:
                if self._near(times, rows[j][0]):
                    self._associate(key, rows[j][1])
                j += 1

    def _near(self, times: list[int], others: list[int]) -> bool:
        if len(times) != len(others):
            return False
        return all(abs(other - time) <= self._ahead for time, other in zip(times, others, strict=True))

    def _associate(self, key: int, other: int) -> None:
        pairs = self._pairs.get(key, [])
        if other not in pairs:
            self._pairs.put(key, [*pairs, other][-self._associations :])
