"""The audit log: who asked for what that changes something, or was refused; only ever added to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

START = "0" * 64
"""What stands for the entry before the first."""


@dataclass(frozen=True)
class Deed:
    """What somebody did, or tried to.

    Attributes
    ----------
    at
        Instant, seconds.
    who, role
        Name and role of the token; empty where nobody showed one.
    place
        Where it came from: an address, or ``command line``.
    what
        As ``POST /api/v1/vms/web-1/restore``, or the command.
    result
        Status of HTTP, or what came of it.
    detail
        More of it, plain JSON values; no secrets.
    """

    at: float
    who: str
    role: str
    place: str
    what: str
    result: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditEntry:
    """A deed in its place: ``sequence`` counts from 1, ``before`` is the hash of the entry before, ``hash`` its own."""

    sequence: int
    deed: Deed
    before: str
    hash: str


class AuditLog(Protocol):
    """Keeps deeds in order. Errors are :class:`~forestall.model.errors.StoreError`."""

    def append(self, deed: Deed) -> AuditEntry:
        """Write down a deed, durably; several processes may do so."""
        ...

    def entries(self, after: int = 0) -> Iterator[AuditEntry]:
        """Every entry whose sequence is greater, in order, as it stands there: whether it is whole is not looked at."""
        ...

    def newest(self) -> int:
        """Sequence of the last entry; 0 where there is none."""
        ...
