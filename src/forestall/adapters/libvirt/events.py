"""What libvirt says happens to VMs, kept until it is asked for."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import libvirt

from forestall.adapters.libvirt.connection import Handle
from forestall.ports.hypervisor import EventKind, VmEvent

_log = logging.getLogger(__name__)
_KINDS = {
    libvirt.VIR_DOMAIN_EVENT_STARTED: EventKind.STARTED,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: EventKind.PAUSED,
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: EventKind.PAUSED,
    libvirt.VIR_DOMAIN_EVENT_RESUMED: EventKind.RESUMED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED: EventKind.STOPPED,
    libvirt.VIR_DOMAIN_EVENT_CRASHED: EventKind.STOPPED,
}
_STOPPED = ("shut down", "destroyed", "crashed", "migrated away", "saved", "failed", "snapshot restored")
_STARTED = ("booted", "migrated here", "restored", "snapshot restored", "woken up")


class EventQueue:
    """Events of a connection, oldest first; the oldest are dropped when nobody asks for them.

    Callbacks come in the thread of libvirt's event loop; a deque's ends are safe to use from there.

    Parameters
    ----------
    now
        The clock.
    heard
        Called with each event as it comes, in the thread of the event loop.
    capacity
        How many are kept.
    """

    def __init__(
        self, now: Callable[[], float], heard: Callable[[VmEvent], None] = lambda _: None, capacity: int = 10_000
    ) -> None:
        self._now, self._heard = now, heard
        self._events: deque[VmEvent] = deque(maxlen=capacity)
        self._dropped = 0

    def register(self, handle: Handle) -> None:
        """Listen to a new connection; a kind of event that its driver does not have is left out."""
        for kind, callback in (
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle),
            (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._reboot),
            (libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, self._balloon),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, self._added),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._removed),
            (libvirt.VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE, self._resized),
        ):
            try:
                handle.domainEventRegisterAny(None, kind, callback, None)
            except libvirt.libvirtError as error:
                _log.debug("events of kind %s: %s", kind, error)

    def take(self) -> list[VmEvent]:
        """What came since the last call."""
        if self._dropped:
            _log.warning("%d events were dropped: nobody asked for them", self._dropped)
            self._dropped = 0
        return [self._events.popleft() for _ in range(len(self._events))]

    def _put(self, domain: Handle, kind: EventKind, detail: str) -> None:
        event = VmEvent(domain.name(), kind, self._now(), detail)
        self._dropped += len(self._events) == self._events.maxlen
        self._events.append(event)
        self._heard(event)

    def _lifecycle(self, _handle: Handle, domain: Handle, event: int, detail: int, _context: Any) -> None:
        kind, words = _KINDS.get(event), ""
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            words = _STOPPED[detail] if detail < len(_STOPPED) else ""
            kind = EventKind.MIGRATED if detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED else kind
        elif event == libvirt.VIR_DOMAIN_EVENT_STARTED:
            words = _STARTED[detail] if detail < len(_STARTED) else ""
        elif event == libvirt.VIR_DOMAIN_EVENT_CRASHED:
            words = "crashed"
        if kind is not None:
            self._put(domain, kind, words)

    def _reboot(self, _handle: Handle, domain: Handle, _context: Any) -> None:
        self._put(domain, EventKind.REBOOTED, "")

    def _balloon(self, _handle: Handle, domain: Handle, actual_kib: int, _context: Any) -> None:
        self._put(domain, EventKind.BALLOON, f"the guest has {actual_kib * 1024} bytes")

    def _added(self, _handle: Handle, domain: Handle, alias: str, _context: Any) -> None:
        self._put(domain, EventKind.DEVICE, f"{alias} added")

    def _removed(self, _handle: Handle, domain: Handle, alias: str, _context: Any) -> None:
        self._put(domain, EventKind.DEVICE, f"{alias} removed")

    def _resized(self, _handle: Handle, domain: Handle, alias: str, size: int, _context: Any) -> None:
        self._put(domain, EventKind.DEVICE, f"{alias} resized to {size} bytes")
