"""What can be wrong with the rows of a trace: repaired and stated, or refused with file, row and column.

Every function takes rows and returns rows. What it repairs it writes down in :class:`Notes`. Repairs are
causal: what happens to a row never depends on rows that come later in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from forestall.model.errors import BadInput
from forestall.model.resources import Resource
from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.replay.trace_columns import Rows, value_columns

MAX_SILENCE_SECONDS = 366 * 86400
"""A trace that is silent for longer has not been silent: a clock has jumped."""
MAX_STRAY_SHARE = 0.01
"""Rows after such a silence are left out when they are no more than this share of all; else refused."""
_UNITS = ((10**17, 10**9, "nanoseconds"), (10**14, 10**6, "microseconds"), (10**11, 10**3, "milliseconds"))


@dataclass
class Notes:
    """One line for each thing that was repaired, or kept although it looks wrong."""

    lines: list[str] = field(default_factory=list)

    def repair(self, rows: Rows, bad: BoolArray, what: str, column: str | None = None) -> None:
        """State a repair of the rows in ``bad``: how many, and which stands first in the files."""
        if bad.any():
            where = np.flatnonzero(bad)
            first = int(where[np.argmin(rows.position[where])])
            self.lines.append(f"repair: {_place(rows, first, column)}: {what} ({len(where)} in all)")

    def doubt(self, text: str) -> None:
        """State something that is kept as it is although it looks wrong."""
        self.lines.append(f"warning: {text}")


def _place(rows: Rows, i: int, column: str | None) -> str:
    path, row = rows.place(i)
    return f"{path}: row {row}" + (f", column {column}" if column else "")


def check_clock(rows: Rows, notes: Notes) -> Rows:
    """Bring timestamps to seconds, and cut off rows that only a jumping clock explains.

    The unit is judged by the earliest timestamp. Rows after a silence of more than
    :data:`MAX_SILENCE_SECONDS` are left out when they are few; they come last, so leaving them out changes
    nothing before them.

    Raises
    ------
    BadInput
        A negative timestamp, or a jump that is not a few stray rows.
    """
    if rows.at.min() < 0:
        _refuse_timestamp(rows, rows.at < 0, "is negative")
    for least, factor, unit in _UNITS:
        if rows.at.min() >= least:
            everything = np.ones(len(rows), dtype=bool)
            notes.repair(rows, everything, f"{unit}, divided by {factor} to seconds", "timestamp")
            rows = replace(rows, at=rows.at // factor)
    instants = np.unique(rows.at)
    jumps = np.flatnonzero(np.diff(instants) > MAX_SILENCE_SECONDS)
    if not len(jumps):
        return rows
    stray = rows.at > instants[jumps[0]]
    years = (int(instants[jumps[0] + 1]) - int(instants[jumps[0]])) / (365.25 * 86400)
    what = f"lies {years:.1f} years after the timestamp before it"
    if 2 * stray.sum() > len(rows):
        _refuse_timestamp(rows, ~stray, f"lies {years:.1f} years before the next one: has a clock jumped?")
    if stray.sum() > MAX_STRAY_SHARE * len(rows):
        _refuse_timestamp(rows, stray, what + ": has a clock jumped?")
    notes.repair(rows, stray, f"left out, the clock jumped: {what}", "timestamp")
    return rows.take(~stray)


def _refuse_timestamp(rows: Rows, bad: BoolArray, what: str) -> None:
    i = int(np.argmax(bad))
    path, row = rows.place(i)
    raise BadInput(f"{int(rows.at[i])} {what}", path=path, row=row, column="timestamp")


def repair_values(rows: Rows, notes: Notes) -> Rows:
    """Turn infinite and negative numbers into gaps: neither can have been measured."""
    values = dict(rows.values)
    for column, numbers in rows.values.items():
        infinite, negative = np.isinf(numbers), (numbers < 0) & np.isfinite(numbers)
        notes.repair(rows, infinite, "infinite, treated as a gap", column)
        notes.repair(rows, negative, "negative, treated as a gap", column)
        if infinite.any() or negative.any():
            values[column] = np.where(infinite | negative, np.nan, numbers)
    return replace(rows, values=values)


def sort_rows(rows: Rows, notes: Notes) -> Rows:
    """Sort by VM and timestamp; of several rows for the same VM and timestamp the last one wins."""
    order = np.lexsort((rows.position, rows.at, rows.vm))
    if (order[1:] < order[:-1]).any():
        rows = _sorted(rows, order, notes)
    same = (rows.vm[1:] == rows.vm[:-1]) & (rows.at[1:] == rows.at[:-1])
    if not same.any():
        return rows
    beaten = np.append(same, False)
    notes.repair(rows, beaten, "vm_id and timestamp stand there again further down, the last row wins")
    return rows.take(~beaten)


def _sorted(rows: Rows, order: IntArray, notes: Notes) -> Rows:
    rows = rows.take(order)
    late = np.zeros(len(rows), dtype=bool)
    late[:-1] = (rows.vm[1:] == rows.vm[:-1]) & (rows.position[1:] < rows.position[:-1])
    notes.repair(rows, late, "stands before rows of its VM that are earlier, sorted by time")
    return rows


def prune(rows: Rows, notes: Notes) -> Rows:
    """Leave out resources without a single value, VMs without a sample and rows with nothing in them.

    Raises
    ------
    BadInput
        Nothing is left, or a resource has demand but no limit at all where it must have one.
    """
    values = {c: v for c, v in rows.values.items() if not np.isnan(v).all()}
    present = [r for r in Resource if r.demand_column in values]
    if not present:
        raise BadInput("has no demand in any row", path=rows.path)
    for resource in present:
        if resource.limit_column is not None and resource.limit_column not in values:
            what = f"is empty although {resource.demand_column} is not"
            raise BadInput(what, path=rows.path, column=resource.limit_column)
    columns = value_columns(present)
    rows = replace(rows, values={c: v for c, v in values.items() if c in columns})
    sampled = any_known([values[r.demand_column] for r in present])
    alive = np.zeros(len(rows.names), dtype=bool)
    alive[rows.vm[sampled]] = True
    notes.repair(rows, ~alive[rows.vm], "left out, its VM has no demand in any row")
    keep = alive[rows.vm] & any_known(list(rows.values.values()))
    return rows if keep.all() else rows.take(keep)


def any_known(columns: Sequence[FloatArray]) -> BoolArray:
    """Mask (row,) of the rows that have a number in one of the columns."""
    known = ~np.isnan(columns[0])
    for numbers in columns[1:]:
        known |= ~np.isnan(numbers)
    return known
