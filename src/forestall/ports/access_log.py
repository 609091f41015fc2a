"""The log of accesses: which VM used which page of memory or block of a file, when, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from forestall.model.samples import BoolArray, FloatArray, IntArray

UNIT_BYTES = 4096
"""What is counted as one page or block."""
PAGE, BLOCK, CONNECTION = "page", "block", "connection"
KINDS = (PAGE, BLOCK, CONNECTION)
MEMORY = "memory"


@dataclass(frozen=True)
class Source:
    """Whose accesses they are, and to what.

    Attributes
    ----------
    vm_id, program_id
        VM, and program in it; empty where that is not known.
    group, generation
        Trust group of the VM, and which one of its name (:class:`~forestall.ports.trust_book.GroupTerms`).
    kind
        One of :data:`KINDS`.
    place
        What the numbers count in: :data:`MEMORY`, or the path of a file of the host.
    """

    vm_id: str
    group: str
    generation: str
    kind: str
    place: str
    program_id: str = ""


@dataclass(frozen=True, eq=False)
class Accesses:
    """Accesses of one source, in their order; arrays (access,).

    Attributes
    ----------
    at
        Instants, seconds UTC.
    number
        First page or block that was used, in units of :data:`UNIT_BYTES` from the beginning of the place.
    size_bytes
        How much was used from there on.
    write
        Whether it was written, else read.
    """

    at: FloatArray
    number: IntArray
    size_bytes: IntArray
    write: BoolArray

    def __len__(self) -> int:
        return len(self.number)


class AccessLog(Protocol):
    """Takes accesses down; one process writes one log."""

    def add(self, source: Source, accesses: Accesses) -> None:
        """Take some down; written soon, and kept whatever happens to the process once it is.

        Raises
        ------
        StoreError
            They could not be written.
        """
        ...

    def close(self) -> None:
        """Write what was not written yet."""
        ...
