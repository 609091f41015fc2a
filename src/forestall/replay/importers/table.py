"""Any table, CSV or Parquet, whose columns are called something else or have other units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from forestall.model.errors import BadInput, WrongUse
from forestall.model.samples import Trace
from forestall.replay.trace_columns import COLUMNS, CSV_TYPES
from forestall.replay.trace_files import VM_ID_TYPE, Piece, files_of, read_csv, read_parquet
from forestall.replay.trace_reader import Warn, assemble, log_warning
from forestall.replay.trace_values import numbers


@dataclass(frozen=True)
class Mapped:
    """Where a column of the trace comes from: a column times a factor, or the same number in every row."""

    column: str
    source: str | None
    factor: float = 1.0


def read(
    source: Path,
    *,
    column_map: Sequence[str] = (),
    warn: Warn = log_warning,
    step_seconds: int | None = None,
) -> Trace:
    """Read a table with a column map.

    Parameters
    ----------
    source
        A Parquet or CSV file, or a folder of them.
    column_map
        ``COLUMN=SOURCE``, ``COLUMN=SOURCE*FACTOR`` or ``COLUMN=NUMBER`` for each column that is called or
        counted otherwise. Columns that have the names of the contract already need no entry.
    warn, step_seconds
        As for :func:`~forestall.replay.trace_reader.assemble`.

    Raises
    ------
    WrongUse
        An entry of the map cannot be understood.
    BadInput
        A file cannot be read or understood, or a column of the map is not there.

    Examples
    --------
    >>> parse_map(["cpu_cores=usage_pct*0.01"])
    (Mapped(column='cpu_cores', source='usage_pct', factor=0.01),)
    """
    mapped = parse_map(column_map)
    return assemble(_pieces(source, mapped), source, warn=warn, step_seconds=step_seconds)


def parse_map(entries: Sequence[str]) -> tuple[Mapped, ...]:
    """Understand the entries of a column map."""
    mapped = tuple(_parse(e) for e in entries)
    twice = [m.column for m in mapped if sum(o.column == m.column for o in mapped) > 1]
    if twice:
        raise WrongUse(f"--map names {twice[0]} twice")
    return mapped


def _parse(entry: str) -> Mapped:
    column, equals, expression = (part.strip() for part in entry.partition("="))
    if not equals or not expression:
        raise WrongUse(f"--map {entry}: expected COLUMN=SOURCE_COLUMN[*FACTOR] or COLUMN=NUMBER")
    if column not in COLUMNS:
        raise WrongUse(f"--map {entry}: a trace has no column {column!r}, only {', '.join(COLUMNS)}")
    constant = _number(expression)
    if constant is not None and column not in ("vm_id", "timestamp"):
        return Mapped(column, None, constant)
    source, times, factor = (part.strip() for part in expression.rpartition("*"))
    scale = _number(factor) if times else None
    if scale is None:
        return Mapped(column, expression)
    if column in ("vm_id", "timestamp"):
        raise WrongUse(f"--map {entry}: {column} takes no factor")
    return Mapped(column, source, scale)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _pieces(source: Path, mapped: tuple[Mapped, ...]) -> Iterator[Piece]:
    types = {**CSV_TYPES, **{m.source: pa.float64() for m in mapped if m.source is not None}}
    types |= {m.source: VM_ID_TYPE for m in mapped if m.column == "vm_id" and m.source is not None}
    timestamp = next((m.source for m in mapped if m.column == "timestamp"), None)
    types = {name: kind for name, kind in types.items() if name != timestamp}
    for file in files_of(source):
        parquet = file.name.lower().endswith(".parquet")
        table = read_parquet(file).table if parquet else read_csv(file, types)
        yield Piece.of(file, _renamed(file, table, mapped))


def _renamed(file: Path, table: pa.Table, mapped: tuple[Mapped, ...]) -> pa.Table:
    """Return the columns that a trace has: those of the map, and those that have their name already."""
    data = {c: table.column(c) for c in table.column_names if c in COLUMNS}
    for entry in mapped:
        if entry.source is None:
            data[entry.column] = np.full(table.num_rows, entry.factor)
            continue
        if entry.source not in table.column_names:
            has = ", ".join(table.column_names)[:200]
            raise BadInput(f"is missing, the file has {has}", path=file, column=entry.source)
        column = table.column(entry.source)
        scaled = entry.column not in ("vm_id", "timestamp")
        data[entry.column] = numbers(file, entry.source, column) * entry.factor if scaled else column
    return pa.table(data)
