"""PlanetLab traces of CloudSim: one file for each VM and day, 288 whole percentages of CPU, 5 minutes apart.

Beloglazov, Buyya: Optimal online deterministic algorithms and adaptive heuristics for energy and performance
efficient dynamic consolidation of virtual machines, 2012; https://github.com/beloglazov/planetlab-workload-traces.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from forestall.model.errors import BadInput
from forestall.model.samples import Trace
from forestall.replay.trace_files import Piece
from forestall.replay.trace_reader import Warn, assemble, log_warning

STEP_SECONDS, READINGS_PER_DAY = 300, 288
NOMINAL_CORES = 1.0


def read(
    source: Path,
    *,
    cores: float = NOMINAL_CORES,
    warn: Warn = log_warning,
    step_seconds: int | None = None,
) -> Trace:
    """Read a folder of files, or a folder of such folders, one for each day.

    A folder that is called like a date (``20110303``) starts at that day's midnight UTC; any other starts at 0,
    with the calendar hidden. Files of the same name are the same VM.

    Parameters
    ----------
    source
        The folder.
    cores
        Cores of a VM: what 100 percent means.
    warn, step_seconds
        As for :func:`~forestall.replay.trace_reader.assemble`.

    Raises
    ------
    BadInput
        A file cannot be read, or holds something else than whole percentages, or more than a day of them.
    """
    try:
        folders = sorted(f for f in source.iterdir() if f.is_dir()) or [source]
        files = [f for folder in folders for f in sorted(folder.iterdir()) if _is_data(f)]
    except OSError as error:
        raise BadInput(f"{error.strerror}".lower(), path=source) from error
    if not files:
        raise BadInput("no files in this folder", path=source)
    return assemble(_pieces(files, cores), source, warn=warn, step_seconds=step_seconds)


def _is_data(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and file.suffix.lower() not in (".md", ".pdf")


def _pieces(files: list[Path], cores: float) -> Iterator[Piece]:
    for file in files:
        percent = np.array(_percentages(file), dtype=np.float64)
        start = _midnight(file.parent)
        table = pa.table(
            {
                "vm_id": pa.repeat(pa.scalar(file.name), len(percent)),
                "timestamp": start + STEP_SECONDS * np.arange(len(percent), dtype=np.int64),
                "cpu_cores": percent / 100 * cores,
                "cpu_limit_cores": np.full(len(percent), cores),
            }
        )
        yield Piece.of(file, table)


def _midnight(folder: Path) -> int:
    try:
        return int(datetime.strptime(folder.resolve().name, "%Y%m%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return 0


def _percentages(file: Path) -> list[int]:
    try:
        lines = file.read_text(encoding="ascii").split("\n")
    except OSError as error:
        raise BadInput(f"{error.strerror}".lower(), path=file) from error
    except UnicodeDecodeError as error:
        raise BadInput("is not text", path=file) from error
    readings = [(row, line.strip()) for row, line in enumerate(lines, start=1) if line.strip()]
    if len(readings) > READINGS_PER_DAY:
        row = readings[READINGS_PER_DAY][0]
        raise BadInput(f"has more than the {READINGS_PER_DAY} readings of a day", path=file, row=row)
    for row, text in readings:
        if not (text.isdigit() and int(text) <= 100):
            raise BadInput(f"{text[:40]!r} is not a whole percentage", path=file, row=row)
    return [int(text) for _, text in readings]
