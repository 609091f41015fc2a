"""A traffic trace through Forestall and its peers, and what each is worth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from forestall.fabric.network import Network
from forestall.fabric.paths import Paths, paths_of
from forestall.fabric.planner import PlannerSettings, TrafficPlanner
from forestall.model.errors import BadInput, WrongUse
from forestall.model.samples import BoolArray, FloatArray
from forestall.replay.policy_names import FORESTALL, asked_policies
from forestall.replay.result import Variant
from forestall.replay.scores.traffic import score_traffic
from forestall.replay.traffic.peers import PEERS, Router, plan_for
from forestall.replay.traffic.result import LinkUse, TrafficPoint
from forestall.replay.traffic.trace import TrafficTrace

ECMP, ORACLE = "ecmp", "oracle"
POLICIES = (FORESTALL, *PEERS, ORACLE)
SHOWN = (FORESTALL, ECMP, "robust", ORACLE)
BUSIEST = 0.01
MOST_CELLS = 200_000_000
HISTORY_SECONDS = 3600
Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TrafficReplaySettings:
    """What is replayed, and how.

    Attributes
    ----------
    policy
        forestall, a peer, several separated by commas, or all.
    evaluate_from
        First instant that is scored, seconds UTC; None: an hour after the first.
    seed
        Written into the report; nothing is random.
    """

    policy: str = FORESTALL
    evaluate_from: int | None = None
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Policies that are replayed; the first one's routes are written.

        Raises
        ------
        WrongUse
            One of them is not known.
        """
        return asked_policies(self.policy, POLICIES)


@dataclass(frozen=True, eq=False)
class TrafficOutcome:
    """What came of a replay.

    Attributes
    ----------
    paths, shares
        Candidates, and what was in force of them by the first policy: array (time + 1, path), the last after the end.
    points
        Scores of all.
    first
        Index of the first interval that is scored.
    worst, links
        As in :class:`~forestall.replay.traffic.result.TrafficResult`.
    longest_decision_seconds
        Of Forestall; NaN where it did not run.
    apart
        Pairs that send something and that nothing connects.
    """

    paths: Paths
    shares: FloatArray
    points: tuple[TrafficPoint, ...]
    first: int
    worst: dict[str, FloatArray]
    links: LinkUse
    longest_decision_seconds: float
    apart: tuple[tuple[int, int], ...]


def replay_traffic(
    trace: TrafficTrace, network: Network, settings: TrafficReplaySettings, tick: Tick
) -> TrafficOutcome:
    """Replay the choice of paths, and every peer that is asked for.

    Raises
    ------
    BadInput
        The trace is too large, or nothing connects any of its pairs.
    WrongUse
        A policy is not known, or nothing would be scored.
    """
    paths = paths_of(network, trace.pairs)
    if (len(trace) + 1) * len(paths.pair) > MOST_CELLS:
        raise BadInput(f"{len(trace)} intervals and {len(paths.pair)} paths: too many to be kept", path=trace.name)
    sends: BoolArray = np.any(trace.traffic > 0.0, axis=0)
    apart = np.flatnonzero(sends & ~np.isin(np.arange(len(sends)), paths.pair)).tolist()
    if not len(paths.pair) or 0 < int(sends.sum()) == len(apart):
        raise BadInput("nothing connects any two nodes between which there is traffic", path=trace.name)
    first = _first(trace, settings)
    scored = trace.observed & (np.arange(len(trace)) >= first)
    found: dict[str, FloatArray] = {}
    points, longest = [], float("nan")
    for name in settings.names:
        shares, took = _run(name, trace, paths, tick)
        longest = took if name == FORESTALL else longest
        variant = {FORESTALL: Variant.FORESTALL, ORACLE: Variant.ORACLE}.get(name, Variant.SHIPPED)
        points.append(TrafficPoint(name, variant, score_traffic(paths, shares[:-1], trace.traffic, scored)))
        if not found or name in SHOWN:
            found[name] = shares
    found.setdefault(ECMP, np.broadcast_to(paths.equal, (len(trace) + 1, len(paths.equal))))
    worst = {name: _worst(paths, shares, trace, scored)[first:] for name, shares in found.items()}
    links = LinkUse(network, _busiest(paths, found, trace, scored))
    left_out = tuple(trace.pairs[pair] for pair in apart)
    return TrafficOutcome(paths, found[settings.names[0]], tuple(points), first, worst, links, longest, left_out)


def _first(trace: TrafficTrace, settings: TrafficReplaySettings) -> int:
    if settings.evaluate_from is None:
        return min(-(-HISTORY_SECONDS // trace.step_seconds), len(trace))
    first = -(-(settings.evaluate_from - trace.start) // trace.step_seconds)
    if not 0 <= first < len(trace):
        last = trace.instant(len(trace) - 1)
        raise WrongUse(f"an evaluation from {settings.evaluate_from} on: the trace is from {trace.start} to {last}")
    return first


def _run(name: str, trace: TrafficTrace, paths: Paths, tick: Tick) -> tuple[FloatArray, float]:
    """What a policy has in force in each interval, and after the end; and how long it took to decide at most."""
    shares = np.empty((len(trace) + 1, len(paths.pair)))
    longest = 0.0
    if name == ORACLE:
        shares[-1] = paths.equal
        for t in range(len(trace)):
            shares[t] = plan_for(paths, trace.traffic[t])
            tick(name, 1, len(trace))
        return shares, longest
    router: Router = _router(name, paths, trace.step_seconds)
    shares[0] = router.share
    for t in range(len(trace)):
        if trace.observed[t]:
            began = time.perf_counter()
            router.decide(trace.traffic[t])
            longest = max(longest, time.perf_counter() - began)
        shares[t + 1] = router.share
        tick(name, 1, len(trace))
    return shares, longest


def _router(name: str, paths: Paths, step_seconds: int) -> Router:
    if name == FORESTALL:
        return TrafficPlanner(paths, PlannerSettings.of(step_seconds))
    return PEERS[name](paths, max(round(HISTORY_SECONDS / step_seconds), 1))


def _worst(paths: Paths, shares: FloatArray, trace: TrafficTrace, scored: BoolArray) -> FloatArray:
    """Utilisation of the worst link (time,); NaN where it is not scored."""
    found = np.full(len(trace), np.nan)
    for t in np.flatnonzero(scored).tolist():
        found[t] = paths.utilisation(shares[t], trace.traffic[t]).max(initial=0.0)
    return found


def _busiest(
    paths: Paths, found: dict[str, FloatArray], trace: TrafficTrace, scored: BoolArray
) -> dict[str, FloatArray]:
    """Utilisation of each link, by policy, on average over the intervals in which ECMP uses its worst link most."""
    at = np.flatnonzero(scored)
    if not len(at):
        return {name: np.zeros(len(paths.capacity)) for name in found}
    plain = _worst(paths, found[ECMP], trace, scored)[at]
    busiest = at[np.argsort(-plain, kind="stable")[: max(int(BUSIEST * len(at)), 1)]].tolist()
    return {
        name: np.mean([paths.utilisation(shares[t], trace.traffic[t]) for t in busiest], axis=0)
        for name, shares in found.items()
    }
