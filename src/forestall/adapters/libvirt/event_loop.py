"""libvirt's event loop: one thread for the whole process, started with the first connection."""

from __future__ import annotations

import logging
import threading

import libvirt

_log = logging.getLogger(__name__)
_starting = threading.Lock()
_thread: threading.Thread | None = None


def start_event_loop() -> None:
    """Start the thread that carries events and notices lost connections; must precede the first connection.

    Also keeps libvirt from printing errors to standard error: each reaches the caller as an exception.
    """
    global _thread
    with _starting:
        if _thread is not None:
            return
        libvirt.registerErrorHandler(_ignore, None)
        libvirt.virEventRegisterDefaultImpl()
        _thread = threading.Thread(target=_run, name="libvirt-events", daemon=True)
        _thread.start()


def _ignore(_context: object, _error: object) -> None:
    """Printed nowhere; see :func:`start_event_loop`."""


def _run() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            _log.error("the event loop of libvirt stumbled: %s", error)
