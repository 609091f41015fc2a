"""The numbers of a memory replay: as plain values for ``summary.json``, and as a table for a terminal."""

from __future__ import annotations

from dataclasses import fields
from io import StringIO

from rich.console import Console
from rich.table import Table

from forestall.replay.memory.result import MemoryPoint, MemoryResult
from forestall.replay.report.summary import Json, plain
from forestall.replay.report.words import duration, percent

_WIDTH = 110


def memory_summary(result: MemoryResult) -> dict[str, Json]:
    """Everything but the arrays over time: NaN is null, keys keep their order."""
    return {
        "header": plain(result.header),
        "headline": _point(result.headline),
        "policies": [_point(p) for p in result.points],
    }


def _point(point: MemoryPoint) -> dict[str, Json]:
    named: dict[str, Json] = {"policy": point.policy, "variant": point.variant.value}
    return named | {f.name: plain(getattr(point.scores, f.name)) for f in fields(point.scores)}


def memory_terminal(result: MemoryResult) -> str:
    """What was there in time, beside what others have there."""
    buffer = StringIO()
    console = Console(file=buffer, width=_WIDTH)
    header = result.header
    console.print(
        f"{header.trace}: {header.touches:,} first touches of {header.vms} VM{'s' * (header.vms != 1)}, at most "
        f"{header.staging_pages:,} pages staged, in {duration(header.wall_seconds)}"
    )
    table = Table("policy", "in time", "precision", "staged", "let go untouched", "most at a time")
    for point in result.points:
        s = point.scores
        counts = (s.staged, s.let_go, s.most_staged)
        table.add_row(point.policy, percent(s.coverage), percent(s.precision), *(f"{count:,}" for count in counts))
    console.print(table)
    return buffer.getvalue().rstrip()
