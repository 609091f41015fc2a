"""``forestall replay burst``: which reader, which loop, which model, which writers."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forestall import __version__
from forestall.bootstrap.process_memory import peak_memory_bytes
from forestall.learning.peaks.model import PeakModel
from forestall.replay.burst.assembly import assemble, at_one
from forestall.replay.burst.grants_file import write_grants
from forestall.replay.burst.host_size import size_notes
from forestall.replay.burst.replay import BurstOutcome, BurstReplaySettings, replay_burst
from forestall.replay.burst.result import BurstHeader, BurstResult
from forestall.replay.burst.trace import BurstTrace, read_burst_trace
from forestall.replay.burst.windows import windows_in
from forestall.replay.policy_names import FORESTALL
from forestall.replay.progress import terminal_progress
from forestall.replay.staging_folder import whole_folder


def burst_replay_to_folder(path: Path, out: Path, settings: BurstReplaySettings, *, quiet: bool = False) -> str:
    """Replay the burst loop on the trace at ``path`` and write everything into ``out``, whole or not at all.

    Returns
    -------
    str
        What came of it, for a terminal.
    """
    started, notes, names = time.monotonic(), [], settings.names

    def note(line: str) -> None:
        notes.append(line)
        print(line, file=sys.stderr)

    trace = read_burst_trace(path, note)
    windows_in(trace, settings.window_ms)  # before anything is written
    model = shipped_model(note) if FORESTALL in names else None
    with whole_folder(out) as folder:
        with terminal_progress(quiet) as progress:
            outcome = replay_burst(trace, settings, model, progress)
        for line in size_notes(trace, outcome.size, settings.cores, settings.history_seconds):
            note(line)
        if outcome.windows.first >= len(outcome.windows.use):
            note(f"warning: nothing is scored: the trace ends within its history, {settings.history_seconds:g} s")
        header = _header(trace, settings, outcome, _known_of(model), notes, time.monotonic() - started)
        result = assemble(outcome, header, trace.vm_ids)
        _write(folder, trace, outcome, result)
    from forestall.replay.report.burst_summary import burst_terminal

    return f"{burst_terminal(result)}\n{out}/report.html"


def shipped_model(note: Callable[[str], None]) -> PeakModel | None:
    """The recurrent model that comes with Forestall, if it does."""
    try:
        return PeakModel.shipped()
    except FileNotFoundError:
        note("warning: no recurrent model of peaks is here; forecasts do without it")
        return None


def _known_of(model: PeakModel | None) -> dict[str, Any] | None:
    """What it was trained on, and which one it is exactly."""
    return {**model.about, "sha256": hashlib.sha256(model.graph).hexdigest()} if model else None


def _header(
    trace: BurstTrace,
    settings: BurstReplaySettings,
    outcome: BurstOutcome,
    model: dict[str, Any] | None,
    notes: list[str],
    wall_seconds: float,
) -> BurstHeader:
    window_us = settings.window_ms * 1000
    return BurstHeader(
        trace=trace.name,
        digest=trace.digest,
        vms=len(trace.vm_ids),
        windows=trace.windows,
        trace_window_us=trace.window_us,
        window_us=window_us,
        start_us=trace.start_us,
        scored_from_s=outcome.windows.first * window_us / 1e6,
        end_s=len(outcome.windows.use) * window_us / 1e6,
        cores=outcome.size.cores,
        pooled=settings.pooled,
        policy=settings.names[0],
        budgets=settings.budgets,
        seed=settings.seed,
        version=__version__,
        command=shlex.join(["forestall", *sys.argv[1:]]),
        wall_seconds=wall_seconds,
        peak_memory_bytes=peak_memory_bytes(),
        model=model,
        warnings=tuple(notes),
    )


def _write(folder: Path, trace: BurstTrace, outcome: BurstOutcome, result: BurstResult) -> None:
    """Write every budget's files, each into its own folder when there are several."""
    budgets = result.header.budgets
    if len(budgets) == 1:
        write_grants(folder / "grants.parquet", trace, result.header.window_us, outcome.granted[0])
    for i, budget in enumerate(budgets if len(budgets) > 1 else ()):
        place = folder / f"budget-{budget:g}"
        place.mkdir()
        write_grants(place / "grants.parquet", trace, result.header.window_us, outcome.granted[i])
        _write_report(place, at_one(result, outcome, i, trace.vm_ids))
    _write_report(folder, result)


def _write_report(folder: Path, result: BurstResult) -> None:
    from forestall.replay.report.burst_page import render_burst_report
    from forestall.replay.report.burst_summary import burst_summary

    (folder / "summary.json").write_text(json.dumps(burst_summary(result), indent=1) + "\n", "utf-8")
    render_burst_report(result, folder / "report.html")
