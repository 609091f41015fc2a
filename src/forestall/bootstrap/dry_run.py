"""Puts a dry run of policies together: history from a file, from a daemon, or from the store where none runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forestall.bootstrap.live import STORE, tell
from forestall.bootstrap.models import models_in_use
from forestall.demand.policy import PolicySet
from forestall.learning.recurrent.forecaster import RecurrentSettings
from forestall.model.errors import WrongUse
from forestall.model.resources import Resource
from forestall.replay.demand_replay import ReplaySettings
from forestall.replay.dry_run import dry_run
from forestall.replay.progress import terminal_progress
from forestall.replay.trace_reader import read_trace
from forestall.service.configuration import Configuration
from forestall.service.control import ask

LEARN_SECONDS, EXPORT_SECONDS = 86_400, 300.0


def dry_run_of_trace(
    trace: Path,
    before: PolicySet | None,
    after: PolicySet | None,
    *,
    since: int | None,
    budget: float,
    capacity: Mapping[Resource, float],
    quiet: bool,
) -> dict[str, Any]:
    """What policies would have done on a trace, beside others; see :func:`forestall.replay.dry_run.dry_run`.

    Raises
    ------
    BadInput
        The trace cannot be read.
    WrongUse
        It has ended before ``since``.
    """
    settings = ReplaySettings(
        budgets=(budget,),
        evaluate_from=since,
        recurrent=RecurrentSettings(models_in_use(None, tell), None),
    )
    with terminal_progress(quiet) as progress:
        return dry_run(read_trace(trace, None, tell), before, after, settings, capacity, progress)


def history_of(configuration: Configuration, seconds: int) -> dict[str, Any]:
    """A file with what was recorded last, and a day before it to learn from; by the daemon, or where none runs by us.

    Returns
    -------
    dict
        As :meth:`forestall.service.exports.Exports.export`, ``violation_budget``, and ``capacity`` (resource to amount)
        as far as it is known.
    """
    from forestall.adapters.duckdb.store import DuckdbStore
    from forestall.adapters.files.liveness import locked
    from forestall.replay.trace_writer import write_trace
    from forestall.service.exports import FOLDER, Exports

    folder = configuration.state_folder
    request = {"command": "export", "seconds": seconds, "before_seconds": LEARN_SECONDS}
    found: dict[str, Any] | None = ask(folder, request, EXPORT_SECONDS) if folder.exists() else None
    if found is not None:
        return found
    if not (folder / STORE).exists():
        raise WrongUse(f"{folder}: nothing was recorded here yet")
    with locked(folder):
        store = DuckdbStore(folder / STORE, step_seconds=configuration.step_seconds)
        try:
            exports = Exports(store, folder / FOLDER, write_trace)
            return exports.export(int(time.time()), seconds, LEARN_SECONDS) | {
                "capacity": {},
                "violation_budget": configuration.violation_budget,
            }
        finally:
            store.close()
