"""A libvirtd of the lab's own: its own sockets, state and network, nothing of the system's."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from types import ModuleType
from typing import Any

from forestall.lab.commands import found
from forestall.lab.leftovers import daemon_pids
from forestall.lab.place import LIBVIRT_FOLDERS, Place
from forestall.model.errors import HypervisorError, Unsupported

START_SECONDS = 20.0
DAEMON_CONFIGURATION = """\
unix_sock_dir = "/run/libvirt"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
"""
QEMU_CONFIGURATION = """\
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
stdio_handler = "file"
"""


def libvirt_module() -> ModuleType:
    """The bindings of libvirt; it is an error (Unsupported) where they are not installed."""
    try:
        import libvirt
    except ImportError as error:
        raise Unsupported("the lab needs the bindings of libvirt: pip install 'forestall[live]'") from error
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    return libvirt  # type: ignore[no-any-return]


def connect(place: Place) -> Any:
    """Connect to the lab's libvirtd (a ``libvirt.virConnect``); it is an error while there is none."""
    libvirt = libvirt_module()
    try:
        return libvirt.open(place.uri)
    except libvirt.libvirtError as error:
        raise HypervisorError(f"the lab's libvirtd does not answer: {error}") from error


def start_daemon(place: Place) -> None:
    """Start libvirtd, if it does not run, and wait until it answers."""
    if not daemon_pids(place):
        _configure(place)
        _launch(place)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            connect(place).close()
            return
        except Unsupported:
            raise
        except HypervisorError:
            if time.monotonic() > deadline:
                log = place.folder / "log" / "libvirtd.log"
                raise HypervisorError(f"libvirtd did not start in {START_SECONDS:.0f} s: see {log}") from None
            time.sleep(0.1)


def _configure(place: Place) -> None:
    for name in LIBVIRT_FOLDERS:
        (place.folder / name).mkdir(parents=True, exist_ok=True)
    place.daemon_configuration.write_text(DAEMON_CONFIGURATION)
    (place.folder / "etc" / "qemu.conf").write_text(QEMU_CONFIGURATION)


def _launch(place: Place) -> None:
    """Start it in the lab's network, with the lab's folders in place of the system's (in its own mounts only).

    ``ip netns exec`` would hide the control groups, for it mounts /sys anew; ``nsenter`` does not.
    """
    for seen in LIBVIRT_FOLDERS.values():
        os.makedirs(seen, exist_ok=True)
    mounts = [shlex.join(["mount", "--bind", str(place.folder / name), seen]) for name, seen in LIBVIRT_FOLDERS.items()]
    configuration, pid_file = str(place.daemon_configuration), str(place.folder / "libvirtd.pid")
    daemon = shlex.join(["exec", found("libvirtd") or "libvirtd", "-f", configuration, "-p", pid_file])
    script = " && ".join([*mounts, daemon])
    command = place.inside("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
    with (place.folder / "log" / "libvirtd.out").open("ab") as output:
        subprocess.Popen(
            [found(command[0]) or command[0], *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
        )
