"""The live demand loop: looks at a host, decides, is ruled on, changes VMs, and writes down what was done.

One call of :meth:`Driver.cycle` is one cycle, in this order: look, keep the samples, decide, judge one's own health,
rule, keep originals, write decisions down, give back, take, write outcomes down, renew leases, take back what ran out.
Nothing is changed before how it was, and why it is changed, are on the disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from forestall.demand.acting import carry_out
from forestall.demand.arbiter import Arbiter
from forestall.demand.driver_settings import DriverSettings
from forestall.demand.health import Facts, Health, at_start, look
from forestall.demand.leases import LeaseBook
from forestall.demand.looking import Lookout, Sight
from forestall.demand.planning import Plan, Planner
from forestall.demand.policy import PolicySet
from forestall.demand.recording import Recording
from forestall.demand.ruling import ModeOf, Ruled, rule_all, take_back
from forestall.demand.safekeeping import Note, PutBack, Safekeeping
from forestall.demand.view import (
    ForecastView,
    LoopView,
    ReliabilityView,
    VmView,
    forecast_views,
    group_views,
    loop_view,
    reliability_views,
    vm_views,
)
from forestall.demand.warming import since_first_sample
from forestall.demand.watching import Score
from forestall.learning.recurrent.model import RecurrentModel
from forestall.model.decision import Decision, Outcome, Restoration, Result, Ruling
from forestall.model.errors import HypervisorError, StoreError
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.ports.clock import Clock
from forestall.ports.hypervisor import EventKind, Hypervisor
from forestall.ports.journal import Journal
from forestall.ports.originals import Originals
from forestall.ports.store import BehaviourStore, Resolution, SampleBatch

USUAL_SECONDS = 14 * 86_400
"""What is usual for a VM is learned from so much of its past, in means of five minutes."""
_DEFECT = "the cycle could not be decided"


@dataclass(frozen=True)
class Ports:
    """What the loop needs from outside."""

    host: Hypervisor
    store: BehaviourStore
    journal: Journal
    originals: Originals
    clock: Clock


class Driver:
    """The live loop.

    Parameters
    ----------
    ports
        The outside world.
    settings
        How.
    policies
        What the operator wants; None: nothing special.
    crashes_at
        Instants of earlier unclean ends, seconds.
    note
        Takes one line for the operator.
    """

    def __init__(
        self,
        ports: Ports,
        settings: DriverSettings,
        policies: PolicySet | None = None,
        *,
        crashes_at: Sequence[float] = (),
        note: Note = lambda line: None,
    ) -> None:
        self.settings = settings
        self._ports, self._clock, self._note = ports, ports.clock, note
        self._planner = Planner(settings, policies)
        self._planner.time_experts(ports.clock.monotonic)
        self._lookout = Lookout(ports.host, note)
        self._arbiter = Arbiter(settings.arbiter)
        self._keeping = Safekeeping(ports.host, ports.originals, note)
        self._leases = LeaseBook(settings.lease_seconds)
        self._recording = Recording(settings.repeat_seconds)
        self._health: Health = at_start(crashes_at, self._clock.now(), self._clock.monotonic(), settings.health)
        self._outcomes: list[Outcome] = []
        self._last_at: int | None = None
        self._kept_back: set[str] = set()
        self._all_kept_back = False
        self._ruled: Mapping[Resource, Sequence[Ruled]] = {}
        self._plans: Mapping[Resource, Plan] = {}
        self._cycles, self._cycle_seconds = 0, 0.0
        if self._health.fault:
            note(f"starts in observe: {self._health.fault}")

    @property
    def known(self) -> frozenset[str]:
        """Every VM that runs or has run here lately, and those that may not be as they were."""
        return frozenset(self._planner.roster.vm_ids) | frozenset(self.altered)

    @property
    def altered(self) -> tuple[str, ...]:
        """VMs that may not be as they were."""
        return self._keeping.altered

    def start(self) -> int:
        """Put back what an earlier run left behind, and learn from the store; how many rows were learned.

        Raises
        ------
        HypervisorError, StoreError
            The host cannot be asked, or the store cannot be read.
        """
        if self._keeping.altered:
            self._note(f"an earlier run left {len(self._keeping.altered)} VMs changed: putting them back")
            self.put_back(why="an earlier run left it changed")
        step = self.settings.demand.step_seconds
        until = int(self._clock.now()) // step * step
        since = max(until - self._planner.window_rows * step, 0)
        history = since_first_sample(
            self._ports.store.history(since=since, until=until, vm_ids=self._ports.host.vm_ids())
        )
        fine = Resolution.FIVE_MINUTES if step < self._planner.watching.bucket_seconds else Resolution.RAW
        usual = self._ports.store.history(
            since=max(until - USUAL_SECONDS, 0), until=until, resolution=fine, vm_ids=history.vm_ids
        )
        learned = self._planner.warm(history, self._clock.monotonic, usual) if history.vm_ids else 0
        if learned:
            self._last_at = history.grid.at(history.grid.steps - 1)
        return learned

    def cycle(self) -> None:
        """One turn of the loop. Errors of the outside world are noted, judged and survived."""
        steady = self._clock.monotonic()
        self._collect_late_outcomes()
        sight = self._lookout.look()
        ruled: dict[Resource, list[Ruled]] = {}
        decided: bool | None = None
        if sight is not None:
            self._follow_the_gone(sight)
            if self._is_new(sight.seen.at):
                self._persist(sight)
                decided = self._decide(sight)
        self._judge(decided)
        if not self._health.sound:
            self._let_go()
        if sight is not None and decided:
            ruled = self._rule(sight)
            self._ruled = ruled
            self._act(ruled)
        self._expire()
        self._cycles += 1
        self._cycle_seconds = self._clock.monotonic() - steady

    def put_back(self, vm_ids: Iterable[str] | None = None, *, why: str) -> PutBack:
        """Set VMs as they were (None: all that were changed); what could not be is tried again in the next cycle."""
        result = self._keeping.put_back(vm_ids)
        self._record((), [_because(outcome, why) for outcome in result.outcomes])
        self._restored(result.done, why)
        return result

    def restore(self, vm_ids: Iterable[str] | None = None) -> PutBack:
        """Put VMs back at an operator's word, and leave them alone until told otherwise.

        None means every VM: those that run now, and those that were changed.
        """
        chosen = set(self.known) if vm_ids is None else set(vm_ids)
        self._kept_back |= chosen
        self._all_kept_back |= vm_ids is None
        return self.put_back(None if vm_ids is None else sorted(chosen), why="restored by hand")

    def resume(self, vm_ids: Iterable[str] | None = None) -> tuple[str, ...]:
        """Act on VMs again that were left alone since :meth:`restore`; which they are."""
        chosen = self._kept_back & set(vm_ids) if vm_ids is not None else set(self._kept_back)
        self._kept_back -= chosen
        self._all_kept_back &= vm_ids is not None
        return tuple(sorted(chosen))

    def stop(self, within_seconds: float = 30.0) -> PutBack:
        """Put everything back, trying again once a second (of the host) for so long."""
        deadline = self._clock.monotonic() + within_seconds
        result = self.put_back(why="the daemon ends")
        while result.left and self._clock.monotonic() < deadline:
            self._clock.sleep_until(self._clock.now() + self._clock.pace)
            result = self.put_back(why="the daemon ends")
        return result

    def set_policies(self, policies: PolicySet | None) -> None:
        """Take up other policies from the next cycle on."""
        self._planner.set_policies(policies)

    def recognise(self, applications: Mapping[str, str]) -> Mapping[str, str]:
        """Let rules take VMs for what they were recognised as, from the next cycle on; which are taken so."""
        return self._planner.recognise(applications)

    def foresee_reads(self, vm_ids: Iterable[str]) -> None:
        """VMs that are about to read much: from the next cycle on their disks are held back by policies only."""
        self._planner.foresee_reads(vm_ids)

    @property
    def recognises_at(self) -> float | None:
        """Probability from which rules take a VM for what it is recognised as; None: they never do."""
        return self._planner.stated.recognise_applications if self._planner.stated else None

    def anomaly_scores(self) -> Mapping[str, Score]:
        """How unusual each VM is, and what causes it."""
        return self._planner.watching.scores(self._planner.roster.vm_ids)

    def drifts(self) -> int:
        """How often forecasts have become worse for good since the start."""
        return self._planner.drifts()

    def models(self) -> dict[Resource, RecurrentModel]:
        """The recurrent model that each resource is forecast with."""
        return self._planner.models()

    def take_up(self, resource: Resource, model: RecurrentModel) -> None:
        """Forecast with another model from the next cycle on; a ``BadInput`` if it cannot be run."""
        self._planner.take_up(resource, model)

    def mode_of(self, vm_id: str) -> tuple[Mode, str]:
        """Mode that holds for a VM now, and why it is not the one that was asked for."""
        if self._health.fault:
            return Mode.OBSERVE, self._health.fault
        if self.is_left_alone(vm_id):
            return Mode.OBSERVE, "restored by hand"
        return self.settings.mode, ""

    def is_left_alone(self, vm_id: str) -> bool:
        """Whether an operator has had a VM restored, and not resumed since."""
        return self._all_kept_back or vm_id in self._kept_back

    def may_act(self, vm_id: str) -> bool:
        """Whether a VM may be changed now."""
        return self._arbiter.may_act(vm_id, self.mode_of(vm_id)[0])

    @property
    def policies(self) -> PolicySet | None:
        """The policies in force, as they are stated."""
        return self._planner.stated

    def _mode_for(self, resource: Resource, vm_ids: tuple[str, ...]) -> ModeOf:
        """Mode that holds for each VM and one resource: the cores of borrowers are the burst loop's to limit."""
        if resource is not Resource.CPU or self.policies is None or not self.policies.borrowers:
            return self.mode_of
        borrows = dict(zip(vm_ids, self.policies.borrowing(vm_ids), strict=True))
        lent = (Mode.OBSERVE, "runs on cores that are lent")
        return lambda vm_id: lent if borrows.get(vm_id) else self.mode_of(vm_id)

    def view(self) -> LoopView:
        """The loop as a whole, for the command line."""
        watching, vm_ids = self._planner.watching, self._planner.roster.vm_ids
        anomalies = watching.by_name(vm_ids)
        scores = {vm: score.in_words() for vm, score in watching.scores(vm_ids).items() if vm in anomalies}
        return loop_view(
            asked=self.settings.mode,
            health=self._health,
            lost=self._lookout.lost,
            cycles=self._cycles,
            last_at=self._last_at,
            cycle_seconds=self._cycle_seconds,
            altered=self.altered,
            kept_back=tuple(sorted(self._kept_back)),
            lead_seconds=self._lookout.lead_seconds(),
            plans=self._plans,
            expert_seconds=self._planner.expert_seconds(),
            anomalies=anomalies,
            anomaly_scores=scores,
            groups=group_views(self._planner.groups(), vm_ids, self.settings.demand.step_seconds),
        )

    def trust_groups(self, vm_ids: Sequence[str]) -> tuple[str, ...]:
        """Name of each VM's trust group; empty for those that are in none."""
        return self._planner.trust_groups(vm_ids)

    def views(self, vm_ids: Collection[str] | None = None) -> list[VmView]:
        """Every VM and resource at the last cycle, or those of these VMs, for the command line and the API."""
        steady = self._clock.monotonic()
        return vm_views(
            self._ruled,
            self._plans,
            vm_ids=vm_ids,
            altered=set(self.altered),
            mode_of=lambda vm_id: self.mode_of(vm_id)[0],
            lease_left=lambda vm_id, resource: self._leases.left_seconds(vm_id, resource, steady),
        )

    def forecasts(self, vm_id: str) -> list[ForecastView]:
        """What a VM was forecast to demand at the last cycle, by resource."""
        return forecast_views(self._plans, self.settings.demand, vm_id)

    def reliability(self) -> list[ReliabilityView]:
        """How reliable forecasts were in the last days, for each resource and target."""
        return reliability_views(self._planner.reliability(), self.settings.demand)

    def _collect_late_outcomes(self) -> None:
        try:
            late = self._ports.host.follow_up()
        except HypervisorError:
            return  # the look that follows says that contact is lost
        self._outcomes += late
        self._record((), late)
        # A move that was under way when its VM went fails after it was written down that the VM is as it was.
        failed = {outcome.action.vm_id for outcome in late if outcome.result is Result.FAILED}
        self._restored(sorted(failed - set(self.altered)), "nothing of it is changed")

    def _follow_the_gone(self, sight: Sight) -> None:
        """Forget VMs that do not run any more, and those that run anew as they are defined."""
        anew = {e.vm_id for e in sight.events if e.kind in (EventKind.STARTED, EventKind.STOPPED)}
        restarted = [vm_id for vm_id in anew & set(self.altered) if vm_id in sight.running]
        self._restored(self._keeping.forget_gone(sight.running), "it does not run any more")
        self._restored(self._keeping.forget_older(restarted), "it was started anew, as it is defined")

    def _is_new(self, at: int) -> bool:
        """Whether an interval is news; also after the clock was set far back."""
        if self._last_at is None or at > self._last_at:
            return True
        return at < self._last_at - self.settings.health.clock_jump_seconds

    def _persist(self, sight: Sight) -> None:
        seen = sight.seen
        try:
            self._ports.store.append([SampleBatch(seen.at, seen.vm_ids, sight.axes, seen.demand, seen.limit)])
        except StoreError as error:
            self._note(f"samples are not kept: {error}")

    def _decide(self, sight: Sight) -> bool:
        at, step = sight.seen.at, self.settings.demand.step_seconds
        missing = 0 if self._last_at is None else at // step - self._last_at // step - 1
        self._last_at = at
        try:
            if missing > 0:
                self._planner.catch_up(missing, at)
            self._retire(sight)
            self._plans = self._planner.step(sight)
        except Exception as error:  # a defect of the loop must not leave VMs as they were last set
            self._note(f"{_DEFECT}: {type(error).__name__}: {error}")
            return False
        for line in self._planner.watching.news(self._planner.roster.vm_ids):
            self._note(line)
        return True

    def _retire(self, sight: Sight) -> None:
        """Forget VMs that have been gone for long."""
        if retired := self._planner.retire(sight.running):
            self._recording.forget(retired)
            hours = self.settings.retire_seconds / 3600
            self._note(f"{len(retired)} VMs that have not run for {hours:g} h are forgotten")

    def _judge(self, decided: bool | None) -> None:
        step = self.settings.demand.step_seconds
        newest = None if self._last_at is None else float(self._last_at + step)
        facts = Facts(self._clock.now(), self._clock.monotonic(), newest, decided, self._outcomes)
        before, self._health = self._health, look(self._health, facts, self.settings.health)
        self._outcomes = []
        if self._health.fault and not before.fault:
            self._note(f"drops to observe: {self._health.fault}")
        elif before.fault and not self._health.fault:
            self._note(f"recovered; takes up {self.settings.mode} again")

    def _let_go(self) -> None:
        if self.altered:
            self.put_back(why=self._health.fault)

    def _rule(self, sight: Sight) -> dict[Resource, list[Ruled]]:
        return {
            resource: rule_all(self._arbiter, plan, sight, self._mode_for(resource, plan.vm_ids), self.settings.demand)
            for resource, plan in self._plans.items()
        }

    def _act(self, ruled: dict[Resource, list[Ruled]]) -> None:
        """Keep, write down, change, write down; what must not be changed is rejected on the way."""
        moving = sorted({r.decision.vm_id for mine in ruled.values() for r in mine if r.moves})
        refused = self._keeping.keep(moving)
        for resource, mine in ruled.items():
            ruled[resource] = take_back(mine, refused)
        if unwritten := self._record([r.recorded for mine in ruled.values() for r in mine if self._worth(r)], ()):
            reasons = dict.fromkeys(moving, f"the journal cannot be written: {unwritten}")
            for resource, mine in ruled.items():
                ruled[resource] = take_back(mine, reasons)
        outcomes = carry_out(self._ports.host, ruled, {r: plan.capacity for r, plan in self._plans.items()})
        self._keeping.confirm(sorted({o.action.vm_id for o in outcomes}))
        self._outcomes += outcomes
        self._record((), outcomes)
        self._renew(ruled, outcomes)

    def _worth(self, ruled: Ruled) -> bool:
        return self._recording.worth(ruled.recorded, moves=ruled.moves)

    def _renew(self, ruled: Mapping[Resource, Sequence[Ruled]], outcomes: Sequence[Outcome]) -> None:
        """What is still wanted holds on; what was changed now holds for a lease."""
        steady = self._clock.monotonic()
        for mine in ruled.values():
            for r in mine:
                if r.verdict.ruling is not Ruling.REJECTED:
                    self._leases.renew(r.decision.vm_id, r.decision.resource, steady)
        for outcome in outcomes:
            if outcome.result is not Result.REFUSED:
                self._leases.grant(outcome.action.vm_id, outcome.action.resource, steady)

    def _expire(self) -> None:
        for vm_id in self._leases.expired(self._clock.monotonic()):
            why = f"what it was given was not renewed within {self.settings.lease_seconds:g} s"
            self._note(f"{vm_id}: {why}")
            self.put_back([vm_id], why=why)

    def _restored(self, vm_ids: Iterable[str], why: str) -> None:
        """VMs are as they were: their leases end, and the journal knows."""
        now, restored = int(self._clock.now()), tuple(vm_ids)
        for vm_id in restored:
            self._leases.drop(vm_id)
        self._record((), (), [Restoration(vm_id, now, why) for vm_id in restored])

    def _record(
        self, decisions: Sequence[Decision], outcomes: Sequence[Outcome], restorations: Sequence[Restoration] = ()
    ) -> str:
        """Write down; why it could not be, or nothing."""
        now = int(self._clock.now())
        try:
            self._ports.journal.record(decisions, [replace(o, at=now) for o in outcomes], restorations)
        except StoreError as error:
            self._note(f"not recorded: {error}")
            return str(error)
        return ""


def _because(outcome: Outcome, why: str) -> Outcome:
    """The outcome of putting back, with the reason for that before its own."""
    return replace(outcome, reason="; ".join(filter(None, (f"put back: {why}", outcome.reason))))
