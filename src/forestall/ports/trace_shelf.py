"""Traces that were given to be replayed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class KeptTrace:
    """One trace.

    Attributes
    ----------
    name
        Made from its content: the same bytes have the same name.
    label
        What whoever gave it calls it.
    size_bytes, at
        How large it is, and when it was given, seconds UTC.
    path
        Its file.
    """

    name: str
    label: str
    size_bytes: int
    at: float
    path: Path


class TraceShelf(Protocol):
    """Keeps traces as they were given, whatever they are.

    Raises
    ------
    StoreError
        It cannot be read or written.
    """

    def read(self) -> tuple[KeptTrace, ...]:
        """All there are, by name."""
        ...

    def put(self, data: bytes, label: str) -> KeptTrace:
        """Keep one; it is on the disk on return. What is there already is that which is there.

        Raises
        ------
        WrongUse
            There is no room for it.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove one."""
        ...
