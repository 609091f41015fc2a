"""Blocks that could not be staged when they should have been: they wait, are tried again, are dropped with a reason."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

MOST = 1024
Block = TypeVar("Block", bound=Hashable)


class Waiting(Generic[Block]):
    """Who waits, the longest first, and why others were dropped.

    Parameters
    ----------
    shared
        Reasons that hold for everybody: while one of them stands, nobody behind is tried.
    let_go
        Told of a block that is dropped.
    """

    def __init__(self, shared: tuple[str, ...], let_go: Callable[[Block], None]) -> None:
        self._shared, self._let_go = shared, let_go
        self._until: OrderedDict[Block, tuple[float, str]] = OrderedDict()
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, block: Block, until: float, why: str) -> None:
        """A block waits, until then at most; when too many do, the one that waits longest is dropped."""
        if block in self._until:
            return
        if len(self._until) >= MOST:
            self._drop(next(iter(self._until)))
        self._until[block] = until, why

    def settle(self, now: float, stage: Callable[[Block], str | None]) -> None:
        """Drop whose time is over, and try the others: ``stage`` says why one waits on, None when it is done with."""
        for block in [block for block, (until, _) in self._until.items() if now >= until]:
            self._drop(block)
        for block, (until, _) in list(self._until.items()):
            if (why := stage(block)) is None:
                self._until.pop(block, None)
                continue
            self._until[block] = until, why
            if why in self._shared:
                break

    def forget(self, which: Callable[[Block], bool]) -> None:
        """Somebody is gone, and with him what waits for him."""
        for block in [block for block in self._until if which(block)]:
            del self._until[block]

    def _drop(self, block: Block) -> None:
        _, why = self._until.pop(block)
        self.dropped[why] += 1
        self._let_go(block)
