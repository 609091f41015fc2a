"""The staging area that every policy is given: so many pages at most, who has waited longest goes first.

A page is staged (populated before the guest touches it), and is touched, or let go. What was touched is the guest's
and is never let go.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

Page = tuple[int, int]
"""A VM, and the number of a page of it."""


class Move(NamedTuple):
    """A page that was staged, or let go: after which touch, of which VM, which page."""

    after: int
    vm: int
    page: int
    staged: bool


@dataclass
class Area:
    """Pages that are staged.

    Attributes
    ----------
    capacity
        Pages at most.
    moves
        Everything that was staged and let go, in order.
    """

    capacity: int
    moves: list[Move] = field(default_factory=list)
    _staged: OrderedDict[Page, None] = field(default_factory=OrderedDict)
    _touched: dict[int, set[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._staged)

    def touch(self, vm: int, page: int) -> bool:
        """The guest touches a page; whether it was staged. One that it had already: it has begun anew, with none."""
        touched = self._touched.setdefault(vm, set())
        if page in touched:
            touched.clear()
        touched.add(page)
        return self._staged.pop((vm, page), self) is None

    def stage(self, after: int, vm: int, pages: Iterable[int]) -> None:
        """Stage pages that are neither staged nor touched, in this order."""
        for page in pages:
            if (vm, page) in self._staged or page in self._touched.get(vm, ()) or page < 0:
                continue
            if len(self._staged) >= self.capacity:
                (old_vm, old_page), _ = self._staged.popitem(last=False)
                self.moves.append(Move(after, old_vm, old_page, False))
            self._staged[vm, page] = None
            self.moves.append(Move(after, vm, page, True))

    def let_go(self, after: int, vm: int, pages: Iterable[int]) -> None:
        """Let pages go that are staged."""
        for page in pages:
            if self._staged.pop((vm, page), self) is None:
                self.moves.append(Move(after, vm, page, False))
