"""How often each operation was called, counted in the kernel: a histogram trigger on the end of every system call.

The kernel counts by itself (Documentation/trace/histogram.rst); what is read ten times a second is a short text. The
trace instance is our own: nobody else's tracing is touched. Needs root and tracefs; costs each system call of the
guest a fraction of a microsecond.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from forestall.guest.operations import MOVES_DATA, OPERATION_OF

INSTANCE = "instances/forestall-guest"
EVENT = "events/raw_syscalls/sys_exit"
TRIGGER = "hist:keys=id.syscall:vals=ret:size=512 if ret >= 0 && common_pid != %d"
READ_BYTES = 128 * 1024
KIB = 1024.0
_LINE = re.compile(rb"\{ id: sys_(\w+) +\[ *\d+\] \} hitcount: +(\d+) +ret: +(\d+)")


class SystemCalls:
    """Counts system calls by operation.

    Parameters
    ----------
    tracefs
        Where it is mounted.

    Raises
    ------
    OSError
        There is no tracefs, no right to use it, or no such event.
    """

    def __init__(self, tracefs: Path = Path("/sys/kernel/tracing")) -> None:
        self._instance = tracefs / INSTANCE
        self._descriptor: int | None = None
        self._before: dict[str, tuple[int, int]] = {}
        self._first = True
        if self._instance.exists():
            self.close()  # of an agent that was killed: a trigger that counts for nobody
        self._instance.mkdir()
        try:
            (self._instance / EVENT / "trigger").write_text(TRIGGER % os.getpid())
            self._descriptor = os.open(self._instance / EVENT / "hist", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.close()
            raise

    def look(self) -> dict[str, float]:
        """Amount of each operation since the last look: KiB of what moves data, calls of the others."""
        if self._descriptor is None:
            return {}
        try:
            counted = parse(self._read())
        except OSError:
            return {}
        before, self._before, first, self._first = self._before, counted, self._first, False
        amounts: dict[str, float] = {}
        for operation, (calls, moved) in counted.items():
            earlier_calls, earlier_moved = before.get(operation, (0, 0))
            if not first and calls > earlier_calls:
                by_bytes = operation in MOVES_DATA
                amounts[operation] = max(0, moved - earlier_moved) / KIB if by_bytes else float(calls - earlier_calls)
        return amounts

    def pause(self) -> None:
        """Nobody looks for a while: what is counted meanwhile belongs to no window."""
        self._first = True

    def close(self) -> None:
        """Stop counting."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        with suppress(OSError):
            self._instance.rmdir()  # takes the trigger with it

    def _read(self) -> bytes:
        """The whole histogram; the kernel gives it a page at a time."""
        os.lseek(self._descriptor or 0, 0, os.SEEK_SET)
        parts, left = [], READ_BYTES
        while left > 0:
            part = os.read(self._descriptor or 0, left)
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def parse(text: bytes) -> dict[str, tuple[int, int]]:
    """Calls, and bytes that they returned, of each operation in a histogram; what is no operation is left out."""
    counted: dict[str, tuple[int, int]] = {}
    for name, calls, moved in _LINE.findall(text):
        operation = OPERATION_OF.get(name.decode())
        if operation is not None:
            earlier = counted.get(operation, (0, 0))
            counted[operation] = (earlier[0] + int(calls), earlier[1] + int(moved))
    return counted
