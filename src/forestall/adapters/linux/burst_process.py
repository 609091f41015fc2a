"""The burst loop as a child process: rosters go down a pipe, what is so comes up another.

When this process ends, the pipe does, and the child puts everything back; when the child ends, its guard does.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

END_WITHIN_SECONDS = 5.0
MOST_WAITING_BYTES = 1 << 20
_CHUNK = 1 << 16


class BurstProcess:
    """One child at a time.

    Parameters
    ----------
    command
        What to run.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._unheard, self._heard = b"", b""
        self._status: dict[str, Any] = {}

    def begin(self) -> None:
        """Start a child, in place of one that has ended."""
        self.end()
        self._unheard, self._heard, self._status = b"", b"", {}
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def tell(self, line: bytes) -> None:
        """Send a line; what the child does not take now goes before the next one."""
        if len(self._unheard) < MOST_WAITING_BYTES:
            self._unheard += line
        self.flush()

    def flush(self) -> None:
        """Send what is waiting, as much as the child takes."""
        pipe = self._process.stdin if self._process else None
        with suppress(OSError):  # it ended: whoever asks whether it is alive will know
            while pipe is not None and self._unheard and (taken := pipe.write(self._unheard)):
                self._unheard = self._unheard[taken:]

    def status(self) -> dict[str, Any]:
        """The newest that it has said; empty before the first."""
        pipe = self._process.stdout if self._process else None
        while pipe is not None and (chunk := pipe.read(_CHUNK)):
            *lines, self._heard = (self._heard + chunk).split(b"\n")
            if lines:
                self._status = json.loads(lines[-1])
        return self._status

    def end(self) -> int | None:
        """Let it put everything back and end; its exit code, None if there was none."""
        process, self._process = self._process, None
        if process is None:
            return None
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        with suppress(subprocess.TimeoutExpired):
            return process.wait(END_WITHIN_SECONDS)
        process.kill()  # its guard puts everything back
        return process.wait()
