"""A process that puts borrowers back at once when the one that limits them is gone, or hangs: a dead man's switch.

It holds one end of a pipe. What is limited, and how it was, comes down the pipe before it is limited; the kernel closes
the pipe when the other process ends, however it ends. Two more nets: the end of that process itself is watched, since a
child of it may have inherited the pipe, and a pulse has to come. It needs nothing but the standard library, to start
quickly and stay small, and no signal to a whole group of processes ends it, since that is when it is needed.

Lines on the pipe are JSON: ``{"cover": NAME, "values": {...}}``, ``{"release": NAME}``, and ``{}``, the pulse.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forestall.adapters.linux.core_limits import put_back
from forestall.model.errors import HypervisorError

if TYPE_CHECKING:  # it would bring numpy
    from forestall.ports.hypervisor import VmSettings

PULSE_SECONDS = 1.0
"""The longest silence of a process that does not hang."""
START_SECONDS = END_SECONDS = 10.0
RETRY_SECONDS, LAST_RETRY_SECONDS = 0.1, 2.0
ALL_WELL, SILENCE, NOT_PUT_BACK = 0, 3, 4
"""How the guard ends: the other process ended; it was silent; something could not be put back, see standard error."""
READY = b"ready\n"
_CHUNK = 1 << 16
_KILLED_LAST = "-1000"
"""The lowest score of the kernel's out-of-memory killer, proc_pid_oom_score_adj(5)."""


class CoreGuard:
    """A :class:`~forestall.ports.cores.CoreGuard`: the guard, as the process that limits borrowers has it.

    Parameters
    ----------
    pulse_seconds
        How long this process may be silent before it counts as hanging; everything that it tells the guard counts.
    proc_root
        Where ``/proc`` is.
    """

    def __init__(self, *, pulse_seconds: float = PULSE_SECONDS, proc_root: Path = Path("/proc")) -> None:
        self._arguments = (str(os.getpid()), str(pulse_seconds), str(proc_root))
        self._covered: dict[str, bytes] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._heard = False

    def begin(self) -> None:
        """Start a guard, in place of one that has ended, and let it cover all that is covered.

        Raises
        ------
        HypervisorError
            It did not start.
        """
        self._kill()
        command = [sys.executable, "-I", "-m", "forestall.adapters.linux.core_guard", *self._arguments]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
            )
        except OSError as error:
            raise HypervisorError(f"the process that would put borrowers back cannot be started: {error}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        poll = select.poll()  # not select(), which knows no more than 1024 files
        poll.register(self._process.stdout, select.POLLIN)
        if not poll.poll(START_SECONDS * 1000) or self._process.stdout.read(len(READY)) != READY:
            self._kill()
            raise HypervisorError("the process that would put borrowers back did not start")
        os.set_blocking(self._process.stdin.fileno(), False)
        self._heard = True
        for line in self._covered.values():
            self._tell(line)

    def cover(self, settings: VmSettings) -> None:
        """Have a VM put back if this process ends from now on; also by the next guard, if this one has ended."""
        message = {"cover": settings.vm_id, "values": dict(settings.values)}
        self._covered[settings.vm_id] = line = _line(message)
        self._tell(line)

    def release(self, vm_id: str) -> None:
        """A VM has been put back, or is gone; harmless if it is not covered."""
        if self._covered.pop(vm_id, None) is not None:
            self._tell(_line({"release": vm_id}))

    def beat(self) -> None:
        """Give the guard the pulse: this process does not hang."""
        self._tell(_line({}))

    def alive(self) -> bool:
        """Whether the guard runs and hears; where not, what was limited may have been put back."""
        return self._heard and self._process is not None and self._process.poll() is None

    def end(self) -> int:
        """Let the guard end: what is covered still is put back; how it ended. Safe to repeat."""
        if self._process is None:
            return ALL_WELL
        if self._process.stdin is not None:
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        return self._kill()

    def _kill(self) -> int:
        """Have no guard any more, at once; how it ended."""
        process, self._process, self._heard = self._process, None, False
        if process is None:
            return ALL_WELL
        process.kill()
        for pipe in filter(None, (process.stdin, process.stdout)):
            pipe.close()
        return process.wait()

    def _tell(self, line: bytes) -> None:
        """Write a line, which is read even if this process ends right after; never wait for a guard that does not."""
        pipe = self._process.stdin if self._process else None
        if self._heard and pipe is not None:
            try:
                self._heard = pipe.write(line) == len(line)
            except OSError:
                self._heard = False


class Covered:
    """VMs to be put back, by name, as told by lines."""

    def __init__(self) -> None:
        self.values: dict[str, Mapping[str, Any]] = {}
        self._rest = b""

    def hear(self, chunk: bytes) -> None:
        """Take what came; a line that is not whole yet waits for its rest."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "cover" in message:
                self.values[message["cover"]] = message["values"]
            self.values.pop(message.get("release"), None)


def watch(pipe: int, parent: int, pulse_seconds: float, covered: Covered) -> int:
    """Hear until the other process has ended or is silent; which of the two."""
    os.set_blocking(pipe, False)
    poll = select.poll()
    poll.register(pipe, select.POLLIN | select.POLLHUP)
    process = _process_file(parent)
    if process >= 0:
        poll.register(process, select.POLLIN)
    if os.getppid() != parent:  # it ended before it was watched
        _hear_all(pipe, covered)
        return ALL_WELL
    while True:
        events = poll.poll(pulse_seconds * 1000 if covered.values else None)
        if not events:
            return SILENCE
        if not _hear_all(pipe, covered) or process in (file for file, _ in events):
            return ALL_WELL


def put_all_back(covered: Mapping[str, Mapping[str, Any]], proc_root: Path) -> dict[str, str]:
    """Put all back, again and again for a while if need be; what could not be, and why."""
    left, until = dict.fromkeys(covered, ""), time.monotonic() + LAST_RETRY_SECONDS
    while True:
        reasons = {vm_id: _put_back(covered[vm_id], proc_root) for vm_id in left}
        left = {vm_id: reason for vm_id, reason in reasons.items() if reason}
        if not left or time.monotonic() > until:
            return left
        time.sleep(RETRY_SECONDS)


def main(parent: str, pulse_seconds: str, proc_root: str) -> int:
    """The guard itself: hear, put back, and say on standard error what could not be put back."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_KILLED_LAST, "ascii")
    os.write(sys.stdout.fileno(), READY)
    covered = Covered()
    code = watch(sys.stdin.fileno(), int(parent), float(pulse_seconds), covered)
    left = put_all_back(covered.values, Path(proc_root))
    for vm_id, reason in left.items():
        print(f"{vm_id} could not be put back: {reason}", file=sys.stderr)
    return NOT_PUT_BACK if left else code


def _hear_all(pipe: int, covered: Covered) -> bool:
    """Take all that is in the pipe; whether it is open still."""
    try:
        while chunk := os.read(pipe, _CHUNK):
            covered.hear(chunk)
    except BlockingIOError:
        return True
    return False


def _process_file(parent: int) -> int:
    """A file that becomes readable when a process ends, pidfd_open(2); -1 where there is no such thing."""
    with suppress(OSError):
        return os.pidfd_open(parent)
    return -1


def _put_back(values: Mapping[str, Any], proc_root: Path) -> str:
    try:
        return put_back(values, proc_root)
    except Exception as error:  # one VM's damaged values must not keep the others from being put back
        return f"{type(error).__name__}: {error}"


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
