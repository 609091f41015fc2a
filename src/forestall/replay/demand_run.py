"""One resource of a trace through the demand loop, in virtual time.

Rows are counted by the decision: row j was decided after interval ``first + j`` and is in force in interval
``first + j + lead_steps``. Only what was known after an interval goes into its decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from forestall.demand.conditions import conditions_of
from forestall.demand.core import Conditions, Cycle, DemandLoop
from forestall.demand.policy import PolicySet
from forestall.demand.settings import DemandSettings
from forestall.learning.past import floor_of
from forestall.model.applications import CATEGORIES
from forestall.model.forecast import Target
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, Float32Array, FloatArray, Grid, IntArray
from forestall.profiling.window import Window
from forestall.replay.hosts import Placement

WARM_UP_DAYS = 10.0
Tick = Callable[[int], None]


@dataclass(frozen=True)
class ResourceTrace:
    """One resource of a trace: demand, and the limit as last known, arrays (time, vm).

    ``beside`` is the demand of the other resources, as it is learned from; ``active_users`` an array (time, vm).
    """

    resource: Resource
    grid: Grid
    vm_ids: tuple[str, ...]
    first_seen: IntArray
    demand: FloatArray
    limit: FloatArray
    beside: Mapping[Resource, Float32Array] = field(default_factory=dict)
    active_users: FloatArray | None = None


@dataclass(frozen=True)
class RunSettings:
    """What a replay of one resource needs to know beyond the trace.

    Attributes
    ----------
    evaluate_index
        First interval evaluated; what lies before is history.
    calendar
        Whether instants are real dates, so that windows of policies can match.
    anomalous
        Array (time, vm): which VMs behaved anomalously, as was known after each interval; None: nobody asks.
    keep_decisions
        Keep what is needed to explain each decision.
    """

    demand: DemandSettings
    evaluate_index: int
    placement: Placement = field(default_factory=Placement)
    policies: PolicySet | None = None
    calendar: bool = True
    anomalous: BoolArray | None = None
    keep_decisions: bool = False


@dataclass
class ResourceRun:
    """What was decided: arrays with one row for each decision, NaN where nothing is known of a VM.

    Attributes
    ----------
    first
        Interval after which row 0 was decided; -1 and less: rows in which nothing could be decided yet.
    allocated
        Array (budget, row, vm).
    quantiles
        Array (row, vm, level), float32: forecast of the mean of the interval in force.
    forecasts
        The same for other targets.
    risk
        Array (row, horizon, ratio, vm), float32.
    price, capacity, overload
        Arrays (budget, row, host), (row, host), (row, host).
    kept
        The whole cycles and the trust in experts (expert, vm), by row, if asked for.
    """

    trace: ResourceTrace
    settings: RunSettings
    first: int
    allocated: FloatArray
    quantiles: NDArray[np.float32]
    forecasts: dict[Target, NDArray[np.float32]]
    risk: NDArray[np.float32]
    price: FloatArray
    capacity: FloatArray
    overload: FloatArray
    experts: tuple[str, ...] = ()
    kept: list[tuple[Cycle, FloatArray, tuple[tuple[str, ...], ...]]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Number of decisions."""
        return int(self.allocated.shape[1])

    def in_force(self, budget: int) -> FloatArray:
        """Allocations (time, vm) of the evaluated intervals that the trace holds."""
        return self.allocated[budget, : self.trace.grid.steps - self.settings.evaluate_index]


def run_resource(trace: ResourceTrace, settings: RunSettings, tick: Tick = lambda steps: None) -> ResourceRun:
    """Replay one resource.

    Parameters
    ----------
    trace
        The resource's part of the trace.
    settings
        How, and from where on.
    tick
        Called now and then with the number of steps done since the last call.
    """
    demand = settings.demand
    beside = {other: Window(trace.grid.step_seconds, floor_of(other)) for other in trace.beside}
    loop = DemandLoop(trace.resource, demand, beside)
    if settings.policies:
        loop.learner.past.tags = settings.policies.runs(trace.vm_ids, CATEGORIES)
        loop.learner.past.trust.assign(settings.policies.trust(trace.vm_ids))
    run = _empty(trace, settings, tuple(e.name for e in loop.learner.experts))
    warm = max(run.first, 0) - round(WARM_UP_DAYS * loop.learner.window.day)
    # A VM that is switched off has no limit for a while; its host is no smaller for that.
    provisioned = np.fmax.accumulate(trace.limit, axis=0)
    known = np.searchsorted(trace.first_seen, np.arange(trace.grid.steps), side="right")
    for i in range(trace.grid.steps):
        n = int(known[i])
        seen, limit, now = trace.demand[i, :n], trace.limit[i, :n], trace.grid.at(i)
        for other, window in beside.items():
            window.push(trace.beside[other][i, :n].astype(np.float64), np.full(n, np.inf))
        if trace.active_users is not None:
            loop.learner.past.activity.observe(trace.active_users[i, :n])
        loop.take_in(seen, limit, now)
        if i < warm:
            loop.absorb(now)
        else:
            conditions, names = _conditions(trace, settings, limit, provisioned[i, :n], i)
            cycle = loop.decide(seen, limit, now, conditions)
            if i >= run.first:
                _record(run, i - run.first, cycle, loop, names)
        if (i + 1) % 32 == 0 or i + 1 == trace.grid.steps:
            tick((i % 32) + 1)
    return run


def _empty(trace: ResourceTrace, settings: RunSettings, experts: tuple[str, ...]) -> ResourceRun:
    demand = settings.demand
    first = settings.evaluate_index - demand.lead_steps
    rows, vms = trace.grid.steps - first, len(trace.vm_ids)
    hosts, budgets = len(settings.placement.names(vms)), len(demand.budgets)
    shape = (rows, len(demand.horizon_steps), len(demand.limit_ratios), vms)
    others = [t for t in demand.boosted_targets if t not in (demand.decided_target, demand.lasting_target)]
    return ResourceRun(
        trace=trace,
        settings=settings,
        first=first,
        allocated=np.full((budgets, rows, vms), np.nan),
        quantiles=np.full((rows, vms, len(demand.levels)), np.nan, np.float32),
        forecasts={t: np.full((rows, vms, len(demand.levels)), np.nan, np.float32) for t in others},
        risk=np.full(shape, np.nan, np.float32),
        price=np.zeros((budgets, rows, hosts)),
        capacity=np.full((rows, hosts), np.nan),
        overload=np.full((rows, hosts), np.nan),
        experts=experts,
    )


def _conditions(
    trace: ResourceTrace, settings: RunSettings, limit: FloatArray, provisioned: FloatArray, row: int
) -> tuple[Conditions, tuple[tuple[str, ...], ...]]:
    """What policy and pools say at this step, and the names of the rules behind it for each VM."""
    vm_ids = trace.vm_ids[: len(limit)]
    host_of_vm = settings.placement.host_of_vm(vm_ids)
    return conditions_of(
        settings.policies,
        vm_ids,
        trace.resource,
        limit,
        trace.grid.at(row),
        budgets=settings.demand.budgets,
        host_of_vm=host_of_vm,
        capacity=settings.placement.capacity(trace.resource, provisioned, host_of_vm),
        calendar=settings.calendar,
        anomalous=None if settings.anomalous is None else settings.anomalous[row, : len(limit)],
    )


def _record(run: ResourceRun, row: int, cycle: Cycle, loop: DemandLoop, names: tuple[tuple[str, ...], ...]) -> None:
    vms = cycle.allocated.shape[1]
    hosts = cycle.price.shape[1]
    targets = loop.settings.targets
    run.allocated[:, row, :vms] = cycle.allocated
    run.quantiles[row, :vms] = cycle.quantiles[targets.index(loop.settings.decided_target)]
    for target, kept in run.forecasts.items():
        kept[row, :vms] = cycle.quantiles[targets.index(target)]
    run.risk[row, :, :, :vms] = cycle.risk
    run.price[:, row, :hosts] = cycle.price
    run.capacity[row, :hosts] = cycle.conditions.capacity
    run.overload[row, :hosts] = cycle.overload
    if run.settings.keep_decisions:
        trust = loop.learner.weights()[targets.index(loop.settings.decided_target)]
        run.kept.append((cycle, trust, names))
