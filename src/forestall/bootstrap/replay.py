"""The only place that puts the parts together: which reader, which loop, which writers."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from forestall import __version__
from forestall.bootstrap.process_memory import peak_memory_bytes
from forestall.model.errors import BadInput, WrongUse
from forestall.model.samples import Trace
from forestall.ports.workers import Progress, Workers
from forestall.replay.demand_files import write_allocations, write_forecasts, write_risk
from forestall.replay.demand_replay import FORESTALL, ReplayOutcome, ReplaySettings, replay_demand
from forestall.replay.demand_result import assemble, by_budget
from forestall.replay.progress import terminal_progress
from forestall.replay.result import Header, ReplayResult
from forestall.replay.staging_folder import whole_folder
from forestall.replay.trace_reader import read_trace


def demand_replay_to_folder(
    path: Path, out: Path, settings: ReplaySettings, *, quiet: bool = False, dask: str | None = None
) -> str:
    """Replay the demand loop on the trace at ``path`` and write everything into ``out``, whole or not at all.

    ``dask`` is the address of a Dask scheduler whose workers compute; None: processes of this machine.

    Returns
    -------
    str
        What happened, for a terminal.
    """
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        print(line, file=sys.stderr)

    trace = _read(path, settings, note)
    return replay_trace_to_folder(trace, out, settings, notes, quiet=quiet, dask=dask)


def _read(path: Path, settings: ReplaySettings, note: Callable[[str], None]) -> Trace:
    """The trace with all its resources, whichever are replayed: forecasts of one look at the others."""
    if not settings.resources:
        return read_trace(path, None, note)
    said: set[str] = set()

    def once(line: str) -> None:
        if line not in said:
            said.add(line)
            note(line)

    asked = read_trace(path, settings.resources, once)
    try:
        return read_trace(path, None, once)
    except BadInput as error:
        note(f"warning: only {', '.join(settings.resources)} can be read, and forecasts look at nothing else: {error}")
        return asked


def replay_trace_to_folder(
    trace: Trace,
    out: Path,
    settings: ReplaySettings,
    notes: list[str],
    *,
    quiet: bool = False,
    dask: str | None = None,
) -> str:
    """Replay the demand loop on a trace in memory; see :func:`demand_replay_to_folder`."""
    started = time.monotonic()
    with whole_folder(out) as folder:
        with terminal_progress(quiet) as progress:
            outcome = replay_demand(trace, settings, progress, partial(_dask_workers, dask) if dask else None)
        wall_seconds = time.monotonic() - started
        result = assemble(outcome, settings, _header(trace, settings, outcome, notes, wall_seconds))
        _write(folder, result, outcome, settings)
    from forestall.replay.report.terminal import terminal_summary

    return f"{terminal_summary(result)}\n{out}/report.html"


def _dask_workers(address: str, progress: Progress) -> Workers:
    try:
        from forestall.adapters.dask.workers import DaskWorkers
    except ImportError as error:
        raise WrongUse("--dask needs the extra dask: pip install 'forestall[dask]'") from error
    return DaskWorkers(address, progress)


def _header(
    trace: Trace, settings: ReplaySettings, outcome: ReplayOutcome, notes: list[str], wall_seconds: float
) -> Header:
    return Header(
        trace=trace.name,
        digest=trace.digest,
        vms=len(trace.vm_ids),
        intervals=trace.grid.steps,
        step_seconds=trace.grid.step_seconds,
        start=trace.grid.start,
        evaluate_from=trace.grid.at(outcome.evaluate_index),
        end=trace.grid.at(trace.grid.steps),
        calendar=trace.calendar,
        policy=FORESTALL if settings.with_forestall else settings.names[0],
        budgets=settings.budgets,
        lead_steps=settings.lead_steps,
        seed=settings.seed,
        version=__version__,
        command=shlex.join(["forestall", *sys.argv[1:]]),
        wall_seconds=wall_seconds,
        peak_memory_bytes=peak_memory_bytes(),
        warnings=(*notes, *outcome.notes),
    )


def _write(folder: Path, result: ReplayResult, outcome: ReplayOutcome, settings: ReplaySettings) -> None:
    """Write every budget's files, each into its own folder when there are several."""
    import json

    from forestall.replay.report.page import render_report
    from forestall.replay.report.summary import summary

    several = len(settings.budgets) > 1
    for i, budget in enumerate(settings.budgets):
        place = folder / f"budget-{budget:g}" if several else folder
        place.mkdir(exist_ok=True)
        own = by_budget(result, budget, settings.budgets)
        _write_tables(place, outcome, settings, i)
        (place / "summary.json").write_text(json.dumps(summary(own), indent=1) + "\n", "utf-8")
        render_report(own, place / "report.html")
    if several:
        (folder / "summary.json").write_text(json.dumps(summary(result), indent=1) + "\n", "utf-8")
        render_report(result, folder / "report.html")


def _write_tables(folder: Path, outcome: ReplayOutcome, settings: ReplaySettings, budget: int) -> None:
    if settings.with_forestall:
        runs = outcome.runs
        first = outcome.evaluate_index
        parts = [(run.trace, first, run.allocated[budget]) for run in runs]
        write_allocations(folder / "allocations.parquet", parts, runs[0].trace.vm_ids)
        write_risk(folder / "risk.parquet", runs)
        if settings.forecasts:
            write_forecasts(folder / "forecasts.parquet", runs)
        if settings.decisions:
            from forestall.replay.decision_file import write_decisions

            write_decisions(folder / "decisions.parquet", runs, budget)
        return
    peers = [run for by_name in outcome.peers.values() for run in list(by_name.values())[:1]]
    theirs = [(run.trace, outcome.evaluate_index, run.allocated) for run in peers]
    write_allocations(folder / "allocations.parquet", theirs, peers[0].trace.vm_ids)
