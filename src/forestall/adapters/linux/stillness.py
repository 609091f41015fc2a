"""A process that does nothing for a moment: stopped, and all its threads seen to be (signal(7), proc_pid_stat(5))."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from forestall.model.errors import HypervisorError

WITHIN_SECONDS, LOOK_SECONDS = 0.05, 0.0005
_STOPPED = ("T", "t")


@contextmanager
def still(pid: int, root: Path = Path("/proc")) -> Iterator[bool]:
    """Stop a process, and let it go on afterwards, whatever happens; whether every thread of it came to rest.

    A thread that is in the middle of a call that cannot be interrupted, such as reading from a disk into the memory
    of a guest, is not at rest: then the answer is False, and nothing may be taken for settled. A process that somebody
    else had stopped stays so. Nobody lets it go on if we are killed meanwhile: whoever drives this needs a guard.

    Raises
    ------
    HypervisorError
        The process is gone.
    """
    before = all(state in _STOPPED for state in _states(pid, root))
    try:
        os.kill(pid, signal.SIGSTOP)
    except ProcessLookupError as error:
        raise HypervisorError(f"process {pid} of the VM is gone") from error
    try:
        yield _come_to_rest(pid, root)
    finally:
        if not before:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _come_to_rest(pid: int, root: Path) -> bool:
    until = time.monotonic() + WITHIN_SECONDS
    while not (states := _states(pid, root)) or not all(state in _STOPPED for state in states):
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _states(pid: int, root: Path) -> list[str]:
    """State of each thread; of one that ends meanwhile that of one that runs."""
    states = []
    for task in (root / f"{pid}/task").glob("*"):
        try:
            states.append((task / "stat").read_text().rpartition(")")[2].split()[0])
        except OSError:
            states.append("R")
    return states
