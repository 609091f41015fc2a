"""Blocks that could not be staged when they should have been: they wait, are tried again, are dropped with a reason."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable

MOST = 1024

Place = tuple[int, int]
"""A VM, and a block of it."""


class Waiting:
    """Who waits, the longest first, and why others were dropped."""

    def __init__(self) -> None:
        self._since: OrderedDict[Place, tuple[float, float, str]] = OrderedDict()
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._since)

    def add(self, place: Place, now: float, until: float, why: str) -> None:
        """A block waits, until then at most; when too many do, the one that waits longest is dropped."""
        if place not in self._since and len(self._since) >= MOST:
            _, (_, _, reason) = self._since.popitem(last=False)
            self.dropped[reason] += 1
        since, until, _ = self._since.get(place, (now, until, why))
        self._since[place] = since, until, why

    def settle(self, now: float, stage: Callable[[Place], str | None]) -> None:
        """Try again, the longest first, until one must wait on: ``stage`` says why, None when it is done with."""
        for place, (since, until, why) in list(self._since.items()):
            if now >= until:
                del self._since[place]
                self.dropped[why] += 1
            elif (again := stage(place)) is None:
                del self._since[place]
            else:
                self._since[place] = since, until, again
                break

    def forget(self, vm: int) -> None:
        """A VM is gone, and with it what waits for it."""
        for place in [place for place in self._since if place[0] == vm]:
            del self._since[place]
