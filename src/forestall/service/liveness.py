"""What a daemon and its watchdog need to know of each other, as Protocols; files implement them."""

from __future__ import annotations

from typing import Protocol

from forestall.model.mode import Mode


class Heart(Protocol):
    """Says that a daemon lives."""

    def beat(self, mode: Mode) -> None:
        """Beat once; a :class:`~forestall.model.errors.StoreError` if nobody can see it."""
        ...


class Pulse(Protocol):
    """Tells whether a daemon lives."""

    def why_dead(self) -> str:
        """Why its VMs should be put back, in words; empty while it lives."""
        ...
