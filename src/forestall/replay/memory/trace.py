"""Memory traces: which guest page was touched for the first time, one row a touch, in order.

VMs and trust groups stand in order of appearance, so that cutting the trace changes nothing before the cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from forestall.model.errors import BadInput
from forestall.model.samples import IntArray
from forestall.replay.access.trace import sequence_of
from forestall.replay.trace_files import VM_ID_TYPE, Piece, read_pieces
from forestall.replay.trace_values import vm_codes, whole_numbers

COLUMNS = ("sequence", "vm_id", "trust_group", "page")
OPTIONAL = ("trust_group",)
TYPES = {"sequence": pa.uint64(), "vm_id": VM_ID_TYPE, "trust_group": VM_ID_TYPE, "page": pa.uint64()}
MOST_PAGES = 1 << 52
"""A page of 4 KiB of a machine with 64-bit addresses has a smaller number."""


@dataclass(frozen=True, eq=False)
class MemoryTrace:
    """A memory trace; arrays (touch,) in the order of ``sequence``.

    Attributes
    ----------
    vm_ids, groups
        VMs, and trust groups, in order of appearance; the group of those that are in none is their VM's name.
    sequence
        As in the file, increasing.
    vm, group
        Index of each touch's VM and trust group.
    page
        Number of the page.
    digest
        SHA-256 of the content.
    name
        What to call it.
    """

    vm_ids: tuple[str, ...]
    groups: tuple[str, ...]
    sequence: IntArray
    vm: NDArray[np.int32]
    group: NDArray[np.int32]
    page: IntArray
    digest: str
    name: str

    def __len__(self) -> int:
        return len(self.sequence)


def read_memory_trace(path: Path, warn: Callable[[str], None]) -> MemoryTrace:
    """Read a trace from a Parquet or CSV file, or from a folder of them.

    Parameters
    ----------
    path
        Columns ``sequence``, ``vm_id``, ``page``; optional ``trust_group``. Others are not read.
    warn
        Takes one line for each thing that was repaired.

    Raises
    ------
    BadInput
        It cannot be read or understood; the text names file, row and column.
    """
    vms, groups = dict[str, int](), dict[str, int]()
    frames = [_frame(piece, vms, groups) for piece in read_pieces(path, COLUMNS, TYPES)]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    if not len(frame):
        raise BadInput("has no rows", path=path)
    if not frame["sequence"].is_monotonic_increasing:
        warn(f"repair: {path}: column sequence: rows are out of order, sorted")
        frame = frame.sort_values("sequence", kind="stable", ignore_index=True)
    return _trace(path.name, frame, tuple(vms), tuple(groups))


def _frame(piece: Piece, vms: dict[str, int], groups: dict[str, int]) -> pd.DataFrame:
    for column in COLUMNS:
        count = list(piece.header).count(column)
        if count > 1 or (count == 0 and column not in OPTIONAL):
            raise BadInput("stands twice in the header" if count else "is missing", path=piece.path, column=column)
    path, table = piece.path, piece.table
    page = whole_numbers(path, table.column("page"), "page")
    if (page >= MOST_PAGES).any():
        row = int(np.argmax(page >= MOST_PAGES))
        raise BadInput(f"{int(page[row])} is not the number of a page", path=path, row=row + 1, column="page")
    found: dict[str, NDArray[Any]] = {
        "sequence": sequence_of(path, table.column("sequence")),
        "vm": vm_codes(path, table.column("vm_id"), vms),
        "page": page.astype(np.int64),
    }
    # Who is in no group is alone.
    known = "trust_group" in piece.header
    found["group"] = vm_codes(path, table.column("trust_group"), groups, "trust_group") if known else -1 - found["vm"]
    return pd.DataFrame(found)


def _trace(name: str, frame: pd.DataFrame, vms: tuple[str, ...], groups: tuple[str, ...]) -> MemoryTrace:
    vm, vm_order = pd.factorize(frame["vm"])
    group, group_order = pd.factorize(frame["group"])
    vm_ids = tuple(vms[int(k)] for k in vm_order)
    group_names = tuple(groups[int(k)] if k >= 0 else vms[-1 - int(k)] for k in group_order)
    sequence, page = frame["sequence"].to_numpy(np.int64), frame["page"].to_numpy(np.int64)
    digest = hashlib.sha256(repr((vm_ids, group_names)).encode())
    for array in (sequence, vm.astype(np.int32), group.astype(np.int32), page):
        digest.update(np.ascontiguousarray(array).tobytes())
    return MemoryTrace(
        vm_ids=vm_ids,
        groups=group_names,
        sequence=sequence,
        vm=vm.astype(np.int32),
        group=group.astype(np.int32),
        page=page,
        digest=digest.hexdigest(),
        name=name,
    )
