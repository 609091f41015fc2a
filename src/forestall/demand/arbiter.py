"""The arbiter: a loop proposes, the arbiter disposes, and says why.

``Proposal -> Verdict -> Action``. Each proposal is ruled on by itself (:meth:`Arbiter.rule`): may this VM be changed at
all, and within which bounds. Then the verdicts of a resource are fitted into its pool together (:func:`fit`), and
turned into actions, what gives back before what takes (:func:`actions_of`). Pure.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from forestall.demand.policy_matching import NameSet
from forestall.model.decision import Action, Proposal, Ruling, Verdict
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.ports.hypervisor import Capability

SMALLEST_MOVE_RATIO = 1e-3
"""Less than this share of what is in force is not a move; reading back rounds by as much."""
_SAME = 1e-9


@dataclass(frozen=True)
class ArbiterSettings:
    """What is never crossed.

    Attributes
    ----------
    canary_share
        Share of the VMs that are acted on in mode ``canary``; their names choose them.
    chosen
        Patterns of the names of VMs that may be acted on.
    floor_share, floor_cores, floor_bytes
        A VM keeps this share of its limit of CPU and memory, and this much, whatever is predicted.
    memory_shrink_share
        Share of its memory that a VM gives back in one cycle at most: a guest needs time to let go.
    memory_margin_share
        Memory is never set below what is used now by this share of it.
    """

    canary_share: float = 0.1
    chosen: tuple[str, ...] = ("*",)
    floor_share: float = 0.05
    floor_cores: float = 0.1
    floor_bytes: float = 128.0 * 1024 * 1024
    memory_shrink_share: float = 0.1
    memory_margin_share: float = 0.15

    def floor(self, resource: Resource, limit: float) -> float:
        """The least that a VM with ``limit`` keeps, in the resource's unit; never above the limit, which may be inf."""
        least = {Resource.CPU: self.floor_cores, Resource.MEMORY: self.floor_bytes}.get(resource)
        if least is None or math.isnan(limit):
            return 0.0
        share = self.floor_share * limit if math.isfinite(limit) else 0.0
        return min(max(share, least), limit)


@dataclass(frozen=True)
class Standing:
    """Where a VM stands with one resource when a proposal is ruled on.

    Attributes
    ----------
    mode
        That holds for this VM now.
    why
        Why it is not the one that was asked for; empty if it is.
    limit
        What the VM is provisioned with; inf: none.
    floor
        The policy's; the arbiter's own comes on top.
    demand
        What it needs now, in the resource's unit.
    cold
        Too little is known of it.
    sampled
        Whether the newest interval has a sample of it.
    capability
        What the hypervisor says that can be moved; None: nothing.
    """

    mode: Mode
    limit: float
    floor: float = 0.0
    demand: float = math.nan
    cold: bool = False
    sampled: bool = True
    capability: Capability | None = None
    why: str = ""


@dataclass
class Arbiter:
    """Rules on proposals.

    Parameters
    ----------
    settings
        What is never crossed.
    """

    settings: ArbiterSettings = field(default_factory=ArbiterSettings)

    def __post_init__(self) -> None:
        """Prepare the patterns."""
        self._chosen = NameSet(self.settings.chosen)

    def rule(self, proposal: Proposal, standing: Standing) -> Verdict:
        """Say what becomes of one proposal; what is granted is what is in force where it is rejected."""
        if refusal := self._refusal(proposal, standing):
            return Verdict(proposal, Ruling.REJECTED, proposal.observed, refusal)
        granted, reason = self._bounded(proposal, standing)
        if standing.mode is Mode.ADVISE or not (standing.mode is Mode.ENFORCE or self.is_canary(proposal.vm_id)):
            what = "advise" if standing.mode is Mode.ADVISE else "not a canary"
            advised = f"{what}: would be set to {granted:.6g}{f' ({reason})' if reason else ''}"
            return Verdict(proposal, Ruling.REJECTED, proposal.observed, advised)
        if _is_move(proposal.observed, granted, standing):
            ruling = Ruling.CLIPPED if reason else Ruling.ACCEPTED
            return Verdict(proposal, ruling, granted, reason or "set as proposed")
        same = "in force already" + (f" ({reason})" if reason else "")
        return Verdict(proposal, Ruling.ACCEPTED, proposal.observed, same)

    def may_act(self, vm_id: str, mode: Mode) -> bool:
        """Whether a VM may be changed in a mode."""
        return vm_id in self._chosen and (mode is Mode.ENFORCE or (mode is Mode.CANARY and self.is_canary(vm_id)))

    def is_canary(self, vm_id: str) -> bool:
        """Whether a VM is among the canaries: the hash of its name falls into the share, wherever and whenever."""
        digest = hashlib.sha256(vm_id.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") < self.settings.canary_share * 2.0**64

    def _refusal(self, proposal: Proposal, standing: Standing) -> str:
        """Why nothing can be changed at all; empty if something can."""
        if standing.mode is Mode.OBSERVE:
            return f"observe: {standing.why or 'as asked for'}"
        if proposal.vm_id not in self._chosen:
            return "not among the chosen VMs"
        if standing.capability is None:
            return f"{proposal.resource} cannot be moved on this VM"
        if standing.capability.refusal:
            return standing.capability.refusal
        if not math.isfinite(proposal.desired) or math.isnan(proposal.observed):
            return "nothing is known of it yet"
        if standing.cold:
            return "seen too short a time: stays as it is"
        if not standing.sampled:
            return "no sample of the newest interval: stays as it is"
        return ""

    def _bounded(self, proposal: Proposal, standing: Standing) -> tuple[float, str]:
        """Bring what is desired between the bounds: the amount, and which bound held it; empty if none did."""
        resource, desired, observed = proposal.resource, proposal.desired, proposal.observed
        floor = max(standing.floor, self.settings.floor(resource, standing.limit))
        bounds = [(floor, "the floor")]
        if resource is Resource.MEMORY:
            used = 0.0 if math.isnan(standing.demand) else standing.demand
            bounds.append((used * (1 + self.settings.memory_margin_share), "what is used now and a margin"))
            bounds.append((observed * (1 - self.settings.memory_shrink_share), "gives back in several bites"))
        least, why = max(bounds)
        granted, reason = (least, why) if desired < least * (1 - _SAME) else (desired, "")
        step = standing.capability.step if standing.capability else 0.0
        granted = _rounded_up(granted, step)
        if granted > standing.limit:
            reason = reason if desired <= standing.limit else "the limit"
            granted = standing.limit
        return granted, reason


def fit(verdicts: Sequence[Verdict], capacity: float, counted: float = 0.0, step: float = 0.0) -> list[Verdict]:
    """Cut raises of one resource to what the pool has left; nobody is lowered by it.

    Parameters
    ----------
    verdicts
        Of one resource: the VMs that may be changed.
    capacity
        What the pool has; inf without an end.
    counted
        What the other VMs of the pool, which are not changed, are counted with.
    step
        Smallest move: what is cut is rounded down to it.

    Returns
    -------
    list of Verdict
        In the same order. With ``counted`` their sum is at most the capacity, or at most what is in force now.
    """
    total = counted + sum(_number(v.granted) for v in verdicts)
    rises = [max(_number(v.granted) - _number(v.proposal.observed), 0.0) for v in verdicts]
    excess = total - capacity
    if not excess > capacity * _SAME or not sum(rises) > 0:
        return list(verdicts)
    share = max(1.0 - excess / sum(rises), 0.0)
    return [_cut(v, rise, share, step) if rise > 0 else v for v, rise in zip(verdicts, rises, strict=True)]


def actions_of(verdicts: Sequence[Verdict]) -> tuple[list[Action], list[Action]]:
    """What must be told to the hypervisor: what gives back, then what takes; nothing where nothing moves."""
    moves = [v for v in verdicts if v.ruling is not Ruling.REJECTED and v.granted != v.proposal.observed]
    backs = [v for v in moves if v.granted < v.proposal.observed]
    takes = [v for v in moves if not v.granted < v.proposal.observed]
    return [_action(v) for v in backs], [_action(v) for v in takes]


def reject(verdicts: Sequence[Verdict], reasons: Mapping[str, str]) -> list[Verdict]:
    """Take verdicts back for VMs for which there is now a reason not to change them."""
    return [
        replace(v, ruling=Ruling.REJECTED, granted=v.proposal.observed, reason=reasons[v.proposal.vm_id])
        if v.proposal.vm_id in reasons and v.granted != v.proposal.observed
        else v
        for v in verdicts
    ]


def _action(verdict: Verdict) -> Action:
    return Action(verdict.proposal.vm_id, verdict.proposal.resource, verdict.granted)


def _cut(verdict: Verdict, rise: float, share: float, step: float) -> Verdict:
    observed = verdict.proposal.observed
    left = rise * share
    if step > 0:
        left = math.floor(left / step + _SAME) * step
    granted = observed + left if left > SMALLEST_MOVE_RATIO * abs(observed) else observed
    return replace(verdict, ruling=Ruling.CLIPPED, granted=granted, reason="the pool is full: cut to what is left")


def _is_move(observed: float, granted: float, standing: Standing) -> bool:
    """Whether the difference is more than what reading back rounds."""
    if observed == granted:
        return False
    step = standing.capability.step if standing.capability else 0.0
    least = max(step / 2, SMALLEST_MOVE_RATIO * abs(granted)) if math.isfinite(granted) else 0.0
    return math.isinf(observed) or abs(granted - observed) > least


def _rounded_up(amount: float, step: float) -> float:
    return math.ceil(amount / step - _SAME) * step if step > 0 and math.isfinite(amount) else amount


def _number(amount: float) -> float:
    """An amount that is not known, or has no end, is not counted."""
    return amount if math.isfinite(amount) else 0.0
