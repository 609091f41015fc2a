"""Journal in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from forestall.model.decision import Decision, Outcome
from forestall.model.resources import Resource


class MemoryJournal:
    """A :class:`~forestall.ports.journal.Journal` that lasts as long as the process."""

    def __init__(self) -> None:
        self._decisions: list[Decision] = []
        self._outcomes: list[Outcome] = []

    def record(self, decisions: Sequence[Decision], outcomes: Sequence[Outcome] = ()) -> None:
        """Append one cycle's decisions and outcomes."""
        self._decisions.extend(decisions)
        self._outcomes.extend(outcomes)

    def decisions(
        self, vm_id: str | None = None, *, since: int | None = None, until: int | None = None
    ) -> Iterator[Decision]:
        """Decisions in the order in which they were recorded."""
        for decision in tuple(self._decisions):
            early = since is not None and decision.in_force_at < since
            late = until is not None and decision.in_force_at >= until
            if vm_id in (None, decision.vm_id) and not early and not late:
                yield decision

    def outcomes(self, vm_id: str | None = None) -> Iterator[Outcome]:
        """Outcomes in the order in which they were recorded."""
        return (o for o in tuple(self._outcomes) if vm_id in (None, o.action.vm_id))

    def explain(self, vm_id: str, at: int | None = None) -> list[Decision]:
        """For each resource the decision in force at an instant; of several, the one recorded last."""
        found: dict[Resource, Decision] = {}
        for decision in self.decisions(vm_id, until=None if at is None else at + 1):
            best = found.get(decision.resource)
            if best is None or decision.in_force_at >= best.in_force_at:
                found[decision.resource] = decision
        return [found[r] for r in Resource if r in found]

    def close(self) -> None:
        """Nothing to release."""
