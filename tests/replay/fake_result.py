"""A made-up but realistic replay result, for tests of the report and for looking at it."""

from __future__ import annotations

import numpy as np

from forestall.model.forecast import LEVELS, Statistic
from forestall.model.resources import Resource
from forestall.model.samples import Trace
from forestall.replay.generator import Workload, generate
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
from forestall.replay.scores.groups import classify
from forestall.replay.scores.host import score_hosts
from forestall.replay.scores.risk import RiskCounts
from forestall.replay.scores.warning import score_warnings

HOSTILE = "vm-<script>alert('x')</script>&$\\frac{1}{0}$\"><img src=x>"
BUDGETS = (0.05, 0.01, 0.005, 0.001)
DAY = 288
PEERS = {"vpa": (1.8, 0.4), "autopilot": (1.3, 1.2), "moving_max": (1.1, 0.0), "seasonal_naive": (2.4, 0.8)}


def header(trace: Trace) -> Header:
    grid = trace.grid
    return Header(
        trace="generated & <checked>",
        digest=trace.digest,
        vms=len(trace.vm_ids),
        intervals=grid.steps,
        step_seconds=grid.step_seconds,
        start=grid.start,
        evaluate_from=grid.at(DAY),
        end=grid.at(grid.steps),
        calendar=True,
        policy="forestall",
        budgets=BUDGETS,
        lead_steps=1,
        seed=0,
        version="0.1.0",
        command="forestall replay demand trace.parquet --out out --policy all --violation-budget 0.05,0.01,0.005,0.001",
        wall_seconds=83.2,
        peak_memory_bytes=1_400_000_000,
        warnings=("312 duplicate rows were dropped, the last one kept.", "2 VMs never had a limit: <none>"),
    )


def lagged(values: np.ndarray, steps: int = 1) -> np.ndarray:
    return np.concatenate([np.full((steps, values.shape[1]), np.nan), values[:-steps]])


def points_of(trace: Trace, resource: Resource, rng: np.random.Generator) -> list[CurvePoint]:
    demand, limit = trace.demand[resource][DAY:], trace.known_limit(resource)[DAY:]
    spread = np.nanstd(np.diff(demand, axis=0), axis=0)
    base = lagged(demand)
    found = []

    def add(policy: str, variant: Variant, setting: float, allocated: np.ndarray, budget: float = 0.01) -> None:
        scores = score_allocation(demand, limit, allocated, 300, budget=budget)
        found.append(CurvePoint(policy, variant, resource, setting, scores))

    for budget in BUDGETS:
        near = 0.7 * demand + 0.3 * np.where(np.isnan(base), demand, base)
        add("forestall", Variant.FORESTALL, budget, near + 0.45 * spread * (0.03 / budget) ** 0.6, budget)
    for policy, (scale, flat) in PEERS.items():
        for margin in (0.2, 0.5, 1.0, 2.0, 4.0, 8.0):
            add(policy, Variant.TUNED, margin, base + scale * margin * spread + flat * np.nanmean(demand, axis=0))
        add(policy, Variant.SHIPPED, 1.15, base + 2.2 * scale * spread + flat * np.nanmean(demand, axis=0))
    add("static", Variant.SHIPPED, 1.0, np.full(demand.shape, np.nan))
    add("oracle", Variant.ORACLE, 0.0, demand)
    return found


def slack_rows(points: list[CurvePoint], resource: Resource) -> list[SlackRow]:
    names = ["forestall", *PEERS]
    rows = []
    for name in names:
        settings = [p.scores.per_vm for p in points if p.policy == name and p.resource is resource]
        rows.append(SlackRow(name, resource, compare(settings, np.random.default_rng(0), replicates=200)))
    return rows


def fan(demand: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Quantiles (time, vm, level) around the value before."""
    base = lagged(demand)[..., None]
    noise = np.nanstd(np.diff(demand, axis=0), axis=0)[None, :, None]
    levels = np.asarray(LEVELS)
    return np.maximum(base + noise * np.log(levels / (1 - levels)) * 0.45, 0.0)


def exemplars(trace: Trace, kinds: np.ndarray, rng: np.random.Generator) -> list[Exemplar]:
    demand, limit = trace.demand[Resource.CPU], trace.known_limit(Resource.CPU)
    quantiles = fan(demand, rng)
    times = trace.grid.start + 300 * np.arange(trace.grid.steps)
    chosen = []
    for kind in ("calm", "periodic", "bursty", "cold"):
        members = np.flatnonzero(kinds == kind)
        if len(members):
            vm = members[len(members) // 2]
            begin = 2 * DAY if kind != "cold" else int(trace.first_seen()[vm])
            window = slice(begin, begin + DAY)
            name = HOSTILE if kind == "bursty" else trace.vm_ids[vm]
            parts = (demand[window, vm], quantiles[window, vm, 7], limit[window, vm])
            chosen.append(Exemplar(kind, name, Resource.CPU, times[window], *parts, LEVELS, quantiles[window, vm]))
    return chosen


def pool(trace: Trace, name: str) -> PoolUse:
    demand, limit = trace.demand[Resource.CPU][DAY:], trace.known_limit(Resource.CPU)[DAY:]
    allocated = np.fmin(1.3 * np.fmax(lagged(demand), 0.0) + 0.1, limit)
    allocated[0] = allocated[1]
    capacity = float(np.nanmax(np.nansum(allocated, axis=1)) * 0.9)
    total = np.nansum(allocated, axis=1)
    hosts = np.zeros(demand.shape[1], dtype=np.int64)
    return PoolUse(
        host=name,
        resource=Resource.CPU,
        capacity=capacity,
        times=trace.grid.start + 300 * np.arange(DAY, trace.grid.steps),
        limit_sum=np.nansum(limit, axis=1),
        allocated=np.minimum(total, capacity),
        demand=np.nansum(demand, axis=1),
        price=0.01 + 0.05 * np.clip(total / capacity - 0.85, 0, None),
        scores=score_hosts(demand, allocated, np.array([capacity]), hosts, np.ones(demand.shape[1])),
    )


def risks(trace: Trace, rng: np.random.Generator) -> list[RiskResult]:
    found = []
    for seconds in (300, 900, 3600):
        stated = rng.beta(0.15, 8, (1500, 60))
        outcome = rng.random(stated.shape) < stated * rng.lognormal(0, 0.2)
        counts = RiskCounts()
        counts.add(stated, outcome)
        alarms = score_warnings(stated, outcome, 0.2, seconds // 300, 300)
        found.append(RiskResult(Resource.CPU, seconds, counts.scores(), alarms))
    return found


def fake_result(vms: int = 60, days: float = 5) -> ReplayResult:
    rng = np.random.default_rng(0)
    trace = generate(Workload(vms=vms, days=days), 3)
    points = [p for r in (Resource.CPU, Resource.MEMORY) for p in points_of(trace, r, rng)]
    ours = [p for p in points if p.variant is Variant.FORESTALL]
    demand = trace.demand[Resource.CPU]
    kinds = classify(demand, trace.first_seen(), DAY, 300)
    scores = score_groups(demand, fan(demand, rng), LEVELS, lagged(demand, DAY), kinds)
    covered = {g: tuple(c for _, c in s.coverage) for g, s in scores.items()}
    return ReplayResult(
        header=header(trace),
        headlines=tuple(p for p in ours if p.scores.budget == 0.01),
        points=tuple(points),
        slack=tuple(row for r in (Resource.CPU, Resource.MEMORY) for row in slack_rows(points, r)),
        calibration=tuple(ours),
        reliability=tuple(
            Reliability(g, Resource.CPU, 1, LEVELS, covered[k], scores[k].count)
            for g, k in (("busy", "bursty"), ("idle", "calm"), ("cold", "cold"))
        ),
        risk=tuple(risks(trace, rng)),
        forecasts=tuple(ForecastResult(Resource.CPU, Statistic.MEAN, 1, g, s) for g, s in scores.items()),
        exemplars=tuple(exemplars(trace, kinds, rng)),
        pools=(pool(trace, "host-1"),),
    )
