"""Puts a dry run of policies together: history from a file, from a daemon, or from the store where none runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forestall.adapters.files.trust_book import FileTrustBook
from forestall.bootstrap.live import STORE
from forestall.bootstrap.models import models_of_host
from forestall.bootstrap.stores import store_of
from forestall.bootstrap.telling import tell
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
from forestall.service.exports import EXPORT_SECONDS, LEARN_SECONDS
from forestall.service.trust_groups import TrustGroups


def dry_run_of_trace(
    configuration: Configuration,
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

    The loop is set as the live one: its models, how often it may change a VM, for how long a VM is new, trust groups.

    Raises
    ------
    BadInput
        The trace cannot be read.
    WrongUse
        It has ended before ``since``.
    """
    folder = configuration.state_folder
    settings = ReplaySettings(
        budgets=(budget,),
        evaluate_from=since,
        max_changes_per_vm_hour=configuration.max_changes_per_vm_hour or None,
        cold_seconds=configuration.cold_seconds,
        recurrent=RecurrentSettings(models_of_host(folder), None),
    )
    groups = TrustGroups(FileTrustBook(folder))
    recorded = read_trace(trace, None, tell)
    with terminal_progress(quiet) as progress:
        return dry_run(recorded, groups.beside(before), groups.beside(after), settings, capacity, progress)


def history_of(configuration: Configuration, seconds: int) -> dict[str, Any]:
    """A file with what was recorded last, and a day before it to learn from; by the daemon, or where none runs by us.

    Returns
    -------
    dict
        As :meth:`forestall.service.exports.Exports.export`, ``violation_budget``, and ``capacity`` (resource to amount)
        as far as it is known.
    """
    from forestall.adapters.files.liveness import locked
    from forestall.replay.trace_writer import write_trace
    from forestall.service.exports import FOLDER, Exports

    folder = configuration.state_folder
    request = {"command": "export", "seconds": seconds, "before_seconds": LEARN_SECONDS}
    found: dict[str, Any] | None = ask(folder, request, EXPORT_SECONDS) if folder.exists() else None
    if found is not None:
        return found
    if not (configuration.store.url or (folder / STORE).exists()):
        raise WrongUse(f"{folder}: nothing was recorded here yet")
    with locked(folder):
        store = store_of(configuration)
        try:
            exports = Exports(store, folder / FOLDER, write_trace)
            return exports.export(int(time.time()), seconds, LEARN_SECONDS) | {
                "capacity": {},
                "violation_budget": configuration.violation_budget,
            }
        finally:
            store.close()
