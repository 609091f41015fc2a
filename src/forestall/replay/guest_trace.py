"""What agents in VMs said, as a Parquet file: a row for each short window.

Columns: ``vm_id``, ``time_us`` (start of the window, microseconds UTC), ``length_us``, one of each name of
``guest.looks.SHORT_FIELDS`` (float32), and ``operations``: words such as ``read:3``, its kind and class of size, in
the order of ``guest.operations.OPERATIONS``, with spaces between.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from forestall.guest.operations import NUMBER
from forestall.model.errors import BadInput
from forestall.ports.guest_channel import OPERATIONS, SHORT_FIELDS, GuestWindow


def write_guest_trace(windows: Sequence[GuestWindow], path: Path) -> None:
    """Write windows, by VM and then by time; the file is there as a whole or not at all."""
    ordered = sorted(windows, key=lambda window: (window.vm_id, window.at))
    values = np.array([window.values for window in ordered], dtype=np.float32).reshape(-1, len(SHORT_FIELDS))
    words = [" ".join(f"{OPERATIONS[kind]}:{size}" for kind, size in window.operations) for window in ordered]
    table = pa.table(
        {
            "vm_id": pa.array([window.vm_id for window in ordered]).dictionary_encode(),
            "time_us": pa.array([round((window.at - window.seconds) * 1e6) for window in ordered], pa.int64()),
            "length_us": pa.array([round(window.seconds * 1e6) for window in ordered], pa.int32()),
            **{name: pa.array(values[:, place]) for place, name in enumerate(SHORT_FIELDS)},
            "operations": pa.array(words).dictionary_encode(),
        }
    )
    fresh = path.with_name(path.name + ".new")
    try:
        parquet.write_table(table, fresh, compression="zstd")
        os.replace(fresh, path)
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror}", path=path) from error


def read_guest_trace(path: Path) -> list[GuestWindow]:
    """Read windows, by VM and then by time; fields that the file does not have are NaN.

    Raises
    ------
    BadInput
        It is no Parquet file, lacks a column, or has an operation that is none.
    """
    try:
        table = parquet.read_table(path)
        vm_ids, starts, lengths, words = (
            table[name].to_pylist() for name in ("vm_id", "time_us", "length_us", "operations")
        )
    except (OSError, pa.ArrowException, KeyError) as error:
        raise BadInput(f"is no recording of guests: {str(error).splitlines()[0]}", path=path) from error
    missing = np.full(table.num_rows, np.nan)
    columns = [table[name].to_numpy() if name in table.column_names else missing for name in SHORT_FIELDS]
    values = np.stack(columns, axis=1).astype(np.float64)
    parsed = {text: _operations(text, path) for text in set(words)}
    rows = zip(vm_ids, starts, lengths, words, strict=True)
    return [
        GuestWindow(vm_id, (start + length) / 1e6, length / 1e6, False, values[i], parsed[text])
        for i, (vm_id, start, length, text) in enumerate(rows)
    ]


def _operations(text: str, path: Path) -> tuple[tuple[int, int], ...]:
    try:
        pairs = [word.rsplit(":", 1) for word in text.split()]
        return tuple((NUMBER[kind], int(size)) for kind, size in pairs)
    except (KeyError, ValueError) as error:
        raise BadInput(f"{text!r} are no operations", path=path, column="operations") from error
