"""The numbers of a traffic replay: as plain values for ``summary.json``, and as a table for a terminal."""

from __future__ import annotations

from dataclasses import fields
from io import StringIO

from rich.console import Console
from rich.table import Table

from forestall.replay.report.summary import Json, plain
from forestall.replay.report.words import duration, percent
from forestall.replay.traffic.result import TrafficPoint, TrafficResult

_WIDTH = 110


def traffic_summary(result: TrafficResult) -> dict[str, Json]:
    """Everything but the arrays over time: NaN is null, keys keep their order."""
    return {
        "header": plain(result.header),
        "headline": _point(result.headline),
        "policies": [_point(p) for p in result.points],
    }


def _point(point: TrafficPoint) -> dict[str, Json]:
    named: dict[str, Json] = {"policy": point.policy, "variant": point.variant.value}
    return named | {f.name: plain(getattr(point.scores, f.name)) for f in fields(point.scores)}


def traffic_terminal(result: TrafficResult) -> str:
    """How the worst link was used, beside what it is with others."""
    buffer = StringIO()
    console = Console(file=buffer, width=_WIDTH)
    header = result.header
    console.print(
        f"{header.trace}: {header.pairs:,} pairs of {header.nodes} nodes, {header.intervals:,} intervals of "
        f"{duration(header.step_seconds)}, in {duration(header.wall_seconds)}"
    )
    table = Table("policy", "worst link: mean", "P99", "over 100 %", "lost", "links on the way", "rule changes")
    for point in result.points:
        s = point.scores
        worst = (f"{s.mean_worst:.3f}", f"{s.p99_worst:.2f}", percent(s.over_share), percent(s.lost_share))
        table.add_row(point.policy, *worst, f"{s.mean_hops:.2f}", f"{s.changes:.1f}")
    console.print(table)
    return buffer.getvalue().rstrip()
