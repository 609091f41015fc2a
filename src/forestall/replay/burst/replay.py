"""A burst trace through Forestall and its peers, and what each is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from forestall.learning.peaks.model import PeakModel
from forestall.model.samples import FloatArray
from forestall.replay.burst.host_size import HostSize, host_size
from forestall.replay.burst.peers import PEERS
from forestall.replay.burst.result import BurstPoint
from forestall.replay.burst.run import BurstRun, run_burst
from forestall.replay.burst.trace import BurstTrace
from forestall.replay.burst.windows import Windows, cut, known_vms, windows_in
from forestall.replay.policy_names import FORESTALL, asked_policies
from forestall.replay.result import Variant
from forestall.replay.scores.lending import score_lending

ORACLE = "oracle"
POLICIES = (FORESTALL, *PEERS)
Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BurstReplaySettings:
    """What is replayed, and how.

    Attributes
    ----------
    policy
        forestall, a peer, several separated by commas, or all.
    budgets
        Share of decision windows in which a reservation may be too small.
    window_ms
        For how long a decision holds.
    cores
        What the host has; None: what the trace needs.
    pooled
        Whether the VMs share what is reserved.
    history_seconds
        So much of the trace is not scored.
    seed
        Seed of everything that is random: the draws of analogues.
    """

    policy: str = FORESTALL
    budgets: tuple[float, ...] = (0.01,)
    window_ms: int = 100
    cores: float | None = None
    pooled: bool = False
    history_seconds: float = 20.0
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Policies that are replayed; the first one's grants are written.

        Raises
        ------
        WrongUse
            One of them is not known.
        """
        return asked_policies(self.policy, POLICIES)

    @property
    def history_us(self) -> int:
        """History in microseconds."""
        return round(self.history_seconds * 1e6)


@dataclass(frozen=True)
class BurstOutcome:
    """What came of a replay.

    Attributes
    ----------
    size
        What the host was taken to have.
    windows
        The trace in decision windows, a series for each VM or one for the pool.
    run
        What Forestall decided; None where it was not asked for.
    granted
        Array (budget, decision, vm): grants of the first policy; NaN for VMs that were not known yet.
    points
        Scores of all policies, in the order in which they were asked for.
    """

    size: HostSize
    windows: Windows
    run: BurstRun | None
    granted: FloatArray
    points: tuple[BurstPoint, ...]


@dataclass(frozen=True)
class _Job:
    """What all policies are given."""

    trace: BurstTrace
    per_decision: int
    size: HostSize
    windows: Windows
    settings: BurstReplaySettings

    def scored(self, policy: str, variant: Variant, knob: float, granted: FloatArray) -> BurstPoint:
        """Scores of grants (decision, series)."""
        first, last = self.windows.first, len(self.windows.use)
        seconds = self.per_decision * self.trace.window_us / 1e6
        use = self.windows.use[first:]
        return BurstPoint(policy, variant, knob, score_lending(use, granted[first:last], self.windows.cores, seconds))

    def as_series(self, granted: FloatArray) -> FloatArray:
        """Grants (decision, vm) as the series that are scored: the sum of them where VMs share."""
        return np.nansum(granted, axis=1, keepdims=True) if self.settings.pooled else granted

    def possible(self, granted: FloatArray) -> FloatArray:
        """What a peer grants (decision, series) as a host can: to VMs that are known (else NaN), no more than it has.

        Where a peer wants more for all series together, each has the same share of what it wants.
        """
        if not self.settings.pooled:
            known = known_vms(self.trace, self.per_decision)[:, None]
            granted = np.where(np.arange(granted.shape[1]) < known, granted, np.nan)
        # One VM after the other: with those that come later left out, not a bit of the sum is another.
        wanted = np.cumsum(np.nan_to_num(granted), axis=1)[:, -1:]
        early = np.arange(len(granted))[:, None] < self.size.since
        has = np.where(early, self.size.early, self.size.cores)
        return granted * np.minimum(has / np.maximum(wanted, 1e-12), 1.0)

    def as_vms(self, granted: FloatArray) -> FloatArray:
        """Grants (decision, vm) from those of series: VMs that share have even parts, only the sum counts."""
        if not self.settings.pooled:
            return granted
        known = known_vms(self.trace, self.per_decision)[:, None]
        return np.where(np.arange(len(self.trace.vm_ids)) < known, granted / known, np.nan)


def replay_burst(trace: BurstTrace, settings: BurstReplaySettings, model: PeakModel | None, tick: Tick) -> BurstOutcome:
    """Replay the burst loop, and every peer that is asked for.

    Raises
    ------
    WrongUse
        A policy is not known, or the decision window is no multiple of the trace's.
    """
    names, per_decision = settings.names, windows_in(trace, settings.window_ms)
    size = host_size(trace, per_decision, settings.history_us, settings.cores)
    windows = cut(trace, per_decision, size.cores, settings.history_us, pooled=settings.pooled)
    job = _Job(trace, per_decision, size, windows, settings)
    run = _forestall(job, model, tick) if FORESTALL in names else None
    points: list[BurstPoint] = []
    for name in names:
        points += _forestall_points(job, run) if run and name == FORESTALL else _peer_points(job, name, tick)
    granted = run.granted if run and names[0] == FORESTALL else _as_shipped(job, names[0])
    return BurstOutcome(size, windows, run, granted, tuple(points))


def _forestall(job: _Job, model: PeakModel | None, tick: Tick) -> BurstRun:
    decisions = len(job.windows.use)

    def decide(trace: BurstTrace, cores: float, tick: Callable[[int], None]) -> BurstRun:
        asked = job.settings
        return run_burst(
            trace, job.per_decision, cores, asked.budgets, model, pooled=asked.pooled, seed=asked.seed, tick=tick
        )

    run = decide(job.trace, job.size.cores, lambda done: tick(FORESTALL, done, decisions))
    if job.size.changes:
        since = job.size.since
        early = decide(job.trace.head(since * job.per_decision), job.size.early, lambda done: None).granted
        run.granted[:, :since] = np.nan
        run.granted[:, :since, : early.shape[2]] = early[:, :since]
    return run


def _forestall_points(job: _Job, run: BurstRun) -> list[BurstPoint]:
    return [
        job.scored(FORESTALL, Variant.FORESTALL, budget, job.as_series(granted))
        for budget, granted in zip(job.settings.budgets, run.granted, strict=True)
    ]


def _peer_points(job: _Job, name: str, tick: Tick) -> list[BurstPoint]:
    """A peer as shipped, and over its knobs where policies are compared; the oracle at every budget."""
    peer = PEERS[name]
    more = peer.knobs if len(job.settings.names) > 1 else ()
    more = (*more, *job.settings.budgets) if name == ORACLE else more
    knobs = dict.fromkeys((peer.shipped, *more))
    grant, points = peer.prepare(job.windows), []
    for knob in knobs:
        variant = Variant.ORACLE if name == ORACLE else Variant.SHIPPED if knob == peer.shipped else Variant.TUNED
        points.append(job.scored(name, variant, knob, job.possible(grant(knob))))
        tick(name, 1, len(knobs))
    return points


def _as_shipped(job: _Job, name: str) -> FloatArray:
    """Grants (budget, decision, vm) of a peer as it is shipped, the same at every budget."""
    peer = PEERS[name]
    granted = peer.prepare(job.windows)(peer.shipped)
    if job.size.changes:
        early = peer.prepare(replace(job.windows, cores=job.size.early))(peer.shipped)
        granted = np.concatenate([early[: job.size.since], granted[job.size.since :]])
    return np.repeat(job.as_vms(job.possible(granted))[None], len(job.settings.budgets), axis=0)
