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
from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.replay.trace_files import VM_ID_TYPE, Piece, read_pieces
from forestall.replay.trace_values import numbers, timestamps, vm_codes, whole_numbers

KINDS = ("block", "page", "connection")
OPERATIONS = ("r", "w", "x")
COLUMNS = ("sequence", "vm_id", "program_id", "resource_type", "resource_id", "op", "size_bytes", "timestamp_us")
OPTIONAL = ("program_id", "op", "size_bytes", "timestamp_us")
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
    size_bytes
        Size of each access.
    time_us
        When; None if the trace does not say.
    digest
        SHA-256 of the content.
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
    size_bytes: FloatArray
    time_us: IntArray | None
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
        for space in range(len(self.spaces)):
            mine = np.flatnonzero(self.space == space)
            step = np.diff(self.resource[mine])
            jumps[mine[1:]] = (step != 1) & (step != 0)
        return jumps


def read_access_trace(path: Path, warn: Warn) -> AccessTrace:
    """Read a trace from a Parquet or CSV file, or from a folder of them.

    Parameters
    ----------
    path
        Columns ``sequence``, ``vm_id``, ``resource_type``, ``resource_id``; optional ``program_id``, ``op``,
        ``size_bytes``, ``timestamp_us``.
    warn
        Takes one line for each thing that was repaired.

    Raises
    ------
    BadInput
        It cannot be read or understood; the text names file, row and column.
    """
    names: dict[str, int] = {}
    types = {"vm_id": VM_ID_TYPE, "program_id": VM_ID_TYPE, "resource_type": VM_ID_TYPE, "op": VM_ID_TYPE}
    frames = [_frame(piece, names, warn) for piece in read_pieces(path, COLUMNS, types)]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    if not len(frame):
        raise BadInput("has no rows", path=path)
    if not frame["sequence"].is_monotonic_increasing:
        warn(f"repair: {path}: column sequence: rows are out of order, sorted")
        frame = frame.sort_values("sequence", kind="stable", ignore_index=True)
    if frame["sequence"].duplicated().any():
        warn(f"warning: {path}: column sequence: {int(frame['sequence'].duplicated().sum())} accesses share a number")
    return _trace(path.name, frame, tuple(names))


def _frame(piece: Piece, names: dict[str, int], warn: Warn) -> pd.DataFrame:
    """The columns of a piece as numbers; names of VMs and programs by their place in ``names``."""
    for column in COLUMNS:
        count = list(piece.header).count(column)
        if count > 1 or (count == 0 and column not in OPTIONAL):
            raise BadInput("stands twice in the header" if count else "is missing", path=piece.path, column=column)
    path, table = piece.path, piece.table
    kind = _choices(path, table.column("resource_type"), KINDS, "resource_type")
    found: dict[str, NDArray[Any]] = {
        "sequence": timestamps(path, table.column("sequence"), "sequence", "accesses"),
        "vm": vm_codes(path, table.column("vm_id"), names),
        "kind": kind,
        "resource": whole_numbers(path, table.column("resource_id"), "resource_id").view(np.int64),
    }
    found["program"] = _programs(path, table, names)
    if "op" in piece.header:
        _choices(path, table.column("op"), OPERATIONS, "op")
    found["size"] = _sizes(path, table, warn)
    frame = pd.DataFrame(found)
    if "timestamp_us" in piece.header:
        frame["time_us"] = timestamps(path, table.column("timestamp_us"), "timestamp_us", "microseconds")
    return frame


def _programs(path: Path, table: pa.Table, names: dict[str, int]) -> IntArray:
    """Programs; who has none is in one of no name."""
    if "program_id" not in table.column_names:
        return np.full(len(table), -1)
    column = table.column("program_id").cast(pa.string()).fill_null("")
    empty = pa.compute.equal(column, "").to_numpy(zero_copy_only=False)
    named = pa.compute.if_else(pa.array(empty), "-", column)
    return np.where(
        empty, -1, vm_codes(path, pa.chunked_array([named]) if isinstance(named, pa.Array) else named, names)
    )


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


def _sizes(path: Path, table: pa.Table, warn: Warn) -> FloatArray:
    if "size_bytes" not in table.column_names:
        return np.full(len(table), np.nan)
    sizes = numbers(path, "size_bytes", table.column("size_bytes"))
    bad = ~(sizes >= 0) & ~np.isnan(sizes) | np.isinf(sizes)
    if bad.any():
        row = int(np.argmax(bad)) + 1
        warn(f"repair: {path}: row {row}, column size_bytes: not possible, left out ({int(bad.sum())} in all)")
    return np.where(bad, np.nan, sizes)


def _trace(name: str, frame: pd.DataFrame, names: tuple[str, ...]) -> AccessTrace:
    named = (*names, "")  # -1 is nobody's name
    space, spaces = _numbered(frame, ["vm", "kind"])
    stream, streams = _numbered(frame, ["vm", "program", "kind"])
    resource = frame["resource"].to_numpy(np.int64)
    item, _ = pd.factorize(_keys(space, resource))
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
        size_bytes=frame["size"].to_numpy(np.float64),
        time_us=frame["time_us"].to_numpy(np.int64) if "time_us" in frame and frame["time_us"].notna().all() else None,
        digest=digest.hexdigest(),
        name=name,
    )


def _numbered(frame: pd.DataFrame, columns: list[str]) -> tuple[NDArray[np.int32], list[tuple[int, ...]]]:
    """Number the combinations of some columns in order of appearance."""
    together = pd.MultiIndex.from_frame(frame[columns])
    code, unique = pd.factorize(together)
    return code.astype(np.int32), [tuple(int(part) for part in each) for each in unique]


def _keys(space: NDArray[np.int32], resource: IntArray) -> Any:
    """One key for each resource of each space."""
    return pd.MultiIndex.from_arrays([space, resource]) if space.any() else resource
