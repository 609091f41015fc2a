"""Puts the daemon together: the loop, what stands beside it, and what answers for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forestall.adapters.files.liveness import locked
from forestall.adapters.files.originals import FileOriginals
from forestall.adapters.files.restorations import FileRestorations
from forestall.bootstrap.live import LEAD_TIMES, ORIGINALS, STORE, open_host
from forestall.bootstrap.telemetry import telemetry
from forestall.bootstrap.telling import tell
from forestall.model.errors import ForestallError
from forestall.model.resources import Resource
from forestall.service.configuration import Configuration

if TYPE_CHECKING:
    from forestall.demand.driver_settings import DriverSettings

BOOSTED_ROWS = 40_000
"""Training rows of the boosted model on a live host: training takes seconds then, in which no cycle is turned."""


def run_daemon(configuration: Configuration, *, cycles: int | None = None, config: Path | None = None) -> int:
    """Run the daemon until it is told to stop; see :class:`forestall.service.daemon.Daemon`.

    ``config`` is the file that the configuration is from, for processes beside the daemon.
    """
    from forestall.adapters.duckdb.journal import DuckdbJournal
    from forestall.adapters.files.crashes import FileCrashes
    from forestall.adapters.files.lead_times import FileLeadTimes
    from forestall.adapters.files.liveness import FileHeart
    from forestall.adapters.libvirt.lead_times import LeadTimes
    from forestall.bootstrap.api import ApiBeside
    from forestall.bootstrap.beside import beside_of
    from forestall.bootstrap.burst_live import lending_of
    from forestall.bootstrap.policies import policies_of
    from forestall.bootstrap.retraining import retraining_of
    from forestall.bootstrap.staging_live import shadowing_of, trust_groups_of
    from forestall.bootstrap.stores import store_of
    from forestall.bootstrap.tiers import tiering_of
    from forestall.demand.driver import Driver, Ports
    from forestall.replay.trace_writer import write_trace
    from forestall.service.answering import BESIDE, Answering
    from forestall.service.control import serving
    from forestall.service.daemon import Daemon, Notes
    from forestall.service.exports import FOLDER as EXPORTS
    from forestall.service.exports import Exports, copied
    from forestall.service.stopping import Signals
    from forestall.service.tracing import traced_answers

    folder = configuration.state_folder
    with locked(folder), closing_all() as opened_parts:
        policies, groups = policies_of(configuration), trust_groups_of(configuration)
        stated = groups.beside(policies.take_up())
        if (version := policies.newest()) is not None and version.origin == "applied":
            tell(f"policies: version {version.number}, applied by {version.by}; it counts until the file changes")
        opened = open_host(configuration, LeadTimes(FileLeadTimes(folder / LEAD_TIMES, tell)))
        opened_parts.append(opened.host)
        step = opened.step_seconds or configuration.step_seconds
        settings = driver_settings(configuration, step)
        notes = Notes(tell, opened.clock)
        store = store_of(configuration, step)
        opened_parts.append(store)
        journal = DuckdbJournal(folder / STORE)
        opened_parts.append(journal)
        crashes = FileCrashes(folder)
        crashes_at = crashes.begin(opened.clock.now())
        originals = FileOriginals(folder / ORIGINALS, notes)
        ports = Ports(opened.host, store, journal, originals, opened.clock)
        driver = Driver(ports, settings, stated, crashes_at=crashes_at, note=notes)
        turn = threading.RLock()
        heart = FileHeart(folder, configuration.safety.lease_seconds / opened.clock.pace)
        word = FileRestorations(folder)
        beside = beside_of(configuration, opened, driver, notes, opened_parts)
        lending = lending_of(configuration, opened, driver, notes)
        if lending is not None:
            opened_parts.append(lending)
        shadowing = shadowing_of(configuration, opened, driver, groups, turn, notes, opened_parts)
        tiering = tiering_of(configuration, driver, turn, notes, opened_parts)
        served = ApiBeside.of(configuration, config, notes)
        if served is not None:
            opened_parts.append(served)
            served.turn()
        retraining = retraining_of(configuration, driver, store, opened.clock, notes)
        exports = Exports(store, folder / EXPORTS, write_trace)
        daemon = Daemon(
            driver,
            opened.clock,
            heart,
            store,
            journal,
            word,
            turn,
            lambda: groups.beside(policies.take_up()),
            notes,
            retraining,
            {"guests": beside.guests, "applications": beside.outside}
            | ({"cores": lending} if lending else {})
            | ({"staged pages": shadowing} if shadowing else {})
            | ({"the API": served} if served else {}),
            {"exports": exports} | ({"vectors": beside.vectors} if beside.vectors is not None else {}),
        )
        answering = Answering(
            driver,
            journal,
            opened.clock,
            turn,
            configuration.connect,
            socket.gethostname(),
            store,
            guests=beside.guests,
            outside=beside.outside,
            lending=lending,
            groups=groups,
            shadowing=shadowing,
            tiering=tiering,
            policies=policies,
            exports=exports,
            copying=lambda: copied(journal.copy_to, folder),
        )
        answers = serving(folder, traced_answers(answering), BESIDE)
        with telemetry("daemon"), Signals().listening() as signals, answers:
            code = daemon.run(signals, cycles)
        crashes.end()
        return code


def driver_settings(configuration: Configuration, step_seconds: int) -> DriverSettings:
    """Settings of the loop from those of an operator."""
    from forestall.bootstrap.models import models_of_host
    from forestall.demand.arbiter import ArbiterSettings
    from forestall.demand.driver_settings import DriverSettings, Pool
    from forestall.demand.health import HealthSettings
    from forestall.demand.holding import HoldingSettings
    from forestall.demand.settings import DemandSettings
    from forestall.demand.warming import WarmingSettings
    from forestall.learning.boosted import BoostedSettings
    from forestall.learning.recurrent.forecaster import RecurrentSettings

    safety, host = configuration.safety, configuration.host
    return DriverSettings(
        demand=DemandSettings(
            step_seconds,
            budgets=(configuration.violation_budget,),
            cold_seconds=configuration.cold_seconds,
            holding=HoldingSettings(changes_per_vm_hour=configuration.max_changes_per_vm_hour or None),
            boosted=BoostedSettings(max_rows=BOOSTED_ROWS),
            recurrent=RecurrentSettings(models_of_host(configuration.state_folder)),
        ),
        health=HealthSettings(
            stale_seconds=safety.stale_seconds or 3.0 * step_seconds,
            clock_jump_seconds=safety.clock_jump_seconds,
            actuator_errors=safety.actuator_errors,
            forecast_failures=safety.forecast_failures,
            crashes=safety.crashes,
            recover_seconds=safety.recover_seconds,
        ),
        mode=configuration.mode,
        resources=configuration.resources,
        # A lease must outlive a cycle and a late one.
        lease_seconds=max(safety.lease_seconds, 2.5 * step_seconds),
        arbiter=ArbiterSettings(
            canary_share=configuration.canary_share,
            chosen=configuration.vms,
            floor_share=safety.floor_share,
            floor_cores=safety.floor_cores,
            floor_bytes=safety.floor_bytes,
        ),
        pools={
            Resource.CPU: Pool(host.reserved_cores, host.cpu_allocation_ratio),
            Resource.MEMORY: Pool(host.reserved_bytes, host.memory_allocation_ratio),
        },
        warming=WarmingSettings(most_seconds=min(30.0 * configuration.time_lapse.pace, safety.lease_seconds / 2)),
    )


@contextmanager
def closing_all() -> Iterator[list[Any]]:
    """List of parts that are closed when the block is left, the last one first."""
    parts: list[Any] = []
    try:
        yield parts
    finally:
        for part in reversed(parts):
            try:
                part.close()
            except ForestallError as error:
                tell(str(error))
