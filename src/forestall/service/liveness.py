"""What a daemon and its watchdog need to know of each other, as Protocols; files implement them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from forestall.model.decision import Restoration
from forestall.model.mode import Mode
from forestall.ports.journal import Journal


class Heart(Protocol):
    """Says that a daemon lives."""

    def beat(self, mode: Mode) -> None:
        """Beat once; a :class:`~forestall.model.errors.StoreError` if nobody can see it."""
        ...


class Pulse(Protocol):
    """Tells whether a daemon lives."""

    def why_dead(self) -> str:
        """Why its VMs should be put back, in words; empty while it lives."""
        ...


class Restorations(Protocol):
    """VMs that were put back by somebody who has no journal. Errors: :class:`~forestall.model.errors.StoreError`."""

    def append(self, restorations: Sequence[Restoration]) -> None:
        """Leave word; durable on return."""
        ...

    def hand_over(self, journal: Journal) -> int:
        """Let the journal have what was left, each once unless interrupted; how many. Cheap if there is nothing."""
        ...
