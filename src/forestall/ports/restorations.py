"""Restorations that wait for the journal: who puts VMs back while no daemon runs has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from forestall.model.decision import Restoration
from forestall.ports.journal import Journal


class Restorations(Protocol):
    """Durable list. Errors are :class:`~forestall.model.errors.StoreError`."""

    def append(self, restorations: Sequence[Restoration]) -> None:
        """Add to it; durable on return."""
        ...

    def held(self) -> tuple[Restoration, ...]:
        """All that was added, in order."""
        ...

    def clear(self) -> None:
        """Drop all of it, once the journal has it; harmless if there is none."""
        ...


def hand_over(restorations: Restorations, journal: Journal) -> int:
    """Let the journal have what waits for it; how many. Interrupted, it does so again at the next call."""
    waiting = restorations.held()
    if waiting:
        journal.record((), (), waiting)
        restorations.clear()
    return len(waiting)
