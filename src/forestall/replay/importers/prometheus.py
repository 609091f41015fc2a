"""Prometheus: what its libvirt exporter has recorded of the VMs, over the HTTP API.

The names of the metrics are those of prometheus-libvirt-exporter. API: ``/api/v1/query_range``,
https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries; a query answers at most 11,000 points
for each series, so long ranges are asked for in parts.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from forestall.model.errors import BadInput, ForestallError, WrongUse
from forestall.model.instants import parse_instant
from forestall.model.samples import Trace
from forestall.replay.trace_files import Piece
from forestall.replay.trace_reader import Warn, assemble, log_warning

STEP_SECONDS = 300
MAX_POINTS = 10_000
TIMEOUT_SECONDS = 60.0
_RATE = "sum by ({label}) (rate({metric}[{step}s]))"
_MEAN = "max by ({label}) (avg_over_time({metric}[{step}s]))"
_LAST = "max by ({label}) ({metric})"
_USED, _USABLE = "used", "usable"
QUERIES: Mapping[str, tuple[str, str]] = {
    "cpu_cores": (_RATE, "libvirt_domain_info_cpu_time_seconds_total"),
    "cpu_limit_cores": (_LAST, "libvirt_domain_info_virtual_cpus"),
    _USED: (_MEAN, "libvirt_domain_info_memory_usage_bytes"),
    _USABLE: (_MEAN, "libvirt_domain_memory_stats_usable_bytes"),
    "mem_limit_bytes": (_LAST, "libvirt_domain_info_maximum_memory_bytes"),
    "disk_read_bytes_per_s": (_RATE, "libvirt_domain_block_stats_read_bytes_total"),
    "disk_write_bytes_per_s": (_RATE, "libvirt_domain_block_stats_write_bytes_total"),
    "net_rx_bytes_per_s": (_RATE, "libvirt_domain_interface_stats_receive_bytes_total"),
    "net_tx_bytes_per_s": (_RATE, "libvirt_domain_interface_stats_transmit_bytes_total"),
}
"""For each column the query and its metric. A rate at t covers (t - step, t]: the interval that starts there."""


def read(
    source: str,
    *,
    start: str | None = None,
    end: str | None = None,
    label: str = "domain",
    warn: Warn = log_warning,
    step_seconds: int | None = STEP_SECONDS,
) -> Trace:
    """Ask a Prometheus server for the VMs of libvirt's exporter.

    Memory demand is what the VM has less what its guest calls usable; without the guest's word it is all that
    the VM has. The server must scrape at least twice in a step.

    Parameters
    ----------
    source
        URL of the server, such as ``http://prometheus:9090``.
    start, end
        The range, seconds UTC or ISO 8601; intervals start at multiples of the step.
    label
        The label that names the VM.
    warn
        As for :func:`~forestall.replay.trace_reader.assemble`.
    step_seconds
        The step.

    Raises
    ------
    WrongUse
        No range, or one that is empty.
    BadInput
        The URL is none, or the server refuses a query or does not answer as Prometheus does.
    ForestallError
        The server cannot be reached.
    """
    server = urllib.parse.urlsplit(source)
    if server.scheme not in ("http", "https") or not server.netloc:
        raise BadInput("is not a URL such as http://prometheus:9090", path=source)
    step = step_seconds or STEP_SECONDS
    first, last = _instant("--start", start) // step * step, _instant("--end", end) // step * step
    if last <= first:
        raise WrongUse("--end must be at least one step after --start")
    columns = {
        name: _series(source, query.format(label=label, metric=metric, step=step), label, first, last, step)
        for name, (query, metric) in QUERIES.items()
    }
    path = Path(server.netloc)
    if columns["cpu_cores"].empty:
        metric = QUERIES["cpu_cores"][1]
        raise BadInput(f"has no {metric} with the label {label!r} in this range", path=source)
    return assemble([Piece.of(path, _table(columns))], path, warn=warn, step_seconds=step)


def _instant(option: str, text: str | None) -> int:
    if text is None:
        raise WrongUse(f"format prometheus needs {option}")
    return parse_instant(text, what=option)


def _table(columns: dict[str, pd.Series[float]]) -> pa.Table:
    """Join the series of all columns into a table in the long form."""
    usable, used = columns.pop(_USABLE), columns.pop(_USED)
    told = usable.index.unique("vm_id").intersection(used.index.unique("vm_id"))
    by_guest = used.index.get_level_values("vm_id").isin(told)
    difference = (used - usable.reindex(used.index)).clip(lower=0)
    columns["mem_bytes"] = used.where(~by_guest, difference)
    present = {name: series for name, series in columns.items() if not series.empty}
    if "mem_bytes" not in present:
        present.pop("mem_limit_bytes", None)
    frame = pd.concat(present, axis=1).sort_index().reset_index()
    return pa.Table.from_pandas(frame, preserve_index=False)


def _series(source: str, query: str, label: str, first: int, last: int, step: int) -> pd.Series[float]:
    """Ask for one column: a series by VM and start of the interval."""
    data: dict[tuple[str, int], float] = {}
    for begin, end in _ranges(first + step, last, step):
        asked = {"query": query, "start": str(begin), "end": str(end), "step": str(step)}
        for series in _ask(source, asked):
            vm_id = series["metric"].get(label, "")
            data |= {(vm_id, round(float(t)) - step): float(v) for t, v in series["values"] if vm_id}
    index = pd.MultiIndex.from_tuples(data.keys(), names=["vm_id", "timestamp"]) if data else _NO_INDEX
    return pd.Series(list(data.values()), index=index, dtype=float)


_NO_INDEX = pd.MultiIndex.from_arrays([[], []], names=["vm_id", "timestamp"])


def _ranges(first: int, last: int, step: int) -> Iterator[tuple[int, int]]:
    """Cut the instants from ``first`` to ``last`` into parts of at most :data:`MAX_POINTS`."""
    for begin in range(first, last + 1, step * MAX_POINTS):
        yield begin, min(begin + step * (MAX_POINTS - 1), last)


def _ask(source: str, asked: Mapping[str, str]) -> list[Any]:
    url = f"{source.rstrip('/')}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            body = response.read()
    except urllib.error.HTTPError as error:
        raise BadInput(f"answers {error.code} {error.reason}: {_said(error.read())}", path=source) from error
    except (urllib.error.URLError, OSError) as error:
        raise ForestallError(f"{source}: cannot be reached: {getattr(error, 'reason', error)}") from error
    try:
        answer = json.loads(body)
        result = answer["data"]["result"]
        if answer["data"]["resultType"] != "matrix" or not isinstance(result, list):
            raise KeyError
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"does not answer as Prometheus does: {body[:80]!r}", path=source) from error
    return result


def _said(body: bytes) -> str:
    """Return the reason that Prometheus gives with a refusal."""
    try:
        return str(json.loads(body)["error"])[:200]
    except (ValueError, KeyError, TypeError):
        return repr(body[:80])
