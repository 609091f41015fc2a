"""The formats that can be imported, by name, with the options that each understands."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forestall.model.errors import WrongUse
from forestall.model.samples import Trace
from forestall.replay.importers import alibaba, azure, bitbrains, planetlab, prometheus, table
from forestall.replay.trace_reader import Warn, log_warning


@dataclass(frozen=True)
class Format:
    """An importer: its function, and its own options beside ``step_seconds`` and ``warn``."""

    read: Callable[..., Trace]
    options: frozenset[str] = frozenset()
    source_is_path: bool = True


FORMATS: Mapping[str, Format] = {
    "alibaba": Format(alibaba.read, frozenset({"cores", "memory_gib", "max_vms"})),
    "azure": Format(azure.read, frozenset({"vmtable", "max_vms"})),
    "bitbrains": Format(bitbrains.read),
    "planetlab": Format(planetlab.read, frozenset({"cores"})),
    "prometheus": Format(prometheus.read, frozenset({"start", "end", "label"}), source_is_path=False),
    "table": Format(table.read, frozenset({"column_map"})),
}


def import_trace(format: str, source: str, warn: Warn = log_warning, **options: Any) -> Trace:
    """Import a trace.

    Parameters
    ----------
    format
        A name in :data:`FORMATS`.
    source
        A file or folder; for ``prometheus`` the URL of the server.
    warn
        Called with one line for each repair and doubt.
    options
        ``step_seconds``, and the options of the format.

    Raises
    ------
    WrongUse
        The format does not exist, or does not know one of the options.
    BadInput
        The source cannot be read or understood.
    """
    if format not in FORMATS:
        close = difflib.get_close_matches(format, FORMATS, n=1)
        hint = f", did you mean {close[0]!r}?" if close else f", expected one of {', '.join(FORMATS)}"
        raise WrongUse(f"unknown format {format!r}{hint}")
    chosen = FORMATS[format]
    foreign = sorted(options.keys() - chosen.options - {"step_seconds"})
    if foreign:
        name = {"column_map": "map", "step_seconds": "step"}.get(foreign[0], foreign[0]).replace("_", "-")
        raise WrongUse(f"format {format} has no option --{name}")
    return chosen.read(Path(source) if chosen.source_is_path else source, warn=warn, **options)
