"""A connection to libvirt that is opened when it is needed, and again after it was lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import libvirt

from forestall.adapters.libvirt.errors import is_missing, translated
from forestall.adapters.libvirt.event_loop import start_event_loop
from forestall.model.errors import HypervisorError

_log = logging.getLogger(__name__)
Handle = Any
"""A ``virConnect`` or ``virDomain``: libvirt-python has no types."""


class NotRunning(HypervisorError):
    """There is no such VM, or it does not run."""


class Connection:
    """A libvirt URI and, while it lasts, the connection to it.

    Parameters
    ----------
    uri
        As libvirt takes it: ``qemu:///system``.
    opened
        Called with each new connection: registers events, for example.
    opener
        What opens a URI.
    """

    def __init__(
        self,
        uri: str,
        *,
        opened: Callable[[Handle], None] = lambda _: None,
        opener: Callable[[str], Handle] = libvirt.open,
    ) -> None:
        self.uri = uri
        self._opened, self._opener = opened, opener
        self._handle: Handle | None = None
        self._driver = ""
        self._closed = False

    @property
    def is_local(self) -> bool:
        """Whether the VMs run on this machine, so that their processes and taps can be looked at."""
        return not urlsplit(self.uri).hostname

    def handle(self) -> Handle:
        """The live connection, opened anew where it was lost.

        Raises
        ------
        HypervisorError
            Nobody answers, or the connection was closed by us.
        """
        if self._closed:
            raise HypervisorError(f"the connection to {self.uri} was closed")
        if self._handle is not None and self._is_alive(self._handle):
            return self._handle
        if self._handle is not None:
            _log.warning("contact with %s was lost; connecting again", self.uri)
        self._drop()
        start_event_loop()
        with translated(f"cannot reach {self.uri}"):
            handle = self._opener(self.uri)
            self._driver = str(handle.getType())
            self._opened(handle)
        self._handle = handle
        return handle

    @property
    def driver(self) -> str:
        """libvirt's name of the hypervisor: ``QEMU`` (KVM or not), ``TEST``, ``Xen``, ``LXC``, ``ESX``, ..."""
        self.handle()
        return self._driver

    def domain(self, vm_id: str) -> Handle:
        """The running domain of that name; :class:`NotRunning` if there is none."""
        handle = self.handle()
        try:
            with translated(f"cannot look up {vm_id!r}"):
                domain = handle.lookupByName(vm_id)
                if domain.isActive():
                    return domain
        except HypervisorError as error:
            if not is_missing(error.__cause__):
                raise
        raise NotRunning(f"no VM named {vm_id!r} runs here")

    def close(self) -> None:
        """Let go; harmless to repeat."""
        self._closed = True
        self._drop()

    @staticmethod
    def _is_alive(handle: Handle) -> bool:
        try:
            return bool(handle.isAlive())
        except libvirt.libvirtError:
            return False

    def _drop(self) -> None:
        handle, self._handle = self._handle, None
        if handle is None:
            return
        try:
            handle.close()
        except libvirt.libvirtError as error:
            _log.debug("closing %s: %s", self.uri, error)
