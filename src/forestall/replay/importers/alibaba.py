"""Alibaba cluster-trace-v2018, ``machine_usage.csv``: usage of 4034 machines over 8 days, every 10 seconds.

https://github.com/alibaba/clusterdata. The file has no header: machine_id, time_stamp (seconds since the start),
cpu_util_percent, mem_util_percent, mem_gps, mkpi, net_in, net_out, disk_io_percent. Network and disk are
normalised without a unit and are left out. Percentages of -1 and 101 mean that the measurement failed.
"""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pyarrow as pa

from forestall.model.errors import BadInput
from forestall.model.samples import Trace
from forestall.replay.trace_files import Piece, files_of
from forestall.replay.trace_reader import Warn, assemble, log_warning

STEP_SECONDS = 300
NOMINAL_CORES = 96.0
"""Cores of a machine of the trace (column cpu_num of machine_meta.csv)."""
NOMINAL_MEMORY_GIB = 384.0
"""The trace has memory as a share only; this is what 100 percent is taken to be."""
_COLUMNS = {
    "machine_id": "VARCHAR",
    "time_stamp": "BIGINT",
    "cpu_util_percent": "DOUBLE",
    "mem_util_percent": "DOUBLE",
    "mem_gps": "VARCHAR",
    "mkpi": "VARCHAR",
    "net_in": "VARCHAR",
    "net_out": "VARCHAR",
    "disk_io_percent": "VARCHAR",
}
_QUERY = """
    WITH usage AS (
        SELECT machine_id, time_stamp,
               CASE WHEN cpu_util_percent BETWEEN 0 AND 100 THEN cpu_util_percent / 100 END AS cpu,
               CASE WHEN mem_util_percent BETWEEN 0 AND 100 THEN mem_util_percent / 100 END AS mem
        FROM read_csv($files, header = false, auto_detect = false, delim = ',', columns = $columns)
    )
    SELECT machine_id AS vm_id, time_stamp // $step * $step AS timestamp,
           avg(cpu) * $cores AS cpu_cores, max(cpu) * $cores AS cpu_peak_cores, $cores AS cpu_limit_cores,
           avg(mem) * $memory AS mem_bytes, $memory AS mem_limit_bytes
    FROM usage
    WHERE $machines IS NULL
       OR machine_id IN (SELECT DISTINCT machine_id FROM usage ORDER BY machine_id LIMIT $machines)
    GROUP BY 1, 2 ORDER BY 1, 2
"""


def read(
    source: Path,
    *,
    cores: float = NOMINAL_CORES,
    memory_gib: float = NOMINAL_MEMORY_GIB,
    max_vms: int | None = None,
    warn: Warn = log_warning,
    step_seconds: int | None = STEP_SECONDS,
) -> Trace:
    """Read ``machine_usage.csv[.gz]``, or a folder of its parts, brought to a step of 5 minutes.

    The file is larger than memory; it is streamed and averaged by DuckDB. The peak is the highest 10 s value.

    Parameters
    ----------
    source
        The file or folder.
    cores, memory_gib
        What 100 percent of a machine is.
    max_vms
        Keep the first machines by name.
    warn
        As for :func:`~forestall.replay.trace_reader.assemble`.
    step_seconds
        The step, at least the 10 s of the trace.

    Raises
    ------
    BadInput
        The file cannot be read or understood.
    """
    step = step_seconds or STEP_SECONDS
    files = files_of(source, (".csv", ".csv.gz"))
    values = {
        "files": [str(f) for f in files],
        "columns": _COLUMNS,
        "step": step,
        "cores": float(cores),
        "memory": memory_gib * 2.0**30,
        "machines": max_vms,
    }
    piece = Piece.of(source, _run(values, files))
    return assemble([piece], source, warn=warn, step_seconds=step)


def _run(values: dict[str, object], files: list[Path]) -> pa.Table:
    connection = duckdb.connect()
    try:
        connection.execute("SET enable_progress_bar = false")
        return connection.sql(_QUERY, params=values).to_arrow_table()
    except duckdb.Error as error:
        raise _refusal(str(error), files) from error
    finally:
        connection.close()


def _refusal(text: str, files: list[Path]) -> BadInput:
    """Say in our words what DuckDB says about a line of a file."""
    line = re.search(r"Line: (\d+)", text)
    path = next((f for f in files if str(f) in text), files[0])
    column = next((c for c in _COLUMNS if f'"{c}"' in text), None)
    value = re.search(r'[Cc]ould not convert string "(.*?)"', text)
    what = f"{value.group(1)[:40]!r} is not a number" if value else "cannot be read: " + text.split("\n")[0][:200]
    return BadInput(what, path=path, row=int(line.group(1)) if line else None, column=column)
