"""The headline of a replay as a table for a terminal."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.table import Table

from forestall.replay.report.words import LABELS, duration, exact, number, percent, size
from forestall.replay.result import CurvePoint, ReplayResult, SlackRow

_WIDTH = 110


def terminal_summary(result: ReplayResult) -> str:
    """What was promised and kept, and the slack at equal violations when policies were compared."""
    buffer = StringIO()
    console = Console(file=buffer, width=_WIDTH)
    header = result.header
    console.print(
        f"{header.trace}: {header.vms} VMs, {header.intervals} intervals of {duration(header.step_seconds)}, "
        f"lead {header.lead_steps}, in {duration(header.wall_seconds)}, {size(header.peak_memory_bytes)} at most"
    )
    console.print(_headlines(result.headlines))
    if len({row.policy for row in result.slack}) > 1:
        console.print(_slack(result.slack))
    return buffer.getvalue().rstrip()


def _headlines(points: tuple[CurvePoint, ...]) -> Table:
    table = Table("policy", "resource", "budget", "violations", "P95 VM", "slack", "reclaimed", "changes/VM-h")
    for point in points:
        s = point.scores
        table.add_row(
            point.policy,
            LABELS[point.resource],
            exact(s.budget),
            percent(s.violation_share),
            percent(s.p95_vm_share),
            number(s.slack),
            percent(s.reclaimed_share),
            number(s.changes_per_vm_hour, 1),
        )
    return table


def _slack(rows: tuple[SlackRow, ...]) -> Table:
    shares = [at.violation_share for at in rows[0].slack]
    table = Table("slack at violations of", "", *(exact(share) for share in shares))
    for row in rows:
        table.add_row(row.policy, LABELS[row.resource], *(number(at.slack) for at in row.slack))
    return table
