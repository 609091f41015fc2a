"""From a proposal to an outcome: what a loop wants, what the arbiter allows, what was done, and why.

``Proposal -> Verdict (accepted, clipped or rejected, each with a reason) -> Action -> Outcome``. All are
frozen values; an action says "set to X", so that repeating it is harmless.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from forestall.model.resources import Resource


class Ruling(StrEnum):
    """What became of a proposal."""

    ACCEPTED = "accepted"
    CLIPPED = "clipped"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Proposal:
    """What a loop wants for one VM and resource.

    ``desired`` and ``observed`` (what is in force now) are in the resource's unit.
    """

    vm_id: str
    resource: Resource
    desired: float
    observed: float
    reason: str


@dataclass(frozen=True)
class Verdict:
    """The arbiter's answer to a proposal; ``granted`` is in the resource's unit."""

    proposal: Proposal
    ruling: Ruling
    granted: float
    reason: str


@dataclass(frozen=True)
class Action:
    """An instruction to the hypervisor: set ``resource`` of ``vm_id`` to ``amount``; safe to repeat."""

    vm_id: str
    resource: Resource
    amount: float


class Result(StrEnum):
    """How an action ended."""

    DONE = "done"
    PENDING = "pending"
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(frozen=True)
class Outcome:
    """What became of an action: ``read_back`` is what the hypervisor says is in force afterwards.

    ``at`` is when it was recorded, seconds; None before.
    """

    action: Action
    result: Result
    read_back: float | None
    reason: str = ""
    at: int | None = None


@dataclass(frozen=True)
class Restoration:
    """A VM was set as it had been before it was ever changed: at which instant (seconds), and why."""

    vm_id: str
    at: int
    why: str


@dataclass(frozen=True)
class Aftermath:
    """What was last done about one resource of a VM, and whether all of the VM was put back since; None: never."""

    outcome: Outcome | None = None
    restored: Restoration | None = None


@dataclass(frozen=True)
class Lease:
    """A grant that expires: at ``expires_at`` (seconds) the VM falls back to ``fallback``."""

    vm_id: str
    resource: Resource
    amount: float
    granted_at: int
    expires_at: int
    fallback: float

    def in_force(self, now: int) -> float:
        """Amount that holds at instant ``now``."""
        return self.amount if self.granted_at <= now < self.expires_at else self.fallback


@dataclass(frozen=True)
class Decision:
    """One decision with everything that led to it; the unit of the journal and of ``explain``.

    Attributes
    ----------
    decided_at
        Start of the last interval whose samples were used, seconds.
    in_force_at
        Start of the interval from which the allocation holds, seconds.
    allocated, previous, limit
        In the resource's unit.
    granted
        What the arbiter let through of it, in the resource's unit; NaN in a replay, which has no arbiter.
    quantiles
        Pairs (level, value) of the forecast that was used.
    risk
        Probability that demand exceeds ``limit`` within the horizon.
    probability
        Chance of falling short that the VM's promise allows at this moment.
    wanted
        What a pool without an end would give: the quantile at ``probability``, or what is held.
    price
        λ: the weighted probability of falling short that every VM between floor and ceiling shares.
    weight, floor, ceiling, budget, policies
        What policy said, and the names of the rules that said it.
    experts
        Weight of each forecaster in the combination.
    ruling, reason
        What the arbiter did to the proposal, and why, in words.
    """

    vm_id: str
    resource: Resource
    decided_at: int
    in_force_at: int
    allocated: float
    previous: float
    limit: float
    quantiles: tuple[tuple[float, float], ...]
    risk: float
    probability: float
    wanted: float
    price: float
    weight: float
    floor: float
    ceiling: float
    budget: float
    ruling: Ruling
    reason: str
    policies: tuple[str, ...] = ()
    experts: dict[str, float] = field(default_factory=dict)
    granted: float = math.nan

    def as_record(self) -> dict[str, Any]:
        """The decision as plain values, for a table: the quantiles in two lists, ``levels`` and ``quantiles``."""
        record = {field.name: getattr(self, field.name) for field in fields(self)}
        return record | {
            "resource": self.resource.value,
            "levels": [level for level, _ in self.quantiles],
            "quantiles": [value for _, value in self.quantiles],
            "experts": list(self.experts.items()),
            "ruling": self.ruling.value,
            "policies": list(self.policies),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Decision:
        """The inverse of :meth:`as_record`; what else the record holds is left out. Old ones have no ``granted``."""
        values = {field.name: record[field.name] for field in fields(cls) if field.name != "granted"}
        granted = record.get("granted")
        values["granted"] = math.nan if granted is None else granted
        return cls(
            **values
            | {
                "resource": Resource(record["resource"]),
                "quantiles": tuple(zip(record["levels"], record["quantiles"], strict=True)),
                "experts": dict(record["experts"]),
                "ruling": Ruling(record["ruling"]),
                "policies": tuple(record["policies"]),
            }
        )
