"""A process that does nothing for a moment: every thread of it stopped by ptrace(2), and seen to be.

The kernel lets all threads go on when whoever traces them ends, however it ends: a VM cannot be left standing by a
Forestall that is killed. A thread traces on our behalf and ends when the moment is over. Sources: ptrace(2)
(PTRACE_SEIZE, PTRACE_INTERRUPT, "If the tracer dies, all tracees are automatically detached and restarted"), wait(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forestall.model.errors import HypervisorError

WITHIN_SECONDS, LOOK_SECONDS = 0.05, 0.0002
_SEIZE, _INTERRUPT = 0x4206, 0x4207
_LOOK = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT | 0x40000000  # __WALL: threads, too
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


@contextmanager
def still(pid: int, root: Path = Path("/proc")) -> Iterator[bool]:
    """Stop a process, and let it go on afterwards, whatever happens; whether every thread of it came to rest.

    A thread that is in the middle of a call that cannot be interrupted, such as reading from a disk into the memory
    of a guest, is not at rest, and one that a debugger or the kernel keeps to itself cannot be stopped: then the
    answer is False, and nothing may be taken for settled. A process that somebody else had stopped stays so.

    Raises
    ------
    HypervisorError
        The process is gone.
    """
    if not (root / f"{pid}/task").exists():
        raise HypervisorError(f"process {pid} of the VM is gone")
    moment = _Moment(pid, root)
    tracer = threading.Thread(target=moment.pass_by, name="stillness", daemon=True)
    tracer.start()
    moment.settled.wait()
    try:
        yield moment.resting
    finally:
        moment.over.set()
        tracer.join()


class _Moment:
    """What the tracing thread does: when it ends, the kernel lets everybody go on."""

    def __init__(self, pid: int, root: Path) -> None:
        self._pid, self._root = pid, root
        self.settled, self.over = threading.Event(), threading.Event()
        self.resting = False

    def pass_by(self) -> None:
        try:
            self.resting = self._come_to_rest()
        finally:
            self.settled.set()
        self.over.wait()

    def _come_to_rest(self) -> bool:
        """Stop all threads, those too that others start meanwhile."""
        until = time.monotonic() + WITHIN_SECONDS
        stopped: set[int] = set()
        while fresh := self._threads() - stopped:
            asked = [_stop(thread, until) for thread in fresh]  # all of them, before any is waited for
            if not all(asked) or not all(_is_stopped(thread, until) for thread in fresh):
                return False
            stopped |= fresh
        return bool(stopped)

    def _threads(self) -> set[int]:
        try:
            return {int(name) for name in os.listdir(self._root / f"{self._pid}/task")}
        except OSError:
            return set()


def _stop(thread: int, until: float) -> bool:
    """Ask a thread to stop; False: somebody else has it. One that has ended is none.

    Whoever had it a moment ago may be on the way out still.
    """
    while _LIBC.ptrace(_SEIZE, thread, None, None):
        if ctypes.get_errno() == errno.ESRCH:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_SECONDS)
    return not _LIBC.ptrace(_INTERRUPT, thread, None, None) or ctypes.get_errno() == errno.ESRCH


def _is_stopped(thread: int, until: float) -> bool:
    """Wait for a thread to stop, or to end.

    What the kernel has to say of it is left with the kernel: if it stopped on its way to a signal, who takes the word
    must deliver the signal, too, and it would be lost if we ended in between.
    """
    while True:
        try:
            if os.waitid(os.P_PID, thread, _LOOK):
                return True
        except ChildProcessError:
            return True  # it has ended
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_SECONDS)
