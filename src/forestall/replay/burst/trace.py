"""Burst traces: mean cores of each VM in windows of a few milliseconds, on a regular grid.

Strictly causal: the window is read off the earliest rows alone, and VMs stand in the order of their first row, so that
cutting the trace later changes nothing before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from forestall.model.errors import BadInput
from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.replay.trace_files import VM_ID_TYPE, Piece, read_pieces
from forestall.replay.trace_values import numbers, timestamps, vm_codes

COLUMNS = ("vm_id", "time_us", "cpu_cores")
LEAST_WINDOW_US, MOST_WINDOW_US = 1_000, 100_000
EARLY_ROWS = 4096
"""So many of the earliest rows tell how long a window is."""
MOST_CELLS = 200_000_000


@dataclass(frozen=True)
class BurstTrace:
    """A burst trace.

    Attributes
    ----------
    vm_ids
        VMs in the order of their first row, then by name.
    start_us, window_us
        Start of the first window, and the length of each.
    cores
        Array (window, vm), mean cores; NaN where there is no row.
    first
        Array (vm,): window of each VM's first row.
    digest
        SHA-256 of the content.
    name
        What to call it.
    """

    vm_ids: tuple[str, ...]
    start_us: int
    window_us: int
    cores: FloatArray
    first: IntArray
    digest: str
    name: str

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return len(self.cores)

    @property
    def known(self) -> FloatArray:
        """Cores (window, vm) with nothing where there is no row."""
        return np.nan_to_num(self.cores)

    def head(self, windows: int) -> BurstTrace:
        """The trace as it was after so many windows."""
        vms = int(np.searchsorted(self.first, windows))
        return replace(self, vm_ids=self.vm_ids[:vms], cores=self.cores[:windows, :vms], first=self.first[:vms])


def read_burst_trace(path: Path, warn: Callable[[str], None]) -> BurstTrace:
    """Read a trace from a Parquet or CSV file, or from a folder of them.

    Parameters
    ----------
    path
        Columns ``vm_id``, ``time_us`` (start of the window) and ``cpu_cores``.
    warn
        Takes one line for each thing that was repaired.

    Raises
    ------
    BadInput
        It cannot be read or understood; the text names file, row and column.
    """
    codes: dict[str, int] = {}
    pieces = read_pieces(path, COLUMNS, {"vm_id": VM_ID_TYPE, "cpu_cores": pa.float64()})
    parts = [_part(piece, codes, warn) for piece in pieces]
    if not any(len(part[0]) for part in parts):
        raise BadInput("has no rows", path=path)
    vm, at, cores = (np.concatenate([part[k] for part in parts]) for k in range(3))
    window_us = _window(path, vm, at)
    start_us = int(at.min())
    place = (at - start_us + window_us // 2) // window_us
    return _laid_out(path, tuple(codes), vm, place, cores, start_us, window_us, warn)


def _part(piece: Piece, codes: dict[str, int], warn: Callable[[str], None]) -> tuple[IntArray, IntArray, FloatArray]:
    for column in COLUMNS:
        if list(piece.header).count(column) != 1:
            what = "is missing" if column not in piece.header else "stands twice in the header"
            raise BadInput(what, path=piece.path, column=column)
    vm = vm_codes(piece.path, piece.table.column("vm_id"), codes)
    at = timestamps(piece.path, piece.table.column("time_us"), "time_us", "microseconds")
    cores = numbers(piece.path, "cpu_cores", piece.table.column("cpu_cores"))
    if (at < 0).any():
        row = int(np.argmax(at < 0))
        raise BadInput(f"{int(at[row])} is negative", path=piece.path, row=row + 1, column="time_us")
    impossible = np.isinf(cores) | (cores < 0)
    _tell(warn, piece.path, impossible, "cpu_cores", "not possible, treated as a gap")
    return vm, at, np.where(impossible, np.nan, cores)


def _tell(warn: Callable[[str], None], path: Path, bad: BoolArray, column: str, what: str) -> None:
    if bad.any():
        warn(f"repair: {path}: row {int(np.argmax(bad)) + 1}, column {column}: {what} ({int(bad.sum())} in all)")


def _window(path: Path, vm: IntArray, at: IntArray) -> int:
    """Length of a window: the commonest step between the early rows of a VM, the shorter of two that are as common."""
    order = np.lexsort((vm, at))[:EARLY_ROWS]
    by_vm = order[np.lexsort((at[order], vm[order]))]
    steps = np.diff(at[by_vm])[np.diff(vm[by_vm]) == 0]
    steps = steps[steps > 0]
    if not len(steps):
        raise BadInput("no VM has two rows: how long is a window?", path=path, column="time_us")
    sizes, counts = np.unique(steps, return_counts=True)
    window = int(sizes[np.argmax(counts)])
    if not LEAST_WINDOW_US <= window <= MOST_WINDOW_US:
        what = f"windows of {window} µs; expected {LEAST_WINDOW_US} to {MOST_WINDOW_US}"
        raise BadInput(what, path=path, column="time_us")
    return window


def _laid_out(
    path: Path,
    names: tuple[str, ...],
    vm: IntArray,
    place: IntArray,
    cores: FloatArray,
    start_us: int,
    window_us: int,
    warn: Callable[[str], None],
) -> BurstTrace:
    windows = int(place.max()) + 1
    if windows * len(names) > MOST_CELLS:
        what = f"{windows} windows of {window_us} µs for {len(names)} VMs: is a clock wrong?"
        raise BadInput(what, path=path, column="time_us")
    first = np.full(len(names), windows)
    np.minimum.at(first, vm, place)
    order = np.lexsort((np.array(names), first))
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    laid = np.full((windows, len(names)), np.nan)
    cell = place * len(names) + rank[vm]
    _, counts = np.unique(cell, return_counts=True)
    if (counts > 1).any():
        warn(f"repair: {path}: column time_us: {int((counts - 1).sum())} rows share a window, the last one counts")
    laid.flat[cell] = cores
    digest = hashlib.sha256(repr((tuple(names[i] for i in order), start_us, window_us)).encode())
    digest.update(np.ascontiguousarray(laid).tobytes())
    return BurstTrace(
        tuple(names[i] for i in order), start_us, window_us, laid, first[order], digest.hexdigest(), path.name
    )
