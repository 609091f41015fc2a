"""Rows laid on a regular grid: which step, which phase, and what shares a slot.

Strictly causal: step and phase are read off the earliest intervals alone, so that cutting the trace later
changes neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from forestall.model.errors import BadInput
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Grid, IntArray
from forestall.replay.trace_checks import Notes, any_known
from forestall.replay.trace_columns import PEAK_COLUMN, Rows

FIRST_INTERVALS = 256
"""How many of the earliest intervals between two rows of a VM decide on step and phase."""
DEFAULT_STEP_SECONDS = 300
MAX_CELLS_PER_ROW, MIN_CELLS = 50, 5_000_000
"""A grid of more cells (step and VM) than this per row is refused, unless it is small."""
MAX_CELLS = 500_000_000
_MINUTE, _HOUR = 60, 3600
_ROUND_STEPS = np.array(
    [1, 2, 5, 10, 15, 20, 30]
    + [m * _MINUTE for m in (1, 2, 3, 4, 5, 10, 15, 20, 30)]
    + [h * _HOUR for h in (1, 2, 3, 6, 12, 24)]
)
_JITTER = 0.1
MOST, OFTEN = 0.9, 0.25
"""A step divides this share of the early intervals, and is itself this share of them."""


@dataclass(frozen=True)
class Gridded:
    """Rows on a grid.

    Attributes
    ----------
    grid
        The instants.
    names
        VMs, in the order of their first sample, then by name.
    columns
        For each column of numbers an array (time, vm).
    rows, cell
        The rows, sorted, and for each its cell: ``vm * steps + slot``, with ``vm`` a position in ``names``.
    """

    grid: Grid
    names: tuple[str, ...]
    columns: Mapping[str, FloatArray]
    rows: Rows
    cell: IntArray

    def row_of(self, vm: int, slot: int) -> int:
        """Index in ``rows`` of the first row in this cell."""
        return int(np.searchsorted(self.cell, vm * self.grid.steps + slot))


def lay_out(rows: Rows, notes: Notes, step_seconds: int | None = None) -> Gridded:
    """Lay rows, sorted by VM and timestamp, on a grid.

    A timestamp off the grid moves to the nearest instant. Rows of a VM that fall into the same slot become
    one: the plain mean of demand, the highest peak, the last limit.

    Parameters
    ----------
    rows, notes
        The rows; what is repaired is written down.
    step_seconds
        Resample to this step: every row then belongs to the interval in which it lies, and intervals start at
        multiples of the step. None: the trace's own step is kept.
    """
    if step_seconds is not None:
        step, phase, offset = step_seconds, 0, 0
    else:
        step = rows.step_seconds or _find_step(rows, notes)
        phase, offset = _find_phase(rows, step), step // 2
    slot = (rows.at - phase + offset) // step
    first = int(slot.min())
    grid = Grid(first * step + phase, step, int(slot.max()) - first + 1)
    _refuse_vast(rows, grid)
    if step_seconds is None:
        off = (rows.at - phase) % step != 0
        notes.repair(rows, off, f"off the grid of {step} s, moved to the nearest instant", "timestamp")
    return _fill(rows, slot - first, grid, notes if step_seconds is None else None)


def _early(rows: Rows) -> tuple[IntArray, int]:
    """Return the earliest intervals between rows of the same VM, and when the last of them ends."""
    same = rows.vm[1:] == rows.vm[:-1]
    gaps, ends = np.diff(rows.at)[same], rows.at[1:][same]
    if not len(gaps):
        return gaps, int(rows.at.max())
    k = min(FIRST_INTERVALS, len(ends)) - 1
    until = int(np.partition(ends, k)[k])
    return gaps[ends <= until], until


def _find_step(rows: Rows, notes: Notes) -> int:
    """Return the step that the early intervals share.

    It is the smallest interval that is frequent and divides nearly all (gaps make multiples of it). Under
    jitter there is none; then it is the middle of the commonest size, made round.
    """
    gaps, _ = _early(rows)
    if not len(gaps):
        notes.doubt(f"{rows.files[0]}: no VM has two rows, the step is taken to be {DEFAULT_STEP_SECONDS} s")
        return DEFAULT_STEP_SECONDS
    sizes, counts = np.unique(gaps, return_counts=True)
    multiples = np.array([(gaps % size == 0).mean() for size in sizes])
    exact = np.flatnonzero((multiples >= MOST) & (counts >= OFTEN * len(gaps)))
    if len(exact):
        return int(sizes[exact[0]])
    below, above = np.ceil(sizes * (1 - _JITTER)), np.floor(sizes * (1 + _JITTER))
    ordered = np.sort(gaps)
    low, high = np.searchsorted(ordered, below, "left"), np.searchsorted(ordered, above, "right")
    best = int((high - low).argmax())
    middle = float(np.median(ordered[low[best] : high[best]]))
    near = int(_ROUND_STEPS[np.abs(np.log(_ROUND_STEPS / middle)).argmin()])
    return near if abs(near - middle) <= _JITTER * near else max(round(middle), 1)


def _find_phase(rows: Rows, step: int) -> int:
    """Return where in a step the instants lie: where half of the early rows do, else where the first does."""
    _, until = _early(rows)
    phases, counts = np.unique(rows.at[rows.at <= until] % step, return_counts=True)
    if 2 * counts.max() >= counts.sum():
        return int(phases[counts.argmax()])
    phase = int(rows.at.min() % step)
    return 0 if min(phase, step - phase) <= _JITTER * step else phase


def _refuse_vast(rows: Rows, grid: Grid) -> None:
    """Refuse a grid that is almost all gaps, or too large: a clock or a step is wrong."""
    cells = grid.steps * len(np.unique(rows.vm))
    if cells <= min(max(MIN_CELLS, MAX_CELLS_PER_ROW * len(rows)), MAX_CELLS):
        return
    order = np.argsort(rows.at, kind="stable")
    widest = int(np.diff(rows.at[order]).argmax()) + 1 if len(rows) > 1 else 0
    path, row = rows.place(int(order[widest]))
    size = f"{grid.steps} steps of {grid.step_seconds} s for {cells // grid.steps} VMs"
    what = f"{int(rows.at[order[widest]])} comes after the widest silence of a trace that would take {size}"
    raise BadInput(f"{what} with {len(rows)} rows: is a clock wrong?", path=path, row=row, column="timestamp")


def _fill(rows: Rows, slot: IntArray, grid: Grid, notes: Notes | None) -> Gridded:
    """Put the rows into arrays (time, vm), VMs in the order of their first sample, then by name."""
    demands = [r.demand_column for r in Resource if r.demand_column in rows.values]
    sampled = any_known([rows.values[c] for c in demands])
    seen = np.full(len(rows.names), grid.steps, dtype=np.int64)
    np.minimum.at(seen, rows.vm[sampled], slot[sampled])
    codes = np.unique(rows.vm)
    codes = codes[np.lexsort((rows.names[codes].astype(str), seen[codes]))]
    rank = np.zeros(len(rows.names), dtype=np.int64)
    rank[codes] = np.arange(len(codes))
    cell = rank[rows.vm] * grid.steps + slot
    order = np.argsort(cell, kind="stable")
    rows, cell = rows.take(order), cell[order]
    if notes is not None:
        shared = np.append(cell[1:] == cell[:-1], False)
        what = "shares its interval with the next row of its VM, the mean counts"
        notes.repair(rows, shared, what, "timestamp")
    shape = (len(codes), grid.steps)
    columns = {c: _scatter(c, v, cell, shape) for c, v in rows.values.items()}
    return Gridded(grid, tuple(str(n) for n in rows.names[codes]), columns, rows, cell)


def _scatter(column: str, values: FloatArray, cell: IntArray, shape: tuple[int, int]) -> FloatArray:
    """Return one column as an array (time, vm); ``cell`` is sorted, what shares a cell becomes one."""
    known = ~np.isnan(values)
    values, cell = values[known] + 0.0, cell[known]
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    flat = np.full(shape[0] * shape[1], np.nan)
    if column == PEAK_COLUMN:
        values = np.maximum.reduceat(values, starts)
    elif column in {r.limit_column for r in Resource}:
        values = values[np.append(starts[1:], len(values)) - 1]
    elif len(starts) < len(values):
        values = np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))
    flat[cell[starts]] = values
    return np.ascontiguousarray(flat.reshape(shape).T)
