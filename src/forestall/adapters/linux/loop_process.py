"""A loop that is quicker than the daemon, as a child process: rosters go down a pipe, what is so comes up another.

When this process ends, the pipe does, and the child puts everything back; see service/pipes for its side.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

END_WITHIN_SECONDS = 5.0
PIPE_BYTES = 1 << 20
_CHUNK = 1 << 16


class LoopProcess:
    """One child at a time.

    Parameters
    ----------
    command
        What to run.
    end_within_seconds
        It is killed if it has not ended by then.
    now
        Tells the monotonic time, seconds.
    """

    def __init__(
        self,
        command: Sequence[str],
        end_within_seconds: float = END_WITHIN_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command, self._end_within_seconds, self._now = tuple(command), end_within_seconds, now
        self._process: subprocess.Popen[bytes] | None = None
        # What is written of a line that the child has not taken whole, and the newest one behind it.
        self._unfinished, self._waiting, self._heard = b"", b"", b""
        self._status: dict[str, Any] = {}
        self._spoke_at = 0.0

    def begin(self) -> None:
        """Start a child, in place of one that has ended."""
        self.end()
        self._unfinished, self._waiting, self._heard, self._status = b"", b"", b"", {}
        self._spoke_at = self._now()
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            with suppress(OSError):  # a status of many VMs is long, and is read at each cycle only
                fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def tell(self, line: bytes) -> None:
        """Send a line; while the child takes none, the newest waits and those before it are forgotten."""
        self._waiting = line
        self.flush()

    def flush(self) -> None:
        """Send what is waiting, as much as the child takes."""
        pipe = self._process.stdin if self._process else None
        with suppress(OSError):  # it ended: whoever asks whether it is alive will know
            while pipe is not None:
                if not self._unfinished:
                    self._unfinished, self._waiting = self._waiting, b""
                if not self._unfinished or not (taken := pipe.write(self._unfinished)):
                    return
                self._unfinished = self._unfinished[taken:]

    def status(self) -> dict[str, Any]:
        """The newest that it has said; empty before the first."""
        pipe = self._process.stdout if self._process else None
        while pipe is not None and (chunk := pipe.read(_CHUNK)):
            *lines, self._heard = (self._heard + chunk).split(b"\n")
            if lines:
                self._status, self._spoke_at = json.loads(lines[-1]), self._now()
        return self._status

    def silent_seconds(self) -> float:
        """For how long nothing has been heard of it."""
        self.status()
        return self._now() - self._spoke_at

    def end(self) -> int | None:
        """Let it put everything back and end; its exit code, None if there was none."""
        process, self._process = self._process, None
        if process is None:
            return None
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        with suppress(subprocess.TimeoutExpired):
            return process.wait(self._end_within_seconds)
        process.kill()  # its guard puts everything back
        return process.wait()
