"""The numbers of a burst replay: as plain values for ``summary.json``, and as a table for a terminal."""

from __future__ import annotations

from dataclasses import fields, replace
from io import StringIO

from rich.console import Console
from rich.table import Table

from forestall.replay.burst.result import AtBudget, BurstPoint, BurstResult
from forestall.replay.report.summary import Json, plain
from forestall.replay.report.words import cores, duration, exact, percent, small

_WIDTH = 110


def burst_summary(result: BurstResult) -> dict[str, Json]:
    """Everything but the arrays over time: NaN is null, keys keep their order."""
    header = plain(replace(result.header, model=None))
    assert isinstance(header, dict)
    return {
        "header": header | {"model": _mapping(result.header.model)},
        "headlines": [_point(p) for p in result.headlines],
        "policies": [_point(p) for p in result.points],
        "at_budget": [entry for row in result.at_budget for entry in _row(row, result.header.budgets)],
        "reliability": [plain(row) for row in result.reliability],
        "experts": {name: plain(trust) for name, trust in result.experts.items()},
    }


def _mapping(value: object) -> Json:
    """What is known of a model, whatever its shape."""
    if hasattr(value, "items"):
        return {str(key): _mapping(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_mapping(inner) for inner in value]
    return plain(value)


def _point(point: BurstPoint) -> dict[str, Json]:
    named: dict[str, Json] = {
        "policy": point.policy,
        "variant": point.variant.value,
        "knob": plain(point.knob),
    }
    return named | {f.name: plain(getattr(point.scores, f.name)) for f in fields(point.scores)}


def _row(row: AtBudget, budgets: tuple[float, ...]) -> list[Json]:
    """One entry for each budget; no scores where it cannot be kept."""
    entries: list[Json] = []
    for budget, point in zip(budgets, row.points, strict=True):
        named: dict[str, Json] = {"budget": budget, "policy": row.policy, "in_hindsight": row.in_hindsight}
        entries.append(named | (_point(point) if point else {}))
    return entries


def burst_terminal(result: BurstResult) -> str:
    """What was promised, kept and lent, beside what others lend."""
    buffer = StringIO()
    console = Console(file=buffer, width=_WIDTH)
    header = result.header
    console.print(
        f"{header.trace}: {header.vms} VMs, {header.windows} windows of {header.trace_window_us / 1000:g} ms, "
        f"{cores(header.cores)}, {'one reservation for all' if header.pooled else 'a reservation for each'}, "
        f"in {duration(header.wall_seconds)}"
    )
    console.print(_headlines(result.headlines))
    if len(result.at_budget) > 1:
        console.print(_compared(result))
    return buffer.getvalue().rstrip()


def _headlines(points: tuple[BurstPoint, ...]) -> Table:
    table = Table("policy", "setting", "violated", "worst", "lent", "unmet", "reserved", "changes/s")
    for point in points:
        s = point.scores
        shown = (s.violation_share, s.worst_violation_share, s.lent_share, s.unmet_share)
        moves = (f"{s.mean_reserved_cores:.2f}", f"{s.changes_per_s:.1f}") if s.decisions else ("–", "–")
        table.add_row(point.policy, small(point.knob), *map(percent, shown), *moves)
    return table


def _compared(result: BurstResult) -> Table:
    table = Table("lent at violations of", *(exact(budget) for budget in result.header.budgets), "knob chosen")
    for row in result.at_budget:
        lent = (percent(p.scores.lent_share) if p else "–" for p in row.points)
        table.add_row(row.policy, *lent, "in hindsight" if row.in_hindsight else "beforehand")
    return table
