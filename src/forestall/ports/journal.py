"""The journal: every decision and outcome, append-only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from forestall.model.decision import Aftermath, Decision, Outcome, Restoration
from forestall.model.resources import Resource

RETENTION_SECONDS = 90 * 86_400
"""How long decisions stay in the journal itself; older ones may move to an archive, from where they are read too."""


class Journal(Protocol):
    """Append-only record of decisions, outcomes and restorations.

    Errors are :class:`~forestall.model.errors.StoreError`. What :meth:`record` has returned from is durable. Nothing is
    ever lost: what is read is the same before and after :meth:`maintain`.
    """

    def record(
        self,
        decisions: Sequence[Decision],
        outcomes: Sequence[Outcome] = (),
        restorations: Sequence[Restoration] = (),
    ) -> None:
        """Append one cycle's decisions, the outcomes of their actions, and the VMs that were put back then."""
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

    def restorations(self, vm_id: str | None = None) -> Iterable[Restoration]:
        """Restorations in the order in which they were recorded."""
        ...

    def aftermath(self, vm_id: str, at: int | None = None) -> Mapping[Resource, Aftermath]:
        """What was last done about each resource of a VM until instant ``at`` (None: until now); none that is empty.

        Of an outcome and a restoration of the same second, the one recorded later is the later one.
        """
        ...

    def maintain(self, now: int) -> None:
        """Housekeeping: archiving what is past its retention at instant ``now``."""
        ...

    def close(self) -> None:
        """Flush and release the journal."""
        ...
