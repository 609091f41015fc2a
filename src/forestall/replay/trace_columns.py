"""The columns of a demand trace: their names, and the rows of all its files as arrays."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from forestall.model.errors import BadInput
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.replay.trace_files import VM_ID_TYPE, Piece
from forestall.replay.trace_values import numbers, timestamps, vm_codes

PEAK_COLUMN, USERS_COLUMN = "cpu_peak_cores", "active_users"
STEP_KEY = b"forestall.step_seconds"
"""Key of the Parquet metadata under which a trace that Forestall wrote keeps its step."""


def value_columns(resources: Iterable[Resource] = tuple(Resource)) -> tuple[str, ...]:
    """Names of the columns that hold numbers for these resources: demand, limits, the CPU's peak, users."""
    chosen = tuple(resources)
    limits = (r.limit_column for r in chosen)
    peak = (PEAK_COLUMN,) if Resource.CPU in chosen else ()
    return (*(r.demand_column for r in chosen), *(c for c in limits if c is not None), *peak, USERS_COLUMN)


COLUMNS = ("vm_id", "timestamp", *value_columns())
CSV_TYPES: Mapping[str, pa.DataType] = {"vm_id": VM_ID_TYPE, **dict.fromkeys(value_columns(), pa.float64())}


@dataclass(frozen=True)
class Rows:
    """The rows of a trace as arrays (row,), before they are laid on a grid.

    Attributes
    ----------
    files, file_starts
        The files, and the position of the first row of each.
    names
        Names of the VMs, one for each code in ``vm``.
    vm, at
        Code of the VM and timestamp of each row.
    values
        The columns of numbers; NaN where there is none.
    position
        Position of each row in the files as given, from 0.
    step_seconds
        The step that the files state in their metadata, if they do.
    """

    files: tuple[Path, ...]
    file_starts: IntArray
    names: NDArray[np.object_]
    vm: IntArray
    at: IntArray
    values: Mapping[str, FloatArray]
    position: IntArray
    step_seconds: int | None = None

    def __len__(self) -> int:
        return len(self.vm)

    @property
    def path(self) -> Path:
        """The file, or the folder when there are several: what to name when all of it is meant."""
        return self.files[0] if len(self.files) == 1 else self.files[0].parent

    def place(self, i: int) -> tuple[Path, int]:
        """File and row number (from 1) of the row at index ``i``."""
        position = int(self.position[i])
        file = int(np.searchsorted(self.file_starts, position, side="right")) - 1
        return self.files[file], position - int(self.file_starts[file]) + 1

    def take(self, chosen: BoolArray | IntArray) -> Rows:
        """Return these rows only, by mask or by index."""
        values = {c: v[chosen] for c, v in self.values.items()}
        return replace(self, vm=self.vm[chosen], at=self.at[chosen], values=values, position=self.position[chosen])


def check_header(path: Path, header: Sequence[str], resources: Sequence[Resource] | None) -> list[str]:
    """Refuse a header that lacks a column; return doubts about names that nobody knows.

    ``vm_id``, ``timestamp`` and, for each resource that is asked for, demand and limit are required. When
    none is asked for, CPU is required, and memory is all or nothing; the rest is optional.
    """
    twice = next((c for c in COLUMNS if list(header).count(c) > 1), None)
    if twice is not None:
        raise BadInput("stands twice in the header", path=path, column=twice)
    if resources is None:
        memory = (Resource.MEMORY.demand_column, Resource.MEMORY.limit_column)
        resources = [Resource.CPU] + [Resource.MEMORY] * any(c in header for c in memory)
    limits = (r.limit_column for r in resources)
    needed = ["vm_id", "timestamp", *(r.demand_column for r in resources), *(c for c in limits if c)]
    unknown = [c for c in header if c not in COLUMNS]
    for column in needed:
        if column not in header:
            raise BadInput("is missing" + _did_you_mean(column, unknown), path=path, column=column)
    absent = [c for c in COLUMNS if c not in header]
    hints = ((c, _did_you_mean(c, absent, cutoff=0.8)) for c in unknown)
    return [f"{path}: column {c}: is not known and is left out{hint}" for c, hint in hints if hint]


def _did_you_mean(name: str, choices: Sequence[str], cutoff: float = 0.6) -> str:
    plain = {c.strip().lower(): c for c in choices}
    close = difflib.get_close_matches(name.strip().lower(), plain, n=1, cutoff=cutoff)
    return f" (did you mean {plain[close[0]]!r}?)" if close else ""


def rows_of(pieces: Iterable[Piece], path: Path, resources: Sequence[Resource] | None) -> tuple[Rows, list[str]]:
    """Turn the pieces of the trace at ``path`` into arrays; return them with the doubts about their headers."""
    parts: list[_Part] = []
    codes: dict[str, int] = {}
    doubts: list[str] = []
    for piece in pieces:
        doubts += check_header(piece.path, piece.header, resources)
        columns = [c for c in value_columns(resources or tuple(Resource)) if c in piece.header]
        vm = vm_codes(piece.path, piece.table.column("vm_id"), codes)
        at = timestamps(piece.path, piece.table.column("timestamp"))
        values = {c: numbers(piece.path, c, piece.table.column(c)) for c in columns}
        parts.append(_Part(piece.path, vm, at, values, _stated_step(piece.table)))
    if not any(len(p.vm) for p in parts):
        raise BadInput("has no rows", path=path)
    return _joined(parts, codes), doubts


@dataclass(frozen=True)
class _Part:
    """The rows of one file."""

    path: Path
    vm: IntArray
    at: IntArray
    values: Mapping[str, FloatArray]
    step_seconds: int | None

    def column(self, name: str) -> FloatArray:
        return self.values[name] if name in self.values else np.full(len(self.vm), np.nan)


def _joined(parts: Sequence[_Part], codes: Mapping[str, int]) -> Rows:
    lengths = [len(p.vm) for p in parts]
    columns = [c for c in value_columns() if any(c in p.values for p in parts)]
    steps = {p.step_seconds for p in parts}
    return Rows(
        files=tuple(p.path for p in parts),
        file_starts=np.cumsum([0, *lengths[:-1]], dtype=np.int64),
        names=np.array(list(codes), dtype=object),
        vm=np.concatenate([p.vm for p in parts]),
        at=np.concatenate([p.at for p in parts]),
        values={c: np.concatenate([p.column(c) for p in parts]) for c in columns},
        position=np.arange(sum(lengths)),
        step_seconds=steps.pop() if len(steps) == 1 else None,
    )


def _stated_step(table: pa.Table) -> int | None:
    text = (table.schema.metadata or {}).get(STEP_KEY, b"")
    return int(text) if text.isdigit() and int(text) > 0 else None
