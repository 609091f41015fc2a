"""The staging area that every policy is given: so many pages at most, who has waited longest goes first.

A page is staged (populated before the guest touches it), and is touched, or let go. What was touched is the guest's and is
never let go.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

Page = tuple[int, int]
"""A VM, and the number of a page of it."""


@dataclass
class Area:
    """Pages that are staged.

    Attributes
    ----------
    capacity
        Pages at most.
    moves
        Everything that was staged (True) and let go: after which touch, of which VM, which page.
    """

    capacity: int
    moves: list[tuple[int, int, int, bool]] = field(default_factory=list)
    _staged: OrderedDict[Page, None] = field(default_factory=OrderedDict)
    _touched: set[Page] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self._staged)

    def touch(self, vm: int, page: int) -> bool:
        """The guest touches a page; whether it was staged."""
        self._touched.add((vm, page))
        return self._staged.pop((vm, page), self) is None

    def renew(self, vm: int) -> None:
        """A VM begins anew: none of its pages is touched."""
        self._touched = {page for page in self._touched if page[0] != vm}

    def stage(self, after: int, vm: int, pages: Iterable[int]) -> int:
        """Stage pages that are neither staged nor touched, in this order; how many there were of them."""
        count = 0
        for page in pages:
            if (vm, page) in self._staged or (vm, page) in self._touched or page < 0:
                continue
            if len(self._staged) >= self.capacity:
                (old_vm, old_page), _ = self._staged.popitem(last=False)
                self.moves.append((after, old_vm, old_page, False))
            self._staged[vm, page] = None
            self.moves.append((after, vm, page, True))
            count += 1
        return count

    def let_go(self, after: int, vm: int, pages: Iterable[int]) -> None:
        """Let pages go that are staged."""
        for page in pages:
            if self._staged.pop((vm, page), self) is None:
                self.moves.append((after, vm, page, False))
