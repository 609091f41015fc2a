"""Tables and pictures of a log of accesses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from forestall.model.amounts import amount
from forestall.ports.access_log import CONNECTION, UNIT_BYTES

if TYPE_CHECKING:
    from rich.table import Table

    from forestall.adapters.access_log.heatmap import Heatmap
    from forestall.adapters.access_log.runs import Run, RunShare
    from forestall.adapters.access_log.uses import Use

SHADES = " ░▒▓█"
LEAST_WIDTH = 100
"""In a narrower terminal lines are broken, so that no digit is lost."""
LABEL_WIDTH = 17
"""Columns beside a heatmap."""
_MIB = 1 << 20
_NAMES = ("trust group", "VM", "program", "place")
_HEADINGS = {
    "item": ("VM", "place", "offset"),
    "place": ("VM", "place"),
    "vm": ("VM",),
    "program": ("VM", "program"),
    "group": ("trust group", "VMs"),
}


def uses_table(uses: list[Use], by: str) -> Table:
    """What was used most, counted by one of the keys of a log."""
    headings = _HEADINGS[by]
    items = () if by == "item" else ("items",)
    table = _table(
        "times UTC, offsets in MiB" if by == "item" else "times UTC",
        (*headings, "accesses", "amount", "written", *items, "first", "for", "gap"),
    )
    for use in uses:
        shown = {
            "VM": use.vm_id or f"{use.vms} VMs",
            "program": use.program_id or "–",
            "place": use.place,
            "offset": _offset(use.kind, use.number),
            "trust group": use.trust_group or "(none)",
            "VMs": str(use.vms),
        }
        _add(
            table,
            *(shown[heading] for heading in headings),
            f"{use.accesses:,}",
            amount(use.size_bytes, "memory"),
            f"{100 * use.write_ratio:.0f} %",
            *(f"{use.items:,}" for _ in items),
            _instant(use.first_at),
            _duration(use.last_at - use.first_at),
            "–" if use.median_gap_seconds is None else _duration(use.median_gap_seconds),
        )
    return table


def runs_table(runs: list[Run]) -> Table:
    """The longest sequential runs."""
    table = _table(
        "longest runs: times UTC, offsets in MiB", ("VM", "place", "offset", "accesses", "amount", "began", "took")
    )
    for run in runs:
        _add(
            table,
            run.vm_id,
            run.place,
            _offset(run.kind, run.number),
            f"{run.accesses:,}",
            amount(run.size_bytes, "memory"),
            _instant(run.began_at),
            _duration(run.seconds),
        )
    return table


def shares_table(shares: list[RunShare], *, by_group: bool) -> Table:
    """Which share of accesses continue a run."""
    whose = ("trust group", "VMs") if by_group else ("VM", "place")
    table = _table("how much continues a run", (*whose, "accesses", "in a row", "longest"))
    for share in shares:
        of_group, of_vm = (share.trust_group or "(none)", str(share.vms)), (share.vm_id, share.place)
        told = of_group if by_group else of_vm
        _add(table, *told, f"{share.accesses:,}", f"{100 * share.ratio:.1f} %", f"{share.longest:,}")
    return table


def heatmap_lines(found: Heatmap) -> Iterator[str]:
    """Draw a heatmap: a line for each span of time, the oldest first."""
    most, (rows, columns) = int(found.counts.max()), found.counts.shape
    vms, places = (f"{n} {what}{'' if n == 1 else 's'}" for n, what in ((found.vms, "VM"), (found.places, "place")))
    yield f"{found.counts.sum():,} accesses of {vms} in {places}; {SHADES[-1]}: up to {most:,}; UTC, MiB"
    for row in range(rows):
        cells = "".join(SHADES[_shade(int(count), most)] for count in found.counts[row])
        yield f"{_instant(float(found.instants[row])):>14} ▕{cells}▏"
    low, middle, high = (f"{found.numbers[i] * UNIT_BYTES / _MIB:,.1f}" for i in (0, columns // 2, -1))
    width = max(columns, len(low) + len(middle) + len(high) + 2)
    gap = width - len(low) - len(high)
    yield f"{'':>14} {'':1}{low}{middle:^{gap}}{high}"


def _shade(count: int, most: int) -> int:
    """How dark a cell is: 0 for nothing, else 1 to 4 by the logarithm."""
    return math.ceil((len(SHADES) - 1) * math.log1p(count) / math.log1p(most)) if count else 0


def _table(title: str, headings: tuple[str, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, title=title)
    for heading in headings:
        name = heading in _NAMES
        table.add_column(heading, justify="left" if name else "right", overflow="fold", no_wrap=not name)
    return table


def _add(table: Table, *cells: str) -> None:
    from rich.markup import escape

    table.add_row(*map(escape, cells))


def _offset(kind: str, number: int | None) -> str:
    """Where in its place something is, in MiB; the number of a connection means nothing, and stands as it is."""
    if number is None:
        return ""
    return f"#{number}" if kind == CONNECTION else f"{number * UNIT_BYTES / _MIB:,.3f}"


def _instant(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%m-%d %H:%M:%S}"


def _duration(seconds: float) -> str:
    for most, unit, name in ((1.0, 1e-3, "ms"), (120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172_800.0, 3600.0, "h")):
        if seconds < most:
            return f"{seconds / unit:.2g} {name}" if seconds < 10 * unit else f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} d"
