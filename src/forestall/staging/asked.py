"""What a VM manager has asked for ahead of time, memory or blocks of disks: staged at once, and kept for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from forestall.model.samples import IntArray
from forestall.ports.access_log import BLOCK, PAGE

KINDS = (PAGE, BLOCK)
NOT_ALLOWED = "the mode that is in force does not let the VM be changed"
NO_MORE = "the VM has all of its memory already"


@dataclass(frozen=True)
class Asked:
    """What was asked for: its name, how many bytes, and for how long they are kept once they are there.

    Attributes
    ----------
    kind
        ``page`` of memory, or ``block`` of a disk.
    program
        For which program; blocks are those that it read before.
    place, offset_bytes
        Blocks of this file, from there on, in place of those of a program.
    """

    name: str
    size_bytes: int
    hold_seconds: float
    kind: str = PAGE
    program: str = ""
    place: str = ""
    offset_bytes: int = 0


@dataclass(frozen=True)
class AskedView:
    """What has become of it; pages or blocks.

    Attributes
    ----------
    wanted, staged, touched
        What was asked for, what was staged for it, and what of that the VM has taken by now.
    taken
        Everything that the VM has taken since it was asked.
    done
        Whether nothing more will be staged for it.
    why
        Why less is staged than was asked for; empty otherwise.
    unit_bytes
        Size of each; 0: what was asked for over ``wanted``.
    """

    wanted: int
    staged: int
    touched: int
    taken: int
    done: bool
    why: str
    unit_bytes: int = 0


def program_of(asked: Sequence[Asked]) -> str:
    """Which program a VM runs, by what is held for it; empty where that is not clear."""
    programs = {one.program for one in asked if one.program}
    return programs.pop() if len(programs) == 1 else ""


@dataclass
class Held:
    """One that is being carried out: blocks that are still to be staged, and pages that are."""

    asked: Asked
    wanted: int
    blocks: list[int]
    taken_before: int
    why: str = ""
    pages: list[IntArray] = field(default_factory=list)

    @property
    def all_pages(self) -> IntArray:
        """What is staged for it."""
        return np.concatenate([np.zeros(0, np.int64), *self.pages])
