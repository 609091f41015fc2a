"""Blocks of files that were brought into the host's memory and have not been read yet: within bounds, for a while.

Predicted, staged, hit or evicted. Pure: staging/block_stock carries out what it says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from forestall.staging.ledger import Group


class Block(NamedTuple):
    """A block of a file, staged for the VMs of a trust group."""

    group: Group
    path: str
    number: int


@dataclass
class Stay:
    """How long a block is there.

    Attributes
    ----------
    until, asked_at
        If nobody has read it by then (monotonic time), it goes; and when it was asked for.
    real
        Whether it was really brought in; if not, it is only followed what would have come of it.
    arrived
        Whether it is there, and no longer on its way.
    """

    until: float
    real: bool
    arrived: bool
    asked_at: float = 0.0


Gone = list[tuple[Block, Stay]]


class BlockArea:
    """The staging area of blocks.

    Parameters
    ----------
    most_blocks
        So many are staged at most; and as many again may be followed.
    """

    def __init__(self, most_blocks: int) -> None:
        self._most = most_blocks
        self._stays: dict[bool, OrderedDict[Block, Stay]] = {True: OrderedDict(), False: OrderedDict()}
        self._on_the_way: dict[Block, Stay] = {}

    def __contains__(self, block: Block) -> bool:
        return any(block in stays for stays in self._stays.values())

    def stage(self, block: Block, stay: Stay) -> Gone:
        """Take note that a block is staged; those that have to go for it, the longest staged first."""
        stays, gone = self._stays[stay.real], Gone()
        while len(stays) >= self._most:
            oldest = next(iter(stays))
            gone.append((oldest, self._take_out(oldest, stay.real)))
        stays[block] = stay
        if not stay.arrived:
            self._on_the_way[block] = stay
        return gone

    def read(self, block: Block) -> Stay | None:
        """A VM has used a block: how it stood here, which is over with that; None if it was not staged."""
        for real in (True, False):
            if block in self._stays[real]:
                return self._take_out(block, real)
        return None

    def follow_no_more(self, block: Block) -> None:
        """What was only followed is to be staged, really."""
        self._stays[False].pop(block, None)

    def take_out(self, which: Callable[[Block, Stay], bool]) -> Gone:
        """Take some out."""
        chosen = [
            (block, real) for real, stays in self._stays.items() for block, stay in stays.items() if which(block, stay)
        ]
        return [(block, self._take_out(block, real)) for block, real in chosen]

    def on_the_way(self) -> list[Block]:
        """Blocks that have not arrived yet."""
        return list(self._on_the_way)

    def there(self) -> list[Block]:
        """Blocks that were really brought in and have arrived."""
        return [block for block, stay in self._stays[True].items() if stay.arrived]

    def arrive(self, block: Block) -> Stay:
        """A block is there."""
        stay = self._on_the_way.pop(block)
        stay.arrived = True
        return stay

    def travelling(self) -> int:
        """How many blocks are on their way."""
        return len(self._on_the_way)

    def staged(self, group: Group | None = None) -> int:
        """How many blocks are staged, really; for one trust group, or for all."""
        stays = self._stays[True]
        return len(stays) if group is None else sum(block.group == group for block in stays)

    def _take_out(self, block: Block, real: bool) -> Stay:
        self._on_the_way.pop(block, None)
        return self._stays[real].pop(block)
