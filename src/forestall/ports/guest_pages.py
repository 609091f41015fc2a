"""The memory of a VM, page by page: what it has touched, what is populated, and how to populate and give back.

Pages are numbered from 0 in the order in which the host lays the VM's memory out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from forestall.model.samples import BoolArray, IntArray


@dataclass(frozen=True)
class UsedRange:
    """A part of a VM's memory that was used.

    Attributes
    ----------
    offset_bytes, size_bytes
        Where.
    share
        In how many of the looks at it, lately, it was found used; 0: not in the last ones.
    """

    offset_bytes: int
    size_bytes: int
    share: float


class Used(NamedTuple):
    """What a VM used of its memory: how much, and where most if that is known."""

    used_bytes: int
    ranges: tuple[UsedRange, ...] = ()


class GuestPages(Protocol):
    """The pages of one VM that runs."""

    @property
    def page_bytes(self) -> int:
        """Size of a page."""
        ...

    @property
    def pages(self) -> int:
        """How many there are."""
        ...

    @property
    def grain_pages(self) -> int:
        """Pages that the host populates and keeps together where it can: those of a huge page, else 1."""
        ...

    @property
    def stood_seconds(self) -> float:
        """For how long the VM has stood still in all, so that pages could be given back."""
        ...

    def resident(self) -> int:
        """Count the pages that the VM's process has; cheap. Pages of the VM came or went if it is another than before.

        Raises
        ------
        HypervisorError
            The VM is gone.
        """
        ...

    def touched(self, first: int, pages: int) -> BoolArray:
        """Which pages of a range the VM has; array (page,). A page that it has may be missed, never the reverse.

        Raises
        ------
        HypervisorError
            The VM is gone.
        """
        ...

    def populated(self, first: int, pages: int) -> BoolArray:
        """Which pages of a range the host has in memory, touched or not; array (page,). What is paged out is not.

        Raises
        ------
        HypervisorError
            The VM is gone.
        """
        ...

    def populate(self, first: int, pages: int) -> None:
        """Have the host hold memory for a range, so that the VM finds it there. What it has already does not change.

        Raises
        ------
        HypervisorError
            The VM is gone, or the host has no memory for it.
        """
        ...

    def give_back(self, pages: IntArray) -> IntArray:
        """Take the host's memory back of those of these pages (page,) that the VM has never touched; which they were.

        Whatever happens meanwhile, nothing that the VM could read changes.

        Raises
        ------
        Unsupported
            It cannot be known of this VM what it has touched.
        HypervisorError
            The VM is gone.
        """
        ...

    def used(self) -> Used | None:
        """What of its memory the VM has read or written since the last call, or lately; None: nothing is known yet.

        Without ranges at least so much: a page that the processor still had at hand from before (in its translation
        lookaside buffer) may be missing. With ranges it is an estimate.

        Raises
        ------
        Unsupported
            This kernel does not tell.
        HypervisorError
            The VM is gone.
        """
        ...

    def close(self) -> None:
        """Let go of the VM; what is populated stays so."""
        ...
