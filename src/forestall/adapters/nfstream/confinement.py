"""A process that gives up what it does not need before it looks at what strangers have sent.

Sources: unshare(2), pid_namespaces(7), mount_namespaces(7), prctl(2), setrlimit(2).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

_DIE_WITH_PARENT, _DUMPABLE, _NO_NEW_PRIVILEGES = 1, 4, 38
_NEW_MOUNTS, _NEW_IPC, _NEW_PROCESSES, _NEW_NETWORK = 0x00020000, 0x08000000, 0x20000000, 0x40000000
_PRIVATE, _RECURSIVE, _NO_SUID, _NO_DEVICES, _NO_PROGRAMS = 1 << 18, 1 << 14, 1 << 1, 1 << 2, 1 << 3
ROOT = Path("/tmp")
"""What the process sees of the host's files is laid over this folder, for itself alone: nothing."""
USER = 0xF0CA
"""Number of a user that nobody is."""
MOST_PROCESSES, MOST_FILES = 16, 64
LOOK_SECONDS = 0.02


def alone(
    work: Callable[[], None], *, memory_bytes: int, cpu_seconds: int, file_bytes: int, wall_seconds: float
) -> int:
    """Do some work in a process that sees no other, no network and no file but what it has open; its exit code.

    Without privileges there is nothing to give up, and only the limits hold. The process, and all that it has started,
    is gone on return.

    Raises
    ------
    OSError
        A superuser's process could not be confined: the work was not done.
    """
    privileged = os.geteuid() == 0
    if privileged:
        _call("unshare", _NEW_MOUNTS | _NEW_IPC | _NEW_PROCESSES | _NEW_NETWORK)
    process = os.fork()
    if process == 0:
        code = 1
        try:
            _call("prctl", _DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
            if privileged:
                _see_nothing()
            _limit(memory_bytes, cpu_seconds, file_bytes)
            if privileged:
                _be_nobody()
            _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
            work()
            code = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode()[:500])
        finally:
            os._exit(code)
    return _waited_for(process, wall_seconds)


def _waited_for(process: int, seconds: float) -> int:
    """Exit code of the first process of its own, and with its end all others of them end (pid_namespaces(7))."""
    deadline = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(LOOK_SECONDS)


def _see_nothing() -> None:
    """An empty root, with its own processes in /proc, and a place for semaphores."""
    _mount(b"none", b"/", None, _RECURSIVE | _PRIVATE)
    safe = _NO_SUID | _NO_DEVICES | _NO_PROGRAMS
    _mount(b"tmpfs", os.fsencode(ROOT), b"tmpfs", safe, b"size=8m,mode=0755")
    for folder in ("proc", "dev/shm"):
        (ROOT / folder).mkdir(parents=True)
    (ROOT / "dev/shm").chmod(0o1777)
    _mount(b"proc", os.fsencode(ROOT / "proc"), b"proc", safe)
    os.chroot(ROOT)
    os.chdir("/")


def _limit(memory_bytes: int, cpu_seconds: int, file_bytes: int) -> None:
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_NOFILE: MOST_FILES,
        resource.RLIMIT_CORE: 0,
    }
    if os.geteuid() == 0:
        limits[resource.RLIMIT_NPROC] = MOST_PROCESSES
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))


def _be_nobody() -> None:
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    _call("prctl", _DUMPABLE, 1, 0, 0, 0)  # or what is ours under /proc/self is root's
    _call("prctl", _DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)  # forgotten with the user


def _call(name: str, *arguments: int) -> None:
    """A call of the system by its name; its failure is an error."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int, options: bytes | None = None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source, target, kind, ctypes.c_ulong(flags), options):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {target.decode()}: {os.strerror(number)}")
