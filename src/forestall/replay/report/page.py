"""The report as a page: one HTML file that needs nothing else, for a laptop, a phone or paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from markupsafe import Markup

from forestall.model.resources import Resource
from forestall.replay.report import charts, probability_charts, words
from forestall.replay.report.ink import styled
from forestall.replay.report.templates import template
from forestall.replay.result import CurvePoint, ReplayResult, SlackRow, Variant


class _OfResource(Protocol):
    @property
    def resource(self) -> Resource: ...


Item = TypeVar("Item", bound=_OfResource)


def render_report(result: ReplayResult, path: Path) -> None:
    """Write the report of a replay as one HTML file without links to anything outside it.

    Every name is escaped: VM and trace names come from elsewhere and may hold anything.
    """
    path.write_text(report_page(result), encoding="utf-8")


def report_page(result: ReplayResult) -> str:
    """The report as HTML text."""
    with styled():
        context = _context(result)
    return template("report.html.j2").render(context)


def _context(result: ReplayResult) -> dict[str, object]:
    header = result.header
    return {
        "header": header,
        "result": result,
        "sentence": sentence(result),
        "labels": words.LABELS,
        "curves": _per_resource(result.points, _curve_chart(header.budgets)),
        "tables": _per_resource(result.slack, _slack_table),
        "budgets": _per_resource(result.calibration, _calibration_chart),
        "coverage": _per_resource(result.reliability, probability_charts.quantile_reliability, "coverage"),
        "risks": _per_resource(result.risk, probability_charts.risk_reliability, "risk"),
        "lives": [(vm, charts.vm_life(vm, f"vm{i}")) for i, vm in enumerate(result.exemplars) if len(vm.times)],
        "pools": [(p, charts.pool_use(p, f"pool{i}")) for i, p in enumerate(result.pools) if len(p.times)],
        "churn": _per_resource(churn_points(result), charts.churn_bars, "churn"),
    }


def sentence(result: ReplayResult) -> str:
    """What happened, in one sentence."""
    header = result.header
    days = (header.end - header.evaluate_from) / 86_400
    name = "Forestall" if header.policy == "forestall" else header.policy
    first = {p.resource: p for p in reversed(result.headlines)}
    shown = [first[r] for r in Resource if r in first][:2]
    text = f"{name} sized {header.vms:,} VM{'s' * (header.vms != 1)} for {words.number(days, 1)} days"
    parts = [_outcome(p) for p in shown]
    return f"{text}: {', and '.join(parts)}." if parts else f"{text}."


def _outcome(point: CurvePoint) -> str:
    """What happened to one resource, in half a sentence."""
    name = "CPU" if point.resource is Resource.CPU else words.LABELS[point.resource].lower()
    short, budget = words.percent(point.scores.violation_share), words.exact(point.scores.budget)
    reclaimed, slack = point.scores.reclaimed_share, words.number(point.scores.slack)
    gain = f"with slack of {slack} times demand"
    if not math.isnan(reclaimed):
        gain = f"while {words.percent(reclaimed)} of what was provisioned came back"
    return f"{name} ran short in {short} of the intervals (budget {budget}) {gain}"


def churn_points(result: ReplayResult) -> list[CurvePoint]:
    """One point for each policy and resource: Forestall's headline, and each peer as shipped (or first)."""
    chosen: dict[tuple[Resource, str], CurvePoint] = {}
    ranked = [p for p in result.points if p.variant is Variant.SHIPPED] + list(result.points)
    for point in [*result.headlines, *ranked]:
        chosen.setdefault((point.resource, point.policy), point)
    return sorted(chosen.values(), key=lambda p: (p.resource, p.scores.changes_per_vm_hour))


def _per_resource(
    items: Sequence[Item], show: Callable[[Sequence[Item], str], object], prefix: str = "chart"
) -> list[tuple[Resource, list[Item], object]]:
    """What ``show`` makes of the items of each resource: (resource, items, shown)."""
    shown = []
    for resource in Resource:
        mine = [item for item in items if item.resource is resource]
        if mine:
            shown.append((resource, mine, show(mine, f"{prefix}-{resource.value}")))
    return shown


def _curve_chart(budgets: tuple[float, ...]) -> Callable[[Sequence[CurvePoint], str], Markup]:
    budget = budgets[0] if len(budgets) == 1 else None
    return lambda points, name: charts.violations_against_slack(points, f"curve{name}", budget)


def _calibration_chart(points: Sequence[CurvePoint], name: str) -> Markup | None:
    """A chart only where there is more than one budget to draw."""
    asked = {p.scores.budget for p in points}
    return probability_charts.budget_kept(points, f"budget{name}") if len(asked) > 1 else None


def _slack_table(rows: Sequence[SlackRow], name: str) -> list[list[bool]]:
    """Whether each cell (policy, violation share) is the least slack of its column, the oracle aside."""
    columns = [[row.slack[i].slack for row in rows] for i in range(len(rows[0].slack))]
    best = [min((v for v in column if v == v), default=None) for column in columns]
    return [[row.slack[i].slack == best[i] for i in range(len(best))] for row in rows]
