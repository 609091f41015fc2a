"""The whole demand replay: every resource and every peer, side by side on all cores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from forestall.demand.holding import HoldingSettings
from forestall.demand.policy import PolicySet
from forestall.demand.settings import DemandSettings
from forestall.demand.watching import anomalies_of
from forestall.learning.boosted import BoostedSettings
from forestall.learning.past import plausible
from forestall.learning.recurrent.forecaster import RecurrentSettings
from forestall.model.errors import Unsupported, WrongUse
from forestall.model.resources import Resource
from forestall.model.samples import Trace
from forestall.ports.workers import Future, Progress, Workers
from forestall.replay.demand_run import ResourceRun, ResourceTrace, RunSettings, run_resource
from forestall.replay.hosts import Placement
from forestall.replay.peer_run import PeerRun, run_peer
from forestall.replay.peers.registry import for_resource, peer
from forestall.replay.workers import ProcessWorkers

FORESTALL = "forestall"
ALL = "all"
PARTS = ("recurrent", "pretrained", "combination", "calibration", "segments", "correlation", "adapter")
"""What can be left out, to see what it is worth."""


@dataclass(frozen=True)
class ReplaySettings:
    """What was asked of a demand replay; see ``forestall replay demand --help``."""

    policy: str = FORESTALL
    budgets: tuple[float, ...] = (0.01,)
    lead_steps: int = 1
    evaluate_from: int | None = None
    resources: tuple[Resource, ...] = ()
    placement: Placement = field(default_factory=Placement)
    max_changes_per_vm_hour: float | None = None
    cold_seconds: int | None = None
    policies: PolicySet | None = None
    forecasts: bool = False
    decisions: bool = False
    statistical: str = "ets"
    statistical_series: int = 0
    recurrent: RecurrentSettings | None = None
    without: frozenset[str] = frozenset()
    seed: int = 0
    processes: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Policies asked for, each once; ``all`` stands for every peer and Forestall."""
        return tuple(dict.fromkeys(name.strip() for name in self.policy.split(",")))

    @property
    def with_forestall(self) -> bool:
        """Whether Forestall itself is run."""
        return FORESTALL in self.names or ALL in self.names

    @property
    def side_by_side(self) -> bool:
        """Whether several policies are compared: then peers are swept over their knobs."""
        return len(self.names) > 1 or ALL in self.names

    def peers_for(self, resource: Resource) -> tuple[str, ...]:
        """The peers asked for that know a resource."""
        known = for_resource(resource)
        return known if ALL in self.names else tuple(n for n in self.names if n in known)


@dataclass(frozen=True)
class ReplayOutcome:
    """What came of it: Forestall's runs and the peers' by resource, and notes for the report."""

    evaluate_index: int
    runs: tuple[ResourceRun, ...]
    peers: dict[Resource, dict[str, PeerRun]]
    notes: tuple[str, ...]


def replay_demand(
    trace: Trace, settings: ReplaySettings, progress: Progress, workers_of: Callable[[Progress], Workers] | None = None
) -> ReplayOutcome:
    """Replay a trace, with these workers; None: with processes of this machine.

    Raises
    ------
    WrongUse
        The trace has no such resource, nothing is left to evaluate, or the policy does not know the resource.
    """
    resources = _resources(trace, settings)
    evaluate_index = _evaluate_index(trace, settings)
    first_seen = trace.first_seen()
    parts = {
        r: ResourceTrace(
            r,
            trace.grid,
            trace.vm_ids,
            first_seen,
            trace.demand[r],
            trace.known_limit(r),
            active_users=trace.active_users,
        )
        for r in resources
    }
    run_settings = RunSettings(
        demand=_demand_settings(trace, settings),
        evaluate_index=evaluate_index,
        placement=settings.placement,
        policies=settings.policies,
        calendar=trace.calendar,
        anomalous=anomalies_of(trace) if settings.policies and settings.policies.holds_anomalous else None,
        keep_decisions=settings.decisions,
    )
    notes = (
        [note] if settings.policies and not trace.calendar and (note := settings.policies.without_calendar()) else []
    )
    if settings.with_forestall:
        if reason := _apart(trace, settings):
            notes.append(f"no recurrent model is trained: {reason}")
        notes += _origins(run_settings.demand.recurrent, resources)
    with (workers_of or partial(ProcessWorkers, settings.processes))(progress) as workers:
        mine = [
            workers.submit(
                f"forestall {r.value}", trace.grid.steps, run_resource, _with_others(part, trace), run_settings
            )
            for r, part in parts.items()
            if settings.with_forestall
        ]
        theirs = {r: _submit_peers(workers, r, part, settings, evaluate_index) for r, part in parts.items()}
        runs = tuple(workers.result(f) for f in mine)
        peers = {r: _collect(workers, futures, notes) for r, futures in theirs.items()}
    return ReplayOutcome(evaluate_index, runs, peers, tuple(dict.fromkeys(notes)))


def _with_others(part: ResourceTrace, trace: Trace) -> ResourceTrace:
    """One resource, and beside it all others of the trace, whichever are replayed."""
    others = [r for r in trace.resources if r != part.resource]
    return replace(
        part, beside={r: plausible(trace.demand[r], trace.known_limit(r)).astype(np.float32) for r in others}
    )


def _resources(trace: Trace, settings: ReplaySettings) -> tuple[Resource, ...]:
    missing = [r.value for r in settings.resources if r not in trace.demand]
    if missing:
        there = ", ".join(r.value for r in trace.resources)
        raise WrongUse(f"the trace {trace.name} has no {', '.join(missing)}; it has {there}")
    chosen = settings.resources or trace.resources
    for name in settings.names:
        if name not in (FORESTALL, ALL):
            peer(name)
    if not settings.with_forestall:
        chosen = tuple(r for r in chosen if settings.peers_for(r))
        if not chosen:
            raise WrongUse(f"the policy {settings.policy} knows memory only")
    return chosen


def _evaluate_index(trace: Trace, settings: ReplaySettings) -> int:
    if settings.evaluate_from is None:
        return 0
    index = trace.grid.index(settings.evaluate_from)
    if index >= trace.grid.steps:
        last = trace.grid.at(trace.grid.steps - 1)
        raise WrongUse(f"--evaluate-from {settings.evaluate_from} is after the trace's last interval, {last}")
    return index


def _demand_settings(trace: Trace, settings: ReplaySettings) -> DemandSettings:
    made = DemandSettings(
        step_seconds=trace.grid.step_seconds,
        lead_steps=settings.lead_steps,
        budgets=settings.budgets,
        forecast_steps=(1, 3, 12) if settings.forecasts else (),
        holding=HoldingSettings(changes_per_vm_hour=settings.max_changes_per_vm_hour),
        boosted=BoostedSettings(seed=settings.seed),
        statistical=settings.statistical,
        statistical_series=settings.statistical_series,
        recurrent=_recurrent(trace, settings),
        without=settings.without,
    )
    return made if settings.cold_seconds is None else replace(made, cold_seconds=settings.cold_seconds)


def _recurrent(trace: Trace, settings: ReplaySettings) -> RecurrentSettings | None:
    if settings.recurrent is None or "recurrent" in settings.without:
        return None
    models = {} if "pretrained" in settings.without else settings.recurrent.models
    trainer = None if _apart(trace, settings) else settings.recurrent.trainer
    if not models and trainer is None:
        return None
    return replace(settings.recurrent, models=models, trainer=trainer, calendar=trace.calendar)


def _apart(trace: Trace, settings: ReplaySettings) -> str:
    """Why no recurrent model is trained on the trace's VMs together; empty if one may be."""
    return settings.policies.apart(trace.vm_ids) if settings.policies else ""


def _origins(recurrent: RecurrentSettings | None, resources: tuple[Resource, ...]) -> list[str]:
    """Where models come from that were not trained in the replay, for the report."""
    models = recurrent.models if recurrent else {}
    return [
        f"{r.value}: begins with a recurrent model ({about.data_hash[:12]}) that was trained on {about.trained_on}"
        for r in resources
        if r in models
        for about in (models[r].about,)
    ]


def _submit_peers(
    workers: Workers, resource: Resource, part: ResourceTrace, settings: ReplaySettings, evaluate_index: int
) -> dict[str, Future]:
    names = settings.peers_for(resource)
    budget, lead = settings.budgets[0], settings.lead_steps
    sweep = settings.side_by_side
    # Beside Forestall only the scores are wanted; the allocations of dozens of peers would fill the memory.
    keep = names[:1] if not settings.with_forestall else ()
    return {
        n: workers.submit(
            f"{n} {resource.value}", 1, _peer_task, n, part, evaluate_index, lead, budget, sweep, n in keep
        )
        for n in names
    }


def _peer_task(
    name: str,
    part: ResourceTrace,
    evaluate_index: int,
    lead: int,
    budget: float,
    sweep: bool,
    keep: bool,
    tick: Callable[[int], None],
) -> PeerRun:
    run = run_peer(name, part, evaluate_index, lead, budget, sweep=sweep)
    tick(1)
    return run if keep else replace(run, allocated=np.empty((0, 0)))


def _collect(workers: Workers, futures: dict[str, Future], notes: list[str]) -> dict[str, PeerRun]:
    done = {}
    for name, future in futures.items():
        try:
            done[name] = workers.result(future)
        except Unsupported as missing:
            if len(futures) == 1:
                raise
            notes.append(f"{name} was left out: {missing}")
    return done
