"""Puts the live burst loop together: its process, and who starts it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.files.liveness import locked
from forestall.adapters.files.originals import FileOriginals
from forestall.bootstrap.telling import tell
from forestall.model.errors import FolderInUse, HypervisorError, StoreError, in_one_line

if TYPE_CHECKING:
    from forestall.bootstrap.live import Opened
    from forestall.demand.driver import Driver
    from forestall.service.configuration import Configuration
    from forestall.service.lending import CoreLending

CORE_ORIGINALS = "core-originals"


def core_originals(state_folder: Path, note: Callable[[str], None] = tell) -> FileOriginals:
    """How borrowers of cores were set before they were limited."""
    return FileOriginals(state_folder / CORE_ORIGINALS, note)


def run_burst_loop(configuration: Configuration, cores: float | None = None) -> int:
    """Run the burst loop alone: rosters on standard input, what is so on standard output, until the input ends.

    What an earlier run has left is put back first.

    Raises
    ------
    StoreError
        Another one runs on the same state folder.
    """
    from forestall.adapters.linux.core_guard import CoreGuard
    from forestall.adapters.linux.core_host import LinuxCoreHost
    from forestall.adapters.linux.own_process import OwnCpus, go_first
    from forestall.bootstrap.burst import shipped_model
    from forestall.burst.driver import BurstDriver
    from forestall.burst.lending import LendingSettings
    from forestall.burst.settings import BurstSettings
    from forestall.service.burst import BurstService
    from forestall.service.stopping import Signals

    burst, clock = configuration.burst, SystemClock()
    go_first()
    with (
        locked(configuration.state_folder / CORE_ORIGINALS),
        # What the loop itself takes, it takes from borrowers, not from the service that a lender runs.
        closing(LinuxCoreHost(clock.monotonic, whole_cores=burst.whole_cores, stand_by=OwnCpus().prefer)) as host,
    ):
        originals = core_originals(configuration.state_folder)
        for vm_id, reason in _put_back_kept(originals).items():
            tell(f"{vm_id} is not as it was before it borrowed: {reason}")
        settings = BurstSettings(
            cores=cores or max(host.total_cores() - configuration.host.reserved_cores, 0.1),
            beat_us=burst.beat_ms * 1000,
            window_beats=burst.window_ms // burst.beat_ms,
            budgets=(burst.violation_budget,),
        )
        # What the budget promises, and as much again for what comes by chance.
        lending = LendingSettings(allowed_share=2.0 * burst.violation_budget, whole_cores=burst.whole_cores)
        guard = CoreGuard()
        driver = BurstDriver(host, guard, originals, clock, settings, lending, shipped_model(tell))
        service = BurstService(
            driver, clock, sys.stdin.fileno(), sys.stdout.fileno(), time.process_time, time.sleep, tell
        )
        try:
            with Signals().listening() as signals:
                return service.run(lambda: signals.stopping)
        finally:
            guard.end()


def put_cores_back(state_folder: Path) -> dict[str, str]:
    """Put every borrower back that a burst loop has left limited; those that could not be, and why.

    While one runs nothing is done: it and its guard see to that.
    """
    folder = state_folder / CORE_ORIGINALS
    if not folder.exists():
        return {}
    originals = core_originals(state_folder)
    try:
        if not originals.kept():
            return {}
        with locked(folder, looks=1):
            return _put_back_kept(originals)
    except FolderInUse:
        return {}
    except StoreError as error:
        return {"": str(error)}


def _put_back_kept(originals: FileOriginals) -> dict[str, str]:
    """Put all back that have an entry, each by itself."""
    if not (kept_ones := originals.kept()):
        return {}
    from forestall.adapters.linux.core_host import LinuxCoreHost

    left = {}
    with closing(LinuxCoreHost(SystemClock().monotonic)) as host:
        for kept in kept_ones:
            try:
                reason = host.put_back(kept)
                if not reason:
                    originals.forget(kept.vm_id)
            except (StoreError, HypervisorError) as error:
                reason = str(error)
            except (KeyError, TypeError, ValueError) as error:
                reason = f"its entry is not understood, of another version? ({in_one_line(error)})"
            if reason:
                left[kept.vm_id] = reason
    return left


def lending_of(
    configuration: Configuration, opened: Opened, driver: Driver, note: Callable[[str], None]
) -> CoreLending | None:
    """Who keeps the process of the burst loop; None where it is not wanted or cannot be."""
    from forestall.adapters.linux.loop_process import LoopProcess
    from forestall.service.lending import CoreLending

    if configuration.burst.loop == "off":
        return None
    if os.geteuid() != 0:
        if driver.policies and driver.policies.borrowers:
            note("no cores are lent: limiting borrowers needs root")
        return None
    burst, host = configuration.burst, configuration.host
    command = [sys.executable, "-m", "forestall", "burst", "--state-folder", str(configuration.state_folder)]
    command += ["--window-ms", str(burst.window_ms), "--beat-ms", str(burst.beat_ms)]
    command += ["--violation-budget", str(burst.violation_budget), "--reserved-cores", str(host.reserved_cores)]
    command += ["--whole-cores" if burst.whole_cores else "--quota"]
    folder = configuration.state_folder
    lease_seconds = driver.settings.lease_seconds / opened.clock.pace
    sweep = partial(put_cores_back, folder)
    return CoreLending(driver, opened.host.processes, LoopProcess(command), sweep, lease_seconds, note)
