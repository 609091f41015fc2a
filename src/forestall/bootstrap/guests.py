"""Puts together what speaks to the agents in VMs for commands without a daemon."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from forestall.adapters.clock.system import SystemClock
from forestall.bootstrap.live import libvirt_host
from forestall.bootstrap.telling import tell
from forestall.model.errors import GuestError
from forestall.ports.guest_channel import GuestWindow
from forestall.service.configuration import Configuration

LOOK_SECONDS = 0.5


def add_guest_port(configuration: Configuration, vm_id: str) -> bool:
    """Give a running VM a port for the agent; False if it has one."""
    with closing(libvirt_host(configuration, SystemClock())) as host:
        return host.add_guest_port(vm_id)


def record_guests(configuration: Configuration, path: Path, seconds: float) -> tuple[int, int]:
    """Write what the agents of all VMs say for so long; how many windows, of how many VMs.

    Raises
    ------
    GuestError
        No VM has a port for the agent, or none of them speaks.
    """
    from forestall.adapters.guest_channel.channels import GuestChannels
    from forestall.replay.guest_trace import write_guest_trace

    windows: list[GuestWindow] = []
    with closing(libvirt_host(configuration, SystemClock())) as host:
        host.observe()
        addresses = host.guest_addresses()
    if not addresses:
        raise GuestError("no VM has a port for the agent: forestall guest attach VM")
    with closing(GuestChannels()) as channels:
        channels.follow(addresses)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_SECONDS))
            windows += [window for window in channels.windows() if not window.long]
        silent = [vm_id for vm_id, state in channels.states().items() if not state.speaking]
    if silent:
        tell(f"no agent speaks in {', '.join(silent)}")
    if not windows:
        raise GuestError("no agent speaks: is forestall-guest running in the VMs, and no daemon here?")
    write_guest_trace(windows, path)
    return len(windows), len({window.vm_id for window in windows})
