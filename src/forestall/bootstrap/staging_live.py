"""Puts the live staging of memory together: its process, and who starts it; and trust groups."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.files.liveness import locked
from forestall.adapters.files.trust_book import FileTrustBook
from forestall.bootstrap.live import tell
from forestall.service.trust_groups import TrustGroups

if TYPE_CHECKING:
    from forestall.bootstrap.live import Opened
    from forestall.demand.driver import Driver
    from forestall.service.configuration import Configuration
    from forestall.service.shadowing import Shadowing


def run_staging_loop(configuration: Configuration) -> int:
    """Stage memory alone: rosters on standard input, what is so on standard output, until the input ends."""
    from forestall.adapters.linux.guest_pages import MemfdPages
    from forestall.adapters.linux.own_process import go_ahead
    from forestall.adapters.linux.proc import free_bytes
    from forestall.service.shadow import ShadowService
    from forestall.service.stopping import Signals
    from forestall.staging.area import ShadowSettings
    from forestall.staging.driver import ShadowDriver

    staging, clock = configuration.staging, SystemClock()
    settings = ShadowSettings(
        staged_bytes=staging.staged_bytes,
        block_bytes=staging.block_bytes,
        keep_free_bytes=staging.keep_free_bytes,
        least_precision=staging.least_precision,
        core_ratio_per_ten_vms=staging.core_ratio_per_ten_vms,
    )
    go_ahead()
    driver = ShadowDriver(MemfdPages, free_bytes, clock.monotonic, time.process_time, settings, tell)
    service = ShadowService(driver, clock, sys.stdin.fileno(), sys.stdout.fileno(), tell)
    with Signals().listening() as signals:
        return service.run(lambda: signals.stopping)


def shadowing_of(
    configuration: Configuration,
    opened: Opened,
    driver: Driver,
    groups: TrustGroups,
    turn: threading.RLock,
    note: Callable[[str], None],
    parts: list[Any],
) -> Shadowing | None:
    """Who keeps the process that stages memory; None where it is not wanted or cannot be. ``parts`` closes it."""
    from forestall.adapters.files.preallocations import FilePreallocations
    from forestall.adapters.linux.loop_process import LoopProcess
    from forestall.adapters.notices.sender import NoticeThread
    from forestall.service.preallocation import Preallocations, Watcher
    from forestall.service.shadowing import Shadowing

    staging = configuration.staging
    if staging.memory == "off" or os.geteuid() != 0:
        return None
    command = [sys.executable, "-m", "forestall", "staging"]
    for name in ("staged_bytes", "block_bytes", "keep_free_bytes", "least_precision", "core_ratio_per_ten_vms"):
        command += [f"--{name.replace('_', '-')}", str(getattr(staging, name))]
    lease_seconds = driver.settings.lease_seconds / opened.clock.pace
    notices = NoticeThread(notice_key(configuration), note)
    kept, now = FilePreallocations(configuration.state_folder), SystemClock().now
    preallocations = Preallocations(kept, notices, staging.staged_bytes, now, note)
    shadowing = Shadowing(
        driver,
        groups,
        opened.host.processes,
        LoopProcess(command),
        staging.horizon_seconds,
        lease_seconds,
        note,
        preallocations,
    )

    def look() -> None:
        with turn:
            shadowing.look()

    watcher = Watcher(look, lambda: preallocations.is_open, note)
    parts += [notices, shadowing, watcher]
    notices.start()
    watcher.start()
    return shadowing


def notice_key(configuration: Configuration) -> bytes:
    """What webhooks are signed with: made from this host's secret, by a name that no trust group can have."""
    from forestall.adapters.files.group_keys import FileGroupKeys

    return FileGroupKeys(configuration.state_folder)("\n notices")


def trust_groups_of(configuration: Configuration) -> TrustGroups:
    """Trust groups as the operator has changed them.

    Raises
    ------
    StoreError
        What is kept of them is damaged: who trusts whom is not guessed.
    """
    return TrustGroups(FileTrustBook(configuration.state_folder))


def change_directly(configuration: Configuration, request: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Change trust groups without a daemon, or only look (None); every group then.

    Raises
    ------
    StoreError
        A daemon runs on this state folder, or it could not be kept.
    """
    from forestall.settings import load_policy

    with locked(configuration.state_folder):
        groups = trust_groups_of(configuration)
        groups.beside(load_policy(configuration.policies) if configuration.policies else None)
        if request is not None:
            groups.obey(request)
        return groups.views({})
