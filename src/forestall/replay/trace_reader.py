"""Read a demand trace, repair what can be repaired, and refuse the rest with one clear line.

The steps, in this order: find the files, understand the columns, bring timestamps to seconds, turn impossible
values into gaps, sort, drop duplicates, lay on a regular grid, say what looks odd. Nothing is ever filled in.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from forestall.model.errors import BadInput
from forestall.model.instants import CALENDAR_FROM
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Grid, Trace
from forestall.replay.trace_checks import Notes, check_clock, prune, repair_values, sort_rows
from forestall.replay.trace_columns import COLUMNS, CSV_TYPES, PEAK_COLUMN, USERS_COLUMN, rows_of, value_columns
from forestall.replay.trace_doubts import doubt_values
from forestall.replay.trace_files import SUFFIXES, Piece, read_pieces
from forestall.replay.trace_grid import Gridded, lay_out
from forestall.replay.trace_writer import write_trace

__all__ = ["Warn", "assemble", "log_warning", "read_trace", "write_trace"]

Warn = Callable[[str], None]
"""Takes one line for each repair (``repair: ...``) or doubt (``warning: ...``)."""

log_warning: Warn = logging.getLogger(__name__).warning


def read_trace(path: Path, resources: Sequence[Resource] | None = None, warn: Warn = log_warning) -> Trace:
    """Read a demand trace from a Parquet or CSV file, or from a folder of them.

    Parameters
    ----------
    path
        ``.parquet``, ``.csv`` or ``.csv.gz``, or a folder whose files of these kinds are one trace.
    resources
        The resources to read; None reads those that are there. A resource without a single value is left out
        when it was not asked for.
    warn
        Called with one line for each kind of repair and doubt, once the trace has been read as a whole.

    Returns
    -------
    Trace
        On a regular grid; VMs in the order of their first sample, then by name.

    Raises
    ------
    BadInput
        The trace cannot be read or understood; the text names file, row and column.

    Notes
    -----
    Repairs: timestamps in ms, us or ns become seconds; infinite and negative numbers become gaps; rows are
    sorted; of rows with the same VM and timestamp the last wins; timestamps off the grid move to the nearest
    instant; rows in the same interval are averaged; few rows after a jump of the clock are left out.

    Strictly causal: cutting the trace after an instant changes nothing before it. Step and phase come from
    the first :data:`~forestall.replay.trace_grid.FIRST_INTERVALS` intervals.

    Examples
    --------
    >>> trace = read_trace(Path("trace.parquet"))  # doctest: +SKIP
    """
    columns = ("vm_id", "timestamp", *value_columns(resources)) if resources is not None else COLUMNS
    return assemble(read_pieces(path, columns, CSV_TYPES), path, resources=resources, warn=warn)


def assemble(
    pieces: Iterable[Piece],
    path: Path,
    *,
    resources: Sequence[Resource] | None = None,
    warn: Warn = log_warning,
    step_seconds: int | None = None,
) -> Trace:
    """Make a trace of tables in the long form, with all the checks of :func:`read_trace`.

    Parameters
    ----------
    pieces
        The tables, each with the file that it came from; taken one at a time.
    path
        What the user named; the trace is called after it.
    resources, warn
        As for :func:`read_trace`.
    step_seconds
        Resample to this step; None keeps the trace's own.
    """
    notes = Notes()
    rows, doubts = rows_of(pieces, path, resources)
    for doubt in doubts:
        notes.doubt(doubt)
    rows = prune(sort_rows(repair_values(check_clock(rows, notes), notes), notes), notes)
    gridded = lay_out(rows, notes, step_seconds)
    del rows
    doubt_values(gridded, notes)
    trace = _trace_of(gridded, _name_of(path))
    _refuse_lacking(trace, resources, path)
    for line in notes.lines:
        warn(line)
    return trace


def _refuse_lacking(trace: Trace, resources: Sequence[Resource] | None, path: Path) -> None:
    lacking = next((r for r in resources or () if r not in trace.demand), None)
    if lacking is not None:
        raise BadInput("has no values", path=path, column=lacking.demand_column)


def _name_of(path: Path) -> str:
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), "")
    return path.name.removesuffix(path.name[len(path.name) - len(suffix) :]) or "trace"


def _trace_of(gridded: Gridded, name: str) -> Trace:
    columns, grid = gridded.columns, gridded.grid
    present = [r for r in Resource if r.demand_column in columns]
    unlimited = np.broadcast_to(np.float64(np.inf), (grid.steps, len(gridded.names)))
    demand = {r: columns[r.demand_column] for r in present}
    limit = {r: columns[r.limit_column] if r.limit_column else unlimited for r in present}
    peak, users = columns.get(PEAK_COLUMN), columns.get(USERS_COLUMN)
    arrays = [*demand.values(), *limit.values(), *(extra for extra in (peak, users) if extra is not None)]
    digest = _digest(grid, gridded.names, present, arrays)
    return Trace(grid, gridded.names, demand, limit, peak, users, digest, name, grid.start >= CALENDAR_FROM)


def _digest(grid: Grid, names: Sequence[str], present: Sequence[Resource], arrays: Iterable[FloatArray]) -> str:
    """SHA-256 of grid, VMs, resources and arrays; doubles are little-endian, with one NaN and one zero."""
    head = (grid.start, grid.step_seconds, grid.steps, tuple(names), tuple(r.value for r in present))
    digest = hashlib.sha256(repr(head).encode())
    for array in arrays:
        if array.strides != (0, 0):
            digest.update(np.ascontiguousarray(array, dtype="<f8").data)
    return digest.hexdigest()
