"""The pipes of a loop that is a process of its own: rosters come down one, what is so goes up another, JSON lines.

The pipe is the lifeline: when it ends, the loop puts everything back and ends too.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager

from forestall.model.errors import BadInput

STATUS_SECONDS = 1.0
LONGEST_LINE = 4 << 20
_CHUNK = 1 << 16


class Pipes:
    """The loop's side.

    Parameters
    ----------
    rosters, statuses
        File descriptors: rosters come from one, statuses go to the other.
    now
        Monotonic time, seconds.
    """

    def __init__(self, rosters: int, statuses: int, now: float) -> None:
        self._rosters, self._statuses = rosters, statuses
        self._lines = Lines()
        self._told_at = now
        self._unsaid = b""
        self._deaf = False
        self.open = True

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Never wait for who listens, while the block runs."""
        os.set_blocking(self._statuses, False)
        try:
            yield
        finally:
            os.set_blocking(self._statuses, True)

    def newest(self, wait_seconds: float = 0.0) -> bytes | None:
        """Wait for a roster for so long; the newest that came, and None where none did. ``open`` says if more can come.

        Raises
        ------
        BadInput
            A line does not end.
        """
        newest: bytes | None = None
        while self.open and select.select([self._rosters], [], [], wait_seconds)[0]:
            chunk = os.read(self._rosters, _CHUNK)
            self.open = bool(chunk)
            lines = self._lines.hear(chunk)
            newest, wait_seconds = (lines[-1] if lines else newest), 0.0
        return newest

    def is_due(self, now: float) -> bool:
        """Whether it is time to say what is so, once a second; the rest of what was said the last time goes first."""
        if self._deaf or now - self._told_at < STATUS_SECONDS:
            return False
        self._told_at = now
        if self._unsaid:
            self._say()
        return not self._unsaid and not self._deaf

    def tell(self, line: bytes) -> None:
        """Say what is so; who does not read misses some, but never half a line."""
        self._unsaid = line
        self._say()

    def _say(self) -> None:
        try:
            self._unsaid = self._unsaid[os.write(self._statuses, self._unsaid) :]
        except BlockingIOError:
            pass
        except OSError:
            self._deaf = True


class Lines:
    """Puts whole lines together from what came through a pipe."""

    def __init__(self) -> None:
        self._rest = b""

    def hear(self, chunk: bytes) -> list[bytes]:
        """The lines that are whole now.

        Raises
        ------
        BadInput
            A line does not end.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            raise BadInput(f"a message is longer than {LONGEST_LINE} bytes")
        return [line for line in lines if line]
