"""From a plan to verdicts: every VM's claim to one resource is put before the arbiter, and the pool is kept whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from forestall.demand.arbiter import Arbiter, Standing, fit, reject
from forestall.demand.explain import decision_of
from forestall.demand.looking import Sight
from forestall.demand.planning import Plan
from forestall.demand.settings import DemandSettings
from forestall.model.decision import Decision, Proposal, Ruling, Verdict
from forestall.model.mode import Mode

ModeOf = Callable[[str], tuple[Mode, str]]
"""Mode that holds for a VM now, and why it is not the one that was asked for."""


@dataclass(frozen=True)
class Ruled:
    """One VM and resource: what the loop decided, what the arbiter made of it."""

    decision: Decision
    verdict: Verdict
    step: float

    @property
    def moves(self) -> bool:
        """Whether something is to be changed."""
        return self.verdict.ruling is not Ruling.REJECTED and self.verdict.granted != self.verdict.proposal.observed

    @cached_property
    def recorded(self) -> Decision:
        """The decision as the journal wants it: with the ruling, and the reasons of both."""
        verdict = self.verdict
        ruling = self.decision.ruling if verdict.ruling is Ruling.ACCEPTED else verdict.ruling
        reason = f"{self.decision.reason}; arbiter: {verdict.reason}"
        return replace(self.decision, granted=verdict.granted, ruling=ruling, reason=reason)


def rule_all(arbiter: Arbiter, plan: Plan, sight: Sight, mode_of: ModeOf, settings: DemandSettings) -> list[Ruled]:
    """Rule on one resource of every VM that runs, and fit what may be changed into the pool."""
    ruled = [
        _rule(arbiter, plan, sight, j, vm_id, mode_of, settings)
        for j, vm_id in enumerate(plan.vm_ids)
        if plan.running[j] and vm_id in sight.held
    ]
    return refit(ruled, plan.capacity)


def refit(ruled: Sequence[Ruled], capacity: float) -> list[Ruled]:
    """Cut raises of one resource to what the pool has left.

    A VM that may not be changed counts with what the loop would give it, at most with what is in force: that others
    hold more than they need must not starve those that are acted on.
    """
    open_to_change = [r.verdict for r in ruled if r.verdict.ruling is not Ruling.REJECTED]
    counted = sum(
        float(np.fmin(r.decision.allocated, r.verdict.proposal.observed))
        for r in ruled
        if r.verdict.ruling is Ruling.REJECTED and np.isfinite(r.decision.allocated)
    )
    step = max((r.step for r in ruled), default=0.0)
    fitted = iter(fit(open_to_change, capacity, counted, step))
    return [r if r.verdict.ruling is Ruling.REJECTED else replace(r, verdict=next(fitted)) for r in ruled]


def take_back(ruled: Sequence[Ruled], reasons: Mapping[str, str]) -> list[Ruled]:
    """Reject the moves of VMs for which there is now a reason not to change them."""
    verdicts = reject([r.verdict for r in ruled], reasons)
    return [replace(r, verdict=v) for r, v in zip(ruled, verdicts, strict=True)]


def _rule(
    arbiter: Arbiter, plan: Plan, sight: Sight, j: int, vm_id: str, mode_of: ModeOf, settings: DemandSettings
) -> Ruled:
    decision = decision_of(
        plan.cycle,
        j,
        vm_id,
        plan.resource,
        settings,
        trust=dict(zip(plan.experts, plan.trust[:, j].tolist(), strict=True)),
        policies=plan.names[j] if plan.names else (),
    )
    if plan.capped[j]:
        decision = replace(decision, reason=f"seen at its cap: taken to need more; {decision.reason}")
    if plan.anomalies[j]:
        decision = replace(decision, reason=f"behaves anomalously ({plan.anomalies[j]}); {decision.reason}")
    capability = sight.capabilities.get(vm_id, {}).get(plan.resource)
    mode, why = mode_of(vm_id)
    limit = float(plan.cycle.limit[j])
    standing = Standing(
        mode=mode,
        limit=np.inf if np.isnan(limit) else limit,
        floor=float(plan.cycle.conditions.floor[j]),
        demand=float(plan.demand[j]),
        cold=bool(plan.cycle.cold[j]),
        sampled=not np.isnan(plan.seen[j]),
        capability=capability,
        why=why,
    )
    proposal = Proposal(vm_id, plan.resource, decision.allocated, float(plan.held[j]), decision.reason)
    return Ruled(decision, arbiter.rule(proposal, standing), capability.step if capability else 0.0)
