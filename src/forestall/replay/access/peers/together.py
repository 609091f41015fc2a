"""Several prefetchers side by side: for the same accesses, and one for each space of numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from forestall.replay.access.peers.base import SPACE_SHIFT, Prefetcher

Factory = Callable[[int], Prefetcher]
"""From the accesses until a fetch arrives to a fresh prefetcher."""


class Together(Prefetcher):
    """Whatever any of some prefetchers asks for; nothing if there are none.

    Parameters
    ----------
    prefetchers
        The one whose wishes matter most last.
    """

    def __init__(self, *prefetchers: Prefetcher) -> None:
        self._prefetchers = prefetchers

    def access(self, key: int, hit: bool) -> Iterable[int]:
        """As :meth:`Prefetcher.access`."""
        return [asked for prefetcher in self._prefetchers for asked in prefetcher.access(key, hit)]


class PerSpace(Prefetcher):
    """One prefetcher for each VM and kind of resource, so that nobody's accesses come between another's.

    Parameters
    ----------
    make
        Makes one.
    delay
        Accesses, of all spaces together, until a fetch arrives.
    """

    def __init__(self, make: Factory, delay: int) -> None:
        self._make, self._delay = make, delay
        self._of: dict[int, Prefetcher] = {}

    def access(self, key: int, hit: bool) -> Iterable[int]:
        """As :meth:`Prefetcher.access`."""
        space = key >> SPACE_SHIFT
        prefetcher = self._of.get(space)
        if prefetcher is None:
            prefetcher = self._of[space] = self._make(self._delay)
        return prefetcher.access(key, hit)
