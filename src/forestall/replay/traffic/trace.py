"""Traffic traces: how much one node sent to another in each interval.

Pairs stand in order of when they are first to be reckoned with, and then of their nodes, so that cutting the trace
changes none before the cut, and the order of rows within an interval nothing. In networks of few nodes that is once
both nodes were seen, whether they have sent each other anything or not: so what is decided for an interval says also
where traffic of a pair goes that begins in it.
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
MOST_CELLS = 100_000_000
MOST_NODES = 64
"""Of a network with more nodes only pairs are reckoned with that have sent something."""
DEFAULT_STEP_SECONDS = 300
Warn = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class TrafficTrace:
    """A traffic trace.

    Attributes
    ----------
    pairs
        Source and target of each pair, as nodes of the network.
    begins
        Array (pair,): the first interval for which each is to be reckoned with, increasing.
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
    frame = frame.sort_values(["timestamp", "source", "target"], kind="stable", ignore_index=True)
    return _trace(path, frame, network, warn)


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
    code = vm_codes(path, column, names, name)
    of = np.array([network.index.get(text, -1) for text in names], np.int64)
    node: IntArray = of[code]
    if (node < 0).any():
        row = int(np.argmax(node < 0))
        text = list(names)[int(code[row])]
        raise BadInput(f"{text[:40]!r} is no node of the topology", path=path, row=row + 1, column=name)
    return node


def _trace(path: Path, frame: pd.DataFrame, network: Network, warn: Warn) -> TrafficTrace:
    at = frame["timestamp"].to_numpy(np.int64)
    step, start = _step(at), int(at[0])
    interval = (at - start + step // 2) // step
    if moved := int(((at - start) % step != 0).sum()):
        warn(f"repair: {path}: column timestamp: {moved} rows lie between intervals of {step} s, put into the nearest")
    pairs, begins = _pairs(frame, interval, network)
    index = {pair: k for k, pair in enumerate(pairs)}
    pair = np.array([index[each] for each in zip(frame["source"], frame["target"], strict=True)], np.int64)
    steps = int(interval[-1]) + 1
    if steps * len(pairs) > MOST_CELLS:
        raise BadInput(f"covers {steps} intervals of {step} s: too many for {len(pairs)} pairs", path=path)
    traffic, count = np.zeros((steps, len(pairs))), np.zeros((steps, len(pairs)), np.int32)
    np.add.at(traffic, (interval, pair), frame["bytes_per_s"].to_numpy())
    np.add.at(count, (interval, pair), 1)
    if twice := int((count > 1).sum()):
        warn(f"repair: {path}: {twice} times a pair has several rows in an interval, averaged")
    traffic /= np.maximum(count, 1)
    observed: BoolArray = np.any(count > 0, axis=1)
    if gaps := int((~observed).sum()):
        warn(f"warning: {path}: nothing is known of {gaps} of {steps} intervals; nothing is decided or scored in them")
    names = [(network.nodes[source], network.nodes[target]) for source, target in pairs]
    digest = hashlib.sha256(repr((start, step, names)).encode())
    for array in (traffic, observed):
        digest.update(np.ascontiguousarray(array).tobytes())
    return TrafficTrace(
        pairs=pairs,
        begins=begins,
        start=start,
        step_seconds=step,
        traffic=traffic,
        observed=observed,
        digest=digest.hexdigest(),
        name=path.name,
    )


def _pairs(frame: pd.DataFrame, interval: IntArray, network: Network) -> tuple[tuple[tuple[int, int], ...], IntArray]:
    """All pairs in their order, and from when on each is to be reckoned with."""
    first: dict[tuple[int, int], int] = {}
    seen: dict[int, int] = {}
    for source, target, at in zip(frame["source"].tolist(), frame["target"].tolist(), interval.tolist(), strict=True):
        first.setdefault((source, target), at)
        seen.setdefault(source, at)
        seen.setdefault(target, at)
    if len(network.nodes) <= MOST_NODES:
        for source, since in seen.items():
            for target, until in seen.items():
                if source != target:
                    known = max(since, until) + 1
                    first[source, target] = min(first.get((source, target), known), known)
        last = int(interval[-1]) + 1
        first = {pair: at for pair, at in first.items() if at <= last}
    ordered = sorted((at, *pair) for pair, at in first.items())
    return tuple((source, target) for _, source, target in ordered), np.array([at for at, *_ in ordered], np.int64)


def _step(at: IntArray) -> int:
    """Length of an interval: the commonest distance of early instants, so that what comes later does not change it."""
    distance = np.diff(np.unique(at)[: FIRST_INTERVALS + 1])
    if not len(distance):
        return DEFAULT_STEP_SECONDS
    values, count = np.unique(distance, return_counts=True)
    return int(values[np.argmax(count)])
