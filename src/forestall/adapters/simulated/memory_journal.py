"""Journal in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from forestall.model.decision import Aftermath, Decision, Outcome, Restoration
from forestall.model.resources import Resource


class MemoryJournal:
    """A :class:`~forestall.ports.journal.Journal` that lasts as long as the process."""

    def __init__(self) -> None:
        self._decisions: list[Decision] = []
        self._done: list[Outcome | Restoration] = []

    def record(
        self,
        decisions: Sequence[Decision],
        outcomes: Sequence[Outcome] = (),
        restorations: Sequence[Restoration] = (),
    ) -> None:
        """Append what belongs to one cycle."""
        self._decisions.extend(decisions)
        self._done += [*outcomes, *restorations]

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
        return (o for o in tuple(self._done) if isinstance(o, Outcome) and vm_id in (None, o.action.vm_id))

    def explain(self, vm_id: str, at: int | None = None) -> list[Decision]:
        """For each resource the decision in force at an instant; of several, the one recorded last."""
        found: dict[Resource, Decision] = {}
        for decision in self.decisions(vm_id, until=None if at is None else at + 1):
            best = found.get(decision.resource)
            if best is None or decision.in_force_at >= best.in_force_at:
                found[decision.resource] = decision
        return [found[r] for r in Resource if r in found]

    def restorations(self, vm_id: str | None = None) -> Iterator[Restoration]:
        """Restorations in the order in which they were recorded."""
        return (r for r in tuple(self._done) if isinstance(r, Restoration) and vm_id in (None, r.vm_id))

    def aftermath(self, vm_id: str, at: int | None = None) -> dict[Resource, Aftermath]:
        """What was last done about each resource of a VM until an instant."""
        found: dict[Resource, Aftermath] = {}
        for done in sorted((d for d in self._done if at is None or (d.at or 0) <= at), key=lambda d: d.at or 0):
            if isinstance(done, Outcome) and done.action.vm_id == vm_id:
                found[done.action.resource] = Aftermath(done)
            elif isinstance(done, Restoration) and done.vm_id == vm_id:
                found = {r: Aftermath(found[r].outcome if r in found else None, done) for r in Resource}
        return found

    def maintain(self, now: int) -> None:
        """Nothing to archive: it lasts no longer than its process."""

    def close(self) -> None:
        """Nothing to release."""
