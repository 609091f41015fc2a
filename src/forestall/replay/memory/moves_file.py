"""The Parquet file of what was staged and let go; its columns are a contract of ``forestall replay``."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from forestall.replay.memory.area import Move
from forestall.replay.memory.trace import MemoryTrace

STAGING = pa.schema(
    [
        ("sequence", pa.int64()),
        ("vm_id", pa.string()),
        ("first_page", pa.uint64()),
        ("pages", pa.int64()),
        ("action", pa.string()),
    ]
)
STAGE, EVICT = "stage", "evict"


def write_moves(path: Path, trace: MemoryTrace, moves: list[Move]) -> None:
    """Write ``staging.parquet``: after each touch what is let go, then what is staged, neighbours in one row."""
    rows = [row for after, group in groupby(moves, key=lambda move: move.after) for row in _rows(after, list(group))]
    sequence = trace.sequence.tolist()
    columns = [
        pa.array([sequence[after] for after, *_ in rows], pa.int64()),
        pa.array([trace.vm_ids[vm] for _, vm, *_ in rows], pa.string()),
        pa.array([first for _, _, first, _, _ in rows], pa.uint64()),
        pa.array([pages for _, _, _, pages, _ in rows], pa.int64()),
        pa.array([STAGE if staged else EVICT for *_, staged in rows], pa.string()),
    ]
    pq.write_table(pa.Table.from_arrays(columns, schema=STAGING), path, compression="zstd")


def _rows(after: int, moves: list[Move]) -> list[tuple[int, int, int, int, bool]]:
    """Ranges of one touch: touch, VM, first page, pages, whether staged; what came and went at once is nothing."""
    net: dict[tuple[int, int], int] = {}
    for move in moves:
        net[move.vm, move.page] = net.get((move.vm, move.page), 0) + (1 if move.staged else -1)
    rows: list[tuple[int, int, int, int, bool]] = []
    for staged in (False, True):
        for vm, page in sorted(place for place, change in net.items() if change == (1 if staged else -1)):
            if rows and rows[-1][1] == vm and rows[-1][4] == staged and rows[-1][2] + rows[-1][3] == page:
                rows[-1] = (*rows[-1][:3], rows[-1][3] + 1, staged)
            else:
                rows.append((after, vm, page, 1, staged))
    return rows
