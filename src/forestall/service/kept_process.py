"""Keeps the process of a loop up: starts it, starts it again when it has died or hangs, and ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

SILENT_SECONDS, STARTING_SECONDS = 10.0, 600.0
"""It speaks once a second, and for the first time when it has loaded what it needs. The first time ever that is
compiled: half a minute of a core, minutes on a host that has none to spare."""


class Child(Protocol):
    """The process of a loop."""

    def begin(self) -> None:
        """Start it, in place of one that has ended."""
        ...

    def alive(self) -> bool:
        """Whether it runs."""
        ...

    def tell(self, line: bytes) -> None:
        """Send a roster."""
        ...

    def status(self) -> dict[str, Any]:
        """The newest that it has said."""
        ...

    def silent_seconds(self) -> float:
        """For how long nothing has been heard of it."""
        ...

    def end(self) -> int | None:
        """Let it put everything back and end."""
        ...


class KeptProcess:
    """One loop.

    Parameters
    ----------
    child
        Its process.
    what, after
        For the operator: the name of the loop, and what becomes of what it has done when it dies.
    note
        Takes one line for the operator.
    silent_seconds
        It is ended, and started anew, if it says nothing for so long.
    """

    def __init__(
        self,
        child: Child,
        what: str,
        after: str,
        note: Callable[[str], None],
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self._child, self._what, self._after, self._note = child, what, after, note
        self._silent_seconds = silent_seconds
        self.started = False

    def tell(self, line: bytes) -> None:
        """Send a roster; start the process first if it is not there."""
        patience = self._silent_seconds if self.status() else STARTING_SECONDS
        if self.started and self._child.alive() and self._child.silent_seconds() > patience:
            self._note(f"{self._what} has not spoken for too long and is ended; {self._after}")
            self._child.end()
        if not self._child.alive():
            if self.started:
                self._note(f"{self._what} has ended and is started anew; {self._after}")
            self._child.begin()
            self.started = True
        self._child.tell(line)

    def status(self) -> dict[str, Any]:
        """What it last said; empty while it does not run."""
        return self._child.status() if self.started and self._child.alive() else {}

    def end(self) -> int | None:
        """Let it put everything back and end; its exit code, None if it did not run."""
        if not self.started:
            return None
        self.started = False
        return self._child.end()
