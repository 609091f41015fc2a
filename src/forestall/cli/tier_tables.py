"""Tables of tiers, of disks on them, and of moves."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

MIB, GIB = 1 << 20, 1 << 30


def tiers_table(rows: list[dict[str, Any]]) -> Table:
    """Every tier, the quickest first."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("tier", "folder", "a request takes", "free", "disks", "their images")
    for row in rows:
        sizes = _size(row["free_bytes"]), str(row["disks"]), _size(row["disks_bytes"])
        table.add_row(escape(row["name"]), escape(row["folder"]), f"{row['request_ms']:g} ms", *sizes)
    return table


def disks_table(rows: list[dict[str, Any]]) -> Table:
    """Every disk: where it lies, what it will be asked, and what becomes of it."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("VM", "disk", "tier", "image", "requests/s", "each waits", "to", "takes", "saves", "costs", "why")
    for row in rows:
        move = [_seconds(row[f"{key}_seconds"]) if row["gain_seconds"] else "" for key in ("lead", "gain", "cost")]
        wait = "–" if row["wait_ms"] is None else f"{row['wait_ms']:.2f} ms"
        table.add_row(
            escape(row["vm_id"]),
            escape(row["target"]),
            escape(row["tier"]) or "–",
            _size(row["size_bytes"]),
            f"{row['requests_per_s']:.2f}",
            wait,
            escape(row["to_tier"]),
            *move,
            escape(row["why"]),
        )
    return table


def moves_table(rows: list[dict[str, Any]]) -> Table:
    """Moves, and how far they are."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("began", "VM", "disk", "from", "to", "copied", "state", "why", "outcome")
    for row in rows:
        began = datetime.fromtimestamp(row["began_at"]).strftime("%Y-%m-%d %H:%M:%S")
        names = (escape(row["vm_id"]), escape(row["target"]), escape(row["from_tier"]) or "–", escape(row["to_tier"]))
        copied = f"{_size(row['copied_bytes'])} of {_size(row['size_bytes'])}"
        table.add_row(began, *names, copied, row["state"], escape(row["why"]), escape(row["said"]))
    return table


def _size(size_bytes: float) -> str:
    return f"{size_bytes / GIB:.2f} GiB" if size_bytes >= GIB else f"{size_bytes / MIB:.1f} MiB"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if abs(seconds) < 600 else f"{seconds / 3600:.1f} h"
