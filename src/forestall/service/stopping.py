"""What a long-running process is told by signals."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Signals:
    """What the process was told: to stop, or to read its policies anew."""

    def __init__(self) -> None:
        self.stopping = False
        self.reload = False

    def stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Stop after the cycle that is in progress."""
        self.stopping = True

    def ask_reload(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Read policies anew before the next cycle."""
        self.reload = True

    @contextmanager
    def listening(self) -> Iterator[Signals]:
        """Listen to SIGTERM, SIGINT and SIGHUP; what listened before does so again afterwards."""
        handlers = {signal.SIGTERM: self.stop, signal.SIGINT: self.stop, signal.SIGHUP: self.ask_reload}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
