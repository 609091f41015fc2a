"""``forestall replay access``: which reader, which loop, which writers."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path

from forestall import __version__
from forestall.bootstrap.process_memory import peak_memory_bytes
from forestall.replay.access.prefetches import write_prefetches
from forestall.replay.access.replay import AccessOutcome, AccessReplaySettings, replay_access
from forestall.replay.access.result import AccessHeader, AccessResult
from forestall.replay.access.trace import AccessTrace, read_access_trace
from forestall.replay.progress import terminal_progress
from forestall.replay.staging_folder import whole_folder


def access_replay_to_folder(path: Path, out: Path, settings: AccessReplaySettings, *, quiet: bool = False) -> str:
    """Replay staging on the accesses at ``path`` and write everything into ``out``, whole or not at all.

    Returns
    -------
    str
        What came of it, for a terminal.
    """
    started, notes, _ = time.monotonic(), [], settings.names

    def note(line: str) -> None:
        notes.append(line)
        print(line, file=sys.stderr)

    trace = read_access_trace(path, note)
    with whole_folder(out) as folder:
        with terminal_progress(quiet) as progress:
            outcome = replay_access(trace, settings, progress)
        header = _header(trace, settings, outcome, notes, time.monotonic() - started)
        result = AccessResult(header, outcome.points, outcome.missed, outcome.calibration)
        write_prefetches(folder / "prefetches.parquet", trace, outcome.prefetches)
        _write_report(folder, result)
    from forestall.replay.report.access_summary import access_terminal

    return f"{access_terminal(result)}\n{out}/report.html"


def _header(
    trace: AccessTrace, settings: AccessReplaySettings, outcome: AccessOutcome, notes: list[str], wall_seconds: float
) -> AccessHeader:
    return AccessHeader(
        trace=trace.name,
        digest=trace.digest,
        vms=len(trace.vm_ids),
        streams=len(trace.streams),
        accesses=len(trace),
        items=trace.items,
        scored_from=outcome.first,
        cache_items=settings.cache_items,
        arrival_delay=settings.arrival_delay,
        threshold=settings.threshold,
        policy=settings.names[0],
        accesses_per_s=outcome.accesses_per_s,
        model_bytes=outcome.model_bytes,
        seed=settings.seed,
        version=__version__,
        command=shlex.join(["forestall", *sys.argv[1:]]),
        wall_seconds=wall_seconds,
        peak_memory_bytes=peak_memory_bytes(),
        warnings=tuple(notes),
    )


def _write_report(folder: Path, result: AccessResult) -> None:
    from forestall.replay.report.access_page import render_access_report
    from forestall.replay.report.access_summary import access_summary

    (folder / "summary.json").write_text(json.dumps(access_summary(result), indent=1) + "\n", "utf-8")
    render_access_report(result, folder / "report.html")
