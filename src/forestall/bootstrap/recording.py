"""Puts a recording together: which hypervisor, which clock, which folder."""

from __future__ import annotations

import math
import shlex
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.trace_spool.spool import TraceSpool
from forestall.bootstrap.live import SIMULATED, open_host
from forestall.bootstrap.telling import tell
from forestall.model.errors import BadInput, HypervisorError, WrongUse
from forestall.model.resources import Resource
from forestall.ports.clock import Clock
from forestall.ports.hypervisor import Hypervisor
from forestall.replay.trace_columns import STEP_KEY
from forestall.service.configuration import Configuration, TimeLapseConfiguration
from forestall.service.recorder import Recorder


def record_trace(
    configuration: Configuration, trace: Path, step_seconds: int, duration_seconds: float, *, overwrite: bool = False
) -> str:
    """Record every resource of the VMs that run, until the time is up or the process is told to stop.

    Seconds are the host's, whatever time the guests live in.

    Returns
    -------
    str
        What was recorded, for a terminal.
    """
    simulated = configuration.connect.startswith(SIMULATED)
    resources = configuration.resources if simulated else tuple(Resource)
    as_seen = replace(
        configuration, resources=resources, step_seconds=step_seconds, time_lapse=TimeLapseConfiguration()
    )
    opened = open_host(as_seen)
    with closing(opened.host):
        step = opened.step_seconds or step_seconds
        if isinstance(opened.clock, VirtualClock) and math.isinf(duration_seconds):
            raise WrongUse("virtual time passes at once: say with --duration how much of it is recorded")
        return record_from(opened.host, opened.clock, trace, step, duration_seconds, overwrite=overwrite)


def record_from(
    hypervisor: Hypervisor,
    clock: Clock,
    trace: Path,
    step_seconds: int,
    duration_seconds: float,
    *,
    overwrite: bool = False,
) -> str:
    """Record the VMs of a hypervisor; see :func:`record_trace`.

    Raises
    ------
    BadInput
        The trace exists, and is not to be overwritten.
    HypervisorError
        The host cannot be reached, or no VM was seen for a whole interval.
    WrongUse
        The time is shorter than an interval.
    StoreError
        What was seen cannot be kept, or another process records there.
    """
    if trace.exists() and not overwrite:
        raise BadInput("exists already; --force replaces it", path=trace)
    if duration_seconds < step_seconds:
        raise WrongUse(f"{duration_seconds:g} s is less than an interval of {step_seconds} s")
    hypervisor.vm_ids()  # a host that cannot be reached is an error now, and a gap later on
    with closing(TraceSpool(trace, step_seconds)) as spool:
        if held := spool.held_rows():
            tell(f"{trace}: takes up a recording that was cut off; rows so far: {held}")
        recorder = Recorder(hypervisor, clock, spool, step_seconds, lambda line: tell(f"{trace}: {line}"))
        with suppress(KeyboardInterrupt):
            recorder.run(duration_seconds)
        return _published(spool, overwrite)


def finish_recording(trace: Path, *, overwrite: bool = False) -> str:
    """Make a trace of a recording that was cut off."""
    with closing(TraceSpool(trace, None)) as spool:
        return _published(spool, overwrite)


def _published(spool: TraceSpool, overwrite: bool) -> str:
    rows = spool.publish({STEP_KEY: str(spool.step_seconds).encode()}, replace=overwrite)
    if not rows:
        raise HypervisorError(f"{spool.trace}: nothing was recorded: no VM was seen for a whole interval")
    look = f"look at it with: forestall trace check {shlex.quote(str(spool.trace))}"
    return f"{spool.trace}: rows: {rows}, step: {spool.step_seconds} s; {look}"
