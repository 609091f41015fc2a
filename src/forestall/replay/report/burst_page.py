"""The report of a burst replay as a page: one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forestall.replay.burst.replay import ORACLE
from forestall.replay.burst.result import BurstHeader, BurstPoint, BurstResult
from forestall.replay.policy_names import FORESTALL
from forestall.replay.report import burst_charts, words
from forestall.replay.report.ink import styled
from forestall.replay.report.templates import template
from forestall.replay.result import Variant

BROKEN = 1.2
"""So many times the budget is a promise that was not kept."""


def render_burst_report(result: BurstResult, path: Path) -> None:
    """Write the report; every name is escaped, VM and trace names come from elsewhere and may hold anything."""
    path.write_text(burst_page(result), encoding="utf-8")


def burst_page(result: BurstResult) -> str:
    """The report as HTML text."""
    with styled():
        context = _context(result)
    return template("burst.html.j2").render(context)


def _context(result: BurstResult) -> dict[str, object]:
    header, scored = result.header, [p for p in result.points if p.scores.decisions]
    return {
        "header": header,
        "result": result,
        "sentence": burst_sentence(result),
        "curve": burst_charts.lent_against_violations(scored, header.budgets, "curve") if scored else None,
        "marks": _marks(result),
        "shipped": [p for p in scored if p.variant is Variant.SHIPPED],
        "lives": [(s, burst_charts.seconds_of(s, f"seconds{i}")) for i, s in enumerate(result.stretches)],
        "coverage": burst_charts.peak_reliability(result.reliability, "coverage") if result.reliability else None,
        "trust": burst_charts.trust_bars(result.experts, "trust") if result.experts else None,
        "model": model_facts(header),
    }


def burst_sentence(result: BurstResult) -> str:
    """What happened, in one sentence."""
    header = result.header
    name = "Forestall" if header.policy == FORESTALL else header.policy
    vms = f"{header.vms:,} VM{'s' * (header.vms != 1)}"
    shown = [p for p in result.headlines if p.scores.decisions]
    if not shown:
        return f"{name} reserved cores for {vms} of a host of {header.cores:g}; nothing was scored."
    first, *others = shown
    text = (
        f"{name} lent {words.percent(first.scores.lent_share)} of the idle time of {words.cores(header.cores)} beside "
        f"{vms}; in {words.percent(first.scores.violation_share)} of the windows of {header.window_us / 1000:g} ms "
        f"{'they' if header.vms != 1 else 'it'} used more than was reserved"
    )
    if first.variant is Variant.FORESTALL:
        text += f" (budget {words.exact(first.knob)})"
    return "; ".join([text, *map(_in_short, others)]) + "."


def _in_short(point: BurstPoint) -> str:
    lent, short = words.percent(point.scores.lent_share), words.percent(point.scores.violation_share)
    return f"at a budget of {words.exact(point.knob)} it lent {lent}, short in {short}"


def _marks(result: BurstResult) -> list[list[str]]:
    """Of each cell (policy, budget): ``over`` for a broken promise, ``best`` for what lends most, the oracle aside."""
    rows, budgets = result.at_budget, result.header.budgets
    marks = [[_broken(point, budget) for point, budget in zip(row.points, budgets, strict=True)] for row in rows]
    for k in range(len(budgets)):
        rivals = {
            i: point.scores.lent_share
            for i, row in enumerate(rows)
            if (point := row.points[k]) and row.policy != ORACLE and not marks[i][k]
        }
        if rivals:
            marks[max(rivals, key=rivals.__getitem__)][k] = "best"
    return marks


def _broken(point: BurstPoint | None, budget: float) -> str:
    return "over" if point and point.scores.violation_share > BROKEN * budget else ""


def model_facts(header: BurstHeader) -> list[tuple[str, str]]:
    """What is known of the recurrent model, one line for each plain fact."""
    return [(str(key).replace("_", " "), _plain(value)) for key, value in (header.model or {}).items()]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
