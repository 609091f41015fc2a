"""Access traces: which VM and program used which block, page or connection, one row an access, in order.

Numbers of VMs, streams and items are given in order of appearance, so that cutting the trace changes none before the
cut. Nothing may be learned from them; neighbours among ``resource`` are neighbours on a disk or in memory.
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
from forestall.model.samples import BoolArray, IntArray
from forestall.replay.trace_files import VM_ID_TYPE, Piece, read_pieces
from forestall.replay.trace_values import vm_codes, whole_numbers

KINDS = ("block", "page", "connection")
OPERATIONS = ("r", "w", "x")
COLUMNS = ("sequence", "vm_id", "program_id", "resource_type", "resource_id", "op")
OPTIONAL = ("program_id", "op")
TYPES = {
    "sequence": pa.uint64(),
    "vm_id": VM_ID_TYPE,
    "program_id": VM_ID_TYPE,
    "resource_type": VM_ID_TYPE,
    "resource_id": pa.uint64(),
    "op": VM_ID_TYPE,
}
MOST_SEQUENCE = 1 << 63
Warn = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class AccessTrace:
    """An access trace; arrays (access,) in the order of ``sequence``.

    Attributes
    ----------
    spaces
        VM and kind of resource of each space of numbers, in order of appearance.
    streams
        VM, program and kind of each stream, in order of appearance.
    sequence
        As in the file, increasing.
    space, stream
        Index into ``spaces`` and ``streams`` of each access.
    resource
        Number of the block, page or connection, modulo 2**64 as a signed number.
    item
        The same for the same space and number: 0, 1, ... in order of appearance.
    digest
        SHA-256 of the streams, and of the sequence and number of each access.
    name
        What to call it.
    """

    spaces: tuple[tuple[str, str], ...]
    streams: tuple[tuple[str, str, str], ...]
    sequence: IntArray
    space: NDArray[np.int32]
    stream: NDArray[np.int32]
    resource: IntArray
    item: NDArray[np.int32]
    digest: str
    name: str

    def __len__(self) -> int:
        return len(self.sequence)

    @property
    def items(self) -> int:
        """How many different blocks, pages and connections are used."""
        return int(self.item.max()) + 1 if len(self.item) else 0

    @property
    def vm_ids(self) -> tuple[str, ...]:
        """The VMs, in order of appearance."""
        return tuple(dict.fromkeys(vm_id for vm_id, _ in self.spaces))

    @property
    def jumps(self) -> BoolArray:
        """Whether each access does not follow the one before in its space, nor repeats it; array (access,)."""
        jumps = np.ones(len(self), np.bool_)
        order = np.argsort(self.space, kind="stable")
        step, same = np.diff(self.resource[order]), np.diff(self.space[order]) == 0
        jumps[order[1:]] = ~same | ((step != 1) & (step != 0))
        return jumps


def read_access_trace(path: Path, warn: Warn) -> AccessTrace:
    """Read a trace from a Parquet or CSV file, or from a folder of them.

    Parameters
    ----------
    path
        Columns ``sequence``, ``vm_id``, ``resource_type``, ``resource_id``; optional ``program_id``, ``op``. Others are
        not read.
    warn
        Takes one line for each thing that was repaired.

    Raises
    ------
    BadInput
        It cannot be read or understood; the text names file, row and column.
    """
    names: dict[str, int] = {}
    frames = [_frame(piece, names) for piece in read_pieces(path, COLUMNS, TYPES)]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    if not len(frame):
        raise BadInput("has no rows", path=path)
    if not frame["sequence"].is_monotonic_increasing:
        warn(f"repair: {path}: column sequence: rows are out of order, sorted")
        frame = frame.sort_values("sequence", kind="stable", ignore_index=True)
    if shared := int(frame["sequence"].duplicated().sum()):
        what = f"{shared} accesses share a number; what is staged after them helps later numbers only"
        warn(f"warning: {path}: column sequence: {what}")
    return _trace(path.name, frame, tuple(names))


def _frame(piece: Piece, names: dict[str, int]) -> pd.DataFrame:
    """The columns of a piece as numbers; names of VMs and programs by their place in ``names``."""
    for column in COLUMNS:
        count = list(piece.header).count(column)
        if count > 1 or (count == 0 and column not in OPTIONAL):
            raise BadInput("stands twice in the header" if count else "is missing", path=piece.path, column=column)
    path, table = piece.path, piece.table
    kind = _choices(path, table.column("resource_type"), KINDS, "resource_type")
    found: dict[str, NDArray[Any]] = {
        "sequence": sequence_of(path, table.column("sequence")),
        "vm": vm_codes(path, table.column("vm_id"), names),
        "kind": kind,
        "resource": whole_numbers(path, table.column("resource_id"), "resource_id").view(np.int64),
    }
    found["program"] = _programs(path, table, names)
    if "op" in piece.header:
        _choices(path, table.column("op"), OPERATIONS, "op")
    return pd.DataFrame(found)


def sequence_of(path: Path, column: pa.ChunkedArray) -> IntArray:
    """Numbers that tell the order."""
    found = whole_numbers(path, column, "sequence")
    if (found >= MOST_SEQUENCE).any():
        row = int(np.argmax(found >= MOST_SEQUENCE))
        raise BadInput(f"{int(found[row])} is too large", path=path, row=row + 1, column="sequence")
    return found.astype(np.int64)


def _programs(path: Path, table: pa.Table, names: dict[str, int]) -> IntArray:
    """Programs; who has none is in one of no name."""
    if "program_id" not in table.column_names:
        return np.full(len(table), -1)
    kind = table.column("program_id").type
    try:
        column = table.column("program_id").cast(pa.string()).fill_null("").combine_chunks()
    except pa.ArrowException as error:
        raise BadInput(f"holds {kind}, expected text", path=path, column="program_id") from error
    empty = pa.compute.equal(column, "").to_numpy(zero_copy_only=False)
    named = pa.chunked_array([pa.compute.if_else(pa.array(empty), "-", column)])
    return np.where(empty, -1, vm_codes(path, named, names, "program_id"))


def _choices(path: Path, column: pa.ChunkedArray, known: tuple[str, ...], name: str) -> IntArray:
    """Each value's place among those that may be."""
    codes: dict[str, int] = {}
    place = vm_codes(path, column, codes, name)
    of = np.array([known.index(value) if value in known else -1 for value in codes], np.int64)
    found: IntArray = of[place]
    if (found < 0).any():
        row = int(np.argmax(found < 0))
        value = list(codes)[int(place[row])]
        raise BadInput(f"{value[:40]!r} is none of {', '.join(known)}", path=path, row=row + 1, column=name)
    return found


def _trace(name: str, frame: pd.DataFrame, names: tuple[str, ...]) -> AccessTrace:
    named = (*names, "")  # -1 is nobody's name
    space, spaces = _numbered(frame, ["vm", "kind"])
    stream, streams = _numbered(frame, ["vm", "program", "kind"])
    resource = frame["resource"].to_numpy(np.int64)
    item, _ = pd.factorize(item_keys(space, resource))
    kinds = [(named[vm], KINDS[kind]) for vm, kind in spaces]
    programs = [(named[vm], named[program], KINDS[kind]) for vm, program, kind in streams]
    digest = hashlib.sha256(repr((kinds, programs)).encode())
    for array in (frame["sequence"].to_numpy(np.int64), stream, resource):
        digest.update(np.ascontiguousarray(array).tobytes())
    return AccessTrace(
        spaces=tuple(kinds),
        streams=tuple(programs),
        sequence=frame["sequence"].to_numpy(np.int64),
        space=space,
        stream=stream,
        resource=resource,
        item=item.astype(np.int32),
        digest=digest.hexdigest(),
        name=name,
    )


def _numbered(frame: pd.DataFrame, columns: list[str]) -> tuple[NDArray[np.int32], list[tuple[int, ...]]]:
    """Number the combinations of some columns in order of appearance."""
    together = pd.MultiIndex.from_frame(frame[columns])
    code, unique = pd.factorize(together)
    return code.astype(np.int32), [tuple(int(part) for part in each) for each in unique]


def item_keys(space: NDArray[np.int32], resource: IntArray) -> Any:
    """One key for each resource of each space."""
    return pd.MultiIndex.from_arrays([space, resource]) if space.any() else resource
