"""The decision core of the demand loop, one resource for all VMs: learn, forecast, state risk, allocate.

No I/O, no clock, no threads: a step takes an observation and what policy and pools say about it, and returns what was
decided. Replay and live run this same code.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from forestall.demand.holding import Holding
from forestall.demand.joint import JointRisk
from forestall.demand.risk import RiskModel
from forestall.demand.settings import DemandSettings, peak_within
from forestall.learning.learner import Learner, LearnerSettings
from forestall.learning.pacing import Pace, Pacer
from forestall.learning.waterfill import Claims, water_fill
from forestall.model.forecast import exceedance
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.profiling.window import Window, retained

VIOLATION_TOLERANCE = 1e-9
USED_HOURS = 2
"""What a VM used in so many hours it holds at least while it runs short too often."""
ROUNDING = 1.0 + 1e-4
"""Samples are kept as float32; an allocation is rounded up by more than they were rounded down."""


@dataclass(frozen=True)
class Conditions:
    """What policy and pools say at one step, arrays (vm,) or as given.

    Attributes
    ----------
    weight, floor, ceiling
        Arrays (vm,) in the resource's unit; ``ceiling`` is inf where nothing limits a VM.
    budget
        Array (budget, vm): violation budget of each VM.
    host_of_vm
        Array (vm,): index of each VM's pool.
    capacity
        Array (host,): what each pool has; inf without an end.
    """

    weight: FloatArray
    floor: FloatArray
    ceiling: FloatArray
    budget: FloatArray
    host_of_vm: IntArray
    capacity: FloatArray

    @classmethod
    def default(cls, limit: FloatArray, budgets: tuple[float, ...]) -> Conditions:
        """Equal weights, no floor, the limit as ceiling, one pool without an end."""
        vms = len(limit)
        return cls(
            weight=np.ones(vms),
            floor=np.zeros(vms),
            ceiling=np.where(np.isnan(limit), np.inf, limit),
            budget=np.repeat(np.asarray(budgets)[:, None], vms, axis=1),
            host_of_vm=np.zeros(vms, np.int64),
            capacity=np.array([np.inf]),
        )


@dataclass(frozen=True)
class Cycle:
    """Everything that one step decided, and why. NaN where nothing is known of a VM.

    Attributes
    ----------
    at
        Start of the newest interval, seconds.
    allocated, previous
        Arrays (budget, vm): what is in force from ``lead_steps`` later, and what was before.
    needed
        Array (budget, vm): the quantile that each VM's promise asks for now, within floor and ceiling.
    wanted
        Array (budget, vm): what each VM would get from a pool without an end: ``needed``, or what it holds.
    probability
        Array (budget, vm): chance of falling short that its promise allows now.
    price
        Array (budget, host): λ of each pool; 0 where there is room.
    quantiles
        Array (target, vm, level): the calibrated forecast; it ends where nothing more can come.
    decided
        Array (vm, level): what was decided on: the forecast of the interval in force, filled in for cold VMs.
    floor
        Array (budget, vm): the least that each VM gets: its floor, cut where the floors of a pool do not fit.
    limit
        Array (vm,): what each VM is provisioned with.
    risk
        Array (horizon, ratio, vm): probability that demand exceeds ``ratio`` times the limit within the horizon.
    overload
        Array (host,): probability that the VMs of a host together demand more than it has.
    cold
        Array (vm,): VMs that count at their limit because too little is known of them.
    burning
        Array (budget, vm): VMs that ran short far too often in the last hour, and hold at least what they used of late.
    conditions
        What policy and pools said.
    """

    at: int
    allocated: FloatArray
    previous: FloatArray
    needed: FloatArray
    wanted: FloatArray
    probability: FloatArray
    price: FloatArray
    quantiles: FloatArray
    decided: FloatArray
    floor: FloatArray
    limit: FloatArray
    risk: FloatArray
    overload: FloatArray
    cold: BoolArray
    burning: BoolArray
    conditions: Conditions


class DemandLoop:
    """The demand loop of one resource.

    Parameters
    ----------
    resource
        Resource that is decided about.
    settings
        How.
    beside
        Windows of other resources of the same VMs, filled by their owners before each step.
    """

    def __init__(
        self, resource: Resource, settings: DemandSettings, beside: Mapping[Resource, Window] | None = None
    ) -> None:
        self.resource = resource
        self.settings = settings
        self.learner = Learner(
            resource,
            settings.step_seconds,
            LearnerSettings(
                settings.targets,
                settings.boosted_targets,
                settings.levels,
                settings.boosted,
                settings.statistical,
                settings.statistical_series,
                settings.recurrent,
                settings.without,
            ),
            beside,
        )
        budgets = len(settings.budgets)
        self._levels = np.asarray(settings.levels)
        self._pacer = Pacer(budgets, settings.levels, settings.pacing, self.learner.window.hour)
        self._holding = Holding(budgets, settings.step_seconds, settings.holding)
        self._joint = JointRisk()
        self._risks = {
            (h, ratio): RiskModel(h, self.learner.window.day, self.learner.past.trust)
            for h in settings.horizon_steps
            for ratio in settings.limit_ratios
        }
        self._in_force: deque[tuple[FloatArray, FloatArray]] = deque(maxlen=settings.lead_steps)
        self._forecast: deque[tuple[FloatArray, FloatArray]] = deque(maxlen=settings.lead_steps)
        self._allocated: FloatArray = np.full((budgets, 0), np.nan)

    def take_in(self, demand: FloatArray, limit: FloatArray, now: int) -> None:
        """Take in a step, before :meth:`absorb` or :meth:`decide`; arguments as in :meth:`decide`.

        Of several resources of the same VMs each takes its step in before the first is decided on.
        """
        self.learner.take_in(demand, limit, now)

    def absorb(self, now: int) -> None:
        """Learn from the step that was taken in, as history: without deciding anything."""
        self.learner.absorb(now)

    def step(self, demand: FloatArray, limit: FloatArray, now: int, conditions: Conditions | None = None) -> Cycle:
        """Take in a step and decide; see :meth:`decide`."""
        self.take_in(demand, limit, now)
        return self.decide(demand, limit, now, conditions)

    def decide(self, demand: FloatArray, limit: FloatArray, now: int, conditions: Conditions | None = None) -> Cycle:
        """Learn from the newest interval, and decide what is in force ``lead_steps`` later.

        Parameters
        ----------
        demand, limit
            Arrays (vm,) in the resource's unit, as they were taken in; NaN demand is a gap, limit inf is none.
        now
            Start of the newest interval, seconds.
        conditions
            What policy and pools say; None: equal weights, no pool.
        """
        conditions = conditions or Conditions.default(limit, self.settings.budgets)
        self._learn(np.minimum(demand, conditions.ceiling), conditions.capacity)
        quantiles = self.learner.step(now)
        self._pacer.forget(self.learner.changed)
        decided = quantiles[self.settings.targets.index(self.settings.decided_target)]
        cold = self._cold(decided, limit)
        decided = self._filled(decided, conditions.ceiling, cold)
        new = len(demand) - self._allocated.shape[1]
        previous = np.pad(self._allocated, ((0, 0), (0, new)), constant_values=np.nan)
        needed, wanted, probability = self._wanted(decided, quantiles, conditions, cold)
        allocated, price, floor = self._share(decided, wanted, probability, conditions)
        self._allocated = allocated
        median, spread = self._centre(decided)
        self._forecast.append((median, spread))
        return Cycle(
            at=now,
            allocated=allocated,
            previous=previous,
            needed=needed,
            wanted=wanted,
            probability=probability,
            price=price,
            quantiles=np.minimum(quantiles, self.learner.most()[:, None]),
            decided=decided,
            floor=floor,
            limit=limit,
            risk=self._risk(quantiles, demand, limit),
            overload=self._joint.overload(
                median, spread, conditions.ceiling, conditions.host_of_vm, conditions.capacity
            ),
            cold=cold,
            burning=self._pacer.burning(len(demand)),
            conditions=conditions,
        )

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows`` (increasing), between two steps.

        The others keep their order, all that is known of them, and what they have in common.
        """
        self._pacer.keep(rows)
        self._holding.keep(rows)
        self._joint.keep(rows)
        for risk in self._risks.values():
            risk.keep(rows)
        lead = self.settings.lead_steps
        self._in_force = deque(((retained(a, rows, 1), retained(b, rows, 1)) for a, b in self._in_force), lead)
        self._forecast = deque(((retained(a, rows, 0), retained(b, rows, 0)) for a, b in self._forecast), lead)
        self._allocated = retained(self._allocated, rows, 1)
        self.learner.keep(rows)  # last, for the others ask it for trust groups

    def _learn(self, demand: FloatArray, capacity: FloatArray) -> None:
        """Feed what happened back to prices and, where pools have an end, to the joint errors."""
        if len(self._in_force) < self.settings.lead_steps:
            return
        held, budget = self._in_force[0]
        n = held.shape[1]
        observed = ~np.isnan(demand[:n])
        short = demand[:n] > held + VIOLATION_TOLERANCE
        self._pacer.learn(short, observed, budget, self.learner.unusual)
        if np.isfinite(capacity).any():
            self._joint.learn(demand[: len(self._forecast[0][0])], *self._forecast[0])

    def _cold(self, decided: FloatArray, limit: FloatArray) -> BoolArray:
        young = (self.learner.window.seen < self.settings.cold_steps) & np.isfinite(limit)
        return young | np.isnan(decided).any(axis=1)

    def _filled(self, decided: FloatArray, ceiling: FloatArray, cold: BoolArray) -> FloatArray:
        """Cold VMs may want anything up to their limit; without one, twice what they were last seen to use."""
        most = np.where(np.isfinite(ceiling), ceiling, 2.0 * self.learner.window.last + self.learner.window.floor)
        return np.where(cold[:, None], most[:, None] * np.minimum(1.0, self._levels / self._levels[0]), decided)

    def _wanted(
        self, decided: FloatArray, quantiles: FloatArray, conditions: Conditions, cold: BoolArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """What each VM needs, what it gets from a pool without an end, and the chance of falling short (budget, vm)."""
        scale = self.learner.window.scale()
        # A heavier VM keeps a stricter promise; a lighter one keeps its own.
        budget = conditions.budget / np.maximum(conditions.weight, 1.0)
        used = self.learner.window.peak(USED_HOURS).astype(np.float64)
        pace = self._pacer.choose(decided, budget, scale, conditions.ceiling, used=used)
        lasting = self._lasting(quantiles, budget, scale, conditions, cold) or pace
        needed = np.maximum(np.minimum(pace.amount * ROUNDING, conditions.ceiling), conditions.floor)
        enough = np.maximum(lasting.amount * ROUNDING, conditions.floor)
        held = self._holding.settle(needed, enough, conditions.ceiling, conditions.floor)
        self._in_force.append((held, budget))
        return needed, held, pace.probability

    def _lasting(
        self, quantiles: FloatArray, budget: FloatArray, scale: FloatArray, conditions: Conditions, cold: BoolArray
    ) -> Pace | None:
        target = self.settings.lasting_target
        if target is None:
            return None
        peak = self._filled(quantiles[self.settings.targets.index(target)], conditions.ceiling, cold)
        return self._pacer.choose(peak, budget, scale, conditions.ceiling, relax=self.settings.holding.relax)

    def _share(
        self, decided: FloatArray, wanted: FloatArray, probability: FloatArray, conditions: Conditions
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Share the pools (budget, vm), their prices (budget, host), and the floors that were kept (budget, vm)."""
        unknown = np.isnan(wanted)
        claimed = np.where(unknown, 0.0, wanted)
        known = np.where(np.isnan(decided), 0.0, decided)
        shares = [
            water_fill(
                Claims(known, self._levels, p, w, conditions.weight, np.minimum(conditions.floor, w)),
                conditions.host_of_vm,
                conditions.capacity,
            )
            for w, p in zip(claimed, probability, strict=True)
        ]
        amount = np.where(unknown, np.nan, np.stack([s.amount for s in shares]))
        return amount, np.stack([s.price for s in shares]), np.stack([s.floor for s in shares])

    def _centre(self, decided: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Median and spread (vm,) of the forecast, the units of joint errors."""
        middle = int(np.argmin(np.abs(self._levels - 0.5)))
        high = int(np.argmin(np.abs(self._levels - 0.95)))
        return decided[:, middle], np.maximum(decided[:, high] - decided[:, middle], self.learner.window.floor)

    def _risk(self, quantiles: FloatArray, demand: FloatArray, limit: FloatArray) -> FloatArray:
        """Risk (horizon, ratio, vm); NaN without a limit."""
        result = np.full((len(self.settings.horizon_steps), len(self.settings.limit_ratios), len(demand)), np.nan)
        if not np.isfinite(limit).any():
            return result
        seen = ~np.isnan(demand)
        for i, horizon in enumerate(self.settings.horizon_steps):
            peak = quantiles[self.settings.targets.index(peak_within(horizon))]
            for j, ratio in enumerate(self.settings.limit_ratios):
                first = exceedance(peak, self._levels, ratio * limit)
                above = demand > ratio * limit + VIOLATION_TOLERANCE
                result[i, j] = self._risks[horizon, ratio].step(first, above, seen)
        return np.where(np.isfinite(limit), result, np.nan)
