"""Traffic traces: how much one node sent to another in each interval.

Pairs stand in order of appearance, so that cutting the trace changes none before the cut.
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

from forestall.fabric.network import Network
from forestall.model.errors import BadInput
from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.replay.trace_files import VM_ID_TYPE, Piece, read_pieces
from forestall.replay.trace_values import numbers, timestamps, vm_codes

COLUMNS = ("timestamp", "source", "target", "bytes_per_s")
TYPES = {"timestamp": pa.int64(), "source": VM_ID_TYPE, "target": VM_ID_TYPE, "bytes_per_s": pa.float64()}
FIRST_INTERVALS = 256
MOST_CELLS = 500_000_000
DEFAULT_STEP_SECONDS = 300
Warn = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class TrafficTrace:
    """A traffic trace.

    Attributes
    ----------
    pairs
        Source and target of each pair, as nodes of the network, in order of appearance.
    begins
        Array (pair,): the interval in which each appears.
    start, step_seconds
        First instant, seconds UTC, and length of an interval.
    traffic
        Array (time, pair), bytes per second; 0 where nothing was said of a pair.
    observed
        Array (time,): whether anything was said of an interval.
    digest, name
        SHA-256 of the content, and what to call it.
    """

    pairs: tuple[tuple[int, int], ...]
    begins: IntArray
    start: int
    step_seconds: int
    traffic: FloatArray
    observed: BoolArray
    digest: str
    name: str

    def __len__(self) -> int:
        return len(self.traffic)

    def instant(self, interval: int) -> int:
        """When an interval begins."""
        return self.start + interval * self.step_seconds


def read_traffic_trace(path: Path, network: Network, warn: Warn) -> TrafficTrace:
    """Read a trace from a Parquet or CSV file, or from a folder of them.

    Parameters
    ----------
    path
        Columns ``timestamp``, ``source``, ``target``, ``bytes_per_s``; others are not read.
    network
        Whose nodes are named.
    warn
        Takes one line for each thing that was repaired.

    Raises
    ------
    BadInput
        It cannot be read or understood; the text names file, row and column.
    """
    names: dict[str, int] = {}
    frames = [_frame(piece, names, network) for piece in read_pieces(path, COLUMNS, TYPES)]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    if not len(frame):
        raise BadInput("has no rows", path=path)
    if unknown := int(frame["bytes_per_s"].isna().sum()):
        warn(f"repair: {path}: column bytes_per_s: {unknown} rows say nothing, left out")
        frame = frame[frame["bytes_per_s"].notna()]
    if own := int((frame["source"] == frame["target"]).sum()):
        warn(f"repair: {path}: column target: {own} rows are traffic of a node with itself, left out")
        frame = frame[frame["source"] != frame["target"]]
    if not len(frame):
        raise BadInput("says nothing of any traffic", path=path)
    return _trace(path, frame.sort_values("timestamp", kind="stable", ignore_index=True), warn)


def _frame(piece: Piece, names: dict[str, int], network: Network) -> pd.DataFrame:
    path, table = piece.path, piece.table
    for column in COLUMNS:
        count = list(piece.header).count(column)
        if count != 1:
            raise BadInput("stands twice in the header" if count else "is missing", path=path, column=column)
    rate = numbers(path, "bytes_per_s", table.column("bytes_per_s"))
    bad = (rate < 0) | np.isinf(rate)
    if bad.any():
        row = int(np.argmax(bad))
        raise BadInput(f"{rate[row]:g} is not a rate", path=path, row=row + 1, column="bytes_per_s")
    found: dict[str, Any] = {"timestamp": timestamps(path, table.column("timestamp")), "bytes_per_s": rate}
    for column in ("source", "target"):
        found[column] = _nodes(path, table.column(column), column, names, network)
    return pd.DataFrame(found)


def _nodes(path: Path, column: pa.ChunkedArray, name: str, names: dict[str, int], network: Network) -> IntArray:
    """Nodes of the network, by index."""
    code = vm_codes(path, column.cast(pa.string()), names, name)
    of = np.array([network.index.get(text, -1) for text in names], np.int64)
    node: IntArray = of[code]
    if (node < 0).any():
        row = int(np.argmax(node < 0))
        text = list(names)[int(code[row])]
        raise BadInput(f"{text[:40]!r} is no node of the topology", path=path, row=row + 1, column=name)
    return node


def _trace(path: Path, frame: pd.DataFrame, warn: Warn) -> TrafficTrace:
    at = frame["timestamp"].to_numpy(np.int64)
    step, start = _step(at), int(at[0])
    interval = (at - start + step // 2) // step
    if moved := int(((at - start) % step != 0).sum()):
        warn(f"repair: {path}: column timestamp: {moved} rows lie between intervals of {step} s, put into the nearest")
    key = pd.MultiIndex.from_frame(frame[["source", "target"]])
    pair, unique = pd.factorize(key)
    steps = int(interval[-1]) + 1
    if steps * len(unique) > MOST_CELLS:
        raise BadInput(f"covers {steps} intervals of {step} s: too many for {len(unique)} pairs", path=path)
    traffic, count = np.zeros((steps, len(unique))), np.zeros((steps, len(unique)), np.int64)
    np.add.at(traffic, (interval, pair), frame["bytes_per_s"].to_numpy())
    np.add.at(count, (interval, pair), 1)
    if twice := int((count > 1).sum()):
        warn(f"repair: {path}: {twice} times a pair has several rows in an interval, averaged")
    traffic /= np.maximum(count, 1)
    observed: BoolArray = np.any(count > 0, axis=1)
    if gaps := int((~observed).sum()):
        warn(f"warning: {path}: nothing is known of {gaps} of {steps} intervals; nothing is decided or scored in them")
    digest = hashlib.sha256(repr((start, step, list(unique))).encode())
    for array in (traffic, observed):
        digest.update(np.ascontiguousarray(array).tobytes())
    return TrafficTrace(
        pairs=tuple((int(source), int(target)) for source, target in unique),
        begins=np.argmax(count > 0, axis=0),
        start=start,
        step_seconds=step,
        traffic=traffic,
        observed=observed,
        digest=digest.hexdigest(),
        name=path.name,
    )


def _step(at: IntArray) -> int:
    """Length of an interval: the commonest distance of early instants, so that what comes later does not change it."""
    distance = np.diff(np.unique(at)[: FIRST_INTERVALS + 1])
    if not len(distance):
        return DEFAULT_STEP_SECONDS
    values, count = np.unique(distance, return_counts=True)
    return int(values[np.argmax(count)])
