"""A file in memory that another process may write into by its descriptor, and that can never grow beyond its bound.

It lies alone in a tmpfs that is mounted nowhere: nothing of it remains when its last descriptor is closed, whoever dies
first, and who writes more than fits is told that the disk is full. Sources: fsopen(2), fsmount(2), tmpfs(5).
"""

from __future__ import annotations

import ctypes
import os

from forestall.model.errors import Unsupported

_LIBC = ctypes.CDLL(None, use_errno=True)
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
"""Numbers of the system calls, the same on every architecture."""
_CLOEXEC = 1
_SET_STRING, _CREATE = 1, 6


def scratch_file(name: str, most_bytes: int) -> int:
    """Descriptor of a new file of that name that anybody who has a descriptor may write, up to so many bytes in all.

    Raises
    ------
    Unsupported
        The kernel has no such mounts (before Linux 5.2), or we may not make one.
    """
    try:
        folder = _unmounted_tmpfs(most_bytes)
        try:
            file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=folder)
        finally:
            os.close(folder)
        os.fchmod(file, 0o666)  # the other process may be another user's; there is no path by which others reach it
    except OSError as error:
        raise Unsupported(f"no file in memory can be made: {error.strerror}") from error
    return file


def _unmounted_tmpfs(most_bytes: int) -> int:
    context = _call(_FSOPEN, b"tmpfs", _CLOEXEC)
    try:
        for key, value in ((b"size", str(most_bytes).encode()), (b"mode", b"0711")):
            _call(_FSCONFIG, context, _SET_STRING, key, value, 0)
        _call(_FSCONFIG, context, _CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)


def _call(number: int, *arguments: object) -> int:
    result = int(_LIBC.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
