"""Puts live staging together: its processes, and who starts them; and trust groups."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.files.liveness import locked
from forestall.adapters.files.trust_book import FileTrustBook
from forestall.bootstrap.live import SIMULATED
from forestall.bootstrap.telling import tell
from forestall.model.errors import HypervisorError, StoreError
from forestall.ports.access_log import BLOCK, PAGE
from forestall.service.shadowing import BLOCKS, MEMORY
from forestall.service.trust_groups import TrustGroups

if TYPE_CHECKING:
    from forestall.adapters.linux.damon import DamonWatch
    from forestall.bootstrap.live import Opened
    from forestall.demand.driver import Driver
    from forestall.service.configuration import Configuration
    from forestall.service.shadow import Driver as ShadowLoop
    from forestall.service.shadowing import Shadowing
    from forestall.staging.written import Written

STAGING_OPTIONS = (
    *("staged_bytes", "block_bytes", "cached_bytes", "log_bytes", "keep_free_bytes"),
    *("least_precision", "core_ratio_per_ten_vms", "memory_use"),
)
"""What the daemon hands down of the table ``[staging]``."""
END_SECONDS = {MEMORY: 15.0, BLOCKS: 20.0}
"""A process is killed that has not let go of its VMs by then; of blocks, each has to be told over its monitor."""
BLOCK_BYTES = 64 << 10
"""Blocks of disks are this large: what QEMU's images are made of, and less than most of what guests read at once."""


def run_memory_loop(configuration: Configuration) -> int:
    """Stage memory alone: rosters on standard input, what is so on standard output, until the input ends."""
    from forestall.adapters.linux.guest_pages import MemfdPages
    from forestall.adapters.linux.own_process import go_ahead
    from forestall.adapters.linux.proc import free_bytes
    from forestall.bootstrap.access_log import first_touches_of
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
    written = _written(configuration, MEMORY)
    past = first_touches_of(configuration)
    with _use_watched(configuration) as watch:
        open_pages = partial(MemfdPages, watch=watch)
        driver = ShadowDriver(open_pages, free_bytes, clock.monotonic, time.process_time, settings, tell, written, past)
        return _run(driver)


@contextmanager
def _use_watched(configuration: Configuration) -> Iterator[Callable[[int, int, int], DamonWatch] | None]:
    """What watches which memory is used, where that is wanted."""
    from forestall.adapters.linux.damon import Damon

    staging = configuration.staging
    if staging.memory_use != "damon":
        yield None
        return
    with closing(Damon(configuration.state_folder, 0.5 * staging.core_ratio_per_ten_vms / 10, tell)) as damon:
        damon.start()
        yield damon.watch


def give_damon_back(configuration: Configuration) -> None:
    """Give the kernel's DAMON back if a process that is gone has left it taken."""
    from forestall.adapters.linux.damon import end_left_over
    from forestall.model.errors import Unsupported

    try:
        end_left_over(configuration.state_folder)
    except Unsupported as error:
        tell(str(error))


def run_block_loop(configuration: Configuration) -> int:
    """Stage blocks of disks alone, as :func:`run_memory_loop` does memory.

    What an earlier run has left switched on in VMs is switched off first.
    """
    from forestall.adapters.files.program_blocks import FilePrograms
    from forestall.adapters.libvirt.block_watch import watches
    from forestall.adapters.libvirt.connection import Connection
    from forestall.adapters.linux.page_cache import PageCache
    from forestall.adapters.linux.proc import free_bytes
    from forestall.bootstrap.access_log import past_of
    from forestall.staging.block_driver import BlockDriver
    from forestall.staging.block_stock import BlockSettings

    staging, clock = configuration.staging, SystemClock()
    settings = BlockSettings(
        staged_bytes=staging.cached_bytes,
        keep_free_bytes=staging.keep_free_bytes,
        least_precision=staging.least_precision,
        core_ratio_per_ten_vms=staging.core_ratio_per_ten_vms,
    )
    connection = Connection(configuration.connect)
    switch_traces_off(configuration)
    try:
        driver = BlockDriver(
            watches(connection),
            PageCache(BLOCK_BYTES),
            _written(configuration, BLOCKS),
            past_of(configuration),
            FilePrograms(configuration.state_folder),
            free_bytes,
            clock.monotonic,
            _cpu_seconds,
            settings,
            tell,
        )
        return _run(driver)
    finally:
        connection.close()


def switch_traces_off(configuration: Configuration) -> None:
    """Switch off the traces that a process that is gone has left on in VMs, and say so."""
    from forestall.adapters.libvirt.block_watch import clear_up
    from forestall.adapters.libvirt.connection import Connection

    if configuration.connect.startswith(SIMULATED) or os.geteuid() != 0:
        return
    try:
        with closing(Connection(configuration.connect)) as connection:
            for vm_id, why in clear_up(connection).items():
                tell(f"{vm_id} is traced on for nothing: {why}" if why else f"{vm_id} is no longer traced for nothing")
    except HypervisorError as error:
        tell(f"VMs are traced on for nothing: {error}")


def _cpu_seconds() -> float:
    """CPU time of this process, and of those that it has run."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _written(configuration: Configuration, name: str) -> Written:
    """Where accesses are written down; that they cannot be keeps nobody from staging."""
    import pyarrow

    from forestall.adapters.access_log.background import BackgroundAccessLog
    from forestall.bootstrap.access_log import open_access_log
    from forestall.staging.written import NOTHING, Written

    pyarrow.array([], pyarrow.string())  # its first array takes half a second, which VMs are not to be left alone for
    log, most_bytes = None, configuration.staging.log_bytes
    if most_bytes:
        try:
            log = BackgroundAccessLog(open_access_log(configuration, name, most_bytes), NOTHING)
        except StoreError as error:
            tell(f"what VMs use is not written down: {error}")
    return Written(log, SystemClock().now, tell)


def _run(driver: ShadowLoop) -> int:
    from forestall.service.shadow import ShadowService
    from forestall.service.stopping import Signals

    service = ShadowService(driver, SystemClock(), sys.stdin.fileno(), sys.stdout.fileno(), tell)
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
    """Who keeps the processes that stage; None where none is wanted or can be. ``parts`` closes it."""
    from forestall.adapters.files.preallocations import FilePreallocations
    from forestall.adapters.linux.loop_process import LoopProcess
    from forestall.adapters.notices.sender import NoticeThread
    from forestall.service.preallocation import Preallocations, Watcher
    from forestall.service.shadowing import Shadowing
    from forestall.staging.block_asked import MOST_BLOCKS

    staging = configuration.staging
    wanted = [name for name, way in ((MEMORY, staging.memory), (BLOCKS, staging.blocks)) if way != "off"]
    if configuration.connect.startswith(SIMULATED):
        wanted = [name for name in wanted if name != BLOCKS]
    give_damon_back(configuration)
    if BLOCKS not in wanted:
        switch_traces_off(configuration)
    if not wanted or os.geteuid() != 0:
        return None
    options = ["--state-folder", str(configuration.state_folder), "--connect", configuration.connect]
    for name in STAGING_OPTIONS:
        options += [f"--{name.replace('_', '-')}", str(getattr(staging, name))]
    command = [sys.executable, "-m", "forestall", "staging"]
    children = {name: LoopProcess([*command, name, *options], END_SECONDS[name]) for name in wanted}
    lease_seconds = driver.settings.lease_seconds / opened.clock.pace
    notices = NoticeThread(notice_key(configuration), note)
    kept, now = FilePreallocations(configuration.state_folder), SystemClock().now
    most_bytes = {PAGE: staging.staged_bytes, BLOCK: min(staging.cached_bytes, MOST_BLOCKS * BLOCK_BYTES)}
    preallocations = Preallocations(kept, notices, most_bytes, now, note)
    shadowing = Shadowing(
        driver,
        groups,
        opened.host.processes,
        children,
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
    from forestall.bootstrap.policies import policies_of

    with locked(configuration.state_folder):
        groups = trust_groups_of(configuration)
        groups.beside(policies_of(configuration).look())
        if request is not None:
            groups.obey(request)
        return groups.views({})
