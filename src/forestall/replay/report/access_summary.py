"""The numbers of an access replay: as plain values for ``summary.json``, and as a table for a terminal."""

from __future__ import annotations

from dataclasses import fields
from io import StringIO

from rich.console import Console
from rich.table import Table

from forestall.replay.access.result import AccessPoint, AccessResult
from forestall.replay.report.summary import Json, plain
from forestall.replay.report.words import duration, percent, size
from forestall.replay.result import Variant

_WIDTH = 110


def access_summary(result: AccessResult) -> dict[str, Json]:
    """Everything but the arrays over time: NaN is null, keys keep their order."""
    return {
        "header": plain(result.header),
        "headline": _point(result.headline),
        "policies": [_point(p) for p in result.points],
        "calibration": plain(result.calibration) if result.calibration else None,
    }


def _point(point: AccessPoint) -> dict[str, Json]:
    named: dict[str, Json] = {"policy": point.policy, "variant": point.variant.value, "knob": point.knob}
    return named | {f.name: plain(getattr(point.scores, f.name)) for f in fields(point.scores)}


def access_terminal(result: AccessResult) -> str:
    """What was removed of the misses, beside what others remove as they are shipped."""
    buffer = StringIO()
    console = Console(file=buffer, width=_WIDTH)
    header = result.header
    console.print(
        f"{header.trace}: {header.accesses:,} accesses to {header.items:,} items, a cache of {header.cache_items:,}, "
        f"arrival after {header.arrival_delay}, in {duration(header.wall_seconds)}"
    )
    if header.model_bytes:
        console.print(f"staging took in {header.accesses_per_s:,.0f} accesses/s in {size(header.model_bytes)}")
    table = Table("policy", "setting", "removed", "hits", "precision", "in time", "pollution", "of jumps", "fetched")
    for point in result.points:
        if point.variant is Variant.TUNED:
            continue
        s = point.scores
        shown = (s.removed_share, s.hit_ratio, s.precision, s.timeliness, s.pollution, s.jump_removed_share)
        table.add_row(point.policy, point.knob, *map(percent, shown), f"{s.issued:,}")
    console.print(table)
    return buffer.getvalue().rstrip()
