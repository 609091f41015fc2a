"""Prefetchers that replay what followed the last time: STMS and Domino."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from forestall.replay.access.peers.base import Prefetcher
from forestall.replay.access.peers.table import Table

RECORDED = 200_000
ASKED_KEYS = 65_536
NOWHERE = -2


class Stms(Prefetcher):
    """Sampled temporal memory streaming (STMS; Wenisch et al., HPCA 2009), every access sampled.

    Accesses are written to a history, with an index to where each key stood last. An access asks for the keys that
    followed it there; while the next accesses are those, each asks for one more.

    Parameters
    ----------
    degree
        Keys asked for ahead of what is used.
    on
        Learn from ``all`` accesses, or from ``misses``: the accesses that would have missed without it.
    delay
        Accesses until a fetch arrives: so many of those that followed are skipped.
    recorded
        Length of the history, and of each index.
    """

    def __init__(
        self, degree: int, on: Literal["all", "misses"] = "all", delay: int = 0, recorded: int = RECORDED
    ) -> None:
        self._misses_only, self._recorded = on == "misses", recorded
        self._first, self._ahead = 1 + delay, degree + delay
        self._history: list[int] = []
        self._index: dict[int, int] = {}
        self._asked: Table[int, None] = Table(ASKED_KEYS)
        self._end, self._at = 0, NOWHERE

    def access(self, key: int, hit: bool) -> Iterable[int]:
        """As :meth:`Prefetcher.access`."""
        if self._misses_only:
            asked = key in self._asked
            if asked:
                del self._asked[key]
            elif hit:
                return ()
        at, expected = self._find(key), self._at + 1
        self._at = at
        self._record(key)
        if at == NOWHERE:
            return ()
        return self._replay(at + (self._ahead if at == expected else self._first), at + self._ahead)

    def _find(self, key: int) -> int:
        """Where in the history to go on from."""
        return self._index.get(key, NOWHERE)

    def _record(self, key: int) -> None:
        """Write a key down, in the place of the oldest once the history is full."""
        slot = self._end % self._recorded
        if slot < len(self._history):
            self._forget(slot)
            self._history[slot] = key
        else:
            self._history.append(key)
        self._index[key] = self._end
        self._end += 1

    def _forget(self, slot: int) -> None:
        """Take the oldest place out of the index, if it stands there."""
        oldest = self._history[slot]
        if self._index[oldest] == self._end - self._recorded:
            del self._index[oldest]

    def _replay(self, first: int, last: int) -> list[int]:
        """The keys at some places of the history, the last place first."""
        first, end = max(first, self._end - len(self._history)), min(last + 1, self._end)
        if first >= end:
            return []
        start, stop = first % self._recorded, (end - 1) % self._recorded + 1
        wraps = start >= stop
        found = self._history[start:] + self._history[:stop] if wraps else self._history[start:stop]
        found.reverse()
        if self._misses_only:
            self._asked.put_each(found, None)
        return found


class Domino(Stms):
    """STMS that looks up the last two keys, and one where two were never seen (Bakhshalipour et al., HPCA 2018)."""

    def __init__(
        self, degree: int, on: Literal["all", "misses"] = "all", delay: int = 0, recorded: int = RECORDED
    ) -> None:
        super().__init__(degree, on, delay, recorded)
        self._pairs: dict[tuple[int, int], int] = {}
        self._last = -1

    def _find(self, key: int) -> int:
        found = self._pairs.get((self._last, key))
        return super()._find(key) if found is None else found

    def _record(self, key: int) -> None:
        super()._record(key)
        self._pairs[self._last, key] = self._end - 1
        self._last = key

    def _forget(self, slot: int) -> None:
        super()._forget(slot)
        pair = (self._history[slot], self._history[(slot + 1) % self._recorded])
        if self._pairs.get(pair) == self._end - self._recorded + 1:
            del self._pairs[pair]
