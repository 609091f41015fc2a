"""A log of accesses that remembers what is written into it."""

from __future__ import annotations

from forestall.model.errors import StoreError
from forestall.ports.access_log import Accesses, Source


class Log:
    """An access log; ``broken`` is why nothing can be written."""

    def __init__(self) -> None:
        self.rows: list[tuple[Source, Accesses]] = []
        self.closed, self.broken = False, ""

    def add(self, source: Source, accesses: Accesses) -> None:
        if self.broken:
            raise StoreError(self.broken)
        if len(accesses):
            self.rows.append((source, accesses))

    def close(self) -> None:
        self.closed = True
