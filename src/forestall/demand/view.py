"""What a running loop says about itself: plain values for the command line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from forestall.demand.health import Health
from forestall.demand.planning import HERE, Plan
from forestall.demand.ruling import Ruled
from forestall.demand.settings import DemandSettings
from forestall.learning.reliability import Reliability
from forestall.model.decision import Decision
from forestall.model.forecast import Statistic, Target
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray
from forestall.profiling.companions import Group


@dataclass(frozen=True)
class VmView:
    """One VM and resource at the last cycle; amounts in the resource's unit, NaN where nothing is known.

    ``demand`` is as it is taken to be, ``seen`` as it was observed: they differ where the VM was seen at its cap.
    ``lease_left_seconds`` is None where nothing was changed.
    """

    vm_id: str
    resource: Resource
    seen: float
    demand: float
    in_force: float
    limit: float
    wanted: float
    quantiles: Mapping[str, float]
    risk: float
    mode: Mode
    altered: bool
    lease_left_seconds: float | None
    ruling: str
    reason: str


@dataclass(frozen=True)
class ForecastView:
    """What one resource of a VM was forecast to demand at the last cycle.

    ``issued_at`` is the start of the last interval whose samples were used, seconds. ``quantiles`` (target, level) are
    in the resource's unit; ``targets`` says of what each line is: the mean of the interval so many steps ahead, or the
    peak until then.
    """

    resource: Resource
    issued_at: int
    step_seconds: int
    levels: tuple[float, ...]
    targets: tuple[Target, ...]
    quantiles: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ReliabilityView:
    """How reliable forecasts of one resource and target were in the last days, all VMs together.

    ``shares`` (level,) says which share of the outcomes lay at or below each quantile as it was stated, NaN without
    any; ``outcomes`` how many they were, where what is older counts for less.
    """

    resource: Resource
    statistic: Statistic
    steps: int
    step_seconds: int
    outcomes: float
    levels: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class PoolView:
    """One resource of the host: what it has, what is in force and wanted in all, the price λ, and the joint risk."""

    resource: Resource
    capacity: float
    in_force: float
    demand: float
    allocated: float
    price: float
    overload: float


@dataclass(frozen=True)
class GroupView:
    """VMs that move together in a resource, the one that moves first at the front; how long after it each does."""

    resource: Resource
    vm_ids: tuple[str, ...]
    lag_seconds: tuple[int, ...]
    correlation: float


@dataclass(frozen=True)
class LoopView:
    """The loop as a whole; ``cycle_seconds`` is what the last cycle took, ``fault`` why nothing is changed.

    ``lead_seconds`` is how long each means of changing a VM takes, as measured; empty where nobody measures.
    ``anomalies`` says how the anomaly looks of each VM that has one, ``anomaly_scores`` how unusual it is and which
    resources cause it, ``expert_seconds`` what each expert costs a cycle, ``groups`` which VMs move together.
    """

    asked: Mode
    mode: Mode
    fault: str
    lost: str
    cycles: int
    last_at: int | None
    cycle_seconds: float
    vms: int
    altered: tuple[str, ...]
    kept_back: tuple[str, ...]
    lead_seconds: Mapping[str, float]
    pools: tuple[PoolView, ...]
    anomalies: Mapping[str, str]
    anomaly_scores: Mapping[str, str]
    expert_seconds: Mapping[str, float]
    groups: tuple[GroupView, ...]


SHOWN_LEVELS = (0.5, 0.95, 0.99)


def quantiles_of(decision: Decision) -> dict[str, float]:
    """The quantiles that people look at, by name: ``p50``, ``p95``, ``p99``."""
    values = dict(decision.quantiles)
    return {f"p{100 * level:g}": values[level] for level in SHOWN_LEVELS if level in values}


def vm_views(
    ruled: Mapping[Resource, Sequence[Ruled]],
    plans: Mapping[Resource, Plan],
    *,
    vm_ids: Collection[str] | None,
    altered: AbstractSet[str],
    mode_of: Callable[[str], Mode],
    lease_left: Callable[[str, Resource], float | None],
) -> list[VmView]:
    """One view for each VM and resource that was ruled on, by VM and then by resource; ``vm_ids``: of these only."""
    views = []
    for resource, mine in ruled.items():
        plan = plans[resource]
        place = {vm_id: j for j, vm_id in enumerate(plan.vm_ids)}
        for r in mine:
            decision, vm_id = r.recorded, r.decision.vm_id
            if vm_ids is not None and vm_id not in vm_ids:
                continue
            j = place[vm_id]
            views.append(
                VmView(
                    vm_id=vm_id,
                    resource=resource,
                    seen=float(plan.seen[j]),
                    demand=float(plan.demand[j]),
                    in_force=r.verdict.granted,
                    limit=decision.limit,
                    wanted=decision.allocated,
                    quantiles=quantiles_of(decision),
                    risk=decision.risk,
                    mode=mode_of(vm_id),
                    altered=vm_id in altered,
                    lease_left_seconds=lease_left(vm_id, resource),
                    ruling=decision.ruling.value,
                    reason=decision.reason,
                )
            )
    return sorted(views, key=lambda view: (view.vm_id, list(plans).index(view.resource)))


def forecast_views(plans: Mapping[Resource, Plan], settings: DemandSettings, vm_id: str) -> list[ForecastView]:
    """What each resource of a VM was forecast to demand at the last cycle; empty for one that was not looked at."""
    return [
        ForecastView(
            resource,
            plan.cycle.at,
            settings.step_seconds,
            settings.levels,
            settings.targets,
            tuple(tuple(line) for line in plan.cycle.quantiles[:, plan.vm_ids.index(vm_id)].tolist()),
        )
        for resource, plan in plans.items()
        if vm_id in plan.vm_ids
    ]


def reliability_views(
    found: Mapping[Resource, Sequence[Reliability]], settings: DemandSettings
) -> list[ReliabilityView]:
    """How reliable forecasts were, by resource and then by target."""
    return [
        ReliabilityView(
            resource,
            target.statistic,
            target.steps,
            settings.step_seconds,
            reliability.outcomes,
            settings.levels,
            tuple(reliability.shares().tolist()),
        )
        for resource, mine in found.items()
        for target, reliability in zip(settings.targets, mine, strict=True)
    ]


def group_views(
    groups: Mapping[Resource, Sequence[Group]], vm_ids: Sequence[str], step_seconds: int
) -> tuple[GroupView, ...]:
    """VMs that move together, by name: of each resource the largest group first."""
    return tuple(
        GroupView(
            resource,
            tuple(vm_ids[vm] for vm in group.vms.tolist()),
            tuple(step_seconds * lag for lag in group.lag.tolist()),
            group.correlation,
        )
        for resource, mine in groups.items()
        for group in mine
    )


def loop_view(
    *,
    asked: Mode,
    health: Health,
    lost: str,
    cycles: int,
    last_at: int | None,
    cycle_seconds: float,
    altered: tuple[str, ...],
    kept_back: tuple[str, ...],
    lead_seconds: Mapping[str, float],
    plans: Mapping[Resource, Plan],
    anomalies: Mapping[str, str],
    anomaly_scores: Mapping[str, str],
    expert_seconds: Mapping[str, float],
    groups: tuple[GroupView, ...],
) -> LoopView:
    """The loop as a whole, with the pools as of the last cycle."""
    vms = max((int(plan.running.sum()) for plan in plans.values()), default=0)
    return LoopView(
        asked=asked,
        mode=asked if health.sound else Mode.OBSERVE,
        fault=health.fault,
        lost=lost,
        cycles=cycles,
        last_at=last_at,
        cycle_seconds=cycle_seconds,
        vms=vms,
        altered=altered,
        kept_back=kept_back,
        lead_seconds=lead_seconds,
        pools=tuple(_pool_view(plan) for plan in plans.values()),
        anomalies=anomalies,
        anomaly_scores=anomaly_scores,
        groups=groups,
        expert_seconds=expert_seconds,
    )


def _pool_view(plan: Plan) -> PoolView:
    def total(amounts: FloatArray) -> float:
        return float(np.nansum(np.where(plan.running, amounts, 0.0)))

    return PoolView(
        resource=plan.resource,
        capacity=plan.capacity,
        in_force=total(plan.held),
        demand=total(plan.demand),
        allocated=total(plan.cycle.allocated[0]),
        price=float(plan.cycle.price[0, HERE]),
        overload=float(plan.cycle.overload[HERE]),
    )
