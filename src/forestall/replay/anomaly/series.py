"""Series to be scored for anomalies: read, side by side, and their scores written in the order of the input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from forestall.model.errors import BadInput
from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.replay.trace_files import VM_ID_TYPE, Piece, read_pieces
from forestall.replay.trace_values import numbers, timestamps, vm_codes

COLUMNS = ("series", "timestamp", "value", "in_window")
LABEL = "in_window"
"""Optional: whether a row lies in a window around a known anomaly."""


@dataclass(frozen=True)
class SeriesSet:
    """All series of a file, as rows in the order of the input.

    Attributes
    ----------
    names
        Name of each series.
    series, at, value
        Arrays (row,): position in ``names``, seconds, and the value, NaN for none.
    stamps
        The timestamps as they were given.
    in_window
        Array (row,); None where nothing is labelled.
    """

    names: tuple[str, ...]
    series: IntArray
    at: IntArray
    value: FloatArray
    stamps: pa.ChunkedArray
    in_window: BoolArray | None

    @cached_property
    def rows(self) -> tuple[IntArray, ...]:
        """For each series its rows in the order of time; rows of one instant as they were given."""
        order = np.lexsort((np.arange(len(self.at)), self.at, self.series))
        ends = np.cumsum(np.bincount(self.series, minlength=len(self.names)))
        return tuple(np.split(order, ends[:-1]))

    def write_scores(self, path: Path, score: FloatArray) -> None:
        """Write ``scores.parquet``: one row for each of the input, ``score`` (row,) in [0, 1]."""
        names = pa.array(self.names, pa.string()).take(pa.array(self.series.astype(np.int32)))
        columns = {"series": names, "timestamp": self.stamps, "score": pa.array(score)}
        pq.write_table(pa.table(columns), path, compression="zstd")


def read_series(path: Path, warn: Callable[[str], None]) -> SeriesSet:
    """Read series from a Parquet or CSV file, or from a folder of them.

    Raises
    ------
    BadInput
        It cannot be read or understood; the text names file, row and column.
    """
    codes: dict[str, int] = {}
    parts: list[tuple[IntArray, IntArray, FloatArray, pa.ChunkedArray, NDArray[np.bool_] | None]] = []
    for piece in read_pieces(path, COLUMNS, {"series": VM_ID_TYPE, "value": pa.float64()}):
        for column in COLUMNS[:3]:
            if list(piece.header).count(column) != 1:
                what = "is missing" if column not in piece.header else "stands twice in the header"
                raise BadInput(what, path=piece.path, column=column)
        table = piece.table
        series = vm_codes(piece.path, table.column("series"), codes, "series")
        at = timestamps(piece.path, table.column("timestamp"))
        value = numbers(piece.path, "value", table.column("value"))
        endless = np.isinf(value)
        if endless.any():
            row = int(np.argmax(endless)) + 1
            warn(f"repair: {piece.path}: row {row}, column value: infinite, left out ({endless.sum()} in all)")
        parts.append((series, at, np.where(endless, np.nan, value), table.column("timestamp"), _labels(piece, warn)))
    if not any(len(part[0]) for part in parts):
        raise BadInput("has no rows", path=path)
    series, at, value = (np.concatenate([part[k] for part in parts]) for k in range(3))
    try:
        stamps = pa.chunked_array([chunk for part in parts for chunk in part[3].chunks])
    except pa.ArrowException as error:
        raise BadInput("is of different types in these files", path=path, column="timestamp") from error
    labels = [part[4] for part in parts]
    known = [label for label in labels if label is not None]
    in_window = np.concatenate(known) if len(known) == len(labels) else None
    return SeriesSet(tuple(codes), series, _in_seconds(at), value, stamps, in_window)


def _labels(piece: Piece, warn: Callable[[str], None]) -> NDArray[np.bool_] | None:
    """Labels (row,), if there are any that can be understood."""
    if LABEL not in piece.table.column_names:
        return None
    column = piece.table.column(LABEL)
    try:
        return np.asarray(column.cast(pa.bool_()).fill_null(False).to_numpy(zero_copy_only=False), bool)
    except pa.ArrowException:
        warn(f"warning: {piece.path}: column {LABEL}: holds {column.type}, not true and false: nothing is judged")
        return None


def _in_seconds(at: IntArray) -> IntArray:
    """Instants in seconds; the earliest tells the unit."""
    first = int(at.min())
    factor = next((f for least, f in ((10**17, 10**9), (10**14, 10**6), (10**11, 10**3)) if first >= least), 1)
    return at // factor
