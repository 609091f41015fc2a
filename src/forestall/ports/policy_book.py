"""Every policy that was ever in force, each as a version with its text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class PolicyVersion:
    """One version.

    Attributes
    ----------
    number
        1, 2, ...
    at
        Since when, seconds UTC.
    origin, by
        Whether it was read from the file that the configuration names, or applied; and which file, or by whom.
    comment
        What they said of it.
    digest
        SHA-256 of its text, hexadecimal.
    """

    number: int
    at: float
    origin: Literal["file", "applied"]
    by: str
    comment: str
    digest: str


class PolicyBook(Protocol):
    """Keeps versions; nothing is ever changed or forgotten.

    Raises
    ------
    StoreError
        It cannot be read, is damaged, or cannot be written; then nothing has changed.
    """

    def versions(self) -> tuple[PolicyVersion, ...]:
        """All there are, the newest last."""
        ...

    def text(self, version: PolicyVersion) -> str:
        """The text of a version."""
        ...

    def add(self, version: PolicyVersion, text: str) -> None:
        """Keep one more, the newest; it is on the disk on return."""
        ...
