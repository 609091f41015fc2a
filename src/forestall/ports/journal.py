"""The journal: every decision and outcome, append-only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from forestall.model.decision import Decision, Outcome


class Journal(Protocol):
    """Append-only record of decisions and outcomes. What :meth:`record` has returned from is durable."""

    def record(self, decisions: Sequence[Decision], outcomes: Sequence[Outcome] = ()) -> None:
        """Append one cycle's decisions and the outcomes of their actions."""
        ...

    def decisions(
        self, vm_id: str | None = None, *, since: int | None = None, until: int | None = None
    ) -> Iterable[Decision]:
        """Decisions in the order in which they were recorded; bounds are on ``in_force_at``, half-open."""
        ...

    def explain(self, vm_id: str, at: int | None = None) -> list[Decision]:
        """For each resource the decision in force at instant ``at`` (None: the latest)."""
        ...

    def outcomes(self, vm_id: str | None = None) -> Iterable[Outcome]:
        """Outcomes in the order in which they were recorded."""
        ...

    def close(self) -> None:
        """Flush and release the journal."""
        ...
