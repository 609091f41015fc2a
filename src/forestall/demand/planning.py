"""The decision cores of a running loop, one for each resource, fed with what a host was seen to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from forestall.demand.censoring import Uncensored, uncensor
from forestall.demand.conditions import RuleNames, conditions_of
from forestall.demand.core import Conditions, Cycle, DemandLoop
from forestall.demand.driver_settings import DriverSettings, Pool
from forestall.demand.looking import Sight
from forestall.demand.policy import PolicySet
from forestall.demand.roster import Roster
from forestall.demand.warming import Steady, warm
from forestall.demand.watching import Watching
from forestall.learning.recurrent.model import RecurrentModel
from forestall.learning.reliability import Reliability
from forestall.model.applications import CATEGORIES
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray, IntArray, Trace
from forestall.profiling.companions import Group
from forestall.profiling.window import Window, retained

MOST_READ_BYTES_PER_S = float(1 << 34)
"""What a VM may read whose reads are foreseen, unless a policy or its own limit says less: more than any disk gives."""
HERE, ELSEWHERE = 0, 1
"""Pools: the VMs that run here, and those that do not, which claim nothing of the host."""


@dataclass(frozen=True)
class Plan:
    """What was decided about one resource: the whole cycle, and what it was decided on, arrays (vm,) over ``vm_ids``.

    ``seen`` is what was observed, ``demand`` what it is taken to be, ``held`` what is in force. ``trust`` (expert, vm)
    says how far each expert is believed. ``names`` are those of the rules, ``running`` says which VMs are here,
    ``anomalies`` how each VM's anomaly looks, empty for none.
    """

    resource: Resource
    vm_ids: tuple[str, ...]
    cycle: Cycle
    seen: FloatArray
    demand: FloatArray
    capped: BoolArray
    held: FloatArray
    running: BoolArray
    trust: FloatArray
    experts: tuple[str, ...]
    names: RuleNames
    capacity: float
    anomalies: tuple[str, ...]


@dataclass(frozen=True)
class _Taken:
    """One resource of an observation, as the learner has taken it in; arrays (vm,)."""

    seen: FloatArray
    found: Uncensored
    held: FloatArray
    limit: FloatArray


class Planner:
    """Roster, decision cores and what is remembered of samples at the cap.

    Parameters
    ----------
    settings
        How.
    policies
        What the operator wants; None: nothing special.
    """

    def __init__(self, settings: DriverSettings, policies: PolicySet | None = None) -> None:
        self._settings = settings
        self.roster = Roster(settings.resources)
        windows: dict[Resource, Window] = {}
        self._loops = {r: DemandLoop(r, settings.demand, windows) for r in settings.resources}
        windows.update({r: loop.learner.window for r, loop in self._loops.items()})
        self.watching = Watching(settings.resources, settings.demand.step_seconds)
        self._at_cap: dict[Resource, IntArray] = {r: np.zeros(0, np.int64) for r in settings.resources}
        self._policies: dict[Resource, PolicySet | None] = {}
        self._last: dict[Resource, tuple[FloatArray, Conditions]] = {}
        self._away: IntArray = np.zeros(0, np.int64)
        self._recognised: dict[str, str] = {}
        self._reads_foreseen: frozenset[str] = frozenset()
        self.set_policies(policies)

    def set_policies(self, policies: PolicySet | None) -> None:
        """Take up other policies from the next cycle on."""
        self.stated = policies
        self._recognised = policies.recognising(self._recognised) if policies else {}
        self._take_up()

    def recognise(self, applications: Mapping[str, str]) -> dict[str, str]:
        """Let rules take VMs for what they were recognised as, where policies want that; which are taken so."""
        taken = self.stated.recognising(applications) if self.stated else {}
        if taken != self._recognised:
            self._recognised = taken
            self._take_up()
        return taken

    def foresee_reads(self, vm_ids: Iterable[str]) -> None:
        """VMs, and no others, that are about to read much: their reads are held back by policies only."""
        self._reads_foreseen = frozenset(vm_ids)

    def _take_up(self) -> None:
        # A copy for each resource: each remembers what it found out about the roster.
        policies = self.stated.tagged(self._recognised) if self.stated else None
        self._policies = {r: replace(policies) if policies else None for r in self._settings.resources}
        self._tagged: tuple[str, ...] | None = None

    def trust_groups(self, vm_ids: Sequence[str]) -> tuple[str, ...]:
        """Name of each VM's trust group; empty for those that are in none."""
        policies = next(iter(self._policies.values()), None)
        return policies.trust(tuple(vm_ids)) if policies else ("",) * len(vm_ids)

    def groups(self) -> dict[Resource, list[Group]]:
        """VMs that move together, by resource, as positions in the roster."""
        return {resource: loop.learner.past.companions.groups() for resource, loop in self._loops.items()}

    def time_experts(self, timer: Callable[[], float]) -> None:
        """Count what experts cost, by a clock that gives seconds."""
        for loop in self._loops.values():
            loop.learner.timer = timer

    def expert_seconds(self) -> dict[str, float]:
        """What each expert costs a step, by name, over all resources; the mean over the steps since the start."""
        total: dict[str, float] = {}
        for loop in self._loops.values():
            for name, seconds in loop.learner.seconds.items():
                total[name] = total.get(name, 0.0) + seconds / max(loop.learner.timed_steps, 1)
        return total

    def drifts(self) -> int:
        """How often forecasts of a resource have become worse for good."""
        return sum(loop.learner.drift.count for loop in self._loops.values())

    def reliability(self) -> dict[Resource, list[Reliability]]:
        """How reliable forecasts of each resource were, by target."""
        return {resource: loop.learner.reliability for resource, loop in self._loops.items()}

    def models(self) -> dict[Resource, RecurrentModel]:
        """The recurrent model of each resource that has one."""
        found = {r: loop.learner.recurrent.model for r, loop in self._loops.items() if loop.learner.recurrent}
        return {resource: model for resource, model in found.items() if model}

    def take_up(self, resource: Resource, model: RecurrentModel) -> None:
        """Forecast a resource with another model; see :meth:`Recurrent.take_up`."""
        recurrent = self._loops[resource].learner.recurrent
        if recurrent:
            recurrent.take_up(model)

    def _tag(self) -> None:
        """Tell forecasts which applications run where, and who may learn from whom.

        When the roster or the policies are other ones.
        """
        if self._tagged != self.roster.vm_ids:
            self._tagged = self.roster.vm_ids
            policies = self.stated or PolicySet()  # models are trained on what is stated, not on what is recognised
            for loop in self._loops.values():
                loop.learner.past.tags = policies.runs(self._tagged, CATEGORIES)
                loop.learner.past.trust.assign(policies.trust(self._tagged))

    @property
    def window_rows(self) -> int:
        """How many rows of history the cores can use."""
        windows = [loop.learner.window.capacity for loop in self._loops.values()]
        return min(self._settings.warming.most_rows, *windows)

    def warm(self, history: Trace, steady: Steady, usual: Trace | None = None) -> int:
        """Learn from history; how many rows. Only before the first step.

        ``usual`` is a longer and coarser history of the same VMs, of which only what is usual is learned.
        """
        self.roster.add(history.vm_ids)
        if usual is not None:
            self.watching.warm(usual, history.vm_ids, steady, self._settings.warming.most_seconds / 3)
        self._tag()
        running = np.ones(len(history.vm_ids), dtype=bool)

        def conditions(resource: Resource, limit: FloatArray, now: int) -> Conditions:
            # What is anomalous now was not in all of the past.
            return self._conditions(resource, limit, now, running, np.inf, anomalous=False)[0]

        return warm(self._loops, history, conditions, self._settings.warming, steady)

    def catch_up(self, missing: int, at: int) -> None:
        """Let intervals pass that nobody observed: ``missing`` of them before the one that starts at ``at``.

        A few are decided on, so that forecasts meet the samples they were made for; of many, most are only counted.
        """
        step = self._settings.demand.step_seconds
        capacity = max(loop.learner.window.capacity for loop in self._loops.values())
        for i in range(min(missing, capacity), 0, -1):
            gaps = {r: np.full(len(limit), np.nan) for r, (limit, _) in self._last.items()}
            for resource, (limit, _) in self._last.items():
                self._loops[resource].take_in(gaps[resource], limit, at - i * step)
            for resource, (limit, conditions) in self._last.items():
                if i > self._settings.most_caught_up_rows:
                    self._loops[resource].absorb(at - i * step)
                else:
                    self._loops[resource].decide(gaps[resource], limit, at - i * step, conditions)

    def retire(self, running: Iterable[str]) -> tuple[str, ...]:
        """Forget VMs that have not run for long, once they are many; which they are. To be called before each step.

        Without it, the arrays of a host where VMs come and go would grow for ever. What is known of the others stays.
        """
        here = self.roster.mask(running)
        self._away = np.where(here, 0, np.pad(self._away, (0, len(here) - len(self._away))) + 1)
        long_gone = self._away * self._settings.demand.step_seconds > self._settings.retire_seconds
        if np.count_nonzero(long_gone) < max(self._settings.retire_at_least, 1):
            return ()
        retired = tuple(self.roster.vm_ids[row] for row in np.flatnonzero(long_gone))
        self._keep(np.flatnonzero(~long_gone))
        return retired

    def _keep(self, rows: IntArray) -> None:
        self.roster.keep(rows)
        for loop in self._loops.values():
            loop.keep(rows)
        self.watching.keep(rows)
        self._at_cap = {resource: retained(in_a_row, rows, 0) for resource, in_a_row in self._at_cap.items()}
        self._away = retained(self._away, rows, 0)
        self._last = {}  # of VMs that are no longer all there; the step that follows has its own

    def step(self, sight: Sight) -> dict[Resource, Plan]:
        """Learn from one observation and decide, for each resource."""
        self.roster.add(sight.running)
        demand, limit = self.roster.lay(sight.seen, sight.axes)
        running = self.roster.mask(sight.running)
        self._tag()
        self.watching.step(demand, limit, sight.seen.at, self._ceilings(limit))
        # All resources are taken in before the first is decided on: forecasts look at the others too.
        seen = {
            resource: self._take_in(resource, sight, demand[:, k], limit[:, k])
            for k, resource in enumerate(self._settings.resources)
            if resource in sight.axes
        }
        return {resource: self._decide(resource, sight, taken, running) for resource, taken in seen.items()}

    def _ceilings(self, limit: FloatArray) -> FloatArray:
        """What VMs (vm, resource) never got more of in the last interval; their limit where nothing is known."""
        ceilings = limit.copy()
        for k, resource in enumerate(self._settings.resources):
            if resource in self._last:
                most = self._last[resource][1].ceiling
                ceilings[: len(most), k] = most
        return ceilings

    def _take_in(self, resource: Resource, sight: Sight, seen: FloatArray, limit: FloatArray) -> _Taken:
        held = sight.amounts(self.roster.vm_ids, resource)
        throttled = sight.throttling(self.roster.vm_ids, resource)
        found = uncensor(seen, held, limit, self._at_cap[resource], self._settings.censoring[resource], throttled)
        self._at_cap[resource] = found.in_a_row
        self._loops[resource].take_in(found.demand, limit, sight.seen.at)
        return _Taken(seen, found, held, limit)

    def _decide(self, resource: Resource, sight: Sight, taken: _Taken, running: BoolArray) -> Plan:
        loop, at, found, limit = self._loops[resource], sight.seen.at, taken.found, taken.limit
        inventory = sight.inventory.get(resource)
        pool = self._settings.pools.get(resource, Pool())
        capacity = np.inf if inventory is None else pool.of(inventory).capacity
        conditions, names = self._conditions(resource, limit, at, running, capacity)
        cycle = loop.decide(found.demand, limit, at, conditions)
        self._last[resource] = limit, conditions
        target = self._settings.demand.targets.index(self._settings.demand.decided_target)
        return Plan(
            resource=resource,
            vm_ids=self.roster.vm_ids,
            cycle=cycle,
            seen=taken.seen,
            demand=found.demand,
            capped=found.capped,
            held=taken.held,
            running=running,
            trust=loop.learner.weights()[target],
            experts=tuple(expert.name for expert in loop.learner.experts),
            names=names,
            capacity=capacity,
            anomalies=self.watching.kinds(),
        )

    def _conditions(
        self,
        resource: Resource,
        limit: FloatArray,
        now: int,
        running: BoolArray,
        capacity: float,
        *,
        anomalous: bool = True,
    ) -> tuple[Conditions, RuleNames]:
        floor = self._settings.arbiter.floor
        return conditions_of(
            self._policies[resource],
            self.roster.vm_ids[: len(limit)],
            resource,
            limit,
            now,
            budgets=self._settings.demand.budgets,
            host_of_vm=np.where(running, HERE, ELSEWHERE).astype(np.int64),
            capacity=np.array([capacity, np.inf]),
            least=np.array([floor(resource, float(amount)) for amount in limit], dtype=np.float64),
            anomalous=self.watching.anomalous(len(limit)) if anomalous else None,
            foreseen=self._foreseen(len(limit)) if resource is Resource.DISK_READ else None,
        )

    def _foreseen(self, vms: int) -> FloatArray:
        """What each VM of the roster may read because that is foreseen, array (vm,); 0 where it is not."""
        return np.where(self.roster.mask(self._reads_foreseen)[:vms], MOST_READ_BYTES_PER_S, 0.0)
