"""A virtualisation host that lives in a recorded trace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from forestall.model.decision import Action, Outcome, Result
from forestall.model.errors import HypervisorError
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, IntArray, Observation, Trace
from forestall.ports.clock import Clock
from forestall.ports.hypervisor import Capability, EventKind, Inventory, VmEvent, VmProcess, VmSettings
from forestall.ports.traffic import Taps

_AT_ONCE = Capability(step=0.0, lead_seconds=0.0)


@dataclass(frozen=True)
class _Move:
    """From ``effective_at`` on, ``amount`` is in force; None: what was recorded."""

    effective_at: float
    amount: float | None


class SimulatedHost:
    """A :class:`~forestall.ports.hypervisor.Hypervisor` over a trace, in the time of a clock.

    A VM runs from its first sample to the end of its last. It holds its recorded limit until an action sets
    something else; an amount is rounded up to the actuator's step and in force after its lead time.

    Parameters
    ----------
    trace
        What the VMs demand.
    clock
        Tells which interval of the trace it is.
    inventory
        What the host has; a resource that is not in it has no bound.
    capabilities
        What can be moved, by resource; by default all of it, exactly and at once.
    capped
        Whether a VM is seen to use at most what was in force (its mean over the interval), as on a real
        host; otherwise its whole demand is seen.
    """

    def __init__(
        self,
        trace: Trace,
        clock: Clock,
        *,
        inventory: Mapping[Resource, Inventory] | None = None,
        capabilities: Mapping[Resource, Capability] | None = None,
        capped: bool = True,
    ) -> None:
        self._trace, self._clock, self._capped = trace, clock, capped
        self._inventory = dict(inventory or {})
        self._capabilities = dict.fromkeys(trace.resources, _AT_ONCE) | dict(capabilities or {})
        self._column = {vm_id: j for j, vm_id in enumerate(trace.vm_ids)}
        self._limit = {r: trace.known_limit(r) for r in trace.resources}
        self._first, self._last = trace.first_seen(), _last_seen(trace)
        self._moves: dict[tuple[str, Resource], list[_Move]] = {}
        self._failures: list[str] = []
        self._pending: list[tuple[Action, float]] = []
        self._known_running: set[str] | None = None
        self._lost = ""

    def vm_ids(self) -> tuple[str, ...]:
        """VMs that run in the interval in progress, in the order of the trace."""
        self._reach()
        return tuple(vm_id for vm_id in self._trace.vm_ids if self._runs(vm_id))

    def resources(self) -> tuple[Resource, ...]:
        """Resources of the trace: axis 1 of an observation's arrays."""
        return self._trace.resources

    def capabilities(self, vm_id: str) -> Mapping[Resource, Capability]:
        """What can be moved on a VM."""
        self._reach()
        self._require(vm_id)
        return {r: self._capabilities[r] for r in self._trace.resources}

    def inventory(self) -> Mapping[Resource, Inventory]:
        """What the host was said to have."""
        self._reach()
        return dict(self._inventory)

    def observe(self) -> Observation:
        """Row of the last whole interval; before the first one, an observation without VMs.

        Raises
        ------
        HypervisorError
            The trace has ended, or contact is lost.
        """
        self._reach()
        i = self._position() - 1
        if i >= self._trace.grid.steps:
            raise HypervisorError(f"the trace ended at {self._trace.grid.at(self._trace.grid.steps)}")
        known = int(np.searchsorted(self._first, i, side="right")) if i >= 0 else 0
        demand, limit = np.full((2, known, len(self.resources())), np.nan)
        for k, resource in enumerate(self.resources() if known else ()):
            demand[:, k] = self._trace.demand[resource][i, :known]
            limit[:, k] = self._limit[resource][i, :known]
            if self._capped:
                cap = self._mean_held(resource, i, known)
                demand[:, k] = np.where(demand[:, k] > cap, cap, demand[:, k])
        return Observation(self._trace.grid.at(i), self._trace.vm_ids[:known], demand, limit)

    def guest_addresses(self) -> Mapping[str, str]:
        """Nothing runs inside."""
        return {}

    def taps(self) -> Mapping[str, Taps]:
        """Nothing to hear."""
        return {}

    def processes(self) -> Mapping[str, VmProcess]:
        """None: they live in a trace."""
        return {}

    def in_force(self, vm_id: str) -> Mapping[Resource, float]:
        """Allocation of a VM at this moment."""
        self._reach()
        self._require(vm_id)
        return {r: self._at(vm_id, r, self._clock.now()) for r in self._trace.resources}

    def apply(self, actions: Sequence[Action]) -> list[Outcome]:
        """Carry out actions one after the other.

        A raise is refused if all running VMs together would then hold more than the inventory allows, so
        what gives back should stand before what takes.
        """
        self._reach()
        promised: dict[Resource, float] = {}
        return [self._carry_out(action, promised) for action in actions]

    def follow_up(self) -> list[Outcome]:
        """Moves whose lead time has passed since the last call."""
        self._reach()
        now = self._clock.now()
        due = [action for action, at in self._pending if at <= now and self._runs(action.vm_id)]
        self._pending = [(action, at) for action, at in self._pending if at > now]
        return [Outcome(a, Result.DONE, self._at(a.vm_id, a.resource, now)) for a in due]

    def settings(self, vm_id: str) -> VmSettings:
        """What actions have set on a VM, by resource; what none has set is as recorded."""
        self._reach()
        self._require(vm_id)
        moved = {r: self._moves[vm_id, r][-1].amount for r in self._trace.resources if self._moves.get((vm_id, r))}
        set_to = {r.value: amount for r, amount in moved.items() if amount is not None}
        return VmSettings(vm_id, self._incarnation(vm_id), {"amounts": set_to})

    def put_back(self, settings: VmSettings) -> list[Outcome]:
        """Let a VM have what it had; the inventory is not asked, for it had it before."""
        self._reach()
        vm_id = settings.vm_id
        if not self._runs(vm_id) or settings.incarnation != self._incarnation(vm_id):
            return []
        wanted = {Resource(name): amount for name, amount in settings.values["amounts"].items()}
        outcomes = []
        for resource in self._trace.resources:
            moves = self._moves.get((vm_id, resource))
            if moves and (moves[-1].amount != wanted.get(resource) or moves[-1].effective_at > self._clock.now()):
                outcomes.append(self._return_to(vm_id, resource, wanted.get(resource)))
        return outcomes

    def events(self) -> list[VmEvent]:
        """VMs that came and went since the last call; the first call reports nothing."""
        self._reach()
        running, before = set(self.vm_ids()), self._known_running
        self._known_running = running
        if before is None:
            return []
        now = self._clock.now()
        changed = [(vm_id, EventKind.STOPPED) for vm_id in sorted(before - running)]
        changed += [(vm_id, EventKind.STARTED) for vm_id in sorted(running - before)]
        return [VmEvent(vm_id, kind, now) for vm_id, kind in changed]

    def close(self) -> None:
        """Nothing to let go of."""

    def fail_next(self, count: int = 1, reason: str = "injected failure") -> None:
        """Let the next ``count`` actions that are not refused fail."""
        self._failures += [reason] * count

    def lose_contact(self, reason: str = "connection lost") -> None:
        """Let every call fail from now on."""
        self._lost = reason

    def regain_contact(self) -> None:
        """Answer again."""
        self._lost = ""

    def _reach(self) -> None:
        if self._lost:
            raise HypervisorError(self._lost)

    def _position(self) -> int:
        """Interval of the trace that is in progress; may lie outside the trace."""
        grid = self._trace.grid
        return int((self._clock.now() - grid.start) // grid.step_seconds)

    def _runs(self, vm_id: str) -> bool:
        j = self._column.get(vm_id)
        return j is not None and bool(self._first[j] <= self._position() <= self._last[j])

    def _require(self, vm_id: str) -> None:
        if not self._runs(vm_id):
            raise HypervisorError(f"no VM named {vm_id!r} runs here")

    def _recorded(self, vm_id: str, resource: Resource, instant: float) -> float:
        grid = self._trace.grid
        i = min(max(int((instant - grid.start) // grid.step_seconds), 0), grid.steps - 1)
        return float(self._limit[resource][i, self._column[vm_id]])

    def _at(self, vm_id: str, resource: Resource, instant: float) -> float:
        """Amount in force at an instant."""
        for move in reversed(self._moves.get((vm_id, resource), [])):
            if move.effective_at <= instant:
                return self._amount(move, vm_id, resource, instant)
        return self._recorded(vm_id, resource, instant)

    def _target(self, vm_id: str, resource: Resource) -> float:
        """Amount that is in force once every move has had its effect."""
        moves = self._moves.get((vm_id, resource))
        now = self._clock.now()
        return self._amount(moves[-1], vm_id, resource, now) if moves else self._recorded(vm_id, resource, now)

    def _amount(self, move: _Move, vm_id: str, resource: Resource, instant: float) -> float:
        return self._recorded(vm_id, resource, instant) if move.amount is None else move.amount

    def _incarnation(self, vm_id: str) -> str:
        """A VM of a trace runs once, from its first sample."""
        return f"{vm_id}@{self._trace.grid.at(int(self._first[self._column[vm_id]]))}"

    def _return_to(self, vm_id: str, resource: Resource, amount: float | None) -> Outcome:
        now, lead = self._clock.now(), self._capabilities[resource].lead_seconds
        target = self._recorded(vm_id, resource, now) if amount is None else amount
        action = Action(vm_id, resource, target)
        if self._failures:
            return Outcome(action, Result.FAILED, self._at(vm_id, resource, now), self._failures.pop(0))
        moves = self._moves[vm_id, resource]
        if moves[-1].amount != amount:
            moves.append(_Move(now + lead, amount))
        self._forget(moves, now)
        at, held = moves[-1].effective_at, self._at(vm_id, resource, now)
        if at <= now:
            return Outcome(action, Result.DONE, held)
        return Outcome(action, Result.PENDING, held, f"takes effect at {at:g}")

    def _mean_held(self, resource: Resource, i: int, known: int) -> FloatArray:
        """Mean amount (vm,) that was in force over interval ``i``; NaN where none is known."""
        start, end = self._trace.grid.at(i), self._trace.grid.at(i + 1)
        mean = self._limit[resource][i, :known].copy()
        for j, vm_id in enumerate(self._trace.vm_ids[:known]):
            if moves := self._moves.get((vm_id, resource)):
                edges = [start, *(m.effective_at for m in moves if start < m.effective_at < end), end]
                mean[j] = sum(self._at(vm_id, resource, a) * (b - a) for a, b in pairwise(edges))
                mean[j] /= end - start
        return mean

    def _carry_out(self, action: Action, promised: dict[Resource, float]) -> Outcome:
        vm_id, resource = action.vm_id, action.resource
        if reason := self._refusal(action, promised):
            known = self._runs(vm_id) and resource in self._trace.demand
            held = self._at(vm_id, resource, self._clock.now()) if known else None
            return Outcome(action, Result.REFUSED, held, reason)
        now, capability = self._clock.now(), self._capabilities[resource]
        if self._failures:
            return Outcome(action, Result.FAILED, self._at(vm_id, resource, now), self._failures.pop(0))
        amount = _rounded_up(action.amount, capability.step)
        if resource in promised:
            promised[resource] += amount - _number(self._target(vm_id, resource))
        moves = self._moves.setdefault((vm_id, resource), [])
        if not moves or moves[-1].amount != amount:
            moves.append(_Move(now + capability.lead_seconds, amount))
        self._forget(moves, now)
        held = self._at(vm_id, resource, now)
        if held == amount:
            return Outcome(action, Result.DONE, held)
        self._pending.append((action, moves[-1].effective_at))
        return Outcome(action, Result.PENDING, held, f"takes effect at {moves[-1].effective_at:g}")

    def _refusal(self, action: Action, promised: dict[Resource, float]) -> str:
        """Why an action cannot be carried out; empty if it can."""
        resource, amount = action.resource, action.amount
        if not self._runs(action.vm_id):
            return f"no VM named {action.vm_id!r} runs here"
        if resource not in self._trace.demand:
            return f"{resource} is not known here"
        if refusal := self._capabilities[resource].refusal:
            return refusal
        if not amount >= 0:
            return f"{amount:g} {resource.unit} is not an amount"
        if resource not in self._inventory:
            return ""
        if resource not in promised:
            promised[resource] = sum(_number(self._target(v, resource)) for v in self.vm_ids())
        capacity, target = self._inventory[resource].capacity, _number(self._target(action.vm_id, resource))
        total = promised[resource] - target + amount
        if amount > target and total > capacity * (1 + 1e-9):
            return f"above inventory: {total:g} of {capacity:g} {resource.unit} would be allocated"
        return ""

    def _set(self, vm_id: str, resource: Resource, amount: float | None) -> None:
        """Somebody else has set ``amount`` (None: what was recorded), unless that is so already."""
        moves = self._moves.get((vm_id, resource))
        if (moves[-1].amount if moves else None) != amount:
            self._moves.setdefault((vm_id, resource), []).append(_Move(self._clock.now(), amount))

    def _forget(self, moves: list[_Move], now: float) -> None:
        """Drop moves that were replaced before anything that can still be observed."""
        horizon = now - 2 * self._trace.grid.step_seconds
        while len(moves) > 1 and moves[1].effective_at <= horizon:
            del moves[0]


def _last_seen(trace: Trace) -> IntArray:
    """Position (vm,) of each VM's last sample of any resource; -1 where there is none."""
    seen = np.zeros((trace.grid.steps, len(trace.vm_ids)), dtype=bool)
    for values in trace.demand.values():
        seen |= ~np.isnan(values)
    return np.where(seen.any(axis=0), trace.grid.steps - 1 - seen[::-1].argmax(axis=0), -1).astype(np.int64)


def _rounded_up(amount: float, step: float) -> float:
    """Smallest multiple of ``step`` that is at least ``amount`` (but for rounding errors)."""
    return math.ceil(amount / step - 1e-9) * step if step > 0 and math.isfinite(amount) else amount


def _number(amount: float) -> float:
    """An amount that is not known counts as nothing."""
    return 0.0 if math.isnan(amount) else amount
