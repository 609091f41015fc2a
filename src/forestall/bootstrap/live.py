"""Puts a live system together: which hypervisor, which files, which loop. What is heavy is imported when needed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.clock.time_lapse import Dated, TimeLapse
from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.files.liveness import FilePulse, locked
from forestall.adapters.files.originals import FileOriginals
from forestall.adapters.files.restorations import FileRestorations
from forestall.adapters.simulated.shared_settings import SharedSettings
from forestall.bootstrap.telling import tell
from forestall.demand.safekeeping import PutBack, Restorer, put_back_each
from forestall.model.decision import Restoration
from forestall.model.errors import StoreError, WrongUse
from forestall.model.resources import Resource
from forestall.ports.clock import Clock
from forestall.ports.hypervisor import Hypervisor
from forestall.service.configuration import Configuration

if TYPE_CHECKING:
    from forestall.adapters.libvirt.host import LibvirtHost
    from forestall.adapters.libvirt.lead_times import LeadTimes
    from forestall.model.samples import Trace

SIMULATED = "simulated:"
ORIGINALS, STORE, SIMULATED_STATE = "originals", "forestall.duckdb", "simulated-host.json"
LEAD_TIMES = "lead-times.json"


@dataclass(frozen=True)
class Opened:
    """A hypervisor, the clock it lives by, and the sampling step that it dictates (0: none)."""

    host: Hypervisor
    clock: Clock
    step_seconds: int = 0


def libvirt_host(configuration: Configuration, clock: Clock, lead_times: LeadTimes | None = None) -> LibvirtHost:
    """The host at the URI ``connect``, which is reached when it is first needed; ``lead_times`` as they were known.

    Raises
    ------
    WrongUse
        The Python binding of libvirt is not installed.
    """
    try:
        from forestall.adapters.libvirt.host import LibvirtHost
    except ImportError as error:
        raise WrongUse("libvirt-python is missing: install the extra 'live' (pip install 'forestall[live]')") from error
    host, actuators = configuration.host, configuration.actuators
    return LibvirtHost(
        configuration.connect,
        clock=clock,
        resources=configuration.resources,
        cpu=actuators.cpu != "off",
        cpu_shares="shares" in actuators.cpu.split("+"),
        hotplug="hotplug" in actuators.cpu.split("+"),
        memory=actuators.memory,
        disk=actuators.disk != "off",
        network=actuators.network != "off",
        reserved={Resource.CPU: host.reserved_cores, Resource.MEMORY: host.reserved_bytes},
        allocation_ratio={
            Resource.CPU: host.cpu_allocation_ratio,
            Resource.MEMORY: host.memory_allocation_ratio,
        },
        lead_times=lead_times,
    )


def open_host(configuration: Configuration, lead_times: LeadTimes | None = None) -> Opened:
    """Open what ``connect`` names: ``simulated:TRACE.parquet[?clock=virtual]``, or a URI of libvirt.

    On the system's clock one row of the trace is played each ``step_seconds``, from the first start on; in virtual time
    the trace keeps its own step and calendar, and passes at once. With a time lapse the loop lives in the guests' time.
    """
    if configuration.connect.startswith(SIMULATED):
        return _open_simulated(configuration)
    clock = clock_of(configuration)
    return Opened(libvirt_host(configuration, Dated(SystemClock(), clock), lead_times), clock)


def clock_of(configuration: Configuration) -> Clock:
    """The host's clock, or the guests' where they live faster."""
    lapse = configuration.time_lapse
    return SystemClock() if lapse.pace == 1.0 else TimeLapse(SystemClock(), lapse.pace, lapse.midnight_at)


def open_restorer(configuration: Configuration) -> Restorer:
    """Open only what putting back needs."""
    if configuration.connect.startswith(SIMULATED):
        return SharedSettings(configuration.state_folder / SIMULATED_STATE)
    return open_host(configuration).host


def restore_directly(configuration: Configuration, vm_ids: list[str] | None) -> PutBack:
    """Put VMs back without a daemon (None: all that have an entry).

    Raises
    ------
    WrongUse
        A VM has no entry: it was not changed.
    StoreError
        A daemon runs on this state folder.
    """
    from forestall.bootstrap.burst_live import core_originals, put_cores_back
    from forestall.bootstrap.staging_live import give_damon_back, switch_traces_off
    from forestall.bootstrap.tiers import finish_moves, open_moves

    with locked(configuration.state_folder):
        originals = FileOriginals(configuration.state_folder / ORIGINALS, tell)
        kept = {settings.vm_id: settings for settings in originals.kept()}
        borrowed = {settings.vm_id for settings in core_originals(configuration.state_folder).kept()}
        if unknown := sorted(set(vm_ids or ()) - kept.keys() - borrowed - open_moves(configuration)):
            raise WrongUse(f"nothing was changed on a VM named {unknown[0]!r}")
        chosen = [kept[vm_id] for vm_id in sorted(kept if vm_ids is None else kept.keys() & set(vm_ids))]
        result = PutBack()
        if chosen:
            with closing(open_restorer(configuration)) as host:
                result = put_back_each(host, originals, chosen)
        # Last, for what the burst loop has kept is how it was before the burst loop; all of them, for they go together.
        left = put_cores_back(configuration.state_folder)
        done = sorted({*result.done, *(borrowed - left.keys())})
        result = replace(result, done=tuple(done), left=(*result.left, *left.items()))
        _leave_word(configuration, result.done)
        switch_traces_off(configuration)
        give_damon_back(configuration)
        return replace(result, left=(*result.left, *finish_moves(configuration, vm_ids).items()))


def _leave_word(configuration: Configuration, restored: Sequence[str]) -> None:
    """Tell the journal of the next daemon what was put back; one that lives in virtual time would not know when."""
    if not restored or "clock=virtual" in configuration.connect:
        return
    now = int(clock_of(configuration).now())
    try:
        FileRestorations(configuration.state_folder).append(
            [Restoration(vm_id, now, "by hand, while no daemon ran") for vm_id in restored]
        )
    except StoreError as error:
        tell(f"{error}; what was put back stays so")


def watch(configuration: Configuration, *, once: bool) -> int:
    """Run the watchdog; with ``once`` it looks once, and the result is 1 if VMs are not as they were."""
    from forestall.bootstrap.burst_live import put_cores_back
    from forestall.bootstrap.tiers import finish_moves
    from forestall.service.stopping import Signals
    from forestall.service.watchdog import Watchdog

    folder = configuration.state_folder
    watchdog = Watchdog(
        FilePulse(folder),
        FileOriginals(folder / ORIGINALS, tell),
        lambda: open_restorer(configuration),
        FileRestorations(folder),
        clock_of(configuration),
        tell,
        put_back_last=lambda: {**put_cores_back(folder), **finish_moves(configuration)},
    )
    if once:
        return 1 if watchdog.look() else 0
    with Signals().listening() as signals:
        watchdog.run(lambda: signals.stopping)
    return 0


def read_journal(configuration: Configuration, vm_id: str, at: int | None) -> list[dict[str, Any]]:
    """Decisions in force from the journal's file, when no daemon runs."""
    from forestall.adapters.duckdb.journal import DuckdbJournal
    from forestall.service.answering import explained_of

    path = configuration.state_folder / STORE
    if not path.exists():
        raise WrongUse(f"no daemon runs on {configuration.state_folder}, and there is no journal there")
    with closing(DuckdbJournal(path)) as journal:
        try:
            FileRestorations(configuration.state_folder).hand_over(journal)
        except StoreError as error:
            tell(str(error))
        return explained_of(journal, vm_id, at)


def _open_simulated(configuration: Configuration) -> Opened:
    from forestall.adapters.simulated.shared_host import SharedHost
    from forestall.replay.trace_reader import read_trace

    name, _, query = configuration.connect.removeprefix(SIMULATED).partition("?")
    options = parse_qs(query)
    kind = options.pop("clock", ["system"])[0]
    if options or kind not in ("system", "virtual"):
        raise WrongUse(f"--connect {configuration.connect}: only clock=system or clock=virtual may stand behind the ?")
    trace = read_trace(Path(name), None, tell)
    trace = _only(trace, configuration.resources)
    shared = SharedSettings(configuration.state_folder / SIMULATED_STATE)
    if kind == "virtual":
        clock = VirtualClock(float(trace.grid.start))
        return Opened(SharedHost(trace, clock, shared), clock, trace.grid.step_seconds)
    system, step = SystemClock(look_again_seconds=0.2), configuration.step_seconds
    with shared.changing() as content:
        content.start = system.now() // step * step if content.start is None else content.start
        start = int(content.start)
    played = replace(trace, grid=replace(trace.grid, start=start, step_seconds=step))
    return Opened(SharedHost(played, system, shared), system, step)


def _only(trace: Trace, resources: tuple[Resource, ...]) -> Trace:
    """The trace with the resources that are asked for."""
    if missing := [r.value for r in resources if r not in trace.demand]:
        raise WrongUse(f"the trace {trace.name} has no {', '.join(missing)}")
    return replace(
        trace,
        demand={r: trace.demand[r] for r in resources},
        limit={r: trace.limit[r] for r in resources},
        cpu_peak=None,
    )
