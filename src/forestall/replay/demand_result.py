"""From what was decided to what a person wants to know: the scores of a demand replay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from forestall.model.forecast import Statistic, Target
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.replay.demand_replay import FORESTALL, ReplayOutcome, ReplaySettings
from forestall.replay.demand_run import ResourceRun
from forestall.replay.peer_run import PeerRun
from forestall.replay.result import (
    CurvePoint,
    Exemplar,
    ForecastResult,
    Header,
    PoolUse,
    Reliability,
    ReplayResult,
    RiskResult,
    SlackRow,
    Variant,
)
from forestall.replay.scores.allocation import score_allocation
from forestall.replay.scores.curve import compare
from forestall.replay.scores.forecast import score_groups
from forestall.replay.scores.groups import Group, classify
from forestall.replay.scores.host import HostScores, host_sums, score_hosts
from forestall.replay.scores.risk import RiskCounts
from forestall.replay.scores.warning import score_warnings

BUSY_QUANTILE = 0.5
ALARM_PROBABILITY = 0.5
EXEMPLAR_DAYS = 3
WARNED_RATIO = 0.8


def assemble(outcome: ReplayOutcome, settings: ReplaySettings, header: Header) -> ReplayResult:
    """Score everything that a replay decided."""
    mine = {run.trace.resource: _points(run) for run in outcome.runs}
    points = [p for run_points in mine.values() for p in run_points]
    points += [p for peers in outcome.peers.values() for run in peers.values() for p in run.points]
    shipped = [p for peers in outcome.peers.values() for run in peers.values() for p in run.points[:1]]
    headlines = [p for p in points if p.policy == FORESTALL] if outcome.runs else shipped
    return ReplayResult(
        header=header,
        headlines=tuple(headlines),
        points=tuple(points),
        slack=tuple(_slack_rows(mine, outcome.peers, settings.seed)),
        calibration=tuple(p for p in points if p.policy == FORESTALL),
        reliability=tuple(r for run in outcome.runs for r in _reliability(run)),
        risk=tuple(r for run in outcome.runs for r in _risk(run)),
        forecasts=tuple(f for run in outcome.runs for f in _forecasts(run)),
        exemplars=tuple(e for run in outcome.runs for e in _exemplars(run)),
        pools=tuple(p for run in outcome.runs for p in _pools(run)) if settings.placement.bounded else (),
    )


def _evaluated(run: ResourceRun) -> tuple[FloatArray, FloatArray]:
    rows = slice(run.settings.evaluate_index, None)
    return run.trace.demand[rows], run.trace.limit[rows]


def _points(run: ResourceRun) -> list[CurvePoint]:
    demand, limit = _evaluated(run)
    step = run.trace.grid.step_seconds
    return [
        CurvePoint(
            FORESTALL,
            Variant.FORESTALL,
            run.trace.resource,
            budget,
            score_allocation(demand, limit, run.in_force(i), step, budget=budget),
        )
        for i, budget in enumerate(run.settings.demand.budgets)
    ]


def _slack_rows(
    mine: dict[Resource, list[CurvePoint]], peers: dict[Resource, dict[str, PeerRun]], seed: int
) -> Iterator[SlackRow]:
    for resource in {**mine, **peers}:
        curves = {FORESTALL: mine[resource]} if resource in mine else {}
        curves |= {name: list(run.points[1:] or run.points) for name, run in peers.get(resource, {}).items()}
        for name, curve in curves.items():
            totals = [p.scores.per_vm for p in curve]
            yield SlackRow(name, resource, compare(totals, np.random.default_rng(seed)))


def _groups(run: ResourceRun) -> NDArray[np.str_]:
    trace = run.trace
    return classify(trace.demand, trace.first_seen, run.settings.evaluate_index, trace.grid.step_seconds)


def _reliability(run: ResourceRun) -> Iterator[Reliability]:
    """Share of actuals at or below each quantile, for busy, idle and cold VMs apart."""
    demand, limit = _evaluated(run)
    actual = np.minimum(demand, np.where(np.isnan(limit), np.inf, limit))
    quantiles = run.quantiles[: len(actual)]
    cold: BoolArray = np.asarray(_groups(run) == Group.COLD)
    seen = ~np.isnan(actual)
    mean = np.where(seen, actual, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    busy: BoolArray = np.asarray(mean > np.quantile(mean, BUSY_QUANTILE))
    for name, members in _kinds(busy, cold):
        valid = seen[:, members] & ~np.isnan(quantiles[:, members, 0])
        if not valid.any():
            continue
        met = [float((actual[:, members] <= quantiles[:, members, i])[valid].mean()) for i in range(quantiles.shape[2])]
        demand_settings = run.settings.demand
        yield Reliability(
            name, run.trace.resource, demand_settings.lead_steps, demand_settings.levels, tuple(met), int(valid.sum())
        )


def _kinds(busy: BoolArray, cold: BoolArray) -> tuple[tuple[str, BoolArray], ...]:
    return (("busy", busy & ~cold), ("idle", ~busy & ~cold), ("cold", cold))


def peak_outcome(above: BoolArray, seen: BoolArray, steps: int) -> FloatArray:
    """Whether the limit was exceeded in the ``steps`` rows after each row (time, vm): 0, 1, or NaN if unobserved."""
    result = np.full(above.shape, np.nan)
    for ahead in range(1, steps + 1):
        later = np.full(above.shape, np.nan)
        later[:-ahead] = np.where(seen[ahead:], above[ahead:], np.nan)
        result = np.fmax(result, later)
    result[len(result) - steps :] = np.nan
    return result


def _risk(run: ResourceRun) -> Iterator[RiskResult]:
    demand_settings = run.settings.demand
    start = max(run.first, 0)
    stated = run.risk[start - run.first :]
    demand, limit = run.trace.demand[start:], run.trace.limit[start:]
    if np.isnan(stated).all():
        return
    step = run.trace.grid.step_seconds
    for h, steps in enumerate(demand_settings.horizon_steps):
        counts = RiskCounts()
        warned = None
        for j, ratio in enumerate(demand_settings.limit_ratios):
            above, seen = demand > ratio * limit, ~np.isnan(demand)
            probability = stated[:, h, j].astype(np.float64)
            counts.add(probability, peak_outcome(above, seen, steps))
            if ratio == WARNED_RATIO:
                warned = score_warnings(probability, above & seen, ALARM_PROBABILITY, steps, step)
        yield RiskResult(run.trace.resource, steps * step, counts.scores(), warned)


def _forecasts(run: ResourceRun) -> Iterator[ForecastResult]:
    """Scores of each forecast mean against the sample of one day before."""
    demand_settings, trace = run.settings.demand, run.trace
    groups = _groups(run)
    actual_all = np.minimum(trace.demand, np.where(np.isnan(trace.limit), np.inf, trace.limit))
    for target, quantiles in {demand_settings.decided_target: run.quantiles, **run.forecasts}.items():
        if target.statistic is not Statistic.MEAN:
            continue
        actual, made, naive = _aligned(actual_all, quantiles, run.first, target, trace.grid.step_seconds)
        if len(actual) == 0:
            continue  # a trace of less than a day has nothing to compare with
        scores = score_groups(actual, made.astype(np.float64), demand_settings.levels, naive, groups)
        for group, score in scores.items():
            yield ForecastResult(trace.resource, target.statistic, target.steps, group, score)


def _aligned(
    actual: FloatArray, quantiles: np.ndarray, first: int, target: Target, step_seconds: int
) -> tuple[FloatArray, np.ndarray, FloatArray]:
    """Actuals, forecasts and seasonal naive (time, vm) for the intervals that both forecasts cover."""
    day = max(round(86_400 / step_seconds), target.steps)
    begin = min(max(first + target.steps, day, 0), len(actual))
    made = quantiles[begin - target.steps - first : len(actual) - target.steps - first]
    return actual[begin:], made, actual[max(begin - day, 0) : max(len(actual) - day, 0)]


def _exemplars(run: ResourceRun) -> Iterator[Exemplar]:
    """The median VM by mean demand of each kind, in a window in which it is at its busiest."""
    demand, limit = _evaluated(run)
    groups = _groups(run)
    span = min(EXEMPLAR_DAYS * round(86_400 / run.trace.grid.step_seconds), len(demand))
    main = min(range(len(run.settings.demand.budgets)), key=lambda i: abs(run.settings.demand.budgets[i] - 0.01))
    for group in Group:
        vm = _typical(demand, np.flatnonzero(groups == group), span)
        if vm is None:
            continue
        seen = ~np.isnan(demand[:, vm])
        start = int(np.argmax(seen)) if group is Group.COLD else _busiest(demand[:, vm], span)
        rows = slice(start, start + span)
        times = run.trace.grid.start + (run.settings.evaluate_index + np.arange(len(demand))[rows]) * (
            run.trace.grid.step_seconds
        )
        yield Exemplar(
            group=group.value,
            vm_id=run.trace.vm_ids[vm],
            resource=run.trace.resource,
            times=times.astype(np.int64),
            demand=demand[rows, vm],
            allocated=run.in_force(main)[rows, vm],
            limit=limit[rows, vm],
            levels=run.settings.demand.levels,
            quantiles=run.quantiles[: len(demand)][rows, vm].astype(np.float64),
        )


def _typical(demand: FloatArray, members: np.ndarray, span: int) -> int | None:
    """The member with the middle mean demand of those that were seen for a good part of the window."""
    count = (~np.isnan(demand[:, members])).sum(axis=0)
    members = members[count >= max(span // 4, 1)]
    if len(members) == 0:
        return None
    mean = np.nansum(demand[:, members], axis=0) / (~np.isnan(demand[:, members])).sum(axis=0)
    return int(members[np.argsort(mean, kind="stable")[len(members) // 2]])


def _busiest(series: FloatArray, span: int) -> int:
    """First row of the window of ``span`` rows, on whole spans, whose demand varies most."""
    starts = range(0, max(len(series) - span, 0) + 1, max(span // 3, 1))
    spread = [np.nan_to_num(np.ptp(np.nan_to_num(series[s : s + span], nan=0.0))) for s in starts]
    return list(starts)[int(np.argmax(spread))]


def _pools(run: ResourceRun) -> Iterator[PoolUse]:
    """All pools that have an end together, and their scores."""
    trace, placement = run.trace, run.settings.placement
    host_of_vm = placement.host_of_vm(trace.vm_ids)
    names = placement.names(len(trace.vm_ids))
    demand, limit = _evaluated(run)
    demand = np.minimum(demand, np.where(np.isnan(limit), np.inf, limit))
    capacity = run.capacity[: len(demand)]
    bounded: BoolArray = np.asarray(np.isfinite(capacity).any(axis=0))
    if not bounded.any():
        return
    allocated = run.in_force(0)
    times = trace.grid.start + (run.settings.evaluate_index + np.arange(len(demand))) * trace.grid.step_seconds
    inside = bounded[host_of_vm]
    sums = [host_sums(v[:, inside], host_of_vm[inside], len(names)).sum(axis=1) for v in (limit, allocated, demand)]
    room = np.where(np.isnan(capacity), np.inf, capacity)
    weights = _weights(run)

    def score(shares: FloatArray) -> HostScores:
        return score_hosts(demand[:, inside], shares[:, inside], room, host_of_vm[inside], weights[inside])

    others = {n: score(a) for n, a in _simple_shares(run, room, host_of_vm, weights).items()}
    yield PoolUse(
        host="all hosts" if bounded.sum() > 1 else names[int(np.argmax(bounded))],
        resource=trace.resource,
        capacity=float(np.median(room[:, bounded].sum(axis=1))),
        times=times.astype(np.int64),
        limit_sum=sums[0],
        allocated=sums[1],
        demand=sums[2],
        price=run.price[0, : len(demand)][:, bounded].max(axis=1),
        scores=score(allocated),
        others=tuple(others.items()),
    )


def _simple_shares(
    run: ResourceRun, room: FloatArray, host_of_vm: IntArray, weights: FloatArray
) -> dict[str, FloatArray]:
    """What simpler ways to share the pools would give (time, vm), none more than its limit: in proportion to limits, to
    limits times weights, and to what each VM used when the decision was made.
    """
    demand, limit = _evaluated(run)
    first = run.settings.evaluate_index - run.settings.demand.lead_steps
    used = np.full(demand.shape, np.nan)
    used[max(-first, 0) :] = run.trace.demand[max(first, 0) : first + len(demand)]
    bases = {
        "in proportion to limits": limit,
        "to limits times weights": limit * weights,
        "to the last use": np.where(np.isnan(used), 0.1 * limit, np.maximum(used, 0.01 * limit)),
    }
    shares = {}
    for name, base in bases.items():
        filled = np.nan_to_num(base, nan=0.0, posinf=0.0)
        totals = host_sums(filled, host_of_vm, room.shape[1])
        ratio = np.where(np.isfinite(room), room, 0.0) / np.where(totals > 0, totals, 1.0)
        shares[name] = np.minimum(filled * ratio[:, host_of_vm], limit)
    return shares


def _weights(run: ResourceRun) -> FloatArray:
    """Weight (vm,) of each VM at the end of the trace."""
    vms = len(run.trace.vm_ids)
    if run.settings.policies is None:
        return np.ones(vms)
    limit = np.full((vms, 1), np.inf)
    end = run.trace.grid.at(run.trace.grid.steps - 1)
    table = run.settings.policies.resolve(
        run.trace.vm_ids, (run.trace.resource,), limit, end, calendar=run.settings.calendar
    )
    return table.weight[:, 0]


def by_budget(result: ReplayResult, budget: float, budgets: Sequence[float]) -> ReplayResult:
    """The result as one of several budgets sees it: its own headlines, everything else shared."""
    if len(budgets) == 1:
        return result
    mine = tuple(p for p in result.headlines if p.policy != FORESTALL or p.setting == budget)
    return replace(result, headlines=mine)
