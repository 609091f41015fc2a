"""Bitbrains GWA-T-12: a folder of CSV files, one for each VM, separated by semicolons.

Shen, van Beek, Iosup: Statistical characterization of business-critical workloads hosted in cloud datacenters,
CCGrid 2015; http://gwa.ewi.tudelft.nl/datasets/gwa-t-12-bitbrains. The column "Timestamp [ms]" holds seconds in
the published files; the unit is judged by its magnitude.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from forestall.model.errors import BadInput
from forestall.model.samples import FloatArray, Trace
from forestall.replay.trace_files import Piece, files_of, read_csv
from forestall.replay.trace_reader import Warn, assemble, log_warning
from forestall.replay.trace_values import numbers

_KIB = 1024.0
_CORES, _MHZ, _PERCENT = "CPU cores", "CPU usage [MHZ]", "CPU usage [%]"
_PROVISIONED_MHZ = "CPU capacity provisioned [MHZ]"
_SCALED: Mapping[str, str] = {
    "mem_bytes": "Memory usage [KB]",
    "mem_limit_bytes": "Memory capacity provisioned [KB]",
    "disk_read_bytes_per_s": "Disk read throughput [KB/s]",
    "disk_write_bytes_per_s": "Disk write throughput [KB/s]",
    "net_rx_bytes_per_s": "Network received throughput [KB/s]",
    "net_tx_bytes_per_s": "Network transmitted throughput [KB/s]",
}


def read(source: Path, *, warn: Warn = log_warning, step_seconds: int | None = None) -> Trace:
    """Read a folder of files ``NAME.csv``, one for each VM, or one such file.

    CPU is the used share of the provisioned megahertz, in cores; where nothing is provisioned the VM is off
    and its limit is 0. Kilobytes have 1024 bytes.

    Parameters
    ----------
    source
        The folder.
    warn, step_seconds
        As for :func:`~forestall.replay.trace_reader.assemble`.

    Raises
    ------
    BadInput
        A file cannot be read or understood.
    """
    return assemble(_pieces(source), source, warn=warn, step_seconds=step_seconds)


def _pieces(source: Path) -> Iterator[Piece]:
    for file in files_of(source, (".csv", ".csv.gz")):
        table = read_csv(file, {}, delimiter=";")
        table = table.rename_columns([name.strip() for name in table.column_names])
        if table.num_rows:
            yield Piece.of(file, _long_form(file, table))


def _long_form(file: Path, table: pa.Table) -> pa.Table:
    """Return one VM's table with the columns of a demand trace."""
    timestamp = next((c for c in table.column_names if c.startswith("Timestamp")), "Timestamp [ms]")
    cores = _column(file, table, _CORES)
    provisioned = _column(file, table, _PROVISIONED_MHZ)
    used = _column(file, table, _MHZ)
    with np.errstate(divide="ignore", invalid="ignore"):
        demand = np.where(provisioned > 0, used / provisioned * cores, 0.0)
    data = {
        "vm_id": pa.repeat(pa.scalar(file.name.split(".csv")[0]), table.num_rows),
        "timestamp": _arrow(file, table, timestamp),
        "cpu_cores": np.where(np.isnan(used), np.nan, demand),
        "cpu_limit_cores": np.where(provisioned > 0, cores, 0.0),
    }
    present = {ours: theirs for ours, theirs in _SCALED.items() if theirs in table.column_names}
    data |= {ours: _column(file, table, theirs) * _KIB for ours, theirs in present.items()}
    return pa.table(data)


def _column(file: Path, table: pa.Table, name: str) -> FloatArray:
    return numbers(file, name, _arrow(file, table, name))


def _arrow(file: Path, table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise BadInput("is missing", path=file, column=name)
    return table.column(name)
