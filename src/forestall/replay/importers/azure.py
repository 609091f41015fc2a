"""Azure public dataset, V1 (2017) and V2 (2019): CPU readings of first-party and customer VMs per 300 s.

Cortez et al.: Resource Central, SOSP 2017; https://github.com/Azure/AzurePublicDataset. Readings are files
``vm_cpu_readings-file-*-of-*.csv.gz`` without a header: timestamp in seconds since the start of the trace,
encrypted VM id, lowest, highest and mean CPU in percent of the VM. There is no memory demand in the dataset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forestall.model.errors import BadInput
from forestall.model.samples import Trace
from forestall.replay.trace_files import VM_ID_TYPE, Piece, files_of, read_csv
from forestall.replay.trace_reader import Warn, assemble, log_warning
from forestall.replay.trace_values import numbers

READINGS = ("timestamp", "vm_id", "min_cpu", "max_cpu", "avg_cpu")
VMTABLE = (
    *("vm_id", "subscription_id", "deployment_id", "created", "deleted", "max_cpu", "avg_cpu", "p95_max_cpu"),
    *("category", "cores", "memory"),
)
NOMINAL_CORES = 1.0


def read(
    source: Path,
    *,
    vmtable: Path | None = None,
    max_vms: int | None = None,
    warn: Warn = log_warning,
    step_seconds: int | None = None,
) -> Trace:
    """Read one file of readings or a folder of them.

    Parameters
    ----------
    source
        ``vm_cpu_readings-*.csv[.gz]``, or a folder; a vmtable in it is not taken for readings.
    vmtable
        ``vmtable.csv[.gz]`` with the number of cores of each VM; a bucket such as ``>24`` counts as its bound.
        Without it, and for VMs that are not in it, a VM has one core.
    max_vms
        Keep the first VMs by name: of those in ``vmtable``, else of those in the first file.
    warn, step_seconds
        As for :func:`~forestall.replay.trace_reader.assemble`.

    Raises
    ------
    BadInput
        A file cannot be read or understood.
    """
    cores = _cores(vmtable) if vmtable is not None else {}
    return assemble(_pieces(source, cores, max_vms), source, warn=warn, step_seconds=step_seconds)


def _pieces(source: Path, cores: Mapping[str, float], max_vms: int | None) -> Iterator[Piece]:
    types = {"vm_id": VM_ID_TYPE, **dict.fromkeys(READINGS[2:], pa.float64())}
    chosen = sorted(cores)[:max_vms] if cores and max_vms else None
    files = [f for f in files_of(source, (".csv", ".csv.gz")) if not f.name.startswith("vmtable")]
    if not files:
        raise BadInput("no readings in this folder", path=source)
    for file in files:
        table = read_csv(file, types, names=READINGS)
        if chosen is None and max_vms is not None:
            names = pc.unique(table.column("vm_id").cast(pa.string())).to_pylist()
            chosen = sorted(n for n in names if n)[:max_vms]
        if table.num_rows:
            yield Piece.of(file, _long_form(file, table, cores, chosen))


def _long_form(file: Path, table: pa.Table, cores: Mapping[str, float], chosen: list[str] | None) -> pa.Table:
    mean = numbers(file, "avg_cpu", table.column("avg_cpu"))
    peak = numbers(file, "max_cpu", table.column("max_cpu"))
    vm_id = table.column("vm_id").cast(pa.string()).dictionary_encode().combine_chunks()
    vm_id = vm_id.chunk(0) if isinstance(vm_id, pa.ChunkedArray) else vm_id
    of_name = np.array([cores.get(n, NOMINAL_CORES) for n in vm_id.dictionary.to_pylist()])
    limit = of_name[vm_id.indices.fill_null(0).to_numpy(zero_copy_only=False)]
    long_form = pa.table(
        {
            "vm_id": vm_id,
            "timestamp": table.column("timestamp"),
            "cpu_cores": mean / 100 * limit,
            "cpu_peak_cores": peak / 100 * limit,
            "cpu_limit_cores": limit,
        }
    )
    if chosen is None:
        return long_form
    return long_form.filter(pc.is_in(table.column("vm_id").cast(pa.string()), pa.array(chosen)))


def _cores(path: Path) -> dict[str, float]:
    """Read the number of cores of each VM, with or without a header, V1 or V2."""
    table = read_csv(path, dict.fromkeys(VMTABLE, pa.string()), names=VMTABLE)
    names = table.column("vm_id").to_pylist()
    cores = table.column("cores").to_pylist()
    headed = bool(names) and str(names[0]).replace(" ", "").lower() in ("vmid", "vm_id")
    return {
        str(name): _bucket(path, row, text)
        for row, (name, text) in enumerate(zip(names, cores, strict=True), start=1 - headed)
        if row > 0
    }


def _bucket(path: Path, row: int, text: str | None) -> float:
    try:
        return float((text or "").strip().removeprefix(">"))
    except ValueError as error:
        what = f"{text!r} is not a number of cores"
        raise BadInput(what, path=path, row=row, column="vmcorecount") from error
