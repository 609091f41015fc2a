"""A process that serves strangers: it sees files of the host, changes those of one folder, and may do nothing else.

Its user stays who it is, so that it can speak to the daemon; but of a superuser nothing is left than to own files that
it can only read: no capability, and none to be had again, and of the devices only those that mean nothing. What listens
under ``/run`` (libvirt, D-Bus) is hidden, for whoever reaches such a socket as root is believed. It can still send
signals to processes of its user.

Sources: capabilities(7), mount_setattr(2), mount_namespaces(7), prctl(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_NEW_MOUNTS, _NEW_IPC = 0x00020000, 0x08000000
_PRIVATE, _RECURSIVE, _BIND = 1 << 18, 1 << 14, 1 << 12
_NO_SUID, _NO_DEVICES, _NO_PROGRAMS = 1 << 1, 1 << 2, 1 << 3
_MOUNT_SETATTR, _HERE, _ALL_BELOW = 442, -100, 0x8000
_READ_ONLY, _NO_SET_USER, _NO_DEVICE = 1, 2, 4
_DROP_FROM_BOUNDING, _NO_NEW_PRIVILEGES = 24, 38
_CAPABILITIES_VERSION = 0x20080522
HIDDEN = Path("/run")
NAMES = Path("/etc/resolv.conf")
"""Which servers of names there are; often a link into what is hidden."""
HARMLESS = (Path("/dev/null"), Path("/dev/urandom"))
"""Devices that are left: what programs cannot do without."""
SHARED, SHARED_BYTES = Path("/dev/shm"), 64 << 20
"""Where processes that it starts wait for each other (sem_open(3)): one of its own, that is nobody else's memory."""


def see_and_change_only(folder: Path, seen: Path) -> str:
    """Confine this process, for good; what could not be done, and why, or nothing.

    Without privileges there is nothing to give up, and it only cannot have any. In a container that may not mount, only
    its capabilities go.

    Parameters
    ----------
    folder
        What it may change.
    seen
        The folder around that, which it sees wherever it is.

    Raises
    ------
    OSError
        It has other threads, which would keep what this one gives up; or it could give up nothing.
    """
    if len(os.listdir("/proc/self/task")) > 1:
        raise OSError(errno.EBUSY, "cannot be confined: it has other threads")
    left = ""
    if os.geteuid() == 0:
        try:
            _see_only(folder, seen)
        except OSError as error:
            left = f"it sees and owns the files of its user: {error.strerror}"
        _give_up_capabilities()
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    return left


def _see_only(folder: Path, seen: Path) -> None:
    """Mounts of its own: all read-only but the folder and what processes share, two devices, and ``/run`` hidden."""
    _call("unshare", _NEW_MOUNTS | _NEW_IPC)
    _mount("none", Path("/"), None, _RECURSIVE | _PRIVATE)
    names = Path(os.path.realpath(NAMES))
    kept = {place: os.open(place, os.O_PATH) for place in (seen, names) if place.exists()}
    _mount("tmpfs", HIDDEN, "tmpfs", _NO_SUID | _NO_DEVICES | _NO_PROGRAMS)
    for place, descriptor in kept.items():  # where they are in what is hidden now
        if place == seen:
            place.mkdir(parents=True, exist_ok=True)
        elif not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        _mount(f"/proc/self/fd/{descriptor}", place, None, _BIND)
        os.close(descriptor)
    _mount(str(folder), folder, None, _BIND)
    for device in HARMLESS:
        _mount(str(device), device, None, _BIND)
    _set_attributes(Path("/"), _ALL_BELOW, make=_READ_ONLY | _NO_SET_USER | _NO_DEVICE, unmake=0)
    _set_attributes(folder, 0, make=0, unmake=_READ_ONLY)
    for device in HARMLESS:
        _set_attributes(device, 0, make=0, unmake=_NO_DEVICE)
    if SHARED.is_dir():
        _mount("tmpfs", SHARED, "tmpfs", _NO_SUID | _NO_DEVICES | _NO_PROGRAMS, f"size={SHARED_BYTES}")
    os.chdir("/")


def _give_up_capabilities() -> None:
    for capability in range(64):
        try:
            _call("prctl", _DROP_FROM_BOUNDING, capability, 0, 0, 0)
        except OSError:
            break  # the kernel knows no more of them; or it may not, and without new privileges they count for nothing
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    _call("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str | None = None) -> None:
    words = [None if word is None else word.encode() for word in (kind, options)]
    _call("mount", source.encode(), os.fsencode(target), words[0], ctypes.c_ulong(flags), words[1])


def _set_attributes(target: Path, flags: int, *, make: int, unmake: int) -> None:
    attributes = (ctypes.c_uint64 * 4)(make, unmake, 0, 0)
    _call(
        "syscall",
        ctypes.c_long(_MOUNT_SETATTR),
        ctypes.c_int(_HERE),
        os.fsencode(target),
        ctypes.c_uint(flags),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )


def _call(name: str, *arguments: object) -> None:
    """A call of the system by its name; its failure is an error."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
