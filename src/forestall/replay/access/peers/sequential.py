"""Prefetchers that expect the next numbers: fixed readahead, Linux's, and AMP."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from forestall.replay.access.peers.base import Prefetcher
from forestall.replay.access.peers.neighbours import neighbours
from forestall.replay.access.peers.table import Table

REMEMBERED_KEYS = 1024
STREAM_KEYS = 16_384
MOST_DELAY = 64
"""No more keys than that are asked for because of a delay: each is a fetch."""


class Readahead(Prefetcher):
    """The next keys after each access.

    Parameters
    ----------
    ahead
        How many.
    delay
        Accesses until a fetch arrives: so many more are asked for.
    """

    def __init__(self, ahead: int, delay: int = 0) -> None:
        self._ahead = ahead + min(delay, MOST_DELAY)

    def access(self, key: int, hit: bool) -> Iterable[int]:
        """As :meth:`Prefetcher.access`."""
        return neighbours(key, 1, self._ahead)


class LinuxLike(Prefetcher):
    """On-demand readahead as in Linux (``mm/readahead.c``), with the page cache's history in place of open files.

    A miss right after a key used lately opens a window; the first key of what was read ahead is marked, and its use
    reads the next window, twice as long. A miss elsewhere opens none, so that a run that is broken begins anew.

    Parameters
    ----------
    initial
        Keys in the first window, with the one that missed.
    most
        Keys in the longest.
    """

    def __init__(self, initial: int = 4, most: int = 32) -> None:
        self._initial, self._most = initial, most
        self._recent: Table[int, None] = Table(REMEMBERED_KEYS)
        self._marked: Table[int, tuple[int, int]] = Table(REMEMBERED_KEYS)

    def access(self, key: int, hit: bool) -> Iterable[int]:
        """As :meth:`Prefetcher.access`."""
        window = self._marked.pop(key, None)
        sequential = not hit and key - 1 in self._recent
        self._recent.put(key, None)
        if window is not None:
            end, size = window
            longer = min(2 * size, self._most)
            self._marked.put(end, (end + longer, longer))
            return neighbours(key, end - key, end + longer - 1 - key)
        if sequential:
            self._marked.put(key + 1, (key + self._initial, self._initial))
            return neighbours(key, 1, self._initial - 1)
        return ()


@dataclass(slots=True)
class _Stream:
    """A sequential run: how much is asked for at once, how early, and up to where; in keys."""

    degree: int
    trigger: int
    end: int


class Amp(Prefetcher):
    """Adaptive multi-stream prefetching (AMP; Gill & Bathen, FAST 2007).

    Each run has its degree of prefetching p and its trigger distance g. The use of the last key of what was asked for
    raises p, a key that was gone before its use lowers both, and one that was still on its way raises g.

    Parameters
    ----------
    delay
        Accesses until a fetch arrives; what is missed later than that was gone. A run begins with g so large.
    initial, most
        Least and largest p, in keys.
    """

    def __init__(self, delay: int = 0, initial: int = 4, most: int = 64) -> None:
        self._delay, self._initial, self._most = delay, initial, most
        self._recent: Table[int, None] = Table(REMEMBERED_KEYS)
        self._asked: Table[int, tuple[_Stream, int]] = Table(STREAM_KEYS)
        self._now = 0

    def access(self, key: int, hit: bool) -> Iterable[int]:
        """As :meth:`Prefetcher.access`."""
        self._now += 1
        asked = self._asked.pop(key, None)
        sequential = not hit and key - 1 in self._recent
        self._recent.put(key, None)
        if asked is not None:
            stream, since = asked
            if not hit:
                self._adapt(stream, late=self._now - since <= self._delay)
            elif key == stream.end:
                stream.degree = min(stream.degree + 1, self._most)
            return self._ask(stream, key) if key >= stream.end - stream.trigger else ()
        if sequential:
            return self._ask(_Stream(self._initial, self._delay, key), key)
        return ()

    def _adapt(self, stream: _Stream, late: bool) -> None:
        if late:
            stream.trigger = min(stream.trigger + 1, self._most)
        else:
            stream.degree = max(stream.degree - 1, 1)
            stream.trigger = min(stream.trigger, max(stream.degree - 1, 0))

    def _ask(self, stream: _Stream, key: int) -> range:
        first = max(stream.end - key, 0) + 1
        found = neighbours(key, first, first + stream.degree + max(stream.trigger - (first - 1), 0) - 1)
        self._asked.put_each(found, (stream, self._now))
        stream.end = found[0] if found else key
        return found
