"""Prefetchers that count what follows what: Markov tables and the probability graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from forestall.replay.access.peers.base import Prefetcher
from forestall.replay.access.peers.table import Table

CONTEXTS = 200_000
SUCCESSORS = 8
ASKED_KEYS = 65_536


@dataclass(slots=True, eq=False)
class _Followed:
    """How often something was seen, and what followed it."""

    visits: int = 0
    by: dict[int, int] = field(default_factory=dict)

    def likely(self, threshold: float) -> list[int]:
        """What followed in so large a share of the visits, the most frequent last."""
        least = threshold * self.visits
        found = [key for key, count in self.by.items() if count >= least]
        if len(found) > 1:
            found.sort(key=self.by.__getitem__)
        return found


class Markov(Prefetcher):
    """What came next after the last one or two keys (Joseph & Grunwald, ISCA 1997), with counts.

    Parameters
    ----------
    order
        Keys that make a context: 1 or 2.
    on
        Learn from ``all`` accesses, or from ``misses``: the accesses that would have missed without it.
    threshold
        Least share of a context's visits for a key to be asked for.
    delay
        Accesses until a fetch arrives: what comes so many later is counted instead.
    contexts
        How many are remembered; the one not seen for longest is forgotten.
    """

    def __init__(
        self, order: int, on: Literal["all", "misses"], threshold: float, delay: int = 0, contexts: int = CONTEXTS
    ) -> None:
        self._order, self._misses_only, self._threshold = order, on == "misses", threshold
        self._contexts: Table[int | tuple[int, int], _Followed] = Table(contexts)
        self._asked: Table[int, None] = Table(ASKED_KEYS)
        self._past: deque[_Followed] = deque(maxlen=delay + 1)
        self._delay, self._last = delay, -1

    def access(self, key: int, hit: bool) -> Iterable[int]:
        """As :meth:`Prefetcher.access`."""
        if self._misses_only:
            asked = key in self._asked
            if asked:
                del self._asked[key]
            elif hit:
                return ()
        self._learn(key)
        context = key if self._order == 1 else (self._last, key)
        self._last = key
        followed = self._contexts.get(context)
        if followed is None:
            followed = _Followed()
        self._contexts.put(context, followed)
        self._past.append(followed)
        return self._wanted(followed)

    def _wanted(self, followed: _Followed) -> list[int]:
        if not followed.visits:
            return []
        found = followed.likely(self._threshold)
        if self._misses_only:
            self._asked.put_each(found, None)
        return found

    def _learn(self, key: int) -> None:
        """Count a key for the context so many accesses ago; a new one takes the place of the rarest."""
        if len(self._past) <= self._delay:
            return
        before = self._past[0]
        before.visits += 1
        if key not in before.by and len(before.by) >= SUCCESSORS:
            del before.by[min(before.by, key=before.by.__getitem__)]
        before.by[key] = before.by.get(key, 0) + 1


class ProbabilityGraph(Prefetcher):
    """Whatever came within the next few accesses (Griffioen & Appleton, USENIX 1994), with counts.

    Parameters
    ----------
    window
        How many accesses count as near.
    threshold
        Least share of a key's visits for another to be asked for.
    delay
        Accesses until a fetch arrives: the window begins so much later.
    contexts
        How many keys are remembered; the one not used for longest is forgotten.
    """

    def __init__(self, window: int, threshold: float, delay: int = 0, contexts: int = CONTEXTS) -> None:
        self._threshold, self._delay = threshold, delay
        self._nodes: Table[int, _Followed] = Table(contexts)
        self._near: deque[_Followed] = deque(maxlen=window)
        self._too_near: deque[_Followed] = deque()
        self._successors = 4 * SUCCESSORS

    def access(self, key: int, hit: bool) -> Iterable[int]:
        """As :meth:`Prefetcher.access`."""
        node = self._nodes.get(key)
        if node is None:
            node = _Followed()
        self._nodes.put(key, node)
        for before in dict.fromkeys(self._near):
            if before is not node:
                self._count(before.by, key)
        node.visits += 1
        self._too_near.append(node)
        if len(self._too_near) > self._delay:
            self._near.append(self._too_near.popleft())
        return node.likely(self._threshold)

    def _count(self, followers: dict[int, int], key: int) -> None:
        """Count a follower; when there are too many, the rarer half goes."""
        followers[key] = followers.get(key, 0) + 1
        if len(followers) > self._successors:
            kept = sorted(followers.items(), key=lambda follower: -follower[1])[: self._successors // 2]
            followers.clear()
            followers.update(kept)
